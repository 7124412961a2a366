"""Registers an issuer and members in the database of a suite, and prints tokens as shell code: for suites in languages
that make none themselves."""

import psycopg
from pg_tenancy.testing import Issuer

ACME = "aaaaaaaa-0000-4000-8000-000000000001"
GLOBEX = "bbbbbbbb-0000-4000-8000-000000000002"

with psycopg.connect(autocommit=True) as connection:
    issuer = Issuer.register(connection)
    for organization, subject, role in ((ACME, "alice", "admin"), (ACME, "victor", "reader"), (GLOBEX, "bob", "admin")):
        issuer.add_member(connection, organization, subject, role)

for subject in ("alice", "bob", "victor"):
    print(f"export TOKEN_{subject.upper()}={issuer.token(subject)}")
print(f"export TOKEN_EXPIRED={issuer.token('alice', iat=0, expires_in=-600)}")
