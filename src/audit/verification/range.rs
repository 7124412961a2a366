//! The rows of a range of blocks, handed to the pure verifier one after the other.
//!
//! Entries are read ahead by the batch, so that the events they name are read in the order of their ids, which is
//! that of their pages: the chains of many organizations run side by side through these.
//!
//! Decision: `docs/decisions/42-verification-by-head.md`.

use super::archives::Archives;
use super::batch::BatchReader;
use crate::audit::log::head_tree::heads_until;
use crate::pg::tables::scan::{Fields, Scan};
use crate::pg::tables::table::IndexKey;
use crate::pg::transaction;
use pg_tenancy_core::audit::format::encoding::Digest;
use pg_tenancy_core::audit::log::block::{Block, Entries};
use pg_tenancy_core::audit::log::chain::Entry;
use pg_tenancy_core::audit::log::merkle::Frontier;
use pg_tenancy_core::audit::verification::{
    BatchState, Blocks, ChainVerifier, Finding, FindingKind, HeadRow, Range, StoredHead, StoredHistory,
};
use pg_tenancy_core::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use uuid::Uuid;

/// What is verified, of which the ranges are parts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VerificationScope {
    /// One organization, or all of them with their blocks.
    pub organization: Option<Uuid>,
    /// The newest block there is.
    pub newest: i64,
    /// The first block of each history, and its name.
    pub incarnations: Vec<(i64, String)>,
    /// The months whose events are gone and need not be there.
    pub archives: Archives,
}

/// What was gone through, and between which ids the events were.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct RangeCounts {
    pub blocks: i64,
    pub events: i64,
    pub ids: Option<(Uuid, Uuid)>,
}

impl RangeCounts {
    fn batch(&mut self, id: Uuid, state: &BatchState) {
        self.events += match state {
            BatchState::Seen(seen) => i64::from(seen.events).max(1),
            _ => 1,
        };
        self.ids = Some(self.ids.map_or((id, id), |(lowest, highest)| (lowest.min(id), highest.max(id))));
    }

    /// Both together.
    pub fn and(self, other: RangeCounts) -> RangeCounts {
        let ids = match (self.ids, other.ids) {
            (Some(one), Some(other)) => Some((one.0.min(other.0), one.1.max(other.1))),
            (one, other) => one.or(other),
        };
        RangeCounts { blocks: self.blocks + other.blocks, events: self.events + other.events, ids }
    }
}

/// How many entries are read ahead.
const BATCH: usize = 2000;

/// Verifies the range; `report` gets what was found and gone through since it was last called.
pub fn verify<'r>(
    scope: &'r VerificationScope,
    range: Range,
    report: &'r mut dyn FnMut(Vec<Finding>, RangeCounts),
) -> Result<()> {
    let mut verifier = RangeVerifier {
        walk: ChainVerifier::new(
            Tables::open(range.first),
            scope.newest,
            scope.incarnations.iter().map(|(first, _)| *first).collect(),
        ),
        leaves: HashMap::new(),
        batch: EntryBatch::default(),
        entries: Scan::by_index(c"seal", c"seal_pkey", &entries_of(&Uuid::nil(), 0, 0)),
        entry: Scan::by_index(c"seal", c"seal_pkey", &entry_of(&Uuid::nil(), 0)),
        head: Scan::by_index(c"head", c"head_pkey", &head_of(&Uuid::nil(), 0)),
        later_head: Scan::by_index(c"head", c"head_pkey", &heads_after(&Uuid::nil(), 0, 0)),
        last: range.last,
        stored: BatchReader::default(),
        archives: &scope.archives,
        seen: RangeCounts::default(),
        report,
    };
    match scope.organization {
        Some(organization) => verifier.organization(organization, range)?,
        None => verifier.all(scope, range)?,
    }
    verifier.settle()
}

struct RangeVerifier<'r> {
    archives: &'r Archives,
    walk: ChainVerifier<Tables>,
    /// Up to which leaf the entries of each organization were read, ahead of the walk.
    leaves: HashMap<Uuid, i64>,
    batch: EntryBatch,
    entries: Scan,
    entry: Scan,
    head: Scan,
    later_head: Scan,
    /// The last block of the range.
    last: i64,
    stored: BatchReader,
    seen: RangeCounts,
    report: &'r mut dyn FnMut(Vec<Finding>, RangeCounts),
}

/// What was read and not yet walked.
#[derive(Default)]
struct EntryBatch {
    steps: Vec<Step>,
    /// The batches to be read, which of the entries each is of, and the block that sealed it.
    batches: Vec<(Uuid, usize, i64)>,
}

enum Step {
    Entry(Uuid, Entry),
    /// The end of an organization's entries in a block.
    Head(Uuid, i64, HeadRow),
}

fn entries_of(organization: &Uuid, after: i64, until: i64) -> [IndexKey; 3] {
    [IndexKey::uuid(1, organization), IndexKey::big_integer(2, after).more(), IndexKey::big_integer(2, until).or_less()]
}

fn entry_of(organization: &Uuid, leaf: i64) -> [IndexKey; 2] {
    [IndexKey::uuid(1, organization), IndexKey::big_integer(2, leaf)]
}

fn head_of(organization: &Uuid, block: i64) -> [IndexKey; 2] {
    [IndexKey::uuid(1, organization), IndexKey::big_integer(2, block)]
}

fn heads_after(organization: &Uuid, block: i64, until: i64) -> [IndexKey; 3] {
    [IndexKey::uuid(1, organization), IndexKey::big_integer(2, block).more(), IndexKey::big_integer(2, until).or_less()]
}

impl RangeVerifier<'_> {
    /// Walks through what was read, and tells what was found.
    fn settle(&mut self) -> Result<()> {
        let EntryBatch { steps, batches: mut ids } = std::mem::take(&mut self.batch);
        ids.sort_unstable();
        let mut batches: Vec<Option<BatchState>> = vec![None; ids.len()];
        for (id, place, block) in ids {
            let state = self.stored(&id, block)?;
            self.seen.batch(id, &state);
            batches[place] = Some(state);
            transaction::check_for_interrupts();
        }
        let mut batches = batches.into_iter().flatten();
        for step in steps {
            match step {
                Step::Head(organization, number, row) => self.walk.end_of_block(organization, number, &row)?,
                Step::Entry(organization, entry) => {
                    let batch = batches.next().unwrap_or(BatchState::Gone);
                    self.walk.entry(organization, &entry, &batch)?;
                }
            }
        }
        (self.report)(self.walk.take_found(), std::mem::take(&mut self.seen));
        Ok(())
    }

    /// What stands under the id of a batch that the block sealed.
    fn stored(&mut self, id: &Uuid, block: i64) -> Result<BatchState> {
        if self.archives.have_away(id, block) {
            return Ok(BatchState::Archived);
        }
        let batch = self.stored.find(id)?;
        let gone = matches!(batch, BatchState::Gone) && self.archives.have(id, block);
        Ok(if gone { BatchState::Archived } else { batch })
    }

    /// The blocks, and of each the entries of all organizations.
    fn all(&mut self, scope: &VerificationScope, range: Range) -> Result<()> {
        let between = |column| {
            [IndexKey::big_integer(column, range.first).or_more(), IndexKey::big_integer(column, range.last).or_less()]
        };
        let mut blocks = Scan::by_index(c"block", c"block_pkey", &between(1));
        let mut heads = Scan::by_index(c"head", c"head_block_idx", &between(2));
        let before = range.first - 1;
        let mut chain = Blocks::after(before, hash_of(before), scope.newest, scope.incarnations.clone());
        let mut block = blocks.next().map(|row| block_row(&row));
        let mut head = heads.next().map(|row| head_row(&row));
        loop {
            let numbers = [block.as_ref().map(|(number, _)| *number), head.as_ref().map(|(_, number, _)| *number)];
            let Some(number) = numbers.into_iter().flatten().min() else { break };
            let mut entries = Entries::default();
            while let Some((organization, _, row)) = head.take_if(|(_, of, _)| *of == number) {
                self.organization_in_block(organization, number, row, &mut entries)?;
                head = heads.next().map(|row| head_row(&row));
            }
            if let Some((_, row)) = block.take_if(|(of, _)| *of == number) {
                let found = match row {
                    Some((row, hash)) => chain.next(&row, &hash, entries),
                    None => chain.unreadable(number),
                };
                found.into_iter().for_each(|found| self.walk.report(found));
                block = blocks.next().map(|row| block_row(&row));
                self.seen.blocks += 1;
            }
        }
        chain.finish(range.last).into_iter().for_each(|found| self.walk.report(found));
        Ok(())
    }

    /// The entries of one organization, block by block.
    fn organization(&mut self, organization: Uuid, range: Range) -> Result<()> {
        let blocks = [
            IndexKey::uuid(1, &organization),
            IndexKey::big_integer(2, range.first).or_more(),
            IndexKey::big_integer(2, range.last).or_less(),
        ];
        let mut heads = Scan::by_index(c"head", c"head_pkey", &blocks);
        while let Some((_, number, row)) = heads.next().map(|row| head_row(&row)) {
            self.organization_in_block(organization, number, row, &mut Entries::default())?;
            self.seen.blocks += 1;
        }
        Ok(())
    }

    /// The entries that a row of `tenancy.head` tells of: those after the head before, up to its leaf.
    fn organization_in_block(
        &mut self,
        organization: Uuid,
        number: i64,
        mut row: HeadRow,
        entries: &mut Entries,
    ) -> Result<()> {
        let until = match &row {
            HeadRow::Head(head) => head.leaves,
            _ => i64::MAX,
        };
        let mut leaf = match self.leaves.get(&organization) {
            Some(leaf) => *leaf,
            None => self.walk.standing(organization)?.leaves,
        };
        self.entries.seek(&entries_of(&organization, leaf, until));
        let (mut agrees, mut headless) = (None, None);
        while let Some(fields) = self.entries.next() {
            let Some(entry) = entry_row(&fields) else {
                let found = Finding::anywhere(
                    FindingKind::Altered,
                    "a column of the entry in tenancy.seal has an invalid \
                        value",
                );
                let position = fields.big_integer(3).unwrap_or_default();
                self.walk.report(Finding {
                    block: Some(number),
                    event: fields.uuid(5),
                    ..found.of(organization).at(position)
                });
                continue;
            };
            if entry.block != number {
                // The next head leads to the entries from here on; where there is none, this one has to.
                if !*agrees.get_or_insert_with(|| agree(&mut self.entry, organization, &row))
                    && self.has_later_head(organization, number)
                {
                    row = if row == HeadRow::Unreadable { row } else { HeadRow::Elsewhere };
                    break;
                }
                if headless != Some(entry.block) && !self.misplaced(organization, number, &entry) {
                    headless = Some(entry.block);
                }
            }
            entries.add(organization, &entry);
            leaf = entry.leaf;
            self.batch.batches.push((entry.batch, self.batch.batches.len(), entry.block));
            self.batch.steps.push(Step::Entry(organization, entry));
            if self.batch.batches.len() == BATCH {
                self.settle()?;
            }
        }
        if let HeadRow::Head(head) = &row {
            leaf = leaf.max(head.leaves);
        }
        self.leaves.insert(organization, leaf);
        self.batch.steps.push(Step::Head(organization, number, row));
        if self.batch.steps.len() >= 2 * BATCH { self.settle() } else { Ok(()) }
    }

    /// True if the range has a head of the organization after that of the block.
    fn has_later_head(&mut self, organization: Uuid, block: i64) -> bool {
        self.later_head.seek(&heads_after(&organization, block, self.last));
        self.later_head.next().is_some()
    }

    /// Reports an entry that names another block than the one whose head tells of it; false if that is because the
    /// head of its own block is gone.
    fn misplaced(&mut self, organization: Uuid, number: i64, entry: &Entry) -> bool {
        self.head.seek(&head_of(&organization, entry.block));
        let headless = entry.block < number && self.head.next().is_none();
        let found = if headless {
            let text = "the row of the organization in tenancy.head is gone, from here on";
            Finding::in_block(FindingKind::Missing, entry.block, text)
        } else {
            let text = format!("the entry names block {}, which did not seal it", entry.block);
            Finding::in_block(FindingKind::Reordered, number, text)
        };
        self.walk.report(found.of(organization).at(entry.position).about(entry.batch));
        !headless
    }
}

/// True if the entry that the head names is there and has its chain value.
fn agree(entry: &mut Scan, organization: Uuid, row: &HeadRow) -> bool {
    let HeadRow::Head(head) = row else { return false };
    entry.seek(&entry_of(&organization, head.leaves));
    entry.next().and_then(|fields| fields.array(7)) == Some(head.chain)
}

/// The hash that a block is stored with.
fn hash_of(number: i64) -> Option<Digest> {
    Scan::by_index(c"block", c"block_pkey", &[IndexKey::big_integer(1, number)]).next()?.array(9)
}

/// A row of `tenancy.block`.
pub fn block_row(fields: &Fields) -> (i64, Option<(Block, Digest)>) {
    let number = fields.big_integer(1).unwrap_or_default();
    let block = || {
        let block = Block {
            number,
            sealed_at: fields.timestamp(2)?,
            snapshot: fields.snapshot(3)?,
            incarnation: fields.text(4)?.to_owned(),
            entries: fields.big_integer(5)?,
            events: fields.big_integer(6)?,
            entries_digest: fields.array(7)?,
            previous: fields.array(8)?,
        };
        Some((block, fields.array(9)?))
    };
    (number, block())
}

/// A row of `tenancy.head`.
fn head_row(fields: &Fields) -> (Uuid, i64, HeadRow) {
    let row = head_in(fields).map_or(HeadRow::Unreadable, HeadRow::Head);
    (fields.uuid(1).unwrap_or_default(), fields.big_integer(2).unwrap_or_default(), row)
}

/// Where a row of `tenancy.head` says that the organization stands.
pub fn head_in(fields: &Fields) -> Option<StoredHead> {
    let (position, leaves) = (fields.big_integer(3)?, fields.big_integer(4)?);
    let frontier = Frontier::from_bytes(u64::try_from(leaves).ok()?, fields.bytes(6)?)?;
    Some(StoredHead { position, leaves, chain: fields.array(5)?, frontier })
}

pub fn entry_row(fields: &Fields) -> Option<Entry> {
    Some(Entry {
        leaf: fields.big_integer(2)?,
        position: fields.big_integer(3)?,
        block: fields.big_integer(4)?,
        batch: fields.uuid(5)?,
        batch_hash: fields.array(6)?,
        chain: fields.array(7)?,
    })
}

/// What the walk looks up beside the entries.
struct Tables {
    /// The first block of the range.
    first: i64,
    heads: Scan,
    nodes: Scan,
}

impl Tables {
    fn open(first: i64) -> Self {
        Tables {
            first,
            heads: Scan::by_index(c"head", c"head_pkey", &heads_until(&Uuid::nil(), 0)),
            nodes: Scan::by_index(c"tree_node", c"tree_node_pkey", &node_of(&Uuid::nil(), 0, 0)),
        }
    }
}

fn node_of(organization: &Uuid, level: u32, index: u64) -> [IndexKey; 3] {
    [IndexKey::uuid(1, organization), IndexKey::small_integer(2, level as i16), IndexKey::big_integer(3, index as i64)]
}

impl StoredHistory for Tables {
    type Error = Error;

    fn start(&mut self, organization: Uuid) -> Result<StoredHead> {
        self.heads.seek(&heads_until(&organization, self.first - 1));
        // A row that cannot be read is a finding of the range that it belongs to.
        while let Some(fields) = self.heads.back() {
            if let Some(head) = head_in(&fields) {
                return Ok(head);
            }
        }
        Ok(StoredHead::genesis(organization))
    }

    fn block_of(&mut self, organization: Uuid, chain: &Digest) -> Result<Option<i64>> {
        self.heads.seek(&heads_until(&organization, i64::MAX));
        while let Some(fields) = self.heads.back() {
            if fields.array(5) == Some(*chain) {
                return Ok(fields.big_integer(2));
            }
        }
        Ok(None)
    }

    fn node(&mut self, organization: Uuid, level: u32, index: u64) -> Result<Option<Digest>> {
        self.nodes.seek(&node_of(&organization, level, index));
        // What is no hash at all differs from any.
        Ok(self.nodes.next().map(|fields| fields.array(4).unwrap_or_default()))
    }
}
