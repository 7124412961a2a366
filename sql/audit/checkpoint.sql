-- Checkpoints: what somebody else keeps, so that a history that is rewritten as a whole is found. Code:
-- src/audit/sealing/signed_checkpoint.rs, src/audit/export/proof.rs, src/audit/export/event_proof.rs. Format:
-- docs/audit-format.md.
-- The library writes tenancy.checkpoint by the order of its columns.

CREATE TABLE tenancy.signing_key (
    epoch integer PRIMARY KEY CHECK (epoch > 0),
    name text NOT NULL,
    key_id bytea NOT NULL CHECK (octet_length(key_id) = 4),
    public_key text NOT NULL UNIQUE,
    first_used_at timestamptz NOT NULL,
    first_incarnation text COLLATE "C" NOT NULL,
    first_checkpoint bigint NOT NULL,
    retired_at timestamptz,
    last_incarnation text COLLATE "C",
    last_checkpoint bigint,
    CHECK ((retired_at IS NULL) = (last_incarnation IS NULL) AND (retired_at IS NULL) = (last_checkpoint IS NULL))
);
COMMENT ON TABLE tenancy.signing_key IS
'Public keys that have signed checkpoints: a verifier pins them. tenancy.checkpoint() adds a key when it first signs
with it, and retires a key that is no longer configured.';
COMMENT ON COLUMN tenancy.signing_key.epoch IS '1, 2 and so on, in the order of first use.';
COMMENT ON COLUMN tenancy.signing_key.name IS 'Name of the key in the signature lines of a note.';
COMMENT ON COLUMN tenancy.signing_key.key_id IS 'The first four bytes of its signatures (c2sp.org/signed-note).';
COMMENT ON COLUMN tenancy.signing_key.public_key IS 'The key in the form of verifiers of signed notes: name+id+base64.';
COMMENT ON COLUMN tenancy.signing_key.first_used_at IS 'When the key first signed.';
COMMENT ON COLUMN tenancy.signing_key.first_incarnation IS 'Incarnation of the first checkpoint that the key signed.';
COMMENT ON COLUMN tenancy.signing_key.first_checkpoint IS 'Number of the first checkpoint that the key signed.';
COMMENT ON COLUMN tenancy.signing_key.retired_at IS
'When the key was no longer configured; NULL while it signs. A retired key never signs again.';
COMMENT ON COLUMN tenancy.signing_key.last_incarnation IS
'Incarnation of the last checkpoint that the key signed; NULL while it signs.';
COMMENT ON COLUMN tenancy.signing_key.last_checkpoint IS
'Number of the last checkpoint that the key signed; NULL while it signs.';

CREATE TABLE tenancy.checkpoint (
    incarnation text COLLATE "C" NOT NULL,
    number bigint NOT NULL CHECK (number > 0),
    made_at timestamptz NOT NULL,
    block bigint NOT NULL,
    block_hash bytea NOT NULL CHECK (octet_length(block_hash) = 32),
    heads bigint NOT NULL,
    heads_root bytea NOT NULL CHECK (octet_length(heads_root) = 32),
    prev_digest bytea CHECK (octet_length(prev_digest) = 32),
    digest bytea NOT NULL CHECK (octet_length(digest) = 32),
    root bytea NOT NULL CHECK (octet_length(root) = 32),
    frontier bytea NOT NULL CHECK (octet_length(frontier) % 32 = 0),
    origin text NOT NULL,
    note text NOT NULL,
    PRIMARY KEY (incarnation, number)
);
CREATE INDEX checkpoint_block_idx ON tenancy.checkpoint (block, number);
COMMENT ON TABLE tenancy.checkpoint IS
'Checkpoints: signed digests over the heads of all organizations. They prove something only if somebody else keeps a
copy; see tenancy.checkpoint_directory and LISTEN tenancy_checkpoint.';
COMMENT ON COLUMN tenancy.checkpoint.incarnation IS
'Name of the incarnation, in tenancy.incarnation. Each incarnation has its own log of checkpoints.';
COMMENT ON COLUMN tenancy.checkpoint.number IS
'Number of the checkpoint in its incarnation, from 1 without gaps; also the size of the signed log.';
COMMENT ON COLUMN tenancy.checkpoint.made_at IS 'When the checkpoint was made.';
COMMENT ON COLUMN tenancy.checkpoint.block IS 'The newest block at that time, in tenancy.block.';
COMMENT ON COLUMN tenancy.checkpoint.block_hash IS 'Hash of that block.';
COMMENT ON COLUMN tenancy.checkpoint.heads IS 'Number of organizations with sealed events.';
COMMENT ON COLUMN tenancy.checkpoint.heads_root IS
'Root of the Merkle tree over the heads of these organizations, in the order of tenancy.head_leaf.';
COMMENT ON COLUMN tenancy.checkpoint.prev_digest IS
'Digest of the previous checkpoint, of any incarnation; NULL in the first one.';
COMMENT ON COLUMN tenancy.checkpoint.digest IS 'SHA-256 over the columns before: the entry in the signed log.';
COMMENT ON COLUMN tenancy.checkpoint.root IS
'Root of the Merkle tree over the entries of the incarnation up to this one. The signatures cover it.';
COMMENT ON COLUMN tenancy.checkpoint.frontier IS
'Roots of the perfect subtrees of this tree, largest first, 32 bytes each.';
COMMENT ON COLUMN tenancy.checkpoint.origin IS
'Origin of the signed log: tenancy.checkpoint_origin or the name of the key, a slash, and the incarnation.';
COMMENT ON COLUMN tenancy.checkpoint.note IS
'The signed note (c2sp.org/tlog-checkpoint): origin, number, root, and a signature of each key in use.';

CREATE TABLE tenancy.head_leaf (
    organization uuid PRIMARY KEY,
    leaf bigint NOT NULL UNIQUE CHECK (leaf >= 0)
);
COMMENT ON TABLE tenancy.head_leaf IS
'The leaf of each organization in the trees over heads: the organizations in the order of their first blocks and, in a
block, of their ids. tenancy.checkpoint() adds the organizations that are new.';
COMMENT ON COLUMN tenancy.head_leaf.organization IS 'The organization of the head.';
COMMENT ON COLUMN tenancy.head_leaf.leaf IS 'Number of the leaf, from 0. It never changes.';

CREATE TABLE tenancy.head_node (
    level smallint NOT NULL,
    index bigint NOT NULL,
    block bigint NOT NULL,
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    PRIMARY KEY (level, index, block)
);
CREATE INDEX head_node_block_idx ON tenancy.head_node (block);
COMMENT ON TABLE tenancy.head_node IS
'Inner nodes of the trees over heads, of every third level. tenancy.checkpoint() adds the nodes that changed since the
previous checkpoint. With them, a checkpoint and a proof read the heads that they need and not all.';
COMMENT ON COLUMN tenancy.head_node.level IS 'Level of the node. 3: it is the root of 8 leaves; 6: of 64; and so on.';
COMMENT ON COLUMN tenancy.head_node.index IS 'Number of the node in its level, from 0.';
COMMENT ON COLUMN tenancy.head_node.block IS
'Block of the checkpoint that changed the node. The node has this hash until the next row of the same level and index.';
COMMENT ON COLUMN tenancy.head_node.hash IS 'Hash of the node.';

SELECT pg_extension_config_dump('tenancy.signing_key', '');
SELECT pg_extension_config_dump('tenancy.checkpoint', '');
SELECT pg_extension_config_dump('tenancy.head_leaf', '');
SELECT pg_extension_config_dump('tenancy.head_node', '');
SELECT tenancy.keep_append_only('tenancy.checkpoint');
SELECT tenancy.keep_append_only('tenancy.head_leaf');
SELECT tenancy.keep_append_only('tenancy.head_node');

CREATE FUNCTION tenancy.keep_signing_key() RETURNS trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- That it was retired, and nothing else, and once.
    IF tg_op = 'UPDATE' AND old.retired_at IS NULL AND new.retired_at IS NOT NULL
       AND (old.epoch, old.name, old.key_id, old.public_key, old.first_used_at, old.first_incarnation,
           old.first_checkpoint)
         = (new.epoch, new.name, new.key_id, new.public_key, new.first_used_at, new.first_incarnation,
             new.first_checkpoint) THEN
        RETURN new;
    END IF;
    RAISE EXCEPTION '% of tenancy.% is refused: the audit is append-only', tg_op, tg_table_name
        USING ERRCODE = 'insufficient_privilege',
              HINT = 'A key that is taken out of tenancy.signing_key_file is retired with the next checkpoint.';
END
$$;
COMMENT ON FUNCTION tenancy.keep_signing_key() IS
'Trigger function of tenancy.signing_key: refuses every change except the retirement of a key, to superusers too.
Raises 42501.';

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON tenancy.signing_key
    FOR EACH ROW EXECUTE FUNCTION tenancy.keep_signing_key();
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON tenancy.signing_key
    FOR EACH STATEMENT EXECUTE FUNCTION tenancy.refuse_change();
CREATE TRIGGER audit_row AFTER INSERT OR UPDATE OR DELETE ON tenancy.signing_key
    FOR EACH ROW EXECUTE FUNCTION tenancy.audit_row('', 'audit');
ALTER TABLE tenancy.signing_key ENABLE ALWAYS TRIGGER append_only, ENABLE ALWAYS TRIGGER append_only_truncate, ENABLE
    ALWAYS TRIGGER audit_row;
COMMENT ON TRIGGER append_only ON tenancy.signing_key IS
'Refuses DELETE, and UPDATE except for the retirement of a key.';
COMMENT ON TRIGGER append_only_truncate ON tenancy.signing_key IS 'Refuses TRUNCATE.';
COMMENT ON TRIGGER audit_row ON tenancy.signing_key IS 'Writes the event of the change.';

CREATE FUNCTION tenancy.checkpoint() RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_checkpoint_wrapper';
COMMENT ON FUNCTION tenancy.checkpoint() IS
'Seals the events of committed transactions and, at the commit, signs a checkpoint over the heads of all
organizations. It signs with each key of tenancy.signing_key_file or tenancy.signing_key_command. Returns the number
of the checkpoint: the last number if neither an event nor a key is new since, and 0 if nothing was ever sealed.

The row of tenancy.checkpoint exists after the commit and not before, so a rollback leaves no signature. Then NOTIFY
tenancy_checkpoint and a file in tenancy.checkpoint_directory publish the checkpoint. A transaction with this call
cannot be prepared for two-phase commit (0A000).

Raises F0000 (signing_key_invalid) without a usable key, 55000 (checkpoint_refused) if tenancy.checkpoint_directory
has a checkpoint of another history, 40001 (checkpoint_conflict) if the signing keys changed since the transaction
began, 25006 in a read-only transaction or on a standby.';

CREATE VIEW tenancy.checkpoint_status WITH (security_invoker = true) AS
SELECT c.incarnation, c.number, c.made_at, now() - c.made_at AS age, c.block AS checkpointed_block, l.newest_block AS
    sealed_block,
       (SELECT coalesce(sum(n.events), 0)::bigint FROM tenancy.block n
           WHERE n.number > coalesce(c.block, 0)) AS uncheckpointed_events,
       l.unsealed_events
  FROM tenancy.audit_lag l
  LEFT JOIN LATERAL (SELECT * FROM tenancy.checkpoint ORDER BY block DESC, number DESC LIMIT 1) c ON true;
COMMENT ON VIEW tenancy.checkpoint_status IS
'One row for monitoring: the newest checkpoint, and what it does not cover yet. The columns are incarnation, number
and made_at of the newest checkpoint, its age, checkpointed_block and sealed_block (the newest block of each kind),
uncheckpointed_events (sealed since) and unsealed_events (committed and not sealed yet).';

-- Proofs (RFC 9162 section 2.1), for whoever holds a root: an earlier checkpoint, or a head out of one.

CREATE FUNCTION tenancy.inclusion_proof(organization uuid, leaf bigint, size bigint DEFAULT NULL) RETURNS bytea[]
    LANGUAGE c STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_inclusion_proof_wrapper';
COMMENT ON FUNCTION tenancy.inclusion_proof(uuid, bigint, bigint) IS
'Returns the proof that a batch of events is the leaf with this number, from 1, in the organization''s tree of size
leaves. The proof has the sibling hashes on the path from the leaf to the root (RFC 9162 section 2.1.3). Without size,
the tree has all sealed batches. The data of the leaf are int8send(s.position) || s.batch_hash of its row of
tenancy.entry. The function reads a few hundred rows at most, however long the history is.

Raises 22004 and 22023 (argument_missing, argument_invalid) for arguments that cannot be, 42704 (not_found) for a
checkpoint that does not exist, XX001 (state_invalid) if rows that the proof needs are missing. The other proof
functions raise the same errors.';

CREATE FUNCTION tenancy.consistency_proof(organization uuid, old_size bigint, new_size bigint DEFAULT NULL) RETURNS
    bytea[]
    LANGUAGE c STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_consistency_proof_wrapper';
COMMENT ON FUNCTION tenancy.consistency_proof(uuid, bigint, bigint) IS
'Returns the proof that the organization''s tree of new_size leaves begins with its tree of old_size leaves (RFC 9162
section 2.1.4). A leaf is a batch of events. Without new_size, the tree has all sealed batches.';

CREATE FUNCTION tenancy.tree_root(organization uuid, size bigint DEFAULT NULL) RETURNS bytea
    LANGUAGE c STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_tree_root_wrapper';
COMMENT ON FUNCTION tenancy.tree_root(uuid, bigint) IS
'Returns the root of the organization''s tree over its first size leaves, which are its batches of events. Without
size, the tree has all sealed batches.';

CREATE FUNCTION tenancy.event_proof(event uuid)
    RETURNS TABLE (organization uuid, "position" bigint, leaf bigint, place bigint, events bigint, data bytea,
                   proof bytea[], root bytea, batch_hash bytea)
    LANGUAGE c STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_event_proof_wrapper';
COMMENT ON FUNCTION tenancy.event_proof(uuid) IS
'Returns the proof that a sealed event is in its batch, and where the batch is in the organization''s tree.

- organization, position: The chain of the event, and its position there.
- leaf: Number of the batch in the organization''s tree.
- place, events: Place of the event in the batch, from 1, and the number of events of the batch.
- data, proof, root: With them, tenancy.verify_inclusion(data, place, events, proof, root) is true. The root is the
  Merkle root over the events of the batch.
- batch_hash: Hash of the batch over its header and root. With it, tenancy.verify_inclusion(int8send(position - place
  + events) || batch_hash, leaf, ...) is true for a proof of tenancy.inclusion_proof(organization, leaf).

The data are the record of the event without its first byte. The record has the digest of the payload and not the
payload, so it remains after an erasure. The function compares root and header with batch_hash. It raises 22004
(argument_missing) for NULL, 42704 (not_found) for an event that does not exist or is not sealed, XX001
(state_invalid) if the batch is missing or is not the one that was sealed.';

CREATE FUNCTION tenancy.checkpoint_inclusion_proof(number bigint, size bigint DEFAULT NULL, incarnation text DEFAULT
    NULL) RETURNS bytea[]
    LANGUAGE c STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_checkpoint_inclusion_proof_wrapper';
COMMENT ON FUNCTION tenancy.checkpoint_inclusion_proof(bigint, bigint, text) IS
'Returns the proof that a checkpoint is in the signed log of size entries. The checkpoint with the number size signs
that log. Without size, it is the newest checkpoint; without incarnation, the newest incarnation.';

CREATE FUNCTION tenancy.checkpoint_consistency_proof(old_size bigint, new_size bigint DEFAULT NULL, incarnation text
    DEFAULT NULL) RETURNS bytea[]
    LANGUAGE c STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_checkpoint_consistency_proof_wrapper';
COMMENT ON FUNCTION tenancy.checkpoint_consistency_proof(bigint, bigint, text) IS
'Returns the proof that the signed log at checkpoint new_size continues the one at checkpoint old_size. A witness asks
for this proof. Without new_size, it is the newest checkpoint; without incarnation, the newest incarnation.';

CREATE FUNCTION tenancy.head_proof(organization uuid, checkpoint bigint DEFAULT NULL, incarnation text DEFAULT NULL)
    RETURNS TABLE ("position" bigint, leaves bigint, chain bytea, root bytea, digest bytea, place bigint, heads bigint,
        proof bytea[])
    LANGUAGE c STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_head_proof_wrapper';
COMMENT ON FUNCTION tenancy.head_proof(uuid, bigint, text) IS
'Returns the head of an organization at a checkpoint, with the proof that the checkpoint covers it. Without
checkpoint, it is the newest one.

- position, leaves, chain, root: Position and chain value of the head, and the size and root of the organization''s
  tree.
- digest: Digest of these.
- place, heads, proof: The proof that the digest is at this place among the heads of the checkpoint''s heads_root.

The place of an organization is the same in all checkpoints. The proof contains nothing of other organizations but
hashes. The function reads a few dozen rows, however many organizations there are. No row if the organization had no
sealed event at the checkpoint.';

CREATE FUNCTION tenancy.verify_inclusion(data bytea, leaf bigint, size bigint, proof bytea[], root bytea)
    RETURNS boolean
    LANGUAGE c IMMUTABLE PARALLEL SAFE STRICT AS 'MODULE_PATHNAME', 'tenancy_verify_inclusion_wrapper';
COMMENT ON FUNCTION tenancy.verify_inclusion(bytea, bigint, bigint, bytea[], bytea) IS
'Returns true if the proof shows that the data are the leaf with this number, from 1, in the tree of this size and
root. The data are those of a batch (see tenancy.inclusion_proof) or of an event (tenancy.event_proof), or the digest
of a head or of a checkpoint. An invalid proof is false, not an error.
The function reads no tables, so it verifies proofs and signed roots of other databases too.';

CREATE FUNCTION tenancy.verify_consistency(old_size bigint, old_root bytea, new_size bigint, new_root bytea, proof
    bytea[]) RETURNS boolean
    LANGUAGE c IMMUTABLE PARALLEL SAFE STRICT AS 'MODULE_PATHNAME', 'tenancy_verify_consistency_wrapper';
COMMENT ON FUNCTION tenancy.verify_consistency(bigint, bytea, bigint, bytea, bytea[]) IS
'Returns true if the proof shows that the tree of new_size and new_root begins with the tree of old_size and old_root.
An invalid proof is false, not an error. The function reads no tables.';
