//! Statements that read certain tables, from their start to their end, whichever way that comes.
//!
//! The executor tells what a statement reads when it starts, and the end of its memory tells that it is over: that
//! comes after an error too, and before the count of rows is gone. COPY of a whole table does without the executor.
//!
//! Decision: `docs/decisions/34-read-events.md`.

use crate::pg::backend_local::BackendLocal;
use crate::pg::{transaction, user};
use pgrx::{pg_guard, pg_sys};
use std::cell::{Cell, RefCell};
use std::ffi::c_void;

/// What somebody wants to hear of reading.
#[derive(Clone, Copy)]
pub struct ReadListener {
    /// False if no table is of interest. Must neither raise nor panic.
    pub active: fn() -> bool,
    /// A table changed, or all did (`InvalidOid`). Must neither raise nor panic.
    pub changed: fn(table: pg_sys::Oid),
    /// The table of interest that reading this one reads, if any.
    pub of_interest: fn(table: pg_sys::Oid) -> Option<pg_sys::Oid>,
    /// A statement has started; returns a number that it is known by.
    pub begun: fn(ReadStatement) -> u64,
    /// It has returned some rows, or all, without an error.
    pub went_on: fn(u64),
    /// It is over. Must neither raise nor panic, and cannot read catalogs.
    pub ended: fn(u64, ReadOutcome),
}

/// A statement that reads tables of interest.
pub struct ReadStatement {
    pub tables: Vec<pg_sys::Oid>,
    pub command: &'static str,
    /// As Postgres computes it, if it does.
    pub query_id: Option<i64>,
}

/// How a statement ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadOutcome {
    /// It never ran: a cursor that was not fetched from.
    NotRun,
    /// The rows that it returned or changed, as far as known, and whether it ended with an error.
    Ran { rows: Option<u64>, failed: bool },
}

/// A statement of the executor that is being watched.
struct WatchedQuery {
    number: u64,
    query: *const pg_sys::QueryDesc,
    /// In the memory whose end ends the statement.
    state: *const pg_sys::EState,
    /// Rows of the runs that are over.
    rows: u64,
    ran: bool,
    /// What is being done with it, and was where an error ended it.
    phase: RunPhase,
}

#[repr(u8)]
#[derive(Clone, Copy, PartialEq)]
enum RunPhase {
    Waits,
    Runs,
    /// AFTER triggers run.
    Finishes,
}

/// A COPY of a table to the client or a file.
struct Copying {
    level: i32,
    /// The table was looked at without the executor so far.
    directly: bool,
    number: Option<u64>,
}

static LISTENER: BackendLocal<Cell<Option<ReadListener>>> = BackendLocal::new(Cell::new(None));
static WATCHED: BackendLocal<RefCell<Vec<*mut WatchedQuery>>> = BackendLocal::new(RefCell::new(Vec::new()));
static COPYING: BackendLocal<RefCell<Vec<Copying>>> = BackendLocal::new(RefCell::new(Vec::new()));
/// The savepoint levels of running queries that check foreign keys.
static CHECKS: BackendLocal<RefCell<Vec<i32>>> = BackendLocal::new(RefCell::new(Vec::new()));

/// Registers the listener. Called once from `_PG_init`.
pub fn watch(listener: ReadListener) {
    LISTENER.set(Some(listener));
    // SAFETY: called once per process from _PG_init; the library stays loaded.
    unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(table_changed), pg_sys::Datum::null()) };
}

/// The listener, if a table is of interest. A parallel worker reads for its leader, who is watched.
fn listener() -> Option<ReadListener> {
    // SAFETY: reads a counter of the process.
    LISTENER.get().filter(|listener| unsafe { pg_sys::ParallelWorkerNumber } < 0 && (listener.active)())
}

#[pg_guard]
unsafe extern "C-unwind" fn table_changed(_argument: pg_sys::Datum, table: pg_sys::Oid) {
    if let Some(listener) = LISTENER.get() {
        (listener.changed)(table);
    }
}

/// The executor is about to start a query.
pub(super) fn starts() {
    if listener().is_some() {
        copies_by_executor();
    }
}

/// The executor has started a query that it is going to run.
pub(super) fn started(query: *mut pg_sys::QueryDesc) {
    if listener().is_some() {
        watch_query(query);
    }
}

/// Watches the statement if it reads a table of interest.
#[pg_guard]
extern "C-unwind" fn watch_query(query: *mut pg_sys::QueryDesc) {
    let Some(listener) = listener() else { return };
    // What Postgres asks to check a foreign key is nobody's reading; what a trigger asks inside of such a query is.
    if user::in_foreign_key_check() && CHECKS.borrow().is_empty() {
        return;
    }
    // SAFETY: the executor has just started the query, whose plan and state live until its end.
    let (statement, state) = unsafe { ((*query).plannedstmt, (*query).estate) };
    // SAFETY: as above.
    let mut tables: Vec<pg_sys::Oid> =
        unsafe { read_by(statement) }.into_iter().filter_map(listener.of_interest).collect();
    tables.sort_unstable_by_key(|table| table.to_u32());
    tables.dedup();
    if tables.is_empty() {
        return;
    }
    // SAFETY: as above.
    let (command, query_id) = unsafe { (command((*query).operation), query_id(planned_id(statement))) };
    let number = (listener.begun)(ReadStatement { tables, command, query_id });
    let watched = Box::new(WatchedQuery { number, query, state, rows: 0, ran: false, phase: RunPhase::Waits });
    // SAFETY: the callback lives in the memory whose end calls it; the box is given back there.
    unsafe {
        let memory = (*state).es_query_cxt;
        let callback: *mut pg_sys::MemoryContextCallback =
            pg_sys::MemoryContextAlloc(memory, size_of::<pg_sys::MemoryContextCallback>()).cast();
        let watched = Box::into_raw(watched);
        (*callback).func = Some(memory_ends);
        (*callback).arg = watched.cast();
        pg_sys::MemoryContextRegisterResetCallback(memory, callback);
        WATCHED.borrow_mut().push(watched);
    }
}

/// The relations that the plan reads rows of.
///
/// # Safety
/// The plan is one of the executor.
unsafe fn read_by(statement: *const pg_sys::PlannedStmt) -> Vec<pg_sys::Oid> {
    let select = u64::from(pg_sys::ACL_SELECT);
    let mut read = Vec::new();
    // SAFETY: the lists of a plan hold nodes of these types.
    unsafe {
        #[cfg(not(feature = "pg15"))]
        each((*statement).permInfos, |entry: &pg_sys::RTEPermissionInfo| {
            if entry.requiredPerms & select != 0 {
                read.push(entry.relid);
            }
        });
        #[cfg(feature = "pg15")]
        each((*statement).rtable, |entry: &pg_sys::RangeTblEntry| {
            if entry.rtekind == pg_sys::RTEKind::RTE_RELATION && u64::from(entry.requiredPerms) & select != 0 {
                read.push(entry.relid);
            }
        });
        // A partition or child is read with its parent, under the parent's permissions.
        if !read.is_empty() {
            each((*statement).rtable, |entry: &pg_sys::RangeTblEntry| {
                #[cfg(feature = "pg15")]
                let is_child = entry.requiredPerms == 0;
                #[cfg(not(feature = "pg15"))]
                let is_child = entry.perminfoindex == 0;
                if entry.rtekind == pg_sys::RTEKind::RTE_RELATION && is_child {
                    read.push(entry.relid);
                }
            });
        }
    }
    read
}

/// # Safety
/// The list is NULL or holds nodes of the type.
unsafe fn each<T>(list: *const pg_sys::List, mut each: impl FnMut(&T)) {
    // SAFETY: as promised.
    unsafe {
        let count = if list.is_null() { 0 } else { (*list).length as usize };
        for n in 0..count {
            each(&*(*(*list).elements.add(n)).ptr_value.cast());
        }
    }
}

/// The id of the plan; 0 if it has none.
///
/// # Safety
/// The plan is one of the executor.
#[allow(clippy::unnecessary_cast, reason = "the id has no sign before Postgres 18")]
pub(super) unsafe fn planned_id(statement: *const pg_sys::PlannedStmt) -> i64 {
    // SAFETY: as promised.
    unsafe { (*statement).queryId as i64 }
}

/// The id of the plan, or that of the client's statement where the plan has none, as that of CREATE TABLE AS.
pub(super) fn query_id(planned: i64) -> Option<i64> {
    let id = match planned {
        // SAFETY: reads what the session shows in pg_stat_activity.
        0 => unsafe { pg_sys::pgstat_get_my_query_id() as i64 },
        planned => planned,
    };
    (id != 0).then_some(id)
}

pub(super) fn command(operation: pg_sys::CmdType::Type) -> &'static str {
    match operation {
        pg_sys::CmdType::CMD_SELECT => "SELECT",
        pg_sys::CmdType::CMD_INSERT => "INSERT",
        pg_sys::CmdType::CMD_UPDATE => "UPDATE",
        pg_sys::CmdType::CMD_DELETE => "DELETE",
        pg_sys::CmdType::CMD_MERGE => "MERGE",
        _ => "OTHER",
    }
}

/// The end of a statement's memory: at ExecutorEnd, or where an error threw everything away.
unsafe extern "C-unwind" fn memory_ends(watched: *mut c_void) {
    let watched: *mut WatchedQuery = watched.cast();
    if let Ok(mut all) = WATCHED.try_borrow_mut() {
        all.retain(|other| *other != watched);
    }
    // SAFETY: the box of this statement, which nothing else knows now; the memory of its state is not yet freed.
    let (watched, processed) = unsafe {
        let watched = Box::from_raw(watched);
        let processed = (*watched.state).es_processed;
        (watched, processed)
    };
    let outcome = match watched.phase {
        RunPhase::Waits if !watched.ran => ReadOutcome::NotRun,
        RunPhase::Runs => ReadOutcome::Ran { rows: Some(watched.rows + processed), failed: true },
        phase => ReadOutcome::Ran { rows: Some(watched.rows), failed: phase == RunPhase::Finishes },
    };
    if let Some(listener) = LISTENER.get() {
        (listener.ended)(watched.number, outcome);
    }
}

/// The watched statement that this query is.
fn watched(query: *const pg_sys::QueryDesc) -> Option<*mut WatchedQuery> {
    let watched = WATCHED.borrow();
    // SAFETY: a box that is in the list has not been given back.
    watched.iter().rev().copied().find(|watched| unsafe { (**watched).query } == query)
}

/// The executor is about to run a query; true if [`ran`] is to hear of its end.
pub(super) fn runs(query: *mut pg_sys::QueryDesc) -> bool {
    listener().is_some() && begins(query, RunPhase::Runs)
}

/// The run is over without an error.
pub(super) fn ran(query: *mut pg_sys::QueryDesc) {
    went_well(query, RunPhase::Runs);
}

/// AFTER triggers of a query are about to run; true if [`finished`] is to hear of their end.
pub(super) fn finishes(query: *mut pg_sys::QueryDesc) -> bool {
    listener().is_some() && begins(query, RunPhase::Finishes)
}

/// They are over without an error.
pub(super) fn finished(query: *mut pg_sys::QueryDesc) {
    went_well(query, RunPhase::Finishes);
}

/// A phase of the query begins; true if its end is to be told to [`went_well`].
fn begins(query: *mut pg_sys::QueryDesc, phase: RunPhase) -> bool {
    if let Some(watched) = watched(query) {
        // SAFETY: as in `watched`.
        unsafe { (*watched).phase = phase };
        return true;
    }
    let checks = phase == RunPhase::Runs && user::in_foreign_key_check();
    if checks {
        CHECKS.borrow_mut().push(transaction::level());
    }
    checks
}

/// The phase is over without an error.
#[pg_guard]
extern "C-unwind" fn went_well(query: *mut pg_sys::QueryDesc, phase: RunPhase) {
    let Some(watched) = watched(query) else {
        CHECKS.borrow_mut().pop();
        return;
    };
    // SAFETY: as in `watched`; the state lives as long as the statement.
    let number = unsafe {
        (*watched).phase = RunPhase::Waits;
        if phase == RunPhase::Runs {
            (*watched).ran = true;
            (*watched).rows += (*(*watched).state).es_processed;
        }
        (*watched).number
    };
    if let Some(listener) = LISTENER.get() {
        (listener.went_on)(number);
    }
}

/// A utility statement is about to run; true if it is a COPY whose end [`copied`] is to hear of.
///
/// # Safety
/// The node is one of a parse tree.
pub(super) unsafe fn copy_begins(node: *mut pg_sys::Node) -> bool {
    // SAFETY: as promised.
    let copies = unsafe { copies_table(node) } && listener().is_some();
    if copies {
        COPYING.borrow_mut().push(Copying { level: transaction::level(), directly: true, number: None });
    }
    copies
}

/// # Safety
/// The node is one of a parse tree.
unsafe fn copies_table(node: *mut pg_sys::Node) -> bool {
    // SAFETY: as promised; the tag tells the type of the node.
    unsafe {
        let copy: *mut pg_sys::CopyStmt = node.cast();
        (*node).type_ == pg_sys::NodeTag::T_CopyStmt && !(*copy).is_from && !(*copy).relation.is_null()
    }
}

/// True while a COPY of a table asks for permissions, which are those of what it reads itself.
pub(super) fn copying() -> bool {
    COPYING.try_borrow().is_ok_and(|copying| copying.last().is_some_and(|copying| copying.directly))
}

/// A COPY is about to read the table.
#[pg_guard]
pub(super) extern "C-unwind" fn copies(table: pg_sys::Oid) {
    let Some(listener) = listener() else { return };
    let Some(table) = (listener.of_interest)(table) else { return };
    let query_id = query_id(0);
    let number = (listener.begun)(ReadStatement { tables: vec![table], command: "COPY", query_id });
    if let Some(copying) = COPYING.borrow_mut().last_mut() {
        copying.number = Some(number);
    }
}

/// The executor does it after all, because of row-level security: it tells of the statement itself.
fn copies_by_executor() {
    let number = COPYING.borrow_mut().last_mut().and_then(|copying| {
        copying.directly = false;
        copying.number.take()
    });
    if let (Some(number), Some(listener)) = (number, LISTENER.get()) {
        (listener.ended)(number, ReadOutcome::NotRun);
    }
}

/// The COPY is over without an error, after so many rows.
pub(super) fn copied(rows: Option<u64>) {
    let copying = COPYING.borrow_mut().pop();
    if let (Some(number), Some(listener)) = (copying.and_then(|copying| copying.number), LISTENER.get()) {
        (listener.ended)(number, ReadOutcome::Ran { rows, failed: false });
    }
}

/// The savepoint at this level was rolled back: what ran under it ended with an error, or did before.
pub fn rolled_back(level: i32) {
    CHECKS.borrow_mut().retain(|check| *check < level);
    loop {
        let failed = COPYING.borrow_mut().pop_if(|copying| copying.level >= level);
        let Some(failed) = failed else { return };
        if let (Some(number), Some(listener)) = (failed.number, LISTENER.get()) {
            (listener.ended)(number, ReadOutcome::Ran { rows: None, failed: true });
        }
    }
}
