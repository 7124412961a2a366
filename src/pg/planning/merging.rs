//! One question where several policies of `protect` meet in a statement.
//!
//! An UPDATE that reads is bound by the policies for SELECT and for UPDATE: two comparisons of the same column, which
//! differ in the action alone, each a call site of its own in the plan. Before the statement is planned they become
//! one comparison that asks for both actions. And an UPDATE that leaves the column alone does not look at it again
//! in the row that it writes. Neither changes rows or permissions; without this a statement is slower.

use super::acting_for_all;
use crate::pg::backend_local::BackendLocal;
use crate::pg::ddl::node::each;
use crate::pg::fmgr::text_in_place;
use crate::pg::tables::catalog;
use pgrx::{IntoDatum, pg_sys};
use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_void};

/// # Safety
/// A query that was rewritten and is about to be planned.
pub unsafe fn merge(query: *mut pg_sys::Query) {
    // SAFETY: as promised; the lists are of the nodes that the rewriter puts into them.
    unsafe {
        for table in each::<pg_sys::RangeTblEntry>((*query).rtable) {
            if several((*table).securityQuals) {
                let quals =
                    each::<pg_sys::Node>((*table).securityQuals).filter_map(|qual| question(qual, 0, qual.cast()));
                for merged in repeated(quals.collect()) {
                    (*table).securityQuals = pg_sys::list_delete_ptr((*table).securityQuals, merged);
                }
            }
        }
        if several((*query).withCheckOptions) {
            // Those of INSERT and of ON CONFLICT DO UPDATE beside it are of two kinds, and stay apart.
            let options = each::<pg_sys::WithCheckOption>((*query).withCheckOptions)
                .filter_map(|option| question((*option).qual, (*option).kind, option.cast()));
            for merged in repeated(options.collect()) {
                (*query).withCheckOptions = pg_sys::list_delete_ptr((*query).withCheckOptions, merged);
            }
        }
        if (*query).commandType == pg_sys::CmdType::CMD_UPDATE && !(*query).withCheckOptions.is_null() {
            leave_unchanged_alone(query);
        }
    }
}

/// Drops the check of a row that an UPDATE writes, where the row that it read passed the same comparison and nothing
/// changes the column in between.
///
/// # Safety
/// An UPDATE that was rewritten and is about to be planned.
unsafe fn leave_unchanged_alone(query: *mut pg_sys::Query) {
    // SAFETY: as promised; the lists are of the nodes that the rewriter puts into them, and the result is a table of
    // them.
    unsafe {
        let target = (*query).resultRelation;
        let Some(table) = each::<pg_sys::RangeTblEntry>((*query).rtable).nth(target as usize - 1) else { return };
        let passed: Vec<Question> =
            each::<pg_sys::Node>((*table).securityQuals).filter_map(|qual| question(qual, 0, qual.cast())).collect();
        if passed.is_empty() || may_be_changed_below((*table).relid) {
            return;
        }
        let is_set = |column: i16| {
            each::<pg_sys::TargetEntry>((*query).targetList).any(|entry| !(*entry).resjunk && (*entry).resno == column)
        };
        let needless: Vec<Question> = each::<pg_sys::WithCheckOption>((*query).withCheckOptions)
            .filter(|option| (**option).kind == pg_sys::WCOKind::WCO_RLS_UPDATE_CHECK)
            .filter_map(|option| question((*option).qual, 0, option.cast()))
            .filter(|check| column_of(check.column, target).is_some_and(|column| !is_set(column)))
            .filter(|check| passed.iter().any(|passed| asks_for(passed, check)))
            .collect();
        for check in needless {
            (*query).withCheckOptions = pg_sys::list_delete_ptr((*query).withCheckOptions, check.stands_in);
        }
    }
}

/// True if something between reading and writing a row of the table may change it, or rows of other tables are meant
/// too: a BEFORE ROW trigger, partitions and children, which may have some.
fn may_be_changed_below(table: pg_sys::Oid) -> bool {
    // SAFETY: the rewriter has locked the table; the cache entry is closed after it was read.
    unsafe {
        let relation = pg_sys::RelationIdGetRelation(table);
        if relation.is_null() {
            return true;
        }
        let form = &*(*relation).rd_rel;
        let triggers = (*relation).trigdesc;
        let changed = form.relkind as u8 != pg_sys::RELKIND_RELATION
            || form.relhassubclass
            || !triggers.is_null() && (*triggers).trig_update_before_row;
        pg_sys::RelationClose(relation);
        changed
    }
}

/// The number of the column of the table that a comparison has on its left.
///
/// # Safety
/// A node of an expression.
pub(in crate::pg) unsafe fn column_of(node: *mut pg_sys::Node, table: i32) -> Option<i16> {
    use pg_sys::NodeTag::*;
    // SAFETY: as promised; the tag tells the type of each node.
    unsafe {
        match (*node).type_ {
            T_RelabelType => column_of((*node.cast::<pg_sys::RelabelType>()).arg.cast(), table),
            T_Var => {
                let variable = &*node.cast::<pg_sys::Var>();
                let of_row = variable.varno == table && variable.varlevelsup == 0 && variable.varattno > 0;
                of_row.then_some(variable.varattno)
            }
            _ => None,
        }
    }
}

/// True if `one` is the comparison of `two` and asks for all that `two` asks for.
///
/// # Safety
/// The questions are of one query.
unsafe fn asks_for(one: &Question, two: &Question) -> bool {
    // SAFETY: as promised.
    unsafe {
        let (true, Some(asked), Some(wanted)) = (alike(one, two), text(one.action), text(two.action)) else {
            return false;
        };
        wanted.split(separator()).all(|wanted| asked.split(separator()).any(|asked| asked == wanted))
    }
}

/// True if two comparisons differ in the action at most.
///
/// # Safety
/// The questions are of one query.
unsafe fn alike(one: &Question, two: &Question) -> bool {
    // SAFETY: as promised; `question` gives what it has found.
    unsafe {
        (*one.comparison).opno == (*two.comparison).opno
            && (*one.comparison).inputcollid == (*two.comparison).inputcollid
            && (*one.call).funcid == (*two.call).funcid
            && same_column(one.column, two.column)
            && text(one.domain).is_some_and(|domain| text(two.domain) == Some(domain))
    }
}

/// True for expressions that are equal. Most are columns, which are compared without a call of Postgres.
///
/// # Safety
/// Nodes of expressions.
unsafe fn same_column(one: *mut pg_sys::Node, two: *mut pg_sys::Node) -> bool {
    // SAFETY: as promised; the tag tells the type of each node.
    unsafe {
        if (*one).type_ != pg_sys::NodeTag::T_Var || (*two).type_ != pg_sys::NodeTag::T_Var {
            return pg_sys::equal(one.cast(), two.cast());
        }
        let (one, two) = (&*one.cast::<pg_sys::Var>(), &*two.cast::<pg_sys::Var>());
        // A column has one type, and the rewriter makes no outer joins.
        (one.varno, one.varattno, one.varlevelsup) == (two.varno, two.varattno, two.varlevelsup)
    }
}

/// What stands between the actions of one question.
fn separator() -> char {
    acting_for_all::listener().map_or(',', |listener| listener.separator)
}

fn several(list: *const pg_sys::List) -> bool {
    // SAFETY: NULL is the empty list.
    !list.is_null() && unsafe { (*list).length } > 1
}

/// Merges each question into the first one like it; where those stood that are merged.
///
/// # Safety
/// The questions are of a query that may be changed.
unsafe fn repeated(questions: Vec<Question>) -> Vec<*mut c_void> {
    let is_repeated = |n: &usize| {
        // SAFETY: as promised.
        questions[..*n].iter().any(|earlier| unsafe { merged(earlier, &questions[*n]) })
    };
    (1..questions.len()).rev().filter(is_repeated).map(|n| questions[n].stands_in).collect()
}

/// True if `two` was the same comparison as `one` for another action, which `one` asks for as well from now on.
///
/// # Safety
/// As [`repeated`].
unsafe fn merged(one: &Question, two: &Question) -> bool {
    // SAFETY: as promised; `question` gives what it has found.
    unsafe {
        if one.kind != two.kind || !alike(one, two) {
            return false;
        }
        let (Some(first), Some(second)) = (text(one.action), text(two.action)) else { return false };
        if !first.split(separator()).any(|action| action == second) {
            let both = format!("{first}{}{second}", separator());
            // The datum is made in the memory of the planner, as the query was.
            let Some(datum) = both.into_datum() else { return false };
            (*one.action).constvalue = datum;
        }
        true
    }
}

/// `column = tenancy.org_id(domain, action)`.
pub(in crate::pg) struct Question {
    /// `WithCheckOption.kind`; 0 for a condition.
    kind: pg_sys::WCOKind::Type,
    /// The element of the list.
    stands_in: *mut c_void,
    comparison: *mut pg_sys::OpExpr,
    pub column: *mut pg_sys::Node,
    pub call: *mut pg_sys::FuncExpr,
    domain: *mut pg_sys::Const,
    action: *mut pg_sys::Const,
}

/// # Safety
/// A node of an expression.
pub(in crate::pg) unsafe fn question(
    node: *mut pg_sys::Node,
    kind: pg_sys::WCOKind::Type,
    stands_in: *mut c_void,
) -> Option<Question> {
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
            kind,
            stands_in,
            comparison,
            column,
            call,
            domain: domain.cast(),
            action: action.cast(),
        })
    }
}

/// # Safety
/// A constant.
unsafe fn text<'a>(constant: *mut pg_sys::Const) -> Option<&'a str> {
    // SAFETY: as promised; the type is looked at first. The constant outlives the planning.
    unsafe {
        let constant = &*constant;
        let is_text = constant.consttype == pg_sys::TEXTOID && !constant.constisnull;
        if is_text { text_in_place(constant.constvalue) } else { None }
    }
}

/// Functions that were asked for, and at which count of changes of tables: those of the extension change with it.
static KNOWN: BackendLocal<RefCell<Vec<(pg_sys::Oid, bool)>>> = BackendLocal::new(RefCell::new(Vec::new()));
static AT: BackendLocal<Cell<u64>> = BackendLocal::new(Cell::new(0));

/// Few functions stand where policies have theirs; others push them out.
const MOST_KNOWN: usize = 8;

/// True for a function of the extension that policies compare with.
pub(in crate::pg) fn is_ours(function: pg_sys::Oid) -> bool {
    let mut known = KNOWN.borrow_mut();
    if AT.replace(catalog::changes()) != catalog::changes() || known.len() == MOST_KNOWN {
        known.clear();
    }
    if let Some((_, ours)) = known.iter().find(|(oid, _)| *oid == function) {
        return *ours;
    }
    // SAFETY: names are NUL-terminated copies, or NULL for what is gone.
    let ours = unsafe {
        let name = pg_sys::get_func_name(function);
        !name.is_null()
            && [c"org_id", c"org_id_text", c"org_id_bigint"].contains(&CStr::from_ptr(name))
            && pg_sys::get_func_namespace(function) == pg_sys::get_namespace_oid(c"tenancy".as_ptr(), true)
    };
    known.push((function, ours));
    ours
}
