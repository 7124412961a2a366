//! The guardrails: names, meanings and states.

mod names;

pub use names::{
    ALL, CROSS_TENANT_CHANGE, Guardrail, NEW_TABLES, PROTECTED_TABLES, ROW_SECURITY_BYPASS, STATEMENT_STATISTICS, State,
};
