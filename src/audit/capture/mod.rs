//! Capture: what is recorded as an event, and how it gets into the table of events.

pub mod append;
pub mod application;
pub mod commitment_key;
pub mod ddl;
pub mod message_queue;
pub mod origin;
pub mod partition;
pub mod read;
pub mod refusal;
pub mod restore;
pub mod row;
pub mod statement;

use pg_tenancy_core::audit::capture::read::Read;
use pg_tenancy_core::audit::capture::refusal::Refusal;
use pg_tenancy_core::audit::capture::statement::Statements;
use pg_tenancy_core::error::Result;

/// Writes the event of a message from [`message_queue`]. What is no such message is left.
pub fn record_message(message: &[u8]) -> Result<()> {
    if let Some(message) = Refusal::from_message(message) {
        return refusal::record(message);
    }
    if let Some(message) = Statements::from_message(message) {
        return statement::record(message);
    }
    Read::from_message(message).map_or(Ok(()), read::record)
}
