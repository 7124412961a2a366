//! What the catalogs say of a table, as `facts.sql` reads it. Identifiers arrive quoted by Postgres.

use serde::Deserialize;
use std::collections::BTreeMap;

/// A table with everything around it that its protection depends on.
#[derive(Debug, Clone, PartialEq)]
pub struct TableFamily {
    pub table: Facts,
    /// Partitions and inheritance children, of every level; a parent comes before its children.
    pub members: Vec<Facts>,
    /// Tables at the other end of a foreign key, and those that lead from them to their organization, by oid.
    pub others: BTreeMap<u32, Facts>,
}

impl TableFamily {
    /// What is known of the table of that oid.
    pub fn facts_of(&self, oid: u32) -> Option<&Facts> {
        if oid == self.table.oid { Some(&self.table) } else { self.others.get(&oid) }
    }
}

/// What the catalogs say of one table.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub struct Facts {
    pub oid: u32,
    /// Schema and name, quoted.
    pub table: String,
    pub name: String,
    pub schema: String,
    pub schema_quoted: String,
    /// The organization column that `protect_schema` was given for the schema.
    #[serde(default)]
    pub schema_column: Option<String>,
    /// `pg_class.relkind`.
    pub kind: String,
    pub temporary: bool,
    pub system: bool,
    /// True if the caller may alter it.
    pub owned: bool,
    /// What it is a partition or an inheritance child of, quoted.
    pub parents: Vec<String>,
    /// A partition, as opposed to an inheritance child.
    pub partition: bool,
    /// Oids of partitions and inheritance children, of every level.
    pub members: Vec<u32>,
    /// Pages on disk when last analyzed.
    pub pages: i64,
    pub row_security: bool,
    pub force_row_security: bool,
    pub columns: Vec<Column>,
    pub policies: Vec<Policy>,
    pub triggers: Vec<Trigger>,
    /// Usable B-tree indexes without a predicate.
    pub indexes: Vec<Index>,
    /// Indexes by a name that `protect` gives which an interrupted CREATE INDEX CONCURRENTLY left, quoted.
    pub broken_indexes: Vec<String>,
    /// CHECK constraints by a name that `protect` gives.
    pub checks: Vec<Check>,
    /// Foreign keys from and to the table, without those that partitions inherit.
    pub references: Vec<Reference>,
    /// Names of relations in the table's schema that look like those that `protect` gives.
    pub taken_names: Vec<String>,
    /// `COMMENT ON POLICY tenancy_isolation`.
    pub provenance: Option<String>,
    /// The comment of the isolation policy that is being replaced, as long as it is there.
    #[serde(default)]
    pub provenance_before: Option<String>,
}

impl Facts {
    /// The comment that says how the table is protected, also in the middle of a change of its policies.
    pub fn remembered(&self) -> Option<&str> {
        self.provenance.as_deref().or(self.provenance_before.as_deref())
    }

    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    pub fn partitioned(&self) -> bool {
        self.kind == "p"
    }
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub struct Column {
    pub name: String,
    pub quoted: String,
    /// `format_type` without modifier.
    pub data_type: String,
    pub not_null: bool,
    pub default: Option<String>,
    /// Generated or an identity, so without a default.
    pub generated: bool,
    /// The columns that a generated one is computed from.
    #[serde(default)]
    pub computed_from: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Policy {
    pub name: String,
    pub permissive: bool,
    /// `pg_policy.polcmd`: `r`, `a`, `w`, `d` or `*`.
    pub command: String,
    pub to_public: bool,
    pub using: Option<String>,
    pub check: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Trigger {
    pub name: String,
    pub definition: String,
    /// `pg_trigger.tgenabled`.
    pub enabled: String,
    /// Made by Postgres for a partition, after the one of the partitioned table.
    pub cloned: bool,
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub struct Index {
    pub name: String,
    pub quoted: String,
    /// Names of the key columns; an expression is an empty name.
    pub columns: Vec<String>,
    /// Unique and checked at once, so that a foreign key may point at it.
    pub unique: bool,
    /// It keeps the primary key.
    pub primary: bool,
    /// `COMMENT ON CONSTRAINT` of the key that the index serves.
    pub comment: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub struct Check {
    pub name: String,
    pub validated: bool,
}

/// A foreign key.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub struct Reference {
    pub name: String,
    pub quoted: String,
    /// Oid of the referencing table.
    pub child: u32,
    /// Oid of the referenced table.
    pub parent: u32,
    pub child_columns: Vec<Name>,
    pub parent_columns: Vec<Name>,
    /// `pg_constraint.confmatchtype`, `confupdtype`, `confdeltype`.
    pub match_type: String,
    pub on_update: String,
    pub on_delete: String,
    /// The columns that `ON DELETE SET NULL (...)` names, quoted.
    pub on_delete_columns: Vec<String>,
    pub deferrable: bool,
    pub deferred: bool,
    pub validated: bool,
    /// False where a trigger by which Postgres keeps it does not fire, or it is NOT ENFORCED.
    #[serde(default = "enforced")]
    pub enforced: bool,
    pub comment: Option<String>,
}

fn enforced() -> bool {
    true
}

/// A column in a key.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub struct Name {
    pub name: String,
    pub quoted: String,
    pub data_type: String,
}
