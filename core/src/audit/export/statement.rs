//! Statements about artifacts in the forms of in-toto and DSSE, which supply-chain tools read.
//!
//! The specifications are in-toto Statement version 1
//! (<https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md>) and DSSE
//! (<https://github.com/secure-systems-lab/dsse/blob/master/protocol.md>).

use crate::audit::log::signed_note::{Malformed, Signer, Verifier};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The `_type` of an in-toto Statement, version 1.
pub const STATEMENT: &str = "https://in-toto.io/Statement/v1";
/// The DSSE `payloadType` of in-toto statements, a media type.
pub const PAYLOAD: &str = "application/vnd.in-toto+json";

/// An in-toto statement: a predicate about some artifacts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Statement<P> {
    /// The member `_type`, always [`STATEMENT`].
    #[serde(rename = "_type")]
    pub kind: String,
    /// The artifacts that the predicate is about.
    pub subject: Vec<Subject>,
    /// The member `predicateType`, a URI for the meaning of the predicate.
    #[serde(rename = "predicateType")]
    pub predicate_type: String,
    /// The predicate, in the form that `predicate_type` determines.
    pub predicate: P,
}

/// An artifact of a statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The name of the artifact, unique within the statement.
    pub name: String,
    /// The digests of the artifact in hexadecimal digits, by algorithm, such as `sha256`.
    pub digest: BTreeMap<String, String>,
}

/// A DSSE envelope: a payload with its signatures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    payload: String,
    #[serde(rename = "payloadType")]
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Signature {
    #[serde(default)]
    keyid: String,
    sig: String,
}

/// The bytes that are signed (DSSE, PAE). They include the type, so that no payload can be used as another type.
fn pre_authentication_encoding(kind: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

impl Envelope {
    /// Signs a statement given as JSON.
    pub fn sign(statement: &[u8], signer: &Signer) -> Self {
        let signature = signer.sign_bytes(&pre_authentication_encoding(PAYLOAD, statement));
        Envelope {
            payload: STANDARD.encode(statement),
            payload_type: PAYLOAD.into(),
            signatures: vec![Signature { keyid: signer.verifier().to_string(), sig: STANDARD.encode(signature) }],
        }
    }

    /// The statement, if one of the keys has signed it.
    ///
    /// Errors: [`Malformed::Note`] for another type of payload, [`Malformed::Unsigned`] without a valid signature.
    pub fn open(&self, known: &[Verifier]) -> Result<Vec<u8>, Malformed> {
        if self.payload_type != PAYLOAD {
            return Err(Malformed::Note);
        }
        let payload = STANDARD.decode(&self.payload).map_err(|_| Malformed::Note)?;
        let signed = pre_authentication_encoding(&self.payload_type, &payload);
        // The id is a hint and is not signed: every key is tried.
        let good = |signature: &Signature| {
            STANDARD.decode(&signature.sig).is_ok_and(|sig| known.iter().any(|key| key.verify(&signed, &sig)))
        };
        if self.signatures.iter().any(good) { Ok(payload) } else { Err(Malformed::Unsigned) }
    }
}

impl Envelope {
    /// The statement and the key that signed it, for an envelope with exactly one signature that names its key.
    ///
    /// Errors: [`Malformed::Note`], [`Malformed::Unsigned`] for an unknown key, [`Malformed::Signature`] for a wrong
    /// signature.
    pub fn open_one<'k>(&self, known: &'k [Verifier]) -> Result<(Vec<u8>, &'k Verifier), Malformed> {
        let [signature] = self.signatures.as_slice() else { return Err(Malformed::Note) };
        let key = known.iter().find(|key| key.to_string() == signature.keyid).ok_or(Malformed::Unsigned)?;
        let statement = self.open(std::slice::from_ref(key)).map_err(|error| match error {
            Malformed::Unsigned => Malformed::Signature,
            error => error,
        })?;
        Ok((statement, key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer() -> Signer {
        let key = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
        Signer::parse(key, "").unwrap()
    }

    #[test]
    fn what_is_signed_is_what_the_protocol_says() {
        // The test vector of DSSE's protocol.md.
        let bytes = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world");
        assert_eq!(bytes, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }

    #[test]
    fn a_statement_is_opened_by_the_key_that_signed_it_only() {
        let (signer, text) = (signer(), br#"{"_type":"x"}"#);
        let envelope = Envelope::sign(text, &signer);
        let known = [signer.verifier().clone()];
        assert_eq!(envelope.open(&known).unwrap(), text);
        assert_eq!(envelope.open(&[]), Err(Malformed::Unsigned));
        let other = Envelope { payload: STANDARD.encode(b"{}"), ..envelope.clone() };
        assert_eq!(other.open(&known), Err(Malformed::Unsigned));
        let other = Envelope { payload_type: "text/plain".into(), ..envelope.clone() };
        assert_eq!(other.open(&known), Err(Malformed::Note));
        assert_eq!(envelope.open_one(&known).unwrap(), (text.to_vec(), &known[0]));
        assert_eq!(envelope.open_one(&[]), Err(Malformed::Unsigned));
        let mut renamed = envelope.clone();
        renamed.signatures[0].keyid.push('x');
        assert_eq!(renamed.open_one(&known), Err(Malformed::Unsigned));
        let mut twice = envelope.clone();
        twice.signatures.push(twice.signatures[0].clone());
        assert_eq!(twice.open_one(&known), Err(Malformed::Note));
        assert_eq!(
            Envelope { payload: STANDARD.encode(b"{}"), ..envelope.clone() }.open_one(&known),
            Err(Malformed::Signature)
        );
        let json = serde_json::to_string(&envelope).unwrap();
        assert_eq!(serde_json::from_str::<Envelope>(&json).unwrap(), envelope);
        assert!(serde_json::from_str::<Envelope>(&json.replacen('{', r#"{"x":1,"#, 1)).is_err());
    }

    #[test]
    fn a_statement_has_the_members_of_in_toto() {
        let digest = BTreeMap::from([("sha256".to_owned(), "00".repeat(32))]);
        let statement = Statement {
            kind: STATEMENT.into(),
            subject: vec![Subject { name: "report.pdf".into(), digest }],
            predicate_type: "https://example.com/p/v1".into(),
            predicate: 7,
        };
        let json = serde_json::to_value(&statement).unwrap();
        assert_eq!(json["_type"], "https://in-toto.io/Statement/v1");
        assert_eq!(json["subject"][0]["digest"]["sha256"], "00".repeat(32));
        assert_eq!(json["predicateType"], "https://example.com/p/v1");
        assert_eq!(serde_json::from_value::<Statement<i32>>(json).unwrap(), statement);
    }
}
