//! Months whose events are not in the database: what is known of them, and what the seal has of them.
//!
//! Decisions: `docs/decisions/44-archive-proof.md`, `docs/decisions/47-monthly-retention.md`.

use super::BatchReader;
use crate::audit::capture::partition;
use crate::audit::log::place::Places;
use crate::audit::log::{seal, state};
use crate::pg::report::OrRaise;
use crate::pg::spi::{self, Query, Row, argument};
use pg_tenancy_core::audit::format::encoding::Digest;
use pg_tenancy_core::audit::format::event::batch_of;
use pg_tenancy_core::audit::log::entries::{EntriesDigest, Entry};
use pg_tenancy_core::audit::log::snapshot::Snapshot;
use pg_tenancy_core::audit::verification::{BatchState, Finding, FindingKind, SeenBatch};
use pg_tenancy_core::error::{self, Result};
use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Whether it is worth while to look.
static ANY: Query = Query::new("SELECT EXISTS (SELECT FROM tenancy.archive WHERE NOT attached)");

/// The newest row of each month, unless it is attached again, with the event that tells of it: one that was written
/// with the row, has the same values, and is the last that the chain has about the month. Only after the end of a
/// month can it tell. The last two: transaction and hash of its batch.
static ARCHIVED: Query = Query::new(
    "WITH newest AS MATERIALIZED (
         SELECT a.*, tenancy.lowest_id(a.month::timestamp AT TIME ZONE 'UTC') AS first_id,
                tenancy.lowest_id((a.month + interval '1 month') AT TIME ZONE 'UTC') AS end_id
           FROM (SELECT DISTINCT ON (month) * FROM tenancy.archive ORDER BY month, changed_at DESC) a
          WHERE NOT a.attached),
     told AS MATERIALIZED (
         SELECT e.id, e.payload -> 'new' ->> 'month' AS month
           FROM tenancy.entry s CROSS JOIN LATERAL (SELECT * FROM tenancy.event f WHERE f.batch = s.batch OFFSET 0) e
          WHERE s.organization = '00000000-0000-0000-0000-000000000000'
            AND s.batch >= tenancy.lowest_id((SELECT min(n.changed_at) - interval '1 minute' FROM newest n))
            AND e.operation = 'insert' AND e.table_schema = 'tenancy' AND e.table_name = 'archive')
     SELECT to_char(a.month, 'YYYY_MM'), a.through_block, a.events, a.digest, a.first_id, a.end_id, e.id, \
     e.transaction, e.hash
       FROM newest a LEFT JOIN LATERAL (
            SELECT e.id, e.transaction, e.hash
              FROM tenancy.event e
             CROSS JOIN LATERAL (SELECT e.payload -> 'new') AS p (new)
             WHERE e.batch >= GREATEST(a.end_id, tenancy.lowest_id(a.changed_at - interval '1 minute'))
               AND e.batch < tenancy.lowest_id(a.changed_at + interval '1 minute')
               AND e.occurred_at >= (a.month + interval '1 month') AT TIME ZONE 'UTC'
               AND e.organization = '00000000-0000-0000-0000-000000000000' AND e.operation = 'insert'
               AND e.table_schema = 'tenancy' AND e.table_name = 'archive'
               AND p.new ->> 'digest' = a.digest::text
               AND p.new ->> 'month' = to_char(a.month, 'YYYY-MM-DD')
               AND p.new ->> 'events' = a.events::text
               AND p.new ->> 'through_block' = a.through_block::text
               AND p.new ->> 'attached' = a.attached::text
               AND p.new ->> 'reason' = a.reason
               AND p.new ->> 'exported_to' IS NOT DISTINCT FROM a.exported_to
               AND NOT EXISTS (SELECT FROM told t WHERE t.month = (p.new ->> 'month') AND t.id > e.id)
             ORDER BY e.id LIMIT 1) e ON true
      ORDER BY a.month",
);

/// Whether one of the batches that went is there.
static IS_THERE: Query = Query::new(
    "SELECT EXISTS (SELECT FROM tenancy.event_batch e
                     WHERE e.id >= $1 AND e.id < $2
                       AND (tenancy.place_of(e.id, e.organization, e.transaction))[1] <= $3)",
);

/// Rows that no event tells of, as one does that was written with the row. That of an older row of a month may be
/// archived since.
static UNRECORDED: Query = Query::new(
    "SELECT to_char(a.month, 'YYYY-MM'), to_char(a.changed_at AT TIME ZONE 'UTC', 'YYYY_MM')
       FROM tenancy.archive a
      WHERE NOT EXISTS (
            SELECT FROM tenancy.event e
             WHERE e.batch >= tenancy.lowest_id(a.changed_at - interval '1 minute')
               AND e.batch < tenancy.lowest_id(a.changed_at + interval '1 minute')
               AND e.organization = '00000000-0000-0000-0000-000000000000' AND e.operation = 'insert'
               AND e.table_schema = 'tenancy' AND e.table_name = 'archive'
               AND (e.payload -> 'new') ->> 'digest' = a.digest::text
               AND (e.payload -> 'new') ->> 'month' = to_char(a.month, 'YYYY-MM-DD')
               AND (e.payload -> 'new') ->> 'through_block' = a.through_block::text
               AND (e.payload -> 'new') ->> 'attached' = a.attached::text)",
);

/// What the seal has of the batches between two ids.
#[derive(Default)]
struct SealedRange {
    /// The number of events in these batches.
    events: i64,
    blocks: Option<(i64, i64)>,
    digest: EntriesDigest,
}

impl SealedRange {
    /// Adds the next entry, in the order of organization and leaf.
    fn add(&mut self, organization: Uuid, entry: &Entry) {
        self.digest.add(organization, entry);
        self.events += entry.events;
        let (first, last) = self.blocks.unwrap_or((entry.block, entry.block));
        self.blocks = Some((entry.block.min(first), entry.block.max(last)));
    }
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
    let given =
        |id, name| error::require_not_null(id, name).map(|id: pgrx::Uuid| Uuid::from_bytes(*id.as_bytes())).or_raise();
    let (from, to) = (given(from_event, "from_event"), given(to_event, "to_event"));
    let mut sealed = [((from, to, through_block.unwrap_or(i64::MAX)), SealedRange::default())];
    read_sealed(&mut sealed);
    let [(_, sealed)] = sealed;
    let (first, last) = sealed.blocks.unzip();
    TableIterator::once((sealed.events, first, last, sealed.digest.digest().to_vec()))
}

/// What the seal has of ranges: the lowest id, that after the last, and the last block. Reads all entries once: there
/// is no index by batch.
fn read_sealed(ranges: &mut [((Uuid, Uuid, i64), SealedRange)]) {
    let Some(through) = ranges.iter().map(|((.., through), _)| *through).max() else { return };
    seal::all_entries(through, |organization, entry| {
        for ((from, to, through), range) in &mut *ranges {
            if entry.block <= *through && (*from..*to).contains(&entry.batch) {
                range.add(organization, entry);
            }
        }
    });
}

/// A month that is archived.
#[derive(Debug, Clone, Serialize, Deserialize)]
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

/// The event that tells of an archive.
struct Teller {
    id: Uuid,
    transaction: u64,
    hash: Option<Digest>,
}

impl Teller {
    fn entry(&self, places: &mut Places) -> Option<Entry> {
        places.find(&Uuid::nil(), self.transaction, &batch_of(self.id))
    }

    /// True if the event is what was written, and is sealed as it is or has yet to be sealed.
    fn is_believed(&self, batches: &mut BatchReader, places: &mut Places, sealed: Option<&Snapshot>) -> Result<bool> {
        let waits = || sealed.is_some_and(|sealed| !sealed.is_over(self.transaction));
        let in_chain = self.entry(places).map_or_else(waits, |entry| Some(entry.batch_hash) == self.hash);
        Ok(in_chain && matches!(batches.find(&batch_of(self.id))?, BatchState::Seen(SeenBatch { fault: None, .. })))
    }

    /// True if the chain that the event is in has everything that came after it, but for what went with months that
    /// are known to be archived: what is gone could have told that the month was attached again.
    fn is_last_word(&self, batches: &mut BatchReader, places: &mut Places, known: &Archives) -> Result<bool> {
        let Some(entry) = self.entry(places) else { return Ok(true) };
        if !seal::is_whole_from(&Uuid::nil(), entry.block) {
            return Ok(false);
        }
        let (mut leaf, mut is_whole) = (entry.leaf, true);
        seal::entries_from(&Uuid::nil(), leaf + 1, |entry| {
            leaf += 1;
            is_whole = entry.leaf == leaf
                && match batches.find(&entry.batch)? {
                    BatchState::Seen(seen) => seen.fault.is_none() && entry.batch_hash == seen.hash,
                    BatchState::Gone => known.have(&entry.batch, entry.block),
                    BatchState::Archived | BatchState::Unreadable => false,
                };
            Ok(is_whole)
        })?;
        Ok(is_whole && leaf == seal::leaves_of(&Uuid::nil()))
    }
}

/// The months that are archived, as far as the chain tells of it: what stands in the table alone excuses nothing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Archives(Vec<Archive>);

impl Archives {
    pub fn read(found: &mut Vec<Finding>) -> Result<Self> {
        if ANY.read(&[], |row| row.get(1)) != [Some(true)] {
            return Ok(Archives(Vec::new()));
        }
        let read = |row: &Row| {
            let month: String = row.get(1)?;
            let has_partition = partition::is_there("event_batch", &month);
            let teller = || Some(Teller { id: row.uuid(7)?, transaction: row.transaction(8)?, hash: row.bytes(9) });
            let archive = Archive {
                month,
                through_block: row.get(2)?,
                events: row.get(3)?,
                digest: row.bytes(4),
                ids: (row.uuid(5)?, row.uuid(6)?),
                has_partition,
            };
            Some((archive, teller()))
        };
        let mut rows: Vec<_> = ARCHIVED.read(&[], read).into_iter().flatten().collect();
        let (mut archives, mut batches, mut places, sealed) =
            (Archives(Vec::new()), BatchReader::default(), Places::default(), state::sealed_until()?);
        // The newest first: events after an older one may have gone with the month of a newer one.
        rows.sort_by_key(|(_, teller)| std::cmp::Reverse(teller.as_ref().map(|teller| teller.id)));
        for (archive, teller) in rows {
            let month = archive.month.replace('_', "-");
            match teller {
                Some(teller) if teller.is_believed(&mut batches, &mut places, sealed.as_ref())? => {
                    // A month goes as a whole: one whose events are there excuses none that is not.
                    let is_away = !archive.is_there();
                    if is_away && teller.is_last_word(&mut batches, &mut places, &archives)? {
                        archives.0.push(archive);
                    } else if is_away {
                        let text = format!("events after the one that records the archive of {month} are missing");
                        found.push(Finding::anywhere(FindingKind::Missing, text));
                    }
                }
                _ => found.push(Finding::anywhere(FindingKind::Inserted, untold(&month))),
            }
        }
        Ok(archives)
    }

    /// Whether the month of an event is archived.
    pub fn have_month_of(&self, event: &Uuid) -> bool {
        self.of(event).is_some()
    }

    /// Whether the batch that a block sealed went with its month.
    pub fn have(&self, batch: &Uuid, block: i64) -> bool {
        self.of(batch).is_some_and(|archive| block <= archive.through_block)
    }

    /// Whether there is nowhere to look for the batch.
    pub fn have_away(&self, batch: &Uuid, block: i64) -> bool {
        self.have(batch, block) && self.of(batch).is_some_and(|archive| !archive.has_partition)
    }

    fn of(&self, event: &Uuid) -> Option<&Archive> {
        self.0.iter().find(|archive| (archive.ids.0..archive.ids.1).contains(event))
    }

    /// Archives that are not of what the seal has, or that nobody made.
    pub fn verify(&self, found: &mut Vec<Finding>) -> Result<()> {
        let range = |archive: &Archive| ((archive.ids.0, archive.ids.1, archive.through_block), SealedRange::default());
        let mut sealed: Vec<_> = self.0.iter().map(range).collect();
        read_sealed(&mut sealed);
        for (archive, (_, sealed)) in self.0.iter().zip(sealed) {
            if sealed.events != archive.events || Some(sealed.digest.digest()) != archive.digest {
                let text = format!(
                    "the archive of {} does not match the entries in tenancy.seal",
                    archive.month.replace('_', "-")
                );
                found.push(Finding::anywhere(FindingKind::Altered, text));
            }
        }
        let unrecorded = UNRECORDED.read(&[], |row| (row.get::<String>(1), row.get::<String>(2)));
        for (month, written) in unrecorded {
            if !self.0.iter().any(|archive| Some(&archive.month) == written.as_ref()) {
                let text = untold(&month.unwrap_or_default());
                if !found.iter().any(|found| found.explanation == text) {
                    found.push(Finding::anywhere(FindingKind::Inserted, text));
                }
            }
        }
        Ok(())
    }
}

impl Archive {
    /// True if events that went are there all the same: a dump attaches a partition by itself.
    fn is_there(&self) -> bool {
        let arguments = [spi::uuid(self.ids.0), spi::uuid(self.ids.1), argument(self.through_block)];
        self.has_partition && IS_THERE.read(&arguments, |row| row.get(1)).pop().flatten().unwrap_or(false)
    }
}

fn untold(month: &str) -> String {
    format!("no event records the archive of {month} with these values")
}
