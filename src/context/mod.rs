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
mod maintenance_pg;
#[cfg(feature = "pg")]
pub use current_pg::{begin, current, cursor_held, define, generation, require, statement_started};
#[cfg(feature = "pg")]
pub use maintenance_pg::{in_maintenance, lifts, maintenance_reason};

/// What a caller says of why; of `assume_organization` and `begin_maintenance`.
pub const MAX_REASON_BYTES: usize = 1000;

/// The savepoint at this level was rolled back or released.
#[cfg(feature = "pg")]
pub fn savepoint(level: i32, rolled_back: bool) {
    current_pg::savepoint(level, rolled_back);
    maintenance_pg::savepoint(level, rolled_back);
}

/// The transaction is over.
#[cfg(feature = "pg")]
pub fn transaction_ended() {
    current_pg::transaction_ended();
    maintenance_pg::transaction_ended();
}
