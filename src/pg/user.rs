//! The database's own idea of who is connected.

use pgrx::{direct_function_call, pg_sys};
use std::borrow::Cow;
use std::ffi::CStr;

/// True for a member of `tenancy_application` that is no superuser. A role that one of them takes by SET ROLE counts as
/// well; a function of somebody else acts for its owner.
pub fn is_application() -> bool {
    // SAFETY: catalog lookups and plain reads of backend state.
    unsafe {
        let application = pg_sys::get_role_oid(c"tenancy_application".as_ptr(), true);
        if application == pg_sys::InvalidOid {
            return false;
        }
        let user = pg_sys::GetUserId();
        let member = |role| !pg_sys::superuser_arg(role) && pg_sys::is_member_of_role_nosuper(role, application);
        member(user) || user == pg_sys::GetOuterUserId() && member(pg_sys::GetSessionUserId())
    }
}

/// The roles and the name of the connection, cheap enough to compare at each event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    session_user: pg_sys::Oid,
    current_user: pg_sys::Oid,
    /// As the client set it; a claim, not a fact.
    pub application_name: Option<String>,
}

/// The session as it is now.
pub fn session() -> Session {
    let (session_user, current_user) = users();
    Session { session_user, current_user, application_name: application_name().map(Cow::into_owned) }
}

/// The role that logged in, and the one in force.
fn users() -> (pg_sys::Oid, pg_sys::Oid) {
    unsafe extern "C-unwind" {
        /// Without pgrx's guard: it reads a variable and raises nothing, and this runs once per row.
        #[link_name = "GetSessionUserId"]
        safe fn postgres_session_user() -> pg_sys::Oid;
        /// As above.
        #[link_name = "GetUserId"]
        safe fn postgres_user() -> pg_sys::Oid;
    }
    (postgres_session_user(), postgres_user())
}

/// The name of the connection, if it has one; copied by who keeps it.
fn application_name<'a>() -> Option<Cow<'a, str>> {
    // SAFETY: a plain read of backend state; application_name is NULL or NUL-terminated.
    let name = unsafe {
        let name = pg_sys::application_name;
        (!name.is_null()).then(|| CStr::from_ptr(name).to_string_lossy())
    };
    name.filter(|name| !name.is_empty())
}

impl Session {
    /// True if the session is as it was.
    pub fn is_current(&self) -> bool {
        (self.session_user, self.current_user) == users()
            && self.application_name.as_deref() == application_name().as_deref()
    }

    /// The role that logged in.
    pub fn session_user_name(&self) -> String {
        role_name(self.session_user)
    }

    /// The role in force.
    pub fn current_user_name(&self) -> String {
        role_name(self.current_user)
    }
}

fn role_name(role: pg_sys::Oid) -> String {
    // SAFETY: returns a palloc'ed name, or NULL for a role that was dropped meanwhile.
    let name = unsafe { pg_sys::GetUserNameFromId(role, true) };
    if name.is_null() {
        return role.to_u32().to_string();
    }
    // SAFETY: NUL-terminated, as names are.
    unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
}

/// The address of the client; `None` on a Unix-domain socket and in a background worker.
pub fn client_address() -> Option<String> {
    // SAFETY: inet_client_addr takes no argument and reads the connection; inet_out prints what it returned.
    unsafe {
        let address: pg_sys::Datum = pgrx::direct_function_call_as_datum(pg_sys::inet_client_addr, &[])?;
        direct_function_call::<&CStr>(pg_sys::inet_out, &[Some(address)])
            .map(|text| text.to_string_lossy().into_owned())
    }
}

/// True if row-level security never applies to the role in force, or the role owns `relation`.
pub fn may_pass_row_security(relation: pg_sys::Relation) -> bool {
    // SAFETY: catalog lookups; the relation is open.
    unsafe {
        let user = pg_sys::GetUserId();
        pg_sys::has_bypassrls_privilege(user) || pg_sys::has_privs_of_role(user, (*(*relation).rd_rel).relowner)
    }
}

/// The role in force and the one that it was set from: `SET ROLE`, or the login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acting(pg_sys::Oid, pg_sys::Oid);

/// Who acts now.
pub fn acting() -> Acting {
    // SAFETY: plain reads of backend state.
    unsafe { Acting(pg_sys::GetUserId(), pg_sys::GetOuterUserId()) }
}

/// [`may_pass_row_security`] for the role outside of every function and referential action.
pub fn outer_may_pass(relation: pg_sys::Relation) -> bool {
    // SAFETY: catalog lookups; the relation is open.
    unsafe {
        let user = pg_sys::GetOuterUserId();
        pg_sys::has_bypassrls_privilege(user) || pg_sys::has_privs_of_role(user, (*(*relation).rd_rel).relowner)
    }
}

/// Runs `work` as the owner of a table if the role in force may act for that owner; `None` if it may not.
///
/// For statements that hold text which the owner wrote: a superuser who runs them must lend the owner nothing.
pub fn as_owner<T>(table: pg_sys::Oid, work: impl FnOnce() -> T) -> Option<T> {
    // SAFETY: catalog lookups; the relation is open for the time of one.
    let owner = unsafe {
        let relation = pg_sys::table_open(table, pg_sys::AccessShareLock as i32);
        let owner = (*(*relation).rd_rel).relowner;
        pg_sys::table_close(relation, pg_sys::NoLock as i32);
        pg_sys::has_privs_of_role(pg_sys::GetUserId(), owner).then_some(owner)
    };
    owner.map(|owner| run_as(owner, work))
}

/// The role in force.
pub fn in_force() -> pg_sys::Oid {
    // SAFETY: a plain read of backend state.
    unsafe { pg_sys::GetUserId() }
}

/// True if `role` has the rights of `other`.
pub fn has_rights_of(role: pg_sys::Oid, other: pg_sys::Oid) -> bool {
    // SAFETY: a catalog lookup.
    unsafe { pg_sys::has_privs_of_role(role, other) }
}

/// True if `role` has the rights of the owner of a table.
pub fn may_act_for_owner(role: pg_sys::Oid, table: pg_sys::Oid) -> bool {
    // SAFETY: a catalog lookup; a table that is gone is an error, raised as Postgres raises it.
    unsafe {
        #[cfg(feature = "pg15")]
        return pg_sys::pg_class_ownercheck(table, role);
        #[cfg(not(feature = "pg15"))]
        pg_sys::object_ownercheck(pg_sys::RelationRelationId, table, role)
    }
}

/// True if the role in force has the privileges of that role.
pub fn has_role(name: &CStr) -> bool {
    // SAFETY: catalog lookups; a role that does not exist has an invalid oid.
    unsafe {
        let role = pg_sys::get_role_oid(name.as_ptr(), true);
        role != pg_sys::InvalidOid && pg_sys::has_privs_of_role(pg_sys::GetUserId(), role)
    }
}

/// True if a superuser has logged in, whatever role is in force.
pub fn superuser_logged_in() -> bool {
    // SAFETY: a catalog lookup.
    unsafe { pg_sys::superuser_arg(pg_sys::GetSessionUserId()) }
}

/// True if row-level security binds the role in force nowhere.
pub fn bypasses_row_security() -> bool {
    // SAFETY: a catalog lookup.
    unsafe { pg_sys::has_bypassrls_privilege(pg_sys::GetUserId()) }
}

/// Runs `work` as if no table had FORCE ROW LEVEL SECURITY: a role passes by the policies of tables that it owns, which
/// it could alter, and of no others.
pub fn without_force<T>(work: impl FnOnce() -> T) -> T {
    let (mut user, mut context) = (pg_sys::InvalidOid, 0);
    // SAFETY: what is saved here is put back below; if `work` raises, the abort of the (sub)transaction does it.
    unsafe {
        pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
        pg_sys::SetUserIdAndSecContext(user, context | pg_sys::SECURITY_NOFORCE_RLS as i32);
    }
    let result = work();
    // SAFETY: as above.
    unsafe { pg_sys::SetUserIdAndSecContext(user, context) };
    result
}

/// True in a query that Postgres itself makes to check a foreign key, and in what runs inside of it.
pub fn in_foreign_key_check() -> bool {
    unsafe extern "C-unwind" {
        #[link_name = "InNoForceRLSOperation"]
        safe fn postgres_in_foreign_key_check() -> bool;
    }
    postgres_in_foreign_key_check()
}

/// Runs `work` as the superuser that `initdb` made: for a fixed query on the extension's own tables, in the name of
/// someone who has no rights on them.
pub fn as_superuser<T>(work: impl FnOnce() -> T) -> T {
    run_as(pg_sys::Oid::from(pg_sys::BOOTSTRAP_SUPERUSERID), work)
}

/// Switches the role in force for the time of `work`.
fn run_as<T>(role: pg_sys::Oid, work: impl FnOnce() -> T) -> T {
    let (mut user, mut context) = (pg_sys::InvalidOid, 0);
    // SAFETY: what is saved here is put back below; if `work` raises, the abort of the (sub)transaction does it. The
    // flags are those of maintenance commands that act as a table's owner (src/backend/commands/vacuum.c).
    unsafe {
        pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
        let restricted = pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION;
        pg_sys::SetUserIdAndSecContext(role, context | restricted as i32);
    }
    let result = work();
    // SAFETY: as above.
    unsafe { pg_sys::SetUserIdAndSecContext(user, context) };
    result
}
