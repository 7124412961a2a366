//! Unwrapped data keys that a session keeps: of bounded number, for a bounded time, and only while they are stored as
//! they were.

use uuid::Uuid;

use super::key::KeyId;

/// How many keys are kept and how long, in the unit that the caller's times have.
#[derive(Debug, Clone, Copy)]
pub struct CacheBounds {
    /// The most keys.
    pub keys: usize,
    /// From when it was unwrapped.
    pub lifetime: i64,
}

/// A data key as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredAs<'a> {
    /// Id of the data key.
    pub id: Uuid,
    /// The organization whose key it is.
    pub organization: Uuid,
    /// The key-encryption key that it is wrapped under.
    pub key_encryption_key: &'a KeyId,
    /// The wrapped key.
    pub wrapped: &'a [u8],
}

struct Kept<K> {
    id: Uuid,
    organization: Uuid,
    key_encryption_key: KeyId,
    wrapped: Vec<u8>,
    since: i64,
    key: K,
}

/// Keys by id. The least recently used one leaves first; `K` zeroizes itself when it is dropped.
pub struct KeyCache<K> {
    /// The least recently used first.
    kept: Vec<Kept<K>>,
}

impl<K> Default for KeyCache<K> {
    fn default() -> Self {
        KeyCache { kept: Vec::new() }
    }
}

impl<K> KeyCache<K> {
    /// The key, if it was unwrapped from what is stored now, and not too long ago. One that was not leaves.
    pub fn find(&mut self, stored: StoredAs, now: i64, bounds: CacheBounds) -> Option<&K> {
        self.expire(now, bounds);
        let place = self.kept.iter().position(|kept| kept.id == stored.id)?;
        let kept = self.kept.remove(place);
        // Each part of what unwrapping checks: what is stored otherwise would not unwrap, or to another key.
        let same = kept.organization == stored.organization
            && kept.key_encryption_key == *stored.key_encryption_key
            && kept.wrapped == stored.wrapped;
        if !same {
            return None;
        }
        self.kept.push(kept);
        self.kept.last().map(|kept| &kept.key)
    }

    /// Keeps a key that was unwrapped `now`.
    pub fn keep(&mut self, stored: StoredAs, key: K, now: i64, bounds: CacheBounds) {
        self.kept.retain(|kept| kept.id != stored.id);
        self.kept.push(Kept {
            id: stored.id,
            organization: stored.organization,
            key_encryption_key: stored.key_encryption_key.clone(),
            wrapped: stored.wrapped.to_vec(),
            since: now,
            key,
        });
        self.expire(now, bounds);
    }

    /// Lets go what is too old, or too much. A clock that was set back makes every key too old.
    pub fn expire(&mut self, now: i64, bounds: CacheBounds) {
        self.kept.retain(|kept| (0..bounds.lifetime).contains(&(now - kept.since)));
        let too_many = self.kept.len().saturating_sub(bounds.keys);
        self.kept.drain(..too_many);
    }

    /// Lets go all; returns how many there were.
    pub fn clear(&mut self) -> usize {
        self.kept.drain(..).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: CacheBounds = CacheBounds { keys: 2, lifetime: 10 };

    fn stored(id: u128, key_encryption_key: &KeyId) -> StoredAs<'_> {
        StoredAs { id: Uuid::from_u128(id), organization: Uuid::nil(), key_encryption_key, wrapped: b"wrapped" }
    }

    fn id(text: &str) -> KeyId {
        KeyId::parse(text).unwrap()
    }

    #[test]
    fn the_least_recently_used_key_leaves_first() {
        let (a, mut cache) = (id("a"), KeyCache::default());
        cache.keep(stored(1, &a), "one", 0, BOUNDS);
        cache.keep(stored(2, &a), "two", 0, BOUNDS);
        assert_eq!(cache.find(stored(1, &a), 1, BOUNDS), Some(&"one"));
        cache.keep(stored(3, &a), "three", 1, BOUNDS);
        assert_eq!(cache.find(stored(2, &a), 1, BOUNDS), None);
        assert_eq!(cache.find(stored(1, &a), 1, BOUNDS), Some(&"one"));
        assert_eq!(cache.find(stored(3, &a), 1, BOUNDS), Some(&"three"));
        assert_eq!(cache.clear(), 2);
        assert_eq!(cache.clear(), 0);
    }

    #[test]
    fn a_key_has_a_lifetime_which_use_does_not_prolong() {
        let (a, mut cache) = (id("a"), KeyCache::default());
        cache.keep(stored(1, &a), "one", 100, BOUNDS);
        assert_eq!(cache.find(stored(1, &a), 109, BOUNDS), Some(&"one"));
        assert_eq!(cache.find(stored(1, &a), 110, BOUNDS), None);
        cache.keep(stored(1, &a), "one", 100, BOUNDS);
        assert_eq!(cache.find(stored(1, &a), 99, BOUNDS), None, "the clock was set back");
        for bounds in [CacheBounds { keys: 0, ..BOUNDS }, CacheBounds { lifetime: 0, ..BOUNDS }] {
            cache.keep(stored(1, &a), "one", 100, bounds);
            assert_eq!(cache.clear(), 0, "{bounds:?}");
        }
    }

    #[test]
    fn a_key_that_is_stored_otherwise_than_it_was_is_let_go() {
        let (a, b) = (id("a"), id("b"));
        for other in [
            StoredAs { wrapped: b"otherwise", ..stored(1, &a) },
            StoredAs { organization: Uuid::from_u128(7), ..stored(1, &a) },
            stored(1, &b),
        ] {
            let mut cache = KeyCache::default();
            cache.keep(stored(1, &a), "one", 0, BOUNDS);
            assert_eq!(cache.find(other, 0, BOUNDS), None);
            assert_eq!(cache.clear(), 0, "it has left");
        }
    }
}
