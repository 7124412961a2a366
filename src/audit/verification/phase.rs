//! How far a verification is, for whoever asks while it runs.

use crate::pg::processes::progress;
use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern, pg_sys};

/// What a verification does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Sealing = 1,
    Preparing,
    Blocks,
    Beside,
    /// Of `tenancy.verify_secrets`, whose events are values.
    Secrets,
}

impl Phase {
    const ALL: [Phase; 5] = [Phase::Sealing, Phase::Preparing, Phase::Blocks, Phase::Beside, Phase::Secrets];

    fn name(self) -> &'static str {
        match self {
            Phase::Sealing => "sealing",
            Phase::Preparing => "preparing",
            Phase::Blocks => "verifying blocks",
            Phase::Beside => "looking for rows outside of all blocks",
            Phase::Secrets => "opening secrets",
        }
    }
}

/// A number of the progress, by its place.
#[derive(Debug, Clone, Copy)]
pub enum Number {
    Phase,
    BlocksTotal,
    BlocksDone,
    EventsTotal,
    EventsDone,
    Findings,
    Processes,
}

pub fn set(number: Number, value: i64) {
    progress::set(number as usize, value);
}

pub fn enter(phase: Phase) {
    set(Number::Phase, phase as i64);
}

/// `tenancy.verify_progress()`: a row for each verification that runs in this database.
#[allow(clippy::type_complexity)]
#[pg_extern(sql = false)]
fn tenancy_verify_progress() -> TableIterator<
    'static,
    (
        name!(pid, i32),
        name!(user_id, pg_sys::Oid),
        name!(phase, Option<String>),
        name!(blocks_total, i64),
        name!(blocks_done, i64),
        name!(events_total, i64),
        name!(events_done, i64),
        name!(findings, i64),
        name!(processes, i64),
    ),
> {
    let row = |running: progress::ReportedProgress| {
        let number = |number: Number| running.numbers[number as usize];
        let phase = Phase::ALL.into_iter().find(|phase| *phase as i64 == number(Number::Phase));
        (
            running.pid,
            running.user,
            phase.map(|phase| phase.name().to_owned()),
            number(Number::BlocksTotal),
            number(Number::BlocksDone),
            number(Number::EventsTotal),
            number(Number::EventsDone),
            number(Number::Findings),
            number(Number::Processes),
        )
    };
    let here = progress::this_database();
    let rows: Vec<_> = progress::running().into_iter().filter(|running| running.database == here).map(row).collect();
    TableIterator::new(rows)
}
