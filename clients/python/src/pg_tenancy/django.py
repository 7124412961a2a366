"""Django: requests, views and jobs with an identity, also under ATOMIC_REQUESTS and in TestCase.

    INSTALLED_APPS = [..., "pg_tenancy"]         # inspectdb for protected tables
    MIDDLEWARE = [..., "pg_tenancy.django.IdentityMiddleware"]
    DATABASES = {"default": {..., "ATOMIC_REQUESTS": True}}

A middleware runs outside of the transaction that ATOMIC_REQUESTS opens. What authenticates here is therefore an
execute wrapper on Django's connection: it runs `tenancy.authenticate` before the first query of each transaction,
whoever opened it. Queries outside of a transaction, such as those of sessions, are left alone; on a protected table
the database refuses them (28000).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any, TypeVar
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured
from django.db import connections, transaction
from django.db.models import Func, UUIDField
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase

from pg_tenancy._errors import sqlstate_of, status_of
from pg_tenancy._identity import Actor, Member, Operator, statement

__all__ = [
    "IdentityMiddleware",
    "OrgId",
    "OrganizationField",
    "assumed_organization",
    "bearer_token",
    "identity",
    "sqlstate_of",
    "status_of",
    "with_identity",
]

View = TypeVar("View", bound=Callable[..., HttpResponseBase])

# What libpq says of a connection (PQtransactionStatus), by psycopg and psycopg2 alike.
_IDLE, _IN_TRANSACTION = 0, 2


class _Authentication:
    """An execute wrapper that sets the identity of each transaction before its first statement.

    Django opens savepoints by statements too, so the identity is set before each of them, and a rollback to a
    savepoint keeps it. Without an actor, a transaction that began before loses the identity that it has: in a TestCase
    a request without a token would act as the one before.
    """

    def __init__(self, actor: Actor | None) -> None:
        self._actor = actor
        self._is_set = False

    def __call__(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        connection = context["connection"]
        if not connection.get_autocommit():
            status = connection.connection.info.transaction_status
            # In a transaction that began before this wrapper, as in a TestCase, the identity is set once. A failed
            # transaction takes no statement but the rollback.
            if status == _IDLE or (status == _IN_TRANSACTION and not self._is_set):
                if self._actor is not None:
                    self._run(connection, *statement(self._actor, "%({})s"))
                elif status == _IN_TRANSACTION:
                    self._run(connection, "SELECT tenancy.sign_out()")
                self._is_set = True
        return execute(sql, params, many, context)

    @staticmethod
    def _run(connection: Any, *query: Any) -> None:
        # By a cursor of the driver, so that the token is not logged as a query.
        with connection.wrap_database_errors, _cursor(connection.connection) as cursor:
            cursor.execute(*query)


def _cursor(raw: Any) -> Any:
    """A cursor that binds parameters on the server where the driver can: Django's own puts them into the text."""
    if type(raw).__module__.partition(".")[0] == "psycopg":
        import psycopg

        return psycopg.Cursor(raw)
    return raw.cursor()


@contextmanager
def _acting(actor: Actor | None, databases: Sequence[str]) -> Iterator[None]:
    with ExitStack() as stack:
        for alias in databases:
            stack.enter_context(connections[alias].execute_wrapper(_Authentication(actor)))
        yield


@contextmanager
def identity(
    token: str,
    correlation_id: str | None = None,
    *,
    organization: UUID | str | None = None,
    using: str = "default",
) -> Iterator[None]:
    """One transaction (`transaction.atomic`) as the member that the token names.

    `organization` chooses among the organizations of a member of several, where the token names none.
    """
    with _acting(Member(token, correlation_id, organization), [using]), transaction.atomic(using=using):
        yield


@contextmanager
def assumed_organization(
    organization: UUID | str,
    reason: str,
    *,
    role: str | None = None,
    correlation_id: str | None = None,
    using: str = "default",
) -> Iterator[None]:
    """One transaction for an organization without a token: for tasks, whose database role is in `tenancy_operator`."""
    actor = Operator(organization, reason, role, correlation_id)
    with _acting(actor, [using]), transaction.atomic(using=using):
        yield


def bearer_token(request: HttpRequest) -> str | None:
    """The token of the header Authorization, or None."""
    header: str = request.headers.get("Authorization", "")
    scheme, _, token = header.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _request_id(request: HttpRequest) -> str | None:
    name: str | None = request.headers.get("X-Request-ID")
    return name


def _refusal(error: BaseException) -> HttpResponse | None:
    """401 or 403 for an error that the database refuses with; None for every other one."""
    status = status_of(error, 0)
    if not status:
        return None
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    return JsonResponse({"detail": {401: "Unauthorized", 403: "Forbidden"}[status]}, status=status, headers=headers)


class IdentityMiddleware:
    """Has every transaction of a request act as the member that the request's token names.

    A request without a token has no identity. What a view raises with SQLSTATE 28000 is answered with 401, 42501 with
    403, after the rollback of ATOMIC_REQUESTS. Subclass it for another source of the token, or another answer.
    """

    sync_capable = True
    # Django's connections belong to threads, so asynchronous views query in synchronous functions.
    async_capable = False

    databases: Sequence[str] = ("default",)

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def token(self, request: HttpRequest) -> str | None:
        """The token of a request, or None."""
        return bearer_token(request)

    def correlation_id(self, request: HttpRequest) -> str | None:
        """What is stored with each event of the request."""
        return _request_id(request)

    def organization(self, request: HttpRequest) -> UUID | str | None:
        """The organization that a member of several acts for, where the token names none."""
        return None

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        token = self.token(request)
        actor = None
        if token is not None:
            actor = Member(token, self.correlation_id(request), self.organization(request))
        with _acting(actor, self.databases):
            return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """The answer to an exception of a view, or None where it is not about the identity."""
        return _refusal(exception)

    def process_template_response(self, request: HttpRequest, response: Any) -> Any:
        """Renders a TemplateResponse in a transaction: Django renders it after that of ATOMIC_REQUESTS."""
        render = response.render

        def rendered(*arguments: Any, **named: Any) -> Any:
            with ExitStack() as stack:
                for alias in self.databases:
                    stack.enter_context(transaction.atomic(using=alias))
                return render(*arguments, **named)

        if not response.is_rendered:
            response.render = rendered
        return response


def with_identity(view: View) -> View:
    """Wraps a view: its transactions on the default database act as the member that the request's token names.

    For applications that have the middleware on no or on few paths. The answer to a refusal is 401 or 403, and the
    transaction of ATOMIC_REQUESTS is rolled back. For a class, use `method_decorator(with_identity, name="dispatch")`.
    """
    if inspect.iscoroutinefunction(view):
        raise ImproperlyConfigured("with_identity wraps synchronous views: use identity() where the queries are.")

    @wraps(view)
    def wrapped(*arguments: Any, **named: Any) -> HttpResponseBase:
        request = next(one for one in arguments if isinstance(one, HttpRequest))
        token = bearer_token(request)
        try:
            with _acting(None if token is None else Member(token, _request_id(request)), ["default"]):
                return view(*arguments, **named)
        except Exception as error:
            refusal = _refusal(error)
            if refusal is None:
                raise
            if transaction.get_connection().in_atomic_block:
                transaction.set_rollback(True)
            return refusal

    return wrapped  # type: ignore[return-value]


class OrgId(Func):  # type: ignore[misc, unused-ignore]
    """The organization of the transaction, in SQL: `tenancy.org_id()`."""

    function = "tenancy.org_id"
    arity = 0
    output_field = UUIDField()


class OrganizationField(UUIDField):  # type: ignore[misc, type-arg, unused-ignore]
    """The organization column of a protected table: the database fills it in, and no form shows it."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        named.setdefault("editable", False)
        named.setdefault("db_default", OrgId())
        super().__init__(*arguments, **named)
