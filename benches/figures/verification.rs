//! What checking the audit costs, beside reading the same rows and hashing as many bytes.

use super::{Pairs, Result, show};
use sha2::{Digest as _, Sha256};
use std::hint::black_box;
use std::time::Instant;
use tokio_postgres::Client;

/// All rows that a verification reads, each column by its length.
const READ: &str = "SELECT sum(pg_column_size(s.organization) + pg_column_size(s.position) + pg_column_size(s.block) \
    + pg_column_size(s.event)
          + octet_length(s.event_hash) + octet_length(s.chain)
          + pg_column_size(e.id) + pg_column_size(e.organization) + pg_column_size(e.actor) + \
          pg_column_size(e.transaction)
          + pg_column_size(e.ordinal) + pg_column_size(e.occurred_at) + octet_length(e.operation) + \
          octet_length(e.domain)
          + coalesce(octet_length(e.table_schema), 0) + coalesce(octet_length(e.table_name), 0) + \
          coalesce(octet_length(e.row_key::text), 0)
          + octet_length(e.result) + coalesce(octet_length(e.reason), 0) + coalesce(octet_length(e.payload::text), 0)
          + coalesce(octet_length(e.payload_salt), 0) + octet_length(e.payload_digest) + pg_column_size(e.encoding)
          + octet_length(e.prev_hash) + octet_length(e.hash)
          + pg_column_size(a.id) + octet_length(a.method) + coalesce(octet_length(a.subject), 0) + \
          coalesce(octet_length(a.issuer), 0)
          + coalesce(octet_length(a.role), 0) + coalesce(pg_column_size(a.organization), 0) + \
          coalesce(octet_length(a.session_id), 0)
          + coalesce(octet_length(a.correlation_id), 0) + coalesce(octet_length(a.reason), 0) + \
          octet_length(a.session_user_name)
          + octet_length(a.current_user_name) + coalesce(octet_length(a.client_address), 0) + \
          coalesce(octet_length(a.application_name), 0)),
        count(*)
   FROM tenancy.seal s JOIN tenancy.event e ON e.id = s.event JOIN tenancy.event_actor a ON a.id = e.actor";

const PAIRS: usize = 7;
const BLOCKS: u32 = 20;
const ROWS_OF_BLOCK: u32 = 15_000;

/// One process on both sides, so that the figure does not depend on how many the machine has.
pub async fn measure(client: &Client) -> Result<()> {
    prepare(client).await?;
    let mut pairs = Pairs::new();
    let mut events: i64 = 0;
    let (mut alone, mut shared) = (Vec::new(), Vec::new());
    for _ in 0..PAIRS {
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
    pairs.report("verify_audit, an event, beside sum(length) and SHA-256", events as u32, "(goal: at most 2)");
    let parallel = Pairs { without: alone, with: shared };
    parallel.report("verify_audit with 2 workers, beside none", 1, "");
    let start = Instant::now();
    client.query("SELECT * FROM tenancy.verify_audit()", &[]).await?;
    println!("verify_audit: {events} events; with nothing new since the last run {}", show(start.elapsed()));
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
        client.batch_execute("SELECT tenancy.seal()").await?;
    }
    for alone in [
        "VACUUM ANALYZE tenancy.seal",
        "VACUUM ANALYZE tenancy.event",
        "VACUUM ANALYZE tenancy.event_actor",
        "CHECKPOINT",
    ] {
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
