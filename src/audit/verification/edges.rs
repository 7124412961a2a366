//! What stands at the edges of the ranges and beside them: the heads between two verifications, and rows that no block,
//! head or entry knows of.

use super::range::{self, RangeCounts, VerificationScope, block_row};
use crate::audit::log::place::Places;
use crate::audit::log::seal::{self, all_entries, head_in, open_heads, rows_until};
use crate::audit::log::state;
use crate::pg::spi::{self, Row, argument};
use crate::pg::tables::scan::Scan;
use crate::pg::tables::table::IndexKey;
use crate::pg::transaction;
use pg_tenancy_core::audit::format::encoding::Digest;
use pg_tenancy_core::audit::format::event::time_ordered_id;
use pg_tenancy_core::audit::format::incarnation::{DatabaseIdentity, Incarnation};
use pg_tenancy_core::audit::log::checkpoint;
use pg_tenancy_core::audit::log::merkle::STORED_LEVELS;
use pg_tenancy_core::audit::verification::{Finding, FindingKind, Range};
use pg_tenancy_core::error::{Error, Result};
use pgrx::pg_sys;
use std::collections::BTreeMap;
use uuid::Uuid;

const INCARNATIONS: &str = "SELECT name, first_block, system_identifier, database, timeline, began_at, salt FROM \
    tenancy.incarnation ORDER BY first_block";

/// Blocks that are not there and have rows in the seal.
const ROWS_BEYOND: &str = "SELECT block FROM tenancy.seal
    WHERE (block > $1 OR block < 1) AND ($2 IS NULL OR organization = $2)
    GROUP BY block ORDER BY block";

/// Organizations that have rows of blocks after the newest there is.
const BEYOND: &str = "SELECT DISTINCT organization FROM tenancy.seal
    WHERE block > $1 AND ($2 IS NULL OR organization = $2) ORDER BY organization";

const BLOCKS_BEFORE: &str = "SELECT number FROM tenancy.block WHERE number < 1 ORDER BY number";

/// Nodes that no tree has.
const NODES_BEYOND: &str = "SELECT n.organization, n.level, n.index
       FROM tenancy.tree_node n
       LEFT JOIN LATERAL (SELECT h.leaves FROM tenancy.seal h WHERE h.organization = n.organization
                           ORDER BY h.block DESC, h.leaves DESC LIMIT 1) newest ON true
      WHERE ($1 IS NULL OR n.organization = $1)
        AND (newest.leaves IS NULL OR n.index < 0 OR n.level < $2
             OR n.level > 62 OR n.level % $2 <> 0
             OR n.index >= (newest.leaves >> n.level))";

/// Erasures that no event tells of, or whose payload is there: event, organization, the event that should tell.
const ERASURES_BEYOND: &str = "SELECT x.event, x.organization, x.erase_event
       FROM tenancy.erasure x
       LEFT JOIN tenancy.event e ON e.batch = tenancy.batch_of(x.event) AND e.id = x.event
      WHERE ($1 IS NULL OR x.organization = $1 OR e.organization = $1)
        AND (e.payload IS NOT NULL OR e.payload_salt IS NOT NULL OR e.organization <> x.organization
             OR e.payload_digest <> x.payload_digest
             OR NOT EXISTS (
                SELECT FROM tenancy.event t
                 WHERE t.batch = tenancy.batch_of(x.erase_event) AND t.id = x.erase_event AND t.organization = \
                     x.organization
                   AND t.operation = 'erase'
                   AND t.payload #>> '{data,event}' = x.event::text
                   AND t.payload #>> '{data,payload_digest}' = encode(x.payload_digest, 'hex')))
      ORDER BY x.event";

/// The batches that a range could have: written since a moment, or with an id between those of the range.
const BATCHES: &str = "SELECT e.id, e.organization, e.transaction FROM tenancy.event_batch e
      WHERE ($1 IS NULL OR e.organization = $1)
        AND (e.id >= $2 OR e.id >= $3 AND e.id <= $4)
      ORDER BY e.id";

/// The first block of each history with its name, and what is wrong with the rows.
pub fn incarnations(found: &mut Vec<Finding>) -> Result<Vec<(i64, String)>> {
    let mut all = Vec::new();
    let read = |row: &Row| {
        let identity = DatabaseIdentity {
            system_identifier: row.get(3)?,
            database: row.get::<pg_sys::Oid>(4)?.to_u32(),
            timeline: row.get(5)?,
        };
        let salt = row.get::<&[u8]>(7)?.to_vec();
        Some(Incarnation { identity, first_block: row.get(2)?, began_at: row.timestamp(6)?, salt })
    };
    spi::stream(INCARNATIONS, &[], |row| {
        let name: String = row.get(1).unwrap_or_default();
        let first_block = row.get(2).unwrap_or_default();
        if read(row).is_none_or(|incarnation| incarnation.name() != name) {
            let text = format!("incarnation {name} is not what was written");
            found.push(Finding::in_block(FindingKind::Altered, first_block, text));
        }
        all.push((first_block, name));
        Ok::<(), Error>(())
    })?;
    Ok(all)
}

/// The number and the hash of the newest block; 0 where there is none.
pub fn newest_block() -> i64 {
    let mut blocks = Scan::by_index(c"block", c"block_pkey", &[IndexKey::big_integer(1, i64::MAX).or_less()]);
    blocks.back().and_then(|fields| fields.big_integer(1)).unwrap_or(0).max(0)
}

/// The hash of a block, which must be that of what the block says; what is wrong with it.
pub fn block_at(number: i64) -> std::result::Result<Digest, Finding> {
    let mut blocks = Scan::by_index(c"block", c"block_pkey", &[IndexKey::big_integer(1, number)]);
    let row = blocks.next().map(|fields| block_row(&fields).1);
    match row {
        Some(Some((block, hash))) if block.hash() == hash => Ok(hash),
        Some(_) => {
            Err(Finding::in_block(FindingKind::Altered, number, format!("block {number} is not what was written")))
        }
        None => {
            Err(Finding::in_block(FindingKind::Missing, number, format!("block {number} is gone from tenancy.block")))
        }
    }
}

/// Where all organizations stood after a block, in the order of their leaves: of their first blocks and, in a block, of
/// their ids.
pub fn heads_at(block: i64, found: &mut Vec<Finding>) -> Vec<checkpoint::Head> {
    let mut heads = Vec::new();
    let mut each = Organizations::open();
    let mut newest = open_heads();
    while let Some((organization, first)) = each.next() {
        newest.seek(&rows_until(&organization, block));
        let Some(fields) = newest.back() else { continue };
        let Some(head) = head_in(&fields) else {
            let text = "a column of the row in tenancy.seal has an invalid value";
            found.push(Finding::in_block(FindingKind::Altered, block, text).of(organization));
            // The others keep their leaves.
            heads.push((
                first,
                checkpoint::Head { organization, position: 0, leaves: 0, chain: [0; 32], root: [0; 32] },
            ));
            continue;
        };
        heads.push((first, head.of(organization)));
    }
    heads.sort_unstable_by_key(|(first, head)| (*first, head.organization));
    heads.into_iter().map(|(_, head)| head).collect()
}

/// Entries of a block that do not lead to where it says that their organizations stand: where a run begins, which does
/// not walk through that block again.
pub fn entries_at(block: i64, found: &mut Vec<Finding>) {
    for organization in seal::broken_in(block) {
        let text =
            format!("the entries of the organization in block {block} do not lead to the chain value in tenancy.seal");
        found.push(Finding::in_block(FindingKind::Altered, block, text).of(organization));
    }
}

/// The organizations that have rows in the seal.
struct Organizations {
    scan: Scan,
    at: Option<Uuid>,
}

impl Organizations {
    fn open() -> Self {
        let scan = Scan::by_index(c"seal", c"seal_pkey", &[IndexKey::uuid(1, &Uuid::nil()).or_more()]);
        Organizations { scan, at: None }
    }

    /// The next one, and the block of its first row.
    fn next(&mut self) -> Option<(Uuid, i64)> {
        transaction::check_for_interrupts();
        if let Some(at) = self.at {
            let next = Uuid::from_u128(at.as_u128().checked_add(1)?);
            self.scan.seek(&[IndexKey::uuid(1, &next).or_more()]);
        }
        let first = self.scan.next().and_then(|fields| Some((fields.uuid(1)?, fields.big_integer(2)?)));
        self.at = first.map(|(organization, _)| organization);
        first
    }
}

/// What rows of blocks that are gone from the end lead to: the events are there, or named.
pub fn events_beyond(scope: &VerificationScope, found: &mut Vec<Finding>) -> Result<()> {
    let mut organizations = Vec::new();
    spi::stream(BEYOND, &[argument(scope.newest), spi::uuid(scope.organization)], |row| {
        organizations.extend(row.uuid(1));
        Ok::<(), Error>(())
    })?;
    let range = Range { first: scope.newest + 1, last: i64::MAX };
    for organization in organizations {
        let scope = VerificationScope { organization: Some(organization), ..scope.clone() };
        range::verify(&scope, range, &mut |more, _| found.extend(more))?;
    }
    Ok(())
}

/// Rows of the seal and blocks outside of the blocks that there are.
pub fn blocks_beyond(scope: &VerificationScope, found: &mut Vec<Finding>) -> Result<()> {
    spi::stream(ROWS_BEYOND, &[argument(scope.newest), spi::uuid(scope.organization)], |row| {
        let number = row.get(1).unwrap_or_default();
        let finding = if number < 1 { FindingKind::Inserted } else { FindingKind::Truncated };
        let text = format!("block {number} is missing, although tenancy.seal names it");
        found.push(Finding::in_block(finding, number, text));
        Ok::<(), Error>(())
    })?;
    if scope.organization.is_some() {
        return Ok(());
    }
    spi::stream(BLOCKS_BEFORE, &[], |row| {
        let number = row.get(1).unwrap_or_default();
        found.push(Finding::in_block(FindingKind::Inserted, number, format!("block {number} is before the first")));
        Ok(())
    })
}

/// Nodes of trees that these events do not make.
pub fn nodes_beyond(scope: &VerificationScope, found: &mut Vec<Finding>) -> Result<()> {
    spi::stream(NODES_BEYOND, &[spi::uuid(scope.organization), argument(STORED_LEVELS as i16)], |row| {
        let (level, index) = (row.get::<i16>(2).unwrap_or_default(), row.get::<i64>(3).unwrap_or_default());
        let text = format!(
            "node {index} of level {level} in tenancy.tree_node is not part of the tree over these \
            batches"
        );
        found.push(Finding::anywhere(FindingKind::Inserted, text).of(row.uuid(1).unwrap_or_default()));
        Ok::<(), Error>(())
    })
}

/// Rows of `tenancy.erasure` that nobody wrote with an erasure.
pub fn erasures_beyond(scope: &VerificationScope, found: &mut Vec<Finding>) -> Result<()> {
    spi::stream(ERASURES_BEYOND, &[spi::uuid(scope.organization)], |row| {
        let uuid = |column| row.uuid(column).unwrap_or_default();
        let (event, organization, teller) = (uuid(1), uuid(2), uuid(3));
        if !scope.archives.have_month_of(&teller) {
            let text = "the row in tenancy.erasure names an erasure of the event that did not happen";
            found.push(Finding::anywhere(FindingKind::Inserted, text).of(organization).about(event));
        }
        Ok::<(), Error>(())
    })
}

/// Batches outside of the seal though their transaction was over when the last block was made: no trigger wrote them.
///
/// Of a range, those that have the ids of its events, and where it ends with the newest block those written since it
/// began.
pub fn unsealed(scope: &VerificationScope, range: Range, seen: RangeCounts, found: &mut Vec<Finding>) -> Result<()> {
    let Some(sealed) = state::sealed_until()? else { return Ok(()) };
    let own = transaction::id_if_any();
    let whole = range.first == 1 && range.last == scope.newest;
    let since = match () {
        () if whole => Uuid::nil(),
        () if range.last == scope.newest => time_ordered_id(state::sealed_at(range.first - 1)?, [0; 8]),
        () => Uuid::max(),
    };
    let (lowest, highest) = seen.ids.unwrap_or((Uuid::max(), Uuid::nil()));
    let arguments = [spi::uuid(scope.organization), spi::uuid(since), spi::uuid(lowest), spi::uuid(highest)];
    let (mut places, mut unsealed) = (Places::default(), BTreeMap::new());
    spi::stream(BATCHES, &arguments, |row| {
        let (id, organization) = (row.uuid(1).unwrap_or_default(), row.uuid(2).unwrap_or_default());
        let transaction = row.transaction(3).unwrap_or_default();
        let was_over = Some(transaction) != own && sealed.is_over(transaction);
        if was_over && places.find(&organization, transaction, &id).is_none() {
            unsealed.insert(id, organization);
        }
        Ok::<(), Error>(())
    })?;
    // Of a batch whose transaction or organization was changed, the entry stands elsewhere.
    if !unsealed.is_empty() {
        all_entries(scope.newest, |_, entry| {
            unsealed.remove(&entry.batch);
        });
    }
    let text = "the batch has no entry in tenancy.seal, although its transaction had ended when the block was made";
    let finding = |(id, organization)| Finding::anywhere(FindingKind::Inserted, text).of(organization).about(id);
    found.extend(unsealed.into_iter().map(finding));
    Ok(())
}
