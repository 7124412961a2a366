//! How many events of a database are committed and not sealed yet, as all its sessions see it without a lock.
//!
//! Decision: `docs/decisions/59-slowed-writers.md`.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};

/// Without progress of the sealer for so long, in microseconds, nobody waits for it.
pub const PATIENCE: i64 = 10_000_000;
/// How often the log is told of that at most, in microseconds.
const TOLD: i64 = 60_000_000;

/// The backlog of one database. All zeros is its beginning.
pub struct Backlog {
    /// Commits add to it, sealing takes from it, and the sealer corrects it by what it finds in the tables.
    unsealed: AtomicI64,
    /// The sealer has corrected it, which only it can do: what was committed before a restart is in no memory.
    counted: AtomicBool,
    /// When a block was last committed or the limit was passed, in microseconds since 1970: whoever waits is patient
    /// from then on.
    moved: AtomicI64,
    /// When the log was last told that nobody waits; in microseconds since 1970.
    told: AtomicI64,
    /// How many sessions wait.
    waiting: AtomicU32,
}

impl Backlog {
    /// How many events wait to be sealed, as far as commits and the sealer have told.
    pub fn unsealed(&self) -> i64 {
        self.unsealed.load(Ordering::Relaxed)
    }

    /// So many events were committed.
    pub fn add(&self, events: i64, limit: i64, now: i64) {
        let before = self.unsealed.fetch_add(events, Ordering::AcqRel);
        if before <= limit && before + events > limit {
            self.moved.store(now, Ordering::Release);
        }
    }

    /// So many events were sealed, and that was committed.
    pub fn sealed(&self, events: i64, now: i64) {
        self.unsealed.fetch_sub(events, Ordering::AcqRel);
        self.moved.store(now, Ordering::Release);
    }

    /// The tables had so many events to seal when the count was `before`. What was added since then stays.
    pub fn correct(&self, events: i64, before: i64, now: i64) {
        self.unsealed.fetch_add(events - before, Ordering::AcqRel);
        // The first time the limit may be passed without a commit. Later on counting is no progress.
        self.moved.compare_exchange(0, now, Ordering::AcqRel, Ordering::Relaxed).ok();
        self.counted.store(true, Ordering::Release);
    }

    /// True if the count has been compared with the tables, and nothing that it does not know of was committed.
    pub fn is_counted(&self) -> bool {
        self.counted.load(Ordering::Acquire)
    }

    /// Events were committed whose number nobody knows.
    pub fn lose_count(&self) {
        self.counted.store(false, Ordering::Release);
    }

    /// There is nothing to seal, because the extension or the database is gone.
    pub fn clear(&self, now: i64) {
        self.correct(0, self.unsealed(), now);
    }

    /// True if the sealer has done nothing for as long as anybody has patience.
    pub fn stands_still(&self, now: i64) -> bool {
        now.saturating_sub(self.moved.load(Ordering::Acquire)) > PATIENCE
    }

    /// True for one caller a minute.
    pub fn may_tell(&self, now: i64) -> bool {
        let told = self.told.load(Ordering::Acquire);
        now.saturating_sub(told) >= TOLD
            && self.told.compare_exchange(told, now, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// This session waits from now on.
    pub fn begin_waiting(&self) {
        self.waiting.fetch_add(1, Ordering::AcqRel);
    }

    /// It does not any more.
    pub fn end_waiting(&self) {
        self.waiting.fetch_sub(1, Ordering::AcqRel);
    }

    /// How many sessions wait.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }
}
