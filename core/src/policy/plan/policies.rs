//! The policies: restrictive ones for isolation and permissions, and permissive ones that admit rows.
//!
//! Decision: `docs/decisions/18-restrictive-policies.md`.

use super::target::{Parent, Scope, Target, Way};
use super::{ACCESS_EXCLUSIVE, Step};
use crate::policy::facts::{Facts, Policy};
use crate::policy::options::NullRows;
use crate::policy::text::on_one_line;

/// Name of the restrictive policy for SELECT, whose comment records how the table is protected.
pub const ISOLATION: &str = "tenancy_isolation";
/// The temporary name of [`ISOLATION`] while its replacement is created, so that rows always have a policy.
const BEFORE: &str = "tenancy_isolation_before";

/// The condition of the permissive policies, which admits every row.
///
/// The planner recognizes that the condition is true. It names a function of the extension, so that dropping the
/// extension drops the policy too, as it does the restrictive ones. A formerly protected table then shows no rows.
const EVERY_ROW: &str = "('tenancy.org_id(text,text)'::regprocedure IS NOT NULL)";

const ISOLATES: &str =
    "Restrictive, so that no policy added later can open the table past the organization or past what the role may do.";
const PERMITS: &str =
    "Row-level security shows nothing without a permissive policy, and the table has no other one for this command.";
const REPLACED: &str = "It stays until the policy that replaces it is there.";
const LEFT_OVER: &str = "The table is protected in another way now.";
const THEIRS: &str = "The table has a permissive policy of its own for this command, which this one would widen.";

/// A command with the policies for it.
#[derive(Clone, Copy)]
struct Command {
    /// Name of the restrictive policy, which isolates.
    isolates: &'static str,
    /// Name of the permissive policy, for a table that has none of its own for the command.
    permits: &'static str,
    /// The command in SQL.
    name: &'static str,
    /// `pg_policy.polcmd`.
    letter: &'static str,
    /// The action in the permission matrix.
    action: &'static str,
    /// Whether CREATE POLICY accepts a USING expression for the command.
    using: bool,
    /// Whether CREATE POLICY accepts a WITH CHECK expression for the command.
    check: bool,
}

const COMMANDS: [Command; 4] = [
    Command {
        permits: "tenancy_read",
        isolates: ISOLATION,
        name: "SELECT",
        letter: "r",
        action: "read",
        using: true,
        check: false,
    },
    Command {
        permits: "tenancy_create",
        isolates: "tenancy_isolation_create",
        name: "INSERT",
        letter: "a",
        action: "create",
        using: false,
        check: true,
    },
    Command {
        permits: "tenancy_update",
        isolates: "tenancy_isolation_update",
        name: "UPDATE",
        letter: "w",
        action: "update",
        using: true,
        check: true,
    },
    Command {
        permits: "tenancy_delete",
        isolates: "tenancy_isolation_delete",
        name: "DELETE",
        letter: "d",
        action: "delete",
        using: true,
        check: false,
    },
];

/// Whether the policy has a name that `protect` generates.
pub fn is_generated(policy: &Policy) -> bool {
    is_generated_name(&policy.name)
}

/// Whether the policy has a generated name and also calls a function of the extension.
///
/// The name alone is no proof, because anybody can choose it.
pub fn is_ours(policy: &Policy) -> bool {
    is_generated(policy) && [&policy.using, &policy.check].into_iter().flatten().any(|text| text.contains("tenancy."))
}

/// Whether `protect` generates policies of this name.
pub fn is_generated_name(name: &str) -> bool {
    name == BEFORE || COMMANDS.iter().any(|command| [command.permits, command.isolates].contains(&name))
}

/// The steps for the required policies, that of [`ISOLATION`] first.
pub fn steps(facts: &Facts, target: &Target) -> Vec<Step> {
    let mut steps = Vec::new();
    for policy in wanted(facts, target) {
        let why = if policy.permissive { PERMITS } else { ISOLATES };
        let existing = facts.policies.iter().find(|existing| existing.name == policy.name);
        let step = |why, sql| Step::new(false, ACCESS_EXCLUSIVE, why, sql);
        let wanted = match existing {
            Some(existing) if same(existing, &policy) => {
                vec![Step::new(true, ACCESS_EXCLUSIVE, why, create(&facts.table, &policy))]
            }
            Some(existing) if existing.command == policy.command && existing.permissive == policy.permissive => {
                vec![step(why, alter(&facts.table, &policy))]
            }
            Some(existing) => {
                vec![step(REPLACED, put_aside(facts, existing)), step(why, create(&facts.table, &policy))]
            }
            None => vec![step(why, create(&facts.table, &policy))],
        };
        // Rows that another policy lets through as well are not hidden.
        let hides = policy.permissive && existing.is_none() && lets_through(facts, &policy.command);
        steps.extend(wanted.into_iter().map(|step| if hides { step } else { step.closing() }));
    }
    steps
}

/// The steps that drop policies of an earlier form of protection.
///
/// A policy of an earlier form only narrows access, so these steps may run last.
pub fn left_over(facts: &Facts, target: &Target) -> Vec<Step> {
    let wanted = wanted(facts, target);
    let replaced = steps(facts, target).iter().any(|step| step.sql.ends_with(BEFORE));
    let unwanted =
        facts.policies.iter().filter(|policy| is_generated(policy) && !wanted.iter().any(|w| w.name == policy.name));
    let mut names: Vec<(&str, &'static str)> =
        unwanted.map(|policy| (policy.name.as_str(), if policy.permissive { THEIRS } else { LEFT_OVER })).collect();
    if replaced {
        names.push((BEFORE, LEFT_OVER));
    }
    let drop = |(name, why)| Step::new(false, ACCESS_EXCLUSIVE, why, format!("DROP POLICY {name} ON {}", facts.table));
    names.into_iter().map(drop).collect()
}

/// The statement that frees the name of a policy for another command or of another kind.
fn put_aside(facts: &Facts, existing: &Policy) -> String {
    let (name, table) = (&existing.name, &facts.table);
    let keeps_rows_apart = name == ISOLATION && !existing.permissive;
    if keeps_rows_apart && !facts.policies.iter().any(|policy| policy.name == BEFORE) {
        format!("ALTER POLICY {name} ON {table} RENAME TO {BEFORE}")
    } else {
        format!("DROP POLICY {name} ON {table}")
    }
}

/// The commands for which an unmanaged permissive policy decides which rows are admitted, and the other commands.
pub fn commands_of_others(facts: &Facts) -> (Vec<&'static str>, Vec<&'static str>) {
    let (theirs, ours): (Vec<Command>, Vec<Command>) =
        COMMANDS.iter().partition(|command| has_permissive(facts, command));
    let names = |commands: Vec<Command>| commands.into_iter().map(|command| command.name).collect();
    (names(theirs), names(ours))
}

/// Whether an unmanaged policy decides which rows are admitted for the command.
///
/// A policy that admits every row for every role decides nothing, and a generated one beside it changes nothing.
fn has_permissive(facts: &Facts, command: &Command) -> bool {
    theirs(facts, command.letter).any(|policy| {
        let all = |expression: &Option<String>| {
            expression.as_deref().is_none_or(|expression| ["true", EVERY_ROW].contains(&expression))
        };
        !(policy.to_public && all(&policy.using) && all(&policy.check))
    })
}

/// Whether an unmanaged policy admits any row for the command.
fn lets_through(facts: &Facts, letter: &str) -> bool {
    theirs(facts, letter).next().is_some()
}

fn theirs<'a>(facts: &'a Facts, letter: &'a str) -> impl Iterator<Item = &'a Policy> {
    facts.policies.iter().filter(move |policy| {
        policy.permissive && !is_generated(policy) && (policy.command == "*" || policy.command == letter)
    })
}

/// Whether the existing policy equals the required one.
///
/// `pg_get_expr` breaks a sub-query into lines, so white space is insignificant in a sub-query and only there.
fn same(existing: &Policy, wanted: &Policy) -> bool {
    let flat = |expression: &Option<String>| expression.as_deref().map(on_one_line);
    let expression = wanted.using.as_ref().or(wanted.check.as_ref());
    let sub_query = expression.is_some_and(|expression| expression.starts_with("(EXISTS"));
    if sub_query {
        let flat =
            |policy: &Policy| Policy { using: flat(&policy.using), check: flat(&policy.check), ..policy.clone() };
        flat(existing) == flat(wanted)
    } else {
        existing == wanted
    }
}

fn create(table: &str, policy: &Policy) -> String {
    let kind = if policy.permissive { "PERMISSIVE" } else { "RESTRICTIVE" };
    let command =
        COMMANDS.iter().find(|command| command.letter == policy.command).map_or("ALL", |command| command.name);
    let head = format!("CREATE POLICY {} ON {table} AS {kind} FOR {command}", policy.name);
    head + &expressions(policy)
}

/// The ALTER POLICY statement, which can change expressions and roles, but not kind and command.
fn alter(table: &str, policy: &Policy) -> String {
    format!("ALTER POLICY {} ON {table}", policy.name) + &expressions(policy)
}

fn expressions(policy: &Policy) -> String {
    let mut sql = " TO PUBLIC".to_owned();
    if let Some(using) = &policy.using {
        sql.push_str(&format!(" USING ({using})"));
    }
    if let Some(check) = &policy.check {
        sql.push_str(&format!(" WITH CHECK ({check})"));
    }
    sql
}

/// The required policies: a restrictive one for each command, then permissive ones where the table has none.
fn wanted(facts: &Facts, target: &Target) -> Vec<Policy> {
    let isolating = COMMANDS.iter().filter_map(|command| {
        let expression = isolation(facts, target, command)?;
        Some(policy(command.isolates, false, command, &expression))
    });
    let permissive = COMMANDS
        .iter()
        .filter(|command| !has_permissive(facts, command))
        .map(|command| policy(command.permits, true, command, EVERY_ROW));
    isolating.chain(permissive).collect()
}

/// The condition that a row must meet for the command: organization and permission.
///
/// One function checks that the row belongs to the transaction's organization and that the role permits the action. A
/// row therefore costs one comparison.
fn isolation(facts: &Facts, target: &Target, command: &Command) -> Option<String> {
    let comparison = target.comparison()?;
    let compare = |quoted: &str| comparison.expression(quoted, &target.domain, command.action);
    Some(match &target.scope {
        Scope::Column { column, null_rows: Some(NullRows::Shared) } if command.letter == "r" => {
            format!("({} OR ({} IS NULL))", compare(&column.quoted), column.quoted)
        }
        Scope::Column { column, .. } => compare(&column.quoted),
        Scope::Through { column, way, .. } => {
            let child = facts.table.strip_prefix(&format!("{}.", facts.schema_quoted)).unwrap_or(&facts.table);
            let own = compare(&format!("{}.{}", alias(way.steps.len()), way.organization()?.quoted));
            let own = if way.null_rows == Some(NullRows::Shared) && command.letter == "r" {
                format!("({own} OR ({}.{} IS NULL))", alias(way.steps.len()), way.organization()?.quoted)
            } else {
                own
            };
            exists(way, &format!("{child}.{}", column.quoted), &own)
        }
    })
}

/// The alias of the table at a place on the way, counted from 1.
fn alias(number: usize) -> String {
    if number == 1 { "tenancy_parent".to_owned() } else { format!("tenancy_parent_{number}") }
}

/// The condition on the row at the end of the way, in the form that `pg_get_expr` prints.
///
/// The condition joins all tables on the way and does not rely on the policies of any of them. If a table on the way
/// loses its own protection, the tables below it keep theirs.
fn exists(way: &Way, from: &str, condition: &str) -> String {
    let mut tables = String::new();
    for (n, Parent { table, key, .. }) in way.steps.iter().enumerate() {
        let own = alias(n + 1);
        tables = match n.checked_sub(1).and_then(|before| way.steps.get(before)) {
            None => format!("{table} {own}"),
            Some(before) => {
                let value = &before.value.quoted;
                format!("({tables} JOIN {table} {own} ON (({own}.{} = {}.{value})))", key.quoted, alias(n))
            }
        };
    }
    let key = way.steps.first().map_or("", |parent| &parent.key.quoted);
    format!("(EXISTS ( SELECT FROM {tables} WHERE (({}.{key} = {from}) AND {condition})))", alias(1))
}

fn policy(name: &str, permissive: bool, command: &Command, expression: &str) -> Policy {
    let expression = |wanted: bool| wanted.then(|| expression.to_owned());
    Policy {
        name: name.to_owned(),
        permissive,
        command: command.letter.to_owned(),
        to_public: true,
        using: expression(command.using),
        check: expression(command.check),
    }
}
