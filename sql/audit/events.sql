-- What happened: events, their actors, the seal. Code: src/audit/. Format: docs/audit-format.md.
-- The library writes these tables by the order of their columns.

-- Keys and indexes stand on the partitions alone: an index of the parent, which a dump leaves to CREATE EXTENSION,
-- would be made on a restored partition a second time. Partitions are no members of the extension and are made by the
-- first tenancy.protect, so that those of a dump are not there already when it is restored.
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
    application_name text,
    grant_id uuid
) PARTITION BY RANGE (id);
COMMENT ON TABLE tenancy.event_actor IS
'The actors of events: who acted and by which method. Events of a transaction with the same actor share a row. The
digest of the row is part of each event''s hash.';
COMMENT ON COLUMN tenancy.event_actor.id IS 'Time-ordered id (UUID version 7).';
COMMENT ON COLUMN tenancy.event_actor.method IS
'token; break-glass: past an enforced single sign-on; elevated: by a break-glass grant; assumed: an operator;
maintenance: an owner of tables, for all organizations; none: a database role without a context.';
COMMENT ON COLUMN tenancy.event_actor.subject IS
'The "sub" claim of the token. Of an operator: the database role that logged in.';
COMMENT ON COLUMN tenancy.event_actor.issuer IS 'The "iss" claim of the token.';
COMMENT ON COLUMN tenancy.event_actor.role IS 'The role of the context.';
COMMENT ON COLUMN tenancy.event_actor.organization IS 'The organization of the context.';
COMMENT ON COLUMN tenancy.event_actor.session_id IS 'Session of the token: its "sid", "session_id" or "jti".';
COMMENT ON COLUMN tenancy.event_actor.correlation_id IS 'The correlation id that was passed to tenancy.authenticate.';
COMMENT ON COLUMN tenancy.event_actor.reason IS 'The reason, for methods that require one.';
COMMENT ON COLUMN tenancy.event_actor.session_user_name IS 'The database role that logged in.';
COMMENT ON COLUMN tenancy.event_actor.current_user_name IS 'The database role in force.';
COMMENT ON COLUMN tenancy.event_actor.client_address IS 'Address of the client; NULL on a Unix-domain socket.';
COMMENT ON COLUMN tenancy.event_actor.application_name IS
'The application_name that the client has set. It is not verified.';
COMMENT ON COLUMN tenancy.event_actor.grant_id IS
'The break-glass grant by which the transaction was elevated; NULL for every other.';

CREATE TABLE tenancy.event_batch (
    id uuid NOT NULL,
    organization uuid NOT NULL,
    actor uuid NOT NULL,
    transaction xid8 NOT NULL,
    ordinal integer NOT NULL,
    events integer NOT NULL,
    occurred_at timestamptz NOT NULL,
    operation text NOT NULL,
    domain text NOT NULL,
    table_schema text,
    table_name text,
    result text NOT NULL,
    reason text,
    row_key json,
    payload json,
    payload_salt bytea,
    payload_digest bytea CHECK (octet_length(payload_digest) = 32),
    packed bytea,
    row_hashes bytea,
    encoding smallint NOT NULL,
    prev_hash bytea NOT NULL CHECK (octet_length(prev_hash) = 32),
    hash bytea NOT NULL CHECK (octet_length(hash) = 32)
) PARTITION BY RANGE (id);
-- Compressed already, where that makes it smaller; and what no compression makes smaller.
ALTER TABLE tenancy.event_batch ALTER COLUMN packed SET STORAGE EXTERNAL, ALTER COLUMN row_hashes SET STORAGE EXTERNAL;
COMMENT ON TABLE tenancy.event_batch IS
'Audit events as they are stored: a batch has the events of one statement with the same organization, actor,
operation and table, 128 at most. Written by triggers in the transaction of the change. Also those of refusals,
operations and tenancy.record_event. Partitioned by the month in the id. The view tenancy.event has a row for each
event; read events through tenancy.audit_trail.';
COMMENT ON COLUMN tenancy.event_batch.id IS
'Id of the batch and of its first event, time-ordered (UUID version 7). The last 12 bits of an event''s id are its
place in the batch.';
COMMENT ON COLUMN tenancy.event_batch.organization IS
'The organization of the changed rows. The nil UUID if the events belong to no organization, or if the row names none
that exists.';
COMMENT ON COLUMN tenancy.event_batch.actor IS 'The actor, in tenancy.event_actor.';
COMMENT ON COLUMN tenancy.event_batch.transaction IS 'Id of the top-level transaction.';
COMMENT ON COLUMN tenancy.event_batch.ordinal IS
'Number of the first event among those of the same transaction and organization, from 1 without gaps.';
COMMENT ON COLUMN tenancy.event_batch.events IS 'Number of events.';
COMMENT ON COLUMN tenancy.event_batch.occurred_at IS 'When the first row was changed, by the clock of the server.';
COMMENT ON COLUMN tenancy.event_batch.operation IS
'insert, update, delete or truncate for changes of rows; assume and maintenance for contexts without a token; override
or guardrail at guardrails; authenticate, authorize or the statement for refusals; read, export, erase, protect,
unprotect, rewrite, coverage, capture_off, capture_on, gap, or the statement for operations; otherwise the action of
tenancy.record_event.';
COMMENT ON COLUMN tenancy.event_batch.domain IS
'Domain of the table in the permission matrix, or the kind of the operation.';
COMMENT ON COLUMN tenancy.event_batch.table_schema IS 'Schema of the changed table.';
COMMENT ON COLUMN tenancy.event_batch.table_name IS 'Name of the changed table.';
COMMENT ON COLUMN tenancy.event_batch.result IS 'success, denied or failed; warned, where a guardrail
would have refused it.';
COMMENT ON COLUMN tenancy.event_batch.reason IS 'The reason, for operations that require one.';
COMMENT ON COLUMN tenancy.event_batch.row_key IS
'Primary key of the row as a JSON object; NULL for a table without one, and in a batch of several events.';
COMMENT ON COLUMN tenancy.event_batch.payload IS
'Values as JSON. For a changed row {"old": {...}, "new": {...}}: of an update the changed columns, otherwise the
columns that are not NULL. "digests" has values beyond tenancy.audit_value_limit, "commitments" secret values. "data"
has the data of tenancy.record_event. The text is stored as it was hashed. NULL after an erasure, and in a batch of
several events.';
COMMENT ON COLUMN tenancy.event_batch.payload_salt IS
'Random bytes that keep an erased payload from being guessed by its digest. Erased with the payload.';
COMMENT ON COLUMN tenancy.event_batch.payload_digest IS
'Digest of salt and payload; NULL in a batch of several events. The hash covers this digest.';
COMMENT ON COLUMN tenancy.event_batch.packed IS
'Times, keys, payloads and salts of several events (docs/audit-format.md); NULL in a batch of one.
tenancy.unpack_events reads it.';
COMMENT ON COLUMN tenancy.event_batch.row_hashes IS
'Four bytes for the key of each row, by which tenancy.row_history finds the batch (docs/audit-format.md). NULL if no
event has a key. An erasure leaves them.';
COMMENT ON COLUMN tenancy.event_batch.encoding IS 'Version of the encoding that is hashed.';
COMMENT ON COLUMN tenancy.event_batch.prev_hash IS
'Hash of the previous batch of the transaction in the same organization; for the first one, the newest sealed head of
the organization.';
COMMENT ON COLUMN tenancy.event_batch.hash IS
'SHA-256 over the columns that all events share, the actor, the root over the events, and prev_hash.';

CREATE FUNCTION tenancy.unpack_events(batch uuid, ordinal integer, events integer, occurred_at timestamptz, packed
        bytea)
    RETURNS TABLE (place integer, id uuid, event_ordinal integer, event_occurred_at timestamptz, row_key json,
        payload json, payload_salt bytea, payload_digest bytea)
    LANGUAGE c IMMUTABLE PARALLEL SAFE STRICT ROWS 100 AS 'MODULE_PATHNAME', 'tenancy_unpack_events_wrapper';
COMMENT ON FUNCTION tenancy.unpack_events(uuid, integer, integer, timestamptz, bytea) IS
'Returns the events of a batch of several events, from its columns in tenancy.event_batch. The view tenancy.event uses
it. It reads nothing but its arguments. No row for a value that cannot be read: tenancy.verify_audit names that batch.';

CREATE FUNCTION tenancy.batch_of(event uuid) RETURNS uuid
    LANGUAGE c IMMUTABLE PARALLEL SAFE STRICT AS 'MODULE_PATHNAME', 'tenancy_batch_of_wrapper';
COMMENT ON FUNCTION tenancy.batch_of(uuid) IS
'Returns the id of the batch that an event is in: the id of the event with its last 12 bits set to 0. With the
condition batch = tenancy.batch_of(id), a query reads that batch alone.';

CREATE VIEW tenancy.event WITH (security_invoker = true) AS
SELECT b.id AS batch, b.events AS batch_events, 0 AS place, b.id, b.organization, b.actor, b.transaction, b.ordinal,
       b.occurred_at, b.operation, b.domain, b.table_schema, b.table_name, b.row_key, b.result, b.reason, b.payload,
       b.payload_salt, b.payload_digest, b.encoding, b.prev_hash, b.hash
  FROM tenancy.event_batch b
 WHERE b.packed IS NULL
 UNION ALL
SELECT b.id, b.events, e.place, e.id, b.organization, b.actor, b.transaction, e.event_ordinal,
       e.event_occurred_at, b.operation, b.domain, b.table_schema, b.table_name, e.row_key, b.result, b.reason,
       e.payload, e.payload_salt, e.payload_digest, b.encoding, b.prev_hash, b.hash
  FROM tenancy.event_batch b
 CROSS JOIN LATERAL tenancy.unpack_events(b.id, b.ordinal, b.events, b.occurred_at, b.packed) e
 WHERE b.packed IS NOT NULL;
COMMENT ON VIEW tenancy.event IS
'Audit events, one row each, out of the batches of tenancy.event_batch. The columns are batch and batch_events (id and
number of events of the batch), place (of the event in its batch, from 0), id, organization, actor, transaction,
ordinal (among the events of the transaction and organization), occurred_at, operation, domain, table_schema,
table_name, row_key, result, reason, payload, payload_salt, payload_digest, encoding, and prev_hash and hash of the
batch. A condition on batch, such as batch >= tenancy.lowest_id(...), reads the partitions from then on alone.';

CREATE TABLE tenancy.block (
    number bigint PRIMARY KEY,
    sealed_at timestamptz NOT NULL,
    snapshot pg_snapshot NOT NULL,
    incarnation text NOT NULL,
    events bigint NOT NULL,
    heads_digest bytea NOT NULL CHECK (octet_length(heads_digest) = 32),
    prev_hash bytea NOT NULL CHECK (octet_length(prev_hash) = 32),
    hash bytea NOT NULL CHECK (octet_length(hash) = 32)
);
COMMENT ON TABLE tenancy.block IS 'Blocks: the runs of the sealer.';
COMMENT ON COLUMN tenancy.block.number IS 'Number of the block, from 1 without gaps.';
COMMENT ON COLUMN tenancy.block.sealed_at IS 'When the block was sealed.';
COMMENT ON COLUMN tenancy.block.snapshot IS
'Snapshot of the run. The next block contains the events of transactions that were not finished in it.';
COMMENT ON COLUMN tenancy.block.incarnation IS 'Name of the incarnation, in tenancy.incarnation.';
COMMENT ON COLUMN tenancy.block.events IS 'Number of events that the block sealed.';
COMMENT ON COLUMN tenancy.block.heads_digest IS
'SHA-256 over position, leaves and chain of each organization''s last row of the block in tenancy.seal.';
COMMENT ON COLUMN tenancy.block.prev_hash IS 'Hash of the previous block.';
COMMENT ON COLUMN tenancy.block.hash IS 'SHA-256 over the block, its heads_digest and prev_hash.';

CREATE TABLE tenancy.seal (
    organization uuid NOT NULL,
    block bigint NOT NULL,
    position bigint NOT NULL,
    leaves bigint NOT NULL,
    chain bytea NOT NULL CHECK (octet_length(chain) = 32),
    frontier bytea NOT NULL CHECK (octet_length(frontier) % 32 = 0),
    entries bytea NOT NULL CHECK (octet_length(entries) % 49 = 0),
    PRIMARY KEY (organization, block, leaves)
);
CREATE INDEX seal_block_idx ON tenancy.seal (block, organization, leaves);
-- Ids and hashes do not compress.
ALTER TABLE tenancy.seal ALTER COLUMN entries SET STORAGE EXTERNAL;
COMMENT ON TABLE tenancy.seal IS
'The entries of the sealer, and where each organization''s chain and tree stand after them: one row for each
organization and block. A block with more than 4096 batches of an organization has several. The view tenancy.entry has
a row for each entry.';
COMMENT ON COLUMN tenancy.seal.organization IS 'The organization of the chain.';
COMMENT ON COLUMN tenancy.seal.block IS 'Number of the block, in tenancy.block.';
COMMENT ON COLUMN tenancy.seal.position IS
'Position of the last event. The events of an organization have the positions 1, 2 and so on.';
COMMENT ON COLUMN tenancy.seal.leaves IS
'Number of the last entry in the chain, from 1 without gaps: the number of batches, and of leaves of the organization''s
tree.';
COMMENT ON COLUMN tenancy.seal.chain IS
'The chain value after the last entry. That of an entry is SHA-256 over the value before, the position and the hash of
the batch.';
COMMENT ON COLUMN tenancy.seal.frontier IS
'Roots of the perfect subtrees of the Merkle tree (RFC 6962) over the hashes of the batches, largest first, 32 bytes
each.';
COMMENT ON COLUMN tenancy.seal.entries IS
'The batches in the order of the chain, 49 bytes each: id of the batch in tenancy.event_batch, its number of events less
one, and its hash at the time of sealing.';

CREATE FUNCTION tenancy.unpack_entries("position" bigint, leaves bigint, entries bytea)
    RETURNS TABLE (leaf bigint, last bigint, events bigint, batch uuid, batch_hash bytea)
    LANGUAGE c IMMUTABLE PARALLEL SAFE STRICT ROWS 100 AS 'MODULE_PATHNAME', 'tenancy_unpack_entries_wrapper';
COMMENT ON FUNCTION tenancy.unpack_entries(bigint, bigint, bytea) IS
'Returns the entries of a row of tenancy.seal, from its columns: the number of the entry in the chain, the position of
the last event of its batch, the number of events, and id and hash of the batch. The view tenancy.entry uses it. It
reads nothing but its arguments. No row for a value that cannot be read: tenancy.verify_audit names that row.';

CREATE FUNCTION tenancy.place_of(batch uuid, organization uuid, transaction xid8) RETURNS bigint[]
    LANGUAGE c STABLE PARALLEL SAFE STRICT COST 100 AS 'MODULE_PATHNAME', 'tenancy_place_of_wrapper';
COMMENT ON FUNCTION tenancy.place_of(uuid, uuid, xid8) IS
'Returns block, leaf and position of the last event of a batch, by its id, organization and transaction. NULL until the
batch is sealed. The transaction tells which block sealed the batch, so that no index by batch is needed.';

CREATE VIEW tenancy.entry WITH (security_invoker = true) AS
SELECT s.organization, e.leaf, e.last AS "position", e.events, s.block, e.batch, e.batch_hash
  FROM tenancy.seal s
 CROSS JOIN LATERAL tenancy.unpack_entries(s."position", s.leaves, s.entries) e;
COMMENT ON VIEW tenancy.entry IS
'The entries of tenancy.seal, one row each: the place of each batch of events in the chain of its organization. The
columns are organization, leaf (number of the entry in the chain, from 1 without gaps), position (of the last event of
the batch), events (number of events), block, batch (id of the batch) and batch_hash. A condition on organization and
block reads the rows of these alone. A condition on batch reads all entries: tenancy.place_of and tenancy.audit_trail
find one batch quickly.';

CREATE TABLE tenancy.tree_node (
    organization uuid NOT NULL,
    level smallint NOT NULL,
    index bigint NOT NULL,
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    PRIMARY KEY (organization, level, index)
);
COMMENT ON TABLE tenancy.tree_node IS
'Inner nodes of the Merkle trees, of every eighth level. With them, a proof reads a few rows of a long history.';
COMMENT ON COLUMN tenancy.tree_node.organization IS 'The organization of the tree.';
COMMENT ON COLUMN tenancy.tree_node.level IS
'Level of the node. 8: it is the root of 256 leaves; 16: of 65,536; and so on.';
COMMENT ON COLUMN tenancy.tree_node.index IS 'Number of the node in its level, from 0.';
COMMENT ON COLUMN tenancy.tree_node.hash IS 'Hash of the node.';

CREATE TABLE tenancy.incarnation (
    name text COLLATE "C" PRIMARY KEY,
    first_block bigint NOT NULL UNIQUE,
    system_identifier text NOT NULL,
    database oid NOT NULL,
    timeline bigint NOT NULL,
    began_at timestamptz NOT NULL,
    salt bytea NOT NULL
);
COMMENT ON TABLE tenancy.incarnation IS
'Incarnations: the histories of this database. A restored, copied or promoted database begins a new one, so that
checkpoints of two histories cannot be confused.';
COMMENT ON COLUMN tenancy.incarnation.name IS 'First half of the digest of the other columns, in hexadecimal digits.';
COMMENT ON COLUMN tenancy.incarnation.first_block IS 'The first block that was sealed in the incarnation.';
COMMENT ON COLUMN tenancy.incarnation.system_identifier IS
'System identifier of the cluster, from pg_control_system().';
COMMENT ON COLUMN tenancy.incarnation.database IS 'Oid of the database.';
COMMENT ON COLUMN tenancy.incarnation.timeline IS
'Timeline of the write-ahead log. Each promotion and point-in-time recovery begins a new one.';
COMMENT ON COLUMN tenancy.incarnation.began_at IS 'When the first block of the incarnation was sealed.';
COMMENT ON COLUMN tenancy.incarnation.salt IS
'16 random bytes, so that two copies that begin at the same moment have different names.';

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
COMMENT ON FUNCTION tenancy.refuse_change() IS
'Trigger function of the audit''s tables: refuses UPDATE, DELETE and TRUNCATE, to superusers too. Raises 42501.';

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
COMMENT ON FUNCTION tenancy.keep_append_only(regclass) IS
'Internal: creates the trigger that refuses changes on a new table or partition of the audit.';

DO $$
DECLARE
    kept regclass;
BEGIN
    FOREACH kept IN ARRAY ARRAY['tenancy.event_actor', 'tenancy.event_batch', 'tenancy.block',
        'tenancy.seal', 'tenancy.tree_node', 'tenancy.incarnation']::regclass[]
    LOOP
        PERFORM tenancy.keep_append_only(kept);
    END LOOP;
END
$$;

CREATE FUNCTION tenancy.lowest_id(at timestamptz) RETURNS uuid
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS
$$SELECT (lpad(to_hex(floor(EXTRACT(epoch FROM at) * 1000)::int8), 12, '0')
      || '00000000000000000000')::uuid$$;
COMMENT ON FUNCTION tenancy.lowest_id(timestamptz) IS
'Returns the lowest id (UUID version 7) that an event of that time can have. Events of that time and later have this
id or a higher one. With the condition id >= tenancy.lowest_id(''2026-11-01''), a query reads only the partitions
from that month on.';

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
'Raises 55000 unless a table is, or can become, a partition of tenancy.event_batch or tenancy.event_actor. Such a table
is an ordinary table of the same owner or of a superuser. It has the same columns in the same order and is no partition
of another table. The functions that make, attach and first write a partition call this function. No role may call it
until EXECUTE is granted.';

CREATE FUNCTION tenancy.create_audit_partitions(first_month timestamptz DEFAULT now(), ahead integer DEFAULT 3) RETURNS
    integer
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
    LOCK TABLE ONLY tenancy.event_batch, ONLY tenancy.event_actor IN SHARE UPDATE EXCLUSIVE MODE;
    FOR parent, month IN
        SELECT p, date_trunc('month', first_month AT TIME ZONE 'UTC') + n * interval '1 month'
          FROM unnest(ARRAY['event_batch', 'event_actor']) AS p, generate_series(0, ahead) AS n
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
        EXECUTE format('CREATE TABLE tenancy.%I (LIKE tenancy.%I INCLUDING CONSTRAINTS INCLUDING STORAGE, PRIMARY KEY (id))', partition,
            parent);
        IF parent = 'event_batch' THEN
            EXECUTE format('CREATE INDEX %I ON tenancy.%I (transaction)', partition || '_transaction_idx', partition);
        END IF;
        EXECUTE format('ALTER TABLE tenancy.%I ATTACH PARTITION tenancy.%I FOR VALUES FROM (%L) TO (%L)', parent,
            partition,
            tenancy.lowest_id(month AT TIME ZONE 'UTC'), tenancy.lowest_id((month + interval '1 month') AT TIME ZONE
                'UTC'));
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
'Creates the monthly partitions of tenancy.event_batch and tenancy.event_actor, such as tenancy.event_batch_2026_11.
Returns how many it created.

- first_month: The first month, in UTC.
- ahead: How many months after it, 0 to 120.

The first event of a month without partitions and tenancy.seal() call the function. Raises 22023 for another number
of months and for NULL. Raises 55000 if another table has the name of a partition.';

CREATE FUNCTION tenancy.audit_row() RETURNS trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_audit_row';
COMMENT ON FUNCTION tenancy.audit_row() IS
'Trigger function of protected tables, after each changed row: writes the event of the change. Arguments: organization
column and domain; for a table that is protected through another, name, key and organization column of that table;
after the word secret, the secret columns.';

CREATE FUNCTION tenancy.audit_truncate() RETURNS trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_audit_truncate';
COMMENT ON FUNCTION tenancy.audit_truncate() IS
'Trigger function of protected tables, before TRUNCATE: writes an event for each organization that loses rows. Raises
42501 under a context, and for roles to which row-level security applies. Arguments: organization column and domain.';

CREATE FUNCTION tenancy.seal() RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_seal_wrapper';
COMMENT ON FUNCTION tenancy.seal() IS
'Assigns the events of committed transactions their positions in the chains of their organizations. Returns how many
events it sealed. One session seals at a time. Transactions that write events do not wait for it.

In a READ COMMITTED transaction, it first makes events of the records of reveals. The next call seals those.';

CREATE FUNCTION tenancy.record_event(action text, domain text DEFAULT 'application', data json DEFAULT NULL, result text
    DEFAULT 'success', reason text DEFAULT NULL)
    RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_record_event_wrapper';
COMMENT ON FUNCTION tenancy.record_event(text, text, json, text, text) IS
'Records an action of the context''s actor that changes no row, such as an export or a call to another system. The
event belongs to the transaction like any other. Returns the id of the event.

- action: Name of the action, of 1 to 63 lower-case letters, digits and the characters _ . : -
- domain: Domain of the action, of the same characters.
- data: What to record about the action, at most 64 kB.
- result: success, denied or failed.
- reason: At most 1000 bytes.

The function refuses an action that the extension itself records. Raises 28000 without a context, 22023
(argument_invalid) for an argument that is not allowed, 22004 for NULL in action, domain or result, 25006 in a
read-only transaction or on a standby.';

CREATE FUNCTION tenancy.refusal_queue(OUT waiting bigint, OUT capacity bigint, OUT dropped bigint) RETURNS SETOF record
    LANGUAGE c VOLATILE PARALLEL SAFE AS 'MODULE_PATHNAME', 'tenancy_refusal_queue_wrapper';
COMMENT ON FUNCTION tenancy.refusal_queue() IS
'Shows the queue of refused sign-ins and operations that the background worker will record as events: how many wait,
how many can wait, and how many were dropped since the start of the server. No row if the library is not in
shared_preload_libraries; refusals are then lines of the server''s log only.';

CREATE VIEW tenancy.audit_trail WITH (security_invoker = true) AS
SELECT s.place[3] - e.batch_events + e.place + 1 AS "position", e.id, e.organization, e.occurred_at, a.subject,
       a.role, a.method, e.operation, e.domain, e.table_schema, e.table_name,
       e.row_key, e.payload -> 'old' AS old_values, e.payload -> 'new' AS new_values, e.payload -> 'digests' AS digests,
           e.payload -> 'commitments' AS commitments,
       e.payload -> 'data' AS data, e.result, e.reason,
       a.correlation_id, a.issuer, a.session_id, a.session_user_name, a.current_user_name, a.client_address,
           a.application_name, a.grant_id,
       e.transaction, e.ordinal, s.place[1] AS block, e.batch, s.place[2] AS leaf, e.prev_hash, e.hash
  FROM tenancy.event e
  LEFT JOIN tenancy.event_actor a ON a.id = e.actor
  -- OFFSET 0 asks once for each row.
 CROSS JOIN LATERAL (SELECT tenancy.place_of(e.batch, e.organization, e.transaction) AS place OFFSET 0) s;
COMMENT ON VIEW tenancy.audit_trail IS
'Events with their actors and positions. For tenancy_auditor, who sees every organization. The columns are position
(NULL until the event is sealed), id, organization, occurred_at, subject, role, method, operation, domain,
table_schema, table_name, row_key, old_values, new_values, digests and commitments (for large and secret values),
data, result, reason, correlation_id, issuer, session_id, session_user_name, current_user_name, client_address,
application_name, grant_id (of a break-glass), transaction, ordinal, block, and of the batch: batch (its id), leaf (its
number in the chain), prev_hash and hash. A condition on batch, such as batch >= tenancy.lowest_id(...), reads the
partitions from then on alone.';
