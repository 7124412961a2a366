//! `tenancy.reseal_secrets`: seals values anew that are under an old data key of their organization.
//!
//! The procedure commits after each batch. A run that ends halfway has done what it has done: the next one finds the
//! rest, because each version says which key its value is under.

use super::data_key::{self, Purpose};
use super::guard;
use super::secret::{Secret, must_write, record};
use super::value::{self, SealedValue};
use crate::pg::backend_local::BackendLocal;
use crate::pg::report::{self, OrRaise};
use crate::pg::scratch::Scratch;
use crate::pg::spi::{self, Query, Row, argument};
use crate::pg::transaction;
use pg_tenancy_core::error::{self, Error, Result, require_not_null};
use pg_tenancy_core::secrets::envelope;
use pgrx::pg_extern;
use serde_json::json;
use std::cell::RefCell;
use std::collections::BTreeMap;
use uuid::Uuid;

/// The most values of a batch.
const MAX_BATCH: i32 = 1000;

/// The run of this session.
#[derive(Clone)]
struct Run {
    organization: Option<Uuid>,
    batch_size: i32,
    /// The last version that was looked at. So each is looked at once, whether it opens or not.
    after: (Uuid, i32),
    failed: i64,
}

static RUN: BackendLocal<RefCell<Option<Run>>> = BackendLocal::new(RefCell::new(None));

static BATCH: Query = Query::new(
    "SELECT v.secret, v.number FROM tenancy.secret_version v JOIN tenancy.data_key d ON d.id = v.data_key
      WHERE d.state = 'old' AND v.state NOT IN ('announced', 'retired') AND ($1 IS NULL OR v.organization = $1)
        AND (v.secret, v.number) > ($2, $3)
      ORDER BY v.secret, v.number LIMIT $4",
);

/// Another session may have changed the version meanwhile: it is looked at again.
static HOLD: Query = Query::new(
    "SELECT s.organization, s.name, s.kind, v.scope, s.domain, v.data_key
       FROM tenancy.secret s JOIN tenancy.secret_version v ON v.secret = s.id
      WHERE s.id = $1 AND v.number = $2 AND v.state NOT IN ('announced', 'retired') FOR UPDATE",
);

static DELETE: Query = Query::new("DELETE FROM tenancy.sealed_value WHERE secret = $1 AND number = $2");

static CHANGE: Query =
    Query::new("UPDATE tenancy.secret_version SET data_key = $3, sealed_digest = $4 WHERE secret = $1 AND number = $2");

/// `tenancy.begin_reseal(organization, batch_size)`: begins a run of this session.
#[pg_extern(sql = false)]
fn tenancy_begin_reseal(organization: Option<pgrx::Uuid>, batch_size: Option<i32>) {
    begin(organization, batch_size).or_raise();
}

/// `tenancy.reseal_batch()`: true if there may be another batch.
#[pg_extern(sql = false)]
fn tenancy_reseal_batch() -> bool {
    batch().or_raise()
}

/// `tenancy.end_reseal()`: ends the run of this session.
#[pg_extern(sql = false)]
fn tenancy_end_reseal() {
    let failed = RUN.take().map_or(0, |run| run.failed);
    if failed > 0 {
        let message = format!("{failed} values do not open, and stay as they are");
        report::warn(&error::SECRET_ALTERED.error(message).detail("tenancy.verify_secrets() names them."));
    }
}

/// The transaction is over. One that was rolled back ends the run.
pub fn transaction_ended(committed: bool) {
    if !committed {
        RUN.replace(None);
    }
}

fn begin(organization: Option<pgrx::Uuid>, batch_size: Option<i32>) -> Result<()> {
    let batch_size = require_not_null(batch_size, "batch_size")?;
    if !(1..=MAX_BATCH).contains(&batch_size) {
        return Err(error::ARGUMENT_INVALID.error(format!("batch_size is from 1 to {MAX_BATCH}")));
    }
    must_write()?;
    let organization = organization.map(|id| Uuid::from_bytes(*id.as_bytes()));
    RUN.replace(Some(Run { organization, batch_size, after: (Uuid::nil(), 0), failed: 0 }));
    Ok(())
}

fn batch() -> Result<bool> {
    let none = || error::KEY_STATE.error("no run of tenancy.reseal_secrets has begun in this session");
    let run = RUN.borrow().clone().ok_or_else(none)?;
    let arguments = [
        spi::uuid(run.organization),
        spi::uuid(run.after.0),
        argument(run.after.1),
        argument(i64::from(run.batch_size)),
    ];
    let found: Option<Vec<(Uuid, i32)>> =
        BATCH.write(&arguments, |row| Some((row.uuid(1)?, row.get(2)?))).into_iter().collect();
    let found = found.ok_or_else(|| error::STATE_INVALID.error("the row of a version cannot be read"))?;
    let Some(&after) = found.last() else { return Ok(false) };
    let (mut moved, mut failed) = (BTreeMap::new(), 0);
    let mut scratch = Scratch::new();
    for (secret, version) in &found {
        transaction::check_for_interrupts();
        match scratch.step(|| reseal(*secret, *version)) {
            Ok(Some(under)) => *moved.entry(under).or_insert(0) += 1,
            Ok(None) => {}
            Err(error) if *error.kind == error::SECRET_ALTERED => failed += 1,
            Err(error) => return Err(error),
        }
    }
    for ((organization, data_key), values) in moved {
        record(organization, "reseal", None, json!({ "data_key": data_key, "values": values }))?;
    }
    let full = found.len() as i32 == run.batch_size;
    RUN.replace(Some(Run { after, failed: run.failed + failed, ..run }));
    Ok(full)
}

/// Seals a value under the current key of its organization, and returns both; none if it is gone, or there already.
fn reseal(secret: Uuid, version: i32) -> Result<Option<(Uuid, Uuid)>> {
    let read = |row: &Row| {
        let secret = Secret {
            id: secret,
            organization: row.uuid(1)?,
            name: row.get(2)?,
            kind: row.get(3)?,
            scope: row.get(4)?,
            domain: row.get(5)?,
        };
        Some((secret, row.uuid(6)?))
    };
    let place = [spi::uuid(secret), argument(version)];
    let Some((held, data_key)) = HOLD.write(&place, read).pop().flatten() else { return Ok(None) };
    let Some(current) = data_key::current(held.organization, Purpose::Seal)? else { return Ok(None) };
    if current.id == data_key {
        return Ok(None);
    }
    let altered =
        || -> Error { error::SECRET_ALTERED.error(format!("version {version} of the secret {secret} does not open")) };
    let sealed = value::sealed(secret, version).ok_or_else(altered)?;
    let opened = envelope::open(&data_key::find_by_id(data_key)?.open()?, &held.place(version), &sealed);
    let opened = opened.map_err(|_| altered())?;
    let value = std::str::from_utf8(opened.value()).map_err(|_| altered())?;
    let resealed = SealedValue::again(held.organization, &held.place(version), value)?;
    guard::writing(|| DELETE.write(&place, |_| ()));
    resealed.store(secret, version);
    let row =
        [spi::uuid(secret), argument(version), spi::uuid(resealed.data_key), argument(resealed.digest.as_slice())];
    guard::writing(|| CHANGE.write(&row, |_| ()));
    Ok(Some((held.organization, resealed.data_key)))
}
