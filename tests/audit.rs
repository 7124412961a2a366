//! The audit over real connections: one event for each committed change, sealed exactly once, and nobody waits.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::common::*;
use futures_util::SinkExt as _;
use futures_util::future::{join, join_all};
use pg_tenancy_core::audit::format::batch_row::{ActorColumn, BatchColumn};
use sha2::{Digest as _, Sha256};
use tokio_postgres::Client;
use uuid::Uuid;

const EVENTS: &str = "SELECT operation || ' ' || table_name || ' ' || coalesce(row_key ->> 'id', '-') || ' ' ||
                             left(organization::text, 1) || ' ' || coalesce(subject, 'nobody') FROM tenancy.audit_trail
                       WHERE domain <> 'before' ORDER BY transaction::text::bigint, ordinal, organization";

/// The events since the last call, as lines: operation, table, id, organization, subject.
async fn new_events(superuser: &Client) -> Vec<String> {
    let sql = EVENTS.replace("domain <> 'before'", r#""position" IS NULL AND operation <> 'coverage'"#);
    let events = column(superuser, &sql).await;
    seal(superuser).await;
    events
}

async fn insert_findings(client: &Client, title: &str, count: i32) {
    let sql = r#"INSERT INTO "Finding" (title) SELECT $1 || n FROM generate_series(1, $2) n"#;
    client.execute(sql, &[&title, &count]).await.unwrap();
}

#[test]
fn the_lists_of_columns_are_those_of_the_tables() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        let stored = async |table: &str| {
            let sql = format!(
                "SELECT format('%s %s %s', attnum, attname, format_type(atttypid, atttypmod)) FROM pg_attribute
                  WHERE attrelid = '{table}'::regclass AND attnum > 0 ORDER BY attnum"
            );
            column(&superuser, &sql).await
        };
        let batches =
            BatchColumn::ALL.map(|column| format!("{} {} {}", column.number(), column.name(), column.data_type()));
        assert_eq!(stored("tenancy.event_batch").await, batches);
        let actors =
            ActorColumn::ALL.map(|column| format!("{} {} {}", column.number(), column.name(), column.data_type()));
        assert_eq!(stored("tenancy.event_actor").await, actors);
    });
}

#[test]
fn a_truncate_runs_nothing_of_the_tables_owner() {
    in_database(async |database| {
        let owner = database.owner().await;
        // Planning a query over the table would run the function, in the name of whoever plans. Postgres itself runs it
        // to build the index anew, as the owner.
        run(
            &owner,
            r#"CREATE FUNCTION spy(integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS
               'BEGIN
                     IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
                         RAISE EXCEPTION ''ran as %'', current_user;
                     END IF;
                     RETURN 1;
                 END';
               CREATE INDEX spied ON "Finding" ((spy(1) + id))"#,
        )
        .await;
        let owner = database.owner().await;
        run(&owner, r#"TRUNCATE "Finding" CASCADE"#).await;
        let superuser = database.superuser().await;
        assert_eq!(
            count(
                &superuser,
                "SELECT count(*) FROM tenancy.event WHERE operation = 'truncate' AND table_name = 'Finding'"
            )
            .await,
            2
        );
    });
}

#[test]
fn every_committed_change_has_exactly_one_event() {
    in_database(async |database| {
        let (client, superuser) = (database.application().await, database.superuser().await);
        for (sql, events) in [
            (r#"INSERT INTO "Finding" (id, title) VALUES (20, 'x')"#, vec!["insert Finding 20 a alice"]),
            (r#"UPDATE "Finding" SET title = 'y' WHERE id = 20"#, vec!["update Finding 20 a alice"]),
            (r#"DELETE FROM "Finding" WHERE id = 20"#, vec!["delete Finding 20 a alice"]),
            (r#"DELETE FROM "Finding" WHERE id = 101"#, vec![]),
            (r#"SELECT * FROM "Finding" FOR UPDATE"#, vec![]),
            (
                r#"INSERT INTO "Finding" (id, title) VALUES (1, 'x'), (21, 'x') ON CONFLICT (id) DO UPDATE SET title
                    = 'z'"#,
                vec!["update Finding 1 a alice", "insert Finding 21 a alice"],
            ),
            (r#"INSERT INTO "Finding" (id, title) VALUES (1, 'x'), (101, 'x') ON CONFLICT DO NOTHING"#, vec![]),
            (
                r#"MERGE INTO "Finding" f USING (VALUES (2), (3), (22)) v (id) ON f.id = v.id
                   WHEN MATCHED AND v.id = 2 THEN UPDATE SET title = 'm' WHEN MATCHED THEN DELETE
                   WHEN NOT MATCHED THEN INSERT (id, title) VALUES (v.id, 'm')"#,
                vec!["update Finding 2 a alice", "delete Finding 3 a alice", "insert Finding 22 a alice"],
            ),
            (
                "DELETE FROM cloud_account WHERE id = 1",
                vec![
                    "delete cloud_account 1 a alice",
                    "delete Finding 1 a alice",
                    "delete Finding 2 a alice",
                    "delete Finding 4 a alice",
                    "delete Finding 5 a alice",
                ],
            ),
        ] {
            new_events(&superuser).await;
            as_tenant(&client, &database.token("alice")).await;
            run(&client, sql).await;
            assert_eq!(new_events(&superuser).await, Vec::<String>::new(), "an event before its commit: {sql}");
            run(&client, "COMMIT").await;
            let (mut found, mut expected) = (new_events(&superuser).await, events);
            found.sort();
            expected.sort();
            assert_eq!(found, expected, "{sql}");
        }
        assert_audit_is_whole(&superuser).await;
    });
}

#[test]
fn an_event_says_who_did_what_to_which_values() {
    in_database(async |database| {
        let (client, superuser) = (database.application().await, database.superuser().await);
        seal_all(&superuser).await;
        run(&client, "SET application_name = 'finops'; BEGIN").await;
        client
            .execute("SELECT tenancy.authenticate($1, NULL, 'request 7')", &[&database.token("alice")])
            .await
            .unwrap();
        run(&client, r#"UPDATE "Finding" SET "amountCents" = 7, title = title WHERE id = 1; COMMIT"#).await;
        let sql = r#"SELECT operation, domain, table_schema, table_name, row_key, old_values, new_values, result,
            subject, role,
                            method, correlation_id, session_id, session_user_name, application_name, ordinal
                       FROM tenancy.audit_trail WHERE "position" IS NULL"#;
        let expected = [
            "update",
            "finding",
            "public",
            "Finding",
            r#"{"id":1}"#,
            r#"{"amountCents":100}"#,
            r#"{"amountCents":7}"#,
            "success",
            "alice",
            "admin",
            "token",
            "request 7",
            "session of alice",
            APPLICATION,
            "finops",
            "1",
        ];
        assert_eq!(rows(&superuser, sql).await, [expected.map(|text| Some(text.to_owned()))]);
    });
}

#[test]
fn what_was_rolled_back_leaves_no_event_and_no_gap() {
    in_database(async |database| {
        let (client, superuser) = (database.application().await, database.superuser().await);
        new_events(&superuser).await;
        as_tenant(&client, &database.token("alice")).await;
        insert_findings(&client, "gone ", 3).await;
        run(&client, "ROLLBACK").await;
        assert_eq!(new_events(&superuser).await, Vec::<String>::new());

        as_tenant(&client, &database.token("alice")).await;
        let insert = |id: i32| format!(r#"INSERT INTO "Finding" (id, title) VALUES ({id}, 'x')"#);
        run(&client, &format!("{}; SAVEPOINT a; {}; SAVEPOINT b; {}", insert(31), insert(32), insert(33))).await;
        run(&client, &format!("ROLLBACK TO b; {}; RELEASE b; SAVEPOINT c; {}; RELEASE c", insert(34), insert(35)))
            .await;
        run(&client, &format!("SAVEPOINT d; {}; SAVEPOINT e; {}; RELEASE e; ROLLBACK TO d", insert(36), insert(37)))
            .await;
        let caught = format!(
            "DO $$ BEGIN BEGIN {}; RAISE 'x'; EXCEPTION WHEN raise_exception THEN {}; END; END $$",
            insert(38),
            insert(39)
        );
        run(&client, &caught).await;
        run(&client, "ROLLBACK TO a").await;
        run(&client, &format!("{}; SAVEPOINT f; {}; RELEASE f; COMMIT", insert(40), insert(41))).await;
        let expected = [31, 40, 41].map(|id| format!("insert Finding {id} a alice"));
        assert_eq!(new_events(&superuser).await, expected);
        let ordinals =
            "SELECT ordinal FROM tenancy.audit_trail WHERE row_key ->> 'id' IN ('31', '40', '41') ORDER BY 1";
        assert_eq!(column(&superuser, ordinals).await, ["1", "2", "3"]);
        assert_audit_is_whole(&superuser).await;
    });
}

#[test]
fn an_actor_written_under_a_rolled_back_savepoint_is_written_again() {
    in_database(async |database| {
        let (client, superuser) = (database.application().await, database.superuser().await);
        run(&client, "BEGIN; SAVEPOINT a").await;
        authenticate(&client, &database.token("alice")).await.unwrap();
        insert_findings(&client, "gone ", 1).await;
        run(&client, "ROLLBACK TO a").await;
        authenticate(&client, &database.token("bob")).await.unwrap();
        insert_findings(&client, "gone ", 1).await;
        run(&client, "ROLLBACK TO a").await;
        authenticate(&client, &database.token("alice")).await.unwrap();
        insert_findings(&client, "kept by alice ", 2).await;
        let again = "SELECT tenancy.authenticate($1, NULL, 'again')";
        run(&client, "SAVEPOINT b").await;
        client.execute(again, &[&database.token("alice")]).await.unwrap();
        insert_findings(&client, "gone ", 1).await;
        run(&client, "ROLLBACK TO b").await;
        insert_findings(&client, "kept by alice ", 1).await;
        client.execute(again, &[&database.token("alice")]).await.unwrap();
        insert_findings(&client, "kept by alice again ", 1).await;
        run(&client, "COMMIT").await;
        let sql = "SELECT subject || left(organization::text, 1) || ordinal || coalesce(correlation_id, '')
                     FROM tenancy.audit_trail WHERE new_values ->> 'title' LIKE 'kept%' ORDER BY 1";
        assert_eq!(column(&superuser, sql).await, ["alicea1", "alicea2", "alicea3", "alicea4again"]);
        assert_eq!(
            count(&superuser, "SELECT count(*) FROM tenancy.event WHERE payload ->> 'new' LIKE '%gone%'").await,
            0
        );
        assert_audit_is_whole(&superuser).await;
    });
}

/// Eight writers in one organization, and a sealer beside them until they are done.
async fn writers_and_a_sealer(database: &Database, level: &str, rounds: usize) {
    let done = AtomicBool::new(false);
    let writers = join_all((0..8).map(async |n| {
        let client = database.application().await;
        run(&client, &format!("SET default_transaction_isolation = '{level}'; SET statement_timeout = '20s'")).await;
        let token = database.token("alice");
        for round in 0..rounds {
            as_tenant(&client, &token).await;
            insert_findings(&client, &format!("{level} {n} {round} "), 1 + (round % 3) as i32).await;
            if round % 4 == 1 {
                run(&client, "SAVEPOINT s").await;
                insert_findings(&client, "gone ", 2).await;
                run(&client, "ROLLBACK TO s").await;
            }
            if round % 7 == 2 {
                tokio::time::sleep(Duration::from_millis(3)).await; // commits late
            }
            run(&client, if round % 5 == 4 { "ROLLBACK" } else { "COMMIT" }).await;
        }
    }));
    let writers = async {
        writers.await;
        done.store(true, Ordering::Relaxed);
    };
    let sealer = async {
        let client = database.superuser().await;
        run(&client, "SET statement_timeout = '20s'").await;
        let mut runs = 0;
        while !done.load(Ordering::Relaxed) {
            seal(&client).await;
            runs += 1;
        }
        runs
    };
    let ((), runs) = join(writers, sealer).await;
    assert!(runs > 10, "the sealer ran only {runs} times beside the writers");
    let superuser = database.superuser().await;
    assert_audit_is_whole(&superuser).await;
    let written = format!(r#"SELECT count(*) FROM "Finding" WHERE title LIKE '{level} %'"#);
    let recorded = format!("SELECT count(*) FROM tenancy.event WHERE payload -> 'new' ->> 'title' LIKE '{level} %'");
    assert_eq!(count(&superuser, &written).await, count(&superuser, &recorded).await);
    assert!(count(&superuser, "SELECT count(*) FROM tenancy.block").await > 5);
}

#[test]
fn concurrent_writers_and_a_sealer_make_one_chain_at_every_isolation_level() {
    in_database(async |database| {
        // Inserts alone read nothing that another transaction writes, so none may fail to serialize.
        for level in ["read committed", "repeatable read", "serializable"] {
            writers_and_a_sealer(database, level, 25).await;
        }
    });
}

#[test]
fn two_sealers_at_once_seal_nothing_twice() {
    in_database(async |database| {
        let client = database.application().await;
        let superuser = database.superuser().await;
        seal_all(&superuser).await;
        let sealers = join_all((0..3).map(async |n| {
            let client = database.superuser().await;
            let level = ["read committed", "repeatable read", "serializable"][n];
            let mut sealed = 0;
            for _ in 0..40 {
                run(&client, &format!("BEGIN ISOLATION LEVEL {level}; SELECT 1")).await;
                match try_rows(&client, "SELECT tenancy.seal()").await {
                    Ok(rows) => {
                        sealed += rows[0][0].as_ref().unwrap().parse::<i64>().unwrap();
                        run(&client, "COMMIT").await;
                    }
                    // A serializable sealer may be asked to try again, as any serializable transaction may.
                    Err(refusal) => {
                        assert_eq!((refusal.sqlstate.as_str(), level), ("40001", "serializable"));
                        run(&client, "ROLLBACK").await;
                    }
                }
            }
            sealed
        }));
        let writer = async {
            for round in 0..30 {
                as_tenant(&client, &database.token(["alice", "bob"][round % 2])).await;
                insert_findings(&client, "x", 2).await;
                run(&client, "COMMIT").await;
            }
        };
        let (sealed, ()) = join(sealers, writer).await;
        let last = seal(&superuser).await;
        assert_eq!(sealed.iter().sum::<i64>() + last, 60);
        assert_audit_is_whole(&superuser).await;
    });
}

#[test]
fn a_writer_with_an_open_transaction_makes_neither_others_nor_the_sealer_wait() {
    in_database(async |database| {
        let (open, other, superuser) =
            (database.application().await, database.application().await, database.superuser().await);
        for client in [&other, &superuser] {
            run(client, "SET statement_timeout = '2s'; SET lock_timeout = '2s'").await;
        }
        seal_all(&superuser).await;
        as_tenant(&open, &database.token("alice")).await;
        insert_findings(&open, "late ", 2).await;
        for _ in 0..3 {
            as_tenant(&other, &database.token("alice")).await;
            insert_findings(&other, "soon ", 1).await;
            run(&other, "COMMIT").await;
            assert_eq!(seal(&superuser).await, 1);
        }
        insert_findings(&open, "late ", 1).await;
        run(&open, "COMMIT").await;
        assert_eq!(seal(&superuser).await, 3, "the late committer's events are sealed after all");
        assert_audit_is_whole(&superuser).await;

        // Nor does a sealer whose transaction stays open make writers wait.
        run(&superuser, "BEGIN; SELECT tenancy.seal()").await;
        as_tenant(&other, &database.token("alice")).await;
        insert_findings(&other, "beside the sealer ", 1).await;
        run(&other, "COMMIT").await;
        run(&superuser, "COMMIT").await;
        assert_eq!(seal(&superuser).await, 1);
    });
}

#[test]
fn events_written_beside_the_sealing_in_one_transaction_are_sealed_later_exactly_once() {
    in_database(async |database| {
        let (superuser, other) = (database.superuser().await, database.superuser().await);
        seal_all(&superuser).await;
        let write =
            format!(r#"INSERT INTO "Finding" ("organizationId", title) VALUES ('{ACME}', 'x'), ('{GLOBEX}', 'y')"#);
        for level in ["READ COMMITTED", "REPEATABLE READ"] {
            run(&superuser, &format!("BEGIN ISOLATION LEVEL {level}")).await;
            run(&superuser, &write).await;
            run(&other, &write).await;
            assert_eq!(seal(&superuser).await, 2, "those of the other, not its own");
            run(&superuser, &write).await;
            run(&other, &write).await;
            assert_eq!(column(&superuser, "SELECT tenancy.seal() UNION ALL SELECT tenancy.seal()").await, ["2", "0"]);
            run(&superuser, "SAVEPOINT s; SELECT tenancy.seal(); ROLLBACK TO s").await;
            run(&superuser, &write).await;
            run(&superuser, "COMMIT").await;
            assert_eq!(seal(&superuser).await, 6);
            assert_audit_is_whole(&superuser).await;
        }
    });
}

#[test]
fn a_seal_that_was_rolled_back_is_made_again() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        run(&superuser, r#"UPDATE "Finding" SET title = title || '!'"#).await;
        let events = count(&superuser, "SELECT count(*) FROM tenancy.event").await;
        assert!(events >= 12);
        run(&superuser, "BEGIN").await;
        assert_eq!(seal(&superuser).await, events);
        run(&superuser, "ROLLBACK").await;
        assert_eq!(seal(&superuser).await, events);
        assert_audit_is_whole(&superuser).await;
    });
}

#[test]
fn verifying_seals_what_has_committed_and_accuses_none_of_it() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        seal_all(&superuser).await;
        for sealed_before in [false, true] {
            run(&superuser, r#"UPDATE "Finding" SET title = title || '!'"#).await;
            if sealed_before {
                seal(&superuser).await;
            }
            assert_eq!(findings(&superuser).await, []);
            assert_eq!(seal(&superuser).await, 0, "verify_audit seals first");
        }
        run(&superuser, r#"BEGIN ISOLATION LEVEL REPEATABLE READ; UPDATE "Finding" SET title = title || '?'"#).await;
        assert_eq!(findings(&superuser).await, [], "events of the open transaction");
        run(&superuser, "COMMIT").await;
        assert_audit_is_whole(&superuser).await;
    });
}

#[test]
fn a_prepared_transaction_is_sealed_after_its_commit_and_a_rolled_back_one_never() {
    in_database(async |database| {
        let (client, superuser) = (database.application().await, database.superuser().await);
        seal_all(&superuser).await;
        for (n, end) in ["COMMIT", "ROLLBACK"].into_iter().enumerate() {
            let name = format!("{}_{n}", database.name);
            as_tenant(&client, &database.token("alice")).await;
            insert_findings(&client, "prepared ", 2).await;
            run(&client, &format!("SAVEPOINT s; PREPARE TRANSACTION '{name}'")).await;
            as_tenant(&client, &database.token("bob")).await;
            insert_findings(&client, "after ", 1).await;
            run(&client, "COMMIT").await;
            assert_eq!(seal(&superuser).await, 1);
            // From another session than the one that prepared it.
            run(&superuser, &format!("{end} PREPARED '{name}'")).await;
            assert_eq!(seal(&superuser).await, if n == 0 { 2 } else { 0 });
            assert_audit_is_whole(&superuser).await;
        }
    });
}

#[test]
fn a_transaction_over_several_organizations_writes_into_the_chain_of_each() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        new_events(&superuser).await;
        let sql = format!(
            r#"BEGIN; INSERT INTO "Finding" (id, "organizationId", title) VALUES (51, '{ACME}', 'x'), (52,
                '{GLOBEX}', 'x'), (53, '{ACME}', 'x');
               UPDATE "Finding" SET "organizationId" = '{GLOBEX}' WHERE id = 51;
               INSERT INTO "Finding" (id, "organizationId", title) VALUES (54, '{}', 'of nobody known'); COMMIT"#,
            Uuid::from_u128(7)
        );
        run(&superuser, &sql).await;
        let mut events = new_events(&superuser).await;
        events.sort();
        let expected = [
            "delete Finding 51 a nobody",
            "insert Finding 51 a nobody",
            "insert Finding 51 b nobody",
            "insert Finding 52 b nobody",
            "insert Finding 53 a nobody",
            "insert Finding 54 0 nobody",
        ];
        assert_eq!(events, expected);
        assert_audit_is_whole(&superuser).await;
    });
}

#[test]
fn copy_from_and_truncate_by_a_superuser_are_recorded() {
    in_database(async |database| {
        let (superuser, owner) = (database.superuser().await, database.owner().await);
        new_events(&superuser).await;
        let lines = format!("61\t{ACME}\tcopied\n62\t{GLOBEX}\tcopied\n");
        let sink = superuser.copy_in(r#"COPY "Finding" (id, "organizationId", title) FROM STDIN"#).await.unwrap();
        let mut sink = std::pin::pin!(sink);
        sink.send(std::io::Cursor::new(lines.into_bytes())).await.unwrap();
        assert_eq!(sink.finish().await.unwrap(), 2);
        assert_eq!(new_events(&superuser).await, ["insert Finding 61 a nobody", "insert Finding 62 b nobody"]);
        run(&superuser, "SET session_replication_role = replica").await;
        run(&superuser, r#"UPDATE "Finding" SET title = 'x' WHERE id = 61; SET session_replication_role = origin"#)
            .await;
        assert_eq!(new_events(&superuser).await, ["update Finding 61 a nobody"]);
        run(&owner, r#"TRUNCATE "Finding""#).await;
        let mut events = new_events(&superuser).await;
        events.sort();
        assert_eq!(events, ["truncate Finding - a nobody", "truncate Finding - b nobody"]);
        assert_audit_is_whole(&superuser).await;
    });
}

#[test]
fn what_deferred_triggers_and_constraints_do_at_commit_is_recorded_too() {
    in_database(async |database| {
        let (client, superuser) = (database.application().await, database.superuser().await);
        let trigger = r#"CREATE FUNCTION echo() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN INSERT INTO cloud_account (id, external_id) VALUES (NEW.id, NEW.title); RETURN NULL; END $$;
            CREATE CONSTRAINT TRIGGER echo AFTER INSERT ON "Finding" DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW EXECUTE FUNCTION echo()"#;
        run(&superuser, trigger).await;
        new_events(&superuser).await;
        as_tenant(&client, &database.token("alice")).await;
        run(&client, r#"INSERT INTO "Finding" (id, title) VALUES (71, 'echoed'); COMMIT"#).await;
        assert_eq!(new_events(&superuser).await, ["insert Finding 71 a alice", "insert cloud_account 71 a alice"]);
        // A deferred foreign key that fails at COMMIT takes the events back with the rows.
        as_tenant(&client, &database.token("alice")).await;
        run(&client, r#"INSERT INTO "Finding" (id, title, "accountId") VALUES (72, 'x', 999)"#).await;
        assert_eq!(refused(&client, "COMMIT").await.sqlstate, "23503");
        as_tenant(&client, &database.token("alice")).await;
        run(&client, r#"INSERT INTO "Finding" (id, title) VALUES (73, 'after'); COMMIT"#).await;
        assert_eq!(new_events(&superuser).await, ["insert Finding 73 a alice", "insert cloud_account 73 a alice"]);
        assert_audit_is_whole(&superuser).await;
    });
}

#[test]
fn a_trigger_or_schema_that_another_session_changed_is_read_anew() {
    in_database(async |database| {
        let (superuser, owner) = (database.superuser().await, database.superuser().await);
        let domains = "SELECT DISTINCT domain FROM tenancy.audit_trail
                        WHERE table_name = 'Finding' AND operation = 'update' ORDER BY 1";
        let change = r#"UPDATE "Finding" SET title = title || '.' WHERE id = (SELECT min(id) FROM "Finding")"#;
        run(&superuser, change).await;
        let before = value(&superuser, domains).await;
        let trigger = r#"SELECT pg_get_triggerdef(oid) FROM pg_trigger
                          WHERE tgrelid = '"Finding"'::regclass AND tgname = 'tenancy_audit'"#;
        let definition = value(&owner, trigger).await;
        run(&owner, "SET tenancy.override_reason = 'a trigger that changes'").await;
        for (round, replaced) in ["replaced", "made anew"].into_iter().enumerate() {
            let definition = definition.replace(&format!("'{before}'"), &format!("'{replaced}'"));
            assert!(definition.contains(replaced), "{definition}");
            let sql = match round {
                0 => definition.replace("CREATE TRIGGER", "CREATE OR REPLACE TRIGGER"),
                _ => format!(r#"BEGIN; DROP TRIGGER tenancy_audit ON "Finding"; {definition}; COMMIT"#),
            };
            run(&owner, &sql).await;
            run(&superuser, change).await;
            assert!(column(&superuser, domains).await.iter().any(|domain| domain == replaced));
        }
        run(&owner, "ALTER SCHEMA public RENAME TO moved").await;
        run(&superuser, &change.replace(r#""Finding""#, r#"moved."Finding""#)).await;
        let moved = "SELECT count(*) FROM tenancy.audit_trail WHERE table_schema = 'moved' AND operation = 'update'";
        assert_eq!(count(&superuser, moved).await, 1);
    });
}

#[test]
fn cascades_nested_triggers_and_moves_between_partitions_are_recorded_as_they_happen() {
    in_database(async |database| {
        let (client, superuser, owner) =
            (database.application().await, database.superuser().await, database.owner().await);
        let tables = format!(
            r#"CREATE TABLE cost (id bigint, organization_id uuid NOT NULL, month int NOT NULL, PRIMARY KEY (id,
                month)) PARTITION BY LIST (month);
            CREATE TABLE cost_1 PARTITION OF cost FOR VALUES IN (1);
            CREATE TABLE cost_2 PARTITION OF cost FOR VALUES IN (2);
            SELECT tenancy.protect('cost');
            GRANT SELECT, INSERT, UPDATE, DELETE ON cost TO {APPLICATION};
            CREATE FUNCTION spread() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN
                    IF NEW.id < 903 THEN INSERT INTO "Finding" (id, title) VALUES (NEW.id + 1, 'nested'); END IF;
                    BEGIN
                        UPDATE "Finding" SET title = 'undone' WHERE id = NEW.id;
                        RAISE EXCEPTION 'taken back';
                    EXCEPTION WHEN raise_exception THEN NULL;
                    END;
                    RETURN NULL;
                END $$;
            CREATE TRIGGER spread AFTER INSERT ON "Finding" FOR EACH ROW WHEN (NEW.id >= 900) EXECUTE FUNCTION
                spread()"#
        );
        run(&owner, &tables).await;
        new_events(&superuser).await;

        as_tenant(&client, &database.token("alice")).await;
        run(&client, r#"INSERT INTO "Finding" (id, title) VALUES (901, 'first')"#).await;
        run(&client, "INSERT INTO cost (id, month) VALUES (1, 1), (2, 1); UPDATE cost SET month = 2 WHERE id = 1")
            .await;
        run(&client, "COMMIT").await;
        // Triggers fire in the order of their names, so what "spread" does comes before the event of what it was
        // fired by.
        let expected = [
            "insert Finding 903 a alice",
            "insert Finding 902 a alice",
            "insert Finding 901 a alice",
            "insert cost_1 1 a alice",
            "insert cost_1 2 a alice",
            "delete cost_1 1 a alice",
            "insert cost_2 1 a alice",
        ];
        assert_eq!(new_events(&superuser).await, expected);

        // The findings go with their account, each by an event of its own, in the name of who deleted it.
        as_tenant(&client, &database.token("alice")).await;
        run(&client, "DELETE FROM cloud_account WHERE id = 1; COMMIT").await;
        let mut events = new_events(&superuser).await;
        events.sort();
        let findings = (1..=5).map(|id| format!("delete Finding {id} a alice"));
        assert_eq!(events, findings.chain(["delete cloud_account 1 a alice".to_owned()]).collect::<Vec<_>>());

        // The rows of a partitioned table are those of its partitions.
        run(&owner, "TRUNCATE cost").await;
        let mut events = new_events(&superuser).await;
        events.sort();
        assert_eq!(events, ["truncate cost_1 - a nobody", "truncate cost_2 - a nobody"]);
        assert_audit_is_whole(&superuser).await;
    });
}

#[test]
fn nobody_changes_what_was_recorded_through_sql() {
    in_database(async |database| {
        let (superuser, client, owner) =
            (database.superuser().await, database.application().await, database.owner().await);
        as_tenant(&client, &database.token("alice")).await;
        for table in ["event_batch", "event_actor", "seal", "block", "tree_node"] {
            for sql in [
                format!("DELETE FROM tenancy.{table}"),
                format!("TRUNCATE tenancy.{table}"),
                format!("INSERT INTO tenancy.{table} DEFAULT VALUES"),
            ] {
                assert_eq!(refused_within(&client, &sql).await.sqlstate, "42501", "{sql}");
                assert_eq!(refused(&owner, &sql).await.sqlstate, "42501", "{sql}");
                if !sql.starts_with("INSERT") {
                    assert_eq!(refused(&superuser, &sql).await.sqlstate, "42501", "{sql}");
                    let quietly = format!("SET session_replication_role = replica; {sql}");
                    assert_eq!(refused(&superuser, &quietly).await.sqlstate, "42501", "{sql}");
                    run(&superuser, "RESET session_replication_role").await;
                }
            }
        }
        // The view of single events takes nothing either.
        for sql in ["DELETE FROM tenancy.event", "UPDATE tenancy.event SET reason = 'x'", "TRUNCATE tenancy.event"] {
            assert!(
                ["42501", "42809", "55000"].contains(&refused_within(&client, sql).await.sqlstate.as_str()),
                "{sql}"
            );
            for client in [&owner, &superuser] {
                assert!(["42501", "42809", "55000"].contains(&refused(client, sql).await.sqlstate.as_str()), "{sql}");
            }
        }
        for sql in ["SELECT tenancy.audit_row()", "SELECT tenancy.refuse_change()"] {
            assert!(
                ["42501", "39P01", "0A000"].contains(&refused_within(&client, sql).await.sqlstate.as_str()),
                "{sql}"
            );
        }
    });
}

/// A record as the description of the encoding has it, written anew: each field after its length in four bytes, an
/// absent one as the length 2^32-1.
fn digest(tag: &str, fields: &[Option<&[u8]>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in [Some(tag.as_bytes())].iter().chain(fields) {
        match field {
            Some(field) => {
                bytes.extend((field.len() as u32).to_be_bytes());
                bytes.extend(*field);
            }
            None => bytes.extend([0xff; 4]),
        }
    }
    Sha256::digest(&bytes).to_vec()
}

fn sha256(parts: &[&[u8]]) -> Vec<u8> {
    Sha256::digest(parts.concat()).to_vec()
}

/// The root over hashes of leaves, as RFC 6962 section 2.1 has it.
fn root(leaves: &[Vec<u8>]) -> Vec<u8> {
    match leaves {
        [] => panic!("a tree without leaves"),
        [leaf] => leaf.clone(),
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            Sha256::digest([&[1][..], &root(left), &root(right)].concat()).to_vec()
        }
    }
}

#[test]
fn every_hash_is_the_one_that_the_documented_encoding_gives() {
    in_database(async |database| {
        let (client, superuser) = (database.application().await, database.superuser().await);
        // Settings that change how values look must not change what is hashed or what verifies.
        let odd = "SET TimeZone = 'Asia/Kathmandu'; SET DateStyle = 'SQL, DMY'; SET bytea_output = escape; SET \
            extra_float_digits = -5";
        run(&client, odd).await;
        for subject in ["alice", "bob"] {
            as_tenant(&client, &database.token(subject)).await;
            run(
                &client,
                r#"INSERT INTO "Finding" (title, resource) VALUES ('naïve "quoted" \ 漢字', '{"a": [1.50, null]}')"#,
            )
            .await;
            run(&client, r#"UPDATE "Finding" SET "amountCents" = -1, resource = NULL"#).await;
            run(&client, r#"DELETE FROM "Finding" WHERE title LIKE 'na%'; COMMIT"#).await;
            if subject == "alice" {
                seal(&superuser).await;
            }
        }
        seal(&superuser).await;
        run(&superuser, odd).await;
        assert_eq!(findings(&superuser).await, []);
        run(&superuser, "RESET ALL").await;

        let packed = "SELECT count(*) FROM tenancy.event_batch WHERE events > 1";
        assert!(count(&superuser, packed).await >= 2, "too few batches of several events");
        let sql = r#"SELECT b.id, b.organization, b.actor, b.transaction::text, b.ordinal, b.events, b.operation,
                            b.domain, b.table_schema, b.table_name, b.result, b.reason, b.prev_hash, b.hash,
                            s."position", r.chain, s.batch_hash, s.leaf,
                            a.method, a.subject, a.issuer, a.role, a.organization::text, a.session_id,
                                a.correlation_id, a.reason,
                            a.session_user_name, a.current_user_name, a.client_address, a.application_name
                       FROM tenancy.event_batch b JOIN tenancy.entry s ON s.batch = b.id JOIN tenancy.event_actor a ON
                           a.id = b.actor
                       LEFT JOIN tenancy.seal r ON r.organization = s.organization AND r.leaves = s.leaf
                      ORDER BY b.organization, s.leaf"#;
        let events = "SELECT e.place, e.ordinal, (extract(epoch FROM e.occurred_at) * 1000000)::bigint,
                             e.row_key::text, e.payload::text, e.payload_salt, e.payload_digest
                        FROM tenancy.event e WHERE e.batch = $1 ORDER BY e.place";
        let batches = superuser.query(sql, &[]).await.unwrap();
        let (mut heads, mut seen): (HashMap<Uuid, Vec<Vec<u8>>>, i64) = (HashMap::new(), 0);
        let mut before: Option<(Uuid, String, Vec<u8>, i32)> = None;
        let (mut positions, mut rows): (HashMap<Uuid, i64>, i64) = (HashMap::new(), 0);
        for row in batches {
            let uuid = |n: usize| row.get::<_, Uuid>(n);
            let bytes = |n: usize| row.get::<_, Vec<u8>>(n);
            let text = |n: usize| row.get::<_, Option<String>>(n);
            let texts = |range: std::ops::Range<usize>| range.map(text).collect::<Vec<_>>();
            fn borrow(texts: &[Option<String>]) -> impl Iterator<Item = Option<&[u8]>> {
                texts.iter().map(|text| text.as_deref().map(str::as_bytes))
            }
            let (id, organization, actor) = (uuid(0), uuid(1), uuid(2));
            let actor_texts = texts(18..30);
            let actor_fields: Vec<_> =
                [Some(actor.as_bytes().as_slice())].into_iter().chain(borrow(&actor_texts)).collect();
            let actor_digest = digest("pg_tenancy/actor/1", &actor_fields);
            let transaction = text(3).unwrap();
            let (ordinal, size) = (row.get::<_, i32>(4), row.get::<_, i32>(5));

            let mut leaves = Vec::new();
            for (place, event) in (0..).zip(superuser.query(events, &[&id]).await.unwrap()) {
                let (salt, digest_of_payload) = (event.get::<_, Vec<u8>>(5), event.get::<_, Vec<u8>>(6));
                let (row_key, payload) = (event.get::<_, Option<String>>(3), event.get::<_, String>(4));
                assert_eq!(sha256(&[&[2], &salt, payload.as_bytes()]), digest_of_payload, "{payload}");
                assert_eq!(salt.len(), 16, "{payload}");
                assert_eq!((event.get::<_, i32>(0), event.get::<_, i32>(1)), (place, ordinal + place), "{id}");
                let (form, time) = (if row_key.is_some() { 2 } else { 1 }, event.get::<_, i64>(2).to_be_bytes());
                let key = row_key.as_deref().unwrap_or_default().as_bytes();
                leaves.push(sha256(&[&[0, form], &digest_of_payload, &time, key]));
            }
            assert_eq!(leaves.len(), size as usize, "{id}");
            seen += i64::from(size);

            let numbers = [transaction.parse().unwrap(), i64::from(ordinal), i64::from(size)].map(i64::to_be_bytes);
            let (batch_texts, previous, root) = (texts(6..12), bytes(12), root(&leaves));
            let mut fields: Vec<Option<&[u8]>> = vec![
                Some(id.as_bytes()),
                Some(organization.as_bytes()),
                Some(actor.as_bytes()),
                Some(&actor_digest),
                Some(&numbers[0]),
                Some(&numbers[1]),
                Some(&numbers[2]),
            ];
            fields.extend(borrow(&batch_texts));
            fields.extend([Some(root.as_slice()), Some(&previous)]);
            let hash = digest("pg_tenancy/batch/2", &fields);
            assert_eq!(hash, bytes(13), "{id}");
            assert_eq!(hash, bytes(16), "{id}");

            let genesis = || vec![digest("pg_tenancy/genesis/1", &[Some(organization.as_bytes())])];
            let chain = heads.entry(organization).or_insert_with(genesis);
            assert_eq!(row.get::<_, i64>(17) as usize, chain.len(), "leaves count from 1 without gaps");
            let last = positions.entry(organization).or_default();
            let position: i64 = row.get(14);
            assert_eq!(position, *last + i64::from(size), "positions count from 1 without gaps");
            *last = position;
            if ordinal == 1 {
                assert!(chain.contains(&previous), "the first batch of a transaction follows a sealed head");
            } else {
                assert_eq!(before, Some((organization, transaction.clone(), previous, ordinal)), "{id}");
            }
            let head = digest(
                "pg_tenancy/chain/2",
                &[chain.last().map(Vec::as_slice), Some(&position.to_be_bytes()), Some(&hash)],
            );
            if let Some(stored) = row.get::<_, Option<Vec<u8>>>(15) {
                assert_eq!(head, stored, "{id}");
                rows += 1;
            }
            chain.push(head);
            before = Some((organization, transaction, hash, ordinal + size));
        }
        assert!(seen >= 18, "{seen}");
        assert_eq!(count(&superuser, "SELECT count(*) FROM tenancy.seal").await, rows);
        assert_eq!(count(&superuser, "SELECT count(*) FROM tenancy.event").await, seen);
    });
}

#[test]
fn a_transaction_left_open_does_not_make_a_seal_read_again_what_was_sealed_since() {
    in_database(async |database| {
        let (open, superuser) = (database.application().await, database.superuser().await);
        seal_all(&superuser).await;
        as_tenant(&open, &database.token("alice")).await;
        insert_findings(&open, "open ", 1).await;
        let write = |n: usize| format!(r#"INSERT INTO "Finding" ("organizationId", title) VALUES ('{ACME}', '{n}')"#);
        for round in 0..4 {
            for n in 0..100 {
                run(&superuser, &write(n)).await;
            }
            assert_eq!(seal(&superuser).await, 100, "{round}");
        }
        run(&superuser, &write(0)).await;
        // Rows of the events that this transaction has read, by whatever way.
        let read =
            "SELECT coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0)::bigint FROM pg_stat_xact_user_tables
                     WHERE schemaname = 'tenancy' AND relname ~ '^event_batch_[0-9]'";
        run(&superuser, "BEGIN").await;
        let before = count(&superuser, read).await;
        assert_eq!(seal(&superuser).await, 1);
        let after = count(&superuser, read).await;
        run(&superuser, "COMMIT").await;
        assert!(after - before < 50, "{} rows were read to seal one", after - before);
        run(&open, "COMMIT").await;
        assert_eq!(seal(&superuser).await, 1, "that of the open transaction");
        assert_audit_is_whole(&superuser).await;
    });
}
