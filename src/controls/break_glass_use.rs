//! `tenancy.break_glass`: a transaction is elevated, and its grant activated by the first one.
//!
//! An activation must outlive the transaction that asks for it: otherwise somebody could work under a grant and roll
//! back, again and again, and its time would never begin. So a process of its own records and commits it, and the
//! session waits for that.
//!
//! Decision: `docs/decisions/85-break-glass.md`.

use super::alert::raise_alert;
use super::break_glass::{id, must_be_allowed, not_done, record, refused};
use super::break_glass_grant::{self, StoredGrant, unknown};
use super::break_glass_memory::{self, Moment};
use super::break_glass_policy::{DOMAIN, in_force};
use super::break_glass_statement::must_be_recordable;
use super::holding::must_hold_action;
use super::input;
use crate::audit::{self, NewEvent};
use crate::context;
use crate::guardrail::{self, Hit};
use crate::identity::{hold_organization, is_member};
use crate::pg::hooks::statement;
use crate::pg::processes::{errand, worker};
use crate::pg::report::{self, OrRaise};
use crate::pg::tables::table::{IndexKey, Tuple, find};
use crate::pg::{clock, transaction, user};
use pg_tenancy_core::audit::format::event::Actor;
use pg_tenancy_core::context::{Context, Elevation, EncodedContext, Scope};
use pg_tenancy_core::controls::alert::AlertKind;
use pg_tenancy_core::controls::approval::Person;
use pg_tenancy_core::controls::break_glass::{Refusal, State};
use pg_tenancy_core::controls::break_glass_policy::Terms;
use pg_tenancy_core::error::{self, Result};
use pg_tenancy_core::guardrail as rules;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::{pg_extern, pg_guard, pg_sys};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use uuid::Uuid;

const USE: &str = "use";

/// How long a session waits for its activation to be recorded.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the process that records an activation is told.
#[derive(Serialize, Deserialize)]
struct Activation {
    grant: Uuid,
    organization: Uuid,
    issuer: String,
    subject: String,
    /// The time of controls when it was sent, and the clock of the server then.
    asked_at: i64,
    sent_at: i64,
    actor: Actor,
}

/// `tenancy.break_glass(grant_id)`: the end of the grant.
#[pg_extern(sql = false)]
fn tenancy_break_glass(grant_id: Option<pgrx::Uuid>) -> TimestampWithTimeZone {
    let end = break_glass(grant_id).or_raise();
    TimestampWithTimeZone::try_from(transaction::to_timestamptz(end))
        .unwrap_or_else(|_| report::raise(error::STATE_INVALID.error("the end of a break-glass grant is out of reach")))
}

fn break_glass(grant_id: Option<pgrx::Uuid>) -> Result<i64> {
    let context = context::require()?;
    let (id, person) = (id(grant_id)?, input::acting_person(&context)?);
    // Before anything is read.
    let now = Moment::now();
    let known = now.as_ref().and_then(|now| break_glass_memory::elevated(id, &context, now));
    let (elevated, encoded) = match known {
        Some(known) => {
            must_be_recordable(id, context.organization.id)?;
            known?
        }
        None => {
            let elevation = elevation(&context, id, &person)?;
            let encoding = EncodedContext::new(context.elevated_by(elevation.clone()))?;
            let of_call = encoding.for_call(Scope::Transaction, context.correlation_id.as_deref())?;
            if let Some(now) = now {
                break_glass_memory::keep(now, &elevation, context, encoding, of_call.1.len());
            }
            of_call
        }
    };
    let ends_at =
        elevated.elevation.as_ref().map(|elevation| elevation.ends_at).ok_or_else(context::elevation_ended)?;
    context::elevate(elevated, encoded)?;
    statement::listened_to();
    Ok(ends_at)
}

/// What the grant adds to the context, if the rules let this person use it now. The first use activates it.
fn elevation(context: &Context, id: Uuid, person: &Person) -> Result<Elevation> {
    let organization = context.organization.id;
    let stored = user::as_superuser(|| break_glass_grant::by_id(organization, id))?;
    let stored = stored.ok_or_else(|| refused(unknown(id)))?;
    if stored.grant.beneficiary != *person {
        return Err(not_done(id, Refusal::SomebodyElse));
    }
    must_hold_action(context, DOMAIN, USE)?;
    let policy = user::as_superuser(|| {
        let policy = in_force(organization)?;
        must_be_allowed(organization, &policy, &stored.terms, person).map(|()| policy)
    })?;
    must_be_recordable(id, organization)?;
    // What is refused here need not be refused by the process that records it.
    stored.grant.clone().activate(person, &policy, clock::now()).map_err(|refusal| not_done(id, refusal))?;
    let stored = match stored.grant.state {
        State::Approved => activated(context, stored, person)?,
        _ => stored,
    };
    let (state, end) = (stored.grant.state_at(clock::now()), stored.grant.ends_at);
    let (State::Active, Some(ends_at)) = (state, end) else { return Err(not_done(id, Refusal::State(state))) };
    let Terms { permissions, overrides, .. } = stored.terms;
    Ok(Elevation { grant: id, permissions, overrides, ends_at })
}

/// Has the grant activated, and returns it as it is then.
fn activated(context: &Context, stored: StoredGrant, person: &Person) -> Result<StoredGrant> {
    let (id, organization) = (stored.id, stored.organization);
    let activation = Activation {
        grant: id,
        organization,
        issuer: person.issuer.clone(),
        subject: person.subject.clone(),
        asked_at: clock::now(),
        sent_at: transaction::now(),
        actor: audit::describe_now()?,
    };
    let why = if transaction::in_recovery() {
        "The server is a standby."
    } else {
        let message = serde_json::to_vec(&activation)
            .map_err(|_| error::STATE_INVALID.error("the activation of a grant cannot be encoded"))?;
        match errand::run("tenancy_break_glass_recorder", "pg_tenancy break-glass", &message, PATIENCE) {
            errand::End::Finished => {
                let found = user::as_superuser(|| break_glass_grant::by_id(organization, id))?;
                match found.filter(|found| found.grant.state != State::Approved) {
                    Some(found) => return Ok(found),
                    None => "The process that records it has failed; the server's log says why.",
                }
            }
            errand::End::NotStarted => "No background worker is free.",
            errand::End::Late => "It was not recorded in time, perhaps because of a lock of this transaction.",
        }
    };
    unrecorded(context, stored, person, why)
}

/// The activation cannot be made durable by itself: the guardrail says whether the transaction may record it, with
/// which it may roll back.
fn unrecorded(context: &Context, mut stored: StoredGrant, person: &Person, why: &str) -> Result<StoredGrant> {
    let state = guardrail::state(&rules::UNRECORDED_BREAK_GLASS, context.organization.id);
    let error = error::BREAK_GLASS_UNRECORDED.error("the activation of break-glass cannot be recorded").detail(why);
    if state == rules::State::Enforce {
        return Err(refused(error));
    }
    input::must_write()?;
    user::as_superuser(|| {
        hold_organization(stored.organization);
        if let Some(newest) = break_glass_grant::by_id(stored.organization, stored.id)? {
            stored = newest;
        }
        let described = activate(&mut stored, person, clock::now())?;
        record(stored.organization, "break_glass_activated", None, &described)
    })?;
    if state == rules::State::Warn {
        let id = stored.id.to_string();
        let hit = Hit::of_object(&rules::UNRECORDED_BREAK_GLASS, stored.organization, "break_glass", &id);
        guardrail::warned(&hit, &error)?;
    }
    Ok(stored)
}

/// Activates the grant, in the transaction that is open; returns what the event tells. The caller holds the
/// organization.
fn activate(stored: &mut StoredGrant, person: &Person, now: i64) -> Result<serde_json::Value> {
    let policy = in_force(stored.organization)?;
    must_be_allowed(stored.organization, &policy, &stored.terms, person)?;
    stored.grant.activate(person, &policy, now).map_err(|refusal| not_done(stored.id, refusal))?;
    stored.activated_at = Some(now);
    stored.store(None)?;
    raise_alert(stored.organization, DOMAIN, AlertKind::BreakGlassActivated, stored.described());
    Ok(stored.described())
}

/// The main function of the process that records one activation.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn tenancy_break_glass_recorder(argument: pg_sys::Datum) {
    let (database, message) = errand::receive(argument);
    worker::begin_in(database);
    worker::transaction(|| {
        if worker::is_installed() {
            keep(&message).or_raise();
        }
    });
}

fn keep(message: &[u8]) -> Result<()> {
    let unreadable = |_| error::STATE_INVALID.error("the activation of a grant cannot be read");
    let Activation { grant, organization, issuer, subject, asked_at, sent_at, actor } =
        serde_json::from_slice(message).map_err(unreadable)?;
    hold_organization(organization);
    let mut stored = break_glass_grant::by_id(organization, grant)?.ok_or_else(|| unknown(grant))?;
    if stored.grant.state != State::Approved {
        // Another session of the same person came first, or it was taken back.
        return Ok(());
    }
    // The time that has passed since, for the lock too, belongs to the duration of nobody.
    let now = asked_at.saturating_add((transaction::now() - sent_at).max(0));
    let described = activate(&mut stored, &Person { issuer, subject }, now)?;
    let event = NewEvent::of_operation(organization, DOMAIN, "break_glass_activated", None, &described);
    audit::OtherActor::default().append(actor, transaction::now(), event);
    Ok(())
}

/// Refuses to go on under a grant that is not in force any more, by what is committed at this moment: called for each
/// statement of an elevated transaction.
pub fn grant_in_force(context: &Context, elevation: &Elevation) -> Result<()> {
    if break_glass_memory::is_in_force(elevation.grant, |known| known.is_of_the_same(context)) {
        return Ok(());
    }
    let organization = context.organization.id;
    let is_active = |row: &Tuple| {
        let is = |column, text: &str| row.get::<&str>(column) == Some(text);
        row.uuid(2) == Some(organization)
            && is(3, State::Active.name())
            && is(12, &context.issuer)
            && is(13, &context.subject)
            && row.timestamp(18).is_some_and(|end| end > clock::now())
    };
    let holds = transaction::with_latest_snapshot(|| {
        let key = [IndexKey::uuid(1, &elevation.grant)];
        let found = find(c"break_glass_grant", c"break_glass_grant_pkey", &key, is_active);
        found == [true] && is_member(organization, &context.issuer, &context.subject)
    });
    if holds { Ok(()) } else { Err(context::elevation_ended()) }
}
