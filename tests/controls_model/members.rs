//! What becomes of members and roles, whoever changes them: a call of a member, or the close of a review.

use super::grants::member_gone;
use super::organization::*;
use pg_tenancy_core::controls::permission_set::PermissionSet;

/// Who gives something.
pub enum Giver<'a> {
    Caller(&'a Caller),
    /// Who has decided so in a review.
    Reviewer(&'a str),
}

impl Giver<'_> {
    fn subject(&self) -> &str {
        match self {
            Giver::Caller(caller) => caller.subject,
            Giver::Reviewer(subject) => subject,
        }
    }

    /// Nobody gives more than they hold.
    pub fn must_hold(&self, of: &Organization, given: &PermissionSet) -> Result<(), Refused> {
        match self {
            Giver::Caller(caller) => of.must_hold(caller, given),
            Giver::Reviewer(subject) => {
                let held = of.held(subject).unwrap_or_default();
                if given.within(&held) { Ok(()) } else { Err(NOT_PERMITTED) }
            }
        }
    }
}

/// What a membership is given; what is not named stays.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Change {
    pub role: Option<&'static str>,
    pub active: Option<bool>,
    pub until: Option<i64>,
}

pub fn known(of: &Organization, role: &str) -> Result<PermissionSet, Refused> {
    of.roles.get(role).map(|role| set(&role.rules)).ok_or(UNKNOWN)
}

/// An organization that had somebody who counts so much as an admin keeps one, where the guardrail says so.
fn stays(of: &Organization, counted: Admins) -> Result<(), Refused> {
    if of.admins() < counted && of.enforces("last_admin") { Err(WRONG_STATE) } else { Ok(()) }
}

/// `caller` is who works in the transaction, if anybody.
pub fn change(
    of: &mut Organization,
    subject: &'static str,
    change: &Change,
    giver: &Giver,
    caller: Option<&Caller>,
    now: i64,
) -> Result<(), Refused> {
    change.role.map(|role| known(of, role)).transpose()?;
    let before = of.members.get(subject).cloned().ok_or(UNKNOWN)?;
    let after = Member {
        role: change.role.map_or_else(|| before.role.clone(), str::to_owned),
        active: change.active.unwrap_or(before.active),
        until: change.until.unwrap_or(before.until),
        since: before.since,
    };
    if after == before {
        return Ok(());
    }
    let longer = after.until > before.until || after.active && !before.active;
    if longer && subject == giver.subject() {
        return Err(NOT_PERMITTED);
    }
    if longer || after.role != before.role {
        giver.must_hold(of, &known(of, &after.role)?)?;
    }
    let (counted, active) = (of.as_admin(subject), after.active);
    of.members.insert(subject, after);
    stays(of, counted)?;
    of.told("membership", "update", 1);
    if active { Ok(()) } else { member_gone(of, subject, caller, now) }
}

pub fn remove(of: &mut Organization, subject: &str, caller: Option<&Caller>, now: i64) -> Result<(), Refused> {
    let counted = of.as_admin(subject);
    of.members.remove(subject).ok_or(UNKNOWN)?;
    stays(of, counted)?;
    of.told("membership", "delete", 1);
    member_gone(of, subject, caller, now)
}

/// Gives an organization's own role these rules and no others.
pub fn define_role(
    of: &mut Organization,
    name: &str,
    rules: &[String],
    giver: &Giver,
    now: i64,
) -> Result<(), Refused> {
    giver.must_hold(of, &set(rules))?;
    let having = of.members.iter().filter(|(_, member)| member.role == name);
    let counted = having.map(|(subject, _)| of.as_admin(subject)).max().unwrap_or(Admins::None);
    let before = of.roles.get(name).cloned();
    let since = before.as_ref().map_or(now, |role| role.since);
    of.roles.insert(name.to_owned(), Role { rules: rules.to_vec(), since });
    stays(of, counted)?;
    let count = |of: &[String], without: &[String]| of.iter().filter(|rule| !without.contains(rule)).count() as u64;
    let old = before.as_ref().map(|role| role.rules.clone()).unwrap_or_default();
    of.told("role", "insert", count(rules, &old) + u64::from(before.is_none()));
    of.told("role", "delete", count(&old, rules));
    Ok(())
}

/// Drops an organization's own role that nobody has.
pub fn drop_role(of: &mut Organization, name: &str) -> Result<(), Refused> {
    if Organization::is_of_all(name) || !of.roles.contains_key(name) {
        return Err(UNKNOWN);
    }
    if of.members.values().any(|member| member.role == name) {
        return Err(WRONG_STATE);
    }
    let role = of.roles.remove(name).unwrap_or_default();
    of.told("role", "delete", 1 + role.rules.len() as u64);
    Ok(())
}

/// Whoever administers the database makes somebody an admin.
pub fn appoint(of: &mut Organization, subject: &'static str, now: i64) {
    let before = of.members.get(subject);
    let since = before.map_or(now, |member| member.since);
    let operation = if before.is_some() { "update" } else { "insert" };
    of.members.insert(subject, Member { role: "admin".to_owned(), active: true, until: NO_END, since });
    of.told("membership", operation, 1);
}
