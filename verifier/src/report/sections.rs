//! What the events of a bundle tell, section by section.

use super::chart::{self, Axis};
use super::escape::{Html, clipped, grouped};
use super::parts::{
    TEXT, Table, brief_cell, cell, in_words, moment, number_cell, span_of, time_cell, under, who, who_cell,
};
use super::tally::{self, Counts, Kept, Newest, Tally, Values};
use super::values;
use pg_tenancy_core::audit::export::bundle::reviewed;
use pg_tenancy_core::audit::export::bundle::verify::Outcome;
use pg_tenancy_core::audit::format::hex;

/// The most people with a chart.
const PEOPLE: usize = 40;

/// The most columns that are shown of an event.
const COLUMNS: usize = 10;

fn section(html: &mut Html, heading: &'static str, unproved: bool) {
    html.markup(heading).markup(if unproved { " (not proved)</h2>\n" } else { "</h2>\n" });
}

/// What the events tell.
pub fn contents(html: &mut Html, outcome: &Outcome, tally: &Tally, unproved: bool) {
    html.markup("<nav><a href=\"#days\">By day</a><a href=\"#people\">By person</a><a href=\"#tables\">By table</a>");
    html.markup("<a href=\"#evidence\">Evidence</a><a href=\"#erasures\">Erasures</a><a href=\"#gaps\">Gaps</a>");
    html.markup("<a href=\"#elevated\">Elevated access</a><a href=\"#reviews\">Reviews</a>");
    html.markup("<a href=\"#refused\">Refused</a><a href=\"#newest\">Newest changes</a></nav>\n");
    let axis = Axis::new(&tally.days);
    by_day(html, outcome, tally, axis.as_ref(), unproved);
    by_person(html, tally, axis.as_ref(), unproved);
    by_table(html, tally, unproved);
    evidence(html, outcome, unproved);
    erasures(html, outcome, tally, unproved);
    gaps(html, outcome, tally, unproved);
    elevated(html, tally, unproved);
    reviews(html, outcome, unproved);
    refused(html, tally, unproved);
    newest(html, tally, unproved);
    html.markup("</main>\n");
}

fn by_day(html: &mut Html, outcome: &Outcome, tally: &Tally, axis: Option<&Axis>, unproved: bool) {
    section(html, "<h2 id=\"days\">What happened, by day", unproved);
    let Some(axis) = axis else {
        html.markup("<p>No event of this part of the history can be shown on a calendar.</p>\n");
        return;
    };
    let bars = axis.bars(tally.days.iter().map(|(day, events)| (*day, *events)));
    html.markup("<figure>");
    chart::large(html, axis, &bars, &format!("Events by {}", axis.unit.name()));
    html.markup("<figcaption>Events by ").markup(axis.unit.name()).markup(", in UTC. ");
    let busiest = (0..bars.len()).max_by_key(|place| (bars[*place], std::cmp::Reverse(*place))).unwrap_or_default();
    let without = bars.iter().filter(|events| **events == 0).count() as u64;
    html.markup("Most events: ").number(bars[busiest]).markup(", ").text(&axis.label(busiest)).markup(". ");
    html.number(without).markup(" of ").number(bars.len() as u64).markup(" bars are empty.</figcaption></figure>\n");
    let outside = axis.outside + tally.other_days;
    if outside > 0 {
        html.markup("<p>").number(outside);
        html.markup(" events are not in the chart: their days are too many, or no calendar has them.</p>\n");
    }
    if outcome.contents.outside_period > 0 {
        html.markup("<p>").number(outcome.contents.outside_period);
        html.markup(" of the events happened before or after the period that was asked for. They stand between its ");
        html.markup("events, and the charts count them.</p>\n");
    }
}

fn by_person(html: &mut Html, tally: &Tally, axis: Option<&Axis>, unproved: bool) {
    section(html, "<h2 id=\"people\">Who did it", unproved);
    let mut people: Vec<usize> = (0..tally.people.list.len()).collect();
    let all = |place: &usize| tally.people.list[*place].counts.all();
    people.retain(|place| all(place) > 0);
    people.sort_by_key(|place| std::cmp::Reverse(all(place)));
    if people.is_empty() {
        html.markup("<p>Nobody, in this part of the history.</p>\n");
        return;
    }
    html.markup("<p>Each small chart has the time of the chart above, and a scale of its own.</p>\n");
    let mut table = Table::new(
        html,
        "<th scope=\"col\">Who</th><th scope=\"col\">When</th><th scope=\"col\" class=\"number\">Added</th><th \
         scope=\"col\" class=\"number\">Changed</th><th scope=\"col\" class=\"number\">Removed</th><th scope=\"col\" \
         class=\"number\">Other</th><th scope=\"col\" class=\"number\">Refused</th>",
    );
    let mut days: Vec<Vec<(i64, u64)>> = vec![Vec::new(); tally.people.list.len()];
    for ((person, day), events) in &tally.cells {
        days[*person as usize].push((*day, u64::from(*events)));
    }
    for place in people.iter().take(PEOPLE) {
        let person = &tally.people.list[*place];
        table.row(|html| {
            who_cell(html, tally, Some(*place));
            html.markup("<td>");
            if let Some(axis) = axis.filter(|_| !tally.cells_full) {
                let bars = axis.bars(days[*place].iter().copied());
                let title = format!("Events of {} by {}", person.name, axis.unit.name());
                chart::small(html, axis, &bars, &title);
            }
            html.markup("<span class=\"under\">").text(&span_of(person.span)).markup("</span></td>");
            counts(html, &person.counts);
        });
    }
    let others = people.iter().skip(PEOPLE).count() as u64;
    table.end(others, "people");
    if tally.cells_full {
        html.markup("<p>The charts of each person are left out, because there are too many people and days.</p>\n");
    }
    if tally.people.more > 0 {
        html.markup("<p>").number(tally.people.more).markup(" events are of people beyond the first ");
        html.number(tally::MOST as u64).markup(", who are not counted one by one.</p>\n");
    }
}

fn counts(html: &mut Html, counts: &Counts) {
    for count in [counts.added, counts.changed, counts.removed, counts.other, counts.refused] {
        number_cell(html, count);
    }
}

fn by_table(html: &mut Html, tally: &Tally, unproved: bool) {
    section(html, "<h2 id=\"tables\">What it was about", unproved);
    let mut subjects: Vec<_> = tally.subjects.list.iter().collect();
    if subjects.is_empty() {
        html.markup("<p>Nothing, in this part of the history.</p>\n");
        return;
    }
    subjects.sort_by_key(|subject| std::cmp::Reverse(subject.counts.all()));
    let mut table = Table::new(
        html,
        "<th scope=\"col\">Table or matter</th><th scope=\"col\" class=\"number\">Added</th><th scope=\"col\" \
         class=\"number\">Changed</th><th scope=\"col\" class=\"number\">Removed</th><th scope=\"col\" \
         class=\"number\">Other</th><th scope=\"col\" class=\"number\">Refused</th>",
    );
    for subject in subjects {
        table.row(|html| {
            html.markup("<td>").value(&subject.name);
            if !subject.table {
                html.markup("<span class=\"under\">no table: a matter that events belong to</span>");
            }
            html.markup("</td>");
            counts(html, &subject.counts);
        });
    }
    table.end(0, "tables and matters");
    if tally.subjects.more > 0 {
        html.markup("<p>").number(tally.subjects.more);
        html.markup(" events are about tables that are not counted one by one.</p>\n");
    }
}

fn newest(html: &mut Html, tally: &Tally, unproved: bool) {
    section(html, "<h2 id=\"newest\">The newest changes, one by one", unproved);
    let hidden = tally.events - tally.newest.len() as u64;
    if tally.newest.is_empty() {
        html.markup("<p>None.</p>\n");
        return;
    }
    if hidden > 0 {
        html.markup("<p>").number(hidden).markup(" earlier events are in the file and not in this table.</p>\n");
    }
    let mut table = Table::new(
        html,
        "<th scope=\"col\" class=\"number\">No.</th><th scope=\"col\">When</th><th scope=\"col\">Who</th><th \
         scope=\"col\">What</th><th scope=\"col\">Values</th>",
    );
    for event in &tally.newest {
        table.row(|html| {
            number_cell(html, event.position.unsigned_abs());
            time_cell(html, event.at);
            brief_cell(html, tally, event.person);
            html.markup("<td>");
            match event.result.as_str() {
                "success" => html.markup(""),
                "denied" => html.markup("refused: "),
                "failed" => html.markup("failed: "),
                other => html.value(other).markup(": "),
            };
            html.value(&in_words(&event.operation)).markup(" – ").value(&event.subject);
            if let Some(row) = &event.row {
                under(html, "row ", &values::whole(row));
            }
            if let Some(reason) = &event.reason {
                under(html, "reason: ", reason);
            }
            html.markup("</td><td>");
            event_values(html, event);
            html.markup("</td>");
        });
    }
    table.end(0, "events");
}

fn event_values(html: &mut Html, event: &Newest) {
    let payload = match &event.values {
        Values::Erased => {
            html.markup("erased since");
            return;
        }
        Values::Long(bytes) => {
            html.markup("too long for this page: ").number(*bytes as u64).markup(" bytes");
            return;
        }
        Values::Payload(payload) => payload,
    };
    let Some(columns) = values::columns(payload) else {
        html.value(&values::whole(payload));
        return;
    };
    for (number, column) in columns.iter().take(COLUMNS).enumerate() {
        if number > 0 {
            html.markup("; ");
        }
        html.markup("<b>").value(&column.name).markup("</b>: ");
        match (&column.old, &column.new) {
            (Some(old), Some(new)) => html.value(old).markup(" → ").value(new),
            (Some(old), None) => html.markup("was ").value(old),
            (None, Some(new)) => html.value(new),
            (None, None) => html.markup(""),
        };
    }
    if columns.len() > COLUMNS {
        html.markup("; and ").number((columns.len() - COLUMNS) as u64).markup(" more columns");
    }
}

fn evidence(html: &mut Html, outcome: &Outcome, unproved: bool) {
    section(html, "<h2 id=\"evidence\">Evidence", unproved);
    if outcome.evidence.is_empty() {
        html.markup("<p>No artifact is registered for these events.</p>\n");
        return;
    }
    html.markup(
        "<p>The artifacts themselves are not in the file. Compare the SHA-256 of the one that you have, or name ",
    );
    html.markup("it with <code>--artifact</code>.</p>\n");
    let mut table = Table::new(
        html,
        "<th scope=\"col\">Artifact</th><th scope=\"col\">Where it came from</th><th scope=\"col\">What it is \
         about</th>",
    );
    for artifact in &outcome.evidence {
        let evidence = &artifact.evidence;
        table.row(|html| {
            html.markup("<td>").value(&clipped(&evidence.source, TEXT));
            under(html, "", &evidence.media_type);
            html.markup("<span class=\"under code\">SHA-256 ").text(&hex::encode(&evidence.digest.0)).markup("</span>");
            under(html, "evidence ", &evidence.id.to_string());
            html.markup("</td><td>collected by ").value(&clipped(&evidence.collector, TEXT)).markup(", ");
            html.text(&moment(evidence.collected_at)).markup("<br>registered by ");
            html.value(&clipped(&evidence.registered_by, TEXT)).markup(", ");
            html.text(&moment(evidence.registered_at)).markup("<br>");
            html.markup(match artifact.in_history {
                true => "The registration is in the history, unchanged.",
                false => "That it was registered could not be shown.",
            });
            html.markup("</td><td>");
            if let Some(subject) = &evidence.subject {
                html.value(&clipped(subject, TEXT)).markup("<br>");
            }
            html.value(&relation(&evidence.relation)).markup(" ");
            match (evidence.events.len(), artifact.events_here) {
                (0, _) => html.markup("no event in particular"),
                (1, 0) => html.markup("one event, which is not here"),
                (1, _) => html.markup("one event, which is here"),
                (all, here) => html.number(all as u64).markup(" events, ").number(here as u64).markup(" of them here"),
            };
            if let Some(description) = &evidence.description {
                under(html, "", description);
            }
            html.markup("</td>");
        });
    }
    table.end(0, "artifacts");
}

fn relation(relation: &str) -> String {
    match relation {
        "derived-from" => "derived from".into(),
        "result-of" => "the result of".into(),
        other => other.to_owned(),
    }
}

fn erasures(html: &mut Html, outcome: &Outcome, tally: &Tally, unproved: bool) {
    section(html, "<h2 id=\"erasures\">Erasures", unproved);
    let (erased, unexplained) = (outcome.contents.erased, outcome.contents.unexplained);
    html.markup("<p>The values of ").number(erased).markup(" of the events shown here were erased. An erased event ");
    html.markup("still stands in its place, with its time, its person and a digest of its values.</p>\n");
    if unexplained > 0 {
        html.markup("<p class=\"note\">For ").number(unexplained);
        html.markup(" of them no event tells of the erasure: it could not be shown that it was lawful.</p>\n");
    }
    let Kept { list, more } = &tally.erasures;
    if list.is_empty() {
        html.markup("<p>No event tells of an erasure.</p>\n");
        return;
    }
    let mut table = Table::new(
        html,
        "<th scope=\"col\">When</th><th scope=\"col\">Who</th><th scope=\"col\">Why</th><th scope=\"col\">Of what</th>",
    );
    for erasure in list {
        table.row(|html| {
            time_cell(html, erasure.at);
            who_cell(html, tally, erasure.person);
            html.markup("<td>");
            match &erasure.legal_basis {
                Some(basis) => html.value(basis),
                None => html.markup("no legal basis was stated"),
            };
            if let Some(reason) = &erasure.reason {
                under(html, "reason: ", reason);
            }
            html.markup("</td><td>").value(&erasure.subject);
            under(html, "event ", &erasure.event);
            if !erasure.here {
                html.markup("<span class=\"under\">recorded outside of these positions</span>");
            }
            html.markup("</td>");
        });
    }
    table.end(*more, "erasures");
}

fn gaps(html: &mut Html, outcome: &Outcome, tally: &Tally, unproved: bool) {
    section(html, "<h2 id=\"gaps\">Gaps", unproved);
    let contents = &outcome.contents;
    if contents.absent == 0 {
        html.markup("<p>No event of this part of the history is missing.</p>\n");
    } else {
        html.markup("<p class=\"note\">Of ").number(contents.absent);
        html.markup(" events the database had only the place. What they said could not be shown.</p>\n");
        let mut table =
            Table::new(html, "<th scope=\"col\">Positions</th><th scope=\"col\" class=\"number\">Events</th>");
        for (first, last) in &tally.absent.list {
            table.row(|html| {
                let positions = match first == last {
                    true => grouped(first.unsigned_abs()),
                    false => format!("{} to {}", grouped(first.unsigned_abs()), grouped(last.unsigned_abs())),
                };
                cell(html, &positions);
                number_cell(html, (last - first + 1).unsigned_abs());
            });
        }
        table.end(tally.absent.more, "gaps");
    }
    if contents.withheld > 0 {
        html.markup("<p>Who is behind ").number(contents.withheld);
        html.markup(" of the events is not shown: a member exported the file, and they are no members.</p>\n");
    }
    if tally.unwatched.list.is_empty() {
        html.markup("<p>No event here tells that the audit was switched off.</p>\n");
        return;
    }
    html.markup("<h3>When the audit did not look</h3>\n");
    let mut table = Table::new(
        html,
        "<th scope=\"col\">Noticed</th><th scope=\"col\">What</th><th scope=\"col\">Table or matter</th>",
    );
    for unwatched in &tally.unwatched.list {
        table.row(|html| {
            time_cell(html, unwatched.at);
            cell(
                html,
                match unwatched.operation.as_str() {
                    "gap" => "a table was not recorded for some time",
                    "capture_off" => "recording was switched off",
                    "rewrite" => "rows were rewritten without events of their own",
                    other => other,
                },
            );
            cell(html, &unwatched.subject);
        });
    }
    table.end(tally.unwatched.more, "such events");
}

fn elevated(html: &mut Html, tally: &Tally, unproved: bool) {
    section(html, "<h2 id=\"elevated\">Elevated access", unproved);
    html.markup("<h3>Break-glass</h3>\n");
    if tally.grants.list.is_empty() {
        html.markup("<p>No grant of break-glass is in these events.</p>\n");
    } else {
        grants(html, tally);
    }
    html.markup("<h3>Use of more than a member's own role</h3>\n");
    let used: Vec<_> = tally.elevated.list.iter().filter(|elevated| elevated.events > 0).collect();
    if used.is_empty() {
        html.markup("<p>None in these events.</p>\n");
        return;
    }
    let mut table = Table::new(
        html,
        "<th scope=\"col\">Who</th><th scope=\"col\">How</th><th scope=\"col\">When</th><th scope=\"col\" \
         class=\"number\">Events</th>",
    );
    for elevated in used {
        table.row(|html| {
            who_cell(html, tally, elevated.person);
            html.markup("<td>");
            match elevated.method.as_str() {
                _ if elevated.grant.is_some() => html.markup("break-glass"),
                "assumed" => html.markup("acted for the organization as an operator"),
                "maintenance" => html.markup("maintenance across organizations"),
                "break-glass" => html.markup("signed in past the enforced single sign-on"),
                other => html.value(other),
            };
            if let Some(grant) = elevated.grant {
                under(html, "grant ", &grant.to_string());
            }
            if let Some(reason) = &elevated.reason {
                under(html, "reason: ", reason);
            }
            html.markup("</td>");
            cell(html, &span_of(elevated.span));
            number_cell(html, elevated.events);
        });
    }
    table.end(0, "uses");
    if tally.elevated.more > 0 {
        html.markup("<p>").number(tally.elevated.more).markup(" events are of uses that are not listed.</p>\n");
    }
}

fn grants(html: &mut Html, tally: &Tally) {
    let mut table = Table::new(
        html,
        "<th scope=\"col\">Grant</th><th scope=\"col\">What happened</th><th scope=\"col\">How it ended</th>",
    );
    for grant in &tally.grants.list {
        table.row(|html| {
            html.markup("<td>for ").value(&grant.beneficiary);
            if let Some(permissions) = &grant.permissions {
                under(html, "permits ", permissions);
            }
            if let Some(ticket) = &grant.ticket {
                under(html, "ticket ", ticket);
            }
            under(html, "grant ", &grant.id);
            html.markup("</td><td>");
            for step in &grant.steps.list {
                html.markup("<p>").text(&moment(step.at)).markup(": ");
                html.value(&in_words(step.operation.strip_prefix("break_glass_").unwrap_or(&step.operation)));
                html.markup(", by ");
                who(html, tally, step.person);
                if let Some(reason) = &step.reason {
                    under(html, "reason: ", reason);
                }
                html.markup("</p>");
            }
            if grant.steps.more > 0 {
                html.markup("<p>and ").number(grant.steps.more).markup(" more</p>");
            }
            html.markup("</td><td>");
            let has = |name: &str| grant.steps.list.iter().any(|step| step.operation == name);
            html.markup(if has("break_glass_signed_off") {
                "signed off"
            } else if has("break_glass_ended") || has("break_glass_revoked") {
                "over, and not signed off in these events"
            } else if has("break_glass_activated") {
                "used, and its end is not in these events"
            } else if has("break_glass_denied") || has("break_glass_cancelled") || has("break_glass_expired") {
                "never used"
            } else {
                "its use is not in these events"
            });
            html.markup("</td>");
        });
    }
    table.end(0, "grants");
    if tally.grants.more > 0 {
        html.markup("<p>").number(tally.grants.more).markup(" events are of grants that are not listed.</p>\n");
    }
}

fn reviews(html: &mut Html, outcome: &Outcome, unproved: bool) {
    section(html, "<h2 id=\"reviews\">Reviews of access", unproved);
    let reviews = &outcome.reviews.reviews;
    if reviews.is_empty() {
        html.markup("<p>No review is in these events.</p>\n");
        return;
    }
    let mut table = Table::new(
        html,
        "<th scope=\"col\">Review</th><th scope=\"col\">Opened</th><th scope=\"col\">Decided</th><th \
         scope=\"col\">Closed</th>",
    );
    for review in reviews {
        table.row(|html| {
            html.markup("<td>").value(&clipped(&review.title, TEXT));
            under(html, "review ", &review.id);
            html.markup("</td><td>");
            match &review.opened {
                Some((at, who, items)) => {
                    html.text(&moment(*at)).markup(" by ").value(&clipped(who, TEXT));
                    html.markup(", over ").number(*items).markup(" items")
                }
                None => html.markup("outside of these events"),
            };
            html.markup("</td><td>");
            if review.decided.is_empty() {
                html.markup("nobody decided");
            }
            for (number, (who, items)) in review.decided.iter().take(COLUMNS).enumerate() {
                if number > 0 {
                    html.markup("<br>");
                }
                html.value(&clipped(who, TEXT)).markup(" about ").number(*items);
            }
            if review.decided.len() > COLUMNS {
                html.markup("<br>and ").number((review.decided.len() - COLUMNS) as u64).markup(" more people");
            }
            if review.refreshed > 0 {
                html.markup("<br>").number(review.refreshed).markup(" times an item had changed and came again");
            }
            html.markup("</td><td>");
            match (&review.closed, &review.cancelled) {
                (Some((at, who, outcomes)), _) => {
                    html.text(&moment(*at)).markup(" by ").value(&clipped(who, TEXT));
                    for (outcome, items) in outcomes.iter().take(COLUMNS) {
                        html.markup("<br>")
                            .number(*items)
                            .markup(" ")
                            .value(&clipped(reviewed::in_words(outcome), TEXT));
                    }
                }
                (None, Some((at, who))) => {
                    html.markup("cancelled ").text(&moment(*at)).markup(" by ").value(&clipped(who, TEXT));
                }
                (None, None) => {
                    html.markup("not closed in these events");
                }
            }
            html.markup("</td>");
        });
    }
    table.end(0, "reviews");
}

fn refused(html: &mut Html, tally: &Tally, unproved: bool) {
    section(html, "<h2 id=\"refused\">What was refused or failed", unproved);
    if tally.refusals.list.is_empty() {
        html.markup("<p>Nothing in these events.</p>\n");
        return;
    }
    let mut table = Table::new(
        html,
        "<th scope=\"col\">Who</th><th scope=\"col\">What</th><th scope=\"col\">When</th><th scope=\"col\" \
         class=\"number\">Events</th>",
    );
    for refusal in &tally.refusals.list {
        table.row(|html| {
            who_cell(html, tally, refusal.person);
            html.markup("<td>");
            match refusal.result.as_str() {
                "denied" => html.markup("refused: "),
                "failed" => html.markup("failed: "),
                other => html.value(other).markup(": "),
            };
            html.value(&refusal.operation.replace('_', " ")).markup(" – ").value(&refusal.subject);
            if let Some(reason) = &refusal.reason {
                under(html, "reason: ", reason);
            }
            html.markup("</td>");
            cell(html, &span_of(refusal.span));
            number_cell(html, refusal.events);
        });
    }
    table.end(0, "kinds of refusals");
    if tally.refusals.more > 0 {
        html.markup("<p>").number(tally.refusals.more).markup(" events are of refusals that are not listed.</p>\n");
    }
}
