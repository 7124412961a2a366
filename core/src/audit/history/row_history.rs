//! A row rebuilt from its events: the state after each event, as far as the events contain it.
//!
//! The event of an update contains only what changed, so a complete state needs an insertion before it or a deletion
//! after it. Values that the events do not contain (digests, commitments, erased payloads) are not guessed: the state
//! is marked incomplete.
//!
//! Decision: `docs/decisions/50-row-event-order.md`.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;
use uuid::Uuid;

/// Columns with their values as JSON; columns that are NULL may be absent.
type Values = BTreeMap<String, Box<RawValue>>;

/// The effect of an event on the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryChange {
    /// The row was inserted.
    Insert,
    /// Columns of the row were changed, possibly its key.
    Update,
    /// The row was deleted.
    Delete,
    /// The table or partition of the row was truncated.
    Truncate,
    /// ALTER TABLE rewrote every row, with other values in some columns.
    Rewrite,
}

impl HistoryChange {
    /// The change for an operation of an event; `None` for an operation that changes no row.
    pub fn parse(operation: &str) -> Option<Self> {
        match operation {
            "insert" => Some(HistoryChange::Insert),
            "update" => Some(HistoryChange::Update),
            "delete" => Some(HistoryChange::Delete),
            "truncate" => Some(HistoryChange::Truncate),
            "rewrite" => Some(HistoryChange::Rewrite),
            _ => None,
        }
    }
}

/// An event about a row with a certain key.
#[derive(Debug, Clone)]
pub struct RowEvent {
    /// Id of the event (UUID version 7).
    pub id: Uuid,
    /// The organization whose chain has the event.
    pub organization: Uuid,
    /// The 64-bit id of the top-level transaction.
    pub transaction: u64,
    /// The place among the events of the same transaction and organization, from 1.
    pub ordinal: i32,
    /// Time of the change, in microseconds since 1970 UTC.
    pub occurred_at: i64,
    /// The effect on the row.
    pub change: HistoryChange,
    /// Number of the block that sealed the event; `None` if it is not sealed.
    pub block: Option<i64>,
    /// Schema and name; a partition has its own.
    pub table: (String, String),
    /// Whether the row has the requested key after the event: false for an update that gave the row another key.
    pub has_key: bool,
    /// The previous key of the row, if an update changed it.
    pub old_key: Option<String>,
    /// JSON text of the payload; absent after an erasure.
    pub payload: Option<String>,
}

/// The JSON object with renamed members; `None` for a text that is not a JSON object.
pub fn with_names(text: &str, name: impl Fn(&str) -> String) -> Option<String> {
    let object: Values = serde_json::from_str(text).ok()?;
    let renamed: Values = object.into_iter().map(|(column, value)| (name(&column), value)).collect();
    serde_json::to_string(&renamed).ok()
}

/// The payload with renamed columns; `None` if the payload cannot be read.
pub fn with_columns(payload: &str, name: impl Fn(&str) -> String) -> Option<String> {
    let raw = |text: String| RawValue::from_string(text).ok();
    let mut payload: Values = serde_json::from_str(payload).ok()?;
    for (part, value) in &mut payload {
        let renamed = match part.as_str() {
            "old" | "new" => with_names(value.get(), &name),
            "digests" | "commitments" => {
                let sides: Values = serde_json::from_str(value.get()).ok()?;
                let side = |(side, value): (String, Box<RawValue>)| Some((side, raw(with_names(value.get(), &name)?)?));
                serde_json::to_string(&sides.into_iter().map(side).collect::<Option<Values>>()?).ok()
            }
            _ => continue,
        };
        *value = raw(renamed?)?;
    }
    serde_json::to_string(&payload).ok()
}

/// The parts of a payload that concern a row.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Payload {
    old: Values,
    new: Values,
    digests: Sides,
    commitments: Sides,
}

/// Columns with a digest or commitment in place of the value; `None` for NULL.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Sides {
    old: BTreeMap<String, Option<IgnoredAny>>,
    new: BTreeMap<String, Option<IgnoredAny>>,
}

/// One side of a change: the recorded values, and the columns with a value that is not recorded.
#[derive(Debug, Clone, Default)]
struct Told {
    /// The recorded values; `None` for NULL.
    values: BTreeMap<String, Option<Box<RawValue>>>,
    undisclosed: BTreeSet<String>,
}

impl Told {
    fn new(values: Values, others: [BTreeMap<String, Option<IgnoredAny>>; 2]) -> Self {
        let mut told = Told::default();
        for (column, value) in values {
            let value = (value.get() != "null").then_some(value);
            told.values.insert(column, value);
        }
        for (column, other) in others.into_iter().flatten() {
            match other {
                Some(_) => drop(told.undisclosed.insert(column)),
                None => drop(told.values.insert(column, None)),
            }
        }
        told
    }

    fn columns(&self) -> impl Iterator<Item = &String> {
        self.values.keys().chain(&self.undisclosed)
    }
}

/// The old and the new side of an event; `None` if the payload was erased or cannot be read.
fn sides(event: &RowEvent) -> Option<(Told, Told)> {
    let payload: Payload = serde_json::from_str(event.payload.as_deref()?).ok()?;
    let Payload { old, new, digests, commitments } = payload;
    Some((Told::new(old, [digests.old, commitments.old]), Told::new(new, [digests.new, commitments.new])))
}

/// A row, as far as its values are known.
#[derive(Debug, Clone, Default)]
pub struct RebuiltRow {
    /// Columns that are not NULL, with their values as JSON.
    pub values: BTreeMap<String, Box<RawValue>>,
    /// Columns that are not NULL and whose values are not recorded.
    pub undisclosed: BTreeSet<String>,
    /// Whether every column that is not NULL is in `values` or `undisclosed`.
    pub whole: bool,
}

/// The state of a key.
#[derive(Debug, Clone)]
pub enum RebuiltState {
    /// The events do not determine the state.
    Unknown,
    /// No row had the key.
    Absent,
    /// A row had the key.
    Present(RebuiltRow),
}

impl RebuiltState {
    /// Whether both states are known to the same extent and agree.
    fn is_like(&self, other: &RebuiltState) -> bool {
        self.text() == other.text() && self.undisclosed() == other.undisclosed() && self.is_whole() == other.is_whole()
    }

    fn is_whole(&self) -> bool {
        match self {
            RebuiltState::Unknown => false,
            RebuiltState::Absent => true,
            RebuiltState::Present(row) => row.whole,
        }
    }
}

impl RebuiltRow {
    fn of(told: Told) -> Self {
        let mut row = RebuiltRow { whole: true, ..RebuiltRow::default() };
        row.put(told);
        row
    }

    fn put(&mut self, told: Told) {
        for (column, value) in told.values {
            self.undisclosed.remove(&column);
            match value {
                Some(value) => drop(self.values.insert(column, value)),
                None => drop(self.values.remove(&column)),
            }
        }
        for column in told.undisclosed {
            self.values.remove(&column);
            self.undisclosed.insert(column);
        }
    }

    /// Whether the recorded values can be those of this row.
    ///
    /// A row that is not whole may have any value that it lacks here.
    fn fits(&self, told: &Told) -> bool {
        let unknown = |column: &String| self.undisclosed.contains(column) || !self.whole;
        let values = told.values.iter().all(|(column, value)| match (self.values.get(column), value) {
            (Some(own), Some(value)) => own.get() == value.get(),
            (Some(_), None) => false,
            (None, Some(_)) => unknown(column),
            (None, None) => !self.undisclosed.contains(column),
        });
        values && told.undisclosed.iter().all(|column| self.values.contains_key(column) || unknown(column))
    }

    /// Whether every recorded value is the one that the row has.
    ///
    /// A difference means that a column was renamed, or added with a default, or that capture was off for a while.
    fn agrees(&self, told: &Told) -> bool {
        let same = |(column, value): (&String, &Option<Box<RawValue>>)| {
            self.undisclosed.contains(column)
                || self.values.get(column).map(|own| own.get()) == value.as_ref().map(|value| value.get())
        };
        let there = |column: &String| self.values.contains_key(column) || self.undisclosed.contains(column);
        told.values.iter().all(same) && told.undisclosed.iter().all(there)
    }

    /// The row after replacing one side of an update by the other.
    fn changed(mut self, from: &Told, to: Told) -> Self {
        self.whole &= self.agrees(from);
        // Of a column that is told on one side only, the other side is told elsewhere: all columns of an update
        // stand on both.
        let missing: Vec<String> =
            from.columns().filter(|column| !to.columns().any(|other| other == *column)).cloned().collect();
        for column in missing {
            self.values.remove(&column);
            self.whole = false;
        }
        self.put(to);
        self
    }
}

/// The columns whose values a rewrite changed.
fn rewritten(event: &RowEvent) -> BTreeSet<String> {
    #[derive(Deserialize, Default)]
    struct New {
        columns: BTreeSet<String>,
    }
    #[derive(Deserialize, Default)]
    struct Rewrite {
        new: New,
    }
    let read = |payload| serde_json::from_str::<Rewrite>(payload).ok();
    event.payload.as_deref().and_then(read).unwrap_or_default().new.columns
}

/// The state on the other side of a rewrite: the values of the rewritten columns are unknown.
fn without_rewritten(event: &RowEvent, state: &RebuiltState) -> RebuiltState {
    let mut state = state.clone();
    if let RebuiltState::Present(row) = &mut state {
        for column in rewritten(event) {
            row.values.remove(&column);
            row.undisclosed.insert(column);
        }
    }
    state
}

/// The state after an event, given the state before it.
fn after(event: &RowEvent, before: RebuiltState) -> RebuiltState {
    if !event.has_key {
        return RebuiltState::Absent;
    }
    match event.change {
        HistoryChange::Delete | HistoryChange::Truncate => RebuiltState::Absent,
        HistoryChange::Rewrite => without_rewritten(event, &before),
        HistoryChange::Insert => {
            RebuiltState::Present(sides(event).map_or_else(RebuiltRow::default, |(_, new)| RebuiltRow::of(new)))
        }
        HistoryChange::Update => {
            let base = if let RebuiltState::Present(row) = before { row } else { RebuiltRow::default() };
            RebuiltState::Present(sides(event).map_or_else(RebuiltRow::default, |(old, new)| base.changed(&old, new)))
        }
    }
}

/// The state before an event, as far as the event and the state after it determine it.
fn before(event: &RowEvent, after: &RebuiltState) -> RebuiltState {
    match (event.change, sides(event)) {
        (HistoryChange::Insert, _) => RebuiltState::Absent,
        (HistoryChange::Rewrite, _) => without_rewritten(event, after),
        (HistoryChange::Delete, Some((old, _))) => RebuiltState::Present(RebuiltRow::of(old)),
        (HistoryChange::Update, _) if event.old_key.is_some() => {
            if event.has_key {
                RebuiltState::Absent
            } else {
                RebuiltState::Unknown
            }
        }
        (HistoryChange::Update, Some((old, new))) => match after {
            RebuiltState::Present(row) => RebuiltState::Present(row.clone().changed(&new, old)),
            _ => RebuiltState::Unknown,
        },
        _ => RebuiltState::Unknown,
    }
}

/// Whether the event is an update that gave the row this key; the previous state then belongs to another key.
fn arrives(event: &RowEvent) -> bool {
    event.change == HistoryChange::Update && event.old_key.is_some() && event.has_key
}

/// The state after an event if the event can follow this state; `None` if it cannot.
///
/// A state that is not whole also shows that the row exists.
fn follow(state: &RebuiltState, event: &RowEvent) -> Option<RebuiltState> {
    let can = match (state, event.change) {
        (RebuiltState::Unknown, _) | (_, HistoryChange::Truncate | HistoryChange::Rewrite) => true,
        (RebuiltState::Absent, change) => change == HistoryChange::Insert || arrives(event),
        (RebuiltState::Present(_), HistoryChange::Insert) => false,
        (RebuiltState::Present(row), _) => !arrives(event) && sides(event).is_none_or(|(old, _)| row.fits(&old)),
    };
    let base = if arrives(event) { RebuiltState::Unknown } else { state.clone() };
    can.then(|| after(event, base))
}

/// The source of the events.
pub trait EventSource {
    /// The error of a failed query for events.
    type Error;
    /// The events of the rows that had this key, and the truncations and rewrites of the table, in any order.
    fn events(&mut self, key: &str) -> Result<Vec<RowEvent>, Self::Error>;
}

/// How many earlier keys of a row are followed.
const MAX_KEYS: usize = 100;

/// An event with the state after it.
#[derive(Debug, Clone)]
pub struct HistoryStep {
    /// The event, in the order of the changes of the row.
    pub event: RowEvent,
    /// The state of the key after the event.
    pub state: RebuiltState,
    /// Whether the events prove that this state lasted until the next event.
    ///
    /// The field is false if the order of the events is uncertain. It is also false if the next event followed another
    /// state, so that a change was not captured.
    pub sure: bool,
}

impl HistoryStep {
    /// Whether the state has every value of the row and lasted until the next event.
    pub fn is_complete(&self, columns: &CurrentColumns) -> bool {
        self.sure && self.state.is_complete(columns)
    }
}

/// The history of a key: the state before the first event, and each event with the state after it.
#[derive(Debug, Clone)]
pub struct RowHistory {
    /// The state before the first event.
    pub before: RebuiltState,
    /// The events in their order, each with the state after it.
    pub steps: Vec<HistoryStep>,
}

impl RowHistory {
    /// The state at a time in microseconds since 1970 UTC, and whether the state is certain.
    ///
    /// A clock that was set back passes some times twice; the state at such a time is not certain.
    pub fn at(self, at: i64) -> (RebuiltState, bool) {
        let until = self.steps.iter().position(|step| step.event.occurred_at > at).unwrap_or(self.steps.len());
        let once = self.steps[until..].iter().all(|step| step.event.occurred_at > at);
        let last = self.steps.into_iter().take(until).next_back();
        last.map_or((self.before, once), |step| (step.state, step.sure && once))
    }
}

/// Rebuilds the history of a key.
pub fn rebuild<S: EventSource>(source: &mut S, key: &str) -> Result<RowHistory, S::Error> {
    Rebuilding { source, events: HashMap::new(), arrivals: HashMap::new(), doubtful: HashSet::new() }.history(key, 0)
}

struct Rebuilding<'s, S> {
    source: &'s mut S,
    /// The events by key, in order.
    events: HashMap<String, Rc<Vec<RowEvent>>>,
    /// The states of rows before they got another key, by the id of the event.
    arrivals: HashMap<Uuid, RebuiltState>,
    /// Events after which the state is not certain.
    doubtful: HashSet<Uuid>,
}

impl<S: EventSource> Rebuilding<'_, S> {
    fn events(&mut self, key: &str) -> Result<Rc<Vec<RowEvent>>, S::Error> {
        if let Some(events) = self.events.get(key) {
            return Ok(events.clone());
        }
        let (events, doubtful) = settle(in_order(self.source.events(key)?));
        self.doubtful.extend(doubtful);
        let events = Rc::new(events);
        self.events.insert(key.to_owned(), events.clone());
        Ok(events)
    }

    fn history(&mut self, key: &str, depth: usize) -> Result<RowHistory, S::Error> {
        let mut steps = self.forward(key, None, depth)?;
        // What was not known from before may be known from what came after.
        for n in (1..steps.len()).rev() {
            if !steps[n - 1].state.is_whole() {
                let earlier = before(&steps[n].event, &steps[n].state);
                if earlier.is_whole() && !matches!(earlier, RebuiltState::Absent) {
                    steps[n - 1].state = earlier;
                }
            }
        }
        let first = steps.first().map_or(RebuiltState::Unknown, |step| before(&step.event, &step.state));
        Ok(RowHistory { before: first, steps })
    }

    /// The states after the events of a key, up to the event `until` if given.
    fn forward(&mut self, key: &str, until: Option<Uuid>, depth: usize) -> Result<Vec<HistoryStep>, S::Error> {
        let events = self.events(key)?;
        let mut steps: Vec<HistoryStep> = Vec::new();
        let mut state = RebuiltState::Unknown;
        let mut table = None;
        for event in events.iter().take_while(|event| Some(event.id) != until) {
            if matches!(event.change, HistoryChange::Truncate | HistoryChange::Rewrite) {
                // Of another partition, or before the row.
                if !matches!(state, RebuiltState::Present(_)) || table != Some(&event.table) {
                    continue;
                }
            } else {
                table = Some(&event.table);
            }
            let base = match &event.old_key {
                Some(old) if event.has_key => self.arrival(event.id, old, depth)?,
                _ => state,
            };
            state = after(event, base);
            let sure = !self.doubtful.contains(&event.id);
            steps.push(HistoryStep { event: event.clone(), state: state.clone(), sure });
        }
        Ok(steps)
    }

    /// The state of a row before the event that took it from another key.
    fn arrival(&mut self, event: Uuid, old_key: &str, depth: usize) -> Result<RebuiltState, S::Error> {
        if let Some(state) = self.arrivals.get(&event) {
            return Ok(state.clone());
        }
        if depth == MAX_KEYS {
            return Ok(RebuiltState::Unknown);
        }
        let mut state = RebuiltState::Unknown;
        if let Some(step) = self.forward(old_key, Some(event), depth + 1)?.pop() {
            state = step.state;
            if let RebuiltState::Present(row) = &mut state {
                row.whole &= step.sure;
            }
        }
        self.arrivals.insert(event, state.clone());
        Ok(state)
    }
}

/// Sorts the events into the order of the row's changes, as far as seal and clock determine it.
///
/// A transaction that changes a row locks it until the end. Of two transactions, the later one is therefore never in an
/// earlier block, and blocks need no clock. Within a block, the seal orders transactions by id, although a transaction
/// that began earlier may have changed the row later; the clock orders these. Within a transaction and organization,
/// the ordinals give the order.
fn in_order(mut events: Vec<RowEvent>) -> Vec<RowEvent> {
    events.sort_by_key(|event| (event.transaction, event.organization, event.ordinal));
    // A clock that was set back within a transaction.
    for n in 1..events.len() {
        let (earlier, event) = (&events[n - 1], &events[n]);
        if (earlier.transaction, earlier.organization) == (event.transaction, event.organization) {
            events[n].occurred_at = event.occurred_at.max(earlier.occurred_at);
        }
    }
    // A row that moves to another organization leaves one chain before it enters the other.
    let block = |event: &RowEvent| event.block.unwrap_or(i64::MAX);
    events.sort_by_key(|event| (block(event), event.occurred_at, event.transaction, event.ordinal));
    let moves = |one: &RowEvent, other: &RowEvent| {
        one.transaction == other.transaction
            && one.organization != other.organization
            && one.occurred_at == other.occurred_at
            && one.change == HistoryChange::Insert
            && other.change == HistoryChange::Delete
    };
    for n in 1..events.len() {
        if moves(&events[n - 1], &events[n]) {
            events.swap(n - 1, n);
        }
    }
    events
}

/// The most events of a row in one transaction for which another order is tried.
const MAX_ARRANGED: usize = 100;
/// The most steps of that search.
const MAX_ATTEMPTS: usize = 10_000;

/// Sorts the events of each transaction into an order in which each can follow the state that the previous one left.
///
/// A trigger that changes the row again has its change recorded first. The function also returns the events after which
/// the state is not certain.
fn settle(events: Vec<RowEvent>) -> (Vec<RowEvent>, HashSet<Uuid>) {
    let mut doubtful = HashSet::new();
    let mut settled: Vec<RowEvent> = Vec::with_capacity(events.len());
    let mut state = RebuiltState::Unknown;
    for group in events.chunk_by(|one, other| one.transaction == other.transaction) {
        let start = settled.len();
        if group.iter().any(|event| matches!(event.change, HistoryChange::Truncate | HistoryChange::Rewrite)) {
            // Of which partition, the state here does not know.
            settled.extend_from_slice(group);
            state = RebuiltState::Unknown;
            continue;
        }
        let mut order = arrange(&state, group);
        if order.is_none() {
            // It came upon another state than the events before it left.
            doubtful.extend(settled.last().map(|event| event.id));
            state = RebuiltState::Unknown;
            order = arrange(&state, group);
        }
        match order {
            Some(order) => settled.extend(order.into_iter().map(|n| group[n].clone())),
            None => {
                doubtful.extend(group.iter().map(|event| event.id));
                settled.extend_from_slice(group);
            }
        }
        for n in start..settled.len() {
            if let Some(next) = settled.get(n + 1) {
                doubtful.extend(uncertain(&state, &settled[n], next).into_iter().flatten());
            }
            state = follow(&state, &settled[n]).unwrap_or_else(|| after(&settled[n], RebuiltState::Unknown));
        }
    }
    (settled, doubtful)
}

/// The first order in which each event can follow the previous one; the given order is tried first.
fn arrange(state: &RebuiltState, group: &[RowEvent]) -> Option<Vec<usize>> {
    let mut given = state.clone();
    if group.iter().all(|event| follow(&given, event).map(|next| given = next).is_some()) {
        return Some((0..group.len()).collect());
    }
    let mut order = Vec::new();
    let mut attempts = 0;
    (group.len() <= MAX_ARRANGED && place_rest(state, group, &mut order, &mut attempts)).then_some(order)
}

fn place_rest(state: &RebuiltState, group: &[RowEvent], order: &mut Vec<usize>, attempts: &mut usize) -> bool {
    if order.len() == group.len() {
        return true;
    }
    for n in 0..group.len() {
        if order.contains(&n) {
            continue;
        }
        *attempts += 1;
        if *attempts > MAX_ATTEMPTS {
            return false;
        }
        if let Some(next) = follow(state, &group[n]) {
            order.push(n);
            if place_rest(&next, group, order, attempts) {
                return true;
            }
            order.pop();
        }
    }
    false
}

/// The events of two consecutive ones whose resulting state is not certain, because the opposite order is possible too.
fn uncertain(state: &RebuiltState, one: &RowEvent, other: &RowEvent) -> [Option<Uuid>; 2] {
    let both = |first, second| follow(state, first).and_then(|state| follow(&state, second));
    let keeps_key = one.old_key.is_none() && other.old_key.is_none();
    // Of a row of which nothing or a part is known, as of one that came from another key, nearly every order is
    // possible: there what both leave is believed as it was told.
    let in_part = !state.is_whole();
    match (both(one, other), both(other, one)) {
        (Some(told), Some(swapped)) if keeps_key => {
            [Some(one.id), (!in_part && !told.is_like(&swapped)).then_some(other.id)]
        }
        _ => [None, None],
    }
}

/// The current columns of the table.
#[derive(Debug, Default)]
pub struct CurrentColumns {
    /// Unquoted names of all columns.
    pub names: BTreeSet<String>,
    /// Columns added with a default: older rows have its value without an event.
    pub defaulted: BTreeSet<String>,
}

impl RebuiltState {
    /// Whether the state has every value of the row.
    pub fn is_complete(&self, columns: &CurrentColumns) -> bool {
        let RebuiltState::Present(row) = self else { return self.is_whole() };
        let named = |column: &String| row.values.contains_key(column);
        row.whole
            && row.undisclosed.is_empty()
            && row.values.keys().all(|column| columns.names.contains(column))
            && columns.defaulted.iter().all(named)
    }

    /// The known values as the text of a JSON object; `None` if there is no row.
    pub fn text(&self) -> Option<String> {
        let RebuiltState::Present(row) = self else { return None };
        let members: Vec<String> = row
            .values
            .iter()
            .map(|(column, value)| format!("{}:{}", serde_json::Value::from(column.as_str()), presentable(value.get())))
            .collect();
        Some(format!("{{{}}}", members.join(",")))
    }

    /// Names of the columns whose values are not recorded.
    pub fn undisclosed(&self) -> Vec<String> {
        match self {
            RebuiltState::Present(row) => row.undisclosed.iter().cloned().collect(),
            _ => Vec::new(),
        }
    }
}

/// The largest exponent of a number that `jsonb` certainly accepts (`numeric` has 131,072 digits before the point).
const MAX_EXPONENT: u32 = 10_000;

/// The value in a form that `jsonb` can represent.
///
/// The type `json` has numbers that `jsonb` does not accept; such a value becomes a string of its text.
pub fn presentable(json: &str) -> String {
    if has_huge_number(json) { serde_json::Value::from(json).to_string() } else { json.to_owned() }
}

fn has_huge_number(json: &str) -> bool {
    let (mut in_string, mut escaped) = (false, false);
    let bytes = json.as_bytes();
    for (n, byte) in bytes.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'e' | b'E' if !in_string && n > 0 && bytes[n - 1].is_ascii_digit() => {
                let digits = bytes[n + 1..].iter().skip_while(|byte| matches!(byte, b'+' | b'-'));
                let digits: String =
                    digits.take_while(|byte| byte.is_ascii_digit()).map(|byte| char::from(*byte)).collect();
                if digits.parse::<u32>().is_ok_and(|exponent| exponent <= MAX_EXPONENT) {
                    continue;
                }
                return true;
            }
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Events by key, in place of a database.
    #[derive(Default)]
    struct Events(Vec<(String, RowEvent)>);

    impl EventSource for Events {
        type Error = ();
        fn events(&mut self, key: &str) -> Result<Vec<RowEvent>, ()> {
            let found = self.0.iter().filter_map(|(row_key, event)| {
                let has_key = row_key == key || event.change == HistoryChange::Truncate;
                let event = RowEvent { has_key, ..event.clone() };
                (has_key || event.old_key.as_deref() == Some(key)).then_some(event)
            });
            Ok(found.collect())
        }
    }

    impl Events {
        fn event(&mut self, change: HistoryChange, key: &str, payload: Option<serde_json::Value>) -> &mut RowEvent {
            let n = self.0.len() as i64 + 1;
            let event = RowEvent {
                id: Uuid::from_u128(n as u128),
                organization: Uuid::nil(),
                transaction: n as u64,
                ordinal: 1,
                occurred_at: n * 1000,
                change,
                table: ("app".into(), "finding".into()),
                has_key: true,
                old_key: None,
                payload: payload.map(|payload| payload.to_string()),
                block: None,
            };
            self.0.push((key.to_owned(), event));
            &mut self.0.last_mut().unwrap().1
        }

        fn insert(&mut self, key: &str, new: serde_json::Value) -> &mut RowEvent {
            self.event(HistoryChange::Insert, key, Some(json!({ "new": new })))
        }

        fn update(&mut self, key: &str, old: serde_json::Value, new: serde_json::Value) -> &mut RowEvent {
            self.event(HistoryChange::Update, key, Some(json!({"old": old, "new": new})))
        }

        fn delete(&mut self, key: &str, old: serde_json::Value) -> &mut RowEvent {
            self.event(HistoryChange::Delete, key, Some(json!({ "old": old })))
        }

        fn history(&mut self, key: &str) -> RowHistory {
            rebuild(self, key).unwrap()
        }

        /// The states after the events, with a question mark where they are not complete.
        fn states(&mut self, key: &str) -> Vec<String> {
            self.history(key)
                .steps
                .iter()
                .map(|step| format!("{}{}", shown(&step.state), if step.sure { "" } else { " or not" }))
                .collect()
        }
    }

    fn shown(state: &RebuiltState) -> String {
        let columns =
            CurrentColumns { names: ["a", "b", "c", "id"].map(str::to_owned).into(), ..CurrentColumns::default() };
        let mark = if state.is_complete(&columns) { "" } else { "?" };
        format!("{}{mark}", state.text().unwrap_or_default())
    }

    #[test]
    fn an_insert_and_its_updates_are_the_row() {
        let mut events = Events::default();
        events.insert("1", json!({"id": 1, "a": "x"}));
        events.update("1", json!({"a": "x", "b": null}), json!({"a": null, "b": [1.10]}));
        events.delete("1", json!({"id": 1, "b": [1.10]}));
        events.insert("1", json!({"id": 1}));
        assert_eq!(events.states("1"), [r#"{"a":"x","id":1}"#, r#"{"b":[1.1],"id":1}"#, "", r#"{"id":1}"#]);
        assert!(matches!(events.history("1").before, RebuiltState::Absent));
        assert!(events.states("2").is_empty());
    }

    #[test]
    fn a_history_that_begins_with_an_update_is_completed_by_a_deletion() {
        let mut events = Events::default();
        events.update("1", json!({"a": 1}), json!({"a": 2}));
        events.update("1", json!({"b": 1}), json!({"b": null}));
        assert_eq!(events.states("1"), [r#"{"a":2}?"#, r#"{"a":2}?"#]);
        events.delete("1", json!({"id": 1, "a": 2, "c": 3}));
        assert_eq!(events.states("1"), [r#"{"a":2,"b":1,"c":3,"id":1}"#, r#"{"a":2,"c":3,"id":1}"#, ""]);
        assert_eq!(shown(&events.history("1").before), r#"{"a":1,"b":1,"c":3,"id":1}"#);
    }

    #[test]
    fn what_is_not_told_is_not_guessed() {
        let mut events = Events::default();
        let digest = json!({"sha256": "00", "bytes": 9000});
        events.event(HistoryChange::Insert, "1", Some(json!({"new": {"id": 1}, "digests": {"new": {"a": digest}}})));
        events.event(
            HistoryChange::Update,
            "1",
            Some(json!({
                "old": {}, "new": {"a": 1}, "digests": {"old": {"a": digest}},
                "commitments": {"key": "k", "old": {"b": null}, "new": {"b": "00"}}
            })),
        );
        events.event(
            HistoryChange::Update,
            "1",
            Some(json!({"old": {}, "new": {}, "commitments": {"key": "k", "old": {"b": "00"}, "new": {"b": null}}})),
        );
        assert_eq!(events.states("1"), [r#"{"id":1}?"#, r#"{"a":1,"id":1}?"#, r#"{"a":1,"id":1}"#]);
        assert_eq!(events.history("1").steps[1].state.undisclosed(), ["b"]);
    }

    #[test]
    fn an_erased_payload_leaves_a_gap_until_the_row_is_told_again() {
        let mut events = Events::default();
        events.insert("1", json!({"id": 1, "a": 1}));
        events.event(HistoryChange::Update, "1", None);
        events.update("1", json!({"a": 2}), json!({"a": 3}));
        assert_eq!(events.states("1"), [r#"{"a":1,"id":1}"#, "{}?", r#"{"a":3}?"#]);
        events.event(HistoryChange::Delete, "1", None);
        events.event(HistoryChange::Insert, "1", None);
        assert_eq!(events.states("1")[3..], ["", "{}?"]);
    }

    #[test]
    fn a_row_is_followed_through_the_keys_it_had() {
        let mut events = Events::default();
        events.insert("1", json!({"id": 1, "a": 1}));
        events.update("2", json!({"id": 1}), json!({"id": 2, "b": 5})).old_key = Some("1".into());
        events.insert("1", json!({"id": 1, "c": 1}));
        events.update("3", json!({"id": 2}), json!({"id": 3})).old_key = Some("2".into());
        events.0[1].1.payload = Some(json!({"old": {"id": 1, "b": null}, "new": {"id": 2, "b": 5}}).to_string());
        assert_eq!(events.states("1"), [r#"{"a":1,"id":1}"#, "", r#"{"c":1,"id":1}"#]);
        assert_eq!(events.states("2"), [r#"{"a":1,"b":5,"id":2}"#, ""]);
        assert_eq!(events.states("3"), [r#"{"a":1,"b":5,"id":3}"#]);
        assert!(matches!(events.history("3").before, RebuiltState::Absent));
    }

    #[test]
    fn keys_that_are_exchanged_again_and_again_are_followed_without_end_to_the_work() {
        let mut events = Events::default();
        events.insert("1", json!({"id": 1, "a": 0}));
        for n in 0..300 {
            let (from, to) = if n % 2 == 0 { (1, 2) } else { (2, 1) };
            events.update(&to.to_string(), json!({"id": from}), json!({"id": to})).old_key = Some(from.to_string());
        }
        assert_eq!(events.states("1").len(), 301);
    }

    #[test]
    fn a_truncation_takes_the_rows_of_its_partition() {
        let mut events = Events::default();
        events.event(HistoryChange::Truncate, "", Some(json!({"rows": 1})));
        events.insert("1", json!({"id": 1}));
        events.event(HistoryChange::Truncate, "", Some(json!({"rows": 1}))).table.1 = "other".into();
        events.event(HistoryChange::Truncate, "", Some(json!({"rows": 1})));
        assert_eq!(events.states("1"), [r#"{"id":1}"#, ""]);
    }

    #[test]
    fn the_order_is_that_of_the_changes() {
        let mut events = Events::default();
        events.insert("1", json!({"id": 1, "a": 0}));
        // The transaction with the lower id changed the row later.
        let event = events.update("1", json!({"a": 1}), json!({"a": 2}));
        (event.transaction, event.occurred_at) = (5, 9000);
        let event = events.update("1", json!({"a": 0}), json!({"a": 1}));
        (event.transaction, event.occurred_at) = (6, 8000);
        // In the same moment out of one organization and into another.
        let event = events.insert("1", json!({"id": 1, "a": 2}));
        (event.transaction, event.ordinal, event.occurred_at, event.organization) = (9, 1, 10_000, Uuid::max());
        let event = events.delete("1", json!({"id": 1, "a": 2}));
        (event.transaction, event.ordinal, event.occurred_at) = (9, 7, 10_000);
        let expected = [r#"{"a":0,"id":1}"#, r#"{"a":1,"id":1}"#, r#"{"a":2,"id":1}"#, "", r#"{"a":2,"id":1}"#];
        assert_eq!(events.states("1"), expected);
    }

    /// Assigns the events to one transaction, with ordinals in their order.
    fn in_one_transaction(events: &mut Events, from: usize) {
        for (n, (_, event)) in events.0.iter_mut().enumerate().skip(from) {
            (event.transaction, event.ordinal) = (1000, n as i32);
        }
    }

    #[test]
    fn changes_by_triggers_of_the_same_row_are_put_after_what_they_came_upon() {
        let mut events = Events::default();
        events.update("1", json!({"b": 0}), json!({"b": 1}));
        events.insert("1", json!({"id": 1, "b": 0}));
        in_one_transaction(&mut events, 0);
        assert_eq!(events.states("1"), [r#"{"b":0,"id":1}"#, r#"{"b":1,"id":1}"#]);
        // An update, whose trigger changes the same column twice.
        events.update("1", json!({"b": 3}), json!({"b": 4})).transaction = 2000;
        events.update("1", json!({"b": 2}), json!({"b": 3})).transaction = 2000;
        events.update("1", json!({"b": 1}), json!({"b": 2})).transaction = 2000;
        assert_eq!(events.states("1")[2..], [r#"{"b":2,"id":1}"#, r#"{"b":3,"id":1}"#, r#"{"b":4,"id":1}"#]);
        // A deletion, whose trigger puts the row back.
        events.insert("1", json!({"id": 1, "b": 4})).transaction = 3000;
        events.delete("1", json!({"id": 1, "b": 4})).transaction = 3000;
        assert_eq!(events.states("1")[5..], ["", r#"{"b":4,"id":1}"#]);
    }

    #[test]
    fn a_state_is_not_sure_where_two_events_may_have_come_either_way() {
        let mut events = Events::default();
        events.insert("1", json!({"id": 1, "a": 0, "b": 0}));
        events.update("1", json!({"a": 0}), json!({"a": 1}));
        events.update("1", json!({"b": 0}), json!({"b": 1}));
        let whole = [r#"{"a":0,"b":0,"id":1}"#, r#"{"a":1,"b":0,"id":1}"#, r#"{"a":1,"b":1,"id":1}"#];
        assert_eq!(events.states("1"), whole, "in transactions of their own they are in order");
        in_one_transaction(&mut events, 1);
        assert_eq!(events.states("1"), [whole[0], &format!("{} or not", whole[1]), whole[2]]);
        // A row that nothing is known of is made and deleted, or deleted and put back.
        let mut events = Events::default();
        events.insert("2", json!({"id": 2}));
        events.delete("2", json!({"id": 2}));
        in_one_transaction(&mut events, 0);
        assert_eq!(events.states("2"), [r#"{"id":2} or not"#, ""]);
    }

    #[test]
    fn a_state_is_not_sure_where_the_next_event_came_upon_another() {
        let mut events = Events::default();
        events.insert("1", json!({"id": 1, "a": 0}));
        events.delete("1", json!({"id": 1, "a": 1}));
        events.delete("1", json!({"id": 1, "a": 2}));
        events.insert("1", json!({"id": 1, "a": 3}));
        events.insert("1", json!({"id": 1, "a": 4}));
        let expected = [r#"{"a":0,"id":1} or not"#, " or not", "", r#"{"a":3,"id":1} or not"#, r#"{"a":4,"id":1}"#];
        assert_eq!(events.states("1"), expected);
        // No order of these is possible.
        events.update("1", json!({"a": 8}), json!({"a": 9}));
        events.update("1", json!({"a": 8}), json!({"a": 9}));
        in_one_transaction(&mut events, 5);
        assert!(events.states("1")[4..].iter().all(|state| state.ends_with(" or not")));
    }

    #[test]
    fn a_clock_that_was_put_back_does_not_change_the_order_of_blocks() {
        let mut events = Events::default();
        events.insert("1", json!({"id": 1, "a": 0})).block = Some(7);
        events.update("1", json!({"a": 0}), json!({"a": 1})).block = Some(8);
        let event = events.update("1", json!({"a": 1}), json!({"a": 0}));
        (event.block, event.occurred_at) = (Some(9), 1500);
        events.update("1", json!({"a": 0}), json!({"a": 1})).occurred_at = 1700;
        let (zero, one) = (r#"{"a":0,"id":1}"#, r#"{"a":1,"id":1}"#);
        assert_eq!(events.states("1"), [zero, one, zero, one]);
        let at = |at| {
            let (state, sure) = events.history("1").at(at);
            format!("{}{}", shown(&state), if sure { "" } else { " or not" })
        };
        assert_eq!(
            [999, 1000, 1499, 1500, 1999, 2000].map(at),
            ["", zero, zero, &format!("{zero} or not"), &format!("{zero} or not"), one]
        );
    }

    #[test]
    fn many_events_of_a_transaction_take_no_time_without_end() {
        let mut events = Events::default();
        events.insert("1", json!({"id": 1, "a": -1}));
        for n in 0..90 {
            events.update("1", json!({"a": n / 2, "b": n}), json!({"a": n % 7, "b": n % 5}));
        }
        in_one_transaction(&mut events, 1);
        assert_eq!(events.states("1").len(), 91);
    }

    #[test]
    fn a_column_that_the_events_cannot_know_makes_the_row_incomplete() {
        let mut events = Events::default();
        events.insert("1", json!({"id": 1, "renamed": 1}));
        assert_eq!(events.states("1"), [r#"{"id":1,"renamed":1}?"#], "of another name today");
        let mut events = Events::default();
        events.insert("1", json!({"id": 1}));
        events.update("1", json!({"a": 7}), json!({"a": 8}));
        assert_eq!(events.states("1"), [r#"{"id":1} or not"#, r#"{"a":8,"id":1}?"#], "a value came without an event");
        let columns = CurrentColumns { names: ["id".into(), "d".into()].into(), defaulted: ["d".into()].into() };
        assert!(!events.history("1").steps[0].state.is_complete(&columns), "added with a default");
    }

    #[test]
    fn numbers_that_jsonb_cannot_hold_become_strings() {
        for (json, huge) in [
            ("1e10", false),
            ("1e400000", true),
            ("[1, 2E-99999999999]", true),
            (r#"{"1e400000": "1e400000 \" 1e400000"}"#, false),
            ("true", false),
        ] {
            assert_eq!(has_huge_number(json), huge, "{json}");
        }
        assert_eq!(presentable("[1e400000]"), r#""[1e400000]""#);
    }
}
