//! Keys in memory that is locked, as far as the system has any.

use crate::pg::backend_local::BackendLocal;
use crate::pg::report;
use pg_tenancy_core::secrets::key::SecretKey;
use pg_tenancy_files::locked_keys::LockedKey;
use std::cell::Cell;

/// True once the log tells that no memory can be locked.
static TOLD: BackendLocal<Cell<bool>> = BackendLocal::new(Cell::new(false));

/// A copy of the key in locked memory; `None`, and a line in the log, where the system gives none.
pub fn locked(key: &SecretKey) -> Option<LockedKey> {
    let locked = LockedKey::new(key.bytes());
    if locked.is_none() && !TOLD.replace(true) {
        report::log("pg_tenancy: no key is kept, because the system locks no memory for it (ulimit -l)".to_owned());
    }
    locked
}
