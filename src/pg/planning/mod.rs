//! What the extension reads and changes in queries before the planner sees them.

pub mod acting_for_all;
pub mod asked;
pub mod expression;
pub mod filling;
pub mod lifting;
pub mod merging;
