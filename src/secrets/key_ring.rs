//! The key-encryption keys of the provider `ring`: read from a file or from the output of a command, and kept while
//! the file is unchanged.

use super::locked_key::locked;
use crate::pg::backend_local::BackendLocal;
use crate::pg::settings::configuration;
use crate::pg::transaction;
use pg_tenancy_core::error::{self, Error, Result};
use pg_tenancy_core::secrets::key::{KeyId, SecretKey};
use pg_tenancy_core::secrets::key_ring::KeyRing;
use pg_tenancy_files::command;
use pg_tenancy_files::locked_keys::LockedKey;
use pg_tenancy_files::secret_file::{self, Version};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The most bytes of a file, or of the output of a command.
const MAX_BYTES: usize = 64 * 1024;

/// Where the keys come from.
#[derive(PartialEq, Eq)]
enum Source {
    File(PathBuf),
    Command(String),
}

/// Until when the ring that was read is the one that would be read.
enum Holds {
    /// While the file is this version.
    WhileUnchanged(Version),
    /// From this moment on, for `tenancy.key_cache_lifetime`.
    Since(i64),
}

struct KeptRing {
    source: Source,
    holds: Holds,
    keys: BTreeMap<KeyId, LockedKey>,
}

static KEPT: BackendLocal<RefCell<Option<KeptRing>>> = BackendLocal::new(RefCell::new(None));

/// The key with this id.
///
/// Errors: [`error::SECRET_KEY_INVALID`] where the keys cannot be read, [`error::SECRET_KEY_MISSING`] where this one is
/// not among them.
pub fn key(id: &KeyId) -> Result<SecretKey> {
    let source = source(id)?;
    let kept = match KEPT.borrow().as_ref() {
        Some(kept) if kept.source == source && kept.is_current() => {
            // A command may have got the key meanwhile; a file would have changed.
            let looks_again = matches!(source, Source::Command(_));
            kept.keys.get(id).map(|key| Ok(SecretKey::new(key.bytes()))).or((!looks_again).then(|| Err(missing(id))))
        }
        _ => None,
    };
    if let Some(answer) = kept {
        return answer;
    }
    KEPT.replace(None);
    let (holds, ring) = source.read(id)?;
    let key = ring.get(id).cloned().ok_or_else(|| missing(id));
    KEPT.replace(KeptRing::new(source, holds, &ring));
    key
}

/// Forgets the keys that were read.
pub fn forget() {
    KEPT.replace(None);
}

/// Forgets them if they would be read anew.
pub fn expire() {
    let expired =
        KEPT.borrow().as_ref().is_some_and(|kept| matches!(kept.holds, Holds::Since(_)) && !kept.is_current());
    if expired {
        forget();
    }
}

impl KeptRing {
    /// `None` where keys cannot be kept as they should be.
    fn new(source: Source, holds: Holds, ring: &KeyRing) -> Option<Self> {
        let keep = |id: &KeyId| Some((id.clone(), locked(ring.get(id)?)?));
        let keys = ring.ids().map(keep).collect::<Option<_>>()?;
        Some(KeptRing { source, holds, keys })
    }

    fn is_current(&self) -> bool {
        match (&self.source, &self.holds) {
            (Source::File(path), Holds::WhileUnchanged(version)) => version.is_current(path),
            (_, Holds::Since(since)) => {
                (0..configuration::key_cache_lifetime()).contains(&(transaction::now() - since))
            }
            (Source::Command(_), Holds::WhileUnchanged(_)) => false,
        }
    }
}

fn source(id: &KeyId) -> Result<Source> {
    match (configuration::secret_key_file(), configuration::secret_key_command()) {
        (Some(_), Some(_)) => {
            Err(unreadable(id, "tenancy.secret_key_file and tenancy.secret_key_command are both set"))
        }
        (Some(file), None) => Ok(Source::File(file.into())),
        (None, Some(command)) => Ok(Source::Command(command)),
        (None, None) => {
            Err(missing(id).detail("Neither tenancy.secret_key_file nor tenancy.secret_key_command is set."))
        }
    }
}

impl Source {
    fn read(&self, id: &KeyId) -> Result<(Holds, KeyRing)> {
        let (holds, ring) = match self {
            Source::File(path) if !path.is_absolute() => {
                return Err(unreadable(id, "tenancy.secret_key_file is not an absolute path"));
            }
            Source::File(path) => {
                let (version, text) = secret_file::read_secret(path, MAX_BYTES as u64);
                let ring = text.and_then(|text| KeyRing::parse(text.as_bytes()));
                (Holds::WhileUnchanged(version), ring.map_err(|why| format!("of tenancy.secret_key_file: {why}")))
            }
            Source::Command(text) => {
                let since = transaction::now();
                let printed = command::run(text, None, MAX_BYTES, transaction::check_for_interrupts);
                let ring = printed.and_then(|printed| KeyRing::parse(&printed));
                (Holds::Since(since), ring.map_err(|why| format!("of tenancy.secret_key_command: {why}")))
            }
        };
        ring.map(|ring| (holds, ring)).map_err(|why| unreadable(id, &why))
    }
}

fn missing(id: &KeyId) -> Error {
    error::SECRET_KEY_MISSING.error(format!("the key-encryption key \"{id}\" is missing"))
}

fn unreadable(id: &KeyId, why: &str) -> Error {
    let message = format!("the keys cannot be read, among them the key-encryption key \"{id}\"");
    error::SECRET_KEY_INVALID.error(message).detail(format!("The reason: {why}."))
}
