//! The context of this backend: parsed once from the setting, checked once per statement, read for nothing per row.

use super::{Context, Organization};
use crate::error::{self, Result};
use crate::pg::setting::{self, Backend};
use crate::pg::transaction;
use pgrx::{IntoDatum, pg_sys};
use std::cell::{Cell, RefCell};
use std::ffi::CString;
use std::rc::Rc;

/// The parsed setting; stale after a change until the next read.
static PARSED: Backend<RefCell<Option<Rc<Context>>>> = Backend::new(RefCell::new(None));
static STALE: Backend<Cell<bool>> = Backend::new(Cell::new(true));
/// The client's statement in which the organization below was checked, expiry included; `None` when it was not, or when
/// the executor has begun another plan since. What runs outside of the executor (DO, CALL, simple expressions of
/// PL/pgSQL) is told by the time that Postgres gives each statement.
static CHECKED: Backend<Cell<Option<i64>>> = Backend::new(Cell::new(None));
/// Counts the changes, so that others can tell whether what they remember is of this context.
static GENERATION: Backend<Cell<u64>> = Backend::new(Cell::new(0));

/// The organization as Datums in TopTransactionContext, made anew after each change of the context: whatever a
/// statement still holds, a scan key for instance, keeps its value until the end of the transaction.
struct OrganizationDatums {
    uuid: Cell<Option<pg_sys::Datum>>,
    text: Cell<Option<pg_sys::Datum>>,
    integer: Cell<Option<i64>>,
}

static ORGANIZATION: Backend<OrganizationDatums> =
    Backend::new(OrganizationDatums { uuid: Cell::new(None), text: Cell::new(None), integer: Cell::new(None) });

/// Defines the setting behind the context. Called once from `_PG_init`.
pub fn define() {
    setting::define(|| {
        STALE.set(true);
        forget();
    });
}

/// Each statement checks the expiry anew, so that a long session fails closed when its token ends.
pub fn statement_started() {
    CHECKED.set(None);
}

/// The Datums went away with the transaction's memory.
pub fn transaction_ended() {
    forget();
}

fn forget() {
    CHECKED.set(None);
    ORGANIZATION.uuid.set(None);
    ORGANIZATION.text.set(None);
    ORGANIZATION.integer.set(None);
    GENERATION.set(GENERATION.get().wrapping_add(1));
}

/// A number that changes whenever the context may have changed.
pub fn generation() -> u64 {
    GENERATION.get()
}

/// The context of the transaction, if there is one, expired or not: for those who describe it, not for access.
pub fn current() -> Result<Option<Rc<Context>>> {
    if STALE.get() {
        let parsed = setting::read().map(|text| Context::decode(&text)).transpose()?;
        PARSED.replace(parsed.map(Rc::new));
        STALE.set(false);
    }
    Ok(PARSED.borrow().clone())
}

/// The error of a transaction without a context.
pub fn missing() -> error::Error {
    error::CONTEXT_MISSING.because("no organization is authenticated in this transaction")
}

/// The context of the transaction, for access: an error when there is none or its token has expired.
pub fn require() -> Result<Rc<Context>> {
    let context = current()?.ok_or_else(missing)?;
    if transaction::now() >= context.expires_at {
        return Err(error::CONTEXT_EXPIRED.because("the token behind this transaction has expired"));
    }
    Ok(context)
}

/// Sets the context until the end of the transaction.
pub fn begin(context: &Context) -> Result<()> {
    let text = CString::new(context.encode()?)
        .map_err(|_| error::STATE_INVALID.because("the context could not be encoded"))?;
    setting::set_local(&text);
    Ok(())
}

/// Leaves the transaction without a context.
pub fn end() {
    setting::set_local(&CString::default());
}

/// True while what was checked in this statement still holds.
#[inline]
pub fn checked() -> bool {
    CHECKED.get() == Some(transaction::statement())
}

/// Checks the context once per statement and lays out its organization for the accessors.
pub fn check() -> Result<()> {
    if checked() {
        return Ok(());
    }
    let context = require()?;
    if ORGANIZATION.uuid.get().is_none() {
        let Organization { id, text_id, integer_id } = &context.organization;
        // SAFETY: allocates in TopTransactionContext, which exists inside a transaction; the current context is put back.
        unsafe {
            let before = pg_sys::MemoryContextSwitchTo(pg_sys::TopTransactionContext);
            ORGANIZATION.uuid.set(pgrx::Uuid::from_bytes(*id.as_bytes()).into_datum());
            ORGANIZATION.text.set(text_id.as_str().into_datum());
            pg_sys::MemoryContextSwitchTo(before);
        }
        ORGANIZATION.integer.set(*integer_id);
    }
    CHECKED.set(Some(transaction::statement()));
    Ok(())
}

/// The organization as a `uuid` Datum; `None` before [`check`].
#[inline]
pub fn uuid_datum() -> Option<pg_sys::Datum> {
    if checked() { ORGANIZATION.uuid.get() } else { None }
}

/// The organization as a `text` Datum; `None` before [`check`].
#[inline]
pub fn text_datum() -> Option<pg_sys::Datum> {
    if checked() { ORGANIZATION.text.get() } else { None }
}

/// The organization's number as a `bigint` Datum, if it has one; `None` before [`check`].
#[inline]
pub fn integer_datum() -> Option<pg_sys::Datum> {
    if checked() { ORGANIZATION.integer.get().map(pg_sys::Datum::from) } else { None }
}
