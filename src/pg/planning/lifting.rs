//! Policies that do not count for a query: those of tables whose rows somebody may see for all organizations.
//!
//! The rewriter has put the policies of each table into its entry of the query (`fireRIRrules`, rewriteHandler.c),
//! and nothing else stands there. Taken out table by table, they are lifted for what the query itself names, in
//! whose name it may, and for nothing that runs inside of it.
//!
//! Decision: `docs/decisions/06-maintenance.md`.

use super::acting_for_all::{lifted, listener};
use crate::pg::ddl::node::each;
use pgrx::{pg_guard, pg_sys};
use std::ffi::c_void;

type Walker = unsafe extern "C-unwind" fn(*mut pg_sys::Node, *mut c_void) -> bool;

unsafe extern "C-unwind" {
    /// src/include/nodes/nodeFuncs.h
    #[cfg_attr(feature = "pg15", link_name = "query_tree_walker")]
    #[cfg_attr(not(feature = "pg15"), link_name = "query_tree_walker_impl")]
    fn walk_query(query: *mut pg_sys::Query, walker: Walker, context: *mut c_void, flags: i32) -> bool;
    #[cfg_attr(feature = "pg15", link_name = "expression_tree_walker")]
    #[cfg_attr(not(feature = "pg15"), link_name = "expression_tree_walker_impl")]
    fn walk_expression(node: *mut pg_sys::Node, walker: Walker, context: *mut c_void) -> bool;
}

/// What is done to each query of a tree.
type QueryWork = unsafe fn(*mut pg_sys::Query);

/// # Safety
/// A query that was rewritten and is about to be planned.
pub unsafe fn lift(query: *mut pg_sys::Query) {
    let Some(listener) = listener() else { return };
    // SAFETY: as promised.
    unsafe {
        if (listener.lifting)() {
            each_query(query, lift_one);
        } else if gives_no_row(query) && (listener.nobody)() {
            each_query(query, hide);
        }
    }
}

/// # Safety
/// A query that may be changed.
unsafe fn each_query(query: *mut pg_sys::Query, mut work: QueryWork) {
    // SAFETY: as promised; the walker gets the work by a pointer that outlives the walk.
    unsafe { visit(query.cast(), (&raw mut work).cast()) };
}

#[pg_guard]
unsafe extern "C-unwind" fn visit(node: *mut pg_sys::Node, work: *mut c_void) -> bool {
    // SAFETY: Postgres gives the nodes of the tree, or NULL; the tag tells the type; `work` is that of `each_query`.
    unsafe {
        if node.is_null() {
            return false;
        }
        if (*node).type_ == pg_sys::NodeTag::T_Query {
            (*work.cast::<QueryWork>())(node.cast());
            return walk_query(node.cast(), visit, work, 0);
        }
        walk_expression(node, visit, work)
    }
}

/// # Safety
/// A query that may be changed.
unsafe fn lift_one(query: *mut pg_sys::Query) {
    // SAFETY: as promised; the lists are of the nodes that the rewriter puts into them.
    unsafe {
        for (table, number) in each::<pg_sys::RangeTblEntry>((*query).rtable).zip(1..) {
            let is_target = number == (*query).resultRelation;
            let bound = !(*table).securityQuals.is_null() || is_target && !(*query).withCheckOptions.is_null();
            if !bound
                || (*table).rtekind != pg_sys::RTEKind::RTE_RELATION
                || !lifted((*table).relid, checked_as(query, table))
            {
                continue;
            }
            (*table).securityQuals = std::ptr::null_mut();
            if is_target {
                let of_policies: Vec<_> = each::<pg_sys::WithCheckOption>((*query).withCheckOptions)
                    .filter(|option| (**option).kind != pg_sys::WCOKind::WCO_VIEW_CHECK)
                    .collect();
                for option in of_policies {
                    (*query).withCheckOptions = pg_sys::list_delete_ptr((*query).withCheckOptions, option.cast());
                }
            }
        }
    }
}

/// In whose name the access is checked; 0 for the role in force.
///
/// # Safety
/// The entry is of the query.
#[cfg_attr(feature = "pg15", expect(unused_variables))]
unsafe fn checked_as(query: *mut pg_sys::Query, table: *mut pg_sys::RangeTblEntry) -> pg_sys::Oid {
    // SAFETY: as promised; entries without a number have no permissions to check.
    unsafe {
        #[cfg(feature = "pg15")]
        return (*table).checkAsUser;
        #[cfg(not(feature = "pg15"))]
        match ((*table).perminfoindex as usize).checked_sub(1) {
            Some(place) => each::<pg_sys::RTEPermissionInfo>((*query).rteperminfos)
                .nth(place)
                .map_or(pg_sys::InvalidOid, |entry| (*entry).checkAsUser),
            None => pg_sys::InvalidOid,
        }
    }
}

/// True for SELECT ... LIMIT 0, by which tools learn the columns of a table.
///
/// # Safety
/// A query.
unsafe fn gives_no_row(query: *mut pg_sys::Query) -> bool {
    // SAFETY: as promised; the tag tells the type of the node. The parser casts a limit to bigint, by value.
    unsafe {
        // A statement in WITH that writes does so whatever the limit.
        let reads = (*query).commandType == pg_sys::CmdType::CMD_SELECT && !(*query).hasModifyingCTE;
        if !reads || (*query).limitCount.is_null() {
            return false;
        }
        let limit = pg_sys::eval_const_expressions(std::ptr::null_mut(), (*query).limitCount);
        (*limit).type_ == pg_sys::NodeTag::T_Const
            && !(*limit.cast::<pg_sys::Const>()).constisnull
            && (*limit.cast::<pg_sys::Const>()).constvalue.value() == 0
    }
}

/// No row in the place of policies that would be asked for while the query is planned.
///
/// # Safety
/// A query that may be changed.
unsafe fn hide(query: *mut pg_sys::Query) {
    // SAFETY: as promised; the list and the constant are made in the memory of the planner, as the query was.
    unsafe {
        for table in each::<pg_sys::RangeTblEntry>((*query).rtable) {
            if !(*table).securityQuals.is_null() {
                let no_row = pg_sys::makeBoolConst(false, false);
                (*table).securityQuals = pg_sys::lappend(std::ptr::null_mut(), no_row.cast());
            }
        }
    }
}
