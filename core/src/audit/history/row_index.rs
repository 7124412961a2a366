//! The index over the hashes of row keys: runs, their merging, and the look-up in one.
//!
//! A run covers a range of blocks. It has an entry for each hash of each batch that these blocks sealed: the hash and,
//! in place of the batch, a short interval of time in which its id was made. Entries are sorted.
//!
//! Decision: `docs/decisions/60-row-index.md`.

use super::row_hash::RowHash;
use uuid::Uuid;

/// The bytes of an entry: the hash, and the distance of the interval from the first one of the run.
pub const ENTRY: usize = 8;

/// The most entries of a run that is written. A block with more has several runs, each for a part of the hashes.
pub const MAX_ENTRIES: usize = 1 << 21;

/// From how many entries on a run is never merged again: two of them would be too large.
const FINAL: usize = MAX_ENTRIES / 2;

/// The level of a run that is never merged.
pub const FINAL_LEVEL: i16 = 100;

/// How many runs of a level are merged into one of the next.
const FAN: usize = 32;

/// How many entries a run of each level has when it is made of one block: from so many on it is of the next level.
const LEVELS: [usize; 2] = [1 << 11, 1 << 16];

/// The time of an id, in units of 2^-12 milliseconds: what ids of version 7 begin with.
pub fn time_of(id: &Uuid) -> u64 {
    let id = id.as_u128();
    ((id >> 80) as u64) << 12 | (id >> 64) as u64 & 0xfff
}

/// The lowest id of a time.
fn lowest_id(time: u64) -> u128 {
    u128::from(time >> 12) << 80 | 7 << 76 | u128::from(time & 0xfff) << 64
}

/// How a run stores times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intervals {
    /// Number of the first interval.
    pub first: i64,
    /// An interval has 2 to this power units of time.
    pub shift: i16,
}

impl Intervals {
    /// The shortest intervals, at least of this `shift`, with which the times have distances of 32 bits.
    pub fn over(from: u64, to: u64, shift: i16) -> Self {
        let fits = |shift: &i16| (to >> shift) - (from >> shift) <= u64::from(u32::MAX);
        let shift = (shift.clamp(0, 60)..60).find(fits).unwrap_or(60);
        Intervals { first: (from >> shift) as i64, shift }
    }

    /// True for values that no run is written with.
    pub fn are_invalid(self) -> bool {
        !(0..=60).contains(&self.shift) || !(0..=i64::MAX >> 2).contains(&self.first)
    }

    /// The entry of a hash at a time, which the intervals are over.
    pub fn entry(self, hash: RowHash, time: u64) -> u64 {
        let distance = (time >> self.shift).wrapping_sub(self.first as u64);
        u64::from(hash) << 32 | distance & u64::from(u32::MAX)
    }

    /// The first and the last time of the interval of an entry.
    fn times(self, entry: u64) -> (u64, u64) {
        let interval = (self.first as u64).saturating_add(entry & u64::from(u32::MAX));
        // Times have 60 bits.
        let from = interval.checked_shl(self.shift as u32).unwrap_or(u64::MAX) & (u64::MAX >> 4);
        (from, from | ((1 << self.shift) - 1))
    }

    /// The lowest and the highest id that the interval of an entry has.
    pub fn ids(self, entry: u64) -> (Uuid, Uuid) {
        let (from, to) = self.times(entry);
        (Uuid::from_u128(lowest_id(from)), Uuid::from_u128(lowest_id(to) | u128::from(u64::MAX)))
    }
}

/// Entries that become a run.
#[derive(Debug, Default)]
pub struct RunBuilder {
    entries: Vec<(RowHash, u64)>,
}

impl RunBuilder {
    /// Adds the hash of a key at the time of a batch.
    pub fn add(&mut self, hash: RowHash, time: u64) {
        self.entries.push((hash, time));
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes the newest entries away again.
    pub fn truncate(&mut self, len: usize) {
        self.entries.truncate(len);
    }

    /// True if these are more than one run may have.
    pub fn is_too_large(&self) -> bool {
        self.entries.len() > MAX_ENTRIES
    }

    /// True if a run of these is never merged again.
    pub fn is_final(&self) -> bool {
        self.entries.len() >= FINAL
    }

    /// The run.
    pub fn finish(self) -> Run {
        let times = || self.entries.iter().map(|(_, time)| *time);
        let intervals = Intervals::over(times().min().unwrap_or(0), times().max().unwrap_or(0), 0);
        let mut entries: Vec<u64> = self.entries.iter().map(|(hash, time)| intervals.entry(*hash, *time)).collect();
        entries.sort_unstable();
        Run::new(intervals, &entries)
    }
}

/// A run as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// How it stores times.
    pub intervals: Intervals,
    /// The entries in ascending order, each with its highest byte first.
    pub entries: Vec<u8>,
}

impl Run {
    fn new(intervals: Intervals, entries: &[u64]) -> Self {
        Run { intervals, entries: entries.iter().flat_map(|entry| entry.to_be_bytes()).collect() }
    }

    /// One run with the entries of several.
    pub fn merge(runs: &[Run]) -> Self {
        let bounds = |run: &Run| {
            let distances = entries(&run.entries).map(|entry| entry & u64::from(u32::MAX));
            let (least, most) = distances.fold((u64::MAX, 0), |(least, most), it| (least.min(it), most.max(it)));
            (least <= most).then(|| (run.intervals.times(least).0, run.intervals.times(most).1))
        };
        let bounds: Vec<(u64, u64)> = runs.iter().filter_map(bounds).collect();
        let from = bounds.iter().map(|(from, _)| *from).min().unwrap_or(0);
        let to = bounds.iter().map(|(_, to)| *to).max().unwrap_or(0);
        let shift = runs.iter().map(|run| run.intervals.shift).max().unwrap_or(0);
        let intervals = Intervals::over(from, to, shift);
        let mut merged = Vec::with_capacity(runs.iter().map(|run| run.entries.len() / ENTRY).sum());
        for run in runs {
            merged.extend(
                entries(&run.entries)
                    .map(|entry| intervals.entry((entry >> 32) as RowHash, run.intervals.times(entry).0)),
            );
        }
        // Runs that follow each other in one array, which this sort makes use of.
        merged.sort();
        Run::new(intervals, &merged)
    }
}

/// The entries of a stored run.
pub fn entries(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.as_chunks::<ENTRY>().0.iter().map(|entry| u64::from_be_bytes(*entry))
}

/// Which blocks a run is of, and which of their hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunPlace {
    /// The first block.
    pub first_block: i64,
    /// The last block.
    pub last_block: i64,
    /// The part, from 0.
    pub part: u32,
    /// Into how many parts the hashes of these blocks are cut.
    pub parts: u32,
}

/// Up to which block runs that follow each other cover all blocks. What comes after a gap covers nothing.
#[derive(Debug, Default)]
pub struct Coverage {
    until: i64,
    /// The part before, of blocks of which further parts are needed.
    begun: Option<RunPlace>,
}

impl Coverage {
    /// True if the run is the next one. `newest` is the newest block.
    pub fn accept(&mut self, run: RunPlace, newest: i64) -> bool {
        let is_next = match self.begun {
            None => run.part == 0 && run.first_block == self.until + 1 && run.last_block >= run.first_block,
            Some(before) => run == RunPlace { part: before.part + 1, ..before },
        };
        if !is_next || run.part >= run.parts || run.last_block > newest {
            return false;
        }
        self.begun = (run.part + 1 < run.parts).then_some(run);
        if self.begun.is_none() {
            self.until = run.last_block;
        }
        true
    }

    /// The last block that is covered.
    pub fn until(&self) -> i64 {
        self.until
    }

    /// True if parts of the last blocks are missing.
    pub fn is_cut_off(&self) -> bool {
        self.begun.is_some()
    }
}

/// The level of a run of one block, or of several that were indexed at once.
pub fn level_of(entries: usize) -> i16 {
    if entries >= FINAL {
        return FINAL_LEVEL;
    }
    LEVELS.iter().filter(|from| entries >= **from).count() as i16
}

/// What is known of a run without reading its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunSize {
    /// The level.
    pub level: i16,
    /// The number of entries.
    pub entries: usize,
}

/// How many of the newest runs are to be merged into one, and its level; `None` if none are. `runs` are the newest
/// first.
///
/// Those of the level of the newest one are merged, with any of lower levels among them.
pub fn due(runs: &[RunSize]) -> Option<(usize, i16)> {
    let level = runs.first()?.level;
    let group = runs.iter().take_while(|run| run.level <= level && run.level < FINAL_LEVEL);
    let (mut count, mut entries) = (0, 0);
    for run in group {
        if entries + run.entries > MAX_ENTRIES {
            break;
        }
        count += 1;
        entries += run.entries;
    }
    let full = count >= FAN || count >= 2 && entries >= FINAL;
    full.then(|| (count, level_of(entries).max(level + 1)))
}

/// Into how many parts the hashes of a block with so many entries are cut: a power of two.
pub fn parts_for(entries: usize) -> u32 {
    // Hashes are not spread quite evenly.
    (entries + entries / 8).div_ceil(MAX_ENTRIES).next_power_of_two().min(1 << 14) as u32
}

/// The part of a hash.
pub fn part_of(hash: RowHash, parts: u32) -> u32 {
    ((u64::from(hash) * u64::from(parts)) >> 32) as u32
}

/// A stored run of which pieces are read.
pub trait StoredRun {
    /// The number of entries.
    fn count(&self) -> usize;
    /// Entries from a place on; fewer only at the end.
    fn read(&mut self, first: usize, count: usize) -> Vec<u64>;
}

/// How many entries are read at a time: about as many as a row of Postgres' TOAST has.
const PIECE: usize = 256;

/// The entries of a hash in a sorted run.
///
/// Hashes are spread evenly, so the place of one can be guessed. Each second step halves what is left, so that a run
/// in which they are not takes not much longer.
pub fn find(run: &mut impl StoredRun, hash: RowHash) -> Vec<u64> {
    let target = u64::from(hash) << 32;
    // The first entry from `target` on is at one of these places.
    let (mut low, mut high) = (0, run.count());
    let (mut low_value, mut high_value) = (0u64, u64::MAX);
    let mut guess = true;
    let mut found = Vec::new();
    while low < high {
        let middle = if guess {
            let share = u128::from(target.saturating_sub(low_value)) * (high - low) as u128;
            low + (share / u128::from(high_value.saturating_sub(low_value)).max(1)) as usize
        } else {
            low + (high - low) / 2
        };
        guess = !guess;
        let first = middle.saturating_sub(PIECE / 2).clamp(low, high.saturating_sub(PIECE).max(low));
        let piece = run.read(first, PIECE.min(high - first));
        let (Some(least), Some(most)) = (piece.first(), piece.last()) else { return found };
        let before = piece.partition_point(|entry| *entry < target);
        if before == 0 && first > low {
            (high, high_value) = (first, *least);
        } else if before == piece.len() {
            (low, low_value) = (first + before, (*most).min(target));
        } else {
            low = first + before;
            break;
        }
    }
    loop {
        let piece = run.read(low, PIECE.min(run.count() - low));
        let of_hash = piece.iter().take_while(|entry| *entry >> 32 == u64::from(hash)).count();
        found.extend_from_slice(&piece[..of_hash]);
        if of_hash < piece.len() || piece.is_empty() {
            return found;
        }
        low += of_hash;
    }
}

/// A sum over entries in any order, which two different collections do not share but by a chance of 2^-64. The key is
/// drawn for each comparison, so that nobody can prepare a collection.
#[derive(Debug, Clone, Copy)]
pub struct EntrySum {
    key: [u64; 2],
    sum: u64,
    /// The number of entries.
    pub count: u64,
}

impl EntrySum {
    /// A sum over nothing.
    pub fn new(key: [u64; 2]) -> Self {
        EntrySum { key: [key[0], key[1] | 1], sum: 0, count: 0 }
    }

    /// Adds an entry.
    pub fn add(&mut self, entry: u64) {
        let mix = |one: u64, other: u64| {
            let product = u128::from(one) * u128::from(other);
            (product as u64) ^ (product >> 64) as u64
        };
        let mixed = mix(entry ^ self.key[0], self.key[1]);
        self.sum = self.sum.wrapping_add(mix(mixed ^ self.key[1], self.key[0] | 1));
        self.count += 1;
    }

    /// True if both are over the same entries.
    pub fn agrees(&self, other: &Self) -> bool {
        (self.sum, self.count) == (other.sum, other.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::format::event::batch_id;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    /// A run in memory, which counts what is read.
    struct InMemory<'a> {
        run: &'a Run,
        reads: usize,
    }

    impl StoredRun for InMemory<'_> {
        fn count(&self) -> usize {
            self.run.entries.len() / ENTRY
        }

        fn read(&mut self, first: usize, count: usize) -> Vec<u64> {
            self.reads += 1;
            assert!(count <= PIECE);
            let last = (first + count).min(self.count());
            entries(&self.run.entries[first * ENTRY..last * ENTRY]).collect()
        }
    }

    fn found(run: &Run, hash: RowHash) -> (Vec<u64>, usize) {
        let mut run = InMemory { run, reads: 0 };
        let entries = find(&mut run, hash);
        (entries, run.reads)
    }

    fn run_of(entries: &[(RowHash, u64)]) -> Run {
        let mut builder = RunBuilder::default();
        entries.iter().for_each(|(hash, time)| builder.add(*hash, *time));
        builder.finish()
    }

    fn spread(n: u64) -> RowHash {
        (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as RowHash
    }

    #[test]
    fn an_id_is_in_the_interval_of_its_time() {
        for microseconds in [0, 1_793_491_200_000_000, 1_793_491_200_123_456] {
            let id = batch_id(microseconds, [0xff; 8]);
            for shift in [0, 5, 20] {
                let intervals = Intervals::over(time_of(&id), time_of(&id) + 1000, shift);
                let (from, to) = intervals.ids(intervals.entry(9, time_of(&id)));
                assert!(from <= id && id <= to, "{from} {id} {to}");
                let later = batch_id(microseconds + 2 + (1 << shift) / 4, [0; 8]);
                assert!(later > to, "{shift}: {later} {to}");
            }
        }
    }

    #[test]
    fn intervals_are_as_short_as_their_number_allows() {
        assert_eq!(Intervals::over(1000, 1000 + u64::from(u32::MAX), 0), Intervals { first: 1000, shift: 0 });
        assert_eq!(Intervals::over(1000, 1001 + u64::from(u32::MAX), 0), Intervals { first: 500, shift: 1 });
        assert_eq!(Intervals::over(1000, 1000, 4), Intervals { first: 62, shift: 4 });
        assert_eq!(Intervals::over(0, u64::MAX >> 4, 0).shift, 28);
    }

    #[test]
    fn a_look_up_among_many_entries_reads_little() {
        let entries: Vec<_> = (0..500_000).map(|n| (spread(n), n)).collect();
        let run = run_of(&entries);
        let mut most = 0;
        for n in (0..500_000).step_by(9_973) {
            let (found, reads) = found(&run, spread(n));
            assert!(found.iter().any(|entry| run.intervals.times(*entry) == (n, n)));
            most = most.max(reads);
        }
        assert!(most <= 6, "{most}");
        let missing = (0..1000u32).map(|n| found(&run, n * 4_294_967).1).max().unwrap();
        assert!(missing <= 6, "{missing}");
    }

    #[test]
    fn a_look_up_among_hashes_that_are_not_spread_reads_some_more() {
        let mut entries: Vec<_> = (0..300_000).map(|n| (7, n)).collect();
        entries.extend((0..300_000).map(|n| (n as RowHash * 3 + 50, n)));
        let run = run_of(&entries);
        assert_eq!(found(&run, 7).0.len(), 300_000);
        for hash in [0, 6, 8, 50, 53, 54, 900_047, u32::MAX] {
            let (found, reads) = found(&run, hash);
            assert_eq!(found.len(), entries.iter().filter(|(of, _)| *of == hash).count(), "{hash}");
            assert!(reads < 40, "{hash}: {reads}");
        }
    }

    #[test]
    fn a_run_that_is_not_sorted_is_no_endless_one() {
        let run = Run { intervals: Intervals { first: 0, shift: 0 }, entries: Vec::new() };
        let mixed: Vec<u8> = (0..5_000u64).flat_map(|n| ((n * 7_919 % 5_000) << 32).to_be_bytes()).collect();
        for hash in 0..5_000 {
            found(&Run { entries: mixed.clone(), ..run.clone() }, hash);
        }
        assert!(found(&run, 1).0.is_empty());
    }

    #[test]
    fn runs_of_a_level_become_one_of_the_next() {
        let run = |level, entries| RunSize { level, entries };
        assert_eq!(due(&[]), None);
        assert_eq!(due(&[run(0, 5); FAN - 1]), None);
        assert_eq!(due(&[run(0, 5); FAN]), Some((FAN, 1)));
        assert_eq!(due(&[run(2, 100_000); 10]), None);
        assert_eq!(due(&[run(2, 100_000); 11]), Some((11, FINAL_LEVEL)));
        assert_eq!(due(&[run(0, 5), run(1, 5)]), None);
        let mut mixed = [run(1, 70_000); FAN];
        mixed[3] = run(0, 1);
        assert_eq!(due(&mixed[..16]), Some((16, FINAL_LEVEL)));
        mixed[3] = run(FINAL_LEVEL, 2_000_000);
        assert_eq!(due(&mixed), None);
        assert_eq!(due(&[run(FINAL_LEVEL, 1_100_000); FAN]), None);
    }

    #[test]
    fn many_blocks_leave_few_runs() {
        for entries in [1, 100, 3_000, 70_000] {
            let mut runs: Vec<RunSize> = Vec::new();
            let (mut written, blocks) = (0, 200_000 / entries.min(1000));
            for _ in 0..blocks {
                runs.insert(0, RunSize { level: level_of(entries), entries });
                written += entries;
                while let Some((count, level)) = due(&runs) {
                    let entries = runs.drain(..count).map(|run| run.entries).sum();
                    runs.insert(0, RunSize { level, entries });
                    written += entries;
                }
            }
            let levels = runs.iter().map(|run| run.level).collect::<BTreeSet<_>>().len();
            let last = runs.iter().filter(|run| run.level == FINAL_LEVEL).count();
            assert!(runs.len() - last < levels.max(1) * FAN, "{entries}: {runs:?}");
            let times = written as f64 / (blocks * entries) as f64;
            assert!(times <= if entries == 70_000 { 2.01 } else { 5.0 }, "{entries}: written {times} times");
            assert!(runs.iter().all(|run| run.entries <= MAX_ENTRIES));
        }
    }

    #[test]
    fn runs_cover_blocks_without_a_gap() {
        let run = |first_block, last_block, part, parts| RunPlace { first_block, last_block, part, parts };
        let until = |runs: &[RunPlace]| {
            let mut coverage = Coverage::default();
            let accepted = runs.iter().take_while(|run| coverage.accept(**run, 20)).count();
            (accepted, coverage.until(), coverage.is_cut_off())
        };
        let (one, two) = (run(1, 5, 0, 1), run(6, 6, 0, 1));
        assert_eq!(until(&[one, two]), (2, 6, false));
        assert_eq!(until(&[two]), (0, 0, false), "the first is missing");
        assert_eq!(until(&[one, run(7, 8, 0, 1)]), (1, 5, false), "a gap");
        assert_eq!(until(&[one, run(5, 8, 0, 1)]), (1, 5, false), "twice");
        assert_eq!(until(&[one, run(6, 5, 0, 1)]), (1, 5, false), "backwards");
        assert_eq!(until(&[one, run(6, 21, 0, 1)]), (1, 5, false), "blocks that are not there");
        let parts = [0, 1, 2, 3].map(|part| run(6, 6, part, 4));
        assert_eq!(until(&[one, parts[0], parts[1], parts[2], parts[3], run(7, 7, 0, 1)]), (6, 7, false));
        assert_eq!(until(&[one, parts[0], parts[1]]), (3, 5, true));
        assert_eq!(until(&[one, parts[0], parts[2], parts[3]]), (2, 5, true));
        assert_eq!(until(&[one, parts[1]]), (1, 5, false));
        assert_eq!(until(&[one, run(6, 6, 1, 1)]), (1, 5, false));
    }

    #[test]
    fn a_large_block_is_cut_by_hash() {
        assert_eq!([1, MAX_ENTRIES / 2, 5_000_000].map(parts_for), [1, 1, 4]);
        assert_eq!([0, 1 << 30, (1 << 30) - 1, u32::MAX].map(|hash| part_of(hash, 4)), [0, 1, 0, 3]);
        assert_eq!(part_of(u32::MAX, 1), 0);
    }

    #[test]
    fn a_sum_tells_what_is_missing_added_or_changed() {
        let sum = |entries: &[u64]| {
            let mut sum = EntrySum::new([0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210]);
            entries.iter().for_each(|entry| sum.add(*entry));
            sum
        };
        let all = sum(&[1, 2, 3, 3]);
        assert!(all.agrees(&sum(&[3, 1, 3, 2])));
        for other in [&[1, 2, 3][..], &[1, 2, 3, 3, 3], &[1, 2, 3, 4], &[0, 3, 3, 3], &[1, 2, 2, 3]] {
            assert!(!all.agrees(&sum(other)), "{other:?}");
        }
    }

    proptest! {
        #[test]
        fn merged_runs_have_what_their_parts_had(
            parts in prop::collection::vec(
                prop::collection::vec((0u32..50, 0u64..1 << 44), 0..60), 1..6),
        ) {
            let parts: Vec<Run> = parts.iter().map(|part| run_of(part)).collect();
            let merged = Run::merge(&parts);
            // In two steps it is the same.
            let (one, rest) = parts.split_at(parts.len() / 2);
            if !one.is_empty() {
                let twice = Run::merge(&[Run::merge(one), Run::merge(rest)]);
                prop_assert_eq!(&twice.entries.len(), &merged.entries.len());
            }
            let mut expected: BTreeMap<RowHash, Vec<(Uuid, Uuid)>> = BTreeMap::new();
            for part in &parts {
                for entry in entries(&part.entries) {
                    expected.entry((entry >> 32) as RowHash).or_default().push(part.intervals.ids(entry));
                }
            }
            for hash in 0..50 {
                let (found, _) = found(&merged, hash);
                let found: Vec<_> = found.into_iter().map(|entry| merged.intervals.ids(entry)).collect();
                let expected = expected.remove(&hash).unwrap_or_default();
                prop_assert_eq!(found.len(), expected.len());
                for (from, to) in expected {
                    prop_assert!(found.iter().any(|(least, most)| *least <= from && to <= *most));
                }
            }
        }

        #[test]
        fn a_look_up_finds_what_a_reading_of_all_does(
            hashes in prop::collection::vec(0u32..200, 0..3000),
            step in 1u32..30_000_000,
        ) {
            let entries: Vec<_> = hashes.iter().zip(0..).map(|(hash, time)| (hash.wrapping_mul(step), time)).collect();
            let run = run_of(&entries);
            for hash in 0..200u32 {
                let hash = hash.wrapping_mul(step);
                let expected = entries.iter().filter(|(of, _)| *of == hash).count();
                prop_assert_eq!(found(&run, hash).0.len(), expected);
            }
        }
    }
}
