//! What a verification finds.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FindingKind {
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

impl FindingKind {
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

/// A finding, where it is, and the words for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub finding: FindingKind,
    pub organization: Option<Uuid>,
    pub position: Option<i64>,
    pub block: Option<i64>,
    pub event: Option<Uuid>,
    pub explanation: String,
}

impl Finding {
    /// A finding about a block.
    pub fn in_block(finding: FindingKind, block: i64, explanation: impl Into<String>) -> Self {
        let explanation = explanation.into();
        Finding { finding, organization: None, position: None, block: Some(block), event: None, explanation }
    }

    /// A finding about no place in particular.
    pub fn anywhere(finding: FindingKind, explanation: impl Into<String>) -> Self {
        let explanation = explanation.into();
        Finding { finding, organization: None, position: None, block: None, event: None, explanation }
    }

    pub fn of(self, organization: Uuid) -> Self {
        Finding { organization: Some(organization), ..self }
    }

    pub fn at(self, position: i64) -> Self {
        Finding { position: Some(position), ..self }
    }

    pub fn about(self, event: Uuid) -> Self {
        Finding { event: Some(event), ..self }
    }
}
