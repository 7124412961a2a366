//! Sealing: gives each committed event its position, checks that capture was complete, and signs and publishes checkpoints.

pub mod coverage;
pub mod order;
pub mod publish;
pub mod signing_key;

#[cfg(feature = "pg")]
pub(crate) mod checkpoint_pg;
#[cfg(feature = "pg")]
pub(crate) mod coverage_pg;
#[cfg(feature = "pg")]
pub(crate) mod sealer_pg;
