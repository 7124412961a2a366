//! How many events this database still has to seal, for the sessions that must not write faster than that.
//!
//! Decision: `docs/decisions/59-slowed-writers.md`.

use crate::pg::backend_local::BackendLocal;
use crate::pg::processes::shared::{self, Backlog};
use crate::pg::processes::{progress, throttle};
use crate::pg::spi::Query;
use crate::pg::transaction;
use pg_tenancy_core::savepoint_stack::SavepointStack;
use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern};
use std::cell::RefCell;

/// The events that this transaction has sealed.
static SEALED: BackendLocal<RefCell<SavepointStack<i64>>> = BackendLocal::new(RefCell::new(SavepointStack::new(0)));

static UNSEALED: Query = Query::new("SELECT unsealed_events FROM tenancy.audit_lag");

fn backlog() -> Option<&'static Backlog> {
    shared::shared().and_then(|shared| shared.backlog_if_any(progress::this_database()))
}

/// This transaction has sealed so many events; others hear of it after its commit.
pub fn sealed(events: i64) {
    *SEALED.borrow_mut().change(transaction::level()) += events;
}

/// A savepoint was rolled back or released: what was sealed under it went the same way.
pub fn savepoint(level: i32, rolled_back: bool) {
    let mut sealed = SEALED.borrow_mut();
    if rolled_back {
        sealed.roll_back(level);
    } else {
        sealed.release(level);
    }
}

/// The transaction is over.
pub fn transaction_ended(committed: bool) {
    let events = *SEALED.borrow().get();
    SEALED.borrow_mut().clear();
    if let Some(backlog) = backlog().filter(|_| committed && events > 0) {
        backlog.sealed(events, transaction::now());
    }
}

/// Compares what commits have told with the tables, where that was never done, or somebody committed without telling.
pub fn count_if_unknown() {
    if backlog().is_some_and(|backlog| !backlog.is_counted()) {
        count();
    }
}

/// Compares what commits have told with the tables.
pub fn count() {
    let Some(backlog) = backlog() else { return };
    let before = backlog.unsealed();
    let unsealed = transaction::with_latest_snapshot(|| UNSEALED.read(&[], |row| row.get::<i64>(1)));
    // What this transaction has sealed is taken off at its commit.
    let sealed = *SEALED.borrow().get();
    backlog.correct(unsealed.into_iter().flatten().sum::<i64>() + sealed, before, transaction::now());
}

/// The extension is not installed here.
pub fn nothing_to_seal() {
    if let Some(backlog) = backlog() {
        backlog.clear(transaction::now());
    }
}

/// `tenancy.throttle_state()`: what slows writers down, where the library is preloaded.
#[pg_extern(sql = false)]
fn tenancy_throttle_state() -> TableIterator<
    'static,
    (name!(counted_events, i64), name!(event_limit, Option<i64>), name!(waiting_sessions, i64), name!(given_up, bool)),
> {
    let state = backlog().map(|backlog| {
        let given_up = throttle::is_over_limit() && backlog.stands_still(transaction::now());
        (backlog.unsealed(), throttle::limit(), backlog.waiting().into(), given_up)
    });
    TableIterator::new(state)
}
