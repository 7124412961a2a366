//! Whether somebody acts for all organizations, and at which tables: what the rooms answer while a query is planned.

use crate::pg::backend_local::BackendLocal;
use pgrx::pg_sys;
use std::cell::Cell;

/// What rooms answer.
#[derive(Clone, Copy)]
pub struct MaintenanceAnswers {
    /// Stands between the actions of one question.
    pub separator: char,
    /// True if somebody acts for all organizations in this transaction.
    pub lifting: fn() -> bool,
    /// True if that one may, with the rights of this role, at this table.
    pub lifts: fn(role: pg_sys::Oid, table: pg_sys::Oid) -> bool,
    /// True if nobody acts for any organization.
    pub nobody: fn() -> bool,
}

static LISTENER: BackendLocal<Cell<Option<MaintenanceAnswers>>> = BackendLocal::new(Cell::new(None));
/// Registers who answers. Called once from `_PG_init`.
pub fn answer(listener: MaintenanceAnswers) {
    LISTENER.set(Some(listener));
}

pub(in crate::pg) fn listener() -> Option<MaintenanceAnswers> {
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
