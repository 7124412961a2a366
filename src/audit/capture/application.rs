//! `tenancy.record_event`: what an application does that is no change of a row.

use super::append::{NewEvent, append};
use crate::context;
use crate::pg::ddl::grant;
use crate::pg::json;
use crate::pg::processes::{shared, throttle};
use crate::pg::report::OrRaise;
use crate::pg::transaction;
use pg_tenancy_core::error::{self, Result, require_not_null};
use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern};

/// The operations that the extension itself writes: an application cannot pass its own events off as those.
const OWN: [&str; 20] = [
    "insert",
    "update",
    "delete",
    "truncate",
    "assume",
    "override",
    "guardrail",
    "authenticate",
    "authorize",
    "erase",
    "read",
    "export",
    "protect",
    "unprotect",
    "capture_off",
    "capture_on",
    "gap",
    "coverage",
    "rewrite",
    "maintenance",
];
/// Domains in which the extension alone records.
const OWN_DOMAINS: [&str; 2] = ["secret", "secret_key"];
const RESULTS: [&str; 3] = ["success", "denied", "failed"];

const MAX_NAME_BYTES: usize = 63;
const MAX_REASON_BYTES: usize = 1000;
const MAX_DATA_BYTES: usize = 64 * 1024;

/// `tenancy.record_event(action, domain, data, result, reason)`: returns the id of the event. `data` is of type
/// `json`, which is stored as `text` is.
#[pg_extern(sql = false)]
fn tenancy_record_event(
    action: Option<&str>,
    domain: Option<&str>,
    data: Option<&str>,
    result: Option<&str>,
    reason: Option<&str>,
) -> pgrx::Uuid {
    let id = record(action, domain, data, result, reason).or_raise();
    pgrx::Uuid::from_bytes(*id.as_bytes())
}

fn record(
    action: Option<&str>,
    domain: Option<&str>,
    data: Option<&str>,
    result: Option<&str>,
    reason: Option<&str>,
) -> Result<uuid::Uuid> {
    let (action, domain, result) =
        (require_not_null(action, "action")?, require_not_null(domain, "domain")?, require_not_null(result, "result")?);
    for (name, value) in [("action", action), ("domain", domain)] {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_.:-".contains(&byte);
        if value.is_empty() || value.len() > MAX_NAME_BYTES || !value.bytes().all(allowed) {
            let what = "must be of 1 to 63 lower-case letters, digits, and the characters _ . : -";
            return Err(error::ARGUMENT_INVALID.error(format!("{name} {what}")));
        }
    }
    if OWN_DOMAINS.contains(&domain) {
        let message = format!("domain \"{domain}\" is one that the extension itself records in");
        return Err(error::ARGUMENT_INVALID.error(message));
    }
    if OWN.contains(&action) || grant::is_name_of_statement(action) {
        let message = format!("action \"{action}\" is one that the extension itself records");
        return Err(error::ARGUMENT_INVALID.error(message));
    }
    if !RESULTS.contains(&result) {
        return Err(error::ARGUMENT_INVALID.error("result must be success, denied or failed"));
    }
    if reason.is_some_and(|reason| reason.len() > MAX_REASON_BYTES) {
        return Err(error::ARGUMENT_INVALID.error("the reason is longer than 1000 bytes"));
    }
    if data.is_some_and(|data| data.len() > MAX_DATA_BYTES) {
        let hint = "register what is larger elsewhere and record its digest";
        return Err(error::ARGUMENT_INVALID.error("data is larger than 64 kB").detail(hint));
    }
    if transaction::read_only() {
        return Err(error::READ_ONLY.error("an event cannot be recorded on a standby or in a READ ONLY transaction"));
    }
    let organization = context::require()?.organization.id;
    throttle::before_event();
    append(NewEvent {
        organization,
        operation: action,
        domain,
        table_schema: None,
        table_name: None,
        row_key: None,
        result,
        reason,
        payload: payload(data),
    })
}

/// `{"data":...}`, or `{}` without any.
fn payload(data: Option<&str>) -> String {
    let mut out = b"{".to_vec();
    if let Some(data) = data {
        json::push_string(&mut out, "data");
        out.push(b':');
        json::push_json(&mut out, data.as_bytes());
    }
    out.push(b'}');
    // Built of stored JSON in a UTF-8 database.
    json::into_text(out)
}

/// `tenancy.refusal_queue()`: what waits for the worker, where the library is preloaded.
#[pg_extern(sql = false)]
fn tenancy_refusal_queue() -> TableIterator<'static, (name!(waiting, i64), name!(capacity, i64), name!(dropped, i64))> {
    let state = shared::shared().map(|shared| shared.messages());
    TableIterator::new(state.map(|(waiting, capacity, dropped)| (waiting as i64, capacity as i64, dropped as i64)))
}
