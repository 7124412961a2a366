//! The guardrails: what is refused, what is only said, and who has switched which off and why.

mod bypass;
mod crossing;
mod ddl;
mod hit;
mod list;
mod passed;
mod state;
mod statistics;
mod trial;
mod viewer;

pub use bypass::accessed;
pub use crossing::row_changed;
pub use ddl::before_commit;
pub use hit::{Hit, hit, warned};
pub use state::{in_force_since, overridden, setting, state};
pub use statistics::statistics_used;

/// The transaction is over.
pub fn transaction_ended() {
    ddl::transaction_ended();
    bypass::REPORTED.transaction_ended();
    crossing::transaction_ended();
    hit::WARNED.transaction_ended();
}

/// A savepoint was rolled back or released.
pub fn savepoint(level: i32, rolled_back: bool) {
    bypass::REPORTED.savepoint(level, rolled_back);
    crossing::PASSED.savepoint(level, rolled_back);
    hit::WARNED.savepoint(level, rolled_back);
}
