-- Months of events that leave the database, and come back. Code: src/audit/verification/archives.rs.

CREATE TABLE tenancy.archive (
    month date NOT NULL CHECK (EXTRACT(day FROM month) = 1),
    changed_at timestamptz NOT NULL,
    attached boolean NOT NULL,
    events bigint NOT NULL,
    first_block bigint,
    last_block bigint,
    through_block bigint NOT NULL,
    digest bytea NOT NULL CHECK (octet_length(digest) = 32),
    exported_to text,
    reason text NOT NULL,
    changed_by text NOT NULL,
    PRIMARY KEY (month, changed_at)
);
COMMENT ON TABLE tenancy.archive IS
'Months whose events were detached or attached again. The newest row of a month counts. The entries of these events in
tenancy.seal, the trees and blocks remain. Written by tenancy.archive_audit and tenancy.attach_audit;
append-only.';
COMMENT ON COLUMN tenancy.archive.month IS 'First day of the month, in UTC as the partitions are.';
COMMENT ON COLUMN tenancy.archive.changed_at IS 'When the month was detached or attached.';
COMMENT ON COLUMN tenancy.archive.attached IS 'false: the events are not in tenancy.event_batch. true: they are in it again.';
COMMENT ON COLUMN tenancy.archive.events IS 'Number of sealed events of the month.';
COMMENT ON COLUMN tenancy.archive.first_block IS 'The first block with an event of the month; NULL if there is none.';
COMMENT ON COLUMN tenancy.archive.last_block IS 'The last block with an event of the month.';
COMMENT ON COLUMN tenancy.archive.through_block IS
'The newest block at that time. An event of the month that a later block sealed is not in the archive.';
COMMENT ON COLUMN tenancy.archive.digest IS
'SHA-256 over the entries of these events, as tenancy.seal_digest computes it.';
COMMENT ON COLUMN tenancy.archive.exported_to IS 'Location of the export, as passed to tenancy.archive_audit.';
COMMENT ON COLUMN tenancy.archive.reason IS 'Why the month was detached or attached.';
COMMENT ON COLUMN tenancy.archive.changed_by IS 'The database role that logged in.';
SELECT pg_extension_config_dump('tenancy.archive', '');
SELECT tenancy.keep_append_only('tenancy.archive');

CREATE FUNCTION tenancy.seal_digest(from_event uuid, to_event uuid, through_block bigint DEFAULT NULL,
        OUT events bigint, OUT first_block bigint, OUT last_block bigint, OUT digest bytea) RETURNS SETOF record
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_seal_digest_wrapper';
COMMENT ON FUNCTION tenancy.seal_digest(uuid, uuid, bigint) IS
'Returns the digest of a range of events in tenancy.seal, in one row. The range begins with from_event and ends before
to_event. The digest is a SHA-256 over their entries in the order of organization and leaf. The row also has the number
of events and the first and last block that sealed them. The function reads all entries.

- through_block: Leaves out entries of later blocks.

With tenancy.lowest_id of the first day of a month and of the next one, the digest is that of tenancy.archive.';

-- What archiving and attaching share: both tables of a month, by what their names end with. Locks as readers do, from
-- the top, so that neither waits for the other forever; the sealer's lock first, which it holds while it reads.
CREATE FUNCTION tenancy.lock_audit_month(month date) RETURNS text
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM tenancy.require_argument('month', month::text);
    IF EXTRACT(day FROM month) <> 1 THEN
        RAISE EXCEPTION '% is not the first day of a month', month USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Name a month by its first day: date ''2025-01-01''.';
    END IF;
    -- An older snapshot would not see what was committed while the locks were waited for.
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'a month is archived and attached in a transaction of READ COMMITTED' USING ERRCODE =
            'active_sql_transaction',
            HINT = 'BEGIN ISOLATION LEVEL READ COMMITTED, or without BEGIN.';
    END IF;
    LOCK TABLE tenancy.block IN SHARE UPDATE EXCLUSIVE MODE;
    LOCK TABLE ONLY tenancy.event_batch, ONLY tenancy.event_actor IN ACCESS EXCLUSIVE MODE;
    RETURN to_char(month, 'YYYY_MM');
END
$$;
COMMENT ON FUNCTION tenancy.lock_audit_month(date) IS
'Internal: locks the tables of a month for tenancy.archive_audit and tenancy.attach_audit.';

CREATE FUNCTION tenancy.check_audit_month(month date, events regclass, actors regclass, through_block bigint) RETURNS
    void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    from_event uuid := tenancy.lowest_id(month::timestamp AT TIME ZONE 'UTC');
    to_event uuid := tenancy.lowest_id((month + interval '1 month') AT TIME ZONE 'UTC');
    found bigint;
BEGIN
    EXECUTE format(
        'SELECT coalesce(sum(e.events), 0) FROM %s e
          WHERE ((tenancy.place_of(e.id, e.organization, e.transaction))[1] <= $1) IS NOT TRUE', events)
        INTO found USING through_block;
    IF found > 0 THEN
        RAISE EXCEPTION '% events of % are not sealed', found, to_char(month, 'YYYY-MM') USING ERRCODE =
            'object_not_in_prerequisite_state',
            HINT = 'Call tenancy.seal() and tenancy.verify_audit(), and look at what they say.';
    END IF;
    EXECUTE format(
        'SELECT count(*) FROM tenancy.entry s LEFT JOIN %s e ON e.id = s.batch AND e.hash = s.batch_hash
           LEFT JOIN %s a ON a.id = e.actor
          WHERE s.batch >= $1 AND s.batch < $2 AND s.block <= $3 AND a.id IS NULL', events, actors)
        INTO found USING from_event, to_event, through_block;
    IF found > 0 THEN
        RAISE EXCEPTION '% batches of events of % are not as they were sealed, or lack their actor', found, to_char(month,
            'YYYY-MM')
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT =
                'tenancy.verify_audit(whole => true) names them.';
    END IF;
END
$$;
COMMENT ON FUNCTION tenancy.check_audit_month(date, regclass, regclass, bigint) IS
'Internal: raises 55000 unless the tables hold exactly the sealed events of the month up to the block, with their
actors.';

CREATE FUNCTION tenancy.archive_audit(month date, exported_to text, reason text) RETURNS bigint
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    suffix text;
    newest bigint;
    sealed record;
    name text;
    index record;
BEGIN
    IF btrim(coalesce(exported_to, '')) = '' OR btrim(coalesce(reason, '')) = '' THEN
        RAISE EXCEPTION 'a month is archived for a reason, after it was exported' USING ERRCODE =
            'null_value_not_allowed',
            HINT = 'tenancy.archive_audit(month, exported_to => where the dump is, reason => why). Both are kept and audited.';
    END IF;
    PERFORM tenancy.seal();
    suffix := tenancy.lock_audit_month(month);
    IF (month + interval '1 month') AT TIME ZONE 'UTC'
            > now() - make_interval(months => current_setting('tenancy.audit_retention')::int4) THEN
        RAISE EXCEPTION 'events of % must be kept for % months', to_char(month, 'YYYY-MM'),
            current_setting('tenancy.audit_retention')
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT =
                'tenancy.audit_retention says for how long, in postgresql.conf.';
    END IF;
    IF (SELECT count(*) FROM pg_inherits i
         WHERE i.inhrelid IN (to_regclass('tenancy.event_batch_' || suffix),
                to_regclass('tenancy.event_actor_' || suffix))
           AND i.inhparent IN ('tenancy.event_batch'::regclass, 'tenancy.event_actor'::regclass)) <> 2
        OR (SELECT NOT a.attached FROM tenancy.archive a WHERE a.month = archive_audit.month
            ORDER BY a.changed_at DESC LIMIT 1) THEN
        RAISE EXCEPTION 'there are no partitions of % to archive', to_char(month, 'YYYY-MM') USING ERRCODE =
            'object_not_in_prerequisite_state',
            HINT = 'SELECT * FROM tenancy.archive tells which months were archived.';
    END IF;
    -- Whoever writes there has to end first.
    EXECUTE format('LOCK TABLE tenancy.%I, tenancy.%I IN ACCESS EXCLUSIVE MODE', 'event_batch_' || suffix, 'event_actor_' ||
        suffix);
    SELECT coalesce(max(b.number), 0) INTO newest FROM tenancy.block b;
    PERFORM tenancy.check_audit_month(month, ('tenancy.event_batch_' || suffix)::regclass, ('tenancy.event_actor_' ||
        suffix)::regclass, newest);
    SELECT * INTO STRICT sealed FROM tenancy.seal_digest(tenancy.lowest_id(month::timestamp AT TIME ZONE 'UTC'),
        tenancy.lowest_id((month + interval '1 month') AT TIME ZONE 'UTC'), newest);
    IF sealed.events > 0
        AND NOT EXISTS (SELECT FROM tenancy.checkpoint c WHERE c.block >= sealed.last_block) THEN
        RAISE EXCEPTION 'no checkpoint covers the events of %', to_char(month, 'YYYY-MM') USING ERRCODE =
            'object_not_in_prerequisite_state',
            HINT = 'Call tenancy.checkpoint() in a transaction before.';
    END IF;
    -- Under another name, so that an event that comes late to the month has a partition of its own.
    FOREACH name IN ARRAY ARRAY['event_batch', 'event_actor'] LOOP
        EXECUTE format('ALTER TABLE tenancy.%I DETACH PARTITION tenancy.%I', name, name || '_' || suffix);
        EXECUTE format('ALTER TABLE tenancy.%I RENAME TO %I', name || '_' || suffix, 'archived_' || name || '_' ||
            suffix);
        FOR index IN SELECT i.indexrelid::regclass AS oid, c.relname FROM pg_index i
            JOIN pg_class c ON c.oid = i.indexrelid
                      WHERE i.indrelid = ('tenancy.archived_' || name || '_' || suffix)::regclass LOOP
            EXECUTE format('ALTER INDEX tenancy.%I RENAME TO %I', index.relname, 'archived_' || index.relname);
        END LOOP;
        EXECUTE format('COMMENT ON TABLE tenancy.%I IS %L', 'archived_' || name || '_' || suffix,
            'Former partition of tenancy.' || name || ' for ' || to_char(month, 'YYYY-MM') ||
                ' (UTC). Exported; may be dropped.');
    END LOOP;
    INSERT INTO tenancy.archive VALUES (month, clock_timestamp(), false, sealed.events, sealed.first_block,
        sealed.last_block, newest,
        sealed.digest, exported_to, reason, session_user);
    -- The events that tell of earlier archives, and of months that came back, may have gone with this month: these are
    -- told of again.
    INSERT INTO tenancy.archive
    SELECT a.month, clock_timestamp(), a.attached, a.events, a.first_block, a.last_block, a.through_block, a.digest,
        a.exported_to, a.reason, session_user
      FROM (SELECT DISTINCT ON (r.month) r.* FROM tenancy.archive r ORDER BY r.month, r.changed_at DESC) a
     WHERE a.month <> archive_audit.month
       AND a.changed_at >= (archive_audit.month - interval '1 day') AT TIME ZONE 'UTC'
       AND a.changed_at < (archive_audit.month + interval '1 month 1 day') AT TIME ZONE 'UTC';
    RETURN sealed.events;
END
$$;
COMMENT ON FUNCTION tenancy.archive_audit(date, text, text) IS
'Detaches the events and actors of a month after their export, and registers the month in tenancy.archive. Returns the
number of events. The detached tables are tenancy.archived_event_batch_YYYY_MM and tenancy.archived_event_actor_YYYY_MM.
They are ordinary tables and may be dropped.

- month: First day of the month.
- exported_to: Location of the export.
- reason: Why.

Chains, trees, blocks and checkpoints remain, so tenancy.verify_audit() verifies the events that are left. The events
of earlier archives and attached months may leave with the month. Those get a new row in tenancy.archive, so that
each keeps an event that records it. The function waits for readers and for the sealer.

No role may call the function until EXECUTE is granted. Raises 55000 for a month that is younger than
tenancy.audit_retention, does not exist, differs from its seal, or is not covered by a checkpoint; 22023 if month is
not the first day of a month; 22004 without a reason or a location; 25001 under another isolation level than READ
COMMITTED.';

CREATE FUNCTION tenancy.attach_audit(month date, reason text) RETURNS bigint
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    suffix text;
    archived tenancy.archive;
    name text;
    partition text;
    index record;
BEGIN
    IF btrim(coalesce(reason, '')) = '' THEN
        RAISE EXCEPTION 'a month is attached again for a reason' USING ERRCODE = 'null_value_not_allowed',
            HINT = 'tenancy.attach_audit(month, reason => ...). The reason is kept and audited.';
    END IF;
    suffix := tenancy.lock_audit_month(month);
    SELECT * INTO archived FROM tenancy.archive a WHERE a.month = attach_audit.month ORDER BY a.changed_at DESC LIMIT 1;
    IF archived IS NULL OR archived.attached THEN
        RAISE EXCEPTION '% is not archived', to_char(month, 'YYYY-MM') USING ERRCODE =
            'object_not_in_prerequisite_state',
            HINT = 'SELECT * FROM tenancy.archive tells which months were archived.';
    END IF;
    FOREACH name IN ARRAY ARRAY['event_batch', 'event_actor'] LOOP
        partition := name || '_' || suffix;
        IF to_regclass('tenancy.archived_' || partition) IS NOT NULL THEN
            EXECUTE format('ALTER TABLE tenancy.%I RENAME TO %I', 'archived_' || partition, partition);
            FOR index IN SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                          WHERE i.indrelid = ('tenancy.' || partition)::regclass AND c.relname LIKE 'archived\_%' LOOP
                EXECUTE format('ALTER INDEX tenancy.%I RENAME TO %I', index.relname, substr(index.relname, 10));
            END LOOP;
        ELSIF to_regclass('tenancy.' || partition) IS NULL THEN
            RAISE EXCEPTION 'there is no table tenancy.%', partition USING ERRCODE = 'undefined_table',
                HINT = 'Restore the export of the month first.';
        END IF;
        PERFORM tenancy.check_audit_table(('tenancy.' || partition)::regclass, ('tenancy.' || name)::regclass);
        EXECUTE format('LOCK TABLE tenancy.%I IN ACCESS EXCLUSIVE MODE', partition);
    END LOOP;
    PERFORM tenancy.check_audit_month(month, ('tenancy.event_batch_' || suffix)::regclass, ('tenancy.event_actor_' ||
        suffix)::regclass, archived.through_block);
    FOREACH name IN ARRAY ARRAY['event_batch', 'event_actor'] LOOP
        partition := name || '_' || suffix;
        EXECUTE format('ALTER TABLE tenancy.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', partition);
        IF NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = ('tenancy.' || partition)::regclass
                          AND t.tgname = 'append_only') THEN
            PERFORM tenancy.keep_append_only(('tenancy.' || partition)::regclass);
        END IF;
        -- A dump of a partition attaches it by itself.
        IF NOT (SELECT c.relispartition FROM pg_class c WHERE c.oid = ('tenancy.' || partition)::regclass) THEN
            EXECUTE format('ALTER TABLE tenancy.%I ATTACH PARTITION tenancy.%I FOR VALUES FROM (%L) TO (%L)', name,
                partition,
                tenancy.lowest_id(month::timestamp AT TIME ZONE 'UTC'), tenancy.lowest_id((month + interval '1 month')
                    AT TIME ZONE 'UTC'));
        END IF;
        EXECUTE format('COMMENT ON TABLE tenancy.%I IS %L', partition,
            'Partition of tenancy.' || name || ' for ' || to_char(month, 'YYYY-MM') || ' (UTC).');
    END LOOP;
    -- An index that was made while the events were away lacks them. The next sealer makes these runs anew.
    DELETE FROM tenancy.row_index WHERE last_block >= archived.first_block;
    INSERT INTO tenancy.archive VALUES (month, clock_timestamp(), true, archived.events, archived.first_block,
        archived.last_block,
        archived.through_block, archived.digest, archived.exported_to, reason, session_user);
    RETURN archived.events;
END
$$;
COMMENT ON FUNCTION tenancy.attach_audit(date, text) IS
'Attaches the events of an archived month again. The tables are those that tenancy.archive_audit left, or those of the
export, restored as tenancy.event_YYYY_MM and tenancy.event_actor_YYYY_MM. Returns the number of events. From then
on, tenancy.verify_audit() verifies the month like any other.

No role may call the function until EXECUTE is granted. Raises 55000 for a month that is not archived and for tables
that differ from the seal, 42P01 if there are no tables, 22023 and 25001 as tenancy.archive_audit, 22004 without a
reason.';
