"""psycopg 3 behind PgBouncer, with tokens that PyJWT makes."""

import base64
import json
import logging
import os
import re
import textwrap
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from unittest import mock
from wsgiref.util import setup_testing_defaults

import jwt
import psycopg
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from psycopg.types.json import Jsonb
from psycopg_pool import ConnectionPool

import sealed_delivery
import server
from identity import identity, status_of

ISSUER = "https://python.example/"
AUDIENCE = "invoices"
ACME = "aaaaaaaa-0000-4000-8000-000000000001"
GLOBEX = "bbbbbbbb-0000-4000-8000-000000000002"
OWN = {"alice": ["acme one", "acme two", "acme three"], "bob": ["globex one", "globex two"]}
TITLES = "SELECT title FROM invoice WHERE id < 1000 ORDER BY id"
# Since 1.21 PgBouncer keeps the prepared statements of several clients apart; before, only one can have any.
POOLER_PREPARES = os.environ["PG_TENANCY_POOLER_PREPARED"] != "0"

README = Path(__file__).parents[3] / "README.md"

logging.getLogger("psycopg").setLevel(logging.ERROR)  # it warns of the pipelines that are meant to fail


class Key:
    """A key pair of one algorithm, and its JWK as PyJWT writes it."""

    def __init__(self, algorithm, kid=None):
        self.algorithm, self.kid = algorithm, kid or algorithm
        if algorithm[1:] == "S256" and algorithm[0] in "RP":
            self.private, kind = rsa.generate_private_key(public_exponent=65537, key_size=2048), jwt.algorithms.RSAAlgorithm
        elif algorithm == "ES256":
            self.private, kind = ec.generate_private_key(ec.SECP256R1()), jwt.algorithms.ECAlgorithm
        else:
            self.private, kind = ed25519.Ed25519PrivateKey.generate(), jwt.algorithms.OKPAlgorithm
        jwk = kind.to_jwk(self.private.public_key(), as_dict=True)
        jwk.pop("key_ops", None)
        self.jwk = {**jwk, "kid": self.kid, "alg": algorithm, "use": "sig"}


KEYS = {algorithm: Key(algorithm) for algorithm in ("RS256", "PS256", "ES256", "EdDSA")}


def claims(subject, **changes):
    now = int(time.time())
    changed = {"iss": ISSUER, "aud": [AUDIENCE], "sub": subject, "iat": now, "exp": now + 300, **changes}
    return {name: value for name, value in changed.items() if value is not None}


def sign(payload, key=KEYS["ES256"], kid=None, **headers):
    return jwt.encode(payload, key.private, key.algorithm, headers={"kid": kid or key.kid, **headers})


def token_of(subject, algorithm="ES256"):
    return sign(claims(subject), KEYS[algorithm])


def address():
    return {
        "host": os.environ["PG_TENANCY_POOLER_HOST"],
        "port": os.environ["PG_TENANCY_POOLER_PORT"],
        "user": "test_tenancy_application",
    }


def titles(connection):
    return [title for (title,) in connection.execute(TITLES)]


class Listening:
    """A connection that keeps what passes it, both ways."""

    def __init__(self, connection):
        self.connection, self.heard = connection, []

    def execute(self, query, arguments):
        rows = self.connection.execute(query, arguments).fetchall()
        self.heard.append(repr((arguments, rows)))
        return mock.Mock(fetchone=lambda: rows[0])


class Clients(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.admin = psycopg.connect(autocommit=True)
        cls.addClassCleanup(cls.admin.close)
        cls.register(*KEYS.values())
        for organization, subject, role in ((ACME, "alice", "admin"), (ACME, "victor", "reader"), (GLOBEX, "bob", "admin")):
            cls.admin.execute("SELECT tenancy.set_membership(%s, %s, %s)", (organization, subject, role))
        cls.pool = ConnectionPool(kwargs={**address(), "prepare_threshold": None}, min_size=1, max_size=4, open=True)
        cls.addClassCleanup(cls.pool.close)

    @classmethod
    def register(cls, *keys):
        jwks = json.dumps({"keys": [key.jwk for key in keys]})
        cls.admin.execute("SELECT tenancy.set_issuer(%s, %s, %s)", (ISSUER, [AUDIENCE], jwks))

    def assert_refused(self, sqlstate, work):
        with self.assertRaises(psycopg.Error) as raised:
            work()
        self.assertEqual(raised.exception.sqlstate, sqlstate, raised.exception)
        return raised.exception

    def shown_to(self, token):
        with identity(self.pool, token) as connection:
            return titles(connection)

    def shown_to_nobody(self):
        with self.pool.connection() as connection:
            return titles(connection)

    def test_a_token_of_each_algorithm_shows_the_rows_of_its_member_and_no_others(self):
        for algorithm in KEYS:
            for subject, own in OWN.items():
                with self.subTest(algorithm=algorithm, subject=subject):
                    self.assertEqual(self.shown_to(token_of(subject, algorithm)), own)

    def test_the_rows_of_another_organization_are_not_found_by_their_id(self):
        with identity(self.pool, token_of("alice")) as connection:
            by_id = "SELECT title FROM invoice WHERE id = %s"
            self.assertEqual(connection.execute(by_id, (1,)).fetchall(), [("acme one",)])
            self.assertEqual(connection.execute(by_id, (101,)).fetchall(), [])
            self.assertEqual(connection.execute(by_id, (101,), binary=True).fetchall(), [])
            self.assertEqual(connection.execute("UPDATE invoice SET total = 0 WHERE id = %s", (101,)).rowcount, 0)
            self.assertEqual(connection.execute("DELETE FROM invoice WHERE id = ANY (%s)", ([101, 102],)).rowcount, 0)

    def test_a_new_row_belongs_to_the_member_and_is_audited_under_the_request(self):
        title, total = "it's; -- 世界 %s", Decimal("12345678901234567890.12")
        with identity(self.pool, token_of("bob"), "python-7") as connection:
            insert = "INSERT INTO invoice (title, total, details) VALUES (%s, %s, %s) RETURNING id, organization_id::text"
            row, organization = connection.execute(insert, (title, total, Jsonb({"lines": [1, 2]}))).fetchone()
        self.assertEqual(organization, GLOBEX)
        with identity(self.pool, token_of("alice")) as connection:
            self.assertIsNone(connection.execute("SELECT FROM invoice WHERE id = %s", (row,)).fetchone())
        event = self.admin.execute(
            """SELECT organization::text, subject, correlation_id, new_values ->> 'title', (new_values ->> 'total')::numeric
                 FROM tenancy.audit_trail WHERE table_name = 'invoice' AND new_values ->> 'id' = %s::text""",
            (row,),
        ).fetchall()
        self.assertEqual(event, [(GLOBEX, "bob", "python-7", title, total)])

    def test_many_rows_at_once_belong_to_the_member(self):
        with identity(self.pool, token_of("alice")) as connection, connection.cursor() as cursor:
            cursor.executemany("INSERT INTO invoice (title) VALUES (%s)", [(f"many {n}",) for n in range(20)])
        sql = "SELECT DISTINCT organization_id::text FROM invoice WHERE title LIKE 'many %'"
        self.assertEqual(self.admin.execute(sql).fetchall(), [(ACME,)])

    def test_a_row_for_another_organization_is_refused(self):
        def smuggle():
            with identity(self.pool, token_of("alice")) as connection:
                connection.execute("INSERT INTO invoice (title) VALUES ('before it')")
                connection.execute("INSERT INTO invoice (organization_id, title) VALUES (%s, 'smuggled')", (GLOBEX,))

        self.assertEqual(status_of(self.assert_refused("42501", smuggle)), 403)
        left = "SELECT title FROM invoice WHERE title IN ('before it', 'smuggled')"
        self.assertEqual(self.admin.execute(left).fetchall(), [])

    def test_a_viewer_reads_and_does_not_write(self):
        def write():
            with identity(self.pool, token_of("victor")) as connection:
                connection.execute("UPDATE invoice SET total = 0")

        self.assertEqual(self.shown_to(token_of("victor")), OWN["alice"])
        self.assert_refused("42501", write)

    def test_without_a_token_there_is_no_access_whoever_came_before(self):
        self.assertEqual(self.shown_to(token_of("alice")), OWN["alice"])
        self.assertEqual(status_of(self.assert_refused("28000", self.shown_to_nobody)), 401)
        with psycopg.connect(**address(), autocommit=True) as connection:
            self.assert_refused("28000", lambda: titles(connection))
            connection.execute("SELECT tenancy.authenticate(%s)", (token_of("alice"),))  # for this statement alone
            self.assert_refused("28000", lambda: titles(connection))

    def test_tokens_that_are_not_good_are_refused_and_nothing_is_told_of_them(self):
        def encode(value):
            return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

        good, now, stranger = token_of("alice"), int(time.time()), Key("ES256")
        header, payload, signature = good.split(".")
        modulus = KEYS["RS256"].jwk["n"].encode()  # PyJWT itself refuses the whole key as a secret
        tokens = {
            "expired": sign(claims("alice", exp=now - 120)),
            "not yet valid": sign(claims("alice", nbf=now + 600)),
            "without an end": sign(claims("alice", exp=None)),
            "for another audience": sign(claims("alice", aud=["another"])),
            "for no audience": sign(claims("alice", aud=None)),
            "of another issuer": sign(claims("alice", iss="https://python.example")),
            "of no member": sign(claims("mallory")),
            "of nobody": sign(claims("alice", sub=None)),
            "unsecured": jwt.encode(claims("alice"), None, "none"),
            "unsecured, with a signature": f"{encode({'alg': 'none', 'kid': 'ES256'})}.{payload}.{signature}",
            "of another subject under the signature": f"{header}.{encode(claims('bob'))}.{signature}",
            "with another signature": f"{header}.{payload}.{token_of('bob').split('.')[2]}",
            "without a signature": f"{header}.{payload}.",
            "signed by a stranger's key under a known kid": sign(claims("alice"), stranger),
            "with an unknown kid": sign(claims("alice"), kid="unknown"),
            "signed with RSA under the kid of an EC key": sign(claims("alice"), KEYS["RS256"], kid="ES256"),
            "signed by PS256 with the name of the RS256 key": sign(claims("alice"), KEYS["PS256"], kid="RS256"),
            "with the public key as HMAC secret": jwt.encode(claims("alice"), modulus, "HS256", headers={"kid": "RS256"}),
            "with its key in the header": sign(claims("alice"), stranger, jwk=stranger.jwk),
            "no token": "",
        }
        for name, token in tokens.items():
            with self.subTest(token=name):
                error = self.assert_refused("28000", lambda: self.shown_to(token))
                said = " ".join(filter(None, (str(error), error.diag.message_detail, error.diag.message_hint)))
                for part in token.split("."):
                    self.assertFalse(len(part) > 20 and part in said, said)
                self.assert_refused("28000", self.shown_to_nobody)
        self.assertEqual(self.shown_to(good), OWN["alice"], "and the good one still is good")

    def test_keys_are_rotated_with_an_overlap(self):
        following = Key("EdDSA", "next")
        old, new = token_of("alice"), sign(claims("alice"), following)
        self.assert_refused("28000", lambda: self.shown_to(new))
        try:
            self.register(*KEYS.values(), following)
            self.assertEqual([self.shown_to(token) for token in (old, new)], [OWN["alice"]] * 2)
            self.register(following)
            self.assert_refused("28000", lambda: self.shown_to(old))
            self.assertEqual(self.shown_to(new), OWN["alice"])
        finally:
            self.register(*KEYS.values())

    def test_many_requests_at_once_share_one_server_connection_and_each_sees_its_own(self):
        def request(n):
            subject = ("alice", "bob")[n % 2]
            with identity(self.pool, token_of(subject, list(KEYS)[n % 4])) as connection:
                process = connection.execute("SELECT pg_backend_pid()").fetchone()
                self.assertEqual(titles(connection), OWN[subject])
                if n % 5 == 0:
                    raise psycopg.Rollback
            self.assertEqual(connection.closed, False)
            return process

        with ThreadPoolExecutor(4) as threads:
            self.assertEqual(len(set(threads.map(request, range(60)))), 1, "they did not share a server connection")

    def test_savepoints_keep_the_identity(self):
        with identity(self.pool, token_of("alice")) as connection:
            with self.assertRaises(psycopg.errors.DivisionByZero), connection.transaction():
                connection.execute("SELECT 1 / 0")
            self.assertEqual(titles(connection), OWN["alice"])

    def test_a_server_side_statement_made_for_one_organization_never_answers_for_another(self):
        clients = 2 if POOLER_PREPARES else 1
        for mode in ("auto", "force_generic_plan"):
            with ConnectionPool(kwargs={**address(), "prepare_threshold": 0}, min_size=clients, open=True) as pool:
                for n in range(16):
                    subject = ("alice", "bob")[n // 8]
                    with self.subTest(mode=mode, subject=subject, round=n):
                        with identity(pool, token_of(subject)) as connection:
                            connection.execute(f"SET LOCAL plan_cache_mode = {mode}", prepare=False)
                            for _ in range(3):
                                self.assertEqual(titles(connection), OWN[subject])
                            prepared = "SELECT count(*) > 0 FROM pg_prepared_statements WHERE statement LIKE '%%FROM invoice%%'"
                            self.assertEqual(connection.execute(prepared, prepare=False).fetchone(), (True,))
                        with pool.connection() as connection:
                            self.assert_refused("28000", lambda: titles(connection))
                with pool.connection() as connection:
                    connection.execute("DEALLOCATE ALL", prepare=False)

    def test_a_pipeline_authenticates_and_reads_in_one_round_trip(self):
        with psycopg.connect(**address(), autocommit=True, prepare_threshold=None) as connection:
            for subject in ("alice", "bob", "alice"):
                with connection.pipeline():
                    connection.execute("BEGIN")
                    connection.execute("SELECT tenancy.authenticate(%s)", (token_of(subject),))
                    shown = connection.execute(TITLES)
                    connection.execute("COMMIT")
                self.assertEqual([title for (title,) in shown], OWN[subject])

            def without():
                with connection.pipeline():
                    connection.execute("BEGIN")
                    connection.execute(TITLES)

            self.assert_refused("28000", without)
            connection.rollback()

            # Nothing after the refused token is run.
            def refused():
                with connection.pipeline():
                    connection.execute("BEGIN")
                    connection.execute("SELECT tenancy.authenticate(%s)", ("no token",))
                    connection.execute(TITLES)

            self.assert_refused("28000", refused)
            connection.rollback()

    def test_a_named_cursor_reads_the_rows_of_its_member_in_portions(self):
        with identity(self.pool, token_of("alice")) as connection, connection.cursor(name="page") as cursor:
            cursor.itersize = 2
            cursor.execute(TITLES)
            self.assertEqual([title for (title,) in cursor], OWN["alice"])
        # It ends with its transaction; the next client of the server connection does not find it.
        with self.pool.connection() as connection:
            self.assert_refused("34000", lambda: connection.execute("FETCH 1 FROM page"))

    def test_copy_shows_the_rows_of_the_member(self):
        with identity(self.pool, token_of("bob")) as connection, connection.cursor() as cursor:
            with cursor.copy(f"COPY ({TITLES}) TO STDOUT") as copy:
                self.assertEqual([title for (title,) in copy.rows()], OWN["bob"])
        with self.pool.connection() as connection, connection.cursor() as cursor:

            def copy_for_nobody():
                with cursor.copy(f"COPY ({TITLES}) TO STDOUT") as copy:
                    list(copy.rows())

            self.assert_refused("28000", copy_for_nobody)

    def test_a_value_travels_sealed_both_ways_and_is_refused_under_another_name(self):
        name, value, following = "billing-api ä", 'MARK-1 "€"\n', "MARK-2"
        put = "SELECT tenancy.put_secret(%s, %s, sealed => true)"
        with identity(self.pool, token_of("alice")) as connection:
            wire = Listening(connection)
            wire.execute(put, (name, sealed_delivery.seal(wire, name, value)))
            self.assertEqual(sealed_delivery.reveal(wire, name, "to test; ä"), value)
            begin = "SELECT tenancy.begin_rotation(%s, %s, sealed => true)"
            wire.execute(begin, (name, sealed_delivery.seal(wire, name, following)))
            prove = "SELECT tenancy.report_health(%(name)s, 2, true), tenancy.promote(%(name)s, 2)"
            wire.execute(prove, {"name": name})
            self.assertEqual(sealed_delivery.reveal(wire, name, "to test"), following)
            self.assertEqual(len(wire.heard), 7)
            self.assertNotRegex("".join(wire.heard), "MARK|TUFSSy", "in the clear or as base64")
            stored = connection.execute("SELECT tenancy.reveal_secret(%s, 'test', 1)", (name,)).fetchone()
            self.assertEqual(stored, (value,), "the database has the value itself")

        def put_under_another_name():
            with identity(self.pool, token_of("alice")) as connection:
                connection.execute(put, ("gcp", sealed_delivery.seal(connection, "aws", "v")))

        def reveal(subject, name):
            with identity(self.pool, token_of(subject)) as connection:
                sealed_delivery.reveal(connection, name, "to test")

        self.assert_refused("22023", put_under_another_name)
        self.assert_refused("42704", lambda: reveal("alice", "unknown"))
        self.assert_refused("42704", lambda: reveal("bob", name))

    def test_the_code_of_the_first_page_shows_own_rows_and_reveals_a_secret(self):
        [code] = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
        scope = {"sealed_delivery": sealed_delivery}
        exec("def application(connection, token, request_id):\n" + textwrap.indent(code, "    "), scope)
        with identity(self.pool, token_of("alice")) as connection:
            sealed = sealed_delivery.seal(connection, "billing-api", "a value")
            connection.execute("SELECT tenancy.put_secret('billing-api', %s, sealed => true)", (sealed,))
        with self.pool.connection() as connection:
            rows, credential = scope["application"](connection, token_of("alice"), "request-1")
        self.assertEqual([id for id, _ in rows if id < 1000], [1, 2, 3])
        self.assertEqual(credential, "a value")

    def test_the_server_of_the_documentation_answers_with_own_rows_or_401(self):
        def get(token):
            environ = {"HTTP_X_REQUEST_ID": "web-1"} if token is None else {"HTTP_AUTHORIZATION": f"Bearer {token}"}
            setup_testing_defaults(environ)
            started = []
            body = b"".join(server.application(environ, lambda status, headers: started.append(status)))
            return started, json.loads(body)

        to_the_pooler = {f"PG{name.upper()}": value for name, value in address().items()}
        with mock.patch.dict(os.environ, to_the_pooler), server.pool:
            status, rows = get(token_of("victor"))
            self.assertEqual(status, ["200 OK"])
            self.assertEqual(rows[:2], [["acme two", "20"], ["acme three", "30"]])
            self.assertNotIn("globex", json.dumps(rows))
            for token in (None, "", "no token", token_of("mallory")):
                self.assertEqual(get(token), (["401 Unauthorized"], "Unauthorized"))
