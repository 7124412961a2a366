//! The sealer: gives committed events their place, one sealer at a time, without making any writer wait.

use super::block::{self, Block, Entries};
use super::chain;
use super::encoding::Digest;
use super::order::{Unsealed, by_links};
use super::snapshot::Snapshot;
use super::verify::Entry;
use crate::error::{self, Result};
use crate::pg::report::OrRaise;
use crate::pg::spi::{self, Query, Row, argument};
use crate::pg::table::{self, Value};
use crate::pg::transaction;
use pgrx::pg_extern;

/// A lock that only a role with rights on the table can take, unlike an advisory lock, which any role could hold
/// forever. It conflicts with itself and lets events be written and blocks be read.
static LOCK: Query = Query::new("LOCK TABLE tenancy.block IN SHARE UPDATE EXCLUSIVE MODE");

static LAST_BLOCK: Query = Query::new(
    "SELECT number, snapshot::pg_catalog.text, incarnation, hash FROM tenancy.block ORDER BY number DESC LIMIT 1",
);

/// Which history of which database this is: transaction ids mean something only within it.
static INCARNATION: Query = Query::new(
    "SELECT s.system_identifier::pg_catalog.text || '/' || d.oid::pg_catalog.text
       FROM pg_catalog.pg_control_system() s, pg_catalog.pg_database d
      WHERE d.datname = pg_catalog.current_database()",
);

static NOW: Query = Query::new("SELECT pg_catalog.pg_current_snapshot()::pg_catalog.text");

/// What no entry names. A hash of another length was written by hand: `verify_audit` names it, nothing seals it.
const UNSEALED: &str = "SELECT e.id, e.organization, e.transaction, e.hash, e.ordinal, e.prev_hash
       FROM tenancy.event e
      WHERE e.transaction OPERATOR(pg_catalog.>=) $1::pg_catalog.xid8
        AND pg_catalog.octet_length(e.hash) OPERATOR(pg_catalog.=) 32
        AND pg_catalog.octet_length(e.prev_hash) OPERATOR(pg_catalog.=) 32
        AND NOT EXISTS (SELECT FROM tenancy.seal s WHERE s.event OPERATOR(pg_catalog.=) e.id)
      ORDER BY e.organization, e.transaction, e.ordinal, e.id";

static BLOCK: Query = Query::new(
    "INSERT INTO tenancy.block (number, sealed_at, snapshot, incarnation, events, entries_digest, prev_hash, hash)
     VALUES ($1, $2, $3::pg_catalog.pg_snapshot, $4, $5, $6, $7, $8)",
);

static HEAD: Query = Query::new(
    "SELECT position, chain FROM tenancy.seal WHERE organization OPERATOR(pg_catalog.=) $1
      ORDER BY position DESC LIMIT 1",
);

/// The newest block, as far as the next one needs it.
struct Last {
    number: i64,
    snapshot: Snapshot,
    incarnation: String,
    hash: Digest,
}

/// `tenancy.seal()`: seals what has committed; returns how many events that were.
#[pg_extern(sql = false)]
fn tenancy_seal() -> i64 {
    seal().or_raise()
}

/// Seals all events of transactions that were not over at the last block and are over now, in one new block.
pub fn seal() -> Result<i64> {
    if transaction::read_only() {
        return Err(error::READ_ONLY.because("events cannot be sealed on a standby or in a READ ONLY transaction"));
    }
    LOCK.write(&[], |_| ());
    let (last, incarnation, events, now) = transaction::with_latest_snapshot(collect)?;
    // A new history begins with a block of its own, even an empty one: the ids of the old one mean nothing in it.
    let moved = last.as_ref().is_some_and(|last| last.incarnation != incarnation);
    if events.is_empty() && !moved {
        return Ok(0);
    }
    let number = last.as_ref().map_or(1, |last| last.number + 1);
    let mut entries = Entries::default();
    for chain in events.chunk_by(|one, other| one.organization == other.organization) {
        entries = append(number, chain, entries)?;
    }
    write(&Block {
        number,
        sealed_at: transaction::now(),
        snapshot: now.to_string(),
        incarnation,
        events: entries.count(),
        entries_digest: entries.digest(),
        previous: last.map_or_else(block::origin, |last| last.hash),
    });
    transaction::next_command();
    Ok(events.len() as i64)
}

fn write(block: &Block) {
    let hash = block.hash();
    let values = [
        argument(block.number),
        spi::timestamp(block.sealed_at),
        argument(block.snapshot.as_str()),
        argument(block.incarnation.as_str()),
        argument(block.events),
        argument(block.entries_digest.as_slice()),
        argument(block.previous.as_slice()),
        argument(hash.as_slice()),
    ];
    BLOCK.write(&values, |_| ());
}

type Collected = (Option<Last>, String, Vec<Unsealed>, Snapshot);

/// What is to be sealed, and the moment it was looked at; all under one snapshot, so that the two agree.
fn collect() -> Result<Collected> {
    let last = last_block()?;
    let incarnation = incarnation();
    let own = transaction::id();
    let now = NOW.read(&[], |row| row.get::<String>(1)).pop().flatten().and_then(|text| text.parse().ok());
    let now: Snapshot = now.ok_or_else(|| unreadable("the current snapshot"))?;
    // A restored or upgraded database is another incarnation: what its ids say of the old one means nothing.
    let before = last.as_ref().filter(|block| block.incarnation == incarnation).map(|block| &block.snapshot);
    let horizon = before.map_or(0, Snapshot::horizon);
    let mut events = Vec::new();
    spi::stream(UNSEALED, &[argument(horizon.to_string())], |row| {
        let event = unsealed(row)?;
        // Seen here means committed, but for the sealer's own events: those wait for its commit.
        if event.transaction != own && before.is_none_or(|block| !block.is_over(event.transaction)) {
            events.push(event);
        }
        Ok(())
    })?;
    Ok((last, incarnation, by_links(events), now.but_not(own)))
}

/// The newest block, if there is any.
fn last_block() -> Result<Option<Last>> {
    let read = |row: &Row| {
        let snapshot = row.get::<String>(2).and_then(|text| text.parse().ok());
        Some(Last { number: row.get(1)?, snapshot: snapshot?, incarnation: row.get(3)?, hash: row.bytes(4)? })
    };
    match LAST_BLOCK.read(&[], read).pop() {
        Some(None) => Err(unreadable("the newest row of tenancy.block")),
        block => Ok(block.flatten()),
    }
}

fn incarnation() -> String {
    INCARNATION.read(&[], |row| row.get::<String>(1)).pop().flatten().unwrap_or_default()
}

/// Which transactions the newest block saw as over; `None` before the first block of this history of the database.
pub fn sealed_until() -> Result<Option<Snapshot>> {
    let incarnation = incarnation();
    Ok(last_block()?.filter(|last| last.incarnation == incarnation).map(|last| last.snapshot))
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
        })
    };
    event().ok_or_else(|| unreadable("a row of tenancy.event"))
}

/// Extends the chain of one organization, and the digest over the block's entries.
fn append(block: i64, events: &[Unsealed], mut entries: Entries) -> Result<Entries> {
    let Some(first) = events.first() else { return Ok(entries) };
    let organization = first.organization;
    let head = transaction::with_latest_snapshot(|| {
        HEAD.read(&[spi::uuid(organization)], |row| Some((row.get(1)?, row.bytes(2)?)))
    });
    let (mut position, mut chain) = match head.into_iter().next() {
        Some(head) => head.ok_or_else(|| unreadable("a row of tenancy.seal"))?,
        None => (0i64, chain::genesis(organization)),
    };
    for event in events {
        position += 1;
        chain = chain::extend(&chain, position, &event.hash);
        let entry = Entry { position, event: event.id, event_hash: event.hash, chain, block };
        entries = entries.add(organization, &entry);
        // The columns of tenancy.seal, in order.
        table::insert(
            c"seal",
            &[
                Value::Uuid(&organization),
                Value::BigInteger(position),
                Value::BigInteger(block),
                Value::Uuid(&entry.event),
                Value::Bytes(&entry.event_hash),
                Value::Bytes(&entry.chain),
            ],
        );
    }
    Ok(entries)
}

fn unreadable(what: &str) -> error::Error {
    error::STATE_INVALID.because(format!("{what} cannot be read"))
}
