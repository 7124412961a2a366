//! The sealed context: who acts, for which organization, with which permissions, until when.

mod value;

pub use value::{Context, Organization, Permissions};

#[cfg(feature = "pg")]
mod accessors_pg;
#[cfg(feature = "pg")]
mod current_pg;
#[cfg(feature = "pg")]
pub use current_pg::{begin, current, define, generation, require, statement_started, transaction_ended};
