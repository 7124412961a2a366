"""FastAPI: a dependency that gives a path operation its transaction, and the answers to what the database refuses.

    tenant = identity(pool)                        # or an engine, sessionmaker, async_sessionmaker
    app = FastAPI()
    answer_refusals(app)

    @app.get("/invoices")
    async def invoices(connection: Annotated[AsyncConnection, tenant]):
        return await (await connection.execute("SELECT title FROM invoice")).fetchall()
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.responses import Response

from pg_tenancy._errors import sqlstate_of, status_of

__all__ = ["answer_refusals", "identity", "sqlstate_of", "status_of"]

_DETAILS = {401: "Unauthorized", 403: "Forbidden"}
_CHALLENGE = {"WWW-Authenticate": "Bearer"}
_bearer = HTTPBearer(auto_error=False, description="A token of the identity provider.")


def _bearer_token(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> str:
    if credentials is None:
        raise HTTPException(401, _DETAILS[401], _CHALLENGE)
    return credentials.credentials


def _request_id(request: Request) -> str | None:
    return request.headers.get("X-Request-ID")


def _has_base(source: Any, library: str) -> bool:
    return any(base.__module__.partition(".")[0] == library for base in type(source).__mro__)


def _transactions(source: Any) -> tuple[Callable[..., Any], bool]:
    """What opens a transaction for a token, a correlation id and an organization; whether it is asynchronous."""
    if _has_base(source, "psycopg_pool"):
        from psycopg_pool import AsyncConnectionPool

        from pg_tenancy import psycopg

        return partial(psycopg.identity, source), isinstance(source, AsyncConnectionPool)
    if _has_base(source, "sqlalchemy"):
        from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
        from sqlalchemy.orm import sessionmaker

        from pg_tenancy import sqlalchemy

        @contextmanager
        def session(token: str, correlation_id: str | None, organization: UUID | str | None) -> Iterator[Any]:
            marked = sqlalchemy.with_identity(source(), token, correlation_id, organization=organization)
            with marked as one, one.begin():
                yield one

        @asynccontextmanager
        async def async_session(
            token: str, correlation_id: str | None, organization: UUID | str | None
        ) -> AsyncIterator[Any]:
            marked = sqlalchemy.with_identity(source(), token, correlation_id, organization=organization)
            async with marked as one, one.begin():
                yield one

        if isinstance(source, sessionmaker):
            return session, False
        if isinstance(source, async_sessionmaker):
            return async_session, True
        return partial(sqlalchemy.identity, source), isinstance(source, AsyncEngine)
    raise TypeError(f"identity() takes a pool of psycopg, an engine or a sessionmaker of SQLAlchemy, not {source!r}")


def _no_organization() -> None:
    return None


def identity(source: Any, organization: Callable[..., UUID | str | None] = _no_organization) -> Any:
    """A dependency: the connection or session of a transaction as the member that the request's bearer token names.

    `source` is a `ConnectionPool` or `AsyncConnectionPool` of psycopg, or an engine or sessionmaker of SQLAlchemy,
    asynchronous or not. The transaction is committed before the response is sent, and rolled back by an exception,
    HTTPException included. A request without a token is answered with 401. The header X-Request-ID is stored with
    each event of the audit. `organization` is a dependency itself: it chooses among the organizations of a member of
    several, for example by a parameter of the path.
    """
    opened, asynchronous = _transactions(source)

    def transaction(
        token: Annotated[str, Depends(_bearer_token)],
        request_id: Annotated[str | None, Depends(_request_id)],
        chosen: Annotated[Any, Depends(organization)],
    ) -> Iterator[Any]:
        with opened(token, request_id, organization=chosen) as connection:
            yield connection

    async def async_transaction(
        token: Annotated[str, Depends(_bearer_token)],
        request_id: Annotated[str | None, Depends(_request_id)],
        chosen: Annotated[Any, Depends(organization)],
    ) -> AsyncIterator[Any]:
        async with opened(token, request_id, organization=chosen) as connection:
            yield connection

    # The scope of the function: by default FastAPI would commit after the response, which then says what may not be.
    return Depends(async_transaction if asynchronous else transaction, scope="function")


def answer_refusals(app: FastAPI) -> None:
    """Has an application answer 401 to SQLSTATE 28000 and 403 to 42501; other errors stay what they are."""
    for error in _errors_of_databases():
        app.add_exception_handler(error, _answer)


def _errors_of_databases() -> Iterator[type[Exception]]:
    try:
        from psycopg import Error
    except ImportError:
        pass
    else:
        yield Error
    try:
        from sqlalchemy.exc import DBAPIError
    except ImportError:
        pass
    else:
        yield DBAPIError


async def _answer(request: Request, error: Exception) -> Response:
    status = status_of(error)
    if status not in _DETAILS:
        raise error
    return JSONResponse({"detail": _DETAILS[status]}, status, headers=_CHALLENGE if status == 401 else None)
