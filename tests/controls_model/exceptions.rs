//! Exceptions: the calls, and what each should do.

use super::grants::person;
use super::organization::*;
use pg_tenancy_core::controls::approval::Person;
use pg_tenancy_core::controls::exception::{EVERY_TARGET, End, Exception, OnNoReview, Refusal, Settings, State};

const DAY: i64 = 86_400_000_000;

/// Kinds that need no approval and two, of all organizations. The kind `finding` needs one.
pub const KINDS: [(&str, &str); 2] = [
    ("free", r#"{"approvals": 0, "max_duration": "2 days", "broad": true, "on_no_review": "keep"}"#),
    ("two", r#"{"approvals": 2}"#),
];

#[derive(Clone, Debug)]
pub struct Excepted {
    pub is: Exception,
    pub kind: &'static str,
    target: &'static str,
    pub replaces: Option<String>,
}

#[derive(Clone, Debug)]
pub enum ExceptionCall {
    Add {
        kind: &'static str,
        target: &'static str,
        owner: &'static str,
        expires_at: i64,
    },
    Decide {
        approve: bool,
    },
    Amend {
        expires_at: i64,
    },
    Revoke,
    /// By `tenancy.is_excepted` alone, which needs no permission.
    Asked {
        kind: &'static str,
        target: &'static str,
    },
    /// In all three ways.
    AskedInAllWays {
        kind: &'static str,
        target: &'static str,
    },
}

pub fn settings(kind: &str) -> Settings {
    match kind {
        "free" => Settings {
            approvals: 0,
            max_duration: 2 * DAY,
            broad: true,
            on_no_review: OnNoReview::Keep,
            ..Settings::default()
        },
        "two" => Settings { approvals: 2, ..Settings::default() },
        _ => Settings::default(),
    }
}

fn sqlstate(refusal: Refusal) -> Refused {
    match refusal {
        Refusal::Approver(pg_tenancy_core::controls::approval::Objection::OwnRequest) => NOT_PERMITTED,
        _ => WRONG_STATE,
    }
}

/// Whether the target is excepted: somebody approved it, nobody ended it, and its time is not over.
fn is_excepted(of: &Organization, kind: &str, target: &str, now: i64) -> bool {
    let fits = |excepted: &&Excepted| excepted.kind == kind && [target, EVERY_TARGET].contains(&excepted.target);
    of.exceptions.values().filter(fits).any(|excepted| excepted.in_force(now))
}

impl Excepted {
    pub fn in_force(&self, now: i64) -> bool {
        let (is, longest) = (&self.is, settings(self.kind).max_duration);
        let since = is.active_from.unwrap_or(i64::MAX - longest);
        is.state == State::Active && now < is.expires_at && now < since + longest
    }
}

pub fn settle(of: &mut Organization, now: i64) {
    let all: Vec<String> = of.exceptions.keys().cloned().collect();
    all.iter().for_each(|id| drop(settled(of, id, now)));
}

/// The exception as it is now; that its time is over is recorded.
fn settled(of: &mut Organization, id: &str, now: i64) -> Excepted {
    let excepted = of.exceptions.get_mut(id).unwrap();
    let expired = excepted.is.settle(&settings(excepted.kind), now);
    let excepted = excepted.clone();
    of.told("exception", "exception_expired", u64::from(expired));
    excepted
}

fn found(of: &Organization, kind: &str, target: &str, state: State) -> Option<String> {
    let fits = |excepted: &Excepted| excepted.kind == kind && excepted.target == target && excepted.is.state == state;
    of.exceptions.iter().find(|(_, excepted)| fits(excepted)).map(|(id, _)| id.clone())
}

/// The one in that state, unless its time is over.
fn there(of: &mut Organization, made: &Excepted, state: State, now: i64) -> Option<(String, Excepted)> {
    let id = found(of, made.kind, made.target, state)?;
    let excepted = settled(of, &id, now);
    (excepted.is.state != State::Expired).then_some((id, excepted))
}

fn same(one: &Excepted, other: &Excepted) -> bool {
    one.replaces == other.replaces
        && one.is.expires_at == other.is.expires_at
        && one.is.approvers.interested == other.is.approvers.interested
}

fn keep(of: &mut Organization, made: Excepted, answer: Option<&str>) -> String {
    let id = new_id(&of.exceptions, answer);
    of.exceptions.insert(id.clone(), made);
    of.told("exception", "exception_requested", 1);
    id
}

/// Ends an exception in force, and what is asked for in its place.
pub fn revoke(of: &mut Organization, id: &str, now: i64) -> Result<(), Refused> {
    let excepted = end(of, id, End::Revoked, now)?;
    let amended = found(of, excepted.kind, excepted.target, State::Requested)
        .filter(|amended| of.exceptions[amended].replaces.as_deref() == Some(id));
    if let Some(amended) = amended
        && settled(of, &amended, now).is.state == State::Requested
    {
        end(of, &amended, End::Cancelled, now)?;
    }
    Ok(())
}

/// Somebody ends an exception, or nobody by not deciding.
pub fn end(of: &mut Organization, id: &str, how: End, now: i64) -> Result<Excepted, Refused> {
    let excepted = of.exceptions.get_mut(id).ok_or(UNKNOWN)?;
    excepted.is.end(how, &settings(excepted.kind), now).map_err(sqlstate)?;
    let ended = excepted.clone();
    let operation = match how {
        End::Denied => "exception_denied",
        End::Cancelled => "exception_cancelled",
        End::Revoked => "exception_revoked",
        End::Lapsed => "exception_lapsed",
    };
    of.told("exception", operation, 1);
    Ok(ended)
}

/// Asks for an exception in the place of another one, until another time; the id.
pub fn ask_instead(
    of: &mut Organization,
    id: &str,
    by: Person,
    expires_at: i64,
    now: i64,
    answer: Option<&str>,
) -> Result<String, Refused> {
    of.exceptions.get(id).ok_or(UNKNOWN)?;
    let old = settled(of, id, now);
    let settings = settings(old.kind);
    let owner = old.is.approvers.interested[1].clone();
    of.held(&owner.subject).ok_or(BAD_ARGUMENT)?;
    let ask = |replaced| {
        let people = [by.clone(), owner.clone()];
        Exception::request(people, old.is.broad, expires_at, replaced, &settings, now)
    };
    let is = ask(None).map_err(|_| BAD_ARGUMENT)?;
    let made = Excepted { is, replaces: Some(id.to_owned()), ..old.clone() };
    match there(of, &made, State::Requested, now) {
        Some((id, excepted)) if same(&excepted, &made) => return Ok(id),
        Some(_) => return Err(WRONG_STATE),
        None => {}
    }
    let active = found(of, made.kind, made.target, State::Active);
    if let Some(active) = active.filter(|id| same(&of.exceptions[id], &made)) {
        return Ok(active);
    }
    let mut replaced = old.clone();
    if replaced.is.state != State::Active {
        return Err(WRONG_STATE);
    }
    ask(Some(&mut replaced.is)).map_err(|_| BAD_ARGUMENT)?;
    if replaced.is.state == State::Superseded {
        of.exceptions.insert(id.to_owned(), replaced);
        of.told("exception", "exception_superseded", 1);
    }
    Ok(keep(of, made, answer))
}

impl ExceptionCall {
    pub fn sql(&self, id: &str) -> String {
        let time = |at: i64| format!("to_timestamp({})", at / 1_000_000);
        match self {
            ExceptionCall::Add { kind, target, owner, expires_at } => format!(
                "add_exception('{kind}', '{target}', 'a reason that says enough', {}, '{owner}')",
                time(*expires_at)
            ),
            ExceptionCall::Decide { approve } => format!("decide_exception('{id}', {approve}, 'test')"),
            ExceptionCall::Amend { expires_at } => format!("amend_exception('{id}', {})", time(*expires_at)),
            ExceptionCall::Revoke => format!("revoke_exception('{id}', 'test')"),
            ExceptionCall::Asked { kind, target } => format!("is_excepted('{kind}', '{target}')"),
            ExceptionCall::AskedInAllWays { kind, target } => format!(
                "is_excepted('{kind}', '{target}')::text || ((tenancy.exception_of('{kind}', '{target}')).id IS NOT \
                 NULL) || EXISTS (SELECT FROM tenancy.excepted('{kind}') WHERE target IN ('{target}', '*'))"
            ),
        }
    }

    pub fn reads(&self) -> bool {
        matches!(self, ExceptionCall::Asked { .. } | ExceptionCall::AskedInAllWays { .. })
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
        let known = |of: &Organization| of.exceptions.get(id).cloned().ok_or(UNKNOWN);
        match self {
            ExceptionCall::Asked { kind, target } => {
                Ok(if is_excepted(of, kind, target, now) { "t" } else { "f" }.to_owned())
            }
            ExceptionCall::AskedInAllWays { kind, target } => {
                caller.must("exception", "read")?;
                Ok(if is_excepted(of, kind, target, now) { "true" } else { "false" }.repeat(3))
            }
            ExceptionCall::Add { kind, target, owner, expires_at } => {
                caller.must("exception", "request")?;
                of.held(owner).ok_or(BAD_ARGUMENT)?;
                let settings = settings(kind);
                let people = [by, person(owner)];
                let made = Exception::request(people, *target == EVERY_TARGET, *expires_at, None, &settings, now);
                let is = made.map_err(|_| BAD_ARGUMENT)?;
                let made = Excepted { is, kind, target, replaces: None };
                for state in [State::Requested, State::Active] {
                    match there(of, &made, state, now) {
                        Some((id, excepted)) if same(&excepted, &made) => return Ok(id),
                        Some(_) => return Err(WRONG_STATE),
                        None => {}
                    }
                }
                Ok(keep(of, made, answer))
            }
            ExceptionCall::Decide { approve } => {
                caller.must("exception", "approve")?;
                of.must_hold_action(caller, "exception", "approve")?;
                if !approve {
                    return end(of, id, End::Denied, now).map(|_| String::new());
                }
                let mut excepted = known(of)?;
                let (settings, own) = (settings(excepted.kind), !of.enforces("self_approved_exception"));
                of.held(&excepted.is.approvers.interested[1].subject).ok_or(WRONG_STATE)?;
                let replaced = excepted.replaces.clone();
                let mut old = replaced.as_ref().map(|old| settled(of, old, now).is);
                excepted.is.approve(&by, own, old.as_mut(), &settings, now).map_err(sqlstate)?;
                if let (Some(id), Some(old)) = (replaced, old.filter(|old| old.state == State::Superseded)) {
                    of.exceptions.get_mut(&id).unwrap().is = old;
                    of.told("exception", "exception_superseded", 1);
                }
                of.exceptions.insert(id.to_owned(), excepted);
                of.told("exception", "exception_approved", 1);
                Ok(String::new())
            }
            ExceptionCall::Amend { expires_at } => {
                caller.must("exception", "request")?;
                ask_instead(of, id, by, *expires_at, now, answer)
            }
            ExceptionCall::Revoke => {
                let known = known(of);
                if !known.as_ref().is_ok_and(|excepted| excepted.is.approvers.is_interested(&by)) {
                    caller.must("exception", "approve")?;
                }
                let excepted = known?;
                match excepted.is.state_at(&settings(excepted.kind), now) {
                    State::Requested => end(of, id, End::Cancelled, now).map(drop)?,
                    _ => revoke(of, id, now)?,
                }
                Ok(String::new())
            }
        }
    }
}
