-- How far the sealer is behind, and that the answer reads what is unsealed and not all events.
BEGIN;
\ir ../helpers/fixture.sql
SELECT plan(8);

CREATE TABLE app.lagging (id integer PRIMARY KEY, organization_id uuid NOT NULL);
DO $$ BEGIN PERFORM tenancy.protect('app.lagging'); END $$;
INSERT INTO app.lagging SELECT n, test.acme() FROM generate_series(1, 700) n;
SELECT is((SELECT unsealed_events FROM tenancy.audit_lag), (SELECT count(*) FROM tenancy.event),
          'before the first block all events are unsealed, in however many batches');
SELECT ok((SELECT unsealed_seconds > 0 AND unsealed_seconds < 600 FROM tenancy.audit_lag), 'since the oldest was written');
SELECT is((SELECT unsealed_events FROM tenancy.checkpoint_status), (SELECT unsealed_events FROM tenancy.audit_lag),
          'the status of checkpoints tells the same number');
SELECT results_eq('SELECT oldest_open_since, oldest_open_pid, oldest_open_gid FROM tenancy.audit_lag',
                  'SELECT began_at, pid, gid FROM (VALUES (1)) v LEFT JOIN tenancy.oldest_open_transaction() ON true', 'with the oldest open transaction');
SELECT is_empty('SELECT FROM tenancy.oldest_open_transaction() WHERE pid = pg_backend_pid()', 'which is not one''s own');

-- A block that has all of what was written before: by hand, because the sealer leaves its own transaction out.
INSERT INTO tenancy.block (number, sealed_at, snapshot, incarnation, events, heads_digest, prev_hash, hash)
SELECT (SELECT coalesce(max(number), 0) + 1 FROM tenancy.block), now(), format('%s:%s:', n, n)::pg_snapshot, 'x', 1, sha256(''), sha256(''), sha256('')
  FROM CAST(pg_current_xact_id()::text::bigint + 1 AS bigint) n;
SELECT is((SELECT (unsealed_events, unsealed_seconds)::text FROM tenancy.audit_lag), '(0,0.000)', 'nothing is left after a block that has all');
CREATE FUNCTION pg_temp.events_read() RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint FROM pg_stat_xact_all_tables
     WHERE schemaname = 'tenancy' AND relname ~ '^event_batch_[0-9]' $$;
-- So few events are read as a whole otherwise.
SET LOCAL enable_seqscan = off;
CREATE TEMPORARY TABLE before AS SELECT pg_temp.events_read() AS events;
SELECT is((SELECT count(*) FROM tenancy.audit_lag, tenancy.checkpoint_status), 1::bigint, 'one row each');
SELECT ok((SELECT pg_temp.events_read() - events < 20 FROM before), 'and no sealed event is read for them');

SELECT * FROM finish();
ROLLBACK;
