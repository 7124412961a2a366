//! Random schemas, random rows, random statements: under a tenant's identity each statement answers what the same
//! statement answers on copies of the tables that hold that tenant's rows alone, and leaves the others' rows as they
//! were.
//!
//! The copies are the oracle: no other tenants, so nothing to leak and nothing to forget. Policies that a table had
//! before it was protected stand in the copies too, because they go on to narrow what is seen.

use crate::common::*;
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
    /// The command of a permissive policy that was there before.
    before: Option<&'static str>,
    /// Another column that could be meant.
    second: Option<&'static str>,
    /// What a change of the referenced row does, ON UPDATE and ON DELETE: of the table of tenants, and of a table
    /// outside.
    tenant: Option<Actions>,
    owner: Option<Actions>,
    /// A table without an organization: a row is of whom the row of the table before is that it points at.
    through: bool,
}

type Actions = (&'static str, &'static str);

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

/// The table of tenants and a table that is not protected.
const TENANT: &str = "Tenant";
const PERSON: &str = "person";

/// What stands in the second column that could be meant.
const OTHER_ID: &str = "dddddddd-0000-4000-8000-000000000004";

/// People, by id: somebody whom rows of all tenants name, two for each tenant, and two for rows of nobody.
const PEOPLE: [i32; 9] = [1, 10, 11, 20, 21, 30, 31, 40, 41];

fn actions() -> impl Strategy<Value = Option<Actions>> {
    let action = || prop::sample::select(vec!["NO ACTION", "RESTRICT", "CASCADE", "SET NULL", "SET DEFAULT"]);
    prop::option::of((action(), action()))
}

fn tables() -> impl Strategy<Value = Vec<Table>> {
    let table = |name: &'static str| {
        let outside = (
            prop::option::weighted(0.3, prop::sample::select(vec!["ALL", "SELECT", "INSERT", "UPDATE", "DELETE"])),
            prop::option::weighted(0.2, prop::sample::select(vec!["organization_id", "tenant_id"])),
            actions(),
            actions(),
        );
        (
            prop::sample::select(vec!["organizationId", "organization_id", "org_id", "tenant_id"]),
            prop::sample::select(vec!["uuid", "text", "varchar(40)", "integer", "bigint"]),
            prop::sample::select(vec![Nulls::Refused, Nulls::Refused, Nulls::Shared, Nulls::Nobody]),
            prop::sample::select(vec![Shape::Plain, Shape::Plain, Shape::Partitioned, Shape::Inherited]),
            prop::sample::select(vec![None, Some("CASCADE"), Some("SET NULL"), Some("NO ACTION")]),
            any::<bool>(),
            prop::sample::select(vec![None, Some("amount"), Some("label"), Some("lower(label)")]),
            prop::array::uniform4(0..6usize),
            outside,
        )
            .prop_map(move |(column, data_type, nulls, shape, on_delete, view, index, rows, outside)| {
                let (before, second, tenant, owner) = outside;
                let second = second.filter(|second| *second != column);
                Table {
                    name,
                    column,
                    data_type,
                    nulls,
                    shape,
                    on_delete,
                    view,
                    index,
                    rows,
                    before,
                    second,
                    tenant,
                    owner,
                    through: false,
                }
            })
    };
    (table("account"), table("Cloud Item"), table("select"), chain()).prop_map(|(first, second, third, chain)| {
        // Nothing is protected through a table with partitions, and rows in a child by inheritance cannot be pointed
        // at. Whoever reads a row needs to read the one that it hangs on, so a policy there narrows this one too.
        let chain = if third.shape == Shape::Plain && third.before.is_none() { chain } else { Vec::new() };
        [vec![first, second, third], chain].concat()
    })
}

/// Up to three tables, each of which hangs on the one before, the first on the last of the others.
fn chain() -> impl Strategy<Value = Vec<Table>> {
    let link = (prop::sample::select(vec!["CASCADE", "NO ACTION"]), prop::array::uniform3(0..6usize), actions());
    prop::collection::vec(link, 0..4).prop_map(|links| {
        let names = ["version", "Page", "line"];
        let table = |(name, (on_delete, rows, owner)): (&'static str, (&'static str, [usize; 3], _))| Table {
            name,
            column: "parent",
            data_type: "integer",
            nulls: Nulls::Refused,
            shape: Shape::Plain,
            on_delete: Some(on_delete),
            view: false,
            index: None,
            rows: [rows[0], rows[1], rows[2], 0],
            before: None,
            second: None,
            tenant: None,
            owner,
            through: true,
        };
        names.into_iter().zip(links).map(table).collect()
    })
}

/// The tables with their rows below a schema; `alone` is the tenant whose rows it is to hold, else all.
fn create(tables: &[Table], schema: &str, alone: Option<usize>) -> String {
    let mut sql = format!("CREATE SCHEMA {schema}; SET LOCAL search_path = {schema};");
    outside(&mut sql, tables, alone);
    for (n, table) in tables.iter().enumerate() {
        let Table { name, column, data_type, nulls, shape, rows, .. } = table;
        let not_null = if *nulls == Nulls::Refused { " NOT NULL" } else { "" };
        let default = alone.map_or_else(String::new, |tenant| format!(" DEFAULT {}", value_of(data_type, tenant)));
        let reference = reference_of(tables, n).map_or_else(String::new, |(parent, action)| {
            format!(", FOREIGN KEY (parent) REFERENCES \"{parent}\" (id) ON DELETE {action}")
        });
        let tenant = tenant_of(tables, n).map_or_else(String::new, |(on_update, on_delete)| {
            format!(" REFERENCES \"{TENANT}\" ON UPDATE {on_update} ON DELETE {on_delete}")
        });
        let owner = table.owner.map_or_else(String::new, |(on_update, on_delete)| {
            format!(" REFERENCES {PERSON} ON UPDATE {on_update} ON DELETE {on_delete}")
        });
        let second = table.second.map_or_else(String::new, |second| format!(", {second} uuid DEFAULT '{OTHER_ID}'"));
        let organization = if table.through {
            String::new()
        } else {
            format!("\"{column}\" {data_type}{not_null}{default}{tenant}, ")
        };
        let by = if *shape == Shape::Partitioned { " PARTITION BY RANGE (id)" } else { "" };
        write!(
            sql,
            "CREATE TABLE \"{name}\" (id integer PRIMARY KEY, {organization}label text, amount integer,
                 parent integer, owner integer{owner}{second}{reference}){by};"
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
                let organization = match of_nobody {
                    _ if table.through => String::new(),
                    true => "NULL, ".into(),
                    false => value_of(data_type, owner) + ", ",
                };
                // Each tenant's rows point at its own parents.
                let has_parent = reference_of(tables, n).is_some() && row < rows_of(tables, n - 1, owner);
                if table.through && !has_parent {
                    continue;
                }
                let parent = if has_parent { id.to_string() } else { "NULL".into() };
                let child = if *shape == Shape::Inherited && row % 2 == 1 { " odd" } else { "" };
                let person = if row % 3 == 0 { 1 } else { 10 * (owner + 1) + row % 2 };
                write!(
                    sql,
                    "INSERT INTO \"{name}{child}\" VALUES ({id}, {organization}'Label {}', {}, {parent}, {person});",
                    row % 3,
                    (row * 7 + owner) % 5,
                )
                .unwrap();
            }
        }
        if table.view {
            write!(
                sql,
                "CREATE VIEW \"{name} view\" WITH (security_invoker = true) AS SELECT * FROM \"{name}\" WHERE \
                amount > 0;"
            )
            .unwrap();
        }
    }
    for table in tables {
        policies_before(&mut sql, table, alone.is_some());
    }
    write!(
        sql,
        "GRANT USAGE ON SCHEMA {schema} TO {APPLICATION}; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES \
        IN SCHEMA {schema} TO {APPLICATION};"
    )
    .unwrap();
    sql
}

/// The table of tenants, where a table names it, and the table of people, whom rows of all tenants name.
fn outside(sql: &mut String, tables: &[Table], alone: Option<usize>) {
    if let Some(data_type) = type_of_tenants(tables) {
        write!(sql, "CREATE TABLE \"{TENANT}\" (id {data_type} PRIMARY KEY, label text);").unwrap();
        for tenant in (0..3).filter(|tenant| alone.is_none_or(|alone| alone == *tenant)) {
            let id = value_of(data_type, tenant);
            write!(sql, "INSERT INTO \"{TENANT}\" VALUES ({id}, 'Label {tenant}');").unwrap();
        }
    }
    write!(sql, "CREATE TABLE {PERSON} (id integer PRIMARY KEY, label text);").unwrap();
    for person in PEOPLE {
        write!(sql, "INSERT INTO {PERSON} VALUES ({person}, 'somebody');").unwrap();
    }
}

/// One table of tenants has keys of one type: that of the first table that names it.
fn type_of_tenants(tables: &[Table]) -> Option<&'static str> {
    tables.iter().find(|table| table.tenant.is_some()).map(|table| table.data_type)
}

/// What the reference of a table to the table of tenants does, if it has one.
fn tenant_of(tables: &[Table], n: usize) -> Option<Actions> {
    tables[n].tenant.filter(|_| type_of_tenants(tables) == Some(tables[n].data_type))
}

/// A policy that shows a part of the rows, as an application has it before it meets `protect`. The copy lets through
/// by a policy what the protected table lets through for the other commands.
fn policies_before(sql: &mut String, table: &Table, copy: bool) {
    let Some(command) = table.before else { return };
    let policy = |sql: &mut String, name: &str, command: &str, condition: &str| {
        let using = if command == "INSERT" { String::new() } else { format!(" USING ({condition})") };
        let check =
            if ["SELECT", "DELETE"].contains(&command) { String::new() } else { format!(" WITH CHECK ({condition})") };
        write!(sql, "CREATE POLICY {name} ON \"{}\" FOR {command}{using}{check};", table.name).unwrap();
    };
    write!(sql, "ALTER TABLE \"{}\" ENABLE ROW LEVEL SECURITY;", table.name).unwrap();
    policy(sql, "a_part", command, "amount > 0 OR amount IS NULL");
    for other in ["SELECT", "INSERT", "UPDATE", "DELETE"] {
        if copy && command != "ALL" && command != other {
            policy(sql, &format!("all_{other}"), other, "true");
        }
    }
}

/// The table that the one at `n` points at. From a table whose organization may be NULL a foreign key stays plain, and
/// tells that an id exists somewhere (docs/isolation.md), so there is none here.
fn reference_of(tables: &[Table], n: usize) -> Option<(&'static str, &'static str)> {
    let parent = tables.get(n.checked_sub(1)?)?;
    let fits = tables[n].through
        || tables[n].data_type == parent.data_type && tables[n].nulls == Nulls::Refused && parent.shape == Shape::Plain;
    Some((parent.name, tables[n].on_delete?)).filter(|_| fits)
}

/// How many rows of a tenant a table has: one that hangs on another has none without a parent.
fn rows_of(tables: &[Table], n: usize, owner: usize) -> usize {
    let own = tables[n].rows[owner];
    if tables[n].through { own.min(rows_of(tables, n - 1, owner)) } else { own }
}

/// What is true for rows of the tenant alone, of a table aliased `t`.
fn belongs(tables: &[Table], n: usize, schema: &str, tenant: usize) -> String {
    let Table { column, data_type, through, .. } = &tables[n];
    if !through {
        return format!("t.\"{column}\" = {}", value_of(data_type, tenant));
    }
    let parent = &tables[n - 1].name;
    format!("t.{column} IN (SELECT t.id FROM {schema}.\"{parent}\" t WHERE {})", belongs(tables, n - 1, schema, tenant))
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
/// write: true under the policies, which see to it, and "is not NULL" for the oracle. MERGE has it in both, because
/// it raises for a row that it may read and not write.
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
        "WITH RECURSIVE r AS (SELECT t.id, t.parent FROM T t WHERE CONDITION UNION SELECT u.id, u.parent FROM U u \
            JOIN r ON r.parent = u.id) SELECT * FROM r",
        "WITH m AS MATERIALIZED (SELECT * FROM T t WHERE CONDITION) SELECT count(*) FROM m, U",
        "SELECT id, rank() OVER (ORDER BY amount DESC, id), lag(id) OVER (ORDER BY id) FROM T t WHERE CONDITION",
        "SELECT id FROM T UNION ALL SELECT id FROM U EXCEPT SELECT t.id FROM T t WHERE CONDITION",
        "SELECT t.tableoid <> 0, t.id FROM T t WHERE CONDITION ORDER BY t.id LIMIT 3 OFFSET 1",
        "SELECT * FROM VIEW t WHERE CONDITION",
        "SELECT l.id FROM T t CROSS JOIN LATERAL (SELECT u.id FROM U u WHERE u.id > t.id ORDER BY u.id LIMIT 1) l \
            WHERE CONDITION",
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
        "INSERT INTO T (id, label, amount) SELECT 5000 + t.id, t.label, t.amount FROM T t WHERE CONDITION RETURNING \
            id, ORG",
        "INSERT INTO T (id, label) VALUES (7000, 'x') RETURNING *",
        "INSERT INTO T (id, label) VALUES (7000, 'y') ON CONFLICT (id) DO NOTHING RETURNING *",
        "MERGE INTO T t USING (SELECT u.id, u.amount FROM U u) s ON t.id = s.id AND (CONDITION) AND t.ORG IS NOT NULL
             WHEN MATCHED AND s.amount > 2 THEN DELETE WHEN MATCHED THEN UPDATE SET label = 'merged' WHEN NOT MATCHED \
             AND s.amount < 0 THEN DO NOTHING",
    ]);
    let reach = (
        prop::sample::select(vec![
            "DELETE FROM PERSON WHERE id = PEOPLE",
            "UPDATE PERSON SET id = id + 5 WHERE id = PEOPLE",
            "DELETE FROM TENANT RETURNING label",
            "DELETE FROM TENANT WHERE id::text = 'SOMEBODY' RETURNING label",
            "UPDATE TENANT SET id = 'SOMEBODY'",
            "UPDATE TENANT SET id = 'SOMEBODY' WHERE id::text <> 'SOMEBODY'",
            "UPDATE TENANT SET label = 'new' RETURNING id, label",
            "INSERT INTO TENANT VALUES ('SOMEBODY', 'mine')",
        ]),
        prop::sample::select(PEOPLE.to_vec()),
    )
        .prop_map(|(statement, person)| statement.replace("PEOPLE", &person.to_string()));
    let others = prop::sample::select(vec!["SELECT id, label FROM TENANT", "SELECT count(*) FROM TENANT, T t, PERSON"]);
    let own = |strategy: prop::sample::Select<&'static str>| strategy.prop_map(str::to_owned);
    let statement = prop_oneof![6 => own(read), 4 => own(write), 1 => own(others), 2 => reach];
    (statement, condition, 0..6usize, 0..6usize)
        .prop_map(|(statement, condition, t, u)| format!("{t}{u}{}", statement.replace("CONDITION", &condition)))
}

/// True for a statement that reaches rows by the tables that they name: one that is refused says nothing of the
/// copy, where the statement reaches less.
fn reaches_others(statement: &str, tables: &[Table]) -> bool {
    // A row that hangs on nothing is refused under the policies, and nobody's in the copy.
    let hangs = tables[usize::from(statement.as_bytes()[0] - b'0') % tables.len()].through;
    hangs && statement[2..].starts_with("INSERT")
        || !statement[2..].starts_with("SELECT") && ["TENANT", "PERSON"].iter().any(|name| statement.contains(name))
}

/// The statement for a schema, as that tenant; `SOMEBODY` is another one.
fn spell(statement: &str, tables: &[Table], tenant: usize, alone: bool) -> String {
    let index = |place: usize| usize::from(statement.as_bytes()[place] - b'0') % tables.len();
    let (t, u) = (&tables[index(0)], &tables[index(1)]);
    let view = if t.view { format!("\"{} view\"", t.name) } else { format!("\"{}\"", t.name) };
    let own = if alone { format!("t.\"{}\" IS NOT NULL", t.column) } else { "true".into() };
    let other = (tenant + 1) % TENANTS.len();
    let somebody =
        type_of_tenants(tables).map_or_else(String::new, |data_type| value_of(data_type, other).replace('\'', ""));
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
                "TENANT" => format!("\"{TENANT}\""),
                "PERSON" => PERSON.to_owned(),
                "SOMEBODY" => somebody.clone(),
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
    for (n, Table { name, .. }) in tables.iter().enumerate() {
        let comparison = if own { "TRUE" } else { "NOT TRUE" };
        let belongs = belongs(tables, n, schema, tenant);
        let sql = format!(
            "SELECT to_jsonb(t)::text FROM {schema}.\"{name}\" t WHERE ({belongs}) IS {comparison} ORDER BY id"
        );
        all.extend(column_of(superuser, name, &sql).await);
    }
    if let Some(data_type) = type_of_tenants(tables) {
        let comparison = if own { "=" } else { "<>" };
        let sql = format!(
            "SELECT t::text FROM {schema}.\"{TENANT}\" t WHERE id {comparison} {} ORDER BY id",
            value_of(data_type, tenant)
        );
        all.extend(column_of(superuser, TENANT, &sql).await);
    }
    all
}

async fn column_of(superuser: &Client, name: &str, sql: &str) -> Vec<String> {
    crate::common::column(superuser, sql).await.into_iter().map(|row| format!("{name}: {row}")).collect()
}

async fn try_schema(database: &Database, tables: &[Table], tenant: usize, statements: &[String]) {
    let superuser = database.superuser().await;
    let owner = database.owner().await;
    let mut protect = String::new();
    if type_of_tenants(tables).is_some() {
        write!(protect, "SELECT tenancy.protect('shared_by_all.\"{TENANT}\"', organization_column => 'id');").unwrap();
    }
    for Table { name, column, nulls, second, through, .. } in tables {
        let nulls = match nulls {
            Nulls::Refused => "",
            Nulls::Shared => ", null_rows => 'shared'",
            Nulls::Nobody => ", null_rows => 'nobody'",
        };
        let column = match second {
            _ if *through => ", through => 'parent'".into(),
            Some(_) => format!(", organization_column => '{column}'"),
            None => String::new(),
        };
        write!(protect, "SELECT tenancy.protect('shared_by_all.\"{name}\"'{column}{nulls});").unwrap();
    }
    let all = create(tables, "shared_by_all", None);
    run(&owner, &format!("BEGIN; SET LOCAL client_min_messages = error; {all}")).await;
    for Table { name, .. } in tables.iter().filter(|table| table.second.is_some()) {
        // Two columns could be meant, and none is chosen.
        let refusal = refused_within(&owner, &format!("SELECT tenancy.protect('shared_by_all.\"{name}\"')")).await;
        assert_eq!(refusal.sqlstate, "42702", "{refusal:?}");
    }
    run(&owner, &format!("{protect} COMMIT")).await;
    run(&owner, &format!("BEGIN; {} COMMIT", create(tables, "alone", Some(tenant)))).await;
    let others = contents(&superuser, tables, "shared_by_all", tenant, false).await;

    let client = database.application().await;
    as_tenant(&client, &database.token(TENANTS[tenant].3)).await;
    for statement in statements {
        let under_policies = answer(&client, "shared_by_all", &spell(statement, tables, tenant, false)).await;
        if reaches_others(statement, tables) && under_policies.is_err() {
            continue;
        }
        let by_oracle = answer(&client, "alone", &spell(statement, tables, tenant, true)).await;
        assert_eq!(under_policies, by_oracle, "{}\nof {tables:#?}", spell(statement, tables, tenant, false));
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
