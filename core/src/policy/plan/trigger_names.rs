//! Names of the triggers that `protect` creates.

use super::super::text::quote_generated;

/// The ending of the name of a row trigger on a partitioned table.
///
/// Postgres clones the trigger to the partitions. A table that was protected by itself could not be attached if its own
/// trigger had the same name.
pub const OF_PARTITIONS: &str = "_of_partitions";

/// The name as `quote_ident` would write it; the name of an action may contain any character.
pub fn name_in_sql(name: &str) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if name.chars().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit()) {
        name.to_owned()
    } else {
        quote_generated(name)
    }
}
