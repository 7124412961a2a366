-- Who calls: issuers, memberships, revocations. Code: src/identity/.

CREATE TABLE tenancy.issuer (
    issuer text COLLATE "C" PRIMARY KEY CHECK (issuer <> ''),
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'disabled')),
    revision uuid NOT NULL DEFAULT gen_random_uuid(),
    jwks_file text CHECK (jwks_file <> ''),
    jwks json,
    audiences text[] NOT NULL CHECK (cardinality(audiences) > 0),
    algorithms text[] CHECK (cardinality(algorithms) > 0),
    leeway_seconds integer NOT NULL CHECK (leeway_seconds BETWEEN 0 AND 300),
    preset text NOT NULL,
    audience_claim text NOT NULL,
    organization_claim text,
    organization_form text NOT NULL CHECK (organization_form IN ('text', 'keyed')),
    role_claim text,
    role_rule text NOT NULL CHECK (role_rule IN ('membership', 'claim', 'narrower')),
    issuer_binding text,
    updated_at timestamptz NOT NULL DEFAULT now(),
    CHECK (jwks IS NOT NULL OR jwks_file IS NOT NULL),
    CHECK (role_claim IS NOT NULL OR role_rule = 'membership')
);
COMMENT ON TABLE tenancy.issuer IS
'The identity providers whose tokens are accepted. Written by tenancy.set_issuer. The table holds no secret: HMAC keys
are in files.';
COMMENT ON COLUMN tenancy.issuer.issuer IS
'The "iss" claim of its tokens, compared byte for byte (RFC 7519 section 4.1.1).';
COMMENT ON COLUMN tenancy.issuer.status IS 'active or disabled. Tokens of a disabled issuer are refused.';
COMMENT ON COLUMN tenancy.issuer.revision IS
'New after each change. Sessions compare it to discard parsed keys and cached signatures.';
COMMENT ON COLUMN tenancy.issuer.jwks_file IS
'The key file below tenancy.jwks_directory; NULL if the keys are in the column jwks.';
COMMENT ON COLUMN tenancy.issuer.jwks IS
'The public keys as a JWK Set (RFC 7517 section 5). With a key file: the public keys that the file had when it was
last registered or refreshed. Sessions that find the file unusable use these.';
COMMENT ON COLUMN tenancy.issuer.audiences IS
'The accepted audiences. A token must name one of them in its audience_claim.';
COMMENT ON COLUMN tenancy.issuer.algorithms IS
'The accepted signature algorithms (RFC 7518 section 3.1, RFC 8037). NULL for the algorithms of the keys; each key has
exactly one.';
COMMENT ON COLUMN tenancy.issuer.leeway_seconds IS 'Allowed difference of the clocks, in seconds.';
COMMENT ON COLUMN tenancy.issuer.preset IS
'The preset that gave the columns below their values where the caller passed none.';
COMMENT ON COLUMN tenancy.issuer.audience_claim IS
'JSON pointer (RFC 6901) to the audience. /aud, or another claim such as /azp for a provider whose tokens have no
"aud".';
COMMENT ON COLUMN tenancy.issuer.organization_claim IS 'JSON pointer to the organization; NULL if tokens name none.';
COMMENT ON COLUMN tenancy.issuer.organization_form IS
'text: the claim is a string. keyed: the claim is an object with an organization''s name as key and its "id" inside,
or an array of names (Keycloak).';
COMMENT ON COLUMN tenancy.issuer.role_claim IS
'JSON pointer to the role, a string or an array of strings; NULL if roles come from the membership alone.';
COMMENT ON COLUMN tenancy.issuer.role_rule IS
'membership: the claim is ignored. claim: the claim alone gives the role. narrower: of the roles of claim and
membership, the one that permits less.';
COMMENT ON COLUMN tenancy.issuer.issuer_binding IS
'JSON pointer to a claim whose value must be a path segment of "iss", such as /tid of Entra; NULL for none.';
COMMENT ON COLUMN tenancy.issuer.updated_at IS 'When the issuer was last changed.';

CREATE TABLE tenancy.retired_key (
    issuer text COLLATE "C" NOT NULL REFERENCES tenancy.issuer ON DELETE CASCADE,
    key_id text COLLATE "C" NOT NULL CHECK (key_id <> ''),
    retired_at timestamptz NOT NULL,
    PRIMARY KEY (issuer, key_id)
);
COMMENT ON TABLE tenancy.retired_key IS
'Keys whose signatures are refused, even if the JWK Set still contains them. Written by tenancy.retire_key.';
COMMENT ON COLUMN tenancy.retired_key.issuer IS 'The issuer of the key.';
COMMENT ON COLUMN tenancy.retired_key.key_id IS 'The "kid" of the key (RFC 7517 section 4.5).';
COMMENT ON COLUMN tenancy.retired_key.retired_at IS 'From this time on, tokens that the key signed are refused.';

CREATE TABLE tenancy.external_organization (
    issuer text COLLATE "C" NOT NULL REFERENCES tenancy.issuer ON DELETE CASCADE,
    external_id text COLLATE "C" NOT NULL CHECK (external_id <> ''),
    organization uuid NOT NULL REFERENCES tenancy.organization ON DELETE CASCADE,
    PRIMARY KEY (issuer, external_id)
);
CREATE INDEX external_organization_organization_idx ON tenancy.external_organization (organization);
COMMENT ON TABLE tenancy.external_organization IS
'Names that an issuer''s tokens use for an organization, such as org_2ab3. Written by
tenancy.set_external_organization.';
COMMENT ON COLUMN tenancy.external_organization.issuer IS
'The issuer that uses the name. Two issuers may use one name for two organizations.';
COMMENT ON COLUMN tenancy.external_organization.external_id IS 'The value of the organization claim.';
COMMENT ON COLUMN tenancy.external_organization.organization IS 'The organization with this name.';

CREATE TABLE tenancy.external_role (
    issuer text COLLATE "C" NOT NULL REFERENCES tenancy.issuer ON DELETE CASCADE,
    external_role text COLLATE "C" NOT NULL CHECK (external_role <> ''),
    role text COLLATE "C" NOT NULL,
    -- A role of one organization has no name in the tokens of all.
    role_organization uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000'
        CHECK (role_organization = '00000000-0000-0000-0000-000000000000'),
    PRIMARY KEY (issuer, external_role),
    FOREIGN KEY (role_organization, role) REFERENCES tenancy.role ON DELETE CASCADE
);
CREATE INDEX external_role_role_idx ON tenancy.external_role (role);
COMMENT ON TABLE tenancy.external_role IS
'Names that an issuer''s tokens use for a role, such as org:admin. Written by tenancy.set_external_role.';
COMMENT ON COLUMN tenancy.external_role.issuer IS 'The issuer that uses the name.';
COMMENT ON COLUMN tenancy.external_role.external_role IS 'The value of the role claim.';
COMMENT ON COLUMN tenancy.external_role.role IS 'The role that the name means, one of every organization.';
COMMENT ON COLUMN tenancy.external_role.role_organization IS
'The nil UUID: a role of one organization has no such name.';

CREATE TABLE tenancy.membership (
    organization uuid NOT NULL REFERENCES tenancy.organization ON DELETE CASCADE,
    issuer text COLLATE "C" NOT NULL REFERENCES tenancy.issuer ON DELETE CASCADE,
    subject text COLLATE "C" NOT NULL CHECK (subject <> ''),
    role text COLLATE "C" NOT NULL,
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
    valid_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    role_organization uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000'
        CHECK (role_organization IN ('00000000-0000-0000-0000-000000000000', organization)),
    reinstated_at timestamptz,
    PRIMARY KEY (issuer, subject, organization),
    FOREIGN KEY (role_organization, role) REFERENCES tenancy.role
);
CREATE INDEX membership_organization_idx ON tenancy.membership (organization, role);
CREATE INDEX membership_role_idx ON tenancy.membership (role, role_organization);
COMMENT ON TABLE tenancy.membership IS
'The memberships: which subject belongs to which organization, with which role. Written by tenancy.set_membership, and
by tenancy.add_member and its like in the context. Read at each authentication. Members read those of their
organization with the permission member:read.';
COMMENT ON COLUMN tenancy.membership.organization IS 'The organization.';
COMMENT ON COLUMN tenancy.membership.issuer IS
'The issuer of the member''s tokens. A subject is unique only within its issuer.';
COMMENT ON COLUMN tenancy.membership.subject IS 'The "sub" claim of the member''s tokens.';
COMMENT ON COLUMN tenancy.membership.role IS 'The role of the member in the organization.';
COMMENT ON COLUMN tenancy.membership.status IS
'active or suspended. A suspended member is refused from the next authentication on.';
COMMENT ON COLUMN tenancy.membership.valid_until IS 'When the membership ends; NULL for no end.';
COMMENT ON COLUMN tenancy.membership.created_at IS 'When the membership was created.';
COMMENT ON COLUMN tenancy.membership.role_organization IS
'Whose role it is: the organization''s own, or the nil UUID for one of every organization. No other organization''s role
can be named.';
COMMENT ON COLUMN tenancy.membership.reinstated_at IS
'When somebody let the member in again who had not signed in for a long time (guardrail dormant_member); NULL for never.';

-- The library reads columns by their order.
CREATE TABLE tenancy.member_activity (
    organization uuid NOT NULL,
    issuer text COLLATE "C" NOT NULL,
    subject text COLLATE "C" NOT NULL,
    signed_in_at timestamptz NOT NULL,
    PRIMARY KEY (issuer, subject, organization),
    FOREIGN KEY (issuer, subject, organization) REFERENCES tenancy.membership ON DELETE CASCADE
);
COMMENT ON TABLE tenancy.member_activity IS
'When members have signed in, to the day. Written by the background worker where the guardrail dormant_member is not
off, for a member without a row, or whose row is older than a day. Members read those of their organization with the
permission member:read.';
COMMENT ON COLUMN tenancy.member_activity.organization IS 'The organization.';
COMMENT ON COLUMN tenancy.member_activity.issuer IS 'Issuer of the member.';
COMMENT ON COLUMN tenancy.member_activity.subject IS 'Subject of the member.';
COMMENT ON COLUMN tenancy.member_activity.signed_in_at IS
'A sign-in of the member. There is none that is more than a day later.';

CREATE TABLE tenancy.revoked_session (
    issuer text COLLATE "C" NOT NULL REFERENCES tenancy.issuer ON DELETE CASCADE,
    session_id text COLLATE "C" NOT NULL CHECK (session_id <> ''),
    reason text,
    revoked_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (issuer, session_id)
);
COMMENT ON TABLE tenancy.revoked_session IS
'Sessions whose tokens are refused before they expire. Written by tenancy.revoke_session.';
COMMENT ON COLUMN tenancy.revoked_session.issuer IS 'The issuer of the session.';
COMMENT ON COLUMN tenancy.revoked_session.session_id IS
'The value of "sid", "session_id" or "jti" in the tokens of the session.';
COMMENT ON COLUMN tenancy.revoked_session.reason IS 'Why the session was revoked.';
COMMENT ON COLUMN tenancy.revoked_session.revoked_at IS
'When the session was revoked. tenancy.purge_revocations compares it.';

CREATE TABLE tenancy.revoked_subject (
    issuer text COLLATE "C" NOT NULL REFERENCES tenancy.issuer ON DELETE CASCADE,
    subject text COLLATE "C" NOT NULL CHECK (subject <> ''),
    issued_before timestamptz NOT NULL,
    reason text,
    revoked_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (issuer, subject)
);
COMMENT ON TABLE tenancy.revoked_subject IS
'Subjects whose tokens from before a time are all refused. Written by tenancy.revoke_subject.';
COMMENT ON COLUMN tenancy.revoked_subject.issuer IS 'The issuer of the subject.';
COMMENT ON COLUMN tenancy.revoked_subject.subject IS 'The "sub" claim of the tokens.';
COMMENT ON COLUMN tenancy.revoked_subject.issued_before IS 'Tokens with an earlier "iat", or without one, are refused.';
COMMENT ON COLUMN tenancy.revoked_subject.reason IS 'Why the tokens were revoked.';
COMMENT ON COLUMN tenancy.revoked_subject.revoked_at IS
'When the tokens were revoked. tenancy.purge_revocations compares it.';

SELECT pg_extension_config_dump('tenancy.issuer', '');
SELECT pg_extension_config_dump('tenancy.retired_key', '');
SELECT pg_extension_config_dump('tenancy.external_organization', '');
SELECT pg_extension_config_dump('tenancy.external_role', '');
SELECT pg_extension_config_dump('tenancy.revoked_session', '');
SELECT pg_extension_config_dump('tenancy.revoked_subject', '');
SELECT pg_extension_config_dump('tenancy.membership', '');
SELECT pg_extension_config_dump('tenancy.member_activity', '');

ALTER TABLE tenancy.membership ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own_organization ON tenancy.membership FOR SELECT TO tenancy_application, tenancy_operator
    USING (organization = tenancy.org_id() AND tenancy.allowed('member', 'read'));
CREATE POLICY every_organization ON tenancy.membership FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
COMMENT ON POLICY own_organization ON tenancy.membership IS
'Members read the memberships of the context''s organization, with the permission member:read.';
COMMENT ON POLICY every_organization ON tenancy.membership IS 'Administrators and auditors read all memberships.';

CREATE FUNCTION tenancy.keep_member_activity() RETURNS trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_keep_member_activity';
COMMENT ON FUNCTION tenancy.keep_member_activity() IS
'Internal: trigger of tenancy.member_activity. Raises 42501 (control_table_refused) for a change that comes neither from
the extension nor from the restore of a dump. Rows go with their membership.';
CREATE TRIGGER keep_member_activity BEFORE INSERT OR UPDATE OR TRUNCATE ON tenancy.member_activity
    FOR EACH STATEMENT EXECUTE FUNCTION tenancy.keep_member_activity();
ALTER TABLE tenancy.member_activity ENABLE ALWAYS TRIGGER keep_member_activity;
COMMENT ON TRIGGER keep_member_activity ON tenancy.member_activity IS
'Refuses changes that do not come from the extension.';

ALTER TABLE tenancy.member_activity ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own_organization ON tenancy.member_activity FOR SELECT TO tenancy_application, tenancy_operator
    USING (organization = tenancy.org_id() AND tenancy.allowed('member', 'read'));
CREATE POLICY every_organization ON tenancy.member_activity FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
COMMENT ON POLICY own_organization ON tenancy.member_activity IS
'Members read those of the context''s organization, with the permission member:read.';
COMMENT ON POLICY every_organization ON tenancy.member_activity IS 'Administrators and auditors read all of them.';

CREATE FUNCTION tenancy.assume_organization(organization uuid, reason text, role text DEFAULT NULL, correlation_id text
    DEFAULT NULL) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_assume_organization_wrapper';
COMMENT ON FUNCTION tenancy.assume_organization(uuid, text, text, text) IS
'Gives the transaction a context for an organization without a token. The actor is the database role that logged in.
For jobs and maintenance; granted to tenancy_operator alone. Returns the organization.

- organization: Id of the organization.
- reason: Why. Each event of the transaction carries it.
- role: The context may do what this role may; without it, everything.
- correlation_id: As in tenancy.authenticate.

The call records an event (operation assume) of the organization. It also writes a line to the server''s log, which
remains after a rollback. The context lasts until the end of the transaction, which refuses every other identity.

Raises 42704 for an organization or role that does not exist, 22004 without a reason, 25006 in a read-only
transaction or on a standby, 28000 if the transaction has another identity.';

CREATE FUNCTION tenancy.authenticate(token text, organization uuid DEFAULT NULL, correlation_id text DEFAULT NULL)
    RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_authenticate_wrapper';
COMMENT ON FUNCTION tenancy.authenticate(text, uuid, text) IS
'Verifies a token and sets the context of the transaction: organization, subject, role and permissions. Returns the
organization.

- token: A compact JWS (RFC 7515) of at most 16 KiB, as the identity provider issued it.
- organization: Needed only if the token names no organization and the subject has several memberships.
- correlation_id: At most 200 bytes. The actor of each audit event of the transaction has it.

Algorithms: HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 and EdDSA (Ed25519). The key
determines the algorithm, and the "alg" of the header must agree with it. A "kid" in the header must name a key of
the issuer. Without a "kid", the issuer must have exactly one key of the algorithm. Required claims: "iss", "sub",
"aud" and "exp".

Issuers, memberships and permissions are read in their newest committed state, also under REPEATABLE READ and
SERIALIZABLE. The transaction keeps what it loaded: later changes of them apply from the next call on.

Raises 28000 for a token, an organization or a membership that is not accepted, 22023 for a correlation id that is
too long. The error is the same for an organization that does not exist and one of which the subject is no member.';

CREATE FUNCTION tenancy.set_issuer(
    issuer text, audiences text[], jwks text DEFAULT NULL, algorithms text[] DEFAULT NULL,
    organization_claim text DEFAULT NULL, leeway_seconds integer DEFAULT 30, preset text DEFAULT 'generic',
    jwks_file text DEFAULT NULL, organization_form text DEFAULT NULL, role_claim text DEFAULT NULL,
    role_rule text DEFAULT NULL, audience_claim text DEFAULT NULL, issuer_binding text DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_set_issuer_wrapper';
COMMENT ON FUNCTION tenancy.set_issuer(text, text[], text, text[], text, integer, text, text, text, text, text, text,
    text) IS
'Registers an identity provider, or replaces everything that was registered for the same issuer. A disabled issuer
stays disabled, so a job that refreshes keys cannot enable it; see tenancy.set_issuer_status.

- issuer: The "iss" claim, compared byte for byte.
- audiences: At least one. A token must name one of them in its audience claim.
- jwks: The JWK Set as text, with public keys only. Private keys and HMAC secrets are refused. Pass either jwks or
  jwks_file.
- jwks_file: A file with the JWK Set, in the directory of the setting tenancy.jwks_directory. Sessions read it again
  when it changes. Only a file may contain HMAC secrets.
- algorithms: The algorithms to accept. By default those of the keys.
- organization_claim: JSON pointer (RFC 6901) to the organization.
- leeway_seconds: Allowed difference of the clocks, 0 to 300 seconds.
- preset: Provider whose claims are the defaults of the other arguments; see below.
- organization_form: text: the claim is a string. keyed: it is an object with an organization''s alias as key and its
  "id" inside, or an array of aliases.
- role_claim: JSON pointer to the role, a string or an array of strings.
- role_rule: membership: the claim is not read. claim: the claim alone gives the role and must name one. narrower: of
  the roles of claim and membership, the one that permits less; refused if neither does. The default is narrower if
  there is a role claim.
- audience_claim: JSON pointer to the audience, for tokens without "aud".
- issuer_binding: JSON pointer to a claim whose value must be a path segment of the issuer.

An argument that is NULL has the value of the preset. The empty text means no such claim. In a claim name with
slashes, each slash is written as ~1. The presets are:

- generic, auth0: organization /org_id, audience /aud.
- supabase: organization /app_metadata/org_id, audience /aud.
- supabase_hook: organization /org_id, role /org_role, audience /aud.
- clerk_v1: organization /org_id, role /org_role, audience /azp.
- clerk_v2: organization /o/id, role /o/rol, audience /azp.
- workos: organization /org_id, role /role, audience /aud.
- keycloak: organization /organization, keyed; audience /aud.
- entra: organization /tid, audience /aud, binding /tid.
- okta: audience /aud.

Under the rule claim, the role of the token applies to whichever organization the caller chooses. Use that rule only
if the token also names the organization.

An organization claim is compared with the names of tenancy.set_external_organization, then with text_id, then with
the id. A role claim is compared with the names of tenancy.set_external_role, then with the names of roles. Unknown
roles in the token are ignored.

Raises 22023 (key_set_invalid, argument_invalid) for keys or arguments that cannot be used, 22004 for NULL in a
required argument, F0000 (key_file_invalid) for a file that cannot be used.';

CREATE FUNCTION tenancy.refresh_issuer_keys(issuer text) RETURNS boolean
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_refresh_issuer_keys_wrapper';
COMMENT ON FUNCTION tenancy.refresh_issuer_keys(text) IS
'Reads the issuer''s key file and stores its public keys in tenancy.issuer.jwks. Sessions that have not read a usable
file use these while the file is unusable. The job that writes the file calls the function; sessions notice a new
file without the call. Returns true if the keys have changed. Raises F0000 for a file that cannot be used, 42704 for
an issuer without a key file.';

CREATE FUNCTION tenancy.renew_revision() RETURNS trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    new.revision := gen_random_uuid();
    new.updated_at := now();
    RETURN new;
END
$$;
COMMENT ON FUNCTION tenancy.renew_revision() IS
'Internal: trigger of tenancy.issuer, which gives a changed row a new revision. Sessions then discard the keys and
signatures that they have cached.';

CREATE FUNCTION tenancy.renew_issuer() RETURNS trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE tenancy.issuer i SET updated_at = now()
     WHERE i.issuer IN (CASE WHEN tg_op <> 'INSERT' THEN old.issuer END, CASE WHEN tg_op <> 'DELETE'
         THEN new.issuer END);
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION tenancy.renew_issuer() IS
'Internal: trigger of the tables that belong to an issuer. A change of their rows gives the issuer a new revision.';
CREATE TRIGGER renew_revision BEFORE UPDATE ON tenancy.issuer FOR EACH ROW EXECUTE FUNCTION tenancy.renew_revision();
CREATE TRIGGER renew_issuer AFTER INSERT OR UPDATE OR DELETE ON tenancy.retired_key FOR EACH ROW EXECUTE FUNCTION
    tenancy.renew_issuer();
CREATE TRIGGER renew_issuer AFTER INSERT OR UPDATE OR DELETE ON tenancy.external_role FOR EACH ROW EXECUTE FUNCTION
    tenancy.renew_issuer();
-- On a subscriber too, and under session_replication_role.
ALTER TABLE tenancy.issuer ENABLE ALWAYS TRIGGER renew_revision;
ALTER TABLE tenancy.retired_key ENABLE ALWAYS TRIGGER renew_issuer;
ALTER TABLE tenancy.external_role ENABLE ALWAYS TRIGGER renew_issuer;
ALTER TABLE tenancy.issuer ENABLE ALWAYS TRIGGER renew_revision;
COMMENT ON TRIGGER renew_revision ON tenancy.issuer IS 'Gives a changed row a new revision.';
COMMENT ON TRIGGER renew_issuer ON tenancy.retired_key IS 'Gives the issuer a new revision.';
COMMENT ON TRIGGER renew_issuer ON tenancy.external_role IS 'Gives the issuer a new revision.';

CREATE FUNCTION tenancy.require_argument(argument text, value text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF value IS NULL THEN
        RAISE EXCEPTION '% may not be NULL', argument
            USING ERRCODE = 'null_value_not_allowed', HINT = 'See the function''s description: \df+ tenancy.*';
    END IF;
END
$$;
COMMENT ON FUNCTION tenancy.require_argument(text, text) IS
'Internal: raises 22004 with the name of the argument if the value is NULL. Other functions call it.';

CREATE FUNCTION tenancy.require_issuer(issuer text) RETURNS void
    LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM tenancy.issuer i WHERE i.issuer = require_issuer.issuer) THEN
        RAISE EXCEPTION 'issuer "%" is not registered', issuer
            USING ERRCODE = 'undefined_object', HINT = 'Register it with tenancy.set_issuer.';
    END IF;
END
$$;
COMMENT ON FUNCTION tenancy.require_issuer(text) IS 'Internal: raises 42704 if the issuer is not registered.';

CREATE FUNCTION tenancy.set_issuer_status(issuer text, status text) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM tenancy.require_issuer(set_issuer_status.issuer);
    UPDATE tenancy.issuer i SET status = set_issuer_status.status
     WHERE i.issuer = set_issuer_status.issuer;
END
$$;
COMMENT ON FUNCTION tenancy.set_issuer_status(text, text) IS
'Sets the status of an issuer to active or disabled. Tokens of a disabled issuer are refused from the next
authentication on. Raises 42704 for an unknown issuer, 23514 for another status.';

CREATE FUNCTION tenancy.is_dormant(organization uuid, issuer text, subject text) RETURNS boolean
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_is_dormant_wrapper';
COMMENT ON FUNCTION tenancy.is_dormant(uuid, text, text) IS
'Internal: whether the guardrail dormant_member, which is not off, is about this member now.';

CREATE FUNCTION tenancy.set_membership(
    organization uuid, subject text, role text, issuer text DEFAULT NULL,
    status text DEFAULT 'active', valid_until timestamptz DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    of_issuer text := issuer;
BEGIN
    PERFORM tenancy.require_argument('organization', set_membership.organization::text),
            tenancy.require_argument('subject', set_membership.subject),
            tenancy.require_argument('role', set_membership.role),
            tenancy.require_argument('status', set_membership.status);
    IF of_issuer IS NULL THEN
        -- Without several issuers there is nothing to mistake.
        SELECT min(i.issuer) INTO of_issuer FROM tenancy.issuer i HAVING count(*) = 1;
        IF of_issuer IS NULL THEN
            RAISE EXCEPTION 'the issuer of the member must be named, unless exactly one is registered'
                USING ERRCODE = 'invalid_parameter_value', HINT = 'tenancy.set_membership(..., issuer => ...).';
        END IF;
    END IF;
    INSERT INTO tenancy.membership AS m (organization, issuer, subject, role, role_organization, status, valid_until)
    VALUES (set_membership.organization, of_issuer, set_membership.subject, set_membership.role,
            coalesce((SELECT r.organization FROM tenancy.role r
                       WHERE r.organization = set_membership.organization AND r.name = set_membership.role),
                     '00000000-0000-0000-0000-000000000000'),
            set_membership.status, set_membership.valid_until)
    ON CONFLICT ON CONSTRAINT membership_pkey DO UPDATE
       SET role = EXCLUDED.role, role_organization = EXCLUDED.role_organization, status = EXCLUDED.status,
           valid_until = EXCLUDED.valid_until,
           reinstated_at = CASE
               WHEN EXCLUDED.status = 'active'
                    AND tenancy.is_dormant(EXCLUDED.organization, EXCLUDED.issuer, EXCLUDED.subject)
               THEN tenancy.clock() ELSE m.reinstated_at END;
EXCEPTION WHEN foreign_key_violation THEN
    RAISE EXCEPTION 'the organization, the role or the issuer of the membership does not exist'
        USING ERRCODE = 'undefined_object',
              HINT = 'Create them first: tenancy.create_organization, tenancy.create_role, tenancy.set_issuer.';
END
$$;
COMMENT ON FUNCTION tenancy.set_membership(uuid, text, text, text, text, timestamptz) IS
'Makes a subject a member of an organization, or replaces role, status and end of an existing membership.

- organization: Id of the organization.
- subject: The "sub" claim of the member''s tokens.
- role: The role of the member in the organization, one of every organization or its own.
- issuer: The issuer of the member''s tokens. Optional while exactly one is registered.
- status: active or suspended. active lets a member in again who has not signed in for a long time (guardrail
  dormant_member).
- valid_until: When the membership ends; NULL for no end.

The change applies from the next authentication on. Raises 42704 if organization, role or issuer do not exist, 23514
for another status, 22023 if the issuer must be named, 22004 for NULL in a required argument, 55000 (last_admin) if the
organization would be left without an admin; tenancy.override_reason passes that, as an event.';

CREATE FUNCTION tenancy.remove_membership(organization uuid, subject text, issuer text DEFAULT NULL) RETURNS boolean
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM tenancy.membership m
     WHERE m.organization = remove_membership.organization AND m.subject = remove_membership.subject
       AND (remove_membership.issuer IS NULL OR m.issuer = remove_membership.issuer);
    RETURN FOUND;
END
$$;
COMMENT ON FUNCTION tenancy.remove_membership(uuid, text, text) IS
'Ends a membership: of one issuer, or of all issuers if none is named. Returns true if there was one. The change
applies from the next authentication on. Raises 55000 (last_admin) as tenancy.set_membership.';

CREATE FUNCTION tenancy.set_external_organization(organization uuid, issuer text, external_id text) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM tenancy.require_argument('organization', set_external_organization.organization::text),
            tenancy.require_argument('issuer', set_external_organization.issuer),
            tenancy.require_argument('external_id', set_external_organization.external_id);
    INSERT INTO tenancy.external_organization AS e (issuer, external_id, organization)
    VALUES (set_external_organization.issuer, set_external_organization.external_id,
        set_external_organization.organization)
    ON CONFLICT ON CONSTRAINT external_organization_pkey DO UPDATE SET organization = EXCLUDED.organization;
EXCEPTION WHEN foreign_key_violation THEN
    RAISE EXCEPTION 'the organization or the issuer does not exist'
        USING ERRCODE = 'undefined_object', HINT =
            'Create them first: tenancy.create_organization, tenancy.set_issuer.';
END
$$;
COMMENT ON FUNCTION tenancy.set_external_organization(uuid, text, text) IS
'Sets the name that an issuer''s tokens use for an organization: tenancy.set_external_organization(id,
''https://clerk.example.com'', ''org_2ab3''). Two issuers may use one name for two organizations. A name that another
organization had is moved to this one. Raises 42704 if organization or issuer do not exist, 22004 for a NULL
argument.';

CREATE FUNCTION tenancy.remove_external_organization(issuer text, external_id text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM tenancy.external_organization e
     WHERE e.issuer = remove_external_organization.issuer AND e.external_id = remove_external_organization.external_id;
    RETURN FOUND;
END
$$;
COMMENT ON FUNCTION tenancy.remove_external_organization(text, text) IS
'Removes a name of tenancy.set_external_organization. Returns true if there was one.';

CREATE FUNCTION tenancy.set_external_role(issuer text, external_role text, role text) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM tenancy.require_argument('issuer', set_external_role.issuer),
            tenancy.require_argument('external_role', set_external_role.external_role),
            tenancy.require_argument('role', set_external_role.role);
    INSERT INTO tenancy.external_role AS e (issuer, external_role, role)
    VALUES (set_external_role.issuer, set_external_role.external_role, set_external_role.role)
    ON CONFLICT ON CONSTRAINT external_role_pkey DO UPDATE SET role = EXCLUDED.role;
EXCEPTION WHEN foreign_key_violation THEN
    RAISE EXCEPTION 'the role or the issuer does not exist'
        USING ERRCODE = 'undefined_object', HINT = 'Create them first: tenancy.create_role, tenancy.set_issuer.';
END
$$;
COMMENT ON FUNCTION tenancy.set_external_role(text, text, text) IS
'Sets the role that a value of an issuer''s role claim means: tenancy.set_external_role(''https://clerk.example.com'',
''org:admin'', ''admin''). A value that is not set means the role of the same name. Raises 42704 if role or issuer do
not exist, 22004 for a NULL argument.';

CREATE FUNCTION tenancy.remove_external_role(issuer text, external_role text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM tenancy.external_role e
     WHERE e.issuer = remove_external_role.issuer AND e.external_role = remove_external_role.external_role;
    RETURN FOUND;
END
$$;
COMMENT ON FUNCTION tenancy.remove_external_role(text, text) IS
'Removes a name of tenancy.set_external_role. Returns true if there was one.';

CREATE FUNCTION tenancy.retire_key(issuer text, key_id text, at timestamptz DEFAULT now()) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM tenancy.require_argument('issuer', retire_key.issuer),
            tenancy.require_argument('key_id', retire_key.key_id),
            tenancy.require_argument('at', retire_key.at::text);
    PERFORM tenancy.require_issuer(retire_key.issuer);
    INSERT INTO tenancy.retired_key AS k (issuer, key_id, retired_at) VALUES (retire_key.issuer, retire_key.key_id,
        retire_key.at)
    ON CONFLICT ON CONSTRAINT retired_key_pkey DO UPDATE SET retired_at = EXCLUDED.retired_at;
END
$$;
COMMENT ON FUNCTION tenancy.retire_key(text, text, timestamptz) IS
'Refuses all tokens that a key has signed, even if the JWK Set still contains the key.

- issuer: The issuer of the key.
- key_id: The "kid" of the key.
- at: From this time on. A later call moves the time, and ''infinity'' cancels the retirement.

Raises 42704 for an unknown issuer, 22004 for a NULL argument.';

CREATE FUNCTION tenancy.revoke_session(issuer text, session_id text, reason text DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM tenancy.require_argument('issuer', revoke_session.issuer),
            tenancy.require_argument('session_id', revoke_session.session_id);
    PERFORM tenancy.require_issuer(revoke_session.issuer);
    INSERT INTO tenancy.revoked_session AS s (issuer, session_id, reason)
    VALUES (revoke_session.issuer, revoke_session.session_id, revoke_session.reason)
    ON CONFLICT ON CONSTRAINT revoked_session_pkey DO NOTHING;
END
$$;
COMMENT ON FUNCTION tenancy.revoke_session(text, text, text) IS
'Refuses every token with this value in "sid", "session_id" or "jti", from the next authentication on. Raises 42704
for an unknown issuer, 22004 for a NULL issuer or session id.';

CREATE FUNCTION tenancy.revoke_subject(
    issuer text, subject text, issued_before timestamptz DEFAULT clock_timestamp(), reason text DEFAULT NULL) RETURNS
        void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM tenancy.require_argument('issuer', revoke_subject.issuer),
            tenancy.require_argument('subject', revoke_subject.subject),
            tenancy.require_argument('issued_before', revoke_subject.issued_before::text);
    PERFORM tenancy.require_issuer(revoke_subject.issuer);
    -- Never an earlier time than before: that would let tokens in again.
    INSERT INTO tenancy.revoked_subject AS s (issuer, subject, issued_before, reason)
    VALUES (revoke_subject.issuer, revoke_subject.subject, revoke_subject.issued_before, revoke_subject.reason)
    ON CONFLICT ON CONSTRAINT revoked_subject_pkey DO UPDATE
       SET issued_before = EXCLUDED.issued_before, reason = EXCLUDED.reason, revoked_at = EXCLUDED.revoked_at
     WHERE s.issued_before < EXCLUDED.issued_before;
END
$$;
COMMENT ON FUNCTION tenancy.revoke_subject(text, text, timestamptz, text) IS
'Refuses every token of the subject with an "iat" before the time, or without an "iat": "sign out everywhere". It
applies from the next authentication on. "iat" counts whole seconds, so a token of the same second is refused too. A
later call can only move the time forward. Raises 42704 for an unknown issuer, 22004 for NULL in a required argument.';

CREATE FUNCTION tenancy.purge_revocations(revoked_before timestamptz) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    sessions bigint;
    subjects bigint;
BEGIN
    DELETE FROM tenancy.revoked_session s WHERE s.revoked_at < revoked_before;
    GET DIAGNOSTICS sessions = ROW_COUNT;
    DELETE FROM tenancy.revoked_subject s WHERE s.revoked_at < revoked_before AND s.issued_before < revoked_before;
    GET DIAGNOSTICS subjects = ROW_COUNT;
    RETURN sessions + subjects;
END
$$;
COMMENT ON FUNCTION tenancy.purge_revocations(timestamptz) IS
'Deletes revocations that were made before a time, and returns how many. Call it once every token from before that
time has expired; the "exp" of the longest-lived tokens shows when. A revoked subject is kept while its issued_before
is not before the time either.';
