//! The background worker, where the library is preloaded: seals what was committed, soon after it was, makes
//! checkpoints, and records what was refused.
//!
//! A launcher looks each interval which databases have something new, and starts a process for each of these, which
//! ends when it is done. No connection stays, so none keeps a database from being dropped or copied.
//!
//! Decision: `docs/decisions/38-sealing-worker.md`.

use crate::audit;
use crate::identity;
use crate::pg::processes::shared::{self, Shared};
use crate::pg::processes::{progress, throttle, worker};
use crate::pg::report::{self, OrRaise};
use crate::pg::settings::configuration;
use crate::pg::spi::Query;
use crate::pg::transaction;
use pg_tenancy_core::error;
use pgrx::{pg_guard, pg_sys};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How many processes run at a time at most.
const PROCESSES: usize = 4;
/// When a database is tried again whose process failed, and when the launcher looks whether it was switched on.
const LATER: Duration = Duration::from_secs(5);

/// How long a checkpoint that failed is not tried again, so that the log is not filled with it.
const PAUSE: Duration = Duration::from_secs(60);

static SETTLE: Query = Query::new("SELECT coalesce(max(count), 0) FROM tenancy.settle_due()");

static CHECKPOINT: Query = Query::new("SELECT tenancy.checkpoint()");

/// Asks for the worker, if the library is being preloaded. Called once from `_PG_init`.
pub fn register() {
    if worker::preloading() {
        shared::request();
        worker::register_launcher("tenancy_launcher");
    }
}

/// So many events were committed in this database.
pub fn committed(events: i64) {
    if let Some(shared) = shared::shared() {
        shared.committed(progress::this_database(), events, throttle::limit(), transaction::now());
    }
}

/// A prepared transaction of this database was committed, which may have events.
pub fn prepared_committed() {
    if let Some(shared) = shared::shared() {
        shared.committed_unknown(progress::this_database());
    }
}

/// What the launcher remembers.
struct Launcher {
    shared: &'static Shared,
    waiting: VecDeque<pg_sys::Oid>,
    running: Vec<worker::RunningWorker>,
    failed: Vec<(Instant, pg_sys::Oid)>,
    /// Databases in which is yet to be noted what time has changed.
    settling: VecDeque<pg_sys::Oid>,
    /// When that last began.
    settled: Instant,
    /// When the log was last told that no process is to be had.
    told: Option<Instant>,
}

/// The main function of the launcher.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn tenancy_launcher(_argument: pg_sys::Datum) {
    worker::begin_launcher();
    let Some(shared) = shared::shared() else { return };
    shared.set_launcher();
    let mut launcher = Launcher {
        shared,
        waiting: VecDeque::new(),
        running: Vec::new(),
        failed: Vec::new(),
        settling: VecDeque::new(),
        settled: Instant::now(),
        told: None,
    };
    // What was committed before a restart is known to no memory.
    launcher.mark_all_pending();
    loop {
        let interval = configuration::seal_interval();
        if interval.is_some() {
            launcher.collect();
            launcher.start();
            launcher.settle();
        }
        if !worker::sleep(interval.unwrap_or(LATER)) {
            worker::exit_to_be_restarted();
        }
    }
}

impl Launcher {
    fn mark_all_pending(&mut self) {
        for database in worker::transaction(worker::databases) {
            self.shared.mark_pending(database);
        }
    }

    /// Gathers the databases that have work, and again those whose process failed a while ago.
    fn collect(&mut self) {
        let (running, ended): (Vec<_>, Vec<_>) = self.running.drain(..).partition(worker::RunningWorker::runs);
        self.running = running;
        for ended in ended {
            if self.shared.is_unfinished(ended.database) {
                self.failed.push((Instant::now(), ended.database));
            }
        }
        let later = self.failed.iter().partition(|(at, _)| at.elapsed() < LATER);
        let (later, due): (Vec<_>, Vec<_>) = later;
        self.failed = later;
        for (_, database) in due {
            self.shared.mark_pending(database);
        }
        if self.shared.take_overflow() {
            self.mark_all_pending();
        }
        for database in self.shared.take_work(transaction::now()) {
            if !self.waiting.contains(&database) {
                self.waiting.push_back(database);
            }
        }
    }

    /// Starts processes for those that wait, as many as may run; not two for one database.
    fn start(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let databases = worker::transaction(worker::databases);
        for _ in 0..self.waiting.len() {
            let Some(database) = self.waiting.pop_front() else { return };
            if !databases.contains(&database) {
                self.shared.forget(database, transaction::now());
                continue;
            }
            let room = self.running.len() < PROCESSES && self.running.iter().all(|other| other.database != database);
            let started = room.then(|| worker::RunningWorker::start("tenancy_sealer", "pg_tenancy sealer", database));
            match started {
                Some(Some(started)) => {
                    self.running.push(started);
                    continue;
                }
                Some(None) => self.warn_of_no_process(),
                None => {}
            }
            self.waiting.push_back(database);
        }
    }

    /// Has noted in each database what time has changed, where sealing leaves a process free.
    fn settle(&mut self) {
        let Some(interval) = configuration::settle_interval() else { return };
        if self.settling.is_empty() && self.settled.elapsed() < interval {
            return;
        }
        let databases = worker::transaction(worker::databases);
        if self.settling.is_empty() {
            self.settling.extend(&databases);
            self.settled = Instant::now();
        }
        while self.running.len() + 1 < PROCESSES {
            let Some(database) = self.settling.pop_front() else { return };
            let is_free = self.running.iter().all(|other| other.database != database);
            if !is_free {
                self.settling.push_back(database);
                return;
            }
            if databases.contains(&database) {
                let started = worker::RunningWorker::start("tenancy_settler", "pg_tenancy settler", database);
                self.running.extend(started);
            }
        }
    }

    /// Says in the log that nothing is sealed, and why; not at each try.
    fn warn_of_no_process(&mut self) {
        if self.told.is_none_or(|told| told.elapsed() >= PAUSE) {
            self.told = Some(Instant::now());
            report::warn(&error::PROCESS_MISSING.error(format!(
                "events of {} databases wait to be sealed, and no background worker is free",
                self.waiting.len() + 1
            )));
        }
    }
}

/// The main function of the process for one database, whose oid is the argument.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn tenancy_sealer(argument: pg_sys::Datum) {
    let database = pg_sys::Oid::from(argument.value() as u32);
    worker::begin_in(database);
    audit::read_for_the_audit();
    let Some(shared) = shared::shared() else { return };
    let messages = shared.receive(database);
    if worker::transaction(worker::is_installed) {
        // Not done: the launcher comes back.
        if worker::transaction(audit::restore_is_under_way) {
            return;
        }
        let record_one = |message: &Vec<u8>| match identity::record_sign_in(message) {
            true => Ok(()),
            false => audit::record_message(message),
        };
        let record = || messages.iter().try_for_each(record_one).or_raise();
        let recorded = worker::transaction(|| transaction::attempt(record));
        if recorded.is_ok() {
            shared.received(database);
        }
        let taken_in = take_in();
        // A commit for each block: what is sealed is seen at once, and memory and locks are those of one block.
        let mut limit = None;
        while worker::transaction(|| audit::seal_next_block_and_count(&mut limit).or_raise()) {}
        // Sealing depends neither on the messages nor on what can go wrong from here on.
        if let Err(failure) = recorded.and(taken_in) {
            failure.raise();
        }
        shared.done(database);
        make_checkpoint(shared, database);
    } else {
        shared.received(database);
        audit::nothing_to_seal();
        shared.done(database);
    }
}

/// The main function of the process that notes what time has changed in one database, whose oid is the argument.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn tenancy_settler(argument: pg_sys::Datum) {
    worker::begin_in(pg_sys::Oid::from(argument.value() as u32));
    if !worker::transaction(worker::is_installed) || worker::transaction(audit::restore_is_under_way) {
        return;
    }
    let noted = || SETTLE.write(&[], |row| row.get::<i64>(1)).into_iter().flatten().sum::<i64>();
    while worker::transaction(noted) > 0 {}
}

/// Takes in what waits outside of the tables, with a commit for each part.
fn take_in() -> Result<(), transaction::CaughtFailure> {
    let part = || transaction::attempt(|| audit::take_in_records().or_raise());
    while worker::transaction(part)? {}
    Ok(())
}

/// Makes a checkpoint if it is time for one, or has the launcher come back when it is.
fn make_checkpoint(shared: &Shared, database: pg_sys::Oid) {
    let Some(interval) = configuration::checkpoint_interval().filter(|_| audit::has_signing_key()) else { return };
    let next = || worker::is_installed().then(|| audit::next_checkpoint(interval)).flatten();
    let Some(next) = worker::transaction(next) else { return };
    let (now, pause) = (transaction::now(), microseconds(PAUSE.max(interval)));
    let failed = shared.checkpoint_failed(database);
    let due = if failed > 0 { next.max(failed.saturating_add(pause)) } else { next };
    // Where nobody would come back, it is time.
    if due > now && shared.schedule(database, due) {
        return;
    }
    // An error ends the process.
    shared.set_last_attempt(database, now);
    shared.schedule(database, now.saturating_add(pause));
    worker::transaction(|| CHECKPOINT.write(&[], |_| ()));
    shared.set_last_attempt(database, 0);
    shared.schedule(database, 0);
}

fn microseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
