//! Chooses the organization: named by the token's claim or by the caller, or the only one of the subject.

use crate::context::Organization;
use crate::error::{self, Result};
use uuid::Uuid;

/// A membership of the subject, as the database has it now.
#[derive(Debug, Clone, PartialEq)]
pub struct Membership {
    /// The organization that the subject belongs to.
    pub organization: Organization,
    /// False if the organization is suspended.
    pub organization_active: bool,
    /// Name of the member's role, from `tenancy.role`.
    pub role: String,
    /// Whose role it is: the organization's own, or with the nil UUID one of every organization.
    pub role_organization: Uuid,
    /// False if the membership is suspended.
    pub active: bool,
    /// End of the membership, in microseconds since 1970 UTC; `None` for no end.
    pub valid_until: Option<i64>,
}

/// The organizations that the token and the caller name.
#[derive(Debug, Clone, Default)]
pub struct Named {
    /// The existing organizations that the token's claim names; `None` if the token has no such claim.
    ///
    /// Organizations that do not exist are left out, so that the list may be empty.
    pub claim: Option<Vec<Uuid>>,
    /// The organization that the caller names.
    pub argument: Option<Uuid>,
}

impl Named {
    /// The organizations whose memberships can matter; `None` for all of the subject's.
    pub fn candidates(&self) -> Option<Vec<Uuid>> {
        match (&self.claim, self.argument) {
            (None, None) => None,
            (Some(claimed), None) => Some(claimed.clone()),
            (_, Some(argument)) => Some(vec![argument]),
        }
    }
}

impl Membership {
    /// The reason why the membership gives no access at `now`; `None` if it gives access.
    ///
    /// `now` is in microseconds since 1970 UTC. The reason is a sentence for the DETAIL of an error.
    pub fn obstacle(&self, now: i64) -> Option<&'static str> {
        if !self.organization_active {
            Some("The organization is suspended.")
        } else if !self.active {
            Some("The membership is suspended.")
        } else if self.valid_until.is_some_and(|end| end <= now) {
            Some("The membership has ended.")
        } else {
            None
        }
    }
}

/// Chooses the membership to act under, among at least those of [`Named::candidates`].
///
/// `memberships` are the subject's; `now` is in microseconds since 1970 UTC. An organization that does not exist and
/// one that the subject does not belong to give the same error. The caller may not know the difference.
///
/// Errors: `MEMBERSHIP_MISSING`, `ORGANIZATION_CONFLICT`, `ORGANIZATION_UNNAMED`.
pub fn choose<'a>(named: &Named, memberships: &'a [Membership], now: i64) -> Result<&'a Membership> {
    let claims = |id: &Uuid| named.claim.as_ref().is_none_or(|claimed| claimed.contains(id));
    let Some(argument) = named.argument else {
        let claimed: Vec<&Membership> = memberships.iter().filter(|found| claims(&found.organization.id)).collect();
        return choose_unnamed(&claimed, now);
    };
    let Some(membership) = memberships.iter().find(|found| found.organization.id == argument) else {
        return Err(missing(None));
    };
    if !claims(&argument) {
        return Err(error::ORGANIZATION_CONFLICT.error("the token is for another organization than the one named"));
    }
    match membership.obstacle(now) {
        None => Ok(membership),
        Some(obstacle) => Err(missing(Some(obstacle))),
    }
}

fn choose_unnamed<'a>(memberships: &[&'a Membership], now: i64) -> Result<&'a Membership> {
    let mut usable = memberships.iter().copied().filter(|membership| membership.obstacle(now).is_none());
    match (usable.next(), usable.next(), memberships) {
        (Some(only), None, _) => Ok(only),
        (Some(_), Some(_), _) => {
            Err(error::ORGANIZATION_UNNAMED
                .error("the subject is a member of several organizations, and none is named"))
        }
        (None, _, [single]) => Err(missing(single.obstacle(now))),
        (None, ..) => Err(missing(None)),
    }
}

/// The error of a subject who has no membership that gives access, with the reason as its detail.
pub fn missing(obstacle: Option<&str>) -> error::Error {
    let error = error::MEMBERSHIP_MISSING.error("the token is valid, but its subject has no active membership here");
    match obstacle {
        Some(obstacle) => error.detail(obstacle),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000;

    fn member_of(id: u128) -> Membership {
        let id = Uuid::from_u128(id);
        Membership {
            organization: Organization { id, text_id: format!("org_{}", id.as_u128()), integer_id: None },
            organization_active: true,
            role: "viewer".into(),
            role_organization: Uuid::nil(),
            active: true,
            valid_until: None,
        }
    }

    fn chosen(named: &Named, memberships: &[Membership]) -> std::result::Result<u128, &'static str> {
        choose(named, memberships, NOW).map(|found| found.organization.id.as_u128()).map_err(|error| error.kind.name)
    }

    fn argument(id: u128) -> Named {
        Named { claim: None, argument: Some(Uuid::from_u128(id)) }
    }

    fn claim(ids: &[u128]) -> Named {
        Named { claim: Some(ids.iter().map(|id| Uuid::from_u128(*id)).collect()), argument: None }
    }

    #[test]
    fn the_organization_is_the_one_that_claim_or_caller_name() {
        let both = [member_of(1), member_of(2)];
        assert_eq!(chosen(&argument(2), &both), Ok(2));
        assert_eq!(chosen(&claim(&[2]), &both), Ok(2));
        assert_eq!(chosen(&Named { claim: claim(&[1]).claim, ..argument(1) }, &both), Ok(1));
    }

    #[test]
    fn of_several_organizations_in_the_token_the_caller_names_one() {
        let all = [member_of(1), member_of(2), member_of(3)];
        assert_eq!(chosen(&claim(&[1, 2]), &all), Err("ORGANIZATION_UNNAMED"));
        assert_eq!(chosen(&Named { claim: claim(&[1, 2]).claim, ..argument(2) }, &all), Ok(2));
        assert_eq!(chosen(&Named { claim: claim(&[1, 2]).claim, ..argument(3) }, &all), Err("ORGANIZATION_CONFLICT"));
        assert_eq!(chosen(&claim(&[2, 9]), &all), Ok(2), "the subject is a member of one of them only");
        assert_eq!(chosen(&claim(&[]), &all), Err("MEMBERSHIP_MISSING"), "a token for no organization serves none");
    }

    #[test]
    fn a_token_for_one_organization_never_serves_another() {
        let both = [member_of(1), member_of(2)];
        let named = Named { claim: claim(&[1]).claim, ..argument(2) };
        assert_eq!(chosen(&named, &both), Err("ORGANIZATION_CONFLICT"));
    }

    #[test]
    fn a_foreign_and_an_unknown_organization_look_the_same() {
        let one = [member_of(1)];
        let named = Named { claim: claim(&[1]).claim, ..argument(9) };
        assert_eq!(choose(&named, &one, NOW), choose(&argument(9), &one, NOW));
        assert_eq!(chosen(&claim(&[9]), &one), Err("MEMBERSHIP_MISSING"));
        assert_eq!(chosen(&claim(&[]), &one), Err("MEMBERSHIP_MISSING"));
    }

    #[test]
    fn what_has_to_be_read_is_what_can_matter() {
        assert_eq!(Named::default().candidates(), None);
        assert_eq!(argument(1).candidates(), Some(vec![Uuid::from_u128(1)]));
        assert_eq!(claim(&[1, 2]).candidates().map(|all| all.len()), Some(2));
        assert_eq!(Named { claim: claim(&[1, 2]).claim, ..argument(3) }.candidates(), argument(3).candidates());
    }

    #[test]
    fn without_a_name_only_a_single_membership_decides() {
        assert_eq!(chosen(&Named::default(), &[member_of(1)]), Ok(1));
        assert_eq!(chosen(&Named::default(), &[member_of(1), member_of(2)]), Err("ORGANIZATION_UNNAMED"));
        assert_eq!(chosen(&Named::default(), &[]), Err("MEMBERSHIP_MISSING"));
        let suspended = Membership { active: false, ..member_of(2) };
        assert_eq!(chosen(&Named::default(), &[member_of(1), suspended]), Ok(1));
    }

    #[test]
    fn a_suspended_or_ended_membership_gives_no_access_and_says_so() {
        let cases = [
            (Membership { active: false, ..member_of(1) }, "The membership is suspended."),
            (Membership { organization_active: false, ..member_of(1) }, "The organization is suspended."),
            (Membership { valid_until: Some(NOW), ..member_of(1) }, "The membership has ended."),
        ];
        for (membership, detail) in cases {
            for named in [argument(1), Named::default()] {
                let error = choose(&named, std::slice::from_ref(&membership), NOW).unwrap_err();
                assert_eq!((error.kind.name, error.detail.as_deref()), ("MEMBERSHIP_MISSING", Some(detail)));
            }
        }
        let still = Membership { valid_until: Some(NOW + 1), ..member_of(1) };
        assert_eq!(chosen(&argument(1), &[still]), Ok(1));
    }
}
