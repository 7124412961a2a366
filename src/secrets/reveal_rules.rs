//! What the guardrails ask of a value that is revealed: that its rotation is not overdue, and that it is proved.

use super::secret::Secret;
use crate::context;
use crate::guardrail::{self, Hit};
use crate::pg::clock;
use crate::pg::spi::{self, Query, argument};
use crate::pg::user;
use pg_tenancy_core::error::{self, Error, Result};
use pg_tenancy_core::guardrail::{Guardrail, OVERDUE_ROTATION, State, UNVERIFIED_SECRET};

static DUE_AT: Query = Query::new(
    "SELECT tenancy.rotation_due_at(v.valued_at, coalesce(s.rotate_every, k.rotate_every))
       FROM tenancy.secret s
       JOIN tenancy.secret_kind k ON k.name = s.kind
       JOIN tenancy.secret_version v ON v.secret = s.id AND v.state = 'current'
      WHERE s.id = $1",
);

static IS_PROVED: Query =
    Query::new("SELECT 1 FROM tenancy.health_report WHERE secret = $1 AND version = $2 AND healthy LIMIT 1");

/// Refuses a value, or warns of it, as the guardrails are set. It is read in the active snapshot.
///
/// Errors: [`error::ROTATION_OVERDUE`] for a role that may not rotate, [`error::HEALTH_MISSING`] for one that may not
/// report either.
pub fn check(secret: &Secret, version: i32) -> Result<()> {
    ask(&OVERDUE_ROTATION, secret, &["rotate"], || {
        let due_at = user::as_superuser(|| DUE_AT.read(&[spi::uuid(secret.id)], |row| row.timestamp(1))).pop();
        let is_overdue = due_at.flatten().is_none_or(|due_at| due_at <= clock::now());
        let message = || format!("the rotation of the secret \"{}\" is overdue", secret.name);
        is_overdue.then(|| error::ROTATION_OVERDUE.error(message()))
    })?;
    ask(&UNVERIFIED_SECRET, secret, &["report", "rotate"], || {
        let proof = [spi::uuid(secret.id), argument(version)];
        let is_proved = !user::as_superuser(|| IS_PROVED.read(&proof, |_| ())).is_empty();
        let message = || format!("no health report proves version {version} of the secret \"{}\"", secret.name);
        (!is_proved).then(|| error::HEALTH_MISSING.error(message()))
    })
}

/// Whoever may do one of the actions is not asked: they mend what the guardrail is about.
fn ask(
    guardrail: &'static Guardrail,
    secret: &Secret,
    menders: &[&str],
    find: impl FnOnce() -> Option<Error>,
) -> Result<()> {
    let state = guardrail::state(guardrail, secret.organization);
    if state == State::Off || menders.iter().any(|action| context::allowed(&secret.domain, action)) {
        return Ok(());
    }
    match find() {
        Some(error) if state == State::Enforce => Err(error),
        Some(error) => {
            let hit = Hit::of_object(guardrail, secret.organization, "reveal_secret", &secret.name);
            guardrail::warned(&hit, &error)
        }
        None => Ok(()),
    }
}
