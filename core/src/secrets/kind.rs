//! What a value of a kind looks like.

use serde::de::{Deserializer as _, Error as _, IgnoredAny, MapAccess, Visitor};
use std::collections::HashSet;
use std::fmt;

/// The kind of a role of an AWS account, which the role's owner lets somebody else assume.
pub const AWS_ROLE: &str = "aws_role";

/// Whether a value is a JSON object with all these members. A kind without members takes any text.
///
/// What the members hold is passed over, so that no copy of it is made. A member that stands there twice is refused,
/// since two readers could each keep another one (RFC 8259 section 4).
pub fn has_members(value: &str, members: &[String]) -> bool {
    if members.is_empty() {
        return true;
    }
    let mut deserializer = serde_json::Deserializer::from_str(value);
    let names = deserializer.deserialize_map(Names).and_then(|names| deserializer.end().map(|()| names));
    names.is_ok_and(|names| members.iter().all(|member| names.contains(member)))
}

/// Collects the names of an object's members.
struct Names;

impl<'de> Visitor<'de> for Names {
    type Value = HashSet<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut names = HashSet::new();
        while let Some((name, IgnoredAny)) = map.next_entry()? {
            if !names.insert(name) {
                return Err(A::Error::custom("a member stands there twice"));
            }
        }
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_each_member_of_its_kind_once() {
        let members = ["access_key_id", "secret_access_key"].map(str::to_owned);
        let whole = r#"{"access_key_id": "AKIA", "secret_access_key": "a\nb", "note": [1, {"x": null}]}"#;
        assert!(has_members(whole, &members));
        let twice = r#"{"access_key_id": "AKIA", "secret_access_key": "a", "access\u005fkey_id": "B"}"#;
        let cut_off = &whole[..whole.len() - 1];
        let deep = format!("{{\"access_key_id\": {}", "[".repeat(100_000));
        let trailing = format!("{whole} {{}}");
        for value in ["", "AKIA", "[]", "null", r#"{"access_key_id": "AKIA"}"#, cut_off, twice, &deep, &trailing] {
            assert!(!has_members(value, &members), "{value:.80}");
        }
        assert!(has_members("any text", &[]));
    }
}
