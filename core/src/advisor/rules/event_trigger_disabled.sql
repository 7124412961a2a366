SELECT w.name, CASE WHEN e.oid IS NULL THEN format('the event trigger %I is gone', w.name)
                    WHEN e.enabled THEN format('the event trigger %I is not the one of the extension', w.name)
                    ELSE format('the event trigger %I does not fire always', w.name) END,
       CASE WHEN e.oid IS NULL THEN
           format('CREATE EVENT TRIGGER %I ON %s EXECUTE FUNCTION tenancy.%s(); ALTER EVENT TRIGGER %1$I ENABLE ALWAYS',
               w.name, w.event, w.function)
            WHEN e.same THEN format('ALTER EVENT TRIGGER %I ENABLE ALWAYS', w.name)
            ELSE format('DROP EVENT TRIGGER %I; CREATE EVENT TRIGGER %1$I ON %s EXECUTE FUNCTION tenancy.%s(); ALTER EVENT TRIGGER %1$I ENABLE ALWAYS', w.name, w.event, w.function) END, NULL
  FROM (VALUES ('tenancy_guard_ddl', 'ddl_command_end', 'guard_ddl'), ('tenancy_guard_drop', 'sql_drop', 'guard_drop'),
      ('tenancy_guard_rewrite', 'table_rewrite', 'guard_rewrite')) AS w (name, event, function)
  LEFT JOIN LATERAL (SELECT t.oid, t.evtenabled = 'A' AS enabled, t.evtevent = w.event AND t.evttags IS NULL
      AND f.proname = w.function AND f.pronamespace = 'tenancy'::regnamespace AS same
                       FROM pg_event_trigger t JOIN pg_proc f ON f.oid = t.evtfoid WHERE t.evtname = w.name) e ON true
 WHERE e.oid IS NULL OR NOT e.enabled OR NOT e.same
