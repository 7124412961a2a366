//! Wrapping and unwrapping of data keys by either provider.
//!
//! `ring` seals them here, under a key that the server reads. `command` has a service do it, whose key never enters the
//! server.

use super::key_ring;
use crate::pg::settings::configuration;
use crate::pg::transaction;
use pg_tenancy_core::error::{self, Error, Result};
use pg_tenancy_core::secrets::envelope::{self, NotOpened};
use pg_tenancy_core::secrets::key::{DataKey, KeyId};
use pg_tenancy_core::secrets::key_command::{self, Operation, WrappedKey};
use pg_tenancy_files::command;
use uuid::Uuid;
use zeroize::Zeroizing;

/// Where a key-encryption key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    Ring,
    Command,
}

/// A wrapped key with what it is bound to.
#[derive(Clone, Copy)]
pub struct BoundKey<'a> {
    pub id: Uuid,
    pub organization: Uuid,
    pub wrapped: &'a [u8],
}

/// What became of each key. A service refuses all or none.
pub type Unwrapped = Vec<std::result::Result<DataKey, NotOpened>>;

impl Provider {
    pub fn parse(name: &str) -> Option<Self> {
        [Provider::Ring, Provider::Command].into_iter().find(|provider| provider.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Provider::Ring => "ring",
            Provider::Command => "command",
        }
    }

    /// Wraps keys under the key-encryption key with this id.
    pub fn wrap(self, id: &KeyId, keys: &[DataKey]) -> Result<Vec<WrappedKey>> {
        match self {
            Provider::Ring => {
                let key = key_ring::key(id)?;
                let wrap = |data_key| Some(WrappedKey { bytes: envelope::wrap(&key, id, data_key)?, version: None });
                let wrapped: Option<Vec<_>> = keys.iter().map(wrap).collect();
                wrapped.ok_or_else(|| failed(id, "a key could not be sealed"))
            }
            Provider::Command => {
                let lines = keys.iter().map(|key| (key.id, key.organization, &key.key.bytes()[..]));
                let answer = ask(id, Operation::Wrap, lines)?;
                let ids: Vec<Uuid> = keys.iter().map(|key| key.id).collect();
                key_command::wrapped_keys(&answer, &ids).map_err(|why| failed(id, &why))
            }
        }
    }

    /// Unwraps keys that were wrapped under the key-encryption key with this id.
    pub fn unwrap(self, id: &KeyId, keys: &[BoundKey]) -> Result<Unwrapped> {
        match self {
            Provider::Ring => {
                let key = key_ring::key(id)?;
                let unwrap = |bound: &BoundKey| envelope::unwrap(&key, id, bound.organization, bound.id, bound.wrapped);
                Ok(keys.iter().map(unwrap).collect())
            }
            Provider::Command => {
                let answer =
                    ask(id, Operation::Unwrap, keys.iter().map(|key| (key.id, key.organization, key.wrapped)))?;
                let ids: Vec<Uuid> = keys.iter().map(|key| key.id).collect();
                let unwrapped = key_command::unwrapped_keys(&answer, &ids).map_err(|why| failed(id, &why))?;
                let bound = unwrapped.into_iter().zip(keys);
                Ok(bound.map(|(key, of)| Ok(DataKey { id: of.id, organization: of.organization, key })).collect())
            }
        }
    }
}

/// Runs `tenancy.key_wrap_command` with a line for each key.
fn ask<'a>(
    id: &KeyId,
    operation: Operation,
    keys: impl ExactSizeIterator<Item = (Uuid, Uuid, &'a [u8])>,
) -> Result<Zeroizing<Vec<u8>>> {
    let unusable = |why: &str| {
        let message = format!("the key-encryption key \"{id}\" cannot be reached");
        error::SECRET_KEY_INVALID.error(message).detail(format!("The reason: {why}."))
    };
    let setting = configuration::key_wrap_command().ok_or_else(|| unusable("tenancy.key_wrap_command is not set"))?;
    let command = key_command::command(&setting, operation, id)
        .map_err(|why| unusable(&format!("of tenancy.key_wrap_command: {why}")))?;
    let max_answer = key_command::max_answer(keys.len());
    let mut request = Zeroizing::new(Vec::with_capacity(keys.len() * 256));
    keys.for_each(|(key, organization, bytes)| key_command::write_line(&mut request, key, organization, bytes));
    command::run(&command, Some(&request), max_answer, transaction::check_for_interrupts)
        .map_err(|why| failed(id, &why))
}

fn failed(id: &KeyId, why: &str) -> Error {
    let message = format!("the keys could not be wrapped or unwrapped under the key-encryption key \"{id}\"");
    error::KEY_COMMAND_FAILED.error(message).detail(format!("The reason: {why}."))
}
