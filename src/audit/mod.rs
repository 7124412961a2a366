//! What happened: hash-chained events, sealed into one order per organization, verified from what is stored.
//!
//! The pure files know bytes, hashes and positions; those that end in `_pg` know triggers, tables and snapshots.
//! `docs/audit-format.md` has the format byte by byte.

pub mod capture;
pub mod export;
pub mod format;
pub mod history;
pub mod log;
pub mod retention;
pub mod sealing;
pub mod verification;

#[cfg(feature = "pg")]
pub use capture::append_pg::{Draft, append, events_wait, operator_acts, statement_finished};
#[cfg(feature = "pg")]
pub use capture::commitment_key_pg::key as commitment_key;
#[cfg(feature = "pg")]
pub use capture::ddl_pg::{as_part, cluster_changed, table_changed};
#[cfg(feature = "pg")]
pub use capture::partition_pg::create_ahead as create_partitions;
#[cfg(feature = "pg")]
pub use capture::read_pg::{LISTENER as READS, read_for_the_audit};
#[cfg(feature = "pg")]
pub use capture::refusal_pg::{Refused, operation_refused, record_message, sign_in_refused, statement_refused};
#[cfg(feature = "pg")]
pub use capture::row_pg::{RowChange, judge_rows};
#[cfg(feature = "pg")]
pub use sealing::checkpoint_pg::{has_signing_key, next as next_checkpoint};

/// The transaction is about to commit: writes what waits for that.
#[cfg(feature = "pg")]
pub fn before_commit() {
    capture::append_pg::before_commit();
    sealing::checkpoint_pg::before_commit();
}

/// The transaction is over; true if it committed events.
#[cfg(feature = "pg")]
pub fn transaction_ended(committed: bool) -> bool {
    sealing::checkpoint_pg::transaction_ended(committed);
    capture::append_pg::transaction_ended(committed)
}

/// A savepoint was rolled back or released.
#[cfg(feature = "pg")]
pub fn savepoint(level: i32, rolled_back: bool) {
    capture::append_pg::savepoint(level, rolled_back);
    sealing::checkpoint_pg::savepoint(level, rolled_back);
}
#[cfg(feature = "pg")]
pub use capture::restore_pg::is_under_way as restore_is_under_way;
