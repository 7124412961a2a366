//! The rotation of a secret: which version becomes what, by which call, and when that is refused.
//!
//! A secret has versions, of which one is current. A rotation brings a new value, has it proved by health reports,
//! promotes it, observes it and then retires the value before. All of it is decided here, out of what is stored and the
//! time; nothing is read or written.

/// A time in microseconds since 1970 UTC.
pub type Time = i64;

/// The state of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VersionState {
    /// There is no value yet: the provider is about to make it.
    Announced,
    /// The value is stored, and nothing proves that it works.
    Pending,
    /// Health reports prove that the value works.
    Verified,
    /// A health report says that the value does not work, or it was rolled back.
    Failed,
    /// The value that is handed out.
    Current,
    /// The value that was current before.
    Previous,
    /// The value was deleted.
    Retired,
}

/// The state of a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RotationState {
    /// The new version is not current yet.
    Open,
    /// The new version is current, and the one before can come back.
    Observing,
    /// The version before was retired.
    Completed,
    /// The version before is current again.
    RolledBack,
    /// The new version was given up.
    Abandoned,
}

/// A health report of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthReport {
    /// Whether the value works.
    pub healthy: bool,
    /// When that was found out.
    pub checked_at: Time,
}

/// A version, with what decides about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The number, from 1. No number is used again.
    pub number: i32,
    /// The state.
    pub state: VersionState,
    /// When the value came; `None` while it is announced.
    pub valued_at: Option<Time>,
    /// When the version became current for the last time.
    pub promoted_at: Option<Time>,
    /// When the value was handed out for the last time.
    pub revealed_at: Option<Time>,
    /// The newest reports, by the time at which they were checked. At one time, a negative one is the later.
    pub reports: Vec<HealthReport>,
}

/// The newest rotation of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// The version that was current at the beginning.
    pub from: i32,
    /// The new version.
    pub to: i32,
    /// The state.
    pub state: RotationState,
}

/// The rules of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RotationPolicy {
    /// The most versions that are not retired.
    pub max_live_versions: i32,
    /// How many positive reports in a row verify a version.
    pub health_required: i32,
    /// The age in microseconds up to which a report counts.
    pub health_max_age: Time,
    /// How long in microseconds a promoted version is observed.
    pub observe_for: Time,
    /// Whether a negative report of an observed version rolls it back.
    pub rolls_back: bool,
    /// Whether a version that was handed out lately stays.
    pub keeps_in_use: bool,
}

/// The versions of a secret that is not destroyed, by number, with its newest rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionedSecret {
    /// All versions, those that are retired too.
    pub versions: Vec<Version>,
    /// The newest rotation, if there ever was one.
    pub rotation: Option<Rotation>,
}

/// Why a call is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// A rotation is open or observing.
    RotationOpen,
    /// No rotation is in the state that the call needs.
    NoRotation,
    /// There is no such version, or it is in another state than the call needs.
    State,
    /// There are as many live versions as there may be.
    TooManyVersions,
    /// The reports do not prove that the version works now.
    HealthMissing,
    /// The report is of the future, or older than the value.
    ReportTime,
    /// The version may still be in use.
    InUse,
}

/// What a call changes, beside what it was given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Versions and their new states, in the order in which they change.
    pub versions: Vec<(i32, VersionState)>,
    /// The new state of the rotation.
    pub rotation: Option<RotationState>,
    /// Whether somebody has to look: a version failed or was rolled back.
    pub alert: bool,
}

impl VersionState {
    const ALL: [Self; 7] =
        [Self::Announced, Self::Pending, Self::Verified, Self::Failed, Self::Current, Self::Previous, Self::Retired];

    /// The word in SQL.
    pub fn name(self) -> &'static str {
        match self {
            VersionState::Announced => "announced",
            VersionState::Pending => "pending",
            VersionState::Verified => "verified",
            VersionState::Failed => "failed",
            VersionState::Current => "current",
            VersionState::Previous => "previous",
            VersionState::Retired => "retired",
        }
    }

    /// The state that the word in SQL names; `None` for any other text.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether the value may still exist outside, or be about to.
    pub fn is_live(self) -> bool {
        self != VersionState::Retired
    }

    /// Whether whoever may reveal sees the value; others need the permission to rotate.
    pub fn is_revealed(self) -> bool {
        matches!(self, VersionState::Current | VersionState::Previous)
    }
}

impl RotationState {
    const ALL: [Self; 5] = [Self::Open, Self::Observing, Self::Completed, Self::RolledBack, Self::Abandoned];

    /// The word in SQL.
    pub fn name(self) -> &'static str {
        match self {
            RotationState::Open => "open",
            RotationState::Observing => "observing",
            RotationState::Completed => "completed",
            RotationState::RolledBack => "rolled_back",
            RotationState::Abandoned => "abandoned",
        }
    }

    /// The state that the word in SQL names; `None` for any other text.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether the rotation keeps another one from beginning.
    pub fn is_under_way(self) -> bool {
        matches!(self, RotationState::Open | RotationState::Observing)
    }
}

impl Version {
    /// A version that begins now, with its value or before it.
    pub fn new(number: i32, state: VersionState, valued_at: Option<Time>) -> Self {
        Version { number, state, valued_at, promoted_at: None, revealed_at: None, reports: Vec::new() }
    }

    /// Whether the last reports prove that the value works: as many positive ones in a row as the policy requires, each
    /// after the value came and none too old.
    pub fn is_healthy(&self, policy: &RotationPolicy, now: Time) -> bool {
        let Some(valued_at) = self.valued_at else { return false };
        let counts = |report: &HealthReport| {
            report.healthy
                && report.checked_at >= valued_at
                && report.checked_at <= now
                && now - report.checked_at <= policy.health_max_age
        };
        let required = usize::try_from(policy.health_required.max(1)).unwrap_or(usize::MAX);
        self.reports.len() >= required && self.reports.iter().rev().take(required).all(counts)
    }

    /// Whether the last report is positive, and of after a moment.
    fn works_since(&self, moment: Time) -> bool {
        self.reports.last().is_some_and(|report| report.healthy && report.checked_at > moment)
    }

    /// Whether the last report is positive and fresh.
    fn works_now(&self, policy: &RotationPolicy, now: Time) -> bool {
        self.is_healthy(&RotationPolicy { health_required: 1, ..*policy }, now)
    }

    /// Takes a report in its order, whenever it comes; false for one that came before.
    fn take_report(&mut self, report: HealthReport) -> bool {
        let place = |report: &HealthReport| (report.checked_at, !report.healthy);
        match self.reports.binary_search_by_key(&place(&report), place) {
            Ok(_) => false,
            Err(at) => {
                self.reports.insert(at, report);
                true
            }
        }
    }

    fn is_observed(&self, policy: &RotationPolicy, now: Time) -> bool {
        self.promoted_at.is_some_and(|at| now - at < policy.observe_for)
    }
}

impl VersionedSecret {
    /// A secret with its first value, which is current and proved by nothing.
    pub fn new(now: Time) -> Self {
        let first = Version { promoted_at: Some(now), ..Version::new(1, VersionState::Current, Some(now)) };
        VersionedSecret { versions: vec![first], rotation: None }
    }

    /// The version with this number.
    pub fn version(&self, number: i32) -> Option<&Version> {
        self.versions.iter().find(|version| version.number == number)
    }

    fn version_mut(&mut self, number: i32) -> Result<&mut Version, Refused> {
        self.versions.iter_mut().find(|version| version.number == number).ok_or(Refused::State)
    }

    /// The version in a state, which one version at most can have: `Current`, `Previous`.
    pub fn only(&self, state: VersionState) -> Option<&Version> {
        self.versions.iter().find(|version| version.state == state)
    }

    /// The rotation that is open or observing.
    pub fn under_way(&self) -> Option<Rotation> {
        self.rotation.filter(|rotation| rotation.state.is_under_way())
    }

    fn rotation_in(&self, state: RotationState) -> Result<Rotation, Refused> {
        self.rotation.filter(|rotation| rotation.state == state).ok_or(Refused::NoRotation)
    }

    /// Begins a rotation; returns the number of the new version, which is pending if its value came along.
    pub fn begin(&mut self, valued: bool, policy: &RotationPolicy, now: Time) -> Result<i32, Refused> {
        if self.under_way().is_some() {
            return Err(Refused::RotationOpen);
        }
        let live = self.versions.iter().filter(|version| version.state.is_live()).count();
        if i32::try_from(live).unwrap_or(i32::MAX) >= policy.max_live_versions {
            return Err(Refused::TooManyVersions);
        }
        let from = self.only(VersionState::Current).ok_or(Refused::State)?.number;
        let to = self.versions.iter().map(|version| version.number).max().unwrap_or(0) + 1;
        let (state, valued_at) =
            if valued { (VersionState::Pending, Some(now)) } else { (VersionState::Announced, None) };
        self.versions.push(Version::new(to, state, valued_at));
        self.rotation = Some(Rotation { from, to, state: RotationState::Open });
        Ok(to)
    }

    /// The value of an announced version has come.
    pub fn supply(&mut self, number: i32, now: Time) -> Result<Changes, Refused> {
        let rotation = self.rotation_in(RotationState::Open)?;
        let version = self.version_mut(number)?;
        if rotation.to != number || version.state != VersionState::Announced {
            return Err(Refused::State);
        }
        version.valued_at = Some(now);
        Ok(self.change(&[(number, VersionState::Pending)], None, now))
    }

    /// A health report of a version has come.
    pub fn report(
        &mut self,
        number: i32,
        report: HealthReport,
        policy: &RotationPolicy,
        now: Time,
    ) -> Result<Changes, Refused> {
        let version = self.version_mut(number)?;
        let valued_at = version.valued_at.filter(|_| version.state.is_live()).ok_or(Refused::State)?;
        if report.checked_at > now || report.checked_at < valued_at {
            return Err(Refused::ReportTime);
        }
        if !version.take_report(report) {
            // Called again.
            return Ok(Changes::default());
        }
        let (state, observed) = (version.state, version.is_observed(policy, now));
        let verified = state == VersionState::Pending && version.is_healthy(policy, now);
        let observing = self.rotation_in(RotationState::Observing).is_ok_and(|rotation| rotation.to == number);
        Ok(match state {
            VersionState::Pending if verified => self.change(&[(number, VersionState::Verified)], None, now),
            VersionState::Pending | VersionState::Verified if !report.healthy => {
                Changes { alert: true, ..self.change(&[(number, VersionState::Failed)], None, now) }
            }
            VersionState::Current if !report.healthy && observed && observing && policy.rolls_back => {
                Changes { alert: true, ..self.roll_back(now)? }
            }
            _ => Changes { alert: !report.healthy, ..Changes::default() },
        })
    }

    /// Makes a verified version the current one.
    pub fn promote(&mut self, number: i32, policy: &RotationPolicy, now: Time) -> Result<Changes, Refused> {
        let rotation = self.rotation.filter(|rotation| rotation.state.is_under_way()).ok_or(Refused::NoRotation)?;
        if rotation.to != number {
            return Err(Refused::State);
        }
        if rotation.state == RotationState::Observing {
            // Called again.
            return Ok(Changes::default());
        }
        let version = self.version(number).ok_or(Refused::State)?;
        if !matches!(version.state, VersionState::Pending | VersionState::Verified) {
            return Err(Refused::State);
        }
        if version.state == VersionState::Pending || !version.works_now(policy, now) {
            return Err(Refused::HealthMissing);
        }
        let current = self.only(VersionState::Current).ok_or(Refused::State)?.number;
        let states = [(current, VersionState::Previous), (number, VersionState::Current)];
        Ok(self.change(&states, Some(RotationState::Observing), now))
    }

    /// Makes the version before the current one again; returns what changes.
    pub fn roll_back(&mut self, now: Time) -> Result<Changes, Refused> {
        let rotation = self.rotation_in(RotationState::Observing)?;
        let previous = self.only(VersionState::Previous).filter(|version| version.number == rotation.from);
        previous.ok_or(Refused::State)?;
        let states = [(rotation.to, VersionState::Failed), (rotation.from, VersionState::Current)];
        Ok(Changes { alert: true, ..self.change(&states, Some(RotationState::RolledBack), now) })
    }

    /// Retires a version: its value is to be deleted.
    pub fn retire(&mut self, number: i32, policy: &RotationPolicy, now: Time) -> Result<Changes, Refused> {
        let version = self.version(number).ok_or(Refused::State)?;
        match version.state {
            VersionState::Retired => Ok(Changes::default()),
            VersionState::Failed => {
                // The new version of an open rotation ends with it.
                let open = self.rotation_in(RotationState::Open).is_ok_and(|rotation| rotation.to == number);
                Ok(self.change(&[(number, VersionState::Retired)], open.then_some(RotationState::Abandoned), now))
            }
            VersionState::Previous => {
                let current = self.only(VersionState::Current).ok_or(Refused::State)?;
                let promoted_at = current.promoted_at.ok_or(Refused::State)?;
                if !current.works_since(promoted_at) {
                    return Err(Refused::HealthMissing);
                }
                let used = version.revealed_at.is_some_and(|at| now - at < policy.observe_for);
                if current.is_observed(policy, now) || used && policy.keeps_in_use {
                    return Err(Refused::InUse);
                }
                let completes = self.rotation_in(RotationState::Observing).is_ok();
                Ok(self.change(&[(number, VersionState::Retired)], completes.then_some(RotationState::Completed), now))
            }
            _ => Err(Refused::State),
        }
    }

    /// Gives up the open rotation.
    pub fn abandon(&mut self, now: Time) -> Result<Changes, Refused> {
        let rotation = self.rotation_in(RotationState::Open)?;
        let state = self.version(rotation.to).ok_or(Refused::State)?.state;
        // A failed value may exist outside: it is retired by itself, once somebody has seen to that.
        let retired = [(rotation.to, VersionState::Retired)];
        let states = if state == VersionState::Failed { &[][..] } else { &retired[..] };
        Ok(self.change(states, Some(RotationState::Abandoned), now))
    }

    /// The value of a version is handed out.
    pub fn reveal(&mut self, number: i32, now: Time) -> Result<(), Refused> {
        let version = self.version_mut(number)?;
        if !version.state.is_live() || version.valued_at.is_none() {
            return Err(Refused::State);
        }
        version.revealed_at = Some(now);
        Ok(())
    }

    fn change(&mut self, states: &[(i32, VersionState)], rotation: Option<RotationState>, now: Time) -> Changes {
        for (number, state) in states {
            for version in self.versions.iter_mut().filter(|version| version.number == *number) {
                version.state = *state;
                if *state == VersionState::Current {
                    version.promoted_at = Some(now);
                }
            }
        }
        if let (Some(mine), Some(state)) = (&mut self.rotation, rotation) {
            mine.state = state;
        }
        Changes { versions: states.to_vec(), rotation, alert: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use VersionState::{Announced, Current, Failed, Pending, Previous, Retired, Verified};
    use proptest::prelude::*;

    const POLICY: RotationPolicy = RotationPolicy {
        max_live_versions: 2,
        health_required: 2,
        health_max_age: 100,
        observe_for: 50,
        rolls_back: true,
        keeps_in_use: true,
    };

    fn states(secret: &VersionedSecret) -> Vec<VersionState> {
        secret.versions.iter().map(|version| version.state).collect()
    }

    fn healthy(checked_at: Time) -> HealthReport {
        HealthReport { healthy: true, checked_at }
    }

    fn ill(checked_at: Time) -> HealthReport {
        HealthReport { healthy: false, checked_at }
    }

    /// A secret whose second version was promoted at 20.
    fn promoted() -> VersionedSecret {
        let mut secret = VersionedSecret::new(0);
        assert_eq!(secret.begin(true, &POLICY, 10), Ok(2));
        for at in [11, 12] {
            secret.report(2, healthy(at), &POLICY, at).unwrap();
        }
        secret.promote(2, &POLICY, 20).unwrap();
        assert_eq!(states(&secret), [Previous, Current]);
        secret
    }

    #[test]
    fn a_state_is_read_as_it_is_written() {
        assert!(VersionState::ALL.into_iter().all(|state| VersionState::parse(state.name()) == Some(state)));
        assert!(RotationState::ALL.into_iter().all(|state| RotationState::parse(state.name()) == Some(state)));
        assert_eq!((VersionState::parse("new"), RotationState::parse("Open")), (None, None));
    }

    #[test]
    fn a_rotation_goes_from_the_announcement_to_its_completion() {
        let mut secret = VersionedSecret::new(0);
        assert_eq!(secret.begin(false, &POLICY, 10), Ok(2));
        assert_eq!(states(&secret), [Current, Announced]);
        assert_eq!(secret.begin(true, &POLICY, 10), Err(Refused::RotationOpen));
        assert_eq!(secret.report(2, healthy(10), &POLICY, 10), Err(Refused::State));
        secret.supply(2, 11).unwrap();
        assert_eq!(secret.supply(2, 12), Err(Refused::State));
        assert_eq!(secret.promote(2, &POLICY, 12), Err(Refused::HealthMissing));
        assert_eq!(secret.report(2, healthy(10), &POLICY, 12), Err(Refused::ReportTime), "before the value");
        assert_eq!(secret.report(2, healthy(13), &POLICY, 12), Err(Refused::ReportTime), "of the future");
        secret.report(2, healthy(12), &POLICY, 12).unwrap();
        assert_eq!(states(&secret), [Current, Pending]);
        secret.report(2, healthy(13), &POLICY, 13).unwrap();
        assert_eq!(states(&secret), [Current, Verified]);
        assert_eq!(secret.promote(2, &POLICY, 114), Err(Refused::HealthMissing), "the reports are too old by now");
        secret.promote(2, &POLICY, 14).unwrap();
        assert_eq!(secret.promote(2, &POLICY, 14), Ok(Changes::default()), "again");
        assert_eq!(secret.retire(1, &POLICY, 15), Err(Refused::HealthMissing));
        assert_eq!(secret.abandon(15), Err(Refused::NoRotation));
        secret.report(2, healthy(15), &POLICY, 15).unwrap();
        assert_eq!(secret.retire(1, &POLICY, 63), Err(Refused::InUse), "observed until 64");
        secret.reveal(1, 40).unwrap();
        assert_eq!(secret.retire(1, &POLICY, 89), Err(Refused::InUse), "handed out at 40");
        let changes = secret.clone().retire(1, &POLICY, 500).unwrap();
        assert_eq!(changes.versions, [(1, Retired)], "a report of after the promotion is enough, however old");
        let changes = secret.retire(1, &POLICY, 90).unwrap();
        assert_eq!((changes.versions, changes.rotation), (vec![(1, Retired)], Some(RotationState::Completed)));
        assert_eq!(secret.retire(1, &POLICY, 90), Ok(Changes::default()), "again");
        assert_eq!(secret.reveal(1, 90), Err(Refused::State));
        assert_eq!(secret.begin(true, &POLICY, 91), Ok(3), "no number is used again");
    }

    #[test]
    fn a_version_that_fails_never_becomes_current() {
        let mut secret = VersionedSecret::new(0);
        secret.begin(true, &POLICY, 10).unwrap();
        secret.report(2, healthy(11), &POLICY, 11).unwrap();
        assert!(secret.report(2, ill(12), &POLICY, 12).unwrap().alert);
        assert_eq!(states(&secret), [Current, Failed]);
        for at in [13, 14] {
            secret.report(2, healthy(at), &POLICY, at).unwrap();
        }
        assert_eq!(secret.promote(2, &POLICY, 15), Err(Refused::State));
        secret.abandon(16).unwrap();
        assert_eq!(secret.begin(true, &POLICY, 17), Err(Refused::TooManyVersions));
        secret.retire(2, &POLICY, 18).unwrap();
        assert_eq!(secret.begin(true, &POLICY, 19), Ok(3));
    }

    #[test]
    fn reports_of_one_version_say_nothing_of_another() {
        let mut secret = VersionedSecret::new(0);
        secret.begin(true, &POLICY, 10).unwrap();
        for at in [11, 12, 13] {
            secret.report(1, healthy(at), &POLICY, at).unwrap();
        }
        assert_eq!(secret.promote(2, &POLICY, 14), Err(Refused::HealthMissing));
    }

    #[test]
    fn a_report_counts_once_and_by_the_time_of_its_check() {
        let mut secret = VersionedSecret::new(0);
        secret.begin(true, &POLICY, 10).unwrap();
        for _ in 0..3 {
            secret.report(2, healthy(11), &POLICY, 15).unwrap();
        }
        assert_eq!(states(&secret), [Current, Pending], "three times the same report");
        secret.report(2, healthy(12), &POLICY, 15).unwrap();
        assert_eq!(states(&secret), [Current, Verified]);

        let mut secret = promoted();
        let only_told = RotationPolicy { rolls_back: false, ..POLICY };
        assert!(secret.report(2, ill(30), &only_told, 31).unwrap().alert);
        assert!(!secret.report(2, ill(30), &only_told, 31).unwrap().alert, "again");
        for at in [29, 30] {
            secret.report(2, healthy(at), &only_told, 100).unwrap();
            assert_eq!(secret.retire(1, &only_told, 100), Err(Refused::HealthMissing), "what came late is older");
        }
        secret.report(2, healthy(31), &only_told, 100).unwrap();
        secret.retire(1, &only_told, 100).unwrap();
    }

    #[test]
    fn the_last_report_alone_has_to_be_fresh_at_the_promotion() {
        let mut secret = VersionedSecret::new(0);
        secret.begin(true, &POLICY, 10).unwrap();
        for at in [11, 80] {
            secret.report(2, healthy(at), &POLICY, at).unwrap();
        }
        assert_eq!(secret.clone().promote(2, &POLICY, 181), Err(Refused::HealthMissing));
        secret.promote(2, &POLICY, 180).unwrap();
    }

    #[test]
    fn an_observed_version_that_fails_goes_and_the_one_before_comes_back() {
        let mut secret = promoted();
        let changes = secret.report(2, ill(30), &POLICY, 30).unwrap();
        assert_eq!(changes.versions, [(2, Failed), (1, Current)]);
        assert_eq!((changes.rotation, changes.alert), (Some(RotationState::RolledBack), true));
        assert_eq!(secret.roll_back(31), Err(Refused::NoRotation));

        let mut secret = promoted();
        assert!(secret.report(2, ill(70), &POLICY, 70).unwrap().versions.is_empty(), "no longer observed");
        secret.roll_back(71).unwrap();
        assert_eq!(states(&secret), [Current, Failed]);

        let mut secret = promoted();
        let only_told = RotationPolicy { rolls_back: false, ..POLICY };
        let changes = secret.report(2, ill(30), &only_told, 30).unwrap();
        assert!(changes.alert && changes.versions.is_empty());
    }

    #[derive(Debug, Clone, Copy)]
    enum Call {
        Begin(bool),
        Supply(i32),
        Report(i32, bool, Time),
        Promote(i32),
        RollBack,
        Retire(i32),
        Abandon,
        Reveal(i32),
        Wait(Time),
    }

    fn call() -> impl Strategy<Value = Call> {
        prop_oneof![
            2 => any::<bool>().prop_map(Call::Begin),
            2 => (1..6).prop_map(Call::Supply),
            8 => (1..6, prop::bool::weighted(0.8), -30..5i64).prop_map(|(n, good, ago)| Call::Report(n, good, ago)),
            4 => (1..6).prop_map(Call::Promote),
            1 => Just(Call::RollBack),
            3 => (1..6).prop_map(Call::Retire),
            1 => Just(Call::Abandon),
            3 => (1..6).prop_map(Call::Reveal),
            3 => (0..80i64).prop_map(Call::Wait),
        ]
    }

    /// What holds at every moment, whatever was called.
    fn assert_invariants(secret: &VersionedSecret, policy: &RotationPolicy) {
        let count = |state| secret.versions.iter().filter(|version| version.state == state).count();
        assert_eq!(count(Current), 1, "{secret:?}");
        assert!(count(Previous) <= 1, "{secret:?}");
        let live = secret.versions.iter().filter(|version| version.state.is_live()).count();
        assert!(live <= policy.max_live_versions as usize, "{secret:?}");
        assert!(secret.versions.iter().zip(1..).all(|(version, number)| version.number == number));
        for version in &secret.versions {
            assert_eq!(version.valued_at.is_none() && version.state.is_live(), version.state == Announced);
        }
        let new = secret.under_way().map(|rotation| secret.version(rotation.to).unwrap().state);
        assert!(new.is_none_or(|state| matches!(state, Announced | Pending | Verified | Failed | Current)));
    }

    proptest! {
        #[test]
        fn whatever_is_called_the_invariants_hold(
            calls in proptest::collection::vec(call(), 0..200),
            max_live_versions in 2..4, health_required in 1..4,
        ) {
            let policy = RotationPolicy { max_live_versions, health_required, ..POLICY };
            let (mut secret, mut now) = (VersionedSecret::new(0), 0);
            for call in calls {
                now += 1;
                let before = secret.clone();
                let outcome = match call {
                    Call::Begin(valued) => secret.begin(valued, &policy, now).map(|_| ()),
                    Call::Supply(number) => secret.supply(number, now).map(|_| ()),
                    Call::Report(number, healthy, ago) => {
                        let report = HealthReport { healthy, checked_at: now + ago };
                        secret.report(number, report, &policy, now).map(|_| ())
                    }
                    Call::Promote(number) => {
                        let promoted = secret.promote(number, &policy, now);
                        if promoted.as_ref().is_ok_and(|changes| !changes.versions.is_empty()) {
                            let reports = &before.version(number).unwrap().reports;
                            let last = reports.last().unwrap();
                            assert!(last.healthy && now - last.checked_at <= policy.health_max_age);
                            let proved = reports.windows(health_required as usize);
                            assert!(proved.into_iter().any(|window| window.iter().all(|report| report.healthy)));
                        }
                        promoted.map(|_| ())
                    }
                    Call::RollBack => secret.roll_back(now).map(|_| ()),
                    Call::Retire(number) => secret.retire(number, &policy, now).map(|_| ()),
                    Call::Abandon => secret.abandon(now).map(|_| ()),
                    Call::Reveal(number) => secret.reveal(number, now),
                    Call::Wait(time) => {
                        now += time;
                        Ok(())
                    }
                };
                if outcome.is_err() {
                    prop_assert_eq!(&secret, &before, "a refused call changes nothing");
                }
                assert_invariants(&secret, &policy);
                // The same call again is no second transition.
                let again = match call {
                    Call::Supply(number) => secret.clone().supply(number, now).map(|changes| changes.versions),
                    Call::Promote(number) => {
                        secret.clone().promote(number, &policy, now).map(|changes| changes.versions)
                    }
                    Call::Retire(number) => secret.clone().retire(number, &policy, now).map(|changes| changes.versions),
                    Call::RollBack => secret.clone().roll_back(now).map(|changes| changes.versions),
                    Call::Abandon => secret.clone().abandon(now).map(|changes| changes.versions),
                    Call::Begin(valued) => secret.clone().begin(valued, &policy, now).map(|to| vec![(to, Pending)]),
                    Call::Report(number, healthy, ago) => {
                        let report = HealthReport { healthy, checked_at: now + ago };
                        secret.clone().report(number, report, &policy, now).map(|changes| changes.versions)
                    }
                    _ => Ok(vec![]),
                };
                prop_assert!(again.is_err() || again == Ok(vec![]), "{:?} twice on {:?}", call, secret);
            }
        }
    }
}
