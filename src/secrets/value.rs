//! A value of a secret: what may be stored, how it is sealed, and where it goes.

use super::data_key::{self, Purpose};
use super::recipient;
use super::secret::approval_to_store;
use crate::guardrail::{self, Hit};
use crate::pg::hooks::log;
use crate::pg::spi::{Query, argument};
use crate::pg::tables::table::{self, ColumnValue, IndexKey, find};
use pg_tenancy_core::error::{self, Result, require_not_null};
use pg_tenancy_core::guardrail::LITERAL_SECRET;
use pg_tenancy_core::secrets::envelope::{self, MAX_VALUE, SecretPlace};
use pg_tenancy_core::secrets::kind;
use pg_tenancy_core::secrets::literal;
use sha2::{Digest, Sha256};
use uuid::Uuid;

static KIND: Query = Query::new("SELECT members FROM tenancy.secret_kind WHERE name = $1");

/// A value as it came, in the clear or sealed to the organization. What was sealed is zeroized when it is dropped.
pub enum Received<'a> {
    Clear(&'a str),
    Delivered(recipient::Delivered),
}

impl<'a> Received<'a> {
    /// The value of the argument `value`, for the secret with this name; `sealed` tells how it came.
    pub fn new(organization: Uuid, name: &str, value: Option<&'a str>, sealed: Option<bool>) -> Result<Self> {
        let value = require_not_null(value, "value")?;
        // Also of what only names a function that takes values: another argument may be the value of another call.
        log::hide_literals_of_statement();
        // What is sealed on its way may stand in a statement.
        if require_not_null(sealed, "sealed")? {
            return recipient::accept(organization, name, value).map(Received::Delivered);
        }
        refuse_literal(organization, name, value)?;
        Ok(Received::Clear(value))
    }

    pub fn text(&self) -> &str {
        match self {
            Received::Clear(value) => value,
            Received::Delivered(value) => value.text(),
        }
    }
}

/// A value as it is stored, and what is told of it.
pub struct SealedValue {
    pub data_key: Uuid,
    pub digest: [u8; 32],
    pub fingerprint: [u8; 32],
    /// The approval that a value of the scope `write` takes.
    pub approval: Option<Uuid>,
    bytes: Vec<u8>,
}

impl SealedValue {
    /// Seals a new value under the current data key of the organization, which gets one with its first value.
    ///
    /// Errors: [`error::ACTION_NOT_APPROVED`] for the scope `write`, and those of the keys.
    pub fn new(organization: Uuid, place: &SecretPlace, value: &str) -> Result<Self> {
        let approval = approval_to_store(organization, place.scope)?;
        Ok(SealedValue { approval, ..SealedValue::again(organization, place, value)? })
    }

    /// As [`SealedValue::new`], for a value that is stored already: it takes no approval again.
    pub fn again(organization: Uuid, place: &SecretPlace, value: &str) -> Result<Self> {
        let fingerprint = fingerprint(organization, value)?;
        let key = data_key::current_or_made(organization, Purpose::Seal)?.open()?;
        let bytes = envelope::seal(&key, place, value.as_bytes());
        let bytes = bytes.ok_or_else(|| error::STATE_INVALID.error("the value could not be sealed"))?;
        Ok(SealedValue { data_key: key.id, digest: Sha256::digest(&bytes).into(), fingerprint, approval: None, bytes })
    }

    /// Writes the value below SQL, so that no statement has it, and no log of statements.
    pub fn store(&self, secret: Uuid, version: i32) {
        let row = [ColumnValue::Uuid(&secret), ColumnValue::Integer(version), ColumnValue::Bytes(&self.bytes)];
        table::insert(c"sealed_value", &row);
    }
}

/// The sealed value of a version.
pub fn sealed(secret: Uuid, version: i32) -> Option<Vec<u8>> {
    let keys = [IndexKey::uuid(1, &secret), IndexKey::integer(2, version)];
    find(c"sealed_value", c"sealed_value_pkey", &keys, |row| row.get::<Vec<u8>>(3)).pop().flatten()
}

/// Tells that two values of the organization are the same.
pub fn fingerprint(organization: Uuid, value: &str) -> Result<[u8; 32]> {
    let key = data_key::current_or_made(organization, Purpose::Fingerprint)?.open()?;
    Ok(envelope::fingerprint(&key.key, organization, value.as_bytes()))
}

/// Refuses a value that stands in the client's statement, or warns of it: it has leaked.
fn refuse_literal(organization: Uuid, name: &str, value: &str) -> Result<()> {
    if log::with_statement(|statement| literal::stands_in(statement, value.as_bytes())) != Some(true) {
        return Ok(());
    }
    guardrail::hit(&Hit::of_object(&LITERAL_SECRET, organization, "store", name), || {
        let detail = "It may be in the log, in statistics and in the memory of a pooler.";
        error::SECRET_LITERAL.error("the value stands in the text of the statement").detail(detail)
    })
}

/// Refuses a value that cannot be one of this kind. The error has no part of the value.
pub fn require_valid(value: &str, kind: &str) -> Result<()> {
    if value.is_empty() || value.len() > MAX_VALUE {
        return Err(error::SECRET_VALUE_INVALID.error(format!("a value has 1 to {MAX_VALUE} bytes")));
    }
    let members = KIND.read(&[argument(kind)], |row| row.get::<Vec<String>>(1).unwrap_or_default()).pop();
    let unknown = || error::ARGUMENT_INVALID.error(format!("there is no kind \"{kind}\" of secrets"));
    let members = members.ok_or_else(unknown)?;
    if kind::has_members(value, &members) {
        return Ok(());
    }
    let detail = format!("It is a JSON object with the members {}, each once.", members.join(", "));
    Err(error::SECRET_VALUE_INVALID.error(format!("the value is not one of the kind \"{kind}\"")).detail(detail))
}
