//! What roles permit by what is committed now, for whoever gives them to others.

use super::lookup::Tables;
use super::revalidate::ended;
use crate::pg::transaction;
use pg_tenancy_core::context::Context;
use pg_tenancy_core::controls::permission_set::PermissionSet;
use pg_tenancy_core::error::{self, Result};
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
        let of = of.ok_or_else(|| error::NOT_FOUND.error(format!("role \"{name}\" does not exist")))?;
        Ok(RoleOf { organization: of, permissions: Tables::READ.permissions(of, name) })
    })
}

/// What the role of the context permits now. An operator who assumed the organization holds what was assumed.
///
/// Errors: [`error::MEMBERSHIP_MISSING`] for a member who could not sign in any more.
pub fn held_now(context: &Context) -> Result<PermissionSet> {
    if context.is_assumed() {
        return Ok(context.permissions.clone());
    }
    let organization = context.organization.id;
    transaction::with_latest_snapshot(|| {
        let memberships = Tables::READ.memberships(&context.issuer, &context.subject, Some(&[organization]));
        if !memberships.iter().any(|membership| membership.obstacle(transaction::now()).is_none()) {
            return Err(ended("It was suspended or removed since the transaction began."));
        }
        let of = Tables::READ.role_organization(organization, &context.role);
        Ok(of.map(|of| Tables::READ.permissions(of, &context.role)).unwrap_or_default())
    })
}
