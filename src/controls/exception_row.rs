//! Rows of `tenancy.exception` and `tenancy.exception_approval`.

use super::guard;
use crate::pg::spi::{self, Query, argument};
use crate::pg::tables::table::{IndexKey, Tuple, find};
use crate::pg::transaction;
use pg_tenancy_core::audit::format::event::time_ordered_id;
use pg_tenancy_core::audit::format::timestamp;
use pg_tenancy_core::controls::approval::{Approvers, Person};
use pg_tenancy_core::controls::exception::{EVERY_TARGET, Exception, Settings, State};
use pg_tenancy_core::error::{self, Result};
use rand::RngExt as _;
use serde_json::{Value, json};
use uuid::Uuid;

static ADD: Query = Query::new(
    "INSERT INTO tenancy.exception (id, organization, kind, target, state, reason, ticket, evidence, expires_at,
                                    approvals, replaces, requested_at, requested_issuer, requested_subject,
                                    owner_issuer, owner_subject, active_from)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
);

static APPROVE: Query = Query::new(
    "INSERT INTO tenancy.exception_approval (exception, issuer, subject, organization, reason, approved_at)
     VALUES ($1, $2, $3, $4, $5, $6)",
);

static STATE: Query =
    Query::new("UPDATE tenancy.exception SET state = $2, approvals = $3, active_from = $4 WHERE id = $1 RETURNING 1");

static END: Query = Query::new(
    "UPDATE tenancy.exception
        SET state = $2, ended_at = $3, ended_issuer = $4, ended_subject = $5, end_reason = $6
      WHERE id = $1 RETURNING 1",
);

static OVER: Query = Query::new(
    "SELECT e.organization, e.exception FROM tenancy.exception_end e
      WHERE e.ends_at <= $1 AND ($3 IS NULL OR e.kind = $3) AND ($4 IS NULL OR e.organization = $4)
      ORDER BY e.organization, e.exception LIMIT $2",
);

/// An exception with what the rules need of it.
#[derive(Clone)]
pub struct StoredException {
    pub id: Uuid,
    pub organization: Uuid,
    pub kind: String,
    pub target: String,
    pub reason: String,
    pub ticket: Option<String>,
    pub evidence: Vec<Uuid>,
    pub replaces: Option<Uuid>,
    pub exception: Exception,
}

/// Why and by whom one is ended.
pub struct Ending<'a> {
    pub by: &'a Person,
    pub reason: Option<&'a str>,
}

/// The exception with this id, if it is of the organization.
pub fn by_id(organization: Uuid, id: Uuid) -> Result<StoredException> {
    let found = read(c"exception_pkey", &[IndexKey::uuid(1, &id)])?.pop();
    found
        .filter(|stored| stored.organization == organization)
        .ok_or_else(|| error::NOT_FOUND.error(format!("there is no exception {id}")))
}

/// The one of a target that is asked for, as it is stored.
pub fn requested(organization: Uuid, kind: &str, target: &str) -> Result<Option<StoredException>> {
    Ok(read(c"exception_requested_idx", &of_target(&organization, kind, target))?.pop())
}

/// The one of a target that is active, as it is stored.
pub fn active(organization: Uuid, kind: &str, target: &str) -> Result<Option<StoredException>> {
    Ok(read(c"exception_active_idx", &of_target(&organization, kind, target))?.pop())
}

/// Those whose time is over and whose stored state does not say so, of all organizations and kinds or of one.
pub fn over(now: i64, at_most: i64, kind: Option<&str>, organization: Option<Uuid>) -> Result<Vec<(Uuid, Uuid)>> {
    let arguments = [spi::timestamp(now), argument(at_most), argument(kind), spi::uuid(organization)];
    let over = transaction::with_latest_snapshot(|| OVER.read(&arguments, |row| Some((row.uuid(1)?, row.uuid(2)?))));
    over.into_iter().collect::<Option<_>>().ok_or_else(unreadable)
}

/// The keys of [`requested`] and [`active`].
pub fn of_target<'k>(organization: &'k Uuid, kind: &str, target: &str) -> [IndexKey<'k>; 3] {
    [IndexKey::uuid(2, organization), IndexKey::text(3, kind), IndexKey::text(4, target)]
}

fn read(index: &std::ffi::CStr, keys: &[IndexKey]) -> Result<Vec<StoredException>> {
    transaction::with_latest_snapshot(|| {
        let mut rows = find(c"exception", index, keys, StoredException::read);
        for row in rows.iter_mut().flatten() {
            let key = [IndexKey::uuid(1, &row.id)];
            let approvers = find(c"exception_approval", c"exception_approval_pkey", &key, |approval| {
                Some(Person { issuer: approval.get(2)?, subject: approval.get(3)? })
            });
            let approvers: Option<Vec<Person>> = approvers.into_iter().collect();
            row.exception.approvers.approved_by = approvers.ok_or_else(unreadable)?;
        }
        rows.into_iter().map(|row| row.ok_or_else(unreadable)).collect()
    })
}

fn unreadable() -> error::Error {
    error::STATE_INVALID.error("a row of tenancy.exception cannot be read")
}

impl StoredException {
    /// A row of the table, by the order of its columns; without those who have approved it.
    fn read(row: &Tuple) -> Option<Self> {
        let person = |issuer, subject| Some(Person { issuer: row.get(issuer)?, subject: row.get(subject)? });
        let evidence = row.get::<Vec<pgrx::Uuid>>(8)?;
        let target: String = row.get(4)?;
        Some(StoredException {
            id: row.uuid(1)?,
            organization: row.uuid(2)?,
            kind: row.get(3)?,
            exception: Exception {
                state: State::parse(&row.get::<String>(5)?)?,
                approvers: Approvers {
                    interested: vec![person(13, 14)?, person(15, 16)?],
                    approved_by: Vec::new(),
                    needed: usize::try_from(row.get::<i32>(10)?).ok()?,
                },
                broad: target == EVERY_TARGET,
                expires_at: row.timestamp(9)?,
                active_from: row.timestamp(17),
            },
            target,
            reason: row.get(6)?,
            ticket: row.get(7),
            evidence: evidence.iter().map(|id| Uuid::from_bytes(*id.as_bytes())).collect(),
            replaces: row.uuid(11),
        })
    }

    /// The id of one that is made now.
    pub fn new_id(now: i64) -> Uuid {
        time_ordered_id(now, rand::rng().random())
    }

    pub fn requester(&self) -> &Person {
        &self.exception.approvers.interested[0]
    }

    pub fn owner(&self) -> &Person {
        &self.exception.approvers.interested[1]
    }

    /// Whether both ask for the same, for the same people.
    pub fn asks_the_same(&self, other: &StoredException) -> bool {
        let compared = |one: &StoredException| {
            let StoredException { kind, target, reason, ticket, evidence, replaces, exception, .. } = one.clone();
            (kind, target, reason, ticket, evidence, replaces, exception.expires_at, exception.approvers.interested)
        };
        compared(self) == compared(other)
    }

    /// What events and alerts have of it.
    pub fn described(&self) -> Value {
        let (requester, owner) = (self.requester(), self.owner());
        json!({
            "exception": self.id,
            "kind": self.kind,
            "target": self.target,
            "state": self.exception.state.name(),
            "requested_issuer": requester.issuer,
            "requested_subject": requester.subject,
            "owner_issuer": owner.issuer,
            "owner_subject": owner.subject,
            "expires_at": timestamp::text(self.exception.expires_at),
            "approvals": self.exception.approvers.approved_by.len(),
            "approvals_needed": self.exception.approvers.needed,
            "replaces": self.replaces,
        })
    }

    pub fn insert(&self, now: i64) {
        let (requester, owner) = (self.requester(), self.owner());
        let evidence: Vec<_> = self.evidence.iter().map(|id| pgrx::Uuid::from_bytes(*id.as_bytes())).collect();
        let row = [
            spi::uuid(self.id),
            spi::uuid(self.organization),
            argument(self.kind.as_str()),
            argument(self.target.as_str()),
            argument(self.exception.state.name()),
            argument(self.reason.as_str()),
            argument(self.ticket.as_deref()),
            argument(evidence),
            spi::timestamp(self.exception.expires_at),
            argument(self.exception.approvers.needed as i32),
            spi::uuid(self.replaces),
            spi::timestamp(now),
            argument(requester.issuer.as_str()),
            argument(requester.subject.as_str()),
            argument(owner.issuer.as_str()),
            argument(owner.subject.as_str()),
            spi::timestamp(self.exception.active_from),
        ];
        guard::writing(|| ADD.write(&row, |_| ()));
    }

    /// Stores the last approval, and the state that it led to.
    pub fn store_approval(&self, by: &Person, reason: &str, now: i64) -> Result<()> {
        let approval = [
            spi::uuid(self.id),
            argument(by.issuer.as_str()),
            argument(by.subject.as_str()),
            spi::uuid(self.organization),
            argument(reason),
            spi::timestamp(now),
        ];
        let state = [
            spi::uuid(self.id),
            argument(self.exception.state.name()),
            argument(self.exception.approvers.needed as i32),
            spi::timestamp(self.exception.active_from),
        ];
        self.found(&guard::writing(|| STATE.write(&state, |_| ())))?;
        guard::writing(|| APPROVE.write(&approval, |_| ()));
        Ok(())
    }

    /// Stores that it has ended: by somebody now, or by its time.
    pub fn store_end(&self, ending: Option<&Ending>, settings: &Settings, now: i64) -> Result<()> {
        let of_itself = self.exception.ends_at(settings).unwrap_or(self.exception.expires_at).min(now);
        let arguments = [
            spi::uuid(self.id),
            argument(self.exception.state.name()),
            spi::timestamp(if ending.is_some() { now } else { of_itself }),
            argument(ending.map(|ending| ending.by.issuer.as_str())),
            argument(ending.map(|ending| ending.by.subject.as_str())),
            argument(ending.and_then(|ending| ending.reason)),
        ];
        self.found(&guard::writing(|| END.write(&arguments, |_| ())))
    }

    /// A transaction whose snapshot is older than the row does not find it.
    fn found(&self, rows: &[()]) -> Result<()> {
        if rows.is_empty() {
            let message = format!("exception {} came after this transaction had begun", self.id);
            return Err(error::APPROVAL_CONFLICT.error(message));
        }
        Ok(())
    }
}
