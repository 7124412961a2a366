"""psycopg 3: transactions with an identity, and COPY into protected tables.

    with identity(pool, token, request_id) as connection:
        rows = connection.execute("SELECT title FROM invoice").fetchall()

Each function takes a pool or a connection, and the asynchronous kinds of both, for which it is used with
`async with` or `await`.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, overload
from uuid import UUID

from psycopg import AsyncConnection, Connection, sql

from pg_tenancy._errors import sqlstate_of, status_of
from pg_tenancy._identity import Actor, Member, Operator, statement

if TYPE_CHECKING:
    from psycopg_pool import AsyncConnectionPool, ConnectionPool

    AnyConnection = Connection[Any]
    AnyAsyncConnection = AsyncConnection[Any]
    Source = ConnectionPool[AnyConnection] | AnyConnection
    AsyncSource = AsyncConnectionPool[AnyAsyncConnection] | AnyAsyncConnection

__all__ = ["assumed_organization", "copy_rows", "identity", "sqlstate_of", "status_of"]


@contextmanager
def _acting(source: Any, actor: Actor) -> Iterator[Any]:
    if hasattr(source, "getconn"):
        with source.connection() as connection, _acting(connection, actor) as acting:
            yield acting
    else:
        with source.transaction():
            source.execute(*statement(actor, "%({})s"))
            yield source


@asynccontextmanager
async def _acting_async(source: Any, actor: Actor) -> AsyncIterator[Any]:
    if hasattr(source, "getconn"):
        async with source.connection() as connection, _acting_async(connection, actor) as acting:
            yield acting
    else:
        async with source.transaction():
            await source.execute(*statement(actor, "%({})s"))
            yield source


def _is_async(source: Any) -> bool:
    return isinstance(source, AsyncConnection) or type(source).__name__.startswith("Async")


@overload
def identity(
    source: AsyncSource, token: str, correlation_id: str | None = None, *, organization: UUID | str | None = None
) -> AbstractAsyncContextManager[AnyAsyncConnection]: ...
@overload
def identity(
    source: Source, token: str, correlation_id: str | None = None, *, organization: UUID | str | None = None
) -> AbstractContextManager[AnyConnection]: ...
def identity(
    source: Any, token: str, correlation_id: str | None = None, *, organization: UUID | str | None = None
) -> Any:
    """One transaction as the member that the token names; the connection is its value.

    The transaction is committed at the end of the block, and rolled back by an exception. On a connection that is in
    a transaction already, it is a savepoint. `correlation_id` is stored with each event of the audit. `organization`
    chooses among the organizations of a member of several, where the token names none.
    Raises `psycopg.Error` with SQLSTATE 28000 for a token that is refused.
    """
    actor = Member(token, correlation_id, organization)
    return _acting_async(source, actor) if _is_async(source) else _acting(source, actor)


@overload
def assumed_organization(
    source: AsyncSource,
    organization: UUID | str,
    reason: str,
    *,
    role: str | None = None,
    correlation_id: str | None = None,
) -> AbstractAsyncContextManager[AnyAsyncConnection]: ...
@overload
def assumed_organization(
    source: Source,
    organization: UUID | str,
    reason: str,
    *,
    role: str | None = None,
    correlation_id: str | None = None,
) -> AbstractContextManager[AnyConnection]: ...
def assumed_organization(
    source: Any,
    organization: UUID | str,
    reason: str,
    *,
    role: str | None = None,
    correlation_id: str | None = None,
) -> Any:
    """One transaction for an organization without a token: for workers, whose role is in `tenancy_operator`.

    `reason` is stored with each event. With `role`, the transaction may do what that role may, without it everything.
    """
    actor = Operator(organization, reason, role, correlation_id)
    return _acting_async(source, actor) if _is_async(source) else _acting(source, actor)


class _Copy:
    """The statements of `copy_rows`. Names come from the caller, so psycopg quotes each of them."""

    def __init__(self, table: str | Sequence[str], columns: Sequence[str]) -> None:
        if not columns:
            raise ValueError("copy_rows needs the names of the columns")
        names = [table] if isinstance(table, str) else list(table)
        parts = {
            "target": sql.Identifier(*names),
            # Qualified, so that no table of another schema in the search_path is meant.
            "copied": sql.Identifier("pg_temp", f"tenancy_copy_{secrets.token_hex(8)}"),
            "columns": sql.SQL(", ").join(map(sql.Identifier, columns)),
        }
        self.create = sql.SQL(
            "CREATE TEMPORARY TABLE {copied} ON COMMIT DROP AS SELECT {columns} FROM {target} WITH NO DATA"
        ).format(**parts)
        self.copy = sql.SQL("COPY {copied} ({columns}) FROM STDIN").format(**parts)
        self.insert = sql.SQL("INSERT INTO {target} ({columns}) SELECT {columns} FROM {copied}").format(**parts)
        self.drop = sql.SQL("DROP TABLE {copied}").format(**parts)


@overload
def copy_rows(
    connection: AnyAsyncConnection, table: str | Sequence[str], columns: Sequence[str], rows: Iterable[Sequence[Any]]
) -> Awaitable[int]: ...
@overload
def copy_rows(
    connection: AnyConnection, table: str | Sequence[str], columns: Sequence[str], rows: Iterable[Sequence[Any]]
) -> int: ...
def copy_rows(
    connection: Any, table: str | Sequence[str], columns: Sequence[str], rows: Iterable[Sequence[Any]]
) -> Any:
    """COPY rows into a protected table, and return their number.

    Postgres refuses COPY FROM on a table with row-level security (0A000). The rows are copied into a temporary table
    and inserted from there, so policies, defaults and the audit apply to each. `table` is a name or (schema, name).
    Call it inside of `identity` or `assumed_organization`; the role needs TEMPORARY on the database.
    """
    copy = _Copy(table, columns)
    if isinstance(connection, AsyncConnection):
        return _copy_rows_async(connection, copy, rows)
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(copy.create)
        with cursor.copy(copy.copy) as writer:
            for row in rows:
                writer.write_row(row)
        inserted = cursor.execute(copy.insert).rowcount
        cursor.execute(copy.drop)
    return inserted


async def _copy_rows_async(connection: AsyncConnection[Any], copy: _Copy, rows: Iterable[Sequence[Any]]) -> int:
    async with connection.transaction(), connection.cursor() as cursor:
        await cursor.execute(copy.create)
        async with cursor.copy(copy.copy) as writer:
            for row in rows:
                await writer.write_row(row)
        inserted = (await cursor.execute(copy.insert)).rowcount
        await cursor.execute(copy.drop)
    return inserted
