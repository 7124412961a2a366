-- How far the sealer is behind, for monitoring. It must stay cheap at any number of events.

CREATE FUNCTION tenancy.oldest_open_transaction() RETURNS TABLE (began_at timestamptz, pid integer, gid text)
    LANGUAGE sql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT o.began_at, o.pid, o.gid
      FROM (SELECT a.xact_start AS began_at, a.pid, NULL AS gid FROM pg_stat_activity a
             WHERE a.datid = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
               AND a.backend_xid IS NOT NULL AND a.pid <> pg_backend_pid()
            UNION ALL
            SELECT p.prepared, NULL, p.gid FROM pg_prepared_xacts p WHERE p.database = current_database()) o
     ORDER BY o.began_at LIMIT 1
$$;
COMMENT ON FUNCTION tenancy.oldest_open_transaction() IS
'Returns the oldest transaction of this database that has written something and is still open, other than the caller''s
own: when it began or was prepared, and its process or, if it is prepared, its global identifier. Returns no row if
there is none. The view tenancy.audit_lag has the same columns. What the transaction runs is not returned.';

CREATE FUNCTION tenancy.throttle_state(OUT counted_events bigint, OUT event_limit bigint, OUT waiting_sessions bigint,
        OUT given_up boolean) RETURNS SETOF record
    LANGUAGE c VOLATILE PARALLEL SAFE AS 'MODULE_PATHNAME', 'tenancy_throttle_state_wrapper';
COMMENT ON FUNCTION tenancy.throttle_state() IS
'Returns what slows writers down, by shared memory alone: how many events of this database are committed and not sealed
as far as commits and the sealer have told, above how many writers wait (tenancy.max_unsealed_events; NULL where they
never wait), how many sessions wait now, and whether none does because the sealer has made no progress for 10 seconds.
Returns no row without shared_preload_libraries. The view tenancy.audit_lag has the last three.';

-- By the index of transactions: those in progress at the newest block, and those that had not begun. Both are few,
-- however many events are sealed and however long a transaction has been open. In a restored database, ids of the old
-- one may have yet to come.
CREATE VIEW tenancy.audit_lag WITH (security_invoker = true) AS
SELECT u.events AS unsealed_events,
       round(coalesce(extract(epoch FROM clock_timestamp() - u.oldest), 0)::numeric, 3) AS unsealed_seconds,
       b.number AS newest_block, b.sealed_at AS newest_block_sealed_at,
       o.began_at AS oldest_open_since, o.pid AS oldest_open_pid, o.gid AS oldest_open_gid,
       t.event_limit, coalesce(t.waiting_sessions, 0) AS waiting_sessions, coalesce(t.given_up, false) AS given_up
  FROM (VALUES (1)) AS one (row)
  LEFT JOIN LATERAL (SELECT * FROM tenancy.block ORDER BY number DESC LIMIT 1) b ON true
 CROSS JOIN LATERAL (
     SELECT coalesce(sum(w.events), 0)::bigint AS events, min(w.occurred_at) AS oldest
       FROM (SELECT e.events, e.occurred_at FROM tenancy.event_batch e
              WHERE e.transaction >= coalesce(pg_snapshot_xmax(b.snapshot), '0'::xid8)
                AND e.transaction <= GREATEST(pg_snapshot_xmax(pg_current_snapshot()),
                                              pg_current_xact_id_if_assigned())
             UNION ALL
             SELECT e.events, e.occurred_at FROM tenancy.event_batch e
              WHERE e.transaction = ANY (ARRAY(SELECT pg_snapshot_xip(b.snapshot)))) w) u
  LEFT JOIN LATERAL tenancy.oldest_open_transaction() o ON true
  LEFT JOIN LATERAL tenancy.throttle_state() t ON true;
COMMENT ON VIEW tenancy.audit_lag IS
'One row for monitoring: how far the sealer is behind. The columns are unsealed_events (committed and not sealed yet),
unsealed_seconds (since the oldest of these was written; 0 if there is none), newest_block and newest_block_sealed_at,
and the oldest transaction that has written something and is still open: oldest_open_since, oldest_open_pid and, if it
is prepared, oldest_open_gid. Its events are sealed only after its commit; other transactions do not wait for it.
event_limit is tenancy.max_unsealed_events (NULL where writers never wait), waiting_sessions how many sessions wait
because more events are unsealed. given_up is true if none waits although more are, because the sealer has made no
progress for 10 seconds.';
