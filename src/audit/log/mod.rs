//! The log as it is stored. What it is made of is in the core's room of the same name.

pub mod batch_row;
pub mod head_tree;
pub mod partitions;
pub mod place;
pub mod seal;
pub mod state;
mod unpack;
