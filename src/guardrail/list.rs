//! `tenancy.guardrails()`: what is in force, and who has set it.

use super::state::{setting, state};
use super::trial;
use super::viewer::Viewer;
use crate::pg::report::OrRaise;
use crate::pg::spi::{self, Query};
use crate::pg::{transaction, user};
use pg_tenancy_core::guardrail::ALL;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern};
use std::collections::HashMap;
use uuid::Uuid;

static CHANGES: Query = Query::new(
    "SELECT name, coalesce(changed_subject, changed_by), changed_at, reason
       FROM tenancy.guardrail WHERE organization = $1",
);

/// A change of what is set, as it is shown.
#[derive(Clone, Default)]
struct Changed {
    by: Option<String>,
    at: Option<TimestampWithTimeZone>,
    reason: Option<String>,
}

/// `tenancy.guardrails()`.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn tenancy_guardrails() -> TableIterator<
    'static,
    (
        name!(name, String),
        name!(state, String),
        name!(scope, String),
        name!(default_state, String),
        name!(meaning, String),
        name!(changed_by, Option<String>),
        name!(changed_at, Option<TimestampWithTimeZone>),
        name!(reason, Option<String>),
        name!(hits, Option<i64>),
    ),
> {
    let viewer = Viewer::now().or_raise();
    let (own, all) = (changes(viewer.organization), changes(Uuid::nil()));
    let hits = trial::hits(&viewer).or_raise();
    TableIterator::new(ALL.map(|guardrail| {
        let setting = setting(guardrail, viewer.organization);
        let all = all.get(guardrail.name).filter(|_| viewer.sees_all);
        let changed = own.get(guardrail.name).or(all).cloned().unwrap_or_default();
        let text = str::to_owned;
        (
            text(guardrail.name),
            text(setting.in_force().name()),
            text(guardrail.scope.name()),
            text(guardrail.default.name()),
            text(guardrail.meaning),
            changed.by,
            changed.at,
            changed.reason,
            hits.as_ref().map(|hits| hits.get(guardrail.name).copied().unwrap_or_default()),
        )
    }))
}

/// By guardrail, what was changed last for an organization, or for all.
fn changes(organization: Uuid) -> HashMap<String, Changed> {
    let read =
        |row: &spi::Row| Some((row.get::<String>(1)?, Changed { by: row.get(2), at: row.get(3), reason: row.get(4) }));
    let changes = || transaction::with_latest_snapshot(|| CHANGES.read(&[spi::uuid(organization)], read));
    user::as_superuser(changes).into_iter().flatten().collect()
}

/// `tenancy.guardrail_states()`: every guardrail with the state that is in force where no organization has its own.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn tenancy_guardrail_states() -> TableIterator<
    'static,
    (name!(name, String), name!(state, String), name!(default_state, String), name!(meaning, String)),
> {
    TableIterator::new(ALL.map(|guardrail| {
        let state = state(guardrail, Uuid::nil());
        [guardrail.name, state.name(), guardrail.default.name(), guardrail.meaning].map(str::to_owned).into()
    }))
}
