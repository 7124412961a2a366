//! Capture: what is recorded as an event, and how it gets into the table of events.

pub mod append;
pub mod application;
pub mod commitment_key;
pub mod ddl;
pub mod origin;
pub mod partition;
pub mod read;
pub mod refusal;
pub mod restore;
pub mod row;
