//! What a report tells of the events of a bundle, counted while the bundle is verified.
//!
//! Memory is bounded, apart from a few bytes for each actor: lists keep a part and count the rest.

use super::escape::clipped;
use pg_tenancy_core::audit::export::bundle::line::{Batch, Event, Withheld};
use pg_tenancy_core::audit::export::bundle::observer::Observer;
use pg_tenancy_core::audit::format::event::Actor;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap, VecDeque};
use uuid::Uuid;

/// How many of each thing a report keeps and counts one by one.
pub const MOST: usize = 10_000;

/// How many of the newest events a report shows one by one.
pub const NEWEST: usize = 200;

/// How many numbers of events by person and day are kept.
const MOST_CELLS: usize = 500_000;

/// The longest payload of the newest events that is kept, in bytes.
const MOST_PAYLOAD: usize = 16 * 1024;

/// How many characters of a text are kept.
const MOST_TEXT: usize = 200;

/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;

/// A list of which the first elements are kept.
#[derive(Debug)]
pub struct Kept<T> {
    /// Those that were kept.
    pub list: Vec<T>,
    /// How many more there were.
    pub more: u64,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Kept { list: Vec::new(), more: 0 }
    }
}

impl<T> Kept<T> {
    fn push(&mut self, element: T) {
        if self.list.len() < MOST { self.list.push(element) } else { self.more += 1 }
    }
}

/// Things with a key, in the order of their first appearance.
#[derive(Debug)]
pub struct Found<T> {
    /// Those that were kept.
    pub list: Vec<T>,
    /// How many events were of others.
    pub more: u64,
    places: HashMap<[u8; 32], usize>,
}

impl<T> Default for Found<T> {
    fn default() -> Self {
        Found { list: Vec::new(), more: 0, places: HashMap::new() }
    }
}

impl<T> Found<T> {
    /// The place of the thing with this key.
    ///
    /// `None` if there are too many.
    fn place(&mut self, key: &[&str], make: impl FnOnce() -> T) -> Option<usize> {
        // The digest, since a key may be as long as a line.
        let mut digest = Sha256::new();
        for part in key {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        let key = digest.finalize().into();
        let place = self.places.get(&key).copied();
        if place.is_none() && self.list.len() < MOST {
            self.places.insert(key, self.list.len());
            self.list.push(make());
            return Some(self.list.len() - 1);
        }
        place
    }

    /// The thing with this key; `None`, and one more is counted, if there are too many.
    fn of(&mut self, key: &[&str], make: impl FnOnce() -> T) -> Option<&mut T> {
        let place = self.place(key, make);
        if place.is_none() {
            self.more += 1;
        }
        self.list.get_mut(place?)
    }
}

/// How somebody was admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// With a verified token.
    Token,
    /// As an operator who acted for the organization.
    Assumed,
    /// As a database role alone.
    Role,
    /// The bundle does not tell.
    Withheld,
}

/// Events by what they did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rows that were added.
    pub added: u64,
    /// Rows that were changed.
    pub changed: u64,
    /// Rows that were removed.
    pub removed: u64,
    /// Everything else that was done.
    pub other: u64,
    /// What was refused or failed.
    pub refused: u64,
}

impl Counts {
    fn add(&mut self, batch: &Batch) {
        let count = batch.events.len() as u64;
        *match batch.operation.as_str() {
            _ if batch.result != "success" => &mut self.refused,
            "insert" => &mut self.added,
            "update" => &mut self.changed,
            "delete" | "truncate" => &mut self.removed,
            _ => &mut self.other,
        } += count;
    }

    /// All of them.
    pub fn all(&self) -> u64 {
        self.added + self.changed + self.removed + self.other + self.refused
    }
}

/// When events occurred, in microseconds since 1970 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first.
    pub first: i64,
    /// The last.
    pub last: i64,
}

impl Span {
    /// Of nothing yet.
    const NONE: Span = Span { first: i64::MAX, last: i64::MIN };

    fn add(&mut self, batch: &Batch) {
        for event in &batch.events {
            (self.first, self.last) = (self.first.min(event.occurred_at), self.last.max(event.occurred_at));
        }
    }
}

/// Somebody who acted.
#[derive(Debug)]
pub struct Person {
    /// The subject of the token, or the database role.
    pub name: String,
    /// The issuer of the token.
    pub issuer: Option<String>,
    /// How they were admitted.
    pub admission: Admission,
    /// Whether somebody else has the same name.
    pub shares_its_name: bool,
    /// Their events.
    pub counts: Counts,
    /// When they acted.
    pub span: Span,
}

/// A table, or another thing that events are about.
#[derive(Debug)]
pub struct Subject {
    /// Schema and name of a table, or the domain.
    pub name: String,
    /// Whether it is a table.
    pub table: bool,
    /// Events about it.
    pub counts: Counts,
}

/// Something that was done with more than the rights of a member's role.
#[derive(Debug)]
pub struct Elevated {
    /// The place of the person.
    pub person: Option<usize>,
    /// How the person was admitted, as the actor has it.
    pub method: String,
    /// The reason that was stated.
    pub reason: Option<String>,
    /// The grant of break-glass.
    pub grant: Option<Uuid>,
    /// How many events.
    pub events: u64,
    /// When.
    pub span: Span,
}

/// A step in the life of a grant of break-glass.
#[derive(Debug, Clone)]
pub struct Step {
    /// When.
    pub at: i64,
    /// Who did it.
    pub person: Option<usize>,
    /// What, as the event has it.
    pub operation: String,
    /// The reason that was stated.
    pub reason: Option<String>,
}

/// A grant of break-glass.
#[derive(Debug)]
pub struct Grant {
    /// Its id.
    pub id: String,
    /// For whom.
    pub beneficiary: String,
    /// The ticket that was named.
    pub ticket: Option<String>,
    /// What it permits beside the role.
    pub permissions: Option<String>,
    /// What happened, in its order.
    pub steps: Kept<Step>,
}

/// Something that was refused, or failed.
#[derive(Debug)]
pub struct Refusal {
    /// The place of the person.
    pub person: Option<usize>,
    /// What was tried.
    pub operation: String,
    /// On what.
    pub subject: String,
    /// `denied` or `failed`.
    pub result: String,
    /// The reason of the last one.
    pub reason: Option<String>,
    /// How often.
    pub events: u64,
    /// When.
    pub span: Span,
}

/// The erasure of values of an event.
#[derive(Debug)]
pub struct Erasure {
    /// When.
    pub at: i64,
    /// Who.
    pub person: Option<usize>,
    /// Why.
    pub reason: Option<String>,
    /// The law.
    pub legal_basis: Option<String>,
    /// The event whose values went.
    pub event: String,
    /// Table or domain.
    pub subject: String,
    /// Whether the erasure is among the positions of the bundle.
    pub here: bool,
}

/// A time in which the audit did not look, as it noticed itself.
#[derive(Debug)]
pub struct Unwatched {
    /// When it was noticed.
    pub at: i64,
    /// What the event says.
    pub operation: String,
    /// What it is about.
    pub subject: String,
}

/// One of the newest events.
#[derive(Debug)]
pub struct Newest {
    /// Its position.
    pub position: i64,
    /// When.
    pub at: i64,
    /// Who.
    pub person: Option<usize>,
    /// What.
    pub operation: String,
    /// On what.
    pub subject: String,
    /// `success`, `denied` or `failed`.
    pub result: String,
    /// The reason that was stated.
    pub reason: Option<String>,
    /// The key of the row.
    pub row: Option<String>,
    /// The values.
    pub values: Values,
}

/// The values of an event.
#[derive(Debug)]
pub enum Values {
    /// The payload as it was recorded.
    Payload(String),
    /// It was erased.
    Erased,
    /// It has so many bytes.
    Long(usize),
}

/// What stands behind the actor of a batch.
#[derive(Debug, Clone, Copy)]
struct Behind {
    person: Option<u32>,
    elevated: Option<u32>,
}

/// What a report tells of the events.
#[derive(Debug, Default)]
pub struct Tally {
    /// Who acted.
    pub people: Found<Person>,
    /// What the events are about.
    pub subjects: Found<Subject>,
    /// Events by day since 1970 UTC.
    pub days: BTreeMap<i64, u64>,
    /// Events of days that are not counted one by one.
    pub other_days: u64,
    /// Events by place of the person and day.
    pub cells: HashMap<(u32, i64), u32>,
    /// Whether there were too many of those.
    pub cells_full: bool,
    /// Things done with more than the rights of a member's role.
    pub elevated: Found<Elevated>,
    /// Grants of break-glass.
    pub grants: Found<Grant>,
    /// What was refused.
    pub refusals: Found<Refusal>,
    /// Erasures of values.
    pub erasures: Kept<Erasure>,
    /// Positions of which the bundle has the place alone, adjacent ones as one.
    pub absent: Kept<(i64, i64)>,
    /// Times in which the audit did not look.
    pub unwatched: Kept<Unwatched>,
    /// The newest events, in the order of their positions.
    pub newest: VecDeque<Newest>,
    /// All events with a position.
    pub events: u64,
    /// The first person of each name.
    names: HashMap<String, usize>,
    actors: HashMap<Uuid, Behind>,
}

/// The beginning of a text that a report may show.
fn short(text: &str) -> String {
    clipped(text, MOST_TEXT)
}

fn short_option(text: &Option<String>) -> Option<String> {
    text.as_deref().map(short)
}

/// What a batch is about, and whether that is a table.
fn subject(batch: &Batch) -> (String, bool) {
    match (&batch.table_schema, &batch.table_name) {
        (Some(schema), Some(name)) if schema == "public" => (short(name), true),
        (Some(schema), Some(name)) => (short(&format!("{schema}.{name}")), true),
        (_, Some(name)) => (short(name), true),
        _ => (short(&batch.domain), false),
    }
}

/// The `new` values of an event that the extension itself records.
///
/// An event that an application records has `data` in their place.
fn new_values(event: &Event) -> Option<Value> {
    let mut payload: Value = serde_json::from_str(event.payload.as_deref()?).ok()?;
    payload.get_mut("new").map(Value::take)
}

impl Observer for Tally {
    fn actor(&mut self, actor: &Actor) {
        let (admission, name) = match &actor.subject {
            None => (Admission::Role, &actor.session_user),
            Some(subject) if actor.method == "assumed" => (Admission::Assumed, subject),
            Some(subject) => (Admission::Token, subject),
        };
        // The issuer of an operator is a constant of the extension.
        let issuer = actor.issuer.as_deref().filter(|_| admission == Admission::Token);
        let key = [admission_key(admission), name, issuer.unwrap_or_default()];
        let person = self.people.place(&key, || Person {
            name: short(name),
            issuer: issuer.map(short),
            admission,
            shares_its_name: false,
            counts: Counts::default(),
            span: Span::NONE,
        });
        self.compare_name(person);
        let elevated = actor.grant.is_some() || !matches!(actor.method.as_str(), "token" | "none");
        let elevated = elevated.then(|| {
            let grant = actor.grant.map(|grant| grant.to_string()).unwrap_or_default();
            let who = person.map(|person| person.to_string()).unwrap_or_default();
            let key = [&actor.method, &grant, actor.reason.as_deref().unwrap_or_default(), &who];
            self.elevated.place(&key, || Elevated {
                person,
                method: short(&actor.method),
                reason: short_option(&actor.reason),
                grant: actor.grant,
                events: 0,
                span: Span::NONE,
            })
        });
        // An actor of more than MOST elevations counts with those that are not kept.
        let elevated = elevated.map(|place| place.map_or(u32::MAX, |place| place as u32));
        let behind = Behind { person: person.map(|person| person as u32), elevated };
        self.actors.insert(actor.id, behind);
    }

    fn withheld(&mut self, actor: &Withheld) {
        let person = self.people.place(&[admission_key(Admission::Withheld)], || Person {
            name: "somebody who is not shown".into(),
            issuer: None,
            admission: Admission::Withheld,
            shares_its_name: false,
            counts: Counts::default(),
            span: Span::NONE,
        });
        let behind = Behind { person: person.map(|person| person as u32), elevated: None };
        self.actors.insert(actor.id, behind);
    }

    fn batch(&mut self, batch: &Batch, here: bool) {
        let behind = self.actors.get(&batch.actor).copied();
        let behind = behind.unwrap_or(Behind { person: None, elevated: None });
        let person = behind.person.map(|person| person as usize);
        if batch.operation == "erase" {
            self.erased(batch, person, here);
        }
        if !here {
            return;
        }
        self.events += batch.events.len() as u64;
        self.count(batch, person, behind);
        self.by_day(batch, behind.person);
        if batch.domain == "break_glass" && batch.table_name.is_none() {
            self.broken_glass(batch, person);
        }
        if matches!(batch.operation.as_str(), "gap" | "capture_off" | "rewrite") && batch.result == "success" {
            for event in &batch.events {
                let name = new_values(event).and_then(|new| new["name"].as_str().map(short));
                let subject = name.unwrap_or_else(|| subject(batch).0);
                self.unwatched.push(Unwatched { at: event.occurred_at, operation: short(&batch.operation), subject });
            }
        }
        self.remember(batch, person);
    }

    fn absent(&mut self, first: i64, last: i64) {
        match self.absent.list.last_mut() {
            Some((_, end)) if *end + 1 == first => *end = last,
            _ => self.absent.push((first, last)),
        }
    }
}

fn admission_key(admission: Admission) -> &'static str {
    match admission {
        Admission::Token => "token",
        Admission::Assumed => "assumed",
        Admission::Role => "role",
        Admission::Withheld => "withheld",
    }
}

impl Tally {
    /// Remembers who has the name of this person too.
    fn compare_name(&mut self, person: Option<usize>) {
        let Some(place) = person else { return };
        let first = *self.names.entry(self.people.list[place].name.clone()).or_insert(place);
        if first != place {
            self.people.list[first].shares_its_name = true;
            self.people.list[place].shares_its_name = true;
        }
    }

    fn count(&mut self, batch: &Batch, person: Option<usize>, behind: Behind) {
        let events = batch.events.len() as u64;
        match person.and_then(|person| self.people.list.get_mut(person)) {
            Some(person) => {
                person.counts.add(batch);
                person.span.add(batch);
            }
            None => self.people.more += events,
        }
        let (name, table) = subject(batch);
        let schema = batch.table_schema.as_deref().unwrap_or_default();
        let key = [schema, batch.table_name.as_deref().unwrap_or_default(), if table { "" } else { &batch.domain }];
        match self.subjects.place(&key, || Subject { name: name.clone(), table, counts: Counts::default() }) {
            Some(place) => self.subjects.list[place].counts.add(batch),
            None => self.subjects.more += events,
        }
        if let Some(place) = behind.elevated {
            match self.elevated.list.get_mut(place as usize) {
                Some(elevated) => {
                    elevated.events += events;
                    elevated.span.add(batch);
                }
                None => self.elevated.more += events,
            }
        }
        if batch.result != "success" {
            let who = person.map(|person| person.to_string()).unwrap_or_default();
            let key = [&who, &batch.operation, &name, batch.result.as_str()];
            let refusal = self.refusals.of(&key, || Refusal {
                person,
                operation: short(&batch.operation),
                subject: name.clone(),
                result: short(&batch.result),
                reason: None,
                events: 0,
                span: Span::NONE,
            });
            if let Some(refusal) = refusal {
                refusal.events += events;
                refusal.span.add(batch);
                refusal.reason = short_option(&batch.reason);
            }
        }
    }

    fn by_day(&mut self, batch: &Batch, person: Option<u32>) {
        for event in &batch.events {
            let day = event.occurred_at.div_euclid(DAY);
            if self.days.len() < MOST || self.days.contains_key(&day) {
                *self.days.entry(day).or_default() += 1;
            } else {
                self.other_days += 1;
                continue;
            }
            let Some(person) = person else { continue };
            if self.cells.len() < MOST_CELLS || self.cells.contains_key(&(person, day)) {
                *self.cells.entry((person, day)).or_default() += 1;
            } else {
                self.cells_full = true;
            }
        }
    }

    fn erased(&mut self, batch: &Batch, person: Option<usize>, here: bool) {
        #[derive(Deserialize)]
        struct Payload {
            data: Data,
        }
        #[derive(Deserialize)]
        struct Data {
            event: Uuid,
            legal_basis: Option<String>,
        }
        for event in &batch.events {
            let payload = event.payload.as_deref().and_then(|text| serde_json::from_str::<Payload>(text).ok());
            let Some(Payload { data }) = payload else { continue };
            self.erasures.push(Erasure {
                at: event.occurred_at,
                person,
                reason: short_option(&batch.reason),
                legal_basis: short_option(&data.legal_basis),
                event: data.event.to_string(),
                subject: subject(batch).0,
                here,
            });
        }
    }

    fn broken_glass(&mut self, batch: &Batch, person: Option<usize>) {
        if batch.operation == "statement" || batch.result != "success" {
            return;
        }
        for event in &batch.events {
            let Some(new) = new_values(event) else { continue };
            let text = |name: &str| new[name].as_str().map(short);
            let Some(id) = text("grant") else { continue };
            let grant = self.grants.of(&[&id], || Grant {
                id: id.clone(),
                beneficiary: String::new(),
                ticket: None,
                permissions: None,
                steps: Kept::default(),
            });
            let Some(grant) = grant else { continue };
            if let Some(beneficiary) = text("beneficiary_subject") {
                grant.beneficiary = beneficiary;
            }
            if batch.operation == "break_glass_requested" {
                grant.ticket = text("ticket");
                let permissions = new["permissions"].as_array().into_iter().flatten();
                let permissions: Vec<&str> = permissions.filter_map(Value::as_str).collect();
                grant.permissions = Some(short(&permissions.join(", ")));
            }
            if grant.steps.list.len() < 20 {
                grant.steps.push(Step {
                    at: event.occurred_at,
                    person,
                    operation: short(&batch.operation),
                    reason: short_option(&batch.reason),
                });
            } else {
                grant.steps.more += 1;
            }
        }
    }

    fn remember(&mut self, batch: &Batch, person: Option<usize>) {
        let subject = subject(batch).0;
        let skip = batch.events.len().saturating_sub(NEWEST);
        for (place, event) in batch.events.iter().enumerate().skip(skip) {
            if self.newest.len() == NEWEST {
                self.newest.pop_front();
            }
            self.newest.push_back(Newest {
                position: batch.position.saturating_add(place as i64),
                at: event.occurred_at,
                person,
                operation: short(&batch.operation),
                subject: subject.clone(),
                result: short(&batch.result),
                reason: short_option(&batch.reason),
                row: short_option(&event.row_key),
                values: match &event.payload {
                    None => Values::Erased,
                    Some(payload) if payload.len() > MOST_PAYLOAD => Values::Long(payload.len()),
                    Some(payload) => Values::Payload(payload.clone()),
                },
            });
        }
    }
}
