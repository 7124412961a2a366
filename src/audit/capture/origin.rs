//! Which organization a row belongs to, read below SQL: by a column of its own, or by the rows that it leads to.

use crate::context;
use crate::pg::json::JsonKind;
use crate::pg::tables::catalog::{self, TableColumn};
use crate::pg::tables::parent::ParentTable;
use crate::pg::tables::table::{self, IndexKey};
use pg_tenancy_core::context::Organization;
use pgrx::{FromDatum, pg_sys};
use uuid::Uuid;

/// The types that `protect` accepts for the organization.
pub const ORGANIZATION_TYPES: [pg_sys::Oid; 5] =
    [pg_sys::UUIDOID, pg_sys::TEXTOID, pg_sys::VARCHAROID, pg_sys::INT4OID, pg_sys::INT8OID];

/// The tables by which a row leads to its organization, open for the time of a trigger's call.
pub struct OriginPath {
    parents: Vec<ParentTable>,
}

/// Whose a row at the end of a way is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Belongs {
    /// There is no such row.
    Nowhere,
    /// Its organization is NULL.
    Nobody,
    /// Its organization is one that is not registered, by the name in the column.
    Unknown(String),
    To(Uuid),
}

impl OriginPath {
    /// Reads the arguments of a trigger up to `end`: three for each table, its name, its key, and the column that
    /// leads on.
    pub fn texts_of<'a, 'b>(mut texts: &'b [&'a str], end: &str) -> (Vec<[&'a str; 3]>, &'b [&'a str]) {
        let mut way = Vec::new();
        while let [table, key, value, rest @ ..] = texts
            && *table != end
        {
            way.push([*table, *key, *value]);
            texts = rest;
        }
        (way, texts)
    }

    /// `None` where one of the tables is no longer what the way was made for.
    pub fn open(texts: &[[&str; 3]], from: pg_sys::Oid) -> Option<Self> {
        let mut parents: Vec<ParentTable> = Vec::new();
        for [table, key, value] in texts {
            let from = parents.last().map_or(from, |parent| parent.value().type_oid);
            parents.push(ParentTable::open(table, key, value, from)?);
        }
        let last = parents.last()?;
        ORGANIZATION_TYPES.contains(&last.value().type_oid).then_some(OriginPath { parents })
    }

    /// Whose the row is that the key leads to.
    pub fn organization(&self, key: pg_sys::Datum) -> Belongs {
        follow(&self.parents, key)
    }
}

fn follow(parents: &[ParentTable], key: pg_sys::Datum) -> Belongs {
    let [parent, rest @ ..] = parents else { return Belongs::Nowhere };
    let read = |value: Option<pg_sys::Datum>| match (value, rest) {
        (None, _) => Belongs::Nobody,
        (Some(value), []) => owner_of(parent.value(), value),
        (Some(value), rest) => follow(rest, value),
    };
    // Under ON DELETE CASCADE the parent is gone before its children are.
    parent.find(key, read).or_else(|| parent.find_gone(key, read)).unwrap_or(Belongs::Nowhere)
}

/// Whose a row with that value in its organization column is.
pub fn owner_of(column: &TableColumn, value: pg_sys::Datum) -> Belongs {
    let organization = organization_by(value, column.kind);
    if organization.is_nil() {
        return Belongs::Unknown(catalog::text_of(column, value));
    }
    Belongs::To(organization)
}

/// The organization that the value of an organization column names.
pub fn organization_by(value: pg_sys::Datum, kind: JsonKind) -> Uuid {
    // SAFETY: the value is of the column's type, and each branch reads it as such.
    unsafe {
        match kind {
            JsonKind::Uuid => Uuid::from_bytes(*value.cast_mut_ptr::<[u8; 16]>()),
            JsonKind::Int4 => by_integer(i64::from(value.value() as i32)),
            JsonKind::Int8 => by_integer(value.value() as i64),
            JsonKind::Text => String::from_datum(value, false).map_or_else(Uuid::nil, |text| by_text(&text)),
            _ => Uuid::nil(),
        }
    }
}

fn by_text(text: &str) -> Uuid {
    match current_organization() {
        Some(current) if current.text_id == text => current.id,
        _ => known(table::last(c"organization", c"organization_text_id_key", IndexKey::text(3, text), 1)),
    }
}

fn by_integer(number: i64) -> Uuid {
    match current_organization() {
        Some(current) if current.integer_id == Some(number) => current.id,
        _ => known(table::last(c"organization", c"organization_integer_id_key", IndexKey::big_integer(4, number), 1)),
    }
}

/// The organization of the transaction, which nearly every row belongs to.
fn current_organization() -> Option<Organization> {
    context::current().ok().flatten().map(|context| context.organization.clone())
}

fn known(id: Option<pgrx::Uuid>) -> Uuid {
    id.map_or_else(Uuid::nil, |id| Uuid::from_bytes(*id.as_bytes()))
}
