//! Times as text in the form of RFC 3339.

use time::OffsetDateTime;

/// The last microsecond of the year 9999, which RFC 3339 can represent, in microseconds since 1970 UTC.
pub const LAST: i64 = 253_402_300_799_999_999;

/// The time in the form of RFC 3339, in UTC: `2026-11-26T08:30:00.000001Z`.
///
/// The argument is in microseconds since 1970 UTC. A time before 1970 or after the year 9999 is printed as that number.
pub fn text(microseconds: i64) -> String {
    let in_reach = (0..=LAST).contains(&microseconds);
    match OffsetDateTime::from_unix_timestamp(microseconds.div_euclid(1_000_000)) {
        Ok(at) if in_reach => format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
            at.year(),
            u8::from(at.month()),
            at.day(),
            at.hour(),
            at.minute(),
            at.second(),
            microseconds.rem_euclid(1_000_000)
        ),
        _ => format!("{microseconds} microseconds from 1970-01-01T00:00:00Z"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_as_rfc_3339_does() {
        assert_eq!(text(0), "1970-01-01T00:00:00.000000Z");
        // date -u -d @1793491200 is 2026-11-01 00:00.
        assert_eq!(text(1_793_491_200_000_001), "2026-11-01T00:00:00.000001Z");
        assert_eq!(text(LAST), "9999-12-31T23:59:59.999999Z");
        assert_eq!(text(LAST + 1), "253402300800000000 microseconds from 1970-01-01T00:00:00Z");
        assert_eq!(text(-1), "-1 microseconds from 1970-01-01T00:00:00Z");
        assert!(text(i64::MIN).starts_with('-'));
    }
}
