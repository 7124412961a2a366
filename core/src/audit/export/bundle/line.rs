//! The lines of a bundle.
//!
//! Times are in microseconds since 1970 UTC. Hashes and bytes are lower-case hexadecimal digits. A position counts the
//! events of the organization from 1; a leaf counts its batches from 1.

use super::PREDICATE;
use crate::audit::export::evidence;
use crate::audit::export::statement::{Envelope, STATEMENT, Statement, Subject};
use crate::audit::format::batch::{Malformed, PackedContent};
use crate::audit::format::batch_row::BatchRow;
use crate::audit::format::encoding::Digest;
use crate::audit::format::event;
use crate::audit::format::hex::{self, Bytes, Hash};
use crate::audit::log::{checkpoint, merkle};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use uuid::Uuid;

/// A line, of the kind that its member `type` names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Line {
    /// `manifest`: the contents of the bundle. The first line.
    Manifest(Manifest),
    /// `checkpoint`: the checkpoint that covers the bundle. The second line.
    Checkpoint(Box<Checkpoint>),
    /// `head`: the organization's head at the checkpoint. The third line.
    Head(Head),
    /// `range`: the state before the first position. The fourth line.
    Range(Range),
    /// `actor`: an actor, before the first batch that names it.
    Actor(Box<event::Actor>),
    /// `withheld`: in place of an actor who is not disclosed.
    Withheld(Withheld),
    /// `batch`: a batch of events with its position.
    Batch(Box<Batch>),
    /// `absent`: the place of a batch that the database no longer had.
    Absent(Absent),
    /// `evidence`: a registered artifact.
    Evidence(Box<Evidence>),
    /// `end`: the digest over all lines before. The last line.
    End(Box<End>),
}

impl Line {
    /// The line as it is written, without the newline.
    pub fn to_bytes(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }
}

/// The contents of the bundle. The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of the format, [`FORMAT`](super::FORMAT).
    pub format: String,
    /// The organization whose history the bundle contains.
    pub organization: Uuid,
    /// Start of the requested period, included; absent for no bound.
    pub from: Option<i64>,
    /// End of the requested period, excluded; absent for no bound.
    pub to: Option<i64>,
    /// The first position in the bundle, which has all positions up to `last`. A batch begins with it.
    pub first: i64,
    /// The last position in the bundle, with which a batch ends; `first` - 1 if the bundle has no positions.
    pub last: i64,
    /// The number of lines of kind `evidence`.
    pub evidence: i64,
    /// How the positions were chosen, in words.
    pub query: String,
    /// Name of the incarnation, the same as in the checkpoint.
    pub incarnation: String,
    /// Time of the export.
    pub exported_at: i64,
    /// Who exported the bundle.
    pub exporter: Exporter,
    /// Version of the extension.
    pub extension: String,
}

/// Who exported the bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exporter {
    /// The database role that logged in.
    pub session_user: String,
    /// `sub` of the context; absent without a context.
    pub subject: Option<String>,
    /// `iss` of the context; absent without a context.
    pub issuer: Option<String>,
}

/// The checkpoint that covers the bundle: the fields of its entry, its note, and proofs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Name of the incarnation; each has a log of its own.
    pub incarnation: String,
    /// The place in that log, from 1, which is also the size of the signed log.
    pub number: i64,
    /// Time of the checkpoint.
    pub made_at: i64,
    /// Number of the newest block.
    pub block: i64,
    /// Hash of that block.
    pub block_hash: Hash,
    /// The number of organizations that have a head.
    pub heads: i64,
    /// The root of the tree over these heads.
    pub heads_root: Hash,
    /// The digest of the previous checkpoint, of whatever incarnation; absent in the very first.
    pub previous: Option<Hash>,
    /// The text of the signed note.
    pub note: String,
    /// The inclusion proof that the entry is the last leaf of the log.
    pub proof: Vec<Hash>,
    /// The proof that the log continues an earlier checkpoint, if the export asked for it.
    pub earlier: Option<Earlier>,
    /// The public keys of the database, which prove nothing by themselves.
    pub keys: Vec<Key>,
}

/// The proof that the log begins with the log of an earlier checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Earlier {
    /// Number of the earlier checkpoint.
    pub number: i64,
    /// The consistency proof between the two sizes of the log (RFC 9162 section 2.1.4).
    pub proof: Vec<Hash>,
}

/// A public key that signs checkpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// The epoch of the key, as `tenancy.signing_key` has it.
    pub epoch: i64,
    /// `name+id+key` in the form of C2SP.
    pub key: String,
}

impl Checkpoint {
    /// The entry of the log, whose digest the proof refers to.
    pub fn entry(&self) -> checkpoint::Entry {
        checkpoint::Entry {
            incarnation: self.incarnation.clone(),
            number: self.number,
            made_at: self.made_at,
            block: self.block,
            block_hash: self.block_hash.0,
            heads: self.heads,
            heads_root: self.heads_root.0,
            previous: self.previous.map(|previous| previous.0),
        }
    }
}

/// The organization's head at the checkpoint, with the proof that the checkpoint covers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The newest position, which is the number of the organization's events.
    pub position: i64,
    /// The number of leaves of the organization's tree, which is the number of its batches.
    pub leaves: i64,
    /// The chain value at that position.
    pub chain: Hash,
    /// The root of the organization's tree over that many batches.
    pub root: Hash,
    /// The place among the heads of the checkpoint, from 0.
    pub index: i64,
    /// The inclusion proof of the head in the tree of heads (RFC 9162 section 2.1.3).
    pub proof: Vec<Hash>,
}

/// The state before the first position, with the proof that the tree at the last position begins the head's tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The number of leaves before the first position: of the batches that end before it.
    pub leaves: i64,
    /// The chain value at `first` - 1; for position 0 the genesis.
    pub chain: Hash,
    /// The roots of the perfect subtrees of these leaves, the largest first.
    pub frontier: Vec<Hash>,
    /// The consistency proof between the tree that ends with the last position and that of the head (RFC 9162 section
    /// 2.1.4).
    pub proof: Vec<Hash>,
}

/// An actor of whom the bundle contains only the digest.
///
/// An export by a member withholds actors who are not members of the organization.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withheld {
    /// Id of the actor, as events name it.
    pub id: Uuid,
    /// The digest of the actor.
    pub digest: Hash,
}

/// A batch of events with its position. The organization is that of the manifest.
///
/// The events have the positions from [`Batch::position`] on, and the ordinals from [`Batch::ordinal`] on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// The position of the first event in the organization's order, from 1.
    pub position: i64,
    /// Id of the batch and of its first event (UUID version 7); its last 12 bits are 0.
    pub id: Uuid,
    /// Id of the actor, whose line precedes the batch.
    pub actor: Uuid,
    /// The 64-bit id of the top-level transaction.
    pub transaction: u64,
    /// The place of the first event among those of the same transaction and organization, from 1.
    pub ordinal: i32,
    /// The operation, such as `insert`, `update`, `delete` or `truncate`.
    pub operation: String,
    /// The permission domain of the table.
    pub domain: String,
    /// Schema of the changed table.
    pub table_schema: Option<String>,
    /// Name of the changed table.
    pub table_name: Option<String>,
    /// `success`, `denied` or `failed`.
    pub result: String,
    /// The stated reason, for operations that require one.
    pub reason: Option<String>,
    /// The events, at least one and at most [`MAX_EVENTS`](crate::audit::format::batch::MAX_EVENTS).
    pub events: Vec<Event>,
    /// Version of the encoding of the hashed records.
    pub encoding: i16,
    /// The `prev_hash` of the batch.
    pub previous: Hash,
    /// The hash of the batch.
    pub hash: Hash,
    /// The chain value at the position of the last event; only with a batch in the range of the bundle.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub chain: Option<Hash>,
    /// The number of the batch's leaf in the organization's tree, from 1.
    ///
    /// Leaf and proof stand only with a batch outside of the positions of the bundle, where no chain leads to it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leaf: Option<i64>,
    /// The inclusion proof of that leaf in the tree of the head.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub proof: Option<Vec<Hash>>,
}

/// An event of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Time of the change by the server's clock.
    pub occurred_at: i64,
    /// The primary key of the row as the text of a JSON object.
    pub row_key: Option<String>,
    /// The text of the payload; absent together with the salt after an erasure.
    pub payload: Option<String>,
    /// The 16 random bytes that the payload's digest covers; absent after an erasure.
    pub salt: Option<Bytes>,
    /// Digest of salt and payload.
    pub payload_digest: Hash,
}

impl Batch {
    /// The batch of a row, whose last event has position `last` and chain value `chain`.
    ///
    /// Errors: the row has no events that can be read.
    pub fn new(row: BatchRow<String, Vec<u8>>, last: i64, chain: Digest) -> Result<Self, Malformed> {
        let events = events(&row)?;
        Ok(Batch {
            position: last.saturating_sub(i64::from(row.events) - 1),
            id: row.id,
            actor: row.actor,
            transaction: row.transaction,
            ordinal: row.ordinal,
            operation: row.operation,
            domain: row.domain,
            table_schema: row.table_schema,
            table_name: row.table_name,
            result: row.result,
            reason: row.reason,
            events,
            encoding: row.encoding,
            previous: Hash(row.previous),
            hash: Hash(row.hash),
            chain: Some(Hash(chain)),
            leaf: None,
            proof: None,
        })
    }

    /// The same batch outside of the positions of a bundle, as this leaf of the tree with this proof.
    pub fn elsewhere(self, leaf: i64, proof: Vec<Digest>) -> Self {
        Batch { chain: None, leaf: Some(leaf), proof: Some(hashes(proof)), ..self }
    }

    /// The position of the last event; `None` if it is out of range.
    pub fn last(&self) -> Option<i64> {
        self.position.checked_add(i64::try_from(self.events.len()).ok()?)?.checked_sub(1)
    }

    /// The hash that the content requires, with the payload digests that the line states.
    ///
    /// `None` for more events than ordinals can count.
    pub fn content_hash(&self, organization: Uuid, actor_digest: &Digest) -> Option<Digest> {
        let events = i32::try_from(self.events.len()).ok()?;
        self.ordinal.checked_add(events)?;
        let header = event::Header {
            id: self.id,
            organization,
            actor: self.actor,
            actor_digest,
            transaction: self.transaction,
            ordinal: self.ordinal,
            events,
            operation: &self.operation,
            domain: &self.domain,
            table_schema: self.table_schema.as_deref(),
            table_name: self.table_name.as_deref(),
            result: &self.result,
            reason: self.reason.as_deref(),
        };
        let root = merkle::root_of(self.events.iter().map(Event::digest));
        Some(header.hash(&root, &self.previous.0))
    }
}

impl Event {
    /// The digest of the event, with the payload digest that the line states.
    fn digest(&self) -> Digest {
        event::event_digest(self.occurred_at, self.row_key.as_deref(), &self.payload_digest.0)
    }
}

/// The events of a row. What the columns of a single event say is not changed, even if it is contradictory.
fn events(row: &BatchRow<String, Vec<u8>>) -> Result<Vec<Event>, Malformed> {
    if let (1, None, Some(digest)) = (row.events, &row.packed, row.payload_digest) {
        return Ok(vec![Event {
            occurred_at: row.occurred_at,
            row_key: row.row_key.clone(),
            payload: row.payload.clone(),
            salt: row.payload_salt.clone().map(Bytes),
            payload_digest: Hash(digest),
        }]);
    }
    let events = row.events()?;
    let events = events.list(row.occurred_at)?.into_iter().map(|event| {
        let (payload, salt) = match event.content {
            PackedContent::Payload { salt, text } => (Some(text.to_owned()), Some(Bytes(salt.to_vec()))),
            PackedContent::Erased(_) => (None, None),
        };
        Event {
            occurred_at: event.occurred_at,
            row_key: event.row_key.map(str::to_owned),
            payload,
            salt,
            payload_digest: Hash(event.payload_digest()),
        }
    });
    Ok(events.collect())
}

/// The place of a batch that the database no longer had at the export, because it was archived, for instance.
///
/// How many events the batch had is not stated. They are at the positions after that of the line before, up to
/// [`Absent::position`]: at the beginning of the range, from the first position of the manifest on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absent {
    /// The position of the batch's last event in the organization's order, as the chain covers it.
    pub position: i64,
    /// Id of the batch.
    pub id: Uuid,
    /// The hash of the batch when it was sealed.
    pub hash: Hash,
    /// The chain value at the position.
    pub chain: Hash,
}

/// A registered artifact, with the event of the registration and a signed statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The registered fields.
    pub evidence: evidence::Evidence,
    /// Id of the event of the registration.
    pub registration: Uuid,
    /// The signed statement about the artifact.
    pub envelope: Envelope,
}

/// The last line: a digest over the bytes of all lines before, and a signed statement with the digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The number of lines before this one.
    pub lines: u64,
    /// The SHA-256 over the bytes of those lines, with their newlines.
    pub digest: Hash,
    /// The signed statement about the whole bundle.
    pub envelope: Envelope,
}

/// The predicate of the statement about the whole bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Whole {
    format: String,
    organization: Uuid,
    first: i64,
    last: i64,
    incarnation: String,
    checkpoint: i64,
}

/// The in-toto statement about the whole bundle, as JSON.
///
/// `checkpoint` is the number of the checkpoint, and `digest` is the digest over the lines before the last one.
pub fn statement(manifest: &Manifest, checkpoint: i64, digest: &Digest) -> serde_json::Result<Vec<u8>> {
    let digest = BTreeMap::from([("sha256".to_owned(), hex::encode(digest))]);
    serde_json::to_vec(&Statement {
        kind: STATEMENT.into(),
        subject: vec![Subject { name: "bundle".into(), digest }],
        predicate_type: PREDICATE.into(),
        predicate: Whole {
            format: manifest.format.clone(),
            organization: manifest.organization,
            first: manifest.first,
            last: manifest.last,
            incarnation: manifest.incarnation.clone(),
            checkpoint,
        },
    })
}

/// Converts digests to the type that lines contain.
pub fn hashes(digests: impl IntoIterator<Item = Digest>) -> Vec<Hash> {
    digests.into_iter().map(Hash).collect()
}

/// Converts hashes of a line to digests.
pub fn digests(hashes: &[Hash]) -> Vec<Digest> {
    hashes.iter().map(|hash| hash.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::format::batch::{PackedEvent, pack};
    use crate::audit::format::event::{ENCODING, payload_digest};

    const TIME: i64 = 1_793_491_200_000_000;
    const SALT: [u8; 16] = [7; 16];
    const ACTOR: Digest = [9; 32];

    fn packed_events() -> [PackedEvent<'static>; 3] {
        let payload = |text| PackedContent::Payload { salt: SALT, text };
        let erased = PackedContent::Erased(payload_digest(&SALT, "{2}"));
        [payload("{1}"), erased, payload("{3}")].map(|content| PackedEvent {
            occurred_at: TIME,
            row_key: Some(r#"{"id":1}"#),
            content,
        })
    }

    /// A row without a hash: of three events, or of the first of them alone.
    fn row(events: i32) -> BatchRow<String, Vec<u8>> {
        let one = (events == 1).then_some(());
        BatchRow {
            id: Uuid::from_u128(0x1000),
            organization: Uuid::from_u128(2),
            actor: Uuid::from_u128(3),
            transaction: 4,
            ordinal: 5,
            events,
            occurred_at: TIME,
            operation: "update".into(),
            domain: "finding".into(),
            table_schema: Some("public".into()),
            table_name: None,
            result: "success".into(),
            reason: None,
            row_key: one.map(|()| r#"{"id":1}"#.into()),
            payload: one.map(|()| "{1}".into()),
            payload_salt: one.map(|()| SALT.to_vec()),
            payload_digest: one.map(|()| payload_digest(&SALT, "{1}")),
            packed: (events > 1).then(|| pack(TIME, &packed_events())),
            row_hashes: None,
            encoding: ENCODING,
            previous: [6; 32],
            hash: [0; 32],
        }
    }

    #[test]
    fn a_row_is_unfolded_and_its_hash_is_that_of_the_content() {
        for events in [1, 3] {
            let row = row(events);
            let list = row.events().unwrap();
            let digests = list.list(TIME).unwrap().into_iter().map(|event| event.digest());
            let hash = row.header(&ACTOR).hash(&merkle::root_of(digests), &row.previous);
            drop(list);
            let batch = Batch::new(row.clone(), 12, [8; 32]).unwrap();
            assert_eq!(batch.content_hash(row.organization, &ACTOR), Some(hash));
            assert_eq!((batch.last(), batch.events.len()), (Some(12), events as usize));
            assert_eq!(batch.events[0].payload.as_deref(), Some("{1}"));
        }
        let batch = Batch::new(row(3), 12, [8; 32]).unwrap();
        assert_eq!((&batch.events[1].payload, &batch.events[1].salt), (&None, &None));
        assert_eq!(batch.events[1].payload_digest, Hash(payload_digest(&SALT, "{2}")));
    }

    #[test]
    fn a_single_event_is_shown_as_it_is_stored_and_what_cannot_be_unfolded_is_refused() {
        let changed = BatchRow { payload: None, payload_digest: Some([1; 32]), ..row(1) };
        let batch = Batch::new(changed, 1, [8; 32]).unwrap();
        let event = &batch.events[0];
        assert_eq!((&event.payload, &event.salt), (&None, &Some(Bytes(SALT.to_vec()))));
        assert_eq!(event.payload_digest, Hash([1; 32]));
        for broken in [
            BatchRow { payload_digest: None, ..row(1) },
            BatchRow { events: 2, ..row(3) },
            BatchRow { events: 4, ..row(3) },
            BatchRow { events: 129, ..row(3) },
            BatchRow { events: 0, ..row(1) },
            BatchRow { packed: Some(vec![1; 5]), ..row(3) },
            BatchRow { packed: None, ..row(3) },
        ] {
            let why = format!("{broken:?}");
            assert!(Batch::new(broken, 12, [8; 32]).is_err(), "{why}");
        }
    }
}
