//! Four bytes for the key of a row, by which its events are found (`docs/audit-format.md`, Hashes of row keys).
//!
//! Keys that are equal as `jsonb` have the same hash: the order of the columns, the form of a number and the escapes of
//! a string do not count. Different keys may share a hash, so what is found by it is compared afterwards.
//!
//! Decision: `docs/decisions/60-row-index.md`.

use crate::audit::format::batch::{PackedContent, PackedEvent};
use crate::audit::format::batch_row::BatchRow;

/// The hash of a key, or a mark.
pub type RowHash = u32;

/// The bytes of a hash where it is stored, the highest first.
pub const BYTES: usize = size_of::<RowHash>();

/// The multiplier of the hash: 2^64 divided by the golden ratio.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// What a hashed value begins with.
const STRING: u64 = 1;
const NUMBER: u64 = 2;
const NEGATIVE: u64 = 3;
const TRUE: u64 = 4;
const FALSE: u64 = 5;
const NULL: u64 = 6;
const ARRAY: u64 = 7;
const OBJECT: u64 = 8;
const MEMBER: u64 = 9;
/// Truncations and rewrites of a table.
const TABLE: u64 = 10;
/// What gives names to tables, schemas and columns.
const NAMES: u64 = 11;
/// What is nested too deep.
const DEEP: u64 = 12;

/// How deep a value is looked into; what is deeper has one hash.
const DEPTH: usize = 64;

/// The digits that a number of 64 bits has room for.
const DIGITS: usize = 19;

fn mix(state: u64, word: u64) -> u64 {
    let product = u128::from(state ^ word) * u128::from(MULTIPLIER);
    (product as u64) ^ (product >> 64) as u64
}

/// Words of eight bytes, the lowest first, the last one filled up with zeros, and then the length.
fn mix_bytes(mut state: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks();
    for word in words {
        state = mix(state, u64::from_le_bytes(*word));
    }
    if !rest.is_empty() {
        let mut word = [0; 8];
        word[..rest.len()].copy_from_slice(rest);
        state = mix(state, u64::from_le_bytes(word));
    }
    mix(state, bytes.len() as u64)
}

fn finish(state: u64) -> RowHash {
    (mix(state, 0) >> 32) as RowHash
}

/// The hash of a key; `None` for a text that is not a JSON object.
pub fn of_key(key: &str) -> Option<RowHash> {
    Some(finish(Reader::new(key).whole_object()?))
}

/// The mark of the events that concern all rows of a table: truncations and rewrites.
pub fn of_table(schema: &str, name: &str) -> RowHash {
    finish(mix_bytes(mix_bytes(mix(TABLE, 0), schema.as_bytes()), name.as_bytes()))
}

/// The mark of the events that may give a table, schema or column another name, or take it.
pub fn of_names() -> RowHash {
    finish(mix(NAMES, 0))
}

/// The columns of a batch that its hashes depend on beside its events.
#[derive(Debug, Clone, Copy)]
pub struct HashedBatch<'a> {
    /// The operation.
    pub operation: &'a str,
    /// The permission domain, or the kind of the operation.
    pub domain: &'a str,
    /// Schema of the table.
    pub table_schema: Option<&'a str>,
    /// Name of the table.
    pub table_name: Option<&'a str>,
}

/// The hashes of a batch, in the two parts that they are stored in.
#[derive(Debug, Default)]
struct Hashes {
    /// The mark of the batch, or the key of each event that has one.
    own: Vec<u8>,
    /// The keys that rows had before updates gave them others, as far as payloads tell.
    old: Vec<u8>,
}

impl<'a> HashedBatch<'a> {
    /// Those of a row.
    pub fn of<T: AsRef<str>, B>(row: &'a BatchRow<T, B>) -> Self {
        HashedBatch {
            operation: row.operation.as_ref(),
            domain: row.domain.as_ref(),
            table_schema: row.table_schema.as_ref().map(AsRef::as_ref),
            table_name: row.table_name.as_ref().map(AsRef::as_ref),
        }
    }

    fn mark(&self) -> Option<RowHash> {
        match (self.operation, self.table_schema, self.table_name) {
            ("truncate" | "rewrite", Some(schema), Some(name)) => Some(of_table(schema, name)),
            ("alter_table" | "alter_schema" | "drop_table", ..) if self.domain == "schema" => Some(of_names()),
            _ => None,
        }
    }

    fn hashes(&self, events: &[PackedEvent]) -> Hashes {
        let mut hashes = Hashes::default();
        if let Some(mark) = self.mark() {
            hashes.own.extend_from_slice(&mark.to_be_bytes());
            return hashes;
        }
        let is_update = self.operation == "update";
        hashes.own.reserve_exact(events.len() * BYTES);
        for event in events {
            let Some(key) = event.row_key else { continue };
            if let Some(hash) = of_key(key) {
                hashes.own.extend_from_slice(&hash.to_be_bytes());
            }
            if is_update
                && let PackedContent::Payload { text, .. } = event.content
                && let Some(hash) = of_old_key(key, text)
            {
                hashes.old.extend_from_slice(&hash.to_be_bytes());
            }
        }
        hashes
    }

    /// The value of the column `row_hashes` for these events; `None` where none has a key.
    pub fn row_hashes(&self, events: &[PackedEvent]) -> Option<Vec<u8>> {
        let Hashes { mut own, old } = self.hashes(events);
        own.extend_from_slice(&old);
        (!own.is_empty()).then_some(own)
    }

    /// True if this value of the column is the one of these events. An event whose payload was erased may have had an
    /// old key that nothing tells of any more.
    pub fn has(&self, stored: Option<&[u8]>, events: &[PackedEvent]) -> bool {
        let Hashes { own, old } = self.hashes(events);
        let Some(rest) = stored.unwrap_or_default().strip_prefix(&own[..]) else { return false };
        if rest == old {
            return stored.is_none_or(|stored| !stored.is_empty());
        }
        let erased =
            |event: &&PackedEvent| event.row_key.is_some() && matches!(event.content, PackedContent::Erased(_));
        let mut erased = if self.operation == "update" { events.iter().filter(erased).count() } else { 0 };
        let (mut expected, (found, cut)) = (old.as_chunks::<BYTES>().0.iter().peekable(), rest.as_chunks::<BYTES>());
        for hash in found {
            if expected.next_if(|next| *next == hash).is_some() {
                continue;
            }
            match erased.checked_sub(1) {
                Some(left) => erased = left,
                None => return false,
            }
        }
        cut.is_empty() && expected.next().is_none()
    }
}

/// The hash of the key that a row had before an update gave it this one: that of the key with the old values that the
/// payload has of its columns. `None` if they are the same.
fn of_old_key(key: &str, payload: &str) -> Option<RowHash> {
    if !names_a_column(key, payload)? {
        return None;
    }
    let mut columns = Vec::new();
    Reader::new(key).object(|name, reader| {
        columns.push((name, reader.value(DEPTH - 1)?));
        Some(())
    })?;
    let (mut old, part) = (columns.clone(), string(b"old"));
    Reader::new(payload).object(|name, reader| {
        if name != part || reader.bytes.get(reader.at) != Some(&b'{') {
            return reader.value(DEPTH - 1).map(drop);
        }
        reader.object(|name, reader| {
            let value = reader.value(DEPTH - 1)?;
            if let Some((_, own)) = old.iter_mut().find(|(column, _)| *column == name) {
                *own = value;
            }
            Some(())
        })
    })?;
    let sum = |sum: u64, (name, value): &(u64, u64)| sum.wrapping_add(member(*name, *value));
    (old != columns).then(|| finish(object(old.iter().fold(0, sum))))
}

/// False if the payload has no member that is called like a column of the key: both were written by one writer, with
/// the same escapes and without blanks.
fn names_a_column(key: &str, payload: &str) -> Option<bool> {
    let (mut found, mut start) = (false, 1);
    Reader::new(key).object(|_, reader| {
        let name = key.get(start..reader.at).unwrap_or_default();
        found |= !name.starts_with('"') || !name.ends_with("\":") || payload.contains(name);
        reader.value(DEPTH - 1)?;
        start = reader.at + 1;
        Some(())
    })?;
    Some(found)
}

fn string(text: &[u8]) -> u64 {
    mix_bytes(mix(STRING, 0), text)
}

fn member(name: u64, value: u64) -> u64 {
    mix(mix(mix(MEMBER, 0), name), value)
}

fn object(sum: u64) -> u64 {
    mix(mix(OBJECT, 0), sum)
}

/// Reads JSON and hashes its values.
struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Self {
        Reader { text, bytes: text.as_bytes(), at: 0 }
    }

    fn whole_object(&mut self) -> Option<u64> {
        self.blank();
        let hash = if self.bytes.get(self.at) == Some(&b'{') { self.value(DEPTH)? } else { return None };
        self.blank();
        (self.at == self.bytes.len()).then_some(hash)
    }

    fn blank(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.bytes.get(self.at) == Some(&byte)).then(|| self.at += 1)
    }

    fn value(&mut self, depth: usize) -> Option<u64> {
        self.blank();
        match self.bytes.get(self.at)? {
            b'"' => self.string(),
            b'{' | b'[' if depth == 0 => self.skip(),
            b'{' => {
                let mut sum = 0u64;
                self.object(|name, reader| {
                    sum = sum.wrapping_add(member(name, reader.value(depth - 1)?));
                    Some(())
                })?;
                Some(object(sum))
            }
            b'[' => self.array(depth),
            b't' => self.word(b"true", TRUE),
            b'f' => self.word(b"false", FALSE),
            b'n' => self.word(b"null", NULL),
            _ => self.number(),
        }
    }

    /// Passes a value that is nested too deep by.
    fn skip(&mut self) -> Option<u64> {
        let mut open = 0usize;
        loop {
            match self.bytes.get(self.at)? {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' => open += 1,
                b'}' | b']' => open -= 1,
                _ => (),
            }
            self.at += 1;
            if open == 0 {
                return Some(mix(DEEP, 0));
            }
        }
    }

    fn word(&mut self, word: &[u8], kind: u64) -> Option<u64> {
        self.bytes.get(self.at..)?.starts_with(word).then(|| self.at += word.len())?;
        Some(mix(kind, 0))
    }

    /// Hands the hash of each name to `each`, which reads the value.
    fn object(&mut self, mut each: impl FnMut(u64, &mut Self) -> Option<()>) -> Option<()> {
        self.blank();
        self.take(b'{')?;
        self.blank();
        if self.take(b'}').is_some() {
            return Some(());
        }
        loop {
            self.blank();
            let name = self.string()?;
            self.blank();
            self.take(b':')?;
            each(name, self)?;
            self.blank();
            if self.take(b'}').is_some() {
                return Some(());
            }
            self.take(b',')?;
        }
    }

    fn array(&mut self, depth: usize) -> Option<u64> {
        self.take(b'[')?;
        let mut hash = mix(ARRAY, 0);
        self.blank();
        if self.take(b']').is_some() {
            return Some(hash);
        }
        loop {
            hash = mix(hash, self.value(depth - 1)?);
            self.blank();
            if self.take(b']').is_some() {
                return Some(hash);
            }
            self.take(b',')?;
        }
    }

    fn string(&mut self) -> Option<u64> {
        self.take(b'"')?;
        let start = self.at;
        let mut escaped = false;
        loop {
            match self.bytes.get(self.at)? {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    self.at += 2;
                }
                _ => self.at += 1,
            }
        }
        let end = self.at;
        self.at += 1;
        if escaped {
            let text: String = serde_json::from_str(self.text.get(start - 1..self.at)?).ok()?;
            return Some(string(text.as_bytes()));
        }
        self.bytes.get(start..end).map(string)
    }

    fn number(&mut self) -> Option<u64> {
        let start = self.at;
        let is_part = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E');
        self.at += self.bytes.get(start..)?.iter().take_while(|byte| is_part(byte)).count();
        number(&self.text[start..self.at])
    }
}

/// A number as the digits from the first to the last one that is not 0, and the power of ten of the last.
fn number(text: &str) -> Option<u64> {
    let (kind, text) = text.strip_prefix('-').map_or((NUMBER, text), |rest| (NEGATIVE, rest));
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 {
        return None;
    }
    if digits == text.len() && digits <= DIGITS {
        return text.parse().ok().map(|number| short_number(kind, number, 0));
    }
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let exponent = exponent.parse::<i64>().ok()?.saturating_sub(fraction.len() as i64);
    let significant = digits.trim_start_matches('0');
    let trimmed = significant.trim_end_matches('0');
    let exponent = exponent.saturating_add((significant.len() - trimmed.len()) as i64);
    if trimmed.len() <= DIGITS {
        return Some(short_number(kind, if trimmed.is_empty() { 0 } else { trimmed.parse().ok()? }, exponent));
    }
    Some(mix_bytes(mix(mix(kind, 0), exponent.cast_unsigned()), trimmed.as_bytes()))
}

fn short_number(kind: u64, mut number: u64, mut exponent: i64) -> u64 {
    if number == 0 {
        return mix(mix(mix(NUMBER, 0), 0), 0);
    }
    while number.is_multiple_of(10) {
        number /= 10;
        exponent = exponent.saturating_add(1);
    }
    mix(mix(mix(kind, 0), exponent.cast_unsigned()), number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    const UPDATE: HashedBatch = HashedBatch {
        operation: "update",
        domain: "finding",
        table_schema: Some("public"),
        table_name: Some("finding"),
    };

    fn event<'a>(row_key: &'a str, text: &'a str) -> PackedEvent<'a> {
        PackedEvent { occurred_at: 0, row_key: Some(row_key), content: PackedContent::Payload { salt: [0; 16], text } }
    }

    fn stored(hashes: &[Option<RowHash>]) -> Vec<u8> {
        hashes.iter().flat_map(|hash| hash.unwrap().to_be_bytes()).collect()
    }

    #[test]
    fn the_function_stays_what_it_is() {
        let hashes =
            [r#"{"id":1}"#, r#"{"id":"0198c0de-0000-7000-8000-000000000001"}"#, r#"{"a":-1.50,"b":[true,null]}"#];
        let hashes = hashes.map(|key| format!("{:08x}", of_key(key).unwrap()));
        assert_eq!(hashes, EXPECTED);
        assert_eq!(format!("{:08x} {:08x}", of_table("public", "finding"), of_names()), MARKS);
    }

    const EXPECTED: [&str; 3] = ["807c8729", "a6a2ce03", "01c32f5f"];
    const MARKS: &str = "5339120b 9cf1fc8b";

    #[test]
    fn keys_that_are_equal_as_jsonb_have_one_hash() {
        let equal: [&[&str]; 8] = [
            &[r#"{"id":7}"#, r#"{ "id" : 7.0 }"#, r#"{"id":7e0}"#, r#"{"id":0.07E2}"#, r#"{"\u0069d":7}"#],
            &[r#"{"id":1200}"#, r#"{"id":12e2}"#, r#"{"id":1200.000}"#, r#"{"id":12E+2}"#, r#"{"id":120000e-2}"#],
            &[r#"{"id":0}"#, r#"{"id":-0}"#, r#"{"id":0.00}"#, r#"{"id":0e5}"#, r#"{"id":-0.0e-3}"#],
            &[r#"{"id":-5}"#, r#"{"id":-5.0}"#, "{\"id\":\n-50e-1}"],
            &[
                r#"{"id":123456789012345678901234567890}"#,
                r#"{"id":123456789012345678901234567890.0}"#,
                r#"{"id":12345678901234567890123456789e1}"#,
            ],
            &[r#"{"a":1,"b":"x"}"#, r#"{"b":"x","a":1}"#, r#"{"b":"\u0078","a":1.0}"#],
            &[r#"{"a":{"x":1,"y":[1,{}]}}"#, r#"{"a": {"y": [1.0, { }], "x": 1}}"#],
            &[r#"{"a":"é\n\"/"}"#, r#"{"a":"\u00e9\u000a\"\/"}"#],
        ];
        let hashes: Vec<HashSet<_>> = equal.iter().map(|keys| keys.iter().map(|key| of_key(key)).collect()).collect();
        assert!(hashes.iter().all(|hashes| hashes.len() == 1 && !hashes.contains(&None)), "{hashes:?}");
        let all: HashSet<_> = hashes.iter().flatten().collect();
        assert_eq!(all.len(), equal.len());
    }

    #[test]
    fn keys_that_differ_have_other_hashes() {
        let keys = [
            r#"{"id":1}"#,
            r#"{"id":-1}"#,
            r#"{"id":10}"#,
            r#"{"id":"1"}"#,
            r#"{"id":true}"#,
            r#"{"id":null}"#,
            r#"{"id":[1]}"#,
            r#"{"id":{"id":1}}"#,
            r#"{"id2":1}"#,
            r#"{"id":1,"x":2}"#,
            r#"{"id":2,"x":1}"#,
            r#"{"id":"a"}"#,
            r#"{"id":"a\u0000"}"#,
            r#"{"id":""}"#,
            "{}",
        ];
        let hashes: HashSet<_> = keys.iter().map(|key| of_key(key).unwrap()).collect();
        assert_eq!(hashes.len(), keys.len());
    }

    #[test]
    fn what_is_no_key_has_no_hash() {
        for text in
            ["", "1", "[]", "{", r#"{"a"}"#, r#"{"a":}"#, r#"{"a":1"#, r#"{"a":1}x"#, r#"{"a":--}"#, r#"{"a":"\"#]
        {
            assert_eq!(of_key(text), None, "{text}");
        }
    }

    #[test]
    fn a_value_that_is_nested_deep_has_a_hash() {
        let nested =
            |depth: usize, inner: &str| of_key(&format!("{{\"a\":{}{inner}{}}}", "[".repeat(depth), "]".repeat(depth)));
        assert!(nested(100_000, "\"]\"").is_some());
        assert_eq!(nested(100_000, "1"), nested(100_000, "2"), "what is so deep is compared afterwards");
        assert_ne!(nested(60, "1"), nested(60, "2"));
        assert_eq!(nested(100_000, "{"), None);
    }

    #[test]
    fn hashes_of_neighbours_are_spread() {
        let count = 1 << 18;
        let hashes: Vec<RowHash> = (0..count).map(|n| of_key(&format!("{{\"id\":{n}}}")).unwrap()).collect();
        let mut parts = [0; 64];
        hashes.iter().for_each(|hash| parts[(hash >> 26) as usize] += 1);
        let (least, most) = (parts.iter().min().unwrap(), parts.iter().max().unwrap());
        assert!(*least > 3_700 && *most < 4_500, "{least} {most}: 4096 each, with a deviation of 64");
        let distinct = hashes.iter().collect::<HashSet<_>>().len() as i32;
        assert!(count - distinct < 30, "8 collisions are expected, there are {}", count - distinct);
    }

    #[test]
    fn an_update_of_the_key_has_both_keys() {
        let changed = event(r#"{"id":2,"part":"b"}"#, r#"{"old":{"id":1,"name":"x"},"new":{"id":2,"name":"y"}}"#);
        let same = event(r#"{"id":3,"part":"b"}"#, r#"{"old":{"name":"\"id\":"},"new":{"name":{"id":3}}}"#);
        let hashes = UPDATE.row_hashes(&[changed, same]).unwrap();
        let keys = [r#"{"id":2,"part":"b"}"#, r#"{"id":3,"part":"b"}"#, r#"{"id":1,"part":"b"}"#];
        assert_eq!(hashes, stored(&keys.map(of_key)));
        let inserted = HashedBatch { operation: "insert", ..UPDATE }.row_hashes(&[changed]).unwrap();
        assert_eq!(inserted, stored(&[of_key(keys[0])]));
    }

    #[test]
    fn what_concerns_a_whole_table_has_a_mark() {
        let without = PackedEvent { row_key: None, ..event("", "{}") };
        let of = |operation, domain| HashedBatch { operation, domain, ..UPDATE }.row_hashes(&[without]);
        let mark = of_table("public", "finding").to_be_bytes().to_vec();
        assert_eq!([of("truncate", "finding"), of("rewrite", "schema")], [Some(mark.clone()), Some(mark)]);
        let names = of_names().to_be_bytes().to_vec();
        for operation in ["alter_table", "alter_schema", "drop_table"] {
            assert_eq!(of(operation, "schema").as_ref(), Some(&names));
        }
        assert_eq!([of("insert", "finding"), of("read", "finding"), of("drop_table", "x")], [None, None, None]);
    }

    #[test]
    fn the_stored_hashes_are_compared_with_the_events() {
        let changed = event(r#"{"id":2}"#, r#"{"old":{"id":1},"new":{"id":2}}"#);
        let erased = PackedEvent { content: PackedContent::Erased([0; 32]), ..event(r#"{"id":4}"#, "") };
        let hash = |id: i32| of_key(&format!("{{\"id\":{id}}}"));
        let events = [changed, erased];
        for right in [
            &[hash(2), hash(4), hash(1)][..],
            &[hash(2), hash(4), hash(1), hash(3)],
            &[hash(2), hash(4), hash(3), hash(1)],
        ] {
            assert!(UPDATE.has(Some(&stored(right)), &events), "{right:?}");
        }
        for wrong in [
            &[hash(2), hash(4)][..],
            &[hash(4), hash(2), hash(1)],
            &[hash(2), hash(4), hash(3)],
            &[hash(2), hash(1)],
            &[hash(2), hash(4), hash(1), hash(3), hash(5)],
            &[],
        ] {
            assert!(!UPDATE.has(Some(&stored(wrong)), &events), "{wrong:?}");
        }
        let bytes = stored(&[hash(2), hash(4), hash(1)]);
        assert!(!UPDATE.has(Some(&[&bytes[..], &[0]].concat()), &events) && !UPDATE.has(None, &events));
        let insert = HashedBatch { operation: "insert", ..UPDATE };
        let keyless = [PackedEvent { row_key: None, ..erased }];
        assert!(!insert.has(Some(&stored(&[hash(4), hash(3)])), &[erased]), "an insert has no old key");
        assert!(UPDATE.has(None, &keyless) && !UPDATE.has(Some(&[]), &keyless));
        assert!(!UPDATE.has(Some(&stored(&[hash(3)])), &keyless), "it had no key to change");
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        use serde_json::Value;
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-1000i32..1000).prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::hash_map(".{0,5}", inner, 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_object_has_the_hash_of_its_members_in_any_form(
            members in prop::collection::hash_map(".{0,8}", json(), 0..5),
        ) {
            let text = |name: &String| serde_json::to_string(name).unwrap();
            let plain: Vec<String> = members.iter().map(|(name, value)| format!("{}:{value}", text(name))).collect();
            let mut other: Vec<String> = members
                .iter()
                .map(|(name, value)| format!(" {} :\t{} ", text(name), serde_json::to_string_pretty(value).unwrap()))
                .collect();
            other.reverse();
            let hash = of_key(&format!("{{{}}}", plain.join(",")));
            prop_assert!(hash.is_some());
            prop_assert_eq!(hash, of_key(&format!("{{{}}}", other.join(","))));
        }

        #[test]
        fn any_text_is_read_without_harm(text in any::<String>()) {
            let _ = of_key(&text);
            let _ = of_key(&format!("{{{text}"));
            let _ = of_old_key(r#"{"id":1}"#, &text);
        }
    }
}
