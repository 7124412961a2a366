//! Statements that change the rules, as events: policies, grants, protected tables and the extension itself.
//!
//! They are in the chain of the nil UUID, because what concerns a table or a role concerns every organization. Never
//! the statement's text, in which a literal could be a secret.
//!
//! Decision: `docs/decisions/35-ddl-events.md`.

use super::append::{NewEvent, append};
use super::restore;
use crate::pg::backend_local::BackendLocal;
use crate::pg::ddl::cluster_change::ClusterChange;
use crate::pg::ddl::event_trigger::{self as statement, DdlStatement};
use crate::pg::ddl::grant::Grant;
use crate::pg::ddl::objects::{self as objects, DdlObject, DroppedObject};
use crate::pg::fmgr::fmgr_function;
use crate::pg::hooks::utility;
use crate::pg::report::OrRaise;
use crate::pg::tables::table;
use crate::pg::transaction;
use pg_tenancy_core::audit::capture::ddl;
use pg_tenancy_core::error::Result;
use pgrx::pg_sys;
use serde_json::{Map, Value, json};
use std::cell::Cell;
use std::collections::BTreeSet;
use uuid::Uuid;

const DOMAIN: &str = "schema";

fmgr_function! {
    /// `tenancy.audit_ddl()`: event trigger on `ddl_command_end`.
    tenancy_audit_ddl, pg_finfo_tenancy_audit_ddl, |call| {
        statement::statement(call).and_then(|statement| changed(&statement)).or_raise();
        pg_sys::Datum::null()
    }
}

fmgr_function! {
    /// `tenancy.audit_drop()`: event trigger on `sql_drop`.
    tenancy_audit_drop, pg_finfo_tenancy_audit_drop, |call| {
        statement::statement(call).and_then(|statement| dropped(&statement)).or_raise();
        pg_sys::Datum::null()
    }
}

/// How deep the statement runs that is part of a change which is one event.
static PART: BackendLocal<Cell<Option<i32>>> = BackendLocal::new(Cell::new(None));
/// True while an event is written, which may make a partition.
static RECORDING: BackendLocal<Cell<bool>> = BackendLocal::new(Cell::new(false));

/// Puts a value back, also when Postgres raises in between.
struct Restore<T: Copy + 'static>(&'static Cell<T>, T);

impl<T: Copy> Drop for Restore<T> {
    fn drop(&mut self) {
        self.0.set(self.1);
    }
}

/// Runs one step of a change that is recorded as a whole, by [`table_changed`]: the statement itself writes no event of
/// its own. What functions that it calls do besides, those of a table's owner for instance, does.
pub fn as_part<T>(step: &str, run: impl FnOnce() -> T) -> T {
    let is_query = step.starts_with("SELECT");
    let _restore = Restore(&PART, PART.replace((!is_query).then(|| utility::depth() + 1)));
    run()
}

/// True where nothing is recorded: before the extension is in use, so that a restore finds no partition in its way; and
/// within what is recorded as a whole.
fn silent() -> Result<bool> {
    Ok(RECORDING.get()
        || PART.get() == Some(utility::depth())
        || transaction::scripted()
        || transaction::read_only()
        || !table::has_partitions(c"event_batch")
        || restore::brings_rules()?)
}

/// An event of the rules.
struct DdlEvent<'a> {
    operation: &'a str,
    command: &'a str,
    kind: &'a str,
    identity: &'a str,
    table: Option<(&'a str, &'a str)>,
    details: Map<String, Value>,
}

fn record(event: DdlEvent) -> Result<()> {
    let _restore = Restore(&RECORDING, RECORDING.replace(true));
    let mut new = event.details;
    new.insert("command".into(), event.command.into());
    new.insert("object_type".into(), event.kind.into());
    new.insert("object_identity".into(), event.identity.into());
    append(NewEvent {
        organization: Uuid::nil(),
        operation: event.operation,
        domain: DOMAIN,
        table_schema: event.table.map(|(schema, _)| schema),
        table_name: event.table.map(|(_, name)| name),
        row_key: None,
        result: "success",
        reason: None,
        payload: json!({ "new": new }).to_string(),
    })?;
    Ok(())
}

/// A table was protected, or no longer is: what that took is one event.
pub fn table_changed(operation: &str, schema: &str, name: &str, details: Value) -> Result<()> {
    if transaction::scripted() {
        return Ok(());
    }
    record(DdlEvent {
        operation,
        command: &operation.to_uppercase(),
        kind: "table",
        identity: &format!("{schema}.{name}"),
        table: Some((schema, name)),
        details: object_of(details),
    })
}

/// What a statement made and changed.
fn changed(statement: &DdlStatement) -> Result<()> {
    if silent()? {
        return Ok(());
    }
    if let Some((roles, to)) = &statement.owners {
        let details = object_of(json!({ "roles": roles, "to": to }));
        return plain(statement, "role", &roles.join(", "), details);
    }
    if let Some((roles, schemas, grant)) = &statement.default_privileges {
        let mut details = grant_details(grant);
        details.insert("roles".into(), roles.clone().into());
        details.insert("schemas".into(), schemas.clone().into());
        return plain(statement, "default privileges", &schemas.join(", "), details);
    }
    if let Some((from, to)) = statement.renamed_schema.as_ref().filter(|(_, to)| objects::has_protected(to)) {
        return plain(statement, "schema", to, object_of(json!({ "renamed_from": from, "renamed_to": to })));
    }
    let commands = objects::commands();
    for object in &commands.objects {
        object_changed(statement, object)?;
    }
    for grant in &commands.grants {
        let operation = ddl::operation(&statement.tag);
        for object in objects::granted(grant) {
            record(DdlEvent { details: grant_details(grant), ..of_object(&operation, statement, &object) })?;
        }
    }
    Ok(())
}

fn plain(statement: &DdlStatement, kind: &str, identity: &str, details: Map<String, Value>) -> Result<()> {
    let operation = ddl::operation(&statement.tag);
    record(DdlEvent { operation: &operation, command: &statement.tag, kind, identity, table: None, details })
}

fn of_object<'a>(operation: &'a str, statement: &'a DdlStatement, object: &'a DdlObject) -> DdlEvent<'a> {
    DdlEvent {
        operation,
        command: &statement.tag,
        kind: &object.kind,
        identity: &object.identity,
        table: object.table.as_ref().map(|(schema, name)| (schema.as_str(), name.as_str())),
        details: Map::new(),
    }
}

fn object_changed(statement: &DdlStatement, object: &DdlObject) -> Result<()> {
    let parts: Vec<&str> = statement.parts.iter().map(|part| part.name).collect();
    let read = object.details.as_deref().and_then(|details| serde_json::from_str(details).ok());
    let mut details = object_of(read.unwrap_or_default());
    let function = details.get("function").and_then(Value::as_str);
    let attaches = object.identity == "tenancy.event_batch" || object.identity == "tenancy.event_actor";
    if object.audit_partition && ddl::is_upkeep(&statement.tag, &parts, function)
        || attaches && !parts.is_empty() && parts.iter().all(|part| *part == "attach_partition")
    {
        return Ok(());
    }
    let always = || object.oid.filter(|_| !parts.is_empty()).and_then(objects::captures_always);
    let operation = match ddl::capture(&parts, always()) {
        Some(operation) => operation.to_owned(),
        None => ddl::operation(&statement.tag),
    };
    if !statement.parts.is_empty() {
        let actions = statement.parts.iter().map(|part| json!({ "action": part.name, "name": part.object }));
        details.insert("actions".into(), actions.collect());
    }
    if let Some((from, to)) = statement.renamed_from.as_ref().zip(statement.renamed_to.as_ref()) {
        details.insert("renamed_from".into(), from.as_str().into());
        details.insert("renamed_to".into(), to.as_str().into());
    }
    if statement.moves
        && let Some(schema) = object.oid.and_then(objects::schema_before)
    {
        details.insert("moved_from".into(), schema.into());
    }
    record(DdlEvent { details, ..of_object(&operation, statement, object) })
}

fn grant_details(grant: &Grant) -> Map<String, Value> {
    let columns = |(privilege, columns): &(String, Vec<String>)| json!({ "privilege": privilege, "columns": columns });
    let mut details = object_of(json!({
        "privileges": grant.privileges, "grantees": grant.grantees, "grant_option": grant.grant_option,
    }));
    if !grant.columns.is_empty() {
        details.insert("columns".into(), grant.columns.iter().map(columns).collect());
    }
    details
}

fn object_of(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// Kinds of objects that belong to a table and bear on its protection; their names begin with the table's.
const OF_TABLES: [&str; 6] = ["policy", "trigger", "rule", "table constraint", "table column", "default value"];

/// What a statement dropped: protected tables, policies, what belongs to protected tables, and parts of the extension.
fn dropped(statement: &DdlStatement) -> Result<()> {
    if silent()? {
        return Ok(());
    }
    let dropped = objects::dropped();
    let is_table = |kind: &str| matches!(kind, "table" | "foreign table");
    let gone: BTreeSet<(&str, &str)> =
        dropped.iter().filter(|object| is_table(&object.kind)).filter_map(names_of_table).collect();
    // What protected a table goes with it or by itself, and shows in any case that the table was protected.
    let protected: BTreeSet<(&str, &str)> = dropped
        .iter()
        .filter(|object| object.names.last().is_some_and(|name| name.starts_with("tenancy_")))
        .filter(|object| matches!(object.kind.as_str(), "policy" | "trigger"))
        .filter_map(names_of_table)
        .collect();
    for object in &dropped {
        let of_table = OF_TABLES.contains(&object.kind.as_str());
        let table = names_of_table(object).filter(|_| of_table || is_table(&object.kind));
        let wanted = match table {
            Some(table) if of_table && gone.contains(&table) => false,
            Some(_) if object.kind == "policy" => true,
            Some(table) if protected.contains(&table) || table.0 == "tenancy" => true,
            Some((schema, name)) if of_table => objects::is_protected(schema, name) == Some(true),
            Some(_) => false,
            None => {
                matches!(object.kind.as_str(), "publication" | "publication relation" | "extension")
                    || object.original && object.schema.as_deref() == Some("tenancy")
            }
        };
        if wanted {
            let operation = ddl::operation(&statement.tag);
            let details = Map::new();
            let (command, kind, identity) = (&statement.tag, &object.kind, &object.identity);
            record(DdlEvent { operation: &operation, command, kind, identity, table, details })?;
        }
    }
    Ok(())
}

/// Schema and name of the table that the object is or belongs to.
fn names_of_table(object: &DroppedObject) -> Option<(&str, &str)> {
    match &object.names[..] {
        [schema, table, ..] => Some((schema, table)),
        _ => None,
    }
}

/// Roles, settings and event triggers: statements that fire no event trigger.
pub fn cluster_changed(change: &ClusterChange) -> Result<()> {
    if silent()? {
        return Ok(());
    }
    let operation = ddl::operation(&change.tag);
    record(DdlEvent {
        operation: &operation,
        command: &change.tag,
        kind: change.object_type,
        identity: &change.object,
        table: None,
        details: change.details.clone(),
    })
}
