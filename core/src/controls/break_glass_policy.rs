//! What break-glass is allowed to be: how long, for what, and approved by whom.
//!
//! What is set for all organizations and what one has set are both in force. An organization's settings are stricter.

use super::permission_set::PermissionSet;
use crate::error::{self, Error, Result};

const MINUTE: i64 = 60 * 1_000_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// The longest duration that a policy can allow: NIST SP 800-53 AC-2(2) has emergency accounts end by themselves.
pub const MAX_DURATION: i64 = DAY;

/// The most approvals that a policy can ask for.
pub const MAX_APPROVALS: usize = 3;

/// The most grants of one person that a policy lets be open at a time.
pub const MAX_OPEN: i64 = 100;

/// The longest time of each other limit.
const MAX_WAIT: i64 = 30 * DAY;

/// What is set of a policy; what is absent is not set. Times are microseconds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings {
    /// How long a grant is active at most.
    pub max_duration: Option<i64>,
    /// How long a request waits for its approvals.
    pub request_expires: Option<i64>,
    /// How long an approved grant waits for its activation.
    pub activate_within: Option<i64>,
    /// How many must approve.
    pub approvals: Option<usize>,
    /// Permissions, `domain:action`, of which each must be held by an approver of its own.
    pub approver_permissions: Option<Vec<(String, String)>>,
    /// What a grant may permit.
    pub ceiling: Option<PermissionSet>,
    /// The guardrails that a grant may pass.
    pub overrides: Option<Vec<String>>,
    /// How long after the end of a grant its sign-off is due.
    pub sign_off_within: Option<i64>,
    /// How many grants of one person are open at a time at most.
    pub max_open: Option<i64>,
    /// The regular expression that a ticket matches as a whole.
    pub ticket_pattern: Option<String>,
}

impl Settings {
    /// Refuses settings that no policy has.
    ///
    /// Errors: `ARGUMENT_INVALID`, which names the rule.
    pub fn check(&self) -> Result<()> {
        let time = |name: &str, time: Option<i64>, most: i64| match time {
            Some(time) if !(1..=most).contains(&time) => {
                Err(invalid(format!("{name} is more than 0 and at most {} hours", most / HOUR)))
            }
            _ => Ok(()),
        };
        time("max_duration", self.max_duration, MAX_DURATION)?;
        time("request_expires", self.request_expires, MAX_WAIT)?;
        time("activate_within", self.activate_within, MAX_WAIT)?;
        time("sign_off_within", self.sign_off_within, MAX_WAIT)?;
        if self.approvals.is_some_and(|approvals| approvals > MAX_APPROVALS) {
            return Err(invalid(format!("approvals is 0 to {MAX_APPROVALS}")));
        }
        if self.approver_permissions.as_ref().is_some_and(|kinds| kinds.len() > MAX_APPROVALS) {
            return Err(invalid(format!("approver_permissions has at most {MAX_APPROVALS} members")));
        }
        if self.max_open.is_some_and(|open| !(1..=MAX_OPEN).contains(&open)) {
            return Err(invalid(format!("max_open is 1 to {MAX_OPEN}")));
        }
        Ok(())
    }

    /// The name of a setting that allows more than the policy does; `None` if all are as strict or stricter.
    pub fn looser_than(&self, policy: &Policy) -> Option<&'static str> {
        let above = |own: Option<i64>, most: i64| own.is_some_and(|own| own > most);
        let kinds = |own: &Vec<_>| policy.approver_permissions.iter().any(|kind| !own.contains(kind));
        let overrides = |own: &Vec<String>| own.iter().any(|name| !policy.overrides.contains(name));
        let looser = [
            ("max_duration", above(self.max_duration, policy.max_duration)),
            ("request_expires", above(self.request_expires, policy.request_expires)),
            ("activate_within", above(self.activate_within, policy.activate_within)),
            ("sign_off_within", above(self.sign_off_within, policy.sign_off_within)),
            ("max_open", above(self.max_open, policy.max_open)),
            ("approvals", self.approvals.is_some_and(|own| own < policy.approvals)),
            ("approver_permissions", self.approver_permissions.as_ref().is_some_and(kinds)),
            ("ceiling", self.ceiling.as_ref().is_some_and(|own| !policy.holds_within_ceiling(own))),
            ("overrides", self.overrides.as_ref().is_some_and(overrides)),
        ];
        looser.into_iter().find(|(_, looser)| *looser).map(|(name, _)| name)
    }
}

fn invalid(message: String) -> Error {
    error::ARGUMENT_INVALID.error(message)
}

/// What is in force for an organization.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// How long a grant is active at most.
    pub max_duration: i64,
    /// How long a request waits for its approvals.
    pub request_expires: i64,
    /// How long an approved grant waits for its activation.
    pub activate_within: i64,
    /// How many must approve.
    pub approvals: usize,
    /// Permissions of which each must be held by an approver of its own.
    pub approver_permissions: Vec<(String, String)>,
    /// What a grant permits lies within each.
    pub ceilings: Vec<PermissionSet>,
    /// The guardrails that a grant may pass.
    pub overrides: Vec<String>,
    /// How long after the end of a grant its sign-off is due.
    pub sign_off_within: i64,
    /// How many grants of one person are open at a time at most.
    pub max_open: i64,
    /// A ticket matches each as a whole.
    pub ticket_patterns: Vec<String>,
}

/// What a grant asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    /// How long it is active, in microseconds.
    pub duration: i64,
    /// What it permits.
    pub permissions: PermissionSet,
    /// The guardrails that it passes.
    pub overrides: Vec<String>,
}

/// What a policy forbids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bound {
    /// The duration is not above zero, or longer than allowed.
    Duration,
    /// It asks for neither permissions nor guardrails.
    Nothing,
    /// It permits more than the ceiling.
    Ceiling,
    /// This guardrail is none that a grant may pass.
    Override(String),
}

impl Policy {
    /// The policy of a database in which nothing is set, whose grants may pass these guardrails.
    pub fn default_with(overrides: Vec<String>) -> Self {
        Policy {
            max_duration: 4 * HOUR,
            request_expires: 4 * HOUR,
            activate_within: 8 * HOUR,
            approvals: 1,
            approver_permissions: Vec::new(),
            ceilings: Vec::new(),
            overrides,
            sign_off_within: 3 * DAY,
            max_open: 3,
            ticket_patterns: Vec::new(),
        }
    }

    /// What is set takes the place of the default.
    pub fn set(mut self, settings: &Settings) -> Self {
        self.max_duration = settings.max_duration.unwrap_or(self.max_duration);
        self.request_expires = settings.request_expires.unwrap_or(self.request_expires);
        self.activate_within = settings.activate_within.unwrap_or(self.activate_within);
        self.approvals = settings.approvals.unwrap_or(self.approvals);
        self.approver_permissions = settings.approver_permissions.clone().unwrap_or(self.approver_permissions);
        self.ceilings.extend(settings.ceiling.clone());
        self.overrides = settings.overrides.clone().unwrap_or(self.overrides);
        self.sign_off_within = settings.sign_off_within.unwrap_or(self.sign_off_within);
        self.max_open = settings.max_open.unwrap_or(self.max_open);
        self.ticket_patterns.extend(settings.ticket_pattern.clone());
        self
    }

    /// The stricter of this policy, which is for all, and what an organization has set, also where the first was made
    /// stricter later.
    pub fn stricter(mut self, own: &Settings) -> Self {
        let least = |most: i64, own: Option<i64>| own.map_or(most, |own| own.min(most));
        self.max_duration = least(self.max_duration, own.max_duration);
        self.request_expires = least(self.request_expires, own.request_expires);
        self.activate_within = least(self.activate_within, own.activate_within);
        self.approvals = self.approvals.max(own.approvals.unwrap_or(0));
        for kind in own.approver_permissions.iter().flatten() {
            if !self.approver_permissions.contains(kind) {
                self.approver_permissions.push(kind.clone());
            }
        }
        self.ceilings.extend(own.ceiling.clone());
        if let Some(own) = &own.overrides {
            self.overrides.retain(|name| own.contains(name));
        }
        self.sign_off_within = least(self.sign_off_within, own.sign_off_within);
        self.max_open = least(self.max_open, own.max_open);
        self.ticket_patterns.extend(own.ticket_pattern.clone());
        self
    }

    /// How many must approve, which is at least one for each permission that approvers must hold.
    pub fn approvals_needed(&self) -> usize {
        self.approvals.max(self.approver_permissions.len())
    }

    /// What forbids a grant with these terms, if anything does.
    pub fn forbids(&self, terms: &Terms) -> Option<Bound> {
        if !(1..=self.max_duration.min(MAX_DURATION)).contains(&terms.duration) {
            return Some(Bound::Duration);
        }
        if terms.overrides.is_empty() && terms.permissions.within(&PermissionSet::default()) {
            return Some(Bound::Nothing);
        }
        if !self.holds_within_ceiling(&terms.permissions) {
            return Some(Bound::Ceiling);
        }
        terms.overrides.iter().find(|name| !self.overrides.contains(name)).cloned().map(Bound::Override)
    }

    fn holds_within_ceiling(&self, set: &PermissionSet) -> bool {
        self.ceilings.iter().all(|ceiling| set.within(ceiling))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controls::permission_set::Rule;
    use proptest::prelude::*;

    fn set(rules: &[&str]) -> PermissionSet {
        rules.iter().map(|rule| Rule::parse(rule).unwrap()).collect()
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn standard() -> Policy {
        Policy::default_with(names(&["overdue_rotation", "protected_tables"]))
    }

    fn terms(duration: i64, permissions: &[&str], overrides: &[&str]) -> Terms {
        Terms { duration, permissions: set(permissions), overrides: names(overrides) }
    }

    #[test]
    fn a_grant_lasts_longer_than_nothing_and_no_longer_than_the_policy_says() {
        let policy = standard();
        for (duration, forbidden) in [(i64::MIN, true), (-1, true), (0, true), (1, false), (4 * HOUR, false)] {
            assert_eq!(policy.forbids(&terms(duration, &["finding:read"], &[])).is_some(), forbidden, "{duration}");
        }
        assert_eq!(policy.forbids(&terms(4 * HOUR + 1, &["finding:read"], &[])), Some(Bound::Duration));
        // The bound of the code holds, whatever the table says.
        let wide = Policy { max_duration: i64::MAX, ..standard() };
        assert_eq!(wide.forbids(&terms(DAY, &["finding:read"], &[])), None);
        assert_eq!(wide.forbids(&terms(DAY + 1, &["finding:read"], &[])), Some(Bound::Duration));
    }

    #[test]
    fn a_grant_asks_for_something_below_the_ceiling() {
        let policy = standard().set(&Settings { ceiling: Some(set(&["*:*", "!member:*"])), ..Settings::default() });
        assert_eq!(policy.forbids(&terms(HOUR, &[], &[])), Some(Bound::Nothing));
        assert_eq!(policy.forbids(&terms(HOUR, &["!finding:read"], &[])), Some(Bound::Nothing));
        assert_eq!(policy.forbids(&terms(HOUR, &["*:*"], &[])), Some(Bound::Ceiling));
        assert_eq!(policy.forbids(&terms(HOUR, &["member:update"], &[])), Some(Bound::Ceiling));
        assert_eq!(policy.forbids(&terms(HOUR, &["finding:*"], &[])), None);
        assert_eq!(policy.forbids(&terms(HOUR, &[], &["overdue_rotation"])), None);
        let last_admin = Bound::Override("last_admin".to_owned());
        assert_eq!(policy.forbids(&terms(HOUR, &[], &["overdue_rotation", "last_admin"])), Some(last_admin));
        // An organization's ceiling and that of all bind both.
        let policy = policy.stricter(&Settings { ceiling: Some(set(&["*:read"])), ..Settings::default() });
        assert_eq!(policy.forbids(&terms(HOUR, &["member:read"], &[])), Some(Bound::Ceiling));
        assert_eq!(policy.forbids(&terms(HOUR, &["finding:read"], &[])), None);
    }

    #[test]
    fn settings_that_no_policy_has_are_refused() {
        let wrong = [
            Settings { max_duration: Some(DAY + 1), ..Settings::default() },
            Settings { max_duration: Some(0), ..Settings::default() },
            Settings { request_expires: Some(-1), ..Settings::default() },
            Settings { activate_within: Some(MAX_WAIT + 1), ..Settings::default() },
            Settings { sign_off_within: Some(i64::MAX), ..Settings::default() },
            Settings { approvals: Some(4), ..Settings::default() },
            Settings { max_open: Some(0), ..Settings::default() },
            Settings { approver_permissions: Some(vec![("a".to_owned(), "b".to_owned()); 4]), ..Settings::default() },
        ];
        for settings in wrong {
            assert_eq!(settings.check().unwrap_err().kind.name, "ARGUMENT_INVALID", "{settings:?}");
        }
        Settings { max_duration: Some(DAY), approvals: Some(0), ..Settings::default() }.check().unwrap();
    }

    fn settings() -> impl Strategy<Value = Settings> {
        let ceilings = ["*:*", "*:read", "finding:*", "finding:read"];
        let guardrails = ["overdue_rotation", "protected_tables"];
        let time = || prop::option::of(1..4i64);
        let kinds = prop::sample::subsequence(vec!["break_glass:approve", "security:approve"], 0..=2);
        (
            (time(), time(), time(), time(), time()),
            prop::option::of(0..4usize),
            prop::option::of(kinds),
            prop::option::of(0..ceilings.len()),
            prop::option::of(prop::sample::subsequence(guardrails.to_vec(), 0..=2)),
        )
            .prop_map(move |(times, approvals, kinds, ceiling, overrides)| Settings {
                max_duration: times.0,
                request_expires: times.1,
                activate_within: times.2,
                sign_off_within: times.3,
                max_open: times.4,
                approvals,
                approver_permissions: kinds.map(|kinds| {
                    let pairs = kinds.into_iter().filter_map(|kind| kind.split_once(':'));
                    pairs.map(|(domain, action)| (domain.into(), action.into())).collect()
                }),
                ceiling: ceiling.map(|number| set(&[ceilings[number]])),
                overrides: overrides.map(|overrides| names(&overrides)),
                ticket_pattern: None,
            })
    }

    proptest! {
        #[test]
        fn what_an_organization_sets_never_allows_more(
            global in settings(),
            own in settings(),
            duration in 0..5i64,
            permission in 0..4usize,
            overrides in prop::sample::subsequence(vec!["overdue_rotation", "protected_tables", "last_admin"], 0..=3),
        ) {
            let permission = ["*:*", "*:read", "finding:update", "finding:read"][permission];
            let all = standard().set(&global);
            let both = all.clone().stricter(&own);
            let terms = terms(duration, &[permission], &overrides);
            prop_assert!(both.forbids(&terms).is_some() || all.forbids(&terms).is_none());
            prop_assert!(both.approvals_needed() >= all.approvals_needed());
            prop_assert!(both.max_open <= all.max_open && both.activate_within <= all.activate_within);
            prop_assert!(all.approver_permissions.iter().all(|kind| both.approver_permissions.contains(kind)));
            // What is accepted as stricter is in force as it is set.
            if own.looser_than(&all).is_none() {
                prop_assert_eq!(both.approvals, own.approvals.unwrap_or(all.approvals));
                prop_assert_eq!(both.max_duration, own.max_duration.unwrap_or(all.max_duration));
                prop_assert_eq!(&both.overrides, own.overrides.as_ref().unwrap_or(&all.overrides));
                if let Some(kinds) = &own.approver_permissions {
                    prop_assert_eq!(both.approver_permissions.len(), kinds.len());
                }
                if let Some(ceiling) = &own.ceiling {
                    prop_assert_eq!(both.holds_within_ceiling(&set(&[permission])), set(&[permission]).within(ceiling));
                }
            }
        }
    }
}
