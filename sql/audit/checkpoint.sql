-- Checkpoints: what somebody else keeps, so that a history that is rewritten as a whole is found. Code:
-- src/audit/sealing/signed_checkpoint.rs, src/audit/export/proof.rs. Format: docs/audit-format.md.
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
COMMENT ON TABLE tenancy.signing_key IS 'The public keys that checkpoints were signed with. tenancy.checkpoint() adds a key when it first signs with it, and retires one that is no longer among its keys: what a verifier pins.';
COMMENT ON COLUMN tenancy.signing_key.epoch IS '1, 2, ... in the order of first use.';
COMMENT ON COLUMN tenancy.signing_key.name IS 'Name of the key, which stands in the signature lines of a note.';
COMMENT ON COLUMN tenancy.signing_key.key_id IS 'The first four bytes of its signatures, as C2SP''s signed notes have it.';
COMMENT ON COLUMN tenancy.signing_key.public_key IS 'The key as verifiers of signed notes take it: name+id+base64.';
COMMENT ON COLUMN tenancy.signing_key.first_used_at IS 'When it was first used.';
COMMENT ON COLUMN tenancy.signing_key.first_incarnation IS 'The incarnation of the first checkpoint that it signed.';
COMMENT ON COLUMN tenancy.signing_key.first_checkpoint IS 'Number of the first checkpoint that it signed.';
COMMENT ON COLUMN tenancy.signing_key.retired_at IS 'When it was no longer among the keys; NULL while it signs. A retired key never signs again.';
COMMENT ON COLUMN tenancy.signing_key.last_incarnation IS 'The incarnation of the last checkpoint that it signed; NULL while it signs.';
COMMENT ON COLUMN tenancy.signing_key.last_checkpoint IS 'Number of the last checkpoint that it signed; NULL while it signs.';

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
COMMENT ON TABLE tenancy.checkpoint IS 'Signed statements of where the audit stood. They bind only if somebody else keeps a copy: see tenancy.checkpoint_directory, and LISTEN tenancy_checkpoint.';
COMMENT ON COLUMN tenancy.checkpoint.incarnation IS 'Name of the row of tenancy.incarnation: each history has a log of checkpoints of its own.';
COMMENT ON COLUMN tenancy.checkpoint.number IS 'From 1 in each incarnation, without gaps; also the size of the signed log.';
COMMENT ON COLUMN tenancy.checkpoint.made_at IS 'When it was made.';
COMMENT ON COLUMN tenancy.checkpoint.block IS 'The newest row of tenancy.block then.';
COMMENT ON COLUMN tenancy.checkpoint.block_hash IS 'Hash of that block.';
COMMENT ON COLUMN tenancy.checkpoint.heads IS 'How many organizations had sealed events.';
COMMENT ON COLUMN tenancy.checkpoint.heads_root IS 'Root of the Merkle tree over the heads of these, in the order of their ids.';
COMMENT ON COLUMN tenancy.checkpoint.prev_digest IS 'Digest of the checkpoint before it, of whatever incarnation; NULL in the first one.';
COMMENT ON COLUMN tenancy.checkpoint.digest IS 'SHA-256 over the columns before: its entry in the signed log.';
COMMENT ON COLUMN tenancy.checkpoint.root IS 'Root of the Merkle tree over the entries of its incarnation up to this one: what is signed.';
COMMENT ON COLUMN tenancy.checkpoint.frontier IS 'The roots of the perfect subtrees that this tree is made of, largest first, 32 bytes each.';
COMMENT ON COLUMN tenancy.checkpoint.origin IS 'Name of the signed log: tenancy.checkpoint_origin, or the name of the key, a slash, and the incarnation.';
COMMENT ON COLUMN tenancy.checkpoint.note IS 'The signed note (c2sp.org/tlog-checkpoint): origin, number, root, and a signature by each key in use.';

SELECT pg_extension_config_dump('tenancy.signing_key', '');
SELECT pg_extension_config_dump('tenancy.checkpoint', '');
SELECT tenancy.keep_append_only('tenancy.checkpoint');

CREATE FUNCTION tenancy.keep_signing_key() RETURNS trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- That it was retired, and nothing else, and once.
    IF tg_op = 'UPDATE' AND old.retired_at IS NULL AND new.retired_at IS NOT NULL
       AND (old.epoch, old.name, old.key_id, old.public_key, old.first_used_at, old.first_incarnation, old.first_checkpoint)
         = (new.epoch, new.name, new.key_id, new.public_key, new.first_used_at, new.first_incarnation, new.first_checkpoint) THEN
        RETURN new;
    END IF;
    RAISE EXCEPTION '% of tenancy.% is refused: the audit is append-only', tg_op, tg_table_name
        USING ERRCODE = 'insufficient_privilege',
              HINT = 'A key that is taken out of tenancy.signing_key_file is retired with the next checkpoint.';
END
$$;
COMMENT ON FUNCTION tenancy.keep_signing_key() IS 'Trigger that refuses every change of a signing key but its retirement, to superusers too. Raises 42501.';

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON tenancy.signing_key
    FOR EACH ROW EXECUTE FUNCTION tenancy.keep_signing_key();
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON tenancy.signing_key
    FOR EACH STATEMENT EXECUTE FUNCTION tenancy.refuse_change();
CREATE TRIGGER audit_row AFTER INSERT OR UPDATE OR DELETE ON tenancy.signing_key
    FOR EACH ROW EXECUTE FUNCTION tenancy.audit_row('', 'audit');
ALTER TABLE tenancy.signing_key ENABLE ALWAYS TRIGGER append_only, ENABLE ALWAYS TRIGGER append_only_truncate, ENABLE ALWAYS TRIGGER audit_row;
COMMENT ON TRIGGER append_only ON tenancy.signing_key IS 'Refuses DELETE, and UPDATE but for the retirement of a key.';
COMMENT ON TRIGGER append_only_truncate ON tenancy.signing_key IS 'Refuses TRUNCATE.';
COMMENT ON TRIGGER audit_row ON tenancy.signing_key IS 'Writes the event of the change.';

CREATE FUNCTION tenancy.checkpoint() RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_checkpoint_wrapper';
COMMENT ON FUNCTION tenancy.checkpoint() IS
'Seals what has committed, and at the commit signs a checkpoint over the heads of all organizations with the keys of tenancy.signing_key_file or
tenancy.signing_key_command. Returns its number; the number of the last one where nothing is new since, 0 where nothing was ever sealed. The
row of tenancy.checkpoint is there after the commit, and not before: then NOTIFY tenancy_checkpoint and the file in tenancy.checkpoint_directory
hand it out. Raises F0000 without a usable key, 55000 if a checkpoint of that number was handed out by another history.';

CREATE VIEW tenancy.checkpoint_status WITH (security_invoker = true) AS
SELECT c.incarnation, c.number, c.made_at, now() - c.made_at AS age, c.block AS checkpointed_block, b.number AS sealed_block,
       (SELECT coalesce(sum(n.events), 0)::bigint FROM tenancy.block n WHERE n.number > coalesce(c.block, 0)) AS uncheckpointed_events,
       (SELECT count(*) FROM tenancy.event e
         WHERE e.transaction >= coalesce(pg_snapshot_xmin(b.snapshot), '0'::xid8)
           AND (b.snapshot IS NULL OR NOT pg_visible_in_snapshot(e.transaction, b.snapshot))) AS unsealed_events
  FROM (VALUES (1)) AS one (row)
  LEFT JOIN LATERAL (SELECT * FROM tenancy.checkpoint ORDER BY block DESC, number DESC LIMIT 1) c ON true
  LEFT JOIN LATERAL (SELECT * FROM tenancy.block ORDER BY number DESC LIMIT 1) b ON true;
COMMENT ON VIEW tenancy.checkpoint_status IS 'One row for monitoring: the newest checkpoint and its age, the events sealed since, and the committed events that are not sealed yet.';

-- Proofs (RFC 9162 section 2.1), for whoever holds a root: an earlier checkpoint, or a head out of one.

CREATE FUNCTION tenancy.inclusion_proof(organization uuid, "position" bigint, size bigint DEFAULT NULL) RETURNS bytea[]
    LANGUAGE c STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_inclusion_proof_wrapper';
COMMENT ON FUNCTION tenancy.inclusion_proof(uuid, bigint, bigint) IS
'The proof that the event at this position is in the organization''s tree of so many events, NULL for all that are sealed:
the hashes beside the way from the leaf to the root. Reads a few hundred rows at most, however long the history is.';

CREATE FUNCTION tenancy.consistency_proof(organization uuid, old_size bigint, new_size bigint DEFAULT NULL) RETURNS bytea[]
    LANGUAGE c STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_consistency_proof_wrapper';
COMMENT ON FUNCTION tenancy.consistency_proof(uuid, bigint, bigint) IS
'The proof that the organization''s tree of new_size events (NULL for all that are sealed) begins with the one of old_size.';

CREATE FUNCTION tenancy.tree_root(organization uuid, size bigint DEFAULT NULL) RETURNS bytea
    LANGUAGE c STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_tree_root_wrapper';
COMMENT ON FUNCTION tenancy.tree_root(uuid, bigint) IS
'The root of the organization''s tree over its first events, so many as size says (NULL for all that are sealed).';

CREATE FUNCTION tenancy.checkpoint_inclusion_proof(number bigint, size bigint DEFAULT NULL, incarnation text DEFAULT NULL) RETURNS bytea[]
    LANGUAGE c STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_checkpoint_inclusion_proof_wrapper';
COMMENT ON FUNCTION tenancy.checkpoint_inclusion_proof(bigint, bigint, text) IS
'The proof that the checkpoint of this number is in the signed log of so many, which is the checkpoint of that number (NULL for the newest one), of
an incarnation (NULL for the newest one).';

CREATE FUNCTION tenancy.checkpoint_consistency_proof(old_size bigint, new_size bigint DEFAULT NULL, incarnation text DEFAULT NULL) RETURNS bytea[]
    LANGUAGE c STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_checkpoint_consistency_proof_wrapper';
COMMENT ON FUNCTION tenancy.checkpoint_consistency_proof(bigint, bigint, text) IS
'The proof that the signed log at checkpoint new_size (NULL for the newest one) continues the one at checkpoint old_size: what a witness asks
for. Of an incarnation (NULL for the newest one).';

CREATE FUNCTION tenancy.head_proof(organization uuid, checkpoint bigint DEFAULT NULL, incarnation text DEFAULT NULL)
    RETURNS TABLE ("position" bigint, chain bytea, root bytea, digest bytea, place bigint, heads bigint, proof bytea[])
    LANGUAGE c STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_head_proof_wrapper';
COMMENT ON FUNCTION tenancy.head_proof(uuid, bigint, text) IS
'Where the organization stood at a checkpoint (NULL for the newest one): position, chain value and root of its tree, the digest of these, and the proof
that this digest is at that place among the heads of the checkpoint''s heads_root. Nothing of another organization is in it but hashes. No
row if the organization had no sealed event then.';

CREATE FUNCTION tenancy.verify_inclusion(digest bytea, "position" bigint, size bigint, proof bytea[], root bytea) RETURNS boolean
    LANGUAGE c IMMUTABLE PARALLEL SAFE STRICT AS 'MODULE_PATHNAME', 'tenancy_verify_inclusion_wrapper';
COMMENT ON FUNCTION tenancy.verify_inclusion(bytea, bigint, bigint, bytea[], bytea) IS
'True if the proof shows that digest (the hash of an event, the digest of a head or of a checkpoint) is at this position, from 1, of the tree of this size and
root. Reads nothing.';

CREATE FUNCTION tenancy.verify_consistency(old_size bigint, old_root bytea, new_size bigint, new_root bytea, proof bytea[]) RETURNS boolean
    LANGUAGE c IMMUTABLE PARALLEL SAFE STRICT AS 'MODULE_PATHNAME', 'tenancy_verify_consistency_wrapper';
COMMENT ON FUNCTION tenancy.verify_consistency(bigint, bytea, bigint, bytea, bytea[]) IS
'True if the proof shows that the tree of new_size and new_root begins with the one of old_size and old_root. Reads nothing.';
