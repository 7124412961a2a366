//! What docs/clients/rust.md shows.

pub mod with_diesel;
pub mod with_sqlx;
