//! The sealed context: who acts, for which organization, with which permissions, until when.

mod accessors;
mod current;
mod maintenance;

pub use accessors::{SEPARATOR, allowed, authorize, lacks};
pub use current::{begin, current, cursor_held, define, generation, require, statement_started};
pub use maintenance::{in_maintenance, lifts, maintenance_reason};

/// What a caller says of why; of `assume_organization` and `begin_maintenance`.
pub const MAX_REASON_BYTES: usize = 1000;

/// The savepoint at this level was rolled back or released.
pub fn savepoint(level: i32, rolled_back: bool) {
    current::savepoint(level, rolled_back);
    maintenance::savepoint(level, rolled_back);
}

/// The transaction is over.
pub fn transaction_ended() {
    current::transaction_ended();
    maintenance::transaction_ended();
}
