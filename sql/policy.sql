-- Which rows: row-level security and capture of the application's tables. Code: src/policy/.

-- plan, protect and backfill have no search_path of their own: it is the caller's that a back-fill expression is parsed under. What they run
-- themselves names every schema.

CREATE FUNCTION tenancy.plan("table" regclass, organization_column text DEFAULT NULL, domain text DEFAULT NULL, null_rows text DEFAULT NULL,
        backfill text DEFAULT NULL, through text DEFAULT NULL, actions jsonb DEFAULT NULL, secret_columns text[] DEFAULT NULL, online boolean DEFAULT false)
    RETURNS TABLE (step integer, sql text, why text, lock text, in_transaction boolean, state text)
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_plan_wrapper';
COMMENT ON FUNCTION tenancy.plan(regclass, text, text, text, text, text, jsonb, text[], boolean) IS
'The statements that tenancy.protect would run, without running them: what each is for, the table lock it takes, whether it may run in a
transaction, and its state: todo, done, or manual where the caller owns only one of two tables. With online, steps that run one by one
beside the application: indexes are built concurrently, constraints validated after they are added. Run them with psql''s \gexec
(SELECT sql FROM tenancy.plan(..., online => true) WHERE state = ''todo'' ORDER BY step); after an interruption the same call has
what is left. Other arguments and errors as tenancy.protect.';

CREATE FUNCTION tenancy.protect("table" regclass, organization_column text DEFAULT NULL, domain text DEFAULT NULL, null_rows text DEFAULT NULL,
        backfill text DEFAULT NULL, through text DEFAULT NULL, actions jsonb DEFAULT NULL, secret_columns text[] DEFAULT NULL) RETURNS integer
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_protect_wrapper';
COMMENT ON FUNCTION tenancy.protect(regclass, text, text, text, text, text, jsonb, text[]) IS
'Scopes a table, with its partitions and inheritance children, to the organization of the transaction: forced row-level security, the
column''s default, an index, audit triggers, and foreign keys to and from other protected tables that carry the organization.
organization_column: by default that of the schema, or "organizationId", organization_id, org_id or tenant_id, if there is one; uuid, text, varchar, integer
or bigint. domain: what permissions on the table are called; by default its name in snake case.
null_rows: what a NULL in the column means, shared (every organization reads the row, none writes it) or nobody (no organization sees it);
without it the column must be NOT NULL. backfill: an SQL expression over the table''s columns for rows without an organization, whose names mean what they mean under the caller''s search_path; a column
that is named and not there is added, with the type of the expression. through: a foreign key, or its column, for a table without such a
column: a row belongs to the organization of the row it points at, which may itself point on, up to six steps, and whoever reads it needs
to read those too.
actions: changes that need a permission of their own beside create or update, {"approve": {"columns": ["approved_at"]}} for a change of
columns, {"close": {"column": "status", "values": ["closed"]}} for a row that enters or leaves a state. secret_columns: columns whose values
the audit tells by keyed commitments, under the key of tenancy.commitment_key_file; {} makes none secret.
A table that the organization column points at, and that is neither protected nor excluded, is protected along by its key, where the caller owns it.
What is not named stays as an earlier call had it. Returns how many statements it ran: 0 when all was done before. Runs with the rights
of the caller, who must own the table. Raises 42809 for views, temporary, foreign and system tables and for a partition alone, 42703
without an organization column, 42702 with several, 42804 for one that cannot be used, 22023 for arguments that cannot be, F0000 for secret columns without a key.';

CREATE FUNCTION tenancy.unprotect("table" regclass) RETURNS integer
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_unprotect_wrapper';
COMMENT ON FUNCTION tenancy.unprotect(regclass) IS
'Takes back what tenancy.protect made on a table, and only that; puts back default, foreign keys and row-level security as they were.
A column that was added stays with what it holds, and may be NULL again. Events stay. Returns how many statements it ran: 0 for a table
that is not protected.';

-- Steps of a plan. They run with the rights of the caller.

CREATE FUNCTION tenancy.check_references("table" regclass, name text) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_check_references_wrapper';
COMMENT ON FUNCTION tenancy.check_references(regclass, text) IS
'Looks for rows by which a foreign key that cannot carry the organization, and that a trigger checks, leads to another organization''s row
already. For the owner of the table. Raises 23503 for such a row, 42704 for a foreign key that no trigger checks, 42501 for others.';

CREATE FUNCTION tenancy.backfill("table" regclass, organization_column text, expression text, first_page bigint DEFAULT NULL, pages bigint DEFAULT NULL)
    RETURNS bigint
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_backfill_wrapper';
COMMENT ON FUNCTION tenancy.backfill(regclass, text, text, bigint, bigint) IS
'Gives rows whose organization column is NULL the value of the expression, by one UPDATE as the owner of the table. FORCE ROW LEVEL SECURITY
does not bind it for the tables that the statement names; functions and triggers read under their tables'' policies. Each call is an event
of the operation override. Raises 42501 for a caller who may not act for the owner. first_page and pages confine it to a range of the table''s pages. Returns how many rows that were.';

CREATE PROCEDURE tenancy.backfill_in_batches("table" regclass, organization_column text, expression text, pages integer DEFAULT 1000)
    LANGUAGE plpgsql AS $$
DECLARE
    total bigint;
    page bigint := 0;
    filled bigint := 0;
BEGIN
    IF "table" IS NULL OR organization_column IS NULL OR expression IS NULL OR pages IS NULL OR pages OPERATOR(pg_catalog.<) 1 THEN
        RAISE EXCEPTION 'no argument may be NULL, and pages must be positive' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    LOOP
        -- Rows that were added behind the end meanwhile are looked at too.
        total := pg_catalog.pg_relation_size("table") OPERATOR(pg_catalog./) pg_catalog.current_setting('block_size')::bigint;
        EXIT WHEN page OPERATOR(pg_catalog.>=) total;
        filled := filled OPERATOR(pg_catalog.+) tenancy.backfill("table", organization_column, expression, page, pages);
        page := page OPERATOR(pg_catalog.+) pages;
        COMMIT;
        RAISE NOTICE '% of % pages of %, % rows filled', LEAST(page, total), total, "table", filled;
    END LOOP;
END
$$;
COMMENT ON PROCEDURE tenancy.backfill_in_batches(regclass, text, text, integer) IS
'tenancy.backfill over the whole table, a batch of pages (of 8 kB) and a transaction at a time, with a notice of the progress after each.
Interrupted, it can be called again. Cannot run within a transaction.';

CREATE FUNCTION tenancy.authorize_action() RETURNS trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_authorize_action';
COMMENT ON FUNCTION tenancy.authorize_action() IS
'Trigger of a custom action (actions of tenancy.protect): raises 42501 where a change needs a permission that the role of the context does
not have, 28000 without a context unless row-level security does not bind the database role either.';

CREATE FUNCTION tenancy.check_reference() RETURNS trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_check_reference';
COMMENT ON FUNCTION tenancy.check_reference() IS
'Trigger of a foreign key between protected tables that cannot carry the organization, because one of them has no column for it or one that
may be NULL: raises 23503 where the row pointed at is not there or belongs to another organization, in the same words.';
