//! Who may write the tables of approvals: the functions of this room, and the restore of a dump.

use crate::audit::TableGuard;
use crate::pg::fmgr::fmgr_function;
use crate::pg::report::{OrRaise, raise};
use pg_tenancy_core::error;
use pgrx::pg_sys;

static TABLES: TableGuard = TableGuard::new();

fmgr_function! {
    /// `tenancy.keep_controls()`: trigger of the tables of approvals.
    tenancy_keep_controls, pg_finfo_tenancy_keep_controls, |call| {
        if !TABLES.allows(call).or_raise() {
            let message = "the tables of approvals are written by their functions alone";
            raise(error::CONTROL_TABLE_REFUSED.error(message));
        }
        pg_sys::Datum::null()
    }
}

/// Runs a statement that writes the tables of approvals.
pub fn writing<T>(statement: impl FnOnce() -> T) -> T {
    TABLES.writing(statement)
}
