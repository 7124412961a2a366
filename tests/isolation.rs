//! Isolation over real connections: no statement of one tenant reads, counts or changes a row of another.

use crate::common::*;
use futures_util::TryStreamExt as _;
use futures_util::future::join_all;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use tokio_postgres::{Client, SimpleQueryMessage};

const FINDINGS: &str = r#"SELECT count(*) FROM "Finding""#;

/// The rows of everybody but an organization, as one value that any change changes.
async fn checksum_without(superuser: &Client, organization: uuid::Uuid) -> String {
    let sql = format!(
        r#"SELECT md5(coalesce(string_agg(line, E'\n' ORDER BY line), '')) FROM (
               SELECT f::text || f.xmin::text AS line FROM "Finding" f WHERE "organizationId" <> '{organization}'
               UNION ALL SELECT a::text || a.xmin::text FROM cloud_account a WHERE organization_id <>
                   '{organization}') t"#
    );
    value(superuser, &sql).await
}

#[test]
fn every_command_reaches_the_rows_of_its_own_tenant_only() {
    in_database(async |database| {
        let (client, superuser) = (database.application().await, database.superuser().await);
        let others = checksum_without(&superuser, ACME).await;
        as_tenant(&client, &database.token("alice")).await;
        assert_eq!(count(&client, FINDINGS).await, 5);
        assert_eq!(count(&client, r#"SELECT count(*) FROM "Finding" WHERE id = 101"#).await, 0);
        assert_eq!(
            count(&client, &format!(r#"SELECT count(*) FROM "Finding" WHERE "organizationId" = '{GLOBEX}'"#)).await,
            0
        );
        assert_eq!(changed(&client, r#"UPDATE "Finding" SET title = title || '!' WHERE id IN (1, 101)"#).await, 1);
        assert_eq!(changed(&client, r#"UPDATE "Finding" SET "amountCents" = 0"#).await, 5);
        assert_eq!(changed(&client, r#"DELETE FROM "Finding" WHERE id IN (2, 102)"#).await, 1);
        let returned = r#"INSERT INTO "Finding" (title) VALUES ('new') RETURNING "organizationId""#;
        assert_eq!(value(&client, returned).await, ACME.to_string());
        let returned = column(&client, r#"UPDATE "Finding" SET title = 'all' RETURNING id"#).await;
        assert!(
            returned.len() == 5 && !returned.iter().any(|id| id.starts_with("10") && id.len() == 3),
            "{returned:?}"
        );
        assert_eq!(
            column(&client, r#"SELECT id FROM "Finding" WHERE id > 100 AND id < 200 FOR UPDATE"#).await.len(),
            0
        );
        assert_eq!(column(&client, r#"DELETE FROM "Finding" RETURNING id"#).await.len(), 5);
        run(&client, "COMMIT").await;
        assert_eq!(checksum_without(&superuser, ACME).await, others);
    });
}

#[test]
fn a_row_cannot_be_written_into_or_moved_to_another_organization() {
    in_database(async |database| {
        let (client, superuser) = (database.application().await, database.superuser().await);
        let others = checksum_without(&superuser, ACME).await;
        as_tenant(&client, &database.token("alice")).await;
        for sql in [
            format!(r#"INSERT INTO "Finding" ("organizationId", title) VALUES ('{GLOBEX}', 'planted')"#),
            format!(r#"INSERT INTO "Finding" ("organizationId", title) SELECT '{GLOBEX}', title FROM "Finding""#),
            format!(r#"UPDATE "Finding" SET "organizationId" = '{GLOBEX}' WHERE id = 1"#),
            format!(r#"UPDATE "Finding" SET "organizationId" = '{GLOBEX}' WHERE id = 1 RETURNING id"#),
            format!("UPDATE cloud_account SET organization_id = '{GLOBEX}'"),
            format!(
                "INSERT INTO cloud_account (organization_id, external_id) VALUES ('{}', 'nobody')",
                uuid::Uuid::nil()
            ),
            format!(
                r#"INSERT INTO "Finding" (id, title) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET "organizationId"
                    = '{GLOBEX}'"#
            ),
            r#"INSERT INTO "Finding" (id, title) VALUES (101, 'x') ON CONFLICT (id) DO UPDATE SET title = 'taken'"#
                .to_owned(),
            format!(
                r#"MERGE INTO "Finding" f USING (VALUES (1)) v (id) ON f.id = v.id
                       WHEN MATCHED THEN UPDATE SET "organizationId" = '{GLOBEX}'"#
            ),
            format!(
                r#"MERGE INTO "Finding" f USING (VALUES (0)) v (id) ON f.id = v.id
                       WHEN NOT MATCHED THEN INSERT ("organizationId", title) VALUES ('{GLOBEX}', 'planted')"#
            ),
            format!(
                r#"WITH moved AS (UPDATE "Finding" SET "organizationId" = '{GLOBEX}' RETURNING id) SELECT count(*)
                    FROM moved"#
            ),
        ] {
            let refusal = refused_within(&client, &sql).await;
            assert_eq!(refusal.sqlstate, "42501", "{sql}: {refusal:?}");
            assert!(!format!("{refusal:?}").contains("globex"), "{refusal:?}");
        }
        run(&client, "COMMIT").await;
        assert_eq!(checksum_without(&superuser, ACME).await, others);
        assert_eq!(
            count(&superuser, &format!(r#"SELECT count(*) FROM "Finding" WHERE "organizationId" = '{ACME}'"#)).await,
            5
        );
    });
}

#[test]
fn on_conflict_and_merge_change_rows_of_their_own_tenant_only() {
    in_database(async |database| {
        let (client, superuser) = (database.application().await, database.superuser().await);
        let others = checksum_without(&superuser, ACME).await;
        as_tenant(&client, &database.token("alice")).await;
        let upsert = r#"INSERT INTO "Finding" (id, title) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET title =
            'own' RETURNING title"#;
        assert_eq!(value(&client, upsert).await, "own");
        let nothing = r#"INSERT INTO "Finding" (id, title) VALUES (101, 'x') ON CONFLICT DO NOTHING RETURNING title"#;
        assert_eq!(column(&client, nothing).await.len(), 0);
        let account = "INSERT INTO cloud_account (external_id) VALUES ('globex-production') RETURNING organization_id";
        assert_eq!(value(&client, account).await, ACME.to_string(), "names are taken per organization");
        let merge = r#"MERGE INTO "Finding" f USING generate_series(1, 110) v (id) ON f.id = v.id
                       WHEN MATCHED AND f.id < 3 THEN UPDATE SET "amountCents" = 1
                       WHEN MATCHED THEN DELETE"#;
        assert_eq!(changed(&client, merge).await, 5);
        assert_eq!(count(&client, FINDINGS).await, 2);
        run(&client, "COMMIT").await;
        assert_eq!(checksum_without(&superuser, ACME).await, others);
    });
}

#[test]
fn copy_gives_the_own_rows_and_takes_none_past_the_policies() {
    in_database(async |database| {
        let client = database.application().await;
        for (subject, prefix, findings) in [("alice", "acme", 5), ("bob", "globex", 7)] {
            as_tenant(&client, &database.token(subject)).await;
            for sql in [r#"COPY "Finding" (title) TO STDOUT"#, r#"COPY (SELECT title FROM "Finding") TO STDOUT"#] {
                let parts: Vec<_> = client.copy_out(sql).await.unwrap().try_collect().await.unwrap();
                let text = String::from_utf8(parts.concat()).unwrap();
                assert_eq!(text.lines().filter(|line| line.starts_with(prefix)).count(), findings, "{text}");
                assert_eq!(text.lines().count(), findings, "{text}");
            }
            // Postgres has no COPY FROM under row-level security: not supported, rather than not checked.
            let refusal = refused_within(&client, r#"COPY "Finding" (title) FROM STDIN"#).await;
            assert_eq!(refusal.sqlstate, "0A000");
            run(&client, "COMMIT").await;
        }
        let error = match client.copy_out(r#"COPY "Finding" TO STDOUT"#).await {
            Err(error) => error,
            Ok(stream) => stream.try_collect::<Vec<_>>().await.unwrap_err(),
        };
        assert_eq!(Refusal::of(&error).sqlstate, "28000");
    });
}

#[test]
fn a_viewer_reads_and_is_refused_everything_else_also_where_no_row_would_change() {
    in_database(async |database| {
        let client = database.application().await;
        as_tenant(&client, &database.token("victor")).await;
        assert_eq!(count(&client, FINDINGS).await, 5);
        for sql in [
            r#"INSERT INTO "Finding" (title) VALUES ('x')"#,
            r#"INSERT INTO "Finding" (id, title) VALUES (1, 'x') ON CONFLICT DO NOTHING"#,
            r#"UPDATE "Finding" SET title = 'x'"#,
            r#"UPDATE "Finding" SET title = 'x' WHERE id = -1"#,
            r#"DELETE FROM "Finding""#,
            r#"DELETE FROM "Finding" WHERE id = 101"#,
            r#"COPY "Finding" (title) FROM STDIN"#,
            r#"SELECT * FROM "Finding" FOR UPDATE"#,
            r#"MERGE INTO "Finding" f USING (VALUES (1)) v (id) ON f.id = v.id WHEN MATCHED THEN DELETE"#,
            "SELECT tenancy.authorize('finding', 'update')",
        ] {
            let refusal = refused_within(&client, sql).await;
            assert_eq!(refusal.sqlstate, "42501", "{sql}");
            assert!(refusal.message.contains("role \"reader\" may not"), "{sql}: {refusal:?}");
            assert!(refusal.hint.is_some(), "{sql}");
        }
        assert_eq!(value(&client, "SELECT tenancy.allowed('finding', 'update')").await, "f");
        assert_eq!(value(&client, "SELECT tenancy.allowed('finding', 'read')").await, "t");
    });
}

#[test]
fn nobody_without_a_context_reads_or_writes_not_even_the_owner_of_the_table() {
    in_database(async |database| {
        for client in [database.application().await, database.owner().await] {
            for sql in [
                FINDINGS,
                "SELECT count(*) FROM cloud_account",
                r#"SELECT exists(SELECT FROM "Finding")"#,
                r#"INSERT INTO "Finding" (title) VALUES ('x')"#,
                r#"UPDATE "Finding" SET title = 'x'"#,
                r#"DELETE FROM "Finding""#,
                r#"MERGE INTO "Finding" f USING (VALUES (1)) v (id) ON f.id = v.id WHEN MATCHED THEN DELETE"#,
                r#"COPY "Finding" TO STDOUT"#,
            ] {
                let refusal = refused(&client, sql).await;
                assert_eq!(refusal.sqlstate, "28000", "{sql}: {refusal:?}");
            }
            let named = format!(r#"INSERT INTO "Finding" ("organizationId", title) VALUES ('{ACME}', 'x')"#);
            assert_eq!(refused(&client, &named).await.sqlstate, "28000");
        }
    });
}

#[test]
fn truncate_is_refused_to_every_tenant() {
    in_database(async |database| {
        let (client, superuser) = (database.application().await, database.superuser().await);
        run(&superuser, &format!(r#"GRANT TRUNCATE ON "Finding", cloud_account TO {APPLICATION}"#)).await;
        for sql in [r#"TRUNCATE "Finding""#, r#"TRUNCATE "Finding", cloud_account"#, "TRUNCATE cloud_account CASCADE"] {
            assert_eq!(refused(&client, sql).await.sqlstate, "42501", "{sql}");
            as_tenant(&client, &database.token("alice")).await;
            assert_eq!(refused(&client, sql).await.sqlstate, "42501", "{sql}");
            run(&client, "ROLLBACK").await;
        }
        assert_eq!(count(&superuser, FINDINGS).await, 12);
    });
}

#[test]
fn a_condition_with_a_side_effect_never_sees_the_rows_of_another_tenant() {
    in_database(async |database| {
        let client = database.application().await;
        as_tenant(&client, &database.token("alice")).await;
        // Cheaper than the policy, so that only the security barrier keeps it behind.
        let leak = r"CREATE FUNCTION pg_temp.leak(title text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS
                     $$ BEGIN IF title LIKE 'globex%' THEN RAISE 'leaked %', title; END IF; RETURN true; END $$";
        run(&client, leak).await;
        for sql in [
            r#"SELECT count(*) FROM "Finding" WHERE pg_temp.leak(title)"#,
            r#"SELECT count(*) FROM "Finding" WHERE pg_temp.leak(title) AND id > 0"#,
            r#"SELECT count(*) FROM "Finding" f JOIN cloud_account a ON pg_temp.leak(f.title) AND
                pg_temp.leak(a.external_id)"#,
        ] {
            assert_eq!(count(&client, sql).await, 5, "{sql}");
        }
        assert_eq!(changed(&client, r#"UPDATE "Finding" SET title = title WHERE pg_temp.leak(title)"#).await, 5);
        let division = r#"SELECT count(*) FROM "Finding" WHERE 1 / (id - 101) < 1"#;
        assert_eq!(count(&client, division).await, 5);
    });
}

#[test]
fn tenants_at_work_at_the_same_time_never_meet() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        let workers = (0..6).map(async |n| {
            let client = database.application().await;
            let (subject, organization) = [("alice", ACME), ("bob", GLOBEX)][n % 2];
            let token = database.token(subject);
            for round in 0..25 {
                as_tenant(&client, &token).await;
                let title = format!("{subject} {n} {round}");
                let insert = r#"INSERT INTO "Finding" (title) VALUES ($1) RETURNING "organizationId", id"#;
                let row = client.query_one(insert, &[&title]).await.unwrap();
                assert_eq!(row.get::<_, uuid::Uuid>(0), organization);
                let id: i64 = row.get(1);
                let foreign = format!(r#"SELECT count(*) FROM "Finding" WHERE "organizationId" <> '{organization}'"#);
                assert_eq!(count(&client, &foreign).await, 0);
                let update = r#"UPDATE "Finding" SET "amountCents" = "amountCents" + 1 WHERE id = $1"#;
                assert_eq!(client.execute(update, &[&id]).await.unwrap(), 1);
                run(&client, if round % 5 == 4 { "ROLLBACK" } else { "COMMIT" }).await;
            }
        });
        join_all(workers).await;
        for (prefix, organization) in [("alice", ACME), ("bob", GLOBEX)] {
            let sql = format!(
                r#"SELECT count(*) FROM "Finding" WHERE title LIKE '{prefix} %' AND "organizationId" =
                    '{organization}'"#
            );
            assert_eq!(count(&superuser, &sql).await, 3 * 20);
            assert_eq!(
                count(&superuser, &format!(r#"SELECT count(*) FROM "Finding" WHERE title LIKE '{prefix} %'"#)).await,
                3 * 20
            );
        }
    });
}

/// What only Globex has: none of it may appear in anything that alice is told.
const MARKS: [&str; 3] = ["globex", "bbbbbbbb-0000", "GLOBEX-SECRET"];

fn conditions() -> impl Strategy<Value = String> {
    let fixed = [
        "true",
        "id = 101",
        "id > 100",
        r#""amountCents" > 200"#,
        "title LIKE '%finding%'",
        r#""organizationId" = 'bbbbbbbb-0000-4000-8000-000000000002'"#,
        r#""organizationId" <> tenancy.org_id()"#,
        r#""accountId" IN (SELECT id FROM cloud_account)"#,
        r#"EXISTS (SELECT FROM "Finding" other WHERE other.id = "Finding".id + 100)"#,
        "title IS NULL OR true",
        "1 / (id - 101) = 0",
    ];
    prop_oneof![
        prop::sample::select(fixed.to_vec()).prop_map(str::to_owned),
        (0..120i64).prop_map(|id| format!("id = {id}"))
    ]
}

fn statements() -> impl Strategy<Value = String> {
    let organization = prop::sample::select(vec![
        "DEFAULT",
        "'aaaaaaaa-0000-4000-8000-000000000001'",
        "'bbbbbbbb-0000-4000-8000-000000000002'",
    ]);
    let id = prop_oneof![Just("DEFAULT".to_owned()), (1..110i64).prop_map(|id| id.to_string())];
    let conflict = prop::sample::select(vec![
        "",
        "ON CONFLICT DO NOTHING",
        "ON CONFLICT (id) DO UPDATE SET title = EXCLUDED.title",
    ]);
    let insert = (id, organization.clone(), conflict).prop_map(|(id, organization, conflict)| {
        format!(
            r#"INSERT INTO "Finding" (id, "organizationId", title) VALUES ({id}, {organization}, 'generated')
            {conflict} RETURNING *"#
        )
    });
    let set = prop::sample::select(vec![
        r#""amountCents" = "amountCents" + 1"#,
        "title = title || '.'",
        r#""organizationId" = 'bbbbbbbb-0000-4000-8000-000000000002'"#,
        r#""organizationId" = DEFAULT"#,
        "id = id + 1000",
        r#""accountId" = 2"#,
    ]);
    let update = (set, conditions())
        .prop_map(|(set, condition)| format!(r#"UPDATE "Finding" SET {set} WHERE {condition} RETURNING *"#));
    let delete = conditions().prop_map(|condition| format!(r#"DELETE FROM "Finding" WHERE {condition} RETURNING *"#));
    let select = (
        prop::sample::select(vec![
            "*",
            "count(*)",
            "max(title)",
            "string_agg(title, ',')",
            r#"DISTINCT "organizationId""#,
            "json_agg(\"Finding\")",
        ]),
        conditions(),
        prop::sample::select(vec!["", "LIMIT 3", "OFFSET 1"]),
    )
        .prop_map(|(list, condition, rest)| format!(r#"SELECT {list} FROM "Finding" WHERE {condition} {rest}"#));
    let merge = conditions().prop_map(|condition| {
        format!(
            r#"MERGE INTO "Finding" USING generate_series(1, 110) v (n) ON "Finding".id = v.n AND ({condition})
               WHEN MATCHED THEN UPDATE SET title = 'merged' WHEN NOT MATCHED AND n > 107 THEN INSERT (title) VALUES
                   ('merged')"#
        )
    });
    let fixed = prop::sample::select(vec![
        r#"SELECT f.*, a.* FROM "Finding" f FULL JOIN cloud_account a ON a.id = f."accountId""#.to_owned(),
        r#"SELECT * FROM "Finding" FOR UPDATE SKIP LOCKED"#.to_owned(),
        r#"EXPLAIN (ANALYZE, VERBOSE) SELECT * FROM "Finding" WHERE title > 'a'"#.to_owned(),
        r#"CREATE TEMP TABLE copied ON COMMIT DROP AS SELECT * FROM "Finding""#.to_owned(),
        r#"CREATE TEMP VIEW seen AS SELECT * FROM "Finding"; SELECT * FROM seen"#.to_owned(),
        r#"DO $$ DECLARE r record; BEGIN FOR r IN SELECT * FROM "Finding" LOOP RAISE NOTICE '%', r; END LOOP; END $$"#
            .to_owned(),
        r#"WITH gone AS (DELETE FROM "Finding" RETURNING *) SELECT * FROM gone"#.to_owned(),
        r#"DELETE FROM cloud_account RETURNING *"#.to_owned(),
        "UPDATE cloud_account SET external_id = external_id || '-moved', id = id + 500 RETURNING *".to_owned(),
        "INSERT INTO cloud_account (id, external_id) VALUES (2, 'taken') ON CONFLICT DO NOTHING RETURNING *".to_owned(),
        r#"TABLE pg_stats"#.to_owned(),
        "SELECT tenancy.whoami()".to_owned(),
        "SELECT tenancy.sign_out()".to_owned(),
        "RESET ALL".to_owned(),
        "SET LOCAL row_security = off".to_owned(),
        "SET LOCAL session_replication_role = replica".to_owned(),
        "SET LOCAL search_path = pg_temp, public".to_owned(),
        r#"LOCK TABLE "Finding" IN ROW EXCLUSIVE MODE"#.to_owned(),
        r#"ALTER TABLE "Finding" DISABLE ROW LEVEL SECURITY"#.to_owned(),
        r#"TRUNCATE "Finding""#.to_owned(),
    ]);
    prop_oneof![2 => select, 2 => insert, 2 => update, 1 => delete, 1 => merge, 2 => fixed]
}

#[test]
fn whatever_one_tenant_runs_the_rows_of_another_stay_and_stay_unseen() {
    in_database(async |database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        run(&superuser, r#"UPDATE "Finding" SET resource = '{"key": "GLOBEX-SECRET"}' WHERE id > 100; ANALYZE"#).await;
        let before = checksum_without(&superuser, ACME).await;
        let token = database.token("alice");
        let mut runner = TestRunner::default();
        let generated = prop::collection::vec(statements(), 1..8);
        let (mut done, mut failed) = (0, 0);
        for _ in 0..64 {
            let statements = generated.new_tree(&mut runner).unwrap().current();
            as_tenant(&client, &token).await;
            for sql in &statements {
                run(&client, "SAVEPOINT statement").await;
                let answer = client.simple_query(sql).await;
                let told = match &answer {
                    Ok(messages) => format!("{:?}", text_of(messages)),
                    Err(error) => format!("{:?}", Refusal::of(error)),
                };
                // The statement itself may name Globex; what comes back must not tell more than that.
                let mark = MARKS.into_iter().find(|mark| told.contains(mark) && !sql.contains(mark));
                assert_eq!(mark, None, "{sql} told {told} after {statements:?}");
                if answer.is_err() {
                    failed += 1;
                    run(&client, "ROLLBACK TO statement").await;
                }
                done += 1;
            }
            assert_eq!(checksum_without(&superuser, ACME).await, before, "{statements:?}");
            let dropped = client.batch_execute("SET CONSTRAINTS ALL IMMEDIATE").await.is_err();
            run(&client, if dropped || done % 3 == 0 { "ROLLBACK" } else { "COMMIT" }).await;
            run(&client, "DISCARD ALL").await;
            assert_eq!(checksum_without(&superuser, ACME).await, before, "{statements:?}");
        }
        assert!(failed < done * 2 / 3, "{failed} of {done} statements failed: that shows little");
        assert_audit_is_whole(&superuser).await;
    });
}

fn text_of(messages: &[SimpleQueryMessage]) -> Vec<Vec<Option<&str>>> {
    messages
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|n| row.get(n)).collect()),
            _ => None,
        })
        .collect()
}
