//! A restore brings settings and rules that have their events already, in the history that the dump is of.
//!
//! It is told by what only a superuser can do, in a database whose history has not begun: nothing is sealed since it
//! was created, copied or promoted. Who can do that could also delete an event that is not sealed, so nothing is
//! given away.
//!
//! Decision: `docs/decisions/36-restore-detection.md`.

use crate::audit::log::state;
use crate::pg::backend_local::BackendLocal;
use crate::pg::settings::configuration;
use crate::pg::spi::Query;
use crate::pg::transaction;
use crate::pg::{cursor, report, user};
use pg_tenancy_core::error::Result;
use std::cell::Cell;

/// By the start of a statement: whether the history had begun.
static BEGUN: BackendLocal<Cell<Option<(i64, bool)>>> = BackendLocal::new(Cell::new(None));

/// True where a row of the extension's own tables comes by COPY from a dump.
pub fn brings_rows() -> Result<bool> {
    Ok(cursor::copies_into_extension() && is_restored()?)
}

/// True where a statement comes from a dump whose restore has said so: a parallel one loads the audit meanwhile, and an
/// event of its own would be in the way.
pub fn brings_rules() -> Result<bool> {
    Ok(configuration::override_reason().is_some() && is_restored()?)
}

/// The partitions of the audit that have no key yet: Postgres makes keys when all data of a dump is in.
static WITHOUT_KEY: Query = Query::new(
    "SELECT i.inhrelid::regclass::text FROM pg_inherits i
      WHERE i.inhparent IN ('tenancy.event_batch'::regclass, 'tenancy.event_actor'::regclass)
        AND NOT EXISTS (SELECT FROM pg_index x WHERE x.indrelid = i.inhrelid AND x.indisprimary)
      ORDER BY 1 LIMIT 1",
);

/// True while a dump is being restored: a block that is sealed now would be in the way of those in the dump.
pub fn is_under_way() -> bool {
    let waiting = WITHOUT_KEY.read(&[], |row| row.get::<String>(1).unwrap_or_default()).pop();
    if let Some(partition) = &waiting {
        report::log(format!("pg_tenancy: sealing waits for the end of a restore: {partition} has no primary key"));
    }
    waiting.is_some()
}

fn is_restored() -> Result<bool> {
    if !user::superuser_logged_in() {
        return Ok(false);
    }
    let statement = transaction::statement();
    if let Some((_, begun)) = BEGUN.get().filter(|(known, _)| *known == statement) {
        return Ok(!begun);
    }
    let begun = user::as_superuser(|| transaction::with_latest_snapshot(state::has_begun))?;
    BEGUN.set(Some((statement, begun)));
    Ok(!begun)
}
