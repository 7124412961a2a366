//! What a version has stored stays readable: each folder of `tests/stored_history/` has a dump of that version's
//! history and what it told then. It is restored, upgraded to the newest version, verified and read.
//!
//! With `RECORD_HISTORY=yes`, the test writes the folder of the present version instead: once, before a release.

use crate::common::*;
use std::fs;
use std::path::{Path, PathBuf};

/// What is done, to be told again.
const HISTORY: &str = include_str!("stored_history/history.sql");

/// What the history tells: each event with its place, the rows rebuilt from it, the proofs.
const TOLD: [&str; 5] = [
    "SELECT row_to_json(t) FROM (
         SELECT organization, position, id, batch, leaf, occurred_at, method, subject, session_user_name, reason,
                operation, domain, table_schema, table_name, row_key, old_values, new_values, digests, commitments,
                data, result, encode(hash, 'hex') AS hash
           FROM tenancy.audit_trail WHERE block <= $1 ORDER BY organization, position) t",
    "SELECT row_to_json(t) FROM (
         SELECT organization, position, key ->> 'id' AS key, operation, old_values, new_values, row, undisclosed,
                complete
           FROM unnest(ARRAY['{\"id\": 1009}', '{\"id\": 12}', '{\"id\": 7}', '{\"id\": 21}']::jsonb[]) AS key,
                tenancy.row_history('public.reading',
                    key || '{\"organization_id\": \"aaaaaaaa-0000-4000-8000-000000000001\"}')
          ORDER BY organization, key, position) t",
    "SELECT row_to_json(t) FROM (
         SELECT organization, leaves, encode(tenancy.tree_root(organization, leaves), 'hex') AS root
           FROM (SELECT organization, max(leaf) AS leaves FROM tenancy.audit_trail WHERE block <= $1 GROUP BY 1) o
          ORDER BY organization) t",
    "SELECT row_to_json(t) FROM (
         SELECT c.incarnation, c.number, c.note, h.*
           FROM tenancy.checkpoint c,
                tenancy.head_proof('aaaaaaaa-0000-4000-8000-000000000001', c.number, c.incarnation) h
          WHERE c.block <= $1 ORDER BY c.block, c.number) t",
    "SELECT row_to_json(t) FROM (
         SELECT p.* FROM (SELECT id FROM tenancy.audit_trail
                           WHERE block <= $1 AND table_name = 'reading' ORDER BY organization, position LIMIT 20) e,
                tenancy.event_proof(e.id) p) t",
];

/// The newest block.
const NEWEST: &str = "SELECT max(number) FROM tenancy.block";

async fn told(superuser: &tokio_postgres::Client, block: i64) -> String {
    run(superuser, "SET TimeZone = 'UTC'; SET bytea_output = hex; SET extra_float_digits = 1").await;
    let mut lines = vec![format!("{{\"block\":{block}}}")];
    for sql in TOLD {
        lines.extend(column(superuser, &sql.replace("$1", &block.to_string())).await);
    }
    lines.push(String::new());
    lines.join("\n")
}

fn folders() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stored_history")
}

/// Writes the folder of this version.
fn record(folder: &Path) {
    in_database(async |database| {
        let superuser = database.superuser().await;
        let member = database.application().await;
        as_tenant(&member, &database.token("alice")).await;
        run(&member, r#"UPDATE "Finding" SET title = title || '!'; COMMIT"#).await;
        for statement in statements(HISTORY) {
            run(&superuser, statement).await;
        }
        let block = count(&superuser, NEWEST).await;
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("told.jsonl"), told(&superuser, block).await).unwrap();
        let dump = database.program("pg_dump").arg("--format=plain").output().unwrap();
        assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
        fs::write(folder.join("dump.sql"), dump.stdout).unwrap();
    });
}

/// The statements of a script, of which each is a command of its own: some may not share a transaction.
fn statements(script: &str) -> impl Iterator<Item = &str> {
    script.split(";\n").filter(|statement| !statement.trim().is_empty())
}

#[test]
fn what_each_version_has_stored_is_verified_and_read_by_this_one() {
    let present = folders().join(env!("CARGO_PKG_VERSION"));
    if std::env::var("RECORD_HISTORY").is_ok() {
        record(&present);
    }
    let mut versions: Vec<PathBuf> = fs::read_dir(folders()).unwrap().map(|entry| entry.unwrap().path()).collect();
    versions.retain(|path| path.is_dir());
    versions.sort();
    assert!(!versions.is_empty());
    for folder in versions {
        restored(&folder);
    }
}

/// Restores what a version has dumped, with its own tables, and upgrades them.
fn restored(folder: &Path) {
    let version = folder.file_name().unwrap().to_str().unwrap();
    in_database(async |database| {
        let superuser = database.superuser().await;
        let name = format!("{}_stored", database.name);
        run(&superuser, &format!("CREATE DATABASE {name} TEMPLATE template0")).await;
        let mut config = database.config();
        config.dbname(&name);
        let mut psql = database.program("psql");
        psql.env("PGDATABASE", &name);
        let dump = fs::read_to_string(folder.join("dump.sql")).unwrap();
        let newest = "CREATE EXTENSION IF NOT EXISTS pg_tenancy WITH SCHEMA tenancy;";
        assert!(dump.contains(newest));
        run_script(
            psql,
            dump.replace(newest, &format!("{} VERSION '{version}';", &newest[..newest.len() - 1])).as_bytes(),
        );
        let copy = connect(&config).await;
        run(&copy, "ALTER EXTENSION pg_tenancy UPDATE").await;

        let before = fs::read_to_string(folder.join("told.jsonl")).unwrap();
        let block = before.lines().next().and_then(|line| line.strip_prefix("{\"block\":")?.strip_suffix('}'));
        let block: i64 = block.unwrap().parse().unwrap();
        assert_eq!(findings(&copy).await, [], "of version {version}");
        let now = told(&copy, block).await;
        for (line, was) in now.lines().zip(before.lines()) {
            assert_eq!(line, was, "of version {version}");
        }
        assert_eq!(now.len(), before.len(), "of version {version}");
        // Its chains go on.
        run(
            &copy,
            r#"INSERT INTO public.cloud_account (organization_id, external_id)
             VALUES ('aaaaaaaa-0000-4000-8000-000000000001', 'after the upgrade')"#,
        )
        .await;
        assert_audit_is_whole(&copy).await;
        drop(copy);
        run(&superuser, &format!("DROP DATABASE {name} WITH (FORCE)")).await;
    });
}
