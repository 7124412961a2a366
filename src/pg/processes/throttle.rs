//! Makes writers wait while more events are unsealed than the setting allows.
//!
//! Nothing that the sealer needs is held by a session that waits, so neither waits for the other for good; and where
//! the sealer does nothing, sessions go on.
//!
//! Decision: `docs/decisions/59-slowed-writers.md`.

use super::shared::{self, Backlog};
use super::{progress, worker};
use crate::pg::backend_local::BackendLocal;
use crate::pg::settings::configuration;
use crate::pg::{report, transaction, user};
use pg_tenancy_core::error;
use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::c_long;
use std::time::{Duration, Instant};

/// How long a transaction waits at most that holds no locks of rows yet, and one that does.
const LONG: Duration = Duration::from_secs(10);
const BRIEF: Duration = Duration::from_secs(1);
/// How often whoever waits asks for the sealer.
const ASK: Duration = Duration::from_secs(1);

/// The backlog of this session's database, once there is one.
static BACKLOG: BackendLocal<Cell<Option<&'static Backlog>>> = BackendLocal::new(Cell::new(None));
/// This transaction has waited, or need not.
static PASSED: BackendLocal<Cell<bool>> = BackendLocal::new(Cell::new(false));
/// This session is counted among those that wait.
static WAITS: BackendLocal<Cell<bool>> = BackendLocal::new(Cell::new(false));

/// True if more events are unsealed than may be. Neither raises nor panics, and costs one atomic read.
pub fn is_over_limit() -> bool {
    limit().is_some_and(|limit| backlog().is_some_and(|backlog| backlog.unsealed() > limit))
}

/// How many events may be unsealed; `None` where nobody waits.
pub fn limit() -> Option<i64> {
    configuration::max_unsealed_events().filter(|_| configuration::seal_interval().is_some())
}

fn backlog() -> Option<&'static Backlog> {
    if BACKLOG.get().is_none() {
        let database = progress::this_database();
        BACKLOG.set(shared::shared().and_then(|shared| shared.backlog_if_any(database)));
    }
    BACKLOG.get()
}

/// A statement is about to write events, above the limit. A transaction that has written something may hold what others
/// wait for, so it goes on, and waits a moment at its first event.
pub fn before_statement() {
    if !PASSED.get() && transaction::id_if_any().is_none() {
        wait(LONG);
    }
}

/// The transaction is about to write an event for somebody who can be slowed down.
pub fn before_event() {
    if !PASSED.replace(true) && is_over_limit() {
        wait(BRIEF);
    }
}

/// The transaction is over, also by the end of the session.
pub fn transaction_ended() {
    PASSED.set(false);
    end_waiting();
}

fn end_waiting() {
    if let Some(backlog) = BACKLOG.get().filter(|_| WAITS.replace(false)) {
        backlog.end_waiting();
    }
}

/// Counts this session among those that wait, for its life.
struct Waiting;

impl Waiting {
    fn begin(backlog: &Backlog) -> Self {
        WAITS.set(true);
        backlog.begin_waiting();
        Waiting
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        end_waiting();
    }
}

/// Waits until few enough events are unsealed, but no longer than `most`, and not where the sealer stands still. A
/// transaction waits once.
fn wait(most: Duration) {
    PASSED.set(true);
    let (Some(shared), Some(backlog)) = (shared::shared(), backlog()) else { return };
    if is_exempt() {
        return;
    }
    let (began, mut asked) = (Instant::now(), None::<Instant>);
    let _waiting = Waiting::begin(backlog);
    while is_over_limit() && began.elapsed() < most {
        let now = transaction::now();
        if backlog.stands_still(now) {
            if backlog.may_tell(now) {
                tell(backlog);
            }
            return;
        }
        if asked.is_none_or(|asked| asked.elapsed() >= ASK) {
            asked = Some(Instant::now());
            shared.call_worker(progress::this_database());
        }
        // The more sessions wait, the less often each of them looks.
        nap(backlog.waiting().clamp(5, 100));
    }
}

/// Sleeps for so many milliseconds, or until somebody wakes this session; raises if its statement is to end.
pub fn nap(milliseconds: u32) {
    let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
    // SAFETY: the latch of this process.
    unsafe {
        pg_sys::WaitLatch(pg_sys::MyLatch, events as i32, c_long::from(milliseconds as i32), wait_event());
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    transaction::check_for_interrupts();
}

/// What `pg_stat_activity` shows of a session that waits; before Postgres 17 extensions have one name for all.
#[cfg(any(feature = "pg15", feature = "pg16"))]
fn wait_event() -> u32 {
    pg_sys::PG_WAIT_EXTENSION
}

/// What `pg_stat_activity` shows of a session that waits.
#[cfg(not(any(feature = "pg15", feature = "pg16")))]
fn wait_event() -> u32 {
    static KNOWN: BackendLocal<Cell<u32>> = BackendLocal::new(Cell::new(0));
    if KNOWN.get() == 0 {
        // SAFETY: a NUL-terminated name, which is copied.
        KNOWN.set(unsafe { pg_sys::WaitEventExtensionNew(c"TenancyUnsealedEvents".as_ptr()) });
    }
    KNOWN.get()
}

/// True for superusers, and where nothing is sealed.
fn is_exempt() -> bool {
    transaction::in_recovery() || transaction::is_parallel() || user::superuser_logged_in() || !worker::is_installed()
}

/// Says in the log that writers go on although too much is unsealed.
fn tell(backlog: &Backlog) {
    let unsealed = backlog.unsealed();
    report::warn(&error::SEALING_STANDS_STILL.error(format!(
        "{unsealed} events are not sealed, and the sealer has made no progress for 10 seconds: writers go on"
    )));
}
