//! The sealed setting: a custom setting that only this library can give a value.
//!
//! A setting, and not backend memory, because Postgres already does for settings what a context needs: it follows
//! savepoints and rollback, ends with the transaction, and travels to parallel workers
//! (`SerializeGUCState`/`RestoreGUCState`, src/backend/utils/misc/guc.c).
//!
//! Decision: `docs/decisions/01-context-setting.md`.

use crate::pg::backend_local::BackendLocal;
use pgrx::{pg_guard, pg_sys};
use std::cell::{Cell, UnsafeCell};
use std::ffi::{CStr, CString, c_char, c_int, c_void};

const NAME: &CStr = c"tenancy.context";

/// Where Postgres keeps the pointer to the value (`config_string.variable`).
static VALUE: BackendLocal<UnsafeCell<*mut c_char>> = BackendLocal::new(UnsafeCell::new(std::ptr::null_mut()));
/// True only while [`set`] is on the stack: the check hook refuses every other writer.
static WRITING: BackendLocal<Cell<bool>> = BackendLocal::new(Cell::new(false));
/// What to call when the value changed, by whatever way.
static CHANGED: BackendLocal<Cell<fn()>> = BackendLocal::new(Cell::new(|| ()));

/// Defines the setting; `changed` runs after each change of its value and must neither raise nor allocate.
pub fn define(changed: fn()) {
    CHANGED.set(changed);
    // PGC_SUSET, not PGC_INTERNAL: parallel workers are not sent the latter (can_skip_gucvar). GUC_SUPERUSER_ONLY
    // hides the value from SHOW; the accessor functions are the way to read it.
    let flags =
        pg_sys::GUC_NO_SHOW_ALL | pg_sys::GUC_NOT_IN_SAMPLE | pg_sys::GUC_DISALLOW_IN_FILE | pg_sys::GUC_SUPERUSER_ONLY;
    // SAFETY: called once from _PG_init; the strings and the variable are static, the hooks have the right signature.
    unsafe {
        pg_sys::DefineCustomStringVariable(
            NAME.as_ptr(),
            c"The verified identity of the transaction; set by tenancy.authenticate only.".as_ptr(),
            std::ptr::null(),
            VALUE.get(),
            c"".as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            flags as c_int,
            Some(check),
            Some(assign),
            None,
        );
        pg_sys::MarkGUCPrefixReserved(c"tenancy".as_ptr());
    }
}

/// Until when a value lasts, unless its savepoint or transaction is rolled back.
#[derive(Clone, Copy, PartialEq)]
pub enum Lasting {
    /// As SET LOCAL: the value that was there before comes back at the commit.
    Transaction,
    /// As SET: until the session ends or the setting is reset.
    Session,
}

/// Gives the setting a value.
pub fn set(value: &CString, lasting: Lasting) {
    /// Closes the seal again, also when Postgres raises in between.
    struct WriteGuard;
    impl Drop for WriteGuard {
        fn drop(&mut self) {
            WRITING.set(false);
        }
    }
    WRITING.set(true);
    let _guard = WriteGuard;
    let action = match lasting {
        Lasting::Transaction => pg_sys::GucAction::GUC_ACTION_LOCAL,
        Lasting::Session => pg_sys::GucAction::GUC_ACTION_SET,
    };
    // SAFETY: both strings are NUL-terminated and copied by Postgres. Passing PGC_SUSET skips the privilege check,
    // whoever the current user is. Within a parallel operation Postgres refuses any change.
    unsafe {
        pg_sys::set_config_option(
            NAME.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            pg_sys::GucSource::PGC_S_SESSION,
            action,
            true,
            0,
            false,
        );
    }
}

/// The current value; `None` when there is none.
pub fn read() -> Option<String> {
    // SAFETY: Postgres keeps the variable pointing at a NUL-terminated string, or NULL before the setting is defined.
    let value = unsafe { *VALUE.get() };
    if value.is_null() {
        return None;
    }
    // SAFETY: as above; the bytes are copied before anything can change the setting.
    let text = unsafe { CStr::from_ptr(value) }.to_str().ok()?;
    (!text.is_empty()).then(|| text.to_owned())
}

/// Refuses every value that does not come from [`set`]: SET by a superuser or by a role with GRANT SET ON
/// PARAMETER, ALTER ROLE ... SET, PGOPTIONS, and a placeholder that was set before the library was loaded.
///
/// The empty value passes: it is no access at all. A parallel worker receives its leader's value. A rollback to an
/// earlier value does not come here (guc.c restores it without a check).
#[pg_guard]
unsafe extern "C-unwind" fn check(value: *mut *mut c_char, _extra: *mut *mut c_void, _source: u32) -> bool {
    // SAFETY: guc.c passes a pointer to the proposed value, which is NULL or NUL-terminated.
    let empty = unsafe { (*value).is_null() || **value == 0 };
    // SAFETY: a plain global of Postgres, set at the start of a parallel worker.
    let restoring = unsafe { pg_sys::InitializingParallelWorker };
    if empty || restoring || WRITING.get() {
        return true;
    }
    // SAFETY: guc.c reads both after a refusal; the texts are palloc'ed in the current context as it expects.
    unsafe {
        pg_sys::GUC_check_errcode(pg_sys::errcodes::PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE as c_int);
        pg_sys::GUC_check_errmsg_string =
            pg_sys::pstrdup(c"the context of pg_tenancy is set by tenancy.authenticate only".as_ptr());
        pg_sys::GUC_check_errhint_string = pg_sys::pstrdup(c"Call tenancy.authenticate(token).".as_ptr());
    }
    false
}

/// Runs on every change, rollback included. guc.c demands that it cannot fail.
unsafe extern "C-unwind" fn assign(_value: *const c_char, _extra: *mut c_void) {
    CHANGED.get()();
}
