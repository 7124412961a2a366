//! What a role permits: rules that allow and rules that deny, each with `*` for every domain or every action.
//!
//! Deny wins over allow, in whatever order the rules stand and however specific they are. Names are open: an
//! application asks for domains and actions that no rule names, so a set is compared with another over all names there
//! can be.

use crate::error::{ARGUMENT_INVALID, Error, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// The name that means every domain or every action.
const ANY: &str = "*";

/// The most rules that a role has.
pub const MAX_RULES: usize = 1024;

/// The most bytes of the name of a domain or an action.
const MAX_NAME_BYTES: usize = 255;

/// Whether a rule gives or takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// What the rule names is permitted, unless another one denies it.
    Allow,
    /// What the rule names is not permitted, whatever others say.
    Deny,
}

impl Effect {
    /// The word that is stored.
    pub fn name(self) -> &'static str {
        match self {
            Effect::Allow => "allow",
            Effect::Deny => "deny",
        }
    }

    /// The effect that a stored word names; `None` for any other text.
    pub fn parse(name: &str) -> Option<Self> {
        [Effect::Allow, Effect::Deny].into_iter().find(|effect| effect.name() == name)
    }
}

/// One rule of a role.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// The domain, or `*`.
    pub domain: String,
    /// The action, or `*`.
    pub action: String,
    /// Whether it gives or takes.
    pub effect: Effect,
}

impl Rule {
    /// Reads a rule as people write it: `finding:read`, or `!invoice:delete` for one that denies.
    ///
    /// Errors: `ARGUMENT_INVALID`, which names what is wrong.
    pub fn parse(text: &str) -> Result<Self> {
        let (effect, pair) = match text.strip_prefix('!') {
            Some(pair) => (Effect::Deny, pair),
            None => (Effect::Allow, text),
        };
        let parts = pair.split_once(':').filter(|(domain, action)| is_name(domain) && is_name(action));
        let (domain, action) = parts.ok_or_else(|| not_a_rule(text))?;
        Ok(Rule { domain: domain.to_owned(), action: action.to_owned(), effect })
    }
}

impl std::fmt::Display for Rule {
    fn fmt(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        let mark = if self.effect == Effect::Deny { "!" } else { "" };
        write!(out, "{mark}{}:{}", self.domain, self.action)
    }
}

/// A name, or the star that stands for every one. A comma separates actions elsewhere.
fn is_name(name: &str) -> bool {
    let fits = !name.is_empty() && name.len() <= MAX_NAME_BYTES;
    let plain = |c: char| !c.is_control() && !c.is_whitespace() && !":,!*".contains(c);
    fits && (name == ANY || name.chars().all(plain))
}

fn not_a_rule(text: &str) -> Error {
    let shown: String = text.chars().filter(|c| !c.is_control()).take(80).collect();
    ARGUMENT_INVALID.error(format!("\"{shown}\" is no permission")).detail(format!(
        "A permission is domain:action, with * for every domain or every action and a leading ! to deny it. Each name \
            has \
         1 to {MAX_NAME_BYTES} bytes and none of the characters : , ! * nor blanks."
    ))
}

/// Domains with their actions.
type Patterns = BTreeMap<String, BTreeSet<String>>;

/// What a role, or several together, permit. Clones share the rules, and their encoding once there is one.
#[derive(Debug, Clone, Default)]
pub struct PermissionSet(Rc<Rules>);

impl PartialEq for PermissionSet {
    fn eq(&self, other: &Self) -> bool {
        let same = |one: &Rules, two: &Rules| one.allow == two.allow && one.deny == two.deny;
        Rc::ptr_eq(&self.0, &other.0) || same(&self.0, &other.0)
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Rules {
    allow: Patterns,
    #[serde(default, skip_serializing_if = "Patterns::is_empty")]
    deny: Patterns,
    /// As JSON. Each sign-in with the same role encodes the same rules.
    #[serde(skip)]
    encoded: OnceCell<Box<RawValue>>,
}

impl Serialize for PermissionSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let rules = &self.0;
        let encoded = match rules.encoded.get() {
            Some(encoded) => encoded,
            None => {
                let encoded = to_raw_value(&**rules).map_err(serde::ser::Error::custom)?;
                rules.encoded.get_or_init(|| encoded)
            }
        };
        encoded.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for PermissionSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        Rules::deserialize(deserializer).map(|rules| PermissionSet(Rc::new(rules)))
    }
}

impl PermissionSet {
    /// Permissions for every action in every domain.
    pub fn all() -> Self {
        [Rule { domain: ANY.into(), action: ANY.into(), effect: Effect::Allow }].into_iter().collect()
    }

    /// Whether `action` is permitted in `domain`.
    pub fn allows(&self, domain: &str, action: &str) -> bool {
        matches(&self.0.allow, domain, action) && !self.denies(domain, action)
    }

    /// Whether a rule denies `action` in `domain`, whatever others allow.
    pub fn denies(&self, domain: &str, action: &str) -> bool {
        !self.0.deny.is_empty() && matches(&self.0.deny, domain, action)
    }

    /// Whether every action in every domain is permitted.
    pub fn is_all(&self) -> bool {
        self.0.deny.is_empty() && self.allows(ANY, ANY)
    }

    /// Whether `other` permits all that this value permits, also in domains that no rule names.
    pub fn within(&self, other: &Self) -> bool {
        let named = [&self.0, &other.0].into_iter().flat_map(|rules| rules.allow.keys().chain(rules.deny.keys()));
        // The star is treated as any domain that no rule names.
        let domains: BTreeSet<&str> = named.map(String::as_str).chain([ANY]).collect();
        domains.into_iter().all(|domain| self.actions(domain).within(&other.actions(domain)))
    }

    /// What either permits, and neither denies.
    pub fn union(&self, other: &Self) -> Self {
        self.rules().chain(other.rules()).collect()
    }

    /// Of these actions in a domain, and those that a rule names, the permitted ones.
    pub fn allowed_actions<'a>(&'a self, domain: &str, known: impl IntoIterator<Item = &'a str>) -> BTreeSet<&'a str> {
        let asked = listed(&self.0.allow, domain).into_iter().chain(known).filter(|action| *action != ANY);
        asked.filter(|action| self.allows(domain, action)).collect()
    }

    /// Whether a rule that allows has no effect, because others deny all of it.
    pub fn denies_all_of(&self, rule: &Rule) -> bool {
        let denied = |domain: &str| {
            self.0.deny.get(domain).is_some_and(|actions| actions.contains(ANY) || actions.contains(&rule.action))
        };
        denied(&rule.domain) || denied(ANY)
    }

    /// Each rule: those that allow first, each kind sorted by domain and action.
    pub fn rules(&self) -> impl Iterator<Item = Rule> + '_ {
        let of = |patterns: &Patterns, effect| -> Vec<Rule> {
            let pairs =
                patterns.iter().flat_map(|(domain, actions)| actions.iter().map(move |action| (domain, action)));
            pairs.map(|(domain, action)| Rule { domain: domain.clone(), action: action.clone(), effect }).collect()
        };
        of(&self.0.allow, Effect::Allow).into_iter().chain(of(&self.0.deny, Effect::Deny))
    }

    /// The bytes of all names.
    pub fn bytes(&self) -> usize {
        let patterns = self.0.allow.iter().chain(&self.0.deny);
        patterns.flat_map(|(domain, actions)| actions.iter().map(|action| domain.len() + action.len())).sum()
    }

    /// The actions that are permitted in a domain.
    fn actions(&self, domain: &str) -> Actions<'_> {
        let (allowed, denied) = (listed(&self.0.allow, domain), listed(&self.0.deny, domain));
        if denied.contains(ANY) {
            Actions::Only(BTreeSet::new())
        } else if allowed.contains(ANY) {
            Actions::AllBut(denied)
        } else {
            Actions::Only(allowed.difference(&denied).copied().collect())
        }
    }
}

fn matches(patterns: &Patterns, domain: &str, action: &str) -> bool {
    let of = |domain| patterns.get(domain).is_some_and(|actions| actions.contains(action) || actions.contains(ANY));
    of(domain) || of(ANY)
}

/// The actions, with the star, that patterns list for a domain and for every one.
fn listed<'a>(patterns: &'a Patterns, domain: &str) -> BTreeSet<&'a str> {
    [domain, ANY].into_iter().filter_map(|domain| patterns.get(domain)).flatten().map(String::as_str).collect()
}

/// Actions in one domain, of all names that there can be.
enum Actions<'a> {
    Only(BTreeSet<&'a str>),
    AllBut(BTreeSet<&'a str>),
}

impl Actions<'_> {
    fn within(&self, other: &Self) -> bool {
        match (self, other) {
            (Actions::Only(own), Actions::Only(others)) => own.is_subset(others),
            (Actions::Only(own), Actions::AllBut(excepted)) => own.is_disjoint(excepted),
            // There is always one more name than any list has.
            (Actions::AllBut(_), Actions::Only(_)) => false,
            (Actions::AllBut(own), Actions::AllBut(others)) => others.is_subset(own),
        }
    }
}

impl FromIterator<Rule> for PermissionSet {
    fn from_iter<I: IntoIterator<Item = Rule>>(rules: I) -> Self {
        let mut set = Rules::default();
        for Rule { domain, action, effect } in rules {
            let patterns = match effect {
                Effect::Allow => &mut set.allow,
                Effect::Deny => &mut set.deny,
            };
            patterns.entry(domain).or_default().insert(action);
        }
        PermissionSet(Rc::new(set))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(rules: &[&str]) -> PermissionSet {
        rules.iter().map(|rule| Rule::parse(rule).unwrap()).collect()
    }

    #[test]
    fn a_role_may_do_what_its_rules_allow_and_nothing_else() {
        let reader = set(&["finding:read"]);
        assert!(reader.allows("finding", "read"));
        assert!(!reader.allows("finding", "update"));
        assert!(!reader.allows("action", "read"));
        assert!(!set(&[]).allows("finding", "read"));
    }

    #[test]
    fn a_star_stands_for_every_domain_or_every_action() {
        assert!(set(&["*:read"]).allows("finding", "read"));
        assert!(!set(&["*:read"]).allows("finding", "update"));
        assert!(set(&["finding:*"]).allows("finding", "approve"));
        assert!(set(&["*:*"]).allows("anything", "at all") && set(&["*:*"]).is_all());
        assert!(!set(&["*:read", "finding:*"]).is_all());
    }

    #[test]
    fn deny_wins_over_allow_in_any_order_and_however_specific() {
        for rules in
            [["!invoice:*", "invoice:delete"], ["invoice:delete", "!invoice:*"], ["!*:delete", "invoice:delete"]]
        {
            assert!(!set(&rules).allows("invoice", "delete"), "{rules:?}");
        }
        let admin = set(&["*:*", "!invoice:delete"]);
        assert!(
            admin.allows("invoice", "read") && admin.allows("finding", "delete") && !admin.allows("invoice", "delete")
        );
        assert!(!admin.is_all());
        assert!(!set(&["*:*", "!*:*"]).allows("finding", "read"));
    }

    #[test]
    fn asking_for_a_star_needs_a_star() {
        assert!(!set(&["finding:read"]).allows("finding", "*"));
        assert!(!set(&["finding:read"]).allows("*", "read"));
    }

    #[test]
    fn a_set_lies_within_another_that_permits_all_of_it() {
        let (finding, read, all) = (set(&["finding:read"]), set(&["*:read"]), set(&["*:*"]));
        assert!(finding.within(&finding) && finding.within(&read) && finding.within(&all) && read.within(&all));
        assert!(!read.within(&finding) && !all.within(&read));
        assert!(set(&[]).within(&finding) && !finding.within(&set(&[])));
    }

    #[test]
    fn what_is_denied_counts_in_a_comparison() {
        let most = set(&["*:*", "!invoice:delete"]);
        assert!(most.within(&set(&["*:*"])) && !set(&["*:*"]).within(&most));
        assert!(set(&["*:*", "!invoice:*"]).within(&most) && !most.within(&set(&["*:*", "!invoice:*"])));
        assert!(set(&["finding:*"]).within(&most) && !set(&["invoice:*"]).within(&most));
        assert!(set(&["invoice:*", "!invoice:delete"]).within(&most), "the deny takes what the other does not have");
        assert!(set(&["*:delete", "!*:delete"]).within(&set(&[])), "what is all denied is nothing");
        assert!(!set(&["*:read"]).within(&set(&["finding:read", "invoice:read"])), "there are more domains than named");
    }

    #[test]
    fn a_union_keeps_what_either_denies() {
        let both = set(&["finding:read", "!secret:*"]).union(&set(&["*:*"]));
        assert!(both.allows("invoice", "delete") && !both.allows("secret", "read"));
    }

    #[test]
    fn actions_of_a_domain_are_listed_for_those_who_show_buttons() {
        let role = set(&["finding:*", "!finding:delete", "*:export", "!*:purge", "finding:purge"]);
        let known = ["read", "update", "delete"];
        assert_eq!(role.allowed_actions("finding", known), ["export", "read", "update"].into());
        assert_eq!(role.allowed_actions("invoice", known), ["export"].into());
    }

    #[test]
    fn an_allow_that_is_all_denied_is_told() {
        let role = set(&["finding:read", "finding:*", "!finding:read", "*:delete", "!*:delete"]);
        let without: Vec<String> = role
            .rules()
            .filter(|rule| rule.effect == Effect::Allow && role.denies_all_of(rule))
            .map(|rule| rule.to_string())
            .collect();
        assert_eq!(without, ["*:delete", "finding:read"]);
    }

    #[test]
    fn a_rule_is_read_as_it_is_written_and_a_wrong_one_is_named() {
        for text in ["finding:read", "!invoice:delete", "*:*", "!*:*", "finding:*", "Größe:lesen"] {
            assert_eq!(Rule::parse(text).unwrap().to_string(), text);
        }
        let long = format!("{}:read", "x".repeat(MAX_NAME_BYTES + 1));
        for text in [
            "", "!", ":", "finding", "finding:", ":read", "a:b:c", "!!a:b", "a:!b", "a b:c", "a:b,c", "a*:b",
            "a:\u{7}b", &long,
        ] {
            let error = Rule::parse(text).unwrap_err();
            assert_eq!(error.kind.name, "ARGUMENT_INVALID", "{text:?}");
            assert!(error.message.len() < 200 && !error.message.contains('\u{7}'));
        }
    }

    /// Few names, so that rules meet.
    const DOMAINS: [&str; 3] = ["a", "b", "*"];
    const ACTIONS: [&str; 3] = ["r", "w", "*"];

    fn any_set() -> impl Strategy<Value = PermissionSet> {
        let rule = (0..3usize, 0..3usize, any::<bool>()).prop_map(|(domain, action, deny)| Rule {
            domain: DOMAINS[domain].into(),
            action: ACTIONS[action].into(),
            effect: if deny { Effect::Deny } else { Effect::Allow },
        });
        prop::collection::vec(rule, 0..8).prop_map(|rules| rules.into_iter().collect())
    }

    /// Every name that rules have here, and one that none has.
    fn universe() -> impl Iterator<Item = (&'static str, &'static str)> {
        ["a", "b", "new"]
            .into_iter()
            .flat_map(|domain| ["r", "w", "new"].into_iter().map(move |action| (domain, action)))
    }

    /// The rules as their description has them, without any index.
    fn by_description(set: &PermissionSet, domain: &str, action: &str) -> bool {
        let fits = |rule: &Rule| [domain, ANY].contains(&&*rule.domain) && [action, ANY].contains(&&*rule.action);
        let of = |effect| set.rules().any(|rule| rule.effect == effect && fits(&rule));
        of(Effect::Allow) && !of(Effect::Deny)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]

        #[test]
        fn the_answer_is_that_of_the_rules(set in any_set()) {
            for (domain, action) in universe() {
                prop_assert_eq!(set.allows(domain, action), by_description(&set, domain, action));
            }
            prop_assert_eq!(set.is_all(), universe().all(|(domain, action)| set.allows(domain, action)));
        }

        #[test]
        fn inclusion_is_that_of_every_name(one in any_set(), other in any_set()) {
            let all = universe().all(|(domain, action)| !one.allows(domain, action) || other.allows(domain, action));
            prop_assert_eq!(one.within(&other), all, "{:?} within {:?}", one, other);
            let both = one.union(&other);
            for (domain, action) in universe() {
                let denied = one.denies(domain, action) || other.denies(domain, action);
                let allowed = one.allows(domain, action) || other.allows(domain, action);
                prop_assert_eq!(both.allows(domain, action), allowed && !denied);
            }
        }

        #[test]
        fn a_set_survives_its_encoding(set in any_set()) {
            let text = serde_json::to_string(&set).unwrap();
            // Once more, from the encoding that is kept.
            prop_assert_eq!(serde_json::to_string(&set.clone()).unwrap(), &*text);
            prop_assert_eq!(serde_json::from_str::<PermissionSet>(&text).unwrap(), set);
        }
    }
}
