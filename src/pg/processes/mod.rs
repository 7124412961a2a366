//! Processes of the extension's own, and what processes share.

mod backlog;
pub mod errand;
pub mod parallel;
pub mod progress;
pub mod shared;
pub mod throttle;
pub mod worker;
