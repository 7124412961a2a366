SELECT c.oid::regclass::text, format('%s has the column %I and is not protected', c.oid::regclass, a.attname), format('SELECT tenancy.protect(%L)', c.oid::regclass), NULL
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN LATERAL (SELECT attname FROM pg_attribute WHERE attrelid = c.oid AND NOT attisdropped AND attname IN ('organizationId', 'organization_id', 'org_id', 'tenant_id')
                 ORDER BY attnum LIMIT 1) a ON true
 WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND n.nspname !~ '^(pg_|information_schema$|tenancy$)'
   AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = c.oid)
   AND NOT EXISTS (SELECT FROM tenancy.protected_tables() p WHERE p."table" = c.oid)
   AND NOT EXISTS (SELECT FROM tenancy.exclusions() e WHERE e."table" = c.oid)
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
