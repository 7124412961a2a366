//! `tenancy.advise`: runs the rules, with the rights of the caller.

use crate::pg::report::OrRaise;
use crate::pg::spi;
use crate::pg::user;
use pg_tenancy_core::advisor::{RULES, Severity};
use pg_tenancy_core::error;
use pg_tenancy_core::policy::on_one_line;
use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern};

/// What a rule has found.
struct Advice {
    object: String,
    detail: String,
    remediation: String,
    severity: Option<String>,
}

/// Rules that look at the audit's own tables, other sessions and settings, which whoever asks may not read. They are
/// fixed queries that say when and how many, and nothing of any row.
const OF_THE_SERVER: [&str; 5] = [
    "checkpoints_stand_still",
    "old_transaction",
    "sealing_stands_still",
    "setting_shown_to_all",
    "writers_not_slowed",
];

/// `tenancy.advise(minimum_severity)`: the worst first.
#[allow(clippy::type_complexity)]
#[pg_extern(sql = false)]
fn tenancy_advise(
    minimum_severity: Option<&str>,
) -> TableIterator<
    'static,
    (
        name!(rule, String),
        name!(severity, String),
        name!(object, String),
        name!(detail, String),
        name!(why, String),
        name!(remediation, String),
        name!(key, String),
    ),
> {
    let minimum = minimum_severity
        .and_then(Severity::parse)
        .ok_or_else(|| error::ARGUMENT_INVALID.error("minimum_severity must be \"info\", \"warning\" or \"error\""))
        .or_raise();
    let mut found = Vec::new();
    for rule in RULES {
        let read = |row: &spi::Row| {
            Some(Advice { object: row.get(1)?, detail: row.get(2)?, remediation: row.get(3)?, severity: row.get(4) })
        };
        let run = || spi::query(rule.query, read);
        let findings = if OF_THE_SERVER.contains(&rule.id) { user::as_superuser(run) } else { run() };
        for finding in findings.into_iter().flatten() {
            let severity = finding.severity.as_deref().and_then(Severity::parse).unwrap_or(rule.severity);
            if severity >= minimum {
                found.push((severity, rule, finding));
            }
        }
    }
    found.sort_by_key(|(severity, ..)| std::cmp::Reverse(*severity));
    TableIterator::new(found.into_iter().map(|(severity, rule, Advice { object, detail, remediation, .. })| {
        let key = format!("{}:{object}", rule.id);
        // Names and expressions may hold line breaks: a finding is one line of a list.
        (rule.id.into(), severity.name().into(), object, on_one_line(&detail), rule.why.into(), remediation, key)
    }))
}
