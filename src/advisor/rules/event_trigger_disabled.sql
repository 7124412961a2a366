SELECT w.name, CASE WHEN e.oid IS NULL THEN format('the event trigger %I is gone', w.name) ELSE format('the event trigger %I does not fire always', w.name) END,
       CASE WHEN e.oid IS NULL THEN format('CREATE EVENT TRIGGER %I ON %s EXECUTE FUNCTION tenancy.%s(); ALTER EVENT TRIGGER %1$I ENABLE ALWAYS', w.name, w.event, w.function)
            ELSE format('ALTER EVENT TRIGGER %I ENABLE ALWAYS', w.name) END, NULL
  FROM (VALUES ('tenancy_guard_ddl', 'ddl_command_end', 'guard_ddl'), ('tenancy_guard_drop', 'sql_drop', 'guard_drop')) AS w (name, event, function)
  LEFT JOIN pg_event_trigger e ON e.evtname = w.name
 WHERE e.oid IS NULL OR e.evtenabled <> 'A'
