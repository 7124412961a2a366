//! History: a row of a user's table rebuilt from its events.

pub mod row_history;
pub mod row_index;
