//! The incarnation: one history of one database.
//!
//! A restored, copied or promoted database continues from the same events as its origin. Its blocks and checkpoints
//! name another incarnation, so that two histories are never confused.

use super::encoding::Record;

/// The identity of a database; a change of it begins a new incarnation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseIdentity {
    /// The system identifier of the cluster.
    ///
    /// `initdb` generates a new one, and so a restored dump or `pg_upgrade` changes it.
    pub system_identifier: String,
    /// Oid of the database.
    pub database: u32,
    /// The timeline of the write-ahead log; a promotion or a recovery to a point in time changes it.
    pub timeline: i64,
}

impl DatabaseIdentity {
    /// Whether transaction ids of both share one counter: a promoted standby continues to count.
    pub fn counts_as(&self, other: &DatabaseIdentity) -> bool {
        (&self.system_identifier, self.database) == (&other.system_identifier, other.database)
    }
}

/// The beginning of a history, a row of `tenancy.incarnation`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incarnation {
    /// The identity of the database in this history.
    pub identity: DatabaseIdentity,
    /// Number of the first block that was sealed in this history.
    pub first_block: i64,
    /// Time of the first block, in microseconds since 1970 UTC.
    pub began_at: i64,
    /// 16 random bytes, which distinguish two copies that begin at the same moment.
    pub salt: Vec<u8>,
}

impl Incarnation {
    /// The unique name: 32 hexadecimal digits, half of a digest over the other fields.
    pub fn name(&self) -> String {
        let digest = Record::new("pg_tenancy/incarnation/1")
            .text(&self.identity.system_identifier)
            .integer(i64::from(self.identity.database))
            .integer(self.identity.timeline)
            .integer(self.first_block)
            .integer(self.began_at)
            .bytes(&self.salt)
            .digest();
        digest[..16].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun() -> Incarnation {
        let identity = DatabaseIdentity { system_identifier: "7".into(), database: 5, timeline: 1 };
        Incarnation { identity, first_block: 1, began_at: 2, salt: vec![3; 16] }
    }

    #[test]
    fn each_part_of_an_incarnation_changes_its_name() {
        let base = begun();
        let variants = [
            Incarnation {
                identity: DatabaseIdentity { system_identifier: "8".into(), ..base.identity.clone() },
                ..base.clone()
            },
            Incarnation { identity: DatabaseIdentity { database: 6, ..base.identity.clone() }, ..base.clone() },
            Incarnation { identity: DatabaseIdentity { timeline: 2, ..base.identity.clone() }, ..base.clone() },
            Incarnation { first_block: 2, ..base.clone() },
            Incarnation { began_at: 3, ..base.clone() },
            Incarnation { salt: vec![4; 16], ..base.clone() },
        ];
        for variant in variants {
            assert_ne!(variant.name(), base.name(), "{variant:?}");
        }
        assert_eq!(base.name().len(), 32);
    }

    #[test]
    fn transaction_ids_outlive_a_promotion_and_not_a_restore() {
        let identity = begun().identity;
        assert!(identity.counts_as(&DatabaseIdentity { timeline: 9, ..identity.clone() }));
        assert!(!identity.counts_as(&DatabaseIdentity { database: 9, ..identity.clone() }));
        assert!(!identity.counts_as(&DatabaseIdentity { system_identifier: "9".into(), ..identity.clone() }));
    }
}
