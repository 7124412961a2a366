//! Where events are stored: a partition for each month, made ahead of time by whoever seals.
//!
//! Decisions: `docs/decisions/31-partition-indexes.md`, `docs/decisions/32-partition-checks.md`.

use crate::pg::backend_local::BackendLocal;
use crate::pg::spi::{Query, argument, timestamp};
use crate::pg::tables::table;
use crate::pg::transaction;
use crate::pg::user;
use pg_tenancy_core::audit::format::month::Month;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::ffi::CString;

/// How far ahead there are partitions, in days: an outage of the sealer may last that long before a writer has to
/// make one.
const AHEAD_DAYS: i64 = 62;

static CREATE: Query = Query::new("SELECT tenancy.create_audit_partitions($1)");
static CHECK: Query = Query::new("SELECT tenancy.check_audit_table($1, $2)");

/// Partitions that this session has found to be the audit's own. Nobody but their owner, whom the check believes,
/// can make them anything else, and what is written there is compared with the types of the columns each time.
static CHECKED: BackendLocal<RefCell<Vec<pg_sys::Oid>>> = BackendLocal::new(RefCell::new(Vec::new()));

/// The partition for rows of a moment, in microseconds since 1970. Made now if need be, as the first event ever
/// needs it.
pub fn of(table: &str, month: Month, at: i64) -> CString {
    let name = CString::new(format!("{table}_{}", month.suffix())).unwrap_or_default();
    if !table::is_partition(&name) {
        create(at);
    }
    let oid = table::oid(&name);
    if !CHECKED.borrow().contains(&oid) {
        let parent = table::oid(&CString::new(table).unwrap_or_default());
        // At the end of a statement there is no snapshot any more.
        transaction::with_latest_snapshot(|| {
            user::as_superuser(|| CHECK.write(&[argument(oid), argument(parent)], |_| ()));
        });
        CHECKED.borrow_mut().push(oid);
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
    let name = CString::new(format!("event_batch_{}", last.suffix())).unwrap_or_default();
    if !table::is_partition(&name) {
        create(now);
    }
}

/// In the name of the extension's owner: whoever changes a row may not call the function.
fn create(at: i64) {
    user::as_superuser(|| CREATE.write(&[timestamp(at)], |_| ()));
}
