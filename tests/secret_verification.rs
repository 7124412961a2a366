//! What was altered, moved or lost of secrets: no such value opens, and `verify_secrets` names each.

use crate::common::*;
use crate::secret_keys::{add, on_a_server};
use crate::secrets::{put, reveal, with_a_key};
use jsonwebtoken::Algorithm;
use tokio_postgres::Client;

const VERIFY: &str = "SELECT concat_ws(' ', name, version, outcome) FROM tenancy.verify_secrets() ORDER BY 1";

/// Lets the superuser change the tables in the open transaction, as somebody does who takes the guard away.
async fn open_the_guard(client: &Client) {
    for table in ["secret", "secret_version", "sealed_value", "data_key", "key_encryption_key"] {
        run(client, &format!("ALTER TABLE tenancy.{table} DISABLE TRIGGER keep_secret_keys")).await;
    }
}

/// What a change of the tables does to the secret `aws`: how its reveal fails, and what `verify_secrets` says.
async fn after(client: &Client, change: &str) -> (Option<String>, Vec<String>) {
    run(client, &format!("SAVEPOINT change; {change}; SELECT tenancy.forget_keys()")).await;
    let found = column(client, VERIFY).await;
    let revealed = reveal(client, "aws").await;
    run(client, "ROLLBACK TO change; RELEASE change").await;
    (revealed.err().map(|refusal| refusal.sqlstate), found)
}

/// A database with the secret `aws` and others, and a superuser in a transaction of Alice's with the guard open.
fn with_an_open_guard(test: impl AsyncFnOnce(&Client)) {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        with_a_key(&superuser).await;
        as_tenant(&client, &database.token("bob")).await;
        put(&client, "aws", "a value of Globex").await.unwrap();
        run(&client, "COMMIT").await;
        as_tenant(&client, &database.token("alice")).await;
        for name in ["aws", "gcp"] {
            put(&client, name, &format!("the value of {name}")).await.unwrap();
        }
        run(&client, "COMMIT").await;
        assert_eq!(column(&superuser, VERIFY).await, [""; 0], "all is well at first");
        as_tenant(&superuser, &database.token("alice")).await;
        open_the_guard(&superuser).await;
        test(&superuser).await;
        run(&superuser, "ROLLBACK").await;
    });
}

const AWS: &str = "(SELECT id FROM tenancy.secret WHERE name = 'aws' AND organization = tenancy.org_id())";
const GCP: &str = "(SELECT id FROM tenancy.secret WHERE name = 'gcp')";
const OF_GLOBEX: &str = "(SELECT id FROM tenancy.secret WHERE organization <> tenancy.org_id())";

#[test]
fn no_byte_of_what_is_sealed_or_wrapped_can_be_altered_unseen() {
    with_an_open_guard(async |client| {
        let key = format!("(SELECT data_key FROM tenancy.secret_version WHERE secret = {AWS})");
        for (table, column, row) in [
            ("sealed_value", "sealed", format!("secret = {AWS}")),
            ("data_key", "wrapped", format!("id = {key}")),
            ("key_encryption_key", "canary", "true".to_owned()),
            ("key_encryption_key", "canary_digest", "true".to_owned()),
        ] {
            let bytes = format!("SELECT octet_length({column}) FROM tenancy.{table} WHERE {row}");
            let bytes = count(client, &bytes).await;
            assert!(bytes >= 32, "{column}");
            for byte in 0..bytes {
                let flipped = format!("set_byte({column}, {byte}, get_byte({column}, {byte}) # 1)");
                let change = format!("UPDATE tenancy.{table} SET {column} = {flipped} WHERE {row}");
                let (refused, found) = after(client, &change).await;
                assert!(refused.is_some(), "byte {byte} of {column} was altered, and the value revealed");
                let expected = if table == "key_encryption_key" {
                    3
                } else if table == "data_key" {
                    2
                } else {
                    1
                };
                assert_eq!(found.len(), expected, "byte {byte} of {column}: {found:?}");
            }
            for change in ["substr({}, 2)", "{} || '\\x00'", "''::bytea"] {
                let change = change.replace("{}", column);
                let change = format!("UPDATE tenancy.{table} SET {column} = {change} WHERE {row}");
                if column == "canary_digest" {
                    continue;
                }
                let (refused, found) = after(client, &change).await;
                assert!(refused.is_some() && !found.is_empty(), "{change}: {refused:?} {found:?}");
            }
        }
    });
}

#[test]
fn a_value_opens_at_its_own_place_alone() {
    with_an_open_guard(async |client| {
        let of = |place: &str, row: &str| format!("UPDATE tenancy.{place} WHERE {row}");
        let aws = format!("secret = {AWS}");
        let swap = |other: &str| {
            format!(
                "CREATE TEMPORARY TABLE swapped ON COMMIT DROP AS SELECT * FROM tenancy.sealed_value;
                 UPDATE tenancy.sealed_value v SET sealed = s.sealed FROM swapped s
                  WHERE v.secret = {AWS} AND s.secret = {other} OR v.secret = {other} AND s.secret = {AWS}"
            )
        };
        for (change, expected) in [
            (of("secret_version SET scope = 'write'", &aws), vec!["aws 1 misplaced"]),
            (of("secret SET kind = 'api_token'", &format!("id = {AWS}")), vec!["aws 1 misplaced"]),
            (of("secret SET name = 'azure'", &format!("id = {GCP}")), vec!["azure 1 misplaced"]),
            (
                format!(
                    "ALTER TABLE tenancy.sealed_value DROP CONSTRAINT sealed_value_secret_number_fkey;
                     {}; {}",
                    of("secret_version SET number = 2", &aws),
                    of("sealed_value SET number = 2", &aws)
                ),
                vec!["aws 2 misplaced"],
            ),
            (swap(GCP), vec!["aws 1 altered", "gcp 1 altered"]),
            (swap(OF_GLOBEX), vec!["aws 1 misplaced", "aws 1 misplaced"]),
            (format!("DELETE FROM tenancy.sealed_value WHERE {aws}"), vec!["aws 1 value_missing"]),
            (of("secret_version SET sealed_digest = sha256('')", &aws), vec!["aws 1 altered"]),
            (of("secret_version SET data_key = NULL", &aws), vec!["aws 1 altered"]),
            (
                of(
                    "secret_version v SET data_key = o.data_key FROM tenancy.secret_version o",
                    &format!("v.{aws} AND o.secret = {OF_GLOBEX}"),
                ),
                vec!["aws 1 misplaced"],
            ),
            (of(&format!("secret_version SET organization = '{GLOBEX}'"), &aws), vec!["aws 1 misplaced"]),
        ] {
            let (refused, found) = after(client, &change).await;
            assert_eq!(found, expected, "{change}");
            let reveals =
                change.contains("azure") || change.contains("sealed_digest") || change.contains("organization =");
            assert!(refused.is_some() || reveals, "{change} was not refused");
        }
    });
}

#[test]
fn without_its_key_each_value_is_named_and_with_it_all_open_again() {
    on_a_server("verification", async |keys, client| {
        let issuer = issuer::Issuer::generate();
        let set_up = format!(
            "SELECT tenancy.set_issuer('{}', '{{{}}}', $jwks${}$jwks$),
                    tenancy.set_membership('{ACME}', 'alice', 'admin')",
            issuer::ISSUER,
            issuer::AUDIENCE,
            issuer.public_key_set()
        );
        run(client, &set_up).await;
        let token = issuer.sign(Algorithm::ES256, &issuer.claims("alice"));
        for (id, provider) in [("a", "ring"), ("c", "command")] {
            add(client, id, provider).await;
            run(client, &format!("SELECT tenancy.rotate_data_key('{ACME}', 'test')")).await;
            as_tenant(client, &token).await;
            put(client, &format!("under {id}"), &"x".repeat(3000)).await.unwrap();
            run(client, "COMMIT").await;
        }
        assert_eq!(column(client, VERIFY).await, [""; 0]);
        let ring = keys.read("keys");
        keys.write("keys", "# no key\n");
        assert_eq!(column(client, VERIFY).await, ["under a 1 key_missing"]);
        run(client, "SELECT tenancy.forget_keys()").await;
        as_tenant(client, &token).await;
        let missing = reveal(client, "under a").await.unwrap_err();
        assert_eq!((missing.sqlstate.as_str(), missing.message.contains("\"a\"")), ("F0000", true), "{missing:?}");
        run(client, "ROLLBACK").await;
        keys.write("keys", "a /wECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n");
        assert_eq!(column(client, VERIFY).await, ["under a 1 key_wrong"]);
        keys.write("keys", &ring);
        let service = keys.read("service");
        keys.write("service", "exit 1");
        assert_eq!(column(client, VERIFY).await, ["under c 1 key_missing"]);
        keys.write("service", &service);
        assert_eq!(column(client, VERIFY).await, [""; 0]);
        let other = format!("SELECT count(*) FROM tenancy.verify_secrets('{GLOBEX}')");
        assert_eq!(count(client, &other).await, 0);
        // One service run for all keys that are under its key.
        run(client, &format!("SELECT tenancy.rotate_data_key('{ACME}', 'test')")).await;
        as_tenant(client, &token).await;
        put(client, "under another", "v").await.unwrap();
        run(client, "COMMIT").await;
        keys.write("runs", "");
        assert_eq!(column(client, VERIFY).await, [""; 0]);
        assert_eq!(keys.read("runs").lines().count(), 1);
    });
}
