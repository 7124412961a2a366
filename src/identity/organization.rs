//! The lock of an organization, and who belongs to it.

use crate::pg::spi::{self, Query, argument};
use crate::pg::transaction;
use uuid::Uuid;

static HOLD: Query = Query::new("SELECT 1 FROM tenancy.organization WHERE id = $1 FOR NO KEY UPDATE");

/// Holds the organization's row until the end of the transaction: whoever does what there must be one of takes turns.
/// False if there is no such organization.
pub fn hold(id: Uuid) -> bool {
    !HOLD.write(&[spi::uuid(id)], |_| ()).is_empty()
}

static IS_MEMBER: Query = Query::new(
    "SELECT 1 FROM tenancy.membership
      WHERE organization = $1 AND issuer = $2 AND subject = $3 AND status = 'active'
        AND (valid_until IS NULL OR valid_until > $4)",
);

/// Whether this person is an active member at that time, in the newest committed state. For a role that may read it.
pub fn is_active_member(organization: Uuid, issuer: &str, subject: &str, now: i64) -> bool {
    let person = [spi::uuid(organization), argument(issuer), argument(subject), spi::timestamp(now)];
    !transaction::with_latest_snapshot(|| IS_MEMBER.read(&person, |_| ())).is_empty()
}
