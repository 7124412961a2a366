//! The key of an organization that values are sealed to before they are sent, so that no statement has them.

use super::data_key::{self, Purpose, StoredKey};
use super::secret::{must_write, record};
use crate::context;
use crate::identity::hold_organization;
use crate::pg::clock;
use crate::pg::report::OrRaise;
use crate::pg::transaction;
use crate::pg::user;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use pg_tenancy_core::error::{self, Error, Result, require_not_null};
use pg_tenancy_core::secrets::delivery::{self, Submission};
use pg_tenancy_core::secrets::envelope::MAX_VALUE;
use pg_tenancy_core::secrets::key::SecretKey;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern};
use serde_json::json;
use uuid::Uuid;
use zeroize::Zeroizing;

const DAY: i64 = 86_400_000_000;
/// How long a key takes values, in microseconds.
const LIFETIME: i64 = 90 * DAY;
/// What a key has left when the next one is made: whoever has asked for the key can seal to it for so long.
const LEFT: i64 = 30 * DAY;

/// The most base64 of a key's id and a message.
const MAX_TEXT: usize = (16 + delivery::OVERHEAD + MAX_VALUE).div_ceil(3) * 4;

/// A value that was sealed to the organization.
pub struct Delivered(Zeroizing<Vec<u8>>);

impl Delivered {
    /// As a `text` can hold it.
    fn new(bytes: Zeroizing<Vec<u8>>) -> Option<Self> {
        (std::str::from_utf8(&bytes).is_ok() && !bytes.contains(&0)).then_some(Delivered(bytes))
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// `tenancy.secret_recipient(domain)`.
#[pg_extern(sql = false)]
fn tenancy_secret_recipient(
    domain: Option<&str>,
) -> TableIterator<
    'static,
    (name!(key_id, String), name!(public_key, Vec<u8>), name!(not_after, pgrx::datum::TimestampWithTimeZone)),
> {
    let (key, public_key) = current(domain).or_raise();
    let not_after = transaction::to_timestamptz(not_after(&key));
    let not_after = TimestampWithTimeZone::try_from(not_after).map_err(|_| end_of_time()).or_raise();
    TableIterator::once((key.id.to_string(), public_key.to_vec(), not_after))
}

/// Opens what `tenancy.put_secret` and its like got: base64 of the key's id and the message.
pub fn accept(organization: Uuid, name: &str, value: &str) -> Result<Delivered> {
    let not_sealed = || {
        let message = "the value is not sealed to a key of the organization for this secret";
        error::SECRET_VALUE_INVALID.error(message)
    };
    if value.len() > MAX_TEXT {
        return Err(not_sealed());
    }
    let bytes = BASE64_STANDARD.decode(value).map_err(|_| not_sealed())?;
    let (id, message) = bytes.split_first_chunk().ok_or_else(not_sealed)?;
    let key = data_key::find_by_id(Uuid::from_bytes(*id)).map_err(|_| not_sealed())?;
    if key.organization != organization || key.purpose != Purpose::Recipient {
        return Err(not_sealed());
    }
    if not_after(&key) < clock::now() {
        return Err(error::RECIPIENT_INVALID.error("the key that the value is sealed to has expired"));
    }
    let opened = delivery::accept(&key.open()?.key, &Submission { organization, name }, message);
    opened.and_then(Delivered::new).ok_or_else(not_sealed)
}

/// The key to seal to now, made where there is none that lasts long enough.
fn current(domain: Option<&str>) -> Result<(StoredKey, [u8; 32])> {
    let domain = require_not_null(domain, "domain")?;
    context::authorize(domain, "create")?;
    let organization = context::require()?.organization.id;
    let found = data_key::current(organization, Purpose::Recipient)?;
    let enough = if transaction::read_only() { 0 } else { LEFT };
    let key = match found.filter(|key| lasts(key, enough)) {
        Some(key) => key,
        None => user::as_superuser(|| make(organization))?,
    };
    let public_key = public_key(&key.open()?.key)?;
    Ok((key, public_key))
}

fn make(organization: Uuid) -> Result<StoredKey> {
    must_write()?;
    let under = data_key::current_key_encryption_key()?;
    hold_organization(organization);
    // Another session may have made one meanwhile.
    if let Some(before) = data_key::current(organization, Purpose::Recipient)? {
        if lasts(&before, LEFT) {
            return Ok(before);
        }
        data_key::put_aside(&before);
    }
    data_key::destroy_old(organization, Purpose::Recipient, clock::now() - LIFETIME);
    let made = data_key::make(organization, Purpose::Recipient, &under)?;
    record(organization, "recipient_added", None, json!({ "data_key": made.id }))?;
    Ok(made)
}

/// Whether the key takes values for so many microseconds more.
fn lasts(key: &StoredKey, left: i64) -> bool {
    clock::now() + left < not_after(key)
}

fn not_after(key: &StoredKey) -> i64 {
    key.created_at.saturating_add(LIFETIME)
}

fn public_key(private_key: &SecretKey) -> Result<[u8; 32]> {
    delivery::public_key(private_key).ok_or_else(|| error::STATE_INVALID.error("a recipient's key cannot be used"))
}

fn end_of_time() -> Error {
    error::STATE_INVALID.error("a recipient's key ends after the last moment that there is")
}
