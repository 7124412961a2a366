//! Erasure over real connections: a payload goes, the chain stays, and nothing else can make a payload go unseen.

use crate::common::*;
use tokio_postgres::Client;

/// Writes a secret and seals it; returns the id of its event.
async fn sealed_secret(database: &Database, superuser: &Client) -> String {
    let client = database.application().await;
    as_tenant(&client, &database.token("alice")).await;
    let secret = format!("top secret {}", "x".repeat(5000));
    run(&client, &format!(r#"UPDATE "Finding" SET title = '{secret}' WHERE id = 1; COMMIT"#)).await;
    seal(superuser).await;
    let sql = "SELECT id FROM tenancy.event WHERE payload::text LIKE '%top secret%'";
    value(superuser, sql).await
}

const SECRETS: &str = "SELECT count(*) FROM tenancy.event e WHERE e::text LIKE '%top secret%'";

#[test]
fn an_erased_payload_is_gone_and_the_chain_verifies_and_tells_of_it() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        let event = sealed_secret(database, &superuser).await;
        let digest = value(&superuser, &format!("SELECT payload_digest FROM tenancy.event WHERE id = '{event}'")).await;
        let hash = value(&superuser, &format!("SELECT hash FROM tenancy.event WHERE id = '{event}'")).await;
        let erase = format!("SELECT tenancy.erase_payload('{event}', 'asked by the subject', 'GDPR art. 17')");
        let told = value(&superuser, &erase).await;
        assert_eq!(count(&superuser, SECRETS).await, 0);
        let row = &rows(
            &superuser,
            &format!("SELECT payload, payload_salt, payload_digest, hash FROM tenancy.event WHERE id = '{event}'"),
        )
        .await[0];
        assert_eq!(row[..], [None, None, Some(digest.clone()), Some(hash)]);
        let sql = format!(
            "SELECT t.operation, t.domain, t.table_name, t.reason, t.data ->> 'event', '\\x' || (t.data ->> \
                'payload_digest'),
                    t.data ->> 'legal_basis', t.organization = e.organization, t.session_user_name = session_user
               FROM tenancy.audit_trail t, tenancy.event e WHERE t.id = '{told}' AND e.id = '{event}'"
        );
        let expected =
            ["erase", "finding", "Finding", "asked by the subject", &event, &digest, "GDPR art. 17", "t", "t"];
        assert_eq!(rows(&superuser, &sql).await[0], expected.map(|text| Some(text.to_owned())));
        let sql = format!(
            "SELECT count(*) FROM tenancy.erasure x JOIN tenancy.event e ON e.id = x.event AND e.payload_digest = \
                x.payload_digest
                AND e.organization = x.organization WHERE x.event = '{event}' AND x.erase_event = '{told}' AND \
                x.reason = 'asked by the subject'"
        );
        assert_eq!(count(&superuser, &sql).await, 1);
        assert_audit_is_whole(&superuser).await;
    });
}

#[test]
fn a_payload_that_went_another_way_is_a_finding() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        let event = sealed_secret(database, &superuser).await;
        run(&superuser, r#"UPDATE "Finding" SET title = 'another' WHERE id = 2"#).await;
        seal(&superuser).await;
        let other =
            value(&superuser, "SELECT id FROM tenancy.event WHERE row_key ->> 'id' = '2' AND operation = 'update'")
                .await;
        assert_eq!(
            refused(&superuser, &format!("UPDATE tenancy.event_batch SET payload = NULL WHERE id = '{other}'"))
                .await
                .sqlstate,
            "42501"
        );
        run(&superuser, &format!("SELECT tenancy.erase_payload('{event}', 'r')")).await;
        assert_audit_is_whole(&superuser).await;
        let empty = format!("UPDATE tenancy.event_batch SET payload = NULL, payload_salt = NULL WHERE id = '{other}'");
        let forge = format!(
            "INSERT INTO tenancy.erasure SELECT e.id, e.organization, now(), e.payload_digest, 'r', NULL, x.erase_event
               FROM tenancy.event e, tenancy.erasure x WHERE e.id = '{other}'"
        );
        let payload_only = format!("UPDATE tenancy.event_batch SET payload = NULL WHERE id = '{other}'");
        let salt_only = format!("UPDATE tenancy.event_batch SET payload_salt = NULL WHERE id = '{other}'");
        for (tampering, expected) in [
            (vec![empty.as_str()], vec!["altered"]),
            (vec![&payload_only], vec!["altered"]),
            (vec![&salt_only], vec!["altered"]),
            (vec![&empty, &forge], vec!["altered", "inserted"]),
            // Forged while the payload is still there.
            (vec![&forge], vec!["inserted"]),
            (vec!["UPDATE tenancy.erasure SET payload_digest = sha256('')"], vec!["inserted"]),
            (vec!["DELETE FROM tenancy.erasure"], vec!["altered"]),
            (vec!["UPDATE tenancy.erasure SET event = gen_random_uuid()"], vec!["altered", "inserted"]),
            // The event that tells of the erasure: itself, and what it told of.
            (
                vec!["UPDATE tenancy.event_batch SET payload = NULL, payload_salt = NULL WHERE operation = 'erase'"],
                vec!["altered", "altered", "inserted"],
            ),
            (
                vec!["UPDATE tenancy.event_batch SET operation = 'update' WHERE operation = 'erase'"],
                vec!["altered", "altered", "inserted"],
            ),
            // One that was changed tells of no erasure, though it still names it.
            (vec!["UPDATE tenancy.event_batch SET reason = 'x' WHERE operation = 'erase'"], vec!["altered", "altered"]),
            (vec!["DELETE FROM tenancy.event_batch WHERE operation = 'erase'"], vec!["altered", "inserted", "missing"]),
        ] {
            run(&superuser, "BEGIN; SET LOCAL tenancy.override_reason = 'test'").await;
            let disable = "DO $$ DECLARE t regclass; BEGIN FOR t IN SELECT tgrelid FROM pg_trigger WHERE tgname = \
                'append_only' LOOP
                EXECUTE format('ALTER TABLE %s DISABLE TRIGGER append_only', t); END LOOP; END $$";
            run(&superuser, disable).await;
            for sql in &tampering {
                run(&superuser, sql).await;
            }
            let sql = "SELECT finding FROM tenancy.verify_audit(whole => true) ORDER BY 1";
            let mut found = column(&superuser, sql).await;
            found.sort();
            assert_eq!(found, expected, "{tampering:?}");
            run(&superuser, "ROLLBACK").await;
        }
        assert_audit_is_whole(&superuser).await;
    });
}

#[test]
fn an_event_is_erased_once_and_only_when_it_is_sealed() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        let event = sealed_secret(database, &superuser).await;
        run(&superuser, r#"UPDATE "Finding" SET title = 'fresh' WHERE id = 2"#).await;
        let fresh = value(&superuser, "SELECT id FROM tenancy.event ORDER BY id DESC LIMIT 1").await;
        let told = value(&superuser, &format!("SELECT tenancy.erase_payload('{event}', 'r')")).await;
        seal(&superuser).await;
        for (sql, sqlstate, message) in [
            (format!("SELECT tenancy.erase_payload('{event}', 'r')"), "55000", "has no payload any more"),
            (format!("SELECT tenancy.erase_payload('{told}', 'r')"), "55000", "tells of an erasure"),
            ("SELECT tenancy.erase_payload(gen_random_uuid(), 'r')".into(), "42704", "there is no event"),
            ("SELECT tenancy.erase_payload(NULL, 'r')".into(), "22004", "event"),
            (format!("SELECT tenancy.erase_payload('{event}', NULL)"), "22004", "reason"),
            (format!("SELECT tenancy.erase_payload('{event}', '  ')"), "22023", "blank"),
            (format!("SELECT tenancy.erase_payload('{event}', repeat('x', 1001))"), "22023", "1000 bytes"),
            (format!("BEGIN READ ONLY; SELECT tenancy.erase_payload('{event}', 'r')"), "25006", "READ ONLY"),
        ] {
            let refusal = refused(&superuser, &sql).await;
            assert_eq!(refusal.sqlstate, sqlstate, "{sql}: {refusal:?}");
            assert!(refusal.message.contains(message), "{sql}: {refusal:?}");
            run(&superuser, "ROLLBACK").await;
        }
        run(&superuser, r#"UPDATE "Finding" SET title = 'fresher' WHERE id = 3"#).await;
        let unsealed = value(&superuser, "SELECT id FROM tenancy.event ORDER BY id DESC LIMIT 1").await;
        let refusal = refused(&superuser, &format!("SELECT tenancy.erase_payload('{unsealed}', 'r')")).await;
        assert_eq!((refusal.sqlstate.as_str(), refusal.message.contains("not sealed")), ("55000", true));
        // Twice in one statement.
        let twice = format!("SELECT tenancy.erase_payload('{fresh}', 'r'), tenancy.erase_payload('{fresh}', 'r')");
        assert_eq!(refused(&superuser, &twice).await.sqlstate, "55000");
        assert_audit_is_whole(&superuser).await;
    });
}

#[test]
fn an_erasure_follows_its_transaction() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        let event = sealed_secret(database, &superuser).await;
        let erase = format!("SELECT tenancy.erase_payload('{event}', 'r')");
        run(&superuser, &format!("BEGIN; SAVEPOINT s; {erase}; ROLLBACK TO s; COMMIT")).await;
        assert_eq!(count(&superuser, SECRETS).await, 1);
        assert_eq!(count(&superuser, "SELECT count(*) FROM tenancy.erasure").await, 0);
        assert_audit_is_whole(&superuser).await;

        // A snapshot from before, and a second session that waits.
        let other = database.superuser().await;
        run(&superuser, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM tenancy.erasure").await;
        run(&other, &format!("BEGIN; {erase}")).await;
        let waiting = async { refused(&superuser, &erase).await };
        let committing = async {
            let sql = "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND relation = 'tenancy.erasure'::regclass";
            eventually(&other, sql).await;
            run(&other, "COMMIT").await;
        };
        let (refusal, ()) = futures_util::future::join(waiting, committing).await;
        assert_eq!(refusal.sqlstate, "55000", "{refusal:?}");
        run(&superuser, "ROLLBACK").await;
        assert_eq!(count(&superuser, SECRETS).await, 0);
        assert_eq!(count(&superuser, "SELECT count(*) FROM tenancy.erasure").await, 1);
        assert_audit_is_whole(&superuser).await;
    });
}

#[test]
fn an_erasure_can_be_prepared() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        let event = sealed_secret(database, &superuser).await;
        let name = &database.name;
        run(&superuser, &format!("BEGIN; SELECT tenancy.erase_payload('{event}', 'r'); PREPARE TRANSACTION '{name}'"))
            .await;
        assert_eq!(findings(&superuser).await, []);
        assert_eq!(count(&superuser, SECRETS).await, 1);
        run(&superuser, &format!("COMMIT PREPARED '{name}'")).await;
        assert_eq!(count(&superuser, SECRETS).await, 0);
        assert_audit_is_whole(&superuser).await;
    });
}

#[test]
fn what_was_erased_is_in_no_dump_and_the_copy_verifies() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        let event = sealed_secret(database, &superuser).await;
        run(&superuser, r#"UPDATE "Finding" SET title = 'x' WHERE id = 1"#).await;
        seal(&superuser).await;
        run(&superuser, &format!("SELECT tenancy.erase_payload('{event}', 'r')")).await;
        let sql = r#"SELECT tenancy.erase_row_payloads(organization, '"Finding"', '{"id": 1}', 'r') FROM
            tenancy.event WHERE id = $$"#;
        run(&superuser, &sql.replace("$$", &format!("'{event}'"))).await;
        seal(&superuser).await;
        let restored = database.restore_a_dump().await;
        let copy = connect(database.config().dbname(&restored)).await;
        assert_eq!(count(&copy, SECRETS).await, 0);
        assert!(count(&copy, "SELECT count(*) FROM tenancy.erasure").await >= 2);
        assert_audit_is_whole(&copy).await;
        drop(copy);
        run(&superuser, &format!("DROP DATABASE {restored} WITH (FORCE)")).await;
    });
}

#[test]
fn the_payloads_of_a_row_go_together_and_those_of_no_other() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        let acme = ACME.to_string();
        run(
            &superuser,
            &format!(
                r#"CREATE TABLE person (id integer, organization_id uuid NOT NULL, "first name" text, PRIMARY KEY
                    (id, organization_id)) PARTITION BY RANGE (id);
                   CREATE TABLE person_1 PARTITION OF person FOR VALUES FROM (0) TO (10);
                   CREATE TABLE person_2 PARTITION OF person FOR VALUES FROM (10) TO (20);
                   SELECT tenancy.protect('person');
                   INSERT INTO person SELECT n, '{acme}', 'name ' || n FROM generate_series(1, 12) n;
                   INSERT INTO person VALUES (7, '{GLOBEX}', 'their 7');
                   UPDATE person SET "first name" = 'changed ' || "first name";
                   DELETE FROM person WHERE id = 7 AND organization_id = '{acme}'"#
            ),
        )
        .await;
        let erase = |id: i32| {
            format!(
                r#"SELECT tenancy.erase_row_payloads('{acme}', 'person',
                    '{{"organization_id": "{acme}",   "id": {id}}}', 'asked', 'GDPR')"#
            )
        };
        assert_eq!(refused(&superuser, &erase(7)).await.sqlstate, "55000", "not sealed");
        seal(&superuser).await;
        assert_eq!(count(&superuser, &erase(7)).await, 3);
        assert_eq!(count(&superuser, &erase(7)).await, 0);
        assert_eq!(count(&superuser, &erase(11)).await, 2);
        assert_eq!(count(&superuser, &erase(99)).await, 0);
        let left =
            "SELECT count(*) FROM tenancy.event WHERE payload::text LIKE '%name 7%' OR payload::text LIKE '%name 11%'";
        assert_eq!(count(&superuser, left).await, 0);
        assert_eq!(
            count(&superuser, "SELECT count(*) FROM tenancy.event WHERE payload::text LIKE '%their 7%'").await,
            2
        );
        assert_eq!(count(&superuser, "SELECT count(*) FROM tenancy.erasure WHERE legal_basis = 'GDPR'").await, 5);
        for call in [
            "NULL, 'person', '{}', 'r'",
            "gen_random_uuid(), NULL, '{}', 'r'",
            "gen_random_uuid(), 'person', NULL, 'r'",
        ] {
            let refusal = refused(&superuser, &format!("SELECT tenancy.erase_row_payloads({call})")).await;
            assert_eq!(refusal.sqlstate, "22004", "{call}");
        }
        assert_audit_is_whole(&superuser).await;
    });
}

#[test]
fn nobody_erases_until_it_is_granted() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        let event = sealed_secret(database, &superuser).await;
        let erase = format!("SELECT tenancy.erase_payload('{event}', 'r')");
        let client = database.application().await;
        as_tenant(&client, &database.token("alice")).await;
        assert_eq!(refused_within(&client, &erase).await.sqlstate, "42501");
        run(&client, "ROLLBACK").await;
        for role in ["tenancy_application", "tenancy_admin", "tenancy_operator", "tenancy_auditor"] {
            run(&superuser, &format!("SET ROLE {role}")).await;
            assert_eq!(refused(&superuser, &erase).await.sqlstate, "42501", "{role}");
            run(&superuser, "RESET ROLE").await;
        }
        run(
            &superuser,
            "GRANT EXECUTE ON FUNCTION tenancy.erase_payload(uuid, text, text) TO tenancy_auditor; SET \
            ROLE tenancy_auditor",
        )
        .await;
        let told = value(&superuser, &erase).await;
        let sql = format!("SELECT current_user_name FROM tenancy.audit_trail WHERE id = '{told}'");
        assert_eq!(value(&superuser, &sql).await, "tenancy_auditor", "in the name of whoever called");
        run(&superuser, "RESET ROLE").await;
        assert_audit_is_whole(&superuser).await;
    });
}

#[test]
fn events_in_full_pages_are_found_by_every_index_after_their_erasure() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        // Batches of one event, one row of the page each, and packed ones.
        let insert = format!(
            r#"DO $$ BEGIN FOR n IN 1..500 LOOP
                   INSERT INTO "Finding" ("organizationId", title) VALUES ('{ACME}', 'top secret ' || n);
               END LOOP; END $$;
               INSERT INTO "Finding" ("organizationId", title) SELECT '{ACME}', 'top secret ' || n FROM
                generate_series(1, 300) n"#
        );
        run(&superuser, &insert).await;
        seal(&superuser).await;
        let sizes = "SELECT count(*) FILTER (WHERE events = 1) || ' ' || count(*) FILTER (WHERE events > 1)
                       FROM tenancy.event_batch WHERE operation = 'insert' AND table_name = 'Finding'";
        assert_eq!(value(&superuser, sizes).await, "500 3");
        let erase = "SELECT count(tenancy.erase_payload(id, 'r')) FROM (SELECT id FROM tenancy.event WHERE operation \
            = 'insert' AND table_name = 'Finding') e";
        assert_eq!(count(&superuser, erase).await, 800);
        assert_eq!(count(&superuser, SECRETS).await, 0);
        assert_audit_is_whole(&superuser).await;
        run(&superuser, "SET enable_seqscan = off; SET enable_bitmapscan = off").await;
        let sql = "SELECT count(*) FROM tenancy.erasure x WHERE (SELECT e.payload_digest FROM tenancy.event e WHERE \
            e.batch = tenancy.batch_of(x.event) AND e.id = x.event) = x.payload_digest";
        assert_eq!(count(&superuser, sql).await, 800);
        for setting in ["on", "off"] {
            run(&superuser, &format!("SET enable_seqscan = {setting}")).await;
            let by_index = "SELECT count(*) FROM tenancy.event_batch WHERE hash IS NOT NULL AND transaction >= '0'";
            let all = "SELECT count(hash) FROM tenancy.event_batch";
            assert_eq!(count(&superuser, by_index).await, count(&superuser, all).await, "seqscan {setting}");
        }
    });
}
