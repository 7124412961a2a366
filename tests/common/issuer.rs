//! An identity provider with a key of each kind, whose tokens another library makes.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

pub const ISSUER: &str = "https://id.example/";
pub const AUDIENCE: &str = "finops-database";

/// Seconds since 1970.
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed()
}

pub fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub struct Issuer {
    hmac: EncodingKey,
    elliptic_curve: EncodingKey,
    edwards: EncodingKey,
    keys: Vec<Value>,
}

impl Issuer {
    pub fn generate() -> Self {
        let mut secret = [0; 32];
        aws_lc_rs::rand::fill(&mut secret).unwrap();
        let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let (x, y) = ec.public_key().as_ref()[1..].split_at(32);
        let ed = Ed25519KeyPair::generate().unwrap();
        let keys = vec![
            json!({"kty": "oct", "kid": "HS256", "alg": "HS256", "k": base64url(secret)}),
            json!({"kty": "EC", "kid": "ES256", "alg": "ES256", "crv": "P-256", "x": base64url(x), "y": base64url(y)}),
            json!({"kty": "OKP", "kid": "EdDSA", "alg": "EdDSA", "crv": "Ed25519", "x": base64url(ed.public_key())}),
        ];
        Issuer {
            hmac: EncodingKey::from_secret(&secret),
            elliptic_curve: EncodingKey::from_ec_der(ec.to_pkcs8v1().unwrap().as_ref()),
            edwards: EncodingKey::from_ed_der(ed.to_pkcs8v1().unwrap().as_ref()),
            keys,
        }
    }

    /// The JWK Set to register.
    pub fn key_set(&self) -> String {
        json!({ "keys": self.keys }).to_string()
    }

    /// The key set but for the HMAC key, which is taken from a file alone.
    pub fn public_key_set(&self) -> String {
        let mut set: Value = serde_json::from_str(&self.key_set()).unwrap();
        set["keys"].as_array_mut().unwrap().retain(|key| key["kty"] != "oct");
        set.to_string()
    }

    /// A good token of the subject, for an hour.
    pub fn token(&self, subject: &str) -> String {
        self.sign(Algorithm::HS256, &self.claims(subject))
    }

    /// A good token that ends `seconds` from now.
    pub fn token_until(&self, subject: &str, seconds: i64) -> String {
        let mut claims = self.claims(subject);
        claims["exp"] = json!(now() + seconds);
        self.sign(Algorithm::HS256, &claims)
    }

    pub fn claims(&self, subject: &str) -> Value {
        json!({
            "iss": ISSUER, "sub": subject, "aud": AUDIENCE, "exp": now() + 3600, "iat": now() - 1,
            "session_id": format!("session of {subject}"),
        })
    }

    pub fn sign(&self, algorithm: Algorithm, claims: &Value) -> String {
        self.sign_as(&format!("{algorithm:?}"), algorithm, claims)
    }

    /// Signs with the key of `algorithm` under the name `kid`.
    pub fn sign_as(&self, kid: &str, algorithm: Algorithm, claims: &Value) -> String {
        let mut header = Header::new(algorithm);
        header.kid = Some(kid.to_owned());
        let key = match algorithm {
            Algorithm::ES256 => &self.elliptic_curve,
            Algorithm::EdDSA => &self.edwards,
            _ => &self.hmac,
        };
        encode(&header, claims, key).unwrap()
    }
}
