//! The context over real connections: where it ends, what it follows, and who cannot give it a value.

use std::time::Duration;

use crate::common::issuer::ISSUER;
use crate::common::*;
use pg_tenancy_core::context::{Context, Organization, Scope};
use pg_tenancy_core::controls::permission_set::PermissionSet;
use serde_json::json;
use tokio_postgres::Client;

const FINDINGS: &str = r#"SELECT count(*) FROM "Finding""#;

async fn assert_no_access(client: &Client) {
    assert_eq!(whoami(client).await, json!({"authenticated": false}));
    let statements =
        [FINDINGS, "SELECT count(*) FROM cloud_account", "SELECT tenancy.org_id()", "SELECT tenancy.claims()"];
    // Row-level security is not for superusers; the accessors are the same for them.
    let superuser = value(client, "SHOW is_superuser").await == "on";
    for sql in statements.into_iter().skip(if superuser { 2 } else { 0 }) {
        let refusal = refused(client, sql).await;
        assert_eq!(refusal.sqlstate, "28000", "{sql}");
        assert!(refusal.hint.unwrap().contains("tenancy.authenticate"), "{sql}");
    }
}

#[test]
fn the_context_ends_with_the_transaction_whichever_way_that_goes() {
    in_database(async |database| {
        let client = database.application().await;
        let token = database.token("alice");
        for end in ["COMMIT", "ROLLBACK", "SELECT 1/0", "COMMIT AND CHAIN", "ROLLBACK AND CHAIN"] {
            as_tenant(&client, &token).await;
            assert_eq!(count(&client, FINDINGS).await, 5);
            if client.batch_execute(end).await.is_err() {
                run(&client, "ROLLBACK").await;
            }
            assert_eq!(whoami(&client).await, json!({"authenticated": false}), "{end}");
            assert_eq!(refused(&client, FINDINGS).await.sqlstate, "28000", "{end}");
            run(&client, "ROLLBACK").await;
        }
        authenticate(&client, &token).await.unwrap(); // a transaction of its own
        assert_no_access(&client).await;
        let both = format!("SELECT tenancy.authenticate('{token}')::text; {FINDINGS}");
        assert_eq!(column(&client, &both).await, [ACME.to_string(), "5".to_owned()]);
        assert_no_access(&client).await;
    });
}

#[test]
fn the_context_ends_at_a_commit_inside_a_procedure() {
    in_database(async |database| {
        let client = database.application().await;
        let sql = format!(
            r#"DO $$ BEGIN
                 PERFORM tenancy.authenticate('{}');
                 PERFORM count(*) FROM "Finding";
                 COMMIT;
                 IF tenancy.whoami() ->> 'authenticated' <> 'false' THEN RAISE 'still authenticated'; END IF;
                 PERFORM count(*) FROM "Finding";
               END $$"#,
            database.token("alice")
        );
        assert_eq!(refused(&client, &sql).await.message, "no organization is authenticated in this transaction");
        assert_no_access(&client).await;
    });
}

#[test]
fn the_context_follows_savepoints() {
    in_database(async |database| {
        let client = database.application().await;
        run(&client, "BEGIN; SAVEPOINT nobody").await;
        authenticate(&client, &database.token("bob")).await.unwrap();
        assert_eq!(count(&client, FINDINGS).await, 7);
        run(&client, "ROLLBACK TO nobody; SAVEPOINT inner_savepoint").await;
        authenticate(&client, &database.token("alice")).await.unwrap();
        run(&client, "RELEASE inner_savepoint").await;
        assert_eq!(count(&client, FINDINGS).await, 5);
        run(&client, "SAVEPOINT as_alice; SELECT tenancy.sign_out()").await;
        assert_eq!(refused_within(&client, FINDINGS).await.sqlstate, "28000");
        run(&client, "ROLLBACK TO as_alice").await;
        assert_eq!(count(&client, FINDINGS).await, 5);
        run(&client, "ROLLBACK TO nobody").await;
        assert_eq!(refused_within(&client, FINDINGS).await.sqlstate, "28000");
    });
}

#[test]
fn a_refused_token_leaves_the_context_before_it_as_it_was() {
    in_database(async |database| {
        let client = database.application().await;
        as_tenant(&client, &database.token("alice")).await;
        run(&client, "SAVEPOINT s").await;
        authenticate(&client, &Issuer::generate().token("bob")).await.unwrap_err();
        run(&client, "ROLLBACK TO s").await;
        assert_eq!(value(&client, "SELECT tenancy.subject()").await, "alice");
        assert_eq!(count(&client, FINDINGS).await, 5);
    });
}

#[test]
fn one_connection_serves_one_organization_after_another() {
    in_database(async |database| {
        let client = database.application().await;
        for round in 0..6 {
            let (subject, organization, findings) = [("alice", ACME, 5), ("bob", GLOBEX, 7)][round % 2];
            as_tenant(&client, &database.token(subject)).await;
            assert_eq!(count(&client, FINDINGS).await, findings);
            let organizations = column(&client, r#"SELECT DISTINCT "organizationId" FROM "Finding""#).await;
            assert_eq!(organizations, [organization.to_string()]);
            run(&client, "COMMIT").await;
        }
    });
}

/// The statements are planned for alice, often enough for a generic plan, and then run for bob and for nobody.
async fn prepared_statements_follow_the_context(database: &Database, mode: &str) {
    let client = database.application().await;
    run(&client, &format!("SET plan_cache_mode = {mode}")).await;
    run(&client, "BEGIN").await;
    authenticate(&client, &database.token("alice")).await.unwrap();
    let all = client.prepare(r#"SELECT title FROM "Finding" ORDER BY id"#).await.unwrap();
    let one = client.prepare(r#"SELECT title FROM "Finding" WHERE id = $1"#).await.unwrap();
    let update =
        client.prepare(r#"UPDATE "Finding" SET "amountCents" = "amountCents" + 1 WHERE id = $1"#).await.unwrap();
    let insert =
        client.prepare(r#"INSERT INTO "Finding" (title) VALUES ($1) RETURNING "organizationId""#).await.unwrap();
    let titles =
        async || -> Vec<String> { client.query(&all, &[]).await.unwrap().iter().map(|row| row.get(0)).collect() };
    let found = async |id: i64| client.query(&one, &[&id]).await.unwrap().len();
    let changed = async |id: i64| client.execute(&update, &[&id]).await.unwrap();
    let inserted = async || -> uuid::Uuid { client.query_one(&insert, &[&"new"]).await.unwrap().get(0) };
    for _ in 0..8 {
        assert!(titles().await.iter().all(|title| title.starts_with("acme finding")));
        assert_eq!((found(1).await, found(101).await), (1, 0));
        assert_eq!((changed(1).await, changed(101).await), (1, 0));
    }
    for _ in 0..8 {
        assert_eq!(inserted().await, ACME);
    }
    run(&client, "ROLLBACK").await;
    as_tenant(&client, &database.token("bob")).await;
    for _ in 0..8 {
        let titles = titles().await;
        assert!(titles.len() == 7 && titles.iter().all(|title| title.starts_with("globex finding")), "{titles:?}");
        assert_eq!((found(1).await, found(101).await), (0, 1));
        assert_eq!((changed(1).await, changed(101).await), (0, 1));
    }
    assert_eq!(inserted().await, GLOBEX);
    run(&client, "ROLLBACK").await;
    let error = client.query(&all, &[]).await.unwrap_err();
    assert_eq!(Refusal::of(&error).sqlstate, "28000");
    let error = client.execute(&update, &[&101i64]).await.unwrap_err();
    assert_eq!(Refusal::of(&error).sqlstate, "28000");
}

#[test]
fn a_prepared_statement_planned_for_one_tenant_never_answers_for_another() {
    in_database(async |database| {
        for mode in ["auto", "force_generic_plan", "force_custom_plan"] {
            prepared_statements_follow_the_context(database, mode).await;
        }
    });
}

#[test]
fn a_statement_kept_in_a_function_never_answers_for_another_tenant() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        let function = r#"CREATE FUNCTION findings() RETURNS TABLE (title text) LANGUAGE plpgsql STABLE AS
                          $$ BEGIN RETURN QUERY SELECT f.title FROM "Finding" f; END $$"#;
        run(&superuser, function).await;
        for round in 0..16 {
            let (subject, prefix, findings) = [("alice", "acme", 5), ("bob", "globex", 7)][round / 7 % 2];
            as_tenant(&client, &database.token(subject)).await;
            let titles = column(&client, "SELECT title FROM findings()").await;
            assert!(titles.len() == findings && titles.iter().all(|title| title.starts_with(prefix)), "{titles:?}");
            run(&client, "COMMIT").await;
        }
        assert_eq!(refused(&client, "SELECT title FROM findings()").await.sqlstate, "28000");
    });
}

#[test]
fn parallel_workers_see_the_context_of_their_leader() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        let fill = r#"INSERT INTO "Finding" ("organizationId", title)
                      SELECT (ARRAY['aaaaaaaa-0000-4000-8000-000000000001',
                          'bbbbbbbb-0000-4000-8000-000000000002'])[1 + n % 2]::uuid,
                             'bulk ' || n FROM generate_series(1, 4000) n; ANALYZE "Finding""#;
        run(&superuser, fill).await;
        run(&superuser, "SELECT tenancy.set_guardrail('statement_statistics', 'off', 'the test reads plans')").await;
        let forced = if major() < 16 { "force_parallel_mode" } else { "debug_parallel_query" };
        let settings = "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
                        SET enable_indexscan = off; SET enable_bitmapscan = off; SET parallel_leader_participation = \
                        off";
        run(&client, settings).await;
        let sql = r#"SELECT "organizationId"::text, count(*)::text, count(DISTINCT tenancy.subject())::text,
                            min(tenancy.org_id_text()) FROM "Finding" WHERE length(title) > 1 GROUP BY 1"#;
        let launched = async || {
            let plan = column(&client, &format!("EXPLAIN (ANALYZE, COSTS OFF) {sql}")).await;
            plan.iter().any(|line| line.contains("Workers Launched: ") && !line.ends_with(" 0"))
        };
        for force in ["off", "on"] {
            run(&client, &format!("SET {forced} = {force}")).await;
            for (subject, organization, findings) in [("alice", ACME, "2005"), ("bob", GLOBEX, "2007")] {
                as_tenant(&client, &database.token(subject)).await;
                assert!(launched().await, "no worker was launched, so this test shows nothing");
                let id = organization.to_string();
                let text_id = if organization == ACME { "acme" } else { "globex" };
                let expected = [id.as_str(), findings, "1", text_id].map(|text| Some(text.to_owned()));
                assert_eq!(rows(&client, sql).await, [expected]);
                run(&client, "COMMIT").await;
            }
            assert_eq!(refused(&client, sql).await.sqlstate, "28000");
        }
    });
}

#[test]
fn no_reset_and_no_change_of_role_leaves_or_gives_access() {
    in_database(async |database| {
        let (client, superuser) = (database.application().await, database.superuser().await);
        let token = database.token("alice");
        for sql in ["RESET ALL", "SELECT tenancy.sign_out()"] {
            as_tenant(&client, &token).await;
            run(&client, sql).await;
            assert_eq!(refused(&client, FINDINGS).await.sqlstate, "28000", "{sql}");
            run(&client, "ROLLBACK").await;
            assert_no_access(&client).await;
        }
        as_tenant(&client, &token).await;
        assert_eq!(refused(&client, "DISCARD ALL").await.sqlstate, "25001"); // not within a transaction
        run(&client, "ROLLBACK").await;
        run(&client, "DISCARD ALL").await;
        assert_no_access(&client).await;

        let role = format!("{}_member", database.name);
        run(&superuser, &format!("CREATE ROLE {role} LOGIN IN ROLE {OWNER}, {APPLICATION}")).await;
        run(&superuser, &format!("SET SESSION AUTHORIZATION {role}")).await;
        for change in [format!("SET ROLE {OWNER}"), format!("SET ROLE {APPLICATION}"), "RESET ROLE".to_owned()] {
            as_tenant(&superuser, &token).await;
            run(&superuser, &change).await;
            assert_eq!(count(&superuser, FINDINGS).await, 5, "{change}");
            run(&superuser, "COMMIT").await;
            assert_no_access(&superuser).await;
        }
        run(&superuser, "RESET SESSION AUTHORIZATION").await;
        as_tenant(&superuser, &token).await;
        run(&superuser, &format!("SET SESSION AUTHORIZATION {role}")).await;
        assert_eq!(count(&superuser, FINDINGS).await, 5);
        run(&superuser, "COMMIT").await;
        assert_no_access(&superuser).await;
        run(&superuser, &format!("RESET SESSION AUTHORIZATION; DROP ROLE {role}")).await;
    });
}

/// What the setting would hold for alice.
fn forged_context() -> String {
    let context = Context {
        scope: Scope::Session,
        method: "token".into(),
        organization: Organization { id: ACME, text_id: "acme".into(), integer_id: Some(1) },
        subject: "alice".into(),
        issuer: ISSUER.into(),
        role: "admin".into(),
        membership_role: "admin".into(),
        key_id: None,
        session_id: None,
        reason: None,
        correlation_id: None,
        expires_at: (now() + 3600) * 1_000_000,
        permissions: PermissionSet::all(),
        elevation: None,
        claims: "{}".into(),
    };
    context.encode().unwrap()
}

#[test]
fn a_value_set_before_the_library_is_loaded_never_becomes_a_context() {
    in_database(async |database| {
        let forged = forged_context();
        for sql in [
            format!("SET tenancy.context = '{forged}'"),
            format!("SET SESSION tenancy.context = '{forged}'"),
            format!("SELECT set_config('tenancy.context', '{forged}', false)"),
            format!("BEGIN; SET LOCAL tenancy.context = '{forged}'"),
            format!("BEGIN; SELECT set_config('tenancy.context', '{forged}', true)"),
            format!("BEGIN; SAVEPOINT s; SET tenancy.context = '{forged}'; RELEASE s; COMMIT"),
        ] {
            for role in [APPLICATION, "postgres"] {
                let client = connect(database.config().user(role)).await;
                // On demand the library is not loaded yet and Postgres takes any value; else it is refused at once.
                if let Err(error) = client.batch_execute(&sql).await {
                    assert_eq!(Refusal::of(&error).sqlstate, "42501", "{sql}");
                    run(&client, "ROLLBACK").await;
                }
                assert_eq!(whoami(&client).await, json!({"authenticated": false}), "{sql} as {role}");
                assert_eq!(refused(&client, "SELECT tenancy.org_id()").await.sqlstate, "28000", "{sql} as {role}");
            }
        }
    });
}

#[test]
fn a_loaded_library_refuses_every_value_from_anybody() {
    in_database(async |database| {
        let forged = forged_context();
        let superuser = database.superuser().await;
        let role = format!("{}_setter", database.name);
        let grant =
            format!("CREATE ROLE {role} LOGIN IN ROLE {APPLICATION}; GRANT SET ON PARAMETER tenancy.context TO {role}");
        run(&superuser, &grant).await;
        let function = format!(
            "CREATE FUNCTION forge() RETURNS jsonb LANGUAGE sql SET tenancy.context = '{forged}' AS 'SELECT \
                tenancy.whoami()'"
        );
        for client in [&superuser, &connect(database.config().user(&role)).await, &database.application().await] {
            assert_eq!(whoami(client).await, json!({"authenticated": false}));
            for sql in [
                format!("SET tenancy.context = '{forged}'"),
                format!("SET LOCAL tenancy.context = '{forged}'"),
                format!("SELECT set_config('tenancy.context', '{forged}', false)"),
                format!(
                    "UPDATE pg_settings SET setting = '{forged}' WHERE name = 'tenancy.context'; SET tenancy.context \
                        = 'x'"
                ),
                function.clone() + "; SELECT forge()",
                "SET tenancy.anything = 'else'".to_owned(),
            ] {
                let refusal = refused(client, &sql).await;
                assert!(["42501", "42602"].contains(&refusal.sqlstate.as_str()), "{sql}: {refusal:?}");
                assert_no_access(client).await;
            }
        }
        // A function that keeps the context of its creator does not give it to its callers.
        as_tenant(&superuser, &database.token("alice")).await;
        let keep = "CREATE FUNCTION keep() RETURNS jsonb LANGUAGE sql SET tenancy.context FROM CURRENT AS 'SELECT \
            tenancy.whoami()'";
        if superuser.batch_execute(keep).await.is_ok() {
            run(&superuser, "COMMIT").await;
            assert_eq!(refused(&superuser, "SELECT keep()").await.sqlstate, "42501");
        }
        run(&superuser, "ROLLBACK").await;
        assert_no_access(&superuser).await;
        run(
            &superuser,
            &format!("REVOKE ALL ON PARAMETER tenancy.context FROM {role}; DROP OWNED BY {role}; DROP ROLE {role}"),
        )
        .await;
    });
}

#[test]
fn neither_startup_options_nor_settings_of_role_or_database_become_a_context() {
    in_database(async |database| {
        let forged = forged_context();
        let superuser = database.superuser().await;
        let role = format!("{}_forger", database.name);
        run(&superuser, &format!("CREATE ROLE {role} LOGIN IN ROLE {APPLICATION}")).await;
        let ours = database.config().user(&role).clone();

        let option = forged.replace('\\', "\\\\").replace(' ', "\\ ");
        for user in [role.as_str(), "postgres"] {
            let mut config = ours.clone();
            config.user(user).options(format!("-c tenancy.context={option}"));
            // A preloaded library may refuse the connection.
            if let Ok(client) = try_connect(&config).await {
                assert_no_access(&client).await;
            }
        }

        // Into the catalog by hand, because a loaded library refuses ALTER ROLE ... SET and ALTER DATABASE ... SET.
        let oid =
            |catalog: &str, column: &str, name: &str| format!("(SELECT oid FROM {catalog} WHERE {column} = '{name}')");
        let (database_oid, role_oid) =
            (oid("pg_database", "datname", &database.name), oid("pg_roles", "rolname", &role));
        for (of_database, of_role) in [(&*database_oid, "0"), ("0", &*role_oid), (&*database_oid, &*role_oid)] {
            let insert = format!("INSERT INTO pg_db_role_setting VALUES ({of_database}, {of_role}, ARRAY[$1])");
            superuser.execute(&insert, &[&format!("tenancy.context={forged}")]).await.unwrap();
            assert_no_access(&connect(&ours).await).await;
            run(
                &superuser,
                &format!("DELETE FROM pg_db_role_setting WHERE setrole = {role_oid} OR setdatabase = {database_oid}"),
            )
            .await;
        }
        assert_eq!(whoami(&superuser).await, json!({"authenticated": false}));
        for object in [format!("ROLE {role}"), format!("DATABASE {}", database.name)] {
            let refusal = refused(&superuser, &format!("ALTER {object} SET tenancy.context = '{forged}'")).await;
            assert_eq!(refusal.sqlstate, "42501");
        }
        run(&superuser, &format!("DROP ROLE {role}")).await;
    });
}

#[test]
fn the_value_of_the_context_is_not_shown_to_the_application() {
    in_database(async |database| {
        let client = database.application().await;
        as_tenant(&client, &database.token("alice")).await;
        for sql in ["SHOW tenancy.context", "SELECT current_setting('tenancy.context')"] {
            assert_eq!(refused_within(&client, sql).await.sqlstate, "42501", "{sql}");
        }
        let listed = "SELECT setting FROM pg_settings WHERE name LIKE 'tenancy%' AND name !~ \
            '^tenancy.((seal|audit|checkpoint|settle|dormant)_|max_unsealed_events$|(token|issuer|key)_cache_(size|lifetime)$|\
             exception_cache$|several_identities$)' AND setting <> ''";
        assert_eq!(column(&client, listed).await, Vec::<String>::new());
    });
}

#[test]
fn no_cursor_keeps_rows_of_a_tenant_for_the_next_client_of_the_connection() {
    in_database(async |database| {
        let client = database.application().await;
        let held = r#"DECLARE kept CURSOR WITH HOLD FOR SELECT title FROM "Finding""#;
        as_tenant(&client, &database.token("alice")).await;
        let refusal = refused(&client, held).await;
        assert_eq!((refusal.sqlstate.as_str(), refusal.hint.is_some()), ("55000", true), "{refusal:?}");
        run(&client, "ROLLBACK").await;
        // Declared before, from a function that reads when the rows are asked for, which is at the commit.
        let function = r#"CREATE FUNCTION pg_temp.titles() RETURNS SETOF text LANGUAGE plpgsql AS
                          $$ BEGIN RETURN QUERY SELECT title FROM "Finding"; END $$"#;
        run(&client, function).await;
        run(&client, "BEGIN; DECLARE kept CURSOR WITH HOLD FOR SELECT pg_temp.titles()").await;
        assert_eq!(authenticate(&client, &database.token("alice")).await.unwrap_err().sqlstate, "55000");
        run(&client, "ROLLBACK").await;
        // Before the library is loaded, too, where it is loaded on demand.
        let fresh = database.application().await;
        run(&fresh, function).await;
        run(&fresh, "BEGIN; DECLARE kept CURSOR WITH HOLD FOR SELECT pg_temp.titles()").await;
        assert_eq!(authenticate(&fresh, &database.token("alice")).await.unwrap_err().sqlstate, "55000");
        run(&client, "BEGIN; DECLARE kept CURSOR WITH HOLD FOR SELECT pg_temp.titles()").await;
        assert_eq!(refused(&client, "COMMIT").await.sqlstate, "28000", "without an identity there is nothing to keep");
        // Declared for a query that authenticates by itself, filled at the commit or before it.
        let token = database.token("alice");
        let itself = format!(
            r#"CREATE FUNCTION pg_temp.titles_of_alice() RETURNS SETOF text LANGUAGE plpgsql AS
               $$ BEGIN PERFORM tenancy.authenticate('{token}'); RETURN QUERY SELECT title FROM "Finding"; END $$"#
        );
        run(&client, &itself).await;
        for fill in ["COMMIT", "FETCH 1 FROM kept"] {
            run(&client, "BEGIN; DECLARE kept CURSOR WITH HOLD FOR SELECT pg_temp.titles_of_alice()").await;
            assert_eq!(refused(&client, fill).await.sqlstate, "55000", "{fill}");
            run(&client, "ROLLBACK").await;
        }
        // Within a statement that has committed before: the cursor is older than the transaction, by the clock.
        let later = format!(
            "DO $$ BEGIN COMMIT; PERFORM pg_sleep(0.01);
             EXECUTE 'DECLARE kept CURSOR WITH HOLD FOR SELECT pg_temp.titles()';
             PERFORM tenancy.authenticate('{token}'); END $$"
        );
        assert_eq!(refused(&client, &later).await.sqlstate, "55000");
        assert_eq!(refused(&client, "FETCH ALL FROM kept").await.sqlstate, "34000");
        // Rows of nobody may be kept, and hinder no later transaction.
        run(&client, "BEGIN; DECLARE kept CURSOR WITH HOLD FOR VALUES (1), (2); COMMIT").await;
        as_tenant(&client, &database.token("alice")).await;
        assert_eq!(column(&client, "FETCH ALL FROM kept").await, ["1", "2"]);
        run(&client, "COMMIT; CLOSE kept").await;
        assert_eq!(refused(&client, held).await.sqlstate, "28000");
    });
}

#[test]
fn a_transaction_keeps_its_first_identity_and_the_next_transaction_is_free() {
    in_database(async |database| {
        let (client, superuser) = (database.application().await, database.superuser().await);
        let (alice, bob) = (database.token("alice"), database.token("bob"));
        let name = &database.name;
        let sealed = "this transaction has another identity already";
        for end in ["COMMIT", "ROLLBACK", "COMMIT AND CHAIN", "ROLLBACK AND CHAIN", "SELECT 1/0", "PREPARE TRANSACTION"]
        {
            as_tenant(&client, &alice).await;
            assert_eq!(count(&client, FINDINGS).await, 5);
            run(&client, "SAVEPOINT s").await;
            assert_eq!(authenticate(&client, &bob).await.unwrap_err().message, sealed);
            run(&client, "ROLLBACK TO s; SELECT tenancy.sign_out()").await;
            assert_eq!(authenticate(&client, &bob).await.unwrap_err().message, sealed);
            run(&client, "ROLLBACK TO s").await;
            let end = if end.starts_with("PREPARE") { format!("{end} '{name}'") } else { end.to_owned() };
            if client.batch_execute(&end).await.is_err() {
                run(&client, "ROLLBACK").await;
            }
            if !end.ends_with("CHAIN") {
                run(&client, "BEGIN").await;
            }
            authenticate(&client, &bob).await.unwrap_or_else(|refusal| panic!("{end}: {refusal:?}"));
            assert_eq!(count(&client, FINDINGS).await, 7, "{end}");
            run(&client, "ROLLBACK").await;
        }
        run(&superuser, &format!("ROLLBACK PREPARED '{name}'")).await;
        // Each transaction of a procedure is one.
        let body = format!(
            r#"DO $$ BEGIN
                 PERFORM tenancy.authenticate('{alice}');
                 IF (SELECT count(*) FROM "Finding") <> 5 THEN RAISE 'alice'; END IF;
                 COMMIT;
                 PERFORM tenancy.authenticate('{bob}');
                 IF (SELECT count(*) FROM "Finding") <> 7 THEN RAISE 'bob'; END IF;
                 PERFORM tenancy.authenticate('{alice}');
               END $$"#
        );
        assert_eq!(refused(&client, &body).await.message, sealed);
    });
}

#[test]
fn whoever_injects_sql_keeps_the_identity_of_the_transaction_or_none() {
    in_database(async |database| {
        let (client, superuser) = (database.application().await, database.superuser().await);
        let role = format!("{}_member", database.name);
        run(&superuser, &format!("CREATE ROLE {role} LOGIN IN ROLE {APPLICATION}")).await;
        let member = connect(database.config().user(&role)).await;
        let forged = forged_context().replace('\'', "''");
        let refusals = [
            ("42501", "SET ROLE postgres".to_owned()),
            ("42501", format!("SET ROLE {OWNER}")),
            ("42501", "SET ROLE tenancy_admin".to_owned()),
            ("42501", "SET SESSION AUTHORIZATION postgres".to_owned()),
            ("42501", format!("SELECT set_config('role', '{OWNER}', false)")),
            ("42501", "SELECT set_config('session_authorization', 'postgres', true)".to_owned()),
            ("42501", format!("ALTER ROLE {role} SET tenancy.context = '{forged}'")),
            ("42501", format!("ALTER ROLE ALL SET tenancy.context = '{forged}'")),
            ("42501", format!("ALTER DATABASE {} SET tenancy.context = '{forged}'", database.name)),
            ("42501", format!("GRANT SET ON PARAMETER tenancy.context TO {role}")),
            (
                "42501",
                "CREATE FUNCTION pg_temp.f() RETURNS uuid LANGUAGE sql SET tenancy.context = '' AS 'SELECT \
                tenancy.org_id()'"
                    .to_owned(),
            ),
            (
                "42501",
                "CREATE FUNCTION pg_temp.f() RETURNS uuid LANGUAGE sql AS 'SELECT tenancy.org_id()'; ALTER \
                FUNCTION pg_temp.f() SET tenancy.context TO ''"
                    .to_owned(),
            ),
            (
                "42501",
                "CREATE PROCEDURE pg_temp.p() LANGUAGE sql SET tenancy.context FROM CURRENT AS 'SELECT \
                tenancy.org_id()'"
                    .to_owned(),
            ),
            (
                "42501",
                "CREATE FUNCTION pg_temp.f() RETURNS uuid LANGUAGE c AS 'pg_tenancy', \
                'tenancy_org_id'"
                    .to_owned(),
            ),
            ("42501", "CREATE FUNCTION pg_temp.f() RETURNS uuid LANGUAGE internal AS 'gen_random_uuid'".to_owned()),
            ("42501", "CREATE FUNCTION pg_temp.f(internal) RETURNS internal LANGUAGE internal AS 'nothing'".to_owned()),
            ("42501", "COPY cloud_account FROM PROGRAM 'id'".to_owned()),
            ("42501", "COPY (SELECT tenancy.claims()) TO PROGRAM 'cat'".to_owned()),
            ("42501", "SELECT pg_read_file('postgresql.auto.conf')".to_owned()),
            ("42501", "SELECT tenancy.authenticate_session('x.y.z')".to_owned()),
            ("42501", "SELECT tenancy.audit_row()".to_owned()),
            ("42501", "SELECT tenancy.audit_truncate()".to_owned()),
            ("42883", "SELECT tenancy.authorize_support(NULL)".to_owned()),
            (
                "42501",
                "CREATE EVENT TRIGGER t ON ddl_command_start EXECUTE FUNCTION \
                pg_catalog.suppress_redundant_updates_trigger()"
                    .to_owned(),
            ),
            ("42883", "SELECT tenancy.authorize(1, 2)".to_owned()),
            ("42883", "SELECT tenancy.authenticate(NULL::jsonb)".to_owned()),
            ("28000", "SELECT tenancy.authenticate(NULL)".to_owned()),
            ("28000", "SELECT tenancy.authenticate(repeat('a.', 10000000))".to_owned()),
        ];
        let harmless = [
            "RESET ROLE",
            "SET ROLE NONE",
            "SET LOCAL ROLE NONE",
            "RESET SESSION AUTHORIZATION",
            "SET SESSION AUTHORIZATION DEFAULT",
            "DISCARD PLANS",
            "DISCARD TEMP",
            "DEALLOCATE ALL",
            "UNLISTEN *",
            "CLOSE ALL",
            "SET search_path = pg_temp",
            "SET LOCAL row_security = on",
        ];
        for client in [&client, &member] {
            as_tenant(client, &database.token("alice")).await;
            for (sqlstate, sql) in &refusals {
                assert_eq!(refused_within(client, sql).await.sqlstate, *sqlstate, "{sql}");
                assert_eq!(value(client, "SELECT tenancy.org_id()").await, ACME.to_string(), "{sql}");
            }
            for sql in harmless {
                run(client, sql).await;
                assert_eq!(value(client, "SELECT tenancy.org_id()").await, ACME.to_string(), "{sql}");
                assert_eq!(count(client, r#"SELECT count(*) FROM public."Finding""#).await, 5, "{sql}");
            }
            run(client, "ROLLBACK").await;
            let system = format!("ALTER SYSTEM SET tenancy.context = '{forged}'");
            assert_eq!(refused(client, &system).await.sqlstate, "42501");
        }
        drop(member);
        run(&superuser, &format!("DROP ROLE {role}")).await;
    });
}

/// Until the clock of the server has passed the token's end.
async fn wait_until(seconds: i64) {
    while now() < seconds {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn a_token_that_ends_within_the_transaction_ends_the_access() {
    in_database(async |database| {
        let client = database.application().await;
        let end = now() + 2;
        let insert = r#"INSERT INTO "Finding" (title) VALUES ('late')"#;
        as_tenant(&client, &database.issuer.token_until("alice", 2)).await;
        let prepared = client.prepare(FINDINGS).await.unwrap();
        assert_eq!(count(&client, FINDINGS).await, 5);
        run(&client, insert).await;
        wait_until(end + 1).await;
        // What does not pass the executor, right after a statement that was still in time.
        let check = "DO $$ BEGIN IF tenancy.authorize('finding', 'read') THEN NULL; END IF; END $$";
        for sql in [check, FINDINGS, insert, "SELECT tenancy.org_id()", "SELECT tenancy.allowed('finding', 'read')"] {
            let refusal = refused_within(&client, sql).await;
            assert_eq!((refusal.sqlstate.as_str(), refusal.message.contains("expired")), ("28000", true), "{sql}");
        }
        assert_eq!(whoami(&client).await["expired"], json!(true));
        assert_eq!(Refusal::of(&client.query(&prepared, &[]).await.unwrap_err()).sqlstate, "28000");
    });
}

#[test]
fn a_cursor_gives_no_more_rows_once_the_access_has_ended() {
    in_database(async |database| {
        let client = database.application().await;
        let plans = [
            "enable_seqscan = off; SET LOCAL enable_bitmapscan = off",
            "enable_indexscan = off; SET LOCAL enable_bitmapscan = off",
        ];
        for plan in plans {
            for end in ["SELECT tenancy.sign_out()", "SELECT pg_sleep(3)"] {
                as_tenant(&client, &database.issuer.token_until("alice", 2)).await;
                let open = r#"DECLARE opened NO SCROLL CURSOR FOR SELECT title FROM "Finding" WHERE "organizationId"
                    IS NOT NULL"#;
                run(&client, &format!("SET LOCAL {plan}; {open}")).await;
                assert_eq!(column(&client, "FETCH 2 FROM opened").await.len(), 2);
                run(&client, end).await;
                let refusal = refused(&client, "FETCH 2 FROM opened").await;
                assert_eq!(refusal.sqlstate, "28000", "{plan}, {end}");
                run(&client, "ROLLBACK").await;
            }
        }
    });
}

#[test]
fn a_token_that_ends_while_a_loop_runs_ends_the_loop() {
    in_database(async |database| {
        let client = database.application().await;
        as_tenant(&client, &database.issuer.token_until("alice", 2)).await;
        let body = r#"DO $$ BEGIN FOR i IN 1..80 LOOP PERFORM count(*) FROM "Finding"; PERFORM pg_sleep(0.05); END
            LOOP; END $$"#;
        let refusal = refused(&client, body).await;
        assert_eq!((refusal.sqlstate.as_str(), refusal.message.contains("expired")), ("28000", true), "{refusal:?}");
    });
}

#[test]
fn a_prepared_transaction_leaves_no_context_in_its_session() {
    in_database(async |database| {
        let (client, superuser) = (database.application().await, database.superuser().await);
        seal_all(&superuser).await;
        let name = &database.name;
        as_tenant(&client, &database.token("alice")).await;
        run(&client, r#"INSERT INTO "Finding" (title) VALUES ('prepared')"#).await;
        run(&client, &format!("PREPARE TRANSACTION '{name}'")).await;
        assert_no_access(&client).await;
        // The next transaction of the session starts a chain of its own.
        as_tenant(&client, &database.token("alice")).await;
        run(&client, r#"INSERT INTO "Finding" (title) VALUES ('meanwhile'); COMMIT"#).await;
        assert_eq!(count(&superuser, "SELECT tenancy.seal()").await, 1);
        assert_eq!(count(&superuser, "SELECT tenancy.seal()").await, 0, "the prepared one is not committed yet");
        run(&client, &format!("COMMIT PREPARED '{name}'")).await;
        assert_no_access(&client).await;
        assert_eq!(count(&superuser, "SELECT tenancy.seal()").await, 1);
        assert_audit_is_whole(&superuser).await;
    });
}

/// Lets the application's clients keep an identity, as if each had a connection of its own.
async fn allow_sessions(superuser: &Client) {
    let grant = format!("GRANT EXECUTE ON FUNCTION tenancy.authenticate_session(text, uuid, text) TO {APPLICATION}");
    run(superuser, &grant).await;
}

async fn authenticate_session(client: &Client, token: &str) -> Result<(), Refusal> {
    let done = client.execute("SELECT tenancy.authenticate_session($1)", &[&token]).await;
    done.map(drop).map_err(|error| Refusal::of(&error))
}

#[test]
fn a_session_has_an_identity_of_its_own_only_where_that_was_granted() {
    in_database(async |database| {
        let (client, superuser) = (database.application().await, database.superuser().await);
        let token = database.token("alice");
        for role in [&client, &database.owner().await] {
            assert_eq!(authenticate_session(role, &token).await.unwrap_err().sqlstate, "42501");
            assert_no_access(role).await;
        }
        allow_sessions(&superuser).await;
        authenticate_session(&client, &token).await.unwrap();
        assert_eq!(whoami(&client).await["scope"], "session");
        assert_no_access(&database.application().await).await; // of this connection, not of its role
    });
}

#[test]
fn the_identity_of_a_session_lasts_until_it_is_ended() {
    in_database(async |database| {
        let (client, superuser) = (database.application().await, database.superuser().await);
        allow_sessions(&superuser).await;
        let (alice, bob) = (database.token("alice"), database.token("bob"));
        for end in ["SELECT tenancy.sign_out()", "RESET ALL", "DISCARD ALL", "BEGIN; SELECT tenancy.sign_out(); COMMIT"]
        {
            authenticate_session(&client, &alice).await.unwrap();
            for between in
                ["SELECT 1", "BEGIN; COMMIT", "BEGIN; ROLLBACK", "BEGIN; SELECT tenancy.sign_out(); ROLLBACK"]
            {
                run(&client, between).await;
                assert_eq!(count(&client, FINDINGS).await, 5, "{between}");
            }
            assert!(client.batch_execute("SELECT 1/0").await.is_err());
            assert_eq!(value(&client, "SELECT tenancy.subject()").await, "alice");
            run(&client, end).await;
            assert_no_access(&client).await;
        }
        // What is rolled back was never there.
        run(&client, "BEGIN").await;
        authenticate_session(&client, &alice).await.unwrap();
        assert_eq!(count(&client, FINDINGS).await, 5);
        run(&client, "ROLLBACK").await;
        assert_no_access(&client).await;
        // Another identity takes its place in a transaction of its own.
        authenticate_session(&client, &alice).await.unwrap();
        run(&client, "BEGIN").await;
        assert_eq!(count(&client, FINDINGS).await, 5);
        assert_eq!(
            authenticate_session(&client, &bob).await.unwrap_err().message,
            "this transaction has another identity already"
        );
        run(&client, "ROLLBACK").await;
        authenticate_session(&client, &bob).await.unwrap();
        assert_eq!(count(&client, FINDINGS).await, 7);
        // The token's end is the session's.
        let end = now() + 2;
        authenticate_session(&client, &database.issuer.token_until("alice", 2)).await.unwrap();
        assert_eq!(count(&client, FINDINGS).await, 5);
        wait_until(end + 1).await;
        assert!(refused(&client, FINDINGS).await.message.contains("expired"));
        let who = whoami(&client).await;
        assert_eq!((&who["authenticated"], &who["expired"]), (&json!(false), &json!(true)));
    });
}

#[test]
fn another_identity_within_a_session_lasts_for_its_transaction() {
    in_database(async |database| {
        let (client, superuser) = (database.application().await, database.superuser().await);
        allow_sessions(&superuser).await;
        authenticate_session(&client, &database.token("alice")).await.unwrap();
        for end in ["COMMIT", "ROLLBACK"] {
            as_tenant(&client, &database.token("bob")).await;
            assert_eq!(count(&client, FINDINGS).await, 7);
            assert_eq!(whoami(&client).await["scope"], "transaction");
            assert_eq!(
                refused_within(&client, r#"DECLARE kept CURSOR WITH HOLD FOR SELECT title FROM "Finding""#)
                    .await
                    .sqlstate,
                "55000"
            );
            run(&client, end).await;
            assert_eq!(whoami(&client).await["subject"], "alice", "{end}");
            assert_eq!(count(&client, FINDINGS).await, 5, "{end}");
        }
        // Once the session's identity is used, within a savepoint that is rolled back or not, it is the transaction's.
        for used in [
            FINDINGS,
            "SELECT tenancy.org_id()",
            "SELECT tenancy.allowed('finding', 'read')",
            "SELECT tenancy.claims()",
        ] {
            run(&client, &format!("BEGIN; {used}")).await;
            assert!(
                authenticate(&client, &database.token("bob")).await.unwrap_err().message.contains("another identity"),
                "{used}"
            );
            run(&client, "ROLLBACK").await;
        }
        let block = format!(
            r#"DO $$ BEGIN
                 BEGIN PERFORM count(*) FROM "Finding"; RAISE 'back'; EXCEPTION WHEN raise_exception THEN NULL; END;
                 IF tenancy.subject() <> 'alice' THEN RAISE 'lost'; END IF;
                 PERFORM tenancy.authenticate('{}');
               END $$"#,
            database.token("bob")
        );
        assert!(refused(&client, &block).await.message.contains("another identity"));
        // Signing out under it leaves nobody.
        as_tenant(&client, &database.token("bob")).await;
        run(&client, "SELECT tenancy.sign_out()").await;
        assert_eq!(whoami(&client).await, json!({"authenticated": false}));
        run(&client, "COMMIT").await;
        assert_no_access(&client).await;
    });
}

/// A cursor that is older than a savepoint keeps what it has fetched, whoever was rolled back with the savepoint.
#[test]
fn a_cursor_with_rows_of_another_identity_keeps_everybody_else_out() {
    in_database(async |database| {
        let (client, superuser) = (database.application().await, database.superuser().await);
        let [alice, bob] = ["alice", "bob"].map(|subject| database.token(subject));
        run(
            &client,
            r#"CREATE FUNCTION pg_temp.titles() RETURNS SETOF text LANGUAGE plpgsql AS
               $$ BEGIN RETURN QUERY SELECT title FROM "Finding"; END $$"#,
        )
        .await;
        let open = |body: &str| {
            format!("DO $$ DECLARE c SCROLL CURSOR FOR SELECT pg_temp.titles(); x text; BEGIN {body} END $$")
        };
        let of_alice = format!(
            "OPEN c; BEGIN PERFORM tenancy.authenticate('{alice}'); FETCH c INTO x; RAISE EXCEPTION 'undo';
             EXCEPTION WHEN raise_exception THEN NULL; END; PERFORM tenancy.authenticate('{bob}');"
        );
        for body in [of_alice.clone(), format!("COMMIT; PERFORM pg_sleep(0.01); {of_alice}")] {
            let refusal = refused(&client, &open(&body)).await;
            assert!(refusal.message.contains("an open cursor may hold rows"), "{body}: {refusal:?}");
        }
        // Going back to the identity of the session is no other thing, also after somebody else in between.
        allow_sessions(&superuser).await;
        authenticate_session(&client, &alice).await.unwrap();
        for again in ["", "SAVEPOINT s; SELECT tenancy.org_id(); ROLLBACK TO s;"] {
            run(&client, "BEGIN; DECLARE c SCROLL CURSOR FOR SELECT pg_temp.titles(); SAVEPOINT s").await;
            authenticate(&client, &bob).await.unwrap();
            assert_eq!(column(&client, "FETCH 1 FROM c").await.len(), 1);
            run(&client, "ROLLBACK TO s").await;
            let _ = client.batch_execute(again).await;
            run(&client, "ROLLBACK TO s").await;
            let refusal = refused_within(&client, FINDINGS).await;
            assert!(refusal.message.contains("an open cursor may hold rows"), "{again}: {refusal:?}");
            run(&client, "CLOSE c").await;
            assert_eq!(count(&client, FINDINGS).await, 5);
            run(&client, "COMMIT").await;
        }
    });
}

#[test]
fn a_session_ends_with_what_a_new_sign_in_would_be_refused_for() {
    in_database(async |database| {
        let (client, superuser) = (database.application().await, database.superuser().await);
        allow_sessions(&superuser).await;
        authenticate_session(&client, &database.token("alice")).await.unwrap();
        let connection = "(SELECT id FROM tenancy.sso_connection)";
        let sso = format!(
            "SELECT tenancy.set_issuer('https://sso.example/', '{{a}}', '{{\"keys\": [{{\"kty\": \"OKP\", \"crv\": \
                \"Ed25519\",
                 \"x\": \"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}}]}}');
             INSERT INTO tenancy.sso_connection (organization, name, issuer, state, break_glass_issuer, \
             break_glass_subject)
             VALUES ('{ACME}', 'sso', 'https://sso.example/', 'enforced', '{ISSUER}', 'somebody')"
        );
        for (end, again, message) in [
            (
                format!("SELECT tenancy.retire_key('{ISSUER}', 'HS256')"),
                format!("SELECT tenancy.retire_key('{ISSUER}', 'HS256', 'infinity')"),
                "retired",
            ),
            (
                format!("SELECT tenancy.revoke_session('{ISSUER}', 'session of alice')"),
                "SELECT tenancy.purge_revocations('tomorrow')".to_owned(),
                "revoked",
            ),
            (
                format!("SELECT tenancy.set_issuer_status('{ISSUER}', 'disabled')"),
                format!("SELECT tenancy.set_issuer_status('{ISSUER}', 'active')"),
                "membership",
            ),
            (sso, format!("DELETE FROM tenancy.sso_connection WHERE id = {connection}"), "single sign-on"),
        ] {
            assert_eq!(count(&client, FINDINGS).await, 5, "before {end}");
            run(&superuser, &end).await;
            let refusal = refused(&client, FINDINGS).await;
            assert_eq!(refusal.sqlstate, "28000", "{end}");
            assert!(refusal.message.contains(message), "{end}: {refusal:?}");
            run(&superuser, &again).await;
            assert_eq!(count(&client, FINDINGS).await, 5, "after {again}");
        }
    });
}

#[test]
fn each_transaction_of_a_session_asks_whether_the_member_is_one_still() {
    in_database(async |database| {
        let (client, superuser) = (database.application().await, database.superuser().await);
        allow_sessions(&superuser).await;
        authenticate_session(&client, &database.token("alice")).await.unwrap();
        let member = |rest: &str| format!("SELECT tenancy.set_membership('{ACME}', 'alice', {rest})");
        let back = format!("{}; SELECT tenancy.set_organization_status('{ACME}', 'active')", member("'admin'"));
        for change in [
            member("'admin', status => 'suspended'"),
            member("'reader'"),
            member("'admin', valid_until => now()"),
            format!("SELECT tenancy.remove_membership('{ACME}', 'alice')"),
            format!("SELECT tenancy.set_organization_status('{ACME}', 'suspended')"),
        ] {
            run(&client, "BEGIN").await;
            assert_eq!(count(&client, FINDINGS).await, 5, "{change}");
            run(&superuser, &change).await;
            assert_eq!(count(&client, FINDINGS).await, 5, "in use before: {change}");
            run(&client, "COMMIT").await;
            let uses =
                [FINDINGS, "SELECT tenancy.org_id()", "SELECT tenancy.subject()", "SELECT tenancy.authorize('a', 'b')"];
            for sql in uses {
                let refusal = refused(&client, sql).await;
                assert_eq!(
                    (refusal.sqlstate.as_str(), refusal.message.contains("membership")),
                    ("28000", true),
                    "{refusal:?}"
                );
            }
            assert_eq!(whoami(&client).await["authenticated"], false, "{change}");
            run(&superuser, &back).await;
            assert_eq!(count(&client, FINDINGS).await, 5, "after {change} was taken back");
        }
        // A snapshot that is older than the change does not hide it.
        run(&client, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class").await;
        run(&superuser, &member("'admin', status => 'suspended'")).await;
        assert_eq!(refused(&client, FINDINGS).await.sqlstate, "28000");
        run(&client, "ROLLBACK").await;
    });
}

#[test]
fn parallel_workers_have_the_identity_of_the_session_and_ask_for_themselves() {
    in_database(async |database| {
        let (client, superuser) = (database.application().await, database.superuser().await);
        allow_sessions(&superuser).await;
        run(&superuser, "SELECT tenancy.set_guardrail('statement_statistics', 'off', 'the test reads plans')").await;
        let forced = if major() < 16 { "force_parallel_mode" } else { "debug_parallel_query" };
        run(&client, &format!("SET {forced} = on")).await;
        authenticate_session(&client, &database.token("alice")).await.unwrap();
        let plan = column(&client, &format!("EXPLAIN (ANALYZE, COSTS OFF) {FINDINGS}")).await;
        assert!(plan.iter().any(|line| line.contains("Workers Launched: 1")), "{plan:?}");
        for level in ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] {
            run(&client, &format!("BEGIN ISOLATION LEVEL {level}")).await;
            assert_eq!(count(&client, FINDINGS).await, 5);
            run(&client, "COMMIT").await;
        }
        run(&client, "BEGIN").await;
        assert_eq!(count(&client, FINDINGS).await, 5);
        let status = |status| format!("SELECT tenancy.set_organization_status('{ACME}', '{status}')");
        run(&superuser, &status("suspended")).await;
        assert!(refused(&client, FINDINGS).await.message.contains("membership"));
        run(&client, "ROLLBACK").await;
        run(&superuser, &status("active")).await;
        assert_eq!(count(&client, FINDINGS).await, 5);
    });
}

#[test]
fn nobody_authenticates_or_signs_out_within_a_parallel_operation() {
    in_database(async |database| {
        let (client, superuser) = (database.application().await, database.superuser().await);
        allow_sessions(&superuser).await;
        let forced = if major() < 16 { "force_parallel_mode" } else { "debug_parallel_query" };
        let token = database.token("bob");
        let calls = [
            format!("tenancy.authenticate('{token}')"),
            format!("tenancy.authenticate_session('{token}')"),
            "tenancy.sign_out()".into(),
        ];
        for call in calls {
            // Somebody declares safe what is not.
            let function = format!(
                "CREATE FUNCTION pg_temp.sneak() RETURNS text LANGUAGE plpgsql PARALLEL SAFE AS $$ BEGIN PERFORM \
                    {call}; RETURN tenancy.whoami(); END $$"
            );
            run(&client, &function).await;
            run(&client, &format!("SET {forced} = on; BEGIN")).await;
            authenticate(&client, &database.token("alice")).await.unwrap();
            let refusal = refused_within(&client, "SELECT pg_temp.sneak()").await;
            assert_eq!(refusal.sqlstate, "25000", "{call}: {refusal:?}");
            assert_eq!(value(&client, "SELECT tenancy.subject()").await, "alice");
            run(&client, &format!("ROLLBACK; SET {forced} = off; DROP FUNCTION pg_temp.sneak()")).await;
        }
    });
}

#[test]
fn a_session_keeps_its_cursors_and_its_identity_over_prepared_transactions() {
    in_database(async |database| {
        let (client, superuser) = (database.application().await, database.superuser().await);
        allow_sessions(&superuser).await;
        authenticate_session(&client, &database.token("alice")).await.unwrap();
        run(&client, r#"BEGIN; DECLARE kept CURSOR WITH HOLD FOR SELECT title FROM "Finding"; COMMIT"#).await;
        assert_eq!(column(&client, "FETCH ALL FROM kept").await.len(), 5);
        let name = &database.name;
        run(&client, r#"CLOSE kept; BEGIN; INSERT INTO "Finding" (title) VALUES ('prepared')"#).await;
        run(&client, &format!("PREPARE TRANSACTION '{name}'")).await;
        assert_eq!(count(&client, FINDINGS).await, 5);
        run(&client, &format!("COMMIT PREPARED '{name}'")).await;
        assert_eq!(count(&client, FINDINGS).await, 6);
    });
}
