//! The block: one run of the sealer, linked to where it left each organization and to the previous block.
//!
//! The chains link the events of one organization. The blocks link the chains of all organizations, so that removing
//! the newest entries leaves a trace too.

use crate::audit::format::encoding::{Digest, Record};
use uuid::Uuid;

/// The fields of a block that its hash covers, a row of `tenancy.block`.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// The number of the block, from 1, without gaps.
    pub number: i64,
    /// Time of the sealer's run, in microseconds since 1970 UTC.
    pub sealed_at: i64,
    /// The `pg_snapshot` of the run, as text.
    pub snapshot: String,
    /// Name of the incarnation that the block belongs to.
    pub incarnation: String,
    /// The number of events that the block sealed.
    pub events: i64,
    /// The digest over where the block left the organizations, as [`Heads::digest`] computes it.
    pub heads_digest: Digest,
    /// Hash of the previous block; for block 1 the value of [`origin`].
    pub previous: Digest,
}

/// The `previous` hash of the first block.
pub fn origin() -> Digest {
    Record::new("pg_tenancy/blocks/1").digest()
}

impl Block {
    /// The hash of the block (`docs/audit-format.md`, Block).
    pub fn hash(&self) -> Digest {
        Record::new("pg_tenancy/block/3")
            .integer(self.number)
            .integer(self.sealed_at)
            .text(&self.snapshot)
            .text(&self.incarnation)
            .integer(self.events)
            .bytes(&self.heads_digest)
            .bytes(&self.previous)
            .digest()
    }
}

/// Computes the digest over where a block left each organization, added in the order of the organizations.
#[derive(Clone)]
pub struct Heads {
    events: i64,
    record: Record,
}

impl Default for Heads {
    fn default() -> Self {
        Heads { events: 0, record: Record::new("pg_tenancy/heads/1") }
    }
}

impl Heads {
    /// Adds the next organization, by the order of its bytes: position, leaves and chain value after its last entry of
    /// the block. The chain value covers the entries.
    pub fn add(&mut self, organization: Uuid, position: i64, leaves: i64, chain: &Digest) {
        self.record.put(organization.as_bytes()).put(&position.to_be_bytes()).put(&leaves.to_be_bytes()).put(chain);
    }

    /// Counts the events of a row.
    pub fn count(&mut self, events: i64) {
        self.events = self.events.saturating_add(events);
    }

    /// The number of events that were counted.
    pub fn events(&self) -> i64 {
        self.events
    }

    /// The digest over the organizations that were added.
    pub fn digest(self) -> Digest {
        self.record.digest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_of_a_block_changes_its_hash() {
        let base = Block {
            number: 1,
            sealed_at: 2,
            snapshot: "3:3:".into(),
            incarnation: "4/5".into(),
            events: 8,
            heads_digest: [7; 32],
            previous: origin(),
        };
        let variants = [
            Block { number: 9, ..base.clone() },
            Block { sealed_at: 9, ..base.clone() },
            Block { snapshot: "9:9:".into(), ..base.clone() },
            Block { incarnation: "9/9".into(), ..base.clone() },
            Block { events: 9, ..base.clone() },
            Block { heads_digest: [9; 32], ..base.clone() },
            Block { previous: [9; 32], ..base.clone() },
        ];
        for variant in variants {
            assert_ne!(variant.hash(), base.hash(), "{variant:?}");
        }
    }

    #[test]
    fn each_part_of_a_head_changes_the_digest() {
        let of = |id, position, leaves, chain| {
            let mut heads = Heads::default();
            heads.add(Uuid::from_u128(id), position, leaves, &[chain; 32]);
            heads.digest()
        };
        let others = [of(2, 1, 1, 1), of(1, 2, 1, 1), of(1, 1, 2, 1), of(1, 1, 1, 2), Heads::default().digest()];
        assert!(others.iter().all(|other| *other != of(1, 1, 1, 1)));
    }
}
