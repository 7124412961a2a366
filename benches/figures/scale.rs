//! What checkpoints and proofs of heads cost, with few organizations and with many of which few moved.

use super::{Result, install, median, seal, show, size};
use std::time::Instant;
use tokio_postgres::Client;

const MOVED: u32 = 100;
const ROUNDS: u32 = 9;

/// `BENCH_ORGANIZATIONS` says how many; 100,000 take a minute to make.
pub async fn measure(client: &Client) -> Result<()> {
    println!();
    for organizations in [MOVED, size("BENCH_ORGANIZATIONS", 100_000)?] {
        install(client, organizations).await?;
        client
            .batch_execute(&format!(
                "DROP TABLE IF EXISTS scaled;
                 CREATE TABLE scaled (id bigserial PRIMARY KEY, organization_id uuid NOT NULL);
                 SELECT tenancy.protect('scaled');
                 INSERT INTO scaled (organization_id)
                 SELECT lpad(to_hex(n), 32, '0')::uuid FROM generate_series(1, {organizations}) n"
            ))
            .await?;
        let start = Instant::now();
        seal(client).await?;
        let sealing = start.elapsed() / organizations;
        let start = Instant::now();
        client.query_one("SELECT tenancy.checkpoint()", &[]).await?;
        let first = start.elapsed();
        client.batch_execute("VACUUM ANALYZE").await?;
        let (mut checkpoints, mut proofs) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            // Spread over all of them, others in each round.
            let moved = format!(
                "INSERT INTO scaled (organization_id)
                 SELECT lpad(to_hex(1 + (n * ({organizations} / {MOVED}) + {round}) % {organizations}), 32, '0')::uuid
                   FROM generate_series(1, {MOVED}) n"
            );
            client.batch_execute(&moved).await?;
            seal(client).await?;
            let start = Instant::now();
            client.query_one("SELECT tenancy.checkpoint()", &[]).await?;
            checkpoints.push(start.elapsed());
            let start = Instant::now();
            client.query("SELECT * FROM tenancy.head_proof(lpad('1', 32, '0')::uuid)", &[]).await?;
            proofs.push(start.elapsed());
        }
        println!(
            "{organizations} organizations, {MOVED} of them moved: checkpoint {} (goal: at most 20 ms), head_proof {} \
             (goal: at most 5 ms)",
            show(median(&checkpoints)),
            show(median(&proofs))
        );
        println!("  before, all moved: sealing {} an organization, checkpoint {}", show(sealing), show(first));
    }
    Ok(())
}
