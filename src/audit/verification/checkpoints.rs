//! Checkpoints beside the chain: those that are stored, and one that somebody kept elsewhere.

use super::edges;
use super::range::VerificationScope;
use crate::audit::log::head_tree::{self, HeadTreeChange, HeadTreeVersion};
use crate::pg::spi::{self, Query, Row, argument};
use pg_tenancy_core::audit::format::encoding::Digest;
use pg_tenancy_core::audit::log::checkpoint::{Entry, Heads};
use pg_tenancy_core::audit::log::signed_note::Verifier;
use pg_tenancy_core::audit::verification::{
    Checkpoints, Finding, FindingKind, KeptNote, Leaves, Range, StoredCheckpoint, compare_nodes,
};
use pg_tenancy_core::error::{Error, Result};
use uuid::Uuid;

static KEYS: Query = Query::new("SELECT public_key FROM tenancy.signing_key ORDER BY epoch");

/// From the last checkpoint before a block on, each with the hash of the block that it names.
const CHECKPOINTS: &str = "SELECT c.incarnation, c.number, c.made_at, c.block, c.block_hash, c.heads, c.heads_root, \
    c.prev_digest, c.digest, c.root,
            c.frontier, c.origin, c.note, b.hash
       FROM tenancy.checkpoint c LEFT JOIN tenancy.block b ON b.number = c.block
      WHERE c.block >= coalesce((SELECT max(block) FROM tenancy.checkpoint WHERE block < $1), 0)
      ORDER BY c.block, c.number";

/// Those of one history.
const HISTORY: &str = "SELECT c.incarnation, c.number, c.made_at, c.block, c.block_hash, c.heads, c.heads_root, \
    c.prev_digest, c.digest, c.root,
            c.frontier, c.origin, c.note, b.hash
       FROM tenancy.checkpoint c LEFT JOIN tenancy.block b ON b.number = c.block
      WHERE c.incarnation = $1 ORDER BY c.number";

/// A row of `tenancy.checkpoint`; `None` if it has a value that no checkpoint has.
fn stored(row: &Row) -> Option<StoredCheckpoint> {
    let previous: Option<&[u8]> = row.get(8);
    let entry = Entry {
        incarnation: row.get(1)?,
        number: row.get(2)?,
        made_at: row.timestamp(3)?,
        block: row.get(4)?,
        block_hash: row.bytes(5)?,
        heads: row.get(6)?,
        heads_root: row.bytes(7)?,
        previous: previous.map(Digest::try_from).transpose().ok()?,
    };
    Some(StoredCheckpoint {
        entry,
        digest: row.bytes(9)?,
        root: row.bytes(10)?,
        frontier: row.get::<&[u8]>(11)?.to_vec(),
        origin: row.get(12)?,
        note: row.get(13)?,
    })
}

/// Nodes of the tree over heads that no checkpoint has changed.
const NODES_BEYOND: &str = "SELECT n.block, count(*) FROM tenancy.head_node n
      WHERE (n.block >= $1 AND n.block <= $2 OR $3)
        AND NOT EXISTS (SELECT FROM tenancy.checkpoint c WHERE c.block = n.block)
      GROUP BY n.block ORDER BY n.block";

/// Compares the checkpoints of the blocks of a range, and what they signed with what is there.
pub fn compare(scope: &VerificationScope, range: Range, found: &mut Vec<Finding>) -> Result<()> {
    let keys = KEYS.read(&[], |row| Verifier::parse(&row.get::<String>(1)?).ok()).into_iter().flatten().collect();
    let (mut keys, mut before, mut checkpoints, mut newest) = (Some(keys), None, None::<Checkpoints>, None);
    let mut trees = HeadTrees::default();
    spi::stream(CHECKPOINTS, &[argument(range.first)], |row| {
        let number = row.get(4).unwrap_or_default();
        let Some(stored) = stored(row) else {
            let text = "a column of a row in tenancy.checkpoint has an invalid value";
            found.push(Finding::in_block(FindingKind::Altered, number, text));
            return Ok(());
        };
        if number < range.first {
            trees.after(&stored);
            before = Some(stored);
        } else if number <= range.last || range.last == scope.newest {
            let checkpoints =
                checkpoints.get_or_insert_with(|| Checkpoints::after(before.as_ref(), keys.take().unwrap_or_default()));
            found.extend(checkpoints.next(&stored));
            found.extend(block_of(&stored.entry, row.bytes(14), scope.newest));
            if number <= scope.newest {
                trees.next(&stored, found);
            }
            newest = Some(stored.entry);
        }
        Ok::<(), Error>(())
    })?;
    let whole = [argument(range.first), argument(range.last), argument(range.first == 1 && range.last == scope.newest)];
    spi::stream(NODES_BEYOND, &whole, |row| {
        let (block, count) = (row.get(1).unwrap_or_default(), row.get::<i64>(2).unwrap_or_default());
        let text = format!("{count} rows in tenancy.head_node name this block, over which no checkpoint was made");
        found.push(Finding::in_block(FindingKind::Inserted, block, text));
        Ok::<(), Error>(())
    })?;
    match newest {
        Some(entry) if entry.block <= scope.newest => heads_of(&entry, range.last == scope.newest, found),
        None if before.is_none() && range.last == scope.newest => leaves_of(&[], true, found),
        _ => (),
    }
    Ok(())
}

/// The trees over heads, from one checkpoint to the next.
#[derive(Default)]
struct HeadTrees {
    /// The tree of the checkpoint before, and its digest.
    version: HeadTreeVersion,
    digest: Option<Digest>,
    /// True while the trees are not those that were signed, which is reported once.
    differ: bool,
}

impl HeadTrees {
    /// Goes on after a checkpoint.
    fn after(&mut self, row: &StoredCheckpoint) {
        self.version = HeadTreeVersion { block: row.entry.block, heads: row.entry.heads };
        self.digest = Some(row.digest);
    }

    /// Compares the root of a checkpoint and the nodes that it changed with the heads that moved before it.
    fn next(&mut self, row: &StoredCheckpoint, found: &mut Vec<Finding>) {
        // What cannot be compared with a checkpoint that is gone is named by the gap.
        if row.entry.previous == self.digest {
            self.compare(&row.entry, found);
        }
        self.after(row);
    }

    fn compare(&mut self, entry: &Entry, found: &mut Vec<Finding>) {
        let (block, number) = (entry.block, entry.number);
        let differs = match HeadTreeChange::compute(self.version, block) {
            Ok(change) if (change.version.heads, change.root) == (entry.heads, entry.heads_root) => {
                // A checkpoint with another key over the same block changes no node.
                if self.version.block < block {
                    found.extend(compare_nodes(block, &change.nodes, head_tree::nodes_of(block)));
                }
                None
            }
            Ok(_) => {
                Some((FindingKind::Altered, "rows in tenancy.seal, head_leaf or head_node were changed".to_owned()))
            }
            Err(error) => Some((FindingKind::Missing, error.message)),
        };
        if let Some((finding, why)) = differs.as_ref().filter(|_| !self.differ) {
            let text = format!("the tree over heads is not the one of checkpoint {number}: {why}");
            found.push(Finding::in_block(*finding, block, text));
        }
        self.differ = differs.is_some();
    }
}

/// What is wrong with the block that a checkpoint names.
fn block_of(entry: &Entry, hash: Option<Digest>, newest: i64) -> Option<Finding> {
    let number = entry.block;
    let (finding, text) = match hash {
        Some(hash) if hash == entry.block_hash => return None,
        Some(_) => (
            FindingKind::Forked,
            format!(
                "block {number} is not the block of checkpoint {} was made \
                over",
                entry.number
            ),
        ),
        None if number > newest => {
            (FindingKind::Truncated, format!("block {number} is gone, which checkpoint {} was made over", entry.number))
        }
        None => {
            (FindingKind::Missing, format!("block {number} is gone, which checkpoint {} was made over", entry.number))
        }
    };
    Some(Finding::in_block(finding, number, text))
}

/// Compares the heads that a checkpoint was made over with those that are there, and their leaves; `newest` if no
/// organization has come since.
fn heads_of(entry: &Entry, newest: bool, found: &mut Vec<Finding>) {
    let heads = edges::heads_at(entry.block, found);
    if (heads.len() as i64, Heads::new(&heads).root()) == (entry.heads, entry.heads_root) {
        let order: Vec<Uuid> = heads.iter().map(|head| head.organization).collect();
        leaves_of(&order, newest, found);
    } else {
        let text = format!("the rows of tenancy.seal are not those that checkpoint {} was made over", entry.number);
        found.push(Finding::in_block(FindingKind::Altered, entry.block, text));
    }
}

fn leaves_of(order: &[Uuid], newest: bool, found: &mut Vec<Finding>) {
    let mut leaves = Leaves::new(order, newest);
    head_tree::leaves(|leaf, organization| leaves.next(leaf, organization));
    found.extend(leaves.finish());
}

/// Compares a note that somebody kept; returns the block up to which it speaks of the history.
pub fn compare_kept(mut kept: KeptNote, newest: i64, found: &mut Vec<Finding>) -> Result<Option<i64>> {
    let mut last = None;
    spi::stream(HISTORY, &[argument(kept.incarnation())], |row| {
        if let Some(stored) = stored(row)
            && kept.next(&stored.entry)
        {
            last = Some((stored.entry, row.bytes(14)));
        }
        Ok::<(), Error>(())
    })?;
    if let Some(wrong) = kept.compare() {
        found.push(wrong);
        return Ok(None);
    }
    let Some((entry, hash)) = last else { return Ok(None) };
    let block = entry.block;
    found.extend(block_of(&entry, hash, newest));
    heads_of(&entry, false, found);
    Ok(Some(block))
}
