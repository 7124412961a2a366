//! A lock that one session at a time holds over several transactions.
//!
//! It is Postgres' lock of a relation for a session, as VACUUM takes it: it survives a commit, and ends with the first
//! transaction that is rolled back, with the session, or when it is let go.

use super::table;
use pgrx::pg_sys;
use std::ffi::CStr;

/// A mode that conflicts with itself, and with neither readers nor writers.
const MODE: pg_sys::LOCKMODE = pg_sys::ShareUpdateExclusiveLock as pg_sys::LOCKMODE;

/// Takes the lock of `tenancy.<name>`; false where another session has it. The relation is a view, because VACUUM
/// takes this lock of tables.
pub fn take(name: &CStr) -> bool {
    let mut relation = id(name);
    // SAFETY: in a transaction. The lock of the session is granted at once, because the transaction has it.
    unsafe {
        let taken = pg_sys::ConditionalLockRelationOid(relation.relId, MODE);
        if taken {
            pg_sys::LockRelationIdForSession(&mut relation, MODE);
        }
        taken
    }
}

/// Lets go of a lock that this session has.
pub fn let_go(name: &CStr) {
    let mut relation = id(name);
    // SAFETY: in a transaction; a lock that is not there is a warning.
    unsafe { pg_sys::UnlockRelationIdForSession(&mut relation, MODE) };
}

fn id(name: &CStr) -> pg_sys::LockRelId {
    // SAFETY: a plain read of backend state.
    pg_sys::LockRelId { relId: table::oid(name), dbId: unsafe { pg_sys::MyDatabaseId } }
}
