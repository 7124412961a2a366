-- The index over the hashes of row keys. Code: src/audit/history/row_index.rs, core/src/audit/history/row_index.rs.

-- Made of tenancy.event_batch, so it is in no dump: where it is missing, the sealer makes it.
CREATE TABLE tenancy.row_index (
    first_block bigint NOT NULL,
    part integer NOT NULL,
    parts integer NOT NULL,
    last_block bigint NOT NULL,
    level smallint NOT NULL,
    first_interval bigint NOT NULL,
    shift smallint NOT NULL,
    entries bytea NOT NULL,
    PRIMARY KEY (first_block, part)
);
-- Pieces are read, which a compressed value has none of.
ALTER TABLE tenancy.row_index ALTER COLUMN entries SET STORAGE EXTERNAL;
-- Without a policy: the library reads it below SQL, and it has hashes of all organizations' keys.
ALTER TABLE tenancy.row_index ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
COMMENT ON TABLE tenancy.row_index IS
'The index by which tenancy.row_history, tenancy.row_as_of and tenancy.erase_row_payloads find the events of a row:
runs over ranges of blocks. Derived from tenancy.event_batch and written by tenancy.seal(), which also merges runs.
Blocks without a run are read in full. tenancy.verify_audit compares runs and batches; tenancy.rebuild_row_index()
makes all runs anew. For superusers only.';
COMMENT ON COLUMN tenancy.row_index.first_block IS 'The first block that the run covers.';
COMMENT ON COLUMN tenancy.row_index.part IS 'The part of the hashes, from 0.';
COMMENT ON COLUMN tenancy.row_index.parts IS
'Number of parts of equal size into which the hashes of these blocks are cut. 1, but for a large block.';
COMMENT ON COLUMN tenancy.row_index.last_block IS 'The last block that the run covers.';
COMMENT ON COLUMN tenancy.row_index.level IS 'How often the run was merged, or how large it is. Runs of a level are merged.';
COMMENT ON COLUMN tenancy.row_index.first_interval IS
'Number of the first interval of time. An interval has 2 to the power of shift units of 2^-12 milliseconds since 1970.';
COMMENT ON COLUMN tenancy.row_index.shift IS 'The length of the intervals.';
COMMENT ON COLUMN tenancy.row_index.entries IS
'Entries of 8 bytes in ascending order: a hash of tenancy.event_batch.row_hashes, and the number of the interval in
which the id of the batch was made, from first_interval.';

CREATE FUNCTION tenancy.rebuild_row_index() RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_rebuild_row_index_wrapper';
COMMENT ON FUNCTION tenancy.rebuild_row_index() IS
'Makes tenancy.row_index anew from the stored batches. Returns its number of entries. Call it after a finding of
tenancy.verify_audit about tenancy.row_index. Nobody who writes events waits for it; tenancy.seal() does. It reads the
sealed batches of all months that are in the database. Raises 25006 in a read-only transaction or on a standby.';
