//! One question where several policies of `protect` meet in a statement.
//!
//! An UPDATE that reads is bound by the policies for SELECT and for UPDATE: two comparisons of the same column, which
//! differ in the action alone, each a call site of its own in the plan. Before the statement is planned they become
//! one comparison that asks for both actions. It changes neither rows nor permissions; without it a statement is slower.

use super::node::each;
use super::setting::Backend;
use pgrx::{IntoDatum, pg_guard, pg_sys};
use std::cell::Cell;
use std::ffi::CStr;

static PREVIOUS: Backend<Cell<pg_sys::planner_hook_type>> = Backend::new(Cell::new(None));
static SEPARATOR: Backend<Cell<char>> = Backend::new(Cell::new(','));

/// Registers the hook; `separator` stands between the actions of one question. Called once.
pub fn watch(separator: char) {
    SEPARATOR.set(separator);
    // SAFETY: called once per process from _PG_init; the library stays loaded.
    unsafe {
        PREVIOUS.set(pg_sys::planner_hook);
        pg_sys::planner_hook = Some(plan);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn plan(
    query: *mut pg_sys::Query,
    text: *const std::ffi::c_char,
    options: i32,
    parameters: pg_sys::ParamListInfo,
) -> *mut pg_sys::PlannedStmt {
    // SAFETY: the planner may change the query that it is given; the rest is passed on.
    unsafe {
        merge(query);
        for expression in each::<pg_sys::CommonTableExpr>((*query).cteList) {
            let inner = (*expression).ctequery;
            if !inner.is_null() && (*inner).type_ == pg_sys::NodeTag::T_Query {
                merge(inner.cast());
            }
        }
        match PREVIOUS.get() {
            Some(previous) => previous(query, text, options, parameters),
            None => pg_sys::standard_planner(query, text, options, parameters),
        }
    }
}

/// SAFETY of the caller: a query that was rewritten and is about to be planned.
unsafe fn merge(query: *mut pg_sys::Query) {
    // SAFETY: as promised; the lists are of the nodes that the rewriter puts into them.
    unsafe {
        for table in each::<pg_sys::RangeTblEntry>((*query).rtable) {
            if list_length((*table).securityQuals) > 1 {
                let quals = each::<pg_sys::Node>((*table).securityQuals).collect();
                for gone in repeated(quals) {
                    (*table).securityQuals = pg_sys::list_delete_ptr((*table).securityQuals, gone.cast());
                }
            }
        }
        if list_length((*query).withCheckOptions) > 1 {
            // Of one table and one kind only: those of a view, and of INSERT beside ON CONFLICT DO UPDATE, stay apart.
            let options: Vec<_> = each::<pg_sys::WithCheckOption>((*query).withCheckOptions).collect();
            for (n, option) in options.iter().enumerate().rev() {
                let same = options[..n]
                    .iter()
                    .find(|earlier| (***earlier).kind == (**option).kind && merged((***earlier).qual, (**option).qual));
                if same.is_some() {
                    (*query).withCheckOptions = pg_sys::list_delete_ptr((*query).withCheckOptions, option.cast());
                }
            }
        }
    }
}

fn list_length(list: *const pg_sys::List) -> i32 {
    // SAFETY: NULL is the empty list.
    if list.is_null() { 0 } else { unsafe { (*list).length } }
}

/// Merges each condition into an earlier one; those that are merged.
///
/// SAFETY of the caller: nodes of expressions.
unsafe fn repeated(quals: Vec<*mut pg_sys::Node>) -> Vec<*mut pg_sys::Node> {
    let is_repeated = |n: usize| {
        // SAFETY: as promised.
        quals[..n].iter().any(|earlier| unsafe { merged(*earlier, quals[n]) })
    };
    (1..quals.len()).rev().filter(|n| is_repeated(*n)).map(|n| quals[n]).collect()
}

/// True if `later` was the same comparison for another action, which `earlier` asks for as well from now on.
///
/// SAFETY of the caller: nodes of expressions.
unsafe fn merged(earlier: *mut pg_sys::Node, later: *mut pg_sys::Node) -> bool {
    // SAFETY: as promised; `question` gives what it has found in them.
    unsafe {
        let (Some(one), Some(two)) = (question(earlier), question(later)) else { return false };
        let same = (*one.comparison).opno == (*two.comparison).opno
            && (*one.comparison).inputcollid == (*two.comparison).inputcollid
            && (*one.call).funcid == (*two.call).funcid
            && pg_sys::equal(one.column.cast(), two.column.cast())
            && pg_sys::equal(one.domain.cast(), two.domain.cast());
        if !same {
            return false;
        }
        let actions = [text(one.action), text(two.action)];
        let [Some(first), Some(second)] = actions else { return false };
        if !first.split(SEPARATOR.get()).any(|action| action == second) {
            let both = format!("{first}{}{second}", SEPARATOR.get());
            // The datum is made in the memory of the planner, as the query was.
            let Some(datum) = both.into_datum() else { return false };
            (*one.action).constvalue = datum;
        }
        true
    }
}

/// `column = tenancy.org_id(domain, action)`.
struct Question {
    comparison: *mut pg_sys::OpExpr,
    column: *mut pg_sys::Node,
    call: *mut pg_sys::FuncExpr,
    domain: *mut pg_sys::Const,
    action: *mut pg_sys::Const,
}

/// SAFETY of the caller: a node of an expression.
unsafe fn question(node: *mut pg_sys::Node) -> Option<Question> {
    use pg_sys::NodeTag::*;
    // SAFETY: as promised; the tag tells the type of each node.
    unsafe {
        if node.is_null() || (*node).type_ != T_OpExpr {
            return None;
        }
        let comparison: *mut pg_sys::OpExpr = node.cast();
        let mut sides = each::<pg_sys::Node>((*comparison).args);
        let (column, call) = (sides.next()?, sides.next()?);
        if (*call).type_ != T_FuncExpr {
            return None;
        }
        let call: *mut pg_sys::FuncExpr = call.cast();
        let mut arguments = each::<pg_sys::Node>((*call).args);
        let (domain, action, none) = (arguments.next()?, arguments.next()?, arguments.next());
        let constants = (*domain).type_ == T_Const && (*action).type_ == T_Const && none.is_none();
        (constants && is_ours((*call).funcid)).then(|| Question {
            comparison,
            column,
            call,
            domain: domain.cast(),
            action: action.cast(),
        })
    }
}

/// SAFETY of the caller: a constant.
unsafe fn text(constant: *mut pg_sys::Const) -> Option<String> {
    use pgrx::FromDatum;
    // SAFETY: as promised; the type is looked at first.
    unsafe {
        let constant = &*constant;
        if constant.consttype == pg_sys::TEXTOID {
            String::from_datum(constant.constvalue, constant.constisnull)
        } else {
            None
        }
    }
}

/// True for a function of the extension that policies compare with.
pub(super) fn is_ours(function: pg_sys::Oid) -> bool {
    // SAFETY: names are NUL-terminated copies, or NULL for what is gone.
    unsafe {
        let name = pg_sys::get_func_name(function);
        !name.is_null()
            && [c"org_id", c"org_id_text", c"org_id_bigint"].contains(&CStr::from_ptr(name))
            && pg_sys::get_func_namespace(function) == pg_sys::get_namespace_oid(c"tenancy".as_ptr(), true)
    }
}
