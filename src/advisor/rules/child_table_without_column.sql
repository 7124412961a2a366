SELECT DISTINCT ON (c.oid) c.oid::regclass::text, format('%s has no organization column, points at %s, and is not protected', c.oid::regclass, f.confrelid::regclass),
       format('SELECT tenancy.protect(%L, through => %L)', c.oid::regclass, f.conname), NULL
  FROM pg_constraint f
  JOIN pg_class c ON c.oid = f.conrelid AND c.relkind = 'r'
  JOIN tenancy.protected_tables() p ON p."table" = f.confrelid AND p.through IS NULL
 WHERE f.contype = 'f' AND f.conparentid = 0 AND c.relnamespace <> 'tenancy'::regnamespace
   AND NOT EXISTS (SELECT FROM tenancy.protected_tables() t WHERE t."table" = c.oid)
   AND NOT EXISTS (SELECT FROM tenancy.exclusions() e WHERE e."table" = c.oid)
   AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND NOT a.attisdropped AND a.attname IN ('organizationId', 'organization_id', 'org_id', 'tenant_id'))
 ORDER BY c.oid, f.conname
