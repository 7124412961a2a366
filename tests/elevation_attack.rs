//! Elevation under attack: whoever has worked under break-glass does not keep it past its end, by whatever way, and
//! nobody gets what was granted to somebody else. Each refusal is recorded.

use crate::action_types::act;
use crate::break_glass::{CHANGE, approved, elevate, end, prepare, state};
use crate::common::server::{kill, lose, reconnect};
use crate::common::*;
use crate::pooler::pooled;
use crate::reads::{drained, on_a_server};
use crate::rotation_model::with_a_clock;
use crate::standby::{Standby, catch_up};
use tokio_postgres::Client;
use uuid::Uuid;

/// What lists the findings, through a function that asks for the permission itself.
const SCHEMA: &str = r#"
    CREATE FUNCTION public.mend() RETURNS text LANGUAGE plpgsql SECURITY DEFINER
        AS 'BEGIN UPDATE public."Finding" SET title = ''mended'' WHERE id = 1; RETURN ''done''; END';
    CREATE FUNCTION public.may() RETURNS text LANGUAGE plpgsql
        AS 'DECLARE may boolean := tenancy.authorize(''finding'', ''update''); BEGIN RETURN may; END';
    CREATE FUNCTION public.allowed() RETURNS boolean LANGUAGE sql STABLE
        AS 'SELECT tenancy.allowed(''finding'', ''update'')'"#;

/// A server with a worker: refusals become events.
async fn begin(database: &Database) -> (Client, Client, Client) {
    let (superuser, client) = (database.superuser().await, database.application().await);
    prepare(&superuser).await;
    run(&superuser, SCHEMA).await;
    (superuser, client, database.application().await)
}

/// How many refusals were recorded of the person since the last call that counted.
async fn refusals(superuser: &Client, subject: &str) -> i64 {
    drained(superuser).await;
    let denied = "SELECT count(*) FROM tenancy.audit_trail WHERE result = 'denied' AND subject";
    count(superuser, &format!("{denied} = '{subject}'")).await
}

#[test]
fn a_grant_opens_nothing_for_whom_it_is_not_for() {
    on_a_server("attack-ids", "50ms", async |server| {
        let database = &Database::create(server.config()).await;
        let (superuser, client, _) = begin(database).await;
        let id = approved(database, &client, "").await;
        let forged = Uuid::from_u128(Uuid::parse_str(&id).unwrap().as_u128() ^ 1).to_string();
        // Of the same organization, of another one, and a made-up id by the beneficiary.
        for (number, (subject, id, sqlstate)) in [
            ("alice", &id, "42501"),
            ("dora", &id, "42501"),
            ("victor", &id, "42501"),
            ("bob", &id, "42704"),
            ("nora", &forged, "42704"),
            ("nora", &ACME.to_string(), "42704"),
        ]
        .into_iter()
        .enumerate()
        {
            let before = refusals(&superuser, subject).await;
            let refusal = act(&client, &database.token(subject), &elevate(id)).await.unwrap_err();
            assert_eq!(refusal.sqlstate, sqlstate, "{number}, {subject}: {}", refusal.message);
            assert_eq!(refusals(&superuser, subject).await, before + 1, "{number}, {subject}");
        }
        // Nor does the setting take a value that somebody wrote.
        as_tenant(&client, &database.token("nora")).await;
        for sql in [
            "SET LOCAL tenancy.context = '{}'",
            "SELECT set_config('tenancy.context', current_setting('tenancy.context', true), true)",
        ] {
            assert!(["42501", "55P02", "22023"].contains(&&*refused_within(&client, sql).await.sqlstate), "{sql}");
        }
        assert_eq!(refused_within(&client, CHANGE).await.sqlstate, "42501");
        run(&client, "ROLLBACK").await;
        assert_eq!(state(&superuser, &id).await, "approved", "nobody has activated it");
    });
}

#[test]
fn nothing_that_was_begun_before_the_end_goes_on_after_it() {
    on_a_server("attack-end", "50ms", async |server| {
        let database = &Database::create(server.config()).await;
        let (superuser, mut client, admin) = begin(database).await;
        let (nora, dora) = (database.token("nora"), database.token("dora"));
        let prepared = client.prepare(CHANGE).await.unwrap();
        for level in ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] {
            let id = approved(database, &admin, &format!(", ticket => '{level}'")).await;
            let transaction = client.transaction().await.unwrap();
            let session = transaction.client();
            run(session, &format!("SET TRANSACTION ISOLATION LEVEL {level}")).await;
            transaction.execute("SELECT tenancy.authenticate($1)", &[&nora]).await.unwrap();
            run(session, &elevate(&id)).await;
            run(
                session,
                r#"DECLARE c CURSOR FOR SELECT title FROM "Finding";
                   DECLARE u CURSOR FOR SELECT title FROM "Finding" FOR UPDATE; FETCH u; FETCH c;
                   PREPARE p AS UPDATE "Finding" SET title = 'p' WHERE id = 2; EXECUTE p;
                   SELECT may(), allowed(), mend(); SET LOCAL work_mem = '1MB'"#,
            )
            .await;
            let portal = transaction.bind(r#"SELECT title FROM "Finding""#, &[]).await.unwrap();
            assert_eq!(transaction.query_portal(&portal, 2).await.unwrap().len(), 2, "{level}");
            let unused = transaction.bind(&prepared, &[]).await.unwrap();
            assert_eq!(transaction.execute(&prepared, &[]).await.unwrap(), 1);
            run(session, "SAVEPOINT held").await;
            act(&admin, &dora, &end(&id)).await.unwrap();
            let before = refusals(&superuser, "nora").await;
            let mut expected = before;
            for sql in [
                "FETCH c",
                "FETCH ALL u",
                "MOVE ALL c",
                r#"UPDATE "Finding" SET title = 'c' WHERE CURRENT OF u"#,
                "EXECUTE p",
                "SELECT may()",
                "SELECT allowed()",
                "SELECT mend()",
                "DO 'BEGIN PERFORM public.mend(); END'",
                r#"COPY "Finding" (id) TO STDOUT"#,
                "CREATE TEMP TABLE kept AS SELECT 1",
                "SET LOCAL work_mem = '2MB'",
                "SET ROLE test_tenancy_application",
                "SELECT tenancy.whoami()",
                "SELECT 1",
                CHANGE,
            ] {
                let refusal = refused(session, sql).await;
                assert_eq!(refusal.sqlstate, "42501", "{level}, {sql}: {}", refusal.message);
                assert!(refusal.message.contains("has ended"), "{level}, {sql}: {}", refusal.message);
                run(session, "ROLLBACK TO held").await;
                expected += 1;
            }
            for portal in [&portal, &unused] {
                let error = transaction.query_portal(portal, 2).await.unwrap_err();
                assert_eq!(Refusal::of(&error).sqlstate, "42501", "{level}");
                run(session, "ROLLBACK TO held").await;
                expected += 1;
            }
            let error = transaction.execute(&prepared, &[]).await.unwrap_err();
            assert_eq!(Refusal::of(&error).sqlstate, "42501", "{level}");
            transaction.rollback().await.unwrap();
            assert!(refusals(&superuser, "nora").await > expected, "{level}: each refusal is an event");
            // The session is not elevated, and neither is what it had prepared.
            as_tenant(&client, &nora).await;
            assert_eq!(Refusal::of(&client.execute(&prepared, &[]).await.unwrap_err()).sqlstate, "42501");
            run(&client, "ROLLBACK; DEALLOCATE p").await;
        }
    });
}

#[test]
fn no_transaction_waits_prepared_under_a_grant() {
    in_database(async |database| {
        let (superuser, client, _) = begin(database).await;
        let id = approved(database, &client, "").await;
        as_tenant(&client, &database.token("nora")).await;
        run(&client, &format!("{}; {CHANGE}", elevate(&id))).await;
        let refusal = refused(&client, &format!("PREPARE TRANSACTION '{id}'")).await;
        let is_refused = refusal.sqlstate == "42501" && refusal.message.contains("cannot be prepared");
        assert!(is_refused, "{refusal:?}");
        let prepared = "SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()";
        assert_eq!(count(&superuser, prepared).await, 0);
        assert_eq!(value(&superuser, r#"SELECT title FROM "Finding" WHERE id = 1"#).await, "acme finding 1");
    });
}

#[test]
fn grants_of_one_person_end_each_by_itself() {
    in_database(async |database| {
        let (_, client, admin) = begin(database).await;
        let (nora, dora) = (database.token("nora"), database.token("dora"));
        let ids = [approved(database, &admin, "").await, approved(database, &admin, ", ticket => 'two'").await];
        let other = database.application().await;
        for (client, id) in [(&client, &ids[0]), (&other, &ids[1])] {
            as_tenant(client, &nora).await;
            run(client, &elevate(id)).await;
        }
        act(&admin, &dora, &end(&ids[0])).await.unwrap();
        assert_eq!(value(&other, CHANGE).await, "mended", "the end of one changes nothing of the other");
        assert_eq!(refused_within(&client, CHANGE).await.sqlstate, "42501");
        run(&client, "ROLLBACK").await;
        run(&other, "ROLLBACK").await;
        // One transaction that has worked under both ends with either.
        let third = approved(database, &admin, ", ticket => 'three'").await;
        as_tenant(&client, &nora).await;
        run(&client, &format!("{}; {}; {CHANGE}; SAVEPOINT s", elevate(&third), elevate(&ids[1]))).await;
        act(&admin, &dora, &end(&third)).await.unwrap();
        assert_eq!(refused(&client, CHANGE).await.sqlstate, "42501");
        run(&client, "ROLLBACK").await;
        as_tenant(&client, &nora).await;
        run(&client, &format!("{}; {CHANGE}; COMMIT", elevate(&ids[1]))).await;
    });
}

#[test]
fn a_role_that_is_set_keeps_no_elevation_past_its_end() {
    in_database(async |database| {
        let (superuser, client, admin) = begin(database).await;
        let id = approved(database, &admin, "").await;
        let other = format!("other_{}", database.name);
        run(&superuser, &format!("CREATE ROLE {other}; GRANT {other}, tenancy_application TO {APPLICATION}")).await;
        run(&superuser, &format!(r#"GRANT tenancy_application TO {other}; GRANT ALL ON "Finding" TO {other}"#)).await;
        as_tenant(&client, &database.token("nora")).await;
        run(&client, &format!("{}; SET LOCAL ROLE {other}; SAVEPOINT s", elevate(&id))).await;
        assert_eq!(value(&client, CHANGE).await, "mended");
        act(&admin, &database.token("dora"), &end(&id)).await.unwrap();
        for sql in [CHANGE, "RESET ROLE", "SET SESSION AUTHORIZATION DEFAULT"] {
            assert_eq!(refused(&client, sql).await.sqlstate, "42501", "{sql}");
            run(&client, "ROLLBACK TO s").await;
        }
        run(&client, "ROLLBACK").await;
        as_tenant(&client, &database.token("nora")).await;
        run(&client, &format!("SET LOCAL ROLE {other}")).await;
        assert_eq!(refused_within(&client, CHANGE).await.sqlstate, "42501");
        run(&client, "ROLLBACK").await;
        run(&superuser, &format!("DROP OWNED BY {other}; DROP ROLE {other}")).await;
    });
}

#[test]
fn a_parallel_worker_has_no_elevation_that_has_ended() {
    in_database(async |database| {
        let (superuser, client, admin) = begin(database).await;
        run(
            &superuser,
            r#"INSERT INTO "Finding" ("organizationId", title)
               SELECT 'aaaaaaaa-0000-4000-8000-000000000001', 'more' FROM generate_series(1, 5000)"#,
        )
        .await;
        run(&superuser, r#"ALTER TABLE "Finding" SET (parallel_workers = 2); ANALYZE "Finding""#).await;
        let id = approved(database, &admin, "").await;
        as_tenant(&client, &database.token("nora")).await;
        run(
            &client,
            &format!(
                "{}; SET LOCAL min_parallel_table_scan_size = 0; SET LOCAL parallel_setup_cost = 0;
                 SET LOCAL parallel_tuple_cost = 0",
                elevate(&id)
            ),
        )
        .await;
        let counts = r#"SELECT count(*) FROM "Finding" WHERE tenancy.allowed('finding', 'update') AND title <> ''"#;
        let plan = column(&client, &format!("EXPLAIN {counts}")).await.join("\n");
        assert!(plan.contains("Gather"), "{plan}");
        assert_eq!(count(&client, counts).await, 5005);
        act(&admin, &database.token("dora"), &end(&id)).await.unwrap();
        assert_eq!(refused_within(&client, counts).await.sqlstate, "42501");
        run(&client, "ROLLBACK").await;
    });
}

#[test]
fn the_next_client_of_a_pooled_connection_is_not_elevated() {
    in_database(async |database| {
        let (_, client, _) = begin(database).await;
        let id = approved(database, &client, "").await;
        let nora = database.token("nora");
        for ending in ["COMMIT", "ROLLBACK", "SELECT 1 / 0"] {
            let first = pooled(database).await;
            as_tenant(&first, &nora).await;
            run(&first, &format!("{}; {CHANGE}", elevate(&id))).await;
            let process = value(&first, "SELECT pg_backend_pid()").await;
            if first.batch_execute(ending).await.is_err() {
                run(&first, "ROLLBACK").await;
            }
            drop(first);
            let next = pooled(database).await;
            as_tenant(&next, &nora).await;
            assert_eq!(value(&next, "SELECT pg_backend_pid()").await, process, "another server connection");
            assert_eq!(value(&next, "SELECT tenancy.whoami() ->> 'method'").await, "token", "after {ending}");
            assert_eq!(refused_within(&next, CHANGE).await.sqlstate, "42501", "after {ending}");
            run(&next, "ROLLBACK").await;
        }
    });
}

#[test]
fn an_activation_outlives_the_death_of_its_server() {
    on_a_server("attack-kill", "50ms", async |server| {
        let database = &Database::create(server.config()).await;
        let (superuser, client, _) = begin(database).await;
        let id = approved(database, &client, "").await;
        as_tenant(&client, &database.token("nora")).await;
        let end_at = value(&client, &elevate(&id)).await;
        kill(&value(&client, "SELECT pg_backend_pid()").await);
        drop(client);
        lose(superuser).await;
        let superuser = reconnect(&database.config()).await;
        assert_eq!(state(&superuser, &id).await, "active");
        let ends = format!("SELECT ends_at = '{end_at}' FROM tenancy.break_glass_grant WHERE id = '{id}'");
        assert_eq!(value(&superuser, &ends).await, "t", "its time has gone on");
        let activated = "SELECT count(*) FROM tenancy.event WHERE operation = 'break_glass_activated'";
        assert_eq!(count(&superuser, activated).await, 1);
    });
}

#[test]
fn a_standby_elevates_nobody() {
    in_database(async |database| {
        let (superuser, client, _) = begin(database).await;
        let active = approved(database, &client, ", ticket => 'active'").await;
        act(&client, &database.token("nora"), &elevate(&active)).await.unwrap();
        run(&superuser, "SELECT tenancy.set_guardrail('unrecorded_break_glass', 'enforce', 'test')").await;
        let id = approved(database, &client, "").await;
        let Some(standby) = Standby::start() else {
            skipped("the server is not one to be copied");
            return;
        };
        let there = standby.application(database).await;
        catch_up(&superuser, &there).await;
        as_tenant(&there, &database.token("nora")).await;
        for id in [&id, &active] {
            let refusal = refused_within(&there, &elevate(id)).await;
            assert_eq!((&*refusal.sqlstate, refusal.detail.as_deref()), ("55000", Some("The server is a standby.")));
        }
        assert_eq!(value(&there, "SELECT tenancy.whoami() ->> 'method'").await, "token");
        assert_eq!(state(&superuser, &id).await, "approved");
    });
}

#[test]
fn a_grant_ends_at_the_microsecond() {
    with_a_clock("attack-clock", async |database, superuser| {
        let (client, actor) = (database.application().await, database.superuser().await);
        prepare(superuser).await;
        let (nora, dora) = (database.token("nora"), database.token("dora"));
        let id = approved(database, &client, ", duration => '1 hour'").await;
        as_tenant(&actor, &nora).await;
        run(&actor, &elevate(&id)).await;
        let ends = "SELECT (extract(epoch FROM ends_at) * 1000000)::bigint FROM tenancy.break_glass_grant";
        let ends = count(&actor, ends).await;
        let moment = |from_end: i64| format!("SET LOCAL tenancy.test_clock = '{}'", ends + from_end);
        run(&actor, &format!("DECLARE c CURSOR FOR SELECT 1; SAVEPOINT s; {}; SELECT 1; FETCH c", moment(-1))).await;
        for sql in ["SELECT 1", "FETCH c"] {
            run(&actor, &format!("ROLLBACK TO s; {}", moment(0))).await;
            let refusal = refused(&actor, sql).await;
            assert_eq!((&*refusal.sqlstate, refusal.message.contains("has ended")), ("42501", true), "{sql}");
        }
        // Nobody ends then what has ended, and nobody begins again.
        run(&actor, "ROLLBACK").await;
        for (token, sql) in [(&dora, end(&id)), (&nora, elevate(&id))] {
            as_tenant(&actor, token).await;
            run(&actor, &moment(0)).await;
            assert_eq!(refused(&actor, &sql).await.sqlstate, "55000", "{sql}");
            run(&actor, "ROLLBACK").await;
        }
        // Nor is an approved one activated at the microsecond at which it expires. The process that records it looks
        // at the clock a moment later.
        let id = approved(database, &client, ", ticket => 'late'").await;
        let before = format!(
            "SELECT (extract(epoch FROM activate_before) * 1000000)::bigint FROM tenancy.break_glass_grant
              WHERE id = '{id}'"
        );
        let before = count(superuser, &before).await;
        for (from_end, expected) in [(0, Some("55000")), (-30_000_000, None)] {
            as_tenant(&actor, &nora).await;
            run(&actor, &format!("SET LOCAL tenancy.test_clock = '{}'", before + from_end)).await;
            let done = try_rows(&actor, &elevate(&id)).await;
            assert_eq!(done.err().map(|refusal| refusal.sqlstate).as_deref(), expected, "{from_end}");
            run(&actor, "ROLLBACK").await;
        }
        assert_eq!(state(superuser, &id).await, "active");
    });
}
