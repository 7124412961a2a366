SELECT c.oid::regclass::text,
    format('%s is a foreign table with the column %I and can be read by %s: row-level security does not apply to it',
        c.oid::regclass, a.attname, g.readers),
       format('REVOKE ALL ON %s FROM %s', c.oid::regclass, g.readers), NULL
  FROM pg_class c
  JOIN LATERAL (SELECT attname FROM pg_attribute WHERE attrelid = c.oid AND NOT attisdropped
      AND attname IN ('organizationId', 'organization_id', 'org_id', 'tenant_id')
                 ORDER BY attnum LIMIT 1) a ON true
  JOIN LATERAL (SELECT string_agg(DISTINCT CASE WHEN x.grantee = 0 THEN 'PUBLIC'
      ELSE quote_ident(pg_get_userbyid(x.grantee)) END, ', ') AS readers
                  FROM (SELECT c.relacl UNION ALL SELECT attacl FROM pg_attribute
                      WHERE attrelid = c.oid) AS rights (acl), aclexplode(rights.acl) x
                 WHERE x.grantee <> c.relowner) g ON g.readers IS NOT NULL
 WHERE c.relkind = 'f' AND NOT EXISTS (SELECT FROM tenancy.exclusions() e WHERE e."table" = c.oid)
