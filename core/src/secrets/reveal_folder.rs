//! The folder that a database writes its reveals to: one for each start of the server, named by what it is of.
//!
//! Where a reader stands in a folder is stored under its name. A restored dump, a copied database, a promoted standby
//! and an extension that was created again write to folders of their own, so no position of another history leads past
//! their records. So does a server that was started from a copy of its files, which may end before a stored position.

use std::fmt;

/// What a folder is of. Folders of one database sort by their age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RevealFolder {
    /// The system identifier of the cluster.
    pub system: u64,
    /// Oid of the database.
    pub database: u32,
    /// Oid of the table that stores positions, which an extension that is created again has another of.
    pub table: u32,
    /// The timeline of the write-ahead log.
    pub timeline: u32,
    /// When the server started, in microseconds since 1970.
    pub started: i64,
}

impl RevealFolder {
    /// Reads a name; `None` for any other text.
    pub fn parse(name: &str) -> Option<Self> {
        let parts: Vec<&str> = name.split('-').collect();
        let [system, database, table, timeline, started] = parts[..] else { return None };
        let number = |digits| u64::from_str_radix(digits, 16).ok();
        let folder = RevealFolder {
            system: number(system)?,
            database: u32::try_from(number(database)?).ok()?,
            table: u32::try_from(number(table)?).ok()?,
            timeline: u32::try_from(number(timeline)?).ok()?,
            started: number(started)?.cast_signed(),
        };
        // One name a folder: `from_str_radix` takes capitals, signs and fewer digits too.
        (folder.to_string() == name).then_some(folder)
    }

    /// Whether a reader that would write to this folder reads the other one.
    pub fn reads(&self, other: &RevealFolder) -> bool {
        (self.system, self.database, self.table) == (other.system, other.database, other.table)
    }
}

impl fmt::Display for RevealFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RevealFolder { system, database, table, timeline, started } = self;
        write!(f, "{system:016x}-{database:08x}-{table:08x}-{timeline:08x}-{started:016x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOLDER: RevealFolder =
        RevealFolder { system: u64::MAX, database: 5, table: 16_400, timeline: 1, started: 1_700_000_000_000_000 };

    #[test]
    fn a_name_is_read_as_it_is_written_and_no_other_text_is() {
        let name = FOLDER.to_string();
        assert_eq!(name, "ffffffffffffffff-00000005-00004010-00000001-00060a24181e4000");
        assert_eq!(RevealFolder::parse(&name), Some(FOLDER));
        let before = RevealFolder { started: -1, ..FOLDER };
        assert_eq!(RevealFolder::parse(&before.to_string()), Some(before));
        let others =
            ["", "..", "-", &name[1..], &name.to_uppercase(), &format!("{name}-0"), &name.replacen("00000005", "5", 1)];
        for other in others {
            assert_eq!(RevealFolder::parse(other), None, "{other}");
        }
        assert_eq!(RevealFolder::parse(&name.replacen("0000", "+000", 1)), None);
        // With the folder around it and a segment's name: what a base backup takes.
        assert!(format!("pg_tenancy/{name}/0000000000000000.journal").len() < 100);
    }

    #[test]
    fn a_reader_reads_the_folders_of_its_own_database_oldest_first() {
        let later = RevealFolder { timeline: 2, started: 0, ..FOLDER };
        let restarted = RevealFolder { started: FOLDER.started + 1, ..FOLDER };
        assert!(FOLDER < restarted && restarted < later);
        assert!(later.reads(&FOLDER) && later.reads(&restarted));
        for other in [
            RevealFolder { system: 1, ..FOLDER },
            RevealFolder { database: 6, ..FOLDER },
            RevealFolder { table: 16_401, ..FOLDER },
        ] {
            assert!(!later.reads(&other), "{other}");
        }
    }
}
