//! Verifies a batch by itself: whether the row agrees with its own hash.

use super::FindingKind;
use crate::audit::format::batch::PackedContent;
use crate::audit::format::batch_row::BatchRow;
use crate::audit::format::encoding::Digest;
use crate::audit::format::event::{ENCODING, SALT, event_digest, event_id};
use crate::audit::history::row_hash::HashedBatch;
use crate::audit::log::merkle;
use uuid::Uuid;

/// A row of `tenancy.event_batch` that borrows its texts and bytes from a page.
pub type Stored<'a> = BatchRow<&'a str, &'a [u8]>;

/// A mismatch within a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The kind of the mismatch.
    pub finding: FindingKind,
    /// A clause without a full stop.
    pub text: &'static str,
    /// The place of the affected event in the batch, from 0; 0 also for a mismatch of the whole batch.
    pub place: i32,
}

impl Fault {
    fn altered(text: &'static str) -> Self {
        Fault { finding: FindingKind::Altered, text, place: 0 }
    }
}

const PAYLOAD_ALTERED: &str = "the payload (old and new values) is not the one that was written";
const ROW_HASHES_ALTERED: &str = "the hashes of the rows' keys (row_hashes) are not those of the events";
const PAYLOAD_MISSING: &str = "the payload (old and new values) is missing, and no erasure is recorded";

impl Stored<'_> {
    /// The mismatch between the row and its own hash; `None` if there is none.
    ///
    /// `actor_digest` is absent if the row of the actor is gone. `erased` returns whether the chain records the erasure
    /// of the payload with this digest, of the event with this id.
    ///
    /// Errors: those of `erased`.
    pub fn inconsistency<E>(
        &self,
        actor_digest: Option<&Digest>,
        mut erased: impl FnMut(Uuid, &Digest) -> Result<bool, E>,
    ) -> Result<Option<Fault>, E> {
        let Some(actor_digest) = actor_digest else {
            let text = "the row of the actor in tenancy.event_actor is gone";
            return Ok(Some(Fault { finding: FindingKind::Missing, text, place: 0 }));
        };
        if self.encoding != ENCODING {
            return Ok(Some(Fault::altered("the version of the encoding is not the one that was written")));
        }
        if self.packed.is_none() && self.payload.is_none() != self.payload_salt.is_none() {
            return Ok(Some(Fault::altered(PAYLOAD_MISSING)));
        }
        if self.packed.is_none() && self.payload_salt.is_some_and(|salt| salt.len() != SALT) {
            return Ok(Some(Fault::altered(PAYLOAD_ALTERED)));
        }
        let packed = match self.events() {
            Ok(packed) => packed,
            Err(malformed) => return Ok(Some(Fault::altered(malformed.text()))),
        };
        let events = match packed.list(self.occurred_at) {
            Ok(events) => events,
            Err(malformed) => return Ok(Some(Fault::altered(malformed.text()))),
        };
        if events.first().is_some_and(|first| first.occurred_at != self.occurred_at) {
            return Ok(Some(Fault::altered("the time of the batch is not that of its first event")));
        }
        let mut digests = Vec::with_capacity(events.len());
        for (place, event) in (0..).zip(&events) {
            let digest = event.payload_digest();
            if self.payload_digest.is_some_and(|stored| stored != digest) {
                return Ok(Some(Fault::altered(PAYLOAD_ALTERED)));
            }
            if let PackedContent::Erased(digest) = &event.content
                && !erased(event_id(self.id, place), digest)?
            {
                return Ok(Some(Fault { place, ..Fault::altered(PAYLOAD_MISSING) }));
            }
            digests.push(event_digest(event.occurred_at, event.row_key, &digest));
        }
        let root = merkle::root_of(digests);
        if self.header(actor_digest).hash(&root, &self.previous) == self.hash {
            let has_hashes = HashedBatch::of(self).has(self.row_hashes, &events);
            return Ok((!has_hashes).then(|| Fault::altered(ROW_HASHES_ALTERED)));
        }
        let text = if events.len() > 1 {
            "the events of the batch or their actor are not what was written"
        } else {
            "the event or its actor is not what was written"
        };
        Ok(Some(Fault::altered(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::format::batch::{PackedEvent, pack};
    use crate::audit::format::event::payload_digest;
    use crate::audit::history::row_hash;
    use std::convert::Infallible;

    const ACTOR: Digest = [9; 32];
    const BYTES: [u8; SALT] = [1; SALT];

    fn hashed<'a>(batch: Stored<'a>) -> Stored<'a> {
        let packed = batch.events().unwrap();
        let events = packed.list(batch.occurred_at).unwrap();
        let root = merkle::root_of(events.iter().map(PackedEvent::digest));
        let hash = batch.header(&ACTOR).hash(&root, &batch.previous);
        drop(events);
        drop(packed);
        Stored { hash, ..batch }
    }

    fn one() -> Stored<'static> {
        hashed(Stored {
            id: Uuid::from_u128(0x1000),
            organization: Uuid::from_u128(2),
            actor: Uuid::from_u128(3),
            transaction: 4,
            ordinal: 1,
            events: 1,
            occurred_at: 5,
            operation: "insert",
            domain: "finding",
            table_schema: None,
            table_name: None,
            result: "success",
            reason: None,
            row_key: None,
            payload: Some("{}"),
            payload_salt: Some(&BYTES),
            payload_digest: Some(payload_digest(&BYTES, "{}")),
            packed: None,
            row_hashes: None,
            encoding: ENCODING,
            previous: [7; 32],
            hash: [0; 32],
        })
    }

    fn packed(texts: &[&str]) -> Vec<u8> {
        let event = |text: &&'static str| PackedEvent {
            occurred_at: 5,
            row_key: None,
            content: PackedContent::Payload { salt: BYTES, text },
        };
        let leaked: Vec<&'static str> = texts.iter().map(|text| &*text.to_string().leak()).collect();
        pack(5, &leaked.iter().map(event).collect::<Vec<_>>())
    }

    fn several(packed: &[u8]) -> Stored<'_> {
        hashed(Stored {
            events: 3,
            payload: None,
            payload_salt: None,
            payload_digest: None,
            packed: Some(packed),
            ..one()
        })
    }

    fn fault(batch: &Stored, erased: bool) -> Option<Fault> {
        let Ok(fault) = batch.inconsistency(Some(&ACTOR), |_, _| Ok::<bool, Infallible>(erased));
        fault
    }

    #[test]
    fn an_untouched_batch_agrees_with_itself() {
        assert_eq!(fault(&one(), false), None);
        assert_eq!(fault(&several(&packed(&["{1}", "{2}", "{3}"])), false), None);
    }

    #[test]
    fn an_erased_payload_is_no_fault_where_the_chain_tells_of_it() {
        let erased = Stored { payload: None, payload_salt: None, ..one() };
        assert_eq!(fault(&erased, true), None);
        assert_eq!(fault(&erased, false).unwrap().finding, FindingKind::Altered);
        for half in [Stored { payload: None, ..one() }, Stored { payload_salt: None, ..one() }] {
            assert_eq!(fault(&half, true).unwrap().text, PAYLOAD_MISSING, "half of it is left");
        }
        let other = Stored { operation: "delete", ..erased };
        assert_eq!(fault(&other, true).unwrap().finding, FindingKind::Altered, "the rest still counts");
    }

    #[test]
    fn an_erased_payload_of_several_is_named_by_its_place_and_changes_no_hash() {
        let whole = packed(&["{1}", "{2}", "{3}"]);
        let batch = several(&whole);
        let events = batch.events().unwrap();
        let mut events = events.list(5).unwrap();
        events[1].content = PackedContent::Erased(events[1].payload_digest());
        let rewritten = pack(5, &events);
        let erased = Stored { packed: Some(&rewritten), ..batch.clone() };
        assert_eq!(fault(&erased, true), None);
        assert_eq!(fault(&erased, false), Some(Fault { place: 1, ..Fault::altered(PAYLOAD_MISSING) }));
    }

    #[test]
    fn what_was_changed_is_named() {
        let changed = [
            (Stored { payload: Some("{\"new\":1}"), ..one() }, "payload"),
            (Stored { payload: None, ..one() }, "payload"),
            (Stored { payload_salt: None, ..one() }, "payload"),
            (Stored { payload_digest: Some([0; 32]), ..one() }, "payload"),
            (Stored { payload_digest: None, ..one() }, "columns"),
            (Stored { operation: "delete", ..one() }, "event"),
            (Stored { row_key: Some("{}"), ..one() }, "event"),
            (Stored { occurred_at: 6, ..one() }, "event"),
            (Stored { events: 2, ..one() }, "columns"),
            (Stored { events: 0, ..one() }, "columns"),
            (Stored { packed: Some(&[]), ..one() }, "columns"),
            (Stored { payload_salt: Some(&[1; 15]), ..one() }, "payload"),
            (Stored { hash: [0; 32], ..one() }, "event"),
            (Stored { row_hashes: Some(&[1; 4]), ..one() }, "row_hashes"),
            (Stored { encoding: 1, ..one() }, "encoding"),
        ];
        for (stored, word) in changed {
            let Fault { finding, text, .. } = fault(&stored, false).unwrap();
            assert!(finding == FindingKind::Altered && text.contains(word), "{text}");
        }
        let of = |digest: Option<&Digest>| one().inconsistency(digest, |_, _| Ok::<bool, Infallible>(false));
        assert_eq!(of(Some(&[8; 32])).unwrap().unwrap().finding, FindingKind::Altered);
        assert_eq!(of(None).unwrap().unwrap().finding, FindingKind::Missing);
    }

    #[test]
    fn hashes_of_keys_are_compared_with_the_keys() {
        let key = r#"{"id":1}"#;
        let hash = row_hash::of_key(key).unwrap().to_be_bytes();
        let keyed = hashed(Stored { row_key: Some(key), row_hashes: Some(&hash), ..one() });
        assert_eq!(fault(&keyed, false), None);
        let other = row_hash::of_key(r#"{"id":2}"#).unwrap().to_be_bytes();
        for hashes in [None, Some(&other[..]), Some(&hash[..3]), Some(&[]), Some(&[hash, other].concat()[..])] {
            let Fault { finding, text, .. } = fault(&Stored { row_hashes: hashes, ..keyed.clone() }, false).unwrap();
            assert_eq!((finding, text), (FindingKind::Altered, ROW_HASHES_ALTERED));
        }
    }

    #[test]
    fn what_was_changed_of_several_is_named() {
        let whole = packed(&["{1}", "{2}", "{3}"]);
        let (other, fewer) = (packed(&["{1}", "{9}", "{3}"]), packed(&["{1}", "{3}"]));
        let swapped = packed(&["{2}", "{1}", "{3}"]);
        let longer = [&whole[..], &[0]].concat();
        let batch = several(&whole);
        let changed = [
            (Stored { packed: Some(&other), ..batch.clone() }, "events of the batch"),
            (Stored { packed: Some(&swapped), ..batch.clone() }, "events of the batch"),
            (Stored { packed: Some(&fewer), events: 2, ..batch.clone() }, "events of the batch"),
            (Stored { packed: Some(&fewer), ..batch.clone() }, "packed events"),
            (Stored { packed: Some(&longer), ..batch.clone() }, "after their end"),
            (Stored { packed: Some(&whole[..20]), ..batch.clone() }, "cut off"),
            (Stored { packed: None, ..batch.clone() }, "columns"),
            (Stored { ordinal: 2, ..batch.clone() }, "events of the batch"),
            (Stored { occurred_at: 6, ..batch.clone() }, "events of the batch"),
            (Stored { payload: Some("{1}"), payload_salt: Some(&BYTES), ..batch.clone() }, "columns"),
            (Stored { events: 1, ..batch.clone() }, "columns"),
            (Stored { row_key: Some("{}"), ..batch.clone() }, "columns"),
            (Stored { events: 129, ..batch.clone() }, "announce more"),
        ];
        for (stored, word) in changed {
            let Fault { finding, text, .. } = fault(&stored, false).unwrap();
            assert!(finding == FindingKind::Altered && text.contains(word), "{word}: {text}");
        }
    }
}
