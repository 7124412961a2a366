//! `tenancy.row_history` and `tenancy.row_as_of`: the events of a row, to auditors of all organizations, to members
//! of their own.

use super::row_index::{self, Candidate};
use crate::context;
use crate::pg::json::Jsonb;
use crate::pg::report::OrRaise;
use crate::pg::spi::{self, Query, argument};
use crate::pg::tables::catalog;
use crate::pg::transaction;
use crate::pg::user;
use pg_tenancy_core::audit::history::names::{self, Era, Name, Naming};
use pg_tenancy_core::audit::history::row_hash;
use pg_tenancy_core::audit::history::row_history::{
    self, CurrentColumns, EventSource, HistoryChange, RowEvent, RowHistory,
};
use pg_tenancy_core::error::{self, Error, Result, require_not_null};
use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern, pg_sys};
use std::collections::{BTreeSet, HashMap};
use uuid::Uuid;

/// The events of rows of a table, its partitions and children that have or had a key, and truncations: of these
/// batches. A member is told of the actors what `tenancy.organization_audit_trail` tells.
///
/// Of one table under the name that it had between two events.
static EVENTS: Query = Query::new(
    "WITH about AS (
         SELECT e.*, (
                  SELECT json_object_agg(k.key, COALESCE(e.payload -> 'old' -> k.key, k.value))
                    FROM json_each(e.row_key) k
                   WHERE e.operation = 'update')::jsonb AS old_key
           FROM tenancy.event e
          WHERE e.batch = ANY ($7) AND e.table_schema = $1 AND e.table_name = $4
            AND ($5 IS NULL OR e.id > $5) AND ($6 IS NULL OR e.id < $6)
            AND ($2 IS NULL OR e.organization = $2 OR e.operation = 'rewrite')
            AND (e.operation IN ('insert', 'update', 'delete', 'truncate')
                 OR e.operation = 'rewrite' AND e.domain = 'schema'
                    AND e.organization = '00000000-0000-0000-0000-000000000000'))
     SELECT e.id, e.organization, e.transaction, e.ordinal, e.occurred_at, e.operation, e.table_schema, e.table_name,
            e.payload::text,
            e.operation IN ('truncate', 'rewrite') OR e.row_key::jsonb = $3::jsonb,
            CASE WHEN e.old_key <> e.row_key::jsonb THEN e.old_key::text END,
            s.at[3] - e.batch_events + e.place + 1, s.at[1], a.subject, a.role, a.method, a.session_user_name, \
                a.correlation_id,
            (e.payload -> 'old')::text, (e.payload -> 'new')::text
       FROM about e
       LEFT JOIN LATERAL (
            SELECT w.* FROM tenancy.event_actor w WHERE w.id = e.actor AND $2 IS NULL
             UNION ALL
            SELECT o.* FROM tenancy.event_actor w CROSS JOIN LATERAL tenancy.actor_for_members(w, $2) o
             WHERE w.id = e.actor AND $2 IS NOT NULL) a ON true
      CROSS JOIN LATERAL (SELECT tenancy.place_of(e.batch, e.organization, e.transaction) AS at OFFSET 0) s
      WHERE e.operation IN ('truncate', 'rewrite') OR e.row_key::jsonb = $3::jsonb
         OR e.old_key = $3::jsonb",
);

/// The names of a table, its partitions and children today.
static NAMES: Query = Query::new(
    "WITH RECURSIVE part (oid) AS (
         SELECT $1
          UNION
         SELECT i.inhrelid FROM pg_inherits i JOIN part p ON i.inhparent = p.oid)
     SELECT n.nspname::text, c.relname::text
       FROM part p
       JOIN pg_class c ON c.oid = p.oid
       JOIN pg_namespace n ON n.oid = c.relnamespace
      ORDER BY p.oid <> $1",
);

/// What gave tables, columns and schemas their names, in these batches: id, kind of object, table, and what was called
/// how before and after.
static NAMINGS: Query = Query::new(
    "SELECT e.id, CASE WHEN e.operation = 'drop_table' THEN 'dropped' ELSE n.new ->> 'object_type' END, \
        e.table_schema, e.table_name,
            n.new ->> 'renamed_from', n.new ->> 'renamed_to', n.new ->> 'moved_from'
       FROM tenancy.event e CROSS JOIN LATERAL (SELECT e.payload -> 'new') AS n (new)
      WHERE e.batch = ANY ($1) AND e.organization = '00000000-0000-0000-0000-000000000000' AND e.domain = 'schema'
        AND (e.operation = 'drop_table' AND n.new ->> 'object_type' = 'table'
             OR e.operation IN ('alter_table', 'alter_schema')
                AND (n.new ->> 'renamed_to' IS NOT NULL OR n.new ->> 'moved_from' IS NOT NULL))
      ORDER BY e.id",
);

/// The columns of the table today, and whether rows from before got a default.
static COLUMNS: Query = Query::new(
    "SELECT attname::text, atthasmissing FROM pg_attribute
      WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped",
);

static HAS_PRIMARY_KEY: Query = Query::new("SELECT true FROM pg_index WHERE indrelid = $1 AND indisprimary");

/// What a history shows of an event beside what it rebuilds.
#[derive(Clone)]
struct Shown {
    position: Option<i64>,
    operation: String,
    subject: Option<String>,
    role: Option<String>,
    method: Option<String>,
    session_user: Option<String>,
    correlation_id: Option<String>,
    old: Option<String>,
    new: Option<String>,
}

/// The events of a table, of one organization or of all.
struct TableEvents {
    /// Of the table, its partitions and children, each with today's name.
    eras: Vec<(Name, Era)>,
    organization: Option<Uuid>,
    shown: HashMap<Uuid, Shown>,
}

impl EventSource for TableEvents {
    type Error = Error;

    fn events(&mut self, key: &str) -> Result<Vec<RowEvent>> {
        let unreadable = || error::STATE_INVALID.error("a column of an event of the table has an invalid value");
        let (mut events, mut hashes, mut keys) = (Vec::new(), BTreeSet::new(), Vec::new());
        for (_, era) in &self.eras {
            let then = |today: &str| era.columns.get(today).cloned().unwrap_or_else(|| today.to_owned());
            let key = row_history::with_names(key, then).ok_or_else(unreadable)?;
            hashes.extend(row_hash::of_key(&key));
            hashes.insert(row_hash::of_table(&era.table.0, &era.table.1));
            keys.push(key);
        }
        let mut batches: HashMap<Name, Vec<pgrx::Uuid>> = HashMap::new();
        for Candidate { batch, table } in row_index::candidates(&hashes)? {
            batches.entry(table.unwrap_or_default()).or_default().push(row_index::to_pg(batch));
        }
        for ((name, era), key) in self.eras.iter().zip(&keys) {
            let Some(batches) = batches.get(&era.table) else { continue };
            let arguments = [
                argument(era.table.0.as_str()),
                spi::uuid(self.organization),
                argument(key.as_str()),
                argument(era.table.1.as_str()),
                spi::uuid(era.after),
                spi::uuid(era.before),
                argument(batches.clone()),
            ];
            for found in user::as_superuser(|| EVENTS.read_by_index(&arguments, read)) {
                let (mut event, mut shown) = found.ok_or_else(unreadable)?;
                if !era.columns.is_empty() {
                    let today = |then: &str| {
                        let found = era.columns.iter().find(|(_, name)| *name == then);
                        found.map_or_else(|| then.to_owned(), |(today, _)| today.clone())
                    };
                    let renamed = |text: Option<String>| text.and_then(|text| row_history::with_names(&text, today));
                    event.old_key = renamed(event.old_key);
                    event.payload = event.payload.and_then(|text| row_history::with_columns(&text, today));
                    (shown.old, shown.new) = (renamed(shown.old), renamed(shown.new));
                }
                // One table, whatever it was called: a partition has a name of its own.
                event.table = name.clone();
                self.shown.insert(event.id, shown);
                events.push(event);
            }
        }
        Ok(events)
    }
}

fn read(row: &spi::Row) -> Option<(RowEvent, Shown)> {
    let operation: String = row.get(6)?;
    let event = RowEvent {
        id: row.uuid(1)?,
        organization: row.uuid(2)?,
        transaction: row.transaction(3)?,
        ordinal: row.get(4)?,
        occurred_at: row.timestamp(5)?,
        change: HistoryChange::parse(&operation)?,
        table: (row.get(7)?, row.get(8)?),
        payload: row.get(9),
        has_key: row.get(10).unwrap_or(false),
        old_key: row.get(11),
        block: row.get(13),
    };
    let shown = Shown {
        operation,
        position: row.get(12),
        subject: row.get(14),
        role: row.get(15),
        method: row.get(16),
        session_user: row.get(17),
        correlation_id: row.get(18),
        old: row.get(19),
        new: row.get(20),
    };
    Some((event, shown))
}

/// What the table and its parts were called, and when.
fn eras(table: pg_sys::Oid) -> Result<Vec<(Name, Era)>> {
    let read = |row: &spi::Row| Some((row.get::<String>(1)?, row.get::<String>(2)?));
    let today: Vec<Name> = user::as_superuser(|| NAMES.read(&[argument(table)], read)).into_iter().flatten().collect();
    let batches = row_index::candidates(&BTreeSet::from([row_hash::of_names()]))?;
    let batches: Vec<pgrx::Uuid> = batches.into_iter().map(|found| row_index::to_pg(found.batch)).collect();
    let namings = user::as_superuser(|| NAMINGS.read_by_index(&[argument(batches)], naming));
    let namings: Vec<(Uuid, Naming)> = namings.into_iter().flatten().collect();
    let Some(own) = today.first() else { return Ok(Vec::new()) };
    let of_parent = names::eras(own.clone(), &namings);
    // A column of the parent has its name in all parts, and the event of another one stands at the parent.
    let of_part = |name: &Name| -> Vec<(Name, Era)> {
        let mut namings = namings.clone();
        if name != own {
            for (_, naming) in &mut namings {
                if let Naming::Column { table, .. } = naming
                    && of_parent.iter().any(|era| era.table == *table)
                {
                    *table = name.clone();
                }
            }
        }
        names::eras(name.clone(), &namings).into_iter().map(|era| (name.clone(), era)).collect()
    };
    Ok(today.iter().flat_map(of_part).collect())
}

fn naming(row: &spi::Row) -> Option<(Uuid, Naming)> {
    let text = |column| row.get::<String>(column);
    let id = row.uuid(1)?;
    let table = || Some((text(3)?, text(4)?));
    let naming = match text(2)?.as_str() {
        "dropped" => Naming::Dropped(table()?),
        "schema" => Naming::Schema { from: text(5)?, to: text(6)? },
        "table column" => Naming::Column { table: table()?, from: text(5)?, to: text(6)? },
        "table" => {
            let to = table()?;
            let from = (text(7).unwrap_or_else(|| to.0.clone()), text(5).unwrap_or_else(|| to.1.clone()));
            Naming::Table { from, to }
        }
        _ => return None,
    };
    Some((id, naming))
}

/// Whose events the caller may see: those of the organization of the context with the permission to read the audit,
/// or all.
fn scope() -> Result<Option<Uuid>> {
    if let Some(context) = context::current()? {
        context::authorize("audit", "read")?;
        return Ok(Some(context.organization.id));
    }
    if user::has_role(c"tenancy_auditor") {
        return Ok(None);
    }
    Err(error::CONTEXT_MISSING.error("the history of a row is for auditors, and for members of its organization"))
}

/// Rebuilds the history of a row; also what a look at an event needs.
fn rebuild(table: Option<pg_sys::Oid>, key: Option<Jsonb>) -> Result<(RowHistory, TableEvents, CurrentColumns)> {
    let (table, key) = (require_not_null(table, "the table")?, require_not_null(key, "key")?.0);
    if !key.starts_with('{') {
        return Err(error::ARGUMENT_INVALID.error("key must be an object with the columns of the primary key"));
    }
    let mut events = TableEvents { eras: eras(table)?, organization: scope()?, shown: HashMap::new() };
    let history = row_history::rebuild(&mut events, &key)?;
    let has_key = !history.steps.is_empty()
        || !user::as_superuser(|| HAS_PRIMARY_KEY.read(&[argument(table)], |row| row.get::<bool>(1))).is_empty();
    if !has_key {
        let name = catalog::name(table).map_or_else(|| "that table".into(), |(_, name)| format!("\"{name}\""));
        let message = format!("the events of {name} do not tell its rows apart, because it has no primary key");
        return Err(error::ROW_KEY_MISSING
            .error(message)
            .detail("An event names its row by the columns of the primary key.".to_owned()));
    }
    let mut columns = CurrentColumns::default();
    for (name, defaulted) in user::as_superuser(|| COLUMNS.read(&[argument(table)], |row| (row.get(1), row.get(2)))) {
        let name: String = name.unwrap_or_default();
        if defaulted.unwrap_or(false) {
            columns.defaulted.insert(name.clone());
        }
        columns.names.insert(name);
    }
    Ok((history, events, columns))
}

fn uuid(id: Uuid) -> pgrx::Uuid {
    pgrx::Uuid::from_bytes(*id.as_bytes())
}

/// `tenancy.row_history(table, key)`. A `timestamptz` is passed as an integer.
#[allow(clippy::type_complexity)]
#[pg_extern(sql = false)]
fn tenancy_row_history(
    table: Option<pg_sys::Oid>,
    key: Option<Jsonb>,
) -> TableIterator<
    'static,
    (
        name!(event, pgrx::Uuid),
        name!(organization, pgrx::Uuid),
        name!(position, Option<i64>),
        name!(occurred_at, i64),
        name!(operation, String),
        name!(subject, Option<String>),
        name!(role, Option<String>),
        name!(method, Option<String>),
        name!(session_user_name, Option<String>),
        name!(correlation_id, Option<String>),
        name!(old_values, Option<Jsonb>),
        name!(new_values, Option<Jsonb>),
        name!(row, Option<Jsonb>),
        name!(undisclosed, Vec<String>),
        name!(complete, bool),
    ),
> {
    let (history, mut events, columns) = rebuild(table, key).or_raise();
    let rows = history.steps.into_iter().filter_map(move |step| {
        let shown = events.shown.remove(&step.event.id)?;
        let values = |text: Option<String>| text.map(|text| Jsonb(row_history::presentable(&text)));
        let occurred_at = transaction::to_timestamptz(step.event.occurred_at);
        Some((
            uuid(step.event.id),
            uuid(step.event.organization),
            shown.position,
            occurred_at,
            shown.operation,
            shown.subject,
            shown.role,
            shown.method,
            shown.session_user,
            shown.correlation_id,
            values(shown.old),
            values(shown.new),
            step.state.text().map(Jsonb),
            step.state.undisclosed(),
            step.is_complete(&columns),
        ))
    });
    TableIterator::new(rows)
}

/// `tenancy.row_as_of(table, key, at, partial)`.
#[pg_extern(sql = false)]
fn tenancy_row_as_of(
    table: Option<pg_sys::Oid>,
    key: Option<Jsonb>,
    at: Option<i64>,
    partial: Option<bool>,
) -> Option<Jsonb> {
    as_of(table, key, at, partial).or_raise()
}

/// `at` is a `timestamptz`, which Postgres passes as an integer.
fn as_of(
    table: Option<pg_sys::Oid>,
    key: Option<Jsonb>,
    at: Option<i64>,
    partial: Option<bool>,
) -> Result<Option<Jsonb>> {
    let at = transaction::from_timestamptz(require_not_null(at, "at")?);
    let partial = require_not_null(partial, "partial")?;
    let (history, _, columns) = rebuild(table, key)?;
    let (state, sure) = history.at(at);
    let complete = sure && state.is_complete(&columns);
    if !partial && !complete {
        let message = "the events do not tell all of the row at that time";
        let mut refusal = error::HISTORY_INCOMPLETE.error(message);
        let undisclosed = state.undisclosed();
        if !undisclosed.is_empty() {
            refusal = refusal.detail(format!("Not disclosed: {}.", undisclosed.join(", ")));
        }
        return Err(refusal);
    }
    Ok(state.text().map(Jsonb))
}
