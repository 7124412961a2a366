-- Payloads that had to go, lawfully and in the open. Code: src/audit/retention/erasure.rs.

CREATE TABLE tenancy.erasure (
    event uuid PRIMARY KEY,
    organization uuid NOT NULL,
    erased_at timestamptz NOT NULL,
    payload_digest bytea NOT NULL CHECK (octet_length(payload_digest) = 32),
    reason text NOT NULL,
    legal_basis text,
    erase_event uuid NOT NULL
);
COMMENT ON TABLE tenancy.erasure IS 'The events whose payloads were erased. tenancy.verify_audit believes a row only with the event in the chain that tells of the same erasure.';
COMMENT ON COLUMN tenancy.erasure.event IS 'Row of tenancy.event that lost its payload.';
COMMENT ON COLUMN tenancy.erasure.organization IS 'Whose chain it stands in.';
COMMENT ON COLUMN tenancy.erasure.erased_at IS 'When.';
COMMENT ON COLUMN tenancy.erasure.payload_digest IS 'Digest of the payload and of the salt that went with it.';
COMMENT ON COLUMN tenancy.erasure.reason IS 'Why.';
COMMENT ON COLUMN tenancy.erasure.legal_basis IS 'What law or contract demands it.';
COMMENT ON COLUMN tenancy.erasure.erase_event IS 'Row of tenancy.event, of the operation erase, that tells of it in the chain.';

SELECT pg_extension_config_dump('tenancy.erasure', '');
SELECT tenancy.keep_append_only('tenancy.erasure');

CREATE FUNCTION tenancy.erase_payload(event uuid, reason text, legal_basis text DEFAULT NULL) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_erase_payload_wrapper';
COMMENT ON FUNCTION tenancy.erase_payload(uuid, text, text) IS
'Takes the payload of a sealed event away together with its salt, and writes an event of the operation erase into the same chain, whose id it returns,
with reason, legal basis and the digest of what went. Header and hashes stay, so the chain verifies. Nothing brings the payload back. Granted to nobody.
Raises 55000 for an event that is not sealed, has no payload any more, or tells of an erasure; 42704 for one that is not there.';

CREATE FUNCTION tenancy.erase_row_payloads(organization uuid, "table" regclass, key jsonb, reason text, legal_basis text DEFAULT NULL) RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_erase_row_payloads_wrapper';
COMMENT ON FUNCTION tenancy.erase_row_payloads(uuid, regclass, jsonb, text, text) IS
'tenancy.erase_payload for every event of a row that has a payload: of the organization, of the table or a partition of it, with that primary key
({"id": 7}). Returns how many. Raises 55000, and erases none, while one of them is not sealed. Granted to nobody.';
