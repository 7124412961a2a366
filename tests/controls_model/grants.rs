//! Grants of break-glass: the calls, and what each should do.

use super::call::SUBJECTS;
use super::organization::*;
use crate::common::issuer::ISSUER;
use pg_tenancy_core::controls::approval::Person;
use pg_tenancy_core::controls::break_glass::{Approver, End, Grant, Refusal, State};
use pg_tenancy_core::controls::break_glass_policy::Policy;
use pg_tenancy_core::controls::permission_set::PermissionSet;

const MINUTE: i64 = 60_000_000;

/// The policies of the organizations, as `tenancy.set_break_glass_policy` takes them.
pub const POLICY: &str = r#"{"max_duration": "2 hours", "ceiling": ["finding:*", "member:*", "exception:*", "review:*"],
    "overrides": ["retire_in_use"]}"#;
/// The only guardrail that a grant may pass here.
pub const OVERRIDE: &str = "retire_in_use";
const MAX_DURATION: i64 = 120 * MINUTE;
const CEILING: [&str; 4] = ["finding:*", "member:*", "exception:*", "review:*"];
const MAX_OPEN: usize = 3;

#[derive(Clone, Debug)]
pub struct Granted {
    pub is: Grant,
    pub permissions: &'static str,
    /// A guardrail that it passes, if it names one.
    overrides: &'static str,
}

impl Granted {
    pub fn can_be_used(&self, now: i64) -> bool {
        [State::Approved, State::Active].contains(&self.is.state_at(now))
    }

    pub fn beneficiary(&self) -> &'static str {
        let named = |subject: &&&str| **subject == self.is.beneficiary.subject;
        SUBJECTS.iter().find(named).copied().unwrap_or(SUBJECTS[0])
    }
}

#[derive(Clone, Debug)]
pub enum GrantCall {
    Request { beneficiary: &'static str, permissions: &'static str, overrides: &'static str, minutes: i64 },
    Approve,
    Deny,
    Cancel,
    End,
    SignOff,
    Elevate,
}

pub fn person(subject: &str) -> Person {
    Person { issuer: ISSUER.to_owned(), subject: subject.to_owned() }
}

fn permissions(written: &str) -> PermissionSet {
    set(&[written.to_owned()])
}

fn policy(of: &Organization) -> Policy {
    Policy { approvals: of.approvals, ..Policy::default_with(Vec::new()) }
}

fn sqlstate(refusal: Refusal) -> Refused {
    match refusal {
        Refusal::State(_) => WRONG_STATE,
        Refusal::Approver(pg_tenancy_core::controls::approval::Objection::ApprovedBefore) => WRONG_STATE,
        _ => NOT_PERMITTED,
    }
}

/// Whether a grant permits something: it is active, its time is not over, and its beneficiary is a member.
pub fn in_force(of: &Organization, id: &str, now: i64) -> bool {
    of.grants.get(id).is_some_and(|granted| {
        let runs = granted.is.state == State::Active && granted.is.ends_at.is_some_and(|end| now < end);
        runs && of.held(&granted.is.beneficiary.subject).is_some()
    })
}

fn must_be_allowed(of: &Organization, written: &str, duration: i64, beneficiary: &Person) -> Result<(), Refused> {
    if !(1..=MAX_DURATION).contains(&duration) {
        return Err(BAD_ARGUMENT);
    }
    let within = permissions(written).within(&set(&CEILING.map(str::to_owned)));
    let uses = of.held(&beneficiary.subject).is_some_and(|held| held.allows("break_glass", "use"));
    if within && uses { Ok(()) } else { Err(NOT_PERMITTED) }
}

/// Whether a person has used a grant whose sign-off is overdue.
fn is_unsigned(of: &Organization, beneficiary: &Person, now: i64) -> bool {
    let within = policy(of).sign_off_within;
    let theirs = of.grants.values().map(|granted| &granted.is).filter(|grant| grant.beneficiary == *beneficiary);
    let mut open = theirs.filter(|grant| grant.state != State::SignedOff);
    open.any(|grant| grant.over_at.or(grant.ends_at).is_some_and(|over| over + within <= now))
}

/// A person is no active member any more. Under their own grant nobody goes on from there.
pub fn member_gone(of: &mut Organization, subject: &str, caller: Option<&Caller>, now: i64) -> Result<(), Refused> {
    if caller.is_some_and(|caller| subject == caller.subject && !caller.elevations.is_empty()) {
        return Err(NOT_PERMITTED);
    }
    let theirs = of.grants.values_mut().filter(|granted| granted.is.beneficiary.subject == subject);
    let revoked = theirs.map(|granted| u64::from(granted.is.revoke(now).is_ok())).sum();
    of.told("break_glass", "break_glass_revoked", revoked);
    Ok(())
}

/// Somebody ends a grant, or revokes it.
pub fn end(of: &mut Organization, id: &str, by: &Person, may_revoke: bool, now: i64) -> Result<(), Refused> {
    let granted = of.grants.get_mut(id).ok_or(UNKNOWN)?;
    let operation = match granted.is.end(by, may_revoke, now).map_err(sqlstate)? {
        End::Ended => "break_glass_ended",
        End::Revoked => "break_glass_revoked",
    };
    of.told("break_glass", operation, 1);
    Ok(())
}

pub fn settle(of: &mut Organization, now: i64) {
    let (mut ended, mut expired) = (0, 0);
    for granted in of.grants.values_mut() {
        if granted.is.settle(now) {
            match granted.is.state {
                State::Ended => ended += 1,
                _ => expired += 1,
            }
        }
    }
    of.told("break_glass", "break_glass_ended", ended);
    of.told("break_glass", "break_glass_expired", expired);
}

impl GrantCall {
    pub fn sql(&self, id: &str) -> String {
        match self {
            GrantCall::Request { beneficiary, permissions, overrides, minutes } => format!(
                "request_break_glass('test', duration => '{minutes} minutes', permissions => '{{{permissions}}}', \
                 overrides => '{{{overrides}}}', for_subject => '{beneficiary}')"
            ),
            GrantCall::Approve => format!("approve_break_glass('{id}', 'test')"),
            GrantCall::Deny => format!("deny_break_glass('{id}', 'test')"),
            GrantCall::Cancel => format!("cancel_break_glass('{id}')"),
            GrantCall::End => format!("end_break_glass('{id}', 'test')"),
            GrantCall::SignOff => format!("sign_off_break_glass('{id}', 'appropriate', 'test')"),
            GrantCall::Elevate => format!("break_glass('{id}')"),
        }
    }

    pub fn make(
        &self,
        id: &str,
        of: &mut Organization,
        caller: &Caller,
        now: i64,
        answer: Option<&str>,
    ) -> Result<String, Refused> {
        let by = person(caller.subject);
        let policy = policy(of);
        let known = |of: &Organization| of.grants.get(id).cloned().ok_or(UNKNOWN);
        let (granted, operation) = match self {
            GrantCall::Request { beneficiary, permissions, overrides, minutes } => {
                caller.must("break_glass", "request")?;
                let (beneficiary, duration) = (person(beneficiary), minutes * MINUTE);
                let theirs = of.grants.iter().filter(|(_, granted)| granted.is.beneficiary == beneficiary);
                let open: Vec<_> = theirs.filter(|(_, granted)| granted.is.is_open(now)).collect();
                let same = open.iter().find(|(_, granted)| {
                    granted.is.state == State::Requested
                        && granted.is.requester == by
                        && granted.permissions == *permissions
                        && granted.overrides == *overrides
                        && granted.is.duration == duration
                });
                if let Some((id, _)) = same {
                    return Ok(id.to_string());
                }
                must_be_allowed(of, permissions, duration, &beneficiary)?;
                if !["", OVERRIDE].contains(overrides) {
                    return Err(NOT_PERMITTED);
                }
                if open.len() >= MAX_OPEN {
                    return Err(WRONG_STATE);
                }
                if of.enforces("unsigned_break_glass") && is_unsigned(of, &beneficiary, now) {
                    return Err(WRONG_STATE);
                }
                let is = Grant::request(by, beneficiary, duration, &policy, now);
                let id = new_id(&of.grants, answer);
                of.grants.insert(id.clone(), Granted { is, permissions, overrides });
                of.told("break_glass", "break_glass_requested", 1);
                return Ok(id);
            }
            GrantCall::Approve => {
                caller.must("break_glass", "approve")?;
                of.must_hold_action(caller, "break_glass", "approve")?;
                let mut granted = known(of)?;
                must_be_allowed(of, granted.permissions, granted.is.duration, &granted.is.beneficiary)?;
                of.must_hold(caller, &permissions(granted.permissions))?;
                let approver = Approver { person: by, held: Vec::new() };
                let own = !of.enforces("self_approved_break_glass");
                granted.is.approve(approver, own, &policy, now).map_err(sqlstate)?;
                (granted, "break_glass_approved")
            }
            GrantCall::Deny => {
                caller.must("break_glass", "approve")?;
                of.must_hold_action(caller, "break_glass", "approve")?;
                let mut granted = known(of)?;
                granted.is.deny(now).map_err(sqlstate)?;
                (granted, "break_glass_denied")
            }
            GrantCall::Cancel => {
                let mut granted = known(of)?;
                if granted.is.requester != by {
                    return Err(UNKNOWN);
                }
                granted.is.cancel(&by, now).map_err(sqlstate)?;
                (granted, "break_glass_cancelled")
            }
            GrantCall::End => {
                let found = known(of);
                let own = found.as_ref().is_ok_and(|granted| granted.is.beneficiary == by);
                if !own {
                    caller.must("break_glass", "approve")?;
                    of.must_hold_action(caller, "break_glass", "approve")?;
                }
                let may = || of.held_now(caller).map(|now| now.allows("break_glass", "approve"));
                let may_revoke = !own || caller.signed_in.allows("break_glass", "approve") && may()?;
                found?;
                end(of, id, &by, may_revoke, now)?;
                return Ok(String::new());
            }
            GrantCall::SignOff => {
                caller.must("break_glass", "sign_off")?;
                of.must_hold_action(caller, "break_glass", "sign_off")?;
                let mut granted = known(of)?;
                granted.is.sign_off(&by, now).map_err(sqlstate)?;
                (granted, "break_glass_signed_off")
            }
            GrantCall::Elevate => {
                let mut granted = known(of)?;
                if granted.is.beneficiary != by {
                    return Err(NOT_PERMITTED);
                }
                of.must_hold_action(caller, "break_glass", "use")?;
                must_be_allowed(of, granted.permissions, granted.is.duration, &by)?;
                let before = granted.is.state;
                granted.is.activate(&by, &policy, now).map_err(sqlstate)?;
                if before == State::Active {
                    return Ok(end_of(&granted).to_string());
                }
                // The process that records it has taken its time.
                if let Some(end) = answer.and_then(|answer| answer.parse::<i64>().ok()) {
                    let late = end - end_of(&granted);
                    assert!((0..10_000_000).contains(&late), "it was activated {late} microseconds late");
                    granted.is.ends_at = Some(end);
                }
                (granted, "break_glass_activated")
            }
        };
        let end = end_of(&granted);
        of.grants.insert(id.to_owned(), granted);
        of.told("break_glass", operation, 1);
        Ok(if operation == "break_glass_activated" { end.to_string() } else { String::new() })
    }
}

fn end_of(granted: &Granted) -> i64 {
    granted.is.ends_at.unwrap_or_default()
}

/// What the grant adds to the role of its beneficiary.
pub fn adds(of: &Organization, id: &str) -> PermissionSet {
    permissions(of.grants[id].permissions)
}
