//! Triggers that check foreign keys which cannot carry the organization.
//!
//! A table that is protected through another table has no organization column for a composite key. A composite key does
//! not check rows whose organization column is NULL.

use super::target::{self, Target};
use super::tenants::{differ, tenants};
use super::trigger_names::{OF_PARTITIONS, name_in_sql};
use super::{SHARE_ROW_EXCLUSIVE, Step};
use crate::policy::facts::{Facts, Reference, TableFamily, Trigger};
use crate::policy::options::NullRows;
use crate::policy::text::{literal, quoted_text};
use sha2::{Digest, Sha256};

/// The beginning of the names of the triggers that check foreign keys.
///
/// The name sorts before the triggers of Postgres, `RI_ConstraintTrigger...`. The same code therefore refuses a
/// reference to a missing row and a reference to another organization's row.
pub const REFERENCE: &str = "0_tenancy_reference_";

const WHY: &str = "The foreign key cannot carry the organization: what it points at is compared row by row.";

/// The bytes of a trigger's name that remain for the name of the foreign key.
const MOST_BYTES: usize = 63 - REFERENCE.len() - OF_PARTITIONS.len();

/// Whether the trigger checks a foreign key. A clone does not count: Postgres drops it with its original.
pub fn is_check(trigger: &Trigger) -> bool {
    !trigger.cloned && trigger.name.starts_with(REFERENCE)
}

/// The name of the trigger that checks a foreign key of the table.
pub fn name(table: &Facts, reference: &Reference) -> String {
    let own = &reference.name;
    let own = if own.len() <= MOST_BYTES {
        own.clone()
    } else {
        let digest = Sha256::digest(own.as_bytes());
        let mut end = MOST_BYTES - 9;
        while !own.is_char_boundary(end) {
            end -= 1;
        }
        format!("{}_{:02x}{:02x}{:02x}{:02x}", &own[..end], digest[0], digest[1], digest[2], digest[3])
    };
    let ending = if table.partitioned() { OF_PARTITIONS } else { "" };
    format!("{REFERENCE}{own}{ending}")
}

/// The steps for foreign keys from and to the table for which `carries` is false.
///
/// The result includes steps that drop triggers no longer needed.
pub fn steps(subject: &TableFamily, target: &Target, carries: impl Fn(&Reference) -> bool) -> Vec<Step> {
    let table = &subject.table;
    let mut steps = Vec::new();
    let mut wanted = Vec::new();
    for reference in &table.references {
        let Some(child) = subject.facts_of(reference.child) else { continue };
        let texts = if carries(reference) { None } else { texts(subject, target, child, reference) };
        let name = name(child, reference);
        if let Some(texts) = texts {
            steps.extend(check(child, reference, &name, &texts));
            wanted.push((child.oid, name));
        } else if child.oid != table.oid && child.triggers.iter().any(|trigger| trigger.name == name) {
            steps.push(drop(child, &name));
        }
    }
    let kept = |trigger: &&Trigger| wanted.iter().any(|(oid, name)| *oid == table.oid && *name == trigger.name);
    let left_over = table.triggers.iter().filter(|trigger| is_check(trigger) && !kept(trigger));
    steps.extend(left_over.map(|trigger| drop(table, &trigger.name)));
    steps
}

fn drop(table: &Facts, name: &str) -> Step {
    let sql = format!("DROP TRIGGER {} ON {}", name_in_sql(name), table.table);
    Step::new(false, SHARE_ROW_EXCLUSIVE, "The foreign key is checked in another way now.", sql).unless(table.owned)
}

/// The arguments of the trigger; `None` for a foreign key that needs no check or cannot be checked.
fn texts(subject: &TableFamily, target: &Target, child: &Facts, reference: &Reference) -> Option<Vec<String>> {
    let (from, to) = target::link(reference).ok()?;
    if !child.parents.is_empty() || child.column(&from.name).is_none() {
        return None;
    }
    let (column, own_way) = target::scope_of(subject, child, &target.scope)?;
    // The way itself, or the organization itself.
    if column.name == from.name && (own_way.is_some() || is_organization(subject, target, reference.parent, &to.name)) {
        return None;
    }
    // An organization of one kind is none of another.
    let of = |oid: u32| {
        let facts = subject.facts_of(oid)?;
        let (column, way) = target::scope_of(subject, facts, &target.scope)?;
        if way.is_none() { tenants(facts, &column.name) } else { None }
    };
    if differ(of(reference.child), of(reference.parent)) {
        return None;
    }
    let way = target::way_by(subject, reference, Some(&target.scope)).ok()?;
    let shared = if way.null_rows == Some(NullRows::Shared) { "shared" } else { "" };
    let mut texts = vec![reference.name.as_str(), shared, &from.name];
    texts.extend(way.texts());
    texts.extend(["=", &column.name]);
    texts.extend(own_way.iter().flat_map(|way| way.texts()));
    let plain = texts.iter().all(|text| !text.contains('\\'));
    plain.then(|| texts.into_iter().map(str::to_owned).collect())
}

/// Whether the table is protected by that column of its own.
fn is_organization(subject: &TableFamily, target: &Target, oid: u32, column: &str) -> bool {
    let found = subject.facts_of(oid).and_then(|facts| target::scope_of(subject, facts, &target.scope));
    found.is_some_and(|(own, way)| own.name == column && way.is_none())
}

fn check(child: &Facts, reference: &Reference, name: &str, texts: &[String]) -> Vec<Step> {
    let table = &child.table;
    let quoted = name_in_sql(name);
    let arguments = texts.iter().map(|text| literal(text)).collect::<Vec<_>>().join(", ");
    let (kind, when) = match (reference.deferrable, reference.deferred) {
        (false, _) => ("TRIGGER", ""),
        (true, false) => ("CONSTRAINT TRIGGER", " DEFERRABLE INITIALLY IMMEDIATE"),
        (true, true) => ("CONSTRAINT TRIGGER", " DEFERRABLE INITIALLY DEFERRED"),
    };
    // In the words and the order of `pg_get_triggerdef`, so that the definition can be compared.
    let definition = format!(
        "CREATE {kind} {quoted} AFTER INSERT OR UPDATE ON {table}{when} FOR EACH ROW \
         EXECUTE FUNCTION tenancy.check_reference({arguments})"
    );
    let existing = child.triggers.iter().find(|trigger| trigger.name == name);
    let same = existing.is_some_and(|trigger| trigger.definition == definition && trigger.enabled == "O");
    let rows = format!("SELECT tenancy.check_references({}, {})", quoted_text(table), quoted_text(&reference.name));
    let mut steps = Vec::new();
    if existing.is_some() && !same {
        steps.push(drop(child, name));
    }
    steps.push(Step::new(same, SHARE_ROW_EXCLUSIVE, WHY, definition).closing().unless(child.owned));
    let why = "Looks for references across organizations that are there already.";
    steps.push(Step::new(same, "ACCESS SHARE", why, rows).unless(child.owned));
    steps
}
