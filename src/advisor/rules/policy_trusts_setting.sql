SELECT format('%s.%I', c.oid::regclass, p.polname), format('the policy %I of %s reads a setting that any SQL of the session can change', p.polname, c.oid::regclass),
       CASE WHEN EXISTS (SELECT FROM tenancy.protected_tables() t WHERE t."table" = c.oid) THEN format('DROP POLICY %I ON %s', p.polname, c.oid::regclass)
            ELSE format('DROP POLICY %I ON %s; SELECT tenancy.protect(%L)', p.polname, c.oid::regclass, c.oid::regclass) END, NULL
  FROM pg_policy p
  JOIN pg_class c ON c.oid = p.polrelid
 WHERE COALESCE(pg_get_expr(p.polqual, c.oid), '') || COALESCE(pg_get_expr(p.polwithcheck, c.oid), '') LIKE '%current_setting(%'
   AND NOT EXISTS (SELECT FROM tenancy.exclusions() e WHERE e."table" = c.oid)
