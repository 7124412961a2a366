//! A token that parses has one spelling, one that verifies was signed by a key of the issuer, and one that passes
//! says what its JSON says.

#![no_main]

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, URL_SAFE_NO_PAD};
use libfuzzer_sys::fuzz_target;
use pg_tenancy_core::identity::token::{MAX_TOKEN_BYTES, UnverifiedToken};
use pg_tenancy_fuzz::{Input, NOW, POLICY, SIGNED};
use serde_json::Value;

/// Reads everything that can be read: padding or none, and any value in the bits that no byte needs.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The JSON of one part, as the most ordinary reader has it.
fn json(token: &str, part: usize) -> Value {
    let encoded = token.split('.').nth(part).expect("three parts");
    serde_json::from_slice(&LENIENT.decode(encoded).expect("base64url")).expect("JSON")
}

/// Whether `aud` names this database and no element is anything but a name.
fn is_meant_for_us(aud: &Value) -> bool {
    match aud {
        Value::String(audience) => audience == "db",
        Value::Array(audiences) => audiences.iter().all(Value::is_string) && audiences.iter().any(|one| one == "db"),
        _ => false,
    }
}

fuzz_target!(|data: &[u8]| {
    let Some(input) = Input::of(data) else { return };
    let token = input.token();
    let Ok(parsed) = UnverifiedToken::parse(&token) else { return };

    assert!(token.len() <= MAX_TOKEN_BYTES);
    let parts: Vec<Vec<u8>> = token.split('.').map(|part| LENIENT.decode(part).expect("base64url")).collect();
    assert_eq!(parts.len(), 3);
    let canonical: Vec<String> = parts.iter().map(|part| URL_SAFE_NO_PAD.encode(part)).collect();
    assert_eq!(canonical.join("."), token, "a second spelling of the same token");
    let (header, claims) = (json(&token, 0), json(&token, 1));
    assert!(["crit", "b64", "jku", "jwk", "x5u", "x5c", "zip", "enc"].iter().all(|name| header.get(name).is_none()));
    assert_eq!(claims["iss"], parsed.issuer());

    let Ok(signed) = parsed.verify_signature(&POLICY) else { return };
    match input {
        Input::Signed { .. } => assert_eq!(header["alg"], "HS256", "a MAC for a key of another algorithm"),
        Input::Text(_) | Input::Forged { .. } => assert!(
            // The fuzzer may rebuild what a seed had: a MAC is as good wherever it comes from.
            SIGNED.contains(&token) || token == pg_tenancy_fuzz::sign_hs256(&parts[0], &parts[1]),
            "a signature that nobody made"
        ),
    }
    assert_eq!(claims["iss"], "joe");
    assert!(header.get("kid").is_none_or(Value::is_string));

    let Ok(verified) = signed.check_claims(&POLICY, NOW) else { return };
    let number = |name: &str| claims[name].as_f64();
    assert_eq!(Value::Object((**verified.claims).clone()), claims);
    assert_eq!(verified.claims.text().as_bytes(), parts[1], "evidence that differs from what was signed");
    assert_eq!(claims["sub"], verified.subject.as_str());
    assert!(!verified.subject.is_empty() && !verified.subject.chars().any(char::is_control));
    assert!(is_meant_for_us(&claims["aud"]), "meant for another audience");
    let exp = number("exp").expect("a number");
    assert!(exp.floor() as i64 == verified.expires_at && exp > (NOW - 30) as f64, "expired");
    for name in ["nbf", "iat"] {
        let date = claims.get(name).map(|_| number(name).expect("a number"));
        assert!(date.is_none_or(|date| date.floor() <= (NOW + 30) as f64), "{name} in the future");
    }
    assert_eq!(verified.key_id.is_some(), verified.algorithm != pg_tenancy_core::identity::algorithm::Algorithm::Es256);
});
