//! Verification: recomputes what is stored, in chain order, and names whatever does not fit.

use super::block::{self, Block, Entries};
use super::chain::{self, Entry};
use super::encoding::Digest;
use super::event::{Actor, ENCODING, Header, payload_digest};
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// An event as the table has it.
#[derive(Debug, Clone)]
pub struct Stored {
    pub id: Uuid,
    pub organization: Uuid,
    pub actor: Uuid,
    /// Absent when the row of the actor is gone.
    pub actor_row: Option<Actor>,
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
    pub payload: Option<String>,
    pub payload_salt: Option<Vec<u8>>,
    pub payload_digest: Digest,
    pub encoding: i16,
    pub previous: Digest,
    pub hash: Digest,
}

/// What stands in `tenancy.event` under the id that an entry names.
#[derive(Debug, Clone)]
pub enum Event {
    Stored(Box<Stored>),
    /// A row with a value that no event has, a hash of another length for instance.
    Unreadable,
    Gone,
}

/// What is wrong at a place of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// The event is not what was sealed.
    Altered,
    /// An event, its actor or its entry in the seal is gone.
    Missing,
    /// An event stands where none was written.
    Inserted,
    /// The seal's own chain does not follow from what is before it.
    Broken,
}

impl Finding {
    pub fn name(self) -> &'static str {
        match self {
            Finding::Altered => "altered",
            Finding::Missing => "missing",
            Finding::Inserted => "inserted",
            Finding::Broken => "broken",
        }
    }
}

/// A finding with the words for a person.
pub type Report = (Finding, String);

impl Stored {
    /// What in the row does not agree with the row's own hash; `None` when all does.
    pub fn inconsistency(&self) -> Option<Report> {
        let Some(actor) = &self.actor_row else {
            return Some((Finding::Missing, "the row of the actor in tenancy.event_actor is gone".into()));
        };
        if self.encoding != ENCODING {
            return Some((Finding::Altered, "the version of the encoding is not the one that was written".into()));
        }
        let (Some(payload), Some(salt)) = (&self.payload, &self.payload_salt) else {
            return Some((Finding::Altered, "the payload (old and new values) is gone".into()));
        };
        if payload_digest(salt, payload) != self.payload_digest {
            return Some((Finding::Altered, "the payload (old and new values) is not the one that was written".into()));
        }
        if self.hash_of_content(actor) != self.hash {
            return Some((Finding::Altered, "the event or its actor is not what was written".into()));
        }
        None
    }

    fn hash_of_content(&self, actor: &Actor) -> Digest {
        let actor_digest = actor.digest();
        let header = Header {
            id: self.id,
            organization: self.organization,
            actor: self.actor,
            actor_digest: &actor_digest,
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
        };
        header.hash(&self.payload_digest, &self.previous)
    }
}

/// Walks the chain of one organization.
pub struct ChainVerifier {
    organization: Uuid,
    position: i64,
    head: Digest,
    /// Every head so far: the first event of a transaction must name one of them.
    heads: HashSet<Digest>,
    /// Transaction, ordinal and hash of the event before.
    before: Option<(u64, i32, Digest)>,
}

impl ChainVerifier {
    pub fn new(organization: Uuid) -> Self {
        let head = chain::genesis(organization);
        ChainVerifier { organization, position: 0, head, heads: HashSet::from([head]), before: None }
    }

    /// Takes the next entry, in order of position, with the event it names; tells what is wrong there.
    pub fn next(&mut self, entry: &Entry, event: &Event) -> Vec<Report> {
        let mut reports = Vec::new();
        self.follow(entry, &mut reports);
        match event {
            Event::Stored(stored) => self.examine(entry, stored, &mut reports),
            Event::Unreadable => {
                self.before = None;
                reports.push((Finding::Altered, "the event has a value that no event has".into()));
            }
            Event::Gone => {
                self.before = None;
                reports.push((Finding::Missing, "the seal names an event that is gone from tenancy.event".into()));
            }
        }
        reports
    }

    /// The seal itself: positions without gaps, each head following from the one before.
    fn follow(&mut self, entry: &Entry, reports: &mut Vec<Report>) {
        let gap = entry.position != self.position + 1;
        if gap {
            let places = range("entry", "entries", self.position + 1, entry.position - 1);
            reports.push((Finding::Missing, format!("{places} gone from tenancy.seal")));
        } else if chain::extend(&self.head, entry.position, &entry.event_hash) != entry.chain {
            reports
                .push((Finding::Broken, "the chain value in tenancy.seal does not follow from the one before".into()));
        }
        self.position = entry.position;
        self.head = entry.chain;
        self.heads.insert(entry.chain);
        if gap {
            self.before = None;
        }
    }

    fn examine(&mut self, entry: &Entry, stored: &Stored, reports: &mut Vec<Report>) {
        if let Some(report) = stored.inconsistency() {
            reports.push(report);
        } else if stored.organization != self.organization {
            reports.push((Finding::Inserted, "the event is another organization's".into()));
        } else if stored.hash != entry.event_hash {
            reports
                .push((Finding::Altered, "the event was rewritten together with its hash after it was sealed".into()));
        } else if let Some(report) = self.misplaced(stored) {
            reports.push(report);
        }
        self.before = Some((stored.transaction, stored.ordinal, entry.event_hash));
    }

    /// The link to the event before: within the transaction, or to a head that was sealed earlier.
    fn misplaced(&self, stored: &Stored) -> Option<Report> {
        if stored.ordinal == 1 {
            let known = self.heads.contains(&stored.previous);
            return (!known)
                .then(|| (Finding::Inserted, "the event follows a head that this chain never had".to_string()));
        }
        let (transaction, ordinal, hash) = self.before?;
        let follows = transaction == stored.transaction && ordinal + 1 == stored.ordinal && hash == stored.previous;
        (!follows).then(|| (Finding::Missing, "the event before it in the same transaction is gone".to_string()))
    }
}

/// Numbers that are gone, as the beginning of a sentence.
fn range(one: &str, several: &str, from: i64, to: i64) -> String {
    if from == to { format!("{one} {from} is") } else { format!("{several} {from} to {to} are") }
}

/// Compares the blocks with the entries that name them. Takes all entries first, then the blocks in order.
pub struct BlockVerifier {
    entries: HashMap<i64, Entries>,
    number: i64,
    hash: Digest,
}

impl Default for BlockVerifier {
    fn default() -> Self {
        BlockVerifier { entries: HashMap::new(), number: 0, hash: block::origin() }
    }
}

impl BlockVerifier {
    /// Takes the next entry, in order of organization and position.
    pub fn entry(&mut self, organization: Uuid, entry: &Entry) {
        self.entries.entry(entry.block).or_default().add(organization, entry);
    }

    /// Takes the next block, in order of number; tells what is wrong with which one.
    pub fn block(&mut self, block: &Block, hash: &Digest) -> Vec<(i64, Report)> {
        let mut found = Vec::new();
        let mut report = |number, finding, text: String| found.push((number, (finding, text)));
        let entries = self.entries.remove(&block.number).unwrap_or_default();
        let count = entries.count();
        if block.hash() != *hash {
            report(block.number, Finding::Altered, format!("block {} is not what was written", block.number));
        } else if count < block.events {
            let gone = block.events - count;
            report(block.number, Finding::Missing, format!("{gone} entries of block {} are gone", block.number));
        } else if entries.digest() != block.entries_digest {
            report(
                block.number,
                Finding::Altered,
                format!("the entries of block {} are not those it sealed", block.number),
            );
        }
        let expected = self.number + 1;
        if block.number != expected {
            let gone = range("block", "blocks", expected, block.number - 1);
            report(expected, Finding::Missing, format!("{gone} gone from tenancy.block"));
        } else if block.previous != self.hash {
            report(
                block.number,
                Finding::Broken,
                format!("block {} does not follow from the one before", block.number),
            );
        }
        (self.number, self.hash) = (block.number, *hash);
        found
    }

    /// After the last block: the entries that no block sealed.
    pub fn finish(self) -> Vec<(i64, Report)> {
        let mut numbers: Vec<i64> = self.entries.into_keys().collect();
        numbers.sort_unstable();
        let report = |number| (number, (Finding::Missing, format!("block {number} is gone, which its entries name")));
        numbers.into_iter().map(report).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORGANIZATION: Uuid = Uuid::from_u128(0xa);

    fn actor() -> Actor {
        Actor {
            id: Uuid::from_u128(1),
            method: "none".into(),
            subject: None,
            issuer: None,
            role: None,
            organization: None,
            session_id: None,
            correlation_id: None,
            reason: None,
            session_user: "postgres".into(),
            current_user: "postgres".into(),
            client_address: None,
            application_name: None,
        }
    }

    fn event(transaction: u64, ordinal: i32, previous: Digest) -> Stored {
        let mut stored = Stored {
            id: Uuid::from_u128(u128::from(transaction) << 32 | ordinal as u128),
            organization: ORGANIZATION,
            actor: Uuid::from_u128(1),
            actor_row: Some(actor()),
            transaction,
            ordinal,
            occurred_at: 1,
            operation: "insert".into(),
            domain: "finding".into(),
            table_schema: None,
            table_name: None,
            row_key: None,
            result: "success".into(),
            reason: None,
            payload: Some("{}".into()),
            payload_salt: Some(vec![1; 16]),
            payload_digest: payload_digest(&[1; 16], "{}"),
            encoding: ENCODING,
            previous,
            hash: [0; 32],
        };
        stored.hash = stored.hash_of_content(&actor());
        stored
    }

    fn seal(events: &[Stored]) -> Vec<Entry> {
        let mut head = chain::genesis(ORGANIZATION);
        let entry = |(n, event): (usize, &Stored)| {
            let position = n as i64 + 1;
            head = chain::extend(&head, position, &event.hash);
            Entry { position, event: event.id, event_hash: event.hash, chain: head, block: 1 }
        };
        events.iter().enumerate().map(entry).collect()
    }

    /// Two transactions: two events, then one that followed the genesis too because nothing was sealed yet.
    fn chain_of_three() -> (Vec<Stored>, Vec<Entry>) {
        let genesis = chain::genesis(ORGANIZATION);
        let first = event(10, 1, genesis);
        let second = event(10, 2, first.hash);
        let third = event(11, 1, genesis);
        let events = vec![first, second, third];
        let entries = seal(&events);
        (events, entries)
    }

    fn verify(events: &[Stored], entries: &[Entry]) -> Vec<(i64, Finding)> {
        let mut verifier = ChainVerifier::new(ORGANIZATION);
        let mut found = Vec::new();
        for entry in entries {
            let stored = events.iter().find(|event| event.id == entry.event);
            let event = stored.map_or(Event::Gone, |stored| Event::Stored(Box::new(stored.clone())));
            found.extend(verifier.next(entry, &event).into_iter().map(|(finding, _)| (entry.position, finding)));
        }
        found
    }

    #[test]
    fn an_untouched_chain_verifies() {
        let (events, entries) = chain_of_three();
        assert_eq!(verify(&events, &entries), []);
    }

    #[test]
    fn an_altered_payload_is_named() {
        let (mut events, entries) = chain_of_three();
        events[1].payload = Some("{\"new\":1}".into());
        assert_eq!(verify(&events, &entries), [(2, Finding::Altered)]);
    }

    #[test]
    fn an_altered_header_is_named() {
        let (mut events, entries) = chain_of_three();
        events[0].operation = "delete".into();
        assert_eq!(verify(&events, &entries), [(1, Finding::Altered)]);
    }

    #[test]
    fn an_altered_actor_is_named_at_each_of_its_events() {
        let (mut events, entries) = chain_of_three();
        for event in &mut events[..2] {
            event.actor_row = Some(Actor { subject: Some("mallory".into()), ..actor() });
        }
        assert_eq!(verify(&events, &entries), [(1, Finding::Altered), (2, Finding::Altered)]);
    }

    #[test]
    fn an_event_rewritten_with_its_hash_is_named() {
        let (mut events, entries) = chain_of_three();
        events[2].operation = "delete".into();
        events[2].hash = events[2].hash_of_content(&actor());
        assert_eq!(verify(&events, &entries), [(3, Finding::Altered)]);
    }

    #[test]
    fn a_missing_event_is_named() {
        let (mut events, entries) = chain_of_three();
        events.remove(1);
        assert_eq!(verify(&events, &entries), [(2, Finding::Missing)]);
    }

    #[test]
    fn an_event_removed_together_with_its_entry_is_named() {
        let (mut events, mut entries) = chain_of_three();
        events.remove(1);
        entries.remove(1);
        assert_eq!(verify(&events, &entries), [(3, Finding::Missing)]);
    }

    #[test]
    fn a_forged_event_that_follows_no_head_is_named() {
        let (mut events, _) = chain_of_three();
        events.push(event(12, 1, [9; 32]));
        let entries = seal(&events);
        assert_eq!(verify(&events, &entries), [(4, Finding::Inserted)]);
    }

    #[test]
    fn an_event_of_another_organization_is_named() {
        let (mut events, _) = chain_of_three();
        events[2].organization = Uuid::from_u128(0xb);
        events[2].hash = events[2].hash_of_content(&actor());
        let entries = seal(&events);
        assert_eq!(verify(&events, &entries), [(3, Finding::Inserted)]);
    }

    #[test]
    fn a_changed_chain_value_is_named() {
        let (events, mut entries) = chain_of_three();
        entries[1].chain = [3; 32];
        assert_eq!(verify(&events, &entries), [(2, Finding::Broken), (3, Finding::Broken)]);
    }

    #[test]
    fn events_that_changed_places_are_named() {
        let (events, mut entries) = chain_of_three();
        let (one, two) = (entries[0].event, entries[1].event);
        (entries[0].event, entries[1].event) = (two, one);
        assert_eq!(verify(&events, &entries), [(1, Finding::Altered), (2, Finding::Altered)]);
    }

    #[test]
    fn a_payload_that_is_gone_is_named() {
        let (mut events, entries) = chain_of_three();
        events[0].payload = None;
        events[0].payload_salt = None;
        assert_eq!(verify(&events, &entries), [(1, Finding::Altered)]);
    }

    #[test]
    fn another_version_of_the_encoding_is_named() {
        let (mut events, entries) = chain_of_three();
        events[0].encoding += 1;
        assert_eq!(verify(&events, &entries), [(1, Finding::Altered)]);
    }

    fn block_of(entries: &[Entry], number: i64, previous: Digest) -> (Block, Digest) {
        let mut digest = Entries::default();
        entries.iter().for_each(|entry| digest.add(ORGANIZATION, entry));
        let block = Block {
            number,
            sealed_at: 1,
            snapshot: "1:1:".into(),
            incarnation: "1/1".into(),
            events: digest.count(),
            entries_digest: digest.digest(),
            previous,
        };
        let hash = block.hash();
        (block, hash)
    }

    /// Findings for blocks with these entries, after the entries found in the table.
    fn verify_blocks(blocks: &[(Block, Digest)], entries: &[Entry]) -> Vec<(i64, Finding)> {
        let mut verifier = BlockVerifier::default();
        for entry in entries {
            verifier.entry(ORGANIZATION, entry);
        }
        let mut found: Vec<_> = blocks.iter().flat_map(|(block, hash)| verifier.block(block, hash)).collect();
        found.extend(verifier.finish());
        found.into_iter().map(|(number, (finding, _))| (number, finding)).collect()
    }

    fn two_blocks() -> (Vec<(Block, Digest)>, Vec<Entry>) {
        let (_, mut entries) = chain_of_three();
        entries[2].block = 2;
        let first = block_of(&entries[..2], 1, block::origin());
        let second = block_of(&entries[2..], 2, first.1);
        (vec![first, second], entries)
    }

    #[test]
    fn untouched_blocks_verify() {
        let (blocks, entries) = two_blocks();
        assert_eq!(verify_blocks(&blocks, &entries), []);
    }

    #[test]
    fn the_newest_entry_cannot_go_without_a_trace() {
        let (blocks, entries) = two_blocks();
        assert_eq!(verify_blocks(&blocks, &entries[..2]), [(2, Finding::Missing)]);
    }

    #[test]
    fn an_altered_block_is_named() {
        let (mut blocks, entries) = two_blocks();
        blocks[0].0.sealed_at += 1;
        assert_eq!(verify_blocks(&blocks, &entries), [(1, Finding::Altered)]);
    }

    #[test]
    fn an_entry_moved_to_another_block_is_named() {
        let (blocks, mut entries) = two_blocks();
        entries[1].block = 2;
        assert_eq!(verify_blocks(&blocks, &entries), [(1, Finding::Missing), (2, Finding::Altered)]);
    }

    #[test]
    fn a_missing_block_is_named_by_the_gap_and_by_its_entries() {
        let (blocks, entries) = two_blocks();
        assert_eq!(verify_blocks(&blocks[1..], &entries), [(1, Finding::Missing), (1, Finding::Missing)]);
        assert_eq!(verify_blocks(&blocks[..1], &entries), [(2, Finding::Missing)]);
    }
}
