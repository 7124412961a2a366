//! What callers give.

use crate::pg::transaction;
use pg_tenancy_core::context::Context;
use pg_tenancy_core::controls::approval::Person;
use pg_tenancy_core::controls::exception::MAX_REASON_BYTES;
use pg_tenancy_core::error::{self, Error, Result, require_not_null};
use pgrx::datum::Interval;
use uuid::Uuid;

const MAX_TEXT_BYTES: usize = 1000;
const MAX_NAME_BYTES: usize = 63;
const DAY: i64 = 24 * 60 * 60 * 1_000_000;
const MAX_VALID_DAYS: i64 = 366;

/// A text that says something, and that a terminal or a log shows as it is.
pub fn text<'a>(text: Option<&'a str>, what: &str) -> Result<&'a str> {
    text_within(text, what, MAX_TEXT_BYTES)
}

/// As [`text`], of so many bytes at most.
pub fn text_within<'a>(text: Option<&'a str>, what: &str, most: usize) -> Result<&'a str> {
    let text = require_not_null(text, what)?;
    if text.trim().is_empty() || text.len() > most || text.chars().any(char::is_control) {
        let message = format!("the {what} is blank, longer than {most} bytes, or has control characters");
        return Err(error::ARGUMENT_INVALID.error(message));
    }
    Ok(text)
}

/// The name of an action type.
pub fn name<'a>(name: Option<&'a str>, what: &str) -> Result<&'a str> {
    let name = require_not_null(name, what)?;
    require_action_type_name(name).map(|()| name)
}

/// Refuses what no action type has as its name.
pub fn require_action_type_name(name: &str) -> Result<()> {
    require_name(name, "an action type")
}

/// Refuses what nothing of that sort has as its name.
pub fn require_name(name: &str, of: &str) -> Result<()> {
    let rest = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_.:-".contains(&byte);
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    if !begins || name.len() > MAX_NAME_BYTES || !name.bytes().all(rest) {
        let message = format!("the name of {of} has 1 to 63 characters a-z, 0-9, _ . : -, the first a letter");
        return Err(error::ARGUMENT_INVALID.error(message));
    }
    Ok(())
}

/// How long an approval is to count, in microseconds.
pub fn valid_for(interval: Option<Interval>) -> Result<i64> {
    let given = require_not_null(interval, "valid_for")?.as_micros();
    let bounded = i64::try_from(given).ok().filter(|given| (1..=MAX_VALID_DAYS * DAY).contains(given));
    bounded.ok_or_else(|| {
        error::ARGUMENT_INVALID.error(format!("valid_for is more than 0 and at most {MAX_VALID_DAYS} days"))
    })
}

/// The error of an action type that nobody has added.
pub fn unknown_action_type(name: &str) -> Error {
    error::NOT_FOUND.error(format!("there is no action type \"{name}\""))
}

/// The person of a context. An operator who assumed the organization is none who could ask for something or approve it.
pub fn acting_person(context: &Context) -> Result<Person> {
    if context.is_assumed() {
        let message = "an operator who assumed the organization neither asks for anything nor approves it";
        return Err(error::ASSUMED_REFUSED.error(message));
    }
    Ok(person(context))
}

/// The person of a context, or the operator who assumed the organization.
pub fn person(context: &Context) -> Person {
    Person { issuer: context.issuer.clone(), subject: context.subject.clone() }
}

pub fn must_write() -> Result<()> {
    if transaction::read_only() {
        return Err(error::READ_ONLY.error("nothing can be approved on a standby or in a READ ONLY transaction"));
    }
    Ok(())
}

/// The id of something that a call is about.
pub fn id(id: Option<pgrx::Uuid>, what: &str) -> Result<Uuid> {
    Ok(Uuid::from_bytes(*require_not_null(id, what)?.as_bytes()))
}

/// Why something is done, where it has to be said.
pub fn reason(reason: Option<&str>) -> Result<&str> {
    text_within(reason, "reason", MAX_REASON_BYTES)
}

/// Why something is done, where it may be said.
pub fn optional_reason(reason: Option<&str>) -> Result<Option<&str>> {
    reason.map(|given| self::reason(Some(given))).transpose()
}

/// The error of an organization that is not there, and of another one than the caller's.
pub fn unknown_organization(organization: Uuid) -> Error {
    error::NOT_FOUND.error(format!("there is no organization {organization}"))
}
