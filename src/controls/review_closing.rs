//! Closing reviews: what was decided is done, and what nobody decided becomes what the rules say.

use super::exception::on_no_review;
use super::review::{OPEN, acting, hold, open_review, record, refused};
use super::review_row::{StoredItem, StoredReview, by_id};
use super::review_subject::Grouping;
use super::{input, review_report, review_subject};
use crate::guardrail::{self, Hit};
use crate::identity::hold_organization;
use crate::pg::report::OrRaise;
use crate::pg::spi::{self, Query, argument};
use crate::pg::{clock, transaction, user};
use pg_tenancy_core::audit::format::hex;
use pg_tenancy_core::controls::approval::Person;
use pg_tenancy_core::controls::exception::OnNoReview;
use pg_tenancy_core::controls::review::{self as rules, Assignee, Closing, Kind, Outcome, State};
use pg_tenancy_core::error::{self, Error, Result};
use pg_tenancy_core::guardrail::{OVERDUE_REVIEW, State as GuardrailState, UNREVIEWED_EXCEPTION};
use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use uuid::Uuid;

static OVERDUE: Query = Query::new(
    "SELECT organization, id FROM tenancy.review WHERE state = 'open' AND due_at <= $1
      ORDER BY organization, id LIMIT $2",
);

/// `tenancy.close_review(review)`: what became of each item.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn tenancy_close_review(
    review: Option<pgrx::Uuid>,
) -> TableIterator<'static, (name!(item, i32), name!(outcome, &'static str), name!(detail, Option<String>))> {
    let outcomes = close(review).or_raise();
    TableIterator::new(outcomes.into_iter().map(|(number, outcome, detail)| (number, outcome.name(), detail)))
}

/// `tenancy.cancel_review(review, reason)`.
#[pg_extern(sql = false)]
fn tenancy_cancel_review(review: Option<pgrx::Uuid>, reason: Option<&str>) {
    cancel(review, reason).or_raise();
}

/// What became of an item: its number, the outcome, and what there is to say.
type ItemOutcome = (i32, Outcome, Option<String>);

fn close(review: Option<pgrx::Uuid>) -> Result<Vec<ItemOutcome>> {
    let (context, by) = acting(OPEN)?;
    let (organization, id) = (context.organization.id, input::id(review, "review")?);
    user::as_superuser(|| {
        review_subject::hold_roles(organization, id, None);
        hold(&context, OPEN)?;
        close_held(organization, id, Some(by))
    })
}

fn cancel(review: Option<pgrx::Uuid>, reason: Option<&str>) -> Result<()> {
    let (context, by) = acting(OPEN)?;
    let (id, reason) = (input::id(review, "review")?, input::reason(reason)?);
    let organization = context.organization.id;
    user::as_superuser(|| {
        hold(&context, OPEN)?;
        let mut review = open_review(organization, id)?;
        review.state = State::Cancelled;
        (review.closed_at, review.closed_by) = (Some(clock::now()), Some(by));
        review.close_reason = Some(reason.to_owned());
        review.store_end()?;
        record(organization, "review_cancelled", Some(reason), &review.described())
    })
}

/// Closes a review: by a member, or by time. The caller holds its roles and the organization, and acts as a superuser.
fn close_held(organization: Uuid, id: Uuid, by: Option<Person>) -> Result<Vec<ItemOutcome>> {
    let (mut review, now) = (by_id(organization, id)?, clock::now());
    let closing = rules::may_close(review.state, review.undecided(), review.due_at, now);
    closing.map_err(|refusal| refused(&review, None, refusal))?;
    review_subject::hold(&review, None);
    let mut outcomes: Vec<ItemOutcome> = Vec::new();
    let (mut done, mut to_do): (Vec<ItemOutcome>, Vec<(StoredItem, Closing)>) = Default::default();
    let mut undecided = Undecided::new(&review);
    review.each_item(true, |item| {
        let rule = undecided.rule(&item)?;
        match item.item.close(item.now, rule) {
            Closing::Done(outcome) if item.item.outcome.is_some() => outcomes.push((item.number, outcome, item.detail)),
            Closing::Done(outcome) => done.push((item.number, outcome, said_of(&item, outcome))),
            closing => to_do.push((item, closing)),
        }
        Ok(())
    })?;
    undecided.warn()?;
    done.extend(apply_all(&review, &to_do)?);
    review.store_outcomes(&done)?;
    outcomes.extend(done);
    outcomes.sort_by_key(|(number, ..)| *number);

    (review.state, review.closed_at, review.closed_by) = (State::Closed, Some(now), by);
    // The report has the outcomes.
    transaction::next_command();
    let digest = review_report::digest(&review)?;
    review.report_digest = Some(digest);
    review.store_end()?;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    outcomes.iter().for_each(|(_, outcome, _)| *counts.entry(outcome.name()).or_default() += 1);
    let mut new: Value = review.described();
    new["outcomes"] = json!(counts);
    new["report_digest"] = json!(hex::encode(&digest));
    record(organization, "review_closed", None, &new)?;
    Ok(outcomes)
}

/// Does what was decided about items, in their order, and as much as can be by one statement.
fn apply_all(review: &StoredReview, to_do: &[(StoredItem, Closing)]) -> Result<Vec<ItemOutcome>> {
    let grouping = Grouping::new(review, to_do.iter().map(|(item, _)| item));
    let groups: Vec<Option<&str>> = to_do
        .iter()
        .map(|(item, closing)| if matches!(closing, Closing::Apply(_)) { grouping.of(item) } else { None })
        .collect();
    let (mut done, mut start) = (Vec::new(), 0);
    while start < to_do.len() {
        let group = groups[start];
        let others = groups[start..].iter().skip(1).take_while(|other| group.is_some() && **other == group).count();
        let items = &to_do[start..=start + others];
        start += items.len();
        match items {
            [(item, closing)] => done.push(apply(review, item, *closing)?),
            _ => done.extend(apply_together(review, items)?),
        }
    }
    Ok(done)
}

/// Does what was decided about several members by one statement, or one by one if that fails.
fn apply_together(review: &StoredReview, to_do: &[(StoredItem, Closing)]) -> Result<Vec<ItemOutcome>> {
    let items: Vec<&StoredItem> = to_do.iter().map(|(item, _)| item).collect();
    let one = |(item, said): (&&StoredItem, Result<()>)| match said {
        Ok(()) => (item.number, Outcome::Applied, None),
        Err(error) => (item.number, Outcome::Failed, Some(error.message)),
    };
    match transaction::attempt(|| review_subject::apply_together(review, &items).or_raise()) {
        Ok(said) => Ok(items.iter().zip(said).map(one).collect()),
        Err(failure) if failure.is_conflict() => failure.raise(),
        Err(_) => to_do.iter().map(|(item, closing)| apply(review, item, *closing)).collect(),
    }
}

/// Does what was decided about an item, if the rules let it.
fn apply(review: &StoredReview, item: &StoredItem, closing: Closing) -> Result<ItemOutcome> {
    let applied = transaction::attempt(|| match closing {
        Closing::Lapse => review_subject::lapse(review, item).map(|()| said_of(item, Outcome::Lapsed)).or_raise(),
        _ => review_subject::apply(review, item).or_raise(),
    });
    let outcome = if closing == Closing::Lapse { Outcome::Lapsed } else { Outcome::Applied };
    match applied {
        Ok(detail) => Ok((item.number, outcome, detail)),
        // Another session has changed it: the whole close is to be repeated.
        Err(failure) if failure.is_conflict() => failure.raise(),
        Err(failure) => Ok((item.number, Outcome::Failed, Some(failure.message().to_owned()))),
    }
}

/// What there is to say of an item for which nothing was done.
fn said_of(item: &StoredItem, outcome: Outcome) -> Option<String> {
    let said = match outcome {
        Outcome::Stale => "it has changed since the decision",
        Outcome::Undecided | Outcome::Lapsed if item.item.assignee == Assignee::Nobody => {
            "no reviewer was left whom it is not about"
        }
        Outcome::Undecided | Outcome::Lapsed => "nobody decided",
        _ => return None,
    };
    Some(said.to_owned())
}

/// What becomes of items that nobody decided about.
struct Undecided<'r> {
    review: &'r StoredReview,
    guardrail: GuardrailState,
    /// By the kind of exceptions.
    rules: HashMap<String, OnNoReview>,
    /// Exceptions that stay, and that the guardrail would end.
    staying: Vec<String>,
}

impl<'r> Undecided<'r> {
    fn new(review: &'r StoredReview) -> Self {
        let guardrail = guardrail::state(&UNREVIEWED_EXCEPTION, review.organization);
        Undecided { review, guardrail, rules: HashMap::new(), staying: Vec::new() }
    }

    fn rule(&mut self, item: &StoredItem) -> Result<OnNoReview> {
        if self.review.kind != Kind::Exceptions || item.item.decided.is_some() || item.item.outcome.is_some() {
            return Ok(OnNoReview::Escalate);
        }
        let snapshot: Value = serde_json::from_str(&item.snapshot).unwrap_or_default();
        let kind = snapshot["kind"].as_str().unwrap_or_default();
        let of_kind = match self.rules.get(kind) {
            Some(rule) => *rule,
            None => {
                let rule = on_no_review(self.review.organization, kind)?;
                self.rules.insert(kind.to_owned(), rule);
                rule
            }
        };
        let rule = rules::undecided(of_kind, self.guardrail);
        if rule != OnNoReview::Lapse && item.now.is_some() {
            self.staying.extend(item.what["exception"].as_str().map(str::to_owned));
        }
        Ok(rule)
    }

    fn warn(&self) -> Result<()> {
        if self.guardrail != GuardrailState::Warn {
            return Ok(());
        }
        self.staying.iter().try_for_each(|exception| {
            let hit = Hit::of_object(&UNREVIEWED_EXCEPTION, self.review.organization, "close_review", exception);
            let message = format!("exception {exception} stays, though its review left it undecided");
            guardrail::warned(&hit, &error::EXCEPTION_STATE.error(message))
        })
    }
}

fn overdue(review: Uuid) -> Error {
    error::REVIEW_STATE.error(format!("review {review} is overdue"))
}

/// A review has become overdue: the guardrail warns of it, where it does not close it.
pub fn warn_overdue(organization: Uuid, review: Uuid) -> Result<()> {
    if guardrail::state(&OVERDUE_REVIEW, organization) != GuardrailState::Warn {
        return Ok(());
    }
    let id = review.to_string();
    guardrail::warned(&Hit::of_object(&OVERDUE_REVIEW, organization, "settle_due", &id), &overdue(review))
}

/// Closes reviews that are overdue, where the guardrail does not wait for anybody; at most so many. Returns how many.
pub fn close_overdue(now: i64, at_most: i64) -> Result<i64> {
    let arguments = [spi::timestamp(now), argument(at_most)];
    let overdue =
        transaction::with_latest_snapshot(|| OVERDUE.read(&arguments, |row| Some((row.uuid(1)?, row.uuid(2)?))));
    let mut closed = 0;
    for (organization, id) in overdue.into_iter().flatten() {
        if guardrail::state(&OVERDUE_REVIEW, organization) == GuardrailState::Enforce {
            review_subject::hold_roles(organization, id, None);
            hold_organization(organization);
            close_held(organization, id, None)?;
            closed += 1;
        }
    }
    Ok(closed)
}
