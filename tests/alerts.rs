//! Alerts: who is told, when, and what they learn by it.

use crate::action_types::{act, prepare, request};
use crate::common::*;
use crate::secrets::{put, with_a_key};

const NOTHING: [&str; 0] = [];

#[test]
fn who_listens_is_told_at_the_commit_and_learns_an_id_and_a_kind() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        prepare(&superuser).await;
        let mut listener = Listener::on(&database.config(), &["tenancy_alert"]).await;
        as_tenant(&client, &database.token("alice")).await;
        run(&client, &request("instance.stop")).await;
        assert_eq!(listener.told().await, NOTHING, "before the commit nobody is told");
        run(&client, "ROLLBACK").await;
        assert_eq!(listener.told().await, NOTHING, "nor after a rollback");
        as_tenant(&client, &database.token("alice")).await;
        run(&client, &format!("SAVEPOINT s; {}; ROLLBACK TO s", request("disk.delete"))).await;
        run(&client, &request("instance.stop")).await;
        run(&client, "COMMIT").await;
        let ids = column(&superuser, "SELECT id || ' ' || kind FROM tenancy.alert").await;
        assert_eq!((ids.len(), listener.told().await), (1, ids.clone()));
        act(&client, &database.token("alice"), &request("instance.stop")).await.unwrap();
        assert_eq!(listener.told().await, NOTHING, "the same request again is no other alert");
        let withdraw = "SELECT tenancy.withdraw_action_type('instance.stop', 'test')";
        act(&client, &database.token("alice"), withdraw).await.unwrap();
        let told = listener.told().await;
        assert!(told.len() == 1 && told[0].ends_with(" action_withdrawn"), "{told:?}");
    });
}

#[test]
fn an_alert_is_read_by_who_may_read_what_it_is_about() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        prepare(&superuser).await;
        with_a_key(&superuser).await;
        let alice = database.token("alice");
        let mut listener = Listener::on(&database.config(), &["tenancy_alert"]).await;
        as_tenant(&client, &alice).await;
        put(&client, "a name that tells", "one").await.unwrap();
        run(&client, "COMMIT").await;
        act(&client, &alice, "SELECT tenancy.begin_rotation('a name that tells', 'two')").await.unwrap();
        let report = "SELECT tenancy.report_health('a name that tells', 2, false, 'it does not work')";
        act(&client, &alice, report).await.unwrap();
        let told = listener.told().await;
        assert!(told.len() == 1 && told[0].ends_with(" health_failed") && !told[0].contains("name"), "{told:?}");
        let detail = "SELECT (detail ->> 'name') || ' ' || (detail ->> 'version') || ' ' || (detail -> 'changed')::text
                        FROM tenancy.alert";
        assert_eq!(act(&client, &alice, detail).await.unwrap(), r#"a name that tells 2 {"2": "failed"}"#);

        let count = "SELECT count(*) FROM tenancy.alert";
        assert_eq!(act(&client, &database.token("victor"), count).await.unwrap(), "1", "who reads secrets");
        run(&superuser, "SELECT tenancy.revoke_permission('reader', '*', 'read')").await;
        run(&superuser, "SELECT tenancy.revoke_permission('reader', 'secret', 'read')").await;
        assert_eq!(act(&client, &database.token("victor"), count).await.unwrap(), "0", "who does not");
        assert_eq!(act(&client, &database.token("bob"), count).await.unwrap(), "0", "another organization");
        assert_eq!(refused(&client, count).await.sqlstate, "28000", "without a context");
        for change in ["INSERT INTO tenancy.alert SELECT * FROM tenancy.alert", "DELETE FROM tenancy.alert"] {
            assert_eq!(refused(&superuser, change).await.sqlstate, "42501", "{change}");
        }
    });
}

#[test]
fn a_version_that_is_rolled_back_is_one_alert() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        with_a_key(&superuser).await;
        let alice = database.token("alice");
        as_tenant(&client, &alice).await;
        put(&client, "s", "one").await.unwrap();
        run(&client, "COMMIT").await;
        for (end, sql) in [
            ("by itself", "SELECT tenancy.report_health('s', 2, false)"),
            ("by a call", "SELECT tenancy.roll_back('s', 'test')"),
        ] {
            let begin = format!("SELECT tenancy.begin_rotation('s', '{end}')");
            let version = act(&client, &alice, &begin).await.unwrap();
            for step in ["report_health('s', 2, true)", "promote('s', 2)"] {
                let step = format!("SELECT tenancy.{step}").replace('2', &version);
                act(&client, &alice, &step).await.unwrap_or_else(|refusal| panic!("{step}: {refusal:?}"));
            }
            act(&client, &alice, &sql.replace('2', &version)).await.unwrap();
            let newest = "SELECT kind || ' ' || (detail ->> 'changed') FROM tenancy.alert ORDER BY id DESC LIMIT 1";
            let expected = format!(r#"rolled_back {{"1": "current", "{version}": "failed"}}"#);
            assert_eq!(value(&superuser, newest).await, expected, "{end}");
            let retire = format!("SELECT tenancy.retire('s', {version}, 'test')");
            act(&client, &alice, &retire).await.unwrap();
        }
        assert_eq!(count(&superuser, "SELECT count(*) FROM tenancy.alert").await, 2);
    });
}
