//! The functions of reviews that are about items: assign, decide, refresh. Opening and closing have files of their own.
//!
//! Decision: `docs/decisions/89-reviews.md`.

use super::holding::{Giver, must_hold_action};
use super::input;
use super::review_row::{self, Said, StoredItem, StoredReview, described};
use super::review_subject::{self, apply, check_change, current};
use crate::audit::{self, NewEvent, append};
use crate::context;
use crate::identity::{hold_organization, is_active_member};
use crate::pg::json::Jsonb;
use crate::pg::report::OrRaise;
use crate::pg::{clock, user};
use pg_tenancy_core::audit::format::hex;
use pg_tenancy_core::context::Context;
use pg_tenancy_core::controls::approval::Person;
use pg_tenancy_core::controls::exception::MAX_REASON_BYTES;
use pg_tenancy_core::controls::review::{Decision, Digest, Outcome, Refusal, State};
use pg_tenancy_core::error::{self, Error, Result, require_not_null};
use pgrx::{Array, pg_extern};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::rc::Rc;
use uuid::Uuid;

/// The domain of the permissions, events and alerts.
pub const DOMAIN: &str = "review";
/// The action of whoever opens, assigns, schedules and closes.
pub const OPEN: &str = "open";
/// The action of reviewers.
pub const DECIDE: &str = "decide";

/// The most items that a call names.
const MAX_NUMBERS: usize = 10_000;

/// `tenancy.assign_review(review, items, subject, issuer)`.
#[pg_extern(sql = false)]
fn tenancy_assign_review(
    review: Option<pgrx::Uuid>,
    items: Option<Vec<Option<i32>>>,
    subject: Option<&str>,
    issuer: Option<&str>,
) {
    assign(review, items, subject, issuer).or_raise();
}

/// `tenancy.decide(review, item, decision, comment, seen, change, evidence, apply_now)`.
#[allow(clippy::too_many_arguments)]
#[pg_extern(sql = false)]
fn tenancy_decide(
    review: Option<pgrx::Uuid>,
    item: Option<i32>,
    decision: Option<&str>,
    comment: Option<&str>,
    seen: Option<&[u8]>,
    change: Option<Jsonb>,
    evidence: Option<Array<pgrx::Uuid>>,
    apply_now: Option<bool>,
) {
    let evidence = evidence.map(|events| audit::given_ids(&events));
    decide(review, item, decision, comment, seen, change, evidence, apply_now).or_raise();
}

/// `tenancy.decide_many(review, items, decision, comment)`.
#[pg_extern(sql = false)]
fn tenancy_decide_many(
    review: Option<pgrx::Uuid>,
    items: Option<Vec<Option<i32>>>,
    decision: Option<&str>,
    comment: Option<&str>,
) {
    decide_many(review, items, decision, comment).or_raise();
}

/// `tenancy.refresh_item(review, item)`.
#[pg_extern(sql = false)]
fn tenancy_refresh_item(review: Option<pgrx::Uuid>, item: Option<i32>) {
    refresh(review, item).or_raise();
}

/// The member who calls, whose role permits an action with reviews by the sign-in.
pub fn acting(action: &str) -> Result<(Rc<Context>, Person)> {
    context::authorize(DOMAIN, action)?;
    let context = context::require()?;
    let person = input::acting_person(&context)?;
    input::must_write()?;
    Ok((context, person))
}

/// Holds the organization for an action that the role of the caller permits now, too.
pub fn hold(context: &Context, action: &str) -> Result<()> {
    hold_organization(context.organization.id);
    must_hold_action(context, DOMAIN, action).map(drop)
}

/// The review, if it is open. The caller holds the organization.
pub fn open_review(organization: Uuid, id: Uuid) -> Result<StoredReview> {
    let review = review_row::by_id(organization, id)?;
    match review.state {
        State::Open => Ok(review),
        state => Err(refused(&review, None, Refusal::State(state))),
    }
}

fn numbers(items: Option<Vec<Option<i32>>>) -> Result<Vec<i32>> {
    let items: Option<BTreeSet<i32>> = require_not_null(items, "items")?.into_iter().collect();
    let items = items.ok_or_else(|| error::ARGUMENT_INVALID.error("items may not have a NULL in it"))?;
    if !(1..=MAX_NUMBERS).contains(&items.len()) {
        return Err(error::ARGUMENT_INVALID.error(format!("items has 1 to {MAX_NUMBERS} numbers")));
    }
    Ok(items.into_iter().collect())
}

fn assign(
    review: Option<pgrx::Uuid>,
    items: Option<Vec<Option<i32>>>,
    subject: Option<&str>,
    issuer: Option<&str>,
) -> Result<()> {
    let (context, _) = acting(OPEN)?;
    let (id, numbers) = (input::id(review, "review")?, numbers(items)?);
    let subject = input::text(subject, "subject")?.to_owned();
    let to = Person { issuer: issuer.unwrap_or(&context.issuer).to_owned(), subject };
    let organization = context.organization.id;
    user::as_superuser(|| {
        hold(&context, OPEN)?;
        let review = open_review(organization, id)?;
        if !is_active_member(organization, &to.issuer, &to.subject, clock::now()) {
            let message = format!("\"{}\" is no active member of the organization", to.subject);
            return Err(error::ARGUMENT_INVALID.error(message));
        }
        for mut item in review.items(&numbers)? {
            item.item.assign(&to).map_err(|refusal| refused(&review, Some(item.number), refusal))?;
        }
        review.store_assignee(&numbers, &to)?;
        let new = json!({ "review": id, "items": numbers, "assignee": described(Some(&to)) });
        record(organization, "review_assigned", None, &new)
    })
}

#[allow(clippy::too_many_arguments)]
fn decide(
    review: Option<pgrx::Uuid>,
    item: Option<i32>,
    decision: Option<&str>,
    comment: Option<&str>,
    seen: Option<&[u8]>,
    change: Option<Jsonb>,
    evidence: Option<Vec<Option<Uuid>>>,
    apply_now: Option<bool>,
) -> Result<()> {
    let (context, by) = acting(DECIDE)?;
    let (id, number) = (input::id(review, "review")?, require_not_null(item, "item")?);
    let (decision, comment) = (read_decision(decision)?, input::text_within(comment, "comment", MAX_REASON_BYTES)?);
    let evidence = audit::events(require_not_null(evidence, "evidence")?)?;
    let apply_now = require_not_null(apply_now, "apply_now")?;
    let invalid = |rule: &str| error::ARGUMENT_INVALID.error(rule);
    let shown = seen.map(|seen| Digest::try_from(seen).map_err(|_| invalid("seen must be the 32 bytes of a SHA-256")));
    let shown = shown.transpose()?;
    // Postgres knows larger numbers and deeper objects, which no change has.
    let change = change.map(|Jsonb(text)| serde_json::from_str(&text).map_err(|_| invalid("change cannot be read")));
    let change: Option<Value> = change.transpose()?;
    if change.is_some() != (decision == Decision::Change) {
        return Err(invalid("change is given with the decision change, and with no other"));
    }
    if apply_now && decision != Decision::Revoke {
        return Err(invalid("only the decision revoke is applied at once"));
    }
    let organization = context.organization.id;
    audit::require_events(organization, &evidence)?;
    let said = Said { decision, comment, change: change.as_ref(), evidence: &evidence, by: &by, at: clock::now() };
    user::as_superuser(|| {
        if apply_now {
            review_subject::hold_roles(organization, id, Some(&[number]));
        }
        hold(&context, DECIDE)?;
        let review = open_review(organization, id)?;
        if apply_now {
            review_subject::hold(&review, Some(&[number]));
        }
        let decided = decide_about(&review, &[number], shown, &said)?;
        if let Some(change) = &change {
            check_change(&review, change, Giver::Caller(&context))?;
        }
        if apply_now && let [item] = &decided[..] {
            apply(&review, item)?;
            review.store_outcomes(&[(number, Outcome::Applied, None)])?;
            record(organization, "review_applied", Some(comment), &json!({ "review": id, "items": [number] }))?;
        }
        Ok(())
    })
}

fn decide_many(
    review: Option<pgrx::Uuid>,
    items: Option<Vec<Option<i32>>>,
    decision: Option<&str>,
    comment: Option<&str>,
) -> Result<()> {
    let (context, by) = acting(DECIDE)?;
    let (id, numbers) = (input::id(review, "review")?, numbers(items)?);
    let (decision, comment) = (read_decision(decision)?, input::text_within(comment, "comment", MAX_REASON_BYTES)?);
    if decision == Decision::Change {
        return Err(
            error::ARGUMENT_INVALID.error("many items at once are kept or revoked; each has a change of its own")
        );
    }
    let organization = context.organization.id;
    user::as_superuser(|| {
        hold(&context, DECIDE)?;
        let review = open_review(organization, id)?;
        let said = Said { decision, comment, change: None, evidence: &[], by: &by, at: clock::now() };
        decide_about(&review, &numbers, None, &said).map(drop)
    })
}

fn read_decision(decision: Option<&str>) -> Result<Decision> {
    let invalid = || error::ARGUMENT_INVALID.error("a decision is keep, change or revoke");
    Decision::parse(require_not_null(decision, "decision")?).ok_or_else(invalid)
}

/// Decides about items, and returns them. The caller holds the organization.
fn decide_about(review: &StoredReview, numbers: &[i32], shown: Option<Digest>, said: &Said) -> Result<Vec<StoredItem>> {
    let mut items = review.items(numbers)?;
    let mut seen = Sha256::new();
    for item in &mut items {
        let now = current(review, &item.what)?.map(|state| state.digest());
        let decided = item.item.decide(said.decision, said.by, review.kind, shown, now);
        decided.map_err(|refusal| refused(review, Some(item.number), refusal))?;
        item.comment = Some(said.comment.to_owned());
        seen.update(item.item.seen);
    }
    review.store_decision(numbers, said)?;
    let seen = match &items[..] {
        [item] => item.item.seen.to_vec(),
        // Over the digests of all, in their order.
        _ => seen.finalize().to_vec(),
    };
    let new = json!({
        "review": review.id,
        "items": numbers,
        "decision": said.decision.name(),
        "seen": hex::encode(&seen),
        "change": said.change,
        "evidence": said.evidence,
    });
    record(review.organization, "review_decided", Some(said.comment), &new)?;
    Ok(items)
}

fn refresh(review: Option<pgrx::Uuid>, item: Option<i32>) -> Result<()> {
    let (context, by) = acting(DECIDE)?;
    let (id, number) = (input::id(review, "review")?, require_not_null(item, "item")?);
    let organization = context.organization.id;
    user::as_superuser(|| {
        hold(&context, DECIDE)?;
        let review = open_review(organization, id)?;
        for mut item in review.items(&[number])? {
            let state = current(&review, &item.what)?.ok_or_else(|| {
                let message = format!("what item {number} of review {id} is about is not there any more");
                error::REVIEW_STATE.error(message).detail("The close says so; there is nothing to decide.")
            })?;
            let (before, digest) = (item.item.seen, state.digest());
            let refreshed = item.item.refresh(&by, digest);
            if refreshed.map_err(|refusal| refused(&review, Some(number), refusal))? {
                review.store_refreshed(number, &state.snapshot, &state.about, digest)?;
                let new = json!({
                    "review": id,
                    "items": [number],
                    "before": hex::encode(&before),
                    "after": hex::encode(&digest),
                });
                record(organization, "review_refreshed", None, &new)?;
            }
        }
        Ok(())
    })
}

/// The error of a call that the rules refuse, recorded as an event where somebody may not do it.
pub fn refused(review: &StoredReview, number: Option<i32>, refusal: Refusal) -> Error {
    let id = review.id;
    let item = number.map_or_else(|| format!("review {id}"), |number| format!("item {number} of review {id}"));
    match refusal {
        Refusal::State(state) => error::REVIEW_STATE.error(format!("review {id} is {}", state.name())),
        Refusal::TooEarly => error::REVIEW_STATE
            .error(format!("{} items of review {id} are not decided, and it is not due yet", review.undecided())),
        Refusal::Applied => error::REVIEW_STATE.error(format!("what was decided about {item} is done already")),
        Refusal::Own => {
            audit::refused(DOMAIN, error::SELF_APPROVAL.error(format!("{item} is about the person who would decide")))
        }
        Refusal::NotAssigned => {
            let error = error::PERMISSION_DENIED.error(format!("somebody else decides about {item}"));
            audit::refused(DOMAIN, error.detail("tenancy.assign_review has another person decide."))
        }
        Refusal::Stale => error::REVIEW_STALE.error(format!("{item} is not as its snapshot has it")),
        Refusal::ShownOtherwise => {
            error::REVIEW_STALE.error(format!("the snapshot of {item} is not the one that was shown"))
        }
        Refusal::NoChange => {
            let message = format!("what is reviewed as {} is kept or revoked, and not changed", review.kind.name());
            error::ARGUMENT_INVALID.error(message)
        }
    }
}

/// Writes the event of a change, into the chain of its organization.
pub fn record(organization: Uuid, operation: &str, reason: Option<&str>, new: &Value) -> Result<()> {
    append(NewEvent::of_operation(organization, DOMAIN, operation, reason, new)).map(drop)
}
