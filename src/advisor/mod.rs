//! The advisor: what a migration missed, with the SQL that mends it.

mod rules;

pub use rules::{RULES, Rule, Severity};

#[cfg(feature = "pg")]
mod advise_pg;
