//! The last admin stays: an organization with a member who may do everything keeps one.
//!
//! A member without an end counts for more than one who has one: whoever is left must not run out by time alone. Both
//! triggers look at what is committed while they hold the organization, so two who remove each other take turns,
//! whatever the isolation level.
//!
//! Decision: `docs/decisions/84-roles-of-an-organization.md`.

use super::break_glass;
use crate::audit;
use crate::context;
use crate::guardrail::{self, Hit};
use crate::identity::{hold_organization, permits_everything};
use crate::pg::fmgr::fmgr_function;
use crate::pg::report::OrRaise;
use crate::pg::spi::{self, Query, argument};
use crate::pg::tables::catalog::{self, RowValues, Shape};
use crate::pg::trigger::{self, Call};
use crate::pg::{clock, transaction, user};
use pg_tenancy_core::error::{self, Error, Result};
use pg_tenancy_core::guardrail::{LAST_ADMIN, State};
use pgrx::pg_sys;
use uuid::Uuid;

/// The admins of an organization, those without an end first: `PermissionSet::is_all` in SQL, of many roles at once.
static ADMIN: Query = Query::new(
    "SELECT m.valid_until IS NULL OR m.valid_until = 'infinity' FROM tenancy.membership m
      WHERE m.organization = $1 AND m.status = 'active' AND (m.valid_until IS NULL OR m.valid_until > $2)
        AND EXISTS (SELECT FROM tenancy.role_permission p
                     WHERE p.organization = m.role_organization AND p.role = m.role
                       AND p.domain = '*' AND p.action = '*' AND p.effect = 'allow')
        AND NOT EXISTS (SELECT FROM tenancy.role_permission p
                         WHERE p.organization = m.role_organization AND p.role = m.role AND p.effect = 'deny')
      ORDER BY 1 DESC LIMIT 1",
);

/// The organizations in which active members have a role, and whether one of them has no end.
static ORGANIZATIONS: Query = Query::new(
    "SELECT m.organization, bool_or(m.valid_until IS NULL OR m.valid_until = 'infinity') FROM tenancy.membership m
      WHERE m.role_organization = $1 AND m.role = $2 AND m.status = 'active'
        AND (m.valid_until IS NULL OR m.valid_until > $3)
      GROUP BY m.organization ORDER BY m.organization",
);

/// How well an organization is provided with admins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Admins {
    None,
    /// All of them end by time.
    Ending,
    Lasting,
}

impl Admins {
    fn with_end(lasting: bool) -> Self {
        if lasting { Admins::Lasting } else { Admins::Ending }
    }
}

fmgr_function! {
    /// `tenancy.keep_admin()`: AFTER ROW trigger of `tenancy.membership` and `tenancy.role_permission`.
    tenancy_keep_admin, pg_finfo_tenancy_keep_admin, |call| {
        if !trigger::applies_for_another() {
            user::as_superuser(|| keep_admin(call)).or_raise();
        }
        pg_sys::Datum::null()
    }
}

fn keep_admin(call: pg_sys::FunctionCallInfo) -> Result<()> {
    let call = Call::new(call)?;
    if !call.is_after_row() {
        return Err(error::CALL_REFUSED.error("tenancy.keep_admin is for AFTER ... FOR EACH ROW triggers"));
    }
    let shape = catalog::shape(call.trigger_oid(), call.relation(), &[]);
    // Of a membership only the row before can be an admin's; what a role loses stands in either row.
    let Some(row) = call.old().or_else(|| call.new_row()) else { return Ok(()) };
    let row = ChangedRow { values: RowValues::of(call.relation(), row, &shape), shape: &shape };
    if shape.name == "membership" { membership_changed(&row) } else { role_changed(&row) }
}

/// The row of a trigger, by the names of its columns.
struct ChangedRow<'a> {
    values: RowValues,
    shape: &'a Shape,
}

impl ChangedRow<'_> {
    fn text(&self, name: &str) -> Result<String> {
        let value = self.shape.column(name).and_then(|column| Some((column, self.values.get(column)?)));
        value.map(|(column, value)| catalog::text_of(column, value)).ok_or_else(|| unreadable(name))
    }

    fn uuid(&self, name: &str) -> Result<Uuid> {
        self.text(name)?.parse().map_err(|_| unreadable(name))
    }
}

fn unreadable(column: &str) -> Error {
    error::STATE_INVALID.error(format!("the column {column} of a changed row cannot be read"))
}

/// A membership was changed or removed. Grants of break-glass go with it.
fn membership_changed(before: &ChangedRow) -> Result<()> {
    let end = before.shape.column("valid_until").and_then(|column| before.values.get(column));
    let end = end.map(|datum| transaction::from_timestamptz(datum.value() as i64));
    let is_active = before.text("status")? == "active" && end.is_none_or(|end| end > clock::now());
    let organization = before.uuid("organization")?;
    // As it was before the statement that changed the membership.
    if is_active && permits_everything(before.uuid("role_organization")?, &before.text("role")?) {
        keeps(organization, Admins::with_end(end.is_none_or(|end| end == i64::MAX)))?;
    }
    break_glass::member_changed(organization, &before.text("issuer")?, &before.text("subject")?)
}

/// A permission was given to a role, or taken from it.
fn role_changed(row: &ChangedRow) -> Result<()> {
    let (organization, role) = (row.uuid("organization")?, row.text("role")?);
    let permits = || permits_everything(organization, &role);
    // The snapshot of the statement does not see what the statement does.
    if !permits() {
        return Ok(());
    }
    transaction::next_command();
    if transaction::with_latest_snapshot(permits) {
        return Ok(());
    }
    let arguments = [spi::uuid(organization), argument(role.as_str()), spi::timestamp(clock::now())];
    let affected = transaction::with_latest_snapshot(|| {
        ORGANIZATIONS.read(&arguments, |row| Some((row.uuid(1)?, row.get::<bool>(2)?)))
    });
    affected
        .into_iter()
        .flatten()
        .try_for_each(|(organization, lasting)| keeps(organization, Admins::with_end(lasting)))
}

/// Refuses a change that leaves the organization worse provided than one of its admins did.
fn keeps(organization: Uuid, before: Admins) -> Result<()> {
    transaction::next_command();
    // An organization that is deleted needs nobody.
    if !hold_organization(organization) {
        return Ok(());
    }
    let arguments = [spi::uuid(organization), spi::timestamp(clock::now())];
    let left = transaction::with_latest_snapshot(|| ADMIN.read(&arguments, |row| row.get::<bool>(1))).pop().flatten();
    let left = left.map_or(Admins::None, Admins::with_end);
    let state = guardrail::state(&LAST_ADMIN, organization);
    if left >= before || state == State::Off {
        return Ok(());
    }
    let message = match left {
        Admins::None => format!("organization {organization} would have no active member who may do everything"),
        _ => format!("every member of organization {organization} who may do everything would have an end"),
    };
    let error = error::LAST_ADMIN.error(message);
    let by_member = context::current()?.is_some();
    // A member gives no reason that counts here: who administers the database does.
    if !by_member && guardrail::overridden(&LAST_ADMIN, "membership", None)? {
        return Ok(());
    }
    if state == State::Enforce {
        return Err(if by_member { audit::refused("member", error) } else { error });
    }
    let organization_name = organization.to_string();
    guardrail::warned(&Hit::of_object(&LAST_ADMIN, organization, "membership", &organization_name), &error)
}
