//! Storing a secret: the first version of its value, sealed; and the end of all its values.

use super::external_id;
use super::guard;
use super::secret::{READ_ONLY, Secret, WRITE, future, must_write, require_text, valid_name, valid_reason};
use super::value::{Received, SealedValue, require_valid};
use super::versions;
use crate::context;
use crate::identity::hold_organization;
use crate::pg::clock;
use crate::pg::report::OrRaise;
use crate::pg::spi::{self, Query, argument};
use crate::pg::transaction;
use crate::pg::user;
use pg_tenancy_core::audit::format::event::time_ordered_id;
use pg_tenancy_core::audit::format::hex;
use pg_tenancy_core::error::{self, Result, require_not_null};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_extern;
use rand::RngExt as _;
use serde_json::json;
use uuid::Uuid;

static HAS_NAME: Query = Query::new("SELECT 1 FROM tenancy.secret WHERE organization = $1 AND name = $2");

static ADD_SECRET: Query = Query::new(
    "INSERT INTO tenancy.secret (id, organization, name, kind, scope, domain, owner_issuer, owner_subject, description,
                                 created_at, created_by, external_id)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $8, $11)",
);

static ADD_VERSION: Query = Query::new(
    "INSERT INTO tenancy.secret_version (secret, organization, number, state, scope, data_key, sealed_digest,
                                         fingerprint, provider_key_id, expires_at, announced_at, valued_at, promoted_at)
     VALUES ($1, $2, 1, 'current', $3, $4, $5, $6, $7, $8, $9, $9, $9)",
);

/// `tenancy.put_secret(...)`: returns the id of the secret.
#[allow(clippy::too_many_arguments)]
#[pg_extern(sql = false)]
fn tenancy_put_secret(
    name: Option<&str>,
    value: Option<&str>,
    kind: Option<&str>,
    scope: Option<&str>,
    domain: Option<&str>,
    description: Option<&str>,
    provider_key_id: Option<&str>,
    expires_at: Option<TimestampWithTimeZone>,
    sealed: Option<bool>,
) -> pgrx::Uuid {
    let given = Given { name, value, kind, scope, domain, description, provider_key_id, expires_at, sealed };
    pgrx::Uuid::from_bytes(*put(given).or_raise().as_bytes())
}

/// `tenancy.destroy_secret(name, reason)`: returns how many values were deleted.
#[pg_extern(sql = false)]
fn tenancy_destroy_secret(name: Option<&str>, reason: Option<&str>) -> i32 {
    destroy(name, reason).or_raise()
}

/// The arguments as they came.
struct Given<'a> {
    name: Option<&'a str>,
    value: Option<&'a str>,
    kind: Option<&'a str>,
    scope: Option<&'a str>,
    domain: Option<&'a str>,
    description: Option<&'a str>,
    provider_key_id: Option<&'a str>,
    expires_at: Option<TimestampWithTimeZone>,
    sealed: Option<bool>,
}

fn put(given: Given) -> Result<Uuid> {
    let domain = require_not_null(given.domain, "domain")?;
    context::authorize(domain, "create")?;
    let context = context::require()?;
    must_write()?;
    let name = valid_name(given.name)?;
    let kind = require_not_null(given.kind, "kind")?;
    let scope = valid_scope(given.scope)?;
    require_text(given.description, "description")?;
    require_text(given.provider_key_id, "provider_key_id")?;
    let now = clock::now();
    let expires_at = future(given.expires_at, now)?;
    let organization = context.organization.id;
    let received = Received::new(organization, name, given.value, given.sealed)?;
    let value = received.text();
    user::as_superuser(|| {
        require_valid(value, kind)?;
        hold_organization(organization);
        let taken = [spi::uuid(organization), argument(name)];
        if !transaction::with_latest_snapshot(|| HAS_NAME.read(&taken, |_| ())).is_empty() {
            return Err(error::SECRET_EXISTS.error(format!("the organization has, or had, a secret \"{name}\"")));
        }
        let secret = Secret {
            id: time_ordered_id(now, rand::rng().random()),
            organization,
            name: name.to_owned(),
            kind: kind.to_owned(),
            scope: scope.to_owned(),
            domain: domain.to_owned(),
        };
        let sealed = SealedValue::new(organization, &secret.place(1), value)?;
        let external_id = external_id::of_new(kind);
        let rows = [
            spi::uuid(secret.id),
            spi::uuid(organization),
            argument(name),
            argument(kind),
            argument(scope),
            argument(domain),
            argument(context.issuer.as_str()),
            argument(context.subject.as_str()),
            argument(given.description),
            spi::timestamp(now),
            argument(external_id.as_deref()),
        ];
        guard::writing(|| ADD_SECRET.write(&rows, |_| ()));
        let version = [
            spi::uuid(secret.id),
            spi::uuid(organization),
            argument(scope),
            spi::uuid(sealed.data_key),
            argument(sealed.digest.as_slice()),
            argument(sealed.fingerprint.as_slice()),
            argument(given.provider_key_id),
            argument(expires_at),
            spi::timestamp(now),
        ];
        guard::writing(|| ADD_VERSION.write(&version, |_| ()));
        sealed.store(secret.id, 1);
        let new = json!({
            "version": 1,
            "kind": kind,
            "scope": scope,
            "domain": domain,
            "data_key": sealed.data_key,
            "sealed_digest": hex::encode(&sealed.digest),
            "provider_key_id": given.provider_key_id,
            "approval": sealed.approval,
            "external_id": external_id,
        });
        secret.record("put", None, new)?;
        Ok(secret.id)
    })
}

fn destroy(name: Option<&str>, reason: Option<&str>) -> Result<i32> {
    let reason = valid_reason(reason)?;
    let secret = Secret::held(name, "destroy")?;
    user::as_superuser(|| destroy_held(&secret, reason))
}

/// Destroys a secret as a reviewer has decided. The caller acts as a superuser.
pub fn destroy_reviewed(organization: Uuid, secret: Uuid, reason: &str) -> Result<()> {
    destroy_held(&Secret::held_by_id(organization, secret)?, reason).map(drop)
}

fn destroy_held(secret: &Secret, reason: &str) -> Result<i32> {
    let values = versions::destroy(secret, reason, clock::now())?;
    secret.record("destroy", Some(reason), json!({ "values": values }))?;
    Ok(values as i32)
}

fn valid_scope(scope: Option<&str>) -> Result<&str> {
    match require_not_null(scope, "scope")? {
        scope @ (READ_ONLY | WRITE) => Ok(scope),
        scope => Err(error::ARGUMENT_INVALID.error(format!("a scope is read_only or write, not \"{scope}\""))),
    }
}
