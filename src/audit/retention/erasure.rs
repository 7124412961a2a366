//! `tenancy.erase_payload`: takes a payload away, and says so in the chain.
//!
//! Decision: `docs/decisions/48-payload-erasure.md`.

use crate::audit::capture::append::{NewEvent, append};
use crate::audit::history::row_index;
use crate::audit::log::batch_row;
use crate::pg::json::Jsonb;
use crate::pg::report::OrRaise;
use crate::pg::spi::{self, Query, argument};
use crate::pg::tables::table::{self, ColumnValue, IndexKey};
use crate::pg::transaction;
use crate::pg::user;
use pg_tenancy_core::audit::format::batch::{self, PackedContent};
use pg_tenancy_core::audit::format::batch_row::BatchColumn;
use pg_tenancy_core::audit::format::encoding::Digest;
use pg_tenancy_core::audit::format::event::{batch_of, place_of};
use pg_tenancy_core::audit::format::hex;
use pg_tenancy_core::audit::history::row_hash;
use pg_tenancy_core::batch_columns;
use pg_tenancy_core::error::{self, Error, Result, require_not_null};
use pgrx::{pg_extern, pg_sys};
use serde_json::json;
use std::ffi::CString;
use uuid::Uuid;

/// The operation of the event that tells of an erasure.
const ERASE: &str = "erase";

const MAX_TEXT_BYTES: usize = 1000;

/// The columns of `tenancy.event_batch` that hold a payload: of a batch of one, and of several.
const PAYLOAD: [i32; 2] = [BatchColumn::Payload.number() as i32, BatchColumn::PayloadSalt.number() as i32];
const PACKED: i32 = BatchColumn::Packed.number() as i32;

/// An event as an erasure looks at it.
struct ErasableEvent {
    id: Uuid,
    organization: Uuid,
    operation: String,
    domain: String,
    table_schema: Option<String>,
    table_name: Option<String>,
    has_payload: bool,
    payload_digest: Digest,
    sealed: bool,
}

/// The columns that [`read`] takes.
macro_rules! columns {
    () => {
        "SELECT e.id, e.organization, e.operation, e.domain, e.table_schema, e.table_name,
                e.payload IS NOT NULL OR e.payload_salt IS NOT NULL, e.payload_digest,
                tenancy.place_of(e.batch, e.organization, e.transaction) IS NOT NULL
           FROM tenancy.event e"
    };
}

static BY_ID: Query = Query::new(concat!(columns!(), " WHERE e.batch = tenancy.batch_of($1) AND e.id = $1"));

/// A batch with the partition that it stands in.
static BATCH: Query = Query::new(concat!(
    "SELECT c.relname::text, ",
    batch_columns!("b"),
    " FROM tenancy.event_batch b JOIN pg_class c ON c.oid = b.tableoid WHERE b.id = $1"
));

/// Of a row, in these batches.
static OF_ROW: Query = Query::new(concat!(
    "WITH RECURSIVE part (oid) AS (
         SELECT $2
          UNION
         SELECT i.inhrelid FROM pg_inherits i JOIN part p ON i.inhparent = p.oid) ",
    columns!(),
    " WHERE e.batch = ANY ($4) AND e.organization = $1 AND e.row_key::jsonb = $3::jsonb
        AND (e.payload IS NOT NULL OR e.payload_salt IS NOT NULL)
        AND EXISTS (SELECT FROM part p
                      JOIN pg_class t ON t.oid = p.oid
                      JOIN pg_namespace n ON n.oid = t.relnamespace
                     WHERE n.nspname = e.table_schema AND t.relname = e.table_name)
      ORDER BY e.id"
));

fn read(row: &spi::Row) -> Option<ErasableEvent> {
    Some(ErasableEvent {
        id: row.uuid(1)?,
        organization: row.uuid(2)?,
        operation: row.get(3)?,
        domain: row.get(4)?,
        table_schema: row.get(5),
        table_name: row.get(6),
        has_payload: row.get(7)?,
        payload_digest: row.bytes(8)?,
        sealed: row.get(9)?,
    })
}

/// Why a payload has to go.
struct Grounds<'a> {
    reason: &'a str,
    legal_basis: Option<&'a str>,
}

impl<'a> Grounds<'a> {
    fn new(reason: Option<&'a str>, legal_basis: Option<&'a str>) -> Result<Self> {
        let reason = require_not_null(reason, "reason")?;
        if reason.trim().is_empty() {
            return Err(error::ARGUMENT_INVALID.error("the reason is blank"));
        }
        if reason.len() > MAX_TEXT_BYTES || legal_basis.is_some_and(|text| text.len() > MAX_TEXT_BYTES) {
            return Err(error::ARGUMENT_INVALID.error("reason and legal_basis have at most 1000 bytes"));
        }
        Ok(Grounds { reason, legal_basis })
    }
}

/// `tenancy.erase_payload(event, reason, legal_basis)`: returns the id of the event that tells of it.
#[pg_extern(sql = false)]
fn tenancy_erase_payload(event: Option<pgrx::Uuid>, reason: Option<&str>, legal_basis: Option<&str>) -> pgrx::Uuid {
    let id = erase_by_id(event, reason, legal_basis).or_raise();
    pgrx::Uuid::from_bytes(*id.as_bytes())
}

fn erase_by_id(event: Option<pgrx::Uuid>, reason: Option<&str>, legal_basis: Option<&str>) -> Result<Uuid> {
    let id = Uuid::from_bytes(*require_not_null(event, "event")?.as_bytes());
    let grounds = Grounds::new(reason, legal_basis)?;
    one_at_a_time()?;
    let found = find(&BY_ID, &[spi::uuid(id)])?.pop();
    erase(&found.ok_or_else(|| error::NOT_FOUND.error(format!("there is no event {id}")))?, &grounds)
}

/// `tenancy.erase_row_payloads(organization, table, key, reason, legal_basis)`: returns how many.
#[pg_extern(sql = false)]
fn tenancy_erase_row_payloads(
    organization: Option<pgrx::Uuid>,
    table: Option<pg_sys::Oid>,
    key: Option<Jsonb>,
    reason: Option<&str>,
    legal_basis: Option<&str>,
) -> i64 {
    erase_by_row(organization, table, key, reason, legal_basis).or_raise()
}

fn erase_by_row(
    organization: Option<pgrx::Uuid>,
    table: Option<pg_sys::Oid>,
    key: Option<Jsonb>,
    reason: Option<&str>,
    legal_basis: Option<&str>,
) -> Result<i64> {
    let organization = Uuid::from_bytes(*require_not_null(organization, "organization")?.as_bytes());
    let (table, key) = (require_not_null(table, "the table")?, require_not_null(key, "key")?);
    let grounds = Grounds::new(reason, legal_basis)?;
    one_at_a_time()?;
    let found = find_of_row(organization, table, key.0)?;
    found.iter().try_for_each(ErasableEvent::check)?;
    found.iter().try_for_each(|event| erase(event, &grounds).map(drop))?;
    Ok(found.len() as i64)
}

/// Waits for another erasure to commit: the rows that it changed can then be seen.
fn one_at_a_time() -> Result<()> {
    if transaction::read_only() {
        return Err(error::READ_ONLY.error("nothing can be erased on a standby or in a READ ONLY transaction"));
    }
    table::lock_against_itself(c"erasure");
    Ok(())
}

/// The newest state, whatever the isolation level, and in the name of the extension's owner: whoever may erase need
/// not be able to read.
fn find(query: &Query, arguments: &[spi::Argument]) -> Result<Vec<ErasableEvent>> {
    let found = transaction::with_latest_snapshot(|| user::as_superuser(|| query.read_by_index(arguments, read)));
    found.into_iter().map(|event| event.ok_or_else(unreadable)).collect()
}

/// As [`find`], the events of a row that have a payload.
fn find_of_row(organization: Uuid, table: pg_sys::Oid, key: String) -> Result<Vec<ErasableEvent>> {
    let hashes = row_hash::of_key(&key).into_iter().collect();
    transaction::with_latest_snapshot(|| {
        let batches = row_index::candidates(&hashes)?.into_iter().map(|found| row_index::to_pg(found.batch));
        let batches: Vec<pgrx::Uuid> = batches.collect();
        find(&OF_ROW, &[spi::uuid(organization), argument(table), argument(key), argument(batches)])
    })
}

fn unreadable() -> Error {
    error::STATE_INVALID.error("a column of the event in tenancy.event has an invalid value")
}

impl ErasableEvent {
    fn check(&self) -> Result<()> {
        let refused = |why: &str| Err(error::ERASURE_REFUSED.error(format!("event {} {why}", self.id)));
        match () {
            () if self.operation == ERASE => refused("tells of an erasure"),
            () if !self.has_payload => refused("has no payload any more"),
            () if !self.sealed => refused("is not sealed"),
            () => Ok(()),
        }
    }
}

/// Takes the payload and the salt out of the stored batch, also out of its packed events.
fn take_payload(event: &ErasableEvent) -> Result<()> {
    let unreadable = || error::STATE_INVALID.error(format!("the batch of event {} cannot be read", event.id));
    let read = |row: &spi::Row| Some((row.get::<String>(1)?, batch_row::batch(row, 1)?));
    let found = user::as_superuser(|| BATCH.read(&[spi::uuid(batch_of(event.id))], read)).pop().flatten();
    let (partition, batch) = found.ok_or_else(unreadable)?;
    let packed;
    let changes = match &batch.packed {
        None => PAYLOAD.map(|column| (column, ColumnValue::Null)).to_vec(),
        Some(_) => {
            let stored = batch.events().map_err(|_| unreadable())?;
            let mut events = stored.list(batch.occurred_at).map_err(|_| unreadable())?;
            let erased = events.get_mut(place_of(event.id) as usize).ok_or_else(unreadable)?;
            erased.content = PackedContent::Erased(event.payload_digest);
            packed = batch::pack(batch.occurred_at, &events);
            vec![(PACKED, ColumnValue::Bytes(&packed))]
        }
    };
    let name = CString::new(partition.as_str()).unwrap_or_default();
    if table::change(&name, IndexKey::uuid(1, &batch.id), &changes) {
        return Ok(());
    }
    Err(error::STATE_INVALID.error(format!("partition tenancy.{partition} has no primary key")))
}

fn erase(event: &ErasableEvent, grounds: &Grounds) -> Result<Uuid> {
    event.check()?;
    transaction::with_latest_snapshot(|| take_payload(event))?;
    let data = json!({
        "event": event.id.to_string(),
        "payload_digest": hex::encode(&event.payload_digest),
        "legal_basis": grounds.legal_basis,
    });
    let erase_event = append(NewEvent {
        organization: event.organization,
        operation: ERASE,
        domain: &event.domain,
        table_schema: event.table_schema.as_deref(),
        table_name: event.table_name.as_deref(),
        row_key: None,
        result: "success",
        reason: Some(grounds.reason),
        payload: json!({ "data": data }).to_string(),
    })?;
    // tenancy.erasure: event, organization, erased_at, payload_digest, reason, legal_basis, erase_event
    table::insert(
        c"erasure",
        &[
            ColumnValue::Uuid(&event.id),
            ColumnValue::Uuid(&event.organization),
            ColumnValue::Timestamp(transaction::now()),
            ColumnValue::Bytes(&event.payload_digest),
            ColumnValue::Text(grounds.reason),
            ColumnValue::optional_text(grounds.legal_basis),
            ColumnValue::Uuid(&erase_event),
        ],
    );
    // A second erasure of the same statement sees this one.
    transaction::next_command();
    Ok(erase_event)
}
