//! `tenancy.begin_maintenance`: begins a maintenance, and has it recorded.

use super::current::{self, current};
use super::maintenance;
use crate::pg::report::{self, OrRaise};
use crate::pg::{plan_cache, transaction, user};
use pg_tenancy_core::error::{self, Result};
use pgrx::pg_extern;
use uuid::Uuid;

/// `tenancy.begin_maintenance(reason)`.
#[pg_extern(sql = false)]
fn tenancy_begin_maintenance(reason: Option<&str>) {
    begin(reason).or_raise();
}

fn begin(reason: Option<&str>) -> Result<()> {
    let reason = super::reason(reason)?;
    if transaction::read_only() {
        return Err(error::READ_ONLY.error("maintenance is recorded, and nothing can be written here"));
    }
    if current()?.is_some() || current::sealed_to_somebody() {
        return Err(error::CONTEXT_SEALED.error("this transaction has an identity, and acts for one organization"));
    }
    maintenance::begin(reason);
    who_acts_changed();
    let session = user::session();
    let (login, name) = (session.session_user_name(), session.current_user_name());
    // The line stays when the transaction, and the event with it, is rolled back.
    report::log(format!("pg_tenancy: role \"{name}\" (session of \"{login}\") acts for all organizations: {reason}"));
    current::record_operator(Uuid::nil(), "maintenance", &name, reason)
}

/// What was planned and remembered before is of another time: plans hold the policies, or do not.
pub fn who_acts_changed() {
    plan_cache::reset();
    current::forget();
}
