//! Maintenance: for one transaction the owner of tables acts for all organizations, for a reason.

use crate::pg::backend_local::BackendLocal;
use crate::pg::{transaction, user};
use pg_tenancy_core::savepoint_stack::SavepointStack;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::rc::Rc;

/// Who acts for all organizations, and why.
#[derive(Clone)]
struct Maintenance {
    role: pg_sys::Oid,
    reason: Rc<str>,
}

/// That of this transaction.
static MAINTENANCE: BackendLocal<RefCell<SavepointStack<Option<Maintenance>>>> =
    BackendLocal::new(RefCell::new(SavepointStack::new(None)));

/// Begins a maintenance in this transaction.
pub fn begin(reason: &str) {
    let maintenance = Maintenance { role: user::in_force(), reason: reason.into() };
    *MAINTENANCE.borrow_mut().change(transaction::level()) = Some(maintenance);
}

/// True if a role acts for all organizations in this transaction.
pub fn in_maintenance() -> bool {
    MAINTENANCE.borrow().get().is_some()
}

/// Why, if one does.
pub fn maintenance_reason() -> Option<String> {
    MAINTENANCE.borrow().get().as_ref().map(|maintenance| maintenance.reason.to_string())
}

/// True if policies of the table do not count for what is read and written with the rights of `role`: that role, or
/// one whose rights it has, began the maintenance, and it may act for the owner of the table.
pub fn lifts(role: pg_sys::Oid, table: pg_sys::Oid) -> bool {
    let begun_by = MAINTENANCE.borrow().get().as_ref().map(|maintenance| maintenance.role);
    begun_by.is_some_and(|begun_by| user::has_rights_of(begun_by, role) && user::may_act_for_owner(role, table))
}

/// A savepoint was rolled back, and what was begun under it, or released. True if somebody else acts now, or nobody.
pub fn savepoint(level: i32, rolled_back: bool) -> bool {
    let mut maintenance = MAINTENANCE.borrow_mut();
    if !rolled_back {
        maintenance.release(level);
        return false;
    }
    let role = |maintenance: &SavepointStack<Option<Maintenance>>| {
        maintenance.get().as_ref().map(|maintenance| maintenance.role)
    };
    let before = role(&maintenance);
    maintenance.roll_back(level);
    role(&maintenance) != before
}

/// The transaction is over, and the maintenance with it. True if there was one.
pub fn transaction_ended() -> bool {
    let ends = in_maintenance();
    MAINTENANCE.borrow_mut().clear();
    ends
}
