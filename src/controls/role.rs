//! The functions by which an organization's own admins keep its roles.
//!
//! Decision: `docs/decisions/84-roles-of-an-organization.md`.

use super::holding::Giver;
use super::input;
use crate::context;
use crate::identity::{hold_organization, role_of};
use crate::pg::report::OrRaise;
use crate::pg::spi::{self, Query, argument};
use crate::pg::{clock, transaction, user};
use pg_tenancy_core::controls::approval::Person;
use pg_tenancy_core::controls::permission_set::{MAX_RULES, PermissionSet, Rule};
use pg_tenancy_core::error::{self, Error, Result, require_not_null};
use pgrx::pg_extern;
use uuid::Uuid;

const DOMAIN: &str = "role";

/// How many roles of its own an organization has at most.
const MAX_ROLES: i64 = 10_000;

const MAX_NAME_BYTES: usize = 100;

/// Waits for whoever makes a role of every organization, and keeps such a one from being made meanwhile.
const KEEP_NAMES: &str = "LOCK TABLE tenancy.role IN ROW EXCLUSIVE MODE";

static OF_ALL: Query =
    Query::new("SELECT 1 FROM tenancy.role WHERE organization = '00000000-0000-0000-0000-000000000000' AND name = $1");

static FOR_CHANGE: Query = Query::new("SELECT 1 FROM tenancy.role WHERE organization = $1 AND name = $2 FOR UPDATE");

static COUNT: Query = Query::new("SELECT count(*) FROM tenancy.role WHERE organization = $1");

static ADD: Query = Query::new(
    "INSERT INTO tenancy.role (organization, name, description, created_at) VALUES ($1, $2, $3, $4)
     ON CONFLICT DO NOTHING RETURNING 1",
);

static DESCRIBE: Query = Query::new(
    "UPDATE tenancy.role SET description = $3
      WHERE organization = $1 AND name = $2 AND $3 IS NOT NULL AND description IS DISTINCT FROM $3",
);

static TAKE: Query = Query::new(
    "DELETE FROM tenancy.role_permission p
      WHERE p.organization = $1 AND p.role = $2
        AND NOT EXISTS (SELECT FROM ROWS FROM (unnest($3::text[]), unnest($4::text[]), unnest($5::text[]))
                                    AS n (domain, action, effect)
                         WHERE n.domain = p.domain AND n.action = p.action AND n.effect = p.effect)",
);

static GIVE: Query = Query::new(
    "INSERT INTO tenancy.role_permission (organization, role, domain, action, effect)
     SELECT $1, $2, n.domain, n.action, n.effect
       FROM ROWS FROM (unnest($3::text[]), unnest($4::text[]), unnest($5::text[])) AS n (domain, action, effect)
     ON CONFLICT DO NOTHING",
);

static MEMBERS: Query =
    Query::new("SELECT count(*) FROM tenancy.membership WHERE role_organization = $1 AND role = $2");

static DROP: Query = Query::new("DELETE FROM tenancy.role WHERE organization = $1 AND name = $2 RETURNING 1");

/// Actions of a domain that a protected table asks for beside those on rows: the arguments of its triggers.
static ACTIONS: Query = Query::new(
    "SELECT DISTINCT a[2] FROM pg_catalog.pg_trigger t,
            LATERAL string_to_array(encode(t.tgargs, 'escape'), '\\000') a
      WHERE t.tgfoid = 'tenancy.authorize_action()'::regprocedure AND a[1] = $1",
);

/// The actions that policies ask for.
const ON_ROWS: [&str; 4] = ["read", "create", "update", "delete"];

/// `tenancy.define_role(name, permissions, description)`.
#[pg_extern(sql = false)]
fn tenancy_define_role(name: Option<&str>, permissions: Option<Vec<Option<String>>>, description: Option<&str>) {
    define(name, permissions, description).or_raise();
}

/// `tenancy.drop_role(name)`.
#[pg_extern(sql = false)]
fn tenancy_drop_role(name: Option<&str>) {
    drop_role(name).or_raise();
}

/// `tenancy.allowed_actions(domain)`.
#[pg_extern(sql = false)]
fn tenancy_allowed_actions(domain: Option<&str>) -> Vec<String> {
    allowed_actions(domain).or_raise()
}

fn define(name: Option<&str>, permissions: Option<Vec<Option<String>>>, description: Option<&str>) -> Result<()> {
    let context = context::require()?;
    // Which of the two it has to be is known once the role is looked for.
    if !context::allowed(DOMAIN, "update") {
        context::authorize(DOMAIN, "create")?;
    }
    let name = role_name(name)?;
    let rules = rules(permissions)?;
    let description = description.map(|text| input::text(Some(text), "description")).transpose()?;
    input::must_write()?;
    user::as_superuser(|| {
        let exists = hold(context.organization.id, name)?;
        context::authorize(DOMAIN, if exists { "update" } else { "create" })?;
        // Whoever decides by what a role permits, and whoever changes it, take turns. Everybody locks the role first.
        hold_organization(context.organization.id);
        give(Giver::Caller(&context), context.organization.id, name, description, exists, &rules)
    })
}

/// Gives an organization's own role other permissions, as a reviewer has decided. The caller acts as a superuser.
pub fn change_reviewed(
    organization: Uuid,
    name: &str,
    description: Option<&str>,
    rules: &[Rule],
    reviewer: &Person,
) -> Result<()> {
    if !hold(organization, name)? {
        return Err(unknown(name));
    }
    give(Giver::Reviewer(organization, reviewer), organization, name, description, true, rules)
}

/// Locks the organization's own role of that name; false if there is none.
///
/// Errors: there is one of every organization.
fn hold(organization: Uuid, name: &str) -> Result<bool> {
    spi::execute(KEEP_NAMES, |_| ());
    let of_all = || OF_ALL.read(&[argument(name)], |_| ()).is_empty();
    if !transaction::with_latest_snapshot(of_all) {
        return Err(error::ROLE_EXISTS.error(format!("there is a role \"{name}\" of every organization")));
    }
    Ok(!FOR_CHANGE.write(&[spi::uuid(organization), argument(name)], |_| ()).is_empty())
}

fn give(
    giver: Giver,
    organization: Uuid,
    name: &str,
    description: Option<&str>,
    exists: bool,
    rules: &[Rule],
) -> Result<()> {
    giver.must_hold(DOMAIN, &rules.iter().cloned().collect::<PermissionSet>())?;
    write(organization, name, description, exists, rules)
}

fn write(organization: Uuid, name: &str, description: Option<&str>, exists: bool, rules: &[Rule]) -> Result<()> {
    let key = || (spi::uuid(organization), argument(name));
    let (id, named) = key();
    if exists {
        DESCRIBE.write(&[id, named, argument(description)], |_| ());
    } else {
        let counted = || COUNT.read(&[spi::uuid(organization)], |row| row.get::<i64>(1));
        let roles = transaction::with_latest_snapshot(counted).pop().flatten().unwrap_or_default();
        if roles >= MAX_ROLES {
            let message = format!("the organization has {MAX_ROLES} roles of its own, which is the most");
            return Err(error::ARGUMENT_INVALID.error(message));
        }
        let row = [id, named, argument(description), spi::timestamp(clock::now())];
        if ADD.write(&row, |_| ()).is_empty() {
            return Err(error::ROLE_EXISTS.error(format!("role \"{name}\" was made at the same moment")));
        }
    }
    for statement in [&TAKE, &GIVE] {
        let (id, named) = key();
        let column = |of: fn(&Rule) -> &str| argument(rules.iter().map(|rule| of(rule).to_owned()).collect::<Vec<_>>());
        let columns = [column(|rule| &rule.domain), column(|rule| &rule.action), column(|rule| rule.effect.name())];
        let [domains, actions, effects] = columns;
        statement.write(&[id, named, domains, actions, effects], |_| ());
    }
    // A snapshot that is older than a change by somebody else does not show what that one gave the role.
    transaction::next_command();
    if role_of(organization, name)?.permissions != rules.iter().cloned().collect() {
        let message = format!("role \"{name}\" was changed after this transaction had begun");
        return Err(error::APPROVAL_CONFLICT.error(message));
    }
    Ok(())
}

fn drop_role(name: Option<&str>) -> Result<()> {
    context::authorize(DOMAIN, "delete")?;
    let context = context::require()?;
    let name = role_name(name)?;
    input::must_write()?;
    user::as_superuser(|| remove(context.organization.id, name))
}

/// Drops an organization's own role that nobody has. The caller acts as a superuser.
pub fn remove(organization: Uuid, name: &str) -> Result<()> {
    let key = || [spi::uuid(organization), argument(name)];
    if FOR_CHANGE.write(&key(), |_| ()).is_empty() {
        return Err(unknown(name));
    }
    hold_organization(organization);
    let counted = || MEMBERS.read(&key(), |row| row.get::<i64>(1));
    let members = transaction::with_latest_snapshot(counted).pop().flatten().unwrap_or_default();
    if members > 0 {
        return Err(error::ROLE_IN_USE.error(format!("{members} members have the role \"{name}\"")));
    }
    DROP.write(&key(), |_| ());
    Ok(())
}

fn unknown(name: &str) -> Error {
    error::NOT_FOUND.error(format!("the organization has no role \"{name}\" of its own"))
}

fn allowed_actions(domain: Option<&str>) -> Result<Vec<String>> {
    let domain = require_not_null(domain, "domain")?;
    let context = context::require()?;
    let own: Vec<String> =
        user::as_superuser(|| ACTIONS.read(&[argument(domain)], |row| row.get(1))).into_iter().flatten().collect();
    let known = ON_ROWS.into_iter().chain(own.iter().map(String::as_str));
    Ok(context.permissions.allowed_actions(domain, known).into_iter().map(str::to_owned).collect())
}

/// A name that people read: no control characters, no blanks around it.
fn role_name(name: Option<&str>) -> Result<&str> {
    let name = require_not_null(name, "name")?;
    let fits = !name.is_empty() && name.len() <= MAX_NAME_BYTES && name.trim() == name;
    if !fits || name.chars().any(char::is_control) {
        let message = format!(
            "the name of a role has 1 to {MAX_NAME_BYTES} bytes, no blanks around it and no control characters"
        );
        return Err(error::ARGUMENT_INVALID.error(message));
    }
    Ok(name)
}

/// The rules that a caller writes, each once.
pub(super) fn rules(permissions: Option<Vec<Option<String>>>) -> Result<Vec<Rule>> {
    let texts = require_not_null(permissions, "permissions")?;
    if texts.len() > MAX_RULES {
        let message = format!("a role has at most {MAX_RULES} permissions, and these are {}", texts.len());
        return Err(error::ARGUMENT_INVALID.error(message));
    }
    let parse = |text: Option<String>| Rule::parse(require_not_null(text.as_deref(), "a permission")?);
    let mut rules: Vec<Rule> = texts.into_iter().map(parse).collect::<Result<_>>()?;
    rules.sort();
    rules.dedup();
    Ok(rules)
}
