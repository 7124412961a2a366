//! What `authenticate` reads of the extension's own tables, each by one index and below SQL.
//!
//! Every function goes by the active snapshot, which the caller sets to the newest committed state. The numbers are
//! those of the columns in `sql/identity/identity.sql`.
//!
//! Decision: `docs/decisions/09-authentication-lookups.md`.

use crate::pg::tables::table::{IndexKey, Tuple, find};
use pg_tenancy_core::context::{Organization, Permissions};
use pg_tenancy_core::identity::membership::Membership;
use pg_tenancy_core::identity::token::session_ids;
use serde_json::{Map, Value};
use std::ffi::CStr;
use uuid::Uuid;

/// What of an issuer's row is looked at each time.
pub struct IssuerVersion {
    pub active: bool,
    pub revision: Uuid,
}

/// The row of the issuer, if it is registered.
pub fn issuer(name: &str) -> Option<IssuerVersion> {
    let read = |row: &Tuple| Some(IssuerVersion { active: is_active(row, 2), revision: row.uuid(3)? });
    find(c"issuer", c"issuer_pkey", &[IndexKey::text(1, name)], read).pop()?
}

/// The organization that the issuer calls `name`: by the name that it was given for this issuer, else by its text id,
/// else by its id.
pub fn organization_named(issuer: &str, name: &str) -> Option<Uuid> {
    let external = [IndexKey::text(1, issuer), IndexKey::text(2, name)];
    let by_external =
        || find(c"external_organization", c"external_organization_pkey", &external, |row| row.uuid(3)).pop()?;
    let by_text =
        || find(c"organization", c"organization_text_id_key", &[IndexKey::text(3, name)], |row| row.uuid(1)).pop()?;
    let by_id = || name.parse().ok().filter(|id| organization(id).is_some());
    by_external().or_else(by_text).or_else(by_id)
}

/// The subject's memberships, of these organizations or of all.
pub fn memberships(issuer: &str, subject: &str, organizations: Option<&[Uuid]>) -> Vec<Membership> {
    let [issuer, subject] = [IndexKey::text(2, issuer), IndexKey::text(3, subject)];
    let read = |keys: &[IndexKey]| {
        let rows = find(c"membership", c"membership_pkey", keys, |row| {
            let (organization, role) = (row.uuid(1)?, row.get::<String>(4)?);
            Some((organization, role, is_active(row, 5), row.timestamp(6)))
        });
        rows.into_iter().flatten().collect::<Vec<_>>()
    };
    let rows = match organizations {
        None => read(&[issuer, subject]),
        Some(organizations) => {
            organizations.iter().flat_map(|id| read(&[issuer, subject, IndexKey::uuid(1, id)])).collect()
        }
    };
    let memberships = rows.into_iter().map(|(id, role, active, valid_until)| {
        let (organization, organization_active) = organization(&id)?;
        Some(Membership { organization, organization_active, role, active, valid_until })
    });
    memberships.flatten().collect()
}

pub fn organization(id: &Uuid) -> Option<(Organization, bool)> {
    let read = |row: &Tuple| {
        let organization = Organization { id: *id, text_id: row.get(3)?, integer_id: row.get(4) };
        Some((organization, is_active(row, 5)))
    };
    find(c"organization", c"organization_pkey", &[IndexKey::uuid(1, id)], read).pop()?
}

/// True if there is a role of that name.
pub fn is_role(name: &str) -> bool {
    exists(c"role", c"role_pkey", &[IndexKey::text(1, name)])
}

/// What the role permits.
pub fn permissions(role: &str) -> Permissions {
    let read = |row: &Tuple| Some((row.get(2)?, row.get(3)?));
    find(c"role_permission", c"role_permission_pkey", &[IndexKey::text(1, role)], read).into_iter().flatten().collect()
}

/// True if members of the organization must come through single sign-on.
pub fn enforces_sso(organization: &Uuid) -> bool {
    exists(c"sso_connection", c"sso_connection_enforced_idx", &[IndexKey::uuid(2, organization)])
}

/// When the issuer's key was retired, in microseconds since 1970, if it was.
pub fn retirement(issuer: &str, key_id: &str) -> Option<i64> {
    let keys = [IndexKey::text(1, issuer), IndexKey::text(2, key_id)];
    find(c"retired_key", c"retired_key_pkey", &keys, |row| row.timestamp(3)).pop()?
}

/// Why a token no longer counts, if its session or the tokens of its subject were revoked. `issued_at`: in Unix
/// seconds.
pub fn revocation(
    issuer: &str,
    subject: &str,
    claims: &Map<String, Value>,
    issued_at: Option<i64>,
) -> Option<&'static str> {
    let revoked = |session_id| {
        let keys = [IndexKey::text(1, issuer), IndexKey::text(2, session_id)];
        exists(c"revoked_session", c"revoked_session_pkey", &keys)
    };
    if session_ids(claims).any(revoked) {
        return Some("The session was revoked.");
    }
    let keys = [IndexKey::text(1, issuer), IndexKey::text(2, subject)];
    let issued_before =
        find(c"revoked_subject", c"revoked_subject_pkey", &keys, |row| row.timestamp(3)).pop().flatten()?;
    // A token that does not say when it was issued may be older.
    let issued_at = issued_at.map_or(i64::MIN, |seconds| seconds.saturating_mul(1_000_000));
    (issued_at < issued_before).then_some("The subject's tokens from before a time were revoked.")
}

fn exists(table: &CStr, index: &CStr, keys: &[IndexKey]) -> bool {
    !find(table, index, keys, |_| ()).is_empty()
}

fn is_active(row: &Tuple, column: i32) -> bool {
    row.get::<&str>(column) == Some("active")
}
