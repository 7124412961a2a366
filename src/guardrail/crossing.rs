//! The guardrail on rows of another organization that are changed past row-level security: by referential actions, by
//! functions and rules of somebody whom no policy binds.
//!
//! Decision: `docs/decisions/25-cross-tenant-change.md`.

use super::hit::{Hit, acting_organization, warned};
use super::passed::Passed;
use super::state::{overridden, state};
use crate::audit::{self, RowChange};
use crate::context;
use crate::pg::backend_local::BackendLocal;
use crate::pg::tables::catalog;
use crate::pg::transaction;
use crate::pg::user;
use pg_tenancy_core::error::{self, Result};
use pg_tenancy_core::guardrail::{CROSS_TENANT_CHANGE, State};
use pgrx::pg_sys;
use std::cell::Cell;
use uuid::Uuid;

/// Tables whose rows of other organizations this transaction may change, because it was judged once that it may.
pub static PASSED: Passed<u32> = Passed::new();

/// For whom, at which table and in which statement it was found that no context is needed.
static UNBOUND: BackendLocal<Cell<Option<(user::Acting, pg_sys::Oid, i64)>>> = BackendLocal::new(Cell::new(None));

/// A row of a protected table was changed.
///
/// Under a context it must be the organization's own, before and after: a row that all share is nobody's to write.
/// Without one it is for those whom no policy binds and for the owner of the table: anybody else came here by a
/// referential action.
pub fn row_changed(change: &RowChange) -> Result<()> {
    let strange = match context::current()? {
        Some(context) => [change.from, change.to].into_iter().flatten().any(|id| id != context.organization.id),
        None => !unbound(change.relation),
    };
    if !strange {
        return Ok(());
    }
    let table = catalog::oid(change.relation).to_u32();
    if PASSED.contains(&table) {
        return Ok(());
    }
    let (schema, name) = (change.table_schema, change.table_name);
    let place = Some((schema, name));
    let state = state(&CROSS_TENANT_CHANGE, Uuid::nil());
    // A reason counts from those who could alter the table: an application's SQL could give one too.
    let passed = state == State::Off
        || user::outer_may_pass(change.relation) && overridden(&CROSS_TENANT_CHANGE, "change", place)?;
    if !passed {
        let message = if context::current()?.is_some() {
            format!("a row of another organization would be changed in \"{schema}\".\"{name}\"")
        } else {
            format!("a row of \"{schema}\".\"{name}\" would be changed without an organization")
        };
        let error = error::CROSS_TENANT_CHANGE.error(message).detail(
            "The change comes from a referential action, a function or a rule, which row-level security does not bind.",
        );
        if state == State::Enforce {
            return Err(audit::refused(change.domain, error));
        }
        warned(&Hit::of_table(&CROSS_TENANT_CHANGE, acting_organization()?, "change", place), &error)?;
    }
    PASSED.insert(table);
    Ok(())
}

/// True if row-level security does not bind the role in force at that table, or whoever has set it going owns the
/// table.
fn unbound(relation: pg_sys::Relation) -> bool {
    let asked = Some((user::acting(), catalog::oid(relation), transaction::statement()));
    if UNBOUND.get() == asked {
        return true;
    }
    let unbound = user::bypasses_row_security() || user::outer_may_pass(relation);
    if unbound {
        UNBOUND.set(asked);
    }
    unbound
}

pub fn transaction_ended() {
    PASSED.transaction_ended();
    UNBOUND.set(None);
}
