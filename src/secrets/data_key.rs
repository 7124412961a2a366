//! The keys of an organization: one that the keys of its values are derived from, and one for fingerprints.

use super::guard;
use super::key_cache;
use super::key_encryption_key::{self, KeyEncryptionKey};
use super::provider::BoundKey;
use crate::pg::clock;
use crate::pg::spi::{self, Query, Row, argument};
use crate::pg::tables::table::{IndexKey, Tuple, find};
use crate::pg::transaction;
use pg_tenancy_core::audit::format::event::time_ordered_id;
use pg_tenancy_core::error::{self, Result};
use pg_tenancy_core::secrets::key::{DataKey, KeyId, SecretKey};
use pg_tenancy_core::secrets::key_cache::StoredAs;
use rand::RngExt as _;
use uuid::Uuid;

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The keys of values are derived from it.
    Seal,
    /// Fingerprints of values are made with it. It stays when data keys are rotated.
    Fingerprint,
    /// A private key of X25519: values are sealed to its public key before they are sent.
    Recipient,
}

impl Purpose {
    fn name(self) -> &'static str {
        match self {
            Purpose::Seal => "seal",
            Purpose::Fingerprint => "fingerprint",
            Purpose::Recipient => "recipient",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [Purpose::Seal, Purpose::Fingerprint, Purpose::Recipient].into_iter().find(|purpose| purpose.name() == name)
    }
}

/// A row of `tenancy.data_key` that is not destroyed.
pub struct StoredKey {
    pub id: Uuid,
    pub organization: Uuid,
    pub purpose: Purpose,
    pub key_encryption_key: KeyId,
    pub wrapped: Vec<u8>,
    /// In microseconds since 1970.
    pub created_at: i64,
}

static CURRENT_KEY: Query = Query::new("SELECT id FROM tenancy.key_encryption_key WHERE is_current FOR SHARE");

static HOLD_KEY: Query = Query::new("SELECT 1 FROM tenancy.key_encryption_key WHERE id = $1 FOR SHARE");

static ADD: Query = Query::new(
    "INSERT INTO tenancy.data_key (id, organization, purpose, key_encryption_key, key_version, wrapped, state,
                                   created_at, wrapped_at)
     VALUES ($1, $2, $3, $4, $5, $6, 'current', $7, $7)",
);

static DESTROY_ALL: Query = Query::new(
    "UPDATE tenancy.data_key SET state = 'destroyed', wrapped = NULL WHERE organization = $1 AND state <> 'destroyed'
     RETURNING id",
);

static DESTROY_OLD: Query = Query::new(
    "UPDATE tenancy.data_key SET state = 'destroyed', wrapped = NULL
      WHERE organization = $1 AND purpose = $2 AND state = 'old' AND created_at < $3",
);

static PUT_ASIDE: Query = Query::new("UPDATE tenancy.data_key SET state = 'old' WHERE id = $1");

/// The current key of an organization, in the newest committed state.
pub fn current(organization: Uuid, purpose: Purpose) -> Result<Option<StoredKey>> {
    let keys = [IndexKey::uuid(2, &organization), IndexKey::text(3, purpose.name())];
    let found = transaction::with_latest_snapshot(|| find(c"data_key", c"data_key_current_idx", &keys, stored).pop());
    let damaged = || error::STATE_INVALID.error(format!("the row of a data key of {organization} cannot be read"));
    found.map(|found| found.ok_or_else(damaged)).transpose()
}

/// The key with this id, which values name.
///
/// Errors: [`error::KEY_STATE`] if it is destroyed.
pub fn find_by_id(id: Uuid) -> Result<StoredKey> {
    let keys = [IndexKey::uuid(1, &id)];
    let found = transaction::with_latest_snapshot(|| {
        find(c"data_key", c"data_key_pkey", &keys, |row| (row.get::<&str>(7) == Some("destroyed"), stored(row))).pop()
    });
    match found {
        Some((false, Some(key))) => Ok(key),
        Some((true, _)) => Err(error::KEY_STATE.error(format!("data key {id} is destroyed"))),
        _ => Err(error::STATE_INVALID.error(format!("the row of data key {id} is missing or cannot be read"))),
    }
}

fn stored(row: &Tuple) -> Option<StoredKey> {
    Some(StoredKey {
        id: row.uuid(1)?,
        organization: row.uuid(2)?,
        purpose: Purpose::parse(row.get(3)?)?,
        key_encryption_key: KeyId::parse(row.get(4)?)?,
        wrapped: row.get(6)?,
        created_at: row.timestamp(8)?,
    })
}

/// The current key of the organization, which is made if there is none.
pub fn current_or_made(organization: Uuid, purpose: Purpose) -> Result<StoredKey> {
    match current(organization, purpose)? {
        Some(key) => Ok(key),
        None => make(organization, purpose, &current_key_encryption_key()?),
    }
}

/// Destroys the keys of an organization, and returns how many there were.
pub fn destroy_all(organization: Uuid) -> usize {
    guard::writing(|| DESTROY_ALL.write(&[spi::uuid(organization)], |_| ())).len()
}

/// Destroys the old keys of a purpose that were made before a moment.
pub fn destroy_old(organization: Uuid, purpose: Purpose, before: i64) {
    let row = [spi::uuid(organization), argument(purpose.name()), spi::timestamp(before)];
    guard::writing(|| DESTROY_OLD.write(&row, |_| ()));
}

/// Makes a key for the organization, which has no current one, wrapped under `under`.
pub fn make(organization: Uuid, purpose: Purpose, under: &KeyEncryptionKey) -> Result<StoredKey> {
    let now = clock::now();
    let id = time_ordered_id(now, rand::rng().random());
    let key = DataKey { id, organization, key: SecretKey::generate() };
    let wrapped = under.wrap(std::slice::from_ref(&key))?.pop();
    let wrapped = wrapped.ok_or_else(|| error::STATE_INVALID.error("a data key was not wrapped"))?;
    let arguments = [
        spi::uuid(id),
        spi::uuid(organization),
        argument(purpose.name()),
        argument(under.id.as_str()),
        argument(wrapped.version),
        argument(wrapped.bytes.as_slice()),
        spi::timestamp(now),
    ];
    guard::writing(|| ADD.write(&arguments, |_| ()));
    let key_encryption_key = under.id.clone();
    let stored = StoredKey { id, organization, purpose, key_encryption_key, wrapped: wrapped.bytes, created_at: now };
    key_cache::keep(stored.as_stored(), &key.key);
    Ok(stored)
}

/// Has a key open the values that it has sealed, and seal no more.
pub fn put_aside(key: &StoredKey) {
    guard::writing(|| PUT_ASIDE.write(&[spi::uuid(key.id)], |_| ()));
}

/// The current key-encryption key, which stays so until the end of the transaction. Whoever writes data keys takes it
/// before their rows, so that nobody waits in a circle.
pub fn current_key_encryption_key() -> Result<KeyEncryptionKey> {
    // Another session may be about to choose one: then the row that was waited for is no longer the current one.
    for _ in 0..10 {
        let locked = CURRENT_KEY.write(&[], |row| KeyId::parse(row.get(1)?)).pop();
        if let Some(id) = locked.flatten() {
            return key_encryption_key::usable(&id);
        }
    }
    Err(error::KEY_NOT_CHOSEN.error("no key-encryption key is current"))
}

/// The key-encryption key with this id, which is not retired until the end of the transaction.
pub fn held_key_encryption_key(id: &KeyId) -> Result<KeyEncryptionKey> {
    HOLD_KEY.write(&[argument(id.as_str())], |_| ());
    key_encryption_key::usable(id)
}

impl StoredKey {
    /// Of a query for id, organization, purpose, key_encryption_key, wrapped and created_at.
    pub fn read(row: &Row) -> Option<Self> {
        Some(StoredKey {
            id: row.uuid(1)?,
            organization: row.uuid(2)?,
            purpose: Purpose::parse(row.get(3)?)?,
            key_encryption_key: KeyId::parse(row.get(4)?)?,
            wrapped: row.get(5)?,
            created_at: row.timestamp(6)?,
        })
    }

    /// Unwraps the key, or takes it from this session's memory.
    ///
    /// Errors: as those of [`KeyEncryptionKey::unwrap`], and [`error::KEY_STATE`] under a retired key.
    pub fn open(&self) -> Result<DataKey> {
        let under = key_encryption_key::usable(&self.key_encryption_key)?;
        if let Some(key) = key_cache::find(self.as_stored()) {
            return Ok(DataKey { id: self.id, organization: self.organization, key });
        }
        let missing = || error::STATE_INVALID.error(format!("data key {} was not unwrapped", self.id));
        let opened = under.unwrap(&[self.bound()])?.pop().ok_or_else(missing)??;
        key_cache::keep(self.as_stored(), &opened.key);
        Ok(opened)
    }

    pub fn bound(&self) -> BoundKey<'_> {
        BoundKey { id: self.id, organization: self.organization, wrapped: &self.wrapped }
    }

    fn as_stored(&self) -> StoredAs<'_> {
        StoredAs {
            id: self.id,
            organization: self.organization,
            key_encryption_key: &self.key_encryption_key,
            wrapped: &self.wrapped,
        }
    }
}
