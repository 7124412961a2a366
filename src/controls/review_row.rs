//! Rows of `tenancy.review` and `tenancy.review_item`.

use super::guard;
use crate::pg::settings::scoped::with_settings;
use crate::pg::spi::{self, Argument, Query, Row, argument};
use crate::pg::transaction;
use pg_tenancy_core::audit::format::{hex, timestamp};
use pg_tenancy_core::controls::approval::Person;
use pg_tenancy_core::controls::review::{Assignee, Decision, Digest, Item, Kind, Outcome, State};
use pg_tenancy_core::error::{self, Error, Result};
use serde_json::{Value, json};
use std::ffi::CStr;
use uuid::Uuid;

static BY_ID: Query = Query::new(
    "SELECT id, organization, kind, title, state, filter::text, reviewer_issuers, reviewer_subjects, due_at, items,
            items_digest, schedule, opened_at, opened_issuer, opened_subject, closed_at, closed_issuer, closed_subject,
            close_reason, report_digest
       FROM tenancy.review WHERE organization = $1 AND id = $2",
);

/// A query of items, whose columns [`StoredItem::read`] knows by their numbers.
macro_rules! items {
    ($state:literal, $joined:literal, $condition:literal) => {
        concat!(
            "SELECT i.number, i.what::text, i.about::text, i.snapshot::text, i.snapshot_digest, i.opening_digest,
                    i.assignee_issuer, i.assignee_subject, i.decision, i.change::text, i.comment, i.evidence,
                    i.decided_at, i.decided_issuer, i.decided_subject, i.outcome, i.detail, ",
            $state,
            " FROM tenancy.review_item i ",
            $joined,
            " WHERE i.review = $1 ",
            $condition,
            " ORDER BY i.number"
        )
    };
}

/// By a join: for the order, the planner would read all numbers of the review rather than look up those of an array.
static SOME: Query =
    Query::new(items!("NULL::bytea", "JOIN unnest($2::integer[]) AS n (number) ON n.number = i.number", ""));

/// To compile such a query takes longer than to run it.
const NOT_COMPILED: (&CStr, &CStr) = (c"jit", c"off");

/// The items with the digests of what they are about, as it is now. $2 is the organization, $3 the kind.
const WITH_STATES: &str = items!(
    "r.digest",
    "LEFT JOIN (SELECT w.what, sha256(convert_to(w.snapshot::text, 'UTF8')) AS digest FROM tenancy.reviewable w
                 WHERE w.organization = $2 AND w.kind = $3) r ON r.what = i.what",
    ""
);

/// The same of memberships, each found by its key: an organization may have many more than the review has. OFFSET keeps
/// the planner from a join with all of them.
const MEMBERS_WITH_STATES: &str = items!(
    "r.digest",
    "LEFT JOIN LATERAL (SELECT sha256(convert_to(w.snapshot::text, 'UTF8')) AS digest FROM tenancy.reviewable w
                         WHERE w.organization = $2 AND w.kind = $3 AND w.issuer = i.what ->> 'issuer'
                           AND w.name = i.what ->> 'subject' OFFSET 0) r ON true",
    ""
);

const WITHOUT_STATES: &str = items!("NULL::bytea", "", "");

static UNDECIDED: Query = Query::new(
    "SELECT count(*) FROM tenancy.review_item i WHERE i.review = $1 AND i.decision IS NULL AND i.outcome IS NULL",
);

static DECIDE: Query = Query::new(
    "UPDATE tenancy.review_item
        SET decision = $3, comment = $4, change = $5::jsonb, evidence = $6, decided_at = $7, decided_issuer = $8,
            decided_subject = $9
      WHERE review = $1 AND number = ANY ($2) RETURNING 1",
);

static REFRESH: Query = Query::new(
    "UPDATE tenancy.review_item
        SET snapshot = $3::jsonb, about = $4::jsonb, snapshot_digest = $5, decision = NULL, comment = NULL,
            change = NULL, evidence = NULL, decided_at = NULL, decided_issuer = NULL, decided_subject = NULL
      WHERE review = $1 AND number = $2 RETURNING 1",
);

static ASSIGN: Query = Query::new(
    "UPDATE tenancy.review_item SET assignee_issuer = $3, assignee_subject = $4
      WHERE review = $1 AND number = ANY ($2) RETURNING 1",
);

static OUTCOMES: Query = Query::new(
    "UPDATE tenancy.review_item i SET outcome = u.outcome, detail = u.detail
       FROM ROWS FROM (unnest($2::integer[]), unnest($3::text[]), unnest($4::text[])) AS u (number, outcome, detail)
      WHERE i.review = $1 AND i.number = u.number RETURNING 1",
);

static END: Query = Query::new(
    "UPDATE tenancy.review
        SET state = $2, closed_at = $3, closed_issuer = $4, closed_subject = $5, close_reason = $6, report_digest = $7
      WHERE id = $1 RETURNING 1",
);

/// A review as it is stored.
pub struct StoredReview {
    pub id: Uuid,
    pub organization: Uuid,
    pub kind: Kind,
    pub title: String,
    pub state: State,
    /// The text of a JSON object.
    pub filter: String,
    pub reviewers: Vec<Person>,
    pub due_at: i64,
    pub items: i32,
    pub items_digest: Digest,
    pub schedule: Option<Uuid>,
    pub opened_at: i64,
    pub opened_by: Option<Person>,
    pub closed_at: Option<i64>,
    pub closed_by: Option<Person>,
    pub close_reason: Option<String>,
    pub report_digest: Option<Digest>,
}

/// An item as it is stored.
pub struct StoredItem {
    pub number: i32,
    pub what: Value,
    /// As Postgres writes it, which is what its digest is of.
    pub snapshot: String,
    pub opening_digest: Digest,
    pub item: Item,
    pub change: Option<Value>,
    pub comment: Option<String>,
    pub evidence: Option<Vec<Uuid>>,
    pub decided_at: Option<i64>,
    pub detail: Option<String>,
    /// Of what it is about, as it is now; `None` if that is gone, or was not asked for.
    pub now: Option<Digest>,
}

/// What a reviewer says of items.
pub struct Said<'a> {
    pub decision: Decision,
    pub comment: &'a str,
    pub change: Option<&'a Value>,
    pub evidence: &'a [Uuid],
    pub by: &'a Person,
    pub at: i64,
}

/// The review with this id, if it is of the organization.
pub fn by_id(organization: Uuid, id: Uuid) -> Result<StoredReview> {
    let arguments = [spi::uuid(organization), spi::uuid(id)];
    let found = transaction::with_latest_snapshot(|| BY_ID.read(&arguments, StoredReview::read)).pop();
    found.ok_or_else(|| error::NOT_FOUND.error(format!("there is no review {id}")))?.ok_or_else(unreadable)
}

fn unreadable() -> Error {
    error::STATE_INVALID.error("a review cannot be read")
}

/// People of two columns, in their order.
pub fn people(issuers: Vec<String>, subjects: Vec<String>) -> Vec<Person> {
    issuers.into_iter().zip(subjects).map(|(issuer, subject)| Person { issuer, subject }).collect()
}

/// A person of two columns, which may be NULL.
fn person(row: &Row, issuer: i32, subject: i32) -> Option<Person> {
    Some(Person { issuer: row.get(issuer)?, subject: row.get(subject)? })
}

/// As events and reports have a person.
pub fn described(person: Option<&Person>) -> Value {
    person.map_or(Value::Null, |person| json!({ "issuer": person.issuer, "subject": person.subject }))
}

impl StoredReview {
    fn read(row: &Row) -> Option<Self> {
        Some(StoredReview {
            id: row.uuid(1)?,
            organization: row.uuid(2)?,
            kind: Kind::parse(&row.get::<String>(3)?)?,
            title: row.get(4)?,
            state: State::parse(&row.get::<String>(5)?)?,
            filter: row.get(6)?,
            reviewers: people(row.get(7)?, row.get(8)?),
            due_at: row.timestamp(9)?,
            items: row.get(10)?,
            items_digest: row.bytes(11)?,
            schedule: row.uuid(12),
            opened_at: row.timestamp(13)?,
            opened_by: person(row, 14, 15),
            closed_at: row.timestamp(16),
            closed_by: person(row, 17, 18),
            close_reason: row.get(19),
            report_digest: row.bytes(20),
        })
    }

    /// What events and alerts have of it.
    pub fn described(&self) -> Value {
        json!({
            "review": self.id,
            "kind": self.kind.name(),
            "title": self.title,
            "state": self.state.name(),
            "due_at": timestamp::text(self.due_at),
            "items": self.items,
            "items_digest": hex::encode(&self.items_digest),
        })
    }

    /// The items with these numbers, in their order.
    ///
    /// Errors: [`error::NOT_FOUND`] for a number that no item has.
    pub fn items(&self, numbers: &[i32]) -> Result<Vec<StoredItem>> {
        let arguments = [spi::uuid(self.id), argument(numbers.to_vec())];
        let read = || SOME.read_by_index(&arguments, |row| StoredItem::read(self, row));
        let found = transaction::with_latest_snapshot(read).into_iter().collect::<Option<Vec<_>>>();
        let found = found.ok_or_else(unreadable)?;
        let missing = numbers.iter().find(|number| !found.iter().any(|item| item.number == **number));
        match missing {
            Some(number) => Err(error::NOT_FOUND.error(format!("review {} has no item {number}", self.id))),
            None => Ok(found),
        }
    }

    /// Every item in the order of the numbers, a batch in memory at a time; with the states as they are now, if asked.
    pub fn each_item(&self, with_states: bool, mut each: impl FnMut(StoredItem) -> Result<()>) -> Result<()> {
        let mut arguments = vec![spi::uuid(self.id)];
        if with_states {
            arguments.extend([spi::uuid(self.organization), argument(self.kind.name())]);
        }
        let (text, settings): (_, &[_]) = match self.kind {
            _ if !with_states => (WITHOUT_STATES, &[NOT_COMPILED]),
            Kind::Memberships => (MEMBERS_WITH_STATES, &[NOT_COMPILED, (c"enable_seqscan", c"off")]),
            _ => (WITH_STATES, &[NOT_COMPILED]),
        };
        transaction::with_latest_snapshot(|| {
            let mut each = |row: &Row| each(StoredItem::read(self, row).ok_or_else(unreadable)?);
            with_settings(settings, || spi::stream(text, &arguments, &mut each))
        })
    }

    /// How many items nobody has decided about.
    pub fn undecided(&self) -> i64 {
        let counted = || UNDECIDED.read(&[spi::uuid(self.id)], |row| row.get::<i64>(1));
        transaction::with_latest_snapshot(counted).pop().flatten().unwrap_or_default()
    }

    /// Stores a decision about items.
    pub fn store_decision(&self, numbers: &[i32], said: &Said) -> Result<()> {
        let evidence: Vec<_> = said.evidence.iter().map(|id| pgrx::Uuid::from_bytes(*id.as_bytes())).collect();
        let row = [
            spi::uuid(self.id),
            argument(numbers.to_vec()),
            argument(said.decision.name()),
            argument(said.comment),
            argument(said.change.map(Value::to_string)),
            argument(evidence),
            spi::timestamp(said.at),
            argument(said.by.issuer.as_str()),
            argument(said.by.subject.as_str()),
        ];
        self.all_found(numbers.len(), &DECIDE, &row)
    }

    /// Stores the state of an item that is decided about from now on.
    pub fn store_refreshed(&self, number: i32, snapshot: &str, about: &str, digest: Digest) -> Result<()> {
        let row =
            [spi::uuid(self.id), argument(number), argument(snapshot), argument(about), argument(digest.as_slice())];
        self.all_found(1, &REFRESH, &row)
    }

    /// Stores who decides about items.
    pub fn store_assignee(&self, numbers: &[i32], to: &Person) -> Result<()> {
        let row = [
            spi::uuid(self.id),
            argument(numbers.to_vec()),
            argument(to.issuer.as_str()),
            argument(to.subject.as_str()),
        ];
        self.all_found(numbers.len(), &ASSIGN, &row)
    }

    /// Stores what became of items.
    pub fn store_outcomes(&self, outcomes: &[(i32, Outcome, Option<String>)]) -> Result<()> {
        let row = [
            spi::uuid(self.id),
            argument(outcomes.iter().map(|(number, ..)| *number).collect::<Vec<_>>()),
            argument(outcomes.iter().map(|(_, outcome, _)| outcome.name()).collect::<Vec<_>>()),
            argument(outcomes.iter().map(|(.., detail)| detail.clone()).collect::<Vec<_>>()),
        ];
        self.all_found(outcomes.len(), &OUTCOMES, &row)
    }

    /// Stores that the review is over.
    pub fn store_end(&self) -> Result<()> {
        let row = [
            spi::uuid(self.id),
            argument(self.state.name()),
            spi::timestamp(self.closed_at),
            argument(self.closed_by.as_ref().map(|by| by.issuer.as_str())),
            argument(self.closed_by.as_ref().map(|by| by.subject.as_str())),
            argument(self.close_reason.as_deref()),
            argument(self.report_digest.as_ref().map(|digest| digest.as_slice())),
        ];
        self.all_found(1, &END, &row)
    }

    /// A transaction whose snapshot is older than a row does not find it.
    fn all_found(&self, expected: usize, query: &Query, row: &[Argument]) -> Result<()> {
        if guard::writing(|| query.write(row, |_| ())).len() < expected {
            let message = format!("review {} came after this transaction had begun", self.id);
            return Err(error::APPROVAL_CONFLICT.error(message));
        }
        Ok(())
    }
}

impl StoredItem {
    fn read(review: &StoredReview, row: &Row) -> Option<Self> {
        let about: Value = serde_json::from_str(&row.get::<String>(3)?).ok()?;
        let named = |value: &Value| {
            Some(Person {
                issuer: value.get("issuer")?.as_str()?.to_owned(),
                subject: value.get("subject")?.as_str()?.to_owned(),
            })
        };
        let assignee = match person(row, 7, 8) {
            Some(person) => Assignee::Person(person),
            None if review.reviewers.is_empty() => Assignee::Anybody,
            None => Assignee::Nobody,
        };
        let json = |column| row.get::<String>(column).map(|text| serde_json::from_str(&text).ok());
        let word = |column| row.get::<String>(column);
        let evidence = row.get::<Vec<pgrx::Uuid>>(12);
        Some(StoredItem {
            number: row.get(1)?,
            what: serde_json::from_str(&row.get::<String>(2)?).ok()?,
            snapshot: row.get(4)?,
            opening_digest: row.bytes(6)?,
            item: Item {
                seen: row.bytes(5)?,
                about: about.as_array()?.iter().map(named).collect::<Option<_>>()?,
                assignee,
                decided: match word(9) {
                    Some(decision) => Some((Decision::parse(&decision)?, person(row, 14, 15)?)),
                    None => None,
                },
                outcome: match word(16) {
                    Some(outcome) => Some(Outcome::parse(&outcome)?),
                    None => None,
                },
            },
            change: match json(10) {
                Some(change) => Some(change?),
                None => None,
            },
            comment: row.get(11),
            evidence: evidence.map(|ids| ids.iter().map(|id| Uuid::from_bytes(*id.as_bytes())).collect()),
            decided_at: row.timestamp(13),
            detail: row.get(17),
            now: row.bytes(18),
        })
    }
}
