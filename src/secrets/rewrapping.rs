//! `tenancy.rewrap_data_keys`: wraps data keys under the key that they should be under. Values are not touched.
//!
//! The procedure commits after each batch. A run that ends halfway has done what it has done: the next one finds the
//! rest, because each row says what it is wrapped under.

use super::data_key::{self, StoredKey};
use super::guard;
use super::key_encryption_key::{self, KeyEncryptionKey};
use super::keys::{key_id, must_write, record};
use super::provider::BoundKey;
use crate::pg::backend_local::BackendLocal;
use crate::pg::clock;
use crate::pg::report::{self, OrRaise};
use crate::pg::spi::{self, Query, Row, argument};
use crate::pg::tables::session_lock;
use pg_tenancy_core::audit::format::event::time_ordered_id;
use pg_tenancy_core::error::{self, Result, require_not_null};
use pg_tenancy_core::secrets::key::{DataKey, KeyId};
use pgrx::pg_extern;
use rand::RngExt as _;
use serde_json::json;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::CStr;
use uuid::Uuid;

/// The most keys of a batch.
const MAX_BATCH: i32 = 1000;

/// Locked by the one session that wraps.
const LOCKED: &CStr = c"rewrap_progress";

/// The run of this session.
#[derive(Clone)]
struct Run {
    id: Uuid,
    /// The key that was named; none for the current one.
    key: Option<KeyId>,
    batch_size: i32,
    /// The last data key that was looked at. So each is looked at once, whatever versions a service answers.
    after: Uuid,
}

static RUN: BackendLocal<RefCell<Option<Run>>> = BackendLocal::new(RefCell::new(None));

static END_EARLIER: Query = Query::new(
    "UPDATE tenancy.rewrap_run SET finished_at = $1 WHERE finished_at IS NULL RETURNING key, done, failed, batches",
);

static BEGIN: Query = Query::new(
    "INSERT INTO tenancy.rewrap_run (id, key, started_at, total, done, failed, batches)
     SELECT $1, $2, $3, count(*), 0, 0, 0 FROM tenancy.data_key d
      WHERE d.state <> 'destroyed' AND (d.key_encryption_key <> $4 OR d.key_version IS DISTINCT FROM $5)",
);

static BATCH: Query = Query::new(
    "SELECT d.id, d.organization, d.purpose, d.key_encryption_key, d.wrapped, d.created_at FROM tenancy.data_key d
      WHERE d.id > $1 AND d.state <> 'destroyed'
        AND (d.key_encryption_key <> $2 OR d.key_version IS DISTINCT FROM $3)
      ORDER BY d.id LIMIT $4 FOR UPDATE",
);

/// A statement for the whole batch: each one checks the constraints of the table anew.
static REWRAP: Query = Query::new(
    "UPDATE tenancy.data_key d
        SET key_encryption_key = $1, key_version = w.key_version, wrapped = w.wrapped, wrapped_at = $2
       FROM unnest($3, $4, $5) AS w (id, key_version, wrapped)
      WHERE d.id = w.id",
);

static COUNT: Query = Query::new(
    "UPDATE tenancy.rewrap_run SET done = done + $2, failed = failed + $3, batches = batches + 1 WHERE id = $1",
);

static END: Query =
    Query::new("UPDATE tenancy.rewrap_run SET finished_at = $2 WHERE id = $1 RETURNING key, done, failed, batches");

/// `tenancy.begin_rewrap(batch_size, key)`: begins a run of this session.
#[pg_extern(sql = false)]
fn tenancy_begin_rewrap(batch_size: Option<i32>, key: Option<&str>) {
    begin(batch_size, key).or_raise();
}

/// `tenancy.rewrap_batch()`: true if there may be another batch.
#[pg_extern(sql = false)]
fn tenancy_rewrap_batch() -> bool {
    batch().or_raise()
}

/// `tenancy.end_rewrap()`: ends the run of this session.
#[pg_extern(sql = false)]
fn tenancy_end_rewrap() {
    end().or_raise();
}

/// The transaction is over. One that was rolled back has let go of the lock, and with it of the run.
pub fn transaction_ended(committed: bool) {
    if !committed {
        RUN.replace(None);
    }
}

fn begin(batch_size: Option<i32>, key: Option<&str>) -> Result<()> {
    let batch_size = require_not_null(batch_size, "batch_size")?;
    if !(1..=MAX_BATCH).contains(&batch_size) {
        return Err(error::ARGUMENT_INVALID.error("batch_size is from 1 to 1000"));
    }
    let key = key.map(|id| key_id(Some(id))).transpose()?;
    must_write()?;
    if RUN.borrow().is_some() || !session_lock::take(LOCKED) {
        return Err(error::REWRAP_RUNS.error("data keys are being wrapped by another run"));
    }
    // From here on an error lets go of the lock.
    let id = time_ordered_id(clock::now(), rand::rng().random());
    let run = Run { id, key, batch_size, after: Uuid::nil() };
    let now = spi::timestamp;
    let earlier = guard::writing(|| END_EARLIER.write(&[now(clock::now())], outcome));
    earlier.into_iter().try_for_each(|earlier| earlier.record("failed"))?;
    let target = run.target()?;
    let arguments = [
        spi::uuid(id),
        argument(run.key.as_ref().map(|key| key.as_str().to_owned())),
        now(clock::now()),
        argument(target.id.as_str()),
        argument(target.version()?),
    ];
    guard::writing(|| BEGIN.write(&arguments, |_| ()));
    RUN.replace(Some(run));
    Ok(())
}

fn batch() -> Result<bool> {
    let run = current()?;
    let target = run.target()?;
    let arguments = [
        spi::uuid(run.after),
        argument(target.id.as_str()),
        argument(target.version()?),
        argument(i64::from(run.batch_size)),
    ];
    let found: Option<Vec<StoredKey>> = BATCH.write(&arguments, StoredKey::read).into_iter().collect();
    let found = found.ok_or_else(|| error::STATE_INVALID.error("the row of a data key cannot be read"))?;
    let Some(last) = found.last() else { return Ok(false) };
    let (after, full) = (last.id, found.len() as i32 == run.batch_size);
    let keys = unwrapped(&found)?;
    let wrapped = if keys.is_empty() { Vec::new() } else { target.wrap(&keys)? };
    let now = clock::now();
    guard::writing(|| {
        let ids: Vec<_> = keys.iter().map(|key| pgrx::Uuid::from_bytes(*key.id.as_bytes())).collect();
        let (versions, bytes): (Vec<_>, Vec<_>) = wrapped.into_iter().map(|key| (key.version, key.bytes)).unzip();
        let target = argument(target.id.as_str());
        REWRAP.write(&[target, spi::timestamp(now), argument(ids), argument(versions), argument(bytes)], |_| ());
        let (done, failed) = (keys.len() as i64, (found.len() - keys.len()) as i64);
        COUNT.write(&[spi::uuid(run.id), argument(done), argument(failed)], |_| ())
    });
    RUN.replace(Some(Run { after, ..run }));
    Ok(full)
}

fn end() -> Result<()> {
    let run = current()?;
    let ended = guard::writing(|| END.write(&[spi::uuid(run.id), spi::timestamp(clock::now())], outcome));
    for outcome in ended {
        outcome.record(if outcome.failed == 0 { "success" } else { "failed" })?;
        if outcome.failed > 0 {
            let message = format!("{} data keys do not unwrap, and stay as they are", outcome.failed);
            report::warn(&error::SECRET_ALTERED.error(message));
        }
    }
    RUN.replace(None);
    session_lock::let_go(LOCKED);
    Ok(())
}

fn current() -> Result<Run> {
    let none = || error::REWRAP_RUNS.error("no run has begun in this session");
    RUN.borrow().clone().ok_or_else(none)
}

impl Run {
    /// The key to wrap under, which is not retired until the end of the transaction.
    fn target(&self) -> Result<KeyEncryptionKey> {
        match &self.key {
            Some(id) => data_key::held_key_encryption_key(id),
            None => data_key::current_key_encryption_key(),
        }
    }
}

/// What a run has come to.
struct Outcome {
    key: Option<String>,
    done: i64,
    failed: i64,
    batches: i64,
}

fn outcome(row: &Row) -> Outcome {
    let number = |column| row.get(column).unwrap_or_default();
    Outcome { key: row.get(1), done: number(2), failed: number(3), batches: number(4) }
}

impl Outcome {
    fn record(&self, result: &str) -> Result<()> {
        let new = json!({ "key": self.key, "done": self.done, "failed": self.failed, "batches": self.batches });
        record("rewrap", result, None, new)
    }
}

/// The keys that unwrap. One whose row was altered is left out; where the key-encryption key itself is the reason, that
/// is an error.
fn unwrapped(stored: &[StoredKey]) -> Result<Vec<DataKey>> {
    let mut by_key: BTreeMap<&KeyId, Vec<BoundKey>> = BTreeMap::new();
    for key in stored {
        by_key.entry(&key.key_encryption_key).or_default().push(key.bound());
    }
    let mut unwrapped = Vec::with_capacity(stored.len());
    for (id, keys) in by_key {
        unwrapped.extend(key_encryption_key::usable(id)?.unwrap_each(&keys)?.into_iter().flatten());
    }
    Ok(unwrapped)
}
