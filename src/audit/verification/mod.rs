//! Verification: recomputes what is stored, in the order of the seal, and names whatever does not fit.
//!
//! [`Walk`] follows the chains and trees of the organizations through the entries of one block after the other,
//! [`Blocks`] the chain of the blocks. Both begin wherever a verified head and block stand, so that ranges are verified side
//! by side, and what was verified before need not be read again.

mod blocks;
mod checkpoints;
mod cut;
mod event;
mod walk;

#[cfg(feature = "pg")]
pub(crate) mod archives_pg;
#[cfg(feature = "pg")]
mod audit_pg;
#[cfg(feature = "pg")]
mod checkpoints_pg;
#[cfg(feature = "pg")]
mod edges_pg;
#[cfg(feature = "pg")]
mod event_pg;
#[cfg(feature = "pg")]
mod parallel_pg;
#[cfg(feature = "pg")]
mod progress_pg;
#[cfg(feature = "pg")]
mod range_pg;
#[cfg(feature = "pg")]
mod record_pg;

pub use blocks::Blocks;
pub use checkpoints::{Checkpoints, Kept, StoredCheckpoint};
pub use cut::{Cut, Range};
pub use event::Stored;
pub use walk::{Event, Head, HeadRow, History, Seen, Walk};

#[cfg(feature = "pg")]
pub use event_pg::Events;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Finding {
    /// It is not what was written.
    Altered,
    /// It is gone, and what came after it is still there.
    Missing,
    /// It stands at another place than the one it was sealed at.
    Reordered,
    /// It stands where nothing was written.
    Inserted,
    /// It is gone, and nothing comes after it.
    Truncated,
    /// It follows from another history than the one before it.
    Forked,
}

impl Finding {
    pub fn name(self) -> &'static str {
        match self {
            Finding::Altered => "altered",
            Finding::Missing => "missing",
            Finding::Reordered => "reordered",
            Finding::Inserted => "inserted",
            Finding::Truncated => "truncated",
            Finding::Forked => "forked",
        }
    }
}

/// A finding, where it is, and the words for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    pub finding: Finding,
    pub organization: Option<Uuid>,
    pub position: Option<i64>,
    pub block: Option<i64>,
    pub event: Option<Uuid>,
    pub explanation: String,
}

impl Found {
    /// A finding about a block.
    pub fn in_block(finding: Finding, block: i64, explanation: impl Into<String>) -> Self {
        let explanation = explanation.into();
        Found { finding, organization: None, position: None, block: Some(block), event: None, explanation }
    }

    /// A finding about no place in particular.
    pub fn anywhere(finding: Finding, explanation: impl Into<String>) -> Self {
        let explanation = explanation.into();
        Found { finding, organization: None, position: None, block: None, event: None, explanation }
    }

    pub fn of(self, organization: Uuid) -> Self {
        Found { organization: Some(organization), ..self }
    }

    pub fn at(self, position: i64) -> Self {
        Found { position: Some(position), ..self }
    }

    pub fn about(self, event: Uuid) -> Self {
        Found { event: Some(event), ..self }
    }
}

/// Numbers that are gone, as the beginning of a sentence.
fn range(one: &str, several: &str, from: i64, to: i64) -> String {
    if from == to { format!("{one} {from} is") } else { format!("{several} {from} to {to} are") }
}
