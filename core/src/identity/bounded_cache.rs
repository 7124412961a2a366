//! Caches of tokens and issuers: the least recently used entry goes first, and memory is bounded.
//!
//! Decision: `docs/decisions/08-remembered-verdicts.md`.

use std::hash::Hash;

use lru::LruCache;
use sha2::{Digest, Sha256};

use super::token::MAX_TOKEN_BYTES;

/// The SHA-256 digest of a token; a cache does not keep the token itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of the text; `None` if the text is longer than [`MAX_TOKEN_BYTES`].
    pub fn of(token: &str) -> Option<Self> {
        (token.len() <= MAX_TOKEN_BYTES).then(|| Fingerprint(Sha256::digest(token).into()))
    }
}

/// The most that a cache keeps.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The number of entries.
    pub entries: usize,
    /// How many bytes an entry may have on average: a cache of larger ones keeps fewer.
    pub bytes_each: usize,
}

/// A cache of bounded size; the least recently used entry is evicted first.
pub struct BoundedCache<K: Hash + Eq, V> {
    entries: LruCache<K, (V, usize)>,
    bytes: usize,
}

impl<K: Hash + Eq, V> Default for BoundedCache<K, V> {
    fn default() -> Self {
        BoundedCache { entries: LruCache::unbounded(), bytes: 0 }
    }
}

impl<K: Hash + Eq, V> BoundedCache<K, V> {
    /// The entry of that key, which then is the last to be evicted.
    pub fn get<Q>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: std::borrow::Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.entries.get_mut(key).map(|(value, _)| value)
    }

    /// Takes the entry of that key out.
    pub fn take<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: std::borrow::Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let (value, bytes) = self.entries.pop(key)?;
        self.bytes -= bytes;
        Some(value)
    }

    /// Adds an entry that takes memory in proportion to `bytes`, and evicts what is then too much.
    ///
    /// An entry that is larger than all together may be is not kept.
    pub fn keep(&mut self, key: K, value: V, bytes: usize, bounds: Bounds) {
        self.bytes += bytes;
        if let Some((_, (_, replaced))) = self.entries.push(key, (value, bytes)) {
            self.bytes -= replaced;
        }
        while (self.entries.len() > bounds.entries || self.bytes > bounds.entries * bounds.bytes_each)
            && let Some((_, (_, evicted))) = self.entries.pop_lru()
        {
            self.bytes -= evicted;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { entries: 100, bytes_each: 10 };

    #[test]
    fn what_was_kept_is_found_and_replaced() {
        let mut cache = BoundedCache::default();
        cache.keep("one", 1, 10, BOUNDS);
        assert_eq!((cache.get("one").copied(), cache.get("two")), (Some(1), None));
        cache.keep("one", 2, 7, BOUNDS);
        assert_eq!((cache.get("one").copied(), cache.entries.len(), cache.bytes), (Some(2), 1, 7));
        assert_eq!((cache.take("one"), cache.take("one")), (Some(2), None));
        assert_eq!((cache.entries.len(), cache.bytes), (0, 0));
    }

    #[test]
    fn neither_the_number_nor_the_bytes_grow_without_bound() {
        let mut cache = BoundedCache::default();
        for n in 0..1000 {
            cache.keep(n, (), 1, BOUNDS);
        }
        assert_eq!((cache.entries.len(), cache.bytes), (100, 100));
        assert!(cache.get(&899).is_none() && cache.get(&900).is_some());
        for n in 0..1000 {
            cache.keep(n, (), 200, BOUNDS);
        }
        assert_eq!((cache.entries.len(), cache.bytes), (5, 1000));
        cache.keep(7, (), 1001, BOUNDS);
        assert_eq!((cache.entries.len(), cache.bytes), (0, 0));
    }

    #[test]
    fn the_one_used_least_recently_goes_first() {
        let mut cache = BoundedCache::default();
        for n in 0..100 {
            cache.keep(n, (), 1, BOUNDS);
        }
        assert!(cache.get(&0).is_some());
        cache.keep(1_000, (), 1, BOUNDS);
        assert!(cache.get(&0).is_some() && cache.get(&1).is_none());
    }

    #[test]
    fn fewer_are_kept_once_the_bounds_are_narrower() {
        let mut cache = BoundedCache::default();
        for n in 0..100 {
            cache.keep(n, (), 1, BOUNDS);
        }
        cache.keep(1_000, (), 1, Bounds { entries: 2, ..BOUNDS });
        assert_eq!((cache.entries.len(), cache.bytes), (2, 2));
        cache.keep(1_001, (), 1, Bounds { entries: 0, ..BOUNDS });
        assert_eq!((cache.entries.len(), cache.bytes), (0, 0));
    }

    #[test]
    fn what_is_too_long_for_a_token_has_no_fingerprint() {
        assert!(Fingerprint::of(&"a".repeat(MAX_TOKEN_BYTES)).is_some());
        assert!(Fingerprint::of(&"a".repeat(MAX_TOKEN_BYTES + 1)).is_none());
    }
}
