//! Who may write the tables of approvals: the functions of this room, and the restore of a dump. Nobody else, whatever
//! their rights are, unless they take the trigger away, which the sealer records.

use crate::audit;
use crate::pg::backend_local::BackendLocal;
use crate::pg::fmgr::fmgr_function;
use crate::pg::report::{OrRaise, raise};
use crate::pg::trigger::{Call, Operation};
use pg_tenancy_core::error;
use pgrx::pg_sys;
use std::cell::Cell;

/// True while a function of this room writes.
static WRITING: BackendLocal<Cell<bool>> = BackendLocal::new(Cell::new(false));

fmgr_function! {
    /// `tenancy.keep_controls()`: trigger of the tables of approvals.
    tenancy_keep_controls, pg_finfo_tenancy_keep_controls, |call| {
        let call = Call::new(call).or_raise();
        let restored = call.operation() == Operation::Insert && audit::restore_brings_rows().or_raise();
        if !WRITING.get() && !restored {
            let message = "the tables of approvals are written by their functions alone";
            raise(error::CONTROL_TABLE_REFUSED.error(message));
        }
        pg_sys::Datum::null()
    }
}

/// Takes the leave back, also when an error unwinds.
struct Leave;

impl Drop for Leave {
    fn drop(&mut self) {
        WRITING.set(false);
    }
}

/// Runs a statement that writes the tables of approvals.
pub fn writing<T>(statement: impl FnOnce() -> T) -> T {
    WRITING.set(true);
    let _leave = Leave;
    statement()
}
