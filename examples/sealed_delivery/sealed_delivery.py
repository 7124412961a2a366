"""Secrets that travel sealed: no statement, parameter, result, pooler or log has the value, and no memory of Postgres.

    with connection.transaction():
        connection.execute("SELECT tenancy.authenticate(%s)", (token,))
        value = sealed_delivery.seal(connection, "aws", value)
        connection.execute("SELECT tenancy.put_secret(%s, %s, sealed => true)", ("aws", value))
        value = sealed_delivery.reveal(connection, "aws", "nightly cost import")

Needs psycopg 3, and cryptography 47 or newer, which has HPKE (RFC 9180). Format: docs/secret-format.md.
"""

import base64
import struct
import uuid

from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

SUITE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)

RECIPIENT = "SELECT tenancy.org_id(), key_id, public_key FROM tenancy.secret_recipient(%s)"

# The number of the version is part of what the message is sealed for, so it is asked for first. Without a number the
# function tells what is wrong.
REVEAL = """
SELECT tenancy.org_id(), number,
       tenancy.reveal_secret(%(name)s, %(purpose)s, number, %(action_type)s, %(recipient)s)
  FROM (SELECT (SELECT v.number FROM tenancy.secret_version v JOIN tenancy.secret s ON s.id = v.secret
                 WHERE s.name = %(name)s AND v.state = 'current')) AS current_version (number)"""


def seal(connection, name, value, domain="secret"):
    """Seals a value for put_secret, begin_rotation or supply_value of the secret with this name."""
    organization, key_id, public_key = connection.execute(RECIPIENT, (domain,)).fetchone()
    info = _record("pg_tenancy/submission/1", organization.bytes, name.encode())
    message = SUITE.encrypt(value.encode(), X25519PublicKey.from_public_bytes(public_key), info)
    return base64.b64encode(uuid.UUID(key_id).bytes + message).decode()


def reveal(connection, name, purpose, action_type=None):
    """Returns the current value. The role needs the permissions read and reveal in the secret's domain."""
    private_key = X25519PrivateKey.generate()  # for this one message
    arguments = {"name": name, "purpose": purpose, "action_type": action_type,
                 "recipient": private_key.public_key().public_bytes_raw()}
    organization, version, message = connection.execute(REVEAL, arguments).fetchone()
    info = _record(
        "pg_tenancy/delivery/1", organization.bytes, name.encode(), struct.pack(">q", version), purpose.encode())
    return SUITE.decrypt(base64.b64decode(message), private_key, info).decode()


def _record(tag, *fields):
    return b"".join(struct.pack(">I", len(part)) + part for part in (tag.encode(), *fields))
