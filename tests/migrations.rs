//! Migrations that would end the isolation: refused with a sentence that says what to do, or carried.
//!
//! They run as the owner of the tables, who is no superuser and a member of `tenancy_admin`: what a migration tool logs
//! in as, or whoever took it over.

use crate::common::server::fails;
use crate::common::*;
use tokio_postgres::Client;

const FINDINGS: &str = r#"SELECT count(*) FROM "Finding""#;

/// The statement fails with the SQLSTATE, and message, detail and hint together hold the words.
async fn is_refused(client: &Client, sql: &str, sqlstate: &str, words: &[&str]) {
    let refusal = refused(client, sql).await;
    let told = [Some(refusal.message.as_str()), refusal.detail.as_deref(), refusal.hint.as_deref()];
    let told = told.into_iter().flatten().collect::<Vec<_>>().join(" | ");
    assert!(refusal.sqlstate == sqlstate && words.iter().all(|words| told.contains(words)), "{sql}: {refusal:?}");
}

/// Nothing is left to be done again, and each tenant sees its own.
async fn assert_whole(database: &Database) {
    let superuser = database.superuser().await;
    assert_eq!(column(&superuser, "SELECT problem FROM tenancy.drift()").await, Vec::<String>::new());
    assert_audit_is_whole(&superuser).await;
    let client = database.application().await;
    assert_eq!(refused(&client, FINDINGS).await.sqlstate, "28000");
    for (subject, findings) in [("alice", 5), ("bob", 7)] {
        as_tenant(&client, &database.token(subject)).await;
        assert_eq!(count(&client, FINDINGS).await, findings, "{subject}");
        run(&client, "ROLLBACK").await;
    }
}

#[test]
fn the_organization_column_is_not_dropped_renamed_made_nullable_or_given_another_type() {
    in_database(async |database| {
        let owner = database.owner().await;
        for change in [
            r#"DROP COLUMN "organizationId""#,
            r#"DROP COLUMN "organizationId" CASCADE"#,
            r#"RENAME COLUMN "organizationId" TO tenant"#,
            r#"ALTER COLUMN "organizationId" DROP NOT NULL"#,
            r#"ALTER COLUMN "organizationId" TYPE text"#,
        ] {
            let sql = format!(r#"ALTER TABLE "Finding" {change}"#);
            is_refused(&owner, &sql, "42501", &["Finding", "tenancy.unprotect(table)"]).await;
        }
        assert_whole(database).await;
    });
}

#[test]
fn who_drops_the_table_of_tenants_leaves_the_others_protected() {
    in_database(async |database| {
        let owner = database.owner().await;
        run(
            &owner,
            &format!(
                "CREATE TABLE team (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name text);
                 INSERT INTO team VALUES ('{ACME}', 'Acme'), ('{GLOBEX}', 'Globex');
                 CREATE TABLE doc (id integer PRIMARY KEY, team_id uuid NOT NULL REFERENCES team, title text);
                 INSERT INTO doc VALUES (1, '{ACME}', 'a'), (2, '{GLOBEX}', 'g');
                 SELECT tenancy.protect('doc', organization_column => 'team_id');
                 GRANT SELECT ON doc TO {APPLICATION}"
            ),
        )
        .await;
        is_refused(&owner, "DROP TABLE team", "2BP01", &["doc_team_id_fkey on table doc", "CASCADE"]).await;
        run(&owner, "DROP TABLE team CASCADE").await;
        let client = database.application().await;
        for (subject, title) in [("alice", "a"), ("bob", "g")] {
            as_tenant(&client, &database.token(subject)).await;
            assert_eq!(column(&client, "SELECT title FROM doc").await, [title]);
            run(&client, "ROLLBACK").await;
        }
        assert_whole(database).await;
    });
}

#[test]
fn partitions_that_are_swapped_stay_protected() {
    in_database(async |database| {
        let (owner, superuser) = (database.owner().await, database.superuser().await);
        run(
            &owner,
            &format!(
                "CREATE TABLE cost (id integer, organization_id uuid NOT NULL, month date NOT NULL)
                     PARTITION BY RANGE (month);
                 CREATE TABLE cost_1 PARTITION OF cost FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
                 SELECT tenancy.protect('cost');
                 GRANT SELECT ON cost, cost_1 TO {APPLICATION}"
            ),
        )
        .await;
        let swap = format!(
            "BEGIN;
             CREATE TABLE cost_new (LIKE cost INCLUDING DEFAULTS);
             GRANT SELECT ON cost_new TO {APPLICATION};
             ALTER TABLE cost DETACH PARTITION cost_1;
             ALTER TABLE cost ATTACH PARTITION cost_new FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
             ALTER TABLE cost_1 RENAME TO cost_old;
             ALTER TABLE cost_new RENAME TO cost_1;
             COMMIT"
        );
        run(&owner, &swap).await;
        let rows = format!("INSERT INTO cost_1 VALUES (1, '{ACME}', '2026-01-05'), (2, '{GLOBEX}', '2026-01-06')");
        run(&superuser, &format!("{rows}; INSERT INTO cost_old SELECT * FROM cost_1")).await;
        let client = database.application().await;
        for table in ["cost", "cost_1", "cost_old"] {
            assert_eq!(refused(&client, &format!("SELECT count(*) FROM {table}")).await.sqlstate, "28000", "{table}");
            if table != "cost_old" {
                as_tenant(&client, &database.token("alice")).await;
                assert_eq!(count(&client, &format!("SELECT count(*) FROM {table}")).await, 1, "{table}");
                run(&client, "ROLLBACK").await;
            }
        }
        assert_whole(database).await;
    });
}

/// Yesterday's dump over today's database: what is there stays, and nothing is opened on the way.
#[test]
fn yesterdays_dump_does_not_go_over_todays_database() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        let client = database.application().await;
        as_tenant(&client, &database.token("alice")).await;
        run(&client, r#"UPDATE "Finding" SET title = 'of yesterday' WHERE id = 1; COMMIT"#).await;
        seal_all(&superuser).await;
        let archive = std::env::temp_dir().join(format!("{}.yesterday", database.name));
        let dump = database.program("pg_dump").args(["--format", "custom", "-f"]).arg(&archive).status().unwrap();
        assert!(dump.success());
        as_tenant(&client, &database.token("alice")).await;
        run(&client, r#"UPDATE "Finding" SET title = 'of today' WHERE id = 1; COMMIT"#).await;
        seal_all(&superuser).await;

        let restore = |arguments: &[&str]| {
            let mut program = database.program("pg_restore");
            fails(program.args(["--exit-on-error", "-d", &database.name]).args(arguments).arg(&archive))
        };
        for arguments in
            [&[][..], &["--clean", "--if-exists"], &["--data-only"], &["--data-only", "--table", "Finding"]]
        {
            let told = restore(arguments);
            println!("{arguments:?}: {told}");
            assert_eq!(value(&superuser, r#"SELECT title FROM "Finding" WHERE id = 1"#).await, "of today");
            assert_whole(database).await;
        }
        std::fs::remove_file(archive).unwrap();
    });
}
