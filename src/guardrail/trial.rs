//! What `enforce` would have refused: the events of a guardrail that warned, counted.

use super::viewer::Viewer;
use crate::context;
use crate::pg::report::OrRaise;
use crate::pg::spi::{self, Query, Row, argument};
use crate::pg::{transaction, user};
use pg_tenancy_core::error::{self, Result, require_not_null};
use pg_tenancy_core::guardrail;
use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern};
use std::collections::HashMap;
use uuid::Uuid;

/// Of every organization, or of one, from a time on: the partitions from then on, and no others.
static OF_ALL: Query = Query::new(
    "SELECT e.payload -> 'new' ->> 'guardrail', e.organization, count(*),
            count(DISTINCT (a.issuer, coalesce(a.subject, a.session_user_name))), min(e.occurred_at),
            max(e.occurred_at), (array_agg(e.id ORDER BY e.id))[1]
       FROM tenancy.event e
       LEFT JOIN LATERAL (
            SELECT w.issuer, w.subject, w.session_user_name FROM tenancy.event_actor w WHERE w.id = e.actor
            OFFSET 0) a ON true
      WHERE e.batch >= $1 AND e.operation = 'guardrail' AND e.result = 'warned'
        AND ($2 IS NULL OR e.organization = $2)
      GROUP BY 1, 2",
);

/// Of the context's organization, by its chain alone: how long it takes tells nothing of the events of others.
static OF_CONTEXT: Query = Query::new(
    "SELECT t.new_values ->> 'guardrail', $2, count(*),
            count(DISTINCT (t.issuer, coalesce(t.subject, t.session_user_name))), min(t.occurred_at),
            max(t.occurred_at), (array_agg(t.id ORDER BY t.id))[1]
       FROM tenancy.organization_audit_trail t
      WHERE t.block > $3 AND t.batch >= $1 AND t.operation = 'guardrail' AND t.result = 'warned'
      GROUP BY 1",
);

/// What happened at a time is sealed in a later block. Read from the newest one backwards.
static LAST_BLOCK_BEFORE: Query =
    Query::new("SELECT number FROM tenancy.block WHERE sealed_at < $1 ORDER BY number DESC LIMIT 1");

/// The hits of one guardrail in one organization.
pub struct Hits {
    guardrail: String,
    organization: Uuid,
    count: i64,
    subjects: i64,
    first: TimestampWithTimeZone,
    last: TimestampWithTimeZone,
    example: Uuid,
}

const DAY: i64 = 24 * 60 * 60 * 1_000_000;
/// The days that `tenancy.guardrails()` counts hits of.
const SHOWN_DAYS: i64 = 30;

/// `tenancy.guardrail_trial(name, since)`.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn tenancy_guardrail_trial(
    name: Option<&str>,
    since: Option<Interval>,
) -> TableIterator<
    'static,
    (
        name!(organization, pgrx::Uuid),
        name!(hits, i64),
        name!(subjects, i64),
        name!(first_at, TimestampWithTimeZone),
        name!(last_at, TimestampWithTimeZone),
        name!(example, pgrx::Uuid),
    ),
> {
    let hits = trial(name, since).or_raise();
    let id = |id: Uuid| pgrx::Uuid::from_bytes(*id.as_bytes());
    TableIterator::new(
        hits.into_iter().map(move |hits| {
            (id(hits.organization), hits.count, hits.subjects, hits.first, hits.last, id(hits.example))
        }),
    )
}

fn trial(name: Option<&str>, since: Option<Interval>) -> Result<Vec<Hits>> {
    let viewer = Viewer::now()?;
    if !viewer.sees_all {
        context::authorize("audit", "read")?;
    }
    let guardrail = guardrail::find(require_not_null(name, "name")?)?;
    let since = i64::try_from(require_not_null(since, "since")?.as_micros()).unwrap_or(i64::MAX);
    if since <= 0 {
        return Err(error::ARGUMENT_INVALID.error("since is more than 0: how far to look back"));
    }
    let mut hits = since_time(&viewer, None, transaction::now().saturating_sub(since))?;
    hits.retain(|hits| hits.guardrail == guardrail.name);
    hits.sort_by_key(|hits| hits.organization);
    Ok(hits)
}

/// By guardrail, how often it warned of late, as far as the viewer may see it; `None` if it is not the viewer's to see.
pub fn hits(viewer: &Viewer) -> Result<Option<HashMap<String, i64>>> {
    if !viewer.sees_all && !context::allowed("audit", "read") {
        return Ok(None);
    }
    let organization = Some(viewer.organization).filter(|id| !id.is_nil());
    let mut sums = HashMap::new();
    for hits in since_time(viewer, organization, transaction::now() - SHOWN_DAYS * DAY)? {
        *sums.entry(hits.guardrail).or_default() += hits.count;
    }
    Ok(Some(sums))
}

fn since_time(viewer: &Viewer, organization: Option<Uuid>, since: i64) -> Result<Vec<Hits>> {
    let read = |row: &Row| {
        Some(Hits {
            guardrail: row.get(1)?,
            organization: row.uuid(2)?,
            count: row.get(3)?,
            subjects: row.get(4)?,
            first: row.get(5)?,
            last: row.get(6)?,
            example: row.uuid(7)?,
        })
    };
    // The lowest id of that time: milliseconds since 1970 stand first in it (RFC 9562, section 5.7).
    let milliseconds = u128::try_from(since.div_euclid(1000)).unwrap_or(0);
    let lowest = Uuid::from_u128((milliseconds & 0xffff_ffff_ffff) << 80);
    let found = user::as_superuser(|| {
        if viewer.sees_all {
            return OF_ALL.read(&[spi::uuid(lowest), spi::uuid(organization)], read);
        }
        let block = LAST_BLOCK_BEFORE.read(&[spi::timestamp(since)], |row| row.get::<i64>(1));
        let block = block.into_iter().flatten().next().unwrap_or(0);
        OF_CONTEXT.read(&[spi::uuid(lowest), spi::uuid(viewer.organization), argument(block)], read)
    });
    // Whatever cannot be read is a finding of tenancy.verify_audit.
    Ok(found.into_iter().flatten().collect())
}
