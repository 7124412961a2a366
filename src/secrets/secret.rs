//! A secret of the context's organization, found by its name, and the events that are written of it.

use crate::audit::{self, NewEvent, append};
use crate::context;
use crate::controls;
use crate::identity::hold_organization;
use crate::pg::spi::{self, Query, Row, argument};
use crate::pg::tables::table::{IndexKey, Tuple, find};
use crate::pg::transaction;
use crate::pg::user;
use pg_tenancy_core::error::{self, Error, Result, require_not_null};
use pg_tenancy_core::secrets::envelope::SecretPlace;
use pgrx::datum::TimestampWithTimeZone;
use serde_json::{Value, json};
use uuid::Uuid;

const MAX_NAME_BYTES: usize = 200;
const MAX_TEXT_BYTES: usize = 1000;

/// The scope of values that change nothing at the provider.
pub const READ_ONLY: &str = "read_only";

/// The scope of values that may change something, for which an action type must be approved.
pub const WRITE: &str = "write";

/// Whoever changes a secret holds its row until the end of the transaction, and sees the newest state.
static HOLD: Query = Query::new(
    "SELECT id, kind, scope, domain FROM tenancy.secret
      WHERE organization = $1 AND name = $2 AND destroyed_at IS NULL FOR UPDATE",
);

static HOLD_BY_ID: Query = Query::new(
    "SELECT id, name, kind, scope, domain FROM tenancy.secret
      WHERE organization = $1 AND id = $2 AND destroyed_at IS NULL FOR UPDATE",
);

static HOLD_ALL: Query = Query::new(
    "SELECT id, name, kind, scope, domain FROM tenancy.secret
      WHERE organization = $1 AND destroyed_at IS NULL ORDER BY id FOR UPDATE",
);

/// A row of `tenancy.secret` that is not destroyed.
pub struct Secret {
    pub id: Uuid,
    pub organization: Uuid,
    pub name: String,
    pub kind: String,
    pub scope: String,
    pub domain: String,
}

/// The answer to who asks for a secret that is not there, or that the role may not see.
pub fn unknown(name: &str) -> Error {
    error::SECRET_UNKNOWN.error(format!("there is no secret \"{name}\""))
}

impl Secret {
    /// The secret with this name, in the state of the active snapshot; `None` for one that is destroyed, too.
    pub fn find(organization: Uuid, name: &str) -> Result<Option<Self>> {
        let read = |row: &Tuple| {
            let secret = Secret {
                id: row.uuid(1)?,
                organization,
                name: name.to_owned(),
                kind: row.get(4)?,
                scope: row.get(5)?,
                domain: row.get(6)?,
            };
            Some((secret, row.timestamp(17).is_some()))
        };
        let keys = [IndexKey::uuid(2, &organization), IndexKey::text(3, name)];
        let found = find(c"secret", c"secret_organization_name_key", &keys, read).pop();
        let damaged = || error::STATE_INVALID.error(format!("the row of the secret \"{name}\" cannot be read"));
        let found = found.map(|row| row.ok_or_else(damaged)).transpose()?;
        Ok(found.and_then(|(secret, destroyed)| (!destroyed).then_some(secret)))
    }

    /// The place of a version's value.
    pub fn place(&self, version: i32) -> SecretPlace<'_> {
        SecretPlace { secret: self.id, name: &self.name, version, kind: &self.kind, scope: &self.scope }
    }

    /// The secret with this name, for a caller who may do `action` with it. Its row is locked.
    ///
    /// Errors: [`error::SECRET_UNKNOWN`], also for one that the caller may not read; [`error::PERMISSION_DENIED`].
    pub fn held(name: Option<&str>, action: &str) -> Result<Self> {
        let name = valid_name(name)?;
        let organization = context::require()?.organization.id;
        must_write()?;
        let read = |row: &Row| {
            Some(Secret {
                id: row.uuid(1)?,
                organization,
                name: name.to_owned(),
                kind: row.get(2)?,
                scope: row.get(3)?,
                domain: row.get(4)?,
            })
        };
        let keys = [spi::uuid(organization), argument(name)];
        let held = user::as_superuser(|| HOLD.write(&keys, read)).pop().flatten();
        let held = held.filter(|secret| context::allowed(&secret.domain, "read"));
        let secret = held.ok_or_else(|| unknown(name))?;
        context::authorize(&secret.domain, action)?;
        Ok(secret)
    }

    /// The secret with this id. Its row is locked. For a caller who may do what follows whoever calls.
    ///
    /// Errors: [`error::SECRET_UNKNOWN`].
    pub fn held_by_id(organization: Uuid, id: Uuid) -> Result<Self> {
        let keys = [spi::uuid(organization), spi::uuid(id)];
        let held = HOLD_BY_ID.write(&keys, |row| Secret::read(organization, row)).pop().flatten();
        held.ok_or_else(|| unknown(&id.to_string()))
    }

    /// A row with id, name, kind, scope and domain.
    fn read(organization: Uuid, row: &Row) -> Option<Self> {
        let (name, kind, scope, domain) = (row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?);
        Some(Secret { id: row.uuid(1)?, organization, name, kind, scope, domain })
    }

    /// All secrets of an organization. Their rows are locked.
    pub fn all_held(organization: Uuid) -> Result<Vec<Self>> {
        let read = |row: &Row| Secret::read(organization, row);
        let held: Option<Vec<_>> = HOLD_ALL.write(&[spi::uuid(organization)], read).into_iter().collect();
        held.ok_or_else(|| error::STATE_INVALID.error("the row of a secret cannot be read"))
    }

    /// Writes the event of a change of this secret. Something outside may depend on the change as soon as it is
    /// committed, so the commit waits for the disk.
    pub fn record(&self, operation: &str, reason: Option<&str>, mut new: Value) -> Result<()> {
        transaction::commit_durably();
        new["secret"] = json!(self.id);
        new["name"] = json!(self.name);
        record(self.organization, operation, reason, new)
    }
}

/// The approval under which a new value of this scope may be stored; `None` if it takes none.
///
/// Errors: [`error::ACTION_NOT_APPROVED`], which is recorded.
pub fn approval_to_store(organization: Uuid, scope: &str) -> Result<Option<Uuid>> {
    if scope == READ_ONLY {
        return Ok(None);
    }
    // So no withdrawal comes before the value is stored.
    hold_organization(organization);
    match controls::approval_in_force(organization, None) {
        Some(approval) => Ok(Some(approval)),
        None => {
            let message = format!("a value of the scope \"{scope}\" needs an approved action type");
            Err(audit::refused("secret", error::ACTION_NOT_APPROVED.error(message)))
        }
    }
}

/// Writes an event of secrets into the chain of an organization.
pub fn record(organization: Uuid, operation: &str, reason: Option<&str>, new: Value) -> Result<()> {
    append(NewEvent::of_operation(organization, "secret", operation, reason, &new)).map(drop)
}

pub fn must_write() -> Result<()> {
    if transaction::read_only() {
        return Err(error::READ_ONLY.error("secrets cannot be changed on a standby or in a READ ONLY transaction"));
    }
    Ok(())
}

pub fn valid_name(name: Option<&str>) -> Result<&str> {
    let name = require_not_null(name, "name")?;
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        let message = format!("the name of a secret has 1 to {MAX_NAME_BYTES} bytes and no control characters");
        return Err(error::ARGUMENT_INVALID.error(message));
    }
    Ok(name)
}

pub fn valid_reason(reason: Option<&str>) -> Result<&str> {
    let reason = require_not_null(reason, "reason")?;
    if reason.trim().is_empty() || reason.len() > MAX_TEXT_BYTES {
        let message = format!("the reason is blank, or longer than {MAX_TEXT_BYTES} bytes");
        return Err(error::ARGUMENT_INVALID.error(message));
    }
    Ok(reason)
}

/// Refuses a text that says nothing, or too much. There may be none.
pub fn require_text(text: Option<&str>, name: &str) -> Result<()> {
    if text.is_some_and(|text| text.trim().is_empty() || text.len() > MAX_TEXT_BYTES) {
        return Err(error::ARGUMENT_INVALID.error(format!("{name} is blank, or longer than {MAX_TEXT_BYTES} bytes")));
    }
    Ok(())
}

/// The end of a credential, which is not over yet.
pub fn future(expires_at: Option<TimestampWithTimeZone>, now: i64) -> Result<Option<TimestampWithTimeZone>> {
    let moment = expires_at.map(transaction::microseconds);
    if moment.is_some_and(|moment| moment <= now) {
        return Err(error::ARGUMENT_INVALID.error("expires_at is in the past"));
    }
    Ok(expires_at)
}
