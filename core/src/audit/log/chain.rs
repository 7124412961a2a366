//! The chain of an organization: its genesis, and its extension by each sealed event.

use crate::audit::format::encoding::{Digest, Record};
use uuid::Uuid;

/// An entry of the seal, a row of `tenancy.seal`: the position of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The position in the organization's order, from 1, without gaps.
    pub position: i64,
    /// Id of the event in `tenancy.event`.
    pub event: Uuid,
    /// Hash of the event when it was sealed.
    pub event_hash: Digest,
    /// The chain value at this position, as [`extend`] computes it.
    pub chain: Digest,
    /// Number of the block that sealed the event.
    pub block: i64,
}

/// The head of a chain without events. It covers the organization, so that no event fits two chains.
pub fn genesis(organization: Uuid) -> Digest {
    Record::new("pg_tenancy/genesis/1").bytes(organization.as_bytes()).digest()
}

/// The chain value after the event with `event_hash` took `position` (from 1).
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
