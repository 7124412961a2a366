//! The tree over the heads of all organizations, of which only the changed part is computed anew.
//!
//! Each organization has a leaf of its own for ever. A checkpoint therefore changes the leaves of the organizations
//! that moved, the nodes above them, and adds leaves at the end.
//!
//! Decision: `docs/decisions/58-stored-head-tree.md`.

use super::merkle::{self, Frontier, Nodes};
use crate::audit::format::encoding::Digest;
use std::collections::BTreeMap;

/// The distance between the levels whose nodes are stored.
pub const STORED_LEVELS: u32 = 3;

/// What is stored of the tree.
pub trait StoredNodes {
    /// The error of a node that cannot be read.
    type Error;
    /// The hash of a leaf (level 0) or of a complete subtree at a stored level.
    fn stored(&mut self, level: u32, index: u64) -> Result<Digest, Self::Error>;
}

/// A node to be stored.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HeadNode {
    /// A multiple of [`STORED_LEVELS`]: the root of 2 to the power of `level` leaves.
    pub level: u32,
    /// The number of the node in its level, from 0.
    pub index: u64,
    /// Its hash.
    pub hash: Digest,
}

/// The tree: what is stored, and what has changed since.
pub struct HeadTree<S> {
    stored: S,
    size: u64,
    changed: BTreeMap<(u32, u64), Digest>,
}

impl<S: StoredNodes> HeadTree<S> {
    /// The tree of so many leaves as it is stored.
    pub fn new(stored: S, size: u64) -> Self {
        HeadTree { stored, size, changed: BTreeMap::new() }
    }

    /// The tree of `size` leaves in which these differ from what is stored. `leaves` has every leaf that is new.
    pub fn changed(stored: S, size: u64, leaves: impl IntoIterator<Item = (u64, Digest)>) -> Result<Self, S::Error> {
        let changed = leaves.into_iter().map(|(leaf, hash)| ((0, leaf), hash)).collect();
        let mut tree = HeadTree { stored, size, changed };
        let mut level = 0;
        loop {
            let above = level + STORED_LEVELS;
            let complete = size.checked_shr(above).unwrap_or(0);
            let mut parents: Vec<u64> =
                tree.changed.range((level, 0)..(level + 1, 0)).map(|((_, index), _)| index >> STORED_LEVELS).collect();
            parents.dedup();
            parents.retain(|index| *index < complete);
            if parents.is_empty() {
                return Ok(tree);
            }
            for index in parents {
                let hash = tree.over(level, index << STORED_LEVELS, 1 << STORED_LEVELS)?;
                tree.changed.insert((above, index), hash);
            }
            level = above;
        }
    }

    /// The changed nodes of the stored levels, by level and index.
    pub fn changed_nodes(&self) -> impl Iterator<Item = HeadNode> {
        let inner = self.changed.range((1, 0)..);
        inner.map(|((level, index), hash)| HeadNode { level: *level, index: *index, hash: *hash })
    }

    /// The root of the tree, the `heads_root` of a checkpoint.
    pub fn root(&mut self) -> Result<Digest, S::Error> {
        let size = self.size;
        merkle::root(self, 0, size)
    }

    /// The proof that a leaf is in the tree; `index` is below the size.
    pub fn proof(&mut self, index: u64) -> Result<Vec<Digest>, S::Error> {
        let size = self.size;
        merkle::inclusion_proof(self, index, size)
    }

    /// What the tree was made over.
    pub fn into_stored(self) -> S {
        self.stored
    }

    /// The root over `count` nodes of a level, a power of two.
    fn over(&mut self, level: u32, first: u64, count: u64) -> Result<Digest, S::Error> {
        let mut frontier = Frontier::default();
        for index in first..first + count {
            let hash = match self.changed.get(&(level, index)) {
                Some(hash) => *hash,
                None => self.stored.stored(level, index)?,
            };
            frontier.push(hash, |_, _, _| ());
        }
        Ok(frontier.root())
    }
}

impl<S: StoredNodes> Nodes for HeadTree<S> {
    type Error = S::Error;

    /// Made of the nodes of the nearest stored level below.
    fn node(&mut self, level: u32, index: u64) -> Result<Digest, S::Error> {
        let above = level % STORED_LEVELS;
        self.over(level - above, index << above, 1 << above)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Leaves and nodes in memory; what was not stored is not there.
    #[derive(Default)]
    struct Memory {
        stored: BTreeMap<(u32, u64), Digest>,
        reads: usize,
    }

    impl StoredNodes for Memory {
        type Error = (u32, u64);
        fn stored(&mut self, level: u32, index: u64) -> Result<Digest, (u32, u64)> {
            self.reads += 1;
            self.stored.get(&(level, index)).copied().ok_or((level, index))
        }
    }

    fn leaf(number: u64, version: u64) -> Digest {
        merkle::leaf_hash(&[number.to_be_bytes(), version.to_be_bytes()].concat())
    }

    fn by_definition(leaves: &[Digest]) -> Digest {
        let mut frontier = Frontier::default();
        leaves.iter().for_each(|leaf| frontier.push(*leaf, |_, _, _| ()));
        frontier.root()
    }

    /// Puts what has changed where the next one finds it.
    fn store(memory: &mut Memory, changes: &[(u64, Digest)], nodes: Vec<HeadNode>) {
        memory.stored.extend(changes.iter().map(|(index, hash)| ((0, *index), *hash)));
        memory.stored.extend(nodes.into_iter().map(|node| ((node.level, node.index), node.hash)));
    }

    #[test]
    fn a_tree_that_is_changed_and_grows_is_the_tree_over_its_leaves() {
        let (mut memory, mut leaves) = (Memory::default(), Vec::new());
        // Some of the sizes complete subtrees of several levels; others add nothing, or change nothing.
        for (version, size) in [1, 1, 7, 8, 9, 63, 64, 65, 100, 511, 512, 513, 600, 600, 4097].into_iter().enumerate() {
            let (version, before) = (version as u64, leaves.len() as u64);
            let moved = (0..before).filter(|number| version != 13 && (number * 7 + version) % 29 == 0);
            let changes: Vec<(u64, Digest)> =
                moved.chain(before..size).map(|number| (number, leaf(number, version))).collect();
            leaves.resize(size as usize, [0; 32]);
            changes.iter().for_each(|(number, hash)| leaves[*number as usize] = *hash);
            let mut tree = HeadTree::changed(memory, size, changes.iter().copied()).unwrap();
            assert_eq!(tree.root().unwrap(), by_definition(&leaves), "{size}");
            let nodes: Vec<HeadNode> = tree.changed_nodes().collect();
            assert!(
                nodes.iter().all(|node| node.level.is_multiple_of(STORED_LEVELS) && node.index < size >> node.level)
            );
            memory = tree.into_stored();
            store(&mut memory, &changes, nodes);
            let mut stored = HeadTree::new(memory, size);
            let root = stored.root().unwrap();
            for index in (0..size).step_by(1 + size as usize / 100) {
                let proof = stored.proof(index).unwrap();
                assert!(merkle::verify_inclusion(&leaves[index as usize], index, size, &proof, &root));
            }
            memory = stored.into_stored();
        }
    }

    #[test]
    fn the_work_grows_with_what_has_changed_and_not_with_the_tree() {
        let size = 100_000;
        let all: Vec<(u64, Digest)> = (0..size).map(|number| (number, leaf(number, 0))).collect();
        let tree = HeadTree::changed(Memory::default(), size, all.iter().copied()).unwrap();
        let nodes = tree.changed_nodes().collect();
        let mut memory = tree.into_stored();
        store(&mut memory, &all, nodes);
        memory.reads = 0;
        let tree = HeadTree::changed(memory, size, [(777, leaf(777, 1))]).unwrap();
        assert_eq!(tree.changed_nodes().map(|node| node.level).collect::<Vec<_>>(), [3, 6, 9, 12, 15]);
        assert_eq!(tree.into_stored().reads, 5 * 7);
    }

    #[test]
    fn a_node_that_is_not_there_is_an_error() {
        let all: Vec<(u64, Digest)> = (0..64).map(|number| (number, leaf(number, 0))).collect();
        let tree = HeadTree::changed(Memory::default(), 64, all.iter().copied()).unwrap();
        let nodes = tree.changed_nodes().collect();
        let mut memory = tree.into_stored();
        store(&mut memory, &all, nodes);
        memory.stored.remove(&(3, 5));
        assert_eq!(HeadTree::changed(memory, 64, [(1, leaf(1, 1))]).err(), Some((3, 5)));
    }
}
