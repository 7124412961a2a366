//! The entries of a row of `tenancy.seal`: a list of batches, 49 bytes each.

use super::chain;
use crate::audit::format::batch::MAX_EVENTS;
use crate::audit::format::encoding::{Digest, Record};
use uuid::Uuid;

/// An entry of the seal: the place of a batch of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The number of the entry in the organization's order, from 1, without gaps: the leaf of the tree.
    pub leaf: i64,
    /// The position of the batch's last event in the organization's order, from 1.
    pub position: i64,
    /// The number of events in the batch. A value above [`MAX_EVENTS`] was written by hand.
    pub events: i64,
    /// Id of the batch in `tenancy.event_batch`.
    pub batch: Uuid,
    /// Hash of the batch when it was sealed.
    pub batch_hash: Digest,
    /// Number of the block that sealed the batch.
    pub block: i64,
}

/// The bytes of an entry: id of the batch, its number of events less one, its hash.
pub const ENTRY: usize = 49;

/// The most entries of a row. A block with more of an organization has several rows.
pub const MAX_ENTRIES: usize = 4096;

/// Why the entries of a row cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// The list is empty, has more than [`MAX_ENTRIES`], or ends within an entry.
    Length,
}

impl Malformed {
    /// A clause without a full stop.
    pub fn text(self) -> &'static str {
        match self {
            Malformed::Length => "entries in tenancy.seal has an impossible length",
        }
    }
}

impl Entry {
    /// True if the number of events is one that a batch can have.
    pub fn has_possible_events(&self) -> bool {
        (1..=MAX_EVENTS as i64).contains(&self.events)
    }

    /// The chain value after this entry.
    pub fn extend(&self, chain: &Digest) -> Digest {
        chain::extend(chain, self.position, &self.batch_hash)
    }

    /// The hash of its leaf in the tree.
    pub fn leaf_hash(&self) -> Digest {
        chain::leaf(self.position, &self.batch_hash)
    }
}

/// Adds an entry to a list. `events` is from 1 to 128.
pub fn put(list: &mut Vec<u8>, batch: &Uuid, events: i64, hash: &Digest) {
    list.extend_from_slice(batch.as_bytes());
    list.push((events - 1) as u8);
    list.extend_from_slice(hash);
}

/// Whether a list can have so many bytes.
pub fn is_possible_length(bytes: usize) -> bool {
    bytes > 0 && bytes.is_multiple_of(ENTRY) && bytes <= MAX_ENTRIES * ENTRY
}

/// The entries of a row, which ends at this position and leaf.
///
/// Errors: [`Malformed`].
pub fn entries(
    block: i64,
    position: i64,
    leaves: i64,
    list: &[u8],
) -> Result<impl ExactSizeIterator<Item = Entry> + '_, Malformed> {
    if !is_possible_length(list.len()) {
        return Err(Malformed::Length);
    }
    let (entries, _) = list.as_chunks::<ENTRY>();
    let events: i64 = entries.iter().map(|entry| i64::from(entry[16]) + 1).sum();
    // Negative where the row was changed: then they do not follow from the row before.
    let (mut position, first) = (position.saturating_sub(events), leaves.saturating_sub(entries.len() as i64));
    Ok(entries.iter().enumerate().map(move |(n, entry)| {
        let (id, rest) = entry.split_at(16);
        let events = i64::from(rest[0]) + 1;
        position = position.saturating_add(events);
        Entry {
            leaf: first.saturating_add(1 + n as i64),
            position,
            events,
            batch: Uuid::from_slice(id).unwrap_or_default(),
            batch_hash: rest[1..].try_into().unwrap_or_default(),
            block,
        }
    }))
}

/// Computes the digest over entries, which an archive of a month keeps.
pub struct EntriesDigest(Record);

impl Default for EntriesDigest {
    fn default() -> Self {
        EntriesDigest(Record::new("pg_tenancy/entries/3"))
    }
}

impl EntriesDigest {
    /// Adds the next entry; the order is organization (as bytes), then leaf.
    pub fn add(&mut self, organization: Uuid, entry: &Entry) {
        self.0
            .put(organization.as_bytes())
            .put(&entry.leaf.to_be_bytes())
            .put(&entry.position.to_be_bytes())
            .put(entry.batch.as_bytes())
            .put(&entry.batch_hash);
    }

    /// The digest over the entries that were added.
    pub fn digest(self) -> Digest {
        self.0.digest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(events: &[i64]) -> Vec<u8> {
        let mut list = Vec::new();
        for (n, events) in (1..).zip(events) {
            put(&mut list, &Uuid::from_u128(n), *events, &[n as u8; 32]);
        }
        list
    }

    #[test]
    fn entries_are_read_as_they_were_put() {
        let list = list(&[1, 128, 3]);
        let read: Vec<Entry> = entries(7, 140, 12, &list).unwrap().collect();
        let places: Vec<_> = read.iter().map(|entry| (entry.leaf, entry.position, entry.events)).collect();
        assert_eq!(places, [(10, 9, 1), (11, 137, 128), (12, 140, 3)]);
        assert!(read.iter().all(|entry| entry.block == 7 && entry.has_possible_events()));
        assert_eq!((read[1].batch, read[1].batch_hash), (Uuid::from_u128(2), [2; 32]));
    }

    #[test]
    fn a_list_that_no_row_can_have_is_refused() {
        let three = list(&[1, 2, 3]);
        let of = |position, leaves, list: &[u8]| entries(1, position, leaves, list).map(|_| ()).err();
        // Places that cannot be do not follow from the row before: the verifier names them.
        for (position, leaves) in [(6, 3), (5, 2), (i64::MIN, i64::MIN), (i64::MAX, i64::MAX)] {
            assert_eq!(of(position, leaves, &three), None);
        }
        for length in [0, 1, ENTRY - 1, ENTRY + 1, (MAX_ENTRIES + 1) * ENTRY] {
            assert_eq!(of(i64::MAX, i64::MAX, &vec![0; length]), Some(Malformed::Length), "{length}");
        }
        assert_eq!(of(i64::MAX, i64::MAX, &vec![0; MAX_ENTRIES * ENTRY]), None);
    }

    #[test]
    fn a_number_of_events_that_no_batch_has_is_seen() {
        let mut three = list(&[1, 1, 1]);
        three[16] = 128;
        let read: Vec<Entry> = entries(1, 131, 3, &three).unwrap().collect();
        assert_eq!(read.iter().map(Entry::has_possible_events).collect::<Vec<_>>(), [false, true, true]);
    }
}
