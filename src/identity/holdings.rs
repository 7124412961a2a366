//! What roles permit by what is committed now, for whoever gives them to others.

use super::lookup::Tables;
use super::revalidate::ended;
use crate::pg::transaction;
use pg_tenancy_core::context::Context;
use pg_tenancy_core::controls::permission_set::PermissionSet;
use pg_tenancy_core::error::{self, Error, Result};
use pg_tenancy_core::identity::membership::Membership;
use uuid::Uuid;

/// A role that members of an organization can have.
pub struct RoleOf {
    /// The organization's own, or the nil UUID for one of every organization.
    pub organization: Uuid,
    pub permissions: PermissionSet,
}

/// The role of that name in the organization.
///
/// Errors: [`error::NOT_FOUND`], also for a role of another organization.
pub fn role_of(organization: Uuid, name: &str) -> Result<RoleOf> {
    transaction::with_latest_snapshot(|| {
        let of = Tables::READ.role_organization(organization, name);
        let of = of.ok_or_else(|| unknown_role(name))?;
        Ok(RoleOf { organization: of, permissions: Tables::READ.permissions(of, name) })
    })
}

/// Whose role of that name the organization has: its own, or the nil UUID for one of every organization.
///
/// Errors: [`error::NOT_FOUND`], also for a role of another organization.
pub fn role_organization(organization: Uuid, name: &str) -> Result<Uuid> {
    let of = transaction::with_latest_snapshot(|| Tables::READ.role_organization(organization, name));
    of.ok_or_else(|| unknown_role(name))
}

fn unknown_role(name: &str) -> Error {
    error::NOT_FOUND.error(format!("role \"{name}\" does not exist"))
}

/// What the role of the context permits now, or that of the membership where another was given since. An operator who
/// assumed the organization holds what was assumed.
///
/// Errors: [`error::MEMBERSHIP_MISSING`] for a member who could not sign in any more.
pub fn held_now(context: &Context) -> Result<PermissionSet> {
    if context.is_assumed() {
        return Ok(context.permissions.clone());
    }
    let organization = context.organization.id;
    transaction::with_latest_snapshot(|| {
        let Some(membership) = membership(organization, &context.issuer, &context.subject) else {
            return Err(ended("It was suspended or removed since the transaction began."));
        };
        if membership.role != context.membership_role {
            return Ok(Tables::READ.permissions(membership.role_organization, &membership.role));
        }
        let of = Tables::READ.role_organization(organization, &context.role);
        Ok(of.map(|of| Tables::READ.permissions(of, &context.role)).unwrap_or_default())
    })
}

/// What the role of this person's membership permits now; `None` for nobody who could sign in.
pub fn permissions_now(organization: Uuid, issuer: &str, subject: &str) -> Option<PermissionSet> {
    transaction::with_latest_snapshot(|| {
        let membership = membership(organization, issuer, subject)?;
        Some(Tables::READ.permissions(membership.role_organization, &membership.role))
    })
}

/// When the membership of this person ends that gives access, by the active snapshot, in microseconds since 1970:
/// `i64::MAX` for one without an end, `None` for nobody who could sign in.
pub fn access_ends(organization: Uuid, issuer: &str, subject: &str) -> Option<i64> {
    membership(organization, issuer, subject).map(|membership| membership.valid_until.unwrap_or(i64::MAX))
}

/// Whether this person could sign in, by the active snapshot.
pub fn is_member(organization: Uuid, issuer: &str, subject: &str) -> bool {
    membership(organization, issuer, subject).is_some()
}

/// The membership of this person that gives access, by the active snapshot.
fn membership(organization: Uuid, issuer: &str, subject: &str) -> Option<Membership> {
    let found = Tables::READ.memberships(issuer, subject, Some(&[organization]));
    found.into_iter().find(|membership| membership.obstacle(transaction::now()).is_none())
}

/// Whether a role permits everything, by the active snapshot; `organization` is whose role it is.
pub fn permits_everything(organization: Uuid, role: &str) -> bool {
    Tables::READ.permissions(organization, role).is_all()
}
