//! History: the past states of a row of a user's table, rebuilt from its events.

pub mod names;
pub mod row_hash;
pub mod row_history;
pub mod row_index;
