//! `tenancy.row_index`: which batches may have events of a row.
//!
//! Runs cover the blocks from the first one on without a gap. What they do not cover is looked through: batches that no
//! block has sealed yet, and those of blocks without a run.
//!
//! Decision: `docs/decisions/60-row-index.md`.

use crate::audit::log::partitions::Partitions;
use crate::audit::log::seal::BlockEntries;
use crate::audit::log::state::{self, LogState, unreadable};
use crate::pg::report::OrRaise;
use crate::pg::spi::{self, Query, Row, argument};
use crate::pg::tables::scan::{Fields, Scan};
use crate::pg::tables::table::{self, ColumnValue, IndexKey};
use crate::pg::transaction;
use crate::pg::user;
use pg_tenancy_core::audit::format::batch_row::BatchColumn;
use pg_tenancy_core::audit::history::row_hash::{BYTES, RowHash};
use pg_tenancy_core::audit::history::row_index::{
    self, Coverage, ENTRY, EntrySum, FINAL_LEVEL, Intervals, MAX_ENTRIES, Run, RunBuilder, RunPlace, RunSize, StoredRun,
};
use pg_tenancy_core::audit::log::snapshot::Snapshot;
use pg_tenancy_core::audit::verification::{Finding, FindingKind, Range};
use pg_tenancy_core::error::{self, Error, Result};
use pgrx::pg_extern;
use rand::RngExt as _;
use std::collections::{BTreeSet, HashSet};
use uuid::Uuid;

static DELETE: Query = Query::new("DELETE FROM tenancy.row_index WHERE first_block BETWEEN $1 AND $2");

/// Of a block whose snapshot speaks of the transactions of the newest block.
static SNAPSHOT: Query = Query::new(
    "SELECT snapshot::text FROM tenancy.block
      WHERE number = $1 AND number >= (SELECT max(first_block) FROM tenancy.incarnation)",
);

/// What is read of a batch that may be looked for.
macro_rules! candidates {
    ($which:expr) => {
        concat!("SELECT e.id, e.table_schema, e.table_name, e.row_hashes FROM ", $which)
    };
}

/// Batches with an id in one of these ranges. `OFFSET 0`: each range by itself, which is one look-up in an index.
static IN_RANGES: Query = Query::new(candidates!(
    "unnest($1::uuid[], $2::uuid[]) r (lowest, highest) CROSS JOIN LATERAL (
        SELECT b.id, b.table_schema, b.table_name, b.row_hashes FROM tenancy.event_batch b
         WHERE b.id BETWEEN r.lowest AND r.highest OFFSET 0) e"
));

/// Batches of transactions that were not over at a moment: in progress, or not begun. A restored batch can have the id
/// of a transaction that is yet to come.
const NOT_OVER: &str = concat!(
    candidates!("tenancy.event_batch e WHERE e.transaction = ANY ($1::xid8[]) AND e.transaction < $2::xid8"),
    " UNION ALL ",
    candidates!("tenancy.event_batch e WHERE e.transaction >= $2::xid8 AND e.transaction < $3::xid8")
);

const ALL: &str = candidates!("tenancy.event_batch e WHERE e.row_hashes IS NOT NULL");

/// The hashes of batches that are not in the partition that their ids say.
const ELSEWHERE: &str = "SELECT e.id, e.row_hashes FROM tenancy.event_batch e WHERE e.id = ANY ($1::uuid[])";

/// How many ids or ranges go into a query.
const AT_ONCE: usize = 10_000;

/// How many entries a sealer writes at most before it leaves the rest to the next one, where blocks have no run.
const PER_SEAL: usize = MAX_ENTRIES;

/// After how many blocks it does, if they have few events.
const BLOCKS_PER_SEAL: i64 = 10_000;

/// A batch that may have events of a row.
pub struct Candidate {
    pub batch: Uuid,
    /// The table of its events.
    pub table: Option<(String, String)>,
}

/// A row of `tenancy.row_index` without its entries.
#[derive(Clone, Copy)]
struct Header {
    place: RunPlace,
    size: RunSize,
    intervals: Intervals,
}

const ENTRIES: usize = 8;

fn header(fields: &Fields) -> Option<Header> {
    let place = RunPlace {
        first_block: fields.big_integer(1)?,
        part: fields.integer(2)?.try_into().ok()?,
        parts: fields.integer(3)?.try_into().ok()?,
        last_block: fields.big_integer(4)?,
    };
    let intervals = Intervals { first: fields.big_integer(6)?, shift: fields.small_integer(7)? };
    let bytes = fields.length(ENTRIES)?;
    let size = RunSize { level: fields.small_integer(5)?, entries: bytes / ENTRY };
    (bytes.is_multiple_of(ENTRY) && !intervals.are_invalid()).then_some(Header { place, size, intervals })
}

fn runs_from(first_block: i64) -> Scan {
    Scan::by_index(c"row_index", c"row_index_pkey", &[IndexKey::big_integer(1, first_block).or_more()])
}

/// The entries of the row that a scan stands on.
struct InTable<'f, 's> {
    fields: &'f Fields<'s>,
    entries: usize,
}

impl StoredRun for InTable<'_, '_> {
    fn count(&self) -> usize {
        self.entries
    }

    fn read(&mut self, first: usize, count: usize) -> Vec<u64> {
        let bytes = self.fields.slice(ENTRIES, first * ENTRY, count * ENTRY);
        row_index::entries(bytes.unwrap_or_default()).collect()
    }
}

/// The batches that have one of these hashes, seen with the active snapshot.
pub fn candidates(hashes: &BTreeSet<RowHash>) -> Result<Vec<Candidate>> {
    user::as_superuser(|| {
        let state = state::state()?;
        let (ranges, until) = look_up(hashes, state.last.as_ref().map_or(0, |last| last.number));
        let mut found = Candidates { hashes, seen: HashSet::new(), found: Vec::new() };
        for ranges in ranges.chunks(AT_ONCE) {
            let ids = |end: fn(&(Uuid, Uuid)) -> Uuid| argument(ranges.iter().map(end).map(to_pg).collect::<Vec<_>>());
            IN_RANGES.read_by_index(&[ids(|range| range.0), ids(|range| range.1)], |row| found.add(row));
        }
        let mut add = |row: &Row| {
            found.add(row);
            Ok::<(), Error>(())
        };
        match sealed_until(&state, until) {
            Some(sealed) => {
                let now = state::now()?.end();
                let end = now.max(transaction::id_if_any().map_or(0, |own| own + 1)).max(sealed.end());
                let arguments = [sealed.in_progress(), sealed.end().to_string(), end.to_string()].map(argument);
                spi::stream(NOT_OVER, &arguments, &mut add)?;
            }
            None => spi::stream(ALL, &[], &mut add)?,
        }
        Ok(found.found)
    })
}

/// Looks into the runs: the ranges of ids, and the last block that the runs cover.
fn look_up(hashes: &BTreeSet<RowHash>, newest: i64) -> (Vec<(Uuid, Uuid)>, i64) {
    let (mut coverage, mut ranges) = (Coverage::default(), Vec::new());
    let mut runs = runs_from(i64::MIN);
    while let Some(fields) = runs.next() {
        let Some(run) = header(&fields).filter(|run| coverage.accept(run.place, newest)) else { break };
        for hash in hashes.iter().filter(|hash| row_index::part_of(**hash, run.place.parts) == run.place.part) {
            let found = row_index::find(&mut InTable { fields: &fields, entries: run.size.entries }, *hash);
            ranges.extend(found.into_iter().map(|entry| run.intervals.ids(entry)));
        }
        transaction::check_for_interrupts();
    }
    ranges.sort_unstable();
    ranges.dedup_by(|next, before| {
        let overlaps = next.0 <= before.1;
        if overlaps {
            before.1 = before.1.max(next.1);
        }
        overlaps
    });
    (ranges, coverage.until())
}

/// Which transactions were over at a block; `None` if its snapshot does not speak of the transactions of today.
fn sealed_until(state: &LogState, block: i64) -> Option<Snapshot> {
    let last = state.last.as_ref().filter(|_| state.same_xid_space)?;
    if last.number == block {
        return Some(last.snapshot.clone());
    }
    let snapshot = SNAPSHOT.read(&[argument(block)], |row| row.get::<String>(1)).pop().flatten()?;
    snapshot.parse().ok()
}

struct Candidates<'h> {
    hashes: &'h BTreeSet<RowHash>,
    seen: HashSet<Uuid>,
    found: Vec<Candidate>,
}

impl Candidates<'_> {
    fn add(&mut self, row: &Row) {
        let has_one =
            row.get::<&[u8]>(4).is_some_and(|hashes| hashes_in(hashes).any(|hash| self.hashes.contains(&hash)));
        if let Some(batch) = row.uuid(1).filter(|batch| has_one && self.seen.insert(*batch)) {
            self.found.push(Candidate { batch, table: row.get(2).zip(row.get(3)) });
        }
    }
}

fn hashes_in(bytes: &[u8]) -> impl Iterator<Item = RowHash> {
    bytes.as_chunks::<BYTES>().0.iter().map(|hash| RowHash::from_be_bytes(*hash))
}

/// An array of ids for a query.
pub fn to_pg(id: Uuid) -> pgrx::Uuid {
    pgrx::Uuid::from_bytes(*id.as_bytes())
}

/// Reads the hashes of the batches of blocks.
struct Hashes {
    entries: BlockEntries,
    batches: Partitions,
}

impl Hashes {
    fn open() -> Self {
        Hashes { entries: BlockEntries::open(), batches: Partitions::of_batches() }
    }

    /// Hands each hash of a block to `each`, with the id of its batch, until it says that it is enough.
    fn of_block(&mut self, block: i64, mut each: impl FnMut(RowHash, &Uuid) -> bool) -> Result<()> {
        let mut ids = Vec::new();
        self.entries.of_block(block, |id| ids.push(id));
        ids.sort_unstable();
        let mut elsewhere = Vec::new();
        for (number, id) in ids.iter().enumerate() {
            match self.batches.find_in_place(id) {
                Some(fields) => {
                    let hashes = fields.bytes(BatchColumn::RowHashes.number()).unwrap_or_default();
                    if !hashes_in(hashes).all(|hash| each(hash, id)) {
                        return Ok(());
                    }
                }
                None => elsewhere.push(*id),
            }
            if number % 1000 == 0 {
                transaction::check_for_interrupts();
            }
        }
        for ids in elsewhere.chunks(AT_ONCE) {
            let ids: Vec<pgrx::Uuid> = ids.iter().copied().map(to_pg).collect();
            spi::stream(ELSEWHERE, &[argument(ids)], |row| {
                let hashes = row.get::<&[u8]>(2).unwrap_or_default();
                let id = row.uuid(1).unwrap_or_default();
                hashes_in(hashes).all(|hash| each(hash, &id));
                Ok::<(), Error>(())
            })?;
        }
        Ok(())
    }
}

/// Makes runs of the blocks that have none, and merges runs. Called by the sealer, which nobody writing waits for.
pub fn extend() -> Result<()> {
    extend_by(PER_SEAL, BLOCKS_PER_SEAL).map(drop)
}

/// At most of so many blocks and about so many entries; returns how many entries were added.
fn extend_by(most_entries: usize, most_blocks: i64) -> Result<usize> {
    let mut index = Extension::begin()?;
    let end = index.newest.min(index.until.saturating_add(most_blocks));
    let mut added = 0;
    while index.until < end && added < most_entries {
        added += index.add_run(end)?;
        index.merge()?;
    }
    Ok(added)
}

/// The runs, to which further ones are added.
struct Extension {
    newest: i64,
    until: i64,
    /// The oldest first.
    runs: Vec<Header>,
}

impl Extension {
    /// Reads which runs there are. Those that cover nothing go.
    fn begin() -> Result<Self> {
        transaction::next_command();
        let (mut index, is_whole) = transaction::with_latest_snapshot(|| {
            let newest = state::last_block()?.map_or(0, |last| last.number);
            let (mut coverage, mut runs, mut is_whole) = (Coverage::default(), Vec::new(), true);
            let mut rows = runs_from(i64::MIN);
            while let Some(fields) = rows.next() {
                match header(&fields).filter(|run| coverage.accept(run.place, newest)) {
                    Some(run) => runs.push(run),
                    None => {
                        is_whole = false;
                        break;
                    }
                }
            }
            is_whole &= !coverage.is_cut_off();
            Ok::<_, Error>((Extension { newest, until: coverage.until(), runs }, is_whole))
        })?;
        if !is_whole {
            index.runs.retain(|run| run.place.last_block <= index.until);
            let kept = index.runs.first().map_or(i64::MAX, |run| run.place.first_block);
            DELETE.write(&[argument(i64::MIN), argument(kept.saturating_sub(1))], |_| ());
            DELETE.write(&[argument(index.until + 1), argument(i64::MAX)], |_| ());
            transaction::next_command();
        }
        Ok(index)
    }

    /// Makes one run of the next blocks, up to `end`; returns its number of entries.
    fn add_run(&mut self, end: i64) -> Result<usize> {
        let first = self.until + 1;
        let (mut builder, mut last) = (RunBuilder::default(), self.until);
        transaction::with_latest_snapshot(|| {
            let mut hashes = Hashes::open();
            while last < end && !builder.is_final() {
                let before = builder.len();
                hashes.of_block(last + 1, |hash, id| {
                    builder.add(hash, row_index::time_of(id));
                    !builder.is_too_large()
                })?;
                if builder.is_too_large() {
                    builder.truncate(before);
                    break;
                }
                last += 1;
            }
            Ok::<(), Error>(())
        })?;
        if last < first {
            return self.add_parts(first);
        }
        let place = RunPlace { first_block: first, last_block: last, part: 0, parts: 1 };
        let (entries, level) = (builder.len(), row_index::level_of(builder.len()));
        self.write(place, level, &builder.finish());
        Ok(entries)
    }

    /// Makes runs of a block that has too many entries for one. It is read once for each part, so that memory has one
    /// of them.
    fn add_parts(&mut self, block: i64) -> Result<usize> {
        let of_block = |each: &mut dyn FnMut(RowHash, &Uuid)| {
            transaction::with_latest_snapshot(|| {
                Hashes::open().of_block(block, |hash, id| {
                    each(hash, id);
                    true
                })
            })
        };
        let mut entries = 0;
        of_block(&mut |_, _| entries += 1)?;
        let parts = row_index::parts_for(entries);
        for part in 0..parts {
            let mut builder = RunBuilder::default();
            of_block(&mut |hash, id| {
                if row_index::part_of(hash, parts) == part {
                    builder.add(hash, row_index::time_of(id));
                }
            })?;
            let place = RunPlace { first_block: block, last_block: block, part, parts };
            self.write(place, FINAL_LEVEL, &builder.finish());
        }
        Ok(entries)
    }

    fn write(&mut self, place: RunPlace, level: i16, run: &Run) {
        table::insert(
            c"row_index",
            &[
                ColumnValue::BigInteger(place.first_block),
                ColumnValue::Integer(place.part as i32),
                ColumnValue::Integer(place.parts as i32),
                ColumnValue::BigInteger(place.last_block),
                ColumnValue::SmallInteger(level),
                ColumnValue::BigInteger(run.intervals.first),
                ColumnValue::SmallInteger(run.intervals.shift),
                ColumnValue::Bytes(&run.entries),
            ],
        );
        let size = RunSize { level, entries: run.entries.len() / ENTRY };
        self.runs.push(Header { place, size, intervals: run.intervals });
        self.until = place.last_block;
    }

    /// Merges the newest runs as long as that is due.
    fn merge(&mut self) -> Result<()> {
        loop {
            let sizes: Vec<RunSize> = self.runs.iter().rev().map(|run| run.size).collect();
            let Some((count, level)) = row_index::due(&sizes) else { return Ok(()) };
            let merged = self.runs.split_off(self.runs.len() - count);
            let (Some(first), Some(last)) = (merged.first(), merged.last()) else { return Ok(()) };
            let place = RunPlace { last_block: last.place.last_block, ..first.place };
            let run = Run::merge(&read_runs(place)?);
            DELETE.write(&[argument(place.first_block), argument(place.last_block)], |_| ());
            transaction::next_command();
            self.write(place, level, &run);
        }
    }
}

/// The runs between two blocks, with their entries.
fn read_runs(place: RunPlace) -> Result<Vec<Run>> {
    transaction::next_command();
    transaction::with_latest_snapshot(|| {
        let (mut rows, mut runs) = (runs_from(place.first_block), Vec::new());
        while let Some(fields) = rows.next() {
            let header = header(&fields).ok_or_else(|| unreadable("a row of tenancy.row_index"))?;
            if header.place.first_block > place.last_block {
                break;
            }
            let entries = fields.bytes(ENTRIES).unwrap_or_default().to_vec();
            runs.push(Run { intervals: header.intervals, entries });
        }
        Ok(runs)
    })
}

/// `tenancy.rebuild_row_index()`.
#[pg_extern(sql = false)]
fn tenancy_rebuild_row_index() -> i64 {
    rebuild().or_raise()
}

fn rebuild() -> Result<i64> {
    if transaction::read_only() {
        return Err(error::READ_ONLY.error("nothing can be indexed on a standby or in a READ ONLY transaction"));
    }
    table::keep_extension();
    state::keep_sealers_away();
    DELETE.write(&[argument(i64::MIN), argument(i64::MAX)], |_| ());
    extend_by(usize::MAX, i64::MAX).map(|entries| entries as i64)
}

/// Compares the runs over blocks of the range with the batches that these blocks sealed. Of months that are archived
/// nothing can be said; `is_archived` tells whether an id is of one. Neither can it where a block, or the one before,
/// has a finding already: what it sealed is not certain.
pub fn verify(range: Range, is_archived: &dyn Fn(&Uuid) -> bool, found: &mut Vec<Finding>) -> Result<()> {
    let uncertain: BTreeSet<i64> = found.iter().filter_map(|found| found.block).collect();
    let is_uncertain = |run: &RunPlace| uncertain.range(run.first_block - 1..=run.last_block).next().is_some();
    let key = rand::rng().random();
    let newest = state::last_block()?.map_or(0, |last| last.number);
    let (mut coverage, mut hashes, mut runs) = (Coverage::default(), Hashes::open(), runs_from(i64::MIN));
    // The parts of the same blocks.
    let mut parts: Vec<ComparedRun> = Vec::new();
    while let Some(fields) = runs.next() {
        let Some(run) = header(&fields).filter(|run| coverage.accept(run.place, newest)) else {
            let block = fields.big_integer(1).unwrap_or_default();
            found.push(finding(block, "is not the one that follows the run before it, or has an invalid value"));
            return Ok(());
        };
        let is_within = run.place.first_block >= range.first && run.place.last_block <= range.last;
        if !is_within || is_uncertain(&run.place) {
            continue;
        }
        let mut compared = ComparedRun { run, stored: EntrySum::new(key), computed: EntrySum::new(key) };
        if !compared.read(fields.bytes(ENTRIES).unwrap_or_default(), is_archived) {
            found.push(finding(run.place.first_block, "has entries that are not in their order"));
        }
        parts.push(compared);
        if coverage.is_cut_off() {
            continue;
        }
        for block in run.place.first_block..=run.place.last_block {
            hashes.of_block(block, |hash, id| {
                let part = row_index::part_of(hash, run.place.parts) as usize;
                parts[part].add(hash, id, is_archived);
                true
            })?;
        }
        for compared in parts.drain(..).filter(|compared| !compared.stored.agrees(&compared.computed)) {
            let text = format!(
                "has {} entries, which are not the {} of the batches of its blocks",
                compared.stored.count, compared.computed.count
            );
            found.push(finding(compared.run.place.first_block, &text));
        }
    }
    if coverage.is_cut_off() {
        found.push(finding(coverage.until() + 1, "is one part of several, of which others are missing"));
    }
    Ok(())
}

fn finding(block: i64, text: &str) -> Finding {
    let text = format!("the run of tenancy.row_index from block {block} on {text}");
    Finding::in_block(FindingKind::Altered, block, text)
}

/// A run, with the sums over its entries and over those that it should have.
struct ComparedRun {
    run: Header,
    stored: EntrySum,
    computed: EntrySum,
}

impl ComparedRun {
    /// Takes the stored entries in; false if they are not in order.
    fn read(&mut self, bytes: &[u8], is_archived: &dyn Fn(&Uuid) -> bool) -> bool {
        let (mut before, mut in_order) = (0, true);
        for entry in row_index::entries(bytes) {
            in_order &= before <= entry;
            before = entry;
            if !self.is_archived(entry, is_archived) {
                self.stored.add(entry);
            }
        }
        in_order
    }

    fn add(&mut self, hash: RowHash, id: &Uuid, is_archived: &dyn Fn(&Uuid) -> bool) {
        let entry = self.run.intervals.entry(hash, row_index::time_of(id));
        if !self.is_archived(entry, is_archived) {
            self.computed.add(entry);
        }
    }

    /// True if a batch of the entry can be of a month that is archived.
    fn is_archived(&self, entry: u64, is_archived: &dyn Fn(&Uuid) -> bool) -> bool {
        let (lowest, highest) = self.run.intervals.ids(entry);
        is_archived(&lowest) || is_archived(&highest)
    }
}
