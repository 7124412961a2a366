//! The hook into the planner: what the extension changes of a query after its policies were put into it.

use crate::pg::backend_local::BackendLocal;
use crate::pg::ddl::node::each;
use crate::pg::planning::{filling, lifting, merging};
use pgrx::{pg_guard, pg_sys};
use std::cell::Cell;
use std::ffi::c_char;

static PREVIOUS: BackendLocal<Cell<pg_sys::planner_hook_type>> = BackendLocal::new(Cell::new(None));

/// Takes the hook. Called once from `_PG_init`.
pub fn take() {
    // SAFETY: called once per process from _PG_init; the library stays loaded.
    unsafe {
        PREVIOUS.set(pg_sys::planner_hook);
        pg_sys::planner_hook = Some(plan);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn plan(
    query: *mut pg_sys::Query,
    text: *const c_char,
    options: i32,
    parameters: pg_sys::ParamListInfo,
) -> *mut pg_sys::PlannedStmt {
    // SAFETY: the planner may change the query that it is given; the rest is passed on.
    unsafe {
        lifting::lift(query);
        change(query);
        for expression in each::<pg_sys::CommonTableExpr>((*query).cteList) {
            let inner = (*expression).ctequery;
            if !inner.is_null() && (*inner).type_ == pg_sys::NodeTag::T_Query {
                change(inner.cast());
            }
        }
        match PREVIOUS.get() {
            Some(previous) => previous(query, text, options, parameters),
            None => pg_sys::standard_planner(query, text, options, parameters),
        }
    }
}

/// # Safety
/// A query that was rewritten and is about to be planned.
unsafe fn change(query: *mut pg_sys::Query) {
    // SAFETY: as promised.
    unsafe {
        // While the checks of rows still tell which column they are about.
        filling::fill(query);
        merging::merge(query);
    }
}
