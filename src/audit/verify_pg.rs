//! `tenancy.verify_audit()`: hands the stored rows to the pure verifier and its findings to the caller.

use super::block::Block;
use super::chain::Entry;
use super::encoding::Digest;
use super::event::Actor;
use super::seal_pg;
use super::verify::{BlockVerifier, ChainVerifier, Event, Finding, Report, Stored};
use crate::error::{Error, Result};
use crate::pg::report::OrRaise;
use crate::pg::spi::{self, Row};
use crate::pg::transaction;
use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern};
use uuid::Uuid;

/// The columns of an event and of its actor, as [`stored`] reads them from column 5 on.
macro_rules! event_columns {
    () => {
        "e.id, e.organization, e.actor, e.transaction, e.ordinal, e.occurred_at, e.operation, e.domain, e.table_schema,
         e.table_name, e.row_key::pg_catalog.text, e.result, e.reason, e.payload::pg_catalog.text, e.payload_salt,
         e.payload_digest, e.prev_hash, e.hash, a.id, a.method, a.subject, a.issuer, a.role, a.organization,
         a.session_id, a.correlation_id, a.reason, a.session_user_name, a.current_user_name, a.client_address,
         a.application_name, e.encoding"
    };
}

/// The entries of all chains, or of one, in order, with the events that they name.
const CHAINS: &str = concat!(
    "SELECT s.position, s.event, s.event_hash, s.chain, ",
    event_columns!(),
    ", s.organization, s.block FROM tenancy.seal s
      LEFT JOIN tenancy.event e ON e.id OPERATOR(pg_catalog.=) s.event
      LEFT JOIN tenancy.event_actor a ON a.id OPERATOR(pg_catalog.=) e.actor
     WHERE $1 IS NULL OR s.organization OPERATOR(pg_catalog.=) $1
     ORDER BY s.organization, s.position"
);

const BLOCKS: &str =
    "SELECT number, sealed_at, snapshot::pg_catalog.text, incarnation, events, entries_digest, prev_hash, hash
       FROM tenancy.block ORDER BY number";

/// Events that no entry names.
const UNSEALED: &str = concat!(
    "SELECT NULL::pg_catalog.int8, e.id, e.hash, e.hash, ",
    event_columns!(),
    ", e.organization, NULL::pg_catalog.int8 FROM tenancy.event e
      LEFT JOIN tenancy.event_actor a ON a.id OPERATOR(pg_catalog.=) e.actor
     WHERE ($1 IS NULL OR e.organization OPERATOR(pg_catalog.=) $1)
       AND NOT EXISTS (SELECT FROM tenancy.seal s WHERE s.event OPERATOR(pg_catalog.=) e.id)
     ORDER BY e.id"
);

/// A row of the result of `tenancy.verify_audit()`.
type Found = (String, Option<pgrx::Uuid>, Option<i64>, Option<pgrx::Uuid>, Option<String>, Option<String>, String);

/// `tenancy.verify_audit(organization)`: seals what has committed, then recomputes everything that is stored.
#[allow(clippy::type_complexity)]
#[pg_extern(sql = false)]
fn tenancy_verify_audit(
    organization: Option<pgrx::Uuid>,
) -> TableIterator<
    'static,
    (
        name!(finding, String),
        name!(organization, Option<pgrx::Uuid>),
        name!(position, Option<i64>),
        name!(event, Option<pgrx::Uuid>),
        name!(table_name, Option<String>),
        name!(row_key, Option<String>),
        name!(explanation, String),
    ),
> {
    let wanted = organization.map(|id| Uuid::from_bytes(*id.as_bytes()));
    if !transaction::read_only() {
        seal_pg::seal().or_raise();
    }
    TableIterator::new(transaction::with_latest_snapshot(|| verify(wanted)).or_raise())
}

fn verify(wanted: Option<Uuid>) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    let blocks = chains(wanted, &mut found)?;
    if wanted.is_none() {
        verify_blocks(blocks, &mut found)?;
    }
    inserted(wanted, &mut found)?;
    Ok(found)
}

/// Walks each chain in turn, and gathers what the blocks must hold.
fn chains(wanted: Option<Uuid>, found: &mut Vec<Found>) -> Result<BlockVerifier> {
    let mut blocks = BlockVerifier::default();
    let mut current: Option<(Uuid, ChainVerifier)> = None;
    spi::stream(CHAINS, &[spi::uuid(wanted)], |row| {
        let organization = row.uuid(37).unwrap_or_default();
        let Some(entry) = entry(row) else {
            found.push(unreadable(organization, row));
            return Ok(());
        };
        let event = event(row);
        let (_, verifier) = match &mut current {
            Some(current) if current.0 == organization => current,
            other => other.insert((organization, ChainVerifier::new(organization))),
        };
        for report in verifier.next(&entry, &event) {
            found.push(describe(organization, Some(entry.position), entry.event, &event, report));
        }
        blocks.entry(organization, &entry);
        Ok::<(), Error>(())
    })?;
    Ok(blocks)
}

/// Compares the blocks with the entries that name them.
fn verify_blocks(mut verifier: BlockVerifier, found: &mut Vec<Found>) -> Result<()> {
    let mut reports = Vec::new();
    spi::stream(BLOCKS, &[], |row| {
        match read_block(row) {
            Some((block, hash)) => reports.extend(verifier.block(&block, &hash)),
            None => {
                let number = row.get(1).unwrap_or_default();
                reports.push((number, (Finding::Altered, format!("block {number} has a value that no block has"))));
            }
        }
        Ok::<(), Error>(())
    })?;
    reports.extend(verifier.finish());
    for (_, (finding, explanation)) in reports {
        found.push((finding.name().to_string(), None, None, None, None, None, explanation));
    }
    Ok(())
}

fn read_block(row: &Row) -> Option<(Block, Digest)> {
    let block = Block {
        number: row.get(1)?,
        sealed_at: row.timestamp(2)?,
        snapshot: row.get(3)?,
        incarnation: row.get(4)?,
        events: row.get(5)?,
        entries_digest: row.bytes(6)?,
        previous: row.bytes(7)?,
    };
    Some((block, row.bytes(8)?))
}

/// Events outside of the seal though their transaction was over when the last block was made: no trigger wrote them.
fn inserted(wanted: Option<Uuid>, found: &mut Vec<Found>) -> Result<()> {
    let Some(sealed) = seal_pg::sealed_until()? else { return Ok(()) };
    let own = transaction::id_if_any();
    spi::stream(UNSEALED, &[spi::uuid(wanted)], |row| {
        let event = event(row);
        let (id, organization) = (row.uuid(2).unwrap_or_default(), row.uuid(37).unwrap_or_default());
        let report = match &event {
            Event::Stored(stored) if Some(stored.transaction) == own || !sealed.is_over(stored.transaction) => {
                return Ok(());
            }
            Event::Unreadable => (Finding::Altered, "the event has a value that no event has".to_string()),
            _ => {
                let explanation =
                    "no entry of the seal knows the event, though its transaction was over when it was made";
                (Finding::Inserted, explanation.to_string())
            }
        };
        found.push(describe(organization, None, id, &event, report));
        Ok(())
    })
}

fn uuid(id: Uuid) -> Option<pgrx::Uuid> {
    Some(pgrx::Uuid::from_bytes(*id.as_bytes()))
}

fn describe(organization: Uuid, position: Option<i64>, id: Uuid, event: &Event, report: Report) -> Found {
    let stored = if let Event::Stored(stored) = event { Some(stored) } else { None };
    let table = stored
        .and_then(|stored| Some(format!("{}.{}", stored.table_schema.as_deref()?, stored.table_name.as_deref()?)));
    let key = stored.and_then(|stored| stored.row_key.clone());
    let (finding, explanation) = report;
    (finding.name().to_string(), uuid(organization), position, uuid(id), table, key, explanation)
}

/// The finding for an entry that cannot be read.
fn unreadable(organization: Uuid, row: &Row) -> Found {
    let explanation = "the entry in tenancy.seal has a value that no entry has";
    let id = row.uuid(2).and_then(uuid);
    (Finding::Altered.name().to_string(), uuid(organization), row.get(1), id, None, None, explanation.to_string())
}

/// An entry, if its values are of the lengths they must have.
fn entry(row: &Row) -> Option<Entry> {
    Some(Entry {
        position: row.get(1)?,
        event: row.uuid(2)?,
        event_hash: row.bytes(3)?,
        chain: row.bytes(4)?,
        block: row.get(38)?,
    })
}

fn event(row: &Row) -> Event {
    match row.uuid(5) {
        None => Event::Gone,
        Some(id) => stored(row, id).map_or(Event::Unreadable, |stored| Event::Stored(Box::new(stored))),
    }
}

fn stored(row: &Row, id: Uuid) -> Option<Stored> {
    Some(Stored {
        id,
        organization: row.uuid(6)?,
        actor: row.uuid(7)?,
        actor_row: row.uuid(23).and_then(|id| actor(row, id)),
        transaction: row.transaction(8)?,
        ordinal: row.get(9)?,
        occurred_at: row.timestamp(10)?,
        operation: row.get(11)?,
        domain: row.get(12)?,
        table_schema: row.get(13),
        table_name: row.get(14),
        row_key: row.get(15),
        result: row.get(16)?,
        reason: row.get(17),
        payload: row.get(18),
        payload_salt: row.get(19),
        payload_digest: row.bytes(20)?,
        encoding: row.get(36)?,
        previous: row.bytes(21)?,
        hash: row.bytes(22)?,
    })
}

fn actor(row: &Row, id: Uuid) -> Option<Actor> {
    Some(Actor {
        id,
        method: row.get(24)?,
        subject: row.get(25),
        issuer: row.get(26),
        role: row.get(27),
        organization: row.uuid(28),
        session_id: row.get(29),
        correlation_id: row.get(30),
        reason: row.get(31),
        session_user: row.get(32)?,
        current_user: row.get(33)?,
        client_address: row.get(34),
        application_name: row.get(35),
    })
}
