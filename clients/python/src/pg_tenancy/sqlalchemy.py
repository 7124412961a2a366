"""SQLAlchemy 2: sessions and connections with an identity, synchronous and asynchronous, with every driver.

    with with_identity(Session(engine), token, request_id) as session, session.begin():
        invoices = session.scalars(select(Invoice)).all()

Without sessions, in Core:

    with identity(engine, token, request_id) as connection:
        rows = connection.execute(select(invoice)).all()
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, overload
from uuid import UUID

from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.orm import Session, SessionTransaction, scoped_session

from pg_tenancy._errors import sqlstate_of, status_of
from pg_tenancy._identity import Actor, Member, Operator, statement

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_scoped_session

    AnySession = TypeVar(
        "AnySession",
        bound=Session | scoped_session[Any] | AsyncSession | async_scoped_session[Any],
    )
else:
    AnySession = TypeVar("AnySession")

__all__ = [
    "assumed_organization",
    "identity",
    "sqlstate_of",
    "status_of",
    "with_assumed_organization",
    "with_identity",
    "without_identity",
]

_KEY = "pg_tenancy.actor"


def _act(connection: Connection, actor: Actor) -> None:
    if connection.dialect.name == "postgresql":
        sql, parameters = statement(actor, ":{}")
        connection.execute(text(sql), parameters)


def _authenticate(session: Session, transaction: SessionTransaction, connection: Connection) -> None:
    """Authenticates each transaction of a session when it begins; a savepoint keeps the identity of its transaction."""
    actor = session.info.get(_KEY)
    if actor is not None and not transaction.nested:
        _act(connection, actor)


def _session(session: Any) -> Session:
    if isinstance(session, scoped_session) or type(session).__name__ == "async_scoped_session":
        session = session()
    return getattr(session, "sync_session", session)  # type: ignore[no-any-return]


def _mark(session: Any, actor: Actor) -> None:
    one = _session(session)
    one.info[_KEY] = actor
    if not event.contains(one, "after_begin", _authenticate):
        event.listen(one, "after_begin", _authenticate)


def with_identity(
    session: AnySession,
    token: str,
    correlation_id: str | None = None,
    *,
    organization: UUID | str | None = None,
) -> AnySession:
    """Has every transaction of the session act as the member that the token names, and returns the session.

    Call it before the first statement of a transaction: the identity is set when the session takes its connection.
    `organization` chooses among the organizations of a member of several, where the token names none.
    A refused token raises SQLAlchemy's `DBAPIError` with SQLSTATE 28000 at that statement.
    """
    _mark(session, Member(token, correlation_id, organization))
    return session


def with_assumed_organization(
    session: AnySession,
    organization: UUID | str,
    reason: str,
    *,
    role: str | None = None,
    correlation_id: str | None = None,
) -> AnySession:
    """Has every transaction of the session act for an organization without a token, for a reason: for workers."""
    _mark(session, Operator(organization, reason, role, correlation_id))
    return session


def without_identity(session: AnySession) -> AnySession:
    """Has the next transactions of the session act as nobody, and returns the session."""
    _session(session).info.pop(_KEY, None)
    return session


@contextmanager
def _acting(source: Engine | Connection, actor: Actor) -> Iterator[Connection]:
    if isinstance(source, Engine):
        with source.begin() as connection:
            _act(connection, actor)
            yield connection
    else:
        with source.begin_nested() if source.in_transaction() else source.begin():
            _act(source, actor)
            yield source


@asynccontextmanager
async def _acting_async(source: Any, actor: Actor) -> AsyncIterator[Any]:
    if hasattr(source, "connect"):
        async with source.begin() as connection:
            await connection.run_sync(_act, actor)
            yield connection
    else:
        async with source.begin_nested() if source.in_transaction() else source.begin():
            await source.run_sync(_act, actor)
            yield source


def _enter(source: Any, actor: Actor) -> Any:
    return _acting(source, actor) if isinstance(source, Engine | Connection) else _acting_async(source, actor)


@overload
def identity(
    source: Engine | Connection,
    token: str,
    correlation_id: str | None = None,
    *,
    organization: UUID | str | None = None,
) -> AbstractContextManager[Connection]: ...
@overload
def identity(
    source: AsyncEngine | AsyncConnection,
    token: str,
    correlation_id: str | None = None,
    *,
    organization: UUID | str | None = None,
) -> AbstractAsyncContextManager[AsyncConnection]: ...
def identity(
    source: Any, token: str, correlation_id: str | None = None, *, organization: UUID | str | None = None
) -> Any:
    """One transaction of Core as the member that the token names; the connection is its value.

    On a connection that is in a transaction already, it is a savepoint.
    """
    return _enter(source, Member(token, correlation_id, organization))


@overload
def assumed_organization(
    source: Engine | Connection,
    organization: UUID | str,
    reason: str,
    *,
    role: str | None = None,
    correlation_id: str | None = None,
) -> AbstractContextManager[Connection]: ...
@overload
def assumed_organization(
    source: AsyncEngine | AsyncConnection,
    organization: UUID | str,
    reason: str,
    *,
    role: str | None = None,
    correlation_id: str | None = None,
) -> AbstractAsyncContextManager[AsyncConnection]: ...
def assumed_organization(
    source: Any,
    organization: UUID | str,
    reason: str,
    *,
    role: str | None = None,
    correlation_id: str | None = None,
) -> Any:
    """One transaction of Core for an organization without a token: for workers, whose role is in `tenancy_operator`."""
    return _enter(source, Operator(organization, reason, role, correlation_id))
