//! The identity of a session, asked again in each transaction: does it still give access?
//!
//! Decision: `docs/decisions/04-session-identity.md`.

use super::authenticate::revoked;
use super::lookup::Tables;
use super::sso;
use crate::pg::transaction;
use crate::pg::user;
use pg_tenancy_core::context::Context;
use pg_tenancy_core::error::{self, Result};
use pg_tenancy_core::identity::sso::Presented;
use pg_tenancy_core::identity::token::{Claims, retired_key};
use serde_json::Value;

/// Refuses an identity that could not sign in any more as it did, by what is committed at this moment: issuer, key,
/// revocations, membership with its role, organization, single sign-on. Permissions are those of the sign-in.
///
/// Called by the accessors in the name of whoever reads, who has no rights on the tables, and in parallel workers.
pub fn revalidate(context: &Context) -> Result<()> {
    transaction::with_latest_snapshot(|| {
        let (tables, now) = (Tables::READ, transaction::now());
        if !tables.issuer(&context.issuer).is_some_and(|issuer| issuer.active) {
            return Err(ended("Its issuer is not active any more."));
        }
        let retirement = context.key_id.as_ref().and_then(|key_id| tables.retirement(&context.issuer, key_id));
        if retirement.is_some_and(|at| at <= now) {
            return Err(retired_key());
        }
        let unreadable = || error::STATE_INVALID.error("the claims of the session are unreadable");
        let claims = Claims::kept(&context.claims).ok_or_else(unreadable)?;
        // An "iat" with a fraction is a moment older here, never newer.
        let issued_at = claims.get("iat").and_then(Value::as_f64).map(|seconds| seconds.floor() as i64);
        if let Some(why) = tables.revocation(&context.issuer, &context.subject, &claims, issued_at) {
            return Err(revoked(why));
        }
        let organization = [context.organization.id];
        let membership = tables.memberships(&context.issuer, &context.subject, Some(&organization)).pop();
        let unchanged = membership.is_some_and(|found| {
            found.obstacle(now).is_none()
                && found.role == context.membership_role
                && found.organization == context.organization
        });
        if !unchanged {
            return Err(ended("It was changed, suspended or removed since tenancy.authenticate_session."));
        }
        let token = Presented { issuer: &context.issuer, subject: &context.subject, claims: &claims };
        match user::as_superuser(|| sso::check_sso(tables, context.organization.id, token, &context.permissions))? {
            "token" => Ok(()),
            method if method == context.method => Ok(()),
            _ => Err(ended("The organization has required single sign-on since.")),
        }
    })
}

pub(super) fn ended(why: &str) -> error::Error {
    error::MEMBERSHIP_MISSING
        .error("the membership that this session authenticated with gives no access any more")
        .detail(why)
}
