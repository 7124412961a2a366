//! A server whose processes are killed while it writes and seals: after each recovery the chain verifies, and every
//! change that was acknowledged has its event.
//!
//! `CRASH_ROUNDS` says how often each kind is killed; by default that is a few times.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use crate::common::server::{Folder, Server, kill, programs, reconnect};
use crate::common::*;
use futures_util::future::join_all;
use rand::RngExt as _;
use tokio_postgres::Client;

/// Rounds where nobody asks for more, so that a run of all tests stays short.
const ROUNDS: u32 = 4;
/// When no further round begins, whatever was asked for.
const LONGEST: Duration = Duration::from_secs(1200);
const WRITERS: usize = 4;

/// A server of its own with the worker sealing behind the writers.
struct Victim {
    server: Server,
    _folder: Folder,
}

impl Victim {
    fn create() -> Option<Self> {
        let folder = Folder::create("crash")?;
        let server = Server::at(&programs()?, folder.0.join("data"));
        server.initialize();
        let victim = Victim { server, _folder: folder };
        victim.serve();
        Some(victim)
    }

    fn serve(&self) {
        let socket = std::env::var("PGHOST").unwrap();
        self.server.start(&format!(
            "-c unix_socket_directories={socket} -c shared_preload_libraries=pg_tenancy -c tenancy.seal_interval=20 \
             -c tenancy.seal_batch=50 -c max_prepared_transactions=5 -c checkpoint_timeout=30s -c \
             tenancy.jwks_directory={}",
            self.server.data.display()
        ));
    }
}

/// What a writer was told of, by the title of its row.
#[derive(Default)]
struct Told {
    acknowledged: RefCell<Vec<String>>,
    stop: Cell<bool>,
}

/// How many rows a bulk statement has: more than a batch takes.
const BULK: i64 = 300;

/// Writes until the server is gone: single rows, several with a savepoint that is rolled back, many in one statement
/// and two-phase commits of one row and of many.
async fn write(client: Client, token: &str, name: &str, told: &Told) {
    for change in 0.. {
        if told.stop.get() {
            return;
        }
        let title = format!("{name} change {change}");
        let insert = |title: &str| format!(r#"INSERT INTO "Finding" (title) VALUES ('{title}')"#);
        let enter = format!("BEGIN; SELECT tenancy.authenticate('{token}')");
        let bulk = |title: &str| {
            format!(r#"INSERT INTO "Finding" (title) SELECT '{title} row ' || n FROM generate_series(1, {BULK}) n"#)
        };
        let of_bulk = |title: &str| (1..=BULK).map(|n| format!("{title} row {n}")).collect::<Vec<_>>();
        let gid = title.replace(' ', "_");
        let prepare = format!("PREPARE TRANSACTION '{gid}'");
        let (sql, titles) = match change % 6 {
            0 => (format!("{enter}; {}; COMMIT", insert(&title)), vec![title]),
            3 => {
                let (one, two, undone) = (format!("{title} a"), format!("{title} b"), format!("{title} undone"));
                let sql = format!(
                    "{enter}; {}; SAVEPOINT s; {}; ROLLBACK TO s; {}; COMMIT",
                    insert(&one),
                    insert(&undone),
                    insert(&two)
                );
                (sql, vec![one, two])
            }
            2 => (format!("{enter}; {}; {prepare}", insert(&title)), vec![title]),
            // Part of it is written, and a savepoint takes away what was packed after it.
            1 => {
                let undone = bulk(&format!("{title} undone"));
                let sql = format!("{enter}; {}; SAVEPOINT s; {undone}; ROLLBACK TO s; COMMIT", bulk(&title));
                (sql, of_bulk(&title))
            }
            4 => (format!("{enter}; {}; COMMIT", bulk(&title)), of_bulk(&title)),
            _ => (format!("{enter}; {}; {prepare}", bulk(&title)), of_bulk(&title)),
        };
        if client.batch_execute(&sql).await.is_err() {
            return;
        }
        let commit = format!("COMMIT PREPARED '{gid}'");
        if sql.ends_with(&prepare) && client.batch_execute(&commit).await.is_err() {
            return;
        }
        told.acknowledged.borrow_mut().extend(titles);
    }
}

/// Lets writers work, kills at some moment, and looks at what is there afterwards.
async fn round(victim: &Victim, database: &Database, number: u32, postmaster: bool) {
    let told = Told::default();
    let token = database.token("alice");
    let mut clients = Vec::new();
    for _ in 0..WRITERS {
        clients.push(database.application().await);
    }
    let pid = value(&clients[0], "SELECT pg_backend_pid()").await;
    let moment = Duration::from_millis(rand::rng().random_range(20..400));
    let killer = async {
        tokio::time::sleep(moment).await;
        if postmaster {
            victim.server.kill_postmaster().await;
        } else {
            kill(&pid);
        }
        // A backend that was idle when it was killed takes nobody's answer away.
        tokio::time::sleep(Duration::from_millis(200)).await;
        told.stop.set(true);
    };
    let names: Vec<String> = (0..WRITERS).map(|n| format!("round {number} writer {n}")).collect();
    let writers = clients.into_iter().zip(&names).map(|(client, name)| write(client, &token, name, &told));
    tokio::join!(killer, join_all(writers));
    if postmaster {
        victim.serve();
    }

    let superuser = reconnect(&database.config()).await;
    // What was prepared and not yet committed is decided now, as a transaction manager does.
    for gid in column(&superuser, "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()").await {
        run(&superuser, &format!("ROLLBACK PREPARED '{gid}'")).await;
    }
    assert_audit_is_whole(&superuser).await;
    let of_round = format!("LIKE 'round {number} %'");
    let sql =
        format!("SELECT payload -> 'new' ->> 'title' FROM tenancy.event WHERE payload -> 'new' ->> 'title' {of_round}");
    let mut events = column(&superuser, &sql).await;
    let mut written = column(&superuser, &format!(r#"SELECT title FROM "Finding" WHERE title {of_round}"#)).await;
    events.sort();
    written.sort();
    assert_eq!(events, written, "a row without an event, or an event without a row");
    assert!(!events.iter().any(|title| title.contains("undone")), "a savepoint that was rolled back left an event");
    let acknowledged = told.acknowledged.borrow();
    // A bulk statement is there as a whole or not at all.
    let of_bulk = |title: &String| title.split_once(" row ").map(|(statement, _)| statement.to_owned());
    let statements: Vec<String> = events.iter().filter_map(of_bulk).collect();
    for statement in statements.chunk_by(|one, other| one == other) {
        assert_eq!(statement.len() as i64, BULK, "{}", statement[0]);
    }
    let lost: Vec<_> = acknowledged.iter().filter(|title| events.binary_search(title).is_err()).collect();
    assert!(lost.is_empty(), "acknowledged and gone: {lost:?}");
}

fn rounds() -> u32 {
    std::env::var("CRASH_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().expect("CRASH_ROUNDS is a number"))
}

#[test]
fn after_every_crash_the_chain_verifies_and_each_acknowledged_change_has_its_event() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let Some(victim) = Victim::create() else {
            skipped("no programs of a server to start");
            return;
        };
        let database = Database::create(victim.server.config()).await;
        let begun = Instant::now();
        for number in 0..2 * rounds() {
            if begun.elapsed() > LONGEST {
                println!("stopped after {number} rounds: time is up");
                break;
            }
            round(&victim, &database, number, number % 2 == 1).await;
        }
        let full = "SELECT count(*) FROM tenancy.event_batch WHERE events = 128";
        assert!(count(&database.superuser().await, full).await > 0, "no bulk statement was committed");
    });
}
