//! Packed batches of events over real connections: what a statement of many rows leaves is, event by event, what the
//! rows and their order say, however the statement came about.

use crate::common::protection::assert_same;
use crate::common::*;
use futures_util::SinkExt as _;
use tokio_postgres::Client;
use uuid::Uuid;

/// The most events of a batch.
const MOST: i64 = 128;

/// Seals what is there, and begins to look from here on.
async fn begin(superuser: &Client) {
    seal_all(superuser).await;
    run(superuser, "DROP TABLE IF EXISTS before; CREATE TEMP TABLE before AS SELECT id FROM tenancy.event_batch").await;
}

/// A query over the events since [`begin`], as `e`.
fn of_new(select: &str, rest: &str) -> String {
    format!("SELECT {select} FROM tenancy.event e WHERE e.batch NOT IN (SELECT id FROM before) {rest}")
}

/// What holds of any batches: sizes, ids, ordinals and times. Returns how many batches there are, and the largest.
async fn assert_in_order(superuser: &Client) -> (i64, i64) {
    let sound = of_new(
        "count(*) FILTER (WHERE NOT (e.id > e.batch OR e.place = 0) OR tenancy.batch_of(e.id) <> e.batch
                             OR right(e.id::text, 3) <> lpad(to_hex(e.place), 3, '0')
                             OR e.place < 0 OR e.place >= e.batch_events) || ' '
            || count(*) - count(DISTINCT e.id) || ' ' || (max(e.batch_events) <= 128)",
        "",
    );
    assert_eq!(value(superuser, &sound).await, "0 0 true", "ids, places and sizes");
    // By ordinal, the events of a transaction and organization are without gaps and as old as each other or younger;
    // those of a batch follow each other.
    let order = format!(
        "SELECT count(*) FROM ({}) o
          WHERE o.ordinal <> o.n OR o.occurred_at < o.time_before OR o.place <> 0 AND o.id_before >= o.id
             OR (o.place = 0) <> (o.batch IS DISTINCT FROM o.batch_before)
             OR o.place <> 0 AND o.occurred_at - first_time > interval '1 second'
             OR o.place = 0 AND o.batch_before IS NOT NULL AND o.last_of_before",
        of_new(
            "e.*, row_number() OVER w AS n, lag(e.occurred_at) OVER w AS time_before, lag(e.id) OVER w AS id_before,
             lag(e.batch) OVER w AS batch_before, lag(e.place < e.batch_events - 1) OVER w AS last_of_before,
             first_value(e.occurred_at) OVER (PARTITION BY e.batch ORDER BY e.place) AS first_time",
            "WINDOW w AS (PARTITION BY e.transaction, e.organization ORDER BY e.ordinal)",
        )
    );
    assert_eq!(count(superuser, &order).await, 0, "order");
    let batches = of_new("count(DISTINCT e.batch) || ' ' || max(e.batch_events)", "");
    let batches = value(superuser, &batches).await;
    let (number, largest) = batches.split_once(' ').unwrap();
    (number.parse().unwrap(), largest.parse().unwrap())
}

/// Seals, and compares the positions with the order of the events; then all of it verifies.
async fn assert_sealed_in_order(superuser: &Client) {
    seal_all(superuser).await;
    let order = "SELECT count(*) FROM (SELECT t.ordinal, lag(t.ordinal) OVER w AS before, t.\"position\",
                                              lag(t.\"position\") OVER w AS position_before
                                         FROM tenancy.audit_trail t WHERE t.batch NOT IN (SELECT id FROM before)
                                       WINDOW w AS (PARTITION BY t.organization, t.transaction ORDER BY t.ordinal)) o
                  WHERE o.before IS NOT NULL AND o.\"position\" <> o.position_before + 1 OR o.\"position\" IS NULL";
    assert_eq!(count(superuser, order).await, 0, "positions");
    assert_audit_is_whole(superuser).await;
}

/// The events since [`begin`] in their order, as lines: operation, table and what `line` says of an event.
async fn new_lines(superuser: &Client, line: &str) -> Vec<String> {
    column(
        superuser,
        &of_new(
            &format!("e.operation || ' ' || e.table_name || ' ' || {line}"),
            "ORDER BY e.organization, e.transaction::text::bigint, e.ordinal",
        ),
    )
    .await
}

fn lines(numbers: impl Iterator<Item = i64>, line: impl Fn(i64) -> String) -> Vec<String> {
    numbers.map(line).collect()
}

#[test]
fn a_statement_of_a_thousand_rows_makes_batches_of_at_most_128_events_in_their_order() {
    in_database(async |database| {
        let (client, superuser) = (database.application().await, database.superuser().await);
        let text = "(e.row_key ->> 'id') || ' ' || coalesce(e.payload -> 'new' ->> 'title', '-') || ' '
                    || coalesce(e.payload -> 'old' ->> 'title', '-')";
        for (sql, expected) in [
            (
                r#"INSERT INTO "Finding" (id, title, "accountId") SELECT 2000 + n, 'row ' || n, 1
                     FROM generate_series(1, 1000) n"#,
                lines(1..1001, |n| format!("insert Finding {} row {n} -", 2000 + n)),
            ),
            (
                r#"UPDATE "Finding" SET title = 'new ' || title, "accountId" = NULL WHERE id > 2000"#,
                lines(1..1001, |n| format!("update Finding {} new row {n} row {n}", 2000 + n)),
            ),
            (
                r#"DELETE FROM "Finding" WHERE id > 2000"#,
                lines(1..1001, |n| format!("delete Finding {} - new row {n}", 2000 + n)),
            ),
        ] {
            begin(&superuser).await;
            run(&superuser, "CREATE TEMP TABLE begun AS SELECT clock_timestamp() AS at").await;
            as_tenant(&client, &database.token("alice")).await;
            assert_eq!(changed(&client, sql).await, 1000);
            run(&client, "COMMIT").await;
            assert_eq!(new_lines(&superuser, text).await, expected);
            let (batches, largest) = assert_in_order(&superuser).await;
            // Eight, and one more for each second that the machine was slow.
            assert!(largest == MOST && (8..20).contains(&batches), "{batches} batches, the largest of {largest}");
            let times =
                of_new("count(*)", "AND e.occurred_at NOT BETWEEN (SELECT at FROM begun) AND clock_timestamp()");
            assert_eq!(count(&superuser, &times).await, 0);
            let actors = of_new("string_agg(DISTINCT a.subject, ',')", "")
                .replace("WHERE", "JOIN tenancy.event_actor a ON a.id = e.actor WHERE");
            assert_eq!(value(&superuser, &actors).await, "alice");
            assert_sealed_in_order(&superuser).await;
            run(&superuser, "DROP TABLE begun").await;
        }
    });
}

#[test]
fn rows_of_several_organizations_fill_a_batch_of_each() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        begin(&superuser).await;
        let organizations = [ACME, GLOBEX, INITECH];
        let insert = format!(
            r#"INSERT INTO "Finding" (id, "organizationId", title)
               SELECT 2000 + n, ('{{{ACME},{GLOBEX},{INITECH}}}'::uuid[])[1 + n % 3], 'row ' || n
                 FROM generate_series(0, 999) n"#
        );
        run(&superuser, &insert).await;
        let (batches, largest) = assert_in_order(&superuser).await;
        assert!(largest == MOST && (9..20).contains(&batches), "{batches} batches, the largest of {largest}");
        for (n, organization) in (0..).zip(organizations) {
            let of_one = of_new(
                "e.payload -> 'new' ->> 'title'",
                &format!("AND e.organization = '{organization}' ORDER BY e.ordinal"),
            );
            assert_eq!(column(&superuser, &of_one).await, lines((n..1000).step_by(3), |n| format!("row {n}")));
        }
        // Each row to the next organization: a deletion and an insertion, one after the other.
        begin(&superuser).await;
        run(
            &superuser,
            &format!(
                r#"UPDATE "Finding" f SET "organizationId" = ('{{{ACME},{GLOBEX},{INITECH}}}'::uuid[])[1 + (id + 2) % 3]
                    WHERE id BETWEEN 2000 AND 2999"#
            ),
        )
        .await;
        assert_in_order(&superuser).await;
        let moved = of_new("count(*) FILTER (WHERE e.operation = 'delete') || ' ' || count(*)", "");
        assert_eq!(value(&superuser, &moved).await, "1000 2000");
        assert_sealed_in_order(&superuser).await;
    });
}

/// A table whose every row does something more, by its number: nothing, a row of another table, one that is taken
/// back, or one that is taken back after it led to another.
const JOBS: &str = r#"
CREATE TABLE job (id integer PRIMARY KEY, organization_id uuid NOT NULL, account bigint REFERENCES cloud_account);
CREATE TABLE step (job integer REFERENCES job ON DELETE CASCADE, kind text, organization_id uuid NOT NULL,
    PRIMARY KEY (job, kind));
SELECT tenancy.protect('job');
SELECT tenancy.protect('step');
CREATE FUNCTION steps() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.id % 40 = 7 THEN
        INSERT INTO step VALUES (NEW.id, 'kept', NEW.organization_id);
    ELSIF NEW.id % 40 = 17 THEN
        BEGIN
            INSERT INTO step VALUES (NEW.id, 'kept within', NEW.organization_id);
        EXCEPTION WHEN unique_violation THEN NULL;
        END;
    ELSIF NEW.id % 40 = 27 THEN
        BEGIN
            INSERT INTO step SELECT NEW.id, 'undone ' || n, NEW.organization_id FROM generate_series(1, 5) n;
            RAISE EXCEPTION 'taken back';
        EXCEPTION WHEN raise_exception THEN
            INSERT INTO step SELECT NEW.id, 'instead ' || n, NEW.organization_id FROM generate_series(1, 2) n;
        END;
    ELSIF NEW.id % 40 = 37 THEN
        BEGIN
            BEGIN
                INSERT INTO step VALUES (NEW.id, 'undone within', NEW.organization_id);
            EXCEPTION WHEN unique_violation THEN NULL;
            END;
            RAISE EXCEPTION 'taken back';
        EXCEPTION WHEN raise_exception THEN NULL;
        END;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER steps AFTER INSERT ON job FOR EACH ROW EXECUTE FUNCTION steps();
"#;

/// The rows of both tables, and the same told by their events.
async fn assert_events_are_the_rows(superuser: &Client) {
    let rows = "SELECT 'job ' || id FROM job UNION ALL SELECT 'step ' || job || ' ' || kind FROM step ORDER BY 1";
    let told = of_new(
        "e.table_name || ' ' || coalesce(e.row_key ->> 'id', (e.row_key ->> 'job') || ' ' || (e.row_key ->> 'kind')) \
            AS line",
        "AND e.operation = 'insert' ORDER BY line",
    );
    let (mut rows, mut told) = (column(superuser, rows).await, column(superuser, &told).await);
    rows.sort();
    told.sort();
    assert_eq!(told, rows);
}

#[test]
fn triggers_and_savepoints_within_a_statement_cut_no_event_out_and_leave_none_of_what_they_took_back() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        run(&superuser, JOBS).await;
        begin(&superuser).await;
        run(
            &superuser,
            &format!(
                "INSERT INTO job SELECT n, ('{{{ACME},{GLOBEX}}}'::uuid[])[1 + n / 3 % 2], NULL FROM \
                generate_series(1, 1000) n"
            ),
        )
        .await;
        assert!(count(&superuser, "SELECT count(*) FROM step").await == 25 * 4, "kept, kept within, and two instead");
        assert_events_are_the_rows(&superuser).await;
        let (batches, largest) = assert_in_order(&superuser).await;
        assert!(batches > 25 && largest > 4, "{batches} batches, the largest of {largest}");
        let jobs = of_new(
            "e.row_key ->> 'id'",
            &format!("AND e.table_name = 'job' AND e.organization = '{ACME}' ORDER BY e.ordinal"),
        );
        let expected = lines((1..=1000).filter(|n| n / 3 % 2 == 0), |n| n.to_string());
        assert_eq!(column(&superuser, &jobs).await, expected);
        assert_sealed_in_order(&superuser).await;
    });
}

#[test]
fn a_statement_that_fails_halfway_within_a_block_leaves_no_event_and_what_follows_links_to_what_was_before() {
    in_database(async |database| {
        let (client, superuser) = (database.application().await, database.superuser().await);
        begin(&superuser).await;
        as_tenant(&client, &database.token("alice")).await;
        // The 250th row is there already: two batches are full by then.
        let fails = r#"INSERT INTO "Finding" (id, title) SELECT CASE n WHEN 250 THEN 1 ELSE 3000 + n END, 'gone'
                         FROM generate_series(1, 300) n"#;
        let block = format!(
            r#"DO $$ BEGIN
                   INSERT INTO "Finding" (id, title) SELECT 2000 + n, 'first' FROM generate_series(1, 200) n;
                   BEGIN {fails}; EXCEPTION WHEN unique_violation THEN NULL; END;
                   BEGIN
                       INSERT INTO "Finding" (id, title) SELECT 3000 + n, 'gone' FROM generate_series(1, 200) n;
                       RAISE EXCEPTION 'x';
                   EXCEPTION WHEN raise_exception THEN NULL;
                   END;
                   INSERT INTO "Finding" (id, title) SELECT 4000 + n, 'last' FROM generate_series(1, 200) n;
               END $$"#
        );
        run(&client, &block).await;
        // The same by savepoints of the client.
        assert_eq!(refused_within(&client, fails).await.sqlstate, "23505");
        // Foreign keys are checked between the events of the rows: one batch is full, and another one open.
        run(&client, "SET CONSTRAINTS ALL IMMEDIATE").await;
        let fails = r#"INSERT INTO "Finding" (id, title, "accountId")
                       SELECT 3000 + n, 'gone', CASE n WHEN 250 THEN 999 ELSE 1 END FROM generate_series(1, 300) n"#;
        assert_eq!(refused_within(&client, fails).await.sqlstate, "23503");
        let caught = format!(
            r#"DO $$ BEGIN {fails}; EXCEPTION WHEN foreign_key_violation THEN
                   UPDATE "Finding" SET title = 'kept' WHERE id > 4190;
               END $$"#
        );
        run(&client, &caught).await;
        run(
            &client,
            r#"SAVEPOINT s; UPDATE "Finding" SET title = 'gone' WHERE id > 2000; ROLLBACK TO s;
               SAVEPOINT t; UPDATE "Finding" SET title = 'changed' WHERE id > 2000; RELEASE t; RELEASE s; COMMIT"#,
        )
        .await;
        let expected: Vec<String> =
            [("insert first", 200), ("insert last", 200), ("update kept", 10), ("update changed", 400)]
                .iter()
                .flat_map(|(line, times)| vec![line.replace(' ', " Finding "); *times])
                .collect();
        assert_eq!(new_lines(&superuser, "(e.payload -> 'new' ->> 'title')").await, expected);
        assert_in_order(&superuser).await;
        assert_sealed_in_order(&superuser).await;
    });
}

#[test]
fn checks_and_cascades_of_foreign_keys_leave_batches_whole() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        run(&superuser, JOBS).await;
        run(&superuser, "ALTER TABLE job DISABLE TRIGGER steps").await;
        // A trigger that looks something up for each row cuts them neither.
        run(
            &superuser,
            "CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$
                 BEGIN PERFORM FROM cloud_account c WHERE c.organization_id = NEW.organization_id; RETURN NULL; END $$;
             CREATE TRIGGER look AFTER INSERT ON step FOR EACH ROW EXECUTE FUNCTION look()",
        )
        .await;
        let account = format!("INSERT INTO cloud_account (id, organization_id, external_id) VALUES (3, '{ACME}', 'x')");
        run(&superuser, &account).await;
        for (sql, events) in [
            // Each row is looked up in the table that it points to.
            (format!("INSERT INTO job SELECT n, '{ACME}', 1 FROM generate_series(1, 300) n"), 300),
            (format!("INSERT INTO step SELECT n, 'x', '{ACME}' FROM generate_series(1, 300) n"), 300),
            ("UPDATE job SET account = 3".to_owned(), 300),
            // Each row takes another with it.
            ("DELETE FROM job WHERE id <= 150".to_owned(), 300),
            (format!("INSERT INTO step SELECT 200, 'y' || n, '{ACME}' FROM generate_series(1, 99) n"), 99),
            // One takes a hundred.
            ("DELETE FROM job WHERE id = 200".to_owned(), 101),
        ] {
            begin(&superuser).await;
            run(&superuser, &sql).await;
            assert_eq!(count(&superuser, &of_new("count(*)", "")).await, events, "{sql}");
            let (batches, largest) = assert_in_order(&superuser).await;
            assert!(largest > 50 && batches < 20, "{sql}: {batches} batches, the largest of {largest}");
            assert_sealed_in_order(&superuser).await;
        }
    });
}

#[test]
fn copy_and_prepared_transactions_pack_their_rows() {
    in_database(async |database| {
        let (client, superuser) = (database.application().await, database.superuser().await);
        begin(&superuser).await;
        let line = |n: i64| format!("{}\t{}\trow {n}\n", 2000 + n, if n % 2 == 0 { ACME } else { GLOBEX });
        let copy = r#"COPY "Finding" (id, "organizationId", title) FROM STDIN"#;
        let sink = superuser.copy_in(copy).await.unwrap();
        let mut sink = std::pin::pin!(sink);
        sink.send(std::io::Cursor::new((1..=1000).map(line).collect::<String>().into_bytes())).await.unwrap();
        assert_eq!(sink.finish().await.unwrap(), 1000);
        let (batches, largest) = assert_in_order(&superuser).await;
        assert!(largest == MOST && (8..20).contains(&batches), "{batches} batches, the largest of {largest}");
        let expected: Vec<String> = [0, 1]
            .iter()
            .flat_map(|odd| lines((1..=1000).filter(move |n| n % 2 == *odd), |n| format!("insert Finding row {n}")))
            .collect();
        assert_eq!(new_lines(&superuser, "(e.payload -> 'new' ->> 'title')").await, expected);
        assert_sealed_in_order(&superuser).await;

        for (n, end) in ["COMMIT", "ROLLBACK"].into_iter().enumerate() {
            begin(&superuser).await;
            let name = format!("{}_{n}", database.name);
            as_tenant(&client, &database.token("alice")).await;
            run(&client, r#"UPDATE "Finding" SET title = title || '!' WHERE id > 2000"#).await;
            run(&client, &format!("PREPARE TRANSACTION '{name}'")).await;
            // Beside another transaction of the organization, sealed while the first is prepared.
            as_tenant(&client, &database.token("alice")).await;
            run(&client, r#"UPDATE "Finding" SET title = title || '?' WHERE id <= 5; COMMIT"#).await;
            assert_eq!(seal(&superuser).await, 5);
            run(&superuser, &format!("{end} PREPARED '{name}'")).await;
            assert_eq!(count(&superuser, &of_new("count(*)", "")).await, if n == 0 { 505 } else { 5 });
            assert_in_order(&superuser).await;
            assert_sealed_in_order(&superuser).await;
        }
    });
}

#[test]
fn events_of_many_organizations_and_large_rows_are_written_before_the_statement_ends() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        let organizations = "SELECT tenancy.create_organization('o' || n, ('dddddddd-0000-4000-8000-' ||
                               lpad(n::text, 12, '0'))::uuid) FROM generate_series(1, 600) n";
        run(&superuser, organizations).await;
        begin(&superuser).await;
        // More organizations than batches may be open at once, each of them again and again.
        run(
            &superuser,
            r#"INSERT INTO "Finding" ("organizationId", title)
               SELECT ('dddddddd-0000-4000-8000-' || lpad((1 + n % 600)::text, 12, '0'))::uuid, 'row ' || n
                 FROM generate_series(0, 2399) n"#,
        )
        .await;
        assert_eq!(count(&superuser, &of_new("count(*)", "")).await, 2400);
        assert_in_order(&superuser).await;
        // Rows of 50 kB and of 200 kB: few or one of them in a batch.
        begin(&superuser).await;
        run(
            &superuser,
            &format!(
                r#"SET tenancy.audit_value_limit = '1MB';
                   INSERT INTO "Finding" ("organizationId", title)
                   SELECT '{ACME}', repeat(n::text || ' ', CASE WHEN n % 10 = 9 THEN 40000 ELSE 10000 END)
                     FROM generate_series(10000, 10059) n"#
            ),
        )
        .await;
        let (batches, _) = assert_in_order(&superuser).await;
        assert!(batches >= 30, "{batches}");
        let whole = of_new(
            "bool_and(f.title = e.payload -> 'new' ->> 'title') || ' ' || count(*) || ' '
                || max(e.batch_events) FILTER (WHERE length(f.title) > 200000)",
            "",
        )
        .replace("WHERE e.batch", r#"JOIN "Finding" f ON f.id::text = e.row_key ->> 'id' WHERE e.batch"#);
        assert_eq!(value(&superuser, &whole).await, "true 60 1");
        assert_sealed_in_order(&superuser).await;
    });
}

#[test]
fn the_history_of_a_row_finds_it_within_the_batches() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        run(
            &superuser,
            &format!(
                "CREATE TABLE thing (id integer PRIMARY KEY, organization_id uuid NOT NULL, name text);
                 SELECT tenancy.protect('thing');
                 INSERT INTO thing SELECT n, ('{{{ACME},{GLOBEX}}}'::uuid[])[1 + n % 2], 'thing ' || n
                   FROM generate_series(1, 400) n"
            ),
        )
        .await;
        let moments = async |sql: &str| {
            run(&superuser, sql).await;
            value(&superuser, "SELECT clock_timestamp()").await
        };
        let inserted = moments("SELECT 1").await;
        let changed = moments("UPDATE thing SET name = name || '!'").await;
        let deleted = moments("DELETE FROM thing WHERE id % 4 = 0").await;
        assert_eq!(
            count(
                &superuser,
                "SELECT min(n) FROM (SELECT max(batch_events) AS n FROM tenancy.event
                                WHERE table_name = 'thing' AND domain = 'thing' GROUP BY operation) m"
            )
            .await,
            100,
            "the deletion of 100 rows of one organization is a batch, and the others have more"
        );
        for sealed in [false, true] {
            if sealed {
                seal_all(&superuser).await;
            }
            for id in [1, 2, 64, 128, 129, 200, 399, 400] {
                let as_of = async |moment: &str| {
                    let sql = format!("SELECT tenancy.row_as_of('thing', '{{\"id\": {id}}}', '{moment}') ->> 'name'");
                    value(&superuser, &sql).await
                };
                assert_eq!(as_of(&inserted).await, format!("thing {id}"));
                assert_eq!(as_of(&changed).await, format!("thing {id}!"));
                assert_eq!(as_of(&deleted).await, if id % 4 == 0 { String::new() } else { format!("thing {id}!") });
                let history = format!(
                    "SELECT operation || ' ' || complete || ' ' || (\"position\" IS NOT NULL)
                       FROM tenancy.row_history('thing', '{{\"id\": {id}}}')"
                );
                let mut expected = vec![format!("insert true {sealed}"), format!("update true {sealed}")];
                if id % 4 == 0 {
                    expected.push(format!("delete true {sealed}"));
                }
                assert_eq!(column(&superuser, &history).await, expected, "{id}");
            }
        }
    });
}

/// Where bytes of a partition could still be: the files of its heap and its TOAST table, as they are on the disk.
async fn in_the_files(superuser: &Client, text: &str) -> Vec<bool> {
    run(superuser, "CHECKPOINT").await;
    let partitions = "SELECT c.oid::regclass::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                       WHERE i.inhparent = 'tenancy.event_batch'::regclass AND pg_relation_size(c.oid) > 0";
    let partition = value(superuser, partitions).await;
    let halves = text.split_at(text.len() / 2);
    // A chunk of TOAST may end within the text, though not within both halves.
    let found = |table: &str| {
        format!(
            "SELECT position('{}'::bytea IN file) > 0 OR position('{}'::bytea IN file) > 0
               FROM pg_read_binary_file(pg_relation_filepath({table})) file",
            halves.0, halves.1
        )
    };
    let heap = value(superuser, &found(&format!("'{partition}'"))).await;
    let toast = format!("(SELECT reltoastrelid::regclass FROM pg_class WHERE oid = '{partition}'::regclass)");
    [heap, value(superuser, &found(&toast)).await].iter().map(|found| found == "t").collect()
}

#[test]
fn an_event_that_is_erased_within_a_batch_is_gone_from_heap_and_toast_and_the_others_stay_as_they_were() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        // A batch that fits into a row, and one that is stored out of line. Compression repeats no part of these.
        for (rows, secret, toasted) in [(3, "Zq7RkW2vXj9LmPt4HsByNcDf", false), (120, "QwGx5TyJr8ZvKp3UnMsXbVhL", true)]
        {
            begin(&superuser).await;
            run(
                &superuser,
                &format!(
                    r#"INSERT INTO "Finding" ("organizationId", title)
                       SELECT '{ACME}', CASE n WHEN 2 THEN '{secret}' ELSE 'row ' || md5(n::text) END
                         FROM generate_series(1, {rows}) n"#
                ),
            )
            .await;
            seal_all(&superuser).await;
            let event = value(&superuser, &of_new("e.id", &format!("AND e.payload::text LIKE '%{secret}%'"))).await;
            let batch = format!("tenancy.batch_of('{event}')");
            let size = count(&superuser, &format!("SELECT events FROM tenancy.event_batch WHERE id = {batch}")).await;
            assert_eq!(size, rows);
            assert_eq!(in_the_files(&superuser, secret).await, [!toasted, toasted], "the control");

            let others = format!(
                "SELECT e.place || ' ' || (e)::text FROM tenancy.event e WHERE e.batch = {batch} AND e.id <> '{event}'
                  ORDER BY e.place"
            );
            let digest = format!("SELECT payload_digest FROM tenancy.event WHERE batch = {batch} AND id = '{event}'");
            // To the root of the batch, and from there to the one that the organization's tree had then.
            let size =
                count(&superuser, &format!("SELECT max(leaf) FROM tenancy.entry WHERE organization = '{ACME}'")).await;
            let proof = |place: i64| {
                format!(
                    "SELECT p::text || tenancy.inclusion_proof('{ACME}', p.leaf, {size})::text || ' '
                            || tenancy.verify_inclusion(p.data, p.place, p.events, p.proof, p.root) || ' '
                            || tenancy.verify_inclusion(int8send(s.position) || s.batch_hash, s.leaf, {size},
                                   tenancy.inclusion_proof('{ACME}', s.leaf, {size}), tenancy.tree_root('{ACME}', \
                                       {size}))
                       FROM tenancy.event e, tenancy.event_proof(e.id) p
                       JOIN tenancy.entry s ON s.organization = p.organization AND s.leaf = p.leaf
                      WHERE e.batch = {batch} AND e.place = {place}"
                )
            };
            let (others_before, digest_before) = (column(&superuser, &others).await, value(&superuser, &digest).await);
            let mut proofs_before = Vec::new();
            for place in [0, 1, 2] {
                let proof = value(&superuser, &proof(place)).await;
                assert!(proof.ends_with("true true"), "{proof}");
                proofs_before.push(proof);
            }
            run(&superuser, &format!("SELECT tenancy.erase_payload('{event}', 'asked by the subject')")).await;

            let left = format!(
                "SELECT (payload, payload_salt) IS NULL FROM tenancy.event WHERE batch = {batch} AND id = '{event}'"
            );
            assert_eq!(value(&superuser, &left).await, "t");
            assert_eq!(value(&superuser, &digest).await, digest_before);
            assert_eq!(column(&superuser, &others).await, others_before, "the others are as they were");
            for (place, before) in (0..).zip(&proofs_before) {
                assert_eq!(value(&superuser, &proof(place)).await, *before, "the proofs are what they were");
            }
            assert_sealed_in_order(&superuser).await;
            let dumped = database.program("pg_dump").output().unwrap();
            let dumped = String::from_utf8_lossy(&dumped.stdout).into_owned();
            let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
            // The row of the table is the application's own matter.
            assert_eq!((dumped.contains(&hex(secret)), dumped.matches(secret).count()), (false, 1), "{secret}");

            // As docs/operations.md has it: after VACUUM it is in no row, after VACUUM FULL in no page.
            run(&superuser, "VACUUM tenancy.event_batch").await;
            let chunks = "SELECT reltoastrelid::regclass FROM pg_class c JOIN pg_inherits i ON i.inhrelid = c.oid
                           WHERE i.inhparent = 'tenancy.event_batch'::regclass AND pg_relation_size(c.oid) > 0";
            let toast = value(&superuser, chunks).await;
            let held = format!("SELECT count(*) FROM {toast} WHERE position('{secret}'::bytea IN chunk_data) > 0");
            assert_eq!(count(&superuser, &held).await, 0);
            run(&superuser, "VACUUM FULL tenancy.event_batch").await;
            assert_eq!(in_the_files(&superuser, secret).await, [false, false]);
            assert_audit_is_whole(&superuser).await;
        }
    });
}

#[test]
fn all_events_of_a_batch_can_be_erased_one_by_one_together_and_beside_a_rollback() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        begin(&superuser).await;
        run(
            &superuser,
            &format!(
                r#"INSERT INTO "Finding" ("organizationId", title) SELECT '{ACME}', 'top secret ' || n
                     FROM generate_series(1, 20) n"#
            ),
        )
        .await;
        seal_all(&superuser).await;
        let ids = column(&superuser, &of_new("e.id", "ORDER BY e.id")).await;
        let left = of_new("count(*)", "AND e.payload::text LIKE '%top secret%'");
        let erase = |id: &str| format!("SELECT tenancy.erase_payload('{id}', 'r')");
        // Two in one transaction, between them one that is taken back.
        run(
            &superuser,
            &format!(
                "BEGIN; {}; SAVEPOINT s; {}; ROLLBACK TO s; {}; COMMIT",
                erase(&ids[4]),
                erase(&ids[5]),
                erase(&ids[6])
            ),
        )
        .await;
        assert_eq!(count(&superuser, &left).await, 18);
        assert_eq!(count(&superuser, &left.replace("LIKE '%top secret%'", "LIKE '%top secret 6\"%'")).await, 1);
        assert_audit_is_whole(&superuser).await;
        // Two sessions at once, of the same batch: one waits, and neither brings back what the other took.
        let other = database.superuser().await;
        run(&superuser, &format!("BEGIN; {}", erase(&ids[0]))).await;
        let sql = erase(&ids[1]);
        let waiting = async { run(&other, &sql).await };
        let committing = async {
            let locked =
                "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND relation = 'tenancy.erasure'::regclass";
            eventually(&superuser, locked).await;
            run(&superuser, "COMMIT").await;
        };
        futures_util::future::join(waiting, committing).await;
        assert_eq!(count(&superuser, &left).await, 16);
        assert_audit_is_whole(&superuser).await;
        // All others in one statement, and again.
        let all = format!(
            "SELECT count(tenancy.erase_payload(id, 'r')) FROM ({}) e",
            of_new("e.id", "AND e.payload IS NOT NULL AND e.operation = 'insert'")
        );
        assert_eq!(count(&superuser, &all).await, 16);
        assert_eq!(count(&superuser, &left).await, 0);
        let refusal = refused(&superuser, &erase(&ids[9])).await;
        assert_eq!((refusal.sqlstate.as_str(), refusal.message.contains("no payload any more")), ("55000", true));
        // A place that the batch does not have.
        let beyond = Uuid::from_u128(ids[0].parse::<Uuid>().unwrap().as_u128() | 20);
        assert_eq!(refused(&superuser, &erase(&beyond.to_string())).await.sqlstate, "42704");
        assert_audit_is_whole(&superuser).await;
    });
}

#[test]
fn a_restored_dump_has_every_event_of_the_batches() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        for table in 1..=3 {
            run(
                &superuser,
                &format!(
                    r#"INSERT INTO "Finding" ("organizationId", title)
                       SELECT ('{{{ACME},{GLOBEX},{INITECH}}}'::uuid[])[1 + n % 3], 'ünsafe {table} \ ' || n
                         FROM generate_series(1, 500) n;
                       UPDATE "Finding" SET "amountCents" = 7"#
                ),
            )
            .await;
            if table < 3 {
                seal(&superuser).await;
            }
        }
        let event = value(
            &superuser,
            "SELECT max(id::text) FROM tenancy.event WHERE batch_events > 100 AND place = \
            50 AND batch IN (SELECT batch FROM tenancy.entry)",
        )
        .await;
        run(&superuser, &format!("SELECT tenancy.erase_payload('{event}', 'r')")).await;
        let all = "SELECT (e)::text FROM tenancy.event e WHERE domain <> 'schema' ORDER BY id";
        let before = column(&superuser, all).await;
        assert!(before.len() > 4000, "{}", before.len());
        let restored = database.restore_a_dump().await;
        let copy = connect(database.config().dbname(&restored)).await;
        assert_same(&before, &column(&copy, all).await);
        seal_all(&copy).await;
        assert_audit_is_whole(&copy).await;
        drop(copy);
        run(&superuser, &format!("DROP DATABASE {restored} WITH (FORCE)")).await;
    });
}
