//! What happened: hash-chained events, sealed into one order per organization, verified from what is stored.
//!
//! Triggers, tables and snapshots are here; bytes, hashes and positions in the core's rooms of the same names.

pub mod capture;

mod export;
mod history;
mod log;
mod retention;
mod sealing;
mod table_guard;
mod verification;

use pg_tenancy_core::error::Result;

pub use capture::append::{
    NewEvent, OtherActor, append, describe_now, describe_without_context, events_wait, identity_changed, operator_acts,
    statement_finished,
};
pub use capture::commitment_key::key as commitment_key;
pub use capture::ddl::{as_part, cluster_changed, table_changed};
pub use capture::message_queue::post;
pub use capture::partition::create_ahead as create_partitions;
pub use capture::read::{LISTENER as READS, read_for_the_audit};
pub use capture::record_message;
pub use capture::refusal::{Refused, operation_refused, refused, sign_in_refused, statement_refused};
pub use capture::restore::is_under_way as restore_is_under_way;
pub use capture::row::{RowChange, for_reason, judge_rows};
pub use capture::statement::{
    before_commit as statements_before_commit, begin as statement_begins, ended as statement_ended,
    ends_by as grants_end_by, transaction_ended as statements_sent, unrecordable,
};
pub use export::evidence::{events, given_ids, register as register_evidence, require_events};
pub use sealing::records::keep as take_in_by;
pub use sealing::sealer::take_in as take_in_records;
pub use sealing::signed_checkpoint::{has_signing_key, next as next_checkpoint};
pub use sealing::unsealed::nothing_to_seal;
pub use table_guard::TableGuard;
pub use verification::phase as verification_phase;

/// The transaction is about to commit: writes what waits for that.
pub fn before_commit() {
    capture::append::before_commit();
    sealing::signed_checkpoint::before_commit();
}

/// Seals one block, as [`sealing::sealer::seal_next_block`], and counts what is left where that is not known.
pub fn seal_next_block_and_count(limit: &mut Option<u64>) -> Result<bool> {
    sealing::unsealed::count_if_unknown();
    let rest = sealing::sealer::seal_next_block(limit)?;
    if !rest {
        sealing::unsealed::count();
    }
    Ok(rest)
}

/// The transaction is over; returns how many events it committed.
pub fn transaction_ended(committed: bool) -> i64 {
    sealing::signed_checkpoint::transaction_ended(committed);
    sealing::unsealed::transaction_ended(committed);
    capture::append::transaction_ended(committed)
}

/// A savepoint was rolled back or released.
pub fn savepoint(level: i32, rolled_back: bool) {
    capture::append::savepoint(level, rolled_back);
    sealing::signed_checkpoint::savepoint(level, rolled_back);
    sealing::unsealed::savepoint(level, rolled_back);
}
