//! The functions of break-glass: request, approve, deny, cancel, end.
//!
//! Decision: `docs/decisions/85-break-glass.md`.

use super::alert::raise_alert;
use super::break_glass_grant::{self, Closing, StoredGrant, Wish, unknown};
use super::break_glass_policy::{DOMAIN, accepts, in_force};
use super::holding::{must_hold, must_hold_action};
use super::input;
use super::role;
use crate::audit::{self, NewEvent, append};
use crate::context;
use crate::guardrail::{self, Hit};
use crate::identity::{held_now, hold_organization, is_member, permissions_now};
use crate::pg::report::OrRaise;
use crate::pg::{clock, transaction, user};
use pg_tenancy_core::context::Context;
use pg_tenancy_core::controls::alert::AlertKind;
use pg_tenancy_core::controls::approval::{Objection, Person};
use pg_tenancy_core::controls::break_glass::{Approver, End, Refusal, State};
use pg_tenancy_core::controls::break_glass_policy::{Bound, Policy, Terms};
use pg_tenancy_core::error::{self, Error, Result, require_not_null};
use pg_tenancy_core::guardrail as rules;
use pgrx::datum::Interval;
use pgrx::pg_extern;
use serde_json::Value;
use std::rc::Rc;
use uuid::Uuid;

const REQUEST: &str = "request";
const APPROVE: &str = "approve";
const USE: &str = "use";

/// `tenancy.request_break_glass(reason, ticket, duration, permissions, overrides, for_subject, for_issuer)`.
#[pg_extern(sql = false)]
fn tenancy_request_break_glass(
    reason: Option<&str>,
    ticket: Option<&str>,
    duration: Option<Interval>,
    permissions: Option<Vec<Option<String>>>,
    overrides: Option<Vec<Option<String>>>,
    for_subject: Option<&str>,
    for_issuer: Option<&str>,
) -> pgrx::Uuid {
    let asked = Asked { reason, ticket, duration, permissions, overrides, for_subject, for_issuer };
    pgrx::Uuid::from_bytes(*request(asked).or_raise().as_bytes())
}

/// `tenancy.approve_break_glass(grant_id, reason)`.
#[pg_extern(sql = false)]
fn tenancy_approve_break_glass(grant_id: Option<pgrx::Uuid>, reason: Option<&str>) {
    approve(grant_id, reason).or_raise();
}

/// `tenancy.deny_break_glass(grant_id, reason)`.
#[pg_extern(sql = false)]
fn tenancy_deny_break_glass(grant_id: Option<pgrx::Uuid>, reason: Option<&str>) {
    deny(grant_id, reason).or_raise();
}

/// `tenancy.cancel_break_glass(grant_id)`.
#[pg_extern(sql = false)]
fn tenancy_cancel_break_glass(grant_id: Option<pgrx::Uuid>) {
    cancel(grant_id).or_raise();
}

/// `tenancy.end_break_glass(grant_id, reason)`.
#[pg_extern(sql = false)]
fn tenancy_end_break_glass(grant_id: Option<pgrx::Uuid>, reason: Option<&str>) {
    end(grant_id, reason).or_raise();
}

/// The arguments of a request, as they are given.
struct Asked<'a> {
    reason: Option<&'a str>,
    ticket: Option<&'a str>,
    duration: Option<Interval>,
    permissions: Option<Vec<Option<String>>>,
    overrides: Option<Vec<Option<String>>>,
    for_subject: Option<&'a str>,
    for_issuer: Option<&'a str>,
}

impl<'a> Asked<'a> {
    fn wish(self, requester: Person) -> Result<Wish<'a>> {
        let reason = input::reason(self.reason)?;
        let ticket = self.ticket.map(|ticket| input::text(Some(ticket), "ticket")).transpose()?;
        let duration = require_not_null(self.duration, "duration")?.as_micros();
        // What is out of reach is longer than any policy allows.
        let duration = i64::try_from(duration).unwrap_or(if duration < 0 { i64::MIN } else { i64::MAX });
        let permissions = role::rules(self.permissions)?.into_iter().collect();
        let named = require_not_null(self.overrides, "overrides")?;
        let mut overrides: Vec<String> =
            named.into_iter().map(|name| require_not_null(name, "an override")).collect::<Result<_>>()?;
        overrides.sort();
        overrides.dedup();
        let beneficiary = match (self.for_subject, self.for_issuer) {
            (None, None) => requester.clone(),
            (subject, issuer) => Person {
                issuer: issuer.unwrap_or(&requester.issuer).to_owned(),
                subject: input::text(subject, "for_subject")?.to_owned(),
            },
        };
        Ok(Wish { reason, ticket, terms: Terms { duration, permissions, overrides }, requester, beneficiary })
    }
}

fn request(asked: Asked) -> Result<Uuid> {
    let (context, person) = acting(REQUEST)?;
    let wish = asked.wish(person)?;
    input::must_write()?;
    let organization = context.organization.id;
    let (warning, made) = user::as_superuser(|| {
        hold_organization(organization);
        let now = clock::now();
        let policy = in_force(organization)?;
        let mut open = break_glass_grant::of_beneficiary(organization, &wish.beneficiary)?;
        open.retain(|stored| stored.grant.is_open(now));
        let waits = |stored: &&StoredGrant| stored.grant.state_at(now) == State::Requested;
        if let Some(same) = open.iter().filter(waits).find(|stored| stored.asks_the_same(&wish)) {
            return Ok((None, same.id));
        }
        must_be_allowed(organization, &policy, &wish.terms, &wish.beneficiary)?;
        if !accepts(&policy, wish.ticket) {
            return Err(refused(error::ELEVATION_REFUSED.error("the policy asks for a ticket of another form")));
        }
        if open.len() as i64 >= policy.max_open {
            let message = format!("the person has {} open grants of break-glass already", open.len());
            return Err(error::GRANT_STATE.error(message));
        }
        let warning = must_be_signed_off(organization, &wish.beneficiary, now)?;
        let reason = wish.reason;
        let made = StoredGrant::new(organization, wish, &policy, now);
        made.insert(&policy, now);
        record(organization, "break_glass_requested", Some(reason), &made.described_in_full())?;
        raise_alert(organization, DOMAIN, AlertKind::BreakGlassRequested, made.described());
        Ok((warning, made.id))
    })?;
    if let Some(error) = warning {
        let id = made.to_string();
        let hit = Hit::of_object(&rules::UNSIGNED_BREAK_GLASS, organization, "request_break_glass", &id);
        guardrail::warned(&hit, &error)?;
    }
    Ok(made)
}

/// Whoever has used a grant that nobody has signed off in time gets no other one, where the guardrail says so. Returns
/// what is to be warned of.
fn must_be_signed_off(organization: Uuid, beneficiary: &Person, now: i64) -> Result<Option<Error>> {
    let overdue = break_glass_grant::overdue(organization, beneficiary, now);
    let state = guardrail::state(&rules::UNSIGNED_BREAK_GLASS, organization);
    if overdue == 0 || state == rules::State::Off {
        return Ok(None);
    }
    let message = format!("{overdue} grants of break-glass of \"{}\" are not signed off in time", beneficiary.subject);
    let error = error::SIGN_OFF_OVERDUE.error(message);
    if state == rules::State::Enforce { Err(refused(error)) } else { Ok(Some(error)) }
}

fn approve(grant_id: Option<pgrx::Uuid>, reason: Option<&str>) -> Result<()> {
    let (context, by) = acting(APPROVE)?;
    let (id, reason) = (id(grant_id)?, input::reason(reason)?);
    input::must_write()?;
    let organization = context.organization.id;
    let (held, mut stored, policy) = user::as_superuser(|| {
        hold_organization(organization);
        let held = must_hold_action(&context, DOMAIN, APPROVE)?;
        let stored = break_glass_grant::by_id(organization, id)?.ok_or_else(|| unknown(id))?;
        let policy = in_force(organization)?;
        must_be_allowed(organization, &policy, &stored.terms, &stored.grant.beneficiary)?;
        Ok((held, stored, policy))
    })?;
    must_hold(&context, DOMAIN, &stored.terms.permissions)?;
    // The clock is read under the lock: a decision that waited for another one is not older than it.
    let now = clock::now();
    let own = stored.grant.is_interested(&by);
    let state = if own { guardrail::state(&rules::SELF_APPROVED_BREAK_GLASS, organization) } else { rules::State::Off };
    let holds = |(domain, action): &&(String, String)| held.allows(domain, action);
    let held = policy.approver_permissions.iter().filter(holds).cloned().collect();
    let approver = Approver { person: by, held };
    let decided = stored.grant.approve(approver, state != rules::State::Enforce, &policy, now);
    decided.map_err(|refusal| not_done(id, refusal))?;
    if state == rules::State::Warn {
        let id = id.to_string();
        let hit = Hit::of_object(&rules::SELF_APPROVED_BREAK_GLASS, organization, "approve_break_glass", &id);
        guardrail::warned(&hit, &own_grant())?;
    }
    user::as_superuser(|| {
        stored.store_approval(reason, now)?;
        record(organization, "break_glass_approved", Some(reason), &stored.described())?;
        if stored.grant.state == State::Approved {
            raise_alert(organization, DOMAIN, AlertKind::BreakGlassApproved, stored.described());
        }
        Ok(())
    })
}

fn deny(grant_id: Option<pgrx::Uuid>, reason: Option<&str>) -> Result<()> {
    let (context, by) = acting(APPROVE)?;
    let (id, reason) = (id(grant_id)?, input::reason(reason)?);
    input::must_write()?;
    let organization = context.organization.id;
    user::as_superuser(|| {
        hold_organization(organization);
        must_hold_action(&context, DOMAIN, APPROVE)?;
        let mut stored = break_glass_grant::by_id(organization, id)?.ok_or_else(|| unknown(id))?;
        stored.grant.deny(clock::now()).map_err(|refusal| not_done(id, refusal))?;
        stored.store(Some(&Closing { by: Some(&by), reason: Some(reason) }))?;
        record(organization, "break_glass_denied", Some(reason), &stored.described())
    })
}

fn cancel(grant_id: Option<pgrx::Uuid>) -> Result<()> {
    let context = context::require()?;
    let (id, by) = (id(grant_id)?, input::acting_person(&context)?);
    input::must_write()?;
    let organization = context.organization.id;
    user::as_superuser(|| {
        hold_organization(organization);
        let stored = break_glass_grant::by_id(organization, id)?.filter(|stored| stored.grant.requester == by);
        let mut stored = stored.ok_or_else(|| unknown(id))?;
        stored.grant.cancel(&by, clock::now()).map_err(|refusal| not_done(id, refusal))?;
        stored.store(Some(&Closing { by: Some(&by), reason: None }))?;
        record(organization, "break_glass_cancelled", None, &stored.described())
    })
}

fn end(grant_id: Option<pgrx::Uuid>, reason: Option<&str>) -> Result<()> {
    let context = context::require()?;
    let (id, reason, by) = (id(grant_id)?, input::reason(reason)?, input::person(&context));
    input::must_write()?;
    let organization = context.organization.id;
    let stored = user::as_superuser(|| {
        hold_organization(organization);
        break_glass_grant::by_id(organization, id)
    })?;
    // Whoever may revoke none learns of none but the own.
    let own = stored.as_ref().is_some_and(|stored| stored.grant.beneficiary == by);
    if !own {
        context::authorize(DOMAIN, APPROVE)?;
        must_hold_action(&context, DOMAIN, APPROVE)?;
    }
    let may_revoke = !own || context.permissions.allows(DOMAIN, APPROVE) && held_now(&context)?.allows(DOMAIN, APPROVE);
    let stored = stored.ok_or_else(|| unknown(id))?;
    user::as_superuser(|| end_one(stored, &by, may_revoke, reason))
}

/// Revokes a grant as a reviewer has decided. The caller holds the organization, and acts as a superuser.
pub fn revoke_reviewed(organization: Uuid, id: Uuid, reason: &str, reviewer: &Person) -> Result<()> {
    let stored = break_glass_grant::by_id(organization, id)?.ok_or_else(|| unknown(id))?;
    end_one(stored, reviewer, true, reason)
}

fn end_one(mut stored: StoredGrant, by: &Person, may_revoke: bool, reason: &str) -> Result<()> {
    let ended = stored.grant.end(by, may_revoke, clock::now()).map_err(|refusal| not_done(stored.id, refusal))?;
    let operation = match ended {
        End::Ended => "break_glass_ended",
        End::Revoked => "break_glass_revoked",
    };
    closed(&stored, operation, Some(reason))?;
    // Last: in a transaction that works under this grant, no statement is let through after it.
    stored.store(Some(&Closing { by: Some(by), reason: Some(reason) }))
}

/// A membership was changed or removed. Where it gives no access any more, what was granted to the person is revoked,
/// by whoever acts in a context, or by nobody.
///
/// The caller acts as a superuser.
pub fn member_changed(organization: Uuid, issuer: &str, subject: &str) -> Result<()> {
    transaction::next_command();
    let person = Person { issuer: issuer.to_owned(), subject: subject.to_owned() };
    if transaction::with_latest_snapshot(|| is_member(organization, issuer, subject))
        || break_glass_grant::of_beneficiary(organization, &person)?.is_empty()
        || !hold_organization(organization)
    {
        return Ok(());
    }
    let (by, now) = (context::current()?.map(|context| input::person(&context)), clock::now());
    for mut stored in break_glass_grant::of_beneficiary(organization, &person)? {
        if stored.grant.revoke(now).is_ok() {
            let reason = "the beneficiary is no active member any more";
            stored.store(Some(&Closing { by: by.as_ref(), reason: Some(reason) }))?;
            closed(&stored, "break_glass_revoked", Some(reason))?;
        }
    }
    Ok(())
}

/// Records that the time of requests and grants is over, at most of so many; returns of how many.
pub fn expire(now: i64, at_most: i64) -> Result<i64> {
    let mut settled = 0;
    for (organization, id) in break_glass_grant::over(now, at_most)? {
        hold_organization(organization);
        // Somebody else may have come first.
        let Some(mut stored) = break_glass_grant::by_id(organization, id)? else { continue };
        if stored.grant.settle(now) {
            stored.store(None)?;
            match stored.grant.state {
                State::Ended => closed(&stored, "break_glass_ended", None)?,
                _ => record(organization, "break_glass_expired", None, &stored.described())?,
            }
            settled += 1;
        }
    }
    Ok(settled)
}

fn closed(stored: &StoredGrant, operation: &str, reason: Option<&str>) -> Result<()> {
    record(stored.organization, operation, reason, &stored.described())?;
    raise_alert(stored.organization, DOMAIN, AlertKind::BreakGlassEnded, stored.described());
    Ok(())
}

/// The context and person of a member whose role permits an action.
fn acting(action: &str) -> Result<(Rc<Context>, Person)> {
    context::authorize(DOMAIN, action)?;
    let context = context::require()?;
    let person = input::acting_person(&context)?;
    Ok((context, person))
}

/// Refuses terms that the policy does not allow now, and a person who may not use them now.
pub fn must_be_allowed(organization: Uuid, policy: &Policy, terms: &Terms, beneficiary: &Person) -> Result<()> {
    let forbidden = policy.forbids(terms).map(|bound| match bound {
        // What can be told without the policy is an argument that does not fit.
        Bound::Duration => error::ARGUMENT_INVALID.error(format!(
            "the duration of a grant is more than 0 and at most {} minutes",
            policy.max_duration / 60_000_000
        )),
        Bound::Nothing => error::ARGUMENT_INVALID.error("a grant asks for permissions or overrides"),
        Bound::Ceiling => error::ELEVATION_REFUSED.error("the permissions are not within the ceiling of the policy"),
        Bound::Override(name) => {
            let error = error::ELEVATION_REFUSED.error(format!("no grant may pass the guardrail \"{name}\" here"));
            error.detail(format!("A grant may pass: {}.", policy.overrides.join(", ")))
        }
    });
    if let Some(error) = forbidden {
        return Err(refused(error));
    }
    let held = permissions_now(organization, &beneficiary.issuer, &beneficiary.subject);
    if !held.is_some_and(|held| held.allows(DOMAIN, USE)) {
        let message = format!("\"{}\" is no active member with the permission {DOMAIN}:{USE}", beneficiary.subject);
        return Err(refused(error::ELEVATION_REFUSED.error(message)));
    }
    Ok(())
}

pub fn id(grant_id: Option<pgrx::Uuid>) -> Result<Uuid> {
    input::id(grant_id, "grant_id")
}

fn own_grant() -> Error {
    error::SELF_APPROVAL.error("a grant of break-glass is not approved by who asked for it, nor by who uses it")
}

/// The error of a call that the rules refuse.
pub fn not_done(id: Uuid, refusal: Refusal) -> Error {
    match refusal {
        Refusal::State(state) => error::GRANT_STATE.error(format!("break-glass grant {id} is {}", state.name())),
        Refusal::Approver(Objection::OwnRequest) => refused(own_grant()),
        Refusal::Approver(Objection::ApprovedBefore) => {
            error::GRANT_STATE.error(format!("break-glass grant {id} was approved by the same person before"))
        }
        Refusal::Interested => refused(
            error::SELF_APPROVAL
                .error("a grant of break-glass is signed off by a third person, who neither asked for it nor used it"),
        ),
        Refusal::SomebodyElse => {
            refused(error::ELEVATION_REFUSED.error(format!("break-glass grant {id} is somebody else's")))
        }
        Refusal::Approvals => refused(
            error::ELEVATION_REFUSED
                .error(format!("break-glass grant {id} has fewer approvals than the policy asks for by now")),
        ),
    }
}

/// The refusal is an event.
pub fn refused(error: Error) -> Error {
    audit::refused(DOMAIN, error)
}

/// Writes the event of a change, into the chain of its organization.
pub fn record(organization: Uuid, operation: &str, reason: Option<&str>, new: &Value) -> Result<()> {
    append(NewEvent::of_operation(organization, DOMAIN, operation, reason, new)).map(drop)
}
