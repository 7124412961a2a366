//! Cursors, and the statement that leaves one behind after its transaction.

use super::report::OrRaise;
use super::setting::Backend;
use crate::error::Result;
use pgrx::{pg_guard, pg_sys};
use std::cell::Cell;
use std::ffi::{CStr, c_char};

/// Refuses a cursor, or does not.
type Listener = fn() -> Result<()>;

static HELD: Backend<Cell<Option<Listener>>> = Backend::new(Cell::new(None));
static PREVIOUS: Backend<Cell<pg_sys::ProcessUtility_hook_type>> = Backend::new(Cell::new(None));

/// Calls `held` before each DECLARE ... WITH HOLD, which its error refuses. Called once from `_PG_init`.
pub fn watch(held: Listener) {
    HELD.set(Some(held));
    // SAFETY: called once per process from _PG_init, as every library that takes this hook does it.
    unsafe {
        PREVIOUS.set(pg_sys::ProcessUtility_hook);
        pg_sys::ProcessUtility_hook = Some(utility);
    }
}

/// The name of the cursor whose first run is going on: the statement of the client itself. It cannot hold what was read
/// before it ran.
pub fn running_first() -> Option<String> {
    // SAFETY: NULL, or the portal that is being run; its name is NUL-terminated.
    unsafe {
        let portal = pg_sys::ActivePortal;
        if portal.is_null() || !(*portal).atStart {
            return None;
        }
        Some(CStr::from_ptr((*portal).name).to_string_lossy().into_owned())
    }
}

unsafe extern "C-unwind" {
    /// Postgres' own function, without pgrx's guard around it.
    #[link_name = "standard_ProcessUtility"]
    fn postgres_process_utility(
        statement: *mut pg_sys::PlannedStmt,
        text: *const c_char,
        read_only_tree: bool,
        context: pg_sys::ProcessUtilityContext::Type,
        parameters: pg_sys::ParamListInfo,
        environment: *mut pg_sys::QueryEnvironment,
        destination: *mut pg_sys::DestReceiver,
        completion: *mut pg_sys::QueryCompletion,
    );
}

/// Without a guard, which would cost each statement a `sigsetjmp`: an error that Postgres raises below jumps over this
/// frame, which holds nothing to drop.
unsafe extern "C-unwind" fn utility(
    statement: *mut pg_sys::PlannedStmt,
    text: *const c_char,
    read_only_tree: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    parameters: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    destination: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: Postgres passes a planned statement with the tree of a utility statement; the rest is passed on.
    unsafe {
        if declares_with_hold((*statement).utilityStmt) {
            held();
        }
        let commits_prepared = commits_prepared((*statement).utilityStmt);
        let next = PREVIOUS.get().unwrap_or(postgres_process_utility);
        next(statement, text, read_only_tree, context, parameters, environment, destination, completion);
        if commits_prepared {
            super::transaction::prepared_committed();
        }
    }
    // COPY fires triggers without the executor.
    super::transaction::statement_finished();
}

/// SAFETY of the caller: the node is one of a parse tree.
unsafe fn declares_with_hold(node: *mut pg_sys::Node) -> bool {
    // SAFETY: as promised; the tag tells the type of the node.
    unsafe {
        (*node).type_ == pg_sys::NodeTag::T_DeclareCursorStmt
            && (*node.cast::<pg_sys::DeclareCursorStmt>()).options & pg_sys::CURSOR_OPT_HOLD as i32 != 0
    }
}

/// SAFETY of the caller: the node is one of a parse tree.
unsafe fn commits_prepared(node: *mut pg_sys::Node) -> bool {
    // SAFETY: as promised; the tag tells the type of the node.
    unsafe {
        (*node).type_ == pg_sys::NodeTag::T_TransactionStmt
            && (*node.cast::<pg_sys::TransactionStmt>()).kind == pg_sys::TransactionStmtKind::TRANS_STMT_COMMIT_PREPARED
    }
}

#[pg_guard]
extern "C-unwind" fn held() {
    if let Some(held) = HELD.get() {
        held().or_raise();
    }
}
