SELECT f.oid::regprocedure::text, format('%s runs as %I with the names of whoever calls it', f.oid::regprocedure, o.rolname),
       format('ALTER ROUTINE %s SET search_path = pg_catalog, pg_temp', f.oid::regprocedure), NULL
  FROM pg_proc f
  JOIN pg_namespace n ON n.oid = f.pronamespace
  JOIN pg_roles o ON o.oid = f.proowner
 WHERE f.prosecdef AND n.nspname !~ '^(pg_|information_schema$|tenancy$)'
   AND NOT EXISTS (SELECT FROM unnest(f.proconfig) AS setting WHERE setting LIKE 'search_path=%')
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = f.oid AND d.deptype = 'e')
