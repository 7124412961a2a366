//! Secrets of organizations: how a value is sealed, and by which keys.

pub mod delivery;
pub mod envelope;
pub mod key;
pub mod key_cache;
pub mod key_command;
pub mod key_ring;
pub mod kind;
pub mod literal;
pub mod reveal_folder;
pub mod reveal_record;
pub mod rotation;
mod stack;
