//! `tenancy.several_identities`: a setting that counts only as a default of a database.
//!
//! Test suites of applications keep one transaction open around requests of several users, and roll it back. With this
//! setting a transaction may authenticate as one after another. Nobody can have it for a session: neither SET, nor a
//! role's default, nor postgresql.conf, which would be for every database of the server.
//!
//! Decision: `docs/decisions/91-several-identities.md`.

use crate::pg::backend_local::BackendLocal;
use pgrx::{pg_guard, pg_sys};
use std::cell::Cell;
use std::ffi::{c_int, c_void};

/// The value (`config_bool.variable`).
static PERMITTED: BackendLocal<Cell<bool>> = BackendLocal::new(Cell::new(false));

/// Whether a transaction of this database may change its identity.
pub fn are_permitted() -> bool {
    PERMITTED.get()
}

/// Defines the setting. Called once from `_PG_init`, before the prefix is reserved.
pub fn define() {
    let flags = pg_sys::GUC_NOT_IN_SAMPLE | pg_sys::GUC_DISALLOW_IN_FILE | pg_sys::GUC_DISALLOW_IN_AUTO_FILE;
    // SAFETY: called once from _PG_init; the strings and the variable are static, the hook has the right signature.
    unsafe {
        pg_sys::DefineCustomBoolVariable(
            c"tenancy.several_identities".as_ptr(),
            c"Whether a transaction may authenticate as several persons, one after another.".as_ptr(),
            c"For databases of tests: a superuser switches it on by ALTER DATABASE, and nothing else does.".as_ptr(),
            PERMITTED.as_ptr(),
            false,
            pg_sys::GucContext::PGC_SUSET,
            flags as c_int,
            Some(check),
            None,
            None,
        );
    }
}

/// Refuses `on` from every source but ALTER DATABASE ... SET, whose value comes with PGC_S_DATABASE at the start of a
/// session, and with PGC_S_TEST when it is given. A parallel worker receives its leader's value.
#[pg_guard]
unsafe extern "C-unwind" fn check(value: *mut bool, _extra: *mut *mut c_void, source: u32) -> bool {
    // SAFETY: guc.c passes a pointer to the proposed value.
    let on = unsafe { *value };
    // SAFETY: a plain global of Postgres, set at the start of a parallel worker.
    let restoring = unsafe { pg_sys::InitializingParallelWorker };
    if !on || restoring || [pg_sys::GucSource::PGC_S_DATABASE, pg_sys::GucSource::PGC_S_TEST].contains(&source) {
        return true;
    }
    // SAFETY: guc.c reads both after a refusal; the texts are palloc'ed in the current context as it expects.
    unsafe {
        pg_sys::GUC_check_errcode(pg_sys::errcodes::PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE as c_int);
        pg_sys::GUC_check_errmsg_string =
            pg_sys::pstrdup(c"tenancy.several_identities is a setting of a database of tests".as_ptr());
        pg_sys::GUC_check_errhint_string = pg_sys::pstrdup(
            c"As superuser ALTER DATABASE ... SET tenancy.several_identities = on, for new sessions.".as_ptr(),
        );
    }
    false
}
