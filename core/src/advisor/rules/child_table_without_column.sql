-- The foreign key that protect can go through comes first; without one, a column of its own that is filled along it.
WITH way AS (
    SELECT f.oid, f.conrelid, f.confrelid, f.conname, c.relkind, n.nspname, c.relname, p.organization_column, p.through,
           array_length(f.conkey, 1) = 1 AND c.relkind = 'r' AND t.relkind = 'r' AND ca.atttypid = pa.atttypid
           AND ca.atttypid IN ('uuid'::regtype, 'integer'::regtype, 'bigint'::regtype, 'text'::regtype)
           AND concat(f.conname, ca.attname, pa.attname, t.oid::regclass) !~ '\\'
           AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid) AS fit,
           -- What names a row of the table of tenants is an organization column, whatever it is called.
           CASE WHEN array_length(f.conkey, 1) = 1 AND p.through IS NULL AND pa.attname = p.organization_column
               AND ca.atttypid = pa.atttypid
                THEN format('SELECT tenancy.protect(%L, organization_column => %L%s)', c.oid::regclass, ca.attname, CASE
                    WHEN NOT ca.attnotnull THEN ', null_rows => ''nobody''' END) END AS names
      FROM pg_constraint f
      JOIN pg_class c ON c.oid = f.conrelid AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
      JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname <> 'tenancy'
      JOIN pg_class t ON t.oid = f.confrelid
      JOIN tenancy.protected_tables() p ON p."table" = f.confrelid
      JOIN pg_attribute ca ON ca.attrelid = f.conrelid AND ca.attnum = f.conkey[1]
      JOIN pg_attribute pa ON pa.attrelid = f.confrelid AND pa.attnum = f.confkey[1]
     WHERE f.contype = 'f' AND f.conparentid = 0 AND NOT c.relispartition
       AND NOT EXISTS (SELECT FROM tenancy.protected_tables() t WHERE t."table" = c.oid)
       AND NOT EXISTS (SELECT FROM tenancy.exclusions() e WHERE e."table" = c.oid)
       AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND NOT a.attisdropped
           AND a.attname IN ('organizationId', 'organization_id', 'org_id', 'tenant_id')))
SELECT DISTINCT ON (w.conrelid) w.conrelid::regclass::text,
       format('%s has no organization column, points at %s, and is not protected', w.conrelid::regclass,
           w.confrelid::regclass),
       CASE WHEN w.names IS NOT NULL THEN w.names
            WHEN w.fit THEN format('SELECT tenancy.protect(%L, through => %L)', w.conrelid::regclass, w.conname)
            WHEN w.through IS NULL
            THEN format('SELECT tenancy.protect(%L, organization_column => %L, backfill => %L)', w.conrelid::regclass,
                w.organization_column,
                        format('(SELECT tenancy_parent.%I FROM %s tenancy_parent WHERE %s)', w.organization_column,
                            w.confrelid::regclass, k.pairs))
            ELSE format('-- give %s an organization column, and fill it along %I: tenancy.protect(%1$L, organization_column => ..., backfill => ...)', w.conrelid::regclass, w.conname) END, NULL
  FROM way w
  JOIN pg_constraint f ON f.oid = w.oid
 CROSS JOIN LATERAL (SELECT string_agg(format('tenancy_parent.%I = %I.%I', pa.attname, w.relname, ca.attname), ' AND ')
     AS pairs
                       FROM unnest(f.conkey, f.confkey) AS u (child, parent)
                       JOIN pg_attribute ca ON ca.attrelid = w.conrelid AND ca.attnum = u.child
                       JOIN pg_attribute pa ON pa.attrelid = w.confrelid AND pa.attnum = u.parent) k
 ORDER BY w.conrelid, w.names IS NULL, w.fit DESC, w.through IS NULL DESC, w.conname
