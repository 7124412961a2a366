//! `tenancy.add_evidence`: registers an artifact, as a row and as an event that has the row's digest.

use crate::audit::capture::append::{self, NewEvent, append};
use crate::context;
use crate::pg::report::OrRaise;
use crate::pg::spi::{self, Query, argument};
use crate::pg::transaction;
use crate::pg::user;
use pg_tenancy_core::audit::export::evidence::{Evidence, RELATIONS, is_media_type};
use pg_tenancy_core::audit::format::event::time_ordered_id;
use pg_tenancy_core::audit::format::hex::{self, Hash};
use pg_tenancy_core::audit::format::timestamp;
use pg_tenancy_core::error::{self, Error, Result, require_not_null};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::{Array, pg_extern};
use rand::RngExt as _;
use serde_json::json;
use std::collections::BTreeSet;
use uuid::Uuid;

const MAX_TEXT_BYTES: usize = 2000;
const MAX_EVENTS: usize = 1000;

/// How far the clock of a collector may be ahead, in microseconds.
const CLOCKS: i64 = 5 * 60 * 1_000_000;

static FOREIGN_EVENT: Query = Query::new(
    "SELECT w.id
       FROM unnest($2) w (id),
            LATERAL (SELECT tenancy.batch_of(w.id) AS batch, ('x' || right(w.id::text, 3))::bit(12)::integer AS place) i
      WHERE NOT EXISTS (SELECT FROM tenancy.event_batch e
                         WHERE e.id = i.batch AND e.organization = $1 AND e.events > i.place)
        AND NOT EXISTS (SELECT FROM tenancy.entry s
                         WHERE s.organization = $1 AND s.batch = i.batch AND s.events > i.place)
      LIMIT 1",
);

static ADD: Query = Query::new(
    "INSERT INTO tenancy.evidence (id, organization, digest, media_type, source, collector, collected_at, registered_at,
         registered_by, subject, relation, events, description, record, registration)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
);

/// `tenancy.add_evidence(...)`: returns the id of the evidence.
#[allow(clippy::too_many_arguments)]
#[pg_extern(sql = false)]
fn tenancy_add_evidence(
    digest: Option<&[u8]>,
    media_type: Option<&str>,
    source: Option<&str>,
    collector: Option<&str>,
    collected_at: Option<TimestampWithTimeZone>,
    subject: Option<&str>,
    relation: Option<&str>,
    events: Option<Array<pgrx::Uuid>>,
    description: Option<&str>,
) -> pgrx::Uuid {
    let given = Given {
        digest,
        media_type,
        source,
        collector,
        collected_at: collected_at.map(transaction::microseconds),
        subject,
        relation,
        events: events.map(|events| given_ids(&events)),
        description,
    };
    pgrx::Uuid::from_bytes(*add(given).or_raise().as_bytes())
}

/// The arguments as they came.
struct Given<'a> {
    digest: Option<&'a [u8]>,
    media_type: Option<&'a str>,
    source: Option<&'a str>,
    collector: Option<&'a str>,
    collected_at: Option<i64>,
    subject: Option<&'a str>,
    relation: Option<&'a str>,
    events: Option<Vec<Option<Uuid>>>,
    description: Option<&'a str>,
}

fn add(given: Given) -> Result<Uuid> {
    let evidence = describe(given)?;
    if transaction::read_only() {
        return Err(error::READ_ONLY.error("evidence cannot be registered on a standby or in a READ ONLY transaction"));
    }
    require_events(evidence.organization, &evidence.events)?;
    register(&evidence)?;
    Ok(evidence.id)
}

/// Registers it as a row, and as an event of whoever acts. The caller has checked it.
pub fn register(evidence: &Evidence) -> Result<()> {
    let registration = append(NewEvent {
        organization: evidence.organization,
        operation: "insert",
        domain: "evidence",
        table_schema: Some("tenancy"),
        table_name: Some("evidence"),
        row_key: Some(json!({ "id": evidence.id }).to_string()),
        result: "success",
        reason: None,
        payload: payload(evidence),
    })?;
    user::as_superuser(|| write(evidence, registration));
    Ok(())
}

/// Checks who registers, and everything but the events.
fn describe(given: Given) -> Result<Evidence> {
    context::authorize("evidence", "create")?;
    let context = context::require()?;
    let registered_at = transaction::now();
    let digest = <[u8; 32]>::try_from(self::require_not_null(given.digest, "digest")?);
    let digest = digest.map_err(|_| invalid("digest must be the 32 bytes of a SHA-256"))?;
    let media_type = self::require_not_null(given.media_type, "media_type")?;
    if !is_media_type(media_type) {
        return Err(invalid(
            "media_type must be the name of a media type, such as application/pdf, without parameters",
        ));
    }
    let relation = self::require_not_null(given.relation, "relation")?;
    if !RELATIONS.contains(&relation) {
        return Err(invalid(&format!("relation must be one of {}", RELATIONS.join(", "))));
    }
    let source = self::require_not_null(given.source, "source")?;
    let collector = given.collector.unwrap_or(&context.subject);
    let texts = [("source", Some(source)), ("collector", Some(collector)), ("subject", given.subject)];
    for (name, text) in [texts.as_slice(), &[("description", given.description)]].concat() {
        if text.is_some_and(|text| text.is_empty() || text.len() > MAX_TEXT_BYTES) {
            return Err(invalid(&format!("{name} must have 1 to {MAX_TEXT_BYTES} bytes")));
        }
    }
    let collected_at = given.collected_at.unwrap_or(registered_at);
    if !(0..=timestamp::LAST.min(registered_at + CLOCKS)).contains(&collected_at) {
        return Err(invalid("collected_at must lie between 1970 and now"));
    }
    Ok(Evidence {
        id: time_ordered_id(registered_at, rand::rng().random()),
        organization: context.organization.id,
        digest: Hash(digest),
        media_type: media_type.into(),
        source: source.into(),
        collector: collector.into(),
        collected_at,
        registered_at,
        registered_by: context.subject.clone(),
        subject: given.subject.map(str::to_owned),
        relation: relation.into(),
        events: events(self::require_not_null(given.events, "events")?)?,
        description: given.description.map(str::to_owned),
    })
}

fn invalid(message: &str) -> Error {
    error::ARGUMENT_INVALID.error(message)
}

/// The events, each once, in the order given.
pub fn events(given: Vec<Option<Uuid>>) -> Result<Vec<Uuid>> {
    if given.len() > MAX_EVENTS {
        return Err(invalid(&format!("events has more than {MAX_EVENTS} elements")));
    }
    let given: Option<Vec<Uuid>> = given.into_iter().collect();
    let mut seen = BTreeSet::new();
    let events = given.ok_or_else(|| invalid("events may not have a NULL in it"))?;
    Ok(events.into_iter().filter(|id| seen.insert(*id)).collect())
}

/// Refuses events that are not the organization's, in the words for one that is nobody's.
pub fn require_events(organization: Uuid, events: &[Uuid]) -> Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    // An event of this same statement waits to be written: `events => ARRAY[tenancy.record_event(...)]`.
    append::statement_finished();
    transaction::next_command();
    let arguments = [spi::uuid(organization), argument(ids(events))];
    let foreign =
        user::as_superuser(|| transaction::with_latest_snapshot(|| FOREIGN_EVENT.read(&arguments, |row| row.uuid(1))));
    match foreign.first() {
        None => Ok(()),
        Some(id) => {
            let id = id.unwrap_or_default();
            Err(error::NOT_FOUND.error(format!("the organization has no event {id}")))
        }
    }
}

/// The elements of an array as they came.
pub fn given_ids(events: &Array<pgrx::Uuid>) -> Vec<Option<Uuid>> {
    events.iter().map(|id| id.map(|id| Uuid::from_bytes(*id.as_bytes()))).collect()
}

fn ids(events: &[Uuid]) -> Vec<pgrx::Uuid> {
    events.iter().map(|id| pgrx::Uuid::from_bytes(*id.as_bytes())).collect()
}

/// As a row trigger would write it.
fn payload(evidence: &Evidence) -> String {
    let mut new = json!({
        "id": evidence.id,
        "organization": evidence.organization,
        "digest": format!("\\x{}", hex::encode(&evidence.digest.0)),
        "media_type": evidence.media_type,
        "source": evidence.source,
        "collector": evidence.collector,
        "collected_at": timestamp::text(evidence.collected_at),
        "registered_at": timestamp::text(evidence.registered_at),
        "registered_by": evidence.registered_by,
        "relation": evidence.relation,
        "events": evidence.events,
        "record": format!("\\x{}", hex::encode(&evidence.record())),
    });
    for (name, value) in [("subject", &evidence.subject), ("description", &evidence.description)] {
        if let Some(value) = value {
            new[name] = json!(value);
        }
    }
    json!({ "new": new }).to_string()
}

fn write(evidence: &Evidence, registration: Uuid) {
    let arguments = [
        spi::uuid(evidence.id),
        spi::uuid(evidence.organization),
        argument(evidence.digest.0.as_slice()),
        argument(evidence.media_type.as_str()),
        argument(evidence.source.as_str()),
        argument(evidence.collector.as_str()),
        spi::timestamp(evidence.collected_at),
        spi::timestamp(evidence.registered_at),
        argument(evidence.registered_by.as_str()),
        argument(evidence.subject.as_deref()),
        argument(evidence.relation.as_str()),
        argument(ids(&evidence.events)),
        argument(evidence.description.as_deref()),
        argument(evidence.record().as_slice()),
        spi::uuid(registration),
    ];
    ADD.write(&arguments, |_| ());
}
