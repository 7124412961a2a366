//! The lines of a bundle. Moments are microseconds since 1970, UTC; hashes and bytes are lower-case hexadecimal digits.

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
    Manifest(Manifest),
    Checkpoint(Box<Checkpoint>),
    Head(Head),
    Range(Range),
    Actor(Box<event::Actor>),
    Withheld(Withheld),
    Event(Box<Event>),
    Absent(Absent),
    Evidence(Box<Evidence>),
    End(Box<End>),
}

impl Line {
    /// The line as it is written, without the newline.
    pub fn to_bytes(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }
}

/// What the bundle is of. The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: String,
    pub organization: Uuid,
    /// The period that was asked for, `from` included and `to` not; absent for no bound.
    pub from: Option<i64>,
    pub to: Option<i64>,
    /// The positions that are here: all from `first` to `last`; none if `last` is `first` - 1.
    pub first: i64,
    pub last: i64,
    pub evidence: i64,
    /// How the positions were chosen, in words.
    pub query: String,
    pub incarnation: String,
    pub exported_at: i64,
    pub exporter: Exporter,
    /// Version of the extension.
    pub extension: String,
}

/// Who exported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exporter {
    /// The database role that logged in.
    pub session_user: String,
    /// Of the context, if there was one.
    pub subject: Option<String>,
    pub issuer: Option<String>,
}

/// The checkpoint that covers the bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    pub incarnation: String,
    pub number: i64,
    pub made_at: i64,
    pub block: i64,
    pub block_hash: Hash,
    pub heads: i64,
    pub heads_root: Hash,
    pub previous: Option<Hash>,
    /// The signed note.
    pub note: String,
    /// That the entry is the last one of the log.
    pub proof: Vec<Hash>,
    /// That the log continues an earlier state of itself.
    pub earlier: Option<Earlier>,
    /// The keys that the database signs with.
    pub keys: Vec<Key>,
}

/// The proof that the log begins with the one of an earlier checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Earlier {
    pub number: i64,
    pub proof: Vec<Hash>,
}

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    pub epoch: i64,
    /// `name+id+key`, as C2SP writes it.
    pub key: String,
}

impl Checkpoint {
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

/// Where the organization stood at the checkpoint, and that the checkpoint says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub position: i64,
    pub chain: Hash,
    pub root: Hash,
    /// Its place among the heads of the checkpoint, from 0.
    pub index: i64,
    pub proof: Vec<Hash>,
}

/// What stood before the first position, and that the tree up to the last one is the beginning of the head's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The chain value at `first` - 1; of position 0, the genesis.
    pub chain: Hash,
    /// The roots of the perfect subtrees of the first `first` - 1 leaves, the largest first.
    pub frontier: Vec<Hash>,
    pub proof: Vec<Hash>,
}

/// An actor of whom only the digest is told: who is no member of the organization, in an export by a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withheld {
    pub id: Uuid,
    pub digest: Hash,
}

/// An event with its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub position: i64,
    pub id: Uuid,
    pub actor: Uuid,
    pub transaction: u64,
    pub ordinal: i32,
    pub occurred_at: i64,
    pub operation: String,
    pub domain: String,
    pub table_schema: Option<String>,
    pub table_name: Option<String>,
    pub row_key: Option<String>,
    pub result: String,
    pub reason: Option<String>,
    /// The text of the payload; absent with its salt when it was erased.
    pub payload: Option<String>,
    pub salt: Option<Bytes>,
    pub payload_digest: Hash,
    pub encoding: i16,
    pub previous: Hash,
    pub hash: Hash,
    pub chain: Hash,
    /// Only of an event outside of the positions of the bundle: that it is in the tree of the head.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub proof: Option<Vec<Hash>>,
}

impl Event {
    /// The event of a row, at its position and with the value of the chain there.
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

    /// The hash of the content under the payload digest that it states.
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

/// A position whose event the database had no more when it exported: archived, for instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absent {
    pub position: i64,
    pub id: Uuid,
    pub hash: Hash,
    pub chain: Hash,
}

/// An artifact: what was registered, in which event, and the signed statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    pub evidence: evidence::Evidence,
    /// The event of the registration.
    pub registration: Uuid,
    pub envelope: Envelope,
}

/// The last line: a digest over the bytes of all lines before, and a signed statement with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    pub lines: u64,
    pub digest: Hash,
    pub envelope: Envelope,
}

/// What the statement about the whole bundle says.
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

/// The statement about the whole bundle, as JSON.
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

/// Digests as they stand in lines.
pub fn hashes(digests: impl IntoIterator<Item = Digest>) -> Vec<Hash> {
    digests.into_iter().map(Hash).collect()
}

/// And back.
pub fn digests(hashes: &[Hash]) -> Vec<Digest> {
    hashes.iter().map(|hash| hash.0).collect()
}
