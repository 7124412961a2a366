SELECT format('process %s', a.pid),
       format('a transaction of role %I is open since %s: what it has written is not sealed, and dead rows of every table stay as long', a.usename, date_trunc('second', a.xact_start)),
       format('-- end it: SELECT pg_terminate_backend(%s)', a.pid),
       NULL::text
  FROM pg_stat_activity a
 WHERE a.datname = current_database() AND a.backend_type = 'client backend' AND a.xact_start < now() - interval '1 hour'
     AND a.backend_xid IS NOT NULL
UNION ALL
SELECT format('prepared transaction %s', quote_literal(p.gid)),
       format('it is prepared since %s: what it has written is not sealed, and dead rows of every table stay as long',
           date_trunc('second', p.prepared)),
       format('-- COMMIT PREPARED %1$L or ROLLBACK PREPARED %1$L', p.gid),
       NULL::text
  FROM pg_prepared_xacts p
 WHERE p.database = current_database() AND p.prepared < now() - interval '1 hour'
