//! Steps that make foreign keys between protected tables carry the organization.
//!
//! Postgres checks foreign keys without row-level security: a plain foreign key accepts another tenant's row, and ON
//! DELETE CASCADE deletes it. A foreign key over `(key, organization)` cannot lead out of the organization.
//!
//! Decision: `docs/decisions/20-composite-foreign-keys.md`.

use super::checks;
use super::provenance::{self, NoKey, PlainReference, Provenance};
use super::target::{Scope, Target};
use super::tenants::{differ, tenants};
use super::{ACCESS_EXCLUSIVE, Mode, SHARE_UPDATE_EXCLUSIVE, Step};
use crate::policy::facts::{Column, Facts, Index, Name, Reference, TableFamily};
use crate::policy::options::NullRows;
use crate::policy::text::{generated_name, quote_generated, quoted_text};

const KEY: &str = "The key that foreign keys with the organization point at.";
const COMPOSITE: &str = "Foreign keys are checked without row-level security: with the organization in it, it cannot \
    lead to another tenant's row.";

/// One end of a foreign key: a protected table and its organization column.
struct End<'a> {
    facts: &'a Facts,
    organization: &'a Column,
    null_rows: Option<NullRows>,
}

impl End<'_> {
    /// The table whose rows are the organizations of this one, if a foreign key shows it.
    fn tenants(&self) -> Option<u32> {
        tenants(self.facts, &self.organization.name)
    }
}

/// A foreign key between two protected tables that can carry the organization.
struct Link<'a> {
    reference: &'a Reference,
    child: End<'a>,
    parent: End<'a>,
    /// The referencing columns without the organization.
    child_columns: Vec<&'a Name>,
    /// The referenced columns without the organization.
    parent_columns: Vec<&'a Name>,
    /// Whether the foreign key already carries the organization.
    composite: bool,
}

/// The steps for all foreign keys from and to the table.
pub fn steps(subject: &TableFamily, target: &Target, mode: Mode) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut made = Vec::new();
    for link in subject.table.references.iter().filter_map(|reference| Link::of(reference, subject, target)) {
        // Two foreign keys may point at the same columns.
        let columns: Vec<&str> = link.key_names();
        if !made.contains(&(link.parent.facts.oid, columns.clone())) {
            let number = made.len();
            steps.extend(link.key_steps(mode, number));
            made.push((link.parent.facts.oid, columns));
        }
        steps.extend(link.reference_steps());
    }
    steps.extend(remember(subject, target));
    steps.extend(checks::steps(subject, target, |reference| Link::of(reference, subject, target).is_some()));
    steps
}

/// Names of the foreign keys of `child` that `protect` has made or will make composite.
pub fn carrying(subject: &TableFamily, target: &Target, child: u32) -> Vec<String> {
    let of_child = subject.table.references.iter().filter(|reference| reference.child == child);
    let mut names: Vec<String> = of_child
        .filter(|reference| Link::of(reference, subject, target).is_some())
        .map(|reference| reference.name.clone())
        .collect();
    names.sort();
    names
}

/// Steps that record, on the tables that reference this one, which of their foreign keys are composite.
fn remember(subject: &TableFamily, target: &Target) -> Vec<Step> {
    let mut steps = Vec::new();
    for child in subject.others.values() {
        let carrying = carrying(subject, target, child.oid);
        if !carrying.is_empty() {
            let mut names = provenance::read::<Provenance>(child.provenance.as_deref()).map(|found| found.references);
            if let Some(names) = &mut names {
                names.extend(carrying);
                names.sort();
                names.dedup();
            }
            steps.extend(names.and_then(|names| remembered(child, names)));
        }
    }
    steps
}

/// The step that updates the comment of a table's isolation policy with those foreign keys.
///
/// `None` if the comment was not written by `protect`.
pub fn remembered(child: &Facts, references: Vec<String>) -> Option<Step> {
    let before: Provenance = provenance::read(child.provenance.as_deref())?;
    let done = before.references == references;
    let comment = quoted_text(&provenance::write(&Provenance { references, ..before }));
    let sql = format!("COMMENT ON POLICY {} ON {} IS {comment}", super::policies::ISOLATION, child.table);
    Some(
        Step::new(done, SHARE_UPDATE_EXCLUSIVE, "Remembers which keys carry the organization.", sql)
            .unless(child.owned),
    )
}

impl<'a> Link<'a> {
    /// The link of a foreign key; `None` for a foreign key that `protect` does not make composite.
    ///
    /// Such a foreign key is not between two protected tables, or carries the organization already without `protect`,
    /// or cannot carry it. `tenancy.advise` reports the last kind.
    fn of(reference: &'a Reference, subject: &'a TableFamily, target: &'a Target) -> Option<Self> {
        let child = End::of(reference.child, subject, target)?;
        let parent = End::of(reference.parent, subject, target)?;
        let pairs = || reference.child_columns.iter().zip(&reference.parent_columns);
        let names_organization =
            |(from, to): &(&Name, &Name)| from.name == child.organization.name || to.name == parent.organization.name;
        let composite =
            pairs().any(|(from, to)| from.name == child.organization.name && to.name == parent.organization.name);
        let ours = plain(reference).is_some();
        let plain_pairs = pairs().filter(|pair| !(names_organization(pair)));
        let (child_columns, parent_columns): (Vec<_>, Vec<_>) = plain_pairs.unzip();
        let sets_on_update = ["n", "d"].contains(&reference.on_update.as_str());
        let partial_match = reference.match_type == "f" && child_columns.len() > 1;
        // With MATCH SIMPLE a NULL of the child switches the check off, and one of the parent is pointed at by
        // nobody: so it has to be where the rows are nobody's, and must not be where every organization may point at
        // them.
        let nulls = child.null_rows.is_some() || parent.null_rows == Some(NullRows::Shared);
        let impossible = nulls
            || child.organization.data_type != parent.organization.data_type
            || differ(child.tenants(), parent.tenants())
            || child_columns.is_empty()
            || sets_on_update
            || partial_match
            || child_columns.len() + usize::from(composite) != reference.child_columns.len();
        (!impossible && (!composite || ours)).then_some(Link {
            reference,
            child,
            parent,
            child_columns,
            parent_columns,
            composite,
        })
    }

    fn permitted(&self) -> bool {
        self.child.facts.owned && self.parent.facts.owned
    }

    /// The columns of the key that the foreign key is to reference.
    fn key_names(&self) -> Vec<&'a str> {
        let organization = self.parent.organization.name.as_str();
        std::iter::once(organization).chain(self.parent_columns.iter().map(|column| column.name.as_str())).collect()
    }

    fn key(&self) -> Option<&'a Index> {
        let wanted = self.key_names();
        let fits = |index: &&Index| {
            index.unique
                && index.columns.len() == wanted.len()
                && wanted.iter().all(|name| index.columns.iter().any(|column| column == name))
        };
        self.parent.facts.indexes.iter().find(fits)
    }

    fn key_steps(&self, mode: Mode, number: usize) -> Vec<Step> {
        let parent = self.parent.facts;
        let existing = self.key();
        let table = &parent.table;
        let columns = quoted_list(Some(self.parent.organization), &self.parent_columns);
        let name = match existing {
            Some(index) if !is_our_key(index) => return Vec::new(),
            Some(index) => index.quoted.clone(),
            None => {
                let taken = |name: &str| parent.taken_names.iter().any(|taken| taken == name);
                let ending = if number == 0 { "_tenancy_key".to_owned() } else { format!("_{number}_tenancy_key") };
                quote_generated(&generated_name(&parent.name, &ending, taken))
            }
        };
        let done = existing.is_some();
        let permitted = self.permitted();
        let mut steps = Vec::new();
        if mode == Mode::Online && !parent.partitioned() {
            let sql = format!("CREATE UNIQUE INDEX CONCURRENTLY {name} ON {table} ({columns})");
            steps.push(Step::new(done, SHARE_UPDATE_EXCLUSIVE, KEY, sql).alone());
            let sql = format!("ALTER TABLE {table} ADD CONSTRAINT {name} UNIQUE USING INDEX {name}");
            steps.push(Step::new(done, ACCESS_EXCLUSIVE, KEY, sql));
        } else {
            let sql = format!("ALTER TABLE {table} ADD CONSTRAINT {name} UNIQUE ({columns})");
            steps.push(Step::new(done, ACCESS_EXCLUSIVE, KEY, sql));
        }
        let comment = quoted_text(&provenance::write(&NoKey {}));
        let sql = format!("COMMENT ON CONSTRAINT {name} ON {table} IS {comment}");
        steps.push(Step::new(done, SHARE_UPDATE_EXCLUSIVE, "Remembers that it was not there before.", sql));
        steps.into_iter().map(|step| step.unless(permitted)).collect()
    }

    fn reference_steps(&self) -> Vec<Step> {
        let Reference { quoted: name, comment, validated, .. } = self.reference;
        let table = &self.child.facts.table;
        let before = plain(self.reference).unwrap_or_else(|| PlainReference {
            child_organization: self.child.organization.name.clone(),
            parent_organization: self.parent.organization.name.clone(),
            match_full: self.reference.match_type == "f",
            names_columns: !self.reference.on_delete_columns.is_empty(),
            validated: *validated,
            comment: comment.clone(),
        });
        let checked_later = !self.child.facts.partitioned();
        let mut steps = vec![Step::new(
            self.composite,
            ACCESS_EXCLUSIVE,
            COMPOSITE,
            replace(self.child.facts, self.reference, &self.definition()),
        )];
        if checked_later && before.validated {
            steps.push(Step::new(
                self.composite && *validated,
                SHARE_UPDATE_EXCLUSIVE,
                "Looks for references across organizations that are there already, while others read and write.",
                validate(self.child.facts, self.reference),
            ));
        }
        let text = provenance::write(&before);
        steps.push(Step::new(
            self.composite && comment.as_deref() == Some(&text),
            SHARE_UPDATE_EXCLUSIVE,
            "Remembers the foreign key as it was, for tenancy.unprotect.",
            format!("COMMENT ON CONSTRAINT {name} ON {table} IS {}", quoted_text(&text)),
        ));
        let permitted = self.permitted();
        steps.into_iter().map(|step| step.comparing_rows().unless(permitted)).collect()
    }

    /// The columns of the foreign key with the organization last: tools that read the first column of a foreign key
    /// alone (Django's inspectdb, schema.rb of Rails) find the relation as it was.
    fn carried(&self, columns: &[&Name], organization: &Column) -> String {
        format!("{}, {}", quoted_list(None, columns), organization.quoted)
    }

    fn definition(&self) -> String {
        let Reference { on_delete_columns, .. } = self.reference;
        // The organization stays, whatever becomes of the reference.
        let sets: Vec<&str> = if on_delete_columns.is_empty() {
            self.child_columns.iter().map(|column| column.quoted.as_str()).collect()
        } else {
            on_delete_columns.iter().map(String::as_str).collect()
        };
        definition(
            &self.carried(&self.child_columns, self.child.organization),
            self.parent.facts,
            &self.carried(&self.parent_columns, self.parent.organization),
            self.reference,
            &sets,
            false,
        )
    }
}

/// The definition of a foreign key over these columns, with the actions of `reference`.
fn definition(
    child_columns: &str,
    parent: &Facts,
    parent_columns: &str,
    reference: &Reference,
    sets: &[&str],
    match_full: bool,
) -> String {
    let Reference { on_update, on_delete, deferrable, deferred, .. } = reference;
    let mut sql = format!("FOREIGN KEY ({child_columns}) REFERENCES {} ({parent_columns})", parent.table);
    if match_full {
        sql.push_str(" MATCH FULL");
    }
    if let Some(action) = action(on_update) {
        sql.push_str(&format!(" ON UPDATE {action}"));
    }
    if let Some(action) = action(on_delete) {
        sql.push_str(&format!(" ON DELETE {action}"));
        if ["n", "d"].contains(&on_delete.as_str()) && !sets.is_empty() {
            sql.push_str(&format!(" ({})", sets.join(", ")));
        }
    }
    if *deferrable {
        sql.push_str(" DEFERRABLE");
    }
    if *deferred {
        sql.push_str(" INITIALLY DEFERRED");
    }
    sql
}

/// The definition of the foreign key before `protect`: the composite one without the added columns.
///
/// `None` if the foreign key does not have the columns that the comment names: `protect` did not write such a comment.
pub fn plain_definition(reference: &Reference, before: &PlainReference, parent: &Facts) -> Option<String> {
    let added =
        |(from, to): &(&Name, &Name)| from.name == before.child_organization && to.name == before.parent_organization;
    let pairs = || reference.child_columns.iter().zip(&reference.parent_columns);
    let (child, parent_columns): (Vec<&Name>, Vec<&Name>) = pairs().filter(|pair| !added(pair)).unzip();
    if child.is_empty() || child.len() == reference.child_columns.len() {
        return None;
    }
    let sets: Vec<&str> =
        reference.on_delete_columns.iter().filter(|_| before.names_columns).map(String::as_str).collect();
    let columns = [quoted_list(None, &child), quoted_list(None, &parent_columns)];
    Some(definition(&columns[0], parent, &columns[1], reference, &sets, before.match_full))
}

impl<'a> End<'a> {
    /// The end at the table of that oid; `None` if the table is not protected by a column of its own, or is part of
    /// another.
    fn of(oid: u32, subject: &'a TableFamily, target: &'a Target) -> Option<Self> {
        if oid == subject.table.oid {
            let Scope::Column { column, null_rows } = &target.scope else { return None };
            return Some(End { facts: &subject.table, organization: column, null_rows: *null_rows });
        }
        let facts = subject.others.get(&oid)?;
        let provenance: Provenance = provenance::read(facts.remembered())?;
        let organization = facts.column(&provenance.column)?;
        let null_rows = provenance.null_rows.filter(|_| !organization.not_null);
        (provenance.through.is_none() && facts.parents.is_empty() && (organization.not_null || null_rows.is_some()))
            .then_some(End { facts, organization, null_rows })
    }
}

/// The statement that replaces the definition of a foreign key.
///
/// Partitioned tables do not accept NOT VALID before Postgres 18, so that the statement compares their rows at once.
pub fn replace(child: &Facts, reference: &Reference, definition: &str) -> String {
    let (table, name) = (&child.table, &reference.quoted);
    let not_valid = if child.partitioned() { "" } else { " NOT VALID" };
    format!("ALTER TABLE {table} DROP CONSTRAINT {name}, ADD CONSTRAINT {name} {definition}{not_valid}")
}

/// The statement that compares the existing rows.
pub fn validate(child: &Facts, reference: &Reference) -> String {
    format!("ALTER TABLE {} VALIDATE CONSTRAINT {}", child.table, reference.quoted)
}

/// The recorded parts of a foreign key that `protect` made composite; `None` for any other foreign key.
pub fn plain(reference: &Reference) -> Option<PlainReference> {
    provenance::read(reference.comment.as_deref())
}

/// Whether `protect` created the key.
pub fn is_our_key(index: &Index) -> bool {
    provenance::read::<NoKey>(index.comment.as_deref()).is_some()
}

/// The action for a letter of `pg_constraint.confupdtype` or `confdeltype`; `None` for NO ACTION.
fn action(letter: &str) -> Option<&'static str> {
    match letter {
        "r" => Some("RESTRICT"),
        "c" => Some("CASCADE"),
        "n" => Some("SET NULL"),
        "d" => Some("SET DEFAULT"),
        _ => None,
    }
}

fn quoted_list(organization: Option<&Column>, columns: &[&Name]) -> String {
    let names = columns.iter().map(|column| column.quoted.as_str());
    organization.map(|column| column.quoted.as_str()).into_iter().chain(names).collect::<Vec<_>>().join(", ")
}
