//! Memory that all backends share, where the library is preloaded: which databases have work for the worker, and
//! messages that it is to record.
//!
//! Everything in it is atomic. No lock is taken, so no backend can wait for another one or leave one locked.

pub use super::backlog::Backlog;
use crate::pg::backend_local::BackendLocal;
use pgrx::{pg_guard, pg_sys};
use std::cell::{Cell, UnsafeCell};
use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering};

const NAME: &CStr = c"pg_tenancy";
/// How many databases are remembered by name. Those beyond are looked at whenever any of them has work.
const DATABASES: usize = 128;

/// The memory. All zeros is its beginning.
pub struct Shared {
    /// The oid of a database in the upper half, [`WORK`] and [`RUNNING`] in the lower one; 0 for a free place.
    databases: [AtomicU64; DATABASES],
    /// For the database at the same place: when it is to be looked at though nothing was committed, and when a
    /// checkpoint of it was last tried that did not succeed; in microseconds since 1970, 0 for never.
    due: [AtomicI64; DATABASES],
    failed: [AtomicI64; DATABASES],
    /// What the database at the same place has to seal.
    backlogs: [Backlog; DATABASES],
    /// A database without a place has work.
    overflown: AtomicBool,
    messages: [Message; MESSAGES],
    /// How many of them are not free; what is told of it may be a moment old.
    taken: AtomicUsize,
    /// The address of the launcher's latch, which is in memory that all processes share; 0 before there is one.
    launcher: AtomicUsize,
    /// How many messages found no place since the start of the server.
    dropped: AtomicU64,
}

/// The most bytes of a message.
pub const MESSAGE_BYTES: usize = 4096;
/// How many messages can wait.
pub const MESSAGES: usize = 256;

/// A place for a message. Who moves its state on from [`FREE`] or [`WAITING`] owns the rest of it until the next move.
struct Message {
    state: AtomicU32,
    database: AtomicU32,
    length: AtomicU32,
    bytes: UnsafeCell<[u8; MESSAGE_BYTES]>,
}

// SAFETY: `bytes` is touched only by the process that has moved `state` to WRITING or READING, with a compare-exchange.
unsafe impl Sync for Message {}

const FREE: u32 = 0;
const WRITING: u32 = 1;
const WAITING: u32 = 2;
const READING: u32 = 3;

/// Something was committed that is to be sealed.
const WORK: u64 = 1;
/// A worker has begun with it and has not yet said that it is done.
const RUNNING: u64 = 2;

static SHARED: BackendLocal<Cell<Option<&'static Shared>>> = BackendLocal::new(Cell::new(None));
static PREVIOUS_REQUEST: BackendLocal<Cell<pg_sys::shmem_request_hook_type>> = BackendLocal::new(Cell::new(None));
static PREVIOUS_STARTUP: BackendLocal<Cell<pg_sys::shmem_startup_hook_type>> = BackendLocal::new(Cell::new(None));

/// Asks for the memory. Called once from `_PG_init`, in the postmaster.
pub fn request() {
    // SAFETY: called once, before shared memory is made, as every library that takes these hooks does it.
    unsafe {
        PREVIOUS_REQUEST.set(pg_sys::shmem_request_hook);
        pg_sys::shmem_request_hook = Some(requested);
        PREVIOUS_STARTUP.set(pg_sys::shmem_startup_hook);
        pg_sys::shmem_startup_hook = Some(started);
    }
}

/// The memory; `None` where the library is not preloaded.
pub fn shared() -> Option<&'static Shared> {
    SHARED.get()
}

#[pg_guard]
unsafe extern "C-unwind" fn requested() {
    // SAFETY: the hook that was there before, and then what the hook is for.
    unsafe {
        if let Some(previous) = PREVIOUS_REQUEST.get() {
            previous();
        }
        pg_sys::RequestAddinShmemSpace(size_of::<Shared>());
    }
}

/// Runs in the postmaster, and again after a crash; backends inherit what it found.
#[pg_guard]
unsafe extern "C-unwind" fn started() {
    // SAFETY: the hook that was there before; ShmemInitStruct returns as many bytes as asked for, aligned for any type,
    // which stay for the life of the postmaster. Only the postmaster writes them here, before any backend is there.
    unsafe {
        if let Some(previous) = PREVIOUS_STARTUP.get() {
            previous();
        }
        let mut found = false;
        let memory: *mut Shared = pg_sys::ShmemInitStruct(NAME.as_ptr(), size_of::<Shared>(), &mut found).cast();
        if !found {
            memory.write_bytes(0, 1);
        }
        SHARED.set(Some(&*memory));
    }
}

impl Shared {
    /// The database has something for the worker.
    pub fn mark_pending(&self, database: pg_sys::Oid) {
        match self.place(database) {
            Some(place) => drop(place.fetch_or(WORK, Ordering::AcqRel)),
            None => self.overflown.store(true, Ordering::Release),
        }
    }

    /// So many events of the database were committed; more than `limit` unsealed ones are too many.
    pub fn committed(&self, database: pg_sys::Oid, events: i64, limit: Option<i64>, now: i64) {
        if let Some(index) = self.index(database) {
            self.backlogs[index].add(events, limit.unwrap_or(i64::MAX), now);
        }
        self.mark_pending(database);
    }

    /// A transaction of the database was committed that may have any number of events.
    pub fn committed_unknown(&self, database: pg_sys::Oid) {
        if let Some(backlog) = self.backlog_if_any(database) {
            backlog.lose_count();
        }
        self.mark_pending(database);
    }

    /// What the database has to seal, if it has a place.
    pub fn backlog_if_any(&self, database: pg_sys::Oid) -> Option<&Backlog> {
        let number = u64::from(database.to_u32());
        let taken = self.databases.iter().map(|place| place.load(Ordering::Acquire)).take_while(|place| *place != 0);
        let index = taken.enumerate().find(|(_, place)| place >> 32 == number).map(|(index, _)| index);
        index.map(|index| &self.backlogs[index])
    }

    /// The database has something for the worker, which is not to wait for its interval.
    pub fn call_worker(&self, database: pg_sys::Oid) {
        self.mark_pending(database);
        self.wake_launcher();
    }

    /// The database is to be looked at again at that moment, in microseconds since 1970, or not (0). False if there
    /// is no place to remember it.
    pub fn schedule(&self, database: pg_sys::Oid, at: i64) -> bool {
        self.index(database).map(|index| self.due[index].store(at, Ordering::Release)).is_some()
    }

    /// A checkpoint is tried at that moment; 0: it succeeded.
    pub fn set_last_attempt(&self, database: pg_sys::Oid, at: i64) {
        if let Some(index) = self.index(database) {
            self.failed[index].store(at, Ordering::Release);
        }
    }

    /// When a checkpoint was last tried that did not succeed; 0 for never.
    pub fn checkpoint_failed(&self, database: pg_sys::Oid) -> i64 {
        self.index(database).map_or(0, |index| self.failed[index].load(Ordering::Acquire))
    }

    /// The databases that have work, which is taken from them; they run until [`done`](Self::done).
    pub fn take_work(&self, now: i64) -> Vec<pg_sys::Oid> {
        for (place, due) in self.databases.iter().zip(&self.due) {
            let at = due.load(Ordering::Acquire);
            if (1..=now).contains(&at)
                && due.compare_exchange(at, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
                && place.load(Ordering::Acquire) != 0
            {
                place.fetch_or(WORK, Ordering::AcqRel);
            }
        }
        let taken = self.databases.iter().filter_map(|place| {
            let before = place.load(Ordering::Acquire);
            let taken = before & WORK != 0
                && place
                    .compare_exchange(before, before & !WORK | RUNNING, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok();
            taken.then(|| database(before))
        });
        taken.collect()
    }

    /// True once after a database without a place had work.
    pub fn take_overflow(&self) -> bool {
        self.overflown.swap(false, Ordering::AcqRel)
    }

    /// The worker is done with the database.
    pub fn done(&self, database: pg_sys::Oid) {
        if let Some(place) = self.place(database) {
            place.fetch_and(!RUNNING, Ordering::AcqRel);
        }
    }

    /// The database is gone; another one may get its oid.
    pub fn forget(&self, database: pg_sys::Oid, now: i64) {
        if let Some(backlog) = self.backlog_if_any(database) {
            backlog.clear(now);
            backlog.lose_count();
        }
        self.done(database);
    }

    /// True if a worker began with the database and ended without being done.
    pub fn is_unfinished(&self, database: pg_sys::Oid) -> bool {
        self.place(database).is_some_and(|place| place.load(Ordering::Acquire) & RUNNING != 0)
    }

    /// Leaves a message for this backend's database. Never waits: where all places are taken, that is counted, and
    /// false.
    pub fn post(&self, message: &[u8]) -> bool {
        // SAFETY: set once at the start of the backend.
        let database = unsafe { pg_sys::MyDatabaseId };
        let free =
            |place: &Message| place.state.compare_exchange(FREE, WRITING, Ordering::Acquire, Ordering::Relaxed).is_ok();
        let number = if message.len() <= MESSAGE_BYTES { self.messages.iter().position(free) } else { None };
        let Some(number) = number else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            self.wake_launcher();
            return false;
        };
        self.taken.fetch_add(1, Ordering::Relaxed);
        let place = &self.messages[number];
        // SAFETY: this process has just taken the place.
        unsafe { (&mut *place.bytes.get())[..message.len()].copy_from_slice(message) };
        place.database.store(database.to_u32(), Ordering::Relaxed);
        place.length.store(message.len() as u32, Ordering::Relaxed);
        place.state.store(WAITING, Ordering::Release);
        self.mark_pending(database);
        if number >= MESSAGES / 2 {
            self.wake_launcher();
        }
        true
    }

    /// This process is the launcher, which is woken where messages come faster than it looks for them.
    pub fn set_launcher(&self) {
        // SAFETY: reads a pointer that is set at the start of the process.
        self.launcher.store(unsafe { pg_sys::MyLatch } as usize, Ordering::Release);
    }

    fn wake_launcher(&self) {
        let latch = self.launcher.load(Ordering::Acquire) as *mut pg_sys::Latch;
        if !latch.is_null() {
            // SAFETY: the latch of a process' place in shared memory, which is at the same address in every process
            // and never goes away. One that another process has by now wakes that for nothing, which all are
            // prepared for.
            unsafe { pg_sys::SetLatch(latch) };
        }
    }

    /// The messages for a database, oldest places first. They wait on until [`received`](Self::received): a worker that
    /// fails leaves them to the next one, and there is never more than one for a database.
    pub fn receive(&self, database: pg_sys::Oid) -> Vec<Vec<u8>> {
        let taken = self.messages.iter().filter(|place| {
            let state = place.state.load(Ordering::Acquire);
            (state == WAITING || state == READING) && place.database.load(Ordering::Relaxed) == database.to_u32()
        });
        let read = |place: &Message| {
            place.state.store(READING, Ordering::Relaxed);
            let length = place.length.load(Ordering::Relaxed) as usize;
            // SAFETY: the place is this worker's: nobody writes before it is free again.
            unsafe { (&*place.bytes.get())[..length.min(MESSAGE_BYTES)].to_vec() }
        };
        taken.map(read).collect()
    }

    /// What was received is recorded: its places are free.
    pub fn received(&self, database: pg_sys::Oid) {
        for place in &self.messages {
            let of_it = place.database.load(Ordering::Relaxed) == database.to_u32();
            if of_it && place.state.load(Ordering::Acquire) == READING {
                place.state.store(FREE, Ordering::Release);
                self.taken.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// True if so many further messages find a place.
    pub fn has_room(&self, messages: usize) -> bool {
        self.taken.load(Ordering::Relaxed) + messages <= MESSAGES
    }

    /// How many messages wait, how many can, and how many were dropped since the start of the server.
    pub fn messages(&self) -> (usize, usize, u64) {
        let waiting = self.messages.iter().filter(|place| place.state.load(Ordering::Relaxed) != FREE).count();
        (waiting, MESSAGES, self.dropped.load(Ordering::Relaxed))
    }

    fn place(&self, oid: pg_sys::Oid) -> Option<&AtomicU64> {
        self.index(oid).map(|index| &self.databases[index])
    }

    /// The place of the database, taken now if it has none; `None` if all are taken.
    fn index(&self, oid: pg_sys::Oid) -> Option<usize> {
        let empty = u64::from(oid.to_u32()) << 32;
        for (index, place) in self.databases.iter().enumerate() {
            let now = match place.load(Ordering::Acquire) {
                0 => place
                    .compare_exchange(0, empty, Ordering::AcqRel, Ordering::Acquire)
                    .map_or_else(|now| now, |_| empty),
                now => now,
            };
            if database(now) == oid {
                return Some(index);
            }
        }
        None
    }
}

fn database(place: u64) -> pg_sys::Oid {
    pg_sys::Oid::from((place >> 32) as u32)
}
