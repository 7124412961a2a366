-- Tables that come, and protection that goes: schemas, exclusions, event triggers. Code: src/guardrail/.

CREATE FUNCTION tenancy.remember_schema(schema text, wanted boolean) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM tenancy.require_argument('schema', schema);
    IF NOT wanted THEN
        DELETE FROM tenancy.protected_schema s WHERE s.schema_name OPERATOR(pg_catalog.=) schema;
        RETURN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_namespace n WHERE n.nspname OPERATOR(pg_catalog.=) schema)
        OR schema OPERATOR(pg_catalog.~) '^(pg_|information_schema$|tenancy$)' THEN
        RAISE EXCEPTION 'there is no schema "%" to protect', schema USING ERRCODE = 'invalid_schema_name',
            HINT = 'Name a schema of the application, without quotes: tenancy.protect_schema(''public'').';
    END IF;
    INSERT INTO tenancy.protected_schema VALUES (schema) ON CONFLICT DO NOTHING;
END
$$;
COMMENT ON FUNCTION tenancy.remember_schema(text, boolean) IS 'For tenancy.protect_schema and tenancy.unprotect_schema.';

CREATE FUNCTION tenancy.protect_schema(schema text) RETURNS TABLE ("table" regclass, steps integer, problem text)
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM tenancy.remember_schema(schema, true);
    FOR "table" IN
        SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
         WHERE n.nspname OPERATOR(pg_catalog.=) schema AND c.relkind IN ('r', 'p', 'f')
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhrelid OPERATOR(pg_catalog.=) c.oid)
           AND (EXISTS (SELECT FROM pg_catalog.pg_attribute a
                         WHERE a.attrelid OPERATOR(pg_catalog.=) c.oid AND NOT a.attisdropped
                           AND a.attname IN ('organizationId', 'organization_id', 'org_id', 'tenant_id'))
                OR EXISTS (SELECT FROM pg_catalog.pg_policy p
                            WHERE p.polrelid OPERATOR(pg_catalog.=) c.oid AND p.polname OPERATOR(pg_catalog.=) 'tenancy_isolation'))
         ORDER BY c.relname
    LOOP
        problem := NULL;
        steps := 0;
        SELECT pg_catalog.format('excluded: %s', e.reason) INTO problem
          FROM tenancy.exclusions() e WHERE e."table" OPERATOR(pg_catalog.=) protect_schema."table";
        IF problem IS NULL THEN
            BEGIN
                steps := tenancy.protect("table");
            EXCEPTION WHEN OTHERS THEN
                problem := SQLERRM;
            END;
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;
COMMENT ON FUNCTION tenancy.protect_schema(text) IS
'Protects every table of the schema that has an organization column and is not excluded, and has the guardrail new_tables look at those that
come later. Returns, for each such table, how many statements that took, or why it is not protected. A table with a problem is left as it was,
the others are protected. Raises 3F000 for a schema that is not there.';

CREATE FUNCTION tenancy.unprotect_schema(schema text) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM tenancy.remember_schema(schema, false);
END
$$;
COMMENT ON FUNCTION tenancy.unprotect_schema(text) IS
'Has the guardrail new_tables look away from the schema. Tables that are protected stay so: tenancy.unprotect takes that back.';

CREATE FUNCTION tenancy.exclude("table" regclass, reason text) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF "table" IS NULL OR reason IS NULL OR pg_catalog.btrim(reason) OPERATOR(pg_catalog.=) '' THEN
        RAISE EXCEPTION 'a table is excluded for a reason' USING ERRCODE = 'null_value_not_allowed',
            HINT = 'tenancy.exclude(table, reason => ...). The reason is kept, audited, and shown by tenancy.exclusions().';
    END IF;
    INSERT INTO tenancy.exclusion AS e
        SELECT n.nspname, c.relname, reason, session_user, pg_catalog.clock_timestamp()
          FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
         WHERE c.oid OPERATOR(pg_catalog.=) "table"
        ON CONFLICT ON CONSTRAINT exclusion_pkey DO UPDATE
            SET reason = EXCLUDED.reason, changed_by = EXCLUDED.changed_by, changed_at = EXCLUDED.changed_at;
END
$$;
COMMENT ON FUNCTION tenancy.exclude(regclass, text) IS
'Has the guardrails and tenancy.advise() leave the table unprotected, for a reason that is kept and audited. A table that is protected stays
so. Raises 22004 without a reason.';

CREATE FUNCTION tenancy.include("table" regclass) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM tenancy.exclusion e
     USING pg_catalog.pg_class c, pg_catalog.pg_namespace n
     WHERE c.oid OPERATOR(pg_catalog.=) "table" AND n.oid OPERATOR(pg_catalog.=) c.relnamespace
       AND e.schema_name OPERATOR(pg_catalog.=) n.nspname AND e.table_name OPERATOR(pg_catalog.=) c.relname;
END
$$;
COMMENT ON FUNCTION tenancy.include(regclass) IS 'Takes tenancy.exclude back; the table is not protected by that.';

CREATE FUNCTION tenancy.exclusions() RETURNS TABLE ("table" regclass, reason text, changed_by text, changed_at timestamptz)
    LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT c.oid::regclass, e.reason, e.changed_by, e.changed_at
      FROM tenancy.exclusion e
      JOIN pg_catalog.pg_namespace n ON n.nspname OPERATOR(pg_catalog.=) e.schema_name
      JOIN pg_catalog.pg_class c ON c.relnamespace OPERATOR(pg_catalog.=) n.oid AND c.relname OPERATOR(pg_catalog.=) e.table_name
$$;
COMMENT ON FUNCTION tenancy.exclusions() IS 'The tables that are meant to stay unprotected, and why; those that are gone are not shown.';

CREATE FUNCTION tenancy.guard_ddl() RETURNS event_trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_guard_ddl';
COMMENT ON FUNCTION tenancy.guard_ddl() IS
'Event trigger: protects partitions of protected tables as they come, and acts as the guardrails new_tables and protected_tables say. Raises
42501 (protection_changed) and 55000 (table_unprotected) where they are enforced.';

CREATE FUNCTION tenancy.guard_drop() RETURNS event_trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_guard_drop';
COMMENT ON FUNCTION tenancy.guard_drop() IS
'Event trigger: acts as the guardrail protected_tables says when a policy or trigger of tenancy.protect is dropped and its table is not. Raises
42501 (protection_changed) where it is enforced.';

-- ALWAYS: session_replication_role = replica would switch them off.
CREATE EVENT TRIGGER tenancy_guard_ddl ON ddl_command_end EXECUTE FUNCTION tenancy.guard_ddl();
ALTER EVENT TRIGGER tenancy_guard_ddl ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER tenancy_guard_ddl IS 'pg_tenancy: the guardrails new_tables and protected_tables.';
CREATE EVENT TRIGGER tenancy_guard_drop ON sql_drop EXECUTE FUNCTION tenancy.guard_drop();
ALTER EVENT TRIGGER tenancy_guard_drop ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER tenancy_guard_drop IS 'pg_tenancy: the guardrail protected_tables.';
