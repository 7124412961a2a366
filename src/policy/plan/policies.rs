//! The policies: restrictive ones that isolate, permissive ones that ask for the role's permission.

use super::super::facts::{Facts, Policy};
use super::super::options::NullRows;
use super::super::text::{literal, on_one_line};
use super::target::{Parent, Scope, Target};
use super::{ACCESS_EXCLUSIVE, Step};

pub const ISOLATION: &str = "tenancy_isolation";

const ISOLATES: &str = "Restrictive, so that no policy added later can open the table past the organization.";
const PERMITS: &str = "The role needs the permission; without it no row is affected, and the first one met raises.";

/// A command that a policy is for.
#[derive(Clone, Copy)]
struct Command {
    /// The policy that asks for the permission, and the one that isolates where each command has its own.
    permits: &'static str,
    isolates: &'static str,
    name: &'static str,
    /// `pg_policy.polcmd`.
    letter: &'static str,
    /// What the permission matrix calls it.
    action: &'static str,
    /// Which expressions CREATE POLICY takes for it.
    using: bool,
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

/// True for a policy of a name that `protect` gives.
pub fn is_generated(policy: &Policy) -> bool {
    is_generated_name(&policy.name)
}

pub fn is_generated_name(name: &str) -> bool {
    COMMANDS.iter().any(|command| [command.permits, command.isolates].contains(&name))
}

/// The isolation policy first.
pub fn steps(facts: &Facts, target: &Target) -> Vec<Step> {
    let wanted = wanted(facts, target);
    let table = &facts.table;
    let mut steps: Vec<Step> = wanted
        .iter()
        .map(|policy| {
            let why = if policy.permissive { PERMITS } else { ISOLATES };
            let existing = facts.policies.iter().find(|existing| existing.name == policy.name);
            let same = existing.is_some_and(|existing| same(existing, policy));
            let replaced = existing.is_some() && !same;
            let drop = if replaced { format!("DROP POLICY {} ON {table}; ", policy.name) } else { String::new() };
            Step::new(same, ACCESS_EXCLUSIVE, why, drop + &create(table, policy))
        })
        .collect();
    let left_over =
        facts.policies.iter().filter(|policy| is_generated(policy) && !wanted.iter().any(|w| w.name == policy.name));
    for policy in left_over {
        let sql = format!("DROP POLICY {} ON {table}", policy.name);
        steps.push(Step::new(false, ACCESS_EXCLUSIVE, "The table is protected in another way now.", sql));
    }
    steps
}

/// `pg_get_expr` breaks a sub-query into lines, and only there is white space nothing.
fn same(existing: &Policy, wanted: &Policy) -> bool {
    let flat = |expression: &Option<String>| expression.as_deref().map(on_one_line);
    let sub_query = wanted.using.as_ref().is_some_and(|using| using.starts_with("(EXISTS"));
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
    let mut sql = format!("CREATE POLICY {} ON {table} AS {kind} FOR {command} TO PUBLIC", policy.name);
    if let Some(using) = &policy.using {
        sql.push_str(&format!(" USING ({using})"));
    }
    if let Some(check) = &policy.check {
        sql.push_str(&format!(" WITH CHECK ({check})"));
    }
    sql
}

fn wanted(facts: &Facts, target: &Target) -> Vec<Policy> {
    let mut policies = isolation(facts, target);
    for command in COMMANDS {
        let authorize =
            format!("tenancy.authorize({}::text, {}::text)", literal(&target.domain), literal(command.action));
        policies.push(policy(command.permits, true, Some(&command), &authorize));
    }
    policies
}

/// One policy, or one for each command where reading and writing differ.
fn isolation(facts: &Facts, target: &Target) -> Vec<Policy> {
    let Some(comparison) = target.comparison() else { return Vec::new() };
    match &target.scope {
        Scope::Column { column, null_rows: Some(NullRows::Shared) } => {
            let own = comparison.expression(&column.quoted);
            let read = format!("({own} OR ({} IS NULL))", column.quoted);
            let expression = |command: &Command| if command.letter == "r" { read.clone() } else { own.clone() };
            COMMANDS
                .iter()
                .map(|command| policy(command.isolates, false, Some(command), &expression(command)))
                .collect()
        }
        Scope::Column { column, .. } => {
            vec![policy(ISOLATION, false, None, &comparison.expression(&column.quoted))]
        }
        Scope::Through { column, parent, .. } => {
            let Parent { table, key_quoted, organization, .. } = &**parent;
            let child = facts.table.strip_prefix(&format!("{}.", facts.schema_quoted)).unwrap_or(&facts.table);
            let own = comparison.expression(&format!("tenancy_parent.{}", organization.quoted));
            let expression = format!(
                "(EXISTS ( SELECT FROM {table} tenancy_parent WHERE ((tenancy_parent.{key_quoted} = {child}.{}) AND {own})))",
                column.quoted
            );
            vec![policy(ISOLATION, false, None, &expression)]
        }
    }
}

/// A policy for the command, or for all.
fn policy(name: &str, permissive: bool, command: Option<&Command>, expression: &str) -> Policy {
    let expression = |wanted: bool| wanted.then(|| expression.to_owned());
    Policy {
        name: name.to_owned(),
        permissive,
        command: command.map_or("*", |command| command.letter).to_owned(),
        to_public: true,
        using: expression(command.is_none_or(|command| command.using)),
        check: expression(command.is_none_or(|command| command.check)),
    }
}
