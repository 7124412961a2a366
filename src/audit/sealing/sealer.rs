//! The sealer: gives committed events their place, one sealer at a time, without making any writer wait.
//!
//! Decision: `docs/decisions/37-sealing.md`.

use super::{coverage, records, unsealed};
use crate::audit::capture::partition;
use crate::audit::history::row_index;
use crate::audit::log::place::Places;
use crate::audit::log::seal;
use crate::audit::log::state::{self, LogState, unreadable};
use crate::pg::report::OrRaise;
use crate::pg::settings::configuration;
use crate::pg::spi::{self, Query, Row, argument};
use crate::pg::tables::table::{self, ColumnValue};
use crate::pg::transaction;
use pg_tenancy_core::audit::format::encoding::Digest;
use pg_tenancy_core::audit::format::incarnation::{DatabaseIdentity, Incarnation};
use pg_tenancy_core::audit::log::block::{self, Block, Heads};
use pg_tenancy_core::audit::log::chain;
use pg_tenancy_core::audit::log::entries::{self, ENTRY, MAX_ENTRIES};
use pg_tenancy_core::audit::log::merkle::STORED_LEVELS;
use pg_tenancy_core::audit::log::snapshot::Snapshot;
use pg_tenancy_core::audit::sealing::order::{Unsealed, by_links};
use pg_tenancy_core::audit::verification::StoredHead;
use pg_tenancy_core::error::{self, Result};
use pgrx::{pg_extern, pg_sys};
use rand::RngExt as _;
use uuid::Uuid;

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

/// What the sealer reads of a batch. A hash of another length was written by hand: `verify_audit` names it, nothing
/// seals it.
macro_rules! batches {
    ($which:expr) => {
        concat!(
            "SELECT e.id, e.organization, e.transaction, e.hash, e.ordinal, e.prev_hash, e.events FROM \
                tenancy.event_batch e WHERE ",
            $which,
            " AND octet_length(e.hash) = 32
              AND octet_length(e.prev_hash) = 32
              AND e.events BETWEEN 1 AND 128"
        )
    };
}

/// The order of a block, in which Postgres sorts: on disk, where there is much.
macro_rules! in_order {
    ($columns:literal, $from:expr) => {
        concat!(
            "SELECT u.*, ",
            $columns,
            " FROM (",
            $from,
            ") u ORDER BY u.organization, u.transaction, u.ordinal, u.id"
        )
    };
}

/// In a new history, whose transactions count anew: whatever there is. The last column: whether two transactions of
/// one id may be there, of the history that was restored and of the one that began then.
const ALL: &str = in_order!(
    "count(*) FILTER (WHERE u.ordinal = 1) OVER (PARTITION BY u.organization, u.transaction) > 1",
    batches!("true")
);

/// Batches of transactions that had not ended at the block before. None of them is sealed.
const SINCE: &str = in_order!(
    "false",
    concat!(
        batches!("e.transaction = ANY ($1::xid8[]) AND e.transaction < $3::xid8"),
        " UNION ALL ",
        batches!("e.transaction >= $2::xid8 AND e.transaction < $3::xid8")
    )
);

static BLOCK: Query = Query::new(
    "INSERT INTO tenancy.block (number, sealed_at, snapshot, incarnation, events, heads_digest, prev_hash, hash)
     VALUES ($1, $2, $3::pg_snapshot, $4, $5, $6, $7, $8)",
);

static INCARNATION: Query = Query::new(
    "INSERT INTO tenancy.incarnation (name, first_block, system_identifier, database, timeline, began_at, salt)
     VALUES ($1, $2, $3, $4, $5, $6, $7)",
);

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
    records::take_in_all();
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

/// Takes in a part of what waits outside of the tables, for a caller that commits. Returns whether there may be more.
pub fn take_in() -> Result<bool> {
    begin_sealing()?;
    records::take_in()
}

/// Keeps other sealers away; returns the number of the newest block.
fn begin_sealing() -> Result<i64> {
    if transaction::read_only() {
        return Err(error::READ_ONLY.error("events cannot be sealed on a standby or in a READ ONLY transaction"));
    }
    table::keep_extension();
    state::keep_sealers_away();
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
    let mut rows = Rows::default();
    let Run { state, now, rest } = transaction::with_latest_snapshot(|| run(limit, &mut rows))?;
    // A new history begins with a block of its own, even an empty one: the ids of the old one mean nothing in it. An
    // empty block also leads past what nothing seals, where more than that is left.
    let begins = state.incarnation.is_none() && state.last.is_some();
    let events = rows.heads.events();
    if events == 0 && !begins && !rest {
        return Ok((0, false));
    }
    let number = state.last.as_ref().map_or(1, |last| last.number + 1);
    let incarnation = state.incarnation.unwrap_or_else(|| begin(state.identity, number));
    write(&Block {
        number,
        sealed_at: transaction::now(),
        snapshot: now.to_string(),
        incarnation,
        events,
        heads_digest: rows.heads.digest(),
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

/// What a block needs besides its rows. `rest` is true if events are left that were too many for one block.
struct Run {
    state: LogState,
    now: Snapshot,
    rest: bool,
}

/// Writes the rows of what is to be sealed, and returns the moment it was looked at; all under one snapshot, so that
/// the two agree.
fn run(limit: &mut Option<u64>, rows: &mut Rows) -> Result<Run> {
    let state = state::state()?;
    let own = transaction::id();
    let now = state::now()?.but_not(own);
    let limit = *limit.get_or_insert(now.end());
    // A restored database has sealed events of transactions that in this history have yet to come.
    let before = state.last.as_ref().filter(|_| state.same_xid_space).map(|block| &block.snapshot);
    let cut = match before {
        Some(before) => first_left(before, limit, own)?,
        None => None,
    };
    let end = cut.unwrap_or(limit);
    let now = now.until(end, before.unwrap_or(&Snapshot::default()));
    rows.block = state.last.as_ref().map_or(1, |last| last.number + 1);
    // Else what the block sealed would be sealed again: its snapshot is gone with it.
    if seal::has_rows_from(rows.block) {
        let message = format!("block {} is gone from tenancy.block, although tenancy.seal has its rows", rows.block);
        return Err(error::STATE_INVALID.error(message));
    }
    // Seen here means committed, but for the sealer's own events: those wait for its commit.
    match before {
        None => {
            let (mut places, mut group) = (Places::default(), Vec::new());
            let mut is_sealed =
                |batch: &Unsealed| places.find(&batch.organization, batch.transaction, &batch.id).is_some();
            spi::stream(ALL, &[], |row| {
                let batch = unsealed(row)?;
                if batch.transaction == own || is_sealed(&batch) {
                    return Ok(());
                }
                if !is_of(&group, &batch) {
                    rows.add_all(by_links(std::mem::take(&mut group)))?;
                }
                if row.get::<bool>(8) == Some(true) {
                    group.push(batch);
                    return Ok(());
                }
                rows.add(&batch)
            })?;
            rows.add_all(by_links(group))?;
        }
        Some(before) => {
            let arguments =
                [argument(before.in_progress()), argument(before.end().to_string()), argument(end.to_string())];
            spi::stream(SINCE, &arguments, |row| {
                let batch = unsealed(row)?;
                if batch.transaction == own { Ok(()) } else { rows.add(&batch) }
            })?;
        }
    }
    rows.end();
    Ok(Run { state, now, rest: cut.is_some() })
}

/// True if the batch belongs to the group, which is of one organization and transaction.
fn is_of(group: &[Unsealed], batch: &Unsealed) -> bool {
    let of = |batch: &Unsealed| (batch.organization, batch.transaction);
    group.first().is_none_or(|first| of(first) == of(batch))
}

/// The first arguments of the pair of queries above.
fn which(before: &Snapshot) -> [String; 2] {
    [before.in_progress(), before.end().to_string()]
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

/// The rows of a block, written as they fill: however large a transaction is, no more is in memory.
#[derive(Default)]
struct Rows {
    block: i64,
    heads: Heads,
    /// The organization whose batches are being sealed, and where it stands.
    current: Option<(Uuid, StoredHead)>,
    entries: Vec<u8>,
    /// Organization, where it stands after the row, frontier, entries.
    full: Vec<(Uuid, StoredHead, Vec<u8>, Vec<u8>)>,
    /// The bytes of the entries in `full`.
    bytes: usize,
    nodes: Vec<(Uuid, i16, i64, Digest)>,
}

impl Rows {
    fn add_all(&mut self, batches: Vec<Unsealed>) -> Result<()> {
        batches.iter().try_for_each(|batch| self.add(batch))
    }

    /// Extends the chain and the tree of the batch's organization. The batches come in the order of the organizations.
    fn add(&mut self, batch: &Unsealed) -> Result<()> {
        let organization = batch.organization;
        if self.current.as_ref().is_none_or(|(current, _)| *current != organization) {
            self.end_organization();
            self.current = Some((organization, head(organization)?));
        }
        if self.entries.len() == MAX_ENTRIES * ENTRY {
            self.end_row();
        }
        let Some((_, head)) = &mut self.current else { return Ok(()) };
        let events = i64::from(batch.events);
        head.leaves += 1;
        head.position += events;
        head.chain = chain::extend(&head.chain, head.position, &batch.hash);
        let nodes = &mut self.nodes;
        head.frontier.push(chain::leaf(head.position, &batch.hash), |level, index, hash| {
            if level.is_multiple_of(STORED_LEVELS) {
                nodes.push((organization, level as i16, index as i64, *hash));
            }
        });
        entries::put(&mut self.entries, &batch.id, events, &batch.hash);
        self.heads.count(events);
        Ok(())
    }

    fn end_row(&mut self) {
        let Some((organization, head)) = &self.current else { return };
        let entries = std::mem::take(&mut self.entries);
        if entries.is_empty() {
            return;
        }
        self.bytes += entries.len();
        self.full.push((*organization, head.clone(), head.frontier.to_bytes(), entries));
        if self.full.len() >= ROWS_AT_A_TIME || self.bytes >= BYTES_AT_A_TIME {
            self.write();
        }
    }

    fn end_organization(&mut self) {
        self.end_row();
        if let Some((organization, head)) = self.current.take() {
            self.heads.add(organization, head.position, head.leaves, &head.chain);
        }
    }

    fn end(&mut self) {
        self.end_organization();
        self.write();
    }

    /// Writes the rows, the columns in the order of the tables.
    fn write(&mut self) {
        let block = self.block;
        if !self.full.is_empty() {
            table::insert_all(c"seal", &self.full, |(organization, head, frontier, entries)| {
                [
                    ColumnValue::Uuid(organization),
                    ColumnValue::BigInteger(block),
                    ColumnValue::BigInteger(head.position),
                    ColumnValue::BigInteger(head.leaves),
                    ColumnValue::Bytes(&head.chain),
                    ColumnValue::Bytes(frontier),
                    ColumnValue::Bytes(entries),
                ]
            });
        }
        if !self.nodes.is_empty() {
            table::insert_all(c"tree_node", &self.nodes, |(organization, level, index, hash)| {
                [
                    ColumnValue::Uuid(organization),
                    ColumnValue::SmallInteger(*level),
                    ColumnValue::BigInteger(*index),
                    ColumnValue::Bytes(hash),
                ]
            });
        }
        self.full.clear();
        self.nodes.clear();
        self.bytes = 0;
        transaction::check_for_interrupts();
    }
}

/// How many rows, or bytes of entries, are written at a time.
const ROWS_AT_A_TIME: usize = 500;
const BYTES_AT_A_TIME: usize = 2 << 20;

/// Where an organization stands, also if that is before its first event.
fn head(organization: Uuid) -> Result<StoredHead> {
    let newest = transaction::with_latest_snapshot(|| {
        let mut rows = seal::open_heads();
        rows.seek(&seal::rows_until(&organization, i64::MAX));
        rows.back().map(|fields| seal::head_in(&fields))
    });
    match newest {
        Some(head) => head.ok_or_else(|| unreadable("a row of tenancy.seal")),
        None => Ok(StoredHead::genesis(organization)),
    }
}

fn write(block: &Block) {
    let hash = block.hash();
    let values = [
        argument(block.number),
        spi::timestamp(block.sealed_at),
        argument(block.snapshot.as_str()),
        argument(block.incarnation.as_str()),
        argument(block.events),
        argument(block.heads_digest.as_slice()),
        argument(block.previous.as_slice()),
        argument(hash.as_slice()),
    ];
    BLOCK.write(&values, |_| ());
}
