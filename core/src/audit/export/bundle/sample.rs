//! A history in memory and bundles of it, for the tests of reader and verifier.

use super::FORMAT;
use super::line::{self, Absent, Checkpoint, Earlier, Event, Evidence, Exporter, Head, Key, Line, Manifest, Range};
use super::writer::Writer;
use crate::audit::export::evidence;
use crate::audit::export::statement::Envelope;
use crate::audit::format::encoding::Digest;
use crate::audit::format::event::{Actor, ENCODING, payload_digest};
use crate::audit::format::hex::{self, Bytes, Hash};
use crate::audit::log::chain;
use crate::audit::log::checkpoint::{self, Heads};
use crate::audit::log::merkle::{self, Frontier, Nodes};
use crate::audit::log::signed_note::{self, Signer, Verifier};
use std::convert::Infallible;
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

struct Leaves<'l>(&'l [Digest]);

impl Nodes for Leaves<'_> {
    type Error = Infallible;
    fn node(&mut self, level: u32, index: u64) -> Result<Digest, Infallible> {
        let width = 1 << level;
        let mut frontier = Frontier::default();
        for leaf in &self.0[index as usize * width..][..width] {
            frontier.push(*leaf, |_, _, _| ());
        }
        Ok(frontier.root())
    }
}

/// The history of one organization, with two events in each transaction; the last event registers evidence.
pub struct History {
    pub actor: Actor,
    pub events: Vec<Event>,
    pub evidence: evidence::Evidence,
}

impl History {
    pub fn new(count: i64) -> Self {
        History::erasing(count, 0)
    }

    /// A history whose last event but one records the erasure of the payload at a position, unless that is 0.
    pub fn erasing(count: i64, erased: i64) -> Self {
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
        };
        let named = evidence::Evidence {
            organization: ORGANIZATION,
            events: vec![event_id(2), event_id(3)],
            ..evidence::tests::evidence()
        };
        let mut history = History { actor, events: Vec::new(), evidence: named };
        for position in 1..=count {
            history.append(position, position == count);
            if position == count - 1 && erased > 0 {
                history.erase(erased);
            }
        }
        history
    }

    fn append(&mut self, position: i64, registers: bool) {
        let payload = match registers {
            true => format!(r#"{{"new":{{"record":"\\x{}"}}}}"#, hex::encode(&self.evidence.record())),
            false => r#"{"old":{"status":"open"},"new":{"status":"é\n"}}"#.into(),
        };
        let (salt, digest) = (vec![7; 16], self.actor.digest());
        let head = self.events.last().map_or(chain::genesis(ORGANIZATION), |event| event.chain.0);
        let second = position % 2 == 0;
        let previous = if second { self.events[position as usize - 2].hash.0 } else { head };
        let mut event = Event {
            position,
            id: event_id(position),
            actor: self.actor.id,
            transaction: 100 + (position as u64 - 1) / 2,
            ordinal: if second { 2 } else { 1 },
            occurred_at: position * 1_000_000,
            operation: if registers { "insert" } else { "update" }.into(),
            domain: "finding".into(),
            table_schema: Some(if registers { "tenancy" } else { "public" }.into()),
            table_name: Some(if registers { "evidence" } else { "finding" }.into()),
            row_key: Some(r#"{"id":1}"#.into()),
            result: "success".into(),
            reason: None,
            payload_digest: Hash(payload_digest(&salt, &payload)),
            payload: Some(payload),
            salt: Some(Bytes(salt)),
            encoding: ENCODING,
            previous: Hash(previous),
            hash: Hash([0; 32]),
            chain: Hash([0; 32]),
            proof: None,
        };
        event.hash = Hash(event.content_hash(ORGANIZATION, &digest));
        event.chain = Hash(chain::extend(&head, position, &event.hash.0));
        self.events.push(event);
    }

    /// Replaces the newest event by one that records an erasure.
    fn erase(&mut self, position: i64) {
        let (id, digest) = (event_id(position), hex::encode(&self.events[position as usize - 1].payload_digest.0));
        let payload = format!(r#"{{"data":{{"event":"{id}","legal_basis":null,"payload_digest":"{digest}"}}}}"#);
        let mut event = self.events.pop().unwrap();
        event.operation = "erase".into();
        event.payload_digest = Hash(payload_digest(&[7; 16], &payload));
        event.payload = Some(payload);
        let head = self.events.last().map_or(chain::genesis(ORGANIZATION), |event| event.chain.0);
        event.hash = Hash(event.content_hash(ORGANIZATION, &self.actor.digest()));
        event.chain = Hash(chain::extend(&head, event.position, &event.hash.0));
        self.events.push(event);
    }

    fn leaves(&self) -> Vec<Digest> {
        self.events.iter().map(|event| merkle::leaf_hash(&event.hash.0)).collect()
    }

    /// The head, with those of two other organizations.
    fn heads(&self) -> [checkpoint::Head; 3] {
        let leaves = self.leaves();
        let root = merkle::root(&mut Leaves(&leaves), 0, leaves.len() as u64).unwrap();
        let last = self.events.last().unwrap();
        [0x1, 0xa, 0xf].map(|organization| checkpoint::Head {
            organization: Uuid::from_u128(organization),
            position: last.position,
            chain: last.chain.0,
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

    /// The lines of an export of these positions, without the last line.
    pub fn lines(&self, first: i64, last: i64) -> Vec<Line> {
        let (leaves, heads, log) = (self.leaves(), self.heads(), self.log());
        let log_leaves: Vec<Digest> = log.iter().map(checkpoint::Entry::leaf).collect();
        let entry = &log[4];
        let manifest = Manifest {
            format: FORMAT.into(),
            organization: ORGANIZATION,
            from: Some(first * 1_000_000),
            to: Some((last + 1) * 1_000_000),
            first,
            last,
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
            chain: Hash(heads[1].chain),
            root: Hash(heads[1].root),
            index: 1,
            proof: line::hashes(Heads::new(&heads).proof(1).unwrap()),
        };
        let before = first as usize - 1;
        let mut frontier = Frontier::default();
        leaves[..before].iter().for_each(|leaf| frontier.push(*leaf, |_, _, _| ()));
        let range = Range {
            chain: Hash(before.checked_sub(1).map_or(chain::genesis(ORGANIZATION), |n| self.events[n].chain.0)),
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
        let event = |position: i64| self.events[position as usize - 1].clone();
        lines.extend((first..=last).map(|position| Line::Event(Box::new(event(position)))));
        let registration = self.events.last().unwrap();
        if !(first..=last).contains(&registration.position) {
            let index = registration.position as u64 - 1;
            let proof = merkle::inclusion_proof(&mut Leaves(&leaves), index, leaves.len() as u64).unwrap();
            let event = Event { proof: Some(line::hashes(proof)), ..registration.clone() };
            lines.push(Line::Event(Box::new(event)));
        }
        lines.push(Line::Evidence(Box::new(self.evidence_line(&self.evidence, &signer()))));
        lines
    }

    pub fn evidence_line(&self, evidence: &evidence::Evidence, signer: &Signer) -> Evidence {
        Evidence {
            evidence: evidence.clone(),
            registration: self.events.last().unwrap().id,
            envelope: Envelope::sign(&evidence.statement().unwrap(), signer),
        }
    }

    /// The line of an event that shows only its position.
    pub fn absent(&self, position: i64) -> Line {
        let event = &self.events[position as usize - 1];
        Line::Absent(Absent { position, id: event.id, hash: event.hash, chain: event.chain })
    }
}

fn event_id(position: i64) -> Uuid {
    Uuid::from_u128(0x100 + position as u128)
}

/// The bundle of these lines, with the last line that an owner of the key would add.
pub fn bundle(lines: &[Line], signer: &Signer) -> Vec<u8> {
    let mut writer = Writer::default();
    let mut text: Vec<String> = lines.iter().map(|line| writer.line(line).unwrap()).collect();
    let Some(Line::Manifest(manifest)) = lines.first() else { panic!("no manifest") };
    text.push(writer.end(manifest, 5, signer).unwrap());
    (text.join("\n") + "\n").into_bytes()
}
