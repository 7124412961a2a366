//! The functions of `tenancy_custodian`: register, choose and retire key-encryption keys, and rotate data keys. None
//! of them shows a key.

use super::data_key::{self, Purpose};
use super::guard;
use super::key_cache;
use super::key_encryption_key::{self, KeyEncryptionKey};
use super::key_ring;
use super::provider::Provider;
use super::secret::valid_reason;
use crate::audit::{NewEvent, append};
use crate::identity::hold_organization;
use crate::pg::clock;
use crate::pg::report::OrRaise;
use crate::pg::spi::{self, Query, Row, argument};
use crate::pg::transaction;
use pg_tenancy_core::error::{self, Error, Result, require_not_null};
use pg_tenancy_core::secrets::key::KeyId;
use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern};
use serde_json::{Value, json};
use uuid::Uuid;

/// Whoever changes keys takes turns. Readers, and those who make data keys, do not wait for it.
const TAKE_TURNS: &str = "LOCK TABLE tenancy.key_encryption_key IN SHARE ROW EXCLUSIVE MODE";

static IS_REGISTERED: Query = Query::new("SELECT 1 FROM tenancy.key_encryption_key WHERE id = $1");

static ADD: Query = Query::new(
    "INSERT INTO tenancy.key_encryption_key (id, provider, state, is_current, canary, canary_digest, created_at,
                                             created_by, reason)
     VALUES ($1, $2, 'enabled', false, $3, $4, $5, session_user, $6)",
);

static DRAIN_OTHERS: Query = Query::new(
    "UPDATE tenancy.key_encryption_key SET is_current = false, state = 'draining' WHERE state = 'enabled' AND id <> $1",
);

static CHOOSE: Query =
    Query::new("UPDATE tenancy.key_encryption_key SET is_current = true, state = 'enabled' WHERE id = $1");

static RETIRE: Query =
    Query::new("UPDATE tenancy.key_encryption_key SET state = 'retired', retired_at = $2 WHERE id = $1");

static WRAPPED_UNDER: Query =
    Query::new("SELECT count(*) FROM tenancy.data_key WHERE key_encryption_key = $1 AND state <> 'destroyed'");

static STATUS: Query = Query::new(
    "SELECT k.id, k.state, count(d.id), min(d.wrapped_at)
       FROM tenancy.key_encryption_key k
       LEFT JOIN tenancy.data_key d ON d.key_encryption_key = k.id AND d.state <> 'destroyed'
      GROUP BY k.id ORDER BY k.id",
);

static OF_VERSION: Query = Query::new(
    "SELECT count(*) FROM tenancy.data_key
      WHERE key_encryption_key = $1 AND state <> 'destroyed' AND key_version IS NOT DISTINCT FROM $2",
);

/// `tenancy.add_key_encryption_key(id, reason, provider)`.
#[pg_extern(sql = false)]
fn tenancy_add_key_encryption_key(id: Option<&str>, reason: Option<&str>, provider: Option<&str>) {
    add(id, reason, provider).or_raise();
}

/// `tenancy.set_current_key_encryption_key(id, reason)`.
#[pg_extern(sql = false)]
fn tenancy_set_current_key_encryption_key(id: Option<&str>, reason: Option<&str>) {
    set_current(id, reason).or_raise();
}

/// `tenancy.retire_key_encryption_key(id, reason)`.
#[pg_extern(sql = false)]
fn tenancy_retire_key_encryption_key(id: Option<&str>, reason: Option<&str>) {
    retire(id, reason).or_raise();
}

/// `tenancy.rotate_data_key(organization, reason)`: returns the id of the new data key.
#[pg_extern(sql = false)]
fn tenancy_rotate_data_key(organization: Option<pgrx::Uuid>, reason: Option<&str>) -> pgrx::Uuid {
    pgrx::Uuid::from_bytes(*rotate(organization, reason).or_raise().as_bytes())
}

/// `tenancy.forget_keys()`: returns how many data keys were kept.
#[pg_extern(sql = false)]
fn tenancy_forget_keys() -> i32 {
    key_ring::forget();
    key_cache::forget() as i32
}

/// `tenancy.key_status()`.
#[allow(clippy::type_complexity)]
#[pg_extern(sql = false)]
fn tenancy_key_status() -> TableIterator<
    'static,
    (
        name!(id, String),
        name!(provider, String),
        name!(state, String),
        name!(is_current, bool),
        name!(data_keys, i64),
        name!(behind, Option<i64>),
        name!(oldest_wrapped_at, Option<pgrx::datum::TimestampWithTimeZone>),
        name!(available, Option<&'static str>),
        name!(detail, Option<String>),
    ),
> {
    TableIterator::new(statuses().or_raise().into_iter().map(|status| {
        let KeyStatus { key, state, data_keys, behind, oldest_wrapped_at, available, detail } = status;
        let (id, provider) = (key.id.to_string(), key.provider.name().to_owned());
        (id, provider, state, key.is_current, data_keys, behind, oldest_wrapped_at, available, detail)
    }))
}

fn add(id: Option<&str>, reason: Option<&str>, provider: Option<&str>) -> Result<()> {
    let (id, reason) = (key_id(id)?, valid_reason(reason)?);
    let name = require_not_null(provider, "provider")?;
    let provider = Provider::parse(name)
        .ok_or_else(|| error::ARGUMENT_INVALID.error(format!("a provider is ring or command, not \"{name}\"")))?;
    take_turns()?;
    if !transaction::with_latest_snapshot(|| IS_REGISTERED.read(&[argument(id.as_str())], |_| ())).is_empty() {
        return Err(error::KEY_EXISTS.error(format!("key-encryption key \"{id}\" is registered already")));
    }
    let key = KeyEncryptionKey::try_out(id, provider)?;
    let (canary, digest) = key.canary();
    let arguments = [
        argument(key.id.as_str()),
        argument(provider.name()),
        argument(canary),
        argument(digest),
        spi::timestamp(clock::now()),
        argument(reason),
    ];
    guard::writing(|| ADD.write(&arguments, |_| ()));
    record("key_added", "success", Some(reason), json!({ "id": key.id.as_str(), "provider": provider.name() }))
}

fn set_current(id: Option<&str>, reason: Option<&str>) -> Result<()> {
    let (id, reason) = (key_id(id)?, valid_reason(reason)?);
    take_turns()?;
    let key = key_encryption_key::usable(&id)?;
    if key.is_current {
        return Ok(());
    }
    // Data keys are made under it from now on.
    key.prove()?;
    guard::writing(|| {
        DRAIN_OTHERS.write(&[argument(id.as_str())], |_| ());
        CHOOSE.write(&[argument(id.as_str())], |_| ())
    });
    record("key_current", "success", Some(reason), json!({ "id": id.as_str() }))
}

fn retire(id: Option<&str>, reason: Option<&str>) -> Result<()> {
    let (id, reason) = (key_id(id)?, valid_reason(reason)?);
    take_turns()?;
    let key = key_encryption_key::usable(&id)?;
    if key.is_current {
        return Err(error::KEY_IN_USE.error(format!("key-encryption key \"{id}\" is the current one")));
    }
    let count = |row: &Row| row.get::<i64>(1).unwrap_or_default();
    let under = transaction::with_latest_snapshot(|| WRAPPED_UNDER.read(&[argument(id.as_str())], count));
    let keys: i64 = under.into_iter().sum();
    if keys > 0 {
        let plural = if keys == 1 { "data key is" } else { "data keys are" };
        let message = format!("{keys} {plural} wrapped under key-encryption key \"{id}\"");
        return Err(error::KEY_IN_USE.error(message));
    }
    guard::writing(|| RETIRE.write(&[argument(id.as_str()), spi::timestamp(clock::now())], |_| ()));
    record("key_retired", "success", Some(reason), json!({ "id": id.as_str() }))
}

fn rotate(organization: Option<pgrx::Uuid>, reason: Option<&str>) -> Result<Uuid> {
    let organization = Uuid::from_bytes(*require_not_null(organization, "organization")?.as_bytes());
    let reason = valid_reason(reason)?;
    must_write()?;
    if !hold_organization(organization) {
        return Err(error::NOT_FOUND.error(format!("organization \"{organization}\" does not exist")));
    }
    let under = data_key::current_key_encryption_key()?;
    let before = data_key::current(organization, Purpose::Seal)?;
    if let Some(before) = &before {
        // What it has sealed is to be moved under the new key, so it must open.
        before.open()?;
        data_key::put_aside(before);
    }
    if data_key::current(organization, Purpose::Fingerprint)?.is_none() {
        data_key::make(organization, Purpose::Fingerprint, &under)?;
    }
    let made = data_key::make(organization, Purpose::Seal, &under)?;
    let new = json!({
        "organization": organization,
        "data_key": made.id,
        "before": before.map(|before| before.id),
        "key_encryption_key": made.key_encryption_key.as_str(),
    });
    record("data_key_rotated", "success", Some(reason), new)?;
    Ok(made.id)
}

/// A row of `tenancy.key_status()`.
struct KeyStatus {
    key: KeyEncryptionKey,
    state: String,
    data_keys: i64,
    behind: Option<i64>,
    oldest_wrapped_at: Option<pgrx::datum::TimestampWithTimeZone>,
    available: Option<&'static str>,
    detail: Option<String>,
}

fn statuses() -> Result<Vec<KeyStatus>> {
    let read = |row: &Row| Some((KeyId::parse(row.get(1)?)?, row.get(2)?, row.get(3)?, row.get(4)));
    let rows = transaction::with_latest_snapshot(|| STATUS.read(&[], read));
    rows.into_iter()
        .flatten()
        .map(|(id, state, data_keys, oldest_wrapped_at)| {
            let key = key_encryption_key::registered(&id)?;
            let mut status =
                KeyStatus { key, state, data_keys, behind: None, oldest_wrapped_at, available: None, detail: None };
            if !status.key.is_retired {
                status.try_key();
            }
            Ok(status)
        })
        .collect()
}

impl KeyStatus {
    fn try_key(&mut self) {
        let tried = self.key.prove().and_then(|()| match self.key.provider {
            Provider::Ring => Ok(0),
            Provider::Command => self.behind(),
        });
        match tried {
            Ok(behind) => (self.behind, self.available) = (Some(behind), Some("yes")),
            Err(error) => {
                self.available = Some(if *error.kind == error::SECRET_KEY_MISSING {
                    "missing"
                } else if *error.kind == error::SECRET_KEY_WRONG {
                    "wrong"
                } else {
                    "failed"
                });
                self.detail = Some(described(error));
            }
        }
    }

    /// How many data keys are wrapped under another version of the service's key than it uses now.
    fn behind(&self) -> Result<i64> {
        let version = self.key.version()?;
        let arguments = [argument(self.key.id.as_str()), argument(version)];
        let count = |row: &Row| row.get::<i64>(1).unwrap_or_default();
        let same: i64 = transaction::with_latest_snapshot(|| OF_VERSION.read(&arguments, count)).into_iter().sum();
        Ok((self.data_keys - same).max(0))
    }
}

fn described(error: Error) -> String {
    match error.detail {
        Some(detail) => format!("{}. {detail}", error.message),
        None => error.message,
    }
}

/// Writes the event of a change of keys, into the chain of no organization.
pub fn record(operation: &str, result: &str, reason: Option<&str>, new: Value) -> Result<()> {
    let event = NewEvent::of_operation(Uuid::nil(), "secret_key", operation, reason, &new);
    append(NewEvent { result, ..event }).map(drop)
}

fn take_turns() -> Result<()> {
    must_write()?;
    spi::execute(TAKE_TURNS, |_| ());
    Ok(())
}

pub fn must_write() -> Result<()> {
    if transaction::read_only() {
        return Err(error::READ_ONLY.error("keys cannot be changed on a standby or in a READ ONLY transaction"));
    }
    Ok(())
}

pub fn key_id(id: Option<&str>) -> Result<KeyId> {
    let id = require_not_null(id, "id")?;
    KeyId::parse(id).ok_or_else(|| {
        let message = "the id of a key has 1 to 64 characters a-z, 0-9, . _ -, the first a letter or digit";
        error::ARGUMENT_INVALID.error(message)
    })
}
