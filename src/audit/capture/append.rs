//! Appends an event to the chain of its transaction: no lock, no wait, nothing read but the organization's head.
//!
//! Decision: `docs/decisions/30-batch-index.md`.

use super::partition;
use crate::audit::log::event_row::{actor_values, event_values};
use crate::context;
use crate::pg::backend_local::BackendLocal;
use crate::pg::tables::table::{self, IndexKey};
use crate::pg::transaction;
use crate::pg::user::{self, Session};
use pg_tenancy_core::audit::capture::pending::Pending;
use pg_tenancy_core::audit::format::encoding::Digest;
use pg_tenancy_core::audit::format::event::{Actor, ENCODING, payload_digest, time_ordered_id};
use pg_tenancy_core::audit::format::event_row::EventRow;
use pg_tenancy_core::audit::format::month::Month;
use pg_tenancy_core::audit::log::chain;
use pg_tenancy_core::context::Context;
use pg_tenancy_core::error::Result;
use pg_tenancy_core::savepoint_stack::SavepointStack;
use pgrx::pg_sys;
use rand::RngExt as _;
use serde_json::json;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use uuid::Uuid;

/// What the caller knows of an event.
pub struct NewEvent<'a> {
    pub organization: Uuid,
    pub operation: &'a str,
    pub domain: &'a str,
    pub table_schema: Option<&'a str>,
    pub table_name: Option<&'a str>,
    pub row_key: Option<String>,
    /// `success`, `denied` or `failed`.
    pub result: &'a str,
    pub reason: Option<&'a str>,
    pub payload: String,
}

/// What this transaction has written so far.
#[derive(Clone, Default)]
struct Written {
    actor: Option<Rc<WrittenActor>>,
    /// By organization.
    links: BTreeMap<Uuid, ChainLink>,
}

/// The last event of an organization in this transaction.
#[derive(Clone, Copy)]
struct ChainLink {
    ordinal: i32,
    hash: Digest,
}

/// A row of `tenancy.event_actor`, with what it was made of.
struct WrittenActor {
    row: Actor,
    digest: Digest,
    month: Month,
    /// The table it stands in: not the one of today after the extension was dropped and created again.
    table: pg_sys::Oid,
    context: u64,
    session: Session,
}

/// An event that waits for the end of its statement.
struct Waiting {
    row: EventRow<String, [u8; 16]>,
    month: Month,
}

/// How many events are written at a time, and at how many bytes of payload they are written earlier.
const BATCH_EVENTS: usize = 500;
const BATCH_BYTES: usize = 1024 * 1024;

static WRITTEN: BackendLocal<RefCell<SavepointStack<Written>>> =
    BackendLocal::new(RefCell::new(SavepointStack::new(Written { actor: None, links: BTreeMap::new() })));
static PENDING: BackendLocal<RefCell<Pending<Waiting>>> = BackendLocal::new(RefCell::new(Pending::new()));
/// Bytes of payload that wait.
static WAITING_BYTES: BackendLocal<Cell<usize>> = BackendLocal::new(Cell::new(0));
/// True while events wait; read where nothing may fail.
static WAITING: BackendLocal<Cell<bool>> = BackendLocal::new(Cell::new(false));
/// The actor of this session's last committed transaction, which the next one most often shares.
static COMMITTED_ACTOR: BackendLocal<RefCell<Option<Rc<WrittenActor>>>> = BackendLocal::new(RefCell::new(None));

/// A savepoint was rolled back or released: the rows written under it went the same way.
pub fn savepoint(level: i32, rolled_back: bool) {
    let (mut written, mut pending) = (WRITTEN.borrow_mut(), PENDING.borrow_mut());
    if rolled_back {
        written.roll_back(level);
        pending.roll_back(level);
    } else {
        written.release(level);
        pending.release(level);
    }
    WAITING.set(!pending.is_empty());
}

/// True if events wait for the end of the statement.
pub fn events_wait() -> bool {
    WAITING.get()
}

/// The statement is over: writes its events.
pub fn statement_finished() {
    flush(transaction::level());
}

/// The transaction is about to commit, its deferred triggers have run: writes what still waits. Events of a
/// subscription wait until here, because the rows it applies are not changed by statements.
pub fn before_commit() {
    if events_wait() {
        transaction::with_latest_snapshot(statement_finished);
    }
}

/// The transaction is over; true if it committed events.
pub fn transaction_ended(committed: bool) -> bool {
    let wrote = committed && !WRITTEN.borrow().get().links.is_empty();
    let actor = WRITTEN.borrow().get().actor.clone();
    if let Some(actor) = actor.filter(|_| committed) {
        COMMITTED_ACTOR.replace(Some(actor));
    }
    WRITTEN.borrow_mut().clear();
    PENDING.borrow_mut().clear();
    WAITING.set(false);
    WAITING_BYTES.set(0);
    wrote
}

/// Makes the event, and before it writes the actor unless the same one was written before. The event itself is written
/// with others of its statement. Returns its id.
pub fn append(draft: NewEvent) -> Result<Uuid> {
    let occurred_at = transaction::now();
    let month = Month::of(occurred_at);
    let actor = actor(transaction::level(), occurred_at, month)?;
    Ok(append_event(actor.row.id, &actor.digest, month, occurred_at, draft))
}

/// Writes that an operator acts from now on, as which role and why: for one organization, or for all (the nil UUID).
pub fn operator_acts(organization: Uuid, operation: &str, role: &str, reason: &str) -> Result<()> {
    append(NewEvent {
        organization,
        operation,
        domain: "operator",
        table_schema: None,
        table_name: None,
        row_key: None,
        result: "success",
        reason: Some(reason),
        payload: json!({ "new": { "role": role } }).to_string(),
    })
    .map(drop)
}

/// As [`append`], for what somebody else did a while ago.
pub fn append_as(actor: Actor, occurred_at: i64, draft: NewEvent) -> Result<()> {
    let month = Month::of(occurred_at);
    let row = Actor { id: time_ordered_id(occurred_at, rand::rng().random()), ..actor };
    table::insert(&partition::of("event_actor", month, occurred_at), &actor_values(&row));
    append_event(row.id, &row.digest(), month, occurred_at, draft);
    Ok(())
}

fn append_event(actor: Uuid, actor_digest: &Digest, month: Month, occurred_at: i64, draft: NewEvent) -> Uuid {
    let level = transaction::level();
    let (ordinal, previous) = next_place(draft.organization);

    let salt: [u8; 16] = rand::rng().random();
    let mut row = EventRow {
        id: time_ordered_id(occurred_at, rand::rng().random()),
        organization: draft.organization,
        actor,
        transaction: transaction::id(),
        ordinal,
        occurred_at,
        operation: draft.operation.to_owned(),
        domain: draft.domain.to_owned(),
        table_schema: draft.table_schema.map(str::to_owned),
        table_name: draft.table_name.map(str::to_owned),
        row_key: draft.row_key,
        result: draft.result.to_owned(),
        reason: draft.reason.map(str::to_owned),
        payload_digest: payload_digest(&salt, &draft.payload),
        payload: Some(draft.payload),
        payload_salt: Some(salt),
        encoding: ENCODING,
        previous,
        hash: Digest::default(),
    };
    row.hash = row.content_hash(actor_digest);
    WRITTEN.borrow_mut().change(level).links.insert(row.organization, ChainLink { ordinal, hash: row.hash });
    let id = row.id;
    wait(level, Waiting { row, month });
    id
}

/// Lets the event wait for the end of its statement, or writes it with what waits already.
fn wait(level: i32, event: Waiting) {
    let bytes = WAITING_BYTES.get() + event.row.payload.as_ref().map_or(0, String::len);
    let count = PENDING.borrow_mut().push(level, event);
    WAITING.set(true);
    WAITING_BYTES.set(bytes);
    if count >= BATCH_EVENTS || bytes >= BATCH_BYTES {
        flush(level);
    }
}

/// Writes the events that wait at this level. Those of a level around it wait on: under this savepoint they could be
/// rolled back with it.
fn flush(level: i32) {
    let events = PENDING.borrow_mut().take(level);
    WAITING.set(!PENDING.borrow().is_empty());
    WAITING_BYTES.set(0);
    for batch in events.chunk_by(|one, other| one.month == other.month) {
        let ids = || batch.iter().map(|event| event.row.id);
        let (Some(first), Some(lowest), Some(highest)) = (batch.first(), ids().min(), ids().max()) else { continue };
        let partition = partition::of("event", first.month, first.row.occurred_at);
        let size = i32::try_from(batch.len()).unwrap_or(i32::MAX);
        let rows: Vec<_> =
            batch.iter().map(|event| (&event.row, (event.row.id == lowest).then_some((highest, size)))).collect();
        table::insert_all(&partition, &rows, |(row, batch)| event_values(row, batch.as_ref()));
    }
}

/// The ordinal of the next event of an organization, and the hash it follows: the event before it in the same
/// transaction, or the newest sealed head.
fn next_place(organization: Uuid) -> (i32, Digest) {
    if let Some(link) = WRITTEN.borrow().get().links.get(&organization) {
        return (link.ordinal + 1, link.hash);
    }
    // tenancy.head: organization, block, position, chain, frontier
    let head: Option<Vec<u8>> = table::last(c"head", c"head_pkey", IndexKey::uuid(1, &organization), 4);
    let head = head.and_then(|bytes| Digest::try_from(bytes).ok());
    (1, head.unwrap_or_else(|| chain::genesis(organization)))
}

/// The actor of this moment: the one of the event before, the one of the session's transaction before, or a new one.
fn actor(level: i32, occurred_at: i64, month: Month) -> Result<Rc<WrittenActor>> {
    let context = context::generation();
    let session = user::session();
    let same = |actor: &&Rc<WrittenActor>| actor.context == context && actor.month == month && actor.session == session;
    if let Some(actor) = WRITTEN.borrow().get().actor.as_ref().filter(same) {
        return Ok(actor.clone());
    }
    let row = describe(time_ordered_id(occurred_at, rand::rng().random()), &session)?;
    let table = table::oid(c"event_actor");
    // Of the same month, so that a partition of events that is archived takes all its actors along.
    let known = COMMITTED_ACTOR.borrow().clone().filter(|known| {
        known.month == month && known.table == table && known.row == Actor { id: known.row.id, ..row.clone() }
    });
    let (row, digest) = match known {
        Some(known) => (known.row.clone(), known.digest),
        None => {
            table::insert(&partition::of("event_actor", month, occurred_at), &actor_values(&row));
            let digest = row.digest();
            (row, digest)
        }
    };
    let actor = Rc::new(WrittenActor { row, digest, month, table, context, session });
    WRITTEN.borrow_mut().change(level).actor = Some(actor.clone());
    Ok(actor)
}

/// Who acts now, without an id.
pub fn describe_now() -> Result<Actor> {
    describe(Uuid::nil(), &user::session())
}

/// The database user, whatever context there is.
pub fn describe_without_context() -> Actor {
    describe_in(None, Uuid::nil(), &user::session())
}

/// Who acts: the context of the transaction if there is one, and the database user in any case.
fn describe(id: Uuid, session: &Session) -> Result<Actor> {
    Ok(describe_in(context::current()?.as_deref(), id, session))
}

fn describe_in(context: Option<&Context>, id: Uuid, session: &Session) -> Actor {
    let maintenance = context::maintenance_reason();
    Actor {
        id,
        method: match context {
            Some(context) => context.method.clone(),
            None if maintenance.is_some() => "maintenance".into(),
            None => "none".into(),
        },
        subject: context.map(|context| context.subject.clone()),
        issuer: context.map(|context| context.issuer.clone()),
        role: context.map(|context| context.role.clone()),
        organization: context.map(|context| context.organization.id),
        session_id: context.and_then(|context| context.session_id.clone()),
        correlation_id: context.and_then(|context| context.correlation_id.clone()),
        reason: context.and_then(|context| context.reason.clone()).or(maintenance),
        session_user: session.session_user_name(),
        current_user: session.current_user_name(),
        client_address: user::client_address(),
        application_name: session.application_name.clone(),
    }
}
