//! `tenancy.unpack_events`, `tenancy.unpack_entries` and `tenancy.batch_of`: a batch as events and a row of the seal as
//! entries, for views.

use crate::pg::transaction;
use pg_tenancy_core::audit::format::batch::{Packed, PackedContent};
use pg_tenancy_core::audit::format::event::{batch_of, event_id};
use pg_tenancy_core::audit::log::entries::{self, Entry};
use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern};
use uuid::Uuid;

type EventColumns = (i32, pgrx::Uuid, i32, i64, Option<String>, Option<String>, Option<Vec<u8>>, Vec<u8>);

/// `tenancy.unpack_events(batch, ordinal, events, occurred_at, packed)`. A `timestamptz` is passed as an integer, and
/// `json` as the text that it is stored as.
#[allow(clippy::type_complexity)]
#[pg_extern(sql = false)]
fn tenancy_unpack_events(
    batch: pgrx::Uuid,
    ordinal: i32,
    events: i32,
    occurred_at: i64,
    packed: &[u8],
) -> TableIterator<
    'static,
    (
        name!(place, i32),
        name!(id, pgrx::Uuid),
        name!(event_ordinal, i32),
        name!(event_occurred_at, i64),
        name!(row_key, Option<String>),
        name!(payload, Option<String>),
        name!(payload_salt, Option<Vec<u8>>),
        name!(payload_digest, Vec<u8>),
    ),
> {
    let batch = Uuid::from_bytes(*batch.as_bytes());
    TableIterator::new(unpack(batch, ordinal, events, occurred_at, packed).unwrap_or_default())
}

/// `None` for a value that cannot be read: verification names its batch, and others can still be read.
fn unpack(batch: Uuid, ordinal: i32, events: i32, occurred_at: i64, packed: &[u8]) -> Option<Vec<EventColumns>> {
    let packed = Packed::open(packed, events).ok()?;
    let events = packed.events(transaction::from_timestamptz(occurred_at)).ok()?;
    let columns = events.iter().zip(0..).map(|(event, place)| {
        let (payload, salt) = match event.content {
            PackedContent::Payload { salt, text } => (Some(text.to_owned()), Some(salt.to_vec())),
            PackedContent::Erased(_) => (None, None),
        };
        let id = pgrx::Uuid::from_bytes(*event_id(batch, place).as_bytes());
        let at = transaction::to_timestamptz(event.occurred_at);
        let (row_key, digest) = (event.row_key.map(str::to_owned), event.payload_digest().to_vec());
        (place, id, ordinal.wrapping_add(place), at, row_key, payload, salt, digest)
    });
    Some(columns.collect())
}

/// `tenancy.unpack_entries(position, leaves, entries)`. No row for a list that cannot be read.
#[allow(clippy::type_complexity)]
#[pg_extern(sql = false)]
fn tenancy_unpack_entries(
    position: i64,
    leaves: i64,
    entries: &[u8],
) -> TableIterator<
    'static,
    (name!(leaf, i64), name!(last, i64), name!(events, i64), name!(batch, pgrx::Uuid), name!(batch_hash, Vec<u8>)),
> {
    let entries: Vec<Entry> = entries::entries(0, position, leaves, entries).into_iter().flatten().collect();
    TableIterator::new(entries.into_iter().map(|entry| {
        let batch = pgrx::Uuid::from_bytes(*entry.batch.as_bytes());
        (entry.leaf, entry.position, entry.events, batch, entry.batch_hash.to_vec())
    }))
}

/// `tenancy.batch_of(event)`.
#[pg_extern(sql = false)]
fn tenancy_batch_of(event: pgrx::Uuid) -> pgrx::Uuid {
    pgrx::Uuid::from_bytes(*batch_of(Uuid::from_bytes(*event.as_bytes())).as_bytes())
}
