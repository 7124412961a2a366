//! What a check of a permission costs, and a sign-in, by the number of permissions of the role.

use super::{Pairs, Result, install, register, timed, token};
use crate::signer::Signer;
use tokio_postgres::Client;

const ROWS: u32 = 1_000_000;
const PERMISSIONS: [u32; 2] = [5, 1_000];

pub async fn measure(client: &Client, signer: &Signer) -> Result<()> {
    println!();
    install(client, 1).await?;
    register(client, signer).await?;
    client
        .batch_execute(&format!(
            "DROP TABLE IF EXISTS measured_check;
             CREATE TABLE measured_check (domain text NOT NULL, action text NOT NULL);
             INSERT INTO measured_check
             SELECT 'domain ' || n % 5, (ARRAY['read', 'update'])[1 + n % 2] FROM generate_series(1, {ROWS}) n;
             GRANT SELECT ON measured_check TO bench_application;
             SELECT tenancy.create_role('of ' || n) FROM unnest('{{5,1000}}'::int[]) n;
             SELECT tenancy.grant_permission('of ' || n, 'domain ' || d, '*')
               FROM unnest('{{5,1000}}'::int[]) n, generate_series(0, n - 1) d"
        ))
        .await?;
    client.batch_execute("VACUUM ANALYZE measured_check").await?;
    for permissions in PERMISSIONS {
        member(client, signer, permissions).await?;
        // A function of C with the same arguments that does next to nothing.
        let (empty, check) = ("texteq(domain, action) IS NOT NULL", "tenancy.authorize(domain, action)");
        let name = format!("authorize(column, column) of 1,000,000 rows, {permissions} permissions");
        compare(client, &name, empty, check, "(goal: at most 1.5)").await?;
        if permissions == PERMISSIONS[0] {
            let (nothing, constants) =
                ("domain IS NOT NULL", "domain IS NOT NULL AND tenancy.authorize('domain 1', 'read')");
            compare(client, "authorize with constants in a condition", nothing, constants, "(goal: at most 1.02)")
                .await?;
        }
        client.batch_execute("ROLLBACK").await?;
    }
    sign_in(client, signer).await
}

/// Begins a transaction of a member with so many permissions.
async fn member(client: &Client, signer: &Signer, permissions: u32) -> Result<()> {
    let role = format!("SELECT tenancy.set_membership(lpad('1', 32, '0')::uuid, 'alice', 'of {permissions}')");
    // She may be the last admin.
    client.batch_execute(&format!("BEGIN; SET LOCAL tenancy.override_reason = 'measured'; {role}; COMMIT")).await?;
    client
        .batch_execute("BEGIN; SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL ROLE bench_application")
        .await?;
    client.query("SELECT tenancy.authenticate($1)", &[&token(signer, 0)]).await?;
    Ok(())
}

async fn compare(client: &Client, name: &str, without: &str, with: &str, goal: &str) -> Result<()> {
    let counted = |condition: &str| format!("SELECT count(*) FROM measured_check WHERE {condition}");
    let mut pairs = Pairs::new();
    for _ in 0..25 {
        pairs.add(timed(client, &counted(without), 1).await?, timed(client, &counted(with), 1).await?);
    }
    pairs.report(name, 1, goal);
    Ok(())
}

/// The same token again and again, and tokens that the session has not seen.
async fn sign_in(client: &Client, signer: &Signer) -> Result<()> {
    const TIMES: u32 = 200;
    for (what, remembered) in [("remembered", true), ("anew", false)] {
        let mut pairs = Pairs::new();
        for round in 0..15 {
            let mut taken = Vec::new();
            for permissions in PERMISSIONS {
                member(client, signer, permissions).await?;
                let number = |n| if remembered { 0 } else { 1 + n + TIMES * (round * 2 + permissions % 2) };
                let tokens: Vec<String> = (0..TIMES).map(|n| token(signer, number(n))).collect();
                let statement =
                    client.prepare("SELECT count(tenancy.authenticate(t)) FROM unnest($1::text[]) t").await?;
                let start = std::time::Instant::now();
                client.query(&statement, &[&tokens]).await?;
                taken.push(start.elapsed());
                client.batch_execute("COMMIT").await?;
            }
            pairs.add(taken[0], taken[1]);
        }
        let name = format!("authenticate {what} with 1,000 permissions, beside 5");
        pairs.report(&name, TIMES, "(goal: at most 1.3)");
    }
    Ok(())
}
