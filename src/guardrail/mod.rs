//! The guardrails: what is refused, what is only said, and who has switched which off and why.

mod names;

pub use names::{
    ALL, CROSS_TENANT_CHANGE, Guardrail, NEW_TABLES, PROTECTED_TABLES, ROW_SECURITY_BYPASS, STATEMENT_STATISTICS, State,
};

#[cfg(feature = "pg")]
mod bypass_pg;
#[cfg(feature = "pg")]
mod crossing_pg;
#[cfg(feature = "pg")]
mod ddl_pg;
#[cfg(feature = "pg")]
mod state_pg;
#[cfg(feature = "pg")]
mod statistics_pg;
#[cfg(feature = "pg")]
pub use bypass_pg::accessed;
#[cfg(feature = "pg")]
pub use crossing_pg::row_changed;
#[cfg(feature = "pg")]
pub use ddl_pg::before_commit;
#[cfg(feature = "pg")]
pub use statistics_pg::statistics_used;

/// The transaction is over.
#[cfg(feature = "pg")]
pub fn transaction_ended() {
    ddl_pg::transaction_ended();
    bypass_pg::transaction_ended();
    crossing_pg::transaction_ended();
}

/// A savepoint was rolled back or released.
#[cfg(feature = "pg")]
pub fn savepoint(level: i32, rolled_back: bool) {
    bypass_pg::savepoint(level, rolled_back);
    crossing_pg::savepoint(level, rolled_back);
}
