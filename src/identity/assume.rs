//! `tenancy.assume_organization`: an operator acts for an organization without a token.
//!
//! Decision: `docs/decisions/13-operator-identity.md`.

use super::authenticate::check_correlation_id;
use super::lookup::Tables;
use crate::audit::{self, Refused};
use crate::context;
use crate::pg::report::{self, OrRaise};
use crate::pg::transaction;
use crate::pg::user;
use pg_tenancy_core::context::{ASSUMED, Context, Scope};
use pg_tenancy_core::controls::permission_set::PermissionSet;
use pg_tenancy_core::error::{self, Result, require_not_null};
use pgrx::pg_extern;
use uuid::Uuid;

/// Who issues the identity of an operator: the database itself. No token can name it, because issuers are registered.
const ISSUER: &str = "pg_tenancy:operator";

/// The role of an operator who names none.
const EVERYTHING: &str = "operator";

/// A transaction that lasts longer has been forgotten.
const LIFETIME: i64 = 24 * 60 * 60 * 1_000_000;

/// `tenancy.assume_organization(organization, reason, role, correlation_id)`: returns the organization.
#[pg_extern(sql = false)]
fn tenancy_assume_organization(
    organization: Option<pgrx::Uuid>,
    reason: Option<&str>,
    role: Option<&str>,
    correlation_id: Option<&str>,
) -> pgrx::Uuid {
    let assumed = assume(organization, reason, role, correlation_id);
    if let Err(error) = &assumed {
        audit::sign_in_refused("assume", error, &Refused { correlation_id, ..Refused::default() });
    }
    assumed.or_raise()
}

fn assume(
    organization: Option<pgrx::Uuid>,
    reason: Option<&str>,
    role: Option<&str>,
    correlation_id: Option<&str>,
) -> Result<pgrx::Uuid> {
    let given_id = require_not_null(organization, "the organization")?;
    let reason = context::reason(reason)?;
    check_correlation_id(correlation_id)?;
    if transaction::read_only() {
        return Err(error::READ_ONLY.error("assuming an organization is recorded, and nothing can be written here"));
    }
    let id = Uuid::from_bytes(*given_id.as_bytes());
    let (organization, permissions) = transaction::with_latest_snapshot(|| {
        let found = Tables::READ.organization(&id).map(|(organization, _)| organization);
        let organization = found.ok_or_else(|| error::NOT_FOUND.error("there is no such organization"))?;
        let permissions = match role {
            None => PermissionSet::all(),
            Some(role) => {
                let of = Tables::READ.role_organization(id, role);
                let of = of.ok_or_else(|| error::NOT_FOUND.error("there is no such role"))?;
                Tables::READ.permissions(of, role)
            }
        };
        Ok((organization, permissions))
    })?;
    let subject = user::session().session_user_name();
    let role = role.unwrap_or(EVERYTHING).to_owned();
    context::begin(Context {
        scope: Scope::Transaction,
        method: ASSUMED.into(),
        organization,
        subject: subject.clone(),
        issuer: ISSUER.into(),
        membership_role: role.clone(),
        role: role.clone(),
        key_id: None,
        session_id: None,
        reason: Some(reason.to_owned()),
        correlation_id: correlation_id.map(str::to_owned),
        expires_at: transaction::now() + LIFETIME,
        permissions,
        elevation: None,
        claims: "{}".into(),
    })?;
    // The line stays when the transaction, and the event with it, is rolled back.
    report::log(format!("pg_tenancy: role \"{subject}\" assumed organization {id} as {role}: {reason}"));
    audit::operator_acts(id, "assume", &role, reason)?;
    Ok(given_id)
}
