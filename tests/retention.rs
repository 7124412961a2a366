//! Months that leave the audit and come back: what is left verifies, and nobody hides an event behind an archive.

use crate::common::*;
use pg_tenancy_core::audit::format::batch::{PackedContent, PackedEvent, pack};
use pg_tenancy_core::audit::format::event::{Actor, Header, batch_id, time_ordered_id};
use pg_tenancy_core::audit::history::row_hash::HashedBatch;
use pg_tenancy_core::audit::log::chain;
use pg_tenancy_core::audit::log::merkle::root_of;
use tokio_postgres::Client;
use uuid::Uuid;

const DAY: i64 = 86_400_000_000;
/// 2025-01-01 00:00 UTC, and the next two months.
const JANUARY: i64 = 1_735_689_600_000_000;
const FEBRUARY: i64 = JANUARY + 31 * DAY;

/// Writes events of a day of long ago, as a trigger would have: one statement that inserted rows of these titles.
/// Returns the id of their batch.
async fn write(client: &Client, organization: Uuid, at: i64, titles: &[String]) -> Uuid {
    let actor = Actor {
        id: time_ordered_id(at, rand::random()),
        method: "none".into(),
        subject: None,
        issuer: None,
        role: None,
        organization: None,
        session_id: None,
        correlation_id: None,
        reason: None,
        session_user: "old".into(),
        current_user: "old".into(),
        client_address: None,
        application_name: None,
        grant: None,
    };
    run(client, "BEGIN").await;
    let transaction: i64 = count(client, "SELECT pg_current_xact_id()").await;
    let head = format!(
        "SELECT encode(chain, 'hex') FROM tenancy.seal WHERE organization = '{organization}' ORDER BY block DESC \
            LIMIT 1"
    );
    let previous = column(client, &head).await.first().map_or(chain::genesis(organization), |hex| {
        std::array::from_fn(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap())
    });
    let payloads: Vec<String> = titles.iter().map(|title| format!(r#"{{"new":{{"title":"{title}"}}}}"#)).collect();
    let mut events = Vec::new();
    for (payload, later) in payloads.iter().zip(0..) {
        let content = PackedContent::Payload { salt: [7; 16], text: payload };
        events.push(PackedEvent { occurred_at: at + later, row_key: Some(r#"{"id":1}"#), content });
    }
    let actor_digest = actor.digest();
    let header = Header {
        id: batch_id(at, rand::random()),
        organization,
        actor: actor.id,
        actor_digest: &actor_digest,
        transaction: transaction as u64,
        ordinal: 1,
        events: events.len() as i32,
        operation: "insert",
        domain: "finding",
        table_schema: Some("public"),
        table_name: Some("Finding"),
        result: "success",
        reason: None,
    };
    let root = root_of(events.iter().map(PackedEvent::digest));
    let hash = header.hash(&root, &previous);
    let batch = HashedBatch {
        operation: header.operation,
        domain: header.domain,
        table_schema: header.table_schema,
        table_name: header.table_name,
    };
    let row_hashes = batch.row_hashes(&events).unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let stored = match &events[..] {
        [event] => {
            let (payload, digest) = (&payloads[0], hex(&event.payload_digest()));
            format!(r#"'{{"id":1}}', '{payload}', '\x{}', '\x{digest}', NULL"#, hex(&[7; 16]))
        }
        _ => format!(r"NULL, NULL, NULL, NULL, '\x{}'", hex(&pack(at, &events))),
    };
    run(
        client,
        &format!(
            r#"INSERT INTO tenancy.event_actor (id, method, session_user_name, current_user_name) VALUES ('{}',
                'none', 'old', 'old');
              INSERT INTO tenancy.event_batch VALUES ('{}', '{organization}', '{}', '{transaction}', 1, {},
                  to_timestamp({at} / 1000000), 'insert', 'finding', 'public', 'Finding', 'success', NULL, {stored},
                  '\x{}', 2, '\x{}', '\x{}');
              COMMIT"#,
            actor.id,
            header.id,
            actor.id,
            events.len(),
            hex(&row_hashes),
            hex(&previous),
            hex(&hash),
        ),
    )
    .await;
    header.id
}

/// Events of two organizations in two old months and in this one, sealed and covered by a checkpoint: in each old
/// month three batches of each organization, of one event, of two and of three.
async fn history(client: &Client) {
    run(client, "SELECT tenancy.create_audit_partitions('2025-01-01', 1)").await;
    for month in [JANUARY, FEBRUARY] {
        for organization in [ACME, GLOBEX] {
            for day in 1..4 {
                let titles: Vec<String> = (0..day).map(|n| format!("{n} of day {day}")).collect();
                write(client, organization, month + day * DAY, &titles).await;
            }
        }
        seal(client).await;
    }
    run(client, "SELECT tenancy.checkpoint()").await;
    assert_eq!(found(client).await, Vec::<String>::new());
}

async fn found(client: &Client) -> Vec<String> {
    column(client, "SELECT finding || ': ' || explanation FROM tenancy.verify_audit(whole => true)").await
}

const ARCHIVE: &str =
    "SELECT tenancy.archive_audit('2025-01-01', exported_to => 's3://audit/2025-01', reason => 'retention')";

#[test]
fn what_is_left_of_an_archived_month_verifies_and_what_comes_back_is_verified_again() {
    in_database(async |database| {
        let admin = database.superuser().await;
        history(&admin).await;
        // The export, before the month goes.
        let mut dump = database.program("pg_dump");
        dump.args(["-t", "tenancy.event_batch_2025_01", "-t", "tenancy.event_actor_2025_01"]);
        let dump = dump.output().unwrap();
        assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));

        let before = "SELECT count(*) FROM tenancy.event WHERE id < tenancy.lowest_id('2025-02-01Z')";
        assert_eq!(count(&admin, before).await, 12);
        assert_eq!(count(&admin, ARCHIVE).await, 12);
        assert_eq!(count(&admin, before).await, 0);
        assert_eq!(found(&admin).await, Vec::<String>::new());
        assert_eq!(findings(&admin).await, []);
        run(&admin, "BEGIN READ ONLY").await;
        assert_eq!(found(&admin).await, Vec::<String>::new());
        run(&admin, "COMMIT").await;
        // Workers know of the archive too: enough events for several ranges, the archived ones among them.
        for _ in 0..4 {
            let many = format!(
                "INSERT INTO cloud_account (organization_id, external_id) SELECT '{ACME}', gen_random_uuid() FROM \
                    generate_series(1, 5000)"
            );
            run(&admin, &many).await;
            seal(&admin).await;
        }
        let parallel = "SELECT finding || explanation FROM tenancy.verify_audit(whole => true, workers => 2)";
        assert_eq!(column(&admin, parallel).await, Vec::<String>::new());
        let processes = "SELECT processes FROM tenancy.verification ORDER BY verified_at DESC LIMIT 1";
        assert!(count(&admin, processes).await > 1, "one process verified all");
        let row = "SELECT month || ' ' || attached || ' ' || events || ' ' || exported_to || ' ' || reason || ' ' || \
            (digest =
                       (SELECT digest FROM tenancy.seal_digest(tenancy.lowest_id('2025-01-01Z'), \
                       tenancy.lowest_id('2025-02-01Z'))))
                     FROM tenancy.archive";
        assert_eq!(column(&admin, row).await, ["2025-01-01 false 12 s3://audit/2025-01 retention true"]);
        let event = "SELECT count(*) FROM tenancy.audit_trail WHERE organization = \
            '00000000-0000-0000-0000-000000000000' AND domain = 'archive' AND operation = 'insert'";
        assert_eq!(count(&admin, event).await, 1, "archiving is an event");
        assert_eq!(refused(&admin, ARCHIVE).await.sqlstate, "55000");
        assert_eq!(refused(&admin, "DELETE FROM tenancy.archive").await.sqlstate, "42501");

        // The tables that are left can be attached again as they are.
        run(&admin, "SELECT tenancy.attach_audit('2025-01-01', reason => 'a question')").await;
        assert_eq!(count(&admin, before).await, 12);
        assert_eq!(found(&admin).await, Vec::<String>::new());
        assert_eq!(refused(&admin, "SELECT tenancy.attach_audit('2025-01-01', reason => 'x')").await.sqlstate, "55000");

        // Dropped, and restored from the export.
        run(&admin, ARCHIVE).await;
        run(&admin, "DROP TABLE tenancy.archived_event_batch_2025_01, tenancy.archived_event_actor_2025_01").await;
        assert_eq!(found(&admin).await, Vec::<String>::new());
        assert_eq!(refused(&admin, "SELECT tenancy.attach_audit('2025-01-01', reason => 'x')").await.sqlstate, "42P01");
        let history =
            r#"SELECT count(*) FROM tenancy.row_history('"Finding"', '{"id":1}') WHERE occurred_at < '2025-02-01Z'"#;
        assert_eq!(count(&admin, history).await, 0);
        run(&admin, "SELECT tenancy.rebuild_row_index()").await;
        assert_eq!(found(&admin).await, Vec::<String>::new(), "an index without the month");
        run_script(database.program("psql"), &dump.stdout);
        run(&admin, "SELECT tenancy.attach_audit('2025-01-01', reason => 'a question')").await;
        assert_eq!(count(&admin, before).await, 12);
        assert_eq!(count(&admin, history).await, 12, "before the index is made anew");
        assert_eq!(found(&admin).await, Vec::<String>::new());
        assert_eq!(count(&admin, history).await, 12);
        let titles = format!(
            "SELECT payload -> 'new' ->> 'title' FROM tenancy.event
              WHERE batch < tenancy.lowest_id('2025-02-01Z') AND organization = '{ACME}' ORDER BY id"
        );
        let expected = ["0 of day 1", "0 of day 2", "1 of day 2", "0 of day 3", "1 of day 3", "2 of day 3"];
        assert_eq!(column(&admin, &titles).await, expected);
        // It is a month like any other: closed, append-only, and verified.
        let closed = "SELECT count(*) FROM pg_class c WHERE oid IN ('tenancy.event_batch_2025_01'::regclass, \
            'tenancy.event_actor_2025_01'::regclass)
                         AND relispartition AND relrowsecurity AND relforcerowsecurity AND EXISTS (SELECT FROM \
                         pg_trigger WHERE tgrelid = c.oid AND tgname = 'append_only' AND tgenabled = 'A')";
        assert_eq!(count(&admin, closed).await, 2);
        run(
            &admin,
            "ALTER TABLE tenancy.event_batch_2025_01 DISABLE TRIGGER ALL; DELETE FROM tenancy.event_batch_2025_01 \
                WHERE \
            organization = 'bbbbbbbb-0000-4000-8000-000000000002'",
        )
        .await;
        assert_eq!(found(&admin).await.len(), 3, "a batch missing from an attached month is a finding");
    });
}

#[test]
fn an_archive_hides_nothing() {
    in_database(async |database| {
        let admin = database.superuser().await;
        history(&admin).await;
        run(&admin, ARCHIVE).await;
        seal(&admin).await;
        // A month that is gone without an archive.
        run(&admin, "BEGIN; ALTER TABLE tenancy.event_batch DETACH PARTITION tenancy.event_batch_2025_02").await;
        let found_now = found(&admin).await;
        assert_eq!(found_now.len(), 6, "{found_now:?}");
        assert!(found_now.iter().all(|text| text.starts_with("missing: ")), "{found_now:?}");
        // One whose archive somebody wrote by hand.
        let forged = "INSERT INTO tenancy.archive SELECT '2025-02-01', now() - interval '1 day', false, events, \
            first_block, last_block, last_block, digest, 'x', 'x', 'x'
                        FROM tenancy.seal_digest(tenancy.lowest_id('2025-02-01Z'), tenancy.lowest_id('2025-03-01Z'))";
        run(&admin, forged).await;
        let found_now = found(&admin).await;
        assert_eq!(found_now.len(), 7, "it excuses none: {found_now:?}");
        assert_eq!(found_now[6], "inserted: no event records the archive of 2025-02 with these values");
        run(&admin, "ROLLBACK").await;
        // An archive that is changed afterwards.
        let change = "BEGIN; ALTER TABLE tenancy.archive DISABLE TRIGGER ALL; UPDATE tenancy.archive SET ";
        for set in ["events = 11", "digest = sha256('')", "through_block = 1000000", "reason = 'x'"] {
            run(&admin, &format!("{change} {set}")).await;
            let found_now = found(&admin).await;
            assert_eq!(found_now.len(), 7, "{set}: {found_now:?}");
            assert_eq!(found_now[6], "inserted: no event records the archive of 2025-01 with these values", "{set}");
            run(&admin, "ROLLBACK").await;
        }
        // Nor does the event that tells of it count once it is changed, or gone.
        for change in [
            "UPDATE tenancy.event_batch SET reason = 'x'",
            "UPDATE tenancy.event_batch SET payload_salt = sha256('')",
            "DELETE FROM tenancy.event_batch",
        ] {
            run(&admin, &format!("BEGIN; {OPEN}; {change} WHERE table_name = 'archive'")).await;
            let found_now = found(&admin).await;
            assert_eq!(
                found_now.iter().filter(|text| text.starts_with("missing: ")).count(),
                if change.starts_with("DELETE") { 7 } else { 6 },
                "{change}: {found_now:?}"
            );
            run(&admin, "ROLLBACK").await;
        }
        forge_entries(&admin).await;
        // The seal of what is archived still counts.
        run(
            &admin,
            "BEGIN; ALTER TABLE tenancy.seal DISABLE TRIGGER ALL; UPDATE forged SET batch_hash = \
            sha256('') WHERE batch = (SELECT batch FROM tenancy.entry ORDER BY batch LIMIT 1)",
        )
        .await;
        let found_now = found(&admin).await;
        assert!(found_now.iter().any(|text| text.starts_with("altered: ")), "{found_now:?}");
        run(&admin, "ROLLBACK").await;
        // An event that comes late to the month has a partition of its own, is sealed, and is not taken for an
        // archived one.
        run(&admin, "SELECT tenancy.create_audit_partitions('2025-01-01', 0)").await;
        let late = write(&admin, ACME, JANUARY + 20 * DAY, &["late".to_owned(), "later".to_owned()]).await;
        seal(&admin).await;
        assert_eq!(found(&admin).await, Vec::<String>::new());
        run(
            &admin,
            &format!(
                "ALTER TABLE tenancy.event_batch_2025_01 DISABLE TRIGGER ALL; DELETE FROM \
                    tenancy.event_batch_2025_01 WHERE id = \
                    '{late}'"
            ),
        )
        .await;
        assert_eq!(found(&admin).await, ["missing: the batch of this entry is missing from tenancy.event_batch"]);
    });
}

/// Opens the tables of the audit to whoever may do anything.
const OPEN: &str = "UPDATE pg_trigger SET tgenabled = 'D' WHERE NOT tgisinternal AND tgrelid IN (SELECT oid FROM \
    pg_class WHERE relnamespace = 'tenancy'::regnamespace); UPDATE pg_class SET relname = relname WHERE relnamespace \
    = 'tenancy'::regnamespace";
const CLOSE: &str = "UPDATE pg_trigger SET tgenabled = 'A' WHERE NOT tgisinternal AND tgrelid IN (SELECT oid FROM \
    pg_class WHERE relnamespace = 'tenancy'::regnamespace); UPDATE pg_class SET relname = relname WHERE relnamespace \
    = 'tenancy'::regnamespace";

#[test]
fn an_archive_written_by_hand_excuses_no_deleted_event() {
    in_database(async |database| {
        let admin = database.superuser().await;
        history(&admin).await;
        run(
            &admin,
            &format!("INSERT INTO cloud_account (organization_id, external_id) VALUES ('{ACME}', gen_random_uuid())"),
        )
        .await;
        seal(&admin).await;
        let kept = checkpoint(&admin)
            .await
            .map(|(note, key)| format!("tenancy.verify_checkpoint($note${note}$note$, '{key}')"));
        let missing =
            |call: &str| format!("SELECT event FROM {call} WHERE finding = 'missing' AND event IS NOT NULL ORDER BY 1");
        let calls = [
            "tenancy.verify_audit(whole => true)".to_owned(),
            format!("tenancy.verify_audit('{ACME}', whole => true)"),
        ];
        let calls: Vec<_> = calls.into_iter().chain(kept).map(|call| missing(&call)).collect();
        for sql in &calls {
            assert_eq!(column(&admin, sql).await, Vec::<String>::new());
        }
        for month in ["date_trunc('month', now() AT TIME ZONE 'UTC')", "date '2025-02-01'"] {
            let ids = format!(
                "tenancy.lowest_id(({month})::timestamp AT TIME ZONE 'UTC'), tenancy.lowest_id((({month})::timestamp \
                    + interval '1 month') AT TIME ZONE 'UTC')"
            );
            let forge = format!(
                "INSERT INTO tenancy.archive SELECT {month}, now(), false, events, first_block, last_block, \
                    last_block, digest, 'x', 'x', 'x' FROM tenancy.seal_digest({ids})"
            );
            let events = format!(
                "id >= (SELECT tenancy.lowest_id(({month})::timestamp AT TIME ZONE 'UTC')) AND id < (SELECT \
                    tenancy.lowest_id((({month})::timestamp + interval '1 month') AT TIME ZONE 'UTC')) AND \
                    organization = '{ACME}'"
            );
            let gone = column(&admin, &format!("SELECT id FROM tenancy.event_batch WHERE {events} ORDER BY 1")).await;
            assert!(!gone.is_empty());
            run(&admin, &format!("BEGIN; {OPEN}; {forge}; DELETE FROM tenancy.event_batch WHERE {events}; {CLOSE}"))
                .await;
            for sql in &calls {
                assert_eq!(column(&admin, sql).await, gone, "{month}: {sql}");
            }
            run(&admin, "ROLLBACK").await;
        }
    });
}

#[test]
fn an_archive_keeps_an_event_that_tells_of_it() {
    in_database(async |database| {
        let admin = database.superuser().await;
        history(&admin).await;
        run(&admin, ARCHIVE).await;
        // As if January had been archived in February, which is archived next.
        let newest = "SELECT count(*) FROM tenancy.archive WHERE month = '2025-01-01'";
        assert_eq!(count(&admin, newest).await, 1);
        run(&admin, &format!("BEGIN; {OPEN}; UPDATE tenancy.archive SET changed_at = '2025-02-10Z'; {CLOSE}")).await;
        run(&admin, "SELECT tenancy.archive_audit('2025-02-01', exported_to => 'x', reason => 'r')").await;
        assert_eq!(count(&admin, newest).await, 2);
        assert_eq!(found(&admin).await, Vec::<String>::new());
        run(&admin, "ROLLBACK").await;
        // A month whose return nobody tells of any more is not archived either.
        run(&admin, "SELECT tenancy.attach_audit('2025-01-01', reason => 'a question')").await;
        run(
            &admin,
            &format!(
                "BEGIN; {OPEN}; DELETE FROM tenancy.archive WHERE attached; DELETE FROM tenancy.event_batch_2025_01; \
                    {CLOSE}"
            ),
        )
        .await;
        let found_now = found(&admin).await;
        assert_eq!(found_now.iter().filter(|text| text.starts_with("missing: ")).count(), 6, "{found_now:?}");
        run(&admin, "ROLLBACK").await;
    });
}

#[test]
fn a_month_is_kept_until_it_may_go() {
    in_database(async |database| {
        let admin = database.superuser().await;
        run(&admin, "SELECT tenancy.create_audit_partitions('2025-01-01', 1)").await;
        write(&admin, ACME, JANUARY + DAY, &["x".to_owned()]).await;
        seal(&admin).await;
        assert_eq!(refused(&admin, ARCHIVE).await.message, "no checkpoint covers the events of 2025-01");
        run(&admin, "SELECT tenancy.checkpoint()").await;
        for (sql, sqlstate) in [
            ("SELECT tenancy.archive_audit('2025-01-02', 'x', 'x')", "22023"),
            ("SELECT tenancy.archive_audit(NULL, 'x', 'x')", "22004"),
            ("SELECT tenancy.archive_audit('2025-01-01', NULL, 'x')", "22004"),
            ("SELECT tenancy.archive_audit('2025-01-01', 'x', ' ')", "22004"),
            ("SELECT tenancy.archive_audit('2024-01-01', 'x', 'x')", "55000"),
            ("SELECT tenancy.archive_audit(date_trunc('month', now())::date, 'x', 'x')", "55000"),
            (
                "SELECT tenancy.archive_audit((date_trunc('month', now()) - interval '12 months')::date, 'x', 'x')",
                "55000",
            ),
            ("SELECT tenancy.attach_audit('2025-01-01', 'x')", "55000"),
            ("SELECT tenancy.attach_audit('2025-01-01', NULL)", "22004"),
            ("SELECT tenancy.attach_audit(NULL, 'x')", "22004"),
            ("SELECT tenancy.seal_digest(NULL, NULL)", "22004"),
        ] {
            assert_eq!(refused(&admin, sql).await.sqlstate, sqlstate, "{sql}");
        }
        // Nobody else may, the owner of tables and members of tenancy_admin neither.
        for client in [database.owner().await, database.application().await] {
            assert_eq!(refused(&client, ARCHIVE).await.sqlstate, "42501");
            assert_eq!(refused(&client, "SELECT tenancy.attach_audit('2025-01-01', 'x')").await.sqlstate, "42501");
        }
        run(&admin, "BEGIN ISOLATION LEVEL REPEATABLE READ").await;
        assert_eq!(refused_within(&admin, ARCHIVE).await.sqlstate, "25001");
        run(&admin, "ROLLBACK").await;
        // Changed, or not sealed: not exported as it was.
        run(
            &admin,
            "BEGIN; ALTER TABLE tenancy.event_batch_2025_01 DISABLE TRIGGER ALL; UPDATE tenancy.event_batch_2025_01 \
                SET \
            hash = sha256('')",
        )
        .await;
        assert_eq!(
            refused_within(&admin, ARCHIVE).await.message,
            "1 batches of events of 2025-01 are not as they were sealed, or lack their actor"
        );
        run(&admin, "ROLLBACK").await;
        run(
            &admin,
            "BEGIN; INSERT INTO tenancy.event_batch SELECT (left(id::text, 24) || 'ffffffffffff')::uuid, \
            organization, actor, transaction, 9, events, occurred_at, operation, domain, table_schema, table_name, \
                result,
                         reason, row_key, payload, payload_salt, payload_digest, packed, row_hashes, encoding, \
                         prev_hash, sha256('x') FROM tenancy.event_batch WHERE id < tenancy.lowest_id('2025-02-01Z')",
        )
        .await;
        assert_eq!(refused_within(&admin, ARCHIVE).await.message, "1 events of 2025-01 are not sealed");
        run(&admin, "ROLLBACK").await;

        // Who writes to the month has to end first; nobody who writes to this one waits.
        let writer = database.superuser().await;
        run(&writer, "BEGIN; LOCK TABLE tenancy.event_batch_2025_01 IN ROW EXCLUSIVE MODE").await;
        run(&admin, "SET lock_timeout = '200ms'").await;
        assert_eq!(refused(&admin, ARCHIVE).await.sqlstate, "55P03");
        run(&writer, "COMMIT").await;
        run(&admin, "BEGIN").await;
        run(&admin, ARCHIVE).await;
        run(
            &writer,
            &format!(
                "SET lock_timeout = '1s'; INSERT INTO cloud_account (organization_id, external_id) \
            VALUES ('{ACME}', 'meanwhile')"
            ),
        )
        .await;
        run(&admin, "COMMIT").await;
        assert_eq!(found(&admin).await, Vec::<String>::new());

        // A dump carries what was archived, and the restored audit verifies.
        let restored = database.restore_a_dump().await;
        let mut config = database.config();
        let restored = connect(config.dbname(&restored)).await;
        assert_eq!(count(&restored, "SELECT count(*) FROM tenancy.archive").await, 1);
        assert_eq!(found(&restored).await, Vec::<String>::new());
    });
}

#[test]
fn a_month_that_came_back_is_not_archived_because_what_tells_of_it_is_gone() {
    in_database(async |database| {
        let admin = database.superuser().await;
        history(&admin).await;
        run(&admin, ARCHIVE).await;
        run(&admin, "SELECT tenancy.attach_audit('2025-01-01', 'asked for')").await;
        seal(&admin).await;
        assert_audit_is_whole(&admin).await;
        let batches = count(&admin, "SELECT count(*) FROM tenancy.event_batch_2025_01").await;
        // The row and the event that tell of its return, then every event of the month: the older row excuses none
        // of them.
        let gone =
            "DELETE FROM tenancy.event_batch WHERE table_name = 'archive' AND payload -> 'new' ->> 'attached' = 'true';
                    ALTER TABLE tenancy.archive DISABLE TRIGGER ALL; DELETE FROM tenancy.archive WHERE attached; \
                    DELETE FROM tenancy.event_batch_2025_01";
        run(&admin, &format!("BEGIN; {OPEN}; {gone}")).await;
        let found_now = found(&admin).await;
        let missing = "missing: the batch of this entry is missing from tenancy.event_batch";
        assert_eq!(found_now.iter().filter(|text| *text == missing).count() as i64, batches + 1, "{found_now:?}");
        let told = "missing: events after the one that records the archive of 2025-01 are missing";
        assert!(found_now.iter().any(|text| text == told), "{found_now:?}");
        run(&admin, "ROLLBACK").await;
        // Together with the entry of that event.
        forge_entries(&admin).await;
        let entry = "DELETE FROM forged s USING tenancy.event e WHERE s.batch = e.batch AND e.table_name = \
            'archive' AND e.payload -> 'new' ->> 'attached' = 'true'";
        run(&admin, &format!("BEGIN; {OPEN}; ALTER TABLE tenancy.seal DISABLE TRIGGER ALL; {entry}; {gone}")).await;
        let found_now = found(&admin).await;
        assert!(found_now.iter().any(|text| text == told), "{found_now:?}");
        assert_eq!(found_now.iter().filter(|text| *text == missing).count() as i64, batches, "{found_now:?}");
        run(&admin, "ROLLBACK").await;
        assert_audit_is_whole(&admin).await;
    });
}
