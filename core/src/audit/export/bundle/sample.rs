//! A history in memory and bundles of it, for the tests of reader and verifier.

use super::FORMAT;
use super::line::{
    self, Absent, Batch, Checkpoint, Earlier, Event, Evidence, Exporter, Head, Key, Line, Manifest, Range,
};
use super::writer::Writer;
use crate::audit::export::evidence;
use crate::audit::export::statement::Envelope;
use crate::audit::format::encoding::Digest;
use crate::audit::format::event::{Actor, ENCODING, event_id, payload_digest};
use crate::audit::format::hex::{self, Bytes, Hash};
use crate::audit::log::chain;
use crate::audit::log::checkpoint::{self, Heads};
use crate::audit::log::merkle::{self, Frontier, Leaves};
use crate::audit::log::signed_note::{self, Signer, Verifier};
use uuid::Uuid;

pub const ORGANIZATION: Uuid = Uuid::from_u128(0xa);
const INCARNATION: &str = "00112233445566778899aabbccddeeff";

/// The key that signs.
pub fn signer() -> Signer {
    Signer::parse("PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz", "").unwrap()
}

pub fn other_signer() -> Signer {
    let pem = "-----BEGIN PRIVATE \
        KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
    Signer::parse(pem, "other.example").unwrap()
}

pub fn key() -> Verifier {
    signer().verifier().clone()
}

/// The history of one organization, with two batches in each transaction; the last batch registers evidence.
pub struct History {
    pub actor: Actor,
    pub batches: Vec<Batch>,
    /// How many of the last batches the signed head does not count, although they are in its tree.
    pub hidden: usize,
    pub evidence: evidence::Evidence,
}

const SALT: [u8; 16] = [7; 16];

impl History {
    /// A history of so many batches.
    pub fn new(count: usize) -> Self {
        History::erasing(count, 0)
    }

    /// A history whose last batch but one records the erasure of the last event of a batch, unless that is 0.
    pub fn erasing(count: usize, erased: usize) -> Self {
        let actor = Actor {
            id: Uuid::from_u128(0xc),
            method: "token".into(),
            subject: Some("alice".into()),
            issuer: Some("https://issuer.example".into()),
            role: Some("admin".into()),
            organization: Some(ORGANIZATION),
            session_id: None,
            correlation_id: Some("r-1".into()),
            reason: None,
            session_user: "app".into(),
            current_user: "app".into(),
            client_address: Some("192.0.2.1".into()),
            application_name: None,
            grant: None,
        };
        let named = evidence::Evidence {
            organization: ORGANIZATION,
            events: vec![event_id(batch_id(2), 2), batch_id(3)],
            ..evidence::tests::evidence()
        };
        let mut history = History { actor, batches: Vec::new(), hidden: 0, evidence: named };
        for number in 1..=count {
            history.append(number, number == count, erased * usize::from(number + 1 == count));
        }
        history
    }

    /// Adds a batch of one, three or two events, that of the registration, or that of an erasure.
    fn append(&mut self, number: usize, registers: bool, erases: usize) {
        let position = self.position(number);
        let event = |place: i64, payload: String| Event {
            occurred_at: (position + place) * 1_000_000,
            row_key: Some(format!(r#"{{"id":{place}}}"#)),
            payload_digest: Hash(payload_digest(&SALT, &payload)),
            payload: Some(payload),
            salt: Some(Bytes(SALT.to_vec())),
        };
        let events = if registers {
            let record = hex::encode(&self.evidence.record());
            vec![event(0, format!(r#"{{"new":{{"record":"\\x{record}"}}}}"#))]
        } else if erases > 0 {
            let (id, digest) = self.last_event(erases);
            let digest = hex::encode(&digest);
            vec![event(0, format!(r#"{{"data":{{"event":"{id}","legal_basis":null,"payload_digest":"{digest}"}}}}"#))]
        } else {
            let payload = |place| format!(r#"{{"old":{{"status":"open"}},"new":{{"status":"é\n","n":{place}}}}}"#);
            (0..[2, 1, 3][number % 3]).map(|place| event(place, payload(place))).collect()
        };
        let head = self.chain(number);
        let before = self.batches.last().filter(|_| number.is_multiple_of(2));
        let mut batch = Batch {
            position,
            id: batch_id(number),
            actor: self.actor.id,
            transaction: 100 + (number as u64 - 1) / 2,
            ordinal: before.map_or(1, |before| before.ordinal + before.events.len() as i32),
            operation: if registers {
                "insert"
            } else if erases > 0 {
                "erase"
            } else {
                "update"
            }
            .into(),
            domain: "finding".into(),
            table_schema: Some(if registers { "tenancy" } else { "public" }.into()),
            table_name: Some(if registers { "evidence" } else { "finding" }.into()),
            result: "success".into(),
            reason: None,
            events,
            encoding: ENCODING,
            previous: before.map_or(Hash(head), |before| before.hash),
            hash: Hash([0; 32]),
            chain: None,
            leaf: None,
            proof: None,
        };
        self.seal(&mut batch, &head);
        self.batches.push(batch);
    }

    /// Gives a batch the hash that its content requires, and the chain value after `head`.
    pub fn seal(&self, batch: &mut Batch, head: &Digest) {
        batch.hash = Hash(batch.content_hash(ORGANIZATION, &self.actor.digest()).unwrap());
        batch.chain = Some(Hash(chain::extend(head, batch.last().unwrap(), &batch.hash.0)));
    }

    /// Computes the batches from this one on anew: the history of a database whose rows were changed before the seal.
    pub fn reseal(&mut self, from: usize) {
        for number in from..=self.batches.len() {
            let (head, position) = (self.chain(number), self.position(number));
            let mut batch = self.batches[number - 1].clone();
            batch.position = position;
            if number > from {
                batch.previous = if batch.ordinal > 1 { self.batches[number - 2].hash } else { Hash(head) };
            }
            self.seal(&mut batch, &head);
            self.batches[number - 1] = batch;
        }
    }

    /// The position at which this batch begins; for the number after the last one, that after the head.
    pub fn position(&self, number: usize) -> i64 {
        number.checked_sub(2).map_or(1, |before| self.batches[before].last().unwrap() + 1)
    }

    /// The chain value before this batch.
    pub fn chain(&self, number: usize) -> Digest {
        number.checked_sub(2).map_or(chain::genesis(ORGANIZATION), |before| self.batches[before].chain.unwrap().0)
    }

    /// Id and payload digest of the last event of a batch.
    fn last_event(&self, number: usize) -> (Uuid, Digest) {
        let events = &self.batches[number - 1].events;
        (event_id(batch_id(number), events.len() as i32 - 1), events.last().unwrap().payload_digest.0)
    }

    fn leaves(&self) -> Vec<Digest> {
        self.batches.iter().map(|batch| chain::leaf(batch.last().unwrap(), &batch.hash.0)).collect()
    }

    /// The head, with those of two other organizations.
    fn heads(&self) -> [checkpoint::Head; 3] {
        let leaves = self.leaves();
        let root = merkle::root(&mut Leaves(&leaves), 0, leaves.len() as u64).unwrap();
        let last = &self.batches[self.batches.len() - 1 - self.hidden];
        [0x1, 0xa, 0xf].map(|organization| checkpoint::Head {
            organization: Uuid::from_u128(organization),
            position: last.last().unwrap(),
            leaves: leaves.len() as i64,
            chain: last.chain.unwrap().0,
            root,
        })
    }

    /// A log of five checkpoints, the last of which covers this history.
    fn log(&self) -> Vec<checkpoint::Entry> {
        let entry = |number: i64| checkpoint::Entry {
            incarnation: INCARNATION.into(),
            number,
            made_at: 1_700_000_000_000_000 + number,
            block: number,
            block_hash: [5; 32],
            heads: 3,
            heads_root: if number == 5 { Heads::new(&self.heads()).root() } else { [9; 32] },
            previous: None,
        };
        (1..=5).map(entry).collect()
    }

    /// The signed note of checkpoint `number`.
    pub fn note(&self, number: usize, signer: &Signer) -> String {
        let log: Vec<Digest> = self.log().iter().map(checkpoint::Entry::leaf).collect();
        let root = merkle::root(&mut Leaves(&log[..number]), 0, number as u64).unwrap();
        let origin = format!("audit.example/{INCARNATION}");
        signer.sign(&signed_note::Checkpoint { origin, size: number as u64, root }.text()).unwrap()
    }

    /// The lines of an export of these batches, without the last line.
    pub fn lines(&self, first: usize, last: usize) -> Vec<Line> {
        let (leaves, heads, log) = (self.leaves(), self.heads(), self.log());
        let log_leaves: Vec<Digest> = log.iter().map(checkpoint::Entry::leaf).collect();
        let entry = &log[4];
        let manifest = Manifest {
            format: FORMAT.into(),
            organization: ORGANIZATION,
            from: Some(self.position(first) * 1_000_000),
            to: Some(self.position(last + 1) * 1_000_000),
            first: self.position(first),
            last: self.position(last + 1) - 1,
            evidence: 1,
            query: "by time".into(),
            incarnation: INCARNATION.into(),
            exported_at: 1_700_000_000_000_000,
            exporter: Exporter { session_user: "auditor".into(), subject: None, issuer: None },
            extension: "0.1.0".into(),
        };
        let checkpoint = Checkpoint {
            incarnation: entry.incarnation.clone(),
            number: entry.number,
            made_at: entry.made_at,
            block: entry.block,
            block_hash: Hash(entry.block_hash),
            heads: entry.heads,
            heads_root: Hash(entry.heads_root),
            previous: None,
            note: self.note(5, &signer()),
            proof: line::hashes(merkle::inclusion_proof(&mut Leaves(&log_leaves), 4, 5).unwrap()),
            earlier: Some(Earlier {
                number: 3,
                proof: line::hashes(merkle::consistency_proof(&mut Leaves(&log_leaves), 3, 5).unwrap()),
            }),
            keys: vec![Key { epoch: 1, key: key().to_string() }],
        };
        let head = Head {
            position: heads[1].position,
            leaves: heads[1].leaves,
            chain: Hash(heads[1].chain),
            root: Hash(heads[1].root),
            index: 1,
            proof: line::hashes(Heads::new(&heads).proof(1).unwrap()),
        };
        let mut frontier = Frontier::default();
        leaves[..first - 1].iter().for_each(|leaf| frontier.push(*leaf, |_, _, _| ()));
        let range = Range {
            leaves: first as i64 - 1,
            chain: Hash(self.chain(first)),
            frontier: line::hashes(frontier.to_bytes().as_chunks().0.iter().copied()),
            proof: line::hashes(
                merkle::consistency_proof(&mut Leaves(&leaves), last as u64, leaves.len() as u64).unwrap(),
            ),
        };
        let mut lines = vec![
            Line::Manifest(manifest),
            Line::Checkpoint(Box::new(checkpoint)),
            Line::Head(head),
            Line::Range(range),
            Line::Actor(Box::new(self.actor.clone())),
        ];
        lines.extend(self.batches[first - 1..last].iter().map(|batch| Line::Batch(Box::new(batch.clone()))));
        if !(first..=last).contains(&leaves.len()) {
            lines.push(self.elsewhere(leaves.len()));
        }
        lines.push(Line::Evidence(Box::new(self.evidence_line(&self.evidence, &signer()))));
        lines
    }

    pub fn evidence_line(&self, evidence: &evidence::Evidence, signer: &Signer) -> Evidence {
        Evidence {
            evidence: evidence.clone(),
            registration: self.batches.last().unwrap().id,
            envelope: Envelope::sign(&evidence.statement().unwrap(), signer),
        }
    }

    /// The line of a batch outside of the positions of the bundle.
    pub fn elsewhere(&self, number: usize) -> Line {
        let (leaves, batch) = (self.leaves(), self.batches[number - 1].clone());
        let proof = merkle::inclusion_proof(&mut Leaves(&leaves), number as u64 - 1, leaves.len() as u64).unwrap();
        Line::Batch(Box::new(batch.elsewhere(number as i64, proof)))
    }

    /// The line of a batch that shows only its place.
    pub fn absent(&self, number: usize) -> Line {
        let batch = &self.batches[number - 1];
        Line::Absent(Absent {
            position: batch.last().unwrap(),
            id: batch.id,
            hash: batch.hash,
            chain: batch.chain.unwrap(),
        })
    }
}

fn batch_id(number: usize) -> Uuid {
    Uuid::from_u128((0x100 + number as u128) << 12)
}

/// The bundle of these lines, with the last line that an owner of the key would add.
pub fn bundle(lines: &[Line], signer: &Signer) -> Vec<u8> {
    let mut writer = Writer::default();
    let mut text: Vec<String> = lines.iter().map(|line| writer.line(line).unwrap()).collect();
    let Some(Line::Manifest(manifest)) = lines.first() else { panic!("no manifest") };
    text.push(writer.end(manifest, 5, signer).unwrap());
    (text.join("\n") + "\n").into_bytes()
}
