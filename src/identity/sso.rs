//! Single sign-on in the database: the check that `tenancy.authenticate` makes.
//!
//! Decision: `docs/decisions/12-enforced-single-sign-on.md`.

use super::lookup::Tables;
use crate::pg::spi::{self, Query, Row};
use pg_tenancy_core::controls::permission_set::PermissionSet;
use pg_tenancy_core::error::{self, Error, Result};
use pg_tenancy_core::identity::sso::{self, BreakGlass, Connection, Presented};
use pg_tenancy_core::identity::token::VerifiedToken;
use uuid::Uuid;

/// What [`connection`] reads.
macro_rules! connection_columns {
    () => {
        "SELECT c.issuer, c.accepted_amr, c.accepted_acr, c.accepted_aal,
                ARRAY(SELECT d.name::text FROM tenancy.sso_domain d
                       WHERE d.connection = c.id AND d.verified_at IS NOT NULL),
                c.break_glass_issuer, c.break_glass_subject, c.state, c.organization, c.version
           FROM tenancy.sso_connection c WHERE "
    };
}
pub(super) use connection_columns;

static ENFORCED: Query = Query::new(concat!(connection_columns!(), "c.organization = $1 AND c.state = 'enforced'"));

/// Lets a member with this token into the organization, and says how it got in: the method of the context.
///
/// `permissions` are those it will act with: whoever is no admin any more does not break the glass, though nobody took
/// the name away. Called with the newest committed state as the active snapshot. Errors: [`error::SSO_REQUIRED`].
pub fn check_sso(
    tables: Tables,
    organization: Uuid,
    token: Presented,
    permissions: &PermissionSet,
) -> Result<&'static str> {
    if !tables.enforces_sso(&organization) {
        return Ok("token");
    }
    let enforced = enforced(organization)?;
    match sso::admit(&enforced, token) {
        Ok(()) => Ok("token"),
        Err(_) if sso::breaks_glass(&enforced, token) && permissions.allows("sso", "update") => Ok("break-glass"),
        Err(denial_reason) => {
            Err(error::SSO_REQUIRED.error("the organization requires single sign-on").detail(denial_reason.describe()))
        }
    }
}

/// The connections that the organization enforces.
fn enforced(organization: Uuid) -> Result<Vec<Connection>> {
    ENFORCED.read(&[spi::uuid(organization)], |row| connection(row).ok_or_else(damaged)).into_iter().collect()
}

/// What of a token the check looks at.
pub fn presented(token: &VerifiedToken) -> Presented<'_> {
    Presented { issuer: &token.issuer, subject: &token.subject, claims: &token.claims }
}

/// Every list must be there: one that could not be read would ask for nothing.
pub(super) fn connection(row: &Row) -> Option<Connection> {
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

pub(super) fn damaged() -> Error {
    error::STATE_INVALID.error("the row of the connection in tenancy.sso_connection cannot be read")
}
