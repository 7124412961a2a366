-- Roles and what they permit: those of every organization, and an organization's own. Code: src/identity/. The
-- functions for an organization's own admins: sql/controls/member.sql.

-- The nil UUID is the organization of what belongs to every organization, as in the audit. A name means one role in an
-- organization: no organization can have one of its own by the name of a role of all, nor the other way round.

CREATE TABLE tenancy.role (
    organization uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    name text COLLATE "C" NOT NULL CHECK (name <> ''),
    description text,
    is_builtin boolean NOT NULL DEFAULT false
        CHECK (NOT is_builtin OR organization = '00000000-0000-0000-0000-000000000000'),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization, name)
);
CREATE INDEX role_name_idx ON tenancy.role (name);
COMMENT ON TABLE tenancy.role IS
'The roles that members have in their organizations. They are not database roles. CREATE EXTENSION makes viewer, member,
admin and auditor; tenancy.create_role makes other roles of every organization, and tenancy.define_role those of one.
Members read the roles that their organization can use, with the permission role:read.';
COMMENT ON COLUMN tenancy.role.organization IS
'The organization whose own role it is; the nil UUID for a role of every organization.';
COMMENT ON COLUMN tenancy.role.name IS 'Name of the role. A name means one role in an organization.';
COMMENT ON COLUMN tenancy.role.description IS 'Description for readers.';
COMMENT ON COLUMN tenancy.role.is_builtin IS
'Whether CREATE EXTENSION made the role. Such a role cannot be changed or dropped.';
COMMENT ON COLUMN tenancy.role.created_at IS 'When the role was created.';

CREATE TABLE tenancy.role_permission (
    organization uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    role text COLLATE "C" NOT NULL,
    domain text NOT NULL CHECK (domain <> ''),
    action text NOT NULL CHECK (action <> ''),
    effect text COLLATE "C" NOT NULL DEFAULT 'allow' CHECK (effect IN ('allow', 'deny')),
    PRIMARY KEY (organization, role, domain, action, effect),
    FOREIGN KEY (organization, role) REFERENCES tenancy.role ON DELETE CASCADE
);
COMMENT ON TABLE tenancy.role_permission IS
'The permission matrix: the actions that each role may do in each domain, and those that it may not. A row that denies
wins over every row that allows. Written by tenancy.grant_permission, tenancy.deny_permission and tenancy.define_role.
Members read those of the roles that their organization can use, with the permission role:read.';
COMMENT ON COLUMN tenancy.role_permission.organization IS 'The organization of the role, as in tenancy.role.';
COMMENT ON COLUMN tenancy.role_permission.role IS 'The role that has the permission.';
COMMENT ON COLUMN tenancy.role_permission.domain IS
'The domain, as named in tenancy.protect or tenancy.authorize; * for every domain.';
COMMENT ON COLUMN tenancy.role_permission.action IS
'The action: read, create, update, delete, or an action of the application; * for every action.';
COMMENT ON COLUMN tenancy.role_permission.effect IS
'allow or deny. What is denied is not permitted, whatever other rows allow.';

-- What the extension makes is not in a dump.
SELECT pg_extension_config_dump('tenancy.role', 'WHERE NOT is_builtin');
SELECT pg_extension_config_dump('tenancy.role_permission',
    'WHERE (organization, role) NOT IN (SELECT r.organization, r.name FROM tenancy.role r WHERE r.is_builtin)');

-- The domains of the extension's own functions. A role that may read or change everything of an application has nothing
-- in them unless it is named: a new domain of the extension belongs into this list.
INSERT INTO tenancy.role (name, description, is_builtin) VALUES
    ('viewer', 'Reads everything but audit, secrets and controls.', true),
    ('member', 'Reads, creates and updates everything but audit, secrets and controls.', true),
    ('admin', 'May do everything in its organization.', true),
    ('auditor', 'Reads audit, controls, posture and reviews, and nothing else.', true);
INSERT INTO tenancy.role_permission (role, domain, action) VALUES
    ('viewer', '*', 'read'),
    ('member', '*', 'read'), ('member', '*', 'create'), ('member', '*', 'update'),
    ('admin', '*', '*');
INSERT INTO tenancy.role_permission (role, domain, action, effect)
SELECT r.role, d.domain, r.action, 'deny'
  FROM unnest('{audit,secret,sso,member,role,guardrail,posture,action,break_glass,exception,review}'::text[]) d (domain),
       (VALUES ('viewer', 'read'), ('member', 'read'), ('member', 'create'), ('member', 'update')) r (role, action);
INSERT INTO tenancy.role_permission (role, domain, action)
SELECT 'auditor', d.domain, 'read'
  FROM unnest('{audit,member,role,guardrail,posture,action,break_glass,exception,review}'::text[]) d (domain);

CREATE FUNCTION tenancy.keep_builtin_role() RETURNS trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    changed record := CASE WHEN tg_op = 'INSERT' THEN new ELSE old END;
    changed_name text := to_jsonb(changed) ->> CASE tg_table_name WHEN 'role' THEN 'name' ELSE 'role' END;
BEGIN
    IF changed.organization = '00000000-0000-0000-0000-000000000000' AND (
        EXISTS (SELECT FROM tenancy.role r WHERE r.organization = changed.organization AND r.name = changed_name
                   AND r.is_builtin)
        OR tg_table_name = 'role' AND (to_jsonb(new) ->> 'is_builtin')::boolean) THEN
        RAISE EXCEPTION 'role "%" is made by the extension, and stays as it is', changed_name
            USING ERRCODE = 'reserved_name', HINT = 'Create a role of another name with tenancy.create_role.';
    END IF;
    RETURN CASE WHEN tg_op = 'DELETE' THEN old ELSE new END;
END
$$;
COMMENT ON FUNCTION tenancy.keep_builtin_role() IS
'Internal: trigger of tenancy.role and tenancy.role_permission, which refuses every change of the roles that CREATE
EXTENSION made. Raises 42939.';

CREATE FUNCTION tenancy.drop_own_roles() RETURNS trigger
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM tenancy.role r WHERE r.organization = old.id;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION tenancy.drop_own_roles() IS
'Internal: trigger of tenancy.organization. With an organization go its own roles; the memberships are gone before.';

CREATE TRIGGER keep_builtin_role BEFORE INSERT OR UPDATE OR DELETE ON tenancy.role
    FOR EACH ROW EXECUTE FUNCTION tenancy.keep_builtin_role();
CREATE TRIGGER keep_builtin_role BEFORE INSERT OR UPDATE OR DELETE ON tenancy.role_permission
    FOR EACH ROW EXECUTE FUNCTION tenancy.keep_builtin_role();
CREATE TRIGGER drop_own_roles AFTER DELETE ON tenancy.organization
    FOR EACH ROW EXECUTE FUNCTION tenancy.drop_own_roles();
ALTER TABLE tenancy.role ENABLE ALWAYS TRIGGER keep_builtin_role;
ALTER TABLE tenancy.role_permission ENABLE ALWAYS TRIGGER keep_builtin_role;
ALTER TABLE tenancy.organization ENABLE ALWAYS TRIGGER drop_own_roles;
COMMENT ON TRIGGER keep_builtin_role ON tenancy.role IS 'Keeps the roles that CREATE EXTENSION made.';
COMMENT ON TRIGGER keep_builtin_role ON tenancy.role_permission IS
'Keeps the permissions of the roles that CREATE EXTENSION made.';
COMMENT ON TRIGGER drop_own_roles ON tenancy.organization IS 'Drops the roles of an organization that is deleted.';

ALTER TABLE tenancy.role ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE tenancy.role_permission ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own_organization ON tenancy.role FOR SELECT TO tenancy_application, tenancy_operator
    USING (organization IN (tenancy.org_id(), '00000000-0000-0000-0000-000000000000')
           AND tenancy.allowed('role', 'read'));
CREATE POLICY own_organization ON tenancy.role_permission FOR SELECT TO tenancy_application, tenancy_operator
    USING (organization IN (tenancy.org_id(), '00000000-0000-0000-0000-000000000000')
           AND tenancy.allowed('role', 'read'));
CREATE POLICY every_organization ON tenancy.role FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
CREATE POLICY every_organization ON tenancy.role_permission FOR SELECT TO tenancy_admin, tenancy_auditor USING (true);
COMMENT ON POLICY own_organization ON tenancy.role IS
'Members read the roles that the context''s organization can use, with the permission role:read.';
COMMENT ON POLICY own_organization ON tenancy.role_permission IS
'Members read what the roles permit that the context''s organization can use, with the permission role:read.';
COMMENT ON POLICY every_organization ON tenancy.role IS 'Administrators and auditors read all roles.';
COMMENT ON POLICY every_organization ON tenancy.role_permission IS
'Administrators and auditors read what all roles permit.';

CREATE FUNCTION tenancy.hold_role(organization uuid, name text) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- Memberships that name the role at this moment hold its key: whoever judges what they permit waits for them.
    PERFORM FROM tenancy.role r WHERE r.organization = hold_role.organization AND r.name = hold_role.name FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'role "%" does not exist', name
            USING ERRCODE = 'undefined_object', HINT = 'Create it with tenancy.create_role.';
    END IF;
END
$$;
COMMENT ON FUNCTION tenancy.hold_role(uuid, text) IS
'Internal: locks a role whose permissions are about to change. Raises 42704 if there is no such role.';

CREATE FUNCTION tenancy.require_free_role_name(name text) RETURNS void
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_require_free_role_name_wrapper';
COMMENT ON FUNCTION tenancy.require_free_role_name(text) IS
'Internal: raises 23505 (role_exists) if an organization has a role of its own by that name, as it is committed. Called
under a lock of tenancy.role that keeps others from making one.';

CREATE FUNCTION tenancy.create_role(name text, description text DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM tenancy.require_argument('name', create_role.name);
    UPDATE tenancy.role r SET description = create_role.description
     WHERE r.organization = '00000000-0000-0000-0000-000000000000' AND r.name = create_role.name;
    IF NOT FOUND THEN
        LOCK TABLE tenancy.role IN SHARE ROW EXCLUSIVE MODE;
        PERFORM tenancy.require_free_role_name(create_role.name);
        INSERT INTO tenancy.role AS r (name, description) VALUES (create_role.name, create_role.description)
        ON CONFLICT ON CONSTRAINT role_pkey DO UPDATE SET description = EXCLUDED.description;
    END IF;
END
$$;
COMMENT ON FUNCTION tenancy.create_role(text, text) IS
'Creates a role of every organization without permissions, or changes the description of an existing one. An
organization makes roles of its own with tenancy.define_role. Raises 42939 for a role that CREATE EXTENSION made, 23505
(role_exists) for a name that an organization''s own role has, 22004 without a name.';

CREATE FUNCTION tenancy.grant_permission(role text, domain text, VARIADIC actions text[]) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM tenancy.hold_role('00000000-0000-0000-0000-000000000000', grant_permission.role),
            tenancy.require_argument('an action', a) FROM unnest(actions) a;
    INSERT INTO tenancy.role_permission (role, domain, action)
    SELECT grant_permission.role, grant_permission.domain, a FROM unnest(actions) a
    ON CONFLICT DO NOTHING;
END
$$;
COMMENT ON FUNCTION tenancy.grant_permission(text, text, text[]) IS
'Lets a role of every organization do actions in a domain: tenancy.grant_permission(''editor'', ''finding'', ''read'',
''update''). The text * means every domain or every action. Policies check read, create, update and delete; other
actions belong to the application. What tenancy.deny_permission denies stays denied. The change applies from the next
authentication on. Raises 42704 for an unknown role, 42939 for one that CREATE EXTENSION made, 22004 for a NULL
action.';

CREATE FUNCTION tenancy.revoke_permission(role text, domain text, VARIADIC actions text[]) RETURNS void
    LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    -- A role that is not there has no permission to lose.
    SELECT tenancy.hold_role(r.organization, r.name)
      FROM tenancy.role r
     WHERE r.organization = '00000000-0000-0000-0000-000000000000' AND r.name = revoke_permission.role;
    DELETE FROM tenancy.role_permission p
     WHERE p.organization = '00000000-0000-0000-0000-000000000000' AND p.role = revoke_permission.role
       AND p.domain = revoke_permission.domain AND p.action = ANY (actions) AND p.effect = 'allow';
END;
COMMENT ON FUNCTION tenancy.revoke_permission(text, text, text[]) IS
'Removes actions in a domain from a role of every organization. A permission that the role does not have is no error. A
permission that was granted as * is removed only as *. The change applies from the next authentication on. Raises 55000
(last_admin) if an organization would be left without an admin, 42939 for a role that CREATE EXTENSION made.';

CREATE FUNCTION tenancy.deny_permission(role text, domain text, VARIADIC actions text[]) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM tenancy.hold_role('00000000-0000-0000-0000-000000000000', deny_permission.role),
            tenancy.require_argument('an action', a) FROM unnest(actions) a;
    INSERT INTO tenancy.role_permission (role, domain, action, effect)
    SELECT deny_permission.role, deny_permission.domain, a, 'deny' FROM unnest(actions) a
    ON CONFLICT DO NOTHING;
END
$$;
COMMENT ON FUNCTION tenancy.deny_permission(text, text, text[]) IS
'Denies actions in a domain to a role of every organization, whatever else it is granted, now or later:
tenancy.deny_permission(''accountant'', ''invoice'', ''delete''). The text * means every domain or every action. The
change applies from the next authentication on; tenancy.remove_denial takes it back. Errors as
tenancy.grant_permission, and 55000 (last_admin) if an organization would be left without an admin.';

CREATE FUNCTION tenancy.remove_denial(role text, domain text, VARIADIC actions text[]) RETURNS void
    LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT tenancy.hold_role(r.organization, r.name)
      FROM tenancy.role r
     WHERE r.organization = '00000000-0000-0000-0000-000000000000' AND r.name = remove_denial.role;
    DELETE FROM tenancy.role_permission p
     WHERE p.organization = '00000000-0000-0000-0000-000000000000' AND p.role = remove_denial.role
       AND p.domain = remove_denial.domain AND p.action = ANY (actions) AND p.effect = 'deny';
END;
COMMENT ON FUNCTION tenancy.remove_denial(text, text, text[]) IS
'Takes back what tenancy.deny_permission denied to a role. The role may then do what else it is granted. A denial that
the role does not have is no error. Raises 42939 for a role that CREATE EXTENSION made.';
