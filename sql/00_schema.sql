-- The schema, and the roles that privileges are granted to.

DO $$
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
        CONTINUE WHEN EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) wanted.name);
        BEGIN
            EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', wanted.name);
            EXECUTE pg_catalog.format('COMMENT ON ROLE %I IS %L', wanted.name, wanted.comment);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL; -- Another database's CREATE EXTENSION was quicker.
        END;
    END LOOP;
END
$$;
