//! The posture of secrets and controls: each finding appears and ends, who sees which, and what time makes due is told
//! once. The time is set by a library with a clock.

use std::collections::BTreeSet;

use crate::action_types::{act, prepare, request};
use crate::common::*;
use crate::rotation_model::{at, sign_in, with_a_clock};
use crate::secrets::{put, reveal, with_a_key};
use crate::worker::on_a_server;
use tokio_postgres::Client;

const DAY: i64 = 86_400;

/// The findings of a secret, separated by blanks.
async fn findings(client: &Client, name: &str) -> String {
    let sql = format!("SELECT array_to_string(findings, ' ') FROM tenancy.secret_posture WHERE name = '{name}'");
    value(client, &sql).await
}

/// Names that are separated by blanks, in whatever order.
fn sorted(text: &str) -> BTreeSet<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// Replaces the key file of the server; `$1` is its path.
async fn change_key_file(superuser: &Client, script: &str) {
    let path = value(superuser, "SELECT current_setting('tenancy.secret_key_file')").await;
    let program = format!("cat >/dev/null; set -- \"{path}\"; {script}");
    run(superuser, &format!("COPY (SELECT 1) TO PROGRAM '{program}'")).await;
}

#[test]
fn each_finding_appears_and_ends_when_it_is_mended() {
    with_a_clock("posture", async |database, superuser| {
        let client = database.superuser().await;
        sign_in(&client, database, "alice", ACME).await;
        run(superuser, "SELECT tenancy.set_guardrail('self_approved_action', 'off', 'test')").await;
        let mut seen = BTreeSet::new();
        let report = |version: i32, healthy: bool| format!("SELECT tenancy.report_health('s', {version}, {healthy})");
        let revealed = "SELECT tenancy.reveal_secret('s', 'test'); SELECT tenancy.seal()".to_owned();
        let and = |first: &str, second: &str| format!("{first}; {second}");
        let no_policy = "NULL, NULL, NULL, NULL, NULL";
        // The moment, what is done, the secret, what is found of it then.
        let steps: Vec<(i64, String, &str, &str)> = vec![
            (0, "SELECT tenancy.put_secret('s', 'one', 'api_token')".into(), "s", "unverified long_lived"),
            (0, report(1, true), "s", "long_lived"),
            (3601, "SELECT 1".into(), "s", "stale_health long_lived"),
            (3602, report(1, false), "s", "failing long_lived"),
            (3603, report(1, true), "s", "long_lived"),
            (45 * DAY - 1, report(1, true), "s", "long_lived"),
            (45 * DAY, report(1, true), "s", "unused long_lived"),
            (45 * DAY, revealed.clone(), "s", "long_lived"),
            (81 * DAY - 1, report(1, true), "s", "long_lived"),
            (81 * DAY, report(1, true), "s", "due long_lived"),
            (90 * DAY, and(&revealed, &report(1, true)), "s", "overdue long_lived"),
            (90 * DAY, "SELECT tenancy.begin_rotation('s')".into(), "s", "overdue announced long_lived"),
            (91 * DAY, report(1, true), "s", "overdue rotation_stuck announced long_lived"),
            (
                91 * DAY + 1,
                format!("SELECT tenancy.supply_value('s', 2, 'two'); {}", report(2, true)),
                "s",
                "overdue rotation_stuck long_lived",
            ),
            (91 * DAY + 1, "SELECT tenancy.promote('s', 2)".into(), "s", "long_lived"),
            (92 * DAY, report(2, true), "s", "long_lived"),
            (92 * DAY + 1, report(2, true), "s", "previous_lingering long_lived"),
            (92 * DAY + 2, "SELECT tenancy.retire('s', 1, 'test')".into(), "s", "long_lived"),
        ];
        for (second, sql, name, expected) in steps {
            at(&client, second).await;
            run(&client, &sql).await;
            let found = findings(&client, name).await;
            assert_eq!(sorted(&found), sorted(expected), "at {second} after {sql}");
            seen.extend(sorted(&found));
        }

        let now = 93 * DAY;
        at(&client, now).await;
        let scope = "SELECT tenancy.add_action_type('instance.stop', 'Stops an instance.'); \
                     SELECT tenancy.decide_action_type(tenancy.request_action_type('instance.stop', 'test', '1 day'), \
                            true, 'test'); \
                     SELECT tenancy.put_secret('w', 'three', scope => 'write')";
        run(&client, scope).await;
        let expires = format!("to_timestamp(978307200 + {})", now + 20 * DAY);
        let ends = format!("SELECT tenancy.put_secret('ends', 'four', expires_at => {expires})");
        run(&client, &ends).await;
        let more = "SELECT tenancy.put_secret('twin', 'two'),
                           tenancy.put_secret('role', '{\"role_arn\": \"arn\"}', 'aws_role')";
        run(&client, more).await;
        let owner = format!("SELECT tenancy.set_secret_policy('role', {no_policy}, 'victor', NULL)");
        let suspend =
            |status: &str| format!("UPDATE tenancy.membership SET status = '{status}' WHERE subject = 'victor'");
        let key = "SELECT tenancy.add_key_encryption_key('second', 'test'), \
                          tenancy.set_current_key_encryption_key('second', 'test')";
        let steps: Vec<(i64, &str, String, &str, &str)> = vec![
            (now, "the same value twice", "SELECT 1".into(), "twin", "unverified reused long_lived"),
            (now, "a role", "SELECT 1".into(), "role", "unverified"),
            (now, "another owner", owner, "role", "unverified"),
            (now, "a suspended owner", suspend("suspended"), "role", "unverified orphaned"),
            (now, "an active owner", suspend("active"), "role", "unverified"),
            (now + 6 * DAY - 1, "before 14 days", "SELECT 1".into(), "ends", "unverified long_lived"),
            (now + 6 * DAY, "14 days", "SELECT 1".into(), "ends", "unverified expiring long_lived"),
            (now + 20 * DAY, "the end", "SELECT 1".into(), "ends", "unverified expired long_lived"),
            (now + 45 * DAY, "unused", "SELECT 1".into(), "w", "unverified unused_write long_lived"),
            (now, "a key beside", key.into(), "role", "unverified old_key"),
            (now, "rewrapped", "CALL tenancy.rewrap_data_keys()".into(), "role", "unverified"),
            (
                now,
                "a new data key",
                format!("SELECT tenancy.rotate_data_key('{ACME}', 'test')"),
                "role",
                "unverified old_data_key",
            ),
            (now, "resealed", "CALL tenancy.reseal_secrets()".into(), "role", "unverified"),
            (now + 730 * DAY, "2 years", "SELECT 1".into(), "role", "unverified old_data_key overdue unused"),
        ];
        change_key_file(superuser, r#"echo "second $(head -c 32 /dev/urandom | base64)" >>"$1""#).await;
        for (second, what, sql, name, expected) in steps {
            at(&client, second).await;
            run(&client, &sql).await;
            let found = findings(&client, name).await;
            assert_eq!(sorted(&found), sorted(expected), "{what}: after {sql}");
            seen.extend(sorted(&found));
            let wrong = "SELECT count(*) FROM tenancy.secret_posture p
                          WHERE severity <> (SELECT (array_agg(f.severity ORDER BY
                                                     array_position('{error,warning,info}', f.severity)))[1]
                                               FROM tenancy.secret_finding f WHERE f.name = ANY (p.findings))";
            assert_eq!(count(&client, wrong).await, 0, "the severity is the highest of the findings");
        }
        at(&client, now).await;
        change_key_file(superuser, r#"cp -p "$1" "$1.kept"; : >"$1""#).await;
        assert_eq!(findings(&client, "role").await, "unverified key_missing");
        seen.insert("key_missing".into());
        let posture = "SELECT state FROM tenancy.posture WHERE control = 'keys.key_encryption_keys'";
        assert_eq!(value(&client, posture).await, "fail");
        change_key_file(superuser, r#"cat "$1.kept" >"$1""#).await;
        assert_eq!(findings(&client, "role").await, "unverified");
        let known = column(&client, "SELECT name FROM tenancy.secret_finding").await;
        assert_eq!(seen, known.into_iter().collect(), "every finding was seen");
    });
}

/// Something of the control that counts unprotected tables.
fn unprotected(what: &str) -> String {
    format!("SELECT {what} FROM tenancy.posture WHERE control = 'isolation.unprotected_tables'")
}

#[test]
fn everybody_sees_the_posture_of_what_they_may_read() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        with_a_key(&superuser).await;
        let alice = database.token("alice");
        as_tenant(&client, &alice).await;
        put(&client, "a name that tells", "one").await.unwrap();
        run(&client, "COMMIT").await;
        let posture = "SELECT count(*) FROM tenancy.secret_posture";
        assert_eq!(act(&client, &alice, posture).await.unwrap(), "1");
        assert_eq!(act(&client, &database.token("victor"), posture).await.unwrap(), "1");
        assert_eq!(act(&client, &database.token("bob"), posture).await.unwrap(), "0", "another organization");
        for view in ["secret_posture", "posture"] {
            let sql = format!("SELECT count(*) FROM tenancy.{view}");
            assert_eq!(refused(&client, &sql).await.sqlstate, "28000", "{view} without a context");
        }
        // A condition that tells what it is asked about is asked of no row of others.
        let leak = "CREATE FUNCTION pg_temp.leak(name text) RETURNS boolean LANGUAGE plpgsql COST 0.0001
                        AS $$ BEGIN RAISE EXCEPTION 'saw %', name; END $$";
        as_tenant(&client, &database.token("bob")).await;
        run(&client, leak).await;
        run(&client, "SELECT * FROM tenancy.secret_posture WHERE pg_temp.leak(name)").await;
        run(&client, "ROLLBACK").await;
        let of_others = "SELECT count(*) FROM tenancy.posture WHERE organization IS DISTINCT FROM tenancy.org_id()";
        assert_eq!(act(&client, &database.token("bob"), of_others).await.unwrap(), "0");
        let own = "SELECT string_agg(state, ' ') FROM tenancy.posture WHERE control = 'secrets.health'";
        assert_eq!(act(&client, &alice, own).await.unwrap(), "warn");
        assert_eq!(act(&client, &database.token("bob"), own).await.unwrap(), "off", "not how many others have");
        assert_eq!(refused(&client, "SELECT * FROM tenancy.database_posture()").await.sqlstate, "42501");
        assert_eq!(refused(&client, "SELECT * FROM tenancy.metric").await.sqlstate, "42501");

        run(&superuser, "SET ROLE tenancy_auditor").await;
        assert_eq!(count(&superuser, posture).await, 1, "auditors see all");
        let controls = "SELECT count(DISTINCT organization) || ' ' || count(*) FILTER (WHERE organization IS NULL)
                          FROM tenancy.posture";
        assert_eq!(value(&superuser, controls).await, "3 29");
        run(&superuser, "RESET ROLE; SELECT tenancy.revoke_permission('reader', '*', 'read')").await;
        run(&superuser, "SELECT tenancy.revoke_permission('reader', 'secret', 'read')").await;
        assert_eq!(act(&client, &database.token("victor"), posture).await.unwrap(), "0", "without the permission");
        let schema = "CREATE TABLE public.loose (organization_id uuid); SELECT tenancy.protect_schema('public')";
        run(&superuser, schema).await;
        let before = value(&superuser, &unprotected("count")).await;
        run(&superuser, "CREATE TABLE public.looser (organization_id uuid)").await;
        let one_more = unprotected(&format!("{before} + 1 = count AND state = 'fail'"));
        assert_eq!(value(&superuser, &one_more).await, "t");
    });
}

#[test]
fn an_overdue_or_unproved_value_is_revealed_as_the_guardrails_say() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        with_a_key(&superuser).await;
        run(&superuser, "SELECT tenancy.grant_permission('reader', 'secret', 'reveal')").await;
        let (alice, victor) = (database.token("alice"), database.token("victor"));
        as_tenant(&client, &alice).await;
        put(&client, "old", "one").await.unwrap();
        put(&client, "new", "two").await.unwrap();
        let policy = "SELECT tenancy.set_secret_policy('old', '1 microsecond', NULL, NULL, NULL, NULL, NULL, NULL)";
        run(&client, policy).await;
        run(&client, "SELECT tenancy.report_health('old', 1, true); COMMIT").await;
        let set = async |guardrail: &str, state: &str| {
            run(&superuser, &format!("SELECT tenancy.set_guardrail('{guardrail}', '{state}', 'test')")).await;
        };
        let revealed = async |token: &str, name: &str| {
            as_tenant(&client, token).await;
            let revealed = reveal(&client, name).await;
            run(&client, "ROLLBACK").await;
            revealed.map_err(|refusal| (refusal.sqlstate, refusal.message))
        };
        assert_eq!(revealed(&victor, "old").await.unwrap(), "one", "by default a warning");
        set("overdue_rotation", "enforce").await;
        let overdue = ("55000".to_owned(), "the rotation of the secret \"old\" is overdue".to_owned());
        assert_eq!(revealed(&victor, "old").await.unwrap_err(), overdue);
        assert_eq!(revealed(&victor, "new").await.unwrap(), "two");
        assert_eq!(revealed(&alice, "old").await.unwrap(), "one", "whoever may rotate needs it for that");
        set("overdue_rotation", "off").await;
        assert_eq!(revealed(&victor, "old").await.unwrap(), "one");
        assert_eq!(revealed(&victor, "new").await.unwrap(), "two", "by default nobody asks for proof");
        set("unverified_secret", "enforce").await;
        let unproved = ("55000".to_owned(), "no health report proves version 1 of the secret \"new\"".to_owned());
        assert_eq!(revealed(&victor, "new").await.unwrap_err(), unproved);
        assert_eq!(revealed(&victor, "old").await.unwrap(), "one");
        assert_eq!(revealed(&alice, "new").await.unwrap(), "two", "whoever may report needs it for that");
        run(&superuser, "SELECT tenancy.grant_permission('reader', 'secret', 'report')").await;
        assert_eq!(revealed(&victor, "new").await.unwrap(), "two");
        // A refusal is recorded as every other reveal.
        run(&superuser, "SELECT tenancy.seal()").await;
        let denied = "SELECT count(*) FROM tenancy.event WHERE operation = 'reveal' AND result = 'denied'";
        assert_eq!(count(&superuser, denied).await, 2);
    });
}

#[test]
fn what_time_makes_due_is_told_once() {
    with_a_clock("settle", async |database, superuser| {
        let (one, other) = (database.superuser().await, database.superuser().await);
        sign_in(&one, database, "alice", ACME).await;
        at(&one, 0).await;
        let sql = "SELECT tenancy.set_guardrail('self_approved_action', 'off', 'test'); \
                   SELECT tenancy.add_action_type('instance.stop', 'Stops an instance.'); \
                   SELECT tenancy.add_action_type('disk.delete', 'Deletes a disk.'); \
                   SELECT tenancy.request_action_type('disk.delete', 'test'); \
                   SELECT tenancy.decide_action_type(tenancy.request_action_type('instance.stop', 'test', '10 days'), \
                          true, 'test'); \
                   SELECT tenancy.put_secret('s', 'one', expires_at => to_timestamp(978307200 + 100 * 86400)); \
                   SELECT tenancy.begin_rotation('s', 'two')";
        run(&one, sql).await;
        let settle = "SELECT string_agg(what || ' ' || count, ', ') FILTER (WHERE count > 0) FROM tenancy.settle_due()";
        for (second, due) in [
            (DAY - 1, ""),
            (DAY, "rotation_stuck 1"),
            (DAY, ""),
            (9 * DAY, "approval_ending 1"),
            (10 * DAY, "action_expired 1"),
            (30 * DAY, "action_expired 1"),
            (86 * DAY, "secret_expiring 1"),
            (90 * DAY, "rotation_overdue 1"),
            (1000 * DAY, ""),
        ] {
            at(&one, second).await;
            at(&other, second).await;
            if due == "rotation_overdue 1" {
                // The second waits for the first, and finds nothing left.
                run(&one, "BEGIN").await;
                assert_eq!(value(&one, settle).await, due, "at {second}");
                let second = async { rows(&other, settle).await[0][0].clone().unwrap_or_default() };
                let commit = async { run(&one, "COMMIT").await };
                assert_eq!(futures_util::future::join(second, commit).await.0, "");
                continue;
            }
            let settled = rows(&other, settle).await[0][0].clone().unwrap_or_default();
            assert_eq!(settled, due, "at {second}");
        }
        let alerts = "SELECT kind || ' ' || domain || ' ' || coalesce(detail ->> 'name', detail ->> 'action_type')
                        FROM tenancy.alert WHERE kind NOT LIKE 'action%' AND domain <> 'guardrail' ORDER BY raised_at";
        let told = [
            "rotation_stuck secret s",
            "approval_ending action instance.stop",
            "secret_expiring secret s",
            "rotation_overdue secret s",
        ];
        assert_eq!(column(superuser, alerts).await, told);
        let expired = "SELECT count(*) FROM tenancy.event WHERE operation = 'action_expired'";
        assert_eq!(count(superuser, expired).await, 2);
        let refusal = refused(&one, "BEGIN READ ONLY; SELECT * FROM tenancy.settle_due()").await;
        assert_eq!(refusal.sqlstate, "25006");
    });
}

#[test]
fn the_worker_notes_what_time_makes_due() {
    on_a_server("settler", async |server| {
        let database = Database::create(server.config("postgres")).await;
        let (superuser, client) = (database.superuser().await, database.application().await);
        prepare(&superuser).await;
        act(&client, &database.token("alice"), &request("instance.stop")).await.unwrap();
        let over = "SET session_replication_role = replica; SET tenancy.override_reason = 'test';
                    ALTER TABLE tenancy.action_type_request DISABLE TRIGGER keep_controls;
                    UPDATE tenancy.action_type_request SET decide_before = now() - interval '1 second';
                    ALTER TABLE tenancy.action_type_request ENABLE ALWAYS TRIGGER keep_controls;
                    RESET session_replication_role";
        run(&superuser, over).await;
        let state =
            |state: &str| format!("SELECT count(*) = 1 FROM tenancy.action_type_request WHERE state = '{state}'");
        assert_eq!(value(&superuser, &state("requested")).await, "t", "the interval is 10 minutes");
        run(&superuser, "ALTER SYSTEM SET tenancy.settle_interval = '100ms'").await;
        run(&superuser, "SELECT pg_reload_conf()").await;
        eventually(&superuser, &state("expired")).await;
    });
}
