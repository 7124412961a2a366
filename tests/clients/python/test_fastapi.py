"""FastAPI over the shop, by the pooler: psycopg and SQLAlchemy, synchronous and asynchronous."""

import sys
import warnings
from contextlib import asynccontextmanager
from typing import Annotated, Any
from uuid import UUID

from fastapi import FastAPI, HTTPException
from pg_tenancy.fastapi import answer_refusals, identity
from psycopg_pool import AsyncConnectionPool, ConnectionPool
from sqlalchemy import create_engine, pool, text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import sessionmaker

from shop_database import ACME, GLOBEX, OWNER, Shop, address, url

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="Using `httpx`")
    from fastapi.testclient import TestClient

NAMES = "SELECT name FROM customer ORDER BY name"
INSERT = "INSERT INTO customer (name, email) VALUES ('{}', '')"


class FastApi(Shop):
    example = "sqlalchemy"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        sys.modules.pop("models", None)
        from models import Base

        owner = create_engine(url("psycopg", cls.database, OWNER), poolclass=pool.NullPool)
        Base.metadata.create_all(owner)
        # Checked at the commit, as deferred keys are.
        cls.owner.execute(
            """ALTER TABLE customer ADD UNIQUE (organization_id, name) DEFERRABLE INITIALLY DEFERRED"""
        )
        cls.protect()

    def setUp(self):
        self.admin.execute("TRUNCATE customer CASCADE")
        self.admin.execute(
            "INSERT INTO customer (organization_id, name, email) VALUES (%s, 'acme', ''), (%s, 'globex', '')",
            (ACME, GLOBEX),
        )

    def rows(self):
        return self.admin.execute("SELECT organization_id::text, name FROM customer ORDER BY name").fetchall()

    def application(self, source, sql=str):
        app = FastAPI()
        answer_refusals(app)
        tenant = identity(source)

        @app.get("/names")
        def names(connection: Annotated[Any, tenant]):
            return [name for (name,) in connection.execute(sql(NAMES))]

        @app.post("/customers/{name}")
        def create(name: str, connection: Annotated[Any, tenant]):
            connection.execute(sql(INSERT.format(name)))
            if name == "teapot":
                raise HTTPException(418)
            if name == "error":
                raise ValueError("after the insert")
            return name

        return app

    def async_application(self, source, sql=str):
        @asynccontextmanager
        async def lifespan(app):
            if isinstance(source, AsyncConnectionPool):
                await source.open()
            yield
            if isinstance(source, AsyncConnectionPool):
                await source.close()

        app = FastAPI(lifespan=lifespan)
        answer_refusals(app)
        tenant = identity(source)

        @app.get("/names")
        async def names(connection: Annotated[Any, tenant]):
            rows = await connection.execute(sql(NAMES))
            return [name for (name,) in (await rows.fetchall() if sql is str else rows)]

        @app.post("/customers/{name}")
        async def create(name: str, connection: Annotated[Any, tenant]):
            await connection.execute(sql(INSERT.format(name)))
            if name == "teapot":
                raise HTTPException(418)
            if name == "error":
                raise ValueError("after the insert")
            return name

        return app

    def applications(self):
        kwargs = {**address(self.database), "prepare_threshold": None}
        with ConnectionPool(kwargs=kwargs, min_size=1, max_size=2, open=True) as one:
            yield "pool", self.application(one)
        yield "asynchronous pool", self.async_application(
            AsyncConnectionPool(kwargs=kwargs, min_size=1, max_size=2, open=False)
        )
        arguments = {"poolclass": pool.NullPool, "connect_args": {"prepare_threshold": None}}
        engine = create_engine(url("psycopg", self.database), **arguments)
        async_engine = create_async_engine(url("psycopg", self.database), **arguments)
        yield "engine", self.application(engine, text)
        yield "sessions", self.application(sessionmaker(engine), text)
        yield "asynchronous engine", self.async_application(async_engine, text)
        yield "asynchronous sessions", self.async_application(async_sessionmaker(async_engine), text)

    def test_a_path_operation_has_a_transaction_of_its_member(self):
        for name, app in self.applications():
            with self.subTest(name), TestClient(app, raise_server_exceptions=False) as client:
                self.setUp()
                for _ in range(2):
                    for subject, own in (("alice", ["acme"]), ("bob", ["globex"])):
                        answer = client.get("/names", headers=self.issuer.headers(subject))
                        self.assertEqual((answer.status_code, answer.json()), (200, own))
                headers = {**self.issuer.headers("alice"), "X-Request-ID": f"fastapi {name}"}
                self.assertEqual(client.post("/customers/new", headers=headers).status_code, 200)
                event = "SELECT subject FROM tenancy.audit_trail WHERE correlation_id = %s AND table_name = 'customer'"
                self.assertEqual(self.admin.execute(event, (f"fastapi {name}",)).fetchall(), [("alice",)])

                # What is refused.
                answer = client.get("/names")
                self.assertEqual((answer.status_code, answer.json()), (401, {"detail": "Unauthorized"}))
                self.assertEqual(answer.headers["WWW-Authenticate"], "Bearer")
                for token in ("no token", self.issuer.token("mallory"), self.issuer.token("alice", expires_in=-120)):
                    answer = client.get("/names", headers={"Authorization": f"Bearer {token}"})
                    self.assertEqual((answer.status_code, answer.json()), (401, {"detail": "Unauthorized"}))
                    self.assertEqual(answer.headers["WWW-Authenticate"], "Bearer")
                answer = client.post("/customers/never", headers=self.issuer.headers("victor"))
                self.assertEqual((answer.status_code, answer.json()), (403, {"detail": "Forbidden"}))

                # What is rolled back; the last one by the commit, of which the answer knows.
                for what, status in (("teapot", 418), ("error", 500), ("acme", 500)):
                    answer = client.post(f"/customers/{what}", headers=self.issuer.headers("alice"))
                    self.assertEqual(answer.status_code, status, what)
                self.assertEqual(self.rows(), [(ACME, "acme"), (GLOBEX, "globex"), (ACME, "new")])

    def test_a_member_of_several_organizations_chooses_one_by_the_path(self):
        for organization in (ACME, GLOBEX):
            self.issuer.add_member(self.admin, organization, "erin", "viewer")
        engine = create_engine(
            url("psycopg", self.database), poolclass=pool.NullPool, connect_args={"prepare_threshold": None}
        )

        def of_path(organization: UUID) -> UUID:
            return organization

        for source in (engine, sessionmaker(engine)):
            app = FastAPI()
            answer_refusals(app)

            @app.get("/{organization}/names")
            def names(connection: Annotated[Any, identity(source, of_path)]):
                return list(connection.scalars(text(NAMES)))

            with TestClient(app) as client:
                headers = self.issuer.headers("erin")
                self.assertEqual(client.get(f"/{ACME}/names", headers=headers).json(), ["acme"])
                self.assertEqual(client.get(f"/{GLOBEX}/names", headers=headers).json(), ["globex"])
                answer = client.get(f"/{GLOBEX}/names", headers=self.issuer.headers("alice"))
                self.assertEqual(answer.status_code, 401)

    def test_the_documentation_of_the_interface_names_the_token(self):
        engine = create_engine(url("psycopg", self.database), poolclass=pool.NullPool)
        described = self.application(engine, text).openapi()
        [scheme] = described["components"]["securitySchemes"].values()
        self.assertEqual((scheme["type"], scheme["scheme"]), ("http", "bearer"))
        self.assertEqual(described["paths"]["/names"]["get"]["security"], [{"HTTPBearer": []}])

    def test_something_else_is_no_source(self):
        with self.assertRaises(TypeError):
            identity("postgresql://")
