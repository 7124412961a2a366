-- Settings are audited as data is: of those of an organization each change is an event of its chain, of those for all
-- organizations an event of none (the nil UUID).

DO $$
DECLARE
    settings record;
    columns text;
BEGIN
    FOR settings IN
        SELECT * FROM (VALUES
            ('organization', 'id', 'organization'), ('membership', 'organization', 'membership'),
            ('role', 'organization', 'role'), ('role_permission', 'organization', 'role'),
            ('issuer', '', 'issuer'), ('retired_key', '', 'issuer'), ('external_role', '', 'issuer'),
            ('external_organization', 'organization', 'issuer'),
            ('revoked_session', '', 'revocation'), ('revoked_subject', '', 'revocation'),
            ('sso_connection', 'organization', 'sso'), ('sso_domain', 'organization', 'sso'), ('sso_test',
                'organization', 'sso'),
            ('sensitive_table', '', 'sensitive'), ('archive', '', 'archive'),
            ('guardrail', 'organization', 'guardrail'),
            ('protected_schema', '', 'guardrail'), ('exclusion', '', 'guardrail')
        ) AS s (name, organization_column, domain)
    LOOP
        -- Not an UPDATE that only gives an issuer a new revision, because something that belongs to it has changed:
        -- that is an event itself.
        SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) INTO columns
          FROM pg_attribute a
         WHERE a.attrelid = format('tenancy.%I', settings.name)::regclass
           AND a.attnum > 0 AND NOT a.attisdropped AND a.attname NOT IN ('revision', 'updated_at');
        EXECUTE format(
            'CREATE TRIGGER audit_row AFTER INSERT OR DELETE OR UPDATE OF %s ON tenancy.%I
                 FOR EACH ROW EXECUTE FUNCTION tenancy.audit_row(%L, %L)', columns, settings.name,
                     settings.organization_column, settings.domain);
        EXECUTE format(
            'CREATE TRIGGER audit_truncate BEFORE TRUNCATE ON tenancy.%I
                 FOR EACH STATEMENT EXECUTE FUNCTION tenancy.audit_truncate(%L, %L)', settings.name,
                     settings.organization_column, settings.domain);
        EXECUTE format(
            'ALTER TABLE tenancy.%1$I ENABLE ALWAYS TRIGGER audit_row, ENABLE ALWAYS TRIGGER audit_truncate',
                settings.name);
        EXECUTE format('COMMENT ON TRIGGER audit_row ON tenancy.%I IS ''Writes the event of the change.''',
            settings.name);
        EXECUTE format('COMMENT ON TRIGGER audit_truncate ON tenancy.%I IS ''Writes an event for each organization that loses rows.''', settings.name);
    END LOOP;
END
$$;
