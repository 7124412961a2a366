//! What a superuser does to the stored audit, and how `verify_audit` names it.
//!
//! Not here, because nothing inside the database can show it: the newest events taken away together with their entries,
//! and a history rewritten from some place to its end. Those show against a checkpoint that somebody else holds.

use crate::common::*;
use tokio_postgres::Client;

/// Five events of Acme: three of one transaction, one of another, and one that was written after those were sealed;
/// each at the position of its row's id less 80. One of Globex.
async fn record(database: &Database) -> Client {
    let (client, superuser) = (database.application().await, database.superuser().await);
    // The chains begin with the events of this suite: what was not sealed yet goes without a trace.
    for sql in [
        "ALTER TABLE tenancy.event_batch DISABLE TRIGGER append_only",
        "DELETE FROM tenancy.event_batch",
        "ALTER TABLE tenancy.event_batch ENABLE ALWAYS TRIGGER append_only",
    ] {
        run(&superuser, sql).await;
    }
    for (subject, ids) in [("alice", 81..=83), ("alice", 84..=84), ("bob", 91..=91), ("alice", 85..=85)] {
        as_tenant(&client, &database.token(subject)).await;
        for id in ids {
            run(&client, &format!(r#"INSERT INTO "Finding" (id, title) VALUES ({id}, 'x')"#)).await;
        }
        run(&client, "COMMIT").await;
        if subject == "bob" {
            seal(&superuser).await;
        }
    }
    seal(&superuser).await;
    assert_audit_is_whole(&superuser).await;
    let guards = "DO $$ DECLARE t regclass; BEGIN
        FOREACH t IN ARRAY ARRAY['tenancy.event_batch', 'tenancy.event_actor', 'tenancy.seal', 'tenancy.block', \
        'tenancy.tree_node', 'tenancy.incarnation']::regclass[] LOOP
            EXECUTE format('ALTER TABLE %s DISABLE TRIGGER append_only', t);
        END LOOP; END $$";
    run(&superuser, guards).await;
    forge_entries(&superuser).await;
    superuser
}

/// What is found after the statements, which are taken back again: finding, position, and id of the row.
async fn found_after(superuser: &Client, sql: &str) -> Vec<String> {
    run(superuser, "BEGIN").await;
    run(superuser, sql).await;
    let query = r#"SELECT finding || ' ' || coalesce("position"::text, '-') || ' ' || coalesce(row_key ->> 'id', '-')
                     FROM tenancy.verify_audit(whole => true)"#;
    let found = column(superuser, query).await;
    run(superuser, "ROLLBACK").await;
    assert_eq!(findings(superuser).await, [], "the tampering was not taken back");
    found
}

/// The event at a position of Acme's chain.
fn at(position: i32) -> String {
    format!("(SELECT batch FROM tenancy.entry WHERE organization = '{ACME}' AND position = {position})")
}

#[test]
fn each_changed_column_of_an_event_is_found_at_its_row() {
    in_database(async |database| {
        let superuser = record(database).await;
        let changes = [
            ("organization", "gen_random_uuid()"),
            ("actor", "(SELECT actor FROM tenancy.event_batch WHERE row_key ->> 'id' = '91')"),
            ("transaction", "(transaction::text::bigint + 1)::text::xid8"),
            ("ordinal", "ordinal + 7"),
            ("occurred_at", "occurred_at - interval '1 us'"),
            ("operation", "'delete'"),
            ("domain", "'other'"),
            ("table_schema", "'other'"),
            ("table_name", "NULL"),
            ("result", "'denied'"),
            ("reason", "''"),
            ("payload", "replace(payload::text, 'x', 'y')::json"),
            ("payload", "(payload::text || ' ')::json"),
            ("payload", "NULL"),
            ("payload_salt", r"'\x00'"),
            ("payload_salt", "NULL"),
            ("payload_digest", "sha256('')"),
            ("prev_hash", "sha256('')"),
            ("hash", "sha256('')"),
            ("encoding", "encoding + 1"),
            ("events", "events + 1"),
            ("events", "0"),
            ("events", "-1"),
            ("packed", r"'\x'"),
        ];
        for (column, value) in changes {
            for position in [1, 2, 4, 5] {
                let sql = format!("UPDATE tenancy.event_batch SET {column} = {value} WHERE id = {}", at(position));
                let found = found_after(&superuser, &sql).await;
                let expected = format!("altered {position} {}", position + 80);
                assert!(found.contains(&expected), "{column} = {value} at {position} gave {found:?}");
                assert!(!found.iter().any(|line| line.ends_with(" 91")), "the other chain is whole: {found:?}");
            }
        }
        let found = found_after(
            &superuser,
            &format!("UPDATE tenancy.event_batch SET row_key = '{{\"id\":99}}' WHERE id = {}", at(2)),
        )
        .await;
        assert_eq!(found, ["altered 2 99"]);
    });
}

#[test]
fn a_changed_actor_is_found_at_each_of_its_events() {
    in_database(async |database| {
        let superuser = record(database).await;
        for change in [
            "subject = 'mallory'",
            "subject = NULL",
            "issuer = 'https://other'",
            "role = 'reader'",
            "method = 'none'",
            "organization = NULL",
            "session_id = NULL",
            "correlation_id = 'x'",
            "reason = 'x'",
            "session_user_name = 'x'",
            "current_user_name = 'x'",
            "client_address = '192.0.2.1'",
            "application_name = 'x'",
        ] {
            let sql = format!(
                "UPDATE tenancy.event_actor SET {change} WHERE id = (SELECT actor FROM tenancy.event_batch WHERE id \
                    = {})",
                at(1)
            );
            let found = found_after(&superuser, &sql).await;
            assert_eq!(found, ["altered 1 81", "altered 2 82", "altered 3 83", "altered 4 84"], "{change}");
        }
        let sql = format!(
            "DELETE FROM tenancy.event_actor WHERE id = (SELECT actor FROM tenancy.event_batch WHERE id = {})",
            at(5)
        );
        assert_eq!(found_after(&superuser, &sql).await, ["missing 5 85"]);
    });
}

#[test]
fn an_event_rewritten_together_with_its_own_hash_is_found() {
    in_database(async |database| {
        let superuser = record(database).await;
        // As if written by somebody who can compute the hash: the seal knows another.
        let sql = format!(
            "UPDATE tenancy.event_batch SET hash = (SELECT hash FROM tenancy.event_batch WHERE id = {1}), prev_hash \
                = (SELECT \
                prev_hash FROM tenancy.event_batch WHERE id = {1}) WHERE id = {0}",
            at(4),
            at(5)
        );
        assert_eq!(found_after(&superuser, &sql).await, ["altered 4 84"]);
    });
}

#[test]
fn a_deleted_event_is_found_with_its_place() {
    in_database(async |database| {
        let superuser = record(database).await;
        for position in 1..=5 {
            let found =
                found_after(&superuser, &format!("DELETE FROM tenancy.event_batch WHERE id = {}", at(position))).await;
            assert!(found.contains(&format!("missing {position} -")), "{position}: {found:?}");
        }
        // With those of the triggers that were switched off for this.
        let sealed = count(&superuser, "SELECT count(*) FROM tenancy.entry").await;
        let found = found_after(&superuser, "DELETE FROM tenancy.event_batch").await;
        assert_eq!(found.iter().filter(|found| !found.starts_with("inserted - ")).count() as i64, sealed, "{found:?}");
        // What the sealer wrote of what captures is told by nobody then.
        assert!(found.iter().any(|found| found.starts_with("inserted - ")), "{found:?}");
    });
}

#[test]
fn an_event_deleted_together_with_its_entry_is_missed_by_the_row_of_the_seal() {
    in_database(async |database| {
        let superuser = record(database).await;
        for position in 1..=4 {
            let sql = format!(
                "DELETE FROM tenancy.event_batch WHERE id = {}; DELETE FROM forged WHERE organization = \
                    '{ACME}' AND \
                    position = {position}",
                at(position)
            );
            let found = found_after(&superuser, &sql).await;
            // The row has an entry less than its leaves.
            assert!(found.contains(&"missing - -".to_owned()), "{position}: {found:?}");
            // Closing the gap in the numbers does not hide it.
            let sql = format!(
                "{sql}; UPDATE tenancy.seal SET (leaves, position) = (leaves - 1, position - 1)
                 WHERE organization = '{ACME}'"
            );
            let found = found_after(&superuser, &sql).await;
            assert!(found.contains(&"altered - -".to_owned()), "{position}: {found:?}");
        }
    });
}

#[test]
fn entries_taken_from_the_end_of_the_seal_betray_the_events_they_leave() {
    in_database(async |database| {
        let superuser = record(database).await;
        let sql = format!("DELETE FROM forged WHERE organization = '{ACME}' AND position >= 4");
        let found = found_after(&superuser, &sql).await;
        for line in ["inserted - 84", "inserted - 85"] {
            assert!(found.contains(&line.to_owned()), "{found:?}");
        }
        let sealed = count(&superuser, "SELECT count(*) FROM tenancy.entry").await;
        let found = found_after(&superuser, "DELETE FROM forged").await;
        assert_eq!(found.iter().filter(|line| line.starts_with("inserted")).count() as i64, sealed, "{found:?}");
    });
}

#[test]
fn an_event_inserted_by_hand_into_the_past_is_found() {
    in_database(async |database| {
        let superuser = record(database).await;
        for position in [1, 4, 5] {
            let sql = format!(
                "INSERT INTO tenancy.event_batch SELECT (left(id::text, 24) || left(md5(random()::text), 9) || \
                    '000')::uuid, organization, actor, transaction, ordinal + 1, events, occurred_at, 'delete',
                        domain, table_schema, table_name, result, reason, '{{\"id\":86}}', payload, payload_salt, \
                        payload_digest, packed, row_hashes, encoding,
                        hash, sha256(hash) FROM tenancy.event_batch WHERE id = {}",
                at(position)
            );
            assert_eq!(found_after(&superuser, &sql).await, ["inserted - 86"]);
            // With an entry of its own at the end of the chain it is found there.
            let sealed = format!(
                "{sql}; UPDATE tenancy.seal s SET (leaves, position, entries) = (s.leaves + 1, s.position + 1, \
                    s.entries || uuid_send(e.id) || '\\x00' || e.hash) \
                    FROM tenancy.event_batch e WHERE s.block = 2 AND \
                    s.organization = '{ACME}' AND e.row_key ->> 'id' = '86'"
            );
            let found = found_after(&superuser, &sealed).await;
            assert!(found.contains(&"altered - -".to_owned()), "{found:?}");
            assert!(found.iter().any(|line| line.ends_with(" 6 86")), "{found:?}");
        }
    });
}

#[test]
fn events_that_changed_places_are_found() {
    in_database(async |database| {
        let superuser = record(database).await;
        let swap = |columns: &str, one: i32, other: i32| {
            format!(
                "CREATE TEMP TABLE kept ON COMMIT DROP AS SELECT * FROM forged WHERE organization = '{ACME}' \
                    AND position IN ({one}, {other});
                 UPDATE forged s SET ({columns}) = (SELECT {columns} FROM kept k WHERE k.position = {one} + \
                 {other} - s.position)
                  WHERE organization = '{ACME}' AND position IN ({one}, {other})"
            )
        };
        for (one, other) in [(1, 2), (2, 3), (3, 4), (1, 4)] {
            let found = found_after(&superuser, &swap("batch, events", one, other)).await;
            for position in [one, other] {
                let row = one + other - position + 80;
                let expected = format!("reordered {position} {row}");
                assert!(found.contains(&expected), "{one} and {other}: {found:?}");
            }
            // With their hashes: chain and block tell.
            let found = found_after(&superuser, &swap("batch, events, batch_hash", one, other)).await;
            assert!(found.contains(&"altered - -".to_owned()), "{one} and {other}: {found:?}");
        }
        // Across two blocks each is told by itself.
        let found = found_after(&superuser, &swap("batch, events", 1, 5)).await;
        assert!(found.contains(&"altered 1 85".to_owned()) && found.contains(&"altered 5 81".to_owned()), "{found:?}");
        // With their hashes: neither block sealed that transaction.
        let found = found_after(&superuser, &swap("batch, events, batch_hash", 1, 5)).await;
        for line in ["reordered 1 85", "reordered 5 81"] {
            assert!(found.contains(&line.to_owned()), "{found:?}");
        }
    });
}

#[test]
fn a_changed_entry_of_the_seal_is_found() {
    in_database(async |database| {
        let superuser = record(database).await;
        let update = |change: &str, position: i32| {
            format!("UPDATE forged SET {change} WHERE organization = '{ACME}' AND position = {position}")
        };
        for position in 1..=5 {
            let found = found_after(&superuser, &update("batch_hash = sha256('')", position)).await;
            assert!(found.contains(&format!("altered {position} {}", position + 80)), "{found:?}");
            let found = found_after(&superuser, &update("batch = gen_random_uuid()", position)).await;
            assert!(found.contains(&format!("missing {position} -")), "{found:?}");
            assert!(found.contains(&format!("inserted - {}", position + 80)), "{found:?}");
            for events in [2, 128, 129, 256] {
                let found = found_after(&superuser, &update(&format!("events = {events}"), position)).await;
                assert!(found.iter().any(|line| line.ends_with(&format!(" {}", position + 80))), "{found:?}");
                assert!(found.contains(&"altered - -".to_owned()), "{found:?}");
            }
        }
        let found = found_after(
            &superuser,
            &format!("UPDATE tenancy.seal SET organization = '{INITECH}' WHERE organization = '{ACME}'"),
        )
        .await;
        assert!(found.contains(&"inserted 1 81".to_owned()), "{found:?}");
    });
}

#[test]
fn a_changed_or_deleted_block_is_found() {
    in_database(async |database| {
        let superuser = record(database).await;
        for sql in [
            "UPDATE tenancy.block SET events = events + 1 WHERE number = 1",
            "UPDATE tenancy.seal SET block = 1 WHERE block = 2",
            "DELETE FROM tenancy.block WHERE number = 1",
            "DELETE FROM tenancy.block WHERE number = 2",
            "DELETE FROM tenancy.block",
        ] {
            assert_ne!(found_after(&superuser, sql).await, Vec::<String>::new(), "{sql}");
        }
    });
}

#[test]
fn verifying_one_organization_tells_nothing_of_another() {
    in_database(async |database| {
        let superuser = record(database).await;
        run(&superuser, &format!("UPDATE tenancy.event_batch SET reason = 'x' WHERE id = {}", at(2))).await;
        let of = |organization| format!("SELECT event FROM tenancy.verify_audit('{organization}', whole => true)");
        assert_eq!(column(&superuser, &of(ACME)).await.len(), 1);
        assert_eq!(column(&superuser, &of(GLOBEX)).await.len(), 0);
        assert_eq!(column(&superuser, &of(INITECH)).await.len(), 0);
    });
}

#[test]
fn each_changed_column_of_the_tables_beside_the_events_is_found() {
    in_database(async |database| {
        let superuser = record(database).await;
        // Enough for a stored node of the tree.
        run(
            &superuser,
            &format!(
                r#"DO $$ BEGIN FOR n IN 1..300 LOOP
                   INSERT INTO "Finding" (title, "organizationId") VALUES ('x', '{ACME}'); END LOOP; END $$"#
            ),
        )
        .await;
        seal(&superuser).await;
        let acme = format!("organization = '{ACME}'");
        for (change, expected) in [
            ("UPDATE tenancy.block SET number = 9 WHERE number = 2".to_owned(), "missing"),
            ("UPDATE tenancy.block SET number = 0 WHERE number = 1".to_owned(), "inserted"),
            ("UPDATE tenancy.block SET sealed_at = now() WHERE number = 2".to_owned(), "altered"),
            ("UPDATE tenancy.block SET snapshot = '1:1:' WHERE number = 2".to_owned(), "altered"),
            ("UPDATE tenancy.block SET incarnation = 'x' WHERE number = 2".to_owned(), "altered"),
            ("UPDATE tenancy.block SET events = events - 1 WHERE number = 2".to_owned(), "altered"),
            ("UPDATE tenancy.block SET heads_digest = sha256('x') WHERE number = 2".to_owned(), "altered"),
            ("UPDATE tenancy.block SET prev_hash = sha256('x') WHERE number = 2".to_owned(), "altered"),
            ("UPDATE tenancy.block SET hash = sha256('x') WHERE number = 2".to_owned(), "altered"),
            ("DELETE FROM tenancy.block WHERE number = 1".to_owned(), "missing"),
            ("DELETE FROM tenancy.block WHERE number = 2".to_owned(), "missing"),
            ("DELETE FROM tenancy.block WHERE number = 3".to_owned(), "truncated"),
            ("DELETE FROM tenancy.block".to_owned(), "truncated"),
            (
                "INSERT INTO tenancy.block SELECT 4, sealed_at, snapshot, incarnation, 0, sha256('x'), hash, \
                sha256('y') \
                FROM tenancy.block WHERE number = 3"
                    .to_owned(),
                "altered",
            ),
            (format!("UPDATE tenancy.seal SET organization = '{INITECH}' WHERE {acme} AND block = 2"), "missing"),
            (format!("UPDATE tenancy.seal SET block = 9 WHERE {acme} AND block = 2"), "truncated"),
            (format!("UPDATE tenancy.seal SET block = -1 WHERE {acme} AND block = 1"), "inserted"),
            (format!("UPDATE tenancy.seal SET position = position + 1 WHERE {acme} AND block = 1"), "altered"),
            (format!("UPDATE tenancy.seal SET position = position - 1 WHERE {acme} AND block = 2"), "altered"),
            (format!("UPDATE tenancy.seal SET chain = sha256('x') WHERE {acme} AND block = 1"), "altered"),
            (
                format!(
                    "UPDATE tenancy.seal SET frontier = overlay(frontier PLACING sha256('x') FROM 1) WHERE {acme} \
                AND block = 1"
                ),
                "altered",
            ),
            (format!("UPDATE tenancy.seal SET frontier = '' WHERE {acme} AND block = 1"), "altered"),
            (format!("DELETE FROM tenancy.seal WHERE {acme} AND block = 1"), "missing"),
            (format!("DELETE FROM tenancy.seal WHERE {acme} AND block = 3"), "inserted"),
            ("DELETE FROM tenancy.seal".to_owned(), "inserted"),
            (
                format!(
                    "INSERT INTO tenancy.seal SELECT '{INITECH}', block, position, leaves, chain, frontier, entries \
                       FROM tenancy.seal WHERE {acme} AND block = 2"
                ),
                "missing",
            ),
            ("UPDATE tenancy.tree_node SET hash = sha256('x')".to_owned(), "altered"),
            ("UPDATE tenancy.tree_node SET index = 7".to_owned(), "missing"),
            ("UPDATE tenancy.tree_node SET level = 16".to_owned(), "missing"),
            (format!("UPDATE tenancy.tree_node SET organization = '{INITECH}'"), "missing"),
            ("DELETE FROM tenancy.tree_node".to_owned(), "missing"),
            (format!("INSERT INTO tenancy.tree_node VALUES ('{INITECH}', 8, 0, sha256('x'))"), "inserted"),
            (format!("INSERT INTO tenancy.tree_node VALUES ('{ACME}', 4, 0, sha256('x'))"), "inserted"),
            (format!("INSERT INTO tenancy.tree_node VALUES ('{ACME}', 8, 1, sha256('x'))"), "inserted"),
            ("UPDATE tenancy.incarnation SET name = 'x'".to_owned(), "altered"),
            ("UPDATE tenancy.incarnation SET first_block = 2".to_owned(), "altered"),
            ("UPDATE tenancy.incarnation SET system_identifier = '1'".to_owned(), "altered"),
            ("UPDATE tenancy.incarnation SET database = 1".to_owned(), "altered"),
            ("UPDATE tenancy.incarnation SET timeline = timeline + 1".to_owned(), "altered"),
            ("UPDATE tenancy.incarnation SET began_at = now()".to_owned(), "altered"),
            (r"UPDATE tenancy.incarnation SET salt = '\x00'".to_owned(), "altered"),
            ("DELETE FROM tenancy.incarnation".to_owned(), "altered"),
        ] {
            run(&superuser, "BEGIN").await;
            run(&superuser, &change).await;
            // As it stands: sealing would begin another history where that of the database is not known.
            run(&superuser, "SET TRANSACTION READ ONLY").await;
            let found = column(&superuser, "SELECT DISTINCT finding FROM tenancy.verify_audit(whole => true)").await;
            run(&superuser, "ROLLBACK").await;
            assert!(found.contains(&expected.to_owned()), "{change}: {found:?}");
        }
        // In a table that lost its bounds: what cannot be read is told and hides nothing else.
        let unbounded = "DO $$ DECLARE t text; c text; BEGIN
            FOR t, c IN SELECT conrelid::regclass, conname FROM pg_constraint WHERE contype = 'c' AND connamespace = \
            'tenancy'::regnamespace
                AND conrelid IN ('tenancy.seal'::regclass, 'tenancy.block'::regclass, \
                'tenancy.tree_node'::regclass) LOOP
                EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', t, c); END LOOP; END $$";
        for change in [
            r"UPDATE tenancy.seal SET entries = substr(entries, 2) WHERE block = 1",
            r"UPDATE tenancy.seal SET entries = entries || '\x00' WHERE block = 2",
            r"UPDATE tenancy.seal SET entries = '' WHERE block = 2",
            r"UPDATE tenancy.seal SET entries = decode(repeat('00', 4097 * 49), 'hex') WHERE block = 1",
            r"UPDATE tenancy.seal SET chain = '' WHERE block = 1",
            r"UPDATE tenancy.seal SET frontier = '\x00' WHERE block = 1",
            r"UPDATE tenancy.block SET hash = '\x00' WHERE number = 1",
            r"UPDATE tenancy.block SET prev_hash = '' WHERE number = 2",
            r"UPDATE tenancy.tree_node SET hash = ''",
        ] {
            run(&superuser, "BEGIN").await;
            run(&superuser, unbounded).await;
            run(&superuser, change).await;
            run(&superuser, "SET TRANSACTION READ ONLY").await;
            let found = column(&superuser, "SELECT DISTINCT finding FROM tenancy.verify_audit(whole => true)").await;
            run(&superuser, "ROLLBACK").await;
            assert!(found.contains(&"altered".to_owned()), "{change}: {found:?}");
        }
    });
}

#[test]
fn a_partition_that_is_taken_away_leaves_all_its_events_missing() {
    in_database(async |database| {
        let superuser = record(database).await;
        let name = value(&superuser, "SELECT tableoid::regclass FROM tenancy.event_batch LIMIT 1").await;
        let sealed = count(&superuser, "SELECT count(*) FROM tenancy.entry").await as usize;
        for sql in [
            // The event of the statement itself would have no partition to go to, so that it is refused.
            format!(
                "UPDATE pg_event_trigger SET evtenabled = 'D'; ALTER TABLE tenancy.event_batch DETACH PARTITION {name};
                 UPDATE pg_event_trigger SET evtenabled = 'A'"
            ),
            format!("ALTER TABLE {name} DISABLE TRIGGER append_only; DELETE FROM {name}"),
            format!("ALTER TABLE {name} DISABLE TRIGGER append_only; TRUNCATE {name}"),
            format!("DROP TABLE {name}"),
        ] {
            run(&superuser, "BEGIN").await;
            run(&superuser, &sql).await;
            run(&superuser, "SET TRANSACTION READ ONLY").await;
            let missing =
                column(&superuser, "SELECT finding FROM tenancy.verify_audit(whole => true) WHERE finding = 'missing'")
                    .await;
            run(&superuser, "ROLLBACK").await;
            assert_eq!(missing.len(), sealed, "{sql}");
        }
        let detach = format!("ALTER TABLE tenancy.event_batch DETACH PARTITION {name}");
        assert_eq!(refused(&superuser, &detach).await.sqlstate, "55000");
    });
}
