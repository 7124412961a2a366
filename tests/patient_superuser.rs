//! A superuser with patience: random sequences of catalog edits and of changes in any table of the extension, after
//! which everything is put back. What they did to events is named all the same.
//!
//! `PATIENT_SEED` runs the sequences of a seed that a failure printed, `PATIENT_SEQUENCES` says how many.

use crate::common::*;
use rand::prelude::*;
use rand::rngs::StdRng;
use tokio_postgres::Client;

const SEQUENCES: u64 = 2000;

/// Everything of a batch that a hash covers, its events and its actor with it. Of the packed events that is what they
/// say: a block of LZ4 can be changed into another one of the same text.
const CONTENT: &str = "CREATE FUNCTION public.content(e tenancy.event_batch) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT (e.id, e.organization, e.actor, e.transaction, e.ordinal, e.events, e.occurred_at, e.operation, e.domain, \
    e.table_schema, e.table_name, e.result, e.reason,
            e.row_key::text, e.payload::text, e.payload_salt, e.payload_digest, e.row_hashes, e.encoding, \
            e.prev_hash, e.hash)::text
           || coalesce((SELECT string_agg(u::text, '|' ORDER BY u.place) FROM tenancy.unpack_events(e.id, e.ordinal, \
           e.events, e.occurred_at, e.packed) u), 'none')
           || coalesce((SELECT a::text FROM tenancy.event_actor a WHERE a.id = e.actor), 'gone') $$";

/// Triggers of the extension's tables, where a superuser reaches them without a statement that is heard.
const TRIGGERS: &str =
    "WHERE NOT tgisinternal AND tgrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'tenancy'::regnamespace)";
/// The catalogs are read again only after their rows changed.
const READ_AGAIN: &str = "UPDATE pg_class SET relname = relname WHERE relnamespace = 'tenancy'::regnamespace";

struct Table {
    name: String,
    columns: Vec<(String, String)>,
}

/// Events of several organizations in several blocks, alone and several in a batch, an erased one of each kind, and a
/// checkpoint.
async fn record(database: &Database) -> (Client, Option<(String, String)>) {
    let superuser = database.superuser().await;
    for (number, organization) in [(1, ACME), (2, GLOBEX), (3, ACME)] {
        let sql = format!(
            "INSERT INTO cloud_account (organization_id, external_id) SELECT '{organization}', gen_random_uuid() FROM \
                generate_series(1, 4)"
        );
        run(&superuser, &sql).await;
        let one = format!(
            "INSERT INTO cloud_account (organization_id, external_id) VALUES ('{organization}', gen_random_uuid())"
        );
        run(&superuser, &one).await;
        if number > 1 {
            run(&superuser, "UPDATE cloud_account SET external_id = gen_random_uuid()").await;
        }
        seal(&superuser).await;
    }
    for place in [0, 2] {
        let one = format!(
            "SELECT id FROM tenancy.event WHERE organization = '{ACME}' AND table_name = 'cloud_account'
                AND (batch_events > 1) = ({place} > 0) AND place = {place} ORDER BY id LIMIT 1"
        );
        let one = value(&superuser, &one).await;
        run(&superuser, &format!("SELECT tenancy.erase_payload('{one}', 'asked for')")).await;
    }
    run(&superuser, "DELETE FROM cloud_account").await;
    seal(&superuser).await;
    let kept = checkpoint(&superuser).await;
    seal(&superuser).await;
    run(&superuser, CONTENT).await;
    let copy = "CREATE TABLE public.kept AS SELECT e.id, e.organization, public.content(e) AS content, s.block, \
        s.batch_hash, s.leaf, s.position
                  FROM tenancy.event_batch e JOIN tenancy.entry s ON s.batch = e.id";
    run(&superuser, copy).await;
    run(&superuser, "CREATE TABLE public.kept_head AS SELECT * FROM tenancy.seal; ANALYZE; SET jit = off").await;
    forge_entries(&superuser).await;
    assert_audit_is_whole(&superuser).await;
    (superuser, kept)
}

/// The tables of the extension that have rows or could have.
async fn tables(superuser: &Client) -> Vec<Table> {
    let sql = "SELECT c.relname, json_agg(json_build_array(a.attname, format_type(a.atttypid, NULL)) ORDER BY a.attnum)
                 FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
                 AND a.attgenerated = ''
                WHERE c.relnamespace = 'tenancy'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition \
                GROUP BY c.relname ORDER BY c.relname";
    rows(superuser, sql)
        .await
        .into_iter()
        .map(|row| Table {
            name: row[0].clone().unwrap(),
            columns: serde_json::from_str(row[1].as_deref().unwrap()).unwrap(),
        })
        .collect()
}

/// Another value for a column than it has.
fn other_value(random: &mut StdRng, table: &Table, (column, kind): &(String, String)) -> String {
    let salt: u32 = random.random();
    let of_another =
        format!("(SELECT o.{column} FROM tenancy.{} o ORDER BY md5(o::text || '{salt}') LIMIT 1)", table.name);
    let changed = match kind.as_str() {
        "bytea" => "sha256(coalesce(t.C, ''))",
        "bigint" | "integer" | "smallint" => "t.C + 1",
        "text" => "coalesce(t.C, '') || 'x'",
        "uuid" => "md5(t.C::text)::uuid",
        "timestamp with time zone" => "t.C - interval '1 day'",
        "date" => "(t.C - interval '1 month')::date",
        "boolean" => "NOT t.C",
        "json" | "jsonb" => "'{}'",
        _ => return of_another,
    };
    match random.random_range(0..5) {
        0 => "NULL".into(),
        1 | 2 => of_another,
        _ => changed.replace('C', column),
    }
}

/// A row of a table, or several.
fn some_rows(random: &mut StdRng, table: &str) -> String {
    let salt: u32 = random.random();
    let count = [1, 1, 1, 2, 5, 1000][random.random_range(0..6)];
    format!(
        "(t.tableoid, t.ctid) IN (SELECT o.tableoid, o.ctid FROM tenancy.{table} o ORDER BY md5(o::text || '{salt}') \
            LIMIT {count})"
    )
}

/// One change of the audit.
fn change(random: &mut StdRng, tables: &[Table]) -> String {
    const LIKELY: [&str; 7] = ["event_batch", "event_batch", "event_actor", "seal", "archive", "erasure", "seal"];
    let named = |name: &str| tables.iter().find(|table| table.name == name).unwrap();
    let table =
        if random.random_bool(0.6) { named(LIKELY.choose(random).unwrap()) } else { tables.choose(random).unwrap() };
    let name = &table.name;
    match random.random_range(0..16) {
        0..3 => format!("DELETE FROM tenancy.{name} t WHERE {}", some_rows(random, name)),
        3..6 => {
            let column = table.columns.choose(random).unwrap();
            let value = other_value(random, table, column);
            format!("UPDATE tenancy.{name} t SET {} = {value} WHERE {}", column.0, some_rows(random, name))
        }
        6..8 => {
            let changed = random.random_range(0..table.columns.len());
            let values: Vec<String> = table
                .columns
                .iter()
                .enumerate()
                .map(|(n, column)| {
                    if n == 0 || n == changed { other_value(random, table, column) } else { format!("t.{}", column.0) }
                })
                .collect();
            format!(
                "INSERT INTO tenancy.{name} SELECT {} FROM tenancy.{name} t WHERE {}",
                values.join(", "),
                some_rows(random, name)
            )
        }
        8..11 => {
            let month = ["now()", "now()", "now() - interval '1 month'"].choose(random).unwrap();
            let at = ["now()", "now()", "now() - interval '2 months'", "now() + interval '2 months'"]
                .choose(random)
                .unwrap();
            format!(
                "INSERT INTO tenancy.archive SELECT m, {at}, false, events, first_block, last_block, last_block, \
                    digest, 'x', 'x', 'x'
                   FROM (SELECT date_trunc('month', ({month}) AT TIME ZONE 'UTC')::date AS m) m,
                        LATERAL tenancy.seal_digest(tenancy.lowest_id(m::timestamp AT TIME ZONE 'UTC'), \
                        tenancy.lowest_id((m + interval '1 month') AT TIME ZONE 'UTC'))"
            )
        }
        11 => {
            "INSERT INTO tenancy.erasure SELECT t.id, t.organization, now(), t.payload_digest, 'x', NULL, x.erase_event
                FROM tenancy.event t, tenancy.erasure x WHERE t.payload IS NULL ON CONFLICT DO NOTHING"
                .into()
        }
        12 => format!(
            "UPDATE tenancy.event_batch t SET payload = NULL, payload_salt = NULL WHERE {}",
            some_rows(random, "event_batch")
        ),
        13..15 => {
            let (place, bits): (u16, u8) = (random.random(), random.random_range(1..=255));
            // Often in the head.
            let place = if random.random() { place % 6 } else { place };
            format!(
                "UPDATE tenancy.event_batch t SET packed = set_byte(packed, {place} % length(packed),
                        get_byte(packed, {place} % length(packed)) # {bits}) WHERE length(packed) > 0 AND {}",
                some_rows(random, "event_batch")
            )
        }
        _ => {
            let both = some_rows(random, "event_batch");
            format!(
                "WITH gone AS (DELETE FROM tenancy.event_batch t WHERE {both} RETURNING t.id) DELETE FROM \
                    forged s \
                    USING gone WHERE s.batch = gone.id"
            )
        }
    }
}

/// Runs statements of which each may be refused.
async fn attempt(superuser: &Client, sql: &str) -> bool {
    run(superuser, "SAVEPOINT attempt").await;
    let done = superuser.batch_execute(sql).await.is_ok();
    run(superuser, if done { "RELEASE attempt" } else { "ROLLBACK TO attempt; RELEASE attempt" }).await;
    done
}

/// The batches that a sequence changed and no finding names. One whose place in the seal, or the
/// head by which it is found, was changed too is named by its place.
async fn unnamed(superuser: &Client, kept: Option<&(String, String)>) -> Vec<String> {
    let mut told =
        "CREATE TEMP TABLE told ON COMMIT DROP AS SELECT * FROM tenancy.verify_audit(whole => true, workers => 0)"
            .to_owned();
    if let Some((note, key)) = kept {
        told +=
            &format!(" UNION ALL SELECT * FROM tenancy.verify_checkpoint($note${note}$note$, '{key}', workers => 0)");
    }
    run(superuser, "SAVEPOINT told").await;
    if let Err(error) = superuser.batch_execute(&told).await {
        // A table of the audit that cannot be read is told of by the error.
        let state = error.code().map_or("none", |state| state.code()).to_owned();
        assert_eq!(state, "55000", "{error:?}");
        run(superuser, "ROLLBACK TO told").await;
        return Vec::new();
    }
    let sql = "SELECT coalesce(k.id, e.id)::text FROM public.kept k FULL JOIN tenancy.event_batch e ON e.id = k.id
                 LEFT JOIN tenancy.entry s ON s.batch = k.id
                WHERE (k.id IS NULL OR e.id IS NULL OR public.content(e) IS DISTINCT FROM k.content)
                  AND e.transaction IS DISTINCT FROM pg_current_xact_id()
                  AND NOT EXISTS (SELECT FROM told t WHERE tenancy.batch_of(t.event) = coalesce(k.id, e.id) OR \
                      t.event = coalesce(k.id, e.id)
                       OR (s.batch IS NULL OR s.block <> k.block OR s.batch_hash <> k.batch_hash OR s.leaf <> k.leaf
                           OR s.position <> k.position
                           OR EXISTS (SELECT FROM public.kept_head h WHERE h.organization = k.organization AND \
                           h.block >= k.block AND NOT EXISTS (SELECT FROM tenancy.seal n
                                       WHERE n.organization = h.organization AND n.block = h.block AND n.position = \
                                       h.position AND n.leaves = h.leaves AND n.chain = h.chain AND n.frontier = \
                                           h.frontier AND n.entries = h.entries)))
                          AND (t.organization_id = k.organization OR t.block = k.block OR t.organization_id IS NULL))";
    column(superuser, sql).await
}

#[test]
fn whatever_a_superuser_does_to_events_and_puts_back_is_named() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
    let seed = number("PATIENT_SEED").unwrap_or_else(rand::random);
    let sequences = number("PATIENT_SEQUENCES").unwrap_or(SEQUENCES);
    // Two histories side by side, each with half of the sequences.
    let half = sequences.div_ceil(2);
    std::thread::scope(|threads| {
        threads.spawn(|| try_sequences(seed, half));
        threads.spawn(|| try_sequences(seed.wrapping_add(half), sequences - half));
    });
}

/// Tries so many sequences of changes, with the seeds from the first on.
fn try_sequences(first: u64, sequences: u64) {
    if sequences == 0 {
        return;
    }
    in_database(async |database| {
        let (superuser, kept) = record(database).await;
        let tables = tables(&superuser).await;
        let (mut done, mut changed) = (0, 0);
        for sequence in 0..sequences {
            let mut random = StdRng::seed_from_u64(first.wrapping_add(sequence));
            let [open, close] = match random.random_range(0..3) {
                0 => [
                    format!("UPDATE pg_trigger SET tgenabled = 'D' {TRIGGERS}; {READ_AGAIN}"),
                    format!("UPDATE pg_trigger SET tgenabled = 'A' {TRIGGERS}; {READ_AGAIN}"),
                ],
                1 => [
                    format!(
                        "SET LOCAL session_replication_role = replica; UPDATE pg_trigger SET tgenabled = 'O' \
                            {TRIGGERS}; {READ_AGAIN}"
                    ),
                    format!(
                        "UPDATE pg_trigger SET tgenabled = 'A' {TRIGGERS}; {READ_AGAIN}; SET LOCAL \
                            session_replication_role = origin"
                    ),
                ],
                _ => [
                    "UPDATE pg_event_trigger SET evtenabled = 'D'; UPDATE pg_class SET relhastriggers = false WHERE \
                        relnamespace = 'tenancy'::regnamespace"
                        .to_owned(),
                    "UPDATE pg_class SET relhastriggers = true WHERE oid IN (SELECT tgrelid FROM pg_trigger); UPDATE \
                        pg_event_trigger SET evtenabled = 'A'"
                        .to_owned(),
                ],
            };
            run(&superuser, &format!("BEGIN; {open}")).await;
            let mut statements = Vec::new();
            for _ in 0..random.random_range(1..6) {
                let statement = change(&mut random, &tables);
                if attempt(&superuser, &statement).await {
                    statements.push(statement);
                }
            }
            run(&superuser, &close).await;
            done += statements.len();
            let unnamed = unnamed(&superuser, kept.as_ref()).await;
            assert!(
                unnamed.is_empty(),
                "PATIENT_SEED={} PATIENT_SEQUENCES=1: nobody names {unnamed:?} after\n{}",
                first.wrapping_add(sequence),
                statements.join(";\n")
            );
            let sql = "SELECT count(*) FROM public.kept k LEFT JOIN tenancy.event_batch e ON e.id = k.id WHERE e.id \
                IS NULL \
                OR public.content(e) IS DISTINCT FROM k.content";
            changed += u64::from(count(&superuser, sql).await > 0);
            run(&superuser, "ROLLBACK").await;
        }
        println!("PATIENT_SEED={first}: {done} changes, {changed} sequences that changed events");
        assert!(changed > 0 || std::env::var("PATIENT_SEQUENCES").is_ok());
        assert_audit_is_whole(&superuser).await;
    });
}
