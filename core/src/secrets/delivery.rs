//! Sealed delivery: a value travels to or from its user as a message that Postgres cannot read.
//!
//! HPKE (RFC 9180), base mode, with DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and AES-256-GCM. A message is the
//! encapsulated key of 32 bytes, the ciphertext and a tag of 16 bytes. The associated data is empty; `info` names the
//! value and what it is for, so that a message is good for nothing else.
//!
//! Format: `docs/secret-format.md`.

use super::key::{KEY_BYTES, SecretKey};
use super::stack::wiped;
use crate::audit::format::encoding::record;
use hpke::aead::{AeadTag, AesGcm256};
use hpke::inout::InOutBuf;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use hpke::{single_shot_open_inout_detached, single_shot_seal_inout_detached};
use uuid::Uuid;
use zeroize::Zeroizing;

type PublicKey = <X25519HkdfSha256 as Kem>::PublicKey;
type PrivateKey = <X25519HkdfSha256 as Kem>::PrivateKey;
type EncappedKey = <X25519HkdfSha256 as Kem>::EncappedKey;

const TAG_BYTES: usize = 16;

/// The bytes of a message beside those of the value.
pub const OVERHEAD: usize = KEY_BYTES + TAG_BYTES;

/// A value on its way out: who may read it and why.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'a> {
    /// The organization of the secret.
    pub organization: Uuid,
    /// The name of the secret.
    pub name: &'a str,
    /// The number of the version.
    pub version: i32,
    /// The purpose that the caller named.
    pub purpose: &'a str,
}

impl Delivery<'_> {
    fn info(&self) -> Vec<u8> {
        let version = i64::from(self.version).to_be_bytes();
        let fields = [self.organization.as_bytes(), self.name.as_bytes(), &version, self.purpose.as_bytes()];
        record("pg_tenancy/delivery/1", &fields)
    }
}

/// A value on its way in: the organization and the secret that it is for.
#[derive(Debug, Clone, Copy)]
pub struct Submission<'a> {
    /// The organization of the secret.
    pub organization: Uuid,
    /// The name of the secret.
    pub name: &'a str,
}

impl Submission<'_> {
    fn info(&self) -> Vec<u8> {
        record("pg_tenancy/submission/1", &[self.organization.as_bytes(), self.name.as_bytes()])
    }
}

/// The public key of an X25519 private key.
pub fn public_key(private_key: &SecretKey) -> Option<[u8; KEY_BYTES]> {
    wiped(|| Some(X25519HkdfSha256::sk_to_pk(&private(private_key)?).to_bytes().into()))
}

/// Seals a value to a recipient; `None` if the public key has another length or is of low order.
pub fn deliver(recipient: &[u8], delivery: &Delivery, value: &[u8]) -> Option<Vec<u8>> {
    wiped(|| seal(recipient, &delivery.info(), value))
}

/// Opens a value that was sealed to a private key; `None` if it was not sealed to it for this delivery.
pub fn receive(private_key: &SecretKey, delivery: &Delivery, message: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    wiped(|| open(private_key, &delivery.info(), message))
}

/// Seals a value to an organization before it is sent; `None` as for [`deliver`].
pub fn submit(recipient: &[u8], submission: &Submission, value: &[u8]) -> Option<Vec<u8>> {
    wiped(|| seal(recipient, &submission.info(), value))
}

/// Opens what was submitted to the key of an organization; `None` if it was not sealed to it for this secret.
pub fn accept(private_key: &SecretKey, submission: &Submission, message: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    wiped(|| open(private_key, &submission.info(), message))
}

fn private(key: &SecretKey) -> Option<PrivateKey> {
    PrivateKey::from_bytes(key.bytes()).ok()
}

fn seal(recipient: &[u8], info: &[u8], value: &[u8]) -> Option<Vec<u8>> {
    let recipient = PublicKey::from_bytes(recipient).ok()?;
    let mut message = Zeroizing::new(Vec::with_capacity(OVERHEAD + value.len()));
    message.extend_from_slice(&[0; KEY_BYTES]);
    message.extend_from_slice(value);
    let (key, tag) = single_shot_seal_inout_detached::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
        &OpModeS::Base,
        &recipient,
        info,
        InOutBuf::from(&mut message[KEY_BYTES..]),
        &[],
    )
    .ok()?;
    message[..KEY_BYTES].copy_from_slice(&key.to_bytes());
    message.extend_from_slice(&tag.to_bytes());
    Some(std::mem::take(&mut *message))
}

fn open(private_key: &SecretKey, info: &[u8], message: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (key, rest) = message.split_at_checked(KEY_BYTES)?;
    let (sealed, tag) = rest.split_at_checked(rest.len().checked_sub(TAG_BYTES)?)?;
    let mut value = Zeroizing::new(sealed.to_vec());
    single_shot_open_inout_detached::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        &private(private_key)?,
        &EncappedKey::from_bytes(key).ok()?,
        info,
        InOutBuf::from(&mut value[..]),
        &[],
        &AeadTag::<AesGcm256>::from_bytes(tag).ok()?,
    )
    .ok()?;
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery() -> Delivery<'static> {
        Delivery { organization: Uuid::from_u128(1), name: "aws", version: 2, purpose: "nightly import" }
    }

    fn keys() -> (SecretKey, [u8; KEY_BYTES]) {
        let private = SecretKey::generate();
        let public = public_key(&private).unwrap();
        (private, public)
    }

    #[test]
    fn a_message_opens_for_its_recipient_and_delivery_alone() {
        let (private, public) = keys();
        let message = deliver(&public, &delivery(), b"value").unwrap();
        assert_eq!(message.len(), OVERHEAD + 5);
        assert_eq!(receive(&private, &delivery(), &message).as_deref().map(|value| &value[..]), Some(&b"value"[..]));
        for other in [
            Delivery { organization: Uuid::from_u128(2), ..delivery() },
            Delivery { name: "azure", ..delivery() },
            Delivery { version: 3, ..delivery() },
            Delivery { purpose: "another", ..delivery() },
        ] {
            assert!(receive(&private, &other, &message).is_none(), "{other:?}");
        }
        assert!(receive(&keys().0, &delivery(), &message).is_none());
        let submission = Submission { organization: delivery().organization, name: "aws" };
        assert!(accept(&private, &submission, &message).is_none(), "a delivery is no submission");
        for place in 0..message.len() {
            let mut altered = message.clone();
            altered[place] ^= 1;
            assert!(receive(&private, &delivery(), &altered).is_none(), "byte {place}");
            assert!(receive(&private, &delivery(), &message[..place]).is_none(), "{place} bytes");
        }
        assert_ne!(deliver(&public, &delivery(), b"value").unwrap(), message, "each message has a key of its own");
    }

    #[test]
    fn what_was_submitted_opens_for_its_secret() {
        let (private, public) = keys();
        let submission = Submission { organization: Uuid::from_u128(1), name: "aws" };
        let message = submit(&public, &submission, b"value").unwrap();
        assert_eq!(accept(&private, &submission, &message).unwrap()[..], *b"value");
        assert!(accept(&private, &Submission { name: "azure", ..submission }, &message).is_none());
        assert!(accept(&private, &Submission { organization: Uuid::nil(), ..submission }, &message).is_none());
    }

    #[test]
    fn a_public_key_that_shares_no_secret_is_refused() {
        // The points of low order (RFC 7748 section 6.1, and the list of curve25519's paper).
        let order_8 = "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800";
        let order_8: Vec<u8> =
            (0..32).map(|at| u8::from_str_radix(&order_8[2 * at..2 * at + 2], 16).unwrap()).collect();
        let mut one = [0; 32];
        one[0] = 1;
        for low in [&[0; 32][..], &one[..], &order_8] {
            assert!(deliver(low, &delivery(), b"value").is_none(), "{low:?}");
        }
        for length in [0, 31, 33] {
            assert!(deliver(&vec![9; length], &delivery(), b"value").is_none(), "{length} bytes");
        }
    }
}
