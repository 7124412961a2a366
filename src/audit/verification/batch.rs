//! Batches by id, each compared with its own hash where it stands in its page.

use crate::audit::log::batch_row::{actor_in_page, batch_in_page};
use crate::audit::log::partitions::Partitions;
use crate::audit::log::place::Places;
use crate::pg::spi::{Query, Row, argument, uuid};
use pg_tenancy_core::audit::format::encoding::Digest;
use pg_tenancy_core::audit::format::event::batch_of;
use pg_tenancy_core::audit::verification::{BatchState, SeenBatch};
use pg_tenancy_core::error::{self, Result};
use std::collections::HashMap;
use uuid::Uuid;

/// The event in the same chain that tells of the erasure of a payload, with transaction and hash of its batch.
static ERASURE: Query = Query::new(
    "SELECT e.id, e.transaction, e.hash
       FROM tenancy.erasure x
       JOIN tenancy.event e ON e.batch = tenancy.batch_of(x.erase_event) AND e.id = x.erase_event
      WHERE x.event = $1 AND e.organization = $2 AND e.operation = 'erase'
        AND e.payload #>> '{data,event}' = $1::text
        AND e.payload #>> '{data,payload_digest}' = encode($3, 'hex')",
);

/// How many digests of actors are remembered.
const ACTORS: usize = 10_000;

/// The batches of the seal.
pub struct BatchReader {
    batches: Partitions,
    /// The same table, for what tells of erasures.
    tellers: Partitions,
    actors: Actors,
    places: Places,
}

impl Default for BatchReader {
    fn default() -> Self {
        let actors = Actors { rows: Partitions::of_actors(), digests: HashMap::new() };
        BatchReader {
            batches: Partitions::of_batches(),
            tellers: Partitions::of_batches(),
            actors,
            places: Places::default(),
        }
    }
}

impl BatchReader {
    /// What stands under the id.
    pub fn find(&mut self, id: &Uuid) -> Result<BatchState> {
        let (actors, tellers, places) = (&mut self.actors, &mut self.tellers, &mut self.places);
        let batch = self.batches.find(id, |fields| {
            let Some(stored) = batch_in_page(fields) else { return Ok(BatchState::Unreadable) };
            let actor = actors.digest(stored.actor)?;
            let erased =
                |event, digest: &Digest| is_erased((event, stored.organization), digest, tellers, actors, places);
            Ok(BatchState::Seen(SeenBatch {
                organization: stored.organization,
                transaction: stored.transaction,
                ordinal: stored.ordinal,
                events: stored.events,
                previous: stored.previous,
                hash: stored.hash,
                fault: stored.inconsistency(actor.as_ref(), erased)?,
            }))
        })?;
        batch.unwrap_or(Ok(BatchState::Gone))
    }
}

/// True if the chain tells that the payload of this event was erased, by an event that is what was written. Where
/// one is that is not sealed is found when all batches are compared with the seal.
fn is_erased(
    (event, organization): (Uuid, Uuid),
    digest: &Digest,
    tellers: &mut Partitions,
    actors: &mut Actors,
    places: &mut Places,
) -> Result<bool> {
    let arguments = [uuid(event), uuid(organization), argument(digest.to_vec())];
    let read = |row: &Row| Some((row.uuid(1)?, row.transaction(2)?, row.bytes::<32>(3)?));
    let Some((id, transaction, hash)) = ERASURE.read(&arguments, read).pop().flatten() else { return Ok(false) };
    let sealed = places.find(&organization, transaction, &batch_of(id));
    if sealed.is_some_and(|entry| entry.batch_hash != hash) {
        return Ok(false);
    }
    let told = tellers.find(&batch_of(id), |fields| {
        let Some(teller) = batch_in_page(fields) else { return Ok(false) };
        // An event that tells of an erasure is never erased itself; others of its batch may be.
        let others = |erased: Uuid, _: &Digest| Ok::<bool, error::Error>(erased != id);
        Ok(teller.inconsistency(actors.digest(teller.actor)?.as_ref(), others)?.is_none())
    })?;
    told.unwrap_or(Ok(false))
}

/// The actors, whose digests are part of the events' hashes.
struct Actors {
    rows: Partitions,
    digests: HashMap<Uuid, Option<Digest>>,
}

impl Actors {
    /// The digest of an actor; `None` if its row is gone or has a value that no actor has.
    fn digest(&mut self, id: Uuid) -> Result<Option<Digest>> {
        if let Some(digest) = self.digests.get(&id) {
            return Ok(*digest);
        }
        if self.digests.len() == ACTORS {
            self.digests.clear();
        }
        let digest = self.rows.find(&id, |fields| actor_in_page(fields).map(|actor| actor.digest()))?.flatten();
        self.digests.insert(id, digest);
        Ok(digest)
    }
}
