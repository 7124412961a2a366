//! From CREATE EXTENSION to DROP EXTENSION, by way of a dump and a restore.

mod common;

use common::*;
use serde_json::json;

const FINDINGS: &str = r#"SELECT count(*) FROM "Finding""#;

#[test]
fn only_a_superuser_creates_the_extension() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        run(
            &superuser,
            &format!("DROP EXTENSION pg_tenancy CASCADE; GRANT ALL ON DATABASE {} TO {OWNER}", database.name),
        )
        .await;
        let refusal = refused(&database.owner().await, "CREATE EXTENSION pg_tenancy").await;
        assert_eq!((refusal.sqlstate.as_str(), refusal.hint.is_some()), ("42501", true), "{refusal:?}");
        run(&superuser, "CREATE EXTENSION pg_tenancy").await;
    });
}

#[test]
fn a_schema_of_an_ordinary_role_is_not_taken_over() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        run(&superuser, &format!("DROP EXTENSION pg_tenancy CASCADE; DROP SCHEMA IF EXISTS tenancy; CREATE SCHEMA tenancy AUTHORIZATION {OWNER}")).await;
        let refusal = refused(&superuser, "CREATE EXTENSION pg_tenancy").await;
        assert_eq!((refusal.sqlstate.as_str(), refusal.hint.is_some()), ("42501", true), "{refusal:?}");
        assert_eq!(count(&superuser, "SELECT count(*) FROM pg_extension WHERE extname = 'pg_tenancy'").await, 0);
    });
}

#[test]
fn a_database_of_another_encoding_is_refused() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        let name = format!("{}_latin1", database.name);
        run(
            &superuser,
            &format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'"),
        )
        .await;
        let client = connect(database.config().dbname(&name)).await;
        let refusal = refused(&client, "CREATE EXTENSION pg_tenancy").await;
        assert_eq!((refusal.sqlstate.as_str(), refusal.hint.is_some()), ("0A000", true), "{refusal:?}");
        run(&superuser, &format!("DROP DATABASE {name} WITH (FORCE)")).await;
    });
}

#[test]
fn dropping_the_extension_closes_the_tables_rather_than_opening_them() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        as_tenant(&client, &database.token("alice")).await;
        run(&client, r#"UPDATE "Finding" SET title = 'x'; COMMIT"#).await;
        assert_eq!(refused(&superuser, "DROP EXTENSION pg_tenancy").await.sqlstate, "2BP01");
        run(&superuser, "DROP EXTENSION pg_tenancy CASCADE").await;
        // The rows are all there, and without the policies nobody but a superuser sees one.
        assert_eq!(count(&superuser, FINDINGS).await, 12);
        for client in [&client, &database.application().await, &database.owner().await] {
            assert_eq!(count(client, FINDINGS).await, 0);
            let insert = format!(r#"INSERT INTO "Finding" ("organizationId", title) VALUES ('{ACME}', 'x')"#);
            assert_eq!(refused(client, &insert).await.sqlstate, "42501");
            assert_eq!(changed(client, r#"UPDATE "Finding" SET title = 'y'"#).await, 0);
        }
        // Nothing of the extension is in the way of the superuser who takes it from here, or of a second CREATE.
        run(&superuser, &format!(r#"INSERT INTO "Finding" ("organizationId", title) VALUES ('{ACME}', 'x')"#)).await;
        run(
            &superuser,
            "CREATE EXTENSION pg_tenancy; SELECT tenancy.protect('\"Finding\"'), tenancy.protect('cloud_account')",
        )
        .await;
        assert_eq!(refused(&client, FINDINGS).await.sqlstate, "28000");
    });
}

#[test]
fn unprotecting_first_leaves_tables_that_work_without_the_extension() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        run(
            &superuser,
            "SELECT tenancy.unprotect('\"Finding\"'), tenancy.unprotect('cloud_account'); DROP EXTENSION pg_tenancy",
        )
        .await;
        assert_eq!(count(&client, FINDINGS).await, 12);
        assert_eq!(changed(&client, r#"UPDATE "Finding" SET title = 'y'"#).await, 12);
    });
}

#[test]
fn a_restored_dump_is_protected_verifies_and_goes_on() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        for (subject, sealed) in [("alice", true), ("bob", false)] {
            as_tenant(&client, &database.token(subject)).await;
            run(&client, r#"UPDATE "Finding" SET title = title || '!'; INSERT INTO cloud_account (external_id) VALUES ('new'); COMMIT"#).await;
            if sealed {
                seal(&superuser).await;
            }
        }
        // A restore adds events of the policies that it makes, and none of the rows and settings that it brings.
        let of_rows = "SELECT count(*) FROM tenancy.event WHERE domain <> 'schema'";
        let events = count(&superuser, of_rows).await;
        let restored = database.restore_a_dump().await;

        let superuser_there = connect(database.config().dbname(&restored)).await;
        let client = connect(database.config().dbname(&restored).user(APPLICATION)).await;
        assert_eq!(count(&superuser_there, of_rows).await, events);
        assert_eq!(refused(&client, FINDINGS).await.sqlstate, "28000");
        assert_audit_is_whole(&superuser_there).await;
        for (subject, findings) in [("alice", 5), ("bob", 7)] {
            as_tenant(&client, &database.token(subject)).await;
            assert_eq!(count(&client, FINDINGS).await, findings);
            run(&client, r#"UPDATE "Finding" SET title = title || '?'; COMMIT"#).await;
        }
        assert_eq!(seal(&superuser_there).await, 12);
        assert_audit_is_whole(&superuser_there).await;
        let plan = r#"SELECT state FROM tenancy.plan('"Finding"') WHERE state <> 'done'"#;
        assert_eq!(
            column(&superuser_there, plan).await,
            Vec::<String>::new(),
            "the dump lost a part of the protection"
        );
        drop((superuser_there, client));
        run(&superuser, &format!("DROP DATABASE {restored} WITH (FORCE)")).await;
    });
}

#[test]
fn no_error_takes_the_server_or_the_session_down() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        for _ in 0..50 {
            authenticate(&client, "x.y.z").await.unwrap_err();
            refused(&client, "SELECT tenancy.authorize('finding', 'read')").await;
            refused(&client, "SELECT tenancy.org_id_bigint()").await;
            refused(&superuser, "SELECT tenancy.protect('pg_class')").await;
            refused(&superuser, "SELECT tenancy.set_issuer('x', ARRAY['y'], '{\"keys\": []}')").await;
            refused(&superuser, "SELECT tenancy.audit_row()").await;
            refused(&superuser, "SELECT tenancy.plan(0)").await;
        }
        assert_eq!(whoami(&client).await, json!({"authenticated": false}));
        // `in_database` compares the start of the server's processes.
    });
}
