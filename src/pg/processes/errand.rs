//! One task for a process of its own, which commits what it does whatever becomes of the transaction that waits for it.

use pgrx::bgworkers::{BackgroundWorkerBuilder, BackgroundWorkerStatus};
use pgrx::pg_sys;
use std::slice;
use std::time::{Duration, Instant};

/// How long the session sleeps at most before it looks again, in milliseconds.
const NAP: i64 = 20;

/// How an errand ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The process has ended, whether or not it has done its work.
    Finished,
    /// There was no process to be had.
    NotStarted,
    /// The process was ended, because it took too long.
    Late,
}

/// What stands before the message, in shared memory.
#[repr(C)]
struct Header {
    database: pg_sys::Oid,
    length: u32,
}

/// Runs `function` of this library in a process of its own, shown as `kind`, and waits for its end. The process gets
/// the message by [`receive`].
pub fn run(function: &str, kind: &str, message: &[u8], patience: Duration) -> End {
    let size = size_of::<Header>() + message.len();
    // SAFETY: the segment has room for the header and the message, is aligned for both, and is read by the process only
    // after this has written it. An error on the way ends the mapping with the transaction.
    let segment = unsafe {
        let segment = pg_sys::dsm_create(size, pg_sys::DSM_CREATE_NULL_IF_MAXSEGMENTS as i32);
        if segment.is_null() {
            return End::NotStarted;
        }
        let place = pg_sys::dsm_segment_address(segment).cast::<Header>();
        place.write(Header { database: pg_sys::MyDatabaseId, length: message.len() as u32 });
        std::ptr::copy_nonoverlapping(message.as_ptr(), place.add(1).cast::<u8>(), message.len());
        segment
    };
    // SAFETY: the segment is mapped; the process' own id.
    let (handle, own) = unsafe { (pg_sys::dsm_segment_handle(segment), pg_sys::MyProcPid) };
    let started = BackgroundWorkerBuilder::new(kind)
        .set_type(kind)
        .set_library("pg_tenancy")
        .set_function(function)
        .set_argument(Some(pg_sys::Datum::from(handle)))
        .set_notify_pid(own)
        .enable_spi_access()
        .load_dynamic();
    let Ok(worker) = started else {
        // SAFETY: mapped above, and nobody else's.
        unsafe { pg_sys::dsm_detach(segment) };
        return End::NotStarted;
    };
    let begun = Instant::now();
    let end = loop {
        if matches!(worker.pid(), Err(BackgroundWorkerStatus::Stopped | BackgroundWorkerStatus::PostmasterDied)) {
            break End::Finished;
        }
        if begun.elapsed() >= patience {
            // It may have committed in this moment: whoever called looks.
            let ended = worker.terminate().wait_for_shutdown();
            break if ended.is_ok() { End::Late } else { End::NotStarted };
        }
        nap();
    };
    // SAFETY: as above; the process has ended.
    unsafe { pg_sys::dsm_detach(segment) };
    end
}

/// Sleeps until the process may have ended, or this statement was cancelled, which raises.
fn nap() {
    let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
    // SAFETY: the process' own latch.
    unsafe {
        pg_sys::WaitLatch(pg_sys::MyLatch, events as i32, NAP, pg_sys::PG_WAIT_EXTENSION);
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    pgrx::check_for_interrupts!();
}

/// The side of the process: the database that the session is in, and its message. Called first of all.
pub fn receive(argument: pg_sys::Datum) -> (pg_sys::Oid, Vec<u8>) {
    // SAFETY: the argument is the handle that `run` gave; the segment has what it wrote there, and stays mapped until
    // it is copied. A session that has gone has taken the segment with it, which is an error here.
    unsafe {
        let segment = pg_sys::dsm_attach(argument.value() as u32);
        if segment.is_null() {
            pgrx::error!("the session that has asked for this process is gone");
        }
        let place = pg_sys::dsm_segment_address(segment).cast::<Header>();
        let Header { database, length } = place.read();
        let message = slice::from_raw_parts(place.add(1).cast::<u8>(), length as usize).to_vec();
        pg_sys::dsm_detach(segment);
        (database, message)
    }
}
