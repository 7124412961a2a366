import json

import psycopg
from psycopg_pool import ConnectionPool

from identity import identity, status_of

# PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE name the pooler.
pool = ConnectionPool(kwargs={"prepare_threshold": None}, min_size=1, max_size=10, open=False)
REASONS = {200: "OK", 401: "Unauthorized", 403: "Forbidden", 500: "Internal Server Error"}


def application(environ, start_response):
    token = environ.get("HTTP_AUTHORIZATION", "").removeprefix("Bearer ")
    try:
        with identity(pool, token, environ.get("HTTP_X_REQUEST_ID")) as connection:
            query = "SELECT title, total::text FROM invoice WHERE total >= %s ORDER BY id"
            status, answer = 200, connection.execute(query, (20,)).fetchall()
    except psycopg.Error as error:
        status, answer = status_of(error), REASONS[status_of(error)]
    start_response(f"{status} {REASONS[status]}", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
