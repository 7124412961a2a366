//! The keys of an issuer: a JWK Set (RFC 7517) in which every key is pinned to exactly one algorithm.
//!
//! [`KeySet::parse`] pins the keys at set-up, before any token arrives. RFC 8725 section 3.1 requires each key to be
//! used with one algorithm; a key that is pinned to one cannot be used with another.

use std::collections::HashSet;
use std::fmt;

use aws_lc_rs::signature::{self, ParsedPublicKey, RsaParameters, RsaPublicKeyComponents, RsaSubjectPublicKey};
use aws_lc_rs::{error::KeyRejected, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::algorithm::{Algorithm, KeyFamily};
use super::strict_json;
use crate::error::{Error, KEY_SET_INVALID, Result};

/// The largest JWK Set that is read, in bytes.
pub const MAX_KEY_SET_BYTES: usize = 256 * 1024;

/// The most keys that a JWK Set may hold, unusable ones included.
pub const MAX_KEYS: usize = 100;

/// The longest key ID (`kid`), in bytes.
pub const MAX_KEY_ID_BYTES: usize = 256;

/// The accepted sizes of RSA moduli: RFC 7518 section 3.3 sets the lower bound, `aws-lc-rs` the upper.
const RSA_MODULUS_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Members that only a private or symmetric key has (RFC 7518 sections 6.2.2, 6.3.2, 6.4, RFC 8037 section 2).
const PRIVATE_MEMBERS: [&str; 9] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"];

/// One verification key, pinned to one algorithm.
#[derive(Clone)]
pub struct Key {
    /// The `kid`: an opaque name, compared byte for byte and used for nothing else (RFC 8725 section 3.10).
    pub kid: Option<String>,
    /// The only algorithm that this key verifies.
    pub algorithm: Algorithm,
    material: Material,
}

#[derive(Clone)]
enum Material {
    /// Boxed because it holds the prepared hash states: 1.2 kB against the 56 bytes of a public key.
    Symmetric(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

impl Key {
    /// Whether `signature` is a signature of `message` by this key under its pinned algorithm.
    ///
    /// `aws_lc_rs::hmac::verify` compares a MAC in constant time.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Symmetric(key) => hmac::verify(key, message, signature).is_ok(),
            Material::Public(key) => key.verify_sig(message, signature).is_ok(),
        }
    }
}

/// Prints `kid` and algorithm, but not the key material.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("kid", &self.kid).field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// The usable signature keys of one issuer: at least one, and no two with the same `kid`.
#[derive(Debug, Clone)]
pub struct KeySet {
    keys: Vec<Key>,
}

impl KeySet {
    /// Parses a JWK Set (RFC 7517 section 5) of at most 256 KiB and 100 keys.
    ///
    /// Keys for another purpose (`use`, `key_ops`) and of unknown `kty` or `crv` are skipped, because providers publish
    /// them in the same set. Every other mismatch is an error, [`KEY_SET_INVALID`]: an administrator is present when
    /// the set is read, so a mistake is reported then and not when the first token fails.
    pub fn parse(jwks_json: &str) -> Result<Self> {
        if jwks_json.len() > MAX_KEY_SET_BYTES {
            return Err(refused("The text is longer than 256 KiB."));
        }
        let document =
            strict_json::parse(jwks_json).map_err(|error| refused(format!("The text is not strict JSON: {error}.")))?;
        let Value::Object(set) = document else {
            return Err(refused("The text is not a JSON object."));
        };
        let jwks = match set.get("keys") {
            Some(Value::Array(jwks)) => jwks,
            Some(_) => return Err(refused("The member \"keys\" is not an array.")),
            None if set.contains_key("kty") => {
                return Err(refused("This is a single JWK; wrap it as {\"keys\": [ ... ]}."));
            }
            None => return Err(refused("The member \"keys\" is absent.")),
        };
        if jwks.len() > MAX_KEYS {
            return Err(refused(format!("The set holds {} keys; at most {MAX_KEYS} are read.", jwks.len())));
        }

        let mut keys = Vec::with_capacity(jwks.len());
        for (index, jwk) in jwks.iter().enumerate() {
            let key = parse_jwk(jwk).map_err(|why| refused(format!("Key {} of {}: {why}.", index + 1, jwks.len())))?;
            keys.extend(key);
        }
        if keys.is_empty() {
            return Err(refused("The set holds no key that verifies signatures with a supported algorithm."));
        }
        // RFC 7517 section 4.5 lets keys of different type share a "kid". Refused all the same: a name for two keys
        // leaves the choice between them to the header, which the attacker writes.
        let mut seen = HashSet::new();
        if !keys.iter().filter_map(|key| key.kid.as_deref()).all(|kid| seen.insert(kid)) {
            return Err(refused("Two keys have the same \"kid\"."));
        }
        Ok(Self { keys })
    }

    /// The usable keys, in the order of the document.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Whether one of the keys is a secret, which can sign as well as verify.
    pub fn has_secrets(&self) -> bool {
        self.keys.iter().any(|key| key.algorithm.family() == KeyFamily::Symmetric)
    }

    /// The key for a token's header, if there is exactly one.
    ///
    /// With a `kid`, the result is the key of that name, and only if it is pinned to `algorithm`. Without a `kid`, the
    /// result is the only key of that algorithm. The failure of one key never leads to an attempt with another key.
    pub fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<&Key> {
        let mut fitting = self
            .keys
            .iter()
            .filter(|key| key.algorithm == algorithm)
            .filter(|key| kid.is_none() || key.kid.as_deref() == kid);
        let key = fitting.next()?;
        fitting.next().is_none().then_some(key)
    }
}

/// The JWK Set without its `oct` keys, as JSON text; `None` if no key that verifies is left.
pub fn without_secrets(jwks_json: &str) -> Option<String> {
    let mut document = strict_json::parse(jwks_json).ok()?;
    document.get_mut("keys")?.as_array_mut()?.retain(|jwk| jwk.get("kty").is_some_and(|kty| kty != "oct"));
    let public = document.to_string();
    KeySet::parse(&public).is_ok().then_some(public)
}

fn refused(detail: impl Into<String>) -> Error {
    KEY_SET_INVALID.error("the JWK Set cannot be used").detail(detail)
}

/// The content of a JWK, or the reason why the key cannot be used.
///
/// The reason is the end of a sentence and never contains a value of the key.
type Checked<T> = std::result::Result<T, String>;

/// Parses one JWK; `None` for a key of another purpose or type, which the caller skips.
fn parse_jwk(jwk: &Value) -> Checked<Option<Key>> {
    let Value::Object(jwk) = jwk else {
        return Err("it is not a JSON object".into());
    };
    let key_type = required_text(jwk, "kty")?;
    // Before anything is skipped: whoever pasted the private half must hear of it, whatever the key is for.
    if key_type != "oct" && PRIVATE_MEMBERS.iter().any(|member| jwk.contains_key(*member)) {
        return Err("it holds private members; keep the private key secret, and give the public one".into());
    }
    if !is_for_signatures(jwk)? {
        return Ok(None);
    }
    let kid = optional_text(jwk, "kid")?;
    if kid.is_some_and(|kid| kid.is_empty() || kid.len() > MAX_KEY_ID_BYTES) {
        return Err(format!("its \"kid\" is empty or longer than {MAX_KEY_ID_BYTES} bytes"));
    }

    let parsed = match key_type {
        "oct" => symmetric_key(jwk)?,
        "RSA" => rsa_key(jwk)?,
        "EC" => match required_text(jwk, "crv")? {
            "P-256" => elliptic_curve_key(jwk, &P256)?,
            "P-384" => elliptic_curve_key(jwk, &P384)?,
            _ => return Ok(None),
        },
        "OKP" => match required_text(jwk, "crv")? {
            "Ed25519" => ed25519_key(jwk)?,
            _ => return Ok(None),
        },
        // RFC 7517 section 5: a "kty" that is not understood is ignored.
        _ => return Ok(None),
    };
    let (algorithm, material) = parsed;
    Ok(Some(Key { kid: kid.map(str::to_owned), algorithm, material }))
}

/// Whether the JWK is meant for signatures (RFC 7517 sections 4.2 and 4.3).
fn is_for_signatures(jwk: &Map<String, Value>) -> Checked<bool> {
    if optional_text(jwk, "use")?.is_some_and(|public_key_use| public_key_use != "sig") {
        return Ok(false);
    }
    match jwk.get("key_ops") {
        None => Ok(true),
        Some(Value::Array(operations)) => {
            Ok(operations.iter().any(|operation| operation == "verify" || operation == "sign"))
        }
        Some(_) => Err("its \"key_ops\" is not an array".into()),
    }
}

/// Parses an `oct` key (RFC 7518 section 6.4).
///
/// A secret does not determine its algorithm, so the JWK has to name one.
fn symmetric_key(jwk: &Map<String, Value>) -> Checked<(Algorithm, Material)> {
    let algorithm =
        pinned_algorithm(jwk, KeyFamily::Symmetric)?.ok_or("an \"oct\" key needs \"alg\": HS256, HS384 or HS512")?;
    let (digest, least_bytes) = match algorithm {
        Algorithm::Hs384 => (hmac::HMAC_SHA384, 48),
        Algorithm::Hs512 => (hmac::HMAC_SHA512, 64),
        _ => (hmac::HMAC_SHA256, 32),
    };
    let secret = bytes(jwk, "k")?;
    // RFC 7518 section 3.2: a secret shorter than the hash is the weakest part of the MAC.
    if secret.len() < least_bytes {
        return Err(format!("a secret for {algorithm} needs at least {least_bytes} bytes"));
    }
    Ok((algorithm, Material::Symmetric(Box::new(hmac::Key::new(digest, &secret)))))
}

/// Parses an RSA key (RFC 7518 section 6.3.1).
fn rsa_key(jwk: &Map<String, Value>) -> Checked<(Algorithm, Material)> {
    let algorithm = pinned_algorithm(jwk, KeyFamily::Rsa)?.unwrap_or(Algorithm::Rs256);
    let parameters: &'static RsaParameters = match algorithm {
        Algorithm::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
        Algorithm::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
        Algorithm::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
        _ => &signature::RSA_PKCS1_2048_8192_SHA256,
    };
    let (n, e) = (bytes(jwk, "n")?, bytes(jwk, "e")?);
    let modulus_bits = match n.first() {
        // A leading zero is no canonical encoding (RFC 7518 section 2, Base64urlUInt).
        None | Some(0) => return Err("its \"n\" is empty or begins with a zero byte".into()),
        Some(first) => n.len() * 8 - first.leading_zeros() as usize,
    };
    if !RSA_MODULUS_BITS.contains(&modulus_bits) {
        return Err(format!("an RSA modulus needs 2048 to 8192 bits and this one has {modulus_bits}"));
    }
    if has_roca_fingerprint(&n) {
        return Err("its \"n\" was made by a chip whose keys can be factored (CVE-2017-15361); make a new key".into());
    }
    let key = RsaPublicKeyComponents { n, e }
        .to_parsed_public_key(parameters)
        .and_then(|key| {
            // Only the parsing of an encoded key looks at the numbers (odd modulus, sane exponent).
            RsaSubjectPublicKey::from_der(key.as_ref())?;
            Ok(key)
        })
        .map_err(not_a_public_key)?;
    Ok((algorithm, Material::Public(key)))
}

/// Whether the modulus has the form of CVE-2017-15361 (ROCA): modulo each small prime a power of 65537.
///
/// The test is that of Nemec and others, "The Return of Coppersmith's Attack" (2017), section 2.3. The probability of a
/// false positive is 2^-27.
fn has_roca_fingerprint(modulus: &[u8]) -> bool {
    const PRIMES: [u32; 38] = [
        3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107,
        109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
    ];
    PRIMES.iter().all(|prime| {
        let residue = modulus.iter().fold(0, |residue, byte| (residue * 256 + u32::from(*byte)) % prime);
        std::iter::successors(Some(1), |power| Some(power * 65537 % prime))
            .take(*prime as usize)
            .any(|power| power == residue)
    })
}

struct Curve {
    algorithm: Algorithm,
    verification: &'static signature::EcdsaVerificationAlgorithm,
    coordinate_bytes: usize,
}

static P256: Curve =
    Curve { algorithm: Algorithm::Es256, verification: &signature::ECDSA_P256_SHA256_FIXED, coordinate_bytes: 32 };

static P384: Curve =
    Curve { algorithm: Algorithm::Es384, verification: &signature::ECDSA_P384_SHA384_FIXED, coordinate_bytes: 48 };

/// Parses an `EC` key (RFC 7518 section 6.2.1).
fn elliptic_curve_key(jwk: &Map<String, Value>, curve: &Curve) -> Checked<(Algorithm, Material)> {
    require_algorithm(jwk, KeyFamily::EllipticCurve, curve.algorithm)?;
    let (x, y) = (bytes(jwk, "x")?, bytes(jwk, "y")?);
    if x.len() != curve.coordinate_bytes || y.len() != curve.coordinate_bytes {
        return Err(format!("\"x\" and \"y\" need {} bytes each", curve.coordinate_bytes));
    }
    // SEC 1 section 2.3.3, uncompressed. The library checks that the point lies on the curve.
    let point = [&[4], x.as_slice(), y.as_slice()].concat();
    let key = ParsedPublicKey::new(curve.verification, point).map_err(not_a_public_key)?;
    Ok((curve.algorithm, Material::Public(key)))
}

/// Parses an `OKP` key (RFC 8037 section 2).
fn ed25519_key(jwk: &Map<String, Value>) -> Checked<(Algorithm, Material)> {
    require_algorithm(jwk, KeyFamily::OctetKeyPair, Algorithm::EdDsa)?;
    let x = bytes(jwk, "x")?;
    // Checked here because the library would take another length for an X.509 encoding.
    if x.len() != signature::ED25519_PUBLIC_KEY_LEN {
        return Err(format!("\"x\" needs {} bytes", signature::ED25519_PUBLIC_KEY_LEN));
    }
    if is_weak_ed25519_point(&x) {
        return Err(NO_PUBLIC_KEY.into());
    }
    let key = ParsedPublicKey::new(&signature::ED25519, x).map_err(not_a_public_key)?;
    Ok((Algorithm::EdDsa, Material::Public(key)))
}

/// The algorithm in the JWK's `alg`, which must be one for this type of key.
fn pinned_algorithm(jwk: &Map<String, Value>, family: KeyFamily) -> Checked<Option<Algorithm>> {
    let Some(name) = optional_text(jwk, "alg")? else {
        return Ok(None);
    };
    match name.parse::<Algorithm>() {
        Ok(algorithm) if algorithm.family() == family => Ok(Some(algorithm)),
        _ => Err("its \"alg\" is no supported signature algorithm for its \"kty\"".into()),
    }
}

/// Checks that `alg`, if present, is the algorithm that the curve determines.
fn require_algorithm(jwk: &Map<String, Value>, family: KeyFamily, algorithm: Algorithm) -> Checked<()> {
    match pinned_algorithm(jwk, family)? {
        Some(named) if named != algorithm => {
            Err(format!("its \"crv\" belongs to {algorithm} and its \"alg\" says {named}"))
        }
        _ => Ok(()),
    }
}

/// Whether the point has a small order or is not reduced modulo the prime (RFC 8032 section 5.1.3).
///
/// For a point of small order one signature matches every message. The library accepts both kinds of point.
fn is_weak_ed25519_point(x: &[u8]) -> bool {
    /// The ordinates, little-endian, of the points whose order divides 8, the cofactor (RFC 7748 section 4.1).
    const SMALL_ORDER: [[u8; 32]; 5] = [
        hex32(b"0000000000000000000000000000000000000000000000000000000000000000"),
        hex32(b"0100000000000000000000000000000000000000000000000000000000000000"),
        hex32(b"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
        hex32(b"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
        hex32(b"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    ];
    /// 2^255 - 19, little-endian.
    const PRIME: [u8; 32] = hex32(b"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f");
    let mut ordinate = x.to_vec();
    // The highest bit is the sign of the other coordinate.
    if let Some(last) = ordinate.last_mut() {
        *last &= 0x7f;
    }
    let reduced = ordinate.iter().rev().lt(PRIME.iter().rev());
    !reduced || SMALL_ORDER.iter().any(|weak| weak == ordinate.as_slice())
}

const fn hex32(digits: &[u8; 64]) -> [u8; 32] {
    const fn digit(character: u8) -> u8 {
        if character.is_ascii_digit() { character - b'0' } else { character - b'a' + 10 }
    }
    let mut bytes = [0; 32];
    let mut at = 0;
    while at < 32 {
        bytes[at] = digit(digits[2 * at]) << 4 | digit(digits[2 * at + 1]);
        at += 1;
    }
    bytes
}

const NO_PUBLIC_KEY: &str = "its numbers are no valid public key";

fn not_a_public_key(_: KeyRejected) -> String {
    NO_PUBLIC_KEY.into()
}

fn optional_text<'j>(jwk: &'j Map<String, Value>, member: &str) -> Checked<Option<&'j str>> {
    match jwk.get(member) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("its \"{member}\" is not a string")),
    }
}

fn required_text<'j>(jwk: &'j Map<String, Value>, member: &str) -> Checked<&'j str> {
    optional_text(jwk, member)?.ok_or_else(|| format!("it has no \"{member}\""))
}

fn bytes(jwk: &Map<String, Value>, member: &str) -> Checked<Vec<u8>> {
    URL_SAFE_NO_PAD
        .decode(required_text(jwk, member)?)
        .map_err(|_| format!("its \"{member}\" is not unpadded base64url (RFC 7515 section 2)"))
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::LazyLock;

    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair};
    use serde_json::json;

    use super::*;

    /// The private half of a [`Key`], as an identity provider holds it.
    pub(in crate::identity) struct Signer {
        pub(in crate::identity) algorithm: Algorithm,
        kid: Option<&'static str>,
        private: Private,
    }

    enum Private {
        Symmetric([u8; 64]),
        Rsa(&'static RsaKeyPair),
        EllipticCurve(EcdsaKeyPair),
        Ed25519(Ed25519KeyPair),
    }

    /// One RSA key for all tests: generating it takes longer than all other steps.
    static RSA: LazyLock<RsaKeyPair> = LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap());

    impl Signer {
        pub(in crate::identity) fn new(algorithm: Algorithm, kid: Option<&'static str>) -> Self {
            let private = match algorithm {
                Algorithm::Es256 => {
                    Private::EllipticCurve(EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
                }
                Algorithm::Es384 => {
                    Private::EllipticCurve(EcdsaKeyPair::generate(&signature::ECDSA_P384_SHA384_FIXED_SIGNING).unwrap())
                }
                Algorithm::EdDsa => Private::Ed25519(Ed25519KeyPair::generate().unwrap()),
                _ if algorithm.family() == KeyFamily::Rsa => Private::Rsa(&RSA),
                _ => {
                    let mut secret = [0; 64];
                    aws_lc_rs::rand::fill(&mut secret).unwrap();
                    Private::Symmetric(secret)
                }
            };
            Self { algorithm, kid, private }
        }

        /// The key as the provider publishes it, with `alg`.
        pub(in crate::identity) fn jwk(&self) -> Value {
            let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
            let mut jwk = match &self.private {
                Private::Symmetric(secret) => json!({"kty": "oct", "k": encode(secret)}),
                Private::Rsa(pair) => {
                    let public = pair.public_key();
                    let n = encode(public.modulus().big_endian_without_leading_zero());
                    let e = encode(public.exponent().big_endian_without_leading_zero());
                    json!({"kty": "RSA", "n": n, "e": e})
                }
                Private::EllipticCurve(pair) => {
                    let point = &pair.public_key().as_ref()[1..];
                    let (x, y) = point.split_at(point.len() / 2);
                    let crv = if x.len() == 32 { "P-256" } else { "P-384" };
                    json!({"kty": "EC", "crv": crv, "x": encode(x), "y": encode(y)})
                }
                Private::Ed25519(pair) => {
                    json!({"kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key().as_ref())})
                }
            };
            jwk["alg"] = json!(self.algorithm.name());
            if let Some(kid) = self.kid {
                jwk["kid"] = json!(kid);
            }
            jwk
        }

        pub(in crate::identity) fn sign(&self, message: &[u8]) -> Vec<u8> {
            match &self.private {
                Private::Symmetric(secret) => {
                    let digest = match self.algorithm {
                        Algorithm::Hs256 => hmac::HMAC_SHA256,
                        Algorithm::Hs384 => hmac::HMAC_SHA384,
                        _ => hmac::HMAC_SHA512,
                    };
                    hmac::sign(&hmac::Key::new(digest, secret), message).as_ref().to_vec()
                }
                Private::Rsa(pair) => {
                    let padding: &'static dyn signature::RsaEncoding = match self.algorithm {
                        Algorithm::Rs256 => &signature::RSA_PKCS1_SHA256,
                        Algorithm::Rs384 => &signature::RSA_PKCS1_SHA384,
                        Algorithm::Rs512 => &signature::RSA_PKCS1_SHA512,
                        Algorithm::Ps256 => &signature::RSA_PSS_SHA256,
                        Algorithm::Ps384 => &signature::RSA_PSS_SHA384,
                        _ => &signature::RSA_PSS_SHA512,
                    };
                    let mut signed = vec![0; pair.public_modulus_len()];
                    pair.sign(padding, &SystemRandom::new(), message, &mut signed).unwrap();
                    signed
                }
                Private::EllipticCurve(pair) => pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec(),
                Private::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            }
        }
    }

    pub(in crate::identity) fn key_set(jwks: &[Value]) -> KeySet {
        KeySet::parse(&json!({ "keys": jwks }).to_string()).unwrap()
    }

    fn refusal(jwks: &Value) -> String {
        let error = KeySet::parse(&jwks.to_string()).unwrap_err();
        assert_eq!(error.kind, &KEY_SET_INVALID);
        error.detail.unwrap()
    }

    fn with(mut jwk: Value, member: &str, value: Value) -> Value {
        jwk[member] = value;
        jwk
    }

    fn without(mut jwk: Value, member: &str) -> Value {
        jwk.as_object_mut().unwrap().remove(member);
        jwk
    }

    #[test]
    fn a_key_of_each_algorithm_verifies_its_own_signature_and_no_other() {
        for algorithm in Algorithm::ALL {
            let signer = Signer::new(algorithm, None);
            let keys = key_set(&[signer.jwk()]);
            let key = &keys.keys()[0];
            assert_eq!(key.algorithm, algorithm);
            let signature = signer.sign(b"message");
            assert!(key.verify(b"message", &signature), "{algorithm}");
            assert!(!key.verify(b"messagf", &signature), "{algorithm}");
            assert!(!key.verify(b"message", &[]), "{algorithm}");
            assert!(!key.verify(b"message", &signature[1..]), "{algorithm}");
            assert!(!key.verify(b"message", &[signature.as_slice(), &[0]].concat()), "{algorithm}");
            assert!(!key.verify(b"message", &vec![0; signature.len()]), "{algorithm}");
            let mut flipped = signature.clone();
            flipped[signature.len() / 2] ^= 1;
            assert!(!key.verify(b"message", &flipped), "{algorithm}");
        }
    }

    #[test]
    fn a_key_pinned_to_one_algorithm_verifies_no_signature_of_another() {
        let signers: Vec<Signer> = Algorithm::ALL
            .into_iter()
            .filter(|algorithm| algorithm.family() == KeyFamily::Rsa)
            .map(|algorithm| Signer::new(algorithm, None))
            .collect();
        for pinned in &signers {
            let keys = key_set(&[pinned.jwk()]);
            for other in &signers {
                // All six share one RSA key, so only the pinned algorithm tells them apart.
                let verified = keys.keys()[0].verify(b"message", &other.sign(b"message"));
                assert_eq!(verified, pinned.algorithm == other.algorithm, "{} {}", pinned.algorithm, other.algorithm);
            }
        }
    }

    #[test]
    fn without_alg_the_curve_decides_and_rsa_means_rs256() {
        for (algorithm, pinned) in [
            (Algorithm::Es256, Algorithm::Es256),
            (Algorithm::Es384, Algorithm::Es384),
            (Algorithm::EdDsa, Algorithm::EdDsa),
            (Algorithm::Ps512, Algorithm::Rs256),
        ] {
            let keys = key_set(&[without(Signer::new(algorithm, None).jwk(), "alg")]);
            assert_eq!(keys.keys()[0].algorithm, pinned);
        }
    }

    #[test]
    fn an_algorithm_that_does_not_belong_to_the_key_type_or_curve_is_refused() {
        for (algorithm, named) in [
            (Algorithm::Rs256, "HS256"),
            (Algorithm::Rs256, "ES256"),
            (Algorithm::Rs256, "RSA-OAEP"),
            (Algorithm::Rs256, "rs256"),
            (Algorithm::Rs256, "none"),
            (Algorithm::Es256, "ES384"),
            (Algorithm::Es256, "ES521"),
            (Algorithm::Es384, "ES256"),
            (Algorithm::EdDsa, "ES256"),
            (Algorithm::Hs256, "RS256"),
            (Algorithm::Hs256, "A256GCM"),
        ] {
            let jwk = with(Signer::new(algorithm, None).jwk(), "alg", json!(named));
            let detail = refusal(&json!({"keys": [jwk]}));
            assert!(detail.contains("alg"), "{algorithm} as {named}: {detail}");
        }
    }

    #[test]
    fn a_secret_shorter_than_its_hash_is_refused_and_one_as_long_is_accepted() {
        for (alg, least) in [("HS256", 32), ("HS384", 48), ("HS512", 64)] {
            let set = |length: usize| {
                let k = URL_SAFE_NO_PAD.encode(vec![7; length]);
                json!({"keys": [{"kty": "oct", "alg": alg, "k": k}]})
            };
            assert!(KeySet::parse(&set(least).to_string()).is_ok());
            for short in [0, 1, least - 1] {
                assert!(refusal(&set(short)).contains("at least"), "{alg} {short}");
            }
        }
    }

    #[test]
    fn a_secret_without_an_algorithm_is_refused() {
        let jwk = without(Signer::new(Algorithm::Hs256, None).jwk(), "alg");
        assert!(refusal(&json!({"keys": [jwk]})).contains("needs \"alg\""));
    }

    #[test]
    fn keys_for_other_purposes_and_of_unknown_kinds_are_skipped() {
        let good = Signer::new(Algorithm::Es256, Some("good")).jwk();
        let rsa = Signer::new(Algorithm::Rs256, Some("other")).jwk();
        for skipped in [
            with(with(rsa.clone(), "use", json!("enc")), "alg", json!("RSA-OAEP")),
            with(rsa.clone(), "key_ops", json!(["encrypt", "wrapKey"])),
            with(rsa, "key_ops", json!([])),
            json!({"kty": "AKP", "alg": "ML-DSA-44", "pub": "AA"}),
            json!({"kty": "EC", "crv": "P-521", "alg": "ES512", "x": "AA", "y": "AA"}),
            json!({"kty": "EC", "crv": "secp256k1", "alg": "ES256K", "x": "AA", "y": "AA"}),
            json!({"kty": "OKP", "crv": "X25519", "x": "AA"}),
            json!({"kty": "OKP", "crv": "Ed448", "x": "AA"}),
        ] {
            let keys = key_set(&[skipped.clone(), good.clone()]);
            assert_eq!(keys.keys().len(), 1, "{skipped}");
            assert_eq!(keys.keys()[0].kid.as_deref(), Some("good"));
            assert!(refusal(&json!({"keys": [skipped]})).contains("no key"));
        }
    }

    #[test]
    fn a_pasted_private_key_is_refused_even_if_it_would_have_been_skipped() {
        let jwk = Signer::new(Algorithm::Rs256, None).jwk();
        for member in PRIVATE_MEMBERS {
            let private = with(jwk.clone(), member, json!("c2VjcmV0"));
            for jwk in [private.clone(), with(private, "use", json!("enc"))] {
                let detail = refusal(&json!({"keys": [jwk]}));
                assert!(detail.contains("private") && !detail.contains("c2VjcmV0"), "{member}: {detail}");
            }
        }
    }

    #[test]
    fn two_keys_of_the_same_name_are_refused_even_if_their_types_differ() {
        let rsa = Signer::new(Algorithm::Rs256, Some("a")).jwk();
        let ec = Signer::new(Algorithm::Es256, Some("a")).jwk();
        assert!(refusal(&json!({"keys": [rsa, ec]})).contains("same"));
        assert!(refusal(&json!({"keys": [rsa, rsa]})).contains("same"));
    }

    #[test]
    fn a_hundred_keys_are_read_and_one_more_is_not() {
        let jwk = without(Signer::new(Algorithm::EdDsa, None).jwk(), "kid");
        assert_eq!(key_set(&vec![jwk.clone(); MAX_KEYS]).keys().len(), MAX_KEYS);
        assert!(refusal(&json!({"keys": vec![jwk; MAX_KEYS + 1]})).contains("101"));
    }

    #[test]
    fn a_set_of_more_than_256_kib_is_refused_before_it_is_parsed() {
        let set = json!({"keys": [Signer::new(Algorithm::EdDsa, None).jwk()]}).to_string();
        let padded = |length: usize| format!("{set}{}", " ".repeat(length - set.len()));
        assert!(KeySet::parse(&padded(MAX_KEY_SET_BYTES)).is_ok());
        let error = KeySet::parse(&padded(MAX_KEY_SET_BYTES + 1)).unwrap_err();
        assert!(error.detail.unwrap().contains("256 KiB"));
    }

    #[test]
    fn rsa_moduli_are_accepted_from_2048_to_8192_bits() {
        // An odd number of that many bits; nobody needs to know factors of it.
        let set = |bits: usize| {
            let mut n = vec![0xff; bits.div_ceil(8)];
            n[0] = 0xff >> (n.len() * 8 - bits);
            json!({"keys": [{"kty": "RSA", "n": URL_SAFE_NO_PAD.encode(n), "e": "AQAB"}]})
        };
        for bits in [2048, 2049, 3072, 4096, 8192] {
            assert!(KeySet::parse(&set(bits).to_string()).is_ok(), "{bits}");
        }
        for bits in [8, 512, 1024, 2047, 8193, 16384] {
            assert!(refusal(&set(bits)).contains(&bits.to_string()), "{bits}");
        }
    }

    #[test]
    fn numbers_that_are_no_public_key_are_refused() {
        let rsa = Signer::new(Algorithm::Rs256, None).jwk();
        let ec = Signer::new(Algorithm::Es256, None).jwk();
        let ed = Signer::new(Algorithm::EdDsa, None).jwk();
        let even = URL_SAFE_NO_PAD.encode([&[0xff; 255][..], &[0xfe]].concat());
        let leading_zero = URL_SAFE_NO_PAD.encode([&[0][..], &[0xff; 256]].concat());
        for (jwk, member, value) in [
            (&rsa, "e", json!("AQ")),           // 1: every message is its own signature
            (&rsa, "e", json!("Ag")),           // 2: even
            (&rsa, "e", json!("")),             // nothing
            (&rsa, "e", json!("AAEAAQ")),       // a leading zero
            (&rsa, "e", json!("AQAAAAAAAAAB")), // 2^64 + 1: makes verification slow
            (&rsa, "n", json!(even)),
            (&rsa, "n", json!(leading_zero)),
            (&rsa, "n", json!("")),
            (&ec, "x", json!("AA")),
            (&ec, "x", json!(URL_SAFE_NO_PAD.encode([0; 32]))), // not on the curve with this y
            (&ec, "y", json!(URL_SAFE_NO_PAD.encode([0xff; 32]))), // beyond the field
            (&ec, "crv", json!("P-384")),
            (&ed, "x", json!("AA")),
            (&ed, "x", json!(URL_SAFE_NO_PAD.encode([1; 33]))),
        ] {
            let broken = without(with(jwk.clone(), member, value.clone()), "alg");
            let result = KeySet::parse(&json!({"keys": [broken]}).to_string());
            assert!(result.is_err(), "{member} = {value}");
        }
    }

    #[test]
    fn coordinates_of_other_lengths_are_refused_even_if_their_sum_is_right() {
        let jwk = Signer::new(Algorithm::Es256, None).jwk();
        let decode = |member: &str| URL_SAFE_NO_PAD.decode(jwk[member].as_str().unwrap()).unwrap();
        let point = [decode("x"), decode("y")].concat();
        let (x, y) = point.split_at(31);
        let shifted = with(with(jwk, "x", json!(URL_SAFE_NO_PAD.encode(x))), "y", json!(URL_SAFE_NO_PAD.encode(y)));
        assert!(refusal(&json!({"keys": [shifted]})).contains("32 bytes each"));
    }

    #[test]
    fn hostile_key_sets_are_refused_for_the_reason_in_the_file() {
        let cases: Vec<Value> =
            serde_json::from_str(include_str!("../../../tests/hostile_tokens/key_sets.json")).unwrap();
        assert!(cases.len() > 20);
        for case in cases {
            let error = KeySet::parse(case["text"].as_str().unwrap()).expect_err(case["name"].as_str().unwrap());
            let detail = error.detail.unwrap();
            assert!(detail.contains(case["detail"].as_str().unwrap()), "{}: {detail}", case["name"]);
        }
    }

    #[test]
    fn a_kid_finds_its_own_key_or_none() {
        let a = Signer::new(Algorithm::Es256, Some("a")).jwk();
        let b = Signer::new(Algorithm::Es256, Some("b")).jwk();
        let nameless = Signer::new(Algorithm::EdDsa, None).jwk();
        let keys = key_set(&[a, b, nameless]);
        let kid = |kid, algorithm| keys.find(kid, algorithm).map(|key| key.kid.as_deref());
        assert_eq!(kid(Some("a"), Algorithm::Es256), Some(Some("a")));
        assert_eq!(kid(Some("b"), Algorithm::Es256), Some(Some("b")));
        assert_eq!(kid(Some("a"), Algorithm::EdDsa), None, "pinned to ES256");
        assert_eq!(kid(Some("c"), Algorithm::Es256), None);
        assert_eq!(kid(Some("c"), Algorithm::EdDsa), None, "a key without a name answers to none");
        assert_eq!(kid(Some("A"), Algorithm::Es256), None);
        assert_eq!(kid(Some("a\0"), Algorithm::Es256), None);
        assert_eq!(kid(None, Algorithm::Es256), None, "two keys: no guessing");
        assert_eq!(kid(None, Algorithm::EdDsa), Some(None));
        assert_eq!(kid(None, Algorithm::Hs256), None);
    }

    #[test]
    fn debug_shows_no_key_material() {
        let k = URL_SAFE_NO_PAD.encode(b"correct horse battery staple 1234567890");
        let keys = key_set(&[json!({"kty": "oct", "alg": "HS256", "k": k, "kid": "name"})]);
        let shown = format!("{keys:?} {keys:#?}");
        assert!(shown.contains("name") && shown.contains("Hs256"));
        assert!(!shown.contains(&k) && !shown.contains("horse") && !shown.contains("99, 111"), "{shown}");
    }

    // Vectors of the RFCs: the only proof that this is not just consistent with itself.

    const RFC7515_CLAIMS: &str =
        "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

    fn verifies(jwk: Value, signing_input: &str, signature: &str) -> bool {
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        key_set(&[jwk]).keys()[0].verify(signing_input.as_bytes(), &signature)
    }

    #[test]
    fn rfc_7515_appendix_a_1_verifies() {
        let jwk = json!({
            "kty": "oct", "alg": "HS256",
            "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
        });
        let input = format!("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{RFC7515_CLAIMS}");
        assert!(verifies(jwk, &input, "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"));
    }

    #[test]
    fn rfc_7515_appendix_a_3_verifies() {
        let jwk = json!({
            "kty": "EC", "crv": "P-256",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        });
        let signature = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
        assert!(verifies(jwk, &format!("eyJhbGciOiJFUzI1NiJ9.{RFC7515_CLAIMS}"), signature));
    }

    #[test]
    fn rfc_8037_appendix_a_4_verifies() {
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
        let input = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
        let signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
        assert!(verifies(jwk, input, signature));
    }
}
