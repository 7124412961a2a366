//! The rules: what each rule looks for, how severe a finding is, and why.

/// One rule of the advisor.
pub struct Rule {
    /// Stable identifier: decisions on findings are stored under it.
    pub id: &'static str,
    /// The severity of a finding, unless the query returns another.
    pub severity: Severity,
    /// A short title for a list of findings.
    pub title: &'static str,
    /// Why a finding leaks data, or what it costs.
    pub why: &'static str,
    /// The query that returns a row for each finding.
    ///
    /// The columns are object, detail, remediation, and the severity where it differs from the rule's. The query runs
    /// under `search_path = pg_catalog, pg_temp`, so its names are Postgres' own or have a schema.
    pub query: &'static str,
}

/// How severe a finding is; later variants are more severe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing, and often intended.
    Info,
    /// A leak that needs a further condition, or a cost.
    Warning,
    /// A way to reach rows of another organization.
    Error,
}

impl Severity {
    /// The word in SQL: `info`, `warning` or `error`.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }

    /// The severity that the word in SQL names; `None` for any other text.
    pub fn parse(name: &str) -> Option<Self> {
        [Severity::Info, Severity::Warning, Severity::Error].into_iter().find(|severity| severity.name() == name)
    }
}

macro_rules! rules {
    ($($id:ident, $severity:ident, $title:literal, $why:literal;)*) => {
        /// Every rule, by id.
        pub static RULES: &[Rule] = &[$(Rule {
            id: stringify!($id),
            severity: Severity::$severity,
            title: $title,
            why: $why,
            query: include_str!(concat!("rules/", stringify!($id), ".sql")),
        }),*];
    };
}

rules! {
    action_from_outside, Error, "Cascade from outside",
        "Referential actions run past row-level security. Whoever may change the table that is pointed at, which no \
            policy guards, changes and deletes rows of every organization.";
    application_escalates, Error, "Application with other rights",
        "Whoever gets SQL into the application gets these rights too, and none of them knows an organization.";
    bypassrls_role, Error, "Roles without policies",
        "A superuser or a role with BYPASSRLS is bound by no policy. An application that logs in as one, or can \
            become one with SET ROLE, reads every organization.";
    checkpoints_stand_still, Warning, "Checkpoints stand still",
        "Without a checkpoint that somebody else keeps, whoever rewrites every hash of a chain is not found.";
    child_table_without_column, Warning, "Child table outside",
        "Its rows belong to an organization through the row they point at, but everybody with SELECT reads all of \
            them.";
    default_privileges, Warning, "Privileges of tables to come",
        "A new table comes with rights that row-level security does not check, or that everybody has, before anybody \
            protects it.";
    drift, Error, "Protection changed by hand",
        "What tenancy.protect made is no longer as it made it: a policy, a trigger, an index, a default or a key was \
            changed or is missing.";
    event_trigger_disabled, Error, "Guard switched off",
        "The guardrails on DDL work by event triggers. Without them a migration can leave tables unprotected and \
            nobody is told.";
    foreign_key_across_tenants, Warning, "Foreign key across organizations",
        "Postgres checks foreign keys without row-level security, FORCE or not: a reference to another organization's \
            row is accepted, and tells that the row exists. Cascades delete and change rows across the border.";
    foreign_policy, Info, "Policy of other hands",
        "tenancy.protect makes the policies of a protected table. Others only narrow; a permissive one beside that of \
            tenancy.protect for the same command narrows nothing.";
    foreign_table, Error, "Foreign table",
        "Row-level security does not apply to foreign tables, and the remote server knows no tenant.";
    immutable_context_function, Error, "IMMUTABLE function in a policy",
        "The planner computes an IMMUTABLE function once. A plan that is kept answers the next organization with the \
            rows of the first.";
    index_lost_not_leakproof, Info, "Index lost under row-level security",
        "A condition may be looked at before the policy only if its operator is leakproof. Those of enum, numeric, \
            jsonb, arrays, LIKE and expressions are not, so that an index on them serves no query under row-level \
            security; 400 to 3,000 times slower was measured. A column of type text or a generated column with a \
            plain comparison, or a partial index, is used.";
    leakproof_function, Warning, "LEAKPROOF function",
        "Postgres believes the mark and calls the function on rows that the policies hide. What it raises or logs \
            tells of them.";
    materialized_view, Error, "Materialized view",
        "A materialized view has no row-level security. It holds the rows that whoever refreshed it could see.";
    missing_organization_index, Warning, "No index by organization",
        "Each query of a tenant reads the rows of all organizations and throws most of them away.";
    nullable_organization_column, Warning, "Nullable organization column",
        "A row whose organization is NULL belongs to nobody, and is seen by nobody.";
    old_transaction, Info, "Old transaction",
        "Events are sealed once their transaction is over; one that was forgotten keeps its own from it, and vacuum \
            from its work.";
    override_kept, Warning, "Reason kept for good",
        "tenancy.override_reason is for one session that somebody watches. As a default of a role or database it \
            switches the guardrails off for all of its sessions.";
    owner_is_application, Error, "Owner acts for tenants",
        "The owner of a table can switch its policies off, for one statement or for good. An application's role must \
            not own what it reads.";
    parent_unprotected, Error, "Parent outside",
        "The policies of a partition or child apply to queries that name it, not to those on the table above.";
    partition_unprotected, Error, "Partition outside",
        "Policies of a partitioned table apply to queries on it, not to those that name the partition.";
    permissive_past_tenant, Error, "Policy past the organization",
        "Permissive policies are ORed: one that does not compare the organization, or only in one branch of an OR, \
            opens the table, whatever the others say.";
    policy_casts_column, Warning, "Cast in a policy",
        "A cast of the column hides it from the index on it: every query becomes a scan of all organizations' rows.";
    policy_not_forced, Warning, "Policies not forced",
        "Without FORCE the owner of the table is bound by none of its policies: a migration, a job or an application \
            that runs as the owner sees everything.";
    policy_trusts_setting, Warning, "Policy trusts a setting",
        "Any SQL of the session can change a setting. One injection is every organization.";
    public_grant, Warning, "Rights of PUBLIC",
        "Every role of the server has them, those of other applications and those to come too.";
    publication_of_tenant_table, Warning, "Publication",
        "Logical decoding knows no row-level security. Whoever subscribes gets the rows of all organizations, if the \
            publication has no row filter.";
    references_privilege, Warning, "REFERENCES",
        "A foreign key to the table, made by whoever has REFERENCES, tells which keys exist in any organization.";
    row_security_disabled, Error, "Policies without effect",
        "The table has policies, but row-level security is not enabled: they do nothing.";
    rule_of_owner, Warning, "Rule of its owner",
        "A rule is executed with the rights of the owner of the table or view that it stands on, security_invoker or \
            not: if no policy binds the owner, it reads and changes every organization's rows.";
    schema_create_public, Warning, "CREATE for PUBLIC",
        "Whoever can create objects in a schema that is in a search_path can put a function or table of their own in \
            front of another (CVE-2018-1058).";
    sealing_stands_still, Warning, "Sealing stands still",
        "What is not sealed can vanish without a trace. It waits where nothing seals, or where something is in the \
            sealer's way.";
    security_definer_reads_tenant_table, Info, "SECURITY DEFINER on tenants' rows",
        "The function reads with the rights of its owner. If no policy binds the owner, neither does any bind the \
            caller.";
    security_definer_without_search_path, Warning, "SECURITY DEFINER without a fixed search_path",
        "The caller decides what the names in the function mean, by a search_path, a schema that anybody creates in, \
            or a temporary table, and they are executed with the owner's rights (CVE-2018-1058).";
    sequence_betrays_volume, Info, "Sequence",
        "The last value of a sequence that all organizations share tells how many rows the others add.";
    server_too_old, Error, "Old server",
        "Minor releases mend holes in row-level security; the newest known is CVE-2026-14666 (plans kept after a \
            change of role membership).";
    setting_shown_to_all, Warning, "Secret in a setting",
        "SHOW tells every role a setting, before the library is loaded also those that it hides: a command line is no \
            place for a secret.";
    several_identities, Error, "Several identities in a transaction",
        "Tests of applications keep one transaction open around several users, and need it. Elsewhere what one of \
            them read can be written as another's.";
    several_organization_columns, Info, "Several organization columns",
        "tenancy.protect takes none of them until somebody names the one that is meant.";
    statistics_granted, Warning, "Statistics of everybody",
        "Statements and counters of other sessions tell of other organizations' rows: literals, how many rows were \
            read, whether a row exists.";
    table_of_tenants, Error, "Table of tenants outside",
        "Whoever may change the rows that organizations are named by can rename one into another, whose rows it then \
            reads and writes, and delete all that belongs to it.";
    trigger_privilege, Warning, "TRIGGER",
        "A trigger sees each row that is written, with the rights of whoever writes it.";
    truncate_privilege, Warning, "TRUNCATE",
        "TRUNCATE passes row-level security by. The audit's trigger refuses it to tenants; nothing refuses it to a \
            role without a context.";
    unique_across_tenants, Warning, "Key across organizations",
        "INSERT, ON CONFLICT and MERGE tell whether a value is taken, also by another organization. For generated ids \
            (uuid, identity) that is a matter of guessing them.";
    unprotected_table, Error, "Unprotected table",
        "Whoever may read the table reads the rows of every organization.";
    view_without_security_invoker, Warning, "View of its owner",
        "A view reads with the rights of its owner: if no policy binds the owner, it shows every organization's rows \
            to whoever may read it.";
    volatile_policy, Warning, "Volatile, serial or slow policy",
        "A policy is evaluated for each row. A VOLATILE function is called each time and keeps indexes from being \
            used; one that is not PARALLEL SAFE keeps queries from running in parallel; one that takes the row's \
            columns makes every row of the table be read.";
    writers_not_slowed, Warning, "Writers not slowed",
        "Above tenancy.max_unsealed_events writers wait for the sealer, so that little can vanish before it is sealed. \
            Here they do not wait.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_stands_in_the_documentation_with_its_severity_and_reason() {
        let documentation = include_str!("../../../docs/advisor.md");
        let rows: Vec<&str> = documentation.lines().filter(|line| line.starts_with("| `")).collect();
        for rule in RULES {
            let row = format!("| `{}` | {} | {}: {} |", rule.id, rule.severity.name(), rule.title, rule.why);
            assert!(rows.contains(&row.as_str()), "docs/advisor.md lacks the row\n{row}");
        }
        assert_eq!(rows.len(), RULES.len(), "docs/advisor.md has a row that no rule stands behind");
    }

    #[test]
    fn each_rule_is_found_and_mended_by_a_suite() {
        let suites = [
            include_str!("../../../pg_test/advisor/rules.sql"),
            include_str!("../../../pg_test/advisor/policies.sql"),
            include_str!("../../../pg_test/advisor/remedies.sql"),
        ];
        // These depend on the server, on its settings or on an hour that has passed; one prints words.
        let by_others = [
            "checkpoints_stand_still",
            "old_transaction",
            "server_too_old",
            "setting_shown_to_all",
            "several_organization_columns",
            "writers_not_slowed",
        ];
        for rule in RULES.iter().filter(|rule| !by_others.contains(&rule.id)) {
            let leak = format!("    ('{}', ", rule.id);
            assert!(suites.iter().any(|suite| suite.contains(&leak)), "no suite runs what {} prints", rule.id);
        }
    }

    #[test]
    fn the_rules_are_in_order_and_each_has_a_query_of_one_statement() {
        assert!(RULES.is_sorted_by_key(|rule| rule.id));
        for rule in RULES {
            assert!(!rule.query.trim_end().ends_with(';'), "{}", rule.id);
        }
    }
}
