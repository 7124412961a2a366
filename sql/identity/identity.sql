-- Who calls: organizations, roles, issuers, memberships, revocations. Code: src/identity/.

-- Names that are compared exactly have the collation "C": the library reads them by index below SQL, and an index that
-- a change of the operating system's collations broke would let nobody in, or the wrong one.

CREATE TABLE tenancy.organization (
    -- The nil UUID is the organization of events that concern nobody's or everybody's.
    id uuid PRIMARY KEY DEFAULT gen_random_uuid() CHECK (id <> '00000000-0000-0000-0000-000000000000'),
    name text NOT NULL CHECK (name <> ''),
    text_id text COLLATE "C" NOT NULL UNIQUE CHECK (text_id <> ''),
    integer_id bigint UNIQUE,
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE tenancy.organization IS 'The tenants. Filled by tenancy.create_organization.';
COMMENT ON COLUMN tenancy.organization.id IS 'What uuid columns of protected tables hold.';
COMMENT ON COLUMN tenancy.organization.name IS 'For people; need not be unique.';
COMMENT ON COLUMN tenancy.organization.text_id IS 'What text columns of protected tables hold, and what a token''s organization claim may name; the id''s text unless given.';
COMMENT ON COLUMN tenancy.organization.integer_id IS 'What integer and bigint columns of protected tables hold; NULL where there are none.';
COMMENT ON COLUMN tenancy.organization.status IS 'active, or suspended: nobody can authenticate for it.';
COMMENT ON COLUMN tenancy.organization.created_at IS 'When it was created.';

CREATE TABLE tenancy.role (
    name text COLLATE "C" PRIMARY KEY CHECK (name <> ''),
    description text,
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE tenancy.role IS 'The roles that members have in their organizations; not database roles. Filled by tenancy.create_role.';
COMMENT ON COLUMN tenancy.role.name IS 'Its name, the same in every organization.';
COMMENT ON COLUMN tenancy.role.description IS 'For people.';
COMMENT ON COLUMN tenancy.role.created_at IS 'When it was created.';

CREATE TABLE tenancy.role_permission (
    role text COLLATE "C" NOT NULL REFERENCES tenancy.role ON DELETE CASCADE,
    domain text NOT NULL CHECK (domain <> ''),
    action text NOT NULL CHECK (action <> ''),
    PRIMARY KEY (role, domain, action)
);
COMMENT ON TABLE tenancy.role_permission IS 'The permission matrix: what a role may do. Filled by tenancy.grant_permission.';
COMMENT ON COLUMN tenancy.role_permission.role IS 'The role that may.';
COMMENT ON COLUMN tenancy.role_permission.domain IS 'What it may act on, as named in tenancy.protect or tenancy.authorize; * for every domain.';
COMMENT ON COLUMN tenancy.role_permission.action IS 'What it may do: read, create, update, delete, or an action of the application''s own; * for every action.';

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
COMMENT ON TABLE tenancy.issuer IS 'The identity providers whose tokens are accepted. Filled by tenancy.set_issuer. Holds no secret: HMAC keys are in files.';
COMMENT ON COLUMN tenancy.issuer.issuer IS 'The "iss" claim of its tokens, compared exactly (RFC 7519 section 4.1.1).';
COMMENT ON COLUMN tenancy.issuer.status IS 'active, or disabled: its tokens are refused.';
COMMENT ON COLUMN tenancy.issuer.revision IS 'New with each change, so that sessions drop what they have parsed and remembered.';
COMMENT ON COLUMN tenancy.issuer.jwks_file IS 'The file below tenancy.jwks_directory that has its keys; NULL when they stand in jwks.';
COMMENT ON COLUMN tenancy.issuer.jwks IS 'Its public keys as a JWK Set (RFC 7517 section 5). With a file: those that the file had when it was last registered or refreshed, for sessions that find it broken.';
COMMENT ON COLUMN tenancy.issuer.audiences IS 'A token must name one of them in its audience_claim.';
COMMENT ON COLUMN tenancy.issuer.algorithms IS 'Signature algorithms that are accepted (RFC 7518 section 3.1, RFC 8037); NULL for those of the keys, of which each is for exactly one.';
COMMENT ON COLUMN tenancy.issuer.leeway_seconds IS 'How far the clocks may differ, in seconds.';
COMMENT ON COLUMN tenancy.issuer.preset IS 'The provider whose claims the columns below were taken from, where the caller named none.';
COMMENT ON COLUMN tenancy.issuer.audience_claim IS 'JSON pointer (RFC 6901) to the audience: /aud unless the provider''s tokens have none, and /azp for instance says whom they are for.';
COMMENT ON COLUMN tenancy.issuer.organization_claim IS 'JSON pointer to the organization; NULL when tokens do not name one.';
COMMENT ON COLUMN tenancy.issuer.organization_form IS 'text: the claim is a string; keyed: an object with an organization''s name as key and its "id" inside, or an array of names (Keycloak).';
COMMENT ON COLUMN tenancy.issuer.role_claim IS 'JSON pointer to the role, a string or an array of strings; NULL when roles come from the membership alone.';
COMMENT ON COLUMN tenancy.issuer.role_rule IS 'membership: the claim counts for nothing; claim: it alone gives the role; narrower: of the claim''s and the membership''s the one that permits less.';
COMMENT ON COLUMN tenancy.issuer.issuer_binding IS 'JSON pointer to a claim whose value must be a segment of the path of "iss", such as Entra''s /tid; NULL for none.';
COMMENT ON COLUMN tenancy.issuer.updated_at IS 'When it was last set.';

CREATE TABLE tenancy.retired_key (
    issuer text COLLATE "C" NOT NULL REFERENCES tenancy.issuer ON DELETE CASCADE,
    key_id text COLLATE "C" NOT NULL CHECK (key_id <> ''),
    retired_at timestamptz NOT NULL,
    PRIMARY KEY (issuer, key_id)
);
COMMENT ON TABLE tenancy.retired_key IS 'Keys that sign nothing any more, whatever the JWK Set still holds. Filled by tenancy.retire_key.';
COMMENT ON COLUMN tenancy.retired_key.issuer IS 'Whose key.';
COMMENT ON COLUMN tenancy.retired_key.key_id IS 'Its "kid" (RFC 7517 section 4.5).';
COMMENT ON COLUMN tenancy.retired_key.retired_at IS 'From when on tokens that it signed are refused.';

CREATE TABLE tenancy.external_organization (
    issuer text COLLATE "C" NOT NULL REFERENCES tenancy.issuer ON DELETE CASCADE,
    external_id text COLLATE "C" NOT NULL CHECK (external_id <> ''),
    organization uuid NOT NULL REFERENCES tenancy.organization ON DELETE CASCADE,
    PRIMARY KEY (issuer, external_id)
);
CREATE INDEX external_organization_organization_idx ON tenancy.external_organization (organization);
COMMENT ON TABLE tenancy.external_organization IS 'What an issuer''s tokens call an organization, such as org_2ab3. Filled by tenancy.set_external_organization.';
COMMENT ON COLUMN tenancy.external_organization.issuer IS 'Whose name it is: two issuers may mean two organizations by one.';
COMMENT ON COLUMN tenancy.external_organization.external_id IS 'The value of the organization claim.';
COMMENT ON COLUMN tenancy.external_organization.organization IS 'The organization that it names.';

CREATE TABLE tenancy.external_role (
    issuer text COLLATE "C" NOT NULL REFERENCES tenancy.issuer ON DELETE CASCADE,
    external_role text COLLATE "C" NOT NULL CHECK (external_role <> ''),
    role text COLLATE "C" NOT NULL REFERENCES tenancy.role ON DELETE CASCADE,
    PRIMARY KEY (issuer, external_role)
);
CREATE INDEX external_role_role_idx ON tenancy.external_role (role);
COMMENT ON TABLE tenancy.external_role IS 'What an issuer''s tokens call a role, such as org:admin. Filled by tenancy.set_external_role.';
COMMENT ON COLUMN tenancy.external_role.issuer IS 'Whose name it is.';
COMMENT ON COLUMN tenancy.external_role.external_role IS 'A value of the role claim.';
COMMENT ON COLUMN tenancy.external_role.role IS 'The role that it names.';

CREATE TABLE tenancy.membership (
    organization uuid NOT NULL REFERENCES tenancy.organization ON DELETE CASCADE,
    issuer text COLLATE "C" NOT NULL REFERENCES tenancy.issuer ON DELETE CASCADE,
    subject text COLLATE "C" NOT NULL CHECK (subject <> ''),
    role text COLLATE "C" NOT NULL REFERENCES tenancy.role,
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
    valid_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (issuer, subject, organization)
);
CREATE INDEX membership_organization_idx ON tenancy.membership (organization);
COMMENT ON TABLE tenancy.membership IS 'Who belongs to which organization, as what. Filled by tenancy.set_membership; read at each authentication.';
COMMENT ON COLUMN tenancy.membership.organization IS 'The organization.';
COMMENT ON COLUMN tenancy.membership.issuer IS 'Whose tokens the member comes with: a subject is unique only within its issuer.';
COMMENT ON COLUMN tenancy.membership.subject IS 'The "sub" claim of the member''s tokens.';
COMMENT ON COLUMN tenancy.membership.role IS 'What the member is there.';
COMMENT ON COLUMN tenancy.membership.status IS 'active, or suspended: refused from the next authentication on.';
COMMENT ON COLUMN tenancy.membership.valid_until IS 'When it ends by itself; NULL for never.';
COMMENT ON COLUMN tenancy.membership.created_at IS 'When it was created.';

CREATE TABLE tenancy.revoked_session (
    issuer text COLLATE "C" NOT NULL REFERENCES tenancy.issuer ON DELETE CASCADE,
    session_id text COLLATE "C" NOT NULL CHECK (session_id <> ''),
    reason text,
    revoked_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (issuer, session_id)
);
COMMENT ON TABLE tenancy.revoked_session IS 'Sessions whose tokens are refused before they expire. Filled by tenancy.revoke_session.';
COMMENT ON COLUMN tenancy.revoked_session.issuer IS 'Whose session.';
COMMENT ON COLUMN tenancy.revoked_session.session_id IS 'The value of "sid", "session_id" or "jti" in its tokens.';
COMMENT ON COLUMN tenancy.revoked_session.reason IS 'For people.';
COMMENT ON COLUMN tenancy.revoked_session.revoked_at IS 'When it was revoked; tenancy.purge_revocations goes by it.';

CREATE TABLE tenancy.revoked_subject (
    issuer text COLLATE "C" NOT NULL REFERENCES tenancy.issuer ON DELETE CASCADE,
    subject text COLLATE "C" NOT NULL CHECK (subject <> ''),
    issued_before timestamptz NOT NULL,
    reason text,
    revoked_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (issuer, subject)
);
COMMENT ON TABLE tenancy.revoked_subject IS 'Subjects all of whose tokens from before a time are refused. Filled by tenancy.revoke_subject.';
COMMENT ON COLUMN tenancy.revoked_subject.issuer IS 'Whose subject.';
COMMENT ON COLUMN tenancy.revoked_subject.subject IS 'The "sub" claim of the tokens.';
COMMENT ON COLUMN tenancy.revoked_subject.issued_before IS 'Tokens with an "iat" before it, or with none, are refused.';
COMMENT ON COLUMN tenancy.revoked_subject.reason IS 'For people.';
COMMENT ON COLUMN tenancy.revoked_subject.revoked_at IS 'When it was revoked; tenancy.purge_revocations goes by it.';

SELECT pg_extension_config_dump('tenancy.organization', '');
SELECT pg_extension_config_dump('tenancy.role', '');
SELECT pg_extension_config_dump('tenancy.role_permission', '');
SELECT pg_extension_config_dump('tenancy.issuer', '');
SELECT pg_extension_config_dump('tenancy.retired_key', '');
SELECT pg_extension_config_dump('tenancy.external_organization', '');
SELECT pg_extension_config_dump('tenancy.external_role', '');
SELECT pg_extension_config_dump('tenancy.revoked_session', '');
SELECT pg_extension_config_dump('tenancy.revoked_subject', '');
SELECT pg_extension_config_dump('tenancy.membership', '');

CREATE FUNCTION tenancy.assume_organization(organization uuid, reason text, role text DEFAULT NULL, correlation_id text DEFAULT NULL) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_assume_organization_wrapper';
COMMENT ON FUNCTION tenancy.assume_organization(uuid, text, text, text) IS
'Makes the transaction act for an organization without a token, as the database role that logged in, for a reason. With a role it may do what
that role may, otherwise everything. For jobs and maintenance by members of tenancy_operator. The assumption is an audit event of the
organization and a line in the server''s log, which stays after a rollback; each event that follows carries the reason. Otherwise as
tenancy.authenticate: until the end of the transaction, and no other identity in it. Raises 42704 for an organization or role that does not
exist, 22004 without a reason, 25006 where nothing can be written, 28000 in a transaction with another identity.';

CREATE FUNCTION tenancy.authenticate(token text, organization uuid DEFAULT NULL, correlation_id text DEFAULT NULL) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_authenticate_wrapper';
COMMENT ON FUNCTION tenancy.authenticate(text, uuid, text) IS
'Verifies a token and gives the rest of the transaction its identity: organization, subject, role and permissions.
token: a compact JWS (RFC 7515) of at most 16 KiB, as the identity provider issued it. organization: needed only when the token
names none and the subject has several. correlation_id: at most 200 bytes, kept in each audit event.
Returns the organization. Raises 28000 for a token, organization or membership that is not accepted, 22023 for a correlation id that is too long.';

CREATE FUNCTION tenancy.set_issuer(
    issuer text, audiences text[], jwks text DEFAULT NULL, algorithms text[] DEFAULT NULL,
    organization_claim text DEFAULT NULL, leeway_seconds integer DEFAULT 30, preset text DEFAULT 'generic',
    jwks_file text DEFAULT NULL, organization_form text DEFAULT NULL, role_claim text DEFAULT NULL,
    role_rule text DEFAULT NULL, audience_claim text DEFAULT NULL, issuer_binding text DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_set_issuer_wrapper';
COMMENT ON FUNCTION tenancy.set_issuer(text, text[], text, text[], text, integer, text, text, text, text, text, text, text) IS
'Registers an identity provider, or replaces all that was registered under the same "iss". Give either jwks, its public keys as a
JWK Set, or jwks_file, a file below tenancy.jwks_directory that is read again when it changes; HMAC secrets may stand only in a file.
algorithms: those to accept; by default those of the keys. preset: generic, supabase, supabase_hook, auth0, clerk_v1, clerk_v2,
workos, keycloak, entra or okta; it says where tokens carry what. organization_claim, role_claim, audience_claim, issuer_binding:
JSON pointers (RFC 6901) in place of the preset''s, or the empty text for none. organization_form: text or keyed. role_rule: membership,
claim or narrower; by default narrower where a role claim is read. leeway_seconds: 0 to 300. A disabled issuer stays disabled: see
tenancy.set_issuer_status. Raises 22023 for keys or arguments that cannot be used, F0000 for a file that cannot.';

CREATE FUNCTION tenancy.refresh_issuer_keys(issuer text) RETURNS boolean
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_refresh_issuer_keys_wrapper';
COMMENT ON FUNCTION tenancy.refresh_issuer_keys(text) IS
'Reads the issuer''s key file now and keeps its public keys in tenancy.issuer.jwks, which new sessions go by while the file is broken.
For the job that writes the file; sessions notice a new file without it. True if the keys are others than before. Raises F0000 for a
file that cannot be used, 42704 for an issuer without one.';

CREATE FUNCTION tenancy.renew_revision() RETURNS trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    new.revision := gen_random_uuid();
    new.updated_at := now();
    RETURN new;
END
$$;
COMMENT ON FUNCTION tenancy.renew_revision() IS
'Trigger of tenancy.issuer: whatever changes a row, sessions notice and drop what they have parsed and remembered.';

CREATE FUNCTION tenancy.renew_issuer() RETURNS trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE tenancy.issuer i SET updated_at = now()
     WHERE i.issuer IN (CASE WHEN tg_op <> 'INSERT' THEN old.issuer END, CASE WHEN tg_op <> 'DELETE' THEN new.issuer END);
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION tenancy.renew_issuer() IS
'Trigger of the tables that belong to an issuer: a change of theirs is a change of the issuer.';
CREATE TRIGGER renew_revision BEFORE UPDATE ON tenancy.issuer FOR EACH ROW EXECUTE FUNCTION tenancy.renew_revision();
CREATE TRIGGER renew_issuer AFTER INSERT OR UPDATE OR DELETE ON tenancy.retired_key FOR EACH ROW EXECUTE FUNCTION tenancy.renew_issuer();
CREATE TRIGGER renew_issuer AFTER INSERT OR UPDATE OR DELETE ON tenancy.external_role FOR EACH ROW EXECUTE FUNCTION tenancy.renew_issuer();
-- On a subscriber too, and under session_replication_role.
ALTER TABLE tenancy.issuer ENABLE ALWAYS TRIGGER renew_revision;
ALTER TABLE tenancy.retired_key ENABLE ALWAYS TRIGGER renew_issuer;
ALTER TABLE tenancy.external_role ENABLE ALWAYS TRIGGER renew_issuer;
ALTER TABLE tenancy.issuer ENABLE ALWAYS TRIGGER renew_revision;
COMMENT ON TRIGGER renew_revision ON tenancy.issuer IS 'Gives the row a new revision.';
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
'Internal: raises 22004, naming the argument, when the value is NULL.';

CREATE FUNCTION tenancy.require_issuer(issuer text) RETURNS void
    LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM tenancy.issuer i WHERE i.issuer = require_issuer.issuer) THEN
        RAISE EXCEPTION 'issuer "%" is not registered', issuer
            USING ERRCODE = 'undefined_object', HINT = 'Register it with tenancy.set_issuer.';
    END IF;
END
$$;
COMMENT ON FUNCTION tenancy.require_issuer(text) IS
'Internal: raises 42704 unless the issuer is registered.';

CREATE FUNCTION tenancy.set_issuer_status(issuer text, status text) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM tenancy.require_issuer(set_issuer_status.issuer);
    UPDATE tenancy.issuer i SET status = set_issuer_status.status
     WHERE i.issuer = set_issuer_status.issuer;
END
$$;
COMMENT ON FUNCTION tenancy.set_issuer_status(text, text) IS
'Makes an issuer active or disabled; the tokens of a disabled one are refused from the next authentication on. Raises 42704 for an unknown issuer, 23514 for another status.';

CREATE FUNCTION tenancy.create_organization(
    name text, id uuid DEFAULT NULL, text_id text DEFAULT NULL, integer_id bigint DEFAULT NULL) RETURNS uuid
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    new_id uuid := coalesce(create_organization.id, gen_random_uuid());
BEGIN
    PERFORM tenancy.require_argument('name', create_organization.name);
    INSERT INTO tenancy.organization (id, name, text_id, integer_id)
    VALUES (new_id, create_organization.name, coalesce(create_organization.text_id, new_id::text), create_organization.integer_id);
    RETURN new_id;
END
$$;
COMMENT ON FUNCTION tenancy.create_organization(text, uuid, text, bigint) IS
'Creates an organization and returns its id. text_id and integer_id: what tenant columns of type text and integer hold, where the
application has such; text_id is also what tokens may name it by. Raises 23505 when one of the ids is taken, 23514 for the nil UUID.';

CREATE FUNCTION tenancy.set_organization_status(organization uuid, status text) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE tenancy.organization o SET status = set_organization_status.status WHERE o.id = organization;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'organization "%" does not exist', organization
            USING ERRCODE = 'undefined_object', HINT = 'Create it with tenancy.create_organization.';
    END IF;
END
$$;
COMMENT ON FUNCTION tenancy.set_organization_status(uuid, text) IS
'Makes an organization active or suspended. Raises 42704 for an unknown organization, 23514 for another status.';

CREATE FUNCTION tenancy.create_role(name text, description text DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM tenancy.require_argument('name', create_role.name);
    INSERT INTO tenancy.role AS r (name, description) VALUES (create_role.name, create_role.description)
    ON CONFLICT ON CONSTRAINT role_pkey DO UPDATE SET description = EXCLUDED.description;
END
$$;
COMMENT ON FUNCTION tenancy.create_role(text, text) IS
'Creates a role without permissions, or changes the description of one that exists.';

CREATE FUNCTION tenancy.grant_permission(role text, domain text, VARIADIC actions text[]) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM tenancy.role r WHERE r.name = grant_permission.role) THEN
        RAISE EXCEPTION 'role "%" does not exist', role
            USING ERRCODE = 'undefined_object', HINT = 'Create it with tenancy.create_role.';
    END IF;
    PERFORM tenancy.require_argument('an action', a) FROM unnest(actions) a;
    INSERT INTO tenancy.role_permission (role, domain, action)
    SELECT grant_permission.role, grant_permission.domain, a FROM unnest(actions) a
    ON CONFLICT DO NOTHING;
END
$$;
COMMENT ON FUNCTION tenancy.grant_permission(text, text, text[]) IS
'Lets a role do actions in a domain: tenancy.grant_permission(''editor'', ''finding'', ''read'', ''update''). * stands for every domain or
every action. Counts from the next authentication on. Raises 42704 for an unknown role.';

CREATE FUNCTION tenancy.revoke_permission(role text, domain text, VARIADIC actions text[]) RETURNS void
    LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    DELETE FROM tenancy.role_permission p
     WHERE p.role = revoke_permission.role AND p.domain = revoke_permission.domain AND p.action = ANY (actions);
END;
COMMENT ON FUNCTION tenancy.revoke_permission(text, text, text[]) IS
'Takes actions in a domain from a role, from the next authentication on. What the role never had is no error.';

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
    INSERT INTO tenancy.membership AS m (organization, issuer, subject, role, status, valid_until)
    VALUES (set_membership.organization, of_issuer, set_membership.subject, set_membership.role, set_membership.status,
            set_membership.valid_until)
    ON CONFLICT ON CONSTRAINT membership_pkey DO UPDATE
       SET role = EXCLUDED.role, status = EXCLUDED.status, valid_until = EXCLUDED.valid_until;
EXCEPTION WHEN foreign_key_violation THEN
    RAISE EXCEPTION 'the organization, the role or the issuer of the membership does not exist'
        USING ERRCODE = 'undefined_object',
              HINT = 'Create them first: tenancy.create_organization, tenancy.create_role, tenancy.set_issuer.';
END
$$;
COMMENT ON FUNCTION tenancy.set_membership(uuid, text, text, text, text, timestamptz) IS
'Makes a subject a member of an organization, or replaces role, status (active, suspended) and end of the membership it has.
issuer: whose tokens the member comes with; may be left out while exactly one is registered. Counts from the next
authentication on. Raises 42704 when organization, role or issuer do not exist, 23514 for another status.';

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
'Ends a membership at once, of one issuer or, without one named, of all. True if there was one.';

CREATE FUNCTION tenancy.set_external_organization(organization uuid, issuer text, external_id text) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM tenancy.require_argument('organization', set_external_organization.organization::text),
            tenancy.require_argument('issuer', set_external_organization.issuer),
            tenancy.require_argument('external_id', set_external_organization.external_id);
    INSERT INTO tenancy.external_organization AS e (issuer, external_id, organization)
    VALUES (set_external_organization.issuer, set_external_organization.external_id, set_external_organization.organization)
    ON CONFLICT ON CONSTRAINT external_organization_pkey DO UPDATE SET organization = EXCLUDED.organization;
EXCEPTION WHEN foreign_key_violation THEN
    RAISE EXCEPTION 'the organization or the issuer does not exist'
        USING ERRCODE = 'undefined_object', HINT = 'Create them first: tenancy.create_organization, tenancy.set_issuer.';
END
$$;
COMMENT ON FUNCTION tenancy.set_external_organization(uuid, text, text) IS
'Says what an issuer''s tokens call an organization: tenancy.set_external_organization(id, ''https://clerk.example.com'', ''org_2ab3''). A name
given before is given to this organization. Raises 42704 when organization or issuer do not exist.';

CREATE FUNCTION tenancy.remove_external_organization(issuer text, external_id text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM tenancy.external_organization e
     WHERE e.issuer = remove_external_organization.issuer AND e.external_id = remove_external_organization.external_id;
    RETURN FOUND;
END
$$;
COMMENT ON FUNCTION tenancy.remove_external_organization(text, text) IS
'Takes a name of an issuer''s tokens from its organization. True if there was one.';

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
'Says which role an issuer''s tokens mean by a value of the role claim: tenancy.set_external_role(''https://clerk.example.com'', ''org:admin'',
''admin''). A value that is not set means the role of the same name. Raises 42704 when role or issuer do not exist.';

CREATE FUNCTION tenancy.remove_external_role(issuer text, external_role text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM tenancy.external_role e
     WHERE e.issuer = remove_external_role.issuer AND e.external_role = remove_external_role.external_role;
    RETURN FOUND;
END
$$;
COMMENT ON FUNCTION tenancy.remove_external_role(text, text) IS
'Takes the meaning from a value of an issuer''s role claim. True if it had one.';

CREATE FUNCTION tenancy.retire_key(issuer text, key_id text, at timestamptz DEFAULT now()) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM tenancy.require_argument('issuer', retire_key.issuer),
            tenancy.require_argument('key_id', retire_key.key_id),
            tenancy.require_argument('at', retire_key.at::text);
    PERFORM tenancy.require_issuer(retire_key.issuer);
    INSERT INTO tenancy.retired_key AS k (issuer, key_id, retired_at) VALUES (retire_key.issuer, retire_key.key_id, retire_key.at)
    ON CONFLICT ON CONSTRAINT retired_key_pkey DO UPDATE SET retired_at = EXCLUDED.retired_at;
END
$$;
COMMENT ON FUNCTION tenancy.retire_key(text, text, timestamptz) IS
'Refuses from a time on whatever the issuer''s key of that "kid" has signed, though its JWK Set may still hold the key. A later call moves
the time; ''infinity'' takes the retirement back. Raises 42704 for an unknown issuer.';

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
'Refuses every token with this value in "sid", "session_id" or "jti", from the next authentication on. Raises 42704 for an unknown issuer.';

CREATE FUNCTION tenancy.revoke_subject(
    issuer text, subject text, issued_before timestamptz DEFAULT clock_timestamp(), reason text DEFAULT NULL) RETURNS void
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
'Refuses every token of the subject whose "iat" lies before the time, or which has none, from the next authentication on: "sign out
everywhere". "iat" counts whole seconds, so a token of the same second is refused too. Raises 42704 for an unknown issuer.';

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
'Deletes revocations from before a time and returns how many. Safe once every token from before it has expired; "exp" of the longest-lived
tokens tells when.';
