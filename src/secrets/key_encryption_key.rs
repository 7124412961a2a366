//! A registered key-encryption key, and the canary that proves it.
//!
//! The canary is a random key that was wrapped when the key was registered, stored with its digest. It is unwrapped
//! with every other key, so that a wrong key of the right id is told from a missing one and from a row that was
//! altered.

use super::provider::{BoundKey, Provider};
use crate::pg::tables::table::{IndexKey, Tuple, find};
use crate::pg::transaction;
use pg_tenancy_core::error::{self, Error, Result};
use pg_tenancy_core::secrets::envelope::NotOpened;
use pg_tenancy_core::secrets::key::{DataKey, KeyId, SecretKey};
use pg_tenancy_core::secrets::key_command::WrappedKey;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// A row of `tenancy.key_encryption_key`.
pub struct KeyEncryptionKey {
    pub id: KeyId,
    pub provider: Provider,
    pub is_current: bool,
    pub is_retired: bool,
    canary: Vec<u8>,
    canary_digest: Vec<u8>,
}

/// The canary stands for a data key of no organization.
fn canary_of(key: SecretKey) -> DataKey {
    DataKey { id: Uuid::nil(), organization: Uuid::nil(), key }
}

/// The row with this id, in the newest committed state.
///
/// Errors: [`error::NOT_FOUND`].
pub fn registered(id: &KeyId) -> Result<KeyEncryptionKey> {
    let read = |row: &Tuple| {
        Some(KeyEncryptionKey {
            id: id.clone(),
            provider: Provider::parse(row.get(2)?)?,
            is_current: row.get(4)?,
            is_retired: row.get::<&str>(3)? == "retired",
            canary: row.get(5)?,
            canary_digest: row.get(6)?,
        })
    };
    let keys = [IndexKey::text(1, id.as_str())];
    let found = transaction::with_latest_snapshot(|| {
        find(c"key_encryption_key", c"key_encryption_key_pkey", &keys, read).pop()
    });
    let unknown = || error::NOT_FOUND.error(format!("key-encryption key \"{id}\" is not registered"));
    found
        .ok_or_else(unknown)?
        .ok_or_else(|| error::STATE_INVALID.error(format!("the row of key-encryption key \"{id}\" cannot be read")))
}

/// As [`registered`], for a key that is to be used.
///
/// Errors: [`error::KEY_STATE`] for a retired key.
pub fn usable(id: &KeyId) -> Result<KeyEncryptionKey> {
    registered(id)?.not_retired()
}

impl KeyEncryptionKey {
    /// A key that is not registered yet: wraps a canary, and unwraps it again.
    pub fn try_out(id: KeyId, provider: Provider) -> Result<Self> {
        let canary = canary_of(SecretKey::generate());
        let canary_digest = Sha256::digest(canary.key.bytes()).to_vec();
        let wrapped = provider.wrap(&id, &[canary])?.pop().map(|wrapped| wrapped.bytes).unwrap_or_default();
        let key =
            KeyEncryptionKey { id, provider, is_current: false, is_retired: false, canary: wrapped, canary_digest };
        key.prove()?;
        Ok(key)
    }

    pub fn canary(&self) -> (&[u8], &[u8]) {
        (&self.canary, &self.canary_digest)
    }

    pub fn not_retired(self) -> Result<Self> {
        if self.is_retired {
            return Err(error::KEY_STATE.error(format!("key-encryption key \"{}\" is retired", self.id)));
        }
        Ok(self)
    }

    /// Unwraps the canary.
    ///
    /// Errors: [`error::SECRET_KEY_MISSING`], [`error::SECRET_KEY_WRONG`], [`error::SECRET_KEY_INVALID`],
    /// [`error::KEY_COMMAND_FAILED`], and [`error::SECRET_ALTERED`] where the canary itself was altered.
    pub fn prove(&self) -> Result<()> {
        self.unwrap(&[]).map(drop)
    }

    /// Wraps data keys, and unwraps them again before anything can depend on them.
    ///
    /// Errors: as those of [`Self::prove`].
    pub fn wrap(&self, keys: &[DataKey]) -> Result<Vec<WrappedKey>> {
        let wrapped = self.provider.wrap(&self.id, keys)?;
        let bound: Vec<BoundKey> = keys
            .iter()
            .zip(&wrapped)
            .map(|(key, wrapped)| BoundKey { id: key.id, organization: key.organization, wrapped: &wrapped.bytes })
            .collect();
        let unwrapped = self.unwrap(&bound)?;
        let same = |(key, unwrapped): (&DataKey, Result<DataKey>)| {
            unwrapped.is_ok_and(|unwrapped| unwrapped.key.bytes() == key.key.bytes())
        };
        if wrapped.len() != keys.len() || !keys.iter().zip(unwrapped).all(same) {
            let message = format!("what was wrapped under key-encryption key \"{}\" does not unwrap again", self.id);
            return Err(error::KEY_COMMAND_FAILED.error(message));
        }
        Ok(wrapped)
    }

    /// Unwraps data keys, together with the canary. Each that does not open though the key is right is
    /// [`error::SECRET_ALTERED`].
    ///
    /// Errors: as those of [`Self::prove`].
    pub fn unwrap(&self, keys: &[BoundKey]) -> Result<Vec<Result<DataKey>>> {
        let canary = BoundKey { id: Uuid::nil(), organization: Uuid::nil(), wrapped: &self.canary };
        let bound: Vec<BoundKey> = std::iter::once(canary).chain(keys.iter().copied()).collect();
        let mut unwrapped = self.provider.unwrap(&self.id, &bound)?.into_iter();
        self.judge(unwrapped.next())?;
        let judge = |(key, opened): (&BoundKey, std::result::Result<DataKey, NotOpened>)| {
            let altered = |_| {
                let message = format!("data key {} does not unwrap, and its key-encryption key is right", key.id);
                error::SECRET_ALTERED.error(message)
            };
            opened.map_err(altered)
        };
        Ok(keys.iter().zip(unwrapped).map(judge).collect())
    }

    /// As [`Self::unwrap`]. A service refuses all keys for one: if it does the canary alone, it is asked for each.
    pub fn unwrap_each(&self, keys: &[BoundKey]) -> Result<Vec<Result<DataKey>>> {
        self.unwrap(keys).or_else(|error| {
            if *error.kind != error::KEY_COMMAND_FAILED || self.prove().is_err() {
                return Err(error);
            }
            let one = |key| self.unwrap(std::slice::from_ref(key)).unwrap_or_else(|error| vec![Err(error)]);
            Ok(keys.iter().flat_map(one).collect())
        })
    }

    /// The version of the service's key that is used now; `None` where there are no versions.
    pub fn version(&self) -> Result<Option<String>> {
        let probe = [canary_of(SecretKey::generate())];
        Ok(self.provider.wrap(&self.id, &probe)?.pop().and_then(|wrapped| wrapped.version))
    }

    fn judge(&self, canary: Option<std::result::Result<DataKey, NotOpened>>) -> Result<()> {
        let wrong = || {
            let message = format!("the key-encryption key \"{}\" is another one than was registered", self.id);
            Err(error::SECRET_KEY_WRONG.error(message))
        };
        match canary {
            Some(Ok(canary)) if Sha256::digest(canary.key.bytes())[..] == self.canary_digest[..] => Ok(()),
            // The envelope of a ring commits to its key, so here it is the row.
            Some(Ok(_)) if self.provider == Provider::Ring => Err(self.altered()),
            Some(Ok(_) | Err(NotOpened::NotCommitted)) => wrong(),
            Some(Err(NotOpened::Malformed | NotOpened::OtherKey | NotOpened::Altered)) | None => Err(self.altered()),
        }
    }

    fn altered(&self) -> Error {
        error::SECRET_ALTERED.error(format!("the row of key-encryption key \"{}\" was altered", self.id))
    }
}
