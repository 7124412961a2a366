//! The guardrails: names, meanings and states.

mod names;

pub use names::{
    ALL, CROSS_TENANT_CHANGE, FAILED_ROTATION, Guardrail, NEW_TABLES, PROTECTED_TABLES, RETIRE_IN_USE,
    ROW_SECURITY_BYPASS, STATEMENT_STATISTICS, State,
};
