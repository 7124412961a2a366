-- A policy that calls several functions is one finding.
WITH called AS (
    SELECT DISTINCT p.oid AS policy, f.oid AS function, f.provolatile = 'v' AS volatile, f.proparallel <> 's' AS serial,
           -- A function of SQL that Postgres writes into the query costs no call (inline_function, clauses.c).
           EXISTS (SELECT FROM pg_depend c WHERE c.classid = 'pg_policy'::regclass AND c.objid = p.oid
               AND c.refclassid = 'pg_class'::regclass AND c.refobjid = p.polrelid AND c.refobjsubid > 0)
           AND f.pronargs > 0 AND l.lanname NOT IN ('c', 'internal') AND (l.lanname <> 'sql' OR f.prosecdef
               OR f.proconfig IS NOT NULL) AS slow
      FROM pg_policy p
      JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_proc'::regclass
      JOIN pg_proc f ON f.oid = d.refobjid AND f.pronamespace NOT IN ('tenancy'::regnamespace,
          'pg_catalog'::regnamespace)
      JOIN pg_language l ON l.oid = f.prolang)
SELECT format('%s.%I', p.polrelid::regclass, p.polname),
       format('the policy %I of %s calls %s', p.polname, p.polrelid::regclass,
              string_agg(CASE WHEN c.volatile THEN
                  format('%s, which is VOLATILE: once per row, and no index can serve it', c.function::regprocedure)
                              WHEN c.serial THEN format('%s, which is not PARALLEL SAFE: no query on the table can run in parallel', c.function::regprocedure)
                              ELSE format('%s, which is called for each row that it is given', c.function::regprocedure)
                                  END, '; ' ORDER BY c.function)),
       CASE WHEN bool_or(c.volatile OR c.serial)
            THEN string_agg(format('ALTER FUNCTION %s STABLE PARALLEL SAFE', c.function::regprocedure), '; '
                ORDER BY c.function) FILTER (WHERE c.volatile OR c.serial)
            ELSE format('-- compare a column with a function without arguments instead, as tenancy.protect(%L) does',
                p.polrelid::regclass) END,
       CASE WHEN bool_or(c.volatile) THEN 'warning' ELSE 'info' END
  FROM called c
  JOIN pg_policy p ON p.oid = c.policy
  JOIN pg_class r ON r.oid = p.polrelid AND r.relpersistence <> 't'
 WHERE c.volatile OR c.serial OR c.slow
 GROUP BY p.oid, p.polrelid, p.polname
