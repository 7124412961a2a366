//! The guardrails: what is refused, what is only said, and who has switched which off and why.

mod bypass;
mod crossing;
mod ddl;
mod list;
mod state;
mod statistics;

pub use bypass::accessed;
pub use crossing::row_changed;
pub use ddl::before_commit;
pub use state::{record, setting, state};
pub use statistics::statistics_used;

/// The transaction is over.
pub fn transaction_ended() {
    ddl::transaction_ended();
    bypass::transaction_ended();
    crossing::transaction_ended();
}

/// A savepoint was rolled back or released.
pub fn savepoint(level: i32, rolled_back: bool) {
    bypass::savepoint(level, rolled_back);
    crossing::savepoint(level, rolled_back);
}
