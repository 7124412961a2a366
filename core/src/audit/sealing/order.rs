//! The order in which the sealer processes events: organization, transaction, ordinal.

use crate::audit::format::encoding::Digest;
use std::collections::{HashMap, VecDeque};
use uuid::Uuid;

/// A batch before it is sealed.
#[derive(Debug, Clone, PartialEq)]
pub struct Unsealed {
    /// Id of the batch in `tenancy.event_batch`.
    pub id: Uuid,
    /// The organization whose chain the batch joins.
    pub organization: Uuid,
    /// The 64-bit id of the top-level transaction.
    pub transaction: u64,
    /// The place of the first event among those of the same transaction and organization, from 1.
    pub ordinal: i32,
    /// The number of events.
    pub events: i32,
    /// The `prev_hash` of the batch, its link.
    pub previous: Digest,
    /// The hash of the batch.
    pub hash: Digest,
}

/// Sorts the batches of an organization and transaction by their links. They are sorted by ordinal and id.
///
/// Both orders are equal except in a restored database. There, a transaction of the old history and one of the new
/// history may share an id: the group then has several batches with ordinal 1. Their events alternate, and only the
/// links show the order.
pub fn by_links(mut group: Vec<Unsealed>) -> Vec<Unsealed> {
    if group.iter().filter(|event| event.ordinal == 1).count() > 1 {
        untangle(&mut group);
    }
    group
}

/// Follows each first event to its last; events that no link reaches come last, so that verification reports them.
/// The work grows with the number of events, because each is found by what it follows.
fn untangle(group: &mut [Unsealed]) {
    let mut followers: HashMap<(Digest, i32), VecDeque<usize>> = HashMap::with_capacity(group.len());
    for (place, event) in group.iter().enumerate() {
        followers.entry((event.previous, event.ordinal)).or_default().push_back(place);
    }
    let mut ordered = Vec::with_capacity(group.len());
    let mut taken = vec![false; group.len()];
    let firsts = (0..group.len()).filter(|place| group[*place].ordinal == 1);
    for first in firsts {
        let mut next = Some(first);
        while let Some(place) = next.filter(|place| !taken[*place]) {
            taken[place] = true;
            let event = &group[place];
            ordered.push(event.clone());
            let waiting = followers.get_mut(&(event.hash, event.ordinal.saturating_add(event.events)));
            next = waiting.and_then(|waiting| {
                while waiting.front().is_some_and(|place| taken[*place]) {
                    waiting.pop_front();
                }
                waiting.pop_front()
            });
        }
    }
    ordered.extend(group.iter().zip(&taken).filter(|(_, taken)| !**taken).map(|(event, _)| event.clone()));
    group.clone_from_slice(&ordered);
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
            events: 1,
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

    /// Two transactions of half as many events each, which alternate: looking through the rest for each next event
    /// would be 10,000,000,000 comparisons, which take minutes.
    #[test]
    fn two_long_transactions_of_one_id_are_told_apart_in_one_pass() {
        let half = 100_000;
        let hash = |chain: u8, ordinal: i32| {
            let mut hash = [chain; 32];
            hash[..4].copy_from_slice(&ordinal.to_be_bytes());
            hash
        };
        let one = |chain: u8, ordinal: i32| Unsealed {
            id: Uuid::from_u128(u128::from(chain)),
            previous: hash(chain, ordinal - 1),
            hash: hash(chain, ordinal),
            ..event(0, ordinal, 0, 0)
        };
        let mixed: Vec<_> = (1..=half).flat_map(|ordinal| [one(1, ordinal), one(2, ordinal)]).collect();
        let apart: Vec<_> = [1, 2].into_iter().flat_map(|chain| (1..=half).map(move |n| one(chain, n))).collect();
        assert!(by_links(mixed) == apart);
    }

    #[test]
    fn of_two_followers_each_is_kept_and_the_one_that_came_first_goes_on() {
        let mixed = vec![event(1, 1, 0, 1), event(3, 1, 0, 3), event(2, 2, 1, 2), event(4, 2, 1, 4), event(5, 3, 2, 5)];
        assert_eq!(ids(by_links(mixed)), [1, 2, 5, 3, 4]);
    }
}
