//! Verification: reads what is stored and has the core compare it, range by range.

pub mod archives;
mod batch;
mod checkpoints;
mod earlier_run;
mod edges;
mod parallel;
pub mod phase;
mod range;
mod verify_audit;

pub use batch::BatchReader;
