//! What break-glass costs while it is used: single-row transactions, elevated or not.

use super::{Pairs, Result, connect, install, register, token};
use crate::signer::Signer;
use std::time::{Duration, Instant};
use tokio_postgres::Client;
use uuid::Uuid;

const TIMES: u32 = 200;

pub async fn measure(client: &Client, signer: &Signer) -> Result<()> {
    println!();
    install(client, 1).await?;
    register(client, signer).await?;
    // Without a worker nothing is recorded of what rolls back; these commit.
    client
        .batch_execute(
            r#"SELECT tenancy.set_break_glass_policy('{"approvals": 0}', 'measured'),
                      tenancy.set_guardrail('unrecorded_break_glass', 'off', 'measured');
               DROP TABLE IF EXISTS measured_row;
               CREATE TABLE measured_row (id bigint PRIMARY KEY, organization_id uuid NOT NULL, title text,
                                          cost numeric);
               INSERT INTO measured_row
               SELECT n, lpad('1', 32, '0')::uuid, 'finding ' || n, n FROM generate_series(1, 10000) n;
               SELECT tenancy.protect('measured_row');
               GRANT SELECT, UPDATE ON measured_row TO bench_application"#,
        )
        .await?;
    client.batch_execute("VACUUM ANALYZE measured_row").await?;
    let member = connect().await?;
    member.batch_execute("SET ROLE bench_application").await?;
    let token = token(signer, 0);
    member.batch_execute("BEGIN").await?;
    member.query("SELECT tenancy.authenticate($1)", &[&token]).await?;
    let request = "SELECT tenancy.request_break_glass('it is measured', permissions => '{finding:update}')";
    let grant: Uuid = member.query_one(request, &[]).await?.get(0);
    member.batch_execute("COMMIT").await?;
    let elevate = format!("SELECT tenancy.break_glass('{grant}');");
    for (what, row) in [
        (
            "UPDATE of a row while elevated, beside not elevated",
            "UPDATE measured_row SET cost = cost + 1 WHERE id = 100",
        ),
        ("SELECT of a row while elevated, beside not elevated", "SELECT title FROM measured_row WHERE id = 100"),
    ] {
        let mut pairs = Pairs::new();
        for _ in 0..15 {
            let without = transactions(&member, &token, "", row).await?;
            pairs.add(without, transactions(&member, &token, &elevate, row).await?);
        }
        pairs.report(what, TIMES, "(goal: at most 1.25, which is 0.8 of the rate)");
    }
    client.batch_execute("DROP TABLE measured_row").await?;
    Ok(())
}

/// So many transactions, each in one message.
async fn transactions(member: &Client, token: &str, elevate: &str, row: &str) -> Result<Duration> {
    let transaction = format!("BEGIN; SELECT tenancy.authenticate('{token}'); {elevate} {row}; COMMIT");
    let start = Instant::now();
    for _ in 0..TIMES {
        member.batch_execute(&transaction).await?;
    }
    Ok(start.elapsed())
}
