//! Nobody gives more than they hold.

use crate::audit;
use crate::identity::{held_now, permissions_now};
use pg_tenancy_core::context::Context;
use pg_tenancy_core::controls::approval::Person;
use pg_tenancy_core::controls::permission_set::{Effect, PermissionSet};
use pg_tenancy_core::error::{self, Result};

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
            Giver::Caller(context) => Person { issuer: context.issuer.clone(), subject: context.subject.clone() },
            Giver::Reviewer(_, person) => Person::clone(person),
        }
    }

    /// Refuses to give what the giver does not hold.
    pub fn must_hold(&self, domain: &str, given: &PermissionSet) -> Result<()> {
        match self {
            Giver::Caller(context) => must_hold(context, domain, given),
            Giver::Reviewer(organization, person) => {
                let now = permissions_now(*organization, &person.issuer, &person.subject).unwrap_or_default();
                must_lie_within(&[&now], domain, given)
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
/// an elevation adds is held by nobody.
pub fn must_hold(context: &Context, domain: &str, given: &PermissionSet) -> Result<()> {
    let now = held_now(context)?;
    must_lie_within(&[&context.permissions, &now], domain, given)
}

fn must_lie_within(all_held: &[&PermissionSet], domain: &str, given: &PermissionSet) -> Result<()> {
    for held in all_held {
        if given.within(held) {
            continue;
        }
        // Of several rules one is named: the first that alone would be too much.
        let too_much = given.rules().filter(|rule| rule.effect == Effect::Allow).find(|rule| {
            let denied = given.rules().filter(|rule| rule.effect == Effect::Deny);
            let alone: PermissionSet = denied.chain([rule.clone()]).collect();
            !alone.within(held)
        });
        let too_much = too_much.map_or_else(String::new, |rule| format!("{rule} is more than your role permits."));
        let error = error::MORE_THAN_HELD.error("nobody gives more than they hold").detail(too_much);
        return Err(audit::refused(domain, error));
    }
    Ok(())
}
