//! The functions of a rotation. Each holds the secret's row, has the rules of the core decide about the newest state,
//! writes what they change, and one event.

use super::guard;
use super::reveal_record;
use super::secret::{Secret, future, require_text, valid_reason};
use super::value::{Received, SealedValue, require_valid};
use super::versions::{PATIENCE, StoredVersions};
use crate::context;
use crate::guardrail::{self, Hit};
use crate::pg::clock;
use crate::pg::report::OrRaise;
use crate::pg::spi::{self, Query, argument};
use crate::pg::transaction;
use crate::pg::user;
use pg_tenancy_core::audit::format::event::time_ordered_id;
use pg_tenancy_core::audit::format::hex;
use pg_tenancy_core::error::{self, Result, require_not_null};
use pg_tenancy_core::guardrail::{FAILED_ROTATION, RETIRE_IN_USE, State};
use pg_tenancy_core::secrets::rotation::{Changes, HealthReport, Refused, RotationPolicy, Time};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_extern;
use rand::RngExt as _;
use serde_json::{Value, json};

static ADD_VERSION: Query = Query::new(
    "INSERT INTO tenancy.secret_version (secret, organization, number, state, scope, provider_key_id, expires_at,
                                         announced_at)
     VALUES ($1, $2, $3, 'announced', $4, $5, $6, $7)",
);

static ADD_VALUE: Query = Query::new(
    "UPDATE tenancy.secret_version
        SET state = 'pending', data_key = $3, sealed_digest = $4, fingerprint = $5, valued_at = $6,
            provider_key_id = coalesce($7, provider_key_id), expires_at = coalesce($8, expires_at)
      WHERE secret = $1 AND number = $2",
);

static HAS_FINGERPRINT: Query =
    Query::new("SELECT number FROM tenancy.secret_version WHERE secret = $1 AND fingerprint = $2 LIMIT 1");

static ADD_ROTATION: Query = Query::new(
    "INSERT INTO tenancy.rotation (id, secret, organization, from_version, to_version, state, reason, deadline,
                                   begun_at, begun_by)
     VALUES ($1, $2, $3, $4, $5, 'open', $6, $7, $8, $9)",
);

static ADD_REPORT: Query = Query::new(
    "INSERT INTO tenancy.health_report (id, secret, organization, version, healthy, detail, checked_at, reported_at,
                                        reported_by)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
);

/// `tenancy.begin_rotation(...)`: returns the number of the new version.
#[pg_extern(sql = false)]
fn tenancy_begin_rotation(
    name: Option<&str>,
    value: Option<&str>,
    reason: Option<&str>,
    provider_key_id: Option<&str>,
    expires_at: Option<TimestampWithTimeZone>,
    sealed: Option<bool>,
) -> i32 {
    begin(name, value, reason, &Credential { provider_key_id, expires_at, sealed }).or_raise()
}

/// `tenancy.supply_value(...)`.
#[pg_extern(sql = false)]
fn tenancy_supply_value(
    name: Option<&str>,
    version: Option<i32>,
    value: Option<&str>,
    provider_key_id: Option<&str>,
    expires_at: Option<TimestampWithTimeZone>,
    sealed: Option<bool>,
) {
    supply(name, version, value, &Credential { provider_key_id, expires_at, sealed }).or_raise();
}

/// `tenancy.report_health(...)`: returns the version's state.
#[pg_extern(sql = false)]
fn tenancy_report_health(
    name: Option<&str>,
    version: Option<i32>,
    healthy: Option<bool>,
    detail: Option<&str>,
    checked_at: Option<TimestampWithTimeZone>,
) -> &'static str {
    let checked_at = checked_at.map(transaction::microseconds);
    report(name, version, healthy, detail, checked_at).or_raise()
}

/// `tenancy.promote(name, version)`: returns the number of the version before.
#[pg_extern(sql = false)]
fn tenancy_promote(name: Option<&str>, version: Option<i32>) -> i32 {
    promote(name, version).or_raise()
}

/// `tenancy.roll_back(name, reason)`: returns the number of the version that is current again.
#[pg_extern(sql = false)]
fn tenancy_roll_back(name: Option<&str>, reason: Option<&str>) -> i32 {
    roll_back(name, reason).or_raise()
}

/// `tenancy.retire(name, version, reason)`.
#[pg_extern(sql = false)]
fn tenancy_retire(name: Option<&str>, version: Option<i32>, reason: Option<&str>) {
    retire(name, version, reason).or_raise();
}

/// `tenancy.abandon_rotation(name, reason)`.
#[pg_extern(sql = false)]
fn tenancy_abandon_rotation(name: Option<&str>, reason: Option<&str>) {
    abandon(name, reason).or_raise();
}

/// What is known of the credential at the provider, and how its value comes.
struct Credential<'a> {
    provider_key_id: Option<&'a str>,
    expires_at: Option<TimestampWithTimeZone>,
    sealed: Option<bool>,
}

impl Credential<'_> {
    fn check(&self, now: Time) -> Result<()> {
        require_not_null(self.sealed, "sealed")?;
        require_text(self.provider_key_id, "provider_key_id")?;
        future(self.expires_at, now).map(drop)
    }
}

fn begin(name: Option<&str>, value: Option<&str>, reason: Option<&str>, credential: &Credential) -> Result<i32> {
    let secret = Secret::held(name, "rotate")?;
    let now = clock::now();
    require_text(reason, "reason")?;
    credential.check(now)?;
    let subject = context::require()?.subject.clone();
    let received = value.map(|value| Received::new(secret.organization, &secret.name, Some(value), credential.sealed));
    let received = received.transpose()?;
    let value = received.as_ref().map(Received::text);
    user::as_superuser(|| {
        let mut stored = StoredVersions::read(&secret, None)?;
        let policy = stored.policy;
        let begun = stored.versions.begin(value.is_some(), &policy, now);
        let number = stored.judged(None, "over", begun)?;
        let sealed = value.map(|value| seal(&secret, number, value)).transpose()?;
        let version = [
            spi::uuid(secret.id),
            spi::uuid(secret.organization),
            argument(number),
            argument(secret.scope.as_str()),
            argument(credential.provider_key_id),
            argument(credential.expires_at),
            spi::timestamp(now),
        ];
        guard::writing(|| ADD_VERSION.write(&version, |_| ()));
        if let Some(sealed) = &sealed {
            store(&secret, number, sealed, credential, now);
        }
        let from = stored.versions.under_way().map(|rotation| rotation.from);
        let rotation = time_ordered_id(now, rand::rng().random());
        let row = [
            spi::uuid(rotation),
            spi::uuid(secret.id),
            spi::uuid(secret.organization),
            argument(from),
            argument(number),
            argument(reason),
            spi::timestamp(now + PATIENCE),
            spi::timestamp(now),
            argument(subject.as_str()),
        ];
        guard::writing(|| ADD_ROTATION.write(&row, |_| ()));
        let mut new = json!({ "version": number, "from_version": from, "rotation": rotation });
        describe(&mut new, sealed.as_ref(), credential);
        secret.record("begin_rotation", reason, new)?;
        Ok(number)
    })
}

fn supply(name: Option<&str>, version: Option<i32>, value: Option<&str>, credential: &Credential) -> Result<()> {
    let secret = Secret::held(name, "rotate")?;
    let now = clock::now();
    let number = require_not_null(version, "version")?;
    require_not_null(value, "value")?;
    credential.check(now)?;
    let received = Received::new(secret.organization, &secret.name, value, credential.sealed)?;
    user::as_superuser(|| {
        let mut stored = StoredVersions::read(&secret, None)?;
        let supplied = stored.versions.supply(number, now);
        stored.judged(Some(number), "open", supplied)?;
        let sealed = seal(&secret, number, received.text())?;
        store(&secret, number, &sealed, credential, now);
        let mut new = json!({ "version": number });
        describe(&mut new, Some(&sealed), credential);
        secret.record("supply", None, new)
    })
}

fn report(
    name: Option<&str>,
    version: Option<i32>,
    healthy: Option<bool>,
    detail: Option<&str>,
    checked_at: Option<Time>,
) -> Result<&'static str> {
    let secret = Secret::held(name, "report")?;
    let now = clock::now();
    let number = require_not_null(version, "version")?;
    let healthy = require_not_null(healthy, "healthy")?;
    require_text(detail, "detail")?;
    let checked_at = checked_at.unwrap_or(now);
    let subject = context::require()?.subject.clone();
    user::as_superuser(|| {
        let mut stored = StoredVersions::read(&secret, Some(checked_at))?;
        let (policy, before) = (stored.policy, stored.versions.version(number).cloned());
        let report = HealthReport { healthy, checked_at };
        let strict = RotationPolicy { rolls_back: true, ..policy };
        let enforced = stored.versions.clone().report(number, report, &strict, now);
        let reported = stored.versions.report(number, report, &policy, now);
        let changes = stored.judged(Some(number), "observing", reported)?;
        let after = stored.versions.version(number);
        let state = after.map_or("", |version| version.state.name());
        if after == before.as_ref() {
            // The same report has come before.
            return Ok(state);
        }
        let row = [
            spi::uuid(time_ordered_id(now, rand::rng().random())),
            spi::uuid(secret.id),
            spi::uuid(secret.organization),
            argument(number),
            argument(healthy),
            argument(detail),
            spi::timestamp(checked_at),
            spi::timestamp(now),
            argument(subject.as_str()),
        ];
        guard::writing(|| ADD_REPORT.write(&row, |_| ()));
        if enforced.is_ok_and(|enforced| enforced != changes)
            && guardrail::state(&FAILED_ROTATION, secret.organization) == State::Warn
        {
            let message = format!("version {number} of the secret \"{}\" failed, and stays current", secret.name);
            let hit = Hit::of_object(&FAILED_ROTATION, secret.organization, "report_health", &secret.name);
            guardrail::warned(&hit, &error::ROTATION_STATE.error(message))?;
        }
        stored.write(&changes, Some("a health report was negative"), now);
        if changes.alert {
            stored.alert(Some(number), &changes);
        }
        let new = json!({ "version": number, "healthy": healthy, "state": state, "changed": changed(&changes) });
        secret.record("health", None, new)?;
        Ok(state)
    })
}

fn promote(name: Option<&str>, version: Option<i32>) -> Result<i32> {
    let secret = Secret::held(name, "rotate")?;
    let now = clock::now();
    let number = require_not_null(version, "version")?;
    user::as_superuser(|| {
        let mut stored = StoredVersions::read(&secret, None)?;
        let policy = stored.policy;
        let promoted = stored.versions.promote(number, &policy, now);
        let changes = stored.judged(Some(number), "open", promoted)?;
        let from = stored.versions.under_way().map(|rotation| rotation.from);
        let from = from.ok_or_else(|| error::STATE_INVALID.error("a promotion left no rotation"))?;
        if !changes.versions.is_empty() {
            stored.write(&changes, None, now);
            secret.record("promote", None, json!({ "version": number, "from_version": from }))?;
        }
        Ok(from)
    })
}

fn roll_back(name: Option<&str>, reason: Option<&str>) -> Result<i32> {
    let secret = Secret::held(name, "rotate")?;
    let now = clock::now();
    let reason = valid_reason(reason)?;
    user::as_superuser(|| {
        let mut stored = StoredVersions::read(&secret, None)?;
        let rolled_back = stored.versions.roll_back(now);
        let changes = stored.judged(None, "observing", rolled_back)?;
        stored.write(&changes, Some(reason), now);
        stored.alert(None, &changes);
        let current = changes.versions.last().map(|(number, _)| *number);
        let current = current.ok_or_else(|| error::STATE_INVALID.error("a roll-back left no current version"))?;
        secret.record("roll_back", Some(reason), json!({ "version": current, "changed": changed(&changes) }))?;
        Ok(current)
    })
}

fn retire(name: Option<&str>, version: Option<i32>, reason: Option<&str>) -> Result<()> {
    let secret = Secret::held(name, "rotate")?;
    let now = clock::now();
    let number = require_not_null(version, "version")?;
    let reason = valid_reason(reason)?;
    user::as_superuser(|| {
        let mut stored = StoredVersions::read(&secret, None)?;
        let revealed_at = reveal_record::last_use(secret.id, number)?;
        let versions = stored.versions.versions.iter_mut().filter(|version| version.number == number);
        versions.for_each(|version| version.revealed_at = revealed_at);
        let policy = stored.policy;
        if guardrail::state(&RETIRE_IN_USE, secret.organization) == State::Warn {
            let strict = RotationPolicy { keeps_in_use: true, ..policy };
            let retired = |policy| stored.versions.clone().retire(number, policy, now);
            if retired(&policy).is_ok() && retired(&strict) == Err(Refused::InUse) {
                let hit = Hit::of_object(&RETIRE_IN_USE, secret.organization, "retire", &secret.name);
                guardrail::warned(&hit, &stored.refusal(Some(number), "observing", Refused::InUse))?;
            }
        }
        let retired = stored.versions.retire(number, &policy, now);
        let changes = stored.judged(Some(number), "observing", retired)?;
        if changes.versions.is_empty() {
            return Ok(());
        }
        stored.write(&changes, Some(reason), now);
        secret.record("retire", Some(reason), json!({ "version": number, "changed": changed(&changes) }))
    })
}

fn abandon(name: Option<&str>, reason: Option<&str>) -> Result<()> {
    let secret = Secret::held(name, "rotate")?;
    let now = clock::now();
    let reason = valid_reason(reason)?;
    user::as_superuser(|| {
        let mut stored = StoredVersions::read(&secret, None)?;
        let version = stored.versions.under_way().map(|rotation| rotation.to);
        let abandoned = stored.versions.abandon(now);
        let changes = stored.judged(None, "open", abandoned)?;
        stored.write(&changes, Some(reason), now);
        secret.record("abandon", Some(reason), json!({ "version": version, "changed": changed(&changes) }))
    })
}

/// Seals a value that no version of the secret has had.
fn seal(secret: &Secret, number: i32, value: &str) -> Result<SealedValue> {
    require_valid(value, &secret.kind)?;
    let sealed = SealedValue::new(secret.organization, &secret.place(number), value)?;
    let same = [spi::uuid(secret.id), argument(sealed.fingerprint.as_slice())];
    let same = HAS_FINGERPRINT.read(&same, |row| row.get::<i32>(1)).pop().flatten();
    match same {
        Some(before) => Err(error::SECRET_UNCHANGED.error(format!("version {before} has the same value"))),
        None => Ok(sealed),
    }
}

fn store(secret: &Secret, number: i32, sealed: &SealedValue, credential: &Credential, now: Time) {
    let value = [
        spi::uuid(secret.id),
        argument(number),
        spi::uuid(sealed.data_key),
        argument(sealed.digest.as_slice()),
        argument(sealed.fingerprint.as_slice()),
        spi::timestamp(now),
        argument(credential.provider_key_id),
        argument(credential.expires_at),
    ];
    guard::writing(|| ADD_VALUE.write(&value, |_| ()));
    sealed.store(secret.id, number);
}

/// Adds to an event what it tells of a value.
fn describe(new: &mut Value, sealed: Option<&SealedValue>, credential: &Credential) {
    new["provider_key_id"] = json!(credential.provider_key_id);
    if let Some(sealed) = sealed {
        new["data_key"] = json!(sealed.data_key);
        new["sealed_digest"] = json!(hex::encode(&sealed.digest));
        new["approval"] = json!(sealed.approval);
    }
}

/// The new states of an event, by the number of the version.
fn changed(changes: &Changes) -> Value {
    changes.versions.iter().map(|(number, state)| (number.to_string(), json!(state.name()))).collect()
}
