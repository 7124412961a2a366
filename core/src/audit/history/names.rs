//! The names that a table and its columns had when an event was written.
//!
//! An event names its table, and an event of the chain records each renaming. So the names of a table are followed back
//! from today's name to the point at which another table gave up that name. Earlier events belong to the other table.
//!
//! Decision: `docs/decisions/49-renamed-tables.md`.

use std::collections::BTreeMap;
use uuid::Uuid;

/// Schema and name, not quoted.
pub type Name = (String, String);

/// An event that changes the meaning of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Naming {
    /// A table was renamed, or moved to another schema.
    Table {
        /// Schema and name before.
        from: Name,
        /// Schema and name after.
        to: Name,
    },
    /// A schema was renamed.
    Schema {
        /// Name before.
        from: String,
        /// Name after.
        to: String,
    },
    /// A column was renamed.
    Column {
        /// The table of the column, by its name at that time.
        table: Name,
        /// Name before.
        from: String,
        /// Name after.
        to: String,
    },
    /// A table of this name was dropped.
    Dropped(Name),
}

/// A period in which the names of a table and its columns did not change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Era {
    /// The name of the table in this period.
    pub table: Name,
    /// Id of the event that began the period, exclusive; `None` for no such event.
    pub after: Option<Uuid>,
    /// Id of the event that ended the period, exclusive; `None` for the current period.
    pub before: Option<Uuid>,
    /// Columns with another name in this period: the name then, by the name today.
    pub columns: BTreeMap<String, String>,
}

/// The eras of a table, the newest first.
///
/// `today` is the current name. `namings` are in the order of their ids, which is the order of time.
pub fn eras(today: Name, namings: &[(Uuid, Naming)]) -> Vec<Era> {
    let mut eras = Vec::new();
    let mut era = Era { table: today, after: None, before: None, columns: BTreeMap::new() };
    for (id, naming) in namings.iter().rev() {
        let mut earlier = Era { before: Some(*id), ..era.clone() };
        let is_other = match naming {
            Naming::Table { from, to } if *to == era.table => {
                earlier.table = from.clone();
                false
            }
            Naming::Schema { from, to } if *to == era.table.0 => {
                earlier.table.0 = from.clone();
                false
            }
            Naming::Column { table, from, to } if *table == era.table => {
                // A name that today's column has by itself, or that it had since.
                let today = era.columns.iter().find(|(_, then)| *then == to).map(|(today, _)| today.clone());
                earlier.columns.insert(today.unwrap_or_else(|| to.clone()), from.clone());
                false
            }
            Naming::Table { from, .. } | Naming::Dropped(from) if *from == era.table => true,
            Naming::Schema { from, .. } if *from == era.table.0 => true,
            _ => continue,
        };
        era.after = Some(*id);
        eras.push(std::mem::replace(&mut era, earlier));
        if is_other {
            return eras;
        }
    }
    eras.push(era);
    eras
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(table: &str) -> Name {
        ("public".into(), table.into())
    }

    fn renamed(from: &str, to: &str) -> Naming {
        Naming::Table { from: name(from), to: name(to) }
    }

    fn names(today: &str, namings: Vec<Naming>) -> Vec<(String, Option<u128>, Option<u128>)> {
        let namings: Vec<_> = namings.into_iter().zip(1..).map(|(naming, n)| (Uuid::from_u128(n), naming)).collect();
        let number = |id: Option<Uuid>| id.map(|id| id.as_u128());
        eras(name(today), &namings)
            .into_iter()
            .map(|era| (format!("{}.{}", era.table.0, era.table.1), number(era.after), number(era.before)))
            .collect()
    }

    #[test]
    fn a_table_that_was_renamed_keeps_what_was_before() {
        assert_eq!(
            names("c", vec![renamed("a", "b"), renamed("x", "y"), renamed("b", "c")]),
            [
                ("public.c".into(), Some(3), None),
                ("public.b".into(), Some(1), Some(3)),
                ("public.a".into(), None, Some(1))
            ]
        );
    }

    #[test]
    fn tables_that_change_names_with_each_other_keep_their_own() {
        let swap = || vec![renamed("a", "t"), renamed("b", "a"), renamed("t", "b")];
        assert_eq!(names("a", swap()), [("public.a".into(), Some(2), None), ("public.b".into(), None, Some(2))]);
        assert_eq!(
            names("b", swap()),
            [
                ("public.b".into(), Some(3), None),
                ("public.t".into(), Some(1), Some(3)),
                ("public.a".into(), None, Some(1))
            ]
        );
    }

    #[test]
    fn a_name_that_another_table_left_is_not_its_history() {
        assert_eq!(names("a", vec![renamed("a", "old")]), [("public.a".into(), Some(1), None)]);
        assert_eq!(names("a", vec![Naming::Dropped(name("a"))]), [("public.a".into(), Some(1), None)]);
        let schema = |from: &str, to: &str| Naming::Schema { from: from.into(), to: to.into() };
        assert_eq!(names("a", vec![schema("public", "old")]), [("public.a".into(), Some(1), None)]);
        assert_eq!(
            names("a", vec![schema("old", "public")]),
            [("public.a".into(), Some(1), None), ("old.a".into(), None, Some(1))]
        );
    }

    #[test]
    fn columns_are_known_by_the_names_of_their_time() {
        let column = |from: &str, to: &str| Naming::Column { table: name("a"), from: from.into(), to: to.into() };
        let namings = [column("id", "key"), column("title", "id"), column("key", "pk")];
        let namings: Vec<_> = namings.into_iter().zip(1..).map(|(naming, n)| (Uuid::from_u128(n), naming)).collect();
        let columns: Vec<Vec<(String, String)>> =
            eras(name("a"), &namings).into_iter().map(|era| era.columns.into_iter().collect()).collect();
        let pair = |today: &str, then: &str| (today.to_owned(), then.to_owned());
        assert_eq!(
            columns,
            [
                vec![],
                vec![pair("pk", "key")],
                vec![pair("id", "title"), pair("pk", "key")],
                vec![pair("id", "title"), pair("pk", "id")]
            ]
        );
    }
}
