//! What happened: hash-chained events, sealed into one order per organization, verified from what is stored.
//!
//! The pure files know bytes, hashes and positions; those that end in `_pg` know triggers, tables and snapshots.
//! `docs/audit-format.md` has the format byte by byte.

pub mod block;
pub mod bundle;
pub mod chain;
pub mod checkpoint;
pub mod commitment;
pub mod coverage;
pub mod ddl;
pub mod encoding;
pub mod event;
pub mod evidence;
pub mod hex;
pub mod history;
pub mod incarnation;
pub mod moment;
pub mod month;
pub mod names;
pub mod note;
pub mod order;
pub mod payload;
pub mod pending;
pub mod publish;
pub mod read;
pub mod refusal;
pub mod signing_key;
pub mod snapshot;
pub mod statement;
pub mod tree;
pub mod verify;

#[cfg(feature = "pg")]
mod append_pg;
#[cfg(feature = "pg")]
mod archive_pg;
#[cfg(feature = "pg")]
mod capture_pg;
#[cfg(feature = "pg")]
mod checkpoint_pg;
#[cfg(feature = "pg")]
mod commitment_pg;
#[cfg(feature = "pg")]
mod coverage_pg;
#[cfg(feature = "pg")]
mod ddl_pg;
#[cfg(feature = "pg")]
mod erasure_pg;
#[cfg(feature = "pg")]
mod evidence_pg;
#[cfg(feature = "pg")]
mod export_pg;
#[cfg(feature = "pg")]
mod history_pg;
#[cfg(feature = "pg")]
pub mod origin_pg;
#[cfg(feature = "pg")]
mod partition_pg;
#[cfg(feature = "pg")]
mod proof_pg;
#[cfg(feature = "pg")]
mod read_pg;
#[cfg(feature = "pg")]
mod record_pg;
#[cfg(feature = "pg")]
mod refusal_pg;
#[cfg(feature = "pg")]
mod restore_pg;
#[cfg(feature = "pg")]
mod seal_pg;

#[cfg(feature = "pg")]
pub use append_pg::{Draft, append, events_wait, operator_acts, statement_finished};
#[cfg(feature = "pg")]
pub use capture_pg::{RowChange, judge_rows};
#[cfg(feature = "pg")]
pub use checkpoint_pg::{has_signing_key, next as next_checkpoint};
#[cfg(feature = "pg")]
pub use commitment_pg::key as commitment_key;
#[cfg(feature = "pg")]
pub use ddl_pg::{as_part, cluster_changed, table_changed};
#[cfg(feature = "pg")]
pub use partition_pg::create_ahead as create_partitions;
#[cfg(feature = "pg")]
pub use read_pg::{LISTENER as READS, read_for_the_audit};
#[cfg(feature = "pg")]
pub use refusal_pg::{Refused, operation_refused, record_message, sign_in_refused, statement_refused};

/// The transaction is about to commit: writes what waits for that.
#[cfg(feature = "pg")]
pub fn before_commit() {
    append_pg::before_commit();
    checkpoint_pg::before_commit();
}

/// The transaction is over; true if it committed events.
#[cfg(feature = "pg")]
pub fn transaction_ended(committed: bool) -> bool {
    checkpoint_pg::transaction_ended(committed);
    append_pg::transaction_ended(committed)
}

/// A savepoint was rolled back or released.
#[cfg(feature = "pg")]
pub fn savepoint(level: i32, rolled_back: bool) {
    append_pg::savepoint(level, rolled_back);
    checkpoint_pg::savepoint(level, rolled_back);
}
#[cfg(feature = "pg")]
pub use restore_pg::is_under_way as restore_is_under_way;
