//! In which state a guardrail is, and what a session says to pass one.

use crate::audit::{self, NewEvent};
use crate::pg::report;
use crate::pg::settings::configuration;
use crate::pg::tables::table::{IndexKey, find};
use crate::pg::transaction;
use pg_tenancy_core::error::Result;
use pg_tenancy_core::guardrail::{ALL, Guardrail, State};
use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern};
use serde_json::json;
use uuid::Uuid;

/// The state as it is committed: a change counts at once, everywhere. A state that cannot be read is enforced.
pub fn state(guardrail: &Guardrail) -> State {
    let key = [IndexKey::text(1, guardrail.name)];
    let stored =
        transaction::with_latest_snapshot(|| find(c"guardrail", c"guardrail_pkey", &key, |row| row.get::<String>(2)));
    match stored.into_iter().next() {
        None => guardrail.default,
        Some(name) => name.and_then(|name| State::parse(&name)).unwrap_or(State::Enforce),
    }
}

/// True if the session has said why it passes the guardrails; that it did is recorded then.
pub fn overridden(guardrail: &Guardrail, statement: &str, table: Option<(&str, &str)>) -> Result<bool> {
    let Some(reason) = configuration::override_reason() else { return Ok(false) };
    record(guardrail, statement, table, Some(&reason))?;
    Ok(true)
}

/// An event of no organization: what concerns a table concerns them all.
pub fn record(guardrail: &Guardrail, statement: &str, table: Option<(&str, &str)>, reason: Option<&str>) -> Result<()> {
    let operation = if reason.is_some() { "override" } else { "bypass" };
    if transaction::read_only() {
        let table = table.map_or_else(String::new, |(schema, name)| format!(" on \"{schema}\".\"{name}\""));
        report::log(format!(
            "pg_tenancy: {operation} of guardrail {} by {statement}{table}, in a transaction that writes no event: {}",
            guardrail.name,
            reason.unwrap_or("no reason")
        ));
        return Ok(());
    }
    audit::append(NewEvent {
        organization: Uuid::nil(),
        operation,
        domain: "guardrail",
        table_schema: table.map(|(schema, _)| schema),
        table_name: table.map(|(_, name)| name),
        row_key: None,
        result: "success",
        reason,
        payload: json!({ "new": { "guardrail": guardrail.name, "statement": statement } }).to_string(),
    })?;
    Ok(())
}

/// `tenancy.guardrails()`: every guardrail with its state.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn tenancy_guardrails() -> TableIterator<
    'static,
    (name!(name, String), name!(state, String), name!(default_state, String), name!(meaning, String)),
> {
    let row = |guardrail: &Guardrail| {
        let words = [guardrail.name, state(guardrail).name(), guardrail.default.name(), guardrail.meaning];
        words.map(str::to_owned).into()
    };
    TableIterator::new(ALL.map(row))
}
