//! Members who have not signed in for a long time.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How exactly it is known when somebody signed in last: a sign-in within this time of the recorded one is not
/// recorded. In microseconds.
pub const RESOLUTION: i64 = 24 * 3_600 * 1_000_000;

/// When something of a member was that the time counts from, in microseconds since 1970 UTC.
#[derive(Debug, Clone, Copy)]
pub struct Activity {
    /// The sign-in that was recorded last; `None` if none was.
    pub signed_in_at: Option<i64>,
    /// When the membership was created, or reinstated.
    pub member_since: i64,
    /// Since when sign-ins are recorded.
    pub recorded_since: i64,
}

impl Activity {
    /// The moment that the time counts from.
    ///
    /// Who was not recorded may have signed in until sign-ins were recorded.
    pub fn since(&self) -> i64 {
        self.member_since.max(self.recorded_since).max(self.signed_in_at.unwrap_or(i64::MIN))
    }

    /// True once the member has not been active for the time `after`, in microseconds.
    pub fn is_dormant(&self, now: i64, after: i64) -> bool {
        now.saturating_sub(self.since()) >= after
    }

    /// True if a sign-in at `now` has to be recorded.
    pub fn is_outdated(&self, now: i64) -> bool {
        self.signed_in_at.is_none_or(|at| now.saturating_sub(at) >= RESOLUTION)
    }
}

/// A sign-in, on its way to where no rollback takes it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    /// The organization of the membership.
    pub organization: Uuid,
    /// Issuer of the member's token.
    pub issuer: String,
    /// Subject of the member's token.
    pub subject: String,
    /// When it was, in microseconds since 1970 UTC.
    pub signed_in_at: i64,
}

impl SignIn {
    /// Encodes the sign-in as one line of JSON. Nothing is cut: another subject would be another member.
    pub fn to_message(&self) -> String {
        // Texts and numbers only: nothing that JSON could not hold.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Decodes a message; `None` for bytes that are not such a message.
    pub fn from_message(message: &[u8]) -> Option<Self> {
        serde_json::from_slice(message).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::capture::{read::Read, refusal::Refusal, statement::Statements};

    const DAY: i64 = RESOLUTION;

    fn activity(signed_in_at: Option<i64>, member_since: i64, recorded_since: i64) -> Activity {
        Activity { signed_in_at, member_since, recorded_since }
    }

    #[test]
    fn the_time_counts_from_what_was_last() {
        for (found, since) in [
            (activity(None, 1, 2), 2),
            (activity(None, 3, 2), 3),
            (activity(Some(4), 3, 2), 4),
            (activity(Some(1), 2, 3), 3),
        ] {
            assert_eq!(found.since(), since, "{found:?}");
            assert!(found.is_dormant(since + 90 * DAY, 90 * DAY));
            assert!(!found.is_dormant(since + 90 * DAY - 1, 90 * DAY));
        }
        assert!(!activity(None, i64::MAX, i64::MIN).is_dormant(i64::MIN, DAY));
    }

    #[test]
    fn a_sign_in_is_recorded_once_a_day() {
        assert!(activity(None, 0, 0).is_outdated(1));
        assert!(!activity(Some(0), 0, 0).is_outdated(DAY - 1));
        assert!(activity(Some(0), 0, 0).is_outdated(DAY));
        // A clock that was set back.
        assert!(!activity(Some(DAY), 0, 0).is_outdated(0));
    }

    #[test]
    fn a_message_is_a_sign_in_and_nothing_else() {
        let sign_in = SignIn {
            organization: Uuid::from_u128(1),
            issuer: "https://a.example".into(),
            subject: "ann \"\n\u{1}".into(),
            signed_in_at: 7,
        };
        let message = sign_in.to_message();
        let bytes = message.as_bytes();
        assert_eq!(SignIn::from_message(bytes), Some(sign_in));
        assert!(Refusal::from_message(bytes).is_none() && Statements::from_message(bytes).is_none());
        assert!(Read::from_message(bytes).is_none() && SignIn::from_message(b"{}").is_none());
    }
}
