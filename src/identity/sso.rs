//! Single sign-on in the database: the gate that `tenancy.authenticate` passes, and test sign-ins.

use super::authenticate;
use super::lookup;
use crate::pg::hooks::{log, transaction};
use crate::pg::report::OrRaise;
use crate::pg::spi::{self, Query, Row, argument};
use pg_tenancy_core::context::Permissions;
use pg_tenancy_core::error::{self, Error, Result, given};
use pg_tenancy_core::identity::sso::{self, BreakGlass, Connection, Presented};
use pg_tenancy_core::identity::token::VerifiedToken;
use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern};
use uuid::Uuid;

/// What [`connection`] reads.
macro_rules! connection_columns {
    () => {
        "SELECT c.issuer, c.accepted_amr, c.accepted_acr, c.accepted_aal,
                ARRAY(SELECT d.name::pg_catalog.text FROM tenancy.sso_domain d
                       WHERE d.connection OPERATOR(pg_catalog.=) c.id AND d.verified_at IS NOT NULL),
                c.break_glass_issuer, c.break_glass_subject, c.state, c.organization, c.version
           FROM tenancy.sso_connection c WHERE "
    };
}

static ENFORCED: Query = Query::new(concat!(
    connection_columns!(),
    "c.organization OPERATOR(pg_catalog.=) $1 AND c.state OPERATOR(pg_catalog.=) 'enforced'"
));

static ONE: Query = Query::new(concat!(connection_columns!(), "c.id OPERATOR(pg_catalog.=) $1"));

static RECORD: Query = Query::new(
    "INSERT INTO tenancy.sso_test (connection, organization, version, subject, succeeded, reason)
     VALUES ($1, $2, $3, $4, $5, $6)",
);

/// Lets a member with this token into the organization, and says how it got in: the method of the context.
///
/// `permissions` are those it will act with: whoever is no admin any more does not break the glass, though nobody took
/// the name away. Called with the newest committed state as the active snapshot. Errors: [`error::SSO_REQUIRED`].
pub fn gate(organization: Uuid, token: Presented, permissions: &Permissions) -> Result<&'static str> {
    if !lookup::enforces_sso(&organization) {
        return Ok("token");
    }
    let enforced = enforced(organization)?;
    match sso::admit(&enforced, token) {
        Ok(()) => Ok("token"),
        Err(_) if sso::breaks_glass(&enforced, token) && permissions.allow("sso", "update") => Ok("break-glass"),
        Err(obstacle) => {
            Err(error::SSO_REQUIRED.because("the organization requires single sign-on").detail(obstacle.describe()))
        }
    }
}

/// The connections that the organization enforces.
fn enforced(organization: Uuid) -> Result<Vec<Connection>> {
    ENFORCED.read(&[spi::uuid(organization)], |row| connection(row).ok_or_else(damaged)).into_iter().collect()
}

/// What of a token the gate looks at.
pub fn presented(token: &VerifiedToken) -> Presented<'_> {
    Presented { issuer: &token.issuer, subject: &token.subject, claims: &token.claims }
}

/// Every list must be there: one that could not be read would ask for nothing.
fn connection(row: &Row) -> Option<Connection> {
    let break_glass = row.get(6).zip(row.get(7)).map(|(issuer, subject)| BreakGlass { issuer, subject });
    Some(Connection {
        issuer: row.get(1)?,
        methods: row.get(2)?,
        contexts: row.get(3)?,
        levels: row.get(4)?,
        domains: row.get(5)?,
        break_glass,
    })
}

fn damaged() -> Error {
    error::STATE_INVALID.because("the row of the connection in tenancy.sso_connection cannot be read")
}

/// A connection that is tested.
struct Tested {
    id: Uuid,
    connection: Connection,
    state: String,
    organization: Uuid,
    version: i64,
}

/// What a test sign-in came to; the subject only of a token that was verified.
struct Outcome {
    subject: Option<String>,
    failure: Option<String>,
}

/// `tenancy.test_sso(connection, token)`: whether the connection would let the token in; recorded, and never raised.
#[pg_extern(sql = false)]
fn tenancy_test_sso(
    connection: Option<pgrx::Uuid>,
    token: Option<&str>,
) -> TableIterator<'static, (name!(succeeded, bool), name!(reason, String))> {
    log::hide_tokens_of_statement();
    let connection = given(connection, "connection").or_raise();
    let token = given(token, "token").or_raise();
    let tested = tested(Uuid::from_bytes(*connection.as_bytes())).or_raise();
    let outcome = transaction::with_latest_snapshot(|| try_token(&tested, token));
    let succeeded = outcome.failure.is_none();
    let reason = outcome.failure.unwrap_or_else(|| "all conditions are met".into());
    let record = [
        spi::uuid(tested.id),
        spi::uuid(tested.organization),
        argument(tested.version),
        argument(outcome.subject),
        argument(succeeded),
        argument(reason.as_str()),
    ];
    RECORD.write(&record, |_| ());
    TableIterator::once((succeeded, reason))
}

fn tested(id: Uuid) -> Result<Tested> {
    let read = |row: &Row| {
        Some(Tested {
            id,
            connection: connection(row)?,
            state: row.get(8)?,
            organization: row.uuid(9)?,
            version: row.get(10)?,
        })
    };
    let tested = transaction::with_latest_snapshot(|| ONE.read(&[spi::uuid(id)], read)).pop();
    let unknown = || error::NOT_FOUND.because(format!("single sign-on connection \"{id}\" does not exist"));
    let tested = tested.ok_or_else(unknown)?.ok_or_else(damaged)?;
    if tested.state == "draft" {
        return Err(error::SSO_DRAFT.because("the connection is a draft, and not tested yet"));
    }
    Ok(tested)
}

fn try_token(tested: &Tested, token: &str) -> Outcome {
    let (issuer, token) = match authenticate::verify(token) {
        Ok(verified) => verified,
        Err(error) => return Outcome { subject: None, failure: Some(reason(error)) },
    };
    let role = authenticate::membership(&issuer, &token, Some(tested.organization))
        .and_then(|membership| authenticate::role(&issuer, &token, &membership));
    let failure = match role {
        Err(error) => Some(reason(error)),
        Ok(_) => tested.connection.obstacle(presented(&token)).map(|obstacle| obstacle.describe().to_owned()),
    };
    Outcome { subject: Some(token.subject), failure }
}

/// An error as one line that holds nothing of the token: it is stored, and stays in the audit.
fn reason(error: Error) -> String {
    // Its message names the issuer that the token claims.
    if *error.kind == error::ISSUER_UNKNOWN {
        return "the token's issuer is not registered, or not active".into();
    }
    match error.detail {
        Some(detail) => format!("{}. {detail}", error.message),
        None => error.message,
    }
}
