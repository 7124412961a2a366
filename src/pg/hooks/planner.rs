//! The hook into the planner: what the extension changes of a query after its policies were put into it.

use crate::pg::ddl::node::each;
use crate::pg::planning::{filling, lifting, merging};
use crate::pg::settings::sealed::Backend;
use pgrx::{pg_guard, pg_sys};
use std::cell::Cell;
use std::ffi::c_char;

/// What rooms answer.
#[derive(Clone, Copy)]
pub struct Listener {
    /// Stands between the actions of one question.
    pub separator: char,
    /// True if somebody acts for all organizations in this transaction.
    pub lifting: fn() -> bool,
    /// True if that one may, with the rights of this role, at this table.
    pub lifts: fn(role: pg_sys::Oid, table: pg_sys::Oid) -> bool,
    /// True if nobody acts for any organization.
    pub nobody: fn() -> bool,
}

static LISTENER: Backend<Cell<Option<Listener>>> = Backend::new(Cell::new(None));
static PREVIOUS: Backend<Cell<pg_sys::planner_hook_type>> = Backend::new(Cell::new(None));

/// Registers the hook. Called once.
pub fn watch(listener: Listener) {
    LISTENER.set(Some(listener));
    // SAFETY: called once per process from _PG_init; the library stays loaded.
    unsafe {
        PREVIOUS.set(pg_sys::planner_hook);
        pg_sys::planner_hook = Some(plan);
    }
}

pub(in crate::pg) fn listener() -> Option<Listener> {
    LISTENER.get()
}

/// True if policies of any table are lifted.
pub(in crate::pg) fn lifts_any() -> bool {
    LISTENER.get().is_some_and(|listener| (listener.lifting)())
}

/// True if the policies of the table are lifted for whoever an access is checked as; 0 for the role in force.
pub(in crate::pg) fn lifted(table: pg_sys::Oid, check_as: pg_sys::Oid) -> bool {
    let Some(listener) = LISTENER.get().filter(|_| lifts_any()) else { return false };
    // SAFETY: a plain read of backend state.
    let role = if check_as == pg_sys::InvalidOid { unsafe { pg_sys::GetUserId() } } else { check_as };
    (listener.lifts)(role, table)
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

/// SAFETY of the caller: a query that was rewritten and is about to be planned.
unsafe fn change(query: *mut pg_sys::Query) {
    // SAFETY: as promised.
    unsafe {
        // While the checks of rows still tell which column they are about.
        filling::fill(query);
        merging::merge(query);
    }
}
