//! The context of this backend: parsed once from the setting, checked once per statement, read for nothing per row.

use super::Context;
use crate::error::{self, Result};
use crate::pg::setting::{self, Backend};
use crate::pg::transaction;
use pgrx::pg_sys;
use std::cell::{Cell, RefCell, UnsafeCell};
use std::ffi::CString;
use std::rc::Rc;

/// The parsed setting; stale after a change until the next read.
static PARSED: Backend<RefCell<Option<Rc<Context>>>> = Backend::new(RefCell::new(None));
static STALE: Backend<Cell<bool>> = Backend::new(Cell::new(true));
/// True when the organization below was checked, expiry included, within the running statement.
static CHECKED: Backend<Cell<bool>> = Backend::new(Cell::new(false));
/// Counts the changes, so that others can tell whether what they remember is of this context.
static GENERATION: Backend<Cell<u64>> = Backend::new(Cell::new(0));

/// The organization as Datums that stay valid while a statement holds them, for instance as a scan key.
struct OrganizationDatums {
    uuid: UnsafeCell<[u8; 16]>,
    /// A `text` in TopTransactionContext, which outlives every statement of the transaction.
    text: Cell<Option<pg_sys::Datum>>,
    integer: Cell<Option<i64>>,
}

static ORGANIZATION: Backend<OrganizationDatums> = Backend::new(OrganizationDatums {
    uuid: UnsafeCell::new([0; 16]),
    text: Cell::new(None),
    integer: Cell::new(None),
});

/// Defines the setting behind the context. Called once from `_PG_init`.
pub fn define() {
    setting::define(|| {
        STALE.set(true);
        forget();
    });
}

/// Each statement checks the expiry anew, so that a long session fails closed when its token ends.
pub fn statement_started() {
    CHECKED.set(false);
}

/// The `text` Datum went away with the transaction's memory.
pub fn transaction_ended() {
    forget();
}

fn forget() {
    CHECKED.set(false);
    ORGANIZATION.text.set(None);
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

/// The context of the transaction, for access: an error when there is none or its token has expired.
pub fn require() -> Result<Rc<Context>> {
    let context = current()?
        .ok_or_else(|| error::CONTEXT_MISSING.because("no organization is authenticated in this transaction"))?;
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
pub fn checked() -> bool {
    CHECKED.get()
}

/// Checks the context once per statement and lays out its organization for the accessors.
pub fn check() -> Result<()> {
    if CHECKED.get() {
        return Ok(());
    }
    let context = require()?;
    // SAFETY: one thread; nobody holds a reference into the array, only pointers that Postgres copies from.
    unsafe { *ORGANIZATION.uuid.get() = *context.organization.id.as_bytes() };
    ORGANIZATION.integer.set(context.organization.integer_id);
    if ORGANIZATION.text.get().is_none() {
        let text = &context.organization.text_id;
        // SAFETY: allocates in TopTransactionContext, which exists inside a transaction; the old context is restored.
        let datum = unsafe {
            let before = pg_sys::MemoryContextSwitchTo(pg_sys::TopTransactionContext);
            let datum = pg_sys::cstring_to_text_with_len(text.as_ptr().cast(), text.len() as i32);
            pg_sys::MemoryContextSwitchTo(before);
            pg_sys::Datum::from(datum)
        };
        ORGANIZATION.text.set(Some(datum));
    }
    CHECKED.set(true);
    Ok(())
}

/// The organization as a `uuid` Datum. Meaningful after [`check`].
pub fn uuid_datum() -> pg_sys::Datum {
    pg_sys::Datum::from(ORGANIZATION.uuid.get().cast::<u8>())
}

/// The organization as a `text` Datum. Meaningful after [`check`].
pub fn text_datum() -> Option<pg_sys::Datum> {
    ORGANIZATION.text.get()
}

/// The organization's number, if it has one. Meaningful after [`check`].
pub fn integer() -> Option<i64> {
    ORGANIZATION.integer.get()
}
