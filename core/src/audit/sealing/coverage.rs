//! Coverage: whether the triggers that capture changes have always been in place.
//!
//! The sealer compares the state of the triggers with the state that it recorded last.

use crate::audit::format::encoding::{Digest, Record};
use std::collections::HashSet;
use uuid::Uuid;

/// A table with its triggers, an event trigger, or a trigger function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoveredObject {
    /// Catalog and oid, such as `pg_class 16400`.
    pub key: String,
    /// Name of the table, event trigger or function, not quoted; `None` if it is not recorded.
    pub name: Option<String>,
    /// Schema of the table, not quoted; absent for an event trigger.
    pub schema: Option<String>,
    /// The state of the triggers as `tenancy.coverage` records it; `None` if the object is gone.
    pub state: Option<String>,
    /// Whether all capturing triggers of the object exist and fire always.
    pub whole: bool,
}

/// A row of `tenancy.coverage`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Catalog and oid, such as `pg_class 16400`; `all` for a digest of all objects.
    pub object: String,
    /// Time-ordered id (UUID version 7); the newest row of an object is valid.
    pub id: Uuid,
    /// Time at which the sealer read the catalogs, in microseconds since 1970 UTC.
    pub recorded_at: i64,
    /// Name of the incarnation at that time.
    pub incarnation: String,
    /// Number of the newest block at that time.
    pub block: i64,
    /// The `pg_snapshot` of the reading, as text.
    pub snapshot: String,
    /// Schema of the table, not quoted.
    pub schema: Option<String>,
    /// Name of the table, event trigger or function, not quoted.
    pub name: Option<String>,
    /// The state of the triggers; `None` if the object is gone.
    pub state: Option<String>,
}

/// The digest of rows that were written together; the event `coverage` contains it.
///
/// The rows are in the order of their ids (`docs/audit-format.md`, Payload).
pub fn digest<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Digest {
    let add = |record: Record, row: &Row| {
        record
            .text(&row.object)
            .bytes(row.id.as_bytes())
            .integer(row.recorded_at)
            .text(&row.incarnation)
            .integer(row.block)
            .text(&row.snapshot)
            .optional(row.schema.as_deref())
            .optional(row.name.as_deref())
            .optional(row.state.as_deref())
    };
    rows.into_iter().fold(Record::new("pg_tenancy coverage 1"), add).digest()
}

/// A statement that an event records.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CoverageStatement {
    /// Schema and name of the table that the statement named.
    pub table: Option<(String, String)>,
    /// The operation of the event, such as `alter_table` or `capture_off`.
    pub operation: String,
    /// The type of the changed object in Postgres' words, such as `table` or `event trigger` (`object_type`).
    pub kind: String,
    /// The identity of the changed object as Postgres prints it (`object_identity`).
    pub identity: String,
    /// The subcommands of an ALTER TABLE, such as `disable_trigger`; `None` if they are unknown.
    pub actions: Option<Vec<String>>,
}

/// What the statements since the last reading explain, found by the object that they name.
#[derive(Debug, Default)]
pub struct Explanations {
    /// Schema and name of the tables whose capture a statement can have changed.
    tables: HashSet<(String, String)>,
    /// The other objects: type and identity.
    others: HashSet<(String, String)>,
}

impl Explanations {
    /// Notes what the statement explains.
    pub fn add(&mut self, statement: CoverageStatement) {
        match statement.kind.as_str() {
            "event trigger" => {
                let names = statement.identity.split(", ");
                self.others.extend(names.map(|name| (statement.kind.clone(), name.to_owned())));
            }
            "function" => drop(self.others.insert((statement.kind.clone(), statement.identity.clone()))),
            _ => {}
        }
        if statement.touches_triggers() {
            self.tables.extend(statement.table);
        }
    }

    /// Whether a statement names the object and can have changed its capture.
    ///
    /// For a table, the statement may also name a table that it is part of; `lineage` has schema and name of all of
    /// these.
    pub fn explain(&self, object: &CoveredObject, lineage: &[(String, String)]) -> bool {
        let Some(name) = &object.name else { return false };
        match object.key.split(' ').next() {
            Some("pg_class") => lineage.iter().any(|table| self.tables.contains(table)),
            Some("pg_event_trigger") => self.others.contains(&("event trigger".to_owned(), name.clone())),
            _ => self.others.contains(&("function".to_owned(), format!("tenancy.{name}()"))),
        }
    }
}

impl CoverageStatement {
    fn touches_triggers(&self) -> bool {
        const ALWAYS: [&str; 8] = [
            "capture_on",
            "capture_off",
            "protect",
            "unprotect",
            "create_trigger",
            "alter_trigger",
            "create_table",
            "create_foreign_table",
        ];
        const ENDINGS: [&str; 5] = ["_trigger", "_trigger_all", "_trigger_user", "_partition", "_inherit"];
        let of_table = matches!(self.kind.as_str(), "table" | "foreign table");
        let alters = matches!(self.operation.as_str(), "alter_table" | "alter_foreign_table");
        let touches = |action: &String| ENDINGS.iter().any(|ending| action.ends_with(ending));
        ALWAYS.contains(&self.operation.as_str())
            || self.kind == "trigger"
            || of_table && self.operation.starts_with("drop_")
            || alters && self.actions.as_ref().map_or(of_table, |actions| actions.iter().any(touches))
    }
}

/// A change of an object between two readings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoverageChange {
    /// The object as it is now.
    pub now: CoveredObject,
    /// The state that was recorded last; `None` for a new object.
    pub before: Option<String>,
}

impl CoverageChange {
    /// The meaning of the change if no event explains it; `None` for a new object that captures every change.
    pub fn gap(&self) -> Option<&'static str> {
        match (&self.before, &self.now.state) {
            (None, _) if self.now.whole => None,
            (_, None) => Some("its capture is gone"),
            (_, Some(_)) if !self.now.whole => Some("it does not capture every change"),
            _ => Some("its capture was changed, or switched off and on again"),
        }
    }
}

/// The changes between the recorded states and the current ones.
pub fn changes(before: Vec<CoveredObject>, now: Vec<CoveredObject>) -> Vec<CoverageChange> {
    let mut known: std::collections::BTreeMap<_, _> =
        before.into_iter().map(|object| (object.key.clone(), object)).collect();
    let mut changes = Vec::new();
    for object in now {
        let before = known.remove(&object.key).filter(|before| before.state.is_some());
        let same = before.as_ref().is_some_and(|before| before.state == object.state && before.name == object.name);
        if !same {
            changes.push(CoverageChange { now: object, before: before.and_then(|before| before.state) });
        }
    }
    for mut gone in known.into_values().filter(|object| object.state.is_some()) {
        let before = gone.state.take();
        gone.whole = false;
        changes.push(CoverageChange { now: gone, before });
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(key: &str, state: &str, whole: bool) -> CoveredObject {
        CoveredObject { key: key.into(), name: Some("t".into()), schema: None, state: Some(state.into()), whole }
    }

    fn seen(key: &str, state: Option<&str>) -> CoveredObject {
        CoveredObject { state: state.map(str::to_owned), ..object(key, "", false) }
    }

    #[test]
    fn each_value_of_each_row_is_in_the_digest() {
        let row = Row {
            object: "pg_class 1".into(),
            id: Uuid::from_u128(2),
            recorded_at: 3,
            incarnation: "4".into(),
            block: 5,
            snapshot: "6:6:".into(),
            schema: Some("s".into()),
            name: Some("n".into()),
            state: None,
        };
        let others = [
            Row { object: "pg_class 9".into(), ..row.clone() },
            Row { id: Uuid::from_u128(9), ..row.clone() },
            Row { recorded_at: 9, ..row.clone() },
            Row { incarnation: "9".into(), ..row.clone() },
            Row { block: 9, ..row.clone() },
            Row { snapshot: "9:9:".into(), ..row.clone() },
            Row { schema: None, ..row.clone() },
            Row { name: Some("sn".into()), schema: Some("".into()), ..row.clone() },
            Row { state: Some("".into()), ..row.clone() },
        ];
        for other in &others {
            assert_ne!(digest([other]), digest([&row]), "{other:?}");
        }
        assert_ne!(digest([&row, &others[0]]), digest([&others[0], &row]), "their order");
        assert_ne!(digest([&row, &row]), digest([&row]), "their number");
    }

    #[test]
    fn a_statement_explains_what_it_names_and_can_have_changed() {
        let table = CoveredObject {
            key: "pg_class 1".into(),
            name: Some("t".into()),
            schema: Some("s".into()),
            ..object("", "", true)
        };
        let lineage = [("s".to_owned(), "t".to_owned()), ("s".to_owned(), "parent".to_owned())];
        let about = |name: &str, operation: &str, kind: &str, actions: Option<&[&str]>| CoverageStatement {
            table: Some(("s".into(), name.into())),
            operation: operation.into(),
            kind: kind.into(),
            identity: String::new(),
            actions: actions.map(|actions| actions.iter().map(|action| (*action).to_owned()).collect()),
        };
        let explain = |statement: CoverageStatement, object: &CoveredObject, lineage: &[(String, String)]| {
            let mut explanations = Explanations::default();
            explanations.add(statement);
            explanations.explain(object, lineage)
        };
        let explains = |statement: CoverageStatement| explain(statement, &table, &lineage);
        assert!(explains(about("t", "capture_off", "table", None)));
        assert!(explains(about("parent", "alter_table", "table", Some(&["detach_partition"]))));
        assert!(explains(about("t", "alter_table", "table", None)), "another name");
        assert!(explains(about("t", "drop_table", "table", None)));
        assert!(!explains(about("t", "alter_table", "table", Some(&["add_column"]))));
        assert!(!explains(about("t", "alter_table", "table column", None)));
        assert!(!explains(about("t", "create_policy", "policy", None)));
        assert!(!explains(about("other", "capture_off", "table", None)));
        let named = |kind: &str, identity: &str| CoverageStatement {
            kind: kind.into(),
            identity: identity.into(),
            ..CoverageStatement::default()
        };
        let of = |key: &str| CoveredObject { key: key.into(), ..object("", "", true) };
        assert!(explain(named("event trigger", "u, t"), &of("pg_event_trigger t"), &[]));
        assert!(!explain(named("event trigger", "tt"), &of("pg_event_trigger t"), &[]));
        assert!(explain(named("function", "tenancy.t()"), &of("pg_proc t"), &[]));
        assert!(!explain(named("function", "public.t()"), &of("pg_proc t"), &[]));
    }

    #[test]
    fn what_is_as_it_was_is_no_change() {
        assert_eq!(changes(vec![seen("a", Some("A 1")), seen("b", None)], vec![object("a", "A 1", true)]), []);
    }

    #[test]
    fn off_on_and_off_and_on_are_told_apart() {
        let gap = |before: &[CoveredObject], now: &[CoveredObject]| {
            changes(before.to_vec(), now.to_vec()).iter().map(CoverageChange::gap).collect::<Vec<_>>()
        };
        let before = [seen("a", Some("A 1"))];
        assert_eq!(gap(&before, &[object("a", "D 2", false)]), [Some("it does not capture every change")]);
        let again = Some("its capture was changed, or switched off and on again");
        assert_eq!(gap(&before, &[object("a", "A 3", true)]), [again]);
        assert_eq!(gap(&before, &[]), [Some("its capture is gone")]);
        assert_eq!(gap(&[], &[object("a", "A 1", true)]), [None], "a table that is new");
        assert_eq!(gap(&[seen("a", None)], &[object("a", "A 9", true)]), [None], "one that is there again");
        assert_eq!(gap(&[], &[object("a", "O 1", false)]), [Some("it does not capture every change")]);
    }
}
