//! The lock of an organization.

use crate::pg::spi::{self, Query};
use uuid::Uuid;

static HOLD: Query = Query::new("SELECT 1 FROM tenancy.organization WHERE id = $1 FOR NO KEY UPDATE");

/// Holds the organization's row until the end of the transaction: whoever does what there must be one of takes turns.
/// False if there is no such organization.
pub fn hold(id: Uuid) -> bool {
    !HOLD.write(&[spi::uuid(id)], |_| ()).is_empty()
}
