//! The time of secrets and approvals. Everything that is decided or stored of them reads it here.

use super::transaction;

/// Microseconds since 1970.
pub fn now() -> i64 {
    transaction::now()
}
