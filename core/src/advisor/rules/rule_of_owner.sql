-- Rules are executed with the rights of the owner of what they stand on; security_invoker is for what a view reads.
SELECT format('%s.%I', c.oid::regclass, w.rulename),
       format('the rule %I of %s acts on %s as %I%s', w.rulename, c.oid::regclass, min(t."table"::text), o.rolname, CASE
           WHEN o.rolsuper OR o.rolbypassrls THEN ', whom no policy binds' ELSE '' END),
       format('DROP RULE %I ON %s', w.rulename, c.oid::regclass), CASE WHEN o.rolsuper OR o.rolbypassrls THEN 'error'
           ELSE 'warning' END
  FROM pg_rewrite w
  JOIN pg_class c ON c.oid = w.ev_class AND c.relpersistence <> 't' AND c.relnamespace <> 'tenancy'::regnamespace
  JOIN pg_roles o ON o.oid = c.relowner
  JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refclassid = 'pg_class'::regclass
  JOIN tenancy.protected_tables() t ON t."table" = d.refobjid AND t."table" <> w.ev_class
 WHERE w.ev_type <> '1'
 GROUP BY w.oid, w.rulename, c.oid, o.rolname, o.rolsuper, o.rolbypassrls
