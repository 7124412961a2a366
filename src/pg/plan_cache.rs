//! The plans that this backend keeps.

use pgrx::pg_sys;

/// Has every statement that is run again planned again.
pub fn reset() {
    // SAFETY: sets flags of what the backend keeps; safe at the end of a transaction too, where it looks nothing up.
    unsafe { pg_sys::ResetPlanCache() };
}
