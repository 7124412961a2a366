//! What happened: hash-chained events, sealed into one order per organization, verified from what is stored.
//!
//! `docs/audit-format.md` has the format byte by byte.

pub mod capture;
pub mod export;
pub mod format;
pub mod history;
pub mod log;
pub mod sealing;
pub mod verification;
