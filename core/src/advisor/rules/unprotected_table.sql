WITH candidate AS MATERIALIZED (
    -- Where nothing is protected yet, and no column has a usual name, names that are known from elsewhere count too.
    SELECT n.oid AS schema, o.column_name
      FROM pg_namespace n CROSS JOIN LATERAL tenancy.organization_columns(n.nspname) o
     WHERE o.known AND n.nspname !~ '^(pg_|information_schema$|tenancy$)'
       AND NOT EXISTS (SELECT FROM tenancy.protected_tables() p JOIN pg_class c ON c.oid = p."table"
           AND c.relnamespace = n.oid)),
name AS (
    SELECT n.oid AS schema, s.organization_column AS name, 1 AS place FROM tenancy.protected_schema s
        JOIN pg_namespace n ON n.nspname = s.schema_name
     UNION ALL
    -- What others are protected by; not the key of the table of tenants, which has the name of every other key.
    SELECT c.relnamespace, p.organization_column, 3
      FROM tenancy.protected_tables() p
      JOIN pg_class c ON c.oid = p."table"
      JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = p.organization_column
     WHERE p.through IS NULL AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique
         AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum)
     UNION ALL SELECT n.oid, u.name, 2 FROM pg_namespace n
         CROSS JOIN unnest('{organizationId,organization_id,org_id,tenant_id}'::text[]) u (name)
     UNION ALL SELECT schema, column_name, 4 FROM candidate)
SELECT c.oid::regclass::text,
       CASE WHEN s.has_policies THEN format('%s has the column %I and policies of other hands, which nobody keeps',
           c.oid::regclass, a.attname)
            ELSE format('%s has the column %I and is not protected', c.oid::regclass, a.attname) END,
       -- A type that protect does not take can be changed only together with what the column is linked to.
       CASE WHEN a.several THEN
           format('-- say which column is the organization: tenancy.protect(%L, organization_column => ...)',
               c.oid::regclass)
            WHEN format_type(a.atttypid, NULL) NOT IN ('uuid', 'text', 'character varying', 'integer', 'bigint')
                 AND (EXISTS (SELECT FROM pg_constraint f WHERE f.contype = 'f' AND (f.conrelid = c.oid
                     AND a.attnum = ANY (f.conkey) OR f.confrelid = c.oid AND a.attnum = ANY (f.confkey)))
                      OR EXISTS (SELECT FROM pg_depend d WHERE d.refclassid = 'pg_class'::regclass
                          AND d.refobjid = c.oid AND d.refobjsubid = a.attnum
                                    AND d.classid IN ('pg_rewrite'::regclass, 'pg_policy'::regclass,
                                        'pg_trigger'::regclass)))
            THEN format('-- make %I of %s uuid, text, integer or bigint, together with what it is linked to or what depends on it; then tenancy.protect(%3$L)', a.attname, c.oid::regclass, c.oid::regclass)
            ELSE CASE WHEN h.leave IS NULL THEN '' ELSE h.leave || '; ' END
       || CASE WHEN format_type(a.atttypid, NULL) IN ('uuid', 'text', 'character varying', 'integer', 'bigint') THEN ''
               WHEN a.atttypid = 'smallint'::regtype THEN format('ALTER TABLE %s ALTER COLUMN %I TYPE integer; ',
                   c.oid::regclass, a.attname)
               ELSE format('ALTER TABLE %s ALTER COLUMN %I TYPE text; ', c.oid::regclass, a.attname) END
       || format('SELECT tenancy.protect(%L%s%s)', c.oid::regclass, CASE WHEN a.place > 2
           THEN format(', organization_column => %L', a.attname) END, CASE WHEN a.attnotnull THEN ''
               ELSE ', null_rows => ''nobody''' END) END,
       CASE WHEN s.has_policies THEN 'warning' END
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN LATERAL (SELECT b.attname, b.attnum, b.atttypid, b.attnotnull, m.place, m.place > 1
      AND count(*) OVER (PARTITION BY m.place) > 1 AS several
                  FROM pg_attribute b JOIN (SELECT name, min(place) AS place FROM name
                      WHERE schema = c.relnamespace GROUP BY name) m ON m.name = b.attname
                 WHERE b.attrelid = c.oid AND NOT b.attisdropped
                 ORDER BY m.place, b.attnum LIMIT 1) a ON true
 CROSS JOIN LATERAL (SELECT c.relrowsecurity AND EXISTS (SELECT FROM pg_policy
     WHERE polrelid = c.oid) AS has_policies) s
 -- A child of tables that have no such column is no part of something that could be protected.
 CROSS JOIN LATERAL (SELECT string_agg(format('ALTER TABLE %s NO INHERIT %s', c.oid::regclass, i.inhparent::regclass),
     '; ' ORDER BY i.inhseqno) AS leave,
                            bool_or(EXISTS (SELECT FROM pg_attribute p WHERE p.attrelid = i.inhparent
                                AND p.attname = a.attname AND NOT p.attisdropped)) AS part
                       FROM pg_inherits i WHERE i.inhrelid = c.oid) h
 WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND n.nspname !~ '^(pg_|information_schema$|tenancy$)'
   AND h.part IS NOT TRUE
   AND NOT EXISTS (SELECT FROM tenancy.protected_tables() p WHERE p."table" = c.oid)
   AND NOT EXISTS (SELECT FROM tenancy.exclusions() e WHERE e."table" = c.oid)
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
       AND d.deptype = 'e')
