//! What AWS calls the external id of a role: who assumes the role sends it, and the role's trust policy compares it.
//!
//! An organization that could choose its external id would choose another one's, and have the application assume that
//! one's role ("The confused deputy problem", AWS IAM User Guide). So nobody chooses it.

use super::secret::{Secret, unknown, valid_name};
use crate::context;
use crate::pg::report::OrRaise;
use crate::pg::spi::{self, Query};
use crate::pg::user;
use pg_tenancy_core::error::{self, Result};
use pg_tenancy_core::secrets::kind::AWS_ROLE;
use pgrx::pg_extern;
use rand::RngExt as _;

static EXTERNAL_ID: Query = Query::new("SELECT external_id FROM tenancy.secret WHERE id = $1");

/// `tenancy.external_id(name)`.
#[pg_extern(sql = false)]
fn tenancy_external_id(name: Option<&str>) -> String {
    of_named(name).or_raise()
}

/// The external id of a new secret of this kind, if the kind has one.
pub fn of_new(kind: &str) -> Option<String> {
    (kind == AWS_ROLE).then(|| uuid::Builder::from_random_bytes(rand::rng().random()).into_uuid().to_string())
}

fn of_named(name: Option<&str>) -> Result<String> {
    let name = valid_name(name)?;
    let secret = Secret::find(context::require()?.organization.id, name)?;
    let secret = secret.filter(|secret| context::allowed(&secret.domain, "read")).ok_or_else(|| unknown(name))?;
    if secret.kind != AWS_ROLE {
        let message = format!("the secret \"{name}\" is of the kind \"{}\"", secret.kind);
        let detail = "Only secrets of the kind aws_role have an external id.";
        return Err(error::ARGUMENT_INVALID.error(message).detail(detail));
    }
    let read = || EXTERNAL_ID.read(&[spi::uuid(secret.id)], |row| row.get::<String>(1));
    let found = user::as_superuser(read).pop().flatten();
    found.ok_or_else(|| error::STATE_INVALID.error(format!("the external id of the secret \"{name}\" is missing")))
}
