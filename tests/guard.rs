//! Guardrails that need a commit, two sessions, or a restore.

use crate::action_types::act;
use crate::common::*;
use crate::rotation_model::{at, sign_in, with_a_clock};
use crate::secrets::with_a_key;
use futures_util::future::join;
use tokio_postgres::Client;

const LEVELS: [&str; 3] = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"];

/// A protected schema in which `new_tables` is enforced.
async fn enforce(database: &Database) -> Client {
    let superuser = database.superuser().await;
    superuser
        .batch_execute(
            "SELECT tenancy.protect_schema('public');
             SELECT tenancy.set_guardrail('new_tables', 'enforce', 'test')",
        )
        .await
        .unwrap();
    database.owner().await
}

async fn is_refused(client: &Client, sql: &str, sqlstate: &str, words: &str) {
    let refusal = refused(client, sql).await;
    assert!(refusal.sqlstate == sqlstate && refusal.message.contains(words), "{sql}: {refusal:?}");
}

#[test]
fn a_transaction_that_leaves_a_tenant_table_unprotected_cannot_commit() {
    in_database(async |database| {
        let owner = enforce(database).await;
        let create = "CREATE TABLE price (id integer PRIMARY KEY, organization_id uuid)";
        is_refused(&owner, create, "55000", "is not protected").await;
        assert_eq!(value(&owner, "SELECT (to_regclass('price') IS NULL)::text").await, "true");

        let say_what_null_means = "SELECT tenancy.protect('price', null_rows => 'shared')";
        owner.batch_execute(&format!("BEGIN; {create}; {say_what_null_means}; COMMIT")).await.unwrap();
        assert_eq!(count(&owner, "SELECT count(*) FROM tenancy.plan('price') WHERE state <> 'done'").await, 0);
    });
}

#[test]
fn what_a_savepoint_takes_back_what_is_dropped_and_what_is_excluded_may_be_unprotected() {
    in_database(async |database| {
        let owner = enforce(database).await;
        for rest in [
            "SAVEPOINT s; CREATE TABLE t (org_id uuid); ROLLBACK TO s",
            "CREATE TABLE t (org_id uuid); DROP TABLE t",
            "CREATE TABLE t (org_id uuid); ALTER TABLE t DROP COLUMN org_id",
            "CREATE TABLE u (org_id uuid); SELECT tenancy.exclude('u', 'read by all')",
            "SET LOCAL tenancy.override_reason = 'later'; CREATE TABLE v (org_id uuid)",
            "CREATE TABLE w AS SELECT NULL::uuid AS org_id; ALTER TABLE w ALTER org_id SET DEFAULT NULL;
             DELETE FROM w; ALTER TABLE w ALTER org_id SET NOT NULL; SELECT tenancy.protect('w')",
        ] {
            owner
                .batch_execute(&format!("BEGIN; {rest}; COMMIT"))
                .await
                .unwrap_or_else(|error| panic!("{rest}: {error}"));
        }
        for rest in ["CREATE TABLE x AS SELECT NULL::uuid AS org_id", "SELECT NULL::uuid AS org_id INTO x"] {
            is_refused(&owner, rest, "55000", "is not protected").await;
        }
        owner.batch_execute("BEGIN; CREATE TABLE x (org_id uuid)").await.unwrap();
        is_refused(&owner, "PREPARE TRANSACTION 'x'", "55000", "is not protected").await;
    });
}

#[test]
fn a_push_that_disables_row_level_security_fails_in_a_session_that_never_loaded_the_library() {
    in_database(async |database| {
        let owner = database.owner().await;
        for statement in [
            r#"ALTER TABLE "Finding" DISABLE ROW LEVEL SECURITY"#,
            r#"DROP POLICY IF EXISTS tenancy_isolation ON "Finding" CASCADE"#,
        ] {
            is_refused(&owner, statement, "42501", "less protected").await;
        }
    });
}

#[test]
fn a_change_of_a_guardrail_counts_at_once_in_every_session() {
    in_database(async |database| {
        let owner = enforce(database).await;
        let superuser = database.superuser().await;
        owner.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await.unwrap();
        superuser.batch_execute("SELECT tenancy.set_guardrail('new_tables', 'off', 'test')").await.unwrap();
        owner.batch_execute("CREATE TABLE t (org_id uuid); COMMIT").await.unwrap();
    });
}

#[test]
fn whoever_drops_an_index_or_a_default_of_protect_is_warned_and_told_how_to_make_it_again() {
    in_database(async |database| {
        let owner = database.owner().await;
        let bare = "CREATE TABLE bare (id integer PRIMARY KEY, organization_id uuid NOT NULL)";
        owner.batch_execute(&format!("{bare}; SELECT tenancy.protect('bare')")).await.unwrap();
        for (sql, what) in [
            ("DROP INDEX bare_tenancy_idx", "the index \"bare_tenancy_idx\""),
            ("ALTER TABLE bare ALTER organization_id DROP DEFAULT", "the default of column \"organization_id\""),
        ] {
            let out = database.program("psql").args(["-U", crate::common::OWNER, "-Xc", sql]).output().unwrap();
            let told = String::from_utf8_lossy(&out.stderr);
            assert!(out.status.success(), "{sql}: {told}");
            let mend = "SELECT tenancy.protect('public.bare')";
            assert!(told.contains("WARNING") && told.contains(what) && told.contains(mend), "{sql}: {told}");
        }
    });
}

/// Sets a guardrail of Acme, as one of its members.
fn set(guardrail: &str, state: &str) -> String {
    format!("SELECT tenancy.set_guardrail('{guardrail}', '{state}', 'test', '{ACME}')")
}

#[test]
fn what_an_organization_enforces_binds_it_at_once_and_nobody_else() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        with_a_key(&superuser).await;
        let (alice, bob) = (database.token("alice"), database.token("bob"));
        let put = "SELECT tenancy.put_secret('s', 'a value that stands here')";
        let other = database.application().await;
        // A transaction that is open, at a level that keeps its snapshot.
        run(&other, "BEGIN ISOLATION LEVEL REPEATABLE READ").await;
        authenticate(&other, &alice).await.unwrap();
        run(&other, "SELECT count(*) FROM tenancy.guardrails()").await;
        act(&client, &alice, &set("literal_secret", "enforce")).await.unwrap();
        assert_eq!(refused_within(&other, put).await.sqlstate, "22023", "at once");
        run(&other, "ROLLBACK").await;
        assert_eq!(act(&client, &alice, put).await.unwrap_err().sqlstate, "22023");
        act(&client, &bob, put).await.unwrap();
        // What is set for all is not enough to loosen it, and what is stricter binds everybody.
        run(&superuser, "SELECT tenancy.set_guardrail('literal_secret', 'off', 'test')").await;
        assert_eq!(act(&client, &alice, put).await.unwrap_err().sqlstate, "22023");
        run(&superuser, "SELECT tenancy.set_guardrail('literal_secret', 'enforce', 'test')").await;
        assert_eq!(act(&client, &bob, put).await.unwrap_err().sqlstate, "22023");
        let clear = format!("SELECT tenancy.clear_guardrail('literal_secret', '{ACME}', 'test')");
        act(&client, &alice, &clear).await.unwrap();
        run(&superuser, "SELECT tenancy.set_guardrail('literal_secret', 'off', 'test')").await;
        act(&client, &alice, put).await.unwrap();
        seal_all(&superuser).await;
        assert_audit_is_whole(&superuser).await;
    });
}

#[test]
fn two_admins_of_an_organization_take_turns_and_never_loosen_a_guardrail() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        run(&superuser, &format!("SELECT tenancy.set_membership('{ACME}', 'dora', 'admin')")).await;
        run(&superuser, "SELECT tenancy.set_guardrail('unrecorded_reveal', 'off', 'test')").await;
        let (one, other) = (database.application().await, database.application().await);
        for level in LEVELS {
            run(&superuser, &format!("SELECT tenancy.clear_guardrail('unrecorded_reveal', '{ACME}', '{level}')")).await;
            for (client, who) in [(&one, "alice"), (&other, "dora")] {
                run(client, &format!("BEGIN ISOLATION LEVEL {level}")).await;
                authenticate(client, &database.token(who)).await.unwrap();
                run(client, "SELECT count(*) FROM tenancy.guardrails()").await;
            }
            run(&one, &set("unrecorded_reveal", "enforce")).await;
            let (late, ()) = join(try_rows(&other, &set("unrecorded_reveal", "warn")), async {
                eventually(&superuser, "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
                    .await;
                run(&one, "COMMIT").await;
            })
            .await;
            // Who comes second sees what the first has set, whatever the snapshot.
            assert_eq!(late.unwrap_err().sqlstate, "42501", "{level}");
            run(&other, "ROLLBACK").await;
            let state = "SELECT state FROM tenancy.guardrail WHERE name = 'unrecorded_reveal' AND state <> 'off'";
            assert_eq!(column(&superuser, state).await, ["enforce"], "{level}");
        }
        let sets =
            format!("SELECT count(*) FROM tenancy.event WHERE table_name = 'guardrail' AND organization = '{ACME}'");
        assert_eq!(count(&superuser, &sets).await, 5, "three changes and two that are cleared, each one event");
    });
}

#[test]
fn a_dump_carries_what_is_set_of_guardrails() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        act(&client, &database.token("alice"), &set("overdue_rotation", "enforce")).await.unwrap();
        run(&superuser, "SELECT tenancy.set_guardrail('operator_reveal', 'warn', 'test')").await;
        let all = "SELECT g::text FROM tenancy.guardrail g ORDER BY 1";
        let before = column(&superuser, all).await;
        let name = database.restore_a_dump().await;
        let copy = connect(database.config().dbname(&name)).await;
        let copied = column(&copy, all).await;
        assert_eq!((&copied, before.len()), (&before, 2));
        assert_eq!(
            refused(&copy, "DELETE FROM tenancy.guardrail").await.sqlstate,
            "42501",
            "the guard is on in the copy"
        );
        drop(copy);
        run(&superuser, &format!("DROP DATABASE {name} (FORCE)")).await;
    });
}

#[test]
fn a_trial_is_seen_by_who_may_read_the_audit_of_their_organization_alone() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        with_a_key(&superuser).await;
        let grants = format!(
            "SELECT tenancy.create_role('watcher'), tenancy.grant_permission('watcher', 'guardrail', 'read'),
                    tenancy.set_membership('{ACME}', 'walt', 'watcher'),
                    tenancy.set_membership('{ACME}', 'dora', 'admin')"
        );
        run(&superuser, &grants).await;
        let put = |name: &str| format!("SELECT tenancy.put_secret('{name}', 'a value that stands here')");
        for (who, name) in [("alice", "one"), ("alice", "two"), ("dora", "three"), ("bob", "theirs")] {
            act(&client, &database.token(who), &put(name)).await.unwrap();
        }
        // A transaction that rolls back has done nothing that could have been refused.
        as_tenant(&client, &database.token("alice")).await;
        run(&client, &put("four")).await;
        run(&client, "ROLLBACK").await;
        let trial = "SELECT string_agg(organization || ' ' || hits || ' ' || subjects, ', ' ORDER BY organization)
                       FROM tenancy.guardrail_trial('literal_secret')";
        let (acme, globex) = (format!("{ACME} 3 2"), format!("{GLOBEX} 1 1"));
        let mut both = [acme.clone(), globex.clone()];
        both.sort();
        assert_eq!(value(&superuser, trial).await, both.join(", "));
        seal_all(&superuser).await;
        assert_eq!(act(&client, &database.token("alice"), trial).await.unwrap(), acme);
        assert_eq!(act(&client, &database.token("bob"), trial).await.unwrap(), globex);
        let refusal = act(&client, &database.token("walt"), trial).await.unwrap_err();
        assert_eq!((refusal.sqlstate.as_str(), refusal.message.contains("domain \"audit\"")), ("42501", true));
        let hits = "SELECT coalesce(hits::text, 'hidden') FROM tenancy.guardrails() WHERE name = 'literal_secret'";
        assert_eq!(act(&client, &database.token("walt"), hits).await.unwrap(), "hidden");
        assert_eq!(act(&client, &database.token("alice"), hits).await.unwrap(), "3");
        assert_eq!(value(&superuser, hits).await, "4");
        // The event tells what was done, and nothing of the value.
        let events = "SELECT DISTINCT reason FROM tenancy.audit_trail WHERE operation = 'guardrail'";
        assert_eq!(column(&superuser, events).await, ["secret_literal: the value stands in the text of the statement"]);
        let told = "SELECT count(*) FROM tenancy.event WHERE payload::text LIKE '%stands here%'";
        assert_eq!(count(&superuser, told).await, 0);
        let forged = "SELECT tenancy.record_event('guardrail', 'guardrail')";
        assert_eq!(act(&client, &database.token("alice"), forged).await.unwrap_err().sqlstate, "22023");
        let forged = "SELECT tenancy.record_event('mine', 'guardrail', result => 'warned')";
        assert_eq!(act(&client, &database.token("alice"), forged).await.unwrap_err().sqlstate, "22023");
        assert_audit_is_whole(&superuser).await;
    });
}

#[test]
fn where_no_event_can_be_written_a_warning_is_a_line_of_the_log() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        run(&superuser, "SELECT tenancy.set_guardrail('statement_statistics', 'warn', 'test')").await;
        let sql = "BEGIN READ ONLY; EXPLAIN ANALYZE SELECT 1; COMMIT";
        let mut psql = database.program("psql");
        let out = psql.env("PGOPTIONS", "-c client_min_messages=log").args(["-U", APPLICATION, "-Xc", sql]).output();
        let told = String::from_utf8_lossy(&out.unwrap().stderr).into_owned();
        let line = "LOG:  pg_tenancy: guardrail statement_statistics warned of EXPLAIN ANALYZE, in a transaction";
        assert!(told.contains("WARNING:  EXPLAIN ANALYZE would tell of") && told.contains(line), "{told}");
        assert_eq!(count(&superuser, "SELECT count(*) FROM tenancy.event WHERE operation = 'guardrail'").await, 0);
    });
}

#[test]
fn a_version_that_is_retired_while_it_is_in_use_counts_in_the_trial() {
    with_a_clock("guard", async |database, superuser| {
        let client = database.superuser().await;
        sign_in(&client, database, "alice", ACME).await;
        at(&client, 0).await;
        let rotate = "SELECT tenancy.put_secret('s', lower('ONE')), tenancy.begin_rotation('s', lower('TWO'));
                      SELECT tenancy.set_secret_policy('s', NULL, NULL, NULL, NULL, '1 day', NULL, NULL);
                      SELECT tenancy.report_health('s', 2, true), tenancy.promote('s', 2)";
        run(&client, rotate).await;
        // Observed for a day, and revealed an hour before that is over.
        at(&client, 23 * 3600).await;
        run(&client, "SELECT tenancy.reveal_secret('s', 'test', 1); SELECT tenancy.report_health('s', 2, true)").await;
        at(&client, 25 * 3600).await;
        let retire = "SELECT tenancy.retire('s', 1, 'over')";
        assert_eq!(refused(&client, retire).await.sqlstate, "55000");
        let trial = "SELECT hits FROM tenancy.guardrail_trial('retire_in_use', '100 years')";
        assert!(column(superuser, trial).await.is_empty(), "what is refused is no hit");
        run(superuser, "SELECT tenancy.set_guardrail('retire_in_use', 'warn', 'test')").await;
        run(&client, retire).await;
        assert_eq!(column(superuser, trial).await, ["1"]);
    });
}
