//! Proofs out of the trees: that a batch is in its organization's, that a tree continues an earlier one, that a
//! head is in a checkpoint, and that a checkpoint is in the signed log. Each reads a few rows of a long history.

use crate::audit::log::head_tree::{self, HeadTreeVersion, ProvedHead};
use crate::audit::log::seal;
use crate::pg::report::OrRaise;
use crate::pg::spi::{self, Query, Row, argument};
use pg_tenancy_core::audit::format::encoding::Digest;
use pg_tenancy_core::audit::log::merkle::{self, Nodes, STORED_LEVELS};
use pg_tenancy_core::error::{self, Result, require_not_null};
use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern};
use uuid::Uuid;

static STORED: Query = Query::new(
    "SELECT hash FROM tenancy.tree_node
      WHERE organization = $1 AND level = $2
        AND index >= $3 AND index < $4 ORDER BY index",
);

static INCARNATION: Query =
    Query::new("SELECT incarnation FROM tenancy.checkpoint ORDER BY block DESC, number DESC LIMIT 1");

static NUMBERS: Query =
    Query::new("SELECT number FROM tenancy.checkpoint WHERE incarnation = $1 ORDER BY number DESC LIMIT 1");

static CHECKPOINT: Query = Query::new(
    "SELECT block, heads, heads_root, digest, frontier FROM tenancy.checkpoint
      WHERE incarnation = $1 AND number = $2",
);

/// The tree of an organization.
pub struct BatchTree(pub Uuid);

impl BatchTree {
    fn of(organization: Option<pgrx::Uuid>) -> Result<(Self, i64)> {
        let organization = Uuid::from_bytes(*require_not_null(organization, "organization")?.as_bytes());
        Ok((BatchTree(organization), seal::leaves_of(&organization)))
    }

    /// `count` stored nodes of a level (0: leaves) from `start` on.
    fn stored(&self, level: u32, start: u64, count: u64) -> Result<Vec<Digest>> {
        let (start, count) = (start as i64, count as i64);
        let found: Option<Vec<Digest>> = if level == 0 {
            let mut leaves = Vec::new();
            seal::entries_from(&self.0, start + 1, |entry| {
                let is_next = entry.leaf == start + 1 + leaves.len() as i64;
                leaves.push(is_next.then(|| entry.leaf_hash()));
                Ok((leaves.len() as i64) < count)
            })?;
            leaves.into_iter().collect()
        } else {
            let range = [spi::uuid(self.0), argument(level as i16), argument(start), argument(start + count)];
            STORED.read(&range, |row| row.bytes(1)).into_iter().collect()
        };
        found.filter(|found| found.len() as i64 == count).ok_or_else(|| {
            let what = if level == 0 { "tenancy.seal" } else { "tenancy.tree_node" };
            error::STATE_INVALID.error(format!("a row of {what} is missing or cannot be read"))
        })
    }
}

impl Nodes for BatchTree {
    type Error = error::Error;

    /// Made of the nodes of the nearest stored level below: 128 at most.
    fn node(&mut self, level: u32, index: u64) -> Result<Digest> {
        let stored = level - level % STORED_LEVELS;
        let width = 1 << (level - stored);
        Ok(merkle::root_of(self.stored(stored, index * width, width)?))
    }
}

/// The log of the checkpoints of an incarnation.
pub struct CheckpointTree(pub String);

/// What a proof needs of a checkpoint.
struct CheckpointRow {
    tree: HeadTreeVersion,
    heads_root: Digest,
    digest: Digest,
    frontier: Vec<u8>,
}

impl CheckpointTree {
    /// Of the newest incarnation that has any, where none is named.
    fn of(incarnation: Option<&str>) -> Result<(Self, i64)> {
        let newest = || INCARNATION.read(&[], |row| row.get::<String>(1)).pop().flatten();
        let Some(incarnation) = incarnation.map(str::to_owned).or_else(newest) else {
            return Err(error::NOT_FOUND.error("there is no checkpoint yet"));
        };
        let size = NUMBERS.read(&[argument(incarnation.as_str())], |row| row.get::<i64>(1)).pop().flatten();
        Ok((CheckpointTree(incarnation), size.unwrap_or(0)))
    }

    fn stored(&self, number: i64) -> Result<CheckpointRow> {
        let read = |row: &Row| {
            let tree = HeadTreeVersion { block: row.get(1)?, heads: row.get(2)? };
            Some(CheckpointRow { tree, heads_root: row.bytes(3)?, digest: row.bytes(4)?, frontier: row.get(5)? })
        };
        let found = CHECKPOINT.read(&[argument(self.0.as_str()), argument(number)], read).pop().flatten();
        found.ok_or_else(|| error::STATE_INVALID.error(format!("checkpoint {number} is missing or cannot be read")))
    }
}

impl Nodes for CheckpointTree {
    type Error = error::Error;

    /// The frontier of a checkpoint ends with the subtree that it completed, if that is a left one; a right one is
    /// made of its left half, which is such a one again, and the rest.
    fn node(&mut self, level: u32, index: u64) -> Result<Digest> {
        if level == 0 {
            return Ok(merkle::leaf_hash(&self.stored(index as i64 + 1)?.digest));
        }
        if index.is_multiple_of(2) {
            let frontier = self.stored(((index + 1) << level) as i64)?.frontier;
            let last = frontier.last_chunk::<32>().copied();
            return last.ok_or_else(|| error::STATE_INVALID.error("a row of tenancy.checkpoint cannot be read"));
        }
        Ok(merkle::node_hash(&self.node(level - 1, 2 * index)?, &self.node(level - 1, 2 * index + 1)?))
    }
}

/// `leaf` from 1, as columns have it.
fn inclusion<N: Nodes<Error = error::Error>>(
    tree: &mut N,
    leaf: Option<i64>,
    size: Option<i64>,
    newest: i64,
    names: [&str; 2],
) -> Result<Vec<Digest>> {
    let size = given_size(size, newest, names[1])?;
    let leaf = require_not_null(leaf, names[0])?;
    if !(1..=size).contains(&leaf) {
        return Err(error::ARGUMENT_INVALID.error(format!("{} must be from 1 to {}, {size}", names[0], names[1])));
    }
    merkle::inclusion_proof(tree, leaf as u64 - 1, size as u64)
}

fn consistency<N: Nodes<Error = error::Error>>(
    tree: &mut N,
    old: Option<i64>,
    new: Option<i64>,
    newest: i64,
) -> Result<Vec<Digest>> {
    let new = given_size(new, newest, "new_size")?;
    let old = require_not_null(old, "old_size")?;
    if !(0..=new).contains(&old) {
        return Err(error::ARGUMENT_INVALID.error(format!("old_size must be from 0 to new_size, {new}")));
    }
    merkle::consistency_proof(tree, old as u64, new as u64)
}

/// A size that the tree has had; the newest where none is given.
fn given_size(size: Option<i64>, newest: i64, name: &str) -> Result<i64> {
    let size = size.unwrap_or(newest);
    if (0..=newest).contains(&size) {
        return Ok(size);
    }
    Err(error::ARGUMENT_INVALID.error(format!("{name} must be from 0 to the size of the tree, {newest}")))
}

/// A proof as `bytea[]`.
pub fn array(proof: &[Digest]) -> Vec<Vec<u8>> {
    proof.iter().map(|hash| hash.to_vec()).collect()
}

/// `tenancy.inclusion_proof(organization, leaf, size)`.
#[pg_extern(sql = false)]
fn tenancy_inclusion_proof(organization: Option<pgrx::Uuid>, leaf: Option<i64>, size: Option<i64>) -> Vec<Vec<u8>> {
    let proof = || {
        let (mut tree, newest) = BatchTree::of(organization)?;
        inclusion(&mut tree, leaf, size, newest, ["leaf", "size"])
    };
    array(&proof().or_raise())
}

/// `tenancy.consistency_proof(organization, old_size, new_size)`.
#[pg_extern(sql = false)]
fn tenancy_consistency_proof(organization: Option<pgrx::Uuid>, old: Option<i64>, new: Option<i64>) -> Vec<Vec<u8>> {
    let proof = || {
        let (mut tree, newest) = BatchTree::of(organization)?;
        consistency(&mut tree, old, new, newest)
    };
    array(&proof().or_raise())
}

/// `tenancy.tree_root(organization, size)`.
#[pg_extern(sql = false)]
fn tenancy_tree_root(organization: Option<pgrx::Uuid>, size: Option<i64>) -> Vec<u8> {
    let root = || {
        let (mut tree, newest) = BatchTree::of(organization)?;
        let size = given_size(size, newest, "size")?;
        merkle::root(&mut tree, 0, size as u64)
    };
    root().or_raise().to_vec()
}

/// `tenancy.checkpoint_inclusion_proof(number, size, incarnation)`.
#[pg_extern(sql = false)]
fn tenancy_checkpoint_inclusion_proof(
    number: Option<i64>,
    size: Option<i64>,
    incarnation: Option<&str>,
) -> Vec<Vec<u8>> {
    let proof = || {
        let (mut tree, newest) = CheckpointTree::of(incarnation)?;
        inclusion(&mut tree, number, size, newest, ["number", "size"])
    };
    array(&proof().or_raise())
}

/// `tenancy.checkpoint_consistency_proof(old_size, new_size, incarnation)`.
#[pg_extern(sql = false)]
fn tenancy_checkpoint_consistency_proof(old: Option<i64>, new: Option<i64>, incarnation: Option<&str>) -> Vec<Vec<u8>> {
    let proof = || {
        let (mut tree, newest) = CheckpointTree::of(incarnation)?;
        consistency(&mut tree, old, new, newest)
    };
    array(&proof().or_raise())
}

/// `tenancy.head_proof(organization, checkpoint, incarnation)`: no row if the organization had no sealed event then.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)] // The columns of the SQL function.
fn tenancy_head_proof(
    organization: Option<pgrx::Uuid>,
    checkpoint: Option<i64>,
    incarnation: Option<&str>,
) -> TableIterator<
    'static,
    (
        name!(position, i64),
        name!(leaves, i64),
        name!(chain, Vec<u8>),
        name!(root, Vec<u8>),
        name!(digest, Vec<u8>),
        name!(place, i64),
        name!(heads, i64),
        name!(proof, Vec<Vec<u8>>),
    ),
> {
    let proved = head_proof(organization, checkpoint, incarnation).or_raise();
    TableIterator::new(proved.map(|(ProvedHead { head, leaf, proof }, heads)| {
        let (chain, root, digest) = (head.chain.to_vec(), head.root.to_vec(), head.digest().to_vec());
        (head.position, head.leaves, chain, root, digest, leaf as i64 + 1, heads, array(&proof))
    }))
}

/// The head with its proof, and the number of heads.
fn head_proof(
    organization: Option<pgrx::Uuid>,
    number: Option<i64>,
    incarnation: Option<&str>,
) -> Result<Option<(ProvedHead, i64)>> {
    let organization = Uuid::from_bytes(*require_not_null(organization, "organization")?.as_bytes());
    let (log, newest) = CheckpointTree::of(incarnation)?;
    let number = number.unwrap_or(newest);
    if !(1..=newest).contains(&number) {
        return Err(error::NOT_FOUND.error(format!("there is no checkpoint {number}")));
    }
    let stored = log.stored(number)?;
    let proved = head_tree::prove(organization, stored.tree, &stored.heads_root)?;
    Ok(proved.map(|proved| (proved, stored.tree.heads)))
}

/// `tenancy.verify_inclusion(data, leaf, size, proof, root)`. What is no proof proves nothing: it is no error.
#[pg_extern(sql = false)]
fn tenancy_verify_inclusion(data: &[u8], leaf: i64, size: i64, proof: pgrx::Array<&[u8]>, root: &[u8]) -> bool {
    let verified = || {
        let index = u64::try_from(leaf).ok()?.checked_sub(1)?;
        let (size, proof, root) = (u64::try_from(size).ok()?, hashes(&proof)?, root.try_into().ok()?);
        Some(merkle::verify_inclusion(&merkle::leaf_hash(data), index, size, &proof, root))
    };
    verified().unwrap_or(false)
}

/// `tenancy.verify_consistency(old_size, old_root, new_size, new_root, proof)`.
#[pg_extern(sql = false)]
fn tenancy_verify_consistency(old: i64, old_root: &[u8], new: i64, new_root: &[u8], proof: pgrx::Array<&[u8]>) -> bool {
    let verified = || {
        let (old, new) = (u64::try_from(old).ok()?, u64::try_from(new).ok()?);
        let (old_root, new_root) = (old_root.try_into().ok()?, new_root.try_into().ok()?);
        Some(merkle::verify_consistency(old, old_root, new, new_root, &hashes(&proof)?))
    };
    verified().unwrap_or(false)
}

/// `None` unless each one has the length of a hash.
fn hashes(proof: &pgrx::Array<&[u8]>) -> Option<Vec<Digest>> {
    proof.iter().map(|hash| hash?.try_into().ok()).collect()
}
