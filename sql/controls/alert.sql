-- Alerts: what somebody of an organization should look at now. Code: src/controls/alert.rs.

CREATE TABLE tenancy.alert (
    id uuid PRIMARY KEY,
    organization uuid NOT NULL,
    domain text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    detail jsonb NOT NULL,
    raised_at timestamptz NOT NULL
);
CREATE INDEX alert_organization_idx ON tenancy.alert (organization, raised_at);
COMMENT ON TABLE tenancy.alert IS
'What somebody should look at, such as a credential that does not work any more. A function of the extension writes the
row and sends NOTIFY tenancy_alert, with the id and the kind as its payload and nothing else, since every role may
listen. Members read the alerts of their organization with the permission read in the domain of the alert; auditors
read all. A row is never changed.';
COMMENT ON COLUMN tenancy.alert.id IS 'Time-ordered id (UUID version 7).';
COMMENT ON COLUMN tenancy.alert.organization IS 'The organization that it is about; the nil UUID if it
is about all of them.';
COMMENT ON COLUMN tenancy.alert.domain IS 'Domain in which the permission read shows the alert.';
COMMENT ON COLUMN tenancy.alert.kind IS 'What it is about; docs/monitoring.md lists the kinds.';
COMMENT ON COLUMN tenancy.alert.detail IS 'The secret, version or request that it is about.';
COMMENT ON COLUMN tenancy.alert.raised_at IS 'When it was raised.';

SELECT pg_extension_config_dump('tenancy.alert', '');

CREATE TRIGGER keep_controls BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON tenancy.alert
    FOR EACH STATEMENT EXECUTE FUNCTION tenancy.keep_controls();
ALTER TABLE tenancy.alert ENABLE ALWAYS TRIGGER keep_controls;
COMMENT ON TRIGGER keep_controls ON tenancy.alert IS 'Refuses changes that do not come from the extension.';
ALTER TABLE tenancy.alert ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own_organization ON tenancy.alert FOR SELECT TO tenancy_application, tenancy_admin, tenancy_operator
    USING (organization = tenancy.org_id() AND tenancy.allowed(domain, 'read'));
COMMENT ON POLICY own_organization ON tenancy.alert IS
'Members read the alerts of the context''s organization, with the permission read in the domain of the alert.';
CREATE POLICY every_organization ON tenancy.alert FOR SELECT TO tenancy_auditor USING (true);
COMMENT ON POLICY every_organization ON tenancy.alert IS 'Auditors read the alerts of every organization.';
