//! The functions of exceptions: add, decide, amend, revoke.
//!
//! Decision: `docs/decisions/83-exceptions.md`.

use super::alert::raise_alert;
use super::exception_kind::settings;
use super::exception_row::{self, Ending, StoredException, active, by_id, requested};
use super::holding::must_hold_action;
use super::input;
use crate::audit::{self, NewEvent, append};
use crate::context;
use crate::guardrail::{self, Hit};
use crate::identity::{hold_organization, is_active_member};
use crate::pg::report::OrRaise;
use crate::pg::tables::table;
use crate::pg::{clock, transaction, user};
use pg_tenancy_core::controls::alert::AlertKind;
use pg_tenancy_core::controls::approval::{Objection, Person};
use pg_tenancy_core::controls::exception::{
    EVERY_TARGET, End, Exception, OnNoReview, Refusal, Settings, State, check_reason, check_target,
};
use pg_tenancy_core::error::{self, Error, Result, require_not_null};
use pg_tenancy_core::guardrail::{self as rules, SELF_APPROVED_EXCEPTION};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::{Array, pg_extern};
use uuid::Uuid;

/// The domain of the permissions, events and alerts.
pub const DOMAIN: &str = "exception";
const REQUEST: &str = "request";
const APPROVE: &str = "approve";

/// `tenancy.add_exception(...)`: returns the id of the exception.
#[allow(clippy::too_many_arguments)]
#[pg_extern(sql = false)]
fn tenancy_add_exception(
    kind: Option<&str>,
    target: Option<&str>,
    reason: Option<&str>,
    expires_at: Option<TimestampWithTimeZone>,
    owner_subject: Option<&str>,
    owner_issuer: Option<&str>,
    ticket: Option<&str>,
    evidence: Option<Array<pgrx::Uuid>>,
) -> pgrx::Uuid {
    let owner = Owner { subject: owner_subject, issuer: owner_issuer };
    let evidence = evidence.map(|events| audit::given_ids(&events));
    let given =
        Given { kind, target, reason, expires_at: expires_at.map(transaction::microseconds), owner, ticket, evidence };
    pgrx::Uuid::from_bytes(*add(given).or_raise().as_bytes())
}

/// `tenancy.decide_exception(exception, approve, reason)`.
#[pg_extern(sql = false)]
fn tenancy_decide_exception(exception: Option<pgrx::Uuid>, approve: Option<bool>, reason: Option<&str>) {
    decide(exception, approve, reason).or_raise();
}

/// `tenancy.amend_exception(...)`: returns the id of the exception that takes the place of the other.
#[pg_extern(sql = false)]
fn tenancy_amend_exception(
    exception: Option<pgrx::Uuid>,
    expires_at: Option<TimestampWithTimeZone>,
    reason: Option<&str>,
    owner_subject: Option<&str>,
    owner_issuer: Option<&str>,
) -> pgrx::Uuid {
    let owner = Owner { subject: owner_subject, issuer: owner_issuer };
    let amendment = Amendment { expires_at: expires_at.map(transaction::microseconds), reason, owner };
    let id = amend(exception, &amendment).or_raise();
    pgrx::Uuid::from_bytes(*id.as_bytes())
}

/// `tenancy.revoke_exception(exception, reason)`.
#[pg_extern(sql = false)]
fn tenancy_revoke_exception(exception: Option<pgrx::Uuid>, reason: Option<&str>) {
    revoke(exception, reason).or_raise();
}

/// The arguments of a request as they came.
struct Given<'a> {
    kind: Option<&'a str>,
    target: Option<&'a str>,
    reason: Option<&'a str>,
    expires_at: Option<i64>,
    owner: Owner<'a>,
    ticket: Option<&'a str>,
    evidence: Option<Vec<Option<Uuid>>>,
}

/// An owner as a caller names one.
#[derive(Clone, Copy)]
pub struct Owner<'a> {
    pub subject: Option<&'a str>,
    pub issuer: Option<&'a str>,
}

/// What an amendment asks for; what is not named stays.
#[derive(Clone, Copy)]
pub struct Amendment<'a> {
    /// In microseconds since 1970.
    pub expires_at: Option<i64>,
    pub reason: Option<&'a str>,
    pub owner: Owner<'a>,
}

impl Owner<'_> {
    /// The person that is named, by default of the issuer of whoever asks, or `otherwise`; an active member in any
    /// case.
    fn person(&self, organization: Uuid, by: &Person, otherwise: &Person, now: i64) -> Result<Person> {
        let issuer = self.issuer.unwrap_or(&by.issuer);
        let owner = match self.subject {
            None if self.issuer.is_some() => {
                return Err(error::ARGUMENT_INVALID.error("owner_issuer names the issuer of an owner_subject"));
            }
            None => otherwise.clone(),
            Some(subject) => Person { issuer: issuer.to_owned(), subject: subject.to_owned() },
        };
        if !is_active_member(organization, &owner.issuer, &owner.subject, now) {
            let message = format!("\"{}\" is no active member of the organization", owner.subject);
            return Err(error::ARGUMENT_INVALID.error(message));
        }
        Ok(owner)
    }
}

fn add(given: Given) -> Result<Uuid> {
    context::authorize(DOMAIN, REQUEST)?;
    let context = context::require()?;
    let requester = input::acting_person(&context)?;
    let (kind, target) = (require_not_null(given.kind, "kind")?, require_not_null(given.target, "target")?);
    let reason = require_not_null(given.reason, "reason")?;
    let expires_at = require_not_null(given.expires_at, "expires_at")?;
    let ticket = given.ticket.map(|ticket| input::text(Some(ticket), "ticket")).transpose()?;
    let evidence = audit::events(require_not_null(given.evidence, "evidence")?)?;
    input::must_write()?;
    check_target(target)?;
    let organization = context.organization.id;
    audit::require_events(organization, &evidence)?;
    user::as_superuser(|| {
        hold_organization(organization);
        // The clock is read under the lock: what waited for another change is not older than it.
        let now = clock::now();
        let settings = settings(organization, kind)?;
        check_reason(reason, settings.min_reason, kind, target)?;
        let owner = given.owner.person(organization, &requester, &requester, now)?;
        let broad = target == EVERY_TARGET;
        let made = Exception::request([requester, owner], broad, expires_at, None, &settings, now);
        let made = StoredException {
            id: StoredException::new_id(now),
            organization,
            kind: kind.to_owned(),
            target: target.to_owned(),
            reason: reason.to_owned(),
            ticket: ticket.map(str::to_owned),
            evidence,
            replaces: None,
            exception: made.map_err(|refusal| out_of_bounds(refusal, &settings))?,
        };
        if let Some(there) = same_or_refused(&made, &settings, now)? {
            return Ok(there);
        }
        if let Some(there) = settled(active(organization, kind, target)?, &settings, now)? {
            if there.asks_the_same(&made) {
                return Ok(there.id);
            }
            let message = "there is an active exception for this kind and target";
            let detail = format!("It has the id {}, and is owned by \"{}\".", there.id, there.owner().subject);
            return Err(error::EXCEPTION_STATE.error(message).detail(detail));
        }
        store_request(&made, now)
    })
}

fn decide(exception: Option<pgrx::Uuid>, approve: Option<bool>, reason: Option<&str>) -> Result<()> {
    context::authorize(DOMAIN, APPROVE)?;
    let context = context::require()?;
    let by = input::acting_person(&context)?;
    let id = input::id(exception, "exception")?;
    let approve = require_not_null(approve, "approve")?;
    let reason = input::reason(reason)?;
    input::must_write()?;
    let organization = context.organization.id;
    let stored = user::as_superuser(|| {
        hold_organization(organization);
        must_hold_action(&context, DOMAIN, APPROVE)?;
        by_id(organization, id)
    })?;
    let (settings, now) = (user::as_superuser(|| settings(organization, &stored.kind))?, clock::now());
    if approve {
        return self::approve(stored, &by, reason, &settings, now);
    }
    user::as_superuser(|| {
        let ending = Ending { by: &by, reason: Some(reason) };
        end(stored, End::Denied, "exception_denied", &ending, &settings, now)
    })
}

fn approve(mut stored: StoredException, by: &Person, reason: &str, settings: &Settings, now: i64) -> Result<()> {
    let own = stored.exception.approvers.is_interested(by);
    let guardrail =
        if own { guardrail::state(&SELF_APPROVED_EXCEPTION, stored.organization) } else { rules::State::Off };
    let organization = stored.organization;
    let owner = stored.owner();
    if !user::as_superuser(|| is_active_member(organization, &owner.issuer, &owner.subject, now)) {
        let message = format!("\"{}\", who is to own exception {}, is no active member", owner.subject, stored.id);
        return Err(audit::refused(DOMAIN, error::EXCEPTION_STATE.error(message)));
    }
    let mut replaced = user::as_superuser(|| {
        let replaced = stored.replaces.map(|id| by_id(organization, id)).transpose()?;
        replaced.map(|replaced| settled_whatever(replaced, settings, now)).transpose()
    })?;
    let approved = {
        let replaced = replaced.as_mut().map(|replaced| &mut replaced.exception);
        stored.exception.approve(by, guardrail != rules::State::Enforce, replaced, settings, now)
    };
    approved.map_err(|refusal| refused(stored.id, refusal, settings))?;
    if guardrail == rules::State::Warn {
        let id = stored.id.to_string();
        let hit = Hit::of_object(&SELF_APPROVED_EXCEPTION, organization, "decide_exception", &id);
        guardrail::warned(&hit, &own_exception())?;
    }
    user::as_superuser(|| {
        // Of one target one is active at a time.
        if let Some(replaced) = replaced.filter(|replaced| replaced.exception.state == State::Superseded) {
            supersede(&replaced, by, settings, now)?;
        }
        stored.store_approval(by, reason, now)?;
        record(&stored, "exception_approved", Some(reason))
    })
}

fn amend(exception: Option<pgrx::Uuid>, amendment: &Amendment) -> Result<Uuid> {
    context::authorize(DOMAIN, REQUEST)?;
    let context = context::require()?;
    let requester = input::acting_person(&context)?;
    let id = input::id(exception, "exception")?;
    let Amendment { expires_at, reason, owner } = amendment;
    if expires_at.is_none() && reason.is_none() && owner.subject.is_none() && owner.issuer.is_none() {
        return Err(error::ARGUMENT_INVALID.error("an amendment changes the end, the reason or the owner"));
    }
    input::must_write()?;
    let organization = context.organization.id;
    user::as_superuser(|| {
        hold_organization(organization);
        ask_instead(organization, id, requester, amendment)
    })
}

/// Asks for an exception in the place of another one. The caller holds the organization, and acts as a superuser.
pub fn ask_instead(organization: Uuid, id: Uuid, requester: Person, amendment: &Amendment) -> Result<Uuid> {
    let now = clock::now();
    let old = by_id(organization, id)?;
    let settings = settings(organization, &old.kind)?;
    let Amendment { expires_at, reason, owner } = *amendment;
    let mut old = settled_whatever(old, &settings, now)?;
    if let Some(reason) = reason {
        check_reason(reason, settings.min_reason, &old.kind, &old.target)?;
    }
    let owner = owner.person(organization, &requester, old.owner(), now)?;
    let expires_at = expires_at.unwrap_or(old.exception.expires_at);
    let (people, broad) = ([requester, owner], old.exception.broad);
    let ask = |replaced: Option<&mut Exception>| {
        let asked = Exception::request(people.clone(), broad, expires_at, replaced, &settings, now);
        asked.map_err(|refusal| out_of_bounds(refusal, &settings))
    };
    let made = StoredException {
        id: StoredException::new_id(now),
        reason: reason.unwrap_or(&old.reason).to_owned(),
        replaces: Some(id),
        exception: ask(None)?,
        ..old.clone()
    };
    let active = active(organization, &old.kind, &old.target)?.filter(|there| there.asks_the_same(&made));
    if let Some(there) = same_or_refused(&made, &settings, now)?.or(active.map(|there| there.id)) {
        return Ok(there);
    }
    if old.exception.state != State::Active {
        return Err(refused(id, Refusal::State(old.exception.state), &settings));
    }
    ask(Some(&mut old.exception))?;
    if old.exception.state == State::Superseded {
        supersede(&old, made.requester(), &settings, now)?;
    }
    store_request(&made, now)
}

fn revoke(exception: Option<pgrx::Uuid>, reason: Option<&str>) -> Result<()> {
    let context = context::require()?;
    let by = input::person(&context);
    let id = input::id(exception, "exception")?;
    let reason = input::reason(reason)?;
    let organization = context.organization.id;
    // Whoever could be refused for the lack of a permission must not learn by it what there is.
    let found = user::as_superuser(|| by_id(organization, id));
    if !found.as_ref().is_ok_and(|found| found.exception.approvers.is_interested(&by)) {
        context::authorize(DOMAIN, APPROVE)?;
    }
    input::must_write()?;
    user::as_superuser(|| {
        hold_organization(organization);
        let now = clock::now();
        let stored = by_id(organization, id)?;
        let settings = settings(organization, &stored.kind)?;
        let ending = Ending { by: &by, reason: Some(reason) };
        if stored.exception.state_at(&settings, now) == State::Requested {
            return end(stored, End::Cancelled, "exception_cancelled", &ending, &settings, now);
        }
        revoke_one(stored, &ending, now)
    })
}

/// Ends an active exception, and what is asked for in its place.
fn revoke_one(stored: StoredException, ending: &Ending, now: i64) -> Result<()> {
    let settings = settings(stored.organization, &stored.kind)?;
    let amended = requested(stored.organization, &stored.kind, &stored.target)?;
    let amended = amended.filter(|one| one.replaces == Some(stored.id));
    end(stored, End::Revoked, "exception_revoked", ending, &settings, now)?;
    match settled(amended, &settings, now)? {
        Some(amended) => end(amended, End::Cancelled, "exception_cancelled", ending, &settings, now),
        None => Ok(()),
    }
}

/// Revokes an exception as a reviewer has decided. The caller holds the organization, and acts as a superuser.
pub fn revoke_reviewed(organization: Uuid, id: Uuid, reason: &str, reviewer: &Person) -> Result<()> {
    revoke_one(by_id(organization, id)?, &Ending { by: reviewer, reason: Some(reason) }, clock::now())
}

/// Ends an exception that a review has left undecided. The caller holds the organization, and acts as a superuser.
pub fn lapse(organization: Uuid, id: Uuid) -> Result<()> {
    let (mut stored, now) = (by_id(organization, id)?, clock::now());
    let settings = settings(organization, &stored.kind)?;
    stored.exception.end(End::Lapsed, &settings, now).map_err(|refusal| refused(stored.id, refusal, &settings))?;
    stored.store_end(None, &settings, now)?;
    record(&stored, "exception_lapsed", None)
}

/// The rule for exceptions of a kind that a review leaves undecided.
pub fn on_no_review(organization: Uuid, kind: &str) -> Result<OnNoReview> {
    settings(organization, kind).map(|settings| settings.on_no_review)
}

/// Somebody ends an exception.
fn end(
    mut stored: StoredException,
    how: End,
    operation: &str,
    ending: &Ending,
    settings: &Settings,
    now: i64,
) -> Result<()> {
    stored.exception.end(how, settings, now).map_err(|refusal| refused(stored.id, refusal, settings))?;
    stored.store_end(Some(ending), settings, now)?;
    record(&stored, operation, ending.reason)
}

fn supersede(replaced: &StoredException, by: &Person, settings: &Settings, now: i64) -> Result<()> {
    replaced.store_end(Some(&Ending { by, reason: None }), settings, now)?;
    record(replaced, "exception_superseded", None)
}

fn store_request(made: &StoredException, now: i64) -> Result<Uuid> {
    made.insert(now);
    record(made, "exception_requested", Some(&made.reason))?;
    if made.exception.state == State::Requested {
        raise_alert(made.organization, DOMAIN, AlertKind::ExceptionRequested, made.described());
    }
    Ok(made.id)
}

/// The id of a request that asks for the same already. One that asks for something else about the target comes first.
fn same_or_refused(made: &StoredException, settings: &Settings, now: i64) -> Result<Option<Uuid>> {
    let there = requested(made.organization, &made.kind, &made.target)?;
    match settled(there, settings, now)? {
        None => Ok(None),
        Some(there) if there.asks_the_same(made) => Ok(Some(there.id)),
        Some(there) => {
            let message = "an exception for this kind and target is asked for";
            let detail = format!("It has the id {}, and was asked for by \"{}\".", there.id, there.requester().subject);
            Err(error::EXCEPTION_STATE.error(message).detail(detail))
        }
    }
}

/// The exception, unless its time is over, which is recorded then.
fn settled(stored: Option<StoredException>, settings: &Settings, now: i64) -> Result<Option<StoredException>> {
    let stored = stored.map(|stored| settled_whatever(stored, settings, now)).transpose()?;
    Ok(stored.filter(|stored| stored.exception.state != State::Expired))
}

/// The exception as it is now. That its time is over is recorded.
fn settled_whatever(mut stored: StoredException, settings: &Settings, now: i64) -> Result<StoredException> {
    if stored.exception.settle(settings, now) {
        stored.store_end(None, settings, now)?;
        record(&stored, "exception_expired", None)?;
    }
    Ok(stored)
}

/// Waits for others who go through many organizations. Whoever holds several would otherwise wait for one that waits
/// for them.
pub fn take_turns() {
    table::lock_against_itself(c"notice");
}

/// Records that the time of exceptions and requests is over, at most of so many; returns of how many.
pub fn expire(now: i64, at_most: i64) -> Result<i64> {
    record_expired(exception_row::over(now, at_most, None, None)?, now)
}

/// The same for all of a kind, in all organizations or in one.
pub fn expire_of_kind(kind: &str, organization: Option<Uuid>, now: i64) -> Result<()> {
    record_expired(exception_row::over(now, i64::MAX, Some(kind), organization)?, now).map(drop)
}

fn record_expired(over: Vec<(Uuid, Uuid)>, now: i64) -> Result<i64> {
    let mut expired = 0;
    for (organization, id) in over {
        hold_organization(organization);
        // Somebody else may have come first.
        let stored = by_id(organization, id)?;
        let before = stored.exception.state;
        let settings = settings(organization, &stored.kind)?;
        let stored = settled_whatever(stored, &settings, now)?;
        expired += i64::from(stored.exception.state != before);
    }
    Ok(expired)
}

fn own_exception() -> Error {
    error::SELF_APPROVAL.error("an exception is approved neither by the person who asked for it nor by its owner")
}

/// The error of a call that the rules refuse, recorded as an event.
fn refused(id: Uuid, refusal: Refusal, settings: &Settings) -> Error {
    let error = match refusal {
        Refusal::Approver(Objection::OwnRequest) => own_exception(),
        Refusal::Approver(Objection::ApprovedBefore) => {
            error::EXCEPTION_STATE.error(format!("exception {id} was approved by the same person before"))
        }
        Refusal::State(state) => error::EXCEPTION_STATE.error(format!("exception {id} is {}", state.name())),
        Refusal::Replaced(state) => {
            let message = format!("the exception that {id} would take the place of is {}", state.name());
            error::EXCEPTION_STATE.error(message)
        }
        Refusal::Broad | Refusal::Past | Refusal::TooLong => {
            let rule = out_of_bounds(refusal, settings);
            error::EXCEPTION_STATE.error(format!("exception {id} is not allowed any more: {rule}"))
        }
    };
    audit::refused(DOMAIN, error)
}

/// The error of a request for what its kind does not allow.
fn out_of_bounds(refusal: Refusal, settings: &Settings) -> Error {
    match refusal {
        Refusal::Broad => error::ARGUMENT_INVALID.error("the kind has no exceptions for the target *"),
        Refusal::Past => error::ARGUMENT_INVALID.error("expires_at is not in the future"),
        Refusal::TooLong => {
            let hours = settings.max_duration / 3_600_000_000;
            let longest = match settings.max_duration {
                whole if whole % 86_400_000_000 == 0 => format!("{} days", hours / 24),
                whole if whole % 3_600_000_000 == 0 => format!("{hours} hours"),
                other => format!("{} seconds", other / 1_000_000),
            };
            error::ARGUMENT_INVALID
                .error(format!("expires_at is more than {longest} away, the max_duration of the kind"))
        }
        Refusal::Approver(_) | Refusal::State(_) | Refusal::Replaced(_) => {
            error::EXCEPTION_STATE.error("the exception that would be replaced has ended")
        }
    }
}

/// Writes the event of a change, into the chain of its organization.
fn record(stored: &StoredException, operation: &str, reason: Option<&str>) -> Result<()> {
    let event = NewEvent::of_operation(stored.organization, DOMAIN, operation, reason, &stored.described());
    append(event).map(drop)
}
