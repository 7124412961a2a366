//! What is asked for, approved by others, and ends.

pub mod approval;
