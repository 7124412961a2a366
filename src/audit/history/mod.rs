//! History: a row of a user's table rebuilt from its events.

pub mod names;
pub mod row_history;

#[cfg(feature = "pg")]
pub(crate) mod row_history_pg;
