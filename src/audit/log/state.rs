//! Where the log stands: its newest block, and which history of which database it belongs to.

use crate::pg::spi::{Query, Row, argument};
use pg_tenancy_core::audit::format::encoding::Digest;
use pg_tenancy_core::audit::format::incarnation::DatabaseIdentity;
use pg_tenancy_core::audit::log::snapshot::Snapshot;
use pg_tenancy_core::error::{self, Result};
use pgrx::pg_sys;

static LAST_BLOCK: Query =
    Query::new("SELECT number, snapshot::text, hash FROM tenancy.block ORDER BY number DESC LIMIT 1");

/// Of a block of the newest history.
static SEALED_AT: Query = Query::new(
    "SELECT sealed_at FROM tenancy.block
      WHERE number = $1 AND number >= (SELECT max(first_block) FROM tenancy.incarnation)",
);

static LAST_INCARNATION: Query = Query::new(
    "SELECT name, system_identifier, database, timeline FROM tenancy.incarnation ORDER BY first_block DESC LIMIT 1",
);

/// The timeline that is written to: pg_control_checkpoint() tells an older one for a while after a promotion. A standby
/// writes to none and is on that of its last restartpoint.
static PLACE: Query = Query::new(
    "SELECT s.system_identifier::text, d.oid,
            CASE WHEN pg_is_in_recovery() THEN (SELECT timeline_id::int8 FROM pg_control_checkpoint())
                 ELSE ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int8 END
       FROM pg_control_system() s, pg_database d
      WHERE d.datname = current_database()",
);

/// A lock that only a role with rights on the table can take, unlike an advisory lock, which any role could hold
/// forever. It conflicts with itself and lets events be written and blocks be read.
static LOCK: Query = Query::new("LOCK TABLE tenancy.block IN SHARE UPDATE EXCLUSIVE MODE");

static NOW: Query = Query::new("SELECT pg_current_snapshot()::text");

/// The newest block, as far as the next one needs it.
pub struct NewestBlock {
    pub number: i64,
    pub snapshot: Snapshot,
    pub hash: Digest,
}

/// The newest block, and the history that it belongs to.
pub struct LogState {
    pub last: Option<NewestBlock>,
    /// The name of the history that goes on; `None` where a new one begins.
    pub incarnation: Option<String>,
    pub identity: DatabaseIdentity,
    /// True if the last block's snapshot speaks of the transactions of today.
    pub same_xid_space: bool,
}

/// Reads where the log stands.
pub fn state() -> Result<LogState> {
    let last = last_block()?;
    let read = |row: &Row| Some((row.get::<String>(1)?, row.get::<pg_sys::Oid>(2)?.to_u32(), row.get::<i64>(3)?));
    let identity = PLACE.read(&[], read).pop().flatten();
    let (system_identifier, database, timeline) = identity.ok_or_else(|| unreadable("the identity of the database"))?;
    let identity = DatabaseIdentity { system_identifier, database, timeline };
    let read = |row: &Row| {
        let (system_identifier, database) = (row.get(2)?, row.get::<pg_sys::Oid>(3)?.to_u32());
        Some((row.get::<String>(1)?, DatabaseIdentity { system_identifier, database, timeline: row.get(4)? }))
    };
    let newest = LAST_INCARNATION.read(&[], read).pop().flatten();
    let same_xid_space = newest.as_ref().is_some_and(|(_, of_old)| of_old.counts_as(&identity));
    let incarnation = newest.filter(|(_, of_old)| *of_old == identity).map(|(name, _)| name);
    Ok(LogState { last, incarnation, identity, same_xid_space })
}

/// True once this history of the database has a block: what was written before could vanish without a trace.
pub fn has_begun() -> Result<bool> {
    Ok(state()?.incarnation.is_some())
}

/// The newest block, if there is any.
pub fn last_block() -> Result<Option<NewestBlock>> {
    let read = |row: &Row| {
        let snapshot = row.get::<String>(2).and_then(|text| text.parse().ok());
        Some(NewestBlock { number: row.get(1)?, snapshot: snapshot?, hash: row.bytes(3)? })
    };
    match LAST_BLOCK.read(&[], read).pop() {
        Some(None) => Err(unreadable("the newest row of tenancy.block")),
        block => Ok(block.flatten()),
    }
}

/// Keeps others from sealing, until the transaction ends.
pub fn keep_sealers_away() {
    LOCK.write(&[], |_| ());
}

/// Which transactions the active snapshot sees as over.
pub fn now() -> Result<Snapshot> {
    let now = NOW.read(&[], |row| row.get::<String>(1)).pop().flatten().and_then(|text| text.parse().ok());
    now.ok_or_else(|| unreadable("the current snapshot"))
}

/// Which transactions the newest block saw as over; `None` before the first block of this history of the database.
pub fn sealed_until() -> Result<Option<Snapshot>> {
    let state = state()?;
    Ok(state.last.filter(|_| state.same_xid_space).map(|last| last.snapshot))
}

/// When the block was made; 0 for one that is not there, or is not of this history.
pub fn sealed_at(block: i64) -> Result<i64> {
    if state()?.incarnation.is_none() {
        return Ok(0);
    }
    Ok(SEALED_AT.read(&[argument(block)], |row| row.timestamp(1)).pop().flatten().unwrap_or_default())
}

/// The error of a row that cannot be read.
pub fn unreadable(what: &str) -> error::Error {
    error::STATE_INVALID.error(format!("{what} cannot be read"))
}
