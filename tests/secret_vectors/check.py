#!/usr/bin/env python3
"""Seals and opens by docs/secret-format.md alone, with the package cryptography, and compares with vectors.json.

    check.py             compares; exit status 1 and the name of each vector that differs
    check.py --write     makes the file anew, out of the inputs below
    check.py --exchange  opens the message of each line of standard input, and seals the value to the same key again
"""

import hashlib
import hmac
import json
import pathlib
import struct
import sys
import uuid

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

FILE = pathlib.Path(__file__).with_name("vectors.json")
NONCE = bytes(12)
MAX_VALUE = 65536


class Refused(Exception):
    """What does not open; the reason is the only argument."""


def record(tag, *fields):
    return b"".join(struct.pack(">I", len(part)) + part for part in (tag.encode(), *fields))


def identifier(text):
    return uuid.UUID(text).bytes


def value_context(place):
    return record(
        "pg_tenancy/secret/1", b"\x01", identifier(place["data_key"]), identifier(place["organization"]),
        identifier(place["secret"]), place["name"].encode(), struct.pack(">q", place["version"]),
        place["kind"].encode(), place["scope"].encode())


def wrap_context(place):
    return record(
        "pg_tenancy/data-key/1", b"\x01", identifier(place["data_key"]), identifier(place["organization"]),
        place["key_encryption_key"].encode())


def derive(key, salt, context):
    derived = HKDF(hashes.SHA512(), 64, salt, context).derive(key)
    return derived[:32], derived[32:]


def enclose(key, data_key, context, plaintext, salt):
    value_key, commitment = derive(key, salt, context)
    sealed = AESGCMSIV(value_key).encrypt(NONCE, plaintext, context)
    return b"\x01\x01" + identifier(data_key) + salt + commitment + sealed


def disclose(key, data_key, context, envelope):
    if len(envelope) <= 98 or envelope[:2] != b"\x01\x01":
        raise Refused("malformed")
    if envelope[2:18] != identifier(data_key):
        raise Refused("other key")
    value_key, commitment = derive(key, envelope[18:50], context)
    if not hmac.compare_digest(commitment, envelope[50:82]):
        raise Refused("not committed")
    try:
        return AESGCMSIV(value_key).decrypt(NONCE, envelope[82:], context)
    except InvalidTag as altered:
        raise Refused("altered") from altered


def pad(value):
    padded = struct.pack(">I", len(value)) + value
    return padded + bytes(-len(padded) % 64)


def unpad(padded):
    length = struct.unpack(">I", padded[:4])[0] if len(padded) >= 4 else 0
    value = padded[4:4 + length]
    if not 1 <= length <= MAX_VALUE or pad(value) != padded:
        raise Refused("malformed")
    return value


def open_vector(vector):
    key, envelope = bytes.fromhex(vector["key"]), bytes.fromhex(vector["envelope"])
    if vector["what"] == "value":
        return unpad(disclose(key, vector["data_key"], value_context(vector), envelope))
    opened = disclose(key, vector["data_key"], wrap_context(vector), envelope)
    if len(opened) != 32:
        raise Refused("malformed")
    return opened


def outcome(vector):
    """The hexadecimal digits of what opens, or why it does not."""
    try:
        return open_vector(vector).hex()
    except Refused as refused:
        return str(refused)


def fingerprint(key, organization, value):
    message = record("pg_tenancy/fingerprint/1", identifier(organization)) + value
    return hmac.new(key, message, hashlib.sha512).digest()[:32]


# Messages

SUITE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


def message_info(message):
    organization, name = identifier(message["organization"]), message["name"].encode()
    if message["what"] == "submission":
        return record("pg_tenancy/submission/1", organization, name)
    version, purpose = struct.pack(">q", message["version"]), message["purpose"].encode()
    return record("pg_tenancy/delivery/1", organization, name, version, purpose)


def exchange(message):
    """The value of a message, and a message of our own with the same value."""
    private_key, info = X25519PrivateKey.from_private_bytes(bytes.fromhex(message["key"])), message_info(message)
    value = SUITE.decrypt(bytes.fromhex(message["message"]), private_key, info)
    sealed = SUITE.encrypt(value, private_key.public_key(), info)
    return {"value": value.hex(), "message": sealed.hex(),
            "public_key": private_key.public_key().public_bytes_raw().hex()}


# Inputs


def salt_of(name):
    return hashlib.sha256(b"salt of " + name.encode()).digest()


KEY = hashlib.sha256(b"a data key").hexdigest()
RING_KEY = hashlib.sha256(b"a key-encryption key").hexdigest()
PLACE = {
    "data_key": "0199a000-0000-7000-8000-000000000001",
    "organization": "aaaaaaaa-0000-4000-8000-000000000001",
    "secret": "0199a000-0000-7000-8000-000000000002",
    "name": "aws production",
    "version": 1,
    "kind": "opaque",
    "scope": "read_only",
}
WRAPPED = {
    "data_key": PLACE["data_key"], "organization": PLACE["organization"], "key_encryption_key": "2026-11.a",
}
VALUES = [
    b"x", bytes(1), b"a" * 59, b"a" * 60, b"a" * 61, b"a" * 123, b"a" * 124, b"a" * 125, bytes(range(256)),
    '{"user":"prüfung","password":"p\u0000"}'.encode(), b"b" * 4096,
]
PLACES = [
    {"name": ""}, {"name": "n" * 1000}, {"name": "Schlüssel für \"alles\""}, {"version": 2}, {"version": 2**31 - 1},
    {"kind": "aws_access_key"}, {"scope": "write"}, {"organization": str(uuid.UUID(int=0))},
    {"secret": str(uuid.UUID(int=2**128 - 1))}, {"data_key": "0199a000-0000-7000-8000-000000000009"},
]
KEYS_WRAPPED = [
    {}, {"key_encryption_key": "k"}, {"key_encryption_key": "0" * 64}, {"organization": str(uuid.UUID(int=0))},
    {"data_key": "0199a000-0000-7000-8000-000000000009"},
]


def value_vector(name, value, change):
    place = PLACE | change
    envelope = enclose(bytes.fromhex(KEY), place["data_key"], value_context(place), pad(value), salt_of(name))
    return {"comment": name, "what": "value", "key": KEY, **place, "envelope": envelope.hex()}


def wrap_vector(name, change):
    place = WRAPPED | change
    envelope = enclose(
        bytes.fromhex(RING_KEY), place["data_key"], wrap_context(place), bytes.fromhex(KEY), salt_of(name))
    return {"comment": name, "what": "key", "key": RING_KEY, **place, "envelope": envelope.hex()}


def good():
    for number, value in enumerate(VALUES):
        yield value_vector(f"value {number} of {len(value)} bytes", value, {})
    for number, change in enumerate(PLACES):
        yield value_vector(f"place {number}", b"value", change)
    for number, change in enumerate(KEYS_WRAPPED):
        yield wrap_vector(f"wrapped {number}", change)
    for number in range(5):
        yield value_vector(f"version {number} of one secret", b"the same value", {"version": number + 1})


def bad():
    """What must not open: each field flipped, cut, lengthened, moved, and what others could have made."""
    value, wrapped = value_vector("a value", b"value", {}), wrap_vector("a wrapped key", {})

    def but(vector, comment, **change):
        return vector | change | {"comment": comment}

    for vector in (value, wrapped):
        envelope, of = bytearray.fromhex(vector["envelope"]), vector["what"]
        for place in (0, 1, 2, 17, 18, 49, 50, 81, 82, 100, len(envelope) - 17, len(envelope) - 16, len(envelope) - 1):
            altered = bytearray(envelope)
            altered[place] ^= 0x80
            yield but(vector, f"{of}: byte {place} altered", envelope=altered.hex())
        for length in (0, 1, 2, 18, 50, 82, 97, 98, 99, len(envelope) - 16, len(envelope) - 1):
            yield but(vector, f"{of}: cut to {length} bytes", envelope=envelope[:length].hex())
        yield but(vector, f"{of}: a byte more", envelope=(envelope + b"\0").hex())
        yield but(vector, f"{of}: twice", envelope=(envelope + envelope).hex())
        yield but(vector, f"{of}: another suite", envelope=(b"\x01\x02" + envelope[2:]).hex())
        yield but(vector, f"{of}: another version", envelope=(b"\x02\x01" + envelope[2:]).hex())
        yield but(vector, f"{of}: another organization", organization="bbbbbbbb-0000-4000-8000-000000000002")
        yield but(vector, f"{of}: another data key", data_key="0199a000-0000-7000-8000-000000000009")
        yield but(vector, f"{of}: another key", key=hashlib.sha256(b"another").hexdigest())
        # The commitment of another key, so that it alone does not refuse.
        other = hashlib.sha256(b"another").digest()
        context = value_context(vector) if of == "value" else wrap_context(vector)
        commitment = derive(other, bytes(envelope[18:50]), context)[1]
        forged = envelope[:50] + commitment + envelope[82:]
        yield but(vector, f"{of}: another key, commitment forged", key=other.hex(), envelope=forged.hex())
    for name, change in {
        "secret": "0199a000-0000-7000-8000-000000000003", "name": "aws productioN", "version": 2, "kind": "api_token",
        "scope": "write",
    }.items():
        yield but(value, f"value: another {name}", **{name: change})
    yield but(value, "value: kind and scope divided otherwise", kind="opaqueread_", scope="only")
    yield but(wrapped, "key: another key-encryption key", key_encryption_key="2026-11.b")
    yield but(wrapped, "key: under the organization's id as its name", key_encryption_key="aws production")
    # Right in all but the plaintext.
    padded = {
        "length 0": bytes(64), "a length beyond": struct.pack(">I", 61) + bytes(60),
        "a length of 4 GiB": b"\xff" * 4 + bytes(60), "padding that is not zero": pad(b"v")[:-1] + b"\x01",
        "a block of padding more": pad(b"v") + bytes(64), "no block": struct.pack(">I", 1) + b"v",
        "three bytes": b"\0\0\1",
    }
    for name, plaintext in padded.items():
        envelope = enclose(bytes.fromhex(KEY), PLACE["data_key"], value_context(PLACE), plaintext, salt_of(name))
        yield but(value, f"value: {name}", envelope=envelope.hex())
    short = enclose(bytes.fromhex(RING_KEY), WRAPPED["data_key"], wrap_context(WRAPPED), bytes(31), salt_of("short"))
    yield but(wrapped, "key: 31 bytes", envelope=short.hex())
    long = enclose(bytes.fromhex(RING_KEY), WRAPPED["data_key"], wrap_context(WRAPPED), bytes(33), salt_of("long"))
    yield but(wrapped, "key: 33 bytes", envelope=long.hex())
    moved = but(wrapped, "value: a wrapped key", what="value", key=RING_KEY)
    yield {name: moved.get(name, PLACE.get(name)) for name in value}


def prints():
    for value in VALUES[:4]:
        for organization in (PLACE["organization"], "bbbbbbbb-0000-4000-8000-000000000002"):
            yield {"key": KEY, "organization": organization, "value": value.hex()}


def document():
    vectors = [vector | {"outcome": outcome(vector)} for vector in (*good(), *bad())]
    fingerprints = [
        row | {"fingerprint": fingerprint(bytes.fromhex(row["key"]), row["organization"],
                                          bytes.fromhex(row["value"])).hex()} for row in prints()]
    return {"sealed": vectors, "fingerprints": fingerprints}


def main():
    if sys.argv[1:] == ["--exchange"]:
        for line in sys.stdin:
            print(json.dumps(exchange(json.loads(line))))
        return
    made = document()
    opened = [vector for vector in made["sealed"] if set(vector["outcome"]) <= set("0123456789abcdef")]
    assert len(opened) == len(list(good())) >= 30 and len(made["sealed"]) - len(opened) >= 60
    if sys.argv[1:] == ["--write"]:
        FILE.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n")
        return
    stored = json.loads(FILE.read_text())
    wrong = [vector["comment"] for vector in stored["sealed"] if outcome(vector) != vector["outcome"]]
    wrong += [vector["comment"] for vector, ours in zip(stored["sealed"], made["sealed"]) if vector != ours]
    if stored != made:
        wrong.append("the file is not the one that --write makes")
    for comment in wrong:
        print(comment)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
