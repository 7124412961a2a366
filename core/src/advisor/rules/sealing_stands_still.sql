-- The newest events first, and no further back than a day before the newest block: what is older is verify_audit's to
-- find.
WITH newest AS (SELECT max(b.sealed_at) AS sealed_at FROM tenancy.block b),
     waiting AS (
    SELECT e.events, e.occurred_at FROM tenancy.event_batch e, newest n
     WHERE e.id >= tenancy.lowest_id(GREATEST(coalesce(n.sealed_at, '-infinity') - interval '1 day', now() - interval
         '1 year'))
       AND e.occurred_at < now() - interval '5 minutes'
       AND tenancy.place_of(e.id, e.organization, e.transaction) IS NULL
     LIMIT 1000000)
SELECT 'tenancy.seal',
       format('%s events are not sealed, the oldest since %s: they can vanish without a trace. %s', w.events, w.since,
           c.cause),
       c.remediation,
       CASE WHEN w.since < now() - interval '1 hour' THEN 'error' END
  FROM (SELECT sum(events) AS events, date_trunc('second', min(occurred_at)) AS since FROM waiting) w
 CROSS JOIN LATERAL (
       SELECT CASE
           WHEN pg_is_in_recovery() THEN 'This is a standby, whose primary seals.'
           WHEN current_setting('shared_preload_libraries') !~ '\mpg_tenancy\M'
               THEN 'The library is not in shared_preload_libraries, so nothing seals but tenancy.seal().'
           WHEN current_setting('tenancy.seal_interval', true) = '0'
               THEN 'tenancy.seal_interval is 0, so nothing seals but tenancy.seal().'
           WHEN NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.backend_type ~ 'tenancy')
               THEN 'The background worker does not run: see the server''s log.'
           WHEN (SELECT count(*) FROM pg_stat_activity a WHERE a.backend_type !~
               '^(client backend|walsender|walreceiver|walwriter|checkpointer|background writer|archiver|startup|autovacuum .*|io worker|slotsync worker)$')
                >= current_setting('max_worker_processes')::int
                    THEN 'All of max_worker_processes run, so no process is to be had.'
           ELSE 'The background worker runs and does not get through: see the server''s log.' END,
              'SELECT tenancy.seal()') AS c (cause, remediation)
 WHERE w.events > 0
