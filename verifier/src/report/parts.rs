//! What the sections of a page are made of: lists, tables, times and people.

use super::escape::{Html, clipped};
use super::tally::{Admission, Span, Tally};
use pg_tenancy_core::audit::format::timestamp;

/// The most rows of a table, and lines of a list.
pub const ROWS: usize = 200;

/// How many characters of a text are shown.
pub const TEXT: usize = 400;

/// A time to the second.
pub fn moment(microseconds: i64) -> String {
    let text = timestamp::text(microseconds);
    match (text.get(..10), text.get(11..19), (0..=timestamp::LAST).contains(&microseconds)) {
        (Some(date), Some(time), true) => format!("{date} {time} UTC"),
        _ => text,
    }
}

/// A list of at most [`ROWS`] lines, which says how many more there are.
pub fn list(html: &mut Html, lines: &[String]) {
    html.markup("<ul>\n");
    for line in lines.iter().take(ROWS) {
        html.markup("<li>").value(&clipped(line, 2 * TEXT)).markup("</li>\n");
    }
    if lines.len() > ROWS {
        html.markup("<li>and ").number((lines.len() - ROWS) as u64).markup(" more</li>\n");
    }
    html.markup("</ul>\n");
}

/// A table with at most [`ROWS`] rows, which says how many more there are.
pub struct Table<'a> {
    html: &'a mut Html,
    rows: usize,
    more: u64,
}

impl<'a> Table<'a> {
    /// A table with this markup of its head.
    pub fn new(html: &'a mut Html, head: &'static str) -> Self {
        html.markup("<table><thead><tr>").markup(head).markup("</tr></thead><tbody>\n");
        Table { html, rows: 0, more: 0 }
    }

    /// A row, if there is room for it.
    pub fn row(&mut self, cells: impl FnOnce(&mut Html)) {
        if self.rows == ROWS {
            self.more += 1;
            return;
        }
        self.rows += 1;
        self.html.markup("<tr>");
        cells(self.html);
        self.html.markup("</tr>\n");
    }

    /// Ends the table, after which there are `more` of what the words say.
    pub fn end(self, more: u64, what: &'static str) {
        self.html.markup("</tbody></table>\n");
        if self.more + more > 0 {
            self.html.markup("<p>And ").number(self.more + more).markup(" more ").markup(what).markup(".</p>\n");
        }
    }
}

/// A cell with a value.
pub fn cell(html: &mut Html, value: &str) {
    html.markup("<td>").value(&clipped(value, TEXT)).markup("</td>");
}

/// A cell with a time.
pub fn time_cell(html: &mut Html, at: i64) {
    html.markup("<td class=\"time\">").text(&moment(at)).markup("</td>");
}

/// A cell with a number.
pub fn number_cell(html: &mut Html, number: u64) {
    html.markup("<td class=\"number\">").number(number).markup("</td>");
}

/// A line below the first one in a cell.
pub fn under(html: &mut Html, label: &'static str, value: &str) {
    html.markup("<span class=\"under\">").markup(label).value(&clipped(value, TEXT)).markup("</span>");
}

/// When something happened first and last.
pub fn span_of(span: Span) -> String {
    match (moment(span.first), moment(span.last)) {
        (first, last) if first == last => first,
        (first, last) => format!("{first} to {last}"),
    }
}

/// Who a person is, in a cell.
pub fn who(html: &mut Html, tally: &Tally, person: Option<usize>) {
    let Some(person) = person.and_then(|place| tally.people.list.get(place)) else {
        html.markup("somebody of the people who are not listed");
        return;
    };
    html.value(&person.name);
    match (person.admission, &person.issuer) {
        (Admission::Token, Some(issuer)) => under(html, "signed in through ", issuer),
        (Admission::Token, None) => {}
        (Admission::Assumed, _) => {
            html.markup("<span class=\"under\">operator who acted for the organization</span>");
        }
        (Admission::Role, _) => {
            html.markup("<span class=\"under\">database role, without a sign-in of a person</span>");
        }
        (Admission::Withheld, _) => {
            html.markup("<span class=\"under\">no member of the organization</span>");
        }
    }
}

/// A cell with who a person is.
pub fn who_cell(html: &mut Html, tally: &Tally, person: Option<usize>) {
    html.markup("<td>");
    who(html, tally, person);
    html.markup("</td>");
}

/// Who a person is, in a cell of a long table: what else is known of them stands where their name is not enough.
pub fn brief_cell(html: &mut Html, tally: &Tally, person: Option<usize>) {
    let known = person.and_then(|place| tally.people.list.get(place));
    match known.filter(|person| person.admission == Admission::Token && !person.shares_its_name) {
        Some(person) => {
            html.markup("<td>").value(&person.name).markup("</td>");
        }
        None => who_cell(html, tally, person),
    }
}

/// What an operation is called.
pub fn in_words(operation: &str) -> String {
    match operation {
        "insert" => "added".into(),
        "update" => "changed".into(),
        "delete" => "removed".into(),
        "truncate" => "removed all rows".into(),
        "erase" => "erased the values of an event".into(),
        "assume" => "acted for the organization as an operator".into(),
        "maintenance" => "began maintenance across organizations".into(),
        "read" => "read".into(),
        "export" => "exported a part of the history".into(),
        "statement" => "ran a statement under break-glass".into(),
        other => other.replace('_', " "),
    }
}
