//! Cuts what is to be verified into ranges that processes take one after the other.

use serde::{Deserialize, Serialize};

/// Blocks from the first to the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    pub first: i64,
    pub last: i64,
}

/// So many ranges at most: each begins with looking up where its organizations stand.
const RANGES: usize = 256;
/// How much work makes a range of its own, at first.
const WORK: i64 = 4096;

/// Blocks in order, with the work that each makes.
#[derive(Debug)]
pub struct RangePlanner {
    ranges: Vec<Range>,
    /// Work of the last range, and how much makes it full.
    filled: i64,
    full: i64,
}

impl RangePlanner {
    /// Begins at a block.
    pub fn from(first: i64) -> Self {
        RangePlanner { ranges: vec![Range { first, last: first }], filled: 0, full: WORK }
    }

    /// Takes the next block.
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

    /// Makes one range of two.
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
