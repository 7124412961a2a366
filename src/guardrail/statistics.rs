//! The guardrail on what tells of other organizations' rows by their number: EXPLAIN ANALYZE and the counters.

use super::hit::{Hit, acting_organization, hit};
use crate::pg::user;
use pg_tenancy_core::error::{self, Result};
use pg_tenancy_core::guardrail::STATEMENT_STATISTICS;

/// Somebody is about to use EXPLAIN ANALYZE or a function of the statistics. A context is not asked for: a statement
/// may authenticate itself after it has begun.
pub fn statistics_used(what: &str) -> Result<()> {
    if !user::is_application() {
        return Ok(());
    }
    let used = Hit::of_table(&STATEMENT_STATISTICS, acting_organization()?, what, None);
    hit(&used, || error::STATISTICS_REFUSED.error(format!("{what} would tell of other organizations' rows")))
}
