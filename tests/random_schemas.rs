//! Random schemas, random rows, random statements: under a tenant's identity each statement answers what the same
//! statement answers on copies of the tables that hold that tenant's rows alone, and leaves the others' rows as they were.
//!
//! The copies are the oracle: no row-level security, no other tenants, so nothing to leak and nothing to forget.

mod common;

use common::*;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config as ProptestConfig, TestRunner};
use std::fmt::Write as _;
use tokio_postgres::Client;

/// How many schemas are tried; PROPTEST_CASES says otherwise.
const CASES: u32 = 40;
const STATEMENTS: usize = 14;

/// A tenant: the id of its organization as uuid, text and number, and its member.
const TENANTS: [(&str, &str, i64, &str); 3] = [
    ("aaaaaaaa-0000-4000-8000-000000000001", "acme", 1, "alice"),
    ("bbbbbbbb-0000-4000-8000-000000000002", "globex", 2, "bob"),
    ("cccccccc-0000-4000-8000-000000000003", "initech", 3, "ines"),
];

#[derive(Debug, Clone)]
struct Table {
    name: &'static str,
    column: &'static str,
    data_type: &'static str,
    nulls: Nulls,
    shape: Shape,
    /// Points at the table before, if that has an organization of the same type.
    on_delete: Option<&'static str>,
    view: bool,
    index: Option<&'static str>,
    /// Rows of each tenant, and of none.
    rows: [usize; 4],
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Nulls {
    Refused,
    Shared,
    Nobody,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Shape {
    Plain,
    Partitioned,
    /// The rows of odd ids stand in a child by inheritance.
    Inherited,
}

fn tables() -> impl Strategy<Value = Vec<Table>> {
    let table = |name: &'static str| {
        (
            prop::sample::select(vec!["organizationId", "organization_id", "org_id", "tenant_id"]),
            prop::sample::select(vec!["uuid", "text", "varchar(40)", "integer", "bigint"]),
            prop::sample::select(vec![Nulls::Refused, Nulls::Refused, Nulls::Shared, Nulls::Nobody]),
            prop::sample::select(vec![Shape::Plain, Shape::Plain, Shape::Partitioned, Shape::Inherited]),
            prop::sample::select(vec![None, Some("CASCADE"), Some("SET NULL"), Some("NO ACTION")]),
            any::<bool>(),
            prop::sample::select(vec![None, Some("amount"), Some("label"), Some("lower(label)")]),
            prop::array::uniform4(0..6usize),
        )
            .prop_map(move |(column, data_type, nulls, shape, on_delete, view, index, rows)| Table {
                name,
                column,
                data_type,
                nulls,
                shape,
                on_delete,
                view,
                index,
                rows,
            })
    };
    (table("account"), table("Cloud Item"), table("select"))
        .prop_map(|(first, second, third)| vec![first, second, third])
}

/// The tables with their rows below a schema; `alone` is the tenant whose rows it is to hold, else all.
fn create(tables: &[Table], schema: &str, alone: Option<usize>) -> String {
    let mut sql = format!("CREATE SCHEMA {schema}; SET LOCAL search_path = {schema};");
    for (n, table) in tables.iter().enumerate() {
        let Table { name, column, data_type, nulls, shape, rows, .. } = table;
        let not_null = if *nulls == Nulls::Refused { " NOT NULL" } else { "" };
        let default = alone.map_or_else(String::new, |tenant| format!(" DEFAULT {}", value_of(data_type, tenant)));
        let reference = reference_of(tables, n).map_or_else(String::new, |(parent, action)| {
            format!(", FOREIGN KEY (parent) REFERENCES \"{parent}\" (id) ON DELETE {action}")
        });
        let by = if *shape == Shape::Partitioned { " PARTITION BY RANGE (id)" } else { "" };
        write!(
            sql,
            "CREATE TABLE \"{name}\" (id integer PRIMARY KEY, \"{column}\" {data_type}{not_null}{default}, label text,
                 amount integer, parent integer{reference}){by};"
        )
        .unwrap();
        match shape {
            Shape::Plain => {}
            Shape::Partitioned => write!(
                sql,
                "CREATE TABLE \"{name} low\" PARTITION OF \"{name}\" FOR VALUES FROM (MINVALUE) TO (150);
                 CREATE TABLE \"{name} high\" PARTITION OF \"{name}\" FOR VALUES FROM (150) TO (MAXVALUE);"
            )
            .unwrap(),
            Shape::Inherited => write!(sql, "CREATE TABLE \"{name} odd\" () INHERITS (\"{name}\");").unwrap(),
        }
        if let Some(index) = table.index {
            write!(sql, "CREATE INDEX ON \"{name}\" ({index});").unwrap();
        }
        for (owner, count) in rows.iter().enumerate() {
            for row in 0..*count {
                let of_nobody = owner == 3;
                if of_nobody && *nulls == Nulls::Refused {
                    continue;
                }
                let visible = alone.is_none_or(|tenant| owner == tenant || of_nobody && *nulls == Nulls::Shared);
                if !visible {
                    continue;
                }
                let id = owner * 100 + row;
                let organization = if of_nobody { "NULL".into() } else { value_of(data_type, owner) };
                // Each tenant's rows point at its own parents.
                let parent = reference_of(tables, n)
                    .filter(|_| row < tables[n - 1].rows[owner])
                    .map_or("NULL".into(), |_| id.to_string());
                let child = if *shape == Shape::Inherited && row % 2 == 1 { " odd" } else { "" };
                write!(
                    sql,
                    "INSERT INTO \"{name}{child}\" VALUES ({id}, {organization}, 'Label {}', {}, {parent});",
                    row % 3,
                    (row * 7 + owner) % 5,
                )
                .unwrap();
            }
        }
        if table.view {
            write!(sql, "CREATE VIEW \"{name} view\" WITH (security_invoker = true) AS SELECT * FROM \"{name}\" WHERE amount > 0;")
                .unwrap();
        }
    }
    write!(sql, "GRANT USAGE ON SCHEMA {schema} TO {APPLICATION}; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {APPLICATION};")
        .unwrap();
    sql
}

/// The table that the one at `n` points at. Between tables whose organization may be NULL a foreign key stays plain, and
/// tells that an id exists somewhere (docs/isolation.md), so there is none here.
fn reference_of(tables: &[Table], n: usize) -> Option<(&'static str, &'static str)> {
    let parent = tables.get(n.checked_sub(1)?)?;
    let fits = tables[n].data_type == parent.data_type
        && [&tables[n], parent].iter().all(|table| table.nulls == Nulls::Refused)
        && parent.shape == Shape::Plain;
    Some((parent.name, tables[n].on_delete?)).filter(|_| fits)
}

fn value_of(data_type: &str, tenant: usize) -> String {
    let (id, text, number, _) = TENANTS[tenant];
    match data_type {
        "uuid" => format!("'{id}'"),
        "integer" | "bigint" => number.to_string(),
        _ => format!("'{text}'"),
    }
}

/// A statement over two tables. `OWN` stands for a condition that keeps it from shared rows, which a tenant does not
/// write: true under the policies, which see to it, and "is not NULL" for the oracle. MERGE has it in both, because it raises
/// for a row that it may read and not write.
fn statements() -> impl Strategy<Value = String> {
    let condition = prop_oneof![
        Just("true".to_owned()),
        (0..400i32).prop_map(|id| format!("t.id > {id}")),
        (0..3i32, 0..6i32).prop_map(|(owner, row)| format!("t.id = {}", owner * 100 + row)),
        (0..3i32).prop_map(|n| format!("t.label = 'Label {n}'")),
        (0..3i32).prop_map(|n| format!("lower(t.label) LIKE '%{n}'")),
        (0..5i32).prop_map(|n| format!("t.amount = {n} OR t.amount IS NULL")),
        Just("t.ORG IS NOT NULL".to_owned()),
        Just("t.id IN (SELECT u.id + 100 FROM U u)".to_owned()),
        Just("EXISTS (SELECT FROM U u WHERE u.amount = t.amount)".to_owned()),
        Just("t.id NOT IN (SELECT id FROM U)".to_owned()),
    ];
    let read = prop::sample::select(vec![
        "SELECT t.* FROM T t WHERE CONDITION",
        "SELECT count(*), sum(t.amount), min(t.id), max(t.label), count(DISTINCT t.ORG) FROM T t WHERE CONDITION",
        "SELECT t.label, count(*), avg(t.amount) FROM T t WHERE CONDITION GROUP BY ROLLUP (t.label)",
        "SELECT t.id, u.id FROM T t JOIN U u ON u.amount = t.amount WHERE CONDITION",
        "SELECT t.id, u.id FROM T t FULL JOIN U u ON u.id = t.id",
        "SELECT t.id, (SELECT count(*) FROM U u WHERE u.amount < t.amount) FROM T t WHERE CONDITION",
        "WITH RECURSIVE r AS (SELECT t.id, t.parent FROM T t WHERE CONDITION UNION SELECT u.id, u.parent FROM U u JOIN r ON r.parent = u.id) SELECT * FROM r",
        "WITH m AS MATERIALIZED (SELECT * FROM T t WHERE CONDITION) SELECT count(*) FROM m, U",
        "SELECT id, rank() OVER (ORDER BY amount DESC, id), lag(id) OVER (ORDER BY id) FROM T t WHERE CONDITION",
        "SELECT id FROM T UNION ALL SELECT id FROM U EXCEPT SELECT t.id FROM T t WHERE CONDITION",
        "SELECT t.tableoid <> 0, t.id FROM T t WHERE CONDITION ORDER BY t.id LIMIT 3 OFFSET 1",
        "SELECT * FROM VIEW t WHERE CONDITION",
        "SELECT l.id FROM T t CROSS JOIN LATERAL (SELECT u.id FROM U u WHERE u.id > t.id ORDER BY u.id LIMIT 1) l WHERE CONDITION",
        "PREPARE p AS SELECT t.id FROM T t WHERE CONDITION; EXECUTE p; DEALLOCATE p",
        "DECLARE c CURSOR FOR SELECT t.id FROM T t WHERE CONDITION ORDER BY t.id; FETCH ALL FROM c; CLOSE c",
        "SELECT query_to_xml('SELECT count(*) FROM T', true, false, '')::text",
    ]);
    let write = prop::sample::select(vec![
        "UPDATE T t SET amount = t.amount + 1 WHERE (CONDITION) AND OWN RETURNING t.*",
        "UPDATE T t SET label = u.label FROM U u WHERE u.id = t.id AND (CONDITION) AND OWN RETURNING t.id, u.id",
        "UPDATE T t SET id = t.id + 1000 WHERE (CONDITION) AND OWN RETURNING t.id",
        "DELETE FROM T t WHERE (CONDITION) AND OWN RETURNING t.*",
        "DELETE FROM T t USING U u WHERE u.amount = t.amount AND (CONDITION) AND OWN RETURNING t.id",
        "WITH gone AS (DELETE FROM T t WHERE (CONDITION) AND OWN RETURNING t.*) SELECT count(*), sum(amount) FROM gone",
        "INSERT INTO T (id, label, amount) SELECT 5000 + t.id, t.label, t.amount FROM T t WHERE CONDITION RETURNING id, ORG",
        "INSERT INTO T (id, label) VALUES (7000, 'x') RETURNING *",
        "INSERT INTO T (id, label) VALUES (7000, 'y') ON CONFLICT (id) DO NOTHING RETURNING *",
        "MERGE INTO T t USING (SELECT u.id, u.amount FROM U u) s ON t.id = s.id AND (CONDITION) AND t.ORG IS NOT NULL
             WHEN MATCHED AND s.amount > 2 THEN DELETE WHEN MATCHED THEN UPDATE SET label = 'merged' WHEN NOT MATCHED AND s.amount < 0 THEN DO NOTHING",
    ]);
    (prop_oneof![3 => read, 2 => write], condition, 0..3usize, 0..3usize)
        .prop_map(|(statement, condition, t, u)| format!("{t}{u}{}", statement.replace("CONDITION", &condition)))
}

/// The statement for a schema.
fn spell(statement: &str, tables: &[Table], alone: bool) -> String {
    let index = |place: usize| usize::from(statement.as_bytes()[place] - b'0');
    let (t, u) = (&tables[index(0)], &tables[index(1)]);
    let view = if t.view { format!("\"{} view\"", t.name) } else { format!("\"{}\"", t.name) };
    let own = if alone { format!("t.\"{}\" IS NOT NULL", t.column) } else { "true".into() };
    let words = statement[2..].split_inclusive(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .map(|piece| {
            let word = piece.trim_end_matches(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let rest = &piece[word.len()..];
            let word = match word {
                "T" => format!("\"{}\"", t.name),
                "U" => format!("\"{}\"", u.name),
                "VIEW" => view.clone(),
                "ORG" => format!("\"{}\"", t.column),
                "OWN" => own.clone(),
                other => other.to_owned(),
            };
            word + rest
        })
        .collect()
}

/// The rows in an order of their own, or the SQLSTATE.
async fn answer(client: &Client, schema: &str, sql: &str) -> Result<Vec<Vec<Option<String>>>, String> {
    run(client, &format!("SAVEPOINT statement; SET LOCAL search_path = {schema}")).await;
    let mut answer = try_rows(client, sql).await.map_err(|refusal| refusal.sqlstate);
    if let Ok(rows) = &mut answer {
        rows.sort();
    }
    run(client, if answer.is_ok() { "RELEASE statement" } else { "ROLLBACK TO statement; RELEASE statement" }).await;
    answer
}

/// Everything that the tables hold of a tenant, or of all others.
async fn contents(superuser: &Client, tables: &[Table], schema: &str, tenant: usize, own: bool) -> Vec<String> {
    let mut all = Vec::new();
    for Table { name, column, data_type, .. } in tables {
        let comparison = if own { "=" } else { "IS DISTINCT FROM" };
        let sql = format!(
            "SELECT to_jsonb(t)::text FROM {schema}.\"{name}\" t WHERE \"{column}\" {comparison} {} ORDER BY id",
            value_of(data_type, tenant)
        );
        all.extend(column_of(superuser, name, &sql).await);
    }
    all
}

async fn column_of(superuser: &Client, name: &str, sql: &str) -> Vec<String> {
    common::column(superuser, sql).await.into_iter().map(|row| format!("{name}: {row}")).collect()
}

async fn try_schema(database: &Database, tables: &[Table], tenant: usize, statements: &[String]) {
    let superuser = database.superuser().await;
    let owner = database.owner().await;
    let mut protect = String::new();
    for Table { name, nulls, .. } in tables {
        let nulls = match nulls {
            Nulls::Refused => "",
            Nulls::Shared => ", null_rows => 'shared'",
            Nulls::Nobody => ", null_rows => 'nobody'",
        };
        write!(protect, "SELECT tenancy.protect('shared_by_all.\"{name}\"'{nulls});").unwrap();
    }
    run(
        &owner,
        &format!(
            "BEGIN; SET LOCAL client_min_messages = error; {} {protect} COMMIT",
            create(tables, "shared_by_all", None)
        ),
    )
    .await;
    run(&owner, &format!("BEGIN; {} COMMIT", create(tables, "alone", Some(tenant)))).await;
    let others = contents(&superuser, tables, "shared_by_all", tenant, false).await;

    let client = database.application().await;
    as_tenant(&client, &database.token(TENANTS[tenant].3)).await;
    for statement in statements {
        let under_policies = answer(&client, "shared_by_all", &spell(statement, tables, false)).await;
        let by_oracle = answer(&client, "alone", &spell(statement, tables, true)).await;
        assert_eq!(under_policies, by_oracle, "{}\nof {tables:#?}", spell(statement, tables, false));
    }
    run(&client, "COMMIT").await;

    let own = contents(&superuser, tables, "shared_by_all", tenant, true).await;
    assert_eq!(own, contents(&superuser, tables, "alone", tenant, true).await, "{statements:#?}\n{tables:#?}");
    let after = contents(&superuser, tables, "shared_by_all", tenant, false).await;
    assert_eq!(after, others, "rows of others were changed by {statements:#?}\n{tables:#?}");
    for Table { name, .. } in tables {
        let plan = format!("SELECT count(*) FROM tenancy.plan('shared_by_all.\"{name}\"') WHERE state <> 'done'");
        assert_eq!(count(&superuser, &plan).await, 0, "{tables:#?}");
    }
    run(&owner, "SET tenancy.override_reason = 'test'; DROP SCHEMA shared_by_all CASCADE; DROP SCHEMA alone CASCADE")
        .await;
}

#[test]
fn what_a_tenant_runs_answers_as_if_nobody_else_were_there() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        run(&superuser, "SELECT tenancy.set_membership('cccccccc-0000-4000-8000-000000000003', 'ines', 'admin')").await;
        run(&superuser, &format!("GRANT CREATE ON DATABASE {} TO {OWNER}", database.name)).await;
        let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES);
        let mut runner = TestRunner::new(ProptestConfig::default());
        let generated = (tables(), 0..3usize, prop::collection::vec(statements(), STATEMENTS));
        for _ in 0..cases {
            let (tables, tenant, statements) = generated.new_tree(&mut runner).unwrap().current();
            try_schema(database, &tables, tenant, &statements).await;
        }
        assert_audit_is_whole(&superuser).await;
    });
}
