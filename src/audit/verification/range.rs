//! The rows of a range of blocks, handed to the pure verifier one after the other.
//!
//! Entries are read ahead by the batch, so that the events they name are read in the order of their ids, which is
//! that of their pages: the chains of many organizations run side by side through these.
//!
//! Decision: `docs/decisions/42-verification-by-head.md`.

use super::archives::Archives;
use super::batch::BatchReader;
use crate::audit::log::seal::{entries_in, head_in, head_until, open_heads, rows_until};
use crate::pg::tables::scan::{Fields, Scan};
use crate::pg::tables::table::IndexKey;
use crate::pg::transaction;
use pg_tenancy_core::audit::format::encoding::Digest;
use pg_tenancy_core::audit::log::block::{Block, Heads};
use pg_tenancy_core::audit::log::entries::Entry;
use pg_tenancy_core::audit::log::snapshot::{Snapshot, Turn};
use pg_tenancy_core::audit::verification::{
    BatchState, Blocks, ChainVerifier, Finding, Range, SealRow, StoredHead, StoredHistory,
};
use pg_tenancy_core::error::{Error, Result};
use serde::{Deserialize, Serialize};
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
    /// The first blocks after which transactions are counted anew.
    pub counters: Vec<i64>,
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
    let firsts = scope.incarnations.iter().map(|(first, _)| *first).collect();
    let mut verifier = RangeVerifier {
        walk: ChainVerifier::new(Tables::open(range.first), firsts),
        batch: EntryBatch::default(),
        turns: Turns::open(scope),
        block: None,
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
    batch: EntryBatch,
    turns: Turns,
    /// The block whose rows were read last.
    block: Option<i64>,
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
    Block(Option<Turn>),
    /// Organization, block, and the position and leaf before the first entry of the row.
    Row(Uuid, i64, i64, i64),
    Entry(Uuid, Entry),
    /// The end of a row.
    RowEnd(Uuid, i64, SealRow),
    /// The end of an organization's rows in a block.
    BlockEnd(Uuid, i64),
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
                Step::Block(turn) => self.walk.begin_block(turn),
                Step::Row(organization, block, position, leaves) => {
                    self.walk.begin_row(organization, block, position, leaves)?;
                }
                Step::Entry(organization, entry) => {
                    let batch = batches.next().unwrap_or(BatchState::Gone);
                    self.walk.entry(organization, &entry, &batch)?;
                }
                Step::RowEnd(organization, block, row) => self.walk.end_row(organization, block, &row)?,
                Step::BlockEnd(organization, block) => self.walk.end_block(organization, block)?,
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
        let mut rows = Scan::by_index(c"seal", c"seal_block_idx", &between(2));
        let before = range.first - 1;
        let mut chain = Blocks::after(before, hash_of(before), scope.newest, scope.incarnations.clone());
        let mut block = blocks.next().map(|row| block_row(&row));
        let mut row = rows.next().map(|row| SealFields::read(&row));
        loop {
            let numbers = [block.as_ref().map(|(number, _)| *number), row.as_ref().map(|row| row.block)];
            let Some(number) = numbers.into_iter().flatten().min() else { break };
            let (mut heads, mut last) = (Heads::default(), None);
            while let Some(of_block) = row.take_if(|row| row.block == number) {
                if let Some(ended) = last.take_if(|ended: &mut SealFields| ended.organization != of_block.organization)
                {
                    self.end_of_block(&ended, &mut heads)?;
                }
                heads.count(of_block.entries.iter().map(|entry| entry.events).sum());
                last = Some(self.row(of_block)?);
                row = rows.next().map(|row| SealFields::read(&row));
            }
            if let Some(ended) = last {
                self.end_of_block(&ended, &mut heads)?;
            }
            if let Some((_, row)) = block.take_if(|(of, _)| *of == number) {
                let found = match row {
                    Some((row, hash)) => chain.next(&row, &hash, heads),
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

    /// The rows of one organization, block by block.
    fn organization(&mut self, organization: Uuid, range: Range) -> Result<()> {
        let blocks = [
            IndexKey::uuid(1, &organization),
            IndexKey::big_integer(2, range.first).or_more(),
            IndexKey::big_integer(2, range.last).or_less(),
        ];
        let mut rows = Scan::by_index(c"seal", c"seal_pkey", &blocks);
        let mut last: Option<SealFields> = None;
        while let Some(row) = rows.next().map(|row| SealFields::read(&row)) {
            if let Some(ended) = last.take_if(|ended| ended.block != row.block) {
                self.end_of_block(&ended, &mut Heads::default())?;
                self.seen.blocks += 1;
            }
            last = Some(self.row(row)?);
        }
        if let Some(ended) = last {
            self.end_of_block(&ended, &mut Heads::default())?;
            self.seen.blocks += 1;
        }
        Ok(())
    }

    /// Reads a row, whose entries are walked when enough of them are together. Returns the rest of it.
    fn row(&mut self, mut row: SealFields) -> Result<SealFields> {
        let (organization, block) = (row.organization, row.block);
        if self.block.replace(block) != Some(block) {
            let turn = self.turns.of(block);
            self.batch.steps.push(Step::Block(turn));
        }
        if let Some(first) = row.entries.first() {
            let (position, leaves) = (first.position - first.events, first.leaf - 1);
            self.batch.steps.push(Step::Row(organization, block, position, leaves));
        }
        for entry in std::mem::take(&mut row.entries) {
            self.batch.batches.push((entry.batch, self.batch.batches.len(), block));
            self.batch.steps.push(Step::Entry(organization, entry));
            if self.batch.batches.len() == BATCH {
                self.settle()?;
            }
        }
        self.batch.steps.push(Step::RowEnd(organization, block, row.state.clone()));
        if self.batch.steps.len() >= 2 * BATCH {
            self.settle()?;
        }
        Ok(row)
    }

    /// After the last row of an organization in a block.
    fn end_of_block(&mut self, last: &SealFields, heads: &mut Heads) -> Result<()> {
        if let Some((position, leaves, chain)) = &last.head {
            heads.add(last.organization, *position, *leaves, chain);
        }
        self.batch.steps.push(Step::BlockEnd(last.organization, last.block));
        Ok(())
    }
}

/// A row of `tenancy.seal`.
struct SealFields {
    organization: Uuid,
    block: i64,
    /// What its block covers, where that can be read: position, leaves and chain value.
    head: Option<(i64, i64, Digest)>,
    state: SealRow,
    entries: Vec<Entry>,
}

impl SealFields {
    fn read(fields: &Fields) -> Self {
        let head = || Some((fields.big_integer(3)?, fields.big_integer(4)?, fields.array(5)?));
        let (entries, malformed) = match entries_in(fields) {
            Ok(entries) => (entries, None),
            Err(malformed) => (Vec::new(), Some(malformed)),
        };
        let state = match (head_in(fields), malformed) {
            (Some(head), None) => SealRow::Head(head),
            (Some(head), Some(malformed)) => SealRow::Malformed(head, malformed),
            (None, _) => SealRow::Unreadable,
        };
        let (organization, block) = (fields.uuid(1).unwrap_or_default(), fields.big_integer(2).unwrap_or_default());
        SealFields { organization, block, head: head(), state, entries }
    }
}

/// Which transactions the blocks sealed.
struct Turns {
    blocks: Scan,
    counters: Vec<i64>,
    /// The snapshot of the block that was read last.
    last: Option<(i64, Option<Snapshot>)>,
}

impl Turns {
    fn open(scope: &VerificationScope) -> Self {
        let blocks = Scan::by_index(c"block", c"block_pkey", &[IndexKey::big_integer(1, 0)]);
        Turns { blocks, counters: scope.counters.clone(), last: None }
    }

    /// `None` where a block that tells it is not what was written.
    fn of(&mut self, block: i64) -> Option<Turn> {
        let begins = self.counters.contains(&block);
        let before = if begins { None } else { Some(self.snapshot(block - 1)?) };
        Some(Turn { before, snapshot: self.snapshot(block)? })
    }

    fn snapshot(&mut self, block: i64) -> Option<Snapshot> {
        if let Some((_, snapshot)) = self.last.as_ref().filter(|(number, _)| *number == block) {
            return snapshot.clone();
        }
        self.blocks.seek(&[IndexKey::big_integer(1, block)]);
        // A snapshot that was changed tells nothing of the batches: the block is named.
        let row = self.blocks.next().and_then(|fields| block_row(&fields).1);
        let snapshot: Option<Snapshot> =
            row.filter(|(block, hash)| block.hash() == *hash).and_then(|(block, _)| block.snapshot.parse().ok());
        self.last = Some((block, snapshot.clone()));
        snapshot
    }
}

/// The hash that a block is stored with.
fn hash_of(number: i64) -> Option<Digest> {
    Scan::by_index(c"block", c"block_pkey", &[IndexKey::big_integer(1, number)]).next()?.array(8)
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
            events: fields.big_integer(5)?,
            heads_digest: fields.array(6)?,
            previous: fields.array(7)?,
        };
        Some((block, fields.array(8)?))
    };
    (number, block())
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
            heads: open_heads(),
            nodes: Scan::by_index(c"tree_node", c"tree_node_pkey", &node_of(&Uuid::nil(), 0, 0)),
        }
    }
}

fn node_of(organization: &Uuid, level: u32, index: u64) -> [IndexKey<'_>; 3] {
    [IndexKey::uuid(1, organization), IndexKey::small_integer(2, level as i16), IndexKey::big_integer(3, index as i64)]
}

impl StoredHistory for Tables {
    type Error = Error;

    fn start(&mut self, organization: Uuid) -> Result<StoredHead> {
        // A row that cannot be read is a finding of the range that it belongs to.
        let head = head_until(&mut self.heads, &organization, self.first - 1);
        Ok(head.unwrap_or_else(|| StoredHead::genesis(organization)))
    }

    fn block_of(&mut self, organization: Uuid, chain: &Digest) -> Result<Option<i64>> {
        self.heads.seek(&rows_until(&organization, i64::MAX));
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
