//! What the views of the posture of secrets cannot know by SQL: the time, and whether keys work.

use super::key_encryption_key;
use crate::pg::clock;
use crate::pg::spi::Query;
use crate::pg::transaction;
use pg_tenancy_core::secrets::key::KeyId;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_extern;

static RING_KEYS: Query =
    Query::new("SELECT id FROM tenancy.key_encryption_key WHERE provider = 'ring' AND state <> 'retired' ORDER BY id");

/// `tenancy.clock()`: the time by which secrets and approvals are judged. It is never out of the range of the type.
#[pg_extern(sql = false)]
fn tenancy_clock() -> Option<TimestampWithTimeZone> {
    transaction::to_timestamptz(clock::now()).try_into().ok()
}

/// `tenancy.unusable_keys()`: ids of keys of rings that do not open what was wrapped under them. A row that cannot be
/// read names no key.
#[pg_extern(sql = false)]
fn tenancy_unusable_keys() -> Vec<String> {
    let ids = transaction::with_latest_snapshot(|| RING_KEYS.read(&[], |row| row.get::<String>(1)));
    let opens = |id: &String| {
        let id = KeyId::parse(id)?;
        key_encryption_key::registered(&id).and_then(|key| key.prove()).ok()
    };
    ids.into_iter().flatten().filter(|id| opens(id).is_none()).collect()
}
