//! Writes the seed corpora from tests/hostile_tokens: `seeds FOLDER` makes FOLDER/token, key_set and
//! strict_json, FOLDER/bundle from tests/evidence, FOLDER/packed from tests/audit_vectors, and
//! FOLDER/sealed from tests/secret_vectors.

use std::error::Error;
use std::path::{Path, PathBuf};

// Built with coverage like everything else here, so it needs the functions that count.
use libfuzzer_sys as _;
use pg_tenancy_fuzz::{BUNDLE, Input, NOW, SEALED, SIGNED};
use serde_json::{Value, json};

const TOKENS: &str = include_str!("../../tests/hostile_tokens/tokens.json");
const KEY_SETS: &str = include_str!("../../tests/hostile_tokens/key_sets.json");
const VECTORS: &str = include_str!("../../tests/audit_vectors/vectors.json");

struct Corpus {
    folder: PathBuf,
    written: usize,
}

impl Corpus {
    fn new(below: &Path, target: &str) -> std::io::Result<Self> {
        let folder = below.join(target);
        std::fs::create_dir_all(&folder)?;
        Ok(Self { folder, written: 0 })
    }

    fn add(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.written += 1;
        std::fs::write(self.folder.join(format!("seed-{:04}", self.written)), bytes)
    }
}

fn from_hex(hex: &str) -> Result<Vec<u8>, std::num::ParseIntError> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16)).collect()
}

fn main() -> Result<(), Box<dyn Error>> {
    let below = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: seeds FOLDER")?);
    let mut tokens = Corpus::new(&below, "token")?;
    let mut key_sets = Corpus::new(&below, "key_set")?;
    let mut texts = Corpus::new(&below, "strict_json")?;
    let mut bundles = Corpus::new(&below, "bundle")?;
    bundles.add(BUNDLE.as_bytes())?;

    let mut packed = Corpus::new(&below, "packed")?;
    for vector in serde_json::from_str::<Vec<Value>>(VECTORS)? {
        let Some(stored) = vector["packed"].as_str() else { continue };
        let count = vector["count"].as_u64().or_else(|| vector["events"].as_array().map(|events| events.len() as u64));
        let count = count.and_then(|count| u8::try_from(count).ok()).ok_or("a vector without a number of events")?;
        packed.add(&[&[count], &from_hex(stored)?[..]].concat())?;
    }

    let mut sealed = Corpus::new(&below, "sealed")?;
    for vector in serde_json::from_str::<Value>(SEALED)?["sealed"].as_array().into_iter().flatten() {
        let envelope = vector["envelope"].as_str().ok_or("a vector without an envelope")?;
        sealed.add(&[&[1], &from_hex(envelope)?[..]].concat())?;
    }
    sealed.add(b"\x00value")?;
    sealed.add(b"\x02# a ring\na.1 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n")?;

    let good_header = r#"{"alg":"HS256","kid":"h"}"#;
    let good_claims = json!({"iss": "joe", "sub": "user_1", "aud": ["web", "db"], "exp": NOW + 300, "nbf": NOW,
        "iat": NOW as f64 - 0.5, "jti": "t", "sid": "s", "app_metadata": {"org_id": "acme"}});
    for signed in SIGNED.iter() {
        tokens.add(signed.as_bytes())?;
    }
    tokens.add(
        &Input::Signed { header: good_header.as_bytes(), claims: good_claims.to_string().as_bytes() }.to_bytes(),
    )?;
    for case in serde_json::from_str::<Vec<Value>>(TOKENS)? {
        if let Value::String(text) = &case["token"] {
            tokens.add(text.as_bytes())?;
            continue;
        }
        let part = |name: &str, default: &str| -> Result<Vec<u8>, Box<dyn Error>> {
            Ok(match (&case[name], &case[format!("{name}_hex")]) {
                // The keys of the fuzzed issuer have other names.
                (Value::String(text), _) => text
                    .replace("https://issuer.example", "joe")
                    .replace("ES256", "HS256")
                    .replace("\"k1\"", "\"h\"")
                    .into_bytes(),
                (_, Value::String(hex)) => from_hex(hex)?,
                _ => default.as_bytes().to_vec(),
            })
        };
        let (header, claims) = (part("header", good_header)?, part("claims", &good_claims.to_string())?);
        tokens.add(&Input::Signed { header: &header, claims: &claims }.to_bytes())?;
        for text in [header, claims] {
            if let Ok(text) = String::from_utf8(text) {
                texts.add(text.as_bytes())?;
            }
        }
    }
    for case in serde_json::from_str::<Vec<Value>>(KEY_SETS)? {
        let text = case["text"].as_str().ok_or("a case without text")?;
        key_sets.add(text.as_bytes())?;
        texts.add(text.as_bytes())?;
    }
    // Good ones too, or the fuzzer would have to find out by itself what a key is.
    let good = json!({"keys": [
        {"kty": "EC", "crv": "P-256", "kid": "a", "use": "sig", "key_ops": ["verify"], "alg": "ES256",
         "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},
        {"kty": "oct", "kid": "b", "alg": "HS256", "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"},
        {"kty": "OKP", "kid": "c", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
        {"kty": "RSA", "kid": "d", "e": "AQAB", "n": "_".repeat(341) + "w"},
        {"kty": "AKP", "alg": "ML-DSA-44", "pub": "AA"},
    ]});
    for jwk in good["keys"].as_array().into_iter().flatten() {
        key_sets.add(json!({"keys": [jwk]}).to_string().as_bytes())?;
    }
    key_sets.add(good.to_string().as_bytes())?;
    let (tokens, key_sets, texts) = (tokens.written, key_sets.written, texts.written);
    let (bundles, packed, sealed) = (bundles.written, packed.written, sealed.written);
    println!("{tokens} tokens, {key_sets} key sets, {texts} JSON texts, {bundles} bundle, {packed} packed events,");
    println!("{sealed} sealed values and rings");
    Ok(())
}
