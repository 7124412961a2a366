//! GRANT and REVOKE, as Postgres tells an event trigger of them.

use super::node;
use pgrx::pg_sys;
use std::ffi::CStr;

/// What was given or taken.
#[derive(Debug, Clone, Default)]
pub struct Grant {
    /// The objects, of the catalog `class`; empty for default privileges.
    pub objects: Vec<pg_sys::Oid>,
    pub class: pg_sys::Oid,
    /// In the words of SQL; a single `ALL` for all that there are.
    pub privileges: Vec<String>,
    /// Privileges on columns, each with the columns.
    pub columns: Vec<(String, Vec<String>)>,
    /// `public` for PUBLIC.
    pub grantees: Vec<String>,
    pub grant_option: bool,
}

/// Privileges by their bits (parsenodes.h, acl.h); MAINTAIN is of Postgres 17.
const PRIVILEGES: [(u64, &str); 15] = [
    (1, "INSERT"),
    (1 << 1, "SELECT"),
    (1 << 2, "UPDATE"),
    (1 << 3, "DELETE"),
    (1 << 4, "TRUNCATE"),
    (1 << 5, "REFERENCES"),
    (1 << 6, "TRIGGER"),
    (1 << 7, "EXECUTE"),
    (1 << 8, "USAGE"),
    (1 << 9, "CREATE"),
    (1 << 10, "TEMPORARY"),
    (1 << 11, "CONNECT"),
    (1 << 12, "SET"),
    (1 << 13, "ALTER SYSTEM"),
    (1 << 14, "MAINTAIN"),
];

/// Reads a value of the type `pg_ddl_command`; `None` for what is no GRANT or REVOKE on objects.
///
/// # Safety
/// The value comes from `pg_event_trigger_ddl_commands()` in the present call of an event trigger.
pub unsafe fn read(command: pg_sys::Datum) -> Option<Grant> {
    // SAFETY: as promised, it is a pointer to a CollectedCommand (deparse_utility.h), whose type tells which member of
    // the union is there; the lists are of the kinds that InternalGrant has (aclchk_internal.h).
    unsafe {
        let command = &*command.cast_mut_ptr::<pg_sys::CollectedCommand>();
        if command.type_ != pg_sys::CollectedCommandType::SCT_Grant {
            return None;
        }
        let grant = &*command.d.grant.istmt;
        #[allow(clippy::unnecessary_cast)] // AclMode has 32 bits up to Postgres 15.
        let granted = grant.privileges as u64;
        let mut privileges: Vec<String> =
            PRIVILEGES.iter().filter(|(bit, _)| granted & bit != 0).map(|(_, name)| (*name).to_owned()).collect();
        if grant.all_privs && privileges.is_empty() {
            privileges.push("ALL".into());
        }
        let of_role = |role: pg_sys::Oid| match role {
            pg_sys::InvalidOid => Some("public".to_owned()),
            role => node::text(pg_sys::GetUserNameFromId(role, true)),
        };
        Some(Grant {
            objects: node::oids(grant.objects),
            class: class(grant.objtype)?,
            privileges,
            columns: columns(grant.col_privs),
            grantees: node::oids(grant.grantees).into_iter().filter_map(of_role).collect(),
            grant_option: grant.grant_option,
        })
    }
}

/// Reads the GRANT or REVOKE within ALTER DEFAULT PRIVILEGES, or one on parameters.
///
/// # Safety
/// It was parsed by Postgres.
pub unsafe fn read_statement(statement: &pg_sys::GrantStmt) -> Grant {
    // SAFETY: as promised; a NULL list of privileges means all (gram.y).
    unsafe {
        let given = columns(statement.privileges);
        Grant {
            privileges: match given.is_empty() {
                true => vec!["ALL".into()],
                false => given.into_iter().map(|(privilege, _)| privilege).collect(),
            },
            grantees: node::roles(statement.grantees),
            grant_option: statement.grant_option,
            ..Grant::default()
        }
    }
}

/// # Safety
/// The list is NULL or one of AccessPriv nodes.
unsafe fn columns(list: *mut pg_sys::List) -> Vec<(String, Vec<String>)> {
    // SAFETY: as promised.
    unsafe {
        let privilege = |found: *mut pg_sys::AccessPriv| {
            let name = node::text((*found).priv_name).map_or_else(|| "ALL".into(), |name| name.to_uppercase());
            (name, node::strings((*found).cols))
        };
        node::each(list).map(privilege).collect()
    }
}

/// The catalog that has objects of a type, of those types whose privileges open rows to somebody.
fn class(kind: pg_sys::ObjectType::Type) -> Option<pg_sys::Oid> {
    use pg_sys::ObjectType::*;
    Some(match kind {
        OBJECT_TABLE | OBJECT_SEQUENCE | OBJECT_COLUMN => pg_sys::RelationRelationId,
        OBJECT_SCHEMA => pg_sys::NamespaceRelationId,
        OBJECT_FUNCTION | OBJECT_PROCEDURE | OBJECT_ROUTINE => pg_sys::ProcedureRelationId,
        _ => return None,
    })
}

/// True for an action whose name is that of a statement which changes what there is or who may use it: `create_policy`,
/// `grant`, `alter_table`.
pub fn is_name_of_statement(action: &str) -> bool {
    const VERBS: [&str; 8] = ["alter", "comment", "create", "drop", "grant", "reassign", "revoke", "security"];
    let verb = action.split('_').next().unwrap_or_default();
    let Ok(tag) = std::ffi::CString::new(action.replace('_', " ").to_uppercase()) else { return false };
    let tag: &CStr = &tag;
    // SAFETY: a lookup by a NUL-terminated name.
    VERBS.contains(&verb) && unsafe { pg_sys::GetCommandTagEnum(tag.as_ptr()) } != pg_sys::CommandTag::CMDTAG_UNKNOWN
}
