//! The format of records: events, payloads and the canonical encoding of everything that is hashed.

pub mod commitment;
pub mod encoding;
pub mod event;
pub mod event_row;
pub mod hex;
pub mod incarnation;
pub mod month;
pub mod payload;
pub mod timestamp;
