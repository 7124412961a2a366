//! The header of a batch of events and its actor, with the digests over both and over each event.

use super::encoding::{Digest, Record};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// Version of the canonical encoding, stored with each batch.
pub const ENCODING: i16 = 2;

/// Who acted and by which method, at the time of the event. The events of a transaction can share an actor.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Actor {
    /// Time-ordered id (UUID version 7), the key of `tenancy.event_actor`.
    pub id: Uuid,
    /// How the actor was admitted: `token`, `assumed`, `break-glass`, `elevated`, `maintenance`, or `none`.
    ///
    /// `none` is a database user without a context.
    pub method: String,
    /// `sub` of the verified token; absent without one.
    pub subject: Option<String>,
    /// `iss` of the verified token; absent without one.
    pub issuer: Option<String>,
    /// The role of the context within the organization, which is not a database role.
    pub role: Option<String>,
    /// The organization of the context, which may differ from that of the row.
    pub organization: Option<Uuid>,
    /// Session of the token: `sid`, `session_id` or `jti`.
    pub session_id: Option<String>,
    /// The request id that the caller passed to `tenancy.authenticate`.
    pub correlation_id: Option<String>,
    /// The stated reason, for methods that require one.
    pub reason: Option<String>,
    /// The database role that logged in.
    pub session_user: String,
    /// The database role in force, after SET ROLE or inside a SECURITY DEFINER function.
    pub current_user: String,
    /// IP address of the client; absent on a Unix-domain socket.
    pub client_address: Option<String>,
    /// The name that the client chose for itself; not verified.
    pub application_name: Option<String>,
    /// The break-glass grant under which the transaction was elevated; absent for every other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<Uuid>,
}

impl Actor {
    /// All texts, to be changed.
    pub fn texts(&mut self) -> impl Iterator<Item = &mut String> {
        let texts = [&mut self.method, &mut self.session_user, &mut self.current_user];
        let optional = [
            &mut self.subject,
            &mut self.issuer,
            &mut self.role,
            &mut self.session_id,
            &mut self.correlation_id,
            &mut self.reason,
            &mut self.client_address,
            &mut self.application_name,
        ];
        texts.into_iter().chain(optional.into_iter().flatten())
    }

    /// The digest of the actor, which is part of each event's hash (`docs/audit-format.md`, Actor).
    ///
    /// Without a grant it is the one of before there were grants.
    pub fn digest(&self) -> Digest {
        let record = Record::new(if self.grant.is_some() { "pg_tenancy/actor/2" } else { "pg_tenancy/actor/1" })
            .bytes(self.id.as_bytes())
            .text(&self.method)
            .optional(self.subject.as_deref())
            .optional(self.issuer.as_deref())
            .optional(self.role.as_deref())
            .optional(self.organization.map(|id| id.to_string()).as_deref())
            .optional(self.session_id.as_deref())
            .optional(self.correlation_id.as_deref())
            .optional(self.reason.as_deref())
            .text(&self.session_user)
            .text(&self.current_user)
            .optional(self.client_address.as_deref())
            .optional(self.application_name.as_deref());
        match &self.grant {
            Some(grant) => record.bytes(grant.as_bytes()).digest(),
            None => record.digest(),
        }
    }
}

/// The header of a batch: what its events have in common, without the hashes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Header<'a> {
    /// Id of the batch and of its first event (UUID version 7); its last 12 bits are 0.
    pub id: Uuid,
    /// The organization whose chain the batch belongs to; the nil UUID for no organization.
    pub organization: Uuid,
    /// Id of the actor, the key of `tenancy.event_actor`.
    pub actor: Uuid,
    /// [`Actor::digest`] of that actor.
    pub actor_digest: &'a Digest,
    /// The 64-bit id of the top-level transaction.
    pub transaction: u64,
    /// The place of the first event among those of the same transaction and organization, from 1, without gaps.
    pub ordinal: i32,
    /// The number of events.
    pub events: i32,
    /// The operation, such as `insert`, `update`, `delete` or `truncate`.
    pub operation: &'a str,
    /// The permission domain of the table.
    pub domain: &'a str,
    /// Schema of the changed table; absent for events about no table.
    pub table_schema: Option<&'a str>,
    /// Name of the changed table; absent for events about no table.
    pub table_name: Option<&'a str>,
    /// `success`, `denied` or `failed`.
    pub result: &'a str,
    /// The stated reason, for operations that require one.
    pub reason: Option<&'a str>,
}

impl Header<'_> {
    /// The hash of the batch, over the header, the root over its events, and the hash of the previous batch.
    ///
    /// For ordinal 1, `previous` is the chain value of the newest sealed entry (`docs/audit-format.md`, Batch).
    pub fn hash(&self, root: &Digest, previous: &Digest) -> Digest {
        Record::new("pg_tenancy/batch/2")
            .bytes(self.id.as_bytes())
            .bytes(self.organization.as_bytes())
            .bytes(self.actor.as_bytes())
            .bytes(self.actor_digest)
            // A transaction id has 64 bits without a sign; the eight bytes are the same.
            .integer(self.transaction.cast_signed())
            .integer(i64::from(self.ordinal))
            .integer(i64::from(self.events))
            .text(self.operation)
            .text(self.domain)
            .optional(self.table_schema)
            .optional(self.table_name)
            .text(self.result)
            .optional(self.reason)
            .bytes(root)
            .bytes(previous)
            .digest()
    }
}

/// The length of a payload's salt.
pub const SALT: usize = 16;

/// What the bytes of a payload begin with. Records and leaves begin with 00, nodes of trees with 01.
const PAYLOAD: u8 = 2;
/// What the data of a leaf begin with that is an event without a key of its row. Those of other leaves begin with 00 or
/// are shorter.
const WITHOUT_KEY: u8 = 1;
/// As [`WITHOUT_KEY`], with a key.
const WITH_KEY: u8 = 2;
/// The data of a leaf before the key: one of the bytes above, the digest of the payload, the time.
const BEFORE_KEY: usize = 1 + size_of::<Digest>() + size_of::<i64>();

/// The digest of a payload, salted so that it does not reveal an erased payload.
///
/// Without the salt, the digest of a payload with few possible values could be found by trying all of them. The salt
/// has one length, so the bytes have one reading.
pub fn payload_digest(salt: &[u8; SALT], payload: &str) -> Digest {
    Sha256::new().chain_update([PAYLOAD]).chain_update(salt).chain_update(payload).finalize().into()
}

/// The digest of an event: the hash of its leaf in the tree of its batch (`docs/audit-format.md`, Event).
///
/// The place in the batch has no field, because the leaf has it in the tree. A key of 13 bytes leaves the digest with
/// one block of SHA-256.
pub fn event_digest(occurred_at: i64, row_key: Option<&str>, payload_digest: &Digest) -> Digest {
    let before_key = before_key(occurred_at, row_key.is_some(), payload_digest);
    Sha256::new().chain_update([0]).chain_update(before_key).chain_update(row_key.unwrap_or_default()).finalize().into()
}

/// The data of the leaf, which RFC 6962 section 2.1 hashes after a byte 00.
pub fn event_leaf(occurred_at: i64, row_key: Option<&str>, payload_digest: &Digest) -> Vec<u8> {
    let before_key = before_key(occurred_at, row_key.is_some(), payload_digest);
    [&before_key, row_key.unwrap_or_default().as_bytes()].concat()
}

fn before_key(occurred_at: i64, has_key: bool, payload_digest: &Digest) -> [u8; BEFORE_KEY] {
    let mut data = [0; BEFORE_KEY];
    data[0] = if has_key { WITH_KEY } else { WITHOUT_KEY };
    data[1..33].copy_from_slice(payload_digest);
    data[33..].copy_from_slice(&occurred_at.to_be_bytes());
    data
}

/// A time-ordered id (UUID version 7, RFC 9562 section 5.7) for a time in microseconds since 1970 UTC.
///
/// The 12 bits after the milliseconds hold their fraction (section 6.2, method 3), so that ids of one backend sort by
/// time. A time before 1970 counts as 1970.
pub fn time_ordered_id(microseconds: i64, random: [u8; 8]) -> Uuid {
    let microseconds = microseconds.max(0).unsigned_abs();
    let fraction = ((microseconds % 1000) * 4096 / 1000) as u16;
    let mut rest = [0; 10];
    rest[..2].copy_from_slice(&fraction.to_be_bytes());
    rest[2..].copy_from_slice(&random);
    uuid::Builder::from_unix_timestamp_millis(microseconds / 1000, &rest).into_uuid()
}

/// The bits of an event's id that hold its place in the batch.
const PLACE: u128 = 0xfff;

/// The id of a batch: a time-ordered id whose last 12 bits are 0.
pub fn batch_id(microseconds: i64, random: [u8; 8]) -> Uuid {
    batch_of(time_ordered_id(microseconds, random))
}

/// The id of the event at a place of a batch, from 0. The first event has the id of the batch.
pub fn event_id(batch: Uuid, place: i32) -> Uuid {
    Uuid::from_u128(batch.as_u128() | u128::from(place.unsigned_abs()) & PLACE)
}

/// The id of the batch that an event is in.
pub fn batch_of(event: Uuid) -> Uuid {
    Uuid::from_u128(event.as_u128() & !PLACE)
}

/// The place of an event in its batch, from 0.
pub fn place_of(event: Uuid) -> i32 {
    (event.as_u128() & PLACE) as i32
}

/// An actor with this text in every text field, for tests.
#[cfg(test)]
pub(crate) fn actor_of(text: &str) -> Actor {
    let some = || Some(text.to_owned());
    Actor {
        id: Uuid::max(),
        method: text.into(),
        subject: some(),
        issuer: some(),
        role: some(),
        organization: Some(Uuid::max()),
        session_id: some(),
        correlation_id: some(),
        reason: some(),
        session_user: text.into(),
        current_user: text.into(),
        client_address: some(),
        application_name: some(),
        grant: Some(Uuid::max()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(digest: &Digest) -> Header<'_> {
        Header {
            id: Uuid::from_u128(1),
            organization: Uuid::from_u128(2),
            actor: Uuid::from_u128(3),
            actor_digest: digest,
            transaction: 4,
            ordinal: 5,
            events: 6,
            operation: "insert",
            domain: "finding",
            table_schema: Some("public"),
            table_name: Some("Finding"),
            result: "success",
            reason: None,
        }
    }

    #[test]
    fn each_part_of_a_batch_changes_its_hash() {
        let digest = [7; 32];
        let other = [8; 32];
        let base = header(&digest);
        let variants = [
            Header { id: Uuid::from_u128(9), ..base },
            Header { organization: Uuid::from_u128(9), ..base },
            Header { actor: Uuid::from_u128(9), ..base },
            Header { actor_digest: &other, ..base },
            Header { transaction: 9, ..base },
            Header { ordinal: 9, ..base },
            Header { events: 9, ..base },
            Header { operation: "delete", ..base },
            Header { domain: "x", ..base },
            Header { table_schema: None, ..base },
            Header { table_name: None, ..base },
            Header { result: "denied", ..base },
            Header { reason: Some(""), ..base },
        ];
        let hash = base.hash(&[0; 32], &[1; 32]);
        for variant in variants {
            assert_ne!(variant.hash(&[0; 32], &[1; 32]), hash, "{variant:?}");
        }
        assert_ne!(base.hash(&[2; 32], &[1; 32]), hash);
        assert_ne!(base.hash(&[0; 32], &[2; 32]), hash);
    }

    #[test]
    fn each_part_of_an_event_changes_its_digest_which_is_the_hash_of_a_leaf() {
        let base = event_digest(2, Some("{}"), &[3; 32]);
        let variants = [
            event_digest(9, Some("{}"), &[3; 32]),
            event_digest(2, Some(""), &[3; 32]),
            event_digest(2, None, &[3; 32]),
            event_digest(2, Some("{}"), &[9; 32]),
        ];
        assert!(variants.iter().all(|variant| *variant != base));
        assert_ne!(variants[1], variants[2], "an absent key is not an empty one");
        let long = "k".repeat(10_000);
        for row_key in [None, Some("{}"), Some(long.as_str())] {
            let leaf = [&[0], &event_leaf(2, row_key, &[3; 32])[..]].concat();
            assert_eq!(event_digest(2, row_key, &[3; 32]), <[u8; 32]>::from(Sha256::digest(leaf)));
        }
    }

    #[test]
    fn the_id_of_an_event_holds_its_batch_and_its_place() {
        let batch = batch_id(1_700_000_000_000_999, [0xff; 8]);
        assert_eq!((batch.get_version_num(), place_of(batch), batch_of(batch)), (7, 0, batch));
        let last = event_id(batch, 127);
        assert_eq!((last.get_version_num(), place_of(last), batch_of(last)), (7, 127, batch));
        assert!(batch < last && last < batch_id(1_700_000_000_001_999, [0; 8]));
    }

    #[test]
    fn an_id_holds_its_time_and_sorts_by_it() {
        let early = time_ordered_id(1_700_000_000_000_999, [0xff; 8]);
        let late = time_ordered_id(1_700_000_000_001_000, [0; 8]);
        let later = time_ordered_id(1_700_000_000_001_001, [0; 8]);
        assert!(early < late && late < later);
        assert_eq!(early.get_version_num(), 7);
        assert_eq!(early.get_timestamp().unwrap().to_unix(), (1_700_000_000, 0));
    }

    #[test]
    fn a_payload_without_its_salt_cannot_be_guessed_from_the_digest() {
        assert_ne!(payload_digest(&[1; 16], "{}"), payload_digest(&[2; 16], "{}"));
    }
}
