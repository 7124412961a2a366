//! Rows of `tenancy.break_glass_grant` and `tenancy.break_glass_approval`.

use super::guard;
use crate::pg::spi::{self, Argument, Query, Row, argument};
use crate::pg::transaction;
use pg_tenancy_core::audit::format::event::time_ordered_id;
use pg_tenancy_core::audit::format::timestamp;
use pg_tenancy_core::controls::approval::Person;
use pg_tenancy_core::controls::break_glass::{Approver, Grant, Kind, State};
use pg_tenancy_core::controls::break_glass_policy::{Policy, Terms};
use pg_tenancy_core::controls::permission_set::{PermissionSet, Rule};
use pg_tenancy_core::error::{self, Error, Result};
use rand::RngExt as _;
use serde_json::{Value, json};
use uuid::Uuid;

/// A query of grants, whose columns [`StoredGrant::read`] knows by their numbers.
macro_rules! grants {
    ($condition:literal) => {
        Query::new(concat!(
            "SELECT id, organization, state, reason, ticket, (extract(epoch FROM duration) * 1000000)::bigint,
                    permissions, overrides, requested_issuer, requested_subject, beneficiary_issuer,
                    beneficiary_subject, decide_before, (extract(epoch FROM activate_within) * 1000000)::bigint,
                    activate_before, activated_at, ends_at, over_at
               FROM tenancy.break_glass_grant WHERE ",
            $condition
        ))
    };
}

static BY_ID: Query = grants!("id = $1");

/// The grants of a person that something may come of still, or that nobody has signed off.
static OF_BENEFICIARY: Query = grants!(
    "organization = $1 AND beneficiary_issuer = $2 AND beneficiary_subject = $3
     AND state NOT IN ('denied', 'cancelled', 'expired', 'signed_off') ORDER BY id"
);

/// Grants whose time is over and whose stored state does not say so.
static OVER: Query = Query::new(
    "SELECT organization, id FROM tenancy.break_glass_grant
      WHERE state = 'requested' AND decide_before <= $1 OR state = 'approved' AND activate_before <= $1
         OR state = 'active' AND ends_at <= $1
      ORDER BY organization, id LIMIT $2",
);

/// Grants of which the sign-off is overdue.
static OVERDUE: Query = Query::new(
    "SELECT count(*) FROM tenancy.break_glass_grant
      WHERE organization = $1 AND beneficiary_issuer = $2 AND beneficiary_subject = $3 AND activated_at IS NOT NULL
        AND state NOT IN ('denied', 'cancelled', 'expired', 'signed_off')
        AND coalesce(over_at, ends_at) + sign_off_within <= $4",
);

static APPROVERS: Query = Query::new(
    "SELECT issuer, subject, held FROM tenancy.break_glass_approval WHERE grant_id = $1 ORDER BY approved_at, id",
);

static ADD: Query = Query::new(
    "INSERT INTO tenancy.break_glass_grant (id, organization, state, reason, ticket, duration, permissions, overrides,
                                            requested_at, requested_issuer, requested_subject, beneficiary_issuer,
                                            beneficiary_subject, decide_before, activate_within, activate_before,
                                            sign_off_within)
     VALUES ($1, $2, $3, $4, $5, $6 * interval '1 microsecond', $7, $8, $9, $10, $11, $12, $13, $14,
             $15 * interval '1 microsecond', $16, $17 * interval '1 microsecond')",
);

static STORE: Query = Query::new(
    "UPDATE tenancy.break_glass_grant
        SET state = $2, activate_before = $3, activated_at = $4, ends_at = $5, over_at = $6,
            closed_issuer = coalesce($7, closed_issuer), closed_subject = coalesce($8, closed_subject),
            closed_reason = coalesce($9, closed_reason)
      WHERE id = $1 RETURNING 1",
);

static SIGN_OFF: Query = Query::new(
    "UPDATE tenancy.break_glass_grant
        SET state = $2, over_at = $3, signed_off_at = $4, signed_off_issuer = $5, signed_off_subject = $6,
            verdict = $7, sign_off_comment = $8, evidence = $9, report_position = $10, report_digest = $11,
            unused = $12
      WHERE id = $1 RETURNING 1",
);

static APPROVE: Query = Query::new(
    "INSERT INTO tenancy.break_glass_approval (id, organization, grant_id, issuer, subject, held, reason, approved_at)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
);

/// A grant with what the rules need of it.
pub struct StoredGrant {
    pub id: Uuid,
    pub organization: Uuid,
    pub reason: String,
    pub ticket: Option<String>,
    pub terms: Terms,
    pub activated_at: Option<i64>,
    pub grant: Grant,
}

/// What somebody asks for.
pub struct Wish<'a> {
    pub reason: &'a str,
    pub ticket: Option<&'a str>,
    pub terms: Terms,
    pub requester: Person,
    pub beneficiary: Person,
}

/// Who ended a grant, and why.
pub struct Closing<'a> {
    /// `None` where no member did.
    pub by: Option<&'a Person>,
    pub reason: Option<&'a str>,
}

/// What a third person says of a grant, and of which report.
pub struct SignOff<'a> {
    pub by: &'a Person,
    pub verdict: &'static str,
    pub comment: &'a str,
    pub evidence: Vec<Uuid>,
    pub position: i64,
    pub digest: &'a [u8],
    /// What the grant gave and nothing needed: permissions and names of guardrails.
    pub unused: Vec<String>,
}

/// The error of a grant that is not there, or not for the caller to know of.
pub fn unknown(id: Uuid) -> Error {
    error::NOT_FOUND.error(format!("there is no break-glass grant {id}"))
}

/// The grant with this id, if it is of the organization.
pub fn by_id(organization: Uuid, id: Uuid) -> Result<Option<StoredGrant>> {
    let found = transaction::with_latest_snapshot(|| BY_ID.read(&[spi::uuid(id)], StoredGrant::read)).pop();
    Ok(found.transpose()?.filter(|stored| stored.organization == organization))
}

/// The grants of a person whose stored state is no end, or which are not signed off.
pub fn of_beneficiary(organization: Uuid, person: &Person) -> Result<Vec<StoredGrant>> {
    let key = [spi::uuid(organization), argument(person.issuer.as_str()), argument(person.subject.as_str())];
    transaction::with_latest_snapshot(|| OF_BENEFICIARY.read(&key, StoredGrant::read)).into_iter().collect()
}

/// How many grants of a person are past the time of their sign-off.
pub fn overdue(organization: Uuid, person: &Person, now: i64) -> i64 {
    let (issuer, subject) = (argument(person.issuer.as_str()), argument(person.subject.as_str()));
    let arguments = [spi::uuid(organization), issuer, subject, spi::timestamp(now)];
    let counted = transaction::with_latest_snapshot(|| OVERDUE.read(&arguments, |row| row.get(1)));
    counted.into_iter().flatten().next().unwrap_or_default()
}

/// Grants, of all organizations, whose time is over and whose stored state does not say so.
pub fn over(now: i64, at_most: i64) -> Result<Vec<(Uuid, Uuid)>> {
    let arguments = [spi::timestamp(now), argument(at_most)];
    let over = transaction::with_latest_snapshot(|| OVER.read(&arguments, |row| Some((row.uuid(1)?, row.uuid(2)?))));
    over.into_iter().collect::<Option<_>>().ok_or_else(unreadable)
}

impl StoredGrant {
    pub fn new(organization: Uuid, wish: Wish, policy: &Policy, now: i64) -> Self {
        let grant = Grant::request(wish.requester, wish.beneficiary, wish.terms.duration, policy, now);
        StoredGrant {
            id: time_ordered_id(now, rand::rng().random()),
            organization,
            reason: wish.reason.to_owned(),
            ticket: wish.ticket.map(str::to_owned),
            terms: wish.terms,
            activated_at: None,
            grant,
        }
    }

    /// A row of [`grants`].
    fn read(row: &Row) -> Result<Self> {
        let read = || {
            let person = |issuer, subject| Some(Person { issuer: row.get(issuer)?, subject: row.get(subject)? });
            let id = row.uuid(1)?;
            let duration = row.get(6)?;
            let rules = row.get::<Vec<String>>(7)?;
            let permissions = rules.iter().map(|rule| Rule::parse(rule).ok()).collect::<Option<PermissionSet>>()?;
            Some(StoredGrant {
                id,
                organization: row.uuid(2)?,
                reason: row.get(4)?,
                ticket: row.get(5),
                terms: Terms { duration, permissions, overrides: row.get(8)? },
                activated_at: row.timestamp(16),
                grant: Grant {
                    state: State::parse(&row.get::<String>(3)?)?,
                    requester: person(9, 10)?,
                    beneficiary: person(11, 12)?,
                    approvers: approvers(id)?,
                    decide_before: row.timestamp(13)?,
                    activate_within: row.get(14)?,
                    activate_before: row.timestamp(15),
                    duration,
                    ends_at: row.timestamp(17),
                    over_at: row.timestamp(18),
                },
            })
        };
        read().ok_or_else(unreadable)
    }

    /// Whether this is asked for again.
    pub fn asks_the_same(&self, wish: &Wish) -> bool {
        self.grant.requester == wish.requester
            && self.grant.beneficiary == wish.beneficiary
            && self.terms == wish.terms
            && self.reason == wish.reason
            && self.ticket.as_deref() == wish.ticket
    }

    /// What events and alerts have of it.
    pub fn described(&self) -> Value {
        let Grant { requester, beneficiary, .. } = &self.grant;
        json!({
            "grant": self.id,
            "state": self.grant.state.name(),
            "requested_issuer": requester.issuer,
            "requested_subject": requester.subject,
            "beneficiary_issuer": beneficiary.issuer,
            "beneficiary_subject": beneficiary.subject,
            "ends_at": self.grant.ends_at.map(timestamp::text),
        })
    }

    /// What the event of the request has of it.
    pub fn described_in_full(&self) -> Value {
        let mut described = self.described();
        described["ticket"] = json!(self.ticket);
        described["duration_seconds"] = json!(self.terms.duration / 1_000_000);
        described["permissions"] = json!(rules(&self.terms.permissions));
        described["overrides"] = json!(self.terms.overrides);
        described["decide_before"] = json!(timestamp::text(self.grant.decide_before));
        described
    }

    pub fn insert(&self, policy: &Policy, now: i64) {
        let Grant { requester, beneficiary, .. } = &self.grant;
        let row = [
            spi::uuid(self.id),
            spi::uuid(self.organization),
            argument(self.grant.state.name()),
            argument(self.reason.as_str()),
            argument(self.ticket.as_deref()),
            argument(self.terms.duration),
            argument(rules(&self.terms.permissions)),
            argument(self.terms.overrides.clone()),
            spi::timestamp(now),
            argument(requester.issuer.as_str()),
            argument(requester.subject.as_str()),
            argument(beneficiary.issuer.as_str()),
            argument(beneficiary.subject.as_str()),
            spi::timestamp(self.grant.decide_before),
            argument(self.grant.activate_within),
            spi::timestamp(self.grant.activate_before),
            argument(policy.sign_off_within),
        ];
        guard::writing(|| ADD.write(&row, |_| ()));
    }

    /// Stores the last of the approvers, and what the grant has become by it.
    pub fn store_approval(&self, reason: &str, now: i64) -> Result<()> {
        let Some(Approver { person, held }) = self.grant.approvers.last() else { return Err(unreadable()) };
        let held = kind_texts(held);
        self.store(None)?;
        let row = [
            spi::uuid(time_ordered_id(now, rand::rng().random())),
            spi::uuid(self.organization),
            spi::uuid(self.id),
            argument(person.issuer.as_str()),
            argument(person.subject.as_str()),
            argument(held),
            argument(reason),
            spi::timestamp(now),
        ];
        guard::writing(|| APPROVE.write(&row, |_| ()));
        Ok(())
    }

    /// Stores what the grant has become.
    pub fn store(&self, closing: Option<&Closing>) -> Result<()> {
        let by = closing.and_then(|closing| closing.by);
        self.update(
            &STORE,
            [
                spi::timestamp(self.grant.activate_before),
                spi::timestamp(self.activated_at),
                spi::timestamp(self.grant.ends_at),
                spi::timestamp(self.grant.over_at),
                argument(by.map(|by| by.issuer.as_str())),
                argument(by.map(|by| by.subject.as_str())),
                argument(closing.and_then(|closing| closing.reason)),
            ],
        )
    }

    pub fn store_sign_off(&self, sign_off: &SignOff, now: i64) -> Result<()> {
        let evidence: Vec<pgrx::Uuid> =
            sign_off.evidence.iter().map(|id| pgrx::Uuid::from_bytes(*id.as_bytes())).collect();
        self.update(
            &SIGN_OFF,
            [
                spi::timestamp(self.grant.over_at),
                spi::timestamp(now),
                argument(sign_off.by.issuer.as_str()),
                argument(sign_off.by.subject.as_str()),
                argument(sign_off.verdict),
                argument(sign_off.comment),
                argument(evidence),
                argument(sign_off.position),
                argument(sign_off.digest),
                argument(sign_off.unused.clone()),
            ],
        )
    }

    /// A transaction whose snapshot is older than the row does not find it.
    fn update<const N: usize>(&self, query: &Query, values: [Argument; N]) -> Result<()> {
        let mut arguments = vec![spi::uuid(self.id), argument(self.grant.state.name())];
        arguments.extend(values);
        if guard::writing(|| query.write(&arguments, |_| ())).is_empty() {
            let message = format!("break-glass grant {} came after this transaction had begun", self.id);
            return Err(error::APPROVAL_CONFLICT.error(message));
        }
        Ok(())
    }
}

/// Permissions as people write them.
pub fn rules(permissions: &PermissionSet) -> Vec<String> {
    permissions.rules().map(|rule| rule.to_string()).collect()
}

/// The permissions that approvers must hold, as they are stored.
pub fn kinds(texts: &[String]) -> Option<Vec<Kind>> {
    texts
        .iter()
        .map(|text| text.split_once(':').map(|(domain, action)| (domain.to_owned(), action.to_owned())))
        .collect()
}

/// The same, as they are to be stored.
pub fn kind_texts(kinds: &[Kind]) -> Vec<String> {
    kinds.iter().map(|(domain, action)| format!("{domain}:{action}")).collect()
}

fn approvers(grant: Uuid) -> Option<Vec<Approver>> {
    let read = |row: &Row| {
        let person = Person { issuer: row.get(1)?, subject: row.get(2)? };
        Some(Approver { person, held: kinds(&row.get::<Vec<String>>(3)?)? })
    };
    APPROVERS.read(&[spi::uuid(grant)], read).into_iter().collect()
}

fn unreadable() -> Error {
    error::STATE_INVALID.error("a row of tenancy.break_glass_grant cannot be read")
}
