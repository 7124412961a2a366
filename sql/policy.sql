-- Which rows: row-level security and capture of the application's tables. Code: src/policy/.

-- plan, protect and backfill have no search_path of their own: it is the caller's that a back-fill expression is parsed
-- under. What they run themselves names every schema.

CREATE FUNCTION tenancy.plan("table" regclass, organization_column text DEFAULT NULL, domain text DEFAULT NULL,
    null_rows text DEFAULT NULL,
        backfill text DEFAULT NULL, through text DEFAULT NULL, actions jsonb DEFAULT NULL, secret_columns text[] DEFAULT
            NULL, online boolean DEFAULT false)
    RETURNS TABLE (step integer, sql text, why text, lock text, in_transaction boolean, state text)
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_plan_wrapper';
COMMENT ON FUNCTION tenancy.plan(regclass, text, text, text, text, text, jsonb, text[], boolean) IS
'Lists the statements that tenancy.protect would run, without running them. Arguments and errors as tenancy.protect.

- step: Number of the step, in the order of execution.
- sql: The statement.
- why: Its purpose.
- lock: The table lock that it takes.
- in_transaction: Whether it can run in a transaction.
- state: todo, done, or manual for a step on two tables of which the caller owns one.

With online => true, the steps can run one by one while the application works. Indexes are built CONCURRENTLY,
constraints are added NOT VALID and validated afterwards, rows are filled in batches. Run the steps with psql''s
\gexec (SELECT sql FROM tenancy.plan(..., online => true) WHERE state = ''todo'' ORDER BY step). After an
interruption the same call lists the remaining steps.';

CREATE FUNCTION tenancy.protect("table" regclass, organization_column text DEFAULT NULL, domain text DEFAULT NULL,
    null_rows text DEFAULT NULL,
        backfill text DEFAULT NULL, through text DEFAULT NULL, actions jsonb DEFAULT NULL, secret_columns text[] DEFAULT
            NULL) RETURNS integer
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_protect_wrapper';
COMMENT ON FUNCTION tenancy.protect(regclass, text, text, text, text, text, jsonb, text[]) IS
'Restricts a table, with its partitions and inheritance children, to the organization of the context. It makes an
index, the default of the organization column, policies with forced row-level security, audit triggers, and foreign
keys that contain the organization. Rows in the table stay unchanged and are not audited. Returns how many statements
it ran: 0 if nothing was left to do.

- table: A table. Quote the name inside the literal: ''public."Invoice"''.
- organization_column: By default the column of tenancy.protect_schema, or the only one of "organizationId",
  organization_id, org_id and tenant_id.
- domain: Name of the table in permissions. By default its name in snake case.
- null_rows: The meaning of NULL in the column. shared: every organization reads the row and none writes it. nobody:
  no organization sees the row.
- backfill: An SQL expression over the table''s columns, for rows without an organization. A named column that does
  not exist is added with the type of the expression.
- through: For a table without the column: a foreign key, or its column, to a protected table. That table may itself
  be protected through another, up to six steps. A row belongs to the organization of the row at the end.
- actions: Changes that need a permission of their own, beside create or update; see below.
- secret_columns: Columns whose values the audit stores only as commitments; see below.

An argument that is not passed keeps the value of an earlier call. The organization column has the type uuid, text,
varchar, integer or bigint. It is not generated, and it is NOT NULL unless null_rows is given.

A policy with through reads the parent for each row, and the role of the context also needs read on the parent. A
column that is filled by backfill is faster: ''(SELECT p.organization_id FROM parent p WHERE p.id = parent_id)''.
Names in backfill are resolved under the search_path of the caller.

A table that the organization column references is protected too, by its key. It is left alone if it is protected or
excluded already, or if the caller does not own it.

Foreign keys between two protected tables become composite, (key, organization), with the unique key that they need,
if their columns are NOT NULL. Postgres checks foreign keys without row-level security: a plain key accepts a row of
another tenant, and ON DELETE CASCADE deletes it. ON DELETE SET NULL then names the columns to set. The key becomes
composite too where NULL means nobody on the referenced side.

A trigger checks the other foreign keys between protected tables: of a table that is protected through another, of a
table with null_rows shared, with a nullable column on the referencing side, and between organization columns of two
types. It compares the organizations of both rows. A row of another organization is refused like a missing row, with
23503. The trigger fires when the referencing row is written; it does not stop an owner who moves the referenced row
to another organization. SET CONSTRAINTS ALL defers it with a deferrable foreign key, SET CONSTRAINTS with the name
of the key does not.

Foreign keys of several columns, to a partitioned table, or between tables whose organizations are rows of two
different tables cannot be checked; tenancy.advise lists those. A foreign key that is added later is treated the same
way, by the statement that adds it.

Each of the actions has columns or states. {"approve": {"columns": ["approved_at", "approved_by"]}} applies to a
change of any of the columns. {"close": {"column": "status", "values": ["closed"]}} applies to a row that enters or
leaves one of the states. A new row counts if its value is neither NULL nor the constant default of the column.
''{}'' removes all actions.

Events hold an HMAC of a value in secret_columns, under the key of tenancy.commitment_key_file, and not the value.
''{}'' makes no column secret. Columns of the primary key and the organization column are refused. So is a column
from which a generated column is computed, unless that is secret too. Without a readable key, tenancy.protect and
every write of such a column raise F0000 (commitment_key_invalid).

The function runs with the rights of the caller, who must own the table. An error changes nothing. Raises 42501 for
another caller; 42809 for views, temporary, foreign and system tables and for a partition alone; 42703 without an
organization column, 42702 with several, 42804 for one that cannot be used; 22023 for an invalid domain or argument,
for a column other than the one protected by, and for a secret column that is refused (secret_column_invalid); 23503
if rows reference rows of another organization.';

CREATE FUNCTION tenancy.unprotect("table" regclass) RETURNS integer
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_unprotect_wrapper';
COMMENT ON FUNCTION tenancy.unprotect(regclass) IS
'Removes what tenancy.protect made on a table, and nothing else. It restores the column''s default, the foreign keys
and row-level security as they were before. A column that was added remains with its values and becomes nullable.
Events remain. Returns how many statements it ran: 0 for a table that is not protected.';

-- Steps of a plan. They run with the rights of the caller.

CREATE FUNCTION tenancy.check_references("table" regclass, name text) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_check_references_wrapper';
COMMENT ON FUNCTION tenancy.check_references(regclass, text) IS
'Searches for rows whose foreign key already references a row of another organization. For a foreign key that a
trigger checks, and for the owner of the table. It runs no SQL on the rows, so no policy hides any. Raises 23503 for
such a row, 42704 for a foreign key that no trigger checks, 42501 for another caller.';

CREATE FUNCTION tenancy.backfill("table" regclass, organization_column text, expression text, first_page bigint DEFAULT
    NULL, pages bigint DEFAULT NULL)
    RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_backfill_wrapper';
COMMENT ON FUNCTION tenancy.backfill(regclass, text, text, bigint, bigint) IS
'Sets the organization column to the expression where it is NULL, by one UPDATE as the owner of the table. Returns how
many rows it changed.

- first_page, pages: Restrict the UPDATE to a range of the table''s pages. Both or neither.

FORCE ROW LEVEL SECURITY does not apply to the tables that the statement names. Functions and triggers read under the
policies of their tables. Each call is an event of the operation override. Raises 42501 for a caller who may not act
for the owner.';

CREATE PROCEDURE tenancy.backfill_in_batches("table" regclass, organization_column text, expression text, pages integer
    DEFAULT 1000)
    LANGUAGE plpgsql AS $$
DECLARE
    total bigint;
    page bigint := 0;
    filled bigint := 0;
BEGIN
    IF "table" IS NULL OR organization_column IS NULL OR expression IS NULL OR pages IS NULL
        OR pages OPERATOR(pg_catalog.<) 1 THEN
        RAISE EXCEPTION 'no argument may be NULL, and pages must be positive' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    LOOP
        -- Rows that were added behind the end meanwhile are looked at too.
        total := pg_catalog.pg_relation_size("table") OPERATOR(pg_catalog./)
            pg_catalog.current_setting('block_size')::bigint;
        EXIT WHEN page OPERATOR(pg_catalog.>=) total;
        filled := filled OPERATOR(pg_catalog.+) tenancy.backfill("table", organization_column, expression, page, pages);
        page := page OPERATOR(pg_catalog.+) pages;
        COMMIT;
        RAISE NOTICE '% of % pages of %, % rows filled', LEAST(page, total), total, "table", filled;
    END LOOP;
END
$$;
COMMENT ON PROCEDURE tenancy.backfill_in_batches(regclass, text, text, integer) IS
'Runs tenancy.backfill over the whole table, with a transaction and a notice of the progress for each batch of pages.
A page has 8 kB. After an interruption it can be called again. It cannot run within a transaction. Raises 22023 for a
NULL argument and for pages below 1.';

CREATE FUNCTION tenancy.authorize_action() RETURNS trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_authorize_action';
COMMENT ON FUNCTION tenancy.authorize_action() IS
'Trigger function of tenancy.protect for its argument actions: raises 42501 if a change needs a permission that the
role of the context does not have. Without a context it raises 28000, unless row-level security does not apply to the
database role.';

CREATE FUNCTION tenancy.check_reference() RETURNS trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_check_reference';
COMMENT ON FUNCTION tenancy.check_reference() IS
'Trigger function of tenancy.protect for foreign keys that cannot contain the organization: raises 23503 if the
referenced row does not exist or belongs to another organization. Both errors have the same text.';
