//! The sealed context: who acts, for which organization, with which permissions, until when.

mod accessors;
mod begin_maintenance;
mod current;
mod elevation;
mod maintenance;

pub use accessors::{SEPARATOR, allowed, authorize, lacks};
pub use current::{
    Rooms, begin, begin_encoded, check, checked, current, cursor_held, define, elevation_ended, generation, require,
};
pub use elevation::{elevate, is_elevated, last as last_elevation, take_needed};
pub use maintenance::{in_maintenance, lifts, maintenance_reason};

use pg_tenancy_core::error::{self, Result, require_not_null};

const MAX_REASON_BYTES: usize = 1000;

/// What an operator gave as reason of `assume_organization` and `begin_maintenance`: 1 to 1000 bytes.
pub fn reason(text: Option<&str>) -> Result<&str> {
    let reason = require_not_null(text.map(str::trim).filter(|reason| !reason.is_empty()), "the reason")?;
    if reason.len() > MAX_REASON_BYTES {
        return Err(error::ARGUMENT_INVALID.error("the reason is longer than 1000 bytes"));
    }
    Ok(reason)
}

/// The executor runs a statement, or fetches from a cursor.
pub fn statement_started() {
    current::statement_started();
    elevation::statement_started();
}

/// The savepoint at this level was rolled back or released.
pub fn savepoint(level: i32, rolled_back: bool) {
    elevation::savepoint(level, rolled_back);
    current::savepoint(level, rolled_back);
    if maintenance::savepoint(level, rolled_back) {
        begin_maintenance::who_acts_changed();
    }
}

/// The transaction is over.
pub fn transaction_ended() {
    current::transaction_ended();
    elevation::transaction_ended();
    if maintenance::transaction_ended() {
        begin_maintenance::who_acts_changed();
    }
}
