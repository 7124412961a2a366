//! `tenancy.settle_due()`: records what time has ended, and alerts of what it has made due.
//!
//! Nothing depends on its running: what has ended counts as ended without it. It only tells.

use super::alert::raise_alert;
use super::guard;
use super::{action_type, break_glass, exception, review_closing, review_opening};
use crate::pg::clock;
use crate::pg::report::OrRaise;
use crate::pg::spi::{self, Query, Row, argument};
use crate::pg::transaction;
use crate::pg::user;
use pg_tenancy_core::controls::alert::AlertKind;
use pg_tenancy_core::error::{self, Result};
use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern};
use serde_json::Value;
use uuid::Uuid;

/// What an alert is raised of when its time has come, the oldest first. $1 is the time, $2 how many at most.
static DUE: [(AlertKind, Query); 7] = [
    (
        AlertKind::RotationStuck,
        Query::new(
            "SELECT r.organization, s.domain, r.id, r.deadline,
                    json_build_object('secret', s.id, 'name', s.name, 'version', r.to_version)::text
               FROM tenancy.rotation r JOIN tenancy.secret s ON s.id = r.secret
              WHERE r.state IN ('open', 'observing') AND r.deadline <= $1
                AND NOT EXISTS (SELECT FROM tenancy.notice n
                                 WHERE n.kind = 'rotation_stuck' AND n.subject = r.id AND n.due_at = r.deadline)
              ORDER BY r.deadline LIMIT $2",
        ),
    ),
    (
        AlertKind::RotationOverdue,
        Query::new(
            "SELECT s.organization, s.domain, s.id, d.at,
                    json_build_object('secret', s.id, 'name', s.name, 'version', v.number)::text
               FROM tenancy.secret s
               JOIN tenancy.secret_kind k ON k.name = s.kind
               JOIN tenancy.secret_version v ON v.secret = s.id AND v.state = 'current'
              CROSS JOIN LATERAL (
                    SELECT tenancy.rotation_due_at(v.valued_at, coalesce(s.rotate_every, k.rotate_every)) AS at) d
              WHERE s.destroyed_at IS NULL AND d.at <= $1
                AND NOT EXISTS (SELECT FROM tenancy.notice n
                                 WHERE n.kind = 'rotation_overdue' AND n.subject = s.id AND n.due_at = d.at)
              ORDER BY d.at LIMIT $2",
        ),
    ),
    (
        AlertKind::SecretExpiring,
        Query::new(
            "SELECT s.organization, s.domain, s.id, v.expires_at,
                    json_build_object('secret', s.id, 'name', s.name, 'version', v.number)::text
               FROM tenancy.secret s
               JOIN tenancy.secret_version v ON v.secret = s.id AND v.state = 'current'
              WHERE s.destroyed_at IS NULL AND v.expires_at <= $1 + interval '14 days'
                AND NOT EXISTS (SELECT FROM tenancy.notice n
                                 WHERE n.kind = 'secret_expiring' AND n.subject = s.id AND n.due_at = v.expires_at)
              ORDER BY v.expires_at LIMIT $2",
        ),
    ),
    (
        AlertKind::ApprovalEnding,
        Query::new(
            "SELECT r.organization, 'action', r.id, r.ends_at,
                    json_build_object('request', r.id, 'action_type', r.action_type)::text
               FROM tenancy.action_type_request r
              WHERE r.state = 'approved' AND r.ends_at > $1
                AND r.ends_at - least(r.valid_for / 10, interval '7 days') <= $1
                AND NOT EXISTS (SELECT FROM tenancy.notice n
                                 WHERE n.kind = 'approval_ending' AND n.subject = r.id AND n.due_at = r.ends_at)
              ORDER BY r.ends_at LIMIT $2",
        ),
    ),
    (
        AlertKind::ExceptionEnding,
        Query::new(
            "SELECT e.organization, 'exception', e.exception, e.ends_at,
                    json_build_object('exception', e.exception, 'kind', e.kind, 'target', e.target,
                                      'owner_issuer', e.owner_issuer, 'owner_subject', e.owner_subject)::text
               FROM tenancy.exception_end e
              WHERE e.state = 'active' AND e.ends_at > $1 AND e.ends_at - e.notice <= $1
                AND NOT EXISTS (SELECT FROM tenancy.notice n
                                 WHERE n.kind = 'exception_ending' AND n.subject = e.exception
                                   AND n.due_at = e.ends_at)
              ORDER BY e.ends_at LIMIT $2",
        ),
    ),
    (
        AlertKind::SignOffOverdue,
        Query::new(
            "SELECT g.organization, 'break_glass', g.id, d.at,
                    json_build_object('grant', g.id, 'beneficiary_issuer', g.beneficiary_issuer,
                                      'beneficiary_subject', g.beneficiary_subject)::text
               FROM tenancy.break_glass_grant g
              CROSS JOIN LATERAL (SELECT coalesce(g.over_at, g.ends_at) + g.sign_off_within AS at) d
              WHERE g.state IN ('active', 'ended', 'revoked') AND d.at <= $1
                AND NOT EXISTS (SELECT FROM tenancy.notice n
                                 WHERE n.kind = 'sign_off_overdue' AND n.subject = g.id AND n.due_at = d.at)
              ORDER BY d.at LIMIT $2",
        ),
    ),
    (
        AlertKind::ReviewOverdue,
        Query::new(
            "SELECT v.organization, 'review', v.id, v.due_at,
                    json_build_object('review', v.id, 'kind', v.kind, 'title', v.title)::text
               FROM tenancy.review v
              WHERE v.state = 'open' AND v.due_at <= $1
                AND NOT EXISTS (SELECT FROM tenancy.notice n
                                 WHERE n.kind = 'review_overdue' AND n.subject = v.id AND n.due_at = v.due_at)
              ORDER BY v.due_at LIMIT $2",
        ),
    ),
];

/// Whoever comes second of two writes no row.
static NOTE: Query = Query::new(
    "INSERT INTO tenancy.notice (kind, subject, due_at, noticed_at) VALUES ($1, $2, $3, $4)
     ON CONFLICT DO NOTHING RETURNING 1",
);

/// How much of each kind is done in a call.
const AT_MOST: i64 = 1000;

/// Something whose time has come.
struct Due {
    organization: Uuid,
    domain: String,
    subject: Uuid,
    at: i64,
    detail: Value,
}

/// `tenancy.settle_due()`: what was noted, and how often.
#[pg_extern(sql = false)]
fn tenancy_settle_due() -> TableIterator<'static, (name!(what, &'static str), name!(count, i64))> {
    TableIterator::new(settle().or_raise())
}

fn settle() -> Result<Vec<(&'static str, i64)>> {
    if transaction::read_only() {
        let message = "nothing is noted on a standby or in a READ ONLY transaction";
        return Err(error::READ_ONLY.error(message));
    }
    user::as_superuser(|| {
        exception::take_turns();
        let now = clock::now();
        let mut settled = vec![
            ("action_expired", action_type::expire(now, AT_MOST)?),
            ("exception_expired", exception::expire(now, AT_MOST)?),
            ("break_glass_over", break_glass::expire(now, AT_MOST)?),
            ("review_due", review_opening::open_due(now, AT_MOST)?),
        ];
        for (kind, due) in &DUE {
            let mut noted = 0;
            let arguments = [spi::timestamp(now), argument(AT_MOST)];
            for due in transaction::with_latest_snapshot(|| due.read(&arguments, Due::read)) {
                noted += i64::from(due.ok_or_else(unreadable)?.note(*kind, now)?);
            }
            settled.push((kind.name(), noted));
        }
        settled.push(("review_over", review_closing::close_overdue(now, AT_MOST)?));
        Ok(settled)
    })
}

impl Due {
    fn read(row: &Row) -> Option<Self> {
        Some(Due {
            organization: row.uuid(1)?,
            domain: row.get(2)?,
            subject: row.uuid(3)?,
            at: row.timestamp(4)?,
            detail: serde_json::from_str(&row.get::<String>(5)?).ok()?,
        })
    }

    /// Raises the alert, unless somebody else has; returns whether.
    fn note(self, kind: AlertKind, now: i64) -> Result<bool> {
        let note = [argument(kind.name()), spi::uuid(self.subject), spi::timestamp(self.at), spi::timestamp(now)];
        let first = !guard::writing(|| NOTE.write(&note, |_| ())).is_empty();
        if first {
            raise_alert(self.organization, &self.domain, kind, self.detail);
        }
        if first && kind == AlertKind::ReviewOverdue {
            review_closing::warn_overdue(self.organization, self.subject)?;
        }
        Ok(first)
    }
}

fn unreadable() -> error::Error {
    error::STATE_INVALID.error("something that is due cannot be read")
}
