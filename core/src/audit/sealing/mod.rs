//! Sealing: assigns positions to committed events and checks that capture was complete.

pub mod coverage;
pub mod order;
