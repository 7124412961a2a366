SELECT format('%s.%I', c.oid::regclass, p.polname),
       CASE WHEN f.provolatile = 'v' THEN format('the policy %I of %s calls %s, which is VOLATILE: once per row, and no index can serve it', p.polname, c.oid::regclass, f.oid::regprocedure)
            ELSE format('the policy %I of %s calls %s, which is not PARALLEL SAFE: no query on the table can run in parallel', p.polname, c.oid::regclass, f.oid::regprocedure) END,
       format('ALTER FUNCTION %s STABLE PARALLEL SAFE', f.oid::regprocedure), CASE WHEN f.provolatile = 'v' THEN 'warning' ELSE 'info' END
  FROM pg_policy p
  JOIN pg_class c ON c.oid = p.polrelid
  JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_proc'::regclass
  JOIN pg_proc f ON f.oid = d.refobjid AND f.pronamespace NOT IN ('tenancy'::regnamespace, 'pg_catalog'::regnamespace)
 WHERE f.provolatile = 'v' OR f.proparallel <> 's'
