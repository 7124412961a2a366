//! The advisor: what a migration missed, with the SQL that mends it. One query a rule, in `rules/`.

mod rules;

pub use rules::{RULES, Rule, Severity};
