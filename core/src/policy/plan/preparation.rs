//! The steps that prepare the organization column: add it, fill it, and make it NOT NULL.

use super::target::{Preparation, Scope, Target};
use super::{ACCESS_EXCLUSIVE, Mode, SHARE_UPDATE_EXCLUSIVE, Step, default_step};
use crate::policy::facts::Facts;
use crate::policy::options::Options;
use crate::policy::text::quoted_text;

/// Name of the constraint that excludes NULLs while the table is scanned for them.
const NOT_NULL_CHECK: &str = "tenancy_organization_not_null";

/// The steps that prepare the organization column; none unless the caller gave a back-fill expression.
pub fn steps(facts: &Facts, target: &Target, options: &Options, mode: Mode) -> Vec<Step> {
    let (Preparation::Fill { add }, Some(backfill), Scope::Column { column, .. }) =
        (target.preparation, &options.backfill, &target.scope)
    else {
        return Vec::new();
    };
    let table = &facts.table;
    let quoted = &column.quoted;
    let filled = column.not_null;
    let mut steps = Vec::new();
    if add {
        let sql = format!("ALTER TABLE {table} ADD COLUMN {quoted} {}", column.data_type);
        steps.push(Step::new(
            false,
            ACCESS_EXCLUSIVE,
            "The column for the organization; the table is not rewritten.",
            sql,
        ));
    }
    let arguments =
        format!("{}, {}, {}", quoted_text(table), quoted_text(&column.name), quoted_text(backfill.expression));
    let why = "Rows that have no organization yet get that of the expression.";
    let check = |sql: String| format!("ALTER TABLE {table} {sql}");
    let not_null = Step::new(
        filled,
        ACCESS_EXCLUSIVE,
        "A row without an organization would belong to nobody.",
        check(format!("ALTER COLUMN {quoted} SET NOT NULL")),
    );
    match mode {
        Mode::AtOnce => {
            steps.push(Step::new(filled, "ROW EXCLUSIVE", why, format!("SELECT tenancy.backfill({arguments})")));
            steps.push(not_null);
        }
        Mode::Online => {
            // Before rows are looked at: what is written beside the back-fill then comes with its organization.
            steps.extend(default_step(facts, target));
            let existing = facts.checks.iter().find(|check| check.name == NOT_NULL_CHECK);
            let sql = format!("CALL tenancy.backfill_in_batches({arguments})");
            steps.push(Step::new(filled, "ROW EXCLUSIVE", why, sql).alone());
            steps.push(Step::new(
                filled || existing.is_some(),
                ACCESS_EXCLUSIVE,
                "New rows need an organization from here on; old ones are not looked at.",
                check(format!("ADD CONSTRAINT {NOT_NULL_CHECK} CHECK ({quoted} IS NOT NULL) NOT VALID")),
            ));
            steps.push(Step::new(
                filled || existing.is_some_and(|check| check.validated),
                SHARE_UPDATE_EXCLUSIVE,
                "Looks at the old ones, while others read and write.",
                check(format!("VALIDATE CONSTRAINT {NOT_NULL_CHECK}")),
            ));
            steps.push(not_null);
            steps.push(Step::new(
                filled && existing.is_none(),
                ACCESS_EXCLUSIVE,
                "Its work is done: NOT NULL was set without a scan.",
                check(format!("DROP CONSTRAINT {NOT_NULL_CHECK}")),
            ));
        }
    }
    steps
}
