//! The tables that a statement is about to read or write, where the executor checks privileges.

use super::report::OrRaise;
use super::setting::Backend;
use crate::error::Result;
use pgrx::pg_sys;
use pgrx::pg_sys::submodules::ffi::pg_guard_ffi_boundary;
use std::cell::Cell;
use std::ffi::c_char;

/// Hears of a protected table that somebody is about to read or write whom row-level security does not bind.
type Listener = fn(table: pg_sys::Oid) -> Result<()>;

static LISTENER: Backend<Cell<Option<Listener>>> = Backend::new(Cell::new(None));
static PREVIOUS: Backend<Cell<pg_sys::ExecutorCheckPerms_hook_type>> = Backend::new(Cell::new(None));

/// Registers the hook. Called once.
pub fn watch(listener: Listener) {
    LISTENER.set(Some(listener));
    // SAFETY: called once per process from _PG_init; the library stays loaded.
    unsafe {
        PREVIOUS.set(pg_sys::ExecutorCheckPerms_hook);
        pg_sys::ExecutorCheckPerms_hook = Some(check);
    }
}

#[cfg(feature = "pg15")]
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn check(range_table: *mut pg_sys::List, raise: bool) -> bool {
    // SAFETY: passes on what the executor gave; the list holds the statement's range table.
    unsafe {
        each::<pg_sys::RangeTblEntry>(range_table, |entry| {
            if entry.rtekind == pg_sys::RTEKind::RTE_RELATION {
                look(entry.relid, entry.checkAsUser, entry.requiredPerms);
            }
        });
        PREVIOUS.get().is_none_or(|previous| previous(range_table, raise))
    }
}

#[cfg(not(feature = "pg15"))]
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn check(range_table: *mut pg_sys::List, entries: *mut pg_sys::List, raise: bool) -> bool {
    // SAFETY: passes on what the executor gave; the second list holds what is needed of each relation.
    unsafe {
        each::<pg_sys::RTEPermissionInfo>(entries, |entry| look(entry.relid, entry.checkAsUser, entry.requiredPerms));
        PREVIOUS.get().is_none_or(|previous| previous(range_table, entries, raise))
    }
}

/// SAFETY of the caller: NULL or a list of pointers to `T`.
unsafe fn each<T>(list: *mut pg_sys::List, mut visit: impl FnMut(&T)) {
    // SAFETY: as promised.
    unsafe {
        let count = if list.is_null() { 0 } else { (*list).length as usize };
        for n in 0..count {
            visit(&*(*(*list).elements.add(n)).ptr_value.cast());
        }
    }
}

/// One relation of the statement. Views of an owner are checked as the owner: that is who reads what is below them.
fn look(relation: pg_sys::Oid, check_as: pg_sys::Oid, needed: pg_sys::AclMode) {
    let Some(listener) = LISTENER.get().filter(|_| needed != 0) else { return };
    // SAFETY: plain reads and catalog lookups.
    let bypasses = unsafe {
        // A worker does what its leader was asked about; a check of a foreign key is Postgres' own.
        pg_sys::ParallelWorkerNumber < 0 && !pg_sys::InNoForceRLSOperation() && {
            let user = if check_as == pg_sys::InvalidOid { pg_sys::GetUserId() } else { check_as };
            pg_sys::has_bypassrls_privilege(user)
        }
    };
    if bypasses && is_isolated(relation) {
        listener(relation).or_raise();
    }
}

/// True for a table with the policy that `tenancy.protect` makes.
fn is_isolated(relation: pg_sys::Oid) -> bool {
    unsafe extern "C-unwind" {
        /// src/include/commands/policy.h
        fn get_relation_policy_oid(relation: pg_sys::Oid, name: *const c_char, missing_ok: bool) -> pg_sys::Oid;
    }
    // SAFETY: a catalog lookup; the boundary turns an error of them into a panic.
    unsafe {
        pg_guard_ffi_boundary(|| get_relation_policy_oid(relation, c"tenancy_isolation".as_ptr(), true))
            != pg_sys::InvalidOid
    }
}
