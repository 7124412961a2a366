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
COMMENT ON TABLE tenancy.verification IS
'Runs of tenancy.verify_audit over all organizations without findings. The next run continues after the highest block.
A superuser can write here, so rely on a verification of the whole history and not on this table.';
COMMENT ON COLUMN tenancy.verification.block IS 'The last block that was verified.';
COMMENT ON COLUMN tenancy.verification.verified_at IS 'When the blocks were verified.';
COMMENT ON COLUMN tenancy.verification.verified_by IS 'The database role that logged in.';
COMMENT ON COLUMN tenancy.verification.first_block IS 'The first block that was verified; 1 if the whole history was.';
COMMENT ON COLUMN tenancy.verification.events IS 'Number of events that were verified.';
COMMENT ON COLUMN tenancy.verification.processes IS 'Number of processes that shared the work.';
COMMENT ON COLUMN tenancy.verification.block_hash IS 'Hash of the last block.';
COMMENT ON COLUMN tenancy.verification.heads IS 'Number of organizations with events up to the last block.';
COMMENT ON COLUMN tenancy.verification.heads_root IS 'Root of the tree over their heads, as in a checkpoint.';

SELECT pg_extension_config_dump('tenancy.verification', '');
SELECT tenancy.keep_append_only('tenancy.verification');

CREATE FUNCTION tenancy.verify_audit(organization uuid DEFAULT NULL, whole boolean DEFAULT false, first_block bigint
    DEFAULT NULL, last_block bigint DEFAULT NULL, workers integer DEFAULT NULL)
    RETURNS TABLE (finding text, organization_id uuid, "position" bigint, block bigint, event uuid, table_name text,
        row_key json, explanation text)
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_verify_audit_wrapper';
COMMENT ON FUNCTION tenancy.verify_audit(uuid, boolean, bigint, bigint, integer) IS
'Recomputes the hashes of the stored events, chains, trees and blocks, and returns a row for each finding. No row: the
history is intact. Before, it seals the events of committed transactions, unless the transaction is read-only, as on
a standby.

- organization: One organization. NULL: all organizations, and the blocks that connect them.
- whole: true: everything from the first block on. false: from the end of the last run without findings.
- first_block, last_block: Only these blocks. Not together with whole.
- workers: Number of parallel workers at most, 0 to 1024. NULL: max_parallel_maintenance_workers.

The findings are, for an event, its actor or payload, an entry, a head, a node or a block:

- altered: It differs from what was written.
- missing: It does not exist, and its successor does.
- reordered: It is at another position than the one where it was sealed.
- inserted: It is at a position where nothing was written.
- truncated: It does not exist, and nothing follows.
- forked: It follows from another history than its predecessor.

The result has 10,000 findings at most, then a row with the number of further ones. A finding about a whole block has
no organization. A run over all organizations without findings is recorded in tenancy.verification, and the next run
continues there. Only a run with whole => true finds changes before that point.

A run over all organizations also compares the stored checkpoints of these blocks: their signatures, the keys in
tenancy.signing_key, the trees over heads with the heads that moved, and the newest one with all heads.

Raises 22004 for a NULL whole, 22023 for an invalid range or number of workers.';

CREATE FUNCTION tenancy.verify_checkpoint(note text, public_key text, workers integer DEFAULT NULL)
    RETURNS TABLE (finding text, organization_id uuid, "position" bigint, block bigint, event uuid, table_name text,
        row_key json, explanation text)
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_verify_checkpoint_wrapper';
COMMENT ON FUNCTION tenancy.verify_checkpoint(text, text, integer) IS
'Verifies that the database still has the history that a checkpoint was signed over. It recomputes the checkpoints up
to that one, and the events, chains, trees and blocks up to its block. No row: the history is intact.

- note, public_key: The checkpoint and the key, as you keep them outside of the database.
- workers: As in tenancy.verify_audit.

Findings: forked if the database has other checkpoints than the signed ones, truncated if it has fewer, otherwise as
tenancy.verify_audit. Raises 22023 for a note that the key has not signed.';

CREATE FUNCTION tenancy.verify_progress(OUT pid integer, OUT user_id oid, OUT phase text, OUT blocks_total bigint, OUT
    blocks_done bigint, OUT events_total bigint, OUT events_done bigint, OUT findings bigint, OUT processes bigint)
        RETURNS SETOF record
    LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tenancy_verify_progress_wrapper';
COMMENT ON FUNCTION tenancy.verify_progress() IS
'Returns the rows of the view tenancy.verify_progress, with the oid of the user.';

CREATE VIEW tenancy.verify_progress WITH (security_invoker = true) AS
SELECT p.pid, r.rolname AS user_name, p.phase, p.blocks_total, p.blocks_done, p.events_total, p.events_done, p.findings,
    p.processes
  FROM tenancy.verify_progress() p LEFT JOIN pg_roles r ON r.oid = p.user_id;
COMMENT ON VIEW tenancy.verify_progress IS
'The verifications that run in this database, one row each, like pg_stat_progress_vacuum for VACUUM. For
tenancy_auditor and tenancy_admin. The columns are pid, user_name, phase (sealing, preparing, verifying blocks,
looking for rows outside of all blocks, opening secrets), blocks_total, blocks_done, events_total, events_done,
findings and processes. For a verification of one organization, blocks are those with its events.';
