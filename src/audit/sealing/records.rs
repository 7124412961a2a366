//! Records that another room keeps outside of the tables until they are events: whoever seals takes them in first.
//!
//! Decision: `docs/decisions/77-reveal-records.md`.

use crate::pg::backend_local::BackendLocal;
use crate::pg::report::{self, OrRaise};
use crate::pg::transaction;
use pg_tenancy_core::error::Result;
use std::cell::Cell;

/// Makes events of some records. Returns whether there may be more.
type TakeIn = fn() -> Result<bool>;

static TAKE_IN: BackendLocal<Cell<TakeIn>> = BackendLocal::new(Cell::new(|| Ok(false)));

/// Has sealers take records in. Called once.
pub fn keep(take_in: TakeIn) {
    TAKE_IN.set(take_in);
}

/// Takes in a part of bounded size. Returns whether there may be more. Other sealers must be kept away.
pub fn take_in() -> Result<bool> {
    TAKE_IN.get()()
}

/// Takes in all. What cannot be taken in waits on, and keeps nothing from being sealed.
pub fn take_in_all() {
    let all = || {
        while take_in().or_raise() {
            transaction::check_for_interrupts();
        }
    };
    if let Err(failure) = transaction::attempt(all) {
        report::log(format!("pg_tenancy: records were not taken in: {}", failure.message()));
    }
}
