//! The audit: hash-chained events, sealed into one order per organization and verified from the stored rows.
//!
//! `docs/audit-format.md` specifies the format byte by byte.

pub mod capture;
pub mod export;
pub mod format;
pub mod history;
pub mod log;
pub mod sealing;
pub mod verification;
