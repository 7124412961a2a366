//! Nobody gives more than they hold.

use super::input;
use crate::audit;
use crate::guardrail::{self, Hit};
use crate::identity::{held_now, permissions_now};
use pg_tenancy_core::context::{Context, Elevation};
use pg_tenancy_core::controls::approval::Person;
use pg_tenancy_core::controls::permission_set::{Effect, PermissionSet, Rule};
use pg_tenancy_core::error::{self, Result};
use pg_tenancy_core::guardrail::{GRANT_UNDER_ELEVATION, State};
use uuid::Uuid;

/// Who gives something, or takes it.
#[derive(Clone, Copy)]
pub enum Giver<'a> {
    /// Whoever calls.
    Caller(&'a Context),
    /// The member who decided so in a review of the organization, which somebody else may close.
    Reviewer(Uuid, &'a Person),
}

impl Giver<'_> {
    /// The person.
    pub fn person(&self) -> Person {
        match self {
            Giver::Caller(context) => input::person(context),
            Giver::Reviewer(_, person) => Person::clone(person),
        }
    }

    /// Refuses to give what the giver does not hold.
    pub fn must_hold(&self, domain: &str, given: &PermissionSet) -> Result<()> {
        match self {
            Giver::Caller(context) => must_hold(context, domain, given),
            Giver::Reviewer(organization, person) => {
                let now = permissions_now(*organization, &person.issuer, &person.subject).unwrap_or_default();
                must_lie_within(&[now], domain, given)
            }
        }
    }
}

/// What the caller holds, without what an elevation adds, if that has the action: whoever decides holds it now. The
/// caller has locked the organization, so that nobody takes it away at the same moment.
pub fn must_hold_action(context: &Context, domain: &str, action: &str) -> Result<PermissionSet> {
    let now = held_now(context)?;
    if context.permissions.allows(domain, action) && now.allows(domain, action) {
        return Ok(now);
    }
    let message = format!("the role of \"{}\" does not permit {domain}:{action} by itself now", context.subject);
    Err(audit::refused(domain, error::PERMISSION_DENIED.error(message)))
}

/// Refuses to give what the caller does not hold: by the sign-in of the transaction, and by what is committed now. What
/// an elevation adds is held by nobody, unless the guardrail `grant_under_elevation` lets it be given.
pub fn must_hold(context: &Context, domain: &str, given: &PermissionSet) -> Result<()> {
    let held = [context.permissions.clone(), held_now(context)?];
    if let Some(elevation) = &context.elevation
        && excess(&held, given).is_some()
        && excess(&held.each_ref().map(|held| held.union(&elevation.permissions)), given).is_none()
    {
        return given_under_elevation(context, elevation, domain);
    }
    must_lie_within(&held, domain, given)
}

/// What is given lies within role and elevation, and not within the role alone.
fn given_under_elevation(context: &Context, elevation: &Elevation, domain: &str) -> Result<()> {
    let organization = context.organization.id;
    let error = error::MORE_THAN_HELD.error("nobody gives on what break-glass adds to their role");
    match guardrail::state(&GRANT_UNDER_ELEVATION, organization) {
        State::Enforce => Err(audit::refused(domain, error)),
        State::Warn => {
            let grant = elevation.grant.to_string();
            guardrail::warned(&Hit::of_object(&GRANT_UNDER_ELEVATION, organization, domain, &grant), &error)
        }
        State::Off => Ok(()),
    }
}

fn must_lie_within(all_held: &[PermissionSet], domain: &str, given: &PermissionSet) -> Result<()> {
    let Some(too_much) = excess(all_held, given) else { return Ok(()) };
    let too_much = too_much.map_or_else(String::new, |rule| format!("{rule} is more than your role permits."));
    let error = error::MORE_THAN_HELD.error("nobody gives more than they hold").detail(too_much);
    Err(audit::refused(domain, error))
}

/// What does not lie within each that is held: of several rules the first that alone would be too much, if there is
/// one.
fn excess(all_held: &[PermissionSet], given: &PermissionSet) -> Option<Option<Rule>> {
    let held = all_held.iter().find(|held| !given.within(held))?;
    Some(given.rules().filter(|rule| rule.effect == Effect::Allow).find(|rule| {
        let denied = given.rules().filter(|rule| rule.effect == Effect::Deny);
        let alone: PermissionSet = denied.chain([rule.clone()]).collect();
        !alone.within(held)
    }))
}
