//! The block: one run of the sealer, linked to its entries and to the previous block.
//!
//! The chains link the events of one organization. The blocks link the entries of all organizations, so that removing
//! the newest entries leaves a trace too.

use super::chain::Entry;
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
    /// The number of entries, which is that of the batches.
    pub entries: i64,
    /// The number of events in these batches.
    pub events: i64,
    /// The digest over the entries, as [`Entries::digest`] computes it.
    pub entries_digest: Digest,
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
        Record::new("pg_tenancy/block/2")
            .integer(self.number)
            .integer(self.sealed_at)
            .text(&self.snapshot)
            .text(&self.incarnation)
            .integer(self.entries)
            .integer(self.events)
            .bytes(&self.entries_digest)
            .bytes(&self.previous)
            .digest()
    }
}

/// Computes the digest over the entries of a block, added in the order of organization and leaf.
#[derive(Clone)]
pub struct Entries {
    count: i64,
    record: Record,
}

impl Default for Entries {
    fn default() -> Self {
        Entries { count: 0, record: Record::new("pg_tenancy/entries/2") }
    }
}

impl Entries {
    /// Adds the next entry; the order is organization (as bytes), then leaf.
    pub fn add(&mut self, organization: Uuid, entry: &Entry) {
        self.count += 1;
        self.record
            .put(organization.as_bytes())
            .put(&entry.leaf.to_be_bytes())
            .put(&entry.position.to_be_bytes())
            .put(entry.batch.as_bytes())
            .put(&entry.batch_hash)
            .put(&entry.chain);
    }

    /// The number of entries that were added.
    pub fn count(&self) -> i64 {
        self.count
    }

    /// The digest over the entries that were added.
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
            entries: 6,
            events: 8,
            entries_digest: [7; 32],
            previous: origin(),
        };
        let variants = [
            Block { number: 9, ..base.clone() },
            Block { sealed_at: 9, ..base.clone() },
            Block { snapshot: "9:9:".into(), ..base.clone() },
            Block { incarnation: "9/9".into(), ..base.clone() },
            Block { entries: 9, ..base.clone() },
            Block { events: 9, ..base.clone() },
            Block { entries_digest: [9; 32], ..base.clone() },
            Block { previous: [9; 32], ..base.clone() },
        ];
        for variant in variants {
            assert_ne!(variant.hash(), base.hash(), "{variant:?}");
        }
    }

    #[test]
    fn an_entry_less_changes_the_digest_of_the_entries() {
        let entry =
            Entry { leaf: 1, position: 1, batch: Uuid::from_u128(1), batch_hash: [1; 32], chain: [2; 32], block: 1 };
        let mut one = Entries::default();
        one.add(Uuid::from_u128(1), &entry);
        assert_eq!(one.count(), 1);
        assert_ne!(one.digest(), Entries::default().digest());
    }
}
