//! Members who have not signed in for a long time: what is known of sign-ins, and the guardrail `dormant_member`.
//!
//! A sign-in is recorded once a day, and only where the guardrail is not off. It goes to the worker as a message,
//! because a transaction that only reads writes nothing, and one that rolls back leaves nothing.
//!
//! Decision: `docs/decisions/90-dormant-members.md`.

use super::lookup::Tables;
use crate::audit::{self, TableGuard};
use crate::guardrail::{self, Hit};
use crate::pg::fmgr::fmgr_function;
use crate::pg::report::{OrRaise, raise};
use crate::pg::settings::configuration;
use crate::pg::spi::{self, Query, argument};
use crate::pg::{clock, transaction};
use pg_tenancy_core::context::Context;
use pg_tenancy_core::error::{self, Error, Result};
use pg_tenancy_core::guardrail::{DORMANT_MEMBER, State};
use pg_tenancy_core::identity::dormancy::{RESOLUTION, SignIn};
use pg_tenancy_core::identity::membership::{self, Membership};
use pgrx::{pg_extern, pg_sys};
use uuid::Uuid;

/// A membership that is being dropped is left: the one process that seals waits for nobody.
static RECORD: Query = Query::new(
    "INSERT INTO tenancy.member_activity AS a (organization, issuer, subject, signed_in_at)
     SELECT m.organization, m.issuer, m.subject, $4 FROM tenancy.membership m
      WHERE m.organization = $1 AND m.issuer = $2 AND m.subject = $3 FOR KEY SHARE SKIP LOCKED
     ON CONFLICT ON CONSTRAINT member_activity_pkey DO UPDATE
        SET signed_in_at = EXCLUDED.signed_in_at WHERE a.signed_in_at < EXCLUDED.signed_in_at",
);

static TABLE: TableGuard = TableGuard::new();

fmgr_function! {
    /// `tenancy.keep_member_activity()`: trigger of the table.
    tenancy_keep_member_activity, pg_finfo_tenancy_keep_member_activity, |call| {
        if !TABLE.allows(call).or_raise() {
            let message = "the table of sign-ins is written by the extension alone";
            raise(error::CONTROL_TABLE_REFUSED.error(message));
        }
        pg_sys::Datum::null()
    }
}

/// What the guardrail says of a sign-in.
#[derive(Default)]
pub struct Admission {
    /// Until when it says so, in microseconds since 1970; `None` for ever.
    pub until: Option<i64>,
    /// What a member who is let in would be refused with.
    pub warning: Option<Error>,
}

/// Lets a member in, whose sign-in is then recorded, or refuses one who is dormant.
pub fn admit(tables: Tables, issuer: &str, subject: &str, membership: &Membership) -> Result<Admission> {
    let organization = membership.organization.id;
    let Some(rule) = tables.dormancy_rule(organization) else { return Ok(Admission::default()) };
    let now = clock::now();
    let Some(activity) = tables.activity(organization, issuer, subject, rule.recorded_since) else {
        return Err(membership::missing(None));
    };
    let dormant = activity.is_dormant(now, configuration::dormant_after());
    let error = || membership::missing(Some("The member has not signed in for a long time."));
    if dormant && rule.state == State::Enforce {
        return Err(error());
    }
    if activity.is_outdated(now) {
        let (issuer, subject) = (issuer.to_owned(), subject.to_owned());
        let sign_in = SignIn { organization, issuer, subject, signed_in_at: now };
        audit::post(&sign_in.to_message());
    }
    // A member whose sign-ins are remembered is active, which the record has to show.
    let until = Some(transaction::now().saturating_add(RESOLUTION));
    Ok(Admission { until, warning: dormant.then(error) })
}

/// Warns of a member who was let in.
pub fn warn(context: &Context, error: &Error) -> Result<()> {
    let hit = Hit::of_object(&DORMANT_MEMBER, context.organization.id, "authenticate", &context.subject);
    guardrail::warned(&hit, error)
}

/// Whether the guardrail is about this member now, in whatever state it is but off.
pub fn is_dormant(organization: Uuid, issuer: &str, subject: &str) -> bool {
    transaction::with_latest_snapshot(|| {
        let Some(rule) = Tables::READ.dormancy_rule(organization) else { return false };
        let activity = Tables::READ.activity(organization, issuer, subject, rule.recorded_since);
        activity.is_some_and(|activity| activity.is_dormant(clock::now(), configuration::dormant_after()))
    })
}

/// `tenancy.is_dormant(organization, issuer, subject)`.
#[pg_extern(sql = false)]
fn tenancy_is_dormant(organization: pgrx::Uuid, issuer: &str, subject: &str) -> bool {
    is_dormant(Uuid::from_bytes(*organization.as_bytes()), issuer, subject)
}

/// Records a sign-in that came as a message; false for what is no such message.
pub fn record(message: &[u8]) -> bool {
    let Some(sign_in) = SignIn::from_message(message) else { return false };
    let row = [
        spi::uuid(sign_in.organization),
        argument(sign_in.issuer.as_str()),
        argument(sign_in.subject.as_str()),
        spi::timestamp(sign_in.signed_in_at),
    ];
    TABLE.writing(|| RECORD.write(&row, |_| ()));
    true
}
