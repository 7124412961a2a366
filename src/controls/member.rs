//! The functions by which an organization's own admins keep its members.
//!
//! Decision: `docs/decisions/84-roles-of-an-organization.md`.

use super::holding::{Giver, must_hold};
use super::input;
use crate::audit;
use crate::context;
use crate::identity::{RoleOf, hold_organization, is_dormant, role_of, role_organization};
use crate::pg::report::OrRaise;
use crate::pg::spi::{self, Query, Row, argument};
use crate::pg::{clock, transaction, user};
use pg_tenancy_core::context::Context;
use pg_tenancy_core::controls::approval::Person;
use pg_tenancy_core::controls::permission_set::{Effect, PermissionSet, Rule};
use pg_tenancy_core::error::{self, Error, Result};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use uuid::Uuid;

const DOMAIN: &str = "member";
const ACTIVE: &str = "active";
const SUSPENDED: &str = "suspended";

/// The end of a membership that has none, in an argument.
const NO_END: i64 = i64::MAX;

static ONLY_ISSUER: Query = Query::new("SELECT min(issuer) FROM tenancy.issuer HAVING count(*) = 1");

static IS_ISSUER: Query = Query::new("SELECT 1 FROM tenancy.issuer WHERE issuer = $1");

/// Keeps the role as it is named until the end of the transaction, as the foreign key does later.
static KEEP_ROLE: Query = Query::new("SELECT 1 FROM tenancy.role WHERE organization = $1 AND name = $2 FOR KEY SHARE");

static ADD: Query = Query::new(
    "INSERT INTO tenancy.membership (organization, issuer, subject, role, role_organization, valid_until, created_at)
     VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING RETURNING 1",
);

static FOR_CHANGE: Query = Query::new(
    "SELECT role, role_organization, status, valid_until, reinstated_at FROM tenancy.membership
      WHERE organization = $1 AND issuer = $2 AND subject = $3 FOR NO KEY UPDATE",
);

static CHANGE: Query = Query::new(
    "UPDATE tenancy.membership SET role = $4, role_organization = $5, status = $6, valid_until = $7,
            reinstated_at = $8
      WHERE organization = $1 AND issuer = $2 AND subject = $3 RETURNING 1",
);

/// Of several members of the organization $1, whose issuers and subjects stand side by side in $2 and $3.
static ALL: Query = Query::new(
    "SELECT m.role, m.role_organization, m.status, m.valid_until, m.reinstated_at, m.issuer, m.subject
       FROM tenancy.membership m
       JOIN ROWS FROM (unnest($2::text[]), unnest($3::text[])) AS n (issuer, subject)
         ON m.issuer = n.issuer AND m.subject = n.subject
      WHERE m.organization = $1",
);

static CHANGE_ALL: Query = Query::new(
    "UPDATE tenancy.membership m
        SET role = n.role, role_organization = n.role_organization, status = n.status, valid_until = n.valid_until,
            reinstated_at = n.reinstated_at
       FROM ROWS FROM (unnest($2::text[]), unnest($3::text[]), unnest($4::text[]), unnest($5::uuid[]),
                       unnest($6::text[]), unnest($7::timestamptz[]), unnest($8::timestamptz[]))
            AS n (issuer, subject, role, role_organization, status, valid_until, reinstated_at)
      WHERE m.organization = $1 AND m.issuer = n.issuer AND m.subject = n.subject RETURNING 1",
);

static DROP: Query =
    Query::new("DELETE FROM tenancy.membership WHERE organization = $1 AND issuer = $2 AND subject = $3 RETURNING 1");

static ROLE_NOW: Query = Query::new(
    "SELECT role, role_organization, status, valid_until, reinstated_at FROM tenancy.membership
      WHERE organization = $1 AND issuer = $2 AND subject = $3",
);

/// `tenancy.add_member(subject, role, issuer, valid_until)`.
#[pg_extern(sql = false)]
fn tenancy_add_member(
    subject: Option<&str>,
    role: Option<&str>,
    issuer: Option<&str>,
    valid_until: Option<TimestampWithTimeZone>,
) {
    add(subject, role, issuer, valid_until).or_raise();
}

/// `tenancy.change_member(subject, role, status, valid_until, issuer, reason)`.
#[pg_extern(sql = false)]
fn tenancy_change_member(
    subject: Option<&str>,
    role: Option<&str>,
    status: Option<&str>,
    valid_until: Option<TimestampWithTimeZone>,
    issuer: Option<&str>,
    reason: Option<&str>,
) {
    change(subject, issuer, &Change { role, status, valid_until: valid_until.map(transaction::microseconds) }, reason)
        .or_raise();
}

/// `tenancy.drop_member(subject, reason, issuer)`.
#[pg_extern(sql = false)]
fn tenancy_drop_member(subject: Option<&str>, reason: Option<&str>, issuer: Option<&str>) {
    drop_member(subject, reason, issuer).or_raise();
}

/// `tenancy.effective_permissions(subject, issuer)`.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn tenancy_effective_permissions(
    subject: Option<&str>,
    issuer: Option<&str>,
) -> TableIterator<
    'static,
    (name!(domain, String), name!(action, String), name!(effect, &'static str), name!(source, String)),
> {
    TableIterator::new(effective_permissions(subject, issuer).or_raise())
}

/// What a membership is given; what is not named stays.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    pub role: Option<&'a str>,
    pub status: Option<&'a str>,
    /// In microseconds since 1970; `i64::MAX` for no end.
    pub valid_until: Option<i64>,
}

/// A membership as it is stored.
#[derive(Clone, PartialEq)]
struct Stored {
    role: String,
    role_organization: Uuid,
    status: String,
    /// [`NO_END`] without one.
    valid_until: i64,
    reinstated_at: Option<i64>,
}

impl Stored {
    fn read(row: &Row) -> Option<Self> {
        Some(Stored {
            role: row.get(1)?,
            role_organization: row.uuid(2)?,
            status: row.get(3)?,
            valid_until: row.timestamp(4).unwrap_or(NO_END),
            reinstated_at: row.timestamp(5),
        })
    }
}

/// A member that a call is about.
struct Member<'a> {
    organization: Uuid,
    issuer: String,
    subject: &'a str,
}

impl<'a> Member<'a> {
    /// The subject of this issuer; by default that of the caller, or the only one for an operator, who has none.
    fn named(context: &Context, subject: Option<&'a str>, issuer: Option<&str>) -> Result<Self> {
        let subject = input::text(subject, "subject")?;
        let issuer = match issuer {
            Some(issuer) => issuer.to_owned(),
            None if !context.is_assumed() => context.issuer.clone(),
            None => {
                user::as_superuser(|| ONLY_ISSUER.read(&[], |row| row.get::<String>(1))).pop().flatten().ok_or_else(
                    || error::ARGUMENT_INVALID.error("the issuer must be named, unless exactly one is registered"),
                )?
            }
        };
        Ok(Member { organization: context.organization.id, issuer, subject })
    }

    fn of(organization: Uuid, person: &'a Person) -> Self {
        Member { organization, issuer: person.issuer.clone(), subject: &person.subject }
    }

    fn is(&self, person: &Person) -> bool {
        self.issuer == person.issuer && self.subject == person.subject
    }

    fn key(&self) -> [spi::Argument; 3] {
        [spi::uuid(self.organization), argument(self.issuer.as_str()), argument(self.subject)]
    }

    fn unknown(&self) -> error::Error {
        error::NOT_FOUND.error(format!("\"{}\" is no member of the organization", self.subject))
    }
}

/// A context whose role permits an action with members, in a transaction that can write.
fn permitted(action: &str) -> Result<Rc<Context>> {
    context::authorize(DOMAIN, action)?;
    let context = context::require()?;
    input::must_write()?;
    Ok(context)
}

fn add(
    subject: Option<&str>,
    role: Option<&str>,
    issuer: Option<&str>,
    valid_until: Option<TimestampWithTimeZone>,
) -> Result<()> {
    let context = permitted("create")?;
    let member = Member::named(&context, subject, issuer)?;
    let role = input::text(role, "role")?;
    let end = future(valid_until.map_or(NO_END, transaction::microseconds))?;
    user::as_superuser(|| {
        if IS_ISSUER.read(&[argument(member.issuer.as_str())], |_| ()).is_empty() {
            let message = format!("issuer \"{}\" is not registered", member.issuer);
            return Err(error::NOT_FOUND.error(message));
        }
        let of = give(&context, &member, role)?;
        let [organization, issuer, subject] = member.key();
        let row = [
            organization,
            issuer,
            subject,
            argument(role),
            spi::uuid(of.organization),
            spi::timestamp(stored_end(end)),
            spi::timestamp(clock::now()),
        ];
        if ADD.write(&row, |_| ()).is_empty() {
            return Err(error::MEMBER_EXISTS.error(format!("\"{}\" is a member already", member.subject)));
        }
        Ok(())
    })
}

fn change(subject: Option<&str>, issuer: Option<&str>, change: &Change, reason: Option<&str>) -> Result<()> {
    let context = permitted("update")?;
    let member = Member::named(&context, subject, issuer)?;
    let reason = input::optional_reason(reason)?;
    user::as_superuser(|| apply(Giver::Caller(&context), &member, change, reason))
}

/// A change of a member that a reviewer has decided.
pub struct DecidedChange<'a> {
    pub member: Person,
    pub change: Change<'a>,
    pub reviewer: &'a Person,
}

/// Changes a member as a reviewer has decided. The caller acts as a superuser.
pub fn change_reviewed(organization: Uuid, decided: &DecidedChange, reason: &str) -> Result<()> {
    let DecidedChange { member, change, reviewer } = decided;
    apply(Giver::Reviewer(organization, reviewer), &Member::of(organization, member), change, Some(reason))
}

/// As [`change_reviewed`], of several members by one statement; returns what the rules say of each, in their order. The
/// caller holds the organization and the memberships.
pub fn change_all_reviewed(organization: Uuid, decided: &[DecidedChange], reason: &str) -> Result<Vec<Result<()>>> {
    let mut roles: HashMap<&str, Result<RoleOf>> = HashMap::new();
    for role in decided.iter().filter_map(|decided| decided.change.role) {
        roles.entry(role).or_insert_with(|| keep_role(organization, role));
    }
    let key = keys(organization, &decided.iter().map(|decided| &decided.member).collect::<Vec<_>>());
    let read = |row: &Row| Some((Person { issuer: row.get(6)?, subject: row.get(7)? }, Stored::read(row)));
    let stored = transaction::with_latest_snapshot(|| ALL.read(&key, read));
    let stored: HashMap<Person, Option<Stored>> = stored.into_iter().collect::<Option<_>>().ok_or_else(unreadable)?;
    // Who may give which role; nothing of it changes before all are asked.
    let mut may_give: HashSet<(&Person, String)> = HashSet::new();
    let mut after: Vec<(&Person, Stored)> = Vec::new();
    let outcomes = decided.iter().map(|DecidedChange { member, change, reviewer }| {
        let of = Member::of(organization, member);
        check_status(change)?;
        let given = change.role.map(|role| roles[role].as_ref().map_err(Error::clone)).transpose()?;
        let before = stored.get(member).ok_or_else(|| of.unknown())?.as_ref().ok_or_else(unreadable)?;
        let giver = Giver::Reviewer(organization, reviewer);
        let changed = changed(&giver, &of, before, change, given, |role, permissions| {
            if may_give.contains(&(*reviewer, role.to_owned())) {
                return Ok(());
            }
            giver.must_hold(DOMAIN, permissions)?;
            may_give.insert((*reviewer, role.to_owned()));
            Ok(())
        })?;
        after.extend(changed.map(|changed| (member, changed)));
        Ok(())
    });
    let outcomes = outcomes.collect();
    if !after.is_empty() {
        let (people, after): (Vec<&Person>, Vec<Stored>) = after.into_iter().unzip();
        let [organization, issuers, subjects] = keys(organization, &people);
        let row = [
            organization,
            issuers,
            subjects,
            argument(after.iter().map(|stored| stored.role.as_str()).collect::<Vec<_>>()),
            spi::uuids(after.iter().map(|stored| stored.role_organization)),
            argument(after.iter().map(|stored| stored.status.as_str()).collect::<Vec<_>>()),
            spi::timestamps(after.iter().map(|stored| stored_end(stored.valid_until))).ok_or_else(unreadable)?,
            spi::timestamps(after.iter().map(|stored| stored.reinstated_at)).ok_or_else(unreadable)?,
        ];
        audit::for_reason(Some(reason), || CHANGE_ALL.write(&row, |_| ()));
    }
    Ok(outcomes)
}

/// Of several members: the organization, and issuers and subjects side by side.
fn keys(organization: Uuid, people: &[&Person]) -> [spi::Argument; 3] {
    let issuers: Vec<&str> = people.iter().map(|person| person.issuer.as_str()).collect();
    let subjects: Vec<&str> = people.iter().map(|person| person.subject.as_str()).collect();
    [spi::uuid(organization), argument(issuers), argument(subjects)]
}

fn check_status(change: &Change) -> Result<()> {
    match change.status {
        None | Some(ACTIVE | SUSPENDED) => Ok(()),
        Some(_) => Err(error::ARGUMENT_INVALID.error("the status of a member is active or suspended")),
    }
}

fn apply(giver: Giver, member: &Member, change: &Change, reason: Option<&str>) -> Result<()> {
    check_status(change)?;
    // Before the membership: everybody takes the locks in this order.
    let given = change.role.map(|role| keep_role(member.organization, role)).transpose()?;
    hold_organization(member.organization);
    let stored = FOR_CHANGE.write(&member.key(), Stored::read).pop().ok_or_else(|| member.unknown())?;
    let before = stored.ok_or_else(unreadable)?;
    let may_give = |_: &str, permissions: &PermissionSet| giver.must_hold(DOMAIN, permissions);
    let Some(after) = changed(&giver, member, &before, change, given.as_ref(), may_give)? else { return Ok(()) };
    let [organization, issuer, subject] = member.key();
    let row = [
        organization,
        issuer,
        subject,
        argument(after.role.as_str()),
        spi::uuid(after.role_organization),
        argument(after.status.as_str()),
        spi::timestamp(stored_end(after.valid_until)),
        spi::timestamp(after.reinstated_at),
    ];
    audit::for_reason(reason, || CHANGE.write(&row, |_| ()));
    Ok(())
}

/// The membership as a change leaves it; `None` where it leaves it as it is. `may_give` refuses to give a role that
/// permits what the giver does not hold.
fn changed(
    giver: &Giver,
    member: &Member,
    before: &Stored,
    change: &Change,
    given: Option<&RoleOf>,
    may_give: impl FnOnce(&str, &PermissionSet) -> Result<()>,
) -> Result<Option<Stored>> {
    // Who has not signed in for long is let in again by whoever says so, whether suspended or not.
    let reinstated = change.status == Some(ACTIVE) && is_dormant(member.organization, &member.issuer, member.subject);
    let after = Stored {
        role: change.role.unwrap_or(&before.role).to_owned(),
        role_organization: given.map_or(before.role_organization, |of| of.organization),
        status: change.status.unwrap_or(&before.status).to_owned(),
        valid_until: change.valid_until.unwrap_or(before.valid_until),
        reinstated_at: if reinstated { Some(clock::now()) } else { before.reinstated_at },
    };
    if after == *before {
        return Ok(None);
    }
    if after.valid_until != before.valid_until {
        future(after.valid_until)?;
    }
    let longer =
        after.valid_until > before.valid_until || after.status == ACTIVE && before.status != ACTIVE || reinstated;
    if longer && member.is(&giver.person()) {
        return Err(audit::refused(DOMAIN, error::MORE_THAN_HELD.error("nobody makes their own membership longer")));
    }
    if longer || after.role != before.role {
        match given {
            Some(of) => may_give(&after.role, &of.permissions)?,
            None => may_give(&after.role, &role_of(member.organization, &after.role)?.permissions)?,
        }
    }
    Ok(Some(after))
}

fn unreadable() -> Error {
    error::STATE_INVALID.error("the membership cannot be read")
}

fn drop_member(subject: Option<&str>, reason: Option<&str>, issuer: Option<&str>) -> Result<()> {
    let context = permitted("delete")?;
    let member = Member::named(&context, subject, issuer)?;
    let reason = input::reason(reason)?;
    user::as_superuser(|| remove(&member, reason))
}

/// Ends a membership as a reviewer has decided. The caller acts as a superuser.
pub fn drop_reviewed(organization: Uuid, member: &Person, reason: &str) -> Result<()> {
    remove(&Member::of(organization, member), reason)
}

fn remove(member: &Member, reason: &str) -> Result<()> {
    hold_organization(member.organization);
    if audit::for_reason(Some(reason), || DROP.write(&member.key(), |_| ())).is_empty() {
        return Err(member.unknown());
    }
    Ok(())
}

/// The role that a call gives a member, if the caller may give it. It stays until the end of the transaction.
fn give(context: &Context, member: &Member, role: &str) -> Result<RoleOf> {
    let of = keep_role(member.organization, role)?;
    hold_organization(member.organization);
    must_hold(context, DOMAIN, &of.permissions)?;
    Ok(of)
}

fn keep_role(organization: Uuid, role: &str) -> Result<RoleOf> {
    let named = role_organization(organization, role)?;
    KEEP_ROLE.write(&[spi::uuid(named), argument(role)], |_| ());
    // What it permits once nobody else can drop it.
    role_of(organization, role)
}

fn future(end: i64) -> Result<i64> {
    if end <= clock::now() {
        return Err(error::ARGUMENT_INVALID.error("valid_until is in the past"));
    }
    Ok(end)
}

/// The end as it is stored.
fn stored_end(end: i64) -> Option<i64> {
    (end != NO_END).then_some(end)
}

/// A rule of somebody's: domain, action, effect, and where it comes from.
type EffectiveRule = (String, String, &'static str, String);

fn effective_permissions(subject: Option<&str>, issuer: Option<&str>) -> Result<Vec<EffectiveRule>> {
    let context = context::require()?;
    let own = subject.is_none() && issuer.is_none();
    let (role, permissions) = if own {
        (context.role.clone(), context.permissions.clone())
    } else {
        let subject = subject.or(Some(&context.subject));
        let member = Member::named(&context, subject, issuer)?;
        if !member.is(&input::person(&context)) {
            context::authorize(DOMAIN, "read")?;
        }
        permissions_of(&member)?
    };
    Ok(permissions.rules().map(|rule| effective(&permissions, &role, rule)).collect())
}

/// The role of a member and what it permits now, which is nothing while the membership gives no access.
fn permissions_of(member: &Member) -> Result<(String, PermissionSet)> {
    let read = || transaction::with_latest_snapshot(|| ROLE_NOW.read(&member.key(), Stored::read));
    let stored = user::as_superuser(read).pop().flatten().ok_or_else(|| member.unknown())?;
    if stored.status != ACTIVE || stored.valid_until <= clock::now() {
        return Ok((stored.role, PermissionSet::default()));
    }
    let of = role_of(member.organization, &stored.role)?;
    Ok((stored.role, of.permissions))
}

fn effective(permissions: &PermissionSet, role: &str, rule: Rule) -> EffectiveRule {
    let overruled = rule.effect == Effect::Allow && permissions.denies_all_of(&rule);
    let effect = if overruled { Effect::Deny } else { rule.effect };
    let source = if overruled { format!("denied by role {role}") } else { format!("role {role}") };
    (rule.domain, rule.action, effect.name(), source)
}
