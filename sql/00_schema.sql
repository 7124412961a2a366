-- The schema, and the roles that privileges are granted to.

DO $$
DECLARE
    found text;
BEGIN
    -- Whoever owned the schema before could replace what stands in it.
    IF EXISTS (SELECT FROM pg_catalog.pg_namespace
                WHERE nspname OPERATOR(pg_catalog.=) 'tenancy'
                  AND NOT pg_catalog.pg_has_role(current_user, nspowner, 'USAGE')
                   OR nspname OPERATOR(pg_catalog.=) 'tenancy'
                  AND NOT (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.oid OPERATOR(pg_catalog.=) nspowner)) THEN
        RAISE EXCEPTION 'schema "tenancy" exists and belongs to a role that is no superuser'
            USING ERRCODE = 'insufficient_privilege',
                  HINT = 'Rename it or drop it, and create the extension again.';
    END IF;
    -- Whoever could create in it has perhaps done so: the library finds its tables by name.
    SELECT pg_catalog.pg_describe_object(d.classid, d.objid, 0) INTO found
      FROM pg_catalog.pg_depend d
     WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass
       AND d.refobjid OPERATOR(pg_catalog.=) 'tenancy'::pg_catalog.regnamespace
       AND NOT (d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
                AND d.objid OPERATOR(pg_catalog.=) (SELECT e.oid FROM pg_catalog.pg_extension e WHERE e.extname OPERATOR(pg_catalog.=) 'pg_tenancy'))
     ORDER BY 1 LIMIT 1;
    IF found IS NOT NULL THEN
        RAISE EXCEPTION 'schema "tenancy" exists and is not empty'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = pg_catalog.format('It has %s.', found),
                  HINT = 'Rename it or drop it, and create the extension again.';
    END IF;
    SELECT CASE WHEN a.grantee OPERATOR(pg_catalog.=) 0 THEN 'PUBLIC' ELSE a.grantee::pg_catalog.regrole::pg_catalog.text END INTO found
      FROM pg_catalog.pg_namespace n, pg_catalog.aclexplode(n.nspacl) a
     WHERE n.nspname OPERATOR(pg_catalog.=) 'tenancy' AND a.grantee OPERATOR(pg_catalog.<>) n.nspowner
       -- DROP EXTENSION leaves the schema, and what sql/90_privileges.sql granted on it.
       AND NOT (a.privilege_type OPERATOR(pg_catalog.=) 'USAGE' AND NOT a.is_grantable
                AND EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.oid OPERATOR(pg_catalog.=) a.grantee
                               AND r.rolname IN ('tenancy_application', 'tenancy_admin', 'tenancy_operator', 'tenancy_auditor', 'tenancy_trail')))
     ORDER BY 1 LIMIT 1;
    IF found IS NOT NULL THEN
        RAISE EXCEPTION 'schema "tenancy" exists and has grants'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = pg_catalog.format('%s has a privilege on it.', found),
                  HINT = 'REVOKE ALL ON SCHEMA tenancy from whoever has it, or drop the schema, and create the extension again.';
    END IF;
    -- Text is hashed and compared as UTF-8.
    IF pg_catalog.getdatabaseencoding() OPERATOR(pg_catalog.<>) 'UTF8' THEN
        RAISE EXCEPTION 'pg_tenancy needs a database with encoding UTF8, not %', pg_catalog.getdatabaseencoding()
            USING ERRCODE = 'feature_not_supported',
                  HINT = 'CREATE DATABASE ... ENCODING ''UTF8'' TEMPLATE template0.';
    END IF;
END
$$;

COMMENT ON SCHEMA tenancy IS 'pg_tenancy: verified identity, row-level security and hash-chained audit for multi-tenant data.';
REVOKE ALL ON SCHEMA tenancy FROM PUBLIC;

-- Roles belong to the cluster: another database may have made them already, and DROP EXTENSION leaves them.
DO $$
DECLARE
    wanted record;
    found text;
BEGIN
    FOR wanted IN
        SELECT * FROM (VALUES
            ('tenancy_application', 'pg_tenancy: may authenticate and read its context. Grant it to the role that the application logs in as.'),
            ('tenancy_admin', 'pg_tenancy: may register issuers, organizations, roles and members, and protect tables it owns.'),
            ('tenancy_operator', 'pg_tenancy: may assume an organization for a reason, without a token. For jobs and maintenance; each use is audited.'),
            ('tenancy_auditor', 'pg_tenancy: may read the events of every organization, seal and verify them.'),
            ('tenancy_trail', 'pg_tenancy: owns the view tenancy.organization_audit_trail, so that policies bind it. Grant it to nobody.')
        ) AS r (name, comment)
    LOOP
        IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) wanted.name) THEN
            -- What a role can do already, or who is in it already, is nothing that CREATE EXTENSION gave.
            SELECT pg_catalog.concat_ws(', ', CASE WHEN r.rolsuper THEN 'SUPERUSER' END, CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END,
                       CASE WHEN r.rolcanlogin THEN 'LOGIN' END, CASE WHEN r.rolcreaterole THEN 'CREATEROLE' END,
                       CASE WHEN r.rolcreatedb THEN 'CREATEDB' END, CASE WHEN r.rolreplication THEN 'REPLICATION' END) INTO STRICT found
              FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) wanted.name;
            IF found OPERATOR(pg_catalog.<>) '' THEN
                RAISE WARNING 'role "%" exists and has attributes: %', wanted.name, found
                    USING HINT = pg_catalog.format('Members of the role need none of them. Take them away with ALTER ROLE %I.', wanted.name);
            END IF;
            SELECT pg_catalog.string_agg(m.member::pg_catalog.regrole::pg_catalog.text, ', ' ORDER BY m.member::pg_catalog.regrole::pg_catalog.text) INTO STRICT found
              FROM (SELECT DISTINCT m.member FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) m.roleid
                     WHERE r.rolname OPERATOR(pg_catalog.=) wanted.name AND m.member OPERATOR(pg_catalog.<>) pg_catalog.to_regrole(current_user::pg_catalog.text)::pg_catalog.oid) m;
            IF found IS NOT NULL THEN
                -- While an extension is created, notices are not sent (extension.c).
                RAISE WARNING 'role "%" exists and has members: %', wanted.name, found
                    USING HINT = 'They get what the role may do in this database, too. Revoke the role from whoever is not meant to.';
            END IF;
            CONTINUE;
        END IF;
        BEGIN
            EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', wanted.name);
            EXECUTE pg_catalog.format('COMMENT ON ROLE %I IS %L', wanted.name, wanted.comment);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL; -- Another database's CREATE EXTENSION was quicker.
        END;
    END LOOP;
END
$$;
