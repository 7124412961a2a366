//! What items of reviews are about: its state as it is now, and what is done with it.

use super::holding::Giver;
use super::member::DecidedChange;
use super::review_row::{StoredItem, StoredReview};
use super::{action_type, break_glass, exception, member, role};
use crate::audit;
use crate::identity::role_of;
use crate::pg::backend_local::BackendLocal;
use crate::pg::spi::{self, Query, argument};
use crate::pg::transaction;
use pg_tenancy_core::controls::approval::Person;
use pg_tenancy_core::controls::permission_set::{PermissionSet, Rule};
use pg_tenancy_core::controls::review::{Decision, Digest, Kind};
use pg_tenancy_core::error::{self, Error, Result};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

static BY_ID: Query = Query::new(
    "SELECT r.snapshot::text, r.about::text FROM tenancy.reviewable r
      WHERE r.organization = $1 AND r.kind = $2 AND r.id = $3",
);

static BY_PERSON: Query = Query::new(
    "SELECT r.snapshot::text, r.about::text FROM tenancy.reviewable r
      WHERE r.organization = $1 AND r.kind = $2 AND r.issuer = $3 AND r.name = $4",
);

static BY_NAME: Query = Query::new(
    "SELECT r.snapshot::text, r.about::text FROM tenancy.reviewable r
      WHERE r.organization = $1 AND r.kind = $2 AND r.name = $3",
);

/// The organization's own roles that items are about, or give. $2 is the organization, $3 numbers of items or NULL.
static HOLD_ROLES: Query = Query::new(
    "SELECT 1 FROM tenancy.role r
      WHERE r.organization = $2
        AND r.name IN (SELECT coalesce(i.what ->> 'role', i.change ->> 'role') FROM tenancy.review_item i
                        WHERE i.review = $1 AND ($3::integer[] IS NULL OR i.number = ANY ($3)))
      ORDER BY r.name FOR UPDATE",
);

static HOLD_MEMBERS: Query = Query::new(
    "SELECT 1 FROM tenancy.membership m
      WHERE m.organization = $2
        AND (m.issuer, m.subject) IN (SELECT i.what ->> 'issuer', i.what ->> 'subject' FROM tenancy.review_item i
                                       WHERE i.review = $1 AND i.outcome IS NULL
                                         AND CASE WHEN $3::integer[] IS NULL THEN i.decision <> 'keep'
                                                  ELSE i.number = ANY ($3) END)
      ORDER BY m.issuer, m.subject FOR UPDATE",
);

static HOLD_SECRETS: Query = Query::new(
    "SELECT 1 FROM tenancy.secret s
      WHERE s.organization = $2
        AND s.id IN (SELECT (i.what ->> 'secret')::uuid FROM tenancy.review_item i
                      WHERE i.review = $1 AND i.outcome IS NULL
                        AND CASE WHEN $3::integer[] IS NULL THEN i.decision <> 'keep'
                                 ELSE i.number = ANY ($3) END)
      ORDER BY s.id FOR UPDATE",
);

static TIME: Query = Query::new("SELECT $1::timestamptz");

/// What reviews need of other rooms, which need this one.
#[derive(Clone, Copy)]
pub struct Rooms {
    /// Destroys a secret of an organization, for a reason.
    pub destroy_secret: fn(organization: Uuid, secret: Uuid, reason: &str) -> Result<()>,
    /// Gives a secret of an organization another owner, who is an active member, for a reason.
    pub own_secret: fn(organization: Uuid, secret: Uuid, issuer: &str, subject: &str, reason: &str) -> Result<()>,
}

static ROOMS: BackendLocal<Cell<Option<Rooms>>> = BackendLocal::new(Cell::new(None));

/// Called once from `_PG_init`.
pub fn define(rooms: Rooms) {
    ROOMS.set(Some(rooms));
}

/// A state, with whom it is about.
pub struct CurrentState {
    pub snapshot: String,
    pub about: String,
}

impl CurrentState {
    pub fn digest(&self) -> Digest {
        Sha256::digest(self.snapshot.as_bytes()).into()
    }
}

fn text<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    value.get(name)?.as_str()
}

fn person(what: &Value) -> Option<Person> {
    Some(Person { issuer: text(what, "issuer")?.to_owned(), subject: text(what, "subject")?.to_owned() })
}

/// The id of what an item is about.
fn id(kind: Kind, what: &Value) -> Option<Uuid> {
    let name = match kind {
        Kind::Exceptions => "exception",
        Kind::Secrets => "secret",
        Kind::BreakGlass => "grant",
        Kind::ActionTypes => "request",
        Kind::Memberships | Kind::Roles => return None,
    };
    text(what, name)?.parse().ok()
}

fn unreadable() -> Error {
    error::STATE_INVALID.error("what an item of a review is about cannot be read")
}

/// The state of what an item is about, as it is committed and as this transaction has changed it; `None` once it is
/// gone.
pub fn current(review: &StoredReview, what: &Value) -> Result<Option<CurrentState>> {
    let mut arguments = vec![spi::uuid(review.organization), argument(review.kind.name())];
    let query = match review.kind {
        Kind::Memberships => {
            let person = person(what).ok_or_else(unreadable)?;
            arguments.extend([argument(person.issuer), argument(person.subject)]);
            &BY_PERSON
        }
        Kind::Roles => {
            arguments.push(argument(text(what, "role").ok_or_else(unreadable)?));
            &BY_NAME
        }
        kind => {
            arguments.push(spi::uuid(id(kind, what).ok_or_else(unreadable)?));
            &BY_ID
        }
    };
    let read =
        || query.read_by_index(&arguments, |row| Some(CurrentState { snapshot: row.get(1)?, about: row.get(2)? }));
    Ok(transaction::with_latest_snapshot(read).pop().flatten())
}

/// Keeps the roles that items name from changing. Everybody locks roles before the organization.
pub fn hold_roles(organization: Uuid, review: Uuid, numbers: Option<&[i32]>) {
    HOLD_ROLES.write(&held(organization, review, numbers), |_| ());
}

/// Keeps what is changed or revoked from changing otherwise until the end of the transaction. What is not named here
/// changes only for who holds the organization.
pub fn hold(review: &StoredReview, numbers: Option<&[i32]>) {
    let query = match review.kind {
        Kind::Memberships => &HOLD_MEMBERS,
        Kind::Secrets => &HOLD_SECRETS,
        Kind::Exceptions | Kind::Roles | Kind::BreakGlass | Kind::ActionTypes => return,
    };
    query.write(&held(review.organization, review.id, numbers), |_| ());
}

fn held(organization: Uuid, review: Uuid, numbers: Option<&[i32]>) -> [spi::Argument; 3] {
    [spi::uuid(review), spi::uuid(organization), argument(numbers.map(<[i32]>::to_vec))]
}

/// What a reviewer would change.
enum Change<'a> {
    Member(member::Change<'a>),
    Role { rules: Vec<Rule>, description: Option<&'a str> },
    Exception(exception::Amendment<'a>),
    Secret { issuer: &'a str, subject: &'a str },
}

impl<'a> Change<'a> {
    /// Reads a change, whose issuers are by default that of the reviewer.
    fn read(kind: Kind, change: &'a Value, reviewer: &'a Person) -> Result<Self> {
        let known: &[&str] = match kind {
            Kind::Memberships => &["role", "status", "valid_until"],
            Kind::Roles => &["permissions", "description"],
            Kind::Exceptions => &["expires_at", "reason", "owner_subject", "owner_issuer"],
            Kind::Secrets => &["owner_subject", "owner_issuer"],
            Kind::BreakGlass | Kind::ActionTypes => return Err(unreadable()),
        };
        let refuse = || {
            let message = format!("a change of {} is a JSON object with some of {}", kind.name(), known.join(", "));
            error::ARGUMENT_INVALID.error(message)
        };
        let members: &Map<String, Value> = change.as_object().filter(|object| !object.is_empty()).ok_or_else(refuse)?;
        if members.keys().any(|name| !known.contains(&name.as_str())) {
            return Err(refuse());
        }
        let text = |name: &str| members.get(name).map(|value| value.as_str().ok_or_else(refuse)).transpose();
        let time = |name: &str| text(name)?.map(|text| read_time(text).ok_or_else(refuse)).transpose();
        Ok(match kind {
            Kind::Memberships => Change::Member(member::Change {
                role: text("role")?,
                status: text("status")?,
                valid_until: time("valid_until")?,
            }),
            Kind::Roles => {
                let given = members.get("permissions").and_then(Value::as_array).ok_or_else(refuse)?;
                let given = given.iter().map(|rule| rule.as_str().map(str::to_owned)).collect();
                Change::Role { rules: role::rules(Some(given))?, description: text("description")? }
            }
            Kind::Exceptions => Change::Exception(exception::Amendment {
                expires_at: time("expires_at")?,
                reason: text("reason")?,
                owner: exception::Owner { subject: text("owner_subject")?, issuer: text("owner_issuer")? },
            }),
            _ => Change::Secret {
                issuer: text("owner_issuer")?.unwrap_or(&reviewer.issuer),
                subject: text("owner_subject")?.ok_or_else(refuse)?,
            },
        })
    }
}

/// Microseconds of a time, of which infinity is no end; `None` for a text that is none.
fn read_time(text: &str) -> Option<i64> {
    transaction::attempt(|| TIME.read(&[argument(text)], |row| row.timestamp(1)).pop().flatten()).ok().flatten()
}

/// Refuses a change that cannot be read, or that gives more than the reviewer holds.
pub fn check_change(review: &StoredReview, change: &Value, reviewer: Giver) -> Result<()> {
    match Change::read(review.kind, change, &reviewer.person())? {
        Change::Member(member::Change { role: Some(role), .. }) => {
            reviewer.must_hold("member", &role_of(review.organization, role)?.permissions)
        }
        Change::Role { rules, .. } => reviewer.must_hold("role", &rules.into_iter().collect::<PermissionSet>()),
        _ => Ok(()),
    }
}

/// Changes or revokes what an item is about, as was decided; returns what there is to say. The caller holds the
/// organization and what it is about, and acts as a superuser.
pub fn apply(review: &StoredReview, item: &StoredItem) -> Result<Option<String>> {
    let organization = review.organization;
    let (decision, by) = item.item.decided.as_ref().ok_or_else(unreadable)?;
    let reason = item.comment.as_deref().ok_or_else(unreadable)?;
    let rooms = ROOMS.get().ok_or_else(unreadable)?;
    let by_id = || id(review.kind, &item.what).ok_or_else(unreadable);
    let member = || person(&item.what).ok_or_else(unreadable);
    let role = || text(&item.what, "role").ok_or_else(unreadable);
    match (review.kind, decision) {
        (_, Decision::Keep) => (),
        (_, Decision::Change) => return apply_change(review, item, by, reason),
        (Kind::Memberships, Decision::Revoke) => member::drop_reviewed(organization, &member()?, reason)?,
        (Kind::Roles, Decision::Revoke) => audit::for_reason(Some(reason), || role::remove(organization, role()?))?,
        (Kind::Exceptions, Decision::Revoke) => exception::revoke_reviewed(organization, by_id()?, reason, by)?,
        (Kind::Secrets, Decision::Revoke) => (rooms.destroy_secret)(organization, by_id()?, reason)?,
        (Kind::BreakGlass, Decision::Revoke) => break_glass::revoke_reviewed(organization, by_id()?, reason, by)?,
        (Kind::ActionTypes, Decision::Revoke) => action_type::withdraw_reviewed(organization, by_id()?, reason, by)?,
    }
    Ok(None)
}

fn apply_change(review: &StoredReview, item: &StoredItem, by: &Person, reason: &str) -> Result<Option<String>> {
    let organization = review.organization;
    let by_id = || id(review.kind, &item.what).ok_or_else(unreadable);
    let change = item.change.as_ref().ok_or_else(unreadable)?;
    match Change::read(review.kind, change, by)? {
        Change::Member(change) => {
            let member = person(&item.what).ok_or_else(unreadable)?;
            member::change_reviewed(organization, &DecidedChange { member, change, reviewer: by }, reason)?;
        }
        Change::Role { rules, description } => {
            let name = text(&item.what, "role").ok_or_else(unreadable)?;
            audit::for_reason(Some(reason), || role::change_reviewed(organization, name, description, &rules, by))?;
        }
        Change::Exception(amendment) => {
            let asked = exception::ask_instead(organization, by_id()?, by.clone(), &amendment)?;
            return Ok(Some(format!("asked for as exception {asked}")));
        }
        Change::Secret { issuer, subject } => {
            let rooms = ROOMS.get().ok_or_else(unreadable)?;
            (rooms.own_secret)(organization, by_id()?, issuer, subject, reason)?;
        }
    }
    Ok(None)
}

/// What the items can be changed by in one statement, as several by [`apply_together`] and as one by [`apply`] with the
/// same end: neighbours for which that is the same text.
pub struct Grouping<'r> {
    review: &'r StoredReview,
    /// Who decided: what they hold may change with their own membership.
    reviewers: HashSet<&'r Person>,
    /// Whether a role permits everything. The last of its members stays, so the order of changes matters.
    permits_everything: RefCell<HashMap<String, bool>>,
}

impl<'r> Grouping<'r> {
    pub fn new(review: &'r StoredReview, items: impl Iterator<Item = &'r StoredItem>) -> Self {
        let reviewers = items.filter_map(|item| item.item.decided.as_ref().map(|(_, by)| by)).collect();
        Grouping { review, reviewers, permits_everything: RefCell::default() }
    }

    /// The comment of items that can be changed together; `None` for one that is applied alone.
    pub fn of<'i>(&self, item: &'i StoredItem) -> Option<&'i str> {
        let is_change = matches!(item.item.decided, Some((Decision::Change, _)));
        let alone = self.review.kind != Kind::Memberships
            || !is_change
            || self.reviewers.contains(&person(&item.what)?)
            || self.permits_everything(item)?;
        if alone { None } else { item.comment.as_deref() }
    }

    /// Of the role that the member has, which is that of the snapshot: nothing else is applied.
    fn permits_everything(&self, item: &StoredItem) -> Option<bool> {
        let snapshot: Value = serde_json::from_str(&item.snapshot).ok()?;
        let role = text(&snapshot, "role")?;
        if let Some(known) = self.permits_everything.borrow().get(role) {
            return Some(*known);
        }
        let permits = role_of(self.review.organization, role).ok()?.permissions.is_all();
        self.permits_everything.borrow_mut().insert(role.to_owned(), permits);
        Some(permits)
    }
}

/// As [`apply`] of each item, by one statement: members with the same comment. Returns what the rules say of each.
pub fn apply_together(review: &StoredReview, items: &[&StoredItem]) -> Result<Vec<Result<()>>> {
    let reason = items.first().and_then(|item| item.comment.as_deref()).ok_or_else(unreadable)?;
    let decided = items.iter().map(|item| {
        let (_, reviewer) = item.item.decided.as_ref().ok_or_else(unreadable)?;
        match Change::read(review.kind, item.change.as_ref().ok_or_else(unreadable)?, reviewer)? {
            Change::Member(change) => {
                Ok(DecidedChange { member: person(&item.what).ok_or_else(unreadable)?, change, reviewer })
            }
            _ => Err(unreadable()),
        }
    });
    member::change_all_reviewed(review.organization, &decided.collect::<Result<Vec<_>>>()?, reason)
}

/// Ends an exception that nobody decided about.
pub fn lapse(review: &StoredReview, item: &StoredItem) -> Result<()> {
    exception::lapse(review.organization, id(review.kind, &item.what).ok_or_else(unreadable)?)
}
