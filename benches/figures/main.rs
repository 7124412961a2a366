//! `make bench`: what protection costs, as ratios of pairs measured in turn within one run.
//!
//! Each pair runs the same work without and with the extension, one right after the other, so that both meet the same
//! machine in the same mood; the figure is the median of the pairs' ratios.
//! `FIGURES=reads,verification,writes,shapes,sign_in,scale,history,secrets,exceptions,reviews,permissions,elevation`
//! chooses some.
//! `BENCH_ORGANIZATIONS` and `BENCH_EVENTS` say how large scale and history become. `FIGURES=sustained` takes minutes,
//! so it must be asked for.

#[path = "../../tests/common/signer.rs"]
mod signer;

mod elevation;
mod exceptions;
mod history;
mod permissions;
mod reviews;
mod scale;
mod secrets;
mod shapes;
mod sign_in;
mod sustained;
mod verification;
mod writes;

use pg_tenancy_core::identity::algorithm::Algorithm;
use serde_json::json;
use signer::Signer;
use std::env;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio_postgres::{Client, Config, NoTls};

const ORGANIZATIONS: u32 = 100;
const ROWS: u32 = 500_000;
/// The largest tenant's share of the rows, in percent: a skew that fools planners.
const LARGEST: u32 = 40;
const CLIENTS: usize = 8;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    if env::var_os("PGHOST").is_none() {
        println!("no server named by PGHOST: nothing measured");
        return Ok(());
    }
    let client = connect().await?;
    let signer = Signer::new(Algorithm::Hs256);
    prepare(&client, &signer).await?;
    println!(
        "{:<62} {:>11} {:>11} {:>6}",
        "figure: medians, and the ratio of interleaved pairs", "without", "with", "ratio"
    );
    let chosen = env::var("FIGURES").unwrap_or_default();
    let wanted = |name| chosen.is_empty() || chosen.split(',').any(|one| one == name);
    if wanted("reads") {
        reads(&client, &signer).await?;
    }
    if wanted("verification") {
        verification::measure(&client).await?;
    }
    if wanted("writes") {
        writes::measure(&client).await?;
        verification::newest(&client).await?;
    }
    if wanted("shapes") {
        shapes::measure(&client, &signer).await?;
    }
    if wanted("sign_in") {
        sign_in::measure(&client).await?;
    }
    if wanted("scale") {
        scale::measure(&client).await?;
    }
    if wanted("history") {
        history::measure(&client, &signer).await?;
    }
    if wanted("secrets") {
        secrets::measure(&client, &signer).await?;
    }
    if wanted("exceptions") {
        exceptions::measure(&client, &signer).await?;
    }
    if wanted("permissions") {
        permissions::measure(&client, &signer).await?;
    }
    if wanted("reviews") {
        reviews::measure(&client, &signer).await?;
    }
    if wanted("elevation") {
        elevation::measure(&client, &signer).await?;
    }
    if !chosen.is_empty() && wanted("sustained") {
        sustained::measure(&client, &signer).await?;
    }
    Ok(())
}

/// The number that a variable of the environment names.
fn size(variable: &str, otherwise: u32) -> Result<u32> {
    env::var(variable).map_or(Ok(otherwise), |text| Ok(text.replace('_', "").parse()?))
}

async fn connect() -> Result<Client> {
    connect_as(&env::var("PGUSER")?).await
}

async fn connect_as(user: &str) -> Result<Client> {
    let mut config = Config::new();
    config.host(env::var("PGHOST")?).port(env::var("PGPORT")?.parse()?).user(user).dbname("postgres");
    if let Ok(password) = env::var("PGPASSWORD") {
        config.password(password);
    }
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// The extension anew, with no events but those of so many organizations, and the roles.
async fn install(client: &Client, organizations: u32) -> Result<()> {
    client
        .batch_execute(&format!(
            "DROP EXTENSION IF EXISTS pg_tenancy CASCADE;
             CREATE EXTENSION pg_tenancy;
             DO $$ BEGIN CREATE ROLE bench_application; EXCEPTION WHEN duplicate_object THEN END $$;
             GRANT tenancy_application TO bench_application;
             SELECT count(tenancy.create_organization('Tenant ' || n, lpad(to_hex(n), 32, '0')::uuid)) FROM \
             generate_series(1, {organizations}) n",
        ))
        .await?;
    Ok(())
}

/// Two tables with the same rows and the same indexes, one protected.
async fn prepare(client: &Client, signer: &Signer) -> Result<()> {
    client.batch_execute("DROP EXTENSION IF EXISTS pg_tenancy CASCADE; DROP TABLE IF EXISTS bare, guarded").await?;
    install(client, ORGANIZATIONS).await?;
    client
        .batch_execute(&format!(
            "CREATE TABLE bare (id bigint PRIMARY KEY, organization_id uuid NOT NULL, title text, cost numeric, at \
             timestamptz);
             INSERT INTO bare
             SELECT n, lpad(to_hex(CASE WHEN n % 100 < {LARGEST} THEN 1 ELSE 2 + n % ({ORGANIZATIONS} - 1) END), 32, \
             '0')::uuid, 'finding ' || n,
                    n % 1000, timestamptz '2026-01-01' + n * interval '1 minute'
               FROM generate_series(1, {ROWS}) n;
             CREATE INDEX ON bare (organization_id);
             CREATE TABLE guarded (LIKE bare INCLUDING ALL);
             INSERT INTO guarded SELECT * FROM bare;
             SELECT tenancy.protect('guarded');
             GRANT SELECT, INSERT, UPDATE, DELETE ON bare, guarded TO bench_application;",
        ))
        .await?;
    for alone in [
        "ALTER SYSTEM SET max_wal_size = '8GB'",
        "SELECT pg_reload_conf()",
        "VACUUM ANALYZE bare, guarded",
        "CHECKPOINT",
    ] {
        client.batch_execute(alone).await?;
    }
    register(client, signer).await
}

/// Makes the signer's key the only one, and "alice" an admin of the largest tenant.
async fn register(client: &Client, signer: &Signer) -> Result<()> {
    // By a file, because HMAC keys are taken in no other way.
    let write = "COPY (SELECT '{jwks}') TO PROGRAM 'umask 077 && cat > \"{folder}/bench.json\"'";
    let folder: String = client.query_one("SELECT current_setting('tenancy.jwks_directory')", &[]).await?.get(0);
    client.batch_execute(&write.replace("{jwks}", &signer.key_set()).replace("{folder}", &folder)).await?;
    client
        .execute("SELECT tenancy.set_issuer('https://idp.example/', '{bench}', jwks_file => 'bench.json')", &[])
        .await?;
    client.execute("SELECT tenancy.set_membership(lpad('1', 32, '0')::uuid, 'alice', 'admin')", &[]).await?;
    Ok(())
}

/// A token for "alice", another one for each number.
fn token(signer: &Signer, number: u32) -> String {
    token_of(signer, "https://idp.example/", number)
}

fn token_of(signer: &Signer, issuer: &str, number: u32) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let organization = uuid::Uuid::from_u128(1);
    signer.token(&json!({
        "iss": issuer, "aud": "bench", "sub": "alice", "org_id": organization, "iat": now,
        "exp": now + 3600,
        "email": "alice@acme.example", "sid": "b4d2b0a6-5b5c-4c9e-9a53-2f6b9a1b7c11", "jti": number.to_string(),
    }))
}

/// Measures `without` and `with` in turn; prints medians and the median of the ratios with / without.
struct Pairs {
    without: Vec<Duration>,
    with: Vec<Duration>,
}

impl Pairs {
    fn new() -> Self {
        Pairs { without: Vec::new(), with: Vec::new() }
    }

    fn add(&mut self, without: Duration, with: Duration) {
        self.without.push(without);
        self.with.push(with);
    }

    /// The median of the pairs' ratios.
    fn ratio(&self) -> f64 {
        let pairs = self.with.iter().zip(&self.without);
        let mut ratios: Vec<f64> = pairs.map(|(with, without)| with.as_secs_f64() / without.as_secs_f64()).collect();
        ratios.sort_by(f64::total_cmp);
        ratios[ratios.len() / 2]
    }

    fn report(&self, name: &str, each: u32, goal: &str) {
        let ratio = self.ratio();
        let (without, with) = (median(&self.without) / each, median(&self.with) / each);
        println!("{name:<62} {:>11} {:>11} {ratio:>6.2}  {goal}", show(without), show(with));
    }
}

fn median(durations: &[Duration]) -> Duration {
    let mut sorted = durations.to_vec();
    sorted.sort();
    sorted[sorted.len() / 2]
}

fn show(duration: Duration) -> String {
    let micros = duration.as_secs_f64() * 1e6;
    if micros < 1000.0 { format!("{micros:.1} us") } else { format!("{:.2} ms", micros / 1000.0) }
}

/// Runs `sql` `times` times as one prepared statement.
async fn timed(client: &Client, sql: &str, times: u32) -> Result<Duration> {
    let statement = client.prepare(sql).await?;
    client.query(&statement, &[]).await?;
    let start = Instant::now();
    for _ in 0..times {
        client.query(&statement, &[]).await?;
    }
    Ok(start.elapsed())
}

async fn reads(client: &Client, signer: &Signer) -> Result<()> {
    client.batch_execute("BEGIN; SET LOCAL ROLE bench_application").await?;
    client.query("SELECT tenancy.authenticate($1)", &[&token(signer, 0)]).await?;
    let tenant = "organization_id = '00000000-0000-0000-0000-000000000001'";
    let scan = "SELECT count(*), sum(cost) FROM {table} WHERE title IS NOT NULL";
    let cases = [
        ("full scan, 40 % of 500,000 rows, one process", 0, scan, 1, 25),
        ("full scan, 40 % of 500,000 rows, parallel", 2, scan, 1, 25),
        ("indexed point select", 2, "SELECT * FROM {table} WHERE id = 300101", 300, 25),
    ];
    for (name, workers, sql, times, rounds) in cases {
        client.batch_execute(&format!("SET LOCAL max_parallel_workers_per_gather = {workers}")).await?;
        let mut pairs = Pairs::new();
        for _ in 0..rounds {
            let hand_written = format!("{} AND {tenant}", sql.replace("{table}", "bare"));
            pairs.without.push(timed(client, &hand_written, times).await?);
            pairs.with.push(timed(client, &sql.replace("{table}", "guarded"), times).await?);
        }
        pairs.report(name, times, "(goal: at most 1.03, of the point select 1.05)");
    }
    client.batch_execute("COMMIT").await?;
    Ok(())
}

/// Gives the events of committed transactions their positions.
async fn seal(client: &Client) -> Result<()> {
    client.batch_execute("SELECT tenancy.seal()").await?;
    Ok(())
}

async fn wal(client: &Client) -> Result<i64> {
    let row = client.query_one("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint", &[]).await?;
    Ok(row.get(0))
}
