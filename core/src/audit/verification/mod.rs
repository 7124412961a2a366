//! Verification: recomputes the stored hashes in the order of the seal, and reports every mismatch.
//!
//! [`ChainVerifier`] verifies the chains and trees of the organizations through the entries of one block after the
//! other. [`Blocks`] verifies the chain of the blocks. Both can begin at any verified head and block. Ranges can
//! therefore be verified in parallel, and verified ranges need not be read again.

mod blocks;
mod chain;
mod checkpoints;
mod finding;
mod ranges;
mod stored_batch;

pub use blocks::Blocks;
pub use chain::{BatchState, ChainVerifier, SealRow, SeenBatch, StoredHead, StoredHistory};
pub use checkpoints::{Checkpoints, KeptNote, Leaves, StoredCheckpoint, compare_nodes};
pub use finding::{Finding, FindingKind};
pub use ranges::{Range, RangePlanner};
pub use stored_batch::{Fault, Stored};

/// The text for a range of missing numbers, as the beginning of a sentence.
fn range(one: &str, several: &str, from: i64, to: i64) -> String {
    if from == to { format!("{one} {from} is") } else { format!("{several} {from} to {to} are") }
}
