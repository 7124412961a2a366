-- What a migration missed. Code: src/advisor/.

CREATE FUNCTION tenancy.protected_tables() RETURNS TABLE (
    "table" regclass, organization_column text, domain text, through text, null_rows text)
    LANGUAGE c STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_protected_tables_wrapper';
COMMENT ON FUNCTION tenancy.protected_tables() IS
'The tables that tenancy.protect has marked, partitions and children among them: the organization column (or the column of the foreign key
that is named by through), the domain of permissions, and what NULL means.';

CREATE FUNCTION tenancy.drift() RETURNS TABLE ("table" regclass, problem text, exposed boolean)
    LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_drift_wrapper';
COMMENT ON FUNCTION tenancy.drift() IS
'The protected tables that are not as tenancy.protect left them, and what is to be done again; exposed where row-level security or the audit has
a hole until then.';

CREATE FUNCTION tenancy.advise(minimum_severity text DEFAULT 'info')
    RETURNS TABLE (rule text, severity text, object text, detail text, why text, remediation text, key text)
    LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_advise_wrapper';
COMMENT ON FUNCTION tenancy.advise(text) IS
'Ways past the organization that the catalogs show, the worst first: a stable rule id, its severity (error, warning, info), the object, what
was found, why it leaks, and the SQL that removes it (remediation). key is the same for the same finding. Reads no rows of the application and changes
nothing. Raises 22023 for another severity.';
