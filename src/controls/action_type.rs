//! The functions of action types: add, request, decide, withdraw.
//!
//! Decision: `docs/decisions/76-approvals.md`.

use super::action_type_request::{self, StoredRequest};
use super::alert::raise_alert;
use super::holding::must_hold_action;
use super::input::person;
use super::{guard, input};
use crate::audit::{self, NewEvent, append};
use crate::context;
use crate::guardrail::{self, Hit};
use crate::identity::hold_organization;
use crate::pg::report::OrRaise;
use crate::pg::spi::{self, Query, argument};
use crate::pg::{clock, transaction, user};
use pg_tenancy_core::audit::format::timestamp;
use pg_tenancy_core::controls::alert::AlertKind;
use pg_tenancy_core::controls::approval::{Objection, Person, Refusal, State};
use pg_tenancy_core::error::{self, Error, Result, require_not_null};
use pg_tenancy_core::guardrail as rules;
use pgrx::datum::Interval;
use pgrx::pg_extern;
use serde_json::{Value, json};
use uuid::Uuid;

const DOMAIN: &str = "action";
const REQUEST: &str = "request";
const APPROVE: &str = "approve";

static ADD: Query = Query::new(
    "INSERT INTO tenancy.action_type (name, description, created_at, created_by) VALUES ($1, $2, $3, session_user)
     ON CONFLICT DO NOTHING RETURNING 1",
);

static EXISTS: Query = Query::new("SELECT 1 FROM tenancy.action_type WHERE name = $1");

/// `tenancy.add_action_type(name, description)`.
#[pg_extern(sql = false)]
fn tenancy_add_action_type(name: Option<&str>, description: Option<&str>) {
    add(name, description).or_raise();
}

/// `tenancy.request_action_type(action_type, reason, valid_for)`: returns the id of the request.
#[pg_extern(sql = false)]
fn tenancy_request_action_type(
    action_type: Option<&str>,
    reason: Option<&str>,
    valid_for: Option<Interval>,
) -> pgrx::Uuid {
    pgrx::Uuid::from_bytes(*request(action_type, reason, valid_for).or_raise().as_bytes())
}

/// `tenancy.decide_action_type(request, approve, reason)`.
#[pg_extern(sql = false)]
fn tenancy_decide_action_type(request: Option<pgrx::Uuid>, approve: Option<bool>, reason: Option<&str>) {
    decide(request, approve, reason).or_raise();
}

/// `tenancy.withdraw_action_type(action_type, reason)`.
#[pg_extern(sql = false)]
fn tenancy_withdraw_action_type(action_type: Option<&str>, reason: Option<&str>) {
    withdraw(action_type, reason).or_raise();
}

/// `tenancy.action_approval(action_type)`: the id of the approval that is in force.
#[pg_extern(sql = false)]
fn tenancy_action_approval(action_type: Option<&str>) -> Option<pgrx::Uuid> {
    context::authorize(DOMAIN, "read").or_raise();
    let organization = context::require().or_raise().organization.id;
    let approval = action_type_request::approval_in_force(organization, action_type);
    approval.map(|id| pgrx::Uuid::from_bytes(*id.as_bytes()))
}

fn add(name: Option<&str>, description: Option<&str>) -> Result<()> {
    let (name, description) = (input::name(name, "name")?, input::text(description, "description")?);
    input::must_write()?;
    let arguments = [argument(name), argument(description), spi::timestamp(clock::now())];
    if guard::writing(|| ADD.write(&arguments, |_| ())).is_empty() {
        return Err(error::ACTION_TYPE_EXISTS.error(format!("there is an action type \"{name}\" already")));
    }
    let new = json!({ "action_type": name, "description": description });
    record(Uuid::nil(), "action_type_added", None, new)
}

fn request(action_type: Option<&str>, reason: Option<&str>, valid_for: Option<Interval>) -> Result<Uuid> {
    context::authorize(DOMAIN, REQUEST)?;
    let context = context::require()?;
    let (action_type, reason) = (input::name(action_type, "action_type")?, input::text(reason, "reason")?);
    let valid_for = input::valid_for(valid_for)?;
    input::must_write()?;
    let (organization, now) = (context.organization.id, clock::now());
    user::as_superuser(|| {
        for open in live(organization, action_type, now)? {
            if open.approval.state != State::Requested {
                continue;
            }
            if open.asks_the_same(&person(&context), reason, valid_for) {
                return Ok(open.id);
            }
            let message = format!("a request for the action type \"{action_type}\" is open");
            let detail = format!("It has the id {}, and was made by \"{}\".", open.id, open.requester().subject);
            return Err(error::APPROVAL_STATE.error(message).detail(detail));
        }
        let made = StoredRequest::new(organization, action_type, person(&context), reason, valid_for, now);
        made.insert(now);
        let new = json!({
            "request": made.id,
            "action_type": action_type,
            "valid_seconds": valid_for / 1_000_000,
            "decide_before": timestamp::text(made.approval.decide_before),
        });
        record(organization, "action_requested", Some(reason), new)?;
        raise_alert(organization, DOMAIN, AlertKind::ActionRequested, made.described());
        Ok(made.id)
    })
}

fn decide(request: Option<pgrx::Uuid>, approve: Option<bool>, reason: Option<&str>) -> Result<()> {
    context::authorize(DOMAIN, APPROVE)?;
    let context = context::require()?;
    let id = input::id(request, "request")?;
    let (approve, reason) = (require_not_null(approve, "approve")?, input::text(reason, "reason")?);
    input::must_write()?;
    let (organization, by) = (context.organization.id, person(&context));
    let mut stored = user::as_superuser(|| {
        hold_organization(organization);
        must_hold_action(&context, DOMAIN, APPROVE)?;
        action_type_request::by_id(organization, id)
    })?;
    // The clock is read under the lock: a decision that waited for another one is not older than it.
    let now = clock::now();
    let own = stored.approval.approvers.is_interested(&by);
    let decided = if approve {
        let guardrail =
            if own { guardrail::state(&rules::SELF_APPROVED_ACTION, organization) } else { rules::State::Off };
        let decided = stored.approval.approve(&by, guardrail != rules::State::Enforce, now);
        if decided.is_ok() && guardrail == rules::State::Warn {
            let id = id.to_string();
            let hit = Hit::of_object(&rules::SELF_APPROVED_ACTION, organization, "decide_action_type", &id);
            guardrail::warned(&hit, &own_request())?;
        }
        decided
    } else {
        stored.approval.deny(now)
    };
    decided.map_err(|refusal| refused(id, refusal))?;
    user::as_superuser(|| {
        stored.store_decision(&by, reason, now)?;
        let operation = if approve { "action_approved" } else { "action_denied" };
        record(organization, operation, Some(reason), stored.described())
    })
}

fn withdraw(action_type: Option<&str>, reason: Option<&str>) -> Result<()> {
    // Whoever may do neither is refused here; whether one's own requests are all is known later.
    if !context::allowed(DOMAIN, APPROVE) {
        context::authorize(DOMAIN, REQUEST)?;
    }
    let context = context::require()?;
    let (action_type, reason) = (input::name(action_type, "action_type")?, input::text(reason, "reason")?);
    input::must_write()?;
    let (organization, by) = (context.organization.id, person(&context));
    let now = clock::now();
    let live = user::as_superuser(|| live(organization, action_type, now))?;
    if live.is_empty() {
        let message = format!("the action type \"{action_type}\" is neither approved nor requested");
        return Err(error::APPROVAL_STATE.error(message));
    }
    if live.iter().any(|stored| !stored.approval.approvers.is_interested(&by)) {
        context::authorize(DOMAIN, APPROVE)?;
    }
    user::as_superuser(|| live.into_iter().try_for_each(|stored| withdraw_one(stored, &by, reason, now)))
}

/// Withdraws an approval as a reviewer has decided. The caller holds the organization, and acts as a superuser.
pub fn withdraw_reviewed(organization: Uuid, request: Uuid, reason: &str, reviewer: &Person) -> Result<()> {
    withdraw_one(action_type_request::by_id(organization, request)?, reviewer, reason, clock::now())
}

fn withdraw_one(mut stored: StoredRequest, by: &Person, reason: &str, now: i64) -> Result<()> {
    stored.approval.withdraw(now).map_err(|refusal| refused(stored.id, refusal))?;
    stored.store_withdrawal(by, reason, now)?;
    record(stored.organization, "action_withdrawn", Some(reason), stored.described())?;
    raise_alert(stored.organization, DOMAIN, AlertKind::ActionWithdrawn, stored.described());
    Ok(())
}

/// The requests and approvals of an action type that are not over, with nobody else changing them. What time has ended
/// is recorded as expired.
fn live(organization: Uuid, action_type: &str, now: i64) -> Result<Vec<StoredRequest>> {
    if transaction::with_latest_snapshot(|| EXISTS.read(&[argument(action_type)], |_| ())).is_empty() {
        return Err(input::unknown_action_type(action_type));
    }
    hold_organization(organization);
    let mut live = Vec::new();
    for mut stored in action_type_request::live(organization, action_type)? {
        if stored.approval.settle(now) {
            stored.store_end()?;
            record(organization, "action_expired", None, stored.described())?;
        } else {
            live.push(stored);
        }
    }
    Ok(live)
}

/// Records that the time of requests and approvals is over, at most of so many; returns of how many.
pub fn expire(now: i64, at_most: i64) -> Result<i64> {
    let mut expired = 0;
    for (organization, id) in action_type_request::over(now, at_most)? {
        hold_organization(organization);
        // Somebody else may have come first.
        let mut stored = action_type_request::by_id(organization, id)?;
        if stored.approval.settle(now) {
            stored.store_end()?;
            record(organization, "action_expired", None, stored.described())?;
            expired += 1;
        }
    }
    Ok(expired)
}

fn own_request() -> Error {
    error::SELF_APPROVAL.error("a request is not approved by the person who made it")
}

fn refused(id: Uuid, refusal: Refusal) -> Error {
    match refusal {
        Refusal::Approver(Objection::OwnRequest) => audit::refused(DOMAIN, own_request()),
        Refusal::State(state) => error::APPROVAL_STATE.error(format!("request {id} is {}", state.name())),
        Refusal::Approver(Objection::ApprovedBefore) => {
            error::APPROVAL_STATE.error(format!("request {id} was approved by the same person before"))
        }
    }
}

/// Writes the event of a change, into the chain of its organization.
fn record(organization: Uuid, operation: &str, reason: Option<&str>, new: Value) -> Result<()> {
    append(NewEvent::of_operation(organization, "secret", operation, reason, &new)).map(drop)
}
