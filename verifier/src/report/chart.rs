//! Charts of events over time, as inline SVG without colours that tell anything.

use super::escape::{Html, grouped};
use pg_tenancy_core::audit::format::timestamp;
use std::collections::BTreeMap;

/// The most bars of a chart.
const MOST_BARS: usize = 100;

/// A length of time that a bar stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A day in UTC.
    Day,
    /// Seven days that begin with a Monday.
    Week,
    /// A month in UTC.
    Month,
    /// A year in UTC.
    Year,
}

impl Unit {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Day => "day",
            Unit::Week => "week",
            Unit::Month => "month",
            Unit::Year => "year",
        }
    }

    /// The number of the bar that a day since 1970 belongs to, which grows by one from unit to unit.
    fn number(self, day: i64) -> i64 {
        let (year, month) = year_and_month(day);
        match self {
            Unit::Day => day,
            // The first day of 1970 was a Thursday.
            Unit::Week => (day + 3).div_euclid(7),
            Unit::Month => year * 12 + month - 1,
            Unit::Year => year,
        }
    }

    /// What a bar is called.
    fn label(self, number: i64) -> String {
        match self {
            Unit::Day => date(number),
            Unit::Week => format!("week from {}", date(number * 7 - 3)),
            Unit::Month => format!("{:04}-{:02}", number.div_euclid(12), number.rem_euclid(12) + 1),
            Unit::Year => format!("{number:04}"),
        }
    }
}

/// The days that a chart can show: those whose date has four digits in RFC 3339.
const DAYS: std::ops::RangeInclusive<i64> = 0..=timestamp::LAST / 86_400_000_000;

/// The date of a day since 1970, in UTC.
fn date(day: i64) -> String {
    timestamp::text(day.saturating_mul(86_400_000_000)).chars().take(10).collect()
}

fn year_and_month(day: i64) -> (i64, i64) {
    let date = date(day);
    let number = |from, to| date.get(from..to).and_then(|part| part.parse().ok()).unwrap_or_default();
    (number(0, 4), number(5, 7))
}

/// The time that the charts of a page show.
#[derive(Debug, Clone, Copy)]
pub struct Axis {
    /// What a bar stands for.
    pub unit: Unit,
    first: i64,
    bars: usize,
    /// Events of days that are not shown.
    pub outside: u64,
}

impl Axis {
    /// The axis of these days, with the smallest unit for which there are not too many bars.
    ///
    /// `None` if no day can be shown.
    pub fn new(days: &BTreeMap<i64, u64>) -> Option<Self> {
        let outside: u64 = days.iter().filter(|(day, _)| !DAYS.contains(day)).map(|(_, events)| events).sum();
        let (first, last) = (days.range(DAYS).next()?.0, days.range(DAYS).next_back()?.0);
        let bars = |unit: Unit| usize::try_from(unit.number(*last) - unit.number(*first) + 1).unwrap_or(usize::MAX);
        let units = [Unit::Day, Unit::Week, Unit::Month];
        let unit = units.into_iter().find(|unit| bars(*unit) <= MOST_BARS).unwrap_or(Unit::Year);
        let (first, last) = (unit.number(*first), unit.number(*last));
        // Of more years the last ones are shown.
        let shown = first.max(last - MOST_BARS as i64 + 1);
        let before = |day: &i64| DAYS.contains(day) && unit.number(*day) < shown;
        let older: u64 = days.iter().filter(|(day, _)| before(day)).map(|(_, events)| events).sum();
        Some(Axis { unit, first: shown, bars: (last - shown + 1) as usize, outside: outside + older })
    }

    /// The events of each bar.
    pub fn bars(&self, days: impl Iterator<Item = (i64, u64)>) -> Vec<u64> {
        let mut bars = vec![0; self.bars];
        for (day, events) in days.filter(|(day, _)| DAYS.contains(day)) {
            let place = usize::try_from(self.unit.number(day) - self.first).ok();
            if let Some(bar) = place.and_then(|place| bars.get_mut(place)) {
                *bar += events;
            }
        }
        bars
    }

    /// What the bar at this place is called.
    pub fn label(&self, place: usize) -> String {
        self.unit.label(self.first + place as i64)
    }
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 150.0;
const LEFT: f64 = 56.0;
const TOP: f64 = 18.0;
const BOTTOM: f64 = 24.0;

/// A chart with a scale and dates.
pub fn large(html: &mut Html, axis: &Axis, bars: &[u64], title: &str) {
    let most = bars.iter().copied().max().unwrap_or_default().max(1);
    html.markup("<svg class=\"chart\" role=\"img\" viewBox=\"0 0 720 192\" width=\"720\" height=\"192\"><title>");
    html.text(title).markup("</title>");
    let base = TOP + HEIGHT;
    for (part, events) in [(1.0, Some(most)), (0.5, (most % 2 == 0).then_some(most / 2)), (0.0, Some(0))] {
        let Some(events) = events else { continue };
        let y = base - HEIGHT * part;
        line(html, LEFT, y, WIDTH, y);
        label(html, LEFT - 6.0, y + 4.0, "end", &grouped(events));
    }
    let step = (WIDTH - LEFT) / bars.len().max(1) as f64;
    for (place, &events) in bars.iter().enumerate() {
        let x = LEFT + step * place as f64;
        bar(html, (x, base, step), HEIGHT * events as f64 / most as f64, events, &axis.label(place));
        if step >= 22.0 && events > 0 && events != most {
            let y = base - HEIGHT * events as f64 / most as f64 - 3.0;
            label(html, x + step / 2.0, y, "middle", &grouped(events));
        }
    }
    let last = bars.len().saturating_sub(1);
    let middle = last / 2;
    label(html, LEFT, base + BOTTOM - 8.0, "start", &axis.label(0));
    if middle > 0 && middle < last {
        label(html, LEFT + step * (middle as f64 + 0.5), base + BOTTOM - 8.0, "middle", &axis.label(middle));
    }
    if last > 0 {
        label(html, WIDTH, base + BOTTOM - 8.0, "end", &axis.label(last));
    }
    html.markup("</svg>");
}

/// A chart within a row of a table, with a scale of its own.
pub fn small(html: &mut Html, axis: &Axis, bars: &[u64], title: &str) {
    let most = bars.iter().copied().max().unwrap_or_default().max(1);
    html.markup("<svg class=\"small\" role=\"img\" viewBox=\"0 0 200 30\" width=\"200\" height=\"30\"><title>");
    html.text(title).markup("</title>");
    line(html, 0.0, 29.5, 200.0, 29.5);
    let step = 200.0 / bars.len().max(1) as f64;
    for (place, &events) in bars.iter().enumerate() {
        let height = 28.0 * events as f64 / most as f64;
        bar(html, (step * place as f64, 29.0, step), height, events, &axis.label(place));
    }
    html.markup("</svg>");
}

/// A bar with its base line, which says of itself what it stands for.
fn bar(html: &mut Html, (x, base, step): (f64, f64, f64), height: f64, events: u64, label: &str) {
    if events == 0 {
        return;
    }
    // What is there can be seen, however few.
    let height = height.max(1.0);
    let gap = if step > 3.0 { step.min(12.0) * 0.2 } else { 0.0 };
    html.markup("<rect x=\"").length(x + gap / 2.0).markup("\" y=\"").length(base - height).markup("\" width=\"");
    html.length((step - gap).min(60.0)).markup("\" height=\"").length(height).markup("\"><title>");
    html.text(label).markup(": ").number(events).markup("</title></rect>");
}

fn line(html: &mut Html, x1: f64, y1: f64, x2: f64, y2: f64) {
    html.markup("<line x1=\"").length(x1).markup("\" y1=\"").length(y1).markup("\" x2=\"").length(x2);
    html.markup("\" y2=\"").length(y2).markup("\"></line>");
}

fn label(html: &mut Html, x: f64, y: f64, anchor: &'static str, text: &str) {
    html.markup("<text x=\"").length(x).markup("\" y=\"").length(y).markup("\" text-anchor=\"").markup(anchor);
    html.markup("\">").text(text).markup("</text>");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(days: &[i64]) -> BTreeMap<i64, u64> {
        days.iter().map(|day| (*day, 1)).collect()
    }

    fn axis(list: &[i64]) -> Axis {
        Axis::new(&days(list)).unwrap()
    }

    #[test]
    fn the_unit_is_the_smallest_whose_bars_can_be_told_apart() {
        // date -u -d 2026-01-01 +%s, divided by 86400.
        let begin = 20_454;
        for (length, unit, first, last) in [
            (1, Unit::Day, "2026-01-01", "2026-01-01"),
            (100, Unit::Day, "2026-01-01", "2026-04-10"),
            (101, Unit::Week, "week from 2025-12-29", "week from 2026-04-06"),
            (365, Unit::Week, "week from 2025-12-29", "week from 2026-12-28"),
            (800, Unit::Month, "2026-01", "2028-03"),
            (9000, Unit::Year, "2026", "2050"),
        ] {
            let axis = axis(&[begin, begin + length - 1]);
            assert_eq!((axis.unit, axis.label(0), axis.label(axis.bars - 1)), (unit, first.into(), last.into()));
            assert_eq!(axis.bars([(begin, 2), (begin + length - 1, 3)].into_iter()).iter().sum::<u64>(), 5);
        }
    }

    #[test]
    fn a_time_that_no_calendar_has_is_counted_and_not_drawn() {
        let axis = axis(&[i64::MIN / 86_400_000_000, -1, 0, 1, 2_932_896, 2_932_897, i64::MAX / 86_400_000_000]);
        // Of more than a hundred years the last ones: the first days of 1970 go as well.
        assert_eq!((axis.unit, axis.bars, axis.outside), (Unit::Year, 100, 6));
        assert_eq!(axis.label(99), "9999");
        assert!(Axis::new(&days(&[-1])).is_none());
        assert!(Axis::new(&days(&[])).is_none());
    }

    #[test]
    fn a_bar_stands_for_each_unit_with_events() {
        let axis = axis(&[0, 1, 3]);
        let bars = axis.bars([(0, 4), (1, 1), (3, 2)].into_iter());
        assert_eq!(bars, [4, 1, 0, 2]);
        let mut html = Html::default();
        large(&mut html, &axis, &bars, "a & b");
        let text = html.into_text();
        assert_eq!(text.matches("<rect").count(), 3);
        assert!(text.contains("<title>1970-01-02: 1</title>") && text.contains("a &amp; b"), "{text}");
    }
}
