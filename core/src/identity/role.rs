//! Chooses the role: the token's, the membership's, or the narrower of both.
//!
//! Decision: `docs/decisions/11-narrower-role.md`.

use super::claim_mapping::RoleRule;
use crate::controls::permission_set::PermissionSet;
use crate::error::{ROLE_CONFLICT, ROLE_MISSING, Result};

/// A role of `tenancy.role` with its permissions.
#[derive(Debug, Clone, PartialEq)]
pub struct Role {
    /// Name of the role, the key of `tenancy.role`.
    pub name: String,
    /// What the role permits.
    pub permissions: PermissionSet,
}

/// Chooses the role to act under.
///
/// `claimed` are the known roles that the token names, without duplicates; [`RoleRule::Membership`] does not read them.
/// `permissions` loads the permissions of a role by name. The result is always an existing role and never a combination
/// of two. An event can therefore name the role under which an action took place.
///
/// Errors: [`ROLE_MISSING`], [`ROLE_CONFLICT`].
pub fn choose(
    rule: RoleRule,
    claimed: &[String],
    membership: &str,
    permissions: impl Fn(&str) -> PermissionSet,
) -> Result<Role> {
    let role = |name: &str| Role { name: name.to_owned(), permissions: permissions(name) };
    if rule == RoleRule::Membership {
        return Ok(role(membership));
    }
    let [first, others @ ..] = claimed else {
        return Err(ROLE_MISSING.error("the token names no role that is known here"));
    };
    if rule == RoleRule::Narrower && claimed.iter().any(|name| name == membership) {
        return Ok(role(membership));
    }
    if !others.is_empty() {
        return Err(ROLE_MISSING.error("the token names several roles that are known here, and no single one counts"));
    }
    let claimed = role(first);
    if rule == RoleRule::Claim {
        return Ok(claimed);
    }
    let membership = role(membership);
    if membership.permissions.within(&claimed.permissions) {
        Ok(membership)
    } else if claimed.permissions.within(&membership.permissions) {
        Ok(claimed)
    } else {
        Err(ROLE_CONFLICT.error("the roles of token and membership permit different things, and neither less"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controls::permission_set::Rule;

    fn permissions(role: &str) -> PermissionSet {
        let rules: &[&str] = match role {
            "admin" => &["*:*"],
            "careful" => &["*:*", "!invoice:delete"],
            "editor" => &["finding:read", "finding:update"],
            "viewer" => &["finding:read"],
            "billing" => &["invoice:read"],
            _ => &[],
        };
        rules.iter().map(|rule| Rule::parse(rule).unwrap()).collect()
    }

    fn chosen(rule: RoleRule, claimed: &[&str], membership: &str) -> std::result::Result<String, &'static str> {
        let claimed: Vec<String> = claimed.iter().map(|name| (*name).to_owned()).collect();
        let role = choose(rule, &claimed, membership, permissions).map_err(|error| error.kind.name)?;
        assert_eq!(role.permissions, permissions(&role.name));
        Ok(role.name)
    }

    #[test]
    fn by_membership_the_token_counts_for_nothing() {
        for claimed in [&[][..], &["admin"], &["admin", "viewer"]] {
            assert_eq!(chosen(RoleRule::Membership, claimed, "viewer"), Ok("viewer".into()));
        }
    }

    #[test]
    fn by_claim_the_token_gives_exactly_one_role() {
        assert_eq!(chosen(RoleRule::Claim, &["admin"], "viewer"), Ok("admin".into()));
        assert_eq!(chosen(RoleRule::Claim, &[], "viewer"), Err("ROLE_MISSING"));
        assert_eq!(chosen(RoleRule::Claim, &["admin", "viewer"], "viewer"), Err("ROLE_MISSING"));
    }

    #[test]
    fn the_narrower_role_wins_whichever_side_it_is_on() {
        let rule = RoleRule::Narrower;
        assert_eq!(chosen(rule, &["admin"], "viewer"), Ok("viewer".into()));
        assert_eq!(chosen(rule, &["viewer"], "admin"), Ok("viewer".into()));
        assert_eq!(chosen(rule, &["viewer"], "viewer"), Ok("viewer".into()));
        assert_eq!(chosen(rule, &["admin"], "careful"), Ok("careful".into()), "a denied action is one less");
        assert_eq!(chosen(rule, &["admin", "editor"], "editor"), Ok("editor".into()), "one of several is the member's");
        assert_eq!(
            chosen(rule, &["nothing"], "admin"),
            Ok("nothing".into()),
            "a role without permissions is the narrowest"
        );
    }

    #[test]
    fn of_roles_that_cannot_be_compared_none_is_chosen() {
        let rule = RoleRule::Narrower;
        assert_eq!(chosen(rule, &["billing"], "viewer"), Err("ROLE_CONFLICT"));
        assert_eq!(chosen(rule, &["billing", "viewer"], "admin"), Err("ROLE_MISSING"));
        assert_eq!(chosen(rule, &[], "viewer"), Err("ROLE_MISSING"), "a token without its role is refused");
    }
}
