-- Which rows: row-level security and capture of the application's tables. Code: src/policy/.

CREATE FUNCTION tenancy.plan("table" regclass, organization_column text DEFAULT NULL, domain text DEFAULT NULL)
    RETURNS TABLE (step integer, sql text, why text, lock text, in_transaction boolean, state text)
    LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_plan_wrapper';
COMMENT ON FUNCTION tenancy.plan(regclass, text, text) IS
'The statements that tenancy.protect would run, without running them: what each is for, the table lock it takes, whether it may run in a
transaction, and whether it is still to do (todo) or done. Arguments and errors as tenancy.protect.';

CREATE FUNCTION tenancy.protect("table" regclass, organization_column text DEFAULT NULL, domain text DEFAULT NULL) RETURNS integer
    LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_protect_wrapper';
COMMENT ON FUNCTION tenancy.protect(regclass, text, text) IS
'Scopes a table to the organization of the transaction: forced row-level security, the column''s default, an index, audit triggers.
organization_column: by default "organizationId", organization_id, org_id or tenant_id, whichever there is; uuid, text, varchar, integer
or bigint, NOT NULL. domain: what permissions on the table are called; by default its name in snake case. Returns how many statements
it ran: 0 when all was done before. Runs with the rights of the caller, who must own the table.
Raises 42809 for views, partitioned, temporary, foreign and system tables, 42703 without an organization column, 42804 for one that cannot be used.';

CREATE FUNCTION tenancy.unprotect("table" regclass) RETURNS integer
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_unprotect_wrapper';
COMMENT ON FUNCTION tenancy.unprotect(regclass) IS
'Takes back what tenancy.protect made on a table, and only that; puts back default and row-level security as they were.
Events stay. Returns how many statements it ran: 0 for a table that is not protected.';
