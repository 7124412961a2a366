//! What is recorded of a reveal before its value leaves, and the event that the record becomes.

use crate::audit::capture::refusal::shorten_to;
use crate::audit::format::event::Actor;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

/// The most bytes of each text in JSON. A purpose has 500 bytes, and a control character takes six in JSON.
const TEXT_BYTES: usize = 3000;

/// The most bytes of a record: 19 texts, each with the mark of one that was cut, and names and numbers.
pub const RECORD_BYTES: usize = 60_000;

/// What ends a text that was cut, so that it is not taken for another one.
const CUT: &str = "\u{2026}";

/// The moments that a record can be of, in microseconds since 1970: the years from 2000 to 2199.
const MOMENTS: std::ops::Range<i64> = 946_684_800_000_000..7_258_118_400_000_000;

/// The outcome of a reveal, as events name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The value leaves.
    Success,
    /// The caller does not get it.
    Denied,
    /// It could not be read: a key is missing, or it was altered.
    Failed,
}

impl Outcome {
    /// The outcome for an error with this SQLSTATE.
    pub fn of_sqlstate(sqlstate: &str) -> Self {
        // Configuration files and corrupted data: nobody was refused.
        if sqlstate.starts_with("F0") || sqlstate.starts_with("XX") { Outcome::Failed } else { Outcome::Denied }
    }

    /// The name in `tenancy.audit_trail`.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Success => "success",
            Outcome::Denied => "denied",
            Outcome::Failed => "failed",
        }
    }
}

/// A reveal of a secret, or one that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevealRecord {
    /// Time of the reveal, in microseconds since 1970 UTC.
    pub occurred_at: i64,
    /// The organization whose chain the event joins.
    pub organization: Uuid,
    /// Id of the secret; absent if the name is unknown.
    pub secret: Option<Uuid>,
    /// The name that was asked for.
    pub name: String,
    /// Number of the version; absent if none was found.
    pub version: Option<i32>,
    /// Scope of the secret; absent if it is unknown.
    pub scope: Option<String>,
    /// What the value is for, as the caller says.
    pub purpose: String,
    /// The action type that was named.
    pub action_type: Option<String>,
    /// Id of the approval that the action type has.
    pub approval: Option<Uuid>,
    /// Fingerprint of the recipient's public key, if the value leaves sealed.
    pub recipient: Option<String>,
    /// What became of it.
    pub outcome: Outcome,
    /// Name of the error, unless it succeeded.
    pub error: Option<String>,
    /// Who asked.
    pub actor: Actor,
}

impl RevealRecord {
    /// Encodes the record as JSON of at most [`RECORD_BYTES`], with texts cut to their maximum length.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut short = self.clone();
        short.texts().for_each(|text| {
            if shorten_to(text, TEXT_BYTES) {
                text.push_str(CUT);
            }
        });
        // Texts and numbers only: nothing that JSON could not hold.
        serde_json::to_vec(&short).unwrap_or_default()
    }

    /// Decodes a record; `None` for bytes that no event can be made of.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut record: RevealRecord = serde_json::from_slice(bytes).ok()?;
        // Postgres stores no text with a byte of zero, and no event of another age has a partition.
        let storable = record.texts().all(|text| !text.contains('\0'));
        (storable && MOMENTS.contains(&record.occurred_at)).then_some(record)
    }

    /// The payload of the event.
    pub fn payload(&self) -> String {
        let new = json!({
            "secret": self.secret,
            "name": self.name,
            "version": self.version,
            "scope": self.scope,
            "purpose": self.purpose,
            "action_type": self.action_type,
            "approval": self.approval,
            "recipient": self.recipient,
        });
        json!({ "new": new }).to_string()
    }

    /// The version whose value left; `None` if none did.
    pub fn used(&self) -> Option<(Uuid, i32)> {
        Some((self.secret?, self.version?)).filter(|_| self.outcome == Outcome::Success)
    }

    fn texts(&mut self) -> impl Iterator<Item = &mut String> {
        let optional = [&mut self.scope, &mut self.action_type, &mut self.recipient, &mut self.error];
        let texts = [&mut self.name, &mut self.purpose];
        texts.into_iter().chain(optional.into_iter().flatten()).chain(self.actor.texts())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::format::event::actor_of;

    fn record(text: &str) -> RevealRecord {
        let some = || Some(text.to_owned());
        RevealRecord {
            occurred_at: 1_700_000_000_000_000,
            organization: Uuid::max(),
            secret: Some(Uuid::max()),
            name: text.into(),
            version: Some(i32::MIN),
            scope: some(),
            purpose: text.into(),
            action_type: some(),
            approval: Some(Uuid::max()),
            recipient: some(),
            outcome: Outcome::Success,
            error: some(),
            actor: actor_of(text),
        }
    }

    #[test]
    fn a_record_has_what_was_revealed() {
        for text in ["", "alice", "\"\\\u{1}\u{7f}\u{2028}é'; DROP TABLE tenancy.event_batch; --"] {
            let kept = record(text);
            assert_eq!(RevealRecord::from_bytes(&kept.to_bytes()), Some(kept.clone()));
            let payload: serde_json::Value = serde_json::from_str(&kept.payload()).unwrap();
            assert_eq!(payload["new"]["purpose"], text);
        }
        let long = record(&"p".repeat(500));
        assert_eq!(RevealRecord::from_bytes(&long.to_bytes()), Some(long));
        let unknown = RevealRecord {
            secret: None,
            version: None,
            scope: None,
            outcome: Outcome::Denied,
            error: Some("secret_unknown".into()),
            ..record("x")
        };
        assert_eq!(RevealRecord::from_bytes(&unknown.to_bytes()), Some(unknown.clone()));
        assert_eq!((unknown.used(), record("x").used()), (None, Some((Uuid::max(), i32::MIN))));
    }

    #[test]
    fn no_text_is_too_long_for_a_record_and_one_that_was_cut_shows_it() {
        for text in ["a", "\u{1}", "\"", "\u{10ffff}", "\u{85}"] {
            let bytes = record(&text.repeat(100_000)).to_bytes();
            assert!(bytes.len() <= RECORD_BYTES, "{} bytes", bytes.len());
            let read = RevealRecord::from_bytes(&bytes).unwrap();
            assert!(read.actor.subject.unwrap().ends_with(CUT) && read.purpose.ends_with(CUT));
        }
    }

    #[test]
    fn what_no_event_can_be_made_of_is_no_record() {
        let whole = record("x").to_bytes();
        for end in 0..whole.len() {
            assert_eq!(RevealRecord::from_bytes(&whole[..end]), None, "cut to {end} bytes");
        }
        let more = [&whole[..whole.len() - 1], br#","later":1}"#].concat();
        for bytes in [&b"{}"[..], b"\xff", &more, &record("a\0b").to_bytes()] {
            assert_eq!(RevealRecord::from_bytes(bytes), None);
        }
        for occurred_at in [i64::MIN, 0, MOMENTS.end, i64::MAX] {
            let other = RevealRecord { occurred_at, ..record("x") };
            assert_eq!(RevealRecord::from_bytes(&other.to_bytes()), None, "{occurred_at}");
        }
    }

    #[test]
    fn an_error_of_keys_or_data_is_no_refusal() {
        for (sqlstate, outcome) in [("42501", "denied"), ("42704", "denied"), ("F0000", "failed"), ("XX001", "failed")]
        {
            assert_eq!(Outcome::of_sqlstate(sqlstate).name(), outcome);
        }
    }
}
