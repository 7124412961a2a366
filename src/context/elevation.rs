//! Elevated transactions: what a break-glass grant adds, for as long as the grant is in force.
//!
//! A transaction that has worked under a grant stays bound to it: each later statement, and each fetch from a cursor,
//! asks whether the grant is in force as it is committed, and is refused if not. That does not end with the elevation
//! itself, which another sign-in replaces: a cursor may still hold rows that the grant has let through.
//!
//! Decision: `docs/decisions/86-elevation.md`.

use super::current::{begin_encoded, forget, record_refusal, require, require_grant};
use crate::pg::backend_local::BackendLocal;
use crate::pg::report::OrRaise;
use crate::pg::transaction;
use pg_tenancy_core::context::Context;
use pg_tenancy_core::error::Result;
use pg_tenancy_core::savepoint_stack::SavepointStack;
use pgrx::pg_guard;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use uuid::Uuid;

/// The elevated contexts of this transaction, each with a grant of its own.
static ELEVATED_CONTEXTS: BackendLocal<RefCell<SavepointStack<Vec<Rc<Context>>>>> =
    BackendLocal::new(RefCell::new(SavepointStack::new(Vec::new())));
/// What was asked of the context since the last statement and only the grant permits, as `domain:action`.
static NEEDED: BackendLocal<RefCell<Vec<String>>> = BackendLocal::new(RefCell::new(Vec::new()));
/// False while there are none, so that nobody else pays.
static ANY: BackendLocal<Cell<bool>> = BackendLocal::new(Cell::new(false));

/// Elevates the transaction: its identity stays, and gets what the grant adds. It ends with the transaction, also where
/// the identity is that of the session.
///
/// The context is that of the transaction with an elevation, beside its encoding; the caller has checked the grant.
/// Errors: those of [`begin_encoded`] and what [`require`] raises.
pub fn elevate(elevated: Rc<Context>, encoded: String) -> Result<()> {
    begin_encoded(elevated, encoded)?;
    // As it was just sealed.
    let sealed = require()?;
    ELEVATED_CONTEXTS.borrow_mut().change(transaction::level()).push(sealed);
    ANY.set(true);
    Ok(())
}

/// True in a transaction that has worked under a grant. Neither raises nor panics.
pub fn is_elevated() -> bool {
    ANY.get()
}

/// The last grant that the transaction was elevated by, and its organization.
pub fn last() -> Option<(Uuid, Uuid)> {
    let contexts = ELEVATED_CONTEXTS.borrow();
    let context = contexts.get().last()?;
    Some((context.elevation.as_ref()?.grant, context.organization.id))
}

/// Notes what is asked of a context, if it is permitted by the elevation alone.
pub fn note(context: &Context, domain: &str, action: &str) {
    if context.elevation.is_some() && !context.permissions.allows(domain, action) && context.allows(domain, action) {
        let (permission, mut needed) = (format!("{domain}:{action}"), NEEDED.borrow_mut());
        if !needed.contains(&permission) {
            needed.push(permission);
        }
    }
}

/// What was needed of grants since it was last asked for. Neither raises nor panics.
pub fn take_needed() -> Vec<String> {
    NEEDED.try_borrow_mut().map(|mut needed| std::mem::take(&mut *needed)).unwrap_or_default()
}

/// Refuses to go on in a transaction that has worked under a grant which is not in force any more.
pub fn must_hold() -> Result<()> {
    if !ANY.get() {
        return Ok(());
    }
    let contexts = ELEVATED_CONTEXTS.borrow().get().clone();
    let held = contexts.iter().try_for_each(|context| match &context.elevation {
        Some(elevation) => require_grant(context, elevation),
        None => Ok(()),
    });
    held.inspect_err(|ended| {
        // What call sites remember was true under the grant.
        forget();
        record_refusal("break_glass", ended);
    })
}

/// The executor runs a statement, or fetches from a cursor.
pub fn statement_started() {
    if ANY.get() {
        hold_or_raise();
    }
}

#[pg_guard]
extern "C-unwind" fn hold_or_raise() {
    must_hold().or_raise();
}

/// A savepoint was rolled back, and the elevations under it, or released.
pub fn savepoint(level: i32, rolled_back: bool) {
    if !ANY.get() {
        return;
    }
    let mut contexts = ELEVATED_CONTEXTS.borrow_mut();
    if rolled_back {
        contexts.roll_back(level)
    } else {
        contexts.release(level)
    }
    ANY.set(!contexts.get().is_empty());
}

/// The transaction is over, and its elevations with it.
pub fn transaction_ended() {
    if ANY.replace(false) {
        ELEVATED_CONTEXTS.borrow_mut().clear();
        NEEDED.borrow_mut().clear();
    }
}
