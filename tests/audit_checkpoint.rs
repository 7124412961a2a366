//! Checkpoints by hand: what they hold, who may make them, and what no rollback and no superuser may do to them.

use crate::common::*;
use tokio_postgres::Client;

/// Two organizations, and a table with 300 rows of the one and 5 of the other, of which nothing is sealed.
async fn write(database: &Database) -> Client {
    let client = database.superuser().await;
    begin_anew(&client).await;
    for sql in [
        &format!(
            "SELECT tenancy.create_organization('Acme', '{ACME}'), tenancy.create_organization('Bolt', '{GLOBEX}')"
        ),
        "CREATE TABLE finding (id integer PRIMARY KEY, organization_id uuid NOT NULL, title text)",
        "SELECT tenancy.protect('finding')",
        &format!("INSERT INTO finding SELECT n, '{ACME}', 'a' || n FROM generate_series(1, 300) n"),
        &format!("INSERT INTO finding SELECT n, '{GLOBEX}', 'b' || n FROM generate_series(301, 305) n"),
    ] {
        run(&client, sql).await;
    }
    client
}

/// The same in the first checkpoint, and the event of its key in the second. Nothing is left for a third one.
async fn signed(database: &Database) -> Client {
    let client = write(database).await;
    assert_eq!(make(&client).await, 1);
    assert_eq!(make(&client).await, 2);
    client
}

/// Asks for a checkpoint; returns its number.
async fn make(client: &Client) -> i64 {
    count(client, "SELECT tenancy.checkpoint()").await
}

/// The newest number that is to be seen.
async fn newest(client: &Client) -> i64 {
    count(client, "SELECT max(number) FROM tenancy.checkpoint").await
}

/// A change, so that there is something to sign.
async fn change(client: &Client) {
    run(client, "DELETE FROM finding WHERE id = (SELECT min(id) FROM finding)").await;
}

#[test]
fn where_nothing_was_ever_sealed_there_is_nothing_to_sign() {
    in_database(async |database| {
        let client = database.superuser().await;
        begin_anew(&client).await;
        assert_eq!(make(&client).await, 0);
        assert_eq!(count(&client, "SELECT count(*) FROM tenancy.checkpoint").await, 0);
    });
}

#[test]
fn a_checkpoint_seals_first_and_is_over_the_heads_of_everybody() {
    in_database(async |database| {
        let client = write(database).await;
        assert_eq!(make(&client).await, 1);
        let sealed = "SELECT count(*) FROM tenancy.entry s JOIN tenancy.event e ON e.batch = s.batch
                       WHERE e.domain = 'finding'";
        assert_eq!(count(&client, sealed).await, 305);
        // Of both organizations and of nobody; and it is the first leaf of its log.
        let heads = r"SELECT heads || ' ' || (prev_digest IS NULL) || ' ' || (root = sha256('\x00' || digest))
                        FROM tenancy.checkpoint";
        assert_eq!(value(&client, heads).await, "3 true true");
        let block = "SELECT (c.block, c.block_hash) = (b.number, b.hash) AND c.incarnation = b.incarnation
                       FROM tenancy.checkpoint c, tenancy.block b";
        assert_eq!(value(&client, block).await, "t", "it names the newest block");
    });
}

#[test]
fn a_note_has_origin_number_and_root_and_a_signature_that_names_the_key() {
    in_database(async |database| {
        let client = write(database).await;
        make(&client).await;
        let note = r"SELECT split_part(note, E'\n\n', 1) = origin || E'\n1\n' || encode(root, 'base64')
                       FROM tenancy.checkpoint";
        assert_eq!(value(&client, note).await, "t");
        let origin = "SELECT origin = current_setting('tenancy.checkpoint_origin') || '/' || incarnation
                        FROM tenancy.checkpoint";
        assert_eq!(value(&client, origin).await, "t");
        let signature = r"SELECT substring(decode(split_part(signature, ' ', 2), 'base64') FROM 1 FOR 4) = k.key_id
                                 AND k.name = split_part(signature, ' ', 1)
                            FROM tenancy.checkpoint, split_part(note, E'\n\n— ', 2) signature, tenancy.signing_key k";
        assert_eq!(value(&client, signature).await, "t");
    });
}

#[test]
fn a_key_that_is_first_used_is_the_first_epoch_and_an_event() {
    in_database(async |database| {
        let client = write(database).await;
        assert_eq!(make(&client).await, 1);
        let key = "SELECT concat_ws(' ', epoch, first_checkpoint,
                                    first_incarnation = (SELECT name FROM tenancy.incarnation), retired_at)
                     FROM tenancy.signing_key";
        assert_eq!(value(&client, key).await, "1 1 t");
        let event = "SELECT operation || ' ' || domain || ' ' || row_key FROM tenancy.audit_trail
                      WHERE table_name = 'signing_key' AND organization = '00000000-0000-0000-0000-000000000000'";
        assert_eq!(value(&client, event).await, r#"insert audit {"epoch":1}"#);
        assert_eq!(make(&client).await, 2, "that event is something new");
    });
}

#[test]
fn where_nothing_is_new_no_checkpoint_is_made() {
    in_database(async |database| {
        let client = signed(database).await;
        assert_eq!(make(&client).await, 2);
        assert_eq!(value(&client, "SELECT count(*) || ' ' || max(number) FROM tenancy.checkpoint").await, "2 2");
    });
}

#[test]
fn each_checkpoint_names_the_one_before_under_the_root_of_rfc_6962() {
    in_database(async |database| {
        let client = signed(database).await;
        let linked = "SELECT count(*) FROM tenancy.checkpoint b
                        JOIN tenancy.checkpoint a ON a.number = b.number - 1 AND a.digest = b.prev_digest";
        assert_eq!(count(&client, linked).await, 1);
        let root = r"SELECT b.root = sha256('\x01' || sha256('\x00' || a.digest) || sha256('\x00' || b.digest))
                       FROM tenancy.checkpoint a, tenancy.checkpoint b WHERE (a.number, b.number) = (1, 2)";
        assert_eq!(value(&client, root).await, "t");
    });
}

#[test]
fn the_status_tells_what_is_not_sealed_and_what_is_in_no_checkpoint() {
    in_database(async |database| {
        let client = signed(database).await;
        let status = "SELECT concat_ws(' ', number, checkpointed_block = sealed_block, uncheckpointed_events,
                                       unsealed_events, age < '1 minute') FROM tenancy.checkpoint_status";
        assert_eq!(value(&client, status).await, "2 t 0 0 t");
        let left = "SELECT concat_ws(' ', uncheckpointed_events, unsealed_events) FROM tenancy.checkpoint_status";
        run(&client, "DELETE FROM finding WHERE id < 3").await;
        assert_eq!(value(&client, left).await, "0 2");
        assert_eq!(seal(&client).await, 2);
        assert_eq!(value(&client, left).await, "2 0");
    });
}

#[test]
fn the_lag_tells_which_open_transaction_is_the_oldest() {
    in_database(async |database| {
        let (client, writer) = (signed(database).await, database.superuser().await);
        let open = "SELECT concat_ws(' ', unsealed_events, oldest_open_pid, oldest_open_gid,
                                     oldest_open_since <= clock_timestamp()) FROM tenancy.audit_lag";
        assert_eq!(value(&client, open).await, "0", "nothing is open");
        run(&writer, "BEGIN").await;
        count(&writer, "SELECT count(*) FROM finding").await;
        assert_eq!(value(&client, open).await, "0", "what has only read holds nothing back");
        run(&writer, "DELETE FROM finding WHERE id = 1").await;
        let pid = count(&writer, "SELECT pg_backend_pid()").await;
        assert_eq!(value(&client, open).await, format!("0 {pid} t"), "what is not committed is not counted");
        run(&client, "DELETE FROM finding WHERE id = 2").await;
        assert_eq!(seal(&client).await, 1, "others are not held back");
        run(&writer, "COMMIT").await;
        assert_eq!(value(&client, open).await, "1", "of a transaction that was in progress at the newest block");
        assert_eq!(seal(&client).await, 1);
        assert_eq!(value(&client, open).await, "0");
    });
}

#[test]
fn no_signature_of_what_does_not_stay_is_to_be_seen() {
    in_database(async |database| {
        let client = signed(database).await;
        change(&client).await;
        let mut listener = Listener::on(&database.config(), &["tenancy_checkpoint"]).await;
        run(&client, "BEGIN").await;
        assert_eq!(make(&client).await, 3, "in an open transaction the number is told");
        assert_eq!(newest(&client).await, 2);
        run(&client, "SET CONSTRAINTS ALL IMMEDIATE").await;
        assert_eq!(newest(&client).await, 2);
        run(&client, "ROLLBACK").await;
        assert_eq!(newest(&client).await, 2);
        run(&client, "BEGIN; SAVEPOINT s").await;
        assert_eq!(make(&client).await, 3);
        run(&client, "ROLLBACK TO s; COMMIT").await;
        assert_eq!(newest(&client).await, 2, "what a savepoint took back was never signed");
        assert_eq!(listener.told().await, Vec::<String>::new());
    });
}

#[test]
fn who_listens_gets_the_note_of_what_is_committed() {
    in_database(async |database| {
        let client = signed(database).await;
        change(&client).await;
        let mut listener = Listener::on(&database.config(), &["tenancy_checkpoint"]).await;
        run(&client, "BEGIN; SAVEPOINT s").await;
        make(&client).await;
        run(&client, "RELEASE s; SAVEPOINT other; ROLLBACK TO other").await;
        assert_eq!(make(&client).await, 3, "asked for twice in a transaction it is the same one");
        run(&client, "COMMIT").await;
        let note = value(&client, "SELECT note FROM tenancy.checkpoint WHERE number = 3").await;
        assert_eq!(listener.told().await, [note]);
    });
}

#[test]
fn neither_two_phase_commit_nor_a_read_only_transaction_makes_a_checkpoint() {
    in_database(async |database| {
        let client = signed(database).await;
        change(&client).await;
        run(&client, "BEGIN").await;
        make(&client).await;
        assert_eq!(refused(&client, "PREPARE TRANSACTION 'p'").await.sqlstate, "0A000");
        run(&client, "ROLLBACK").await;
        assert_eq!(newest(&client).await, 2);
        assert_eq!(refused(&client, "BEGIN READ ONLY; SELECT tenancy.checkpoint()").await.sqlstate, "25006");
        run(&client, "ROLLBACK").await;
    });
}

#[test]
fn an_old_snapshot_does_not_hide_the_newest_checkpoint() {
    in_database(async |database| {
        let (client, other) = (signed(database).await, database.superuser().await);
        change(&client).await;
        run(&client, "BEGIN ISOLATION LEVEL REPEATABLE READ").await;
        assert_eq!(newest(&client).await, 2);
        assert_eq!(make(&other).await, 3);
        assert_eq!(changed(&other, &format!("INSERT INTO finding VALUES (999, '{ACME}', 'z')")).await, 1);
        assert_eq!(make(&client).await, 4);
        run(&client, "COMMIT").await;
        let numbers = "SELECT count(*) || ' ' || max(number) FROM tenancy.checkpoint";
        assert_eq!(value(&client, numbers).await, "4 4", "no number is signed twice");
        assert_eq!(column(&client, "SELECT finding FROM tenancy.verify_audit()").await, Vec::<String>::new());
    });
}

#[test]
fn not_even_a_superuser_changes_a_checkpoint_or_a_key() {
    in_database(async |database| {
        let client = signed(database).await;
        for statement in [
            "UPDATE tenancy.checkpoint SET note = 'x'",
            "DELETE FROM tenancy.checkpoint",
            "TRUNCATE tenancy.checkpoint",
            "UPDATE tenancy.signing_key SET public_key = 'x'",
            "DELETE FROM tenancy.signing_key",
            "TRUNCATE tenancy.signing_key",
            "UPDATE tenancy.signing_key
                SET retired_at = now(), last_incarnation = '', last_checkpoint = 1, name = 'x'",
        ] {
            assert_eq!(refused(&client, statement).await.sqlstate, "42501", "{statement}");
        }
    });
}

#[test]
fn auditors_and_administrators_may_make_checkpoints_and_applications_may_not() {
    in_database(async |database| {
        let client = signed(database).await;
        run(&client, "SET ROLE tenancy_auditor").await;
        assert_eq!(make(&client).await, 2);
        assert_eq!(count(&client, "SELECT number FROM tenancy.checkpoint_status").await, 2);
        run(&client, "SET ROLE tenancy_admin").await;
        assert_eq!(make(&client).await, 2);
        run(&client, "SET ROLE tenancy_application").await;
        assert_eq!(refused(&client, "SELECT tenancy.checkpoint()").await.sqlstate, "42501");
    });
}
