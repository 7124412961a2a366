-- The schema, and the roles that privileges are granted to.

-- For the whole script: plain names mean those of Postgres, whatever stands in schema tenancy or was found on the way
-- to it. CREATE EXTENSION takes the setting back.
SET LOCAL search_path = pg_catalog, pg_temp;

DO $$
DECLARE
    found text;
BEGIN
    -- Whoever owned the schema before could replace what stands in it.
    IF EXISTS (SELECT FROM pg_namespace
                WHERE nspname = 'tenancy'
                  AND NOT pg_has_role(current_user, nspowner, 'USAGE')
                   OR nspname = 'tenancy'
                  AND NOT (SELECT r.rolsuper FROM pg_roles r WHERE r.oid = nspowner)) THEN
        RAISE EXCEPTION 'schema "tenancy" exists and belongs to a role that is no superuser'
            USING ERRCODE = 'insufficient_privilege',
                  HINT = 'Rename it or drop it, and create the extension again.';
    END IF;
    -- Whoever could create in it has perhaps done so: the library finds its tables by name.
    SELECT pg_describe_object(d.classid, d.objid, 0) INTO found
      FROM pg_depend d
     WHERE d.refclassid = 'pg_namespace'::regclass
       AND d.refobjid = 'tenancy'::regnamespace
       AND NOT (d.classid = 'pg_extension'::regclass
                AND d.objid = (SELECT e.oid FROM pg_extension e WHERE e.extname = 'pg_tenancy'))
     ORDER BY 1 LIMIT 1;
    IF found IS NOT NULL THEN
        RAISE EXCEPTION 'schema "tenancy" exists and is not empty'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = format('It has %s.', found),
                  HINT = 'Rename it or drop it, and create the extension again.';
    END IF;
    SELECT CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END INTO found
      FROM pg_namespace n, aclexplode(n.nspacl) a
     WHERE n.nspname = 'tenancy' AND a.grantee <> n.nspowner
       -- DROP EXTENSION leaves the schema, and what sql/privileges.sql granted on it.
       AND NOT (a.privilege_type = 'USAGE' AND NOT a.is_grantable
                AND EXISTS (SELECT FROM pg_roles r WHERE r.oid = a.grantee
                               AND r.rolname IN ('tenancy_application', 'tenancy_admin', 'tenancy_operator',
                                   'tenancy_auditor', 'tenancy_custodian', 'tenancy_trail')))
     ORDER BY 1 LIMIT 1;
    IF found IS NOT NULL THEN
        RAISE EXCEPTION 'schema "tenancy" exists and has grants'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = format('%s has a privilege on it.', found),
                  HINT = 'REVOKE ALL ON SCHEMA tenancy from whoever has it, or drop the schema, and create the extension again.';
    END IF;
    -- Text is hashed and compared as UTF-8.
    IF getdatabaseencoding() <> 'UTF8' THEN
        RAISE EXCEPTION 'pg_tenancy needs a database with encoding UTF8, not %', getdatabaseencoding()
            USING ERRCODE = 'feature_not_supported',
                  HINT = 'CREATE DATABASE ... ENCODING ''UTF8'' TEMPLATE template0.';
    END IF;
END
$$;

COMMENT ON SCHEMA tenancy IS
    'pg_tenancy: verified identity, row-level security and hash-chained audit for multi-tenant data.';
REVOKE ALL ON SCHEMA tenancy FROM PUBLIC;

-- Roles belong to the cluster: another database may have made them already, and DROP EXTENSION leaves them.
DO $$
DECLARE
    wanted record;
    found text;
BEGIN
    FOR wanted IN
        SELECT * FROM (VALUES
            ('tenancy_application',
                'pg_tenancy: may authenticate and read its context. Grant it to the role that the application logs in as.'),
            ('tenancy_admin', 'pg_tenancy: may register issuers, organizations, roles and members, and protect tables it owns.'),
            ('tenancy_operator', 'pg_tenancy: may assume an organization for a reason, without a token. For jobs and maintenance; each use is audited.'),
            ('tenancy_auditor', 'pg_tenancy: may read the events of every organization, seal and verify them.'),
            ('tenancy_custodian', 'pg_tenancy: may manage the keys that secrets are sealed under, and reveal none of them.'),
            ('tenancy_trail', 'pg_tenancy: owns the view tenancy.organization_audit_trail, so that policies bind it. Grant it to nobody.')
        ) AS r (name, comment)
    LOOP
        IF EXISTS (SELECT FROM pg_roles WHERE rolname = wanted.name) THEN
            -- What a role can do already, or who is in it already, is nothing that CREATE EXTENSION gave.
            SELECT concat_ws(', ', CASE WHEN r.rolsuper THEN 'SUPERUSER' END, CASE WHEN r.rolbypassrls
                THEN 'BYPASSRLS' END,
                       CASE WHEN r.rolcanlogin THEN 'LOGIN' END, CASE WHEN r.rolcreaterole THEN 'CREATEROLE' END,
                       CASE WHEN r.rolcreatedb THEN 'CREATEDB' END, CASE WHEN r.rolreplication
                           THEN 'REPLICATION' END) INTO STRICT found
              FROM pg_roles r WHERE r.rolname = wanted.name;
            IF found <> '' THEN
                RAISE WARNING 'role "%" exists and has attributes: %', wanted.name, found
                    USING HINT = format('Members of the role need none of them. Take them away with ALTER ROLE %I.',
                        wanted.name);
            END IF;
            SELECT string_agg(m.member::regrole::text, ', ' ORDER BY m.member::regrole::text) INTO STRICT found
              FROM (SELECT DISTINCT m.member FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid
                     WHERE r.rolname = wanted.name AND m.member <> to_regrole(current_user::text)::oid) m;
            IF found IS NOT NULL THEN
                -- While an extension is created, notices are not sent (extension.c).
                RAISE WARNING 'role "%" exists and has members: %', wanted.name, found
                    USING HINT = 'They get what the role may do in this database, too. Revoke the role from whoever is not meant to.';
            END IF;
            CONTINUE;
        END IF;
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', wanted.name);
            EXECUTE format('COMMENT ON ROLE %I IS %L', wanted.name, wanted.comment);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL; -- Another database's CREATE EXTENSION was quicker.
        END;
    END LOOP;
END
$$;

CREATE FUNCTION tenancy.drop_roles() RETURNS text[]
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    roles CONSTANT name[] := ARRAY(
        SELECT r.rolname FROM pg_roles r
         WHERE r.rolname IN ('tenancy_application', 'tenancy_admin', 'tenancy_operator', 'tenancy_auditor',
                             'tenancy_custodian', 'tenancy_trail')
         ORDER BY r.rolname);
    wanted name;
    found text;
BEGIN
    IF NOT (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = current_user) THEN
        RAISE EXCEPTION 'must be superuser to drop the roles of pg_tenancy' USING ERRCODE = 'insufficient_privilege';
    END IF;
    -- Without their grants no statement on a protected table works.
    IF EXISTS (SELECT FROM tenancy.protected_tables()) THEN
        RAISE EXCEPTION 'cannot drop the roles of pg_tenancy while tables are protected'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'SELECT tenancy.unprotect("table") FROM tenancy.protected_tables() comes first.';
    END IF;
    -- Roles belong to the cluster. Rows without a database are of shared objects, which DROP ROLE itself names.
    SELECT string_agg(DISTINCT quote_ident(d.datname), ', ') INTO found
      FROM pg_shdepend s
      JOIN pg_roles r ON r.oid = s.refobjid AND s.refclassid = 'pg_authid'::regclass
      JOIN pg_database d ON d.oid = s.dbid
     WHERE r.rolname = ANY (roles) AND d.datname <> current_database();
    IF found IS NOT NULL THEN
        RAISE EXCEPTION 'the roles of pg_tenancy are used in other databases'
            USING ERRCODE = 'dependent_objects_still_exist',
                  DETAIL = format('Databases: %s.', found),
                  HINT = 'Drop the extension and the schema tenancy there, and what was granted to its roles. The last database drops the roles.';
    END IF;
    -- DROP OWNED would drop them.
    SELECT string_agg(pg_describe_object(s.classid, s.objid, s.objsubid), ', ' ORDER BY s.classid, s.objid) INTO found
      FROM pg_shdepend s
      JOIN pg_roles r ON r.oid = s.refobjid AND s.refclassid = 'pg_authid'::regclass
     WHERE r.rolname = ANY (roles) AND s.deptype = 'o'
       AND s.dbid IN (0, (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()))
       AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = s.classid AND e.objid = s.objid AND e.deptype = 'e');
    IF found IS NOT NULL THEN
        RAISE EXCEPTION 'a role of pg_tenancy owns objects'
            USING ERRCODE = 'dependent_objects_still_exist',
                  DETAIL = format('Owned: %s.', found),
                  HINT = 'Give them another owner: REASSIGN OWNED BY ... TO ....';
    END IF;
    FOREACH wanted IN ARRAY roles LOOP
        EXECUTE format('REASSIGN OWNED BY %I TO %I', wanted, current_user);
        EXECUTE format('DROP OWNED BY %I', wanted);
        EXECUTE format('DROP ROLE %I', wanted);
    END LOOP;
    RETURN roles;
END
$$;
REVOKE ALL ON FUNCTION tenancy.drop_roles() FROM PUBLIC;
COMMENT ON FUNCTION tenancy.drop_roles() IS
'Drops the roles that CREATE EXTENSION made, and all that was granted to them in this database; returns their names.
For superusers, right before DROP EXTENSION and in the same transaction: without the roles nobody else can call a
function of the extension. Raises 42501 for others, 55000 while tables are protected, and 2BP01 while a role owns
something or another database of the server uses it.';
