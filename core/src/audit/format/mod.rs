//! The form of what is recorded: events, payloads and the canonical encoding that every hash is taken over.

pub mod commitment;
pub mod encoding;
pub mod event;
pub mod event_row;
pub mod hex;
pub mod incarnation;
pub mod month;
pub mod payload;
pub mod timestamp;
