//! The hook into statements that are no queries.
//!
//! Decision: `docs/decisions/03-cursors-with-hold.md`.

use super::{reading, statement, statistics, throttle, transaction};
use crate::pg::backend_local::BackendLocal;
use crate::pg::ddl::cluster_change::{self, ClusterChange};
use crate::pg::ddl::node::{each, relation};
use crate::pg::planning::acting_for_all;
use crate::pg::report::OrRaise;
use crate::pg::user;
use pg_tenancy_core::error::Result;
use pgrx::{pg_guard, pg_sys};
use std::cell::Cell;
use std::ffi::c_char;

/// What the rooms want to hear of.
#[derive(Clone, Copy)]
pub struct UtilityListener {
    /// Before each DECLARE ... WITH HOLD, which an error refuses.
    pub held: fn() -> Result<()>,
    /// After a statement that fires no event trigger, of those that [`cluster_change::read`] knows.
    pub changed: fn(&ClusterChange) -> Result<()>,
}

static LISTENER: BackendLocal<Cell<Option<UtilityListener>>> = BackendLocal::new(Cell::new(None));
static PREVIOUS: BackendLocal<Cell<pg_sys::ProcessUtility_hook_type>> = BackendLocal::new(Cell::new(None));
/// How many such statements are on the stack. Right wherever one runs that was begun after the last error.
static DEPTH: BackendLocal<Cell<i32>> = BackendLocal::new(Cell::new(0));

/// Registers the hook. Called once from `_PG_init`.
pub fn watch(listener: UtilityListener) {
    LISTENER.set(Some(listener));
    // SAFETY: called once per process from _PG_init, as every library that takes this hook does it.
    unsafe {
        PREVIOUS.set(pg_sys::ProcessUtility_hook);
        pg_sys::ProcessUtility_hook = Some(utility);
    }
}

/// How deep statements of this kind are nested: within one that runs now it is one more than before it.
pub fn depth() -> i32 {
    DEPTH.get()
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
/// frame, which holds nothing to drop. The depth is then too high until a statement that was begun earlier ends.
unsafe extern "C-unwind" fn utility(
    planned: *mut pg_sys::PlannedStmt,
    text: *const c_char,
    read_only_tree: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    parameters: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    destination: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    let depth = DEPTH.get();
    // SAFETY: Postgres passes a planned statement with the tree of a utility statement; the rest is passed on.
    unsafe {
        let tree = (*planned).utilityStmt;
        statement::utility_begins(planned);
        throttle::runs(tree);
        let copies = reading::copy_begins(tree);
        if declares_with_hold(tree) {
            held();
        }
        if statistics::explains(tree) {
            statistics::explaining(tree);
        }
        let commits_prepared = commits_prepared(tree);
        let may_change = cluster_change::may_be(tree);
        let next = PREVIOUS.get().unwrap_or(postgres_process_utility);
        DEPTH.set(depth + 1);
        let run = || next(planned, text, read_only_tree, context, parameters, environment, destination, completion);
        if copies_into_lifted(tree) || detaches(tree) {
            user::without_force(run)
        } else {
            run()
        }
        DEPTH.set(depth);
        if commits_prepared {
            transaction::prepared_committed();
        }
        if may_change {
            changed(tree);
        }
        // COPY fires triggers without the executor.
        transaction::statement_finished();
        if copies {
            reading::copied((!completion.is_null()).then(|| (*completion).nprocessed));
        }
        statement::utility_ended(planned, completion);
    }
}

/// # Safety
/// The node is one of a parse tree.
unsafe fn declares_with_hold(node: *mut pg_sys::Node) -> bool {
    // SAFETY: as promised; the tag tells the type of the node.
    unsafe {
        (*node).type_ == pg_sys::NodeTag::T_DeclareCursorStmt
            && (*node.cast::<pg_sys::DeclareCursorStmt>()).options & pg_sys::CURSOR_OPT_HOLD as i32 != 0
    }
}

/// True for ALTER TABLE ... DETACH PARTITION, for which Postgres looks for rows that point into the partition as
/// whoever runs it (`RI_PartitionRemove_Check`, ri_triggers.c): at those of all organizations. CONCURRENTLY it is of
/// several transactions.
///
/// # Safety
/// The node is one of a parse tree.
unsafe fn detaches(node: *mut pg_sys::Node) -> bool {
    // SAFETY: as promised; the tag tells the type of the node, and the definition of this part is a PartitionCmd.
    unsafe {
        (*node).type_ == pg_sys::NodeTag::T_AlterTableStmt
            && each::<pg_sys::AlterTableCmd>((*node.cast::<pg_sys::AlterTableStmt>()).cmds).any(|part| {
                (*part).subtype == pg_sys::AlterTableType::AT_DetachPartition
                    && !(*(*part).def.cast::<pg_sys::PartitionCmd>()).concurrent
            })
    }
}

/// True for COPY ... FROM into a table whose policies are lifted: Postgres puts them into no query of it, and refuses.
///
/// # Safety
/// The node is one of a parse tree.
unsafe fn copies_into_lifted(node: *mut pg_sys::Node) -> bool {
    // SAFETY: as promised; the tag tells the type of the node.
    unsafe {
        if !acting_for_all::lifts_any() || (*node).type_ != pg_sys::NodeTag::T_CopyStmt {
            return false;
        }
        let copy = &*node.cast::<pg_sys::CopyStmt>();
        copy.is_from && !copy.relation.is_null() && is_lifted(copy.relation)
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn is_lifted(name: *mut pg_sys::RangeVar) -> bool {
    // SAFETY: the caller has a name of a parse tree; what it means is looked up again, with a lock, by the statement
    // itself.
    let table = unsafe { relation(name) };
    table.is_some_and(|table| acting_for_all::lifted(table, pg_sys::InvalidOid))
}

/// # Safety
/// The node is one of a parse tree.
unsafe fn commits_prepared(node: *mut pg_sys::Node) -> bool {
    // SAFETY: as promised; the tag tells the type of the node.
    unsafe {
        (*node).type_ == pg_sys::NodeTag::T_TransactionStmt
            && (*node.cast::<pg_sys::TransactionStmt>()).kind == pg_sys::TransactionStmtKind::TRANS_STMT_COMMIT_PREPARED
    }
}

#[pg_guard]
extern "C-unwind" fn held() {
    if let Some(listener) = LISTENER.get() {
        (listener.held)().or_raise();
    }
}

#[pg_guard]
extern "C-unwind" fn changed(tree: *mut pg_sys::Node) {
    let Some(listener) = LISTENER.get() else { return };
    // SAFETY: the tree of the statement that has just run; its memory is that of whoever runs it.
    if let Some(change) = unsafe { cluster_change::read(tree) } {
        (listener.changed)(&change).or_raise();
    }
}
