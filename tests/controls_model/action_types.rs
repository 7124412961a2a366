//! Action types that need an approval: the calls, and what each should do.

use super::grants::person;
use super::organization::*;
use crate::rotation_model::Random;
use pg_tenancy_core::controls::approval::{Approval, Approvers, Objection, Refusal, State};

const HOUR: i64 = 3_600_000_000;
const DECIDE_WITHIN: i64 = 30 * 24 * HOUR;

pub const TYPES: [&str; 2] = ["deploy", "refund"];

#[derive(Clone, Debug)]
pub struct Requested {
    pub is: Approval,
    action_type: &'static str,
}

#[derive(Clone, Debug)]
pub enum ActionCall {
    Request {
        action_type: &'static str,
        hours: i64,
    },
    Decide {
        approve: bool,
    },
    Withdraw {
        action_type: &'static str,
    },
    /// Whether an approval is in force.
    Asked {
        action_type: &'static str,
    },
}

pub fn any_action_call(random: &mut Random) -> ActionCall {
    let action_type = random.pick(&TYPES);
    match random.below(10) {
        0..3 => ActionCall::Request { action_type, hours: random.pick(&[1, 2, 24, 96, 0]) },
        3..7 => ActionCall::Decide { approve: !random.one_in(6) },
        7 => ActionCall::Withdraw { action_type },
        _ => ActionCall::Asked { action_type },
    }
}

fn sqlstate(refusal: Refusal) -> Refused {
    match refusal {
        Refusal::Approver(Objection::OwnRequest) => NOT_PERMITTED,
        _ => WRONG_STATE,
    }
}

pub fn settle(of: &mut Organization, now: i64) {
    let expired = of.requests.values_mut().map(|requested| u64::from(requested.is.settle(now))).sum();
    of.told("secret", "action_expired", expired);
}

/// The ids of what is asked for or approved; that the time of others is over is recorded.
fn live(of: &mut Organization, action_type: &str, now: i64) -> Vec<String> {
    let mut expired = 0;
    let mut live = Vec::new();
    for (id, requested) in of.requests.iter_mut().filter(|(_, requested)| requested.action_type == action_type) {
        expired += u64::from(requested.is.settle(now));
        if [State::Requested, State::Approved].contains(&requested.is.state) {
            live.push(id.clone());
        }
    }
    of.told("secret", "action_expired", expired);
    live
}

/// Takes back what is asked for or approved.
pub fn withdraw(of: &mut Organization, id: &str, now: i64) -> Result<(), Refused> {
    let requested = of.requests.get_mut(id).ok_or(UNKNOWN)?;
    requested.is.withdraw(now).map_err(sqlstate)?;
    of.told("secret", "action_withdrawn", 1);
    Ok(())
}

impl ActionCall {
    pub fn sql(&self, id: &str) -> String {
        match self {
            ActionCall::Request { action_type, hours } => {
                format!("request_action_type('{action_type}', 'test', '{hours} hours')")
            }
            ActionCall::Decide { approve } => format!("decide_action_type('{id}', {approve}, 'test')"),
            ActionCall::Withdraw { action_type } => format!("withdraw_action_type('{action_type}', 'test')"),
            ActionCall::Asked { action_type } => format!("action_approval('{action_type}') IS NOT NULL"),
        }
    }

    pub fn reads(&self) -> bool {
        matches!(self, ActionCall::Asked { .. })
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
        match self {
            ActionCall::Asked { action_type } => {
                caller.must("action", "read")?;
                let mut theirs = of.requests.values().filter(|requested| requested.action_type == *action_type);
                let approved = theirs.any(|requested| requested.is.in_force(now));
                return Ok(if approved { "t" } else { "f" }.to_owned());
            }
            ActionCall::Request { action_type, hours } => {
                caller.must("action", "request")?;
                let valid_for = hours * HOUR;
                if valid_for == 0 {
                    return Err(BAD_ARGUMENT);
                }
                let live = live(of, action_type, now);
                let open = live.into_iter().find(|id| of.requests[id].is.state == State::Requested);
                if let Some(id) = open {
                    let is = &of.requests[&id].is;
                    let same = is.approvers.is_interested(&by) && is.valid_for == valid_for;
                    return if same { Ok(id) } else { Err(WRONG_STATE) };
                }
                let is = Approval {
                    state: State::Requested,
                    approvers: Approvers { interested: vec![by], approved_by: Vec::new(), needed: 1 },
                    decide_before: now + DECIDE_WITHIN,
                    valid_for,
                    ends_at: None,
                };
                let id = new_id(&of.requests, answer);
                of.requests.insert(id.clone(), Requested { is, action_type });
                of.told("secret", "action_requested", 1);
                return Ok(id);
            }
            ActionCall::Decide { approve } => {
                caller.must("action", "approve")?;
                of.must_hold_action(caller, "action", "approve")?;
                let own = !of.enforces("self_approved_action");
                let requested = of.requests.get_mut(id).ok_or(UNKNOWN)?;
                let (decided, operation) = match approve {
                    true => (requested.is.approve(&by, own, now), "action_approved"),
                    false => (requested.is.deny(now), "action_denied"),
                };
                decided.map_err(sqlstate)?;
                of.told("secret", operation, 1);
            }
            ActionCall::Withdraw { action_type } => {
                caller.must("action", "approve").or_else(|_| caller.must("action", "request"))?;
                let live = live(of, action_type, now);
                if live.is_empty() {
                    return Err(WRONG_STATE);
                }
                if live.iter().any(|id| !of.requests[id].is.approvers.is_interested(&by)) {
                    caller.must("action", "approve")?;
                }
                live.iter().try_for_each(|id| withdraw(of, id, now))?;
            }
        }
        Ok(String::new())
    }
}
