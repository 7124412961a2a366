//! Divides the blocks to verify into ranges, which parallel processes take one after the other.

use serde::{Deserialize, Serialize};

/// A range of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// Number of the first block.
    pub first: i64,
    /// Number of the last block, included.
    pub last: i64,
}

/// The most ranges. Each begins with a lookup of the heads of its organizations.
const RANGES: usize = 256;
/// The initial amount of work in a range.
const WORK: i64 = 4096;

/// Groups blocks, added in order, into ranges of similar work.
#[derive(Debug)]
pub struct RangePlanner {
    ranges: Vec<Range>,
    /// The work in the last range so far.
    filled: i64,
    /// The amount of work at which a range is full.
    full: i64,
}

impl RangePlanner {
    /// Begins at a block.
    pub fn from(first: i64) -> Self {
        RangePlanner { ranges: vec![Range { first, last: first }], filled: 0, full: WORK }
    }

    /// Adds the next block with its amount of work, such as its number of events.
    pub fn add(&mut self, number: i64, work: i64) {
        if self.filled >= self.full && self.ranges.last().is_some_and(|range| range.first < number) {
            if self.ranges.len() == RANGES {
                self.widen();
            } else {
                self.ranges.push(Range { first: number, last: number });
                self.filled = 0;
            }
        }
        // A count that somebody changed must not hinder the rest.
        self.filled = self.filled.saturating_add(work.clamp(1, 1 << 40));
        if let Some(range) = self.ranges.last_mut() {
            range.last = number;
        }
    }

    /// Joins each two ranges into one.
    fn widen(&mut self) {
        let pairs = self.ranges.chunks(2);
        let joined = |pair: &[Range]| Some(Range { first: pair.first()?.first, last: pair.last()?.last });
        self.ranges = pairs.filter_map(joined).collect();
        self.full = self.full.saturating_mul(2);
    }

    /// The ranges, without a gap from the first block to `last`.
    pub fn finish(mut self, last: i64) -> Vec<Range> {
        let firsts: Vec<i64> = self.ranges.iter().skip(1).map(|range| range.first).collect();
        let ends = firsts.into_iter().map(|first| first - 1).chain([last]);
        self.ranges.iter_mut().zip(ends).for_each(|(range, end)| range.last = end);
        self.ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(blocks: i64, work: i64) -> Vec<Range> {
        let mut cut = RangePlanner::from(1);
        (1..=blocks).for_each(|number| cut.add(number, work));
        cut.finish(blocks)
    }

    fn assert_covers(ranges: &[Range], last: i64) {
        let firsts = ranges.iter().skip(1).map(|range| range.first);
        assert_eq!(ranges[0].first, 1);
        assert!(ranges.iter().map(|range| range.last + 1).eq(firsts.chain([last + 1])), "{ranges:?}");
        assert!(ranges.iter().all(|range| range.first <= range.last));
    }

    #[test]
    fn every_block_is_in_one_range() {
        for (blocks, work) in [(1, 1), (1, 1 << 50), (7, WORK), (5000, 1), (5000, 10), (5000, WORK), (100_000, 977)] {
            let ranges = cut(blocks, work);
            assert_covers(&ranges, blocks);
            assert!(ranges.len() <= RANGES);
        }
        assert_eq!(cut(10, 1).len(), 1);
        assert_eq!(cut(7, WORK).len(), 7);
        assert!(cut(100_000, 977).len() > RANGES / 3);
    }

    #[test]
    fn blocks_that_are_gone_are_in_a_range_too() {
        let mut cut = RangePlanner::from(1);
        [3, 4, 9].into_iter().for_each(|number| cut.add(number, WORK));
        assert_covers(&cut.finish(12), 12);
    }

    #[test]
    fn a_count_that_cannot_be_is_survived() {
        let mut cut = RangePlanner::from(1);
        [(1, i64::MAX), (2, i64::MAX), (3, i64::MIN)].into_iter().for_each(|(number, work)| cut.add(number, work));
        assert_covers(&cut.finish(3), 3);
    }
}
