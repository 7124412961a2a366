//! In which state a guardrail is, and what a session says to pass one.

use crate::audit::{self, NewEvent};
use crate::context;
use crate::pg::report;
use crate::pg::settings::configuration;
use crate::pg::tables::table::{IndexKey, Tuple, find};
use crate::pg::transaction;
use pg_tenancy_core::error::Result;
use pg_tenancy_core::guardrail::{Guardrail, PASSABLE, Scope, Setting, State};
use serde_json::json;
use uuid::Uuid;

/// The state that binds an organization, as it is committed: a change counts at once, everywhere. The nil UUID stands
/// for none, as for what concerns the whole database.
///
/// Under a break-glass grant that passes the guardrail it warns where it is enforced, so each passing is recorded.
pub fn state(guardrail: &Guardrail, organization: Uuid) -> State {
    let state = setting(guardrail, organization).in_force();
    if state == State::Enforce && passed_by_grant(guardrail, organization) { State::Warn } else { state }
}

/// Whether the transaction is elevated by a grant that passes the guardrail, of this organization or of the database.
fn passed_by_grant(guardrail: &Guardrail, organization: Uuid) -> bool {
    let Ok(Some(context)) = context::current() else { return false };
    let names = |name: &String| *name == guardrail.name;
    let passes = context.elevation.as_ref().is_some_and(|elevation| elevation.overrides.iter().any(names));
    passes && (organization.is_nil() || organization == context.organization.id) && PASSABLE.contains(&guardrail)
}

/// What is set of a guardrail, as it is committed.
pub fn setting(guardrail: &Guardrail, organization: Uuid) -> Setting {
    let has_own = guardrail.scope == Scope::Organization && !organization.is_nil();
    transaction::with_latest_snapshot(|| Setting {
        default: guardrail.default,
        global: stored(guardrail, &Uuid::nil()).map(|(state, _)| state),
        organization: if has_own { stored(guardrail, &organization).map(|(state, _)| state) } else { None },
    })
}

/// The state that binds an organization, and since when it has not been off without a break, in microseconds since
/// 1970; `None` where it is off, which it is by default. Of the active snapshot.
pub fn in_force_since(guardrail: &Guardrail, organization: Uuid) -> Option<(State, i64)> {
    let set = [Uuid::nil(), organization].into_iter().filter_map(|of| stored(guardrail, &of));
    let on = set.filter(|(state, _)| *state > State::Off);
    on.reduce(|(state, since), (other, earlier)| (state.max(other), since.min(earlier)))
}

/// The state that is set, if one is, and since when it has not been off; one that cannot be read is enforced.
fn stored(guardrail: &Guardrail, organization: &Uuid) -> Option<(State, i64)> {
    let key = [IndexKey::text(1, guardrail.name), IndexKey::uuid(2, organization)];
    let read = |row: &Tuple| Some((row.get::<String>(3)?, row.timestamp(9).unwrap_or(i64::MIN)));
    let (name, since) = find(c"guardrail", c"guardrail_pkey", &key, read).pop().flatten()?;
    Some((State::parse(&name).unwrap_or(State::Enforce), since))
}

/// True if the session has said why it passes the guardrails; that it did is recorded then, of no organization: what
/// concerns a table concerns them all.
pub fn overridden(guardrail: &Guardrail, statement: &str, table: Option<(&str, &str)>) -> Result<bool> {
    let Some(reason) = configuration::override_reason() else { return Ok(false) };
    if transaction::read_only() {
        let table = table.map_or_else(String::new, |(schema, name)| format!(" on \"{schema}\".\"{name}\""));
        report::log(format!(
            "pg_tenancy: override of guardrail {} by {statement}{table}, in a transaction without events: {reason}",
            guardrail.name,
        ));
        return Ok(true);
    }
    audit::append(NewEvent {
        organization: Uuid::nil(),
        operation: "override",
        domain: "guardrail",
        table_schema: table.map(|(schema, _)| schema),
        table_name: table.map(|(_, name)| name),
        row_key: None,
        result: "success",
        reason: Some(&reason),
        payload: json!({ "new": { "guardrail": guardrail.name, "statement": statement } }).to_string(),
    })?;
    Ok(true)
}
