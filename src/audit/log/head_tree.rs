//! The tree over the heads of all organizations, as it is stored: which leaf is whose, and the nodes by the block of
//! the checkpoint that changed them.
//!
//! Decision: `docs/decisions/58-stored-head-tree.md`.

use super::seal::{head_in, open_heads, rows_until};
use super::state::unreadable;
use crate::pg::tables::scan::Scan;
use crate::pg::tables::table::{self, ColumnValue, IndexKey};
use crate::pg::transaction;
use pg_tenancy_core::audit::format::encoding::Digest;
use pg_tenancy_core::audit::log::checkpoint::Head;
use pg_tenancy_core::audit::log::head_tree::{HeadNode, HeadTree, StoredNodes};
use pg_tenancy_core::audit::log::merkle;
use pg_tenancy_core::error::{self, Error, Result};
use std::collections::HashSet;
use uuid::Uuid;

/// A tree of a checkpoint: the block that it was made over, and its number of leaves.
#[derive(Debug, Clone, Copy, Default)]
pub struct HeadTreeVersion {
    /// 0 before the first checkpoint.
    pub block: i64,
    pub heads: i64,
}

/// The rows of the tree, nodes as one block left them and heads as another one did.
struct HeadTreeRows {
    nodes_at: i64,
    heads_at: i64,
    leaves: Scan,
    organizations: Scan,
    heads: Scan,
    nodes: Scan,
}

impl HeadTreeRows {
    fn open(nodes_at: i64, heads_at: i64) -> Self {
        let nobody = Uuid::nil();
        HeadTreeRows {
            nodes_at,
            heads_at,
            leaves: Scan::by_index(c"head_leaf", c"head_leaf_pkey", &[IndexKey::uuid(1, &nobody)]),
            organizations: Scan::by_index(c"head_leaf", c"head_leaf_leaf_key", &[IndexKey::big_integer(2, 0)]),
            heads: open_heads(),
            nodes: Scan::by_index(c"head_node", c"head_node_pkey", &nodes_until(0, 0, 0)),
        }
    }

    /// The leaf of an organization, if it is one of the first so many.
    fn leaf(&mut self, organization: &Uuid, leaves: i64) -> Option<i64> {
        self.leaves.seek(&[IndexKey::uuid(1, organization)]);
        self.leaves.next().and_then(|fields| fields.big_integer(2)).filter(|leaf| (0..leaves).contains(leaf))
    }

    fn head(&mut self, organization: &Uuid) -> Result<Option<Head>> {
        self.heads.seek(&rows_until(organization, self.heads_at));
        let Some(fields) = self.heads.back() else { return Ok(None) };
        let head = head_in(&fields).ok_or_else(|| unreadable("a row of tenancy.seal"))?;
        Ok(Some(head.of(*organization)))
    }

    fn leaf_hash(&mut self, leaf: u64) -> Result<Digest> {
        self.organizations.seek(&[IndexKey::big_integer(2, leaf as i64)]);
        let organization = self.organizations.next().and_then(|fields| fields.uuid(1));
        let organization = organization.ok_or_else(|| gone("tenancy.head_leaf"))?;
        self.head(&organization)?.map(|head| head.leaf()).ok_or_else(|| gone("tenancy.seal"))
    }
}

impl StoredNodes for HeadTreeRows {
    type Error = Error;

    fn stored(&mut self, level: u32, index: u64) -> Result<Digest> {
        if level == 0 {
            return self.leaf_hash(index);
        }
        self.nodes.seek(&nodes_until(level, index, self.nodes_at));
        self.nodes.back().and_then(|fields| fields.array(4)).ok_or_else(|| gone("tenancy.head_node"))
    }
}

fn nodes_until(level: u32, index: u64, block: i64) -> [IndexKey<'static>; 3] {
    [
        IndexKey::small_integer(1, level as i16),
        IndexKey::big_integer(2, index as i64),
        IndexKey::big_integer(3, block).or_less(),
    ]
}

fn gone(table: &str) -> Error {
    error::STATE_INVALID.error(format!("a row of {table} is missing or cannot be read"))
}

/// The organizations whose heads these blocks moved, in the order of the first such block and of their ids.
fn moved(after: i64, until: i64) -> Vec<Uuid> {
    let between = [IndexKey::big_integer(2, after).more(), IndexKey::big_integer(2, until).or_less()];
    let mut heads = Scan::by_index(c"seal", c"seal_block_idx", &between);
    let (mut seen, mut moved) = (HashSet::new(), Vec::new());
    while let Some(organization) = heads.next().map(|fields| fields.uuid(1).unwrap_or_default()) {
        if seen.insert(organization) {
            moved.push(organization);
        }
        if moved.len().is_multiple_of(1000) {
            transaction::check_for_interrupts();
        }
    }
    moved
}

/// What a checkpoint changes in the tree.
pub struct HeadTreeChange {
    pub version: HeadTreeVersion,
    pub root: Digest,
    /// The organizations that are new, each with its leaf.
    pub leaves: Vec<(Uuid, i64)>,
    /// The nodes that are not as they were.
    pub nodes: Vec<HeadNode>,
}

impl HeadTreeChange {
    /// From the tree of one checkpoint to the one over a later block, out of the heads that moved in between.
    pub fn compute(before: HeadTreeVersion, block: i64) -> Result<Self> {
        if before.heads < 0 {
            return Err(unreadable("a row of tenancy.checkpoint"));
        }
        let mut rows = HeadTreeRows::open(before.block, block);
        let (mut changed, mut leaves) = (Vec::new(), Vec::new());
        for organization in moved(before.block, block) {
            let head = rows.head(&organization)?.ok_or_else(|| gone("tenancy.seal"))?;
            let leaf = rows.leaf(&organization, before.heads).unwrap_or_else(|| {
                let leaf = before.heads.saturating_add(leaves.len() as i64);
                leaves.push((organization, leaf));
                leaf
            });
            changed.push((leaf as u64, head.leaf()));
        }
        let heads = before.heads.saturating_add(leaves.len() as i64);
        let mut tree = HeadTree::changed(rows, heads.unsigned_abs(), changed)?;
        let (root, nodes) = (tree.root()?, tree.changed_nodes().collect());
        Ok(HeadTreeChange { version: HeadTreeVersion { block, heads }, root, leaves, nodes })
    }

    /// Writes the rows, the columns in the order of the tables.
    pub fn write(&self) {
        table::insert_all(c"head_leaf", &self.leaves, |(organization, leaf)| {
            [ColumnValue::Uuid(organization), ColumnValue::BigInteger(*leaf)]
        });
        table::insert_all(c"head_node", &self.nodes, |node| {
            [
                ColumnValue::SmallInteger(node.level as i16),
                ColumnValue::BigInteger(node.index as i64),
                ColumnValue::BigInteger(self.version.block),
                ColumnValue::Bytes(&node.hash),
            ]
        });
    }
}

/// The stored nodes that the checkpoint over a block changed, by level and index; `None` for one that cannot be.
pub fn nodes_of(block: i64) -> Vec<Option<HeadNode>> {
    let mut rows = Scan::by_index(c"head_node", c"head_node_block_idx", &[IndexKey::big_integer(3, block)]);
    let mut nodes = Vec::new();
    while let Some(fields) = rows.next() {
        let node = || {
            let level = u32::try_from(fields.small_integer(1)?).ok()?;
            let index = u64::try_from(fields.big_integer(2)?).ok()?;
            Some(HeadNode { level, index, hash: fields.array(4)? })
        };
        nodes.push(node());
    }
    nodes
}

/// The organizations in the order of their leaves, each with its leaf.
pub fn leaves(mut each: impl FnMut(i64, Uuid)) {
    let keys = [IndexKey::big_integer(2, i64::MIN).or_more()];
    let mut rows = Scan::by_index(c"head_leaf", c"head_leaf_leaf_key", &keys);
    while let Some(fields) = rows.next() {
        transaction::check_for_interrupts();
        each(fields.big_integer(2).unwrap_or(-1), fields.uuid(1).unwrap_or_default());
    }
}

/// The head of an organization in the tree of a checkpoint.
pub struct ProvedHead {
    pub head: Head,
    /// The leaf, from 0.
    pub leaf: u64,
    pub proof: Vec<Digest>,
}

/// The proof that a checkpoint covers the head of an organization; `None` if the organization had none then.
pub fn prove(organization: Uuid, version: HeadTreeVersion, root: &Digest) -> Result<Option<ProvedHead>> {
    let mut rows = HeadTreeRows::open(version.block, version.block);
    let Some(head) = rows.head(&organization)? else { return Ok(None) };
    let leaf = rows.leaf(&organization, version.heads).ok_or_else(|| gone("tenancy.head_leaf"))? as u64;
    let size = version.heads.unsigned_abs();
    let proof = HeadTree::new(rows, size).proof(leaf)?;
    if !merkle::verify_inclusion(&head.leaf(), leaf, size, &proof, root) {
        let message =
            "the rows of tenancy.seal, tenancy.head_leaf and tenancy.head_node are not those of the checkpoint";
        return Err(error::STATE_INVALID.error(message));
    }
    Ok(Some(ProvedHead { head, leaf, proof }))
}
