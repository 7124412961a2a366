-- Who calls: organizations, roles, issuers, memberships. Code: src/identity/.

CREATE TABLE tenancy.organization (
    id uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
    name text NOT NULL CHECK (name <> ''),
    text_id text COLLATE "C" NOT NULL UNIQUE CHECK (text_id <> ''),
    integer_id bigint UNIQUE,
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE tenancy.organization IS 'The tenants. Filled by tenancy.create_organization.';
COMMENT ON COLUMN tenancy.organization.id IS 'What uuid columns of protected tables hold.';
COMMENT ON COLUMN tenancy.organization.name IS 'For people; need not be unique.';
COMMENT ON COLUMN tenancy.organization.text_id IS 'What text columns of protected tables hold, and what a token''s organization claim may name; the id''s text unless given.';
COMMENT ON COLUMN tenancy.organization.integer_id IS 'What integer and bigint columns of protected tables hold; NULL where there are none.';
COMMENT ON COLUMN tenancy.organization.status IS 'active, or suspended: nobody can authenticate for it.';
COMMENT ON COLUMN tenancy.organization.created_at IS 'When it was created.';

CREATE TABLE tenancy.role (
    name text PRIMARY KEY CHECK (name <> ''),
    description text,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE tenancy.role IS 'The roles that members have in their organizations; not database roles. Filled by tenancy.create_role.';
COMMENT ON COLUMN tenancy.role.name IS 'Its name, the same in every organization.';
COMMENT ON COLUMN tenancy.role.description IS 'For people.';
COMMENT ON COLUMN tenancy.role.created_at IS 'When it was created.';

CREATE TABLE tenancy.role_permission (
    role text NOT NULL REFERENCES tenancy.role ON DELETE CASCADE,
    domain text NOT NULL CHECK (domain <> ''),
    action text NOT NULL CHECK (action <> ''),
    PRIMARY KEY (role, domain, action)
);
COMMENT ON TABLE tenancy.role_permission IS 'The permission matrix: what a role may do. Filled by tenancy.grant_permission.';
COMMENT ON COLUMN tenancy.role_permission.role IS 'The role that may.';
COMMENT ON COLUMN tenancy.role_permission.domain IS 'What it may act on, as named in tenancy.protect or tenancy.authorize; * for every domain.';
COMMENT ON COLUMN tenancy.role_permission.action IS 'What it may do: read, create, update, delete, or an action of the application''s own; * for every action.';

CREATE TABLE tenancy.issuer (
    issuer text PRIMARY KEY CHECK (issuer <> ''),
    audiences text[] NOT NULL CHECK (pg_catalog.cardinality(audiences) > 0),
    algorithms text[] NOT NULL CHECK (pg_catalog.cardinality(algorithms) > 0),
    jwks json NOT NULL,
    organization_claim text,
    leeway_seconds integer NOT NULL CHECK (leeway_seconds BETWEEN 0 AND 300),
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'disabled')),
    revision uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
    updated_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE tenancy.issuer IS 'The identity providers whose tokens are accepted. Filled by tenancy.set_issuer. Holds HMAC keys where HS256 is used: no role but the owner reads it.';
COMMENT ON COLUMN tenancy.issuer.issuer IS 'The "iss" claim of its tokens, compared exactly (RFC 7519 section 4.1.1).';
COMMENT ON COLUMN tenancy.issuer.audiences IS 'A token must name one of them in "aud".';
COMMENT ON COLUMN tenancy.issuer.algorithms IS 'Signature algorithms that are accepted (RFC 7518 section 3.1, RFC 8037); each key is for exactly one of them.';
COMMENT ON COLUMN tenancy.issuer.jwks IS 'Its keys as a JWK Set (RFC 7517 section 5).';
COMMENT ON COLUMN tenancy.issuer.organization_claim IS 'Where the token names the organization: a JSON pointer (RFC 6901); NULL when tokens do not name one.';
COMMENT ON COLUMN tenancy.issuer.leeway_seconds IS 'How far the clocks may differ, in seconds.';
COMMENT ON COLUMN tenancy.issuer.status IS 'active, or disabled: its tokens are refused.';
COMMENT ON COLUMN tenancy.issuer.revision IS 'New with each change, so that sessions drop the keys they have parsed.';
COMMENT ON COLUMN tenancy.issuer.updated_at IS 'When it was last set.';

CREATE TABLE tenancy.membership (
    organization uuid NOT NULL REFERENCES tenancy.organization ON DELETE CASCADE,
    issuer text NOT NULL REFERENCES tenancy.issuer ON DELETE CASCADE,
    subject text NOT NULL CHECK (subject <> ''),
    role text NOT NULL REFERENCES tenancy.role,
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
    valid_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
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

SELECT pg_catalog.pg_extension_config_dump('tenancy.organization', '');
SELECT pg_catalog.pg_extension_config_dump('tenancy.role', '');
SELECT pg_catalog.pg_extension_config_dump('tenancy.role_permission', '');
SELECT pg_catalog.pg_extension_config_dump('tenancy.issuer', '');
SELECT pg_catalog.pg_extension_config_dump('tenancy.membership', '');

CREATE FUNCTION tenancy.authenticate(token text, organization uuid DEFAULT NULL, correlation_id text DEFAULT NULL) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_authenticate_wrapper';
COMMENT ON FUNCTION tenancy.authenticate(text, uuid, text) IS
'Verifies a token and gives the rest of the transaction its identity: organization, subject, role and permissions.
token: a compact JWS (RFC 7515) of at most 16 KiB, as the identity provider issued it. organization: needed only when the token
names none and the subject has several. correlation_id: at most 200 bytes, kept in each audit event.
Returns the organization. Raises 28000 for a token, organization or membership that is not accepted, 22023 for a correlation id that is too long.';

CREATE FUNCTION tenancy.set_issuer(
    issuer text, audiences text[], jwks text, algorithms text[] DEFAULT NULL,
    organization_claim text DEFAULT '/org_id', leeway_seconds integer DEFAULT 30) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_set_issuer_wrapper';
COMMENT ON FUNCTION tenancy.set_issuer(text, text[], text, text[], text, integer) IS
'Registers an identity provider, or replaces all that was registered under the same "iss".
jwks: its JWK Set as text. algorithms: those to accept; by default those of the keys. organization_claim: JSON pointer
(RFC 6901) to the organization in the claims; NULL when tokens do not name one. leeway_seconds: 0 to 300. A disabled issuer
stays disabled: see tenancy.set_issuer_status.
Raises 22023 for keys or arguments that cannot be used.';

CREATE FUNCTION tenancy.renew_revision() RETURNS trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    new.revision := gen_random_uuid();
    new.updated_at := now();
    RETURN new;
END
$$;
COMMENT ON FUNCTION tenancy.renew_revision() IS
'Trigger of tenancy.issuer: whatever changes a row, sessions notice and drop the keys they have parsed.';
CREATE TRIGGER renew_revision BEFORE UPDATE ON tenancy.issuer FOR EACH ROW EXECUTE FUNCTION tenancy.renew_revision();
ALTER TABLE tenancy.issuer ENABLE ALWAYS TRIGGER renew_revision;
COMMENT ON TRIGGER renew_revision ON tenancy.issuer IS 'Gives the row a new revision.';

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

CREATE FUNCTION tenancy.set_issuer_status(issuer text, status text) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE tenancy.issuer i SET status = set_issuer_status.status
     WHERE i.issuer = set_issuer_status.issuer;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'issuer "%" is not registered', issuer
            USING ERRCODE = 'undefined_object', HINT = 'Register it with tenancy.set_issuer.';
    END IF;
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
application has such; text_id is also what tokens may name it by. Raises 23505 when one of the ids is taken.';

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
