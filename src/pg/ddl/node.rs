//! Reading parse trees: lists, names and roles.

use pgrx::pg_sys;
use std::ffi::{CStr, c_char};

/// The pointers of a list, each to a `T`.
///
/// # Safety
/// The list is NULL or one of pointers to such values, and lives as long as they are used.
pub unsafe fn each<T>(list: *mut pg_sys::List) -> impl Iterator<Item = *mut T> {
    // SAFETY: as promised; the list has as many elements as its length says.
    let count = if list.is_null() { 0 } else { unsafe { (*list).length as usize } };
    // SAFETY: as above.
    (0..count).map(move |n| unsafe { (*(*list).elements.add(n)).ptr_value.cast() })
}

/// The oids of a list of oids.
///
/// # Safety
/// The list is NULL or one of oids.
pub unsafe fn oids(list: *mut pg_sys::List) -> Vec<pg_sys::Oid> {
    // SAFETY: as promised.
    let count = if list.is_null() { 0 } else { unsafe { (*list).length as usize } };
    // SAFETY: as above.
    (0..count).map(|n| unsafe { (*(*list).elements.add(n)).oid_value }).collect()
}

/// A text of the tree; `None` for NULL.
///
/// # Safety
/// The pointer is NULL or to a NUL-terminated text.
pub unsafe fn text(text: *const c_char) -> Option<String> {
    // SAFETY: as promised.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}

/// The text of a string node, such as the name of an event trigger; `None` for other nodes.
///
/// # Safety
/// The pointer is NULL or to a node.
pub unsafe fn string(node: *mut pg_sys::Node) -> Option<String> {
    // SAFETY: as promised; the tag tells the type of the node.
    unsafe {
        if node.is_null() || (*node).type_ != pg_sys::NodeTag::T_String {
            return None;
        }
        text((*node.cast::<pg_sys::String>()).sval)
    }
}

/// The texts of a list of string nodes.
///
/// # Safety
/// The list is NULL or one of nodes.
pub unsafe fn strings(list: *mut pg_sys::List) -> Vec<String> {
    // SAFETY: as promised.
    unsafe { each(list).filter_map(|node| string(node)).collect() }
}

/// The name of a role as a statement gives it: `public` for PUBLIC, and the present name behind CURRENT_USER.
///
/// # Safety
/// The pointer is NULL or to a RoleSpec.
pub unsafe fn role(role: *mut pg_sys::RoleSpec) -> Option<String> {
    use pg_sys::RoleSpecType::*;
    // SAFETY: as promised.
    unsafe {
        if role.is_null() {
            return None;
        }
        let by_oid = |oid| text(pg_sys::GetUserNameFromId(oid, true));
        match (*role).roletype {
            ROLESPEC_PUBLIC => Some("public".into()),
            ROLESPEC_CSTRING => text((*role).rolename),
            ROLESPEC_SESSION_USER => by_oid(pg_sys::GetSessionUserId()),
            _ => by_oid(pg_sys::GetUserId()),
        }
    }
}

/// The names of a list of roles.
///
/// # Safety
/// The list is NULL or one of RoleSpecs.
pub unsafe fn roles(list: *mut pg_sys::List) -> Vec<String> {
    // SAFETY: as promised.
    unsafe { each(list).filter_map(|spec| role(spec)).collect() }
}

/// True for a call of a function with nothing but constants.
///
/// # Safety
/// The pointer is NULL or to a node.
pub unsafe fn constant_arguments(call: *mut pg_sys::Node) -> bool {
    // SAFETY: as promised; the tag tells the type of the node, and the arguments are nodes.
    unsafe {
        !call.is_null()
            && (*call).type_ == pg_sys::NodeTag::T_FuncExpr
            && each::<pg_sys::Node>((*call.cast::<pg_sys::FuncExpr>()).args)
                .all(|argument| (*argument).type_ == pg_sys::NodeTag::T_Const)
    }
}

/// True for a foreign key, or a column with one.
///
/// # Safety
/// NULL or a node that Postgres has parsed.
pub unsafe fn is_foreign_key(node: *mut pg_sys::Node) -> bool {
    use pg_sys::NodeTag::*;
    // SAFETY: as promised; a node is of the struct that its tag says.
    unsafe {
        if node.is_null() {
            return false;
        }
        match (*node).type_ {
            T_Constraint => (*node.cast::<pg_sys::Constraint>()).contype == pg_sys::ConstrType::CONSTR_FOREIGN,
            T_ColumnDef => {
                each::<pg_sys::Node>((*node.cast::<pg_sys::ColumnDef>()).constraints).any(|part| is_foreign_key(part))
            }
            _ => false,
        }
    }
}

/// The relation of that name, if there is one.
///
/// # Safety
/// NULL or a name that Postgres has parsed.
pub unsafe fn relation(name: *mut pg_sys::RangeVar) -> Option<pg_sys::Oid> {
    if name.is_null() {
        return None;
    }
    let missing_ok = pg_sys::RVROption::RVR_MISSING_OK;
    // SAFETY: as promised; a look-up without a lock.
    let oid = unsafe {
        pg_sys::RangeVarGetRelidExtended(name, pg_sys::NoLock as i32, missing_ok, None, std::ptr::null_mut())
    };
    (oid != pg_sys::InvalidOid).then_some(oid)
}
