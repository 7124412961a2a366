"""A database of its own for a suite of the shop in examples/shop, with its owner, its application and two tenants."""

import os
import shutil
import sys
import tempfile
import unittest
from pathlib import Path

import psycopg
from pg_tenancy.testing import Issuer
from psycopg import sql

EXAMPLES = Path(__file__).parents[3] / "examples" / "shop"
ACME = "aaaaaaaa-0000-4000-8000-000000000001"
GLOBEX = "bbbbbbbb-0000-4000-8000-000000000002"
# alice and bob may do everything in their organizations, victor reads Acme's rows.
MEMBERS = ((ACME, "alice", "admin"), (ACME, "victor", "viewer"), (GLOBEX, "bob", "admin"))
# No superuser: it makes the tables and protects them. It logs in by the socket, as the application does by the pooler.
OWNER = "test_tenancy_shop_owner"
APPLICATION = "test_tenancy_application"
WORKER = "test_tenancy_shop_worker"

SETUP = """
SET client_min_messages = error;
CREATE EXTENSION pg_tenancy;
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{owner}') THEN
        CREATE ROLE {owner} LOGIN NOSUPERUSER NOBYPASSRLS;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{worker}') THEN
        CREATE ROLE {worker} LOGIN NOSUPERUSER NOBYPASSRLS;
    END IF;
END
$$;
GRANT tenancy_admin TO {owner};
GRANT tenancy_operator TO {worker};
GRANT tenancy_application TO {application};
GRANT CREATE ON SCHEMA public TO {owner};
ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES
    TO {application}, {worker};
ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public GRANT USAGE ON SEQUENCES TO {application}, {worker};
SELECT tenancy.create_organization('Acme', '{acme}', 'acme');
SELECT tenancy.create_organization('Globex', '{globex}', 'globex');
""".format(owner=OWNER, application=APPLICATION, worker=WORKER, acme=ACME, globex=GLOBEX)


class Shop(unittest.TestCase):
    """Each class has a database, and a copy of the example that it may change: `folder`."""

    example: str
    prefix = ""

    @classmethod
    def setUpClass(cls):
        cls.database = f"{cls.prefix}{os.environ['PGDATABASE']}_{cls.__name__.lower()}"
        cls.addClassCleanup(cls.as_superuser, "DROP DATABASE IF EXISTS {} WITH (FORCE)", database="postgres")
        cls.as_superuser("DROP DATABASE IF EXISTS {} WITH (FORCE)", database="postgres")
        cls.as_superuser("CREATE DATABASE {} TEMPLATE template0", database="postgres")
        cls.admin = psycopg.connect(dbname=cls.database, autocommit=True)
        cls.addClassCleanup(cls.admin.close)
        cls.admin.execute(SETUP)
        cls.issuer = Issuer.register(cls.admin, audience="shop")
        for member in MEMBERS:
            cls.issuer.add_member(cls.admin, *member)
        cls.owner = psycopg.connect(dbname=cls.database, user=OWNER, autocommit=True)
        cls.addClassCleanup(cls.owner.close)
        cls.folder = Path(tempfile.mkdtemp(prefix="shop-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        shutil.copytree(EXAMPLES / cls.example, cls.folder, dirs_exist_ok=True)
        sys.path.insert(0, str(cls.folder))
        cls.addClassCleanup(sys.path.remove, str(cls.folder))

    @classmethod
    def as_superuser(cls, statement, database):
        with psycopg.connect(dbname=database, autocommit=True) as connection:
            connection.execute("SET client_min_messages = error")
            connection.execute(sql.SQL(statement).format(sql.Identifier(cls.database)))

    @classmethod
    def protect(cls):
        """As docs/migrations/ says it: every table with an organization now, and every later one as it is created."""
        rows = cls.owner.execute("SELECT * FROM tenancy.protect_schema('public')").fetchall()
        cls.owner.execute("SELECT tenancy.set_guardrail('new_tables', 'enforce', 'every new table has its tenant')")
        return {table: problem for table, _, problem in rows}

    def relations(self):
        """The foreign keys of the tables, without those of the extension, with the number of their columns."""
        return dict(
            self.admin.execute(
                """SELECT conrelid::regclass::text || ' -> ' || confrelid::regclass, cardinality(conkey)
                     FROM pg_constraint WHERE contype = 'f' AND connamespace = 'public'::regnamespace ORDER BY 1"""
            ).fetchall()
        )

    def assert_protected(self, tables):
        """Every table of the shop is as protect leaves it, and every relation between two carries the organization."""
        self.assertEqual(self.owner.execute("SELECT * FROM tenancy.drift()").fetchall(), [])
        protected = "SELECT polrelid::regclass::text FROM pg_policy WHERE polname = 'tenancy_isolation' ORDER BY 1"
        self.assertEqual([name for (name,) in self.admin.execute(protected)], sorted(tables))
        self.assertEqual(set(self.relations().values()), {2})


def address(database):
    """Where the application comes in: by the pooler."""
    return {
        "host": os.environ["PG_TENANCY_POOLER_HOST"],
        "port": os.environ["PG_TENANCY_POOLER_PORT"],
        "user": APPLICATION,
        "password": os.environ["PGPASSWORD"],
        "dbname": database,
    }


def url(driver, database, user=None):
    """An URL of SQLAlchemy: of the pooler for the application, of the socket for another user."""
    from sqlalchemy import URL

    if user is None:
        at = address(database)
        return URL.create(
            f"postgresql+{driver}", at["user"], at["password"], at["host"], int(at["port"]), at["dbname"]
        )
    query = {"host": os.environ["PGHOST"], "port": os.environ["PGPORT"]}
    return URL.create(f"postgresql+{driver}", user, database=database, query=query)
