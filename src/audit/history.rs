//! A row rebuilt from its events: what it was after each, as far as they tell.
//!
//! An event of an update tells what changed, so a state needs an insertion before it or a deletion after it to be whole. What
//! is not told (digests, commitments, erased payloads) is not guessed: the state says that it is incomplete.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use uuid::Uuid;

/// Columns with their values as JSON; those that are NULL may be absent.
type Values = BTreeMap<String, Box<RawValue>>;

/// What an event did to the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Insert,
    Update,
    Delete,
    Truncate,
}

impl Change {
    pub fn parse(operation: &str) -> Option<Self> {
        match operation {
            "insert" => Some(Change::Insert),
            "update" => Some(Change::Update),
            "delete" => Some(Change::Delete),
            "truncate" => Some(Change::Truncate),
            _ => None,
        }
    }
}

/// An event about a row with a certain key.
#[derive(Debug, Clone)]
pub struct Event {
    pub id: Uuid,
    pub organization: Uuid,
    pub transaction: u64,
    pub ordinal: i32,
    pub occurred_at: i64,
    pub change: Change,
    /// Schema and name: a partition has its own.
    pub table: (String, String),
    /// False for an update that gave the row another key.
    pub has_key: bool,
    /// The key that an update took the row from, where that is another one.
    pub old_key: Option<String>,
    /// Absent where it was erased.
    pub payload: Option<String>,
}

/// What a payload tells of a row.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Payload {
    old: Values,
    new: Values,
    digests: Sides,
    commitments: Sides,
}

/// Columns of which something else than the value is told; `None` for NULL.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Sides {
    old: BTreeMap<String, Option<IgnoredAny>>,
    new: BTreeMap<String, Option<IgnoredAny>>,
}

/// One side of a change: the values that are told, and the columns that have another which is not.
#[derive(Debug, Clone, Default)]
struct Told {
    /// `None` for NULL.
    values: BTreeMap<String, Option<Box<RawValue>>>,
    untold: BTreeSet<String>,
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
                Some(_) => drop(told.untold.insert(column)),
                None => drop(told.values.insert(column, None)),
            }
        }
        told
    }

    fn columns(&self) -> impl Iterator<Item = &String> {
        self.values.keys().chain(&self.untold)
    }
}

/// The old and the new side of an event; `None` where the payload was erased or cannot be read.
fn sides(event: &Event) -> Option<(Told, Told)> {
    let payload: Payload = serde_json::from_str(event.payload.as_deref()?).ok()?;
    let Payload { old, new, digests, commitments } = payload;
    Some((Told::new(old, [digests.old, commitments.old]), Told::new(new, [digests.new, commitments.new])))
}

/// A row as far as it is known.
#[derive(Debug, Clone, Default)]
pub struct Row {
    /// Columns that are not NULL.
    pub values: BTreeMap<String, Box<RawValue>>,
    /// Columns that are not NULL and whose value is not told.
    pub untold: BTreeSet<String>,
    /// Every column that is not NULL is in one of these.
    pub whole: bool,
}

/// What was there.
#[derive(Debug, Clone)]
pub enum State {
    /// Nothing tells.
    Unknown,
    /// No row had the key.
    Absent,
    Present(Row),
}

impl State {
    fn is_whole(&self) -> bool {
        match self {
            State::Unknown => false,
            State::Absent => true,
            State::Present(row) => row.whole,
        }
    }
}

impl Row {
    fn of(told: Told) -> Self {
        let mut row = Row { whole: true, ..Row::default() };
        row.put(told);
        row
    }

    fn put(&mut self, told: Told) {
        for (column, value) in told.values {
            self.untold.remove(&column);
            match value {
                Some(value) => drop(self.values.insert(column, value)),
                None => drop(self.values.remove(&column)),
            }
        }
        for column in told.untold {
            self.values.remove(&column);
            self.untold.insert(column);
        }
    }

    /// False if a value that is told is not the one that the row has: a column was renamed, or added with a default, or
    /// capture was off for a while.
    fn agrees(&self, told: &Told) -> bool {
        let same = |(column, value): (&String, &Option<Box<RawValue>>)| {
            self.untold.contains(column)
                || self.values.get(column).map(|own| own.get()) == value.as_ref().map(|value| value.get())
        };
        let there = |column: &String| self.values.contains_key(column) || self.untold.contains(column);
        told.values.iter().all(same) && told.untold.iter().all(there)
    }

    /// The row with one side of an update in the place of the other.
    fn changed(mut self, from: &Told, to: Told) -> Self {
        self.whole &= self.agrees(from);
        // Of a column that is told on one side only, the other side is told elsewhere: all columns of an update stand on both.
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

/// The row after an event and before it was as given.
fn after(event: &Event, before: State) -> State {
    if !event.has_key {
        return State::Absent;
    }
    match event.change {
        Change::Delete | Change::Truncate => State::Absent,
        Change::Insert => State::Present(sides(event).map_or_else(Row::default, |(_, new)| Row::of(new))),
        Change::Update => {
            let base = if let State::Present(row) = before { row } else { Row::default() };
            State::Present(sides(event).map_or_else(Row::default, |(old, new)| base.changed(&old, new)))
        }
    }
}

/// The row before an event, as far as the event and what was there after it tell.
fn before(event: &Event, after: &State) -> State {
    match (event.change, sides(event)) {
        (Change::Insert, _) => State::Absent,
        (Change::Delete, Some((old, _))) => State::Present(Row::of(old)),
        (Change::Update, _) if event.old_key.is_some() => {
            if event.has_key {
                State::Absent
            } else {
                State::Unknown
            }
        }
        (Change::Update, Some((old, new))) => match after {
            State::Present(row) => State::Present(row.clone().changed(&new, old)),
            _ => State::Unknown,
        },
        _ => State::Unknown,
    }
}

/// Where the events are.
pub trait Source {
    type Error;
    /// The events of the rows that had this key, and the truncations of the table, in any order.
    fn events(&mut self, key: &str) -> Result<Vec<Event>, Self::Error>;
}

/// How often a row's key is followed to the one before.
const MAX_KEYS: usize = 100;

/// An event with the state after it.
#[derive(Debug, Clone)]
pub struct Step {
    pub event: Event,
    pub state: State,
}

/// The history of a key: what was there before the first event, and the events in order with what was there after each.
#[derive(Debug, Clone)]
pub struct History {
    pub before: State,
    pub steps: Vec<Step>,
}

/// Rebuilds the history of a key.
pub fn rebuild<S: Source>(source: &mut S, key: &str) -> Result<History, S::Error> {
    Rebuilding { source, events: HashMap::new(), arrivals: HashMap::new() }.history(key, 0)
}

struct Rebuilding<'s, S> {
    source: &'s mut S,
    /// By key, in order.
    events: HashMap<String, Rc<Vec<Event>>>,
    /// What rows were before they got another key, by the event.
    arrivals: HashMap<Uuid, State>,
}

impl<S: Source> Rebuilding<'_, S> {
    fn events(&mut self, key: &str) -> Result<Rc<Vec<Event>>, S::Error> {
        if let Some(events) = self.events.get(key) {
            return Ok(events.clone());
        }
        let events = Rc::new(in_order(self.source.events(key)?));
        self.events.insert(key.to_owned(), events.clone());
        Ok(events)
    }

    fn history(&mut self, key: &str, depth: usize) -> Result<History, S::Error> {
        let mut steps = self.forward(key, None, depth)?;
        // What was not known from before may be known from what came after.
        for n in (1..steps.len()).rev() {
            if !steps[n - 1].state.is_whole() {
                let earlier = before(&steps[n].event, &steps[n].state);
                if earlier.is_whole() && !matches!(earlier, State::Absent) {
                    steps[n - 1].state = earlier;
                }
            }
        }
        let first = steps.first().map_or(State::Unknown, |step| before(&step.event, &step.state));
        Ok(History { before: first, steps })
    }

    /// The states after the events of a key, up to an event if one is given.
    fn forward(&mut self, key: &str, until: Option<Uuid>, depth: usize) -> Result<Vec<Step>, S::Error> {
        let events = self.events(key)?;
        let mut steps: Vec<Step> = Vec::new();
        let mut state = State::Unknown;
        let mut table = None;
        for event in events.iter().take_while(|event| Some(event.id) != until) {
            if event.change == Change::Truncate {
                // Of another partition, or before the row.
                if !matches!(state, State::Present(_)) || table != Some(&event.table) {
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
            steps.push(Step { event: event.clone(), state: state.clone() });
        }
        Ok(steps)
    }

    /// What a row was before the event that took it from another key.
    fn arrival(&mut self, event: Uuid, old_key: &str, depth: usize) -> Result<State, S::Error> {
        if let Some(state) = self.arrivals.get(&event) {
            return Ok(state.clone());
        }
        if depth == MAX_KEYS {
            return Ok(State::Unknown);
        }
        let state = self.forward(old_key, Some(event), depth + 1)?.pop().map_or(State::Unknown, |step| step.state);
        self.arrivals.insert(event, state.clone());
        Ok(state)
    }
}

/// In the order in which the row was changed. That is not the order of the seal, which has the transactions of a block by their
/// ids: one that began earlier may have changed the row later. It is the order of the clock, because whoever changes a
/// row holds it until the end of the transaction; and within a transaction and organization that of the ordinals.
fn in_order(mut events: Vec<Event>) -> Vec<Event> {
    events.sort_by_key(|event| (event.transaction, event.organization, event.ordinal));
    // A clock that was set back within a transaction.
    for n in 1..events.len() {
        let (earlier, event) = (&events[n - 1], &events[n]);
        if (earlier.transaction, earlier.organization) == (event.transaction, event.organization) {
            events[n].occurred_at = event.occurred_at.max(earlier.occurred_at);
        }
    }
    // A row that moves to another organization leaves one chain before it enters the other.
    events.sort_by_key(|event| (event.occurred_at, event.transaction, event.ordinal));
    let moves = |one: &Event, other: &Event| {
        one.transaction == other.transaction
            && one.organization != other.organization
            && one.occurred_at == other.occurred_at
            && one.change == Change::Insert
            && other.change == Change::Delete
    };
    for n in 1..events.len() {
        if moves(&events[n - 1], &events[n]) {
            events.swap(n - 1, n);
        }
    }
    events
}

/// The columns of the table as it is now.
#[derive(Debug, Default)]
pub struct Columns {
    pub names: BTreeSet<String>,
    /// Added with a default, which rows from before have without an event.
    pub defaulted: BTreeSet<String>,
}

impl State {
    /// True if the state has every value of the row.
    pub fn is_complete(&self, columns: &Columns) -> bool {
        let State::Present(row) = self else { return self.is_whole() };
        let named = |column: &String| row.values.contains_key(column);
        row.whole
            && row.untold.is_empty()
            && row.values.keys().all(|column| columns.names.contains(column))
            && columns.defaulted.iter().all(named)
    }

    /// The values that are known, as a JSON object; `None` where there is no row.
    pub fn text(&self) -> Option<String> {
        let State::Present(row) = self else { return None };
        let members: Vec<String> = row
            .values
            .iter()
            .map(|(column, value)| format!("{}:{}", serde_json::Value::from(column.as_str()), presentable(value.get())))
            .collect();
        Some(format!("{{{}}}", members.join(",")))
    }

    /// The columns whose values are not told.
    pub fn untold(&self) -> Vec<String> {
        match self {
            State::Present(row) => row.untold.iter().cloned().collect(),
            _ => Vec::new(),
        }
    }
}

/// The largest exponent of a number that `jsonb` takes for sure (`numeric` has 131,072 digits before the point).
const MAX_EXPONENT: u32 = 10_000;

/// A value that `jsonb` can hold: the type `json` has numbers that it cannot, which become strings of their text.
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

    /// Events by key, as a database would find them.
    #[derive(Default)]
    struct Events(Vec<(String, Event)>);

    impl Source for Events {
        type Error = ();
        fn events(&mut self, key: &str) -> Result<Vec<Event>, ()> {
            let found = self.0.iter().filter_map(|(row_key, event)| {
                let has_key = row_key == key || event.change == Change::Truncate;
                let event = Event { has_key, ..event.clone() };
                (has_key || event.old_key.as_deref() == Some(key)).then_some(event)
            });
            Ok(found.collect())
        }
    }

    impl Events {
        fn event(&mut self, change: Change, key: &str, payload: Option<serde_json::Value>) -> &mut Event {
            let n = self.0.len() as i64 + 1;
            let event = Event {
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
            };
            self.0.push((key.to_owned(), event));
            &mut self.0.last_mut().unwrap().1
        }

        fn insert(&mut self, key: &str, new: serde_json::Value) -> &mut Event {
            self.event(Change::Insert, key, Some(json!({ "new": new })))
        }

        fn update(&mut self, key: &str, old: serde_json::Value, new: serde_json::Value) -> &mut Event {
            self.event(Change::Update, key, Some(json!({"old": old, "new": new})))
        }

        fn delete(&mut self, key: &str, old: serde_json::Value) -> &mut Event {
            self.event(Change::Delete, key, Some(json!({ "old": old })))
        }

        fn history(&mut self, key: &str) -> History {
            rebuild(self, key).unwrap()
        }

        /// The states after the events, with a question mark where they are not complete.
        fn states(&mut self, key: &str) -> Vec<String> {
            self.history(key).steps.iter().map(|step| shown(&step.state)).collect()
        }
    }

    fn shown(state: &State) -> String {
        let columns = Columns { names: ["a", "b", "c", "id"].map(str::to_owned).into(), ..Columns::default() };
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
        assert!(matches!(events.history("1").before, State::Absent));
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
        events.event(Change::Insert, "1", Some(json!({"new": {"id": 1}, "digests": {"new": {"a": digest}}})));
        events.event(
            Change::Update,
            "1",
            Some(json!({"old": {}, "new": {"a": 1}, "digests": {"old": {"a": digest}}, "commitments": {"key": "k", "old": {"b": null}, "new": {"b": "00"}}})),
        );
        events.event(
            Change::Update,
            "1",
            Some(json!({"old": {}, "new": {}, "commitments": {"key": "k", "old": {"b": "00"}, "new": {"b": null}}})),
        );
        assert_eq!(events.states("1"), [r#"{"id":1}?"#, r#"{"a":1,"id":1}?"#, r#"{"a":1,"id":1}"#]);
        assert_eq!(events.history("1").steps[1].state.untold(), ["b"]);
    }

    #[test]
    fn an_erased_payload_leaves_a_gap_until_the_row_is_told_again() {
        let mut events = Events::default();
        events.insert("1", json!({"id": 1, "a": 1}));
        events.event(Change::Update, "1", None);
        events.update("1", json!({"a": 2}), json!({"a": 3}));
        assert_eq!(events.states("1"), [r#"{"a":1,"id":1}"#, "{}?", r#"{"a":3}?"#]);
        events.event(Change::Delete, "1", None);
        events.event(Change::Insert, "1", None);
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
        assert!(matches!(events.history("3").before, State::Absent));
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
        events.event(Change::Truncate, "", Some(json!({"rows": 1})));
        events.insert("1", json!({"id": 1}));
        events.event(Change::Truncate, "", Some(json!({"rows": 1}))).table.1 = "other".into();
        events.event(Change::Truncate, "", Some(json!({"rows": 1})));
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

    #[test]
    fn a_column_that_the_events_cannot_know_makes_the_row_incomplete() {
        let mut events = Events::default();
        events.insert("1", json!({"id": 1, "renamed": 1}));
        assert_eq!(events.states("1"), [r#"{"id":1,"renamed":1}?"#], "of another name today");
        let mut events = Events::default();
        events.insert("1", json!({"id": 1}));
        events.update("1", json!({"a": 7}), json!({"a": 8}));
        assert_eq!(events.states("1"), [r#"{"id":1}"#, r#"{"a":8,"id":1}?"#], "a value came without an event");
        let columns = Columns { names: ["id".into(), "d".into()].into(), defaulted: ["d".into()].into() };
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
