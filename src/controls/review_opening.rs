//! Opening reviews: by a member, and by a schedule.

use super::alert::raise_alert;
use super::review::{DECIDE, DOMAIN, OPEN, acting, hold, record};
use super::review_row::{StoredReview, by_id, described, people};
use super::{guard, input};
use crate::identity::{hold_organization, is_active_member, permissions_now};
use crate::pg::json::Jsonb;
use crate::pg::report::OrRaise;
use crate::pg::spi::{self, Query, Row, argument};
use crate::pg::{clock, transaction, user};
use pg_tenancy_core::audit::format::event::time_ordered_id;
use pg_tenancy_core::audit::format::timestamp;
use pg_tenancy_core::controls::alert::AlertKind;
use pg_tenancy_core::controls::approval::Person;
use pg_tenancy_core::controls::review::{Kind, MAX_ITEMS, next_after};
use pg_tenancy_core::error::{self, Error, Result, require_not_null};
use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::pg_extern;
use rand::RngExt as _;
use serde_json::{Value, json};
use uuid::Uuid;

const DAY: i64 = 24 * 60 * 60 * 1_000_000;
const LONGEST: i64 = 366 * DAY;
const MAX_REVIEWERS: usize = 1000;

/// What a review is of. $2 is the organization, $3 the kind, $5 the filter, $13 how many items are read at most.
macro_rules! to_review {
    ($columns:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM tenancy.reviewable r
               WHERE r.organization = $2 AND r.kind = $3 AND r.snapshot @> $5::jsonb
                 AND NOT ($3 = 'break_glass'
                          AND EXISTS (SELECT FROM tenancy.review_item p JOIN tenancy.review v ON v.id = p.review
                                       WHERE p.organization = $2 AND p.what = r.what
                                         AND p.outcome IN ('kept', 'applied') AND v.state = 'closed'))
               LIMIT $13"
        )
    };
}

/// Review and items in one statement, so that all of it is of one snapshot. An item goes to the reviewers in turn; one
/// that is about the reviewer whose turn it is goes to the next.
static OPEN_REVIEW: Query = Query::new(concat!(
    "WITH item AS (",
    to_review!("row_number() OVER (ORDER BY r.id, r.issuer, r.name)::integer AS number, r.what, r.about, r.snapshot"),
    "),
     added AS (
         INSERT INTO tenancy.review_item (review, number, organization, what, about, snapshot, snapshot_digest,
                                          opening_digest, assignee_issuer, assignee_subject)
         SELECT $1, i.number, $2, i.what, i.about, i.snapshot, d.digest, d.digest, a.issuer, a.subject
           FROM item i
          CROSS JOIN LATERAL (SELECT sha256(convert_to(i.snapshot::text, 'UTF8')) AS digest OFFSET 0) d
           LEFT JOIN LATERAL (
                SELECT w.issuer, w.subject
                  FROM ROWS FROM (unnest($6::text[]), unnest($7::text[])) WITH ORDINALITY AS w (issuer, subject, place)
                 WHERE NOT i.about @> jsonb_build_array(jsonb_build_object('issuer', w.issuer, 'subject', w.subject))
                 ORDER BY (w.place + cardinality($6) - i.number % cardinality($6)) % cardinality($6)
                 LIMIT 1) a ON true
         RETURNING number, opening_digest),
     total AS (
         SELECT count(*)::integer AS items, sha256(string_agg(opening_digest, '' ORDER BY number)) AS digest FROM added)
     INSERT INTO tenancy.review (id, organization, kind, title, state, filter, reviewer_issuers, reviewer_subjects,
                                 due_at, items, items_digest, schedule, opened_at, opened_issuer, opened_subject)
     SELECT $1, $2, $3, $4, 'open', $5::jsonb, $6, $7, $8, t.items, t.digest, $9, $10, $11, $12
       FROM total t WHERE t.items BETWEEN 1 AND $13 - 1
     RETURNING 1"
));

/// Whether the items of the review $1 are what there is to review.
static IS_COMPLETE: Query = Query::new(concat!(
    "WITH found AS (",
    to_review!("r.id, r.issuer, r.name, sha256(convert_to(r.snapshot::text, 'UTF8')) AS digest"),
    ") SELECT 1 FROM tenancy.review v
        WHERE v.id = $1
          AND v.items_digest = (SELECT sha256(string_agg(f.digest, '' ORDER BY f.id, f.issuer, f.name)) FROM found f)"
));

/// What the statement before would have found.
static COUNT: Query = Query::new(
    "SELECT count(*) FROM (SELECT FROM tenancy.reviewable r
                            WHERE r.organization = $1 AND r.kind = $2 AND r.snapshot @> $3::jsonb LIMIT $4) r",
);

static ISSUERS: Query = Query::new("SELECT issuer FROM tenancy.issuer ORDER BY octet_length(issuer) DESC");

static SCHEDULE: Query = Query::new(
    "INSERT INTO tenancy.review_schedule (id, organization, kind, every, due_after, filter, reviewer_issuers,
                                          reviewer_subjects, next_at, scheduled_at, scheduled_issuer,
                                          scheduled_subject)
     VALUES ($1, $2, $3, $4 * interval '1 microsecond', $5 * interval '1 microsecond', $6::jsonb, $7, $8, $9, $9, $10,
             $11)
     ON CONFLICT ON CONSTRAINT review_schedule_organization_kind_filter_key DO UPDATE
        SET every = EXCLUDED.every, due_after = EXCLUDED.due_after, reviewer_issuers = EXCLUDED.reviewer_issuers,
            reviewer_subjects = EXCLUDED.reviewer_subjects,
            next_at = least(review_schedule.next_at, EXCLUDED.scheduled_at + EXCLUDED.every),
            scheduled_at = EXCLUDED.scheduled_at, scheduled_issuer = EXCLUDED.scheduled_issuer,
            scheduled_subject = EXCLUDED.scheduled_subject
     RETURNING id",
);

static END_SCHEDULE: Query =
    Query::new("DELETE FROM tenancy.review_schedule WHERE organization = $1 AND id = $2 RETURNING kind");

static DUE: Query = Query::new(
    "SELECT organization, id FROM tenancy.review_schedule WHERE next_at <= $1 ORDER BY organization, id LIMIT $2",
);

static DUE_ONE: Query = Query::new(
    "SELECT kind, (extract(epoch FROM every) * 1000000)::bigint, (extract(epoch FROM due_after) * 1000000)::bigint,
            filter::text, reviewer_issuers, reviewer_subjects, next_at
       FROM tenancy.review_schedule WHERE organization = $1 AND id = $2 AND next_at <= $3 FOR UPDATE",
);

static OPENED: Query = Query::new("UPDATE tenancy.review_schedule SET next_at = $2 WHERE id = $1 RETURNING 1");

/// `tenancy.open_review(kind, title, due_at, reviewers, filter)`: the id of the review.
#[pg_extern(sql = false)]
fn tenancy_open_review(
    kind: Option<&str>,
    title: Option<&str>,
    due_at: Option<TimestampWithTimeZone>,
    reviewers: Option<Vec<Option<String>>>,
    filter: Option<Jsonb>,
) -> pgrx::Uuid {
    let id = open(kind, title, due_at.map(transaction::microseconds), reviewers, filter).or_raise();
    pgrx::Uuid::from_bytes(*id.as_bytes())
}

/// `tenancy.schedule_review(kind, every, due_after, reviewers, filter)`: the id of the schedule.
#[pg_extern(sql = false)]
fn tenancy_schedule_review(
    kind: Option<&str>,
    every: Option<Interval>,
    due_after: Option<Interval>,
    reviewers: Option<Vec<Option<String>>>,
    filter: Option<Jsonb>,
) -> pgrx::Uuid {
    pgrx::Uuid::from_bytes(*schedule(kind, every, due_after, reviewers, filter).or_raise().as_bytes())
}

/// `tenancy.end_review_schedule(schedule, reason)`.
#[pg_extern(sql = false)]
fn tenancy_end_review_schedule(schedule: Option<pgrx::Uuid>, reason: Option<&str>) {
    end_schedule(schedule, reason).or_raise();
}

/// What a review is to be of.
struct Wish {
    organization: Uuid,
    kind: Kind,
    title: String,
    due_at: i64,
    /// The text of a JSON object.
    filter: String,
    reviewers: Vec<Person>,
    schedule: Option<Uuid>,
    by: Option<Person>,
}

fn open(
    kind: Option<&str>,
    title: Option<&str>,
    due_at: Option<i64>,
    reviewers: Option<Vec<Option<String>>>,
    filter: Option<Jsonb>,
) -> Result<Uuid> {
    let (context, by) = acting(OPEN)?;
    let kind = read_kind(kind)?;
    let (title, filter) = (input::text(title, "title")?, read_filter(kind, filter)?);
    let due_at = require_not_null(due_at, "due_at")?;
    let organization = context.organization.id;
    user::as_superuser(|| {
        hold(&context, OPEN)?;
        let now = clock::now();
        if due_at <= now || due_at.saturating_sub(now) > LONGEST {
            return Err(error::ARGUMENT_INVALID.error("due_at is in the future, and at most 366 days away"));
        }
        let reviewers = read_reviewers(organization, &by.issuer, reviewers, now)?;
        let title = title.to_owned();
        let wish = Wish { organization, kind, title, due_at, filter, reviewers, schedule: None, by: Some(by) };
        wish.open(now)?.map_err(|nothing| error::ARGUMENT_INVALID.error(nothing))
    })
}

impl Wish {
    /// Opens the review, or says why there is none to open. The caller holds the organization.
    fn open(&self, now: i64) -> Result<std::result::Result<Uuid, String>> {
        let id = time_ordered_id(now, rand::rng().random());
        let (issuers, subjects) = columns(&self.reviewers);
        let row = [
            spi::uuid(id),
            spi::uuid(self.organization),
            argument(self.kind.name()),
            argument(self.title.as_str()),
            argument(self.filter.as_str()),
            argument(issuers),
            argument(subjects),
            spi::timestamp(self.due_at),
            spi::uuid(self.schedule),
            spi::timestamp(now),
            argument(self.by.as_ref().map(|by| by.issuer.as_str())),
            argument(self.by.as_ref().map(|by| by.subject.as_str())),
            argument(MAX_ITEMS + 1),
        ];
        if guard::writing(|| OPEN_REVIEW.write(&row, |_| ())).is_empty() {
            return self.nothing().map(Err);
        }
        transaction::next_command();
        // A snapshot that is older than a change by somebody else does not show what there is now.
        let is_complete = || !IS_COMPLETE.read(&row, |_| ()).is_empty();
        if !transaction::sees_commits() && !transaction::with_latest_snapshot(is_complete) {
            let message = "what is to be reviewed has changed after this transaction had begun";
            return Err(error::APPROVAL_CONFLICT.error(message));
        }
        let review = by_id(self.organization, id)?;
        self.record(&review)?;
        raise_alert(self.organization, DOMAIN, AlertKind::ReviewOpened, review.described());
        Ok(Ok(id))
    }

    fn nothing(&self) -> Result<String> {
        let key = [
            spi::uuid(self.organization),
            argument(self.kind.name()),
            argument(self.filter.as_str()),
            argument(MAX_ITEMS + 1),
        ];
        let found = COUNT.read(&key, |row| row.get::<i64>(1)).pop().flatten().unwrap_or_default();
        Ok(if found > MAX_ITEMS {
            format!("a review has at most {MAX_ITEMS} items; a filter narrows it")
        } else {
            format!("there is nothing to review as {} with this filter", self.kind.name())
        })
    }

    fn record(&self, review: &StoredReview) -> Result<()> {
        let mut new = review.described();
        new["filter"] = serde_json::from_str(&self.filter).unwrap_or_default();
        new["reviewers"] = self.reviewers.iter().map(|reviewer| described(Some(reviewer))).collect();
        new["schedule"] = json!(self.schedule);
        record(self.organization, "review_opened", None, &new)
    }
}

fn columns(people: &[Person]) -> (Vec<String>, Vec<String>) {
    people.iter().map(|person| (person.issuer.clone(), person.subject.clone())).unzip()
}

fn read_kind(kind: Option<&str>) -> Result<Kind> {
    Kind::parse(require_not_null(kind, "kind")?).ok_or_else(|| {
        let known: Vec<&str> = Kind::ALL.into_iter().map(Kind::name).collect();
        error::ARGUMENT_INVALID.error(format!("the kind of a review is one of {}", known.join(", ")))
    })
}

/// A filter of members that the snapshots of the kind have.
fn read_filter(kind: Kind, filter: Option<Jsonb>) -> Result<String> {
    let Jsonb(text) = require_not_null(filter, "filter")?;
    let known = kind.members();
    let filter = serde_json::from_str(&text).ok().filter(|filter: &Value| {
        let plain = |value: &Value| value.is_string() || value.is_boolean();
        let member = |(name, value): (&String, &Value)| known.contains(&name.as_str()) && plain(value);
        filter.as_object().is_some_and(|members| members.iter().all(member))
    });
    let message = || format!("the filter is a JSON object with texts and booleans of {}", known.join(", "));
    filter.map(|_| text).ok_or_else(|| error::ARGUMENT_INVALID.error(message()))
}

/// Reviewers as a caller names them: active members who may decide.
fn read_reviewers(
    organization: Uuid,
    own_issuer: &str,
    reviewers: Option<Vec<Option<String>>>,
    now: i64,
) -> Result<Vec<Person>> {
    let invalid = |rule: String| error::ARGUMENT_INVALID.error(rule);
    let Some(given) = reviewers else { return Ok(Vec::new()) };
    if !(1..=MAX_REVIEWERS).contains(&given.len()) {
        return Err(invalid(format!("reviewers names 1 to {MAX_REVIEWERS} people")));
    }
    let issuers: Vec<String> = ISSUERS.read(&[], |row| row.get(1)).into_iter().flatten().collect();
    let mut people: Vec<Person> = Vec::new();
    for text in given {
        let text = require_not_null(text, "a reviewer")?;
        let named = issuers.iter().find_map(|issuer| Some((issuer, text.strip_prefix(issuer)?.strip_prefix(' ')?)));
        let person = match named {
            Some((issuer, subject)) => Person { issuer: issuer.clone(), subject: subject.to_owned() },
            None if issuers.len() == 1 => Person { issuer: own_issuer.to_owned(), subject: text },
            None => {
                let rule = format!("reviewer \"{text}\" is to be written as issuer and subject, with a blank between");
                return Err(invalid(rule));
            }
        };
        if !may_review(organization, &person, now) {
            let rule = format!("\"{}\" is no active member with the permission {DOMAIN}:{DECIDE}", person.subject);
            return Err(invalid(rule));
        }
        if !people.contains(&person) {
            people.push(person);
        }
    }
    Ok(people)
}

fn may_review(organization: Uuid, person: &Person, now: i64) -> bool {
    is_active_member(organization, &person.issuer, &person.subject, now)
        && permissions_now(organization, &person.issuer, &person.subject)
            .is_some_and(|permissions| permissions.allows(DOMAIN, DECIDE))
}

fn schedule(
    kind: Option<&str>,
    every: Option<Interval>,
    due_after: Option<Interval>,
    reviewers: Option<Vec<Option<String>>>,
    filter: Option<Jsonb>,
) -> Result<Uuid> {
    let (context, by) = acting(OPEN)?;
    let kind = read_kind(kind)?;
    let filter = read_filter(kind, filter)?;
    let microseconds = |given: Option<Interval>, what: &str| -> Result<i64> {
        Ok(i64::try_from(require_not_null(given, what)?.as_micros()).unwrap_or(i64::MAX))
    };
    let (every, due_after) = (microseconds(every, "every")?, microseconds(due_after, "due_after")?);
    if !(DAY..=LONGEST).contains(&every) {
        return Err(error::ARGUMENT_INVALID.error("every is 1 to 366 days"));
    }
    if !(1..=every).contains(&due_after) {
        return Err(error::ARGUMENT_INVALID.error("due_after is more than 0, and at most as long as every"));
    }
    let organization = context.organization.id;
    user::as_superuser(|| {
        hold(&context, OPEN)?;
        let now = clock::now();
        let reviewers = read_reviewers(organization, &by.issuer, reviewers, now)?;
        let (issuers, subjects) = columns(&reviewers);
        let row = [
            spi::uuid(time_ordered_id(now, rand::rng().random())),
            spi::uuid(organization),
            argument(kind.name()),
            argument(every),
            argument(due_after),
            argument(filter.as_str()),
            argument(issuers),
            argument(subjects),
            spi::timestamp(now),
            argument(by.issuer.as_str()),
            argument(by.subject.as_str()),
        ];
        let id = guard::writing(|| SCHEDULE.write(&row, |row| row.uuid(1))).pop().flatten().ok_or_else(unreadable)?;
        let reviewers: Vec<Value> = reviewers.iter().map(|reviewer| described(Some(reviewer))).collect();
        let new = json!({
            "schedule": id,
            "kind": kind.name(),
            "every_seconds": every / 1_000_000,
            "due_after_seconds": due_after / 1_000_000,
            "filter": serde_json::from_str::<Value>(&filter).unwrap_or_default(),
            "reviewers": reviewers,
        });
        record(organization, "review_scheduled", None, &new)?;
        Ok(id)
    })
}

fn end_schedule(schedule: Option<pgrx::Uuid>, reason: Option<&str>) -> Result<()> {
    let (context, _) = acting(OPEN)?;
    let (id, reason) = (input::id(schedule, "schedule")?, input::reason(reason)?);
    let organization = context.organization.id;
    user::as_superuser(|| {
        hold(&context, OPEN)?;
        let row = [spi::uuid(organization), spi::uuid(id)];
        let kind = guard::writing(|| END_SCHEDULE.write(&row, |row| row.get::<String>(1))).pop().flatten();
        let kind = kind.ok_or_else(|| error::NOT_FOUND.error(format!("there is no review schedule {id}")))?;
        record(organization, "review_schedule_ended", Some(reason), &json!({ "schedule": id, "kind": kind }))
    })
}

fn unreadable() -> Error {
    error::STATE_INVALID.error("a review schedule cannot be read")
}

/// A schedule whose time has come.
struct DueSchedule {
    kind: Kind,
    every: i64,
    due_after: i64,
    filter: String,
    reviewers: Vec<Person>,
    next_at: i64,
}

impl DueSchedule {
    fn read(row: &Row) -> Option<Self> {
        Some(DueSchedule {
            kind: Kind::parse(&row.get::<String>(1)?)?,
            every: row.get(2)?,
            due_after: row.get(3)?,
            filter: row.get(4)?,
            reviewers: people(row.get(5)?, row.get(6)?),
            next_at: row.timestamp(7)?,
        })
    }
}

/// Opens the reviews whose time has come by their schedules, at most so many; returns how many.
pub fn open_due(now: i64, at_most: i64) -> Result<i64> {
    let arguments = [spi::timestamp(now), argument(at_most)];
    let due = transaction::with_latest_snapshot(|| DUE.read(&arguments, |row| Some((row.uuid(1)?, row.uuid(2)?))));
    let mut opened = 0;
    for due in due {
        let (organization, id) = due.ok_or_else(unreadable)?;
        hold_organization(organization);
        // Somebody else may have come first.
        let key = [spi::uuid(organization), spi::uuid(id), spi::timestamp(now)];
        let Some(due) = DUE_ONE.write(&key, DueSchedule::read).pop() else { continue };
        opened += i64::from(open_one(organization, id, due.ok_or_else(unreadable)?, now)?);
    }
    Ok(opened)
}

/// Opens one; returns whether there was something to review.
fn open_one(organization: Uuid, id: Uuid, due: DueSchedule, now: i64) -> Result<bool> {
    let DueSchedule { kind, every, due_after, filter, reviewers, next_at } = due;
    let wish = Wish {
        organization,
        kind,
        title: format!("{} of {}", kind.name(), &timestamp::text(now)[.."2026-01-31".len()]),
        due_at: now.saturating_add(due_after),
        filter,
        reviewers: reviewers.into_iter().filter(|person| may_review(organization, person, now)).collect(),
        schedule: Some(id),
        by: None,
    };
    let opened = wish.open(now)?;
    let row = [spi::uuid(id), spi::timestamp(next_after(next_at, every, now))];
    guard::writing(|| OPENED.write(&row, |_| ()));
    if let Err(nothing) = &opened {
        let new = json!({ "schedule": id, "kind": kind.name(), "items": 0 });
        record(organization, "review_skipped", Some(nothing), &new)?;
    }
    Ok(opened.is_ok())
}
