-- Statements that change the rules are audited by event triggers. Code: src/audit/capture/ddl.rs.

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
COMMENT ON TABLE tenancy.coverage IS 'What captured changes and refused them, as the sealer found it: a row for each object when it was first seen and when it had changed. What no event explains is an event gap.';
COMMENT ON COLUMN tenancy.coverage.object IS 'Catalog and oid, such as pg_class 16400; all for a digest of everything, by which the sealer sees that nothing has changed.';
COMMENT ON COLUMN tenancy.coverage.id IS 'Time-ordered id (UUID version 7): the newest row of an object counts.';
COMMENT ON COLUMN tenancy.coverage.recorded_at IS 'When the sealer looked.';
COMMENT ON COLUMN tenancy.coverage.incarnation IS 'Which history of the database it was seen in.';
COMMENT ON COLUMN tenancy.coverage.block IS 'The newest block then.';
COMMENT ON COLUMN tenancy.coverage.snapshot IS 'Which transactions were over then.';
COMMENT ON COLUMN tenancy.coverage.schema IS 'Schema of the table.';
COMMENT ON COLUMN tenancy.coverage.name IS 'Name of the table, event trigger or function.';
COMMENT ON COLUMN tenancy.coverage.state IS 'Triggers of a table: each with name, state (A: it fires always), function, and the transaction that wrote its row of the catalog. NULL once they are gone.';
COMMENT ON COLUMN tenancy.coverage.event IS 'The event "coverage" that has the digest of all rows which name it: a row without one, or another, is found by tenancy.verify_audit(whole => true).';
SELECT pg_extension_config_dump('tenancy.coverage', '');
SELECT tenancy.keep_append_only('tenancy.coverage');
