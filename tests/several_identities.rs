//! `tenancy.several_identities`: in a database of tests, and there alone, a transaction acts as one user after another.

use crate::common::*;
use serde_json::json;

const FINDINGS: &str = r#"SELECT count(*) FROM "Finding""#;

async fn permit(database: &Database) {
    let superuser = database.superuser().await;
    run(&superuser, &format!("ALTER DATABASE {} SET tenancy.several_identities = on", database.name)).await;
}

#[test]
fn a_transaction_of_a_database_of_tests_acts_as_one_user_after_another() {
    in_database(async |database| {
        permit(database).await;
        let client = database.application().await;
        let [alice, bob] = ["alice", "bob"].map(|subject| database.token(subject));
        as_tenant(&client, &alice).await;
        assert_eq!(count(&client, FINDINGS).await, 5);
        run(&client, r#"INSERT INTO "Finding" (title) VALUES ('of alice')"#).await;

        // Bob does not find what Alice wrote a moment before, nor can he touch it.
        authenticate(&client, &bob).await.unwrap();
        assert_eq!(count(&client, FINDINGS).await, 7);
        assert_eq!(changed(&client, r#"UPDATE "Finding" SET title = 'mine' WHERE title = 'of alice'"#).await, 0);

        // A savepoint brings back who was there before it.
        run(&client, "SAVEPOINT request").await;
        authenticate(&client, &alice).await.unwrap();
        assert_eq!(count(&client, FINDINGS).await, 6);
        run(&client, "ROLLBACK TO request").await;
        assert_eq!(count(&client, FINDINGS).await, 7);
        run(&client, "RELEASE request").await;

        authenticate(&client, &alice).await.unwrap();
        let own = r#"SELECT title FROM "Finding" WHERE title ~ 'alice'"#;
        assert_eq!(column(&client, own).await, ["of alice"]);
        run(&client, "COMMIT").await;

        let events = "SELECT subject || '|' || organization FROM tenancy.audit_trail
                       WHERE operation = 'change_identity' ORDER BY id";
        let recorded = column(&database.superuser().await, events).await;
        assert_eq!(recorded, [format!("bob|{GLOBEX}"), format!("alice|{ACME}")]);
    });
}

#[test]
fn cursors_of_one_user_keep_the_next_one_out() {
    in_database(async |database| {
        permit(database).await;
        let client = database.application().await;
        as_tenant(&client, &database.token("alice")).await;
        run(&client, r#"DECLARE left_over CURSOR FOR SELECT title FROM "Finding""#).await;
        let refusal = authenticate(&client, &database.token("bob")).await.unwrap_err();
        assert_eq!(refusal.sqlstate, "28000");
        assert!(refusal.message.contains("cursor"), "{}", refusal.message);
    });
}

#[test]
fn only_a_superusers_setting_of_the_database_permits_it() {
    in_database(async |database| {
        let (superuser, name) = (database.superuser().await, &database.name);
        let elsewhere = [
            "SET tenancy.several_identities = on".to_owned(),
            "SET LOCAL tenancy.several_identities = true".to_owned(),
            "SELECT set_config('tenancy.several_identities', 'on', false)".to_owned(),
            "ALTER SYSTEM SET tenancy.several_identities = on".to_owned(),
        ];
        for sql in &elsewhere {
            // The library is loaded, so that the setting is known.
            run(&superuser, "SELECT tenancy.whoami()").await;
            refused(&superuser, sql).await;
        }
        for client in [database.owner().await, database.application().await] {
            for sql in elsewhere.iter().take(3) {
                refused(&client, sql).await;
            }
            let alter = format!("ALTER DATABASE {name} SET tenancy.several_identities = on");
            assert_eq!(refused(&client, &alter).await.sqlstate, "42501");
        }

        // A default of a role, or an option of the connection, does not count.
        let of_the_role = format!("ALTER ROLE {APPLICATION} IN DATABASE {name} SET tenancy.several_identities = on");
        run(&superuser, &of_the_role).await;
        let mut config = database.config();
        config.user(APPLICATION);
        for options in [None, Some("-c tenancy.several_identities=on")] {
            let mut config = config.clone();
            if let Some(options) = options {
                config.options(options);
            }
            let Ok(client) = try_connect(&config).await else { continue };
            as_tenant(&client, &database.token("alice")).await;
            assert_eq!(count(&client, FINDINGS).await, 5);
            let refusal = authenticate(&client, &database.token("bob")).await.unwrap_err();
            assert_eq!(refusal.message, "this transaction has another identity already");
        }
    });
}

#[test]
fn the_advisor_finds_it_and_its_remedy_ends_it() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        let rule = "SELECT remediation FROM tenancy.advise('error') WHERE rule = 'several_identities'";
        assert!(column(&superuser, rule).await.is_empty());
        permit(database).await;
        let remedy = column(&superuser, rule).await;
        assert_eq!(remedy, [format!("ALTER DATABASE {} RESET tenancy.several_identities", database.name)]);
        run(&superuser, &remedy[0]).await;
        assert!(column(&superuser, rule).await.is_empty());
        let client = database.application().await;
        as_tenant(&client, &database.token("alice")).await;
        assert_eq!(whoami(&client).await["subject"], json!("alice"));
        assert_eq!(authenticate(&client, &database.token("bob")).await.unwrap_err().sqlstate, "28000");
    });
}
