SELECT f.oid::regprocedure::text, format('%s is declared LEAKPROOF: it sees rows before the policies do, and an error or a NOTICE of it tells of them', f.oid::regprocedure),
       format('ALTER FUNCTION %s NOT LEAKPROOF', f.oid::regprocedure), NULL
  FROM pg_proc f
 WHERE f.proleakproof AND f.oid >= 16384 AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = f.oid AND d.deptype = 'e')
