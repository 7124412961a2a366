//! Structures over the events that reveal tampering: chains, blocks, Merkle trees, checkpoints and signed notes.

pub mod block;
pub mod chain;
pub mod checkpoint;
pub mod entries;
pub mod head_tree;
pub mod merkle;
pub mod signed_note;
pub mod snapshot;
