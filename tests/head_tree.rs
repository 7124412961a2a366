//! The stored tree over the heads of all organizations: its roots and proofs are those of the definition however the
//! organizations move, and what is changed in it is found.

use crate::audit_proofs::root_by_definition;
use crate::common::*;
use tokio_postgres::Client;

/// Creates organizations number `from` to `until`, whose ids are in no order.
async fn create(client: &Client, from: u32, until: u32) {
    let sql =
        format!("SELECT tenancy.create_organization('x', md5('o' || n)::uuid) FROM generate_series({from}, {until}) n");
    run(client, &sql).await;
}

/// Writes an event of each of these organizations.
async fn touch(client: &Client, numbers: &str) {
    run(client, &format!("INSERT INTO finding (organization_id) SELECT md5('o' || n)::uuid FROM {numbers} n")).await;
}

async fn begin(database: &Database) -> Client {
    let client = database.superuser().await;
    begin_anew(&client).await;
    run(
        &client,
        "CREATE TABLE finding (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, organization_id uuid NOT NULL);
         SELECT tenancy.protect('finding')",
    )
    .await;
    client
}

/// Organizations that come and move in an order of their own, with a checkpoint after each step.
async fn history(database: &Database) -> Client {
    let client = begin(database).await;
    let mut known = 0;
    for (step, more) in [3, 4, 1, 1, 60, 0, 7, 1, 200, 0, 300].into_iter().enumerate() {
        if more > 0 {
            create(&client, known + 1, known + more).await;
            // Several blocks between two checkpoints, in which the same ones move.
            seal(&client).await;
            known += more;
        }
        let spread = step as u32 * 5 + 1;
        touch(&client, &format!("generate_series(1 + {step} % {known}, {known}, {spread})")).await;
        seal(&client).await;
        touch(&client, &format!("generate_series(1, {known}, {})", spread + 3)).await;
        run(&client, "SELECT tenancy.checkpoint()").await;
    }
    client
}

#[test]
fn each_checkpoint_has_the_root_over_all_heads_in_the_order_of_their_first_blocks() {
    in_database(async |database| {
        let client = history(database).await;
        let numbers = count(&client, "SELECT max(number) FROM tenancy.checkpoint").await;
        assert_eq!(numbers, 11);
        // The place is told by the heads alone.
        let order = "SELECT count(*), count(DISTINCT p.place), bool_and(p.place = h.place AND p.heads = c.heads
                            AND tenancy.verify_inclusion(p.digest, p.place, p.heads, p.proof, c.heads_root)
                            AND p.root = tenancy.tree_root(h.organization, p.position))
                       FROM (SELECT organization, row_number() OVER (ORDER BY min(block), organization) AS place
                               FROM tenancy.seal GROUP BY organization) h
                       JOIN tenancy.checkpoint c ON c.number = $1,
                            tenancy.head_proof(h.organization, c.number) p";
        for number in 1..=numbers {
            let row = client.query_one(order, &[&number]).await.unwrap();
            let (count, places, holds): (i64, i64, bool) = (row.get(0), row.get(1), row.get(2));
            assert!(holds, "the proofs of checkpoint {number}");
            assert_eq!(count, places);
            let leaves = "SELECT p.digest FROM tenancy.head_leaf l, tenancy.head_proof(l.organization, $1) p
                           ORDER BY p.place";
            let leaves = client.query(leaves, &[&number]).await.unwrap();
            let leaves: Vec<Vec<u8>> = leaves.iter().map(|row| row.get(0)).collect();
            assert_eq!(leaves.len() as i64, count);
            let root = "SELECT heads_root FROM tenancy.checkpoint WHERE number = $1";
            let root: Vec<u8> = client.query_one(root, &[&number]).await.unwrap().get(0);
            assert_eq!(root, root_by_definition(&leaves), "checkpoint {number}");
        }
        assert_audit_is_whole(&client).await;
    });
}

#[test]
fn a_checkpoint_that_is_rolled_back_leaves_no_leaf_and_no_node() {
    in_database(async |database| {
        let client = begin(database).await;
        create(&client, 1, 20).await;
        run(&client, "SELECT tenancy.checkpoint()").await;
        let rows = "SELECT (SELECT count(*) FROM tenancy.head_leaf) || ' ' || (SELECT count(*) FROM tenancy.head_node)";
        assert_eq!(value(&client, rows).await, "21 2");
        for end in ["ROLLBACK", "ROLLBACK TO one; COMMIT"] {
            run(&client, "BEGIN; SAVEPOINT one").await;
            create(&client, 21, 30).await;
            run(&client, "SELECT tenancy.checkpoint()").await;
            run(&client, end).await;
            assert_eq!(value(&client, rows).await, "21 2", "{end}");
        }
        create(&client, 21, 30).await;
        touch(&client, "generate_series(1, 30)").await;
        // What the transaction seals itself is in it.
        run(&client, "BEGIN").await;
        run(&client, "SELECT tenancy.checkpoint(); SAVEPOINT one; SELECT tenancy.checkpoint(); COMMIT").await;
        assert_eq!(value(&client, rows).await, "31 5");
        assert_audit_is_whole(&client).await;
        // Nothing moved: neither rows nor a checkpoint.
        run(&client, "SELECT tenancy.checkpoint()").await;
        assert_eq!(value(&client, rows).await, "31 5");
    });
}

#[test]
fn two_checkpoints_at_a_time_have_one_tree() {
    in_database(async |database| {
        let client = begin(database).await;
        create(&client, 1, 100).await;
        let make = async |from: u32| {
            let client = database.superuser().await;
            for n in from..from + 10 {
                touch(&client, &format!("generate_series({n}, 100, 13)")).await;
                create(&client, 100 + n, 100 + n).await;
                run(&client, "SELECT tenancy.checkpoint()").await;
            }
        };
        tokio::join!(make(1), make(11), make(21));
        assert_eq!(value(&client, "SELECT count(*) || ' ' || max(leaf) FROM tenancy.head_leaf").await, "131 130");
        assert_audit_is_whole(&client).await;
    });
}

async fn found_in(client: &Client, change: &str, call: &str) -> Vec<String> {
    run(client, "BEGIN").await;
    run(client, change).await;
    let found = column(client, &format!("SELECT DISTINCT finding FROM tenancy.verify_audit({call})")).await;
    run(client, "ROLLBACK").await;
    found
}

const UNGUARDED: &str = "ALTER TABLE tenancy.head_node DISABLE TRIGGER append_only;
    ALTER TABLE tenancy.head_leaf DISABLE TRIGGER append_only;
    ALTER TABLE tenancy.seal DISABLE TRIGGER append_only;
    ALTER TABLE tenancy.verification DISABLE TRIGGER append_only";

#[test]
fn each_changed_row_of_the_tree_over_heads_is_found() {
    in_database(async |database| {
        let client = history(database).await;
        assert_audit_is_whole(&client).await;
        run(&client, UNGUARDED).await;
        let old = "WHERE level = 3 AND index = 2 AND block = (SELECT min(block) FROM tenancy.head_node
                                                              WHERE level = 3 AND index = 2)";
        let newest = "SELECT block FROM tenancy.checkpoint WHERE number = 11";
        for (change, expected) in [
            (format!("UPDATE tenancy.head_node SET hash = sha256('x') {old}"), "altered"),
            (
                format!("UPDATE tenancy.head_node SET hash = sha256('x') WHERE level = 9 AND block = ({newest})"),
                "altered",
            ),
            (format!("UPDATE tenancy.head_node SET index = 999 {old}"), "missing"),
            (format!("UPDATE tenancy.head_node SET level = 4 {old}"), "inserted"),
            (format!("UPDATE tenancy.head_node SET level = -1 {old}"), "altered"),
            (format!("UPDATE tenancy.head_node SET block = block + 1 {old}"), "inserted"),
            (format!("UPDATE tenancy.head_node SET block = 0 {old}"), "inserted"),
            (format!("DELETE FROM tenancy.head_node {old}"), "missing"),
            ("DELETE FROM tenancy.head_node".to_owned(), "missing"),
            (
                format!("INSERT INTO tenancy.head_node SELECT level, index, 999999, hash FROM tenancy.head_node {old}"),
                "inserted",
            ),
            (format!("INSERT INTO tenancy.head_node SELECT 3, 999, ({newest}), sha256('x')"), "inserted"),
            (
                "ALTER TABLE tenancy.head_node DROP CONSTRAINT head_node_hash_check;
              UPDATE tenancy.head_node SET hash = '' WHERE level = 3 AND index = 0"
                    .to_owned(),
                "altered",
            ),
            ("UPDATE tenancy.head_leaf SET leaf = 99999 WHERE leaf = 5".to_owned(), "missing"),
            ("UPDATE tenancy.head_leaf SET organization = gen_random_uuid() WHERE leaf = 3".to_owned(), "altered"),
            (
                "ALTER TABLE tenancy.head_leaf DROP CONSTRAINT head_leaf_leaf_key CASCADE;
              UPDATE tenancy.head_leaf SET leaf = 9 - leaf WHERE leaf IN (4, 5);
              ALTER TABLE tenancy.head_leaf ADD UNIQUE (leaf)"
                    .to_owned(),
                "altered",
            ),
            ("DELETE FROM tenancy.head_leaf WHERE leaf = 7".to_owned(), "missing"),
            (
                "DELETE FROM tenancy.head_leaf WHERE leaf = (SELECT max(leaf) FROM tenancy.head_leaf)".to_owned(),
                "missing",
            ),
            ("DELETE FROM tenancy.head_leaf".to_owned(), "missing"),
            ("INSERT INTO tenancy.head_leaf VALUES (gen_random_uuid(), 578)".to_owned(), "inserted"),
        ] {
            let found = found_in(&client, &change, "whole => true").await;
            assert!(found.contains(&expected.to_owned()), "{change}: {found:?}");
        }
        // Without any checkpoint there is no tree.
        run(&client, "ALTER TABLE tenancy.checkpoint DISABLE TRIGGER append_only").await;
        for rest in ["DELETE FROM tenancy.head_node", "DELETE FROM tenancy.head_leaf"] {
            let found = found_in(&client, &format!("DELETE FROM tenancy.checkpoint; {rest}"), "whole => true").await;
            assert_eq!(found, ["inserted"], "{rest}");
        }
        assert_audit_is_whole(&client).await;
    });
}

#[test]
fn a_run_over_the_newest_blocks_finds_what_was_changed_in_their_nodes() {
    in_database(async |database| {
        let client = history(database).await;
        assert_audit_is_whole(&client).await;
        touch(&client, "generate_series(1, 500, 60)").await;
        run(&client, "SELECT tenancy.checkpoint()").await;
        run(&client, UNGUARDED).await;
        let newest = "block = (SELECT max(block) FROM tenancy.checkpoint)";
        for (change, expected) in [
            (format!("UPDATE tenancy.head_node SET hash = sha256('x') WHERE level = 3 AND {newest}"), "altered"),
            (format!("DELETE FROM tenancy.head_node WHERE level = 6 AND {newest}"), "missing"),
            (
                "INSERT INTO tenancy.head_node SELECT 3, 70, max(block), sha256('x') FROM tenancy.checkpoint"
                    .to_owned(),
                "inserted",
            ),
        ] {
            assert_eq!(found_in(&client, &change, "").await, [expected], "{change}");
        }
        assert_audit_is_whole(&client).await;
    });
}

#[test]
fn a_proof_out_of_changed_rows_is_refused() {
    in_database(async |database| {
        let client = history(database).await;
        run(&client, UNGUARDED).await;
        let organization = value(&client, "SELECT organization FROM tenancy.head_leaf WHERE leaf = 20").await;
        for change in [
            "UPDATE tenancy.head_node SET hash = sha256('x') WHERE level = 6".to_owned(),
            "DELETE FROM tenancy.head_node WHERE level = 6".to_owned(),
            "DELETE FROM tenancy.head_leaf WHERE leaf = 20".to_owned(),
            "DELETE FROM tenancy.head_leaf WHERE leaf = 21".to_owned(),
            format!("UPDATE tenancy.seal SET chain = sha256('x') WHERE organization = '{organization}'"),
            format!("UPDATE tenancy.head_leaf SET leaf = 9999 WHERE organization = '{organization}'"),
        ] {
            run(&client, "BEGIN").await;
            run(&client, &change).await;
            let refusal = refused(&client, &format!("SELECT * FROM tenancy.head_proof('{organization}')")).await;
            assert_eq!(refusal.sqlstate, "XX001", "{change}: {refusal:?}");
            run(&client, "ROLLBACK").await;
        }
    });
}
