//! Sealing and opening: the envelope of a value, and that of a data key.
//!
//! A sealed value is bound to its place. It opens neither in another row, version or organization, nor under another
//! name, kind or scope, nor with another key. Each value has a key of its own, derived from the data key of the
//! organization and a random salt, and used once.
//!
//! Format: `docs/secret-format.md`.

use crate::audit::format::encoding::record;
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hkdf::{self, HKDF_SHA512};
use aws_lc_rs::hmac;
use rand::RngExt as _;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::key::{DataKey, KEY_BYTES, KeyId, SecretKey};
use super::stack::wiped;

/// The most bytes of a value, as in AWS Secrets Manager.
pub const MAX_VALUE: usize = 65_536;

/// The bytes of a wrapped data key.
pub const WRAPPED_BYTES: usize = HEADER_BYTES + KEY_BYTES + TAG_BYTES;

const VERSION: u8 = 1;
/// Value keys by HKDF-SHA-512 (RFC 5869), values by AES-256-GCM-SIV (RFC 8452).
const SUITE: u8 = 1;
const SALT: std::ops::Range<usize> = 18..50;
const COMMITMENT: std::ops::Range<usize> = 50..82;
const HEADER_BYTES: usize = 82;
const TAG_BYTES: usize = 16;
/// The length before a value.
const LENGTH_BYTES: usize = 4;
/// Values are padded to a multiple of this, so that the ciphertext shows the length of a value only roughly.
const PADDED_TO: usize = 64;

/// The place of a value. Each part is authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecretPlace<'a> {
    /// Id of the secret in `tenancy.secret`.
    pub secret: Uuid,
    /// The name of the secret.
    pub name: &'a str,
    /// The number of the version, from 1.
    pub version: i32,
    /// The kind, in `tenancy.secret_kind`.
    pub kind: &'a str,
    /// `read_only` or `write`.
    pub scope: &'a str,
}

/// Why something sealed does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotOpened {
    /// The bytes are no envelope of a known version and suite.
    Malformed,
    /// The envelope names another data key.
    OtherKey,
    /// The commitment differs: the key, the place, or the envelope is another one.
    NotCommitted,
    /// The key and the place are those of the envelope, and the ciphertext was altered.
    Altered,
}

/// A value that was opened. Zeroized when it is dropped.
pub struct Opened {
    padded: Zeroizing<Vec<u8>>,
    bytes: usize,
}

impl Opened {
    /// The bytes of the value.
    pub fn value(&self) -> &[u8] {
        &self.padded[LENGTH_BYTES..LENGTH_BYTES + self.bytes]
    }
}

/// The id of the data key that an envelope names; `None` for bytes that are no envelope.
pub fn data_key_of(sealed: &[u8]) -> Option<Uuid> {
    header(sealed).ok().map(|header| header.id)
}

/// Seals a value of 1 to [`MAX_VALUE`] bytes; `None` for another length.
pub fn seal(key: &DataKey, place: &SecretPlace, value: &[u8]) -> Option<Vec<u8>> {
    seal_with(key, place, value, &rand::rng().random())
}

/// As [`seal`], with a given salt: for test vectors. A salt must never be used twice.
pub fn seal_with(key: &DataKey, place: &SecretPlace, value: &[u8], salt: &[u8; 32]) -> Option<Vec<u8>> {
    if !(1..=MAX_VALUE).contains(&value.len()) {
        return None;
    }
    let length = u32::try_from(value.len()).ok()?.to_be_bytes();
    let padded = (LENGTH_BYTES + value.len()).next_multiple_of(PADDED_TO);
    wiped(|| enclose(&key.key, key.id, &value_context(key, place), &[&length, value], padded, salt))
}

/// Opens a value.
pub fn open(key: &DataKey, place: &SecretPlace, sealed: &[u8]) -> Result<Opened, NotOpened> {
    let padded = wiped(|| disclose(&key.key, key.id, &value_context(key, place), sealed))?;
    // The sealer alone can have written what follows, so that this is no oracle.
    let length = padded.first_chunk().map(|length| u32::from_be_bytes(*length) as usize);
    let length = length.filter(|length| {
        (1..=MAX_VALUE).contains(length) && (LENGTH_BYTES + length).next_multiple_of(PADDED_TO) == padded.len()
    });
    let bytes = length.ok_or(NotOpened::Malformed)?;
    if padded[LENGTH_BYTES + bytes..].iter().any(|byte| *byte != 0) {
        return Err(NotOpened::Malformed);
    }
    Ok(Opened { padded, bytes })
}

/// Wraps a data key under a key-encryption key.
pub fn wrap(key_encryption_key: &SecretKey, id: &KeyId, data_key: &DataKey) -> Option<Vec<u8>> {
    wrap_with(key_encryption_key, id, data_key, &rand::rng().random())
}

/// As [`wrap`], with a given salt: for test vectors.
pub fn wrap_with(key_encryption_key: &SecretKey, id: &KeyId, data_key: &DataKey, salt: &[u8; 32]) -> Option<Vec<u8>> {
    let context = wrap_context(id, data_key.organization, data_key.id);
    wiped(|| enclose(key_encryption_key, data_key.id, &context, &[data_key.key.bytes()], KEY_BYTES, salt))
}

/// Unwraps the data key with this id of the organization.
pub fn unwrap(
    key_encryption_key: &SecretKey,
    id: &KeyId,
    organization: Uuid,
    data_key: Uuid,
    wrapped: &[u8],
) -> Result<DataKey, NotOpened> {
    let context = wrap_context(id, organization, data_key);
    let opened = wiped(|| disclose(key_encryption_key, data_key, &context, wrapped))?;
    let key = opened.first_chunk().filter(|_| opened.len() == KEY_BYTES).ok_or(NotOpened::Malformed)?;
    Ok(DataKey { id: data_key, organization, key: SecretKey::new(key) })
}

/// Tells that two values of an organization are the same, and nothing else about them: HMAC-SHA-512, cut to 32 bytes,
/// under a key of the organization that rotations of its data keys leave as it is.
pub fn fingerprint(key: &SecretKey, organization: Uuid, value: &[u8]) -> [u8; 32] {
    wiped(|| {
        let key = hmac::Key::new(hmac::HMAC_SHA512, key.bytes());
        let mut context = hmac::Context::with_key(&key);
        context.update(&record("pg_tenancy/fingerprint/1", &[organization.as_bytes()]));
        context.update(value);
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(&context.sign().as_ref()[..32]);
        fingerprint
    })
}

/// What the key of a value is derived from, beside the data key and the salt; also the associated data.
fn value_context(key: &DataKey, place: &SecretPlace) -> Vec<u8> {
    record(
        "pg_tenancy/secret/1",
        &[
            &[SUITE],
            key.id.as_bytes(),
            key.organization.as_bytes(),
            place.secret.as_bytes(),
            place.name.as_bytes(),
            &i64::from(place.version).to_be_bytes(),
            place.kind.as_bytes(),
            place.scope.as_bytes(),
        ],
    )
}

fn wrap_context(id: &KeyId, organization: Uuid, data_key: Uuid) -> Vec<u8> {
    let fields: [&[u8]; 4] = [&[SUITE], data_key.as_bytes(), organization.as_bytes(), id.as_str().as_bytes()];
    record("pg_tenancy/data-key/1", &fields)
}

struct Header<'s> {
    id: Uuid,
    salt: &'s [u8],
    commitment: &'s [u8],
}

fn header(sealed: &[u8]) -> Result<Header<'_>, NotOpened> {
    if sealed.len() <= HEADER_BYTES + TAG_BYTES || sealed[0] != VERSION || sealed[1] != SUITE {
        return Err(NotOpened::Malformed);
    }
    let id = Uuid::from_slice(&sealed[2..SALT.start]).map_err(|_| NotOpened::Malformed)?;
    Ok(Header { id, salt: &sealed[SALT], commitment: &sealed[COMMITMENT] })
}

/// Header, ciphertext and tag of the pieces, followed by zeros up to `padded` bytes.
fn enclose(
    key: &SecretKey,
    id: Uuid,
    context: &[u8],
    pieces: &[&[u8]],
    padded: usize,
    salt: &[u8; 32],
) -> Option<Vec<u8>> {
    let derived = Derived::new(key, salt, context)?;
    // Zeroized where sealing fails halfway. Room for all of it, so that no copy stays behind where it grew.
    let mut sealed = Zeroizing::new(Vec::with_capacity(HEADER_BYTES + padded + TAG_BYTES));
    sealed.extend_from_slice(&[VERSION, SUITE]);
    sealed.extend_from_slice(id.as_bytes());
    sealed.extend_from_slice(salt);
    sealed.extend_from_slice(derived.commitment());
    pieces.iter().for_each(|piece| sealed.extend_from_slice(piece));
    sealed.resize(HEADER_BYTES + padded, 0);
    let tag = derived.cipher()?.seal_in_place_separate_tag(nonce(), Aad::from(context), &mut sealed[HEADER_BYTES..]);
    sealed.extend_from_slice(tag.ok()?.as_ref());
    Some(std::mem::take(&mut *sealed))
}

fn disclose(key: &SecretKey, id: Uuid, context: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, NotOpened> {
    let header = header(sealed)?;
    if header.id != id {
        return Err(NotOpened::OtherKey);
    }
    let derived = Derived::new(key, header.salt, context).ok_or(NotOpened::Malformed)?;
    verify_slices_are_equal(derived.commitment(), header.commitment).map_err(|_| NotOpened::NotCommitted)?;
    let cipher = derived.cipher().ok_or(NotOpened::Malformed)?;
    let mut opened = Zeroizing::new(sealed[HEADER_BYTES..].to_vec());
    let plain = cipher.open_in_place(nonce(), Aad::from(context), &mut opened).map_err(|_| NotOpened::Altered)?.len();
    opened.truncate(plain);
    Ok(opened)
}

/// Zero: the key is used for one value.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

/// The key of one value, and the commitment to key and context.
struct Derived(Zeroizing<[u8; 2 * KEY_BYTES]>);

impl Derived {
    fn new(key: &SecretKey, salt: &[u8], context: &[u8]) -> Option<Self> {
        struct Length;
        impl hkdf::KeyType for Length {
            fn len(&self) -> usize {
                2 * KEY_BYTES
            }
        }
        let mut derived = Derived(Zeroizing::new([0; 2 * KEY_BYTES]));
        let prk = hkdf::Salt::new(HKDF_SHA512, salt).extract(key.bytes());
        prk.expand(&[context], Length).ok()?.fill(&mut derived.0[..]).ok()?;
        Some(derived)
    }

    fn cipher(&self) -> Option<LessSafeKey> {
        Some(LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, &self.0[..KEY_BYTES]).ok()?))
    }

    fn commitment(&self) -> &[u8] {
        &self.0[KEY_BYTES..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> DataKey {
        DataKey { id: Uuid::from_u128(1), organization: Uuid::from_u128(2), key: SecretKey::new(&[3; 32]) }
    }

    fn place() -> SecretPlace<'static> {
        SecretPlace { secret: Uuid::from_u128(4), name: "aws", version: 1, kind: "opaque", scope: "read_only" }
    }

    fn opened(key: &DataKey, place: &SecretPlace, sealed: &[u8]) -> Result<Vec<u8>, NotOpened> {
        open(key, place, sealed).map(|opened| opened.value().to_vec())
    }

    proptest! {
        #[test]
        fn what_was_sealed_opens(value in proptest::collection::vec(any::<u8>(), 1..300)) {
            let sealed = seal(&key(), &place(), &value).unwrap();
            prop_assert_eq!(opened(&key(), &place(), &sealed), Ok(value));
            prop_assert_eq!((sealed.len() - HEADER_BYTES - TAG_BYTES) % PADDED_TO, 0);
            prop_assert_eq!(data_key_of(&sealed), Some(key().id));
        }

        #[test]
        fn bytes_that_nobody_sealed_open_to_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(open(&key(), &place(), &bytes).is_err());
        }
    }

    #[test]
    fn a_value_has_1_to_65536_bytes() {
        assert_eq!(seal(&key(), &place(), b""), None);
        assert_eq!(seal(&key(), &place(), &vec![7; MAX_VALUE + 1]), None);
        let sealed = seal(&key(), &place(), &vec![7; MAX_VALUE]).unwrap();
        assert_eq!(opened(&key(), &place(), &sealed), Ok(vec![7; MAX_VALUE]));
    }

    #[test]
    fn a_value_opens_in_its_place_alone() {
        let sealed = seal(&key(), &place(), b"value").unwrap();
        let places = [
            SecretPlace { secret: Uuid::from_u128(9), ..place() },
            SecretPlace { name: "aws2", ..place() },
            SecretPlace { version: 2, ..place() },
            SecretPlace { kind: "api_token", ..place() },
            SecretPlace { scope: "write", ..place() },
            // The same bytes, divided otherwise.
            SecretPlace { kind: "opaqueread", scope: "_only", ..place() },
        ];
        for other in places {
            assert_eq!(opened(&key(), &other, &sealed), Err(NotOpened::NotCommitted), "{other:?}");
        }
        let keys = [
            (DataKey { organization: Uuid::from_u128(9), ..key() }, NotOpened::NotCommitted),
            (DataKey { key: SecretKey::new(&[9; 32]), ..key() }, NotOpened::NotCommitted),
            (DataKey { id: Uuid::from_u128(9), ..key() }, NotOpened::OtherKey),
        ];
        for (other, why) in keys {
            assert_eq!(opened(&other, &place(), &sealed), Err(why));
        }
    }

    #[test]
    fn each_bit_of_an_envelope_counts() {
        let sealed = seal(&key(), &place(), b"value").unwrap();
        for bit in 0..8 * sealed.len() {
            let mut altered = sealed.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            let why = match bit / 8 {
                0..2 => NotOpened::Malformed,
                2..18 => NotOpened::OtherKey,
                18..82 => NotOpened::NotCommitted,
                _ => NotOpened::Altered,
            };
            assert_eq!(opened(&key(), &place(), &altered), Err(why), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(open(&key(), &place(), &sealed[..length]).is_err(), "{length} bytes");
        }
        assert_eq!(opened(&key(), &place(), &[&sealed[..], &[0]].concat()), Err(NotOpened::Altered));
    }

    #[test]
    fn two_seals_of_a_value_share_nothing() {
        let [one, other] = [(); 2].map(|()| seal(&key(), &place(), b"value").unwrap());
        assert_ne!(one[SALT], other[SALT]);
        assert_ne!(one[COMMITMENT], other[COMMITMENT]);
        assert_ne!(one[HEADER_BYTES..], other[HEADER_BYTES..]);
    }

    #[test]
    fn a_fingerprint_compares_values_of_one_organization() {
        let [one, other] = [[1; 32], [2; 32]].map(|key| SecretKey::new(&key));
        let (acme, globex) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert_eq!(fingerprint(&one, acme, b"value"), fingerprint(&one, acme, b"value"));
        let known = fingerprint(&one, acme, b"value");
        for differs in [
            fingerprint(&one, acme, b"valuf"),
            fingerprint(&one, globex, b"value"),
            fingerprint(&other, acme, b"value"),
        ] {
            assert_ne!(differs, known);
        }
    }

    #[test]
    fn a_wrapped_key_opens_under_its_key_and_id_alone() {
        let (ring, id) = (SecretKey::new(&[5; 32]), KeyId::parse("2026-a").unwrap());
        let wrapped = wrap(&ring, &id, &key()).unwrap();
        assert_eq!(wrapped.len(), WRAPPED_BYTES);
        let unwrapped = unwrap(&ring, &id, key().organization, key().id, &wrapped).unwrap();
        assert_eq!(unwrapped.key.bytes(), key().key.bytes());
        let tried = |ring: &SecretKey, id: &str, organization, data_key| {
            unwrap(ring, &KeyId::parse(id).unwrap(), organization, data_key, &wrapped).err()
        };
        let (organization, nobody) = (key().organization, Uuid::from_u128(9));
        assert_eq!(tried(&SecretKey::new(&[6; 32]), "2026-a", organization, key().id), Some(NotOpened::NotCommitted));
        assert_eq!(tried(&ring, "2026-b", organization, key().id), Some(NotOpened::NotCommitted));
        assert_eq!(tried(&ring, "2026-a", nobody, key().id), Some(NotOpened::NotCommitted));
        assert_eq!(tried(&ring, "2026-a", organization, nobody), Some(NotOpened::OtherKey));
        // Neither is a wrapped key a value, nor a value a wrapped key.
        let value = DataKey { key: ring.clone(), ..key() };
        assert_eq!(open(&value, &place(), &wrapped).err(), Some(NotOpened::NotCommitted));
    }
}
