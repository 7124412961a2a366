//! Guardrails of an organization: the calls, and what each should do.

use super::organization::*;
use crate::rotation_model::Random;
use pg_tenancy_core::guardrail::State;

/// The guardrails that change what the other calls do, with their state for all organizations here.
pub const ALL: [(&str, State); 8] = [
    ("grant_under_elevation", State::Warn),
    ("last_admin", State::Warn),
    ("overdue_review", State::Warn),
    ("self_approved_action", State::Off),
    ("self_approved_break_glass", State::Off),
    ("self_approved_exception", State::Off),
    ("unreviewed_exception", State::Off),
    ("unsigned_break_glass", State::Off),
];

const STATES: [State; 3] = [State::Off, State::Warn, State::Enforce];

#[derive(Clone, Debug)]
pub enum GuardrailCall {
    Set(&'static str, State),
    Clear(&'static str),
}

pub fn any_guardrail_call(random: &mut Random) -> GuardrailCall {
    let (name, _) = random.pick(&ALL);
    match random.below(3) {
        0 => GuardrailCall::Clear(name),
        _ => GuardrailCall::Set(name, random.pick(&STATES)),
    }
}

fn of_all(name: &str) -> State {
    ALL.iter().find(|(known, _)| *known == name).unwrap().1
}

impl Organization {
    fn guardrail(&self, name: &str) -> State {
        self.guardrails.get(name).copied().unwrap_or(State::Off).max(of_all(name))
    }

    pub fn enforces(&self, name: &str) -> bool {
        self.guardrail(name) == State::Enforce
    }

    /// Sets or clears a guardrail of the organization.
    fn set_guardrail(&mut self, name: &'static str, state: Option<State>) {
        let before = self.guardrails.get(name).copied();
        if before == state {
            return;
        }
        // What was cleared is stored as such.
        let first = self.guardrails_set.insert(name);
        match state {
            Some(state) => self.guardrails.insert(name, state),
            None => self.guardrails.remove(name),
        };
        self.told("guardrail", if first { "insert" } else { "update" }, 1);
    }
}

impl GuardrailCall {
    pub fn sql(&self, place: &str) -> String {
        match self {
            GuardrailCall::Set(name, state) => format!("set_guardrail('{name}', '{}', 'test', {place})", state.name()),
            GuardrailCall::Clear(name) => format!("clear_guardrail('{name}', {place}, 'test')"),
        }
    }

    /// What whoever administers the database does, who may loosen it too.
    pub fn make(&self, of: &mut Organization) {
        match self {
            GuardrailCall::Set(name, state) => of.set_guardrail(name, Some(*state)),
            GuardrailCall::Clear(name) => of.set_guardrail(name, None),
        }
    }

    /// What a member does: never is less in force than before.
    pub fn make_by(&self, of: &mut Organization, caller: &Caller) -> Result<String, Refused> {
        caller.must("guardrail", "update")?;
        let stricter = match self {
            GuardrailCall::Set(name, state) => *state >= of.guardrail(name),
            GuardrailCall::Clear(name) => of.guardrail(name) == of_all(name),
        };
        if !stricter {
            return Err(NOT_PERMITTED);
        }
        self.make(of);
        Ok(String::new())
    }
}
