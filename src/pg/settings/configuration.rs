//! The ordinary settings: what a DBA writes into postgresql.conf.

use crate::pg::backend_local::BackendLocal;
use pgrx::pg_sys;
use std::cell::UnsafeCell;
use std::ffi::{CStr, c_char, c_int};
use std::time::Duration;

static JWKS_DIRECTORY: BackendLocal<UnsafeCell<*mut c_char>> = BackendLocal::new(UnsafeCell::new(std::ptr::null_mut()));
static OVERRIDE_REASON: BackendLocal<UnsafeCell<*mut c_char>> =
    BackendLocal::new(UnsafeCell::new(std::ptr::null_mut()));

static COMMITMENT_KEY_FILE: BackendLocal<UnsafeCell<*mut c_char>> =
    BackendLocal::new(UnsafeCell::new(std::ptr::null_mut()));

static SEAL_BATCH: BackendLocal<UnsafeCell<c_int>> = BackendLocal::new(UnsafeCell::new(SEAL_BATCH_DEFAULT));

static SEAL_INTERVAL: BackendLocal<UnsafeCell<c_int>> = BackendLocal::new(UnsafeCell::new(SEAL_INTERVAL_DEFAULT));

static AUDIT_VALUE_LIMIT: BackendLocal<UnsafeCell<c_int>> =
    BackendLocal::new(UnsafeCell::new(AUDIT_VALUE_LIMIT_DEFAULT));

static AUDIT_RETENTION: BackendLocal<UnsafeCell<c_int>> = BackendLocal::new(UnsafeCell::new(AUDIT_RETENTION_DEFAULT));

/// In months.
const AUDIT_RETENTION_DEFAULT: c_int = 12;
/// In bytes.
const AUDIT_VALUE_LIMIT_DEFAULT: c_int = 8192;
const SEAL_BATCH_DEFAULT: c_int = 100_000;
/// In milliseconds.
const SEAL_INTERVAL_DEFAULT: c_int = 1000;

static SIGNING_KEY_FILE: BackendLocal<UnsafeCell<*mut c_char>> =
    BackendLocal::new(UnsafeCell::new(std::ptr::null_mut()));
static SIGNING_KEY_COMMAND: BackendLocal<UnsafeCell<*mut c_char>> =
    BackendLocal::new(UnsafeCell::new(std::ptr::null_mut()));
static CHECKPOINT_ORIGIN: BackendLocal<UnsafeCell<*mut c_char>> =
    BackendLocal::new(UnsafeCell::new(std::ptr::null_mut()));
static CHECKPOINT_DIRECTORY: BackendLocal<UnsafeCell<*mut c_char>> =
    BackendLocal::new(UnsafeCell::new(std::ptr::null_mut()));
static CHECKPOINT_INTERVAL: BackendLocal<UnsafeCell<c_int>> =
    BackendLocal::new(UnsafeCell::new(CHECKPOINT_INTERVAL_DEFAULT));

/// In milliseconds.
const CHECKPOINT_INTERVAL_DEFAULT: c_int = 60_000;

/// Defines the settings. Called once from `_PG_init`, before the prefix is reserved.
pub fn define() {
    define_for_checkpoints();
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
            c"tenancy.audit_retention".as_ptr(),
            c"For how many months after its end a month of the audit must be kept.".as_ptr(),
            c"tenancy.archive_audit refuses to detach a younger one.".as_ptr(),
            AUDIT_RETENTION.get(),
            AUDIT_RETENTION_DEFAULT,
            0,
            1200,
            pg_sys::GucContext::PGC_SIGHUP,
            0,
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

/// All of PGC_SIGHUP: whoever could choose them in a session would choose what the server's user reads, runs and writes.
fn define_for_checkpoints() {
    let secret = pg_sys::GUC_SUPERUSER_ONLY as c_int;
    for (name, short, long, variable, flags) in [
        (
            c"tenancy.signing_key_file",
            c"The file with the keys that checkpoints are signed with, as an absolute path.",
            c"Ed25519 keys one after another, as PRIVATE+KEY+... lines or PKCS #8 in PEM; every one of them signs.",
            &SIGNING_KEY_FILE,
            secret,
        ),
        (
            c"tenancy.signing_key_command",
            c"A shell command that prints the keys that checkpoints are signed with.",
            c"Run by the server's user for each checkpoint, for 10 seconds at most.",
            &SIGNING_KEY_COMMAND,
            secret,
        ),
        (
            c"tenancy.checkpoint_origin",
            c"Name of this database in its checkpoints, such as audit.example.com/production.",
            c"Empty: the name of the first key. It is also the name of keys in PEM, which have none of their own.",
            &CHECKPOINT_ORIGIN,
            0,
        ),
        (
            c"tenancy.checkpoint_directory",
            c"The folder that checkpoints are written to as files, as an absolute path.",
            c"Empty: they are handed out by NOTIFY alone.",
            &CHECKPOINT_DIRECTORY,
            secret,
        ),
    ] {
        // SAFETY: called once from _PG_init; the strings and the variable are static.
        unsafe {
            pg_sys::DefineCustomStringVariable(
                name.as_ptr(),
                short.as_ptr(),
                long.as_ptr(),
                variable.get(),
                c"".as_ptr(),
                pg_sys::GucContext::PGC_SIGHUP,
                flags,
                None,
                None,
                None,
            );
        }
    }
    // SAFETY: as above.
    unsafe {
        pg_sys::DefineCustomIntVariable(
            c"tenancy.checkpoint_interval".as_ptr(),
            c"How long after a checkpoint the background worker makes the next one.".as_ptr(),
            c"0: never; tenancy.checkpoint() is then called by somebody else. Without a signing key there is none either.".as_ptr(),
            CHECKPOINT_INTERVAL.get(),
            CHECKPOINT_INTERVAL_DEFAULT,
            0,
            86_400_000,
            pg_sys::GucContext::PGC_SIGHUP,
            pg_sys::GUC_UNIT_MS as c_int,
            None,
            None,
            None,
        );
    }
}

/// `tenancy.signing_key_file`; `None` when it is not set.
pub fn signing_key_file() -> Option<String> {
    filled(&SIGNING_KEY_FILE)
}

/// `tenancy.signing_key_command`; `None` when it is not set.
pub fn signing_key_command() -> Option<String> {
    filled(&SIGNING_KEY_COMMAND)
}

/// `tenancy.checkpoint_origin`; `None` when it is not set.
pub fn checkpoint_origin() -> Option<String> {
    filled(&CHECKPOINT_ORIGIN)
}

/// `tenancy.checkpoint_directory`; `None` when it is not set.
pub fn checkpoint_directory() -> Option<String> {
    filled(&CHECKPOINT_DIRECTORY)
}

/// `tenancy.checkpoint_interval`; `None` where the worker makes no checkpoints.
pub fn checkpoint_interval() -> Option<Duration> {
    milliseconds(&CHECKPOINT_INTERVAL)
}

/// `tenancy.seal_interval`; `None` where nothing is to be sealed by the worker.
pub fn seal_interval() -> Option<Duration> {
    milliseconds(&SEAL_INTERVAL)
}

/// A duration; `None` for 0.
fn milliseconds(setting: &BackendLocal<UnsafeCell<c_int>>) -> Option<Duration> {
    // SAFETY: Postgres writes the variable between statements only.
    let milliseconds = unsafe { *setting.get() };
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
    filled(&JWKS_DIRECTORY)
}

fn filled(setting: &BackendLocal<UnsafeCell<*mut c_char>>) -> Option<String> {
    text(setting).filter(|text| !text.is_empty())
}

fn text(setting: &BackendLocal<UnsafeCell<*mut c_char>>) -> Option<String> {
    // SAFETY: Postgres keeps the variable pointing at a NUL-terminated string, or NULL before the setting is defined.
    let value = unsafe { *setting.get() };
    if value.is_null() {
        return None;
    }
    // SAFETY: as above; the bytes are copied before anything can change the setting.
    unsafe { CStr::from_ptr(value) }.to_str().ok().map(str::to_owned)
}
