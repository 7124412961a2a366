//! Which rows: reads the facts about a table, and runs the steps that the core plans.

mod action;
mod backfill;
pub mod protect;
mod reference;
