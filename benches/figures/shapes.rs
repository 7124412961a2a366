//! What isolation costs a query, by the shape of the query and the number of organizations, beside the two forms in
//! wide use: a setting compared bare, and a setting in a sub-query.

use super::{Pairs, Result, show, timed, token};
use crate::signer::Signer;
use std::time::Instant;
use tokio_postgres::Client;

const ORGANIZATIONS: [u32; 3] = [10, 1_000, 100_000];
const ROWS: u32 = 100_000;
const TABLES: u32 = 1_000;
const TENANT: &str = "00000000-0000-0000-0000-000000000001";

/// How the tables are scoped; the first is a WHERE by hand and no row-level security.
const FORMS: [(&str, &str); 4] = [
    ("by_hand", ""),
    ("protected", ""),
    ("by_setting", "organization_id = current_setting('bench.tenant')::uuid"),
    ("by_sub_query", "organization_id = (SELECT current_setting('bench.tenant')::uuid)"),
];

/// Name, statement, how often it runs in a measurement. `TENANT` stands for the condition that is written by hand.
const SHAPES: [(&str, &str, u32); 6] = [
    ("full scan", "SELECT count(*), sum(cents) FROM finding f WHERE title IS NOT NULL AND TENANT(f)", 1),
    ("indexed point select", "SELECT * FROM finding f WHERE id = 30101 AND TENANT(f)", 200),
    (
        "3-table join",
        "SELECT count(*), max(n.text) FROM finding f JOIN account a ON a.id = f.account JOIN note n ON n.finding = f.id
          WHERE f.cents < 100 AND TENANT(f) AND TENANT(a) AND TENANT(n)",
        1,
    ),
    (
        "aggregate",
        "SELECT account, count(*), avg(cents) FROM finding f WHERE TENANT(f) GROUP BY account ORDER BY 2 DESC LIMIT 10",
        1,
    ),
    (
        "INSERT of one row",
        "INSERT INTO note (organization_id, finding, text) VALUES ('00000000-0000-0000-0000-000000000001', 1, 'x')",
        200,
    ),
    ("UPDATE of one row by key", "UPDATE finding f SET cents = cents + 1 WHERE id = 30101 AND TENANT(f)", 200),
];

pub async fn measure(client: &Client, signer: &Signer) -> Result<()> {
    println!(
        "\n{:<62} {:>11} {:>11} {:>11} {:>11}",
        "isolation without audit: ratio to a WHERE by hand", "by hand", "protected", "setting", "sub-query"
    );
    for organizations in ORGANIZATIONS {
        prepare(client, organizations).await?;
        for (name, sql, times) in SHAPES {
            shape(client, signer, &format!("{name}, {organizations} organizations"), sql, times).await?;
        }
    }
    plans(client, signer).await?;
    many_tables(client).await
}

/// The same three tables in a schema for each form; tenant 1 has 40 % of the rows.
async fn prepare(client: &Client, organizations: u32) -> Result<()> {
    for (form, condition) in FORMS {
        let policies = match form {
            "by_hand" => String::new(),
            // What is measured is isolation; the audit has figures of its own.
            "protected" => "SELECT tenancy.protect(t::regclass) FROM unnest('{account,finding,note}'::text[]) t;
                 SET LOCAL tenancy.override_reason = 'measured without audit';
                 DROP TRIGGER tenancy_audit ON account; DROP TRIGGER tenancy_audit ON finding; DROP TRIGGER \
                 tenancy_audit ON note;"
                .into(),
            _ => ["account", "finding", "note"]
                .map(|table| {
                    format!(
                        "ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
                         CREATE POLICY tenant ON {table} USING ({condition}) WITH CHECK ({condition});"
                    )
                })
                .concat(),
        };
        client
            .batch_execute(&format!(
                "BEGIN; SET LOCAL client_min_messages = error;
                 SET LOCAL tenancy.override_reason = 'bench';
                 DROP SCHEMA IF EXISTS {form} CASCADE; CREATE SCHEMA {form}; SET LOCAL search_path = {form}, public;
                 CREATE FUNCTION pg_temp.tenant(n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS
                     $$ SELECT lpad(to_hex(CASE WHEN n % 100 < 40 THEN 1 ELSE 2 + n % ({organizations} - 1) END), 32, \
                     '0')::uuid $$;
                 CREATE TABLE account (id bigint PRIMARY KEY, organization_id uuid NOT NULL, name text);
                 CREATE TABLE finding (id bigint PRIMARY KEY, organization_id uuid NOT NULL, account bigint, title \
                 text, cents bigint);
                 CREATE TABLE note (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, organization_id uuid NOT \
                 NULL, finding bigint, text text);
                 INSERT INTO account SELECT n, pg_temp.tenant(n), 'account ' || n FROM generate_series(1, {ROWS} / \
                 50) n;
                 INSERT INTO finding SELECT n, pg_temp.tenant(n), 1 + n % ({ROWS} / 50), 'finding ' || n, n % 1000 \
                 FROM generate_series(1, {ROWS}) n;
                 INSERT INTO note (organization_id, finding, text) SELECT pg_temp.tenant(n), n, 'note ' || n FROM \
                 generate_series(1, {ROWS}) n;
                 CREATE INDEX account_organization ON account (organization_id);
                 CREATE INDEX finding_organization ON finding (organization_id);
                 CREATE INDEX note_organization ON note (organization_id);
                 CREATE INDEX note_finding ON note (finding);
                 {policies}
                 GRANT USAGE ON SCHEMA {form} TO bench_application;
                 GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {form} TO bench_application;
                 DROP FUNCTION pg_temp.tenant; COMMIT"
            ))
            .await?;
        for table in ["account", "finding", "note"] {
            client.batch_execute(&format!("VACUUM ANALYZE {form}.{table}")).await?;
        }
    }
    Ok(())
}

/// Acts for the tenant, in every form.
async fn begin(client: &Client, signer: &Signer) -> Result<()> {
    client
        .batch_execute(&format!("BEGIN; SET LOCAL ROLE bench_application; SET LOCAL bench.tenant = '{TENANT}'"))
        .await?;
    client.query("SELECT tenancy.authenticate($1)", &[&token(signer, 0)]).await?;
    Ok(())
}

/// `TENANT(x)` as a condition, or as nothing.
fn spell(sql: &str, form: &str) -> String {
    let by_hand = form == "by_hand";
    ["f", "a", "n"].iter().fold(sql.to_owned(), |sql, alias| {
        let condition = if by_hand { format!("{alias}.organization_id = '{TENANT}'") } else { "true".into() };
        sql.replace(&format!("TENANT({alias})"), &condition)
    })
}

async fn shape(client: &Client, signer: &Signer, name: &str, sql: &str, times: u32) -> Result<()> {
    begin(client, signer).await?;
    let mut pairs: Vec<Pairs> = FORMS.iter().map(|_| Pairs::new()).collect();
    for _ in 0..15 {
        // Each form beside a hand-written run of its own, so that all meet the same machine.
        for (n, (form, _)) in FORMS.iter().enumerate().skip(1) {
            let Pairs { without, with } = &mut pairs[n];
            for (form, durations) in [("by_hand", without), (*form, with)] {
                client.batch_execute(&format!("SAVEPOINT run; SET LOCAL search_path = {form}, public")).await?;
                durations.push(timed(client, &spell(sql, form), times).await?);
                client.batch_execute("ROLLBACK TO run; RELEASE run").await?;
            }
        }
    }
    client.batch_execute("ROLLBACK").await?;
    let by_hand = super::median(&pairs[1].without) / times;
    let ratios: Vec<String> = pairs[1..].iter().map(|pairs| format!("{:>11.2}", pairs.ratio())).collect();
    println!("{name:<62} {:>11} {}", show(by_hand), ratios.join(" "));
    Ok(())
}

/// What plans keep: parallel workers, and partitions left out before the first row is read.
async fn plans(client: &Client, signer: &Signer) -> Result<()> {
    client
        .batch_execute(
            "CREATE TABLE protected.parted (id bigint, organization_id uuid NOT NULL) PARTITION BY HASH \
                (organization_id);
             DO $$ BEGIN FOR n IN 0..7 LOOP
                 EXECUTE format('CREATE TABLE protected.parted_%s PARTITION OF protected.parted FOR VALUES WITH \
                 (MODULUS 8, REMAINDER %s)', n, n);
             END LOOP; END $$;
             INSERT INTO protected.parted SELECT n, lpad(to_hex(1 + n % 100), 32, '0')::uuid FROM generate_series(1, \
             20000) n;
             SELECT tenancy.protect('protected.parted');
             GRANT SELECT ON protected.parted TO bench_application; ANALYZE protected.parted",
        )
        .await?;
    begin(client, signer).await?;
    client
        .batch_execute(
            "SET LOCAL parallel_setup_cost = 0; SET LOCAL parallel_tuple_cost = 0; SET LOCAL \
        min_parallel_table_scan_size = 0",
        )
        .await?;
    let look = |sql: &'static str, wanted: &'static str| async move {
        let rows = client.query(&format!("EXPLAIN (COSTS OFF) {sql}"), &[]).await?;
        let found = rows.iter().map(|row| row.get::<_, String>(0)).find(|line| line.contains(wanted));
        println!("{:<62} {}", format!("plan: {wanted}"), found.as_deref().map_or("not there", str::trim));
        Result::Ok(())
    };
    look("SELECT count(*) FROM protected.finding", "Workers Planned").await?;
    look("SELECT count(*) FROM protected.parted", "Subplans Removed").await?;
    client.batch_execute("ROLLBACK").await?;
    Ok(())
}

/// A migration of a whole schema.
async fn many_tables(client: &Client) -> Result<()> {
    client
        .batch_execute(&format!(
            "CREATE SCHEMA many;
             DO $$ BEGIN FOR n IN 1..{TABLES} LOOP
                 EXECUTE format('CREATE TABLE many.t%s (id bigint PRIMARY KEY, organization_id uuid NOT NULL, parent \
                 bigint %s)', n,
                                CASE WHEN n % 2 = 0 THEN format('REFERENCES many.t%s', n - 1) END);
             END LOOP; END $$"
        ))
        .await?;
    let start = Instant::now();
    client.query("SELECT * FROM tenancy.protect_schema('many')", &[]).await?;
    println!("protect of {TABLES} tables with {} foreign keys: {} (goal: 60 s)", TABLES / 2, show(start.elapsed()));
    let start = Instant::now();
    let found = client.query("SELECT * FROM tenancy.advise()", &[]).await?.len();
    println!("advise over them: {} ({found} findings)", show(start.elapsed()));
    Ok(())
}
