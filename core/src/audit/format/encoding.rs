//! The canonical encoding of the records that the audit hashes.
//!
//! A record is a tag that names its kind and version, then its fields in a fixed order. Tag and fields are each
//! preceded by their length in bytes as a 32-bit big-endian number. A field that is absent has the length 2^32-1 and no
//! bytes. Two records that differ in content, kind or version therefore have different bytes (domain separation). No
//! setting of the server affects the encoding.

use sha2::{Digest as _, Sha256};

/// A SHA-256 digest (FIPS 180-4).
pub type Digest = [u8; 32];

/// The length that marks an absent field.
const ABSENT: u32 = u32::MAX;

/// The most bytes that are gathered before they are hashed.
///
/// Fields are short, and hashing each one by itself costs more than the hash.
const GATHERED: usize = 8192;

/// Hashes a record field by field, in little memory for any length.
#[derive(Clone)]
pub struct Record {
    gathered: Vec<u8>,
    /// The hash state over the bytes gathered before; a short record has none.
    hash: Option<Box<Sha256>>,
}

/// Passes the encoding of a field to `write`: its length, then its bytes.
pub fn write_field(field: &[u8], mut write: impl FnMut(&[u8])) {
    write(&field_length(field.len()));
    write(field);
}

/// The length prefix of a field of so many bytes.
pub fn field_length(bytes: usize) -> [u8; 4] {
    // A field cannot reach 4 GiB: Postgres limits a value to 1 GiB, and its text in hexadecimal digits has twice as
    // many.
    u32::try_from(bytes).unwrap_or(ABSENT - 1).to_be_bytes()
}

/// The bytes of a record, where they are needed and not their digest.
pub fn record(tag: &str, fields: &[&[u8]]) -> Vec<u8> {
    let mut record = Vec::with_capacity(256);
    write_field(tag.as_bytes(), |bytes| record.extend_from_slice(bytes));
    for field in fields {
        write_field(field, |bytes| record.extend_from_slice(bytes));
    }
    record
}

impl Record {
    /// Starts a record of the kind and version that `tag` names, such as `pg_tenancy/event/1`.
    pub fn new(tag: &str) -> Self {
        Record { gathered: Vec::with_capacity(512), hash: None }.bytes(tag.as_bytes())
    }

    /// Adds a field of raw bytes.
    pub fn bytes(mut self, field: &[u8]) -> Self {
        self.put(field);
        self
    }

    /// Adds a field of raw bytes to a record that grows over time.
    pub fn put(&mut self, field: &[u8]) -> &mut Self {
        write_field(field, |bytes| self.gather(bytes));
        self
    }

    /// Adds a field of UTF-8 text.
    pub fn text(self, field: &str) -> Self {
        self.bytes(field.as_bytes())
    }

    /// Adds a text field that may be absent; an absent field differs from an empty one.
    pub fn optional(mut self, field: Option<&str>) -> Self {
        match field {
            Some(field) => self.text(field),
            None => {
                self.gather(&ABSENT.to_be_bytes());
                self
            }
        }
    }

    /// Adds an integer as eight bytes, big endian, two's complement.
    pub fn integer(self, field: i64) -> Self {
        self.bytes(&field.to_be_bytes())
    }

    /// The SHA-256 digest of the record.
    pub fn digest(self) -> Digest {
        match self.hash {
            None => Sha256::digest(&self.gathered).into(),
            Some(hash) => hash.chain_update(&self.gathered).finalize().into(),
        }
    }

    fn gather(&mut self, bytes: &[u8]) {
        if self.gathered.len() + bytes.len() <= GATHERED {
            self.gathered.extend_from_slice(bytes);
            return;
        }
        let hash = self.hash.get_or_insert_default();
        hash.update(&self.gathered);
        hash.update(bytes);
        self.gathered.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_cannot_be_shifted_into_each_other() {
        let one = Record::new("t").text("ab").text("c").digest();
        let other = Record::new("t").text("a").text("bc").digest();
        assert_ne!(one, other);
    }

    #[test]
    fn an_absent_field_is_not_an_empty_one() {
        assert_ne!(Record::new("t").optional(None).digest(), Record::new("t").optional(Some("")).digest());
    }

    #[test]
    fn a_long_record_has_the_digest_of_its_bytes() {
        for (fields, length) in [(1, 8000), (1, 8188), (3, 4000), (5, 10_000), (5000, 3)] {
            let (mut record, mut bytes) = (Record::new("t"), vec![0, 0, 0, 1, b't']);
            for n in 0..fields {
                let field = vec![n as u8; length];
                record.put(&field);
                bytes.extend_from_slice(&(length as u32).to_be_bytes());
                bytes.extend_from_slice(&field);
            }
            let expected: Digest = Sha256::digest(&bytes).into();
            assert_eq!(record.digest(), expected, "{fields} fields of {length} bytes");
        }
    }

    #[test]
    fn records_of_different_kinds_never_share_a_digest() {
        assert_ne!(Record::new("a").text("x").digest(), Record::new("b").text("x").digest());
    }

    #[test]
    fn the_bytes_are_those_of_the_documentation() {
        // 00000001 't' | 00000008 0000000000000001 | ffffffff
        let mut bytes = vec![0, 0, 0, 1, b't', 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1];
        bytes.extend([0xff; 4]);
        let expected: Digest = Sha256::digest(&bytes).into();
        assert_eq!(Record::new("t").integer(1).optional(None).digest(), expected);
    }
}
