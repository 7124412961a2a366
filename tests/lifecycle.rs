//! From CREATE EXTENSION to DROP EXTENSION, by way of a dump and a restore.

use crate::common::server::{Folder, Server, programs};
use crate::common::*;
use serde_json::json;
use tokio_postgres::Client;

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
        run(
            &superuser,
            &format!(
                "DROP EXTENSION pg_tenancy CASCADE; DROP SCHEMA IF EXISTS tenancy; CREATE SCHEMA \
            tenancy AUTHORIZATION {OWNER}"
            ),
        )
        .await;
        let refusal = refused(&superuser, "CREATE EXTENSION pg_tenancy").await;
        assert_eq!((refusal.sqlstate.as_str(), refusal.hint.is_some()), ("42501", true), "{refusal:?}");
        assert_eq!(count(&superuser, "SELECT count(*) FROM pg_extension WHERE extname = 'pg_tenancy'").await, 0);
    });
}

/// Makes the database one without the extension, where a role of its own may create objects.
async fn without_extension(superuser: &Client, sql: &str) {
    run(superuser, &format!("DROP EXTENSION pg_tenancy CASCADE; DROP SCHEMA IF EXISTS tenancy; {sql}")).await;
}

#[test]
fn a_schema_where_others_may_create_or_have_created_is_not_taken_over() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        without_extension(&superuser, "CREATE SCHEMA tenancy").await;
        let grants =
            [format!("GRANT CREATE ON SCHEMA tenancy TO {OWNER}"), "GRANT USAGE ON SCHEMA tenancy TO PUBLIC".into()];
        let objects = [
            "TABLE t ()",
            "FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "TYPE e AS ENUM ('a')",
            "SEQUENCE s",
            "COLLATION c (locale = 'C')",
        ];
        let objects = objects.map(|object| format!("SET search_path = tenancy; CREATE {object}; RESET search_path"));
        let default = format!("ALTER DEFAULT PRIVILEGES IN SCHEMA tenancy GRANT SELECT ON TABLES TO {OWNER}");
        for made in grants.into_iter().chain(objects).chain([default]) {
            run(&superuser, &format!("BEGIN; {made}")).await;
            let refusal = refused(&superuser, "CREATE EXTENSION pg_tenancy").await;
            assert_eq!((refusal.sqlstate.as_str(), refusal.hint.is_some()), ("55000", true), "{made}: {refusal:?}");
            assert!(refusal.detail.is_some(), "{made}");
            run(&superuser, "ROLLBACK").await;
        }
        // The control: an empty schema of a superuser's is taken.
        run(&superuser, "CREATE EXTENSION pg_tenancy").await;
    });
}

#[test]
fn no_event_goes_into_a_table_that_stands_where_a_partition_would() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        // Before the first event, there is no partition yet. Somebody may create in the schema, by a DBA's grant.
        let grant = format!(
            "CREATE EXTENSION pg_tenancy; GRANT USAGE, CREATE ON SCHEMA tenancy TO {OWNER}; GRANT SELECT ON \
                tenancy.event_batch TO {OWNER}"
        );
        without_extension(&superuser, &grant).await;
        let partition =
            value(&superuser, "SELECT 'tenancy.event_batch_' || to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')").await;
        assert_eq!(value(&superuser, &format!("SELECT to_regclass('{partition}') IS NULL")).await, "t");
        let other_types = "id bytea, organization bytea, actor bytea, transaction bytea, ordinal bytea, events bytea, \
            occurred_at bytea, operation int, domain int,
            table_schema int, table_name int, result int, reason int, row_key int, payload int, salt int, \
            payload_digest int, packed int, encoding bytea,
            prev_hash int, hash int";
        let protect = r#"SELECT tenancy.protect('"Finding"')"#;
        for made in [
            format!("CREATE TABLE {partition} AS SELECT * FROM tenancy.event_batch LIMIT 0"),
            format!("CREATE TABLE {partition} ({other_types})"),
            format!(
                "CREATE TABLE tenancy.mine (LIKE tenancy.event_batch) PARTITION BY RANGE (id); CREATE TABLE \
                    {partition} \
                    PARTITION OF tenancy.mine DEFAULT"
            ),
            format!(
                "CREATE TABLE tenancy.mine ({other_types}) PARTITION BY RANGE (id); CREATE TABLE {partition} \
                    PARTITION OF tenancy.mine DEFAULT"
            ),
            format!("CREATE VIEW {partition} AS SELECT 1"),
            format!("CREATE UNLOGGED TABLE {partition} (LIKE tenancy.event_batch)"),
        ] {
            run(&superuser, &format!("BEGIN; SET ROLE {OWNER}; {made}; RESET ROLE")).await;
            let refusal = refused(&superuser, protect).await;
            assert_eq!((refusal.sqlstate.as_str(), refusal.hint.is_some()), ("55000", true), "{made}: {refusal:?}");
            run(&superuser, "ROLLBACK").await;
        }
        // The control: nothing but that table was in the way.
        run(&superuser, protect).await;
        assert!(count(&superuser, &format!("SELECT count(*) FROM {partition}")).await > 0);
    });
}

#[test]
fn a_partition_with_columns_of_other_types_is_an_error_and_no_crash() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        // A superuser only could do this to a table that is attached; in memory of the types, a text would be read
        // as a number.
        let partition = value(
            &superuser,
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = \
            'tenancy.event_batch'::regclass ORDER BY 1 LIMIT 1",
        )
        .await;
        run(
            &superuser,
            &format!(
                "UPDATE pg_attribute SET atttypid = 'bytea'::regtype WHERE attrelid = \
            '{partition}'::regclass AND attname = 'ordinal'"
            ),
        )
        .await;
        for _ in 0..2 {
            as_tenant(&client, &database.token("alice")).await;
            let refusal = refused(&client, r#"UPDATE "Finding" SET title = 'x'"#).await;
            assert!(["55000", "XX001"].contains(&refusal.sqlstate.as_str()), "{refusal:?}");
            run(&client, "ROLLBACK").await;
        }
    });
}

#[test]
fn roles_that_were_there_are_told_of() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        let psql = database.program("psql");
        // Roles belong to the cluster: what is changed of them is rolled back.
        let member = format!("{}_member", database.name);
        let script = format!(
            "BEGIN; DROP EXTENSION pg_tenancy CASCADE; CREATE ROLE {member}; GRANT tenancy_auditor TO {member};
             ALTER ROLE tenancy_auditor BYPASSRLS CREATEROLE; CREATE EXTENSION pg_tenancy; ROLLBACK;"
        );
        let told = run_script(psql, script.as_bytes());
        assert!(
            told.contains(r#"WARNING:  role "tenancy_auditor" exists and has attributes: BYPASSRLS, CREATEROLE"#),
            "{told}"
        );
        assert!(
            told.contains(&member) && told.contains(r#"WARNING:  role "tenancy_auditor" exists and has members: "#),
            "{told}"
        );
        assert_eq!(count(&superuser, &format!("SELECT count(*) FROM pg_roles WHERE rolname = '{member}'")).await, 0);
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
            run(
                &client,
                r#"UPDATE "Finding" SET title = title || '!'; INSERT INTO cloud_account (external_id) VALUES
                ('new'); COMMIT"#,
            )
            .await;
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

/// A server without a preloaded library, where no other database knows the roles.
#[test]
fn the_last_database_drops_the_roles_with_the_extension_and_says_what_is_in_the_way() {
    let Some((folder, bin)) = Folder::create("roles").zip(programs()) else { return skipped("no server of its own") };
    let server = Server::at(&bin, folder.0.join("data"));
    server.initialize();
    server.start(&format!("-c unix_socket_directories={}", std::env::var("PGHOST").unwrap()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (config, drop) = (server.config(), "SELECT tenancy.drop_roles()");
        let superuser = connect(&config).await;
        for sql in ["CREATE EXTENSION pg_tenancy", "CREATE DATABASE other", "CREATE ROLE owner"] {
            run(&superuser, sql).await;
        }
        run(&superuser, "CREATE TABLE doc (id integer, organization_id uuid NOT NULL)").await;
        run(&superuser, "SELECT tenancy.protect('doc')").await;

        // The session that drops the extension has not loaded the library.
        let refusal = refused(&connect(&config).await, "DROP EXTENSION pg_tenancy").await;
        assert_eq!(refusal.sqlstate, "2BP01");
        assert_eq!(refusal.message, "cannot drop extension pg_tenancy while tables are protected");
        assert_eq!(refusal.detail.as_deref(), Some("Protected: public.doc."));
        let refusal = refused(&superuser, drop).await;
        assert!(refusal.sqlstate == "55000" && refusal.hint.unwrap().contains("tenancy.unprotect"));
        run(&superuser, r#"SELECT tenancy.unprotect("table") FROM tenancy.protected_tables()"#).await;

        let mut other = config.clone();
        let there = connect(other.dbname("other")).await;
        run(&there, "CREATE EXTENSION pg_tenancy").await;
        let refusal = refused(&superuser, drop).await;
        assert_eq!((refusal.sqlstate.as_str(), refusal.detail.as_deref()), ("2BP01", Some("Databases: other.")));
        run(&there, "DROP EXTENSION pg_tenancy; DROP SCHEMA tenancy").await;

        run(&superuser, "CREATE TABLE kept (); ALTER TABLE kept OWNER TO tenancy_admin").await;
        let refusal = refused(&superuser, drop).await;
        assert_eq!(
            (refusal.sqlstate.as_str(), refusal.detail.as_deref()),
            ("2BP01", Some("Owned: table public.kept."))
        );
        run(&superuser, "ALTER TABLE kept OWNER TO owner; GRANT SELECT ON kept TO tenancy_application").await;
        run(&superuser, "SET ROLE owner").await;
        assert_eq!(refused(&superuser, drop).await.sqlstate, "42501");
        run(&superuser, "RESET ROLE").await;

        run(&superuser, &format!("BEGIN; {drop}; DROP EXTENSION pg_tenancy; COMMIT")).await;
        let left = "SELECT rolname FROM pg_roles WHERE rolname LIKE 'tenancy%'";
        assert_eq!(column(&superuser, left).await, Vec::<String>::new());
        assert_eq!(count(&superuser, "SELECT count(*) FROM kept").await, 0);
        run(&superuser, "CREATE EXTENSION pg_tenancy").await;
        assert_eq!(column(&superuser, left).await.len(), 6);
    });
}
