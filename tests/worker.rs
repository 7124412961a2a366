//! The background worker on a server of its own: what was committed is sealed without anybody asking.

use crate::common::server::{Folder, Server, programs};
use crate::common::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio_postgres::{Client, Config};

/// A server with the library preloaded, and sealing every 100 ms.
pub struct Sealing {
    pub server: Server,
    _folder: Folder,
}

/// Every how many milliseconds the worker seals.
pub const OFTEN: &str = "-c tenancy.seal_interval=100";

impl Sealing {
    fn start(name: &str) -> Option<Self> {
        let folder = Folder::create(name)?;
        let server = Server::at(&programs()?, folder.0.join("data"));
        server.initialize();
        let sealing = Sealing { server, _folder: folder };
        sealing.serve(OFTEN);
        Some(sealing)
    }

    /// Starts the server.
    pub fn serve(&self, settings: &str) {
        let socket = std::env::var("PGHOST").unwrap();
        self.server.start(&format!(
            "-c unix_socket_directories={socket} -c shared_preload_libraries=pg_tenancy -c max_prepared_transactions=5 \
             -c tenancy.jwks_directory={} {settings}",
            self.server.data.display()
        ));
    }

    pub async fn client(&self, database: &str) -> Client {
        connect(&self.config(database)).await
    }

    pub fn config(&self, database: &str) -> Config {
        let mut config = self.server.config();
        config.dbname(database).application_name("test");
        config
    }
}

pub fn on_a_server(name: &str, test: impl AsyncFnOnce(&Sealing)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        match Sealing::start(name) {
            Some(server) => test(&server).await,
            None => skipped("no programs of a server to start"),
        }
    });
}

/// A protected table with a row of one organization.
pub async fn set_up(client: &Client) {
    run(
        client,
        "CREATE EXTENSION pg_tenancy;
         SELECT tenancy.create_organization('Acme', 'aaaaaaaa-0000-4000-8000-000000000001');
         CREATE TABLE finding (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, organization_id uuid NOT NULL, \
         title text);
         SELECT tenancy.protect('finding')",
    )
    .await;
}

pub async fn insert(client: &Client, title: &str) {
    let sql = format!(
        "INSERT INTO finding (organization_id, title) VALUES ('aaaaaaaa-0000-4000-8000-000000000001', '{title}')"
    );
    run(client, &sql).await;
}

const UNSEALED: &str =
    "SELECT count(*) FROM tenancy.event e WHERE NOT EXISTS (SELECT FROM tenancy.entry s WHERE s.batch = e.batch)";

/// Waits until the worker has sealed everything, and checks what it made.
pub async fn assert_sealed(client: &Client) {
    eventually(client, &format!("SELECT ({UNSEALED}) = 0")).await;
    // In a read-only transaction verify_audit seals nothing itself.
    run(client, "BEGIN READ ONLY").await;
    assert_audit_is_whole(client).await;
    run(client, "COMMIT").await;
}

#[test]
fn what_is_committed_is_sealed_without_being_asked_for() {
    on_a_server("worker", async |sealing| {
        let admin = sealing.client("postgres").await;
        // The other database has no extension, the third gets it later.
        run(&admin, "CREATE DATABASE one").await;
        run(&admin, "CREATE DATABASE other").await;
        let one = sealing.client("one").await;
        set_up(&one).await;
        assert_sealed(&one).await;
        for n in 0..3 {
            insert(&one, &n.to_string()).await;
            assert_sealed(&one).await;
        }
        let other = sealing.client("other").await;
        set_up(&other).await;
        insert(&other, "x").await;
        assert_sealed(&other).await;

        // What a savepoint took back is not waited for; what is prepared is, in whatever session it is committed.
        run(&one, "BEGIN; SAVEPOINT s").await;
        insert(&one, "gone").await;
        run(&one, "ROLLBACK TO s; COMMIT; BEGIN").await;
        insert(&one, "prepared").await;
        run(&one, "PREPARE TRANSACTION 'p'").await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(count(&one, UNSEALED).await, 0);
        let again = sealing.client("one").await;
        run(&again, "COMMIT PREPARED 'p'").await;
        eventually(
            &one,
            "SELECT count(*) = 4 FROM tenancy.entry s JOIN tenancy.event e ON e.batch = s.batch AND e.domain = \
                'finding'",
        )
        .await;
        assert_sealed(&one).await;
    });
}

#[test]
fn settings_of_a_database_or_a_role_do_not_stop_the_sealer() {
    on_a_server("settings", async |sealing| {
        let admin = sealing.client("postgres").await;
        run(&admin, "CREATE DATABASE one").await;
        run(&admin, "CREATE ROLE nobody").await;
        let one = sealing.client("one").await;
        set_up(&one).await;
        assert_sealed(&one).await;
        for setting in [
            "role = nobody",
            "search_path = shadow",
            "session_replication_role = replica",
            "default_transaction_read_only = on",
            "default_transaction_isolation = serializable",
            "statement_timeout = '1ms'",
            "row_security = off",
            "TimeZone = 'Pacific/Kiritimati'",
        ] {
            for whose in ["DATABASE one", "ROLE postgres IN DATABASE one"] {
                run(&admin, &format!("ALTER {whose} SET {setting}")).await;
                insert(&one, setting.split(' ').next().unwrap()).await;
                assert_sealed(&one).await;
                run(&admin, &format!("ALTER {whose} RESET ALL")).await;
            }
        }
    });
}

#[test]
fn the_log_says_that_nothing_is_sealed_for_want_of_a_process() {
    on_a_server("processes", async |sealing| {
        let admin = sealing.client("postgres").await;
        set_up(&admin).await;
        assert_sealed(&admin).await;
        drop(admin);
        // The launcher alone has a place (and the launcher of logical replication, which needs none of its own here).
        sealing.server.stop("fast");
        sealing.serve(&format!("{OFTEN} -c max_worker_processes=1 -c max_logical_replication_workers=0"));
        let admin = sealing.client("postgres").await;
        insert(&admin, "waits").await;
        let told =
            "SELECT pg_read_file('server.log') LIKE '%databases wait to be sealed, and no background worker is free%'";
        eventually(&admin, told).await;
        assert!(count(&admin, UNSEALED).await > 0);
        // What the hint says helps.
        seal(&admin).await;
        assert_sealed(&admin).await;
    });
}

#[test]
fn the_worker_is_in_nobodys_way() {
    on_a_server("worker-way", async |sealing| {
        let admin = sealing.client("postgres").await;
        run(&admin, "CREATE DATABASE one").await;
        let one = sealing.client("one").await;
        set_up(&one).await;
        // A default for clients does not stop it.
        run(&one, "ALTER DATABASE one SET default_transaction_read_only = on").await;
        insert(&one, "a").await;
        assert_sealed(&one).await;
        run(&one, "ALTER DATABASE one RESET default_transaction_read_only").await;

        // Somebody else seals in an open transaction: the worker tries again until that is over.
        let by_hand = sealing.client("one").await;
        run(&by_hand, "BEGIN; LOCK TABLE tenancy.block IN SHARE UPDATE EXCLUSIVE MODE").await;
        insert(&one, "b").await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(count(&one, UNSEALED).await, 1);
        insert(&one, "nobody waits").await;
        run(&by_hand, "COMMIT").await;
        drop(by_hand);
        assert_sealed(&one).await;

        run(&one, "DROP EXTENSION pg_tenancy CASCADE").await;
        run(&one, "CREATE TABLE t (a int); INSERT INTO t VALUES (1)").await;
        run(&one, "DROP TABLE finding").await;
        set_up(&one).await;
        insert(&one, "c").await;
        assert_sealed(&one).await;
        // Dropped and copied in the middle of its work.
        insert(&one, "d").await;
        drop(one);
        eventually(
            &admin,
            "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = 'one' AND application_name = 'test'",
        )
        .await;
        run(&admin, "CREATE DATABASE copy TEMPLATE one").await;
        run(&admin, "DROP DATABASE one").await;
        let copy = sealing.client("copy").await;
        insert(&copy, "e").await;
        assert_sealed(&copy).await;
        assert_eq!(count(&copy, "SELECT count(DISTINCT incarnation) FROM tenancy.block").await, 2);
        assert_eq!(
            count(
                &copy,
                "SELECT count(*) FROM tenancy.incarnation i JOIN tenancy.block b ON b.number = i.first_block \
                AND b.incarnation = i.name"
            )
            .await,
            2
        );
    });
}

#[test]
fn the_worker_outlives_crashes_and_restarts() {
    on_a_server("worker-crash", async |sealing| {
        let one = sealing.client("postgres").await;
        set_up(&one).await;
        insert(&one, "a").await;
        assert_sealed(&one).await;

        // A killed launcher takes the server through recovery, and comes back with it.
        let launcher = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_tenancy launcher'";
        let pid = count(&one, launcher).await;
        insert(&one, "b").await;
        assert!(std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
        let mut again = None;
        for _ in 0..200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if let Ok(client) = try_connect(&sealing.config("postgres")).await {
                again = Some(client);
                break;
            }
        }
        let one = again.unwrap();
        assert_sealed(&one).await;
        assert!(count(&one, launcher).await != pid);

        // One that is asked to end does, and is started again.
        let pid = count(&one, launcher).await;
        run(&one, &format!("SELECT pg_terminate_backend({pid})")).await;
        insert(&one, "c").await;
        assert_sealed(&one).await;

        // Sealing is switched off, and what was committed meanwhile is found after a restart.
        run(&one, "ALTER SYSTEM SET tenancy.seal_interval = 0").await;
        drop(one);
        sealing.server.stop("fast");
        sealing.serve("");
        let one = sealing.client("postgres").await;
        insert(&one, "d").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(count(&one, &format!("{UNSEALED} AND e.domain = 'finding'")).await, 1);
        run(&one, "ALTER SYSTEM RESET tenancy.seal_interval").await;
        run(&one, "SELECT pg_reload_conf()").await;
        assert_sealed(&one).await;
    });
}

/// Events of what was refused, as lines: organization's first letter, operation, domain, subject, reason.
const REFUSED: &str =
    "SELECT left(organization::text, 1) || ' ' || operation || ' ' || domain || ' ' || coalesce(subject, '-') || ' ' ||
    split_part(reason, ':', 1) FROM tenancy.audit_trail WHERE result = 'denied' ORDER BY 1";

#[test]
fn what_was_refused_is_recorded_though_it_rolled_back() {
    on_a_server("worker-refused", async |sealing| {
        let one = sealing.client("postgres").await;
        set_up(&one).await;
        let issuer = issuer::Issuer::generate();
        let file = key_file(&one, &issuer.key_set()).await;
        let register = "SELECT tenancy.set_issuer($1, ARRAY[$2], jwks_file => $3)";
        one.execute(register, &[&issuer::ISSUER, &issuer::AUDIENCE, &file]).await.unwrap();
        run(
            &one,
            "CREATE ROLE app LOGIN; GRANT tenancy_application TO app; GRANT SELECT, INSERT ON finding TO app;
             SELECT tenancy.create_role('reader'), tenancy.grant_permission('reader', '*', 'read'),
                    tenancy.set_membership('aaaaaaaa-0000-4000-8000-000000000001', 'victor', 'reader'),
                    tenancy.create_role('boss'), tenancy.grant_permission('boss', '*', '*'),
                    tenancy.set_membership('aaaaaaaa-0000-4000-8000-000000000001', 'boss', 'boss'),
                    tenancy.add_action_type('stop', 'test')",
        )
        .await;
        let app = connect(sealing.config("postgres").user("app")).await;
        let secret = issuer.token("stranger");
        for token in ["eyJhbGciOiJub25lIn0.e30.", &secret] {
            assert_eq!(authenticate(&app, token).await.unwrap_err().sqlstate, "28000");
        }
        as_tenant(&app, &issuer.token("victor")).await;
        let insert = "INSERT INTO finding (title) VALUES ('x')";
        assert_eq!(refused(&app, insert).await.sqlstate, "42501");
        run(&app, "ROLLBACK").await;
        as_tenant(&app, &issuer.token("boss")).await;
        let store = "SELECT tenancy.put_secret('n', 'v', scope => 'write')";
        assert_eq!(refused_within(&app, store).await.sqlstate, "42501");
        let approve = "SELECT tenancy.decide_action_type(tenancy.request_action_type('stop', 'test'), true, 'test')";
        assert_eq!(refused(&app, approve).await.sqlstate, "42501");
        run(&app, "ROLLBACK").await;
        as_tenant(&app, &issuer.token("boss")).await;
        assert_eq!(refused_within(&app, "SELECT tenancy.drop_member('boss', 'test')").await.sqlstate, "55000");
        let narrowed = "SELECT tenancy.set_membership('aaaaaaaa-0000-4000-8000-000000000001', 'emil', 'admin'),
                               tenancy.deny_permission('boss', 'finding', 'purge')";
        run(&one, narrowed).await;
        assert_eq!(refused(&app, "SELECT tenancy.add_member('new', 'admin')").await.sqlstate, "42501");
        run(&app, "ROLLBACK").await;
        eventually(&one, "SELECT count(*) = 7 FROM tenancy.event WHERE result = 'denied'").await;
        assert_eq!(
            column(&one, REFUSED).await,
            [
                "0 authenticate identity - token_malformed",
                "0 authenticate identity stranger membership_missing",
                "a authorize action boss self_approval",
                "a authorize finding victor permission_denied",
                "a authorize member boss last_admin",
                "a authorize member boss more_than_held",
                "a authorize secret boss action_not_approved"
            ]
        );
        // What a guardrail refused is told too, with the table.
        let refusal = refused(&one, "DROP POLICY tenancy_isolation ON finding").await;
        assert_eq!(refusal.sqlstate, "42501");
        let told = "SELECT count(*) = 1 FROM tenancy.audit_trail
             WHERE operation = 'drop_policy' AND domain = 'schema' AND result = 'denied' AND session_user_name = \
             'postgres'
               AND reason = 'protection_changed: DROP POLICY would leave table public.finding less protected'";
        eventually(&one, told).await;
        let told = "SELECT count(*) FROM tenancy.audit_trail t WHERE t::text LIKE '%eyJ%'";
        assert_eq!(count(&one, told).await, 0, "a token stands in an event");
        assert_sealed(&one).await;

        // More at once than there is room for: no session waits, and what found no place is counted.
        run(&one, "ALTER SYSTEM SET tenancy.seal_interval = '1h'").await;
        drop((one, app));
        sealing.server.stop("fast");
        sealing.serve("");
        let one = sealing.client("postgres").await;
        let app = connect(sealing.config("postgres").user("app")).await;
        let recorded = "SELECT count(*) FROM tenancy.event WHERE result = 'denied'";
        let before = count(&one, recorded).await;
        let attempts = "DO 'BEGIN FOR n IN 1 .. 5000 LOOP BEGIN PERFORM tenancy.authenticate(''x''); EXCEPTION WHEN \
            OTHERS THEN END; END LOOP; END'";
        run(&app, attempts).await;
        let dropped = count(&one, "SELECT dropped FROM tenancy.refusal_queue()").await;
        assert!(dropped > 0, "there was room for all");
        // Half full, the queue wakes the worker, however long it would sleep.
        eventually(&one, &format!("SELECT ({recorded}) > {before} + 128")).await;
        run(&one, "ALTER SYSTEM SET tenancy.seal_interval = '100ms'").await;
        run(&one, "SELECT pg_reload_conf()").await;
        eventually(&one, &format!("SELECT ({recorded}) = {before} + 5000 - {dropped}")).await;
        let queue = "SELECT waiting || ' of ' || capacity || ', ' || dropped - {dropped} || ' more dropped' FROM \
            tenancy.refusal_queue()";
        assert_eq!(column(&one, &queue.replace("{dropped}", &dropped.to_string())).await, ["0 of 256, 0 more dropped"]);
        assert_sealed(&one).await;
    });
}

#[test]
fn messages_that_cannot_be_recorded_do_not_stop_the_sealer() {
    on_a_server("worker-message", async |sealing| {
        let one = sealing.client("postgres").await;
        set_up(&one).await;
        run(&one, "CREATE ROLE app LOGIN; GRANT tenancy_application TO app").await;
        insert(&one, "a").await;
        assert_sealed(&one).await;
        let app = connect(sealing.config("postgres").user("app")).await;
        let locker = sealing.client("postgres").await;
        let actors = value(&one, "SELECT 'event_actor_' || to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')").await;
        // As CREATE INDEX does it. The next event of this session has the actor of the one before.
        run(&locker, &format!("BEGIN; LOCK TABLE tenancy.{actors} IN SHARE MODE")).await;
        assert_eq!(authenticate(&app, "x").await.unwrap_err().sqlstate, "28000");
        insert(&one, "b").await;
        assert_sealed(&one).await;
        let recorded = "SELECT count(*) FROM tenancy.event WHERE result = 'denied'";
        assert_eq!(count(&one, recorded).await, 0);
        run(&locker, "COMMIT").await;
        eventually(&one, &format!("SELECT ({recorded}) = 1")).await;
        assert_sealed(&one).await;
    });
}

#[test]
fn nothing_is_sealed_while_a_restore_has_not_made_its_keys() {
    on_a_server("worker-restore", async |sealing| {
        let one = sealing.client("postgres").await;
        set_up(&one).await;
        assert_sealed(&one).await;
        let partition = value(&one, "SELECT 'event_batch_' || to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')").await;
        run(&one, &format!("ALTER TABLE tenancy.{partition} DROP CONSTRAINT {partition}_pkey")).await;
        insert(&one, "before the keys").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_ne!(count(&one, UNSEALED).await, 0);
        run(&one, &format!("ALTER TABLE tenancy.{partition} ADD PRIMARY KEY (id)")).await;
        assert_sealed(&one).await;
    });
}

#[test]
fn each_block_is_committed_before_the_next_one_is_begun() {
    on_a_server("worker_blocks", async |sealing| {
        let admin = sealing.client("postgres").await;
        set_up(&admin).await;
        assert_sealed(&admin).await;
        for sql in ["ALTER SYSTEM SET tenancy.seal_interval = 0", "ALTER SYSTEM SET tenancy.seal_batch = 50"] {
            run(&admin, sql).await;
        }
        sealing.server.stop("fast");
        sealing.serve("");
        let client = sealing.client("postgres").await;
        let before = count(&client, "SELECT max(number) FROM tenancy.block").await;
        for n in 0..20 {
            run(&client, &insert_many(n, 30)).await;
        }
        run(&client, "ALTER SYSTEM SET tenancy.seal_interval = 100").await;
        run(&client, "SELECT pg_reload_conf()").await;
        assert_sealed(&client).await;
        let of_blocks = |what: &str| format!("SELECT count({what}) FROM tenancy.block WHERE number > {before}");
        let blocks = count(&client, &of_blocks("*")).await;
        assert!(blocks >= 10, "20 transactions of 30 events, two of them a block, are {blocks} blocks");
        assert_eq!(count(&client, &of_blocks("DISTINCT xmin::text")).await, blocks, "each in a transaction of its own");
    });
}

#[test]
fn sealing_by_hand_ends_though_others_write_faster_than_it_seals() {
    on_a_server("worker_outrun", async |sealing| {
        let admin = sealing.client("postgres").await;
        set_up(&admin).await;
        assert_sealed(&admin).await;
        for sql in ["ALTER SYSTEM SET tenancy.seal_interval = 0", "ALTER SYSTEM SET tenancy.seal_batch = 10"] {
            run(&admin, sql).await;
        }
        sealing.server.stop("fast");
        sealing.serve("");
        let client = sealing.client("postgres").await;
        for n in 0..200 {
            run(&client, &insert_many(n, 10)).await;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..3)
            .map(|_| {
                let (config, stop) = (sealing.config("postgres"), stop.clone());
                tokio::spawn(async move {
                    let writer = connect(&config).await;
                    while !stop.load(Ordering::Relaxed) {
                        run(&writer, &insert_many(0, 10)).await;
                    }
                })
            })
            .collect();
        let next = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::int8";
        let sealed = tokio::time::timeout(
            Duration::from_secs(300),
            client.query_one(&format!("SELECT ({next}), tenancy.seal()"), &[]),
        )
        .await;
        let ended = count(&client, next).await;
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.await.unwrap();
        }
        let row = sealed.expect("it ends").unwrap();
        let begun: i64 = row.get(0);
        let end = "SELECT pg_snapshot_xmax(snapshot)::text::int8 FROM tenancy.block ORDER BY number DESC LIMIT 1";
        let end = count(&client, end).await;
        assert!(ended - begun > 100, "only {} transactions began meanwhile", ended - begun);
        assert!(end - begun <= 20, "it sealed {} transactions that began after it", end - begun);
        assert!(row.get::<_, i64>(1) >= 2000);
        run(&client, "SELECT tenancy.seal()").await;
        assert_audit_is_whole(&client).await;
    });
}

/// What has committed is sealed, in blocks of 50 events: of the transactions below, and of `after`.
async fn assert_one_more_is_sealed(client: &Client, after: i32) {
    let unsealed = "SELECT count(*) FROM tenancy.audit_trail WHERE block IS NULL";
    run(client, "SELECT tenancy.seal()").await;
    assert_eq!(count(client, unsealed).await, 0);
    run(client, &insert_many(after, 1)).await;
    run(client, "SELECT tenancy.seal()").await;
    assert_eq!(count(client, unsealed).await, 0, "the sealer stands still");
    assert_audit_is_whole(client).await;
}

#[test]
fn large_transactions_that_end_beside_sealed_ones_do_not_stop_the_sealer() {
    on_a_server("worker_late", async |sealing| {
        let client = sealing.client("postgres").await;
        set_up(&client).await;
        for setting in ["tenancy.seal_interval = 0", "tenancy.seal_batch = 50", "max_prepared_transactions = 5"] {
            run(&client, &format!("ALTER SYSTEM SET {setting}")).await;
        }
        sealing.server.stop("fast");
        sealing.serve("");
        let client = sealing.client("postgres").await;
        run(&client, "SELECT tenancy.seal()").await;
        for late in ["first", "second"] {
            run(&client, &format!("BEGIN; {}; PREPARE TRANSACTION '{late}'", insert_many(0, 60))).await;
        }
        // Sealed between the two and after them: more than a block of them.
        for n in 0..4 {
            run(&client, &insert_many(n, 60)).await;
        }
        assert_ne!(value(&client, "SELECT tenancy.seal()").await, "0");
        for late in ["first", "second"] {
            run(&client, &format!("COMMIT PREPARED '{late}'")).await;
        }
        assert_one_more_is_sealed(&client, 5).await;
    });
}

#[test]
fn events_that_nothing_seals_do_not_stop_the_sealer() {
    on_a_server("worker_unsealable", async |sealing| {
        let client = sealing.client("postgres").await;
        set_up(&client).await;
        assert_sealed(&client).await;
        for setting in ["tenancy.seal_interval = 0", "tenancy.seal_batch = 50"] {
            run(&client, &format!("ALTER SYSTEM SET {setting}")).await;
        }
        sealing.server.stop("fast");
        sealing.serve("");
        let client = sealing.client("postgres").await;
        // Written by hand, with a number of events that no batch has.
        let forged = "INSERT INTO tenancy.event_batch
            SELECT f.* FROM (SELECT b FROM tenancy.event_batch b LIMIT 1) a, generate_series(1, 60) n,
                LATERAL jsonb_populate_record(a.b, jsonb_build_object('events', 1000, 'transaction',
                    pg_current_xact_id(), 'id',
                    overlay((a.b).id::text PLACING '8' || lpad(n::text, 3, '0') FROM 20))) f";
        run(&client, forged).await;
        run(&client, &insert_many(7, 10)).await;
        run(&client, "SELECT tenancy.seal()").await;
        let unsealed = "SELECT count(*) FROM tenancy.event_batch b
             WHERE events <> 1000 AND NOT EXISTS (SELECT FROM tenancy.entry s WHERE s.batch = b.id)";
        assert_eq!(count(&client, unsealed).await, 0, "the sealer stands still");
    });
}

/// One transaction of as many events.
pub fn insert_many(n: i32, events: i32) -> String {
    format!(
        "INSERT INTO finding (organization_id, title)
         SELECT 'aaaaaaaa-0000-4000-8000-000000000001', '{n}' FROM generate_series(1, {events})"
    )
}
