//! The callbacks of transactions and savepoints, and what the rooms hear of the statements in them.
//!
//! Raw callbacks, not pgrx's: those keep a PRE_COMMIT hook of a prepared transaction for the next one.

use crate::pg::backend_local::BackendLocal;
use crate::pg::transaction;
use pgrx::{pg_guard, pg_sys};
use std::cell::Cell;

/// What a room wants to hear of.
#[derive(Clone, Copy)]
pub struct TransactionListener {
    /// The transaction is about to commit, or to be prepared (true), and can still fail.
    pub committing: fn(prepared: bool),
    /// The transaction is over; true if it committed, false if it aborted or was prepared for two-phase commit.
    pub ended: fn(committed: bool),
    /// The savepoint at this nesting level was rolled back (true) or released (false).
    pub savepoint: fn(level: i32, rolled_back: bool),
    /// The executor runs a statement or fetches from a cursor, nested ones included.
    pub statement: fn(),
    /// True if something waits for the end of the statement. Must neither raise nor panic.
    pub waiting: fn() -> bool,
    /// A statement that found something waiting is over, AFTER triggers included; nested ones have an end of their own.
    pub finished: fn(),
    /// COMMIT PREPARED has run, of a transaction of any session.
    pub prepared_committed: fn(),
}

static LISTENER: BackendLocal<Cell<Option<TransactionListener>>> = BackendLocal::new(Cell::new(None));

/// Registers the callbacks. Called once.
pub fn listen(listener: TransactionListener) {
    LISTENER.set(Some(listener));
    // SAFETY: called once per process from _PG_init; the callbacks are never unregistered and the library stays loaded.
    unsafe {
        pg_sys::RegisterXactCallback(Some(ended), std::ptr::null_mut());
        pg_sys::RegisterSubXactCallback(Some(savepoint_ended), std::ptr::null_mut());
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn ended(event: u32, _argument: *mut std::ffi::c_void) {
    use pg_sys::XactEvent::*;
    let Some(listener) = LISTENER.get() else { return };
    match event {
        XACT_EVENT_PRE_COMMIT | XACT_EVENT_PRE_PREPARE => (listener.committing)(event == XACT_EVENT_PRE_PREPARE),
        XACT_EVENT_COMMIT | XACT_EVENT_ABORT | XACT_EVENT_PREPARE => (listener.ended)(event == XACT_EVENT_COMMIT),
        _ => {}
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn savepoint_ended(event: u32, _child: u32, _parent: u32, _argument: *mut std::ffi::c_void) {
    use pg_sys::SubXactEvent::*;
    let over = [SUBXACT_EVENT_ABORT_SUB, SUBXACT_EVENT_COMMIT_SUB];
    if let Some(listener) = LISTENER.get().filter(|_| over.contains(&event)) {
        (listener.savepoint)(transaction::level(), event == SUBXACT_EVENT_ABORT_SUB);
    }
}

/// Tells the listener that the executor runs a statement.
pub(super) fn statement_started() {
    if let Some(listener) = LISTENER.get() {
        (listener.statement)();
    }
}

/// Tells the listener that a statement is over, if something waits for it.
pub(super) fn statement_finished() {
    if LISTENER.get().is_some_and(|listener| (listener.waiting)()) {
        finished();
    }
}

/// Tells the listener of a COMMIT PREPARED.
pub(super) fn prepared_committed() {
    if let Some(listener) = LISTENER.get() {
        (listener.prepared_committed)();
    }
}

#[pg_guard]
extern "C-unwind" fn finished() {
    if let Some(listener) = LISTENER.get() {
        (listener.finished)();
    }
}
