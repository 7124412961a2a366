//! The transaction: its level and id, the clock, snapshots and subtransactions.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::{CaughtError, ErrorReportWithLevel};
use pgrx::{PgSqlErrorCode, PgTryBuilder};
use std::ffi::CStr;
use std::panic::AssertUnwindSafe;

/// The nesting level: 1 in the transaction itself, one more for each open savepoint.
pub fn level() -> i32 {
    unsafe extern "C-unwind" {
        /// Without pgrx's guard, as [`statement`]: it reads a counter and raises nothing.
        #[link_name = "GetCurrentTransactionNestLevel"]
        safe fn postgres_level() -> i32;
    }
    postgres_level()
}

/// The 64-bit id of the transaction, given to it now if it has none.
pub fn id() -> u64 {
    // SAFETY: inside a transaction, as every caller is; raises in recovery, where nothing is written.
    unsafe { pg_sys::GetTopFullTransactionId().value }
}

/// The 64-bit id of the transaction if it has one already.
pub fn id_if_any() -> Option<u64> {
    // SAFETY: as above, without assigning.
    let id = unsafe { pg_sys::GetTopFullTransactionIdIfAny().value };
    (id != 0).then_some(id)
}

/// Microseconds between the epochs of Unix (1970) and of Postgres (2000).
const EPOCHS: i64 = 946_684_800_000_000;

/// The clock now, in microseconds since 1970.
pub fn now() -> i64 {
    unsafe extern "C-unwind" {
        /// Without pgrx's guard, as [`statement`]: it reads the clock and raises nothing.
        #[link_name = "GetCurrentTimestamp"]
        safe fn postgres_now() -> pg_sys::TimestampTz;
    }
    postgres_now() + EPOCHS
}

/// The start of the client's statement, which tells one from another.
pub fn statement() -> i64 {
    unsafe extern "C-unwind" {
        /// Without pgrx's guard, which would cost more than the function: this runs once per row.
        #[link_name = "GetCurrentStatementStartTimestamp"]
        safe fn postgres_statement_start() -> pg_sys::TimestampTz;
    }
    postgres_statement_start()
}

/// Converts between Postgres' `timestamptz` and microseconds since 1970.
pub fn to_timestamptz(microseconds: i64) -> pg_sys::TimestampTz {
    microseconds - EPOCHS
}

/// Converts between Postgres' `timestamptz` and microseconds since 1970; infinity is the last moment that there is.
pub fn from_timestamptz(timestamp: pg_sys::TimestampTz) -> i64 {
    timestamp.saturating_add(EPOCHS)
}

/// A time that a caller gave, in microseconds since 1970.
pub fn microseconds(at: TimestampWithTimeZone) -> i64 {
    from_timestamptz(pg_sys::TimestampTz::from(at))
}

/// Runs `read` with the newest committed state as the active snapshot, whatever the isolation level.
///
/// A membership suspended a moment ago must count in a REPEATABLE READ transaction that began before.
pub fn with_latest_snapshot<T>(read: impl FnOnce() -> T) -> T {
    // SAFETY: push and pop are paired; if `read` raises, Postgres pops the snapshot at the abort of the
    // (sub)transaction. GetLatestSnapshot refuses to work within a parallel operation. The snapshot for catalogs
    // does not, and is taken anew each time for what is no catalog (GetNonHistoricCatalogSnapshot, snapmgr.c);
    // PushActiveSnapshot copies it.
    unsafe {
        let newest = if pg_sys::IsInParallelMode() {
            pg_sys::GetNonHistoricCatalogSnapshot(pg_sys::InvalidOid)
        } else {
            pg_sys::GetLatestSnapshot()
        };
        pg_sys::PushActiveSnapshot(newest);
    }
    let result = read();
    // SAFETY: the snapshot pushed above is on top.
    unsafe { pg_sys::PopActiveSnapshot() };
    result
}

/// An error that [`attempt`] has caught.
pub struct CaughtFailure(Box<CaughtError>);

impl CaughtFailure {
    fn report(&self) -> &ErrorReportWithLevel {
        let (CaughtError::PostgresError(report)
        | CaughtError::ErrorReport(report)
        | CaughtError::RustPanic { ereport: report, .. }) = &*self.0;
        report
    }

    /// The message of the error.
    pub fn message(&self) -> &str {
        self.report().message()
    }

    fn is_interrupt(&self) -> bool {
        use PgSqlErrorCode::{ERRCODE_ADMIN_SHUTDOWN, ERRCODE_QUERY_CANCELED};
        [ERRCODE_QUERY_CANCELED, ERRCODE_ADMIN_SHUTDOWN].contains(&self.report().sql_error_code())
    }

    /// Whether the same transaction, begun anew, may come to another end: class 40 of the SQL standard.
    pub fn is_conflict(&self) -> bool {
        use PgSqlErrorCode::{ERRCODE_T_R_DEADLOCK_DETECTED, ERRCODE_T_R_SERIALIZATION_FAILURE};
        [ERRCODE_T_R_SERIALIZATION_FAILURE, ERRCODE_T_R_DEADLOCK_DETECTED].contains(&self.report().sql_error_code())
    }

    /// Raises it again.
    pub fn raise(self) -> ! {
        (*self.0).rethrow()
    }
}

/// Runs `work` in a subtransaction, which an error rolls back. An interrupt is none that anybody may catch.
pub fn attempt<T>(work: impl FnOnce() -> T) -> Result<T, CaughtFailure> {
    // SAFETY: begin and end of the subtransaction are paired, as in exec_stmt_block (pl_exec.c): what was current
    // before it is so again after it. Nothing of `work` outlives an error but the error itself.
    unsafe {
        let (memory, owner) = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(memory);
        let outcome = PgTryBuilder::new(AssertUnwindSafe(|| Ok(work())))
            .catch_others(|error| Err(CaughtFailure(Box::new(error))))
            .execute();
        pg_sys::MemoryContextSwitchTo(memory);
        match &outcome {
            Ok(_) => pg_sys::ReleaseCurrentSubTransaction(),
            Err(_) => pg_sys::RollbackAndReleaseCurrentSubTransaction(),
        }
        pg_sys::MemoryContextSwitchTo(memory);
        pg_sys::CurrentResourceOwner = owner;
        // Only now: whoever catches it finds the subtransaction that it began itself.
        match outcome {
            Err(failure) if failure.is_interrupt() => failure.raise(),
            outcome => outcome,
        }
    }
}

/// True on a standby.
pub fn in_recovery() -> bool {
    // SAFETY: reads shared state.
    unsafe { pg_sys::RecoveryInProgress() }
}

/// True where nothing can be written: on a standby, or in a transaction that is READ ONLY.
pub fn read_only() -> bool {
    // SAFETY: reads shared state and a flag of the transaction.
    unsafe { pg_sys::RecoveryInProgress() || pg_sys::XactReadOnly }
}

/// True if each statement sees what others have committed by then: READ COMMITTED.
pub fn sees_commits() -> bool {
    // SAFETY: a plain read of a setting of the transaction.
    unsafe { pg_sys::XactIsoLevel <= pg_sys::XACT_READ_COMMITTED as i32 }
}

/// True in a parallel worker, and in a session while it leads some.
pub fn is_parallel() -> bool {
    // SAFETY: reads state of the transaction.
    unsafe { pg_sys::IsInParallelMode() }
}

/// True while the script of an extension runs, whose new objects become part of it, and while pg_upgrade fills a
/// server.
pub fn scripted() -> bool {
    // SAFETY: plain reads of backend state.
    unsafe { pg_sys::creating_extension || pg_sys::IsBinaryUpgrade }
}

/// Makes visible to what follows what was written so far.
pub fn next_command() {
    // SAFETY: inside a transaction, outside of parallel mode.
    unsafe { pg_sys::CommandCounterIncrement() }
}

/// Has the commit of this transaction wait until it is on disk (and on a standby, where the server asks for it).
pub fn commit_durably() {
    // SAFETY: a plain read of a setting.
    let now = unsafe { pg_sys::synchronous_commit } as pg_sys::SyncCommitLevel::Type;
    if now < pg_sys::SyncCommitLevel::SYNCHRONOUS_COMMIT_REMOTE_FLUSH {
        set_synchronous_commit(c"on");
    }
}

/// Has the commit of this transaction not wait for the disk: for one whose caller has written nothing.
pub fn commit_without_waiting() {
    set_synchronous_commit(c"off");
}

fn set_synchronous_commit(value: &CStr) {
    // SAFETY: NUL-terminated texts, which are copied; the end of the transaction takes it back.
    unsafe {
        pg_sys::set_config_option(
            c"synchronous_commit".as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_LOCAL,
            true,
            0,
            false,
        );
    }
}

/// True if the last commit of this session that wrote something has reached the disk.
pub fn last_commit_is_durable() -> bool {
    // SAFETY: a plain read of backend state, and of shared memory; the timeline is not asked for.
    unsafe { pg_sys::GetFlushRecPtr(std::ptr::null_mut()) >= pg_sys::XactLastCommitEnd }
}

/// Raises if the statement was cancelled or the server ends.
pub fn check_for_interrupts() {
    pgrx::check_for_interrupts!();
}
