"""For tests: an issuer with a key of its own, its registration, and tokens.

    issuer = Issuer.register(connection, audience="shop")
    issuer.add_member(connection, organization, "alice", "admin")
    token = issuer.token("alice")

Whoever has the issuer can act as every member of its database. Never register one where there is real data.
"""

from __future__ import annotations

import json
import secrets
import time
from typing import Any
from uuid import UUID

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

__all__ = ["Issuer"]


def _run(connection: Any, sql: str, parameters: dict[str, Any]) -> Any:
    """Runs a statement on a connection of psycopg, SQLAlchemy or Django, and returns its value."""
    if hasattr(connection, "exec_driver_sql"):
        from sqlalchemy import text

        names = {name: f":{name}" for name in parameters}
        return connection.execute(text(sql.format_map(names)), parameters).scalar()
    sql = sql.format_map({name: f"%({name})s" for name in parameters})
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchone()[0]


class Issuer:
    """An issuer of tokens with an ES256 key, made anew for each run of the tests."""

    def __init__(self, name: str = "https://tests.example/", audience: str = "tests") -> None:
        self.name, self.audience = name, audience
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._kid = secrets.token_hex(8)

    @classmethod
    def register(cls, connection: Any, name: str = "https://tests.example/", audience: str = "tests") -> Issuer:
        """Makes an issuer and registers it: as a superuser or a member of `tenancy_admin`.

        `connection` is one of psycopg, SQLAlchemy or Django; the caller commits. An issuer of this name that is
        registered already gets the new key in place of its own.
        """
        issuer = cls(name, audience)
        issuer.register_on(connection)
        return issuer

    def register_on(self, connection: Any) -> None:
        """Registers this issuer in one more database."""
        sql = "SELECT tenancy.set_issuer({name}, ARRAY[CAST({audience} AS text)], {jwks})"
        _run(connection, sql, {"name": self.name, "audience": self.audience, "jwks": json.dumps(self.jwks)})

    @property
    def jwks(self) -> dict[str, list[dict[str, Any]]]:
        """The JWK Set with the public key, to be served or registered elsewhere."""
        jwk = ECAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        jwk.pop("key_ops", None)
        return {"keys": [{**jwk, "kid": self._kid, "alg": "ES256", "use": "sig"}]}

    def add_member(self, connection: Any, organization: UUID | str, subject: str, role: str = "admin") -> None:
        """Makes a subject of this issuer a member of an organization."""
        sql = (
            "SELECT tenancy.set_membership(CAST({organization} AS uuid), {subject}, {role}, issuer => {issuer})"
        )
        arguments = {"organization": str(organization), "subject": subject, "role": role, "issuer": self.name}
        _run(connection, sql, arguments)

    def token(self, subject: str, *, expires_in: float = 300, **claims: Any) -> str:
        """A signed token of a subject. Further claims are added; one that is None is left out."""
        now = int(time.time())
        stated = {
            "iss": self.name,
            "aud": [self.audience],
            "sub": subject,
            "iat": now,
            "exp": now + int(expires_in),
            **claims,
        }
        present = {name: value for name, value in stated.items() if value is not None}
        return jwt.encode(present, self._key, "ES256", headers={"kid": self._kid})

    def headers(self, subject: str, **claims: Any) -> dict[str, str]:
        """The headers of a request with a token of a subject."""
        return {"Authorization": f"Bearer {self.token(subject, **claims)}"}
