//! pg_tenancy: the security model of a multi-tenant SaaS inside Postgres.
//!
//! The modules are the rooms of `docs/architecture.md`. What needs no server is in the crates `pg_tenancy_core` and
//! `pg_tenancy_files`; this one knows triggers, tables, snapshots and hooks.

// Without a Postgres version there is nothing to build: see the features in Cargo.toml.
#![cfg(feature = "pg")]

mod advisor;
mod audit;
mod context;
mod controls;
mod guardrail;
mod identity;
mod pg;
mod policy;
mod secrets;
mod worker;

use crate::pg::hooks::{executor, log, permission, planner, reading, statement, statistics, transaction, utility};
use crate::pg::planning::acting_for_all;
use crate::pg::processes::throttle;
use crate::pg::report::OrRaise;
use pg_tenancy_core::error;
use pg_tenancy_core::identity::token_redaction;
use pg_tenancy_core::secrets::literal;
use pgrx::pg_guard;

pgrx::pg_module_magic!();

/// Called by Postgres when it loads the library: on demand, by session_preload_libraries or by
/// shared_preload_libraries. In the last case that is in the postmaster, so nothing random is drawn here.
#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    pg::report::keep_backtraces_to_panics();
    pg::report::bind_unwinder();
    pg::settings::configuration::define();
    pg::settings::several_identities::define();
    context::define(context::Rooms {
        revalidate: identity::revalidate,
        grant_in_force: controls::grant_in_force,
        refused: audit::operation_refused,
        operator_acts: audit::operator_acts,
        identity_changed: audit::identity_changed,
    });
    controls::define(controls::Rooms { destroy_secret: secrets::destroy_reviewed, own_secret: secrets::own_reviewed });
    identity::TABLES.watch();
    controls::EXCEPTIONS.watch();
    controls::GRANTS.watch();
    pg::tables::catalog::watch();
    log::redact(log::Redactions {
        tokens: log::Redaction { needed: token_redaction::holds_token, in_place: token_redaction::in_place },
        takes_values: literal::names_taker,
        reports_statement: literal::reports_statement,
        literals: log::Redaction { needed: literal::holds_literal, in_place: literal::blot },
        quoted: log::Redaction { needed: literal::holds_quote, in_place: literal::cut },
        is_error: error::is_kind,
    });
    utility::watch(utility::UtilityListener { held: context::cursor_held, changed: audit::cluster_changed });
    permission::watch(permission::PermissionListener {
        bypassed: guardrail::accessed,
        identity: context::generation,
        lacks: |asked| context::lacks(&asked.domain, &asked.action),
        allowed: |asked| context::allowed(&asked.domain, &asked.action),
        authorize: |asked| context::authorize(&asked.domain, &asked.action),
    });
    acting_for_all::answer(acting_for_all::MaintenanceAnswers {
        separator: context::SEPARATOR,
        lifting: context::in_maintenance,
        lifts: context::lifts,
        nobody: || matches!(context::current(), Ok(None)),
    });
    audit::judge_rows(guardrail::row_changed);
    audit::take_in_by(secrets::take_in_reveals);
    statistics::watch(guardrail::statistics_used);
    reading::watch(audit::READS);
    statement::watch(controls::STATEMENTS);
    audit::grants_end_by(controls::grant_end);
    worker::register();
    executor::take();
    planner::take();
    transaction::listen(transaction::TransactionListener {
        committing: |prepared| {
            if prepared {
                controls::before_prepare().or_raise();
            }
            statement::committing();
            guardrail::before_commit();
            audit::statements_before_commit().or_raise();
            audit::before_commit();
        },
        ended: |committed| {
            guardrail::transaction_ended();
            reading::rolled_back(0);
            statement::rolled_back(0);
            audit::statements_sent(committed);
            context::transaction_ended();
            secrets::transaction_ended(committed);
            throttle::transaction_ended();
            let events = audit::transaction_ended(committed);
            if events > 0 {
                worker::committed(events);
            }
        },
        savepoint: |level, rolled_back| {
            guardrail::savepoint(level, rolled_back);
            context::savepoint(level, rolled_back);
            audit::savepoint(level, rolled_back);
            secrets::savepoint(level, rolled_back);
            if rolled_back {
                reading::rolled_back(level);
                statement::rolled_back(level);
            }
        },
        statement: || {
            context::statement_started();
            controls::statement_started();
        },
        waiting: audit::events_wait,
        finished: audit::statement_finished,
        prepared_committed: worker::prepared_committed,
    });
}
