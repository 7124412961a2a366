//! What a dump, a replica or an upgrade has to keep: the protection as the catalogs have it, and as tenants meet it.

use tokio_postgres::{Client, Config};

use super::*;

/// Tables of every kind, beside those of every test.
const KINDS: &str = include_str!("kinds.sql");

/// The catalogs' entries, each as a text.
pub const ITEMS: &str = include_str!("protection.sql");

/// Tables that two databases with one history each cannot have alike: a restore is audited where settings are.
const AUDIT: [&str; 5] =
    ["tenancy.seal", "tenancy.block", "tenancy.tree_node", "tenancy.incarnation", "tenancy.coverage"];

/// The roots and tables that were protected, by name.
pub const PROTECTED: [&str; 10] = [
    r#"public."Finding""#,
    "public.cloud_account",
    "public.invoice",
    r#"public."Note""#,
    r#""Cost Data".cost"#,
    "public.resource",
    "public.price",
    "public.comment",
    r#"public."Step""#,
    "public.remediation",
];

/// How somebody who sees all tells the rows that a member of the organization may read.
fn readable(table: &str, organization: Uuid) -> String {
    let (number, text) = if organization == ACME { (1, "acme") } else { (2, "globex") };
    match table {
        r#"public."Finding""# => format!(r#""organizationId" = '{organization}'"#),
        "public.invoice" => format!("org_id = {number}"),
        r#"public."Note""# => format!("tenant_id = '{text}'"),
        r#"public."Step""# => {
            format!(r#"finding IN (SELECT id FROM "Finding" WHERE "organizationId" = '{organization}')"#)
        }
        "public.price" => format!("organization_id = '{organization}' OR organization_id IS NULL"),
        _ => format!("organization_id = '{organization}'"),
    }
}

/// What a database holds, to be compared with another.
#[derive(Debug, PartialEq)]
pub struct Holding {
    /// Catalog entries, of the extension and of the tables.
    pub items: Vec<String>,
    /// What the advisor finds.
    pub advice: Vec<String>,
    /// Rows of the tables but those of the audit.
    pub rows: Vec<String>,
    /// Rows of the audit.
    pub audit: Vec<String>,
}

/// Makes tables of every kind and history: sealed events and some that are not.
pub async fn fill_with_every_kind(superuser: &Client, application: &Client, issuer: &Issuer) {
    run(superuser, KINDS).await;
    for (subject, sealed) in [("alice", true), ("bob", false)] {
        as_tenant(application, &issuer.token(subject)).await;
        run(
            application,
            r#"UPDATE "Finding" SET title = title || '!'; UPDATE "Cost Data".cost SET cents = cents + 1; COMMIT"#,
        )
        .await;
        if sealed {
            seal(superuser).await;
        }
    }
}

/// Everything of a database as a superuser sees it.
pub async fn holding(superuser: &Client) -> Holding {
    run(superuser, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL search_path = ''").await;
    let items = column(superuser, ITEMS).await;
    let tables = column(
        superuser,
        r"SELECT c.oid::pg_catalog.regclass::text FROM pg_catalog.pg_class c
           WHERE c.relkind = 'r' AND c.relnamespace::pg_catalog.regnamespace::text !~ '^(pg_|information_schema)'
               ORDER BY 1",
    )
    .await;
    let (mut rows, mut audit) = (Vec::new(), Vec::new());
    // The index is made of the events, and made anew in a copy.
    for table in tables.iter().filter(|table| *table != "tenancy.row_index") {
        // To get a retired key is a change of its issuer, in a restore too.
        let row = match table.as_str() {
            "tenancy.issuer" => "pg_catalog.to_jsonb(t) - 'revision' - 'updated_at'",
            // CREATE EXTENSION makes its own rows in the copy.
            "tenancy.role" => "pg_catalog.to_jsonb(t) - CASE WHEN is_builtin THEN 'created_at' ELSE '' END",
            "tenancy.exception_kind" => "pg_catalog.to_jsonb(t) - CASE WHEN built_in THEN 'defined_at' ELSE '' END",
            _ => "t",
        };
        let sql = format!("SELECT '{}: ' || ({row})::text FROM ONLY {table} t ORDER BY 1", table.replace('\'', "''"));
        let of_table = column(superuser, &sql).await;
        // Partitions of events and of actors have names of their own.
        let of_audit = AUDIT.contains(&table.as_str()) || table.starts_with("tenancy.event_");
        if of_audit { audit.extend(of_table) } else { rows.extend(of_table) }
    }
    run(superuser, "COMMIT").await;
    // Roles belong to the whole server, so those of tests that run beside this one are among the findings.
    let advice = "SELECT concat_ws(' | ', severity, rule, object) FROM tenancy.advise()
                   WHERE object !~ 'test_tenancy_[0-9]' AND rule <> 'old_transaction'";
    let advice = column(superuser, advice).await;
    assert!(tables.len() > 20 && audit.len() > 10 && rows.len() > 50, "too little to compare: {tables:?}");
    Holding { items, advice, rows, audit }
}

/// Fails with what the copy lacks of the original or has beside it.
pub fn assert_same(original: &[String], copy: &[String]) {
    let without =
        |one: &[String], other: &[String]| one.iter().filter(|x| !other.contains(x)).cloned().collect::<Vec<_>>();
    let (lost, new) = (without(original, copy), without(copy, original));
    assert!(lost.is_empty() && new.is_empty(), "lost:\n{}\nnew:\n{}", lost.join("\n"), new.join("\n"));
    assert_eq!(original.len(), copy.len());
}

/// The copy has the same protection and rows, and every row of the audit; a restore may have added to that.
pub async fn assert_kept(original: &Holding, copy: &Client) {
    let copy = holding(copy).await;
    assert_same(&original.items, &copy.items);
    assert_same(&original.rows, &copy.rows);
    let new: Vec<&String> = copy.advice.iter().filter(|finding| !original.advice.contains(finding)).collect();
    assert!(new.is_empty(), "the advisor found no such thing before: {new:?}");
    let lost: Vec<&String> = original.audit.iter().filter(|row| !copy.audit.contains(row)).collect();
    assert!(lost.is_empty(), "events lost: {lost:?}");
}

/// Steps that `protect` would still have to do, of any table.
pub async fn undone(superuser: &Client) -> Vec<String> {
    let mut undone = Vec::new();
    for table in PROTECTED {
        let sql = format!("SELECT sql FROM tenancy.plan('{table}') WHERE state <> 'done' ORDER BY step");
        undone.extend(column(superuser, &sql).await);
    }
    undone
}

/// Tenants are apart in every table, whoever has no context is out, changes are audited, and the audit verifies.
/// `connection` leads to the database as a superuser.
pub async fn assert_protected(connection: &Config, issuer: &Issuer) {
    let superuser = connect(connection).await;
    assert_eq!(undone(&superuser).await, Vec::<String>::new(), "a part of the protection is lost");
    assert_audit_is_whole_after_sealing(&superuser).await;

    let client = connect(connection.clone().user(APPLICATION)).await;
    let mut tables: Vec<String> = PROTECTED.map(str::to_owned).to_vec();
    tables.extend(
        column(
            &superuser,
            r#"SELECT inhrelid::regclass FROM pg_inherits JOIN pg_class c ON c.oid =
        inhrelid WHERE relkind IN ('r', 'p') AND relnamespace <> 'tenancy'::regnamespace"#,
        )
        .await,
    );
    assert_eq!(tables.len(), 15);
    for table in &tables {
        for sql in [format!("SELECT FROM {table}"), format!("DELETE FROM {table}")] {
            assert_eq!(refused(&client, &sql).await.sqlstate, "28000", "{sql}");
        }
    }
    for (subject, organization) in [("alice", ACME), ("bob", GLOBEX)] {
        as_tenant(&client, &issuer.token(subject)).await;
        for table in PROTECTED {
            let (condition, all) = (readable(table, organization), format!("SELECT t FROM {table} t"));
            let own = column(&superuser, &format!("{all} WHERE {condition} ORDER BY t::text")).await;
            assert!(!own.is_empty(), "{subject} has nothing in {table}");
            assert_eq!(column(&client, &format!("{all} ORDER BY t::text")).await, own, "{subject} in {table}");
        }
        run(&client, "ROLLBACK").await;
    }

    // Alice writes her own rows and nobody else's; the keys do not lead out; every change is an event.
    as_tenant(&client, &issuer.token("alice")).await;
    for sql in [
        format!(r#"INSERT INTO "Finding" ("organizationId", title) VALUES ('{GLOBEX}', 'x')"#),
        "INSERT INTO invoice (org_id) VALUES (2)".to_owned(),
        format!(r#"INSERT INTO "Cost Data".cost_2025 VALUES (9, '{GLOBEX}', '2025-02-02', 1)"#),
        r#"INSERT INTO "Step" VALUES (9, 101)"#.to_owned(),
        "INSERT INTO price VALUES (9, NULL)".to_owned(),
        r#"TRUNCATE "Cost Data".cost"#.to_owned(),
    ] {
        assert_eq!(refused_within(&client, &sql).await.sqlstate, "42501", "{sql}");
    }
    let stolen = r#"INSERT INTO "Finding" (title, "accountId") VALUES ('x', 2); SET CONSTRAINTS ALL IMMEDIATE"#;
    assert_eq!(refused_within(&client, stolen).await.sqlstate, "23503", "{stolen}");
    assert_eq!(changed(&client, "UPDATE price SET cents = cents WHERE id IN (2, 4)").await, 0);
    assert_eq!(changed(&client, r#"DELETE FROM "Finding" WHERE id > 100"#).await, 0);
    let events = "SELECT count(*) FROM tenancy.event";
    let before = count(&superuser, events).await;
    assert_eq!(changed(&client, r#"UPDATE "Cost Data".cost SET cents = cents + 1"#).await, 2);
    assert_eq!(changed(&client, "INSERT INTO invoice (cents) VALUES (5)").await, 1);
    assert_eq!(changed(&client, "UPDATE remediation SET status = 'closed', approved_by = 'alice'").await, 1);
    run(&client, "COMMIT").await;
    assert_eq!(count(&superuser, events).await, before + 4);
    // A worker updates, but lacks the permission that the state needs; a reader may not even update.
    as_tenant(&client, &issuer.token("wanda")).await;
    assert_eq!(changed(&client, r#"UPDATE "Note" SET text = 'c'"#).await, 1);
    for (sql, action) in
        [("UPDATE remediation SET status = 'open'", "close"), ("UPDATE remediation SET approved_by = 'me'", "approve")]
    {
        let refusal = refused_within(&client, sql).await;
        assert!(refusal.sqlstate == "42501" && refusal.message.contains(action), "{refusal:?}");
    }
    run(&client, "COMMIT").await;
    as_tenant(&client, &issuer.token("victor")).await;
    assert_eq!(refused(&client, r#"UPDATE "Note" SET text = 'd'"#).await.sqlstate, "42501");
    run(&client, "ROLLBACK").await;
    assert_eq!(authenticate(&client, &issuer.token("sid")).await.unwrap_err().sqlstate, "28000", "suspended");
    assert_audit_is_whole_after_sealing(&superuser).await;
    assert_eq!(undone(&superuser).await, Vec::<String>::new());
}

/// What is not sealed yet is, and then all of it verifies.
async fn assert_audit_is_whole_after_sealing(superuser: &Client) {
    seal(superuser).await;
    assert_audit_is_whole(superuser).await;
}
