//! The options of `tenancy.plan` and `tenancy.protect`.

use crate::error::{self, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The arguments of `tenancy.plan` and `tenancy.protect`. `None` keeps the value of an earlier `protect`.
#[derive(Debug, Clone, Default)]
pub struct Options<'a> {
    /// Unquoted name of the organization column (`organization_column`).
    pub column: Option<&'a str>,
    /// The permission domain of the table; without one, the table's name in snake case.
    pub domain: Option<&'a str>,
    /// The meaning of a NULL in the organization column.
    pub null_rows: Option<NullRows>,
    /// The expression that fills the organization column of existing rows.
    pub backfill: Option<Backfill<'a>>,
    /// A foreign key, or its only column, that leads to the row whose organization applies.
    pub through: Option<&'a str>,
    /// The custom actions of the table.
    pub actions: Option<Actions>,
    /// Unquoted names of columns whose values the audit records as commitments.
    pub secret_columns: Option<Vec<String>>,
    /// Whether the steps run one by one, so that none blocks writers for long.
    pub online: bool,
}

/// The expression that gives rows without an organization their organization.
#[derive(Debug, Clone)]
pub struct Backfill<'a> {
    /// An SQL expression over the table's columns.
    pub expression: &'a str,
    /// The type of the expression, as `format_type` names it.
    pub data_type: String,
}

/// The meaning of a NULL in the organization column of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NullRows {
    /// Every organization reads the row; no tenant writes it.
    Shared,
    /// The row belongs to no organization: no tenant sees it.
    Nobody,
}

impl NullRows {
    /// The word in SQL: `shared` or `nobody`.
    pub fn name(self) -> &'static str {
        match self {
            NullRows::Shared => "shared",
            NullRows::Nobody => "nobody",
        }
    }

    /// Parses the argument `null_rows`.
    ///
    /// Errors: `ARGUMENT_INVALID` for another word.
    pub fn parse(word: &str) -> Result<Self> {
        match word {
            "shared" => Ok(NullRows::Shared),
            "nobody" => Ok(NullRows::Nobody),
            _ => Err(error::ARGUMENT_INVALID.error("null_rows must be \"shared\" or \"nobody\"")),
        }
    }
}

/// The custom actions of a table by name: changes that need a permission beside `create` or `update`.
pub type Actions = BTreeMap<String, Action>;

/// The change that a custom action consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Action {
    /// A change of certain columns.
    Columns(Columns),
    /// A change of a column to or from certain values.
    States(States),
}

/// A change of any of these columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Columns {
    /// Unquoted names of the columns; at least one.
    pub columns: Vec<String>,
}

/// A change by which a row enters or leaves one of these states.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct States {
    /// Unquoted name of the column that holds the state.
    pub column: String,
    /// The states: values of the column as text; at least one.
    pub values: Vec<String>,
}

impl Action {
    /// Unquoted names of the columns that the action depends on.
    pub fn column_names(&self) -> Vec<&str> {
        match self {
            Action::Columns(columns) => columns.columns.iter().map(String::as_str).collect(),
            Action::States(states) => vec![&states.column],
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Action::Columns(columns) => columns.columns.is_empty(),
            Action::States(states) => states.values.is_empty(),
        }
    }

    /// The texts for the arguments of the trigger: the columns, or the column and then the values.
    pub fn texts(&self) -> Vec<&str> {
        match self {
            Action::Columns(columns) => columns.columns.iter().map(String::as_str).collect(),
            Action::States(states) => {
                std::iter::once(&states.column).chain(&states.values).map(String::as_str).collect()
            }
        }
    }
}

/// The longest name of an action, in bytes: the name becomes part of the name of a trigger.
const MAX_ACTION_BYTES: usize = 30;

/// Parses the argument `actions`: a JSON object of actions by name.
///
/// An example is `{"approve": {"columns": ["approved_at"]}, "close": {"column": "status", "values": ["closed"]}}`.
///
/// Errors: `ARGUMENT_INVALID`.
pub fn parse_actions(json: &str) -> Result<Actions> {
    let malformed = |detail: String| error::ARGUMENT_INVALID.error("the actions cannot be read").detail(detail);
    let actions: Actions = serde_json::from_str(json).map_err(|_| {
        malformed(
            "Each action is {\"columns\": [\"...\"]} or {\"column\": \"...\", \"values\": [\"...\"]}, under its name."
                .into(),
        )
    })?;
    for (name, action) in &actions {
        if ["create", "read", "update", "delete"].contains(&name.as_str()) {
            return Err(malformed(format!("The action \"{name}\" has a meaning of its own.")));
        }
        let plain = |text: &str| !text.contains('\\') && !text.chars().any(char::is_control);
        if name.is_empty() || name.len() > MAX_ACTION_BYTES || name.contains('*') || !plain(name) {
            return Err(malformed("An action is named by 1 to 30 bytes without * and \\.".into()));
        }
        if action.is_empty() || !action.texts().into_iter().all(plain) {
            return Err(malformed(format!("The action \"{name}\" needs columns or values, without \\.")));
        }
    }
    Ok(actions)
}

/// Parses the argument `secret_columns`: names of columns, returned sorted and without duplicates.
///
/// Errors: `ARGUMENT_INVALID` for a NULL among the names.
pub fn parse_secret_columns(names: Vec<Option<String>>) -> Result<Vec<String>> {
    let names: Option<Vec<String>> = names.into_iter().collect();
    let mut names = names.ok_or_else(|| error::ARGUMENT_INVALID.error("secret_columns may hold no NULL"))?;
    names.sort();
    names.dedup();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_action_is_a_change_of_columns_or_of_a_state() {
        let json = json!({
            "approve": {"columns": ["approved_at", "approved_by"]},
            "close": {"column": "status", "values": ["closed"]},
        });
        let actions = parse_actions(&json.to_string()).unwrap();
        assert_eq!(actions["approve"].column_names(), ["approved_at", "approved_by"]);
        assert_eq!(actions["close"].texts(), ["status", "closed"]);
    }

    #[test]
    fn what_is_no_action_is_refused() {
        for hostile in [
            json!([]),
            json!({"approve": {}}),
            json!({"approve": {"columns": []}}),
            json!({"approve": {"columns": ["a"], "column": "b", "values": ["c"]}}),
            json!({"approve": {"column": "b", "values": []}}),
            json!({"": {"columns": ["a"]}}),
            json!({"*": {"columns": ["a"]}}),
            json!({"update": {"columns": ["a"]}}),
            json!({"appr\\ove": {"columns": ["a"]}}),
            json!({"approve": {"column": "status", "values": ["a\\b"]}}),
            json!({"a".repeat(31): {"columns": ["a"]}}),
        ] {
            assert!(parse_actions(&hostile.to_string()).is_err(), "{hostile}");
        }
        let deep = "[".repeat(1000) + &"]".repeat(1000);
        assert!(parse_actions("1e400").is_err());
        assert!(parse_actions(&deep).is_err());
    }
}
