//! Processes of the extension's own, and what processes share.

pub mod parallel;
pub mod progress;
pub mod shared;
pub mod worker;
