//! The ordinary settings: what a DBA writes into postgresql.conf.

use super::setting::Backend;
use pgrx::pg_sys;
use std::cell::UnsafeCell;
use std::ffi::{CStr, c_char, c_int};

static JWKS_DIRECTORY: Backend<UnsafeCell<*mut c_char>> = Backend::new(UnsafeCell::new(std::ptr::null_mut()));
static OVERRIDE_REASON: Backend<UnsafeCell<*mut c_char>> = Backend::new(UnsafeCell::new(std::ptr::null_mut()));

/// Defines the settings. Called once from `_PG_init`, before the prefix is reserved.
pub fn define() {
    // PGC_SIGHUP: whoever could choose the folder in a session, or on connecting, would choose the keys.
    // SAFETY: called once from _PG_init; the strings and the variable are static.
    unsafe {
        pg_sys::DefineCustomStringVariable(
            c"tenancy.jwks_directory".as_ptr(),
            c"The folder with the key files of issuers, as an absolute path.".as_ptr(),
            c"tenancy.set_issuer(..., jwks_file => ...) names files in it.".as_ptr(),
            JWKS_DIRECTORY.get(),
            c"".as_ptr(),
            pg_sys::GucContext::PGC_SIGHUP,
            pg_sys::GUC_SUPERUSER_ONLY as c_int,
            None,
            None,
            None,
        );
        pg_sys::DefineCustomStringVariable(
            c"tenancy.override_reason".as_ptr(),
            c"Why this session passes the guardrails.".as_ptr(),
            c"Empty: it does not. Whoever uses it leaves an audit event with the reason.".as_ptr(),
            OVERRIDE_REASON.get(),
            c"".as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            0,
            None,
            None,
            None,
        );
    }
}

/// `tenancy.override_reason`; `None` when it is not set, or blank.
pub fn override_reason() -> Option<String> {
    text(&OVERRIDE_REASON).filter(|reason| !reason.trim().is_empty())
}

/// `tenancy.jwks_directory`; `None` when it is not set.
pub fn jwks_directory() -> Option<String> {
    text(&JWKS_DIRECTORY).filter(|folder| !folder.is_empty())
}

fn text(setting: &Backend<UnsafeCell<*mut c_char>>) -> Option<String> {
    // SAFETY: Postgres keeps the variable pointing at a NUL-terminated string, or NULL before the setting is defined.
    let value = unsafe { *setting.get() };
    if value.is_null() {
        return None;
    }
    // SAFETY: as above; the bytes are copied before anything can change the setting.
    unsafe { CStr::from_ptr(value) }.to_str().ok().map(str::to_owned)
}
