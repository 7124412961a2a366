//! Verifies a token in three steps, each with a type for what is known after it.
//!
//! | type                | what is known                                                                       |
//! |---------------------|-------------------------------------------------------------------------------------|
//! | [`UnverifiedToken`] | the text is well-formed and requests nothing that is never allowed                  |
//! | [`SignedToken`]     | a key of the issuer signed it; true for as long as the issuer keeps its keys        |
//! | [`VerifiedToken`]   | at this moment the token is valid and meant for this audience                       |
//!
//! The last two types are separate so that a cache can store a verified signature, but never a verdict on claims, which
//! changes with time. A cache must drop a [`SignedToken`] when the issuer's policy changes in any way.
//!
//! `aws-lc-rs` provides the cryptographic primitives; this module decides how to call them (RFC 7515, RFC 7519, RFC
//! 8725). The module reads no clock. No error contains a part of the token except a printable issuer.

use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Number, Value};

use super::algorithm::Algorithm;
use super::keys::{Key, KeySet, MAX_KEY_ID_BYTES};
use super::strict_json;
use crate::error::{
    AUDIENCE_REFUSED, CLAIM_INVALID, Error, ISSUER_UNKNOWN, KEY_RETIRED, KEY_UNKNOWN, Result, SIGNATURE_INVALID,
    TOKEN_EXPIRED, TOKEN_MALFORMED, TOKEN_NOT_YET_VALID, TOKEN_REFUSED,
};

/// The longest token that is read, in bytes.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// The longest issuer (`iss`), in bytes.
pub const MAX_ISSUER_BYTES: usize = 2048;

/// The longest subject (`sub`), in bytes; OpenID Connect Core 1.0 section 2 has the same limit.
pub const MAX_SUBJECT_BYTES: usize = 255;

/// The longest issuer that an error names, in bytes.
const MAX_NAMED_ISSUER_BYTES: usize = 200;

/// 9999-12-31T23:59:59Z: the last second that a calendar with four-digit years can show, in Unix seconds.
const MAX_NUMERIC_DATE: i64 = 253_402_300_799;

/// Header members that are refused, each with the reason (as the end of a sentence).
///
/// All other unknown members are ignored, as RFC 7515 section 4 requires.
const REFUSED_HEADER_MEMBERS: [(&str, &str); 8] = [
    ("crit", "no critical extension is supported (RFC 7515 section 4.1.11)"),
    ("b64", "an unencoded payload is not supported (RFC 7797)"),
    ("jku", "keys come from the registered issuer only (RFC 8725 section 3.10)"),
    ("jwk", "keys come from the registered issuer only (RFC 8725 section 3.10)"),
    ("x5u", "keys come from the registered issuer only (RFC 8725 section 3.10)"),
    ("x5c", "keys come from the registered issuer only (RFC 8725 section 3.10)"),
    ("zip", "compressed content is not supported"),
    ("enc", "encrypted tokens are not supported"),
];

/// The conditions that an issuer's tokens must meet.
#[derive(Debug, Clone)]
pub struct IssuerPolicy {
    /// The exact `iss`.
    pub issuer: String,
    /// The names of this database as an audience; `aud` must contain one. If empty, no token is accepted.
    pub audiences: Vec<String>,
    /// JSON pointer to the claim that names the recipients of a token.
    ///
    /// The claim is `/aud`, unless the issuer's tokens have none and name the recipient in another claim, such as
    /// `/azp`.
    pub audience_claim: String,
    /// JSON pointer to a claim whose value must be a segment of the path of `iss`; `None` for no such condition.
    pub issuer_binding: Option<String>,
    /// The algorithms that the issuer may use. If empty, no token is accepted.
    pub algorithms: Vec<Algorithm>,
    /// The issuer's keys.
    pub keys: KeySet,
    /// Retirement times in Unix seconds, by `kid`: from then on tokens signed with the key are refused.
    pub retired_keys: HashMap<String, i64>,
    /// The accepted difference between the clocks of issuer and database, in seconds.
    pub leeway_seconds: u32,
}

impl IssuerPolicy {
    /// The policy with the conditions of RFC 8725 alone: any algorithm that the issuer has a key for, and no leeway.
    pub fn new(issuer: &str, audiences: Vec<String>, keys: KeySet) -> Self {
        Self {
            issuer: issuer.to_owned(),
            audiences,
            audience_claim: "/aud".to_owned(),
            issuer_binding: None,
            algorithms: keys.keys().iter().map(|key| key.algorithm).collect(),
            keys,
            retired_keys: HashMap::new(),
            leeway_seconds: 0,
        }
    }
}

/// A well-formed token of which nothing is proven.
pub struct UnverifiedToken<'t> {
    jws: Jws<'t>,
    issuer: String,
    claims: Claims,
}

/// A compact JWS (RFC 7515 section 7.1) before its payload is read.
///
/// The header requests nothing that is never allowed. The type is public for test vectors alone, whose payloads are not
/// claims.
#[doc(hidden)]
pub struct Jws<'t> {
    /// The signed text: header and payload as they were sent (RFC 7515 section 5.2, step 8).
    signing_input: &'t str,
    payload: &'t str,
    signature: Vec<u8>,
    /// The `alg` of the header: only compared with the algorithm of the key, which decides.
    algorithm: Algorithm,
    key_id: Option<String>,
}

/// All claims of a token, the registered ones included.
pub struct Claims {
    members: Map<String, Value>,
    /// The JSON text as the issuer wrote it, so that the stored evidence is what was signed.
    text: String,
}

/// A token that a key of its issuer signed; its claims are not checked yet.
#[derive(Clone)]
pub struct SignedToken {
    issuer: String,
    algorithm: Algorithm,
    key_id: Option<String>,
    claims: Rc<Claims>,
}

/// A token whose signature and claims were valid at the time of the check.
#[derive(Clone)]
pub struct VerifiedToken {
    /// The `iss`, equal to the policy's.
    pub issuer: String,
    /// The `sub`: unique within the issuer, 1 to 255 bytes, no control characters.
    pub subject: String,
    /// All claims of the token, with the JSON text that was signed.
    pub claims: Rc<Claims>,
    /// The `exp` in Unix seconds, without leeway.
    pub expires_at: i64,
    /// The `iat` in Unix seconds.
    pub issued_at: Option<i64>,
    /// The session at the identity provider: the first of `sid`, `session_id` and `jti` that is present.
    pub session_id: Option<String>,
    /// The `kid` of the key that verified the signature; `None` if the key has none.
    pub key_id: Option<String>,
    /// The algorithm of that key.
    pub algorithm: Algorithm,
}

impl<'t> Jws<'t> {
    /// Splits a compact JWS and reads its header.
    ///
    /// Errors: [`TOKEN_MALFORMED`], [`TOKEN_REFUSED`].
    pub fn parse(token: &'t str) -> Result<Self> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(malformed("it is longer than 16 KiB"));
        }
        // draft-ietf-oauth-rfc8725bis section 3.14: no other character, so no padding, line break or JSON form.
        if !token.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')) {
            return Err(malformed("it holds a character outside of A-Z a-z 0-9 _ - ."));
        }
        let (signing_input, signature) = token.rsplit_once('.').ok_or_else(wrong_number_of_parts)?;
        let (header, payload) = signing_input.split_once('.').ok_or_else(wrong_number_of_parts)?;
        // An encrypted token (RFC 7516) has five parts, of which three more would stand in `payload`.
        if payload.contains('.') {
            return Err(wrong_number_of_parts());
        }
        // A token whose signature was taken off is an unsigned one, whatever its header says.
        if header.is_empty() || payload.is_empty() || signature.is_empty() {
            return Err(malformed("one of its three parts is empty"));
        }

        let header = json_object("header", header)?.members;
        let algorithm = header_algorithm(&header)?;
        check_header_members(&header)?;
        let key_id = header_key_id(&header)?;
        let signature = base64url("signature", signature)?;
        Ok(Self { signing_input, payload, signature, algorithm, key_id })
    }

    /// The decoded payload, which the signature covers together with the header.
    ///
    /// Errors: [`TOKEN_MALFORMED`].
    pub fn payload(&self) -> Result<Vec<u8>> {
        base64url("payload", self.payload)
    }

    /// Verifies the signature and returns the key that made it.
    ///
    /// Errors: [`KEY_UNKNOWN`], [`SIGNATURE_INVALID`].
    pub fn verify<'k>(&self, keys: &'k KeySet) -> Result<&'k Key> {
        let key = keys.find(self.key_id.as_deref(), self.algorithm).ok_or_else(|| {
            KEY_UNKNOWN.error("no key of the issuer fits the token").detail(match self.key_id {
                Some(_) => format!("The issuer has no {} key of the token's \"kid\".", self.algorithm),
                None => format!("The token has no \"kid\", and the issuer has not exactly one {} key.", self.algorithm),
            })
        })?;
        // RFC 8725 section 3.1: the algorithm comes from the key, never from the header.
        if !key.verify(self.signing_input.as_bytes(), &self.signature) {
            return Err(SIGNATURE_INVALID.error("the token's signature is not valid"));
        }
        Ok(key)
    }
}

impl<'t> UnverifiedToken<'t> {
    /// Reads a compact JWS (RFC 7515 section 7.1) with a JSON header and a JSON object of claims.
    ///
    /// Errors: [`TOKEN_MALFORMED`], [`TOKEN_REFUSED`], and [`CLAIM_INVALID`] for an unusable `iss`.
    pub fn parse(token: &'t str) -> Result<Self> {
        let jws = Jws::parse(token)?;
        let claims = json_object("claims", jws.payload)?;
        let issuer = unverified_issuer(&claims)?;
        Ok(Self { jws, issuer, claims })
    }

    /// The `iss` in the claims, for choosing the policy: 1 to 2048 bytes, no control characters.
    ///
    /// The value is not verified yet.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The error for a token whose issuer is unknown or not the expected one.
    pub fn unknown_issuer(&self) -> Error {
        unknown_issuer(&self.issuer)
    }

    /// Checks that the issuer of `policy` signed this token.
    ///
    /// Errors: [`ISSUER_UNKNOWN`], [`TOKEN_REFUSED`], [`KEY_UNKNOWN`], [`SIGNATURE_INVALID`].
    pub fn verify_signature(self, policy: &IssuerPolicy) -> Result<SignedToken> {
        // RFC 8725 section 3.8: the keys that are tried must belong to the issuer that the token names.
        if self.issuer != policy.issuer {
            return Err(self.unknown_issuer());
        }
        if !policy.algorithms.contains(&self.jws.algorithm) {
            return Err(TOKEN_REFUSED.error(format!("the issuer may not use the algorithm {}", self.jws.algorithm)));
        }
        let key = self.jws.verify(&policy.keys)?;
        let claims = Rc::new(self.claims);
        Ok(SignedToken { issuer: self.issuer, algorithm: key.algorithm, key_id: key.kid.clone(), claims })
    }
}

impl SignedToken {
    /// The `iss`, equal to the issuer of the policy under which the signature was verified.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Checks that the token is meant for this database and valid at `now_unix_seconds`.
    ///
    /// Only this method applies the leeway: a token is refused from `exp` + leeway on, and before `nbf` or `iat` -
    /// leeway.
    ///
    /// Errors: [`ISSUER_UNKNOWN`], [`KEY_RETIRED`], [`CLAIM_INVALID`], [`AUDIENCE_REFUSED`], [`TOKEN_EXPIRED`],
    /// [`TOKEN_NOT_YET_VALID`].
    pub fn check_claims(&self, policy: &IssuerPolicy, now_unix_seconds: i64) -> Result<VerifiedToken> {
        // The signature was good under some policy; the audiences and the leeway below are those of this one.
        if self.issuer != policy.issuer {
            return Err(unknown_issuer(&self.issuer));
        }
        // Here and not with the signature, because it passes with time.
        let retired_at = self.key_id.as_ref().and_then(|key_id| policy.retired_keys.get(key_id));
        if retired_at.is_some_and(|retired_at| *retired_at <= now_unix_seconds) {
            return Err(retired_key());
        }
        // Types first: a claim of the wrong type is an error and never an absent claim (CVE-2026-25537).
        let subject = subject(&self.claims)?;
        let audiences = audiences(&self.claims, &policy.audience_claim)?;
        let expires_at = numeric_date(&self.claims, "exp")?.ok_or_else(|| invalid_claim("exp", "is absent"))?;
        let not_before = numeric_date(&self.claims, "nbf")?;
        let issued_at = numeric_date(&self.claims, "iat")?;
        optional_text(&self.claims, "jti")?;
        let session_id = session_id(&self.claims)?;
        if let Some(pointer) = &policy.issuer_binding {
            bound_to_issuer(&self.claims, pointer, &self.issuer)?;
        }

        if !audiences.iter().any(|audience| policy.audiences.iter().any(|accepted| accepted == audience)) {
            return Err(AUDIENCE_REFUSED.error("the token is meant for another audience"));
        }
        let leeway = i64::from(policy.leeway_seconds);
        // RFC 7519 section 4.1.4: not accepted "on or after" the expiration time.
        if now_unix_seconds >= expires_at.saturating_add(leeway) {
            return Err(TOKEN_EXPIRED.error("the token has expired"));
        }
        let latest = now_unix_seconds.saturating_add(leeway);
        for (name, date) in [("nbf", not_before), ("iat", issued_at)] {
            if date.is_some_and(|date| date > latest) {
                return Err(TOKEN_NOT_YET_VALID
                    .error("the token is not valid yet")
                    .detail(format!("Its \"{name}\" lies in the future by more than {leeway} seconds.")));
            }
        }
        Ok(VerifiedToken {
            issuer: self.issuer.clone(),
            subject: subject.to_owned(),
            expires_at,
            issued_at,
            session_id: session_id.map(str::to_owned),
            key_id: self.key_id.clone(),
            algorithm: self.algorithm,
            claims: self.claims.clone(),
        })
    }
}

impl Claims {
    /// Reads claims that were verified before and stored as text; `None` if the text is not strict JSON of an object.
    pub fn kept(text: &str) -> Option<Self> {
        let members = strict_json::parse(text).ok()?.as_object()?.clone();
        Some(Self { members, text: text.to_owned() })
    }

    /// The claim that an RFC 6901 JSON Pointer names, such as `/app_metadata/org_id` or `/https:~1~1ns~1roles`.
    ///
    /// The empty pointer names the whole document, which is not a claim, and gives `None`.
    pub fn at(&self, pointer: &str) -> Option<&Value> {
        let path = pointer.strip_prefix('/')?;
        let end_of_first = path.find('/').unwrap_or(path.len());
        let (first, rest) = path.split_at(end_of_first);
        // RFC 6901 section 4: first ~1, then ~0, so that ~01 becomes ~1 and not a slash.
        self.members.get(&first.replace("~1", "/").replace("~0", "~"))?.pointer(rest)
    }

    #[cfg(test)]
    pub(super) fn of(claims: &Value) -> Self {
        Self { members: claims.as_object().cloned().unwrap_or_default(), text: claims.to_string() }
    }

    /// The JSON text that was signed.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl Deref for Claims {
    type Target = Map<String, Value>;

    fn deref(&self) -> &Map<String, Value> {
        &self.members
    }
}

/// Every session name in a token's claims; a revocation may use any of them.
pub fn session_ids(claims: &Map<String, Value>) -> impl Iterator<Item = &str> {
    SESSION_CLAIMS.iter().filter_map(|name| claims.get(*name)?.as_str())
}

// Claims describe a person and a signature is a credential: none of the types shows them by `{:?}`.

impl fmt::Debug for UnverifiedToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnverifiedToken").field("algorithm", &self.jws.algorithm).finish_non_exhaustive()
    }
}

impl fmt::Debug for SignedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedToken")
            .field("issuer", &self.issuer)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for VerifiedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedToken")
            .field("issuer", &self.issuer)
            .field("algorithm", &self.algorithm)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

// Parts

fn wrong_number_of_parts() -> Error {
    malformed("it does not have exactly three parts")
}

/// Decodes base64url without padding (RFC 7515 section 2).
///
/// Only the canonical encoding of the bytes is accepted, so that a token has one spelling.
fn base64url(part: &str, encoded: &str) -> Result<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(encoded).map_err(|_| malformed(format!("its {part} is not canonical unpadded base64url")))
}

fn json_object(part: &str, encoded: &str) -> Result<Claims> {
    let bytes = base64url(part, encoded)?;
    // RFC 8725 section 3.7.
    let text = String::from_utf8(bytes).map_err(|_| malformed(format!("its {part} is not UTF-8")))?;
    // JSON allows white space before. No provider writes any, and what keeps tokens out of the log knows them by this.
    if !text.starts_with('{') {
        return Err(malformed(format!("its {part} does not begin with a JSON object")));
    }
    match strict_json::parse(&text) {
        Ok(Value::Object(members)) => Ok(Claims { members, text }),
        Ok(_) => Err(malformed(format!("its {part} is not a JSON object"))),
        Err(error) => Err(malformed(format!("its {part} is not strict JSON: {error}"))),
    }
}

// Header

fn header_algorithm(header: &Map<String, Value>) -> Result<Algorithm> {
    let Some(Value::String(name)) = header.get("alg") else {
        return Err(malformed("its header has no \"alg\", or one that is not a string"));
    };
    // RFC 8725 section 3.2. Any casing: libraries that knew only one were fooled by "nOnE" (CVE-2015-2951).
    if name.eq_ignore_ascii_case("none") {
        return Err(TOKEN_REFUSED
            .error("an unsigned token is never accepted")
            .detail("The token's \"alg\" is \"none\"."));
    }
    name.parse().map_err(|_| TOKEN_REFUSED.error("the token's \"alg\" is not a supported algorithm"))
}

fn check_header_members(header: &Map<String, Value>) -> Result<()> {
    for (member, reason) in REFUSED_HEADER_MEMBERS {
        if header.contains_key(member) {
            return Err(TOKEN_REFUSED
                .error(format!("the token's header may not hold \"{member}\""))
                .detail(format!("The reason: {reason}.")));
        }
    }
    match header.get("typ") {
        None => Ok(()),
        Some(Value::String(media_type)) if is_accepted_type(media_type) => Ok(()),
        Some(Value::String(_)) => Err(TOKEN_REFUSED
            .error("the token is of another type")
            .detail("Its \"typ\" is neither \"JWT\" nor \"at+jwt\" (RFC 8725 section 3.11).")),
        Some(_) => Err(malformed("its \"typ\" is not a string")),
    }
}

/// Whether `typ` is an accepted type. Media types ignore case and may omit "application/" (RFC 7515 section 4.1.9).
fn is_accepted_type(media_type: &str) -> bool {
    let media_type = media_type.to_ascii_lowercase();
    matches!(media_type.strip_prefix("application/").unwrap_or(&media_type), "jwt" | "at+jwt")
}

fn header_key_id(header: &Map<String, Value>) -> Result<Option<String>> {
    match header.get("kid") {
        None => Ok(None),
        Some(Value::String(kid)) if (1..=MAX_KEY_ID_BYTES).contains(&kid.len()) => Ok(Some(kid.clone())),
        Some(_) => Err(malformed(format!("its \"kid\" is not a string of 1 to {MAX_KEY_ID_BYTES} bytes"))),
    }
}

// Claims

fn unverified_issuer(claims: &Map<String, Value>) -> Result<String> {
    let issuer = required_text(claims, "iss")?;
    if issuer.len() > MAX_ISSUER_BYTES {
        return Err(invalid_claim("iss", "is longer than 2048 bytes"));
    }
    Ok(issuer.to_owned())
}

/// Reads `sub`, which RFC 7519 section 4.1.2 leaves optional: a token without a subject identifies nobody.
fn subject(claims: &Map<String, Value>) -> Result<&str> {
    let subject = required_text(claims, "sub")?;
    if subject.len() > MAX_SUBJECT_BYTES {
        return Err(invalid_claim("sub", "is longer than 255 bytes"));
    }
    Ok(subject)
}

/// Reads one string or an array of strings (RFC 7519 section 4.1.3).
///
/// The claim is `aud` or the substitute that the policy names.
fn audiences<'c>(claims: &'c Claims, pointer: &str) -> Result<Vec<&'c str>> {
    let name = pointer.strip_prefix('/').unwrap_or(pointer);
    let audiences: Option<Vec<&str>> = match claims.at(pointer) {
        None => return Err(invalid_claim(name, "is absent")),
        Some(Value::String(audience)) => Some(vec![audience]),
        Some(Value::Array(audiences)) => audiences.iter().map(Value::as_str).collect(),
        Some(_) => None,
    };
    match audiences {
        None => Err(invalid_claim(name, "is neither a string nor an array of strings")),
        Some(audiences) if audiences.is_empty() || audiences.contains(&"") => Err(invalid_claim(name, "is empty")),
        Some(audiences) => Ok(audiences),
    }
}

/// Checks that the claim's value is a segment of the issuer's path.
///
/// Microsoft requires this check for Entra when a claim identifies the tenant, because one set of keys signs for all
/// tenants. The value must be a whole segment, so that no prefix passes.
fn bound_to_issuer(claims: &Claims, pointer: &str, issuer: &str) -> Result<()> {
    let name = pointer.strip_prefix('/').unwrap_or(pointer);
    match claims.at(pointer) {
        Some(Value::String(value)) if !value.is_empty() && issuer.split('/').skip(3).any(|part| part == value) => {
            Ok(())
        }
        Some(_) => Err(invalid_claim(name, "is not a part of the issuer's path")),
        None => Err(invalid_claim(name, "is absent")),
    }
}

/// Reads a NumericDate (RFC 7519 section 2): seconds since 1970; a fraction is cut off.
fn numeric_date(claims: &Map<String, Value>, name: &str) -> Result<Option<i64>> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::Number(number)) => match whole_seconds(number) {
            Some(seconds) => Ok(Some(seconds)),
            None => Err(invalid_claim(name, "lies before 1970 or after 9999")),
        },
        Some(_) => Err(invalid_claim(name, "is not a number")),
    }
}

fn whole_seconds(number: &Number) -> Option<i64> {
    let range = 0..=MAX_NUMERIC_DATE;
    if let Some(seconds) = number.as_i64() {
        return range.contains(&seconds).then_some(seconds);
    }
    // A u64 beyond i64 ends up here as well, far out of range. The bounds are whole numbers below 2^53, hence exact.
    let seconds = number.as_f64()?;
    (0.0..=MAX_NUMERIC_DATE as f64).contains(&seconds).then_some(seconds.floor() as i64)
}

/// The claims that name the session, in order of precedence: OpenID Connect, Supabase, RFC 7519 section 4.1.7.
const SESSION_CLAIMS: [&str; 3] = ["sid", "session_id", "jti"];

fn session_id(claims: &Map<String, Value>) -> Result<Option<&str>> {
    let mut found = None;
    for name in SESSION_CLAIMS {
        // One that is there and no string could not be revoked.
        if !matches!(claims.get(name), None | Some(Value::Null)) {
            found = found.or(Some(required_text(claims, name)?));
        }
    }
    Ok(found)
}

fn optional_text<'c>(claims: &'c Map<String, Value>, name: &str) -> Result<Option<&'c str>> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(invalid_claim(name, "is not a string")),
    }
}

/// Reads a string that can serve as a name: not empty and without control characters.
fn required_text<'c>(claims: &'c Map<String, Value>, name: &str) -> Result<&'c str> {
    let text = optional_text(claims, name)?.ok_or_else(|| invalid_claim(name, "is absent"))?;
    if text.is_empty() {
        return Err(invalid_claim(name, "is empty"));
    }
    if text.chars().any(char::is_control) {
        return Err(invalid_claim(name, "holds a control character"));
    }
    Ok(text)
}

// Errors

fn malformed(why: impl fmt::Display) -> Error {
    TOKEN_MALFORMED.error("the text is not a usable token").detail(format!("The token was not read: {why}."))
}

/// The error for a token whose key was retired.
pub fn retired_key() -> Error {
    KEY_RETIRED.error("the key that signed the token is retired")
}

fn invalid_claim(name: &str, why: &str) -> Error {
    CLAIM_INVALID.error(format!("the token's claim \"{name}\" {why}"))
}

fn unknown_issuer(issuer: &str) -> Error {
    // Graphic ASCII is all that a URL needs, and nothing that could forge a line or reorder a log.
    if issuer.len() <= MAX_NAMED_ISSUER_BYTES && issuer.bytes().all(|byte| byte.is_ascii_graphic()) {
        ISSUER_UNKNOWN.error(format!("the token's issuer \"{issuer}\" is not known"))
    } else {
        ISSUER_UNKNOWN.error("the token's issuer is not known").detail("Its name is too long or unfit to be shown.")
    }
}

#[cfg(test)]
pub(super) mod tests {
    use aws_lc_rs::hmac;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::identity::keys::tests::{Signer, key_set};

    const NOW: i64 = 1_800_000_000;
    const LEEWAY: i64 = 30;
    const ISSUER: &str = "https://issuer.example";

    /// An issuer with the keys of `signers`; the first one signs.
    struct Provider {
        signers: Vec<Signer>,
        policy: IssuerPolicy,
    }

    impl Provider {
        fn new(signers: Vec<Signer>) -> Self {
            let jwks: Vec<Value> = signers.iter().map(Signer::jwk).collect();
            let policy = IssuerPolicy {
                audiences: vec!["db".to_owned(), "db-staging".to_owned()],
                algorithms: signers.iter().map(|signer| signer.algorithm).collect(),
                leeway_seconds: LEEWAY as u32,
                ..IssuerPolicy::new(ISSUER, Vec::new(), key_set(&jwks))
            };
            Self { signers, policy }
        }

        fn of(algorithm: Algorithm) -> Self {
            Self::new(vec![Signer::new(algorithm, Some("k1"))])
        }

        fn sign(&self, header: &[u8], claims: &[u8]) -> String {
            let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
            let signature = URL_SAFE_NO_PAD.encode(self.signers[0].sign(input.as_bytes()));
            format!("{input}.{signature}")
        }

        /// A token with a valid header and these claims.
        fn token(&self, claims: &Value) -> String {
            let header = json!({"alg": self.signers[0].algorithm.name(), "kid": "k1"});
            self.sign(header.to_string().as_bytes(), claims.to_string().as_bytes())
        }

        fn verify(&self, token: &str) -> Result<VerifiedToken> {
            self.verify_at(token, NOW)
        }

        fn verify_at(&self, token: &str, now: i64) -> Result<VerifiedToken> {
            UnverifiedToken::parse(token)?.verify_signature(&self.policy)?.check_claims(&self.policy, now)
        }

        /// The name of the error for these claims at `now`, or `ok`.
        fn verdict_at(&self, claims: &Value, now: i64) -> &'static str {
            self.verify_at(&self.token(claims), now).map_or_else(|error| error.kind.name, |_| "ok")
        }

        fn verdict(&self, claims: &Value) -> &'static str {
            self.verdict_at(claims, NOW)
        }
    }

    /// A token with a valid signature, for tests that only store it.
    fn good_claims() -> Value {
        json!({"iss": ISSUER, "sub": "user_1", "aud": "db", "exp": NOW + 300})
    }

    fn with(mut claims: Value, name: &str, value: Value) -> Value {
        claims[name] = value;
        claims
    }

    #[test]
    fn a_good_token_of_each_algorithm_is_verified() {
        for algorithm in Algorithm::ALL {
            let provider = Provider::of(algorithm);
            let claims = json!({
                "iss": ISSUER, "sub": "user_1", "aud": ["web", "db"],
                "exp": NOW + 300, "nbf": NOW - 10, "iat": (NOW - 11) as f64 + 0.5,
                "jti": "t1", "sid": "s1", "app_metadata": {"org_id": "acme"},
            });
            let token = provider.verify(&provider.token(&claims)).unwrap();
            assert_eq!(token.algorithm, algorithm);
            assert_eq!(token.issuer, ISSUER);
            assert_eq!(token.subject, "user_1");
            assert_eq!(token.key_id.as_deref(), Some("k1"));
            assert_eq!(token.session_id.as_deref(), Some("s1"));
            assert_eq!(token.expires_at, NOW + 300, "without leeway");
            assert_eq!(token.issued_at, Some(NOW - 11), "the fraction is cut off");
            assert_eq!(Value::Object((**token.claims).clone()), claims);
            assert_eq!(token.claims.text(), claims.to_string());
        }
    }

    #[test]
    fn every_hostile_token_is_refused_with_the_error_in_the_file() {
        let provider =
            Provider::new(vec![Signer::new(Algorithm::Es256, Some("k1")), Signer::new(Algorithm::Es256, Some("k2"))]);
        let mut policy = provider.policy.clone();
        // As wide as a careless administrator might have it.
        policy.algorithms = vec![Algorithm::Es256, Algorithm::Rs256, Algorithm::Hs256];
        let provider = Provider { policy, ..provider };
        let good_header = r#"{"alg":"ES256","kid":"k1"}"#;
        assert!(provider.verify(&provider.sign(good_header.as_bytes(), good_claims().to_string().as_bytes())).is_ok());

        let cases: Vec<Value> =
            serde_json::from_str(include_str!("../../../tests/hostile_tokens/tokens.json")).unwrap();
        assert!(cases.len() > 200);
        for case in &cases {
            let part = |name: &str, default: &str| match (&case[name], &case[format!("{name}_hex")]) {
                (Value::String(text), _) => text.clone().into_bytes(),
                (_, Value::String(hex)) => from_hex(hex),
                _ => default.as_bytes().to_vec(),
            };
            let mut token = provider.sign(&part("header", good_header), &part("claims", &good_claims().to_string()));
            if let Value::String(signature) = &case["signature"] {
                token.truncate(token.rfind('.').unwrap() + 1);
                token += signature;
            }
            if let Value::String(verbatim) = &case["token"] {
                token.clone_from(verbatim);
            }
            let error = provider.verify(&token).expect_err(case["name"].as_str().unwrap());
            assert_eq!(error.kind.name.to_lowercase(), case["expect"], "{}: {error:?}", case["name"]);
        }
    }

    fn from_hex(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn only_the_65_characters_of_the_compact_form_are_read() {
        let token = Provider::of(Algorithm::Es256).token(&good_claims());
        let foreign = (0..=0x7f_u8).map(char::from).filter(|c| !c.is_ascii_alphanumeric() && !"-_.".contains(*c));
        for character in foreign.chain(['\u{80}', 'é', '\u{200b}', '\u{ff0e}', '\u{1d7d8}']) {
            for changed in [format!("{token}{character}"), format!("{character}{token}")] {
                let error = UnverifiedToken::parse(&changed).unwrap_err();
                assert!(error.detail.unwrap().contains("a character outside"), "{character:?}");
            }
        }
    }

    #[test]
    fn a_token_has_three_parts_and_a_jwe_is_none() {
        for text in ["", "AA", "AA.AA", "AA.AA.AA.AA", "AA.AA.AA.AA.AA", "...", "AA...AA"] {
            let error = UnverifiedToken::parse(text).unwrap_err();
            assert!(error.detail.unwrap().contains("exactly three parts"), "{text:?}");
        }
        for text in ["..", ".AA.AA", "AA..AA", "AA.AA."] {
            assert!(UnverifiedToken::parse(text).unwrap_err().detail.unwrap().contains("is empty"), "{text:?}");
        }
    }

    // RFC 8725, section by section.

    #[test]
    fn rfc_8725_3_1_the_public_key_is_no_hmac_secret() {
        let provider = Provider::of(Algorithm::Rs256);
        let jwk = provider.signers[0].jwk();
        let n = URL_SAFE_NO_PAD.decode(jwk["n"].as_str().unwrap()).unwrap();
        let mut policy = provider.policy.clone();
        policy.algorithms.push(Algorithm::Hs256);
        let spellings = [n, jwk["n"].as_str().unwrap().as_bytes().to_vec(), jwk.to_string().into_bytes(), Vec::new()];
        for secret in spellings {
            for kid in [r#","kid":"k1""#, ""] {
                let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"HS256"{kid}}}"#));
                let input = format!("{header}.{}", URL_SAFE_NO_PAD.encode(good_claims().to_string()));
                let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), input.as_bytes());
                let token = format!("{input}.{}", URL_SAFE_NO_PAD.encode(mac));
                let parsed = UnverifiedToken::parse(&token).unwrap();
                assert_eq!(parsed.verify_signature(&policy).unwrap_err().kind, &KEY_UNKNOWN);
            }
        }
    }

    #[test]
    fn rfc_8725_3_1_a_key_serves_no_other_algorithm_of_its_family() {
        let rs256 = Provider::of(Algorithm::Rs256);
        let mut ps256 = Provider::of(Algorithm::Ps256);
        // The same RSA key, published as PS256; the issuer may use both algorithms.
        ps256.policy.algorithms = vec![Algorithm::Rs256, Algorithm::Ps256];
        assert_eq!(ps256.verify(&rs256.token(&good_claims())).unwrap_err().kind, &KEY_UNKNOWN);
        assert!(ps256.verify(&ps256.token(&good_claims())).is_ok());
    }

    #[test]
    fn rfc_8725_3_1_an_algorithm_outside_of_the_issuers_list_is_refused() {
        let mut provider = Provider::of(Algorithm::Es256);
        for algorithms in [vec![], vec![Algorithm::EdDsa]] {
            provider.policy.algorithms = algorithms;
            assert_eq!(provider.verdict(&good_claims()), "TOKEN_REFUSED");
        }
    }

    #[test]
    fn rfc_9864_either_name_of_ed25519_in_the_key_verifies_either_in_the_token() {
        for key_alg in [json!("EdDSA"), json!("Ed25519"), Value::Null] {
            let signer = Signer::new(Algorithm::EdDsa, Some("k1"));
            let mut jwk = signer.jwk();
            jwk["alg"] = key_alg.clone();
            if key_alg.is_null() {
                jwk.as_object_mut().unwrap().remove("alg");
            }
            let provider = Provider::of(Algorithm::EdDsa);
            let policy = IssuerPolicy { keys: key_set(&[jwk]), ..provider.policy };
            let provider = Provider { signers: vec![signer], policy };
            for (alg, verdict) in [("EdDSA", "ok"), ("Ed25519", "ok"), ("Ed448", "TOKEN_REFUSED")] {
                let header = json!({"alg": alg, "kid": "k1"}).to_string();
                let token = provider.sign(header.as_bytes(), good_claims().to_string().as_bytes());
                let found = provider.verify(&token).map_or_else(|error| error.kind.name, |_| "ok");
                assert_eq!(found, verdict, "{alg} under {key_alg}");
            }
        }
    }

    #[test]
    fn rfc_8725_3_2_none_has_a_message_of_its_own() {
        for name in ["none", "None", "NONE", "nOnE"] {
            let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"{name}"}}"#));
            let token = format!("{header}.{}.AAAA", URL_SAFE_NO_PAD.encode(good_claims().to_string()));
            let error = UnverifiedToken::parse(&token).unwrap_err();
            assert_eq!((error.kind, error.message.as_str()), (&TOKEN_REFUSED, "an unsigned token is never accepted"));
        }
    }

    #[test]
    fn rfc_8725_3_3_a_change_anywhere_breaks_the_signature() {
        let provider = Provider::of(Algorithm::EdDsa);
        let token = provider.token(&good_claims());
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert!(provider.verify(std::str::from_utf8(&changed).unwrap()).is_err(), "byte {at}");
        }
    }

    #[test]
    fn rfc_8725_3_8_a_key_of_one_issuer_proves_nothing_for_another() {
        let ours = Provider::of(Algorithm::Es256);
        let theirs = Provider::of(Algorithm::Es256);
        // Their key, our issuer's name and kid.
        assert_eq!(ours.verify(&theirs.token(&good_claims())).unwrap_err().kind, &SIGNATURE_INVALID);
        let other = with(good_claims(), "iss", json!("https://other.example"));
        // Our own key cannot speak for another issuer: refused before the signature is looked at.
        let refusal = UnverifiedToken::parse(&ours.token(&other)).unwrap().verify_signature(&ours.policy).unwrap_err();
        assert_eq!(refusal.kind, &ISSUER_UNKNOWN);
    }

    #[test]
    fn rfc_8725_3_8_claims_are_not_checked_under_the_policy_of_another_issuer() {
        let provider = Provider::of(Algorithm::Es256);
        let text = provider.token(&good_claims());
        let signed = UnverifiedToken::parse(&text).unwrap().verify_signature(&provider.policy).unwrap();
        let other = IssuerPolicy { issuer: "https://other.example".to_owned(), ..provider.policy.clone() };
        assert_eq!(signed.check_claims(&other, NOW).unwrap_err().kind, &ISSUER_UNKNOWN);
        assert!(signed.check_claims(&provider.policy, NOW).is_ok());
    }

    #[test]
    fn rfc_8725_3_9_the_audience_is_one_of_ours_in_every_shape_that_rfc_7519_allows() {
        let mut provider = Provider::of(Algorithm::Es256);
        for aud in [json!("db"), json!("db-staging"), json!(["db"]), json!(["web", "db"]), json!(["db", "db"])] {
            assert_eq!(provider.verdict(&with(good_claims(), "aud", aud.clone())), "ok", "{aud}");
        }
        for aud in [json!("web"), json!(["web", "mail"]), json!("db,db-staging"), json!("DB")] {
            assert_eq!(provider.verdict(&with(good_claims(), "aud", aud.clone())), "AUDIENCE_REFUSED", "{aud}");
        }
        provider.policy.audiences.clear();
        assert_eq!(provider.verdict(&good_claims()), "AUDIENCE_REFUSED", "no audience configured: nobody passes");
    }

    #[test]
    fn rfc_8725_3_11_typ_is_jwt_or_at_jwt_or_absent() {
        let provider = Provider::of(Algorithm::Es256);
        for typ in ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt", "Application/JWT"] {
            let header = json!({"alg": "ES256", "typ": typ}).to_string();
            let token = provider.sign(header.as_bytes(), good_claims().to_string().as_bytes());
            assert!(provider.verify(&token).is_ok(), "{typ}");
        }
    }

    #[test]
    fn members_of_the_header_that_nobody_understands_are_ignored() {
        let provider = Provider::of(Algorithm::Es256);
        let header = json!({"alg": "ES256", "x5t": "AA", "cat": "cl_B7d4PD111AAA", "nested": {"jwk": 1}}).to_string();
        let token = provider.sign(header.as_bytes(), good_claims().to_string().as_bytes());
        assert!(provider.verify(&token).is_ok());
    }

    #[test]
    fn without_kid_the_only_key_of_the_algorithm_is_taken_and_among_two_none() {
        let header = br#"{"alg":"ES256"}"#;
        let claims = good_claims().to_string();
        let one =
            Provider::new(vec![Signer::new(Algorithm::Es256, Some("a")), Signer::new(Algorithm::Rs256, Some("b"))]);
        assert_eq!(one.verify(&one.sign(header, claims.as_bytes())).unwrap().key_id.as_deref(), Some("a"));
        let two = Provider::new(vec![Signer::new(Algorithm::Es256, Some("a")), Signer::new(Algorithm::Es256, None)]);
        assert_eq!(two.verify(&two.sign(header, claims.as_bytes())).unwrap_err().kind, &KEY_UNKNOWN);
    }

    // Time

    #[test]
    fn exp_counts_until_the_leeway_is_over_and_not_a_second_longer() {
        let provider = Provider::of(Algorithm::Es256);
        let expiring = with(good_claims(), "exp", json!(NOW));
        for (now, verdict) in [
            (NOW - 1, "ok"),
            (NOW, "ok"),
            (NOW + LEEWAY - 1, "ok"),
            (NOW + LEEWAY, "TOKEN_EXPIRED"),
            (NOW + LEEWAY + 1, "TOKEN_EXPIRED"),
            (i64::MAX, "TOKEN_EXPIRED"),
        ] {
            assert_eq!(provider.verdict_at(&expiring, now), verdict, "{now}");
        }
    }

    #[test]
    fn without_leeway_a_token_ends_on_its_exp() {
        let mut provider = Provider::of(Algorithm::Es256);
        provider.policy.leeway_seconds = 0;
        let expiring = with(good_claims(), "exp", json!(NOW));
        assert_eq!(provider.verdict_at(&expiring, NOW - 1), "ok");
        assert_eq!(provider.verdict_at(&expiring, NOW), "TOKEN_EXPIRED");
        let fraction = with(good_claims(), "exp", json!(NOW as f64 + 0.9));
        assert_eq!(provider.verdict_at(&fraction, NOW), "TOKEN_EXPIRED", "the fraction is cut off");
    }

    #[test]
    fn nbf_and_iat_may_lie_ahead_by_the_leeway_and_not_a_second_more() {
        let provider = Provider::of(Algorithm::Es256);
        for name in ["nbf", "iat"] {
            let from_now = with(good_claims(), name, json!(NOW));
            for (now, verdict) in [
                (i64::MIN, "TOKEN_NOT_YET_VALID"),
                (NOW - LEEWAY - 1, "TOKEN_NOT_YET_VALID"),
                (NOW - LEEWAY, "ok"),
                (NOW, "ok"),
            ] {
                assert_eq!(provider.verdict_at(&from_now, now), verdict, "{name} {now}");
            }
        }
    }

    #[test]
    fn the_largest_leeway_and_the_last_date_do_not_overflow() {
        let mut provider = Provider::of(Algorithm::Es256);
        provider.policy.leeway_seconds = u32::MAX;
        let last = with(good_claims(), "exp", json!(MAX_NUMERIC_DATE));
        assert_eq!(provider.verdict_at(&last, MAX_NUMERIC_DATE), "ok");
        assert_eq!(provider.verdict_at(&last, i64::MAX), "TOKEN_EXPIRED");
    }

    // CVE-2026-25537: a library took "exp" of the wrong type for an absent one, and accepted the token for ever.
    #[test]
    fn a_registered_claim_of_the_wrong_type_is_never_taken_for_an_absent_one() {
        let provider = Provider::of(Algorithm::Es256);
        for name in ["iss", "sub", "aud", "exp", "nbf", "iat", "jti"] {
            let wrong = if matches!(name, "exp" | "nbf" | "iat") { json!("1800000300") } else { json!(1) };
            for value in [wrong, Value::Null, json!({}), json!([1]), json!(true)] {
                let verdict = provider.verdict(&with(good_claims(), name, value.clone()));
                assert_eq!(verdict, "CLAIM_INVALID", "{name} = {value}");
            }
        }
    }

    #[test]
    fn the_lengths_of_iss_sub_and_kid_are_accepted_up_to_their_limits() {
        let mut provider = Provider::of(Algorithm::Es256);
        let subject = |length: usize| with(good_claims(), "sub", json!("s".repeat(length)));
        assert_eq!(provider.verdict(&subject(MAX_SUBJECT_BYTES)), "ok");
        assert_eq!(provider.verdict(&subject(MAX_SUBJECT_BYTES + 1)), "CLAIM_INVALID");
        provider.policy.issuer = "i".repeat(MAX_ISSUER_BYTES);
        assert_eq!(provider.verdict(&with(good_claims(), "iss", json!(provider.policy.issuer))), "ok");
        let header = json!({"alg": "ES256", "kid": "k".repeat(MAX_KEY_ID_BYTES)}).to_string();
        let token = provider.sign(header.as_bytes(), good_claims().to_string().as_bytes());
        assert!(UnverifiedToken::parse(&token).is_ok());
    }

    #[test]
    fn sixteen_kib_are_read_and_one_byte_more_is_not() {
        let provider = Provider::of(Algorithm::Hs512);
        // Base64 grows in steps, so header and claims are padded together until the length fits.
        let sized = |length: usize| {
            (0..3)
                .flat_map(|header_pad| (12_000..12_200).map(move |claims_pad| (header_pad, claims_pad)))
                .map(|(header_pad, claims_pad)| {
                    let header = format!(r#"{{"alg":"HS512","pad":"{}"}}"#, "p".repeat(header_pad));
                    let claims = with(good_claims(), "pad", json!("p".repeat(claims_pad))).to_string();
                    provider.sign(header.as_bytes(), claims.as_bytes())
                })
                .find(|token| token.len() == length)
                .unwrap()
        };
        let (longest, too_long) = (sized(MAX_TOKEN_BYTES), sized(MAX_TOKEN_BYTES + 1));
        assert_eq!((longest.len(), too_long.len()), (MAX_TOKEN_BYTES, MAX_TOKEN_BYTES + 1));
        assert!(provider.verify(&longest).is_ok());
        assert_eq!(provider.verify(&too_long).unwrap_err().kind, &TOKEN_MALFORMED);
        assert_eq!(UnverifiedToken::parse(&"A.".repeat(50_000_000)).unwrap_err().kind, &TOKEN_MALFORMED);
    }

    #[test]
    fn the_session_is_sid_or_else_session_id_or_else_jti() {
        let provider = Provider::of(Algorithm::Es256);
        for (members, expected) in [
            (json!({"sid": "a", "session_id": "b", "jti": "c"}), Some("a")),
            (json!({"session_id": "b", "jti": "c"}), Some("b")),
            (json!({"jti": "c"}), Some("c")),
            (json!({"sid": null, "session_id": null, "jti": "c"}), Some("c")),
            (json!({}), None),
        ] {
            let mut claims = good_claims();
            claims.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            let token = provider.verify(&provider.token(&claims)).unwrap();
            assert_eq!(token.session_id.as_deref(), expected, "{members}");
        }
    }

    #[test]
    fn a_session_that_could_not_be_revoked_is_refused() {
        let provider = Provider::of(Algorithm::Es256);
        for (name, value) in
            [("sid", json!(12345)), ("session_id", json!(["a"])), ("sid", json!("")), ("jti", json!(1))]
        {
            let claims = with(with(good_claims(), "sid", json!("a")), name, value.clone());
            assert_eq!(provider.verdict(&claims), "CLAIM_INVALID", "{name} = {value}");
        }
    }

    #[test]
    fn white_space_may_stand_within_the_json_and_not_before_it() {
        let provider = Provider::of(Algorithm::Es256);
        let claims = good_claims().to_string();
        for (header, claims, good) in [
            ("{ \"alg\":\"ES256\"}", claims.clone(), true),
            ("{\r\n\t\"alg\":\"ES256\"}", claims.clone(), true),
            (" {\"alg\":\"ES256\"}", claims.clone(), false),
            ("{\"alg\":\"ES256\"}", format!("\n{claims}"), false),
        ] {
            let token = provider.sign(header.as_bytes(), claims.as_bytes());
            assert_eq!(provider.verify(&token).is_ok(), good, "{header:?}");
            assert!(!good || crate::identity::token_redaction::holds_token(token.as_bytes()), "{header:?}");
        }
    }

    #[test]
    fn a_pointer_finds_claims_as_rfc_6901_says() {
        let provider = Provider::of(Algorithm::Es256);
        let mut claims = good_claims();
        let more = json!({
            "app_metadata": {"org_id": "acme", "roles": ["admin", "viewer"]},
            "https://ns/roles": ["owner"], "a~b": {"c/d": 1}, "~1": 2, "": {"": 3},
        });
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let token = provider.verify(&provider.token(&claims)).unwrap();
        for (pointer, found) in [
            ("/app_metadata/org_id", Some(json!("acme"))),
            ("/app_metadata/roles/1", Some(json!("viewer"))),
            ("/app_metadata/roles/01", None),
            ("/app_metadata/roles/-", None),
            ("/https:~1~1ns~1roles/0", Some(json!("owner"))),
            ("/a~0b/c~1d", Some(json!(1))),
            ("/~01", Some(json!(2))),
            ("//", Some(json!(3))),
            ("/", Some(json!({"": 3}))),
            ("", None),
            ("sub", None),
            ("/sub/", None),
            ("/nothing", None),
        ] {
            assert_eq!(token.claims.at(pointer), found.as_ref(), "{pointer:?}");
        }
    }

    #[test]
    fn a_member_named_like_serde_jsons_own_markers_reaches_the_claims_unchanged() {
        let provider = Provider::of(Algorithm::Es256);
        let text = format!(
            r#"{{"iss":"{ISSUER}","sub":"u","aud":"db","exp":{},"x":{{"$serde_json::private::RawValue":"1"}}}}"#,
            NOW + 1
        );
        let token = provider.verify(&provider.sign(br#"{"alg":"ES256"}"#, text.as_bytes())).unwrap();
        assert_eq!(token.claims.at("/x/$serde_json::private::RawValue"), Some(&json!("1")));
    }

    // What an issuer may ask for beyond

    #[test]
    fn a_retired_key_signs_nothing_from_its_time_on_though_it_is_still_in_the_set() {
        let mut provider = Provider::of(Algorithm::Es256);
        provider.policy.retired_keys = HashMap::from([("k1".to_owned(), NOW), ("k2".to_owned(), 0)]);
        assert_eq!(provider.verdict_at(&good_claims(), NOW - 1), "ok");
        assert_eq!(provider.verdict_at(&good_claims(), NOW), "KEY_RETIRED");
        assert_eq!(provider.verdict_at(&good_claims(), NOW + 1), "KEY_RETIRED");
    }

    #[test]
    fn another_claim_than_aud_may_say_whom_the_token_is_for_and_then_has_to() {
        let mut provider = Provider::of(Algorithm::Es256);
        provider.policy.audience_claim = "/azp".to_owned();
        let claims = json!({"iss": ISSUER, "sub": "user_1", "azp": "db", "exp": NOW + 300});
        assert_eq!(provider.verdict(&claims), "ok");
        assert_eq!(provider.verdict(&with(claims, "azp", json!("web"))), "AUDIENCE_REFUSED");
        assert_eq!(provider.verdict(&good_claims()), "CLAIM_INVALID", "\"aud\" is not read then");
    }

    #[test]
    fn a_binding_claim_has_to_be_a_whole_segment_of_the_issuers_path() {
        let mut provider = Provider::of(Algorithm::Es256);
        provider.policy.issuer = "https://login.example/1b2c/v2.0".to_owned();
        provider.policy.issuer_binding = Some("/tid".to_owned());
        let claims = with(good_claims(), "iss", json!(provider.policy.issuer));
        assert_eq!(provider.verdict(&with(claims.clone(), "tid", json!("1b2c"))), "ok");
        for tid in
            [json!("1b2"), json!("b2c"), json!("1B2C"), json!("login.example"), json!(""), json!("https:"), json!(1)]
        {
            assert_eq!(provider.verdict(&with(claims.clone(), "tid", tid.clone())), "CLAIM_INVALID", "{tid}");
        }
        assert_eq!(provider.verdict(&claims), "CLAIM_INVALID", "absent");
    }

    #[test]
    fn every_name_of_the_session_can_be_revoked() {
        let provider = Provider::of(Algorithm::Es256);
        let mut claims = good_claims();
        claims
            .as_object_mut()
            .unwrap()
            .extend(json!({"sid": "a", "session_id": null, "jti": "c"}).as_object().unwrap().clone());
        let token = provider.verify(&provider.token(&claims)).unwrap();
        assert_eq!(session_ids(&token.claims).collect::<Vec<_>>(), ["a", "c"]);
    }

    // What may be seen

    #[test]
    fn an_error_shows_a_printable_issuer_and_nothing_else_of_the_token() {
        let provider = Provider::of(Algorithm::Es256);
        let shown = |claims: &Value| format!("{:?}", provider.verify(&provider.token(claims)).unwrap_err());
        assert!(shown(&with(good_claims(), "iss", json!("https://other.example"))).contains("https://other.example"));
        for issuer in ["x".repeat(201), "a b".into(), "é".into(), "a\u{202e}b".into()] {
            assert!(!shown(&with(good_claims(), "iss", json!(issuer))).contains(&issuer), "{issuer}");
        }
        let mut canary = good_claims();
        for name in ["sub", "aud", "exp", "nbf", "jti"] {
            canary[name] = json!(["canary", {"canary": "canary"}]);
            assert!(!shown(&canary).contains("canary"), "{name}");
            canary[name] = json!("canary\n");
            assert!(!shown(&canary).contains("canary"), "{name}");
        }
        for header in [
            r#"{"alg":"canary"}"#,
            r#"{"alg":"ES256","kid":"canary"}"#,
            r#"{"alg":"ES256","typ":"canary"}"#,
            r#"{"alg":"ES256","canary":1,"canary":1}"#,
            r#"{"alg":"ES256","jku":"canary"}"#,
            r#"{"alg":"ES256" canary}"#,
        ] {
            let token = provider.sign(header.as_bytes(), good_claims().to_string().as_bytes());
            let shown = format!("{:?}", provider.verify(&token).unwrap_err());
            assert!(!shown.contains("canary"), "{shown}");
        }
    }

    #[test]
    fn debug_shows_neither_claims_nor_signature() {
        let provider = Provider::of(Algorithm::Es256);
        let text = provider.token(&with(good_claims(), "email", json!("jane@example.com")));
        let unverified = UnverifiedToken::parse(&text).unwrap();
        let mut shown = format!("{unverified:?}");
        let signed = unverified.verify_signature(&provider.policy).unwrap();
        shown += &format!("{signed:?}{:?}", signed.check_claims(&provider.policy, NOW).unwrap());
        assert!(!shown.contains("jane") && !shown.contains("user_1") && !shown.contains(&text[..20]), "{shown}");
    }

    // Anything at all

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,400}") {
            let _ = UnverifiedToken::parse(&text);
            let _ = KeySet::parse(&text);
            let _ = strict_json::parse(&text);
        }

        #[test]
        fn no_bytes_in_the_three_parts_make_the_parser_panic(
            header in prop::collection::vec(any::<u8>(), 1..100),
            claims in prop::collection::vec(any::<u8>(), 1..100),
            signature in "[A-Za-z0-9_-]{1,100}",
        ) {
            let token = format!("{}.{}.{signature}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
            prop_assert!(UnverifiedToken::parse(&token).is_err());
        }

        #[test]
        fn no_json_in_the_claims_makes_the_checks_panic(
            exp in any::<f64>(),
            nbf in any::<i64>(),
            iat in any::<u64>(),
            sub in ".{0,5}",
            aud in "(db|web|)",
            now in any::<i64>(),
        ) {
            let provider = Provider::of(Algorithm::Hs256);
            let claims = json!({"iss": ISSUER, "sub": sub, "aud": aud, "exp": exp, "nbf": nbf, "iat": iat});
            let _ = provider.verify_at(&provider.token(&claims), now);
            let _ = provider.verify_at(&provider.token(&good_claims()), now);
        }

        #[test]
        fn no_single_change_of_a_token_is_accepted(at in 0_usize..200, byte in 0_u8..128) {
            let provider = Provider::of(Algorithm::Hs256);
            let token = provider.token(&good_claims());
            let mut changed = token.clone().into_bytes();
            let at = at % changed.len();
            changed[at] = byte;
            let changed = String::from_utf8(changed).unwrap();
            prop_assert_eq!(provider.verify(&changed).is_ok(), changed == token);
        }
    }
}
