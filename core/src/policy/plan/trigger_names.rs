//! Names of the triggers that `protect` makes.

use super::super::text::quote_generated;

/// What the name of a row trigger on a partitioned table ends in. Postgres clones it to the partitions, and a table that
/// was protected by itself could not be attached if its own trigger had that name.
pub const OF_PARTITIONS: &str = "_of_partitions";

/// As `quote_ident` would write it: the name of an action may hold anything.
pub fn name_in_sql(name: &str) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if name.chars().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit()) {
        name.to_owned()
    } else {
        quote_generated(name)
    }
}
