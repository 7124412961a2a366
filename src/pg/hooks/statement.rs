//! The statements of the client, from their start to their end, whichever way that comes, while somebody listens.
//!
//! What functions, triggers and rules run belongs to the statement around it, which has their tables too. A query ends
//! with its memory, as in `reading`; a portal of the protocol that is fetched from in parts is one. A statement that is
//! no query ends where it returns, or with the savepoint or transaction that its error ends.
//!
//! Decision: `docs/decisions/87-statement-events.md`.

use super::reading::{self, ReadOutcome};
use super::transaction as listeners;
use crate::pg::backend_local::BackendLocal;
use crate::pg::ddl::node::each;
use crate::pg::report::OrRaise;
use crate::pg::tables::catalog;
use crate::pg::{spi, transaction, user};
use pg_tenancy_core::audit::capture::statement::{MAX_TABLES, Table};
use pg_tenancy_core::error::Result;
use pgrx::{pg_guard, pg_sys};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ffi::{CStr, c_void};

/// What somebody wants to hear of statements.
#[derive(Clone, Copy)]
pub struct StatementListener {
    /// False while nobody wants to hear of any. Must neither raise nor panic.
    pub active: fn() -> bool,
    /// A statement is about to begin, which an error refuses; returns a number that it is known by.
    pub begins: fn() -> Result<u64>,
    /// It is over. Must neither raise nor panic, and cannot read catalogs.
    pub ended: fn(u64, StatementRun),
}

/// A statement that is over.
pub struct StatementRun {
    /// `SELECT`, `UPDATE` and so on; of a statement that is no query the command tag.
    pub command: String,
    /// What it needed privileges on.
    pub tables: Vec<Table>,
    /// How many more of these there were.
    pub more_tables: usize,
    pub query_id: Option<i64>,
    pub outcome: ReadOutcome,
}

/// A statement that is being watched.
struct WatchedStatement {
    command: String,
    tables: Vec<(pg_sys::Oid, Table)>,
    more_tables: usize,
    query_id: Option<i64>,
    /// By which its end is known: of the executor's query, and of any statement. Never followed.
    query: *const pg_sys::QueryDesc,
    plan: *const pg_sys::PlannedStmt,
    /// In the memory whose end ends the statement; NULL before the executor has started, and for what is no query.
    state: *const pg_sys::EState,
    /// The savepoint level that it runs at.
    level: i32,
    /// Rows of the runs that are over.
    rows: u64,
    ran: bool,
}

static LISTENER: BackendLocal<Cell<Option<StatementListener>>> = BackendLocal::new(Cell::new(None));
static WATCHED: BackendLocal<RefCell<BTreeMap<u64, WatchedStatement>>> =
    BackendLocal::new(RefCell::new(BTreeMap::new()));
/// The statement that runs now, in which others are nested.
static RUNNING: BackendLocal<Cell<Option<u64>>> = BackendLocal::new(Cell::new(None));

/// Registers the listener. Called once from `_PG_init`.
pub fn watch(listener: StatementListener) {
    LISTENER.set(Some(listener));
}

/// The listener, if it wants to hear of a statement that begins now. The extension's own queries are none, and a
/// parallel worker is part of its leader's.
fn listener() -> Option<StatementListener> {
    // SAFETY: reads a counter of the process.
    LISTENER
        .get()
        .filter(|listener| (listener.active)() && !spi::is_own() && unsafe { pg_sys::ParallelWorkerNumber } < 0)
}

/// Begins to watch a statement, which runs from now on.
fn begin(
    listener: &StatementListener,
    command: String,
    query_id: Option<i64>,
    plan: *const pg_sys::PlannedStmt,
) -> u64 {
    let number = (listener.begins)().or_raise();
    let watched = WatchedStatement {
        command,
        tables: Vec::new(),
        more_tables: 0,
        query_id,
        query: std::ptr::null(),
        plan,
        state: std::ptr::null(),
        level: transaction::level(),
        rows: 0,
        ran: false,
    };
    WATCHED.borrow_mut().insert(number, watched);
    RUNNING.set(Some(number));
    number
}

/// The executor is about to start a query that it is going to run.
pub(super) fn starts(query: *mut pg_sys::QueryDesc) {
    if RUNNING.get().is_none() && listener().is_some() {
        begin_query(query);
    }
}

#[pg_guard]
extern "C-unwind" fn begin_query(query: *mut pg_sys::QueryDesc) {
    let Some(listener) = listener() else { return };
    // SAFETY: the executor gives a query that has its plan.
    let (operation, plan) = unsafe { ((*query).operation, (*query).plannedstmt) };
    // SAFETY: as above.
    let query_id = reading::query_id(unsafe { reading::planned_id(plan) });
    begin(&listener, reading::command(operation).to_owned(), query_id, plan);
    // Also where Postgres refuses it for want of a privilege.
    add_tables_of(query);
}

/// The executor has started a query.
pub(super) fn started(query: *mut pg_sys::QueryDesc) {
    // SAFETY: the query has its plan until its end.
    if RUNNING.get().is_some_and(|number| is_plan(number, unsafe { (*query).plannedstmt })) {
        follow(query);
    }
}

/// True if this is the plan of the statement, which is not known as a query yet.
fn is_plan(number: u64, plan: *const pg_sys::PlannedStmt) -> bool {
    let watched = WATCHED.borrow();
    watched.get(&number).is_some_and(|watched| watched.query.is_null() && watched.plan == plan)
}

/// The statement waits to be run; the end of its memory ends it.
#[pg_guard]
extern "C-unwind" fn follow(query: *mut pg_sys::QueryDesc) {
    if let Some(number) = RUNNING.get() {
        end_with_memory(number, query);
        RUNNING.set(None);
    }
}

fn end_with_memory(number: u64, query: *mut pg_sys::QueryDesc) {
    // SAFETY: the executor has started the query; the callback lives in the memory whose end calls it.
    unsafe {
        let state = (*query).estate;
        let memory = (*state).es_query_cxt;
        let callback: *mut pg_sys::MemoryContextCallback =
            pg_sys::MemoryContextAlloc(memory, size_of::<pg_sys::MemoryContextCallback>()).cast();
        (*callback).func = Some(memory_ends);
        (*callback).arg = std::ptr::without_provenance_mut(number as usize);
        pg_sys::MemoryContextRegisterResetCallback(memory, callback);
        if let Some(watched) = WATCHED.borrow_mut().get_mut(&number) {
            (watched.query, watched.state) = (query, state);
        }
    }
}

/// The end of a query's memory: at ExecutorEnd, or where an error threw everything away.
unsafe extern "C-unwind" fn memory_ends(number: *mut c_void) {
    let number = number.addr() as u64;
    if RUNNING.get() == Some(number) {
        failed(number);
    } else {
        finish(number, |watched| match watched.ran {
            true => ReadOutcome::Ran { rows: Some(watched.rows), failed: false },
            false => ReadOutcome::NotRun,
        });
    }
}

/// The statement ended with an error.
fn failed(number: u64) {
    finish(number, |watched| {
        // SAFETY: the state of a statement that is in the list has not been freed yet.
        let processed = (!watched.state.is_null()).then(|| unsafe { (*watched.state).es_processed });
        ReadOutcome::Ran { rows: processed.map(|processed| watched.rows + processed), failed: true }
    });
}

fn finish(number: u64, outcome: impl FnOnce(&WatchedStatement) -> ReadOutcome) {
    if RUNNING.get() == Some(number) {
        RUNNING.set(None);
    }
    let watched = WATCHED.try_borrow_mut().ok().and_then(|mut watched| watched.remove(&number));
    let (Some(watched), Some(listener)) = (watched, LISTENER.get()) else { return };
    let outcome = outcome(&watched);
    let mut tables: Vec<Table> = watched.tables.into_iter().map(|(_, table)| table).collect();
    tables.sort_unstable();
    let WatchedStatement { command, more_tables, query_id, .. } = watched;
    (listener.ended)(number, StatementRun { command, tables, more_tables, query_id, outcome });
}

/// The executor is about to run a query.
pub(super) fn runs(query: *mut pg_sys::QueryDesc) {
    match RUNNING.get() {
        None if listener().is_some() => resume(query),
        Some(number) if fetches(number) && !spi::is_own() => add_tables_of(query),
        _ => {}
    }
}

/// A query runs that was started before, perhaps before anybody listened.
#[pg_guard]
extern "C-unwind" fn resume(query: *mut pg_sys::QueryDesc) {
    let known = {
        let mut watched = WATCHED.borrow_mut();
        watched.iter_mut().find(|(_, watched)| watched.query == query).map(|(number, watched)| {
            watched.level = transaction::level();
            *number
        })
    };
    match known {
        Some(number) => RUNNING.set(Some(number)),
        None => {
            begin_query(query);
            if let Some(number) = RUNNING.get() {
                end_with_memory(number, query);
            }
        }
    }
}

/// True for FETCH and MOVE, which run a query that was started before.
fn fetches(number: u64) -> bool {
    let watched = WATCHED.borrow();
    watched.get(&number).is_some_and(|watched| ["FETCH", "MOVE"].contains(&&*watched.command))
}

/// The executor has run a query without an error.
pub(super) fn ran(query: *mut pg_sys::QueryDesc) {
    let Some(number) = RUNNING.get() else { return };
    // SAFETY: the executor's own state of the query, and its plan.
    let (rows, plan) = unsafe { ((*(*query).estate).es_processed, (*query).plannedstmt) };
    if is_plan(number, plan) {
        finish(number, |_| ReadOutcome::Ran { rows: Some(rows), failed: false });
    } else if let Some(watched) = WATCHED.borrow_mut().get_mut(&number).filter(|watched| watched.query == query) {
        watched.rows += rows;
        watched.ran = true;
        RUNNING.set(None);
    }
}

/// AFTER triggers of a query are about to run.
pub(super) fn finishes(query: *mut pg_sys::QueryDesc) {
    if RUNNING.get().is_none() {
        let watched = WATCHED.borrow();
        let own = watched.iter().find(|(_, watched)| watched.query == query);
        RUNNING.set(own.map(|(number, _)| *number));
    }
}

/// They are over without an error.
pub(super) fn finished(query: *mut pg_sys::QueryDesc) {
    let is_of = |number: &u64| WATCHED.borrow().get(number).is_some_and(|watched| watched.query == query);
    if RUNNING.get().is_some_and(|number| is_of(&number)) {
        RUNNING.set(None);
    }
}

/// A statement that is no query is about to run.
///
/// # Safety
/// Postgres gives a planned statement, with its tree.
pub(super) unsafe fn utility_begins(statement: *const pg_sys::PlannedStmt) {
    if RUNNING.get().is_none() && listener().is_some() {
        begin_utility(statement);
    }
}

#[pg_guard]
extern "C-unwind" fn begin_utility(statement: *const pg_sys::PlannedStmt) {
    let Some(listener) = listener() else { return };
    // SAFETY: the caller promises the tree; the name of a tag is a constant of the server.
    let command = unsafe {
        let tree = (*statement).utilityStmt;
        // What ends a transaction or a savepoint reads and changes nothing, and has to work also after an error.
        if (*tree).type_ == pg_sys::NodeTag::T_TransactionStmt {
            return;
        }
        CStr::from_ptr(pg_sys::GetCommandTagName(pg_sys::CreateCommandTag(tree))).to_string_lossy().into_owned()
    };
    listeners::statement_started();
    begin(&listener, command, reading::query_id(0), statement);
}

/// It has ended without an error.
///
/// # Safety
/// The completion is NULL or that of this statement.
pub(super) unsafe fn utility_ended(statement: *const pg_sys::PlannedStmt, completion: *const pg_sys::QueryCompletion) {
    let Some(number) = RUNNING.get().filter(|number| is_plan(*number, statement)) else { return };
    // SAFETY: as promised.
    let rows = unsafe {
        let counts = !completion.is_null() && pg_sys::command_tag_display_rowcount((*completion).commandTag);
        counts.then(|| (*completion).nprocessed)
    };
    finish(number, |_| ReadOutcome::Ran { rows, failed: false });
}

/// True while the tables are of interest that privileges are asked for.
pub(super) fn collects() -> bool {
    RUNNING.get().is_some() && !spi::is_own()
}

/// The statement that runs needs privileges on the table.
#[pg_guard]
pub(super) extern "C-unwind" fn needs(table: pg_sys::Oid, privileges: u64) {
    // What Postgres asks and locks to check a foreign key is nobody's statement.
    let locks = u64::from(pg_sys::ACL_SELECT | pg_sys::ACL_UPDATE);
    if let Some(number) = RUNNING.get().filter(|_| privileges != locks || !user::in_foreign_key_check()) {
        add_table(number, table);
    }
}

fn add_table(number: u64, table: pg_sys::Oid) {
    let is_known = |watched: &WatchedStatement| watched.tables.iter().any(|(known, _)| *known == table);
    if WATCHED.borrow().get(&number).is_none_or(is_known) {
        return;
    }
    let Some((schema, name)) = catalog::name(table) else { return };
    if let Some(watched) = WATCHED.borrow_mut().get_mut(&number) {
        if watched.tables.len() < MAX_TABLES {
            watched.tables.push((table, Table { schema, table: name }));
        } else {
            watched.more_tables += 1;
        }
    }
}

/// The tables of a query of the client, or of one that was started before it was watched.
#[pg_guard]
extern "C-unwind" fn add_tables_of(query: *mut pg_sys::QueryDesc) {
    // SAFETY: the plan lives as long as the query.
    unsafe { add_tables((*query).plannedstmt) };
}

/// # Safety
/// The plan is one of the executor.
unsafe fn add_tables(plan: *const pg_sys::PlannedStmt) {
    let Some(number) = RUNNING.get() else { return };
    // SAFETY: as promised; the lists are of the nodes that the executor checks.
    unsafe {
        #[cfg(feature = "pg15")]
        let needed = each::<pg_sys::RangeTblEntry>((*plan).rtable)
            .filter(|entry| (**entry).rtekind == pg_sys::RTEKind::RTE_RELATION && (**entry).requiredPerms != 0);
        #[cfg(not(feature = "pg15"))]
        let needed = each::<pg_sys::RTEPermissionInfo>((*plan).permInfos).filter(|entry| (**entry).requiredPerms != 0);
        for entry in needed {
            add_table(number, (*entry).relid);
        }
    }
}

/// Somebody listens from now on, because of what the statement that runs has called: it is watched as well, unless it
/// is a plain call.
pub fn listened_to() {
    // SAFETY: NULL, or the portal that is being run, with its planned statements.
    unsafe {
        let portal = pg_sys::ActivePortal;
        if portal.is_null() || RUNNING.get().is_some() {
            return;
        }
        let Some(listener) = listener() else { return };
        let Some(plan) = each::<pg_sys::PlannedStmt>((*portal).stmts).next() else { return };
        let command = CStr::from_ptr(pg_sys::GetCommandTagName((*portal).commandTag)).to_string_lossy().into_owned();
        let is_utility = !(*plan).utilityStmt.is_null();
        if !is_utility && each::<pg_sys::RangeTblEntry>((*plan).rtable).all(|entry| is_result(entry)) {
            return;
        }
        let number = begin(&listener, command, reading::query_id(reading::planned_id(plan)), plan);
        if is_utility {
            return;
        }
        add_tables(plan);
        let query = (*portal).queryDesc;
        if !query.is_null() {
            end_with_memory(number, query);
        }
    }
}

/// True for an entry that stands for no table, function or list of values.
///
/// # Safety
/// The entry is one of a plan.
unsafe fn is_result(entry: *const pg_sys::RangeTblEntry) -> bool {
    // SAFETY: as promised.
    unsafe { (*entry).rtekind == pg_sys::RTEKind::RTE_RESULT }
}

/// The transaction is about to commit. A procedure that commits goes on without anybody who listens.
pub fn committing() {
    if let Some(number) = RUNNING.get() {
        finish(number, |_| ReadOutcome::Ran { rows: None, failed: false });
    }
}

/// The savepoint at this level was rolled back: what ran under it ended with an error, or did before.
pub fn rolled_back(level: i32) {
    let is_under = |number: &u64| WATCHED.borrow().get(number).is_none_or(|watched| watched.level >= level);
    if let Some(number) = RUNNING.get().filter(is_under) {
        failed(number);
    }
}
