//! The lines of a bundle.
//!
//! Times are in microseconds since 1970 UTC. Hashes and bytes are lower-case hexadecimal digits.

use super::PREDICATE;
use crate::audit::export::evidence;
use crate::audit::export::statement::{Envelope, STATEMENT, Statement, Subject};
use crate::audit::format::encoding::Digest;
use crate::audit::format::event;
use crate::audit::format::event_row::EventRow;
use crate::audit::format::hex::{self, Bytes, Hash};
use crate::audit::log::checkpoint;
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
    /// `actor`: an actor, before the first event that names it.
    Actor(Box<event::Actor>),
    /// `withheld`: in place of an actor who is not disclosed.
    Withheld(Withheld),
    /// `event`: an event with its position.
    Event(Box<Event>),
    /// `absent`: a position whose event the database no longer had.
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
    /// The first position in the bundle, which has all positions up to `last`.
    pub first: i64,
    /// The last position in the bundle; `first` - 1 if the bundle has no positions.
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
    /// The newest position, which is also the number of leaves of the tree.
    pub position: i64,
    /// The chain value at that position.
    pub chain: Hash,
    /// The root of the organization's tree over that many events.
    pub root: Hash,
    /// The place among the heads of the checkpoint, from 0.
    pub index: i64,
    /// The inclusion proof of the head in the tree of heads (RFC 9162 section 2.1.3).
    pub proof: Vec<Hash>,
}

/// The state before the first position, with the proof that the tree at the last position begins the head's tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The chain value at `first` - 1; for position 0 the genesis.
    pub chain: Hash,
    /// The roots of the perfect subtrees of the first `first` - 1 leaves, the largest first.
    pub frontier: Vec<Hash>,
    /// The consistency proof between the trees of `last` leaves and of the head (RFC 9162 section 2.1.4).
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

/// An event with its position. The organization is that of the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The position in the organization's order, from 1.
    pub position: i64,
    /// Time-ordered id (UUID version 7).
    pub id: Uuid,
    /// Id of the actor, whose line precedes the event.
    pub actor: Uuid,
    /// The 64-bit id of the top-level transaction.
    pub transaction: u64,
    /// The place among the events of the same transaction and organization, from 1.
    pub ordinal: i32,
    /// Time of the change by the server's clock.
    pub occurred_at: i64,
    /// The operation, such as `insert`, `update`, `delete` or `truncate`.
    pub operation: String,
    /// The permission domain of the table.
    pub domain: String,
    /// Schema of the changed table.
    pub table_schema: Option<String>,
    /// Name of the changed table.
    pub table_name: Option<String>,
    /// The primary key of the row as the text of a JSON object.
    pub row_key: Option<String>,
    /// `success`, `denied` or `failed`.
    pub result: String,
    /// The stated reason, for operations that require one.
    pub reason: Option<String>,
    /// The text of the payload; absent together with the salt after an erasure.
    pub payload: Option<String>,
    /// The 16 random bytes that the payload's digest covers; absent after an erasure.
    pub salt: Option<Bytes>,
    /// Digest of salt and payload.
    pub payload_digest: Hash,
    /// Version of the encoding of the hashed records.
    pub encoding: i16,
    /// The `prev_hash` of the event.
    pub previous: Hash,
    /// The hash of the event.
    pub hash: Hash,
    /// The chain value at the event's position.
    pub chain: Hash,
    /// The inclusion proof in the tree of the head; only for an event outside of the positions of the bundle.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub proof: Option<Vec<Hash>>,
}

impl Event {
    /// The event of a row, at its position and with the chain value there.
    pub fn new(row: EventRow<String, Vec<u8>>, position: i64, chain: Digest) -> Self {
        Event {
            position,
            id: row.id,
            actor: row.actor,
            transaction: row.transaction,
            ordinal: row.ordinal,
            occurred_at: row.occurred_at,
            operation: row.operation,
            domain: row.domain,
            table_schema: row.table_schema,
            table_name: row.table_name,
            row_key: row.row_key,
            result: row.result,
            reason: row.reason,
            payload: row.payload,
            salt: row.payload_salt.map(Bytes),
            payload_digest: Hash(row.payload_digest),
            encoding: row.encoding,
            previous: Hash(row.previous),
            hash: Hash(row.hash),
            chain: Hash(chain),
            proof: None,
        }
    }

    /// The hash that the content requires, with the payload digest that the line states.
    pub fn content_hash(&self, organization: Uuid, actor_digest: &Digest) -> Digest {
        event::Header {
            id: self.id,
            organization,
            actor: self.actor,
            actor_digest,
            transaction: self.transaction,
            ordinal: self.ordinal,
            occurred_at: self.occurred_at,
            operation: &self.operation,
            domain: &self.domain,
            table_schema: self.table_schema.as_deref(),
            table_name: self.table_name.as_deref(),
            row_key: self.row_key.as_deref(),
            result: &self.result,
            reason: self.reason.as_deref(),
        }
        .hash(&self.payload_digest.0, &self.previous.0)
    }
}

/// A position whose event the database no longer had at the export, because it was archived, for instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absent {
    /// The position in the organization's order, from 1.
    pub position: i64,
    /// Id of the event.
    pub id: Uuid,
    /// The hash of the event when it was sealed.
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
