//! Guardrails that need a commit, two sessions, or a restore.

use crate::common::{Database, count, in_database, refused, value};

/// A protected schema in which `new_tables` is enforced.
async fn enforce(database: &Database) -> tokio_postgres::Client {
    let superuser = database.superuser().await;
    superuser
        .batch_execute(
            "SELECT tenancy.protect_schema('public');
             SELECT tenancy.set_guardrail('new_tables', 'enforce', 'test')",
        )
        .await
        .unwrap();
    database.owner().await
}

async fn is_refused(client: &tokio_postgres::Client, sql: &str, sqlstate: &str, words: &str) {
    let refusal = refused(client, sql).await;
    assert!(refusal.sqlstate == sqlstate && refusal.message.contains(words), "{sql}: {refusal:?}");
}

#[test]
fn a_transaction_that_leaves_a_tenant_table_unprotected_cannot_commit() {
    in_database(async |database| {
        let owner = enforce(database).await;
        let create = "CREATE TABLE price (id integer PRIMARY KEY, organization_id uuid)";
        is_refused(&owner, create, "55000", "is not protected").await;
        assert_eq!(value(&owner, "SELECT (to_regclass('price') IS NULL)::text").await, "true");

        let say_what_null_means = "SELECT tenancy.protect('price', null_rows => 'shared')";
        owner.batch_execute(&format!("BEGIN; {create}; {say_what_null_means}; COMMIT")).await.unwrap();
        assert_eq!(count(&owner, "SELECT count(*) FROM tenancy.plan('price') WHERE state <> 'done'").await, 0);
    });
}

#[test]
fn what_a_savepoint_takes_back_what_is_dropped_and_what_is_excluded_may_be_unprotected() {
    in_database(async |database| {
        let owner = enforce(database).await;
        for rest in [
            "SAVEPOINT s; CREATE TABLE t (org_id uuid); ROLLBACK TO s",
            "CREATE TABLE t (org_id uuid); DROP TABLE t",
            "CREATE TABLE t (org_id uuid); ALTER TABLE t DROP COLUMN org_id",
            "CREATE TABLE u (org_id uuid); SELECT tenancy.exclude('u', 'read by all')",
            "SET LOCAL tenancy.override_reason = 'later'; CREATE TABLE v (org_id uuid)",
            "CREATE TABLE w AS SELECT NULL::uuid AS org_id; ALTER TABLE w ALTER org_id SET DEFAULT NULL;
             DELETE FROM w; ALTER TABLE w ALTER org_id SET NOT NULL; SELECT tenancy.protect('w')",
        ] {
            owner
                .batch_execute(&format!("BEGIN; {rest}; COMMIT"))
                .await
                .unwrap_or_else(|error| panic!("{rest}: {error}"));
        }
        for rest in ["CREATE TABLE x AS SELECT NULL::uuid AS org_id", "SELECT NULL::uuid AS org_id INTO x"] {
            is_refused(&owner, rest, "55000", "is not protected").await;
        }
        owner.batch_execute("BEGIN; CREATE TABLE x (org_id uuid)").await.unwrap();
        is_refused(&owner, "PREPARE TRANSACTION 'x'", "55000", "is not protected").await;
    });
}

#[test]
fn a_push_that_disables_row_level_security_fails_in_a_session_that_never_loaded_the_library() {
    in_database(async |database| {
        let owner = database.owner().await;
        for statement in [
            r#"ALTER TABLE "Finding" DISABLE ROW LEVEL SECURITY"#,
            r#"DROP POLICY IF EXISTS tenancy_isolation ON "Finding" CASCADE"#,
        ] {
            is_refused(&owner, statement, "42501", "less protected").await;
        }
    });
}

#[test]
fn a_change_of_a_guardrail_counts_at_once_in_every_session() {
    in_database(async |database| {
        let owner = enforce(database).await;
        let superuser = database.superuser().await;
        owner.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await.unwrap();
        superuser.batch_execute("SELECT tenancy.set_guardrail('new_tables', 'off', 'test')").await.unwrap();
        owner.batch_execute("CREATE TABLE t (org_id uuid); COMMIT").await.unwrap();
    });
}

#[test]
fn whoever_drops_an_index_or_a_default_of_protect_is_warned_and_told_how_to_make_it_again() {
    in_database(async |database| {
        let owner = database.owner().await;
        let bare = "CREATE TABLE bare (id integer PRIMARY KEY, organization_id uuid NOT NULL)";
        owner.batch_execute(&format!("{bare}; SELECT tenancy.protect('bare')")).await.unwrap();
        for (sql, what) in [
            ("DROP INDEX bare_tenancy_idx", "the index \"bare_tenancy_idx\""),
            ("ALTER TABLE bare ALTER organization_id DROP DEFAULT", "the default of column \"organization_id\""),
        ] {
            let out = database.program("psql").args(["-U", crate::common::OWNER, "-Xc", sql]).output().unwrap();
            let told = String::from_utf8_lossy(&out.stderr);
            assert!(out.status.success(), "{sql}: {told}");
            let mend = "SELECT tenancy.protect('public.bare')";
            assert!(told.contains("WARNING") && told.contains(what) && told.contains(mend), "{sql}: {told}");
        }
    });
}
