//! Capture: what is recorded as an event, and how it reaches the table of events.

pub mod ddl;
pub mod pending;
pub mod read;
pub mod refusal;
pub mod statement;
