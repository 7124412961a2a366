//! Who may write the tables of keys and secrets: the functions of this room, and the restore of a dump.

use crate::audit::TableGuard;
use crate::pg::fmgr::fmgr_function;
use crate::pg::report::{OrRaise, raise};
use pg_tenancy_core::error;
use pgrx::pg_sys;

static TABLES: TableGuard = TableGuard::new();

fmgr_function! {
    /// `tenancy.keep_secret_keys()`: trigger of the tables of keys and secrets.
    tenancy_keep_secret_keys, pg_finfo_tenancy_keep_secret_keys, |call| {
        if !TABLES.allows(call).or_raise() {
            let message = "the tables of keys and secrets are written by their functions alone";
            raise(error::KEY_TABLE_REFUSED.error(message));
        }
        pg_sys::Datum::null()
    }
}

/// Runs a statement that writes the tables of keys and secrets.
pub fn writing<T>(statement: impl FnOnce() -> T) -> T {
    TABLES.writing(statement)
}
