//! The progress of a long command, where Postgres keeps that of VACUUM and the like: in the backend's entry of the
//! shared status, which any session can read while the command runs, and which the end of the (sub)transaction clears.

use pgrx::pg_sys;

/// How many numbers a command has.
pub const NUMBERS: usize = pg_sys::PGSTAT_NUM_PROGRESS_PARAM as usize;

/// The number of our command, far from those that Postgres has for its own: none of its views shows it.
const COMMAND: pg_sys::ProgressCommandType::Type = 7_365;

/// This session's command begins; all its numbers are 0.
pub fn begin() {
    // SAFETY: sets fields of the process' own entry.
    unsafe { pg_sys::pgstat_progress_start_command(COMMAND, pg_sys::InvalidOid) };
}

/// Sets a number of the command.
pub fn set(number: usize, value: i64) {
    if number < NUMBERS {
        // SAFETY: as above; there is this number.
        unsafe { pg_sys::pgstat_progress_update_param(number as i32, value) };
    }
}

/// This session's command is over.
pub fn end() {
    // SAFETY: as above.
    unsafe { pg_sys::pgstat_progress_end_command() };
}

/// A session that runs the command.
#[derive(Debug, Clone)]
pub struct ReportedProgress {
    pub pid: i32,
    pub database: pg_sys::Oid,
    pub user: pg_sys::Oid,
    pub numbers: [i64; NUMBERS],
}

/// The sessions that run it, in any database.
pub fn running() -> Vec<ReportedProgress> {
    // SAFETY: reads the local copy of the status, which stays until the end of the transaction; an index out of
    // range gives NULL.
    unsafe {
        let count = pg_sys::pgstat_fetch_stat_numbackends();
        (1..=count)
            .filter_map(|index| entry(index).as_ref())
            .map(|entry| &entry.backendStatus)
            .filter(|status| status.st_procpid > 0 && status.st_progress_command == COMMAND)
            .map(|status| ReportedProgress {
                pid: status.st_procpid,
                database: status.st_databaseid,
                user: status.st_userid,
                numbers: status.st_progress_param,
            })
            .collect()
    }
}

/// # Safety
/// The entry is used only within the transaction.
#[cfg(feature = "pg15")]
unsafe fn entry(index: i32) -> *const pg_sys::LocalPgBackendStatus {
    // SAFETY: as promised.
    unsafe { pg_sys::pgstat_fetch_stat_local_beentry(index) }
}

/// # Safety
/// The entry is used only within the transaction.
#[cfg(not(feature = "pg15"))]
unsafe fn entry(index: i32) -> *const pg_sys::LocalPgBackendStatus {
    // SAFETY: as promised.
    unsafe { pg_sys::pgstat_get_local_beentry_by_index(index) }
}

/// The database of this session.
pub fn this_database() -> pg_sys::Oid {
    // SAFETY: set once at the start of the backend.
    unsafe { pg_sys::MyDatabaseId }
}
