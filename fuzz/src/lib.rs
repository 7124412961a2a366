//! What the fuzz targets and the maker of their seeds share: an issuer with fixed keys, and the shape of an input.
//!
//! An input of the target `token` is a text, or header, claims and signature as they are before they are encoded. A
//! fuzzer that only sees base64url can hardly change a claim, and one that cannot sign never reaches the claims.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pg_tenancy_core::audit::log::signed_note::Signer;
use pg_tenancy_core::identity::keys::KeySet;
use pg_tenancy_core::identity::token::IssuerPolicy;
use pg_tenancy_core::secrets::envelope::SecretPlace;
use pg_tenancy_core::secrets::key::{DataKey, SecretKey};
use serde_json::json;
use uuid::uuid;

/// The moment at which every token is checked, in Unix seconds.
pub const NOW: i64 = 1_800_000_000;

/// RFC 7515 appendix A.3: a token of ES256 that has not changed since 2015.
const RFC_7515_A_3: &str = "eyJhbGciOiJFUzI1NiJ9.\
    eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
    DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";

/// Between header, claims and signature of an input: a byte that UTF-8 never has.
const SEPARATOR: u8 = 0xff;

const SECRET: [u8; 32] = [42; 32];

static ED25519: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&[42; 32]).expect("any 32 bytes are a seed"));

/// The issuer of RFC 7515's examples, with three keys.
pub static POLICY: LazyLock<IssuerPolicy> = LazyLock::new(|| {
    let keys = json!({"keys": [
        {"kty": "oct", "kid": "h", "alg": "HS256", "k": URL_SAFE_NO_PAD.encode(SECRET)},
        {"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
         "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},
        {"kty": "OKP", "kid": "e", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(ED25519.public_key())},
    ]});
    let keys = KeySet::parse(&keys.to_string()).expect("three good keys");
    IssuerPolicy { leeway_seconds: 30, ..IssuerPolicy::new("joe", vec!["db".to_owned()], keys) }
});

/// The tokens that somebody with the private keys has signed: of all texts only these have a good signature.
pub static SIGNED: LazyLock<[String; 3]> = LazyLock::new(|| {
    let claims = json!({"iss": "joe", "sub": "user_1", "aud": "db", "exp": NOW + 300}).to_string();
    let hs256 = sign_hs256(br#"{"alg":"HS256","kid":"h"}"#, claims.as_bytes());
    let input = signing_input(br#"{"alg":"EdDSA","kid":"e"}"#, claims.as_bytes());
    let ed25519 = format!("{input}.{}", URL_SAFE_NO_PAD.encode(ED25519.sign(input.as_bytes())));
    [hs256, RFC_7515_A_3.to_owned(), ed25519]
});

fn signing_input(header: &[u8], claims: &[u8]) -> String {
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
}

/// A token of this header and these claims with a MAC of HS256, whatever the header says.
pub fn sign_hs256(header: &[u8], claims: &[u8]) -> String {
    let input = signing_input(header, claims);
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &SECRET), input.as_bytes());
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(mac))
}

/// A good bundle.
pub const BUNDLE: &str = include_str!("../../tests/evidence/sample.jsonl");

/// The key that signed it, which is that of an example of Go's note package.
pub static SIGNER: LazyLock<Signer> = LazyLock::new(|| {
    let key = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
    Signer::parse(key, "").expect("a good key")
});

/// What the bytes of an input stand for.
pub enum Input<'i> {
    /// The text of a token.
    Text(&'i str),
    /// Header and claims, to be encoded and signed with the secret of the issuer.
    Signed { header: &'i [u8], claims: &'i [u8] },
    /// Header, claims and signature, to be encoded.
    Forged { header: &'i [u8], claims: &'i [u8], signature: &'i [u8] },
}

impl<'i> Input<'i> {
    /// Text without a separator, signed with one, forged with two or more.
    pub fn of(data: &'i [u8]) -> Option<Self> {
        let mut parts = data.splitn(3, |byte| *byte == SEPARATOR);
        let header = parts.next()?;
        Some(match (parts.next(), parts.next()) {
            (None, _) => Self::Text(std::str::from_utf8(header).ok()?),
            (Some(claims), None) => Self::Signed { header, claims },
            (Some(claims), Some(signature)) => Self::Forged { header, claims, signature },
        })
    }

    /// The bytes that [`Input::of`] reads back, as long as header and claims are free of the separator.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.as_bytes().to_vec(),
            Self::Signed { header, claims } => [header, claims].map(|part| part.to_vec()).join(&SEPARATOR),
            Self::Forged { header, claims, signature } => {
                [header, claims, signature].map(|part| part.to_vec()).join(&SEPARATOR)
            }
        }
    }

    /// The token itself.
    pub fn token(&self) -> String {
        match self {
            Self::Text(text) => (*text).to_owned(),
            Self::Signed { header, claims } => sign_hs256(header, claims),
            Self::Forged { header, claims, signature } => {
                format!("{}.{}", signing_input(header, claims), URL_SAFE_NO_PAD.encode(signature))
            }
        }
    }
}

/// Sealed values, good and bad.
pub const SEALED: &str = include_str!("../../tests/secret_vectors/vectors.json");

/// The key and the place of most values in [`SEALED`]: `KEY` and `PLACE` of the script beside them.
pub fn sealed_by() -> (DataKey, SecretPlace<'static>) {
    let secret = digest(&SHA256, b"a data key");
    let secret = secret.as_ref().try_into().expect("SHA-256 has 32 bytes");
    let key = DataKey {
        id: uuid!("0199a000-0000-7000-8000-000000000001"),
        organization: uuid!("aaaaaaaa-0000-4000-8000-000000000001"),
        key: SecretKey::new(secret),
    };
    let secret = uuid!("0199a000-0000-7000-8000-000000000002");
    (key, SecretPlace { secret, name: "aws production", version: 1, kind: "opaque", scope: "read_only" })
}
