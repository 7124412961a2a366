//! An expression over a table that somebody gave as text: parsed as one expression, written anew by Postgres.

use crate::pg::ddl::node::each;
use crate::pg::report::raise;
use crate::pg::settings::scoped::{CANONICAL_SETTINGS, with_settings};
use pg_tenancy_core::error;
use pgrx::pg_sys;
use std::ffi::{CStr, CString};

/// An expression whose names mean what they meant to whoever gave it, under any `search_path`.
pub struct Expression {
    pub text: String,
    /// As `format_type` names it.
    pub data_type: String,
}

/// Parses an expression over the columns of a table, whose schema and name are given quoted, under the `search_path` in
/// force. Raises what Postgres raises for a text that is none, and 22023 for one that is more than one.
pub fn read(table: pg_sys::Oid, quoted: &str, text: &str) -> Expression {
    let query = format!("SELECT ({text}) FROM {quoted}");
    let raise_more = || raise(error::ARGUMENT_INVALID.error("the expression is not one expression"));
    let Ok(query) = CString::new(query) else { raise_more() };
    // SAFETY: the text outlives the trees; a node is of the struct that its tag says; names are palloc'ed and copied.
    unsafe {
        let statements: Vec<*mut pg_sys::RawStmt> =
            each(pg_sys::raw_parser(query.as_ptr(), pg_sys::RawParseMode::RAW_PARSE_DEFAULT)).collect();
        let [statement] = statements[..] else { raise_more() };
        if (*(*statement).stmt).type_ != pg_sys::NodeTag::T_SelectStmt {
            raise_more();
        }
        let query =
            pg_sys::parse_analyze_fixedparams(statement, query.as_ptr(), std::ptr::null(), 0, std::ptr::null_mut());
        let targets: Vec<*mut pg_sys::TargetEntry> = each((*query).targetList).collect();
        let tables: Vec<*mut pg_sys::RangeTblEntry> = each((*query).rtable).collect();
        let from = each::<pg_sys::Node>((*(*query).jointree).fromlist).count();
        let plain = (*(*query).jointree).quals.is_null() && from == 1 && (*query).cteList.is_null();
        let ([target], Some(first), true) = (&targets[..], tables.first(), plain) else { raise_more() };
        if (**first).relid != table || (*query).hasAggs || (*query).hasWindowFuncs || (*query).hasTargetSRFs {
            raise_more();
        }
        let expression: *mut pg_sys::Node = (**target).expr.cast();
        let name = |data_type| CStr::from_ptr(pg_sys::format_type_be(data_type)).to_string_lossy().into_owned();
        let data_type = name(pg_sys::exprType(expression));
        let text = with_settings(&CANONICAL_SETTINGS, || {
            let alias = (*(**first).eref).aliasname;
            let names = pg_sys::deparse_context_for(alias, table);
            let text = pg_sys::deparse_expression(expression, names, false, false);
            CStr::from_ptr(text).to_string_lossy().into_owned()
        });
        Expression { text, data_type }
    }
}
