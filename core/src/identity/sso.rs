//! Single sign-on of an organization: the conditions that tokens of its members must meet once it is enforced.

use super::token::Claims;
use serde_json::Value;

/// The conditions of an enforced connection. An empty list is no condition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Connection {
    /// The `iss` that the token must have.
    pub issuer: String,
    /// Authentication methods (RFC 8176), of which `amr` must contain one.
    pub methods: Vec<String>,
    /// Authentication context classes, of which `acr` must be one (OpenID Connect Core 1.0 section 2).
    pub contexts: Vec<String>,
    /// Assurance levels of Supabase, of which `aal` must be one.
    pub levels: Vec<String>,
    /// Verified domains, in lower case, of which the e-mail address must have one.
    pub domains: Vec<String>,
    /// The subject that may sign in without meeting the conditions; `None` if there is no such subject.
    pub break_glass: Option<BreakGlass>,
}

/// The one admin to whom the conditions of a connection do not apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakGlass {
    /// The `iss` of the admin's tokens.
    pub issuer: String,
    /// The `sub` of the admin's tokens, unique only within the issuer.
    pub subject: String,
}

/// The parts of a verified token that the conditions examine.
#[derive(Clone, Copy)]
pub struct Presented<'a> {
    /// The `iss` of the token.
    pub issuer: &'a str,
    /// The `sub` of the token.
    pub subject: &'a str,
    /// All claims of the token, for `amr`, `acr`, `aal`, `email` and `email_verified`.
    pub claims: &'a Claims,
}

/// The first condition that a token does not meet. Variants are in the order of the checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DenialReason {
    /// The `iss` is not that of the connection.
    Issuer,
    /// `amr` contains none of the accepted authentication methods.
    Method,
    /// `acr` is none of the accepted context classes.
    Context,
    /// `aal` is none of the accepted assurance levels.
    Level,
    /// The token has no verified `email` in an accepted domain.
    Domain,
}

impl DenialReason {
    /// A sentence for the member: it names the condition, but not the accepted values.
    pub fn describe(self) -> &'static str {
        match self {
            DenialReason::Issuer => "The token is of another issuer than single sign-on asks for.",
            DenialReason::Method => "The token's \"amr\" shows no authentication method that single sign-on accepts.",
            DenialReason::Context => "The token's \"acr\" is none that single sign-on accepts.",
            DenialReason::Level => "The token's \"aal\" is none that single sign-on accepts.",
            DenialReason::Domain => "The token has no verified \"email\" in a domain that single sign-on accepts.",
        }
    }
}

impl Connection {
    /// The first condition that the token does not meet; `None` if it meets all.
    pub fn denial_reason(&self, token: Presented) -> Option<DenialReason> {
        let text = |claim: &str| token.claims.at(claim).and_then(Value::as_str);
        let is_one_of = |accepted: &[String], claim: &str| {
            accepted.is_empty() || text(claim).is_some_and(|value| accepted.iter().any(|accepted| accepted == value))
        };
        if token.issuer != self.issuer {
            Some(DenialReason::Issuer)
        } else if !self.accepts_methods(token.claims) {
            Some(DenialReason::Method)
        } else if !is_one_of(&self.contexts, "/acr") {
            Some(DenialReason::Context)
        } else if !is_one_of(&self.levels, "/aal") {
            Some(DenialReason::Level)
        } else if !self.accepts_address(token.claims) {
            Some(DenialReason::Domain)
        } else {
            None
        }
    }

    fn accepts_methods(&self, claims: &Claims) -> bool {
        self.methods.is_empty()
            || methods(claims).is_some_and(|shown| shown.iter().any(|shown| self.methods.iter().any(|m| m == shown)))
    }

    fn accepts_address(&self, claims: &Claims) -> bool {
        self.domains.is_empty() || domain(claims).is_some_and(|domain| self.domains.contains(&domain))
    }

    fn breaks_glass_for(&self, token: Presented) -> bool {
        self.break_glass.as_ref().is_some_and(|admin| admin.issuer == token.issuer && admin.subject == token.subject)
    }
}

/// Whether the enforced connections of an organization admit the token.
///
/// Without enforced connections every token is admitted; otherwise the token must meet all conditions of one
/// connection. The error is the reason of the connection that the token came closest to. A member with the right issuer
/// therefore learns which condition failed.
pub fn admit(enforced: &[Connection], token: Presented) -> Result<(), DenialReason> {
    let mut nearest = None;
    for connection in enforced {
        match connection.denial_reason(token) {
            None => return Ok(()),
            denial_reason => nearest = nearest.max(denial_reason),
        }
    }
    nearest.map_or(Ok(()), Err)
}

/// Whether one of the connections names the token's subject as its break-glass admin.
pub fn breaks_glass(enforced: &[Connection], token: Presented) -> bool {
    enforced.iter().any(|connection| connection.breaks_glass_for(token))
}

/// The methods in `amr`; `None` if any part of the claim cannot be read.
///
/// The claim is an array of strings (OpenID Connect Core 1.0 section 2), or of objects with a string `method`
/// (Supabase).
fn methods(claims: &Claims) -> Option<Vec<&str>> {
    claims.at("/amr")?.as_array()?.iter().map(method).collect()
}

fn method(entry: &Value) -> Option<&str> {
    match entry {
        Value::String(method) => Some(method),
        Value::Object(entry) => entry.get("method")?.as_str(),
        _ => None,
    }
}

/// The domain of `email` in lower case; `None` if there is no such address or the provider marks it as unverified.
fn domain(claims: &Claims) -> Option<String> {
    match claims.at("/email_verified") {
        None | Some(Value::Null | Value::Bool(true)) => {}
        // Some providers write it as a string.
        Some(Value::String(text)) if text == "true" => {}
        Some(_) => return None,
    }
    let (local, domain) = claims.at("/email")?.as_str()?.rsplit_once('@')?;
    // An address with a second @ is legal only in quotes (RFC 5321 section 4.1.2), and read differently by everybody.
    let plain = !local.is_empty() && !local.contains('@');
    // ASCII alone: other alphabets have capitals that fold into ASCII letters, the Kelvin sign for instance.
    plain.then(|| domain.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const ISSUER: &str = "https://sso.acme.example/";

    fn strings(values: &[&str]) -> Vec<String> {
        values.iter().map(|value| value.to_string()).collect()
    }

    fn connection() -> Connection {
        Connection { issuer: ISSUER.into(), ..Connection::default() }
    }

    fn denial_reason(connection: &Connection, claims: Value) -> Option<DenialReason> {
        connection.denial_reason(Presented { issuer: ISSUER, subject: "alice", claims: &Claims::of(&claims) })
    }

    fn admitted(enforced: &[Connection], issuer: &str, claims: Value) -> Result<(), DenialReason> {
        admit(enforced, Presented { issuer, subject: "alice", claims: &Claims::of(&claims) })
    }

    #[test]
    fn without_an_enforced_connection_every_token_is_let_in() {
        assert_eq!(admitted(&[], "https://anybody.example/", json!({})), Ok(()));
    }

    #[test]
    fn only_the_issuer_of_the_connection_is_let_in_and_compared_exactly() {
        assert_eq!(admitted(&[connection()], ISSUER, json!({})), Ok(()));
        for other in ["https://sso.acme.example", "https://SSO.acme.example/", "", "https://sso.acme.example/x"] {
            assert_eq!(admitted(&[connection()], other, json!({})), Err(DenialReason::Issuer), "{other}");
        }
    }

    #[test]
    fn one_accepted_method_is_enough_in_either_form() {
        let strict = Connection { methods: strings(&["mfa", "hwk", "sso/saml"]), ..connection() };
        for amr in [
            json!(["mfa"]),
            json!(["pwd", "hwk"]),
            json!([{"method": "password", "timestamp": 1}, {"method": "sso/saml", "timestamp": 2}]),
            json!(["pwd", {"method": "mfa"}]),
        ] {
            assert_eq!(denial_reason(&strict, json!({"amr": amr})), None, "{amr}");
        }
        assert_eq!(denial_reason(&connection(), json!({"amr": 7})), None, "nothing is asked for");
    }

    #[test]
    fn an_amr_that_shows_no_accepted_method_or_cannot_be_read_is_refused() {
        let strict = Connection { methods: strings(&["mfa"]), ..connection() };
        for claims in [
            json!({}),
            json!({"amr": null}),
            json!({"amr": []}),
            json!({"amr": ["pwd"]}),
            json!({"amr": ["MFA"]}),
            json!({"amr": "mfa"}),
            json!({"amr": {"method": "mfa"}}),
            json!({"amr": {"0": "mfa"}}),
            json!({"amr": [["mfa"]]}),
            json!({"amr": ["mfa", 1]}),
            json!({"amr": ["mfa", null]}),
            json!({"amr": [{"method": ["mfa"]}]}),
            json!({"amr": [{"methods": "mfa"}]}),
            json!({"amr": ["mfa pwd"]}),
        ] {
            assert_eq!(denial_reason(&strict, claims.clone()), Some(DenialReason::Method), "{claims}");
        }
    }

    #[test]
    fn acr_and_aal_must_be_strings_that_are_accepted() {
        let strict = Connection { contexts: strings(&["urn:gold"]), levels: strings(&["aal2"]), ..connection() };
        assert_eq!(denial_reason(&strict, json!({"acr": "urn:gold", "aal": "aal2"})), None);
        for acr in [json!(null), json!("urn:silver"), json!(["urn:gold"]), json!(2), json!("urn:gold urn:silver")] {
            assert_eq!(
                denial_reason(&strict, json!({"acr": acr, "aal": "aal2"})),
                Some(DenialReason::Context),
                "{acr}"
            );
        }
        for aal in [json!(null), json!("aal1"), json!("AAL2"), json!(2), json!(["aal2"]), json!("")] {
            assert_eq!(
                denial_reason(&strict, json!({"acr": "urn:gold", "aal": aal})),
                Some(DenialReason::Level),
                "{aal}"
            );
        }
    }

    #[test]
    fn the_address_must_lie_in_a_verified_domain() {
        let strict = Connection { domains: strings(&["acme.example", "acme.test"]), ..connection() };
        for email in ["ann@acme.example", "Ann@ACME.example", "a+b.c@acme.test"] {
            assert_eq!(denial_reason(&strict, json!({"email": email})), None, "{email}");
        }
        for email in [
            json!(null),
            json!("ann"),
            json!("acme.example"),
            json!("@acme.example"),
            json!("ann@sub.acme.example"),
            json!("ann@evilacme.example"),
            json!("ann@acme.example.evil.example"),
            json!("ann@acme.example."),
            json!("ann@acme.example "),
            json!("ann@acme.example\n"),
            json!("ann@evil.example@acme.example"),
            json!("ann@acme.example@evil.example"),
            json!("ann@\u{212a}acme.example"),
            json!(["ann@acme.example"]),
            json!({"value": "ann@acme.example"}),
        ] {
            assert_eq!(denial_reason(&strict, json!({"email": email})), Some(DenialReason::Domain), "{email}");
        }
        let kelvin = Connection { domains: strings(&["k.example"]), ..connection() };
        assert_eq!(denial_reason(&kelvin, json!({"email": "ann@\u{212a}.example"})), Some(DenialReason::Domain));
        assert_eq!(denial_reason(&connection(), json!({"email": 7})), None, "nothing is asked for");
    }

    #[test]
    fn an_address_that_is_not_verified_does_not_count() {
        let strict = Connection { domains: strings(&["acme.example"]), ..connection() };
        for (verified, expected) in [
            (json!(true), None),
            (json!("true"), None),
            (json!(null), None),
            (json!(false), Some(DenialReason::Domain)),
            (json!("false"), Some(DenialReason::Domain)),
            (json!(0), Some(DenialReason::Domain)),
            (json!("no"), Some(DenialReason::Domain)),
            (json!([true]), Some(DenialReason::Domain)),
        ] {
            let claims = json!({"email": "ann@acme.example", "email_verified": verified});
            assert_eq!(denial_reason(&strict, claims), expected, "{verified}");
        }
    }

    #[test]
    fn of_several_connections_one_must_be_met_wholly_and_the_nearest_tells_why_not() {
        let one = Connection { methods: strings(&["mfa"]), ..connection() };
        let other = Connection { issuer: "https://other.example/".into(), levels: strings(&["aal2"]), ..connection() };
        let both = [one, other];
        assert_eq!(admitted(&both, ISSUER, json!({"amr": ["mfa"]})), Ok(()));
        assert_eq!(admitted(&both, "https://other.example/", json!({"aal": "aal2"})), Ok(()));
        // What meets a half of each meets none.
        assert_eq!(admitted(&both, ISSUER, json!({"aal": "aal2"})), Err(DenialReason::Method));
        assert_eq!(admitted(&both, "https://other.example/", json!({"amr": ["mfa"]})), Err(DenialReason::Level));
        assert_eq!(
            admitted(&both, "https://third.example/", json!({"amr": ["mfa"], "aal": "aal2"})),
            Err(DenialReason::Issuer)
        );
    }

    #[test]
    fn the_glass_is_broken_by_issuer_and_subject_together() {
        let admin = BreakGlass { issuer: "https://spare.example/".into(), subject: "root".into() };
        let enforced = [connection(), Connection { break_glass: Some(admin), ..connection() }];
        let claims = Claims::of(&json!({}));
        let breaks = |issuer, subject| breaks_glass(&enforced, Presented { issuer, subject, claims: &claims });
        assert!(breaks("https://spare.example/", "root"));
        assert!(!breaks(ISSUER, "root"));
        assert!(!breaks("https://spare.example/", "alice"));
        assert!(!breaks("", ""));
        assert!(!breaks_glass(&[], Presented { issuer: "https://spare.example/", subject: "root", claims: &claims }));
    }

    proptest! {
        /// No claims of a provider cause a panic, and a strict connection admits only claims that meet its conditions.
        #[test]
        fn odd_claims_neither_panic_nor_let_in(email in "\\PC*", amr in "\\PC*", acr in "\\PC*") {
            let strict = Connection {
                methods: strings(&["mfa"]),
                contexts: strings(&["gold"]),
                domains: strings(&["acme.example"]),
                ..connection()
            };
            let claims = json!({"email": email, "amr": [amr], "acr": acr});
            let fits = amr == "mfa" && acr == "gold" && email.to_ascii_lowercase().ends_with("@acme.example");
            prop_assert!(fits || denial_reason(&strict, claims).is_some());
        }
    }
}
