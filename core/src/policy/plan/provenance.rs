//! What was there before, kept in the comments of what `protect` makes so that dumps carry it.

use crate::policy::options::{Actions, NullRows};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

const INTRODUCTION: &str = "Made by tenancy.protect; tenancy.unprotect takes it back. Before: ";

/// The comment of the isolation policy: how the table is protected, and what was there before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// The organization column, or the column of the foreign key `through`.
    pub column: String,
    pub domain: String,
    /// The foreign key that leads to the organization of a table without such a column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub through: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub null_rows: Option<NullRows>,
    #[serde(default, skip_serializing_if = "Actions::is_empty")]
    pub actions: Actions,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secret_columns: Vec<String>,
    /// The index that `protect` made; absent when there was one.
    pub index: Option<String>,
    /// Foreign keys of the table that `protect` made composite.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<String>,
    pub previous_default: Option<String>,
    /// The column was not there, or could be NULL, before `protect` filled it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub was_nullable: bool,
    pub row_security: bool,
    pub force_row_security: bool,
}

/// The comment of a foreign key that `protect` made composite: what the plain one had that the composite one does not tell.
///
/// Whoever owns the referencing table can write this comment. So it holds no SQL: names in it are looked up among the
/// columns of the foreign key, and everything else is rebuilt from the catalogs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlainReference {
    /// The columns that were added, of the referencing and of the referenced table.
    pub child_organization: String,
    pub parent_organization: String,
    /// MATCH FULL.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub match_full: bool,
    /// ON DELETE SET NULL or SET DEFAULT named its columns.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub names_columns: bool,
    pub validated: bool,
    pub comment: Option<String>,
}

/// The comment of a key that `protect` made for composite foreign keys to point at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NoKey {}

pub fn write(before: &impl Serialize) -> String {
    // Structs of strings and booleans always serialize.
    format!("{INTRODUCTION}{}", serde_json::to_string(before).unwrap_or_default())
}

/// `None` for the comment of somebody else.
pub fn read<T: DeserializeOwned>(comment: Option<&str>) -> Option<T> {
    serde_json::from_str(comment?.strip_prefix(INTRODUCTION)?).ok()
}
