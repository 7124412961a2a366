//! The block: one run of the sealer, tied to its entries and to the block before it.
//!
//! The chains tie events to their organization's order. The blocks tie the entries of all organizations together, so
//! that the newest ones cannot go without a trace either.

use super::chain::Entry;
use crate::audit::format::encoding::{Digest, Record};
use uuid::Uuid;

/// What a block says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// From 1, without gaps.
    pub number: i64,
    /// Microseconds since 1970, UTC.
    pub sealed_at: i64,
    /// `pg_snapshot` as text.
    pub snapshot: String,
    /// The name of the history it belongs to.
    pub incarnation: String,
    pub events: i64,
    pub entries_digest: Digest,
    pub previous: Digest,
}

/// The hash that the first block follows.
pub fn origin() -> Digest {
    Record::new("pg_tenancy/blocks/1").digest()
}

impl Block {
    pub fn hash(&self) -> Digest {
        Record::new("pg_tenancy/block/1")
            .integer(self.number)
            .integer(self.sealed_at)
            .text(&self.snapshot)
            .text(&self.incarnation)
            .integer(self.events)
            .bytes(&self.entries_digest)
            .bytes(&self.previous)
            .digest()
    }
}

/// The digest over the entries of a block, taken in the order of organization and position.
#[derive(Clone)]
pub struct Entries {
    count: i64,
    record: Record,
}

impl Default for Entries {
    fn default() -> Self {
        Entries { count: 0, record: Record::new("pg_tenancy/entries/1") }
    }
}

impl Entries {
    pub fn add(&mut self, organization: Uuid, entry: &Entry) {
        self.count += 1;
        self.record
            .put(organization.as_bytes())
            .put(&entry.position.to_be_bytes())
            .put(entry.event.as_bytes())
            .put(&entry.event_hash)
            .put(&entry.chain);
    }

    pub fn count(&self) -> i64 {
        self.count
    }

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
            events: 6,
            entries_digest: [7; 32],
            previous: origin(),
        };
        let variants = [
            Block { number: 9, ..base.clone() },
            Block { sealed_at: 9, ..base.clone() },
            Block { snapshot: "9:9:".into(), ..base.clone() },
            Block { incarnation: "9/9".into(), ..base.clone() },
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
        let entry = Entry { position: 1, event: Uuid::from_u128(1), event_hash: [1; 32], chain: [2; 32], block: 1 };
        let mut one = Entries::default();
        one.add(Uuid::from_u128(1), &entry);
        assert_eq!(one.count(), 1);
        assert_ne!(one.digest(), Entries::default().digest());
    }
}
