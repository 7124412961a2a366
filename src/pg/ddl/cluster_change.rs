//! Statements on what is no object of a database or fires no event trigger: roles, settings, event triggers themselves.

use super::grant;
use super::node;
use pgrx::pg_sys;
use serde_json::{Map, Value, json};
use std::ffi::CStr;

/// What such a statement did.
#[derive(Debug, Clone)]
pub struct ClusterChange {
    /// The command tag, such as `ALTER ROLE`.
    pub tag: String,
    pub object_type: &'static str,
    pub object: String,
    /// What matters of it. Never a password, nor the value of a setting.
    pub details: Map<String, Value>,
}

/// Attributes of a role that say what it may do, as the parser names them.
const ATTRIBUTES: [(&str, &str); 7] = [
    ("superuser", "superuser"),
    ("bypassrls", "bypassrls"),
    ("createrole", "createrole"),
    ("createdb", "createdb"),
    ("isreplication", "replication"),
    ("canlogin", "login"),
    ("inherit", "inherit"),
];

/// The attributes among them that lift a new role above an ordinary one.
const POWERS: [&str; 4] = ["superuser", "bypassrls", "createrole", "replication"];

/// Settings besides the extension's own that switch something off, or that say which libraries there are.
const SETTINGS: [&str; 7] = [
    "row_security",
    "session_replication_role",
    "event_triggers",
    "role",
    "shared_preload_libraries",
    "session_preload_libraries",
    "local_preload_libraries",
];

/// True for a statement that [`read`] may have something to say of; looked at before each utility statement.
///
/// # Safety
/// The node is of a parse tree.
pub unsafe fn may_be(node: *mut pg_sys::Node) -> bool {
    use pg_sys::NodeTag::*;
    // SAFETY: as promised.
    let kind = unsafe { (*node).type_ };
    matches!(
        kind,
        T_GrantRoleStmt
            | T_CreateRoleStmt
            | T_AlterRoleStmt
            | T_AlterRoleSetStmt
            | T_DropRoleStmt
            | T_AlterDatabaseSetStmt
            | T_AlterSystemStmt
            | T_CreateEventTrigStmt
            | T_AlterEventTrigStmt
            | T_DropStmt
            | T_RenameStmt
            | T_AlterOwnerStmt
            | T_GrantStmt
    )
}

/// What the statement did, if it concerns who may do what or what is recorded.
///
/// # Safety
/// The node is of a parse tree, and its statement has run.
pub unsafe fn read(node: *mut pg_sys::Node) -> Option<ClusterChange> {
    use pg_sys::NodeTag::*;
    // SAFETY: the tag tells the struct of the node; names in it are NUL-terminated or NULL, lists as gram.y makes them.
    unsafe {
        let tag = CStr::from_ptr(pg_sys::GetCommandTagName(pg_sys::CreateCommandTag(node)));
        let tag = tag.to_string_lossy().into_owned();
        let change = |object_type, object: String, details: Value| {
            let Value::Object(details) = details else { return None };
            Some(ClusterChange { tag: tag.clone(), object_type, object, details })
        };
        match (*node).type_ {
            T_GrantRoleStmt => {
                let statement = &*node.cast::<pg_sys::GrantRoleStmt>();
                let roles: Vec<String> = node::each::<pg_sys::AccessPriv>(statement.granted_roles)
                    .filter_map(|role| node::text((*role).priv_name))
                    .collect();
                let grantees = node::roles(statement.grantee_roles);
                let details = json!({ "roles": roles, "grantees": grantees, "options": options(statement) });
                change("role", roles.join(", "), details)
            }
            T_CreateRoleStmt => {
                let statement = &*node.cast::<pg_sys::CreateRoleStmt>();
                let details = role_details(statement.options);
                let power = POWERS.iter().any(|name| details.get(*name) == Some(&Value::Bool(true)));
                let member = ["in_roles", "members", "admins"].iter().any(|list| details.contains_key(*list));
                if !power && !member {
                    return None;
                }
                change("role", node::text(statement.role)?, Value::Object(details))
            }
            T_AlterRoleStmt => {
                let statement = &*node.cast::<pg_sys::AlterRoleStmt>();
                let mut details = role_details(statement.options);
                if details.contains_key("members") {
                    details.insert("action".into(), if statement.action < 0 { "remove" } else { "add" }.into());
                }
                if details.is_empty() {
                    return None;
                }
                change("role", node::role(statement.role)?, Value::Object(details))
            }
            T_AlterRoleSetStmt => {
                let statement = &*node.cast::<pg_sys::AlterRoleSetStmt>();
                let mut details = setting(statement.setstmt)?;
                if let Some(database) = node::text(statement.database) {
                    details.insert("database".into(), database.into());
                }
                change("role", node::role(statement.role).unwrap_or_else(|| "ALL".into()), Value::Object(details))
            }
            T_AlterDatabaseSetStmt => {
                let statement = &*node.cast::<pg_sys::AlterDatabaseSetStmt>();
                let details = setting(statement.setstmt)?;
                change("database", node::text(statement.dbname)?, Value::Object(details))
            }
            T_AlterSystemStmt => {
                let details = setting((*node.cast::<pg_sys::AlterSystemStmt>()).setstmt)?;
                change("server", "server".into(), Value::Object(details))
            }
            T_DropRoleStmt => {
                let roles = node::roles((*node.cast::<pg_sys::DropRoleStmt>()).roles);
                change("role", roles.join(", "), json!({ "roles": roles }))
            }
            T_CreateEventTrigStmt => {
                let name = node::text((*node.cast::<pg_sys::CreateEventTrigStmt>()).trigname)?;
                change("event trigger", name, json!({}))
            }
            T_AlterEventTrigStmt => {
                let statement = &*node.cast::<pg_sys::AlterEventTrigStmt>();
                let enabled = (statement.tgenabled as u8 as char).to_string();
                change("event trigger", node::text(statement.trigname)?, json!({ "enabled": enabled }))
            }
            T_DropStmt => {
                let statement = &*node.cast::<pg_sys::DropStmt>();
                if statement.removeType != pg_sys::ObjectType::OBJECT_EVENT_TRIGGER {
                    return None;
                }
                change("event trigger", node::strings(statement.objects).join(", "), json!({}))
            }
            T_RenameStmt => {
                let statement = &*node.cast::<pg_sys::RenameStmt>();
                let (object_type, from) = match statement.renameType {
                    pg_sys::ObjectType::OBJECT_ROLE => ("role", node::text(statement.subname)?),
                    pg_sys::ObjectType::OBJECT_EVENT_TRIGGER => ("event trigger", node::string(statement.object)?),
                    _ => return None,
                };
                change(object_type, node::text(statement.newname)?, json!({ "renamed_from": from }))
            }
            T_AlterOwnerStmt => {
                let statement = &*node.cast::<pg_sys::AlterOwnerStmt>();
                if statement.objectType != pg_sys::ObjectType::OBJECT_EVENT_TRIGGER {
                    return None;
                }
                let owner = node::role(statement.newowner);
                change("event trigger", node::string(statement.object)?, json!({ "owner": owner }))
            }
            T_GrantStmt => {
                let statement = &*node.cast::<pg_sys::GrantStmt>();
                if statement.objtype != pg_sys::ObjectType::OBJECT_PARAMETER_ACL {
                    return None;
                }
                let parameters = node::strings(statement.objects);
                if !parameters.iter().any(|name| concerns(name)) {
                    return None;
                }
                let granted = grant::read_statement(statement);
                let details = json!({
                    "privileges": granted.privileges, "grantees": granted.grantees,
                    "grant_option": granted.grant_option,
                });
                change("parameter", parameters.join(", "), details)
            }
            _ => None,
        }
    }
}

/// ADMIN, INHERIT and SET of a GRANT of a role, as far as they are switched on.
#[cfg(feature = "pg15")]
fn options(statement: &pg_sys::GrantRoleStmt) -> Vec<String> {
    if statement.admin_opt { vec!["admin".into()] } else { Vec::new() }
}

/// ADMIN, INHERIT and SET of a GRANT of a role, by name.
#[cfg(not(feature = "pg15"))]
fn options(statement: &pg_sys::GrantRoleStmt) -> Map<String, Value> {
    // SAFETY: a list of DefElem nodes whose argument is a Boolean (gram.y).
    unsafe { node::each(statement.opt).filter_map(|option| flag(option)).collect() }
}

/// The name and value of an option that is true or false.
///
/// # Safety
/// A node that Postgres has parsed.
unsafe fn flag(option: *mut pg_sys::DefElem) -> Option<(String, Value)> {
    // SAFETY: as promised; the tag tells the type of the argument.
    unsafe {
        let argument = (*option).arg;
        let value = !argument.is_null()
            && (*argument).type_ == pg_sys::NodeTag::T_Boolean
            && (*argument.cast::<pg_sys::Boolean>()).boolval;
        Some((node::text((*option).defname)?, Value::Bool(value)))
    }
}

/// Attributes and memberships of a role; no password and no date.
///
/// # Safety
/// A list of options of CREATE or ALTER ROLE.
unsafe fn role_details(options: *mut pg_sys::List) -> Map<String, Value> {
    let mut details = Map::new();
    // SAFETY: as promised; the options that name roles have a list of RoleSpecs (gram.y).
    unsafe {
        for option in node::each::<pg_sys::DefElem>(options) {
            let Some((name, value)) = flag(option) else { continue };
            let list = match name.as_str() {
                "addroleto" => "in_roles",
                "rolemembers" => "members",
                "adminmembers" => "admins",
                _ => {
                    if let Some((_, attribute)) = ATTRIBUTES.iter().find(|(known, _)| *known == name) {
                        details.insert((*attribute).into(), value);
                    }
                    continue;
                }
            };
            details.insert(list.into(), node::roles((*option).arg.cast()).into());
        }
    }
    details
}

/// Which setting was set or reset, of those that concern the extension; its value is not told.
///
/// # Safety
/// A statement that Postgres has parsed.
unsafe fn setting(statement: *mut pg_sys::VariableSetStmt) -> Option<Map<String, Value>> {
    use pg_sys::VariableSetKind::*;
    // SAFETY: as promised.
    let (kind, name) = unsafe { ((*statement).kind, node::text((*statement).name)) };
    let details = match name {
        Some(name) if !concerns(&name) => return None,
        Some(name) => {
            let resets = kind == VAR_RESET || kind == VAR_SET_DEFAULT;
            json!({ "setting": name.to_lowercase(), "action": if resets { "reset" } else { "set" } })
        }
        None if kind == VAR_RESET_ALL => json!({ "action": "reset all" }),
        None => return None,
    };
    details.as_object().cloned()
}

fn concerns(setting: &str) -> bool {
    let setting = setting.to_lowercase();
    setting.starts_with("tenancy.") || SETTINGS.contains(&setting.as_str())
}
