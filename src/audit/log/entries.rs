//! The entries of the seal by block.

use super::head_tree::heads_until;
use crate::pg::tables::scan::Scan;
use crate::pg::tables::table::IndexKey;
use crate::pg::transaction;
use uuid::Uuid;

/// Reads which batches a block sealed.
pub struct BlockEntries {
    heads: Scan,
    heads_before: Scan,
    entries: Scan,
}

impl BlockEntries {
    pub fn open() -> Self {
        let nobody = Uuid::nil();
        BlockEntries {
            heads: Scan::by_index(c"head", c"head_block_idx", &[IndexKey::big_integer(2, 0)]),
            heads_before: Scan::by_index(c"head", c"head_pkey", &heads_until(&nobody, 0)),
            entries: Scan::by_index(c"seal", c"seal_pkey", &entries_between(&nobody, 0, 0)),
        }
    }

    /// Hands the id of each batch that the block sealed to `each`.
    pub fn of_block(&mut self, block: i64, mut each: impl FnMut(Uuid)) {
        self.heads.seek(&[IndexKey::big_integer(2, block)]);
        while let Some(fields) = self.heads.next() {
            let (organization, until) = (fields.uuid(1).unwrap_or_default(), fields.big_integer(4).unwrap_or(0));
            self.heads_before.seek(&heads_until(&organization, block - 1));
            let after = self.heads_before.back().and_then(|fields| fields.big_integer(4)).unwrap_or(0);
            self.entries.seek(&entries_between(&organization, after, until));
            while let Some(batch) = self.entries.next().map(|fields| fields.uuid(5)) {
                batch.into_iter().for_each(&mut each);
            }
            transaction::check_for_interrupts();
        }
    }
}

fn entries_between(organization: &Uuid, after: i64, until: i64) -> [IndexKey; 3] {
    [IndexKey::uuid(1, organization), IndexKey::big_integer(2, after).more(), IndexKey::big_integer(2, until).or_less()]
}
