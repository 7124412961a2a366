//! Tokens that were made with the keys of somebody else's idea: `hostile_tokens/confusion.json`.
//!
//! The other hostile tokens are signed while the tests run, see `identity/token.rs`. These have fixed keys, of which
//! the private halves are gone, because what they are about is the public half taken for a secret.

use serde_json::{Value, json};

use pg_tenancy_core::identity::algorithm::Algorithm;
use pg_tenancy_core::identity::keys::KeySet;
use pg_tenancy_core::identity::token::{IssuerPolicy, UnverifiedToken};

const CONFUSION: &str = include_str!("hostile_tokens/confusion.json");
const TOKENS: &str = include_str!("hostile_tokens/tokens.json");
const KEY_SETS: &str = include_str!("hostile_tokens/key_sets.json");
const NOW: i64 = 1_800_000_000;

#[test]
fn no_token_of_confused_algorithms_is_accepted() {
    let document: Value = serde_json::from_str(CONFUSION).unwrap();
    let tokens = document["tokens"].as_array().unwrap();
    assert!(tokens.len() > 80);
    for case in tokens {
        let key = &document["keys"][case["key"].as_str().unwrap()];
        let keys = KeySet::parse(&json!({"keys": [key]}).to_string()).unwrap();
        // The issuer may use every algorithm there is: nothing but the key stands in the way.
        let policy = IssuerPolicy {
            algorithms: Algorithm::ALL.to_vec(),
            ..IssuerPolicy::new("https://issuer.example", vec!["db".to_owned()], keys)
        };
        let verdict = UnverifiedToken::parse(case["token"].as_str().unwrap())
            .and_then(|token| token.verify_signature(&policy))
            .and_then(|token| token.check_claims(&policy, NOW))
            .map_or_else(|error| error.kind.name.to_lowercase(), |_| "ok".to_owned());
        assert_eq!(verdict, case["expect"], "{}", case["name"]);
    }
}

#[test]
fn the_hostile_tokens_cover_rfc_8725_section_by_section() {
    let all = [CONFUSION, TOKENS, KEY_SETS].concat();
    for section in 1..=12 {
        // Followed by no digit, so that 3.1 is not 3.10.
        let name = format!("RFC 8725 section 3.{section}");
        let cases = all.match_indices(&name).filter(|(at, _)| !all[at + name.len()..].starts_with(char::is_numeric));
        assert!(cases.count() > 0, "{name}");
    }
    assert!(all.contains("draft-ietf-oauth-rfc8725bis section 3.14"));
}
