//! The guardrail on what tells of other organizations' rows by their number: EXPLAIN ANALYZE and the counters.

use super::state::state;
use crate::pg::report::warn;
use crate::pg::user;
use pg_tenancy_core::error::{self, Result};
use pg_tenancy_core::guardrail::{STATEMENT_STATISTICS, State};
use uuid::Uuid;

/// Somebody is about to use EXPLAIN ANALYZE or a function of the statistics. A context is not asked for: a statement
/// may authenticate itself after it has begun.
pub fn statistics_used(what: &str) -> Result<()> {
    if !user::is_application() {
        return Ok(());
    }
    let state = state(&STATEMENT_STATISTICS, Uuid::nil());
    if state == State::Off {
        return Ok(());
    }
    let error = error::STATISTICS_REFUSED.error(format!("{what} would tell of other organizations' rows"));
    if state == State::Enforce {
        return Err(error);
    }
    warn(&error);
    Ok(())
}
