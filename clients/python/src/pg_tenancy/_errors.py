"""What an API answers to an error of the database, whatever the error is wrapped in."""

from collections.abc import Iterator

# 28000: no, bad or expired token; no membership. 42501: the role may not.
_STATUS = {"28000": 401, "42501": 403}


def _wrapped(error: BaseException) -> Iterator[BaseException]:
    """The error and what it wraps: by `orig` in SQLAlchemy, by `raise ... from` in Django, by the parts of a group."""
    waiting, seen = [error], set()
    while waiting:
        error = waiting.pop(0)
        if id(error) in seen:
            continue
        seen.add(id(error))
        yield error
        inner = [getattr(error, "orig", None), error.__cause__]
        if isinstance(error, BaseExceptionGroup):
            inner += error.exceptions
        waiting += [one for one in inner if isinstance(one, BaseException)]


def sqlstate_of(error: BaseException) -> str | None:
    """The SQLSTATE of an error of Postgres, or None for another error.

    psycopg and asyncpg call it `sqlstate`, psycopg2 calls it `pgcode`.
    """
    for one in _wrapped(error):
        for name in ("sqlstate", "pgcode"):
            state = getattr(one, name, None)
            if isinstance(state, str):
                return state
    return None


def status_of(error: BaseException, otherwise: int = 500) -> int:
    """The HTTP status for an error: 401 for SQLSTATE 28000, 403 for 42501, `otherwise` for every other error."""
    return _STATUS.get(sqlstate_of(error) or "", otherwise)
