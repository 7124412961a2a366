//! The place of a batch in the seal, without an index by batch: its transaction tells the block, and the entries of
//! its organization in that block tell the rest.
//!
//! Blocks are numbered without gaps, and what is over in the snapshot of one is over in all later ones of the same
//! counter of transactions. So the first block in which a transaction was over is found by a search over numbers.
//!
//! Decision: `docs/decisions/61-seal-row.md`.

use super::seal::RowsOfBlock;
use crate::pg::fmgr;
use crate::pg::tables::scan::Scan;
use crate::pg::tables::table::IndexKey;
use pg_tenancy_core::audit::format::incarnation::DatabaseIdentity;
use pg_tenancy_core::audit::log::entries::Entry;
use pg_tenancy_core::audit::log::snapshot::{Snapshot, Turn};
use pgrx::{pg_extern, pg_sys};
use uuid::Uuid;

/// How many rows of entries are kept: look-ups go through the batches of some organizations side by side.
const ROWS: usize = 16;

/// Looks up places. Keeps rows of the seal, which never change: for the look-ups of one statement.
#[derive(Default)]
pub struct Places {
    /// The latest found last.
    rows: Vec<KeptRow>,
    /// The block in which a batch was found last.
    block: Option<(i64, Turn)>,
}

/// A row of the seal, and which of its entries was found last.
struct KeptRow {
    organization: Uuid,
    block: i64,
    leaves: i64,
    entries: Vec<Entry>,
    found: usize,
}

impl KeptRow {
    /// The next one first: batches are mostly asked for in their order.
    fn find(&mut self, batch: &Uuid) -> Option<Entry> {
        let after = self.found + 1;
        let is = |entry: &Entry| entry.batch == *batch;
        let place = match self.entries.get(after) {
            Some(entry) if is(entry) => after,
            _ => self.entries.iter().position(is)?,
        };
        self.found = place;
        Some(self.entries[place].clone())
    }
}

impl Places {
    /// The entry of a batch, of which the row says that it is of this organization and transaction; `None` where the
    /// blocks that can have sealed it have no such entry.
    pub fn find(&mut self, organization: &Uuid, transaction: u64, batch: &Uuid) -> Option<Entry> {
        let kept = self.rows.iter().rposition(|row| row.organization == *organization);
        if let Some(entry) = kept.and_then(|place| self.rows[place].find(batch)) {
            return Some(entry);
        }
        let known = self.block.as_ref().filter(|(_, turn)| turn.before.is_some() && turn.is_of(transaction));
        if let Some(block) = known.map(|(block, _)| *block)
            && let Some(entry) = self.find_in(organization, block, batch)
        {
            return Some(entry);
        }
        let mut blocks = Scan::by_index(c"block", c"block_pkey", &[IndexKey::big_integer(1, 0)]);
        for space in spaces().into_iter().rev() {
            let sealed = space.sealed(&mut blocks, transaction);
            for block in sealed.into_iter().chain([space.first].into_iter().filter(|first| sealed != Some(*first))) {
                if let Some(entry) = self.find_in(organization, block, batch) {
                    let before = (block > space.first).then(|| snapshot(&mut blocks, block - 1)).flatten();
                    self.block = snapshot(&mut blocks, block).map(|snapshot| (block, Turn { before, snapshot }));
                    return Some(entry);
                }
            }
        }
        None
    }

    /// Reads on from the row that is kept, where the block has several, and then those before it.
    fn find_in(&mut self, organization: &Uuid, block: i64, batch: &Uuid) -> Option<Entry> {
        let kept = self.rows.iter().position(|row| row.organization == *organization);
        let kept = kept.map(|place| self.rows.remove(place));
        let after = kept.filter(|row| row.block == block).map_or(i64::MIN, |row| row.leaves);
        self.read(organization, block, batch, after, i64::MAX)
            .or_else(|| if after == i64::MIN { None } else { self.read(organization, block, batch, i64::MIN, after) })
    }

    fn read(&mut self, organization: &Uuid, block: i64, batch: &Uuid, after: i64, until: i64) -> Option<Entry> {
        let mut rows = RowsOfBlock::open(organization, block, after);
        while let Some((leaves, entries)) = rows.next() {
            if leaves > until {
                break;
            }
            let mut row = KeptRow { organization: *organization, block, leaves, entries, found: usize::MAX - 1 };
            if let Some(entry) = row.find(batch) {
                if self.rows.len() == ROWS {
                    self.rows.remove(0);
                }
                self.rows.push(row);
                return Some(entry);
            }
        }
        None
    }
}

/// Blocks whose transactions are of one counter: those of a database since it was restored.
struct XidSpace {
    first: i64,
    last: i64,
}

impl XidSpace {
    /// The first block in which the transaction was over.
    fn sealed(&self, blocks: &mut Scan, transaction: u64) -> Option<i64> {
        let mut is_over = |block| snapshot(blocks, block).is_some_and(|snapshot| snapshot.is_over(transaction));
        if !is_over(self.last) {
            return None;
        }
        let (mut low, mut high) = (self.first, self.last);
        while low < high {
            let middle = low + (high - low) / 2;
            if is_over(middle) { high = middle } else { low = middle + 1 }
        }
        Some(low)
    }
}

fn snapshot(blocks: &mut Scan, number: i64) -> Option<Snapshot> {
    blocks.seek(&[IndexKey::big_integer(1, number)]);
    blocks.next()?.snapshot(3)?.parse().ok()
}

/// The first blocks of all counters of transactions, in order.
pub fn first_blocks_of_counters() -> Vec<i64> {
    let keys = [IndexKey::big_integer(2, i64::MIN).or_more()];
    let mut rows = Scan::by_index(c"incarnation", c"incarnation_first_block_key", &keys);
    let (mut firsts, mut before) = (Vec::new(), None);
    while let Some(fields) = rows.next() {
        let identity = || {
            let (system_identifier, database) = (fields.text(3)?.to_owned(), fields.integer(4)?.cast_unsigned());
            Some(DatabaseIdentity { system_identifier, database, timeline: fields.big_integer(5)? })
        };
        let identity = identity();
        let goes_on =
            before.zip(identity.as_ref()).is_some_and(|(before, now): (DatabaseIdentity, _)| before.counts_as(now));
        if !goes_on {
            firsts.extend(fields.big_integer(2));
        }
        before = identity;
    }
    firsts
}

fn spaces() -> Vec<XidSpace> {
    let newest = [IndexKey::big_integer(1, i64::MAX).or_less()];
    let newest = Scan::by_index(c"block", c"block_pkey", &newest).back().and_then(|fields| fields.big_integer(1));
    let (firsts, newest) = (first_blocks_of_counters(), newest.unwrap_or(0));
    let ends = firsts.iter().skip(1).map(|next| next - 1).chain([newest]);
    firsts.iter().zip(ends).map(|(first, last)| XidSpace { first: *first, last }).collect()
}

/// `tenancy.place_of(batch, organization, transaction)`: block, leaf and position of the last event. An `xid8` is
/// passed as an integer. What was read is kept from call to call of one statement.
#[pg_extern(sql = false)]
fn tenancy_place_of(
    batch: pgrx::Uuid,
    organization: pgrx::Uuid,
    transaction: i64,
    call: pg_sys::FunctionCallInfo,
) -> Option<Vec<i64>> {
    let id = |id: pgrx::Uuid| Uuid::from_bytes(*id.as_bytes());
    fmgr::with_kept(call, |places: &mut Places| {
        let entry = places.find(&id(organization), transaction.cast_unsigned(), &id(batch))?;
        Some(vec![entry.block, entry.leaf, entry.position])
    })
}
