//! A request that others approve: who may, how many must, and until when it counts.
//!
//! Times are microseconds since 1970, and arguments. Time decides: what has ended has ended, whether or not its stored
//! state says so yet.

/// A person, who is an issuer's subject. A name alone is none: another issuer may give it to somebody else.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Person {
    /// `iss` of the token.
    pub issuer: String,
    /// `sub` of the token.
    pub subject: String,
}

/// Where a request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nobody, or not everybody needed, has approved it.
    Requested,
    /// It is in force until its end.
    Approved,
    /// Somebody has denied it.
    Denied,
    /// Its time is over, or nobody decided in time.
    Expired,
    /// It was taken back, before or after it was approved.
    Withdrawn,
}

impl State {
    /// Every state.
    pub const ALL: [State; 5] = [State::Requested, State::Approved, State::Denied, State::Expired, State::Withdrawn];

    /// The word that is stored.
    pub fn name(self) -> &'static str {
        match self {
            State::Requested => "requested",
            State::Approved => "approved",
            State::Denied => "denied",
            State::Expired => "expired",
            State::Withdrawn => "withdrawn",
        }
    }

    /// The state that a stored word names; `None` for any other text.
    pub fn parse(name: &str) -> Option<Self> {
        State::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// Who must approve, and who has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approvers {
    /// Who asked, and who gains by it: none of them may approve.
    pub interested: Vec<Person>,
    /// Who has approved, each once.
    pub approved_by: Vec<Person>,
    /// How many must approve.
    pub needed: usize,
}

/// Why somebody's approval does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Objection {
    /// Whoever would approve has asked for it, or gains by it.
    OwnRequest,
    /// Whoever would approve has approved it before.
    ApprovedBefore,
}

impl Approvers {
    /// Somebody approves. `own` says whether an interested person may do that.
    ///
    /// Errors: nothing has changed then.
    pub fn approve(&mut self, by: &Person, own: bool) -> Result<(), Objection> {
        if !own && self.is_interested(by) {
            return Err(Objection::OwnRequest);
        }
        if self.approved_by.contains(by) {
            return Err(Objection::ApprovedBefore);
        }
        self.approved_by.push(by.clone());
        Ok(())
    }

    /// Whether as many have approved as must.
    pub fn suffice(&self) -> bool {
        self.approved_by.len() >= self.needed
    }

    /// Whether this is somebody who asked, or gains by it.
    pub fn is_interested(&self, person: &Person) -> bool {
        self.interested.contains(person)
    }
}

/// A request and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// The state as it is stored. [`Approval::state_at`] has the one that counts.
    pub state: State,
    /// Who must approve, and who has.
    pub approvers: Approvers,
    /// When it is too late to decide.
    pub decide_before: i64,
    /// How long the approval counts, from the moment that it is given.
    pub valid_for: i64,
    /// When the approval ends; `None` until it is given.
    pub ends_at: Option<i64>,
}

/// Why a call changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The request is in another state than the call needs.
    State(State),
    /// This person's approval does not count.
    Approver(Objection),
}

impl Approval {
    /// The state at a time: it is expired once its time is over.
    pub fn state_at(&self, now: i64) -> State {
        let over = match self.state {
            State::Requested => now >= self.decide_before,
            State::Approved => self.ends_at.is_none_or(|end| now >= end),
            State::Denied | State::Expired | State::Withdrawn => false,
        };
        if over { State::Expired } else { self.state }
    }

    /// Whether the approval counts at that time.
    pub fn in_force(&self, now: i64) -> bool {
        self.state_at(now) == State::Approved
    }

    /// Somebody approves. `own` says whether an interested person may do that.
    ///
    /// Errors: nothing has changed then.
    pub fn approve(&mut self, by: &Person, own: bool, now: i64) -> Result<(), Refusal> {
        self.must_be_open(now)?;
        self.approvers.approve(by, own).map_err(Refusal::Approver)?;
        if self.approvers.suffice() {
            self.state = State::Approved;
            self.ends_at = Some(now.saturating_add(self.valid_for));
        }
        Ok(())
    }

    /// Somebody denies, whom it does not take anybody else to do.
    ///
    /// Errors: nothing has changed then.
    pub fn deny(&mut self, now: i64) -> Result<(), Refusal> {
        self.must_be_open(now)?;
        self.state = State::Denied;
        Ok(())
    }

    /// Takes a request back, or an approval that is in force.
    ///
    /// Errors: nothing has changed then.
    pub fn withdraw(&mut self, now: i64) -> Result<(), Refusal> {
        match self.state_at(now) {
            State::Requested | State::Approved => {
                self.state = State::Withdrawn;
                Ok(())
            }
            state => Err(Refusal::State(state)),
        }
    }

    /// Stores that the time is over. False if there is nothing to store.
    pub fn settle(&mut self, now: i64) -> bool {
        let state = self.state_at(now);
        let changed = state != self.state;
        self.state = state;
        changed
    }

    fn must_be_open(&self, now: i64) -> Result<(), Refusal> {
        match self.state_at(now) {
            State::Requested => Ok(()),
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

    fn requested(interested: &[u8], needed: usize, decide_before: i64, valid_for: i64) -> Approval {
        Approval {
            state: State::Requested,
            approvers: Approvers {
                interested: interested.iter().map(|n| person(*n)).collect(),
                approved_by: Vec::new(),
                needed,
            },
            decide_before,
            valid_for,
            ends_at: None,
        }
    }

    #[test]
    fn a_state_is_read_as_it_is_written() {
        for state in State::ALL {
            assert_eq!(State::parse(state.name()), Some(state));
        }
        assert_eq!(State::parse("Approved"), None);
    }

    #[test]
    fn the_subject_of_another_issuer_is_another_person() {
        let mut request = requested(&[0], 1, 10, 10);
        assert_eq!(request.approve(&person(0), false, 0), Err(Refusal::Approver(Objection::OwnRequest)));
        assert_eq!(person(0).subject, person(1).subject);
        assert_eq!(request.approve(&person(1), false, 0), Ok(()));
    }

    #[test]
    fn an_approval_ends_at_the_microsecond() {
        let mut request = requested(&[0], 1, 10, 5);
        assert_eq!(request.clone().approve(&person(1), false, 10), Err(Refusal::State(State::Expired)));
        request.approve(&person(1), false, 9).unwrap();
        assert!(request.in_force(13) && !request.in_force(14));
        assert_eq!(request.withdraw(14), Err(Refusal::State(State::Expired)));
        assert!(!request.settle(13) && request.settle(14) && !request.settle(14));
    }

    #[derive(Debug, Clone)]
    enum Call {
        Approve(u8, bool),
        Deny,
        Withdraw,
        Settle,
    }

    fn call() -> impl Strategy<Value = Call> {
        prop_oneof![
            4 => (0..6u8, prop::bool::weighted(0.1)).prop_map(|(who, own)| Call::Approve(who, own)),
            1 => Just(Call::Deny),
            1 => Just(Call::Withdraw),
            2 => Just(Call::Settle),
        ]
    }

    proptest! {
        #[test]
        fn no_path_leads_past_the_rules(
            interested in prop::collection::vec(0..6u8, 1..4),
            needed in 1..4usize,
            decide_before in 1..60i64,
            valid_for in 1..60i64,
            calls in prop::collection::vec((call(), 0..8i64), 1..30),
        ) {
            let mut request = requested(&interested, needed, decide_before, valid_for);
            let (mut now, mut own_approved) = (0, false);
            for (call, later) in calls {
                now += later;
                let before = request.clone();
                let changed = match &call {
                    Call::Approve(who, own) => {
                        let done = request.approve(&person(*who), *own, now).is_ok();
                        own_approved |= done && interested.contains(who);
                        prop_assert!(!done || *own || !interested.contains(who));
                        done
                    }
                    Call::Deny => request.deny(now).is_ok(),
                    Call::Withdraw => request.withdraw(now).is_ok(),
                    Call::Settle => request.settle(now),
                };
                // A refused call changes nothing, and the same call again changes nothing more.
                prop_assert_eq!(changed, request != before);
                if !matches!(call, Call::Approve(..)) {
                    let mut again = request.clone();
                    let repeated = match call {
                        Call::Deny => again.deny(now).is_ok(),
                        Call::Withdraw => again.withdraw(now).is_ok(),
                        _ => again.settle(now),
                    };
                    prop_assert!(!repeated && again == request);
                }
                // What is over stays over, and only what was open is decided.
                if matches!(before.state_at(now), State::Denied | State::Expired | State::Withdrawn) {
                    prop_assert_eq!(request.state_at(now), before.state_at(now));
                }
                if request.state == State::Approved && before.state != State::Approved {
                    prop_assert!(now < decide_before && request.ends_at == Some(now + valid_for));
                }
                // Each approver counts once, and none is interested unless that was allowed.
                let approvers = &request.approvers.approved_by;
                prop_assert!((1..approvers.len()).all(|n| !approvers[..n].contains(&approvers[n])));
                prop_assert!(own_approved || !approvers.iter().any(|person| request.approvers.is_interested(person)));
                prop_assert!(!request.in_force(now) || approvers.len() == needed);
                prop_assert!(!request.in_force(i64::MAX));
            }
        }
    }
}
