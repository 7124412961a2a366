//! Keeps tokens out of what the server logs and shows of a running statement.
//!
//! Everything that goes to the log passes `emit_log_hook` (src/backend/utils/error/elog.c), whatever its format. The
//! hook changes the texts of the report where they stand: what replaces a token is shorter, so nothing is allocated
//! while an error is reported, perhaps for want of memory. The report to the client is the same object, so the client
//! sees the replacement too.
//!
//! The STATEMENT line, the query of csvlog and jsonlog, `current_query()` and the text that parallel workers get come
//! from `debug_query_string`, which belongs to others and is being executed. It is pointed to a copy without tokens;
//! Postgres itself points it elsewhere with the next message of the client.
//!
//! Decision: `docs/decisions/14-token-redaction.md`.

use crate::pg::backend_local::BackendLocal;
use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_void};

/// How tokens are found and replaced. Neither function may allocate or panic.
#[derive(Clone, Copy)]
pub struct Redaction {
    /// True if the text holds a token.
    pub needed: fn(&[u8]) -> bool,
    /// Replaces the tokens where they stand, and returns the new length, which is not larger.
    pub in_place: fn(&mut [u8]) -> usize,
}

static REDACTION: BackendLocal<Cell<Option<Redaction>>> = BackendLocal::new(Cell::new(None));
static PREVIOUS_EMIT: BackendLocal<Cell<pg_sys::emit_log_hook_type>> = BackendLocal::new(Cell::new(None));

// Postgres' own functions, without pgrx's guard around them: a guard turns an error into a panic, and needs a stack of
// its own in the middle of reporting an error. None of these raises.
unsafe extern "C-unwind" {
    #[link_name = "MemoryContextAllocExtended"]
    fn allocate(context: pg_sys::MemoryContext, size: usize, flags: c_int) -> *mut c_void;
    #[link_name = "pgstat_report_activity"]
    fn report_activity(state: pg_sys::BackendState::Type, text: *const c_char);
    #[link_name = "pgstat_get_my_query_id"]
    fn query_id() -> u64;
    #[link_name = "pgstat_report_query_id"]
    fn report_query_id(id: u64, force: bool);
    #[cfg(feature = "pg18")]
    #[link_name = "pgstat_get_my_plan_id"]
    fn plan_id() -> u64;
    #[cfg(feature = "pg18")]
    #[link_name = "pgstat_report_plan_id"]
    fn report_plan_id(id: u64, force: bool);
}

/// Takes the tokens out of every report from now on. Called once, from `_PG_init`.
pub fn redact(redaction: Redaction) {
    REDACTION.set(Some(redaction));
    // SAFETY: called once per process from _PG_init, which runs on the only thread; the library is never unloaded.
    unsafe {
        PREVIOUS_EMIT.set(pg_sys::emit_log_hook);
        pg_sys::emit_log_hook = Some(emit);
    }
}

/// Takes the tokens out of what other sessions, the log and `current_query()` see of the statement that runs.
pub fn hide_tokens_of_statement() {
    if let Some(redaction) = REDACTION.get() {
        hide_statement(redaction);
    }
}

/// Runs in ErrorContext, perhaps out of memory, perhaps in a critical section: it must neither raise nor panic, so it
/// has no guard either.
unsafe extern "C-unwind" fn emit(report: *mut pg_sys::ErrorData) {
    // SAFETY: Postgres calls the hook with the report at hand, and nobody else changes it meanwhile.
    if let (Some(redaction), Some(report)) = (REDACTION.get(), unsafe { report.as_mut() }) {
        let texts =
            [report.message, report.detail, report.detail_log, report.hint, report.context, report.internalquery];
        for text in texts {
            // SAFETY: each is NULL or a C string that errmsg() and its like allocated for this report alone.
            unsafe { redact_text(text, redaction) };
        }
        if !hide_statement(redaction) {
            report.hide_stmt = true;
        }
    }
    if let Some(previous) = PREVIOUS_EMIT.get() {
        // SAFETY: passes on what Postgres gave.
        unsafe { previous(report) };
    }
}

/// # Safety
/// `text` is NULL or a C string that may be written to.
unsafe fn redact_text(text: *mut c_char, redaction: Redaction) {
    if text.is_null() {
        return;
    }
    // SAFETY: a C string, as the caller promises, and nobody else reads it meanwhile.
    let bytes = unsafe { std::slice::from_raw_parts_mut(text.cast::<u8>(), CStr::from_ptr(text).count_bytes()) };
    if (redaction.needed)(bytes) {
        let length = (redaction.in_place)(bytes);
        if let Some(end) = bytes.get_mut(length) {
            *end = 0;
        }
    }
}

/// The executor starts. A parallel worker shows the text of the leader's statement, which it got from the executor.
pub(super) fn executor_starts() {
    // SAFETY: reads a counter of this process.
    if unsafe { pg_sys::ParallelWorkerNumber } >= 0 {
        hide_tokens_of_statement();
    }
}

/// Points `debug_query_string` and `pg_stat_activity` to a copy without tokens. False if that was not possible.
fn hide_statement(redaction: Redaction) -> bool {
    // SAFETY: Postgres keeps it NULL or pointed to a C string that lives as long as the client's message is worked on.
    let statement = unsafe { pg_sys::debug_query_string };
    if statement.is_null() {
        return true;
    }
    // SAFETY: as above.
    let statement = unsafe { CStr::from_ptr(statement) }.to_bytes();
    if !(redaction.needed)(statement) {
        return true;
    }
    // SAFETY: these are globals of the process.
    let (context, critical) = unsafe { (copies(), pg_sys::CritSectionCount > 0) };
    if context.is_null() || critical {
        return false;
    }
    let flags = (pg_sys::MCXT_ALLOC_NO_OOM | pg_sys::MCXT_ALLOC_HUGE | pg_sys::MCXT_ALLOC_ZERO) as c_int;
    // As long as the original and filled with zeros: who took the length before (parallel CREATE INDEX does) stays
    // inside of it.
    // SAFETY: with NO_OOM and HUGE it answers NULL instead of raising.
    let copy = unsafe { allocate(context, statement.len() + 1, flags) }.cast::<u8>();
    if copy.is_null() {
        return false;
    }
    // SAFETY: the allocation has this length, plus the zero at its end, and nobody else knows of it.
    let bytes = unsafe { std::slice::from_raw_parts_mut(copy, statement.len()) };
    bytes.copy_from_slice(statement);
    let length = (redaction.in_place)(bytes);
    bytes.iter_mut().skip(length).for_each(|byte| *byte = 0);
    // SAFETY: the copy is a C string in a context that outlives the use of debug_query_string. Reporting the activity
    // writes to this process' own slot; it forgets the ids of query and plan, so they are reported again.
    unsafe {
        pg_sys::debug_query_string = copy.cast();
        let query = query_id();
        #[cfg(feature = "pg18")]
        let plan = plan_id();
        report_activity(pg_sys::BackendState::STATE_RUNNING, copy.cast());
        report_query_id(query, true);
        #[cfg(feature = "pg18")]
        report_plan_id(plan, true);
    }
    true
}

/// Where copies of a statement live: as long as the client's message, or the whole life of a parallel worker, which is
/// one statement. Other processes without a client have no place for them.
///
/// # Safety
/// Reads globals of the process.
unsafe fn copies() -> pg_sys::MemoryContext {
    // SAFETY: as the caller promises.
    unsafe { if pg_sys::ParallelWorkerNumber >= 0 { pg_sys::TopMemoryContext } else { pg_sys::MessageContext } }
}
