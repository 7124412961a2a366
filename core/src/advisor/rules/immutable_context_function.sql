SELECT f.oid::regprocedure::text,
    format('%s is declared IMMUTABLE and reads the session: a prepared plan keeps the organization of whoever came first', f.oid::regprocedure),
       format('ALTER FUNCTION %s STABLE', f.oid::regprocedure),
       CASE WHEN NOT EXISTS (SELECT FROM pg_depend d WHERE d.refclassid = 'pg_proc'::regclass AND d.refobjid = f.oid
           AND d.classid IN ('pg_policy'::regclass, 'pg_rewrite'::regclass))
            THEN 'warning' END
  FROM pg_proc f
 WHERE f.provolatile = 'i' AND f.oid >= 16384
   AND f.prosrc || ' ' || COALESCE(pg_get_function_sqlbody(f.oid), '') ~*
       '\m(current_setting|current_user|session_user|current_role)\M|\mtenancy\.'
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = f.oid
       AND d.deptype = 'e')
