//! What reading the history of a row, and the newest events of an organization, costs among few events and among many.

use super::{Pairs, Result, install, register, seal, show, size, token};
use crate::signer::Signer;
use std::time::{Duration, Instant};
use tokio_postgres::{Client, GenericClient};

const FEW: u32 = 10_000;
const ROWS_OF_STATEMENT: u32 = 5_000;
/// After so many events the sealer runs, about as often as the worker does under this load: each second.
const EVENTS_OF_BLOCK: u32 = 125_000;
const ORGANIZATIONS: u32 = 100;
const ROUNDS: usize = 9;

const ROW: &str = "SELECT * FROM tenancy.row_history('remembered', '{\"id\": 7}')";
const NEWEST: &str = "SELECT * FROM tenancy.organization_audit_trail ORDER BY block DESC, position DESC LIMIT 100";

/// `BENCH_EVENTS` says how many events are many.
pub async fn measure(client: &Client, signer: &Signer) -> Result<()> {
    println!();
    install(client, ORGANIZATIONS).await?;
    register(client, signer).await?;
    client
        .batch_execute(
            "DROP TABLE IF EXISTS remembered;
             CREATE TABLE remembered (id bigint PRIMARY KEY, organization_id uuid NOT NULL, title text, cost numeric);
             SELECT tenancy.protect('remembered')",
        )
        .await?;
    let (mut rows, mut trail) = (Pairs::new(), Pairs::new());
    let many = size("BENCH_EVENTS", 300_000)?;
    write(client, 0, FEW).await?;
    for _ in 0..ROUNDS {
        rows.without.push(read(client, ROW).await?);
        trail.without.push(newest(client, signer).await?);
    }
    write(client, FEW, many).await?;
    for _ in 0..ROUNDS {
        rows.with.push(read(client, ROW).await?);
        trail.with.push(newest(client, signer).await?);
    }
    let goal = "(goal: at most 3, and 50 ms among 10 million)";
    rows.report(&format!("row_history among {many} events, beside {FEW}"), 1, goal);
    trail.report(&format!("newest 100 of an organization, {many} events beside {FEW}"), 1, "(goal: at most 5 ms)");
    Ok(())
}

/// More events, of many rows and organizations in turn. The row that is read has ten among the first, and one later.
async fn write(client: &Client, from: u32, to: u32) -> Result<()> {
    let start = Instant::now();
    for first in (from..to).step_by(ROWS_OF_STATEMENT as usize) {
        client
            .batch_execute(&format!(
                "INSERT INTO remembered
                 SELECT n, lpad(to_hex(1 + n / 50 % {ORGANIZATIONS}), 32, '0')::uuid, 'finding ' || n, n
                   FROM generate_series({first}, {first} + {ROWS_OF_STATEMENT} - 1) n"
            ))
            .await?;
        if first % EVENTS_OF_BLOCK == 0 {
            seal(client).await?;
        }
    }
    for _ in 0..if from == 0 { 10 } else { 1 } {
        client.batch_execute("UPDATE remembered SET cost = cost + 1 WHERE id = 7").await?;
    }
    seal(client).await?;
    println!("{} events written and sealed in {}", to - from, show(start.elapsed()));
    client.batch_execute("VACUUM ANALYZE").await?;
    Ok(())
}

async fn read(client: &impl GenericClient, sql: &str) -> Result<Duration> {
    let start = Instant::now();
    let rows = client.query(sql, &[]).await?;
    assert!(!rows.is_empty());
    Ok(start.elapsed())
}

/// As a member of the organization reads them.
async fn newest(client: &Client, signer: &Signer) -> Result<Duration> {
    client.batch_execute("BEGIN; SET LOCAL ROLE bench_application").await?;
    client.query("SELECT tenancy.authenticate($1)", &[&token(signer, 0)]).await?;
    let took = read(client, NEWEST).await?;
    client.batch_execute("COMMIT").await?;
    Ok(took)
}
