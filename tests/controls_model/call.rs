//! Calls, each as SQL and as what it should do.

use super::action_types::{ActionCall, any_action_call};
use super::exceptions::ExceptionCall;
use super::grants::{GrantCall, OVERRIDE};
use super::guardrails::{GuardrailCall, any_guardrail_call};
use super::members::{self, Change, Giver, known};
use super::organization::*;
use super::reviews::{ReviewCall, any_review_call};
use crate::rotation_model::Random;

pub const SUBJECTS: [&str; 6] = ["alice", "bob", "carol", "dora", "emil", "nora"];
const ROLES: [&str; 9] = ["admin", "observer", "keeper", "approver", "oncall", "r1", "r2", "r3", "nothing"];
const OWN_ROLES: [&str; 4] = ["r1", "r2", "r3", "observer"];
const RULES: [&str; 14] = [
    "*:*",
    "*:*",
    "*:read",
    "member:*",
    "role:*",
    "finding:*",
    "finding:read",
    "!finding:delete",
    "break_glass:*",
    "!break_glass:approve",
    "exception:*",
    "!role:delete",
    "review:*",
    "!review:decide",
];
/// An end that no clock of the test comes to.
pub const FAR: i64 = 32_503_680_000_000_000;

#[derive(Clone, Debug)]
pub enum Call {
    AddMember {
        subject: &'static str,
        role: &'static str,
        until: i64,
    },
    ChangeMember {
        subject: &'static str,
        change: Change,
    },
    DropMember {
        subject: &'static str,
    },
    DefineRole {
        name: &'static str,
        rules: Vec<String>,
    },
    DropRole {
        name: &'static str,
    },
    Allowed {
        domain: &'static str,
        action: &'static str,
    },
    /// With the id of what it is about.
    Grant(String, GrantCall),
    Exception(String, ExceptionCall),
    Review(String, ReviewCall),
    Guardrail(GuardrailCall),
    Action(String, ActionCall),
}

fn microseconds(time: i64) -> String {
    match time {
        NO_END => "'infinity'".to_owned(),
        time => format!("to_timestamp({} / 1000000.0)", time),
    }
}

fn named(name: &str, value: Option<String>) -> String {
    value.map_or_else(String::new, |value| format!(", {name} => {value}"))
}

impl Call {
    /// A call of somebody who sees that organization: most often one that does something.
    pub fn some(random: &mut Random, seen: &Organization, caller: &Caller, now: i64) -> Self {
        let usable =
            seen.grants.iter().find(|(_, granted)| granted.beneficiary() == caller.subject && granted.can_be_used(now));
        if let Some((id, _)) = usable
            && random.one_in(4)
        {
            return Call::Grant(id.clone(), GrantCall::Elevate);
        }
        let mut call = Call::any(random, seen, now);
        for _ in 0..random.below(24) {
            if !call.reads() && call.make(&mut seen.clone(), caller, now, None).is_ok() {
                break;
            }
            call = Call::any(random, seen, now);
        }
        call
    }

    fn any(random: &mut Random, seen: &Organization, now: i64) -> Self {
        match random.below(21) {
            0..2 => Call::of_members(random),
            2..9 => Call::Grant(some_id(random, seen.grants.keys()), any_grant_call(random)),
            9..12 => {
                let (id, call) = any_review_call(random, seen, now);
                Call::Review(id, call)
            }
            12..18 => Call::Exception(some_id(random, seen.exceptions.keys()), any_exception_call(random, now)),
            18..20 => Call::Action(some_id(random, seen.requests.keys()), any_action_call(random)),
            _ => Call::Guardrail(any_guardrail_call(random)),
        }
    }

    fn of_members(random: &mut Random) -> Self {
        let subject = random.pick(&SUBJECTS);
        match random.below(12) {
            0..2 => {
                Call::AddMember { subject, role: random.pick(&ROLES), until: random.pick(&[NO_END, NO_END, FAR, 0]) }
            }
            5..10 => Call::ChangeMember { subject, change: some_change(random) },
            10 => Call::DropMember { subject },
            11..13 => Call::DefineRole { name: random.pick(&OWN_ROLES), rules: some_rules(random) },
            13 => Call::DropRole { name: random.pick(&OWN_ROLES) },
            _ => Call::Allowed {
                domain: random.pick(&["finding", "member", "break_glass"]),
                action: random.pick(&["read", "update", "delete", "approve"]),
            },
        }
    }

    pub fn sql(&self) -> String {
        let call = match self {
            Call::AddMember { subject, role, until } => {
                format!("add_member('{subject}', '{role}', valid_until => {})", microseconds(*until))
            }
            Call::ChangeMember { subject, change: Change { role, active, until } } => {
                let status = active.map(|active| if active { "'active'" } else { "'suspended'" }.to_owned());
                format!(
                    "change_member('{subject}'{}{}{})",
                    named("role", role.map(|role| format!("'{role}'"))),
                    named("status", status),
                    named("valid_until", until.map(microseconds))
                )
            }
            Call::DropMember { subject } => format!("drop_member('{subject}', 'test')"),
            Call::DefineRole { name, rules } => format!("define_role('{name}', '{{{}}}')", rules.join(",")),
            Call::DropRole { name } => format!("drop_role('{name}')"),
            Call::Allowed { domain, action } => format!("allowed('{domain}', '{action}')"),
            Call::Grant(id, GrantCall::Elevate) => {
                let call = GrantCall::Elevate.sql(id);
                return format!("SELECT (extract(epoch FROM tenancy.{call}) * 1000000)::bigint");
            }
            Call::Grant(id, call) => call.sql(id),
            Call::Exception(id, call) => call.sql(id),
            Call::Review(id, ReviewCall::Close) => return ReviewCall::Close.sql(id),
            Call::Review(id, call) => call.sql(id),
            Call::Guardrail(call) => call.sql("tenancy.org_id()"),
            Call::Action(id, call) => call.sql(id),
        };
        format!("SELECT tenancy.{call}")
    }

    /// Whether it changes nothing, and waits for nobody.
    pub fn reads(&self) -> bool {
        match self {
            Call::Allowed { .. } => true,
            Call::Exception(_, call) => call.reads(),
            Call::Action(_, call) => call.reads(),
            _ => false,
        }
    }

    /// Whether all that it does waits for whoever has changed the organization.
    pub fn takes_turns(&self) -> bool {
        !matches!(self, Call::Grant(_, GrantCall::Elevate))
    }

    /// What the call should do and answer. Of a refused one nothing stays. The ids of what is made are those of the
    /// server's answer.
    pub fn make(
        &self,
        of: &mut Organization,
        caller: &Caller,
        now: i64,
        answer: Option<&str>,
    ) -> Result<String, Refused> {
        let permitted = |domain: &str, action: &str| caller.must(domain, action);
        let done = Ok(String::new());
        match self {
            Call::AddMember { subject, role, until } => {
                permitted("member", "create")?;
                if *until <= now {
                    return Err(BAD_ARGUMENT);
                }
                let given = known(of, role)?;
                of.must_hold(caller, &given)?;
                if of.members.contains_key(subject) {
                    return Err(THERE_ALREADY);
                }
                let since = now;
                of.members.insert(subject, Member { role: role.to_string(), active: true, until: *until, since });
                of.told("membership", "insert", 1);
                done
            }
            Call::ChangeMember { subject, change } => {
                permitted("member", "update")?;
                members::change(of, subject, change, &Giver::Caller(caller), Some(caller), now)?;
                done
            }
            Call::DropMember { subject } => {
                permitted("member", "delete")?;
                members::remove(of, subject, Some(caller), now)?;
                done
            }
            Call::DefineRole { name, rules } => {
                permitted("role", "update").or_else(|_| permitted("role", "create"))?;
                if Organization::is_of_all(name) {
                    return Err(THERE_ALREADY);
                }
                permitted("role", if of.roles.contains_key(*name) { "update" } else { "create" })?;
                members::define_role(of, name, rules, &Giver::Caller(caller), now)?;
                done
            }
            Call::DropRole { name } => {
                permitted("role", "delete")?;
                members::drop_role(of, name)?;
                done
            }
            Call::Allowed { domain, action } => Ok(if caller.may(domain, action) { "t" } else { "f" }.to_owned()),
            Call::Grant(id, call) => call.make(id, of, caller, now, answer),
            Call::Exception(id, call) => call.make(id, of, caller, now, answer),
            Call::Review(id, call) => call.make(id, of, caller, now, answer),
            Call::Guardrail(call) => call.make_by(of, caller),
            Call::Action(id, call) => call.make(id, of, caller, now, answer),
        }
    }
}

pub fn some_change(random: &mut Random) -> Change {
    Change {
        role: random.one_in(2).then(|| random.pick(&ROLES)),
        active: random.one_in(2).then(|| !random.one_in(6)),
        until: random.one_in(4).then(|| random.pick(&[NO_END, FAR])),
    }
}

pub fn some_rules(random: &mut Random) -> Vec<String> {
    let mut rules: Vec<String> = (0..1 + random.below(4)).map(|_| random.pick(&RULES).to_owned()).collect();
    rules.sort();
    rules.dedup();
    rules
}

/// The id of one of the newest, most often, or of nothing.
pub fn some_id<'a>(random: &mut Random, ids: impl DoubleEndedIterator<Item = &'a String>) -> String {
    let newest: Vec<&String> = ids.rev().take(8).collect();
    match newest.is_empty() || random.one_in(40) {
        true => "00000000-0000-4000-8000-000000000000".to_owned(),
        false => random.pick(&newest).clone(),
    }
}

fn any_grant_call(random: &mut Random) -> GrantCall {
    match random.below(14) {
        0..3 => GrantCall::Request {
            beneficiary: random.pick(&SUBJECTS),
            permissions: random.pick(&[
                "finding:*",
                "finding:update",
                "member:update",
                "exception:*",
                "review:*",
                "role:*",
            ]),
            overrides: random.pick(&["", "", "", "", OVERRIDE, OVERRIDE, "overdue_rotation"]),
            minutes: random.pick(&[10, 30, 60, 120, 0, 121]),
        },
        3..7 => GrantCall::Approve,
        7 if random.one_in(2) => GrantCall::Deny,
        7 => GrantCall::Cancel,
        8..12 => GrantCall::Elevate,
        12 => GrantCall::End,
        _ => GrantCall::SignOff,
    }
}

fn any_exception_call(random: &mut Random, now: i64) -> ExceptionCall {
    let kind = random.pick(&["finding", "free", "two"]);
    let target = random.pick(&["a", "b", "c", "*"]);
    // Whole hours, so that somebody asks for the same again.
    let hours = random.pick(&[1, 2, 24, 24 * 3, 24 * 89, 24 * 91, -1]);
    let expires_at = (now / 3_600_000_000 + hours) * 3_600_000_000;
    match random.below(16) {
        0..4 => ExceptionCall::Add { kind, target, owner: random.pick(&SUBJECTS), expires_at },
        4..8 => ExceptionCall::Decide { approve: !random.one_in(6) },
        8..10 => ExceptionCall::Amend { expires_at },
        10 => ExceptionCall::Revoke,
        11..14 => ExceptionCall::Asked { kind, target },
        _ => ExceptionCall::AskedInAllWays { kind, target },
    }
}
