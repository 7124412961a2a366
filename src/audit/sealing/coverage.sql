WITH capture AS MATERIALIZED (
    SELECT p.oid, p.proname::text AS name,
           md5(concat_ws(' ', p.prolang, p.prosrc, p.probin, p.prosecdef, p.proconfig)) AS body
      FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
     WHERE n.nspname = 'tenancy'
       AND p.proname IN ('audit_row', 'audit_truncate', 'refuse_change', 'audit_ddl', 'audit_drop', 'guard_ddl',
           'guard_drop', 'guard_rewrite', 'keep_secret_keys', 'keep_controls'))
SELECT 'pg_class ' || c.oid::text AS object, c.relname::text AS name, n.nspname::text AS schema,
       string_agg(format('%I %s %s %s', t.tgname, t.tgenabled, f.name, t.xmin), ', ' ORDER BY t.tgname) AS state,
       bool_and(t.tgenabled = 'A') AS whole
  FROM pg_trigger t JOIN capture f ON f.oid = t.tgfoid
  JOIN pg_class c ON c.oid = t.tgrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relpersistence <> 't'
 GROUP BY c.oid, c.relname, n.nspname
 UNION ALL
SELECT 'pg_class ' || c.oid::text, c.relname::text, n.nspname::text, 'no trigger', false
  FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE p.polname = 'tenancy_isolation' AND c.relpersistence <> 't'
   -- A policy of that name without what tenancy.protect remembers is somebody else's.
   AND obj_description(p.oid, 'pg_policy') ~~ 'Made by tenancy.protect;%'
   AND NOT EXISTS (SELECT FROM pg_trigger t JOIN capture f ON f.oid = t.tgfoid WHERE t.tgrelid = c.oid)
 UNION ALL
SELECT 'pg_event_trigger ' || f.name, e.evtname::text, NULL,
       COALESCE(format('%s %s', e.evtenabled, e.xmin), 'no event trigger'), COALESCE(e.evtenabled = 'A', false)
  FROM capture f LEFT JOIN pg_event_trigger e ON e.evtfoid = f.oid
 WHERE f.name IN ('audit_ddl', 'audit_drop', 'guard_ddl', 'guard_drop', 'guard_rewrite')
 UNION ALL
SELECT 'pg_proc ' || f.name, f.name, NULL, f.body, true FROM capture f
