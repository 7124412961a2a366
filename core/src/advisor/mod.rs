//! The advisor: finds gaps that a migration left, with the SQL that closes them. Each rule has a query in `rules/`.

mod rules;

pub use rules::{RULES, Rule, Severity};
