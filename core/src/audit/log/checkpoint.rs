//! The checkpoint: one digest over the heads of all organizations, and a leaf in a log of checkpoints.
//!
//! The heads of a moment are the leaves of a Merkle tree. A proof in that tree shows an organization its own head and
//! nothing of another. The leaves of that tree change, so it cannot be the signed log. Instead, its root is part of an
//! entry, and the log is the tree over these entries. That tree only grows, as C2SP's checkpoints and witnesses
//! require.
//!
//! Decision: `docs/decisions/41-checkpoint-trees.md`.

use super::merkle::{self, Nodes};
use crate::audit::format::encoding::{Digest, Record};
use std::convert::Infallible;
use uuid::Uuid;

/// The end of an organization's chain and tree at a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The organization.
    pub organization: Uuid,
    /// The newest position: the number of the organization's events.
    pub position: i64,
    /// The number of leaves of the organization's tree: the number of its batches.
    pub leaves: i64,
    /// The chain value at that position.
    pub chain: Digest,
    /// The root of the organization's tree over that many batches.
    pub root: Digest,
}

impl Head {
    /// The digest of the head, the data of its leaf in the tree of heads (`docs/audit-format.md`, Head).
    pub fn digest(&self) -> Digest {
        Record::new("pg_tenancy/head/2")
            .bytes(self.organization.as_bytes())
            .integer(self.position)
            .integer(self.leaves)
            .bytes(&self.chain)
            .bytes(&self.root)
            .digest()
    }

    /// The hash of the leaf in the tree of heads.
    pub fn leaf(&self) -> Digest {
        merkle::leaf_hash(&self.digest())
    }
}

/// The tree over the heads of one moment, all of them in memory.
pub struct Heads(Vec<Digest>);

impl Heads {
    /// Makes the tree. `heads` are in the order of their leaves (`docs/audit-format.md`, Head), each organization once.
    pub fn new<'h>(heads: impl IntoIterator<Item = &'h Head>) -> Self {
        Heads(heads.into_iter().map(Head::leaf).collect())
    }

    /// The root of the tree of heads, the `heads_root` of a checkpoint.
    pub fn root(&self) -> Digest {
        merkle::root_of(self.0.iter().copied())
    }

    /// The proof that the head at `index` is in the tree; `None` if there is no such head.
    pub fn proof(&self, index: usize) -> Option<Vec<Digest>> {
        let size = self.0.len() as u64;
        let index = u64::try_from(index).ok().filter(|index| *index < size)?;
        let Ok(proof) = merkle::inclusion_proof(&mut Leaves(&self.0), index, size);
        Some(proof)
    }
}

/// Leaves that are all in memory.
struct Leaves<'l>(&'l [Digest]);

impl Nodes for Leaves<'_> {
    type Error = Infallible;
    fn node(&mut self, level: u32, index: u64) -> Result<Digest, Infallible> {
        let width = 1usize << level;
        let from = usize::try_from(index).unwrap_or_default() * width;
        Ok(merkle::root_of(self.0.get(from..from + width).unwrap_or_default().iter().copied()))
    }
}

/// An entry of the log of checkpoints, a row of `tenancy.checkpoint`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Name of the incarnation; each has a log of its own.
    pub incarnation: String,
    /// The place in that log, from 1; it equals the size of the log when the entry is the newest.
    pub number: i64,
    /// Time of the checkpoint, in microseconds since 1970 UTC.
    pub made_at: i64,
    /// Number of the newest block.
    pub block: i64,
    /// Hash of that block.
    pub block_hash: Digest,
    /// The number of organizations that have a head.
    pub heads: i64,
    /// The root of the tree over these heads.
    pub heads_root: Digest,
    /// The digest of the previous checkpoint, of whatever incarnation; absent in the very first.
    pub previous: Option<Digest>,
}

impl Entry {
    /// The digest of the checkpoint: the data of its leaf, and the `previous` of the next checkpoint.
    pub fn digest(&self) -> Digest {
        let record = Record::new("pg_tenancy/checkpoint/1")
            .text(&self.incarnation)
            .integer(self.number)
            .integer(self.made_at)
            .integer(self.block)
            .bytes(&self.block_hash)
            .integer(self.heads)
            .bytes(&self.heads_root);
        match &self.previous {
            Some(previous) => record.bytes(previous),
            None => record.optional(None),
        }
        .digest()
    }

    /// The hash of the leaf in the log of checkpoints.
    pub fn leaf(&self) -> Digest {
        merkle::leaf_hash(&self.digest())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(organization: u128) -> Head {
        Head { organization: Uuid::from_u128(organization), position: 7, leaves: 3, chain: [1; 32], root: [2; 32] }
    }

    #[test]
    fn each_head_is_proved_by_itself() {
        let all: Vec<Head> = (1..=11).map(head).collect();
        let heads = Heads::new(&all);
        for (index, head) in all.iter().enumerate() {
            let proof = heads.proof(index).unwrap();
            assert!(merkle::verify_inclusion(&head.leaf(), index as u64, 11, &proof, &heads.root()));
            let other = Head { position: 8, ..head.clone() };
            assert!(!merkle::verify_inclusion(&other.leaf(), index as u64, 11, &proof, &heads.root()));
        }
        assert_eq!(heads.proof(11), None);
        assert_eq!(Heads::new([]).root(), merkle::empty_root());
    }

    #[test]
    fn each_part_of_a_head_changes_its_leaf() {
        let base = head(1);
        let variants = [
            Head { organization: Uuid::from_u128(2), ..base.clone() },
            Head { position: 8, ..base.clone() },
            Head { leaves: 8, ..base.clone() },
            Head { chain: [9; 32], ..base.clone() },
            Head { root: [9; 32], ..base.clone() },
        ];
        for variant in variants {
            assert_ne!(variant.leaf(), base.leaf(), "{variant:?}");
        }
    }

    #[test]
    fn each_part_of_an_entry_changes_its_digest() {
        let base = Entry {
            incarnation: "a".into(),
            number: 1,
            made_at: 2,
            block: 3,
            block_hash: [4; 32],
            heads: 5,
            heads_root: [6; 32],
            previous: None,
        };
        let variants = [
            Entry { incarnation: "b".into(), ..base.clone() },
            Entry { number: 9, ..base.clone() },
            Entry { made_at: 9, ..base.clone() },
            Entry { block: 9, ..base.clone() },
            Entry { block_hash: [9; 32], ..base.clone() },
            Entry { heads: 9, ..base.clone() },
            Entry { heads_root: [9; 32], ..base.clone() },
            Entry { previous: Some([0; 32]), ..base.clone() },
        ];
        for variant in variants {
            assert_ne!(variant.digest(), base.digest(), "{variant:?}");
        }
    }
}
