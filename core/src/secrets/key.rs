//! Keys in memory, and the ids of those outside of the database.

use rand::RngExt as _;
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;
use std::fmt;
use uuid::Uuid;
use zeroize::Zeroizing;

/// The bytes of a key.
pub const KEY_BYTES: usize = 32;

/// A key that is zeroized when it is dropped.
///
/// It is on the heap, so that moving the value moves a pointer and leaves no copy of the key on the stack.
pub struct SecretKey(Box<Zeroizing<[u8; KEY_BYTES]>>);

impl Clone for SecretKey {
    fn clone(&self) -> Self {
        SecretKey::new(self.bytes())
    }
}

impl SecretKey {
    /// The key of these bytes; the caller zeroizes its own copy.
    pub fn new(bytes: &[u8; KEY_BYTES]) -> Self {
        let mut key = SecretKey(Box::default());
        key.0.copy_from_slice(bytes);
        key
    }

    /// A random key.
    pub fn generate() -> Self {
        let mut key = SecretKey(Box::default());
        // Of the system: the buffer of the thread's generator would keep a copy.
        UnwrapErr(SysRng).fill(&mut key.0[..]);
        key
    }

    /// The bytes of the key.
    pub fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

/// A data key: the key of an organization, from which the keys of its values are derived.
#[derive(Clone)]
pub struct DataKey {
    /// Id of the key in `tenancy.data_key`. The envelope of a value names it.
    pub id: Uuid,
    /// The organization whose values it seals.
    pub organization: Uuid,
    /// The key itself.
    pub key: SecretKey,
}

/// The id of a key-encryption key: 1 to 64 characters of `a-z0-9._-`, the first a letter or digit. No such id means
/// anything to a shell.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(String);

impl KeyId {
    /// The id, if the text is one.
    pub fn parse(text: &str) -> Option<Self> {
        let inner = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        let valid = (1..=64).contains(&text.len())
            && text.bytes().all(inner)
            && text.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit());
        valid.then(|| KeyId(text.to_owned()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
