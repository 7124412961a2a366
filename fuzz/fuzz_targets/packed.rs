//! Packed events that are read are read the same once they are packed again, in no more memory than a batch may have.
//!
//! An input is the number of events in one byte, then the packed value.

#![no_main]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use libfuzzer_sys::fuzz_target;
use pg_tenancy_core::audit::format::batch::{MAX_EVENTS, MAX_TEXT, Packed, PackedContent, PackedEvent, pack};

/// The time of the batch, which any distance is added to.
const TIME: i64 = 1_793_491_200_000_000;

/// What reading may allocate: the text part, and the list of the events.
const MOST: usize = 2 * MAX_TEXT + MAX_EVENTS * size_of::<PackedEvent>();

/// Counts the bytes that are allocated, and the most that ever were since [`Counting::start`].
struct Counting {
    now: AtomicUsize,
    most: AtomicUsize,
}

#[global_allocator]
static MEMORY: Counting = Counting { now: AtomicUsize::new(0), most: AtomicUsize::new(0) };

impl Counting {
    fn start(&self) -> usize {
        let now = self.now.load(Relaxed);
        self.most.store(now, Relaxed);
        now
    }
}

// SAFETY: all of it is the allocator of the system; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = self.now.fetch_add(layout.size(), Relaxed) + layout.size();
        self.most.fetch_max(now, Relaxed);
        // SAFETY: the caller keeps the promises of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        self.now.fetch_sub(layout.size(), Relaxed);
        // SAFETY: `pointer` came from `alloc` above, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((count, body)) = data.split_first() else { return };
    let count = i32::from(*count);
    let before = MEMORY.start();
    let packed = Packed::open(body, count);
    let events = packed.as_ref().map(|packed| packed.events(TIME));
    let taken = MEMORY.most.load(Relaxed) - before;
    assert!(taken <= MOST, "{taken} bytes for {} that announce them", body.len());
    let Ok(Ok(mut events)) = events else { return };

    assert!(events.len() == count as usize && (1..=MAX_EVENTS).contains(&events.len()));
    assert_eq!(read(&pack(TIME, &events), &events), None);
    // A value that is not compressed has one form.
    let again = pack(TIME, &events);
    assert!(body[0] != 0 || again[0] != 0 || again == body, "a second form of the same events");
    // An erasure changes no digest, and what is left can be read.
    let digests: Vec<_> = events.iter().map(PackedEvent::digest).collect();
    let place = body.len() % events.len();
    events[place].content = PackedContent::Erased(events[place].payload_digest());
    assert!(events.iter().map(PackedEvent::digest).eq(digests));
    assert_eq!(read(&pack(TIME, &events), &events), None);
});

/// Why these packed events are not read as `expected`; `None` if they are.
fn read(body: &[u8], expected: &[PackedEvent]) -> Option<String> {
    let packed = match Packed::open(body, expected.len() as i32) {
        Ok(packed) => packed,
        Err(malformed) => return Some(malformed.text().to_owned()),
    };
    match packed.events(TIME) {
        Ok(events) if events == expected => None,
        other => Some(format!("{other:?} in place of {expected:?}")),
    }
}
