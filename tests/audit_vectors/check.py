#!/usr/bin/env python3
"""Recomputes vectors.json from docs/audit-format.md alone, with nothing but Python's standard library.

    check.py             compares; exit status 1 and the name of each vector that differs
    check.py --write     fills in what follows from the inputs

tests/audit_vectors.rs prints packed events for new inputs (the ignored test there).
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
BATCH_TEXTS = ["operation", "domain", "table_schema", "table_name", "result", "reason"]

MAX_EVENTS = 128
MAX_TEXT_PART = 256 * 1024


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
    grant = row.get("grant_id")
    return record(
        "pg_tenancy/actor/1" if grant is None else "pg_tenancy/actor/2",
        identifier(row["id"]),
        *[row[name] for name in ACTOR_TEXTS_BEFORE],
        None if organization is None else str(uuid.UUID(organization)),
        *[row[name] for name in ACTOR_TEXTS_AFTER],
        *([] if grant is None else [identifier(grant)]),
    )


def payload(vector):
    salt = bytes.fromhex(vector["salt"])
    if len(salt) != 16:
        raise Malformed("invalid")
    return b"\2" + salt + vector["payload"].encode()


def event_bytes(occurred_at, row_key, payload_digest):
    """A leaf of the tree over a batch, with the byte 00 before its data."""
    with_key = row_key is not None
    return bytes([0, 2 if with_key else 1]) + payload_digest + integer(occurred_at) + (row_key or "").encode()


def event(vector):
    row = vector["event"]
    return event_bytes(row["occurred_at"], row["row_key"], bytes.fromhex(row["payload_digest"]))


def batch(vector):
    row = vector["batch"]
    return record(
        "pg_tenancy/batch/2",
        identifier(row["id"]),
        identifier(row["organization"]),
        identifier(row["actor"]),
        bytes.fromhex(row["actor_digest"]),
        struct.pack(">Q", row["transaction"]),
        integer(row["ordinal"]),
        integer(row["events"]),
        *[row[name] for name in BATCH_TEXTS],
        bytes.fromhex(row["root"]),
        bytes.fromhex(row["prev_hash"]),
    )


def batch_leaf(position, batch_hash):
    """The hash of the leaf of a batch, whose last event has the position."""
    return leaf_hash(integer(position) + batch_hash)


def event_id(batch_id, place):
    return str(uuid.UUID(int=uuid.UUID(batch_id).int | place))


# Trees, RFC 6962 section 2.1 -------------------------------------------------------------------------------------------


def leaf_hash(data):
    return sha256(b"\0" + data)


def node_hash(left, right):
    return sha256(b"\1" + left + right)


def merkle_root(leaves):
    """MTH, by its definition, over hashes of leaves."""
    if len(leaves) <= 1:
        return leaves[0] if leaves else sha256(b"")
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return node_hash(merkle_root(leaves[:split]), merkle_root(leaves[split:]))


def merkle_path(leaves, index):
    """PATH of section 2.1.1."""
    if len(leaves) == 1:
        return []
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    if index < split:
        return merkle_path(leaves[:split], index) + [merkle_root(leaves[split:])]
    return merkle_path(leaves[split:], index - split) + [merkle_root(leaves[:split])]


def root_of_path(leaf, index, size, path):
    """The root that the path leads to; None if it has another length."""
    if size == 1:
        return None if path else leaf
    if not path:
        return None
    split = 1 << ((size - 1).bit_length() - 1)
    if index < split:
        below = root_of_path(leaf, index, split, path[:-1])
        return below and node_hash(below, path[-1])
    below = root_of_path(leaf, index - split, size - split, path[:-1])
    return below and node_hash(path[-1], below)


# Packed events ---------------------------------------------------------------------------------------------------------


class Malformed(Exception):
    """Packed events that are never written; the argument says in which way."""


def lz4_block(data, length):
    """The bytes of an LZ4 block, of which there are `length`."""

    def more(at, number):
        while True:
            if at >= len(data):
                raise Malformed("compressed")
            number, at = number + data[at], at + 1
            if data[at - 1] != 255:
                return at, number

    out, at = bytearray(), 0
    while at < len(data):
        literals, match, at = data[at] >> 4, data[at] & 15, at + 1
        if literals == 15:
            at, literals = more(at, literals)
        if at + literals > len(data) or len(out) + literals > length:
            raise Malformed("compressed")
        out, at = out + data[at : at + literals], at + literals
        if at == len(data):
            # The last sequence has no match.
            if len(out) == length:
                return bytes(out)
            break
        offset, at = int.from_bytes(data[at : at + 2], "little"), at + 2
        if match == 15:
            at, match = more(at, match)
        match += 4
        if at > len(data) or not 1 <= offset <= len(out) or len(out) + match > length:
            raise Malformed("compressed")
        for _ in range(match):
            out.append(out[-offset])
    raise Malformed("compressed")


class Reader:
    """Numbers and texts of a text part."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        if len(self.data) - self.at < count:
            raise Malformed("cut off")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self):
        number, shift = 0, 0
        while True:
            (byte,) = self.take(1)
            number |= (byte & 0x7F) << shift
            # 64 bits, in the shortest form.
            if number >= 1 << 64 or (byte == 0 and shift > 0):
                raise Malformed("invalid")
            if byte < 0x80:
                return number
            shift += 7
            if shift >= 70:
                raise Malformed("invalid")

    def text(self):
        length = self.number()
        if length == 0:
            return None
        try:
            return self.take(length - 1).decode("utf-8")
        except UnicodeDecodeError:
            raise Malformed("invalid") from None


def put_number(number):
    out = b""
    while number >= 0x80:
        out, number = out + bytes([number & 0x7F | 0x80]), number >> 7
    return out + bytes([number])


def put_text(text):
    return b"\0" if text is None else put_number(len(text.encode()) + 1) + text.encode()


def text_part(occurred_at, events):
    """The text part of these events, as the documentation has it."""
    out = b""
    for event in events:
        distance = event["occurred_at"] - occurred_at
        out += put_number(distance * 2 if distance >= 0 else -distance * 2 - 1)
        out += put_text(event["row_key"]) + put_text(event.get("payload"))
    return out


def unpack(packed, count, occurred_at):
    """The events of a batch of so many, each with payload and salt, or with the digest of an erased payload."""
    if not 1 <= count <= MAX_EVENTS:
        raise Malformed("beyond")
    if len(packed) < 5:
        raise Malformed("cut off")
    form, length, at = packed[0], int.from_bytes(packed[1:5], "big"), 5
    if length > MAX_TEXT_PART:
        raise Malformed("beyond")
    marks = []
    for _ in range(count):
        if at >= len(packed):
            raise Malformed("cut off")
        if packed[at] > 1:
            raise Malformed("invalid")
        size = 32 if packed[at] else 16
        marks.append((packed[at], packed[at + 1 : at + 1 + size]))
        at += 1 + size
    if at > len(packed):
        raise Malformed("cut off")
    text = packed[at:]
    if form == 0 and len(text) != length:
        raise Malformed("cut off" if len(text) < length else "too long")
    if form > 1:
        raise Malformed("invalid")
    reader, events = Reader(lz4_block(text, length) if form else text), []
    for erased, kept in marks:
        distance = reader.number()
        distance = -(distance + 1) // 2 if distance & 1 else distance // 2
        # Times have 64 bits, in two's complement.
        time = (occurred_at + distance + 2**63) % 2**64 - 2**63
        row_key, payload = reader.text(), reader.text()
        if (payload is None) != bool(erased):
            raise Malformed("invalid")
        content = {"payload_digest": kept.hex()} if erased else {"payload": payload, "salt": kept.hex()}
        events.append({"occurred_at": time, "row_key": row_key, **content})
    if reader.at != len(reader.data):
        raise Malformed("too long")
    return events


def payload_digest(event):
    if "payload_digest" in event:
        return bytes.fromhex(event["payload_digest"])
    return sha256(payload(event))


def event_digests(events):
    return [sha256(event_bytes(event["occurred_at"], event["row_key"], payload_digest(event))) for event in events]


def packed(vector):
    """What is in packed events, and what is hashed of it."""
    body = bytes.fromhex(vector["packed"])
    events = unpack(body, len(vector["events"]), vector["occurred_at"])
    if body[0] == 0:
        assert body.endswith(text_part(vector["occurred_at"], events)), vector["name"]
    digests = event_digests(events)
    return {
        "events": events,
        "digests": [digest.hex() for digest in digests],
        "root": merkle_root(digests).hex(),
    }


def malformed(vector):
    try:
        unpack(bytes.fromhex(vector["packed"]), vector["count"], 0)
    except Malformed as error:
        return {"refused": str(error)}
    return {"refused": None}


def tree(vector):
    leaves = [batch_leaf(row["position"], bytes.fromhex(row["batch_hash"])) for row in vector["batches"]]
    return {"root": merkle_root(leaves).hex()}


def place(vector):
    return {"event": event_id(vector["batch"], vector["place"])}


def event_proof(vector):
    """From an event to the head of its organization, step by step."""
    row, number = vector["batch"], vector["place"]
    (digest,) = event_digests([vector["event"]])
    root = root_of_path(digest, number, row["events"], [bytes.fromhex(text) for text in vector["batch_path"]])
    batch_hash = sha256(batch({"batch": row | {"root": root.hex()}}))
    path = [bytes.fromhex(text) for text in vector["tree_path"]]
    leaf = batch_leaf(vector["position"], batch_hash)
    tree_root = root_of_path(leaf, vector["leaf"] - 1, vector["head"]["leaves"], path)
    return {
        "event_position": vector["position"] - row["events"] + number + 1,
        "event_digest": digest.hex(),
        "batch_root": root.hex(),
        "batch_hash": batch_hash.hex(),
        "tree_root": tree_root.hex(),
        "head_digest": sha256(head({"head": vector["head"] | {"root": tree_root.hex()}})).hex(),
    }


# Chains, blocks, heads and checkpoints -----------------------------------------------------------------------------------


def genesis(vector):
    return record("pg_tenancy/genesis/1", identifier(vector["organization"]))


def chain(vector):
    before, position, batch_hash = vector["head"], vector["position"], vector["batch_hash"]
    return record("pg_tenancy/chain/2", bytes.fromhex(before), integer(position), bytes.fromhex(batch_hash))


def origin(vector):
    return record("pg_tenancy/blocks/1")


def entries(vector):
    fields = []
    for entry in vector["entries"]:
        fields += [identifier(entry["organization"]), integer(entry["leaf"]), integer(entry["position"])]
        fields += [identifier(entry["batch"]), bytes.fromhex(entry["batch_hash"])]
    return record("pg_tenancy/entries/3", *fields)


def heads(vector):
    fields = []
    for row in vector["heads"]:
        fields += [identifier(row["organization"]), integer(row["position"]), integer(row["leaves"])]
        fields += [bytes.fromhex(row["chain"])]
    return record("pg_tenancy/heads/1", *fields)


def seal_entries(row):
    """The entries of a row of tenancy.seal: leaf, position, events, batch and its hash."""
    data = bytes.fromhex(row["entries"])
    if not data or len(data) % 49 or len(data) > 4096 * 49:
        raise Malformed("length")
    parts = [data[at : at + 49] for at in range(0, len(data), 49)]
    position = row["position"] - sum(part[16] + 1 for part in parts)
    entries = []
    for leaf, part in enumerate(parts, row["leaves"] - len(parts) + 1):
        position += part[16] + 1
        entry = {"leaf": leaf, "position": position, "events": part[16] + 1}
        entries.append(entry | {"batch": str(uuid.UUID(bytes=part[:16])), "batch_hash": part[17:].hex()})
    return entries


def seal(vector):
    """The entries of a row and the chain value that they lead to."""
    entries, value = seal_entries(vector["seal"]), vector["chain_before"]
    for entry in entries:
        value = sha256(chain(entry | {"head": value})).hex()
    return {"entries": entries, "seal": vector["seal"] | {"chain": value}}


def block(vector):
    row = vector["block"]
    return record(
        "pg_tenancy/block/3",
        integer(row["number"]),
        integer(row["sealed_at"]),
        row["snapshot"],
        row["incarnation"],
        integer(row["events"]),
        bytes.fromhex(row["heads_digest"]),
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
        "pg_tenancy/head/2",
        identifier(row["organization"]),
        integer(row["position"]),
        integer(row["leaves"]),
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


# Each gives the bytes of a record.
RECORDS = {
    "commitment": commitment,
    "commitment_key": commitment_key,
    "actor": actor,
    "payload": payload,
    "event": event,
    "batch": batch,
    "genesis": genesis,
    "chain": chain,
    "origin": origin,
    "entries": entries,
    "heads": heads,
    "block": block,
    "head": head,
    "checkpoint": checkpoint,
    "evidence": evidence,
}

# Each gives fields of the vector.
OTHERS = {"packed": packed, "malformed": malformed, "tree": tree, "place": place, "event_proof": event_proof, "seal": seal}


def compute(vector):
    kind = vector["kind"]
    if kind in OTHERS:
        return OTHERS[kind](vector)
    data = RECORDS[kind](vector)
    if "key" in vector:
        key = base64.b64decode(vector["key"])
        return {"bytes": data.hex(), "hmac_sha256": hmac.digest(key, data, "sha256").hex()}
    return {"bytes": data.hex(), "sha256": sha256(data).hex()}


def main():
    vectors = json.loads(FILE.read_text(encoding="utf-8"))
    different = []
    for vector in vectors:
        computed = compute(vector)
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
