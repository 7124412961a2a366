//! A refusal, which is recorded although the transaction of the attempt rolls back.
//!
//! A refusal leaves its transaction as a message: through shared memory to the background worker, or as a line of the
//! server's log. Both are of bounded size, and neither contains a token.

use crate::audit::format::event::Actor;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use uuid::Uuid;

/// The most bytes of each text in JSON; an attacker chooses some of the texts.
const TEXT_BYTES: usize = 200;

/// The most bytes of a message.
///
/// A refusal has fourteen texts and a read fifteen, each with at most 200 bytes in JSON, where a control character
/// takes six.
pub const MESSAGE_BYTES: usize = 4096;

/// A refused operation with its actor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal<'a> {
    /// Time of the refusal, in microseconds since 1970 UTC.
    pub occurred_at: i64,
    /// The organization of the context; absent if no identity was admitted.
    pub organization: Option<Uuid>,
    /// The operation of the event, such as `authenticate` or `authorize`.
    #[serde(borrow)]
    pub operation: Cow<'a, str>,
    /// The permission domain of the event.
    #[serde(borrow)]
    pub domain: Cow<'a, str>,
    /// The name of the error and its message.
    #[serde(borrow)]
    pub reason: Cow<'a, str>,
    /// The actor whose operation was refused.
    pub actor: Actor,
}

impl Refusal<'_> {
    /// Encodes the refusal as one line of JSON, with texts cut to their maximum length.
    pub fn to_message(&self) -> String {
        let mut short = self.clone();
        for text in [&mut short.operation, &mut short.domain, &mut short.reason] {
            shorten(text.to_mut());
        }
        shorten_actor(&mut short.actor);
        // Texts and numbers only: nothing that JSON could not hold.
        serde_json::to_string(&short).unwrap_or_default()
    }

    /// Decodes a message; `None` for bytes that are not such a message.
    pub fn from_message(message: &[u8]) -> Option<Refusal<'static>> {
        let read: Refusal = serde_json::from_slice(message).ok()?;
        let owned = |text: Cow<str>| Cow::Owned(text.into_owned());
        Some(Refusal {
            operation: owned(read.operation),
            domain: owned(read.domain),
            reason: owned(read.reason),
            occurred_at: read.occurred_at,
            organization: read.organization,
            actor: read.actor,
        })
    }
}

/// Cuts the texts of the actor to their maximum length.
pub(super) fn shorten_actor(actor: &mut Actor) {
    actor.texts().for_each(shorten);
}

/// Cuts the text to [`TEXT_BYTES`], counted as JSON with its escapes.
pub(super) fn shorten(text: &mut String) {
    shorten_to(text, TEXT_BYTES);
}

/// Cuts the text to so many bytes, counted as JSON with its escapes. Returns whether something was cut off.
pub fn shorten_to(text: &mut String, most: usize) -> bool {
    let mut bytes = 0;
    let end = text.char_indices().find_map(|(place, character)| {
        bytes +=
            if character.is_control() { 6 } else { character.len_utf8() + usize::from("\"\\".contains(character)) };
        (bytes > most).then_some(place)
    });
    if let Some(end) = end {
        text.truncate(end);
    }
    end.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::format::event::actor_of;

    fn refusal(text: &str) -> Refusal<'_> {
        Refusal {
            occurred_at: i64::MIN,
            organization: Some(Uuid::max()),
            operation: text.into(),
            domain: text.into(),
            reason: text.into(),
            actor: actor_of(text),
        }
    }

    #[test]
    fn a_message_has_what_was_refused() {
        for text in ["", "alice", "\"\\\u{1}\u{7f}\u{2028}é"] {
            let sent = refusal(text);
            assert_eq!(Refusal::from_message(sent.to_message().as_bytes()), Some(sent));
        }
        assert_eq!(Refusal::from_message(b"{}"), None);
    }

    #[test]
    fn no_text_is_too_long_for_a_message() {
        for text in ["a", "\u{1}", "\"", "\u{10ffff}", "\u{85}"] {
            let message = refusal(&text.repeat(100_000)).to_message();
            assert!(message.len() <= MESSAGE_BYTES, "{} bytes", message.len());
            assert!(Refusal::from_message(message.as_bytes()).is_some());
        }
    }
}
