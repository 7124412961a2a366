"""Glue for pg_tenancy, the Postgres extension for multi-tenant security.

Each module stands for a tool and imports that tool alone: `pg_tenancy.psycopg`, `pg_tenancy.sqlalchemy`,
`pg_tenancy.alembic`, `pg_tenancy.django`, `pg_tenancy.fastapi`, and `pg_tenancy.testing` for tests.
"""

from pg_tenancy._errors import sqlstate_of, status_of

__all__ = ["sqlstate_of", "status_of"]
