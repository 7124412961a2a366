//! Why a bundle proves nothing.

/// Why nothing is proved, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// No bundle, or one that this cannot read.
    Unreadable(String),
    /// A bundle that does not agree with itself, with a known key, or with the earlier checkpoint.
    Tampered(String),
}
