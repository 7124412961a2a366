-- Whether what is stored is what happened. Code: src/audit/verification/.

CREATE TABLE tenancy.verification (
    block bigint NOT NULL,
    verified_at timestamptz NOT NULL,
    verified_by text NOT NULL,
    first_block bigint NOT NULL,
    events bigint NOT NULL,
    processes bigint NOT NULL,
    block_hash bytea NOT NULL CHECK (octet_length(block_hash) = 32),
    heads bigint NOT NULL,
    heads_root bytea NOT NULL CHECK (octet_length(heads_root) = 32),
    PRIMARY KEY (block, verified_at)
);
COMMENT ON TABLE tenancy.verification IS 'Runs of tenancy.verify_audit over all organizations that found nothing: the next one goes on from the greatest block. A superuser can write here too, so believe a whole verification and not this table.';
COMMENT ON COLUMN tenancy.verification.block IS 'The last block that was verified.';
COMMENT ON COLUMN tenancy.verification.verified_at IS 'When.';
COMMENT ON COLUMN tenancy.verification.verified_by IS 'The database role that logged in.';
COMMENT ON COLUMN tenancy.verification.first_block IS 'The first block that was verified: 1 where it was the whole.';
COMMENT ON COLUMN tenancy.verification.events IS 'How many events were verified.';
COMMENT ON COLUMN tenancy.verification.processes IS 'How many processes shared the work.';
COMMENT ON COLUMN tenancy.verification.block_hash IS 'Hash of the last block.';
COMMENT ON COLUMN tenancy.verification.heads IS 'How many organizations had events by then.';
COMMENT ON COLUMN tenancy.verification.heads_root IS 'Root of the tree over where they stood, as a checkpoint has it.';

SELECT pg_extension_config_dump('tenancy.verification', '');
SELECT tenancy.keep_append_only('tenancy.verification');

CREATE FUNCTION tenancy.verify_audit(organization uuid DEFAULT NULL, whole boolean DEFAULT false, first_block bigint DEFAULT NULL, last_block bigint DEFAULT NULL, workers integer DEFAULT NULL)
    RETURNS TABLE (finding text, organization_id uuid, "position" bigint, block bigint, event uuid, table_name text, row_key json, explanation text)
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_verify_audit_wrapper';
COMMENT ON FUNCTION tenancy.verify_audit(uuid, boolean, bigint, bigint, integer) IS
'Seals what has committed (unless the transaction is read-only), then recomputes the hashes of the stored events, chains, trees and blocks: of those
since the last verification (tenancy.verification), with whole => true of all, or of the blocks from first_block to last_block; of one organization or
of all; with so many parallel workers at most (by default max_parallel_maintenance_workers). Returns a row for each thing that does not fit, none when all is well: altered (it is not what was written), missing (it is gone, and what came
after it is there), reordered (it stands at another place than it was sealed at), inserted (it stands where nothing was written), truncated (it is gone
and nothing comes after it), forked (it follows from another history than the one before it). What was changed before the last verification only a whole one finds. Of all organizations, the
stored checkpoints are compared too.';

CREATE FUNCTION tenancy.verify_checkpoint(note text, public_key text, workers integer DEFAULT NULL)
    RETURNS TABLE (finding text, organization_id uuid, "position" bigint, block bigint, event uuid, table_name text, row_key json, explanation text)
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_verify_checkpoint_wrapper';
COMMENT ON FUNCTION tenancy.verify_checkpoint(text, text, integer) IS
'Whether the database still holds the history that a checkpoint was signed over: recomputes the checkpoints up to it and everything up to its block,
and compares with the note, which you kept elsewhere, as with the public key. No row: it does. Otherwise rows as of tenancy.verify_audit. Raises 22023 for
a note that the key has not signed.';

CREATE FUNCTION tenancy.verify_progress(OUT pid integer, OUT user_id oid, OUT phase text, OUT blocks_total bigint, OUT blocks_done bigint, OUT events_total bigint, OUT events_done bigint, OUT findings bigint, OUT processes bigint) RETURNS SETOF record
    LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tenancy_verify_progress_wrapper';
COMMENT ON FUNCTION tenancy.verify_progress() IS 'What the view tenancy.verify_progress shows.';

CREATE VIEW tenancy.verify_progress WITH (security_invoker = true) AS
SELECT p.pid, r.rolname AS user_name, p.phase, p.blocks_total, p.blocks_done, p.events_total, p.events_done, p.findings, p.processes
  FROM tenancy.verify_progress() p LEFT JOIN pg_roles r ON r.oid = p.user_id;
COMMENT ON VIEW tenancy.verify_progress IS 'The verifications that run in this database at the moment, as pg_stat_progress_vacuum shows those of VACUUM. Of one organization, blocks are those that it has events in.';
