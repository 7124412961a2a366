//! Rows of `tenancy.action_type_request`.

use super::guard;
use crate::pg::clock;
use crate::pg::spi::{self, Query, argument};
use crate::pg::tables::table::{IndexKey, Tuple, find};
use crate::pg::transaction;
use pg_tenancy_core::audit::format::event::time_ordered_id;
use pg_tenancy_core::audit::format::timestamp;
use pg_tenancy_core::controls::approval::{Approval, Approvers, Person, State};
use pg_tenancy_core::error::{self, Result};
use pgrx::datum::Interval;
use rand::RngExt as _;
use serde_json::{Value, json};
use uuid::Uuid;

/// How long a request waits for a decision.
const DECIDE_WITHIN: i64 = 30 * 24 * 60 * 60 * 1_000_000;

static ADD: Query = Query::new(
    "INSERT INTO tenancy.action_type_request (id, organization, action_type, state, reason, valid_for, requested_at,
                                              decide_before, requested_issuer, requested_subject)
     VALUES ($1, $2, $3, $4, $5, $6 * interval '1 microsecond', $7, $8, $9, $10)",
);

static DECIDE: Query = Query::new(
    "UPDATE tenancy.action_type_request
        SET state = $2, ends_at = $3, decided_at = $4, decided_issuer = $5, decided_subject = $6, decision_reason = $7
      WHERE id = $1 RETURNING 1",
);

static WITHDRAW: Query = Query::new(
    "UPDATE tenancy.action_type_request
        SET state = $2, withdrawn_at = $3, withdrawn_issuer = $4, withdrawn_subject = $5, withdrawal_reason = $6
      WHERE id = $1 RETURNING 1",
);

static END: Query = Query::new("UPDATE tenancy.action_type_request SET state = $2 WHERE id = $1 RETURNING 1");

static OVER: Query = Query::new(
    "SELECT organization, id FROM tenancy.action_type_request
      WHERE state = 'requested' AND decide_before <= $1 OR state = 'approved' AND ends_at <= $1
      ORDER BY organization, id LIMIT $2",
);

/// A request with what the rules need of it.
pub struct StoredRequest {
    pub id: Uuid,
    pub organization: Uuid,
    action_type: String,
    reason: String,
    pub approval: Approval,
}

/// The approval of an action type that is in force in the organization, in the newest committed state: the one that
/// lasts longest. Without a type, that of any.
///
/// A withdrawal by another session counts at once, whatever the isolation level. A row that cannot be read is none.
pub fn approval_in_force(organization: Uuid, action_type: Option<&str>) -> Option<Uuid> {
    let now = clock::now();
    let mut keys = vec![IndexKey::uuid(2, &organization)];
    keys.extend(action_type.map(|name| IndexKey::text(3, name)));
    let found = read(&keys).into_iter().flatten().filter(|stored| stored.approval.in_force(now));
    found.max_by_key(|stored| stored.approval.ends_at).map(|stored| stored.id)
}

/// The requests and approvals of an action type whose stored state is not an end.
pub fn live(organization: Uuid, action_type: &str) -> Result<Vec<StoredRequest>> {
    read(&[IndexKey::uuid(2, &organization), IndexKey::text(3, action_type)]).into_iter().collect()
}

/// The request with this id, if it is of the organization.
pub fn by_id(organization: Uuid, id: Uuid) -> Result<StoredRequest> {
    let keys = [IndexKey::uuid(1, &id)];
    let rows = || find(c"action_type_request", c"action_type_request_pkey", &keys, StoredRequest::read);
    let found = transaction::with_latest_snapshot(rows).pop().transpose()?;
    found
        .filter(|stored| stored.organization == organization)
        .ok_or_else(|| error::NOT_FOUND.error(format!("there is no request {id}")))
}

/// Requests and approvals, of all organizations, whose time is over and whose stored state does not say so.
pub fn over(now: i64, at_most: i64) -> Result<Vec<(Uuid, Uuid)>> {
    let arguments = [spi::timestamp(now), argument(at_most)];
    let over = transaction::with_latest_snapshot(|| OVER.read(&arguments, |row| Some((row.uuid(1)?, row.uuid(2)?))));
    let unreadable = || error::STATE_INVALID.error("a row of tenancy.action_type_request cannot be read");
    over.into_iter().collect::<Option<_>>().ok_or_else(unreadable)
}

fn read(keys: &[IndexKey]) -> Vec<Result<StoredRequest>> {
    let rows = || find(c"action_type_request", c"action_type_request_live_idx", keys, StoredRequest::read);
    transaction::with_latest_snapshot(rows)
}

impl StoredRequest {
    pub fn new(
        organization: Uuid,
        action_type: &str,
        requester: Person,
        reason: &str,
        valid_for: i64,
        now: i64,
    ) -> Self {
        StoredRequest {
            id: time_ordered_id(now, rand::rng().random()),
            organization,
            action_type: action_type.to_owned(),
            reason: reason.to_owned(),
            approval: Approval {
                state: State::Requested,
                approvers: Approvers { interested: vec![requester], approved_by: Vec::new(), needed: 1 },
                decide_before: now.saturating_add(DECIDE_WITHIN),
                valid_for,
                ends_at: None,
            },
        }
    }

    /// A row of the table, by the order of its columns.
    fn read(row: &Tuple) -> Result<Self> {
        let person = |issuer, subject| Some(Person { issuer: row.get(issuer)?, subject: row.get(subject)? });
        let read = || {
            let state = State::parse(&row.get::<String>(4)?)?;
            let decided = [State::Approved, State::Expired, State::Withdrawn].contains(&state);
            Some(StoredRequest {
                id: row.uuid(1)?,
                organization: row.uuid(2)?,
                action_type: row.get(3)?,
                reason: row.get(5)?,
                approval: Approval {
                    state,
                    approvers: Approvers {
                        interested: vec![person(9, 10)?],
                        approved_by: person(12, 13).filter(|_| decided).into_iter().collect(),
                        needed: 1,
                    },
                    decide_before: row.timestamp(8)?,
                    valid_for: i64::try_from(row.get::<Interval>(6)?.as_micros()).ok()?,
                    ends_at: row.timestamp(15),
                },
            })
        };
        read().ok_or_else(|| error::STATE_INVALID.error("a row of tenancy.action_type_request cannot be read"))
    }

    /// Who asked.
    pub fn requester(&self) -> &Person {
        &self.approval.approvers.interested[0]
    }

    /// Whether a request with these arguments is this one.
    pub fn asks_the_same(&self, requester: &Person, reason: &str, valid_for: i64) -> bool {
        self.requester() == requester && self.reason == reason && self.approval.valid_for == valid_for
    }

    /// What events have of it.
    pub fn described(&self) -> Value {
        let Person { issuer, subject } = self.requester();
        json!({
            "request": self.id,
            "action_type": self.action_type,
            "requested_issuer": issuer,
            "requested_subject": subject,
            "ends_at": self.approval.ends_at.map(timestamp::text),
        })
    }

    pub fn insert(&self, now: i64) {
        let Person { issuer, subject } = self.requester();
        let arguments = [
            spi::uuid(self.id),
            spi::uuid(self.organization),
            argument(self.action_type.as_str()),
            argument(self.approval.state.name()),
            argument(self.reason.as_str()),
            argument(self.approval.valid_for),
            spi::timestamp(now),
            spi::timestamp(self.approval.decide_before),
            argument(issuer.as_str()),
            argument(subject.as_str()),
        ];
        guard::writing(|| ADD.write(&arguments, |_| ()));
    }

    pub fn store_decision(&self, by: &Person, reason: &str, now: i64) -> Result<()> {
        let ends_at = self.approval.ends_at;
        self.update(
            &DECIDE,
            [
                spi::timestamp(ends_at),
                spi::timestamp(now),
                argument(by.issuer.as_str()),
                argument(by.subject.as_str()),
                argument(reason),
            ],
        )
    }

    pub fn store_withdrawal(&self, by: &Person, reason: &str, now: i64) -> Result<()> {
        let (issuer, subject) = (argument(by.issuer.as_str()), argument(by.subject.as_str()));
        self.update(&WITHDRAW, [spi::timestamp(now), issuer, subject, argument(reason)])
    }

    /// Stores that its time is over.
    pub fn store_end(&self) -> Result<()> {
        self.update(&END, [])
    }

    /// A transaction whose snapshot is older than the row does not find it.
    fn update<const N: usize>(&self, query: &Query, values: [spi::Argument; N]) -> Result<()> {
        let mut arguments = vec![spi::uuid(self.id), argument(self.approval.state.name())];
        arguments.extend(values);
        if guard::writing(|| query.write(&arguments, |_| ())).is_empty() {
            let message = format!("request {} came after this transaction had begun", self.id);
            return Err(error::APPROVAL_CONFLICT.error(message));
        }
        Ok(())
    }
}
