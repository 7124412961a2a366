//! The transactions that had ended at a moment: the arithmetic of `pg_snapshot`.
//!
//! The sealer takes the events of transactions that had not ended at the previous block and have ended now. The sealer
//! therefore misses no transaction that commits late, and waits for none (PostgreSQL documentation, functions-info,
//! `pg_snapshot`).

use std::fmt;
use std::str::FromStr;

/// `xmin:xmax:xip,...`: ids below `xmin` have ended, ids from `xmax` on have not, and those in `xip` were in progress.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    xmin: u64,
    xmax: u64,
    /// The ids in `xip`, sorted.
    in_progress: Vec<u64>,
}

impl Snapshot {
    /// Whether the transaction had ended, by commit or rollback.
    pub fn is_over(&self, transaction: u64) -> bool {
        transaction < self.xmin || transaction < self.xmax && self.in_progress.binary_search(&transaction).is_err()
    }

    /// The transactions that were in progress, as an array literal of Postgres; all began before [`Self::end`].
    pub fn in_progress(&self) -> String {
        format!("{{{}}}", self.ids())
    }

    fn ids(&self) -> String {
        self.in_progress.iter().map(u64::to_string).collect::<Vec<_>>().join(",")
    }

    /// The id of the first transaction that had not begun.
    pub fn end(&self) -> u64 {
        self.xmax
    }

    /// Marks a transaction as in progress, such as the sealer's own, which its snapshot leaves out.
    pub fn but_not(mut self, transaction: u64) -> Self {
        if self.is_over(transaction) {
            self.xmin = self.xmin.min(transaction);
            let place = self.in_progress.partition_point(|other| *other < transaction);
            self.in_progress.insert(place, transaction);
        }
        self
    }

    /// Leaves a transaction and all later ones as they were at an earlier moment, so that sealing ends before it. What
    /// was over then is over still: a snapshot that went back would offer sealed transactions a second time.
    pub fn until(self, transaction: u64, before: &Snapshot) -> Self {
        let left = before.in_progress.partition_point(|other| *other < transaction);
        let mut in_progress = self.in_progress;
        in_progress.retain(|other| *other < transaction);
        in_progress.extend(&before.in_progress[left..]);
        let xmax = self.xmax.min(transaction).max(before.xmax);
        Snapshot { xmin: in_progress.first().map_or(xmax, |first| *first), xmax, in_progress }
    }
}

/// Which transactions a block sealed.
#[derive(Debug, Clone, Default)]
pub struct Turn {
    /// The snapshot of the block before; `None` for the first block whose transactions are counted anew, as in a
    /// restored database. It sealed whatever there was.
    pub before: Option<Snapshot>,
    /// The snapshot of the block.
    pub snapshot: Snapshot,
}

impl Turn {
    /// Whether the block sealed the events of the transaction: it had ended, and had not at the block before.
    pub fn is_of(&self, transaction: u64) -> bool {
        let is_new = |before: &Snapshot| !before.is_over(transaction) && self.snapshot.is_over(transaction);
        self.before.as_ref().is_none_or(is_new)
    }
}

impl FromStr for Snapshot {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.splitn(3, ':');
        let mut number = || parts.next().and_then(|part| part.parse::<u64>().ok()).ok_or(());
        let (xmin, xmax) = (number()?, number()?);
        let list = parts.next().ok_or(())?;
        let mut in_progress: Vec<u64> = list
            .split(',')
            .filter(|id| !id.is_empty())
            .map(|id| id.parse().map_err(|_| ()))
            .collect::<Result<_, ()>>()?;
        in_progress.sort_unstable();
        Ok(Snapshot { xmin, xmax, in_progress })
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.xmin, self.xmax, self.ids())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_is_over_when_the_snapshot_says_so() {
        let snapshot: Snapshot = "10:20:10,15".parse().unwrap();
        let over: Vec<u64> = (8..22).filter(|id| snapshot.is_over(*id)).collect();
        assert_eq!(over, [8, 9, 11, 12, 13, 14, 16, 17, 18, 19]);
        assert_eq!(snapshot.to_string(), "10:20:10,15");
    }

    #[test]
    fn the_sealers_own_transaction_is_not_over() {
        let snapshot: Snapshot = "20:20:".parse().unwrap();
        let own = snapshot.but_not(17);
        assert!(!own.is_over(17));
        assert!(own.is_over(16) && own.is_over(18));
        assert_eq!(own.to_string(), "17:20:17");
        assert_eq!("20:20:".parse::<Snapshot>().unwrap().but_not(25).to_string(), "20:20:");
    }

    #[test]
    fn a_snapshot_can_end_earlier() {
        let snapshot: Snapshot = "10:20:10,15".parse().unwrap();
        let ends = |transaction| snapshot.clone().until(transaction, &Snapshot::default()).to_string();
        assert_eq!([ends(13), ends(16), ends(5), ends(30)], ["10:13:10", "10:16:10,15", "5:5:", "10:20:10,15"]);
    }

    #[test]
    fn what_was_over_is_over_wherever_a_snapshot_ends() {
        let before: Snapshot = "10:20:10,13,15,18".parse().unwrap();
        let now: Snapshot = "13:30:13,22".parse().unwrap();
        for end in 8..33 {
            let until = now.clone().until(end, &before);
            let read: Snapshot = until.to_string().parse().unwrap();
            for id in 5..35 {
                let expected = before.is_over(id) || id < end && now.is_over(id);
                assert_eq!((until.is_over(id), read.is_over(id)), (expected, expected), "{id} until {end}: {until}");
            }
        }
    }

    #[test]
    fn a_block_seals_what_ended_since_the_block_before() {
        let read = |text: &str| text.parse::<Snapshot>().unwrap();
        let turn = Turn { before: Some(read("10:20:10,15")), snapshot: read("15:30:15,22") };
        let sealed: Vec<u64> = (8..32).filter(|id| turn.is_of(*id)).collect();
        assert_eq!(sealed, [10, 20, 21, 23, 24, 25, 26, 27, 28, 29]);
        assert!((8..32).all(|id| Turn { before: None, ..turn.clone() }.is_of(id)));
    }

    #[test]
    fn what_is_not_a_snapshot_is_refused() {
        for text in ["", "1", "1:2", "a:2:", "1:2:x"] {
            assert!(text.parse::<Snapshot>().is_err(), "{text}");
        }
    }
}
