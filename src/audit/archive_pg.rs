//! Months whose events are not in the database: what is known of them, and what the seal has of them.

use super::block::Entries;
use super::chain::Entry;
use super::encoding::Digest;
use super::partition_pg;
use super::verify::{Finding, Found};
use crate::error::{self, Result};
use crate::pg::report::OrRaise;
use crate::pg::spi::{self, Query, Row, argument};
use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern};
use uuid::Uuid;

/// The newest row of each month that is not attached again.
static ARCHIVED: Query = Query::new(
    "SELECT pg_catalog.to_char(a.month, 'YYYY_MM'), a.through_block, a.events, a.digest,
            tenancy.lowest_id(a.month::pg_catalog.timestamp AT TIME ZONE 'UTC'), tenancy.lowest_id((a.month + interval '1 month') AT TIME ZONE 'UTC')
       FROM (SELECT DISTINCT ON (month) * FROM tenancy.archive ORDER BY month, changed_at DESC) a
      WHERE NOT a.attached",
);

/// Rows that no event tells of, as one does that was written with the row. That event itself may be archived since.
static UNRECORDED: Query = Query::new(
    "SELECT pg_catalog.to_char(a.month, 'YYYY-MM'), pg_catalog.to_char(a.changed_at AT TIME ZONE 'UTC', 'YYYY_MM')
       FROM tenancy.archive a
      WHERE NOT EXISTS (
            SELECT FROM tenancy.event e
             WHERE e.id OPERATOR(pg_catalog.>=) tenancy.lowest_id(a.changed_at - interval '1 minute')
               AND e.id OPERATOR(pg_catalog.<) tenancy.lowest_id(a.changed_at + interval '1 minute')
               AND e.organization OPERATOR(pg_catalog.=) '00000000-0000-0000-0000-000000000000' AND e.operation OPERATOR(pg_catalog.=) 'insert'
               AND e.table_schema OPERATOR(pg_catalog.=) 'tenancy' AND e.table_name OPERATOR(pg_catalog.=) 'archive'
               AND (e.payload OPERATOR(pg_catalog.->) 'new') OPERATOR(pg_catalog.->>) 'digest' OPERATOR(pg_catalog.=) a.digest::pg_catalog.text
               AND (e.payload OPERATOR(pg_catalog.->) 'new') OPERATOR(pg_catalog.->>) 'month' OPERATOR(pg_catalog.=) pg_catalog.to_char(a.month, 'YYYY-MM-DD')
               AND (e.payload OPERATOR(pg_catalog.->) 'new') OPERATOR(pg_catalog.->>) 'through_block' OPERATOR(pg_catalog.=) a.through_block::pg_catalog.text
               AND (e.payload OPERATOR(pg_catalog.->) 'new') OPERATOR(pg_catalog.->>) 'attached' OPERATOR(pg_catalog.=) a.attached::pg_catalog.text)",
);

const ENTRIES: &str = "SELECT organization, position, event, event_hash, chain, block FROM tenancy.seal
      WHERE event OPERATOR(pg_catalog.>=) $1 AND event OPERATOR(pg_catalog.<) $2 AND block OPERATOR(pg_catalog.<=) $3
      ORDER BY organization, position";

/// What the seal has of the events between two ids.
struct Sealed {
    events: i64,
    blocks: Option<(i64, i64)>,
    digest: Digest,
}

/// `tenancy.seal_digest(from_event, to_event, through_block)`.
#[allow(clippy::type_complexity)]
#[pg_extern(sql = false)]
fn tenancy_seal_digest(
    from_event: Option<pgrx::Uuid>,
    to_event: Option<pgrx::Uuid>,
    through_block: Option<i64>,
) -> TableIterator<
    'static,
    (name!(events, i64), name!(first_block, Option<i64>), name!(last_block, Option<i64>), name!(digest, Vec<u8>)),
> {
    let given = |id, name| error::given(id, name).map(|id: pgrx::Uuid| Uuid::from_bytes(*id.as_bytes())).or_raise();
    let (from, to) = (given(from_event, "from_event"), given(to_event, "to_event"));
    let sealed = sealed(from, to, through_block.unwrap_or(i64::MAX)).or_raise();
    let (first, last) = sealed.blocks.unzip();
    TableIterator::once((sealed.events, first, last, sealed.digest.to_vec()))
}

fn sealed(from: Uuid, to: Uuid, through_block: i64) -> Result<Sealed> {
    let (mut entries, mut blocks) = (Entries::default(), None);
    spi::stream(ENTRIES, &[spi::uuid(from), spi::uuid(to), argument(through_block)], |row| {
        let (organization, entry) =
            entry(row).ok_or_else(|| error::STATE_INVALID.because("a row of tenancy.seal cannot be read"))?;
        entries.add(organization, &entry);
        let (first, last) = blocks.unwrap_or((entry.block, entry.block));
        blocks = Some((entry.block.min(first), entry.block.max(last)));
        Ok::<(), error::Error>(())
    })?;
    Ok(Sealed { events: entries.count(), blocks, digest: entries.digest() })
}

fn entry(row: &Row) -> Option<(Uuid, Entry)> {
    let (event_hash, chain) = (row.bytes(4)?, row.bytes(5)?);
    let entry = Entry { position: row.get(2)?, event: row.uuid(3)?, event_hash, chain, block: row.get(6)? };
    Some((row.uuid(1)?, entry))
}

/// A month that is archived.
struct Archive {
    /// As the names of partitions end.
    month: String,
    through_block: i64,
    events: i64,
    /// Absent where it has a length that no digest has.
    digest: Option<Digest>,
    ids: (Uuid, Uuid),
    /// True if there is a partition all the same: restored, or made for an event that came late.
    has_partition: bool,
}

/// The months that are archived.
pub struct Archives(Vec<Archive>);

impl Archives {
    pub fn read() -> Self {
        let read = |row: &Row| {
            let month: String = row.get(1)?;
            let has_partition = partition_pg::is_there("event", &month);
            Some(Archive {
                month,
                through_block: row.get(2)?,
                events: row.get(3)?,
                digest: row.bytes(4),
                ids: (row.uuid(5)?, row.uuid(6)?),
                has_partition,
            })
        };
        Archives(ARCHIVED.read(&[], read).into_iter().flatten().collect())
    }

    /// Whether the event that a block sealed went with its month.
    pub fn have(&self, event: &Uuid, block: i64) -> bool {
        self.of(event).is_some_and(|archive| block <= archive.through_block)
    }

    /// Whether there is nowhere to look for the event.
    pub fn have_away(&self, event: &Uuid, block: i64) -> bool {
        self.have(event, block) && self.of(event).is_some_and(|archive| !archive.has_partition)
    }

    fn of(&self, event: &Uuid) -> Option<&Archive> {
        self.0.iter().find(|archive| (archive.ids.0..archive.ids.1).contains(event))
    }

    /// Archives that are not of what the seal has, or that nobody made.
    pub fn verify(&self, found: &mut Vec<Found>) -> Result<()> {
        for archive in &self.0 {
            let sealed = sealed(archive.ids.0, archive.ids.1, archive.through_block)?;
            if sealed.events != archive.events || Some(sealed.digest) != archive.digest {
                let text = format!(
                    "the archive of {} is not of the events that the seal has",
                    archive.month.replace('_', "-")
                );
                found.push(Found::anywhere(Finding::Altered, text));
            }
        }
        let unrecorded = UNRECORDED.read(&[], |row| (row.get::<String>(1), row.get::<String>(2)));
        for (month, written) in unrecorded {
            if !self.0.iter().any(|archive| Some(&archive.month) == written.as_ref()) {
                let text = format!("no event tells of the archive of {} as it is", month.unwrap_or_default());
                found.push(Found::anywhere(Finding::Inserted, text));
            }
        }
        Ok(())
    }
}
