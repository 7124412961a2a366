//! What becomes of a statement that a guardrail is about: an error where it is enforced, a warning and an event where
//! it warns.
//!
//! Decision: `docs/decisions/82-guardrail-scope.md`.

use super::passed::Passed;
use super::state::state;
use crate::audit::{self, NewEvent};
use crate::context;
use crate::pg::report::{self, warn};
use crate::pg::transaction;
use pg_tenancy_core::error::{Error, Result};
use pg_tenancy_core::guardrail::{Guardrail, State};
use serde_json::json;
use uuid::Uuid;

/// Something that a guardrail is about.
#[derive(Clone, Copy)]
pub struct Hit<'a> {
    guardrail: &'static Guardrail,
    /// Whose state counts, and whose chain tells of it: the nil UUID for none.
    organization: Uuid,
    /// The statement or function that does it.
    statement: &'a str,
    /// Its schema and name.
    table: Option<(&'a str, &'a str)>,
    /// What it is done with, such as the name of a secret. Never a value.
    object: Option<&'a str>,
}

impl<'a> Hit<'a> {
    /// Of a statement on a table, if one is known.
    pub fn of_table(
        guardrail: &'static Guardrail,
        organization: Uuid,
        statement: &'a str,
        table: Option<(&'a str, &'a str)>,
    ) -> Self {
        Hit { guardrail, organization, statement, table, object: None }
    }

    /// Of a function that works with something of an organization.
    pub fn of_object(guardrail: &'static Guardrail, organization: Uuid, statement: &'a str, object: &'a str) -> Self {
        Hit { guardrail, organization, statement, table: None, object: Some(object) }
    }
}

/// What this transaction was warned of: guardrail, organization, statement, table and object.
type Warned = (&'static str, Uuid, String, Option<(String, String)>, Option<String>);

pub static WARNED: Passed<Warned> = Passed::new();

/// The organization of the transaction, or the nil UUID, for what is no matter of one organization.
pub fn acting_organization() -> Result<Uuid> {
    Ok(context::current()?.map_or(Uuid::nil(), |context| context.organization.id))
}

/// Refuses what the guardrail is about, warns of it, or does neither, as the state says that is in force.
pub fn hit(hit: &Hit, error: impl FnOnce() -> Error) -> Result<()> {
    match state(hit.guardrail, hit.organization) {
        State::Off => Ok(()),
        State::Warn => warned(hit, &error()),
        State::Enforce => Err(error()),
    }
}

/// Warns of what would be refused, and records it, once in a transaction for the same object.
pub fn warned(hit: &Hit, error: &Error) -> Result<()> {
    let text = str::to_owned;
    let table = hit.table.map(|(schema, name)| (text(schema), text(name)));
    let place = (hit.guardrail.name, hit.organization, text(hit.statement), table, hit.object.map(text));
    if !WARNED.insert(place) {
        return Ok(());
    }
    warn(error);
    record(hit, error)
}

/// Writes the event, in the words that a refusal would have.
fn record(hit: &Hit, error: &Error) -> Result<()> {
    if transaction::read_only() || transaction::is_parallel() {
        let on = hit.table.map_or_else(String::new, |(schema, name)| format!(" on {schema:?}.{name:?}"));
        let with = hit.object.map_or_else(String::new, |object| format!(" with {object:?}"));
        report::log(format!(
            "pg_tenancy: guardrail {} warned of {}{on}{with}, in a transaction that writes no event",
            hit.guardrail.name, hit.statement
        ));
        return Ok(());
    }
    let mut new = json!({ "guardrail": hit.guardrail.name, "statement": hit.statement });
    if let Some(object) = hit.object {
        new["object"] = json!(object);
    }
    let reason = format!("{}: {}", error.kind.name.to_lowercase(), error.message);
    transaction::with_latest_snapshot(|| {
        audit::append(NewEvent {
            organization: hit.organization,
            operation: "guardrail",
            domain: "guardrail",
            table_schema: hit.table.map(|(schema, _)| schema),
            table_name: hit.table.map(|(_, name)| name),
            row_key: None,
            result: "warned",
            reason: Some(&reason),
            payload: json!({ "new": new }).to_string(),
        })
    })
    .map(drop)
}
