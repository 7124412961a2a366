//! The month of an event, which determines the partition of the event.

use time::{Month as MonthOfYear, OffsetDateTime};

/// A calendar month in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Month {
    year: i32,
    month: MonthOfYear,
}

impl Month {
    /// The month of a time in microseconds since 1970 UTC. A time beyond the year 9999 counts as 1970.
    pub fn of(microseconds: i64) -> Self {
        let moment = OffsetDateTime::from_unix_timestamp(microseconds.div_euclid(1_000_000));
        let moment = moment.unwrap_or(OffsetDateTime::UNIX_EPOCH);
        Month { year: moment.year(), month: moment.month() }
    }

    /// The ending of the names of the month's partitions, such as `2026_11`.
    pub fn suffix(self) -> String {
        format!("{:04}_{:02}", self.year, u8::from(self.month))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_begins_and_ends_at_midnight_of_utc() {
        let suffix = |microseconds| Month::of(microseconds).suffix();
        // date -u -d @1793491200 is 2026-11-01 00:00.
        assert_eq!(suffix(1_793_491_200_000_000), "2026_11");
        assert_eq!(suffix(1_793_491_199_999_999), "2026_10");
        assert_eq!(suffix(-1), "1969_12");
    }
}
