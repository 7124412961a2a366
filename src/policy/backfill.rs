//! `tenancy.backfill`: gives rows that have no organization yet one.

use super::protect;
use crate::audit;
use crate::pg::planning::expression;
use crate::pg::report::OrRaise;
use crate::pg::spi::{self, Query, argument};
use crate::pg::user;
use pg_tenancy_core::error::{self, Result, require_not_null};
use pgrx::{pg_extern, pg_sys};
use serde_json::json;

/// The table and the column, quoted, and how many pages the table has.
static NAMES: Query = Query::new(
    "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname),
            (SELECT pg_catalog.quote_ident(a.attname) FROM pg_catalog.pg_attribute a
              WHERE a.attrelid OPERATOR(pg_catalog.=) c.oid AND a.attname OPERATOR(pg_catalog.=) $2 AND NOT \
              a.attisdropped)
       FROM pg_catalog.pg_class c
       JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
      WHERE c.oid OPERATOR(pg_catalog.=) $1",
);

/// `tenancy.backfill(table, column, expression, first_page, pages)`: returns how many rows it filled.
///
/// The expression usually reads the organization from a parent table, which is protected already, and a migration acts
/// for no tenant: FORCE is lifted for the tables that this one UPDATE names. It runs as the owner of the table, who
/// could lift it too, and is an event. What functions of the expression and triggers of the table read is not lifted.
#[pg_extern(sql = false)]
fn tenancy_backfill(
    table: Option<pg_sys::Oid>,
    organization_column: Option<&str>,
    expression: Option<&str>,
    first_page: Option<i64>,
    pages: Option<i64>,
) -> i64 {
    let table = require_not_null(table, "the table").or_raise();
    let organization_column = require_not_null(organization_column, "organization_column").or_raise();
    let expression = require_not_null(expression, "the expression").or_raise();
    let sql = statement(table, organization_column, expression, first_page, pages).or_raise();
    let update = || spi::execute_without_force(&sql, |row| row.get::<i64>(1));
    let not_owner = || error::NOT_OWNER.error(format!("must be owner of table {}", protect::name_of(table)));
    let count = user::as_owner(table, update).ok_or_else(not_owner).or_raise();
    if let Some(found) = protect::table(table) {
        let details = json!({ "statement": "tenancy.backfill", "column": organization_column });
        audit::table_changed("override", &found.schema, &found.name, details).or_raise();
    }
    count.into_iter().flatten().next().unwrap_or(0)
}

fn statement(
    oid: pg_sys::Oid,
    column: &str,
    expression: &str,
    first_page: Option<i64>,
    pages: Option<i64>,
) -> Result<String> {
    let names =
        NAMES.write(&[argument(oid), argument(column)], |row| Some((row.get::<String>(1)?, row.get::<String>(2))));
    let (table, quoted) =
        names.into_iter().flatten().next().ok_or_else(|| error::NOT_FOUND.error("the table is gone"))?;
    let quoted =
        quoted.ok_or_else(|| error::COLUMN_MISSING.error(format!("table {table} has no column \"{column}\"")))?;
    let range = match (first_page, pages) {
        (Some(first), Some(pages)) if first >= 0 && pages > 0 => {
            format!(" AND ctid >= '({first},0)' AND ctid < '({},0)'", first.saturating_add(pages).min(MAX_PAGE))
        }
        (None, None) => String::new(),
        _ => return Err(error::ARGUMENT_INVALID.error("first_page and pages belong together and are not negative")),
    };
    let expression = expression::read(oid, &table, expression).text;
    Ok(format!(
        "WITH filled AS (UPDATE {table} SET {quoted} = ({expression}) WHERE {quoted} IS NULL{range} RETURNING 1)
         SELECT pg_catalog.count(*) FROM filled"
    ))
}

/// `MaxBlockNumber` (block.h).
const MAX_PAGE: i64 = 0xFFFF_FFFE;
