WITH RECURSIVE reads (view, relation) AS (
    SELECT DISTINCT w.ev_class, d.refobjid
      FROM pg_rewrite w JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
          AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> w.ev_class),
deep (view, relation) AS (
    SELECT view, relation FROM reads
     UNION
    SELECT d.view, r.relation FROM deep d JOIN pg_class v ON v.oid = d.relation AND v.relkind IN ('v', 'm')
        JOIN reads r ON r.view = d.relation)
SELECT DISTINCT ON (v.oid) v.oid::regclass::text,
    format('%s keeps rows of %s without row-level security, and can be read by %s', v.oid::regclass,
        d.relation::regclass, g.readers),
       format('REVOKE ALL ON %s FROM %s', v.oid::regclass, g.readers), NULL
  FROM deep d
  JOIN pg_class v ON v.oid = d.view AND v.relkind = 'm'
  JOIN tenancy.protected_tables() t ON t."table" = d.relation
  -- Rights on the whole and on columns; REVOKE ALL takes both.
  JOIN LATERAL (SELECT string_agg(DISTINCT CASE WHEN a.grantee = 0 THEN 'PUBLIC'
      ELSE quote_ident(pg_get_userbyid(a.grantee)) END, ', ') AS readers
                  FROM (SELECT v.relacl UNION ALL SELECT attacl FROM pg_attribute
                      WHERE attrelid = v.oid) AS rights (acl), aclexplode(rights.acl) a
                 WHERE a.grantee <> v.relowner) g ON g.readers IS NOT NULL
 WHERE NOT EXISTS (SELECT FROM tenancy.exclusions() e WHERE e."table" = v.oid)
 ORDER BY v.oid, d.relation
