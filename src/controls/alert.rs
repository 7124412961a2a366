//! Alerts: a row for whoever may read it, and a word to whoever listens.

use super::guard;
use crate::pg::clock;
use crate::pg::spi::{self, Query, argument};
use crate::pg::user;
use pg_tenancy_core::audit::format::event::time_ordered_id;
use pg_tenancy_core::controls::alert::AlertKind;
use pgrx::JsonB;
use rand::RngExt as _;
use serde_json::Value;
use uuid::Uuid;

static ADD: Query = Query::new(
    "INSERT INTO tenancy.alert (id, organization, domain, kind, detail, raised_at) VALUES ($1, $2, $3, $4, $5, $6)",
);

/// Every role of the server may listen, so the payload has nothing else.
static NOTIFY: Query = Query::new("SELECT pg_notify('tenancy_alert', $1::text || ' ' || $2)");

/// Tells that somebody of the organization should look. Members with the permission `read` in the domain see the
/// detail. It is told at the commit, and not at all after a rollback.
pub fn raise_alert(organization: Uuid, domain: &str, kind: AlertKind, detail: Value) {
    let now = clock::now();
    let id = time_ordered_id(now, rand::rng().random());
    let row = [
        spi::uuid(id),
        spi::uuid(organization),
        argument(domain),
        argument(kind.name()),
        argument(JsonB(detail)),
        spi::timestamp(now),
    ];
    user::as_superuser(|| {
        guard::writing(|| ADD.write(&row, |_| ()));
        NOTIFY.write(&[spi::uuid(id), argument(kind.name())], |_| ());
    });
}
