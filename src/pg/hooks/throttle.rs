//! Where a statement that writes events begins, and has to wait while too many are unsealed.
//!
//! Decision: `docs/decisions/59-slowed-writers.md`.

use crate::pg::ddl::node::relation;
use crate::pg::processes::throttle;
use crate::pg::tables::table;
use pgrx::{pg_guard, pg_sys};

/// The executor is about to start a query.
///
/// # Safety
/// The executor gives the query.
pub(super) unsafe fn starts(query: *mut pg_sys::QueryDesc) {
    // SAFETY: as promised; it has its plan.
    let plan = unsafe { &*(*query).plannedstmt };
    let writes = plan.commandType != pg_sys::CmdType::CMD_SELECT || plan.hasModifyingCTE;
    if writes && throttle::is_over_limit() {
        before_query(plan);
    }
}

#[pg_guard]
extern "C-unwind" fn before_query(plan: &pg_sys::PlannedStmt) {
    // SAFETY: the list has numbers of entries of the range table, from 1; the executor has locked these tables.
    let audited = unsafe {
        let targets = plan.resultRelations;
        let count = if targets.is_null() { 0 } else { (*targets).length as usize };
        (0..count).any(|n| {
            let number = (*(*targets).elements.add(n)).int_value;
            let entry: *mut pg_sys::RangeTblEntry =
                (*(*plan.rtable).elements.add(number as usize - 1)).ptr_value.cast();
            table::is_audited((*entry).relid)
        })
    };
    if audited {
        throttle::before_statement();
    }
}

/// A statement that is no query is about to run.
///
/// # Safety
/// The node is one of a parse tree.
pub(super) unsafe fn runs(node: *mut pg_sys::Node) {
    // SAFETY: as promised; the tag tells the type of the node.
    unsafe {
        if (*node).type_ == pg_sys::NodeTag::T_CopyStmt && throttle::is_over_limit() {
            let copy = &*node.cast::<pg_sys::CopyStmt>();
            if copy.is_from {
                before_copy(copy.relation);
            }
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn before_copy(name: *mut pg_sys::RangeVar) {
    // SAFETY: the caller has a name of a parse tree, or NULL; what it means is looked up again by the statement itself.
    if unsafe { relation(name) }.is_some_and(table::is_audited) {
        throttle::before_statement();
    }
}
