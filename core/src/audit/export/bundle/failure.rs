//! The reasons why a bundle proves nothing.

/// The reason why a bundle proves nothing, with an explanation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The input is not a bundle, or is a bundle that this version cannot read.
    Unreadable(String),
    /// The bundle contradicts itself, a known key, or the earlier checkpoint.
    Tampered(String),
}
