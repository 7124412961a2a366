//! The payload of a changed row: its values, with digests or commitments for values that are not recorded.
//!
//! A value that is too large is represented by its digest, and a value of a secret column by a commitment. Both are in
//! members of their own, so that neither can be mistaken for a value of the column.
//!
//! Decision: `docs/decisions/29-digests-and-commitments.md`.

use super::encoding::Digest;
use super::hex;
use serde::Serialize;

/// The row before or after the change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Before the change: the member `old`.
    Old,
    /// After the change: the member `new`.
    New,
}

/// The name of a member as JSON, with the colon after it: escaped once, and written for each row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberName(Vec<u8>);

impl MemberName {
    /// Escapes a name.
    pub fn new(name: &str) -> Self {
        let mut json = Vec::with_capacity(name.len() + 3);
        push(&mut json, name);
        json.push(b':');
        MemberName(json)
    }

    /// The bytes that stand before the value.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Builds `{"old":{...},"new":{...},"digests":{...},"commitments":{...}}` from front to back.
///
/// Sides and members without content are left out.
pub struct Payload {
    values: Sides,
    digests: Sides,
    commitments: Sides,
}

/// Members `"old":{...},"new":{...}`; those of values with the opening brace before them.
#[derive(Default)]
struct Sides {
    text: Vec<u8>,
    open: Option<Side>,
}

impl Sides {
    fn begin(&mut self, side: Side) {
        self.end();
        if !matches!(self.text.last(), None | Some(b'{')) {
            self.text.push(b',');
        }
        self.text.extend_from_slice(match side {
            Side::Old => br#""old":{"#,
            Side::New => br#""new":{"#,
        });
        self.open = Some(side);
    }

    fn end(&mut self) {
        if self.open.take().is_some() {
            self.text.push(b'}');
        }
    }

    /// The buffer to which the caller appends the value of the column.
    fn column(&mut self, side: Side, column: &MemberName) -> &mut Vec<u8> {
        if self.open != Some(side) {
            self.begin(side);
        } else if self.text.last() != Some(&b'{') {
            self.text.push(b',');
        }
        self.text.extend_from_slice(&column.0);
        &mut self.text
    }

    /// Closes the open side and returns the members.
    fn finish(mut self) -> Vec<u8> {
        self.end();
        self.text
    }
}

impl Default for Payload {
    fn default() -> Self {
        let mut text = Vec::with_capacity(256);
        text.push(b'{');
        let values = Sides { text, open: None };
        Payload { values, digests: Sides::default(), commitments: Sides::default() }
    }
}

impl Payload {
    /// Begins a side, which appears in the payload even if it has no values.
    pub fn begin(&mut self, side: Side) {
        self.values.begin(side);
    }

    /// The buffer to which the caller appends the value of a column as JSON.
    pub fn value(&mut self, side: Side, column: &MemberName) -> &mut Vec<u8> {
        self.values.column(side, column)
    }

    /// Adds the SHA-256 of a value's text, and the length of the text in bytes.
    pub fn digest(&mut self, side: Side, column: &MemberName, digest: &Digest, bytes: usize) {
        let out = self.digests.column(side, column);
        out.extend_from_slice(br#"{"sha256":"#);
        push(out, &hex::encode(digest));
        out.extend_from_slice(br#","bytes":"#);
        push(out, &bytes);
        out.push(b'}');
    }

    /// Adds a commitment to a value; `None` for NULL.
    pub fn commitment(&mut self, side: Side, column: &MemberName, commitment: Option<&Digest>) {
        let out = self.commitments.column(side, column);
        push(out, &commitment.map(|commitment| hex::encode(commitment)));
    }

    /// Finishes the payload and returns its JSON text; `key` is the id of the commitment key.
    pub fn finish(self, key: Option<&str>) -> Vec<u8> {
        let mut out = self.values.finish();
        for (name, key, mut sides) in
            [("digests", None, self.digests.finish()), ("commitments", key, self.commitments.finish())]
        {
            if sides.is_empty() {
                continue;
            }
            if out.len() > 1 {
                out.push(b',');
            }
            push(&mut out, name);
            out.extend_from_slice(b":{");
            if let Some(key) = key {
                out.extend_from_slice(br#""key":"#);
                push(&mut out, key);
                out.push(b',');
            }
            out.append(&mut sides);
            out.push(b'}');
        }
        out.push(b'}');
        out
    }
}

/// Appends a value as JSON.
fn push(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    // Writing to a Vec cannot fail.
    let _ = serde_json::to_writer(out, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(payload: Payload, key: Option<&str>) -> String {
        String::from_utf8(payload.finish(key)).unwrap()
    }

    #[test]
    fn sides_stand_in_order_and_an_empty_one_is_told() {
        let mut payload = Payload::default();
        payload.begin(Side::Old);
        payload.begin(Side::New);
        payload.value(Side::New, &MemberName::new("a\"b")).extend_from_slice(b"1");
        payload.value(Side::New, &MemberName::new("c")).extend_from_slice(b"null");
        assert_eq!(text(payload, None), r#"{"old":{},"new":{"a\"b":1,"c":null}}"#);
    }

    #[test]
    fn what_is_not_told_stands_apart_from_the_values() {
        let mut payload = Payload::default();
        payload.begin(Side::Old);
        payload.commitment(Side::Old, &MemberName::new("secret"), None);
        payload.begin(Side::New);
        payload.value(Side::New, &MemberName::new("id")).extend_from_slice(b"1");
        payload.digest(Side::New, &MemberName::new("document"), &[0xab; 32], 20_000);
        payload.commitment(Side::New, &MemberName::new("secret"), Some(&[0x01; 32]));
        payload.commitment(Side::New, &MemberName::new("other"), Some(&[0x02; 32]));
        let expected = format!(
            r#"{{"old":{{}},"new":{{"id":1}},"digests":{{"new":{{"document":{{"sha256":"{}","bytes":20000}}}}}},"commitments":{{"key":"k1","old":{{"secret":null}},"new":{{"secret":"{}","other":"{}"}}}}}}"#,
            "ab".repeat(32),
            "01".repeat(32),
            "02".repeat(32)
        );
        let text = text(payload, Some("k1"));
        assert_eq!(text, expected);
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
    }

    #[test]
    fn a_payload_of_nothing_is_an_object() {
        assert_eq!(text(Payload::default(), Some("k1")), "{}");
    }
}
