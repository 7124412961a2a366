//! The guardrail on those whom no policy binds: superusers, and roles with BYPASSRLS.

use super::hit::{Hit, warned};
use super::passed::Passed;
use super::state::{overridden, state};
use crate::context;
use crate::policy::protect;
use pg_tenancy_core::error::{self, Result};
use pg_tenancy_core::guardrail::{ROW_SECURITY_BYPASS, State};
use pgrx::pg_sys;
use uuid::Uuid;

/// Tables that were reported in this transaction already.
pub static REPORTED: Passed<u32> = Passed::new();

/// Somebody whom no policy binds is about to read or write a protected table.
pub fn accessed(table: pg_sys::Oid) -> Result<()> {
    let state = state(&ROW_SECURITY_BYPASS, Uuid::nil());
    if state == State::Off
        || protect::working()
        || context::current()?.is_some()
        || context::in_maintenance()
        || REPORTED.contains(&table.to_u32())
    {
        return Ok(());
    }
    let Some(found) = protect::table(table) else { return Ok(()) };
    let name = Some((found.schema.as_str(), found.name.as_str()));
    if !overridden(&ROW_SECURITY_BYPASS, "bypass", name)? {
        let (schema, table) = (&found.schema, &found.name);
        let message = format!("no policy binds this role: it would see every organization's rows of {schema}.{table}");
        let error = error::BYPASS_REFUSED.error(message);
        if state == State::Enforce {
            return Err(error);
        }
        warned(&Hit::of_table(&ROW_SECURITY_BYPASS, Uuid::nil(), "bypass", name), &error)?;
    }
    REPORTED.insert(table.to_u32());
    Ok(())
}
