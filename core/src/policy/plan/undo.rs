//! The steps that remove what `protect` created.

use super::provenance::{self, Provenance};
use super::{ACCESS_EXCLUSIVE, SHARE_UPDATE_EXCLUSIVE, State, Step, checks, policies, references, triggers};
use crate::error::Result;
use crate::policy::column::Comparison;
use crate::policy::facts::{Facts, Reference, TableFamily};
use crate::policy::text::{quote_generated, quoted_text};

const WHY: &str = "Takes back what tenancy.protect made.";

/// The steps that undo `protect`; none for a table that was never protected.
///
/// Columns that `protect` added remain, with their values.
pub fn unprotect(subject: &TableFamily) -> Result<Vec<Step>> {
    super::check_kind(subject)?;
    let table = &subject.table;
    let mut steps = Vec::new();
    for reference in &table.references {
        steps.extend(reference_steps(subject, reference));
        let child = subject.others.get(&reference.child).filter(|_| reference.child != table.oid);
        let name = child.map(|child| checks::name(child, reference));
        if let Some((child, name)) = child.zip(name)
            && child.triggers.iter().any(|trigger| trigger.name == name)
        {
            let sql = format!("DROP TRIGGER {} ON {}", quote_generated(&name), child.table);
            steps.push(undo(child, ACCESS_EXCLUSIVE, sql).unless(child.owned));
        }
    }
    for child in subject.others.values() {
        let gone = |name: &String| {
            let of_child = |reference: &&Reference| reference.child == child.oid && reference.name == *name;
            table.references.iter().any(|reference| of_child(&reference) && references::plain(reference).is_some())
        };
        let kept = provenance::read::<Provenance>(child.provenance.as_deref()).map(|before| before.references);
        let kept = kept.map(|names| names.into_iter().filter(|name| !gone(name)).collect());
        let step = kept.and_then(|names| references::remembered(child, names));
        steps.extend(step.filter(|step| step.state == State::Todo).map(|step| step.unless(child.owned)));
    }
    // The partitioned table first: what its partitions have of it goes with it.
    for facts in std::iter::once(table).chain(&subject.members) {
        steps.extend(unprotect_one(facts));
    }
    Ok(steps)
}

fn undo(of: &Facts, lock: &'static str, sql: String) -> Step {
    Step::new(false, lock, WHY, sql).altering(of)
}

/// The steps that restore a foreign key: without isolation the composite form is not needed.
fn reference_steps(subject: &TableFamily, reference: &Reference) -> Vec<Step> {
    let (Some(before), Some(child), Some(parent)) =
        (references::plain(reference), subject.facts_of(reference.child), subject.facts_of(reference.parent))
    else {
        return Vec::new();
    };
    let Some(definition) = references::plain_definition(reference, &before, parent) else { return Vec::new() };
    let (table, name) = (&child.table, &reference.quoted);
    let checked_later = before.validated && !child.partitioned();
    let mut steps = vec![undo(child, ACCESS_EXCLUSIVE, references::replace(child, reference, &definition))];
    if checked_later {
        steps.push(undo(child, SHARE_UPDATE_EXCLUSIVE, references::validate(child, reference)));
    }
    if let Some(comment) = &before.comment {
        let sql = format!("COMMENT ON CONSTRAINT {name} ON {table} IS {}", quoted_text(comment));
        steps.push(undo(child, SHARE_UPDATE_EXCLUSIVE, sql));
    }
    // Somebody else's foreign key: theirs to change.
    steps.into_iter().map(|step| step.comparing_rows().unless(child.owned)).collect()
}

fn unprotect_one(facts: &Facts) -> Vec<Step> {
    let table = &facts.table;
    let mut steps = Vec::new();
    for trigger in facts.triggers.iter().filter(|trigger| triggers::is_generated(trigger)) {
        steps.push(undo(
            facts,
            ACCESS_EXCLUSIVE,
            format!("DROP TRIGGER {} ON {table}", quote_generated(&trigger.name)),
        ));
    }
    for policy in facts.policies.iter().filter(|policy| policies::is_generated(policy)) {
        steps.push(undo(facts, ACCESS_EXCLUSIVE, format!("DROP POLICY {} ON {table}", policy.name)));
    }
    for key in facts.indexes.iter().filter(|index| references::is_our_key(index)) {
        steps.push(undo(facts, ACCESS_EXCLUSIVE, format!("ALTER TABLE {table} DROP CONSTRAINT {}", key.quoted)));
    }
    let Some(before) = provenance::read::<Provenance>(facts.remembered()) else { return steps };
    if facts.force_row_security && !before.force_row_security {
        steps.push(undo(facts, ACCESS_EXCLUSIVE, format!("ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")));
    }
    if facts.row_security && !before.row_security {
        steps.push(undo(facts, ACCESS_EXCLUSIVE, format!("ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")));
    }
    if let Some(column) = facts.column(&before.column).filter(|_| before.through.is_none()) {
        let alter = format!("ALTER TABLE {table} ALTER COLUMN {}", column.quoted);
        let accessor = Comparison::of(&column.data_type).map(|comparison| comparison.accessor);
        if accessor.is_some() && column.default.as_deref() == accessor {
            let change =
                before.previous_default.as_ref().map_or("DROP DEFAULT".into(), |sql| format!("SET DEFAULT {sql}"));
            steps.push(undo(facts, ACCESS_EXCLUSIVE, format!("{alter} {change}")));
        }
        if before.was_nullable && column.not_null {
            steps.push(undo(facts, ACCESS_EXCLUSIVE, format!("{alter} DROP NOT NULL")));
        }
    }
    if let Some(index) = before.index.filter(|name| facts.indexes.iter().any(|index| index.name == *name)) {
        let if_exists = if facts.partition { "IF EXISTS " } else { "" };
        steps.push(undo(
            facts,
            ACCESS_EXCLUSIVE,
            format!("DROP INDEX {if_exists}{}.{}", facts.schema_quoted, quote_generated(&index)),
        ));
    }
    steps
}
