//! The sealed context: who acts, for which organization, with which permissions, until when.

mod seal;
mod value;

pub use seal::Seal;
pub use value::{Context, Organization, Permissions, Scope};

#[cfg(feature = "pg")]
mod accessors_pg;
#[cfg(feature = "pg")]
pub use accessors_pg::{SEPARATOR, allowed, authorize, lacks};
#[cfg(feature = "pg")]
mod current_pg;
#[cfg(feature = "pg")]
pub use current_pg::{
    begin, current, cursor_held, define, generation, require, savepoint, statement_started, transaction_ended,
};
