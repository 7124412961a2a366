SELECT DISTINCT ON (f.oid) f.oid::regprocedure::text,
       CASE WHEN o.rolsuper OR o.rolbypassrls THEN format('%s names %s and runs as %I, whom no policy binds', f.oid::regprocedure, t."table", o.rolname)
            ELSE format('%s names %s and runs as %I', f.oid::regprocedure, t."table", o.rolname) END,
       format('ALTER ROUTINE %s SECURITY INVOKER', f.oid::regprocedure), CASE WHEN o.rolsuper OR o.rolbypassrls THEN 'error' ELSE 'info' END
  FROM pg_proc f
  JOIN pg_namespace n ON n.oid = f.pronamespace
  JOIN pg_roles o ON o.oid = f.proowner
  JOIN tenancy.protected_tables() t
    ON EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = f.oid AND d.refclassid = 'pg_class'::regclass AND d.refobjid = t."table")
    OR strpos(f.prosrc, (SELECT relname FROM pg_class WHERE oid = t."table")) > 0
 WHERE f.prosecdef AND n.nspname !~ '^(pg_|information_schema$|tenancy$)'
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = f.oid AND d.deptype = 'e')
 ORDER BY f.oid, t."table"
