//! The order in which the sealer processes events: organization, transaction, ordinal.

use crate::audit::format::encoding::Digest;
use uuid::Uuid;

/// An event before it is sealed.
#[derive(Debug, Clone, PartialEq)]
pub struct Unsealed {
    /// Id of the event in `tenancy.event`.
    pub id: Uuid,
    /// The organization whose chain the event joins.
    pub organization: Uuid,
    /// The 64-bit id of the top-level transaction.
    pub transaction: u64,
    /// The place among the events of the same transaction and organization, from 1.
    pub ordinal: i32,
    /// The `prev_hash` of the event, its link.
    pub previous: Digest,
    /// The hash of the event.
    pub hash: Digest,
}

impl Unsealed {
    /// The sort key of events before their links are examined.
    pub fn place(&self) -> (Uuid, u64, i32, Uuid) {
        (self.organization, self.transaction, self.ordinal, self.id)
    }
}

/// Sorts events by their links. The input is sorted by organization, transaction, ordinal and id.
///
/// Both orders are equal except in a restored database. There, a transaction of the old history and one of the new
/// history may share an id. Their events then alternate, and only the links show the order.
pub fn by_links(events: Vec<Unsealed>) -> Vec<Unsealed> {
    let mut ordered = Vec::with_capacity(events.len());
    for group in
        events.chunk_by(|one, other| (one.organization, one.transaction) == (other.organization, other.transaction))
    {
        let several = group.iter().filter(|event| event.ordinal == 1).count() > 1;
        if several { ordered.extend(untangle(group)) } else { ordered.extend_from_slice(group) }
    }
    ordered
}

/// Follows each first event to its last; events that no link reaches come last, so that verification reports them.
fn untangle(group: &[Unsealed]) -> Vec<Unsealed> {
    let mut rest: Vec<Unsealed> = group.to_vec();
    let mut ordered: Vec<Unsealed> = Vec::with_capacity(rest.len());
    while let Some(first) = rest.iter().position(|event| event.ordinal == 1) {
        let mut next = Some(first);
        while let Some(place) = next {
            let event = rest.remove(place);
            next = rest.iter().position(|other| other.previous == event.hash && other.ordinal == event.ordinal + 1);
            ordered.push(event);
        }
    }
    ordered.extend(rest);
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: u128, ordinal: i32, previous: u8, hash: u8) -> Unsealed {
        let (organization, transaction) = (Uuid::from_u128(1), 7);
        Unsealed {
            id: Uuid::from_u128(id),
            organization,
            transaction,
            ordinal,
            previous: [previous; 32],
            hash: [hash; 32],
        }
    }

    fn ids(events: Vec<Unsealed>) -> Vec<u128> {
        events.iter().map(|event| event.id.as_u128()).collect()
    }

    #[test]
    fn the_events_of_one_transaction_keep_their_order() {
        assert_eq!(ids(by_links(vec![event(1, 1, 0, 1), event(2, 2, 1, 2)])), [1, 2]);
    }

    #[test]
    fn two_transactions_of_one_id_come_one_after_the_other() {
        let mixed = vec![event(1, 1, 0, 1), event(3, 1, 0, 3), event(2, 2, 1, 2), event(4, 2, 3, 4)];
        assert_eq!(ids(by_links(mixed)), [1, 2, 3, 4]);
    }

    #[test]
    fn an_event_without_its_link_is_not_lost() {
        let mixed = vec![event(1, 1, 0, 1), event(3, 1, 0, 3), event(2, 2, 9, 2)];
        assert_eq!(ids(by_links(mixed)), [1, 3, 2]);
    }
}
