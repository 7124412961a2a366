-- Of Postgres' own functions, those that people have marked to get an index back:
-- https://www.postgresql.org/docs/current/rules-privileges.html
SELECT f.oid::regprocedure::text,
    format('%s is declared LEAKPROOF: it sees rows before the policies do, and an error or a NOTICE of it tells of them', f.oid::regprocedure),
       format('ALTER FUNCTION %s NOT LEAKPROOF', f.oid::regprocedure), NULL
  FROM pg_proc f
 WHERE f.proleakproof
   AND (f.oid >= 16384
        OR f.proname ~ '^(n?like|notlike|(text|bpchar|name|bytea)(ic)?(n?like|regex(eq|ne))|lower|upper|enum_(eq|ne|lt|le|gt|ge|cmp)|numeric_(eq|ne|lt|le|gt|ge|cmp)|jsonb_(contains|contained|exists\w*|eq|path_\w+)|array(contains|contained|overlap)|array_eq|ts_match_\w+|to_tsvector|to_tsquery|textcat)$')
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = f.oid
       AND d.deptype = 'e')
