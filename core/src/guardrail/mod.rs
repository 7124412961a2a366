//! The guardrails: names, meanings and states, and which state is in force.

mod names;
mod setting;

pub use names::{
    ALL, CROSS_TENANT_CHANGE, FAILED_ROTATION, Guardrail, LAST_ADMIN, LITERAL_SECRET, NEW_TABLES, OPERATOR_REVEAL,
    OVERDUE_ROTATION, PROTECTED_TABLES, RETIRE_IN_USE, ROW_SECURITY_BYPASS, SELF_APPROVED_ACTION,
    SELF_APPROVED_EXCEPTION, STATEMENT_STATISTICS, Scope, State, UNRECORDED_REVEAL, UNVERIFIED_SECRET, find,
};
pub use setting::Setting;
