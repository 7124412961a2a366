//! The index by which the events of a row are found, against a reading of all events.

use crate::common::*;
use rand::RngExt as _;
use tokio_postgres::Client;

const TABLE: &str = "
CREATE TABLE thing (id numeric, part text, organization_id uuid NOT NULL, name text, PRIMARY KEY (id, part))
    PARTITION BY LIST (part);
CREATE TABLE thing_a PARTITION OF thing FOR VALUES IN ('a');
CREATE TABLE thing_b PARTITION OF thing FOR VALUES IN ('b');
SELECT tenancy.protect('thing');
CREATE TABLE other (LIKE thing INCLUDING ALL);
SELECT tenancy.protect('other');
-- For each key, which events have or had it.
CREATE VIEW by_definition AS
SELECT k.key, e.id
  FROM (SELECT jsonb_build_object('id', n, 'part', p) AS key FROM generate_series(1, 8) n, unnest('{a,b}'::text[]) p) k
  JOIN tenancy.event e ON e.table_name IN ('thing', 'thing_a', 'thing_b', 'thing_c')
   AND e.operation IN ('insert', 'update', 'delete')
   AND (e.row_key::jsonb = k.key
        OR k.key = (SELECT jsonb_object_agg(o.key, coalesce((e.payload -> 'old' -> o.key)::jsonb, o.value))
                      FROM jsonb_each(e.row_key::jsonb) o WHERE e.operation = 'update'));
CREATE VIEW by_index AS
SELECT k.key, h.event AS id FROM (SELECT DISTINCT key FROM by_definition) k,
       tenancy.row_history('thing', k.key) h
 WHERE h.operation IN ('insert', 'update', 'delete')";

const DIFFERENT: &str = "
WITH defined AS MATERIALIZED (SELECT key::text || ' ' || id AS it FROM by_definition),
     found AS MATERIALIZED (SELECT key::text || ' ' || id AS it FROM by_index)
(SELECT 'not found: ' || it FROM defined EXCEPT ALL SELECT 'not found: ' || it FROM found)
UNION ALL
(SELECT 'found: ' || it FROM found EXCEPT ALL SELECT 'found: ' || it FROM defined)";

/// All that is told of all keys.
const TOLD: &str = "
SELECT k.key::text || ' ' || h::text
  FROM (SELECT DISTINCT key FROM by_definition) k, tenancy.row_history('thing', k.key) h
 ORDER BY 1";

/// A change of some rows, of their keys also in forms that are equal.
fn change() -> String {
    let mut random = rand::rng();
    let (id, other) = (random.random_range(1..=8), random.random_range(1..=8));
    let part = ["a", "b"][random.random_range(0..2)];
    let organization = [ACME, GLOBEX, INITECH][random.random_range(0..3)];
    let table = ["thing", "thing", "thing", "other"][random.random_range(0..4)];
    match random.random_range(0..12) {
        0..4 => format!("INSERT INTO {table} VALUES ({id}.{}, '{part}', '{organization}', 'new')", "0".repeat(other)),
        4 => format!("INSERT INTO {table} SELECT n, '{part}', '{organization}' FROM generate_series(1, 8) n"),
        5 => format!("DELETE FROM {table} WHERE id = {id}"),
        6 => format!("UPDATE {table} SET id = {other} WHERE id = {id} AND part = '{part}'"),
        7 => format!("UPDATE {table} SET id = id + 100; UPDATE {table} SET id = id - 100"),
        8 => format!("UPDATE {table} SET part = '{part}' WHERE id = {id}"),
        9 => format!("UPDATE {table} SET organization_id = '{organization}' WHERE id <> {id}"),
        _ => format!("UPDATE {table} SET name = name || '{{\"id\": {other}}}' WHERE id >= {id}"),
    }
}

async fn transaction(client: &Client) {
    run(client, "BEGIN").await;
    for _ in 0..rand::rng().random_range(1..4) {
        run(client, "SAVEPOINT s").await;
        let failed = client.batch_execute(&change()).await.is_err();
        run(client, if failed { "ROLLBACK TO s" } else { "RELEASE s" }).await;
    }
    run(client, if rand::rng().random_bool(0.1) { "ROLLBACK" } else { "COMMIT" }).await;
}

/// What is told without any run.
async fn told_without(client: &Client) -> Vec<String> {
    run(client, "BEGIN; DELETE FROM tenancy.row_index").await;
    let told = column(client, TOLD).await;
    run(client, "ROLLBACK").await;
    told
}

async fn assert_found(client: &Client, when: &str) {
    assert_eq!(column(client, DIFFERENT).await, Vec::<String>::new(), "{when}");
    assert_eq!(column(client, TOLD).await, told_without(client).await, "{when}");
}

/// The blocks that the runs cover, and how many runs there are.
async fn covered(client: &Client) -> (i64, i64) {
    let covered =
        "SELECT coalesce(sum(last_block - first_block + 1) FILTER (WHERE part = 0), 0) FROM tenancy.row_index";
    (count(client, covered).await, count(client, "SELECT count(*) FROM tenancy.row_index").await)
}

#[test]
fn the_index_finds_what_a_reading_of_all_events_does() {
    in_database(async |database| {
        let client = database.superuser().await;
        run(&client, TABLE).await;
        for round in 0..70 {
            for _ in 0..2 {
                transaction(&client).await;
            }
            if round % 10 < 8 {
                seal(&client).await;
            }
            match round {
                20 => run(&client, "ALTER TABLE thing_b RENAME TO thing_c").await,
                40 => run(&client, "TRUNCATE thing_a, other").await,
                60 => {
                    let rewrite = "BEGIN; SET LOCAL tenancy.override_reason = 'a test';
                        ALTER TABLE thing ALTER COLUMN name TYPE varchar(100000); COMMIT";
                    run(&client, rewrite).await;
                }
                _ => (),
            }
            if round % 20 == 9 {
                assert_found(&client, "with events that are not sealed").await;
            }
        }
        seal_all(&client).await;
        let (blocks, runs) = covered(&client).await;
        assert_eq!(blocks, count(&client, "SELECT max(number) FROM tenancy.block").await);
        assert!(blocks > 40 && runs < blocks - 30, "{runs} runs over {blocks} blocks are not merged");
        assert_found(&client, "sealed").await;
        assert!(count(&client, "SELECT count(*) FROM by_definition").await > 200);
        assert_audit_is_whole(&client).await;
        // Names of columns are followed, too.
        run(&client, "ALTER TABLE thing RENAME COLUMN id TO number").await;
        transaction(&client).await;
        let renamed = "SELECT k.key::text || ' ' || h::text FROM generate_series(1, 8) n,
            LATERAL (SELECT jsonb_build_object('part', 'a', 'number', n)) k (key), tenancy.row_history('thing', k.key) h
            ORDER BY 1";
        let told = column(&client, renamed).await;
        assert!(told.len() > 50);
        run(&client, "BEGIN; DELETE FROM tenancy.row_index").await;
        assert_eq!(told, column(&client, renamed).await);
        run(&client, "ROLLBACK").await;
        let before = column(&client, "SELECT r::text FROM tenancy.row_index r").await;
        let rebuilt = count(&client, "SELECT tenancy.rebuild_row_index()").await;
        assert!(rebuilt > 200 && covered(&client).await.1 == 1, "{rebuilt}");
        assert_ne!(before, column(&client, "SELECT r::text FROM tenancy.row_index r").await);
        assert_eq!(told, column(&client, renamed).await);
        assert_audit_is_whole(&client).await;
    });
}

#[test]
fn events_of_transactions_that_took_long_are_found() {
    in_database(async |database| {
        let (client, long, prepared) =
            (database.superuser().await, database.superuser().await, database.superuser().await);
        run(&client, TABLE).await;
        let add = |name: &str| {
            format!(
                "INSERT INTO thing VALUES (1, 'a', '{ACME}', '{name}') ON CONFLICT (id, part) \
            DO UPDATE SET name = excluded.name"
            )
        };
        run(&client, &add("first")).await;
        seal(&client).await;
        run(&long, &format!("BEGIN; INSERT INTO thing VALUES (2, 'a', '{ACME}', 'long')")).await;
        run(&prepared, &format!("BEGIN; INSERT INTO thing VALUES (3, 'a', '{ACME}'); PREPARE TRANSACTION 'later'"))
            .await;
        for n in 0..40 {
            run(&client, &add(&format!("n{n}"))).await;
            seal(&client).await;
        }
        let events =
            |key: i32| format!("SELECT count(*) FROM tenancy.row_history('thing', '{{\"id\":{key},\"part\":\"a\"}}')");
        assert_eq!(count(&client, &events(1)).await, 41);
        assert_eq!(count(&client, &events(2)).await + count(&client, &events(3)).await, 0, "they are not committed");
        // One sees its own, and a snapshot what it has seen before.
        assert_eq!(count(&long, &events(2)).await, 1);
        let reader = database.superuser().await;
        run(&reader, "BEGIN ISOLATION LEVEL REPEATABLE READ").await;
        assert_eq!(count(&reader, &events(1)).await, 41);
        run(&long, "COMMIT").await;
        run(&client, "COMMIT PREPARED 'later'").await;
        assert_eq!(count(&client, &events(2)).await + count(&client, &events(3)).await, 2, "before sealing");
        seal_all(&client).await;
        run(&client, &add("last")).await;
        run(&client, "SELECT tenancy.rebuild_row_index()").await;
        assert_eq!(count(&client, &events(2)).await + count(&client, &events(3)).await, 2, "after sealing");
        assert_eq!((count(&client, &events(1)).await, count(&reader, &events(1)).await), (42, 41));
        assert_eq!(count(&reader, &events(2)).await, 0);
        assert_found(&client, "at the end").await;
    });
}

#[test]
fn the_index_holds_while_others_write_and_seal() {
    in_database(async |database| {
        let client = database.superuser().await;
        run(&client, TABLE).await;
        let others = [database.superuser().await, database.superuser().await];
        let write = async |client: &Client| {
            for _ in 0..40 {
                transaction(client).await;
            }
        };
        let seal_and_look = async {
            for _ in 0..15 {
                seal(&client).await;
                // Both sides in one snapshot.
                run(&client, "BEGIN ISOLATION LEVEL REPEATABLE READ").await;
                assert_eq!(column(&client, DIFFERENT).await, Vec::<String>::new());
                run(&client, "COMMIT").await;
            }
        };
        tokio::join!(write(&others[0]), write(&others[1]), seal_and_look);
        seal_all(&client).await;
        assert_found(&client, "at the end").await;
        assert_audit_is_whole(&client).await;
    });
}

#[test]
fn a_wrong_index_is_named_and_made_anew() {
    in_database(async |database| {
        let client = database.superuser().await;
        run(&client, TABLE).await;
        for round in 0..40 {
            run(
                &client,
                &format!(
                    "INSERT INTO thing SELECT n, 'a', '{ACME}' FROM generate_series({round} * 9 + 1, {round} * 9 + 9) n"
                ),
            )
            .await;
            seal(&client).await;
        }
        run(&client, "UPDATE thing SET id = -id WHERE id % 2 = 0").await;
        seal_all(&client).await;
        assert_audit_is_whole(&client).await;
        let found = async || {
            column(&client, "SELECT finding || ' ' || explanation FROM tenancy.verify_audit(whole => true)").await
        };
        assert_eq!(found().await, Vec::<String>::new());
        run(&client, "ALTER TABLE tenancy.event_batch DISABLE TRIGGER append_only").await;
        for partition in column(
            &client,
            "SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'tenancy.event_batch'::regclass",
        )
        .await
        {
            run(&client, &format!("ALTER TABLE {partition} DISABLE TRIGGER append_only")).await;
        }
        let entries = |change: &str| {
            format!(
                "UPDATE tenancy.row_index SET entries = {change} WHERE first_block = (SELECT min(first_block) FROM \
                tenancy.row_index WHERE length(entries) >= 64)"
            )
        };
        let without = "overlay(entries PLACING ''::bytea FROM 17 FOR 8)";
        for (change, words) in [
            // An entry less, one more, one twice, another hash, another time, and two exchanged.
            (entries(without), "are not the"),
            (entries("entries || '\\xffffffffffffffff'::bytea"), "are not the"),
            (entries("overlay(entries PLACING substr(entries, 1, 8) FROM 1 FOR 0)"), "are not the"),
            (entries("set_byte(entries, 19, get_byte(entries, 19) # 1)"), "are not the"),
            (entries("set_byte(entries, 23, get_byte(entries, 23) # 1)"), "are not the"),
            (entries("overlay(entries PLACING substr(entries, 9, 8) || substr(entries, 1, 8) FROM 1 FOR 16)"), "order"),
            (entries("''"), "are not the"),
            (entries("substr(entries, 1, length(entries) - 1)"), "invalid value"),
            ("UPDATE tenancy.row_index SET shift = 61 WHERE first_block = 1".into(), "invalid value"),
            ("UPDATE tenancy.row_index SET shift = shift + 1 WHERE first_block = 1".into(), "are not the"),
            (
                "UPDATE tenancy.row_index SET first_interval = first_interval + 1 WHERE first_block = 1".into(),
                "are not the",
            ),
            ("DELETE FROM tenancy.row_index WHERE first_block = 1".into(), "is not the one that follows"),
            (
                "DELETE FROM tenancy.row_index WHERE first_block = (SELECT first_block FROM tenancy.row_index
                     ORDER BY first_block OFFSET 1 LIMIT 1)"
                    .into(),
                "is not the one that follows",
            ),
            ("UPDATE tenancy.row_index SET last_block = last_block + 1 WHERE first_block = 1".into(), "are not the"),
            (
                "UPDATE tenancy.row_index SET last_block = 1000 WHERE first_block = (SELECT max(first_block) FROM
                     tenancy.row_index)"
                    .into(),
                "is not the one that follows",
            ),
            ("UPDATE tenancy.row_index SET parts = 2 WHERE first_block = 1".into(), "is not the one that follows"),
            (
                "UPDATE tenancy.row_index SET parts = 2 WHERE first_block = (SELECT max(first_block) FROM
                     tenancy.row_index)"
                    .into(),
                "others are missing",
            ),
            (
                "UPDATE tenancy.event_batch SET row_hashes = NULL WHERE operation = 'update'".into(),
                "(row_hashes) are not",
            ),
            (
                "UPDATE tenancy.event_batch SET row_hashes = substr(row_hashes, 1, length(row_hashes) - 4)
                  WHERE operation = 'update' AND length(row_hashes) > 4"
                    .into(),
                "(row_hashes) are not",
            ),
            (
                "UPDATE tenancy.event_batch SET row_hashes = set_byte(row_hashes, 3, get_byte(row_hashes, 3) # 1)
                  WHERE operation = 'insert' AND row_hashes IS NOT NULL"
                    .into(),
                "(row_hashes) are not",
            ),
            ("UPDATE tenancy.event_batch SET row_hashes = row_hashes || row_hashes".into(), "(row_hashes) are not"),
        ] {
            run(&client, "BEGIN; SET LOCAL statement_timeout = '30s'").await;
            assert!(changed(&client, &change).await > 0, "{change} changed nothing");
            run(&client, "SET LOCAL transaction_read_only = on").await;
            let named = found().await;
            assert!(
                named.iter().all(|named| named.starts_with("altered "))
                    && named.iter().any(|named| named.contains(words)),
                "{change}: {named:?}"
            );
            run(&client, "ROLLBACK").await;
            if change.contains("UPDATE tenancy.event_batch") {
                continue;
            }
            run(&client, "BEGIN").await;
            run(&client, &change).await;
            run(&client, "SELECT tenancy.rebuild_row_index()").await;
            assert_eq!(found().await, Vec::<String>::new(), "{change}, and made anew");
            run(&client, "ROLLBACK").await;
        }
        assert_eq!(found().await, Vec::<String>::new());
        // What covers nothing, the next sealer makes anew; until then no event is hidden.
        run(&client, "DELETE FROM tenancy.row_index WHERE first_block = 1").await;
        let history = "SELECT count(*) FROM tenancy.row_history('thing', '{\"id\":1,\"part\":\"a\"}')";
        assert_eq!(count(&client, history).await, 1);
        seal(&client).await;
        assert_eq!(found().await, Vec::<String>::new());
        assert_eq!(covered(&client).await.0, count(&client, "SELECT max(number) FROM tenancy.block").await);
        assert_eq!(refused(&database.owner().await, "DELETE FROM tenancy.row_index").await.sqlstate, "42501");
    });
}

#[test]
fn a_restored_dump_makes_the_index_anew() {
    in_database(async |database| {
        let client = database.superuser().await;
        run(&client, TABLE).await;
        for _ in 0..15 {
            transaction(&client).await;
            seal(&client).await;
        }
        let restored = database.restore_a_dump().await;
        let copy = connect(database.config().dbname(&restored)).await;
        assert_eq!(covered(&copy).await, (0, 0), "it is in no dump");
        assert_eq!(column(&copy, DIFFERENT).await, Vec::<String>::new(), "before sealing");
        for _ in 0..5 {
            transaction(&copy).await;
            seal(&copy).await;
        }
        assert_eq!(covered(&copy).await.0, count(&copy, "SELECT max(number) FROM tenancy.block").await);
        assert_found(&copy, "after sealing").await;
        assert_audit_is_whole(&copy).await;
        drop(copy);
        run(&client, &format!("DROP DATABASE \"{restored}\"")).await;
    });
}
