-- Evidence: artifacts that lie elsewhere, and what is known of where they come from. Code: src/audit/export/evidence.rs. Format:
-- docs/audit-format.md.

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
COMMENT ON TABLE tenancy.evidence IS 'Artifacts (reports, scans, screenshots) that lie elsewhere, each by its digest, with its provenance. Filled by tenancy.add_evidence; append-only. Members see their organization''s under evidence:read, auditors all.';
COMMENT ON COLUMN tenancy.evidence.id IS 'Time-ordered id (UUID version 7).';
COMMENT ON COLUMN tenancy.evidence.organization IS 'Whose evidence it is.';
COMMENT ON COLUMN tenancy.evidence.digest IS 'SHA-256 of the artifact.';
COMMENT ON COLUMN tenancy.evidence.media_type IS 'What it is, as RFC 6838 names it: application/pdf.';
COMMENT ON COLUMN tenancy.evidence.source IS 'Where it is or came from: a URI, a file name, a system.';
COMMENT ON COLUMN tenancy.evidence.collector IS 'Who or what collected it.';
COMMENT ON COLUMN tenancy.evidence.collected_at IS 'When it was collected, as the collector says.';
COMMENT ON COLUMN tenancy.evidence.registered_at IS 'When it was registered, by the clock of the server.';
COMMENT ON COLUMN tenancy.evidence.registered_by IS '"sub" of the token of who registered it; of an operator, the database role.';
COMMENT ON COLUMN tenancy.evidence.subject IS 'What it is evidence of: a control, a system, a person.';
COMMENT ON COLUMN tenancy.evidence.relation IS 'How it stands to the events: concerns, supports, contradicts, derived-from or result-of.';
COMMENT ON COLUMN tenancy.evidence.events IS 'Events of the organization, in tenancy.event.';
COMMENT ON COLUMN tenancy.evidence.description IS 'For people.';
COMMENT ON COLUMN tenancy.evidence.record IS 'SHA-256 over the columns before it; the event of the registration has it too.';
COMMENT ON COLUMN tenancy.evidence.registration IS 'The event of the registration, in tenancy.event.';

SELECT tenancy.keep_append_only('tenancy.evidence');
SELECT pg_extension_config_dump('tenancy.evidence', '');

ALTER TABLE tenancy.evidence ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own_organization ON tenancy.evidence FOR SELECT TO tenancy_application, tenancy_admin, tenancy_operator
    USING (organization = tenancy.org_id() AND tenancy.authorize('evidence', 'read'));
COMMENT ON POLICY own_organization ON tenancy.evidence IS 'Under a context, the evidence of its organization, with the permission evidence:read.';
CREATE POLICY every_organization ON tenancy.evidence FOR SELECT TO tenancy_auditor USING (true);
COMMENT ON POLICY every_organization ON tenancy.evidence IS 'Auditors see all.';

CREATE FUNCTION tenancy.add_evidence(
    digest bytea, media_type text, source text, collector text DEFAULT NULL, collected_at timestamptz DEFAULT NULL,
    subject text DEFAULT NULL, relation text DEFAULT 'concerns', events uuid[] DEFAULT '{}', description text DEFAULT NULL) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_add_evidence_wrapper';
COMMENT ON FUNCTION tenancy.add_evidence(bytea, text, text, text, timestamptz, text, text, uuid[], text) IS
'Registers an artifact as evidence of the organization of the context, and returns its id. digest: its SHA-256, sha256(...) of its bytes.
media_type: as application/pdf, without parameters. source: where it is or came from. collector: who or what collected it, by default the
subject of the context; collected_at: when, by default now. subject: what it is evidence of. relation: how it stands to events of the
organization: concerns, supports, contradicts, derived-from, result-of. The registration is an event too. Needs the permission
evidence:create (42501). Raises 28000 without a context, 22023 for what is none of these, 42704 for an event that the organization does not have.';

CREATE FUNCTION tenancy.export_evidence(organization uuid, "from" timestamptz DEFAULT NULL, "to" timestamptz DEFAULT NULL, earlier bigint DEFAULT NULL)
    RETURNS SETOF text
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_export_evidence_wrapper';
COMMENT ON FUNCTION tenancy.export_evidence(uuid, timestamptz, timestamptz, bigint) IS
'The history of an organization in a period ("from" included, "to" not; NULL for no bound), its evidence, and the proof that the newest checkpoint
covers it, as the lines of a file that pg-tenancy-verify checks without the database: psql -AtXc "SELECT tenancy.export_evidence(...)" > bundle.
With earlier also the proof that nothing has changed since the checkpoint of that number. Members of tenancy_auditor export every organization;
others under a context the own one, with the permission audit:export, without the actors who are no members of it. Each export is an event of the
organization. Raises 55000 where no checkpoint covers the period, 42501 without the right, 22023 for a period that ends before it begins.';
