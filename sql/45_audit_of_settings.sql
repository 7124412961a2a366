-- The settings of an organization are audited as its data is: changes of these tables are events of its chain.

DO $$
DECLARE
    settings text;
BEGIN
    FOREACH settings IN ARRAY ARRAY['sso_connection', 'sso_domain', 'sso_test'] LOOP
        EXECUTE pg_catalog.format(
            'CREATE TRIGGER audit_row AFTER INSERT OR UPDATE OR DELETE ON tenancy.%I
                 FOR EACH ROW EXECUTE FUNCTION tenancy.audit_row(''organization'', ''sso'')', settings);
        EXECUTE pg_catalog.format(
            'CREATE TRIGGER audit_truncate BEFORE TRUNCATE ON tenancy.%I
                 FOR EACH STATEMENT EXECUTE FUNCTION tenancy.audit_truncate(''organization'', ''sso'')', settings);
        EXECUTE pg_catalog.format(
            'ALTER TABLE tenancy.%1$I ENABLE ALWAYS TRIGGER audit_row, ENABLE ALWAYS TRIGGER audit_truncate', settings);
        EXECUTE pg_catalog.format('COMMENT ON TRIGGER audit_row ON tenancy.%I IS ''Writes the event of the change.''', settings);
        EXECUTE pg_catalog.format('COMMENT ON TRIGGER audit_truncate ON tenancy.%I IS ''Writes an event for each organization that loses rows.''', settings);
    END LOOP;
END
$$;
