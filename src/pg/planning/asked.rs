//! The permissions that the policies of a table ask for, read from the policies themselves.

use crate::pg::backend_local::BackendLocal;
use crate::pg::ddl::node::each;
use crate::pg::tables::catalog;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
use pgrx::{FromDatum, pg_sys};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

/// A permission: the two arguments of `tenancy.org_id(domain, action)` in a policy.
#[derive(Debug)]
pub struct Asked {
    pub domain: String,
    pub action: String,
    /// The rights on a table that the policy's command needs.
    rights: u64,
}

/// What the restrictive policies of a table ask for.
#[derive(Debug, Default)]
pub struct AskedPermissions(Vec<Asked>);

impl AskedPermissions {
    /// What is asked of a statement that needs those rights.
    ///
    /// `AclMode` has 32 bits in Postgres 15 and 64 from 16 on.
    pub fn for_rights(&self, rights: impl Into<u64>) -> impl Iterator<Item = &Asked> {
        let rights: u64 = rights.into();
        self.0.iter().filter(move |asked| asked.rights & rights != 0)
    }
}

type Learned = HashMap<pg_sys::Oid, Rc<AskedPermissions>>;

/// What was learned, and at which count of changes of tables.
static LEARNED: BackendLocal<RefCell<Option<Learned>>> = BackendLocal::new(RefCell::new(None));
static AT: BackendLocal<Cell<u64>> = BackendLocal::new(Cell::new(0));

/// What the policies of the relation ask for; nothing for one without row-level security.
pub fn of(relation: pg_sys::Oid) -> Rc<AskedPermissions> {
    let mut learned = LEARNED.borrow_mut();
    if AT.replace(catalog::changes()) != catalog::changes() {
        *learned = None;
    }
    let learned = learned.get_or_insert_default();
    if let Some(found) = learned.get(&relation) {
        return found.clone();
    }
    let found = Rc::new(learn(relation));
    learned.insert(relation, found.clone());
    found
}

fn learn(relation: pg_sys::Oid) -> AskedPermissions {
    // SAFETY: the executor holds a lock on the relation; the cache entry is held as long as its policies are read; the
    // boundary turns an error of the look-up into a panic.
    unsafe {
        let relation = pg_guard_ffi_boundary(|| pg_sys::RelationIdGetRelation(relation));
        if relation.is_null() {
            return AskedPermissions::default();
        }
        let policies = (*relation).rd_rsdesc;
        let policies = if policies.is_null() { std::ptr::null_mut() } else { (*policies).policies };
        let asked =
            each::<pg_sys::RowSecurityPolicy>(policies).map(|policy| &*policy).filter(|policy| !policy.permissive);
        let asked = asked.filter_map(|policy| {
            let expression = if policy.qual.is_null() { policy.with_check_qual } else { policy.qual };
            question(expression.cast(), rights(policy.polcmd as u8))
        });
        let asked = AskedPermissions(asked.collect());
        pg_sys::RelationClose(relation);
        asked
    }
}

/// The right that brings a policy of that command into a statement (`get_row_security_policies`, rowsecurity.c).
fn rights(command: u8) -> u64 {
    u64::from(match command {
        b'r' => pg_sys::ACL_SELECT,
        b'a' => pg_sys::ACL_INSERT,
        b'w' => pg_sys::ACL_UPDATE,
        b'd' => pg_sys::ACL_DELETE,
        _ => pg_sys::ACL_SELECT | pg_sys::ACL_INSERT | pg_sys::ACL_UPDATE | pg_sys::ACL_DELETE,
    })
}

/// The first call of `tenancy.org_id(domain, action)` or its like with constants, where `protect` writes one.
///
/// # Safety
/// The pointer is NULL or to a node of an expression.
unsafe fn question(node: *mut pg_sys::Node, rights: u64) -> Option<Asked> {
    use pg_sys::NodeTag::*;
    if node.is_null() {
        return None;
    }
    // SAFETY: as promised; the tag tells the type of the node.
    unsafe {
        let any = |list: *mut pg_sys::List| each::<pg_sys::Node>(list).find_map(|node| question(node, rights));
        match (*node).type_ {
            T_OpExpr => any((*node.cast::<pg_sys::OpExpr>()).args),
            T_BoolExpr => any((*node.cast::<pg_sys::BoolExpr>()).args),
            T_FuncExpr => call(&*node.cast(), rights),
            T_SubLink => {
                let query = (*node.cast::<pg_sys::SubLink>()).subselect.cast::<pg_sys::Query>();
                let from = (*query).jointree;
                if from.is_null() { None } else { question((*from).quals, rights) }
            }
            _ => None,
        }
    }
}

/// # Safety
/// The node is of an expression.
unsafe fn call(call: &pg_sys::FuncExpr, rights: u64) -> Option<Asked> {
    // SAFETY: as promised; a constant that is not NULL holds a value of its type, which is looked at.
    unsafe {
        if !super::merging::is_ours(call.funcid) {
            return None;
        }
        let mut texts = each::<pg_sys::Const>(call.args).map(|argument| {
            let argument = &*argument;
            let is_text = argument.xpr.type_ == pg_sys::NodeTag::T_Const && argument.consttype == pg_sys::TEXTOID;
            if is_text { String::from_datum(argument.constvalue, argument.constisnull) } else { None }
        });
        Some(Asked { domain: texts.next()??, action: texts.next()??, rights })
    }
}
