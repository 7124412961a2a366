//! Data keys that are rotated and destroyed, and what becomes of the values that are under them.

use crate::action_types::{act, prepare, request};
use crate::common::*;
use crate::secrets::{put, reveal, with_a_key};
use tokio_postgres::Client;

const OLD: &str = "SELECT count(*) FROM tenancy.secret_version v JOIN tenancy.data_key d ON d.id = v.data_key
                    WHERE d.state = 'old' AND v.state <> 'retired'";

/// Stores so many secrets of Acme, and has another key than theirs current.
async fn under_an_old_key(database: &Database, superuser: &Client, secrets: usize) -> Client {
    with_a_key(superuser).await;
    let client = database.application().await;
    as_tenant(&client, &database.token("alice")).await;
    for n in 0..secrets {
        put(&client, &format!("secret {n}"), &format!("value {n}")).await.unwrap();
    }
    run(&client, "COMMIT").await;
    run(superuser, &format!("SELECT tenancy.rotate_data_key('{ACME}', 'test')")).await;
    client
}

async fn assert_all_open(database: &Database, client: &Client, secrets: impl IntoIterator<Item = usize>) {
    as_tenant(client, &database.token("alice")).await;
    for n in secrets {
        assert_eq!(reveal(client, &format!("secret {n}")).await, Ok(format!("value {n}")));
    }
    run(client, "COMMIT").await;
}

#[test]
fn values_move_under_the_current_data_key_in_batches() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        let client = under_an_old_key(database, &superuser, 25).await;
        as_tenant(&client, &database.token("bob")).await;
        put(&client, "of Globex", "v").await.unwrap();
        run(&client, "SELECT tenancy.destroy_secret('of Globex', 'test'); COMMIT").await;
        as_tenant(&client, &database.token("alice")).await;
        run(&client, "SELECT tenancy.destroy_secret('secret 0', 'test'); COMMIT").await;
        assert_eq!(count(&superuser, OLD).await, 24);
        assert_all_open(database, &client, 1..25).await;
        let fingerprints = "SELECT string_agg(fingerprint::text, ' ' ORDER BY secret) FROM tenancy.secret_version";
        let before = value(&superuser, fingerprints).await;
        for (call, code) in [
            ("CALL tenancy.reseal_secrets(batch_size => 0)", "22023"),
            ("CALL tenancy.reseal_secrets(batch_size => NULL)", "22004"),
            ("BEGIN; CALL tenancy.reseal_secrets()", "2D000"),
            ("ROLLBACK; SELECT tenancy.reseal_batch()", "55000"),
        ] {
            assert_eq!(refused(&superuser, call).await.sqlstate, code, "{call}");
        }
        run(&superuser, &format!("CALL tenancy.reseal_secrets('{GLOBEX}')")).await;
        assert_eq!(count(&superuser, OLD).await, 24, "those of another organization stay");
        run(&superuser, "CALL tenancy.reseal_secrets(batch_size => 10)").await;
        assert_eq!(count(&superuser, OLD).await, 0);
        assert_eq!(count(&superuser, "SELECT count(*) FROM tenancy.verify_secrets()").await, 0);
        assert_all_open(database, &client, 1..25).await;
        assert_eq!(value(&superuser, fingerprints).await, before, "equality still shows");
        let events = "SELECT new_values ->> 'values' FROM tenancy.audit_trail WHERE operation = 'reseal' ORDER BY id";
        assert_eq!(column(&superuser, events).await, ["10", "10", "4"]);
        seal_all(&superuser).await;
        assert_audit_is_whole(&superuser).await;
    });
}

#[test]
fn a_run_that_was_killed_is_gone_on_with_while_others_use_and_change_the_secrets() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        let client = under_an_old_key(database, &superuser, 40).await;
        // Another session holds a secret: the run waits for it, with a batch committed before.
        as_tenant(&client, &database.token("alice")).await;
        run(&client, "SELECT tenancy.destroy_secret('secret 12', 'test')").await;
        let custodian = database.superuser().await;
        run(&custodian, "SET ROLE tenancy_custodian").await;
        let pid = value(&custodian, "SELECT pg_backend_pid()").await;
        let killed = tokio::spawn(async move {
            custodian.batch_execute("CALL tenancy.reseal_secrets(batch_size => 5)").await.unwrap_err()
        });
        eventually(&superuser, &format!("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = {pid}"))
            .await;
        assert_eq!(count(&superuser, OLD).await, 30);
        run(&superuser, &format!("SELECT pg_terminate_backend({pid})")).await;
        killed.await.unwrap();
        run(&client, "COMMIT").await;
        assert_eq!(count(&superuser, OLD).await, 29);
        let custodian = database.superuser().await;
        run(&custodian, "SET ROLE tenancy_custodian").await;
        run(&custodian, "CALL tenancy.reseal_secrets(batch_size => 5)").await;
        assert_eq!(count(&superuser, OLD).await, 0);
        assert_all_open(database, &client, (0..40).filter(|n| *n != 12)).await;
        assert_eq!(count(&superuser, "SELECT count(*) FROM tenancy.verify_secrets()").await, 0);
    });
}

#[test]
fn a_value_that_does_not_open_stays_as_it_is() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        let client = under_an_old_key(database, &superuser, 5).await;
        let flip = "ALTER TABLE tenancy.sealed_value DISABLE TRIGGER keep_secret_keys;
                    UPDATE tenancy.sealed_value SET sealed = set_byte(sealed, 100, get_byte(sealed, 100) # 1)
                     WHERE secret = (SELECT id FROM tenancy.secret WHERE name = 'secret 2');
                    ALTER TABLE tenancy.sealed_value ENABLE ALWAYS TRIGGER keep_secret_keys";
        run(&superuser, flip).await;
        run(&superuser, "CALL tenancy.reseal_secrets(batch_size => 2)").await;
        assert_eq!(count(&superuser, OLD).await, 1);
        assert_eq!(column(&superuser, "SELECT name FROM tenancy.verify_secrets()").await, ["secret 2"]);
        assert_all_open(database, &client, [0, 1, 3, 4]).await;
    });
}

#[test]
fn an_organization_whose_keys_are_destroyed_has_no_secret_left_and_may_begin_anew() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        let client = under_an_old_key(database, &superuser, 3).await;
        let destroy =
            |organization| format!("SELECT tenancy.destroy_data_keys('{organization}', 'offboarded', 'GDPR 17')");
        for role in ["tenancy_custodian", "tenancy_admin", "tenancy_auditor", "tenancy_operator"] {
            let refusal = refused(&superuser, &format!("SET ROLE {role}; {}", destroy(ACME))).await;
            assert_eq!(refusal.sqlstate, "42501", "{role}");
            run(&superuser, "RESET ROLE").await;
        }
        assert_eq!(refused(&superuser, &destroy(INITECH)).await.sqlstate, "55000", "it has no key");
        assert_eq!(refused(&superuser, &destroy(uuid::Uuid::nil())).await.sqlstate, "42704");
        as_tenant(&client, &database.token("bob")).await;
        put(&client, "of Globex", "v").await.unwrap();
        run(&client, "COMMIT").await;
        // A session with the key in memory.
        assert_all_open(database, &client, 0..3).await;
        assert_eq!(count(&superuser, &destroy(ACME)).await, 3);
        as_tenant(&client, &database.token("alice")).await;
        assert_eq!(reveal(&client, "secret 0").await.unwrap_err().sqlstate, "42704");
        run(&client, "ROLLBACK").await;
        let left = "SELECT count(*) FROM tenancy.sealed_value v JOIN tenancy.secret s ON s.id = secret
                     WHERE s.organization = 'aaaaaaaa-0000-4000-8000-000000000001'";
        assert_eq!(count(&superuser, left).await, 0);
        let keys = "SELECT DISTINCT state, wrapped IS NULL FROM tenancy.data_key WHERE organization =
                    'aaaaaaaa-0000-4000-8000-000000000001'";
        assert_eq!(rows(&superuser, keys).await, [vec![Some("destroyed".to_owned()), Some("t".to_owned())]]);
        assert_eq!(refused(&superuser, &destroy(ACME)).await.sqlstate, "55000", "once");
        let event = "SELECT concat_ws(' ', organization, reason, new_values ->> 'values', new_values ->> 'legal_basis')
                       FROM tenancy.audit_trail WHERE operation = 'data_key_destroyed'";
        let nil = uuid::Uuid::nil();
        assert_eq!(column(&superuser, event).await, [format!("{nil} offboarded 3 GDPR 17")]);
        as_tenant(&client, &database.token("bob")).await;
        assert_eq!(reveal(&client, "of Globex").await.as_deref(), Ok("v"), "those of others stay");
        run(&client, "COMMIT").await;
        as_tenant(&client, &database.token("alice")).await;
        put(&client, "new", "v").await.unwrap();
        assert_eq!(reveal(&client, "new").await.as_deref(), Ok("v"));
        run(&client, "COMMIT").await;
        assert_eq!(count(&superuser, "SELECT count(*) FROM tenancy.verify_secrets()").await, 0);
    });
}

#[test]
fn keys_are_destroyed_beside_a_rotation_that_waits_for_the_same_organization() {
    in_database(async |database| {
        let (superuser, client, holder) =
            (database.superuser().await, database.application().await, database.superuser().await);
        with_a_key(&superuser).await;
        prepare(&superuser).await;
        run(&superuser, "SELECT tenancy.set_guardrail('self_approved_action', 'off', 'test')").await;
        let alice = database.token("alice");
        let id = act(&client, &alice, &request("instance.stop")).await.unwrap();
        act(&client, &alice, &format!("SELECT tenancy.decide_action_type('{id}', true, 'test')")).await.unwrap();
        act(&client, &alice, "SELECT tenancy.put_secret('stop', 'one', scope => 'write')").await.unwrap();
        run(&holder, &format!("BEGIN; SELECT FROM tenancy.organization WHERE id = '{ACME}' FOR UPDATE")).await;
        let waiting = |sessions: u32| {
            format!(
                "SELECT count(*) = {sessions} FROM pg_stat_activity
                  WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
        };
        let destroy = format!("SELECT tenancy.destroy_data_keys('{ACME}', 'offboarded')");
        let rotate = "SELECT tenancy.begin_rotation('stop', 'two')";
        let (destroyed, rotated, ()) = tokio::join!(
            try_rows(&superuser, &destroy),
            async {
                let watcher = database.superuser().await;
                eventually(&watcher, &waiting(1)).await;
                act(&client, &alice, rotate).await
            },
            async {
                let watcher = database.superuser().await;
                eventually(&watcher, &waiting(2)).await;
                run(&holder, "COMMIT").await;
            },
        );
        assert_eq!(destroyed.unwrap(), [[Some("1".to_owned())]], "none of them is the victim of a deadlock");
        assert_eq!(rotated.unwrap_err().sqlstate, "42704");
    });
}
