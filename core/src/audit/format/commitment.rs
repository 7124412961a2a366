//! Commitments to the values of secret columns: HMAC-SHA256 (RFC 2104) under a key that the database does not store.
//!
//! Equal values of a column and an organization have equal commitments. Without the key, a value cannot be guessed from
//! its commitment, even if there are only few possible values.

use super::encoding::{Digest, field_length, write_field};
use super::hex;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use uuid::Uuid;

/// The least bytes of a key: as many as the output of the hash (RFC 2104 section 3).
const KEY_BYTES: usize = 32;

/// A key for commitments, and the id by which events name it.
pub struct CommitmentKey {
    key: hmac::Key,
    id: String,
}

/// The column that a value belongs to. Each part is a field of the authenticated record.
#[derive(Debug, Clone, Copy)]
pub struct ColumnPath<'a> {
    /// The organization of the event.
    pub organization: Uuid,
    /// Schema of the table, not quoted.
    pub table_schema: &'a str,
    /// Name of the table, not quoted.
    pub table_name: &'a str,
    /// Name of the column, not quoted.
    pub column: &'a str,
}

impl CommitmentKey {
    /// Reads the base64 of at least 32 bytes, as `openssl rand -base64 32` writes it.
    ///
    /// The error is the reason why the key cannot be used; it contains nothing of the key.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let secret = STANDARD.decode(text.trim_ascii()).map_err(|_| "it does not hold base64 on one line")?;
        if secret.len() < KEY_BYTES {
            return Err("it holds fewer than 32 bytes");
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        let id = hex::encode(&authenticate(&key, &[b"pg_tenancy/commitment-key/1"])[..8]);
        Ok(CommitmentKey { key, id })
    }

    /// The id of the key: 16 hexadecimal digits that reveal nothing about the key.
    ///
    /// The digits are the first 8 bytes of an HMAC under the key (`docs/audit-format.md`, Payload).
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The commitment to the text of a value.
    pub fn commit(&self, place: &ColumnPath, text: &[u8]) -> Digest {
        self.commit_pieces(place, text.len(), |piece| piece(text))
    }

    /// The commitment to a text of `len` bytes, which `text` passes on piece by piece.
    pub fn commit_pieces(&self, place: &ColumnPath, len: usize, text: impl FnOnce(&mut dyn FnMut(&[u8]))) -> Digest {
        let mut context = hmac::Context::with_key(&self.key);
        let fields = [
            b"pg_tenancy/commitment/1",
            &place.organization.as_bytes()[..],
            place.table_schema.as_bytes(),
            place.table_name.as_bytes(),
            place.column.as_bytes(),
        ];
        for field in fields {
            write_field(field, |bytes| context.update(bytes));
        }
        context.update(&field_length(len));
        text(&mut |piece| context.update(piece));
        finish(context)
    }
}

/// HMAC-SHA256 over a record of these fields.
fn authenticate(key: &hmac::Key, fields: &[&[u8]]) -> Digest {
    let mut context = hmac::Context::with_key(key);
    for field in fields {
        write_field(field, |bytes| context.update(bytes));
    }
    finish(context)
}

fn finish(context: hmac::Context) -> Digest {
    let mut digest = Digest::default();
    digest.copy_from_slice(context.sign().as_ref());
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: ColumnPath =
        ColumnPath { organization: Uuid::nil(), table_schema: "app", table_name: "member", column: "email" };

    fn key(byte: u8) -> CommitmentKey {
        CommitmentKey::parse(&format!("{}\n", STANDARD.encode([byte; 32]))).unwrap()
    }

    #[test]
    fn equal_values_of_a_place_have_equal_commitments_and_no_others() {
        let commitment = key(1).commit(&PLACE, b"x");
        assert_eq!(commitment, key(1).commit(&PLACE, b"x"));
        for (key, place, text) in [
            (key(2), PLACE, &b"x"[..]),
            (key(1), ColumnPath { organization: Uuid::max(), ..PLACE }, b"x"),
            (key(1), ColumnPath { table_schema: "public", ..PLACE }, b"x"),
            (key(1), ColumnPath { table_name: "members", ..PLACE }, b"x"),
            (key(1), ColumnPath { column: "phone", ..PLACE }, b"x"),
            (key(1), PLACE, b"y"),
            (key(1), PLACE, b""),
        ] {
            assert_ne!(commitment, key.commit(&place, text), "{place:?}");
        }
    }

    #[test]
    fn fields_cannot_be_shifted_into_each_other() {
        let one = key(1).commit(&ColumnPath { table_name: "a", column: "bc", ..PLACE }, b"x");
        assert_ne!(one, key(1).commit(&ColumnPath { table_name: "ab", column: "c", ..PLACE }, b"x"));
    }

    #[test]
    fn a_key_is_base64_of_enough_bytes_and_has_an_id() {
        assert_eq!(key(1).id().len(), 16);
        assert_ne!(key(1).id(), key(2).id());
        let longer = CommitmentKey::parse(&STANDARD.encode([1; 64])).unwrap();
        assert_ne!(longer.id(), key(1).id());
        for text in ["", "x", "not base64!", &STANDARD.encode([1; 31]), "AAAA\nAAAA"] {
            let refusal = CommitmentKey::parse(text).err().unwrap();
            assert!(text.is_empty() || !refusal.contains(text), "{refusal}");
        }
    }
}
