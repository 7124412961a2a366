SELECT c.oid::regclass::text, format('the policy %I of %s does not name the column %I, and no restrictive policy does', p.polname, c.oid::regclass, a.attname),
       format('SELECT tenancy.protect(%L)', c.oid::regclass), NULL
  FROM pg_policy p
  JOIN pg_class c ON c.oid = p.polrelid
  JOIN LATERAL (SELECT attname FROM pg_attribute WHERE attrelid = c.oid AND NOT attisdropped AND attname IN ('organizationId', 'organization_id', 'org_id', 'tenant_id')
                 ORDER BY attnum LIMIT 1) a ON true
 WHERE p.polpermissive AND c.relrowsecurity AND c.relnamespace <> 'tenancy'::regnamespace
   AND NOT EXISTS (SELECT FROM tenancy.protected_tables() t WHERE t."table" = c.oid)
   AND NOT EXISTS (SELECT FROM tenancy.exclusions() e WHERE e."table" = c.oid)
   AND COALESCE(strpos(pg_get_expr(p.polqual, c.oid), a.attname), strpos(pg_get_expr(p.polwithcheck, c.oid), a.attname), 0) = 0
   AND NOT EXISTS (SELECT FROM pg_policy r WHERE r.polrelid = c.oid AND NOT r.polpermissive AND r.polcmd IN ('*', p.polcmd)
                      AND strpos(COALESCE(pg_get_expr(r.polqual, c.oid), '') || COALESCE(pg_get_expr(r.polwithcheck, c.oid), ''), a.attname) > 0)
