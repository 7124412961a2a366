//! Sealing: gives each committed event its position, checks that capture was complete, and signs and publishes
//! checkpoints.

pub mod coverage;
pub mod records;
pub mod sealer;
pub mod signed_checkpoint;
pub mod unsealed;
