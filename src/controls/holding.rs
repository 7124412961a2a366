//! Nobody gives more than they hold.

use crate::audit;
use crate::identity::held_now;
use pg_tenancy_core::context::Context;
use pg_tenancy_core::controls::permission_set::{Effect, PermissionSet};
use pg_tenancy_core::error::{self, Result};

/// Refuses to give what the caller does not hold: by the sign-in of the transaction, and by what is committed now. What
/// an elevation adds is held by nobody.
pub fn must_hold(context: &Context, domain: &str, given: &PermissionSet) -> Result<()> {
    let now = held_now(context)?;
    for held in [&context.permissions, &now] {
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
