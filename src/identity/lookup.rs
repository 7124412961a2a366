//! What `authenticate` reads of the extension's own tables, each by one index and below SQL.
//!
//! Every function goes by the active snapshot, which the caller sets to the newest committed state. The numbers are
//! those of the columns in `sql/identity/identity.sql`. Rows that sign-ins of many subjects share are remembered until
//! a table changes.
//!
//! Decision: `docs/decisions/09-authentication-lookups.md`.

use crate::guardrail;
use crate::pg::backend_local::BackendLocal;
use crate::pg::settings::configuration;
use crate::pg::tables::remembered::OfState;
use crate::pg::tables::table::{self, IndexKey, Tuple, find};
use pg_tenancy_core::context::Organization;
use pg_tenancy_core::controls::permission_set::{Effect, PermissionSet, Rule};
use pg_tenancy_core::guardrail::{DORMANT_MEMBER, State};
use pg_tenancy_core::identity::bounded_cache::{BoundedCache, Bounds};
use pg_tenancy_core::identity::dormancy::Activity;
use pg_tenancy_core::identity::membership::Membership;
use pg_tenancy_core::identity::token::session_ids;
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CStr;
use std::hash::Hash;
use uuid::Uuid;

/// What of an issuer's row is looked at each time.
#[derive(Clone)]
pub struct IssuerVersion {
    pub active: bool,
    pub revision: Uuid,
}

/// The guardrail on dormant members, where it is not off.
#[derive(Clone, Copy)]
pub struct DormancyRule {
    pub state: State,
    /// Since when it has not been off, and sign-ins are recorded.
    pub recorded_since: i64,
}

/// Rows that sign-ins of many subjects share. Memberships and revocations are read each time.
#[derive(Default)]
struct KnownRows {
    issuers: BoundedCache<String, IssuerVersion>,
    /// By issuer and name.
    names: BoundedCache<(String, String), Uuid>,
    organizations: BoundedCache<Uuid, (Organization, bool)>,
    /// Whose a role is, by organization and name.
    roles: BoundedCache<(Uuid, String), Uuid>,
    /// By the organization whose role it is, and name.
    permissions: BoundedCache<(Uuid, String), PermissionSet>,
    sso: BoundedCache<Uuid, bool>,
    dormancy: BoundedCache<Uuid, Option<DormancyRule>>,
    has_rows: HashMap<&'static CStr, bool>,
}

static KNOWN_ROWS: BackendLocal<RefCell<Option<OfState<KnownRows>>>> = BackendLocal::new(RefCell::new(None));

/// The length that a remembered row has at most, unless it counts for several.
const ROW_BYTES: usize = 1024;

/// Does something with the rows that are known of this state.
fn with_known<T>(state: u64, answer: impl FnOnce(&mut KnownRows) -> T) -> T {
    answer(KNOWN_ROWS.borrow_mut().get_or_insert_default().at(state))
}

/// The tables, in a state that [`crate::pg::tables::remembered::WatchedTables::state`] numbers; without a number each
/// row is read.
#[derive(Clone, Copy)]
pub struct Tables {
    state: Option<u64>,
}

impl Tables {
    /// The tables as the active snapshot shows them, nothing from memory.
    pub const READ: Tables = Tables { state: None };

    /// The tables in this state, which they still had when the active snapshot was taken.
    pub fn in_state(state: Option<u64>) -> Self {
        Tables { state }
    }

    /// The value under the key, of a row of so many bytes: as it was read in this state, else as it is read now. What
    /// is not there is not remembered.
    fn known<K: Hash + Eq, V: Clone>(
        self,
        rows: fn(&mut KnownRows) -> &mut BoundedCache<K, V>,
        key: K,
        bytes: fn(&V) -> usize,
        read: impl FnOnce() -> Option<V>,
    ) -> Option<V> {
        let Some(state) = self.state else { return read() };
        let known = with_known(state, |known| rows(known).get(&key).cloned());
        known.or_else(|| {
            let value = read()?;
            let bounds = Bounds { entries: configuration::token_cache_size(), bytes_each: ROW_BYTES };
            with_known(state, |known| rows(known).keep(key, value.clone(), bytes(&value), bounds));
            Some(value)
        })
    }

    /// False for a table that surely holds no row.
    fn has_rows(self, table: &'static CStr) -> bool {
        let Some(state) = self.state else { return table::has_pages(table) };
        let known = with_known(state, |known| known.has_rows.get(table).copied());
        known.unwrap_or_else(|| {
            let has_rows = table::has_pages(table);
            with_known(state, |known| known.has_rows.insert(table, has_rows));
            has_rows
        })
    }

    fn exists(self, table: &'static CStr, index: &CStr, keys: &[IndexKey]) -> bool {
        self.has_rows(table) && !find(table, index, keys, |_| ()).is_empty()
    }

    /// The row of the issuer, if it is registered.
    pub fn issuer(self, name: &str) -> Option<IssuerVersion> {
        let read = |row: &Tuple| Some(IssuerVersion { active: is_active(row, 2), revision: row.uuid(3)? });
        let find = || find(c"issuer", c"issuer_pkey", &[IndexKey::text(1, name)], read).pop()?;
        self.known(|known| &mut known.issuers, name.to_owned(), |_| ROW_BYTES, find)
    }

    /// The organization that the issuer calls `name`: by the name that it was given for this issuer, else by its text
    /// id, else by its id.
    pub fn organization_named(self, issuer: &str, name: &str) -> Option<Uuid> {
        let key = (issuer.to_owned(), name.to_owned());
        self.known(|known| &mut known.names, key, |_| ROW_BYTES, || self.find_organization_named(issuer, name))
    }

    fn find_organization_named(self, issuer: &str, name: &str) -> Option<Uuid> {
        let external = [IndexKey::text(1, issuer), IndexKey::text(2, name)];
        let external_organization = c"external_organization";
        let by_external = || {
            let find = || find(external_organization, c"external_organization_pkey", &external, |row| row.uuid(3));
            self.has_rows(external_organization).then(find)?.pop()?
        };
        let by_text = || {
            find(c"organization", c"organization_text_id_key", &[IndexKey::text(3, name)], |row| row.uuid(1)).pop()?
        };
        let by_id = || name.parse().ok().filter(|id| self.organization(id).is_some());
        by_external().or_else(by_text).or_else(by_id)
    }

    /// The subject's memberships, of these organizations or of all.
    pub fn memberships(self, issuer: &str, subject: &str, organizations: Option<&[Uuid]>) -> Vec<Membership> {
        let [issuer, subject] = [IndexKey::text(2, issuer), IndexKey::text(3, subject)];
        let read = |keys: &[IndexKey]| {
            let rows = find(c"membership", c"membership_pkey", keys, |row| {
                let (organization, role) = (row.uuid(1)?, row.get::<String>(4)?);
                Some((organization, role, row.uuid(8)?, is_active(row, 5), row.timestamp(6)))
            });
            rows.into_iter().flatten().collect::<Vec<_>>()
        };
        let rows = match organizations {
            None => read(&[issuer, subject]),
            Some(organizations) => {
                organizations.iter().flat_map(|id| read(&[issuer, subject, IndexKey::uuid(1, id)])).collect()
            }
        };
        let memberships = rows.into_iter().map(|(id, role, role_organization, active, valid_until)| {
            let (organization, organization_active) = self.organization(&id)?;
            Some(Membership { organization, organization_active, role, role_organization, active, valid_until })
        });
        memberships.flatten().collect()
    }

    pub fn organization(self, id: &Uuid) -> Option<(Organization, bool)> {
        let read = |row: &Tuple| {
            let organization = Organization { id: *id, text_id: row.get(3)?, integer_id: row.get(4) };
            Some((organization, is_active(row, 5)))
        };
        let find = || find(c"organization", c"organization_pkey", &[IndexKey::uuid(1, id)], read).pop()?;
        let bytes = |(organization, _): &(Organization, bool)| organization.text_id.len();
        self.known(|known| &mut known.organizations, *id, bytes, find)
    }

    /// Whose the role of that name is in the organization: its own, or everybody's, who has the nil UUID. `None` if
    /// there is none.
    pub fn role_organization(self, organization: Uuid, name: &str) -> Option<Uuid> {
        let exists = |id: &Uuid| {
            let keys = [IndexKey::uuid(1, id), IndexKey::text(2, name)];
            self.exists(c"role", c"role_pkey", &keys).then_some(*id)
        };
        let find = || exists(&Uuid::nil()).or_else(|| exists(&organization));
        self.known(|known| &mut known.roles, (organization, name.to_owned()), |_| ROW_BYTES, find)
    }

    /// What a role permits; `organization` is whose it is.
    pub fn permissions(self, organization: Uuid, role: &str) -> PermissionSet {
        let read = |row: &Tuple| {
            let effect = Effect::parse(row.get(5)?)?;
            Some(Rule { domain: row.get(3)?, action: row.get(4)?, effect })
        };
        let keys = [IndexKey::uuid(1, &organization), IndexKey::text(2, role)];
        // A rule that cannot be read could be one that denies.
        let find = || {
            let rules = find(c"role_permission", c"role_permission_pkey", &keys, read);
            Some(rules.into_iter().collect::<Option<PermissionSet>>().unwrap_or_default())
        };
        let key = (organization, role.to_owned());
        self.known(|known| &mut known.permissions, key, PermissionSet::bytes, find).unwrap_or_default()
    }

    /// True if members of the organization must come through single sign-on.
    pub fn enforces_sso(self, organization: &Uuid) -> bool {
        let key = [IndexKey::uuid(2, organization)];
        let exists = || Some(self.exists(c"sso_connection", c"sso_connection_enforced_idx", &key));
        // Where it cannot be told, the connections themselves are asked for.
        self.known(|known| &mut known.sso, *organization, |_| 0, exists).unwrap_or(true)
    }

    /// The guardrail on dormant members in the organization; `None` where it is off.
    pub fn dormancy_rule(self, organization: Uuid) -> Option<DormancyRule> {
        if !self.has_rows(c"guardrail") {
            return None;
        }
        let find = || {
            let in_force = guardrail::in_force_since(&DORMANT_MEMBER, organization);
            Some(in_force.map(|(state, recorded_since)| DormancyRule { state, recorded_since }))
        };
        self.known(|known| &mut known.dormancy, organization, |_| 0, find).flatten()
    }

    /// What is known of the activity of a member; `None` for nobody.
    pub fn activity(self, organization: Uuid, issuer: &str, subject: &str, recorded_since: i64) -> Option<Activity> {
        let keys = [IndexKey::text(2, issuer), IndexKey::text(3, subject), IndexKey::uuid(1, &organization)];
        let since = |row: &Tuple| Some(row.timestamp(9).unwrap_or(i64::MIN).max(row.timestamp(7)?));
        let member_since = find(c"membership", c"membership_pkey", &keys, since).pop()??;
        let signed_in_at =
            find(c"member_activity", c"member_activity_pkey", &keys, |row| row.timestamp(4)).pop().flatten();
        Some(Activity { signed_in_at, member_since, recorded_since })
    }

    /// When the issuer's key was retired, in microseconds since 1970, if it was.
    pub fn retirement(self, issuer: &str, key_id: &str) -> Option<i64> {
        let keys = [IndexKey::text(1, issuer), IndexKey::text(2, key_id)];
        find(c"retired_key", c"retired_key_pkey", &keys, |row| row.timestamp(3)).pop()?
    }

    /// Why a token no longer counts, if its session or the tokens of its subject were revoked. `issued_at`: in Unix
    /// seconds.
    pub fn revocation(
        self,
        issuer: &str,
        subject: &str,
        claims: &Map<String, Value>,
        issued_at: Option<i64>,
    ) -> Option<&'static str> {
        let revoked = |session_id| {
            let keys = [IndexKey::text(1, issuer), IndexKey::text(2, session_id)];
            self.exists(c"revoked_session", c"revoked_session_pkey", &keys)
        };
        if session_ids(claims).any(revoked) {
            return Some("The session was revoked.");
        }
        if !self.has_rows(c"revoked_subject") {
            return None;
        }
        let keys = [IndexKey::text(1, issuer), IndexKey::text(2, subject)];
        let issued_before =
            find(c"revoked_subject", c"revoked_subject_pkey", &keys, |row| row.timestamp(3)).pop().flatten()?;
        // A token that does not say when it was issued may be older.
        let issued_at = issued_at.map_or(i64::MIN, |seconds| seconds.saturating_mul(1_000_000));
        (issued_at < issued_before).then_some("The subject's tokens from before a time were revoked.")
    }
}

fn is_active(row: &Tuple, column: i32) -> bool {
    row.get::<&str>(column) == Some("active")
}
