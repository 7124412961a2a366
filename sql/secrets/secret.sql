-- Secrets of organizations: credentials that they handed over, their versions, and the values, which are sealed under
-- keys that the database does not have. Code: src/secrets/. Format: docs/secret-format.md.
-- The library reads and writes secret, secret_version and sealed_value by the order of their columns.

CREATE TABLE tenancy.secret_kind (
    name text COLLATE "C" PRIMARY KEY CHECK (name ~ '^[a-z][a-z0-9_]{0,62}$'),
    members text[] NOT NULL,
    long_lived boolean NOT NULL,
    rotate_every interval NOT NULL CHECK (rotate_every > '0'),
    max_live_versions integer NOT NULL CHECK (max_live_versions BETWEEN 2 AND 100),
    health_max_age interval NOT NULL CHECK (health_max_age > '0'),
    health_required integer NOT NULL CHECK (health_required BETWEEN 1 AND 100),
    observe_for interval NOT NULL CHECK (observe_for >= '0')
);
COMMENT ON TABLE tenancy.secret_kind IS
'Kinds of secrets: what a value of the kind looks like, and the rules of its rotation where a secret has none of its
own. See tenancy.set_secret_policy.';
COMMENT ON COLUMN tenancy.secret_kind.name IS 'Name of the kind.';
COMMENT ON COLUMN tenancy.secret_kind.members IS
'Members that a value must have, which is a JSON object then; empty for a value of any text.';
COMMENT ON COLUMN tenancy.secret_kind.long_lived IS
'Whether a value is valid until somebody changes it. A kind that names a role or a federated identity is not.';
COMMENT ON COLUMN tenancy.secret_kind.rotate_every IS 'Age of a value at which its rotation is due.';
COMMENT ON COLUMN tenancy.secret_kind.max_live_versions IS
'The most versions that are not retired. AWS allows two access keys.';
COMMENT ON COLUMN tenancy.secret_kind.health_max_age IS 'Age up to which a health report counts.';
COMMENT ON COLUMN tenancy.secret_kind.health_required IS 'How many positive reports in a row verify a version.';
COMMENT ON COLUMN tenancy.secret_kind.observe_for IS
'How long the version before can come back after a promotion.';

INSERT INTO tenancy.secret_kind VALUES
    ('aws_role', '{role_arn}', false, '365 days', 2, '1 day', 1, '1 day'),
    ('aws_access_key', '{access_key_id,secret_access_key}', true, '90 days', 2, '1 hour', 1, '1 day'),
    ('azure_client_secret', '{tenant_id,client_id,client_secret}', true, '90 days', 2, '1 hour', 1, '1 day'),
    ('azure_federated', '{tenant_id,client_id}', false, '365 days', 2, '1 day', 1, '1 day'),
    ('gcp_service_account_key', '{client_email,private_key_id,private_key}', true, '90 days', 2, '1 hour', 1, '1 day'),
    ('gcp_workload_identity', '{audience,service_account}', false, '365 days', 2, '1 day', 1, '1 day'),
    ('api_token', '{}', true, '90 days', 2, '1 hour', 1, '1 day'),
    ('database_password', '{}', true, '90 days', 2, '1 hour', 1, '1 day'),
    ('opaque', '{}', true, '90 days', 2, '1 hour', 1, '1 day');

CREATE TABLE tenancy.secret (
    id uuid PRIMARY KEY,
    organization uuid NOT NULL REFERENCES tenancy.organization,
    name text COLLATE "C" NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 200),
    kind text COLLATE "C" NOT NULL REFERENCES tenancy.secret_kind,
    scope text COLLATE "C" NOT NULL CHECK (scope IN ('read_only', 'write')),
    domain text COLLATE "C" NOT NULL,
    owner_issuer text,
    owner_subject text NOT NULL,
    description text,
    rotate_every interval,
    max_live_versions integer,
    health_max_age interval,
    health_required integer,
    observe_for interval,
    created_at timestamptz NOT NULL,
    created_by text NOT NULL,
    destroyed_at timestamptz,
    -- As AWS takes it.
    external_id text COLLATE "C" UNIQUE
        CHECK (external_id ~ '^[A-Za-z0-9_+=,.@:/-]+$' AND octet_length(external_id) BETWEEN 2 AND 1224),
    UNIQUE (organization, name),
    CHECK ((kind = 'aws_role') = (external_id IS NOT NULL))
);
COMMENT ON TABLE tenancy.secret IS
'Secrets of organizations, without their values. Written by tenancy.put_secret and its like. Members read the secrets of
their organization in whose domain they have the permission read.';

CREATE TABLE tenancy.secret_version (
    secret uuid NOT NULL REFERENCES tenancy.secret,
    organization uuid NOT NULL,
    number integer NOT NULL CHECK (number > 0),
    state text COLLATE "C" NOT NULL
        CHECK (state IN ('announced', 'pending', 'verified', 'failed', 'current', 'previous', 'retired')),
    scope text COLLATE "C" NOT NULL CHECK (scope IN ('read_only', 'write')),
    data_key uuid REFERENCES tenancy.data_key,
    sealed_digest bytea CHECK (octet_length(sealed_digest) = 32),
    fingerprint bytea,
    provider_key_id text,
    expires_at timestamptz,
    announced_at timestamptz NOT NULL,
    valued_at timestamptz,
    verified_at timestamptz,
    promoted_at timestamptz,
    superseded_at timestamptz,
    failed_at timestamptz,
    retired_at timestamptz,
    PRIMARY KEY (secret, number),
    CHECK ((state = 'retired') = (retired_at IS NOT NULL)),
    CHECK (state <> 'announced' OR valued_at IS NULL)
);
CREATE UNIQUE INDEX secret_version_current_idx ON tenancy.secret_version (secret) WHERE state = 'current';
CREATE INDEX secret_version_data_key_idx ON tenancy.secret_version (data_key, secret, number);
CREATE INDEX secret_version_fingerprint_idx ON tenancy.secret_version (organization, fingerprint)
    WHERE state <> 'retired';

CREATE TABLE tenancy.sealed_value (
    secret uuid NOT NULL,
    number integer NOT NULL,
    sealed bytea NOT NULL,
    PRIMARY KEY (secret, number),
    FOREIGN KEY (secret, number) REFERENCES tenancy.secret_version
);
-- A compressed value would tell something of the plaintext by its length, and what is deleted is to be one tuple.
ALTER TABLE tenancy.sealed_value ALTER COLUMN sealed SET STORAGE EXTERNAL;
COMMENT ON TABLE tenancy.sealed_value IS
'Sealed values of versions, see docs/secret-format.md. No role may read the table. The value of a retired version is
deleted.';
COMMENT ON COLUMN tenancy.secret.id IS 'Time-ordered id (UUID version 7). It is authenticated with each value.';
COMMENT ON COLUMN tenancy.secret.organization IS 'The organization that handed the secret over.';
COMMENT ON COLUMN tenancy.secret.name IS 'Name of the secret within its organization, 1 to 200 bytes.';
COMMENT ON COLUMN tenancy.secret.kind IS 'What the values are, in tenancy.secret_kind.';
COMMENT ON COLUMN tenancy.secret.scope IS
'What the values allow at the provider: read_only, or write, which needs an approved action type.';
COMMENT ON COLUMN tenancy.secret.domain IS 'Domain of the permissions that functions ask for.';
COMMENT ON COLUMN tenancy.secret.owner_issuer IS 'Issuer of the owner. With owner_subject it names a member.';
COMMENT ON COLUMN tenancy.secret.owner_subject IS 'Subject of the owner: at first, who stored the secret.';
COMMENT ON COLUMN tenancy.secret.description IS 'Description for readers.';
COMMENT ON COLUMN tenancy.secret.rotate_every IS 'As in tenancy.secret_kind; NULL: as the kind has it.';
COMMENT ON COLUMN tenancy.secret.max_live_versions IS 'As in tenancy.secret_kind; NULL: as the kind has it.';
COMMENT ON COLUMN tenancy.secret.health_max_age IS 'As in tenancy.secret_kind; NULL: as the kind has it.';
COMMENT ON COLUMN tenancy.secret.health_required IS 'As in tenancy.secret_kind; NULL: as the kind has it.';
COMMENT ON COLUMN tenancy.secret.observe_for IS 'As in tenancy.secret_kind; NULL: as the kind has it.';
COMMENT ON COLUMN tenancy.secret.created_at IS 'When the secret was stored.';
COMMENT ON COLUMN tenancy.secret.created_by IS 'Subject of the context that stored it.';
COMMENT ON COLUMN tenancy.secret.destroyed_at IS 'When its values were deleted; NULL before.';
COMMENT ON COLUMN tenancy.secret.external_id IS
'What AWS calls the external id of a role, for the kind aws_role: see tenancy.external_id. It is no secret.';
COMMENT ON TABLE tenancy.secret_version IS
'Versions of secrets, without their values. Members read them as they read tenancy.secret.';
COMMENT ON COLUMN tenancy.secret_version.secret IS 'The secret, in tenancy.secret.';
COMMENT ON COLUMN tenancy.secret_version.organization IS 'The organization of the secret.';
COMMENT ON COLUMN tenancy.secret_version.number IS 'Number of the version, from 1. No number is used again.';
COMMENT ON COLUMN tenancy.secret_version.state IS
'announced: there is no value yet; pending: nothing proves that the value works; verified; failed: it does not work, or
was rolled back; current: it is handed out; previous: it was current before; retired: the value was deleted.';
COMMENT ON COLUMN tenancy.secret_version.scope IS 'Scope of the secret when the value came.';
COMMENT ON COLUMN tenancy.secret_version.data_key IS 'The key that the value is sealed under, in tenancy.data_key.';
COMMENT ON COLUMN tenancy.secret_version.sealed_digest IS 'SHA-256 of the sealed value. Events contain it.';
COMMENT ON COLUMN tenancy.secret_version.fingerprint IS
'Tells that two values of an organization are the same, and nothing else about them.';
COMMENT ON COLUMN tenancy.secret_version.provider_key_id IS 'Id of the credential at the provider.';
COMMENT ON COLUMN tenancy.secret_version.expires_at IS 'When the credential ends at the provider.';
COMMENT ON COLUMN tenancy.secret_version.announced_at IS 'When the version was made.';
COMMENT ON COLUMN tenancy.secret_version.valued_at IS 'When the value came.';
COMMENT ON COLUMN tenancy.secret_version.verified_at IS 'When health reports had proved the value.';
COMMENT ON COLUMN tenancy.secret_version.promoted_at IS 'When the version became current for the last time.';
COMMENT ON COLUMN tenancy.secret_version.superseded_at IS 'When another version became current.';
COMMENT ON COLUMN tenancy.secret_version.failed_at IS 'When the version failed.';
COMMENT ON COLUMN tenancy.secret_version.retired_at IS 'When the value was deleted.';
COMMENT ON COLUMN tenancy.sealed_value.secret IS 'The secret.';
COMMENT ON COLUMN tenancy.sealed_value.number IS 'Number of the version.';
COMMENT ON COLUMN tenancy.sealed_value.sealed IS 'The envelope.';

SELECT pg_extension_config_dump('tenancy.secret', '');
SELECT pg_extension_config_dump('tenancy.secret_version', '');
SELECT pg_extension_config_dump('tenancy.sealed_value', '');

DO $$
DECLARE
    kept text;
BEGIN
    FOREACH kept IN ARRAY ARRAY['secret_kind', 'secret', 'secret_version', 'sealed_value'] LOOP
        EXECUTE format(
            'CREATE TRIGGER keep_secret_keys BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON tenancy.%I
                 FOR EACH STATEMENT EXECUTE FUNCTION tenancy.keep_secret_keys()', kept);
        EXECUTE format('ALTER TABLE tenancy.%I ENABLE ALWAYS TRIGGER keep_secret_keys', kept);
        EXECUTE format('COMMENT ON TRIGGER keep_secret_keys ON tenancy.%I IS
            ''Refuses changes that do not come from the extension.''', kept);
    END LOOP;
    FOREACH kept IN ARRAY ARRAY['secret', 'secret_version', 'sealed_value'] LOOP
        EXECUTE format('ALTER TABLE tenancy.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', kept);
    END LOOP;
END
$$;
CREATE POLICY own_organization ON tenancy.secret FOR SELECT TO tenancy_application, tenancy_admin, tenancy_operator
    USING (organization = tenancy.org_id() AND tenancy.allowed(domain, 'read'));
CREATE POLICY every_organization ON tenancy.secret FOR SELECT TO tenancy_auditor USING (true);
CREATE POLICY own_organization ON tenancy.secret_version FOR SELECT
    TO tenancy_application, tenancy_admin, tenancy_operator
    USING (organization = tenancy.org_id() AND EXISTS (SELECT FROM tenancy.secret s WHERE s.id = secret));
CREATE POLICY every_organization ON tenancy.secret_version FOR SELECT TO tenancy_auditor USING (true);

CREATE FUNCTION tenancy.put_secret(
    name text, value text, kind text DEFAULT 'opaque', scope text DEFAULT 'read_only', domain text DEFAULT 'secret',
    description text DEFAULT NULL, provider_key_id text DEFAULT NULL, expires_at timestamptz DEFAULT NULL,
    sealed boolean DEFAULT false) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_put_secret_wrapper';
COMMENT ON FUNCTION tenancy.put_secret(text, text, text, text, text, text, text, timestamptz, boolean) IS
'Stores a credential of the context''s organization, sealed under a key that the database does not have, and returns
the id of the secret. The value is version 1, which is current at once. Pass the value as a bind parameter: a value
within the statement''s text is in logs and statistics. Needs the permission create in the domain.

- name: 1 to 200 bytes without control characters, unique within the organization. A name is not free again after
  tenancy.destroy_secret.
- value: 1 to 65,536 bytes. Some kinds take a JSON object, with the members of tenancy.secret_kind.
- kind: Name of a row of tenancy.secret_kind.
- scope: What the value allows at the provider: read_only, or write, which takes an action type that is approved in the
  organization (tenancy.request_action_type). The event contains the id of the approval.
- domain: Domain of the permissions that functions ask for.
- description: Text for readers.
- provider_key_id: Id of the credential at the provider.
- expires_at: When the credential ends at the provider.
- sealed: Whether value is sealed to the key of tenancy.secret_recipient: the base64 of the key''s id and the HPKE
  message, see docs/secret-format.md. Then no statement, parameter or log has the value.

Raises 23505 (secret_exists) for a name that is taken, 22023 (secret_value_invalid) for a value that cannot be; the
message does not contain the value. A value within the statement is a warning, or refused with 22023 (secret_literal):
the guardrail literal_secret. Raises 22023 (recipient_invalid) for a value that is sealed to an expired key, 22023 and
22004 for another argument, 42501 without the permission or, for the scope write, without an approved action
type (action_not_approved), 55000 (key_not_chosen) if no key-encryption key is current. Raises F0000
(secret_key_missing, secret_key_wrong, secret_key_invalid, key_command_failed) if a key cannot be used, 25006 in a
read-only transaction or on a standby.';

CREATE FUNCTION tenancy.reveal_secret(
    name text, purpose text, version integer DEFAULT NULL, action_type text DEFAULT NULL, recipient bytea DEFAULT NULL)
    RETURNS text
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_reveal_secret_wrapper';
COMMENT ON FUNCTION tenancy.reveal_secret(text, text, integer, text, bytea) IS
'Returns the value of a secret of the context''s organization. The reveal is recorded durably before the value leaves,
whatever becomes of the transaction, and a failed one as well. Needs the permission reveal in the secret''s domain; for
a version that is neither current nor previous the permission rotate.

- name: Name of the secret.
- purpose: What the value is needed for, 1 to 500 bytes. It is audited.
- version: Number of a version; NULL for the current one.
- action_type: Name of an action type that is approved now, for a value of the scope write. The event contains it and
  the id of the approval. The scope write also needs the permission reveal_write.
- recipient: An X25519 public key of 32 bytes (RFC 7748). The function then returns the base64 of an HPKE message
  (RFC 9180) that only the private key opens, see docs/secret-format.md.

Raises 42704 (secret_unknown) for a name that the organization does not have, that was destroyed, or that the role may
neither read nor reveal, and for an unknown version. Raises 42501 without the permission, without an approved action
type (action_not_approved), and for an operator without a token (operator_reveal). Raises 55000 (rotation_state) for a
version without a value, 55000 (reveal_unrecorded) if the reveal cannot be recorded, 55000 (rotation_overdue,
health_missing) where the guardrails overdue_rotation and unverified_secret refuse it. Raises F0000 (secret_key_missing,
secret_key_wrong, secret_key_invalid, key_command_failed) if a key cannot be used, XX001 (secret_altered) if something
stored was altered, 22023 (recipient_invalid) for another recipient, 22023 and 22004 for another argument.';

CREATE FUNCTION tenancy.secret_recipient(domain text DEFAULT 'secret')
    RETURNS TABLE (key_id text, public_key bytea, not_after timestamptz)
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_secret_recipient_wrapper';
COMMENT ON FUNCTION tenancy.secret_recipient(text) IS
'Returns the key of the context''s organization that a value can be sealed to before it is sent. Needs the permission
create in the domain. The function makes a key if there is none, or if the last one ends within 30 days.

- key_id: Id of the key, a UUID. Its 16 bytes stand before the message.
- public_key: The X25519 public key, 32 bytes (RFC 7748).
- not_after: Until when values that are sealed to it are taken, 90 days after it was made.

Raises 42501 without the permission, 22004 for a NULL domain, 55000 (key_not_chosen) if no key-encryption key is
current. Raises F0000 (secret_key_missing, secret_key_wrong, secret_key_invalid, key_command_failed) if a key cannot be
used, 25006 in a read-only transaction or on a standby if a key would have to be made.';

CREATE FUNCTION tenancy.destroy_secret(name text, reason text) RETURNS integer
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_destroy_secret_wrapper';
COMMENT ON FUNCTION tenancy.destroy_secret(text, text) IS
'Deletes the sealed values of a secret for ever, and returns how many there were. What was recorded of the secret stays,
and so do the rows of its versions. Copies of the sealed values in backups and in WAL stay sealed. Needs the
permission destroy in the secret''s domain.

- name: Name of the secret.
- reason: 1 to 1000 bytes. It is audited.

Raises 42704 (secret_unknown) for a name that the organization does not have, that was destroyed before, or that the
caller may not read. Raises 42501 without the permission, 22023 and 22004 for an argument, 25006 in a read-only
transaction or on a standby.';

CREATE FUNCTION tenancy.external_id(name text) RETURNS text
    LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tenancy_external_id_wrapper';
COMMENT ON FUNCTION tenancy.external_id(text) IS
'Returns the external id of a secret of the kind aws_role. The owner of the role puts it into the condition
sts:ExternalId of the role''s trust policy, and whoever assumes the role sends it. A role that is assumed for one
organization is then of no use to another one that knows its name (AWS: the confused deputy problem). Needs the
permission read in the secret''s domain.

- name: Name of the secret.

tenancy.put_secret makes the id, a random UUID. It is the same for all versions, and no function changes it. It is no
secret. Raises 42704 (secret_unknown) for a name that the organization does not have, that was destroyed, or that the
caller may not read. Raises 22023 for a secret of another kind, 22023 and 22004 for another name.';

CREATE FUNCTION tenancy.verify_secrets(organization uuid DEFAULT NULL)
    RETURNS TABLE (organization uuid, name text, version integer, outcome text, detail text)
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_verify_secrets_wrapper';
COMMENT ON FUNCTION tenancy.verify_secrets(uuid) IS
'Opens every value that is stored, and returns none of them: a row for each that does not open. No row: all open. Run it
after a restore, and after changes of keys. It works on a standby, too. tenancy.verify_progress shows how far it is;
events are values there.

- organization: Verifies the secrets of one organization; NULL verifies all.

The outcome is one of these, and detail says more:

- key_missing: the key-encryption key is not there, or cannot be used now.
- key_wrong: another key has the id of the key-encryption key.
- altered: the sealed value, its digest, or its wrapped data key was altered.
- misplaced: the value is sealed for another place, or under another data key; the value itself may be intact.
- value_missing: there is no sealed value.';

CREATE FUNCTION tenancy.begin_reseal(organization uuid, batch_size integer) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_begin_reseal_wrapper';
CREATE FUNCTION tenancy.reseal_batch() RETURNS boolean
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_reseal_batch_wrapper';
CREATE FUNCTION tenancy.end_reseal() RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_end_reseal_wrapper';
COMMENT ON FUNCTION tenancy.begin_reseal(uuid, integer) IS
'Internal: begins a run of tenancy.reseal_secrets. A transaction that is rolled back ends the run.';
COMMENT ON FUNCTION tenancy.reseal_batch() IS
'Internal: seals a batch of values. Returns true if there may be another one.';
COMMENT ON FUNCTION tenancy.end_reseal() IS 'Internal: ends a run, with a warning if values did not open.';

CREATE PROCEDURE tenancy.reseal_secrets(organization uuid DEFAULT NULL, batch_size integer DEFAULT 100)
    LANGUAGE plpgsql AS $$
BEGIN
    PERFORM tenancy.begin_reseal(organization, batch_size);
    COMMIT;
    WHILE tenancy.reseal_batch() LOOP
        COMMIT;
    END LOOP;
    COMMIT;
    PERFORM tenancy.end_reseal();
END
$$;
COMMENT ON PROCEDURE tenancy.reseal_secrets(uuid, integer) IS
'Seals each value anew that is under an old data key, under the current data key of its organization. Call it after
tenancy.rotate_data_key. It commits after each batch, and cannot run within a transaction. After an error or a crash,
call it again: it goes on with what is left. Each batch is an event of the operation reseal for each organization.

- organization: Seals the values of one organization; NULL those of all.
- batch_size: 1 to 1000 values.

A value that does not open stays as it is, and the procedure ends with a warning. Raises F0000 (secret_key_missing,
secret_key_wrong, secret_key_invalid, key_command_failed) if a key cannot be used, 22023 for another batch_size.';

CREATE FUNCTION tenancy.destroy_data_keys(organization uuid, reason text, legal_basis text DEFAULT NULL) RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_destroy_data_keys_wrapper';
COMMENT ON FUNCTION tenancy.destroy_data_keys(uuid, text, text) IS
'Destroys the keys of an organization, and all its secrets with them. Nothing undoes it. Returns how many values cannot
be read any more. The keys go from the table; backups and WAL of before still have them, wrapped under the
key-encryption key. No role may call the function until it is granted.

- organization: The organization. It may store secrets again, under new keys.
- reason: 1 to 1000 bytes. It is audited.
- legal_basis: What the destruction is owed to, at most 1000 bytes. It is audited.

Raises 42704 for an unknown organization, 55000 (key_state) if it has no key. Raises 22023 and 22004 for an argument,
25006 in a read-only transaction or on a standby.';
