//! The plan: the statements that protect a table, as readable SQL, with the state of each.
//!
//! The module is pure: it takes facts about a table and returns steps. Each file contributes the steps of one kind.
//!
//! Decision: `docs/decisions/15-ordinary-sql.md`.

mod checks;
mod index;
mod policies;
mod preparation;
mod provenance;
mod references;
mod target;
mod tenants;
#[cfg(test)]
mod tests;
mod trigger_names;
mod triggers;
mod undo;

use super::facts::{Facts, TableFamily};
use super::options::{NullRows, Options};
use super::text::quoted_text;
use crate::error::{self, Result};
use provenance::Provenance;
use std::borrow::Cow;
use target::{Preparation, Scope, Target};
pub use undo::unprotect;

/// Whether a step of a plan is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The caller still has to run the statement.
    Todo,
    /// The catalogs already show the result of the statement.
    Done,
    /// Somebody else has to run the statement, because the caller lacks the right.
    Manual,
}

impl State {
    /// The word in SQL: `todo`, `done` or `manual`.
    pub fn name(self) -> &'static str {
        match self {
            State::Todo => "todo",
            State::Done => "done",
            State::Manual => "manual",
        }
    }
}

/// One statement of a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The statement, without a semicolon at the end.
    pub sql: String,
    /// The purpose of the statement, in a sentence for the reader of the plan.
    pub why: Cow<'static, str>,
    /// The table lock that the statement takes (PostgreSQL documentation, explicit-locking).
    pub lock: &'static str,
    /// False for a statement that Postgres refuses within a transaction, or that ends transactions itself.
    pub in_transaction: bool,
    /// Whether the statement has to be run, and by whom.
    pub state: State,
    /// Oid of the altered table, whose owner must run the statement.
    ///
    /// The field is set if the statement contains text that the owner could have written.
    pub alters: Option<u32>,
    /// Whether Postgres compares rows of all organizations for the statement, as the role that runs it.
    ///
    /// The comparison row by row bypasses policies. With FORCE lifted, Postgres compares all rows in one query.
    pub compares_rows: bool,
    /// Whether the step protects a foreign key of the table.
    ///
    /// Without the step, the foreign key can lead to another organization's row, or the record of its name is lost.
    pub keeps_references: bool,
    is_security_relevant: bool,
}

impl Step {
    /// Whether row-level security or the audit has a gap while the step is not done.
    ///
    /// A missing index, key, default or comment is no such gap.
    pub fn is_security_relevant(&self) -> bool {
        self.is_security_relevant
    }

    fn closing(self) -> Self {
        Step { is_security_relevant: true, ..self }
    }
}

/// How the steps are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// All in one transaction.
    AtOnce,
    /// One by one, while the application is running.
    Online,
}

const ACCESS_EXCLUSIVE: &str = "ACCESS EXCLUSIVE";
const SHARE_ROW_EXCLUSIVE: &str = "SHARE ROW EXCLUSIVE";
const SHARE_UPDATE_EXCLUSIVE: &str = "SHARE UPDATE EXCLUSIVE";

impl Step {
    fn new(done: bool, lock: &'static str, why: impl Into<Cow<'static, str>>, sql: String) -> Self {
        let state = if done { State::Done } else { State::Todo };
        Step {
            sql,
            why: why.into(),
            lock,
            in_transaction: true,
            state,
            alters: None,
            compares_rows: false,
            keeps_references: false,
            is_security_relevant: false,
        }
    }

    fn keeping_references(self) -> Self {
        Step { keeps_references: true, ..self }
    }

    fn comparing_rows(self) -> Self {
        Step { compares_rows: true, ..self }
    }

    /// The same step, run by the owner of the table.
    fn altering(self, table: &Facts) -> Self {
        Step { alters: Some(table.oid), ..self }
    }

    /// The same step, for a statement that must run outside of a transaction.
    fn alone(self) -> Self {
        Step { in_transaction: false, ..self }
    }

    /// The same step, left to somebody else unless `permitted`.
    pub fn unless(self, permitted: bool) -> Self {
        let state = if self.state == State::Todo && !permitted { State::Manual } else { self.state };
        Step { state, ..self }
    }
}

/// Whether the name is that of a policy or trigger that `protect` creates.
pub fn is_generated_name(name: &str) -> bool {
    policies::is_generated_name(name) || triggers::is_generated_name(name)
}

/// How a table is protected, as the comment of its isolation policy records it.
pub struct Mark {
    /// Unquoted name of the organization column, or of the column of the foreign key `through`.
    pub column: String,
    /// The permission domain of the table.
    pub domain: String,
    /// Unquoted name of the foreign key that leads to the organization of a table without an organization column.
    pub through: Option<String>,
    /// The meaning of a NULL in the organization column; `None` if the column is NOT NULL.
    pub null_rows: Option<NullRows>,
}

/// Reads the comment of an isolation policy; `None` for a comment that `protect` did not write.
pub fn mark(comment: &str) -> Option<Mark> {
    let Provenance { column, domain, through, null_rows, .. } = provenance::read(Some(comment))?;
    Some(Mark { column, domain, through, null_rows })
}

/// Whether `protect` has recorded the table as protected.
pub fn is_marked(facts: &Facts) -> bool {
    provenance::read::<Provenance>(facts.remembered()).is_some()
}

/// Whether the table was protected, even if its isolation policy has lost its name or its comment.
pub fn was_protected(facts: &Facts) -> bool {
    is_marked(facts) || facts.policies.iter().any(policies::is_ours) || facts.triggers.iter().any(triggers::is_audit)
}

/// Name of the index that `protect` created for a table.
pub fn made_index(facts: &Facts) -> Option<String> {
    provenance::read::<Provenance>(facts.remembered())?.index
}

/// Whether that column is the organization column of a protected table and has lost its default.
pub fn lacks_default(facts: &Facts, column: &str) -> bool {
    let of_table = mark(facts.remembered().unwrap_or_default()).filter(|mark| mark.through.is_none());
    let found = facts.column(column).filter(|_| of_table.is_some_and(|mark| mark.column == column));
    found.is_some_and(|found| {
        let accessor = super::column::Comparison::of(&found.data_type).map(|comparison| comparison.accessor);
        found.default.as_deref() != accessor
    })
}

/// Whether a foreign key of the table that carried the organization was dropped without replacement.
///
/// The result is false if one of its columns is gone, or if another foreign key over the same columns exists.
pub fn misses(facts: &Facts, name: &str, columns: &[String]) -> bool {
    let Some(before) = provenance::read::<Provenance>(facts.remembered()) else { return false };
    let beside = |names: Vec<&str>| {
        let mut names: Vec<String> =
            names.into_iter().filter(|name| *name != before.column).map(str::to_owned).collect();
        names.sort();
        names
    };
    let wanted = beside(columns.iter().map(String::as_str).collect());
    let takes_its_place = |reference: &super::facts::Reference| {
        reference.child == facts.oid
            && beside(reference.child_columns.iter().map(|column| column.name.as_str()).collect()) == wanted
    };
    before.references.iter().any(|reference| reference == name)
        && wanted.iter().all(|name| facts.column(name).is_some())
        && !facts.references.iter().any(takes_its_place)
}

/// Quoted names of composite foreign keys from and to the table that are not enforced.
pub fn unenforced_references(facts: &Facts) -> Vec<String> {
    let ours = facts.references.iter().filter(|found| references::plain(found).is_some() && !found.enforced);
    ours.map(|found| found.quoted.clone()).collect()
}

/// The table whose rows are the organizations, and the column there that the organization column references.
///
/// The row of an organization belongs to that organization, so the table can be protected by that column.
pub fn table_of_tenants<'a>(subject: &'a TableFamily, options: &Options) -> Option<(&'a Facts, &'a str)> {
    let target = target::decide(subject, options).ok()?;
    let Scope::Column { column, .. } = &target.scope else { return None };
    let points_at = |reference: &&super::facts::Reference| {
        reference.child == subject.table.oid
            && reference.parent != reference.child
            && reference.child_columns.len() == 1
            && reference.child_columns[0].name == column.name
    };
    let reference = subject.table.references.iter().find(points_at)?;
    let tenants = subject.facts_of(reference.parent)?;
    let fits = !is_marked(tenants) && tenants.parents.is_empty() && !tenants.temporary && !tenants.system;
    fits.then(|| (tenants, reference.parent_columns[0].name.as_str()))
}

/// Quoted names of foreign keys of the table that carried the organization and are gone.
pub fn lost_references(facts: &Facts) -> Vec<String> {
    let remembered = provenance::read::<Provenance>(facts.remembered()).map(|found| found.references);
    remembered
        .into_iter()
        .flatten()
        .filter(|name| !has_reference(facts, name))
        .map(|name| format!("\"{name}\""))
        .collect()
}

fn has_reference(facts: &Facts, name: &str) -> bool {
    facts.references.iter().any(|found| found.child == facts.oid && found.name == name)
}

/// The step that forgets a foreign key which carried the organization; `None` if it is there, or was never remembered.
pub fn forgetting(facts: &Facts, name: &str) -> Option<Step> {
    let before: Provenance = provenance::read(facts.remembered())?;
    let left: Vec<String> = before.references.iter().filter(|known| *known != name).cloned().collect();
    let forgets = !has_reference(facts, name) && left.len() < before.references.len();
    forgets.then(|| references::remembered(facts, left)).flatten()
}

/// Whether the table has the organization column of its schema, or one of a usual name.
pub fn has_organization_column(facts: &Facts) -> bool {
    !super::column::candidates(facts).is_empty()
}

/// Oids of the tables that a table without an organization column may be protected through.
pub fn leads_to(facts: &Facts) -> Vec<u32> {
    let through = provenance::read::<Provenance>(facts.remembered()).is_some_and(|found| found.through.is_some());
    let outgoing = facts.references.iter().filter(|reference| through && reference.child == facts.oid);
    outgoing.map(|reference| reference.parent).collect()
}

/// Unquoted names of the policies that `protect` did not create.
pub fn unmanaged_policies(facts: &Facts) -> Vec<&str> {
    facts.policies.iter().filter(|policy| !policies::is_generated(policy)).map(|policy| policy.name.as_str()).collect()
}

/// The commands for which unmanaged policies admit rows, and the other commands.
pub fn commands_of_others(facts: &Facts) -> (Vec<&'static str>, Vec<&'static str>) {
    policies::commands_of_others(facts)
}

/// Refuses relations that do not support row-level security or row triggers.
///
/// Errors: `TABLE_UNSUITABLE`.
pub fn check_kind(subject: &TableFamily) -> Result<()> {
    let table = &subject.table;
    if let Some(parent) = table.parents.first() {
        let message = format!("{} is part of {parent}", table.table);
        return Err(error::TABLE_UNSUITABLE
            .error(message)
            .detail(format!("Protect {parent}: its partitions and children are protected with it.")));
    }
    std::iter::once(table).chain(&subject.members).try_for_each(check_kind_of_one)
}

fn check_kind_of_one(facts: &Facts) -> Result<()> {
    let (what, why) = match facts.kind.as_str() {
        _ if facts.system => ("a system table", "Its rows are the server's."),
        "r" | "p" if facts.temporary => ("a temporary table", "It is one session's own."),
        "r" | "p" => return Ok(()),
        "v" => ("a view", "Protect the tables below it, and create it WITH (security_invoker = true)."),
        "m" => ("a materialized view", "It has no row-level security; grant it to nobody who acts for a tenant."),
        "f" => (
            "a foreign table",
            "Row-level security does not apply to it, and the remote server knows no tenant: protect the table there.",
        ),
        _ => ("not a table", "Only tables have row-level security."),
    };
    Err(error::TABLE_UNSUITABLE.error(format!("{} is {what}", facts.table)).detail(why))
}

/// The steps that protect a table with its partitions and children, in an order that is safe one by one.
///
/// Errors: `TABLE_UNSUITABLE`, `ARGUMENT_INVALID`, `SECRET_COLUMN_INVALID`, and those of the organization column.
pub fn protect(subject: &TableFamily, options: &Options) -> Result<Vec<Step>> {
    check_kind(subject)?;
    let mode = if options.online { Mode::Online } else { Mode::AtOnce };
    let table = &subject.table;
    let target = target::decide(subject, options)?;
    let mut steps = preparation::steps(table, &target, options, mode);
    // Leaves first: a partitioned table then takes over the indexes that its partitions have.
    for member in subject.members.iter().rev() {
        steps.extend(protect_one(member, &target.for_member(member), mode, Vec::new()));
    }
    steps.extend(protect_one(table, &target, mode, references::carrying(subject, &target, table.oid)));
    steps.extend(references::steps(subject, &target, mode).into_iter().map(Step::keeping_references));
    Ok(steps)
}

/// The steps for one table of the tree.
fn protect_one(facts: &Facts, target: &Target, mode: Mode, references: Vec<String>) -> Vec<Step> {
    let table = &facts.table;
    let earlier: Option<Provenance> = provenance::read(facts.remembered());
    // A partition gets its index with that of the partitioned table; built online, it is there before.
    let (index, mut steps) = if facts.partition && mode == Mode::AtOnce {
        (earlier.as_ref().and_then(|earlier| earlier.index.clone()), Vec::new())
    } else {
        index::steps(facts, target, earlier.as_ref(), mode)
    };
    // A back-fill beside the application has had it before.
    if mode == Mode::AtOnce || target.preparation == Preparation::Nothing {
        steps.extend(default_step(facts, target));
    }
    let policies = policies::steps(facts, target);
    let isolation_done = policies.first().is_some_and(|isolation| isolation.state == State::Done);
    steps.extend(policies);
    steps.push(
        Step::new(
            facts.row_security,
            ACCESS_EXCLUSIVE,
            "From here on the policies apply.",
            format!("ALTER TABLE {table} ENABLE ROW LEVEL SECURITY"),
        )
        .closing(),
    );
    steps.push(
        Step::new(
            facts.force_row_security,
            ACCESS_EXCLUSIVE,
            "They apply to the owner of the table too.",
            format!("ALTER TABLE {table} FORCE ROW LEVEL SECURITY"),
        )
        .closing(),
    );
    steps.extend(triggers::steps(facts, target).into_iter().map(Step::closing));
    steps
        .push(provenance_step(facts, target, earlier, Made { index, references }, isolation_done).keeping_references());
    // Last, because the provenance of the table may stand on one of them.
    steps.extend(policies::left_over(facts, target));
    steps
}

fn default_step(facts: &Facts, target: &Target) -> Option<Step> {
    let Scope::Column { column, .. } = &target.scope else { return None };
    let accessor = target.comparison()?.accessor;
    Some(Step::new(
        column.default.as_deref() == Some(accessor),
        ACCESS_EXCLUSIVE,
        "A row gets the organization of the transaction that writes it.",
        format!("ALTER TABLE {} ALTER COLUMN {} SET DEFAULT {accessor}", facts.table, column.quoted),
    ))
}

/// Objects that `protect` creates for a table beside its policies and triggers.
struct Made {
    index: Option<String>,
    /// Names of the table's foreign keys that carry the organization.
    references: Vec<String>,
}

/// The step that writes the comment of the isolation policy.
///
/// A new isolation policy has no comment, so that the comment is written again.
fn provenance_step(
    facts: &Facts,
    target: &Target,
    earlier: Option<Provenance>,
    made: Made,
    isolation_done: bool,
) -> Step {
    // Somebody dropped the isolation policy, and the comment with it: what stands there is our own work.
    let half_protected =
        facts.policies.iter().any(policies::is_generated) || facts.triggers.iter().any(triggers::is_audit);
    let column = target.scope.column();
    let accessor = target.comparison().map(|comparison| comparison.accessor);
    let previous = match earlier {
        Some(earlier) => earlier,
        None => Provenance {
            column: column.name.clone(),
            domain: String::new(),
            through: target.scope.constraint().map(str::to_owned),
            null_rows: None,
            actions: Default::default(),
            secret_columns: Vec::new(),
            index: None,
            references: Vec::new(),
            previous_default: match &target.scope {
                Scope::Column { column, .. } => {
                    column.default.clone().filter(|default| Some(default.as_str()) != accessor)
                }
                Scope::Through { .. } => None,
            },
            was_nullable: target.preparation != Preparation::Nothing && !column.not_null,
            row_security: facts.row_security && !half_protected,
            force_row_security: facts.force_row_security && !half_protected,
        },
    };
    let provenance = Provenance {
        domain: target.domain.clone(),
        null_rows: target.scope.null_rows(),
        actions: target.actions.clone(),
        secret_columns: target.secret_columns.clone(),
        index: made.index,
        references: made.references,
        ..previous
    };
    let comment = provenance::write(&provenance);
    Step::new(
        isolation_done && facts.provenance.as_deref() == Some(&comment),
        SHARE_UPDATE_EXCLUSIVE,
        "Remembers how the table is protected and what was there before, for tenancy.unprotect.",
        format!("COMMENT ON POLICY {} ON {} IS {}", policies::ISOLATION, facts.table, quoted_text(&comment)),
    )
}
