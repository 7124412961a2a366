//! Messages to the worker: what is recorded although the transaction that did it may roll back.

use crate::pg::processes::shared;
use crate::pg::settings::configuration;
use crate::pg::{report, transaction};
use pg_tenancy_core::audit::capture::refusal;

const _: () = assert!(refusal::MESSAGE_BYTES <= shared::MESSAGE_BYTES);

/// Hands a message to the worker. Where there is none, or no place, it is a line of the server's log. `what` names
/// it there.
pub fn deliver(what: &str, message: &str) {
    let recorded = configuration::seal_interval().is_some()
        && !transaction::in_recovery()
        && shared::shared().is_some_and(|shared| shared.post(message.as_bytes()));
    if !recorded {
        report::log(format!("pg_tenancy: {what} {message}"));
    }
}
