//! The event triggers: tables that come, and protection that goes.
//!
//! Decisions: `docs/decisions/23-ddl-guard.md`, `docs/decisions/24-new-tables.md`.

use super::hit::{Hit, warned};
use super::state::{overridden, state};
use crate::audit;
use crate::pg::backend_local::BackendLocal;
use crate::pg::ddl::event_trigger::{self, DdlStatement, Part, Table};
use crate::pg::fmgr::fmgr_function;
use crate::pg::report::{OrRaise, warn};
use crate::pg::spi::{Query, argument};
use crate::pg::tables::table::{IndexKey, find};
use crate::pg::transaction;
use crate::pg::user;
use crate::policy::protect;
use pg_tenancy_core::error::{self, Error, Result};
use pg_tenancy_core::guardrail::{Guardrail, NEW_TABLES, PROTECTED_TABLES, State};
use pg_tenancy_core::policy::plan;
use pgrx::pg_sys;
use serde_json::json;
use std::cell::RefCell;
use uuid::Uuid;

/// Tables that could not be protected as they were made, and have until the commit.
static PENDING: BackendLocal<RefCell<Vec<pg_sys::Oid>>> = BackendLocal::new(RefCell::new(Vec::new()));

fmgr_function! {
    /// `tenancy.guard_ddl()`: event trigger on `ddl_command_end`.
    tenancy_guard_ddl, pg_finfo_tenancy_guard_ddl, |call| {
        event_trigger::statement(call).and_then(|statement| on_ddl_command_end(&statement)).or_raise();
        pg_sys::Datum::null()
    }
}

fmgr_function! {
    /// `tenancy.guard_drop()`: event trigger on `sql_drop`.
    tenancy_guard_drop, pg_finfo_tenancy_guard_drop, |call| {
        event_trigger::statement(call).and_then(|statement| on_sql_drop(&statement)).or_raise();
        pg_sys::Datum::null()
    }
}

fmgr_function! {
    /// `tenancy.guard_start()`: event trigger on `ddl_command_start`. For most statements it is enough that it was
    /// called: the library is loaded then.
    tenancy_guard_start, pg_finfo_tenancy_guard_start, |call| {
        event_trigger::statement(call).and_then(|statement| on_ddl_command_start(&statement)).or_raise();
        pg_sys::Datum::null()
    }
}

/// A partition of a protected table comes with its triggers, whose functions Postgres would say it may not call
/// without a name.
fn on_ddl_command_start(statement: &DdlStatement) -> Result<()> {
    if statement.drops_extensions.iter().any(|name| name == "pg_tenancy") {
        return require_nothing_protected();
    }
    if let Some(table) = statement.changes_columns_of.filter(|_| !protect::working()) {
        keep_organization_column(statement, table)?;
    }
    let parent = statement.partition_of.filter(|_| !protect::working() && !user::has_role(c"tenancy_admin"));
    match parent.filter(|parent| protect::is_marked(protect::root_of(*parent))) {
        Some(parent) => {
            let message = format!("a partition of {} would not be protected", protect::name_of(parent));
            Err(error::TABLE_UNPROTECTED.error(message).detail(NO_ADMIN))
        }
        None => Ok(()),
    }
}

/// Postgres would name the policies that depend on the column, and advise nothing, or CASCADE, which is refused.
fn keep_organization_column(statement: &DdlStatement, table: pg_sys::Oid) -> Result<()> {
    let Some(column) = protect::organization_column(table) else { return Ok(()) };
    let drops = |part: &Part| {
        ["drop_column", "alter_column_type"].contains(&part.name) && part.object.as_deref() == Some(column.as_str())
    };
    match protect::table(table).filter(|_| statement.parts.iter().any(drops)) {
        Some(table) => {
            refuse_missing_protection(statement, &table, &format!("The policies compare column \"{column}\"."))
        }
        None => Ok(()),
    }
}

/// Postgres would name policies and triggers of each table, and advise CASCADE.
fn require_nothing_protected() -> Result<()> {
    let tables = protect::marked_tables();
    if tables.is_empty() {
        return Ok(());
    }
    let (some, more) = tables.split_at(tables.len().min(5));
    let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    let message = "cannot drop extension pg_tenancy while tables are protected";
    Err(error::TABLES_PROTECTED.error(message).detail(format!("Protected: {}{more}.", some.join(", "))))
}

const NO_ADMIN: &str = "The role in force is no member of tenancy_admin, so it cannot protect it.";

fmgr_function! {
    /// `tenancy.guard_rewrite()`: event trigger on `table_rewrite`.
    tenancy_guard_rewrite, pg_finfo_tenancy_guard_rewrite, |call| {
        event_trigger::statement(call).and_then(|statement| on_table_rewrite(&statement)).or_raise();
        pg_sys::Datum::null()
    }
}

/// A table whose rows are about to be written anew: no trigger tells of the values that change.
fn on_table_rewrite(statement: &DdlStatement) -> Result<()> {
    let Some(rewrite) = event_trigger::rewrite() else { return Ok(()) };
    if protect::working() || !protect::is_marked(protect::root_of(rewrite.table.oid)) {
        return Ok(());
    }
    let columns = |name: &str| {
        let parts = statement.parts.iter().filter(|part| part.name == name);
        parts.filter_map(|part| part.object.clone()).collect::<Vec<_>>()
    };
    let mut changed = if rewrite.changes_columns { columns("alter_column_type") } else { Vec::new() };
    if !changed.is_empty() {
        let table = &rewrite.table;
        let message = format!(
            "{} would change values of {}.{} in every organization's rows, and no event tells of them",
            statement.tag, table.schema, table.name
        );
        let error = error::PROTECTION_CHANGED.error(message).detail(format!("Columns: {}.", changed.join(", ")));
        apply_guardrail(&PROTECTED_TABLES, statement, table, error)?;
    }
    if rewrite.fills_columns {
        changed.extend(columns("add_column"));
    }
    if changed.is_empty() {
        return Ok(());
    }
    audit::table_changed("rewrite", &rewrite.table.schema, &rewrite.table.name, json!({ "columns": changed }))
}

/// What the statement made and changed.
fn on_ddl_command_end(statement: &DdlStatement) -> Result<()> {
    if let Some((from, to)) = &statement.renamed_schema {
        schema_renamed(from, to);
    }
    let changes_default = statement.parts.iter().any(|part| part.name == "column_default");
    let nothing = !statement.takes_away
        && !statement.brings
        && !statement.brings_keys
        && !changes_default
        && statement.detached.is_none();
    if nothing || protect::working() {
        return Ok(());
    }
    let of_policy = statement.tag == "ALTER POLICY";
    let renamed = statement.renamed_from.as_deref().filter(|name| of_policy && protect::is_generated_name(name));
    for table in event_trigger::tables() {
        if let Some(name) = renamed.filter(|_| protect::is_marked(table.oid)) {
            refuse_missing_protection(statement, &table, &format!("{name} has another name"))?;
        }
        if statement.takes_away
            && let Some(damage) = protect::missing_protection(table.oid)
        {
            refuse_missing_protection(statement, &table, &damage)?;
        }
        if statement.brings {
            on_table_created(statement, &table)?;
        }
        if statement.attaches {
            refuse_open_parents(statement, &table)?;
        }
        if statement.brings_keys {
            keep_keys(statement, &table)?;
        }
        for part in statement.parts.iter().filter(|part| part.name == "column_default") {
            if let Some(column) = part.object.as_deref().filter(|column| protect::lacks_default(table.oid, column)) {
                warn_of_loss(statement, &table, &format!("the default of column \"{column}\""));
            }
        }
    }
    // A partition takes its policies along and leaves its part of the triggers behind.
    if let Some(table) = statement.detached.filter(|table| protect::is_marked(*table)) {
        protect(table)?;
    }
    Ok(())
}

/// What was decided on a schema and its tables goes with its name.
fn schema_renamed(from: &str, to: &str) {
    user::as_superuser(|| {
        for query in [&SCHEMA_RENAMED, &SCHEMA_LEFT, &EXCLUSIONS_RENAMED] {
            query.write(&[argument(from), argument(to)], |_| ());
        }
    });
}

static SCHEMA_RENAMED: Query = Query::new(
    "INSERT INTO tenancy.protected_schema (schema_name, organization_column)
     SELECT $2, s.organization_column FROM tenancy.protected_schema s WHERE s.schema_name = $1 ON CONFLICT DO NOTHING",
);

static SCHEMA_LEFT: Query =
    Query::new("DELETE FROM tenancy.protected_schema s WHERE s.schema_name = $1 AND $2 IS NOT NULL");

static EXCLUSIONS_RENAMED: Query = Query::new(
    "UPDATE tenancy.exclusion x SET schema_name = $2
      WHERE x.schema_name = $1
        AND NOT EXISTS (SELECT FROM tenancy.exclusion y WHERE y.schema_name = $2
                           AND y.table_name = x.table_name)",
);

/// Policies, triggers and keys of ours that were dropped, by DROP or by CASCADE, from a table that stays.
fn on_sql_drop(statement: &DdlStatement) -> Result<()> {
    if protect::working() || statement.tag == "DROP EXTENSION" {
        return Ok(());
    }
    for dropped in event_trigger::dropped() {
        if protect::is_generated_name(&dropped.name) && protect::is_protected_somehow(dropped.table.oid) {
            refuse_missing_protection(statement, &dropped.table, &format!("{} is gone", dropped.name))?;
        }
    }
    for key in event_trigger::dropped_keys() {
        if protect::table(key.table.oid).is_none() {
            continue;
        }
        if key.is_foreign {
            let points_at_what_is_there = key.parent.is_some_and(protect::is_protected_somehow);
            if points_at_what_is_there && protect::misses(key.table.oid, &key.name, &key.columns) {
                let damage = format!("The foreign key \"{}\" carried the organization and is gone.", key.name);
                refuse_missing_protection(statement, &key.table, &damage)?;
            } else {
                protect::forget_key(key.table.oid, &key.name)?;
            }
        } else if protect::is_made_index(key.table.oid, &key.name) {
            warn_of_loss(statement, &key.table, &format!("the index \"{}\"", key.name));
        }
    }
    Ok(())
}

/// A foreign key between protected tables carries the organization from the statement on that adds it, whoever that
/// does. A role that may not alter both tables cannot add one.
fn keep_keys(statement: &DdlStatement, table: &Table) -> Result<()> {
    if protect::root_of(table.oid) != table.oid || !protect::is_marked(table.oid) {
        return Ok(());
    }
    let steps = protect::key_steps(table.oid)?;
    let Some(first) = steps.first() else { return Ok(()) };
    let state = state(&PROTECTED_TABLES, Uuid::nil());
    let name = Some((table.schema.as_str(), table.name.as_str()));
    if state == State::Off || overridden(&PROTECTED_TABLES, &statement.tag, name)? {
        return Ok(());
    }
    let others = steps.iter().find(|step| step.state == plan::State::Manual);
    if state == State::Enforce && others.is_none() {
        return protect::keep_keys(table.oid, &steps);
    }
    let message = format!("a foreign key of {}.{} could lead to another organization's row", table.schema, table.name);
    let detail = match others {
        Some(step) => format!("The owner of both tables adds it, or runs: {}", step.sql),
        None => format!("To be done: {}", first.sql),
    };
    apply_guardrail(&PROTECTED_TABLES, statement, table, error::PROTECTION_CHANGED.error(message).detail(detail))
}

/// Says that something is gone which costs time, or has to be written out, and opens nothing.
fn warn_of_loss(statement: &DdlStatement, table: &Table, what: &str) {
    if state(&PROTECTED_TABLES, Uuid::nil()) != State::Off {
        let name = protect::name_of(table.oid);
        let message = format!("{} took {what} of {name}, which tenancy.protect made", statement.tag);
        let detail = format!("SELECT tenancy.protect('{}')", name.replace('\'', "''"));
        warn(&error::PROTECTION_CHANGED.error(message).detail(detail));
    }
}

/// A query of a parent reads the rows of its children by the policies of the parent alone.
fn refuse_open_parents(statement: &DdlStatement, table: &Table) -> Result<()> {
    for (child, parent) in protect::open_parents(table.oid) {
        let Some(child) = protect::table(child) else { continue };
        let parent = protect::name_of(parent);
        let damage = format!("Its rows would be read through {parent}, which has no policies. Protect that first.");
        refuse_missing_protection(statement, &child, &damage)?;
    }
    Ok(())
}

fn refuse_missing_protection(statement: &DdlStatement, table: &Table, damage: &str) -> Result<()> {
    let message = format!("{} would leave table {}.{} less protected", statement.tag, table.schema, table.name);
    let error = error::PROTECTION_CHANGED.error(message).detail(damage);
    apply_guardrail(&PROTECTED_TABLES, statement, table, error)
}

/// Raises, warns, or does neither, as the guardrail and the session say.
fn apply_guardrail(guardrail: &'static Guardrail, statement: &DdlStatement, table: &Table, error: Error) -> Result<()> {
    let state = state(guardrail, Uuid::nil());
    if state == State::Off || overridden(guardrail, &statement.tag, Some((&table.schema, &table.name)))? {
        return Ok(());
    }
    if state == State::Enforce {
        audit::statement_refused(&statement.tag, &error);
        return Err(error);
    }
    warned(&hit(guardrail, statement, table), &error)
}

/// A statement on a table concerns every organization.
fn hit<'a>(guardrail: &'static Guardrail, statement: &'a DdlStatement, table: &'a Table) -> Hit<'a> {
    let table = Some((table.schema.as_str(), table.name.as_str()));
    Hit::of_table(guardrail, Uuid::nil(), &statement.tag, table)
}

/// A table that is new, or has another column, name or parent.
fn on_table_created(statement: &DdlStatement, table: &Table) -> Result<()> {
    let root = protect::root_of(table.oid);
    if protect::is_marked(root) {
        // Whatever the guardrail: a partition of a protected table that is not protected itself is a way around it.
        if root != table.oid || statement.attaches {
            protect(root)?;
        }
        return Ok(());
    }
    if !is_wanted(root, table) {
        return Ok(());
    }
    let error = unprotected(root, None);
    match state(&NEW_TABLES, Uuid::nil()) {
        State::Off => Ok(()),
        State::Warn => warned(&hit(&NEW_TABLES, statement, table), &error),
        State::Enforce if overridden(&NEW_TABLES, &statement.tag, Some((&table.schema, &table.name)))? => Ok(()),
        State::Enforce => match protect::remaining(root) {
            Ok(_) => protect(root),
            Err(_) => {
                PENDING.borrow_mut().push(root);
                Ok(())
            }
        },
    }
}

/// With the rights of whoever changes the table, who needs those of tenancy_admin for it.
fn protect(table: pg_sys::Oid) -> Result<()> {
    if !user::has_role(c"tenancy_admin") {
        return Err(unprotected(table, Some(NO_ADMIN)));
    }
    protect::protect_if_possible(table).map(|_| ())
}

fn unprotected(table: pg_sys::Oid, reason: Option<&str>) -> Error {
    let name = protect::name_of(table);
    let why = reason.map(str::to_owned).or_else(|| protect::remaining(table).err().map(|error| error.message));
    let why = why.map_or_else(String::new, |why| format!("{why} "));
    error::TABLE_UNPROTECTED
        .error(format!("table {name} has an organization column and is not protected"))
        .detail(format!("{why}SELECT tenancy.protect('{}')", name.replace('\'', "''")))
}

/// True for a table of a protected schema with an organization column that nobody has excluded.
fn is_wanted(root: pg_sys::Oid, table: &Table) -> bool {
    transaction::with_latest_snapshot(|| {
        let schema = [IndexKey::text(1, &table.schema)];
        let excluded = [IndexKey::text(1, &table.schema), IndexKey::text(2, &table.name)];
        !find(c"protected_schema", c"protected_schema_pkey", &schema, |_| ()).is_empty()
            && find(c"exclusion", c"exclusion_pkey", &excluded, |_| ()).is_empty()
    }) && protect::has_organization_column(root)
}

/// What was pending must be protected, excluded or gone by now.
pub fn before_commit() {
    let pending = std::mem::take(&mut *PENDING.borrow_mut());
    if pending.is_empty() {
        return;
    }
    transaction::with_latest_snapshot(|| {
        for table in pending {
            let Some(found) = protect::table(table) else { continue };
            if !protect::is_marked(table) && is_wanted(table, &found) {
                Err(unprotected(table, None)).or_raise()
            }
        }
    });
}

pub fn transaction_ended() {
    PENDING.borrow_mut().clear();
}
