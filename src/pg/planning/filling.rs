//! NULL in the organization column of a row that is written.
//!
//! An object-relational mapper that maps the column sends NULL for what it was not given, and a column's default
//! does not stand in for a NULL. The policy would refuse the row with 42501, which clients take for "the role may
//! not". So where the check of a row is `column = tenancy.org_id(...)` and the column is NOT NULL, the value that is
//! written becomes
//! `COALESCE(value, tenancy.org_id(...))`. In a column that may be NULL it has a meaning, and no tenant may write it.

use super::merging::{self, Question};
use crate::pg::ddl::node::each;
use pgrx::{PgTupleDesc, pg_sys};

/// # Safety
/// A query that was rewritten and is about to be planned.
pub unsafe fn fill(query: *mut pg_sys::Query) {
    // SAFETY: as promised; the lists are of the nodes that parser and rewriter put into them.
    unsafe {
        if (*query).withCheckOptions.is_null() {
            return;
        }
        let target = (*query).resultRelation;
        let Some(table) = each::<pg_sys::RangeTblEntry>((*query).rtable).nth(target as usize - 1) else { return };
        let checks: Vec<Question> = each::<pg_sys::WithCheckOption>((*query).withCheckOptions)
            .filter(|option| (**option).kind != pg_sys::WCOKind::WCO_VIEW_CHECK)
            .filter_map(|option| merging::question((*option).qual, 0, option.cast()))
            .collect();
        for check in checks {
            let Some(column) = merging::column_of(check.column, target) else { continue };
            let mut written = vec![(*query).targetList];
            if !(*query).onConflict.is_null() {
                written.push((*(*query).onConflict).onConflictSet);
            }
            let actions = each::<pg_sys::MergeAction>((*query).mergeActionList);
            written.extend(actions.map(|action| (*action).targetList));
            for list in written {
                for entry in each::<pg_sys::TargetEntry>(list) {
                    if !(*entry).resjunk && (*entry).resno == column {
                        fill_one(entry, (*table).relid, check.call);
                    }
                }
            }
        }
    }
}

/// # Safety
/// The entry writes a column of the table, and the call gives the organization.
unsafe fn fill_one(entry: *mut pg_sys::TargetEntry, table: pg_sys::Oid, call: *mut pg_sys::FuncExpr) {
    // SAFETY: as promised; what is made stands in the memory of the planner, as the query does.
    unsafe {
        let value: *mut pg_sys::Node = (*entry).expr.cast();
        // The table is looked at only where the value is in doubt.
        if !may_be_null(value) || !is_not_null(table, (*entry).resno) {
            return;
        }
        let (mut data_type, mut modifier, mut collation) = (pg_sys::InvalidOid, -1, pg_sys::InvalidOid);
        pg_sys::get_atttypetypmodcoll(table, (*entry).resno, &mut data_type, &mut modifier, &mut collation);
        let call: *mut pg_sys::Node = pg_sys::copyObjectImpl(call.cast()).cast();
        let organization = pg_sys::coerce_to_target_type(
            std::ptr::null_mut(),
            call,
            pg_sys::exprType(call),
            data_type,
            modifier,
            pg_sys::CoercionContext::COERCION_ASSIGNMENT,
            pg_sys::CoercionForm::COERCE_IMPLICIT_CAST,
            -1,
        );
        if organization.is_null() || pg_sys::exprType(value) != data_type {
            return;
        }
        if (*value).type_ == pg_sys::NodeTag::T_Const {
            (*entry).expr = organization.cast();
            return;
        }
        let coalesce: *mut pg_sys::CoalesceExpr = pg_sys::palloc0(size_of::<pg_sys::CoalesceExpr>()).cast();
        (*coalesce).xpr.type_ = pg_sys::NodeTag::T_CoalesceExpr;
        (*coalesce).coalescetype = data_type;
        (*coalesce).coalescecollid = collation;
        (*coalesce).args = pg_sys::lappend(pg_sys::lappend(std::ptr::null_mut(), value.cast()), organization.cast());
        (*coalesce).location = -1;
        (*entry).expr = coalesce.cast();
    }
}

/// True for a NOT NULL column of a table.
fn is_not_null(table: pg_sys::Oid, column: i16) -> bool {
    // SAFETY: the rewriter has locked the table; the cache entry is closed after it was read.
    unsafe {
        let relation = pg_sys::RelationIdGetRelation(table);
        if relation.is_null() {
            return false;
        }
        let columns = PgTupleDesc::from_pg_unchecked((*relation).rd_att);
        let not_null = columns.get(column as usize - 1).is_some_and(|column| column.attnotnull);
        drop(columns);
        pg_sys::RelationClose(relation);
        not_null
    }
}

/// False for what is known not to be NULL: a constant that is none, and the organization itself, as the column's
/// default.
///
/// # Safety
/// A node of an expression.
unsafe fn may_be_null(value: *mut pg_sys::Node) -> bool {
    use pg_sys::NodeTag::*;
    // SAFETY: as promised; the tag tells the type of the node.
    unsafe {
        match (*value).type_ {
            T_Const => (*value.cast::<pg_sys::Const>()).constisnull,
            T_FuncExpr => {
                let call = &*value.cast::<pg_sys::FuncExpr>();
                let inner = each::<pg_sys::Node>(call.args).next();
                let cast_of = inner.filter(|_| call.funcformat != pg_sys::CoercionForm::COERCE_EXPLICIT_CALL);
                !merging::is_ours(call.funcid) && cast_of.is_none_or(|inner| may_be_null(inner))
            }
            T_RelabelType => may_be_null((*value.cast::<pg_sys::RelabelType>()).arg.cast()),
            _ => true,
        }
    }
}
