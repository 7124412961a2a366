//! ALTER EXTENSION UPDATE from each released version: what the extension consists of is as CREATE EXTENSION makes it,
//! and what the database holds is as it was. Before the update, the new library serves the old objects.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::action_types::act;
use crate::common::protection::*;
use crate::common::*;
use crate::secrets::{put, reveal, with_a_key};
use tokio_postgres::Client;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// All that the extension consists of.
const CATALOG: &str = include_str!("upgrade/catalog.sql");

/// Rows that CREATE EXTENSION makes, but for the time at which it did.
const ROWS: [&str; 4] = [
    "SELECT to_jsonb(t) FROM tenancy.secret_kind t ORDER BY 1",
    "SELECT to_jsonb(t) FROM tenancy.role_permission t
      WHERE (organization, role) IN (SELECT organization, name FROM tenancy.role WHERE is_builtin) ORDER BY 1",
    "SELECT to_jsonb(t) - 'created_at' FROM tenancy.role t WHERE is_builtin ORDER BY 1",
    "SELECT to_jsonb(t) - 'defined_at' FROM tenancy.exception_kind t WHERE built_in ORDER BY 1",
];

/// The versions whose scripts are kept, which are those that were released.
fn released() -> BTreeSet<String> {
    let version = |name: &str| name.strip_prefix("pg_tenancy--")?.strip_suffix(".sql.gz").map(str::to_owned);
    let files = fs::read_dir(Path::new(ROOT).join("sql/released")).unwrap();
    files.filter_map(|file| version(file.unwrap().file_name().to_str()?)).collect()
}

/// The versions that the changelog has a section of.
fn in_changelog() -> BTreeSet<String> {
    let text = fs::read_to_string(Path::new(ROOT).join("CHANGELOG.md")).unwrap();
    let version = |line: &str| line.strip_prefix("## [")?.split_once(']').map(|(version, _)| version.to_owned());
    text.lines().filter_map(version).filter(|version| version != "Unreleased").collect()
}

/// Members and a superuser do what leaves rows in many of the extension's tables.
async fn fill_with_controls(superuser: &Client, client: &Client, issuer: &Issuer) {
    with_a_key(superuser).await;
    let set_up = format!(
        "SELECT tenancy.set_membership('{ACME}', 'dora', 'admin');
         SELECT tenancy.set_guardrail('new_tables', 'warn', 'for a test');
         SELECT tenancy.exclude('public.bucket', 'for a test');
         SELECT tenancy.set_sensitive('public.invoice', true, 'for a test');
         SELECT tenancy.create_role('clerk', 'of Acme alone');
         SELECT tenancy.checkpoint();"
    );
    run(superuser, &set_up).await;
    let (alice, dora) = (issuer.token("alice"), issuer.token("dora"));
    as_tenant(client, &alice).await;
    put(client, "mail", "a value").await.unwrap();
    assert_eq!(reveal(client, "mail").await.as_deref(), Ok("a value"));
    run(client, "COMMIT").await;
    let ask = "SELECT tenancy.add_exception('finding', 'f', 'a reason that says enough',
                                            date_trunc('day', now()) + interval '30 days')";
    let exception = act(client, &alice, ask).await.unwrap();
    act(client, &dora, &format!("SELECT tenancy.decide_exception('{exception}', true, 'test')")).await.unwrap();
    let ask = "SELECT tenancy.request_break_glass('something is broken', permissions => '{secret:read}')";
    act(client, &alice, ask).await.unwrap();
    let open = "SELECT tenancy.open_review('memberships', 'who may what', now() + interval '9 days')";
    act(client, &alice, open).await.unwrap();
}

/// What members do each day, before the update and after it.
async fn use_it(superuser: &Client, client: &Client, issuer: &Issuer) {
    for (subject, findings) in [("alice", 5), ("bob", 7)] {
        as_tenant(client, &issuer.token(subject)).await;
        assert_eq!(count(client, r#"SELECT count(*) FROM "Finding""#).await, findings, "{subject}");
        run(client, r#"UPDATE "Finding" SET title = title || '.'; COMMIT"#).await;
    }
    assert_eq!(act(client, &issuer.token("alice"), "SELECT tenancy.is_excepted('finding', 'f')").await.unwrap(), "t");
    as_tenant(client, &issuer.token("alice")).await;
    assert_eq!(reveal(client, "mail").await.as_deref(), Ok("a value"));
    run(client, "COMMIT").await;
    let refusal = refused(client, r#"SELECT FROM "Finding""#).await;
    assert_eq!(refusal.sqlstate, "28000");
    seal(superuser).await;
    assert_audit_is_whole(superuser).await;
}

#[test]
fn an_upgraded_database_is_like_a_fresh_one_and_keeps_what_it_holds() {
    in_database(async |fresh| {
        let superuser = fresh.superuser().await;
        run(&superuser, "SET search_path = pg_catalog").await;
        for version in released() {
            let database = fresh.of_version(&version).await;
            let (there, client) = (database.superuser().await, database.application().await);
            fill_with_every_kind(&there, &client, &database.issuer).await;
            fill_with_controls(&there, &client, &database.issuer).await;
            use_it(&there, &client, &database.issuer).await;
            let before = holding(&there).await;

            run(&there, "ALTER EXTENSION pg_tenancy UPDATE").await;
            let updated = "SELECT extversion FROM pg_extension WHERE extname = 'pg_tenancy'";
            assert_eq!(value(&there, updated).await, env!("CARGO_PKG_VERSION"));
            let after = holding(&there).await;
            for (before, after) in [(&before.rows, &after.rows), (&before.audit, &after.audit)] {
                let lost: Vec<&String> = before.iter().filter(|row| !after.contains(row)).collect();
                assert!(lost.is_empty(), "rows of {version} that the update lost: {lost:#?}");
            }
            let event = "SELECT count(*) FROM tenancy.event WHERE operation = 'alter_extension'";
            assert_eq!(count(&there, event).await, 1);
            // A session goes on through the update.
            use_it(&there, &client, &database.issuer).await;
            assert_protected(&database.config(), &database.issuer).await;
            for sql in ROWS {
                let (wanted, found) = (column(&superuser, sql).await, column(&there, sql).await);
                let missing: Vec<&String> = wanted.iter().filter(|row| !found.contains(row)).collect();
                assert!(
                    !wanted.is_empty() && missing.is_empty(),
                    "rows that the update from {version} lacks: {missing:#?}"
                );
            }
            // What fill_with_every_kind has granted and revoked is kept, and is not the extension's.
            let own =
                "REVOKE EXECUTE ON FUNCTION tenancy.authenticate_session(text, uuid, text) FROM test_tenancy_owner;
                       GRANT EXECUTE ON FUNCTION tenancy.sign_out() TO tenancy_application";
            let granted = "SELECT has_function_privilege('test_tenancy_owner',
                                                         'tenancy.authenticate_session(text, uuid, text)', 'EXECUTE')
                              AND NOT has_function_privilege('tenancy_application', 'tenancy.sign_out()', 'EXECUTE')";
            assert_eq!(value(&there, granted).await, "t");
            run(&there, own).await;
            run(&there, "SET search_path = pg_catalog").await;
            assert_same(&column(&superuser, CATALOG).await, &column(&there, CATALOG).await);
            drop((there, client));
            run(&superuser, &format!("DROP DATABASE {} WITH (FORCE)", database.name)).await;
        }
    });
}

#[test]
fn the_catalogs_that_are_compared_tell_every_kind_of_change() {
    in_database(async |database| {
        let superuser = database.superuser().await;
        run(&superuser, "SET search_path = pg_catalog").await;
        let before = column(&superuser, CATALOG).await;
        for change in [
            "ALTER TABLE tenancy.alert ADD extra int",
            "ALTER TABLE tenancy.alert ALTER detail SET STORAGE external",
            "ALTER TABLE tenancy.alert ADD CONSTRAINT extra CHECK (true) NOT VALID",
            "ALTER TABLE tenancy.alert DISABLE ROW LEVEL SECURITY",
            "ALTER EXTENSION pg_tenancy DROP TABLE tenancy.notice",
            "CREATE INDEX extra ON tenancy.alert (kind)",
            "CREATE POLICY extra ON tenancy.alert USING (false)",
            "CREATE TRIGGER extra BEFORE INSERT ON tenancy.alert EXECUTE FUNCTION suppress_redundant_updates_trigger()",
            "COMMENT ON COLUMN tenancy.alert.kind IS 'extra'",
            "COMMENT ON FUNCTION tenancy.org_id() IS 'extra'",
            "COMMENT ON SCHEMA tenancy IS NULL",
            "GRANT SELECT (kind) ON tenancy.alert TO tenancy_custodian",
            "GRANT EXECUTE ON FUNCTION tenancy.sign_out() TO PUBLIC",
            "GRANT CREATE ON SCHEMA tenancy TO tenancy_custodian",
            "ALTER FUNCTION tenancy.org_id() COST 7",
            "ALTER FUNCTION tenancy.checkpoint() RESET search_path",
            "DO $$ BEGIN EXECUTE 'CREATE OR REPLACE VIEW tenancy.posture AS '
                || replace(pg_get_viewdef('tenancy.posture'::regclass), ';', ' LIMIT 9'); END $$",
            "ALTER EVENT TRIGGER tenancy_audit_ddl DISABLE",
            "UPDATE pg_extension SET extcondition = NULL, extconfig = NULL WHERE extname = 'pg_tenancy'",
        ] {
            run(&superuser, "BEGIN; SET LOCAL tenancy.override_reason = 'test'").await;
            run(&superuser, change).await;
            assert!(column(&superuser, CATALOG).await != before, "nobody sees: {change}");
            run(&superuser, "ROLLBACK").await;
        }
    });
}

#[test]
fn each_version_of_the_changelog_has_its_script_and_history() {
    let (mut versions, released) = (in_changelog(), released());
    assert!(!versions.is_empty());
    let has_history = |version: &&String| Path::new(ROOT).join("tests/stored_history").join(version).exists();
    let without: Vec<&String> = versions.iter().filter(|version| !has_history(version)).collect();
    assert!(without.is_empty(), "no history is stored of {without:?}");
    // The script of the version that is being released is made of sql/ until the next one begins.
    versions.remove(env!("CARGO_PKG_VERSION"));
    assert_eq!(released, versions, "sql/released and CHANGELOG.md");
}
