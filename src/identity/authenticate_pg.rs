//! `tenancy.authenticate`: from a token to the context of the transaction.

use super::issuer_pg::{self, Issuer};
use super::membership::{Membership, Named, choose};
use super::token::{UnverifiedToken, VerifiedToken};
use crate::context::{self, Context, Organization, Permissions};
use crate::error::{self, Result};
use crate::pg::report::OrRaise;
use crate::pg::spi::{Query, Row, argument};
use crate::pg::transaction;
use pgrx::pg_extern;
use serde_json::Value;
use std::rc::Rc;
use uuid::Uuid;

/// A correlation id is for logs; a longer one is a mistake.
const MAX_CORRELATION_BYTES: usize = 200;

const SECOND: i64 = 1_000_000;

static MEMBERSHIPS: Query = Query::new(
    "SELECT o.id, o.text_id, o.integer_id, o.status OPERATOR(pg_catalog.=) 'active',
            m.role, m.status OPERATOR(pg_catalog.=) 'active', m.valid_until
       FROM tenancy.membership m
       JOIN tenancy.organization o ON o.id OPERATOR(pg_catalog.=) m.organization
      WHERE m.issuer OPERATOR(pg_catalog.=) $1 AND m.subject OPERATOR(pg_catalog.=) $2",
);

static PERMISSIONS: Query =
    Query::new("SELECT domain, action FROM tenancy.role_permission WHERE role OPERATOR(pg_catalog.=) $1");

/// `tenancy.authenticate(token, organization, correlation_id)`: returns the organization.
#[pg_extern(sql = false)]
fn tenancy_authenticate(
    token: Option<&str>,
    organization: Option<pgrx::Uuid>,
    correlation_id: Option<&str>,
) -> pgrx::Uuid {
    let organization = organization.map(|id| Uuid::from_bytes(*id.as_bytes()));
    let context = authenticate(token.unwrap_or_default(), organization, correlation_id).or_raise();
    context::begin(&context).or_raise();
    pgrx::Uuid::from_bytes(*context.organization.id.as_bytes())
}

fn authenticate(token: &str, organization: Option<Uuid>, correlation_id: Option<&str>) -> Result<Context> {
    if correlation_id.is_some_and(|id| id.len() > MAX_CORRELATION_BYTES) {
        return Err(error::ARGUMENT_INVALID.because("the correlation id is longer than 200 bytes"));
    }
    // The newest committed state, whatever the isolation level: a member suspended a moment ago is refused.
    transaction::with_latest_snapshot(|| {
        let (issuer, token) = verify(token)?;
        let claim = organization_claim(&issuer, &token)?;
        let named = Named { claim, argument: organization };
        let memberships =
            MEMBERSHIPS.read(&[argument(token.issuer.as_str()), argument(token.subject.as_str())], membership);
        let memberships: Vec<Membership> = memberships.into_iter().flatten().collect();
        let membership = choose(named, &memberships, transaction::now())?;
        describe(&issuer, &token, membership, correlation_id)
    })
}

fn verify(token: &str) -> Result<(Rc<Issuer>, VerifiedToken)> {
    let token = UnverifiedToken::parse(token)?;
    let issuer = issuer_pg::find(&token)?;
    let now = transaction::now().div_euclid(SECOND);
    let token = token.verify_signature(&issuer.policy)?.check_claims(&issuer.policy, now)?;
    Ok((issuer, token))
}

/// The organization in the claims; absent is allowed, another type than text is not.
fn organization_claim<'a>(issuer: &Issuer, token: &'a VerifiedToken) -> Result<Option<&'a str>> {
    match issuer.organization_claim.as_deref().and_then(|pointer| token.claim(pointer)) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(organization)) => Ok(Some(organization)),
        Some(_) => Err(error::CLAIM_INVALID.because("the organization claim of the token is not a string")),
    }
}

fn membership(row: &Row) -> Option<Membership> {
    Some(Membership {
        organization: Organization { id: row.uuid(1)?, text_id: row.get(2)?, integer_id: row.get(3) },
        organization_active: row.get(4)?,
        role: row.get(5)?,
        active: row.get(6)?,
        valid_until: row.timestamp(7),
    })
}

fn describe(
    issuer: &Issuer,
    token: &VerifiedToken,
    membership: &Membership,
    correlation_id: Option<&str>,
) -> Result<Context> {
    let permissions = PERMISSIONS.read(&[argument(membership.role.as_str())], |row| Some((row.get(1)?, row.get(2)?)));
    let permissions: Permissions = permissions.into_iter().flatten().collect();
    let token_ends = (token.expires_at + i64::from(issuer.policy.leeway_seconds)) * SECOND;
    Ok(Context {
        method: "token".into(),
        organization: membership.organization.clone(),
        subject: token.subject.clone(),
        issuer: token.issuer.clone(),
        role: membership.role.clone(),
        session_id: token.session_id.clone(),
        correlation_id: correlation_id.map(str::to_owned),
        expires_at: membership.valid_until.map_or(token_ends, |end| end.min(token_ends)),
        permissions,
        claims: Value::Object(token.claims.clone()).to_string(),
    })
}
