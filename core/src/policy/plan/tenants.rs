//! The table whose rows are the organizations of a protected table.

use super::super::facts::{Facts, Name, Reference};

/// The table that a column references alone; otherwise the table itself, if others reference that column alone.
pub fn tenants(facts: &Facts, column: &str) -> Option<u32> {
    let alone = |columns: &[Name]| columns.len() == 1 && columns[0].name == column;
    let out = facts.references.iter().find(|found| found.child == facts.oid && alone(&found.child_columns));
    let pointed_at =
        |found: &&Reference| found.parent == facts.oid && found.child != facts.oid && alone(&found.parent_columns);
    out.or_else(|| facts.references.iter().find(pointed_at)).map(|found| found.parent)
}

/// Whether the organizations of the two tables are known to be rows of different tables.
pub fn differ(one: Option<u32>, other: Option<u32>) -> bool {
    one.zip(other).is_some_and(|(one, other)| one != other)
}
