SELECT format('%s.%I', c.oid::regclass, p.polname),
    format('the policy %I of %s casts %I, so that no index on it can serve', p.polname, c.oid::regclass, a.attname),
       format('DROP POLICY %I ON %s; SELECT tenancy.protect(%L)', p.polname, c.oid::regclass, c.oid::regclass), NULL
  FROM pg_policy p
  JOIN pg_class c ON c.oid = p.polrelid
  JOIN pg_attribute a ON a.attrelid = c.oid AND NOT a.attisdropped
      AND a.attname IN ('organizationId', 'organization_id', 'org_id', 'tenant_id')
 WHERE strpos(COALESCE(pg_get_expr(p.polqual, c.oid), '') || COALESCE(pg_get_expr(p.polwithcheck, c.oid), ''),
     format('(%I)::', a.attname)) > 0
   AND a.atttypid <> 'varchar'::regtype
