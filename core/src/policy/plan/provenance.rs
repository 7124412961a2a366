//! The previous state of a table, kept in the comments of the objects that `protect` creates, so that dumps include it.
//!
//! Decision: `docs/decisions/16-comments-without-sql.md`.

use crate::policy::options::{Actions, NullRows};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

const INTRODUCTION: &str = "Made by tenancy.protect; tenancy.unprotect takes it back. Before: ";

/// The comment of the isolation policy: how the table is protected, and its previous state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// The organization column, or the column of the foreign key `through`.
    pub column: String,
    /// The permission domain of the table.
    pub domain: String,
    /// Name of the foreign key that leads to the organization of a table without an organization column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub through: Option<String>,
    /// The meaning of a NULL in the organization column, if the column may be NULL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub null_rows: Option<NullRows>,
    /// The custom actions of the table.
    #[serde(default, skip_serializing_if = "Actions::is_empty")]
    pub actions: Actions,
    /// Columns whose values the audit records as commitments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secret_columns: Vec<String>,
    /// The index that `protect` created; absent if a suitable one existed.
    pub index: Option<String>,
    /// Names of foreign keys of the table that `protect` made composite.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<String>,
    /// The default of the organization column before `protect`.
    pub previous_default: Option<String>,
    /// Whether the column was absent or nullable before `protect` filled it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub was_nullable: bool,
    /// Whether row-level security was enabled before `protect`.
    pub row_security: bool,
    /// Whether row-level security applied to the owner before `protect`.
    pub force_row_security: bool,
}

/// The comment of a composite foreign key: the parts of the plain one that the composite one does not show.
///
/// The owner of the referencing table can write this comment, so it contains no SQL. Names in it are looked up among
/// the columns of the foreign key, and everything else is rebuilt from the catalogs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlainReference {
    /// The column that was added on the side of the referencing table.
    pub child_organization: String,
    /// The column that was added on the side of the referenced table.
    pub parent_organization: String,
    /// Whether the plain foreign key was MATCH FULL.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub match_full: bool,
    /// Whether ON DELETE SET NULL or SET DEFAULT named columns.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub names_columns: bool,
    /// Whether the plain foreign key was validated.
    pub validated: bool,
    /// The comment of the plain foreign key.
    pub comment: Option<String>,
}

/// The comment of a key that `protect` created as the target of composite foreign keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NoKey {}

/// The comment for a value: an introduction for people, then JSON.
pub fn write(before: &impl Serialize) -> String {
    // Structs of strings and booleans always serialize.
    format!("{INTRODUCTION}{}", serde_json::to_string(before).unwrap_or_default())
}

/// Reads such a comment; `None` for a comment in another form.
pub fn read<T: DeserializeOwned>(comment: Option<&str>) -> Option<T> {
    serde_json::from_str(comment?.strip_prefix(INTRODUCTION)?).ok()
}
