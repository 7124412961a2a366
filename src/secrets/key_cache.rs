//! The data keys that this session has unwrapped, in locked memory.
//!
//! Whoever uses one has read its row just before, so a key that another session has re-wrapped or destroyed is not used
//! after that session's commit.

use super::locked_key::locked;
use crate::pg::backend_local::BackendLocal;
use crate::pg::settings::configuration;
use crate::pg::transaction;
use pg_tenancy_core::secrets::key::SecretKey;
use pg_tenancy_core::secrets::key_cache::{CacheBounds, KeyCache, StoredAs};
use pg_tenancy_files::locked_keys::LockedKey;
use std::cell::RefCell;

static KEYS: BackendLocal<RefCell<Option<KeyCache<LockedKey>>>> = BackendLocal::new(RefCell::new(None));

/// Lets go all; returns how many there were.
pub fn forget() -> usize {
    KEYS.borrow_mut().take().map_or(0, |mut keys| keys.clear())
}

/// The key that was unwrapped from what is stored now.
pub fn find(stored: StoredAs) -> Option<SecretKey> {
    let mut keys = KEYS.borrow_mut();
    keys.as_mut()?.find(stored, transaction::now(), bounds()).map(|key| SecretKey::new(key.bytes()))
}

/// Keeps a key for the next time.
pub fn keep(stored: StoredAs, key: &SecretKey) {
    let bounds = bounds();
    if bounds.keys == 0 || bounds.lifetime == 0 {
        return;
    }
    if let Some(key) = locked(key) {
        KEYS.borrow_mut().get_or_insert_default().keep(stored, key, transaction::now(), bounds);
    }
}

/// Lets go what has had its time.
pub fn expire() {
    if let Some(keys) = KEYS.borrow_mut().as_mut() {
        keys.expire(transaction::now(), bounds());
    }
}

fn bounds() -> CacheBounds {
    CacheBounds { keys: configuration::key_cache_size(), lifetime: configuration::key_cache_lifetime() }
}
