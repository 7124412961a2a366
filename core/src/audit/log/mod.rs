//! The structures over the events that make tampering evident: chains, blocks, Merkle trees, checkpoints and signed notes.

pub mod block;
pub mod chain;
pub mod checkpoint;
pub mod merkle;
pub mod signed_note;
pub mod snapshot;
