//! The context behind PgBouncer in transaction mode, where the clients of a database share one server connection: what
//! one leaves there must open nothing for the next. `tools/pooler.sh` starts it.

use std::collections::BTreeSet;
use std::future::poll_fn;

use crate::common::*;
use futures_util::future::join_all;
use serde_json::json;
use tokio_postgres::{AsyncMessage, Client, Config, NoTls};
use uuid::Uuid;

const FINDINGS: &str = r#"SELECT count(*) FROM "Finding""#;
const TITLES: &str = r#"SELECT title FROM "Finding" ORDER BY id"#;
/// Two members of different organizations, what each must see, and how it begins.
const ALICE: (&str, Uuid, i64, &str) = ("alice", ACME, 5, "acme finding");
const BOB: (&str, Uuid, i64, &str) = ("bob", GLOBEX, 7, "globex finding");

/// Where the pooler listens.
fn pooler(database: &Database) -> Config {
    let variable = |name: &str| {
        std::env::var(name).unwrap_or_else(|_| {
            panic!("{name} is not set: run tools/pooler.sh start test, then eval \"$(tools/pooler.sh env test)\"")
        })
    };
    let mut config = Config::new();
    config.host(variable("PG_TENANCY_POOLER_HOST")).port(variable("PG_TENANCY_POOLER_PORT").parse().unwrap());
    config.user(APPLICATION).password(variable("PGPASSWORD")).dbname(&database.name);
    config
}

/// A client of the application that comes through the pooler.
pub async fn pooled(database: &Database) -> Client {
    connect(&pooler(database)).await
}

/// The server process that answers the client now.
async fn backend(client: &Client) -> String {
    value(client, "SELECT pg_backend_pid()").await
}

/// The first statement of a new client, which does not authenticate, is refused. Returns the server process.
async fn assert_the_next_client_has_no_access(database: &Database, before: &str) -> String {
    let client = pooled(database).await;
    let statements = [
        FINDINGS,
        "SELECT count(*) FROM public.cloud_account",
        r#"UPDATE public."Finding" SET title = 'mine' RETURNING title"#,
        r#"INSERT INTO public."Finding" (title) VALUES ('mine')"#,
        "SELECT tenancy.org_id()",
        "SELECT tenancy.claims()",
    ];
    for sql in statements {
        assert_eq!(refused(&client, sql).await.sqlstate, "28000", "{sql} after {before}");
    }
    assert_eq!(whoami(&client).await, json!({"authenticated": false}), "after {before}");
    backend(&client).await
}

/// In a transaction of its own, the member sees all of its organization and nothing else. Returns the server process.
async fn assert_sees_its_own(client: &Client, database: &Database, member: (&str, Uuid, i64, &str)) -> String {
    let (subject, organization, findings, prefix) = member;
    as_tenant(client, &database.token(subject)).await;
    assert_eq!(value(client, "SELECT tenancy.org_id()").await, organization.to_string());
    let titles = column(client, r#"SELECT title FROM public."Finding""#).await;
    assert_eq!(titles.len(), usize::try_from(findings).unwrap());
    assert!(titles.iter().all(|title| title.starts_with(prefix)), "{subject} saw {titles:?}");
    let pid = backend(client).await;
    run(client, "COMMIT").await;
    pid
}

#[test]
fn two_organizations_take_turns_on_one_server_connection() {
    in_database(async |database| {
        let (alice, bob) = (pooled(database).await, pooled(database).await);
        let mut processes = BTreeSet::new();
        for _ in 0..50 {
            processes.insert(assert_sees_its_own(&alice, database, ALICE).await);
            processes.insert(assert_sees_its_own(&bob, database, BOB).await);
        }
        assert_eq!(processes.len(), 1, "they did not share a server connection: {processes:?}");
    });
}

#[test]
fn many_clients_at_once_each_see_their_own() {
    in_database(async |database| {
        let clients = (0..8).map(async |n| {
            let client = pooled(database).await;
            let member = [ALICE, BOB][n % 2];
            let mut processes = BTreeSet::new();
            for _ in 0..12 {
                processes.insert(assert_sees_its_own(&client, database, member).await);
                // Others had the connection meanwhile.
                assert_eq!(refused(&client, FINDINGS).await.sqlstate, "28000");
            }
            processes
        });
        let processes: BTreeSet<_> = join_all(clients).await.into_iter().flatten().collect();
        assert_eq!(processes.len(), 1, "they did not share a server connection: {processes:?}");
    });
}

/// Each entry leaves the server connection to the next client in its own way.
#[test]
fn who_does_not_authenticate_has_no_access_whatever_came_before() {
    in_database(async |database| {
        let token = database.token("alice");
        let begin = format!("BEGIN; SELECT tenancy.authenticate('{token}');");
        let endings = [
            "COMMIT",
            "ROLLBACK",
            "COMMIT AND CHAIN; ROLLBACK",
            "SELECT 1/0",
            "SELECT tenancy.authenticate('no token')",
            "SAVEPOINT s; SELECT tenancy.sign_out(); ROLLBACK TO s; COMMIT",
            "RESET ALL; COMMIT",
            "RESET ALL; ROLLBACK",
            "SET row_security = off; RESET row_security; COMMIT",
            r#"DECLARE open CURSOR FOR SELECT * FROM "Finding"; FETCH 1 FROM open; COMMIT"#,
            "COMMIT; DISCARD ALL",
            "SET LOCAL ROLE tenancy_application; COMMIT",
            "SET ROLE tenancy_application; ROLLBACK",
            r#"PREPARE left_behind AS SELECT * FROM "Finding"; EXECUTE left_behind; COMMIT"#,
        ];
        let mut processes = BTreeSet::new();
        for ending in endings {
            let client = pooled(database).await;
            processes.insert(backend(&client).await);
            if client.batch_execute(&format!("{begin} {ending}")).await.is_err() {
                run(&client, "ROLLBACK").await;
            }
            drop(client);
            processes.insert(assert_the_next_client_has_no_access(database, ending).await);
        }
        // A statement with a transaction of its own.
        let client = pooled(database).await;
        authenticate(&client, &token).await.unwrap();
        processes.insert(assert_the_next_client_has_no_access(database, "no BEGIN").await);
        run(&client, &format!("SELECT tenancy.authenticate('{token}'); {FINDINGS}")).await;
        processes.insert(assert_the_next_client_has_no_access(database, "one message").await);
        assert_eq!(processes.len(), 1, "they did not share a server connection: {processes:?}");
        assert!(processes.contains(&assert_sees_its_own(&pooled(database).await, database, BOB).await));
    });
}

#[test]
fn a_client_that_vanishes_within_its_transaction_leaves_nothing() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        seal_all(&superuser).await;
        for leave in [r#"INSERT INTO "Finding" (title) VALUES ('half done')"#, "SELECT 1/0"] {
            let client = pooled(database).await;
            as_tenant(&client, &database.token("alice")).await;
            let process = backend(&client).await;
            client.batch_execute(leave).await.ok();
            drop(client);
            // PgBouncer throws away a server connection whose transaction nobody will end.
            eventually(&superuser, &format!("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = {process}")).await;
            assert_ne!(assert_the_next_client_has_no_access(database, leave).await, process);
            assert_sees_its_own(&pooled(database).await, database, BOB).await;
        }
        assert_eq!(count(&superuser, r#"SELECT count(*) FROM "Finding" WHERE title = 'half done'"#).await, 0);
        assert_eq!(seal(&superuser).await, 0, "an event of a row that is not there");
    });
}

#[test]
fn settings_that_a_client_leaves_in_the_session_open_nothing() {
    in_database(async |database| {
        // What the next client meets when it does not authenticate, and when it does: its rows, or an error.
        let leftovers = [
            ("SET SESSION ROLE tenancy_application", "28000", Some("42501")), // a role without a right to the table
            ("SET row_security = off", "42501", Some("42501")),
            ("SET search_path = pg_catalog", "28000", None),
            ("SET plan_cache_mode = force_generic_plan", "28000", None),
            ("SET default_transaction_isolation = serializable", "28000", None),
            ("SELECT set_config('request.jwt.claims', '{\"sub\": \"alice\"}', false)", "28000", None),
        ];
        let mut processes = BTreeSet::new();
        for (leftover, without, with) in leftovers {
            let client = pooled(database).await;
            as_tenant(&client, &database.token("alice")).await;
            run(&client, &format!("{leftover}; COMMIT")).await;
            drop(client);

            let client = pooled(database).await;
            let sql = r#"SELECT DISTINCT "organizationId" FROM public."Finding""#;
            assert_eq!(refused(&client, sql).await.sqlstate, without, "{leftover}");
            as_tenant(&client, &database.token("bob")).await;
            match with {
                None => assert_eq!(column(&client, sql).await, [GLOBEX.to_string()], "{leftover}"),
                Some(sqlstate) => assert_eq!(refused(&client, sql).await.sqlstate, sqlstate, "{leftover}"),
            }
            run(&client, "ROLLBACK; RESET ROLE; RESET ALL").await;
            processes.insert(assert_sees_its_own(&client, database, BOB).await);
        }
        assert_eq!(processes.len(), 1, "they did not share a server connection: {processes:?}");
    });
}

#[test]
fn a_context_that_a_client_sets_by_hand_reaches_nobody() {
    in_database(async |database| {
        // A server connection that has not loaded the library yet keeps any value, until it does.
        let client = pooled(database).await;
        client.batch_execute("SET tenancy.context = '{}'").await.ok();
        let process = backend(&client).await;
        assert_eq!(assert_the_next_client_has_no_access(database, "an early SET tenancy.context").await, process);
        assert_eq!(refused(&client, "SET tenancy.context = '{}'").await.sqlstate, "42501");
        assert_eq!(assert_the_next_client_has_no_access(database, "a late SET tenancy.context").await, process);
        assert_eq!(assert_sees_its_own(&client, database, BOB).await, process);
    });
}

#[test]
fn reset_all_leaves_no_access_in_the_middle_of_a_transaction_and_the_next_one_is_whole() {
    in_database(async |database| {
        let (alice, bob) = (pooled(database).await, pooled(database).await);
        as_tenant(&alice, &database.token("alice")).await;
        let process = backend(&alice).await;
        run(&alice, "RESET ALL").await;
        assert_eq!(refused(&alice, FINDINGS).await.sqlstate, "28000");
        run(&alice, "ROLLBACK").await;
        assert_eq!(assert_sees_its_own(&bob, database, BOB).await, process);
        assert_eq!(assert_sees_its_own(&alice, database, ALICE).await, process);
    });
}

const PLANS: [&str; 3] = ["auto", "force_generic_plan", "force_custom_plan"];

#[test]
fn a_statement_prepared_in_sql_for_one_organization_never_answers_for_another() {
    in_database(async |database| {
        for plan in PLANS {
            let alice = pooled(database).await;
            as_tenant(&alice, &database.token("alice")).await;
            run(&alice, &format!("SET plan_cache_mode = {plan}")).await;
            run(&alice, &format!("PREPARE titles AS {TITLES}")).await;
            run(&alice, r#"PREPARE title(bigint) AS SELECT title FROM "Finding" WHERE id = $1"#).await;
            run(&alice, r#"PREPARE rename(bigint) AS UPDATE "Finding" SET title = title WHERE id = $1 RETURNING id"#)
                .await;
            for _ in 0..8 {
                assert_eq!(column(&alice, "EXECUTE titles").await.len(), 5, "{plan}");
                assert_eq!(column(&alice, "EXECUTE title(1)").await, ["acme finding 1"], "{plan}");
                assert_eq!(column(&alice, "EXECUTE rename(1)").await, ["1"], "{plan}");
            }
            let process = backend(&alice).await;
            run(&alice, "COMMIT").await;

            // The statements are still there, with their plans.
            let bob = pooled(database).await;
            for sql in ["EXECUTE titles", "EXECUTE title(1)", "EXECUTE rename(1)"] {
                assert_eq!(refused(&bob, sql).await.sqlstate, "28000", "{sql}, {plan}");
            }
            as_tenant(&bob, &database.token("bob")).await;
            for _ in 0..8 {
                let titles = column(&bob, "EXECUTE titles").await;
                assert!(
                    titles.len() == 7 && titles.iter().all(|title| title.starts_with("globex")),
                    "{plan}: {titles:?}"
                );
                assert!(column(&bob, "EXECUTE title(1)").await.is_empty(), "{plan}");
                assert!(column(&bob, "EXECUTE rename(1)").await.is_empty(), "{plan}");
                assert_eq!(column(&bob, "EXECUTE title(101)").await, ["globex finding 101"], "{plan}");
            }
            assert_eq!(backend(&bob).await, process);
            run(&bob, "COMMIT").await;
            run(&bob, "DISCARD ALL").await;
        }
    });
}

/// Before PgBouncer 1.21 the names of the protocol's statements reach the server connection as they are, so that one
/// client's statement answers another; since then the pooler gives clients with the same text the same statement.
#[test]
fn a_statement_prepared_by_the_driver_for_one_organization_never_answers_for_another() {
    in_database(async |database| {
        let pooler_keeps_names_apart = std::env::var("PG_TENANCY_POOLER_PREPARED").is_ok_and(|kept| kept != "0");
        for plan in PLANS {
            let (alice, bob) = (pooled(database).await, pooled(database).await);
            let insert = r#"INSERT INTO "Finding" (title) VALUES ($1) RETURNING "organizationId""#;
            let one = r#"SELECT title FROM "Finding" WHERE id = $1"#;

            as_tenant(&alice, &database.token("alice")).await;
            run(&alice, &format!("SET plan_cache_mode = {plan}")).await;
            let (titles, title, new) = (
                alice.prepare(TITLES).await.unwrap(),
                alice.prepare(one).await.unwrap(),
                alice.prepare(insert).await.unwrap(),
            );
            let process = backend(&alice).await;
            run(&alice, "COMMIT").await;

            let bobs = if pooler_keeps_names_apart {
                run(&bob, "BEGIN").await; // so that the texts are planned on this connection
                (
                    bob.prepare(TITLES).await.unwrap(),
                    bob.prepare(one).await.unwrap(),
                    bob.prepare(insert).await.unwrap(),
                )
            } else {
                (titles.clone(), title.clone(), new.clone())
            };
            run(&bob, "ROLLBACK").await;

            for _ in 0..8 {
                as_tenant(&alice, &database.token("alice")).await;
                let rows = alice.query(&titles, &[]).await.unwrap();
                assert!(
                    rows.len() == 5 && rows.iter().all(|row| row.get::<_, String>(0).starts_with("acme")),
                    "{plan}"
                );
                assert_eq!(alice.query(&title, &[&1i64]).await.unwrap().len(), 1, "{plan}");
                assert_eq!(alice.query(&title, &[&101i64]).await.unwrap().len(), 0, "{plan}");
                assert_eq!(alice.query_one(&new, &[&"new"]).await.unwrap().get::<_, Uuid>(0), ACME, "{plan}");
                assert_eq!(backend(&alice).await, process);
                run(&alice, "ROLLBACK").await;

                let error = bob.query(&bobs.0, &[]).await.unwrap_err();
                assert_eq!(Refusal::of(&error).sqlstate, "28000", "{plan}");
                as_tenant(&bob, &database.token("bob")).await;
                let rows = bob.query(&bobs.0, &[]).await.unwrap();
                assert!(
                    rows.len() == 7 && rows.iter().all(|row| row.get::<_, String>(0).starts_with("globex")),
                    "{plan}"
                );
                assert_eq!(bob.query(&bobs.1, &[&1i64]).await.unwrap().len(), 0, "{plan}");
                assert_eq!(bob.query(&bobs.1, &[&101i64]).await.unwrap().len(), 1, "{plan}");
                assert_eq!(bob.query_one(&bobs.2, &[&"new"]).await.unwrap().get::<_, Uuid>(0), GLOBEX, "{plan}");
                assert_eq!(backend(&bob).await, process);
                run(&bob, "ROLLBACK").await;
            }
        }
    });
}

#[test]
fn a_prepared_transaction_stays_with_its_organization_whoever_commits_it() {
    in_database(async |database| {
        let (alice, bob, superuser) = (pooled(database).await, pooled(database).await, database.superuser().await);
        let name = &database.name;
        run(&superuser, "SELECT tenancy.seal()").await;
        as_tenant(&alice, &database.token("alice")).await;
        run(&alice, r#"INSERT INTO "Finding" (title) VALUES ('prepared')"#).await;
        let process = backend(&alice).await;
        run(&alice, &format!("PREPARE TRANSACTION '{name}'")).await;

        assert_eq!(assert_the_next_client_has_no_access(database, "PREPARE TRANSACTION").await, process);
        assert_eq!(assert_sees_its_own(&bob, database, BOB).await, process);
        // The database role may: Postgres asks for no more. It is not bob's row for that.
        run(&bob, &format!("COMMIT PREPARED '{name}'")).await;
        assert_eq!(assert_the_next_client_has_no_access(database, "COMMIT PREPARED").await, process);
        assert_eq!(assert_sees_its_own(&bob, database, BOB).await, process);

        let sql = r#"SELECT "organizationId" FROM "Finding" WHERE title = 'prepared'"#;
        assert_eq!(column(&superuser, sql).await, [ACME.to_string()]);
        let sql = "SELECT organization, subject FROM tenancy.audit_trail WHERE new_values ->> 'title' = 'prepared'";
        assert_eq!(rows(&superuser, sql).await, [[Some(ACME.to_string()), Some("alice".to_owned())]]);
        seal(&superuser).await;
        assert_audit_is_whole(&superuser).await;
    });
}

#[test]
fn audit_events_name_the_member_and_the_request_that_made_them() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        let clients = (0..6).map(async |n: usize| {
            let client = pooled(database).await;
            let member = [ALICE, BOB][n % 2];
            let token = database.token(member.0);
            let mut processes = BTreeSet::new();
            for round in 0..8 {
                run(&client, "BEGIN").await;
                let request = format!("{} {n}/{round}", member.0);
                let sql = "SELECT tenancy.authenticate($1, correlation_id => $2)";
                client.execute(sql, &[&token, &request]).await.unwrap();
                let sql = r#"INSERT INTO "Finding" (title) VALUES ($1)"#;
                client.execute(sql, &[&request]).await.unwrap();
                processes.insert(backend(&client).await);
                run(&client, if round % 4 == 3 { "ROLLBACK" } else { "COMMIT" }).await;
            }
            processes
        });
        let processes: BTreeSet<_> = join_all(clients).await.into_iter().flatten().collect();
        assert_eq!(processes.len(), 1, "they did not share a server connection: {processes:?}");
        let sql = format!(
            "SELECT count(*),
                    count(*) FILTER (WHERE new_values ->> 'title' = correlation_id
                                       AND subject = split_part(correlation_id, ' ', 1)
                                       AND session_id = 'session of ' || subject
                                       AND organization = CASE subject WHEN 'alice' THEN '{ACME}' ELSE '{GLOBEX}' \
                                       END::uuid)
               FROM tenancy.audit_trail WHERE correlation_id IS NOT NULL"
        );
        assert_eq!(rows(&superuser, &sql).await, [["36", "36"].map(|n| Some(n.to_owned()))]);
        seal(&superuser).await;
        assert_audit_is_whole(&superuser).await;
    });
}

/// No promise of the extension, but what docs/operations.md warns of: copies that Postgres keeps in the session are out
/// of the policies' reach. They end with DISCARD ALL.
#[test]
fn copies_of_rows_that_a_client_leaves_in_the_session_reach_the_next_until_they_are_discarded() {
    in_database(async |database| {
        let alice = pooled(database).await;
        as_tenant(&alice, &database.token("alice")).await;
        run(&alice, r#"CREATE TEMP TABLE "Finding" AS SELECT * FROM public."Finding""#).await;
        run(&alice, r#"CREATE TEMP TABLE dropped ON COMMIT DROP AS SELECT * FROM public."Finding""#).await;
        let hold = r#"DECLARE kept CURSOR WITH HOLD FOR SELECT title FROM public."Finding""#;
        assert_eq!(refused_within(&alice, hold).await.sqlstate, "55000", "a cursor is no such copy: it is refused");
        let process = backend(&alice).await;
        run(&alice, "COMMIT").await;

        let bob = pooled(database).await;
        assert_eq!(count(&bob, FINDINGS).await, 5, "the temporary table comes first in the search path");
        assert_eq!(refused(&bob, "SELECT * FROM dropped").await.sqlstate, "42P01");
        assert_eq!(refused(&bob, r#"SELECT * FROM public."Finding""#).await.sqlstate, "28000");
        assert_eq!(assert_sees_its_own(&bob, database, BOB).await, process);

        run(&alice, "DISCARD ALL").await;
        assert_eq!(refused(&bob, FINDINGS).await.sqlstate, "28000");
        assert_eq!(assert_sees_its_own(&bob, database, BOB).await, process);
    });
}

/// As above: who listens is the server connection, and the pooler hands what arrives to the client that has it.
#[test]
fn what_one_client_listens_to_reaches_another() {
    in_database(async |database| {
        let (alice, superuser) = (pooled(database).await, database.superuser().await);
        as_tenant(&alice, &database.token("alice")).await;
        let process = backend(&alice).await;
        run(&alice, "LISTEN acme; COMMIT").await;

        let (bob, mut connection) = pooler(database).connect(NoTls).await.unwrap();
        let (sender, received) = std::sync::mpsc::channel();
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                if let AsyncMessage::Notification(notification) = message {
                    sender.send(notification.payload().to_owned()).ok();
                }
            }
        });
        as_tenant(&bob, &database.token("bob")).await;
        assert_eq!(backend(&bob).await, process);
        run(&superuser, "NOTIFY acme, 'for acme alone'").await;
        assert_eq!(count(&bob, FINDINGS).await, 7);
        run(&bob, "COMMIT").await;
        assert_eq!(received.recv().unwrap(), "for acme alone");

        run(&bob, "UNLISTEN *").await;
        run(&superuser, "NOTIFY acme, 'for acme alone'").await;
        run(&bob, "SELECT 1").await;
        assert!(received.try_recv().is_err());
    });
}

/// A role of its own for a mode of its own: tools/pooler.sh gives it.
async fn pooled_as(database: &Database, superuser: &Client, role: &str) -> Client {
    let password = std::env::var("PGPASSWORD").unwrap_or_default().replace('\'', "''");
    if count(superuser, &format!("SELECT count(*) FROM pg_roles WHERE rolname = '{role}'")).await == 0 {
        run(superuser, &format!("CREATE ROLE {role} LOGIN")).await;
    }
    run(superuser, &format!("ALTER ROLE {role} PASSWORD '{password}'; GRANT {APPLICATION} TO {role}")).await;
    connect(pooler(database).user(role)).await
}

#[test]
fn in_session_mode_a_client_gets_the_connection_clean() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        let alice = pooled_as(database, &superuser, "test_tenancy_session").await;
        let process = assert_sees_its_own(&alice, database, ALICE).await;
        as_tenant(&alice, &database.token("alice")).await;
        run(&alice, r#"CREATE TEMP TABLE "Finding" AS SELECT * FROM public."Finding"; COMMIT"#).await;
        run(&alice, "SET row_security = off").await;
        drop(alice);
        let bob = pooled_as(database, &superuser, "test_tenancy_session").await;
        assert_eq!(refused(&bob, FINDINGS).await.sqlstate, "28000");
        assert_eq!(assert_sees_its_own(&bob, database, BOB).await, process);
    });
}

#[test]
fn in_statement_mode_nothing_can_be_done_under_a_context() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        let client = pooled_as(database, &superuser, "test_tenancy_statement").await;
        authenticate(&client, &database.token("alice")).await.unwrap();
        assert_eq!(refused(&client, FINDINGS).await.sqlstate, "28000");
        let refusal = refused(&client, "BEGIN").await;
        assert!(refusal.message.contains("statement pooling"), "{refusal:?}");
    });
}
