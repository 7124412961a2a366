//! Retention: what leaves the database lawfully, and what is known of it afterwards.

#[cfg(feature = "pg")]
pub(crate) mod erasure_pg;
