//! Signed notes and checkpoints in the text formats of C2SP, which other programs can check and co-sign.
//!
//! The specifications are <https://c2sp.org/signed-note> and <https://c2sp.org/tlog-checkpoint>.

use crate::audit::format::encoding::Digest;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use std::fmt;

/// The byte that identifies Ed25519 in a key.
const ED25519_ALGORITHM: u8 = 1;

/// The most bytes of a note that is read.
const MAX_BYTES: usize = 1_000_000;

/// The reason why a text is not of the expected form. It contains nothing of a private key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// The name of a key is empty, or contains white space, a control character or a plus sign.
    Name,
    /// The key is not in the form of C2SP or PKCS #8, or its id is not that of its name and bytes.
    Key,
    /// The text is not a signed note.
    Note,
    /// The text is not a checkpoint.
    Checkpoint,
    /// A signature carries the name and id of a known key, and that key did not make it.
    Signature,
    /// The note has no signature of a known key.
    Unsigned,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Malformed::Name => "the name of the key is empty or has white space or a plus sign",
            Malformed::Key => "the text is no Ed25519 key in the form of a signed note or PKCS #8",
            Malformed::Note => "the text is no signed note",
            Malformed::Checkpoint => "the text is no checkpoint",
            Malformed::Signature => "a signature is wrong",
            Malformed::Unsigned => "no signature is of a known key",
        })
    }
}

impl std::error::Error for Malformed {}

/// The state of an append-only tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The name of the tree, unique for each tree.
    pub origin: String,
    /// The number of leaves.
    pub size: u64,
    /// The root of the tree of that size.
    pub root: Digest,
}

impl Checkpoint {
    /// The text that is signed: origin, size in decimal digits, and root in base64, each followed by a newline.
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root))
    }

    /// Parses the text of a note. Lines after the third are extensions, which are skipped.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let read = || {
            let mut lines = text.strip_suffix('\n')?.split('\n');
            let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
            let number: u64 = size.parse().ok()?;
            let canonical = !origin.is_empty() && number.to_string() == size && lines.all(|line| !line.is_empty());
            let root = STANDARD.decode(root).ok()?.try_into().ok()?;
            canonical.then(|| Checkpoint { origin: origin.to_owned(), size: number, root })
        };
        read().ok_or(Malformed::Checkpoint)
    }
}

/// A public key with the name of its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verifier {
    name: String,
    public: [u8; 32],
}

impl Verifier {
    /// The name of the key, which its signatures carry.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first four bytes of SHA-256(name, newline, algorithm, key).
    pub fn id(&self) -> [u8; 4] {
        let digest = Sha256::new()
            .chain_update(&self.name)
            .chain_update([b'\n', ED25519_ALGORITHM])
            .chain_update(self.public)
            .finalize();
        [digest[0], digest[1], digest[2], digest[3]]
    }

    /// Whether this key made the signature of the bytes.
    pub fn verify(&self, bytes: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.public).verify(bytes, signature).is_ok()
    }

    /// Parses `name+id+key`, with the id in hexadecimal digits and the key in base64.
    ///
    /// Errors: [`Malformed::Name`], [`Malformed::Key`].
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let (name, id, key) = parts(text.trim())?;
        let verifier = Verifier { name, public: key };
        if verifier.id() == id { Ok(verifier) } else { Err(Malformed::Key) }
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [&[ED25519_ALGORITHM], &self.public[..]].concat();
        write!(f, "{}+{:08x}+{}", self.name, u32::from_be_bytes(self.id()), STANDARD.encode(key))
    }
}

/// Splits `name+id+key`.
fn parts(text: &str) -> Result<(String, [u8; 4], [u8; 32]), Malformed> {
    let mut parts = text.splitn(3, '+');
    let mut part = || parts.next().ok_or(Malformed::Key);
    let (name, id, key) = (part()?, part()?, part()?);
    check_name(name)?;
    let id = if id.len() == 8 {
        u32::from_str_radix(id, 16).map_err(|_| Malformed::Key)?
    } else {
        return Err(Malformed::Key);
    };
    let key = STANDARD.decode(key).map_err(|_| Malformed::Key)?;
    match key.split_first() {
        Some((&ED25519_ALGORITHM, key)) => {
            Ok((name.to_owned(), id.to_be_bytes(), key.try_into().map_err(|_| Malformed::Key)?))
        }
        _ => Err(Malformed::Key),
    }
}

/// Checks that a text can be the name of a key.
pub fn check_name(name: &str) -> Result<(), Malformed> {
    let good = !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '+');
    if good { Ok(()) } else { Err(Malformed::Name) }
}

/// A private key, with the name that its signatures carry.
pub struct Signer {
    verifier: Verifier,
    pair: Ed25519KeyPair,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.verifier)
    }
}

impl Signer {
    /// Parses a private key: `PRIVATE+KEY+name+id+seed` in the form of Go's note package, or PKCS #8 in PEM.
    ///
    /// OpenSSL writes the PEM form (`openssl genpkey -algorithm ed25519`), which contains no name; `name` is used for
    /// it alone.
    ///
    /// Errors: [`Malformed::Name`], [`Malformed::Key`].
    pub fn parse(text: &str, name: &str) -> Result<Self, Malformed> {
        let text = text.trim();
        if let Some(rest) = text.strip_prefix("PRIVATE+KEY+") {
            let (name, id, seed) = parts(rest)?;
            let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| Malformed::Key)?;
            let signer = Signer::of(pair, name)?;
            return if signer.verifier.id() == id { Ok(signer) } else { Err(Malformed::Key) };
        }
        let body = text
            .strip_prefix("-----BEGIN PRIVATE KEY-----")
            .and_then(|rest| rest.strip_suffix("-----END PRIVATE KEY-----"));
        let body: String = body.ok_or(Malformed::Key)?.split_whitespace().collect();
        let der = STANDARD.decode(body).map_err(|_| Malformed::Key)?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map_err(|_| Malformed::Key)?;
        Signer::of(pair, name.to_owned())
    }

    fn of(pair: Ed25519KeyPair, name: String) -> Result<Self, Malformed> {
        check_name(&name)?;
        let public = pair.public_key().as_ref().try_into().map_err(|_| Malformed::Key)?;
        Ok(Signer { verifier: Verifier { name, public }, pair })
    }

    /// The public key for the signatures of this key.
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// Signs bytes that are not a note; the signature has 64 bytes (RFC 8032).
    pub fn sign_bytes(&self, bytes: &[u8]) -> Vec<u8> {
        self.pair.sign(bytes).as_ref().to_vec()
    }

    /// The note: the text, an empty line, and the line of the signature.
    ///
    /// Errors: [`Malformed::Note`] for a text that does not end with a newline or has other control characters.
    pub fn sign(&self, text: &str) -> Result<String, Malformed> {
        sign(text, std::slice::from_ref(self))
    }

    fn line(&self, text: &str) -> String {
        let signature = [&self.verifier.id(), self.pair.sign(text.as_bytes()).as_ref()].concat();
        format!("\u{2014} {} {}\n", self.verifier.name, STANDARD.encode(signature))
    }
}

/// The note with a signature of each of `signers`, in their order.
///
/// Errors: [`Malformed::Note`] for an unsuitable text, [`Malformed::Unsigned`] without signers.
pub fn sign(text: &str, signers: &[Signer]) -> Result<String, Malformed> {
    check_text(text)?;
    let lines: String = signers.iter().map(|signer| signer.line(text)).collect();
    if lines.is_empty() { Err(Malformed::Unsigned) } else { Ok(format!("{text}\n{lines}")) }
}

fn check_text(text: &str) -> Result<(), Malformed> {
    let good = text.ends_with('\n') && !text.contains(|c: char| c.is_control() && c != '\n');
    if good { Ok(()) } else { Err(Malformed::Note) }
}

/// Verifies a note and returns its text, with the keys among `known` that signed it.
///
/// A wrong signature with the name and id of a known key is an error; signatures of unknown keys are skipped.
///
/// Errors: [`Malformed::Note`], [`Malformed::Signature`], [`Malformed::Unsigned`].
pub fn open<'n, 'k>(note: &'n str, known: &'k [Verifier]) -> Result<(&'n str, Vec<&'k Verifier>), Malformed> {
    let end = note.rfind("\n\n").filter(|_| note.len() <= MAX_BYTES && note.ends_with('\n')).ok_or(Malformed::Note)?;
    let (text, signatures) = (&note[..=end], &note[end + 2..]);
    check_text(text)?;
    let mut signed = Vec::new();
    for line in signatures.split_terminator('\n') {
        let (name, signature) =
            line.strip_prefix("\u{2014} ").and_then(|rest| rest.split_once(' ')).ok_or(Malformed::Note)?;
        check_name(name).map_err(|_| Malformed::Note)?;
        let bytes = STANDARD.decode(signature).map_err(|_| Malformed::Note)?;
        let (id, signature) = bytes.split_at_checked(4).ok_or(Malformed::Note)?;
        let Some(key) = known.iter().find(|key| key.name == name && key.id() == id) else { continue };
        if !key.verify(text.as_bytes(), signature) {
            return Err(Malformed::Signature);
        }
        if !signed.contains(&key) {
            signed.push(key);
        }
    }
    if signed.is_empty() { Err(Malformed::Unsigned) } else { Ok((text, signed)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The example of golang.org/x/mod/sumdb/note.
    const PUBLIC: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const PRIVATE: &str = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
    const TEXT: &str =
        "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
    const SIGNATURE: &str = "\u{2014} PeterNeumann \
        x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    #[test]
    fn a_note_of_go_is_read_and_written_alike() {
        let key = Verifier::parse(PUBLIC).unwrap();
        assert_eq!(key.to_string(), PUBLIC);
        let note = format!("{TEXT}\n{SIGNATURE}");
        assert_eq!(open(&note, std::slice::from_ref(&key)), Ok((TEXT, vec![&key])));
        let signer = Signer::parse(PRIVATE, "").unwrap();
        assert_eq!(signer.verifier(), &key);
        assert_eq!(signer.sign(TEXT), Ok(note));
    }

    #[test]
    fn a_changed_note_is_refused() {
        let key = [Verifier::parse(PUBLIC).unwrap()];
        let note = format!("{TEXT}\n{SIGNATURE}");
        assert_eq!(open(&note.replace("answer", "question"), &key), Err(Malformed::Signature));
        assert_eq!(open(&note.replace("x08go/ZJ", "x08go/ZK"), &key), Err(Malformed::Signature));
        assert_eq!(open(&note.replace("\u{2014} P", "\u{2014} Q"), &key), Err(Malformed::Unsigned));
        assert_eq!(open(&note, &[]), Err(Malformed::Unsigned));
        for bad in [
            TEXT,
            "",
            "\n",
            "a\n\nb\n",
            &note[..note.len() - 1],
            &note.replace(" x08", "  x08"),
            &note.replace("is.", "\r"),
        ] {
            assert!(open(bad, &key).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_that_are_none_are_refused() {
        for bad in [
            "",
            "a",
            "a+b",
            "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "+c74f20a3+AR",
            "a b+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        ] {
            assert!(Verifier::parse(bad).is_err(), "{bad}");
            assert!(Signer::parse(&format!("PRIVATE+KEY+{bad}"), "x").is_err(), "{bad}");
            assert!(Signer::parse(bad, "x").is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_of_openssl_signs_under_the_name_given() {
        // RFC 8410 section 10.3.
        let pem = "-----BEGIN PRIVATE \
            KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
        let signer = Signer::parse(pem, "audit.example").unwrap();
        let note = signer.sign("a\n").unwrap();
        assert_eq!(open(&note, &[signer.verifier().clone()]).unwrap().0, "a\n");
        assert!(!format!("{signer:?}").contains("1O5y"), "the private key shows");
        assert_eq!(Signer::parse(pem, "a b").unwrap_err(), Malformed::Name);
        assert_eq!(signer.sign("no newline"), Err(Malformed::Note));
    }

    #[test]
    fn a_checkpoint_has_three_lines() {
        let checkpoint = Checkpoint { origin: "example.com/log".into(), size: 7, root: [1; 32] };
        let text = checkpoint.text();
        assert_eq!(text, "example.com/log\n7\nAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n");
        assert_eq!(Checkpoint::parse(&text), Ok(checkpoint.clone()));
        assert_eq!(Checkpoint::parse(&format!("{text}extension\n")), Ok(checkpoint));
        for bad in [
            "",
            "a\n",
            "a\n7\n",
            "\n7\nAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n",
            &text.replace("\n7\n", "\n07\n"),
            &text.replace("\n7\n", "\n-7\n"),
            &text.replace("AQ", "A"),
            &text[..text.len() - 1],
        ] {
            assert_eq!(Checkpoint::parse(bad), Err(Malformed::Checkpoint), "{bad}");
        }
    }
}
