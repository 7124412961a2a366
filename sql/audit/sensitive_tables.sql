-- Tables whose reading is recorded. Code: src/audit/capture/read.rs, src/pg/hooks/reading.rs.

-- By oid, so that a mark follows its table through renames; a dump writes it as the name.
CREATE TABLE tenancy.sensitive_table (
    "table" regclass PRIMARY KEY,
    sensitive boolean NOT NULL,
    domain text NOT NULL CHECK (domain <> '' AND octet_length(domain) <= 200),
    reason text NOT NULL,
    changed_by text NOT NULL,
    changed_at timestamptz NOT NULL
);
COMMENT ON TABLE tenancy.sensitive_table IS
'Tables whose reads are recorded, and tables whose reads were. Written by tenancy.set_sensitive.';
COMMENT ON COLUMN tenancy.sensitive_table."table" IS 'The table, with its partitions and children.';
COMMENT ON COLUMN tenancy.sensitive_table.sensitive IS 'Whether reads of the table are recorded.';
COMMENT ON COLUMN tenancy.sensitive_table.domain IS
'Domain of the events: as passed, or the domain that the table was protected in at that time.';
COMMENT ON COLUMN tenancy.sensitive_table.reason IS 'Why the mark was set.';
COMMENT ON COLUMN tenancy.sensitive_table.changed_by IS 'The database role that logged in.';
COMMENT ON COLUMN tenancy.sensitive_table.changed_at IS 'When the mark was set.';
-- What was dropped since has no name to be restored by.
SELECT pg_extension_config_dump('tenancy.sensitive_table',
    'WHERE EXISTS (SELECT FROM pg_class c WHERE c.oid = "table")');

CREATE FUNCTION tenancy.renew_sensitive_tables() RETURNS trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_renew_sensitive_tables';
COMMENT ON FUNCTION tenancy.renew_sensitive_tables() IS
'Trigger function of tenancy.sensitive_table: every session then reads the marks again.';
CREATE TRIGGER renew_sensitive_tables AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON tenancy.sensitive_table
    FOR EACH STATEMENT EXECUTE FUNCTION tenancy.renew_sensitive_tables();
ALTER TABLE tenancy.sensitive_table ENABLE ALWAYS TRIGGER renew_sensitive_tables;
COMMENT ON TRIGGER renew_sensitive_tables ON tenancy.sensitive_table IS 'Makes every session read the marks again.';

CREATE FUNCTION tenancy.set_sensitive("table" regclass, sensitive boolean, reason text, domain text DEFAULT NULL)
    RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found record;
BEGIN
    PERFORM tenancy.require_argument('table', "table"::text);
    PERFORM tenancy.require_argument('sensitive', sensitive::text);
    IF reason IS NULL OR btrim(reason) = '' THEN
        RAISE EXCEPTION 'a table is marked for a reason' USING ERRCODE = 'null_value_not_allowed',
            HINT = 'tenancy.set_sensitive(table, true, reason => ...). The reason is kept and audited.';
    END IF;
    SELECT c.relkind, c.relpersistence, n.nspname INTO found
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.oid = "table";
    IF found IS NULL OR found.relkind NOT IN ('r', 'p', 'f', 'm') OR found.relpersistence = 't'
        OR found.nspname IN ('pg_catalog', 'information_schema', 'pg_toast') THEN
        RAISE EXCEPTION '% is no table whose reading could be recorded', "table" USING ERRCODE = 'wrong_object_type',
            HINT = 'Mark the tables that a view reads; temporary tables and Postgres'' own cannot be marked.';
    END IF;
    INSERT INTO tenancy.sensitive_table AS s
    VALUES ("table", sensitive,
            coalesce(domain, (SELECT p.domain FROM tenancy.protected_tables() p
                WHERE p."table" = set_sensitive."table"), 'application'),
            reason, session_user, clock_timestamp())
        ON CONFLICT ON CONSTRAINT sensitive_table_pkey DO UPDATE
            SET sensitive = EXCLUDED.sensitive, domain = EXCLUDED.domain, reason = EXCLUDED.reason,
                changed_by = EXCLUDED.changed_by, changed_at = EXCLUDED.changed_at;
END
$$;
COMMENT ON FUNCTION tenancy.set_sensitive(regclass, boolean, text, text) IS
'Makes each statement that reads a table an event, or ends that. The event has the actor, the time, the client''s
address and the number of rows. It applies from the next statement of every session on, to the table with its
partitions and children, and after renames.

- sensitive: true to record reads, false to end it.
- reason: Stored in tenancy.sensitive_table; the change is an audit event.
- domain: Domain of the events. By default the one in which the table is protected, or application.

The events need the library in shared_preload_libraries. Without it, a read is a line of the server''s log. Raises
42809 for a view, a temporary table or a system table, 22004 without a reason.';
