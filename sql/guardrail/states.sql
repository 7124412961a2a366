-- The guardrails: what is refused, what is only said. Code: src/guardrail/.

CREATE TABLE tenancy.guardrail (
    name text COLLATE "C" PRIMARY KEY,
    state text NOT NULL CHECK (state IN ('off', 'warn', 'enforce')),
    reason text NOT NULL,
    changed_by text NOT NULL,
    changed_at timestamptz NOT NULL
);
COMMENT ON TABLE tenancy.guardrail IS
'Guardrails with a state that somebody has set. A guardrail without a row has its default state. tenancy.guardrails()
lists all guardrails.';
COMMENT ON COLUMN tenancy.guardrail.name IS 'Name of the guardrail, as in tenancy.guardrails().';
COMMENT ON COLUMN tenancy.guardrail.state IS 'off, warn or enforce.';
COMMENT ON COLUMN tenancy.guardrail.reason IS 'Why the state was set.';
COMMENT ON COLUMN tenancy.guardrail.changed_by IS 'The database role that logged in.';
COMMENT ON COLUMN tenancy.guardrail.changed_at IS 'When the state was set.';

CREATE TABLE tenancy.protected_schema (
    schema_name text COLLATE "C" PRIMARY KEY,
    organization_column text
);
COMMENT ON TABLE tenancy.protected_schema IS
'Schemas whose new tables the guardrail new_tables checks. Written by tenancy.protect_schema.';
COMMENT ON COLUMN tenancy.protected_schema.schema_name IS
'Name of the schema. A name, and not an oid, so that a dump contains it.';
COMMENT ON COLUMN tenancy.protected_schema.organization_column IS
'Name of the organization column of its tables; NULL for one of the usual names.';

CREATE TABLE tenancy.exclusion (
    schema_name text COLLATE "C",
    table_name text COLLATE "C",
    reason text NOT NULL,
    changed_by text NOT NULL,
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (schema_name, table_name)
);
COMMENT ON TABLE tenancy.exclusion IS
'Tables with an organization column that stay unprotected on purpose. Written by tenancy.exclude.';
COMMENT ON COLUMN tenancy.exclusion.schema_name IS 'Schema of the table.';
COMMENT ON COLUMN tenancy.exclusion.table_name IS
'Name of the table. After a rename, the row no longer applies to the table.';
COMMENT ON COLUMN tenancy.exclusion.reason IS 'Why the table stays unprotected.';
COMMENT ON COLUMN tenancy.exclusion.changed_by IS 'The database role that logged in.';
COMMENT ON COLUMN tenancy.exclusion.changed_at IS 'When the table was excluded.';

SELECT pg_extension_config_dump('tenancy.guardrail', '');
SELECT pg_extension_config_dump('tenancy.protected_schema', '');
SELECT pg_extension_config_dump('tenancy.exclusion', '');

CREATE FUNCTION tenancy.guardrails() RETURNS TABLE (name text, state text, default_state text, meaning text)
    LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_guardrails_wrapper';
COMMENT ON FUNCTION tenancy.guardrails() IS
'Lists every guardrail with its state, its default state and its meaning. tenancy_auditor may call it too.';

CREATE FUNCTION tenancy.set_guardrail(name text, state text, reason text) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known text;
BEGIN
    PERFORM tenancy.require_argument('name', name);
    PERFORM tenancy.require_argument('state', state);
    IF reason IS NULL OR btrim(reason) = '' THEN
        RAISE EXCEPTION 'a guardrail is set for a reason' USING ERRCODE = 'null_value_not_allowed',
            HINT = 'tenancy.set_guardrail(name, state, reason => ...). The reason is kept and audited.';
    END IF;
    IF state NOT IN ('off', 'warn', 'enforce') THEN
        RAISE EXCEPTION 'a guardrail is off, warn or enforce, not "%"', state USING ERRCODE = 'invalid_parameter_value',
            HINT = 'SELECT * FROM tenancy.guardrails();';
    END IF;
    IF NOT EXISTS (SELECT FROM tenancy.guardrails() g WHERE g.name = set_guardrail.name) THEN
        SELECT string_agg(g.name, ', ') INTO known FROM tenancy.guardrails() g;
        RAISE EXCEPTION 'there is no guardrail "%"', name USING ERRCODE = 'undefined_object',
            DETAIL = 'There are: ' || known, HINT = 'SELECT * FROM tenancy.guardrails();';
    END IF;
    INSERT INTO tenancy.guardrail AS g VALUES (name, state, reason, session_user, clock_timestamp())
        ON CONFLICT ON CONSTRAINT guardrail_pkey DO UPDATE
            SET state = EXCLUDED.state, reason = EXCLUDED.reason, changed_by = EXCLUDED.changed_by, changed_at =
                EXCLUDED.changed_at;
END
$$;
COMMENT ON FUNCTION tenancy.set_guardrail(text, text, text) IS
'Sets the state of a guardrail to off, warn or enforce. The new state applies to all sessions at once. The reason is
stored, and the change is an audit event. Raises 42704 for an unknown guardrail, 22023 for another state, 22004 for a
NULL argument or an empty reason.';
