//! Writers wait while more events are unsealed than `tenancy.max_unsealed_events`, on a server of its own.

use crate::common::*;
use crate::worker::{OFTEN, Sealing, assert_sealed, insert, insert_many, on_a_server, set_up};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio_postgres::Client;

/// Above so many unsealed events writers wait.
const LIMIT: i64 = 200;

impl Sealing {
    /// Ends the server and starts it with the limit.
    fn limit(&self, settings: &str) {
        self.server.stop("fast");
        self.serve(&format!("{OFTEN} -c tenancy.max_unsealed_events={LIMIT} {settings}"));
    }

    /// A session of a role that is no superuser and that no policy binds.
    async fn writer(&self, database: &str) -> Client {
        connect(self.config(database).user("writer")).await
    }
}

/// The table, a role that may write for everybody, and a table without events.
async fn set_up_for_writers(client: &Client) {
    set_up(client).await;
    run(
        client,
        "DO $$ BEGIN CREATE ROLE writer LOGIN BYPASSRLS; EXCEPTION WHEN duplicate_object THEN END $$;
         SELECT tenancy.set_guardrail('row_security_bypass', 'off', 'a role that writes for everybody');
         CREATE TABLE plain (id integer PRIMARY KEY, n integer);
         INSERT INTO plain VALUES (1, 0);
         GRANT SELECT, INSERT, UPDATE ON finding, plain TO writer;
         GRANT tenancy_auditor, pg_execute_server_program TO writer",
    )
    .await;
    assert_sealed(client).await;
}

/// The launcher does nothing until this is dropped, so that nothing is sealed.
struct Stopped(i64);

impl Stopped {
    async fn begin(client: &Client) -> Self {
        // What it has begun ends first.
        eventually(client, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'pg_tenancy sealer')")
            .await;
        let stopped = Stopped(launcher(client).await);
        stopped.signal("-STOP");
        stopped
    }

    fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.0.to_string()]).status().unwrap().success());
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.signal("-CONT");
    }
}

async fn launcher(client: &Client) -> i64 {
    count(client, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_tenancy launcher'").await
}

/// Events beyond the limit, of a superuser.
async fn exceed(client: &Client) {
    run(client, &insert_many(0, LIMIT as i32 + 1)).await;
}

const COUNTED: &str = "SELECT counted_events FROM tenancy.throttle_state()";
const LAG: &str = "SELECT unsealed_events FROM tenancy.audit_lag";
const WAITING: &str = "SELECT waiting_sessions FROM tenancy.audit_lag";

/// What the count says is what the tables say.
async fn assert_counted(client: &Client, events: i64) {
    assert_eq!([count(client, COUNTED).await, count(client, LAG).await], [events, events]);
}

/// Runs the statement, and returns how long that took.
async fn timed(client: &Client, sql: &str) -> Duration {
    let began = Instant::now();
    run(client, sql).await;
    began.elapsed()
}

/// Long enough to have waited for a moment, and so short that nobody has waited for the sealer.
const WAITED: Duration = Duration::from_millis(700);
const SOON: Duration = Duration::from_secs(4);

#[test]
fn writers_wait_above_the_limit_and_the_tail_grows_no_further() {
    on_a_server("throttle", async |sealing| {
        let admin = sealing.client("postgres").await;
        set_up_for_writers(&admin).await;
        let issuer = issuer::Issuer::generate();
        let file = key_file(&admin, &issuer.key_set()).await;
        let register = "SELECT tenancy.set_issuer($1, ARRAY[$2], jwks_file => $3)";
        admin.execute(register, &[&issuer::ISSUER, &issuer::AUDIENCE, &file]).await.unwrap();
        run(
            &admin,
            "CREATE ROLE app LOGIN; GRANT tenancy_application TO app; GRANT SELECT, INSERT ON finding TO app;
             SELECT tenancy.create_role('editor'), tenancy.grant_permission('editor', '*', '*'),
                    tenancy.set_membership('aaaaaaaa-0000-4000-8000-000000000001', 'edith', 'editor')",
        )
        .await;
        drop(admin);
        sealing.limit("");
        let admin = sealing.client("postgres").await;
        assert_sealed(&admin).await;

        let stop = Arc::new(AtomicBool::new(false));
        let mut writers = Vec::new();
        for n in 0..4 {
            let (mut config, stop) = (sealing.config("postgres"), stop.clone());
            config.user(if n < 2 { "app" } else { "writer" });
            let token = issuer.token("edith");
            writers.push(tokio::spawn(async move {
                let writer = connect(&config).await;
                let mut transactions = 0;
                while !stop.load(Ordering::Relaxed) {
                    if n < 2 {
                        as_tenant(&writer, &token).await;
                        run(&writer, &format!("{}; COMMIT", insert_many(n, 10))).await;
                    } else {
                        run(&writer, &insert_many(n, 10)).await;
                    }
                    transactions += 1;
                }
                transactions
            }));
        }
        // Each writer may have begun a transaction before the limit was reached.
        let most = LIMIT + 4 * 10;
        let mut seen = 0;
        let mut sample = async |client: &Client| {
            let unsealed = count(client, LAG).await;
            assert!(unsealed <= most, "{unsealed} events are unsealed");
            seen = seen.max(unsealed);
        };
        for _ in 0..20 {
            sample(&admin).await;
        }
        // Sealing stands still for a while: the tail grows to the limit, and all wait.
        let stopped = Stopped::begin(&admin).await;
        eventually(&admin, &format!("SELECT ({WAITING}) = 4")).await;
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(3) {
            sample(&admin).await;
        }
        assert_eq!(count(&admin, WAITING).await, 4);
        let shown = "SELECT count(*) FROM pg_stat_activity WHERE usename IN ('app', 'writer') AND state = 'active' AND \
                     wait_event_type = 'Extension'";
        eventually(&admin, &format!("SELECT ({shown}) = 4")).await;
        assert_eq!(value(&admin, "SELECT event_limit FROM tenancy.audit_lag").await, LIMIT.to_string());
        drop(stopped);
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(2) {
            sample(&admin).await;
        }
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            assert!(writer.await.unwrap() > 5);
        }
        assert!(seen > LIMIT, "the limit was never reached");
        assert_sealed(&admin).await;
        eventually(&admin, &format!("SELECT ({COUNTED}) = 0")).await;
        assert_eq!(count(&admin, WAITING).await, 0);
    });
}

#[test]
fn nobody_waits_for_a_sealer_that_stands_still() {
    on_a_server("throttle_open", async |sealing| {
        let admin = sealing.client("postgres").await;
        set_up_for_writers(&admin).await;
        drop(admin);
        sealing.limit("");
        let admin = sealing.client("postgres").await;
        assert_sealed(&admin).await;
        let stopped = Stopped::begin(&admin).await;
        let writer = sealing.writer("postgres").await;
        exceed(&admin).await;
        let state =
            "SELECT given_up || ' ' || (SELECT count(*) FROM tenancy.advise() WHERE rule = 'writers_not_slowed')
                       FROM tenancy.audit_lag";
        assert_eq!(value(&admin, state).await, "false 0");
        let first = timed(&writer, &insert_many(1, 1)).await;
        assert!((Duration::from_secs(8)..Duration::from_secs(20)).contains(&first), "{first:?}");
        let then = timed(&writer, &format!("{0}; {0}; {0}", insert_many(2, 1))).await;
        assert!(then < SOON, "{then:?}");
        assert_eq!(value(&admin, state).await, "true 1");
        let log = value(&admin, "SELECT pg_read_file('server.log')").await;
        let told = log.matches("events are not sealed, and the sealer has made no progress for 10 seconds").count();
        assert_eq!(told, 1, "{log}");

        // The sealer works again, and so does the limit.
        drop(stopped);
        assert_sealed(&admin).await;
        eventually(&admin, &format!("SELECT ({COUNTED}) = 0")).await;
        assert_eq!(value(&admin, state).await, "false 0");
        let stopped = Stopped::begin(&admin).await;
        exceed(&admin).await;
        let waits = insert_many(3, 1);
        let (_, again) = tokio::join!(
            async {
                tokio::time::sleep(Duration::from_secs(2)).await;
                drop(stopped);
            },
            timed(&writer, &waits)
        );
        assert!((Duration::from_secs(1)..Duration::from_secs(9)).contains(&again), "{again:?}");
        assert_sealed(&admin).await;
    });
}

#[test]
fn who_waits_can_be_cancelled_and_is_counted_no_longer() {
    on_a_server("throttle_cancel", async |sealing| {
        let admin = sealing.client("postgres").await;
        set_up_for_writers(&admin).await;
        drop(admin);
        sealing.limit("");
        let admin = sealing.client("postgres").await;
        assert_sealed(&admin).await;
        let _stopped = Stopped::begin(&admin).await;
        let writer = sealing.writer("postgres").await;
        exceed(&admin).await;
        let began = Instant::now();
        run(&writer, "SET statement_timeout = 300").await;
        assert_eq!(refused(&writer, &insert_many(1, 1)).await.sqlstate, "57014");
        // Also where the error does not end the transaction.
        run(&writer, "BEGIN; SAVEPOINT s").await;
        assert_eq!(refused(&writer, &insert_many(1, 1)).await.sqlstate, "57014");
        run(&writer, "ROLLBACK TO s").await;
        assert_eq!(count(&admin, WAITING).await, 0);
        run(&writer, "ROLLBACK").await;
        run(&writer, "RESET statement_timeout").await;
        for (function, sqlstate) in [("pg_cancel_backend", "57014"), ("pg_terminate_backend", "57P01")] {
            let end = format!("SELECT {function}(pid) FROM pg_stat_activity WHERE usename = 'writer'");
            let end = async {
                eventually(&admin, &format!("SELECT ({WAITING}) = 1")).await;
                run(&admin, &end).await;
            };
            let waits = insert_many(1, 1);
            let (refusal, ()) = tokio::join!(refused(&writer, &waits), end);
            assert_eq!(refusal.sqlstate, sqlstate);
            eventually(&admin, &format!("SELECT ({WAITING}) = 0")).await;
        }
        assert!(began.elapsed() < Duration::from_secs(9), "{:?}: the sealer was given up", began.elapsed());
        assert_eq!(count(&admin, "SELECT count(*) FROM finding WHERE title = '1'").await, 0);
    });
}

#[test]
fn only_what_writes_events_waits_and_nobody_holds_locks_for_long() {
    on_a_server("throttle_who", async |sealing| {
        let admin = sealing.client("postgres").await;
        set_up_for_writers(&admin).await;
        run(
            &admin,
            "CREATE FUNCTION write_one() RETURNS void LANGUAGE sql AS $$ INSERT INTO finding (organization_id, title)
                 VALUES ('aaaaaaaa-0000-4000-8000-000000000001', 'f') $$",
        )
        .await;
        run(&admin, "CREATE DATABASE other").await;
        let other = sealing.client("other").await;
        set_up_for_writers(&other).await;
        drop((admin, other));
        sealing.limit("");
        let admin = sealing.client("postgres").await;
        assert_sealed(&admin).await;
        let other = sealing.client("other").await;
        assert_sealed(&other).await;
        let (one, two) = (sealing.writer("postgres").await, sealing.writer("postgres").await);
        let of_other = sealing.writer("other").await;
        let stopped = Stopped::begin(&admin).await;
        exceed(&admin).await;

        // A superuser, reads, a table without events, sealing by hand, the other database.
        let soon = [
            timed(&admin, &insert_many(1, 1)).await,
            timed(&one, "SELECT count(*) FROM finding").await,
            timed(&one, "INSERT INTO plain VALUES (2, 0)").await,
            timed(&one, "EXPLAIN INSERT INTO finding (organization_id) SELECT gen_random_uuid()").await,
            timed(&of_other, &insert_many(1, 1)).await,
        ];
        assert!(soon.iter().all(|time| *time < SOON), "{soon:?}");
        // What waits, until it is cancelled.
        run(&one, "SET statement_timeout = 400").await;
        for statement in [
            &insert_many(2, 1),
            "UPDATE finding SET title = 'u'",
            "WITH w AS (INSERT INTO finding (organization_id) SELECT organization_id FROM finding RETURNING 1) SELECT \
             count(*) FROM w",
            "SELECT write_one()",
            "EXPLAIN ANALYZE UPDATE finding SET title = 'e'",
        ] {
            let refusal = refused(&one, statement).await;
            assert_eq!(refusal.sqlstate, "57014", "{statement}");
        }
        // Longer than it would wait at its first event.
        run(&one, "SET statement_timeout = 1500").await;
        let copy =
            "COPY finding (organization_id, title) FROM PROGRAM 'echo aaaaaaaa-0000-4000-8000-000000000001,c' CSV";
        assert_eq!(refused(&one, copy).await.sqlstate, "57014");
        run(&one, "RESET statement_timeout").await;
        seal(&admin).await;
        exceed(&admin).await;
        let began = Instant::now();

        // Who holds a lock that another writer waits for goes on after a moment.
        run(&one, "BEGIN; UPDATE plain SET n = 1 WHERE id = 1").await;
        let ((), first) = tokio::join!(run(&two, "UPDATE plain SET n = 2 WHERE id = 1"), async {
            let first = timed(&one, &insert_many(3, 1)).await;
            let second = timed(&one, &insert_many(3, 1)).await;
            assert!(second < WAITED, "it waited twice: {second:?}");
            run(&one, "COMMIT").await;
            first
        });
        assert!((WAITED..Duration::from_secs(4)).contains(&first), "{first:?}");
        assert!(began.elapsed() < Duration::from_secs(9), "{:?}: the sealer was given up", began.elapsed());
        assert_eq!(value(&admin, "SELECT given_up FROM tenancy.audit_lag").await, "f");

        // One that has written nothing yet waits as long as it takes, and ends when somebody seals by hand.
        run(&one, "BEGIN").await;
        let (time, ()) = tokio::join!(timed(&one, "UPDATE finding SET title = 'b' WHERE id = 1"), async {
            eventually(&admin, &format!("SELECT ({WAITING}) = 1")).await;
            seal(&admin).await;
        });
        assert!(time < Duration::from_secs(9), "{time:?}");
        run(&one, "COMMIT").await;
        drop(stopped);
        for client in [&admin, &other] {
            assert_sealed(client).await;
        }
    });
}

#[test]
fn the_count_follows_rollbacks_restarts_prepared_transactions_and_the_extension() {
    on_a_server("throttle_count", async |sealing| {
        let admin = sealing.client("postgres").await;
        set_up_for_writers(&admin).await;
        drop(admin);
        sealing.limit("-c tenancy.seal_batch=50");
        let admin = sealing.client("postgres").await;
        assert_sealed(&admin).await;
        eventually(&admin, &format!("SELECT ({COUNTED}) = 0")).await;
        let stopped = Stopped::begin(&admin).await;
        run(
            &admin,
            &format!("BEGIN; SAVEPOINT s; {}; ROLLBACK TO s; {}; COMMIT", insert_many(0, 50), insert_many(0, 7)),
        )
        .await;
        run(&admin, &format!("BEGIN; SAVEPOINT s; {}; RELEASE s; COMMIT", insert_many(0, 3))).await;
        run(&admin, &format!("BEGIN; {}; ROLLBACK", insert_many(0, 50))).await;
        assert_counted(&admin, 10).await;
        run(&admin, "BEGIN; SELECT tenancy.seal(); ROLLBACK").await;
        run(&admin, "BEGIN; SAVEPOINT s; SELECT tenancy.seal(); ROLLBACK TO s; COMMIT").await;
        assert_counted(&admin, 10).await;
        run(&admin, "BEGIN; SAVEPOINT s; SELECT tenancy.seal(); RELEASE s; COMMIT").await;
        assert_counted(&admin, 0).await;

        // Prepared: its events are counted when it is committed, by the next process that seals.
        run(&admin, &format!("BEGIN; {}; PREPARE TRANSACTION 'one'", insert_many(0, 300))).await;
        run(&admin, &format!("BEGIN; {}; PREPARE TRANSACTION 'two'", insert_many(0, 5))).await;
        assert_counted(&admin, 0).await;
        run(&admin, "ROLLBACK PREPARED 'two'").await;
        // This one keeps all sealers away, also over a crash.
        run(&admin, "BEGIN; LOCK TABLE tenancy.block IN SHARE UPDATE EXCLUSIVE MODE; PREPARE TRANSACTION 'lock'").await;
        run(&admin, "COMMIT PREPARED 'one'").await;
        drop(stopped);
        eventually(&admin, &format!("SELECT ({COUNTED}) = 300")).await;
        assert_counted(&admin, 300).await;
        let writer = sealing.writer("postgres").await;
        run(&writer, "SET statement_timeout = 300").await;
        assert_eq!(refused(&writer, &insert_many(1, 1)).await.sqlstate, "57014");

        // A crash forgets the count, and the process that seals counts before it begins.
        let pid = launcher(&admin).await;
        assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
        let mut again = None;
        while again.is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
            again = try_connect(&sealing.config("postgres")).await.ok();
        }
        let admin = again.unwrap();
        eventually(&admin, &format!("SELECT ({COUNTED}) = 300")).await;
        run(&admin, "ROLLBACK PREPARED 'lock'").await;
        assert_sealed(&admin).await;
        eventually(&admin, &format!("SELECT ({COUNTED}) = 0")).await;

        // Written by hand, and by no commit that told of it.
        run(
            &admin,
            "CREATE TEMPORARY TABLE copied AS SELECT * FROM tenancy.event_batch LIMIT 1;
             UPDATE copied SET id = overlay(id::text PLACING '8fff' FROM 20)::uuid,
                 transaction = pg_current_xact_id(), events = 1000;
             INSERT INTO tenancy.event_batch SELECT * FROM copied",
        )
        .await;
        // Its transaction has yet to come, as those of a dump of an older cluster.
        run(
            &admin,
            "UPDATE copied SET id = overlay(id::text PLACING '8ffe' FROM 20)::uuid, transaction = '1000000000000';
             INSERT INTO tenancy.event_batch SELECT * FROM copied",
        )
        .await;
        insert(&admin, "beside it").await;
        eventually(&admin, &format!("SELECT ({LAG}) = 0")).await;
        eventually(&admin, &format!("SELECT ({COUNTED}) = 0")).await;

        // The extension goes while much is unsealed, and comes back.
        let stopped = Stopped::begin(&admin).await;
        exceed(&admin).await;
        run(&admin, "DROP EXTENSION pg_tenancy CASCADE; DROP TABLE finding, plain").await;
        drop(stopped);
        set_up_for_writers(&admin).await;
        eventually(&admin, &format!("SELECT ({COUNTED}) = 0")).await;
        assert_counted(&admin, 0).await;

        // A database of the same name, and one that is copied with what is unsealed.
        run(&admin, "CREATE DATABASE one").await;
        let one = sealing.client("one").await;
        set_up_for_writers(&one).await;
        let stopped = Stopped::begin(&admin).await;
        exceed(&one).await;
        drop(one);
        let gone = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = 'one')";
        eventually(&admin, gone).await;
        run(&admin, "CREATE DATABASE copy TEMPLATE one").await;
        // DROP DATABASE waits for every process of the server.
        drop(stopped);
        run(&admin, "DROP DATABASE one").await;
        run(&admin, "CREATE DATABASE one").await;
        let one = sealing.client("one").await;
        set_up_for_writers(&one).await;
        let copy = sealing.client("copy").await;
        insert(&copy, "a").await;
        for client in [&one, &copy] {
            assert_sealed(client).await;
            eventually(client, &format!("SELECT ({COUNTED}) = 0")).await;
        }
    });
}

#[test]
fn nobody_waits_where_no_worker_seals() {
    on_a_server("throttle_off", async |sealing| {
        let admin = sealing.client("postgres").await;
        set_up_for_writers(&admin).await;
        drop(admin);
        let found =
            "SELECT coalesce(string_agg(detail, ''), '') FROM tenancy.advise() WHERE rule = 'writers_not_slowed'";
        for (settings, expected) in [
            ("-c tenancy.seal_interval=0", "tenancy.seal_interval is 0, so no worker seals and writers never wait."),
            (
                "-c shared_preload_libraries='' -c session_preload_libraries=pg_tenancy",
                "The library is not in shared_preload_libraries, so writers never wait.",
            ),
            ("-c tenancy.max_unsealed_events=0", ""),
        ] {
            sealing.limit(settings);
            let admin = sealing.client("postgres").await;
            let writer = sealing.writer("postgres").await;
            let stopped = if expected.is_empty() { Some(Stopped::begin(&admin).await) } else { None };
            exceed(&admin).await;
            let time = timed(&writer, &insert_many(1, 1)).await;
            assert!(time < SOON, "{settings}: {time:?}");
            assert_eq!(value(&admin, found).await, expected);
            assert_eq!(value(&admin, "SELECT coalesce(event_limit::text, '-') FROM tenancy.audit_lag").await, "-");
            drop(stopped);
        }
        // No other role may change it.
        let writer = sealing.writer("postgres").await;
        assert_eq!(refused(&writer, "SET tenancy.max_unsealed_events = 1000000").await.sqlstate, "55P02");
    });
}
