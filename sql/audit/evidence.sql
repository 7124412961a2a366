-- Evidence: artifacts that lie elsewhere, and what is known of where they come from. Code:
-- src/audit/export/evidence.rs. Format: docs/audit-format.md.

CREATE TABLE tenancy.evidence (
    id uuid PRIMARY KEY,
    organization uuid NOT NULL,
    digest bytea NOT NULL CHECK (octet_length(digest) = 32),
    media_type text NOT NULL,
    source text NOT NULL,
    collector text NOT NULL,
    collected_at timestamptz NOT NULL,
    registered_at timestamptz NOT NULL,
    registered_by text NOT NULL,
    subject text,
    relation text NOT NULL CHECK (relation IN ('concerns', 'supports', 'contradicts', 'derived-from', 'result-of')),
    events uuid[] NOT NULL,
    description text,
    record bytea NOT NULL CHECK (octet_length(record) = 32),
    registration uuid NOT NULL UNIQUE
);
CREATE INDEX evidence_organization_idx ON tenancy.evidence (organization, registered_at);
CREATE INDEX evidence_digest_idx ON tenancy.evidence (digest);
COMMENT ON TABLE tenancy.evidence IS
'Evidence: artifacts that lie elsewhere (reports, scans, screenshots), by digest and provenance. Written by
tenancy.add_evidence; append-only. Members read the evidence of their organization with the permission evidence:read,
auditors read all.';
COMMENT ON COLUMN tenancy.evidence.id IS 'Time-ordered id (UUID version 7).';
COMMENT ON COLUMN tenancy.evidence.organization IS 'The organization of the evidence.';
COMMENT ON COLUMN tenancy.evidence.digest IS 'SHA-256 of the artifact.';
COMMENT ON COLUMN tenancy.evidence.media_type IS 'Media type of the artifact (RFC 6838), such as application/pdf.';
COMMENT ON COLUMN tenancy.evidence.source IS 'Location or origin of the artifact: a URI, a file name, a system.';
COMMENT ON COLUMN tenancy.evidence.collector IS 'The person or system that collected the artifact.';
COMMENT ON COLUMN tenancy.evidence.collected_at IS 'When it was collected, according to the collector.';
COMMENT ON COLUMN tenancy.evidence.registered_at IS 'When it was registered, by the clock of the server.';
COMMENT ON COLUMN tenancy.evidence.registered_by IS
'Subject of the context that registered it; of an operator, the database role.';
COMMENT ON COLUMN tenancy.evidence.subject IS 'The control, system or person that it is evidence of.';
COMMENT ON COLUMN tenancy.evidence.relation IS
'Relation to the events: concerns, supports, contradicts, derived-from or result-of.';
COMMENT ON COLUMN tenancy.evidence.events IS 'Ids of events of the organization, in tenancy.event.';
COMMENT ON COLUMN tenancy.evidence.description IS 'Description for readers.';
COMMENT ON COLUMN tenancy.evidence.record IS
'SHA-256 over the columns before it. The event of the registration contains it.';
COMMENT ON COLUMN tenancy.evidence.registration IS 'The event of the registration, in tenancy.event.';

SELECT tenancy.keep_append_only('tenancy.evidence');
SELECT pg_extension_config_dump('tenancy.evidence', '');

ALTER TABLE tenancy.evidence ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own_organization ON tenancy.evidence FOR SELECT TO tenancy_application, tenancy_admin, tenancy_operator
    USING (organization = tenancy.org_id() AND tenancy.authorize('evidence', 'read'));
COMMENT ON POLICY own_organization ON tenancy.evidence IS
'Members read the evidence of the context''s organization, with the permission evidence:read.';
CREATE POLICY every_organization ON tenancy.evidence FOR SELECT TO tenancy_auditor USING (true);
COMMENT ON POLICY every_organization ON tenancy.evidence IS 'Auditors read the evidence of every organization.';

CREATE FUNCTION tenancy.add_evidence(
    digest bytea, media_type text, source text, collector text DEFAULT NULL, collected_at timestamptz DEFAULT NULL,
    subject text DEFAULT NULL, relation text DEFAULT 'concerns', events uuid[] DEFAULT '{}', description text DEFAULT
        NULL) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_add_evidence_wrapper';
COMMENT ON FUNCTION tenancy.add_evidence(bytea, text, text, text, timestamptz, text, text, uuid[], text) IS
'Registers an artifact that lies elsewhere (a report, a scan, a screenshot) as evidence of the context''s
organization. Returns the id of the evidence.

- digest: SHA-256 of the artifact: sha256(...) of its bytes.
- media_type: Such as application/pdf, without parameters.
- source: Location or origin of the artifact.
- collector: The person or system that collected it. By default the subject of the context.
- collected_at: When it was collected. By default now.
- subject: The control, system or person that it is evidence of.
- relation: Relation to the events: concerns, supports, contradicts, derived-from or result-of.
- events: Ids of events of the organization, at most 1000.
- description: Description for readers.

A text has 1 to 2000 bytes. The registration is an event of the organization''s chain, with a digest over all
arguments. Members read tenancy.evidence with the permission evidence:read and see their own organization''s rows.
Auditors see all.

Raises 42501 without the permission evidence:create, 28000 without a context, 22023 (argument_invalid) for an
argument that is not allowed, 22004 for NULL in a required one, 42704 for an event that the organization does not
have, 25006 in a read-only transaction or on a standby.';

CREATE FUNCTION tenancy.export_evidence(organization uuid, "from" timestamptz DEFAULT NULL, "to" timestamptz DEFAULT
    NULL, earlier bigint DEFAULT NULL)
    RETURNS SETOF text
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_export_evidence_wrapper';
COMMENT ON FUNCTION tenancy.export_evidence(uuid, timestamptz, timestamptz, bigint) IS
'Returns the lines of a bundle, a file that pg-tenancy-verify checks without the database: psql -AtXc "SELECT
tenancy.export_evidence(...)" > bundle. A bundle has the organization''s events of a period, its evidence, and the
proof that the newest checkpoint covers them.

- from, to: The period, "from" included and "to" not. NULL or infinite for no bound.
- earlier: Number of an older checkpoint. The bundle then also proves that the log continues that checkpoint.

Members of tenancy_auditor export every organization. Other callers export the organization of their context, with
the permission audit:export. Their bundles have only a digest of actors who are no members of the organization.

Each export is an event (operation export) of the organization. In a READ ONLY transaction or on a standby it is a
line of the server''s log instead.

Raises 55000 (checkpoint_missing) if no checkpoint covers the period, 42501 without the permission, 28000 without a
context, 22023 for a period that ends before it begins or an unknown earlier checkpoint, F0000 without a signing key.';
