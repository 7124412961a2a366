//! Wrapping data keys anew: batches, one run at a time, what is left of a run that was killed, and what another session
//! does with a key that it has in memory.

use std::time::Duration;

use crate::common::server::{as_server, succeeds};
use crate::common::*;
use crate::secret_keys::{Keys, SERVICE, add, on_a_server, rotate, status, tamper};
use tokio_postgres::Client;

/// Gives so many organizations keys, and returns the number of data keys.
async fn fill(client: &Client, organizations: usize) -> i64 {
    let sql = format!(
        "SELECT tenancy.rotate_data_key(tenancy.create_organization(n::text), 'test')
           FROM generate_series(1, {organizations}) n"
    );
    run(client, &sql).await;
    count(client, "SELECT count(*) FROM tenancy.data_key").await
}

const PROGRESS: &str = r#"SELECT concat_ws(' ', done, "left", failed, batch, finished_at IS NOT NULL)
                            FROM tenancy.rewrap_progress"#;
const REWRAP: &str = "CALL tenancy.rewrap_data_keys()";

/// Makes a key current that is registered.
async fn choose(client: &Client, id: &str) {
    run(client, &format!("SELECT tenancy.set_current_key_encryption_key('{id}', 'test')")).await;
}

async fn under(client: &Client, id: &str) -> i64 {
    count(client, &format!("SELECT data_keys FROM tenancy.key_status() WHERE id = '{id}'")).await
}

async fn events(client: &Client) -> Vec<String> {
    let sql = "SELECT concat_ws(' ', result, new_values ->> 'key', new_values ->> 'done', new_values ->> 'failed')
                 FROM tenancy.audit_trail WHERE operation = 'rewrap' ORDER BY id";
    column(client, sql).await
}

#[test]
fn keys_move_under_the_current_key_in_batches_and_the_one_before_can_be_retired() {
    on_a_server("rewrap", async |keys, client| {
        add(client, "a", "ring").await;
        let total = fill(client, 5).await;
        run(client, &rotate(ACME)).await;
        let total = total + 2;
        // A session that has the key of an organization in memory.
        let user = keys.client().await;
        run(&user, &rotate(ACME)).await;
        let total = total + 1;
        run(client, "CREATE TABLE before AS SELECT * FROM tenancy.data_key").await;
        run(client, REWRAP).await;
        assert_eq!(value(client, PROGRESS).await, "0 0 0 0 t", "nothing was to be done");
        add(client, "b", "ring").await;
        assert_eq!(refused(client, "CALL tenancy.rewrap_data_keys(0)").await.sqlstate, "22023");
        assert_eq!(refused(client, "CALL tenancy.rewrap_data_keys(1001)").await.sqlstate, "22023");
        assert_eq!(refused(client, "CALL tenancy.rewrap_data_keys(key => 'c')").await.sqlstate, "42704");
        assert_eq!(refused(client, "BEGIN; CALL tenancy.rewrap_data_keys()").await.sqlstate, "2D000");
        run(client, "ROLLBACK").await;
        // The role that manages keys can do all of it.
        run(client, "SET ROLE tenancy_custodian").await;
        run(client, "CALL tenancy.rewrap_data_keys(4)").await;
        assert_eq!(value(client, PROGRESS).await, format!("{total} 0 0 4 t"));
        run(client, "RESET ROLE").await;
        assert_eq!((under(client, "a").await, under(client, "b").await), (0, total));
        let changed =
            "SELECT count(*) FROM tenancy.data_key d JOIN before b USING (id, organization, purpose, state, created_at)
                        WHERE d.wrapped <> b.wrapped AND d.wrapped_at > b.wrapped_at";
        assert_eq!(count(client, changed).await, total);

        run(client, "SELECT tenancy.retire_key_encryption_key('a', 'test')").await;
        assert_eq!(events(client).await, ["success 0 0".to_owned(), format!("success {total} 0")]);

        // The other session has the key as it was under "a" in memory: from the commit on it does not use it, even
        // if somebody puts the row of before back.
        run(client, "CREATE TABLE after AS SELECT * FROM tenancy.data_key").await;
        let put_back = |from: &str| {
            format!(
                "UPDATE tenancy.data_key d SET wrapped = b.wrapped, key_encryption_key = b.key_encryption_key
                   FROM {from} b WHERE b.id = d.id"
            )
        };
        tamper(client, &put_back("before")).await;
        for sql in [&rotate(ACME), REWRAP] {
            let refusal = refused(&user, sql).await;
            assert_eq!((&*refusal.sqlstate, &*refusal.message), ("55000", r#"key-encryption key "a" is retired"#));
        }
        tamper(client, &put_back("after")).await;
        // Without the old key everything works.
        keys.write("keys", keys.read("keys").lines().find(|line| line.starts_with('b')).unwrap());
        run(&user, &rotate(ACME)).await;
        assert_eq!(status(client, "b").await.0, "yes");
        assert_audit_is_whole(client).await;
    });
}

#[test]
fn a_run_that_was_killed_is_gone_on_with_and_both_have_an_event() {
    on_a_server("rewrap-kill", async |keys, client| {
        add(client, "kms-1", "command").await;
        let total = fill(client, 4).await;
        add(client, "kms-2", "command").await;
        keys.write("service", &format!("sleep 0.2\n{SERVICE}"));
        for (runs, signal) in [(1, "TERM"), (2, "KILL")] {
            let runner = keys.client().await;
            let pid = value(&runner, "SELECT pg_backend_pid()").await;
            let call = async { runner.simple_query("CALL tenancy.rewrap_data_keys(1)").await.is_err() };
            let kill = async {
                let watcher = keys.client().await;
                let under_way = format!(
                    "SELECT (SELECT count(*) FROM tenancy.rewrap_run WHERE batches > 0) = {runs}
                        AND (SELECT finished_at IS NULL FROM tenancy.rewrap_progress)"
                );
                eventually(&watcher, &under_way).await;
                // One at a time: another session does not even begin.
                assert_eq!(refused(&watcher, REWRAP).await.sqlstate, "55P03");
                succeeds(as_server("kill").args([&format!("-{signal}"), &pid]));
            };
            let (failed, ()) = tokio::join!(call, kill);
            assert!(failed, "{signal}");
        }
        keys.write("service", SERVICE);
        let client = reconnect(keys).await;
        let left = under(&client, "kms-1").await;
        assert!(left > 0 && left < total, "{left} of {total}");
        run(&client, "CALL tenancy.rewrap_data_keys(2)").await;
        assert_eq!((under(&client, "kms-1").await, under(&client, "kms-2").await), (0, total));
        let events = events(&client).await;
        assert!(events.len() == 3 && events[0].starts_with("failed") && events[1].starts_with("failed"), "{events:?}");
        assert_eq!(events[2], format!("success {left} 0"));
        // Every key opens.
        run(&client, "SELECT tenancy.rotate_data_key(id, 'test') FROM tenancy.organization WHERE name ~ '^[0-9]'")
            .await;
    });
}

/// A connection after the server has recovered from the death of a process.
async fn reconnect(keys: &Keys) -> Client {
    for _ in 0..200 {
        if let Ok(client) = try_connect(&keys.config("postgres")).await {
            return client;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the server did not come back");
}

#[test]
fn a_run_that_fails_or_is_cancelled_does_not_stay_in_the_way() {
    on_a_server("rewrap-fail", async |keys, client| {
        add(client, "a", "ring").await;
        let total = fill(client, 3).await;
        add(client, "kms-1", "command").await;
        let other = keys.client().await;
        keys.write("service", "exit 1");
        assert_eq!(refused(client, REWRAP).await.sqlstate, "F0000");
        keys.write("service", "sleep 20");
        run(client, "SET statement_timeout = 300").await;
        assert_eq!(refused(client, REWRAP).await.sqlstate, "57014");
        run(client, "RESET statement_timeout").await;
        // Neither its own session nor another one finds it in the way.
        keys.write("service", SERVICE);
        run(&other, "CALL tenancy.rewrap_data_keys(4)").await;
        assert_eq!(under(client, "kms-1").await, total);
        run(client, REWRAP).await;
        // The steps of the procedure do nothing by themselves.
        for step in ["rewrap_batch", "end_rewrap"] {
            assert_eq!(refused(client, &format!("SELECT tenancy.{step}()")).await.sqlstate, "55P03");
        }
        // Only what is under an older version of the service's key.
        keys.write("version", "v2");
        run(client, &rotate(ACME)).await;
        run(client, REWRAP).await;
        assert_eq!(value(client, PROGRESS).await, format!("{total} 0 0 1 t"));
        assert_eq!(value(client, "SELECT behind FROM tenancy.key_status() WHERE id = 'kms-1'").await, "0");
        // A service that answers another version each time: each key is wrapped once.
        keys.write("service", &SERVICE.replace("$(cat version)", "$(date +%N)$$"));
        run(client, "CALL tenancy.rewrap_data_keys(3)").await;
        assert_eq!(value(client, "SELECT done FROM tenancy.rewrap_progress").await, (total + 2).to_string());
    });
}

#[test]
fn a_key_that_was_altered_is_left_out_and_counted() {
    on_a_server("rewrap-altered", async |keys, client| {
        for (from, to) in [("a", "b"), ("kms-1", "kms-2")] {
            let provider = if from == "a" { "ring" } else { "command" };
            add(client, from, provider).await;
            let sql = format!(
                "SELECT tenancy.rotate_data_key(tenancy.create_organization('{from}' || n), 'test')
                   FROM generate_series(1, 3) n"
            );
            run(client, &sql).await;
            run(client, REWRAP).await;
            let alter = "UPDATE tenancy.data_key SET wrapped = overlay(wrapped PLACING '\\xff00ff' FROM 100)
                          WHERE id = (SELECT min(id::text)::uuid FROM tenancy.data_key)";
            tamper(client, alter).await;
            add(client, to, provider).await;
            run(client, REWRAP).await;
            let done = "SELECT done > 0 AND failed = 1 AND \"left\" = 0 FROM tenancy.rewrap_progress";
            assert_eq!(value(client, done).await, "t", "{from}");
            assert_eq!(under(client, from).await, 1, "{from}");
            assert!(events(client).await.last().unwrap().starts_with("failed"));
            // It has to be mended, or destroyed, before the key under it can go.
            let retire = format!("SELECT tenancy.retire_key_encryption_key('{from}', 'test')");
            assert!(refused(client, &retire).await.message.starts_with("1 data key is"));
            tamper(client, "DELETE FROM tenancy.data_key").await;
        }
        // A wrong key is no altered row: nothing is counted, and the run ends.
        choose(client, "a").await;
        run(client, &rotate(ACME)).await;
        choose(client, "b").await;
        let ring = keys.read("keys");
        keys.write("keys", &ring.replace("a AAEC", "a AAED"));
        assert_eq!(refused(client, REWRAP).await.sqlstate, "F0000");
        assert_eq!(under(client, "a").await, 2);
    });
}

#[test]
fn organizations_get_keys_while_others_are_wrapped_anew() {
    on_a_server("rewrap-race", async |keys, client| {
        add(client, "a", "ring").await;
        fill(client, 20).await;
        let (one, two, three) = (keys.client().await, keys.client().await, keys.client().await);
        add(client, "b", "ring").await;
        for id in ["b", "a", "b"] {
            choose(client, id).await;
            let users = async |user: &Client, organization| {
                for _ in 0..20 {
                    run(user, &rotate(organization)).await;
                }
            };
            let wrap = async { run(&three, "CALL tenancy.rewrap_data_keys(1)").await };
            tokio::join!(users(&one, ACME), users(&two, GLOBEX), wrap);
            run(client, REWRAP).await;
            assert_eq!(under(client, id).await, count(client, "SELECT count(*) FROM tenancy.data_key").await);
        }
        run(client, "SELECT tenancy.forget_keys(), tenancy.rotate_data_key(id, 'test') FROM tenancy.organization")
            .await;
        assert_audit_is_whole(client).await;
    });
}
