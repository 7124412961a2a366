//! Verifies the entries of the seal: chain, tree and links of each organization.

use super::range;
use super::stored_batch::Fault;
use super::{Finding, FindingKind};
use crate::audit::format::encoding::Digest;
use crate::audit::format::event::event_id;
use crate::audit::log::chain;
use crate::audit::log::checkpoint::Head;
use crate::audit::log::entries::Entry;
use crate::audit::log::merkle::{Frontier, STORED_LEVELS};
use crate::audit::log::snapshot::Turn;
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

/// The columns of a row of `tenancy.seal` that say where the organization's chain and tree stand after its entries.
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

/// The state of a row of `tenancy.seal`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SealRow {
    /// The row can be read.
    Head(StoredHead),
    /// The entries of the row cannot be read, for this reason.
    Malformed(StoredHead, &'static str),
    /// Another column has an invalid value.
    Unreadable,
}

impl StoredHead {
    /// The head of an organization before its first event.
    pub fn genesis(organization: Uuid) -> Self {
        StoredHead { position: 0, leaves: 0, chain: chain::genesis(organization), frontier: Frontier::default() }
    }

    /// The same as a checkpoint covers it.
    pub fn of(self, organization: Uuid) -> Head {
        let root = self.frontier.root();
        Head { organization, position: self.position, leaves: self.leaves, chain: self.chain, root }
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
    /// Which transactions the current block sealed; `None` if its row, or that of the block before, cannot be read.
    turn: Option<Turn>,
    /// The first block of each incarnation. In it, a transaction of a restored history and a new one may have the same
    /// id.
    first_blocks: Vec<i64>,
    /// The organization whose entries are being verified, with its chain.
    current: Option<(Uuid, Chain)>,
    /// The chains of the other organizations.
    chains: HashMap<Uuid, Chain>,
    found: Vec<Finding>,
}

/// The head of an organization's chain so far, and data about the entries in the current row and block.
struct Chain {
    head: StoredHead,
    /// The chain value that was computed before the row, if the stored one differs.
    ///
    /// If the row follows from the computed value, only the stored value was changed.
    recomputed_chain: Option<Digest>,
    /// The newest chain values of the organization, at most [`RECENT`].
    recent: VecDeque<Digest>,
    /// The previous batch; `None` at the beginning and after a gap.
    before: Option<Before>,
    /// Whether there was a gap: chain and tree cannot be computed until the next stored head.
    has_gap: bool,
    /// Whether the row before could not be read, so that it is not known where this one begins.
    is_lost: bool,
    /// The highest transaction of this block so far.
    transaction: u64,
    /// The nodes of the tree that the entries of this row complete: level, index, hash, position.
    nodes: Vec<(u32, u64, Digest, i64)>,
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

/// An entry whose batch has another hash.
struct Mismatch {
    entry: Entry,
    /// The hash of the batch.
    other_hash: Digest,
}

impl<H: StoredHistory> ChainVerifier<H> {
    /// Makes a verifier; `first_blocks` has the number of the first block of each incarnation.
    pub fn new(history: H, first_blocks: Vec<i64>) -> Self {
        ChainVerifier { history, turn: None, first_blocks, current: None, chains: HashMap::new(), found: Vec::new() }
    }

    /// Removes and returns the findings since the last call.
    pub fn take_found(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.found)
    }

    /// Goes on to another block. `turn` says which transactions it sealed.
    pub fn begin_block(&mut self, turn: Option<Turn>) {
        self.turn = turn;
    }

    /// Begins a row of the organization, whose first entry follows this position and leaf.
    pub fn begin_row(&mut self, organization: Uuid, block: i64, position: i64, leaves: i64) -> Result<(), H::Error> {
        let chain = self.chain(organization)?;
        let expected = chain.head.leaves;
        if leaves == expected {
            return Ok(());
        }
        chain.before = None;
        chain.has_gap = true;
        (chain.head.position, chain.head.leaves) = (position, leaves);
        let (finding, text) = match () {
            () if std::mem::take(&mut chain.is_lost) => return Ok(()),
            () if leaves > expected => {
                let gone = leaves.saturating_sub(expected);
                let text = format!(
                    "{gone} entries of the organization are gone from tenancy.seal, in this block or before it"
                );
                (FindingKind::Missing, text)
            }
            () => {
                let places = range("entry", "entries", leaves.saturating_add(1), expected);
                (FindingKind::Inserted, format!("{places} in tenancy.seal twice"))
            }
        };
        self.found.push(Finding::in_block(finding, block, text).of(organization));
        Ok(())
    }

    /// Adds a finding of the caller.
    pub fn report(&mut self, found: Finding) {
        self.found.push(found);
    }

    /// Verifies the next entry of the row with its batch.
    pub fn entry(&mut self, organization: Uuid, entry: &Entry, batch: &BatchState) -> Result<(), H::Error> {
        // The position of a row that says another one is reported at its end.
        let entry = &Entry { position: self.follow(organization, entry, batch)?, ..entry.clone() };
        let first = entry.position.saturating_sub(entry.events - 1).max(1);
        let mut fault = |finding, text: &str, place: i32| {
            let found = Finding::in_block(finding, entry.block, text);
            let found = found.of(organization).at(first.saturating_add(i64::from(place)));
            self.found.push(found.about(event_id(entry.batch, place)));
        };
        if !entry.has_possible_events() {
            fault(FindingKind::Altered, "the entry in tenancy.seal has more events than a batch can have", 0);
        }
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
                if own && i64::from(seen.events) != entry.events {
                    fault(FindingKind::Altered, "the entry in tenancy.seal has another number of events", 0);
                }
                if own && let Some((finding, text)) = self.misplaced(organization, entry, seen)? {
                    let found = Finding::in_block(finding, entry.block, text);
                    self.found.push(found.of(organization).at(first).about(entry.batch));
                }
            }
        }
        if let Some((_, chain)) = &mut self.current {
            chain.before = Some(Before { hash: entry.batch_hash, run });
            chain.transaction = chain.transaction.max(run.map_or(0, |run| run.transaction));
            if chain.hashes.len() < MAX_HASHES {
                chain.hashes.push(entry.batch_hash);
            }
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

    /// Extends chain and tree. Returns the position of the entry.
    fn follow(&mut self, organization: Uuid, entry: &Entry, batch: &BatchState) -> Result<i64, H::Error> {
        let mut explained = Vec::new();
        let chain = self.chain(organization)?;
        let position = chain.head.position.saturating_add(entry.events);
        if let BatchState::Seen(seen) = batch
            && seen.fault.is_none()
            && seen.hash != entry.batch_hash
        {
            if chain.mismatches.len() == 2 * MAX_MISMATCHES {
                chain.explain(organization, entry.block, &mut explained);
            }
            let entry = Entry { position, ..entry.clone() };
            chain.mismatches.push(Mismatch { entry, other_hash: seen.hash });
        }
        chain.head.position = position;
        chain.head.leaves = entry.leaf;
        if !chain.has_gap {
            let placed = Entry { position, ..entry.clone() };
            chain.head.chain = placed.extend(&chain.head.chain);
            chain.recomputed_chain = chain.recomputed_chain.map(|before| placed.extend(&before));
            let nodes = &mut chain.nodes;
            chain.head.frontier.push(placed.leaf_hash(), |level, index, hash| {
                if level.is_multiple_of(STORED_LEVELS) {
                    nodes.push((level, index, *hash, position));
                }
            });
        }
        self.found.append(&mut explained);
        Ok(position)
    }

    /// Compares the nodes of the tree that a row completed with the stored ones.
    fn compare_nodes(
        &mut self,
        organization: Uuid,
        block: i64,
        nodes: Vec<(u32, u64, Digest, i64)>,
    ) -> Result<(), H::Error> {
        for (level, index, hash, position) in nodes {
            let (finding, what) = match self.history.node(organization, level, index)? {
                Some(stored) if stored == hash => continue,
                Some(_) => (FindingKind::Altered, "is not the one over these batches"),
                None => (FindingKind::Missing, "is gone"),
            };
            let text = format!("node {index} of level {level} in tenancy.tree_node {what}");
            self.found.push(Finding::in_block(finding, block, text).of(organization).at(position));
        }
        Ok(())
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
        let may_repeat = seen.ordinal == 1 && self.first_blocks.contains(&entry.block);
        if again && !may_repeat || may_repeat && chain.hashes.contains(&seen.hash) {
            return Ok(Some((FindingKind::Inserted, "the transaction has an event with the same ordinal already")));
        }
        if self.turn.as_ref().is_some_and(|turn| !turn.is_of(seen.transaction)) {
            return Ok(Some((FindingKind::Reordered, "the block did not seal the transaction of the batch")));
        }
        if seen.transaction < chain.transaction {
            return Ok(Some((FindingKind::Reordered, "a batch of a later transaction stands before it in the block")));
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

    /// Compares where the entries of a row lead to with its other columns.
    pub fn end_row(&mut self, organization: Uuid, block: i64, stored: &SealRow) -> Result<(), H::Error> {
        let mut found = Vec::new();
        let chain = self.chain(organization)?;
        let mut nodes = std::mem::take(&mut chain.nodes);
        let recomputed = chain.recomputed_chain.take();
        let mut report = |finding, text: &str| found.push(Finding::in_block(finding, block, text).of(organization));
        match stored {
            SealRow::Unreadable => {
                report(FindingKind::Altered, "a column of the row in tenancy.seal has an invalid value");
                (chain.is_lost, chain.has_gap, chain.before) = (true, true, None);
            }
            SealRow::Malformed(stored, text) => {
                report(FindingKind::Altered, text);
                chain.go_on_from(stored);
                chain.before = None;
            }
            SealRow::Head(stored) if chain.has_gap => {
                nodes.clear();
                chain.go_on_from(stored);
            }
            SealRow::Head(stored) if stored.chain != chain.head.chain && recomputed != Some(stored.chain) => {
                let text = format!(
                    "the entries of the organization in block {block} do not lead to the chain value in tenancy.seal"
                );
                report(FindingKind::Altered, &text);
                nodes.clear();
                let recomputed = recomputed.unwrap_or(chain.head.chain);
                chain.go_on_from(stored);
                chain.recomputed_chain = Some(recomputed);
            }
            SealRow::Head(stored) => {
                if stored.position != chain.head.position {
                    let text = "position in tenancy.seal does not follow from the row before and the events";
                    report(FindingKind::Altered, text);
                }
                if stored.frontier != chain.head.frontier {
                    report(FindingKind::Altered, "frontier in tenancy.seal does not match the tree over these batches");
                }
                chain.head.chain = stored.chain;
            }
        }
        if chain.recent.len() == RECENT {
            chain.recent.pop_front();
        }
        chain.recent.push_back(chain.head.chain);
        self.found.append(&mut found);
        self.compare_nodes(organization, block, nodes)
    }

    /// Reports what did not match in this block, after the last row of the organization in it.
    pub fn end_block(&mut self, organization: Uuid, block: i64) -> Result<(), H::Error> {
        let mut found = Vec::new();
        self.chain(organization)?.settle(organization, block, &mut found);
        self.found.append(&mut found);
        Ok(())
    }
}

impl Chain {
    fn from(head: StoredHead) -> Self {
        Chain {
            recent: VecDeque::from([head.chain]),
            head,
            recomputed_chain: None,
            before: None,
            has_gap: false,
            is_lost: false,
            transaction: 0,
            nodes: Vec::new(),
            hashes: Vec::new(),
            mismatches: Vec::new(),
            unlinked: Vec::new(),
        }
    }

    /// Continues from the stored head, after the mismatches before it were reported.
    fn go_on_from(&mut self, stored: &StoredHead) {
        self.head = stored.clone();
        (self.has_gap, self.is_lost) = (false, false);
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
        self.transaction = 0;
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
        let sealed_elsewhere =
            |other: &Mismatch| other.entry.leaf != self.entry.leaf && other.entry.batch_hash == self.other_hash;
        if others.iter().any(sealed_elsewhere) {
            (FindingKind::Reordered, "the batch was sealed at another position")
        } else {
            (FindingKind::Altered, "the batch was rewritten together with its hash after it was sealed")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::log::snapshot::Snapshot;
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
                        events: 1,
                        batch: id(&batch),
                        batch_hash: batch.hash,
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
        let mut walk = ChainVerifier::new(log.stored.clone(), vec![1]);
        for (n, head) in log.heads.iter().enumerate() {
            row(&mut walk, log, n as i64 + 1, SealRow::Head(head.clone()), gone);
        }
        walk.take_found().into_iter().map(|found| (found.position, found.finding)).collect()
    }

    /// Verifies the row of a block; without entries, it is gone.
    fn row(walk: &mut ChainVerifier<Tables>, log: &Log, block: i64, head: SealRow, gone: &BatchState) {
        let entries: Vec<&Entry> = log.entries.iter().filter(|entry| entry.block == block).collect();
        let [first, ..] = entries[..] else { return };
        let (position, leaves) = match &head {
            SealRow::Head(head) => (head.position - entries.len() as i64, head.leaves - entries.len() as i64),
            _ => (first.position - 1, first.leaf - 1),
        };
        walk.begin_row(ORGANIZATION, block, position, leaves).unwrap();
        for (place, entry) in (1..).zip(entries) {
            let batch = log.batches.iter().find(|batch| id(batch) == entry.batch);
            let batch = batch.map_or_else(|| gone.clone(), |batch| BatchState::Seen(batch.clone()));
            let entry = Entry { leaf: leaves + place, ..entry.clone() };
            walk.entry(ORGANIZATION, &entry, &batch).unwrap();
        }
        walk.end_row(ORGANIZATION, block, &head).unwrap();
        walk.end_block(ORGANIZATION, block).unwrap();
    }

    /// Recomputes heads from the entries, as an attacker who knows the format can.
    fn rewrite(log: &mut Log) {
        let mut head = StoredHead::genesis(ORGANIZATION);
        for (block, stored) in (1..).zip(&mut log.heads) {
            for entry in log.entries.iter_mut().filter(|entry| entry.block == block) {
                head.leaves += 1;
                head.position += entry.events;
                (entry.leaf, entry.position) = (head.leaves, head.position);
                head.chain = entry.extend(&head.chain);
                head.frontier.push(entry.leaf_hash(), |_, _, _| ());
            }
            *stored = head.clone();
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
    fn entries_that_are_gone_are_missing() {
        let mut log = small();
        log.entries.remove(1);
        assert!(verify(&log).contains(&(None, FindingKind::Missing)), "its row begins later");
        let mut log = small();
        log.entries.retain(|entry| entry.block != 1);
        assert_eq!(verify(&log), [(None, FindingKind::Missing)], "the first row");
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
            assert!(verify(&log).contains(&(None, FindingKind::Altered)), "and its hash");
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
            let mut walk = ChainVerifier::new(log.stored.clone(), vec![1]);
            for number in 1..=block {
                let head = SealRow::Head(log.heads[number as usize - 1].clone());
                row(&mut walk, &log, number, head, &BatchState::Seen(copy.clone()));
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
        for block in [0, 1] {
            let mut log = small();
            log.heads[block].chain = [0; 32];
            let found = verify(&log);
            assert_eq!(found[0], (None, FindingKind::Altered));
            // What followed it before names a chain value that is gone.
            assert!(found[1..].iter().all(|(_, finding)| *finding == FindingKind::Forked), "{found:?}");
        }
    }

    #[test]
    fn a_changed_entry_is_named_with_its_batch_and_its_block() {
        for place in [0, 3, 6] {
            let mut log = small();
            log.entries[place].batch_hash = [1; 32];
            let found = verify(&log);
            assert!(found.contains(&(Some(place as i64 + 1), FindingKind::Altered)), "{found:?}");
            assert!(found.contains(&(None, FindingKind::Altered)), "{found:?}");
        }
        let mut log = small();
        log.entries[1].events = 2;
        assert!(verify(&log).contains(&(Some(2), FindingKind::Altered)));
        log.entries[1].events = 129;
        assert!(verify(&log).contains(&(Some(2), FindingKind::Altered)));
    }

    #[test]
    fn a_batch_twice_is_named_although_all_was_computed_anew() {
        let turns = |log: &Log| {
            let mut walk = ChainVerifier::new(log.stored.clone(), vec![1]);
            let snapshots = ["1:12:", "12:14:"].map(|text| text.parse::<Snapshot>().unwrap());
            let before = [Some(Snapshot::default()), Some(snapshots[0].clone())];
            for (n, (snapshot, before)) in snapshots.into_iter().zip(before).enumerate() {
                walk.begin_block(Some(Turn { before, snapshot }));
                let head = SealRow::Head(log.heads[n].clone());
                row(&mut walk, log, n as i64 + 1, head, &BatchState::Gone);
            }
            let found = walk.take_found().into_iter();
            found.map(|found| (found.position, found.finding)).collect::<Vec<_>>()
        };
        assert_eq!(turns(&small()), []);
        // Of the first block again in the second; of the second in the first; again in its own block.
        for (from, to, block) in [(0, 7, 2), (4, 4, 1), (4, 7, 2)] {
            let mut log = small();
            let twice = Entry { block, ..log.entries[from].clone() };
            log.entries.insert(to, twice);
            rewrite(&mut log);
            let found = turns(&log);
            assert!(found.contains(&(Some(to as i64 + 1), FindingKind::Reordered)), "{from} at {to}: {found:?}");
        }
    }

    #[test]
    fn rows_that_overlap_or_cannot_be_read_are_named() {
        let log = small();
        let mut walk = ChainVerifier::new(log.stored.clone(), vec![1]);
        row(&mut walk, &log, 1, SealRow::Head(log.heads[0].clone()), &BatchState::Gone);
        row(&mut walk, &log, 1, SealRow::Head(log.heads[0].clone()), &BatchState::Gone);
        let found = walk.take_found();
        assert!(found.iter().any(|found| found.explanation == "entries 1 to 4 are in tenancy.seal twice"), "{found:?}");
        let mut walk = ChainVerifier::new(log.stored.clone(), vec![1]);
        row(&mut walk, &log, 1, SealRow::Unreadable, &BatchState::Gone);
        row(&mut walk, &log, 2, SealRow::Head(log.heads[1].clone()), &BatchState::Gone);
        let found = walk.take_found();
        assert!(found.len() == 1 && found[0].explanation.contains("invalid value"), "{found:?}");
        let mut walk = ChainVerifier::new(log.stored.clone(), vec![1]);
        walk.end_row(ORGANIZATION, 1, &SealRow::Malformed(log.heads[0].clone(), "x")).unwrap();
        row(&mut walk, &log, 2, SealRow::Head(log.heads[1].clone()), &BatchState::Gone);
        let found = walk.take_found();
        assert!(found.len() == 1 && found[0].explanation == "x", "{found:?}");
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
        log.heads[1].frontier = Frontier::default();
        assert_eq!(verify(&log), [(None, FindingKind::Altered)]);
        let mut log = self::log(&[&[(10, 300)]]);
        log.stored.nodes.insert((8, 0), [0; 32]);
        assert_eq!(verify(&log), [(Some(256), FindingKind::Altered)]);
        log.stored.nodes.remove(&(8, 0));
        assert_eq!(verify(&log), [(Some(256), FindingKind::Missing)]);
    }
}
