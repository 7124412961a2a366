\echo Use "ALTER EXTENSION pg_tenancy UPDATE" to load this file. \quit
-- From 0.1.0 to 0.2.0. CONTRIBUTING.md says how a change of sql/ gets in here, and tests/upgrade.rs what is missing.

-- As in sql/schema.sql: plain names mean those of Postgres.
SET LOCAL search_path = pg_catalog, pg_temp;

CREATE FUNCTION tenancy.drop_roles() RETURNS text[]
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    roles CONSTANT name[] := ARRAY(
        SELECT r.rolname FROM pg_roles r
         WHERE r.rolname IN ('tenancy_application', 'tenancy_admin', 'tenancy_operator', 'tenancy_auditor',
                             'tenancy_custodian', 'tenancy_trail')
         ORDER BY r.rolname);
    wanted name;
    found text;
BEGIN
    IF NOT (SELECT r.rolsuper FROM pg_roles r WHERE r.rolname = current_user) THEN
        RAISE EXCEPTION 'must be superuser to drop the roles of pg_tenancy' USING ERRCODE = 'insufficient_privilege';
    END IF;
    -- Without their grants no statement on a protected table works.
    IF EXISTS (SELECT FROM tenancy.protected_tables()) THEN
        RAISE EXCEPTION 'cannot drop the roles of pg_tenancy while tables are protected'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'SELECT tenancy.unprotect("table") FROM tenancy.protected_tables() comes first.';
    END IF;
    -- Roles belong to the cluster. Rows without a database are of shared objects, which DROP ROLE itself names.
    SELECT string_agg(DISTINCT quote_ident(d.datname), ', ') INTO found
      FROM pg_shdepend s
      JOIN pg_roles r ON r.oid = s.refobjid AND s.refclassid = 'pg_authid'::regclass
      JOIN pg_database d ON d.oid = s.dbid
     WHERE r.rolname = ANY (roles) AND d.datname <> current_database();
    IF found IS NOT NULL THEN
        RAISE EXCEPTION 'the roles of pg_tenancy are used in other databases'
            USING ERRCODE = 'dependent_objects_still_exist',
                  DETAIL = format('Databases: %s.', found),
                  HINT = 'Drop the extension and the schema tenancy there, and what was granted to its roles. The last database drops the roles.';
    END IF;
    -- DROP OWNED would drop them.
    SELECT string_agg(pg_describe_object(s.classid, s.objid, s.objsubid), ', ' ORDER BY s.classid, s.objid) INTO found
      FROM pg_shdepend s
      JOIN pg_roles r ON r.oid = s.refobjid AND s.refclassid = 'pg_authid'::regclass
     WHERE r.rolname = ANY (roles) AND s.deptype = 'o'
       AND s.dbid IN (0, (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()))
       AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = s.classid AND e.objid = s.objid AND e.deptype = 'e');
    IF found IS NOT NULL THEN
        RAISE EXCEPTION 'a role of pg_tenancy owns objects'
            USING ERRCODE = 'dependent_objects_still_exist',
                  DETAIL = format('Owned: %s.', found),
                  HINT = 'Give them another owner: REASSIGN OWNED BY ... TO ....';
    END IF;
    FOREACH wanted IN ARRAY roles LOOP
        EXECUTE format('REASSIGN OWNED BY %I TO %I', wanted, current_user);
        EXECUTE format('DROP OWNED BY %I', wanted);
        EXECUTE format('DROP ROLE %I', wanted);
    END LOOP;
    RETURN roles;
END
$$;
REVOKE ALL ON FUNCTION tenancy.drop_roles() FROM PUBLIC;
COMMENT ON FUNCTION tenancy.drop_roles() IS
'Drops the roles that CREATE EXTENSION made, and all that was granted to them in this database; returns their names.
For superusers, right before DROP EXTENSION and in the same transaction: without the roles nobody else can call a
function of the extension. Raises 42501 for others, 55000 while tables are protected, and 2BP01 while a role owns
something or another database of the server uses it.';

COMMENT ON FUNCTION tenancy.guard_start() IS
'Event trigger function: loads the library before a table is created or altered, so that a new foreign key is
validated over the rows of all organizations. Raises 55000 (table_unprotected) if a role that is no member of
tenancy_admin adds a partition to a protected table, and 2BP01 (tables_protected) if the extension is to be dropped
while tables are protected.';

DROP EVENT TRIGGER tenancy_guard_start;
CREATE EVENT TRIGGER tenancy_guard_start ON ddl_command_start
    WHEN TAG IN ('ALTER TABLE', 'CREATE TABLE', 'DROP EXTENSION') EXECUTE FUNCTION tenancy.guard_start();
ALTER EVENT TRIGGER tenancy_guard_start ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER tenancy_guard_start IS 'pg_tenancy: validates new foreign keys over all organizations.';

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
