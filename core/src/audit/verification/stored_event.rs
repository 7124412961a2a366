//! Verifies an event by itself: whether the row agrees with its own hash.

use super::FindingKind;
use crate::audit::format::encoding::Digest;
use crate::audit::format::event::{ENCODING, payload_digest};
use crate::audit::format::event_row::EventRow;

/// A row of `tenancy.event` that borrows its texts and its salt from a page.
pub type Stored<'a> = EventRow<&'a str, &'a [u8]>;

impl Stored<'_> {
    /// The mismatch between the row and its own hash; `None` if there is none.
    ///
    /// `actor_digest` is absent if the row of the actor is gone. `erased` returns whether the chain records the erasure
    /// of the payload.
    pub fn inconsistency(
        &self,
        actor_digest: Option<&Digest>,
        erased: impl FnOnce() -> bool,
    ) -> Option<(FindingKind, &'static str)> {
        let Some(actor_digest) = actor_digest else {
            return Some((FindingKind::Missing, "the row of the actor in tenancy.event_actor is gone"));
        };
        if self.encoding != ENCODING {
            return Some((FindingKind::Altered, "the version of the encoding is not the one that was written"));
        }
        match (self.payload, self.payload_salt) {
            (Some(payload), Some(salt)) if payload_digest(salt, payload) == self.payload_digest => {}
            (Some(_), Some(_)) => {
                return Some((
                    FindingKind::Altered,
                    "the payload (old and new values) is not the one that was written",
                ));
            }
            (None, None) if erased() => {}
            _ => {
                return Some((
                    FindingKind::Altered,
                    "the payload (old and new values) is missing, and no erasure is recorded",
                ));
            }
        }
        if self.content_hash(actor_digest) != self.hash {
            return Some((FindingKind::Altered, "the event or its actor is not what was written"));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const ACTOR: Digest = [9; 32];

    fn event() -> Stored<'static> {
        let mut stored = Stored {
            id: Uuid::from_u128(1),
            organization: Uuid::from_u128(2),
            actor: Uuid::from_u128(3),
            transaction: 4,
            ordinal: 1,
            occurred_at: 5,
            operation: "insert",
            domain: "finding",
            table_schema: None,
            table_name: None,
            row_key: None,
            result: "success",
            reason: None,
            payload: Some("{}"),
            payload_salt: Some(&[1; 16]),
            payload_digest: payload_digest(&[1; 16], "{}"),
            encoding: ENCODING,
            previous: [7; 32],
            hash: [0; 32],
        };
        stored.hash = stored.content_hash(&ACTOR);
        stored
    }

    #[test]
    fn an_untouched_event_agrees_with_itself() {
        assert_eq!(event().inconsistency(Some(&ACTOR), || false), None);
    }

    #[test]
    fn an_erased_payload_is_no_fault_where_the_chain_tells_of_it() {
        let erased = Stored { payload: None, payload_salt: None, ..event() };
        assert_eq!(erased.inconsistency(Some(&ACTOR), || true), None);
        assert_eq!(erased.inconsistency(Some(&ACTOR), || false).unwrap().0, FindingKind::Altered);
        for half in [Stored { payload: None, ..event() }, Stored { payload_salt: None, ..event() }] {
            assert_eq!(
                half.inconsistency(Some(&ACTOR), || true).unwrap().0,
                FindingKind::Altered,
                "half of it is left"
            );
        }
        let other = Stored { operation: "delete", ..erased };
        assert_eq!(
            other.inconsistency(Some(&ACTOR), || true).unwrap().0,
            FindingKind::Altered,
            "the rest still counts"
        );
    }

    #[test]
    fn what_was_changed_is_named() {
        let changed = [
            (Stored { payload: Some("{\"new\":1}"), ..event() }, "payload"),
            (Stored { payload: None, ..event() }, "payload"),
            (Stored { payload_salt: None, ..event() }, "payload"),
            (Stored { payload_digest: [0; 32], ..event() }, "payload"),
            (Stored { operation: "delete", ..event() }, "event"),
            (Stored { hash: [0; 32], ..event() }, "event"),
            (Stored { encoding: 2, ..event() }, "encoding"),
        ];
        for (stored, word) in changed {
            let (finding, text) = stored.inconsistency(Some(&ACTOR), || false).unwrap();
            assert!(finding == FindingKind::Altered && text.contains(word), "{text}");
        }
        assert_eq!(event().inconsistency(Some(&[8; 32]), || false).unwrap().0, FindingKind::Altered);
        assert_eq!(event().inconsistency(None, || false).unwrap().0, FindingKind::Missing);
    }
}
