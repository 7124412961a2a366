//! The chain of an organization: where it starts and how each sealed event extends it.

use crate::audit::format::encoding::{Digest, Record};
use uuid::Uuid;

/// An entry of the seal: which event took which place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub position: i64,
    pub event: Uuid,
    pub event_hash: Digest,
    pub chain: Digest,
    /// The number of the block that sealed it.
    pub block: i64,
}

/// The head of a chain without events. Names the organization, so that no event of one chain fits another.
pub fn genesis(organization: Uuid) -> Digest {
    Record::new("pg_tenancy/genesis/1").bytes(organization.as_bytes()).digest()
}

/// The head after the event with `event_hash` took the place `position` (from 1).
pub fn extend(head: &Digest, position: i64, event_hash: &Digest) -> Digest {
    Record::new("pg_tenancy/chain/1").bytes(head).integer(position).bytes(event_hash).digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_of_two_organizations_never_meet() {
        assert_ne!(genesis(Uuid::from_u128(1)), genesis(Uuid::from_u128(2)));
    }

    #[test]
    fn the_order_of_events_changes_the_head() {
        let start = genesis(Uuid::from_u128(1));
        let ab = extend(&extend(&start, 1, &[1; 32]), 2, &[2; 32]);
        let ba = extend(&extend(&start, 1, &[2; 32]), 2, &[1; 32]);
        assert_ne!(ab, ba);
    }
}
