//! Which table's rows the organizations of a table are.

use super::super::facts::{Facts, Name, Reference};

/// The table that a column of a table points at alone, and the table itself where others point at that column so.
pub fn tenants(facts: &Facts, column: &str) -> Option<u32> {
    let alone = |columns: &[Name]| columns.len() == 1 && columns[0].name == column;
    let out = facts.references.iter().find(|found| found.child == facts.oid && alone(&found.child_columns));
    let pointed_at =
        |found: &&Reference| found.parent == facts.oid && found.child != facts.oid && alone(&found.parent_columns);
    out.or_else(|| facts.references.iter().find(pointed_at)).map(|found| found.parent)
}

/// True if the organizations of two tables are known to be of two kinds: rows of one table and of another.
pub fn differ(one: Option<u32>, other: Option<u32>) -> bool {
    one.zip(other).is_some_and(|(one, other)| one != other)
}
