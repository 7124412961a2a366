//! Merkle trees (RFC 6962 section 2.1, RFC 9162 section 2.1) over lists that only grow.
//!
//! One digest represents the list. Short proofs show that an entry is in the list, and that a later list continues an
//! earlier one.

use crate::audit::format::encoding::Digest;
use sha2::{Digest as _, Sha256};
use std::convert::Infallible;

/// The distance between the levels of an organization's tree whose nodes are stored.
pub const STORED_LEVELS: u32 = 8;

/// The hash of a leaf; the prefix byte 00 distinguishes leaves from inner nodes.
pub fn leaf_hash(data: &[u8]) -> Digest {
    Sha256::new().chain_update([0]).chain_update(data).finalize().into()
}

/// The hash of an inner node, with the prefix byte 01.
pub fn node_hash(left: &Digest, right: &Digest) -> Digest {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The root of the tree without leaves: the SHA-256 of no bytes.
pub fn empty_root() -> Digest {
    Sha256::digest([]).into()
}

/// The root of the tree over these leaves, which are hashes of leaves.
pub fn root_of(leaves: impl IntoIterator<Item = Digest>) -> Digest {
    let mut frontier = Frontier::default();
    for leaf in leaves {
        frontier.push(leaf, |_, _, _| ());
    }
    frontier.root()
}

/// The right edge of a growing tree, which is sufficient for adding leaves and computing the root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// The roots of the perfect subtrees that the tree consists of, largest first: one for each bit of the size.
    subtrees: Vec<Digest>,
}

impl Frontier {
    /// The number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds the hash of a leaf.
    ///
    /// The function calls `completed` for each perfect subtree that the leaf completes. The arguments are its level (1
    /// has two leaves), its index among those of its level, and its root.
    pub fn push(&mut self, leaf: Digest, mut completed: impl FnMut(u32, u64, &Digest)) {
        let (mut hash, mut level) = (leaf, 0);
        while self.size >> level & 1 == 1 {
            if let Some(left) = self.subtrees.pop() {
                hash = node_hash(&left, &hash);
            }
            level += 1;
            completed(level, self.size >> level, &hash);
        }
        self.subtrees.push(hash);
        self.size += 1;
    }

    /// The root of the tree.
    pub fn root(&self) -> Digest {
        let mut subtrees = self.subtrees.iter().rev();
        let Some(smallest) = subtrees.next() else { return empty_root() };
        subtrees.fold(*smallest, |right, left| node_hash(left, &right))
    }

    /// The roots of the subtrees, largest first, 32 bytes each. The size is stored separately.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.subtrees.concat()
    }

    /// Reads the bytes of a frontier; `None` if they are not those of a tree of this size.
    pub fn from_bytes(size: u64, bytes: &[u8]) -> Option<Self> {
        let (subtrees, []) = bytes.as_chunks() else { return None };
        (subtrees.len() == size.count_ones() as usize).then(|| Frontier { size, subtrees: subtrees.to_vec() })
    }
}

/// The largest power of two below `size`, which is at least 2: the size of the left subtree.
fn split(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

/// A source of the roots of perfect subtrees.
pub trait Nodes {
    /// The error of a node that cannot be read.
    type Error;
    /// The root of the perfect subtree at this level (0: leaves) and at this index among those of its level.
    fn node(&mut self, level: u32, index: u64) -> Result<Digest, Self::Error>;
}

/// A tree whose leaves, which are hashes of leaves, are all in memory.
pub struct Leaves<'l>(pub &'l [Digest]);

impl Nodes for Leaves<'_> {
    type Error = Infallible;
    fn node(&mut self, level: u32, index: u64) -> Result<Digest, Infallible> {
        let width = 1usize << level;
        let from = usize::try_from(index).unwrap_or_default().saturating_mul(width);
        Ok(root_of(self.0.iter().skip(from).take(width).copied()))
    }
}

/// The root over `size` leaves from `start` on, where `start` is a multiple of the split of any tree around it.
pub fn root<N: Nodes>(nodes: &mut N, start: u64, size: u64) -> Result<Digest, N::Error> {
    if size == 0 {
        return Ok(empty_root());
    }
    if size.is_power_of_two() {
        let level = size.ilog2();
        return nodes.node(level, start >> level);
    }
    let left = split(size);
    Ok(node_hash(&root(nodes, start, left)?, &root(nodes, start + left, size - left)?))
}

/// The proof that the leaf `index` is in the tree of `size` leaves (RFC 9162 section 2.1.3.1); `index` is below `size`.
pub fn inclusion_proof<N: Nodes>(nodes: &mut N, index: u64, size: u64) -> Result<Vec<Digest>, N::Error> {
    let mut proof = Vec::new();
    let (mut start, mut size) = (0, size);
    while size > 1 {
        let left = split(size);
        if index - start < left {
            proof.push(root(nodes, start + left, size - left)?);
            size = left;
        } else {
            proof.push(root(nodes, start, left)?);
            (start, size) = (start + left, size - left);
        }
    }
    proof.reverse();
    Ok(proof)
}

/// The proof that the tree of `new` leaves begins with the tree of `old` leaves (RFC 9162 section 2.1.4.1).
pub fn consistency_proof<N: Nodes>(nodes: &mut N, old: u64, new: u64) -> Result<Vec<Digest>, N::Error> {
    let mut proof = Vec::new();
    if old == 0 || old >= new {
        return Ok(proof);
    }
    let (mut start, mut rest, mut size, mut whole) = (0, old, new, true);
    while rest < size {
        let left = split(size);
        if rest <= left {
            proof.push(root(nodes, start + left, size - left)?);
            size = left;
        } else {
            proof.push(root(nodes, start, left)?);
            (start, rest, size, whole) = (start + left, rest - left, size - left, false);
        }
    }
    // The old tree itself need not be told to who has its root.
    if !whole {
        proof.push(root(nodes, start, size)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Whether `proof` shows that the leaf is at `index` of the tree of `size` leaves with the root `expected` (RFC 9162
/// section 2.1.3.2).
pub fn verify_inclusion(leaf: &Digest, index: u64, size: u64, proof: &[Digest], expected: &Digest) -> bool {
    if index >= size {
        return false;
    }
    let (mut node, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            let up = if node & 1 == 1 { 0 } else { node.trailing_zeros() };
            (node, last) = (node >> up, last >> up);
        } else {
            hash = node_hash(&hash, sibling);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    last == 0 && hash == *expected
}

/// Whether `proof` shows that the tree of `new` leaves begins with that of `old` leaves (RFC 9162 section 2.1.4.2).
pub fn verify_consistency(old: u64, old_root: &Digest, new: u64, new_root: &Digest, proof: &[Digest]) -> bool {
    if old == new {
        return proof.is_empty() && old_root == new_root;
    }
    if old == 0 {
        return proof.is_empty() && *old_root == empty_root();
    }
    if old > new {
        return false;
    }
    let (first, rest) = if old.is_power_of_two() {
        (*old_root, proof)
    } else {
        let Some((first, rest)) = proof.split_first() else { return false };
        (*first, rest)
    };
    let up = (old - 1).trailing_ones();
    let (mut node, mut last) = ((old - 1) >> up, (new - 1) >> up);
    let (mut old_hash, mut new_hash) = (first, first);
    for sibling in rest {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            let up = if node & 1 == 1 || node == 0 { 0 } else { node.trailing_zeros() };
            (node, last) = (node >> up, last >> up);
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    last == 0 && old_hash == *old_root && new_hash == *new_root
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nodes as RFC 6962 defines them.
    struct Defined(Vec<Digest>);

    impl Nodes for Defined {
        type Error = Infallible;
        fn node(&mut self, level: u32, index: u64) -> Result<Digest, Infallible> {
            let width = 1 << level;
            Ok(by_definition(&self.0[index as usize * width..][..width]))
        }
    }

    /// MTH, implemented literally as RFC 6962 section 2.1 defines it.
    fn by_definition(leaves: &[Digest]) -> Digest {
        match leaves {
            [] => empty_root(),
            [leaf] => *leaf,
            _ => {
                let (left, right) = leaves.split_at(split(leaves.len() as u64) as usize);
                node_hash(&by_definition(left), &by_definition(right))
            }
        }
    }

    fn leaves(count: u64) -> Defined {
        Defined((0..count).map(|n| leaf_hash(&n.to_be_bytes())).collect())
    }

    fn hex(digest: &Digest) -> String {
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn roots_are_those_of_the_vectors_of_certificate_transparency() {
        // merkle_tree_test.cc of google/certificate-transparency
        let inputs: [&[u8]; 8] = [
            b"",
            b"\0",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let mut frontier = Frontier::default();
        assert_eq!(hex(&frontier.root()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        for input in inputs {
            frontier.push(leaf_hash(input), |_, _, _| ());
        }
        assert_eq!(hex(&frontier.root()), "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328");
    }

    #[test]
    fn a_growing_tree_has_the_root_of_the_definition_and_tells_each_subtree_once() {
        let all = leaves(130);
        let (mut frontier, mut told) = (Frontier::default(), Vec::new());
        for (n, leaf) in all.0.iter().enumerate() {
            frontier.push(*leaf, |level, index, hash| told.push((level, index, *hash)));
            assert_eq!(frontier.root(), by_definition(&all.0[..=n]));
            assert_eq!(Frontier::from_bytes(frontier.size(), &frontier.to_bytes()), Some(frontier.clone()));
        }
        assert_eq!(told.len(), 65 + 32 + 16 + 8 + 4 + 2 + 1);
        for (level, index, hash) in told {
            let width = 1 << level;
            assert_eq!(hash, by_definition(&all.0[index as usize * width..][..width]));
        }
        assert_eq!(Frontier::from_bytes(3, &[0; 96]), None);
        assert_eq!(Frontier::from_bytes(1, &[0; 33]), None);
    }

    #[test]
    fn each_leaf_is_proved_and_nothing_else() {
        for size in 1..=40 {
            let mut all = leaves(size);
            let expected = by_definition(&all.0);
            for index in 0..size {
                let proof = inclusion_proof(&mut all, index, size).unwrap();
                let leaf = all.0[index as usize];
                assert!(verify_inclusion(&leaf, index, size, &proof, &expected), "{index} of {size}");
                for other in (0..=size).filter(|other| *other != index) {
                    assert!(!verify_inclusion(&leaf, other, size, &proof, &expected), "{index} as {other} of {size}");
                }
                assert!(!verify_inclusion(&[1; 32], index, size, &proof, &expected));
                for wrong in damaged(&proof) {
                    assert!(!verify_inclusion(&leaf, index, size, &wrong, &expected));
                }
            }
        }
    }

    #[test]
    fn each_earlier_tree_is_proved_and_nothing_else() {
        for new in 0..=40 {
            let mut all = leaves(new);
            let new_root = by_definition(&all.0);
            for old in 0..=new {
                let old_root = by_definition(&all.0[..old as usize]);
                let proof = consistency_proof(&mut all, old, new).unwrap();
                assert!(verify_consistency(old, &old_root, new, &new_root, &proof), "{old} to {new}");
                if old > 0 {
                    assert!(!verify_consistency(old, &[1; 32], new, &new_root, &proof), "{old} to {new}");
                    assert!(!verify_consistency(old, &old_root, new, &[1; 32], &proof), "{old} to {new}");
                    for wrong in damaged(&proof) {
                        assert!(!verify_consistency(old, &old_root, new, &new_root, &wrong), "{old} to {new}");
                    }
                }
                assert!(old == new || !verify_consistency(new, &new_root, old, &old_root, &proof));
            }
        }
    }

    /// Wrong versions of the proof: with an additional hash, with a missing one, and with each one changed.
    fn damaged(proof: &[Digest]) -> Vec<Vec<Digest>> {
        let mut wrong = vec![[proof, &[[0; 32]]].concat()];
        for n in 0..proof.len() {
            wrong.push([&proof[..n], &proof[n + 1..]].concat());
            let mut changed = proof.to_vec();
            changed[n][0] ^= 1;
            wrong.push(changed);
        }
        wrong
    }
}
