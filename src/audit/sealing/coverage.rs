//! The sealer looks whether capture is complete, and records as a gap what has changed and no event explains.
//!
//! Decision: `docs/decisions/39-capture-coverage.md`.

use crate::audit::capture::append::{NewEvent, append};
use crate::audit::log::state::NewestBlock;
use crate::pg::spi::{self, Query, Row, argument};
use crate::pg::transaction;
use pg_tenancy_core::audit::format::event::time_ordered_id;
use pg_tenancy_core::audit::format::hex;
use pg_tenancy_core::audit::log::snapshot::Snapshot;
use pg_tenancy_core::audit::sealing::coverage::{self, CoverageChange, CoverageStatement, CoveredObject, Explanations};
use pg_tenancy_core::audit::verification::{Finding, FindingKind};
use pg_tenancy_core::error::{self, Error, Result};
use pgrx::pg_sys;
use rand::RngExt as _;
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use uuid::Uuid;

/// The newest row of the digest of everything: incarnation, block, snapshot, digest.
static LAST: Query = Query::new(
    "SELECT incarnation, block, snapshot::text, state FROM tenancy.coverage
      WHERE object = 'all' ORDER BY id DESC LIMIT 1",
);

/// Other once anything of the state below is: made of numbers, because it is computed at each sealing. Who can
/// choose the transaction of a catalog's row so that sums collide can also write the rows that this is compared with.
static DIGEST: Query = Query::new(
    "SELECT concat_ws(' ',
         (SELECT concat_ws('/', count(*), sum(hashtextextended(
                     concat_ws(' ', t.oid, t.tgrelid, c.relname, t.tgenabled, t.tgfoid, t.xmin), 0)))
            FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
            JOIN pg_proc f ON f.oid = t.tgfoid
            JOIN pg_namespace n ON n.oid = f.pronamespace
           WHERE n.nspname = 'tenancy'),
         (SELECT concat_ws('/', count(*), sum(polrelid::int8))
            FROM pg_policy WHERE polname = 'tenancy_isolation'),
         (SELECT sum(hashtextextended(concat_ws(' ', e.evtname, e.evtenabled, e.evtfoid, e.xmin), 0))
            FROM pg_event_trigger e),
         (SELECT sum(hashtextextended(concat_ws(' ', p.oid, p.xmin), 0))
            FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
           WHERE n.nspname = 'tenancy'))",
);

static NOW: Query = Query::new(include_str!("coverage.sql"));

/// The state of each object that was seen last.
static BEFORE: Query = Query::new(
    "SELECT DISTINCT ON (object) object, name, schema, state FROM tenancy.coverage
      WHERE object <> 'all' AND incarnation = $1 ORDER BY object, id DESC",
);

/// What is read of an event that tells of a statement.
macro_rules! statements {
    ($from:expr, $which:expr) => {
        concat!(
            "SELECT e.transaction, e.table_schema, e.table_name, e.operation, n.new ->> 'object_type',
                    n.new ->> 'object_identity',
                    CASE WHEN n.new -> 'actions' IS NOT NULL
                         THEN ARRAY(SELECT a ->> 'action' FROM json_array_elements(n.new -> 'actions') a) END
               FROM ",
            $from,
            " CROSS JOIN LATERAL (SELECT e.payload -> 'new') AS n (new)
              WHERE e.organization = '00000000-0000-0000-0000-000000000000' AND e.domain = 'schema'
                AND e.result = 'success' AND ",
            $which
        )
    };
}

/// Those that are sealed in blocks after one, however many events others have.
static SEALED: Query = Query::new(statements!(
    // OFFSET keeps the look-up of each batch: a join could read all events.
    "tenancy.entry s CROSS JOIN LATERAL (SELECT * FROM tenancy.event f WHERE f.batch = s.batch OFFSET 0) e",
    "s.organization = '00000000-0000-0000-0000-000000000000'
     AND s.block > $1"
));

/// Those that no block has yet, of transactions that were not over at the newest one.
static UNSEALED: Query =
    Query::new(statements!("tenancy.event e", "(e.transaction = ANY ($1::xid8[]) OR e.transaction >= $2::xid8)"));

/// Tables with those that they are part of.
static LINEAGE: Query = Query::new(
    "WITH RECURSIVE part (child, oid) AS (
         SELECT o, o FROM unnest($1::oid[]) o
          UNION
         SELECT p.child, i.inhparent FROM part p JOIN pg_inherits i ON i.inhrelid = p.oid)
     SELECT p.child, n.nspname::text, c.relname::text
       FROM part p JOIN pg_class c ON c.oid = p.oid
       JOIN pg_namespace n ON n.oid = c.relnamespace",
);

static SNAPSHOT: Query = Query::new("SELECT pg_current_snapshot()::text");

static RECORD: Query = Query::new(
    "INSERT INTO tenancy.coverage (object, id, recorded_at, incarnation, block, snapshot, schema, name, state, event)
     VALUES ($1, $2, $3, $4, $5, $6::pg_snapshot, $7, $8, $9, $10)",
);

/// What was seen last.
struct LastLook {
    block: i64,
    snapshot: String,
    digest: Option<String>,
}

/// Looks at the state of capture after sealing, in the history `incarnation` whose newest block is `block`; it was
/// number `sealed` before this sealing.
pub fn check(incarnation: &str, sealed: i64, block: &NewestBlock) -> Result<()> {
    transaction::with_latest_snapshot(|| compare(incarnation, sealed, block))
}

fn compare(incarnation: &str, sealed: i64, block: &NewestBlock) -> Result<()> {
    let read = |row: &Row| {
        let last = LastLook { block: row.get(2)?, snapshot: row.get(3)?, digest: row.get(4) };
        Some((row.get::<String>(1)?, last))
    };
    let last = LAST.read(&[], read).pop().flatten();
    // Another history: its transactions and oids mean nothing here, so this one begins with what is there.
    let last = last.filter(|(of, _)| of == incarnation).map(|(_, last)| last);
    let digest = DIGEST.read(&[], |row| row.get::<String>(1)).pop().flatten();
    if last.as_ref().is_some_and(|last| last.digest == digest) {
        return Ok(());
    }
    let seen = |row: &Row| {
        Some(CoveredObject { key: row.get(1)?, name: row.get(2), schema: row.get(3), state: row.get(4), whole: false })
    };
    let before = BEFORE.read(&[argument(incarnation)], seen).into_iter().flatten().collect();
    let object = |row: &Row| {
        Some(CoveredObject {
            key: row.get(1)?,
            name: row.get(2),
            schema: row.get(3),
            state: row.get(4),
            whole: row.get(5).unwrap_or(false),
        })
    };
    let now: Vec<CoveredObject> = NOW.read(&[], object).into_iter().flatten().collect();
    let snapshot = SNAPSHOT.read(&[], |row| row.get::<String>(1)).pop().flatten().unwrap_or_default();
    let mut rows = Vec::new();
    let mut row = |object: &str, schema: Option<&str>, name: Option<&str>, state: Option<&str>| {
        let now = transaction::now();
        rows.push(coverage::Row {
            object: object.to_owned(),
            id: time_ordered_id(now, rand::rng().random()),
            recorded_at: now,
            incarnation: incarnation.to_owned(),
            block: block.number,
            snapshot: snapshot.clone(),
            schema: schema.map(str::to_owned),
            name: name.map(str::to_owned),
            state: state.map(str::to_owned),
        });
    };
    let changes = coverage::changes(before, now);
    let gaps = changes.iter().filter_map(|change| Some((change, change.gap()?))).collect();
    for (change, what) in unexplained(gaps, last.as_ref(), sealed, block)? {
        record_gap(change, what, last.as_ref())?;
    }
    for CoverageChange { now, .. } in &changes {
        row(&now.key, now.schema.as_deref(), now.name.as_deref(), now.state.as_deref());
    }
    row("all", None, None, digest.as_deref());
    write(&mut rows)
}

/// Writes the rows, and an event with their digest: so the chain has them, and one that is written by hand is none
/// of them.
fn write(rows: &mut [coverage::Row]) -> Result<()> {
    rows.sort_unstable_by_key(|row| row.id);
    let payload = json!({ "new": { "rows": rows.len(), "digest": hex::encode(&coverage::digest(&*rows)) } });
    let event = append(NewEvent {
        organization: Uuid::nil(),
        operation: OPERATION,
        domain: "schema",
        table_schema: None,
        table_name: None,
        row_key: None,
        result: "success",
        reason: None,
        payload: payload.to_string(),
    })?;
    for row in rows {
        let values = [
            argument(row.object.as_str()),
            spi::uuid(row.id),
            spi::timestamp(row.recorded_at),
            argument(row.incarnation.as_str()),
            argument(row.block),
            argument(row.snapshot.as_str()),
            argument(row.schema.as_deref()),
            argument(row.name.as_deref()),
            argument(row.state.as_deref()),
            spi::uuid(event),
        ];
        RECORD.write(&values, |_| ());
    }
    Ok(())
}

/// The operation of the events that tell of rows.
const OPERATION: &str = "coverage";

const ROWS: &str = "SELECT object, id, recorded_at, incarnation, block, snapshot::text, schema, name, state, event
       FROM tenancy.coverage ORDER BY event, id";

static TELLERS: Query = Query::new(
    "SELECT id, payload -> 'new' ->> 'digest' FROM tenancy.event
      WHERE organization = '00000000-0000-0000-0000-000000000000' AND domain = 'schema'
        AND operation = 'coverage'",
);

/// Compares the rows with the events that tell of them; `is_archived` tells whether an event may be gone.
pub fn verify(is_archived: impl Fn(&Uuid) -> bool, found: &mut Vec<Finding>) -> Result<()> {
    let mut groups: Vec<(Uuid, Vec<coverage::Row>)> = Vec::new();
    spi::stream(ROWS, &[], |row| {
        let event = row.uuid(10).unwrap_or_default();
        let read = coverage::Row {
            object: row.get(1).unwrap_or_default(),
            id: row.uuid(2).unwrap_or_default(),
            recorded_at: row.timestamp(3).unwrap_or_default(),
            incarnation: row.get(4).unwrap_or_default(),
            block: row.get(5).unwrap_or_default(),
            snapshot: row.get(6).unwrap_or_default(),
            schema: row.get(7),
            name: row.get(8),
            state: row.get(9),
        };
        match groups.last_mut().filter(|(of, _)| *of == event) {
            Some((_, rows)) => rows.push(read),
            None => groups.push((event, vec![read])),
        }
        Ok::<(), Error>(())
    })?;
    let mut told: BTreeMap<Uuid, Option<String>> =
        TELLERS.read(&[], |row| Some((row.uuid(1)?, row.get(2)))).into_iter().flatten().collect();
    for (event, rows) in &groups {
        let right = told.remove(event).map(|digest| digest == Some(hex::encode(&coverage::digest(rows))));
        let (finding, text) = match right {
            Some(true) => continue,
            None if is_archived(event) => continue,
            Some(false) => (FindingKind::Altered, "the rows of tenancy.coverage are not those that the event tells of"),
            None => (FindingKind::Inserted, "no event tells of rows in tenancy.coverage that name it"),
        };
        found.push(Finding::anywhere(finding, text).of(Uuid::nil()).about(*event));
    }
    for event in told.into_keys() {
        let text = "the rows of tenancy.coverage that the event tells of are gone";
        found.push(Finding::anywhere(FindingKind::Missing, text).of(Uuid::nil()).about(event));
    }
    Ok(())
}

/// A change, and what it means if no event explains it.
type SuspectedGap<'a> = (&'a CoverageChange, &'static str);

/// Those that no statement explains, of those that this look is the first to see: their transactions were not over when
/// a change was recorded last, and no block before this sealing has them. However much was changed, all of them are
/// looked for together.
fn unexplained<'a>(
    mut gaps: Vec<SuspectedGap<'a>>,
    last: Option<&LastLook>,
    sealed: i64,
    block: &NewestBlock,
) -> Result<Vec<SuspectedGap<'a>>> {
    let Some(last) = last.filter(|_| !gaps.is_empty()) else { return Ok(gaps) };
    let unreadable = || error::STATE_INVALID.error("a snapshot in tenancy.coverage cannot be read");
    let since: Snapshot = last.snapshot.parse().map_err(|()| unreadable())?;
    let lineages = lineages(&gaps);
    let none = Vec::new();
    // What is sealed now most often explains all. What waits for the next block can be many events.
    let newest = &block.snapshot;
    let unsealed = [argument(newest.in_progress()), argument(newest.end().to_string())];
    for (query, arguments) in [(&SEALED, &[argument(sealed)][..]), (&UNSEALED, &unsealed)] {
        if gaps.is_empty() {
            break;
        }
        let mut explanations = Explanations::default();
        for (transaction, statement) in query.read(arguments, statement) {
            if transaction.is_some_and(|transaction| !since.is_over(transaction)) {
                explanations.add(statement);
            }
        }
        gaps.retain(|(change, _)| !explanations.explain(&change.now, lineages.get(&change.now.key).unwrap_or(&none)));
    }
    Ok(gaps)
}

/// A statement and its transaction.
fn statement(row: &Row) -> (Option<u64>, CoverageStatement) {
    let statement = CoverageStatement {
        table: row.get(2).zip(row.get(3)),
        operation: row.get(4).unwrap_or_default(),
        kind: row.get(5).unwrap_or_default(),
        identity: row.get(6).unwrap_or_default(),
        actions: row.get::<Vec<Option<String>>>(7).map(|actions| actions.into_iter().flatten().collect()),
    };
    (row.transaction(1), statement)
}

/// The names of the tables and of those that they are part of, by the key of the object.
fn lineages(gaps: &[SuspectedGap]) -> HashMap<String, Vec<(String, String)>> {
    let mut lineages: HashMap<String, Vec<(String, String)>> = HashMap::new();
    let mut oids = Vec::new();
    for (change, _) in gaps {
        let object = &change.now;
        let Some(oid) = object.key.strip_prefix(TABLE).filter(|oid| oid.parse::<u32>().is_ok()) else { continue };
        oids.push(oid);
        // A table that is gone has a name still.
        lineages.insert(object.key.clone(), object.schema.clone().zip(object.name.clone()).into_iter().collect());
    }
    let read = |row: &Row| Some((row.get::<pg_sys::Oid>(1)?.to_u32(), (row.get(2)?, row.get(3)?)));
    for (oid, name) in LINEAGE.read(&[argument(format!("{{{}}}", oids.join(",")))], read).into_iter().flatten() {
        if let Some(lineage) = lineages.get_mut(&format!("{TABLE}{oid}")) {
            lineage.push(name);
        }
    }
    lineages
}

/// What the key of a table begins with; its oid follows.
const TABLE: &str = "pg_class ";

fn record_gap(change: &CoverageChange, what: &str, last: Option<&LastLook>) -> Result<()> {
    let object = &change.now;
    let payload = json!({ "new": {
        "object": object.key, "name": object.name, "before": change.before, "now": object.state,
        "since_block": last.map(|last| last.block),
    }});
    let is_table = object.key.starts_with(TABLE);
    append(NewEvent {
        organization: Uuid::nil(),
        operation: "gap",
        domain: "schema",
        table_schema: object.schema.as_deref().filter(|_| is_table),
        table_name: object.name.as_deref().filter(|_| is_table),
        row_key: None,
        result: "failed",
        reason: Some(what),
        payload: payload.to_string(),
    })?;
    Ok(())
}
