-- Single sign-on: how the members of an organization must come in, once it is enforced. Code: src/identity/sso.rs,
-- src/identity/test_sso.rs. The triggers that audit these tables stand in sql/audit/settings.sql.

CREATE TABLE tenancy.sso_connection (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    organization uuid NOT NULL REFERENCES tenancy.organization ON DELETE CASCADE,
    name text NOT NULL CHECK (name <> ''),
    -- Not ON DELETE CASCADE: with the connection the requirement would go, and the door be open.
    issuer text NOT NULL REFERENCES tenancy.issuer,
    state text NOT NULL DEFAULT 'draft' CHECK (state IN ('draft', 'testing', 'enforced')),
    accepted_amr text[] NOT NULL DEFAULT '{}'
        CHECK (coalesce(array_ndims(accepted_amr), 1) = 1 AND array_position(accepted_amr, NULL) IS NULL
            AND '' <> ALL (accepted_amr)),
    accepted_acr text[] NOT NULL DEFAULT '{}'
        CHECK (coalesce(array_ndims(accepted_acr), 1) = 1 AND array_position(accepted_acr, NULL) IS NULL
            AND '' <> ALL (accepted_acr)),
    accepted_aal text[] NOT NULL DEFAULT '{}'
        CHECK (coalesce(array_ndims(accepted_aal), 1) = 1 AND accepted_aal <@ '{aal1,aal2,aal3}'),
    break_glass_issuer text,
    break_glass_subject text,
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (organization, name),
    UNIQUE (id, organization),
    CHECK ((break_glass_issuer IS NULL) = (break_glass_subject IS NULL)),
    CHECK (state <> 'enforced' OR break_glass_subject IS NOT NULL)
);
-- What tenancy.authenticate reads each time: empty where nobody enforces anything.
CREATE INDEX sso_connection_enforced_idx ON tenancy.sso_connection (organization) WHERE state = 'enforced';
COMMENT ON TABLE tenancy.sso_connection IS
'Single sign-on connections of organizations: the issuer and the conditions that members must meet. Written by
tenancy.create_sso_connection.';
COMMENT ON COLUMN tenancy.sso_connection.id IS 'Id of the connection.';
COMMENT ON COLUMN tenancy.sso_connection.organization IS 'The organization whose members the connection applies to.';
COMMENT ON COLUMN tenancy.sso_connection.name IS 'Display name, unique within the organization.';
COMMENT ON COLUMN tenancy.sso_connection.issuer IS 'The issuer whose tokens are accepted.';
COMMENT ON COLUMN tenancy.sso_connection.state IS
'draft; testing: tokens can be tested with tenancy.test_sso; enforced: members can authenticate in no other way.';
COMMENT ON COLUMN tenancy.sso_connection.accepted_amr IS
    'The token''s "amr" (RFC 8176) must show at least one of these authentication methods; empty for any.';
COMMENT ON COLUMN tenancy.sso_connection.accepted_acr IS
    'The token''s "acr" (OpenID Connect Core section 2) must be one of these; empty for any.';
COMMENT ON COLUMN tenancy.sso_connection.accepted_aal IS
    'The token''s "aal" (Supabase: aal1, aal2) must be one of these; empty for any.';
COMMENT ON COLUMN tenancy.sso_connection.break_glass_issuer IS 'The issuer of the break-glass admin''s tokens.';
COMMENT ON COLUMN tenancy.sso_connection.break_glass_subject IS
'The "sub" of the one admin who can authenticate without meeting the conditions.';
COMMENT ON COLUMN tenancy.sso_connection.version IS
'Counts the changes of the conditions, verified domains included. A test counts only for its version.';
COMMENT ON COLUMN tenancy.sso_connection.created_at IS 'When the connection was created.';
COMMENT ON COLUMN tenancy.sso_connection.updated_at IS 'When the connection was last changed.';

CREATE TABLE tenancy.sso_domain (
    connection uuid NOT NULL,
    organization uuid NOT NULL,
    -- RFC 1123 section 2.1: letters, digits and hyphens; at least two labels, the last of which begins with a letter.
    name text COLLATE "C" NOT NULL CHECK (
        name ~ '^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$' AND length(name) <= 253),
    challenge text NOT NULL CHECK (challenge <> ''),
    verified_at timestamptz,
    verified_by text,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (connection, name),
    FOREIGN KEY (connection, organization) REFERENCES tenancy.sso_connection (id, organization) ON DELETE CASCADE,
    CHECK ((verified_at IS NULL) = (verified_by IS NULL))
);
-- A verified domain belongs to one connection, and so to one organization.
CREATE UNIQUE INDEX sso_domain_verified_idx ON tenancy.sso_domain (name) WHERE verified_at IS NOT NULL;
COMMENT ON TABLE tenancy.sso_domain IS
'E-mail domains of connections. Written by tenancy.add_sso_domain. Only verified domains have an effect.';
COMMENT ON COLUMN tenancy.sso_domain.connection IS 'The connection whose members have addresses of the domain.';
COMMENT ON COLUMN tenancy.sso_domain.organization IS 'The organization of the connection.';
COMMENT ON COLUMN tenancy.sso_domain.name IS
'The domain in lower case, internationalized ones in their "xn--" form (RFC 5890). It does not include its subdomains.';
COMMENT ON COLUMN tenancy.sso_domain.challenge IS
'The required content of the TXT record _pg-tenancy-challenge.<name>. It is published, not secret.';
COMMENT ON COLUMN tenancy.sso_domain.verified_at IS 'When the challenge was found in the DNS; NULL before.';
COMMENT ON COLUMN tenancy.sso_domain.verified_by IS
'Who reported the challenge: the subject of the context, or the database role that logged in.';
COMMENT ON COLUMN tenancy.sso_domain.created_at IS 'When the domain was added.';

CREATE TABLE tenancy.sso_test (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    connection uuid NOT NULL,
    organization uuid NOT NULL,
    version bigint NOT NULL,
    subject text,
    tested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    succeeded boolean NOT NULL,
    reason text NOT NULL,
    FOREIGN KEY (connection, organization) REFERENCES tenancy.sso_connection (id, organization) ON DELETE CASCADE
);
CREATE INDEX sso_test_connection_idx ON tenancy.sso_test (connection, version);
COMMENT ON TABLE tenancy.sso_test IS
'Results of test sign-ins. Written by tenancy.test_sso. The table holds neither tokens nor their claims.';
COMMENT ON COLUMN tenancy.sso_test.id IS 'Id of the test.';
COMMENT ON COLUMN tenancy.sso_test.connection IS 'The connection that was tested.';
COMMENT ON COLUMN tenancy.sso_test.organization IS 'The organization of the connection.';
COMMENT ON COLUMN tenancy.sso_test.version IS
'The version of the connection at the test. The result does not apply to a later version.';
COMMENT ON COLUMN tenancy.sso_test.subject IS
'The "sub" of the token; NULL if its signature or its validity could not be verified.';
COMMENT ON COLUMN tenancy.sso_test.tested_at IS 'When the token was tested, by the clock of the server.';
COMMENT ON COLUMN tenancy.sso_test.succeeded IS 'Whether the connection accepts the token.';
COMMENT ON COLUMN tenancy.sso_test.reason IS 'The condition that was not met, or that all conditions were met.';

SELECT pg_extension_config_dump('tenancy.sso_connection', '');
SELECT pg_extension_config_dump('tenancy.sso_domain', '');
SELECT pg_extension_config_dump('tenancy.sso_test', '');

-- What tenancy.authenticate reads is remembered by each session until it changes. Code: src/identity/verdict.rs.
CREATE TYPE tenancy.identity_signal AS ();
REVOKE ALL ON TYPE tenancy.identity_signal FROM PUBLIC;
COMMENT ON TYPE tenancy.identity_signal IS
'Internal: sessions learn of a change of the identity tables by an invalidation message for this type. It has no other
use.';

CREATE FUNCTION tenancy.announce_identity_change() RETURNS trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_announce_identity_change';
COMMENT ON FUNCTION tenancy.announce_identity_change() IS
'Internal: trigger of the tables that tenancy.authenticate reads. At the commit every session discards what it has
remembered of them.';

-- FOR EACH ROW, because logical replication fires no statement triggers. TRUNCATE is a change of the table itself.
DO $$
DECLARE
    identity_table text;
BEGIN
    FOREACH identity_table IN ARRAY ARRAY['external_organization', 'external_role', 'guardrail', 'issuer',
        'membership', 'organization', 'retired_key', 'revoked_session', 'revoked_subject', 'role', 'role_permission',
        'sso_connection', 'sso_domain']
    LOOP
        EXECUTE format(
            'CREATE TRIGGER announce_identity_change AFTER INSERT OR UPDATE OR DELETE ON tenancy.%I
                 FOR EACH ROW EXECUTE FUNCTION tenancy.announce_identity_change()', identity_table);
        EXECUTE format('ALTER TABLE tenancy.%I ENABLE ALWAYS TRIGGER announce_identity_change', identity_table);
        EXECUTE format(
            'COMMENT ON TRIGGER announce_identity_change ON tenancy.%I IS
                 ''Makes every session discard what it has remembered of the table.''', identity_table);
    END LOOP;
END
$$;

CREATE FUNCTION tenancy.lock_sso_connection(connection uuid, to_change boolean) RETURNS tenancy.sso_connection
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    locked tenancy.sso_connection;
BEGIN
    PERFORM tenancy.require_argument('connection', lock_sso_connection.connection::text);
    SELECT * INTO locked FROM tenancy.sso_connection c WHERE c.id = lock_sso_connection.connection FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'single sign-on connection "%" does not exist', connection
            USING ERRCODE = 'undefined_object', HINT = 'Create it with tenancy.create_sso_connection.';
    END IF;
    -- Falling back to testing by itself would open the door without anybody saying so; a change in force could lock all
    -- members out. So whoever changes it opens it in so many words, which is an event of its own.
    IF to_change AND locked.state = 'enforced' THEN
        RAISE EXCEPTION 'single sign-on connection "%" is enforced and cannot be changed', locked.name
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'In one transaction: tenancy.set_sso_state(..., ''testing''), the change, tenancy.test_sso, tenancy.set_sso_state(..., ''enforced''). Nobody sees the state in between.';
    END IF;
    RETURN locked;
END
$$;
COMMENT ON FUNCTION tenancy.lock_sso_connection(uuid, boolean) IS
'Internal: locks a connection until the end of the transaction and returns it. Raises 42704 for an unknown connection,
55000 for an enforced one if to_change is true.';

CREATE FUNCTION tenancy.may_break_glass(organization uuid, issuer text, subject text) RETURNS boolean
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT coalesce(bool_and(p.effect = 'allow'), false)
      FROM tenancy.membership m
      JOIN tenancy.role_permission p ON p.organization = m.role_organization AND p.role = m.role
     WHERE m.organization = may_break_glass.organization AND m.issuer = may_break_glass.issuer
       AND m.subject = may_break_glass.subject
       AND m.status = 'active' AND (m.valid_until IS NULL OR m.valid_until > clock_timestamp())
       AND p.domain IN ('*', 'sso') AND p.action IN ('*', 'update');
END;
COMMENT ON FUNCTION tenancy.may_break_glass(uuid, text, text) IS
'Internal: returns whether the subject is an active member of the organization with the permission sso:update, or * in
place of either part, which no rule of its role denies.';

CREATE FUNCTION tenancy.create_sso_connection(
    organization uuid, name text, issuer text,
    accepted_amr text[] DEFAULT '{}', accepted_acr text[] DEFAULT '{}', accepted_aal text[] DEFAULT '{}') RETURNS uuid
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    new_id uuid := gen_random_uuid();
BEGIN
    PERFORM tenancy.require_argument('organization', create_sso_connection.organization::text),
            tenancy.require_argument('name', create_sso_connection.name),
            tenancy.require_argument('issuer', create_sso_connection.issuer),
            tenancy.require_argument('accepted_amr', create_sso_connection.accepted_amr::text),
            tenancy.require_argument('accepted_acr', create_sso_connection.accepted_acr::text),
            tenancy.require_argument('accepted_aal', create_sso_connection.accepted_aal::text);
    INSERT INTO tenancy.sso_connection (id, organization, name, issuer, accepted_amr, accepted_acr, accepted_aal)
    VALUES (new_id, create_sso_connection.organization, create_sso_connection.name, create_sso_connection.issuer,
            create_sso_connection.accepted_amr, create_sso_connection.accepted_acr, create_sso_connection.accepted_aal);
    RETURN new_id;
EXCEPTION WHEN foreign_key_violation THEN
    RAISE EXCEPTION 'the organization or the issuer of the connection does not exist'
        USING ERRCODE = 'undefined_object', HINT =
            'Create them first: tenancy.create_organization, tenancy.set_issuer.';
END
$$;
COMMENT ON FUNCTION tenancy.create_sso_connection(uuid, text, text, text[], text[], text[]) IS
'Creates a single sign-on connection in the state draft and returns its id. A draft has no effect on members.

- organization: The organization whose members the connection applies to.
- name: Display name, unique within the organization.
- issuer: The issuer whose tokens members must use, registered with tenancy.set_issuer.
- accepted_amr: Authentication methods (RFC 8176). The "amr" of the token must contain one of them.
- accepted_acr: The "acr" of the token must be one of these.
- accepted_aal: The "aal" of the token must be one of these: aal1, aal2, aal3.

An empty array sets no condition. "amr" may be an array of strings (OpenID Connect) or of objects with a "method"
(Supabase). A claim that is absent or of another type meets no condition.

Raises 42704 if organization or issuer do not exist, 23505 for a name that is taken, 23514 for an empty or unknown
value, 22004 for a NULL argument.';

CREATE FUNCTION tenancy.alter_sso_connection(
    connection uuid, name text DEFAULT NULL, issuer text DEFAULT NULL,
    accepted_amr text[] DEFAULT NULL, accepted_acr text[] DEFAULT NULL, accepted_aal text[] DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM tenancy.lock_sso_connection(alter_sso_connection.connection, true);
    UPDATE tenancy.sso_connection c
       SET name = coalesce(alter_sso_connection.name, c.name), issuer = coalesce(alter_sso_connection.issuer, c.issuer),
           accepted_amr = coalesce(alter_sso_connection.accepted_amr, c.accepted_amr),
           accepted_acr = coalesce(alter_sso_connection.accepted_acr, c.accepted_acr),
           accepted_aal = coalesce(alter_sso_connection.accepted_aal, c.accepted_aal),
           version = c.version + 1, updated_at = now()
     WHERE c.id = alter_sso_connection.connection;
EXCEPTION WHEN foreign_key_violation THEN
    RAISE EXCEPTION 'issuer "%" is not registered', issuer
        USING ERRCODE = 'undefined_object', HINT = 'Register it with tenancy.set_issuer.';
END
$$;
COMMENT ON FUNCTION tenancy.alter_sso_connection(uuid, text, text, text[], text[], text[]) IS
'Changes a connection that is not enforced. An argument that is NULL leaves its value unchanged; an empty array
removes the condition. Tests from before the change no longer count. Raises 42704 for an unknown connection or
issuer, 55000 while the connection is enforced. Other errors as tenancy.create_sso_connection.';

CREATE FUNCTION tenancy.drop_sso_connection(connection uuid) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM tenancy.lock_sso_connection(drop_sso_connection.connection, true);
    DELETE FROM tenancy.sso_connection c WHERE c.id = drop_sso_connection.connection;
END
$$;
COMMENT ON FUNCTION tenancy.drop_sso_connection(uuid) IS
'Deletes a connection that is not enforced, with its domains and tests. Its audit events remain. Raises 42704 for an
unknown connection, 55000 while it is enforced.';

CREATE FUNCTION tenancy.add_sso_domain(connection uuid, domain text) RETURNS text
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    locked tenancy.sso_connection;
    of_domain text;
BEGIN
    PERFORM tenancy.require_argument('domain', add_sso_domain.domain);
    locked := tenancy.lock_sso_connection(add_sso_domain.connection, true);
    INSERT INTO tenancy.sso_domain AS d (connection, organization, name, challenge)
    VALUES (locked.id, locked.organization, lower(add_sso_domain.domain COLLATE "C"),
            'pg-tenancy-verification=' || replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''))
    ON CONFLICT ON CONSTRAINT sso_domain_pkey DO NOTHING;
    SELECT d.challenge INTO STRICT of_domain FROM tenancy.sso_domain d
     WHERE d.connection = locked.id AND d.name = lower(add_sso_domain.domain COLLATE "C");
    RETURN of_domain;
EXCEPTION WHEN check_violation THEN
    RAISE EXCEPTION 'the domain is not a full name of letters, digits, hyphens and dots'
        USING ERRCODE = 'invalid_parameter_value',
              HINT = 'Such as acme.example; without a dot at the end, and internationalized names in their "xn--" form.';
END
$$;
COMMENT ON FUNCTION tenancy.add_sso_domain(uuid, text) IS
'Adds an e-mail domain to a connection that is not enforced, and returns the challenge. Publish the challenge as the
TXT record _pg-tenancy-challenge.<domain>. A second call returns the same challenge. Until the domain is verified, it
has no effect.

The name is compared in lower case. It needs a dot and has none at the end. Internationalized names have their "xn--"
form. A domain does not include its subdomains.

Raises 22023 for an invalid name, 42704 for an unknown connection, 55000 while the connection is enforced.';

CREATE FUNCTION tenancy.verify_sso_domain(connection uuid, domain text, VARIADIC observed text[]) RETURNS boolean
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    locked tenancy.sso_connection;
    found_domain tenancy.sso_domain;
BEGIN
    PERFORM tenancy.require_argument('domain', verify_sso_domain.domain);
    locked := tenancy.lock_sso_connection(verify_sso_domain.connection, false);
    SELECT * INTO found_domain FROM tenancy.sso_domain d
     WHERE d.connection = locked.id AND d.name = lower(verify_sso_domain.domain COLLATE "C");
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the connection has no domain "%"', domain
            USING ERRCODE = 'undefined_object', HINT = 'Add it with tenancy.add_sso_domain.';
    END IF;
    IF NOT coalesce(found_domain.challenge = ANY (observed), false) THEN
        RETURN false;
    ELSIF found_domain.verified_at IS NOT NULL THEN
        RETURN true;
    END IF;
    PERFORM tenancy.lock_sso_connection(locked.id, true);
    UPDATE tenancy.sso_domain d
       SET verified_at = clock_timestamp(), verified_by = coalesce(tenancy.whoami() ->> 'subject', session_user)
     WHERE d.connection = locked.id AND d.name = found_domain.name;
    UPDATE tenancy.sso_connection c SET version = c.version + 1, updated_at = now() WHERE c.id = locked.id;
    RETURN true;
EXCEPTION WHEN unique_violation THEN
    RAISE EXCEPTION 'domain "%" is verified for another connection', domain
        USING ERRCODE = 'unique_violation', HINT =
            'A domain belongs to one connection; take it from the other with tenancy.remove_sso_domain.';
END
$$;
COMMENT ON FUNCTION tenancy.verify_sso_domain(uuid, text, text[]) IS
'Verifies a domain with the DNS records that an outside job has read. The database makes no DNS requests. The argument
observed has the values of the TXT record _pg-tenancy-challenge.<domain>. If one of them is the challenge, the domain
is verified and the result is true. Otherwise the result is false, and nothing changes.

A verified domain belongs to one connection. When a domain is verified, tests from before no longer count.

Raises 42704 for an unknown connection or a domain that was not added, 23505 if the domain is verified for another
connection, 55000 while the connection is enforced and the domain is not verified yet.';

CREATE FUNCTION tenancy.remove_sso_domain(connection uuid, domain text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    was_verified boolean;
BEGIN
    PERFORM tenancy.require_argument('domain', remove_sso_domain.domain),
            tenancy.lock_sso_connection(remove_sso_domain.connection, true);
    DELETE FROM tenancy.sso_domain d
     WHERE d.connection = remove_sso_domain.connection AND d.name = lower(remove_sso_domain.domain COLLATE "C")
    RETURNING d.verified_at IS NOT NULL INTO was_verified;
    IF was_verified THEN
        UPDATE tenancy.sso_connection c SET version = c.version + 1, updated_at = now()
            WHERE c.id = remove_sso_domain.connection;
    END IF;
    RETURN was_verified IS NOT NULL;
END
$$;
COMMENT ON FUNCTION tenancy.remove_sso_domain(uuid, text) IS
'Removes a domain from a connection that is not enforced. Returns true if the connection had the domain. If the domain
was verified, tests from before no longer count. Raises 42704 for an unknown connection, 55000 while it is enforced.';

CREATE FUNCTION tenancy.set_sso_break_glass(connection uuid, subject text, issuer text) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    locked tenancy.sso_connection;
BEGIN
    PERFORM tenancy.require_argument('subject', set_sso_break_glass.subject),
            tenancy.require_argument('issuer', set_sso_break_glass.issuer);
    -- Of an enforced connection too: whoever leaves must be replaced at once, and it neither opens the door to
    -- members nor shuts it.
    locked := tenancy.lock_sso_connection(set_sso_break_glass.connection, false);
    IF NOT tenancy.may_break_glass(locked.organization, set_sso_break_glass.issuer, set_sso_break_glass.subject) THEN
        RAISE EXCEPTION 'the subject is no active member of the organization whose role may update single sign-on'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Name a member of that issuer whose role has the permission sso:update, or * in place of either.';
    END IF;
    UPDATE tenancy.sso_connection c
       SET break_glass_issuer = set_sso_break_glass.issuer, break_glass_subject = set_sso_break_glass.subject,
           updated_at = now()
     WHERE c.id = locked.id;
END
$$;
COMMENT ON FUNCTION tenancy.set_sso_break_glass(uuid, text, text) IS
'Names the break-glass admin: the one subject who can authenticate with any valid token of the issuer, whatever the
connection requires. The method of that context, and of its events, is break-glass.

The subject must be an active member of the organization with the permission sso:update, or * in place of either
part. A subject who loses the membership or the permission can no longer break the glass. The admin can be replaced
in every state of the connection, but never removed.

Raises 55000 for a subject who does not qualify, 42704 for an unknown connection, 22004 for a NULL argument.';

CREATE FUNCTION tenancy.set_sso_state(connection uuid, state text) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    locked tenancy.sso_connection;
    missing text;
BEGIN
    PERFORM tenancy.require_argument('state', set_sso_state.state);
    locked := tenancy.lock_sso_connection(set_sso_state.connection, false);
    IF set_sso_state.state NOT IN ('draft', 'testing', 'enforced') THEN
        RAISE EXCEPTION 'a connection is draft, testing or enforced'
            USING ERRCODE = 'invalid_parameter_value', HINT = 'tenancy.set_sso_state(connection, ''testing'').';
    ELSIF set_sso_state.state = locked.state THEN
        RETURN;
    ELSIF set_sso_state.state <> 'testing' AND locked.state <> 'testing' THEN
        RAISE EXCEPTION 'a connection goes from % to % by way of testing', locked.state, set_sso_state.state
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT =
                'tenancy.set_sso_state(connection, ''testing'') first.';
    END IF;
    IF set_sso_state.state = 'enforced' THEN
        missing := CASE
            WHEN NOT EXISTS (SELECT FROM tenancy.issuer i WHERE i.issuer = locked.issuer AND i.status = 'active')
                THEN 'Its issuer is not active: see tenancy.set_issuer_status.'
            WHEN locked.break_glass_subject IS NULL
                THEN 'No break-glass admin is named: see tenancy.set_sso_break_glass.'
            WHEN NOT tenancy.may_break_glass(locked.organization, locked.break_glass_issuer, locked.break_glass_subject)
                THEN 'The break-glass admin is no active member any more whose role may update single sign-on: see tenancy.set_sso_break_glass.'
            WHEN NOT EXISTS (SELECT FROM tenancy.issuer i WHERE i.issuer = locked.break_glass_issuer
                AND i.status = 'active')
                THEN 'The issuer of the break-glass admin is not active: see tenancy.set_issuer_status.'
            WHEN NOT EXISTS (SELECT FROM tenancy.sso_test t
                              WHERE t.connection = locked.id AND t.version = locked.version AND t.succeeded
                                AND t.tested_at > clock_timestamp() - interval '1 day')
                THEN 'No test sign-in has succeeded within a day and since the last change: see tenancy.test_sso.'
        END;
        IF missing IS NOT NULL THEN
            RAISE EXCEPTION 'single sign-on connection "%" cannot be enforced yet', locked.name
                USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = missing,
                      HINT = 'The whole way stands in docs/single-sign-on.md.';
        END IF;
        IF locked.break_glass_issuer = locked.issuer THEN
            RAISE WARNING 'the break-glass admin comes through the issuer of the connection'
                USING DETAIL = 'When that issuer fails, nobody gets in.',
                      HINT = 'Name an admin with tokens of another issuer: tenancy.set_sso_break_glass.';
        END IF;
    END IF;
    UPDATE tenancy.sso_connection c SET state = set_sso_state.state, updated_at = now() WHERE c.id = locked.id;
END
$$;
COMMENT ON FUNCTION tenancy.set_sso_state(uuid, text) IS
'Sets the state of a connection to draft, testing or enforced, one step at a time, forward or back. In the state
testing tokens can be tested with tenancy.test_sso. In the state enforced members can authenticate in no other way,
from the next authentication on.

A connection becomes enforced only if its issuer is active, a break-glass admin is named who could authenticate, and
a test of the present settings has succeeded within the last day. The detail of the error names what is missing. The
function warns if the break-glass admin depends on the issuer of the connection.

Raises 55000 for a condition that is not met or a skipped step, 22023 for another state, 42704 for an unknown
connection.';

CREATE FUNCTION tenancy.test_sso(connection uuid, token text) RETURNS TABLE (succeeded boolean, reason text)
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_test_sso_wrapper';
COMMENT ON FUNCTION tenancy.test_sso(uuid, text) IS
'Tests a token on a connection in the state testing or enforced: signature, claims, membership and the conditions of
the connection. Records the result in tenancy.sso_test and returns it. A token that fails raises no error, so the
record remains. The transaction gets no context. The exception of the break-glass admin does not apply to the test.
Pass the token as a bind parameter. Raises 42704 for an unknown connection, 55000 (sso_draft) for a draft.';
