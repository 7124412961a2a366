//! Statements under a break-glass grant. Their transaction writes their events where it commits; where it does not,
//! they go the way of refusals, which no rollback reaches.
//!
//! Decision: `docs/decisions/87-statement-events.md`.

use super::append::{self, NewEvent, OtherActor};
use super::message_queue::{self, deliver};
use crate::context;
use crate::pg::backend_local::BackendLocal;
use crate::pg::hooks::reading::ReadOutcome;
use crate::pg::hooks::statement::StatementRun;
use crate::pg::transaction;
use crate::pg::user::{self, Session};
use pg_tenancy_core::audit::capture::statement::{Statement, Statements};
use pg_tenancy_core::audit::format::event::Actor;
use pg_tenancy_core::error::Result;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use uuid::Uuid;

/// How many statements wait for the end of their transaction; more are sent as messages before it ends.
const MAX_WAITING: usize = 64;

/// Who executes a statement, and since when.
#[derive(Clone)]
struct Executing {
    organization: Uuid,
    actor: Actor,
    context: u64,
    session: Session,
    occurred_at: i64,
}

/// A statement that is over, of a transaction that is not.
struct WaitingStatement {
    by: Executing,
    statement: Statement,
    /// The transaction has written its event, which is there if it commits.
    written: bool,
}

/// When the grant of an organization was over, as it is committed; `None` while it is in force.
type GrantEnd = fn(grant: Uuid, organization: Uuid) -> Option<i64>;

static GRANT_END: BackendLocal<Cell<GrantEnd>> = BackendLocal::new(Cell::new(|_, _| None));
static NUMBER: BackendLocal<Cell<u64>> = BackendLocal::new(Cell::new(0));
static RUNNING: BackendLocal<RefCell<BTreeMap<u64, Executing>>> = BackendLocal::new(RefCell::new(BTreeMap::new()));
static WAITING: BackendLocal<RefCell<Vec<WaitingStatement>>> = BackendLocal::new(RefCell::new(Vec::new()));

/// Who knows when grants end. Called once from `_PG_init`.
pub fn ends_by(end: GrantEnd) {
    GRANT_END.set(end);
}

/// Why what is rolled back could not be recorded; `None` where it can.
pub fn unrecordable() -> Option<&'static str> {
    message_queue::unrecordable()
}

/// A statement under a grant of the organization is about to begin; returns a number that it is known by.
pub fn begin(organization: Uuid, grant: Uuid) -> Result<u64> {
    let number = NUMBER.get() + 1;
    NUMBER.set(number);
    let mut actor = append::describe_now()?;
    // A cursor goes on under the grant that it was opened under, whoever has signed in since.
    actor.grant = actor.grant.or(Some(grant));
    let (context, session, occurred_at) = (context::generation(), user::session(), transaction::now());
    let executing = Executing { organization, actor, context, session, occurred_at };
    RUNNING.borrow_mut().insert(number, executing);
    Ok(number)
}

/// It is over, at that moment of the clock that ends grants. Neither raises nor panics.
pub fn ended(number: u64, run: StatementRun, permissions: Vec<String>, ended_at: i64) {
    let by = RUNNING.try_borrow_mut().ok().and_then(|mut running| running.remove(&number));
    let (Some(by), ReadOutcome::Ran { rows, failed }) = (by, run.outcome) else { return };
    let statement = Statement {
        occurred_at: by.occurred_at,
        ended_at,
        command: run.command,
        tables: run.tables,
        more_tables: run.more_tables,
        query_id: run.query_id,
        rows,
        duration: transaction::now() - by.occurred_at,
        failed,
        permissions,
    };
    let Ok(mut waiting) = WAITING.try_borrow_mut() else { return };
    waiting.push(WaitingStatement { by, statement, written: false });
    if waiting.len() >= MAX_WAITING {
        send(waiting.drain(..));
    }
}

/// The transaction is about to commit: writes the events of its statements, unless it may write nothing.
pub fn before_commit() -> Result<()> {
    if WAITING.borrow().is_empty() || transaction::read_only() {
        return Ok(());
    }
    // One that only reads waits for no disk: a crash may take along what a message would be lost with too.
    if transaction::id_if_any().is_none() {
        transaction::commit_without_waiting();
    }
    transaction::with_latest_snapshot(|| {
        let mut other = OtherActor::default();
        let mut end = GrantEnds::default();
        for WaitingStatement { by, statement, written } in WAITING.borrow_mut().iter_mut() {
            let event = event(&by.actor, by.organization, statement, &mut end);
            // Who acts is mostly the same still, and the transaction may have written that already.
            if by.context == context::generation() && by.session == user::session() {
                append::append_at(by.occurred_at, event)?;
            } else {
                other.append(by.actor.clone(), by.occurred_at, event);
            }
            *written = true;
        }
        Ok(())
    })
}

/// The transaction is over. What it has not recorded is sent as messages.
pub fn transaction_ended(committed: bool) {
    let Ok(mut waiting) = WAITING.try_borrow_mut() else { return };
    if !waiting.is_empty() {
        send(waiting.drain(..).filter(|waiting| !(committed && waiting.written)));
    }
}

/// Sends them as few messages, each of one actor.
fn send(waiting: impl Iterator<Item = WaitingStatement>) {
    let mut together: Vec<Statements> = Vec::new();
    for WaitingStatement { by, statement, .. } in waiting {
        match together.last_mut().filter(|last| last.actor == by.actor && last.organization == by.organization) {
            Some(last) => last.statements.push(statement),
            None => together.push(Statements {
                organization: by.organization,
                actor: by.actor,
                statements: vec![statement],
            }),
        }
    }
    together.iter().flat_map(Statements::to_messages).for_each(|message| deliver("statement", &message));
}

/// Writes the events of statements that came as a message.
pub fn record(message: Statements) -> Result<()> {
    let Statements { organization, actor, statements } = message;
    let (mut writer, mut end) = (OtherActor::default(), GrantEnds::default());
    for statement in &statements {
        let event = event(&actor, organization, statement, &mut end);
        writer.append(actor.clone(), statement.occurred_at, event);
    }
    Ok(())
}

/// The ends of grants, each looked up once.
#[derive(Default)]
struct GrantEnds(BTreeMap<Uuid, Option<i64>>);

impl GrantEnds {
    fn of(&mut self, grant: Uuid, organization: Uuid) -> Option<i64> {
        *self.0.entry(grant).or_insert_with(|| GRANT_END.get()(grant, organization))
    }
}

fn event(actor: &Actor, organization: Uuid, statement: &Statement, ends: &mut GrantEnds) -> NewEvent<'static> {
    let end = actor.grant.and_then(|grant| ends.of(grant, organization));
    NewEvent {
        organization,
        operation: "statement",
        domain: "break_glass",
        table_schema: None,
        table_name: None,
        row_key: None,
        result: if statement.failed { "failed" } else { "success" },
        reason: None,
        payload: statement.payload(end.is_some_and(|end| statement.ended_at > end)),
    }
}
