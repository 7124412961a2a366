//! The time of secrets and approvals. Everything that is decided or stored of them reads it here.
//!
//! In a library with the feature `test_clock`, a superuser can set it. Only the tests build such a library.

/// Microseconds since 1970.
#[cfg(not(feature = "test_clock"))]
pub use super::transaction::now;

/// Microseconds since 1970.
#[cfg(feature = "test_clock")]
pub fn now() -> i64 {
    super::settings::configuration::test_clock().unwrap_or_else(super::transaction::now)
}
