//! How many events a second writers make at full speed for minutes, and how far the sealer is behind meanwhile: with
//! the limit that slows writers down, and without.
//!
//! The worker must seal, so the server needs `LOADING=shared`. `BENCH_SECONDS` is the length of a run with the limit, a
//! fifth of it that of one without. `BENCH_LIMIT` is another limit than the default.

use super::{CLIENTS, Result, connect, connect_as, install, register, size, token};
use crate::signer::Signer;
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::task::LocalSet;
use tokio_postgres::Client;

/// Rows of each client, which a bulk transaction changes at once.
const ROWS: u32 = 1_000;
/// How often the newest blocks are verified beside the writers.
const VERIFY: Duration = Duration::from_secs(10);

/// The writes change rows, so that a run of minutes leaves only events behind.
const TABLE: &str = "
    DROP TABLE IF EXISTS sustained;
    CREATE TABLE sustained (client integer, id integer, organization_id uuid NOT NULL, title text, cost numeric,
                            PRIMARY KEY (client, id)) WITH (fillfactor = 40);
    SELECT tenancy.protect('sustained');
    GRANT SELECT, UPDATE ON sustained TO bench_application;
    GRANT EXECUTE ON FUNCTION tenancy.authenticate_session(text, uuid, text) TO bench_application;
    ALTER ROLE bench_application LOGIN";

const SAMPLE: &str = "SELECT unsealed_events, unsealed_seconds::float8,
           extract(epoch FROM clock_timestamp() - newest_block_sealed_at)::float8, waiting_sessions
      FROM tenancy.audit_lag";

/// What one look at the server saw.
struct Sample {
    unsealed: i64,
    /// Of the oldest unsealed event, and of the newest block, in seconds.
    oldest: f64,
    block: f64,
    waiting: i64,
}

pub async fn measure(client: &Client, signer: &Signer) -> Result<()> {
    println!();
    if client.query("SELECT FROM tenancy.throttle_state()", &[]).await?.is_empty() {
        println!("sustained: nothing seals on this server; start it with LOADING=shared");
        return Ok(());
    }
    let length = Duration::from_secs(size("BENCH_SECONDS", 20)?.into());
    let limit = match size("BENCH_LIMIT", 0)? {
        0 => "DEFAULT".to_owned(),
        limit => limit.to_string(),
    };
    // So that the WAL of minutes has room.
    client.batch_execute("ALTER SYSTEM SET max_wal_size = '2GB'").await?;
    for (name, each) in [("one row", 1), ("1,000 rows", ROWS)] {
        for (limit, length) in [(limit.as_str(), length), ("0", length / 5)] {
            client.batch_execute(&format!("ALTER SYSTEM SET tenancy.max_unsealed_events = {limit}")).await?;
            client.batch_execute("SELECT pg_reload_conf()").await?;
            install(client, 1).await?;
            client.batch_execute(TABLE).await?;
            register(client, signer).await?;
            client.batch_execute("VACUUM ANALYZE").await?;
            client.batch_execute("CHECKPOINT").await?;
            let (events, samples) = LocalSet::new().run_until(run(client, signer, each, length)).await?;
            let limit = client.query_one("SHOW tenancy.max_unsealed_events", &[]).await?.get::<_, String>(0);
            println!("{CLIENTS} clients, transactions of {name}, at most {limit} unsealed (0: no limit)");
            report(events, length, &samples);
        }
    }
    client.batch_execute("ALTER SYSTEM RESET tenancy.max_unsealed_events").await?;
    client.batch_execute("ALTER SYSTEM SET max_wal_size = '8GB'").await?;
    client.batch_execute("SELECT pg_reload_conf()").await?;
    Ok(())
}

/// Writers, a verifier and a look each second, for so long; returns how many events were committed and what was seen.
async fn run(client: &Client, signer: &Signer, each: u32, length: Duration) -> Result<(u64, Vec<Sample>)> {
    let fill = format!(
        "INSERT INTO sustained SELECT c, n, lpad('1', 32, '0')::uuid, 'finding ' || n, 0
           FROM generate_series(1, {CLIENTS}) c, generate_series(1, {ROWS}) n"
    );
    client.batch_execute(&fill).await?;
    client.batch_execute("SELECT tenancy.seal()").await?;
    let stop = Rc::new(Cell::new(false));
    let events = Rc::new(Cell::new(0));
    let mut tasks = Vec::new();
    for number in 1..=CLIENTS as i32 {
        // The setting does not bind superusers.
        let writer = connect_as("bench_application").await?;
        writer.query("SELECT tenancy.authenticate_session($1)", &[&token(signer, 0)]).await?;
        let (stop, events) = (stop.clone(), events.clone());
        tasks.push(tokio::task::spawn_local(async move {
            let update = "UPDATE sustained SET cost = cost + 1 WHERE client = $1 AND id BETWEEN $2 AND $3";
            let statement = writer.prepare(update).await?;
            let mut first = 1;
            while !stop.get() {
                let last = first + each as i32 - 1;
                let changed = writer.execute(&statement, &[&number, &first, &last]).await?;
                events.set(events.get() + changed);
                first = if last as u32 >= ROWS { 1 } else { last + 1 };
            }
            Ok::<(), tokio_postgres::Error>(())
        }));
    }
    let verifier = connect().await?;
    let stopped = stop.clone();
    let verifying = tokio::task::spawn_local(async move {
        while !stopped.get() {
            tokio::time::sleep(VERIFY).await;
            // In a read-only transaction it does not seal.
            verifier.batch_execute("BEGIN READ ONLY").await?;
            let newest = "SELECT count(*) FROM tenancy.verify_audit(workers => 0, first_block =>
                (SELECT greatest(1, max(number) - 2) FROM tenancy.block))";
            let found: i64 = verifier.query_one(newest, &[]).await?.get(0);
            assert_eq!(found, 0, "verify_audit has findings");
            verifier.batch_execute("COMMIT").await?;
        }
        Ok::<(), tokio_postgres::Error>(())
    });
    let (start, mut samples) = (Instant::now(), Vec::new());
    while start.elapsed() < length {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let row = client.query_one(SAMPLE, &[]).await?;
        samples.push(Sample { unsealed: row.get(0), oldest: row.get(1), block: row.get(2), waiting: row.get(3) });
    }
    let committed = events.get();
    stop.set(true);
    for task in tasks {
        task.await??;
    }
    verifying.await??;
    Ok((committed, samples))
}

/// The whole, and its first and last third, which are alike where nothing grows.
fn report(events: u64, length: Duration, samples: &[Sample]) {
    println!("  {:.0} events a second", events as f64 / length.as_secs_f64());
    let third = samples.len().div_ceil(3);
    for (name, part) in
        [("whole", samples), ("first third", &samples[..third]), ("last third", &samples[samples.len() - third..])]
    {
        let of = |value: fn(&Sample) -> f64| spread(part.iter().map(value).collect());
        let (block, oldest) = (of(|sample| sample.block), of(|sample| sample.oldest));
        let (unsealed, waiting) = (of(|sample| sample.unsealed as f64), of(|sample| sample.waiting as f64));
        println!(
            "  {name:<12} newest block {:.2} s old (at most {:.2}), oldest unsealed event {:.2} s (at most {:.2}), \
             unsealed {:.0} (at most {:.0}), {:.0} of {CLIENTS} wait (at most {:.0})",
            block[0], block[1], oldest[0], oldest[1], unsealed[0], unsealed[1], waiting[0], waiting[1]
        );
    }
}

/// Median and maximum.
fn spread(mut values: Vec<f64>) -> [f64; 2] {
    values.sort_by(f64::total_cmp);
    [values.get(values.len() / 2), values.last()].map(|value| value.copied().unwrap_or_default())
}
