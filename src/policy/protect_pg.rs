//! `tenancy.plan`, `tenancy.protect` and `tenancy.unprotect`: facts from the catalogs, steps to the server.
//!
//! They run with the rights of the caller: Postgres itself refuses whoever does not own the table.

use super::plan::{self, Facts, State, Step};
use crate::error::{self, Result, given};
use crate::pg::report::OrRaise;
use crate::pg::spi::{self, Query, argument};
use crate::pg::user;
use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern, pg_sys};

/// Everything a plan depends on, in one JSON object.
static FACTS: Query = Query::new(include_str!("facts.sql"));

fn facts(table: pg_sys::Oid) -> Result<Facts> {
    let text = FACTS.write(&[argument(table)], |row| row.get::<String>(1)).pop().flatten();
    let text = text.ok_or_else(|| error::NOT_FOUND.because("the table is gone"))?;
    serde_json::from_str(&text).map_err(|_| error::STATE_INVALID.because("the catalogs of the table cannot be read"))
}

/// `tenancy.plan(table, organization_column, domain)`: the steps of `protect`, none of them run.
#[allow(clippy::type_complexity)]
#[pg_extern(sql = false)]
fn tenancy_plan(
    table: Option<pg_sys::Oid>,
    organization_column: Option<&str>,
    domain: Option<&str>,
) -> TableIterator<
    'static,
    (
        name!(step, i32),
        name!(sql, String),
        name!(why, String),
        name!(lock, String),
        name!(in_transaction, bool),
        name!(state, String),
    ),
> {
    let steps = given(table, "the table")
        .and_then(facts)
        .and_then(|facts| plan::protect(&facts, organization_column, domain))
        .or_raise();
    TableIterator::new(steps.into_iter().zip(1..).map(|(step, number)| {
        (number, step.sql, step.why.to_string(), step.lock.to_string(), true, step.state.name().to_string())
    }))
}

/// `tenancy.protect(table, organization_column, domain)`: runs what the plan has left to do; returns how many steps.
#[pg_extern(sql = false)]
fn tenancy_protect(table: Option<pg_sys::Oid>, organization_column: Option<&str>, domain: Option<&str>) -> i32 {
    let steps = given(table, "the table")
        .and_then(facts)
        .and_then(|facts| plan::protect(&facts, organization_column, domain))
        .or_raise();
    run(&steps)
}

/// `tenancy.unprotect(table)`: takes back what `protect` made; returns how many steps that were.
///
/// The default to put back is text that the table's owner could have changed, so it all runs as the owner.
#[pg_extern(sql = false)]
fn tenancy_unprotect(table: pg_sys::Oid) -> i32 {
    let facts = facts(table).or_raise();
    let steps = plan::unprotect(&facts).or_raise();
    let not_owner = || error::NOT_OWNER.because(format!("must be owner of table {}", facts.table));
    user::as_owner(table, || run(&steps)).ok_or_else(not_owner).or_raise()
}

fn run(steps: &[Step]) -> i32 {
    let mut count = 0;
    for step in steps.iter().filter(|step| step.state == State::Todo) {
        spi::execute(&step.sql, |_| ());
        count += 1;
    }
    count
}
