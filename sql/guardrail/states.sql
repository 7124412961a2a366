-- The guardrails: what is refused, what is only said. Code: src/guardrail/.

CREATE TABLE tenancy.guardrail (
    name text COLLATE "C" PRIMARY KEY,
    state text NOT NULL CHECK (state IN ('off', 'warn', 'enforce')),
    reason text NOT NULL,
    changed_by text NOT NULL,
    changed_at timestamptz NOT NULL
);
COMMENT ON TABLE tenancy.guardrail IS 'Guardrails that somebody has set; one that is not here has its default. tenancy.guardrails() shows them all.';
COMMENT ON COLUMN tenancy.guardrail.name IS 'As tenancy.guardrails() names it.';
COMMENT ON COLUMN tenancy.guardrail.state IS 'off, warn or enforce.';
COMMENT ON COLUMN tenancy.guardrail.reason IS 'Why it was set so.';
COMMENT ON COLUMN tenancy.guardrail.changed_by IS 'The database role that logged in.';
COMMENT ON COLUMN tenancy.guardrail.changed_at IS 'When.';

CREATE TABLE tenancy.protected_schema (
    schema_name text COLLATE "C" PRIMARY KEY,
    organization_column text
);
COMMENT ON TABLE tenancy.protected_schema IS 'Schemas whose new tables the guardrail new_tables looks at.';
COMMENT ON COLUMN tenancy.protected_schema.schema_name IS 'By name, so that a dump carries it.';
COMMENT ON COLUMN tenancy.protected_schema.organization_column IS 'What the organization column of its tables is called; NULL: one of the usual names.';

CREATE TABLE tenancy.exclusion (
    schema_name text COLLATE "C",
    table_name text COLLATE "C",
    reason text NOT NULL,
    changed_by text NOT NULL,
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (schema_name, table_name)
);
COMMENT ON TABLE tenancy.exclusion IS 'Tables with an organization column that are meant to stay unprotected.';
COMMENT ON COLUMN tenancy.exclusion.schema_name IS 'Schema of the table.';
COMMENT ON COLUMN tenancy.exclusion.table_name IS 'Name of the table; another name is another table.';
COMMENT ON COLUMN tenancy.exclusion.reason IS 'Why it stays unprotected.';
COMMENT ON COLUMN tenancy.exclusion.changed_by IS 'The database role that logged in.';
COMMENT ON COLUMN tenancy.exclusion.changed_at IS 'When.';

SELECT pg_extension_config_dump('tenancy.guardrail', '');
SELECT pg_extension_config_dump('tenancy.protected_schema', '');
SELECT pg_extension_config_dump('tenancy.exclusion', '');

CREATE FUNCTION tenancy.guardrails() RETURNS TABLE (name text, state text, default_state text, meaning text)
    LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_guardrails_wrapper';
COMMENT ON FUNCTION tenancy.guardrails() IS 'Every guardrail with its state, the state it has by default, and what it is about.';

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
            SET state = EXCLUDED.state, reason = EXCLUDED.reason, changed_by = EXCLUDED.changed_by, changed_at = EXCLUDED.changed_at;
END
$$;
COMMENT ON FUNCTION tenancy.set_guardrail(text, text, text) IS
'Sets a guardrail to off, warn or enforce, for a reason that is kept and audited. Counts at once in every session. Raises 42704 for a
name that is none, 22023 for another state, 22004 without a reason.';
