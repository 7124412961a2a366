//! Ranges side by side: each process takes the next one that nobody has.

use super::phase::{self, Number};
use super::range::{self, RangeCounts, VerificationScope};
use crate::pg::processes::parallel::{self, Counters, ParallelWorkers, Worker};
use crate::pg::report::OrRaise;
use crate::pg::tables::scan::Scan;
use crate::pg::tables::table::IndexKey;
use crate::pg::transaction;
use pg_tenancy_core::audit::verification::{Finding, Range, RangePlanner};
use pg_tenancy_core::error::{self, Result};
use pgrx::{pg_guard, pg_sys};
use serde::{Deserialize, Serialize};

/// How many findings are told one by one.
pub const MAX_FINDINGS: i64 = 10_000;

/// The counters that the processes share.
const NEXT: usize = 0;
const PROCESSES: usize = 1;
const BLOCKS: usize = 2;
const EVENTS: usize = 3;
const FOUND: usize = 4;

/// What all processes know.
#[derive(Serialize, Deserialize)]
struct Task {
    scope: VerificationScope,
    ranges: Vec<Range>,
}

/// What came of it.
#[derive(Default)]
pub struct RangesOutcome {
    pub seen: RangeCounts,
    /// As many as are told.
    pub found: Vec<Finding>,
    /// How many there were.
    pub count: i64,
    /// How many processes had a range.
    pub processes: i64,
}

/// Verifies the blocks of the range, with up to so many workers beside this process.
pub fn verify(scope: VerificationScope, range: Range, workers: Option<usize>) -> Result<RangesOutcome> {
    if range.first > range.last {
        return Ok(RangesOutcome::default());
    }
    let ranges = ranges_of(&scope, range);
    let workers = workers.unwrap_or_else(parallel::workers_for_maintenance).min(ranges.len() - 1);
    let task = Task { scope, ranges };
    if workers == 0 || transaction::is_parallel() {
        let (counters, mut outcome) = (Counters::new(), RangesOutcome::default());
        task.work(&counters, &mut |found, seen| {
            outcome.add(found, seen);
            show(&counters);
        })?;
        return Ok(outcome.finish(&counters));
    }
    let message = serde_json::to_vec(&task).map_err(|_| error::STATE_INVALID.error("the ranges cannot be written"))?;
    ParallelWorkers::with(c"tenancy_verify_worker", workers, &message, |counters, team| {
        let mut outcome = RangesOutcome::default();
        task.work(counters, &mut |found, seen| {
            outcome.add(found, seen);
            team.receive(|message| outcome.receive(message));
            show(counters);
        })?;
        while team.receive(|message| outcome.receive(message)) {
            show(counters);
            team.wait();
        }
        Ok(outcome.finish(counters))
    })
}

/// The main function of a worker.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn tenancy_verify_worker(segment: *mut pg_sys::dsm_segment, toc: *mut pg_sys::shm_toc) {
    // SAFETY: Postgres gives them to this function, which `verify` names.
    let worker = unsafe { Worker::enter(segment, toc) };
    let task: std::result::Result<Task, _> = serde_json::from_slice(worker.task());
    let task = task.map_err(|_| error::STATE_INVALID.error("the ranges cannot be read")).or_raise();
    let mut send = |found: Vec<Finding>, seen: RangeCounts| {
        if let Ok(message) = serde_json::to_vec(&(found, seen)) {
            worker.send(&message);
        }
    };
    task.work(worker.counters(), &mut send).or_raise();
}

impl Task {
    /// Takes range after range, until none is left.
    fn work(&self, counters: &Counters, report: &mut dyn FnMut(Vec<Finding>, RangeCounts)) -> Result<()> {
        let mut first = true;
        while let Some(range) = self.ranges.get(counters.add(NEXT, 1) as usize) {
            if std::mem::take(&mut first) {
                counters.add(PROCESSES, 1);
            }
            range::verify(&self.scope, *range, &mut |mut found, seen| {
                counters.add(BLOCKS, seen.blocks);
                counters.add(EVENTS, seen.events);
                let before = counters.add(FOUND, found.len() as i64);
                found.truncate(usize::try_from(MAX_FINDINGS - before).unwrap_or(0));
                report(found, seen);
            })?;
        }
        Ok(())
    }
}

impl RangesOutcome {
    fn add(&mut self, found: Vec<Finding>, seen: RangeCounts) {
        self.found.extend(found);
        self.seen = self.seen.and(seen);
    }

    fn receive(&mut self, message: &[u8]) {
        if let Ok((found, seen)) = serde_json::from_slice(message) {
            self.add(found, seen);
        }
    }

    fn finish(self, counters: &Counters) -> Self {
        RangesOutcome { count: counters.get(FOUND), processes: counters.get(PROCESSES), ..self }
    }
}

fn show(counters: &Counters) {
    for (number, counter) in [
        (Number::BlocksDone, BLOCKS),
        (Number::EventsDone, EVENTS),
        (Number::Findings, FOUND),
        (Number::Processes, PROCESSES),
    ] {
        phase::set(number, counters.get(counter));
    }
}

/// Cuts the range by how many events its blocks say that they have; tells the progress how much that is.
fn ranges_of(scope: &VerificationScope, range: Range) -> Vec<Range> {
    let between = |column| {
        [IndexKey::big_integer(column, range.first).or_more(), IndexKey::big_integer(column, range.last).or_less()]
    };
    let (mut ranges, mut blocks, mut events) = (RangePlanner::from(range.first), 0, 0i64);
    let mut add = |number, work: i64| {
        ranges.add(number, work);
        blocks += 1;
        events = events.saturating_add(work);
        if blocks % 1000 == 0 {
            transaction::check_for_interrupts();
        }
    };
    match scope.organization {
        None => {
            let mut rows = Scan::by_index(c"block", c"block_pkey", &between(1));
            while let Some(row) = rows.next() {
                add(row.big_integer(1).unwrap_or(range.first), row.big_integer(5).unwrap_or(0));
            }
        }
        Some(organization) => {
            let [first, last] = between(2);
            let mut rows = Scan::by_index(c"seal", c"seal_pkey", &[IndexKey::uuid(1, &organization), first, last]);
            let mut before = None;
            while let Some(row) = rows.next() {
                let position = row.big_integer(3).unwrap_or(0);
                let work = position.saturating_sub(before.replace(position).unwrap_or(position - 1));
                add(row.big_integer(2).unwrap_or(range.first), work);
            }
        }
    }
    phase::set(Number::BlocksTotal, blocks);
    phase::set(Number::EventsTotal, events);
    ranges.finish(range.last)
}
