//! The rules for protecting a table: facts about it and options of the caller make a plan of SQL statements.
//!
//! The plan sets up row-level security and the capture of changes.

mod column;
pub mod facts;
pub mod options;
pub mod plan;
mod text;

pub use text::on_one_line;
