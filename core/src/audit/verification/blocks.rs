//! Verifies the chain of blocks, and that each block has the rows of the seal that it wrote.

use super::range;
use super::{Finding, FindingKind};
use crate::audit::format::encoding::Digest;
use crate::audit::log::block::{self, Block, Heads};

/// Verifies the blocks of a range, in order.
pub struct Blocks {
    /// Number of the previous block.
    number: i64,
    /// Hash of the previous block; `None` if it cannot be read.
    hash: Option<Digest>,
    /// Number of the newest block in the database.
    newest: i64,
    /// The first block and the name of each incarnation, in order.
    incarnations: Vec<(i64, String)>,
}

impl Blocks {
    /// Begins after the block of this number and hash; 0 is the place before the first block.
    ///
    /// `hash` is `None` if the previous block is gone or unreadable. `newest` is the number of the newest block in the
    /// database.
    pub fn after(number: i64, hash: Option<Digest>, newest: i64, incarnations: Vec<(i64, String)>) -> Self {
        let hash = if number == 0 { Some(block::origin()) } else { hash };
        Blocks { number, hash, newest, incarnations }
    }

    /// Verifies the next block, in order of number, against its stored hash and its rows of `tenancy.seal`.
    pub fn next(&mut self, block: &Block, hash: &Digest, heads: Heads) -> Vec<Finding> {
        let mut found = Vec::new();
        let mut report = |finding, text: String| found.push(Finding::in_block(finding, block.number, text));
        let number = block.number;
        let (count, promised) = (heads.events(), block.events);
        if block.hash() != *hash {
            report(FindingKind::Altered, format!("block {number} is not what was written"));
        } else if count < promised {
            let finding = if number == self.newest { FindingKind::Truncated } else { FindingKind::Missing };
            report(
                finding,
                format!("{} events of block {number} are gone from tenancy.seal", promised.saturating_sub(count)),
            );
        } else if count > promised {
            let more = count.saturating_sub(promised);
            report(FindingKind::Inserted, format!("block {number} has {more} events too many in tenancy.seal"));
        } else if heads.digest() != block.heads_digest {
            report(
                FindingKind::Altered,
                format!("the rows of block {number} in tenancy.seal are not those that it wrote"),
            );
        }
        if let Some(gone) = self.gone_before(number) {
            report(FindingKind::Missing, gone);
        } else if self.hash.is_some_and(|before| before != block.previous) {
            report(FindingKind::Forked, format!("block {number} does not follow from the one before"));
        }
        let incarnation = self.incarnations.iter().rev().find(|(first, _)| *first <= number);
        if incarnation.is_none_or(|(_, name)| *name != block.incarnation) {
            report(
                FindingKind::Altered,
                format!(
                    "block {number} names another incarnation than tenancy.incarnation \
                has for it"
                ),
            );
        }
        (self.number, self.hash) = (number, Some(*hash));
        found
    }

    /// Skips a block whose row has an invalid value, and reports the row.
    pub fn unreadable(&mut self, number: i64) -> Vec<Finding> {
        let gone = self.gone_before(number).map(|gone| Finding::in_block(FindingKind::Missing, number, gone));
        (self.number, self.hash) = (number, None);
        let text = format!("block {number} has a column with an invalid value");
        gone.into_iter().chain([Finding::in_block(FindingKind::Altered, number, text)]).collect()
    }

    /// The blocks that are missing at the end of the range, whose last number is `last`.
    pub fn finish(&self, last: i64) -> Option<Finding> {
        let gone = self.gone_before(last + 1)?;
        Some(Finding::in_block(FindingKind::Missing, last, gone))
    }

    fn gone_before(&self, number: i64) -> Option<String> {
        let expected = self.number + 1;
        (number > expected)
            .then(|| format!("{} gone from tenancy.block", range("block", "blocks", expected, number - 1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn heads(block: i64) -> Heads {
        let mut heads = Heads::default();
        heads.count(1);
        heads.add(Uuid::from_u128(1), block, block, &[2; 32]);
        heads
    }

    fn three() -> Vec<(Block, Digest, Heads)> {
        let mut previous = block::origin();
        let one = |number| {
            let block = Block {
                number,
                sealed_at: 5,
                snapshot: "1:1:".into(),
                incarnation: if number < 3 { "a".into() } else { "b".into() },
                events: 1,
                heads_digest: heads(number).digest(),
                previous,
            };
            previous = block.hash();
            (block, previous, heads(number))
        };
        (1..=3).map(one).collect()
    }

    fn verify(blocks: Vec<(Block, Digest, Heads)>) -> Vec<(i64, FindingKind)> {
        let mut verifier = Blocks::after(0, None, 3, vec![(1, "a".into()), (3, "b".into())]);
        let each = |(block, hash, heads): (Block, Digest, Heads)| verifier.next(&block, &hash, heads);
        let mut found: Vec<Finding> = blocks.into_iter().flat_map(each).collect();
        found.extend(verifier.finish(3));
        found.into_iter().map(|found| (found.block.unwrap(), found.finding)).collect()
    }

    #[test]
    fn untouched_blocks_verify_from_the_first_and_from_any_other() {
        assert_eq!(verify(three()), []);
        let blocks = three();
        let mut verifier = Blocks::after(2, Some(blocks[1].1), 3, vec![(1, "a".into()), (3, "b".into())]);
        assert_eq!(verifier.next(&blocks[2].0, &blocks[2].1, heads(3)), []);
    }

    #[test]
    fn each_change_is_named() {
        let change = |change: fn(&mut Vec<(Block, Digest, Heads)>)| {
            let mut blocks = three();
            change(&mut blocks);
            verify(blocks)
        };
        assert_eq!(change(|blocks| blocks[1].0.sealed_at = 6), [(2, FindingKind::Altered)]);
        assert_eq!(change(|blocks| blocks[1].2 = heads(9)), [(2, FindingKind::Altered)]);
        assert_eq!(change(|blocks| blocks[1].2 = Heads::default()), [(2, FindingKind::Missing)]);
        assert_eq!(change(|blocks| blocks[2].2 = Heads::default()), [(3, FindingKind::Truncated)]);
        assert_eq!(change(|blocks| drop(blocks.remove(1))), [(3, FindingKind::Missing)]);
        assert_eq!(change(|blocks| drop(blocks.pop())), [(3, FindingKind::Missing)]);
        let rewritten = change(|blocks| {
            blocks[1].0.sealed_at = 6;
            blocks[1].1 = blocks[1].0.hash();
        });
        assert_eq!(rewritten, [(3, FindingKind::Forked)]);
        let elsewhere = change(|blocks| {
            blocks[2].0.incarnation = "a".into();
            blocks[2].1 = blocks[2].0.hash();
        });
        assert_eq!(elsewhere, [(3, FindingKind::Altered)]);
    }

    #[test]
    fn an_event_too_many_is_named() {
        let mut blocks = three();
        blocks[1].2.count(1);
        assert_eq!(verify(blocks), [(2, FindingKind::Inserted)]);
    }
}
