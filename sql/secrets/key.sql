-- Keys of secrets: which key-encryption keys there are outside of the database, and the data keys of organizations,
-- wrapped under them. Code: src/secrets/. Format: docs/secret-format.md.
-- The library reads both tables by the order of their columns.

CREATE TABLE tenancy.key_encryption_key (
    id text COLLATE "C" PRIMARY KEY CHECK (id ~ '^[a-z0-9][a-z0-9._-]{0,63}$'),
    provider text COLLATE "C" NOT NULL CHECK (provider IN ('ring', 'command')),
    state text COLLATE "C" NOT NULL CHECK (state IN ('enabled', 'draining', 'retired')),
    is_current boolean NOT NULL,
    canary bytea NOT NULL,
    canary_digest bytea NOT NULL CHECK (octet_length(canary_digest) = 32),
    created_at timestamptz NOT NULL,
    created_by text NOT NULL,
    reason text NOT NULL,
    retired_at timestamptz,
    CHECK (NOT is_current OR state = 'enabled'),
    CHECK ((state = 'retired') = (retired_at IS NOT NULL))
);
CREATE UNIQUE INDEX key_encryption_key_current_idx ON tenancy.key_encryption_key (is_current) WHERE is_current;
COMMENT ON TABLE tenancy.key_encryption_key IS
'Key-encryption keys, which are outside of the database. Data keys are wrapped under them. Written by
tenancy.add_key_encryption_key. The table does not hold the keys.';
COMMENT ON COLUMN tenancy.key_encryption_key.id IS 'Id of the key in the ring, or of the key of a service.';
COMMENT ON COLUMN tenancy.key_encryption_key.provider IS
'ring: the key comes from tenancy.secret_key_file or tenancy.secret_key_command. command: a service has the key, and
tenancy.key_wrap_command asks it.';
COMMENT ON COLUMN tenancy.key_encryption_key.state IS
'enabled; draining: another key was made current, so no new data key is wrapped under it; retired: never used again.';
COMMENT ON COLUMN tenancy.key_encryption_key.is_current IS
'Whether new data keys are wrapped under it. At most one key is current.';
COMMENT ON COLUMN tenancy.key_encryption_key.canary IS
'32 random bytes, wrapped under the key when it was registered. They show whether the key is still the same.';
COMMENT ON COLUMN tenancy.key_encryption_key.canary_digest IS 'SHA-256 of the 32 bytes.';
COMMENT ON COLUMN tenancy.key_encryption_key.created_at IS 'When the key was registered.';
COMMENT ON COLUMN tenancy.key_encryption_key.created_by IS 'The database role that logged in.';
COMMENT ON COLUMN tenancy.key_encryption_key.reason IS 'Why the key was registered.';
COMMENT ON COLUMN tenancy.key_encryption_key.retired_at IS 'When the key was retired; NULL before.';

CREATE TABLE tenancy.data_key (
    id uuid PRIMARY KEY,
    organization uuid NOT NULL REFERENCES tenancy.organization,
    purpose text COLLATE "C" NOT NULL CHECK (purpose IN ('seal', 'fingerprint', 'recipient')),
    key_encryption_key text COLLATE "C" NOT NULL REFERENCES tenancy.key_encryption_key,
    key_version text COLLATE "C",
    wrapped bytea,
    state text COLLATE "C" NOT NULL CHECK (state IN ('current', 'old', 'destroyed')),
    created_at timestamptz NOT NULL,
    wrapped_at timestamptz NOT NULL,
    CHECK ((state = 'destroyed') = (wrapped IS NULL))
);
CREATE UNIQUE INDEX data_key_current_idx ON tenancy.data_key (organization, purpose) WHERE state = 'current';
CREATE INDEX data_key_key_encryption_key_idx ON tenancy.data_key (key_encryption_key, id);
COMMENT ON TABLE tenancy.data_key IS
'Data keys of organizations, wrapped under key-encryption keys. Written by tenancy.rotate_data_key. No role may read
the table.';
COMMENT ON COLUMN tenancy.data_key.id IS 'Id of the key. Sealed values name it.';
COMMENT ON COLUMN tenancy.data_key.organization IS 'The organization whose values the key seals.';
COMMENT ON COLUMN tenancy.data_key.purpose IS
'seal: the keys of values are derived from it. fingerprint: it tells that two values are the same.
recipient: values are sealed to its public key before they are sent.';
COMMENT ON COLUMN tenancy.data_key.key_encryption_key IS 'The key that it is wrapped under.';
COMMENT ON COLUMN tenancy.data_key.key_version IS
'The version of the service''s key that it is wrapped under; NULL for the provider ring and for services without
versions.';
COMMENT ON COLUMN tenancy.data_key.wrapped IS 'The wrapped key; NULL once it is destroyed.';
COMMENT ON COLUMN tenancy.data_key.state IS
'current: new values are sealed with it; old: it opens values that it has sealed; destroyed.';
COMMENT ON COLUMN tenancy.data_key.created_at IS 'When the key was made.';
COMMENT ON COLUMN tenancy.data_key.wrapped_at IS 'When the key was last wrapped.';

CREATE TABLE tenancy.rewrap_run (
    id uuid PRIMARY KEY,
    key text COLLATE "C",
    started_at timestamptz NOT NULL,
    total bigint NOT NULL,
    done bigint NOT NULL,
    failed bigint NOT NULL,
    batches bigint NOT NULL,
    finished_at timestamptz
);
COMMENT ON TABLE tenancy.rewrap_run IS 'Runs of tenancy.rewrap_data_keys. See tenancy.rewrap_progress.';
COMMENT ON COLUMN tenancy.rewrap_run.id IS 'Id of the run. Later runs have higher ids.';
COMMENT ON COLUMN tenancy.rewrap_run.key IS 'The key-encryption key that was named; NULL for the current one.';
COMMENT ON COLUMN tenancy.rewrap_run.started_at IS 'When the run began.';
COMMENT ON COLUMN tenancy.rewrap_run.total IS 'How many data keys were to be wrapped at the beginning.';
COMMENT ON COLUMN tenancy.rewrap_run.done IS 'How many were wrapped.';
COMMENT ON COLUMN tenancy.rewrap_run.failed IS 'How many did not unwrap, and stay as they are.';
COMMENT ON COLUMN tenancy.rewrap_run.batches IS 'How many batches were committed.';
COMMENT ON COLUMN tenancy.rewrap_run.finished_at IS
'When the run ended, or when the next run found that it had ended halfway; NULL before.';

SELECT pg_extension_config_dump('tenancy.rewrap_run', '');
SELECT pg_extension_config_dump('tenancy.key_encryption_key', '');
SELECT pg_extension_config_dump('tenancy.data_key', '');

CREATE FUNCTION tenancy.keep_secret_keys() RETURNS trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_keep_secret_keys';
COMMENT ON FUNCTION tenancy.keep_secret_keys() IS
'Trigger function of the tables of keys and secrets: refuses every change that does not come from a function of the
extension or from the restore of a dump, to superusers too. Raises 42501.';

DO $$
DECLARE
    kept text;
BEGIN
    FOREACH kept IN ARRAY ARRAY['key_encryption_key', 'data_key', 'rewrap_run'] LOOP
        EXECUTE format(
            'CREATE TRIGGER keep_secret_keys BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON tenancy.%I
                 FOR EACH STATEMENT EXECUTE FUNCTION tenancy.keep_secret_keys()', kept);
        EXECUTE format('ALTER TABLE tenancy.%I ENABLE ALWAYS TRIGGER keep_secret_keys', kept);
        EXECUTE format('COMMENT ON TRIGGER keep_secret_keys ON tenancy.%I IS
            ''Refuses changes that do not come from the extension.''', kept);
        EXECUTE format('ALTER TABLE tenancy.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', kept);
    END LOOP;
END
$$;
CREATE POLICY custodians ON tenancy.key_encryption_key FOR SELECT TO tenancy_custodian, tenancy_auditor USING (true);
CREATE POLICY custodians ON tenancy.rewrap_run FOR SELECT TO tenancy_custodian, tenancy_auditor USING (true);

CREATE FUNCTION tenancy.add_key_encryption_key(id text, reason text, provider text DEFAULT 'ring') RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_add_key_encryption_key_wrapper';
COMMENT ON FUNCTION tenancy.add_key_encryption_key(text, text, text) IS
'Registers a key-encryption key, which exists outside of the database already. The function wraps random bytes under
the key and unwraps them again, so a key that does not work is not registered. The key does not become current.

- id: 1 to 64 characters a-z, 0-9, . _ -, the first a letter or a digit.
- reason: At most 1000 bytes. It is stored and audited.
- provider: ring for a key of tenancy.secret_key_file or tenancy.secret_key_command, command for a key that
  tenancy.key_wrap_command can use.

Raises 23505 (key_exists) for an id that is registered, also of a retired key. Raises F0000 (secret_key_missing,
secret_key_invalid, key_command_failed) for a key that cannot be used, 22023 and 22004 for an argument that cannot be,
25006 in a read-only transaction or on a standby.';

CREATE FUNCTION tenancy.set_current_key_encryption_key(id text, reason text) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_set_current_key_encryption_key_wrapper';
COMMENT ON FUNCTION tenancy.set_current_key_encryption_key(text, text) IS
'Makes a registered key-encryption key the current one: new data keys are wrapped under it. The other keys become
draining. The function tries the key first. It does nothing if the key is current already.

Raises 42704 for a key that is not registered, 55000 (key_state) for a retired one. Raises F0000 (secret_key_missing,
secret_key_wrong, secret_key_invalid, key_command_failed) for a key that cannot be used.';

CREATE FUNCTION tenancy.retire_key_encryption_key(id text, reason text) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_retire_key_encryption_key_wrapper';
COMMENT ON FUNCTION tenancy.retire_key_encryption_key(text, text) IS
'Retires a key-encryption key. A retired key is never used again, and its id is not free again. The key itself need
not be available any more.

Raises 55000 (key_in_use) for the current key and for a key that data keys are wrapped under; the message says how
many. Raises 55000 (key_state) for a key that is retired already, 42704 for a key that is not registered.';

CREATE FUNCTION tenancy.key_status()
    RETURNS TABLE (id text, provider text, state text, is_current boolean, data_keys bigint, behind bigint,
                   oldest_wrapped_at timestamptz, available text, detail text)
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_key_status_wrapper';
COMMENT ON FUNCTION tenancy.key_status() IS
'Lists the key-encryption keys, and tries each that is not retired: it unwraps the bytes that were wrapped when the key
was registered.

- data_keys: How many data keys are wrapped under the key.
- behind: How many of them are wrapped under another version of the service''s key than it uses now; 0 for the
  provider ring.
- oldest_wrapped_at: When the oldest of them was wrapped.
- available: yes; missing: the key is not in the ring; wrong: a key has this id and is another one; failed: the key
  cannot be read, its command failed, or the row was altered. NULL for a retired key.
- detail: The reason.

For the provider command it runs tenancy.key_wrap_command, for 10 seconds at most for each key. It contains no key and
no output of a command.';

CREATE FUNCTION tenancy.rotate_data_key(organization uuid, reason text) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_rotate_data_key_wrapper';
COMMENT ON FUNCTION tenancy.rotate_data_key(uuid, text) IS
'Makes a new data key for an organization, wrapped under the current key-encryption key, and returns its id. The data
key before it becomes old: it still opens what it has sealed. It must open, so that this can be sealed anew. An
organization without keys gets a data key and a key for fingerprints, which rotations leave as it is.

Raises 42704 for an unknown organization, 55000 (key_not_chosen) if no key-encryption key is current. Raises F0000
(secret_key_missing, secret_key_wrong, secret_key_invalid, key_command_failed) if a key cannot be used, XX001
(secret_altered) if the row of the data key was altered.';

CREATE FUNCTION tenancy.forget_keys() RETURNS integer
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_forget_keys_wrapper';
COMMENT ON FUNCTION tenancy.forget_keys() IS
'Deletes every key from the memory of this session, and returns how many data keys there were. The next use reads
them anew.';

-- The library locks the view, so that one session at a time wraps.
CREATE VIEW tenancy.rewrap_progress WITH (security_invoker = true) AS
SELECT r.done, greatest(r.total - r.done - r.failed, 0) AS "left", r.failed, r.started_at AS since, r.batches AS batch,
       r.finished_at
  FROM tenancy.rewrap_run r
 ORDER BY r.id DESC LIMIT 1;
COMMENT ON VIEW tenancy.rewrap_progress IS
'The newest run of tenancy.rewrap_data_keys. The columns are done, left and failed (numbers of data keys), since (when
the run began), batch (how many were committed) and finished_at. While a run goes on finished_at is NULL; so it is for a
run that ended halfway, until the next one begins.';

CREATE FUNCTION tenancy.begin_rewrap(batch_size integer, key text) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_begin_rewrap_wrapper';
CREATE FUNCTION tenancy.rewrap_batch() RETURNS boolean
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_rewrap_batch_wrapper';
CREATE FUNCTION tenancy.end_rewrap() RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_end_rewrap_wrapper';
COMMENT ON FUNCTION tenancy.begin_rewrap(integer, text) IS
'Internal: begins a run of tenancy.rewrap_data_keys. A transaction that is rolled back ends the run.';
COMMENT ON FUNCTION tenancy.rewrap_batch() IS
'Internal: wraps a batch of data keys. Returns true if there may be another one.';
COMMENT ON FUNCTION tenancy.end_rewrap() IS
'Internal: ends a run and writes its event, of the operation rewrap.';

CREATE PROCEDURE tenancy.rewrap_data_keys(batch_size integer DEFAULT 1000, key text DEFAULT NULL)
    LANGUAGE plpgsql AS $$
BEGIN
    PERFORM tenancy.begin_rewrap(batch_size, key);
    COMMIT;
    WHILE tenancy.rewrap_batch() LOOP
        COMMIT;
    END LOOP;
    COMMIT;
    PERFORM tenancy.end_rewrap();
END
$$;
COMMENT ON PROCEDURE tenancy.rewrap_data_keys(integer, text) IS
'Wraps each data key under the current key-encryption key that is under another one, or under another version of the
service''s key. Values are not touched. It commits after each batch, and cannot run within a transaction. One session at
a time can run it. After an error or a crash, call it again: it goes on with what is left. tenancy.rewrap_progress shows
how far it is.

- batch_size: 1 to 1000 data keys. A command has 10 seconds for each batch.
- key: Id of the key-encryption key to wrap under; NULL for the current one.

A data key that does not unwrap stays as it is. It is counted as failed, and the procedure ends with a warning. Raises
55P03 (rewrap_runs) while another session runs it. Raises F0000 (secret_key_missing, secret_key_wrong,
secret_key_invalid, key_command_failed) if a key-encryption key cannot be used, 42704 for a key that is not registered,
55000 for a retired one (key_state) or if none is current (key_not_chosen), 22023 for another batch_size.';
