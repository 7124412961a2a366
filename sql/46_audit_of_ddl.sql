-- Statements that change the rules are audited by event triggers. Code: src/audit/ddl_pg.rs.

CREATE FUNCTION tenancy.audit_ddl() RETURNS event_trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_audit_ddl';
COMMENT ON FUNCTION tenancy.audit_ddl() IS
'Event trigger: writes an event, of no organization, for each object that a statement changed which bears on who may do what or on what is
recorded: protected tables and what belongs to them, policies and publications anywhere, grants on what is in the schemas of protected tables,
and the extension itself.';

CREATE FUNCTION tenancy.audit_drop() RETURNS event_trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_audit_drop';
COMMENT ON FUNCTION tenancy.audit_drop() IS 'Event trigger: as tenancy.audit_ddl(), for what is dropped.';

-- ALWAYS: session_replication_role = replica would switch them off.
CREATE EVENT TRIGGER tenancy_audit_ddl ON ddl_command_end EXECUTE FUNCTION tenancy.audit_ddl();
ALTER EVENT TRIGGER tenancy_audit_ddl ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER tenancy_audit_ddl IS 'pg_tenancy: events of statements that change the rules.';
CREATE EVENT TRIGGER tenancy_audit_drop ON sql_drop EXECUTE FUNCTION tenancy.audit_drop();
ALTER EVENT TRIGGER tenancy_audit_drop ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER tenancy_audit_drop IS 'pg_tenancy: events of statements that change the rules.';
