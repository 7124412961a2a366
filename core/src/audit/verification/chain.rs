//! Verifies the entries of the seal: chain, tree and links of each organization.

use super::range;
use super::stored_batch::Fault;
use super::{Finding, FindingKind};
use crate::audit::format::batch::MAX_EVENTS;
use crate::audit::format::encoding::Digest;
use crate::audit::format::event::event_id;
use crate::audit::log::chain::{self, Entry};
use crate::audit::log::merkle::{Frontier, STORED_LEVELS};
use std::collections::{HashMap, HashSet, VecDeque};
use uuid::Uuid;

/// The fields of a batch that the verifier needs after the row was compared with its own hash.
#[derive(Debug, Clone)]
pub struct SeenBatch {
    /// The organization in the row of the batch.
    pub organization: Uuid,
    /// The 64-bit id of the top-level transaction.
    pub transaction: u64,
    /// The place of the first event among those of the same transaction and organization, from 1.
    pub ordinal: i32,
    /// The number of events.
    pub events: i32,
    /// The `prev_hash` of the batch.
    pub previous: Digest,
    /// The hash of the batch.
    pub hash: Digest,
    /// The inconsistency within the row, if there is one.
    pub fault: Option<Fault>,
}

/// The state of the row of `tenancy.event_batch` that an entry names.
#[derive(Debug, Clone)]
pub enum BatchState {
    /// The row exists and can be read.
    Seen(SeenBatch),
    /// The row has an invalid value, such as a hash of another length.
    Unreadable,
    /// The row does not exist, and no archive explains that.
    Gone,
    /// The row was removed with its month, which is archived.
    Archived,
}

/// A row of `tenancy.head`: the end of an organization's chain and tree after a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredHead {
    /// The newest position; 0 before the first event.
    pub position: i64,
    /// The number of entries, and of leaves of the tree.
    pub leaves: i64,
    /// The chain value after the newest entry.
    pub chain: Digest,
    /// The right edge of the organization's tree over that many batches.
    pub frontier: Frontier,
}

/// The state of the row of `tenancy.head` for an organization and a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeadRow {
    /// The row can be read.
    Head(StoredHead),
    /// The row names an entry of a later block.
    Elsewhere,
    /// The row has an invalid value.
    Unreadable,
}

impl StoredHead {
    /// The head of an organization before its first event.
    pub fn genesis(organization: Uuid) -> Self {
        StoredHead { position: 0, leaves: 0, chain: chain::genesis(organization), frontier: Frontier::default() }
    }
}

/// The queries of the verifier.
pub trait StoredHistory {
    /// The error of a failed query.
    type Error;
    /// The head of the organization at the beginning of the range.
    fn start(&mut self, organization: Uuid) -> Result<StoredHead, Self::Error>;
    /// Number of the block after which the chain had this value; `None` if it never had it.
    fn block_of(&mut self, organization: Uuid, chain: &Digest) -> Result<Option<i64>, Self::Error>;
    /// A stored node of the organization's tree; `None` if the row does not exist.
    fn node(&mut self, organization: Uuid, level: u32, index: u64) -> Result<Option<Digest>, Self::Error>;
}

/// The number of recent chain values to remember for each organization.
///
/// Batches name one of the newest values, unless their transaction took long.
const RECENT: usize = 32;

/// The most mismatching entries of a block that are compared with each other to find another order.
const MAX_MISMATCHES: usize = 500;

/// The most hashes of a block to remember, which distinguish a moved event from a missing one.
const MAX_HASHES: usize = 100_000;

/// Verifies the chains of the organizations in a range of blocks.
pub struct ChainVerifier<H> {
    history: H,
    /// The newest block in the database: entries missing from its end were truncated.
    newest: i64,
    /// The first block of each incarnation. In it, a transaction of a restored history and a new one may have the same
    /// id.
    first_blocks: Vec<i64>,
    /// The organization whose entries are being verified, with its chain.
    current: Option<(Uuid, Chain)>,
    /// The chains of the other organizations.
    chains: HashMap<Uuid, Chain>,
    found: Vec<Finding>,
}

/// The head of an organization's chain so far, and data about the entries in the current block.
struct Chain {
    head: StoredHead,
    /// The chain value that was computed, if the stored one differs.
    ///
    /// If the next entry follows from the computed value, only the stored value was changed.
    recomputed_chain: Option<Digest>,
    /// The newest chain values of the organization, at most [`RECENT`].
    recent: VecDeque<Digest>,
    /// The previous batch; `None` at the beginning and after a gap.
    before: Option<Before>,
    /// Whether there was a gap: the tree cannot be computed until the next stored head.
    has_gap: bool,
    /// Whether an entry of this block does not follow from the previous one, so that its tree differs.
    chain_mismatch: bool,
    /// Hashes of the batches of this block.
    hashes: Vec<Digest>,
    /// Entries of this block that do not match.
    mismatches: Vec<Mismatch>,
    /// Batches whose transaction lacks the previous batch: position, id, and hash of the missing batch.
    unlinked: Vec<(i64, Uuid, Digest)>,
}

struct Before {
    hash: Digest,
    /// The batches of its transaction so far, if the batch could be read and is consistent.
    run: Option<Run>,
}

/// Batches of a transaction that follow each other.
#[derive(Clone, Copy)]
struct Run {
    transaction: u64,
    /// The ordinal of the first event.
    first: i32,
    /// The ordinal after the last event.
    next: i32,
}

impl Run {
    /// The run that ends with this batch.
    fn with(seen: &SeenBatch, before: Option<Run>) -> Run {
        let before = before.filter(|run| (run.transaction, run.next) == (seen.transaction, seen.ordinal));
        Run {
            transaction: seen.transaction,
            first: before.map_or(seen.ordinal, |run| run.first),
            next: seen.ordinal.saturating_add(seen.events),
        }
    }

    /// True if the batch has an ordinal of the run.
    fn overlaps(&self, seen: &SeenBatch) -> bool {
        self.transaction == seen.transaction
            && seen.ordinal < self.next
            && seen.ordinal.saturating_add(seen.events) > self.first
    }
}

impl Before {
    fn is_followed_by(&self, seen: &SeenBatch) -> bool {
        self.hash == seen.previous
            && self.run.is_none_or(|run| (run.transaction, run.next) == (seen.transaction, seen.ordinal))
    }
}

/// An entry that does not match.
struct Mismatch {
    entry: Entry,
    /// The chain value before the entry.
    previous: Digest,
    /// Whether the chain value of the entry does not follow from the previous one.
    chain_differs: bool,
    /// The hash of the batch, if it differs from the entry's.
    other_hash: Option<Digest>,
}

impl<H: StoredHistory> ChainVerifier<H> {
    /// Makes a verifier; `newest` is the number of the newest block in the database, and `first_blocks` has that of the
    /// first block of each incarnation.
    pub fn new(history: H, newest: i64, first_blocks: Vec<i64>) -> Self {
        ChainVerifier { history, newest, first_blocks, current: None, chains: HashMap::new(), found: Vec::new() }
    }

    /// Removes and returns the findings since the last call.
    pub fn take_found(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.found)
    }

    /// The head of the organization after the entries verified so far.
    pub fn standing(&mut self, organization: Uuid) -> Result<&StoredHead, H::Error> {
        Ok(&self.chain(organization)?.head)
    }

    /// Adds a finding of the caller.
    pub fn report(&mut self, found: Finding) {
        self.found.push(found);
    }

    /// Verifies the next entry with its batch, in the order of block, organization and leaf.
    pub fn entry(&mut self, organization: Uuid, entry: &Entry, batch: &BatchState) -> Result<(), H::Error> {
        let before = self.follow(organization, entry, batch)?;
        let first = match batch {
            // The number of events in a row that was changed may be another.
            BatchState::Seen(SeenBatch { fault: Some(_), .. })
                if let Some(before) =
                    before.filter(|before| (0..MAX_EVENTS as i64).contains(&(entry.position - 1 - before))) =>
            {
                before + 1
            }
            BatchState::Seen(seen) => entry.position.saturating_sub(i64::from(seen.events) - 1).max(1),
            _ => entry.position,
        };
        let mut fault = |finding, text: &str, place: i32| {
            let found = Finding::in_block(finding, entry.block, text);
            let found = found.of(organization).at(first.saturating_add(i64::from(place)));
            self.found.push(found.about(event_id(entry.batch, place)));
        };
        let mut run = None;
        match batch {
            BatchState::Unreadable => {
                fault(FindingKind::Altered, "a column of the batch in tenancy.event_batch has an invalid value", 0);
            }
            BatchState::Archived => (),
            BatchState::Gone => {
                fault(FindingKind::Missing, "the batch of this entry is missing from tenancy.event_batch", 0);
            }
            BatchState::Seen(SeenBatch { fault: Some(Fault { finding, text, place }), .. }) => {
                fault(*finding, text, *place);
            }
            BatchState::Seen(seen) if seen.organization != organization => {
                fault(FindingKind::Inserted, "the batch belongs to another organization", 0);
            }
            BatchState::Seen(seen) => {
                let own = seen.hash == entry.batch_hash;
                let before_it = self.current.as_ref().and_then(|(_, chain)| chain.before.as_ref()?.run);
                run = own.then(|| Run::with(seen, before_it));
                if own
                    && before.is_some_and(|before| before.checked_add(i64::from(seen.events)) != Some(entry.position))
                {
                    fault(FindingKind::Altered, "position does not follow from the entry before and the events", 0);
                }
                if own && let Some((finding, text)) = self.misplaced(organization, entry, seen)? {
                    let found = Finding::in_block(finding, entry.block, text);
                    self.found.push(found.of(organization).at(first).about(entry.batch));
                }
            }
        }
        if let Some((_, chain)) = &mut self.current {
            chain.before = Some(Before { hash: entry.batch_hash, run });
        }
        Ok(())
    }

    /// Makes the organization the current one and returns its chain.
    fn chain(&mut self, organization: Uuid) -> Result<&mut Chain, H::Error> {
        if self.current.as_ref().is_none_or(|(current, _)| *current != organization) {
            let chain = match self.chains.remove(&organization) {
                Some(chain) => chain,
                None => Chain::from(self.history.start(organization)?),
            };
            if let Some((other, chain)) = self.current.replace((organization, chain)) {
                self.chains.insert(other, chain);
            }
        }
        match &mut self.current {
            Some((_, chain)) => Ok(chain),
            None => unreachable!("it was set above"),
        }
    }

    /// Verifies leaves without gaps, the chain value, and the stored nodes of the tree. Returns the position before the
    /// entry, unless entries before it are missing.
    fn follow(&mut self, organization: Uuid, entry: &Entry, batch: &BatchState) -> Result<Option<i64>, H::Error> {
        let chain = self.chain(organization)?;
        let mut explained = Vec::new();
        let expected = chain.head.leaves + 1;
        if chain.hashes.len() < MAX_HASHES {
            chain.hashes.push(entry.batch_hash);
        }
        let at = |found: Finding| found.of(organization).at(entry.position).about(entry.batch);
        let previous = chain.head.chain;
        let gap = entry.leaf > expected;
        let before = (!gap).then_some(chain.head.position);
        let follows_from = |before: &Digest| chain::extend(before, entry.position, &entry.batch_hash);
        let computed = follows_from(&previous);
        let recomputed_chain = chain.recomputed_chain.take().map(|before| follows_from(&before));
        let chain_differs = !gap && computed != entry.chain && recomputed_chain != Some(entry.chain);
        if chain_differs {
            chain.recomputed_chain = Some(recomputed_chain.unwrap_or(computed));
        }
        let other_hash = match batch {
            BatchState::Seen(seen) if seen.fault.is_none() && seen.hash != entry.batch_hash => Some(seen.hash),
            _ => None,
        };
        if chain_differs || other_hash.is_some() {
            if chain.mismatches.len() == 2 * MAX_MISMATCHES {
                chain.explain(organization, entry.block, &mut explained);
            }
            chain.mismatches.push(Mismatch { entry: entry.clone(), previous, chain_differs, other_hash });
        }
        chain.has_gap |= gap;
        chain.chain_mismatch |= chain_differs;
        chain.head.position = entry.position;
        chain.head.leaves = entry.leaf;
        chain.head.chain = entry.chain;
        let mut nodes = Vec::new();
        if gap {
            chain.before = None;
            let places = range("entry", "entries", expected, entry.leaf - 1);
            let text = format!("{places} gone from tenancy.seal");
            self.found.push(at(Finding::in_block(FindingKind::Missing, entry.block, text)));
        } else if !chain.has_gap && !chain.chain_mismatch {
            chain.head.frontier.push(chain::leaf(entry.position, &entry.batch_hash), |level, index, hash| {
                if level.is_multiple_of(STORED_LEVELS) {
                    nodes.push((level, index, *hash));
                }
            });
        }
        self.found.append(&mut explained);
        for (level, index, hash) in nodes {
            let (finding, what) = match self.history.node(organization, level, index)? {
                Some(stored) if stored == hash => continue,
                Some(_) => (FindingKind::Altered, "is not the one over these batches"),
                None => (FindingKind::Missing, "is gone"),
            };
            let text = format!("node {index} of level {level} in tenancy.tree_node {what}");
            self.found.push(Finding::in_block(finding, entry.block, text).of(organization).at(entry.position));
        }
        Ok(before)
    }

    /// Verifies the link to the previous batch in the transaction, or to a head that was sealed earlier.
    fn misplaced(
        &mut self,
        organization: Uuid,
        entry: &Entry,
        seen: &SeenBatch,
    ) -> Result<Option<(FindingKind, &'static str)>, H::Error> {
        let Some((_, chain)) = &mut self.current else { return Ok(None) };
        let again = chain.before.as_ref().and_then(|before| before.run).is_some_and(|run| run.overlaps(seen));
        if again && (seen.ordinal != 1 || !self.first_blocks.contains(&entry.block)) {
            return Ok(Some((FindingKind::Inserted, "the transaction has an event with the same ordinal already")));
        }
        if seen.ordinal != 1 {
            // After a gap nothing can be said.
            let unlinked = !chain.before.as_ref().map_or(chain.has_gap, |before| before.is_followed_by(seen));
            if unlinked {
                chain.unlinked.push((entry.position, entry.batch, seen.previous));
            }
            return Ok(None);
        }
        if chain.recent.contains(&seen.previous) || seen.previous == chain::genesis(organization) {
            return Ok(None);
        }
        Ok(match self.history.block_of(organization, &seen.previous)? {
            Some(block) if block < entry.block => None,
            Some(_) => Some((FindingKind::Reordered, "prev_hash of the batch is a head that was sealed after it")),
            None => Some((
                FindingKind::Forked,
                "prev_hash of the batch does not match any head of the organization's chain",
            )),
        })
    }

    /// Compares the organization's head with its row of `tenancy.head`, after its last entry in this block.
    pub fn end_of_block(&mut self, organization: Uuid, block: i64, stored: &HeadRow) -> Result<(), H::Error> {
        let newest = self.newest;
        let mut found = Vec::new();
        let chain = self.chain(organization)?;
        let mut report = |finding, text: &str| found.push(Finding::in_block(finding, block, text).of(organization));
        if let HeadRow::Head(stored) = stored
            && chain.recomputed_chain.take() == Some(stored.chain)
        {
            chain.head.chain = stored.chain;
        }
        match stored {
            HeadRow::Unreadable => report(
                FindingKind::Altered,
                "a column of the row in tenancy.head has an invalid \
                value",
            ),
            HeadRow::Elsewhere => report(FindingKind::Altered, HEAD_ELSEWHERE),
            HeadRow::Head(stored) if stored.leaves > chain.head.leaves => {
                let places = range("entry", "entries", chain.head.leaves + 1, stored.leaves);
                let finding = if block == newest { FindingKind::Truncated } else { FindingKind::Missing };
                report(finding, &format!("{places} gone from tenancy.seal"));
                chain.go_on_from(stored);
            }
            HeadRow::Head(stored) if stored.leaves < chain.head.leaves => report(FindingKind::Altered, HEAD_ELSEWHERE),
            HeadRow::Head(stored) if stored.chain != chain.head.chain || stored.position != chain.head.position => {
                report(FindingKind::Altered, HEAD_ELSEWHERE);
            }
            HeadRow::Head(stored) if chain.has_gap || chain.chain_mismatch => chain.go_on_from(stored),
            HeadRow::Head(stored) if stored.frontier != chain.head.frontier => {
                report(FindingKind::Altered, "frontier in tenancy.head does not match the tree over these batches");
            }
            HeadRow::Head(_) => (),
        }
        chain.settle(organization, block, &mut found);
        self.found.append(&mut found);
        Ok(())
    }
}

const HEAD_ELSEWHERE: &str = "the row in tenancy.head is not where the chain stands";

impl Chain {
    fn from(head: StoredHead) -> Self {
        Chain {
            recent: VecDeque::from([head.chain]),
            head,
            recomputed_chain: None,
            before: None,
            has_gap: false,
            chain_mismatch: false,
            hashes: Vec::new(),
            mismatches: Vec::new(),
            unlinked: Vec::new(),
        }
    }

    /// Continues from the stored head, after the mismatches before it were reported.
    fn go_on_from(&mut self, stored: &StoredHead) {
        if stored.leaves > self.head.leaves {
            self.head.chain = stored.chain;
        }
        self.head.position = stored.position;
        self.head.leaves = stored.leaves;
        self.head.frontier = stored.frontier.clone();
        self.has_gap = false;
    }
}

impl Chain {
    /// Reports what did not match in this block: whether it is at another place or was changed.
    fn settle(&mut self, organization: Uuid, block: i64, found: &mut Vec<Finding>) {
        self.explain(organization, block, found);
        let unlinked = std::mem::take(&mut self.unlinked);
        if !unlinked.is_empty() {
            let hashes: HashSet<&Digest> = self.hashes.iter().collect();
            for (position, batch, previous) in unlinked {
                let (finding, text) = if hashes.contains(&previous) {
                    (
                        FindingKind::Reordered,
                        "prev_hash names a batch of the same transaction that is at another position",
                    )
                } else {
                    (FindingKind::Missing, "prev_hash names a batch of the same transaction that is missing")
                };
                found.push(Finding::in_block(finding, block, text).of(organization).at(position).about(batch));
            }
        }
        self.hashes.clear();
        self.chain_mismatch = false;
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(self.head.chain);
    }
}

impl Chain {
    fn explain(&mut self, organization: Uuid, block: i64, found: &mut Vec<Finding>) {
        let mismatches = std::mem::take(&mut self.mismatches);
        // Where nearly nothing fits, no other order would.
        let others = if mismatches.len() <= MAX_MISMATCHES { &mismatches[..] } else { &[] };
        for mismatch in &mismatches {
            let (finding, text) = mismatch.explain(others);
            let place = Finding::in_block(finding, block, text).of(organization);
            found.push(place.at(mismatch.entry.position).about(mismatch.entry.batch));
        }
    }
}

impl Mismatch {
    fn explain(&self, others: &[Mismatch]) -> (FindingKind, &'static str) {
        let others = || others.iter().filter(|other| other.entry.leaf != self.entry.leaf);
        if self.chain_differs {
            let belongs_here = |other: &Mismatch| {
                let chain = chain::extend(&self.previous, self.entry.position, &other.entry.batch_hash);
                chain == self.entry.chain || chain == other.entry.chain
            };
            return if others().any(belongs_here) {
                (FindingKind::Reordered, "the batch that was sealed at this position is at another one")
            } else {
                (FindingKind::Altered, "chain in tenancy.seal does not follow from the entry before")
            };
        }
        let sealed_elsewhere = |other: &Mismatch| Some(other.entry.batch_hash) == self.other_hash;
        if others().any(sealed_elsewhere) {
            (FindingKind::Reordered, "the batch was sealed at another position")
        } else {
            (FindingKind::Altered, "the batch was rewritten together with its hash after it was sealed")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    const ORGANIZATION: Uuid = Uuid::from_u128(0xa);

    #[derive(Default, Clone)]
    struct Tables {
        heads: HashMap<Digest, i64>,
        nodes: HashMap<(u32, u64), Digest>,
    }

    impl StoredHistory for Tables {
        type Error = Infallible;
        fn start(&mut self, organization: Uuid) -> Result<StoredHead, Infallible> {
            Ok(StoredHead::genesis(organization))
        }
        fn block_of(&mut self, _: Uuid, chain: &Digest) -> Result<Option<i64>, Infallible> {
            Ok(self.heads.get(chain).copied())
        }
        fn node(&mut self, _: Uuid, level: u32, index: u64) -> Result<Option<Digest>, Infallible> {
            Ok(self.nodes.get(&(level, index)).copied())
        }
    }

    fn batch(transaction: u64, ordinal: i32, previous: Digest) -> SeenBatch {
        let hash = chain::extend(&previous, i64::from(ordinal), &[transaction as u8; 32]);
        SeenBatch { organization: ORGANIZATION, transaction, ordinal, events: 1, previous, hash, fault: None }
    }

    /// The stored rows: batches, entries by block, and the head after each block.
    #[derive(Clone)]
    struct Log {
        batches: Vec<SeenBatch>,
        entries: Vec<Entry>,
        heads: Vec<StoredHead>,
        stored: Tables,
    }

    fn id(batch: &SeenBatch) -> Uuid {
        Uuid::from_u128(u128::from(batch.transaction) << 32 | (batch.ordinal as u128) << 12)
    }

    /// Seals the transactions of each block; those of the second block follow the head after the first.
    fn log(blocks: &[&[(u64, i32)]]) -> Log {
        let mut log = Log { batches: vec![], entries: vec![], heads: vec![], stored: Tables::default() };
        let mut head = StoredHead::genesis(ORGANIZATION);
        for (n, block) in blocks.iter().enumerate() {
            let newest = head.chain;
            for (transaction, count) in *block {
                let mut previous = newest;
                for ordinal in 1..=*count {
                    let batch = batch(*transaction, ordinal, previous);
                    previous = batch.hash;
                    head.position += 1;
                    head.leaves += 1;
                    head.chain = chain::extend(&head.chain, head.position, &batch.hash);
                    head.frontier.push(chain::leaf(head.position, &batch.hash), |level, index, hash| {
                        log.stored.nodes.insert((level, index), *hash);
                    });
                    log.entries.push(Entry {
                        leaf: head.leaves,
                        position: head.position,
                        batch: id(&batch),
                        batch_hash: batch.hash,
                        chain: head.chain,
                        block: n as i64 + 1,
                    });
                    log.batches.push(batch);
                }
            }
            log.stored.heads.insert(head.chain, n as i64 + 1);
            log.heads.push(head.clone());
        }
        log
    }

    fn small() -> Log {
        log(&[&[(10, 3), (11, 1)], &[(12, 1), (13, 2)]])
    }

    fn verify(log: &Log) -> Vec<(Option<i64>, FindingKind)> {
        verify_without(log, &BatchState::Gone)
    }

    /// Verifies the log, with `gone` as the state of missing batches.
    fn verify_without(log: &Log, gone: &BatchState) -> Vec<(Option<i64>, FindingKind)> {
        let mut walk = ChainVerifier::new(log.stored.clone(), log.heads.len() as i64, vec![1]);
        for (n, head) in log.heads.iter().enumerate() {
            let block = n as i64 + 1;
            for entry in log.entries.iter().filter(|entry| entry.block == block) {
                let batch = log.batches.iter().find(|batch| id(batch) == entry.batch);
                let batch = batch.map_or_else(|| gone.clone(), |batch| BatchState::Seen(batch.clone()));
                walk.entry(ORGANIZATION, entry, &batch).unwrap();
            }
            walk.end_of_block(ORGANIZATION, block, &HeadRow::Head(head.clone())).unwrap();
        }
        walk.take_found().into_iter().map(|found| (found.position, found.finding)).collect()
    }

    /// Recomputes positions and chain from the entries, as an attacker who knows the format can.
    fn rewrite(log: &mut Log) {
        let mut chain = chain::genesis(ORGANIZATION);
        for (n, entry) in log.entries.iter_mut().enumerate() {
            (entry.leaf, entry.position) = (n as i64 + 1, n as i64 + 1);
            chain = chain::extend(&chain, entry.position, &entry.batch_hash);
            entry.chain = chain;
        }
    }

    #[test]
    fn an_untouched_log_verifies() {
        assert_eq!(verify(&small()), []);
        assert_eq!(verify(&log(&[&[(10, 300)], &[(11, 300)]])), []);
    }

    #[test]
    fn an_event_with_a_fault_is_named() {
        let mut log = small();
        log.batches[1].fault = Some(Fault { finding: FindingKind::Altered, text: "x", place: 0 });
        assert_eq!(verify(&log), [(Some(2), FindingKind::Altered)]);
    }

    #[test]
    fn an_archived_event_is_not_missing_and_its_entry_is_verified() {
        for archived in [0..1, 1..2, 0..4, 3..6, 0..7] {
            let mut log = small();
            log.batches.drain(archived.clone());
            assert_eq!(verify_without(&log, &BatchState::Archived), [], "{archived:?}");
            log.entries[archived.start].batch_hash[0] ^= 1;
            assert_ne!(verify_without(&log, &BatchState::Archived), [], "{archived:?}, altered");
        }
    }

    #[test]
    fn an_event_that_is_gone_is_missing() {
        let mut log = small();
        log.batches.remove(3);
        assert_eq!(verify(&log), [(Some(4), FindingKind::Missing)]);
        let mut log = small();
        log.batches.remove(1);
        assert_eq!(verify(&log), [(Some(2), FindingKind::Missing)], "and the next of its transaction is not suspected");
    }

    #[test]
    fn entries_that_are_gone_are_missing_or_truncated() {
        let mut log = small();
        log.entries.remove(1);
        assert!(verify(&log).contains(&(Some(3), FindingKind::Missing)));
        let mut log = small();
        log.entries.retain(|entry| entry.leaf != 4);
        assert_eq!(verify(&log), [(None, FindingKind::Missing)], "at the end of the first block");
        let mut log = small();
        log.entries.pop();
        assert_eq!(verify(&log), [(None, FindingKind::Truncated)]);
    }

    #[test]
    fn entries_that_changed_places_are_reordered() {
        for (one, other) in [(0, 1), (1, 2), (0, 3)] {
            let mut log = small();
            let swap = |log: &mut Log| {
                let (a, b) = (log.entries[one].clone(), log.entries[other].clone());
                (log.entries[one].batch, log.entries[other].batch) = (b.batch, a.batch);
                (a, b)
            };
            let (a, b) = swap(&mut log);
            let reordered = |position: usize| (Some(position as i64 + 1), FindingKind::Reordered);
            let found = verify(&log);
            assert!(found.contains(&reordered(one)) && found.contains(&reordered(other)), "event: {found:?}");
            (log.entries[one].batch_hash, log.entries[other].batch_hash) = (b.batch_hash, a.batch_hash);
            let found = verify(&log);
            assert!(found.contains(&reordered(one)) && found.contains(&reordered(other)), "and its hash: {found:?}");
            (log.entries[one].chain, log.entries[other].chain) = (b.chain, a.chain);
            let found = verify(&log);
            assert!(found.contains(&reordered(one)), "and the chain: {found:?}");
        }
    }

    #[test]
    fn events_reordered_with_all_later_hashes_betray_their_links() {
        let mut within = small();
        within.entries.swap(0, 1);
        rewrite(&mut within);
        assert!(verify(&within).iter().any(|(_, finding)| *finding == FindingKind::Reordered));
        let mut across = small();
        // The first of the second block before what it follows.
        across.entries.swap(3, 4);
        (across.entries[3].block, across.entries[4].block) = (1, 2);
        rewrite(&mut across);
        assert!(verify(&across).contains(&(Some(4), FindingKind::Reordered)));
    }

    #[test]
    fn an_event_gone_with_all_later_hashes_rewritten_betrays_its_transaction() {
        let mut log = small();
        log.entries.remove(1);
        rewrite(&mut log);
        assert!(verify(&log).contains(&(Some(2), FindingKind::Missing)));
    }

    #[test]
    fn an_ordinal_twice_is_named_but_for_the_first_block_of_an_incarnation() {
        let twice = |block: i64, place: usize, ordinal: i32, previous: Digest| {
            let mut log = small();
            let copy = SeenBatch { hash: [0xcc; 32], ..batch(log.batches[place].transaction, ordinal, previous) };
            let id = Uuid::from_u128(0xc000);
            let entry = Entry { batch: id, batch_hash: copy.hash, block, ..log.entries[place].clone() };
            log.entries.insert(place + 1, entry);
            rewrite(&mut log);
            let mut walk = ChainVerifier::new(log.stored.clone(), 2, vec![1]);
            for entry in log.entries.iter().filter(|entry| entry.block == block) {
                let stored = log.batches.iter().find(|batch| self::id(batch) == entry.batch).unwrap_or(&copy);
                walk.entry(ORGANIZATION, entry, &BatchState::Seen(stored.clone())).unwrap();
            }
            let inserted = walk.take_found().into_iter().filter(|found| found.finding == FindingKind::Inserted);
            inserted.map(|found| found.position.unwrap()).collect::<Vec<i64>>()
        };
        let log = small();
        let head = log.heads[0].chain;
        // One event of the first block has the ordinal 3 of its transaction already; it follows the one with 2.
        assert_eq!(twice(1, 2, 3, log.batches[1].hash), [4]);
        // The first of its transaction, which follows a sealed head like the one before it.
        assert_eq!(twice(2, 4, 1, head), [6]);
        // Two transactions with one id: of the history that was restored, and of the one that began then.
        assert_eq!(twice(1, 3, 1, chain::genesis(ORGANIZATION)), Vec::<i64>::new());
    }

    #[test]
    fn an_event_that_follows_another_history_is_forked() {
        let mut log = small();
        let forged = batch(20, 1, [0xee; 32]);
        log.entries[4] = Entry { batch: id(&forged), batch_hash: forged.hash, ..log.entries[4].clone() };
        log.batches.push(forged);
        rewrite(&mut log);
        assert!(verify(&log).contains(&(Some(5), FindingKind::Forked)));
    }

    #[test]
    fn a_changed_chain_value_is_named_and_not_what_follows_it() {
        for place in [0, 3, 6] {
            let mut log = small();
            log.entries[place].chain = [0; 32];
            assert_eq!(verify(&log), [(Some(place as i64 + 1), FindingKind::Altered)]);
            log.entries[place].batch_hash = [1; 32];
            assert!(verify(&log).contains(&(Some(place as i64 + 1), FindingKind::Altered)));
        }
    }

    #[test]
    fn an_event_of_another_organization_is_named() {
        let mut log = small();
        log.batches[0].organization = Uuid::from_u128(0xb);
        assert_eq!(verify(&log), [(Some(1), FindingKind::Inserted)]);
    }

    #[test]
    fn the_rows_beside_the_chain_are_compared() {
        let mut log = small();
        log.heads[0].chain = [0; 32];
        assert_eq!(verify(&log), [(None, FindingKind::Altered)]);
        let mut log = small();
        log.heads[1].frontier = Frontier::default();
        assert_eq!(verify(&log), [(None, FindingKind::Altered)]);
        let mut log = self::log(&[&[(10, 300)]]);
        log.stored.nodes.insert((8, 0), [0; 32]);
        assert_eq!(verify(&log), [(Some(256), FindingKind::Altered)]);
        log.stored.nodes.remove(&(8, 0));
        assert_eq!(verify(&log), [(Some(256), FindingKind::Missing)]);
    }
}
