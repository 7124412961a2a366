//! Which rows: row-level security and capture, as a plan made of facts about a table.

mod column;
pub mod facts;
pub mod options;
pub mod plan;
mod text;

pub use text::on_one_line;
