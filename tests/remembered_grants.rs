//! A grant of break-glass that a session remembers: no longer than anything that it depends on stays as it was.

use crate::action_types::act;
use crate::break_glass::{approved, elevate, end, prepare, state};
use crate::common::*;
use tokio_postgres::Client;

/// What is read of the tables `tenancy.*` in the transaction that is open, as names and numbers of scans.
const READ: &str = "SELECT relname || ' ' || coalesce(seq_scan, 0) + coalesce(idx_scan, 0) FROM pg_stat_xact_all_tables
                     WHERE schemaname = 'tenancy' ORDER BY 1";

/// The tables whose changes a trigger announces.
async fn announced(superuser: &Client, trigger: &str) -> Vec<String> {
    let sql = format!(
        "SELECT c.relname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
          WHERE t.tgfoid = 'tenancy.{trigger}'::regproc AND t.tgenabled = 'A' ORDER BY 1"
    );
    column(superuser, &sql).await
}

/// Elevates a transaction that only reads, and runs a statement in it. Returns the tables that were read for it after
/// the sign-in, without those that are read each time.
async fn read_for(client: &Client, token: &str, id: &str) -> Result<Vec<String>, Refusal> {
    as_tenant(client, token).await;
    let before = column(client, READ).await;
    let elevated = try_rows(client, &elevate(id)).await;
    let read = if elevated.is_ok() { column(client, READ).await } else { Vec::new() };
    run(client, "ROLLBACK").await;
    let tables = read.into_iter().filter(|table| !before.contains(table));
    let names = tables.filter_map(|table| table.split_once(' ').map(|(name, _)| name.to_owned()));
    // The guardrail is asked each time.
    elevated.map(|_| names.filter(|name| name != "guardrail").collect())
}

/// Elevates until nothing is read for it: an overflow of messages may empty the memory at any time.
async fn remember(client: &Client, token: &str, id: &str) {
    for _ in 0..100 {
        if read_for(client, token, id).await.unwrap().is_empty() {
            return;
        }
    }
    panic!("never remembered");
}

/// A superuser, two sessions, and a grant of nora that is active.
async fn begin(database: &Database) -> (Client, Client, Client, String) {
    let (superuser, client, admin) =
        (database.superuser().await, database.superuser().await, database.application().await);
    prepare(&superuser).await;
    let id = approved(database, &admin, "").await;
    as_tenant(&admin, &database.token("nora")).await;
    run(&admin, &elevate(&id)).await;
    run(&admin, "COMMIT").await;
    assert_eq!(state(&superuser, &id).await, "active");
    (superuser, client, admin, id)
}

#[test]
fn every_table_that_a_grant_was_read_from_announces_its_changes() {
    in_database(async |database| {
        let (superuser, client, _, id) = begin(database).await;
        let mut read = read_for(&client, &database.token("nora"), &id).await.unwrap();
        let identity = announced(&superuser, "announce_identity_change").await;
        read.retain(|table| !identity.contains(table));
        assert_eq!(read, ["break_glass_approval", "break_glass_grant", "break_glass_policy"]);
        assert_eq!(announced(&superuser, "announce_break_glass_change").await, read);
    });
}

#[test]
fn a_grant_is_read_once_and_anew_after_each_change_of_a_table() {
    in_database(async |database| {
        let (superuser, client, _, id) = begin(database).await;
        let nora = database.token("nora");
        run(&superuser, r#"SELECT tenancy.set_break_glass_policy('{"max_open": 3}', 'test')"#).await;
        let keep = |table: &str, how: &str| format!("ALTER TABLE tenancy.{table} {how} TRIGGER keep_controls");
        for table in announced(&superuser, "announce_break_glass_change").await {
            remember(&client, &nora, &id).await;
            let (off, on) = (keep(&table, "DISABLE"), keep(&table, "ENABLE ALWAYS"));
            run(&superuser, &off).await;
            remember(&client, &nora, &id).await;
            run(&superuser, &format!("UPDATE tenancy.{table} SET reason = reason")).await;
            let read = read_for(&client, &nora, &id).await.unwrap();
            assert!(read.contains(&table), "{table}: {read:?}");
            run(&superuser, &on).await;
        }
        // Nothing is remembered while a change might not be announced.
        for (off, on) in [
            ("DISABLE TRIGGER announce_break_glass_change", "ENABLE ALWAYS TRIGGER announce_break_glass_change"),
            ("ENABLE TRIGGER announce_break_glass_change", "ENABLE ALWAYS TRIGGER announce_break_glass_change"),
        ] {
            remember(&client, &nora, &id).await;
            run(&superuser, &format!("ALTER TABLE tenancy.break_glass_grant {off}")).await;
            for _ in 0..2 {
                assert!(!read_for(&client, &nora, &id).await.unwrap().is_empty(), "{off}");
            }
            run(&superuser, &format!("ALTER TABLE tenancy.break_glass_grant {on}")).await;
        }
    });
}

#[test]
fn a_remembered_grant_elevates_nobody_after_what_takes_it_back() {
    in_database(async |database| {
        let (superuser, client, admin, id) = begin(database).await;
        let (nora, alice) = (database.token("nora"), database.token("alice"));
        let policy = |settings: &str| format!("SELECT tenancy.set_break_glass_policy('{settings}', 'test')");
        let role = |name: &str| format!("SELECT tenancy.set_membership('{ACME}', 'nora', '{name}')");
        for (taken, given) in [
            (policy(r#"{"ceiling": ["invoice:read"]}"#), policy(r#"{"ceiling": null}"#)),
            (role("viewer"), role("oncall")),
            (
                "SELECT tenancy.revoke_permission('oncall', 'break_glass', 'use')".into(),
                "SELECT tenancy.grant_permission('oncall', 'break_glass', 'use')".into(),
            ),
        ] {
            remember(&client, &nora, &id).await;
            run(&superuser, &taken).await;
            let refusal = read_for(&client, &nora, &id).await.expect_err(&taken);
            assert_eq!(refusal.sqlstate, "42501", "{taken}: {}", refusal.message);
            run(&superuser, &given).await;
        }
        // Nor does it elevate somebody else on the same connection.
        remember(&client, &nora, &id).await;
        assert_eq!(read_for(&client, &alice, &id).await.unwrap_err().sqlstate, "42501");
        remember(&client, &nora, &id).await;
        act(&admin, &alice, &end(&id)).await.unwrap();
        assert_eq!(read_for(&client, &nora, &id).await.unwrap_err().sqlstate, "55000");
    });
}

#[test]
fn a_transaction_that_only_reads_ends_with_its_remembered_grant() {
    in_database(async |database| {
        let (superuser, client, admin, mut id) = begin(database).await;
        let (nora, alice) = (database.token("nora"), database.token("alice"));
        let member = |rest: &str| format!("SELECT tenancy.change_member('nora', {rest})");
        let organization =
            |status: &str| format!("UPDATE tenancy.organization SET status = '{status}' WHERE id = '{ACME}'");
        for (number, level) in ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"].into_iter().enumerate() {
            for (by_superuser, taken, given) in [
                (true, organization("suspended"), organization("active")),
                (false, end(&id), String::new()),
                (false, member("status => 'suspended'"), member("status => 'active'")),
            ] {
                if state(&superuser, &id).await != "active" {
                    id = approved(database, &admin, &format!(", ticket => '{number}{by_superuser}'")).await;
                    as_tenant(&admin, &nora).await;
                    run(&admin, &format!("{}; COMMIT", elevate(&id))).await;
                }
                let taken = if taken.contains("end_break_glass") { end(&id) } else { taken };
                remember(&client, &nora, &id).await;
                run(&client, &format!("BEGIN ISOLATION LEVEL {level}")).await;
                authenticate(&client, &nora).await.unwrap();
                run(&client, &format!("{}; DECLARE c CURSOR FOR SELECT 1; FETCH c", elevate(&id))).await;
                match by_superuser {
                    true => run(&superuser, &taken).await,
                    false => drop(act(&admin, &alice, &taken).await.unwrap()),
                }
                for sql in ["SELECT 1", "FETCH c"] {
                    let refusal = refused_within(&client, sql).await;
                    assert_eq!(refusal.sqlstate, "42501", "{level}, {taken}, {sql}: {}", refusal.message);
                }
                run(&client, "ROLLBACK").await;
                match by_superuser {
                    true => run(&superuser, &given).await,
                    false if !given.is_empty() => drop(act(&admin, &alice, &given).await.unwrap()),
                    false => {}
                }
            }
        }
    });
}

#[test]
fn a_remembered_grant_ends_with_the_membership() {
    in_database(async |database| {
        let (superuser, client, _, id) = begin(database).await;
        let nora = database.token("nora");
        let ends = "UPDATE tenancy.membership SET valid_until = clock_timestamp() + interval '2 seconds'
                     WHERE subject = 'nora'";
        run(&superuser, ends).await;
        remember(&client, &nora, &id).await;
        as_tenant(&client, &nora).await;
        run(&client, &elevate(&id)).await;
        let over = "SELECT clock_timestamp() > valid_until FROM tenancy.membership WHERE subject = 'nora'";
        eventually(&superuser, over).await;
        assert_eq!(refused_within(&client, "SELECT 1").await.sqlstate, "42501");
        run(&client, "ROLLBACK").await;
    });
}
