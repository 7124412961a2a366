//! The hooks of the executor: ExecutorStart, ExecutorRun and ExecutorFinish, with the order in which each is heard.
//!
//! The hooks run for every statement, so they have no guard, which would cost a `sigsetjmp` each time: an error that
//! Postgres raises below jumps over their frames, which hold nothing to drop. What is heard here neither raises nor
//! panics, or has a guard of its own.

use super::{log, permission, reading, statement, throttle, transaction};
use crate::pg::backend_local::BackendLocal;
use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::c_int;

static PREVIOUS_START: BackendLocal<Cell<pg_sys::ExecutorStart_hook_type>> = BackendLocal::new(Cell::new(None));
static PREVIOUS_RUN: BackendLocal<Cell<pg_sys::ExecutorRun_hook_type>> = BackendLocal::new(Cell::new(None));
static PREVIOUS_FINISH: BackendLocal<Cell<pg_sys::ExecutorFinish_hook_type>> = BackendLocal::new(Cell::new(None));

// Postgres' own functions, without pgrx's guard around them.
unsafe extern "C-unwind" {
    #[link_name = "standard_ExecutorStart"]
    fn postgres_executor_start(query: *mut pg_sys::QueryDesc, flags: c_int);
    #[link_name = "standard_ExecutorFinish"]
    fn postgres_executor_finish(query: *mut pg_sys::QueryDesc);
    #[link_name = "pg_trigger_depth"]
    fn postgres_trigger_depth(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum;
}

/// Takes the hooks. Called once from `_PG_init`.
pub fn take() {
    // SAFETY: called once per process from _PG_init; the library stays loaded.
    unsafe {
        PREVIOUS_START.set(pg_sys::ExecutorStart_hook);
        pg_sys::ExecutorStart_hook = Some(start);
        PREVIOUS_RUN.set(pg_sys::ExecutorRun_hook);
        pg_sys::ExecutorRun_hook = Some(run);
        PREVIOUS_FINISH.set(pg_sys::ExecutorFinish_hook);
        pg_sys::ExecutorFinish_hook = Some(finish);
    }
}

unsafe extern "C-unwind" fn start(query: *mut pg_sys::QueryDesc, flags: c_int) {
    log::executor_starts();
    let runs = flags & pg_sys::EXEC_FLAG_EXPLAIN_ONLY as c_int == 0;
    if runs {
        // SAFETY: the executor gives a planned query.
        unsafe { throttle::starts(query) };
    }
    reading::starts();
    if runs {
        statement::starts(query);
    }
    // SAFETY: passes on what the executor gave, to the hook that was there before or to Postgres' own function.
    unsafe {
        match PREVIOUS_START.get() {
            Some(previous) => previous(query, flags),
            None => postgres_executor_start(query, flags),
        }
    }
    if runs {
        reading::started(query);
        statement::started(query);
    }
}

/// Declares the hook in the form that the Postgres version has.
macro_rules! run_hook {
    ($($argument:ident: $type:ty),*) => {
        unsafe extern "C-unwind" {
            #[link_name = "standard_ExecutorRun"]
            fn postgres_executor_run(query: *mut pg_sys::QueryDesc, $($argument: $type),*);
        }

        unsafe extern "C-unwind" fn run(query: *mut pg_sys::QueryDesc, $($argument: $type),*) {
            transaction::statement_started();
            statement::runs(query);
            permission::resumes(query);
            let is_read = reading::runs(query);
            // SAFETY: passes on what the executor gave.
            unsafe {
                match PREVIOUS_RUN.get() {
                    Some(previous) => previous(query, $($argument),*),
                    None => postgres_executor_run(query, $($argument),*),
                }
            }
            if is_read {
                reading::ran(query);
            }
            statement::ran(query);
        }
    };
}

#[cfg(not(feature = "pg18"))]
run_hook!(direction: pg_sys::ScanDirection::Type, count: u64, once: bool);
#[cfg(feature = "pg18")]
run_hook!(direction: pg_sys::ScanDirection::Type, count: u64);

/// AFTER triggers run in here (execMain.c).
unsafe extern "C-unwind" fn finish(query: *mut pg_sys::QueryDesc) {
    let is_read = reading::finishes(query);
    statement::finishes(query);
    // SAFETY: passes on what the executor gave.
    unsafe {
        match PREVIOUS_FINISH.get() {
            Some(previous) => previous(query),
            None => postgres_executor_finish(query),
        }
    }
    if is_read {
        reading::finished(query);
    }
    statement::finished(query);
    // SAFETY: the query has its plan and its state until ExecutorEnd.
    if !unsafe { is_part(query) } {
        transaction::statement_finished();
    }
}

/// True for a query that is part of another statement, whose end is enough: an end for each row would leave a batch of
/// events for each row.
///
/// One is the query of a foreign key (ri_triggers.c), which leaves its triggers to the statement around it. The other
/// is a SELECT in a trigger function. The executor itself skips the triggers of a SELECT that neither locks nor changes
/// rows (execMain.c).
///
/// # Safety
/// The executor runs the query.
unsafe fn is_part(query: *mut pg_sys::QueryDesc) -> bool {
    // SAFETY: as promised; the function reads no arguments.
    unsafe {
        let skips = (*(*query).estate).es_top_eflags & pg_sys::EXEC_FLAG_SKIP_TRIGGERS as c_int != 0;
        let plan = &*(*query).plannedstmt;
        let is_plain = plan.commandType == pg_sys::CmdType::CMD_SELECT && plan.rowMarks.is_null();
        skips && (!is_plain || postgres_trigger_depth(std::ptr::null_mut()).value() > 0)
    }
}
