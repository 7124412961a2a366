SELECT format('%s.%I', c.oid::regclass, p.polname),
       CASE WHEN p.polpermissive THEN format('the permissive policy %I of %s lets through within an organization what the permission matrix would not', p.polname, c.oid::regclass)
            ELSE format('the restrictive policy %I of %s is not of tenancy.protect; it can only narrow', p.polname, c.oid::regclass) END,
       format('DROP POLICY %I ON %s', p.polname, c.oid::regclass), CASE WHEN p.polpermissive THEN 'warning' ELSE 'info' END
  FROM pg_policy p
  JOIN pg_class c ON c.oid = p.polrelid
  JOIN tenancy.protected_tables() t ON t."table" = c.oid
 WHERE p.polname NOT IN ('tenancy_isolation', 'tenancy_isolation_create', 'tenancy_isolation_update', 'tenancy_isolation_delete', 'tenancy_read', 'tenancy_create', 'tenancy_update', 'tenancy_delete')
