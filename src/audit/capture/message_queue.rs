//! Messages to the worker: what is recorded although the transaction that did it may roll back.

use crate::pg::processes::{progress, shared, throttle};
use crate::pg::settings::configuration;
use crate::pg::{report, transaction};
use pg_tenancy_core::audit::capture::refusal;
use std::time::{Duration, Instant};

const _: () = assert!(refusal::MESSAGE_BYTES <= shared::MESSAGE_BYTES);

/// The places that stay free for messages of transactions that are under way.
const RESERVE: usize = shared::MESSAGES / 4;
/// How long a statement waits for the worker to make room.
const PATIENCE: Duration = Duration::from_secs(2);

/// Hands a message to the worker. Where there is none, or no place, it is a line of the server's log. `what` names
/// it there.
pub fn deliver(what: &str, message: &str) {
    if !post(message) {
        report::log(format!("pg_tenancy: {what} {message}"));
    }
}

/// Hands a message to the worker; false where there is none, or no place.
pub fn post(message: &str) -> bool {
    configuration::seal_interval().is_some()
        && !transaction::in_recovery()
        && shared::shared().is_some_and(|shared| shared.post(message.as_bytes()))
}

/// Why messages of this transaction would not be recorded; `None` where they will be. Waits a moment for the worker
/// where too many wait.
pub fn unrecordable() -> Option<&'static str> {
    if transaction::in_recovery() {
        return Some("The server is a standby.");
    }
    let Some(shared) = shared::shared() else { return Some("The library is not in shared_preload_libraries.") };
    if configuration::seal_interval().is_none() {
        return Some("The background worker is switched off (tenancy.seal_interval).");
    }
    let began = Instant::now();
    while !shared.has_room(RESERVE) {
        if began.elapsed() >= PATIENCE {
            return Some("Too many messages wait for the background worker.");
        }
        shared.call_worker(progress::this_database());
        throttle::nap(10);
    }
    None
}
