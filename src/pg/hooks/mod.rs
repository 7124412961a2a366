//! The hooks into Postgres, each taken once.

pub mod log;
pub mod permission;
pub mod planner;
pub mod reading;
pub mod statistics;
pub mod transaction;
pub mod utility;
