from contextlib import contextmanager


@contextmanager
def identity(pool, token, correlation_id=None):
    """One transaction as the member that the token names."""
    with pool.connection() as connection, connection.transaction():
        connection.execute("SELECT tenancy.authenticate(%s, correlation_id => %s)", (token, correlation_id))
        yield connection


def status_of(error):
    """What an API answers to a psycopg.Error: the SQLSTATE says who is to blame."""
    # 28000: no, bad or expired token; no membership. 42501: the role may not.
    return {"28000": 401, "42501": 403}.get(error.sqlstate, 500)
