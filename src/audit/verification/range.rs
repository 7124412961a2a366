//! The rows of a range of blocks, handed to the pure verifier one after the other.
//!
//! Entries are read ahead by the batch, so that the events they name are read in the order of their ids, which is
//! that of their pages: the chains of many organizations run side by side through these.
//!
//! Decision: `docs/decisions/42-verification-by-head.md`.

use super::archives::Archives;
use super::event::EventReader;
use crate::pg::tables::scan::{Fields, Scan};
use crate::pg::tables::table::IndexKey;
use crate::pg::transaction;
use pg_tenancy_core::audit::format::encoding::Digest;
use pg_tenancy_core::audit::log::block::{Block, Entries};
use pg_tenancy_core::audit::log::chain::Entry;
use pg_tenancy_core::audit::log::merkle::Frontier;
use pg_tenancy_core::audit::verification::{
    Blocks, ChainVerifier, EventState, Finding, FindingKind, HeadRow, Range, StoredHead, StoredHistory,
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
    fn event(&mut self, id: Uuid) {
        self.events += 1;
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
        walk: ChainVerifier::new(Tables::open(range.first), scope.newest),
        positions: HashMap::new(),
        batch: EntryBatch::default(),
        entries: Scan::by_index(c"seal", c"seal_pkey", &entries_of(&Uuid::nil(), 0, 0)),
        entry: Scan::by_index(c"seal", c"seal_pkey", &entry_of(&Uuid::nil(), 0)),
        head: Scan::by_index(c"head", c"head_pkey", &head_of(&Uuid::nil(), 0)),
        later_head: Scan::by_index(c"head", c"head_pkey", &heads_after(&Uuid::nil(), 0, 0)),
        last: range.last,
        events: EventReader::default(),
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
    /// Up to where the entries of each organization were read, ahead of the walk.
    positions: HashMap<Uuid, i64>,
    batch: EntryBatch,
    entries: Scan,
    entry: Scan,
    head: Scan,
    later_head: Scan,
    /// The last block of the range.
    last: i64,
    events: EventReader,
    seen: RangeCounts,
    report: &'r mut dyn FnMut(Vec<Finding>, RangeCounts),
}

/// What was read and not yet walked.
#[derive(Default)]
struct EntryBatch {
    steps: Vec<Step>,
    /// The events to be read, which of the entries each is of, and the block that sealed it.
    events: Vec<(Uuid, usize, i64)>,
}

enum Step {
    Entry(Uuid, Entry),
    /// The end of an organization's entries in a block.
    Head(Uuid, i64, HeadRow),
}

fn entries_of(organization: &Uuid, after: i64, until: i64) -> [IndexKey; 3] {
    [IndexKey::uuid(1, organization), IndexKey::big_integer(2, after).more(), IndexKey::big_integer(2, until).or_less()]
}

fn entry_of(organization: &Uuid, position: i64) -> [IndexKey; 2] {
    [IndexKey::uuid(1, organization), IndexKey::big_integer(2, position)]
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
        let EntryBatch { steps, events: mut ids } = std::mem::take(&mut self.batch);
        ids.sort_unstable();
        let mut events: Vec<Option<EventState>> = vec![None; ids.len()];
        for (id, place, block) in ids {
            events[place] = Some(self.event(&id, block)?);
            self.seen.event(id);
            transaction::check_for_interrupts();
        }
        let mut events = events.into_iter().flatten();
        for step in steps {
            match step {
                Step::Head(organization, number, row) => self.walk.end_of_block(organization, number, &row)?,
                Step::Entry(organization, entry) => {
                    let event = events.next().unwrap_or(EventState::Gone);
                    self.walk.entry(organization, &entry, &event)?;
                }
            }
        }
        (self.report)(self.walk.take_found(), std::mem::take(&mut self.seen));
        Ok(())
    }

    /// What stands under the id of an event that the block sealed.
    fn event(&mut self, id: &Uuid, block: i64) -> Result<EventState> {
        if self.archives.have_away(id, block) {
            return Ok(EventState::Archived);
        }
        let event = self.events.find(id)?;
        let gone = matches!(event, EventState::Gone) && self.archives.have(id, block);
        Ok(if gone { EventState::Archived } else { event })
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

    /// The entries that a row of `tenancy.head` tells of: those after the head before, up to its position.
    fn organization_in_block(
        &mut self,
        organization: Uuid,
        number: i64,
        mut row: HeadRow,
        entries: &mut Entries,
    ) -> Result<()> {
        let until = match &row {
            HeadRow::Head(head) => head.position,
            _ => i64::MAX,
        };
        let mut position = match self.positions.get(&organization) {
            Some(position) => *position,
            None => self.walk.standing(organization)?.position,
        };
        self.entries.seek(&entries_of(&organization, position, until));
        let (mut agrees, mut headless) = (None, None);
        while let Some(fields) = self.entries.next() {
            let Some(entry) = entry_row(&fields) else {
                let found = Finding::anywhere(
                    FindingKind::Altered,
                    "a column of the entry in tenancy.seal has an invalid \
                        value",
                );
                let position = fields.big_integer(2).unwrap_or_default();
                self.walk.report(Finding {
                    block: Some(number),
                    event: fields.uuid(4),
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
            position = entry.position;
            self.batch.events.push((entry.event, self.batch.events.len(), entry.block));
            self.batch.steps.push(Step::Entry(organization, entry));
            if self.batch.events.len() == BATCH {
                self.settle()?;
            }
        }
        if let HeadRow::Head(head) = &row {
            position = position.max(head.position);
        }
        self.positions.insert(organization, position);
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
        self.walk.report(found.of(organization).at(entry.position).about(entry.event));
        !headless
    }
}

/// True if the entry that the head names is there and has its chain value.
fn agree(entry: &mut Scan, organization: Uuid, row: &HeadRow) -> bool {
    let HeadRow::Head(head) = row else { return false };
    entry.seek(&entry_of(&organization, head.position));
    entry.next().and_then(|fields| fields.array(6)) == Some(head.chain)
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
            entries_digest: fields.array(6)?,
            previous: fields.array(7)?,
        };
        Some((block, fields.array(8)?))
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
    let position = fields.big_integer(3)?;
    let frontier = Frontier::from_bytes(u64::try_from(position).ok()?, fields.bytes(5)?)?;
    Some(StoredHead { position, chain: fields.array(4)?, frontier })
}

pub fn entry_row(fields: &Fields) -> Option<Entry> {
    Some(Entry {
        position: fields.big_integer(2)?,
        block: fields.big_integer(3)?,
        event: fields.uuid(4)?,
        event_hash: fields.array(5)?,
        chain: fields.array(6)?,
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

pub fn heads_until(organization: &Uuid, block: i64) -> [IndexKey; 2] {
    [IndexKey::uuid(1, organization), IndexKey::big_integer(2, block).or_less()]
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
            if fields.array(4) == Some(*chain) {
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
