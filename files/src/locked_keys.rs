//! Keys that a process keeps in memory: in pages that are never swapped out, not in core dumps, and not in forked
//! children. A key is zeroized when it leaves.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use zeroize::Zeroize;

/// The bytes of a key.
pub const KEY_BYTES: usize = 32;

/// The keys of a page: as many as there are bits that tell which places are taken.
const PLACES: usize = 64;

/// A mapping of its own. It stays for the life of the process, and its places are used again.
struct Page {
    places: NonNull<[u8; KEY_BYTES]>,
    /// A bit for each place, set where a key is.
    taken: AtomicU64,
}

// SAFETY: a place is written and read only by the owner of its bit.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

static PAGES: Mutex<Vec<&'static Page>> = Mutex::new(Vec::new());

/// A key in locked memory.
pub struct LockedKey {
    page: &'static Page,
    place: usize,
}

impl LockedKey {
    /// Keeps a copy of the key; `None` if the system gives no memory that can be locked (`ulimit -l`).
    pub fn new(key: &[u8; KEY_BYTES]) -> Option<Self> {
        let mut pages = PAGES.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = pages.iter().find_map(|page| page.take());
        let kept = match taken {
            Some(kept) => kept,
            None => {
                let page: &'static Page = Box::leak(Box::new(Page::map()?));
                pages.push(page);
                page.take()?
            }
        };
        // SAFETY: the place is in the page, and nobody else's since `take`.
        unsafe { kept.pointer().as_mut() }.copy_from_slice(key);
        Some(kept)
    }

    /// The bytes of the key.
    pub fn bytes(&self) -> &[u8; KEY_BYTES] {
        // SAFETY: the place is in the page, and written by nobody else while this value lives.
        unsafe { self.pointer().as_ref() }
    }

    fn pointer(&self) -> NonNull<[u8; KEY_BYTES]> {
        // SAFETY: a page has `PLACES` places, and `place` is less.
        unsafe { self.page.places.add(self.place) }
    }
}

impl Drop for LockedKey {
    fn drop(&mut self) {
        // SAFETY: as in `bytes`.
        unsafe { self.pointer().as_mut() }.zeroize();
        self.page.taken.fetch_and(!(1 << self.place), Ordering::Release);
    }
}

impl Page {
    fn map() -> Option<Self> {
        let bytes = PLACES * KEY_BYTES;
        // SAFETY: a new mapping that nothing else uses. What could not be locked is unmapped again.
        unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let memory = libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
            if memory == libc::MAP_FAILED {
                return None;
            }
            if libc::mlock(memory, bytes) != 0 || !excluded(memory, bytes) {
                libc::munmap(memory, bytes);
                return None;
            }
            Some(Page { places: NonNull::new(memory.cast())?, taken: AtomicU64::new(0) })
        }
    }

    /// Takes a free place, if there is one. Callers take turns.
    fn take(&'static self) -> Option<LockedKey> {
        let place = self.taken.load(Ordering::Acquire).trailing_ones() as usize;
        (place < PLACES).then(|| {
            self.taken.fetch_or(1 << place, Ordering::AcqRel);
            LockedKey { page: self, place }
        })
    }
}

/// Keeps a mapping out of core dumps and forked children. A child that looked for keys there would be ended, and does
/// not take zeros for a key.
///
/// # Safety
/// The mapping is the caller's.
#[cfg(target_os = "linux")]
unsafe fn excluded(memory: *mut libc::c_void, bytes: usize) -> bool {
    // SAFETY: as promised.
    [libc::MADV_DONTDUMP, libc::MADV_DONTFORK]
        .iter()
        .all(|advice| unsafe { libc::madvise(memory, bytes, *advice) } == 0)
}

/// Systems other than Linux have nothing of the kind that is common to them.
///
/// # Safety
/// None is needed.
#[cfg(not(target_os = "linux"))]
unsafe fn excluded(_memory: *mut libc::c_void, _bytes: usize) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_places_of_their_own_which_are_zeroized_and_used_again() {
        let keys: Vec<LockedKey> = (0..200_u8).map(|n| LockedKey::new(&[n; KEY_BYTES]).unwrap()).collect();
        for (n, key) in (0..).zip(&keys) {
            assert_eq!(key.bytes(), &[n; KEY_BYTES]);
        }
        let pages = || PAGES.lock().unwrap().len();
        let before = pages();
        let places: Vec<NonNull<[u8; KEY_BYTES]>> = keys.iter().map(LockedKey::pointer).collect();
        drop(keys);
        for place in &places {
            // SAFETY: pages stay mapped.
            assert_eq!(unsafe { place.as_ref() }, &[0; KEY_BYTES]);
        }
        let again: Vec<LockedKey> = (0..200_u8).map(|n| LockedKey::new(&[n; KEY_BYTES]).unwrap()).collect();
        assert_eq!(pages(), before);
        drop(again);
    }
}
