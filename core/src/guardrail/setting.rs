//! Which state of a guardrail is in force, and who may change it.

use super::State;

/// What is set of a guardrail, as one organization is bound by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// The state while nothing is set.
    pub default: State,
    /// What is set for all organizations.
    pub global: Option<State>,
    /// What is set for the one.
    pub organization: Option<State>,
}

impl Setting {
    /// The stricter of what binds all and what binds the organization.
    pub fn in_force(&self) -> State {
        self.global.unwrap_or(self.default).max(self.organization.unwrap_or(State::Off))
    }

    /// True if what is in force would be less strict than before.
    pub fn loosens(&self, before: &Setting) -> bool {
        self.in_force() < before.in_force()
    }

    /// Whether a member of the organization may set that state there, or clear it with `None`. A state below the one in
    /// force is refused also where it would change nothing now: it would count once the global one is loosened.
    pub fn member_may_set(&self, state: Option<State>) -> bool {
        match state {
            Some(state) => state >= self.in_force(),
            None => !Setting { organization: None, ..*self }.loosens(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [State; 3] = [State::Off, State::Warn, State::Enforce];

    /// Every setting that there can be.
    fn settings() -> Vec<Setting> {
        let stored = || [None].into_iter().chain(STATES.map(Some));
        let of = |default| {
            stored().flat_map(move |global| stored().map(move |organization| Setting { default, global, organization }))
        };
        STATES.into_iter().flat_map(of).collect()
    }

    #[test]
    fn the_stricter_of_global_and_organization_is_in_force() {
        let setting = |global, organization| Setting { default: State::Warn, global, organization };
        assert_eq!(setting(None, None).in_force(), State::Warn);
        assert_eq!(setting(Some(State::Off), None).in_force(), State::Off);
        assert_eq!(setting(Some(State::Off), Some(State::Enforce)).in_force(), State::Enforce);
        assert_eq!(setting(Some(State::Enforce), Some(State::Off)).in_force(), State::Enforce);
        for setting in settings() {
            assert!(Some(setting.in_force()) >= setting.global && Some(setting.in_force()) >= setting.organization);
        }
    }

    #[test]
    fn a_member_never_loosens_what_is_in_force_there() {
        for before in settings() {
            for state in [None].into_iter().chain(STATES.map(Some)) {
                let after = Setting { organization: state, ..before };
                assert!(!(before.member_may_set(state) && after.loosens(&before)), "{before:?} {state:?}");
                // The same again, or stricter, is always allowed.
                let stricter = state.is_some_and(|state| state >= before.in_force());
                assert!(!stricter || before.member_may_set(state), "{before:?} {state:?}");
            }
        }
    }
}
