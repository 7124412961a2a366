-- What happened: events, their actors, the seal. Code: src/audit/. Format: docs/audit-format.md.
-- The library writes these tables by the order of their columns.

-- Keys and indexes stand on the partitions alone: an index of the parent, which a dump leaves to CREATE EXTENSION, would be
-- made on a restored partition a second time. Partitions are no members of the extension and are made by the first tenancy.protect, so
-- that those of a dump are not there already when it is restored.
CREATE TABLE tenancy.event_actor (
    id uuid NOT NULL,
    method text NOT NULL,
    subject text,
    issuer text,
    role text,
    organization uuid,
    session_id text,
    correlation_id text,
    reason text,
    session_user_name text NOT NULL,
    current_user_name text NOT NULL,
    client_address text,
    application_name text
) PARTITION BY RANGE (id);
COMMENT ON TABLE tenancy.event_actor IS 'Who acted and how they got in, once for the events of a transaction that share it. Its digest is part of each event''s hash.';
COMMENT ON COLUMN tenancy.event_actor.id IS 'Time-ordered id (UUID version 7).';
COMMENT ON COLUMN tenancy.event_actor.method IS 'How the actor got in: token, break-glass (past an enforced single sign-on), assumed (by an operator), maintenance (by an owner of tables, for all organizations), or none for a database user without a context.';
COMMENT ON COLUMN tenancy.event_actor.subject IS '"sub" of the verified token.';
COMMENT ON COLUMN tenancy.event_actor.issuer IS '"iss" of the verified token.';
COMMENT ON COLUMN tenancy.event_actor.role IS 'The role of the membership.';
COMMENT ON COLUMN tenancy.event_actor.organization IS 'The organization the actor was authenticated for.';
COMMENT ON COLUMN tenancy.event_actor.session_id IS 'Session of the token: sid, session_id or jti.';
COMMENT ON COLUMN tenancy.event_actor.correlation_id IS 'As given to tenancy.authenticate.';
COMMENT ON COLUMN tenancy.event_actor.reason IS 'Why, where the way in asks for a reason.';
COMMENT ON COLUMN tenancy.event_actor.session_user_name IS 'The database role that logged in.';
COMMENT ON COLUMN tenancy.event_actor.current_user_name IS 'The database role in force.';
COMMENT ON COLUMN tenancy.event_actor.client_address IS 'Address of the client; NULL on a Unix-domain socket.';
COMMENT ON COLUMN tenancy.event_actor.application_name IS 'As the client set it: a claim, not a fact.';

CREATE TABLE tenancy.event (
    id uuid NOT NULL,
    organization uuid NOT NULL,
    actor uuid NOT NULL,
    transaction xid8 NOT NULL,
    ordinal integer NOT NULL,
    occurred_at timestamptz NOT NULL,
    operation text NOT NULL,
    domain text NOT NULL,
    table_schema text,
    table_name text,
    row_key json,
    result text NOT NULL,
    reason text,
    payload json,
    payload_salt bytea,
    payload_digest bytea NOT NULL CHECK (octet_length(payload_digest) = 32),
    encoding smallint NOT NULL,
    prev_hash bytea NOT NULL CHECK (octet_length(prev_hash) = 32),
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    batch_end uuid,
    batch_events integer
) PARTITION BY RANGE (id);
COMMENT ON TABLE tenancy.event IS 'Audit events, one for each changed row, written by triggers in the transaction of the change, and those of tenancy.record_event and of what was refused. Partitioned by month, which an id begins with. Read them through tenancy.audit_trail.';
COMMENT ON COLUMN tenancy.event.id IS 'Time-ordered id (UUID version 7).';
COMMENT ON COLUMN tenancy.event.organization IS 'The organization whose row was changed; the nil UUID when the row named none that exists.';
COMMENT ON COLUMN tenancy.event.actor IS 'Row of tenancy.event_actor.';
COMMENT ON COLUMN tenancy.event.transaction IS 'The top-level transaction.';
COMMENT ON COLUMN tenancy.event.ordinal IS 'Place among the events of the same transaction and organization, from 1 without gaps.';
COMMENT ON COLUMN tenancy.event.occurred_at IS 'Clock of the server when the row was changed.';
COMMENT ON COLUMN tenancy.event.operation IS 'insert, update, delete or truncate; assume, override or bypass for what operators and guardrails leave; authenticate or authorize for what was refused; else what was given to tenancy.record_event.';
COMMENT ON COLUMN tenancy.event.domain IS 'Domain of the permission matrix that the table belongs to.';
COMMENT ON COLUMN tenancy.event.table_schema IS 'Schema of the changed table.';
COMMENT ON COLUMN tenancy.event.table_name IS 'Name of the changed table.';
COMMENT ON COLUMN tenancy.event.row_key IS 'Primary key of the row as a JSON object; NULL for a table without one.';
COMMENT ON COLUMN tenancy.event.result IS 'success, denied or failed.';
COMMENT ON COLUMN tenancy.event.reason IS 'Why, where the operation asks for a reason.';
COMMENT ON COLUMN tenancy.event.payload IS '{"data": ...} of tenancy.record_event; of a changed row {"old": {...}, "new": {...}}: of an update the columns that changed, otherwise those that are not NULL; those beyond tenancy.audit_value_limit by digest in "digests", secret ones in "commitments". Stored as the text that was hashed.';
COMMENT ON COLUMN tenancy.event.payload_salt IS 'Keeps the digest of an erased payload from betraying it.';
COMMENT ON COLUMN tenancy.event.payload_digest IS 'Digest of salt and payload; what the hash covers.';
COMMENT ON COLUMN tenancy.event.encoding IS 'Version of the encoding that the hashes are taken over.';
COMMENT ON COLUMN tenancy.event.prev_hash IS 'Hash of the event before it in the same transaction, or the newest sealed head of the organization.';
COMMENT ON COLUMN tenancy.event.hash IS 'SHA-256 over the event, its actor, its payload digest and prev_hash.';
COMMENT ON COLUMN tenancy.event.batch_end IS 'In the event with the lowest id of those that were written at once: the highest id of them. NULL in the others. By these rows the sealer finds the rest; no hash covers it.';
COMMENT ON COLUMN tenancy.event.batch_events IS 'Where batch_end is: how many events were written at once.';

CREATE TABLE tenancy.block (
    number bigint PRIMARY KEY,
    sealed_at timestamptz NOT NULL,
    snapshot pg_snapshot NOT NULL,
    incarnation text NOT NULL,
    events bigint NOT NULL,
    entries_digest bytea NOT NULL CHECK (octet_length(entries_digest) = 32),
    prev_hash bytea NOT NULL CHECK (octet_length(prev_hash) = 32),
    hash bytea NOT NULL CHECK (octet_length(hash) = 32)
);
COMMENT ON TABLE tenancy.block IS 'The runs of the sealer.';
COMMENT ON COLUMN tenancy.block.number IS 'From 1, without gaps.';
COMMENT ON COLUMN tenancy.block.sealed_at IS 'When it was made.';
COMMENT ON COLUMN tenancy.block.snapshot IS 'Which transactions were over then; the next block takes those that were not.';
COMMENT ON COLUMN tenancy.block.incarnation IS 'Name of the row of tenancy.incarnation: which history of the database it belongs to.';
COMMENT ON COLUMN tenancy.block.events IS 'How many events it sealed.';
COMMENT ON COLUMN tenancy.block.entries_digest IS 'SHA-256 over its entries in tenancy.seal.';
COMMENT ON COLUMN tenancy.block.prev_hash IS 'Hash of the block before it.';
COMMENT ON COLUMN tenancy.block.hash IS 'SHA-256 over the block, its entries'' digest and prev_hash.';

CREATE TABLE tenancy.seal (
    organization uuid NOT NULL,
    position bigint NOT NULL,
    block bigint NOT NULL,
    event uuid NOT NULL UNIQUE,
    event_hash bytea NOT NULL CHECK (octet_length(event_hash) = 32),
    chain bytea NOT NULL CHECK (octet_length(chain) = 32),
    PRIMARY KEY (organization, position)
);
COMMENT ON TABLE tenancy.seal IS 'The order of the events of each organization, as one chain.';
COMMENT ON COLUMN tenancy.seal.organization IS 'Whose chain.';
COMMENT ON COLUMN tenancy.seal.position IS 'From 1, without gaps.';
COMMENT ON COLUMN tenancy.seal.block IS 'Row of tenancy.block.';
COMMENT ON COLUMN tenancy.seal.event IS 'Row of tenancy.event.';
COMMENT ON COLUMN tenancy.seal.event_hash IS 'Hash of the event when it was sealed.';
COMMENT ON COLUMN tenancy.seal.chain IS 'SHA-256 over the chain value before, the position and the event''s hash.';

CREATE TABLE tenancy.head (
    organization uuid NOT NULL,
    block bigint NOT NULL,
    position bigint NOT NULL,
    chain bytea NOT NULL CHECK (octet_length(chain) = 32),
    frontier bytea NOT NULL CHECK (octet_length(frontier) % 32 = 0),
    PRIMARY KEY (organization, block)
);
CREATE INDEX head_block_idx ON tenancy.head (block, organization);
COMMENT ON TABLE tenancy.head IS 'Where the chain of each organization stood after each block that extended it.';
COMMENT ON COLUMN tenancy.head.organization IS 'Whose chain.';
COMMENT ON COLUMN tenancy.head.block IS 'Row of tenancy.block.';
COMMENT ON COLUMN tenancy.head.position IS 'The newest position, which is also the number of leaves of the tree.';
COMMENT ON COLUMN tenancy.head.chain IS 'The chain value at that position.';
COMMENT ON COLUMN tenancy.head.frontier IS 'The roots of the perfect subtrees that the Merkle tree (RFC 6962) over the events'' hashes is made of, largest first, 32 bytes each.';

CREATE TABLE tenancy.tree_node (
    organization uuid NOT NULL,
    level smallint NOT NULL,
    index bigint NOT NULL,
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    PRIMARY KEY (organization, level, index)
);
COMMENT ON TABLE tenancy.tree_node IS 'Inner nodes of the Merkle trees, of every eighth level, so that a proof reads a few rows of a long history.';
COMMENT ON COLUMN tenancy.tree_node.organization IS 'Whose tree.';
COMMENT ON COLUMN tenancy.tree_node.level IS '8: the node is the root of 256 leaves; 16: of 65,536; and so on.';
COMMENT ON COLUMN tenancy.tree_node.index IS 'Place among the nodes of its level, from 0.';
COMMENT ON COLUMN tenancy.tree_node.hash IS 'The hash of the node.';

CREATE TABLE tenancy.incarnation (
    name text COLLATE "C" PRIMARY KEY,
    first_block bigint NOT NULL UNIQUE,
    system_identifier text NOT NULL,
    database oid NOT NULL,
    timeline bigint NOT NULL,
    began_at timestamptz NOT NULL,
    salt bytea NOT NULL
);
COMMENT ON TABLE tenancy.incarnation IS 'The histories that this database has been through: a restored, copied or promoted database begins a new one, so that checkpoints of two histories can never be mistaken for each other.';
COMMENT ON COLUMN tenancy.incarnation.name IS 'The first half of the digest of the other columns, in hexadecimal digits.';
COMMENT ON COLUMN tenancy.incarnation.first_block IS 'The first block sealed in it.';
COMMENT ON COLUMN tenancy.incarnation.system_identifier IS 'Of the cluster, as pg_control_system() tells it.';
COMMENT ON COLUMN tenancy.incarnation.database IS 'Oid of the database.';
COMMENT ON COLUMN tenancy.incarnation.timeline IS 'Timeline of the write-ahead log, a new one after each promotion and point-in-time recovery.';
COMMENT ON COLUMN tenancy.incarnation.began_at IS 'When its first block was sealed.';
COMMENT ON COLUMN tenancy.incarnation.salt IS '16 random bytes: two copies that begin at the same moment have different names.';

SELECT pg_extension_config_dump('tenancy.head', '');
SELECT pg_extension_config_dump('tenancy.tree_node', '');
SELECT pg_extension_config_dump('tenancy.incarnation', '');
SELECT pg_extension_config_dump('tenancy.block', '');
SELECT pg_extension_config_dump('tenancy.seal', '');

CREATE FUNCTION tenancy.refuse_change() RETURNS trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION '% of tenancy.% is refused: the audit is append-only', tg_op, tg_table_name
        USING ERRCODE = 'insufficient_privilege',
              HINT = 'What was recorded stays recorded; tenancy.verify_audit() tells whether all of it is there.';
END
$$;
COMMENT ON FUNCTION tenancy.refuse_change() IS 'Trigger that refuses UPDATE, DELETE and TRUNCATE of the audit''s tables, to superusers too. Raises 42501.';

CREATE FUNCTION tenancy.keep_append_only(kept regclass) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format(
        'CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON %s
             FOR EACH STATEMENT EXECUTE FUNCTION tenancy.refuse_change()', kept);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER append_only', kept);
    EXECUTE format('COMMENT ON TRIGGER append_only ON %s IS ''Refuses UPDATE, DELETE and TRUNCATE.''', kept);
END
$$;
COMMENT ON FUNCTION tenancy.keep_append_only(regclass) IS 'Puts the trigger on a table of the audit that refuses changes. For the extension itself.';

DO $$
DECLARE
    kept regclass;
BEGIN
    FOREACH kept IN ARRAY ARRAY['tenancy.event_actor', 'tenancy.event', 'tenancy.block',
        'tenancy.seal', 'tenancy.head', 'tenancy.tree_node', 'tenancy.incarnation']::regclass[]
    LOOP
        PERFORM tenancy.keep_append_only(kept);
    END LOOP;
END
$$;

CREATE FUNCTION tenancy.lowest_id(at timestamptz) RETURNS uuid
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS
$$SELECT (lpad(to_hex(floor(EXTRACT(epoch FROM at) * 1000)::int8), 12, '0')
      || '00000000000000000000')::uuid$$;
COMMENT ON FUNCTION tenancy.lowest_id(timestamptz) IS 'The lowest id (UUID version 7) of the millisecond: ids of events of that time and later are not below it.';

-- Tables of the audit are found by name, so nobody else's may stand there.
CREATE FUNCTION tenancy.check_audit_table(candidate regclass, parent regclass) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    difference text;
BEGIN
    SELECT CASE
               WHEN c.relkind <> 'r' OR c.relpersistence <> 'p' THEN 'It is no ordinary, permanent table.'
               WHEN c.relowner <> p.relowner AND NOT o.rolsuper THEN format('It belongs to the role %I.', o.rolname)
               WHEN c.relam <> (SELECT m.oid FROM pg_am m WHERE m.amname = 'heap') THEN 'It is not stored as a heap.'
               WHEN EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid AND i.inhparent <> p.oid)
                   THEN 'It is a partition or child of another table.'
               WHEN ARRAY(SELECT (a.attnum, a.attname, a.atttypid, a.attisdropped)::text FROM pg_attribute a
                           WHERE a.attrelid = c.oid AND a.attnum > 0 ORDER BY a.attnum)
                   <>
                    ARRAY(SELECT (a.attnum, a.attname, a.atttypid, a.attisdropped)::text FROM pg_attribute a
                           WHERE a.attrelid = p.oid AND a.attnum > 0 ORDER BY a.attnum)
                   THEN format('Its columns are not those of %s.', p.oid::regclass)
           END
      INTO difference
      FROM pg_class c JOIN pg_roles o ON o.oid = c.relowner, pg_class p
     WHERE c.oid = candidate AND p.oid = parent;
    IF NOT FOUND OR difference IS NOT NULL THEN
        RAISE EXCEPTION 'table % stands where a table of the audit must be', candidate
            USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = coalesce(difference, 'It is gone.'),
                  HINT = 'Drop or rename it, and REVOKE CREATE ON SCHEMA tenancy from whoever made it.';
    END IF;
END
$$;
COMMENT ON FUNCTION tenancy.check_audit_table(regclass, regclass) IS
'Raises 55000 unless the table can be, or is, a partition of the audit: an ordinary table of the same owner or of a superuser, with the same columns in
the same order, and no partition of another table. What makes, attaches or first writes a partition calls it.';

CREATE FUNCTION tenancy.create_audit_partitions(first_month timestamptz DEFAULT now(), ahead integer DEFAULT 3) RETURNS integer
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET default_tablespace = '' SET default_table_access_method = 'heap' AS $$
DECLARE
    parent text;
    month timestamp;
    partition text;
    created integer := 0;
BEGIN
    IF first_month IS NULL OR ahead IS NULL OR ahead NOT BETWEEN 0 AND 120 THEN
        RAISE EXCEPTION 'a first month and 0 to 120 months ahead are needed' USING ERRCODE = 'invalid_parameter_value',
              HINT = 'See the function''s description: \df+ tenancy.*';
    END IF;
    -- One at a time; nobody who reads or writes waits for it.
    LOCK TABLE ONLY tenancy.event, ONLY tenancy.event_actor IN SHARE UPDATE EXCLUSIVE MODE;
    FOR parent, month IN
        SELECT p, date_trunc('month', first_month AT TIME ZONE 'UTC') + n * interval '1 month'
          FROM unnest(ARRAY['event', 'event_actor']) AS p, generate_series(0, ahead) AS n
    LOOP
        partition := parent || '_' || to_char(month, 'YYYY_MM');
        IF to_regclass('tenancy.' || partition) IS NOT NULL THEN
            PERFORM tenancy.check_audit_table(('tenancy.' || partition)::regclass, ('tenancy.' || parent)::regclass);
            IF NOT (SELECT c.relispartition FROM pg_class c WHERE c.oid = ('tenancy.' || partition)::regclass) THEN
                RAISE EXCEPTION 'table tenancy.% stands where a table of the audit must be', partition
                    USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = 'It is not attached to its parent.',
                          HINT = 'Attach it if it is of this history, with tenancy.attach_audit(month, reason), or rename it.';
            END IF;
            CONTINUE;
        END IF;
        EXECUTE format('CREATE TABLE tenancy.%I (LIKE tenancy.%I INCLUDING CONSTRAINTS, PRIMARY KEY (id))', partition, parent);
        IF parent = 'event' THEN
            EXECUTE format('CREATE INDEX %I ON tenancy.%I (transaction) WHERE batch_end IS NOT NULL',
                partition || '_transaction_idx', partition);
        END IF;
        EXECUTE format('ALTER TABLE tenancy.%I ATTACH PARTITION tenancy.%I FOR VALUES FROM (%L) TO (%L)', parent, partition,
            tenancy.lowest_id(month AT TIME ZONE 'UTC'), tenancy.lowest_id((month + interval '1 month') AT TIME ZONE 'UTC'));
        EXECUTE format('COMMENT ON TABLE tenancy.%I IS %L', partition,
            'Partition of tenancy.' || parent || ' for ' || to_char(month, 'YYYY-MM') || ' (UTC).');
        PERFORM tenancy.keep_append_only(('tenancy.' || partition)::regclass);
        -- Without a policy: read through its parent, or not at all.
        EXECUTE format('ALTER TABLE tenancy.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', partition);
        created := created + 1;
    END LOOP;
    RETURN created;
END
$$;
COMMENT ON FUNCTION tenancy.create_audit_partitions(timestamptz, integer) IS
'Makes the monthly partitions of the audit, from the month of first_month (UTC) to so many months ahead (0 to 120), and returns how many. The first event of
a month without one and the sealer call it.';

CREATE FUNCTION tenancy.audit_row() RETURNS trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_audit_row';
COMMENT ON FUNCTION tenancy.audit_row() IS
'AFTER ROW trigger of protected tables: writes the event of the change. Arguments: organization column, domain, for a table protected through another that one''s name,
key and organization column, and after the word secret the columns that are. Created by tenancy.protect.';

CREATE FUNCTION tenancy.audit_truncate() RETURNS trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_audit_truncate';
COMMENT ON FUNCTION tenancy.audit_truncate() IS
'BEFORE TRUNCATE trigger of protected tables: refuses tenants with 42501, and writes an event for each organization that loses rows.
Arguments: organization column, domain. Created by tenancy.protect.';

CREATE FUNCTION tenancy.seal() RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_seal_wrapper';
COMMENT ON FUNCTION tenancy.seal() IS
'Gives the events of committed transactions their place in the chains of their organizations. Returns how many. One session seals
at a time; writers never wait for it.';

CREATE FUNCTION tenancy.record_event(action text, domain text DEFAULT 'application', data json DEFAULT NULL, result text DEFAULT 'success', reason text DEFAULT NULL)
    RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_record_event_wrapper';
COMMENT ON FUNCTION tenancy.record_event(text, text, json, text, text) IS
'Records what the actor of the context did that is no change of a row, in the transaction as any event: an export, a call to another system.
action and domain: 1 to 63 lower-case letters, digits and _ . : - (22023 otherwise, and for names that the extension itself uses); data: what
there is to say of it, at most 64 kB; result: success, denied or failed. Returns the id of the event. Raises 28000 without a context.';

CREATE FUNCTION tenancy.refusal_queue(OUT waiting bigint, OUT capacity bigint, OUT dropped bigint) RETURNS SETOF record
    LANGUAGE c VOLATILE PARALLEL SAFE AS 'MODULE_PATHNAME', 'tenancy_refusal_queue_wrapper';
COMMENT ON FUNCTION tenancy.refusal_queue() IS
'Refused sign-ins and operations on their way to the audit: how many wait for the background worker, how many can, and how many found no place
since the start of the server. No row where the library is not preloaded: they are lines of the server''s log then.';

CREATE VIEW tenancy.audit_trail WITH (security_invoker = true) AS
SELECT s."position", e.id, e.organization, e.occurred_at, a.subject, a.role, a.method, e.operation, e.domain, e.table_schema, e.table_name,
       e.row_key, e.payload -> 'old' AS old_values, e.payload -> 'new' AS new_values, e.payload -> 'digests' AS digests, e.payload -> 'commitments' AS commitments,
       e.payload -> 'data' AS data, e.result, e.reason,
       a.correlation_id, a.issuer, a.session_id, a.session_user_name, a.current_user_name, a.client_address, a.application_name,
       e.transaction, e.ordinal, s.block, e.prev_hash, e.hash
  FROM tenancy.event e
  LEFT JOIN tenancy.event_actor a ON a.id = e.actor
  LEFT JOIN tenancy.seal s ON s.event = e.id;
COMMENT ON VIEW tenancy.audit_trail IS 'The events with their actors and their places, for people. Position is NULL until the event is sealed.';
