//! What the seal says of a small history, to the place, and what is found of each damage to it: all of it, and nothing
//! else.

use crate::common::*;
use tokio_postgres::Client;

/// Eight events of rows that nobody has sealed: five of Acme, whose last one has another actor, and three of Globex.
async fn write(database: &Database) -> Client {
    let superuser = database.superuser().await;
    begin_anew(&superuser).await;
    for sql in [
        "CREATE TABLE finding (id integer PRIMARY KEY, organization_id uuid NOT NULL, title text)",
        "SELECT tenancy.protect('finding')",
        // A statement of each, so that each event is a batch.
        &[("a", 1..=3, ACME), ("b", 4..=5, GLOBEX)]
            .into_iter()
            .flat_map(|(name, ids, organization)| {
                ids.map(move |id| format!("INSERT INTO finding VALUES ({id}, '{organization}', '{name}{id}')"))
            })
            .collect::<Vec<String>>()
            .join("; "),
        "UPDATE finding SET title = 'changed' WHERE id IN (2, 4)",
        // Another actor: a session writes its actor once, as long as it stays the same.
        "SET application_name = 'cleaner'",
        "DELETE FROM finding WHERE id = 3",
        "RESET application_name",
    ] {
        run(&superuser, sql).await;
    }
    superuser
}

/// The same, sealed: block 1, and block 2 of what the sealer wrote itself. So far it was verified. Block 3 is the sixth
/// event of Acme, and block 4 the fourth of Globex.
async fn record(database: &Database) -> Client {
    let superuser = write(database).await;
    seal_all(&superuser).await;
    assert_eq!(verified(&superuser).await, NOTHING);
    for (id, organization) in [(6, ACME), (7, GLOBEX)] {
        run(&superuser, &format!("INSERT INTO finding VALUES ({id}, '{organization}', 'x')")).await;
        assert_eq!(seal(&superuser).await, 1);
    }
    forge_entries(&superuser).await;
    // Where an event stands: e('a2') is the second of the organization that begins with an a.
    run(
        &superuser,
        "CREATE FUNCTION e(place text) RETURNS uuid LANGUAGE sql AS
         'SELECT batch FROM tenancy.entry WHERE left(organization::text, 1) || position = place'",
    )
    .await;
    superuser
}

const NOTHING: [&str; 0] = [];

/// What a run finds that goes on where the last one ended.
async fn verified(superuser: &Client) -> Vec<String> {
    column(superuser, "SELECT finding FROM tenancy.verify_audit()").await
}

/// Does the damage with the guards off, verifies everything, and takes it back. Findings as "finding place table key".
async fn found_after(superuser: &Client, damage: &str) -> Vec<String> {
    run(superuser, "BEGIN").await;
    for table in ["event_batch", "event_actor", "seal", "block"] {
        run(superuser, &format!("ALTER TABLE tenancy.{table} DISABLE TRIGGER USER")).await;
    }
    run(superuser, damage).await;
    let query = "SELECT concat_ws(' ', finding, coalesce(left(organization_id::text, 1) ||
                                  coalesce(position::text, '-'), 'block ' || block), table_name, row_key)
                   FROM tenancy.verify_audit(whole => true)";
    let found = column(superuser, query).await;
    run(superuser, "ROLLBACK").await;
    found
}

/// Each damage leads to just these findings, and once it is taken back the audit verifies.
async fn assert_found(database: &Database, cases: &[(&str, &[&str])]) {
    let superuser = record(database).await;
    for (damage, found) in cases {
        assert_eq!(found_after(&superuser, damage).await, *found, "{damage}");
    }
    assert_eq!(verified(&superuser).await, NOTHING);
}

#[test]
fn each_run_of_the_sealer_takes_every_committed_event_once() {
    in_database(async |database| {
        let superuser = write(database).await;
        let sealed = "SELECT count(*) FROM tenancy.entry";
        assert_eq!(count(&superuser, sealed).await, 0, "committing seals nothing by itself");
        // One event besides those of the rows: the table was protected.
        assert_eq!(seal(&superuser).await, 9);
        // And one that tells what captures, which the sealer has written itself.
        assert_eq!(seal(&superuser).await, 1);
        assert_eq!(value(&superuser, "SELECT count(*) || ' ' || max(events) FROM tenancy.block").await, "2 9");
        let chains = "SELECT count(*) - count(DISTINCT chain) FROM tenancy.seal";
        assert_eq!(count(&superuser, chains).await, 0, "no two rows have the same chain value");
        assert_eq!(count(&superuser, sealed).await, 10);
        assert_eq!(verified(&superuser).await, NOTHING, "an untouched audit verifies");
    });
}

#[test]
fn an_organizations_events_have_places_from_1_in_the_order_in_which_they_happened() {
    in_database(async |database| {
        let superuser = write(database).await;
        seal(&superuser).await;
        seal(&superuser).await;
        let places = "SELECT format('%s %s', organization, string_agg(position::text, ',' ORDER BY position))
                        FROM tenancy.entry WHERE organization <> '00000000-0000-0000-0000-000000000000'
                       GROUP BY organization ORDER BY organization";
        assert_eq!(column(&superuser, places).await, [format!("{ACME} 1,2,3,4,5"), format!("{GLOBEX} 1,2,3")]);
        let order = format!(
            "SELECT format('%s %s', operation, row_key) FROM tenancy.audit_trail WHERE organization = '{ACME}'
              ORDER BY position"
        );
        assert_eq!(
            column(&superuser, &order).await,
            [
                r#"insert {"id":1}"#,
                r#"insert {"id":2}"#,
                r#"insert {"id":3}"#,
                r#"update {"id":2}"#,
                r#"delete {"id":3}"#
            ]
        );
        let loose = "SELECT count(*) FROM tenancy.event_batch e WHERE ordinal = 1
            AND NOT EXISTS (SELECT FROM tenancy.seal s WHERE s.organization = e.organization AND s.chain = e.prev_hash)
            AND e.prev_hash <> (SELECT prev_hash FROM tenancy.event_batch f WHERE f.organization = e.organization
                                 ORDER BY occurred_at LIMIT 1)";
        let follows = "a transaction's first event follows a sealed head, or the beginning";
        assert_eq!(count(&superuser, loose).await, 0, "{follows}");
    });
}

#[test]
fn the_sealer_leaves_the_events_of_its_own_transaction_for_later() {
    in_database(async |database| {
        let superuser = write(database).await;
        seal_all(&superuser).await;
        run(&superuser, "BEGIN").await;
        run(&superuser, &format!("INSERT INTO finding VALUES (6, '{ACME}', 'late')")).await;
        assert_eq!(seal(&superuser).await, 0);
        assert_eq!(verified(&superuser).await, NOTHING, "which is no finding");
        run(&superuser, "COMMIT").await;
        assert_eq!(seal(&superuser).await, 1, "and takes them after its commit");
        let follows = format!(
            "SELECT (SELECT prev_hash FROM tenancy.event_batch WHERE row_key ->> 'id' = '6') =
                    (SELECT chain FROM tenancy.seal WHERE organization = '{ACME}' AND position = 5)"
        );
        assert_eq!(value(&superuser, &follows).await, "t", "an event written after a seal follows the sealed head");
    });
}

#[test]
fn a_change_notifies_no_listener() {
    in_database(async |database| {
        let superuser = write(database).await;
        seal_all(&superuser).await;
        let mut listener = Listener::on(&database.config(), &["tenancy", "pg_tenancy", "audit", "event"]).await;
        run(&superuser, &format!("INSERT INTO finding VALUES (7, '{GLOBEX}', 'x')")).await;
        assert_eq!(listener.told().await, NOTHING);
        assert_eq!(seal(&superuser).await, 1);
        assert_eq!(listener.told().await, NOTHING);
    });
}

#[test]
fn where_nothing_was_done_nothing_is_found() {
    in_database(async |database| {
        assert_found(database, &[("UPDATE tenancy.event_batch SET domain = domain", &[])]).await;
    });
}

#[test]
fn an_event_that_was_changed_is_named_with_its_row() {
    in_database(async |database| {
        let superuser = record(database).await;
        let (a1, a2) = (r#"altered a1 public.finding {"id":1}"#, r#"altered a2 public.finding {"id":2}"#);
        let a5 = r#"altered a5 public.finding {"id":3}"#;
        for (place, change, found) in [
            ("a2", r#"payload = '{"new":{"id":2,"title":"never"}}'"#, a2),
            ("a2", "payload = (payload::text || ' ')::json", a2),
            ("a2", "payload = NULL", a2),
            ("a2", r"payload_salt = '\x00'", a2),
            ("a2", "payload = NULL, payload_salt = NULL", a2),
            ("a2", "payload_digest = sha256('x')", a2),
            ("b2", "domain = 'other'", r#"altered b2 public.finding {"id":5}"#),
            ("a1", "operation = 'update'", a1),
            ("a1", "occurred_at = occurred_at + interval '1 microsecond'", a1),
            ("a1", "table_name = 'other'", r#"altered a1 public.other {"id":1}"#),
            ("a1", "table_schema = 'other'", r#"altered a1 other.finding {"id":1}"#),
            ("a1", r#"row_key = '{"id":99}'"#, r#"altered a1 public.finding {"id":99}"#),
            ("a1", "result = 'denied'", a1),
            ("a1", "reason = ''", a1),
            ("a1", "transaction = '1'", a1),
            ("a1", "organization = 'bbbbbbbb-0000-4000-8000-000000000002'", a1),
            ("a5", "hash = sha256('x')", a5),
            ("a5", "prev_hash = sha256('x')", a5),
            ("a5", "ordinal = 2", a5),
            ("a5", "events = 2", a5),
            ("a5", r"packed = '\x00'", a5),
            ("a2", "encoding = 1", a2),
        ] {
            let damage = format!("UPDATE tenancy.event_batch SET {change} WHERE id = e('{place}')");
            assert_eq!(found_after(&superuser, &damage).await, [found], "{change}");
        }
        // Nor does a hash of another length hide anything else.
        let damage = r"ALTER TABLE tenancy.event_batch DROP CONSTRAINT event_batch_hash_check;
                       UPDATE tenancy.event_batch SET hash = '\x00' WHERE id = e('a2')";
        assert_eq!(found_after(&superuser, damage).await, [a2]);
        assert_eq!(verified(&superuser).await, NOTHING, "the damage is taken back");
    });
}

#[test]
fn an_event_of_a_changed_actor_is_named_with_its_row() {
    in_database(async |database| {
        let actor = "id = (SELECT actor FROM tenancy.event_batch WHERE id = e('a5'))";
        let altered: &[&str] = &[r#"altered a5 public.finding {"id":3}"#];
        assert_found(
            database,
            &[
                (&format!("UPDATE tenancy.event_actor SET subject = 'somebody' WHERE {actor}"), altered),
                (&format!("UPDATE tenancy.event_actor SET session_user_name = 'innocent' WHERE {actor}"), altered),
                (
                    "UPDATE tenancy.event_batch SET actor = (SELECT actor FROM tenancy.event_batch WHERE id = e('a1'))
                      WHERE id = e('a5')",
                    altered,
                ),
                (&format!("DELETE FROM tenancy.event_actor WHERE {actor}"), &[r#"missing a5 public.finding {"id":3}"#]),
            ],
        )
        .await;
    });
}

#[test]
fn an_event_that_was_deleted_or_put_in_is_named_by_its_place_or_its_row() {
    in_database(async |database| {
        assert_found(
            database,
            &[
                ("DELETE FROM tenancy.event_batch WHERE id = e('a4')", &["missing a4"]),
                // Together with its place: at the next one.
                (
                    "WITH gone AS (DELETE FROM forged WHERE batch = e('a4') RETURNING batch)
                     DELETE FROM tenancy.event_batch USING gone WHERE id = batch",
                    &["missing block 1", "missing a-"],
                ),
                // The only one of its row: by the block.
                (
                    "WITH gone AS (DELETE FROM forged WHERE batch = e('a6') RETURNING batch)
                     DELETE FROM tenancy.event_batch USING gone WHERE id = batch",
                    &["missing block 3"],
                ),
                (
                    "INSERT INTO tenancy.event_batch
                     SELECT (left(id::text, 24) || left(md5(id::text), 9) || '000')::uuid, organization, actor,
                            transaction, ordinal + 1, events, occurred_at, operation, domain, table_schema, table_name,
                            result, reason, row_key, payload, payload_salt, payload_digest, packed, row_hashes,
                            encoding, hash, sha256('x')
                       FROM tenancy.event_batch WHERE id = e('a5')",
                    &[r#"inserted a- public.finding {"id":3}"#],
                ),
                (
                    "UPDATE tenancy.event_batch SET id = (left(id::text, 24) || left(md5(id::text), 9) || '000')::uuid
                      WHERE id = e('a6')",
                    &["missing a6", r#"inserted a- public.finding {"id":6}"#],
                ),
            ],
        )
        .await;
    });
}

#[test]
fn a_place_that_was_deleted_leaves_an_event_that_no_seal_knows() {
    in_database(async |database| {
        assert_found(
            database,
            &[
                (
                    "DELETE FROM forged WHERE batch = e('a1')",
                    &["missing block 1", "missing a-", r#"inserted a- public.finding {"id":1}"#],
                ),
                (
                    "DELETE FROM forged WHERE batch = e('a4')",
                    &["missing block 1", "missing a-", r#"inserted a- public.finding {"id":2}"#],
                ),
                (
                    "DELETE FROM forged WHERE batch = e('a6')",
                    &["missing block 3", r#"inserted a- public.finding {"id":6}"#],
                ),
            ],
        )
        .await;
    });
}

#[test]
fn a_place_that_was_changed_is_named_with_its_row_and_its_block() {
    in_database(async |database| {
        let superuser = record(database).await;
        let row = r#"altered a6 public.finding {"id":6}"#;
        for (change, found) in [
            ("UPDATE forged SET batch_hash = sha256('x')", &["altered a-", row][..]),
            ("UPDATE forged SET events = 2", &["inserted block 3", row]),
            ("UPDATE forged SET batch = gen_random_uuid()", &["missing a6", r#"inserted a- public.finding {"id":6}"#]),
        ] {
            let damage = format!("{change} WHERE batch = e('a6')");
            let whole = found_after(&superuser, &damage).await;
            assert!(found.iter().all(|line| whole.contains(&line.to_string())), "{change}: {whole:?}");
        }
        let acme = format!("organization = '{ACME}' AND block = 3");
        for (change, found) in [
            ("chain = sha256('x')", &["altered block 3", "altered a-"][..]),
            ("position = position + 1", &["altered block 3", "altered a-"]),
            ("leaves = leaves + 1", &["altered block 3", "missing a-"]),
            ("leaves = leaves - 1", &["altered block 3", "inserted a-"]),
            ("frontier = ''", &["altered a-"]),
            (
                "entries = entries || entries",
                &["inserted block 3", "inserted a-", "inserted a6 public.finding {\"id\":6}"],
            ),
            ("entries = '\\x'", &["missing block 3", "altered a-"]),
            ("block = 4", &["missing block 3", "inserted block 4", r#"reordered a6 public.finding {"id":6}"#]),
        ] {
            let damage = format!("UPDATE tenancy.seal SET {change} WHERE {acme}");
            let whole = found_after(&superuser, &damage).await;
            assert!(found.iter().all(|line| whole.contains(&line.to_string())), "{change}: {whole:?}");
        }
        let swap = "UPDATE forged a SET (batch, batch_hash) = (SELECT b.batch, b.batch_hash FROM forged b
                         WHERE b.organization = a.organization AND b.leaf = 3 - a.leaf)
                     WHERE batch IN (e('a1'), e('a2'))";
        assert_ne!(found_after(&superuser, swap).await, NOTHING, "two events that changed places");
        assert_eq!(verified(&superuser).await, NOTHING, "the damage is taken back");
    });
}

#[test]
fn an_event_behind_an_entry_that_is_gone_is_named_with_its_row() {
    in_database(async |database| {
        let superuser = record(database).await;
        for id in 11..=14 {
            run(&superuser, &format!("INSERT INTO finding VALUES ({id}, '{ACME}', 'late')")).await;
        }
        assert_eq!(seal(&superuser).await, 4);
        let newest = format!("SELECT max(position) FROM tenancy.seal WHERE organization = '{ACME}'");
        let last = count(&superuser, &newest).await;
        let damage = format!(
            "UPDATE tenancy.event_batch SET payload = NULL, payload_salt = NULL WHERE id = e('a{}');
             DELETE FROM forged WHERE organization = '{ACME}' AND position IN ({}, {last})",
            last - 1,
            last - 3
        );
        let found = found_after(&superuser, &damage).await;
        let named = |line: &String| line.starts_with("altered a") && line.ends_with(" public.finding {\"id\":13}");
        assert!(found.iter().any(named), "{found:?}");
    });
}

#[test]
fn a_block_that_was_changed_or_deleted_is_named() {
    in_database(async |database| {
        assert_found(
            database,
            &[
                ("UPDATE tenancy.block SET events = events + 1 WHERE number = 3", &["altered block 3"]),
                (
                    "UPDATE tenancy.block SET sealed_at = sealed_at + interval '1 microsecond' WHERE number = 3",
                    &["altered block 3"],
                ),
                ("UPDATE tenancy.block SET snapshot = '1:1:' WHERE number = 3", &["altered block 3"]),
                // By the gap, and the newest one by its rows in the seal and in the index of rows: no more is sealed.
                ("DELETE FROM tenancy.block WHERE number = 3", &["missing block 4"]),
                ("DELETE FROM tenancy.block WHERE number = 4", &["truncated block 4", "altered block 4", "altered"]),
            ],
        )
        .await;
    });
}

#[test]
fn verifying_one_organization_tells_all_of_it_and_nothing_of_another() {
    in_database(async |database| {
        let superuser = record(database).await;
        run(&superuser, "BEGIN; ALTER TABLE tenancy.event_batch DISABLE TRIGGER USER").await;
        run(&superuser, "UPDATE tenancy.event_batch SET payload = '{}' WHERE id = e('a2')").await;
        let of = |organization| format!("SELECT finding FROM tenancy.verify_audit('{organization}', whole => true)");
        assert_eq!(column(&superuser, &of(GLOBEX)).await, NOTHING);
        assert_eq!(column(&superuser, &of(ACME)).await.len(), 1);
        run(&superuser, "ROLLBACK").await;
    });
}
