-- A materialized view below it is as good as the tables: whoever may read the view need not be able to read what it
-- reads.
WITH RECURSIVE reads (view, relation) AS (
    SELECT DISTINCT w.ev_class, d.refobjid
      FROM pg_rewrite w JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
          AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> w.ev_class),
deep (view, relation, kept) AS (
    SELECT r.view, r.relation, c.relkind = 'm' FROM reads r JOIN pg_class c ON c.oid = r.relation
     UNION
    SELECT d.view, r.relation, d.kept OR c.relkind = 'm'
      FROM deep d JOIN pg_class v ON v.oid = d.relation AND v.relkind IN ('v', 'm') JOIN reads r ON r.view = d.relation
          JOIN pg_class c ON c.oid = r.relation)
SELECT DISTINCT ON (v.oid) v.oid::regclass::text,
       CASE WHEN d.kept THEN
           format('%s reads, as its owner %I, what a materialized view keeps of %s: every organization''s rows',
               v.oid::regclass, o.rolname, d.relation::regclass)
            WHEN o.rolsuper OR o.rolbypassrls THEN
                format('%s reads %s as its owner %I, whom no policy binds: it shows every organization''s rows',
                    v.oid::regclass, d.relation::regclass, o.rolname)
            ELSE format('%s reads %s as its owner %I: permissions are those of the owner''s database role',
                v.oid::regclass, d.relation::regclass, o.rolname) END,
       format('ALTER VIEW %s SET (security_invoker = true)', v.oid::regclass), CASE WHEN d.kept OR o.rolsuper
           OR o.rolbypassrls THEN 'error' ELSE 'warning' END
  FROM deep d
  JOIN pg_class v ON v.oid = d.view AND v.relkind = 'v' AND v.relpersistence <> 't'
  JOIN pg_roles o ON o.oid = v.relowner
  JOIN tenancy.protected_tables() t ON t."table" = d.relation
 WHERE NOT EXISTS (SELECT FROM unnest(v.reloptions) AS option WHERE option ~* '^security_invoker=(true|on|yes|1)$')
   AND v.relnamespace <> 'tenancy'::regnamespace
   AND NOT EXISTS (SELECT FROM tenancy.exclusions() e WHERE e."table" = v.oid)
 ORDER BY v.oid, d.kept DESC, d.relation
