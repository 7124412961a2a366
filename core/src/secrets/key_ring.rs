//! Key-encryption keys by id, as a file or command hands them over.

use super::key::{KEY_BYTES, KeyId, SecretKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// The most keys of a ring.
pub const MAX_KEYS: usize = 64;

/// Keys by id.
#[derive(Default)]
pub struct KeyRing {
    keys: BTreeMap<KeyId, SecretKey>,
}

impl KeyRing {
    /// Reads lines of an id, a space and the base64 of 32 bytes; empty lines and those that begin with `#` are skipped.
    ///
    /// The error is the reason why the ring cannot be used, with the number of the line. It contains nothing of a key.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let mut ring = KeyRing::default();
        for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let (id, key) = key_line(line).map_err(|why| format!("line {number}: {why}"))?;
            if ring.keys.len() == MAX_KEYS {
                return Err(format!("line {number}: it holds more than {MAX_KEYS} keys"));
            }
            if ring.keys.insert(id, key).is_some() {
                return Err(format!("line {number}: the id stands on a line before"));
            }
        }
        if ring.keys.is_empty() { Err("it holds no key".to_owned()) } else { Ok(ring) }
    }

    /// The key with this id.
    pub fn get(&self, id: &KeyId) -> Option<&SecretKey> {
        self.keys.get(id)
    }

    /// The ids of the keys, sorted.
    pub fn ids(&self) -> impl Iterator<Item = &KeyId> {
        self.keys.keys()
    }
}

fn key_line(line: &[u8]) -> Result<(KeyId, SecretKey), &'static str> {
    let between = line.iter().position(u8::is_ascii_whitespace).ok_or("there is no key behind the id")?;
    let id = std::str::from_utf8(&line[..between]).ok().and_then(KeyId::parse);
    let id = id.ok_or("the id is not of 1 to 64 characters a-z, 0-9, . _ -, the first a letter or digit")?;
    // One byte more than a key has, so that a longer one is seen as such.
    let mut key = Zeroizing::new([0; KEY_BYTES + 4]);
    let decoded = STANDARD.decode_slice(line[between..].trim_ascii(), &mut key[..]);
    match decoded {
        Ok(KEY_BYTES) => key.first_chunk().map(|key| (id, SecretKey::new(key))).ok_or("the key is too short"),
        _ => Err("the key is not the base64 of 32 bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    #[test]
    fn a_ring_has_keys_by_id() {
        let text = format!("# made by hand\n\n  a.1 {KEY}\r\n0_b-\t{KEY}  \n");
        let ring = KeyRing::parse(text.as_bytes()).unwrap();
        assert_eq!(ring.ids().map(KeyId::as_str).collect::<Vec<_>>(), ["0_b-", "a.1"]);
        let key = ring.get(&KeyId::parse("a.1").unwrap()).unwrap();
        assert_eq!(key.bytes()[..], (0..32).collect::<Vec<u8>>());
        assert!(ring.get(&KeyId::parse("c").unwrap()).is_none());
    }

    #[test]
    fn a_line_that_is_no_key_is_named_and_not_shown() {
        let why = |text: &str| KeyRing::parse(text.as_bytes()).err().unwrap();
        let many: String = (0..=MAX_KEYS).map(|n| format!("k{n} {KEY}\n")).collect();
        let cases = [
            ("", "it holds no key"),
            ("# only this", "it holds no key"),
            ("a", "line 1: there is no key behind the id"),
            ("\na ", "line 2: there is no key behind the id"),
            ("a AAECAwQF", "line 1: the key is not the base64 of 32 bytes"),
            ("a AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gIQ==", "line 1: the key is not the base64 of 32 bytes"),
            ("a AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8", "line 1: the key is not the base64 of 32 bytes"),
        ];
        for (text, expected) in cases {
            assert_eq!(why(text), expected, "{text}");
        }
        assert_eq!(why(&format!("a {KEY} more")), "line 1: the key is not the base64 of 32 bytes");
        assert_eq!(why(&format!("a {KEY}\nb {KEY}\na {KEY}")), "line 3: the id stands on a line before");
        assert_eq!(why(&many), "line 65: it holds more than 64 keys");
        for id in ["A", "-a", ".a", "ä", "a;b", "a%k", &"a".repeat(65)] {
            assert!(why(&format!("{id} {KEY}")).starts_with("line 1: the id"), "{id}");
        }
    }
}
