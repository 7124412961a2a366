//! Processes of the library's own, and what they need of Postgres.

use crate::pg::transaction;
use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder, BackgroundWorkerStatus, DynamicBackgroundWorker};
use pgrx::bgworkers::{BgWorkerStartTime, SignalWakeFlags};
use pgrx::pg_sys;
use std::ffi::CStr;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

/// After how many seconds the launcher is started again if it fails.
const RESTART: Duration = Duration::from_secs(5);

/// True in the postmaster while it loads shared_preload_libraries.
pub fn preloading() -> bool {
    // SAFETY: reads a flag.
    unsafe { pg_sys::process_shared_preload_libraries_in_progress }
}

/// Has the postmaster start `function` of this library once the server can write: on a standby, after its promotion.
pub fn register_launcher(function: &str) {
    BackgroundWorkerBuilder::new("pg_tenancy launcher")
        .set_type("pg_tenancy launcher")
        .set_library("pg_tenancy")
        .set_function(function)
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(Some(RESTART))
        .load();
}

/// A worker for one database.
pub struct RunningWorker {
    pub database: pg_sys::Oid,
    worker: DynamicBackgroundWorker,
}

impl RunningWorker {
    /// Starts `function` of this library for the database, shown as `kind`; `None` if no process is to be had.
    pub fn start(function: &str, kind: &str, database: pg_sys::Oid) -> Option<Self> {
        // SAFETY: the process' own id.
        let own = unsafe { pg_sys::MyProcPid };
        let worker = BackgroundWorkerBuilder::new(kind)
            .set_type(kind)
            .set_library("pg_tenancy")
            .set_function(function)
            .set_argument(Some(pg_sys::Datum::from(database)))
            .set_notify_pid(own)
            .enable_spi_access()
            .load_dynamic();
        worker.ok().map(|worker| RunningWorker { database, worker })
    }

    /// True until the process has ended.
    pub fn runs(&self) -> bool {
        // Not yet started is an error too.
        !matches!(self.worker.pid(), Err(BackgroundWorkerStatus::Stopped | BackgroundWorkerStatus::PostmasterDied))
    }
}

/// Prepares the launcher: it is connected to no database and can read what all databases share.
pub fn begin_launcher() {
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP | SignalWakeFlags::SIGTERM);
    BackgroundWorker::connect_worker_to_spi_by_oid(None, None);
}

/// Sleeps, or until a worker ended or a signal came; false when the process is to end.
pub fn sleep(time: Duration) -> bool {
    let goes_on = BackgroundWorker::wait_latch(Some(time));
    if BackgroundWorker::sighup_received() {
        // SAFETY: outside of any transaction, as the main loops of Postgres' own workers do it.
        unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) };
    }
    goes_on && !BackgroundWorker::sigterm_received()
}

/// Ends the launcher. Another one is started in a while, unless the server itself ends: a launcher that ended with
/// status 0 would be gone for good (bgworker.h).
pub fn exit_to_be_restarted() -> ! {
    unsafe extern "C-unwind" {
        /// As Postgres declares it; the bindings of some versions lack the `!`.
        fn proc_exit(code: std::ffi::c_int) -> !;
    }
    // SAFETY: the regular end of a process of Postgres.
    unsafe { proc_exit(1) }
}

/// Connects a worker to its database, as a superuser. SIGTERM ends it at the next chance, as it ends a backend.
pub fn begin_in(database: pg_sys::Oid) {
    // SAFETY: `die` is Postgres' own handler for it; sigaction copies the struct.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = pg_sys::die as *const () as usize;
        action.sa_flags = libc::SA_RESTART;
        libc::sigemptyset(&mut action.sa_mask);
        libc::sigaction(libc::SIGTERM, &action, std::ptr::null_mut());
    }
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP);
    BackgroundWorker::connect_worker_to_spi_by_oid(Some(database), None);
    for (name, value) in OWN_SETTINGS {
        override_setting(name, value);
    }
}

/// What an ALTER DATABASE, ALTER ROLE or ALTER SYSTEM says for clients would keep a worker from its work, or make
/// others wait for it.
const OWN_SETTINGS: [(&CStr, &CStr); 11] = [
    (c"role", c"none"),
    (c"search_path", c"pg_catalog, pg_temp"),
    (c"session_replication_role", c"origin"),
    (c"default_transaction_isolation", c"read committed"),
    (c"default_transaction_read_only", c"off"),
    (c"default_transaction_deferrable", c"off"),
    (c"statement_timeout", c"0"),
    (c"idle_in_transaction_session_timeout", c"0"),
    (c"lock_timeout", c"1s"),
    (c"row_security", c"on"),
    (c"synchronous_commit", c"on"),
];

fn override_setting(name: &CStr, value: &CStr) {
    // SAFETY: NUL-terminated texts, which are copied.
    unsafe {
        pg_sys::SetConfigOption(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            pg_sys::GucSource::PGC_S_OVERRIDE,
        );
    }
}

/// Runs `work` in a transaction of its own. An error ends the process.
pub fn transaction<T>(work: impl FnOnce() -> T) -> T {
    let mut result = None;
    let run = AssertUnwindSafe(|| result = Some(transaction::with_latest_snapshot(work)));
    let run = move || run.0();
    BackgroundWorker::transaction(AssertUnwindSafe(run));
    match result {
        Some(result) => result,
        None => pgrx::error!("a transaction of the worker did not run"),
    }
}

/// True if the extension is installed in the database.
pub fn is_installed() -> bool {
    // SAFETY: a catalog lookup by a NUL-terminated name, in a transaction.
    unsafe { pg_sys::get_extension_oid(c"pg_tenancy".as_ptr(), true) != pg_sys::InvalidOid }
}

/// The databases that can be connected to.
pub fn databases() -> Vec<pg_sys::Oid> {
    let mut found = Vec::new();
    // SAFETY: a catalog that all databases share; relation, scan and snapshot are paired (an error in between is
    // cleaned up by Postgres); a tuple is of the catalog's row type and is used only until the next one is fetched.
    unsafe {
        let relation = pg_sys::table_open(pg_sys::DatabaseRelationId, pg_sys::AccessShareLock as i32);
        let none = std::ptr::null_mut();
        let scan = pg_sys::systable_beginscan(relation, pg_sys::InvalidOid, false, none, 0, std::ptr::null_mut());
        loop {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            let form: *mut pg_sys::FormData_pg_database = pg_sys::GETSTRUCT(tuple).cast();
            if (*form).datallowconn {
                found.push((*form).oid);
            }
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
    }
    found
}
