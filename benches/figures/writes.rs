//! What the audit costs whoever writes, beside two designs that are in wide use.
//!
//! Four tables of one shape, all under row-level security: `unaudited`; `audited` by the extension; `versioned`, by
//! a generic PL/pgSQL trigger that writes the rows as jsonb, the shape of supa_audit; and `chained`, by a PL/pgSQL
//! trigger that keeps the head of the organization's hash chain in a row of its own, as most hash chains on Postgres
//! do.

use super::{CLIENTS, Pairs, Result, connect, seal, show, timed, wal};
use std::time::{Duration, Instant};
use tokio_postgres::Client;

const BULK_ROWS: u32 = 50_000;
const MANY_ROWS: u32 = 1_000_000;
/// Transactions of a round, for each client.
const TIMES: u32 = 300;

/// The designs beside the extension's own, by the table they audit.
const OTHERS: [(&str, &str); 2] =
    [("versioned", "a generic PL/pgSQL trigger writing jsonb"), ("chained", "a PL/pgSQL hash chain with a head row")];

/// The tables, and the triggers of the other designs.
const TABLES: &str = r#"
    DROP TABLE IF EXISTS unaudited, audited, versioned, chained, record_version, chain_event, chain_head;
    CREATE TABLE unaudited (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, organization_id uuid NOT NULL,
                            title text, cost numeric, at timestamptz NOT NULL DEFAULT now());
    CREATE TABLE audited (LIKE unaudited INCLUDING ALL);
    CREATE TABLE versioned (LIKE unaudited INCLUDING ALL);
    CREATE TABLE chained (LIKE unaudited INCLUDING ALL);
    SELECT tenancy.protect('unaudited'), tenancy.protect('audited'), tenancy.protect('versioned'),
        tenancy.protect('chained');
    SET tenancy.override_reason = 'measured without audit';
    DROP TRIGGER tenancy_audit ON unaudited;
    DROP TRIGGER tenancy_audit ON versioned;
    DROP TRIGGER tenancy_audit ON chained;
    RESET tenancy.override_reason;
    GRANT SELECT, INSERT, UPDATE, DELETE ON unaudited, audited TO bench_application;

    CREATE TABLE record_version (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, record_id uuid, old_record_id uuid, op text NOT NULL,
        ts timestamptz NOT NULL DEFAULT now(), table_oid oid NOT NULL, table_schema name NOT NULL, table_name name
            NOT NULL,
        record jsonb, old_record jsonb);
    CREATE INDEX ON record_version (record_id) WHERE record_id IS NOT NULL;
    CREATE INDEX ON record_version (old_record_id) WHERE old_record_id IS NOT NULL;
    CREATE INDEX ON record_version USING brin (ts);
    CREATE INDEX ON record_version (table_oid);
    CREATE OR REPLACE FUNCTION version_row() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
    DECLARE
        key_columns text[] := (SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_index i
                                 JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
                                WHERE i.indrelid = tg_relid AND i.indisprimary);
        new_record jsonb := to_jsonb(new);
        old_row jsonb := to_jsonb(old);
        new_key text := (SELECT string_agg(new_record ->> c, ',') FROM unnest(key_columns) c);
        old_key text := (SELECT string_agg(old_row ->> c, ',') FROM unnest(key_columns) c);
    BEGIN
        INSERT INTO record_version (record_id, old_record_id, op, table_oid, table_schema, table_name, record,
            old_record)
        VALUES (md5(tg_relid::text || new_key)::uuid, md5(tg_relid::text || old_key)::uuid, tg_op, tg_relid,
            tg_table_schema,
                tg_table_name, new_record, old_row);
        RETURN coalesce(new, old);
    END $$;
    CREATE TRIGGER version_row AFTER INSERT OR UPDATE OR DELETE ON versioned FOR EACH ROW EXECUTE FUNCTION
        version_row();

    CREATE TABLE chain_head (organization_id uuid PRIMARY KEY, position bigint NOT NULL, hash bytea NOT NULL);
    CREATE TABLE chain_event (organization_id uuid, position bigint, at timestamptz, op text, payload jsonb, previous
        bytea, hash bytea,
                              PRIMARY KEY (organization_id, position));
    CREATE OR REPLACE FUNCTION chain_row() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
    DECLARE
        payload jsonb := jsonb_build_object('old', to_jsonb(old), 'new', to_jsonb(new));
        head chain_head;
        next bytea;
    BEGIN
        SELECT * INTO head FROM chain_head h WHERE h.organization_id = new.organization_id FOR UPDATE;
        IF NOT found THEN
            INSERT INTO chain_head VALUES (new.organization_id, 0, '') ON CONFLICT DO NOTHING;
            SELECT * INTO head FROM chain_head h WHERE h.organization_id = new.organization_id FOR UPDATE;
        END IF;
        next := sha256(head.hash || convert_to(tg_op || payload::text, 'UTF8'));
        INSERT INTO chain_event VALUES (new.organization_id, head.position + 1, clock_timestamp(), tg_op, payload,
            head.hash, next);
        UPDATE chain_head h SET position = head.position + 1, hash = next WHERE h.organization_id = new.organization_id;
        RETURN new;
    END $$;
    CREATE TRIGGER chain_row AFTER INSERT OR UPDATE ON chained FOR EACH ROW EXECUTE FUNCTION chain_row();
"#;

pub async fn measure(client: &Client) -> Result<()> {
    client.batch_execute(TABLES).await?;
    transactions(client).await?;
    statements(client).await?;
    bulk(client).await?;
    footprint(client).await?;
    many(client).await
}

/// Transactions of one row, by one client and by several of the same organization.
async fn transactions(client: &Client) -> Result<()> {
    let mut several = Vec::new();
    for _ in 0..CLIENTS {
        several.push(connect().await?);
    }
    let one = std::slice::from_ref(client);
    for (clients, name, goal) in [
        (one, "INSERT transactions of one row, 1 client", 0.9),
        (&several[..], "the same, 8 clients of one organization", 0.85),
    ] {
        let mut pairs = Pairs::new();
        let mut others = [Pairs::new(), Pairs::new()];
        for _ in 0..15 {
            let without = inserts(clients, "unaudited").await?;
            pairs.add(without, inserts(clients, "audited").await?);
            for ((table, _), pairs) in OTHERS.iter().zip(&mut others) {
                pairs.add(without, inserts(clients, table).await?);
            }
        }
        let each = TIMES * clients.len() as u32;
        pairs.report(name, each, &format!("(goal: at least {goal} of the rate, here {:.2})", 1.0 / pairs.ratio()));
        for ((_, design), pairs) in OTHERS.iter().zip(&others) {
            pairs.report(&format!("  by {design}"), each, &format!("({:.2} of the rate)", 1.0 / pairs.ratio()));
        }
    }
    Ok(())
}

fn one_row(table: &str) -> String {
    format!("INSERT INTO {table} (organization_id, title, cost) VALUES (lpad('1', 32, '0')::uuid, 'finding', 12.5)")
}

async fn inserts(clients: &[Client], table: &str) -> Result<Duration> {
    let sql = one_row(table);
    let start = Instant::now();
    for run in futures_util::future::join_all(clients.iter().map(|client| timed(client, &sql, TIMES))).await {
        run?;
    }
    Ok(start.elapsed())
}

/// Transactions of 20 rows in as many statements.
async fn statements(client: &Client) -> Result<()> {
    const ROWS: u32 = 20;
    const TRANSACTIONS: u32 = 50;
    let mut pairs = Pairs::new();
    for _ in 0..15 {
        let mut took = [Duration::ZERO; 2];
        for (table, took) in ["unaudited", "audited"].iter().zip(&mut took) {
            let insert = client.prepare(&one_row(table)).await?;
            let start = Instant::now();
            for _ in 0..TRANSACTIONS {
                client.batch_execute("BEGIN").await?;
                for _ in 0..ROWS {
                    client.execute(&insert, &[]).await?;
                }
                client.batch_execute("COMMIT").await?;
            }
            *took = start.elapsed();
        }
        pairs.add(took[0], took[1]);
    }
    let goal = format!("(goal: at least 0.8 of the rate, here {:.2})", 1.0 / pairs.ratio());
    pairs.report("INSERT transactions of 20 rows in 20 statements, 1 client", TRANSACTIONS, &goal);
    Ok(())
}

fn insert(table: &str, rows: u32) -> String {
    format!(
        "INSERT INTO {table} (organization_id, title, cost)
         SELECT lpad('1', 32, '0')::uuid, 'finding ' || n, n FROM generate_series(1, {rows}) n"
    )
}

fn update(table: &str, rows: u32) -> String {
    format!("UPDATE {table} SET cost = cost + 1 WHERE id IN (SELECT id FROM {table} ORDER BY id DESC LIMIT {rows})")
}

/// One statement over many rows. The other designs are measured once: the second one is quadratic.
async fn bulk(client: &Client) -> Result<()> {
    for (name, sql) in [("INSERT", insert as fn(&str, u32) -> String), ("UPDATE", update)] {
        let (mut pairs, mut log) = (Pairs::new(), [0, 0]);
        for _ in 0..7 {
            let (without, bare) = run(client, &sql("unaudited", BULK_ROWS)).await?;
            let (with, audited) = run(client, &sql("audited", BULK_ROWS)).await?;
            pairs.add(without, with);
            log = [log[0] + bare, log[1] + audited];
        }
        pairs.report(&format!("{name} of 50,000 rows in one statement"), 1, "(goal: at most 1.5)");
        println!("  {} bytes of WAL for each event", (log[1] - log[0]) / i64::from(7 * BULK_ROWS));
        for (table, design) in OTHERS {
            let mut pairs = Pairs::new();
            let (without, _) = run(client, &sql("unaudited", BULK_ROWS)).await?;
            pairs.add(without, run(client, &sql(table, BULK_ROWS)).await?.0);
            pairs.report(&format!("  by {design}, once"), 1, "");
        }
    }
    Ok(())
}

/// What an event of a statement over many rows leaves behind, with its seal.
async fn footprint(client: &Client) -> Result<()> {
    const STATEMENTS: u32 = 4;
    let events = i64::from(STATEMENTS * BULK_ROWS);
    seal(client).await?;
    for (name, sql) in [("INSERT", insert as fn(&str, u32) -> String), ("UPDATE", update)] {
        // What an earlier part freed would be filled first.
        client.batch_execute("VACUUM").await?;
        client.batch_execute("CHECKPOINT").await?;
        let (mut log, stored) = (0, stored(client).await?);
        for _ in 0..STATEMENTS {
            log -= run(client, &sql("unaudited", BULK_ROWS)).await?.1;
            log += run(client, &sql("audited", BULK_ROWS)).await?.1;
        }
        let before = wal(client).await?;
        let start = Instant::now();
        seal(client).await?;
        let sealing = start.elapsed() / events as u32;
        log += wal(client).await? - before;
        let stored = self::stored(client).await? - stored;
        println!("an event of such an {name}, seal included: {} bytes of WAL (goal: at most 80),", log / events);
        println!(
            "  {} stored bytes (goal: at most 100), {} to seal it (goal: at most 1 us)",
            stored / events,
            show(sealing)
        );
    }
    Ok(())
}

/// Bytes of all that the extension stores, with indexes.
async fn stored(client: &Client) -> Result<i64> {
    let sql = "SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class \
               WHERE relnamespace = 'tenancy'::regnamespace AND relkind = 'r'";
    Ok(client.query_one(sql, &[]).await?.get(0))
}

/// What a row costs among a million, beside one among 50,000.
async fn many(client: &Client) -> Result<()> {
    for (name, sql) in [("INSERT", insert as fn(&str, u32) -> String), ("UPDATE", update)] {
        let mut pairs = Pairs::new();
        for _ in 0..2 {
            let (few, _) = run(client, &sql("audited", BULK_ROWS)).await?;
            let (many, _) = run(client, &sql("audited", MANY_ROWS)).await?;
            pairs.add(few / BULK_ROWS, many / MANY_ROWS);
        }
        let goal = "(goal: linear, so about 1)";
        pairs.report(&format!("{name} under audit: a row of 1,000,000 beside one of 50,000"), 1, goal);
    }
    Ok(())
}

/// How long a statement takes, and how many bytes of WAL it writes.
async fn run(client: &Client, sql: &str) -> Result<(Duration, i64)> {
    let before = wal(client).await?;
    let start = Instant::now();
    client.batch_execute(sql).await?;
    Ok((start.elapsed(), wal(client).await? - before))
}
