#!/usr/bin/env python3
"""Recomputes vectors.json from docs/audit-format.md alone, with nothing but Python's standard library.

    check.py             compares; exit status 1 and the name of each vector that differs
    check.py --write     fills in the digests of the inputs
"""

import base64
import hashlib
import hmac
import json
import pathlib
import struct
import sys
import uuid

FILE = pathlib.Path(__file__).with_name("vectors.json")

ACTOR_TEXTS_BEFORE = ["method", "subject", "issuer", "role"]
ACTOR_TEXTS_AFTER = [
    "session_id", "correlation_id", "reason", "session_user_name", "current_user_name", "client_address",
    "application_name",
]
EVENT_TEXTS = ["operation", "domain", "table_schema", "table_name", "row_key", "result", "reason"]


def field(value):
    """A field: its length in bytes as 32 bits, big endian, then the bytes; an absent one is ffffffff."""
    if value is None:
        return b"\xff\xff\xff\xff"
    if isinstance(value, str):
        value = value.encode("utf-8")
    return struct.pack(">I", len(value)) + value


def integer(value):
    return struct.pack(">q", value)


def identifier(text):
    return uuid.UUID(text).bytes


def record(tag, *fields):
    return field(tag) + b"".join(field(value) for value in fields)


def sha256(data):
    return hashlib.sha256(data).digest()


def actor(vector):
    row = vector["actor"]
    organization = row["organization"]
    return record(
        "pg_tenancy/actor/1",
        identifier(row["id"]),
        *[row[name] for name in ACTOR_TEXTS_BEFORE],
        None if organization is None else str(uuid.UUID(organization)),
        *[row[name] for name in ACTOR_TEXTS_AFTER],
    )


def payload(vector):
    return record("pg_tenancy/payload/1", bytes.fromhex(vector["salt"]), vector["payload"])


def event(vector):
    row = vector["event"]
    transaction = row["transaction"]
    return record(
        "pg_tenancy/event/1",
        identifier(row["id"]),
        identifier(row["organization"]),
        identifier(row["actor"]),
        bytes.fromhex(row["actor_digest"]),
        struct.pack(">Q", transaction),
        integer(row["ordinal"]),
        integer(row["occurred_at"]),
        *[row[name] for name in EVENT_TEXTS],
        bytes.fromhex(row["payload_digest"]),
        bytes.fromhex(row["prev_hash"]),
    )


def genesis(vector):
    return record("pg_tenancy/genesis/1", identifier(vector["organization"]))


def chain(vector):
    head, position, event_hash = vector["head"], vector["position"], vector["event_hash"]
    return record("pg_tenancy/chain/1", bytes.fromhex(head), integer(position), bytes.fromhex(event_hash))


def origin(vector):
    return record("pg_tenancy/blocks/1")


def entries(vector):
    fields = []
    for entry in vector["entries"]:
        fields += [identifier(entry["organization"]), integer(entry["position"]), identifier(entry["event"])]
        fields += [bytes.fromhex(entry["event_hash"]), bytes.fromhex(entry["chain"])]
    return record("pg_tenancy/entries/1", *fields)


def block(vector):
    row = vector["block"]
    return record(
        "pg_tenancy/block/1",
        integer(row["number"]),
        integer(row["sealed_at"]),
        row["snapshot"],
        row["incarnation"],
        integer(row["events"]),
        bytes.fromhex(row["entries_digest"]),
        bytes.fromhex(row["prev_hash"]),
    )


def commitment(vector):
    place = vector["place"]
    return record(
        "pg_tenancy/commitment/1",
        identifier(place["organization"]),
        place["table_schema"],
        place["table_name"],
        place["column"],
        vector["value"],
    )


def commitment_key(vector):
    return record("pg_tenancy/commitment-key/1")


def evidence(vector):
    row = vector["evidence"]
    return record(
        "pg_tenancy/evidence/1",
        identifier(row["id"]),
        identifier(row["organization"]),
        bytes.fromhex(row["digest"]),
        row["media_type"],
        row["source"],
        row["collector"],
        integer(row["collected_at"]),
        integer(row["registered_at"]),
        row["registered_by"],
        row["subject"],
        row["relation"],
        b"".join(identifier(event) for event in row["events"]),
        row["description"],
    )


def head(vector):
    row = vector["head"]
    return record(
        "pg_tenancy/head/1",
        identifier(row["organization"]),
        integer(row["position"]),
        bytes.fromhex(row["chain"]),
        bytes.fromhex(row["root"]),
    )


def checkpoint(vector):
    row = vector["checkpoint"]
    return record(
        "pg_tenancy/checkpoint/1",
        row["incarnation"],
        integer(row["number"]),
        integer(row["made_at"]),
        integer(row["block"]),
        bytes.fromhex(row["block_hash"]),
        integer(row["heads"]),
        bytes.fromhex(row["heads_root"]),
        None if row["prev_digest"] is None else bytes.fromhex(row["prev_digest"]),
    )


KINDS = {
    "commitment": commitment,
    "commitment_key": commitment_key,
    "actor": actor,
    "payload": payload,
    "event": event,
    "genesis": genesis,
    "chain": chain,
    "origin": origin,
    "entries": entries,
    "block": block,
    "head": head,
    "checkpoint": checkpoint,
    "evidence": evidence,
}


def main():
    vectors = json.loads(FILE.read_text(encoding="utf-8"))
    different = []
    for vector in vectors:
        data = KINDS[vector["kind"]](vector)
        if "key" in vector:
            key = base64.b64decode(vector["key"])
            computed = {"bytes": data.hex(), "hmac_sha256": hmac.digest(key, data, "sha256").hex()}
        else:
            computed = {"bytes": data.hex(), "sha256": sha256(data).hex()}
        if {name: vector.get(name) for name in computed} != computed:
            different.append(vector["name"])
        vector.update(computed)
    if "--write" in sys.argv:
        FILE.write_text(json.dumps(vectors, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    elif different:
        sys.exit("different from vectors.json: " + ", ".join(different))
    print(f"{len(vectors)} vectors")


if __name__ == "__main__":
    main()
