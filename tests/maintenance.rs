//! What an owner does next, on connections of its own: statements before the library is loaded, and what a maintenance
//! leaves to the transactions after it.

use crate::common::{count, in_database, refused, run};

#[test]
fn a_foreign_key_is_added_on_a_connection_that_has_used_nothing_of_the_extension() {
    in_database(async |database| {
        let owner = database.owner().await;
        run(&owner, "CREATE TABLE note (id int PRIMARY KEY, account_id bigint)").await;
        run(&owner, "INSERT INTO note VALUES (1, 1), (2, 2)").await;
        let first = database.owner().await;
        run(&first, "ALTER TABLE note ADD FOREIGN KEY (account_id) REFERENCES cloud_account").await;
        let first = database.owner().await;
        let partition = "ALTER TABLE note ADD COLUMN other bigint DEFAULT 99 REFERENCES cloud_account";
        assert_eq!(refused(&first, partition).await.sqlstate, "23503");
    });
}

#[test]
fn a_maintenance_ends_with_its_transaction_for_all_that_was_planned_in_it() {
    in_database(async |database| {
        let owner = database.owner().await;
        let begin = "SELECT tenancy.begin_maintenance('count what there is')";
        run(
            &owner,
            "CREATE FUNCTION counted() RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT count(*) FROM \
            cloud_account); END'",
        )
        .await;
        run(&owner, "PREPARE listed AS SELECT count(*) FROM cloud_account").await;
        let planned = owner.prepare("SELECT count(*) FROM cloud_account WHERE id > $1").await.unwrap();
        for end in ["COMMIT", "ROLLBACK"] {
            run(&owner, &format!("BEGIN; {begin}")).await;
            assert_eq!(count(&owner, "EXECUTE listed").await, 2);
            assert_eq!(count(&owner, "SELECT counted()").await, 2);
            assert_eq!(owner.query_one(&planned, &[&0i64]).await.unwrap().get::<_, i64>(0), 2);
            run(&owner, end).await;
            for sql in ["EXECUTE listed", "SELECT counted()", "SELECT count(*) FROM cloud_account"] {
                assert_eq!(refused(&owner, sql).await.sqlstate, "28000", "{sql} after {end}");
            }
            assert!(owner.query_one(&planned, &[&0i64]).await.is_err(), "after {end}");
        }

        // Without a transaction block it is over with its own statement, and another session never has it.
        run(&owner, begin).await;
        assert_eq!(refused(&owner, "TABLE cloud_account").await.sqlstate, "28000");
        run(&owner, &format!("BEGIN; {begin}")).await;
        let other = database.owner().await;
        assert_eq!(refused(&other, "TABLE cloud_account").await.sqlstate, "28000");
        run(&owner, "COMMIT").await;

        // As whom the session was before and after.
        let token = database.token("alice");
        run(&owner, "BEGIN").await;
        crate::common::authenticate(&owner, &token).await.unwrap();
        assert_eq!(count(&owner, "EXECUTE listed").await, 1);
        run(&owner, "COMMIT").await;
        assert_eq!(refused(&owner, &format!("BEGIN READ ONLY; {begin}")).await.sqlstate, "25006");
    });
}

#[test]
fn workers_of_a_parallel_plan_see_what_their_leader_may() {
    in_database(async |database| {
        let owner = database.owner().await;
        run(&owner, "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0")
            .await;
        run(&owner, "BEGIN; SELECT tenancy.begin_maintenance('in parallel')").await;
        let plan = crate::common::column(&owner, "EXPLAIN (ANALYZE, COSTS OFF) SELECT count(*) FROM \"Finding\"")
            .await
            .join("\n");
        assert!(plan.contains("Workers Launched"), "{plan}");
        assert_eq!(count(&owner, "SELECT count(*) FROM \"Finding\"").await, 12);
        run(&owner, "COMMIT").await;
    });
}
