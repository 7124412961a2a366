//! `tenancy.destroy_data_keys`: the keys of an organization go, and with them its values, in every backup that has no
//! copy of the keys.

use super::data_key;
use super::keys::record;
use super::secret::{Secret, must_write, require_text, valid_reason};
use super::versions;
use crate::identity::hold_organization;
use crate::pg::clock;
use crate::pg::report::OrRaise;
use crate::pg::transaction;
use pg_tenancy_core::error::{self, Result, require_not_null};
use pgrx::pg_extern;
use serde_json::json;
use uuid::Uuid;

/// `tenancy.destroy_data_keys(organization, reason, legal_basis)`: returns how many values cannot be read any more.
#[pg_extern(sql = false)]
fn tenancy_destroy_data_keys(organization: Option<pgrx::Uuid>, reason: Option<&str>, legal_basis: Option<&str>) -> i64 {
    destroy(organization, reason, legal_basis).or_raise()
}

fn destroy(organization: Option<pgrx::Uuid>, reason: Option<&str>, legal_basis: Option<&str>) -> Result<i64> {
    let organization = Uuid::from_bytes(*require_not_null(organization, "organization")?.as_bytes());
    let reason = valid_reason(reason)?;
    require_text(legal_basis, "legal_basis")?;
    must_write()?;
    // In the order of a rotation, which holds its secret first. What comes until then is held below.
    Secret::all_held(organization)?;
    // Nobody stores a value meanwhile.
    if !hold_organization(organization) {
        return Err(error::NOT_FOUND.error(format!("organization \"{organization}\" does not exist")));
    }
    transaction::commit_durably();
    let now = clock::now();
    let secrets = Secret::all_held(organization)?;
    let mut values = 0;
    for secret in &secrets {
        values += versions::destroy(secret, reason, now)?;
    }
    let keys = data_key::destroy_all(organization);
    if keys == 0 {
        return Err(error::KEY_STATE.error(format!("organization \"{organization}\" has no data key")));
    }
    let new = json!({
        "organization": organization,
        "data_keys": keys,
        "secrets": secrets.len(),
        "values": values,
        "legal_basis": legal_basis,
    });
    record("data_key_destroyed", "success", Some(reason), new)?;
    Ok(values as i64)
}
