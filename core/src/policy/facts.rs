//! The contents of the catalogs about a table, as `facts.sql` reads them. Postgres has quoted the identifiers.

use serde::Deserialize;
use std::collections::BTreeMap;

/// A table with the related tables that its protection depends on.
#[derive(Debug, Clone, PartialEq)]
pub struct TableFamily {
    /// The table that is to be protected.
    pub table: Facts,
    /// Partitions and inheritance children, of every level; a parent precedes its children.
    pub members: Vec<Facts>,
    /// Tables at the other end of a foreign key, and tables on the way from there to an organization column, by oid.
    pub others: BTreeMap<u32, Facts>,
}

impl TableFamily {
    /// The facts about the table of that oid, if it is the table itself or one of the others.
    pub fn facts_of(&self, oid: u32) -> Option<&Facts> {
        if oid == self.table.oid { Some(&self.table) } else { self.others.get(&oid) }
    }
}

/// The contents of the catalogs about one table.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub struct Facts {
    /// `pg_class.oid`.
    pub oid: u32,
    /// Schema and name, quoted.
    pub table: String,
    /// `pg_class.relname`, not quoted.
    pub name: String,
    /// Name of the schema, not quoted.
    pub schema: String,
    /// Name of the schema as `quote_ident` writes it.
    pub schema_quoted: String,
    /// The organization column that `protect_schema` recorded for the schema; `None` if it recorded none.
    #[serde(default)]
    pub schema_column: Option<String>,
    /// `pg_class.relkind`, one letter.
    pub kind: String,
    /// True for a temporary table, which `protect` refuses.
    pub temporary: bool,
    /// True for a table in a schema of Postgres or of the extension, which `protect` refuses.
    pub system: bool,
    /// Whether the caller has the rights of the owner, and so may alter the table.
    pub owned: bool,
    /// The tables of which this is a partition or an inheritance child, each as quoted schema and name.
    pub parents: Vec<String>,
    /// True for a partition, false for an inheritance child (`pg_class.relispartition`).
    pub partition: bool,
    /// Oids of partitions and inheritance children, of every level; a parent precedes its children.
    pub members: Vec<u32>,
    /// Number of pages at the last VACUUM or ANALYZE, an estimate (`pg_class.relpages`).
    pub pages: i64,
    /// Whether row-level security is enabled (`pg_class.relrowsecurity`).
    pub row_security: bool,
    /// Whether row-level security also applies to the owner (`pg_class.relforcerowsecurity`).
    pub force_row_security: bool,
    /// The columns, in the order of `pg_attribute.attnum`, without dropped ones.
    pub columns: Vec<Column>,
    /// The policies, in the order of their names.
    pub policies: Vec<Policy>,
    /// The triggers, in the order of their names, without those internal to Postgres.
    pub triggers: Vec<Trigger>,
    /// Valid B-tree indexes without a predicate.
    pub indexes: Vec<Index>,
    /// Invalid indexes that an interrupted CREATE INDEX CONCURRENTLY of `protect` left, as quoted names.
    pub broken_indexes: Vec<String>,
    /// CHECK constraints with a name that `protect` generates.
    pub checks: Vec<Check>,
    /// Foreign keys from and to the table, without those that partitions inherit.
    pub references: Vec<Reference>,
    /// Names of relations in the table's schema that resemble generated names, and therefore are not available.
    pub taken_names: Vec<String>,
    /// The comment of the policy `tenancy_isolation`.
    pub provenance: Option<String>,
    /// The comment of the isolation policy that is being replaced, while that policy exists.
    #[serde(default)]
    pub provenance_before: Option<String>,
}

impl Facts {
    /// The comment that records how the table is protected, also in the middle of a change of its policies.
    pub fn remembered(&self) -> Option<&str> {
        self.provenance.as_deref().or(self.provenance_before.as_deref())
    }

    /// The column of that unquoted name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Whether the table is partitioned (`relkind` is `p`).
    pub fn partitioned(&self) -> bool {
        self.kind == "p"
    }
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub struct Column {
    /// `pg_attribute.attname`, not quoted.
    pub name: String,
    /// The name as `quote_ident` writes it.
    pub quoted: String,
    /// The type as `format_type` names it, without a modifier.
    pub data_type: String,
    /// Whether the column is NOT NULL.
    pub not_null: bool,
    /// The default expression as `pg_get_expr` prints it; for a generated column its expression.
    pub default: Option<String>,
    /// Whether the column is generated or an identity, and so cannot have a default.
    pub generated: bool,
    /// Names of the columns that the expression of a generated column uses.
    #[serde(default)]
    pub computed_from: Vec<String>,
}

/// A row-level security policy.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Policy {
    /// `pg_policy.polname`, not quoted.
    pub name: String,
    /// True for a permissive policy, false for a restrictive one.
    pub permissive: bool,
    /// `pg_policy.polcmd`: `r`, `a`, `w`, `d` or `*`.
    pub command: String,
    /// Whether the policy applies to every role (TO PUBLIC).
    pub to_public: bool,
    /// The USING expression as `pg_get_expr` prints it.
    pub using: Option<String>,
    /// The WITH CHECK expression as `pg_get_expr` prints it.
    pub check: Option<String>,
}

/// A trigger of a table.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Trigger {
    /// `pg_trigger.tgname`, not quoted.
    pub name: String,
    /// The CREATE TRIGGER statement as `pg_get_triggerdef` prints it.
    pub definition: String,
    /// `pg_trigger.tgenabled`, one letter: `O`, `D`, `R` or `A`.
    pub enabled: String,
    /// Whether Postgres made the trigger for a partition, as a copy of the trigger of the partitioned table.
    pub cloned: bool,
}

/// A valid B-tree index without a predicate.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub struct Index {
    /// Name of the index, not quoted.
    pub name: String,
    /// The name as `quote_ident` writes it.
    pub quoted: String,
    /// Unquoted names of the key columns in their order; an expression is an empty name.
    pub columns: Vec<String>,
    /// Whether the index is unique and checked immediately, so that a foreign key may reference it.
    pub unique: bool,
    /// Whether the index belongs to the primary key.
    pub primary: bool,
    /// The comment of the constraint that the index implements.
    pub comment: Option<String>,
}

/// A CHECK constraint with a name that `protect` generates.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub struct Check {
    /// `pg_constraint.conname`, not quoted.
    pub name: String,
    /// Whether Postgres has checked the existing rows (`pg_constraint.convalidated`).
    pub validated: bool,
}

/// A foreign key.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub struct Reference {
    /// `pg_constraint.conname`, not quoted.
    pub name: String,
    /// The name as `quote_ident` writes it.
    pub quoted: String,
    /// Oid of the referencing table.
    pub child: u32,
    /// Oid of the referenced table.
    pub parent: u32,
    /// The referencing columns, in the order of the key.
    pub child_columns: Vec<Name>,
    /// The referenced columns; each has the index of its counterpart in `child_columns`.
    pub parent_columns: Vec<Name>,
    /// `pg_constraint.confmatchtype`: `f` (FULL), `p` (PARTIAL) or `s` (SIMPLE).
    pub match_type: String,
    /// `pg_constraint.confupdtype`: `a`, `r`, `c`, `n` or `d`, the action of ON UPDATE.
    pub on_update: String,
    /// `pg_constraint.confdeltype`: `a`, `r`, `c`, `n` or `d`, the action of ON DELETE.
    pub on_delete: String,
    /// The columns in `ON DELETE SET NULL (...)` or `SET DEFAULT (...)`, quoted.
    pub on_delete_columns: Vec<String>,
    /// Whether the constraint is DEFERRABLE.
    pub deferrable: bool,
    /// Whether the constraint is INITIALLY DEFERRED.
    pub deferred: bool,
    /// Whether Postgres has checked the existing rows (`pg_constraint.convalidated`).
    pub validated: bool,
    /// False if a trigger of the constraint does not fire, or if the constraint is NOT ENFORCED.
    #[serde(default = "enforced")]
    pub enforced: bool,
    /// The comment of the constraint, in which `protect` records the previous definition.
    pub comment: Option<String>,
}

fn enforced() -> bool {
    true
}

/// A column of a foreign key.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub struct Name {
    /// `pg_attribute.attname`, not quoted.
    pub name: String,
    /// The name as `quote_ident` writes it.
    pub quoted: String,
    /// The type as `format_type` names it, without a modifier.
    pub data_type: String,
}
