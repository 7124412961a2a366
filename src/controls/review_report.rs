//! What a review was of, who decided what, and what became of it.
//!
//! The digest of a report is over lines: first the report without its items, then each item. So a review of any size is
//! hashed as it is read.

use super::input;
use super::review::DOMAIN;
use super::review_row::{self, StoredItem, StoredReview, described};
use crate::context;
use crate::pg::json::Jsonb;
use crate::pg::report::OrRaise;
use crate::pg::user;
use pg_tenancy_core::audit::format::{hex, timestamp};
use pg_tenancy_core::controls::review::{Assignee, Digest};
use pg_tenancy_core::error::Result;
use pgrx::pg_extern;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// `tenancy.review_report(review)`.
#[pg_extern(sql = false)]
fn tenancy_review_report(review: Option<pgrx::Uuid>) -> Jsonb {
    Jsonb(report(review).or_raise())
}

/// The text of a JSON object: the values of the items go into it as they are read.
fn report(review: Option<pgrx::Uuid>) -> Result<String> {
    context::authorize(DOMAIN, "read")?;
    let (context, id) = (context::require()?, input::id(review, "review")?);
    user::as_superuser(|| {
        let review = review_row::by_id(context.organization.id, id)?;
        let mut items = String::new();
        let digest = each_line(&review, |line| {
            let separator = if items.is_empty() { "" } else { "," };
            items.extend([separator, line]);
        })?;
        let mut report = header(&review).to_string();
        // Before the brace that ends it.
        report.truncate(report.len() - 1);
        Ok(format!("{{\"report\":{report},\"items\":[{items}]}},\"digest\":\"{}\"}}", hex::encode(&digest)))
    })
}

/// The digest of the report as it is now.
pub fn digest(review: &StoredReview) -> Result<Digest> {
    each_line(review, |_| ())
}

/// Hands over the line of each item; returns the digest over all lines.
fn each_line(review: &StoredReview, mut each: impl FnMut(&str)) -> Result<Digest> {
    let mut hash = Sha256::new();
    let mut add = |line: &str| hash.update(format!("{line}\n"));
    add(&header(review).to_string());
    review.each_item(false, |item| {
        // Members in the order of their names, nothing between them: the same bytes whoever writes them.
        let line = content(&item).to_string();
        add(&line);
        each(&line);
        Ok(())
    })?;
    Ok(hash.finalize().into())
}

/// The report without its items.
fn header(review: &StoredReview) -> Value {
    let reviewers: Vec<Value> = review.reviewers.iter().map(|reviewer| described(Some(reviewer))).collect();
    json!({
        "version": 1,
        "review": review.id,
        "organization": review.organization,
        "kind": review.kind.name(),
        "title": review.title,
        "state": review.state.name(),
        "filter": serde_json::from_str::<Value>(&review.filter).unwrap_or_default(),
        "reviewers": reviewers,
        "schedule": review.schedule,
        "opened_at": timestamp::text(review.opened_at),
        "opened_by": described(review.opened_by.as_ref()),
        "due_at": timestamp::text(review.due_at),
        "item_count": review.items,
        "items_digest": hex::encode(&review.items_digest),
        "closed_at": review.closed_at.map(timestamp::text),
        "closed_by": described(review.closed_by.as_ref()),
        "close_reason": review.close_reason,
    })
}

fn content(item: &StoredItem) -> Value {
    let assignee = match &item.item.assignee {
        Assignee::Person(person) => Some(person),
        Assignee::Anybody | Assignee::Nobody => None,
    };
    let decided = item.item.decided.as_ref();
    json!({
        "number": item.number,
        "what": item.what,
        "snapshot": item.snapshot,
        "snapshot_digest": hex::encode(&item.item.seen),
        "opening_digest": hex::encode(&item.opening_digest),
        "assignee": described(assignee),
        "decision": decided.map(|(decision, _)| decision.name()),
        "decided_by": described(decided.map(|(_, by)| by)),
        "decided_at": item.decided_at.map(timestamp::text),
        "change": item.change,
        "comment": item.comment,
        "evidence": item.evidence,
        "outcome": item.item.outcome.map(|outcome| outcome.name()),
        "detail": item.detail,
    })
}
