//! The findings of a verification.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The kind of a mismatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FindingKind {
    /// A stored value is not the one that was written.
    Altered,
    /// A row is gone, and rows that were written after it still exist.
    Missing,
    /// An event or entry is at another place than the one it was sealed at.
    Reordered,
    /// A row exists at a place where none was written.
    Inserted,
    /// The newest rows are gone.
    Truncated,
    /// A row follows from another history than the row before it.
    Forked,
}

impl FindingKind {
    /// The word in SQL, such as `altered` or `missing`.
    pub fn name(self) -> &'static str {
        match self {
            FindingKind::Altered => "altered",
            FindingKind::Missing => "missing",
            FindingKind::Reordered => "reordered",
            FindingKind::Inserted => "inserted",
            FindingKind::Truncated => "truncated",
            FindingKind::Forked => "forked",
        }
    }
}

/// A mismatch with its place and an explanation for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The kind of the mismatch.
    pub finding: FindingKind,
    /// The organization whose chain is affected; `None` if the finding is about all of them.
    pub organization: Option<Uuid>,
    /// The position in the organization's order; `None` if no single entry is affected.
    pub position: Option<i64>,
    /// Number of the affected block, if there is one.
    pub block: Option<i64>,
    /// Id of the affected event, if there is one.
    pub event: Option<Uuid>,
    /// A clause without a full stop that names the affected rows and the mismatch.
    pub explanation: String,
}

impl Finding {
    /// A finding about a block.
    pub fn in_block(finding: FindingKind, block: i64, explanation: impl Into<String>) -> Self {
        let explanation = explanation.into();
        Finding { finding, organization: None, position: None, block: Some(block), event: None, explanation }
    }

    /// A finding without a place.
    pub fn anywhere(finding: FindingKind, explanation: impl Into<String>) -> Self {
        let explanation = explanation.into();
        Finding { finding, organization: None, position: None, block: None, event: None, explanation }
    }

    /// The same finding, with its organization.
    pub fn of(self, organization: Uuid) -> Self {
        Finding { organization: Some(organization), ..self }
    }

    /// The same finding, with its position.
    pub fn at(self, position: i64) -> Self {
        Finding { position: Some(position), ..self }
    }

    /// The same finding, with the id of its event.
    pub fn about(self, event: Uuid) -> Self {
        Finding { event: Some(event), ..self }
    }
}
