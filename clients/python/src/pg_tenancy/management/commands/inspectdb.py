"""`inspectdb` for protected tables, once "pg_tenancy" is in INSTALLED_APPS: it shows them as they were before."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

from django.core.management.commands import inspectdb
from django.db import connections

# Django asks for a row of a table to learn its columns, and the policies refuse rows without an identity. They do not
# refuse a query that asks for none, and its columns are the same.
_ONE_ROW = re.compile(r"SELECT \* FROM (.+) LIMIT 1", re.DOTALL)

# The relations of a table. Of a foreign key that `protect` made composite, the pair of columns that it had before.
_RELATIONS = """
    SELECT child.attname, p.relname, parent.attname
      FROM pg_catalog.pg_constraint c
      JOIN pg_catalog.pg_class t ON t.oid = c.conrelid
      JOIN pg_catalog.pg_class p ON p.oid = c.confrelid
      LEFT JOIN pg_catalog.pg_description d
        ON d.objoid = c.oid AND d.classoid = 'pg_catalog.pg_constraint'::pg_catalog.regclass
       AND starts_with(d.description, 'Made by tenancy.protect; ')
     CROSS JOIN LATERAL ROWS FROM (unnest(c.conkey), unnest(c.confkey)) WITH ORDINALITY k (child, parent, position)
      JOIN pg_catalog.pg_attribute child ON child.attrelid = c.conrelid AND child.attnum = k.child
      JOIN pg_catalog.pg_attribute parent ON parent.attrelid = c.confrelid AND parent.attnum = k.parent
     WHERE t.relname = %s AND c.contype = 'f' AND pg_catalog.pg_table_is_visible(t.oid)
       AND CASE WHEN d.description IS NULL THEN k.position = 1
                ELSE child.attname IS DISTINCT FROM substring(d.description FROM '"child_organization":"([^"]*)"') END
"""

_KEYS = """
    SELECT c.conname
      FROM pg_catalog.pg_constraint c
      JOIN pg_catalog.pg_class t ON t.oid = c.conrelid
      JOIN pg_catalog.pg_description d
        ON d.objoid = c.oid AND d.classoid = 'pg_catalog.pg_constraint'::pg_catalog.regclass
     WHERE t.relname = %s AND c.contype = 'u' AND pg_catalog.pg_table_is_visible(t.oid)
       AND starts_with(d.description, 'Made by tenancy.protect; ')
"""


def _no_row(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
    asked = _ONE_ROW.fullmatch(sql) if isinstance(sql, str) else None
    return execute(f"SELECT * FROM {asked[1]} LIMIT 0" if asked else sql, params, many, context)


@contextmanager
def _as_before(connection: Any) -> Iterator[None]:
    """Has the introspection of a connection see tables as they were before `protect`."""
    introspection = connection.introspection
    get_constraints = introspection.get_constraints

    def relations(cursor: Any, table_name: str) -> dict[str, tuple[str, str]]:
        cursor.execute(_RELATIONS, [table_name])
        return {child: (parent, table) for child, table, parent in cursor.fetchall()}

    def constraints(cursor: Any, table_name: str) -> dict[str, Any]:
        cursor.execute(_KEYS, [table_name])
        made = {name for (name,) in cursor.fetchall()}
        return {name: one for name, one in get_constraints(cursor, table_name).items() if name not in made}

    introspection.get_relations, introspection.get_constraints = relations, constraints
    try:
        yield
    finally:
        del introspection.get_relations, introspection.get_constraints


class Command(inspectdb.Command):  # type: ignore[misc, unused-ignore]
    """Django's own command, which sees protected tables too."""

    def handle_inspection(self, options: dict[str, Any]) -> Iterator[str]:
        """The lines of the module."""
        connection = connections[options["database"]]
        with ExitStack() as stack:
            if connection.vendor == "postgresql":
                stack.enter_context(connection.execute_wrapper(_no_row))
                stack.enter_context(_as_before(connection))
            yield from stack.enter_context(closing(super().handle_inspection(options)))
