//! Gaps: capture that was switched off shows when the sealer looks next, unless an event says who did it.

use crate::common::*;
use tokio_postgres::Client;

/// Two protected tables, one of them partitioned, at which the sealer has not looked yet.
async fn protected(database: &Database) -> Client {
    let client = database.superuser().await;
    begin_anew(&client).await;
    for sql in [
        "SET tenancy.override_reason = 'a test'",
        "CREATE TABLE finding (id integer PRIMARY KEY, organization_id uuid NOT NULL)",
        "CREATE TABLE cost (id integer NOT NULL, organization_id uuid NOT NULL) PARTITION BY RANGE (id)",
        "CREATE TABLE cost_1 PARTITION OF cost FOR VALUES FROM (0) TO (9)",
        "SELECT tenancy.protect('finding'), tenancy.protect('cost')",
        &format!("INSERT INTO finding VALUES (1, '{ACME}')"),
    ] {
        run(&client, sql).await;
    }
    client
}

/// The same, at which the sealer has looked.
async fn looked_at(database: &Database) -> Client {
    let client = protected(database).await;
    assert_eq!(gaps(&client, &[]).await, NONE);
    client
}

const NONE: [&str; 0] = [];

/// What the sealer finds after the statements, each of them in a transaction of its own: the new gaps, as
/// "object: reason", sorted.
async fn gaps(client: &Client, statements: &[&str]) -> Vec<String> {
    let before = count(client, "SELECT count(*) FROM tenancy.event WHERE operation = 'gap'").await;
    for statement in statements {
        run(client, statement).await;
    }
    seal(client).await;
    let new = format!(
        "SELECT coalesce(table_schema || '.', '') || (payload -> 'new' ->> 'name') || ': ' || reason
           FROM tenancy.event WHERE operation = 'gap' ORDER BY id OFFSET {before}"
    );
    let mut gaps = column(client, &new).await;
    gaps.sort();
    gaps
}

/// As above, of statements that no event trigger hears of.
async fn gaps_unheard(client: &Client, statements: &[&str]) -> Vec<String> {
    let (deaf, hearing) =
        ("UPDATE pg_event_trigger SET evtenabled = 'D'", "UPDATE pg_event_trigger SET evtenabled = 'A'");
    gaps(client, &[&[deaf], statements, &[hearing]].concat()).await
}

/// The gap, and those of the event triggers that did not hear of it.
fn with_event_triggers(gap: &str) -> Vec<String> {
    let triggers =
        ["tenancy_audit_ddl", "tenancy_audit_drop", "tenancy_guard_ddl", "tenancy_guard_drop", "tenancy_guard_rewrite"];
    let mut gaps: Vec<String> = triggers.iter().map(|name| switched(name)).collect();
    gaps.push(gap.to_owned());
    gaps.sort();
    gaps
}

fn switched(object: &str) -> String {
    format!("{object}: its capture was changed, or switched off and on again")
}

/// Without a statement, and so without an event.
const FINDING_OFF: &str =
    "UPDATE pg_trigger SET tgenabled = 'D' WHERE tgrelid = 'public.finding'::regclass AND NOT tgisinternal";
const FINDING_ON: &str =
    "UPDATE pg_trigger SET tgenabled = 'A' WHERE tgrelid = 'public.finding'::regclass AND NOT tgisinternal";

#[test]
fn the_first_look_finds_no_gap_and_remembers_what_captures() {
    in_database(async |database| {
        let client = protected(database).await;
        assert_eq!(gaps(&client, &[]).await, NONE);
        let all = "SELECT count(*) > 30 AND bool_and(state <> '') FROM tenancy.coverage";
        assert_eq!(value(&client, all).await, "t");
        let tables = "SELECT name FROM tenancy.coverage WHERE name ~ '^(finding|cost)' ORDER BY name";
        assert_eq!(column(&client, tables).await, ["cost", "cost_1", "finding"]);
    });
}

#[test]
fn a_change_of_rows_changes_nothing_of_what_captures() {
    in_database(async |database| {
        let client = looked_at(database).await;
        let remembered = "SELECT count(*) FROM tenancy.coverage";
        let before = count(&client, remembered).await;
        assert_eq!(gaps(&client, &[&format!("INSERT INTO finding VALUES (2, '{ACME}')")]).await, NONE);
        assert_eq!(count(&client, remembered).await, before);
    });
}

#[test]
fn capture_that_a_statement_switches_has_an_event_which_says_so() {
    in_database(async |database| {
        let client = looked_at(database).await;
        let newest = "SELECT operation || ' ' || table_name FROM tenancy.event WHERE operation ~ '^capture'
                       ORDER BY id DESC LIMIT 1";
        for (statement, event) in [
            ("ALTER TABLE finding DISABLE TRIGGER tenancy_audit", "capture_off finding"),
            ("ALTER TABLE finding ENABLE ALWAYS TRIGGER tenancy_audit", "capture_on finding"),
        ] {
            assert_eq!(gaps(&client, &[statement]).await, NONE, "{statement}");
            assert_eq!(value(&client, newest).await, event);
        }
    });
}

#[test]
fn what_has_an_event_is_no_gap_and_neither_is_what_captures_nothing() {
    in_database(async |database| {
        let client = looked_at(database).await;
        let cases: [&[&str]; 5] = [
            // Partitions that come and go, and other names.
            &[
                "CREATE TABLE cost_2 PARTITION OF cost FOR VALUES FROM (10) TO (19)",
                "ALTER TABLE cost DETACH PARTITION cost_1",
                "ALTER TABLE finding RENAME TO found",
                "ALTER TABLE found RENAME TO finding",
                "ALTER SCHEMA public RENAME TO other",
                "ALTER SCHEMA other RENAME TO public",
            ],
            // What unprotect takes back, and what protect makes again.
            &[
                "ALTER TABLE cost ATTACH PARTITION cost_1 FOR VALUES FROM (0) TO (9)",
                "DROP TABLE cost_2",
                "SELECT tenancy.unprotect('cost')",
            ],
            &["SELECT tenancy.protect('cost')"],
            // What Postgres does to its catalogs.
            &["VACUUM FULL pg_trigger", "VACUUM FREEZE pg_trigger"],
            // Temporary tables, and policies that only have the name.
            &[
                "CREATE TEMP TABLE mine (org_id uuid)",
                "CREATE POLICY tenancy_isolation ON mine USING (true)",
                "CREATE TABLE theirs (owner text)",
                "CREATE POLICY tenancy_isolation ON theirs USING (true)",
            ],
        ];
        for statements in cases {
            assert_eq!(gaps(&client, statements).await, NONE, "{statements:?}");
        }
    });
}

#[test]
fn capture_that_was_off_unheard_between_two_looks_is_a_gap_and_told_once() {
    in_database(async |database| {
        let client = looked_at(database).await;
        let statements = [
            "ALTER TABLE finding DISABLE TRIGGER tenancy_audit",
            "DELETE FROM finding",
            "ALTER TABLE finding ENABLE ALWAYS TRIGGER tenancy_audit",
        ];
        assert_eq!(gaps_unheard(&client, &statements).await, with_event_triggers(&switched("public.finding")));
        let deletions = "SELECT count(*) FROM tenancy.event WHERE operation = 'delete' AND table_name = 'finding'";
        assert_eq!(count(&client, deletions).await, 0, "a row went without an event");
        // Since when it may have been.
        let told = "SELECT result || ' ' || ((payload -> 'new' ->> 'since_block')::bigint > 0)::text
                      FROM tenancy.event WHERE operation = 'gap' LIMIT 1";
        assert_eq!(value(&client, told).await, "failed true");
        assert_eq!(gaps(&client, &[]).await, NONE);
    });
}

#[test]
fn an_event_explains_only_what_it_names_and_only_between_two_looks() {
    in_database(async |database| {
        let client = looked_at(database).await;
        let policies = ["CREATE POLICY later ON finding AS RESTRICTIVE USING (true)", "DROP POLICY later ON finding"];
        let gap = [switched("public.finding")];
        // Statements that change no trigger change nothing of what captures,
        let statements = [policies[0], policies[1], "ALTER TABLE finding ADD note text"];
        assert_eq!(gaps(&client, &statements).await, NONE);
        // and explain neither a later switching,
        assert_eq!(gaps(&client, &[FINDING_OFF, FINDING_ON]).await, gap);
        // nor one of the same time,
        let statements = ["ALTER TABLE finding DROP note", policies[0], policies[1], FINDING_ON];
        assert_eq!(gaps(&client, &statements).await, gap);
        // nor do those about a table of the same name elsewhere.
        let statements = [
            "CREATE SCHEMA other",
            "CREATE TABLE other.finding (id integer PRIMARY KEY, organization_id uuid NOT NULL)",
            "SELECT tenancy.protect('other.finding')",
            "ALTER TABLE other.finding DISABLE TRIGGER tenancy_audit",
            "ALTER TABLE other.finding ENABLE ALWAYS TRIGGER tenancy_audit",
            FINDING_ON,
        ];
        assert_eq!(gaps(&client, &statements).await, gap);
    });
}

#[test]
fn an_edit_of_the_catalogs_is_a_gap_and_so_is_the_one_that_hides_it() {
    in_database(async |database| {
        let client = looked_at(database).await;
        assert_eq!(gaps(&client, &[FINDING_OFF]).await, ["public.finding: it does not capture every change"]);
        assert_eq!(gaps(&client, &[FINDING_ON]).await, [switched("public.finding")]);
        let off = "UPDATE pg_event_trigger SET evtenabled = 'D' WHERE evtname = 'tenancy_audit_drop'";
        assert_eq!(gaps(&client, &[off]).await, ["tenancy_audit_drop: it does not capture every change"]);
        // The statement that enables it has an event.
        assert_eq!(gaps(&client, &["ALTER EVENT TRIGGER tenancy_audit_drop ENABLE ALWAYS"]).await, NONE);
    });
}

#[test]
fn what_was_opened_dropped_or_replaced_unheard_is_a_gap() {
    in_database(async |database| {
        let client = looked_at(database).await;
        let cases: [(&[&str], String); 3] = [
            (
                &[
                    "ALTER TABLE tenancy.event_batch DISABLE TRIGGER append_only",
                    "DELETE FROM tenancy.event_batch WHERE operation = 'insert'",
                    "ALTER TABLE tenancy.event_batch ENABLE ALWAYS TRIGGER append_only",
                ],
                switched("tenancy.event_batch"),
            ),
            (&["DROP TABLE finding"], "public.finding: its capture is gone".to_owned()),
            (
                &["CREATE OR REPLACE FUNCTION tenancy.refuse_change() RETURNS trigger LANGUAGE plpgsql AS \
                    'BEGIN RETURN NULL; END'"],
                switched("refuse_change"),
            ),
        ];
        for (statements, gap) in cases {
            assert_eq!(gaps_unheard(&client, statements).await, with_event_triggers(&gap), "{statements:?}");
        }
    });
}

#[test]
fn session_replication_role_switches_nothing_off() {
    in_database(async |database| {
        let client = looked_at(database).await;
        run(&client, "SET session_replication_role = replica").await;
        let insert = format!("INSERT INTO cost VALUES (1, '{ACME}')");
        assert_eq!(gaps(&client, &[&insert, "TRUNCATE cost", "ALTER TABLE cost ADD note text"]).await, NONE);
        // Because rows, TRUNCATE and DDL have their events.
        let newest = "SELECT operation FROM (SELECT operation, id FROM tenancy.event WHERE table_name LIKE 'cost%'
                       ORDER BY id DESC LIMIT 3) e ORDER BY id";
        assert_eq!(column(&client, newest).await, ["insert", "truncate", "alter_table"]);
    });
}

#[test]
fn what_the_sealer_has_seen_is_written_changed_or_deleted_by_nobody_else() {
    in_database(async |database| {
        let client = looked_at(database).await;
        // More than one look that saw something new.
        gaps(&client, &["ALTER TABLE finding DISABLE TRIGGER tenancy_audit"]).await;
        gaps(&client, &["ALTER TABLE finding ENABLE ALWAYS TRIGGER tenancy_audit"]).await;
        seal_all(&client).await;
        assert_audit_is_whole(&client).await;
        let row = |event: &str| {
            format!(
                "INSERT INTO tenancy.coverage
                 SELECT object, gen_random_uuid(), now(), incarnation, block, snapshot, schema, name, state, {event}
                   FROM tenancy.coverage WHERE object = 'all' LIMIT 1"
            )
        };
        let untold = "inserted no event tells of rows in tenancy.coverage that name it";
        let altered = "altered the rows of tenancy.coverage are not those that the event tells of";
        let missing = "missing the rows of tenancy.coverage that the event tells of are gone";
        for (damage, found) in [
            (&*row("gen_random_uuid()"), untold),
            (&*row("event"), altered),
            ("UPDATE tenancy.coverage SET state = 'x' WHERE object = 'all'", altered),
            ("DELETE FROM tenancy.coverage WHERE object <> 'all'", altered),
            ("DELETE FROM tenancy.coverage", missing),
            ("DELETE FROM tenancy.event_batch WHERE operation = 'coverage'", untold),
        ] {
            run(&client, "BEGIN; ALTER TABLE tenancy.coverage DISABLE TRIGGER ALL").await;
            run(&client, "ALTER TABLE tenancy.event_batch DISABLE TRIGGER ALL").await;
            run(&client, damage).await;
            let of_coverage = "SELECT DISTINCT finding || ' ' || explanation
                                 FROM tenancy.verify_audit(whole => true) WHERE explanation ~ 'coverage'";
            assert_eq!(column(&client, of_coverage).await, [found], "{damage}");
            run(&client, "ROLLBACK").await;
        }
    });
}

#[test]
fn the_look_reads_the_statements_of_this_sealing_and_not_all_events_since_the_last_change() {
    in_database(async |database| {
        let client = looked_at(database).await;
        let tables = "SELECT format('CREATE TABLE t%s (id integer PRIMARY KEY, organization_id uuid NOT NULL)', n),
                             format('SELECT tenancy.protect(%L)', 't' || n) FROM generate_series(1, 20) n";
        for row in client.query(tables, &[]).await.unwrap() {
            run(&client, row.get(0)).await;
            run(&client, row.get(1)).await;
        }
        let read = "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::int8 FROM pg_stat_xact_all_tables
                     WHERE schemaname = 'tenancy' AND relname ~ '^event_batch_[0-9]'";
        seal(&client).await;
        // Nothing of capture changes here, so the last look that wrote rows stays the one above.
        // A statement for each, so that each has a batch of its own.
        let one = format!("INSERT INTO finding VALUES (n, '{ACME}')");
        run(&client, &format!("DO $$ BEGIN FOR n IN 10..3009 LOOP {one}; END LOOP; END $$")).await;
        seal(&client).await;
        // The capture of twenty tables was changed by statements: each change needs its explanation.
        for n in 1..=20 {
            run(&client, &format!("ALTER TABLE t{n} DISABLE TRIGGER tenancy_audit")).await;
            run(&client, &format!("ALTER TABLE t{n} ENABLE ALWAYS TRIGGER tenancy_audit")).await;
        }
        // The sealer may read so small a table as a whole for what is unsealed; that is not what is counted here.
        run(&client, "BEGIN; SET LOCAL enable_seqscan = off").await;
        // Counts of the transactions before stay until Postgres passes them on, which is not at each commit.
        let before = count(&client, read).await;
        seal(&client).await;
        let fetched = count(&client, read).await - before;
        run(&client, "COMMIT").await;
        assert!(fetched < 1000, "{fetched} events were read to explain 20 changes");
        assert_eq!(count(&client, "SELECT count(*) FROM tenancy.event WHERE operation = 'gap'").await, 0);
    });
}
