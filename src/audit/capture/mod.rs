//! Capture: what is recorded as an event, and how it gets into the table of events.

pub mod ddl;
pub mod pending;
pub mod read;
pub mod refusal;

#[cfg(feature = "pg")]
pub(crate) mod append_pg;
#[cfg(feature = "pg")]
pub(crate) mod application_pg;
#[cfg(feature = "pg")]
pub(crate) mod commitment_key_pg;
#[cfg(feature = "pg")]
pub(crate) mod ddl_pg;
#[cfg(feature = "pg")]
pub(crate) mod origin_pg;
#[cfg(feature = "pg")]
pub(crate) mod partition_pg;
#[cfg(feature = "pg")]
pub(crate) mod read_pg;
#[cfg(feature = "pg")]
pub(crate) mod refusal_pg;
#[cfg(feature = "pg")]
pub(crate) mod restore_pg;
#[cfg(feature = "pg")]
pub(crate) mod row_pg;
