//! `tenancy.begin_maintenance`: for one transaction the owner of tables acts for all organizations, for a reason.

use super::current::{self, current};
use crate::audit;
use crate::pg::hooks::transaction;
use crate::pg::report::{self, OrRaise};
use crate::pg::settings::sealed::Backend;
use crate::pg::{plan_cache, user};
use pg_tenancy_core::error::{self, Result, given};
use pg_tenancy_core::savepoint_stack::Undo;
use pgrx::{pg_extern, pg_sys};
use std::cell::RefCell;
use std::rc::Rc;
use uuid::Uuid;

/// Who acts for all organizations, and why.
#[derive(Clone)]
struct Maintenance {
    role: pg_sys::Oid,
    reason: Rc<str>,
}

/// That of this transaction.
static MAINTENANCE: Backend<RefCell<Undo<Option<Maintenance>>>> = Backend::new(RefCell::new(Undo::new(None)));

/// `tenancy.begin_maintenance(reason)`.
#[pg_extern(sql = false)]
fn tenancy_begin_maintenance(reason: Option<&str>) {
    begin(reason).or_raise();
}

fn begin(reason: Option<&str>) -> Result<()> {
    let reason = given(reason.map(str::trim).filter(|reason| !reason.is_empty()), "the reason")?;
    if reason.len() > super::MAX_REASON_BYTES {
        return Err(error::ARGUMENT_INVALID.because("a reason has at most 1000 bytes"));
    }
    if transaction::read_only() {
        return Err(error::READ_ONLY.because("maintenance is recorded, and nothing can be written here"));
    }
    if current()?.is_some() || current::sealed_to_somebody() {
        return Err(error::CONTEXT_SEALED.because("this transaction has an identity, and acts for one organization"));
    }
    let maintenance = Maintenance { role: user::in_force(), reason: reason.into() };
    *MAINTENANCE.borrow_mut().change(transaction::level()) = Some(maintenance);
    changed();
    let session = user::session();
    let (login, name) = (session.session_user_name(), session.current_user_name());
    // The line stays when the transaction, and the event with it, is rolled back.
    report::log(format!("pg_tenancy: role \"{name}\" (session of \"{login}\") acts for all organizations: {reason}"));
    audit::operator_acts(Uuid::nil(), "maintenance", &name, reason)
}

/// True if a role acts for all organizations in this transaction.
pub fn in_maintenance() -> bool {
    MAINTENANCE.borrow().get().is_some()
}

/// Why, if one does.
pub fn maintenance_reason() -> Option<String> {
    MAINTENANCE.borrow().get().as_ref().map(|maintenance| maintenance.reason.to_string())
}

/// What was planned and remembered before is of another time: plans hold the policies, or do not.
fn changed() {
    plan_cache::reset();
    current::forget();
}

/// True if policies of the table do not count for what is read and written with the rights of `role`: that role, or one whose
/// rights it has, began the maintenance, and it may act for the owner of the table.
pub fn lifts(role: pg_sys::Oid, table: pg_sys::Oid) -> bool {
    let begun_by = MAINTENANCE.borrow().get().as_ref().map(|maintenance| maintenance.role);
    begun_by.is_some_and(|begun_by| user::has_rights_of(begun_by, role) && user::may_act_for_owner(role, table))
}

/// A savepoint was rolled back, and what was begun under it, or released.
pub fn savepoint(level: i32, rolled_back: bool) {
    let mut maintenance = MAINTENANCE.borrow_mut();
    if !rolled_back {
        return maintenance.release(level);
    }
    let role = |maintenance: &Undo<Option<Maintenance>>| maintenance.get().as_ref().map(|maintenance| maintenance.role);
    let before = role(&maintenance);
    maintenance.roll_back(level);
    if role(&maintenance) != before {
        changed();
    }
}

pub fn transaction_ended() {
    if in_maintenance() {
        changed();
    }
    MAINTENANCE.borrow_mut().clear();
}
