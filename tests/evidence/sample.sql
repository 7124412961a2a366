-- Makes sample.jsonl: psql -AtXq -f sample.sql, in an empty database whose tenancy.signing_key_file has the private key
-- of Go's note package (golang.org/x/mod/sumdb/note), and with 'audit.example' in tenancy.checkpoint_origin.
\set ON_ERROR_STOP on
\o /dev/null
CREATE EXTENSION pg_tenancy;
SELECT tenancy.create_organization('Acme', '11111111-1111-4111-8111-111111111111');
SELECT tenancy.create_organization('Globex', '22222222-2222-4222-8222-222222222222');
CREATE TABLE finding (id bigint PRIMARY KEY, organization_id uuid NOT NULL, title text);
SELECT tenancy.protect('finding');
INSERT INTO finding SELECT n, '11111111-1111-4111-8111-111111111111', 'Prüfung "offen"' FROM generate_series(1, 5) n;
SELECT tenancy.checkpoint();
SELECT clock_timestamp() AS begun \gset
BEGIN;
SELECT tenancy.assume_organization('11111111-1111-4111-8111-111111111111', 'quarterly review');
UPDATE finding SET title = 'closed' WHERE id <= 3;
SELECT tenancy.add_evidence(sha256('the bytes of the report'), 'application/pdf', 'https://files.example/report.pdf',
    collector => 'review tool 3.1', collected_at => '2026-01-05 09:00+00', subject => 'CC6.1', relation => 'result-of',
    events => ARRAY[tenancy.record_event('access.reviewed')]);
COMMIT;
SELECT clock_timestamp() AS ended \gset
SELECT tenancy.seal();
SELECT tenancy.erase_payload(id, 'asked for by the person', 'GDPR Art. 17') FROM tenancy.event
 WHERE operation = 'update' AND place = 1;
SELECT tenancy.checkpoint();
\o
SELECT tenancy.export_evidence('11111111-1111-4111-8111-111111111111', :'begun', :'ended', earlier => 1);
