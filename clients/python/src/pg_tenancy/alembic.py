"""alembic: `revision --autogenerate` and `check` compare models with the tables as they were before `tenancy.protect`.

In `env.py`:

    from pg_tenancy.alembic import autogenerate_options

    context.configure(connection=connection, target_metadata=target_metadata, **autogenerate_options())

What `protect` made is read from its comments in the catalogs: indexes and unique keys are left out, a composite
foreign key shows as the plain one that the model has, and so do the default and NOT NULL of the organization column.
Everything else is compared as usual.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

from alembic.autogenerate.api import AutogenContext
from alembic.operations import ops
from alembic.runtime.migration import MigrationContext
from alembic.runtime.plugins import Plugin
from alembic.util import DispatchPriority, PriorityDispatchResult
from sqlalchemy import Column, Connection, Dialect, FetchedValue, Inspector, MetaData, text
from sqlalchemy.schema import AddConstraint

__all__ = ["allowed_by_guardrails", "autogenerate_options"]

_MADE = "Made by tenancy.protect; tenancy.unprotect takes it back. Before: "

_COMMENTS = text(
    """
    SELECT n.nspname, t.relname, CASE c.contype WHEN 'f' THEN 'foreign_key' ELSE 'key' END AS kind, c.conname AS name,
           d.description
      FROM pg_catalog.pg_constraint c
      JOIN pg_catalog.pg_class t ON t.oid = c.conrelid
      JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
      JOIN pg_catalog.pg_description d
        ON d.objoid = c.oid AND d.classoid = 'pg_catalog.pg_constraint'::pg_catalog.regclass
     WHERE c.contype IN ('f', 'u') AND starts_with(d.description, :made)
    UNION ALL
    SELECT n.nspname, t.relname, 'key', i.relname, d.description
      FROM pg_catalog.pg_index x
      JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
      JOIN pg_catalog.pg_class t ON t.oid = x.indrelid
      JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
      JOIN pg_catalog.pg_description d
        ON d.objoid = i.oid AND d.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objsubid = 0
     WHERE starts_with(d.description, :made)
    UNION ALL
    SELECT n.nspname, t.relname, 'policy', p.polname, d.description
      FROM pg_catalog.pg_policy p
      JOIN pg_catalog.pg_class t ON t.oid = p.polrelid
      JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
      JOIN pg_catalog.pg_description d
        ON d.objoid = p.oid AND d.classoid = 'pg_catalog.pg_policy'::pg_catalog.regclass
     WHERE starts_with(d.description, :made)
    """
)


@dataclass
class _Table:
    """What `protect` made on a table."""

    foreign_keys: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Foreign keys that carry the organization, by name, with what their comments say."""
    keys: set[str] = field(default_factory=set)
    """Names of indexes and unique keys."""
    policy: dict[str, Any] | None = None
    """What the comment of the isolation policy says of the table before."""


def _protected(connection: Connection) -> dict[tuple[str, str], _Table]:
    tables: dict[tuple[str, str], _Table] = {}
    for schema, name, kind, made, comment in connection.execute(_COMMENTS, {"made": _MADE}):
        try:
            before = json.loads(comment.removeprefix(_MADE))
        except ValueError:
            continue
        if not isinstance(before, dict):
            continue
        table = tables.setdefault((schema, name), _Table())
        if kind == "foreign_key":
            table.foreign_keys[made] = before
        elif kind == "key":
            table.keys.add(made)
        elif "column" in before:
            table.policy = before
            if isinstance(before.get("index"), str):
                table.keys.add(before["index"])
    return tables


def _plain(key: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """A foreign key without the pair of columns that `protect` added; another one as it is."""
    pair = (before.get("child_organization"), before.get("parent_organization"))
    pairs = list(zip(key["constrained_columns"], key["referred_columns"], strict=True))
    if len(pairs) < 2 or pair not in pairs:
        return key
    pairs.remove(pair)
    options = dict(key.get("options") or {})
    if not before.get("names_columns") and isinstance(options.get("ondelete"), str):
        # SET NULL of the plain key's columns alone needs their names in a composite key.
        options["ondelete"] = re.sub(r"^(SET NULL|SET DEFAULT)\s*\(.*\)$", r"\1", options["ondelete"])
    if before.get("match_full"):
        options["match"] = "FULL"
    return {
        **key,
        "constrained_columns": [child for child, _ in pairs],
        "referred_columns": [parent for _, parent in pairs],
        "options": options,
        "comment": before.get("comment"),
    }


ModelColumn = Callable[[str | None, str, str], Column[Any] | None]


class _Before:
    """What an inspector found, as it was before `protect`."""

    def __init__(self, connection: Connection, model_column: ModelColumn) -> None:
        self._tables = _protected(connection)
        self._default_schema = connection.dialect.default_schema_name
        self._model_column = model_column

    def _table(self, schema: str | None, name: str) -> _Table:
        return self._tables.get((schema or self._default_schema or "public", name)) or _Table()

    def foreign_keys(self, schema: str | None, name: str, keys: Iterable[Any]) -> list[Any]:
        made = self._table(schema, name).foreign_keys
        return [_plain(key, made[key["name"]]) if key["name"] in made else key for key in keys]

    def keys(self, schema: str | None, name: str, keys: Iterable[Any]) -> list[Any]:
        made = self._table(schema, name).keys
        return [key for key in keys if key["name"] not in made]

    def columns(self, schema: str | None, name: str, columns: Iterable[Any]) -> list[Any]:
        policy = self._table(schema, name).policy
        return [self._column(schema, name, column, policy) for column in columns]

    def _column(self, schema: str | None, name: str, column: Any, policy: dict[str, Any] | None) -> Any:
        if policy is None or policy.get("through") or column["name"] != policy["column"]:
            return column
        model = self._model_column(schema, name, column["name"])
        if model is None:
            return column
        column = dict(column)
        # A model that states a default is compared with that of protect.
        if model.server_default is None or type(model.server_default) is FetchedValue:
            column["default"] = policy.get("previous_default")
        if policy.get("was_nullable") and model.nullable:
            column["nullable"] = True
        return column

    def seen_by(self, inspector: Inspector) -> None:
        """Has an inspector return tables as they were."""
        changes = {
            "foreign_keys": self.foreign_keys,
            "indexes": self.keys,
            "unique_constraints": self.keys,
            "columns": self.columns,
        }
        for kind, change in changes.items():
            setattr(inspector, f"get_{kind}", _of_one(getattr(inspector, f"get_{kind}"), change))
            setattr(inspector, f"get_multi_{kind}", _of_many(getattr(inspector, f"get_multi_{kind}"), change))


def _of_one(method: Callable[..., Any], change: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    @wraps(method)
    def changed(table_name: str, schema: str | None = None, **kw: Any) -> list[Any]:
        return change(schema, table_name, method(table_name, schema=schema, **kw))

    return changed


def _of_many(method: Callable[..., Any], change: Callable[..., list[Any]]) -> Callable[..., dict[Any, list[Any]]]:
    @wraps(method)
    def changed(*arguments: Any, **kw: Any) -> dict[Any, list[Any]]:
        tables = method(*arguments, **kw)
        return {(schema, name): change(schema, name, found) for (schema, name), found in tables.items()}

    return changed


def _look_past_protection(
    context: AutogenContext, upgrade_ops: ops.UpgradeOps, schemas: set[str | None]
) -> PriorityDispatchResult:
    """A comparator that compares nothing: it has those that follow see the tables as they were."""
    connection = context.connection
    if connection is None or connection.dialect.name != "postgresql":
        return PriorityDispatchResult.CONTINUE
    # With include_schemas: the tables of the extension belong to no model.
    schemas.discard("tenancy")
    default = connection.dialect.default_schema_name
    metadata = context.metadata
    models: list[MetaData] = [metadata] if isinstance(metadata, MetaData) else list(metadata or ())

    def model_column(schema: str | None, table: str, column: str) -> Column[Any] | None:
        for model in models:
            for one in model.tables.values():
                if one.name == table and (one.schema or default) == (schema or default):
                    return one.columns.get(column)
        return None

    _Before(connection, model_column).seen_by(context.inspector)
    return PriorityDispatchResult.CONTINUE


def setup(plugin: Plugin) -> None:
    """Called by alembic: what the plugin adds to autogenerate."""
    plugin.add_autogenerate_comparator(
        _look_past_protection, "schema", "pg_tenancy", priority=DispatchPriority.FIRST
    )


Plugin.setup_plugin_from_module(sys.modules[__name__], "pg_tenancy")


def _inside(container: ops.OpContainer) -> Iterator[tuple[ops.OpContainer, ops.MigrateOperation]]:
    for op in list(container.ops):
        if isinstance(op, ops.OpContainer):
            yield from _inside(op)
        else:
            yield container, op


def _columns(op: ops.DropConstraintOp) -> set[str]:
    """The columns of a foreign key that is dropped."""
    added = op.reverse()
    return set(added.local_cols) if isinstance(added, ops.CreateForeignKeyOp) else set()


def _adjust(container: ops.OpContainer, dialect: Dialect, protected: Collection[tuple[str, str]]) -> None:
    dropped_columns: dict[tuple[str | None, str], set[str]] = {}
    for _, op in _inside(container):
        if isinstance(op, ops.DropColumnOp):
            dropped_columns.setdefault((op.schema, op.table_name), set()).add(op.column_name)
    for inside, op in _inside(container):
        if not isinstance(op, ops.DropConstraintOp) or op.constraint_type != "foreignkey":
            continue
        columns = _columns(op)
        if columns & dropped_columns.get((op.schema, op.table_name), set()):
            inside.ops.remove(op)
            continue
        if (op.schema or dialect.default_schema_name or "public", op.table_name) not in protected:
            continue
        for other, added in _inside(container):
            if (
                isinstance(added, ops.CreateForeignKeyOp)
                and (added.kw.get("source_schema"), added.source_table) == (op.schema, op.table_name)
                and set(added.local_cols) == columns
            ):
                inside.ops[inside.ops.index(op)] = ops.ExecuteSQLOp(_replaced(op, added, dialect))
                other.ops.remove(added)
                break


def _replaced(dropped: ops.DropConstraintOp, added: ops.CreateForeignKeyOp, dialect: Dialect) -> str:
    """One statement for the drop of a foreign key and the addition of another one."""
    constraint = added.to_constraint()
    table = dialect.identifier_preparer.format_table(constraint.table)
    add = str(AddConstraint(constraint).compile(dialect=dialect)).strip().removeprefix(f"ALTER TABLE {table} ")
    drop = dialect.identifier_preparer.quote(str(dropped.constraint_name))
    return f"ALTER TABLE {table} DROP CONSTRAINT {drop}, {add}"


def allowed_by_guardrails(context: MigrationContext, revision: Any, directives: list[ops.MigrationScript]) -> None:
    """Writes the changes of foreign keys as the guardrail `protected_tables` allows them.

    The guardrail refuses the drop of a foreign key that carries the organization, unless its column goes too or
    another key takes its place in one statement. So the drop of a key whose column the migration drops is left out,
    because Postgres drops it with the column; and a key that is changed is dropped and added in one statement.
    Used as `process_revision_directives`, which `autogenerate_options` does.
    """
    connection = context.connection
    if connection is None or connection.dialect.name != "postgresql":
        return
    protected = {name for name, table in _protected(connection).items() if table.policy is not None}
    for script in directives:
        for container in [*script.upgrade_ops_list, *script.downgrade_ops_list]:
            _adjust(container, connection.dialect, protected)


def autogenerate_options(
    process_revision_directives: Callable[..., None] | None = None, plugins: Iterable[str] = ("alembic.autogenerate.*",)
) -> dict[str, Any]:
    """The arguments of `context.configure` that let autogenerate look past `protect`.

    `process_revision_directives` is the application's own, which runs first; `plugins` are the other plugins.
    """

    def process(context: MigrationContext, revision: Any, directives: list[ops.MigrationScript]) -> None:
        if process_revision_directives is not None:
            process_revision_directives(context, revision, directives)
        allowed_by_guardrails(context, revision, directives)

    return {"autogenerate_plugins": [*plugins, "pg_tenancy"], "process_revision_directives": process}
