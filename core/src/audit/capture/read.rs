//! A read of a sensitive table, which is recorded whether its transaction commits or not.
//!
//! The record therefore leaves the transaction as a message.

use super::refusal::{shorten, shorten_actor};
use crate::audit::format::event::Actor;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

/// One statement, and one of the tables that it read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// Start of the statement, in microseconds since 1970 UTC.
    pub occurred_at: i64,
    /// The organization of the context; absent if there was no context.
    pub organization: Option<Uuid>,
    /// The permission domain of the table.
    pub domain: String,
    /// Schema of the table, not quoted.
    pub table_schema: String,
    /// Name of the table, not quoted.
    pub table_name: String,
    /// `SELECT`, `COPY`, or the command that changed rows and read them.
    pub command: String,
    /// The query id that Postgres computed; absent if `compute_query_id` is off.
    pub query_id: Option<i64>,
    /// The number of rows that the statement returned or changed; absent if unknown.
    pub rows: Option<u64>,
    /// Whether the statement ended with an error, possibly after some rows.
    pub failed: bool,
    /// The actor who executed the statement.
    pub actor: Actor,
}

impl Read {
    /// Encodes the read as one line of JSON, with texts cut to their maximum length.
    pub fn to_message(&self) -> String {
        let mut short = self.clone();
        for text in [&mut short.domain, &mut short.table_schema, &mut short.table_name, &mut short.command] {
            shorten(text);
        }
        shorten_actor(&mut short.actor);
        // Texts and numbers only: nothing that JSON could not hold.
        serde_json::to_string(&short).unwrap_or_default()
    }

    /// Decodes a message; `None` for bytes that are not such a message.
    pub fn from_message(message: &[u8]) -> Option<Read> {
        serde_json::from_slice(message).ok()
    }

    /// The payload of the event: JSON with `query_id`, `rows` and `command` in the member `data`.
    pub fn payload(&self) -> String {
        let mut data = Map::new();
        data.insert("query_id".into(), self.query_id.into());
        data.insert("rows".into(), self.rows.into());
        data.insert("command".into(), self.command.as_str().into());
        Value::Object(Map::from_iter([("data".into(), Value::Object(data))])).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::capture::refusal::{MESSAGE_BYTES, Refusal};
    use crate::audit::format::event::actor_of;

    fn read(text: &str) -> Read {
        Read {
            occurred_at: i64::MIN,
            organization: Some(Uuid::max()),
            domain: text.into(),
            table_schema: text.into(),
            table_name: text.into(),
            command: text.into(),
            query_id: Some(i64::MIN),
            rows: Some(u64::MAX),
            failed: true,
            actor: actor_of(text),
        }
    }

    #[test]
    fn a_message_has_what_was_read() {
        for text in ["", "alice", "\"\\\u{1}\u{7f}\u{2028}é"] {
            let sent = read(text);
            let message = sent.to_message();
            assert!(Refusal::from_message(message.as_bytes()).is_none(), "mistaken for a refusal");
            assert_eq!(Read::from_message(message.as_bytes()), Some(sent));
        }
        assert_eq!(Read::from_message(b"{}"), None);
    }

    #[test]
    fn no_text_is_too_long_for_a_message() {
        for text in ["a", "\u{1}", "\"", "\u{10ffff}", "\u{85}"] {
            let message = read(&text.repeat(100_000)).to_message();
            assert!(message.len() <= MESSAGE_BYTES, "{} bytes", message.len());
            assert!(Read::from_message(message.as_bytes()).is_some());
        }
    }

    #[test]
    fn a_payload_says_what_is_not_known() {
        let read = Read { query_id: None, rows: None, ..read("COPY") };
        assert_eq!(read.payload(), r#"{"data":{"command":"COPY","query_id":null,"rows":null}}"#);
        let read = Read { query_id: Some(-5), rows: Some(7), ..read };
        assert_eq!(read.payload(), r#"{"data":{"command":"COPY","query_id":-5,"rows":7}}"#);
    }
}
