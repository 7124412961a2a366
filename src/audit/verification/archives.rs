//! Months whose events are not in the database: what is known of them, and what the seal has of them.
//!
//! Decisions: `docs/decisions/44-archive-proof.md`, `docs/decisions/47-monthly-retention.md`.

use super::EventReader;
use crate::audit::capture::partition;
use crate::audit::log::state;
use crate::pg::report::OrRaise;
use crate::pg::spi::{self, Query, Row, argument};
use pg_tenancy_core::audit::format::encoding::Digest;
use pg_tenancy_core::audit::log::block::Entries;
use pg_tenancy_core::audit::log::chain::Entry;
use pg_tenancy_core::audit::log::snapshot::Snapshot;
use pg_tenancy_core::audit::verification::{EventState, Finding, FindingKind, SeenEvent};
use pg_tenancy_core::error::{self, Result};
use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Whether it is worth while to look.
static ANY: Query = Query::new("SELECT EXISTS (SELECT FROM tenancy.archive WHERE NOT attached)");

/// The newest row of each month, unless it is attached again, with the event that tells of it: one that was written
/// with the row, has the same values, and is the last that the chain has about the month. Only after the end of a
/// month can it tell. The last two: its transaction, and whether the seal has it as it is (`NULL` where it does not
/// have it).
static ARCHIVED: Query = Query::new(
    "WITH newest AS MATERIALIZED (
         SELECT a.*, tenancy.lowest_id(a.month::timestamp AT TIME ZONE 'UTC') AS first_id,
                tenancy.lowest_id((a.month + interval '1 month') AT TIME ZONE 'UTC') AS end_id
           FROM (SELECT DISTINCT ON (month) * FROM tenancy.archive ORDER BY month, changed_at DESC) a
          WHERE NOT a.attached),
     told AS MATERIALIZED (
         SELECT e.id, e.payload -> 'new' ->> 'month' AS month
           FROM tenancy.seal s JOIN tenancy.event e ON e.id = s.event
          WHERE s.organization = '00000000-0000-0000-0000-000000000000'
            AND s.event >= tenancy.lowest_id((SELECT min(n.changed_at) - interval '1 minute' FROM newest n))
            AND e.operation = 'insert' AND e.table_schema = 'tenancy' AND e.table_name = 'archive')
     SELECT to_char(a.month, 'YYYY_MM'), a.through_block, a.events, a.digest, a.first_id, a.end_id, e.id, \
     e.transaction, e.sealed
       FROM newest a LEFT JOIN LATERAL (
            SELECT e.id, e.transaction, s.event_hash = e.hash AS sealed
              FROM tenancy.event e LEFT JOIN tenancy.seal s ON s.event = e.id
             CROSS JOIN LATERAL (SELECT e.payload -> 'new') AS p (new)
             WHERE e.id >= GREATEST(a.end_id, tenancy.lowest_id(a.changed_at - interval '1 minute'))
               AND e.id < tenancy.lowest_id(a.changed_at + interval '1 minute')
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

/// Whether one of the events that went is there.
static IS_THERE: Query = Query::new(
    "SELECT EXISTS (SELECT FROM tenancy.seal s JOIN tenancy.event e ON e.id = s.event
                     WHERE s.event >= $1 AND s.event < $2 AND s.block <= $3)",
);

/// Rows that no event tells of, as one does that was written with the row. That of an older row of a month may be
/// archived since.
static UNRECORDED: Query = Query::new(
    "SELECT to_char(a.month, 'YYYY-MM'), to_char(a.changed_at AT TIME ZONE 'UTC', 'YYYY_MM')
       FROM tenancy.archive a
      WHERE NOT EXISTS (
            SELECT FROM tenancy.event e
             WHERE e.id >= tenancy.lowest_id(a.changed_at - interval '1 minute')
               AND e.id < tenancy.lowest_id(a.changed_at + interval '1 minute')
               AND e.organization = '00000000-0000-0000-0000-000000000000' AND e.operation = 'insert'
               AND e.table_schema = 'tenancy' AND e.table_name = 'archive'
               AND (e.payload -> 'new') ->> 'digest' = a.digest::text
               AND (e.payload -> 'new') ->> 'month' = to_char(a.month, 'YYYY-MM-DD')
               AND (e.payload -> 'new') ->> 'through_block' = a.through_block::text
               AND (e.payload -> 'new') ->> 'attached' = a.attached::text)",
);

const ENTRIES: &str = "SELECT organization, position, event, event_hash, chain, block FROM tenancy.seal
      WHERE event >= $1 AND event < $2 AND block <= $3
      ORDER BY organization, position";

/// What the seal has of the events between two ids.
struct SealedRange {
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
    let given =
        |id, name| error::require_not_null(id, name).map(|id: pgrx::Uuid| Uuid::from_bytes(*id.as_bytes())).or_raise();
    let (from, to) = (given(from_event, "from_event"), given(to_event, "to_event"));
    let sealed = sealed(from, to, through_block.unwrap_or(i64::MAX)).or_raise();
    let (first, last) = sealed.blocks.unzip();
    TableIterator::once((sealed.events, first, last, sealed.digest.to_vec()))
}

fn sealed(from: Uuid, to: Uuid, through_block: i64) -> Result<SealedRange> {
    let (mut entries, mut blocks) = (Entries::default(), None);
    spi::stream(ENTRIES, &[spi::uuid(from), spi::uuid(to), argument(through_block)], |row| {
        let (organization, entry) =
            entry(row).ok_or_else(|| error::STATE_INVALID.error("a row of tenancy.seal cannot be read"))?;
        entries.add(organization, &entry);
        let (first, last) = blocks.unwrap_or((entry.block, entry.block));
        blocks = Some((entry.block.min(first), entry.block.max(last)));
        Ok::<(), error::Error>(())
    })?;
    Ok(SealedRange { events: entries.count(), blocks, digest: entries.digest() })
}

fn entry(row: &Row) -> Option<(Uuid, Entry)> {
    let (event_hash, chain) = (row.bytes(4)?, row.bytes(5)?);
    let entry = Entry { position: row.get(2)?, event: row.uuid(3)?, event_hash, chain, block: row.get(6)? };
    Some((row.uuid(1)?, entry))
}

/// The entries of the chain of no organization after that of an event: position, event, its hash, block.
const AFTER: &str = "SELECT s.position, s.event, s.event_hash, s.block FROM tenancy.seal s
      WHERE s.organization = '00000000-0000-0000-0000-000000000000'
        AND s.position > (SELECT t.position FROM tenancy.seal t WHERE t.event = $1)
      ORDER BY s.position";

/// The position of an event in that chain, and that of its newest head.
static PLACE: Query = Query::new(
    "SELECT (SELECT t.position FROM tenancy.seal t WHERE t.event = $1),
            (SELECT h.position FROM tenancy.head h WHERE h.organization = '00000000-0000-0000-0000-000000000000'
              ORDER BY h.block DESC LIMIT 1)",
);

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
    /// Whether the seal has it as it is; `None` where it does not have it at all.
    sealed: Option<bool>,
}

impl Teller {
    /// True if the event is what was written, and is sealed or has yet to be.
    fn is_believed(&self, events: &mut EventReader, sealed: Option<&Snapshot>) -> Result<bool> {
        let waits = || sealed.is_some_and(|sealed| !sealed.is_over(self.transaction));
        let in_chain = self.sealed.unwrap_or_else(waits);
        Ok(in_chain && matches!(events.find(&self.id)?, EventState::Seen(SeenEvent { fault: None, .. })))
    }

    /// True if the chain that the event is in has everything that came after it, but for what went with months that
    /// are known to be archived: what is gone could have told that the month was attached again.
    fn is_last_word(&self, events: &mut EventReader, known: &Archives) -> Result<bool> {
        if self.sealed.is_none() {
            return Ok(true);
        }
        let place = PLACE.read(&[spi::uuid(self.id)], |row| (row.get::<i64>(1), row.get::<i64>(2))).pop();
        let Some((Some(mut position), Some(newest))) = place else { return Ok(false) };
        // Gathered first: the memory of a batch of rows is gone after it, and what looks for events keeps scans open.
        let mut after = Vec::new();
        spi::stream(AFTER, &[spi::uuid(self.id)], |row| {
            after.push((
                row.get::<i64>(1),
                row.uuid(2).unwrap_or_default(),
                row.bytes::<32>(3),
                row.get(4).unwrap_or_default(),
            ));
            Ok::<(), error::Error>(())
        })?;
        for (place, id, hash, block) in after {
            position += 1;
            let is_whole = match events.find(&id)? {
                EventState::Seen(seen) => seen.fault.is_none() && hash == Some(seen.hash),
                EventState::Gone => known.have(&id, block),
                EventState::Archived | EventState::Unreadable => false,
            };
            if place != Some(position) || !is_whole {
                return Ok(false);
            }
        }
        Ok(position == newest)
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
            let has_partition = partition::is_there("event", &month);
            let teller = || Some(Teller { id: row.uuid(7)?, transaction: row.transaction(8)?, sealed: row.get(9) });
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
        let (mut archives, mut events, sealed) = (Archives(Vec::new()), EventReader::default(), state::sealed_until()?);
        // The newest first: events after an older one may have gone with the month of a newer one.
        rows.sort_by_key(|(_, teller)| std::cmp::Reverse(teller.as_ref().map(|teller| teller.id)));
        for (archive, teller) in rows {
            let month = archive.month.replace('_', "-");
            match teller {
                Some(teller) if teller.is_believed(&mut events, sealed.as_ref())? => {
                    // A month goes as a whole: one whose events are there excuses none that is not.
                    let is_away = !archive.is_there();
                    if is_away && teller.is_last_word(&mut events, &archives)? {
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
    pub fn verify(&self, found: &mut Vec<Finding>) -> Result<()> {
        for archive in &self.0 {
            let sealed = sealed(archive.ids.0, archive.ids.1, archive.through_block)?;
            if sealed.events != archive.events || Some(sealed.digest) != archive.digest {
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
