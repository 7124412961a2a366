-- Tables that come, and protection that goes: schemas, exclusions, event triggers. Code: src/guardrail/.

CREATE FUNCTION tenancy.remember_schema(schema text, wanted boolean, organization_column text) RETURNS text
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    remembered text;
BEGIN
    PERFORM tenancy.require_argument('schema', schema);
    IF NOT wanted THEN
        DELETE FROM tenancy.protected_schema s WHERE s.schema_name = schema;
        RETURN NULL;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_namespace n WHERE n.nspname = schema)
        OR schema ~ '^(pg_|information_schema$|tenancy$)' THEN
        RAISE EXCEPTION 'there is no schema "%" to protect', schema USING ERRCODE = 'invalid_schema_name',
            HINT = 'Name a schema of the application, without quotes: tenancy.protect_schema(''public'').';
    END IF;
    INSERT INTO tenancy.protected_schema VALUES (schema, organization_column) ON CONFLICT DO NOTHING;
    UPDATE tenancy.protected_schema s SET organization_column = remember_schema.organization_column
     WHERE s.schema_name = schema AND s.organization_column IS DISTINCT FROM remember_schema.organization_column
       AND remember_schema.organization_column IS NOT NULL;
    SELECT s.organization_column INTO remembered FROM tenancy.protected_schema s WHERE s.schema_name = schema;
    RETURN remembered;
END
$$;
COMMENT ON FUNCTION tenancy.remember_schema(text, boolean, text) IS
'Internal: stores or removes the row of tenancy.protected_schema, for tenancy.protect_schema and
tenancy.unprotect_schema. Returns the organization column that is stored.';

CREATE FUNCTION tenancy.organization_columns(schema text) RETURNS TABLE (column_name text, tables bigint, known boolean)
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    WITH t AS (
        SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = schema AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
           AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid)),
    found AS (
        SELECT a.attname, lower(replace(a.attname, '_', '')) IN
                   ('organizationid', 'organisationid', 'orgid', 'tenantid', 'accountid', 'teamid', 'workspaceid',
                       'companyid', 'projectid') AS known, f.target
          FROM t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attnotnull
              AND a.attgenerated = ''
           AND a.atttypid IN ('uuid'::regtype, 'text'::regtype, 'varchar'::regtype, 'integer'::regtype,
               'bigint'::regtype)
          LEFT JOIN LATERAL (SELECT min(k.confrelid) AS target FROM pg_constraint k
                              WHERE k.conrelid = t.oid AND k.contype = 'f' AND k.conkey = ARRAY[a.attnum]) f ON true)
    SELECT x.attname::text, count(*), x.known
      FROM found x
     GROUP BY x.attname, x.known
    -- In most tables, of which that of the tenants is one that does not have it.
    HAVING count(*) * 2 > (SELECT count(*) FROM t) - 1
       AND (x.known OR count(x.target) = count(*) AND count(DISTINCT x.target) = 1 AND count(*) > 1)
     ORDER BY x.known DESC, count(*) DESC, x.attname
$$;
COMMENT ON FUNCTION tenancy.organization_columns(text) IS
'Lists columns that could name the organization of the tables of a schema. Such a column is NOT NULL in most of the
tables. Its name is a known one (organization_id, tenant_id, account_id, team_id, workspace_id, company_id,
project_id and the like), or at least two tables reference one and the same table with it. The result has the name,
the number of tables with the column, and whether the name is a known one.';

CREATE FUNCTION tenancy.protect_schema(schema text, organization_column text DEFAULT NULL) RETURNS TABLE ("table"
    regclass, steps integer, problem text)
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    usual CONSTANT name[] := ARRAY['organizationId', 'organization_id', 'org_id', 'tenant_id'];
    meant text := tenancy.remember_schema(schema, true, organization_column);
    by_use text[];
    of_use text[];
    named text;
    rows integer := 0;
    before CONSTANT oid[] := ARRAY(SELECT p."table"::oid FROM tenancy.protected_tables() p);
BEGIN
    IF meant IS NULL THEN
        SELECT array_agg(c.column_name) FILTER (WHERE c.known), array_agg(c.column_name) INTO by_use, of_use
            FROM tenancy.organization_columns(schema) c;
        IF NOT by_use && usual::text[] AND cardinality(by_use) > 1 THEN
            RAISE EXCEPTION 'tables of schema "%" have the columns %: which is the organization?', schema,
                array_to_string(by_use, ' and ')
                USING ERRCODE = 'ambiguous_column',
                HINT = format('Name the one that is meant: tenancy.protect_schema(%L, organization_column => ...).',
                    schema);
        ELSIF NOT by_use && usual::text[] THEN
            meant := tenancy.remember_schema(schema, true, by_use[1]);
        END IF;
    END IF;
    FOR "table", named IN
        SELECT c.oid, CASE WHEN p.marked THEN NULL ELSE m.attname END
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
          LEFT JOIN pg_attribute m ON m.attrelid = c.oid AND m.attname = meant AND NOT m.attisdropped
         CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM pg_policy p
                                             WHERE p.polrelid = c.oid AND p.polname = 'tenancy_isolation') AS marked) p
         WHERE n.nspname = schema AND c.relkind IN ('r', 'p', 'f')
           AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid)
           AND (m.attname IS NOT NULL OR p.marked
                OR EXISTS (SELECT FROM pg_attribute a
                            WHERE a.attrelid = c.oid AND NOT a.attisdropped AND a.attname = ANY (usual)))
         ORDER BY c.relname
    LOOP
        problem := NULL;
        steps := 0;
        rows := rows + 1;
        SELECT format('excluded: %s', e.reason) INTO problem
          FROM tenancy.exclusions() e WHERE e."table" = protect_schema."table";
        IF problem IS NULL THEN
            BEGIN
                steps := tenancy.protect("table", named);
            EXCEPTION WHEN OTHERS THEN
                problem := SQLERRM;
            END;
        END IF;
        RETURN NEXT;
    END LOOP;
    -- The table of tenants, which tenancy.protect has taken along: what the organization column points at is an
    -- organization's own row.
    FOR "table", named IN
        SELECT DISTINCT t.oid, k.attname
          FROM tenancy.protected_tables() p
          JOIN pg_class c ON c.oid = p."table"
          JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = schema
          JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = p.organization_column
          JOIN pg_constraint f ON f.conrelid = c.oid AND f.contype = 'f' AND f.conparentid = 0
           AND f.conkey = ARRAY[a.attnum]
          JOIN pg_class t ON t.oid = f.confrelid AND t.relnamespace = c.relnamespace
          JOIN pg_attribute k ON k.attrelid = t.oid AND k.attnum = f.confkey[1]
         WHERE p.through IS NULL
           AND t.oid <> ALL (before) AND p."table" <> t.oid
           AND NOT EXISTS (SELECT FROM tenancy.exclusions() e WHERE e."table" = t.oid)
    LOOP
        problem := NULL;
        steps := 0;
        rows := rows + 1;
        BEGIN
            steps := tenancy.protect("table", named);
            IF steps = 0 THEN
                SELECT count(*) INTO steps FROM tenancy.plan("table") p WHERE p.state = 'done';
            END IF;
        EXCEPTION WHEN OTHERS THEN
            problem := SQLERRM;
        END;
        RETURN NEXT;
    END LOOP;
    IF rows = 0 THEN
        "table" := NULL;
        steps := 0;
        problem := format('no table of schema "%s" has an organization column that is known%s: name it, tenancy.protect_schema(%L, organization_column => ...)',
                          schema, CASE WHEN of_use IS NULL THEN ''
                              ELSE format(' (%s is in most of them)', array_to_string(of_use, ' or ')) END, schema);
        RETURN NEXT;
    END IF;
END
$$;
COMMENT ON FUNCTION tenancy.protect_schema(text, text) IS
'Protects every table of the schema that has an organization column and is not excluded. Then it protects the table of
the schema that these columns reference, by its key. The guardrail new_tables checks tables that are added later.

- organization_column: Name of the column, stored for the schema. By default "organizationId", organization_id,
  org_id or tenant_id. If no table has one of these: the one known name that tenancy.organization_columns finds.

Returns a row for each such table with the number of statements, or the reason why it is not protected. If there is
no such table, the result is one row without a table. A table with a problem stays as it was; the others are
protected. Raises 3F000 for a schema that does not exist, 42702 if several columns are possible.';

CREATE FUNCTION tenancy.unprotect_schema(schema text) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM tenancy.remember_schema(schema, false, NULL);
END
$$;
COMMENT ON FUNCTION tenancy.unprotect_schema(text) IS
'Removes the schema from those whose new tables the guardrail new_tables checks. Protected tables stay protected; see
tenancy.unprotect.';

CREATE FUNCTION tenancy.exclude("table" regclass, reason text) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF "table" IS NULL OR reason IS NULL OR btrim(reason) = '' THEN
        RAISE EXCEPTION 'a table is excluded for a reason' USING ERRCODE = 'null_value_not_allowed',
            HINT = 'tenancy.exclude(table, reason => ...). The reason is kept, audited, and shown by tenancy.exclusions().';
    END IF;
    INSERT INTO tenancy.exclusion AS e
        SELECT n.nspname, c.relname, reason, session_user, clock_timestamp()
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.oid = "table"
        ON CONFLICT ON CONSTRAINT exclusion_pkey DO UPDATE
            SET reason = EXCLUDED.reason, changed_by = EXCLUDED.changed_by, changed_at = EXCLUDED.changed_at;
END
$$;
COMMENT ON FUNCTION tenancy.exclude(regclass, text) IS
'Marks a table with an organization column as unprotected on purpose. Guardrails and tenancy.advise() ignore such a
table. The reason is stored, and the mark is an audit event. A protected table stays protected. Raises 22004 without
a reason.';

CREATE FUNCTION tenancy.include("table" regclass) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM tenancy.exclusion e
     USING pg_class c, pg_namespace n
     WHERE c.oid = "table" AND n.oid = c.relnamespace
       AND e.schema_name = n.nspname AND e.table_name = c.relname;
END
$$;
COMMENT ON FUNCTION tenancy.include(regclass) IS
'Removes the mark of tenancy.exclude. This does not protect the table.';

CREATE FUNCTION tenancy.exclusions() RETURNS TABLE ("table" regclass, reason text, changed_by text, changed_at
    timestamptz)
    LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT c.oid::regclass, e.reason, e.changed_by, e.changed_at
      FROM tenancy.exclusion e
      JOIN pg_namespace n ON n.nspname = e.schema_name
      JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = e.table_name
$$;
COMMENT ON FUNCTION tenancy.exclusions() IS
'Lists the tables that tenancy.exclude has marked, with the reason, the database role and the time. Tables that no
longer exist are left out.';

CREATE FUNCTION tenancy.guard_ddl() RETURNS event_trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_guard_ddl';
COMMENT ON FUNCTION tenancy.guard_ddl() IS
'Event trigger function: protects new partitions of protected tables, and applies the guardrails new_tables and
protected_tables. Raises 42501 (protection_changed) and 55000 (table_unprotected) if these are enforced.';

CREATE FUNCTION tenancy.guard_drop() RETURNS event_trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_guard_drop';
COMMENT ON FUNCTION tenancy.guard_drop() IS
'Event trigger function: applies the guardrail protected_tables when a policy or trigger of tenancy.protect is dropped
without its table. Raises 42501 (protection_changed) if the guardrail is enforced.';

CREATE FUNCTION tenancy.guard_rewrite() RETURNS event_trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_guard_rewrite';
COMMENT ON FUNCTION tenancy.guard_rewrite() IS
'Event trigger function: applies the guardrail protected_tables when ALTER TABLE changes the values of a column in
every row of a protected table, by another type or USING. It writes an event of the operation rewrite with the
columns, also for new columns with a value in each row. Raises 42501 (protection_changed) if the guardrail is
enforced.';

CREATE FUNCTION tenancy.guard_start() RETURNS event_trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_guard_start';
COMMENT ON FUNCTION tenancy.guard_start() IS
'Event trigger function: loads the library before a table is created or altered, so that a new foreign key is
validated over the rows of all organizations. Raises 55000 (table_unprotected) if a role that is no member of
tenancy_admin adds a partition to a protected table, and 2BP01 (tables_protected) if the extension is to be dropped
while tables are protected.';

-- ALWAYS: session_replication_role = replica would switch them off.
CREATE EVENT TRIGGER tenancy_guard_ddl ON ddl_command_end EXECUTE FUNCTION tenancy.guard_ddl();
ALTER EVENT TRIGGER tenancy_guard_ddl ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER tenancy_guard_ddl IS 'pg_tenancy: the guardrails new_tables and protected_tables.';
CREATE EVENT TRIGGER tenancy_guard_drop ON sql_drop EXECUTE FUNCTION tenancy.guard_drop();
ALTER EVENT TRIGGER tenancy_guard_drop ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER tenancy_guard_drop IS 'pg_tenancy: the guardrail protected_tables.';
CREATE EVENT TRIGGER tenancy_guard_start ON ddl_command_start
    WHEN TAG IN ('ALTER TABLE', 'CREATE TABLE', 'DROP EXTENSION') EXECUTE FUNCTION tenancy.guard_start();
ALTER EVENT TRIGGER tenancy_guard_start ENABLE ALWAYS;
CREATE EVENT TRIGGER tenancy_guard_rewrite ON table_rewrite EXECUTE FUNCTION tenancy.guard_rewrite();
ALTER EVENT TRIGGER tenancy_guard_rewrite ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER tenancy_guard_rewrite IS 'pg_tenancy: values that ALTER TABLE changes in every row.';
COMMENT ON EVENT TRIGGER tenancy_guard_start IS 'pg_tenancy: validates new foreign keys over all organizations.';
