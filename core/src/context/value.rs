//! The fields of a context, and their encoding as the text of the setting.

use crate::controls::permission_set::PermissionSet;
use crate::error::{self, Result};
use serde::{Deserialize, Serialize};
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

/// The method of a transaction that is elevated by a break-glass grant.
pub const ELEVATED: &str = "elevated";

/// What a break-glass grant adds to the identity of a transaction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Elevation {
    /// Id of the grant.
    pub grant: Uuid,
    /// What it permits beside the role. A denial of the role still holds.
    pub permissions: PermissionSet,
    /// The guardrails that may be passed.
    pub overrides: Vec<String>,
    /// When the grant ends by its time, in microseconds since 1970 UTC. Whether it still counts stands in its row.
    pub ends_at: i64,
}

/// The method of an operator who assumed an organization.
pub const ASSUMED: &str = "assumed";

/// The verified identity of a transaction or session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Context {
    // Scope and correlation id stand first, so that the rest of the encoding is one piece: see `EncodedContext`.
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
    /// What `role` permits, without what an elevation adds. [`Context::allows`] has both.
    pub permissions: PermissionSet,
    /// What a break-glass grant adds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elevation: Option<Elevation>,
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

impl Context {
    /// Whether `action` is permitted in `domain`, by the role or by an elevation.
    pub fn allows(&self, domain: &str, action: &str) -> bool {
        self.permissions.allows(domain, action) || self.is_elevated_to(domain, action)
    }

    /// Whether an elevation permits what the role does not: a denial of either wins.
    fn is_elevated_to(&self, domain: &str, action: &str) -> bool {
        let elevation = self.elevation.as_ref();
        elevation.is_some_and(|elevation| elevation.permissions.allows(domain, action))
            && !self.permissions.denies(domain, action)
    }

    /// Encodes the context as the text of the setting: JSON.
    ///
    /// Errors: `STATE_INVALID`.
    pub fn encode(&self) -> Result<String> {
        to_json(self)
    }

    /// The encoding of scope and correlation id, which is its beginning.
    fn beginning(&self) -> Result<String> {
        let (scope, correlation_id) = (self.scope.name(), to_json(&self.correlation_id)?);
        Ok(format!("{{\"scope\":\"{scope}\",\"correlation_id\":{correlation_id},"))
    }

    /// The same identity with what a grant adds, until the end of the transaction.
    pub fn elevated_by(&self, elevation: Elevation) -> Context {
        let method = ELEVATED.into();
        Context { scope: Scope::Transaction, method, elevation: Some(elevation), ..self.clone() }
    }

    /// Whether an operator assumed the organization, without a token.
    pub fn is_assumed(&self) -> bool {
        self.method == ASSUMED
    }

    /// Whether both contexts have the same subject, issuer and organization.
    pub fn is_of_the_same(&self, other: &Context) -> bool {
        self.organization.id == other.organization.id && self.issuer == other.issuer && self.subject == other.subject
    }

    /// Whether both are equal but for scope and correlation id.
    pub fn differs_by_call_alone(&self, other: &Context) -> bool {
        let Context {
            scope: _,
            correlation_id: _,
            method,
            organization,
            subject,
            issuer,
            role,
            membership_role,
            key_id,
            session_id,
            reason,
            expires_at,
            permissions,
            elevation,
            claims,
        } = self;
        (method, organization, subject, issuer, role, membership_role, claims)
            == (
                &other.method,
                &other.organization,
                &other.subject,
                &other.issuer,
                &other.role,
                &other.membership_role,
                &other.claims,
            )
            && (key_id, session_id, reason, expires_at, permissions, elevation)
                == (
                    &other.key_id,
                    &other.session_id,
                    &other.reason,
                    &other.expires_at,
                    &other.permissions,
                    &other.elevation,
                )
    }

    /// Decodes the text of the setting.
    ///
    /// Errors: `STATE_INVALID` if the text is not an encoded context.
    pub fn decode(text: &str) -> Result<Self> {
        serde_json::from_str(text)
            .map_err(|_| error::STATE_INVALID.error("the context of the transaction is unreadable"))
    }
}

/// A context and its encoding, of which each call takes one with a scope and a correlation id of its own.
pub struct EncodedContext {
    context: Rc<Context>,
    /// The part of the encoding that is the same for every scope and correlation id.
    identity: String,
}

impl EncodedContext {
    /// Encodes a context.
    ///
    /// Errors: `STATE_INVALID`.
    pub fn new(context: Context) -> Result<Self> {
        let (mut text, beginning) = (context.encode()?, context.beginning()?);
        if !text.starts_with(&beginning) {
            return Err(not_encoded());
        }
        text.drain(..beginning.len());
        Ok(EncodedContext { context: Rc::new(context), identity: text })
    }

    /// As it was encoded.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// The context of a call, and its encoding.
    ///
    /// Errors: `STATE_INVALID`.
    pub fn for_call(&self, scope: Scope, correlation_id: Option<&str>) -> Result<(Rc<Context>, String)> {
        let context = if self.context.scope == scope && self.context.correlation_id.as_deref() == correlation_id {
            Rc::clone(&self.context)
        } else {
            let correlation_id = correlation_id.map(str::to_owned);
            Rc::new(Context { scope, correlation_id, ..Context::clone(&self.context) })
        };
        let text = context.beginning()? + &self.identity;
        Ok((context, text))
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
    use crate::controls::permission_set::Rule;

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
            permissions: PermissionSet::all(),
            elevation: None,
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

    fn set(rules: &[&str]) -> PermissionSet {
        rules.iter().map(|rule| Rule::parse(rule).unwrap()).collect()
    }

    fn elevation(rules: &[&str]) -> Elevation {
        Elevation { grant: Uuid::from_u128(1), permissions: set(rules), overrides: vec![], ends_at: 9 }
    }

    #[test]
    fn an_elevation_adds_what_no_rule_of_either_denies() {
        let reader = Context { permissions: set(&["*:read", "!secret:*"]), ..context() };
        let elevated = reader.elevated_by(elevation(&["finding:*", "!finding:purge", "secret:reveal"]));
        assert!(!reader.allows("finding", "delete") && elevated.allows("finding", "delete"));
        assert!(elevated.allows("invoice", "read") && !elevated.allows("invoice", "delete"));
        assert!(!elevated.allows("finding", "purge"), "what the elevation denies");
        assert!(!elevated.allows("secret", "reveal"), "what the role denies");
        let text = elevated.encode().unwrap();
        assert_eq!(Context::decode(&text).unwrap(), elevated);
        assert!(!reader.encode().unwrap().contains("elevation"));
    }

    #[test]
    fn one_identity_is_encoded_for_every_scope_and_correlation_id() {
        let encoded = EncodedContext::new(context()).unwrap();
        for scope in [Scope::Session, Scope::Transaction] {
            for correlation_id in [None, Some("r-1"), Some("\"}\n,{"), context().correlation_id.as_deref()] {
                let other = Context { scope, correlation_id: correlation_id.map(str::to_owned), ..context() };
                let (of_call, text) = encoded.for_call(scope, correlation_id).unwrap();
                assert_eq!(*of_call, other);
                assert_eq!(text, other.encode().unwrap());
                assert!(other.differs_by_call_alone(&context()));
            }
        }
    }

    #[test]
    fn contexts_that_differ_by_more_than_the_call_are_others() {
        let changes: [fn(&mut Context); 13] = [
            |other| other.method.push('x'),
            |other| other.organization.id = Uuid::from_u128(8),
            |other| other.subject.push('x'),
            |other| other.issuer.push('x'),
            |other| other.role.push('x'),
            |other| other.membership_role.push('x'),
            |other| other.key_id = Some("x".into()),
            |other| other.session_id = Some("x".into()),
            |other| other.reason = Some("x".into()),
            |other| other.expires_at -= 1,
            |other| other.permissions = set(&["*:*", "!a:b"]),
            |other| *other = other.elevated_by(elevation(&["a:b"])),
            |other| other.claims.push('x'),
        ];
        for (number, change) in changes.iter().enumerate() {
            let mut other = context();
            change(&mut other);
            assert!(!other.differs_by_call_alone(&context()), "{number}");
        }
    }
}
