//! The record of each reveal: durable before the value leaves, whatever becomes of the transaction, and an event of the
//! organization's chain once a sealer has taken it in.
//!
//! Decision: `docs/decisions/77-reveal-records.md`.

use super::guard;
use crate::audit::{self, NewEvent, OtherActor};
use crate::guardrail::{self, Hit};
use crate::pg::backend_local::BackendLocal;
use crate::pg::processes::{progress, shared};
use crate::pg::spi::{self, Query, Row, argument};
use crate::pg::tables::table;
use crate::pg::{clock, report, server, transaction, user};
use pg_tenancy_core::audit::format::hex;
use pg_tenancy_core::error::{self, Error, Kind, Result};
use pg_tenancy_core::guardrail::{State, UNRECORDED_REVEAL};
use pg_tenancy_core::savepoint_stack::SavepointStack;
use pg_tenancy_core::secrets::reveal_folder::RevealFolder;
use pg_tenancy_core::secrets::reveal_record::{Outcome, RECORD_BYTES, RevealRecord};
use pg_tenancy_files::journal::{Journal, MAX_RECORD, Position};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::rc::Rc;
use uuid::Uuid;

/// The folder in the data folder that has a folder for each [`RevealFolder`]. Its name is short, because a base backup
/// fails over a path of 100 bytes or more (`tarCreateHeader`).
const AROUND: &str = "pg_tenancy";

/// The most records, and bytes of them, that are taken in at a time.
const MAX_RECORDS: i64 = 1000;
const MAX_BYTES: usize = 1 << 20;

/// The most bytes of a record that cannot be read which its event shows.
const SHOWN_BYTES: usize = 4096;

const _: () = assert!(RECORD_BYTES <= MAX_RECORD);

static POSITION: Query = Query::new(r#"SELECT segment, "offset" FROM tenancy.reveal_journal WHERE folder = $1"#);

static MOVE: Query = Query::new(
    r#"INSERT INTO tenancy.reveal_journal AS j (folder, segment, "offset", records, taken_in_at)
       VALUES ($1, $2, $3, $4, $5)
       ON CONFLICT (folder) DO UPDATE
           SET segment = EXCLUDED.segment, "offset" = EXCLUDED."offset", records = j.records + EXCLUDED.records,
               taken_in_at = EXCLUDED.taken_in_at"#,
);

static COUNT_USES: Query = Query::new(
    "INSERT INTO tenancy.secret_use AS u (secret, number, organization, issuer, subject, last_used_at, uses)
     VALUES ($1, $2, $3, $4, $5, $6, $7)
     ON CONFLICT (secret, number, issuer, subject) DO UPDATE
         SET last_used_at = greatest(u.last_used_at, EXCLUDED.last_used_at), uses = u.uses + EXCLUDED.uses",
);

static LAST_USE: Query =
    Query::new("SELECT max(last_used_at) FROM tenancy.secret_use WHERE secret = $1 AND number = $2");

/// A reveal that is about to happen, or that is refused.
pub struct Reveal<'a> {
    pub organization: Uuid,
    /// `None` if there is no such secret, or the caller may not know of it.
    pub secret: Option<Uuid>,
    pub name: &'a str,
    pub version: Option<i32>,
    pub scope: Option<&'a str>,
    pub purpose: &'a str,
    pub action_type: Option<&'a str>,
    pub approval: Option<Uuid>,
    /// Fingerprint of the public key that the value is sealed to.
    pub recipient: Option<&'a str>,
    /// Why it is refused; `None` if the value leaves.
    pub error: Option<&'static Kind>,
}

/// What is done with a journal once a position in it is committed.
struct Read {
    journal: Journal,
    position: Position,
    /// Nobody writes to it any more, and it was read to its end.
    is_over: bool,
}

static READ: BackendLocal<RefCell<SavepointStack<Vec<Rc<Read>>>>> =
    BackendLocal::new(RefCell::new(SavepointStack::new(Vec::new())));

/// Records a reveal. Once this returns, the value may leave: the record survives a rollback, a crash, and the end of
/// this process. A reveal that fails is recorded before its error is raised.
///
/// Errors: [`error::REVEAL_UNRECORDED`], if it cannot be recorded so and the guardrail refuses that.
pub fn keep(reveal: &Reveal) -> Result<()> {
    let text = |text: &str| text.to_owned();
    let record = RevealRecord {
        occurred_at: clock::now(),
        organization: reveal.organization,
        secret: reveal.secret,
        name: reveal.name.to_owned(),
        version: reveal.version,
        scope: reveal.scope.map(text),
        purpose: reveal.purpose.to_owned(),
        action_type: reveal.action_type.map(text),
        approval: reveal.approval,
        recipient: reveal.recipient.map(text),
        outcome: reveal.error.map_or(Outcome::Success, |kind| Outcome::of_sqlstate(kind.sqlstate)),
        error: reveal.error.map(|kind| kind.name.to_lowercase()),
        actor: audit::describe_now()?,
    };
    let why = if transaction::in_recovery() {
        "The server is a standby.".to_owned()
    } else {
        match Journal::at(path(&own_folder())).append(&record.to_bytes()) {
            Ok(()) => {
                // A transaction that rolls back tells the worker nothing.
                if let Some(shared) = shared::shared() {
                    shared.mark_pending(progress::this_database());
                }
                return Ok(());
            }
            Err(error) => format!("The record could not be written to the data folder: {error}."),
        }
    };
    unrecorded(&record, why)
}

/// The record cannot be made durable: the guardrail says what becomes of the reveal.
fn unrecorded(record: &RevealRecord, why: String) -> Result<()> {
    let state = guardrail::state(&UNRECORDED_REVEAL, record.organization);
    let unrecorded = || error::REVEAL_UNRECORDED.error("the reveal cannot be recorded");
    if state == State::Enforce {
        return Err(unrecorded().detail(why));
    }
    if state == State::Warn {
        let record = String::from_utf8(record.to_bytes()).unwrap_or_default();
        report::log(format!("pg_tenancy: revealed without a durable record: {why} {record}"));
    }
    if transaction::read_only() {
        return Ok(());
    }
    audit::append(event(record, &record.payload()))?;
    if state == State::Warn {
        let hit = Hit::of_object(&UNRECORDED_REVEAL, record.organization, "reveal_secret", &record.name);
        guardrail::warned(&hit, &unrecorded())?;
    }
    Ok(())
}

/// Takes records in: each becomes an event, in the transaction that stores the position after it. Returns whether there
/// may be more. Nobody else takes in at the same time, because the caller keeps other sealers away.
pub fn take_in() -> Result<bool> {
    // What another session has stored since the transaction began could not be changed in it.
    if !transaction::sees_commits() {
        return Ok(false);
    }
    let own = own_folder();
    let mut part = Part::default();
    for folder in folders().map_err(unreadable)?.into_iter().filter(|folder| own.reads(folder)) {
        part.read(&folder, folder != own)?;
        if part.is_full() {
            break;
        }
    }
    let is_full = part.is_full();
    part.count_uses();
    Ok(is_full)
}

/// The newest use of a version, also of one whose record was not taken in yet, in microseconds since 1970.
pub fn last_use(secret: Uuid, number: i32) -> Result<Option<i64>> {
    let mut newest = None;
    if !transaction::in_recovery() {
        let own = own_folder();
        // Before the table: what is taken in meanwhile is found there.
        for folder in folders().map_err(unreadable)?.into_iter().filter(|folder| own.reads(folder)) {
            let each = |record: &[u8], _| {
                transaction::check_for_interrupts();
                let used = RevealRecord::from_bytes(record).filter(|record| record.used() == Some((secret, number)));
                newest = newest.max(used.map(|record| record.occurred_at));
                true
            };
            Journal::at(path(&folder)).read(position(&folder), each).map_err(unreadable)?;
        }
    }
    let stored = |row: &Row| row.timestamp(1);
    let key = [spi::uuid(secret), argument(number)];
    let stored = user::as_superuser(|| transaction::with_latest_snapshot(|| LAST_USE.read(&key, stored)));
    Ok(newest.max(stored.into_iter().flatten().next()))
}

/// A savepoint was rolled back, and the positions that were stored under it, or released.
pub fn savepoint(level: i32, rolled_back: bool) {
    let mut read = READ.borrow_mut();
    if rolled_back { read.roll_back(level) } else { read.release(level) }
}

/// The transaction is over: what it has taken in for good is deleted. What cannot be deleted stays, and is not read
/// again.
pub fn transaction_ended(committed: bool) {
    let mut read = READ.borrow_mut();
    // With synchronous_commit off, a crash could take the events back.
    if committed && !read.get().is_empty() && transaction::last_commit_is_durable() {
        for Read { journal, position, is_over } in read.get().iter().map(|read| &**read) {
            let _ = if *is_over { journal.delete() } else { journal.forget(*position) };
        }
    }
    read.clear();
}

/// What is taken in at a time.
#[derive(Default)]
struct Part {
    records: i64,
    bytes: usize,
    actor: OtherActor,
    /// By secret, version, issuer and subject.
    uses: BTreeMap<(Uuid, i32, Option<String>, Option<String>), Uses>,
}

struct Uses {
    organization: Uuid,
    last: i64,
    count: i64,
}

impl Part {
    fn is_full(&self) -> bool {
        self.records >= MAX_RECORDS || self.bytes >= MAX_BYTES
    }

    /// Takes in what is new in a folder. `is_old`: no process writes to it any more.
    fn read(&mut self, folder: &RevealFolder, is_old: bool) -> Result<()> {
        let journal = Journal::at(path(folder));
        let (from, before) = (position(folder), self.records);
        let (mut position, mut outcome) = (from, Ok(()));
        let each = |record: &[u8], after| {
            outcome = self.take(folder, position, record);
            position = after;
            self.records += 1;
            self.bytes += record.len();
            outcome.is_ok() && !self.is_full()
        };
        journal.read(from, each).map_err(unreadable)?;
        outcome?;
        let records = self.records - before;
        let is_over = is_old && !self.is_full();
        if records == 0 && !is_over {
            return Ok(());
        }
        let (name, segment, offset) = (folder.to_string(), position.segment as i64, position.offset as i64);
        let now = spi::timestamp(transaction::now());
        let arguments = [argument(name), argument(segment), argument(offset), argument(records), now];
        user::as_superuser(|| guard::writing(|| MOVE.write(&arguments, |_| ())));
        READ.borrow_mut().change(transaction::level()).push(Rc::new(Read { journal, position, is_over }));
        Ok(())
    }

    /// Makes the event of a record, which stands behind that position.
    fn take(&mut self, folder: &RevealFolder, position: Position, bytes: &[u8]) -> Result<()> {
        let Some(record) = RevealRecord::from_bytes(bytes) else { return unreadable_record(folder, position, bytes) };
        let payload = record.payload();
        self.actor.append(record.actor.clone(), record.occurred_at, event(&record, &payload));
        if let Some((secret, number)) = record.used() {
            let RevealRecord { organization, occurred_at, actor, .. } = record;
            let uses = self.uses.entry((secret, number, actor.issuer, actor.subject));
            let uses = uses.or_insert(Uses { organization, last: occurred_at, count: 0 });
            uses.last = uses.last.max(occurred_at);
            uses.count += 1;
        }
        Ok(())
    }

    fn count_uses(self) {
        for ((secret, number, issuer, subject), uses) in self.uses {
            let arguments = [
                spi::uuid(secret),
                argument(number),
                spi::uuid(uses.organization),
                argument(issuer),
                argument(subject),
                spi::timestamp(uses.last),
                argument(uses.count),
            ];
            user::as_superuser(|| guard::writing(|| COUNT_USES.write(&arguments, |_| ())));
        }
    }
}

fn event<'a>(record: &'a RevealRecord, payload: &str) -> NewEvent<'a> {
    NewEvent {
        organization: record.organization,
        operation: "reveal",
        domain: "secret",
        table_schema: None,
        table_name: None,
        row_key: None,
        result: record.outcome.name(),
        reason: record.error.as_deref(),
        payload: payload.to_owned(),
    }
}

/// A record that is whole, and of which no event can be made: of another version of the extension, or forged. Its event
/// is of no organization.
fn unreadable_record(folder: &RevealFolder, position: Position, bytes: &[u8]) -> Result<()> {
    let Position { segment, offset } = position;
    report::log(format!("pg_tenancy: a record of a reveal is unreadable: folder {folder}, after {segment}/{offset}"));
    let new = json!({
        "folder": folder.to_string(),
        "segment": segment,
        "offset": offset,
        "length": bytes.len(),
        "digest": hex::encode(&Sha256::digest(bytes)),
        "bytes": hex::encode(&bytes[..bytes.len().min(SHOWN_BYTES)]),
    });
    let event = NewEvent {
        organization: Uuid::nil(),
        operation: "reveal",
        domain: "secret",
        table_schema: None,
        table_name: None,
        row_key: None,
        result: "failed",
        reason: Some("unreadable record"),
        payload: json!({ "new": new }).to_string(),
    };
    OtherActor::default().append(audit::describe_without_context(), transaction::now(), event);
    Ok(())
}

/// The folder that this database writes to. Not on a standby, which writes to none.
fn own_folder() -> RevealFolder {
    RevealFolder {
        system: server::system_identifier(),
        database: progress::this_database().to_u32(),
        table: table::oid(c"reveal_journal").to_u32(),
        timeline: server::timeline(),
        started: server::started(),
    }
}

fn path(folder: &RevealFolder) -> PathBuf {
    server::data_folder().join(AROUND).join(folder.to_string())
}

/// The folders of all databases, sorted.
fn folders() -> io::Result<Vec<RevealFolder>> {
    let entries = match std::fs::read_dir(server::data_folder().join(AROUND)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        found.extend(entry?.file_name().to_str().and_then(RevealFolder::parse));
    }
    found.sort_unstable();
    Ok(found)
}

/// Where the reader stands in a folder, also in this transaction.
fn position(folder: &RevealFolder) -> Position {
    let read = |row: &Row| {
        let number = |column| row.get::<i64>(column).map(i64::cast_unsigned);
        Some(Position { segment: number(1)?, offset: number(2)? })
    };
    let name = [argument(folder.to_string())];
    let stored = user::as_superuser(|| transaction::with_latest_snapshot(|| POSITION.read(&name, read)));
    stored.into_iter().flatten().next().unwrap_or_default()
}

fn unreadable(error: io::Error) -> Error {
    error::REVEAL_JOURNAL_INVALID.error("the records of reveals cannot be read").detail(format!("{error}."))
}
