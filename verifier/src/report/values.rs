//! The values of an event, column by column, as they were recorded.

use super::escape::clipped;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};

/// How many characters of a value are shown.
const MOST: usize = 120;

/// A column of an event, with what is shown of its values.
#[derive(Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// The value before; absent if the event has none.
    pub old: Option<String>,
    /// The value after; absent if the event has none.
    pub new: Option<String>,
}

/// The members of a JSON object, whose values keep their spelling: a number may have more digits than a float.
type Members<'a> = BTreeMap<String, &'a RawValue>;

fn members(text: &str) -> Option<Members<'_>> {
    serde_json::from_str(text).ok()
}

/// The columns of a payload, by their names.
///
/// `None` for a payload without `old` and `new`, which docs/audit-format.md defines otherwise.
pub fn columns(payload: &str) -> Option<Vec<Column>> {
    let payload = members(payload)?;
    if !payload.contains_key("old") && !payload.contains_key("new") {
        return None;
    }
    let mut sides = [BTreeMap::new(), BTreeMap::new()];
    for (side, name) in sides.iter_mut().zip(["old", "new"]) {
        if let Some(values) = payload.get(name) {
            side.extend(members(values.get())?.into_iter().map(|(column, value)| (column, shown(value))));
        }
        for (kind, words) in [("digests", "too long to be recorded: its digest alone"), ("commitments", "secret")] {
            let hidden = payload.get(kind).and_then(|kind| members(kind.get()));
            let hidden = hidden.and_then(|hidden| members(hidden.get(name)?.get()));
            side.extend(hidden.into_iter().flatten().map(|(column, _)| (column, format!("({words})"))));
        }
    }
    let [mut old, mut new] = sides;
    let names: BTreeSet<String> = old.keys().chain(new.keys()).cloned().collect();
    let column = |name: String| Column { old: old.remove(&name), new: new.remove(&name), name: clipped(&name, MOST) };
    Some(names.into_iter().map(column).collect())
}

/// A value as it is shown: text without its quotes, and everything else as it was recorded.
fn shown(value: &RawValue) -> String {
    let text = serde_json::from_str::<String>(value.get());
    match text {
        Ok(text) if text.is_empty() => "(empty text)".into(),
        Ok(text) => clipped(&text, MOST),
        Err(_) if value.get() == "null" => "(no value)".into(),
        Err(_) => clipped(value.get(), MOST),
    }
}

/// A payload without columns, or the key of a row.
pub fn whole(text: &str) -> String {
    let Some(members) = members(text) else { return clipped(text, MOST) };
    let members: Vec<String> = members.iter().map(|(name, value)| format!("{name} {}", shown(value))).collect();
    clipped(&members.join(", "), 2 * MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, old: Option<&str>, new: Option<&str>) -> Column {
        Column { name: name.into(), old: old.map(str::to_owned), new: new.map(str::to_owned) }
    }

    #[test]
    fn values_are_shown_as_they_were_recorded() {
        let payload = r#"{"old":{"a":1.10,"b":"x"},"new":{"a":12345678901234567890.25,"b":null,"c":"","d":{"k":[1]}},
            "digests":{"new":{"big":{"sha256":"00","bytes":9}}},"commitments":{"key":"k","old":{"pin":"aa"},"new":{}}}"#;
        let digest = "(too long to be recorded: its digest alone)";
        assert_eq!(
            columns(payload).unwrap(),
            [
                column("a", Some("1.10"), Some("12345678901234567890.25")),
                column("b", Some("x"), Some("(no value)")),
                column("big", None, Some(digest)),
                column("c", None, Some("(empty text)")),
                column("d", None, Some(r#"{"k":[1]}"#)),
                column("pin", Some("(secret)"), None),
            ]
        );
        assert_eq!(columns(r#"{"data":{"a":1}}"#), None);
        assert_eq!(columns("nonsense"), None);
        assert_eq!(columns(r#"{"new":7}"#), None);
        assert!(
            columns(&format!(r#"{{"new":{{"a":"{}"}}}}"#, "x".repeat(500))).unwrap()[0].new.as_ref().unwrap().len()
                < 200
        );
    }

    #[test]
    fn a_key_and_another_payload_are_read_member_by_member() {
        assert_eq!(whole(r#"{"id":7,"region":"eu"}"#), "id 7, region eu");
        assert_eq!(whole("[1,2]"), "[1,2]");
        assert_eq!(whole("{}"), "");
    }
}
