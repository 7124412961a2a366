"""Who a transaction acts as, and the statements that say so."""

from dataclasses import dataclass
from uuid import UUID


class Token(str):
    """A token that logs of parameters and messages of errors show as stars."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


@dataclass(frozen=True)
class Member:
    """The member that a token names."""

    token: str
    correlation_id: str | None = None
    organization: UUID | str | None = None

    @property
    def call(self) -> tuple[str, dict[str, str | None]]:
        """The SQL, with {name} for each parameter, and the parameters."""
        sql = (
            "SELECT tenancy.authenticate({token}, organization => CAST({organization} AS uuid),"
            " correlation_id => {correlation_id})"
        )
        return sql, {
            "token": Token(self.token),
            "organization": None if self.organization is None else str(self.organization),
            "correlation_id": self.correlation_id,
        }


@dataclass(frozen=True)
class Operator:
    """A job that acts for an organization without a token."""

    organization: UUID | str
    reason: str
    role: str | None = None
    correlation_id: str | None = None

    @property
    def call(self) -> tuple[str, dict[str, str | None]]:
        """The SQL, with {name} for each parameter, and the parameters."""
        sql = (
            "SELECT tenancy.assume_organization(CAST({organization} AS uuid), {reason}, role => {role},"
            " correlation_id => {correlation_id})"
        )
        return sql, {
            "organization": str(self.organization),
            "reason": self.reason,
            "role": self.role,
            "correlation_id": self.correlation_id,
        }


Actor = Member | Operator


def statement(actor: Actor, style: str) -> tuple[str, dict[str, str | None]]:
    """The statement of an actor with parameters in the style of a driver, such as `%({})s` or `:{}`."""
    sql, parameters = actor.call
    return sql.format_map({name: style.format(name) for name in parameters}), parameters
