//! The plan: what a table needs to be protected, as SQL that a person can read, and what of it is done already.
//!
//! Pure: facts about a table in, steps out. Identifiers arrive quoted by Postgres.

use crate::error::{self, Result};
use serde::{Deserialize, Serialize};

/// Columns that are taken for the organization when none is named, in this order.
pub const USUAL_COLUMNS: [&str; 4] = ["organizationId", "organization_id", "org_id", "tenant_id"];

/// A table's name has at most 63 bytes; in snake case it may get twice as long.
const MAX_DOMAIN_BYTES: usize = 200;

pub const ISOLATION_POLICY: &str = "tenancy_isolation";
const ROW_TRIGGER: &str = "tenancy_audit";
const TRUNCATE_TRIGGER: &str = "tenancy_audit_truncate";

/// The permissive policies.
const COMMANDS: [Command; 4] = [
    Command { policy: "tenancy_read", name: "SELECT", letter: "r", action: "read", using: true, check: false },
    Command { policy: "tenancy_create", name: "INSERT", letter: "a", action: "create", using: false, check: true },
    Command { policy: "tenancy_update", name: "UPDATE", letter: "w", action: "update", using: true, check: true },
    Command { policy: "tenancy_delete", name: "DELETE", letter: "d", action: "delete", using: true, check: false },
];

/// A command that the permission matrix decides on.
struct Command {
    policy: &'static str,
    name: &'static str,
    /// `pg_policy.polcmd`.
    letter: &'static str,
    /// What the permission matrix calls it.
    action: &'static str,
    /// Which expressions CREATE POLICY takes for it.
    using: bool,
    check: bool,
}

/// What the catalogs say of a table.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Facts {
    /// Schema and name, quoted.
    pub table: String,
    pub name: String,
    pub schema_quoted: String,
    /// `pg_class.relkind`.
    pub kind: String,
    pub temporary: bool,
    pub system: bool,
    /// Part of a partitioned table or of an inheritance tree.
    pub inherits: bool,
    pub row_security: bool,
    pub force_row_security: bool,
    pub columns: Vec<Column>,
    pub policies: Vec<Policy>,
    pub triggers: Vec<Trigger>,
    /// Usable indexes, without a predicate, by their first column.
    pub indexes: Vec<Index>,
    /// Names of relations in the table's schema that begin like the index to make.
    pub taken_names: Vec<String>,
    /// `COMMENT ON POLICY tenancy_isolation`.
    pub provenance: Option<String>,
}

impl Facts {
    /// What was there before an earlier `protect`; `None` for a table that is not protected.
    fn provenance(&self) -> Option<Provenance> {
        self.provenance.as_deref().and_then(read_provenance)
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Column {
    pub name: String,
    pub quoted: String,
    /// `format_type` without modifier.
    pub data_type: String,
    pub not_null: bool,
    pub default: Option<String>,
    pub generated: bool,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Policy {
    pub name: String,
    pub permissive: bool,
    /// `pg_policy.polcmd`: `r`, `a`, `w`, `d` or `*`.
    pub command: String,
    pub to_public: bool,
    pub using: Option<String>,
    pub check: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Trigger {
    pub name: String,
    pub definition: String,
    /// `pg_trigger.tgenabled`.
    pub enabled: String,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Index {
    pub name: String,
    pub first_column: String,
}

/// What was there before, kept as the comment of the isolation policy so that dumps carry it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    pub column: String,
    pub domain: String,
    /// The index that `protect` made; absent when there was one.
    pub index: Option<String>,
    pub previous_default: Option<String>,
    pub row_security: bool,
    pub force_row_security: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Todo,
    Done,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            State::Todo => "todo",
            State::Done => "done",
        }
    }
}

/// One statement of a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    pub sql: String,
    pub why: &'static str,
    /// The table lock that the statement takes (PostgreSQL documentation, explicit-locking).
    pub lock: &'static str,
    pub state: State,
}

const ACCESS_EXCLUSIVE: &str = "ACCESS EXCLUSIVE";
const SHARE_ROW_EXCLUSIVE: &str = "SHARE ROW EXCLUSIVE";

fn step(done: bool, lock: &'static str, why: &'static str, sql: String) -> Step {
    Step { sql, why, lock, state: if done { State::Done } else { State::Todo } }
}

/// How the organization column is compared, by its type.
struct Comparison {
    accessor: &'static str,
    /// The expression as `pg_get_expr` gives it back.
    expression: String,
}

fn comparison(column: &Column) -> Option<Comparison> {
    let quoted = &column.quoted;
    let (accessor, left) = match column.data_type.as_str() {
        "uuid" => ("tenancy.org_id()", quoted.clone()),
        "text" => ("tenancy.org_id_text()", quoted.clone()),
        "character varying" => ("tenancy.org_id_text()", format!("({quoted})::text")),
        "integer" | "bigint" => ("tenancy.org_id_bigint()", quoted.clone()),
        _ => return None,
    };
    Some(Comparison { accessor, expression: format!("({left} = {accessor})") })
}

/// The column that holds the organization: the one named, or the first of the usual ones.
pub fn organization_column<'a>(facts: &'a Facts, named: Option<&str>) -> Result<&'a Column> {
    let find = |name: &str| facts.columns.iter().find(|column| column.name == name);
    let column = match named {
        Some(name) => find(name).ok_or_else(|| format!("table {} has no column \"{name}\"", facts.table)),
        None => USUAL_COLUMNS
            .into_iter()
            .find_map(find)
            .ok_or_else(|| format!("table {} has no organization column", facts.table)),
    };
    let column = column.map_err(|message| {
        let looked_for = format!("Looked for: {}.", named.unwrap_or(&USUAL_COLUMNS.join(", ")));
        error::COLUMN_MISSING.because(message).detail(looked_for)
    })?;
    let unsuitable = |what: String| Err(error::COLUMN_UNSUITABLE.because(what));
    let Column { name, data_type, .. } = column;
    if comparison(column).is_none() {
        return unsuitable(format!("column \"{name}\" of {} is of type {data_type}", facts.table));
    }
    if !column.not_null {
        return unsuitable(format!(
            "column \"{name}\" of {} may be NULL: such a row would belong to nobody",
            facts.table
        ));
    }
    if column.generated {
        return unsuitable(format!("column \"{name}\" of {} is generated and cannot have a default", facts.table));
    }
    Ok(column)
}

/// Refuses relations that row-level security and row triggers do not fit.
pub fn check_kind(facts: &Facts) -> Result<()> {
    let what = match facts.kind.as_str() {
        _ if facts.system => "a system table",
        "r" if facts.temporary => "a temporary table",
        "r" if facts.inherits => "part of a partitioned table or of an inheritance tree",
        "r" => return Ok(()),
        "p" => "a partitioned table",
        "v" => "a view",
        "m" => "a materialized view",
        "f" => "a foreign table",
        _ => "not a table",
    };
    Err(error::TABLE_UNSUITABLE.because(format!("{} is {what}", facts.table)))
}

/// The domain that a table's permissions are asked in when none is named: its name in snake case.
pub fn usual_domain(table: &str) -> String {
    let mut domain = String::with_capacity(table.len() + 4);
    let mut before_is_lower = false;
    for character in table.chars() {
        if character.is_uppercase() && before_is_lower {
            domain.push('_');
        }
        before_is_lower = character.is_lowercase() || character.is_ascii_digit();
        domain.extend(character.to_lowercase());
    }
    domain
}

/// A text as an SQL literal; text with a backslash is refused before it comes here.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The steps that protect a table, in the order in which they are safe to run one by one.
pub fn protect(facts: &Facts, named_column: Option<&str>, named_domain: Option<&str>) -> Result<Vec<Step>> {
    check_kind(facts)?;
    let earlier = facts.provenance();
    let column = organization_column(facts, named_column.or(earlier.as_ref().map(|earlier| earlier.column.as_str())))?;
    if let Some(earlier) = earlier.as_ref().filter(|earlier| earlier.column != column.name) {
        let message = format!("{} is protected by column \"{}\" already", facts.table, earlier.column);
        return Err(error::ARGUMENT_INVALID
            .because(message)
            .detail("Call tenancy.unprotect first to change the column."));
    }
    let Some(comparison) = comparison(column) else { return Ok(Vec::new()) };
    let domain = named_domain.or(earlier.as_ref().map(|earlier| earlier.domain.as_str()));
    let domain = domain.map_or_else(|| usual_domain(&facts.name), str::to_owned);
    if domain.is_empty()
        || domain.len() > MAX_DOMAIN_BYTES
        || domain.contains(['\\', '*'])
        || domain.chars().any(char::is_control)
    {
        return Err(error::ARGUMENT_INVALID.because("the domain must be a name of at most 200 bytes without * and \\"));
    }
    if column.name.contains('\\') {
        return Err(error::COLUMN_UNSUITABLE.because("the name of the organization column holds a backslash"));
    }
    let table = &facts.table;
    let (index, index_step) = index_step(facts, column);
    let default_step = step(
        column.default.as_deref() == Some(comparison.accessor),
        ACCESS_EXCLUSIVE,
        "A row gets the organization of the transaction that writes it.",
        format!("ALTER TABLE {table} ALTER COLUMN {} SET DEFAULT {}", column.quoted, comparison.accessor),
    );
    let mut steps = vec![index_step, default_step];
    let policies = policy_steps(facts, &comparison.expression, &domain);
    let isolation_done = policies.first().is_some_and(|isolation| isolation.state == State::Done);
    steps.extend(policies);
    steps.push(step(
        facts.row_security,
        ACCESS_EXCLUSIVE,
        "From here on the policies apply.",
        format!("ALTER TABLE {table} ENABLE ROW LEVEL SECURITY"),
    ));
    steps.push(step(
        facts.force_row_security,
        ACCESS_EXCLUSIVE,
        "They apply to the owner of the table too.",
        format!("ALTER TABLE {table} FORCE ROW LEVEL SECURITY"),
    ));
    steps.extend(trigger_steps(facts, &column.name, &domain));
    steps.push(provenance_step(facts, column, &domain, index, isolation_done));
    Ok(steps)
}

/// The index by organization, and its name if it is for `protect` to make.
fn index_step(facts: &Facts, column: &Column) -> (Option<String>, Step) {
    let previous = facts.provenance().and_then(|provenance| provenance.index);
    let existing = facts.indexes.iter().find(|index| index.first_column == column.name);
    let own = previous.filter(|name| facts.indexes.iter().any(|index| index.name == *name));
    let wanted = own.clone().unwrap_or_else(|| index_name(facts));
    let name = if existing.is_some() { own } else { Some(wanted.clone()) };
    let sql = format!("CREATE INDEX {} ON {} ({})", quote_generated(&wanted), facts.table, column.quoted);
    (name, step(existing.is_some(), "SHARE", "A tenant's rows are found without reading the others'.", sql))
}

/// Postgres cuts identifiers at 63 bytes.
fn index_name(facts: &Facts) -> String {
    let stem: String = facts
        .name
        .chars()
        .scan(0, |bytes, c| {
            *bytes += c.len_utf8();
            (*bytes <= 40).then_some(c)
        })
        .collect();
    let free = |name: &String| !facts.taken_names.contains(name);
    let plain = format!("{stem}_tenancy_idx");
    if free(&plain) {
        return plain;
    }
    (1..).map(|n| format!("{stem}_tenancy_idx{n}")).find(free).unwrap_or(plain)
}

/// A generated name may hold capitals, so it is always quoted.
fn quote_generated(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn policy_steps(facts: &Facts, isolation: &str, domain: &str) -> Vec<Step> {
    let mut steps = vec![policy_step(
        facts,
        ISOLATION_POLICY,
        ("AS RESTRICTIVE FOR ALL", "*"),
        "Restrictive, so that no policy added later can open the table past the organization.",
        (Some(isolation.to_owned()), Some(isolation.to_owned())),
    )];
    for command in COMMANDS {
        let authorize = format!("tenancy.authorize({}::text, {}::text)", literal(domain), literal(command.action));
        let clause = format!("AS PERMISSIVE FOR {}", command.name);
        let why = "The role needs the permission; without it the statement fails and says so.";
        let expressions = (command.using.then(|| authorize.clone()), command.check.then_some(authorize));
        steps.push(policy_step(facts, command.policy, (&clause, command.letter), why, expressions));
    }
    steps
}

fn policy_step(
    facts: &Facts,
    name: &str,
    (clause, letter): (&str, &str),
    why: &'static str,
    (using, check): (Option<String>, Option<String>),
) -> Step {
    let wanted = Policy {
        name: name.to_owned(),
        permissive: clause.starts_with("AS PERMISSIVE"),
        command: letter.to_owned(),
        to_public: true,
        using,
        check,
    };
    let existing = facts.policies.iter().find(|policy| policy.name == name);
    let table = &facts.table;
    let mut sql = String::new();
    if existing.is_some_and(|policy| *policy != wanted) {
        sql.push_str(&format!("DROP POLICY {name} ON {table}; "));
    }
    sql.push_str(&format!("CREATE POLICY {name} ON {table} {clause} TO PUBLIC"));
    if let Some(using) = &wanted.using {
        sql.push_str(&format!(" USING ({using})"));
    }
    if let Some(check) = &wanted.check {
        sql.push_str(&format!(" WITH CHECK ({check})"));
    }
    step(existing == Some(&wanted), ACCESS_EXCLUSIVE, why, sql)
}

fn trigger_steps(facts: &Facts, column: &str, domain: &str) -> Vec<Step> {
    let table = &facts.table;
    let arguments = format!("({}, {})", literal(column), literal(domain));
    let triggers = [
        (
            ROW_TRIGGER,
            // In the words and the order of pg_get_triggerdef, so that the definition can be compared.
            format!(
                "CREATE TRIGGER {ROW_TRIGGER} AFTER INSERT OR DELETE OR UPDATE ON {table} FOR EACH ROW \
                 EXECUTE FUNCTION tenancy.audit_row{arguments}"
            ),
            "Every change of a row writes a hash-chained event in the same transaction.",
        ),
        (
            TRUNCATE_TRIGGER,
            format!(
                "CREATE TRIGGER {TRUNCATE_TRIGGER} BEFORE TRUNCATE ON {table} FOR EACH STATEMENT \
                 EXECUTE FUNCTION tenancy.audit_truncate{arguments}"
            ),
            "TRUNCATE passes row-level security by: tenants are refused it, others are recorded.",
        ),
    ];
    let mut steps = Vec::new();
    for (name, definition, why) in triggers {
        let existing = facts.triggers.iter().find(|trigger| trigger.name == name);
        let same = existing.is_some_and(|trigger| trigger.definition == definition);
        let replace =
            if existing.is_some() && !same { format!("DROP TRIGGER {name} ON {table}; ") } else { String::new() };
        steps.push(step(same, SHARE_ROW_EXCLUSIVE, why, format!("{replace}{definition}")));
        steps.push(step(
            same && existing.is_some_and(|trigger| trigger.enabled == "A"),
            SHARE_ROW_EXCLUSIVE,
            "It fires under session_replication_role = replica too.",
            format!("ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}"),
        ));
    }
    steps
}

/// The comment goes with the isolation policy: where that is made anew, so is the comment.
fn provenance_step(facts: &Facts, column: &Column, domain: &str, index: Option<String>, isolation_done: bool) -> Step {
    // Somebody dropped the isolation policy, and the comment with it: what stands there is our own work.
    let accessor = comparison(column).map(|comparison| comparison.accessor);
    let half_protected =
        facts.policies.iter().any(is_generated) || facts.triggers.iter().any(|t| t.name == ROW_TRIGGER);
    let provenance = match facts.provenance() {
        Some(earlier) => Provenance { domain: domain.to_owned(), index, ..earlier },
        None => Provenance {
            column: column.name.clone(),
            domain: domain.to_owned(),
            index,
            previous_default: column.default.clone().filter(|default| Some(default.as_str()) != accessor),
            row_security: facts.row_security && !half_protected,
            force_row_security: facts.force_row_security && !half_protected,
        },
    };
    let comment = write_provenance(&provenance);
    step(
        isolation_done && facts.provenance.as_deref() == Some(&comment),
        "SHARE UPDATE EXCLUSIVE",
        "Remembers what was there before, for tenancy.unprotect.",
        format!("COMMENT ON POLICY {ISOLATION_POLICY} ON {} IS {}", facts.table, quoted_text(&comment)),
    )
}

/// True for a policy of a name that `protect` gives.
fn is_generated(policy: &Policy) -> bool {
    policy.name == ISOLATION_POLICY || COMMANDS.iter().any(|command| command.policy == policy.name)
}

const PROVENANCE_INTRODUCTION: &str = "Made by tenancy.protect; tenancy.unprotect takes it back. Before: ";

fn write_provenance(provenance: &Provenance) -> String {
    // Strings and booleans always serialize.
    format!("{PROVENANCE_INTRODUCTION}{}", serde_json::to_string(provenance).unwrap_or_default())
}

fn read_provenance(comment: &str) -> Option<Provenance> {
    serde_json::from_str(comment.strip_prefix(PROVENANCE_INTRODUCTION)?).ok()
}

/// A text as an SQL literal that may hold backslashes, as `quote_literal` writes it.
fn quoted_text(text: &str) -> String {
    let doubled = text.replace('\\', "\\\\").replace('\'', "''");
    if text.contains('\\') { format!("E'{doubled}'") } else { format!("'{doubled}'") }
}

/// The steps that take back what `protect` made; none for a table that was never protected.
pub fn unprotect(facts: &Facts) -> Result<Vec<Step>> {
    check_kind(facts)?;
    let table = &facts.table;
    let mut steps = Vec::new();
    let mut undo = |lock, sql| steps.push(step(false, lock, "Takes back what tenancy.protect made.", sql));
    for trigger in
        facts.triggers.iter().filter(|trigger| [ROW_TRIGGER, TRUNCATE_TRIGGER].contains(&trigger.name.as_str()))
    {
        undo(ACCESS_EXCLUSIVE, format!("DROP TRIGGER {} ON {table}", trigger.name));
    }
    for policy in facts.policies.iter().filter(|policy| is_generated(policy)) {
        undo(ACCESS_EXCLUSIVE, format!("DROP POLICY {} ON {table}", policy.name));
    }
    let Some(before) = facts.provenance() else { return Ok(steps) };
    if facts.force_row_security && !before.force_row_security {
        undo(ACCESS_EXCLUSIVE, format!("ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY"));
    }
    if facts.row_security && !before.row_security {
        undo(ACCESS_EXCLUSIVE, format!("ALTER TABLE {table} DISABLE ROW LEVEL SECURITY"));
    }
    if let Some(column) = facts.columns.iter().find(|column| column.name == before.column) {
        let ours = comparison(column).is_some_and(|comparison| column.default.as_deref() == Some(comparison.accessor));
        if ours {
            let change =
                before.previous_default.as_ref().map_or("DROP DEFAULT".into(), |sql| format!("SET DEFAULT {sql}"));
            undo(ACCESS_EXCLUSIVE, format!("ALTER TABLE {table} ALTER COLUMN {} {change}", column.quoted));
        }
    }
    if let Some(index) = before.index.filter(|name| facts.indexes.iter().any(|index| index.name == *name)) {
        undo(ACCESS_EXCLUSIVE, format!("DROP INDEX {}.{}", facts.schema_quoted, quote_generated(&index)));
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, data_type: &str) -> Column {
        let quoted = if name.chars().any(char::is_uppercase) { format!("\"{name}\"") } else { name.to_owned() };
        Column {
            name: name.into(),
            quoted,
            data_type: data_type.into(),
            not_null: true,
            default: None,
            generated: false,
        }
    }

    fn facts(columns: Vec<Column>) -> Facts {
        Facts {
            table: "public.\"CloudAccount\"".into(),
            name: "CloudAccount".into(),
            schema_quoted: "public".into(),
            kind: "r".into(),
            temporary: false,
            system: false,
            inherits: false,
            row_security: false,
            force_row_security: false,
            columns,
            policies: Vec::new(),
            triggers: Vec::new(),
            indexes: Vec::new(),
            taken_names: Vec::new(),
            provenance: None,
        }
    }

    fn plan_of(facts: &Facts) -> Vec<Step> {
        protect(facts, None, None).unwrap()
    }

    /// What was there before a `protect` of a table that had row-level security already.
    fn earlier() -> Provenance {
        Provenance {
            column: "org_id".into(),
            domain: "account".into(),
            index: None,
            previous_default: Some("gen_random_uuid()".into()),
            row_security: true,
            force_row_security: false,
        }
    }

    fn refusal(facts: &Facts, column: Option<&str>) -> &'static str {
        protect(facts, column, None).unwrap_err().kind.name
    }

    #[test]
    fn the_organization_column_is_the_first_of_the_usual_ones_or_the_one_named() {
        let both = facts(vec![column("tenant_id", "uuid"), column("organizationId", "uuid"), column("owner", "uuid")]);
        assert_eq!(organization_column(&both, None).unwrap().name, "organizationId");
        assert_eq!(organization_column(&both, Some("owner")).unwrap().name, "owner");
    }

    #[test]
    fn a_column_that_cannot_hold_an_organization_is_refused() {
        assert_eq!(refusal(&facts(vec![column("id", "uuid")]), None), "COLUMN_MISSING");
        assert_eq!(refusal(&facts(vec![column("org_id", "uuid")]), Some("nobody")), "COLUMN_MISSING");
        assert_eq!(refusal(&facts(vec![column("org_id", "jsonb")]), None), "COLUMN_UNSUITABLE");
        let nullable = Column { not_null: false, ..column("org_id", "uuid") };
        assert_eq!(refusal(&facts(vec![nullable]), None), "COLUMN_UNSUITABLE");
        let generated = Column { generated: true, ..column("org_id", "uuid") };
        assert_eq!(refusal(&facts(vec![generated]), None), "COLUMN_UNSUITABLE");
    }

    #[test]
    fn what_is_no_ordinary_table_is_refused() {
        let table = facts(vec![column("org_id", "uuid")]);
        for kind in ["v", "m", "p", "f", "S"] {
            assert_eq!(refusal(&Facts { kind: kind.into(), ..table.clone() }, None), "TABLE_UNSUITABLE", "{kind}");
        }
        assert_eq!(refusal(&Facts { temporary: true, ..table.clone() }, None), "TABLE_UNSUITABLE");
        assert_eq!(refusal(&Facts { system: true, ..table.clone() }, None), "TABLE_UNSUITABLE");
        assert_eq!(refusal(&Facts { inherits: true, ..table }, None), "TABLE_UNSUITABLE");
    }

    #[test]
    fn the_isolation_is_restrictive_and_compares_by_the_columns_type() {
        for (data_type, expression) in [
            ("uuid", "(org_id = tenancy.org_id())"),
            ("text", "(org_id = tenancy.org_id_text())"),
            ("character varying", "((org_id)::text = tenancy.org_id_text())"),
            ("integer", "(org_id = tenancy.org_id_bigint())"),
            ("bigint", "(org_id = tenancy.org_id_bigint())"),
        ] {
            let steps = plan_of(&facts(vec![column("org_id", data_type)]));
            let wanted = format!("AS RESTRICTIVE FOR ALL TO PUBLIC USING ({expression}) WITH CHECK ({expression})");
            assert!(steps.iter().any(|step| step.sql.ends_with(&wanted)), "{data_type}");
        }
    }

    #[test]
    fn every_step_of_an_untouched_table_is_to_do() {
        let steps = plan_of(&facts(vec![column("organizationId", "uuid")]));
        assert!(steps.iter().all(|step| step.state == State::Todo));
        assert!(steps.iter().any(|step| step.sql.contains("('organizationId', 'cloud_account')")));
    }

    #[test]
    fn a_policy_changed_by_hand_is_made_anew() {
        let mut table = facts(vec![column("org_id", "uuid")]);
        table.policies.push(Policy {
            name: ISOLATION_POLICY.into(),
            permissive: false,
            command: "*".into(),
            to_public: true,
            using: Some("true".into()),
            check: None,
        });
        let steps = plan_of(&table);
        let step = steps.iter().find(|step| step.sql.contains(ISOLATION_POLICY)).unwrap();
        assert!(step.sql.starts_with("DROP POLICY tenancy_isolation ON") && step.state == State::Todo);
    }

    #[test]
    fn an_index_of_the_user_serves_and_is_not_taken_away() {
        let mut table = facts(vec![column("org_id", "uuid")]);
        table.indexes.push(Index { name: "theirs".into(), first_column: "org_id".into() });
        let steps = plan_of(&table);
        assert_eq!(steps[0].state, State::Done);
        assert!(steps.last().unwrap().sql.contains("\"index\":null"));
    }

    #[test]
    fn the_name_of_the_index_avoids_those_that_are_taken() {
        let mut table = facts(vec![column("org_id", "uuid")]);
        table.taken_names = vec!["CloudAccount_tenancy_idx".into(), "CloudAccount_tenancy_idx1".into()];
        assert!(plan_of(&table)[0].sql.contains("\"CloudAccount_tenancy_idx2\""));
        table.name = "ž".repeat(60);
        assert!(index_name(&table).len() <= 63);
    }

    #[test]
    fn a_protected_table_cannot_change_its_column_but_keeps_its_domain() {
        let mut table = facts(vec![column("org_id", "uuid"), column("tenant_id", "uuid")]);
        table.provenance = Some(write_provenance(&earlier()));
        assert_eq!(refusal(&table, Some("tenant_id")), "ARGUMENT_INVALID");
        assert!(plan_of(&table).iter().any(|step| step.sql.contains("'account'::text")));
    }

    #[test]
    fn unprotect_puts_back_what_was_there_before() {
        let mut table = facts(vec![Column { default: Some("tenancy.org_id()".into()), ..column("org_id", "uuid") }]);
        assert_eq!(unprotect(&table).unwrap(), []);
        table.row_security = true;
        table.force_row_security = true;
        table.provenance = Some(write_provenance(&earlier()));
        let sql: Vec<String> = unprotect(&table).unwrap().into_iter().map(|step| step.sql).collect();
        let table = "ALTER TABLE public.\"CloudAccount\"";
        assert_eq!(
            sql,
            [
                format!("{table} NO FORCE ROW LEVEL SECURITY"),
                format!("{table} ALTER COLUMN org_id SET DEFAULT gen_random_uuid()"),
            ]
        );
    }

    #[test]
    fn a_domain_is_the_tables_name_in_snake_case() {
        for (table, domain) in [
            ("Invoice", "invoice"),
            ("CloudAccount", "cloud_account"),
            ("finding", "finding"),
            ("HTTPLog2Day", "httplog2_day"),
        ] {
            assert_eq!(usual_domain(table), domain);
        }
    }

    #[test]
    fn a_provenance_with_quotes_and_backslashes_survives_the_comment() {
        let comment = "it's \\ \"odd\"";
        assert_eq!(quoted_text(comment), "E'it''s \\\\ \"odd\"'");
    }
}
