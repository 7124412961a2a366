//! The format of records: events, payloads and the canonical encoding of everything that is hashed.

pub mod batch;
pub mod batch_row;
pub mod commitment;
pub mod encoding;
pub mod event;
pub mod hex;
pub mod incarnation;
pub mod month;
pub mod payload;
pub mod timestamp;
