//! The guardrail on those whom no policy binds: superusers, and roles with BYPASSRLS.

use super::state::{overridden, record, state};
use crate::context;
use crate::pg::backend_local::BackendLocal;
use crate::pg::report::warn;
use crate::pg::transaction;
use crate::policy::protect;
use pg_tenancy_core::error::{self, Result};
use pg_tenancy_core::guardrail::{ROW_SECURITY_BYPASS, State};
use pg_tenancy_core::savepoint_stack::SavepointStack;
use pgrx::pg_sys;
use std::cell::RefCell;
use uuid::Uuid;

/// Tables that were reported in this transaction already.
static REPORTED: BackendLocal<RefCell<SavepointStack<Vec<pg_sys::Oid>>>> =
    BackendLocal::new(RefCell::new(SavepointStack::new(Vec::new())));

/// Somebody whom no policy binds is about to read or write a protected table.
pub fn accessed(table: pg_sys::Oid) -> Result<()> {
    let state = state(&ROW_SECURITY_BYPASS, Uuid::nil());
    if state == State::Off
        || protect::working()
        || context::current()?.is_some()
        || context::in_maintenance()
        || REPORTED.borrow().get().contains(&table)
    {
        return Ok(());
    }
    let Some(found) = protect::table(table) else { return Ok(()) };
    let name = Some((found.schema.as_str(), found.name.as_str()));
    if overridden(&ROW_SECURITY_BYPASS, "bypass", name)? {
        is_reported(table);
        return Ok(());
    }
    let message =
        format!("no policy binds this role: it would see every organization's rows of {}.{}", found.schema, found.name);
    let error = error::BYPASS_REFUSED.error(message);
    if state == State::Enforce {
        return Err(error);
    }
    record(&ROW_SECURITY_BYPASS, "bypass", name, None)?;
    is_reported(table);
    warn(&error);
    Ok(())
}

fn is_reported(table: pg_sys::Oid) {
    REPORTED.borrow_mut().change(transaction::level()).push(table);
}

/// A savepoint was rolled back, and the events under it, or released.
pub fn savepoint(level: i32, rolled_back: bool) {
    let mut reported = REPORTED.borrow_mut();
    if rolled_back { reported.roll_back(level) } else { reported.release(level) }
}

pub fn transaction_ended() {
    REPORTED.borrow_mut().clear();
}
