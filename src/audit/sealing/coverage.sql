WITH capture AS MATERIALIZED (
    SELECT p.oid, p.proname::pg_catalog.text AS name,
           pg_catalog.md5(pg_catalog.concat_ws(' ', p.prolang, p.prosrc, p.probin, p.prosecdef, p.proconfig)) AS body
      FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace
     WHERE n.nspname OPERATOR(pg_catalog.=) 'tenancy'
       AND p.proname IN ('audit_row', 'audit_truncate', 'refuse_change', 'audit_ddl', 'audit_drop', 'guard_ddl', 'guard_drop', 'guard_rewrite'))
SELECT 'pg_class ' OPERATOR(pg_catalog.||) c.oid::pg_catalog.text AS object, c.relname::pg_catalog.text AS name, n.nspname::pg_catalog.text AS schema,
       pg_catalog.string_agg(pg_catalog.format('%I %s %s %s', t.tgname, t.tgenabled, f.name, t.xmin), ', ' ORDER BY t.tgname) AS state,
       pg_catalog.bool_and(t.tgenabled OPERATOR(pg_catalog.=) 'A') AS whole
  FROM pg_catalog.pg_trigger t JOIN capture f ON f.oid OPERATOR(pg_catalog.=) t.tgfoid
  JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) t.tgrelid
  JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
 WHERE c.relpersistence OPERATOR(pg_catalog.<>) 't'
 GROUP BY c.oid, c.relname, n.nspname
 UNION ALL
SELECT 'pg_class ' OPERATOR(pg_catalog.||) c.oid::pg_catalog.text, c.relname::pg_catalog.text, n.nspname::pg_catalog.text, 'no trigger', false
  FROM pg_catalog.pg_policy p JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) p.polrelid
  JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
 WHERE p.polname OPERATOR(pg_catalog.=) 'tenancy_isolation' AND c.relpersistence OPERATOR(pg_catalog.<>) 't'
   -- A policy of that name without what tenancy.protect remembers is somebody else's.
   AND pg_catalog.obj_description(p.oid, 'pg_policy') OPERATOR(pg_catalog.~~) 'Made by tenancy.protect;%'
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger t JOIN capture f ON f.oid OPERATOR(pg_catalog.=) t.tgfoid WHERE t.tgrelid OPERATOR(pg_catalog.=) c.oid)
 UNION ALL
SELECT 'pg_event_trigger ' OPERATOR(pg_catalog.||) f.name, e.evtname::pg_catalog.text, NULL,
       COALESCE(pg_catalog.format('%s %s', e.evtenabled, e.xmin), 'no event trigger'), COALESCE(e.evtenabled OPERATOR(pg_catalog.=) 'A', false)
  FROM capture f LEFT JOIN pg_catalog.pg_event_trigger e ON e.evtfoid OPERATOR(pg_catalog.=) f.oid
 WHERE f.name IN ('audit_ddl', 'audit_drop', 'guard_ddl', 'guard_drop', 'guard_rewrite')
 UNION ALL
SELECT 'pg_proc ' OPERATOR(pg_catalog.||) f.name, f.name, NULL, f.body, true FROM capture f
