//! The rows of `tenancy.seal` as they are stored: where each organization stands after a block, and its entries.
//!
//! Decision: `docs/decisions/61-seal-row.md`.

use super::state::unreadable;
use crate::pg::tables::scan::{Fields, Scan};
use crate::pg::tables::table::IndexKey;
use crate::pg::transaction;
use pg_tenancy_core::audit::format::encoding::Digest;
use pg_tenancy_core::audit::log::entries::{self, Entry};
use pg_tenancy_core::audit::log::merkle::Frontier;
use pg_tenancy_core::audit::verification::StoredHead;
use pg_tenancy_core::error::Result;
use uuid::Uuid;

/// The columns of `tenancy.seal`: organization, block, position, leaves, chain, frontier, entries.
const BLOCK: usize = 2;
const ENTRIES: usize = 7;

/// The keys of an organization's rows up to a block, in `seal_pkey`.
pub fn rows_until(organization: &Uuid, block: i64) -> [IndexKey<'_>; 2] {
    [IndexKey::uuid(1, organization), IndexKey::big_integer(2, block).or_less()]
}

/// The keys of an organization's rows from a block on, in `seal_pkey`.
pub fn rows_from(organization: &Uuid, block: i64) -> [IndexKey<'_>; 2] {
    [IndexKey::uuid(1, organization), IndexKey::big_integer(2, block).or_more()]
}

fn rows_between(organization: &Uuid, first: i64, last: i64) -> [IndexKey<'_>; 3] {
    [
        IndexKey::uuid(1, organization),
        IndexKey::big_integer(2, first).or_more(),
        IndexKey::big_integer(2, last).or_less(),
    ]
}

/// The keys of an organization's rows of a block, after so many leaves.
fn rows_of(organization: &Uuid, block: i64, leaves: i64) -> [IndexKey<'_>; 3] {
    [IndexKey::uuid(1, organization), IndexKey::big_integer(2, block), IndexKey::big_integer(4, leaves).more()]
}

/// Where a row says that the organization stands.
pub fn head_in(fields: &Fields) -> Option<StoredHead> {
    let (position, leaves) = (fields.big_integer(3)?, fields.big_integer(4)?);
    let frontier = Frontier::from_bytes(u64::try_from(leaves).ok()?, fields.bytes(6)?)?;
    Some(StoredHead { position, leaves, chain: fields.array(5)?, frontier })
}

/// The entries of a row; what is wrong with them otherwise. A list that no row can have is not brought into memory.
pub fn entries_in(fields: &Fields) -> std::result::Result<Vec<Entry>, &'static str> {
    let malformed = |malformed: entries::Malformed| malformed.text();
    let invalid = "a column of the row in tenancy.seal has an invalid value";
    let place = || Some((fields.big_integer(BLOCK)?, fields.big_integer(3)?, fields.big_integer(4)?));
    let ((block, position, leaves), length) = (place().ok_or(invalid)?, fields.length(ENTRIES).ok_or(invalid)?);
    if !entries::is_possible_length(length) {
        return Err(entries::Malformed::Length.text());
    }
    let list = fields.bytes(ENTRIES).ok_or(invalid)?;
    Ok(entries::entries(block, position, leaves, list).map_err(malformed)?.collect())
}

/// The newest row of an organization up to a block that can be read.
pub fn head_until(rows: &mut Scan, organization: &Uuid, block: i64) -> Option<StoredHead> {
    rows.seek(&rows_until(organization, block));
    while let Some(fields) = rows.back() {
        if let Some(head) = head_in(&fields) {
            return Some(head);
        }
    }
    None
}

/// A scan for [`head_until`] and others of the same keys.
pub fn open_heads() -> Scan {
    Scan::by_index(c"seal", c"seal_pkey", &rows_until(&Uuid::nil(), 0))
}

/// The number of entries of an organization; 0 where it has none.
pub fn leaves_of(organization: &Uuid) -> i64 {
    let mut rows = open_heads();
    rows.seek(&rows_until(organization, i64::MAX));
    rows.back().and_then(|fields| fields.big_integer(4)).unwrap_or(0)
}

/// Whether there are rows of a block or of later ones.
pub fn has_rows_from(block: i64) -> bool {
    Scan::by_index(c"seal", c"seal_block_idx", &[IndexKey::big_integer(2, block).or_more()]).next().is_some()
}

/// The first block after which the organization has this leaf, by a search over the numbers of blocks: an index by leaf
/// would cost as much as the rows.
fn block_of_leaf(organization: &Uuid, leaf: i64) -> i64 {
    let mut rows = open_heads();
    rows.seek(&rows_until(organization, i64::MAX));
    let newest = rows.back().and_then(|fields| fields.big_integer(BLOCK)).unwrap_or(0);
    let (mut low, mut high) = (1, newest.max(1));
    while low < high {
        let middle = low + (high - low) / 2;
        rows.seek(&rows_until(organization, middle));
        let leaves = rows.back().and_then(|fields| fields.big_integer(4)).unwrap_or(0);
        if leaves >= leaf { high = middle } else { low = middle + 1 }
    }
    low
}

/// Hands an organization's entries from a leaf on to `each`, until it returns false or a row cannot be read.
pub fn entries_from(organization: &Uuid, leaf: i64, mut each: impl FnMut(&Entry) -> Result<bool>) -> Result<()> {
    let first = if leaf <= 1 { 0 } else { block_of_leaf(organization, leaf) };
    let mut rows = Scan::by_index(c"seal", c"seal_pkey", &rows_from(organization, first));
    while let Some(fields) = rows.next() {
        transaction::check_for_interrupts();
        if fields.big_integer(4).is_some_and(|leaves| leaves < leaf) {
            continue;
        }
        let Ok(entries) = entries_in(&fields) else { return Ok(()) };
        for entry in entries {
            if entry.leaf >= leaf && !each(&entry)? {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Position and chain value of an organization after a leaf, out of the row before it; `None` if the leaf is not there.
pub fn standing_at(organization: &Uuid, leaf: i64) -> Result<Option<(i64, Digest)>> {
    let mut before = StoredHead::genesis(*organization);
    if leaf == 0 {
        return Ok(Some((0, before.chain)));
    }
    let block = block_of_leaf(organization, leaf);
    if let Some(head) = head_until(&mut open_heads(), organization, block - 1) {
        before = head;
    }
    let mut rows = Scan::by_index(c"seal", c"seal_pkey", &rows_from(organization, block));
    while let Some(fields) = rows.next() {
        let head = head_in(&fields).ok_or_else(|| unreadable("a row of tenancy.seal"))?;
        if head.leaves < leaf {
            before = head;
            continue;
        }
        let (mut chain, mut next) = (before.chain, before.leaves + 1);
        for entry in entries_in(&fields).map_err(|_| unreadable("a row of tenancy.seal"))? {
            if entry.leaf != next {
                break;
            }
            chain = entry.extend(&chain);
            if entry.leaf == leaf {
                return Ok(Some((entry.position, chain)));
            }
            next += 1;
        }
        return Err(unreadable("a row of tenancy.seal"));
    }
    Ok(None)
}

/// Whether the rows of an organization from a block on follow from the row before and from each other.
pub fn is_whole_from(organization: &Uuid, block: i64) -> bool {
    is_whole_between(organization, block, i64::MAX)
}

/// The organizations whose rows of a block do not follow from the row before and from each other.
pub fn broken_in(block: i64) -> Vec<Uuid> {
    let mut rows = Scan::by_index(c"seal", c"seal_block_idx", &[IndexKey::big_integer(2, block)]);
    let (mut last, mut broken) = (None, Vec::new());
    while let Some(organization) = rows.next().map(|fields| fields.uuid(1).unwrap_or_default()) {
        transaction::check_for_interrupts();
        if last.replace(organization) != Some(organization) && !is_whole_between(&organization, block, block) {
            broken.push(organization);
        }
    }
    broken
}

fn is_whole_between(organization: &Uuid, block: i64, last: i64) -> bool {
    let before = head_until(&mut open_heads(), organization, block - 1);
    let mut before = before.unwrap_or_else(|| StoredHead::genesis(*organization));
    let mut rows = Scan::by_index(c"seal", c"seal_pkey", &rows_between(organization, block, last));
    while let Some(fields) = rows.next() {
        let (Some(head), Ok(entries)) = (head_in(&fields), entries_in(&fields)) else { return false };
        for entry in entries {
            before.leaves += 1;
            before.position = before.position.saturating_add(entry.events);
            if (entry.leaf, entry.position) != (before.leaves, before.position) {
                return false;
            }
            before.chain = entry.extend(&before.chain);
        }
        if (head.leaves, head.position, head.chain) != (before.leaves, before.position, before.chain) {
            return false;
        }
    }
    true
}

/// Hands the entries of all organizations up to a block to `each`, in the order of organization and leaf, but for rows
/// that cannot be read.
pub fn all_entries(through_block: i64, mut each: impl FnMut(Uuid, &Entry)) {
    let mut rows = Scan::by_index(c"seal", c"seal_pkey", &[IndexKey::uuid(1, &Uuid::nil()).or_more()]);
    while let Some(fields) = rows.next() {
        transaction::check_for_interrupts();
        if fields.big_integer(BLOCK).is_some_and(|block| block > through_block) {
            continue;
        }
        let organization = fields.uuid(1).unwrap_or_default();
        entries_in(&fields).iter().flatten().for_each(|entry| each(organization, entry));
    }
}

/// Reads which batches a block sealed, of all organizations.
pub struct BlockEntries(Scan);

impl BlockEntries {
    pub fn open() -> Self {
        BlockEntries(Scan::by_index(c"seal", c"seal_block_idx", &[IndexKey::big_integer(2, 0)]))
    }

    /// Hands the id of each batch that the block sealed to `each`, but for rows that cannot be read.
    pub fn of_block(&mut self, block: i64, mut each: impl FnMut(Uuid)) {
        self.0.seek(&[IndexKey::big_integer(2, block)]);
        while let Some(fields) = self.0.next() {
            entries_in(&fields).iter().flatten().for_each(|entry| each(entry.batch));
            transaction::check_for_interrupts();
        }
    }
}

/// The rows of an organization in a block, each with its number of leaves and its entries, after so many leaves.
pub struct RowsOfBlock(Scan);

impl RowsOfBlock {
    pub fn open(organization: &Uuid, block: i64, after: i64) -> Self {
        RowsOfBlock(Scan::by_index(c"seal", c"seal_pkey", &rows_of(organization, block, after)))
    }

    /// The next one that can be read.
    pub fn next(&mut self) -> Option<(i64, Vec<Entry>)> {
        while let Some(fields) = self.0.next() {
            transaction::check_for_interrupts();
            if let (Some(leaves), Ok(entries)) = (fields.big_integer(4), entries_in(&fields)) {
                return Some((leaves, entries));
            }
        }
        None
    }
}
