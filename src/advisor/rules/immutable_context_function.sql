SELECT DISTINCT f.oid::regprocedure::text, format('%s is declared IMMUTABLE and reads the session: a prepared plan keeps the organization of whoever came first', f.oid::regprocedure),
       format('ALTER FUNCTION %s STABLE', f.oid::regprocedure), NULL
  FROM pg_proc f
  JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.refclassid = 'pg_proc'::regclass AND d.refobjid = f.oid
 WHERE f.provolatile = 'i' AND f.prosrc ~ 'current_setting|tenancy\.|current_user|session_user'
