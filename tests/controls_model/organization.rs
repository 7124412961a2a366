//! What an organization should be like: members, roles, grants of break-glass, exceptions, and how many events tell of
//! it. Who holds what, what is in force and who may decide is written here once more, from the description alone.

use std::collections::{BTreeMap, BTreeSet};

use super::action_types::Requested;
use super::exceptions::Excepted;
use super::grants::Granted;
use super::reviews::Reviewed;
use pg_tenancy_core::controls::permission_set::{PermissionSet, Rule};
use pg_tenancy_core::guardrail::State;

/// A time without an end, as the model has it.
pub const NO_END: i64 = i64::MAX;

/// What a call that is refused answers: an SQLSTATE.
pub type Refused = &'static str;

pub const NOT_PERMITTED: Refused = "42501";
pub const NO_MEMBER: Refused = "28000";
pub const UNKNOWN: Refused = "42704";
pub const THERE_ALREADY: Refused = "23505";
pub const BAD_ARGUMENT: Refused = "22023";
pub const WRONG_STATE: Refused = "55000";
pub const STALE: Refused = "40001";

#[derive(Clone, PartialEq, Debug)]
pub struct Member {
    pub role: String,
    pub active: bool,
    pub until: i64,
    /// When it was made, by the clock of the test.
    pub since: i64,
}

#[derive(Clone, Default, Debug)]
pub struct Role {
    pub rules: Vec<String>,
    /// As of a member.
    pub since: i64,
}

/// How well an organization is provided with admins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Admins {
    None,
    Ending,
    Lasting,
}

/// Who calls: what the sign-in of the transaction permits, and the grants under which it works.
#[derive(Clone, Debug)]
pub struct Caller {
    pub subject: &'static str,
    pub signed_in: PermissionSet,
    /// The last one is what counts, as it was asked for; all of them must be in force.
    pub elevations: Vec<(String, PermissionSet)>,
}

impl Caller {
    /// Whether the transaction may do something: the role permits it, or the elevation adds it to the role.
    pub fn may(&self, domain: &str, action: &str) -> bool {
        let added = self.elevations.last().is_some_and(|(_, added)| added.allows(domain, action));
        self.signed_in.allows(domain, action) || added && !self.signed_in.denies(domain, action)
    }

    pub fn must(&self, domain: &str, action: &str) -> Result<(), Refused> {
        if self.may(domain, action) { Ok(()) } else { Err(NOT_PERMITTED) }
    }
}

#[derive(Clone, Default, Debug)]
pub struct Organization {
    pub members: BTreeMap<&'static str, Member>,
    /// Of every organization and its own.
    pub roles: BTreeMap<String, Role>,
    pub grants: BTreeMap<String, Granted>,
    pub exceptions: BTreeMap<String, Excepted>,
    /// Requests for action types, and their approvals.
    pub requests: BTreeMap<String, Requested>,
    pub reviews: BTreeMap<String, Reviewed>,
    /// Grants that a closed review has kept or revoked.
    pub reviewed: BTreeSet<String>,
    /// What the organization has set, beside what is set for all.
    pub guardrails: BTreeMap<&'static str, State>,
    /// Which of them were ever set.
    pub guardrails_set: BTreeSet<&'static str>,
    /// How many that are over have been left out of the lists, by their states.
    grants_over: BTreeMap<&'static str, u32>,
    exceptions_over: BTreeMap<&'static str, u32>,
    requests_over: BTreeMap<&'static str, u32>,
    /// The same of reviews, and of what became of their items.
    reviews_over: BTreeMap<&'static str, u32>,
    /// How many must approve a grant of break-glass.
    pub approvals: usize,
    /// How many events there are of each domain and operation.
    pub events: BTreeMap<String, u64>,
}

/// Roles that every organization has here, with what they permit.
const OF_ALL: [(&str, &str); 5] = [
    ("admin", "*:*"),
    ("observer", "*:read"),
    (
        "keeper",
        "member:* role:* finding:* break_glass:request break_glass:use exception:request exception:read review:open \
         review:read",
    ),
    ("approver", "finding:* break_glass:* exception:* review:* action:*"),
    ("oncall", "finding:read break_glass:request break_glass:use exception:request review:decide action:request"),
];

/// The states of which nothing becomes any more.
const GRANT_ENDS: [&str; 4] = ["denied", "cancelled", "expired", "signed_off"];
const REQUEST_ENDS: [&str; 3] = ["denied", "expired", "withdrawn"];
const EXCEPTION_ENDS: [&str; 6] = ["denied", "cancelled", "superseded", "revoked", "expired", "lapsed"];

/// The id of something new, as the server answered it.
pub fn new_id<T>(known: &BTreeMap<String, T>, answer: Option<&str>) -> String {
    let id = answer.unwrap_or_default().to_owned();
    assert!(!known.contains_key(&id), "{id} is another one's id");
    id
}

pub fn set(rules: &[String]) -> PermissionSet {
    rules.iter().map(|rule| Rule::parse(rule).unwrap()).collect()
}

impl Organization {
    pub fn new() -> Self {
        let words = |rules: &str| rules.split(' ').map(str::to_owned).collect();
        let role = |(name, rules): (&str, &str)| (name.to_owned(), Role { rules: words(rules), since: 0 });
        let roles = OF_ALL.into_iter().map(role).collect();
        Organization { roles, ..Organization::default() }
    }

    pub fn is_of_all(name: &str) -> bool {
        OF_ALL.iter().any(|(of_all, _)| *of_all == name)
    }

    /// What makes the roles that every organization has here.
    pub fn create_roles() -> String {
        let role = |(name, rules): &(&str, &str)| {
            let grant = |rule: &str| {
                let (domain, action) = rule.split_once(':').unwrap();
                format!("SELECT tenancy.grant_permission('{name}', '{domain}', '{action}');")
            };
            let grants: String = rules.split(' ').map(grant).collect();
            format!("SELECT tenancy.create_role('{name}');{grants}")
        };
        OF_ALL[1..].iter().map(role).collect()
    }

    /// Leaves all but the newest out that nothing becomes of any more.
    pub fn forget(&mut self) {
        let old = self.grants.len().saturating_sub(12);
        let over = |(_, granted): &(&String, &Granted)| GRANT_ENDS.contains(&granted.is.state.name());
        let gone: Vec<String> = self.grants.iter().take(old).filter(over).map(|(id, _)| id.clone()).collect();
        for granted in gone.iter().filter_map(|id| self.grants.remove(id)) {
            *self.grants_over.entry(granted.is.state.name()).or_default() += 1;
        }
        let old = self.exceptions.len().saturating_sub(12);
        let replaced: Vec<String> = self.exceptions.values().filter_map(|one| one.replaces.clone()).collect();
        let over = |(id, excepted): &(&String, &Excepted)| {
            EXCEPTION_ENDS.contains(&excepted.is.state.name()) && !replaced.contains(id)
        };
        let gone: Vec<String> = self.exceptions.iter().take(old).filter(over).map(|(id, _)| id.clone()).collect();
        for excepted in gone.iter().filter_map(|id| self.exceptions.remove(id)) {
            *self.exceptions_over.entry(excepted.is.state.name()).or_default() += 1;
        }
        let old = self.requests.len().saturating_sub(12);
        let over = |(_, requested): &(&String, &Requested)| REQUEST_ENDS.contains(&requested.is.state.name());
        let gone: Vec<String> = self.requests.iter().take(old).filter(over).map(|(id, _)| id.clone()).collect();
        for requested in gone.iter().filter_map(|id| self.requests.remove(id)) {
            *self.requests_over.entry(requested.is.state.name()).or_default() += 1;
        }
        let old = self.reviews.len().saturating_sub(12);
        let over = |(_, review): &(&String, &Reviewed)| !review.is_open();
        let gone: Vec<String> = self.reviews.iter().take(old).filter(over).map(|(id, _)| id.clone()).collect();
        for review in gone.iter().filter_map(|id| self.reviews.remove(id)) {
            review.ends().for_each(|end| *self.reviews_over.entry(end).or_default() += 1);
        }
    }

    /// What can still change, and how many have come to each end.
    fn text_of<'a>(
        of: impl Iterator<Item = (&'a String, &'static str, usize)>,
        ends: &[&str],
        over: &BTreeMap<&'static str, u32>,
    ) -> String {
        let (mut open, mut over) = (Vec::new(), over.clone());
        for (id, state, approvals) in of {
            match ends.contains(&state) {
                true => *over.entry(state).or_default() += 1,
                false => open.push(format!("{id} {state} {approvals}")),
            }
        }
        let over: Vec<String> = over.into_iter().map(|(state, count)| format!("{count} {state}")).collect();
        format!("{}; {}", open.join(", "), over.join(", "))
    }

    pub fn permissions(&self, role: &str) -> PermissionSet {
        self.roles.get(role).map(|role| set(&role.rules)).unwrap_or_default()
    }

    /// What a person may do who signs in now; `None` for nobody who can.
    pub fn held(&self, subject: &str) -> Option<PermissionSet> {
        let member = self.members.get(subject).filter(|member| member.active)?;
        Some(self.permissions(&member.role))
    }

    /// What the role that a person has by now permits.
    pub fn held_now(&self, caller: &Caller) -> Result<PermissionSet, Refused> {
        self.held(caller.subject).ok_or(NO_MEMBER)
    }

    /// Whoever decides holds the right to it by the role, at the sign-in and now.
    pub fn must_hold_action(&self, caller: &Caller, domain: &str, action: &str) -> Result<PermissionSet, Refused> {
        let now = self.held_now(caller)?;
        let holds = caller.signed_in.allows(domain, action) && now.allows(domain, action);
        if holds { Ok(now) } else { Err(NOT_PERMITTED) }
    }

    /// Records what time has ended.
    pub fn settle(&mut self, now: i64) {
        super::action_types::settle(self, now);
        super::grants::settle(self, now);
        super::exceptions::settle(self, now);
        super::reviews::settle(self, now);
    }

    pub fn must_hold(&self, caller: &Caller, given: &PermissionSet) -> Result<(), Refused> {
        let now = self.held_now(caller)?;
        let within = |held: &PermissionSet, added: &PermissionSet| given.within(&held.union(added));
        let nothing = PermissionSet::default();
        let added = caller.elevations.last().filter(|_| !self.enforces("grant_under_elevation"));
        let added = added.map_or(&nothing, |(_, added)| added);
        let holds = |added| within(&caller.signed_in, added) && within(&now, added);
        // What an elevation denies takes nothing from what the role holds.
        if holds(&nothing) || holds(added) { Ok(()) } else { Err(NOT_PERMITTED) }
    }

    pub fn permits_everything(&self, role: &str) -> bool {
        let rules = &self.roles[role].rules;
        rules.iter().any(|rule| rule == "*:*") && !rules.iter().any(|rule| rule.starts_with('!'))
    }

    /// How much a member counts as an admin.
    pub fn as_admin(&self, subject: &str) -> Admins {
        match self.members.get(subject) {
            Some(member) if member.active && self.permits_everything(&member.role) => match member.until {
                NO_END => Admins::Lasting,
                _ => Admins::Ending,
            },
            _ => Admins::None,
        }
    }

    pub fn admins(&self) -> Admins {
        self.members.keys().map(|subject| self.as_admin(subject)).max().unwrap_or(Admins::None)
    }

    pub fn told(&mut self, domain: &str, operation: &str, events: u64) {
        if events > 0 {
            *self.events.entry(format!("{domain} {operation}")).or_default() += events;
        }
    }

    /// How many reviews have come to each end, and how many of their items.
    pub fn reviews_over(&self) -> BTreeMap<&'static str, u32> {
        let mut over = self.reviews_over.clone();
        let ends = self.reviews.values().filter(|review| !review.is_open()).flat_map(Reviewed::ends);
        ends.for_each(|end| *over.entry(end).or_default() += 1);
        over
    }

    /// Everything as one text; [`STORED`] says the same of what is stored.
    pub fn text(&self) -> String {
        let member = |(subject, member): (&&str, &Member)| {
            let status = if member.active { "active" } else { "suspended" };
            let end = if member.until == NO_END { "no end" } else { "ends" };
            format!("{subject} {} {status} {end}", member.role)
        };
        let members: Vec<String> = self.members.iter().map(member).collect();
        let role = |(name, role): (&String, &Role)| {
            let mut rules = role.rules.clone();
            rules.sort();
            format!("{name}: {}", rules.join(" "))
        };
        let own = self.roles.iter().filter(|(name, _)| !Organization::is_of_all(name));
        let roles: Vec<String> = own.map(role).collect();
        let grant = |(id, granted): (_, &Granted)| (id, granted.is.state.name(), granted.is.approvers.len());
        let guardrail = |(name, state): (&&str, &State)| format!("{name} {}", state.name());
        let guardrails: Vec<String> = self.guardrails.iter().map(guardrail).collect();
        let grants = Organization::text_of(
            self.grants.iter().map(|(id, granted)| grant((id, granted))),
            &GRANT_ENDS,
            &self.grants_over,
        );
        let exception =
            |(id, excepted): (_, &Excepted)| (id, excepted.is.state.name(), excepted.is.approvers.approved_by.len());
        let exceptions = Organization::text_of(
            self.exceptions.iter().map(|(id, excepted)| exception((id, excepted))),
            &EXCEPTION_ENDS,
            &self.exceptions_over,
        );
        let request = |(id, requested): (_, &Requested)| {
            (id, requested.is.state.name(), requested.is.approvers.approved_by.len())
        };
        let requests = Organization::text_of(
            self.requests.iter().map(|(id, requested)| request((id, requested))),
            &REQUEST_ENDS,
            &self.requests_over,
        );
        let open = self.reviews.iter().filter(|(_, review)| review.is_open()).map(|(id, review)| review.text(id));
        let over: Vec<String> = self.reviews_over().into_iter().map(|(end, count)| format!("{count} {end}")).collect();
        let reviews = format!("{}; {}", open.collect::<Vec<_>>().join(", "), over.join(", "));
        let [members, roles, guardrails] = [members, roles, guardrails].map(|lines| lines.join(", "));
        format!("{members}\n{roles}\n{guardrails}\n{grants}\n{exceptions}\n{requests}\n{reviews}")
    }
}

/// What is stored of the organization $1, as [`Organization::text`] says it.
pub const STORED: &str = r#"
    SELECT concat_ws(E'\n',
        (SELECT coalesce(string_agg(concat_ws(' ', m.subject, m.role, m.status,
                    CASE WHEN coalesce(m.valid_until, 'infinity') = 'infinity' THEN 'no end' ELSE 'ends' END),
                    ', ' ORDER BY m.subject COLLATE "C"), '')
           FROM tenancy.membership m WHERE m.organization = $1),
        (SELECT coalesce(string_agg(format('%s: %s', r.name,
                    (SELECT string_agg(p.rule, ' ' ORDER BY p.rule COLLATE "C")
                       FROM (SELECT concat(CASE effect WHEN 'deny' THEN '!' END, domain, ':', action) AS rule
                               FROM tenancy.role_permission
                              WHERE organization = r.organization AND role = r.name) p)),
                    ', ' ORDER BY r.name COLLATE "C"), '')
           FROM tenancy.role r WHERE r.organization = $1),
        (SELECT coalesce(string_agg(concat_ws(' ', w.name, w.state), ', ' ORDER BY w.name COLLATE "C"), '')
           FROM tenancy.guardrail w WHERE w.organization = $1 AND w.state IS NOT NULL),
        (SELECT coalesce(string_agg(concat_ws(' ', g.id, g.state,
                    (SELECT count(*) FROM tenancy.break_glass_approval a WHERE a.grant_id = g.id)),
                    ', ' ORDER BY g.id), '')
           FROM tenancy.break_glass_grant g
          WHERE g.organization = $1 AND g.state IN ('requested', 'approved', 'active', 'ended', 'revoked'))
        || '; ' ||
        (SELECT coalesce(string_agg(concat_ws(' ', n, state), ', ' ORDER BY state COLLATE "C"), '')
           FROM (SELECT state, count(*) AS n FROM tenancy.break_glass_grant
                  WHERE organization = $1 AND state IN ('denied', 'cancelled', 'expired', 'signed_off')
                  GROUP BY state) s),
        (SELECT coalesce(string_agg(concat_ws(' ', e.id, e.state,
                    (SELECT count(*) FROM tenancy.exception_approval a WHERE a.exception = e.id)),
                    ', ' ORDER BY e.id), '')
           FROM tenancy.exception e WHERE e.organization = $1 AND e.state IN ('requested', 'active'))
        || '; ' ||
        (SELECT coalesce(string_agg(concat_ws(' ', n, state), ', ' ORDER BY state COLLATE "C"), '')
           FROM (SELECT state, count(*) AS n FROM tenancy.exception
                  WHERE organization = $1 AND state NOT IN ('requested', 'active') GROUP BY state) s),
        (SELECT coalesce(string_agg(concat_ws(' ', q.id, q.state, num_nonnulls(q.decided_subject)), ', ' ORDER BY q.id),
                         '')
           FROM tenancy.action_type_request q WHERE q.organization = $1 AND q.state IN ('requested', 'approved'))
        || '; ' ||
        (SELECT coalesce(string_agg(concat_ws(' ', n, state), ', ' ORDER BY state COLLATE "C"), '')
           FROM (SELECT state, count(*) AS n FROM tenancy.action_type_request
                  WHERE organization = $1 AND state NOT IN ('requested', 'approved') GROUP BY state) s),
        (SELECT coalesce(string_agg(format('%s %s: %s', v.id, v.kind,
                    (SELECT string_agg(concat_ws(' ', i.number, coalesce(i.assignee_subject, '-'),
                                                 coalesce(i.decision, '-'), coalesce(i.decided_subject, '-'),
                                                 coalesce(i.outcome, '-')), '; ' ORDER BY i.number)
                       FROM tenancy.review_item i WHERE i.review = v.id)), ', ' ORDER BY v.id), '')
           FROM tenancy.review v WHERE v.organization = $1 AND v.state = 'open')
        || '; ' ||
        (SELECT coalesce(string_agg(concat_ws(' ', n, "end"), ', ' ORDER BY "end" COLLATE "C"), '')
           FROM (SELECT "end", count(*) AS n
                   FROM (SELECT v.state AS "end" FROM tenancy.review v WHERE v.organization = $1 AND v.state <> 'open'
                          UNION ALL
                         SELECT i.outcome FROM tenancy.review v JOIN tenancy.review_item i ON i.review = v.id
                          WHERE v.organization = $1 AND v.state = 'closed') e
                  GROUP BY "end") s))"#;

/// What no call and no time may lead to, each with what it is.
pub const VIOLATIONS: &str = "
    SELECT 'a grant approved by who asked for it or uses it' FROM tenancy.break_glass_grant g
      JOIN tenancy.break_glass_approval a ON a.grant_id = g.id
     WHERE a.subject IN (g.requested_subject, g.beneficiary_subject)
       AND g.organization = 'aaaaaaaa-0000-4000-8000-000000000001'
    UNION ALL SELECT 'a grant that was active without its approvals' FROM tenancy.break_glass_grant g
     WHERE g.activated_at IS NOT NULL
       AND (SELECT count(*) FROM tenancy.break_glass_approval a WHERE a.grant_id = g.id)
           < CASE g.organization WHEN 'aaaaaaaa-0000-4000-8000-000000000001' THEN 1 ELSE 2 END
    UNION ALL SELECT 'a grant that is active longer than it was asked for' FROM tenancy.break_glass_grant
     WHERE ends_at > activated_at + duration OR over_at > ends_at OR activated_at >= activate_before
    UNION ALL SELECT 'a grant signed off by who asked for it or used it' FROM tenancy.break_glass_grant
     WHERE signed_off_subject IN (requested_subject, beneficiary_subject)
    UNION ALL SELECT 'an exception approved by who asked for it or owns it' FROM tenancy.exception e
      JOIN tenancy.exception_approval a ON a.exception = e.id
     WHERE a.subject IN (e.requested_subject, e.owner_subject)
       AND e.organization = 'aaaaaaaa-0000-4000-8000-000000000001'
    UNION ALL SELECT 'an exception in force without its approvals' FROM tenancy.exception e
     WHERE e.active_from IS NOT NULL
       AND (SELECT count(*) FROM tenancy.exception_approval a WHERE a.exception = e.id) < e.approvals
    UNION ALL SELECT 'two exceptions in force for one target' FROM tenancy.exception
     WHERE state = 'active' GROUP BY organization, kind, target HAVING count(*) > 1
    UNION ALL SELECT 'a request approved by who made it' FROM tenancy.action_type_request
     WHERE state = 'approved' AND decided_subject = requested_subject
       AND organization = 'aaaaaaaa-0000-4000-8000-000000000001'
    UNION ALL SELECT 'an item decided by whom it is about' FROM tenancy.review_item i
     WHERE i.about @> jsonb_build_array(jsonb_build_object('issuer', i.decided_issuer, 'subject', i.decided_subject))
    UNION ALL SELECT 'an item done without a decision' FROM tenancy.review_item i
     WHERE i.outcome IN ('kept', 'applied', 'failed', 'stale') AND i.decision IS NULL
    UNION ALL SELECT 'a closed review with an item that nothing became of' FROM tenancy.review v
      JOIN tenancy.review_item i ON i.review = v.id WHERE v.state = 'closed' AND i.outcome IS NULL
    UNION ALL SELECT 'something done by a review that is not closed' FROM tenancy.review v
      JOIN tenancy.review_item i ON i.review = v.id WHERE v.state <> 'closed' AND i.outcome <> 'applied'
    UNION ALL SELECT 'a revoked exception in force' FROM tenancy.review_item i
      JOIN tenancy.exception e ON e.id = (i.what ->> 'exception')::uuid
     WHERE (i.outcome = 'applied' AND i.decision = 'revoke' OR i.outcome = 'lapsed') AND e.state = 'active'
    UNION ALL SELECT 'a revoked grant in force' FROM tenancy.review_item i
      JOIN tenancy.break_glass_grant g ON g.id = (i.what ->> 'grant')::uuid
     WHERE i.outcome = 'applied' AND i.decision = 'revoke' AND g.state = 'active'
    UNION ALL SELECT 'a person outside the organization decided' FROM tenancy.break_glass_approval a
      JOIN tenancy.break_glass_grant g ON g.id = a.grant_id WHERE a.organization <> g.organization";
