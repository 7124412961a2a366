//! What is done under break-glass is recorded, statement by statement, whatever becomes of its transaction.

use crate::action_types::act;
use crate::break_glass::{CHANGE, approve, approved, elevate, end, prepare, request, sign_off, state};
use crate::common::*;
use crate::evidence::{Folder, check, checkpoint, export, public_key};
use crate::reads::{drained, on_a_server};
use futures_util::future::join;
use serde_json::{Value, json};
use tokio_postgres::Client;

/// Functions and rights for what statements may do.
const SCHEMA: &str = r#"
    CREATE FUNCTION public.counted() RETURNS bigint LANGUAGE plpgsql
        AS 'BEGIN RETURN (SELECT count(*) FROM public."Finding"); END';
    CREATE PROCEDURE public.mend() LANGUAGE plpgsql
        AS 'BEGIN FOR n IN 1 .. 3 LOOP UPDATE public."Finding" SET title = ''m'' WHERE id = n; END LOOP; END';
    CREATE FUNCTION public.count_accounts() RETURNS trigger LANGUAGE plpgsql
        AS 'BEGIN PERFORM count(*) FROM public.cloud_account; RETURN NULL; END';
    CREATE TRIGGER counts AFTER DELETE ON public."Finding" EXECUTE FUNCTION public.count_accounts();
    CREATE TABLE public.numbers (n int);
    INSERT INTO public.numbers SELECT generate_series(1, 100);
    CREATE VIEW public.named AS SELECT n FROM public.numbers;
    CREATE TABLE public.parts (n int) PARTITION BY RANGE (n);
    CREATE TABLE public.part PARTITION OF public.parts FOR VALUES FROM (0) TO (10);
    GRANT SELECT, INSERT ON public.numbers, public.named, public.parts TO test_tenancy_application;
    GRANT pg_write_server_files, pg_read_server_files TO test_tenancy_application"#;

/// A case: what is run, and the statements that it leaves: command, tables, rows, result.
type Case = (&'static str, &'static [&'static str]);

const CASES: &[Case] = &[
    (r#"SELECT title FROM "Finding""#, &["SELECT Finding 5 success"]),
    ("SELECT 1", &["SELECT  1 success"]),
    (
        "SELECT FROM numbers WHERE n < 4; SELECT FROM named LIMIT 2",
        &["SELECT numbers 3 success", "SELECT named,numbers 2 success"],
    ),
    (r#"UPDATE "Finding" SET title = 'x' WHERE id < 4"#, &["UPDATE Finding 3 success"]),
    (
        "SAVEPOINT s; INSERT INTO numbers SELECT n FROM named WHERE n < 8; ROLLBACK TO s",
        &["INSERT named,numbers 7 success"],
    ),
    (r#"SAVEPOINT s; DELETE FROM "Finding" WHERE id = 1; ROLLBACK TO s"#, &["DELETE Finding,cloud_account 1 success"]),
    (r#"SELECT * FROM "Finding" f JOIN numbers ON n = f.id"#, &["SELECT Finding,numbers 5 success"]),
    (
        "SAVEPOINT s; INSERT INTO parts VALUES (1), (2); SELECT * FROM parts; ROLLBACK TO s",
        &["INSERT parts 2 success", "SELECT parts 2 success"],
    ),
    ("SELECT counted()", &["SELECT Finding 1 success"]),
    ("CALL mend()", &["CALL Finding - success"]),
    ("DO 'BEGIN PERFORM FROM numbers; PERFORM FROM parts; END'", &["DO numbers,parts - success"]),
    (
        "DO 'BEGIN BEGIN PERFORM 1 / (n - n) FROM numbers; EXCEPTION WHEN OTHERS THEN PERFORM FROM parts; END; END'",
        &["DO numbers,parts - success"],
    ),
    ("COPY numbers TO '/dev/null'", &["COPY numbers 100 success"]),
    (r#"COPY "Finding" (id) TO '/dev/null'"#, &["COPY Finding 5 success"]),
    ("COPY (SELECT FROM numbers LIMIT 3) TO '/dev/null'", &["COPY numbers 3 success"]),
    ("COPY numbers FROM '/dev/null'", &["COPY numbers 0 success"]),
    (
        "DECLARE c CURSOR FOR SELECT FROM numbers; FETCH 3 FROM c; MOVE 4 IN c; FETCH 2 FROM c; CLOSE c",
        &[
            "DECLARE CURSOR numbers - success",
            "FETCH numbers 3 success",
            "MOVE numbers 4 success",
            "FETCH numbers 2 success",
            "CLOSE CURSOR  - success",
        ],
    ),
    (
        "PREPARE s AS SELECT FROM numbers WHERE n < $1; EXECUTE s(3); EXECUTE s(2); DEALLOCATE s",
        &["PREPARE  - success", "EXECUTE numbers 2 success", "EXECUTE numbers 1 success", "DEALLOCATE  - success"],
    ),
    ("EXPLAIN SELECT FROM numbers", &["EXPLAIN numbers - success"]),
    ("CREATE TEMP TABLE t ON COMMIT DROP AS SELECT n FROM numbers", &["CREATE TABLE AS numbers 100 success"]),
    ("SET LOCAL work_mem = '1MB'; RESET work_mem", &["SET  - success", "RESET  - success"]),
    ("SAVEPOINT s; SELECT FROM numbers; ROLLBACK TO s; RELEASE s", &["SELECT numbers 100 success"]),
];

/// Ends with an error: as above.
const FAILING: &[Case] = &[
    ("SELECT 1 / (n - 5) FROM (SELECT n FROM numbers ORDER BY n OFFSET 0) n", &["SELECT numbers 4 failed"]),
    ("SELECT FROM numbers; SELECT 1 / 0 FROM parts", &["SELECT numbers 100 success"]),
    ("DO 'BEGIN PERFORM FROM numbers; PERFORM 1 / 0; END'", &["DO numbers - failed"]),
    ("COPY numbers TO '/no/such/folder'", &["COPY numbers - failed"]),
    ("SELECT counted(), 1 / (n - 1) FROM numbers", &["SELECT Finding,numbers 0 failed"]),
    ("SELECT * FROM pg_authid", &["SELECT pg_authid - failed"]),
    ("DROP TABLE numbers", &["DROP TABLE  - failed"]),
    (
        "DECLARE c CURSOR FOR SELECT 1 / (n - 3) FROM numbers; FETCH 9 FROM c",
        &["DECLARE CURSOR numbers - success", "FETCH numbers - failed"],
    ),
    ("SELECT nothing FROM numbers", &[]),
];

const STATEMENTS: &str = "
    SELECT (new_values ->> 'command') || ' '
           || coalesce((SELECT string_agg(t ->> 'table', ',')
                          FROM json_array_elements((new_values ->> 'tables')::json) t), '')
           || ' ' || coalesce(new_values ->> 'rows', '-') || ' ' || result
      FROM tenancy.audit_trail WHERE operation = 'statement'";

/// What was recorded of the sessions with this name.
async fn recorded(client: &Client, name: &str) -> Vec<String> {
    column(client, &format!("{STATEMENTS} AND application_name = '{name}' ORDER BY occurred_at, id")).await
}

/// Begins a transaction under the grant, by that name.
async fn elevated(client: &Client, token: &str, id: &str, name: &str) {
    run(client, &format!("SET application_name = '{name}'")).await;
    as_tenant(client, token).await;
    run(client, &elevate(id)).await;
}

/// A database of a server with a worker, with a grant for nora.
async fn with_a_grant(database: &Database) -> (Client, Client, String, String) {
    let (superuser, client) = (database.superuser().await, database.application().await);
    prepare(&superuser).await;
    let enforce = "SELECT tenancy.set_guardrail('unrecorded_break_glass', 'enforce', 'there is a worker'),
                          tenancy.grant_permission('oncall', 'cloud_account', 'read')";
    run(&superuser, enforce).await;
    let id = approved(database, &client, "").await;
    (superuser, client, database.token("nora"), id)
}

#[test]
fn every_statement_under_break_glass_is_recorded_whatever_becomes_of_its_transaction() {
    on_a_server("statements", "50ms", async |server| {
        let database = &Database::create(server.config()).await;
        let (superuser, client, nora, id) = with_a_grant(database).await;
        run(&superuser, SCHEMA).await;
        for ending in ["COMMIT", "ROLLBACK"] {
            for (n, (sql, _)) in CASES.iter().enumerate() {
                elevated(&client, &nora, &id, &format!("{ending} {n}")).await;
                run(&client, sql).await;
                run(&client, &format!("{ending}; RESET ALL")).await;
            }
        }
        for (n, (sql, _)) in FAILING.iter().enumerate() {
            elevated(&client, &nora, &id, &format!("failing {n}")).await;
            assert!(client.batch_execute(sql).await.is_err(), "{sql}");
            run(&client, "ROLLBACK").await;
        }
        // In a READ ONLY transaction, of a session that is killed, and of what nobody is elevated for.
        run(&client, "SET application_name = 'read only'; BEGIN READ ONLY").await;
        authenticate(&client, &nora).await.unwrap();
        run(&client, &format!("{}; SELECT FROM numbers; COMMIT", elevate(&id))).await;
        let killed = database.application().await;
        elevated(&killed, &nora, &id, "killed").await;
        run(&killed, "SELECT FROM numbers").await;
        assert!(killed.batch_execute("SELECT pg_terminate_backend(pg_backend_pid())").await.is_err());
        let forced = if major() < 16 { "force_parallel_mode" } else { "debug_parallel_query" };
        elevated(&client, &nora, &id, "parallel").await;
        let plan = column(&client, &format!("SET LOCAL {forced} = on; EXPLAIN SELECT count(*) FROM numbers")).await;
        assert!(plan.join("").contains("Gather"), "{plan:?}");
        run(&client, "SELECT count(*) FROM numbers; COMMIT").await;
        run(&client, "SET application_name = 'plain'").await;
        as_tenant(&client, &nora).await;
        run(&client, "SELECT FROM numbers; COMMIT").await;
        // What elevates and reads in one statement, and what goes on in a block after that.
        let within = format!("SELECT n, {} FROM numbers WHERE n < 3", elevate(&id).replace("SELECT ", ""));
        for (name, sql) in [
            ("within", within.clone()),
            ("block", format!("DO $$ BEGIN PERFORM {}; PERFORM FROM parts; END $$", &elevate(&id)[7..])),
        ] {
            run(&client, &format!("SET application_name = '{name}'")).await;
            as_tenant(&client, &nora).await;
            run(&client, &format!("{sql}; COMMIT")).await;
        }
        drained(&superuser).await;

        let mut wrong = Vec::new();
        for (group, cases) in [("COMMIT", CASES), ("ROLLBACK", CASES), ("failing", FAILING)] {
            for (n, (sql, expected)) in cases.iter().enumerate() {
                let all = recorded(&superuser, &format!("{group} {n}")).await;
                if all != *expected {
                    wrong.push(format!("{sql}; {group}: {all:?}"));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert_eq!(recorded(&superuser, "read only").await, ["SELECT numbers 100 success"]);
        assert_eq!(recorded(&superuser, "killed").await, ["SELECT numbers 100 success", "SELECT  1 failed"]);
        assert_eq!(
            recorded(&superuser, "parallel").await,
            ["SET  - success", "EXPLAIN numbers - success", "SELECT numbers 1 success"],
            "the leader tells of its workers"
        );
        assert!(recorded(&superuser, "plain").await.is_empty());
        assert_eq!(recorded(&superuser, "within").await, ["SELECT numbers 2 success"], "{within}");
        assert_eq!(recorded(&superuser, "block").await, ["DO parts - success"]);
        let wrong = format!(
            "SELECT count(*) FROM tenancy.audit_trail WHERE operation = 'statement' AND NOT (
                 organization = '{ACME}' AND grant_id = '{id}' AND subject = 'nora' AND method = 'elevated'
                 AND (new_values ->> 'query_id')::bigint <> 0 AND (new_values ->> 'duration')::bigint >= 0
                 AND new_values ->> 'after_end' IS NULL)"
        );
        assert_eq!(count(&superuser, &wrong).await, 0);
        assert_eq!(value(&superuser, "SELECT waiting || ' ' || dropped FROM tenancy.refusal_queue()").await, "0 0");
        assert_audit_is_whole(&superuser).await;
    });
}

#[test]
fn a_portal_is_one_statement_and_one_that_was_opened_before_is_recorded_too() {
    on_a_server("portals", "50ms", async |server| {
        let database = &Database::create(server.config()).await;
        let (superuser, mut client, nora, id) = with_a_grant(database).await;
        run(&client, "SET application_name = 'portal'").await;
        let transaction = client.transaction().await.unwrap();
        transaction.execute("SELECT tenancy.authenticate($1)", &[&nora]).await.unwrap();
        let before = transaction.bind(r#"SELECT title FROM "Finding""#, &[]).await.unwrap();
        assert_eq!(transaction.query_portal(&before, 1).await.unwrap().len(), 1);
        transaction.batch_execute(&elevate(&id)).await.unwrap();
        let portal = transaction.bind("SELECT external_id FROM cloud_account", &[]).await.unwrap();
        let never = transaction.bind("SELECT 1", &[]).await.unwrap();
        for rows in [2, 2, 0] {
            assert_eq!(transaction.query_portal(&before, 2).await.unwrap().len(), rows);
        }
        for rows in [1, 0] {
            assert_eq!(transaction.query_portal(&portal, 1).await.unwrap().len(), rows);
        }
        drop(never);
        transaction.commit().await.unwrap();
        drained(&superuser).await;
        let mut all = recorded(&superuser, "portal").await;
        all.sort_unstable();
        assert_eq!(all, ["SELECT Finding 4 success", "SELECT cloud_account 1 success"]);
    });
}

#[test]
fn a_statement_that_runs_across_the_end_of_the_grant_says_so() {
    on_a_server("across", "50ms", async |server| {
        let database = &Database::create(server.config()).await;
        let (superuser, client, nora, id) = with_a_grant(database).await;
        let (admin, watcher) = (database.application().await, database.superuser().await);
        for (ending, id) in [("COMMIT", id), ("ROLLBACK", approved(database, &admin, ", ticket => '2'").await)] {
            run(&superuser, "SELECT pg_advisory_lock(1)").await;
            elevated(&client, &nora, &id, ending).await;
            run(&client, "SELECT 'before'").await;
            let revokes = async {
                let waits = "SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
                eventually(&watcher, waits).await;
                act(&admin, &database.token("dora"), &end(&id)).await.unwrap();
                run(&superuser, "SELECT pg_advisory_unlock(1)").await;
            };
            join(run(&client, "SELECT pg_advisory_xact_lock_shared(1)"), revokes).await;
            run(&client, ending).await;
            drained(&superuser).await;
            let ends = format!(
                "SELECT coalesce(new_values ->> 'after_end', 'in time') || ' ' || result FROM tenancy.audit_trail
                  WHERE operation = 'statement' AND grant_id = '{id}' ORDER BY occurred_at"
            );
            assert_eq!(column(&superuser, &ends).await, ["in time success", "true success"], "{ending}");
        }
    });
}

#[test]
fn where_statements_cannot_be_recorded_the_guardrail_decides() {
    on_a_server("unrecordable", "50ms", async |server| {
        let database = &Database::create(server.config()).await;
        let (superuser, client, nora, id) = with_a_grant(database).await;
        act(&client, &nora, &elevate(&id)).await.unwrap();
        drained(&superuser).await;
        // No worker: known at the elevation, and at a statement of a transaction that is elevated already.
        elevated(&client, &nora, &id, "held").await;
        server.seals_every("0").await;
        let is_off = "SELECT current_setting('tenancy.seal_interval') = '0'";
        let other = database.superuser().await;
        eventually(&other, is_off).await;
        let refusal = refused_within(&client, CHANGE).await;
        assert_eq!((refusal.sqlstate.as_str(), refusal.message.contains("recorded")), ("55000", true), "{refusal:?}");
        run(&client, "COMMIT").await;
        let refusal = act(&client, &nora, &elevate(&id)).await.unwrap_err();
        assert_eq!((refusal.sqlstate.as_str(), refusal.message.contains("recorded")), ("55000", true), "{refusal:?}");
        assert!(refusal.detail.unwrap().contains("tenancy.seal_interval"));
        let hits = "SELECT count(*) FROM tenancy.audit_trail WHERE operation = 'guardrail' AND result = 'warned'
                       AND new_values ->> 'guardrail' = 'unrecorded_break_glass'";
        for (state, expected) in [("warn", 1), ("off", 1)] {
            run(&superuser, &format!("SELECT tenancy.set_guardrail('unrecorded_break_glass', '{state}', 'test')"))
                .await;
            let change = format!("{}; {CHANGE}", elevate(&id));
            act(&client, &nora, &change).await.unwrap();
            assert_eq!(count(&superuser, hits).await, expected, "{state}");
        }
        let committed = "SELECT count(*) FROM tenancy.audit_trail WHERE operation = 'statement'
                            AND new_values ->> 'command' = 'UPDATE'";
        assert_eq!(count(&superuser, committed).await, 2, "what commits is recorded all the same");
    });
}

#[test]
fn a_full_queue_holds_statements_back_and_loses_none() {
    on_a_server("full-queue", "1h", async |server| {
        let database = &Database::create(server.config()).await;
        let (superuser, client, nora, id) = with_a_grant(database).await;
        act(&client, &nora, &elevate(&id)).await.unwrap();
        // The worker cannot write.
        run(&superuser, "BEGIN; LOCK TABLE tenancy.event_actor IN ACCESS EXCLUSIVE MODE").await;
        let (mut sent, mut refusal) = (0, None);
        while refusal.is_none() && sent < 5000 {
            as_tenant(&client, &nora).await;
            let done = match try_rows(&client, &elevate(&id)).await {
                Ok(_) => try_rows(&client, "SELECT 'kept'").await,
                Err(refused) => Err(refused),
            };
            run(&client, "ROLLBACK").await;
            match done {
                Ok(_) => sent += 1,
                Err(refused) => refusal = Some(refused),
            }
        }
        let refusal = refusal.unwrap();
        assert_eq!((refusal.sqlstate.as_str(), sent > 100), ("55000", true), "{refusal:?} after {sent}");
        run(&superuser, "COMMIT").await;
        server.seals_every("50ms").await;
        drained(&superuser).await;
        let kept = "SELECT count(*) FROM tenancy.audit_trail WHERE operation = 'statement'";
        assert_eq!(count(&superuser, kept).await, sent);
        assert_eq!(count(&superuser, "SELECT dropped FROM tenancy.refusal_queue()").await, 0);
        // Many statements of one transaction share messages.
        elevated(&client, &nora, &id, "many").await;
        run(&client, &"SELECT 'many';".repeat(2000)).await;
        run(&client, "ROLLBACK").await;
        drained(&superuser).await;
        assert_eq!(count(&superuser, &format!("{kept} AND application_name = 'many'")).await, 2000);
    });
}

#[test]
fn an_activation_that_cannot_be_recorded_is_none() {
    on_a_server("activation", "50ms", async |server| {
        let database = &Database::create(server.config()).await;
        let (superuser, client, nora, id) = with_a_grant(database).await;
        // Who records the activation waits for the organization, which another transaction holds.
        run(&superuser, &format!("BEGIN; SELECT FROM tenancy.organization WHERE id = '{ACME}' FOR UPDATE")).await;
        let refusal = act(&client, &nora, &elevate(&id)).await.unwrap_err();
        assert_eq!((refusal.sqlstate.as_str(), refusal.message.contains("recorded")), ("55000", true), "{refusal:?}");
        run(&superuser, "COMMIT").await;
        assert_eq!(state(&superuser, &id).await, "approved");
        assert!(!act(&client, &nora, &elevate(&id)).await.unwrap().is_empty());
    });
}

#[test]
fn a_report_tells_of_statements_by_table_and_of_what_was_not_needed_and_is_proved_offline() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        prepare(&superuser).await;
        let (nora, alice) = (database.token("nora"), database.token("alice"));
        let more =
            "permissions => '{finding:update,finding:delete,cloud_account:read}', overrides => '{overdue_rotation}'";
        let id = act(&client, &nora, &request(&format!(", {more}"))).await.unwrap();
        act(&client, &database.token("dora"), &approve(&id)).await.unwrap();
        for _ in 0..2 {
            as_tenant(&client, &nora).await;
            run(&client, &elevate(&id)).await;
            for sql in [
                r#"SELECT title FROM "Finding""#,
                r#"UPDATE "Finding" SET title = 'x' WHERE id < 4"#,
                r#"UPDATE "Finding" SET title = 'y' WHERE id = 4"#,
                r#"SELECT FROM "Finding" f JOIN cloud_account a ON a.id = f."accountId""#,
            ] {
                run(&client, sql).await;
            }
            run(&client, "COMMIT").await;
        }
        act(&client, &nora, &end(&id)).await.unwrap();
        seal_all(&superuser).await;
        let report = format!("SELECT tenancy.break_glass_report('{id}') ->> 'report'");
        let report = async || -> Value { serde_json::from_str(&act(&client, &alice, &report).await.unwrap()).unwrap() };
        let told = report().await;
        let statements: Vec<String> = told["statements"].as_array().unwrap().iter().map(summary).collect();
        assert_eq!(
            statements,
            ["SELECT Finding,cloud_account success 2 10", "SELECT Finding success 2 10", "UPDATE Finding success 4 8",]
        );
        assert_eq!(told["needed_permissions"], json!(["cloud_account:read", "finding:update"]));
        assert_eq!(told["unused_permissions"], json!(["finding:delete"]));
        assert_eq!(told["unused_overrides"], json!(["overdue_rotation"]));

        act(&client, &alice, &sign_off(&id)).await.unwrap();
        let unused = "SELECT unused::text FROM tenancy.break_glass_grant";
        assert_eq!(value(&superuser, unused).await, "{finding:delete,overdue_rotation}");
        let finding = "SELECT state || ' ' || count FROM tenancy.posture WHERE control = 'controls.break_glass_unused'";
        assert_eq!(act(&client, &alice, finding).await.unwrap(), "warn 1");
        seal_all(&superuser).await;
        checkpoint(&superuser).await;
        let (folder, key) = (Folder::new(database), public_key(&superuser).await);
        let bundle = folder.file("bundle.jsonl", export(&superuser, &format!("'{ACME}'")).await);
        let bytes = serde_json::to_string(&report().await).unwrap();
        let artifact = folder.file("report.json", &bytes);
        let (status, said) = check(&[&bundle, "--key", &key, "--artifact", &artifact]);
        assert_eq!(status, 0, "{said}");
        assert!(said.contains(&format!("break-glass grant {id}")), "{said}");
        let forged = folder.file("forged.json", bytes.replace("the night job has failed", "nothing happened"));
        let (status, said) = check(&[&bundle, "--key", &key, "--artifact", &forged]);
        assert!(status == 4 && said.contains("no artifact in the bundle has its digest"), "{said}");
    });
}

/// Command, tables, result, how many statements, and their rows.
fn summary(row: &Value) -> String {
    let tables: Vec<&str> =
        row["tables"].as_array().unwrap().iter().map(|table| table["table"].as_str().unwrap()).collect();
    let text = |name: &str| row[name].as_str().unwrap().to_owned();
    format!("{} {} {} {} {}", text("command"), tables.join(","), text("result"), row["statements"], row["rows"])
}
