//! The one place that executes a statement which was put together of texts.

use super::node;
use crate::pg::report::raise;
use crate::pg::spi;
use pg_tenancy_core::error;
use pgrx::pg_sys;
use std::ffi::CString;

/// Runs one statement of those that a plan has. A text that is another kind of statement, or several, is refused
/// before any of it runs: names and literals in it are quoted, and this is the second wall.
pub fn execute(text: &str) {
    if !is_step(text) {
        raise(error::STATE_INVALID.error("a step of a plan is not one statement of its kind").detail(text.to_owned()));
    }
    spi::execute(text, |_| ());
}

/// True for one statement that a step of a plan may be.
fn is_step(text: &str) -> bool {
    use pg_sys::AlterTableType::{AT_AddConstraint, AT_DropConstraint};
    use pg_sys::NodeTag::*;
    let Ok(text) = CString::new(text) else { return false };
    // SAFETY: the text outlives the parse tree that is looked at; a syntax error is raised as Postgres raises it. A
    // node is of the struct that its tag says.
    unsafe {
        let list = pg_sys::raw_parser(text.as_ptr(), pg_sys::RawParseMode::RAW_PARSE_DEFAULT);
        let statements: Vec<*mut pg_sys::RawStmt> = node::each(list).collect();
        let [statement] = statements[..] else { return false };
        let tree = (*statement).stmt;
        match (*tree).type_ {
            // One part, or a foreign key that takes the place of another: unlike a CHECK, it has names and no
            // expression, so that nothing of its text runs while it is validated.
            T_AlterTableStmt => {
                let parts: Vec<*mut pg_sys::AlterTableCmd> =
                    node::each((*tree.cast::<pg_sys::AlterTableStmt>()).cmds).collect();
                match parts[..] {
                    [_] => true,
                    [first, second] => {
                        ((*first).subtype, (*second).subtype) == (AT_DropConstraint, AT_AddConstraint)
                            && node::is_foreign_key((*second).def)
                    }
                    _ => false,
                }
            }
            // A call of one of the extension's own functions.
            T_SelectStmt => is_own_call(&*tree.cast()),
            T_CreatePolicyStmt | T_AlterPolicyStmt | T_RenameStmt | T_CreateTrigStmt | T_CommentStmt | T_IndexStmt
            | T_DropStmt => true,
            _ => false,
        }
    }
}

/// True for `SELECT tenancy.f(constant, ...)` and nothing more.
///
/// # Safety
/// A statement that Postgres has parsed.
unsafe fn is_own_call(select: &pg_sys::SelectStmt) -> bool {
    use pg_sys::NodeTag::{T_A_Const, T_FuncCall};
    let lists = [select.fromClause, select.groupClause, select.valuesLists, select.sortClause, select.lockingClause];
    let nodes = [select.whereClause, select.havingClause, select.limitCount, select.limitOffset];
    let plain = select.op == pg_sys::SetOperation::SETOP_NONE
        && lists.iter().all(|list| list.is_null())
        && nodes.iter().all(|node| node.is_null())
        && select.withClause.is_null()
        && select.intoClause.is_null();
    // SAFETY: as promised; a node is of the struct that its tag says.
    unsafe {
        let targets: Vec<*mut pg_sys::ResTarget> = node::each(select.targetList).collect();
        let [target] = targets[..] else { return false };
        let call = (*target).val;
        if !plain || (*call).type_ != T_FuncCall {
            return false;
        }
        let call = &*call.cast::<pg_sys::FuncCall>();
        let name = node::strings(call.funcname);
        call.agg_filter.is_null()
            && call.over.is_null()
            && call.agg_order.is_null()
            && name.len() == 2
            && name[0] == "tenancy"
            && node::each::<pg_sys::Node>(call.args).all(|argument| (*argument).type_ == T_A_Const)
    }
}
