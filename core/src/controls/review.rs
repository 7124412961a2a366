//! Reviews: others look at what there is, item by item, and what they decide is done at the close.
//!
//! A decision is about a state that somebody saw. States are compared by their digests; how a state becomes a digest is
//! not known here. Times are microseconds, and arguments.

use super::approval::Person;
use super::exception::OnNoReview;
use crate::guardrail;

/// The most items of a review.
pub const MAX_ITEMS: i64 = 1_000_000;

/// The digest of a state, a SHA-256.
pub type Digest = [u8; 32];

/// What a review is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Exceptions in force.
    Exceptions,
    /// Members with their roles.
    Memberships,
    /// The organization's own roles with their permissions.
    Roles,
    /// Credentials that may write or that are valid until somebody changes them.
    Secrets,
    /// Grants of break-glass that were used.
    BreakGlass,
    /// Approvals of action types in force.
    ActionTypes,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 6] =
        [Kind::Exceptions, Kind::Memberships, Kind::Roles, Kind::Secrets, Kind::BreakGlass, Kind::ActionTypes];

    /// The word that is stored.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Exceptions => "exceptions",
            Kind::Memberships => "memberships",
            Kind::Roles => "roles",
            Kind::Secrets => "secrets",
            Kind::BreakGlass => "break_glass",
            Kind::ActionTypes => "action_types",
        }
    }

    /// The kind that a word names; `None` for any other text.
    pub fn parse(name: &str) -> Option<Self> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The members of a snapshot, by which a review can be narrowed.
    pub fn members(self) -> &'static [&'static str] {
        match self {
            Kind::Exceptions => &["kind", "target", "owner_issuer", "owner_subject", "ticket"],
            Kind::Memberships => &["issuer", "subject", "role", "status", "privileged"],
            Kind::Roles => &["name"],
            Kind::Secrets => &["name", "kind", "scope", "domain", "owner_issuer", "owner_subject", "long_lived"],
            Kind::BreakGlass => &["beneficiary_issuer", "beneficiary_subject", "state", "ticket"],
            Kind::ActionTypes => &["action_type"],
        }
    }

    /// Whether an item of the kind can be changed, and not only kept or revoked.
    pub fn has_changes(self) -> bool {
        !matches!(self, Kind::BreakGlass | Kind::ActionTypes)
    }
}

/// Where a review stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Its items are decided about.
    Open,
    /// What was decided is done.
    Closed,
    /// It was given up, and nothing of it is done.
    Cancelled,
}

impl State {
    /// Every state.
    pub const ALL: [State; 3] = [State::Open, State::Closed, State::Cancelled];

    /// The word that is stored.
    pub fn name(self) -> &'static str {
        match self {
            State::Open => "open",
            State::Closed => "closed",
            State::Cancelled => "cancelled",
        }
    }

    /// The state that a stored word names; `None` for any other text.
    pub fn parse(name: &str) -> Option<Self> {
        State::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// What a reviewer wants of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It stays as it is.
    Keep,
    /// It stays, in another way.
    Change,
    /// It ends.
    Revoke,
}

impl Decision {
    /// Every decision.
    pub const ALL: [Decision; 3] = [Decision::Keep, Decision::Change, Decision::Revoke];

    /// The word that is stored.
    pub fn name(self) -> &'static str {
        match self {
            Decision::Keep => "keep",
            Decision::Change => "change",
            Decision::Revoke => "revoke",
        }
    }

    /// The decision that a word names; `None` for any other text.
    pub fn parse(name: &str) -> Option<Self> {
        Decision::ALL.into_iter().find(|decision| decision.name() == name)
    }
}

/// What became of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was kept.
    Kept,
    /// It was changed or revoked.
    Applied,
    /// It should be changed or revoked, and a rule forbids it.
    Failed,
    /// It is not as the reviewer saw it, so nothing was done.
    Stale,
    /// It is not there any more.
    Gone,
    /// Nobody decided, and so it has ended.
    Lapsed,
    /// Nobody decided, and it is as before.
    Undecided,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Outcome; 7] = [
        Outcome::Kept,
        Outcome::Applied,
        Outcome::Failed,
        Outcome::Stale,
        Outcome::Gone,
        Outcome::Lapsed,
        Outcome::Undecided,
    ];

    /// The word that is stored.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Kept => "kept",
            Outcome::Applied => "applied",
            Outcome::Failed => "failed",
            Outcome::Stale => "stale",
            Outcome::Gone => "gone",
            Outcome::Lapsed => "lapsed",
            Outcome::Undecided => "undecided",
        }
    }

    /// The outcome that a stored word names; `None` for any other text.
    pub fn parse(name: &str) -> Option<Self> {
        Outcome::ALL.into_iter().find(|outcome| outcome.name() == name)
    }

    /// Whether somebody should look at it after the close.
    pub fn is_finding(self) -> bool {
        matches!(self, Outcome::Failed | Outcome::Stale | Outcome::Undecided)
    }
}

/// Who may decide about an item, as far as the review says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assignee {
    /// Everybody with the permission: the review names no reviewers.
    Anybody,
    /// One reviewer.
    Person(Person),
    /// Nobody yet: the review names reviewers, and none of them may.
    Nobody,
}

/// One item, from the opening to the close.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The state that was seen last.
    pub seen: Digest,
    /// Whom it is about: they do not decide.
    pub about: Vec<Person>,
    /// Who decides.
    pub assignee: Assignee,
    /// What was decided, and by whom.
    pub decided: Option<(Decision, Person)>,
    /// What became of it; `None` until the close, or until it is applied before.
    pub outcome: Option<Outcome>,
}

/// Why a call changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The review is not open.
    State(State),
    /// Not everything is decided, and there is time left.
    TooEarly,
    /// The item is about whoever decides.
    Own,
    /// Somebody else decides about it, or nobody yet.
    NotAssigned,
    /// It is not as it was seen.
    Stale,
    /// The client showed another state than the one that was seen.
    ShownOtherwise,
    /// What was decided is done already.
    Applied,
    /// The kind has no changes.
    NoChange,
}

/// What a close does with an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// Nothing: this is its outcome.
    Done(Outcome),
    /// It is changed or revoked.
    Apply(Decision),
    /// It ends, because nobody decided.
    Lapse,
}

impl Item {
    /// Somebody decides. `now` is the state as it is, `None` if there is none any more; `shown` the one that the client
    /// has shown, if it says so.
    ///
    /// Errors: nothing has changed then.
    pub fn decide(
        &mut self,
        decision: Decision,
        by: &Person,
        kind: Kind,
        shown: Option<Digest>,
        now: Option<Digest>,
    ) -> Result<(), Refusal> {
        self.may_decide(by)?;
        if decision == Decision::Change && !kind.has_changes() {
            return Err(Refusal::NoChange);
        }
        if shown.is_some_and(|shown| shown != self.seen) {
            return Err(Refusal::ShownOtherwise);
        }
        if now != Some(self.seen) {
            return Err(Refusal::Stale);
        }
        self.decided = Some((decision, by.clone()));
        Ok(())
    }

    /// Somebody takes the state as it is for the one that is decided about; returns whether that is another one. What
    /// was decided is to be decided anew then.
    ///
    /// Errors: nothing has changed then.
    pub fn refresh(&mut self, by: &Person, now: Digest) -> Result<bool, Refusal> {
        self.may_decide(by)?;
        if now == self.seen {
            return Ok(false);
        }
        (self.seen, self.decided) = (now, None);
        Ok(true)
    }

    /// Somebody is to decide.
    ///
    /// Errors: nothing has changed then.
    pub fn assign(&mut self, to: &Person) -> Result<(), Refusal> {
        if self.outcome.is_some() {
            return Err(Refusal::Applied);
        }
        if self.about.contains(to) {
            return Err(Refusal::Own);
        }
        self.assignee = Assignee::Person(to.clone());
        Ok(())
    }

    fn may_decide(&self, by: &Person) -> Result<(), Refusal> {
        if self.outcome.is_some() {
            return Err(Refusal::Applied);
        }
        if self.about.contains(by) {
            return Err(Refusal::Own);
        }
        match &self.assignee {
            Assignee::Anybody => Ok(()),
            Assignee::Person(assignee) if assignee == by => Ok(()),
            _ => Err(Refusal::NotAssigned),
        }
    }

    /// What the close does, with the state as it is and the rule for what nobody decided.
    pub fn close(&self, now: Option<Digest>, on_no_review: OnNoReview) -> Closing {
        match (self.outcome, &self.decided) {
            (Some(outcome), _) => Closing::Done(outcome),
            (None, _) if now.is_none() => Closing::Done(Outcome::Gone),
            (None, None) if on_no_review == OnNoReview::Lapse => Closing::Lapse,
            (None, None) => Closing::Done(Outcome::Undecided),
            (None, Some(_)) if now != Some(self.seen) => Closing::Done(Outcome::Stale),
            (None, Some((Decision::Keep, _))) => Closing::Done(Outcome::Kept),
            (None, Some((decision, _))) => Closing::Apply(*decision),
        }
    }
}

/// Whether a review can be closed: it is open, and all is decided or its time is over.
pub fn may_close(state: State, undecided: i64, due_at: i64, now: i64) -> Result<(), Refusal> {
    match state {
        State::Open if undecided > 0 && now < due_at => Err(Refusal::TooEarly),
        State::Open => Ok(()),
        other => Err(Refusal::State(other)),
    }
}

/// What becomes of an exception that nobody decided about: as its kind says, or as the guardrail does.
pub fn undecided(of_kind: OnNoReview, unreviewed_exception: guardrail::State) -> OnNoReview {
    if unreviewed_exception == guardrail::State::Enforce { OnNoReview::Lapse } else { of_kind }
}

/// The times at which a schedule opens reviews: the first one after now, counted from one that has come.
pub fn next_after(due: i64, every: i64, now: i64) -> i64 {
    let passed = now.saturating_sub(due).div_euclid(every.max(1));
    due.saturating_add(every.saturating_mul(passed.saturating_add(1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn person(number: u8) -> Person {
        Person { issuer: "https://idp".into(), subject: format!("p{number}") }
    }

    fn digest(state: u8) -> Digest {
        [state; 32]
    }

    #[derive(Debug, Clone)]
    enum Call {
        Decide {
            by: u8,
            decision: Decision,
            shown: Option<u8>,
        },
        Refresh {
            by: u8,
        },
        Assign {
            to: u8,
        },
        /// What the item is about changes, or goes.
        Happens(Option<u8>),
    }

    fn call() -> impl Strategy<Value = Call> {
        let decision = prop::sample::select(Decision::ALL.to_vec());
        prop_oneof![
            (0..4u8, decision, prop::option::of(0..3u8)).prop_map(|(by, decision, shown)| Call::Decide {
                by,
                decision,
                shown
            }),
            (0..4u8).prop_map(|by| Call::Refresh { by }),
            (0..4u8).prop_map(|to| Call::Assign { to }),
            prop::option::of(0..3u8).prop_map(Call::Happens),
        ]
    }

    fn item(assignee: Assignee) -> Item {
        Item { seen: digest(0), about: vec![person(0)], assignee, decided: None, outcome: None }
    }

    proptest! {
        #[test]
        fn what_is_done_was_decided_by_somebody_else_about_the_state_that_is(
            assignee in prop_oneof![
                Just(Assignee::Anybody), Just(Assignee::Nobody), (1..4u8).prop_map(|p| Assignee::Person(person(p)))],
            calls in prop::collection::vec(call(), 0..30),
            kind in prop::sample::select(Kind::ALL.to_vec()),
            rule in prop::sample::select(OnNoReview::ALL.to_vec()),
        ) {
            let mut item = item(assignee);
            let mut now = Some(digest(0));
            // The state at the last decision that was taken, and who took it.
            let mut last: Option<(Option<Digest>, Person)> = None;
            for call in calls {
                let before = item.clone();
                match call {
                    Call::Happens(state) => now = state.map(digest),
                    Call::Assign { to } => {
                        let refused = item.assign(&person(to)).is_err();
                        prop_assert_eq!(refused, to == 0);
                    }
                    Call::Refresh { by } => {
                        let Some(state) = now else { continue };
                        match item.refresh(&person(by), state) {
                            Ok(true) => { last = None; prop_assert_eq!(item.decided.clone(), None); }
                            _ => prop_assert_eq!(&item, &before),
                        }
                    }
                    Call::Decide { by, decision, shown } => {
                        let by = person(by);
                        match item.decide(decision, &by, kind, shown.map(digest), now) {
                            Ok(()) => {
                                prop_assert!(by != person(0));
                                let is_asked = match &before.assignee {
                                    Assignee::Anybody => true,
                                    Assignee::Person(assignee) => *assignee == by,
                                    Assignee::Nobody => false,
                                };
                                prop_assert!(is_asked);
                                prop_assert!(shown.is_none_or(|shown| Some(digest(shown)) == now));
                                prop_assert!(decision != Decision::Change || kind.has_changes());
                                last = Some((now, by));
                            }
                            Err(_) => prop_assert_eq!(&item, &before),
                        }
                    }
                }
            }
            match (item.close(now, rule), last) {
                (Closing::Apply(decision), Some((seen, by))) => {
                    prop_assert_eq!(seen, now);
                    prop_assert!(decision != Decision::Keep && by != person(0));
                }
                (Closing::Done(Outcome::Kept), Some((seen, _))) => prop_assert_eq!(seen, now),
                (Closing::Done(Outcome::Stale), Some((seen, _))) => prop_assert!(seen != now && now.is_some()),
                (Closing::Done(Outcome::Gone), _) => prop_assert_eq!(now, None),
                (Closing::Lapse, None) => prop_assert_eq!(rule, OnNoReview::Lapse),
                (Closing::Done(Outcome::Undecided), None) => prop_assert!(rule != OnNoReview::Lapse),
                other => prop_assert!(false, "{other:?}"),
            }
        }

        #[test]
        fn a_schedule_goes_on_at_its_own_times(due in -1000..1000i64, every in 1..500i64, now in -1000..5000i64) {
            let next = next_after(due, every, now);
            if now >= due {
                prop_assert!(next > now && next - every <= now);
            }
            prop_assert_eq!((next - due).rem_euclid(every), 0);
        }
    }

    #[test]
    fn what_was_applied_is_not_decided_again() {
        let mut item = item(Assignee::Anybody);
        item.outcome = Some(Outcome::Applied);
        let decided = item.decide(Decision::Keep, &person(1), Kind::Roles, None, Some(digest(0)));
        assert_eq!(decided, Err(Refusal::Applied));
        assert_eq!(item.refresh(&person(1), digest(1)), Err(Refusal::Applied));
        assert_eq!(item.assign(&person(1)), Err(Refusal::Applied));
        assert_eq!(item.close(None, OnNoReview::Lapse), Closing::Done(Outcome::Applied));
    }

    #[test]
    fn a_review_is_closed_once_when_all_is_decided_or_its_time_is_over() {
        assert_eq!(may_close(State::Open, 1, 10, 9), Err(Refusal::TooEarly));
        assert_eq!(may_close(State::Open, 0, 10, 9), Ok(()));
        assert_eq!(may_close(State::Open, 1, 10, 10), Ok(()));
        assert_eq!(may_close(State::Closed, 0, 10, 10), Err(Refusal::State(State::Closed)));
        assert_eq!(may_close(State::Cancelled, 0, 10, 10), Err(Refusal::State(State::Cancelled)));
    }

    #[test]
    fn words_are_read_as_they_are_written() {
        assert!(Kind::ALL.into_iter().all(|kind| Kind::parse(kind.name()) == Some(kind)));
        assert!(State::ALL.into_iter().all(|state| State::parse(state.name()) == Some(state)));
        assert!(Decision::ALL.into_iter().all(|decision| Decision::parse(decision.name()) == Some(decision)));
        assert!(Outcome::ALL.into_iter().all(|outcome| Outcome::parse(outcome.name()) == Some(outcome)));
        assert_eq!(Kind::parse("exception"), None);
    }
}
