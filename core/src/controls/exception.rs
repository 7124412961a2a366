//! Exceptions: what is let pass for a time, for a reason, after others have approved it.
//!
//! Times and durations are microseconds, and arguments. Time decides: what has ended has ended, whether or not its
//! stored state says so yet.

use super::approval::{Approvers, Objection, Person};
use crate::error::{self, Result};

/// The target that stands for every target of the kind.
pub const EVERY_TARGET: &str = "*";

/// The longest reason, in bytes.
pub const MAX_REASON_BYTES: usize = 2000;

/// The longest target, in bytes.
pub const MAX_TARGET_BYTES: usize = 500;

/// The most that a kind can ask for as `min_reason`, in characters.
pub const MAX_MIN_REASON: usize = 500;

/// The most approvals that a kind can ask for. A target of [`EVERY_TARGET`] needs one more.
pub const MAX_APPROVALS: usize = 2;

const DAY: i64 = 24 * 60 * 60 * 1_000_000;

/// The most that a kind can allow as `max_duration`.
pub const MAX_DURATION: i64 = 3660 * DAY;

/// What becomes of an exception that a review leaves undecided, the mildest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OnNoReview {
    /// It stays until its end.
    Keep,
    /// It stays, and is a finding.
    Escalate,
    /// It ends.
    Lapse,
}

impl OnNoReview {
    /// Every rule.
    pub const ALL: [OnNoReview; 3] = [OnNoReview::Keep, OnNoReview::Escalate, OnNoReview::Lapse];

    /// The word that is stored.
    pub fn name(self) -> &'static str {
        match self {
            OnNoReview::Keep => "keep",
            OnNoReview::Escalate => "escalate",
            OnNoReview::Lapse => "lapse",
        }
    }

    /// The rule that a word names; `None` for any other text.
    pub fn parse(name: &str) -> Option<Self> {
        OnNoReview::ALL.into_iter().find(|rule| rule.name() == name)
    }
}

/// The settings of a kind of exceptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Characters that a reason has at least.
    pub min_reason: usize,
    /// How far away the end of an exception may be.
    pub max_duration: i64,
    /// How many must approve.
    pub approvals: usize,
    /// Whether an exception for [`EVERY_TARGET`] is allowed.
    pub broad: bool,
    /// How long before its end an alert tells of it.
    pub notice: i64,
    /// What becomes of one that a review leaves undecided.
    pub on_no_review: OnNoReview,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            min_reason: 20,
            max_duration: 90 * DAY,
            approvals: 1,
            broad: false,
            notice: 14 * DAY,
            on_no_review: OnNoReview::Lapse,
        }
    }
}

impl Settings {
    /// Says which setting is out of its range.
    pub fn check(&self) -> Result<()> {
        let refuse = |rule: String| Err(error::ARGUMENT_INVALID.error(rule));
        if !(1..=MAX_MIN_REASON).contains(&self.min_reason) {
            return refuse(format!("min_reason is 1 to {MAX_MIN_REASON} characters"));
        }
        if !(1..=MAX_DURATION).contains(&self.max_duration) {
            return refuse(format!("max_duration is more than 0 and at most {} days", MAX_DURATION / DAY));
        }
        if self.approvals > MAX_APPROVALS {
            return refuse(format!("approvals is 0 to {MAX_APPROVALS}"));
        }
        if !(0..=MAX_DURATION).contains(&self.notice) {
            return refuse(format!("notice is 0 to {} days", MAX_DURATION / DAY));
        }
        Ok(())
    }

    /// The first setting that is looser than in `other`. A notice is neither looser nor stricter.
    pub fn looser_than(&self, other: &Settings) -> Option<&'static str> {
        let looser = [
            ("min_reason", self.min_reason < other.min_reason),
            ("max_duration", self.max_duration > other.max_duration),
            ("approvals", self.approvals < other.approvals),
            ("broad", self.broad && !other.broad),
            ("on_no_review", self.on_no_review < other.on_no_review),
        ];
        looser.into_iter().find(|(_, is_looser)| *is_looser).map(|(name, _)| name)
    }

    /// What counts of the settings for all organizations and those of one: each the stricter.
    pub fn stricter(&self, other: &Settings) -> Settings {
        Settings {
            min_reason: self.min_reason.max(other.min_reason),
            max_duration: self.max_duration.min(other.max_duration),
            approvals: self.approvals.max(other.approvals),
            broad: self.broad && other.broad,
            notice: self.notice.max(other.notice),
            on_no_review: self.on_no_review.max(other.on_no_review),
        }
    }

    /// How many must approve an exception.
    pub fn approvals_for(&self, broad: bool) -> usize {
        self.approvals + usize::from(broad)
    }

    /// Until when an exception is in force that became active at `active_from`. What its kind allows now bounds it,
    /// also where the kind allowed more when it was approved.
    pub fn end_of(&self, active_from: i64, expires_at: i64, broad: bool) -> i64 {
        if broad && !self.broad { active_from } else { expires_at.min(active_from.saturating_add(self.max_duration)) }
    }
}

/// Refuses a reason that says nothing: too short, or no more than the kind and the target.
pub fn check_reason(reason: &str, min_characters: usize, kind: &str, target: &str) -> Result<()> {
    let refuse = |rule: String| Err(error::ARGUMENT_INVALID.error(rule));
    let trimmed = reason.trim();
    if trimmed.is_empty() || reason.len() > MAX_REASON_BYTES || reason.chars().any(char::is_control) {
        let rule = format!("the reason is blank, longer than {MAX_REASON_BYTES} bytes, or has control characters");
        return refuse(rule);
    }
    if trimmed.chars().count() < min_characters {
        return refuse(format!("the reason has at least {min_characters} characters"));
    }
    let mut said = trimmed.to_lowercase();
    for repeated in [target, kind].map(str::to_lowercase) {
        said = said.replace(&repeated, " ");
    }
    if !said.chars().any(char::is_alphanumeric) {
        return refuse("the reason says no more than the kind and the target".to_owned());
    }
    Ok(())
}

/// Refuses a target that is empty, too long, or not shown as it is.
pub fn check_target(target: &str) -> Result<()> {
    if target.trim().is_empty() || target.len() > MAX_TARGET_BYTES || target.chars().any(char::is_control) {
        let rule = format!("the target is blank, longer than {MAX_TARGET_BYTES} bytes, or has control characters");
        return Err(error::ARGUMENT_INVALID.error(rule));
    }
    Ok(())
}

/// Where an exception stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nobody, or not everybody needed, has approved it.
    Requested,
    /// It is in force until its end.
    Active,
    /// Somebody has denied it.
    Denied,
    /// It was taken back before it was approved.
    Cancelled,
    /// Another one took its place.
    Superseded,
    /// It was taken back after it was approved.
    Revoked,
    /// Its time is over, or nobody decided in time.
    Expired,
    /// A review left it undecided.
    Lapsed,
}

impl State {
    /// Every state.
    pub const ALL: [State; 8] = [
        State::Requested,
        State::Active,
        State::Denied,
        State::Cancelled,
        State::Superseded,
        State::Revoked,
        State::Expired,
        State::Lapsed,
    ];

    /// The word that is stored.
    pub fn name(self) -> &'static str {
        match self {
            State::Requested => "requested",
            State::Active => "active",
            State::Denied => "denied",
            State::Cancelled => "cancelled",
            State::Superseded => "superseded",
            State::Revoked => "revoked",
            State::Expired => "expired",
            State::Lapsed => "lapsed",
        }
    }

    /// The state that a stored word names; `None` for any other text.
    pub fn parse(name: &str) -> Option<Self> {
        State::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// How somebody ends an exception, or a request for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// An approver denies the request.
    Denied,
    /// The request is taken back.
    Cancelled,
    /// An active exception is taken back.
    Revoked,
    /// A review left an active exception undecided.
    Lapsed,
}

impl End {
    /// The state that it begins in, and the one that it leads to.
    fn states(self) -> (State, State) {
        match self {
            End::Denied => (State::Requested, State::Denied),
            End::Cancelled => (State::Requested, State::Cancelled),
            End::Revoked => (State::Active, State::Revoked),
            End::Lapsed => (State::Active, State::Lapsed),
        }
    }
}

/// An exception, from its request on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception {
    /// The state as it is stored. [`Exception::state_at`] has the one that counts.
    pub state: State,
    /// Who must approve, and who has. Requester and owner are interested.
    pub approvers: Approvers,
    /// Whether it is for [`EVERY_TARGET`].
    pub broad: bool,
    /// When it is to end.
    pub expires_at: i64,
    /// When it came into force; `None` until it is approved.
    pub active_from: Option<i64>,
}

/// Why a call changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The exception is in another state than the call needs.
    State(State),
    /// The exception that it would take the place of was ended.
    Replaced(State),
    /// This person's approval does not count.
    Approver(Objection),
    /// The kind has no exceptions for every target.
    Broad,
    /// The end is not in the future.
    Past,
    /// The end is further away than the kind allows.
    TooLong,
}

impl Exception {
    /// Somebody asks for an exception. It is active at once where nobody must approve it, and then takes the place of
    /// the one that it replaces.
    pub fn request(
        people: [Person; 2],
        broad: bool,
        expires_at: i64,
        replaced: Option<&mut Exception>,
        settings: &Settings,
        now: i64,
    ) -> std::result::Result<Self, Refusal> {
        let needed = settings.approvals_for(broad);
        let approvers = Approvers { interested: people.into(), approved_by: Vec::new(), needed };
        let mut made = Exception { state: State::Requested, approvers, broad, expires_at, active_from: None };
        made.check_bounds(settings, now)?;
        if made.approvers.suffice() {
            made.activate(replaced, settings, now)?;
        }
        Ok(made)
    }

    /// Until when it is in force; `None` before it is approved.
    pub fn ends_at(&self, settings: &Settings) -> Option<i64> {
        self.active_from.map(|from| settings.end_of(from, self.expires_at, self.broad))
    }

    /// The state at a time: it is expired once its time is over.
    pub fn state_at(&self, settings: &Settings, now: i64) -> State {
        let over = match self.state {
            State::Requested => now >= self.expires_at,
            State::Active => self.ends_at(settings).is_none_or(|end| now >= end),
            _ => false,
        };
        if over { State::Expired } else { self.state }
    }

    /// Somebody approves. `own` says whether an interested person may do that. With the last approval that is needed,
    /// it takes the place of the one that it replaces.
    ///
    /// Errors: nothing has changed then.
    pub fn approve(
        &mut self,
        by: &Person,
        own: bool,
        replaced: Option<&mut Exception>,
        settings: &Settings,
        now: i64,
    ) -> std::result::Result<(), Refusal> {
        self.must_be(State::Requested, settings, now)?;
        self.check_bounds(settings, now)?;
        let mut approved = self.clone();
        // A kind that has become stricter since needs what it needs now.
        approved.approvers.needed = self.approvers.needed.max(settings.approvals_for(self.broad));
        approved.approvers.approve(by, own).map_err(Refusal::Approver)?;
        if approved.approvers.suffice() {
            approved.activate(replaced, settings, now)?;
        }
        *self = approved;
        Ok(())
    }

    /// Somebody ends it.
    ///
    /// Errors: nothing has changed then.
    pub fn end(&mut self, how: End, settings: &Settings, now: i64) -> std::result::Result<(), Refusal> {
        let (from, to) = how.states();
        self.must_be(from, settings, now)?;
        self.state = to;
        Ok(())
    }

    /// Stores that its time is over. False if there is nothing to store.
    pub fn settle(&mut self, settings: &Settings, now: i64) -> bool {
        let state = self.state_at(settings, now);
        let changed = state != self.state;
        self.state = state;
        changed
    }

    fn activate(
        &mut self,
        replaced: Option<&mut Exception>,
        settings: &Settings,
        now: i64,
    ) -> std::result::Result<(), Refusal> {
        if let Some(replaced) = replaced {
            match replaced.state_at(settings, now) {
                State::Active => replaced.state = State::Superseded,
                // Another one may come after it.
                State::Expired => (),
                state => return Err(Refusal::Replaced(state)),
            }
        }
        self.state = State::Active;
        self.active_from = Some(now);
        Ok(())
    }

    fn check_bounds(&self, settings: &Settings, now: i64) -> std::result::Result<(), Refusal> {
        if self.broad && !settings.broad {
            Err(Refusal::Broad)
        } else if self.expires_at <= now {
            Err(Refusal::Past)
        } else if self.expires_at.saturating_sub(now) > settings.max_duration {
            Err(Refusal::TooLong)
        } else {
            Ok(())
        }
    }

    fn must_be(&self, needed: State, settings: &Settings, now: i64) -> std::result::Result<(), Refusal> {
        match self.state_at(settings, now) {
            state if state == needed => Ok(()),
            state => Err(Refusal::State(state)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn person(n: u8) -> Person {
        // Two issuers with the same subjects.
        Person { issuer: format!("https://{}.example/", n % 2), subject: format!("s{}", n / 2) }
    }

    fn kind(max_duration: i64, approvals: usize, broad: bool) -> Settings {
        Settings { max_duration, approvals, broad, ..Settings::default() }
    }

    fn request(settings: &Settings, broad: bool, expires_at: i64) -> std::result::Result<Exception, Refusal> {
        Exception::request([person(0), person(2)], broad, expires_at, None, settings, 0)
    }

    #[test]
    fn a_state_is_read_as_it_is_written() {
        for state in State::ALL {
            assert_eq!(State::parse(state.name()), Some(state));
        }
        for rule in OnNoReview::ALL {
            assert_eq!(OnNoReview::parse(rule.name()), Some(rule));
        }
        assert_eq!((State::parse("Active"), OnNoReview::parse("")), (None, None));
    }

    #[test]
    fn an_exception_ends_at_the_microsecond_and_is_bounded_to_the_microsecond() {
        let settings = kind(10, 0, false);
        assert_eq!(request(&settings, false, 11), Err(Refusal::TooLong));
        assert_eq!(request(&settings, false, 0), Err(Refusal::Past));
        assert_eq!(request(&settings, false, i64::MAX), Err(Refusal::TooLong));
        let active = request(&settings, false, 10).unwrap();
        assert_eq!(active.state_at(&settings, 9), State::Active);
        assert_eq!(active.state_at(&settings, 10), State::Expired);
        // The kind has become stricter since.
        assert_eq!(active.state_at(&kind(5, 0, false), 4), State::Active);
        assert_eq!(active.state_at(&kind(5, 0, false), 5), State::Expired);
    }

    #[test]
    fn every_target_needs_a_kind_that_has_it_and_one_approval_more() {
        assert_eq!(request(&kind(10, 0, false), true, 10), Err(Refusal::Broad));
        let settings = kind(10, 0, true);
        let mut broad = request(&settings, true, 10).unwrap();
        assert_eq!(broad.state, State::Requested);
        broad.approve(&person(1), false, None, &settings, 1).unwrap();
        assert_eq!(broad.state_at(&settings, 1), State::Active);
        assert_eq!(broad.state_at(&kind(10, 0, false), 1), State::Expired, "once the kind has it no more");
    }

    #[test]
    fn neither_requester_nor_owner_approve_and_the_subject_of_another_issuer_may() {
        let settings = kind(10, 1, false);
        let mut asked = request(&settings, false, 10).unwrap();
        for own in [0, 2] {
            let refused = asked.approve(&person(own), false, None, &settings, 1);
            assert_eq!(refused, Err(Refusal::Approver(Objection::OwnRequest)));
        }
        assert_eq!(person(0).subject, person(1).subject);
        assert_eq!(asked.approve(&person(1), false, None, &settings, 1), Ok(()));
    }

    #[test]
    fn a_reason_says_something() {
        let least = Settings::default().min_reason;
        let refused = |reason: &str| check_reason(reason, least, "finding", "S3.1:bucket").is_err();
        for reason in [
            "",
            &" ".repeat(40),
            &format!("{}.", " ".repeat(20)),
            &".".repeat(20),
            &"\u{200b}".repeat(20),
            "nineteen characters",
            "the reason has a \u{7} in it",
            "one line\nand another line",
            "finding S3.1:bucket, finding S3.1:bucket",
            "Finding FINDING finding: s3.1:BUCKET",
            &"x".repeat(MAX_REASON_BYTES + 1),
        ] {
            assert!(refused(reason), "{reason:?}");
        }
        for reason in ["twenty characters ok", "the finding S3.1:bucket is of a public bucket", &"é".repeat(20)] {
            assert!(!refused(reason), "{reason:?}");
        }
        assert!(check_reason(&"é".repeat(1000), least, "finding", "*").is_ok());
    }

    #[test]
    fn a_target_is_shown_as_it_is() {
        for target in ["", " ", "a\u{1b}[2J", "a\u{85}", &"x".repeat(501)] {
            assert!(check_target(target).is_err(), "{target:?}");
        }
        for target in ["*", "x", &"x".repeat(500)] {
            assert!(check_target(target).is_ok(), "{target:?}");
        }
    }

    #[test]
    fn settings_are_within_their_ranges() {
        let good = Settings::default();
        assert!(good.check().is_ok());
        for bad in [
            Settings { min_reason: 0, ..good },
            Settings { min_reason: MAX_MIN_REASON + 1, ..good },
            Settings { max_duration: 0, ..good },
            Settings { max_duration: -1, ..good },
            Settings { max_duration: MAX_DURATION + 1, ..good },
            Settings { approvals: 3, ..good },
            Settings { notice: -1, ..good },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_setting_that_is_looser_is_named() {
        let global = kind(10, 1, false);
        for (own, looser) in [
            (global, None),
            (Settings { notice: 0, ..global }, None),
            (Settings { min_reason: 21, max_duration: 9, approvals: 2, ..global }, None),
            (Settings { min_reason: 19, ..global }, Some("min_reason")),
            (Settings { max_duration: 11, ..global }, Some("max_duration")),
            (Settings { approvals: 0, ..global }, Some("approvals")),
            (Settings { broad: true, ..global }, Some("broad")),
            (Settings { on_no_review: OnNoReview::Keep, ..global }, Some("on_no_review")),
        ] {
            assert_eq!(own.looser_than(&global), looser, "{own:?}");
            // Whoever is looser has no effect.
            assert_eq!(own.stricter(&global).looser_than(&global), None);
            assert_eq!(own.stricter(&global), global.stricter(&own));
            assert_eq!(own.stricter(&global).looser_than(&own), None);
        }
    }

    #[derive(Debug, Clone)]
    enum Call {
        Request { people: [u8; 2], broad: bool, lasts: i64 },
        Amend { of: usize, people: [u8; 2], lasts: i64 },
        Approve { of: usize, who: u8, own: bool },
        End { of: usize, how: End },
        Settle { of: usize },
        Define(Settings),
    }

    fn settings() -> impl Strategy<Value = Settings> {
        (1..40i64, 0..=MAX_APPROVALS, any::<bool>()).prop_map(|(longest, needed, broad)| kind(longest, needed, broad))
    }

    fn call() -> impl Strategy<Value = Call> {
        let people = || [0..6u8, 0..6u8];
        let end = prop::sample::select(vec![End::Denied, End::Cancelled, End::Revoked, End::Lapsed]);
        prop_oneof![
            2 => (people(), any::<bool>(), -1..50i64)
                .prop_map(|(people, broad, lasts)| Call::Request { people, broad, lasts }),
            3 => (0..8usize, people(), -1..50i64).prop_map(|(of, people, lasts)| Call::Amend { of, people, lasts }),
            9 => (0..8usize, 0..6u8, prop::bool::weighted(0.1))
                .prop_map(|(of, who, own)| Call::Approve { of, who, own }),
            5 => (0..8usize, end).prop_map(|(of, how)| Call::End { of, how }),
            2 => (0..8usize).prop_map(|of| Call::Settle { of }),
            1 => settings().prop_map(Call::Define),
        ]
    }

    /// What the database keeps of one target.
    #[derive(Default)]
    struct Kept {
        exceptions: Vec<Exception>,
        replaces: Vec<Option<usize>>,
        /// Who approved although they are interested.
        own: Vec<Vec<Person>>,
    }

    impl Kept {
        /// Runs a call with the exception that this one replaces.
        fn with_replaced<T>(
            &mut self,
            replaces: Option<usize>,
            call: impl FnOnce(&mut Self, Option<&mut Exception>) -> T,
        ) -> T {
            let mut replaced = replaces.map(|n| self.exceptions[n].clone());
            let done = call(self, replaced.as_mut());
            if let (Some(n), Some(replaced)) = (replaces, replaced) {
                self.exceptions[n] = replaced;
            }
            done
        }

        fn request(&mut self, people: [u8; 2], broad: bool, ends: i64, of: Option<usize>, kind: &Settings, now: i64) {
            let people = people.map(person);
            let made =
                self.with_replaced(of, |_, replaced| Exception::request(people, broad, ends, replaced, kind, now));
            if let Ok(made) = made {
                self.exceptions.push(made);
                self.replaces.push(of);
                self.own.push(Vec::new());
            }
        }

        fn call(&mut self, call: &Call, kind: &Settings, now: i64) {
            let place = |of: usize| Some(of % self.exceptions.len().max(1)).filter(|n| *n < self.exceptions.len());
            match *call {
                Call::Request { people, broad, lasts } => {
                    let waits = |one: &Exception| {
                        let state = one.state_at(kind, now);
                        one.broad == broad && [State::Requested, State::Active].contains(&state)
                    };
                    if !self.exceptions.iter().any(waits) {
                        self.request(people, broad, now + lasts, None, kind, now);
                    }
                }
                Call::Amend { of, people, lasts } => {
                    let Some(n) = place(of) else { return };
                    let broad = self.exceptions[n].broad;
                    let waits = |one: &Exception| one.broad == broad && one.state_at(kind, now) == State::Requested;
                    if self.exceptions[n].state_at(kind, now) == State::Active && !self.exceptions.iter().any(waits) {
                        self.request(people, broad, now + lasts, Some(n), kind, now);
                    }
                }
                Call::Approve { of, who, own } => {
                    let Some(n) = place(of) else { return };
                    let mut one = self.exceptions[n].clone();
                    let approved = self.with_replaced(self.replaces[n], |_, replaced| {
                        one.approve(&person(who), own, replaced, kind, now)
                    });
                    if own && approved.is_ok() && one.approvers.is_interested(&person(who)) {
                        self.own[n].push(person(who));
                    }
                    self.exceptions[n] = one;
                }
                Call::End { of, how } => {
                    let Some(n) = place(of) else { return };
                    let ended = self.exceptions[n].end(how, kind, now);
                    // Whoever ends it ends what is asked for in its place.
                    for m in 0..self.exceptions.len() {
                        if ended.is_ok() && how == End::Revoked && self.replaces[m] == Some(n) {
                            self.exceptions[m].end(End::Cancelled, kind, now).ok();
                        }
                    }
                }
                Call::Settle { of } => {
                    let Some(n) = place(of) else { return };
                    let one = &mut self.exceptions[n];
                    let seen = one.state_at(kind, now);
                    one.settle(kind, now);
                    assert!(one.state == seen && !one.settle(kind, now));
                }
                // What has ended is recorded before other settings count: a looser kind revives nothing.
                Call::Define(_) => {
                    for one in &mut self.exceptions {
                        one.settle(kind, now);
                    }
                }
            }
        }
    }

    /// The states that a state leads to.
    fn leads_to(from: State) -> &'static [State] {
        use State::{Active, Cancelled, Denied, Expired, Lapsed, Requested, Revoked, Superseded};
        match from {
            Requested => &[Active, Denied, Cancelled, Expired],
            Active => &[Superseded, Revoked, Expired, Lapsed],
            _ => &[],
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn no_path_leads_past_the_rules(
            first in settings(),
            calls in prop::collection::vec((call(), 0..3i64), 1..60),
        ) {
            let (mut kept, mut kind, mut now) = (Kept::default(), first, 0);
            for (call, later) in calls {
                now += later;
                let before = kept.exceptions.clone();
                let over: Vec<bool> =
                    before.iter().map(|one| leads_to(one.state_at(&kind, now)).is_empty()).collect();
                kept.call(&call, &kind, now);
                if let Call::Define(defined) = call {
                    kind = defined;
                }
                for (n, one) in kept.exceptions.iter().enumerate() {
                    let approvers = &one.approvers.approved_by;
                    // No state without its path, and what has ended has ended.
                    if let Some(before) = before.get(n).filter(|before| before.state != one.state) {
                        prop_assert!(leads_to(before.state).contains(&one.state), "{:?}", (before, one));
                    }
                    let is_over = leads_to(one.state_at(&kind, now)).is_empty();
                    prop_assert!(is_over || !over.get(n).is_some_and(|over| *over), "{one:?} is over");
                    // Whoever came into force did so with enough approvals, within its bounds.
                    let had = before.get(n).map_or(State::Requested, |before| before.state);
                    if one.state == State::Active && had == State::Requested {
                        prop_assert!(approvers.len() >= kind.approvals_for(one.broad));
                        prop_assert!(!one.broad || kind.broad);
                        prop_assert!(one.expires_at > now && one.expires_at - now <= kind.max_duration);
                        let replaced = kept.replaces[n].map(|n| before[n].state_at(&kind, now));
                        let gives_way = |state| matches!(state, State::Active | State::Expired);
                        prop_assert!(replaced.is_none_or(gives_way), "{:?}", replaced);
                    }
                    // Each approver counts once, and none is interested unless that was allowed.
                    prop_assert!((1..approvers.len()).all(|n| !approvers[..n].contains(&approvers[n])));
                    let interested = |who: &&Person| one.approvers.is_interested(who);
                    prop_assert!(approvers.iter().filter(interested).all(|who| kept.own[n].contains(who)));
                    // Nothing is in force past its end, nor longer than its kind allows now.
                    if one.state_at(&kind, now) == State::Active {
                        let from = one.active_from.unwrap();
                        prop_assert!(now < one.expires_at && now < from + kind.max_duration && from <= now);
                        prop_assert!(!one.broad || kind.broad);
                    }
                    prop_assert!(one.state_at(&kind, one.expires_at) != State::Active);
                }
                // Of one target, one is in force.
                for broad in [false, true] {
                    let in_force = |one: &&Exception| one.broad == broad && one.state_at(&kind, now) == State::Active;
                    prop_assert!(kept.exceptions.iter().filter(in_force).count() <= 1);
                }
            }
        }
    }
}
