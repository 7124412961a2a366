//! The chain of an organization: its genesis, and its extension by each sealed batch.

use super::merkle;
use crate::audit::format::encoding::{Digest, Record};
use uuid::Uuid;

/// The head of a chain without events. It covers the organization, so that no event fits two chains.
pub fn genesis(organization: Uuid) -> Digest {
    Record::new("pg_tenancy/genesis/1").bytes(organization.as_bytes()).digest()
}

/// The chain value after a batch whose last event took `position` (from 1).
pub fn extend(head: &Digest, position: i64, batch_hash: &Digest) -> Digest {
    Record::new("pg_tenancy/chain/2").bytes(head).integer(position).bytes(batch_hash).digest()
}

/// The hash of a batch's leaf in the tree of its organization.
///
/// The data are the position as eight bytes, big endian, and the hash of the batch. A proof of the leaf therefore shows
/// which positions the events of the batch have; the chain value shows that only together with all batches after it.
pub fn leaf(position: i64, batch_hash: &Digest) -> Digest {
    merkle::leaf_hash(&[&position.to_be_bytes()[..], batch_hash].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_of_two_organizations_never_meet() {
        assert_ne!(genesis(Uuid::from_u128(1)), genesis(Uuid::from_u128(2)));
    }

    #[test]
    fn a_leaf_holds_position_and_batch() {
        assert_ne!(leaf(1, &[1; 32]), leaf(2, &[1; 32]));
        assert_ne!(leaf(1, &[1; 32]), leaf(1, &[2; 32]));
    }

    #[test]
    fn the_order_of_events_changes_the_head() {
        let start = genesis(Uuid::from_u128(1));
        let ab = extend(&extend(&start, 1, &[1; 32]), 2, &[2; 32]);
        let ba = extend(&extend(&start, 1, &[2; 32]), 2, &[1; 32]);
        assert_ne!(ab, ba);
    }
}
