//! The records of reveals on a server of its own: each reveal that a client was told of has one event, whatever becomes
//! of its transaction, of its process, of the server, and of whoever takes records in.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::common::server::{Folder, Server, as_server, lose, programs, reconnect, succeeds};
use crate::common::*;
use crate::secrets::{put, with_a_key};
use futures_util::future::join_all;
use rand::RngExt as _;
use tokio_postgres::{Client, Config};

/// Nobody seals but who says so.
const BY_HAND: &str = "-c tenancy.seal_interval=0";

/// A server with a key ring.
struct Host {
    server: Server,
    folder: Folder,
}

impl Host {
    fn create(name: &str) -> Option<Self> {
        let folder = Folder::create(name)?;
        let server = Server::at(&programs()?, folder.0.join("data"));
        server.initialize();
        let host = Host { server, folder };
        let ring = r#"umask 077; echo "first $(head -c 32 /dev/urandom | base64 -w0)" >"$1""#;
        succeeds(as_server("sh").args(["-c", ring, "sh"]).arg(host.path("ring")));
        Some(host)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.0.join(name)
    }

    fn start(&self, options: &str) {
        self.start_other(&self.server, options);
    }

    /// Starts a copy of the server.
    fn start_other(&self, server: &Server, options: &str) {
        server.start(&format!(
            "-c unix_socket_directories={} -c shared_preload_libraries=pg_tenancy -c max_prepared_transactions=5 \
             -c tenancy.jwks_directory={} -c tenancy.secret_key_file={} {options}",
            std::env::var("PGHOST").unwrap(),
            self.folder.0.display(),
            self.path("ring").display(),
        ));
    }

    /// A copy of the files of the running server.
    fn copy(&self, name: &str, options: &[&str]) -> Server {
        let copy = Server::at(&programs().unwrap(), self.path(name));
        let mut backup = copy.program("pg_basebackup");
        backup.args(["-c", "fast", "-U", "postgres", "-h", &std::env::var("PGHOST").unwrap()]).args(options);
        succeeds(backup.args(["-p", &self.server.port.to_string(), "-D"]).arg(&copy.data));
        copy
    }

    /// Runs a script in the folder of the records.
    fn in_records(&self, script: &str) -> String {
        let script = format!("cd {}/pg_tenancy && {script}", self.server.data.display());
        succeeds(as_server("sh").args(["-c", &script]))
    }

    fn kill(&self, signal: &str, pid: &str) {
        succeeds(as_server("kill").args([signal, pid]));
    }

    /// Kills the postmaster, and waits until its last process is gone: as long as one is there no other can start.
    async fn kill_postmaster(&self) {
        let pid = succeeds(as_server("head").arg("-1").arg(self.server.data.join("postmaster.pid")));
        let pid = pid.trim();
        let children = Command::new("pgrep").args(["-P", pid]).output().unwrap();
        let children = String::from_utf8(children.stdout).unwrap();
        self.kill("-9", pid);
        let alive = |pid: &str| std::path::Path::new("/proc").join(pid).exists();
        for _ in 0..800 {
            if !children.split_whitespace().chain([pid]).any(alive) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("processes of the server outlived its postmaster");
    }
}

/// Runs the test on a server with a database in which the secret "aws" of Acme has the value "a value".
fn on_a_host(name: &str, options: &str, test: impl AsyncFnOnce(&Host, &Database)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let Some(host) = Host::create(name) else {
            skipped("no programs of a server to start");
            return;
        };
        host.start(options);
        let database = Database::create(host.server.config()).await;
        with_a_key(&database.superuser().await).await;
        let client = database.application().await;
        as_tenant(&client, &database.token("alice")).await;
        put(&client, "aws", "a value").await.unwrap();
        run(&client, "COMMIT").await;
        drop(client);
        test(&host, &database).await;
    });
}

/// The same database on another server.
fn config_on(server: &Server, database: &Database) -> Config {
    let mut config = server.config();
    config.dbname(&database.name);
    config
}

async fn try_reveal(client: &Client, name: &str, purpose: &str) -> Result<String, tokio_postgres::Error> {
    client.query_one("SELECT tenancy.reveal_secret($1, $2)", &[&name, &purpose]).await.map(|row| row.get(0))
}

async fn reveal(client: &Client, purpose: &str) {
    assert_eq!(try_reveal(client, "aws", purpose).await.unwrap(), "a value");
}

/// Reveals for a purpose in a transaction that is rolled back.
async fn reveal_and_roll_back(database: &Database, client: &Client, purpose: &str) {
    as_tenant(client, &database.token("alice")).await;
    reveal(client, purpose).await;
    run(client, "ROLLBACK").await;
}

/// Takes in and seals. What is taken in is sealed by the next run.
async fn take_in(superuser: &Client) {
    run(superuser, "SELECT tenancy.seal()").await;
    seal_all(superuser).await;
}

/// The purposes of the events, sorted.
async fn purposes(superuser: &Client) -> Vec<String> {
    let sql = "SELECT new_values ->> 'purpose' FROM tenancy.audit_trail WHERE operation = 'reveal'";
    let mut purposes = column(superuser, sql).await;
    purposes.sort();
    purposes
}

#[test]
fn a_reveal_is_one_event_whatever_becomes_of_its_transaction() {
    on_a_host("reveal-ends", BY_HAND, async |host, database| {
        let superuser = database.superuser().await;
        let enter = async || {
            let client = database.application().await;
            as_tenant(&client, &database.token("alice")).await;
            client
        };
        let client = enter().await;
        reveal(&client, "1 commit").await;
        run(&client, "COMMIT").await;
        reveal_and_roll_back(database, &client, "2 rollback").await;
        as_tenant(&client, &database.token("alice")).await;
        run(&client, "SAVEPOINT s").await;
        reveal(&client, "3 savepoint").await;
        run(&client, "ROLLBACK TO s").await;
        reveal(&client, "4 after the savepoint").await;
        run(&client, "PREPARE TRANSACTION 'reveals'").await;
        run(&client, "ROLLBACK PREPARED 'reveals'").await;
        run(&client, "BEGIN TRANSACTION READ ONLY").await;
        authenticate(&client, &database.token("alice")).await.unwrap();
        reveal(&client, "5 read only").await;
        run(&client, "ROLLBACK; BEGIN ISOLATION LEVEL SERIALIZABLE").await;
        authenticate(&client, &database.token("alice")).await.unwrap();
        reveal(&client, "6 serializable").await;
        assert!(client.batch_execute("SELECT 1/0").await.is_err());
        run(&client, "ROLLBACK").await;
        // Refused ones, and a text that would be something else to another reader.
        let hostile = "7'); DROP TABLE tenancy.block; --\u{1}\"\\ \u{2028}";
        as_tenant(&client, &database.token("alice")).await;
        assert!(try_reveal(&client, "'; DROP", hostile).await.is_err());
        run(&client, "ROLLBACK").await;
        // A secret that never was.
        as_tenant(&client, &database.token("alice")).await;
        put(&client, "undone", "x").await.unwrap();
        assert_eq!(try_reveal(&client, "undone", "8 undone").await.unwrap(), "x");
        run(&client, "ROLLBACK").await;
        // The process ends once the client has the value.
        let ended = enter().await;
        reveal(&ended, "9 terminated").await;
        let pid = value(&ended, "SELECT pg_backend_pid()").await;
        run(&superuser, &format!("SELECT pg_terminate_backend({pid})")).await;
        let killed = enter().await;
        let pid = value(&killed, "SELECT pg_backend_pid()").await;
        reveal(&killed, "9 then killed").await;
        host.kill("-9", &pid);
        lose(superuser).await;
        let superuser = reconnect(&database.config()).await;
        assert_eq!(purposes(&superuser).await.len(), 0, "nobody has sealed");
        let modes = host.in_records("stat -c %a . * */*");
        assert_eq!(modes, "700\n700\n600\n");
        take_in(&superuser).await;
        let told = [
            "1 commit",
            "2 rollback",
            "3 savepoint",
            "4 after the savepoint",
            "5 read only",
            "6 serializable",
            hostile,
            "8 undone",
            "9 terminated",
            "9 then killed",
        ];
        assert_eq!(purposes(&superuser).await, told);
        take_in(&superuser).await;
        assert_eq!(purposes(&superuser).await.len(), told.len());
        let of_hostile = "SELECT concat_ws(' ', result, reason, organization, subject) FROM tenancy.audit_trail
                           WHERE operation = 'reveal' AND domain = 'secret'
                             AND new_values ->> 'name' = '''; DROP'";
        let row = value(&superuser, of_hostile).await;
        assert_eq!(row, format!("denied secret_unknown {ACME} alice"));
        let successes = "SELECT count(*) FROM tenancy.audit_trail
                          WHERE operation = 'reveal' AND result = 'success' AND reason IS NULL
                            AND new_values ->> 'version' = '1' AND new_values ->> 'scope' = 'read_only'";
        assert_eq!(count(&superuser, successes).await, 9);
        assert_audit_is_whole(&superuser).await;

        // Who used what last: members of the organization see it, others do not.
        let uses = "SELECT concat_ws(' ', name, number, subject, uses) FROM tenancy.secret_use
                      JOIN tenancy.secret ON id = secret";
        let client = enter().await;
        assert_eq!(column(&client, uses).await, ["aws 1 alice 8"]);
        let newest = "SELECT max(last_used_at) = (SELECT max(occurred_at) FROM tenancy.audit_trail
                       WHERE operation = 'reveal' AND new_values ->> 'name' = 'aws') FROM tenancy.secret_use
                        JOIN tenancy.secret ON id = secret";
        assert_eq!(value(&superuser, newest).await, "t");
        run(&client, "COMMIT").await;
        as_tenant(&client, &database.token("bob")).await;
        assert_eq!(count(&client, "SELECT count(*) FROM tenancy.secret_use").await, 0);
        run(&client, "COMMIT").await;
        for table in ["reveal_journal", "secret_use"] {
            for change in [format!("DELETE FROM tenancy.{table}"), format!("TRUNCATE tenancy.{table}")] {
                assert_eq!(refused(&superuser, &change).await.sqlstate, "42501", "{change}");
            }
        }
    });
}

#[test]
fn what_was_taken_in_is_forgotten_after_the_commit_and_not_before() {
    on_a_host("reveal-forget", BY_HAND, async |host, database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        // More than a segment, and more than is taken in at a time.
        let long = "p".repeat(480);
        for round in 0..3 {
            as_tenant(&client, &database.token("alice")).await;
            let many =
                format!("SELECT count(tenancy.reveal_secret('aws', n || '{long}')) FROM generate_series(1, 500) n");
            assert_eq!(count(&client, &many).await, 500, "{round}");
            run(&client, "ROLLBACK").await;
        }
        let segments = || host.in_records("ls */* | grep -o '[0-9a-f]*.journal$'");
        let before = segments();
        assert!(before.lines().count() > 1, "{before}");
        let counted = "SELECT count(*) FROM tenancy.event_batch WHERE operation = 'reveal'";
        for undone in [
            "BEGIN; SELECT tenancy.seal(), tenancy.seal(); ROLLBACK",
            "BEGIN; SAVEPOINT s; SELECT tenancy.seal(); ROLLBACK TO s; COMMIT",
            "BEGIN; SELECT tenancy.seal(); PREPARE TRANSACTION 'sealed'",
            "ROLLBACK PREPARED 'sealed'",
            "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT tenancy.seal(); COMMIT",
        ] {
            run(&superuser, undone).await;
            assert_eq!((segments(), count(&superuser, counted).await), (before.clone(), 0), "{undone}");
        }
        take_in(&superuser).await;
        assert_eq!(purposes(&superuser).await.len(), 1500);
        assert_eq!(segments().lines().count(), 1, "the newest stays");
        assert_eq!(count(&superuser, "SELECT sum(records) FROM tenancy.reveal_journal").await, 1500);
        // One who did the same many times in a row is one actor, in batches.
        let batches = count(&superuser, counted).await;
        assert!(batches < 1500 / 50, "{batches} batches");
        assert_audit_is_whole(&superuser).await;

        // After a restart there is another folder; the old one goes once it was read.
        reveal_and_roll_back(database, &client, "before the restart").await;
        host.server.stop("fast");
        host.start(BY_HAND);
        let (superuser, client) = (database.superuser().await, database.application().await);
        reveal_and_roll_back(database, &client, "after the restart").await;
        assert_eq!(host.in_records("ls").lines().count(), 2);
        run(&superuser, "BEGIN; SELECT tenancy.seal(); ROLLBACK").await;
        assert_eq!(host.in_records("ls").lines().count(), 2);
        take_in(&superuser).await;
        assert_eq!(host.in_records("ls").lines().count(), 1);
        assert_eq!(purposes(&superuser).await.len(), 1502);
        take_in(&superuser).await;
        assert_eq!((purposes(&superuser).await.len(), host.in_records("ls").lines().count()), (1502, 1));
        assert_audit_is_whole(&superuser).await;
    });
}

#[test]
fn the_worker_takes_in_what_no_commit_told_of() {
    on_a_host("reveal-worker", "-c tenancy.seal_interval=20", async |_, database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        for n in 0..3 {
            reveal_and_roll_back(database, &client, &format!("rolled back {n}")).await;
            let sealed = format!(
                "SELECT count(*) = {} FROM tenancy.audit_trail WHERE operation = 'reveal' AND position IS NOT NULL",
                n + 1
            );
            eventually(&superuser, &sealed).await;
        }
        assert_audit_is_whole(&superuser).await;
    });
}

/// What clients were told of.
#[derive(Default)]
struct Told {
    purposes: RefCell<Vec<String>>,
    stop: Cell<bool>,
}

/// Reveals until the server is gone.
async fn reveal_on(client: Client, token: &str, name: &str, told: &Told) {
    for n in 0.. {
        if told.stop.get() || client.batch_execute("BEGIN").await.is_err() || authenticate_on(&client, token).await {
            return;
        }
        for m in 0..3 {
            let purpose = format!("{name} {n} {m}");
            if try_reveal(&client, "aws", &purpose).await.is_err() {
                return;
            }
            told.purposes.borrow_mut().push(purpose);
        }
        let end = if n % 2 == 0 { "COMMIT" } else { "ROLLBACK" };
        if client.batch_execute(end).await.is_err() {
            return;
        }
    }
}

async fn authenticate_on(client: &Client, token: &str) -> bool {
    client.execute("SELECT tenancy.authenticate($1)", &[&token]).await.is_err()
}

/// Seals until the server is gone. Each second transaction is rolled back.
async fn seal_on(client: Client, told: &Told) {
    for n in 0.. {
        let end = if n % 2 == 0 { "COMMIT" } else { "ROLLBACK" };
        let sql = format!("BEGIN; SELECT tenancy.seal(); {end}");
        if told.stop.get() || client.batch_execute(&sql).await.is_err() {
            return;
        }
    }
}

/// Two seal and two reveal while the server, a sealer or a revealer is killed.
#[test]
fn no_crash_loses_a_record_or_takes_it_in_twice() {
    // With fdatasync: a killed process loses nothing that the kernel has, so only the order of the writes is tried.
    on_a_host("reveal-crash", BY_HAND, async |host, database| {
        let told = Told::default();
        let token = database.token("alice");
        for round in 0..6 {
            told.stop.set(false);
            let revealers = [database.application().await, database.application().await];
            let sealers = [database.superuser().await, database.superuser().await];
            let pids = [
                value(&revealers[0], "SELECT pg_backend_pid()").await,
                value(&sealers[0], "SELECT pg_backend_pid()").await,
            ];
            let moment = Duration::from_millis(rand::rng().random_range(50..600));
            let killer = async {
                tokio::time::sleep(moment).await;
                match round % 3 {
                    2 => host.kill_postmaster().await,
                    victim => host.kill("-9", &pids[victim]),
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
                told.stop.set(true);
            };
            let names = ["one", "two"].map(|name| format!("{round} {name}"));
            let reveals =
                revealers.into_iter().zip(&names).map(|(client, name)| reveal_on(client, &token, name, &told));
            let seals = sealers.into_iter().map(|client| seal_on(client, &told));
            tokio::join!(killer, join_all(reveals), join_all(seals));
            if round % 3 == 2 {
                host.start(BY_HAND);
            }
            let superuser = reconnect(&database.config()).await;
            take_in(&superuser).await;
            let found = purposes(&superuser).await;
            assert!(found.windows(2).all(|pair| pair[0] != pair[1]), "taken in twice: {found:?}");
            let lost: Vec<_> =
                told.purposes.borrow().iter().filter(|told| found.binary_search(told).is_err()).cloned().collect();
            assert!(lost.is_empty(), "round {round}: told and gone: {lost:?}");
            let uses = count(&superuser, "SELECT sum(uses) FROM tenancy.secret_use").await;
            assert_eq!(uses, found.len() as i64);
            assert_audit_is_whole(&superuser).await;
        }
        assert!(told.purposes.borrow().len() > 20);
    });
}

/// Sets the guardrail's state.
async fn guard(superuser: &Client, state: &str) {
    run(superuser, &format!("SELECT tenancy.set_guardrail('unrecorded_reveal', '{state}', 'test')")).await;
}

#[test]
fn what_cannot_be_recorded_is_refused_or_recorded_as_the_guardrail_says() {
    on_a_host("reveal-guard", BY_HAND, async |host, database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        let log = || succeeds(as_server("cat").arg(host.server.data.join("server.log")));
        reveal_and_roll_back(database, &client, "0 before").await;
        let folder = host.in_records("ls").trim().to_owned();
        let first = format!("{folder}/0000000000000000.journal");
        for (n, spoil, mend, why) in [
            (
                1,
                format!("chmod 500 {folder} && chmod 400 {first}"),
                format!("chmod 600 {first} && chmod 700 {folder}"),
                "Permission denied",
            ),
            (
                2,
                format!("mv {first} kept && ln -s /dev/full {first}"),
                format!("rm {first} && mv kept {first}"),
                "No space left on device",
            ),
            (
                3,
                format!("mv {folder} kept && touch {folder}"),
                format!("rm {folder} && mv kept {folder}"),
                "Not a directory",
            ),
        ] {
            host.in_records(&spoil);
            let purpose = |state: &str| format!("{n} {state}");
            let attempt = async |state: &str, end: &str| {
                guard(&superuser, state).await;
                as_tenant(&client, &database.token("alice")).await;
                let revealed = try_reveal(&client, "aws", &purpose(state)).await;
                run(&client, end).await;
                revealed.map_err(|error| Refusal::of(&error))
            };
            let refusal = attempt("enforce", "COMMIT").await.unwrap_err();
            assert_eq!(
                (refusal.sqlstate.as_str(), refusal.message.as_str()),
                ("55000", "the reveal cannot be recorded")
            );
            assert!(refusal.detail.clone().unwrap().contains(why), "{refusal:?}");
            assert_eq!(attempt("warn", "COMMIT").await.as_deref(), Ok("a value"));
            let warned = "SELECT hits FROM tenancy.guardrail_trial('unrecorded_reveal')";
            assert_eq!(count(&superuser, warned).await, n, "in warn alone");
            assert_eq!(attempt("off", "COMMIT").await.as_deref(), Ok("a value"));
            // As all that the transaction writes, its event is gone with it.
            guard(&superuser, "warn").await;
            as_tenant(&client, &database.token("alice")).await;
            assert_eq!(try_reveal(&client, "aws", &format!("{n} rolled back")).await.unwrap(), "a value");
            run(&client, "ROLLBACK").await;
            let log = log();
            let told =
                |what: &str| log.lines().any(|line| line.contains("without a durable record") && line.contains(what));
            assert!(told(&purpose("warn")) && told(&format!("{n} rolled back")) && !told(&purpose("off")), "{why}");
            assert!(!log.contains("a value"));
            guard(&superuser, "enforce").await;
            host.in_records(&mend);
        }
        reveal_and_roll_back(database, &client, "4 after").await;
        take_in(&superuser).await;
        assert_eq!(
            purposes(&superuser).await,
            ["0 before", "1 off", "1 warn", "2 off", "2 warn", "3 off", "3 warn", "4 after"]
        );
        // Each reveal that was let through with a warning, but those that rolled back.
        let warned = "SELECT organization, hits, subjects FROM tenancy.guardrail_trial('unrecorded_reveal')";
        let expected = [ACME.to_string(), "3".to_owned(), "1".to_owned()].map(Some);
        assert_eq!(rows(&superuser, warned).await, [expected]);
        assert_audit_is_whole(&superuser).await;
    });
}

#[test]
fn a_standby_reveals_as_the_guardrail_says_and_takes_in_what_it_has_once_it_is_promoted() {
    on_a_host("reveal-standby", BY_HAND, async |host, database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        reveal_and_roll_back(database, &client, "1 taken in").await;
        take_in(&superuser).await;
        reveal_and_roll_back(database, &client, "2 in the copy").await;
        let standby = host.copy("standby", &["-R"]);
        // What is not in the copy stays with the old primary.
        reveal_and_roll_back(database, &client, "3 after the copy").await;
        host.start_other(&standby, BY_HAND);
        let config = config_on(&standby, database);
        let reader = connect(&config).await;
        let application = connect(config.clone().user(APPLICATION)).await;
        let catch_up = async || {
            let written = value(&superuser, "SELECT pg_current_wal_flush_lsn()").await;
            eventually(&reader, &format!("SELECT pg_last_wal_replay_lsn() >= '{written}'")).await;
        };
        let attempt = async |state: &str| {
            guard(&superuser, state).await;
            catch_up().await;
            as_tenant(&application, &database.token("alice")).await;
            let revealed = try_reveal(&application, "aws", &format!("standby {state}")).await;
            run(&application, "ROLLBACK").await;
            revealed.map_err(|error| Refusal::of(&error))
        };
        assert_eq!(attempt("off").await.as_deref(), Ok("a value"));
        assert_eq!(attempt("warn").await.as_deref(), Ok("a value"));
        let refusal = attempt("enforce").await.unwrap_err();
        assert_eq!((refusal.sqlstate.as_str(), refusal.detail.as_deref()), ("55000", Some("The server is a standby.")));
        let log = succeeds(as_server("cat").arg(standby.data.join("server.log")));
        assert!(log.contains("standby warn") && !log.contains("standby off") && !log.contains("a value"));

        run(&reader, "SELECT pg_promote()").await;
        assert_eq!(value(&reader, "SELECT pg_is_in_recovery()").await, "f");
        reveal_and_roll_back(database, &application, "4 promoted").await;
        for _ in 0..2 {
            take_in(&reader).await;
            assert_eq!(purposes(&reader).await, ["1 taken in", "2 in the copy", "4 promoted"]);
        }
        assert_audit_is_whole(&reader).await;
        // The old primary goes on with its own.
        take_in(&superuser).await;
        assert_eq!(purposes(&superuser).await, ["1 taken in", "2 in the copy", "3 after the copy"]);
        assert_audit_is_whole(&superuser).await;
    });
}

/// Its files end before the position that it has from the write-ahead log, on the same timeline.
#[test]
fn a_copy_of_the_files_that_is_started_as_it_is_loses_no_record_of_its_own() {
    on_a_host("reveal-copy", BY_HAND, async |host, database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        reveal_and_roll_back(database, &client, "1 before").await;
        let copy = host.copy("copy", &["-X", "fetch"]);
        // As if the folder had been copied before the rest: its records were taken in, its end is lost.
        take_in(&superuser).await;
        for n in 0..20 {
            reveal_and_roll_back(database, &client, &format!("2 {n}")).await;
        }
        take_in(&superuser).await;
        host.server.stop("fast");
        let script = format!(
            "rm -rf {0}/base {0}/pg_wal {0}/global {0}/pg_xact {0}/pg_multixact {0}/backup_label && \
             cd {1} && cp -a base pg_wal global pg_xact pg_multixact {0}",
            copy.data.display(),
            host.server.data.display()
        );
        succeeds(as_server("sh").args(["-c", &script]));
        host.start_other(&copy, BY_HAND);
        let config = config_on(&copy, database);
        let (superuser, client) = (connect(&config).await, connect(config.clone().user(APPLICATION)).await);
        reveal_and_roll_back(database, &client, "3 in the copy").await;
        take_in(&superuser).await;
        let found = purposes(&superuser).await;
        assert_eq!((found.len(), found.last().unwrap().as_str()), (22, "3 in the copy"), "{found:?}");
        assert_audit_is_whole(&superuser).await;
    });
}

#[test]
fn another_history_takes_in_nothing_of_this_one() {
    on_a_host("reveal-history", BY_HAND, async |host, database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        reveal_and_roll_back(database, &client, "1 taken in").await;
        take_in(&superuser).await;
        reveal_and_roll_back(database, &client, "2 waits").await;
        drop(client);
        let restored = format!("{}_restored", database.name);
        run(&superuser, &format!("CREATE DATABASE {restored} TEMPLATE template0")).await;
        let there = |program: &str| {
            let mut program = host.server.program(program);
            program.args(["-U", "postgres", "-h", &std::env::var("PGHOST").unwrap()]);
            program.args(["-p", &host.server.port.to_string(), "-d"]);
            program
        };
        let dump = succeeds(there("pg_dump").arg(&database.name));
        let mut psql = there("psql");
        psql.arg(&restored);
        run_script(psql, dump.as_bytes());
        let copied = format!("CREATE DATABASE copied TEMPLATE {}", database.name);
        drop(superuser);
        let admin = connect(&host.server.config()).await;
        eventually(&admin, &format!("SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = '{}'", database.name))
            .await;
        run(&admin, &copied).await;
        for other in [&restored, "copied"] {
            let mut config = database.config();
            let config = config.dbname(other);
            let (superuser, client) = (connect(config).await, connect(config.clone().user(APPLICATION)).await);
            assert_eq!(count(&superuser, "SELECT sum(uses) FROM tenancy.secret_use").await, 1);
            reveal_and_roll_back(database, &client, &format!("3 {other}")).await;
            for _ in 0..2 {
                take_in(&superuser).await;
                assert_eq!(purposes(&superuser).await, ["1 taken in".to_owned(), format!("3 {other}")]);
            }
            assert_eq!(count(&superuser, "SELECT sum(uses) FROM tenancy.secret_use").await, 2);
            assert_audit_is_whole(&superuser).await;
        }
        let superuser = database.superuser().await;
        take_in(&superuser).await;
        assert_eq!(purposes(&superuser).await, ["1 taken in", "2 waits"]);

        // The extension that comes after it is another one.
        let client = database.application().await;
        reveal_and_roll_back(database, &client, "4 goes with the extension").await;
        begin_anew(&superuser).await;
        take_in(&superuser).await;
        assert_eq!(purposes(&superuser).await.len(), 0);
        assert_audit_is_whole(&superuser).await;
    });
}

#[test]
fn a_version_that_was_revealed_stays_for_as_long_as_a_promotion_is_observed() {
    on_a_host("reveal-use", BY_HAND, async |_, database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        as_tenant(&client, &database.token("alice")).await;
        client.query_one("SELECT tenancy.begin_rotation('aws', $1)", &[&"another value"]).await.unwrap();
        run(&client, "SELECT tenancy.report_health('aws', 2, true)").await;
        run(&client, "SELECT tenancy.promote('aws', 2); COMMIT").await;
        let long_ago = async |table: &str, column: &str| {
            run(&superuser, &format!("ALTER TABLE tenancy.{table} DISABLE TRIGGER keep_secret_keys")).await;
            let sql = format!("UPDATE tenancy.{table} SET {column} = {column} - interval '2 days'");
            run(&superuser, &sql).await;
            run(&superuser, &format!("ALTER TABLE tenancy.{table} ENABLE ALWAYS TRIGGER keep_secret_keys")).await;
        };
        // A day longer ago than it is observed.
        long_ago("secret_version", "promoted_at").await;
        as_tenant(&client, &database.token("alice")).await;
        run(&client, "SELECT tenancy.report_health('aws', 2, true); COMMIT").await;

        as_tenant(&client, &database.token("alice")).await;
        run(&client, "SELECT tenancy.reveal_secret('aws', 'still in use', 1)").await;
        run(&client, "ROLLBACK").await;
        let retire = "SELECT tenancy.retire('aws', 1, 'over')";
        let refusal = async || {
            as_tenant(&client, &database.token("alice")).await;
            let refusal = refused(&client, retire).await;
            run(&client, "ROLLBACK").await;
            (refusal.sqlstate, refusal.message)
        };
        let in_use = ("55000".to_owned(), r#"version 1 of the secret "aws" may still be in use"#.to_owned());
        assert_eq!(refusal().await, in_use, "by the record");
        take_in(&superuser).await;
        assert_eq!(refusal().await, in_use, "by tenancy.secret_use");
        long_ago("secret_use", "last_used_at").await;
        as_tenant(&client, &database.token("alice")).await;
        run(&client, "SELECT tenancy.reveal_secret('aws', 'the current one')").await;
        run(&client, retire).await;
        run(&client, "COMMIT").await;
        take_in(&superuser).await;
        assert_audit_is_whole(&superuser).await;
    });
}

/// The bytes of a record in a segment, as `docs/decisions/75-journal.md` has them.
fn framed(record: &[u8]) -> Vec<u8> {
    use pg_tenancy_core::audit::format::encoding::Record;
    let digest = Record::new("pg_tenancy/journal/1").bytes(record).digest();
    [b"\xffpgJ", &(record.len() as u32).to_be_bytes()[..], &digest, record].concat()
}

#[test]
fn a_record_that_cannot_be_read_is_an_event_of_nobody_and_keeps_nothing_back() {
    on_a_host("reveal-unreadable", BY_HAND, async |host, database| {
        let (superuser, client) = (database.superuser().await, database.application().await);
        reveal_and_roll_back(database, &client, "1 before").await;
        let strange = [&b"{}"[..], b"not JSON \xff\0", b""];
        let bytes: String =
            strange.iter().flat_map(|record| framed(record)).map(|byte| format!("\\{byte:03o}")).collect();
        // What a crash cut off stands between them, and is nothing.
        host.in_records(&format!("segment=$(ls */*.journal) && printf '{bytes}cut off' >>$segment"));
        reveal_and_roll_back(database, &client, "2 after").await;
        take_in(&superuser).await;
        let unreadable = "SELECT new_values ->> 'bytes' FROM tenancy.audit_trail
                           WHERE operation = 'reveal' AND result = 'failed' AND reason = 'unreadable record'
                             AND organization = '00000000-0000-0000-0000-000000000000' ORDER BY 1";
        assert_eq!(column(&superuser, unreadable).await, ["", "6e6f74204a534f4e20ff00", "7b7d"]);
        let readable: Vec<_> = purposes(&superuser).await.into_iter().filter(|purpose| !purpose.is_empty()).collect();
        assert_eq!(readable, ["1 before", "2 after"]);
        take_in(&superuser).await;
        assert_eq!(purposes(&superuser).await.len(), 5);
        let log = succeeds(as_server("cat").arg(host.server.data.join("server.log")));
        assert_eq!(log.matches("a record of a reveal is unreadable").count(), 3);
        assert_audit_is_whole(&superuser).await;

        // Files that cannot be read keep no event from being sealed.
        host.in_records("chmod 000 */*.journal");
        as_tenant(&client, &database.token("alice")).await;
        put(&client, "gcp", "a value").await.unwrap();
        run(&client, "COMMIT").await;
        let sealed = count(&superuser, "SELECT tenancy.seal()").await;
        host.in_records("chmod 600 */*.journal");
        assert!(sealed >= 1, "{sealed}");
        assert_audit_is_whole(&superuser).await;
    });
}
