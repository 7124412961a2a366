//! Which rows: row-level security and capture, planned, applied, taken back.

mod column;
pub mod facts;
pub mod options;
pub mod plan;
mod text;

pub use text::on_one_line;

#[cfg(feature = "pg")]
mod action_pg;
#[cfg(feature = "pg")]
mod backfill_pg;
#[cfg(feature = "pg")]
pub mod protect_pg;
#[cfg(feature = "pg")]
mod reference_pg;
