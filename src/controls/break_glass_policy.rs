//! `tenancy.break_glass_policy`: what break-glass may be, for all organizations and for one.

use super::break_glass_grant::{kind_texts, kinds, rules};
use super::{guard, input};
use crate::audit::{self, NewEvent, append};
use crate::context;
use crate::identity::hold_organization;
use crate::pg::json::Jsonb;
use crate::pg::report::OrRaise;
use crate::pg::spi::{self, Argument, Query, Row, argument};
use crate::pg::tables::table;
use crate::pg::{clock, transaction, user};
use pg_tenancy_core::controls::break_glass_policy::{Policy, Settings};
use pg_tenancy_core::controls::permission_set::{Effect, PermissionSet, Rule};
use pg_tenancy_core::error::{self, Error, Result, require_not_null};
use pg_tenancy_core::guardrail::PASSABLE;
use pgrx::pg_extern;
use serde_json::{Map, Value, json};
use uuid::Uuid;

pub const DOMAIN: &str = "break_glass";

static READ: Query = Query::new(
    "SELECT (extract(epoch FROM max_duration) * 1000000)::bigint,
            (extract(epoch FROM request_expires) * 1000000)::bigint,
            (extract(epoch FROM activate_within) * 1000000)::bigint,
            (extract(epoch FROM sign_off_within) * 1000000)::bigint,
            approvals::bigint, max_open::bigint, approver_permissions, ceiling, overrides, ticket_pattern
       FROM tenancy.break_glass_policy WHERE organization = $1",
);

static SET: Query = Query::new(
    "INSERT INTO tenancy.break_glass_policy AS p (organization, max_duration, request_expires, activate_within,
                                                  sign_off_within, approvals, max_open, approver_permissions, ceiling,
                                                  overrides, ticket_pattern, reason, changed_at, changed_by,
                                                  changed_issuer, changed_subject)
     VALUES ($1, $2 * interval '1 microsecond', $3 * interval '1 microsecond', $4 * interval '1 microsecond',
             $5 * interval '1 microsecond', $6, $7, $8, $9, $10, $11, $12, $13, session_user, $14, $15)
     ON CONFLICT (organization) DO UPDATE
        SET max_duration = EXCLUDED.max_duration, request_expires = EXCLUDED.request_expires,
            activate_within = EXCLUDED.activate_within, sign_off_within = EXCLUDED.sign_off_within,
            approvals = EXCLUDED.approvals, max_open = EXCLUDED.max_open,
            approver_permissions = EXCLUDED.approver_permissions, ceiling = EXCLUDED.ceiling,
            overrides = EXCLUDED.overrides, ticket_pattern = EXCLUDED.ticket_pattern, reason = EXCLUDED.reason,
            changed_at = EXCLUDED.changed_at, changed_by = EXCLUDED.changed_by,
            changed_issuer = EXCLUDED.changed_issuer, changed_subject = EXCLUDED.changed_subject",
);

/// Raises for what is no interval, and for one that is infinite.
static MICROSECONDS: Query = Query::new("SELECT (extract(epoch FROM $1::interval) * 1000000)::bigint");

/// Raises for what is no regular expression.
static MATCHES: Query = Query::new("SELECT $1 ~ ('^(?:' || $2 || ')$')");

/// `tenancy.set_break_glass_policy(settings, reason, organization)`.
#[pg_extern(sql = false)]
fn tenancy_set_break_glass_policy(settings: Option<Jsonb>, reason: Option<&str>, organization: Option<pgrx::Uuid>) {
    set(settings, reason, organization).or_raise();
}

/// What is in force for an organization, as it is committed.
pub fn in_force(organization: Uuid) -> Result<Policy> {
    Ok(for_all()?.stricter(&stored(organization)?))
}

/// The policy for all organizations.
fn for_all() -> Result<Policy> {
    let passable = PASSABLE.iter().map(|guardrail| guardrail.name.to_owned()).collect();
    Ok(Policy::default_with(passable).set(&stored(Uuid::nil())?))
}

/// Whether a ticket is of the form that the policy asks for.
pub fn accepts(policy: &Policy, ticket: Option<&str>) -> bool {
    let matches = |pattern: &String| {
        let arguments = [argument(ticket.unwrap_or_default()), argument(pattern.as_str())];
        MATCHES.read(&arguments, |row| row.get::<bool>(1)).pop().flatten() == Some(true)
    };
    policy.ticket_patterns.is_empty() || ticket.is_some() && policy.ticket_patterns.iter().all(matches)
}

fn set(settings: Option<Jsonb>, reason: Option<&str>, organization: Option<pgrx::Uuid>) -> Result<()> {
    let by_member = !user::has_role(c"tenancy_admin");
    if by_member {
        context::authorize(DOMAIN, "policy")?;
    }
    let organization = organization.map(|id| Uuid::from_bytes(*id.as_bytes()));
    let Jsonb(given) = require_not_null(settings, "settings")?;
    let Ok(Value::Object(given)) = serde_json::from_str(&given) else {
        return Err(error::ARGUMENT_INVALID.error("the settings of a policy are an object"));
    };
    let reason = input::reason(reason)?;
    if by_member {
        member_may_set(organization)?;
    }
    input::must_write()?;
    user::as_superuser(|| {
        match organization {
            Some(organization) if !hold_organization(organization) => {
                return Err(input::unknown_organization(organization));
            }
            Some(_) => {}
            None => table::lock_against_itself(c"break_glass_policy"),
        }
        let organization = organization.unwrap_or_default();
        let before = stored(organization)?;
        let after = changed(before.clone(), &given)?;
        after.check()?;
        if !organization.is_nil()
            && let Some(name) = after.looser_than(&for_all()?)
        {
            let message = format!("{name} of an organization is as strict as that for all organizations, or stricter");
            return Err(error::ARGUMENT_INVALID.error(message));
        }
        if after != before {
            write(organization, &after, reason)?;
            let new = json!({ "settings": given });
            append(NewEvent::of_operation(organization, DOMAIN, "break_glass_policy_set", Some(reason), &new))?;
        }
        Ok(())
    })
}

fn member_may_set(organization: Option<Uuid>) -> Result<()> {
    let context = context::require()?;
    input::acting_person(&context)?;
    match organization {
        Some(organization) if organization == context.organization.id => Ok(()),
        Some(organization) => Err(input::unknown_organization(organization)),
        None => {
            Err(audit::refused(DOMAIN, error::ELEVATION_REFUSED.error("a member sets no policy of all organizations")))
        }
    }
}

fn stored(organization: Uuid) -> Result<Settings> {
    let read = || transaction::with_latest_snapshot(|| READ.read(&[spi::uuid(organization)], settings));
    let found = user::as_superuser(read).pop();
    found.unwrap_or_else(|| Some(Settings::default())).ok_or_else(unreadable)
}

/// A row of [`READ`].
fn settings(row: &Row) -> Option<Settings> {
    let ceiling = match row.get::<Vec<String>>(8) {
        Some(texts) => Some(texts.iter().map(|text| Rule::parse(text).ok()).collect::<Option<PermissionSet>>()?),
        None => None,
    };
    let approver_permissions = match row.get::<Vec<String>>(7) {
        Some(texts) => Some(kinds(&texts)?),
        None => None,
    };
    Some(Settings {
        max_duration: row.get(1),
        request_expires: row.get(2),
        activate_within: row.get(3),
        sign_off_within: row.get(4),
        approvals: row.get::<i64>(5).and_then(|number| usize::try_from(number).ok()),
        max_open: row.get(6),
        approver_permissions,
        ceiling,
        overrides: row.get(9),
        ticket_pattern: row.get(10),
    })
}

/// The settings, with what is given in the place of what was set.
fn changed(mut settings: Settings, given: &Map<String, Value>) -> Result<Settings> {
    for (name, value) in given {
        match name.as_str() {
            "max_duration" => settings.max_duration = duration(name, value)?,
            "request_expires" => settings.request_expires = duration(name, value)?,
            "activate_within" => settings.activate_within = duration(name, value)?,
            "sign_off_within" => settings.sign_off_within = duration(name, value)?,
            "approvals" => settings.approvals = number(name, value)?,
            "max_open" => settings.max_open = number(name, value)?,
            "approver_permissions" => settings.approver_permissions = texts(name, value)?.map(approvers).transpose()?,
            "ceiling" => settings.ceiling = texts(name, value)?.map(ceiling).transpose()?,
            "overrides" => settings.overrides = texts(name, value)?.map(overrides).transpose()?,
            "ticket_pattern" => settings.ticket_pattern = pattern(name, value)?,
            _ => {
                let error = error::ARGUMENT_INVALID.error(format!("a policy of break-glass has no setting \"{name}\""));
                return Err(error.detail(
                    "There are: max_duration, request_expires, activate_within, sign_off_within, approvals, max_open, \
                     approver_permissions, ceiling, overrides, ticket_pattern.",
                ));
            }
        }
    }
    Ok(settings)
}

fn invalid(name: &str, what: &str) -> Error {
    error::ARGUMENT_INVALID.error(format!("{name} is {what}"))
}

fn text<'a>(name: &str, value: &'a Value, what: &str) -> Result<Option<&'a str>> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        _ => Err(invalid(name, what)),
    }
}

fn duration(name: &str, value: &Value) -> Result<Option<i64>> {
    let wrong = "an interval, such as \"4 hours\"";
    let Some(text) = text(name, value, wrong)? else { return Ok(None) };
    let read = transaction::attempt(|| MICROSECONDS.read(&[argument(text)], |row| row.get(1)).pop().flatten());
    read.ok().flatten().map(Some).ok_or_else(|| invalid(name, wrong))
}

fn number<T: TryFrom<i64>>(name: &str, value: &Value) -> Result<Option<T>> {
    if value.is_null() {
        return Ok(None);
    }
    let number = value.as_i64().and_then(|number| T::try_from(number).ok());
    number.map(Some).ok_or_else(|| invalid(name, "a whole number"))
}

fn texts(name: &str, value: &Value) -> Result<Option<Vec<String>>> {
    let wrong = || invalid(name, "an array of texts");
    match value {
        Value::Null => Ok(None),
        Value::Array(values) => {
            let texts = values.iter().map(|value| value.as_str().map(str::to_owned));
            texts.collect::<Option<_>>().map(Some).ok_or_else(wrong)
        }
        _ => Err(wrong()),
    }
}

fn approvers(texts: Vec<String>) -> Result<Vec<(String, String)>> {
    let mut kinds = Vec::new();
    for text in texts {
        let rule = Rule::parse(&text)?;
        if rule.effect == Effect::Deny {
            return Err(invalid("approver_permissions", "a list of permissions that approvers hold, without denials"));
        }
        kinds.push((rule.domain, rule.action));
    }
    Ok(kinds)
}

fn ceiling(texts: Vec<String>) -> Result<PermissionSet> {
    texts.iter().map(|text| Rule::parse(text)).collect()
}

fn overrides(mut names: Vec<String>) -> Result<Vec<String>> {
    if let Some(name) = names.iter().find(|name| !PASSABLE.iter().any(|passable| passable.name == **name)) {
        let passable: Vec<&str> = PASSABLE.iter().map(|guardrail| guardrail.name).collect();
        let error = error::ARGUMENT_INVALID.error(format!("break-glass passes no guardrail \"{name}\""));
        return Err(error.detail(format!("It can pass: {}.", passable.join(", "))));
    }
    names.sort();
    names.dedup();
    Ok(names)
}

fn pattern(name: &str, value: &Value) -> Result<Option<String>> {
    let wrong = "a regular expression";
    let Some(pattern) = text(name, value, wrong)? else { return Ok(None) };
    let pattern = input::text(Some(pattern), name)?;
    let matches = || drop(MATCHES.read(&[argument(""), argument(pattern)], |_| ()));
    transaction::attempt(matches).map_err(|_| invalid(name, wrong))?;
    Ok(Some(pattern.to_owned()))
}

fn write(organization: Uuid, settings: &Settings, reason: &str) -> Result<()> {
    let person = context::current()?;
    let row: [Argument; 15] = [
        spi::uuid(organization),
        argument(settings.max_duration),
        argument(settings.request_expires),
        argument(settings.activate_within),
        argument(settings.sign_off_within),
        argument(settings.approvals.map(|number| number as i32)),
        argument(settings.max_open.map(|number| number as i32)),
        argument(settings.approver_permissions.as_deref().map(kind_texts)),
        argument(settings.ceiling.as_ref().map(rules)),
        argument(settings.overrides.clone()),
        argument(settings.ticket_pattern.as_deref()),
        argument(reason),
        spi::timestamp(clock::now()),
        argument(person.as_ref().map(|person| person.issuer.as_str())),
        argument(person.as_ref().map(|person| person.subject.as_str())),
    ];
    guard::writing(|| SET.write(&row, |_| ()));
    Ok(())
}

fn unreadable() -> Error {
    error::STATE_INVALID.error("a row of tenancy.break_glass_policy cannot be read")
}
