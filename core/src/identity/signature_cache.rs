//! A cache of tokens whose signature was verified recently.
//!
//! The cache records only that a key of the issuer signed the token. Claims, retirement of the key, revocation and
//! membership can change with time and are checked at each use. PostgREST designed its cache in the same way after
//! cached verdicts outlived a change of keys (PostgREST issue 4014).
//!
//! Decision: `docs/decisions/08-signature-cache.md`.

use std::num::NonZeroUsize;
use std::rc::Rc;

use lru::LruCache;
use sha2::{Digest, Sha256};

use super::token::{MAX_TOKEN_BYTES, SignedToken};

/// The most tokens in the cache.
const MAX_TOKENS: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// The most bytes of token text in the cache; parsed tokens take several times as much memory.
const MAX_BYTES: usize = 512 * 1024;

/// The SHA-256 digest of a token; the cache does not keep the token itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of the text; `None` if the text is longer than [`MAX_TOKEN_BYTES`].
    pub fn of(token: &str) -> Option<Self> {
        (token.len() <= MAX_TOKEN_BYTES).then(|| Fingerprint(Sha256::digest(token).into()))
    }
}

struct CachedSignature {
    token: Rc<SignedToken>,
    /// The generation of the issuer's policy under which the signature was checked.
    generation: u64,
    bytes: usize,
}

/// A cache of verified signatures with bounded size; the least recently used token is evicted first.
pub struct SignatureCache {
    entries: LruCache<Fingerprint, CachedSignature>,
    bytes: usize,
}

impl Default for SignatureCache {
    fn default() -> Self {
        SignatureCache { entries: LruCache::new(MAX_TOKENS), bytes: 0 }
    }
}

impl SignatureCache {
    /// The token with that fingerprint, and the generation of the policy under which its signature was verified.
    pub fn find(&mut self, fingerprint: &Fingerprint) -> Option<(Rc<SignedToken>, u64)> {
        self.entries.get(fingerprint).map(|entry| (entry.token.clone(), entry.generation))
    }

    /// Adds a token of `bytes` bytes whose signature was verified under `generation`.
    pub fn keep(&mut self, fingerprint: Fingerprint, bytes: usize, token: Rc<SignedToken>, generation: u64) {
        self.bytes += bytes;
        if let Some((_, replaced)) = self.entries.push(fingerprint, CachedSignature { token, generation, bytes }) {
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
