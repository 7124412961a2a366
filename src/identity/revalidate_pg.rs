//! The identity of a session, asked again in each transaction: does its membership still give access?

use crate::context::Context;
use crate::error::{self, Result};
use crate::pg::spi::{Query, argument, uuid};
use crate::pg::{transaction, user};

static MEMBERSHIP: Query = Query::new(
    "SELECT m.role OPERATOR(pg_catalog.=) $4 AND m.status OPERATOR(pg_catalog.=) 'active'
            AND o.status OPERATOR(pg_catalog.=) 'active'
            AND (m.valid_until IS NULL OR m.valid_until OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp())
       FROM tenancy.membership m
       JOIN tenancy.organization o ON o.id OPERATOR(pg_catalog.=) m.organization
      WHERE m.issuer OPERATOR(pg_catalog.=) $1 AND m.subject OPERATOR(pg_catalog.=) $2
        AND m.organization OPERATOR(pg_catalog.=) $3",
);

/// Refuses an identity whose membership is gone, suspended, ended or of another role, as committed at this moment.
///
/// Called by the accessors in the name of whoever reads, who has no rights on these tables, and in parallel workers.
pub fn revalidate(context: &Context) -> Result<()> {
    let arguments = [
        argument(context.issuer.as_str()),
        argument(context.subject.as_str()),
        uuid(context.organization.id),
        argument(context.role.as_str()),
    ];
    let rows = transaction::with_latest_snapshot(|| {
        user::as_superuser(|| MEMBERSHIP.read(&arguments, |row| row.get(1) == Some(true)))
    });
    if rows == [true] {
        return Ok(());
    }
    Err(error::MEMBERSHIP_MISSING
        .because("the membership that this session authenticated with gives no access any more")
        .detail("It was changed, suspended or removed since tenancy.authenticate_session."))
}
