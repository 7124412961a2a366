//! The tables that a statement is about to read or write, where the executor checks privileges.
//!
//! Decisions: `docs/decisions/19-executor-permission-check.md`, `docs/decisions/21-foreign-key-validation.md`.

use super::{reading, statement};
use crate::pg::backend_local::BackendLocal;
use crate::pg::ddl::node::each;
use crate::pg::planning::acting_for_all;
use crate::pg::planning::asked::{self, Asked};
use crate::pg::report::OrRaise;
use crate::pg::tables::catalog;
use crate::pg::user;
use pg_tenancy_core::error::Result;
use pgrx::pg_sys;
use pgrx::pg_sys::submodules::ffi::pg_guard_ffi_boundary;
use std::cell::Cell;
use std::ffi::c_char;

/// What rooms want to hear of and to answer.
#[derive(Clone, Copy)]
pub struct PermissionListener {
    /// A protected table that somebody is about to read or write whom row-level security does not bind.
    pub bypassed: fn(table: pg_sys::Oid) -> Result<()>,
    /// A number that changes whenever the identity does. Must neither raise nor panic.
    pub identity: fn() -> u64,
    /// True if there is an identity, and its role has not that permission.
    pub lacks: fn(&Asked) -> bool,
    /// True if there is an identity that gives access now, and its role has that permission.
    pub allowed: fn(&Asked) -> bool,
    /// Raises unless there is an identity whose role has that permission.
    pub authorize: fn(&Asked) -> Result<()>,
}

static LISTENER: BackendLocal<Cell<Option<PermissionListener>>> = BackendLocal::new(Cell::new(None));
static PREVIOUS: BackendLocal<Cell<pg_sys::ExecutorCheckPerms_hook_type>> = BackendLocal::new(Cell::new(None));

/// Registers the hook. Called once.
pub fn watch(listener: PermissionListener) {
    LISTENER.set(Some(listener));
    // SAFETY: called once per process from _PG_init; the library stays loaded.
    unsafe {
        PREVIOUS.set(pg_sys::ExecutorCheckPerms_hook);
        pg_sys::ExecutorCheckPerms_hook = Some(check);
    }
}

/// Declares the hook in the form that the Postgres version has.
///
/// Without `raise` Postgres asks whether one query can find the rows that a new foreign key refuses
/// (`RI_Initial_Check`, ri_triggers.c). That query would run under the policies of whoever alters the table: it
/// would look at the rows of one organization, or at none. The answer no has Postgres check row by row as the owner
/// of the other table, past policies.
///
/// It runs at the start of every statement, so it has no guard, which would cost a `sigsetjmp` each time: an error that
/// Postgres raises below jumps over its frame, which holds nothing to drop. What a listener raises has a guard of
/// its own.
macro_rules! check_hook {
    ($entry:ty, $entries:ident, $is_relation:expr, $($argument:ident: $type:ty),*) => {
        unsafe extern "C-unwind" fn check($($argument: $type),*, raise: bool) -> bool {
            // SAFETY: passes on what the executor gave; the list holds what is needed of each relation.
            unsafe {
                let count = if $entries.is_null() { 0 } else { (*$entries).length as usize };
                for n in 0..count {
                    let entry: &$entry = &*(*(*$entries).elements.add(n)).ptr_value.cast();
                    if $is_relation(entry) && entry.requiredPerms != 0 {
                        let (table, role) = (entry.relid, entry.checkAsUser);
                        if !raise && binds(table, role) && !acting_for_all::lifted(table, role) {
                            return false;
                        }
                        if bypasses(entry.checkAsUser) {
                            look(entry.relid);
                        } else {
                            let access = Access::of(table, entry.requiredPerms.into());
                            if !access.was_permitted() && !permitted(access, role, raise) {
                                return false;
                            }
                        }
                    }
                    if $is_relation(entry) && entry.requiredPerms != 0 && statement::collects() {
                        statement::needs(entry.relid, entry.requiredPerms.into());
                    }
                    let selects = u64::from(entry.requiredPerms) & u64::from(pg_sys::ACL_SELECT) != 0;
                    if $is_relation(entry) && selects && reading::copying() {
                        reading::copies(entry.relid);
                    }
                }
                match PREVIOUS.get() {
                    Some(previous) => previous($($argument),*, raise),
                    None => true,
                }
            }
        }
    };
}

#[cfg(feature = "pg15")]
check_hook!(
    pg_sys::RangeTblEntry,
    range_table,
    |entry: &pg_sys::RangeTblEntry| entry.rtekind == pg_sys::RTEKind::RTE_RELATION,
    range_table: *mut pg_sys::List
);
#[cfg(not(feature = "pg15"))]
check_hook!(
    pg_sys::RTEPermissionInfo,
    entries,
    |_: &pg_sys::RTEPermissionInfo| true,
    range_table: *mut pg_sys::List,
    entries: *mut pg_sys::List
);

/// True if no policy binds whoever the access is checked as: for a view, its owner, who reads what is below it. A
/// parallel worker does what its leader was asked about, and a check of a foreign key is Postgres' own.
fn bypasses(check_as: pg_sys::Oid) -> bool {
    unsafe extern "C-unwind" {
        #[link_name = "has_bypassrls_privilege"]
        safe fn postgres_bypasses(role: pg_sys::Oid) -> bool;
        #[link_name = "GetUserId"]
        safe fn postgres_user() -> pg_sys::Oid;
    }
    let user = if check_as == pg_sys::InvalidOid { postgres_user() } else { check_as };
    // SAFETY: a plain read of backend state.
    postgres_bypasses(user) && unsafe { pg_sys::ParallelWorkerNumber } < 0 && !user::in_foreign_key_check()
}

/// Tells of a relation if it is isolated.
#[pgrx::pg_guard]
extern "C-unwind" fn look(relation: pg_sys::Oid) {
    if let Some(listener) = LISTENER.get().filter(|_| is_isolated(relation)) {
        (listener.bypassed)(relation).or_raise();
    }
}

/// Rights on a relation that a statement needs, with all that the answer depends on: the identity, and the policies of
/// the relation. Whoever the access is checked as matters only where a permission is missing.
#[derive(Clone, Copy, PartialEq)]
#[repr(C)]
struct Access {
    relation: pg_sys::Oid,
    rights: u64,
    identity: u64,
    tables: u64,
}

/// Few tables are in use at a time. Another one with the same place pushes one out.
const PLACES: usize = 16;

/// Accesses for which no permission was missing.
static PERMITTED: BackendLocal<[Cell<Option<Access>>; PLACES]> = BackendLocal::new([const { Cell::new(None) }; PLACES]);

impl Access {
    fn of(relation: pg_sys::Oid, rights: u64) -> Self {
        let identity = LISTENER.get().map_or(0, |listener| (listener.identity)());
        Access { relation, rights, identity, tables: catalog::changes() }
    }

    fn place(self) -> &'static Cell<Option<Access>> {
        &PERMITTED[(u64::from(self.relation.to_u32()) ^ self.rights) as usize % PLACES]
    }

    fn was_permitted(self) -> bool {
        self.place().get() == Some(self)
    }
}

/// False, or an error, if the role of the context has not the permissions that the policies of the relation ask for: a
/// statement that meets no row is refused as one that does.
#[pgrx::pg_guard]
extern "C-unwind" fn permitted(access: Access, check_as: pg_sys::Oid, raise: bool) -> bool {
    let Some(listener) = LISTENER.get() else { return true };
    // SAFETY: a plain read of backend state.
    if unsafe { pg_sys::ParallelWorkerNumber } >= 0 {
        return true;
    }
    let asked = asked::of(access.relation);
    let lacking = asked.for_rights(access.rights).find(|asked| (listener.lacks)(asked));
    let Some(lacking) = lacking else {
        access.place().set(Some(access));
        return true;
    };
    if !binds(access.relation, check_as) {
        return true;
    }
    if raise {
        (listener.authorize)(lacking).or_raise();
    }
    false
}

/// True if row-level security applies to whoever the access is checked as.
fn binds(relation: pg_sys::Oid, check_as: pg_sys::Oid) -> bool {
    // SAFETY: a catalog lookup, which raises nothing for a relation that is there and is told to raise nothing else.
    unsafe { pg_sys::check_enable_rls(relation, check_as, true) == pg_sys::CheckEnableRlsResult::RLS_ENABLED as i32 }
}

/// A plan that has given rows before goes on, as that of a cursor does: an index condition is not asked again for the
/// organization, so the access is checked here.
pub(super) fn resumes(query: *mut pg_sys::QueryDesc) {
    // SAFETY: the executor gives a query that it has started.
    if unsafe { (*query).already_executed } {
        check_again(query);
    }
}

#[pgrx::pg_guard]
extern "C-unwind" fn check_again(query: *mut pg_sys::QueryDesc) {
    let Some(listener) = LISTENER.get() else { return };
    // SAFETY: the plan lives as long as the query; its lists are of the nodes that the executor checks.
    unsafe {
        let plan = (*query).plannedstmt;
        #[cfg(feature = "pg15")]
        let entries = each::<pg_sys::RangeTblEntry>((*plan).rtable)
            .map(|entry| &*entry)
            .filter(|entry| entry.rtekind == pg_sys::RTEKind::RTE_RELATION);
        #[cfg(not(feature = "pg15"))]
        let entries = each::<pg_sys::RTEPermissionInfo>((*plan).permInfos).map(|entry| &*entry);
        for entry in entries {
            let asked = asked::of(entry.relid);
            let denied = asked.for_rights(entry.requiredPerms).find(|asked| !(listener.allowed)(asked));
            let bound =
                || binds(entry.relid, entry.checkAsUser) && !acting_for_all::lifted(entry.relid, entry.checkAsUser);
            if let Some(denied) = denied.filter(|_| bound()) {
                (listener.authorize)(denied).or_raise();
            }
        }
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
