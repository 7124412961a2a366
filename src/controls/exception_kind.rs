//! Kinds of exceptions: their rules, for all organizations and for one.

use crate::pg::tables::table::{IndexKey, Tuple, find};
use crate::pg::transaction;
use pg_tenancy_core::controls::exception::{OnNoReview, Settings};
use pg_tenancy_core::error::{self, Result};
use pgrx::datum::Interval;
use std::collections::HashMap;
use uuid::Uuid;

/// The organization of the rules for all.
pub const ALL: Uuid = Uuid::nil();

/// The rules of a kind in an organization, as they are committed and as this transaction has set them.
///
/// Errors: there is no such kind, neither for all nor for the organization.
pub fn settings(organization: Uuid, name: &str) -> Result<Settings> {
    let unknown = || error::NOT_FOUND.error(format!("there is no kind of exceptions \"{name}\""));
    in_organization(organization, Some(name))?.remove(name).ok_or_else(unknown)
}

/// The rules of each kind that an organization has, or of one.
pub fn in_organization(organization: Uuid, name: Option<&str>) -> Result<HashMap<String, Settings>> {
    let mut settings = of(ALL, name)?;
    for (name, own) in of(organization, name)? {
        let both = settings.get(&name).map_or(own, |for_all| for_all.stricter(&own));
        settings.insert(name, both);
    }
    Ok(settings)
}

/// The rules of a kind for all organizations, if there are some.
pub fn for_all(name: &str) -> Option<Settings> {
    of(ALL, Some(name)).ok()?.remove(name)
}

fn of(organization: Uuid, name: Option<&str>) -> Result<HashMap<String, Settings>> {
    let mut keys = vec![IndexKey::uuid(1, &organization)];
    keys.extend(name.map(|name| IndexKey::text(2, name)));
    let rows = || find(c"exception_kind", c"exception_kind_pkey", &keys, read);
    let rows: Option<Vec<_>> = transaction::with_latest_snapshot(rows).into_iter().collect();
    let unreadable = || error::STATE_INVALID.error("a row of tenancy.exception_kind cannot be read");
    let mut rows = rows.ok_or_else(unreadable)?;
    // What somebody has defined comes after what is built in, and takes its place.
    rows.sort_by_key(|(_, built_in, _)| !built_in);
    Ok(rows.into_iter().map(|(name, _, settings)| (name, settings)).collect())
}

/// A row of the table, by the order of its columns.
fn read(row: &Tuple) -> Option<(String, bool, Settings)> {
    let duration = |column| i64::try_from(row.get::<Interval>(column)?.as_micros()).ok();
    let number = |column| usize::try_from(row.get::<i32>(column)?).ok();
    let settings = Settings {
        min_reason: number(5)?,
        max_duration: duration(6)?,
        approvals: number(7)?,
        broad: row.get(8)?,
        notice: duration(9)?,
        on_no_review: OnNoReview::parse(&row.get::<String>(10)?)?,
    };
    Some((row.get(2)?, row.get(3)?, settings))
}
