//! `tenancy.event_proof`: that an event is in its batch, and where the batch is in the tree of its organization.

use super::proof::array;
use crate::audit::log::batch_row;
use crate::audit::log::place::Places;
use crate::audit::log::seal;
use crate::pg::report::OrRaise;
use crate::pg::spi::{self, Query, Row};
use pg_tenancy_core::audit::format::batch::PackedEvent;
use pg_tenancy_core::audit::format::batch_row::{ActorColumn, BatchColumn};
use pg_tenancy_core::audit::format::encoding::Digest;
use pg_tenancy_core::audit::format::event::{Actor, batch_of, event_leaf, place_of};
use pg_tenancy_core::audit::log::entries::Entry;
use pg_tenancy_core::audit::log::merkle::{self, Leaves};
use pg_tenancy_core::error::{self, Error, Result, require_not_null};
use pg_tenancy_core::{actor_columns, batch_columns};
use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern};
use uuid::Uuid;

/// A batch and its actor.
static BATCH: Query = Query::new(concat!(
    "SELECT ",
    batch_columns!("b"),
    ", ",
    actor_columns!("a"),
    "
       FROM tenancy.event_batch b
       LEFT JOIN tenancy.event_actor a ON a.id = b.actor
      WHERE b.id = $1"
));

struct EventProof {
    organization: Uuid,
    position: i64,
    leaf: i64,
    /// From 1.
    place: i64,
    events: i64,
    data: Vec<u8>,
    proof: Vec<Digest>,
    root: Digest,
    batch_hash: Digest,
}

/// `tenancy.event_proof(event)`.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)] // The columns of the SQL function.
fn tenancy_event_proof(
    event: Option<pgrx::Uuid>,
) -> TableIterator<
    'static,
    (
        name!(organization, pgrx::Uuid),
        name!(position, i64),
        name!(leaf, i64),
        name!(place, i64),
        name!(events, i64),
        name!(data, Vec<u8>),
        name!(proof, Vec<Vec<u8>>),
        name!(root, Vec<u8>),
        name!(batch_hash, Vec<u8>),
    ),
> {
    let event = || Ok(Uuid::from_bytes(*require_not_null(event, "event")?.as_bytes()));
    let EventProof { organization, position, leaf, place, events, data, proof, root, batch_hash } =
        event().and_then(prove).or_raise();
    let organization = pgrx::Uuid::from_bytes(*organization.as_bytes());
    let (root, batch_hash) = (root.to_vec(), batch_hash.to_vec());
    TableIterator::once((organization, position, leaf, place, events, data, array(&proof), root, batch_hash))
}

fn prove(event: Uuid) -> Result<EventProof> {
    let not_found = || error::NOT_FOUND.error(format!("there is no sealed event {event}"));
    let found = BATCH.read(&[spi::uuid(batch_of(event))], read).pop().ok_or_else(|| not_sealed(event))?;
    let (row, actor) = found.ok_or_else(|| unreadable(event))?;
    let entry = Places::default().find(&row.organization, row.transaction, &row.id).ok_or_else(|| not_sealed(event))?;
    let Entry { leaf, position, batch_hash, .. } = entry;
    let packed = row.events().map_err(|_| unreadable(event))?;
    let events = packed.list(row.occurred_at).map_err(|_| unreadable(event))?;
    let digests: Vec<Digest> = events.iter().map(PackedEvent::digest).collect();
    let root = merkle::root_of(digests.iter().copied());
    if row.hash != batch_hash || row.header(&actor.digest()).hash(&root, &row.previous) != batch_hash {
        return Err(unreadable(event));
    }
    let place = usize::try_from(place_of(event)).unwrap_or_default();
    let proved = events.get(place).ok_or_else(not_found)?;
    let Ok(proof) = merkle::inclusion_proof(&mut Leaves(&digests), place as u64, digests.len() as u64);
    let (place, events) = (place as i64 + 1, events.len() as i64);
    Ok(EventProof {
        organization: row.organization,
        position: position - events + place,
        leaf,
        place,
        events,
        data: event_leaf(proved.occurred_at, proved.row_key, &proved.payload_digest()),
        proof,
        root,
        batch_hash,
    })
}

/// Where the row of a batch is gone or was changed, no place can be looked up: all entries tell whether it was sealed.
fn not_sealed(event: Uuid) -> Error {
    let (batch, mut is_sealed) = (batch_of(event), false);
    seal::all_entries(i64::MAX, |_, entry| is_sealed |= entry.batch == batch);
    if is_sealed {
        return unreadable(event);
    }
    error::NOT_FOUND.error(format!("there is no sealed event {event}"))
}

fn unreadable(event: Uuid) -> Error {
    error::STATE_INVALID.error(format!("the batch of event {event} is missing, or is not the one that was sealed"))
}

/// `None` where the actor is gone, or something cannot be read.
fn read(row: &Row) -> Option<(batch_row::OwnedBatch, Actor)> {
    row.uuid((BatchColumn::COUNT + ActorColumn::Id.number()) as i32)?;
    Some((batch_row::batch(row, 0)?, batch_row::actor(row, BatchColumn::COUNT)?))
}
