//! What reviews cost: opening one of many memberships, and a close that changes many.

use super::{Pairs, Result, install, register, token};
use crate::signer::Signer;
use std::time::{Duration, Instant};
use tokio_postgres::Client;

const MEMBERS: u32 = 100_000;
const CHANGES: u32 = 10_000;

/// What somebody would write who needs no review: a copy of each row with its key.
const COPY: &str = "INSERT INTO measured_item
    SELECT gen_random_uuid(), row_number() OVER (), jsonb_build_object('issuer', m.issuer, 'subject', m.subject),
           to_jsonb(m)
      FROM tenancy.membership m WHERE m.status = 'active'";

const UPDATE: &str = "UPDATE tenancy.membership SET role = 'viewer' WHERE role = 'auditor'";

pub async fn measure(client: &Client, signer: &Signer) -> Result<()> {
    println!();
    install(client, 1).await?;
    register(client, signer).await?;
    let members = format!(
        "INSERT INTO tenancy.membership (organization, issuer, subject, role)
         SELECT lpad('1', 32, '0')::uuid, 'https://idp.example/',
                'member ' || n, CASE WHEN n <= {CHANGES} THEN 'auditor' ELSE 'member' END
           FROM generate_series(1, {MEMBERS}) n;
         CREATE TABLE IF NOT EXISTS measured_item (review uuid, number integer, what jsonb, snapshot jsonb,
             PRIMARY KEY (review, number))"
    );
    client.batch_execute(&members).await?;
    for table in ["tenancy.membership", "tenancy.role_permission"] {
        client.batch_execute(&format!("VACUUM ANALYZE {table}")).await?;
    }
    let open = "SELECT tenancy.open_review('memberships', 'measured', now() + interval '1 day')";
    let mut pairs = Pairs::new();
    for _ in 0..7 {
        pairs.add(undone(client, signer, COPY).await?, undone(client, signer, open).await?);
    }
    pairs.report("open_review of 100,000 memberships, beside INSERT ... SELECT", 1, "(goal: at most 3)");

    // Of the reviews that were opened and rolled back nothing is left that a close would have to read.
    client.batch_execute("VACUUM FULL tenancy.review_item").await?;
    let review = prepared(client, signer).await?;
    let close = format!("SELECT count(*) FROM tenancy.close_review('{review}')");
    let mut pairs = Pairs::new();
    for _ in 0..7 {
        pairs.add(undone(client, signer, UPDATE).await?, undone(client, signer, &close).await?);
    }
    pairs.report("close_review of 10,000 changes, beside UPDATE by hand", 1, "(goal: at most 3)");
    client.batch_execute("DROP TABLE measured_item").await?;
    Ok(())
}

/// How long a statement takes as alice, in a transaction that is rolled back.
async fn undone(client: &Client, signer: &Signer, sql: &str) -> Result<Duration> {
    client.batch_execute("BEGIN").await?;
    client.query("SELECT tenancy.authenticate($1)", &[&token(signer, 0)]).await?;
    let start = Instant::now();
    client.batch_execute(sql).await?;
    let took = start.elapsed();
    client.batch_execute("ROLLBACK").await?;
    Ok(took)
}

/// A review in which somebody has decided to change members.
async fn prepared(client: &Client, signer: &Signer) -> Result<String> {
    client.batch_execute("BEGIN").await?;
    client.query("SELECT tenancy.authenticate($1)", &[&token(signer, 0)]).await?;
    let open = "SELECT tenancy.open_review('memberships', 'measured', now() + interval '1 day',
                                           filter => '{\"role\": \"auditor\"}')::text";
    let review: String = client.query_one(open, &[]).await?.get(0);
    let decide = format!(
        "SELECT count(tenancy.decide(i.review, i.number, 'change', 'measured', change => '{{\"role\": \"viewer\"}}'))
           FROM tenancy.review_item i WHERE i.review = '{review}'"
    );
    client.query(&decide, &[]).await?;
    client.batch_execute("COMMIT").await?;
    client.batch_execute("VACUUM ANALYZE tenancy.review_item").await?;
    Ok(review)
}
