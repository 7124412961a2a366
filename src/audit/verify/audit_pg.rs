//! `tenancy.verify_audit()`: what is to be verified, and what was found, as rows.

use super::range_pg::{self, Range, Scope, Seen};
use super::{Finding, Found, edges_pg, record_pg};
use crate::audit::seal_pg;
use crate::error::{self, Result, given};
use crate::pg::report::OrRaise;
use crate::pg::spi::{self, Query};
use crate::pg::transaction;
use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern};
use uuid::Uuid;

/// Which row an event is about.
static ABOUT: Query = Query::new(
    "SELECT table_schema OPERATOR(pg_catalog.||) '.' OPERATOR(pg_catalog.||) table_name, row_key::pg_catalog.text
       FROM tenancy.event WHERE id OPERATOR(pg_catalog.=) $1",
);

/// How many findings are told one by one.
const TOLD: usize = 10_000;

/// What the caller asks for.
struct Request {
    organization: Option<Uuid>,
    whole: bool,
    first_block: Option<i64>,
    last_block: Option<i64>,
}

/// A row of the result.
type Row =
    (String, Option<pgrx::Uuid>, Option<i64>, Option<i64>, Option<pgrx::Uuid>, Option<String>, Option<String>, String);

/// `tenancy.verify_audit(organization, whole, first_block, last_block)`.
#[allow(clippy::type_complexity)]
#[pg_extern(sql = false)]
fn tenancy_verify_audit(
    organization: Option<pgrx::Uuid>,
    whole: Option<bool>,
    first_block: Option<i64>,
    last_block: Option<i64>,
) -> TableIterator<
    'static,
    (
        name!(finding, String),
        name!(organization, Option<pgrx::Uuid>),
        name!(position, Option<i64>),
        name!(block, Option<i64>),
        name!(event, Option<pgrx::Uuid>),
        name!(table_name, Option<String>),
        name!(row_key, Option<String>),
        name!(explanation, String),
    ),
> {
    let organization = organization.map(|id| Uuid::from_bytes(*id.as_bytes()));
    let whole = given(whole, "whole").or_raise();
    let request = Request { organization, whole, first_block, last_block };
    request.check().or_raise();
    if !transaction::read_only() {
        seal_pg::seal().or_raise();
    }
    TableIterator::new(transaction::with_latest_snapshot(|| request.verify()).or_raise())
}

impl Request {
    fn check(&self) -> Result<()> {
        let invalid = |message: &str| Err(error::ARGUMENT_INVALID.because(message));
        let (first, last) = (self.first_block.unwrap_or(1), self.last_block.unwrap_or(i64::MAX));
        match () {
            () if self.whole && self.is_range() => invalid("whole and a range of blocks exclude each other"),
            () if first < 1 => invalid("first_block is less than 1"),
            () if last < first => invalid("last_block is less than first_block"),
            () => Ok(()),
        }
    }

    fn is_range(&self) -> bool {
        self.first_block.is_some() || self.last_block.is_some()
    }

    fn verify(&self) -> Result<Vec<Row>> {
        let mut found = Vec::new();
        let newest = edges_pg::newest_block();
        let incarnations = edges_pg::incarnations(&mut found)?;
        let scope = Scope { organization: self.organization, newest, incarnations };
        let range = self.range(newest, &mut found);
        let mut seen = Seen::default();
        if range.first <= range.last {
            range_pg::verify(&scope, range, &mut |more, gone_through| {
                found.extend(more);
                seen = seen.and(gone_through);
            })?;
        }
        edges_pg::entries_beyond(&scope, &mut found);
        edges_pg::blocks_beyond(&scope, &mut found)?;
        if range.first == 1 {
            edges_pg::nodes_beyond(&scope, &mut found)?;
        }
        edges_pg::unsealed(&scope, range, seen, &mut found)?;
        if found.is_empty() && self.is_recorded(range) {
            record_pg::write(range.first, range.last, seen.events);
        }
        Ok(rows(found))
    }

    /// From where to where; what does not fit at the edge is found.
    fn range(&self, newest: i64, found: &mut Vec<Found>) -> Range {
        if self.is_range() {
            let (first, last) = (self.first_block.unwrap_or(1), self.last_block.unwrap_or(newest).min(newest));
            if first > 1 && first <= last {
                found.extend(edges_pg::block_at(first - 1).err());
            }
            return Range { first, last };
        }
        let verified = if self.whole { None } else { record_pg::last() };
        if let Some(verified) = &verified {
            verified.compare(newest, found);
        }
        Range { first: verified.map_or(0, |verified| verified.block) + 1, last: newest }
    }

    /// True if the next verification can go on from the end of this one.
    fn is_recorded(&self, range: Range) -> bool {
        self.organization.is_none() && !self.is_range() && range.first <= range.last && !transaction::read_only()
    }
}

/// In the order of the blocks; what belongs to none comes last.
fn rows(mut found: Vec<Found>) -> Vec<Row> {
    found.sort_by_key(|found| (found.block.is_none(), found.block, found.organization, found.position));
    let more = found.len().saturating_sub(TOLD);
    found.truncate(TOLD);
    let mut rows: Vec<Row> = found.into_iter().map(row).collect();
    if more > 0 {
        let text = format!("{more} findings more; verify a range of blocks or an organization to see them");
        rows.push(row(Found::anywhere(Finding::Altered, text)));
    }
    rows
}

fn row(found: Found) -> Row {
    let uuid = |id: Uuid| pgrx::Uuid::from_bytes(*id.as_bytes());
    let about = found.event.and_then(|id| ABOUT.read(&[spi::uuid(id)], |row| (row.get(1), row.get(2))).pop());
    let (table, key) = about.unwrap_or_default();
    let (organization, event) = (found.organization.map(uuid), found.event.map(uuid));
    (found.finding.name().to_string(), organization, found.position, found.block, event, table, key, found.explanation)
}
