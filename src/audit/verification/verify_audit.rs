//! `tenancy.verify_audit()`: what is to be verified, and what was found, as rows.

use super::archives::Archives;
use super::parallel::{self, MAX_FINDINGS};
use super::phase::{self, Phase};
use super::range::VerificationScope;
use super::{checkpoints, earlier_run, edges};
use crate::audit::history::row_index;
use crate::audit::log::place;
use crate::audit::sealing::coverage;
use crate::audit::sealing::sealer;
use crate::pg::processes::progress;
use crate::pg::report::OrRaise;
use crate::pg::spi::{self, Query};
use crate::pg::transaction;
use pg_tenancy_core::audit::log::signed_note::Verifier;
use pg_tenancy_core::audit::verification::{Finding, FindingKind, KeptNote, Range};
use pg_tenancy_core::error::{self, Result, require_not_null};
use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern};
use uuid::Uuid;

/// Which row an event is about; of a batch that cannot be unpacked, at least which table.
static ABOUT: Query = Query::new(
    "SELECT b.table_schema || '.' || b.table_name, coalesce(e.row_key, b.row_key)::text
       FROM tenancy.event_batch b
       LEFT JOIN tenancy.event e ON e.batch = tenancy.batch_of($1) AND e.id = $1
      WHERE b.id = tenancy.batch_of($1)",
);

/// As many as Postgres allows anywhere.
const MOST_WORKERS: i32 = 1024;

/// What the caller asks for.
struct VerificationRequest {
    organization: Option<Uuid>,
    whole: bool,
    first_block: Option<i64>,
    last_block: Option<i64>,
    /// How many processes may help; `None`: as many as an index build may have.
    workers: Option<i32>,
}

/// A row of the result.
type FindingRow =
    (String, Option<pgrx::Uuid>, Option<i64>, Option<i64>, Option<pgrx::Uuid>, Option<String>, Option<String>, String);

/// `tenancy.verify_audit(organization, whole, first_block, last_block, workers)`.
#[allow(clippy::type_complexity)]
#[pg_extern(sql = false)]
fn tenancy_verify_audit(
    organization: Option<pgrx::Uuid>,
    whole: Option<bool>,
    first_block: Option<i64>,
    last_block: Option<i64>,
    workers: Option<i32>,
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
    let whole = require_not_null(whole, "whole").or_raise();
    let request = VerificationRequest { organization, whole, first_block, last_block, workers };
    request.check().or_raise();
    progress::begin();
    let unsealed = if transaction::read_only() {
        None
    } else {
        phase::enter(Phase::Sealing);
        transaction::attempt(|| sealer::seal().or_raise()).err()
    };
    let mut rows = transaction::with_latest_snapshot(|| request.verify()).or_raise();
    // What somebody has done to the audit may be what keeps the sealer from going on.
    match unsealed {
        Some(failure) if rows.is_empty() => failure.raise(),
        Some(failure) => {
            let text = format!("nothing more can be sealed: {}", failure.message());
            rows.push(row(Finding::anywhere(FindingKind::Altered, text)));
        }
        None => (),
    }
    progress::end();
    TableIterator::new(rows)
}

impl VerificationRequest {
    fn check(&self) -> Result<()> {
        let invalid = |message: &str| Err(error::ARGUMENT_INVALID.error(message));
        let (first, last) = (self.first_block.unwrap_or(1), self.last_block.unwrap_or(i64::MAX));
        match () {
            () if self.whole && self.is_range() => invalid("whole and a range of blocks exclude each other"),
            () if first < 1 => invalid("first_block is less than 1"),
            () if last < first => invalid("last_block is less than first_block"),
            () if self.workers.is_some_and(|workers| !(0..=MOST_WORKERS).contains(&workers)) => {
                invalid("workers is less than 0 or more than 1024")
            }
            () => Ok(()),
        }
    }

    fn is_range(&self) -> bool {
        self.first_block.is_some() || self.last_block.is_some()
    }

    fn verify(&self) -> Result<Vec<FindingRow>> {
        phase::enter(Phase::Preparing);
        let mut found = Vec::new();
        let newest = edges::newest_block();
        let incarnations = edges::incarnations(&mut found)?;
        let archives = Archives::read(&mut found)?;
        let counters = place::first_blocks_of_counters();
        let scope = VerificationScope { organization: self.organization, newest, incarnations, counters, archives };
        let range = self.range(newest, &mut found);
        phase::enter(Phase::Blocks);
        let workers = self.workers.map(|workers| workers as usize);
        let outcome = parallel::verify(scope.clone(), range, workers)?;
        let more = outcome.count - outcome.found.len() as i64;
        found.extend(outcome.found);
        phase::enter(Phase::Beside);
        edges::events_beyond(&scope, &mut found)?;
        edges::blocks_beyond(&scope, &mut found)?;
        if range.first == 1 {
            edges::nodes_beyond(&scope, &mut found)?;
            edges::erasures_beyond(&scope, &mut found)?;
            if self.organization.is_none() {
                scope.archives.verify(&mut found)?;
                coverage::verify(|event| scope.archives.have_month_of(event), &mut found)?;
            }
        }
        edges::unsealed(&scope, range, outcome.seen, &mut found)?;
        if self.organization.is_none() {
            checkpoints::compare(&scope, range, &mut found)?;
            row_index::verify(range, &|id| scope.archives.have_month_of(id), &mut found)?;
        }
        // Of an organization nothing is told to whoever asks for another.
        found.retain(|found| {
            found.organization.is_none() || self.organization.is_none_or(|id| found.organization == Some(id))
        });
        if found.is_empty() && self.is_recorded(range) {
            earlier_run::write(range, outcome.seen.events, outcome.processes);
        }
        Ok(rows(found, more))
    }

    /// From where to where; what does not fit at the edge is found.
    fn range(&self, newest: i64, found: &mut Vec<Finding>) -> Range {
        if self.is_range() {
            let (first, last) = (self.first_block.unwrap_or(1), self.last_block.unwrap_or(newest).min(newest));
            if first > 1 && first <= last {
                found.extend(edges::block_at(first - 1).err());
            }
            return Range { first, last };
        }
        let verified = earlier_run::last();
        if let Some(verified) = &verified {
            verified.compare(newest, found);
        }
        if self.whole {
            earlier_run::compare_all(found);
        }
        let verified = verified.filter(|_| !self.whole);
        if let Some(verified) = &verified {
            edges::entries_at(verified.block, found);
        }
        Range { first: verified.map_or(0, |verified| verified.block) + 1, last: newest }
    }

    /// True if the next verification can go on from the end of this one.
    fn is_recorded(&self, range: Range) -> bool {
        self.organization.is_none() && !self.is_range() && range.first <= range.last && !transaction::read_only()
    }
}

/// `tenancy.verify_checkpoint(note, public_key, workers)`: whether the database still holds the history that a note
/// was signed over, which somebody kept elsewhere.
#[allow(clippy::type_complexity)]
#[pg_extern(sql = false)]
fn tenancy_verify_checkpoint(
    note: Option<String>,
    public_key: Option<String>,
    workers: Option<i32>,
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
    let (note, key) =
        (require_not_null(note, "note").or_raise(), require_not_null(public_key, "public_key").or_raise());
    let kept = open(&note, &key).or_raise();
    let request = VerificationRequest { organization: None, whole: true, first_block: None, last_block: None, workers };
    request.check().or_raise();
    progress::begin();
    let rows = transaction::with_latest_snapshot(|| request.verify_kept(kept)).or_raise();
    progress::end();
    TableIterator::new(rows)
}

fn open(note: &str, key: &str) -> Result<KeptNote> {
    let invalid = |what: &str, why| error::ARGUMENT_INVALID.error(format!("{what} is not usable: {why}"));
    let key = Verifier::parse(key).map_err(|why| invalid("public_key", why))?;
    KeptNote::open(note, &key).map_err(|why| invalid("note", why))
}

impl VerificationRequest {
    /// The checkpoints up to the one that was kept, and everything up to the block that it was made over.
    fn verify_kept(&self, kept: KeptNote) -> Result<Vec<FindingRow>> {
        phase::enter(Phase::Preparing);
        let mut found = Vec::new();
        let newest = edges::newest_block();
        let incarnations = edges::incarnations(&mut found)?;
        let archives = Archives::read(&mut found)?;
        let counters = place::first_blocks_of_counters();
        let scope = VerificationScope { organization: None, newest, incarnations, counters, archives };
        let last = checkpoints::compare_kept(kept, newest, &mut found)?;
        phase::enter(Phase::Blocks);
        let range = Range { first: 1, last: last.unwrap_or(0).min(newest) };
        let outcome = parallel::verify(scope.clone(), range, self.workers.map(|workers| workers as usize))?;
        let more = outcome.count - outcome.found.len() as i64;
        found.extend(outcome.found);
        phase::enter(Phase::Beside);
        edges::erasures_beyond(&scope, &mut found)?;
        scope.archives.verify(&mut found)?;
        coverage::verify(|event| scope.archives.have_month_of(event), &mut found)?;
        Ok(rows(found, more))
    }
}

/// In the order of the blocks; what belongs to none comes last.
fn rows(mut found: Vec<Finding>, more: i64) -> Vec<FindingRow> {
    found.sort_by_key(|found| (found.block.is_none(), found.block, found.organization, found.position));
    let more = more + (found.len() as i64 - MAX_FINDINGS).max(0);
    found.truncate(MAX_FINDINGS as usize);
    let mut rows: Vec<FindingRow> = found.into_iter().map(row).collect();
    if more > 0 {
        let text = format!("{more} findings more; verify a range of blocks or an organization to see them");
        rows.push(row(Finding::anywhere(FindingKind::Altered, text)));
    }
    rows
}

fn row(found: Finding) -> FindingRow {
    let uuid = |id: Uuid| pgrx::Uuid::from_bytes(*id.as_bytes());
    let about = found.event.and_then(|id| ABOUT.read(&[spi::uuid(id)], |row| (row.get(1), row.get(2))).pop());
    let (table, key) = about.unwrap_or_default();
    let (organization, event) = (found.organization.map(uuid), found.event.map(uuid));
    (found.finding.name().to_string(), organization, found.position, found.block, event, table, key, found.explanation)
}
