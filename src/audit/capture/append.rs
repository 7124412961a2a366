//! Appends events to the chain of their transaction: no lock, no wait, nothing read but the organization's head.
//!
//! Events of a statement that have organization, actor, operation and table in common are packed into a batch, whose
//! hash is computed when it is full, or another one follows, or the statement ends. Until then it is *open*.
//!
//! Decision: `docs/decisions/55-packed-events.md`.

use super::partition;
use crate::audit::log::batch_row::{actor_values, batch_values};
use crate::context;
use crate::pg::backend_local::BackendLocal;
use crate::pg::tables::table::{self, IndexKey};
use crate::pg::transaction;
use crate::pg::user::{self, Session};
use pg_tenancy_core::audit::capture::pending::Pending;
use pg_tenancy_core::audit::format::batch::{self, MAX_EVENTS, MAX_TEXT, MAX_TIME, PackedContent, PackedEvent};
use pg_tenancy_core::audit::format::batch_row::BatchRow;
use pg_tenancy_core::audit::format::encoding::Digest;
use pg_tenancy_core::audit::format::event::{
    Actor, ENCODING, SALT, batch_id, event_digest, event_id, payload_digest, time_ordered_id,
};
use pg_tenancy_core::audit::format::month::Month;
use pg_tenancy_core::audit::history::row_hash::HashedBatch;
use pg_tenancy_core::audit::log::{chain, merkle};
use pg_tenancy_core::context::Context;
use pg_tenancy_core::error::Result;
use pg_tenancy_core::savepoint_stack::SavepointStack;
use pgrx::pg_sys;
use rand::RngExt as _;
use serde_json::{Value, json};
use std::cell::{Cell, OnceCell, RefCell};
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
    /// `success`, `denied`, `failed`, or `warned` by a guardrail.
    pub result: &'a str,
    pub reason: Option<&'a str>,
    pub payload: String,
}

impl<'a> NewEvent<'a> {
    /// Of an operation of the extension that succeeded, and of no row of a table; `new` is what it tells.
    pub fn of_operation(
        organization: Uuid,
        domain: &'a str,
        operation: &'a str,
        reason: Option<&'a str>,
        new: &Value,
    ) -> Self {
        NewEvent {
            organization,
            operation,
            domain,
            table_schema: None,
            table_name: None,
            row_key: None,
            result: "success",
            reason,
            payload: json!({ "new": new }).to_string(),
        }
    }
}

/// What this transaction has written so far.
#[derive(Clone, Default)]
struct Written {
    actor: Option<Rc<WrittenActor>>,
    /// By organization.
    links: BTreeMap<Uuid, Rc<ChainLink>>,
}

/// The last batch of an organization in this transaction. The copies that savepoints keep share it: a batch takes
/// events of one level only, so a rollback that leaves the batch leaves all its events.
#[derive(Default)]
struct ChainLink {
    /// The ordinal of its last event.
    ordinal: Cell<i32>,
    /// Once it is complete.
    hash: OnceCell<Digest>,
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

/// A row that waits for the end of its statement.
struct Waiting {
    row: BatchRow<String, Vec<u8>>,
    month: Month,
}

/// A batch that takes further events.
struct OpenBatch {
    level: i32,
    month: Month,
    actor_digest: Digest,
    /// Without its events and hashes.
    row: BatchRow<String, Vec<u8>>,
    events: Vec<OpenEvent>,
    /// Bytes of row keys and payloads.
    bytes: usize,
    /// The batch before, or the newest sealed head.
    previous: Rc<ChainLink>,
    link: Rc<ChainLink>,
}

struct OpenEvent {
    occurred_at: i64,
    row_key: Option<String>,
    payload: String,
}

/// At how many rows, bytes of text and open batches what waits is written before the end of its statement.
const MAX_ROWS: usize = 256;
const MAX_BYTES: usize = 2 * 1024 * 1024;
const MAX_OPEN: usize = 500;

static WRITTEN: BackendLocal<RefCell<SavepointStack<Written>>> =
    BackendLocal::new(RefCell::new(SavepointStack::new(Written { actor: None, links: BTreeMap::new() })));
/// By organization, which has one at most.
static OPEN: BackendLocal<RefCell<BTreeMap<Uuid, OpenBatch>>> = BackendLocal::new(RefCell::new(BTreeMap::new()));
static PENDING: BackendLocal<RefCell<Pending<Waiting>>> = BackendLocal::new(RefCell::new(Pending::new()));
/// Bytes of text that wait.
static WAITING_BYTES: BackendLocal<Cell<usize>> = BackendLocal::new(Cell::new(0));
/// True while events wait; read where nothing may fail.
static WAITING: BackendLocal<Cell<bool>> = BackendLocal::new(Cell::new(false));
/// The actor of this session's last committed transaction, which the next one most often shares.
static COMMITTED_ACTOR: BackendLocal<RefCell<Option<Rc<WrittenActor>>>> = BackendLocal::new(RefCell::new(None));

/// A savepoint was rolled back or released: the rows written under it went the same way.
pub fn savepoint(level: i32, rolled_back: bool) {
    let (mut written, mut open, mut pending) = (WRITTEN.borrow_mut(), OPEN.borrow_mut(), PENDING.borrow_mut());
    if rolled_back {
        written.roll_back(level);
        open.retain(|_, batch| batch.level < level);
        pending.roll_back(level);
    } else {
        written.release(level);
        open.values_mut().filter(|batch| batch.level == level).for_each(|batch| batch.level = level - 1);
        pending.release(level);
    }
    WAITING.set(!pending.is_empty() || !open.is_empty());
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

/// The transaction is over; returns how many events it committed.
pub fn transaction_ended(committed: bool) -> i64 {
    let events = |links: &BTreeMap<Uuid, Rc<ChainLink>>| links.values().map(|link| i64::from(link.ordinal.get())).sum();
    let events = if committed { events(&WRITTEN.borrow().get().links) } else { 0 };
    let actor = WRITTEN.borrow().get().actor.clone();
    if let Some(actor) = actor.filter(|_| committed) {
        COMMITTED_ACTOR.replace(Some(actor));
    }
    WRITTEN.borrow_mut().clear();
    OPEN.borrow_mut().clear();
    PENDING.borrow_mut().clear();
    WAITING.set(false);
    WAITING_BYTES.set(0);
    events
}

/// Makes the event, and before it writes the actor unless the same one was written before. The event itself is written
/// with others of its statement. Returns the id of the event.
pub fn append(draft: NewEvent) -> Result<Uuid> {
    append_at(transaction::now(), draft)
}

/// As [`append`], for what the same actor did earlier in this transaction.
pub fn append_at(occurred_at: i64, draft: NewEvent) -> Result<Uuid> {
    let level = transaction::level();
    let month = month_of(occurred_at);
    let actor = actor(level, occurred_at, month)?;
    Ok(append_event(level, &actor.row.id, &actor.digest, month, occurred_at, draft))
}

/// [`Month::of`], remembered for the day.
fn month_of(moment: i64) -> Month {
    static DAY: BackendLocal<Cell<Option<(i64, Month)>>> = BackendLocal::new(Cell::new(None));
    let day = moment.div_euclid(86_400_000_000);
    match DAY.get() {
        Some((known, month)) if known == day => month,
        _ => {
            let month = Month::of(moment);
            DAY.set(Some((day, month)));
            month
        }
    }
}

/// Writes that an operator acts from now on, as which role and why: for one organization, or for all (the nil UUID).
pub fn operator_acts(organization: Uuid, operation: &str, role: &str, reason: &str) -> Result<()> {
    append(NewEvent::of_operation(organization, "operator", operation, Some(reason), &json!({ "role": role })))
        .map(drop)
}

/// Writes that the transaction, which had another identity, acts as the one of the context from now on.
pub fn identity_changed(context: &Context) -> Result<()> {
    let details = json!({ "setting": "tenancy.several_identities" });
    append(NewEvent::of_operation(context.organization.id, "context", "change_identity", None, &details)).map(drop)
}

/// As [`append`], for what somebody else did a while ago.
pub fn append_as(actor: Actor, occurred_at: i64, draft: NewEvent) -> Result<()> {
    OtherActor::default().append(actor, occurred_at, draft);
    Ok(())
}

/// Appends what others did a while ago. One who did several things in a row is written once.
#[derive(Default)]
pub struct OtherActor(Option<WrittenOther>);

struct WrittenOther {
    row: Actor,
    digest: Digest,
    month: Month,
    occurred_at: i64,
}

impl OtherActor {
    /// As [`append`]. All calls belong to one transaction and savepoint.
    pub fn append(&mut self, actor: Actor, occurred_at: i64, draft: NewEvent) {
        let month = Month::of(occurred_at);
        // No actor is younger than what they did: their ids tell their times.
        let known = self.0.take().filter(|known| {
            known.month == month
                && known.occurred_at <= occurred_at
                && known.row == Actor { id: known.row.id, ..actor.clone() }
        });
        let written = known.unwrap_or_else(|| {
            let row = Actor { id: time_ordered_id(occurred_at, rand::rng().random()), ..actor };
            table::insert(&partition::of("event_actor", month, occurred_at), &actor_values(&row));
            WrittenOther { digest: row.digest(), row, month, occurred_at }
        });
        append_event(transaction::level(), &written.row.id, &written.digest, month, occurred_at, draft);
        self.0 = Some(written);
    }
}

fn append_event(
    level: i32,
    actor: &Uuid,
    actor_digest: &Digest,
    month: Month,
    occurred_at: i64,
    draft: NewEvent,
) -> Uuid {
    let bytes = draft.payload.len() + draft.row_key.as_ref().map_or(0, String::len);
    let joins = |batch: &OpenBatch| {
        // A clock that was set back begins a batch too: no event is older than the id of its batch.
        let in_time = (0..=MAX_TIME).contains(&occurred_at.saturating_sub(batch.row.occurred_at));
        in_time
            && batch.level == level
            && batch.month == month
            && batch.row.actor == *actor
            && batch.takes(&draft, bytes)
    };
    let organization = draft.organization;
    if !OPEN.borrow().get(&organization).is_some_and(joins) {
        close(organization);
        let batch = open(level, *actor, actor_digest, month, occurred_at, &draft);
        WRITTEN.borrow_mut().change(level).links.insert(organization, batch.link.clone());
        OPEN.borrow_mut().insert(organization, batch);
    }
    let mut open = OPEN.borrow_mut();
    let Some(batch) = open.get_mut(&organization) else { unreachable!("it was opened above") };
    let id = batch.push(occurred_at, draft, bytes);
    let (open_batches, bytes) = (open.len(), WAITING_BYTES.get() + bytes);
    drop(open);
    WAITING.set(true);
    WAITING_BYTES.set(bytes);
    if bytes >= MAX_BYTES || open_batches >= MAX_OPEN || PENDING.borrow().count(level) >= MAX_ROWS {
        flush(level);
    }
    id
}

/// A batch without events, to follow the newest one of the organization in this transaction, or its newest sealed head.
fn open(level: i32, actor: Uuid, actor_digest: &Digest, month: Month, occurred_at: i64, draft: &NewEvent) -> OpenBatch {
    let (ordinal, previous) = next_place(draft.organization);
    let row = BatchRow {
        id: batch_id(occurred_at, rand::rng().random()),
        organization: draft.organization,
        actor,
        transaction: transaction::id(),
        ordinal,
        events: 0,
        occurred_at,
        operation: draft.operation.to_owned(),
        domain: draft.domain.to_owned(),
        table_schema: draft.table_schema.map(str::to_owned),
        table_name: draft.table_name.map(str::to_owned),
        result: draft.result.to_owned(),
        reason: draft.reason.map(str::to_owned),
        row_key: None,
        payload: None,
        payload_salt: None,
        payload_digest: None,
        packed: None,
        row_hashes: None,
        encoding: ENCODING,
        previous: Digest::default(),
        hash: Digest::default(),
    };
    let (events, link) = (Vec::new(), Rc::new(ChainLink::default()));
    OpenBatch { level, month, actor_digest: *actor_digest, row, events, bytes: 0, previous, link }
}

/// Completes the open batch of the organization, which then waits to be written.
fn close(organization: Uuid) {
    let batch = OPEN.borrow_mut().remove(&organization);
    if let Some(batch) = batch {
        let level = batch.level;
        PENDING.borrow_mut().push(level, batch.complete());
    }
}

impl OpenBatch {
    /// True if the event has everything in common with the batch that events of a batch have, and there is room.
    fn takes(&self, draft: &NewEvent, bytes: usize) -> bool {
        let row = &self.row;
        self.events.len() < MAX_EVENTS
            && self.bytes + bytes <= MAX_TEXT
            && row.operation == draft.operation
            && row.table_name.as_deref() == draft.table_name
            && row.table_schema.as_deref() == draft.table_schema
            && row.domain == draft.domain
            && row.result == draft.result
            && row.reason.as_deref() == draft.reason
    }

    /// Adds an event; returns its id.
    fn push(&mut self, occurred_at: i64, draft: NewEvent, bytes: usize) -> Uuid {
        let id = event_id(self.row.id, self.row.events);
        self.bytes += bytes;
        self.row.events += 1;
        self.link.ordinal.set(self.row.ordinal + self.row.events - 1);
        self.events.push(OpenEvent { occurred_at, row_key: draft.row_key, payload: draft.payload });
        id
    }

    /// The row, with its events and hash.
    fn complete(mut self) -> Waiting {
        let root = match self.events.len() {
            1 => self.store_one(),
            _ => self.pack(),
        };
        // The batch before was closed first.
        self.row.previous = self.previous.hash.get().copied().unwrap_or_default();
        self.row.hash = self.row.header(&self.actor_digest).hash(&root, &self.row.previous);
        let _ = self.link.hash.set(self.row.hash);
        Waiting { row: self.row, month: self.month }
    }

    /// Packs the events; returns the root over them.
    fn pack(&mut self) -> Digest {
        let mut salts = vec![[0; SALT]; self.events.len()];
        rand::rng().fill(salts.as_flattened_mut());
        let packed: Vec<PackedEvent> = self.events.iter().zip(salts).map(|(event, salt)| event.packed(salt)).collect();
        let root = merkle::root_of(packed.iter().map(PackedEvent::digest));
        self.row.packed = Some(batch::pack(self.row.occurred_at, &packed));
        self.row.row_hashes = HashedBatch::of(&self.row).row_hashes(&packed);
        root
    }

    /// Stores the only event in the columns of the row; returns its digest, which is the root.
    fn store_one(&mut self) -> Digest {
        let Some(event) = self.events.pop() else { unreachable!("a batch is opened for an event") };
        let salt: [u8; SALT] = rand::rng().random();
        let digest = payload_digest(&salt, &event.payload);
        let root = event_digest(event.occurred_at, event.row_key.as_deref(), &digest);
        self.row.row_hashes = HashedBatch::of(&self.row).row_hashes(&[event.packed(salt)]);
        self.row.payload_digest = Some(digest);
        self.row.row_key = event.row_key;
        self.row.payload = Some(event.payload);
        self.row.payload_salt = Some(salt.to_vec());
        root
    }
}

impl OpenEvent {
    fn packed(&self, salt: [u8; SALT]) -> PackedEvent<'_> {
        let content = PackedContent::Payload { salt, text: &self.payload };
        PackedEvent { occurred_at: self.occurred_at, row_key: self.row_key.as_deref(), content }
    }
}

/// Writes the events that wait at this level. Those of a level around it wait on: under this savepoint they could be
/// rolled back with it.
fn flush(level: i32) {
    let here = OPEN.borrow().iter().filter(|(_, batch)| batch.level == level).map(|(id, _)| *id).collect::<Vec<_>>();
    here.into_iter().for_each(close);
    let waiting = PENDING.borrow_mut().take(level);
    WAITING.set(!PENDING.borrow().is_empty() || !OPEN.borrow().is_empty());
    WAITING_BYTES.set(0);
    for batches in waiting.chunk_by(|one, other| one.month == other.month) {
        let Some(first) = batches.first() else { continue };
        let partition = partition::of("event_batch", first.month, first.row.occurred_at);
        table::insert_all(&partition, batches, |batch| batch_values(&batch.row));
    }
}

/// The ordinal of the next event of an organization, and what its batch follows: the batch before it in the same
/// transaction, or the newest sealed head.
fn next_place(organization: Uuid) -> (i32, Rc<ChainLink>) {
    if let Some(link) = WRITTEN.borrow().get().links.get(&organization) {
        return (link.ordinal.get() + 1, link.clone());
    }
    // tenancy.seal: organization, block, position, leaves, chain
    let head: Option<Vec<u8>> = table::last(c"seal", c"seal_pkey", IndexKey::uuid(1, &organization), 5);
    let head = head.and_then(|bytes| Digest::try_from(bytes).ok());
    let hash = OnceCell::from(head.unwrap_or_else(|| chain::genesis(organization)));
    (1, Rc::new(ChainLink { ordinal: Cell::new(0), hash }))
}

/// The actor of this moment: the one of the event before, the one of the session's transaction before, or a new one.
fn actor(level: i32, occurred_at: i64, month: Month) -> Result<Rc<WrittenActor>> {
    let context = context::generation();
    let same =
        |actor: &&Rc<WrittenActor>| actor.context == context && actor.month == month && actor.session.is_current();
    if let Some(actor) = WRITTEN.borrow().get().actor.as_ref().filter(same) {
        return Ok(actor.clone());
    }
    let session = user::session();
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
        grant: context.and_then(|context| context.elevation.as_ref()).map(|elevation| elevation.grant),
    }
}
