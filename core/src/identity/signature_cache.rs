//! Signatures that were good a moment ago.
//!
//! What is remembered is that a key of the issuer signed the token, and nothing that passes with time or with a change:
//! claims, retirement of the key, revocation and membership are looked at each time. PostgREST keeps its cache the same
//! way, after verdicts that outlived a change of keys (PostgREST issue 4014).

use std::num::NonZeroUsize;
use std::rc::Rc;

use lru::LruCache;
use sha2::{Digest, Sha256};

use super::token::{MAX_TOKEN_BYTES, SignedToken};

/// The most tokens that are remembered.
const MAX_TOKENS: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// The most bytes of tokens that are remembered; parsed, they take a few times as much memory.
const MAX_BYTES: usize = 512 * 1024;

/// A token, as its digest: the token itself is not kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// `None` for what is too long to be a token.
    pub fn of(token: &str) -> Option<Self> {
        (token.len() <= MAX_TOKEN_BYTES).then(|| Fingerprint(Sha256::digest(token).into()))
    }
}

struct Entry {
    token: Rc<SignedToken>,
    /// The generation of the issuer's policy that the signature was checked under.
    generation: u64,
    bytes: usize,
}

/// The least recently used token makes room for a new one.
pub struct SignatureCache {
    entries: LruCache<Fingerprint, Entry>,
    bytes: usize,
}

impl Default for SignatureCache {
    fn default() -> Self {
        SignatureCache { entries: LruCache::new(MAX_TOKENS), bytes: 0 }
    }
}

impl SignatureCache {
    /// A token whose signature was good under the generation that stands beside it.
    pub fn find(&mut self, fingerprint: &Fingerprint) -> Option<(Rc<SignedToken>, u64)> {
        self.entries.get(fingerprint).map(|entry| (entry.token.clone(), entry.generation))
    }

    /// Remembers a token of `bytes` bytes whose signature is good under `generation`.
    pub fn keep(&mut self, fingerprint: Fingerprint, bytes: usize, token: Rc<SignedToken>, generation: u64) {
        self.bytes += bytes;
        if let Some((_, replaced)) = self.entries.push(fingerprint, Entry { token, generation, bytes }) {
            self.bytes -= replaced.bytes;
        }
        while self.bytes > MAX_BYTES
            && let Some((_, oldest)) = self.entries.pop_lru()
        {
            self.bytes -= oldest.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::token::tests::signed;

    fn fingerprint(n: usize) -> Fingerprint {
        Fingerprint::of(&n.to_string()).unwrap()
    }

    #[test]
    fn what_was_kept_is_found_with_its_generation() {
        let mut cache = SignatureCache::default();
        cache.keep(fingerprint(1), 10, signed(), 7);
        assert!(cache.find(&fingerprint(1)).is_some_and(|(_, generation)| generation == 7));
        assert!(cache.find(&fingerprint(2)).is_none());
        cache.keep(fingerprint(1), 10, signed(), 8);
        assert!(cache.find(&fingerprint(1)).is_some_and(|(_, generation)| generation == 8));
        assert_eq!((cache.entries.len(), cache.bytes), (1, 10));
    }

    #[test]
    fn neither_the_number_nor_the_bytes_grow_without_bound() {
        let mut cache = SignatureCache::default();
        for n in 0..1000 {
            cache.keep(fingerprint(n), 10, signed(), 1);
        }
        assert_eq!((cache.entries.len(), cache.bytes), (MAX_TOKENS.get(), 10 * MAX_TOKENS.get()));
        assert!(cache.find(&fingerprint(0)).is_none() && cache.find(&fingerprint(999)).is_some());
        for n in 0..1000 {
            cache.keep(fingerprint(n), MAX_TOKEN_BYTES, signed(), 1);
        }
        assert_eq!(cache.bytes, MAX_BYTES);
        assert_eq!(cache.entries.len(), MAX_BYTES / MAX_TOKEN_BYTES);
    }

    #[test]
    fn the_one_used_least_recently_goes_first() {
        let mut cache = SignatureCache::default();
        for n in 0..MAX_TOKENS.get() {
            cache.keep(fingerprint(n), 1, signed(), 1);
        }
        assert!(cache.find(&fingerprint(0)).is_some());
        cache.keep(fingerprint(1_000), 1, signed(), 1);
        assert!(cache.find(&fingerprint(0)).is_some() && cache.find(&fingerprint(1)).is_none());
    }

    #[test]
    fn what_is_too_long_for_a_token_has_no_fingerprint() {
        assert!(Fingerprint::of(&"a".repeat(MAX_TOKEN_BYTES)).is_some());
        assert!(Fingerprint::of(&"a".repeat(MAX_TOKEN_BYTES + 1)).is_none());
    }
}
