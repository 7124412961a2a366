-- Beside a policy of tenancy.protect that lets every row of the organization through, a permissive one changes nothing.
SELECT format('%s.%I', c.oid::regclass, p.polname),
       CASE WHEN NOT p.polpermissive THEN
           format('the restrictive policy %I of %s is not of tenancy.protect; it can only narrow', p.polname,
               c.oid::regclass)
            WHEN w.widened THEN format('the permissive policy %I of %s narrows nothing: every row of the organization is let through beside it', p.polname, c.oid::regclass)
            ELSE format('the permissive policy %I of %s is not of tenancy.protect; it narrows what a role may do within its organization', p.polname, c.oid::regclass) END,
       CASE WHEN w.widened AND NOT w.everything THEN format('SELECT tenancy.protect(%L)', c.oid::regclass)
           ELSE format('DROP POLICY %I ON %s', p.polname, c.oid::regclass) END,
       CASE WHEN w.widened THEN 'warning' ELSE 'info' END
  FROM pg_policy p
  JOIN pg_class c ON c.oid = p.polrelid
  JOIN tenancy.protected_tables() t ON t."table" = c.oid
 CROSS JOIN LATERAL (SELECT p.polpermissive AND EXISTS (SELECT FROM pg_policy o WHERE o.polrelid = c.oid
     AND o.polname IN ('tenancy_read', 'tenancy_create', 'tenancy_update', 'tenancy_delete')
                                                           AND (p.polcmd = '*' OR p.polcmd = o.polcmd)) AS widened,
                            p.polroles = '{0}' AND COALESCE(pg_get_expr(p.polqual, c.oid), 'true') = 'true'
                                AND COALESCE(pg_get_expr(p.polwithcheck, c.oid), 'true') = 'true' AS everything) w
 WHERE p.polname NOT IN ('tenancy_isolation', 'tenancy_isolation_create', 'tenancy_isolation_update',
     'tenancy_isolation_delete', 'tenancy_isolation_before',
                         'tenancy_read', 'tenancy_create', 'tenancy_update', 'tenancy_delete')
