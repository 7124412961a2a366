//! What was done under a grant of break-glass, and the third person who looks at it.
//!
//! The report of a grant that was signed off tells what it told then: it ends at the last event that was sealed at that
//! moment, and sealed events do not change. So its digest, which the event of the sign-off has, can be computed again.
//!
//! Decision: `docs/decisions/85-break-glass.md`.

use super::break_glass::{id, not_done, record};
use super::break_glass_grant::{self, SignOff, StoredGrant, kinds, rules, unknown};
use super::break_glass_policy::DOMAIN;
use super::holding::must_hold_action;
use super::input;
use crate::audit;
use crate::context;
use crate::identity::hold_organization;
use crate::pg::report::OrRaise;
use crate::pg::spi::{self, Query, Row, argument};
use crate::pg::{clock, transaction, user};
use pg_tenancy_core::audit::export::evidence::Evidence;
use pg_tenancy_core::audit::format::event::time_ordered_id;
use pg_tenancy_core::audit::format::hex::{self, Hash};
use pg_tenancy_core::audit::format::timestamp;
use pg_tenancy_core::controls::approval::Person;
use pg_tenancy_core::controls::break_glass::{Grant, Verdict, unused};
use pg_tenancy_core::error::{self, Error, Result, require_not_null};
use pgrx::{JsonB, pg_extern};
use rand::RngExt as _;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Where the sealed events of an organization end.
static SEALED: Query = Query::new("SELECT coalesce(max(\"position\"), 0) FROM tenancy.seal WHERE organization = $1");

/// The position that the report at the sign-off ended at.
static SIGNED_OFF_AT: Query =
    Query::new("SELECT report_position FROM tenancy.break_glass_grant WHERE id = $1 AND state = 'signed_off'");

/// What is stored of a grant beside what the rules need.
static DETAILS: Query = Query::new(
    "SELECT g.requested_at, g.closed_issuer, g.closed_subject, g.closed_reason
       FROM tenancy.break_glass_grant g WHERE g.id = $1",
);

static APPROVALS: Query = Query::new(
    "SELECT a.issuer, a.subject, a.approved_at, a.reason, a.held FROM tenancy.break_glass_approval a
      WHERE a.grant_id = $1 ORDER BY a.approved_at, a.id",
);

/// The sealed events under a grant ($2), up to a position ($3), from a time on ($4), without [`STATEMENTS`].
static EVENTS: Query = Query::new(
    "SELECT jsonb_build_object('position', t.\"position\", 'id', t.id, 'operation', t.operation, 'domain', t.domain,
                               'schema', t.table_schema, 'table', t.table_name, 'row', t.row_key,
                               'old', t.old_values::text, 'new', t.new_values::text, 'result', t.result,
                               'reason', t.reason)::text,
            t.occurred_at
       FROM tenancy.audit_trail t
      WHERE t.organization = $1 AND t.grant_id = $2 AND t.\"position\" <= $3 AND t.batch >= tenancy.lowest_id($4)
        AND t.operation <> 'statement'
      ORDER BY t.\"position\"",
);

/// The statements under a grant, by command and tables.
static STATEMENTS: Query = Query::new(
    "SELECT jsonb_build_object('command', t.new_values ->> 'command', 'tables', (t.new_values ->> 'tables')::json,
                               'result', t.result, 'statements', count(*),
                               'rows', sum((t.new_values ->> 'rows')::numeric))::text
       FROM tenancy.audit_trail t
      WHERE t.organization = $1 AND t.grant_id = $2 AND t.\"position\" <= $3 AND t.batch >= tenancy.lowest_id($4)
        AND t.operation = 'statement'
      GROUP BY t.new_values ->> 'command', t.new_values ->> 'tables', t.result
      ORDER BY (t.new_values ->> 'command') COLLATE \"C\", (t.new_values ->> 'tables') COLLATE \"C\",
               t.result COLLATE \"C\"",
);

/// What statements needed of a grant, and which guardrails were passed by it.
static NEEDED: Query = Query::new(
    "SELECT DISTINCT p.permission COLLATE \"C\" FROM tenancy.audit_trail t
      CROSS JOIN LATERAL jsonb_array_elements_text((t.new_values ->> 'permissions')::jsonb) p (permission)
      WHERE t.organization = $1 AND t.grant_id = $2 AND t.\"position\" <= $3 AND t.batch >= tenancy.lowest_id($4)
        AND t.operation = 'statement'
      ORDER BY 1",
);
static PASSED: Query = Query::new(
    "SELECT DISTINCT (t.new_values ->> 'guardrail') COLLATE \"C\" FROM tenancy.audit_trail t
      WHERE t.organization = $1 AND t.grant_id = $2 AND t.\"position\" <= $3 AND t.batch >= tenancy.lowest_id($4)
        AND t.operation = 'guardrail' AND t.result = 'warned'
      ORDER BY 1",
);

/// How many events under a grant are not sealed, or came after the report.
static LATER: Query = Query::new(
    "SELECT count(*) FROM tenancy.audit_trail t
      WHERE t.organization = $1 AND t.grant_id = $2 AND t.batch >= tenancy.lowest_id($4)
        AND (t.\"position\" IS NULL OR t.\"position\" > $3)",
);

/// `tenancy.break_glass_report(grant_id)`.
#[pg_extern(sql = false)]
fn tenancy_break_glass_report(grant_id: Option<pgrx::Uuid>) -> JsonB {
    JsonB(report(grant_id).or_raise())
}

/// `tenancy.sign_off_break_glass(grant_id, verdict, comment, evidence)`.
#[pg_extern(sql = false)]
fn tenancy_sign_off_break_glass(
    grant_id: Option<pgrx::Uuid>,
    verdict: Option<&str>,
    comment: Option<&str>,
    evidence: Option<Vec<Option<pgrx::Uuid>>>,
) {
    sign_off(grant_id, verdict, comment, evidence).or_raise();
}

/// What a report tells, up to a position of the chain.
struct Report {
    content: Value,
    /// What the grant gave and nothing needed: permissions and names of guardrails.
    unused: Vec<String>,
    digest: [u8; 32],
    position: i64,
    /// How many events of the grant it does not tell of.
    later: i64,
}

fn report(grant_id: Option<pgrx::Uuid>) -> Result<Value> {
    context::authorize(DOMAIN, "read")?;
    // It has what the events have.
    context::authorize("audit", "read")?;
    let (context, id) = (context::require()?, id(grant_id)?);
    let organization = context.organization.id;
    user::as_superuser(|| {
        let stored = break_glass_grant::by_id(organization, id)?.ok_or_else(|| unknown(id))?;
        let report = Report::of(&stored)?;
        Ok(json!({
            "report": report.content,
            "digest": hex::encode(&report.digest),
            "later_events": report.later,
            "complete": report.later == 0,
        }))
    })
}

fn sign_off(
    grant_id: Option<pgrx::Uuid>,
    verdict: Option<&str>,
    comment: Option<&str>,
    evidence: Option<Vec<Option<pgrx::Uuid>>>,
) -> Result<()> {
    context::authorize(DOMAIN, "sign_off")?;
    let context = context::require()?;
    let (id, by) = (id(grant_id)?, input::acting_person(&context)?);
    let word = require_not_null(verdict, "verdict")?;
    let verdict = Verdict::parse(word)
        .ok_or_else(|| error::ARGUMENT_INVALID.error("the verdict of break-glass is appropriate or inappropriate"))?;
    let comment = input::text_within(comment, "comment", 2000)?;
    let evidence: Vec<Uuid> = require_not_null(evidence, "evidence")?
        .into_iter()
        .map(|id| require_not_null(id, "a piece of evidence").map(|id| Uuid::from_bytes(*id.as_bytes())))
        .collect::<Result<_>>()?;
    input::must_write()?;
    let organization = context.organization.id;
    user::as_superuser(|| {
        hold_organization(organization);
        must_hold_action(&context, DOMAIN, "sign_off")?;
        let now = clock::now();
        let mut stored = break_glass_grant::by_id(organization, id)?.ok_or_else(|| unknown(id))?;
        let report = Report::of(&stored)?;
        stored.grant.sign_off(&by, now).map_err(|refusal| not_done(id, refusal))?;
        if report.later > 0 {
            let message = format!("{} events of break-glass grant {id} are not sealed yet", report.later);
            return Err(error::GRANT_STATE.error(message).detail("The report could not tell of them."));
        }
        let proof = evidence_of(id, organization, &report, now, &by);
        audit::register_evidence(&proof)?;
        let mut evidence = evidence;
        evidence.push(proof.id);
        let mut described = stored.described();
        described["verdict"] = json!(verdict.name());
        described["evidence"] = json!(evidence);
        described["report_position"] = json!(report.position);
        described["report_digest"] = json!(hex::encode(&report.digest));
        described["unused"] = json!(report.unused);
        let (position, digest) = (report.position, report.digest.as_slice());
        let sign_off =
            SignOff { by: &by, verdict: verdict.name(), comment, evidence, position, digest, unused: report.unused };
        stored.store_sign_off(&sign_off, now)?;
        record(organization, "break_glass_signed_off", Some(comment), &described)
    })
}

/// The report as an artifact, so that exports of the organization's events carry its digest.
fn evidence_of(grant: Uuid, organization: Uuid, report: &Report, now: i64, by: &Person) -> Evidence {
    Evidence {
        id: time_ordered_id(now, rand::rng().random()),
        organization,
        digest: Hash(report.digest),
        media_type: "application/json".into(),
        source: format!("tenancy.break_glass_report('{grant}')"),
        collector: "pg_tenancy".into(),
        collected_at: now,
        registered_at: now,
        registered_by: by.subject.clone(),
        subject: Some(format!("break-glass grant {grant}")),
        relation: "derived-from".into(),
        events: Vec::new(),
        description: None,
    }
}

impl Report {
    /// The report as it is now, or as it was at the sign-off.
    fn of(stored: &StoredGrant) -> Result<Self> {
        let number = |query: &Query, arguments: &[spi::Argument]| {
            let found = transaction::with_latest_snapshot(|| query.read(arguments, |row| row.get::<i64>(1)));
            found.into_iter().flatten().next()
        };
        let signed_off = number(&SIGNED_OFF_AT, &[spi::uuid(stored.id)]);
        let position = match signed_off {
            Some(position) => position,
            None => number(&SEALED, &[spi::uuid(stored.organization)]).unwrap_or_default(),
        };
        // What was never used has no events.
        let since = stored.activated_at.unwrap_or(i64::MAX);
        let (content, unused) = content(stored, position)?;
        let unreadable = |_| error::STATE_INVALID.error("the report of break-glass cannot be encoded");
        // Members in the order of their names, nothing between them: the same bytes whoever writes them.
        let bytes = serde_json::to_vec(&content).map_err(unreadable)?;
        let later = match stored.activated_at {
            Some(_) => number(&LATER, &selection(stored, position, since)).unwrap_or_default(),
            None => 0,
        };
        Ok(Report { content, unused, digest: Sha256::digest(&bytes).into(), position, later })
    }
}

fn selection(stored: &StoredGrant, position: i64, since: i64) -> [spi::Argument; 4] {
    [spi::uuid(stored.organization), spi::uuid(stored.id), argument(position), spi::timestamp(since)]
}

/// What does not change any more once the grant is over.
fn content(stored: &StoredGrant, position: i64) -> Result<(Value, Vec<String>)> {
    let Grant { requester, beneficiary, ends_at, over_at, .. } = &stored.grant;
    let over = over_at.or(ends_at.filter(|end| clock::now() >= *end));
    let (mut events, mut statements) = (Vec::new(), Vec::new());
    let (mut needed, mut passed) = (Vec::new(), Vec::new());
    if let Some(since) = stored.activated_at {
        events = rows(&EVENTS, &selection(stored, position, since), |row| {
            let mut event: Value = serde_json::from_str(&row.get::<String>(1)?).ok()?;
            event["occurred_at"] = json!(timestamp::text(row.timestamp(2)?));
            Some(event)
        })?;
        statements = rows(&STATEMENTS, &selection(stored, position, since), |row| {
            serde_json::from_str(&row.get::<String>(1)?).ok()
        })?;
        needed = texts(&NEEDED, &selection(stored, position, since))?;
        passed = texts(&PASSED, &selection(stored, position, since))?;
    }
    let unused_permissions = unused(&stored.terms.permissions, &kinds(&needed).ok_or_else(unreadable)?);
    let unused_overrides: Vec<&String> = stored.terms.overrides.iter().filter(|name| !passed.contains(*name)).collect();
    let approvals = rows(&APPROVALS, &[spi::uuid(stored.id)], |row| {
        Some(json!({
            "issuer": row.get::<String>(1)?,
            "subject": row.get::<String>(2)?,
            "approved_at": timestamp::text(row.timestamp(3)?),
            "reason": row.get::<String>(4)?,
            "held": row.get::<Vec<String>>(5)?,
        }))
    })?;
    let closing = rows(&DETAILS, &[spi::uuid(stored.id)], |row| {
        Some(json!({
            "requested_at": timestamp::text(row.timestamp(1)?),
            "issuer": row.get::<String>(2),
            "subject": row.get::<String>(3),
            "reason": row.get::<String>(4),
        }))
    })?;
    let content = json!({
        "version": 1,
        "grant": stored.id,
        "organization": stored.organization,
        "reason": stored.reason,
        "ticket": stored.ticket,
        "duration_seconds": stored.terms.duration / 1_000_000,
        "permissions": rules(&stored.terms.permissions),
        "overrides": stored.terms.overrides,
        "requester": { "issuer": requester.issuer, "subject": requester.subject },
        "beneficiary": { "issuer": beneficiary.issuer, "subject": beneficiary.subject },
        "approvals": approvals,
        "closing": closing,
        "activated_at": stored.activated_at.map(timestamp::text),
        "ends_at": ends_at.map(timestamp::text),
        "over_at": over.map(timestamp::text),
        "statements": statements,
        "events": events,
        "needed_permissions": needed,
        "unused_permissions": unused_permissions,
        "unused_overrides": unused_overrides,
        "through_position": position,
    });
    let unused = unused_permissions.iter().chain(unused_overrides).cloned().collect();
    Ok((content, unused))
}

fn texts(query: &Query, arguments: &[spi::Argument]) -> Result<Vec<String>> {
    let found = transaction::with_latest_snapshot(|| query.read(arguments, |row| row.get::<String>(1)));
    found.into_iter().collect::<Option<_>>().ok_or_else(unreadable)
}

fn rows(query: &Query, arguments: &[spi::Argument], read: impl FnMut(&Row) -> Option<Value>) -> Result<Vec<Value>> {
    let found = transaction::with_latest_snapshot(|| query.read(arguments, read));
    found.into_iter().collect::<Option<_>>().ok_or_else(unreadable)
}

fn unreadable() -> Error {
    error::STATE_INVALID.error("what was done under a break-glass grant cannot be read")
}
