//! Key pairs of every algorithm, and tokens signed with them by another library than the one under test.

// Shared by tests and benches that each use a part of it.
#![allow(dead_code)]

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, KeyPair, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{DecodingKey, EncodingKey, Header, encode};
use pg_tenancy_core::identity::algorithm::{Algorithm, KeyFamily};
use serde_json::{Value, json};

/// Key id of every pair.
pub const KEY_ID: &str = "k1";

/// One key pair: what signs, what `jsonwebtoken` verifies with, and the JWK that a database gets.
pub struct Signer {
    pub algorithm: Algorithm,
    signing: EncodingKey,
    pub verifying: DecodingKey,
    pub jwk: Value,
}

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    pub fn new(algorithm: Algorithm) -> Self {
        let (signing, verifying, mut jwk) = match algorithm.family() {
            KeyFamily::Symmetric => symmetric(&[42; 64]),
            KeyFamily::Rsa => rsa(),
            KeyFamily::EllipticCurve if algorithm == Algorithm::Es256 => {
                elliptic_curve(&ECDSA_P256_SHA256_FIXED_SIGNING, "P-256")
            }
            KeyFamily::EllipticCurve => elliptic_curve(&ECDSA_P384_SHA384_FIXED_SIGNING, "P-384"),
            KeyFamily::OctetKeyPair => ed25519(),
        };
        jwk["kid"] = json!(KEY_ID);
        jwk["alg"] = json!(algorithm.name());
        Signer { algorithm, signing, verifying, jwk }
    }

    /// The JWK Set with this key alone.
    pub fn key_set(&self) -> String {
        json!({ "keys": [self.jwk] }).to_string()
    }

    /// The algorithm in the words of `jsonwebtoken`.
    pub fn oracle_algorithm(&self) -> jsonwebtoken::Algorithm {
        self.algorithm.name().parse().expect("jsonwebtoken knows every algorithm that we do")
    }

    /// A token with these claims.
    pub fn token(&self, claims: &Value) -> String {
        let mut header = Header::new(self.oracle_algorithm());
        header.kid = Some(KEY_ID.to_owned());
        encode(&header, claims, &self.signing).expect("a key of its own algorithm signs")
    }
}

fn symmetric(secret: &[u8]) -> (EncodingKey, DecodingKey, Value) {
    let jwk = json!({"kty": "oct", "k": base64url(secret)});
    (EncodingKey::from_secret(secret), DecodingKey::from_secret(secret), jwk)
}

fn rsa() -> (EncodingKey, DecodingKey, Value) {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let n = base64url(pair.public_key().modulus().big_endian_without_leading_zero());
    let e = base64url(pair.public_key().exponent().big_endian_without_leading_zero());
    // jsonwebtoken reads PKCS #1, which PKCS #8 wraps into 26 bytes for a key of this size (RFC 5958 section 2).
    let pkcs8 = pair.as_der().unwrap();
    let verifying = DecodingKey::from_rsa_components(&n, &e).unwrap();
    (EncodingKey::from_rsa_der(&pkcs8.as_ref()[26..]), verifying, json!({"kty": "RSA", "n": n, "e": e}))
}

fn elliptic_curve(curve: &'static EcdsaSigningAlgorithm, crv: &str) -> (EncodingKey, DecodingKey, Value) {
    let pair = EcdsaKeyPair::generate(curve).unwrap();
    let point = &pair.public_key().as_ref()[1..];
    let (x, y) = point.split_at(point.len() / 2);
    let (x, y) = (base64url(x), base64url(y));
    let verifying = DecodingKey::from_ec_components(&x, &y).unwrap();
    let signing = EncodingKey::from_ec_der(pair.to_pkcs8v1().unwrap().as_ref());
    (signing, verifying, json!({"kty": "EC", "crv": crv, "x": x, "y": y}))
}

fn ed25519() -> (EncodingKey, DecodingKey, Value) {
    let pair = Ed25519KeyPair::generate().unwrap();
    let x = base64url(pair.public_key());
    let verifying = DecodingKey::from_ed_components(&x).unwrap();
    let signing = EncodingKey::from_ed_der(pair.to_pkcs8v1().unwrap().as_ref());
    (signing, verifying, json!({"kty": "OKP", "crv": "Ed25519", "x": x}))
}
