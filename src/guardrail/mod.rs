//! The guardrails: what is refused, what is only said, and who has switched which off and why.

mod names;

pub use names::{ALL, Guardrail, NEW_TABLES, PROTECTED_TABLES, ROW_SECURITY_BYPASS, State};

#[cfg(feature = "pg")]
mod ddl_pg;
#[cfg(feature = "pg")]
mod state_pg;
#[cfg(feature = "pg")]
pub use ddl_pg::{before_commit, transaction_ended};
