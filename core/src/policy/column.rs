//! The organization column of a table, and how it is compared with the organization of the context.

use super::facts::{Column, Facts};
use super::text::literal;
use crate::error::{self, Result};

/// Names of columns that are candidates for the organization column when the caller names none.
pub const USUAL_COLUMNS: [&str; 4] = ["organizationId", "organization_id", "org_id", "tenant_id"];

/// How the organization column is compared; its type determines the function.
pub struct Comparison {
    /// Call that returns the organization without a check of permissions, as the column's default contains it.
    pub accessor: &'static str,
    /// Name of the same function, for the form that takes domain and action.
    function: &'static str,
    /// Whether the column is cast to text: varchar is compared as text, as `pg_get_expr` prints it.
    cast: bool,
}

impl Comparison {
    /// The comparison for a type as `format_type` names it; `None` for a type that cannot hold an organization.
    pub fn of(data_type: &str) -> Option<Self> {
        let (accessor, function, cast) = match data_type {
            "uuid" => ("tenancy.org_id()", "tenancy.org_id", false),
            "text" => ("tenancy.org_id_text()", "tenancy.org_id_text", false),
            "character varying" => ("tenancy.org_id_text()", "tenancy.org_id_text", true),
            "integer" | "bigint" => ("tenancy.org_id_bigint()", "tenancy.org_id_bigint", false),
            _ => return None,
        };
        Some(Comparison { accessor, function, cast })
    }

    /// The comparison of a quoted column for roles that may do `action` in `domain`, as `pg_get_expr` prints it.
    pub fn expression(&self, quoted: &str, domain: &str, action: &str) -> String {
        let left = if self.cast { format!("({quoted})::text") } else { quoted.to_owned() };
        format!("({left} = {}({}::text, {}::text))", self.function, literal(domain), literal(action))
    }
}

/// The organization column of the table's schema, if the table has it; otherwise columns with the usual names.
pub fn candidates(facts: &Facts) -> Vec<&Column> {
    match facts.schema_column.as_deref().and_then(|name| facts.column(name)) {
        Some(column) => vec![column],
        None => USUAL_COLUMNS.into_iter().filter_map(|name| facts.column(name)).collect(),
    }
}

/// The named column, or the only candidate; `None` if there is neither.
///
/// Errors: `COLUMN_AMBIGUOUS` for several candidates.
pub fn find<'a>(facts: &'a Facts, named: Option<&str>) -> Result<Option<&'a Column>> {
    if let Some(name) = named {
        return Ok(facts.column(name));
    }
    let found = candidates(facts);
    if found.len() > 1 {
        let names = found.iter().map(|column| column.quoted.as_str()).collect::<Vec<_>>().join(" and ");
        let message = format!("table {} has the columns {names}: which is the organization?", facts.table);
        return Err(error::COLUMN_AMBIGUOUS.error(message));
    }
    Ok(found.first().copied())
}

/// The error for a table in which [`find`] finds no column: `COLUMN_MISSING`.
pub fn missing(facts: &Facts, named: Option<&str>) -> error::Error {
    let message = match named {
        Some(name) => format!("table {} has no column \"{name}\"", facts.table),
        None => format!("table {} has no organization column", facts.table),
    };
    error::COLUMN_MISSING.error(message).detail(format!("Looked for: {}.", named.unwrap_or(&USUAL_COLUMNS.join(", "))))
}

/// Checks that the column can hold an organization.
///
/// Errors: `COLUMN_UNSUITABLE`.
pub fn check(facts: &Facts, column: &Column) -> Result<()> {
    let Column { name, data_type, .. } = column;
    let unsuitable = |what: String| Err(error::COLUMN_UNSUITABLE.error(what));
    if Comparison::of(data_type).is_none() {
        return unsuitable(format!("column \"{name}\" of {} is of type {data_type}", facts.table));
    }
    if column.generated {
        return unsuitable(format!("column \"{name}\" of {} is generated and cannot have a default", facts.table));
    }
    if name.contains('\\') {
        return unsuitable("the name of the organization column holds a backslash".into());
    }
    Ok(())
}
