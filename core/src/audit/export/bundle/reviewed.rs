//! What the events of a bundle tell of reviews, and reports that somebody has as files.
//!
//! The payload of these events has a member `new`, which no event that an application records has.

use super::line::Batch;
use crate::audit::format::encoding::Digest;
use crate::audit::format::hex;
use crate::audit::format::timestamp;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// A review, as far as the bundle has its events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Review {
    /// Its id, as the events have it.
    pub id: String,
    /// Kind and title of the review.
    pub title: String,
    /// When and by whom it was opened, and over how many items.
    pub opened: Option<(i64, String, u64)>,
    /// How many items each person decided about, as often as they did.
    pub decided: BTreeMap<String, u64>,
    /// How often an item was looked at again, because it had changed.
    pub refreshed: u64,
    /// When and by whom it was closed, and how many items have each outcome.
    pub closed: Option<(i64, String, BTreeMap<String, u64>)>,
    /// When and by whom it was cancelled.
    pub cancelled: Option<(i64, String)>,
}

/// The digest of a report that an event has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// What the report is of: `review` or `grant`, and its id.
    pub of: String,
    /// When the event occurred.
    pub at: i64,
    digest: String,
    items: Option<String>,
}

/// A report that somebody has as a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    digest: String,
    items: Option<String>,
}

/// What the events of a bundle say of reviews, and of reports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reviews {
    /// The reviews in the order of their first events.
    pub reviews: Vec<Review>,
    /// The digests of reports.
    pub signed: Vec<Signed>,
}

impl Reviews {
    /// Takes in a batch that is verified; `who` acted in it.
    pub fn add(&mut self, batch: &Batch, who: &str) {
        let of_rows = batch.table_name.is_some() || batch.result != "success";
        if of_rows || !["review", "break_glass"].contains(&batch.domain.as_str()) {
            return;
        }
        for event in &batch.events {
            let payload = event.payload.as_deref().and_then(|payload| serde_json::from_str::<Value>(payload).ok());
            let Some(new) = payload.as_ref().and_then(|payload| payload.get("new")) else { continue };
            match batch.domain.as_str() {
                "review" => self.review(&batch.operation, new, event.occurred_at, who),
                _ if batch.operation == "break_glass_signed_off" => self.sign("grant", new, event.occurred_at),
                _ => (),
            }
        }
    }

    fn review(&mut self, operation: &str, new: &Value, at: i64, who: &str) {
        let Some(id) = new["review"].as_str() else { return };
        if operation == "review_closed" {
            self.sign("review", new, at);
        }
        let known = self.reviews.iter().position(|review| review.id == id);
        let place = known.unwrap_or_else(|| {
            self.reviews.push(Review { id: id.to_owned(), ..Review::default() });
            self.reviews.len() - 1
        });
        let review = &mut self.reviews[place];
        if let (Some(kind), Some(title)) = (new["kind"].as_str(), new["title"].as_str()) {
            review.title = format!("{title:?} of {}", kind.replace('_', " "));
        }
        match operation {
            "review_opened" => review.opened = Some((at, who.to_owned(), new["items"].as_u64().unwrap_or_default())),
            "review_decided" => {
                let items = new["items"].as_array().map_or(0, Vec::len) as u64;
                *review.decided.entry(who.to_owned()).or_default() += items;
            }
            "review_refreshed" => review.refreshed += 1,
            "review_closed" => {
                let outcomes = new["outcomes"].as_object().into_iter().flatten();
                let outcomes = outcomes.map(|(name, count)| (name.clone(), count.as_u64().unwrap_or_default()));
                review.closed = Some((at, who.to_owned(), outcomes.collect()));
            }
            "review_cancelled" => review.cancelled = Some((at, who.to_owned())),
            _ => (),
        }
    }

    fn sign(&mut self, what: &str, new: &Value, at: i64) {
        let text = |name: &str| new[name].as_str().map(str::to_owned);
        if let (Some(id), Some(digest)) = (text(what), text("report_digest")) {
            self.signed.push(Signed { of: format!("{what} {id}"), at, digest, items: text("items_digest") });
        }
    }

    /// The event that has the digest of a report, and of its items.
    pub fn of(&self, report: &Report) -> Option<&Signed> {
        self.signed.iter().find(|signed| signed.digest == report.digest && signed.items == report.items)
    }
}

impl Review {
    /// What happened, in words.
    pub fn text(&self) -> String {
        let mut text = format!("Review {} {}: ", self.id, self.title);
        text += &match &self.opened {
            Some((at, who, items)) => format!("opened on {} by {who} over {items} items", timestamp::text(*at)),
            None => "opened outside of these events".to_owned(),
        };
        let decided = self.decided.iter().map(|(who, items)| format!("{who} decided about {items}"));
        let decided: Vec<String> = decided.collect();
        text += "; ";
        text += &if decided.is_empty() { "nobody decided".to_owned() } else { decided.join(", ") };
        if self.refreshed > 0 {
            text += &format!("; {} had changed and were looked at again", self.refreshed);
        }
        match (&self.closed, &self.cancelled) {
            (Some((at, who, outcomes)), _) => {
                let outcomes = outcomes.iter().map(|(outcome, items)| format!("{items} {}", in_words(outcome)));
                text += &format!("; closed on {} by {who}: ", timestamp::text(*at));
                text += &outcomes.collect::<Vec<_>>().join(", ");
            }
            (None, Some((at, who))) => text += &format!("; cancelled on {} by {who}", timestamp::text(*at)),
            (None, None) => text += "; not closed in these events",
        }
        text + "."
    }
}

/// What an outcome of an item is called.
pub fn in_words(outcome: &str) -> &str {
    match outcome {
        "kept" => "kept",
        "applied" => "changed or revoked",
        "failed" => "not changed, because a rule forbids it",
        "stale" => "not changed, because they were others than at the decision",
        "gone" => "gone in between",
        "lapsed" => "ended, because nobody decided",
        "undecided" => "undecided",
        other => other,
    }
}

impl Report {
    /// Reads what `tenancy.review_report` or `tenancy.break_glass_report` returned.
    ///
    /// Errors: what is wrong with it.
    pub fn read(text: &str) -> Result<Self, String> {
        let parsed: Value = serde_json::from_str(text).map_err(|error| format!("is no JSON: {error}"))?;
        let mut report = parsed.get("report").cloned().ok_or("is no report: it has no member report")?;
        let Some(members) = report.as_object_mut() else { return Err("is no report".into()) };
        if !members.contains_key("items") {
            return Ok(Report { digest: sha256(report.to_string()), items: None });
        }
        let items = members.remove("items").unwrap_or_default();
        let (mut lines, mut opening) = (Sha256::new(), Sha256::new());
        lines.update(format!("{report}\n"));
        for item in items.as_array().ok_or("is no report: its items are no array")? {
            lines.update(format!("{item}\n"));
            let text = |name: &str| item[name].as_str().ok_or_else(|| format!("has an item without {name}"));
            let digest = |name: &str| {
                let digest = serde_json::from_value::<hex::Hash>(item[name].clone());
                digest.map(|digest| digest.0).map_err(|_| format!("has an item whose {name} is no digest"))
            };
            if digest("snapshot_digest")? != Digest::from(Sha256::digest(text("snapshot")?)) {
                return Err(format!("has an item whose snapshot is not that of its digest: number {}", item["number"]));
            }
            opening.update(digest("opening_digest")?);
        }
        let hex = |hash: Sha256| hex::encode(&hash.finalize());
        Ok(Report { digest: hex(lines), items: Some(hex(opening)) })
    }
}

fn sha256(text: impl AsRef<[u8]>) -> String {
    hex::encode(&Sha256::digest(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn item(number: u64, snapshot: &str) -> Value {
        let digest = sha256(snapshot);
        json!({
            "number": number, "snapshot": snapshot, "snapshot_digest": digest, "opening_digest": digest,
            "outcome": "kept",
        })
    }

    fn report() -> Value {
        let items = [item(1, "{\"a\": 1}"), item(2, "{}")];
        json!({ "report": { "review": "r", "version": 1, "items": items }, "digest": "" })
    }

    /// What the event of the close has of a report.
    fn signed(report: &Value) -> Reviews {
        let Report { digest, items } = Report::read(&report.to_string()).unwrap();
        let new = json!({ "review": "r", "kind": "roles", "title": "t", "report_digest": digest, "items_digest": items,
                          "outcomes": { "kept": 2 } });
        let mut reviews = Reviews::default();
        reviews.review("review_closed", &new, 0, "ann");
        reviews
    }

    #[test]
    fn a_report_is_that_of_the_event_until_anything_in_it_changes() {
        let whole = report();
        let reviews = signed(&whole);
        assert_eq!(reviews.of(&Report::read(&whole.to_string()).unwrap()).unwrap().of, "review r");
        for (path, value) in [
            ("/report/items/0/outcome", json!("applied")),
            ("/report/items/1/number", json!(3)),
            ("/report/version", json!(2)),
            ("/report/items/1/opening_digest", json!(sha256("other"))),
        ] {
            let mut changed = whole.clone();
            *changed.pointer_mut(path).unwrap() = value;
            let read = Report::read(&changed.to_string()).unwrap();
            assert_eq!(reviews.of(&read), None, "{path}");
        }
        let mut fewer = whole.clone();
        fewer["report"]["items"].as_array_mut().unwrap().pop();
        assert_eq!(reviews.of(&Report::read(&fewer.to_string()).unwrap()), None);
        let mut other = whole.clone();
        other["report"]["items"][0]["snapshot"] = json!("{\"a\": 2}");
        assert!(Report::read(&other.to_string()).unwrap_err().contains("is not that of its digest"));
    }

    #[test]
    fn what_is_no_report_is_named() {
        for text in
            ["", "[]", "{}", "{\"report\": 1}", "{\"report\": {\"items\": 1}}", "{\"report\": {\"items\": [{}]}}"]
        {
            assert!(Report::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_review_is_told_in_words() {
        let mut reviews = Reviews::default();
        let opened = json!({ "review": "r", "kind": "break_glass", "title": "March", "items": 3 });
        reviews.review("review_opened", &opened, 0, "ann");
        reviews.review("review_decided", &json!({ "review": "r", "items": [1, 2] }), 0, "ben");
        reviews.review("review_refreshed", &json!({ "review": "r", "items": [2] }), 0, "ben");
        reviews.review("review_decided", &json!({ "review": "r", "items": [2] }), 0, "ben");
        let closed = json!({ "review": "r", "outcomes": { "applied": 1, "kept": 1, "undecided": 1 } });
        reviews.review("review_closed", &closed, 0, "ann");
        assert_eq!(
            reviews.reviews[0].text(),
            "Review r \"March\" of break glass: opened on 1970-01-01T00:00:00.000000Z by ann over 3 items; ben decided \
             about 3; 1 had changed and were looked at again; closed on 1970-01-01T00:00:00.000000Z by ann: 1 changed \
                 or \
             revoked, 1 kept, 1 undecided."
        );
        let mut none = Reviews::default();
        none.review("review_cancelled", &json!({ "review": "s", "kind": "roles", "title": "t" }), 0, "ann");
        assert!(none.reviews[0].text().ends_with(
            "opened outside of these events; nobody decided; cancelled on \
             1970-01-01T00:00:00.000000Z by ann."
        ));
    }
}
