//! The ordinary settings: what a DBA writes into postgresql.conf.

use super::setting::Backend;
use pgrx::pg_sys;
use std::cell::UnsafeCell;
use std::ffi::{CStr, c_char, c_int};
use std::time::Duration;

static JWKS_DIRECTORY: Backend<UnsafeCell<*mut c_char>> = Backend::new(UnsafeCell::new(std::ptr::null_mut()));
static OVERRIDE_REASON: Backend<UnsafeCell<*mut c_char>> = Backend::new(UnsafeCell::new(std::ptr::null_mut()));

static COMMITMENT_KEY_FILE: Backend<UnsafeCell<*mut c_char>> = Backend::new(UnsafeCell::new(std::ptr::null_mut()));

static SEAL_BATCH: Backend<UnsafeCell<c_int>> = Backend::new(UnsafeCell::new(SEAL_BATCH_DEFAULT));

static SEAL_INTERVAL: Backend<UnsafeCell<c_int>> = Backend::new(UnsafeCell::new(SEAL_INTERVAL_DEFAULT));

static AUDIT_VALUE_LIMIT: Backend<UnsafeCell<c_int>> = Backend::new(UnsafeCell::new(AUDIT_VALUE_LIMIT_DEFAULT));

/// In bytes.
const AUDIT_VALUE_LIMIT_DEFAULT: c_int = 8192;
const SEAL_BATCH_DEFAULT: c_int = 100_000;
/// In milliseconds.
const SEAL_INTERVAL_DEFAULT: c_int = 1000;

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
        // PGC_SUSET: databases have keys of their own, and whoever could choose the key could try values.
        pg_sys::DefineCustomStringVariable(
            c"tenancy.commitment_key_file".as_ptr(),
            c"The file with the key that stands for values of secret columns in the audit, as an absolute path."
                .as_ptr(),
            c"The base64 of 32 random bytes. Without it no secret column can be written.".as_ptr(),
            COMMITMENT_KEY_FILE.get(),
            c"".as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            pg_sys::GUC_SUPERUSER_ONLY as c_int,
            None,
            None,
            None,
        );
        // PGC_SUSET: whoever could lower it would keep what they write out of the audit.
        pg_sys::DefineCustomIntVariable(
            c"tenancy.audit_value_limit".as_ptr(),
            c"The longest value that an audit event holds; a longer one goes by its SHA-256.".as_ptr(),
            c"In bytes of the value's text. 0: there is no limit.".as_ptr(),
            AUDIT_VALUE_LIMIT.get(),
            AUDIT_VALUE_LIMIT_DEFAULT,
            0,
            c_int::MAX,
            pg_sys::GucContext::PGC_SUSET,
            pg_sys::GUC_UNIT_BYTE as c_int,
            None,
            None,
            None,
        );
        pg_sys::DefineCustomIntVariable(
            c"tenancy.seal_batch".as_ptr(),
            c"How many events one block of the seal takes.".as_ptr(),
            c"A block takes whole transactions, so it has more where one transaction has.".as_ptr(),
            SEAL_BATCH.get(),
            SEAL_BATCH_DEFAULT,
            1,
            10_000_000,
            pg_sys::GucContext::PGC_SIGHUP,
            0,
            None,
            None,
            None,
        );
        pg_sys::DefineCustomIntVariable(
            c"tenancy.seal_interval".as_ptr(),
            c"How often the background worker seals what was committed.".as_ptr(),
            c"0: never; tenancy.seal() is then called by somebody else. Without shared_preload_libraries there is no worker.".as_ptr(),
            SEAL_INTERVAL.get(),
            SEAL_INTERVAL_DEFAULT,
            0,
            3_600_000,
            pg_sys::GucContext::PGC_SIGHUP,
            pg_sys::GUC_UNIT_MS as c_int,
            None,
            None,
            None,
        );
    }
}

/// `tenancy.seal_interval`; `None` where nothing is to be sealed by the worker.
pub fn seal_interval() -> Option<Duration> {
    // SAFETY: Postgres writes the variable between statements only.
    let milliseconds = unsafe { *SEAL_INTERVAL.get() };
    (milliseconds > 0).then(|| Duration::from_millis(u64::from(milliseconds.unsigned_abs())))
}

/// `tenancy.seal_batch`.
pub fn seal_batch() -> i64 {
    // SAFETY: Postgres writes the variable between statements only.
    i64::from(unsafe { *SEAL_BATCH.get() })
}

/// `tenancy.audit_value_limit`, in bytes.
pub fn audit_value_limit() -> usize {
    // SAFETY: Postgres writes the variable between statements only.
    match unsafe { *AUDIT_VALUE_LIMIT.get() } {
        0 => usize::MAX,
        bytes => bytes.unsigned_abs() as usize,
    }
}

/// `tenancy.override_reason`; `None` when it is not set, or blank.
pub fn override_reason() -> Option<String> {
    text(&OVERRIDE_REASON).filter(|reason| !reason.trim().is_empty())
}

/// `tenancy.commitment_key_file`; `None` when it is not set.
pub fn commitment_key_file() -> Option<String> {
    text(&COMMITMENT_KEY_FILE).filter(|path| !path.is_empty())
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
