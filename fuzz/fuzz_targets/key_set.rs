//! A key set that is accepted says what the document says, and its keys verify nothing that nobody signed.

#![no_main]

use std::collections::HashSet;

use libfuzzer_sys::fuzz_target;
use pg_tenancy_core::identity::algorithm::{Algorithm, KeyFamily};
use pg_tenancy_core::identity::keys::{KeySet, MAX_KEY_ID_BYTES, MAX_KEYS};
use serde_json::Value;

/// The `kty` of the keys of an algorithm.
fn key_type(algorithm: Algorithm) -> &'static str {
    match algorithm.family() {
        KeyFamily::Symmetric => "oct",
        KeyFamily::Rsa => "RSA",
        KeyFamily::EllipticCurve => "EC",
        KeyFamily::OctetKeyPair => "OKP",
    }
}

fuzz_target!(|text: &str| {
    let Ok(set) = KeySet::parse(text) else { return };
    let document: Value = serde_json::from_str(text).expect("only JSON is a key set");
    let jwks = document["keys"].as_array().expect("only an array holds keys");
    let keys = set.keys();
    assert!(!keys.is_empty() && keys.len() <= jwks.len() && jwks.len() <= MAX_KEYS);
    let names: Vec<&str> = keys.iter().filter_map(|key| key.kid.as_deref()).collect();
    assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len(), "two keys of one name");
    assert!(names.iter().all(|name| (1..=MAX_KEY_ID_BYTES).contains(&name.len())));

    // The keys stand in the order of the document, so each finds a JWK that allows for it behind that of the key
    // before.
    let mut rest = jwks.iter();
    for key in keys {
        let jwk = rest
            .find(|jwk| {
                jwk["kty"] == key_type(key.algorithm)
                    && jwk["kid"].as_str() == key.kid.as_deref()
                    && jwk["alg"].as_str().is_none_or(|name| name.parse() == Ok(key.algorithm))
                    && jwk["use"].as_str().is_none_or(|purpose| purpose == "sig")
                    && (jwk["kty"] == "oct" || jwk.get("d").is_none())
            })
            .expect("a key that the document does not hold");

        let found = set.find(key.kid.as_deref(), key.algorithm);
        assert!(key.kid.is_none() || found.is_some_and(|found| found.kid == key.kid));
        for other in Algorithm::ALL.into_iter().filter(|other| *other != key.algorithm) {
            assert!(key.kid.is_none() || set.find(key.kid.as_deref(), other).is_none(), "good for two algorithms");
        }
        if let Some(secret) = jwk["k"].as_str() {
            let is_a_name = names.iter().any(|name| name.contains(secret));
            assert!(is_a_name || !format!("{set:?}").contains(secret), "a secret is shown");
        }
        // 512 is the length of a signature under 4096 bits; the others are those of MACs, ECDSA and Ed25519.
        for length in [0, 32, 48, 64, 96, 256, 512] {
            assert!(!key.verify(b"message", &vec![0; length]), "{length} zeros are no signature");
        }
    }

    // Written anew by another hand, without spaces and with members in another order, it is the same set.
    let again = KeySet::parse(&document.to_string()).expect("the same document");
    assert!(
        again.keys().iter().map(|key| (&key.kid, key.algorithm)).eq(keys.iter().map(|key| (&key.kid, key.algorithm)))
    );
});
