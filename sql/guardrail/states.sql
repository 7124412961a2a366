-- The guardrails: what is refused, what is only said. Code: src/guardrail/.

-- The library reads columns by their order.
CREATE TABLE tenancy.guardrail (
    name text COLLATE "C" NOT NULL,
    organization uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    state text CHECK (state IN ('off', 'warn', 'enforce')),
    reason text NOT NULL,
    changed_by text NOT NULL,
    changed_issuer text,
    changed_subject text,
    changed_at timestamptz NOT NULL,
    on_since timestamptz,
    PRIMARY KEY (name, organization)
);
COMMENT ON TABLE tenancy.guardrail IS
'States of guardrails that somebody has set, for all organizations or for one. The stricter of the two is in force. A
guardrail without a row for all organizations has its default state. tenancy.guardrails() lists all guardrails. Written
by tenancy.set_guardrail and tenancy.clear_guardrail. Members read the rows of their organization with the permission
guardrail:read.';
COMMENT ON COLUMN tenancy.guardrail.name IS 'Name of the guardrail, as in tenancy.guardrails().';
COMMENT ON COLUMN tenancy.guardrail.organization IS
'The organization that the state is set for; the nil UUID for all of them.';
COMMENT ON COLUMN tenancy.guardrail.state IS 'off, warn or enforce; NULL once it was cleared.';
COMMENT ON COLUMN tenancy.guardrail.reason IS 'Why the state was set or cleared.';
COMMENT ON COLUMN tenancy.guardrail.changed_by IS 'The database role that logged in.';
COMMENT ON COLUMN tenancy.guardrail.changed_issuer IS
'Issuer of the person who changed it under a context. With changed_subject it names the person.';
COMMENT ON COLUMN tenancy.guardrail.changed_subject IS 'Subject of the person who changed it under a context.';
COMMENT ON COLUMN tenancy.guardrail.changed_at IS 'When the state was set or cleared.';
COMMENT ON COLUMN tenancy.guardrail.on_since IS
'Since when the state has been warn or enforce without a break; NULL for off, and once it was cleared.';

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
