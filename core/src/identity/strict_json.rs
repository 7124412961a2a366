//! A JSON parser that refuses two things attackers use: repeated member names and unlimited depth.
//!
//! `serde_json` parses the text; this module only builds the value. A repeated name is refused because two readers of
//! the same token may each keep a different one of the two values (RFC 7515 section 4, RFC 7519 section 4, RFC 8259
//! section 4). Names are compared after unescaping, so `"\u0069ss"` repeats `"iss"`.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// How many arrays and objects may be nested, the outermost included.
pub const MAX_DEPTH: usize = 32;

/// Parses one JSON text.
///
/// An error names a position and a rule, but never contains a part of the text, so that it may be sent to a client.
pub fn parse(text: &str) -> serde_json::Result<Value> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = StrictValue { depth_left: MAX_DEPTH }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// Builds a [`Value`] with at most `depth_left` more levels of arrays and objects.
#[derive(Clone, Copy)]
struct StrictValue {
    depth_left: usize,
}

impl StrictValue {
    fn one_level_down<E: de::Error>(self) -> Result<Self, E> {
        match self.depth_left.checked_sub(1) {
            Some(depth_left) => Ok(Self { depth_left }),
            None => Err(E::custom(format_args!("arrays and objects are nested more than {MAX_DEPTH} deep"))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for StrictValue {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for StrictValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        // JSON has no infinity; serde_json refuses 1e400 itself, and this keeps the promise if that should change.
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Value, A::Error> {
        let inside = self.one_level_down()?;
        let mut values = Vec::new();
        while let Some(value) = array.next_element_seed(inside)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let inside = self.one_level_down()?;
        let mut members = Map::new();
        while let Some(name) = object.next_key::<String>()? {
            if members.contains_key(&name) {
                return Err(de::Error::custom("a member name is used twice in one object"));
            }
            let value = object.next_value_seed(inside)?;
            members.insert(name, value);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(depth: usize) -> String {
        "[".repeat(depth) + &"]".repeat(depth)
    }

    #[test]
    fn what_is_not_ambiguous_parses_as_serde_json_parses_it() {
        let text = r#"{
            "a": [1, -2, 3.5, 18446744073709551615, true, false, null, "é\n\ud83d\ude00", {}, []],
            "": {"b": 1e3}
        }"#;
        assert_eq!(parse(text).unwrap(), serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn a_repeated_member_name_is_refused_at_every_depth_and_in_every_spelling() {
        for text in [
            r#"{"a": 1, "a": 1}"#,
            r#"{"a": 1, "b": 2, "\u0061": 3}"#,
            r#"{"x": {"y": [{"a": 1, "a": 2}]}}"#,
            r#"[{"a": null, "a": null}]"#,
            r#"{"": 1, "": 1}"#,
        ] {
            assert!(parse(text).unwrap_err().to_string().contains("used twice"), "{text}");
        }
        assert!(parse(r#"{"a": {"a": {"a": 1}}, "A": 1}"#).is_ok());
    }

    #[test]
    fn thirty_two_levels_are_accepted_and_one_more_is_not() {
        assert!(parse(&nested(32)).is_ok());
        assert!(parse(&nested(33)).unwrap_err().to_string().contains("nested"));
        let objects = "{\"a\":".repeat(33) + "1" + &"}".repeat(33);
        assert!(parse(&objects).unwrap_err().to_string().contains("nested"));
    }

    #[test]
    fn a_hundred_thousand_brackets_cost_no_stack() {
        assert!(parse(&"[".repeat(100_000)).is_err());
        assert!(parse(&"{\"a\":".repeat(100_000)).is_err());
    }

    #[test]
    fn what_is_not_one_json_text_is_refused() {
        for text in [
            "",
            " ",
            "{",
            "{}{}",
            "{} x",
            "[1,]",
            "{\"a\":1,}",
            "nul",
            "NaN",
            "Infinity",
            "1e400",
            "-1e400",
            "01",
            "+1",
            "'a'",
            "\"\\ud800\"",
            "\"\u{1}\"",
            "\u{feff}{}",
            "/* */ {}",
            "{a: 1}",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_member_named_like_serde_jsons_own_markers_stays_an_ordinary_member() {
        for text in [r#"{"$serde_json::private::RawValue": "[1]"}"#, r#"{"$serde_json::private::Number": "1"}"#] {
            let value = parse(text).unwrap();
            assert!(value.as_object().is_some_and(|members| members.values().all(Value::is_string)), "{text}");
        }
    }

    #[test]
    fn an_error_names_a_position_and_never_the_text() {
        for text in
            [r#"{"hunter2": 1, "hunter2": 2}"#, r#"{"hunter2" 1}"#, r#"["hunter2", hunter2]"#, r#"{"hunter2": 1e999}"#]
        {
            let error = parse(text).unwrap_err().to_string();
            assert!(!error.contains("hunter2") && error.contains("line 1 column"), "{error}");
        }
    }
}
