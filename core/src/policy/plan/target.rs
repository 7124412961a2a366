//! The decisions about a table: from the options of the caller, an earlier `protect`, and defaults.
//!
//! Decision: `docs/decisions/22-multi-step-paths.md`.

use super::provenance::{self, Provenance};
use crate::error::{self, Result};
use crate::policy::column::{self, Comparison};
use crate::policy::facts::{Column, Facts, Name, Reference, TableFamily};
use crate::policy::options::{Actions, NullRows, Options};

/// The longest domain, in bytes. A table's name has at most 63 bytes, and about twice as many in snake case.
const MAX_DOMAIN_BYTES: usize = 200;

/// The types of keys that a child table may be protected through: they are compared without a cast.
const KEY_TYPES: [&str; 4] = ["uuid", "integer", "bigint", "text"];

/// The decisions that determine the steps.
#[derive(Debug, Clone)]
pub struct Target {
    /// The place of a row's organization.
    pub scope: Scope,
    /// The permission domain of the table.
    pub domain: String,
    /// The custom actions of the table.
    pub actions: Actions,
    /// Columns whose values the audit records as commitments.
    pub secret_columns: Vec<String>,
    /// How the organization column is prepared before the other steps.
    pub preparation: Preparation,
}

/// The place of a row's organization.
#[derive(Debug, Clone)]
pub enum Scope {
    /// A column of the row itself.
    Column { column: Column, null_rows: Option<NullRows> },
    /// A column of the row that a foreign key leads to, by one step or several.
    Through { column: Column, constraint: String, way: Way },
}

/// The way from a row to the row that has an organization column.
#[derive(Debug, Clone)]
pub struct Way {
    /// The tables that the foreign keys lead to; the last one has the organization column.
    pub steps: Vec<Parent>,
    /// The meaning of a NULL in that column.
    pub null_rows: Option<NullRows>,
}

/// A table on the way.
#[derive(Debug, Clone)]
pub struct Parent {
    /// Schema and name, quoted.
    pub table: String,
    /// The column that the previous step references.
    pub key: Name,
    /// The column of the next foreign key, or the organization column.
    pub value: Column,
}

/// The most steps of a way.
///
/// The policies of each table on the way also apply within the policies of the tables below. Each further step doubles
/// the work of the planner.
pub const MOST_STEPS: usize = 6;

impl Way {
    /// The organization column at the end of the way.
    pub fn organization(&self) -> Option<&Column> {
        self.steps.last().map(|parent| &parent.value)
    }

    /// The texts that represent the way in a trigger's arguments: table, key and value of each step.
    pub fn texts(&self) -> Vec<&str> {
        self.steps
            .iter()
            .flat_map(|parent| [parent.table.as_str(), parent.key.name.as_str(), parent.value.name.as_str()])
            .collect()
    }
}

/// How the organization column must be prepared before the table can be protected by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preparation {
    /// The column needs no preparation.
    Nothing,
    /// The back-fill expression replaces NULLs; with `add` the column is created first.
    Fill { add: bool },
}

impl Scope {
    /// The column that the index, the trigger and the provenance name.
    pub fn column(&self) -> &Column {
        match self {
            Scope::Column { column, .. } | Scope::Through { column, .. } => column,
        }
    }

    /// The meaning of a NULL in the row's own organization column.
    pub fn null_rows(&self) -> Option<NullRows> {
        match self {
            Scope::Column { null_rows, .. } => *null_rows,
            Scope::Through { .. } => None,
        }
    }

    /// Name of the foreign key of [`Scope::Through`].
    pub fn constraint(&self) -> Option<&str> {
        match self {
            Scope::Through { constraint, .. } => Some(constraint),
            Scope::Column { .. } => None,
        }
    }
}

/// Decides how the table is protected.
pub fn decide(subject: &TableFamily, options: &Options) -> Result<Target> {
    let table = &subject.table;
    let earlier: Option<Provenance> = provenance::read(table.remembered());
    let through = options.through.or(earlier.as_ref().and_then(|earlier| earlier.through.as_deref()));
    let (scope, preparation) = match through {
        Some(_) if options.column.is_some() || options.backfill.is_some() || options.null_rows.is_some() => {
            let message = "through is for a table without an organization column: no column, null_rows or backfill";
            return Err(error::ARGUMENT_INVALID.error(message));
        }
        Some(through) => (scope_through(subject, through)?, Preparation::Nothing),
        None => scope_by_column(table, options, earlier.as_ref())?,
    };
    if let Some(earlier) = &earlier
        && (earlier.column != scope.column().name || earlier.through.as_deref() != scope.constraint())
    {
        let message = format!("{} is protected by column \"{}\" already", table.table, earlier.column);
        return Err(error::ARGUMENT_INVALID
            .error(message)
            .detail("Call tenancy.unprotect first to change the column."));
    }
    let actions = match &options.actions {
        Some(actions) => actions.clone(),
        None => earlier.as_ref().map(|earlier| earlier.actions.clone()).unwrap_or_default(),
    };
    for name in actions.values().flat_map(|action| action.column_names()) {
        if table.column(name).is_none() {
            return Err(column::missing(table, Some(name)));
        }
    }
    let secret_columns = match &options.secret_columns {
        Some(columns) => columns.clone(),
        None => earlier.as_ref().map(|earlier| earlier.secret_columns.clone()).unwrap_or_default(),
    };
    check_secret(subject, &scope, &secret_columns)?;
    let domain = options.domain.or(earlier.as_ref().map(|earlier| earlier.domain.as_str()));
    let domain = domain.map_or_else(|| usual_domain(&table.name), str::to_owned);
    check_domain(&domain)?;
    Ok(Target { scope, domain, actions, secret_columns, preparation })
}

/// Refuses secret columns whose values an event would contain in plain text anyway.
fn check_secret(subject: &TableFamily, scope: &Scope, secret: &[String]) -> Result<()> {
    let table = &subject.table;
    let refused = |name: &str, why: &str| {
        let message = format!("column \"{name}\" of {} cannot be secret: {why}", table.table);
        Err(error::SECRET_COLUMN_INVALID.error(message))
    };
    for name in secret {
        let Some(column) = table.column(name) else {
            return refused(name, "there is no such column");
        };
        if name.contains('\\') {
            return refused(name, "its name holds a backslash");
        }
        if scope.column().name == *name {
            return refused(name, "it leads to the organization");
        }
        let members = std::iter::once(table).chain(&subject.members);
        if members.flat_map(|member| &member.indexes).any(|index| index.primary && index.columns.contains(name)) {
            return refused(name, "it is part of the primary key");
        }
        let copy = |other: &&Column| other.computed_from.contains(&column.name) && !secret.contains(&other.name);
        if let Some(copy) = table.columns.iter().find(copy) {
            return refused(name, &format!("column \"{}\" is computed from it and would have to be so too", copy.name));
        }
    }
    Ok(())
}

fn check_domain(domain: &str) -> Result<()> {
    if domain.is_empty()
        || domain.len() > MAX_DOMAIN_BYTES
        || domain.contains(['\\', '*'])
        || domain.chars().any(char::is_control)
    {
        return Err(error::ARGUMENT_INVALID.error("the domain must be a name of at most 200 bytes without * and \\"));
    }
    Ok(())
}

fn scope_by_column(table: &Facts, options: &Options, earlier: Option<&Provenance>) -> Result<(Scope, Preparation)> {
    let named = options.column.or(earlier.map(|earlier| earlier.column.as_str()));
    let null_rows = options.null_rows.or(earlier.and_then(|earlier| earlier.null_rows));
    let found = column::find(table, named)?;
    let (column, preparation) = match (found, &options.backfill, named) {
        (Some(column), Some(_), _) => (column.clone(), Preparation::Fill { add: false }),
        (Some(column), None, _) => (column.clone(), Preparation::Nothing),
        (None, Some(backfill), Some(name)) => {
            let quoted = crate::policy::text::quote_generated(name);
            let data_type = backfill.data_type.clone();
            let column = Column { name: name.into(), quoted, data_type, ..Column::default() };
            (column, Preparation::Fill { add: true })
        }
        (None, _, _) => return Err(column::missing(table, named)),
    };
    column::check(table, &column)?;
    if options.null_rows.is_some() && preparation != Preparation::Nothing {
        return Err(error::ARGUMENT_INVALID.error("null_rows and backfill exclude each other"));
    }
    let null_rows = null_rows.filter(|_| !column.not_null && preparation == Preparation::Nothing);
    if !column.not_null && null_rows.is_none() && preparation == Preparation::Nothing {
        let message = format!("column \"{}\" of {} may be NULL", column.name, table.table);
        return Err(error::COLUMN_UNSUITABLE.error(message).detail(
            "Fill it with backfill => 'expression', or say what NULL means: null_rows => 'shared' (rows that every \
             organization reads) or 'nobody' (rows that no organization sees).",
        ));
    }
    Ok((Scope::Column { column, null_rows }, preparation))
}

/// The scope for a foreign key that `through` names directly or by its only column.
fn scope_through(subject: &TableFamily, through: &str) -> Result<Scope> {
    let table = &subject.table;
    let refused = |why: String| {
        let message = format!("{} cannot be protected through \"{through}\"", table.table);
        error::TABLE_UNSUITABLE.error(message).detail(format!(
            "{why} Another way is a column of its own: organization_column => '...', backfill => '...'."
        ))
    };
    if !subject.members.is_empty() || table.partitioned() {
        return Err(refused("It has partitions or children.".into()));
    }
    let reference = reference_named(table, through).map_err(refused)?;
    let way = way_by(subject, reference, None).map_err(refused)?;
    let column = reference.child_columns.first().and_then(|from| table.column(&from.name));
    let column = column.ok_or_else(|| refused("Its column is gone.".into()))?;
    Ok(Scope::Through { column: column.clone(), constraint: reference.name.clone(), way })
}

/// The foreign key of that name, or the only one of that column.
fn reference_named<'a>(table: &'a Facts, through: &str) -> std::result::Result<&'a Reference, String> {
    let outgoing = || table.references.iter().filter(|reference| reference.child == table.oid);
    let of_column =
        |reference: &&Reference| reference.child_columns.len() == 1 && reference.child_columns[0].name == through;
    let by_name = outgoing().find(|reference| reference.name == through);
    let mut by_column = outgoing().filter(of_column);
    match (by_name, by_column.next(), by_column.next()) {
        (Some(reference), ..) | (None, Some(reference), None) => Ok(reference),
        _ => Err(format!("{} has no such foreign key, or several on that column.", table.table)),
    }
}

/// The way that begins with the foreign key, or the reason why there is none.
///
/// The way may lead through the table itself if `own` states how that table is protected.
pub fn way_by(subject: &TableFamily, reference: &Reference, own: Option<&Scope>) -> std::result::Result<Way, String> {
    let checked = own.is_some();
    let fits = |from: &Name, to: &Name| {
        if checked {
            return comparable(&from.data_type, &to.data_type);
        }
        from.data_type == to.data_type && KEY_TYPES.contains(&from.data_type.as_str())
    };
    let mut steps: Vec<Parent> = Vec::new();
    let mut reference = reference;
    loop {
        let (from, to) = link(reference)?;
        let parent = subject.facts_of(reference.parent).ok_or("The table it points at is gone.")?;
        let table = &parent.table;
        let own = own.filter(|_| subject.table.oid == parent.oid);
        if steps.iter().any(|step| step.table == *table) || subject.table.oid == parent.oid && own.is_none() {
            return Err(format!("It leads to {table} again."));
        }
        if steps.len() == MOST_STEPS {
            return Err(format!("It leads through more than {MOST_STEPS} tables."));
        }
        if parent.partitioned() {
            return Err(format!("{table}, which it leads to, is partitioned."));
        }
        if !fits(from, to) {
            return Err("The key must be uuid, integer, bigint or text on both sides.".into());
        }
        if [&from.name, &to.name, &reference.name, table].iter().any(|name| name.contains('\\')) {
            return Err("A name holds a backslash.".into());
        }
        if let Some(scope) = own {
            steps.push(Parent { table: table.clone(), key: to.clone(), value: scope.column().clone() });
            let rest = match scope {
                Scope::Column { null_rows, .. } => Way { steps: Vec::new(), null_rows: *null_rows },
                Scope::Through { way, .. } => way.clone(),
            };
            return Ok(Way { steps: [steps, rest.steps].concat(), null_rows: rest.null_rows });
        }
        let not_protected = || format!("{table}, which it leads to, is not protected.");
        let provenance: Provenance = provenance::read(parent.remembered()).ok_or_else(not_protected)?;
        let value = parent.column(&provenance.column).ok_or_else(not_protected)?;
        steps.push(Parent { table: table.clone(), key: to.clone(), value: value.clone() });
        match &provenance.through {
            None if value.not_null || provenance.null_rows.is_some() => {
                return Ok(Way { steps, null_rows: provenance.null_rows.filter(|_| !value.not_null) });
            }
            None => return Err(format!("The organization of {table} may be NULL.")),
            Some(through) => {
                reference =
                    reference_named(parent, through).or_else(|_| reference_named(parent, &provenance.column))?;
            }
        }
    }
}

/// Whether a B-tree index on one type supports lookups with the other type.
fn comparable(one: &str, other: &str) -> bool {
    const INTEGERS: [&str; 3] = ["smallint", "integer", "bigint"];
    one == other || [one, other].iter().all(|name| INTEGERS.contains(name))
}

/// How another table of the family is protected: its column, and the way that begins with the column.
pub fn scope_of(subject: &TableFamily, facts: &Facts, own: &Scope) -> Option<(Column, Option<Way>)> {
    if facts.oid == subject.table.oid {
        let way = match own {
            Scope::Column { .. } => None,
            Scope::Through { way, .. } => Some(way.clone()),
        };
        return Some((own.column().clone(), way));
    }
    let provenance: Provenance = provenance::read(facts.remembered())?;
    let column = facts.column(&provenance.column)?.clone();
    let Some(through) = &provenance.through else { return Some((column, None)) };
    let reference = reference_named(facts, through).or_else(|_| reference_named(facts, &provenance.column)).ok()?;
    Some((column, Some(way_by(subject, reference, Some(own)).ok()?)))
}

/// The columns of a foreign key that has one column on each side.
pub fn link(reference: &Reference) -> std::result::Result<(&Name, &Name), String> {
    match (&reference.child_columns[..], &reference.parent_columns[..]) {
        ([from], [to]) => Ok((from, to)),
        _ => Err("The foreign key has several columns.".into()),
    }
}

impl Target {
    /// The same decisions for a partition or an inheritance child, whose column has its own default and NOT NULL.
    pub fn for_member(&self, member: &Facts) -> Self {
        let mut target = self.clone();
        if let Scope::Column { column, .. } = &mut target.scope
            && let Some(own) = member.column(&column.name)
        {
            *column = own.clone();
        }
        target
    }

    /// How the organization column is compared; [`decide`] accepts only types that can be compared.
    pub fn comparison(&self) -> Option<Comparison> {
        match &self.scope {
            Scope::Column { column, .. } => Comparison::of(&column.data_type),
            Scope::Through { way, .. } => Comparison::of(&way.organization()?.data_type),
        }
    }
}

/// The default domain of a table: its name in snake case.
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
