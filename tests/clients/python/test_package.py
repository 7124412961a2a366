"""The package as it is built and installed, and what is in it for psycopg and SQLAlchemy."""

import asyncio
import importlib.metadata
import io
import json
import logging
import subprocess
import sys
import tomllib
import unittest
from pathlib import Path
from unittest import mock
from uuid import UUID

import pg_tenancy
import psycopg
from pg_tenancy import psycopg as tenancy
from pg_tenancy import sqlalchemy as tenancy_sqlalchemy
from pg_tenancy.sqlalchemy import with_assumed_organization, with_identity, without_identity
from pg_tenancy.testing import Issuer
from psycopg import sql
from psycopg_pool import AsyncConnectionPool, ConnectionPool
from sqlalchemy import create_engine, insert, pool, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from shop_database import ACME, GLOBEX, OWNER, WORKER, Shop, address, url

ROOT = Path(__file__).parents[3]
NAMES = "SELECT name FROM customer ORDER BY name"


class Package(unittest.TestCase):
    def test_what_is_imported_is_the_built_file_and_not_the_sources(self):
        installed = Path(pg_tenancy.__file__).parent
        self.assertIn("site-packages", installed.parts)
        sources = ROOT / "clients" / "python" / "src" / "pg_tenancy"
        for source in sources.rglob("*.py"):
            self.assertEqual((installed / source.relative_to(sources)).read_text(), source.read_text(), source)
        self.assertTrue((installed / "py.typed").exists())

    def test_its_metadata_are_those_of_a_package_for_pypi(self):
        about = importlib.metadata.metadata("pg-tenancy")
        with open(ROOT / "clients" / "python" / "pyproject.toml", "rb") as file:
            self.assertEqual(about["Version"], tomllib.load(file)["project"]["version"])
        self.assertEqual(about["License-Expression"], "PostgreSQL")
        self.assertEqual(about["Description-Content-Type"], "text/markdown")
        required = importlib.metadata.requires("pg-tenancy")
        self.assertEqual([one for one in required if "extra ==" not in one], [], "it needs no package by itself")
        self.assertIn("LICENSE", " ".join(str(file) for file in importlib.metadata.files("pg-tenancy")))

    def test_its_modules_need_the_tool_of_their_name_alone(self):
        without = "sys.modules.update(dict.fromkeys(%r)); import pg_tenancy, pg_tenancy.%s"
        tools = {"psycopg", "psycopg_pool", "sqlalchemy", "alembic", "django", "fastapi", "jwt", "cryptography"}
        needs = {
            "psycopg": {"psycopg"},
            "sqlalchemy": {"sqlalchemy"},
            "alembic": {"alembic", "sqlalchemy"},
            "django": {"django"},
            "fastapi": {"fastapi"},
            "testing": {"jwt", "cryptography"},
        }
        for module, needed in needs.items():
            with self.subTest(module):
                code = "import sys; " + without % (sorted(tools - needed), module)
                subprocess.run([sys.executable, "-c", code], check=True)

    def test_its_types_are_checked_strictly(self):
        cache = ROOT / "target" / "clients" / "mypy"
        command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "clients/python/pyproject.toml")]
        command += ["--cache-dir", str(cache), "-p", "pg_tenancy"]
        checked = subprocess.run(command, capture_output=True, text=True)
        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)

    def test_the_status_of_an_error_is_found_in_what_wraps_it(self):
        class Refused(Exception):
            sqlstate = "28000"

        class Forbidden(Exception):
            pgcode = "42501"

        class Wrapped(Exception):
            orig = Refused()

        def caused(cause):
            error = RuntimeError("a view failed")
            error.__cause__ = cause
            return error

        loop = caused(None)
        loop.__cause__ = caused(loop)
        for error, status in (
            (Refused(), 401),
            (Forbidden(), 403),
            (Wrapped(), 401),
            (caused(caused(Wrapped())), 401),
            (ExceptionGroup("tasks", [ValueError(), caused(Forbidden())]), 403),
            (psycopg.errors.UniqueViolation(), 500),
            (ValueError(), 500),
            (loop, 500),
        ):
            with self.subTest(error=error):
                self.assertEqual(pg_tenancy.status_of(error), status)
        self.assertIsNone(pg_tenancy.status_of(ValueError(), None))


class Drivers(Shop):
    example = "sqlalchemy"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        sys.modules.pop("models", None)
        import models

        cls.models = models
        owner = create_engine(url("psycopg", cls.database, OWNER))
        models.Base.metadata.create_all(owner)
        owner.dispose()
        cls.protect()
        cls.connect_args = {**address(cls.database), "prepare_threshold": None}
        cls.pool = ConnectionPool(kwargs=cls.connect_args, min_size=1, max_size=2, open=True)
        cls.addClassCleanup(cls.pool.close)
        cls.engine = create_engine(
            url("psycopg", cls.database), pool_size=2, connect_args={"prepare_threshold": None}
        )
        cls.addClassCleanup(cls.engine.dispose)

    def setUp(self):
        self.admin.execute("TRUNCATE customer CASCADE")
        self.admin.execute(
            "INSERT INTO customer (organization_id, name, email) VALUES (%s, 'acme', ''), (%s, 'globex', '')",
            (ACME, GLOBEX),
        )

    def token(self, subject):
        return self.issuer.token(subject)

    def rows(self):
        query = "SELECT organization_id::text, name FROM customer ORDER BY name"
        return self.admin.execute(query).fetchall()

    def assert_refused(self, sqlstate, work):
        with self.assertRaises(Exception) as raised:
            work()
        self.assertEqual(pg_tenancy.sqlstate_of(raised.exception), sqlstate, raised.exception)
        return raised.exception

    # psycopg

    def test_psycopg_acts_as_the_member_from_a_pool_and_on_a_connection(self):
        with tenancy.identity(self.pool, self.token("alice"), "package-1") as connection:
            self.assertEqual(connection.execute(NAMES).fetchall(), [("acme",)])
            connection.execute("INSERT INTO customer (name, email) VALUES ('new', '')")
        with psycopg.connect(**self.connect_args, autocommit=True) as connection:
            with tenancy.identity(connection, self.token("bob")) as same:
                self.assertIs(same, connection)
                self.assertEqual(connection.execute(NAMES).fetchall(), [("globex",)])
            self.assert_refused("28000", lambda: connection.execute(NAMES))
        event = "SELECT subject FROM tenancy.audit_trail WHERE correlation_id = 'package-1' AND table_name = 'customer'"
        self.assertEqual(self.admin.execute(event).fetchall(), [("alice",)])

        def rolled_back():
            with tenancy.identity(self.pool, self.token("alice")) as connection:
                connection.execute("INSERT INTO customer (name, email) VALUES ('never', '')")
                raise ValueError("after the insert")

        with self.assertRaises(ValueError):
            rolled_back()
        self.assertEqual(self.rows(), [(ACME, "acme"), (GLOBEX, "globex"), (ACME, "new")])

    def test_psycopg_acts_as_the_member_asynchronously(self):
        async def names():
            async with AsyncConnectionPool(kwargs=self.connect_args, min_size=1, open=False) as async_pool:
                async with tenancy.identity(async_pool, self.token("bob")) as connection:
                    first = await (await connection.execute(NAMES)).fetchall()
                    rows = [("copied one", ""), ("copied two", "")]
                    copied = await tenancy.copy_rows(connection, "customer", ("name", "email"), rows)
                async with async_pool.connection() as connection:
                    async with tenancy.identity(connection, self.token("alice")):
                        return first, copied, await (await connection.execute(NAMES)).fetchall()

        self.assertEqual(asyncio.run(names()), ([("globex",)], 2, [("acme",)]))

    def test_a_member_of_several_organizations_chooses_one(self):
        for organization in (ACME, GLOBEX):
            self.issuer.add_member(self.admin, organization, "erin", "admin")
        token = self.token("erin")
        self.assert_refused("28000", lambda: tenancy.identity(self.pool, token).__enter__())
        for organization, own in ((ACME, "acme"), (UUID(GLOBEX), "globex")):
            with tenancy.identity(self.pool, token, organization=organization) as connection:
                self.assertEqual(connection.execute(NAMES).fetchall(), [(own,)])
            with with_identity(Session(self.engine), token, organization=organization) as session:
                self.assertEqual(self.names(session), [own])
            with tenancy_sqlalchemy.identity(self.engine, token, organization=organization) as connection:
                self.assertEqual(connection.scalars(text(NAMES)).all(), [own])
        self.assert_refused("28000", lambda: tenancy.identity(self.pool, self.token("bob"), organization=ACME).__enter__())

    def test_a_refused_token_is_401_and_a_viewer_that_writes_is_403(self):
        def write(token):
            with tenancy.identity(self.pool, token) as connection:
                connection.execute("INSERT INTO customer (name, email) VALUES ('never', '')")

        for token, status in (("", 401), ("no token", 401), (self.token("mallory"), 401), (self.token("victor"), 403)):
            with self.assertRaises(psycopg.Error) as refused:
                write(token)
            self.assertEqual(tenancy.status_of(refused.exception), status)

    def test_a_worker_assumes_one_organization_for_a_reason(self):
        with psycopg.connect(dbname=self.database, user=WORKER) as connection:
            with tenancy.assumed_organization(connection, UUID(GLOBEX), "nightly", correlation_id="job-1"):
                self.assertEqual(connection.execute(NAMES).fetchall(), [("globex",)])
            with tenancy.assumed_organization(connection, ACME, "nightly", role="viewer"):
                self.assertEqual(connection.execute(NAMES).fetchall(), [("acme",)])
                insert = "INSERT INTO customer (name, email) VALUES ('never', '')"
                self.assert_refused("42501", lambda: connection.execute(insert))
                raise psycopg.Rollback
        self.assert_refused("42501", lambda: tenancy.assumed_organization(self.pool, ACME, "no worker").__enter__())
        event = "SELECT reason FROM tenancy.audit_trail WHERE correlation_id = 'job-1' AND operation = 'assume'"
        self.assertEqual(self.admin.execute(event).fetchall(), [("nightly",)])

    def test_rows_are_copied_where_postgres_refuses_copy(self):
        rows = [(f"copied {n}", "it's; -- %s\t世界") for n in range(1000)]
        with tenancy.identity(self.pool, self.token("alice")) as connection:

            def plainly():
                with connection.transaction(), connection.cursor().copy("COPY customer (name, email) FROM STDIN") as copy:
                    copy.write_row(rows[0])

            self.assert_refused("0A000", plainly)
            before = connection.execute("SELECT count(*) FROM pg_class WHERE relpersistence = 't'").fetchone()
            self.assertEqual(tenancy.copy_rows(connection, "customer", ("name", "email"), rows), 1000)
            self.assertEqual(tenancy.copy_rows(connection, ("public", "customer"), ("name", "email"), []), 0)
            left = connection.execute("SELECT count(*) FROM pg_class WHERE relpersistence = 't'").fetchone()
            self.assertEqual(left, before)
            self.assertEqual(connection.execute("SELECT count(*) FROM customer").fetchone(), (1001,))
            copied = connection.execute("SELECT DISTINCT email FROM customer WHERE name LIKE 'copied %%'").fetchall()
            self.assertEqual(copied, [(rows[0][1],)])
        audited = "SELECT count(*) FROM tenancy.audit_trail WHERE new_values ->> 'name' LIKE 'copied %' AND subject = 'alice'"
        self.assertEqual(self.admin.execute(audited).fetchone(), (1000,))

    def test_copied_rows_keep_to_policies_and_hostile_names_are_names(self):
        with tenancy.identity(self.pool, self.token("alice")) as connection:

            def copy(table, columns, rows):
                with connection.transaction():
                    tenancy.copy_rows(connection, table, columns, rows)

            columns = ("organization_id", "name", "email")
            self.assert_refused("42501", lambda: copy("customer", columns, [(GLOBEX, "smuggled", "")]))
            # A temporary table of the target's name is not what is written to when its schema is said.
            connection.execute("CREATE TEMPORARY TABLE customer (name text, email text) ON COMMIT DROP")
            copy(("public", "customer"), ("name", "email"), [("real", "")])
            self.assertEqual(connection.execute("SELECT count(*) FROM pg_temp.customer").fetchone(), (0,))
            # Nor is a table of the temporary one's name, which somebody guessed, whatever the search_path says.
            self.admin.execute("CREATE TABLE tenancy_copy_guessed (name text, email text)")
            self.addCleanup(self.admin.execute, "DROP TABLE tenancy_copy_guessed")
            self.admin.execute("GRANT ALL ON tenancy_copy_guessed TO PUBLIC")
            with mock.patch("secrets.token_hex", return_value="guessed"), connection.transaction():
                connection.execute("SET LOCAL search_path = public, pg_temp")
                copy(("public", "customer"), ("name", "email"), [("found", "")])
                self.assertEqual(connection.execute("SELECT FROM public.tenancy_copy_guessed").fetchall(), [])
            hostile = 'customer"; DROP TABLE payment; --'
            self.assert_refused("42P01", lambda: copy(hostile, ("name",), [("x",)]))
            self.assert_refused("42703", lambda: copy(("public", "customer"), ('name", email) --',), [("x",)]))
            self.assertRaises(ValueError, lambda: copy("customer", (), []))
        self.assert_refused("28000", self.copy_as_nobody)
        self.assertEqual(self.rows(), [(ACME, "acme"), (ACME, "found"), (GLOBEX, "globex"), (ACME, "real")])

    def copy_as_nobody(self):
        with self.pool.connection() as connection:
            tenancy.copy_rows(connection, "customer", ("name", "email"), [("never", "")])

    # SQLAlchemy

    def names(self, session):
        return session.scalars(select(self.models.Customer.name).order_by(self.models.Customer.name)).all()

    def test_each_transaction_of_a_session_authenticates(self):
        Customer = self.models.Customer
        with with_identity(Session(self.engine), self.token("alice"), "package-2") as session:
            self.assertEqual(self.names(session), ["acme"])
            customer = Customer(name="new", email="")
            session.add(customer)
            session.commit()
            self.assertEqual(str(customer.organization_id), ACME)
            with session.begin_nested() as savepoint:
                session.add(Customer(name="never", email=""))
                session.flush()
                savepoint.rollback()
            self.assertEqual(self.names(session), ["acme", "new"])
            session.rollback()
            self.assertEqual(self.names(session), ["acme", "new"])
            session.commit()
            # Another identity counts from the next transaction on, and so does none.
            self.assertEqual(self.names(with_identity(session, self.token("bob"))), ["globex"])
            session.commit()
            self.assert_refused("28000", lambda: self.names(without_identity(session)))
        made = sessionmaker(self.engine)
        with with_identity(made(), self.token("bob")) as session, session.begin():
            self.assertEqual(self.names(session), ["globex"])
        with made() as session:
            self.assert_refused("28000", lambda: self.names(session))
        scoped = scoped_session(made)
        self.assertEqual(self.names(with_identity(scoped, self.token("alice"))), ["acme", "new"])
        scoped.remove()
        self.assert_refused("28000", lambda: self.names(scoped))
        scoped.remove()

    def test_an_engine_without_transactions_is_refused(self):
        engine = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        with with_identity(Session(engine), self.token("alice")) as session:
            self.assert_refused("28000", lambda: self.names(session))

    def test_a_session_of_psycopg2_has_an_identity_too(self):
        engine = create_engine(url("psycopg2", self.database), poolclass=pool.NullPool)
        for subject, own in (("alice", ["acme"]), ("bob", ["globex"])):
            with with_identity(Session(engine), self.token(subject)) as session:
                self.assertEqual(self.names(session), own)
        for token, status in (("no token", 401), (self.token("victor"), 403)):
            with with_identity(Session(engine), token) as session, self.assertRaises(DBAPIError) as refused:
                session.execute(insert(self.models.Customer).values(name="never", email=""))
            self.assertEqual(tenancy_sqlalchemy.status_of(refused.exception), status)
            self.assertNotIn(token, str(refused.exception).replace("no token", ""))

    def test_a_savepoint_at_first_keeps_the_identity_of_its_transaction(self):
        with with_identity(Session(self.engine), self.token("alice")) as session:
            with session.begin_nested() as savepoint:
                self.assertEqual(self.names(session), ["acme"])
                savepoint.rollback()
            self.assertEqual(self.names(session), ["acme"])

    def test_core_has_a_transaction_with_an_identity(self):
        customer = self.models.Customer.__table__
        with tenancy_sqlalchemy.identity(self.engine, self.token("alice")) as connection:
            connection.execute(insert(customer).values(name="core", email=""))
        with self.engine.connect() as connection:
            with tenancy_sqlalchemy.identity(connection, self.token("bob")):
                self.assertEqual(connection.scalars(select(customer.c.name)).all(), ["globex"])
            self.assert_refused("28000", lambda: connection.execute(text(NAMES)))
        self.assertIn((ACME, "core"), self.rows())

    def test_a_session_and_core_act_for_a_worker(self):
        engine = create_engine(url("psycopg", self.database, WORKER), poolclass=pool.NullPool)
        with with_assumed_organization(Session(engine), ACME, "nightly") as session:
            self.assertEqual(self.names(session), ["acme"])
        with tenancy_sqlalchemy.assumed_organization(engine, GLOBEX, "nightly", role="viewer") as connection:
            self.assertEqual(connection.scalars(text(NAMES)).all(), ["globex"])

    def test_asynchronous_sessions_authenticate_with_psycopg_and_asyncpg(self):
        async def names(engine):
            try:
                async with with_identity(AsyncSession(engine), self.token("alice"), "package-3") as session:
                    first = (await session.scalars(select(self.models.Customer.name))).all()
                    await session.commit()
                    second = (await session.scalars(select(self.models.Customer.name))).all()
                async with tenancy_sqlalchemy.identity(engine, self.token("bob")) as connection:
                    third = (await connection.scalars(text(NAMES))).all()
                with self.assertRaises(DBAPIError) as refused:
                    async with with_identity(AsyncSession(engine), "no token") as session:
                        await session.scalars(select(self.models.Customer.name))
                return first, second, third, tenancy_sqlalchemy.status_of(refused.exception)
            finally:
                await engine.dispose()

        for engine in (
            create_async_engine(url("psycopg", self.database), connect_args={"prepare_threshold": None}),
            # PgBouncer before 1.21 confuses named statements.
            create_async_engine(
                url("asyncpg", self.database),
                connect_args={"statement_cache_size": 0, "prepared_statement_name_func": str},
            ),
        ):
            with self.subTest(engine.driver):
                self.assertEqual(asyncio.run(names(engine)), (["acme"], ["acme"], ["globex"], 401))

    def test_no_log_and_no_error_of_sqlalchemy_shows_the_token(self):
        heard = io.StringIO()
        handler = logging.StreamHandler(heard)
        logger = logging.getLogger("sqlalchemy.engine")
        logger.addHandler(handler)
        self.addCleanup(logger.removeHandler, handler)
        engine = create_engine(
            url("psycopg", self.database),
            echo=False,
            logging_name="shown",
            poolclass=pool.NullPool,
            connect_args={"prepare_threshold": None},
        )
        with mock.patch.object(logger, "level", logging.DEBUG):
            logging.getLogger("sqlalchemy.engine.Engine.shown").setLevel(logging.DEBUG)
            for token in (self.token("alice"), self.token("mallory")):
                try:
                    with with_identity(Session(engine), token) as session:
                        self.names(session)
                except DBAPIError as error:
                    heard.write(str(error) + repr(error.params))
                self.assertIn("tenancy.authenticate", heard.getvalue())
                for part in token.split("."):
                    self.assertNotIn(part, heard.getvalue())
        self.assertIn("no active membership", heard.getvalue())

    # Helpers of tests

    def test_an_issuer_of_tests_registers_by_any_connection_and_signs(self):
        engine = create_engine(url("psycopg", self.database, OWNER), poolclass=pool.NullPool)
        with engine.begin() as connection:
            issuer = Issuer.register(connection, "https://other.example/", "other")
            issuer.add_member(connection, ACME, "carol", "viewer")
        with tenancy.identity(self.pool, issuer.token("carol")) as connection:
            self.assertEqual(connection.execute(NAMES).fetchall(), [("acme",)])
            self.assertEqual(connection.execute("SELECT tenancy.subject()").fetchone(), ("carol",))
        for token in (
            issuer.token("carol", expires_in=-120),
            issuer.token("carol", aud=["another"]),
            issuer.token("carol", exp=None),
            Issuer("https://other.example/", "other").token("carol"),
        ):
            self.assert_refused("28000", lambda: tenancy.identity(self.pool, token).__enter__())
        self.assertEqual(json.loads(json.dumps(issuer.jwks))["keys"][0]["alg"], "ES256")
        self.assertNotIn("d", issuer.jwks["keys"][0], "a public key")
        self.assertRegex(issuer.headers("carol")["Authorization"], r"^Bearer \S+\.\S+\.\S+$")


class TestsOfApplications(Shop):
    """SQLAlchemy's "join a session into an external transaction": two tenants act in one that is rolled back."""

    example = "sqlalchemy"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        sys.modules.pop("models", None)
        import models

        cls.models = models
        # As docs/migrations/README.md has it: tests are run as the owner of the tables.
        cls.engine = create_engine(url("psycopg", cls.database, OWNER), poolclass=pool.NullPool)
        models.Base.metadata.create_all(cls.engine)
        cls.protect()

    def permit(self, state):
        statement = sql.SQL("ALTER DATABASE {} SET tenancy.several_identities = {}")
        self.admin.execute(statement.format(sql.Identifier(self.database), sql.SQL(state)))

    def act_as_both(self):
        Customer = self.models.Customer
        with self.engine.connect() as connection, connection.begin() as outer:

            def session(subject):
                joined = Session(bind=connection, join_transaction_mode="create_savepoint")
                return with_identity(joined, self.issuer.token(subject))

            def names(subject):
                with session(subject) as one:
                    return one.scalars(select(Customer.name).order_by(Customer.name)).all()

            with session("alice") as one:
                one.add(Customer(name="Ada", email=""))
                one.commit()
            seen = [names("bob")]
            with session("bob") as one:
                one.add(Customer(name="Bert", email=""))
                one.commit()
            with session("victor") as one:
                one.add(Customer(name="never", email=""))
                with self.assertRaises(DBAPIError) as refused:
                    one.commit()
                seen.append(tenancy_sqlalchemy.status_of(refused.exception))
            seen += [names("bob"), names("alice")]
            outer.rollback()
        return seen

    def test_two_tenants_act_in_a_transaction_that_is_rolled_back(self):
        self.permit("on")
        self.assertEqual(self.act_as_both(), [[], 403, ["Bert"], ["Ada"]])
        self.assertEqual(self.admin.execute("SELECT count(*) FROM customer").fetchone(), (0,))
        self.permit("off")
        with self.assertRaises(DBAPIError) as refused:
            self.act_as_both()
        self.assertEqual(pg_tenancy.sqlstate_of(refused.exception), "28000")
