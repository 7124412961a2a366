//! `tenancy.verify_secrets`: opens every value, and tells of each that does not open why. It returns no value.
//!
//! Decision: `docs/decisions/80-verified-secrets.md`.

use super::data_key::StoredKey;
use super::key_encryption_key;
use super::provider::BoundKey;
use super::value;
use crate::audit::verification_phase::{self, Number, Phase};
use crate::pg::processes::progress;
use crate::pg::report::OrRaise;
use crate::pg::scratch::Scratch;
use crate::pg::spi::{self, Query, Row, argument};
use crate::pg::transaction;
use pg_tenancy_core::error::{self, Error, Result};
use pg_tenancy_core::secrets::envelope::{self, NotOpened, SecretPlace};
use pg_tenancy_core::secrets::key::{DataKey, KeyId};
use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use uuid::Uuid;

/// How many data keys are unwrapped at a time, which a command does in one run.
const KEYS_AT_A_TIME: i64 = 1000;

static KEYS: Query = Query::new(
    "SELECT d.id, d.organization, d.purpose, d.key_encryption_key, d.wrapped, d.created_at FROM tenancy.data_key d
      WHERE d.id > $1 AND d.purpose = 'seal' AND d.state <> 'destroyed' AND ($2 IS NULL OR d.organization = $2)
      ORDER BY d.id LIMIT $3",
);

static COUNT: Query = Query::new(
    "SELECT count(*) FROM tenancy.secret_version v
      WHERE v.state NOT IN ('announced', 'retired') AND ($1 IS NULL OR v.organization = $1)",
);

/// The versions with a value under some keys. The values are read one by one: many at once could be too large.
const VERSIONS: &str =
    "SELECT v.data_key, v.organization, v.secret, s.name, v.number, s.kind, v.scope, v.sealed_digest, s.organization
       FROM tenancy.secret_version v JOIN tenancy.secret s ON s.id = v.secret
      WHERE v.data_key = ANY ($1) AND v.state NOT IN ('announced', 'retired')
      ORDER BY v.data_key";

/// Versions with a value of which no key of their organization is named, or no secret.
const WITHOUT_KEY: &str = "SELECT v.organization, coalesce(s.name, v.secret::text), v.number
       FROM tenancy.secret_version v
       LEFT JOIN tenancy.secret s ON s.id = v.secret
       LEFT JOIN tenancy.data_key d ON d.id = v.data_key AND d.purpose = 'seal' AND d.state <> 'destroyed'
      WHERE v.state NOT IN ('announced', 'retired') AND ($1 IS NULL OR v.organization = $1)
        AND (d.id IS NULL OR s.id IS NULL)";

/// Why a value does not open, in the words of the function.
struct Finding {
    organization: Uuid,
    name: String,
    version: i32,
    outcome: &'static str,
    detail: String,
}

/// `tenancy.verify_secrets(organization)`: a row for each value that does not open.
#[allow(clippy::type_complexity)]
#[pg_extern(sql = false)]
fn tenancy_verify_secrets(
    organization: Option<pgrx::Uuid>,
) -> TableIterator<
    'static,
    (
        name!(organization, pgrx::Uuid),
        name!(name, String),
        name!(version, i32),
        name!(outcome, &'static str),
        name!(detail, String),
    ),
> {
    progress::begin();
    let findings = verify(organization.map(|id| Uuid::from_bytes(*id.as_bytes()))).or_raise();
    progress::end();
    TableIterator::new(findings.into_iter().map(|finding| {
        let Finding { organization, name, version, outcome, detail } = finding;
        (pgrx::Uuid::from_bytes(*organization.as_bytes()), name, version, outcome, detail)
    }))
}

fn verify(organization: Option<Uuid>) -> Result<Vec<Finding>> {
    verification_phase::enter(Phase::Secrets);
    let total = COUNT.read(&[spi::uuid(organization)], |row| row.get::<i64>(1)).pop().flatten();
    verification_phase::set(Number::EventsTotal, total.unwrap_or_default());
    let mut run = Run { findings: Vec::new(), done: 0 };
    let mut after = Uuid::nil();
    loop {
        let arguments = [spi::uuid(after), spi::uuid(organization), argument(KEYS_AT_A_TIME)];
        let keys: Option<Vec<StoredKey>> = KEYS.read(&arguments, StoredKey::read).into_iter().collect();
        let keys = keys.ok_or_else(|| error::STATE_INVALID.error("the row of a data key cannot be read"))?;
        let Some(last) = keys.last() else { break };
        after = last.id;
        run.verify_under(&keys)?;
    }
    spi::stream(WITHOUT_KEY, &[spi::uuid(organization)], |row| {
        let (organization, name, version) = (row.uuid(1), row.get(2), row.get(3));
        let detail = "The row names no data key that there is, or no secret.".to_owned();
        run.findings.push(Finding {
            organization: organization.unwrap_or_default(),
            name: name.unwrap_or_default(),
            version: version.unwrap_or_default(),
            outcome: "altered",
            detail,
        });
        Ok::<(), Error>(())
    })?;
    Ok(run.findings)
}

struct Run {
    findings: Vec<Finding>,
    /// How many values were looked at.
    done: i64,
}

impl Run {
    fn verify_under(&mut self, keys: &[StoredKey]) -> Result<()> {
        let opened = open_all(keys);
        let ids: Vec<pgrx::Uuid> = keys.iter().map(|key| pgrx::Uuid::from_bytes(*key.id.as_bytes())).collect();
        // What is read of one value is let go before the next one.
        let mut scratch = Scratch::new();
        spi::stream(VERSIONS, &[argument(ids)], |row| {
            transaction::check_for_interrupts();
            let finding = scratch.step(|| judge(row, &opened));
            self.done += 1;
            verification_phase::set(Number::EventsDone, self.done);
            self.findings.extend(finding?);
            verification_phase::set(Number::Findings, self.findings.len() as i64);
            Ok(())
        })
    }
}

/// The keys that open, and the errors of the others.
fn open_all(keys: &[StoredKey]) -> HashMap<Uuid, Result<DataKey>> {
    let mut by_key: BTreeMap<&KeyId, Vec<BoundKey>> = BTreeMap::new();
    for key in keys {
        by_key.entry(&key.key_encryption_key).or_default().push(key.bound());
    }
    let mut opened = HashMap::new();
    for (id, bound) in by_key {
        match key_encryption_key::usable(id).and_then(|under| under.unwrap_each(&bound)) {
            Ok(unwrapped) => opened.extend(bound.iter().map(|key| key.id).zip(unwrapped)),
            Err(error) => opened.extend(bound.iter().map(|key| (key.id, Err(error.clone())))),
        }
    }
    opened
}

/// What is to be told of a value; nothing of one that opens.
fn judge(row: &Row, keys: &HashMap<Uuid, Result<DataKey>>) -> Result<Option<Finding>> {
    let damaged = || error::STATE_INVALID.error("the row of a version of a secret cannot be read");
    let (key, organization, secret) = (|| Some((row.uuid(1)?, row.uuid(2)?, row.uuid(3)?)))().ok_or_else(damaged)?;
    let (name, version, kind, scope): (String, i32, String, String) =
        (|| Some((row.get(4)?, row.get(5)?, row.get(6)?, row.get(7)?)))().ok_or_else(damaged)?;
    let found = |outcome, detail: &str| {
        Ok(Some(Finding { organization, name: name.clone(), version, outcome, detail: detail.to_owned() }))
    };
    let key = match keys.get(&key).ok_or_else(damaged)? {
        Err(error) if *error.kind == error::SECRET_ALTERED => return found("altered", &error.message),
        Err(error) if *error.kind == error::SECRET_KEY_WRONG => return found("key_wrong", &error.message),
        Err(error) => return found("key_missing", &error.message),
        Ok(key) => key,
    };
    if key.organization != organization || row.uuid(9) != Some(organization) {
        return found("misplaced", "Its secret, its version and its data key are of different organizations.");
    }
    let Some(sealed) = value::sealed(secret, version) else {
        return found("value_missing", "There is no sealed value.");
    };
    let place = SecretPlace { secret, name: &name, version, kind: &kind, scope: &scope };
    let as_stored = row.bytes::<32>(8) == Some(Sha256::digest(&sealed).into());
    match envelope::open(key, &place, &sealed).map(drop) {
        Ok(()) if as_stored => Ok(None),
        Ok(()) => found("altered", "It opens, and its digest in tenancy.secret_version is another one."),
        Err(_) if as_stored => {
            found("misplaced", "It was sealed for another place: a row that it is bound to differs.")
        }
        Err(NotOpened::OtherKey) => found("misplaced", "It is sealed under another data key."),
        Err(_) => found("altered", "Neither its digest nor its key fits."),
    }
}
