-- Statements that change the rules are audited by event triggers. Code: src/audit/capture/ddl.rs.

CREATE FUNCTION tenancy.audit_ddl() RETURNS event_trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_audit_ddl';
COMMENT ON FUNCTION tenancy.audit_ddl() IS
'Event trigger function: writes an event, of no organization, for each object that a statement changed if it affects
permissions or capture. Such objects are protected tables and what belongs to them, all policies and publications,
the extension, and grants on objects in the schemas of protected tables.';

CREATE FUNCTION tenancy.audit_drop() RETURNS event_trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_audit_drop';
COMMENT ON FUNCTION tenancy.audit_drop() IS
'Event trigger function: as tenancy.audit_ddl(), for objects that are dropped.';

-- ALWAYS: session_replication_role = replica would switch them off.
CREATE EVENT TRIGGER tenancy_audit_ddl ON ddl_command_end EXECUTE FUNCTION tenancy.audit_ddl();
ALTER EVENT TRIGGER tenancy_audit_ddl ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER tenancy_audit_ddl IS
'pg_tenancy: events of statements that change protection, permissions or capture.';
CREATE EVENT TRIGGER tenancy_audit_drop ON sql_drop EXECUTE FUNCTION tenancy.audit_drop();
ALTER EVENT TRIGGER tenancy_audit_drop ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER tenancy_audit_drop IS
'pg_tenancy: events of statements that drop protection, permissions or capture.';

CREATE TABLE tenancy.coverage (
    object text COLLATE "C" NOT NULL,
    id uuid NOT NULL,
    recorded_at timestamptz NOT NULL,
    incarnation text NOT NULL,
    block bigint NOT NULL,
    snapshot pg_snapshot NOT NULL,
    schema text,
    name text,
    state text,
    event uuid NOT NULL,
    PRIMARY KEY (object, id)
);
COMMENT ON TABLE tenancy.coverage IS
'Coverage: the state of the triggers that capture and refuse changes, as the sealer found it. An object has a row for
its first state and for each later one. A change without an event that explains it is a gap.';
COMMENT ON COLUMN tenancy.coverage.object IS
'Catalog and oid, such as pg_class 16400. The value all is for a digest of all objects, by which the sealer notices
changes.';
COMMENT ON COLUMN tenancy.coverage.id IS 'Time-ordered id (UUID version 7). The newest row of an object counts.';
COMMENT ON COLUMN tenancy.coverage.recorded_at IS 'When the sealer recorded the state.';
COMMENT ON COLUMN tenancy.coverage.incarnation IS 'Name of the incarnation, in tenancy.incarnation.';
COMMENT ON COLUMN tenancy.coverage.block IS 'The newest block at that time.';
COMMENT ON COLUMN tenancy.coverage.snapshot IS 'Snapshot of the sealer at that time.';
COMMENT ON COLUMN tenancy.coverage.schema IS 'Schema of the table.';
COMMENT ON COLUMN tenancy.coverage.name IS 'Name of the table, event trigger or function.';
COMMENT ON COLUMN tenancy.coverage.state IS
'The triggers of a table, each with its name, state (A: it always fires), function, and the transaction that wrote its
catalog row. NULL after the object was dropped.';
COMMENT ON COLUMN tenancy.coverage.event IS
'The event of the operation coverage with the digest of all rows that name it. tenancy.verify_audit(whole => true)
reports a row without such an event or with another digest.';
SELECT pg_extension_config_dump('tenancy.coverage', '');
SELECT tenancy.keep_append_only('tenancy.coverage');
