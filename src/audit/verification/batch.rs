//! Batches by id, each compared with its own hash where it stands in its page.

use crate::audit::log::batch_row::{actor_in_page, batch_in_page};
use crate::pg::spi::{Query, argument, uuid};
use crate::pg::tables::scan::{ById, Fields};
use crate::pg::tables::table;
use pg_tenancy_core::audit::format::encoding::Digest;
use pg_tenancy_core::audit::format::event::batch_of;
use pg_tenancy_core::audit::format::month::Month;
use pg_tenancy_core::audit::verification::{BatchState, SeenBatch};
use pg_tenancy_core::error::{self, Result};
use std::collections::{HashMap, VecDeque};
use std::ffi::{CStr, CString};
use std::rc::Rc;
use uuid::Uuid;

/// In which partition a row is that is not in the one that its id says. Planned for the parent, so it finds any.
static BATCH_PARTITION: Query = Query::new(
    "SELECT c.relname::text FROM tenancy.event_batch e JOIN pg_class c ON c.oid = e.tableoid
      WHERE e.id = $1",
);
static ACTOR_PARTITION: Query = Query::new(
    "SELECT c.relname::text FROM tenancy.event_actor a JOIN pg_class c ON c.oid = a.tableoid
      WHERE a.id = $1",
);

/// The event in the same chain that tells of the erasure of a payload, and whether the seal has its batch as it is:
/// `NULL` before it has it at all.
static ERASURE: Query = Query::new(
    "SELECT e.id, s.batch_hash = e.hash
       FROM tenancy.erasure x
       JOIN tenancy.event e ON e.batch = tenancy.batch_of(x.erase_event) AND e.id = x.erase_event
       LEFT JOIN tenancy.seal s ON s.batch = e.batch
      WHERE x.event = $1 AND e.organization = $2 AND e.operation = 'erase'
        AND e.payload #>> '{data,event}' = $1::text
        AND e.payload #>> '{data,payload_digest}' = encode($3, 'hex')",
);

/// How many partitions of a table are open at a time: around midnight of the first, chains alternate between two.
const OPEN: usize = 4;
/// How many digests of actors are remembered.
const ACTORS: usize = 10_000;

/// A table whose partitions are months, which ids begin with.
struct Partitions {
    name: &'static str,
    elsewhere: &'static Query,
    open: VecDeque<(CString, Option<ById>)>,
    /// A day, in days since 1970, and the partition that its ids are in.
    day: Option<(i64, Rc<CStr>)>,
}

impl Partitions {
    fn new(name: &'static str, elsewhere: &'static Query) -> Self {
        Partitions { name, elsewhere, open: VecDeque::new(), day: None }
    }

    /// Hands the row with this id to `read`.
    fn find<T>(&mut self, id: &Uuid, read: impl FnOnce(&Fields) -> T) -> Result<Option<T>> {
        let name = self.name_for(id);
        if let Some(fields) = self.partition(&name).and_then(|partition| partition.find(id)) {
            return Ok(Some(read(&fields)));
        }
        let Some(name) = self.elsewhere.read(&[uuid(*id)], |row| row.get::<String>(1)).pop().flatten() else {
            return Ok(None);
        };
        let name = CString::new(name).unwrap_or_default();
        match self.partition(&name).and_then(|partition| partition.find(id)) {
            Some(fields) => Ok(Some(read(&fields))),
            None => {
                Err(error::STATE_INVALID
                    .error(format!("partition tenancy.{} has no primary key", name.to_string_lossy())))
            }
        }
    }

    /// The partition that the id should be in.
    fn name_for(&mut self, id: &Uuid) -> Rc<CStr> {
        let seconds = id.get_timestamp().map_or(0, |at| at.to_unix().0.cast_signed());
        let day = seconds / 86_400;
        if let Some((_, name)) = self.day.as_ref().filter(|(of, _)| *of == day) {
            return Rc::clone(name);
        }
        let month = Month::of(seconds.saturating_mul(1_000_000));
        let name = CString::new(format!("{}_{}", self.name, month.suffix())).unwrap_or_default();
        let name = Rc::from(name.into_boxed_c_str());
        self.day = Some((day, Rc::clone(&name)));
        name
    }

    fn partition(&mut self, name: &CStr) -> Option<&mut ById> {
        if let Some(place) = self.open.iter().position(|(open, _)| open.as_c_str() == name) {
            return self.open[place].1.as_mut();
        }
        self.open.truncate(OPEN - 1);
        let opened = if table::is_partition(name) { ById::open(name) } else { None };
        self.open.push_front((name.to_owned(), opened));
        self.open[0].1.as_mut()
    }
}

/// The batches of the seal.
pub struct BatchReader {
    batches: Partitions,
    /// The same table, for what tells of erasures.
    tellers: Partitions,
    actors: Actors,
}

impl Default for BatchReader {
    fn default() -> Self {
        let actors = Actors { rows: Partitions::new("event_actor", &ACTOR_PARTITION), digests: HashMap::new() };
        let batches = || Partitions::new("event_batch", &BATCH_PARTITION);
        BatchReader { batches: batches(), tellers: batches(), actors }
    }
}

impl BatchReader {
    /// What stands under the id.
    pub fn find(&mut self, id: &Uuid) -> Result<BatchState> {
        let (actors, tellers) = (&mut self.actors, &mut self.tellers);
        let batch = self.batches.find(id, |fields| {
            let Some(stored) = batch_in_page(fields) else { return Ok(BatchState::Unreadable) };
            let actor = actors.digest(stored.actor)?;
            let erased = |event, digest: &Digest| is_erased(event, stored.organization, digest, tellers, actors);
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
    event: Uuid,
    organization: Uuid,
    digest: &Digest,
    tellers: &mut Partitions,
    actors: &mut Actors,
) -> Result<bool> {
    let arguments = [uuid(event), uuid(organization), argument(digest.to_vec())];
    let teller = ERASURE.read(&arguments, |row| (row.uuid(1), row.get::<bool>(2))).pop();
    let Some((Some(id), None | Some(true))) = teller else { return Ok(false) };
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
