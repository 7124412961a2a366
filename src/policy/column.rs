//! The column that a row's organization stands in, and how it is compared.

use super::facts::{Column, Facts};
use super::text::literal;
use crate::error::{self, Result};

/// Columns that are taken for the organization when none is named, in this order.
pub const USUAL_COLUMNS: [&str; 4] = ["organizationId", "organization_id", "org_id", "tenant_id"];

/// How the organization column is compared, by its type.
pub struct Comparison {
    /// The organization without a question for a permission, as the column's default has it.
    pub accessor: &'static str,
    /// The same function, which takes domain and action too.
    function: &'static str,
    /// What stands on the left of the comparison, as `pg_get_expr` writes it: varchar is compared as text.
    cast: bool,
}

impl Comparison {
    /// `None` for a type that cannot hold an organization.
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

    /// The comparison of a column for whoever may do `action` in `domain`, as `pg_get_expr` gives it back.
    pub fn expression(&self, quoted: &str, domain: &str, action: &str) -> String {
        let left = if self.cast { format!("({quoted})::text") } else { quoted.to_owned() };
        format!("({left} = {}({}::text, {}::text))", self.function, literal(domain), literal(action))
    }
}

/// The column named, or the first of the usual ones; `None` where there is neither.
pub fn find<'a>(facts: &'a Facts, named: Option<&str>) -> Option<&'a Column> {
    match named {
        Some(name) => facts.column(name),
        None => USUAL_COLUMNS.into_iter().find_map(|name| facts.column(name)),
    }
}

/// The error for a table where [`find`] finds nothing.
pub fn missing(facts: &Facts, named: Option<&str>) -> error::Error {
    let message = match named {
        Some(name) => format!("table {} has no column \"{name}\"", facts.table),
        None => format!("table {} has no organization column", facts.table),
    };
    error::COLUMN_MISSING
        .because(message)
        .detail(format!("Looked for: {}.", named.unwrap_or(&USUAL_COLUMNS.join(", "))))
}

/// Refuses a column that cannot hold an organization.
pub fn check(facts: &Facts, column: &Column) -> Result<()> {
    let Column { name, data_type, .. } = column;
    let unsuitable = |what: String| Err(error::COLUMN_UNSUITABLE.because(what));
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
