//! Which server this is, and where its files are.

use super::transaction;
use pgrx::pg_sys;
use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

/// The data folder.
pub fn data_folder() -> PathBuf {
    // SAFETY: set once at the start of the server, NUL-terminated.
    let folder = unsafe { CStr::from_ptr(pg_sys::DataDir) };
    PathBuf::from(OsStr::from_bytes(folder.to_bytes()))
}

/// What `initdb` has drawn.
pub fn system_identifier() -> u64 {
    // SAFETY: reads shared memory.
    unsafe { pg_sys::GetSystemIdentifier() }
}

/// The timeline that is written to. Not to be called on a standby.
pub fn timeline() -> u32 {
    // SAFETY: reads shared memory, which is set once recovery is over.
    unsafe { pg_sys::GetWALInsertionTimeLine() }
}

/// When the server was started, in microseconds since 1970. A restart after a crash of a backend is no start.
pub fn started() -> i64 {
    // SAFETY: set once by the postmaster, and inherited.
    transaction::from_timestamptz(unsafe { pg_sys::PgStartTime })
}
