//! A grant of break-glass: asked for, approved by others, active for a while, and signed off by a third person.
//!
//! Three clocks run one after the other: until the approvals, until the activation, and for the duration. Times are
//! microseconds since 1970, and arguments. Time decides: what has ended has ended, whether or not its stored state says
//! so yet.

use super::approval::{Approvers, Objection, Person};
use super::break_glass_policy::Policy;
use super::permission_set::{PermissionSet, Rule};

/// Where a grant stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not everybody needed has approved it.
    Requested,
    /// It waits for its activation.
    Approved,
    /// Somebody has denied it.
    Denied,
    /// Whoever asked took it back.
    Cancelled,
    /// Nobody decided, or nobody activated it, in time.
    Expired,
    /// It permits what it was approved for.
    Active,
    /// Its time is over, or the beneficiary ended it.
    Ended,
    /// Somebody else ended it.
    Revoked,
    /// A third person has looked at what was done.
    SignedOff,
}

impl State {
    /// Every state.
    pub const ALL: [State; 9] = [
        State::Requested,
        State::Approved,
        State::Denied,
        State::Cancelled,
        State::Expired,
        State::Active,
        State::Ended,
        State::Revoked,
        State::SignedOff,
    ];

    /// The word that is stored.
    pub fn name(self) -> &'static str {
        match self {
            State::Requested => "requested",
            State::Approved => "approved",
            State::Denied => "denied",
            State::Cancelled => "cancelled",
            State::Expired => "expired",
            State::Active => "active",
            State::Ended => "ended",
            State::Revoked => "revoked",
            State::SignedOff => "signed_off",
        }
    }

    /// The state that a stored word names; `None` for any other text.
    pub fn parse(name: &str) -> Option<Self> {
        State::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// What a third person says of a grant that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// What was done was right.
    Appropriate,
    /// It was not.
    Inappropriate,
}

impl Verdict {
    /// The word in SQL.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Appropriate => "appropriate",
            Verdict::Inappropriate => "inappropriate",
        }
    }

    /// The verdict that a word names; `None` for any other text.
    pub fn parse(name: &str) -> Option<Self> {
        [Verdict::Appropriate, Verdict::Inappropriate].into_iter().find(|verdict| verdict.name() == name)
    }
}

/// A permission, as domain and action.
pub type Kind = (String, String);

/// Somebody who has approved, and which of the asked permissions they held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approver {
    /// Who it is.
    pub person: Person,
    /// What they held of the permissions that approvers must hold.
    pub held: Vec<Kind>,
}

/// A grant and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The state as it is stored. [`Grant::state_at`] has the one that counts.
    pub state: State,
    /// Who asked.
    pub requester: Person,
    /// Who uses it.
    pub beneficiary: Person,
    /// Who has approved, each once.
    pub approvers: Vec<Approver>,
    /// When it is too late to approve.
    pub decide_before: i64,
    /// How long it waits for its activation once it is approved.
    pub activate_within: i64,
    /// When it is too late to activate it; `None` until it is approved.
    pub activate_before: Option<i64>,
    /// How long it is active.
    pub duration: i64,
    /// When its time is over; `None` until it is active.
    pub ends_at: Option<i64>,
    /// When it ended, if it was active; `None` until that is stored.
    pub over_at: Option<i64>,
}

/// Why a call changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The grant is in another state than the call needs.
    State(State),
    /// This person's approval does not count.
    Approver(Objection),
    /// Whoever would sign off has asked for it, or has used it.
    Interested,
    /// Whoever calls is not the one person who may.
    SomebodyElse,
    /// The policy asks for more approvals by now.
    Approvals,
}

/// What [`Grant::end`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The beneficiary needs it no more.
    Ended,
    /// Somebody else took it away.
    Revoked,
}

impl Grant {
    /// Somebody asks. Where the policy needs no approval it is approved at once.
    pub fn request(requester: Person, beneficiary: Person, duration: i64, policy: &Policy, now: i64) -> Self {
        let needs_nobody = policy.approvals_needed() == 0;
        Grant {
            state: if needs_nobody { State::Approved } else { State::Requested },
            requester,
            beneficiary,
            approvers: Vec::new(),
            decide_before: now.saturating_add(policy.request_expires),
            activate_within: policy.activate_within,
            activate_before: needs_nobody.then(|| now.saturating_add(policy.activate_within)),
            duration,
            ends_at: None,
            over_at: None,
        }
    }

    /// The state at a time: it is expired or ended once its time is over.
    pub fn state_at(&self, now: i64) -> State {
        let over = |end: Option<i64>| end.is_none_or(|end| now >= end);
        match self.state {
            State::Requested if now >= self.decide_before => State::Expired,
            State::Approved if over(self.activate_before) => State::Expired,
            State::Active if over(self.ends_at) => State::Ended,
            state => state,
        }
    }

    /// Whether it permits something at that time.
    pub fn in_force(&self, now: i64) -> bool {
        self.state_at(now) == State::Active
    }

    /// Whether it counts as open: it is in force, or can come to be.
    pub fn is_open(&self, now: i64) -> bool {
        matches!(self.state_at(now), State::Requested | State::Approved | State::Active)
    }

    /// When it ended, once it was active.
    pub fn over_since(&self, now: i64) -> Option<i64> {
        let ended = self.ends_at.filter(|end| now >= *end);
        self.over_at.or(ended)
    }

    /// Somebody approves, who holds so much of what approvers must hold. `own` says whether an interested person may do
    /// that. The policy is that of now: what it has come to ask for since the request counts too.
    ///
    /// Errors: nothing has changed then.
    pub fn approve(&mut self, by: Approver, own: bool, policy: &Policy, now: i64) -> Result<(), Refusal> {
        self.must_be(State::Requested, now)?;
        let mut approvers = Approvers {
            interested: vec![self.requester.clone(), self.beneficiary.clone()],
            approved_by: self.approvers.iter().map(|approver| approver.person.clone()).collect(),
            needed: policy.approvals_needed(),
        };
        approvers.approve(&by.person, own).map_err(Refusal::Approver)?;
        self.approvers.push(by);
        if approvers.suffice() && every_kind_approves(&self.approvers, policy) {
            self.state = State::Approved;
            self.activate_before = Some(now.saturating_add(self.activate_within));
        }
        Ok(())
    }

    /// Somebody denies, whom it does not take anybody else to do.
    ///
    /// Errors: nothing has changed then.
    pub fn deny(&mut self, now: i64) -> Result<(), Refusal> {
        self.must_be(State::Requested, now)?;
        self.state = State::Denied;
        Ok(())
    }

    /// Whoever asked takes it back before it is approved.
    ///
    /// Errors: nothing has changed then.
    pub fn cancel(&mut self, by: &Person, now: i64) -> Result<(), Refusal> {
        if *by != self.requester {
            return Err(Refusal::SomebodyElse);
        }
        self.must_be(State::Requested, now)?;
        self.state = State::Cancelled;
        Ok(())
    }

    /// The beneficiary begins to use it: from here the duration runs. Again, it changes nothing. Returns its end.
    ///
    /// Errors: nothing has changed then.
    pub fn activate(&mut self, by: &Person, policy: &Policy, now: i64) -> Result<i64, Refusal> {
        if *by != self.beneficiary {
            return Err(Refusal::SomebodyElse);
        }
        if let (State::Active, Some(end)) = (self.state_at(now), self.ends_at) {
            return Ok(end);
        }
        self.must_be(State::Approved, now)?;
        if self.approvers.len() < policy.approvals_needed() || !every_kind_approves(&self.approvers, policy) {
            return Err(Refusal::Approvals);
        }
        let end = now.saturating_add(self.duration);
        self.state = State::Active;
        self.ends_at = Some(end);
        Ok(end)
    }

    /// Ends it before its time: the beneficiary while it is active, or somebody who may revoke it.
    ///
    /// Errors: nothing has changed then.
    pub fn end(&mut self, by: &Person, may_revoke: bool, now: i64) -> Result<End, Refusal> {
        match self.state_at(now) {
            State::Active if *by == self.beneficiary => {
                self.state = State::Ended;
                self.over_at = Some(now);
                Ok(End::Ended)
            }
            _ if !may_revoke && *by != self.beneficiary => Err(Refusal::SomebodyElse),
            State::Approved if !may_revoke => Err(Refusal::SomebodyElse),
            _ => self.revoke(now).map(|()| End::Revoked),
        }
    }

    /// Takes it away, as when the beneficiary is no member any more.
    ///
    /// Errors: nothing has changed then.
    pub fn revoke(&mut self, now: i64) -> Result<(), Refusal> {
        match self.state_at(now) {
            State::Approved => {}
            State::Active => self.over_at = Some(now),
            state => return Err(Refusal::State(state)),
        }
        self.state = State::Revoked;
        Ok(())
    }

    /// A third person has looked at it.
    ///
    /// Errors: nothing has changed then.
    pub fn sign_off(&mut self, by: &Person, now: i64) -> Result<(), Refusal> {
        if self.is_interested(by) {
            return Err(Refusal::Interested);
        }
        match self.state_at(now) {
            State::Ended | State::Revoked => {
                self.over_at = self.over_since(now);
                self.state = State::SignedOff;
                Ok(())
            }
            state => Err(Refusal::State(state)),
        }
    }

    /// Stores that its time is over. False if there is nothing to store.
    pub fn settle(&mut self, now: i64) -> bool {
        let state = self.state_at(now);
        let changed = state != self.state;
        if changed && state == State::Ended {
            self.over_at = self.ends_at;
        }
        self.state = state;
        changed
    }

    /// Whether this is who asked, or who uses it.
    pub fn is_interested(&self, person: &Person) -> bool {
        *person == self.requester || *person == self.beneficiary
    }

    fn must_be(&self, needed: State, now: i64) -> Result<(), Refusal> {
        match self.state_at(now) {
            state if state == needed => Ok(()),
            state => Err(Refusal::State(state)),
        }
    }
}

/// Whether each permission that approvers must hold is held by one of them, where nobody stands for two.
fn every_kind_approves(approvers: &[Approver], policy: &Policy) -> bool {
    most_covered(&policy.approver_permissions, approvers) == policy.approver_permissions.len()
}

/// How many of the permissions can be covered by approvers, each by one of its own. There are at most three.
fn most_covered(kinds: &[Kind], approvers: &[Approver]) -> usize {
    let Some((first, others)) = kinds.split_first() else { return 0 };
    let with = |(number, approver): (usize, &Approver)| {
        approver.held.contains(first).then(|| {
            let left: Vec<Approver> = [&approvers[..number], &approvers[number + 1..]].concat();
            1 + most_covered(others, &left)
        })
    };
    let covering = approvers.iter().enumerate().filter_map(with).max().unwrap_or(0);
    covering.max(most_covered(others, approvers))
}

/// The rules of a grant that permitted nothing of what was needed, each written as `domain:action`.
pub fn unused(permissions: &PermissionSet, needed: &[Kind]) -> Vec<String> {
    let is_unused = |rule: &Rule| {
        let alone: PermissionSet = [rule.clone()].into_iter().collect();
        !needed.iter().any(|(domain, action)| alone.allows(domain, action))
    };
    permissions.rules().filter(is_unused).map(|rule| rule.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn person(n: u8) -> Person {
        // Two issuers with the same subjects.
        Person { issuer: format!("https://{}.example/", n % 2), subject: format!("s{}", n / 2) }
    }

    fn kind(n: u8) -> Kind {
        ("security".to_owned(), format!("approve{n}"))
    }

    /// The permissions of which the bits are set.
    fn held(bits: u8) -> Vec<Kind> {
        (0..3).filter(|n| bits & 1 << n != 0).map(kind).collect()
    }

    fn approver(n: u8, bits: u8) -> Approver {
        Approver { person: person(n), held: held(bits) }
    }

    fn policy(approvals: usize, kinds: u8, request_expires: i64, activate_within: i64) -> Policy {
        Policy {
            approvals,
            approver_permissions: held(kinds),
            request_expires,
            activate_within,
            ..Policy::default_with(Vec::new())
        }
    }

    fn requested(approvals: usize) -> (Grant, Policy) {
        let policy = policy(approvals, 0, 10, 10);
        (Grant::request(person(0), person(2), 5, &policy, 0), policy)
    }

    #[test]
    fn a_rule_is_unused_that_permits_nothing_of_what_was_needed() {
        let granted: PermissionSet =
            ["finding:*", "*:read", "secret:reveal"].iter().map(|rule| Rule::parse(rule).unwrap()).collect();
        let needed = |kinds: &[(&str, &str)]| -> Vec<Kind> {
            kinds.iter().map(|(domain, action)| ((*domain).to_owned(), (*action).to_owned())).collect()
        };
        assert_eq!(unused(&granted, &needed(&[])), ["*:read", "finding:*", "secret:reveal"]);
        assert_eq!(unused(&granted, &needed(&[("finding", "update")])), ["*:read", "secret:reveal"]);
        assert_eq!(unused(&granted, &needed(&[("finding", "read"), ("a", "b")])), ["secret:reveal"]);
    }

    #[test]
    fn a_state_is_read_as_it_is_written() {
        for state in State::ALL {
            assert_eq!(State::parse(state.name()), Some(state));
        }
        assert_eq!((State::parse("Active"), Verdict::parse("fine")), (None, None));
        for verdict in [Verdict::Appropriate, Verdict::Inappropriate] {
            assert_eq!(Verdict::parse(verdict.name()), Some(verdict));
        }
    }

    #[test]
    fn neither_who_asked_nor_who_gains_approves_or_signs_off() {
        let (mut grant, policy) = requested(1);
        for interested in [0, 2] {
            let approval = grant.approve(approver(interested, 0), false, &policy, 0);
            assert_eq!(approval, Err(Refusal::Approver(Objection::OwnRequest)));
        }
        // The subject of another issuer is another person.
        assert_eq!(grant.approve(approver(1, 0), false, &policy, 0), Ok(()));
        grant.activate(&person(2), &policy, 0).unwrap();
        for interested in [0, 2] {
            assert_eq!(grant.sign_off(&person(interested), 5), Err(Refusal::Interested));
        }
        assert_eq!(grant.sign_off(&person(3), 5), Ok(()));
    }

    #[test]
    fn the_duration_runs_from_the_activation_and_ends_at_the_microsecond() {
        let (mut grant, policy) = requested(1);
        grant.approve(approver(4, 0), false, &policy, 9).unwrap();
        assert_eq!(grant.activate_before, Some(19));
        assert_eq!(grant.clone().activate(&person(2), &policy, 19), Err(Refusal::State(State::Expired)));
        assert_eq!(grant.activate(&person(2), &policy, 18), Ok(23));
        assert_eq!(grant.activate(&person(2), &policy, 22), Ok(23), "again it changes nothing");
        assert!(grant.in_force(22) && !grant.in_force(23));
        assert_eq!(grant.activate(&person(2), &policy, 23), Err(Refusal::State(State::Ended)));
        assert!(!grant.settle(22) && grant.settle(30) && grant.over_at == Some(23));
    }

    #[test]
    fn only_the_beneficiary_activates_and_only_the_requester_cancels() {
        let (mut grant, policy) = requested(1);
        assert_eq!(grant.cancel(&person(2), 0), Err(Refusal::SomebodyElse));
        grant.approve(approver(4, 0), false, &policy, 0).unwrap();
        assert_eq!(grant.activate(&person(0), &policy, 0), Err(Refusal::SomebodyElse));
        assert_eq!(grant.cancel(&person(0), 0), Err(Refusal::State(State::Approved)));
        assert_eq!(grant.end(&person(2), false, 0), Err(Refusal::SomebodyElse), "it is not theirs to take back");
        assert_eq!(grant.end(&person(6), true, 0), Ok(End::Revoked));
    }

    #[test]
    fn of_two_kinds_of_approvers_each_needs_one_of_its_own() {
        let policy = policy(2, 0b11, 10, 10);
        let mut grant = Grant::request(person(0), person(0), 5, &policy, 0);
        // Whoever holds both stands for either, whichever is lacking at the end.
        for (who, bits) in [(2, 0b11), (4, 0)] {
            grant.approve(approver(who, bits), false, &policy, 0).unwrap();
            assert_eq!(grant.state, State::Requested);
        }
        grant.approve(approver(6, 0b01), false, &policy, 0).unwrap();
        assert_eq!(grant.state, State::Approved);
    }

    #[test]
    fn a_policy_made_stricter_counts_for_what_was_approved_before() {
        let (mut grant, policy) = requested(1);
        grant.approve(approver(4, 0), false, &policy, 0).unwrap();
        let stricter = Policy { approvals: 2, ..policy };
        assert_eq!(grant.activate(&person(2), &stricter, 0), Err(Refusal::Approvals));
        let (grant, none) = requested(0);
        assert_eq!((grant.state, grant.activate_before), (State::Approved, Some(10)));
        assert_eq!(grant.clone().activate(&person(2), &stricter, 0), Err(Refusal::Approvals));
        assert_eq!(grant.clone().activate(&person(2), &none, 0), Ok(5));
    }

    #[derive(Debug, Clone)]
    enum Call {
        Approve(u8, u8, bool),
        Deny,
        Cancel(u8),
        Activate(u8),
        End(u8, bool),
        Revoke,
        SignOff(u8),
        Settle,
    }

    fn call() -> impl Strategy<Value = Call> {
        prop_oneof![
            6 => (0..6u8, 0..4u8, prop::bool::weighted(0.1)).prop_map(|(who, bits, own)| Call::Approve(who, bits, own)),
            1 => Just(Call::Deny),
            1 => (0..6u8).prop_map(Call::Cancel),
            6 => (0..6u8).prop_map(Call::Activate),
            1 => (0..6u8, any::<bool>()).prop_map(|(who, may)| Call::End(who, may)),
            1 => Just(Call::Revoke),
            3 => (0..6u8).prop_map(Call::SignOff),
            2 => Just(Call::Settle),
        ]
    }

    fn apply(grant: &mut Grant, call: &Call, policy: &Policy, now: i64) -> bool {
        let before = grant.clone();
        match call {
            Call::Approve(who, bits, own) => grant.approve(approver(*who, *bits), *own, policy, now).is_ok(),
            Call::Deny => grant.deny(now).is_ok(),
            Call::Cancel(who) => grant.cancel(&person(*who), now).is_ok(),
            Call::Activate(who) => grant.activate(&person(*who), policy, now).is_ok() && *grant != before,
            Call::End(who, may) => grant.end(&person(*who), *may, now).is_ok(),
            Call::Revoke => grant.revoke(now).is_ok(),
            Call::SignOff(who) => grant.sign_off(&person(*who), now).is_ok(),
            Call::Settle => grant.settle(now),
        }
    }

    /// Whether the table of states has such a step.
    fn is_a_path(from: State, to: State) -> bool {
        use State::{Active, Approved, Cancelled, Denied, Ended, Expired, Requested, Revoked, SignedOff};
        matches!(
            (from, to),
            (Requested, Approved | Denied | Cancelled | Expired)
                | (Approved, Active | Expired | Revoked)
                | (Active, Ended | Revoked)
                | (Ended | Revoked, SignedOff)
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn no_path_leads_past_the_rules(
            (requester, beneficiary) in (0..6u8, 0..6u8),
            (approvals, kinds, later_approvals) in (0..4usize, 0..4u8, 0..4usize),
            (expires, within, duration) in (1..40i64, 1..40i64, 1..40i64),
            calls in prop::collection::vec((call(), 0..8i64, any::<bool>()), 1..40),
        ) {
            let first = policy(approvals, kinds, expires, within);
            let second = policy(later_approvals, kinds, expires, within);
            let mut grant = Grant::request(person(requester), person(beneficiary), duration, &first, 0);
            let (mut now, mut own_approved, mut active_since) = (0, false, None);
            for (call, later, changed_policy) in calls {
                now += later;
                let policy = if changed_policy { &second } else { &first };
                let (before, was) = (grant.clone(), grant.state_at(now));
                let changed = apply(&mut grant, &call, policy, now);
                // A refused call changes nothing, and the same call again changes nothing more.
                prop_assert_eq!(changed, grant != before, "{:?}", call);
                let mut again = grant.clone();
                prop_assert!(!apply(&mut again, &call, policy, now) && again == grant, "{:?} twice", call);
                // No state without its path: also time takes none but those of the table.
                let is = grant.state_at(now);
                prop_assert!(was == is || is_a_path(was, is), "{:?} to {:?} by {:?}", was, is, call);
                prop_assert!(before.state == was || is_a_path(before.state, was));
                match &call {
                    Call::Approve(who, _, own) if changed => {
                        let interested = grant.is_interested(&person(*who));
                        own_approved |= interested;
                        prop_assert!(*own || !interested);
                    }
                    Call::Activate(who) if changed => {
                        prop_assert_eq!(*who, beneficiary);
                        prop_assert!(grant.approvers.len() >= policy.approvals_needed());
                        active_since = Some(now);
                    }
                    Call::Cancel(who) if changed => prop_assert_eq!(*who, requester),
                    Call::End(who, may) if changed => prop_assert!(*may || *who == beneficiary && was == State::Active),
                    Call::SignOff(who) if changed => prop_assert!(![requester, beneficiary].contains(who)),
                    _ => {}
                }
                // Approvers: each once, none interested unless that was allowed.
                let people: Vec<_> = grant.approvers.iter().map(|approver| &approver.person).collect();
                prop_assert!((1..people.len()).all(|n| !people[..n].contains(&people[n])));
                prop_assert!(own_approved || !people.iter().any(|person| grant.is_interested(person)));
                // In force from its activation, for its duration and no longer.
                if grant.in_force(now) {
                    prop_assert!(active_since.is_some_and(|since| now < since + duration));
                }
                prop_assert!(!grant.in_force(i64::MAX) && (active_since.is_some() || grant.ends_at.is_none()));
                prop_assert!(!active_since.is_some_and(|since| grant.in_force(since + duration)));
                // When it was over is known, and never after its time.
                if let (Some(since), State::Ended | State::Revoked | State::SignedOff) = (active_since, is) {
                    let over = grant.over_since(now);
                    prop_assert!(over.is_some_and(|over| (since..=since + duration).contains(&over)));
                }
            }
        }
    }
}
