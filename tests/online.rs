//! Protecting a large table while others write to it (docs/operations.md): in steps that can be interrupted, next to
//! all at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::common::*;
use tokio_postgres::Client;

const ROWS: i64 = 300_000;
/// Which organization a row of the tables below belongs to.
const BACKFILL: &str = "(SELECT a.organization_id FROM public.cloud_account a WHERE a.id = account)";

/// A table without an organization, whose rows belong to that of the account they point at.
async fn create(superuser: &Client, table: &str) {
    let sql = format!(
        "SET ROLE test_tenancy_owner;
         CREATE TABLE {table} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
             account bigint NOT NULL REFERENCES cloud_account, body text NOT NULL DEFAULT 'old');
         GRANT SELECT, INSERT, UPDATE ON {table} TO {APPLICATION};
         GRANT USAGE ON SEQUENCE {table}_id_seq TO {APPLICATION};
         RESET ROLE;
         INSERT INTO {table} (account) SELECT 1 + n % 2 FROM generate_series(1, {ROWS}) n;
         ANALYZE {table}"
    );
    run(superuser, &sql).await;
}

/// An application at work for one tenant: short transactions, one after the other.
struct Writer {
    stop: Arc<AtomicBool>,
    work: tokio::task::JoinHandle<Result<(u64, Duration), tokio_postgres::Error>>,
}

impl Writer {
    fn start(client: Client, token: String, account: i64, table: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let work = tokio::spawn(async move {
            let (mut done, mut longest) = (0, Duration::ZERO);
            while !stopped.load(Ordering::Relaxed) {
                let begin = Instant::now();
                client.batch_execute("BEGIN").await?;
                client.execute("SELECT tenancy.authenticate($1)", &[&token]).await?;
                client
                    .batch_execute(&format!(
                        "INSERT INTO {table} (account, body) VALUES ({account}, 'new');
                         UPDATE {table} SET body = 'newer' WHERE id = lastval(); COMMIT"
                    ))
                    .await?;
                done += 1;
                longest = longest.max(begin.elapsed());
            }
            Ok((done, longest))
        });
        Writer { stop, work }
    }

    /// How many transactions it committed, and how long it waited for the longest.
    async fn stop(self) -> (u64, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        self.work.await.unwrap().unwrap_or_else(|error| panic!("a writer was refused: {:?}", error.as_db_error()))
    }
}

/// Protects a table beside writers of two tenants; returns how many rows they wrote, and the longest wait.
async fn beside_writers(database: &Database, table: &'static str, protect: impl AsyncFnOnce()) -> (u64, Duration) {
    let mut writers = Vec::new();
    for (subject, account) in [("alice", 1), ("bob", 2), ("alice", 1)] {
        writers.push(Writer::start(database.application().await, database.token(subject), account, table));
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    protect().await;
    let (mut written, mut longest) = (0, Duration::ZERO);
    for writer in writers {
        let (done, wait) = writer.stop().await;
        assert!(done > 0);
        (written, longest) = (written + done, longest.max(wait));
    }
    (written, longest)
}

async fn to_do(client: &Client, table: &str) -> Vec<String> {
    let backfill = BACKFILL.replace('\'', "''");
    let plan = format!(
        "SELECT sql FROM tenancy.plan('{table}', 'organization_id', backfill => '{backfill}', online => true)
          WHERE state = 'todo' ORDER BY step"
    );
    column(client, &plan).await
}

/// Runs the plan in pieces, each in a session of its own, and interrupts the first index before it is valid.
async fn in_pieces(database: &Database, table: &str) {
    let mut interrupted = false;
    for _ in 0..1000 {
        let owner = database.owner().await;
        run(&owner, "SET lock_timeout = '2s'").await;
        let steps = to_do(&owner, table).await;
        if steps.is_empty() {
            assert!(interrupted, "the plan built no index");
            return;
        }
        for step in steps.iter().take(2) {
            if step.starts_with("CREATE INDEX CONCURRENTLY") && !interrupted {
                // It waits for whoever writes to the table, and is cancelled meanwhile.
                let blocker = database.superuser().await;
                run(&blocker, &format!("BEGIN; LOCK TABLE {table} IN ROW EXCLUSIVE MODE")).await;
                run(&owner, "SET statement_timeout = '1s'").await;
                assert_eq!(refused(&owner, step).await.sqlstate, "57014");
                run(&owner, "RESET statement_timeout").await;
                run(&blocker, "COMMIT").await;
                interrupted = true;
                assert!(to_do(&owner, table).await[0].starts_with("DROP INDEX CONCURRENTLY"), "it is not cleared away");
                break;
            }
            if let Err(error) = owner.batch_execute(step).await {
                // A lock that was not to be had: the next round goes on there.
                assert_eq!(error.code().map(|code| code.code()), Some("55P03"), "{step}: {:?}", error.as_db_error());
                break;
            }
        }
    }
    panic!("the plan for {table} never ends");
}

/// Everything that was there and was written meanwhile belongs to the organization of its account.
async fn assert_whole(database: &Database, table: &str, written: u64) {
    let superuser = database.superuser().await;
    let all = format!("SELECT count(*) FROM {table}");
    assert_eq!(count(&superuser, &all).await, ROWS + i64::try_from(written).unwrap());
    let strange =
        "t JOIN cloud_account a ON a.id = t.account WHERE t.organization_id IS DISTINCT FROM a.organization_id";
    assert_eq!(count(&superuser, &format!("{all} {strange}")).await, 0);
    let acme = count(&superuser, &format!("{all} WHERE account = 1")).await;
    let alice = database.application().await;
    assert_eq!(refused(&alice, &all).await.sqlstate, "28000");
    as_tenant(&alice, &database.token("alice")).await;
    assert_eq!(count(&alice, &all).await, acme);
    let stolen = format!("INSERT INTO {table} (account) VALUES (2)");
    assert_eq!(refused_within(&alice, &stolen).await.sqlstate, "23503");
    assert_eq!(to_do(&database.owner().await, table).await, Vec::<String>::new());
    let drift = "SELECT count(*) FROM tenancy.advise() WHERE rule = 'drift'";
    assert_eq!(count(&superuser, drift).await, 0);
}

#[test]
fn a_live_table_is_protected_in_steps_beside_its_writers() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        create(&superuser, "online").await;
        let (written, longest) = beside_writers(database, "online", async || in_pieces(database, "online").await).await;
        assert_whole(database, "online", written).await;

        // The same all at once: writers wait for all of it. This is what the steps are measured by.
        create(&superuser, "at_once").await;
        let protect = format!("SELECT tenancy.protect('at_once', 'organization_id', backfill => '{BACKFILL}')");
        let at_once = beside_writers(database, "at_once", async || run(&database.owner().await, &protect).await).await;
        assert_whole(database, "at_once", at_once.0).await;
        println!("longest transaction of {written} in steps: {longest:?}; of {} at once: {:?}", at_once.0, at_once.1);
        assert!(longest * 2 < at_once.1, "the writers waited {longest:?}, all at once {:?}", at_once.1);
    });
}
