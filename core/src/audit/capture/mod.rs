//! Capture: what is recorded as an event, and how it gets into the table of events.

pub mod ddl;
pub mod pending;
pub mod read;
pub mod refusal;
