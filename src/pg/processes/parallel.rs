//! Work shared with parallel worker processes, as Postgres' own index builds do it (access/transam/README.parallel).
//!
//! The workers see the leader's snapshot, its uncommitted rows included, and have its role and settings. An error of
//! one is raised in the leader, and the end of the leader's transaction ends them all.
//!
//! Decision: `docs/decisions/43-parallel-verification.md`.

use crate::pg::transaction;
use pgrx::pg_sys;
use std::ffi::{CStr, c_void};
use std::ptr;
use std::slice;
use std::sync::atomic::{AtomicI64, Ordering};

const LIBRARY: &CStr = c"$libdir/pg_tenancy";

/// Size of the queue of a worker's messages: a longer message goes through it in parts.
const QUEUE: usize = 64 * 1024;

/// Keys of what stands in the shared memory.
const TASK: u64 = 1;
const COUNTERS: u64 = 2;
const QUEUES: u64 = 3;

/// How long the leader sleeps at most while it waits for workers, in milliseconds.
const NAP: i64 = 100;

/// How many counters there are.
pub const COUNTERS_SHARED: usize = 8;

/// Numbers that all processes add to.
#[repr(C)]
pub struct Counters([AtomicI64; COUNTERS_SHARED]);

impl Counters {
    /// For a leader that works alone.
    pub fn new() -> Self {
        Counters(Default::default())
    }

    /// Adds to a counter; returns what it was before.
    pub fn add(&self, counter: usize, number: i64) -> i64 {
        self.0.get(counter).map_or(0, |counter| counter.fetch_add(number, Ordering::Relaxed))
    }

    pub fn get(&self, counter: usize) -> i64 {
        self.0.get(counter).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }
}

/// The leader's side: the processes that help, and what they send.
pub struct ParallelWorkers {
    context: *mut pg_sys::ParallelContext,
    /// Of the workers that have not finished.
    queues: Vec<*mut pg_sys::shm_mq_handle>,
}

impl ParallelWorkers {
    /// Runs `lead` while up to `workers` processes run `function` of this library with the same task. There may be
    /// fewer, or none, if the server has no more.
    ///
    /// `lead` gets the counters that all share. What it does not receive is lost: it ends when
    /// [`ParallelWorkers::receive`] says so.
    pub fn with<T>(
        function: &CStr,
        workers: usize,
        task: &[u8],
        lead: impl FnOnce(&Counters, &mut ParallelWorkers) -> T,
    ) -> T {
        // SAFETY: entered and left in pairs; after an error Postgres itself leaves parallel mode and ends the workers
        // (AtEOXact_Parallel, AtEOSubXact_Parallel). Everything allocated was estimated before. The handles belong
        // to the context's segment and are not used after its end.
        unsafe {
            pg_sys::EnterParallelMode();
            let context = pg_sys::CreateParallelContext(LIBRARY.as_ptr(), function.as_ptr(), workers as i32);
            let queues_size = QUEUE * workers;
            for size in [task.len() + 8, size_of::<Counters>(), queues_size] {
                // What BUFFERALIGN may add is less.
                (*context).estimator.space_for_chunks += size + 64;
                (*context).estimator.number_of_keys += 1;
            }
            pg_sys::InitializeParallelDSM(context);
            let toc = (*context).toc;
            let place = pg_sys::shm_toc_allocate(toc, task.len() + 8).cast::<u8>();
            place.cast::<u64>().write(task.len() as u64);
            ptr::copy_nonoverlapping(task.as_ptr(), place.add(8), task.len());
            pg_sys::shm_toc_insert(toc, TASK, place.cast());
            let counters = pg_sys::shm_toc_allocate(toc, size_of::<Counters>()).cast::<Counters>();
            counters.write(Counters::new());
            pg_sys::shm_toc_insert(toc, COUNTERS, counters.cast());
            let mut team = ParallelWorkers { context, queues: Vec::new() };
            team.launch();
            let result = lead(&*counters, &mut team);
            // Whoever still sends is not to wait for a leader that listens no more.
            team.queues.drain(..).for_each(|handle| pg_sys::shm_mq_detach(handle));
            pg_sys::WaitForParallelWorkersToFinish(context);
            pg_sys::DestroyParallelContext(context);
            pg_sys::ExitParallelMode();
            result
        }
    }

    fn launch(&mut self) {
        // SAFETY: the context is initialized, and the queues have the size that was estimated; as in
        // ExecParallelSetupTupleQueues (execParallel.c). Without a segment of shared memory Postgres sets the number
        // of workers to 0.
        unsafe {
            let context = self.context;
            let workers = (*context).nworkers as usize;
            if workers == 0 {
                return;
            }
            let queues = pg_sys::shm_toc_allocate((*context).toc, QUEUE * workers);
            pg_sys::shm_toc_insert((*context).toc, QUEUES, queues);
            let attach = |worker: usize| {
                let queue = pg_sys::shm_mq_create(queues.byte_add(worker * QUEUE), QUEUE);
                pg_sys::shm_mq_set_receiver(queue, pg_sys::MyProc);
                pg_sys::shm_mq_attach(queue, (*context).seg, ptr::null_mut())
            };
            let handles: Vec<_> = (0..workers).map(attach).collect();
            pg_sys::LaunchParallelWorkers(context);
            let launched = (*context).nworkers_launched as usize;
            for (worker, handle) in handles.into_iter().enumerate() {
                if worker < launched {
                    pg_sys::shm_mq_set_handle(handle, (*(*context).worker.add(worker)).bgwhandle);
                    self.queues.push(handle);
                } else {
                    pg_sys::shm_mq_detach(handle);
                }
            }
        }
    }

    /// Hands each message that has arrived to `each`; false once all workers have finished and nothing is left.
    pub fn receive(&mut self, mut each: impl FnMut(&[u8])) -> bool {
        transaction::check_for_interrupts();
        self.queues.retain(|handle| {
            loop {
                let (mut length, mut data) = (0, ptr::null_mut::<c_void>());
                // SAFETY: the handle is attached; the message is valid until the next receive from it.
                let result = unsafe { pg_sys::shm_mq_receive(*handle, &mut length, &mut data, true) };
                match result {
                    pg_sys::shm_mq_result::SHM_MQ_SUCCESS => {
                        // SAFETY: as said above.
                        each(unsafe { slice::from_raw_parts(data.cast::<u8>(), length) });
                    }
                    pg_sys::shm_mq_result::SHM_MQ_WOULD_BLOCK => return true,
                    _ => {
                        // SAFETY: attached until now, and not used again.
                        unsafe { pg_sys::shm_mq_detach(*handle) };
                        return false;
                    }
                }
            }
        });
        !self.queues.is_empty()
    }

    /// Sleeps until something may have arrived.
    pub fn wait(&self) {
        let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
        // SAFETY: the process' own latch.
        unsafe {
            pg_sys::WaitLatch(pg_sys::MyLatch, events as i32, NAP, pg_sys::PG_WAIT_EXTENSION);
            pg_sys::ResetLatch(pg_sys::MyLatch);
        }
    }
}

/// A worker's side.
pub struct Worker {
    toc: *mut pg_sys::shm_toc,
    queue: *mut pg_sys::shm_mq_handle,
}

impl Worker {
    /// Takes part in what the leader shares.
    ///
    /// # Safety
    ///
    /// The arguments are those that Postgres gave to the function that the leader named to [`ParallelWorkers::with`].
    pub unsafe fn enter(segment: *mut pg_sys::dsm_segment, toc: *mut pg_sys::shm_toc) -> Self {
        // SAFETY: as promised; the leader made as many queues as there are workers.
        unsafe {
            let queues = pg_sys::shm_toc_lookup(toc, QUEUES, false);
            let queue: *mut pg_sys::shm_mq = queues.byte_add(pg_sys::ParallelWorkerNumber as usize * QUEUE).cast();
            pg_sys::shm_mq_set_sender(queue, pg_sys::MyProc);
            Worker { toc, queue: pg_sys::shm_mq_attach(queue, segment, ptr::null_mut()) }
        }
    }

    /// What the leader wants to have done.
    pub fn task(&self) -> &[u8] {
        // SAFETY: written by the leader before it launched workers, with its length before it; nobody changes it.
        unsafe {
            let place = pg_sys::shm_toc_lookup(self.toc, TASK, false).cast::<u8>();
            slice::from_raw_parts(place.add(8), place.cast::<u64>().read() as usize)
        }
    }

    pub fn counters(&self) -> &Counters {
        // SAFETY: written by the leader before it launched workers; atomic from then on.
        unsafe { &*pg_sys::shm_toc_lookup(self.toc, COUNTERS, false).cast::<Counters>() }
    }

    /// Sends a message to the leader; waits while the queue is full.
    pub fn send(&self, message: &[u8]) {
        // SAFETY: attached; Postgres copies the message. A leader that has gone ends this process by itself.
        unsafe { pg_sys::shm_mq_send(self.queue, message.len(), message.as_ptr().cast(), false, true) };
    }
}

/// How many workers a maintenance command may have (`max_parallel_maintenance_workers`).
pub fn workers_for_maintenance() -> usize {
    // SAFETY: reads a setting.
    unsafe { pg_sys::max_parallel_maintenance_workers as usize }
}
