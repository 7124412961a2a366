//! The key of commitments, read from its file and kept until the file changes.

use crate::pg::backend_local::BackendLocal;
use crate::pg::settings::configuration;
use pg_tenancy_core::audit::format::commitment::CommitmentKey;
use pg_tenancy_core::error::{self, Error, Result};
use pg_tenancy_files::secret_file::{self, Version};
use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

/// A key with the file it was read from.
struct KeptKey {
    path: PathBuf,
    version: Version,
    key: Rc<CommitmentKey>,
}

static KEPT: BackendLocal<RefCell<Option<KeptKey>>> = BackendLocal::new(RefCell::new(None));

/// The longest file that is looked at.
const MAX_FILE_BYTES: u64 = 4096;

/// The key that `tenancy.commitment_key_file` names.
///
/// Errors: [`error::COMMITMENT_KEY_INVALID`] without a file, or with one that cannot be used.
pub fn key() -> Result<Rc<CommitmentKey>> {
    let path = configuration::commitment_key_file().ok_or_else(|| {
        let message = "a secret column needs a key, and tenancy.commitment_key_file names no file";
        error::COMMITMENT_KEY_INVALID.error(message)
    })?;
    let path = PathBuf::from(path);
    if let Some(kept) = KEPT.borrow().as_ref()
        && kept.path == path
        && kept.version.is_current(&path)
    {
        return Ok(kept.key.clone());
    }
    KEPT.replace(None);
    if !path.is_absolute() {
        return Err(refused("it is not named by an absolute path"));
    }
    let (version, text) = secret_file::read_secret(&path, MAX_FILE_BYTES);
    let key = text.and_then(|text| CommitmentKey::parse(&text).map_err(str::to_owned)).map_err(|why| refused(&why))?;
    let key = Rc::new(key);
    KEPT.replace(Some(KeptKey { path, version, key: key.clone() }));
    Ok(key)
}

fn refused(why: &str) -> Error {
    let message = "the file that tenancy.commitment_key_file names cannot be used";
    error::COMMITMENT_KEY_INVALID.error(message).detail(format!("The reason: {why}."))
}
