//! Names of roles: one of every organization is no organization's own.

use crate::pg::report::OrRaise;
use crate::pg::spi::{Query, argument};
use crate::pg::transaction;
use pg_tenancy_core::error;
use pgrx::pg_extern;

static OWN: Query = Query::new(
    "SELECT count(*) FROM tenancy.role WHERE name = $1 AND organization <> '00000000-0000-0000-0000-000000000000'",
);

/// `tenancy.require_free_role_name(name)`: no organization has a role of its own by that name, as it is committed.
#[pg_extern(sql = false)]
fn tenancy_require_free_role_name(name: &str) {
    let own = transaction::with_latest_snapshot(|| OWN.read(&[argument(name)], |row| row.get::<i64>(1)));
    let own = own.into_iter().flatten().next().unwrap_or_default();
    if own > 0 {
        let message = format!("{own} organizations have a role \"{name}\" of their own");
        Err(error::ROLE_EXISTS.error(message)).or_raise()
    }
}
