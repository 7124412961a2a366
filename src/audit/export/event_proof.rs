//! `tenancy.event_proof`: that an event is in its batch, and where the batch is in the tree of its organization.

use super::proof::array;
use crate::audit::log::batch_row;
use crate::pg::report::OrRaise;
use crate::pg::spi::{self, Query, Row};
use pg_tenancy_core::audit::format::batch::PackedEvent;
use pg_tenancy_core::audit::format::batch_row::{ActorColumn, BatchColumn};
use pg_tenancy_core::audit::format::encoding::Digest;
use pg_tenancy_core::audit::format::event::{Actor, batch_of, event_leaf, place_of};
use pg_tenancy_core::audit::log::merkle::{self, Leaves};
use pg_tenancy_core::error::{self, Error, Result, require_not_null};
use pg_tenancy_core::{actor_columns, batch_columns};
use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern};
use uuid::Uuid;

/// An entry of the seal with its batch and its actor.
static SEALED: Query = Query::new(concat!(
    "SELECT s.leaf, s.position, s.batch_hash, ",
    batch_columns!("b"),
    ", ",
    actor_columns!("a"),
    "
       FROM tenancy.seal s
       LEFT JOIN tenancy.event_batch b ON b.id = s.batch AND b.organization = s.organization
       LEFT JOIN tenancy.event_actor a ON a.id = b.actor
      WHERE s.batch = $1"
));

/// The columns of an entry before those of its batch.
const OF_ENTRY: usize = 3;

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

/// The entry that was read.
struct SealedBatch {
    leaf: i64,
    /// Of the last event.
    position: i64,
    batch_hash: Digest,
    /// `None` if they are gone or cannot be read.
    content: Option<(batch_row::OwnedBatch, Actor)>,
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
    let sealed = SEALED.read(&[spi::uuid(batch_of(event))], read).pop().ok_or_else(not_found)?;
    let SealedBatch { leaf, position, batch_hash, content } = sealed.ok_or_else(|| unreadable(event))?;
    let (row, actor) = content.ok_or_else(|| unreadable(event))?;
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

fn unreadable(event: Uuid) -> Error {
    error::STATE_INVALID.error(format!("the batch of event {event} is missing, or is not the one that was sealed"))
}

fn read(row: &Row) -> Option<SealedBatch> {
    let content = || Some((batch_row::batch(row, OF_ENTRY)?, batch_row::actor(row, OF_ENTRY + BatchColumn::COUNT)?));
    let there = |column: usize| row.uuid((OF_ENTRY + column) as i32).is_some();
    let here = there(BatchColumn::Id.number()) && there(BatchColumn::COUNT + ActorColumn::Id.number());
    Some(SealedBatch {
        leaf: row.get(1)?,
        position: row.get(2)?,
        batch_hash: row.bytes(3)?,
        content: if here { content() } else { None },
    })
}
