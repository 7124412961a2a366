//! Reviews: the calls, and what each should do.

use super::action_types;
use super::call::{FAR, SUBJECTS, some_change, some_id, some_rules};
use super::exceptions;
use super::grants::{self, person};
use super::members::{self, Change, Giver, known};
use super::organization::*;
use crate::rotation_model::Random;
use pg_tenancy_core::controls::approval::Person;
use pg_tenancy_core::controls::exception::{End, OnNoReview};
use pg_tenancy_core::controls::review::{
    Assignee, Closing, Decision, Digest, Item, Kind, Outcome, Refusal, State, may_close,
};
use sha2::Digest as _;

const HOUR: i64 = 3_600_000_000;

/// What reviews are of, with filters.
const OPENINGS: [(Kind, &str); 9] = [
    (Kind::ActionTypes, "{}"),
    (Kind::Memberships, "{}"),
    (Kind::Memberships, r#"{"privileged": true}"#),
    (Kind::Memberships, r#"{"role": "oncall"}"#),
    (Kind::Roles, "{}"),
    (Kind::Exceptions, "{}"),
    (Kind::Exceptions, r#"{"kind": "free"}"#),
    (Kind::BreakGlass, r#"{"state": "active"}"#),
    (Kind::BreakGlass, r#"{"state": "ended"}"#),
];

/// How many reviews of an organization are open at once.
const MOST_OPEN: usize = 4;

#[derive(Clone, Debug)]
pub struct Reviewed {
    kind: Kind,
    state: State,
    due_at: i64,
    items: Vec<ReviewedItem>,
}

#[derive(Clone, Debug)]
struct ReviewedItem {
    /// The subject of a member, the name of a role, or an id.
    what: String,
    is: Item,
    change: Option<Changing>,
}

/// What a reviewer would change.
#[derive(Clone, PartialEq, Debug)]
pub enum Changing {
    Member(Change),
    Role(Vec<String>),
    /// The end of an exception.
    Exception(i64),
}

/// Which state a client says that it has shown.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Shown {
    Nothing,
    /// The one that the item has, for whoever may read it.
    Stored,
    Another,
}

#[derive(Clone, Debug)]
pub enum ReviewCall {
    Open { kind: Kind, filter: &'static str, reviewers: Vec<&'static str>, hours: i64 },
    Decide { item: usize, decision: Decision, shown: Shown, change: Option<Changing>, apply_now: bool },
    DecideMany { items: Vec<usize>, decision: Decision },
    Refresh { item: usize },
    Assign { items: Vec<usize>, to: &'static str },
    Close,
    Cancel,
}

/// A call about one of the open reviews, most often.
pub fn any_review_call(random: &mut Random, seen: &Organization, now: i64) -> (String, ReviewCall) {
    let open: Vec<&String> = seen.reviews.iter().filter(|(_, review)| review.is_open()).map(|(id, _)| id).collect();
    if open.len() < MOST_OPEN && (open.is_empty() || random.one_in(6)) {
        let (kind, filter) = random.pick(&OPENINGS);
        let reviewers = (0..random.below(3)).map(|_| random.pick(&SUBJECTS)).collect();
        let hours = random.pick(&[1, 2, 24, 72, 24 * 366, 0, 24 * 367]);
        return (String::new(), ReviewCall::Open { kind, filter, reviewers, hours });
    }
    let id = some_id(random, open.into_iter());
    let review = seen.reviews.get(&id);
    let items = review.map_or(1, |review| review.items.len());
    // One that nobody has decided about, most often.
    let undecided = |item: &ReviewedItem| item.is.decided.is_none() && item.is.outcome.is_none();
    let left: Vec<usize> = review
        .map_or_else(Vec::new, |review| (1..=items).filter(|number| undecided(&review.items[number - 1])).collect());
    let mut item = || match left.is_empty() || random.one_in(5) {
        true => 1 + random.below(items as u64 + 1) as usize % (items + usize::from(random.one_in(20))),
        false => random.pick(&left),
    };
    let (item, another) = (item(), item());
    let mut items = vec![item, another];
    items.sort();
    items.dedup();
    let call = match random.below(16) {
        0..8 => {
            let decision =
                random.pick(&[Decision::Keep, Decision::Keep, Decision::Change, Decision::Change, Decision::Revoke]);
            let change = (decision == Decision::Change).then(|| match review.map(|review| review.kind) {
                Some(Kind::Roles) => Changing::Role(some_rules(random)),
                Some(Kind::Exceptions) => Changing::Exception((now / HOUR + random.pick(&[1, 24, 72])) * HOUR),
                _ => loop {
                    let change = some_change(random);
                    if change != (Change { role: None, active: None, until: None }) {
                        break Changing::Member(change);
                    }
                },
            });
            let shown = random.pick(&[Shown::Nothing, Shown::Nothing, Shown::Stored, Shown::Stored, Shown::Another]);
            let apply_now = decision == Decision::Revoke && random.one_in(2);
            ReviewCall::Decide { item, decision, shown, change, apply_now }
        }
        8..10 => ReviewCall::DecideMany { items, decision: random.pick(&[Decision::Keep, Decision::Revoke]) },
        10..12 => ReviewCall::Refresh { item },
        12 => ReviewCall::Assign { items, to: random.pick(&SUBJECTS) },
        13..16 if left.is_empty() || !random.one_in(10) => ReviewCall::Close,
        _ => ReviewCall::Cancel,
    };
    (id, call)
}

fn sqlstate(refusal: Refusal) -> Refused {
    match refusal {
        Refusal::State(_) | Refusal::TooEarly | Refusal::Applied => WRONG_STATE,
        Refusal::Own | Refusal::NotAssigned => NOT_PERMITTED,
        Refusal::Stale | Refusal::ShownOtherwise => STALE,
        Refusal::NoChange => BAD_ARGUMENT,
    }
}

/// What there is to review: its name, whom it is about, and its state in words that differ where the states do.
struct Reviewable {
    what: String,
    about: Vec<Person>,
    state: String,
}

impl Reviewable {
    fn digest(&self) -> Digest {
        sha2::Sha256::digest(self.state.as_bytes()).into()
    }
}

fn of_member(of: &Organization, subject: &str, now: i64) -> Option<Reviewable> {
    let member = of.members.get(subject).filter(|member| member.until > now)?;
    let (privileged, own) = (of.permits_everything(&member.role), !Organization::is_of_all(&member.role));
    let about = vec![person(subject)];
    let state = format!("{member:?} {own} {privileged}");
    Some(Reviewable { what: subject.to_owned(), about, state })
}

fn of_role(of: &Organization, name: &str) -> Option<Reviewable> {
    let role = of.roles.get(name).filter(|_| !Organization::is_of_all(name))?;
    let mut rules = role.rules.clone();
    rules.sort();
    Some(Reviewable { what: name.to_owned(), about: Vec::new(), state: format!("{} {rules:?}", role.since) })
}

/// While it is in force, an exception does not change.
fn of_exception(of: &Organization, id: &str, now: i64) -> Option<Reviewable> {
    let excepted = of.exceptions.get(id).filter(|excepted| excepted.in_force(now))?;
    Some(Reviewable { what: id.to_owned(), about: excepted.is.approvers.interested.clone(), state: String::new() })
}

/// While it is in force, an approval does not change.
fn of_request(of: &Organization, id: &str, now: i64) -> Option<Reviewable> {
    let requested = of.requests.get(id).filter(|requested| requested.is.in_force(now))?;
    Some(Reviewable { what: id.to_owned(), about: requested.is.approvers.interested.clone(), state: String::new() })
}

/// Of a grant that was used nothing becomes once it is signed off.
fn of_grant(of: &Organization, id: &str, now: i64) -> Option<Reviewable> {
    let signed_off = |about| Reviewable { what: id.to_owned(), about, state: "signed_off".to_owned() };
    let Some(granted) = of.grants.get(id) else { return Some(signed_off(Vec::new())) };
    granted.is.ends_at?;
    let about = vec![granted.is.requester.clone(), granted.is.beneficiary.clone()];
    let state = granted.is.state_at(now).name().to_owned();
    Some(Reviewable { what: id.to_owned(), about, state })
}

fn current(of: &Organization, kind: Kind, what: &str, now: i64) -> Option<Reviewable> {
    match kind {
        Kind::Memberships => of_member(of, what, now),
        Kind::Roles => of_role(of, what),
        Kind::Exceptions => of_exception(of, what, now),
        Kind::ActionTypes => of_request(of, what, now),
        _ => of_grant(of, what, now),
    }
}

/// What a review would have as items, in their order.
fn to_review(of: &Organization, kind: Kind, filter: &str, now: i64) -> Vec<Reviewable> {
    let names: Vec<String> = match kind {
        Kind::Memberships => of.members.keys().map(|subject| (*subject).to_owned()).collect(),
        Kind::Roles => of.roles.keys().cloned().collect(),
        Kind::Exceptions => of.exceptions.keys().cloned().collect(),
        Kind::ActionTypes => of.requests.keys().cloned().collect(),
        _ => of.grants.keys().filter(|id| !of.reviewed.contains(*id)).cloned().collect(),
    };
    let fits = |found: &Reviewable| match filter {
        "{}" => true,
        r#"{"privileged": true}"# => of.permits_everything(&of.members[&*found.what].role),
        r#"{"role": "oncall"}"# => of.members[&*found.what].role == "oncall",
        r#"{"kind": "free"}"# => of.exceptions[&found.what].kind == "free",
        state => state.contains(&found.state),
    };
    names.iter().filter_map(|name| current(of, kind, name, now)).filter(fits).collect()
}

impl Reviewed {
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// What an open one is like.
    pub fn text(&self, id: &str) -> String {
        let item = |(number, item): (usize, &ReviewedItem)| {
            let assignee = match &item.is.assignee {
                Assignee::Person(person) => &person.subject,
                _ => "-",
            };
            let (decision, by) = match &item.is.decided {
                Some((decision, by)) => (decision.name(), &*by.subject),
                None => ("-", "-"),
            };
            let outcome = item.is.outcome.map_or("-", Outcome::name);
            format!("{} {assignee} {decision} {by} {outcome}", number + 1)
        };
        let items: Vec<String> = self.items.iter().enumerate().map(item).collect();
        format!("{id} {}: {}", self.kind.name(), items.join("; "))
    }

    /// What it and its items have come to.
    pub fn ends(&self) -> impl Iterator<Item = &'static str> {
        let closed = self.state == State::Closed;
        let outcomes = self.items.iter().filter(move |_| closed).filter_map(|item| item.is.outcome.map(Outcome::name));
        outcomes.chain([self.state.name()])
    }

    fn item(&mut self, number: usize) -> Result<&mut ReviewedItem, Refused> {
        number.checked_sub(1).and_then(|place| self.items.get_mut(place)).ok_or(UNKNOWN)
    }
}

/// The review, if it is open.
fn open_review(of: &Organization, id: &str) -> Result<Reviewed, Refused> {
    let review = of.reviews.get(id).cloned().ok_or(UNKNOWN)?;
    if review.is_open() { Ok(review) } else { Err(WRONG_STATE) }
}

/// Does what was decided about an item, and returns the id of what was asked for by it. `new_id` is the one that
/// something new gets.
fn apply(
    of: &mut Organization,
    kind: Kind,
    item: &ReviewedItem,
    caller: Option<&Caller>,
    now: i64,
    new_id: &str,
) -> Result<Option<String>, Refused> {
    let (decision, by) = item.is.decided.as_ref().unwrap();
    let giver = Giver::Reviewer(&by.subject);
    match (kind, decision, &item.change) {
        (Kind::Memberships, Decision::Revoke, _) => members::remove(of, &item.what, caller, now)?,
        (Kind::Roles, Decision::Revoke, _) => members::drop_role(of, &item.what)?,
        (Kind::Exceptions, Decision::Revoke, _) => exceptions::revoke(of, &item.what, now)?,
        (Kind::ActionTypes, Decision::Revoke, _) => action_types::withdraw(of, &item.what, now)?,
        (Kind::BreakGlass, Decision::Revoke, _) => grants::end(of, &item.what, by, true, now)?,
        (_, _, Some(Changing::Member(change))) => {
            let subject = SUBJECTS.into_iter().find(|subject| *subject == item.what).unwrap();
            let before = of.members.get(subject).ok_or(UNKNOWN)?;
            let moved = change.until.is_some_and(|until| until != before.until);
            if moved && change.until.is_some_and(|until| until <= now) {
                return Err(BAD_ARGUMENT);
            }
            members::change(of, subject, change, &giver, caller, now)?;
        }
        (_, _, Some(Changing::Role(rules))) => {
            of_role(of, &item.what).ok_or(UNKNOWN)?;
            members::define_role(of, &item.what, rules, &giver, now)?;
        }
        (_, _, Some(Changing::Exception(expires_at))) => {
            return exceptions::ask_instead(of, &item.what, by.clone(), *expires_at, now, Some(new_id)).map(Some);
        }
        other => unreachable!("{other:?}"),
    }
    Ok(None)
}

/// Closes a review: what was decided is done, and what nobody decided becomes what the rules say. Returns what became
/// of each item.
fn close(
    id: &str,
    of: &mut Organization,
    caller: Option<&Caller>,
    now: i64,
    answer: Option<&str>,
) -> Result<String, Refused> {
    let mut review = of.reviews.get(id).cloned().ok_or(UNKNOWN)?;
    let left = |item: &&ReviewedItem| item.is.decided.is_none() && item.is.outcome.is_none();
    let undecided = review.items.iter().filter(left).count() as i64;
    may_close(review.state, undecided, review.due_at, now).map_err(sqlstate)?;
    // All are looked at before anything is done.
    let closing = |item: &ReviewedItem| {
        let found = current(of, review.kind, &item.what, now);
        item.is.close(found.map(|found| found.digest()), on_no_review(of, review.kind, &item.what))
    };
    let closings: Vec<Closing> = review.items.iter().map(closing).collect();
    let mut said: Vec<String> = Vec::new();
    for ((place, item), closing) in review.items.iter_mut().enumerate().zip(closings) {
        let number = place + 1;
        let told = answer.and_then(|answer| answer.split(", ").nth(place)?.split(' ').nth(2));
        let new_id = told.map_or_else(|| format!("new {number}"), str::to_owned);
        let mut tried = of.clone();
        let (outcome, asked) = match closing {
            Closing::Done(outcome) => (outcome, None),
            Closing::Lapse => match exceptions::end(&mut tried, &item.what, End::Lapsed, now) {
                Ok(_) => (Outcome::Lapsed, None),
                Err(_) => (Outcome::Failed, None),
            },
            Closing::Apply(_) => match apply(&mut tried, review.kind, item, caller, now, &new_id) {
                Ok(asked) => (Outcome::Applied, asked),
                Err(_) => (Outcome::Failed, None),
            },
        };
        if [Outcome::Applied, Outcome::Lapsed].contains(&outcome) {
            *of = tried;
        }
        item.is.outcome = Some(outcome);
        if review.kind == Kind::BreakGlass && [Outcome::Kept, Outcome::Applied].contains(&outcome) {
            of.reviewed.insert(item.what.clone());
        }
        said.push([format!("{number} {}", outcome.name())].into_iter().chain(asked).collect::<Vec<_>>().join(" "));
    }
    // Nobody goes on under a grant that the close has revoked.
    if caller.is_some_and(|caller| caller.elevations.iter().any(|(id, _)| !grants::in_force(of, id, now))) {
        return Err(NOT_PERMITTED);
    }
    review.state = State::Closed;
    of.reviews.insert(id.to_owned(), review);
    of.told("review", "review_closed", 1);
    Ok(said.join(", "))
}

fn on_no_review(of: &Organization, kind: Kind, what: &str) -> OnNoReview {
    match (kind, of.exceptions.get(what)) {
        (Kind::Exceptions, Some(_)) if of.enforces("unreviewed_exception") => OnNoReview::Lapse,
        (Kind::Exceptions, Some(excepted)) => exceptions::settings(excepted.kind).on_no_review,
        _ => OnNoReview::Escalate,
    }
}

/// Closes what is overdue, where the guardrail says so.
pub fn settle(of: &mut Organization, now: i64) {
    if !of.enforces("overdue_review") {
        return;
    }
    let overdue = |review: &Reviewed| review.is_open() && review.due_at <= now;
    let overdue: Vec<String> =
        of.reviews.iter().filter(|(_, review)| overdue(review)).map(|(id, _)| id.clone()).collect();
    overdue.iter().for_each(|id| drop(close(id, of, None, now, None).unwrap()));
}

fn numbers(items: &[usize]) -> String {
    let items: Vec<String> = items.iter().map(usize::to_string).collect();
    format!("'{{{}}}'", items.join(","))
}

impl Changing {
    fn sql(&self) -> String {
        match self {
            Changing::Member(Change { role, active, until }) => {
                let status = active.map(|active| if active { "active" } else { "suspended" });
                let until = until.map(|until| if until == FAR { "3000-01-01T00:00:00Z" } else { "infinity" });
                let named = [("role", *role), ("status", status), ("valid_until", until)];
                let named = named.into_iter().filter_map(|(name, value)| Some(format!(r#""{name}": "{}""#, value?)));
                format!("'{{{}}}'", named.collect::<Vec<_>>().join(", "))
            }
            Changing::Role(rules) => format!(r#"'{{"permissions": {rules:?}}}'"#),
            Changing::Exception(at) => format!("jsonb_build_object('expires_at', to_timestamp({}))", at / 1_000_000),
        }
    }
}

impl ReviewCall {
    pub fn sql(&self, id: &str) -> String {
        match self {
            ReviewCall::Open { kind, filter, reviewers, hours } => {
                let named = match reviewers.is_empty() {
                    true => String::new(),
                    false => format!(", reviewers => '{{{}}}'", reviewers.join(",")),
                };
                let due = format!("tenancy.clock() + interval '{hours} hours'");
                format!("open_review('{}', 'test', {due}{named}, filter => '{filter}')", kind.name())
            }
            ReviewCall::Decide { item, decision, shown, change, apply_now } => {
                let stored = "SELECT snapshot_digest FROM tenancy.review_item WHERE";
                let shown = match shown {
                    Shown::Nothing => String::new(),
                    Shown::Stored => format!(", seen => ({stored} review = '{id}' AND number = {item})"),
                    Shown::Another => ", seen => sha256('another')".to_owned(),
                };
                let change = change.as_ref().map_or_else(String::new, |change| format!(", change => {}", change.sql()));
                format!(
                    "decide('{id}', {item}, '{}', 'test'{shown}{change}, apply_now => {apply_now})",
                    decision.name()
                )
            }
            ReviewCall::DecideMany { items, decision } => {
                format!("decide_many('{id}', {}, '{}', 'test')", numbers(items), decision.name())
            }
            ReviewCall::Refresh { item } => format!("refresh_item('{id}', {item})"),
            ReviewCall::Assign { items, to } => format!("assign_review('{id}', {}, '{to}')", numbers(items)),
            ReviewCall::Close => format!(
                "SELECT string_agg(concat_ws(' ', item, outcome, substring(detail FROM '^asked for as exception (.*)')),
                        ', ' ORDER BY item) FROM tenancy.close_review('{id}')"
            ),
            ReviewCall::Cancel => format!("cancel_review('{id}', 'test')"),
        }
    }

    /// The permission that it needs.
    fn action(&self) -> &'static str {
        match self {
            ReviewCall::Decide { .. } | ReviewCall::DecideMany { .. } | ReviewCall::Refresh { .. } => "decide",
            _ => "open",
        }
    }

    pub fn make(
        &self,
        id: &str,
        of: &mut Organization,
        caller: &Caller,
        now: i64,
        answer: Option<&str>,
    ) -> Result<String, Refused> {
        caller.must("review", self.action())?;
        of.must_hold_action(caller, "review", self.action())?;
        let by = person(caller.subject);
        match self {
            ReviewCall::Open { kind, filter, reviewers, hours } => {
                let review = open(of, *kind, filter, reviewers, *hours, now)?;
                let id = new_id(&of.reviews, answer);
                of.reviews.insert(id.clone(), review);
                of.told("review", "review_opened", 1);
                return Ok(id);
            }
            ReviewCall::Close => return close(id, of, Some(caller), now, answer),
            ReviewCall::Decide { item, decision, shown, change, apply_now } => {
                let mut review = open_review(of, id)?;
                let seen = review.item(*item)?.is.seen;
                let shown = match shown {
                    Shown::Stored if caller.may("review", "read") => Some(seen),
                    Shown::Another => Some([0; 32]),
                    _ => None,
                };
                decide(of, &mut review, *item, *decision, &by, shown, now)?;
                let decided = review.item(*item)?;
                decided.change = change.clone();
                match change {
                    Some(Changing::Member(Change { role: Some(role), .. })) => {
                        of.must_hold(caller, &known(of, role)?)?;
                    }
                    Some(Changing::Role(rules)) => of.must_hold(caller, &set(rules))?,
                    _ => {}
                }
                of.told("review", "review_decided", 1);
                if *apply_now {
                    let item = decided.clone();
                    decided.is.outcome = Some(Outcome::Applied);
                    apply(of, review.kind, &item, Some(caller), now, "")?;
                    of.told("review", "review_applied", 1);
                }
                of.reviews.insert(id.to_owned(), review);
            }
            ReviewCall::DecideMany { items, decision } => {
                let mut review = open_review(of, id)?;
                items.iter().try_for_each(|item| review.item(*item).map(drop))?;
                for item in items {
                    decide(of, &mut review, *item, *decision, &by, None, now)?;
                }
                of.reviews.insert(id.to_owned(), review);
                of.told("review", "review_decided", 1);
            }
            ReviewCall::Refresh { item } => {
                let mut review = open_review(of, id)?;
                let kind = review.kind;
                let refreshed = review.item(*item)?;
                let found = current(of, kind, &refreshed.what, now).ok_or(WRONG_STATE)?;
                if refreshed.is.refresh(&by, found.digest()).map_err(sqlstate)? {
                    (refreshed.is.about, refreshed.change) = (about(&found, &refreshed.is), None);
                    of.reviews.insert(id.to_owned(), review);
                    of.told("review", "review_refreshed", 1);
                }
            }
            ReviewCall::Assign { items, to } => {
                let mut review = open_review(of, id)?;
                of.held(to).ok_or(BAD_ARGUMENT)?;
                items.iter().try_for_each(|item| review.item(*item).map(drop))?;
                for item in items {
                    review.item(*item)?.is.assign(&person(to)).map_err(sqlstate)?;
                }
                of.reviews.insert(id.to_owned(), review);
                of.told("review", "review_assigned", 1);
            }
            ReviewCall::Cancel => {
                let mut review = open_review(of, id)?;
                review.state = State::Cancelled;
                of.reviews.insert(id.to_owned(), review);
                of.told("review", "review_cancelled", 1);
            }
        }
        Ok(String::new())
    }
}

/// Whom a refreshed item is about: of grants, exceptions and members that stays.
fn about(found: &Reviewable, item: &Item) -> Vec<Person> {
    if found.about.is_empty() { item.about.clone() } else { found.about.clone() }
}

fn decide(
    of: &Organization,
    review: &mut Reviewed,
    number: usize,
    decision: Decision,
    by: &Person,
    shown: Option<Digest>,
    now: i64,
) -> Result<(), Refused> {
    let kind = review.kind;
    let item = review.item(number)?;
    let found = current(of, kind, &item.what, now).map(|found| found.digest());
    item.is.decide(decision, by, kind, shown, found).map_err(sqlstate)?;
    item.change = None;
    Ok(())
}

fn open(
    of: &Organization,
    kind: Kind,
    filter: &str,
    reviewers: &[&str],
    hours: i64,
    now: i64,
) -> Result<Reviewed, Refused> {
    if !(1..=366 * 24).contains(&hours) {
        return Err(BAD_ARGUMENT);
    }
    let decides = |subject: &&str| of.held(subject).is_some_and(|held| held.allows("review", "decide"));
    if !reviewers.iter().all(decides) {
        return Err(BAD_ARGUMENT);
    }
    let mut people: Vec<Person> = Vec::new();
    for reviewer in reviewers {
        let reviewer = person(reviewer);
        if !people.contains(&reviewer) {
            people.push(reviewer);
        }
    }
    // Each item goes to the next in turn whom it is not about.
    let assignee = |place: usize, about: &[Person]| {
        let mut turn = (0..people.len()).map(|step| &people[(place + step) % people.len()]);
        match turn.find(|reviewer| !about.contains(reviewer)) {
            Some(reviewer) => Assignee::Person(reviewer.clone()),
            None if people.is_empty() => Assignee::Anybody,
            None => Assignee::Nobody,
        }
    };
    let item = |(place, found): (usize, Reviewable)| {
        let (seen, assignee) = (found.digest(), assignee(place, &found.about));
        let is = Item { seen, about: found.about, assignee, decided: None, outcome: None };
        ReviewedItem { what: found.what, is, change: None }
    };
    let items: Vec<ReviewedItem> = to_review(of, kind, filter, now).into_iter().enumerate().map(item).collect();
    if items.is_empty() {
        return Err(BAD_ARGUMENT);
    }
    Ok(Reviewed { kind, state: State::Open, due_at: now + hours * HOUR, items })
}
