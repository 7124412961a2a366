//! The identity of a session, asked again in each transaction: does it still give access?

use super::authenticate_pg::revoked;
use super::lookup_pg;
use crate::context::Context;
use crate::error::{self, Result};
use crate::pg::transaction;
use serde_json::{Map, Value};

/// Refuses an identity whose issuer is disabled, whose token was revoked, or whose membership is gone, suspended, ended
/// or of another role, as committed at this moment.
///
/// Called by the accessors in the name of whoever reads, who has no rights on the tables, and in parallel workers.
pub fn revalidate(context: &Context) -> Result<()> {
    transaction::with_latest_snapshot(|| {
        if !lookup_pg::issuer(&context.issuer).is_some_and(|issuer| issuer.active) {
            return Err(ended("Its issuer is not active any more."));
        }
        let claims: Map<String, Value> = serde_json::from_str(&context.claims)
            .map_err(|_| error::STATE_INVALID.because("the claims of the session are unreadable"))?;
        // An "iat" with a fraction is a moment older here, never newer.
        let issued_at = claims.get("iat").and_then(Value::as_f64).map(|seconds| seconds.floor() as i64);
        if let Some(why) = lookup_pg::revocation(&context.issuer, &context.subject, &claims, issued_at) {
            return Err(revoked(why));
        }
        let organization = [context.organization.id];
        let membership = lookup_pg::memberships(&context.issuer, &context.subject, Some(&organization)).pop();
        match membership {
            Some(found) if found.obstacle(transaction::now()).is_none() && found.role == context.membership_role => {
                Ok(())
            }
            _ => Err(ended("It was changed, suspended or removed since tenancy.authenticate_session.")),
        }
    })
}

fn ended(why: &str) -> error::Error {
    error::MEMBERSHIP_MISSING
        .because("the membership that this session authenticated with gives no access any more")
        .detail(why)
}
