//! What was verified before, so that the next verification goes on from there.

use super::edges;
use crate::pg::spi::{self, Query, argument};
use crate::pg::transaction;
use crate::pg::user;
use pg_tenancy_core::audit::format::encoding::Digest;
use pg_tenancy_core::audit::log::checkpoint::Heads;
use pg_tenancy_core::audit::verification::{Finding, FindingKind, Range};

static LAST: Query = Query::new(
    "SELECT block, block_hash, heads, heads_root FROM tenancy.verification ORDER BY block DESC, verified_at DESC \
        LIMIT 1",
);

/// Blocks that are not what they were when they were verified.
static CHANGED: Query = Query::new(
    "SELECT DISTINCT v.block FROM tenancy.verification v LEFT JOIN tenancy.block b ON b.number = v.block
      WHERE b.hash IS NULL OR b.hash <> v.block_hash ORDER BY v.block",
);

static WRITE: Query = Query::new(
    "INSERT INTO tenancy.verification (block, verified_at, verified_by, first_block, events, processes, block_hash, \
        heads, heads_root)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING",
);

/// Where a verification ended that found nothing.
pub struct Verified {
    pub block: i64,
    block_hash: Option<Digest>,
    heads: i64,
    heads_root: Option<Digest>,
}

/// The furthest one.
pub fn last() -> Option<Verified> {
    let read = |row: &spi::Row| {
        Some(Verified { block: row.get(1)?, block_hash: row.bytes(2), heads: row.get(3)?, heads_root: row.bytes(4) })
    };
    LAST.read(&[], read).pop().flatten()
}

/// Compares all blocks at which verifications ended, but for the last, with what they were then.
pub fn compare_all(found: &mut Vec<Finding>) {
    for number in CHANGED.read(&[], |row| row.get::<i64>(1)).into_iter().flatten() {
        let told = found.iter().any(|found| found.block == Some(number));
        if !told {
            let text = format!("block {number} is not the block that was verified");
            found.push(Finding::in_block(FindingKind::Forked, number, text));
        }
    }
}

impl Verified {
    /// Compares what stands there now with what was verified.
    pub fn compare(&self, newest: i64, found: &mut Vec<Finding>) {
        let number = self.block;
        match edges::block_at(number) {
            Ok(hash) if Some(hash) == self.block_hash => (),
            Ok(_) => {
                let text = format!("block {number} is not the block that was verified");
                found.push(Finding::in_block(FindingKind::Forked, number, text));
            }
            Err(gone) if number > newest => found.push(Finding { finding: FindingKind::Truncated, ..gone }),
            Err(wrong) => found.push(wrong),
        }
        let heads = edges::heads_at(number, found);
        if (heads.len() as i64, Some(Heads::new(&heads).root())) != (self.heads, self.heads_root) {
            let text = format!(
                "the rows of tenancy.seal up to block {number} are not those that were verified; verify the whole to \
                    see which"
            );
            found.push(Finding::in_block(FindingKind::Altered, number, text));
        }
    }
}

/// Writes down that nothing was found up to a block.
pub fn write(range: Range, events: i64, processes: i64) {
    let Ok(hash) = edges::block_at(range.last) else { return };
    let mut found = Vec::new();
    let heads = edges::heads_at(range.last, &mut found);
    if !found.is_empty() {
        return;
    }
    let values = [
        argument(range.last),
        spi::timestamp(transaction::now()),
        argument(user::session().session_user_name()),
        argument(range.first),
        argument(events),
        argument(processes),
        argument(hash.as_slice()),
        argument(heads.len() as i64),
        argument(Heads::new(&heads).root().as_slice()),
    ];
    WRITE.write(&values, |_| ());
}
