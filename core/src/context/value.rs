//! The fields of a context, and their encoding as the text of the setting.

use crate::error::{self, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use uuid::Uuid;

/// How long an identity lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Until the end of the transaction: the next one on a pooled connection may have another identity.
    Transaction,
    /// Until the session signs out or ends: the connection belongs to one client.
    Session,
}

impl Scope {
    /// The word in SQL: `transaction` or `session`.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Transaction => "transaction",
            Scope::Session => "session",
        }
    }
}

/// The method of an operator who assumed an organization.
pub const ASSUMED: &str = "assumed";

/// The verified identity of a transaction or session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Context {
    // Scope and correlation id stand first, so that the rest of the encoding is one piece: see `encode_identity`.
    /// How long the identity lasts.
    pub scope: Scope,
    /// The request id that the caller passed, by which its log and the audit events can be joined.
    pub correlation_id: Option<String>,
    /// How the actor was admitted: `token`, `break-glass` past an enforced single sign-on, or `assumed` by an operator.
    pub method: String,
    /// The organization for which the actor acts.
    pub organization: Organization,
    /// `sub` of the token (RFC 7519 section 4.1.2): unique only within the issuer.
    pub subject: String,
    /// `iss` of the token (RFC 7519 section 4.1.1).
    pub issuer: String,
    /// The role within the organization, which is not a database role.
    pub role: String,
    /// The role of the membership. It may be wider than or different from `role`, which the role rule chose.
    pub membership_role: String,
    /// The `kid` of the key that signed the token, for checking its retirement.
    pub key_id: Option<String>,
    /// `sid`, `session_id` or `jti` of the token, for revocation and audit.
    pub session_id: Option<String>,
    /// The stated reason, for methods that require one.
    pub reason: Option<String>,
    /// The token's `exp` with the issuer's leeway, in microseconds since 1970 UTC.
    pub expires_at: i64,
    /// The actions that `role` permits, by domain.
    pub permissions: Permissions,
    /// The token's claims, as JSON text.
    pub claims: String,
}

/// An organization in each of the types that a tenant column may have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Organization {
    /// The id, for columns of type `uuid`: the key of `tenancy.organization`.
    pub id: Uuid,
    /// The value in text columns: the id as text, unless the organization has another text.
    pub text_id: String,
    /// The value in integer columns; `None` if the organization has no such number.
    pub integer_id: Option<i64>,
}

/// The actions that a role permits, by domain. `*` means every domain or every action.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Permissions(Rc<BTreeMap<String, BTreeSet<String>>>);

/// The name that means every domain or every action.
const ANY: &str = "*";

impl Permissions {
    /// Whether the role permits `action` in `domain`.
    pub fn allow(&self, domain: &str, action: &str) -> bool {
        [domain, ANY]
            .iter()
            .filter_map(|domain| self.0.get(*domain))
            .any(|actions| actions.contains(action) || actions.contains(ANY))
    }

    /// Permissions for every action in every domain.
    pub fn all() -> Self {
        [(ANY.to_owned(), ANY.to_owned())].into_iter().collect()
    }

    /// Whether `other` permits every action that this value permits.
    pub fn within(&self, other: &Self) -> bool {
        self.iter().all(|(domain, action)| other.allow(domain, action))
    }

    /// Each pair of domain and action, sorted.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().flat_map(|(domain, actions)| actions.iter().map(move |action| (domain.as_str(), action.as_str())))
    }
}

impl FromIterator<(String, String)> for Permissions {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Self {
        let mut permissions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (domain, action) in pairs {
            permissions.entry(domain).or_default().insert(action);
        }
        Permissions(Rc::new(permissions))
    }
}

impl Context {
    /// Encodes the context as the text of the setting: JSON.
    ///
    /// Errors: `STATE_INVALID`.
    pub fn encode(&self) -> Result<String> {
        to_json(self)
    }

    /// The part of the encoding that is the same for every scope and correlation id.
    ///
    /// Errors: `STATE_INVALID`.
    pub fn encode_identity(&self) -> Result<String> {
        let (text, beginning) = (self.encode()?, self.beginning()?);
        text.strip_prefix(&beginning).map(str::to_owned).ok_or_else(not_encoded)
    }

    /// The encoding, made of what [`Context::encode_identity`] gave for another scope and correlation id.
    ///
    /// Errors: `STATE_INVALID`.
    pub fn encode_with(&self, identity: &str) -> Result<String> {
        Ok(self.beginning()? + identity)
    }

    /// The encoding of scope and correlation id, which is its beginning.
    fn beginning(&self) -> Result<String> {
        let (scope, correlation_id) = (self.scope.name(), to_json(&self.correlation_id)?);
        Ok(format!("{{\"scope\":\"{scope}\",\"correlation_id\":{correlation_id},"))
    }

    /// Whether an operator assumed the organization, without a token.
    pub fn is_assumed(&self) -> bool {
        self.method == ASSUMED
    }

    /// Whether both contexts have the same subject, issuer and organization.
    pub fn is_of_the_same(&self, other: &Context) -> bool {
        self.organization.id == other.organization.id && self.issuer == other.issuer && self.subject == other.subject
    }

    /// Decodes the text of the setting.
    ///
    /// Errors: `STATE_INVALID` if the text is not an encoded context.
    pub fn decode(text: &str) -> Result<Self> {
        serde_json::from_str(text)
            .map_err(|_| error::STATE_INVALID.error("the context of the transaction is unreadable"))
    }
}

fn to_json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|_| not_encoded())
}

fn not_encoded() -> error::Error {
    error::STATE_INVALID.error("the context could not be encoded")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permissions(pairs: &[(&str, &str)]) -> Permissions {
        pairs.iter().map(|(domain, action)| (domain.to_string(), action.to_string())).collect()
    }

    #[test]
    fn a_role_may_do_what_its_matrix_says_and_nothing_else() {
        let viewer = permissions(&[("finding", "read")]);
        assert!(viewer.allow("finding", "read"));
        assert!(!viewer.allow("finding", "update"));
        assert!(!viewer.allow("action", "read"));
    }

    #[test]
    fn a_star_stands_for_every_domain_or_every_action() {
        assert!(permissions(&[("*", "read")]).allow("finding", "read"));
        assert!(!permissions(&[("*", "read")]).allow("finding", "update"));
        assert!(permissions(&[("finding", "*")]).allow("finding", "approve"));
        assert!(permissions(&[("*", "*")]).allow("anything", "at all"));
    }

    #[test]
    fn asking_for_a_star_needs_a_star() {
        assert!(!permissions(&[("finding", "read")]).allow("finding", "*"));
        assert!(!permissions(&[("finding", "read")]).allow("*", "read"));
    }

    #[test]
    fn permissions_lie_within_others_that_permit_all_of_them() {
        let viewer = permissions(&[("finding", "read")]);
        let reader = permissions(&[("*", "read")]);
        let admin = permissions(&[("*", "*")]);
        assert!(viewer.within(&viewer) && viewer.within(&reader) && viewer.within(&admin) && reader.within(&admin));
        assert!(!reader.within(&viewer) && !admin.within(&reader));
        assert!(permissions(&[]).within(&viewer) && !viewer.within(&permissions(&[])));
    }

    fn context() -> Context {
        Context {
            scope: Scope::Session,
            method: "token".into(),
            organization: Organization { id: Uuid::from_u128(7), text_id: "acme \"x\"".into(), integer_id: Some(-1) },
            subject: "auth0|žluť".into(),
            issuer: "https://issuer.example/".into(),
            role: "admin".into(),
            membership_role: "admin".into(),
            key_id: None,
            session_id: None,
            reason: None,
            correlation_id: Some("line\nbreak".into()),
            expires_at: i64::MAX,
            permissions: permissions(&[("*", "*")]),
            claims: r#"{"a":[1,{"b":null}]}"#.into(),
        }
    }

    #[test]
    fn a_context_survives_its_encoding() {
        let context = context();
        let text = context.encode().unwrap();
        assert_eq!(Context::decode(&text).unwrap(), context);
        assert!(!text.contains('\0'));
        assert!(Context::decode("{}").is_err());
    }

    #[test]
    fn one_identity_is_encoded_for_every_scope_and_correlation_id() {
        let identity = context().encode_identity().unwrap();
        for scope in [Scope::Session, Scope::Transaction] {
            for correlation_id in [None, Some("r-1".to_owned()), Some("\"}\n,{".to_owned())] {
                let other = Context { scope, correlation_id, ..context() };
                assert_eq!(other.encode_with(&identity).unwrap(), other.encode().unwrap());
            }
        }
    }
}
