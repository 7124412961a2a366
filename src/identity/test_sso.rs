//! `tenancy.test_sso`: a sign-in that is only tried.

use super::authenticate::{self, GivenToken};
use super::lookup::Tables;
use super::sso::{connection, connection_columns, damaged, presented};
use crate::pg::hooks::log;
use crate::pg::report::OrRaise;
use crate::pg::spi::{self, Query, Row, argument};
use crate::pg::transaction;
use pg_tenancy_core::error::{self, Error, Result, require_not_null};
use pg_tenancy_core::identity::sso::Connection;
use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern};
use uuid::Uuid;

static ONE: Query = Query::new(concat!(connection_columns!(), "c.id = $1"));

static RECORD: Query = Query::new(
    "INSERT INTO tenancy.sso_test (connection, organization, version, subject, succeeded, reason)
     VALUES ($1, $2, $3, $4, $5, $6)",
);

/// A connection that is tested.
struct Tested {
    id: Uuid,
    connection: Connection,
    state: String,
    organization: Uuid,
    version: i64,
}

/// What a test sign-in came to; the subject only of a token that was verified.
struct TestOutcome {
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
    let connection = require_not_null(connection, "connection").or_raise();
    let token = require_not_null(token, "token").or_raise();
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
    let unknown = || error::NOT_FOUND.error(format!("single sign-on connection \"{id}\" does not exist"));
    let tested = tested.ok_or_else(unknown)?.ok_or_else(damaged)?;
    if tested.state == "draft" {
        return Err(error::SSO_DRAFT.error("the connection is a draft, and not tested yet"));
    }
    Ok(tested)
}

fn try_token(tested: &Tested, token: &str) -> TestOutcome {
    let (issuer, token) = match authenticate::verify(Tables::READ, &GivenToken::new(token)) {
        Ok(verified) => verified,
        Err(error) => return TestOutcome { subject: None, failure: Some(reason(error)) },
    };
    let role = authenticate::membership(Tables::READ, &issuer, &token, Some(tested.organization))
        .and_then(|membership| authenticate::role(Tables::READ, &issuer, &token, &membership));
    let failure = match role {
        Err(error) => Some(reason(error)),
        Ok(_) => {
            tested.connection.denial_reason(presented(&token)).map(|denial_reason| denial_reason.describe().to_owned())
        }
    };
    TestOutcome { subject: Some(token.subject), failure }
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
