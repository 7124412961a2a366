//! Cursors, and the statement of the client.

use super::ddl::node;
use pgrx::pg_sys;
use std::ffi::CStr;

/// The name of the cursor whose first run is going on: the statement of the client itself. It cannot hold what was read
/// before it ran.
pub fn running_first() -> Option<String> {
    // SAFETY: NULL, or the portal that is being run; its name is NUL-terminated.
    unsafe {
        let portal = pg_sys::ActivePortal;
        if portal.is_null() || !(*portal).atStart {
            return None;
        }
        Some(CStr::from_ptr((*portal).name).to_string_lossy().into_owned())
    }
}

/// True within a COPY into a table of the extension's schema, as the client's own statement.
pub fn copies_into_extension() -> bool {
    // SAFETY: NULL, or the portal that is being run, with planned statements; the tags tell the types of nodes, and
    // names are NULL or NUL-terminated.
    unsafe {
        let portal = pg_sys::ActivePortal;
        if portal.is_null() || (*portal).commandTag != pg_sys::CommandTag::CMDTAG_COPY {
            return false;
        }
        let trees = node::each::<pg_sys::PlannedStmt>((*portal).stmts).map(|statement| (*statement).utilityStmt);
        trees.filter(|tree| !tree.is_null() && (**tree).type_ == pg_sys::NodeTag::T_CopyStmt).any(|tree| {
            let copy = &*tree.cast::<pg_sys::CopyStmt>();
            copy.is_from
                && !copy.relation.is_null()
                && node::text((*copy.relation).schemaname).as_deref() == Some("tenancy")
        })
    }
}
