//! How `verify_audit` runs: from where the last run ended, by several processes, to be watched and to be cancelled.

use std::time::Duration;

use crate::common::*;
use tokio_postgres::Client;

const LAST: &str = "SELECT first_block || '-' || block FROM tenancy.verification ORDER BY verified_at DESC LIMIT 1";

/// Blocks of so many events each, of all organizations in turn.
async fn fill(superuser: &Client, blocks: i32, events: i32) {
    for _ in 0..blocks {
        let sql = format!(
            r#"INSERT INTO "Finding" (title, "organizationId")
               SELECT 'x', CASE n % 3 WHEN 0 THEN '{ACME}' WHEN 1 THEN '{GLOBEX}' ELSE '{INITECH}' END::uuid
                 FROM generate_series(1, {events}) n"#
        );
        run(superuser, &sql).await;
        seal(superuser).await;
    }
}

/// The same with a statement for each event, so that each is a batch of its own.
async fn fill_one_by_one(superuser: &Client, blocks: i32, events: i32) {
    for _ in 0..blocks {
        let sql = format!(
            r#"DO $$ BEGIN FOR n IN 1..{events} LOOP INSERT INTO "Finding" (title, "organizationId")
               VALUES ('x', CASE n % 3 WHEN 0 THEN '{ACME}' WHEN 1 THEN '{GLOBEX}' ELSE '{INITECH}' END::uuid);
               END LOOP; END $$"#
        );
        run(superuser, &sql).await;
        seal(superuser).await;
    }
}

/// Takes the guards of the audit away.
async fn disarm(superuser: &Client) {
    let guards = "DO $$ DECLARE t regclass; BEGIN
        FOR t IN SELECT tgrelid FROM pg_trigger WHERE tgname = 'append_only' AND tgparentid = 0 LOOP
            EXECUTE format('ALTER TABLE %s DISABLE TRIGGER append_only', t);
        END LOOP; END $$";
    run(superuser, guards).await;
    forge_entries(superuser).await;
    // That has events, which are not to be mixed up with what is damaged.
    seal(superuser).await;
}

/// What a call finds, each as finding, block and position.
async fn found(superuser: &Client, call: &str) -> Vec<String> {
    let sql =
        format!(r#"SELECT concat_ws(' ', finding, block, "position") FROM tenancy.verify_audit({call}) ORDER BY 1"#);
    column(superuser, &sql).await
}

/// The same after statements that are taken back.
async fn found_after(superuser: &Client, sql: &str, call: &str) -> Vec<String> {
    run(superuser, "BEGIN").await;
    run(superuser, sql).await;
    // As it stands: sealing would go on from it.
    run(superuser, "SET TRANSACTION READ ONLY").await;
    let found = found(superuser, call).await;
    run(superuser, "ROLLBACK").await;
    found
}

#[test]
fn a_run_goes_on_from_where_the_last_one_ended_that_found_nothing() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        fill(&superuser, 3, 9).await;
        let newest = async || count(&superuser, "SELECT max(number) FROM tenancy.block").await;
        assert_eq!(found(&superuser, "").await, Vec::<String>::new());
        let third = newest().await;
        assert_eq!(value(&superuser, LAST).await, format!("1-{third}"));
        // Nothing new is nothing to write down.
        assert_eq!(found(&superuser, "").await, Vec::<String>::new());
        assert_eq!(count(&superuser, "SELECT count(*) FROM tenancy.verification").await, 1);
        fill(&superuser, 1, 12).await;
        assert_eq!(found(&superuser, "").await, Vec::<String>::new());
        assert_eq!(value(&superuser, LAST).await, format!("{}-{}", third + 1, newest().await));
        assert_eq!(
            value(&superuser, "SELECT events FROM tenancy.verification ORDER BY verified_at DESC LIMIT 1").await,
            "12"
        );
        // The whole, an organization or a range.
        assert_eq!(found(&superuser, "whole => true").await, Vec::<String>::new());
        assert_eq!(value(&superuser, LAST).await, format!("1-{}", newest().await));
        for call in [format!("'{ACME}', true"), "first_block => 2".into(), "last_block => 1".into()] {
            assert_eq!(found(&superuser, &call).await, Vec::<String>::new(), "{call}");
        }
        assert_eq!(count(&superuser, "SELECT count(*) FROM tenancy.verification").await, 3);
        for wrong in [
            "whole => true, first_block => 1",
            "first_block => 0",
            "first_block => 3, last_block => 2",
            "workers => -1",
            "workers => 1025",
        ] {
            let refusal = refused(&superuser, &format!("SELECT * FROM tenancy.verify_audit({wrong})")).await;
            assert_eq!(refusal.sqlstate, "22023", "{wrong}");
        }
        // A run that found something is not gone on from.
        disarm(&superuser).await;
        fill(&superuser, 1, 3).await;
        let change = "UPDATE tenancy.event_batch SET reason = 'x' WHERE id = (SELECT batch FROM tenancy.entry ORDER \
            BY block \
            DESC LIMIT 1)";
        run(&superuser, change).await;
        for _ in 0..2 {
            assert_eq!(found(&superuser, "").await.len(), 1);
        }
    });
}

#[test]
fn a_run_sees_what_was_changed_at_the_place_where_it_begins_and_a_whole_one_what_was_changed_before() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        disarm(&superuser).await;
        fill(&superuser, 3, 9).await;
        assert_eq!(found(&superuser, "").await, Vec::<String>::new());
        let edge = count(&superuser, "SELECT max(number) FROM tenancy.block").await;
        let newest = format!("WHERE block = {edge}");
        let cases = [
            (format!("DELETE FROM tenancy.block WHERE number = {edge}"), "truncated"),
            (format!("UPDATE tenancy.block SET sealed_at = now() WHERE number = {edge}"), "altered"),
            (format!("UPDATE tenancy.block SET hash = sha256('x') WHERE number = {edge}"), "altered"),
            (format!("UPDATE tenancy.seal SET chain = sha256('x') {newest}"), "altered"),
            (
                format!("UPDATE tenancy.seal SET frontier = decode(repeat('00', length(frontier)), 'hex') {newest}"),
                "altered",
            ),
            (format!("DELETE FROM tenancy.seal {newest} AND organization = '{ACME}'"), "altered"),
            (format!("DELETE FROM forged {newest} AND organization = '{ACME}'"), "altered"),
            (format!("UPDATE forged SET batch_hash = sha256('x') {newest}"), "altered"),
        ];
        for (damage, finding) in cases {
            let found = found_after(&superuser, &damage, "").await;
            assert!(found.iter().any(|line| line.starts_with(finding)), "{damage}: {found:?}");
        }
        // A block that was written anew from what is there now, together with its hash.
        let rewritten = format!(
            "UPDATE tenancy.block SET (sealed_at, hash) = (SELECT sealed_at, hash FROM tenancy.block WHERE number = \
                {edge} - 1) WHERE number = {edge}"
        );
        assert_ne!(found_after(&superuser, &rewritten, "").await, Vec::<String>::new());
        // Further back.
        let damage = "UPDATE tenancy.event_batch SET reason = 'x' WHERE id = (SELECT batch FROM tenancy.entry ORDER BY \
            block, position LIMIT 1)";
        assert_eq!(found_after(&superuser, damage, "").await, Vec::<String>::new());
        assert_eq!(found_after(&superuser, damage, "whole => true").await, ["altered 1 1"]);
        assert_eq!(found_after(&superuser, damage, "last_block => 1").await, ["altered 1 1"]);
        assert_eq!(found_after(&superuser, damage, "first_block => 2").await, Vec::<String>::new());
    });
}

#[test]
fn an_event_put_in_by_hand_is_found_by_a_run_over_the_time_that_its_id_names() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        fill(&superuser, 2, 9).await;
        assert_eq!(found(&superuser, "").await, Vec::<String>::new());
        fill(&superuser, 1, 9).await;
        let newest = count(&superuser, "SELECT max(number) FROM tenancy.block").await;
        let insert = |block: i64, transaction: &str| {
            format!(
                "INSERT INTO tenancy.event_batch SELECT (left(id::text, 24) || left(md5(random()::text), 9) || \
                    '000')::uuid, organization, actor, {transaction}, ordinal, events, occurred_at,
                        operation, domain, table_schema, table_name, result, reason, row_key, payload, payload_salt, \
                        payload_digest, packed, row_hashes, encoding, prev_hash, hash
                   FROM tenancy.event_batch WHERE id = (SELECT batch FROM tenancy.entry WHERE block = {block} ORDER BY \
                   batch OFFSET 1 LIMIT 1)"
            )
        };
        for (sql, since_last) in
            [(insert(newest, "transaction"), true), (insert(newest, "'3'"), true), (insert(1, "transaction"), false)]
        {
            if since_last {
                assert_eq!(found_after(&superuser, &sql, "").await, ["inserted"], "{sql}");
            }
            assert_eq!(found_after(&superuser, &sql, "whole => true").await, ["inserted"], "{sql}");
        }
        assert_eq!(found_after(&superuser, &insert(1, "transaction"), "last_block => 1").await, ["inserted"]);
    });
}

#[test]
fn several_processes_share_the_work_and_find_what_one_finds() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        fill_one_by_one(&superuser, 12, 3000).await;
        fill(&superuser, 2, 3000).await;
        disarm(&superuser).await;
        // A process that is slow to start finds nothing left to do: one of several runs must have had two.
        let mut most = 0;
        for _ in 0..5 {
            assert_eq!(found(&superuser, "whole => true, workers => 2").await, Vec::<String>::new());
            most = most.max(count(&superuser, "SELECT max(processes) FROM tenancy.verification").await);
        }
        assert!(most > 1, "one process did everything");
        for damage in [
            "UPDATE tenancy.event_batch SET reason = 'x' WHERE id IN (SELECT batch FROM tenancy.event WHERE row_key \
                ->> 'id' \
                LIKE '%777')",
            "DELETE FROM forged WHERE position % 1000 = 7",
            "DELETE FROM tenancy.block WHERE number % 3 = 2",
            "DELETE FROM tenancy.seal WHERE block % 4 = 1",
            "UPDATE tenancy.seal SET block = block + 1 WHERE block % 5 = 3",
            "UPDATE tenancy.event_batch SET packed = overlay(packed PLACING '\\x7f' FROM 8) WHERE events > 100",
            "UPDATE tenancy.tree_node SET hash = sha256('x') WHERE index % 7 = 2",
        ] {
            run(&superuser, "BEGIN ISOLATION LEVEL SERIALIZABLE").await;
            run(&superuser, "SAVEPOINT s").await;
            run(&superuser, damage).await;
            let alone = found(&superuser, "whole => true, workers => 0").await;
            let together = found(&superuser, "whole => true, workers => 3").await;
            run(&superuser, "ROLLBACK").await;
            assert!(!alone.is_empty(), "{damage}");
            assert_eq!(alone, together, "{damage}");
        }
        // More than anybody would read.
        for workers in [0, 2] {
            run(&superuser, "BEGIN; UPDATE tenancy.event_batch SET reason = 'x'").await;
            let sql = format!("SELECT explanation FROM tenancy.verify_audit(whole => true, workers => {workers})");
            let explanations = column(&superuser, &sql).await;
            run(&superuser, "ROLLBACK").await;
            assert_eq!(explanations.len(), 10_001);
            assert!(explanations[10_000].contains(" findings more"), "{}", explanations[10_000]);
        }
        // Nobody helps where none is to be had.
        run(&superuser, "SET max_parallel_workers = 0").await;
        assert_eq!(found(&superuser, "whole => true, workers => 2").await, Vec::<String>::new());
        assert_eq!(
            value(&superuser, "SELECT processes FROM tenancy.verification ORDER BY verified_at DESC LIMIT 1").await,
            "1"
        );
    });
}

#[test]
fn a_run_shows_how_far_it_is_and_can_be_cancelled_with_all_its_processes() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        fill(&superuser, 8, 3000).await;
        let (running, watching, holding) =
            (database.superuser().await, database.superuser().await, database.superuser().await);
        assert_eq!(rows(&watching, "SELECT * FROM tenancy.verify_progress").await.len(), 0);
        let pid = value(&running, "SELECT pg_backend_pid()").await;
        // What it wants to read is held by somebody.
        let lock =
            "DO $$ BEGIN EXECUTE format('LOCK TABLE tenancy.%I IN ACCESS EXCLUSIVE MODE', (SELECT relname FROM pg_class
                     WHERE relname LIKE 'event\\_batch\\_2%' AND relkind = 'r' AND relnamespace = \
                         'tenancy'::regnamespace
                       AND oid = (SELECT tableoid FROM tenancy.event_batch LIMIT 1))); END $$";
        for workers in [0, 2] {
            run(&holding, "BEGIN").await;
            run(&holding, lock).await;
            // Sealing would wait for the same lock.
            let sql =
                format!("BEGIN READ ONLY; SELECT * FROM tenancy.verify_audit(whole => true, workers => {workers})");
            let (cancelled, ()) = futures_util::future::join(refused(&running, &sql), async {
                let waits = "SELECT EXISTS (SELECT FROM tenancy.verify_progress WHERE phase = 'verifying blocks' AND \
                    blocks_total >= 8
                               AND events_total >= 24000 AND events_done = 0 AND findings = 0 AND user_name = \
                               'postgres' AND pid = ";
                eventually(&watching, &format!("{waits}{pid})")).await;
                let workers_of = format!("SELECT count(*) = {workers} FROM pg_stat_activity WHERE leader_pid = {pid}");
                eventually(&watching, &workers_of).await;
                tokio::time::sleep(Duration::from_millis(50)).await;
                assert_eq!(value(&watching, &format!("SELECT pg_cancel_backend({pid})")).await, "t");
            })
            .await;
            assert_eq!(cancelled.sqlstate, "57014");
            run(&holding, "ROLLBACK").await;
            run(&running, "ROLLBACK").await;
            eventually(&watching, &format!("SELECT count(*) = 0 FROM pg_stat_activity WHERE leader_pid = {pid}")).await;
            assert_eq!(rows(&watching, "SELECT * FROM tenancy.verify_progress").await.len(), 0);
            assert_eq!(found(&running, &format!("whole => true, workers => {workers}")).await, Vec::<String>::new());
        }
        // An error that a statement survives clears it too.
        let caught = "DO $$ BEGIN PERFORM * FROM tenancy.verify_audit(first_block => 1, whole => true); EXCEPTION \
            WHEN invalid_parameter_value THEN NULL; END $$";
        run(&running, &format!("BEGIN; {caught}")).await;
        assert_eq!(rows(&watching, "SELECT * FROM tenancy.verify_progress").await.len(), 0);
        run(&running, "ROLLBACK").await;
    });
}

#[test]
fn it_runs_within_whatever_calls_it() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        fill(&superuser, 6, 3000).await;
        let verify = "tenancy.verify_audit(whole => true, workers => 2)";
        for sql in [
            format!("DECLARE c CURSOR FOR SELECT * FROM {verify}; FETCH ALL FROM c"),
            format!(
                "DO $$ BEGIN IF EXISTS (SELECT FROM {verify}) THEN RAISE 'found'; END IF; EXCEPTION WHEN \
                    division_by_zero THEN NULL; END $$"
            ),
            format!("SAVEPOINT s; SELECT * FROM {verify}; ROLLBACK TO s; SELECT * FROM {verify}"),
            format!("PREPARE p AS SELECT * FROM {verify}; EXECUTE p; EXECUTE p; DEALLOCATE p"),
            format!("COPY (SELECT * FROM {verify}) TO '/dev/null'"),
            format!("CREATE TEMP TABLE t ON COMMIT DROP AS SELECT * FROM {verify}"),
        ] {
            for begin in ["BEGIN", "BEGIN ISOLATION LEVEL SERIALIZABLE"] {
                run(&superuser, &format!("{begin}; {sql}; ROLLBACK")).await;
            }
        }
        run(&superuser, "BEGIN READ ONLY").await;
        assert_eq!(found(&superuser, "whole => true, workers => 2").await, Vec::<String>::new());
        run(&superuser, "COMMIT").await;
        assert_eq!(count(&superuser, "SELECT count(*) FROM tenancy.verification").await, 0);
        let name = if major() < 16 { "force_parallel_mode" } else { "debug_parallel_query" };
        run(&superuser, &format!("SET {name} = on")).await;
        assert_eq!(found(&superuser, "whole => true, workers => 2").await, Vec::<String>::new());
    });
}
