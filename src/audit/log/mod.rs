//! The structures over the events that make tampering evident: chains, blocks, Merkle trees, checkpoints and signed notes.

pub mod block;
pub mod chain;
pub mod checkpoint;
pub mod note;
pub mod snapshot;
pub mod tree;
