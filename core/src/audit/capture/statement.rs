//! Statements under a break-glass grant, which are recorded whether their transaction commits or not.
//!
//! The text of a statement may hold secrets, so it is not part of what is recorded.

use super::refusal::{MESSAGE_BYTES, shorten, shorten_actor};
use crate::audit::format::event::Actor;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

/// The most tables that are told of one statement.
pub const MAX_TABLES: usize = 100;

/// A table, view or foreign table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Table {
    /// Its schema, not quoted.
    pub schema: String,
    /// Its name, not quoted.
    pub table: String,
}

/// One statement of the client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// Start of the statement, in microseconds since 1970 UTC.
    pub occurred_at: i64,
    /// Its end, by the clock that ends grants.
    pub ended_at: i64,
    /// `SELECT`, `UPDATE` and so on; of a statement that is no query the command tag.
    pub command: String,
    /// The tables that it needed privileges on, with those of the functions that it ran, in the order of their names.
    pub tables: Vec<Table>,
    /// How many more tables there were.
    #[serde(default)]
    pub more_tables: usize,
    /// The query id that Postgres computed; absent if `compute_query_id` is off.
    pub query_id: Option<i64>,
    /// The number of rows that it returned or changed; absent if unknown.
    pub rows: Option<u64>,
    /// How long it ran, in microseconds.
    pub duration: i64,
    /// Whether it ended with an error, possibly after some rows.
    pub failed: bool,
    /// What it needed of the grant: permissions that the role alone does not have.
    #[serde(default)]
    pub permissions: Vec<String>,
}

impl Statement {
    /// The payload of the event; `after_end` tells that the grant was over when the statement ended.
    pub fn payload(&self, after_end: bool) -> String {
        let mut new = json!({
            "command": self.command,
            "tables": self.tables,
            "query_id": self.query_id,
            "rows": self.rows,
            "duration": self.duration,
        });
        if self.more_tables > 0 {
            new["more_tables"] = self.more_tables.into();
        }
        if !self.permissions.is_empty() {
            new["permissions"] = json!(self.permissions);
        }
        if after_end {
            new["after_end"] = true.into();
        }
        json!({ "new": new }).to_string()
    }
}

/// What somebody did under a grant, in one organization.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statements {
    /// The organization of the grant.
    pub organization: Uuid,
    /// Who executed them.
    pub actor: Actor,
    /// In the order of their ends.
    pub statements: Vec<Statement>,
}

impl Statements {
    /// Encodes them as lines of JSON of at most [`MESSAGE_BYTES`], with texts cut to their maximum length. Where a
    /// statement does not fit, tables are left out and counted.
    pub fn to_messages(&self) -> Vec<String> {
        let mut actor = self.actor.clone();
        shorten_actor(&mut actor);
        let mut open = Statements { organization: self.organization, actor, statements: Vec::new() };
        let mut messages = Vec::new();
        for statement in &self.statements {
            open.statements.push(statement.clone());
            if open.fits() {
                continue;
            }
            let last = open.statements.split_off(open.statements.len() - 1);
            if !open.statements.is_empty() {
                messages.push(open.encode());
            }
            open.statements = last;
            open.cut();
        }
        if !open.statements.is_empty() {
            messages.push(open.encode());
        }
        messages
    }

    /// Leaves tables out, and then permissions, until the only statement fits.
    fn cut(&mut self) {
        while !self.fits() {
            let Some(statement) = self.statements.first_mut() else { return };
            if statement.tables.pop().is_some() {
                statement.more_tables += 1;
            } else if statement.permissions.pop().is_none() {
                shorten(&mut statement.command);
                return;
            }
        }
    }

    fn fits(&self) -> bool {
        self.encode().len() <= MESSAGE_BYTES
    }

    fn encode(&self) -> String {
        // Texts and numbers only: nothing that JSON could not hold.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Decodes a message; `None` for bytes that are not such a message.
    pub fn from_message(message: &[u8]) -> Option<Statements> {
        serde_json::from_slice(message).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::capture::read::Read;
    use crate::audit::capture::refusal::Refusal;
    use crate::audit::format::event::actor_of;
    use serde_json::Value;

    fn statement(text: &str, tables: usize) -> Statement {
        Statement {
            occurred_at: i64::MIN,
            ended_at: i64::MAX,
            command: text.into(),
            tables: vec![Table { schema: text.into(), table: text.into() }; tables],
            more_tables: 0,
            query_id: Some(i64::MIN),
            rows: Some(u64::MAX),
            duration: i64::MAX,
            failed: true,
            permissions: vec![text.into()],
        }
    }

    fn all(text: &str, statements: Vec<Statement>) -> Statements {
        Statements { organization: Uuid::max(), actor: actor_of(text), statements }
    }

    #[test]
    fn messages_have_each_statement_once_in_its_order() {
        for text in ["", "alice", "\"\\\u{1}\u{7f}\u{2028}é"] {
            let statements: Vec<Statement> =
                (0..50).map(|n| Statement { occurred_at: n, ..statement(text, 3) }).collect();
            let messages = all(text, statements.clone()).to_messages();
            let mut read = Vec::new();
            for message in &messages {
                let bytes = message.as_bytes();
                assert!(bytes.len() <= MESSAGE_BYTES, "{} bytes", bytes.len());
                assert!(Refusal::from_message(bytes).is_none() && Read::from_message(bytes).is_none());
                read.extend(Statements::from_message(bytes).unwrap().statements);
            }
            assert_eq!(read, statements);
            assert!(messages.len() < statements.len(), "several share a message");
        }
        assert_eq!(Statements::from_message(b"{}"), None);
        assert!(all("a", vec![]).to_messages().is_empty());
    }

    #[test]
    fn no_text_is_too_long_for_a_message() {
        for text in ["a", "\u{1}", "\"", "\u{10ffff}", "\u{85}"] {
            let long = text.repeat(100_000);
            let messages = all(&long, vec![statement(&text.repeat(63), MAX_TABLES), statement(&long, 1)]).to_messages();
            assert_eq!(messages.len(), 2);
            for message in &messages {
                assert!(message.len() <= MESSAGE_BYTES, "{} bytes", message.len());
            }
            let first = Statements::from_message(messages[0].as_bytes()).unwrap();
            let told = &first.statements[0];
            assert_eq!(told.tables.len() + told.more_tables, MAX_TABLES, "what is left out is counted");
        }
    }

    #[test]
    fn a_payload_tells_of_the_end_and_of_needed_permissions_only_where_there_is_something_to_tell() {
        let plain = Statement { permissions: vec![], query_id: None, rows: None, ..statement("x", 1) };
        let payload: Value = serde_json::from_str(&plain.payload(false)).unwrap();
        assert_eq!(
            payload,
            json!({ "new": { "command": "x", "tables": [{ "schema": "x", "table": "x" }], "query_id": null,
                             "rows": null, "duration": i64::MAX } })
        );
        let payload: Value = serde_json::from_str(&statement("x", 0).payload(true)).unwrap();
        assert_eq!(payload["new"]["after_end"], true);
        assert_eq!(payload["new"]["permissions"], json!(["x"]));
    }
}
