//! Verification: recomputes what is stored, in the order of the seal, and names whatever does not fit.
//!
//! [`ChainVerifier`] follows the chains and trees of the organizations through the entries of one block after the other,
//! [`Blocks`] the chain of the blocks. Both begin wherever a verified head and block stand, so that ranges are verified side
//! by side, and what was verified before need not be read again.

mod blocks;
mod chain;
mod checkpoints;
mod finding;
mod ranges;
mod stored_event;

pub use blocks::Blocks;
pub use chain::{ChainVerifier, Event, Head, HeadRow, History, Seen};
pub use checkpoints::{Checkpoints, Kept, StoredCheckpoint};
pub use finding::{Finding, FindingKind};
pub use ranges::{Range, RangePlanner};
pub use stored_event::Stored;

/// Numbers that are gone, as the beginning of a sentence.
fn range(one: &str, several: &str, from: i64, to: i64) -> String {
    if from == to { format!("{one} {from} is") } else { format!("{several} {from} to {to} are") }
}
