//! Appends an event to the chain of its transaction: no lock, no wait, nothing read but the organization's head.

use super::chain;
use super::encoding::Digest;
use super::event::{Actor, ENCODING, Header, payload_digest, time_ordered_id};
use crate::context;
use crate::error::Result;
use crate::pg::setting::Backend;
use crate::pg::table::{self, Key, Value};
use crate::pg::transaction;
use crate::pg::user::{self, Session};
use crate::undo::Undo;
use rand::RngExt as _;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use uuid::Uuid;

/// What the caller knows of an event.
pub struct Draft<'a> {
    pub organization: Uuid,
    pub operation: &'a str,
    pub domain: &'a str,
    pub table_schema: Option<&'a str>,
    pub table_name: Option<&'a str>,
    pub row_key: Option<&'a str>,
    pub reason: Option<&'a str>,
    pub payload: &'a str,
}

/// What this transaction has written so far.
#[derive(Clone, Default)]
struct Written {
    actor: Option<Rc<WrittenActor>>,
    /// By organization.
    links: BTreeMap<Uuid, Link>,
}

/// The last event of an organization in this transaction.
#[derive(Clone, Copy)]
struct Link {
    ordinal: i32,
    hash: Digest,
}

/// A row of `tenancy.event_actor`, with what it was made of.
struct WrittenActor {
    id: Uuid,
    digest: Digest,
    context: u64,
    session: Session,
}

static WRITTEN: Backend<RefCell<Undo<Written>>> =
    Backend::new(RefCell::new(Undo::new(Written { actor: None, links: BTreeMap::new() })));

/// A savepoint was rolled back or released: the rows written under it went the same way.
pub fn savepoint(level: i32, rolled_back: bool) {
    let mut written = WRITTEN.borrow_mut();
    if rolled_back { written.roll_back(level) } else { written.release(level) }
}

/// The transaction is over.
pub fn transaction_ended() {
    WRITTEN.borrow_mut().clear();
}

/// Writes the event, and before it the actor unless the same one was written in this transaction.
pub fn append(draft: &Draft) -> Result<()> {
    let level = transaction::level();
    let occurred_at = transaction::now();
    let actor = actor(level, occurred_at)?;
    let (ordinal, previous) = next_place(draft.organization);

    let salt: [u8; 16] = rand::rng().random();
    let digest = payload_digest(&salt, draft.payload);
    let id = time_ordered_id(occurred_at, rand::rng().random());
    let header = Header {
        id,
        organization: draft.organization,
        actor: actor.id,
        actor_digest: &actor.digest,
        transaction: transaction::id(),
        ordinal,
        occurred_at,
        operation: draft.operation,
        domain: draft.domain,
        table_schema: draft.table_schema,
        table_name: draft.table_name,
        row_key: draft.row_key,
        result: "success",
        reason: draft.reason,
    };
    let hash = header.hash(&digest, &previous);

    // The columns of tenancy.event, in order.
    table::insert(
        c"event",
        &[
            Value::Uuid(&id),
            Value::Uuid(&draft.organization),
            Value::Uuid(&actor.id),
            Value::TransactionId(header.transaction),
            Value::Integer(ordinal),
            Value::Timestamp(occurred_at),
            Value::Text(draft.operation),
            Value::Text(draft.domain),
            Value::optional_text(draft.table_schema),
            Value::optional_text(draft.table_name),
            Value::optional_text(draft.row_key),
            Value::Text(header.result),
            Value::optional_text(header.reason),
            Value::Text(draft.payload),
            Value::Bytes(&salt),
            Value::Bytes(&digest),
            Value::SmallInteger(ENCODING),
            Value::Bytes(&previous),
            Value::Bytes(&hash),
        ],
    );
    remember(level, draft.organization, ordinal, hash);
    Ok(())
}

/// The ordinal of the next event of an organization, and the hash it follows: the event before it in the same
/// transaction, or the newest sealed head.
fn next_place(organization: Uuid) -> (i32, Digest) {
    let written = WRITTEN.borrow();
    if let Some(link) = written.get().links.get(&organization) {
        return (link.ordinal + 1, link.hash);
    }
    drop(written);
    // tenancy.seal: organization, position, block, event, event_hash, chain
    let head: Option<Vec<u8>> = table::last(c"seal", c"seal_pkey", Key::uuid(1, &organization), 6);
    let head = head.and_then(|bytes| Digest::try_from(bytes).ok());
    (1, head.unwrap_or_else(|| chain::genesis(organization)))
}

fn remember(level: i32, organization: Uuid, ordinal: i32, hash: Digest) {
    WRITTEN.borrow_mut().change(level).links.insert(organization, Link { ordinal, hash });
}

/// The actor of this moment, written if the last one written differs.
fn actor(level: i32, occurred_at: i64) -> Result<Rc<WrittenActor>> {
    let context = context::generation();
    let session = user::session();
    let same = |actor: &&Rc<WrittenActor>| actor.context == context && actor.session == session;
    if let Some(actor) = WRITTEN.borrow().get().actor.as_ref().filter(same) {
        return Ok(actor.clone());
    }
    let row = describe(time_ordered_id(occurred_at, rand::rng().random()), &session)?;
    let organization = row.organization;
    // The columns of tenancy.event_actor, in order.
    table::insert(
        c"event_actor",
        &[
            Value::Uuid(&row.id),
            Value::Text(&row.method),
            Value::optional_text(row.subject.as_deref()),
            Value::optional_text(row.issuer.as_deref()),
            Value::optional_text(row.role.as_deref()),
            organization.as_ref().map_or(Value::Null, Value::Uuid),
            Value::optional_text(row.session_id.as_deref()),
            Value::optional_text(row.correlation_id.as_deref()),
            Value::optional_text(row.reason.as_deref()),
            Value::Text(&row.session_user),
            Value::Text(&row.current_user),
            Value::optional_text(row.client_address.as_deref()),
            Value::optional_text(row.application_name.as_deref()),
        ],
    );
    let actor = Rc::new(WrittenActor { id: row.id, digest: row.digest(), context, session });
    WRITTEN.borrow_mut().change(level).actor = Some(actor.clone());
    Ok(actor)
}

/// Who acts: the context of the transaction if there is one, and the database user in any case.
fn describe(id: Uuid, session: &Session) -> Result<Actor> {
    let context = context::current()?;
    let context = context.as_deref();
    Ok(Actor {
        id,
        method: context.map_or_else(|| "none".into(), |context| context.method.clone()),
        subject: context.map(|context| context.subject.clone()),
        issuer: context.map(|context| context.issuer.clone()),
        role: context.map(|context| context.role.clone()),
        organization: context.map(|context| context.organization.id),
        session_id: context.and_then(|context| context.session_id.clone()),
        correlation_id: context.and_then(|context| context.correlation_id.clone()),
        reason: context.and_then(|context| context.reason.clone()),
        session_user: session.session_user_name(),
        current_user: session.current_user_name(),
        client_address: user::client_address(),
        application_name: session.application_name.clone(),
    })
}
