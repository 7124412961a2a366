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
COMMENT ON TABLE tenancy.erasure IS
'Events whose payloads were erased. tenancy.verify_audit accepts a row only if the chain has the event of the same
erasure.';
COMMENT ON COLUMN tenancy.erasure.event IS 'The event that lost its payload, in tenancy.event.';
COMMENT ON COLUMN tenancy.erasure.organization IS 'The organization of the event.';
COMMENT ON COLUMN tenancy.erasure.erased_at IS 'When the payload was erased.';
COMMENT ON COLUMN tenancy.erasure.payload_digest IS 'Digest of the erased payload and salt.';
COMMENT ON COLUMN tenancy.erasure.reason IS 'Why the payload was erased.';
COMMENT ON COLUMN tenancy.erasure.legal_basis IS 'The law or contract that requires the erasure.';
COMMENT ON COLUMN tenancy.erasure.erase_event IS
'The event of the operation erase that records the erasure in the chain.';

SELECT pg_extension_config_dump('tenancy.erasure', '');
SELECT tenancy.keep_append_only('tenancy.erasure');

CREATE FUNCTION tenancy.erase_payload(event uuid, reason text, legal_basis text DEFAULT NULL) RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_erase_payload_wrapper';
COMMENT ON FUNCTION tenancy.erase_payload(uuid, text, text) IS
'Erases the payload and the salt of a sealed event, also within a batch of several. It writes an event of the
operation erase into the same chain,
with the reason, the legal basis and the digest of the payload, and returns its id. Header and hashes of the erased
event remain, so the chain still verifies. The payload cannot be restored. tenancy.erasure lists the erased events.

- event: Id of the event.
- reason, legal_basis: At most 1000 bytes each.

No role may call the function until EXECUTE is granted. Raises 42704 for an event that does not exist, 55000
(erasure_refused) for an event that is not sealed, has no payload any more, or records an erasure; 22004 without a
reason, 22023 for a blank or too long one, 25006 in a read-only transaction or on a standby.';

CREATE FUNCTION tenancy.erase_row_payloads(organization uuid, "table" regclass, key jsonb, reason text, legal_basis text
    DEFAULT NULL) RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_erase_row_payloads_wrapper';
COMMENT ON FUNCTION tenancy.erase_row_payloads(uuid, regclass, jsonb, text, text) IS
'Erases the payload of every event of a row in an organization''s chain, as tenancy.erase_payload does. The events are
those of the table or one of its partitions and children with this primary key, for example {"id": 7}. Returns how
many payloads it erased. Raises 55000, and erases none, if one of the events is
not sealed. No role may call the function until EXECUTE is granted.';
