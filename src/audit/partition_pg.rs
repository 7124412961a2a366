//! Where events are stored: a partition for each month, made ahead of time by whoever seals.

use super::month::Month;
use crate::pg::spi::{Query, timestamp};
use crate::pg::table;
use crate::pg::transaction;
use crate::pg::user;
use std::ffi::CString;

/// How far ahead there are partitions, in days: an outage of the sealer may last that long before a writer has to make one.
const AHEAD_DAYS: i64 = 62;

static CREATE: Query = Query::new("SELECT tenancy.create_audit_partitions($1)");

/// The partition for rows of a moment, in microseconds since 1970. Made now if need be, as the first event ever needs it.
pub fn of(table: &str, month: Month, at: i64) -> CString {
    let name = CString::new(format!("{table}_{}", month.suffix())).unwrap_or_default();
    if !table::is_partition(&name) {
        create(at);
    }
    name
}

/// True if the month, as the names of partitions end, has a partition.
pub fn is_there(table: &str, suffix: &str) -> bool {
    table::is_partition(&CString::new(format!("{table}_{suffix}")).unwrap_or_default())
}

/// Makes the partitions of the months ahead, if the last of them is not there yet.
pub fn create_ahead() {
    let now = transaction::now();
    let last = Month::of(now + AHEAD_DAYS * 86_400_000_000);
    let name = CString::new(format!("event_{}", last.suffix())).unwrap_or_default();
    if !table::is_partition(&name) {
        create(now);
    }
}

/// In the name of the extension's owner: whoever changes a row may not call the function.
fn create(at: i64) {
    user::as_superuser(|| CREATE.write(&[timestamp(at)], |_| ()));
}
