//! The triggers that record changes and that check custom actions.
//!
//! Decision: `docs/decisions/26-row-triggers.md`.

use super::checks::{self, REFERENCE};
use super::target::{Scope, Target};
use super::trigger_names::{OF_PARTITIONS, name_in_sql};
use super::{SHARE_ROW_EXCLUSIVE, Step};
use crate::policy::facts::{Facts, Trigger};
use crate::policy::options::Action;
use crate::policy::text::literal;

const ROW: &str = "tenancy_audit";
const TRUNCATE: &str = "tenancy_audit_truncate";
const ACTION: &str = "tenancy_action_";

/// Whether the trigger writes the events of rows.
pub fn is_audit(trigger: &Trigger) -> bool {
    trigger.name.strip_suffix(OF_PARTITIONS).unwrap_or(&trigger.name) == ROW
        && trigger.definition.contains(" EXECUTE FUNCTION tenancy.audit_row(")
}

/// Whether the trigger has a generated name. A clone does not count: Postgres drops it with its original.
pub fn is_generated(trigger: &Trigger) -> bool {
    !trigger.cloned && is_generated_name(&trigger.name)
}

/// Whether `protect` generates triggers of this name.
pub fn is_generated_name(name: &str) -> bool {
    [ROW, TRUNCATE].contains(&name.strip_suffix(OF_PARTITIONS).unwrap_or(name))
        || [ACTION, REFERENCE].iter().any(|start| name.starts_with(start))
}

/// A required trigger.
struct Wanted {
    name: String,
    /// The definition in the form that `pg_get_triggerdef` prints, so that the two can be compared.
    definition: String,
    why: &'static str,
}

/// The steps that create the required triggers and drop generated ones that are no longer required.
pub fn steps(facts: &Facts, target: &Target) -> Vec<Step> {
    let table = &facts.table;
    let wanted = wanted(facts, target);
    let mut steps = Vec::new();
    for trigger in facts.triggers.iter().filter(|trigger| is_generated(trigger) && !checks::is_check(trigger)) {
        if !wanted.iter().any(|wanted| wanted.name == trigger.name) {
            let sql = format!("DROP TRIGGER {} ON {table}", name_in_sql(&trigger.name));
            steps.push(Step::new(false, SHARE_ROW_EXCLUSIVE, "Another trigger does its work now.", sql));
        }
    }
    for Wanted { name, definition, why } in wanted {
        let existing = facts.triggers.iter().find(|trigger| trigger.name == name);
        let same = existing.is_some_and(|trigger| trigger.definition == definition);
        let name = name_in_sql(&name);
        // In one statement, so that there is no moment without the trigger.
        let replaces = existing.is_some() && !same;
        let create = if replaces { definition.replacen("CREATE", "CREATE OR REPLACE", 1) } else { definition };
        steps.push(Step::new(same, SHARE_ROW_EXCLUSIVE, why, create));
        steps.push(always(table, &name, same.then_some(existing).flatten()));
    }
    let fires_always = |trigger: &&Trigger| {
        trigger.cloned && trigger.name.ends_with(OF_PARTITIONS) && !trigger.name.starts_with(REFERENCE)
    };
    for clone in facts.triggers.iter().filter(fires_always) {
        steps.push(always(table, &name_in_sql(&clone.name), Some(clone)));
    }
    steps
}

fn always(table: &str, name: &str, existing: Option<&Trigger>) -> Step {
    Step::new(
        existing.is_some_and(|trigger| trigger.enabled == "A"),
        SHARE_ROW_EXCLUSIVE,
        "It fires under session_replication_role = replica too.",
        format!("ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}"),
    )
}

fn wanted(facts: &Facts, target: &Target) -> Vec<Wanted> {
    let table = &facts.table;
    let mut audited = vec![target.scope.column().name.as_str(), &target.domain];
    if let Scope::Through { way, .. } = &target.scope {
        audited.extend(way.texts());
    }
    let truncate = Wanted {
        name: TRUNCATE.to_owned(),
        definition: format!(
            "CREATE TRIGGER {TRUNCATE} BEFORE TRUNCATE ON {table} FOR EACH STATEMENT \
             EXECUTE FUNCTION tenancy.audit_truncate({})",
            arguments(&audited)
        ),
        why: "TRUNCATE passes row-level security by: tenants are refused it, others are recorded.",
    };
    if facts.partition {
        return vec![truncate];
    }
    if !target.secret_columns.is_empty() {
        audited.push("secret");
        audited.extend(target.secret_columns.iter().map(String::as_str));
    }
    let ending = if facts.partitioned() { OF_PARTITIONS } else { "" };
    let row = |base: &str, events: &str, function: &str, texts: &[&str], why| {
        let name = format!("{base}{ending}");
        let definition = format!(
            "CREATE TRIGGER {} AFTER {events} ON {table} FOR EACH ROW EXECUTE FUNCTION {function}({})",
            name_in_sql(&name),
            arguments(texts)
        );
        Wanted { name, definition, why }
    };
    let mut wanted = vec![
        row(
            ROW,
            "INSERT OR DELETE OR UPDATE",
            "tenancy.audit_row",
            &audited,
            "Every change of a row writes a hash-chained event in the same transaction.",
        ),
        truncate,
    ];
    for (action, change) in &target.actions {
        let kind = match change {
            Action::Columns(_) => "columns",
            Action::States(_) => "states",
        };
        let texts: Vec<&str> = [target.domain.as_str(), action, kind].into_iter().chain(change.texts()).collect();
        let why = "This change needs a permission of its own, beside that for the command.";
        let base = format!("{ACTION}{action}");
        wanted.push(row(&base, "INSERT OR UPDATE", "tenancy.authorize_action", &texts, why));
    }
    wanted
}

fn arguments(texts: &[&str]) -> String {
    texts.iter().map(|text| literal(text)).collect::<Vec<_>>().join(", ")
}
