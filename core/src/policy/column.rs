//! The column that a row's organization stands in, and how it is compared.

use super::facts::{Column, Facts};
use super::text::literal;
use crate::error::{self, Result};

/// Columns that are taken for the organization when none is named.
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

/// The column that the table's schema was protected by, if the table has it, or else those of usual names.
pub fn candidates(facts: &Facts) -> Vec<&Column> {
    match facts.schema_column.as_deref().and_then(|name| facts.column(name)) {
        Some(column) => vec![column],
        None => USUAL_COLUMNS.into_iter().filter_map(|name| facts.column(name)).collect(),
    }
}

/// The column named, or the only candidate; `None` where there is neither. Of two candidates none is chosen.
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

/// The error for a table where [`find`] finds nothing.
pub fn missing(facts: &Facts, named: Option<&str>) -> error::Error {
    let message = match named {
        Some(name) => format!("table {} has no column \"{name}\"", facts.table),
        None => format!("table {} has no organization column", facts.table),
    };
    error::COLUMN_MISSING.error(message).detail(format!("Looked for: {}.", named.unwrap_or(&USUAL_COLUMNS.join(", "))))
}

/// Refuses a column that cannot hold an organization.
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
