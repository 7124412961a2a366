//! `tenancy.define_exception_kind`: sets the rules of a kind of exceptions.

use super::exception_kind::{ALL, for_all};
use super::{exception, guard, input};
use crate::audit::{NewEvent, append};
use crate::context;
use crate::identity::hold_organization;
use crate::pg::json::Jsonb;
use crate::pg::report::OrRaise;
use crate::pg::spi::{self, Query, argument};
use crate::pg::{clock, transaction, user};
use pg_tenancy_core::controls::exception::{OnNoReview, Settings};
use pg_tenancy_core::error::{self, Result, require_not_null};
use pgrx::datum::Interval;
use pgrx::pg_extern;
use serde_json::{Value, json};
use uuid::Uuid;

static PUT: Query = Query::new(
    "INSERT INTO tenancy.exception_kind (organization, name, built_in, description, min_reason, max_duration, approvals,
                                         broad, notice, on_no_review, reason, defined_at, defined_by)
     VALUES ($1, $2, false, $3, $4, $5 * interval '1 microsecond', $6, $7, $8 * interval '1 microsecond', $9, $10, $11,
             coalesce($12, session_user))
     ON CONFLICT ON CONSTRAINT exception_kind_pkey DO UPDATE
        SET description = EXCLUDED.description, min_reason = EXCLUDED.min_reason,
            max_duration = EXCLUDED.max_duration, approvals = EXCLUDED.approvals, broad = EXCLUDED.broad,
            notice = EXCLUDED.notice, on_no_review = EXCLUDED.on_no_review, reason = EXCLUDED.reason,
            defined_at = EXCLUDED.defined_at, defined_by = EXCLUDED.defined_by",
);

static INTERVAL: Query = Query::new("SELECT $1::interval");

/// `tenancy.define_exception_kind(name, description, settings, reason, organization)`.
#[pg_extern(sql = false)]
fn tenancy_define_exception_kind(
    name: Option<&str>,
    description: Option<&str>,
    settings: Option<Jsonb>,
    reason: Option<&str>,
    organization: Option<pgrx::Uuid>,
) {
    let organization = organization.map(|id| Uuid::from_bytes(*id.as_bytes()));
    define(name, description, settings, reason, organization).or_raise();
}

fn define(
    name: Option<&str>,
    description: Option<&str>,
    settings: Option<Jsonb>,
    reason: Option<&str>,
    organization: Option<Uuid>,
) -> Result<()> {
    authorize(organization)?;
    let name = require_not_null(name, "name")?;
    input::require_name(name, "a kind of exceptions")?;
    let (description, reason) = (input::text(description, "description")?, input::text(reason, "reason")?);
    let Jsonb(settings) = require_not_null(settings, "settings")?;
    input::must_write()?;
    let subject = context::current()?.map(|context| context.subject.clone());
    user::as_superuser(|| {
        exception::take_turns();
        if let Some(id) = organization.filter(|id| !hold_organization(*id)) {
            return Err(input::unknown_organization(id));
        }
        let for_all = for_all(name);
        let before = organization.and(for_all).unwrap_or_default();
        let settings = read_settings(&settings, before)?;
        settings.check()?;
        if let Some(looser) = organization.and(for_all).and_then(|for_all| settings.looser_than(&for_all)) {
            let message = format!("{looser} of an organization is not looser than for all organizations");
            return Err(error::ARGUMENT_INVALID.error(message));
        }
        let now = clock::now();
        // What has ended under the rules before stays so: looser ones revive nothing.
        exception::expire_of_kind(name, organization, now)?;
        let organization = organization.unwrap_or(ALL);
        let row = [
            spi::uuid(organization),
            argument(name),
            argument(description),
            argument(settings.min_reason as i32),
            argument(settings.max_duration),
            argument(settings.approvals as i32),
            argument(settings.broad),
            argument(settings.notice),
            argument(settings.on_no_review.name()),
            argument(reason),
            spi::timestamp(now),
            argument(subject.as_deref()),
        ];
        guard::writing(|| PUT.write(&row, |_| ()));
        let new = json!({
            "kind": name,
            "description": description,
            "min_reason": settings.min_reason,
            "max_duration_seconds": settings.max_duration / 1_000_000,
            "approvals": settings.approvals,
            "broad": settings.broad,
            "notice_seconds": settings.notice / 1_000_000,
            "on_no_review": settings.on_no_review.name(),
        });
        let event =
            NewEvent::of_operation(organization, exception::DOMAIN, "exception_kind_defined", Some(reason), &new);
        append(event).map(drop)
    })
}

/// Administrators of the database define kinds for all organizations and for each, members those of their own.
fn authorize(organization: Option<Uuid>) -> Result<()> {
    if user::has_role(c"tenancy_admin") {
        return Ok(());
    }
    context::authorize(exception::DOMAIN, "define")?;
    let context = context::require()?;
    input::acting_person(&context)?;
    match organization {
        None => {
            let message = "a kind of exceptions for all organizations is defined by members of tenancy_admin";
            Err(error::PERMISSION_DENIED.error(message))
        }
        Some(id) if id != context.organization.id => Err(input::unknown_organization(id)),
        Some(_) => Ok(()),
    }
}

/// What a caller gives, over what there is.
fn read_settings(given: &str, mut settings: Settings) -> Result<Settings> {
    // Postgres knows larger numbers and deeper objects, which no setting is.
    let Ok(Value::Object(members)) = serde_json::from_str(given) else {
        return Err(error::ARGUMENT_INVALID.error("the settings are no JSON object"));
    };
    for (name, value) in &members {
        let invalid = || error::ARGUMENT_INVALID.error(format!("{name} is out of its range"));
        let number = || value.as_u64().and_then(|number| usize::try_from(number).ok()).ok_or_else(invalid);
        let duration = || value.as_str().and_then(read_interval).ok_or_else(invalid);
        match &name[..] {
            "min_reason" => settings.min_reason = number()?,
            "max_duration" => settings.max_duration = duration()?,
            "approvals" => settings.approvals = number()?,
            "broad" => settings.broad = value.as_bool().ok_or_else(invalid)?,
            "notice" => settings.notice = duration()?,
            "on_no_review" => {
                settings.on_no_review = value.as_str().and_then(OnNoReview::parse).ok_or_else(invalid)?;
            }
            // Not by its name: whoever calls may have written anything there.
            _ => {
                let message = "the settings have a member that no kind of exceptions has";
                let known = "There are min_reason, max_duration, approvals, broad, notice and on_no_review.";
                return Err(error::ARGUMENT_INVALID.error(message).detail(known));
            }
        }
    }
    Ok(settings)
}

/// Microseconds of an interval; `None` for a text that is none.
fn read_interval(text: &str) -> Option<i64> {
    let read = || INTERVAL.read(&[argument(text)], |row| row.get::<Interval>(1)).pop().flatten();
    let interval = transaction::attempt(read).ok().flatten()?;
    i64::try_from(interval.as_micros()).ok()
}
