//! Redaction over real connections: the key of commitments in a file that changes, in dumps, and what is sealed.

use crate::common::*;
use tokio_postgres::Client;

const ONE_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const OTHER_KEY: &str = "/wECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// Gives the database a key of its own, and a secret column; returns the name of the key's file.
async fn with_secret_title(database: &Database) -> String {
    let superuser = database.superuser().await;
    let file = format!("commitment-{}", database.name);
    write_key_file(&superuser, &file, ONE_KEY).await;
    let folder = value(&superuser, "SHOW tenancy.jwks_directory").await;
    run(&superuser, &format!("ALTER DATABASE {} SET tenancy.commitment_key_file = '{folder}/{file}'", database.name))
        .await;
    let superuser = database.superuser().await;
    run(&superuser, r#"SELECT tenancy.protect('"Finding"', secret_columns => '{title}')"#).await;
    file
}

const NEWEST: &str = r#"SELECT payload::text FROM tenancy.event WHERE table_name = 'Finding' AND domain <> 'schema'
    ORDER BY id DESC LIMIT 1"#;

async fn key_of_newest(superuser: &Client) -> String {
    let payload: serde_json::Value = serde_json::from_str(&value(superuser, NEWEST).await).unwrap();
    payload["commitments"]["key"].as_str().unwrap().to_owned()
}

#[test]
fn a_running_session_takes_up_a_new_key_and_writes_nothing_without_one() {
    in_database(async |database| {
        let file = with_secret_title(database).await;
        let (client, superuser) = (database.application().await, database.superuser().await);
        let change = r#"UPDATE "Finding" SET title = title || '!' WHERE id = 1"#;
        for _ in 0..2 {
            as_tenant(&client, &database.token("alice")).await;
            run(&client, &format!("{change}; COMMIT")).await;
        }
        let before = key_of_newest(&superuser).await;
        write_key_file(&superuser, &file, OTHER_KEY).await;
        as_tenant(&client, &database.token("alice")).await;
        run(&client, &format!("{change}; COMMIT")).await;
        let after = key_of_newest(&superuser).await;
        assert_ne!(before, after);
        let folder = value(&superuser, "SHOW tenancy.jwks_directory").await;
        run(&superuser, &format!("COPY (SELECT) TO PROGRAM 'cat >/dev/null; rm \"{folder}/{file}\"'")).await;
        let title = value(&superuser, r#"SELECT title FROM "Finding" WHERE id = 1"#).await;
        as_tenant(&client, &database.token("alice")).await;
        let refusal = refused_within(&client, change).await;
        assert_eq!(refusal.sqlstate, "F0000");
        assert!(!format!("{refusal:?}").contains("acme finding"), "{refusal:?}");
        run(&client, "ROLLBACK").await;
        assert_eq!(value(&superuser, r#"SELECT title FROM "Finding" WHERE id = 1"#).await, title);
        assert_audit_is_whole(&superuser).await;
    });
}

#[test]
fn a_secret_column_stays_secret_in_a_restored_dump() {
    in_database(async |database| {
        with_secret_title(database).await;
        let superuser = database.superuser().await;
        run(&superuser, r#"UPDATE "Finding" SET title = 'a very secret title' WHERE id = 1"#).await;
        let expected = value(&superuser, NEWEST).await;
        let restored = database.restore_a_dump().await;
        let copy = connect(database.config().dbname(&restored)).await;
        assert_eq!(value(&copy, NEWEST).await, expected);
        assert_eq!(count(&copy, "SELECT count(*) FROM tenancy.drift()").await, 0);
        run(&copy, r#"UPDATE "Finding" SET title = 'another secret title' WHERE id = 1"#).await;
        let payload = value(&copy, NEWEST).await;
        assert!(payload.contains("commitments") && !payload.contains("secret title"), "{payload}");
        let held = r#"SELECT count(*) FROM tenancy.event e WHERE e::text LIKE '%secret title%'"#;
        assert_eq!(count(&copy, held).await, 0);
        drop(copy);
        run(&superuser, &format!("DROP DATABASE {restored} WITH (FORCE)")).await;
    });
}
