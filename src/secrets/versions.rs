//! The versions of a secret as they are stored: what the rules of rotations decide about, and what they change.

use super::guard;
use super::rules;
use super::secret::Secret;
use crate::audit;
use crate::controls;
use crate::pg::spi::{self, Query, Row, argument};
use crate::pg::transaction;
use pg_tenancy_core::controls::alert::AlertKind;
use pg_tenancy_core::error::{self, Error, Result};
use pg_tenancy_core::secrets::rotation::{
    Changes, HealthReport, Refused, Rotation, RotationPolicy, RotationState, Time, Version, VersionState,
    VersionedSecret,
};
use serde_json::{Value, json};
use uuid::Uuid;

/// How long a rotation may stay where it is, without the time of its observation, until it counts as stuck.
pub const PATIENCE: Time = 24 * 60 * 60 * 1_000_000;

static VERSIONS: Query = Query::new(
    "SELECT number, state, valued_at, promoted_at FROM tenancy.secret_version WHERE secret = $1 ORDER BY number",
);

/// The newest reports of each live version, and those of one moment.
static REPORTS: Query = Query::new(
    "SELECT v.number, r.healthy, r.checked_at
       FROM tenancy.secret_version v
      CROSS JOIN LATERAL (
            (SELECT h.checked_at, h.healthy FROM tenancy.health_report h
              WHERE h.secret = v.secret AND h.version = v.number
              ORDER BY h.checked_at DESC, h.healthy LIMIT $2)
            UNION
            SELECT h.checked_at, h.healthy FROM tenancy.health_report h
             WHERE h.secret = v.secret AND h.version = v.number AND h.checked_at = $3) r
      WHERE v.secret = $1 AND v.state <> 'retired'
      ORDER BY v.number, r.checked_at, NOT r.healthy",
);

static NEWEST_ROTATION: Query = Query::new(
    "SELECT id, from_version, to_version, state FROM tenancy.rotation
      WHERE secret = $1 ORDER BY to_version DESC LIMIT 1",
);

static CHANGE_VERSION: Query = Query::new(
    "UPDATE tenancy.secret_version
        SET state = $3,
            verified_at = CASE $3 WHEN 'verified' THEN $4 ELSE verified_at END,
            promoted_at = CASE $3 WHEN 'current' THEN $4 ELSE promoted_at END,
            superseded_at = CASE WHEN state = 'current' THEN $4 ELSE superseded_at END,
            failed_at = CASE $3 WHEN 'failed' THEN $4 ELSE failed_at END,
            retired_at = CASE $3 WHEN 'retired' THEN $4 ELSE retired_at END
      WHERE secret = $1 AND number = $2",
);

static CHANGE_ROTATION: Query = Query::new(
    "UPDATE tenancy.rotation
        SET state = $2,
            promoted_at = CASE $2 WHEN 'observing' THEN $3 ELSE promoted_at END,
            deadline = CASE $2 WHEN 'observing' THEN $4 ELSE deadline END,
            ended_at = CASE WHEN $2 <> 'observing' THEN $3 END,
            end_reason = $5
      WHERE id = $1",
);

static DELETE_VALUE: Query = Query::new("DELETE FROM tenancy.sealed_value WHERE secret = $1 AND number = $2");

static DELETE_VALUES: Query = Query::new("DELETE FROM tenancy.sealed_value WHERE secret = $1 RETURNING number");

static RETIRE_VERSIONS: Query = Query::new(
    "UPDATE tenancy.secret_version SET state = 'retired', retired_at = $2 WHERE secret = $1 AND state <> 'retired'",
);

static DESTROYED: Query = Query::new("UPDATE tenancy.secret SET destroyed_at = $2 WHERE id = $1");

static END_ROTATION: Query = Query::new(
    "UPDATE tenancy.rotation SET state = 'abandoned', ended_at = $2, end_reason = $3
      WHERE secret = $1 AND state IN ('open', 'observing')",
);

/// The versions of a secret whose row is held, in the newest committed state.
pub struct StoredVersions<'s> {
    pub secret: &'s Secret,
    pub versions: VersionedSecret,
    pub policy: RotationPolicy,
    rotation: Option<Uuid>,
}

impl<'s> StoredVersions<'s> {
    /// Reads them, with the reports that decide, and with those of the moment `checked_at`.
    ///
    /// Errors: [`error::ROTATION_CONFLICT`] in a transaction whose snapshot has other versions: what it would write
    /// goes by that snapshot.
    pub fn read(secret: &'s Secret, checked_at: Option<Time>) -> Result<Self> {
        let of_the_transaction = VERSIONS.write(&[spi::uuid(secret.id)], version);
        transaction::with_latest_snapshot(|| {
            let policy = rules::of(secret)?;
            let id = || spi::uuid(secret.id);
            let damaged = || error::STATE_INVALID.error(format!("the versions of \"{}\" cannot be read", secret.name));
            let versions = VERSIONS.read(&[id()], version);
            if versions != of_the_transaction {
                let message = format!("another session has changed the secret \"{}\"", secret.name);
                let detail = "It did so after this transaction took its snapshot.";
                return Err(error::ROTATION_CONFLICT.error(message).detail(detail));
            }
            let versions: Option<Vec<Version>> = versions.into_iter().collect();
            let mut versions = versions.ok_or_else(damaged)?;
            let reports =
                REPORTS.read(&[id(), argument(i64::from(policy.health_required)), spi::timestamp(checked_at)], report);
            for (number, report) in reports.into_iter().flatten() {
                versions.iter_mut().filter(|version| version.number == number).for_each(|v| v.reports.push(report));
            }
            let newest = NEWEST_ROTATION.read(&[id()], rotation).pop();
            let newest = newest.map(|newest| newest.ok_or_else(damaged)).transpose()?;
            let (rotation, newest) = newest.unzip();
            Ok(StoredVersions { secret, versions: VersionedSecret { versions, rotation: newest }, policy, rotation })
        })
    }

    /// Writes what the rules have changed.
    pub fn write(&self, changes: &Changes, reason: Option<&str>, now: Time) {
        for (number, state) in &changes.versions {
            let row = [spi::uuid(self.secret.id), argument(*number), argument(state.name()), spi::timestamp(now)];
            guard::writing(|| CHANGE_VERSION.write(&row, |_| ()));
            if *state == VersionState::Retired {
                guard::writing(|| DELETE_VALUE.write(&[spi::uuid(self.secret.id), argument(*number)], |_| ()));
            }
        }
        if let Some(state) = changes.rotation {
            let row = [
                spi::uuid(self.rotation),
                argument(state.name()),
                spi::timestamp(now),
                spi::timestamp(now + self.policy.observe_for + PATIENCE),
                argument(reason),
            ];
            guard::writing(|| CHANGE_ROTATION.write(&row, |_| ()));
        }
    }

    /// Tells that somebody should look at the secret, of whose version `number` a call was.
    pub fn alert(&self, number: Option<i32>, changes: &Changes) {
        let kind = match changes.rotation {
            Some(RotationState::RolledBack) => AlertKind::RolledBack,
            _ => AlertKind::HealthFailed,
        };
        let states: serde_json::Map<String, Value> =
            changes.versions.iter().map(|(number, state)| (number.to_string(), json!(state.name()))).collect();
        let Secret { id, organization, name, domain, .. } = &self.secret;
        let detail = json!({ "secret": id, "name": name, "version": number, "changed": states });
        controls::raise_alert(*organization, domain, kind, detail);
    }

    /// What the rules have decided, with a refusal recorded. `needs` is the state of a rotation that the call needs.
    pub fn judged<T>(&self, number: Option<i32>, needs: &str, outcome: std::result::Result<T, Refused>) -> Result<T> {
        outcome.map_err(|refused| audit::refused("secret", self.refusal(number, needs, refused)))
    }

    /// The error of a refusal.
    pub fn refusal(&self, number: Option<i32>, needs: &str, refused: Refused) -> Error {
        let name = &self.secret.name;
        let (of_version, state) = match number {
            Some(number) => {
                let state = self.versions.version(number).map(|version| version.state.name());
                let state = state.map_or_else(
                    || "The secret has no such version.".to_owned(),
                    |state| format!("The version is {state}."),
                );
                (format!("version {number} of the secret \"{name}\""), state)
            }
            None => (format!("a version of the secret \"{name}\""), String::new()),
        };
        match refused {
            Refused::RotationOpen => {
                error::ROTATION_OPEN.error(format!("a rotation of the secret \"{name}\" is under way"))
            }
            Refused::NoRotation => {
                error::ROTATION_STATE.error(format!("no rotation of the secret \"{name}\" is {needs}"))
            }
            Refused::State => {
                error::ROTATION_STATE.error(format!("{of_version} is in another state than this needs")).detail(state)
            }
            Refused::TooManyVersions => {
                let most = self.policy.max_live_versions;
                let message = format!("the secret \"{name}\" may have {most} versions that are not retired");
                error::ROTATION_STATE.error(message).detail("Another one would be one too many: retire one first.")
            }
            Refused::HealthMissing => {
                let message = format!("no health report proves what this needs of {of_version}");
                error::HEALTH_MISSING.error(message).detail(state)
            }
            Refused::ReportTime => {
                error::ARGUMENT_INVALID.error("checked_at is in the future, or before the value came")
            }
            Refused::InUse => error::SECRET_IN_USE.error(format!("{of_version} may still be in use")).detail(format!(
                "{} seconds have to pass since its last use, and since the promotion.",
                self.policy.observe_for / 1_000_000
            )),
        }
    }
}

/// Destroys a secret that is held: its values are deleted and its rotation ends. Returns how many values there were.
///
/// Errors: [`error::ROTATION_CONFLICT`] with a snapshot that lacks a version, whose value would stay.
pub fn destroy(secret: &Secret, reason: &str, now: Time) -> Result<usize> {
    StoredVersions::read(secret, None)?;
    let row = || [spi::uuid(secret.id), spi::timestamp(now)];
    Ok(guard::writing(|| {
        let values = DELETE_VALUES.write(&[spi::uuid(secret.id)], |_| ()).len();
        RETIRE_VERSIONS.write(&row(), |_| ());
        DESTROYED.write(&row(), |_| ());
        END_ROTATION.write(&[spi::uuid(secret.id), spi::timestamp(now), argument(reason)], |_| ());
        values
    }))
}

fn version(row: &Row) -> Option<Version> {
    let state = VersionState::parse(row.get(2)?)?;
    Some(Version { promoted_at: row.timestamp(4), ..Version::new(row.get(1)?, state, row.timestamp(3)) })
}

fn report(row: &Row) -> Option<(i32, HealthReport)> {
    Some((row.get(1)?, HealthReport { healthy: row.get(2)?, checked_at: row.timestamp(3)? }))
}

fn rotation(row: &Row) -> Option<(Uuid, Rotation)> {
    let rotation = Rotation { from: row.get(2)?, to: row.get(3)?, state: RotationState::parse(row.get(4)?)? };
    Some((row.uuid(1)?, rotation))
}
