//! What roles permit; what is asked for, approved by others, and ends; and what somebody should look at.

pub mod alert;
pub mod approval;
pub mod break_glass;
pub mod break_glass_policy;
pub mod exception;
pub mod permission_set;
pub mod review;
