-- The organizations. Code: src/identity/.

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
COMMENT ON TABLE tenancy.organization IS 'The organizations (tenants). Written by tenancy.create_organization.';
COMMENT ON COLUMN tenancy.organization.id IS 'The organization in uuid columns of protected tables.';
COMMENT ON COLUMN tenancy.organization.name IS 'Display name. Need not be unique.';
COMMENT ON COLUMN tenancy.organization.text_id IS
'The organization in text columns of protected tables, and a name that an organization claim may have. By default the
text of the id.';
COMMENT ON COLUMN tenancy.organization.integer_id IS
'The organization in integer and bigint columns of protected tables; NULL if there are none.';
COMMENT ON COLUMN tenancy.organization.status IS
'active or suspended. No subject can authenticate for a suspended organization.';
COMMENT ON COLUMN tenancy.organization.created_at IS 'When the organization was created.';

SELECT pg_extension_config_dump('tenancy.organization', '');

CREATE FUNCTION tenancy.create_organization(
    name text, id uuid DEFAULT NULL, text_id text DEFAULT NULL, integer_id bigint DEFAULT NULL) RETURNS uuid
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    new_id uuid := coalesce(create_organization.id, gen_random_uuid());
BEGIN
    PERFORM tenancy.require_argument('name', create_organization.name);
    INSERT INTO tenancy.organization (id, name, text_id, integer_id)
    VALUES (new_id, create_organization.name, coalesce(create_organization.text_id, new_id::text),
        create_organization.integer_id);
    RETURN new_id;
END
$$;
COMMENT ON FUNCTION tenancy.create_organization(text, uuid, text, bigint) IS
'Creates an organization and returns its id.

- name: Display name, for readers.
- id: By default a random UUID.
- text_id: The organization in columns of type text and varchar, and in tokens that name it so. By default the text
  of the id.
- integer_id: The organization in columns of type integer and bigint, if the application has such columns.

Raises 23505 if one of the ids is taken, 23514 for the nil UUID, an empty name and an empty text_id, 22004 without a
name.';

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
'Sets the status of an organization to active or suspended. No subject can authenticate for a suspended organization.
Raises 42704 for an unknown organization, 23514 for another status.';
