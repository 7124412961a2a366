//! A small identity provider for the command line: makes keys, prints the JWK Set for `tenancy.set_issuer`, signs
//! tokens for `tenancy.authenticate`. `make demo` uses it. For trials and tests only: in production the identity
//! provider holds the private keys.
//!
//! ```text
//! sign_token key ALGORITHM KID FILE     makes a key: HS256, ES256 or EdDSA
//! sign_token jwks FILE...               prints the JWK Set of these keys
//! sign_token token FILE CLAIMS [SECONDS]
//!                                       prints a token of the JSON object CLAIMS, with "iat" now and "exp" SECONDS
//!                                       later (3600 unless given; a negative number makes an expired token)
//! ```

use std::error::Error;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "usage: sign_token key HS256|ES256|EdDSA KID FILE
       sign_token jwks FILE...
       sign_token token FILE CLAIMS [SECONDS]";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["key", algorithm, kid, file] => write_key(algorithm, kid, file),
        ["jwks", ref files @ ..] if !files.is_empty() => print_key_set(files),
        ["token", file, claims] => print_token(file, claims, 3600),
        ["token", file, claims, seconds] => print_token(file, claims, seconds.parse()?),
        _ => Err(USAGE.into()),
    }
}

/// Writes `{"jwk": what is published, "private": what signs}`, readable by its owner only.
fn write_key(algorithm: &str, kid: &str, file: &str) -> Result<()> {
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let (private, mut jwk) = match algorithm {
        "HS256" => {
            let mut secret = [0; 32];
            aws_lc_rs::rand::fill(&mut secret)?;
            (secret.to_vec(), json!({"kty": "oct", "k": encode(&secret)}))
        }
        "ES256" => {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
            // An uncompressed point (SEC 1 section 2.3.3): the byte 4, then x and y.
            let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
            let jwk = json!({"kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y)});
            (pair.to_pkcs8v1()?.as_ref().to_vec(), jwk)
        }
        "EdDSA" => {
            let pair = Ed25519KeyPair::generate()?;
            let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key().as_ref())});
            (pair.to_pkcs8v1()?.as_ref().to_vec(), jwk)
        }
        _ => return Err("the algorithm is HS256, ES256 or EdDSA".into()),
    };
    jwk["kid"] = json!(kid);
    jwk["alg"] = json!(algorithm);
    let text = json!({"jwk": jwk, "private": encode(&private)}).to_string();
    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?.write_all(text.as_bytes())?;
    Ok(())
}

fn read_key(file: &str) -> Result<Value> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    Ok(serde_json::from_str(&text)?)
}

fn print_key_set(files: &[&str]) -> Result<()> {
    let keys = files.iter().map(|file| Ok(read_key(file)?["jwk"].take())).collect::<Result<Vec<_>>>()?;
    println!("{}", json!({ "keys": keys }));
    Ok(())
}

fn print_token(file: &str, claims: &str, seconds: i64) -> Result<()> {
    let key = read_key(file)?;
    let text = |value: &Value| value.as_str().map(str::to_owned).ok_or("the key file is damaged");
    let private = URL_SAFE_NO_PAD.decode(text(&key["private"])?)?;
    let algorithm: Algorithm = text(&key["jwk"]["alg"])?.parse()?;
    let signing = match algorithm {
        Algorithm::HS256 => EncodingKey::from_secret(&private),
        Algorithm::ES256 => EncodingKey::from_ec_der(&private),
        _ => EncodingKey::from_ed_der(&private),
    };
    let mut header = Header::new(algorithm);
    header.kid = Some(text(&key["jwk"]["kid"])?);

    let mut claims: Value = serde_json::from_str(claims)?;
    let members = claims.as_object_mut().ok_or("CLAIMS is not a JSON object")?;
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
    // Every token lives an hour at least, so that an expired one has an "iat" in the past too.
    members.insert("iat".into(), json!(now.min(now + seconds - 3600)));
    members.insert("exp".into(), json!(now + seconds));
    println!("{}", jsonwebtoken::encode(&header, &claims, &signing)?);
    Ok(())
}
