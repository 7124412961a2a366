-- Settings are audited as data is: of those of an organization each change is an event of its chain, of those for all
-- organizations an event of none (the nil UUID).

DO $$
DECLARE
    settings record;
BEGIN
    FOR settings IN
        SELECT * FROM (VALUES
            ('sso_connection', 'organization', 'sso'), ('sso_domain', 'organization', 'sso'), ('sso_test', 'organization', 'sso'),
            ('guardrail', '', 'guardrail'), ('protected_schema', '', 'guardrail'), ('exclusion', '', 'guardrail')
        ) AS s (name, organization_column, domain)
    LOOP
        EXECUTE pg_catalog.format(
            'CREATE TRIGGER audit_row AFTER INSERT OR UPDATE OR DELETE ON tenancy.%I
                 FOR EACH ROW EXECUTE FUNCTION tenancy.audit_row(%L, %L)', settings.name, settings.organization_column, settings.domain);
        EXECUTE pg_catalog.format(
            'CREATE TRIGGER audit_truncate BEFORE TRUNCATE ON tenancy.%I
                 FOR EACH STATEMENT EXECUTE FUNCTION tenancy.audit_truncate(%L, %L)', settings.name, settings.organization_column, settings.domain);
        EXECUTE pg_catalog.format(
            'ALTER TABLE tenancy.%1$I ENABLE ALWAYS TRIGGER audit_row, ENABLE ALWAYS TRIGGER audit_truncate', settings.name);
        EXECUTE pg_catalog.format('COMMENT ON TRIGGER audit_row ON tenancy.%I IS ''Writes the event of the change.''', settings.name);
        EXECUTE pg_catalog.format('COMMENT ON TRIGGER audit_truncate ON tenancy.%I IS ''Writes an event for each organization that loses rows.''', settings.name);
    END LOOP;
END
$$;
