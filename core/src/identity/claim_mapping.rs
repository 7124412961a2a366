//! The claims in which an issuer's tokens carry the organization and the role.
//!
//! RFC 7519 defines neither, so each provider has its own claims. A preset follows the documentation of one provider
//! (`docs/providers/`); the configuration of an issuer can replace every pointer of a preset.

use std::str::FromStr;

use serde_json::Value;

use super::token::Claims;
use crate::error::{CLAIM_INVALID, Error, Result};

/// The claims of one provider. Pointers are RFC 6901 JSON pointers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// Name of the preset in SQL, such as `clerk_v2`.
    pub name: &'static str,
    /// Pointer to the claim that names the organization; `None` where tokens have no such claim.
    pub organization_claim: Option<&'static str>,
    /// The JSON form of the organization claim.
    pub organization_form: OrganizationForm,
    /// Pointer to the claim that names roles; `None` where the role comes from the membership only.
    pub role_claim: Option<&'static str>,
    /// Pointer to the claim that names the recipient: `/aud`, or a substitute such as `/azp`.
    pub audience_claim: &'static str,
    /// Pointer to a claim whose value must be a segment of the path of `iss`; `None` for no such condition.
    pub issuer_binding: Option<&'static str>,
}

/// The JSON form in which the organization claim names organizations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrganizationForm {
    /// One string, which names one organization.
    Text,
    /// An object or an array that can name several organizations.
    ///
    /// The object has a member for each organization, named by its alias and with an optional `id` inside. The array
    /// holds aliases. Keycloak's organization membership mapper writes both forms.
    Keyed,
}

/// The rule that chooses between the role of the token and the role of the membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleRule {
    /// The role of the membership; the role claim is not read.
    Membership,
    /// The role of the token; the membership only has to exist.
    Claim,
    /// The role of the two that permits less.
    Narrower,
}

const GENERIC: Preset = Preset {
    name: "generic",
    organization_claim: Some("/org_id"),
    organization_form: OrganizationForm::Text,
    role_claim: None,
    audience_claim: "/aud",
    issuer_binding: None,
};

/// Every preset, in the order of the documentation.
pub const PRESETS: [Preset; 10] = [
    GENERIC,
    // Top-level "role" is a database role there, and user_metadata is the user's to edit: neither is ever read.
    Preset { name: "supabase", organization_claim: Some("/app_metadata/org_id"), ..GENERIC },
    Preset { name: "supabase_hook", role_claim: Some("/org_role"), ..GENERIC },
    Preset { name: "auth0", ..GENERIC },
    // Session tokens have no "aud"; "azp" is the origin of the application that they are for.
    Preset { name: "clerk_v1", role_claim: Some("/org_role"), audience_claim: "/azp", ..GENERIC },
    Preset {
        name: "clerk_v2",
        organization_claim: Some("/o/id"),
        role_claim: Some("/o/rol"),
        audience_claim: "/azp",
        ..GENERIC
    },
    Preset { name: "workos", role_claim: Some("/role"), ..GENERIC },
    Preset {
        name: "keycloak",
        organization_claim: Some("/organization"),
        organization_form: OrganizationForm::Keyed,
        ..GENERIC
    },
    // All tenants' tokens are signed with the same keys: the issuer must be the one of the tenant.
    Preset { name: "entra", organization_claim: Some("/tid"), issuer_binding: Some("/tid"), ..GENERIC },
    // No claim for the organization: the issuer is one customer's own, or memberships decide.
    Preset { name: "okta", organization_claim: None, ..GENERIC },
];

impl Preset {
    /// The preset of that name; `None` if no preset has it.
    pub fn named(name: &str) -> Option<&'static Preset> {
        PRESETS.iter().find(|preset| preset.name == name)
    }
}

impl OrganizationForm {
    /// The word in SQL: `text` or `keyed`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Keyed => "keyed",
        }
    }
}

impl RoleRule {
    /// The word in SQL: `membership`, `claim` or `narrower`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Membership => "membership",
            Self::Claim => "claim",
            Self::Narrower => "narrower",
        }
    }
}

impl FromStr for OrganizationForm {
    type Err = ();

    fn from_str(name: &str) -> std::result::Result<Self, ()> {
        [Self::Text, Self::Keyed].into_iter().find(|form| form.name() == name).ok_or(())
    }
}

impl FromStr for RoleRule {
    type Err = ();

    fn from_str(name: &str) -> std::result::Result<Self, ()> {
        [Self::Membership, Self::Claim, Self::Narrower].into_iter().find(|rule| rule.name() == name).ok_or(())
    }
}

/// Whether the text is a JSON pointer (RFC 6901 section 3) that names a member of the claims.
pub fn is_pointer(text: &str) -> bool {
    // An escape is ~0 or ~1; a lone tilde is a mistake that would silently find nothing.
    text.starts_with('/') && text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']))
}

/// The organizations that the claim at `pointer` names; `None` if the claim is absent or null.
///
/// Errors: [`CLAIM_INVALID`] for a claim of another form.
pub fn organizations<'c>(claims: &'c Claims, pointer: &str, form: OrganizationForm) -> Result<Option<Vec<&'c str>>> {
    let named = match (claims.at(pointer), form) {
        (None | Some(Value::Null), _) => return Ok(None),
        (Some(Value::String(name)), OrganizationForm::Text) => vec![name.as_str()],
        (Some(Value::Array(aliases)), OrganizationForm::Keyed) => {
            let aliases: Option<Vec<&str>> = aliases.iter().map(Value::as_str).collect();
            aliases.ok_or_else(wrong_organization)?
        }
        (Some(Value::Object(members)), OrganizationForm::Keyed) => {
            let name = |(alias, inside): (&'c String, &'c Value)| match (inside.get("id"), inside.is_object()) {
                // The alias is the customer's to choose: beside an id it names nothing.
                (Some(Value::String(id)), _) => Ok(id.as_str()),
                (None, true) => Ok(alias.as_str()),
                _ => Err(wrong_organization()),
            };
            members.iter().map(name).collect::<Result<_>>()?
        }
        _ => return Err(wrong_organization()),
    };
    // An empty set is a user without any organization, not a token that leaves the choice to the caller.
    Ok(Some(named))
}

fn wrong_organization() -> Error {
    CLAIM_INVALID.error("the organization claim of the token is not of the form that is expected").detail(
        "Expected is a string, or for the form \"keyed\" an object of organizations or an array of their aliases.",
    )
}

/// The roles that the claim at `pointer` names: none if the claim is absent or null.
///
/// Errors: [`CLAIM_INVALID`] for a claim that is neither a string nor an array of strings.
pub fn roles<'c>(claims: &'c Claims, pointer: &str) -> Result<Vec<&'c str>> {
    let wrong = || CLAIM_INVALID.error("the role claim of the token is neither a string nor an array of strings");
    match claims.at(pointer) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(role)) => Ok(vec![role]),
        Some(Value::Array(roles)) => roles.iter().map(|role| role.as_str().ok_or_else(wrong)).collect(),
        Some(_) => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::token::Claims;
    use serde_json::json;

    fn organizations_in(
        claim: Value,
        form: OrganizationForm,
    ) -> std::result::Result<Option<Vec<String>>, &'static str> {
        let claims = Claims::of(&json!({ "org": claim }));
        let found = organizations(&claims, "/org", form).map_err(|error| error.kind.name)?;
        Ok(found.map(|all| all.into_iter().map(str::to_owned).collect()))
    }

    fn names(all: &[&str]) -> Option<Vec<String>> {
        Some(all.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn a_text_names_one_organization_and_nothing_else_does() {
        assert_eq!(organizations_in(json!("acme"), OrganizationForm::Text), Ok(names(&["acme"])));
        assert_eq!(organizations_in(Value::Null, OrganizationForm::Text), Ok(None));
        for claim in [json!(1), json!(["acme"]), json!({"acme": {}}), json!(true)] {
            assert_eq!(organizations_in(claim.clone(), OrganizationForm::Text), Err("CLAIM_INVALID"), "{claim}");
        }
    }

    // https://www.keycloak.org/docs/latest/server_admin/#_managing_organizations, "Mapping organization claims".
    #[test]
    fn keycloaks_organizations_are_named_by_id_or_where_there_is_none_by_alias() {
        let keyed = OrganizationForm::Keyed;
        assert_eq!(organizations_in(json!({"acme": {"id": "42c3", "tier": ["gold"]}}), keyed), Ok(names(&["42c3"])));
        assert_eq!(organizations_in(json!({"acme": {}}), keyed), Ok(names(&["acme"])));
        assert_eq!(organizations_in(json!(["acme", "bolt"]), keyed), Ok(names(&["acme", "bolt"])));
        assert_eq!(
            organizations_in(json!({}), keyed),
            Ok(names(&[])),
            "no organization, which is not the same as unnamed"
        );
        for claim in [json!("acme"), json!({"acme": 1}), json!({"acme": {"id": 1}}), json!([1]), json!({"acme": null})]
        {
            assert_eq!(organizations_in(claim.clone(), keyed), Err("CLAIM_INVALID"), "{claim}");
        }
    }

    #[test]
    fn roles_are_a_string_or_an_array_of_strings() {
        let found = |claim: Value| {
            let claims = Claims::of(&json!({ "role": claim }));
            roles(&claims, "/role").map(|roles| roles.join(",")).map_err(|error| error.kind.name)
        };
        assert_eq!(found(json!("org:admin")), Ok("org:admin".to_owned()));
        assert_eq!(found(json!(["a", "b"])), Ok("a,b".to_owned()));
        assert_eq!(found(Value::Null), Ok(String::new()));
        for claim in [json!(1), json!([1]), json!({"admin": true})] {
            assert_eq!(found(claim.clone()), Err("CLAIM_INVALID"), "{claim}");
        }
    }

    /// A token of each provider, with the members in the example of its documentation.
    #[test]
    fn each_preset_finds_what_its_provider_writes() {
        let tokens = [
            ("generic", json!({"aud": "db", "org_id": "acme"}), Some("acme"), None),
            (
                "supabase",
                json!({"aud": "db", "role": "authenticated", "app_metadata": {"provider": "email", "org_id": "acme"},
                       "user_metadata": {"org_id": "bolt"}, "aal": "aal1", "session_id": "s"}),
                Some("acme"),
                None,
            ),
            ("supabase_hook", json!({"aud": "db", "org_id": "acme", "org_role": "admin"}), Some("acme"), Some("admin")),
            ("auth0", json!({"aud": ["db"], "azp": "x", "org_id": "acme", "permissions": ["a"]}), Some("acme"), None),
            (
                "clerk_v1",
                json!({"azp": "db", "sid": "s", "org_id": "acme", "org_role": "org:admin"}),
                Some("acme"),
                Some("org:admin"),
            ),
            (
                "clerk_v2",
                json!({"azp": "db", "v": 2, "o": {"id": "acme", "slg": "a", "rol": "admin"}}),
                Some("acme"),
                Some("admin"),
            ),
            (
                "workos",
                json!({"aud": "db", "sid": "s", "org_id": "acme", "role": "member"}),
                Some("acme"),
                Some("member"),
            ),
            ("keycloak", json!({"aud": "db", "organization": {"a": {"id": "acme"}}}), Some("acme"), None),
            ("entra", json!({"aud": "db", "tid": "acme", "oid": "o"}), Some("acme"), None),
            ("okta", json!({"aud": "db", "org_id": "bolt", "groups": ["g"]}), None, None),
        ];
        assert_eq!(tokens.len(), PRESETS.len());
        for (name, claims, organization, role) in tokens {
            let preset = Preset::named(name).unwrap();
            let claims = Claims::of(&claims);
            let found =
                preset.organization_claim.map(|at| organizations(&claims, at, preset.organization_form).unwrap());
            assert_eq!(found.flatten().map(|all| all[0]), organization, "{name}");
            assert_eq!(preset.role_claim.and_then(|at| roles(&claims, at).unwrap().pop()), role, "{name}");
            assert!(claims.at(preset.audience_claim).is_some(), "{name}");
        }
    }

    #[test]
    fn every_pointer_of_a_preset_is_one_and_a_lone_tilde_is_none() {
        for preset in PRESETS {
            for pointer in [preset.organization_claim, preset.role_claim, preset.issuer_binding].into_iter().flatten() {
                assert!(is_pointer(pointer), "{pointer}");
            }
        }
        assert!(is_pointer("/https:~1~1ns~1roles") && is_pointer("/a~0b"));
        for text in ["", "org_id", "/a~", "/a~2b", "$.org_id"] {
            assert!(!is_pointer(text), "{text}");
        }
    }
}
