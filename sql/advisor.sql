-- What a migration missed. Code: src/advisor/.

CREATE FUNCTION tenancy.protected_tables() RETURNS TABLE (
    "table" regclass, organization_column text, domain text, through text, null_rows text)
    LANGUAGE c STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_protected_tables_wrapper';
COMMENT ON FUNCTION tenancy.protected_tables() IS
'Lists the tables that tenancy.protect has protected, partitions and children included. The result has the
organization column, the domain of permissions, and the meaning of NULL. For a table that is protected through a
foreign key, organization_column is the column of that key.';

CREATE FUNCTION tenancy.drift() RETURNS TABLE ("table" regclass, problem text, exposed boolean)
    LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_drift_wrapper';
COMMENT ON FUNCTION tenancy.drift() IS
'Lists the protected tables that differ from what tenancy.protect made, with the difference. The column exposed is
true if row-level security or the audit of the table has a gap until tenancy.protect is called again.';

CREATE FUNCTION tenancy.advise(minimum_severity text DEFAULT 'info')
    RETURNS TABLE (rule text, severity text, object text, detail text, why text, remediation text, key text)
    LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'tenancy_advise_wrapper';
COMMENT ON FUNCTION tenancy.advise(text) IS
'Lists ways around the isolation of organizations that the catalogs show, the worst first. It reads no rows of the
application and changes nothing.

- rule: Stable id of the rule.
- severity: error, warning or info. Findings below minimum_severity are left out.
- object: The object that the finding is about.
- detail: What was found.
- why: How it can leak data.
- remediation: The SQL that removes the problem.
- key: The same for the same finding in every call.

Raises 22023 for another severity.';
