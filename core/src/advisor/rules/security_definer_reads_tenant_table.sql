-- Protected tables, and the views and materialized views that read them.
WITH RECURSIVE reads (view, relation) AS (
    SELECT DISTINCT w.ev_class, d.refobjid
      FROM pg_rewrite w JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
          AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> w.ev_class),
relation (oid) AS (
    SELECT t."table"::oid FROM tenancy.protected_tables() t
     UNION
    SELECT r.view FROM relation p JOIN reads r ON r.relation = p.oid JOIN pg_class c ON c.oid = r.view
        AND c.relkind IN ('v', 'm')),
definer AS (
    SELECT f.oid, f.prosrc, o.rolname, o.rolsuper OR o.rolbypassrls AS unbound,
           EXISTS (SELECT FROM aclexplode(COALESCE(f.proacl, acldefault('f', f.proowner))) a
               WHERE a.grantee <> f.proowner) AS callable
      FROM pg_proc f
      JOIN pg_namespace n ON n.oid = f.pronamespace
      JOIN pg_roles o ON o.oid = f.proowner
     WHERE f.prosecdef AND n.nspname !~ '^(pg_|information_schema$|tenancy$)'
       AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = f.oid
           AND d.deptype = 'e')),
-- What may be a name in the body: words as they stand and in small letters, and what is in double quotes.
word (function, name) AS (
    SELECT DISTINCT f.oid, unnest(ARRAY[w, lower(w)]) FROM definer f CROSS
        JOIN regexp_split_to_table(f.prosrc, $$[][\s(){}<>=+*/%!&|^~#@.,:;?'"`\\-]+$$) AS w
     UNION
    SELECT f.oid, replace(q[1], '""', '"')
      FROM definer f CROSS JOIN regexp_matches(f.prosrc, '"((?:[^"]|"")+)"', 'g') AS q),
named (function, relation) AS (
    SELECT w.function, c.oid FROM word w JOIN pg_class c ON c.relname = w.name JOIN relation r ON r.oid = c.oid
     UNION
    SELECT d.objid, d.refobjid FROM pg_depend d JOIN relation r ON r.oid = d.refobjid
     WHERE d.classid = 'pg_proc'::regclass AND d.refclassid = 'pg_class'::regclass)
SELECT DISTINCT ON (f.oid) f.oid::regprocedure::text,
       format('%s names %s and runs as
           %I%s%s', f.oid::regprocedure, n.relation::regclass, f.rolname, CASE WHEN f.unbound THEN ', whom no policy
               binds' ELSE '' END,
              CASE WHEN f.callable THEN '' ELSE '; only its owner may call it' END),
       format('ALTER ROUTINE %s SECURITY
           INVOKER', f.oid::regprocedure), CASE WHEN f.unbound AND f.callable THEN 'error' ELSE 'info' END
  FROM definer f
  JOIN named n ON n.function = f.oid
 ORDER BY f.oid, n.relation
