//! Which rows: row-level security and capture, planned, applied, taken back.

pub mod plan;

#[cfg(feature = "pg")]
mod protect_pg;
