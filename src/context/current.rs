//! The context of this backend: parsed once from the setting, checked once per statement, read for nothing per row.

use super::maintenance;
use crate::pg::backend_local::BackendLocal;
use crate::pg::report;
use crate::pg::settings::sealed::{self, Lasting};
use crate::pg::settings::several_identities;
use crate::pg::spi::{Query, argument, timestamp};
use crate::pg::transaction;
use crate::pg::{cursor, user};
use pg_tenancy_core::context::{Context, Elevation, Organization, Scope, TransactionIdentity};
use pg_tenancy_core::error::{self, Error, Result};
use pg_tenancy_core::savepoint_stack::SavepointStack;
use pgrx::{IntoDatum, pg_sys};
use std::cell::{Cell, RefCell};
use std::ffi::CString;
use std::rc::Rc;
use uuid::Uuid;

/// The parsed setting; stale after a change until the next read.
static PARSED: BackendLocal<RefCell<Option<Rc<Context>>>> = BackendLocal::new(RefCell::new(None));
static STALE: BackendLocal<Cell<bool>> = BackendLocal::new(Cell::new(true));
/// The client's statement in which the organization below was checked, expiry included; `None` when it was not, or when
/// the executor has begun another plan since. What runs outside of the executor (DO, CALL, simple expressions of
/// PL/pgSQL) is told by the time that Postgres gives each statement.
static CHECKED: BackendLocal<Cell<Option<i64>>> = BackendLocal::new(Cell::new(None));
/// Counts the changes, so that others can tell whether what they remember is of this context.
static GENERATION: BackendLocal<Cell<u64>> = BackendLocal::new(Cell::new(0));

/// The organization as Datums in TopTransactionContext, made anew after each change of the context: whatever a
/// statement still holds, a scan key for instance, keeps its value until the end of the transaction.
struct OrganizationDatums {
    uuid: Cell<Option<pg_sys::Datum>>,
    text: Cell<Option<pg_sys::Datum>>,
    integer: Cell<Option<i64>>,
}

static ORGANIZATION: BackendLocal<OrganizationDatums> =
    BackendLocal::new(OrganizationDatums { uuid: Cell::new(None), text: Cell::new(None), integer: Cell::new(None) });

/// The identity that this transaction keeps.
static TRANSACTION_IDENTITY: BackendLocal<RefCell<TransactionIdentity>> =
    BackendLocal::new(RefCell::new(TransactionIdentity::new()));
/// True if this transaction may have declared a cursor WITH HOLD before it had an identity. At first it may: what it
/// did before the library was loaded is not known.
static HOLDING: BackendLocal<RefCell<SavepointStack<bool>>> =
    BackendLocal::new(RefCell::new(SavepointStack::new(true)));
/// What this room asks of the rooms above it.
#[derive(Clone, Copy)]
pub struct Rooms {
    /// Whether the membership behind the identity of a session gives access still; asked once a transaction.
    pub revalidate: fn(&Context) -> Result<()>,
    /// Whether the grant behind an elevation is in force as it is committed; asked in each statement.
    pub grant_in_force: fn(&Context, &Elevation) -> Result<()>,
    /// Records that the role of the context may not do what it tried in a domain.
    pub refused: fn(domain: &str, error: &Error),
    /// Records what an operator does for an organization, as whom and why.
    pub operator_acts: fn(organization: Uuid, operation: &str, role: &str, reason: &str) -> Result<()>,
    /// Records that the transaction, which had another identity, has the one of the context now.
    pub identity_changed: fn(&Context) -> Result<()>,
}

static ROOMS: BackendLocal<Cell<Option<Rooms>>> = BackendLocal::new(Cell::new(None));

fn revalidate(context: &Context) -> Result<()> {
    ROOMS.get().map_or(Ok(()), |rooms| (rooms.revalidate)(context))
}

/// Refuses an elevation whose grant has ended.
pub fn require_grant(context: &Context, elevation: &Elevation) -> Result<()> {
    ROOMS.get().map_or_else(|| Err(elevation_ended()), |rooms| (rooms.grant_in_force)(context, elevation))
}

/// The error of a grant that is not in force any more.
pub fn elevation_ended() -> Error {
    error::ELEVATION_ENDED.error("the break-glass grant of this transaction has ended")
}

/// Has a refusal recorded.
pub fn record_refusal(domain: &str, error: &Error) {
    if let Some(rooms) = ROOMS.get() {
        (rooms.refused)(domain, error);
    }
}

/// Has an operator's act recorded.
pub fn record_operator(organization: Uuid, operation: &str, role: &str, reason: &str) -> Result<()> {
    ROOMS.get().map_or(Ok(()), |rooms| (rooms.operator_acts)(organization, operation, role, reason))
}

/// Cursors that this transaction opened until a time, without the one named; WITH HOLD only, if asked so. After a
/// COMMIT within a statement the transaction's time is later than that of the statement, which is what a cursor has.
static OPEN_CURSORS: Query = Query::new(
    "SELECT FROM pg_cursors c
      WHERE c.creation_time >=
            LEAST(transaction_timestamp(), statement_timestamp())
        AND ($1 IS NULL OR c.name <> $1) AND (c.is_holdable OR NOT $2)
        AND c.creation_time <= $3",
);

/// Defines the setting behind the context. Called once from `_PG_init`.
pub fn define(rooms: Rooms) {
    ROOMS.set(Some(rooms));
    sealed::define(|| {
        STALE.set(true);
        forget();
    });
}

/// Each statement checks the expiry anew, so that a long session fails closed when its token ends.
pub fn statement_started() {
    CHECKED.set(None);
}

/// The Datums went away with the transaction's memory. The next transaction is another one's, or has to ask anew
/// whether the session is still a member.
pub fn transaction_ended() {
    forget();
    TRANSACTION_IDENTITY.borrow_mut().clear();
    HOLDING.borrow_mut().clear();
}

/// The savepoint at this level was rolled back or released, and the seal and the cursors with it.
pub fn savepoint(level: i32, rolled_back: bool) {
    let (mut seal, mut holding) = (TRANSACTION_IDENTITY.borrow_mut(), HOLDING.borrow_mut());
    if rolled_back {
        holding.roll_back(level);
        if seal.roll_back(level, transaction::from_timestamptz(transaction::statement())) {
            // What was checked is to be checked again, which seals again.
            forget();
        }
    } else {
        holding.release(level);
        seal.release(level);
    }
}

/// What was checked of the context is to be checked again.
pub fn forget() {
    CHECKED.set(None);
    ORGANIZATION.uuid.set(None);
    ORGANIZATION.text.set(None);
    ORGANIZATION.integer.set(None);
    GENERATION.set(GENERATION.get().wrapping_add(1));
}

/// A number that changes whenever the context may have changed.
pub fn generation() -> u64 {
    GENERATION.get()
}

/// The context of the transaction, if there is one, expired or not: for those who describe it, not for access.
pub fn current() -> Result<Option<Rc<Context>>> {
    if STALE.get() {
        let parsed = sealed::read().map(|text| Context::decode(&text)).transpose()?;
        PARSED.replace(parsed.map(Rc::new));
        STALE.set(false);
    }
    Ok(PARSED.borrow().clone())
}

/// The error of a transaction without a context. Whoever is not of the application, and runs a migration or DDL, has
/// other ways than a token.
pub fn missing() -> Error {
    let kind = if user::is_application() { &error::CONTEXT_MISSING } else { &error::SCOPE_MISSING };
    kind.error("no organization is authenticated in this transaction")
}

/// True if the transaction has used an identity, signed out since or not.
pub fn sealed_to_somebody() -> bool {
    TRANSACTION_IDENTITY.borrow().is_set()
}

/// The context of the transaction, for access: an error when there is none or its token has expired.
pub fn require() -> Result<Rc<Context>> {
    let context = current()?.ok_or_else(missing)?;
    if expired(&context) {
        return Err(error::CONTEXT_EXPIRED.error("the token behind this transaction has expired"));
    }
    seal(&context)?;
    Ok(context)
}

/// Seals the transaction to the identity of the session at its first use, if its membership still gives access.
///
/// An identity of the transaction was sealed when it began. A parallel worker has no seal but that of its leader, whose
/// context it received; the identity of a session it checks again for itself.
fn seal(context: &Rc<Context>) -> Result<()> {
    if context.scope == Scope::Transaction || TRANSACTION_IDENTITY.borrow().keeps(context) {
        return Ok(());
    }
    if TRANSACTION_IDENTITY.borrow().refuses(context) {
        return Err(sealed());
    }
    refuse_what_was_left(context)?;
    revalidate(context)?;
    TRANSACTION_IDENTITY.borrow_mut().keep(transaction::level(), Rc::clone(context));
    Ok(())
}

/// Whether the context gives access now, without sealing the transaction.
pub fn in_force(context: &Context) -> bool {
    let known = context.scope == Scope::Transaction || TRANSACTION_IDENTITY.borrow().keeps(context);
    !expired(context) && (known || revalidate(context).is_ok())
}

/// True once the token behind the context has ended.
pub fn expired(context: &Context) -> bool {
    transaction::now() >= context.expires_at
}

fn sealed() -> Error {
    error::CONTEXT_SEALED
        .error("this transaction has another identity already")
        .detail("A transaction keeps the first subject and organization that it authenticates, also after sign_out.")
}

/// Gives the transaction, or the session, an identity; refused where the transaction has another one.
pub fn begin(context: Context) -> Result<()> {
    let text = context.encode()?;
    begin_encoded(Rc::new(context), text)
}

/// The same for a context whose encoding is known.
pub fn begin_encoded(context: Rc<Context>, text: String) -> Result<()> {
    if maintenance::in_maintenance() {
        return Err(error::CONTEXT_SEALED.error("this transaction acts for all organizations, and for none alone"));
    }
    let changes = TRANSACTION_IDENTITY.borrow().refuses(&context);
    if changes {
        if context.scope == Scope::Session || !several_identities::are_permitted() {
            return Err(sealed());
        }
        TRANSACTION_IDENTITY.borrow_mut().leave(transaction::level(), transaction::now());
    }
    refuse_what_was_left(&context)?;
    if context.scope == Scope::Transaction && *HOLDING.borrow().get() && cursors_are_open(true, transaction::now()) {
        return Err(cursor_refused());
    }
    let text =
        CString::new(text).map_err(|_| error::STATE_INVALID.error("the encoding of the context has a zero byte"))?;
    let lasting = match context.scope {
        Scope::Transaction => Lasting::Transaction,
        Scope::Session => Lasting::Session,
    };
    sealed::set(&text, lasting);
    TRANSACTION_IDENTITY.borrow_mut().keep(transaction::level(), Rc::clone(&context));
    // What was just written need not be read again.
    PARSED.replace(Some(Rc::clone(&context)));
    STALE.set(false);
    if changes { identity_changed(&context) } else { Ok(()) }
}

/// Says in the session once, and records each time, what only a database of tests may do.
fn identity_changed(context: &Context) -> Result<()> {
    static SAID: BackendLocal<Cell<bool>> = BackendLocal::new(Cell::new(false));
    if !SAID.replace(true) {
        let message = "this transaction changes its identity, which only a database of tests may permit";
        report::warn(
            &error::CONTEXT_SEALED.error(message).detail("tenancy.several_identities is on for this database."),
        );
    }
    ROOMS.get().map_or(Ok(()), |rooms| (rooms.identity_changed)(context))
}

/// Refuses an identity while a cursor may hold rows of another one that was rolled back to a savepoint.
fn refuse_what_was_left(context: &Context) -> Result<()> {
    let undone = TRANSACTION_IDENTITY.borrow().somebody_else_undone(context);
    if undone.is_some_and(|at| cursors_are_open(false, at)) {
        return Err(error::CONTEXT_SEALED
            .error("an open cursor may hold rows of the identity that was rolled back")
            .detail("The cursor is older than the savepoint: close it before another subject authenticates."));
    }
    Ok(())
}

/// Leaves the transaction without a context, and the session too. The seal stays.
pub fn end() {
    sealed::set(&CString::default(), Lasting::Session);
}

/// A cursor WITH HOLD is about to be declared. Its rows are kept at the commit for whoever comes next on the
/// connection, so an identity that ends with the transaction may not leave them there.
pub fn cursor_held() -> Result<()> {
    let of_the_transaction = current()?.is_some_and(|context| context.scope == Scope::Transaction);
    if of_the_transaction || maintenance::in_maintenance() || TRANSACTION_IDENTITY.borrow().ends_with_the_transaction()
    {
        return Err(cursor_refused());
    }
    *HOLDING.borrow_mut().change(transaction::level()) = true;
    Ok(())
}

fn cursor_refused() -> Error {
    error::CURSOR_REFUSED.error("a cursor WITH HOLD would keep rows of the organization beyond this transaction")
}

/// True if cursors are open that this transaction opened until then, apart from the statement that asks.
fn cursors_are_open(held: bool, until: i64) -> bool {
    // The client's own statement is a cursor of its first run; one WITH HOLD never is, and keeps what its run reads.
    let running = if held { None } else { cursor::running_first() };
    let arguments = [argument(running), argument(held), timestamp(until)];
    !OPEN_CURSORS.read(&arguments, |_| ()).is_empty()
}

/// True while what was checked in this statement still holds.
#[inline]
pub fn checked() -> bool {
    CHECKED.get() == Some(transaction::statement())
}

/// Checks the context once per statement and lays out its organization for the accessors.
pub fn check() -> Result<()> {
    if checked() {
        return Ok(());
    }
    let context = require()?;
    if ORGANIZATION.uuid.get().is_none() {
        let Organization { id, text_id, integer_id } = &context.organization;
        // SAFETY: allocates in TopTransactionContext, which exists inside a transaction; the current context is put
        // back.
        unsafe {
            let before = pg_sys::MemoryContextSwitchTo(pg_sys::TopTransactionContext);
            ORGANIZATION.uuid.set(pgrx::Uuid::from_bytes(*id.as_bytes()).into_datum());
            ORGANIZATION.text.set(text_id.as_str().into_datum());
            pg_sys::MemoryContextSwitchTo(before);
        }
        ORGANIZATION.integer.set(*integer_id);
    }
    CHECKED.set(Some(transaction::statement()));
    Ok(())
}

/// The organization as a `uuid` Datum; `None` before [`check`].
#[inline]
pub fn uuid_datum() -> Option<pg_sys::Datum> {
    if checked() { checked_uuid() } else { None }
}

/// The organization as a `text` Datum; `None` before [`check`].
#[inline]
pub fn text_datum() -> Option<pg_sys::Datum> {
    if checked() { checked_text() } else { None }
}

/// The organization's number as a `bigint` Datum, if it has one; `None` before [`check`].
#[inline]
pub fn integer_datum() -> Option<pg_sys::Datum> {
    if checked() { checked_integer() } else { None }
}

/// [`uuid_datum`] for whoever knows that it is [`checked`].
#[inline]
pub fn checked_uuid() -> Option<pg_sys::Datum> {
    ORGANIZATION.uuid.get()
}

/// [`text_datum`] for whoever knows that it is [`checked`].
#[inline]
pub fn checked_text() -> Option<pg_sys::Datum> {
    ORGANIZATION.text.get()
}

/// [`integer_datum`] for whoever knows that it is [`checked`].
#[inline]
pub fn checked_integer() -> Option<pg_sys::Datum> {
    ORGANIZATION.integer.get().map(pg_sys::Datum::from)
}
