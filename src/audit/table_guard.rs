//! Tables of the extension that only its functions write, and the restore of a dump. Nobody else, whatever their rights
//! are, unless they take the trigger away, which the sealer records.

use super::capture::restore;
use crate::pg::backend_local::BackendLocal;
use crate::pg::trigger::{Call, Operation};
use pg_tenancy_core::error::Result;
use pgrx::pg_sys;
use std::cell::Cell;

/// Who may write the tables of one room.
pub struct TableGuard {
    /// True while a function of the room writes.
    writing: BackendLocal<Cell<bool>>,
}

/// Takes the leave back, also when an error unwinds.
struct Leave<'g>(&'g TableGuard);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.writing.set(false);
    }
}

impl TableGuard {
    pub const fn new() -> Self {
        TableGuard { writing: BackendLocal::new(Cell::new(false)) }
    }

    /// Whether the change that a trigger was called for may be made.
    pub fn allows(&self, call: pg_sys::FunctionCallInfo) -> Result<bool> {
        let call = Call::new(call)?;
        Ok(call.operation() == Operation::Insert && restore::brings_rows()? || self.writing.get())
    }

    /// Runs a statement that writes the tables.
    pub fn writing<T>(&self, statement: impl FnOnce() -> T) -> T {
        self.writing.set(true);
        let _leave = Leave(self);
        statement()
    }
}
