//! The sealer: gives committed events their place, one sealer at a time, without making any writer wait.
//!
//! Decision: `docs/decisions/37-sealing.md`.

use super::{coverage, unsealed};
use crate::audit::capture::partition;
use crate::audit::history::row_index;
use crate::audit::log::state::{self, LogState, unreadable};
use crate::pg::report::OrRaise;
use crate::pg::settings::configuration;
use crate::pg::spi::{self, Query, Row, argument};
use crate::pg::tables::table::{self, ColumnValue};
use crate::pg::transaction;
use pg_tenancy_core::audit::format::encoding::Digest;
use pg_tenancy_core::audit::format::incarnation::{DatabaseIdentity, Incarnation};
use pg_tenancy_core::audit::log::block::{self, Block, Entries};
use pg_tenancy_core::audit::log::chain;
use pg_tenancy_core::audit::log::chain::Entry;
use pg_tenancy_core::audit::log::merkle::{Frontier, STORED_LEVELS};
use pg_tenancy_core::audit::log::snapshot::Snapshot;
use pg_tenancy_core::audit::sealing::order::{Unsealed, by_links};
use pg_tenancy_core::error::{self, Result};
use pgrx::{pg_extern, pg_sys};
use rand::RngExt as _;
use uuid::Uuid;

/// A lock that only a role with rights on the table can take, unlike an advisory lock, which any role could hold
/// forever. It conflicts with itself and lets events be written and blocks be read.
static LOCK: Query = Query::new("LOCK TABLE tenancy.block IN SHARE UPDATE EXCLUSIVE MODE");

static NOW: Query = Query::new("SELECT pg_current_snapshot()::text");

/// Of which transactions batches are read: of those that were in progress at the block before, and of those that had
/// not begun. An open transaction makes the former no more than they are, however much has been sealed since it began.
macro_rules! since_the_block_before {
    (in_progress) => {
        "e.transaction = ANY ($1::xid8[]) AND e.transaction < $2::xid8"
    };
    (not_begun) => {
        "e.transaction >= $1::xid8 AND e.transaction < $2::xid8"
    };
}

/// Which batches were written by one of these transactions: transaction, number of events.
macro_rules! written {
    ($which:ident) => {
        concat!(
            "SELECT e.transaction, e.events FROM tenancy.event_batch e WHERE ",
            since_the_block_before!($which),
            " ORDER BY e.transaction LIMIT $3"
        )
    };
}

const WRITTEN: [&str; 2] = [written!(in_progress), written!(not_begun)];

/// What the sealer reads of batches, where no entry names them. A hash of another length was written by hand:
/// `verify_audit` names it, nothing seals it.
macro_rules! unsealed_batches {
    ($which:expr) => {
        concat!(
            "SELECT e.id, e.organization, e.transaction, e.hash, e.ordinal, e.prev_hash, e.events FROM \
                tenancy.event_batch e WHERE ",
            $which,
            " AND octet_length(e.hash) = 32
              AND octet_length(e.prev_hash) = 32
              AND e.events BETWEEN 1 AND 128
              AND NOT EXISTS (SELECT FROM tenancy.seal s WHERE s.batch = e.id)"
        )
    };
}

/// In a new history, whose transactions count anew: whatever there is.
const ALL: &str = unsealed_batches!("true");

const SINCE: [&str; 2] =
    [unsealed_batches!(since_the_block_before!(in_progress)), unsealed_batches!(since_the_block_before!(not_begun))];

static BLOCK: Query = Query::new(
    "INSERT INTO tenancy.block (number, sealed_at, snapshot, incarnation, entries, events, entries_digest, prev_hash, \
     hash)
     VALUES ($1, $2, $3::pg_snapshot, $4, $5, $6, $7, $8, $9)",
);

static INCARNATION: Query = Query::new(
    "INSERT INTO tenancy.incarnation (name, first_block, system_identifier, database, timeline, began_at, salt)
     VALUES ($1, $2, $3, $4, $5, $6, $7)",
);

static HEAD: Query = Query::new(
    "SELECT position, leaves, chain, frontier FROM tenancy.head WHERE organization = $1
      ORDER BY block DESC LIMIT 1",
);

/// What one block adds, besides the block.
#[derive(Default)]
struct Additions {
    entries: Entries,
    seals: Vec<(Uuid, Entry)>,
    heads: Vec<(Uuid, NewHead)>,
    nodes: Vec<(Uuid, i16, i64, Digest)>,
}

/// Where the chain and the tree of an organization stand.
struct NewHead {
    position: i64,
    leaves: i64,
    chain: Digest,
    frontier: Frontier,
}

/// `tenancy.seal()`: seals what has committed; returns how many events that were.
#[pg_extern(sql = false)]
fn tenancy_seal() -> i64 {
    seal_and_prepare().or_raise()
}

/// Seals, and makes the partitions of the months ahead.
pub fn seal_and_prepare() -> Result<i64> {
    let sealed = seal()?;
    if sealed > 0 {
        partition::create_ahead();
    }
    Ok(sealed)
}

/// Seals all events of transactions that were not over at the last block and are over now, in as many blocks as it
/// takes. What begins later is left, so that it ends however fast others write.
pub fn seal() -> Result<i64> {
    let before = begin_sealing()?;
    let (mut sealed, mut limit) = (0, None);
    loop {
        let (count, rest) = seal_block(&mut limit)?;
        row_index::extend()?;
        sealed += count;
        if !rest {
            break;
        }
    }
    look_at_capture(before)?;
    Ok(sealed)
}

/// Seals one block, for a caller that commits after each. Returns whether some of what had begun at the first of these
/// calls is left: `limit` is `None` then and belongs to the caller.
pub fn seal_next_block(limit: &mut Option<u64>) -> Result<bool> {
    let before = begin_sealing()?;
    let (sealed, rest) = seal_block(limit)?;
    row_index::extend()?;
    look_at_capture(before)?;
    if sealed > 0 && !rest {
        partition::create_ahead();
    }
    Ok(rest)
}

/// Keeps other sealers away; returns the number of the newest block.
fn begin_sealing() -> Result<i64> {
    if transaction::read_only() {
        return Err(error::READ_ONLY.error("events cannot be sealed on a standby or in a READ ONLY transaction"));
    }
    table::keep_extension();
    LOCK.write(&[], |_| ());
    Ok(transaction::with_latest_snapshot(state::last_block)?.map_or(0, |last| last.number))
}

/// Looks whether capture is complete; the newest block was number `before` when this sealing began.
fn look_at_capture(before: i64) -> Result<()> {
    let state = transaction::with_latest_snapshot(state::state)?;
    if let (Some(incarnation), Some(last)) = (state.incarnation, state.last) {
        coverage::check(&incarnation, before, &last)?;
    }
    Ok(())
}

/// Seals one block; returns how many events, and whether some are left for another one. Transactions from `limit` on
/// are left; where it is not set yet, it becomes the first that has not begun.
fn seal_block(limit: &mut Option<u64>) -> Result<(i64, bool)> {
    let (state, batches, now, rest) = transaction::with_latest_snapshot(|| collect(limit))?;
    // A new history begins with a block of its own, even an empty one: the ids of the old one mean nothing in it. An
    // empty block also leads past what nothing seals, where more than that is left.
    let begins = state.incarnation.is_none() && state.last.is_some();
    if batches.is_empty() && !begins && !rest {
        return Ok((0, false));
    }
    let number = state.last.as_ref().map_or(1, |last| last.number + 1);
    let events = batches.iter().map(|batch| i64::from(batch.events)).sum();
    let mut additions = Additions::default();
    for chain in batches.chunk_by(|one, other| one.organization == other.organization) {
        additions.extend(number, chain)?;
    }
    let incarnation = state.incarnation.unwrap_or_else(|| begin(state.identity, number));
    additions.write(Block {
        number,
        sealed_at: transaction::now(),
        snapshot: now.to_string(),
        incarnation,
        entries: batches.len() as i64,
        events,
        entries_digest: additions.entries.clone().digest(),
        previous: state.last.map_or_else(block::origin, |last| last.hash),
    });
    transaction::next_command();
    unsealed::sealed(events);
    Ok((events, rest))
}

/// Writes down that a new history begins; returns its name.
fn begin(identity: DatabaseIdentity, first_block: i64) -> String {
    let salt: [u8; 16] = rand::rng().random();
    let begun = Incarnation { identity, first_block, began_at: transaction::now(), salt: salt.to_vec() };
    let name = begun.name();
    let values = [
        argument(name.as_str()),
        argument(begun.first_block),
        argument(begun.identity.system_identifier.as_str()),
        argument(pg_sys::Oid::from(begun.identity.database)),
        argument(begun.identity.timeline),
        spi::timestamp(begun.began_at),
        argument(begun.salt.as_slice()),
    ];
    INCARNATION.write(&values, |_| ());
    name
}

type Collected = (LogState, Vec<Unsealed>, Snapshot, bool);

/// What is to be sealed, and the moment it was looked at; all under one snapshot, so that the two agree. The last is
/// true if events are left that were too many for one block.
fn collect(limit: &mut Option<u64>) -> Result<Collected> {
    let state = state::state()?;
    let own = transaction::id();
    let now = NOW.read(&[], |row| row.get::<String>(1)).pop().flatten().and_then(|text| text.parse().ok());
    let now: Snapshot = now.ok_or_else(|| unreadable("the current snapshot"))?;
    let now = now.but_not(own);
    let limit = *limit.get_or_insert(now.end());
    // A restored database has sealed events of transactions that in this history have yet to come.
    let before = state.last.as_ref().filter(|_| state.same_xid_space).map(|block| &block.snapshot);
    let cut = match before {
        Some(before) => first_left(before, limit, own)?,
        None => None,
    };
    let end = cut.unwrap_or(limit);
    let now = now.until(end, before.unwrap_or(&Snapshot::default()));
    let mut batches = match before {
        // Seen here means committed, but for the sealer's own events: those wait for its commit.
        None => read_unsealed(ALL, &[])?.into_iter().filter(|batch| batch.transaction != own).collect(),
        Some(before) => written_since(before, end, own)?,
    };
    batches.sort_unstable_by_key(Unsealed::place);
    Ok((state, by_links(batches), now, cut.is_some()))
}

/// The batches of transactions that were not over and are below `end`.
fn written_since(before: &Snapshot, end: u64, own: u64) -> Result<Vec<Unsealed>> {
    let mut batches = Vec::new();
    for (query, which) in SINCE.into_iter().zip(which(before)) {
        batches.extend(read_unsealed(query, &[argument(which), argument(end.to_string())])?);
    }
    batches.retain(|batch| batch.transaction != own);
    Ok(batches)
}

/// The first arguments of the pairs of queries above.
fn which(before: &Snapshot) -> [String; 2] {
    [before.in_progress(), before.end().to_string()]
}

fn read_unsealed(query: &str, arguments: &[spi::Argument]) -> Result<Vec<Unsealed>> {
    let mut batches = Vec::new();
    spi::stream(query, arguments, |row| {
        batches.push(unsealed(row)?);
        Ok::<(), error::Error>(())
    })?;
    Ok(batches)
}

/// The first transaction that is left to the next block because this one has events enough. A transaction is never
/// divided: one that is too large is a block of its own.
fn first_left(before: &Snapshot, end: u64, own: u64) -> Result<Option<u64>> {
    let (mut first, mut left, mut count) = (None, None, 0);
    let batch = configuration::seal_batch();
    for (query, which) in WRITTEN.into_iter().zip(which(before)) {
        // One more than can be needed: each is of one event or more.
        let arguments = [argument(which), argument(end.to_string()), argument(batch + 1)];
        spi::stream(query, &arguments, |row| {
            let transaction = row.transaction(1).ok_or_else(|| unreadable("a row of tenancy.event_batch"))?;
            if transaction == own {
                return Ok(());
            }
            let first = *first.get_or_insert(transaction);
            if left.is_none() && count >= batch {
                left = Some(if transaction == first { first + 1 } else { transaction });
            }
            count += i64::from(row.get::<i32>(2).unwrap_or(1).max(1));
            Ok::<(), error::Error>(())
        })?;
    }
    Ok(left)
}

fn unsealed(row: &Row) -> Result<Unsealed> {
    let event = || {
        Some(Unsealed {
            id: row.uuid(1)?,
            organization: row.uuid(2)?,
            transaction: row.transaction(3)?,
            hash: row.bytes(4)?,
            ordinal: row.get(5)?,
            previous: row.bytes(6)?,
            events: row.get(7)?,
        })
    };
    event().ok_or_else(|| unreadable("a row of tenancy.event_batch"))
}

impl Additions {
    /// Extends the chain and the tree of one organization.
    fn extend(&mut self, block: i64, batches: &[Unsealed]) -> Result<()> {
        let Some(first) = batches.first() else { return Ok(()) };
        let organization = first.organization;
        let mut head = head(organization)?;
        for batch in batches {
            head.leaves += 1;
            head.position += i64::from(batch.events);
            head.chain = chain::extend(&head.chain, head.position, &batch.hash);
            let nodes = &mut self.nodes;
            head.frontier.push(chain::leaf(head.position, &batch.hash), |level, index, hash| {
                if level.is_multiple_of(STORED_LEVELS) {
                    nodes.push((organization, level as i16, index as i64, *hash));
                }
            });
            let entry = Entry {
                leaf: head.leaves,
                position: head.position,
                batch: batch.id,
                batch_hash: batch.hash,
                chain: head.chain,
                block,
            };
            self.entries.add(organization, &entry);
            self.seals.push((organization, entry));
        }
        self.heads.push((organization, head));
        Ok(())
    }

    /// Writes the rows, the columns in the order of the tables.
    fn write(&self, block: Block) {
        for seals in self.seals.chunks(BATCH) {
            table::insert_all(c"seal", seals, |(organization, entry)| {
                [
                    ColumnValue::Uuid(organization),
                    ColumnValue::BigInteger(entry.leaf),
                    ColumnValue::BigInteger(entry.position),
                    ColumnValue::BigInteger(entry.block),
                    ColumnValue::Uuid(&entry.batch),
                    ColumnValue::Bytes(&entry.batch_hash),
                    ColumnValue::Bytes(&entry.chain),
                ]
            });
        }
        let frontiers: Vec<(&Uuid, &NewHead, Vec<u8>)> =
            self.heads.iter().map(|(organization, head)| (organization, head, head.frontier.to_bytes())).collect();
        for heads in frontiers.chunks(BATCH) {
            table::insert_all(c"head", heads, |(organization, head, frontier)| {
                [
                    ColumnValue::Uuid(organization),
                    ColumnValue::BigInteger(block.number),
                    ColumnValue::BigInteger(head.position),
                    ColumnValue::BigInteger(head.leaves),
                    ColumnValue::Bytes(&head.chain),
                    ColumnValue::Bytes(frontier),
                ]
            });
        }
        for nodes in self.nodes.chunks(BATCH) {
            table::insert_all(c"tree_node", nodes, |(organization, level, index, hash)| {
                [
                    ColumnValue::Uuid(organization),
                    ColumnValue::SmallInteger(*level),
                    ColumnValue::BigInteger(*index),
                    ColumnValue::Bytes(hash),
                ]
            });
        }
        write(&block);
    }
}

/// How many rows are written at a time.
const BATCH: usize = 500;

/// The newest head of an organization, or the one before its first event.
fn head(organization: Uuid) -> Result<NewHead> {
    let read = |row: &Row| {
        let (position, leaves): (i64, i64) = (row.get(1)?, row.get(2)?);
        let frontier = Frontier::from_bytes(leaves.unsigned_abs(), row.get::<&[u8]>(4)?)?;
        Some(NewHead { position, leaves, chain: row.bytes(3)?, frontier })
    };
    match transaction::with_latest_snapshot(|| HEAD.read(&[spi::uuid(organization)], read)).pop() {
        Some(head) => head.ok_or_else(|| unreadable("a row of tenancy.head")),
        None => {
            Ok(NewHead { position: 0, leaves: 0, chain: chain::genesis(organization), frontier: Frontier::default() })
        }
    }
}

fn write(block: &Block) {
    let hash = block.hash();
    let values = [
        argument(block.number),
        spi::timestamp(block.sealed_at),
        argument(block.snapshot.as_str()),
        argument(block.incarnation.as_str()),
        argument(block.entries),
        argument(block.events),
        argument(block.entries_digest.as_slice()),
        argument(block.previous.as_slice()),
        argument(hash.as_slice()),
    ];
    BLOCK.write(&values, |_| ());
}
