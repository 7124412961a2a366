//! What it costs to leave out what is excepted: a list of findings, all of them and the newest.

use super::secrets::copy;
use super::{Pairs, Result, connect, install, register, timed, token};
use crate::signer::Signer;
use std::fmt::Write as _;
use std::time::Instant;
use tokio_postgres::Client;
use uuid::Uuid;

const ORGANIZATIONS: u32 = 100;
const FINDINGS: u32 = 1_000_000;
const EXCEPTIONS: u32 = 100_000;
/// Of each thousand exceptions so many are over, and not recorded as such.
const OVER: u32 = 250;

const LIST: &str = "SELECT id, title, severity, seen_at FROM measured_finding WHERE organization_id = tenancy.org_id()";
const UNLESS: &str = "AND NOT tenancy.is_excepted('finding', id::text)";
const NEWEST: &str = "ORDER BY seen_at DESC LIMIT 500";

pub async fn measure(client: &Client, signer: &Signer) -> Result<()> {
    println!();
    install(client, ORGANIZATIONS).await?;
    register(client, signer).await?;
    load(client).await?;
    let member = connect().await?;
    member.batch_execute("BEGIN; SET LOCAL ROLE bench_application").await?;
    member.query("SELECT tenancy.authenticate($1)", &[&token(signer, 0)]).await?;
    let (all, of_all) = (LIST.to_owned(), format!("{LIST} {UNLESS}"));
    let (newest, of_newest) = (format!("{LIST} {NEWEST}"), format!("{LIST} {UNLESS} {NEWEST}"));
    let listed = (FINDINGS / ORGANIZATIONS) as usize;
    let in_force = (EXCEPTIONS / ORGANIZATIONS * (1000 - OVER) / 1000) as usize;
    assert_eq!(member.query(&all, &[]).await?.len(), listed);
    assert_eq!(member.query(&of_all, &[]).await?.len(), listed - in_force);
    for (what, times, without, with) in [
        ("list of 10,000 findings without 750 excepted, beside all", 10, &all, &of_all),
        ("newest 500 of them, beside the newest 500 of all", 100, &newest, &of_newest),
    ] {
        let plan = member.query(&format!("EXPLAIN {with}"), &[]).await?;
        let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
        assert!(times == 10 || plan.iter().any(|line| line.contains("Index Scan Backward")), "{plan:#?}");
        let mut pairs = Pairs::new();
        for _ in 0..25 {
            pairs.add(timed(&member, without, times).await?, timed(&member, with, times).await?);
        }
        pairs.report(what, times, "(goal: at most 1.10)");
    }
    // What a session pays once, and again after a change.
    let first = "SELECT tenancy.is_excepted('finding', 'none')";
    let mut pairs = Pairs::new();
    for _ in 0..25 {
        let fresh = connect().await?;
        fresh.batch_execute("BEGIN; SET LOCAL ROLE bench_application").await?;
        fresh.query("SELECT tenancy.authenticate($1)", &[&token(signer, 0)]).await?;
        let (start, _) = (Instant::now(), fresh.query(first, &[]).await?);
        let loading = start.elapsed();
        let (start, _) = (Instant::now(), fresh.query(first, &[]).await?);
        pairs.add(start.elapsed(), loading);
    }
    pairs.report("first call of a session, which loads 1,000; beside the next", 1, "");
    member.batch_execute("ROLLBACK; SET tenancy.exception_cache = 0; BEGIN").await?;
    member.query("SELECT tenancy.authenticate($1)", &[&token(signer, 0)]).await?;
    let mut pairs = Pairs::new();
    for _ in 0..10 {
        pairs.add(timed(&member, &all, 3).await?, timed(&member, &of_all, 3).await?);
    }
    pairs.report("list of 10,000 by index, past tenancy.exception_cache", 3, "");
    member.batch_execute("ROLLBACK").await?;
    client.batch_execute("DROP TABLE measured_finding").await?;
    Ok(())
}

/// Findings of all organizations, in the order in which they were seen, and exceptions from some, as from a dump.
async fn load(client: &Client) -> Result<()> {
    client
        .batch_execute(&format!(
            "DROP TABLE IF EXISTS measured_finding;
             CREATE TABLE measured_finding (id uuid PRIMARY KEY, organization_id uuid NOT NULL, title text NOT NULL,
                 severity text NOT NULL, seen_at timestamptz NOT NULL);
             INSERT INTO measured_finding
             SELECT lpad(to_hex(n), 32, '0')::uuid, lpad(to_hex(1 + n % {ORGANIZATIONS}), 32, '0')::uuid,
                    'finding ' || n || ' of a resource that is described here', 'medium',
                    timestamptz '2026-01-01' + n * interval '1 second'
               FROM generate_series(0, {FINDINGS} - 1) n;
             CREATE INDEX ON measured_finding (organization_id, seen_at);
             GRANT SELECT ON measured_finding TO bench_application"
        ))
        .await?;
    client.batch_execute("VACUUM ANALYZE measured_finding").await?;
    let mut lines = String::new();
    let each = FINDINGS / EXCEPTIONS;
    for number in 0..EXCEPTIONS {
        // Each organization has one for each tenth of its findings.
        let (organization, place) = (number % ORGANIZATIONS, number / ORGANIZATIONS);
        let finding = organization + place * each * ORGANIZATIONS;
        let expires = if place % 1000 < OVER { "2026-02-01" } else { "2999-01-01" };
        let (id, of) = (Uuid::from_u128(u128::from(number) | 7 << 76 | 2 << 62), organization + 1);
        writeln!(
            lines,
            "{id}\t{}\tfinding\t{}\tactive\tmeasured\t{{}}\t{expires} 00:00:00+00\t1\t2026-01-01 \
             00:00:00+00\ti\ts\ti\ts\tnow",
            Uuid::from_u128(u128::from(of)),
            Uuid::from_u128(u128::from(finding)),
        )?;
    }
    let columns = "exception (id, organization, kind, target, state, reason, evidence, expires_at, approvals,
                              requested_at, requested_issuer, requested_subject, owner_issuer, owner_subject,
                              active_from)";
    copy(client, columns, lines).await?;
    client.batch_execute("VACUUM ANALYZE tenancy.exception").await?;
    Ok(())
}
