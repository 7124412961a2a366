//! A second JOSE library as the judge: whatever `pg_tenancy` accepts, `jsonwebtoken` has to accept too.
//!
//! Never the reverse: ours may be stricter, and is (`crit`, `typ`, claim types, repeated names). The two share the
//! primitives of `aws-lc-rs` but no code of their own, so what they check on each other is everything around these. The
//! primitives have a judge of their own, tests/wycheproof.rs; that is why there is no third library over OpenSSL here.

use std::cell::Cell;
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Validation, decode};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::common::signer::Signer;
use pg_tenancy_core::identity::algorithm::{Algorithm, KeyFamily};
use pg_tenancy_core::identity::keys::KeySet;
use pg_tenancy_core::identity::token::{IssuerPolicy, UnverifiedToken, VerifiedToken};

const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "db";
const LEEWAY: u32 = 30;

/// The oracle reads the clock itself, so both get the real time.
fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A key pair, and the issuer that our side knows it by.
struct Pair {
    signer: Signer,
    policy: IssuerPolicy,
}

impl Pair {
    fn new(algorithm: Algorithm) -> Self {
        let signer = Signer::new(algorithm);
        let policy = IssuerPolicy {
            algorithms: vec![algorithm],
            leeway_seconds: LEEWAY,
            ..IssuerPolicy::new(ISSUER, vec![AUDIENCE.to_owned()], KeySet::parse(&signer.key_set()).unwrap())
        };
        Self { signer, policy }
    }

    fn token(&self, claims: &Value) -> String {
        self.signer.token(claims)
    }

    fn ours(&self, token: &str) -> Option<VerifiedToken> {
        let signed = UnverifiedToken::parse(token).ok()?.verify_signature(&self.policy).ok()?;
        signed.check_claims(&self.policy, now()).ok()
    }

    fn oracle_accepts(&self, token: &str) -> bool {
        let mut validation = Validation::new(self.signer.oracle_algorithm());
        validation.set_audience(&[AUDIENCE]);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.validate_nbf = true;
        validation.leeway = LEEWAY.into();
        decode::<Value>(token, &self.signer.verifying, &validation).is_ok()
    }
}

fn good_claims() -> Value {
    let now = now();
    json!({"iss": ISSUER, "sub": "user_1", "aud": [AUDIENCE, "web"], "exp": now + 3600, "nbf": now - 5, "iat": now})
}

#[test]
fn a_token_of_the_oracle_verifies_with_ours_for_every_algorithm() {
    for algorithm in Algorithm::ALL {
        let pair = Pair::new(algorithm);
        let claims = good_claims();
        let token = pair.token(&claims);
        assert!(pair.oracle_accepts(&token), "{algorithm}: the test itself is wrong");
        let verified = pair.ours(&token).unwrap_or_else(|| panic!("{algorithm}"));
        assert_eq!((verified.algorithm, Value::Object((**verified.claims).clone())), (algorithm, claims));
    }
}

#[test]
fn neither_takes_a_token_of_another_key() {
    for algorithm in Algorithm::ALL.into_iter().filter(|algorithm| algorithm.family() != KeyFamily::Symmetric) {
        let token = Pair::new(algorithm).token(&good_claims());
        let other = Pair::new(algorithm);
        assert!(other.ours(&token).is_none() && !other.oracle_accepts(&token), "{algorithm}");
    }
}

/// At each position: a neighbour in the alphabet (the last letter of a part then differs in its unused bits only), a
/// separator, a letter lost, a letter doubled, and a character that no token has.
fn changes(token: &str) -> impl Iterator<Item = String> + '_ {
    let replaced = |at: usize, with: &str| format!("{}{with}{}", &token[..at], &token[at + 1..]);
    (0..token.len()).flat_map(move |at| {
        let byte = token.as_bytes()[at];
        let neighbour = char::from(if byte.is_ascii_alphanumeric() { byte ^ 1 } else { b'A' }).to_string();
        let doubled = token[at..=at].repeat(2);
        [neighbour.as_str(), ".", "", doubled.as_str(), "="].map(|with| replaced(at, with))
    })
}

#[test]
fn no_change_of_a_token_is_accepted_by_ours_and_refused_by_the_oracle() {
    for algorithm in Algorithm::ALL {
        let pair = Pair::new(algorithm);
        let token = pair.token(&good_claims());
        for changed in changes(&token).filter(|changed| *changed != token) {
            assert!(pair.ours(&changed).is_none() || pair.oracle_accepts(&changed), "{algorithm}: {changed}");
        }
    }
}

/// Members of a JSON object, each absent or with one of its values; the value "" is absence as well.
fn members(choices: &[(&'static str, &[&'static str])]) -> impl Strategy<Value = String> + use<> {
    let each: Vec<_> = choices
        .iter()
        .map(|&(name, values)| {
            let mut texts: Vec<String> = values
                .iter()
                .map(|value| if value.is_empty() { String::new() } else { format!("\"{name}\":{value}") })
                .collect();
            // The first value is the good one, and most draws take it: else nearly every token would be refused.
            let good = texts.remove(0);
            texts.push(String::new());
            prop_oneof![12 => Just(good), 1 => prop::sample::select(texts)]
        })
        .collect();
    each.prop_map(|members| {
        let present: Vec<String> = members.into_iter().filter(|member| !member.is_empty()).collect();
        format!("{{{}}}", present.join(","))
    })
}

fn headers() -> impl Strategy<Value = String> {
    members(&[
        ("alg", &["\"HS256\"", "\"HS384\"", "\"none\"", "\"hs256\"", "256", "null"]),
        ("typ", &["\"JWT\"", "\"at+jwt\"", "\"logout+jwt\"", "1"]),
        ("kid", &["\"k1\"", "\"k2\"", "\"\"", "null"]),
        ("cty", &["", "\"JWT\""]),
        ("crit", &["", "[\"exp\"]", "[]"]),
    ])
}

fn claims() -> impl Strategy<Value = String> {
    members(&[
        ("iss", &["\"https://issuer.example\"", "\"https://other.example\"", "[\"https://issuer.example\"]", "1"]),
        ("sub", &["\"user_1\"", "\"\"", "1", "null"]),
        ("aud", &["\"db\"", "[\"db\"]", "[\"web\",\"db\"]", "\"web\"", "[]", "[1]", "{}", "null"]),
        ("exp", &["EXP", "EXP.5", "1e10", "0", "-1", "\"EXP\"", "null", "1e300", "PAST"]),
        ("nbf", &["PAST", "PAST.5", "EXP", "\"PAST\"", "null", "-1"]),
        ("iat", &["PAST", "EXP", "null", "\"PAST\""]),
        ("extra", &["{\"a\":[1,{\"b\":null}]}", "{\"a\":1,\"a\":2}", "1e999"]),
    ])
}

#[test]
fn whatever_ours_accepts_of_freely_combined_members_the_oracle_accepts_too() {
    let pair = Pair::new(Algorithm::Hs256);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &[42; 64]);
    let (accepted, refused) = (Cell::new(0), Cell::new(0));
    let mut runner =
        proptest::test_runner::TestRunner::new(ProptestConfig { cases: 4000, ..ProptestConfig::default() });
    let result = runner.run(&(headers(), claims()), |(header, claims)| {
        let claims = claims.replace("EXP", &(now() + 3600).to_string()).replace("PAST", &(now() - 3600).to_string());
        let input = format!("{}.{}", base64url(header), base64url(&claims));
        let token = format!("{input}.{}", base64url(hmac::sign(&key, input.as_bytes())));
        let ours = pair.ours(&token).is_some();
        prop_assert!(!ours || pair.oracle_accepts(&token), "{}", claims);
        let count = if ours { &accepted } else { &refused };
        count.set(count.get() + 1);
        Ok(())
    });
    result.unwrap();
    // Agreement on refusals alone would prove nothing.
    let (accepted, refused) = (accepted.get(), refused.get());
    assert!(accepted > 100 && refused > 100, "{accepted} accepted, {refused} refused");
}

/// A pair of every algorithm, made once: RSA keys take their time.
static PAIRS: LazyLock<Vec<Pair>> = LazyLock::new(|| Algorithm::ALL.into_iter().map(Pair::new).collect());

/// Bytes put over others, taken out, or put in between.
fn edits() -> impl Strategy<Value = Vec<(prop::sample::Index, u8, u8)>> {
    // Mostly what JSON is made of: any other byte ends in the same refusal.
    let byte = prop_oneof![3 => prop::sample::select(b"\"{}[]:,.\\-+eE0123456789ntu ".to_vec()), 1 => any::<u8>()];
    prop::collection::vec((any::<prop::sample::Index>(), 0_u8..3, byte), 0..4)
}

fn edited(text: &str, edits: &[(prop::sample::Index, u8, u8)]) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for (at, kind, byte) in edits {
        let at = at.index(bytes.len());
        match kind {
            0 => bytes[at] = *byte,
            1 if bytes.len() > 1 => drop(bytes.remove(at)),
            _ => bytes.insert(at, *byte),
        }
    }
    bytes
}

#[test]
fn whatever_ours_accepts_of_changed_json_with_a_good_signature_the_oracle_accepts_too() {
    let pair = &PAIRS[0];
    assert_eq!(pair.signer.algorithm, Algorithm::Hs256);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &[42; 64]);
    let (accepted, refused) = (Cell::new(0), Cell::new(0));
    let mut runner =
        proptest::test_runner::TestRunner::new(ProptestConfig { cases: 4000, ..ProptestConfig::default() });
    let result = runner.run(&(edits(), edits()), |(header_edits, claims_edits)| {
        // Most edits of a header are refused, and the claims would hardly be looked at.
        let header_edits = if claims_edits.len() > 1 { &[] } else { header_edits.as_slice() };
        let header = edited(r#"{"typ":"JWT","alg":"HS256","kid":"k1"}"#, header_edits);
        let claims = edited(&good_claims().to_string(), &claims_edits);
        let input = format!("{}.{}", base64url(&header), base64url(&claims));
        let token = format!("{input}.{}", base64url(hmac::sign(&key, input.as_bytes())));
        let ours = pair.ours(&token).is_some();
        let shown = || format!("{} {}", String::from_utf8_lossy(&header), String::from_utf8_lossy(&claims));
        prop_assert!(!ours || pair.oracle_accepts(&token), "{}", shown());
        let count = if ours { &accepted } else { &refused };
        count.set(count.get() + 1);
        Ok(())
    });
    result.unwrap();
    let (accepted, refused) = (accepted.get(), refused.get());
    assert!(accepted > 100 && refused > 100, "{accepted} accepted, {refused} refused");
}

proptest! {
    #[test]
    fn whatever_ours_accepts_of_a_token_with_random_changes_the_oracle_accepts_too(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        pair in 0..Algorithm::ALL.len(),
    ) {
        let pair = &PAIRS[pair];
        let mut token = pair.token(&good_claims()).into_bytes();
        for (at, byte) in changes {
            let at = at.index(token.len());
            token[at] = byte;
        }
        let token = String::from_utf8_lossy(&token);
        prop_assert!(pair.ours(&token).is_none() || pair.oracle_accepts(&token), "{}", token);
    }
}
