//! What is done under a grant of break-glass is recorded, statement by statement.
//!
//! Decision: `docs/decisions/87-statement-events.md`.

use super::break_glass_memory;
use crate::audit;
use crate::context;
use crate::guardrail::{self, Hit};
use crate::pg::clock;
use crate::pg::hooks::statement::{StatementListener, StatementRun};
use crate::pg::tables::table::{IndexKey, find};
use pg_tenancy_core::error::{self, Result};
use pg_tenancy_core::guardrail::UNRECORDED_BREAK_GLASS;
use uuid::Uuid;

/// What is told of statements.
pub const STATEMENTS: StatementListener = StatementListener { active: context::is_elevated, begins, ended };

fn begins() -> Result<u64> {
    let (grant, organization) = context::last_elevation().ok_or_else(context::elevation_ended)?;
    must_be_recordable(grant, organization)?;
    audit::statement_begins(organization, grant)
}

/// The guardrail decides where a statement could not be recorded if its transaction rolled back.
pub fn must_be_recordable(grant: Uuid, organization: Uuid) -> Result<()> {
    let Some(why) = audit::unrecordable() else { return Ok(()) };
    let id = grant.to_string();
    let hit = Hit::of_object(&UNRECORDED_BREAK_GLASS, organization, "statement", &id);
    guardrail::hit(&hit, || {
        error::BREAK_GLASS_UNRECORDED.error("statements under break-glass cannot be recorded").detail(why)
    })
}

fn ended(number: u64, run: StatementRun) {
    audit::statement_ended(number, run, context::take_needed(), clock::now());
}

/// When the grant was over, or will be, as it is committed; `None` while it is known to be in force.
pub fn grant_end(grant: Uuid, organization: Uuid) -> Option<i64> {
    if break_glass_memory::is_in_force(grant, |known| known.organization.id == organization) {
        return None;
    }
    let key = [IndexKey::uuid(1, &grant)];
    let ends = find(c"break_glass_grant", c"break_glass_grant_pkey", &key, |row| {
        // ends_at, over_at
        (row.uuid(2) == Some(organization)).then(|| row.timestamp(19).or(row.timestamp(18))).flatten()
    });
    ends.into_iter().flatten().next()
}

/// Nothing that was done under a grant comes into effect later, when nobody can end it any more.
pub fn before_prepare() -> Result<()> {
    if !context::is_elevated() {
        return Ok(());
    }
    let error = error::ELEVATION_REFUSED
        .error("a transaction that is elevated by break-glass cannot be prepared")
        .detail("COMMIT PREPARED could come after the end of the grant.");
    Err(audit::refused("break_glass", error))
}
