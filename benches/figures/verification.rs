//! What checking the audit costs, beside reading the same rows and hashing as many bytes.

use super::{Pairs, Result, seal, show};
use sha2::{Digest as _, Sha256};
use std::hint::black_box;
use std::time::Instant;
use tokio_postgres::Client;

/// All events as they are read, each column by its length, and the rows that seal them.
const READ: &str = "SELECT sum(pg_column_size(e.id) + pg_column_size(e.organization) + pg_column_size(e.actor)
          + pg_column_size(e.transaction) + pg_column_size(e.ordinal) + pg_column_size(e.occurred_at)
          + octet_length(e.operation) + octet_length(e.domain) + coalesce(octet_length(e.table_schema), 0)
          + coalesce(octet_length(e.table_name), 0) + coalesce(octet_length(e.row_key::text), 0)
          + octet_length(e.result) + coalesce(octet_length(e.reason), 0) + coalesce(octet_length(e.payload::text), 0)
          + coalesce(octet_length(e.payload_salt), 0) + coalesce(octet_length(e.payload_digest), 0)
          + pg_column_size(e.encoding) + octet_length(e.prev_hash) + octet_length(e.hash))
          + (SELECT sum(pg_column_size(s)) FROM tenancy.entry s),
        count(*)
   FROM tenancy.event e";

const PAIRS: usize = 7;
const BLOCKS: u32 = 20;
const ROWS_OF_BLOCK: u32 = 15_000;

/// One process on both sides, so that the figure does not depend on how many the machine has.
pub async fn measure(client: &Client) -> Result<()> {
    prepare(client).await?;
    let mut pairs = Pairs::new();
    let mut events: i64 = 0;
    let (mut alone, mut shared, mut stored) = (Vec::new(), Vec::new(), Vec::new());
    let tables = stored_tables(client).await?;
    for _ in 0..PAIRS {
        let start = Instant::now();
        let bytes: i64 = client.query_one(&tables, &[]).await?.get(0);
        hash(bytes as usize);
        stored.push(start.elapsed());
        let start = Instant::now();
        let row = client.query_one(READ, &[]).await?;
        let bytes: i64 = row.get(0);
        events = row.get(1);
        hash(bytes as usize);
        pairs.without.push(start.elapsed());
        for (workers, durations) in [(0, &mut alone), (2, &mut shared)] {
            let start = Instant::now();
            let sql = format!("SELECT count(*) FROM tenancy.verify_audit(whole => true, workers => {workers})");
            let found: i64 = client.query_one(&sql, &[]).await?.get(0);
            durations.push(start.elapsed());
            assert_eq!(found, 0);
        }
        pairs.with.push(alone[alone.len() - 1]);
    }
    client.batch_execute("RESET max_parallel_workers_per_gather").await?;
    let goal = "(goal: at most 1.5, and 0.8 us)";
    pairs.report("verify_audit, an event, beside reading them and SHA-256 of as much", events as u32, goal);
    let stored = Pairs { without: stored, with: alone.clone() };
    stored.report("the same, beside the stored bytes and their SHA-256", events as u32, "");
    let parallel = Pairs { without: alone, with: shared };
    parallel.report("verify_audit with 2 workers, beside none", 1, "");
    let start = Instant::now();
    client.query("SELECT * FROM tenancy.verify_audit()", &[]).await?;
    println!("verify_audit: {events} events; with nothing new since the last run {}", show(start.elapsed()));
    Ok(())
}

/// A query that reads every row of the extension's tables as it is stored.
async fn stored_tables(client: &Client) -> Result<String> {
    let tables = client
        .query(
            "SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'tenancy'::regnamespace AND relkind = 'r'",
            &[],
        )
        .await?;
    let sums: Vec<String> = tables
        .iter()
        .map(|row| format!("(SELECT coalesce(sum(pg_column_size(t)), 0) FROM {} t)", row.get::<_, String>(0)))
        .collect();
    Ok(format!("SELECT ({})::bigint", sums.join(" + ")))
}

/// Sealing and verifying what other figures left.
pub async fn newest(client: &Client) -> Result<()> {
    seal(client).await?;
    let start = Instant::now();
    let found: i64 = client.query_one("SELECT count(*) FROM tenancy.verify_audit()", &[]).await?.get(0);
    let took = start.elapsed();
    let row =
        client.query_one("SELECT events FROM tenancy.verification ORDER BY verified_at DESC LIMIT 1", &[]).await?;
    println!("verify_audit: {} events in {}, {found} findings", row.get::<_, i64>(0), show(took));
    Ok(())
}

/// The events of a hundred organizations, in blocks as the sealer makes them under load.
async fn prepare(client: &Client) -> Result<()> {
    client
        .batch_execute(
            "DROP TABLE IF EXISTS verified;
             CREATE TABLE verified (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, organization_id uuid NOT \
             NULL, title text, cost numeric);
             SELECT tenancy.protect('verified')",
        )
        .await?;
    for _ in 0..BLOCKS {
        let insert = format!(
            "INSERT INTO verified (organization_id, title, cost)
             SELECT lpad(to_hex(1 + n % 100), 32, '0')::uuid, 'finding ' || n, n FROM generate_series(1, \
             {ROWS_OF_BLOCK}) n"
        );
        client.batch_execute(&insert).await?;
        seal(client).await?;
    }
    for alone in ["VACUUM ANALYZE", "CHECKPOINT"] {
        client.batch_execute(alone).await?;
    }
    client.batch_execute("SET max_parallel_workers_per_gather = 0").await?;
    Ok(())
}

/// Bare SHA-256 over so many bytes.
fn hash(bytes: usize) {
    let block = vec![0x5a; 1 << 16];
    let mut hash = Sha256::new();
    for _ in 0..bytes / block.len() {
        hash.update(&block);
    }
    hash.update(&block[..bytes % block.len()]);
    black_box(hash.finalize());
}
