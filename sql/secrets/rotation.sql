-- Rotations of secrets: what proves that a new value works, and which version is handed out. Code: src/secrets/; the
-- rules are in core/src/secrets/rotation.rs.

CREATE TABLE tenancy.rotation (
    id uuid PRIMARY KEY,
    secret uuid NOT NULL REFERENCES tenancy.secret,
    organization uuid NOT NULL,
    from_version integer NOT NULL,
    to_version integer NOT NULL,
    state text COLLATE "C" NOT NULL CHECK (state IN ('open', 'observing', 'completed', 'rolled_back', 'abandoned')),
    reason text,
    deadline timestamptz NOT NULL,
    begun_at timestamptz NOT NULL,
    begun_by text NOT NULL,
    promoted_at timestamptz,
    ended_at timestamptz,
    end_reason text,
    FOREIGN KEY (secret, from_version) REFERENCES tenancy.secret_version,
    FOREIGN KEY (secret, to_version) REFERENCES tenancy.secret_version,
    CHECK ((state IN ('open', 'observing')) = (ended_at IS NULL))
);
CREATE UNIQUE INDEX rotation_to_version_idx ON tenancy.rotation (secret, to_version);
CREATE UNIQUE INDEX rotation_under_way_idx ON tenancy.rotation (secret) WHERE state IN ('open', 'observing');
COMMENT ON TABLE tenancy.rotation IS
'Rotations of secrets. At most one rotation of a secret is open or observing. Written by tenancy.begin_rotation and the
functions that follow it. Members read them as they read tenancy.secret.';
COMMENT ON COLUMN tenancy.rotation.id IS 'Time-ordered id (UUID version 7).';
COMMENT ON COLUMN tenancy.rotation.secret IS 'The secret, in tenancy.secret.';
COMMENT ON COLUMN tenancy.rotation.organization IS 'The organization of the secret.';
COMMENT ON COLUMN tenancy.rotation.from_version IS 'The version that was current at the beginning.';
COMMENT ON COLUMN tenancy.rotation.to_version IS 'The new version.';
COMMENT ON COLUMN tenancy.rotation.state IS
'open: the new version is not current yet; observing: it is current, and the version before can come back; completed:
the version before was retired; rolled_back: the version before is current again; abandoned: the new version was given
up, or the secret was destroyed.';
COMMENT ON COLUMN tenancy.rotation.reason IS 'Why it was begun, if somebody said so.';
COMMENT ON COLUMN tenancy.rotation.deadline IS
'When the rotation counts as stuck unless it has moved on: a day after its beginning, then a day after the end of the
observation.';
COMMENT ON COLUMN tenancy.rotation.begun_at IS 'When it was begun.';
COMMENT ON COLUMN tenancy.rotation.begun_by IS 'Subject of the context that began it.';
COMMENT ON COLUMN tenancy.rotation.promoted_at IS 'When the new version became current.';
COMMENT ON COLUMN tenancy.rotation.ended_at IS 'When it was completed, rolled back or abandoned; NULL before.';
COMMENT ON COLUMN tenancy.rotation.end_reason IS 'Why it ended as it did, where somebody said so.';

CREATE TABLE tenancy.health_report (
    id uuid PRIMARY KEY,
    secret uuid NOT NULL,
    organization uuid NOT NULL,
    version integer NOT NULL,
    healthy boolean NOT NULL,
    detail text,
    checked_at timestamptz NOT NULL,
    reported_at timestamptz NOT NULL,
    reported_by text NOT NULL,
    FOREIGN KEY (secret, version) REFERENCES tenancy.secret_version
);
CREATE UNIQUE INDEX health_report_checked_at_idx ON tenancy.health_report (secret, version, checked_at, healthy);
COMMENT ON TABLE tenancy.health_report IS
'Health reports of versions of secrets. Rows are only added. Written by tenancy.report_health. Members read them as they
read tenancy.secret.';
COMMENT ON COLUMN tenancy.health_report.id IS 'Time-ordered id (UUID version 7).';
COMMENT ON COLUMN tenancy.health_report.secret IS 'The secret, in tenancy.secret.';
COMMENT ON COLUMN tenancy.health_report.organization IS 'The organization of the secret.';
COMMENT ON COLUMN tenancy.health_report.version IS 'Number of the version.';
COMMENT ON COLUMN tenancy.health_report.healthy IS 'Whether the value worked.';
COMMENT ON COLUMN tenancy.health_report.detail IS 'What the reporter says of it.';
COMMENT ON COLUMN tenancy.health_report.checked_at IS 'When the value was tried.';
COMMENT ON COLUMN tenancy.health_report.reported_at IS 'When the report came.';
COMMENT ON COLUMN tenancy.health_report.reported_by IS 'Subject of the context that reported.';

SELECT pg_extension_config_dump('tenancy.rotation', '');
SELECT pg_extension_config_dump('tenancy.health_report', '');

DO $$
DECLARE
    kept text;
BEGIN
    FOREACH kept IN ARRAY ARRAY['rotation', 'health_report'] LOOP
        EXECUTE format(
            'CREATE TRIGGER keep_secret_keys BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON tenancy.%I
                 FOR EACH STATEMENT EXECUTE FUNCTION tenancy.keep_secret_keys()', kept);
        EXECUTE format('ALTER TABLE tenancy.%I ENABLE ALWAYS TRIGGER keep_secret_keys', kept);
        EXECUTE format('COMMENT ON TRIGGER keep_secret_keys ON tenancy.%I IS
            ''Refuses changes that do not come from the extension.''', kept);
        EXECUTE format('ALTER TABLE tenancy.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', kept);
        EXECUTE format('CREATE POLICY own_organization ON tenancy.%I FOR SELECT
            TO tenancy_application, tenancy_admin, tenancy_operator
            USING (organization = tenancy.org_id() AND EXISTS (SELECT FROM tenancy.secret s WHERE s.id = secret))',
            kept);
        EXECUTE format('CREATE POLICY every_organization ON tenancy.%I FOR SELECT TO tenancy_auditor USING (true)',
            kept);
    END LOOP;
END
$$;

CREATE FUNCTION tenancy.begin_rotation(
    name text, value text DEFAULT NULL, reason text DEFAULT NULL, provider_key_id text DEFAULT NULL,
    expires_at timestamptz DEFAULT NULL, sealed boolean DEFAULT false) RETURNS integer
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_begin_rotation_wrapper';
COMMENT ON FUNCTION tenancy.begin_rotation(text, text, text, text, timestamptz, boolean) IS
'Begins the rotation of a secret and returns the number of the new version. The current version stays the current one.
Needs the permission rotate in the secret''s domain, and read, as all functions of rotations do.

- name: Name of the secret.
- value: The new value, as in tenancy.put_secret; the version is pending. NULL: the value comes later, by
  tenancy.supply_value; the version is announced.
- reason: Why, 1 to 1000 bytes. It is audited.
- provider_key_id: Id of the credential at the provider.
- expires_at: When the credential ends at the provider.
- sealed: Whether value is sealed to the key of tenancy.secret_recipient, as in tenancy.put_secret.

Raises 55000 (rotation_open) while a rotation is open or observing, 55000 (rotation_state) if the secret has as many
live versions as max_live_versions allows. Raises 22023 (secret_unchanged) for a value that an earlier version has,
22023 (secret_value_invalid) for one that cannot be. Raises 42704 (secret_unknown), 42501, 22023, 22004, 25006 and, for
keys, F0000 as tenancy.put_secret and tenancy.destroy_secret do. Raises 40001 (rotation_conflict) in a transaction that
is older than the newest change of the secret, if its isolation level asks for that.';

CREATE FUNCTION tenancy.supply_value(
    name text, version integer, value text, provider_key_id text DEFAULT NULL, expires_at timestamptz DEFAULT NULL,
    sealed boolean DEFAULT false) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_supply_value_wrapper';
COMMENT ON FUNCTION tenancy.supply_value(text, integer, text, text, timestamptz, boolean) IS
'Stores the value of a version that tenancy.begin_rotation has announced. The version is pending then. Needs the
permission rotate.

- name: Name of the secret.
- version: Number of the version.
- value: The value, as in tenancy.put_secret.
- provider_key_id: Id of the credential at the provider; NULL: as tenancy.begin_rotation was told.
- expires_at: When the credential ends at the provider; NULL: as tenancy.begin_rotation was told.
- sealed: Whether value is sealed to the key of tenancy.secret_recipient, as in tenancy.put_secret.

Raises 55000 (rotation_state) if the version is not the announced one of an open rotation; a value is supplied once.
Raises otherwise what tenancy.begin_rotation raises.';

CREATE FUNCTION tenancy.report_health(
    name text, version integer, healthy boolean, detail text DEFAULT NULL, checked_at timestamptz DEFAULT NULL)
    RETURNS text
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_report_health_wrapper';
COMMENT ON FUNCTION tenancy.report_health(text, integer, boolean, text, timestamptz) IS
'Reports whether a version''s value works, and returns the version''s state. Needs the permission report in the
secret''s domain.

- A pending version is verified by as many positive reports in a row as health_required asks for, none older than
  health_max_age.
- A negative report makes a pending or verified version failed.
- A negative report of the current version within observe_for of its promotion rolls it back, see the guardrail
  failed_rotation. The version before is current again.

- name: Name of the secret.
- version: Number of the version.
- healthy: Whether the value works.
- detail: What else is known, 1 to 1000 bytes. Never put a value there: who may read the secret reads it.
- checked_at: When the value was tried; NULL: now. The same report again, with the same time, counts once.

Raises 55000 (rotation_state) for a version without a value, 22023 for a time in the future or before the value came.
Raises 42704 (secret_unknown), 42501, 22004, 25006 and 40001 as tenancy.begin_rotation does.';

CREATE FUNCTION tenancy.promote(name text, version integer) RETURNS integer
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_promote_wrapper';
COMMENT ON FUNCTION tenancy.promote(text, integer) IS
'Makes a verified version the current one, and returns the number of the version before, which is previous from then
on. Called again it returns the same and changes nothing. Needs the permission rotate.

Raises 55000 (health_missing) if the version is not verified, or its last report is older than health_max_age. Raises
55000 (rotation_state) if the version is not the new one of a rotation that is under way, and 42704, 42501, 22004, 25006
and 40001 as tenancy.begin_rotation does.';

CREATE FUNCTION tenancy.roll_back(name text, reason text) RETURNS integer
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_roll_back_wrapper';
COMMENT ON FUNCTION tenancy.roll_back(text, text) IS
'Makes the version before the current one again, and returns its number. The version that was current is failed. Needs
the permission rotate. The reason, 1 to 1000 bytes, is audited.

Raises 55000 (rotation_state) if no rotation is observing: nothing was promoted, the version before is retired, or it is
current again already. Raises 42704, 42501, 22023, 22004, 25006 and 40001 as tenancy.begin_rotation does.';

CREATE FUNCTION tenancy.retire(name text, version integer, reason text) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_retire_wrapper';
COMMENT ON FUNCTION tenancy.retire(text, integer, text) IS
'Deletes the value of a previous or failed version for ever. To retire the previous version completes the rotation.
Called again it changes nothing. Needs the permission rotate. The reason, 1 to 1000 bytes, is audited.

Raises 55000 (health_missing) for a previous version until the current one has a positive report of after its
promotion, and no negative one since. Raises 55000 (secret_in_use) until observe_for has passed since the promotion, and
since the version was revealed last; see the guardrail retire_in_use. Raises 58030 (reveal_journal_invalid) if the
records of reveals cannot be read, 55000 (rotation_state) for another state, and 42704, 42501, 22023, 22004, 25006 and
40001 as tenancy.begin_rotation does.';

CREATE FUNCTION tenancy.abandon_rotation(name text, reason text) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_abandon_rotation_wrapper';
COMMENT ON FUNCTION tenancy.abandon_rotation(text, text) IS
'Gives up the open rotation. The new version is retired, and its value deleted; one that has failed stays, because the
credential exists at the provider: tenancy.retire is for when it does no more. Needs the permission rotate. The
reason, 1 to 1000 bytes, is audited.

Raises 55000 (rotation_state) if no rotation is open, and 42704, 42501, 22023, 22004, 25006 and 40001 as
tenancy.begin_rotation does.';

CREATE FUNCTION tenancy.set_secret_policy(
    name text, rotate_every interval, max_live_versions integer, health_max_age interval, health_required integer,
    observe_for interval, owner_subject text, owner_issuer text) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_set_secret_policy_wrapper';
COMMENT ON FUNCTION tenancy.set_secret_policy(text, interval, integer, interval, integer, interval, text, text) IS
'Sets the rules of a secret''s rotations, and its owner. NULL for a rule: that of the kind, in tenancy.secret_kind.
Needs the permission update in the secret''s domain.

- name: Name of the secret.
- rotate_every: Age of a value at which its rotation is due; more than 0, at most 100 years.
- max_live_versions: The most versions that are not retired, 2 to 100.
- health_max_age: Age up to which a health report counts; more than 0, at most 100 years.
- health_required: How many positive reports in a row verify a version, 1 to 100.
- observe_for: How long a promotion is observed; 0 to 100 years.
- owner_subject: Subject of an active member; NULL: the owner stays.
- owner_issuer: Issuer of that member; NULL: that of the caller.

The rules apply at the next call, also to a rotation that is under way. Raises 22023 for an argument, 42704
(secret_unknown), 42501, 22004 and 25006 as tenancy.destroy_secret does.';
